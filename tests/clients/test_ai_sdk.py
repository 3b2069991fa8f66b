"""The AI SDK's OpenAI provider for Node; what it runs is in foreign/node/ai-sdk."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from tests.clients.environments import NODE, output, starting
from tests.clients.sent import ONE_CALL, TWO_CALLS, images, schema, structured, texts
from tests.servers import Server

pytestmark = pytest.mark.client("@ai-sdk/openai")

SCRIPTS = NODE / "ai-sdk"
Run = Callable[[str], Any]


@pytest.fixture
def run(node: Path, server: Server) -> Run:
    """Run a script and read what it prints."""
    return lambda name: json.loads(output(node, SCRIPTS / name, server))


@pytest.mark.feature("chat")
@pytest.mark.feature("Responses")
@pytest.mark.feature("thinking")
@pytest.mark.feature("usage and cost")
def test_an_answer(run: Run, model: OfflineModel) -> None:
    model.script(Reply("Paris.", thinking="Hm.", output_tokens=2), Reply("Paris again."))
    assert run("text.mjs") == {
        "text": "Paris.",
        "reasoningText": "Hm.",
        "output": 2,
        "chat": "Paris again.",
    }
    for request in model.main_requests:
        assert request.user_text == "Capital of France?"
        assert "Be brief." in request.system_text


@pytest.mark.feature("streaming")
@pytest.mark.feature("Responses, streamed")
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
@pytest.mark.feature("Responses: tool calls")
def test_tools_in_several_steps(run: Run, model: OfflineModel) -> None:
    told = Reply("Rain and sun.")
    model.script(TWO_CALLS, ONE_CALL, told, TWO_CALLS, told, structured(city="Oslo"))
    said = run("tools.mjs")
    assert (said["answers"], said["steps"]) == (["Rain and sun."] * 2, 3)
    assert {"tool-input-delta", "tool-call", "tool-result", "text-delta"} <= set(said["kinds"])
    assert said["forced"] == [{"city": "Oslo"}]
    told_back = [[one.text for one in request.tool_results] for request in model.main_requests]
    assert told_back == [[], ["Rain", "Sun"], ["Rain"], [], ["Rain", "Sun"], []]
    assert schema(model)["required"] == ["city"]


@pytest.mark.feature("structured output")
@pytest.mark.feature("structured output, streamed")
@pytest.mark.feature("Responses: structured output")
def test_an_object(run: Run, model: OfflineModel) -> None:
    mood = {"mood": "calm"}
    model.script(*[structured(**mood)] * 3)
    said = run("object.mjs")
    assert (said["object"], said["output"], said["grown"][-1]) == (mood, mood, mood)
    assert schema(model)["properties"]["mood"]["enum"] == ["calm", "cross"]


@pytest.mark.feature("history")
@pytest.mark.feature("Responses: earlier ones gone on from")
def test_what_was_answered_before_is_only_referred_to(run: Run, model: OfflineModel) -> None:
    model.script(ONE_CALL, Reply("two", thinking="Hm."), Reply("four"), Reply("six"))
    said = run("turns.mjs")
    assert said["answers"] == ["two", "four", "six"]
    assert said["kinds"].count("item_reference") == 2
    whole = [text for text in texts(model) if not text.startswith("tool_")]
    assert whole == ["one", "two", "three", "four", "five"]
    assert len(model.main_requests) == 4


@pytest.mark.feature("images")
def test_an_image(run: Run, model: OfflineModel) -> None:
    model.script(Reply("A dot."))
    assert run("image.mjs") == "A dot."
    (image,) = images(model)
    assert image["media_type"] == "image/gif"


@pytest.mark.feature("errors")
@pytest.mark.feature("retries")
def test_errors(run: Run, model: OfflineModel) -> None:
    busy = Reply(error=ApiError(429))
    model.script(busy, busy, Reply("At last."))
    assert run("errors.mjs") == [[True, 404, False], [True, 429, True], "At last."]
    assert len(model.main_requests) == 3
