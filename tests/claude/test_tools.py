"""The caller's own tools, and answers that fulfil a schema: with a new process and a warm one."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from jupyter_ccapi.claude import (
    Conversation,
    Message,
    Options,
    Pool,
    Tool,
    ToolCall,
    ToolResult,
    query,
)
from jupyter_ccapi.demo import OfflineModel, Reply
from tests.claude.conftest import MakePool
from tests.claude.support import (
    PATIENCE,
    as_history,
    as_sent,
    events_of,
    eventually,
    messages_sent,
    spare_for,
    talk,
    until,
)

PLACE = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Its name."},
        "days": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["city"],
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "properties": {
        "mood": {"type": "string", "enum": ["calm", "cross"]},
        "why": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    },
    "required": ["mood", "why"],
    "additionalProperties": False,
}
WEATHER = "mcp__client__weather"

Handler = Callable[[dict[str, Any]], Coroutine[Any, Any, str]]


def weather(handler: Handler, **changes: Any) -> Tool:
    return replace(Tool("weather", "Tells the weather.", PLACE, handler), **changes)


async def never(given: dict[str, Any]) -> str:
    raise AssertionError


def answering(text: str) -> Handler:
    """A handler that answers with this and what it was given."""

    async def handler(given: dict[str, Any]) -> str:
        return f"{text} {given}"

    return handler


def results_sent(model: OfflineModel) -> list[tuple[str, str, bool]]:
    """The tools' answers that the model was sent last."""
    results = model.main_requests[-1].tool_results
    return [(result.name, result.text, result.error) for result in results]


async def pool_for(warmth: str, make_pool: MakePool, model: OfflineModel, options: Options) -> Pool:
    """A pool whose next turn with these options, of owner B, comes to its process so."""
    if warmth == "cold":
        return make_pool()
    pool = make_pool(warm=True, spares=2)
    if warmth == "bound":
        await query(pool, "hello", options, owner="B").finish()
        await spare_for(pool, "B")
    else:
        await query(pool, "hello", Options(cwd=options.cwd)).finish()
        await spare_for(pool)
    model.clear()
    return pool


@pytest.mark.parametrize("warmth", ["cold", "spare", "bound"])
async def test_the_model_sees_them_calls_one_and_reads_its_answer(
    make_pool: MakePool, model: OfflineModel, chat: Options, warmth: str
) -> None:
    pool = await pool_for(warmth, make_pool, model, replace(chat, tools=(weather(never),)))
    options = replace(chat, tools=(weather(answering("Rain:")),))
    call = {"city": "Köln", "days": [1, 2]}
    model.script(Reply("I look.", tools=[(WEATHER, call)]), Reply("Take an umbrella."))
    turn = query(pool, "What now?", options, owner="B")
    events = await events_of(turn)
    assert turn.warmth == warmth
    first, second = model.main_requests
    (offered,) = first.body["tools"]
    assert (offered["name"], offered["description"]) == (WEATHER, "Tells the weather.")
    assert offered["input_schema"] == {
        **PLACE,
        **{name: value for name, value in offered["input_schema"].items() if name == "$schema"},
    }
    assert second.body["tools"] == first.body["tools"]
    assert results_sent(model) == [(WEATHER, f"Rain: {call}", False)]
    (made,) = [event for event in events if isinstance(event, ToolCall)]
    (answer,) = [event for event in events if isinstance(event, ToolResult)]
    assert (made.name, made.input) == ("weather", call)
    assert (answer.id, answer.is_error) == (made.id, False)
    assert turn.end is not None
    assert turn.end.text == "I look.\n\nTake an umbrella."
    assert turn.end.permission_denials == []


