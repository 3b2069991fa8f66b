"""Answers that fulfil a schema, while the model writes them."""

import json
from dataclasses import replace
from typing import Any

import pytest

from jupyter_ccapi.claude import (
    AnswerDiscarded,
    Conversation,
    Message,
    Options,
    Pool,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallStarted,
    ToolResult,
    TurnEnd,
    client_tool,
    query,
)
from jupyter_ccapi.demo import OfflineModel, Reply
from tests.claude.support import as_sent, events_of, messages_sent, talk

SCHEMA = {
    "type": "object",
    "properties": {
        "mood": {"type": "string", "enum": ["calm", "cross"]},
        "why": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    },
    "required": ["mood", "why"],
    "additionalProperties": False,
}
CALM = {"mood": "calm", "why": ["sun", "a long walk beside the Rhine in Köln"]}
CROSS = {"mood": "cross", "why": ["rain"]}
WEATHER = client_tool("weather")


@pytest.fixture
def options(chat: Options) -> Options:
    """Chat with an answer that fulfils a schema."""
    return replace(chat, schema=SCHEMA)


def answers(value: Any, text: str = "") -> Reply:
    """The model answers with this."""
    return Reply(text, tools=[("StructuredOutput", value)])


async def test_an_answer_comes_as_text_while_it_is_written(
    pool: Pool, model: OfflineModel, options: Options
) -> None:
    model.script(answers(CALM, "Here you are:"))
    turn = query(pool, "Your mood?", options)
    events = await events_of(turn)
    pieces = [event.text for event in events if isinstance(event, TextDelta)]
    assert len(pieces) > 2
    assert not any(isinstance(event, ToolCall | ToolResult | AnswerDiscarded) for event in events)
    end = events[-1]
    assert isinstance(end, TurnEnd)
    assert (end.reason, end.structured_output) == ("completed", CALM)
    assert end.text == "".join(pieces)
    assert json.loads(end.text) == CALM


async def test_an_answer_that_is_rejected_is_taken_back(
    pool: Pool, model: OfflineModel, options: Options
) -> None:
    model.script(answers({"mood": "hungry", "why": []}), answers(CROSS))
    events = await events_of(query(pool, "Your mood?", options))
    told = [event for event in events if isinstance(event, TextDelta | AnswerDiscarded)]
    (at,) = [n for n, event in enumerate(told) if isinstance(event, AnswerDiscarded)]
    before, after = (
        "".join(event.text for event in part if isinstance(event, TextDelta))
        for part in (told[:at], told[at:])
    )
    assert json.loads(before) == {"mood": "hungry", "why": []}
    end = events[-1]
    assert isinstance(end, TurnEnd)
    assert end.text == after
    assert json.loads(after) == end.structured_output == CROSS


async def test_its_messages_go_on_as_text(
    pool: Pool, model: OfflineModel, options: Options, chat: Options
) -> None:
    model.script(answers(CALM), Reply("Good."))
    turn = query(pool, "Your mood?", options)
    await turn.finish()
    assert turn.messages is not None
    assert [message.role for message in turn.messages] == ["user", "assistant"]
    (block,) = turn.messages[-1].blocks
    assert json.loads(block["text"]) == CALM
    await query(pool, "Why?", chat, history=turn.messages).finish()
    assert messages_sent(model.main_requests[-1]) == as_sent(
        *turn.messages, Message("user", "Why?")
    )


@pytest.mark.parametrize("persist", [True, False])
async def test_the_model_may_call_the_clients_tools_first(
    pool: Pool, model: OfflineModel, options: Options, persist: bool
) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    options = replace(options, tools=(Tool("weather", "Tells the weather.", schema),))
    conversation = Conversation(pool, options, persist=persist)
    model.script(
        Reply("I look.", tools=[(WEATHER, {"city": "Bonn"})]), answers(CALM, "So:"), answers(CROSS)
    )
    turn = conversation.send("Your mood?")
    events = await events_of(turn)
    (call,) = [event for event in events if isinstance(event, ToolCall)]
    assert ToolCallStarted(call.id, "weather") in events
    assert turn.end is not None
    assert (turn.end.reason, turn.end.text) == ("tool_calls", "")
    assert turn.messages is not None
    history = turn.messages
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "Sun."}]
    turn = conversation.send(results) if persist else query(pool, results, options, history=history)
    end = await turn.finish()
    assert turn.warmth == ("live" if pool.limits.warm else "cold")
    assert (end.reason, end.structured_output) == ("completed", CALM)
    assert json.loads(end.text) == CALM
    assert turn.messages is not None
    history = [*history, *turn.messages]
    turn = (
        conversation.send("And now?")
        if persist
        else query(pool, "And now?", options, history=history)
    )
    assert (await turn.finish()).structured_output == CROSS
    request = next(r for r in model.main_requests if r.user_text == "And now?")
    sent = json.dumps(request.messages)
    assert "Sun." in sent
    assert [m.role for m in history] == ["user", "assistant", "user", "assistant"]


async def test_an_answer_beside_a_call_is_the_answer(
    pool: Pool, model: OfflineModel, options: Options
) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    options = replace(options, tools=(Tool("weather", "Tells the weather.", schema),))
    both: list[tuple[str, dict[str, Any]]] = [
        (WEATHER, {"city": "Bonn"}),
        ("StructuredOutput", CALM),
    ]
    model.script(Reply(tools=both))
    events = await events_of(query(pool, "Your mood?", options))
    end = events[-1]
    assert isinstance(end, TurnEnd)
    assert (end.reason, end.structured_output) == ("completed", CALM)
    assert not any(isinstance(event, ToolCall | ToolCallStarted | ToolResult) for event in events)


async def test_a_turn_that_is_stopped_has_no_messages(
    pool: Pool, model: OfflineModel, options: Options
) -> None:
    model.script(replace(answers(CALM), word_delay=30.0))
    turn = query(pool, "Your mood?", options, history=talk("Hello.", "Hi."))
    async for event in turn:
        if isinstance(event, TextDelta):
            break
    await turn.interrupt()
    assert turn.end is not None
    assert turn.end.reason == "interrupted"
    assert turn.messages is None
