"""GET /stats, /health and /metrics."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from jupyter_ccapi.server.app import CCApiApp
from tests.server.waiting import eventually

Call = Callable[..., Awaitable[Any]]
HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


async def test_the_figures_are_those_of_the_requests(call: Call, model: OfflineModel) -> None:
    before = (await call("stats")).body
    assert before["requests"] == {"total": 0}
    assert before["latency_ms"]["first_token"] == {"p50": None, "p95": None}
    model.script(
        Reply("Hello.", input_tokens=10, output_tokens=3, cache_read_input_tokens=90),
        *[Reply(error=ApiError(529))] * 3,
    )
    await call("v1", "chat", "completions", json=HELLO)
    await call("v1", "chat", "completions", json=HELLO)
    await call("v1", "chat", "completions", json={})
    after = (await call("stats")).body
    assert after["requests"] == {
        "total": 3,
        "ok": 1,
        "overloaded": 1,
        "missing_required_parameter": 1,
    }
    assert after["tokens"]["cached"] == 90
    assert after["tokens"]["completion"] == 3
    assert after["cost_usd"] > 0
    assert 0 < after["latency_ms"]["first_token"]["p50"] <= after["latency_ms"]["total"]["p95"]
    assert after["processes"]["max"] == 4
    assert {"busy", "idle", "queue"} <= set(after["processes"])
    assert after["uptime_seconds"] >= 0
    assert re.match(r"\d+\.\d+", after["version"])


async def test_deep_health_says_which_cli_and_whether_it_is_logged_in(
    call: Call, model: OfflineModel
) -> None:
    answer = await call("health", params={"deep": "1"})
    assert (answer.status, answer.body["status"]) == (200, "ok")
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", answer.body["cli"]["version"])
    assert (answer.body["logged_in"], answer.body["login"]) == (True, "api_key")
    assert model.requests == []


async def test_prometheus_finds_our_figures_among_jupyters(call: Call) -> None:
    def value(text: str) -> float:
        found = re.search(r'ccapi_requests_total\{outcome="ok",route="chat"\} (\S+)', text)
        return float(found[1]) if found else 0.0

    before = (await call("metrics")).body
    await call("v1", "chat", "completions", json=HELLO)
    after = (await call("metrics")).body
    assert value(after) == value(before) + 1
    for name in ("ccapi_first_token_seconds_bucket", "ccapi_cost_usd_total", "ccapi_processes{"):
        assert name in after


async def test_a_probe_is_no_activity_and_a_turn_is(call: Call, app: CCApiApp) -> None:
    """Jupyter shuts an idle server down by the time of its last activity."""
    assert app.serverapp is not None
    settings = app.serverapp.web_app.settings
    settings.pop("api_last_activity", None)
    await call("health")
    await call("stats")
    assert "api_last_activity" not in settings
    await call("v1", "chat", "completions", json=HELLO)
    assert "api_last_activity" in settings
    await eventually(lambda: app.current_activity() is None)


class TestMovedRoutes:
    """An administrator puts the routes somewhere else."""

    @pytest.fixture
    def ccapi_config(self) -> dict[str, Any]:
        return {"url_prefix": "/ccapi/"}

    async def test_all_routes_are_there_and_the_panel_is_told(
        self, call: Call, app: CCApiApp
    ) -> None:
        assert (await call("ccapi", "health")).status == 200
        assert (await call("ccapi", "stats")).status == 200
        unknown = await call("ccapi", "v1", "nothing")
        assert (unknown.status, unknown.body["error"]["type"]) == (404, "invalid_request_error")
        assert (await call("health")).status == 404
        assert app.serverapp is not None
        page = app.serverapp.web_app.settings["page_config_data"]
        assert page["ccapiUrlPrefix"] == "/ccapi"