async def test_without_tools_the_model_sees_none(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    await query(pool, "hello", chat).finish()
    assert model.main_requests[-1].tools == []


async def test_many_tools_are_all_shown_from_the_start(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    tools = tuple(weather(answering(""), name=f"weather-{n}_{n}") for n in range(40))
    await query(pool, "hello", replace(chat, tools=tools)).finish()
    assert sorted(model.main_requests[-1].tools) == sorted(f"mcp__client__{t.name}" for t in tools)


async def test_an_agent_has_them_beside_its_own(
    pool: Pool, model: OfflineModel, agent: Options
) -> None:
    options = replace(agent, tools=(weather(answering("Rain:")),))
    model.script(Reply(tools=[(WEATHER, {"city": "Bonn"})]), Reply("Wet."))
    await query(pool, "What now?", options).finish()
    assert {"Bash", WEATHER} < set(model.main_requests[0].tools)
    assert results_sent(model) == [(WEATHER, "Rain: {'city': 'Bonn'}", False)]


async def test_the_answer_may_be_blocks(pool: Pool, model: OfflineModel, chat: Options) -> None:
    pixel = (
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
        "rkJggg=="
    )

    async def picture(given: dict[str, Any]) -> list[dict[str, Any]]:
        image = {"type": "image", "data": pixel, "mimeType": "image/png"}
        return [{"type": "text", "text": "as seen"}, image, {"type": "text", "text": "from above"}]

    tool = Tool("weather", "Shows the weather.", PLACE, picture)
    model.script(Reply(tools=[(WEATHER, {"city": "Bonn"})]), Reply("Wet."))
    await query(pool, "What now?", replace(chat, tools=(tool,))).finish()
    (result,) = messages_sent(model.main_requests[-1])[-1][1]
    assert [block["type"] for block in result["content"]] == ["text", "image", "text"]
    assert result["content"][1]["source"]["data"] == pixel


async def test_a_tool_that_fails_tells_the_model_and_not_the_caller(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    async def fails(given: dict[str, Any]) -> str:
        raise RuntimeError("no such city")

    options = replace(chat, tools=(weather(fails),))
    model.script(
        Reply(tools=[(WEATHER, {"city": "Atlantis"})]),
        Reply(tools=[(WEATHER, {"town": "Bonn"})]),
        Reply("I do not know."),
    )
    end = await query(pool, "What now?", options).finish()
    assert (end.reason, end.text) == ("completed", "I do not know.")
    wrong, unfit = (request.tool_results[0] for request in model.main_requests[1:])
    assert (wrong.name, wrong.error) == (WEATHER, True)
    assert "no such city" in wrong.text
    # What its schema does not allow does not reach it.
    assert unfit.error
    assert "city" in unfit.text
    assert "no such city" not in unfit.text


async def test_calls_run_at_once_where_the_tool_allows_it(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    together = asyncio.Barrier(3)

    async def meets(given: dict[str, Any]) -> str:
        async with asyncio.timeout(PATIENCE):
            await together.wait()
        return str(given["city"])

    cities = ["Bonn", "Köln", "Ulm"]
    model.script(Reply(tools=[(WEATHER, {"city": city}) for city in cities]), Reply("Wet."))
    await query(pool, "What now?", replace(chat, tools=(weather(meets),))).finish()
    *_, (_, made), (_, results) = messages_sent(model.main_requests[-1])
    answers = {block["tool_use_id"]: block["content"][0]["text"] for block in results}
    assert [answers[block["id"]] for block in made] == cities


async def test_calls_run_one_after_another_where_it_does_not(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    order: list[str] = []
    other = asyncio.Event()

    async def alone(given: dict[str, Any]) -> str:
        order.append(f"{given['city']} begins")
        if len(order) > 1:
            other.set()
        # One that ran at the same time would begin while this one waits.
        await asyncio.wait([waiting := asyncio.ensure_future(other.wait())], timeout=0.3)
        waiting.cancel()
        order.append(f"{given['city']} ends")
        return str(given["city"])

    tool = weather(alone, parallel=False)
    model.script(
        Reply(tools=[(WEATHER, {"city": city}) for city in ("Bonn", "Köln")]), Reply("Wet.")
    )
    await query(pool, "What now?", replace(chat, tools=(tool,))).finish()
    assert order == ["Bonn begins", "Bonn ends", "Köln begins", "Köln ends"]
    assert results_sent(model) == [(WEATHER, "Bonn", False), (WEATHER, "Köln", False)]


async def test_it_is_the_new_requests_tool_that_answers(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True, max_concurrent_sessions=1)
    history: list[Message] = []
    warmths = []
    for number, given in enumerate([[], history, []]):
        options = replace(chat, tools=(weather(answering(f"answer {number}")),))
        model.script(Reply(tools=[(WEATHER, {"city": "Bonn"})]), Reply("Wet."))
        turn = query(pool, "What now?", options, history=given)
        await turn.finish()
        warmths.append(turn.warmth)
        assert results_sent(model) == [(WEATHER, f"answer {number} {{'city': 'Bonn'}}", False)]
        history[:] = [*as_history(model.main_requests[-1]), Message("assistant", "Wet.")]
        await eventually(lambda: pool.capabilities.seed)
    assert warmths == ["cold", "live", "recycled"]


async def test_it_is_the_new_options_tool_that_answers_in_a_conversation(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    conversation = Conversation(pool, chat)
    pids = []
    for number in range(2):
        tool = weather(answering(f"answer {number}"))
        conversation.options = replace(chat, tools=(tool,))
        model.script(Reply(tools=[(WEATHER, {"city": "Bonn"})]), Reply("Wet."))
        await conversation.send("What now?").finish()
        assert results_sent(model) == [(WEATHER, f"answer {number} {{'city': 'Bonn'}}", False)]
        pids.append(pool.pids())
    if pool.limits.warm:
        assert pids[0] == pids[1]


async def test_a_turn_ends_at_once_though_a_tool_does_not(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def forever(given: dict[str, Any]) -> str:
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()
        return "never"

    model.script(Reply(tools=[(WEATHER, {"city": "Bonn"})]), Reply("never"))
    turn = query(pool, "What now?", replace(chat, tools=(weather(forever),)))
    async with asyncio.timeout(PATIENCE):
        await began.wait()
        await turn.interrupt()
        assert turn.end is not None
        assert turn.end.reason == "interrupted"
        await pool.close()
        await ended.wait()


# Answers that fulfil a schema.


@pytest.mark.parametrize("warmth", ["cold", "spare", "bound"])
async def test_an_answer_fulfils_its_schema(
    make_pool: MakePool, model: OfflineModel, chat: Options, warmth: str
) -> None:
    options = replace(chat, schema=SCHEMA, system_prompt="Be honest.")
    pool = await pool_for(warmth, make_pool, model, options)
    history = talk("one", "two")
    wanted = {"mood": "calm", "why": ["sun", "tea"]}
    model.script(Reply(tools=[("StructuredOutput", wanted)]))
    turn = query(pool, "Your mood?", options, owner="B", history=history)
    end = await turn.finish()
    assert turn.warmth == warmth
    assert end.structured_output == wanted
    request = model.main_requests[0]
    assert messages_sent(request) == as_sent(*history, Message("user", "Your mood?"))
    assert request.system_text.endswith("Be honest.")
    (tool,) = request.body["tools"]
    assert tool["name"] == "StructuredOutput"
    assert {name: tool["input_schema"][name] for name in SCHEMA} == SCHEMA


async def test_an_answer_that_does_not_fulfil_it_is_asked_for_again(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    model.script(
        Reply(tools=[("StructuredOutput", {"mood": "hungry", "why": []})]),
        Reply(tools=[("StructuredOutput", {"mood": "cross", "why": ["rain"]})]),
    )
    end = await query(pool, "Your mood?", replace(chat, schema=SCHEMA)).finish()
    assert end.structured_output == {"mood": "cross", "why": ["rain"]}
    assert model.main_requests[1].tool_results[0].error


async def test_a_schema_and_tools_go_together(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    options = replace(chat, schema=SCHEMA, tools=(weather(answering("Sun:")),))
    model.script(
        Reply(tools=[(WEATHER, {"city": "Bonn"})]),
        Reply(tools=[("StructuredOutput", {"mood": "calm", "why": ["sun"]})]),
    )
    turn = query(pool, "Your mood?", options)
    assert (await until(turn, ToolCall)).name == "weather"
    assert (await turn.finish()).structured_output == {"mood": "calm", "why": ["sun"]}
    assert set(model.main_requests[0].tools) == {WEATHER, "StructuredOutput"}


async def test_a_client_sends_a_structured_answer_again_as_the_text_that_it_was(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True)
    options = replace(chat, schema=SCHEMA)
    wanted = {"mood": "calm", "why": ["tea"]}
    model.script(*[Reply(tools=[("StructuredOutput", wanted)])] * 2)
    await query(pool, "Your mood?", options).finish()
    history = talk("Your mood?", '{"mood": "calm", "why": ["tea"]}')
    end = await query(pool, "And now?", options, history=history).finish()
    assert end.structured_output == wanted
    request = next(r for r in model.main_requests if r.user_text == "And now?")
    assert messages_sent(request) == as_sent(*history, Message("user", "And now?"))
