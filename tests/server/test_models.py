"""GET /v1/models and /v1/models/{id}."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jupyter_ccapi.demo import OfflineModel

Call = Callable[..., Awaitable[Any]]


@pytest.fixture
def ccapi_config() -> dict[str, Any]:
    """A name of the administrator's own."""
    return {"model_map": {"gpt-4o": "sonnet"}}


async def test_the_list_has_aliases_what_the_cli_reports_and_what_is_mapped(
    call: Call, model: OfflineModel
) -> None:
    listed = (await call("v1", "models")).body
    names = {entry["id"]: entry for entry in listed["data"]}
    assert listed["object"] == "list"
    assert {"opus", "sonnet", "haiku", "gpt-4o"} <= set(names)
    full = names["sonnet"]["ccapi"]["answered_by"]
    assert full.startswith("claude-sonnet-")
    assert full in names
    assert names["gpt-4o"]["ccapi"] == {"answered_by": "sonnet"}
    assert all(entry["object"] == "model" and "created" in entry for entry in listed["data"])
    assert model.requests == []


@pytest.mark.parametrize(
    "name",
    [
        "opus",
        "gpt-4o",
        "sonnet-4",
        "claude-3.5-sonnet",
        "claude-sonnet-4-20250514",
        "us.anthropic.claude-sonnet-4-20250514-v1:0",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/claude",
        "claude-sonnet-4@20250514",
    ],
)
async def test_a_model_that_is_served_can_be_looked_up(name: str, call: Call) -> None:
    answer = await call("v1", "models", name)
    assert (answer.status, answer.body["id"]) == (200, name)


async def test_a_model_that_is_not_served_is_a_404(call: Call) -> None:
    answer = await call("v1", "models", "gpt-9")
    assert (answer.status, answer.body["error"]["code"]) == (404, "model_not_found")


async def test_a_name_that_only_the_cli_knows_is_asked_for_before_it_is_refused(
    call: Call, model: OfflineModel
) -> None:
    """The first request of all may name it; nobody has asked the CLI by then."""
    answer = await call(
        "v1",
        "chat",
        "completions",
        json={"model": "fable", "messages": [{"role": "user", "content": "Hello"}]},
    )
    assert answer.status == 200
    assert model.main_requests[-1].body["model"].startswith("claude-fable")
