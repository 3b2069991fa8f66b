"""The openai package for Node; what it runs is in foreign/node/openai."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from tests.clients.environments import NODE, output, starting
from tests.clients.sent import ONE_CALL, TWO_CALLS, images, results, schema, structured, texts
from tests.servers import Server

pytestmark = pytest.mark.client("openai (Node)")

SCRIPTS = NODE / "openai"
Run = Callable[[str], Any]


@pytest.fixture
def run(node: Path, server: Server) -> Run:
    """Run a script and read what it prints."""
    return lambda name: json.loads(output(node, SCRIPTS / name, server))


@pytest.mark.feature("chat")
@pytest.mark.feature("history")
@pytest.mark.feature("usage and cost")
def test_a_chat(run: Run, model: OfflineModel) -> None:
    model.script(Reply("Hello, Ann."), Reply("It is Ann.", output_tokens=3))
    said = run("chat.mjs")
    assert (said["first"], said["words"]) == ("Hello, Ann.", ["It ", "is ", "Ann."])
    assert said["usage"]["completion_tokens"] == 3
    assert texts(model) == ["My name is Ann.", "Hello, Ann.", "What is my name?"]
    assert "Be brief." in model.main_requests[-1].system_text


@pytest.mark.feature("streaming")
def test_a_stream_arrives_while_the_model_still_speaks(
    node: Path, server: Server, model: OfflineModel
) -> None:
    hold = threading.Event()
    model.script(Reply("one two three", hold=hold))
    with starting(node, SCRIPTS / "live.mjs", server) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "one"
        assert not model.main_requests[-1].finished
        hold.set()
        assert process.stdout.read().split() == ["two", "three"]


@pytest.mark.feature("tool calls")
@pytest.mark.feature("tool calls, streamed")
@pytest.mark.feature("parallel tool calls")
@pytest.mark.feature("forced tool choice")
def test_tools_are_run_until_there_is_an_answer(run: Run, model: OfflineModel) -> None:
    told = Reply("Rain and sun.")
    model.script(TWO_CALLS, ONE_CALL, told, TWO_CALLS, told, structured(city="Oslo"))
    said = run("tools.mjs")
    assert said["answers"] == ["Rain and sun."] * 2
    assert said["forced"] == {"name": "weather", "arguments": '{"city": "Oslo"}'}
    told_back = [[one.text for one in request.tool_results] for request in model.main_requests]
    assert told_back == [[], ["Rain", "Sun"], ["Rain"], [], ["Rain", "Sun"], []]
    assert schema(model)["required"] == ["city"]


@pytest.mark.feature("structured output")
@pytest.mark.feature("structured output, streamed")
@pytest.mark.feature("Responses: structured output")
def test_an_answer_is_parsed(run: Run, model: OfflineModel) -> None:
    model.script(*[structured(mood="calm")] * 3)
    assert run("parse.mjs") == [{"mood": "calm"}] * 3
    assert [request.user_text for request in model.main_requests] == ["How are you?"] * 3
    assert schema(model)["properties"]["mood"]["enum"] == ["calm", "cross"]


@pytest.mark.feature("Responses")
@pytest.mark.feature("Responses, streamed")
@pytest.mark.feature("Responses: tool calls")
@pytest.mark.feature("Responses: earlier ones gone on from")
@pytest.mark.feature("Conversations API")
def test_responses(run: Run, model: OfflineModel) -> None:
    call = Reply("Let me see.", tools=ONE_CALL.tools)
    model.script(call, Reply("Rain."), Reply("two"), Reply("four"))
    said = run("responses.mjs")
    assert said["words"] == ["Let ", "me ", "see."]
    assert said["calls"] == [{"city": "Oslo"}]
    assert said["answer"] == "Rain."
    assert said["said"] == ["one", "two", "three", "four"]
    assert model.main_requests[1].tool_results[0].text == "Rain"
    assert texts(model) == ["one", "two", "three"]
    assert results(model) == []


@pytest.mark.feature("images")
@pytest.mark.feature("models")
def test_an_image(run: Run, model: OfflineModel) -> None:
    model.script(Reply("A dot."))
    said = run("image.mjs")
    assert said["answer"] == "A dot."
    assert {"opus", "sonnet", "haiku"} <= set(said["models"])
    (image,) = images(model)
    assert image["media_type"] == "image/gif"


@pytest.mark.feature("errors")
@pytest.mark.feature("retries")
@pytest.mark.feature("request ids")
def test_errors_are_the_packages_own_classes(run: Run, model: OfflineModel) -> None:
    busy = Reply(error=ApiError(429))
    model.script(busy, busy, busy, Reply("At last."))
    assert run("errors.mjs") == [
        ["AuthenticationError", 401, "invalid_api_key", "string"],
        ["NotFoundError", 404, "model_not_found", "string"],
        ["RateLimitError", 429, "rate_limit_exceeded", "string"],
        "At last.",
    ]
    assert len(model.main_requests) == 4
