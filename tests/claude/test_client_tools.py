"""Tools that the client runs: the turn ends with its calls, and goes on with their results."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from jupyter_ccapi.claude import (
    Conversation,
    Event,
    Message,
    Options,
    Pool,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallStarted,
    ToolInputDelta,
    ToolResult,
    Turn,
    TurnEnd,
    TurnStarted,
    Usage,
    client_tool,
    plain_name,
    query,
)
from jupyter_ccapi.claude.parking import results_for
from jupyter_ccapi.demo import OfflineModel, Reply
from tests.claude.conftest import MakePool
from tests.claude.support import (
    as_sent,
    clis,
    events_of,
    eventually,
    messages_sent,
    spare_for,
    talk,
)

PLACE = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = client_tool("weather")
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)


@pytest.fixture
def tooled(chat: Options) -> Options:
    """Chat with a tool of the client's."""
    return replace(chat, tools=(Tool("weather", "Tells the weather.", PLACE),))


def looks(*cities: str, text: str = "I look.") -> Reply:
    """The model asks for the weather of these."""
    return Reply(text, tools=[(WEATHER, {"city": city}) for city in cities])


def calls_in(events: Sequence[Event]) -> list[ToolCall]:
    return [event for event in events if isinstance(event, ToolCall)]


def result(call: ToolCall, content: Any, *, error: bool = False) -> dict[str, Any]:
    """A tool's result as a client sends it."""
    block = {"type": "tool_result", "tool_use_id": call.id, "content": content}
    return {**block, "is_error": True} if error else block


async def calling(turn: Turn) -> tuple[list[ToolCall], list[Message]]:
    """The calls that a turn ends with, and the messages that it has added."""
    events = await events_of(turn)
    end = events[-1]
    assert isinstance(end, TurnEnd)
    assert (end.reason, end.stop_reason) == ("tool_calls", "tool_use")
    assert turn.messages is not None
    return calls_in(events), turn.messages


def unified(
    sent: list[tuple[str, list[dict[str, Any]]]],
) -> list[tuple[str, list[dict[str, Any]]]]:
    """Messages with the results of tools in one form, whichever way they came."""
    told = []
    for role, blocks in sent:
        given = []
        for block in blocks:
            content = block.get("content")
            if block["type"] == "tool_result" and isinstance(content, str):
                block = {**block, "content": [{"type": "text", "text": content}]}
            given.append({name: value for name, value in block.items() if value is not False})
        told.append((role, given))
    return told


def last_sent(model: OfflineModel) -> list[tuple[str, list[dict[str, Any]]]]:
    """The conversation that the model was sent last."""
    return unified(messages_sent(model.main_requests[-1]))


def test_names_are_the_models_and_the_tools_own() -> None:
    assert client_tool("a__b") == "mcp__client__a__b"
    assert plain_name("mcp__client__a__b") == "a__b"
    assert plain_name("Bash") is None


async def test_a_turn_ends_with_its_calls_and_goes_on_with_their_results(
    pool: Pool, model: OfflineModel, tooled: Options
) -> None:
    model.script(looks("Bonn", "Köln"), Reply("Take an umbrella."))
    turn = query(pool, "What now?", tooled)
    events = await events_of(turn)
    started, *_, end = events
    assert isinstance(started, TurnStarted)
    assert isinstance(end, TurnEnd)
    assert (end.reason, end.stop_reason, end.text) == ("tool_calls", "tool_use", "I look.")
    bonn, koeln = calls_in(events)
    assert [(call.name, call.input, call.client) for call in (bonn, koeln)] == [
        ("weather", {"city": "Bonn"}, True),
        ("weather", {"city": "Köln"}, True),
    ]
    for call in (bonn, koeln):
        assert ToolCallStarted(call.id, "weather") in events
        pieces = [e.fragment for e in events if isinstance(e, ToolInputDelta) and e.id == call.id]
        assert json.loads("".join(pieces)) == call.input
    assert turn.messages is not None
    assert [message.role for message in turn.messages] == ["user", "assistant"]
    results = [result(bonn, "Rain."), result(koeln, [{"type": "text", "text": "Sun."}])]
    second = query(pool, results, tooled, history=turn.messages)
    rest = await events_of(second)
    assert isinstance(rest[0], TurnStarted)
    assert rest[0].model == started.model
    assert not any(isinstance(event, ToolResult | ToolCall) for event in rest)
    assert second.end is not None
    assert (second.end.reason, second.end.text) == ("completed", "Take an umbrella.")
    assert second.warmth == ("live" if pool.limits.warm else "cold")
    assert len(model.main_requests) == 2
    said = Message(
        "assistant",
        [
            {"type": "text", "text": "I look."},
            *[
                {"type": "tool_use", "id": call.id, "name": WEATHER, "input": call.input}
                for call in (bonn, koeln)
            ],
        ],
    )
    so_far = unified(as_sent(Message("user", "What now?"), said, Message("user", results)))
    assert last_sent(model) == so_far
    assert second.messages is not None
    whole = [*turn.messages, *second.messages]
    third = query(pool, "Thanks!", tooled, history=whole)
    await third.finish()
    assert third.warmth == ("live" if pool.limits.warm else "cold")
    assert last_sent(model) == [
        *so_far,
        *as_sent(Message("assistant", "Take an umbrella."), Message("user", "Thanks!")),
    ]


async def test_results_may_come_in_any_order(
    pool: Pool, model: OfflineModel, tooled: Options
) -> None:
    cities = ["Bonn", "Köln", "Ulm", *(f"City {number}" for number in range(12))]
    model.script(looks(*cities), Reply("Fine."))
    calls, messages = await calling(query(pool, "What now?", tooled))
    results = [result(call, f"It is {call.input['city']}.") for call in reversed(calls)]
    turn = query(pool, results, tooled, history=messages)
    assert (await turn.finish()).text == "Fine."
    assert turn.warmth == ("live" if pool.limits.warm else "cold")
    *_, (_, made), (_, told) = messages_sent(model.main_requests[-1])
    answers = {block["tool_use_id"]: block["content"] for block in told}
    asked = [block for block in made if block["type"] == "tool_use"]
    for block, city in zip(asked, cities, strict=True):
        assert f"It is {city}." in json.dumps(answers[block["id"]], ensure_ascii=False)


async def test_rounds_go_on_in_one_process(
    pool: Pool, model: OfflineModel, tooled: Options
) -> None:
    history: list[Message] = []
    prompt: str | list[dict[str, Any]] = "What now?"
    warmths, pids = [], set()
    for number in range(3):
        model.script(looks(f"City {number}", text=""))
        turn = query(pool, prompt, tooled, history=history)
        (call,), added = await calling(turn)
        history += added
        prompt = [result(call, f"Weather {number}.")]
        warmths.append(turn.warmth)
        pids |= set(pool.pids())
    model.script(Reply("Done."))
    turn = query(pool, prompt, tooled, history=history)
    assert (await turn.finish()).text == "Done."
    request = model.main_requests[-1]
    assert len(model.main_requests) == 4
    assert [role for role, _ in messages_sent(request)] == ["user", "assistant"] * 3 + ["user"]
    texts = [r.text for r in request.tool_results]
    assert texts == ["Weather 2."]
    assert all(f"Weather {number}." in json.dumps(request.messages) for number in range(3))
    if pool.limits.warm:
        assert [*warmths, turn.warmth] == ["cold", "live", "live", "live"]
        assert len(pids) == 1


@pytest.mark.parametrize("warmth", ["cold", "spare", "recycled"])
async def test_a_tool_history_never_seen_before_becomes_real_calls(
    make_pool: MakePool, model: OfflineModel, tooled: Options, warmth: str
) -> None:
    pool = make_pool(warm=warmth != "cold", spares=2 if warmth == "spare" else 0)
    if warmth == "spare":
        await query(pool, "hello", replace(tooled, system_prompt="Other.")).finish()
        await spare_for(pool)
    elif warmth == "recycled":
        await query(pool, "hello", tooled).finish()
        await eventually(lambda: pool.capabilities.seed)
        pool.limits = replace(pool.limits, max_concurrent_sessions=1)
    uses = [
        {"type": "tool_use", "id": f"call_{n}", "name": WEATHER, "input": {"city": str(n)}}
        for n in range(2)
    ]
    history = [
        *talk("Hello.", "Hi."),
        Message("user", "What now?"),
        Message("assistant", uses[:1]),
        Message("user", [{"type": "tool_result", "tool_use_id": "call_0", "content": "Fog."}]),
        Message("assistant", [{"type": "text", "text": "And?"}, uses[1]]),
    ]
    image = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    prompt: list[dict[str, Any]] = [
        {
            "type": "tool_result",
            "tool_use_id": "call_1",
            "content": [{"type": "text", "text": "See:"}, {"type": "image", "source": image}],
        },
        {"type": "text", "text": "Be brief."},
    ]
    model.script(Reply("Fine."))
    turn = query(pool, prompt, tooled, history=history)
    assert (await turn.finish()).text == "Fine."
    assert turn.warmth == warmth
    assert last_sent(model) == unified(as_sent(*history, Message("user", prompt)))


async def test_long_and_empty_results_and_pictures_reach_the_model_as_they_are(
    pool: Pool, model: OfflineModel, tooled: Options
) -> None:
    image = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    for content, error in (
        ("x" * 60_000, False),
        ("", False),
        ([{"type": "image", "source": image}], False),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], True),
    ):
        model.script(looks("Bonn"), Reply("Fine."))
        (call,), messages = await calling(query(pool, "What now?", tooled))
        results = [result(call, content, error=error)]
        turn = query(pool, results, tooled, history=messages)
        assert (await turn.finish()).text == "Fine."
        assert last_sent(model) == unified(as_sent(*messages, Message("user", results)))


async def test_errors_and_odd_texts_reach_the_model_as_they_are(
    pool: Pool, model: OfflineModel, tooled: Options
) -> None:
    odd = "  \ufb01 z\u200bw \ue000 \r\n\x07 \U0001f469\u200d\U0001f4bb \n"
    for content, error in ((odd, False), ("no such city", True)):
        model.script(looks("Bonn"), Reply("Fine."))
        (call,), messages = await calling(query(pool, "What now?", tooled))
        results = [result(call, content, error=error)]
        turn = query(pool, results, tooled, history=messages)
        await turn.finish()
        assert turn.warmth == ("live" if pool.limits.warm else "cold")
        assert last_sent(model) == unified(as_sent(*messages, Message("user", results)))


async def test_further_text_beside_the_results_is_told_too(
    pool: Pool, model: OfflineModel, tooled: Options
) -> None:
    model.script(looks("Bonn"), Reply("Fine."))
    (call,), messages = await calling(query(pool, "What now?", tooled))
    prompt = [result(call, "Rain."), {"type": "text", "text": "In French, please."}]
    turn = query(pool, prompt, tooled, history=messages)
    assert (await turn.finish()).text == "Fine."
    assert turn.warmth != "live"
    assert last_sent(model) == unified(as_sent(*messages, Message("user", prompt)))


async def test_a_call_may_be_left_without_a_result(
    pool: Pool, model: OfflineModel, tooled: Options
) -> None:
    model.script(looks("Bonn", "Ulm"), Reply("Fine."))
    (bonn, _), messages = await calling(query(pool, "What now?", tooled))
    await query(pool, [result(bonn, "Rain.")], tooled, history=messages).finish()
    *_, (_, told) = messages_sent(model.main_requests[-1])
    assert [bool(block.get("is_error")) for block in told] == [True, False]
    assert "No result was recorded" in json.dumps(told)


async def test_an_abandoned_turn_is_gone_on_with_by_its_history(
    make_pool: MakePool, model: OfflineModel, tooled: Options
) -> None:
    pool = make_pool(warm=True)
    model.script(looks("Bonn"), Reply("Never mind then."))
    _, messages = await calling(query(pool, "What now?", tooled))
    (parked,) = pool.slots
    turn = query(pool, "Forget it.", tooled, history=messages)
    assert (await turn.finish()).text == "Never mind then."
    assert turn.warmth != "live"
    assert parked.parked
    assert len(model.main_requests) == 2
    *_, (_, told) = messages_sent(model.main_requests[-1])
    assert [block["type"] for block in told] == ["tool_result", "text"]
    assert told[1]["text"] == "Forget it."


async def test_an_edited_history_never_touches_a_turn_that_waits(
    make_pool: MakePool, model: OfflineModel, tooled: Options
) -> None:
    pool = make_pool(warm=True)
    model.script(looks("Bonn"), Reply("Edited."), Reply("Original."))
    (call,), messages = await calling(query(pool, "What now?", tooled))
    edited = [Message("user", "What then?"), messages[-1]]
    other = query(pool, [result(call, "Fog.")], tooled, history=edited)
    assert (await other.finish()).text == "Edited."
    assert other.warmth != "live"
    assert last_sent(model) == unified(as_sent(*edited, Message("user", [result(call, "Fog.")])))
    turn = query(pool, [result(call, "Rain.")], tooled, history=messages)
    assert (await turn.finish()).text == "Original."
    assert turn.warmth == "live"
    assert last_sent(model) == unified(as_sent(*messages, Message("user", [result(call, "Rain.")])))


async def test_the_same_results_twice_are_two_turns(
    make_pool: MakePool, model: OfflineModel, tooled: Options
) -> None:
    pool = make_pool(warm=True)
    model.script(looks("Bonn"))
    (call,), messages = await calling(query(pool, "What now?", tooled))
    model.script(Reply("One."), Reply("Two."))
    turns = [query(pool, [result(call, "Rain.")], tooled, history=messages) for _ in range(2)]
    ends = [await turn.finish() for turn in turns]
    assert sorted(end.text for end in ends) == ["One.", "Two."]
    assert sorted(str(turn.warmth) for turn in turns)[1] == "live"
    assert [turn.warmth for turn in turns].count("live") == 1
    sent = unified(as_sent(*messages, Message("user", [result(call, "Rain.")])))
    for request in model.main_requests[1:]:
        assert unified(messages_sent(request)) == sent


async def test_a_turn_that_waits_gives_way_to_another_owner(
    make_pool: MakePool, model: OfflineModel, tooled: Options
) -> None:
    pool = make_pool(warm=True, max_concurrent_sessions=1)
    model.script(looks("Bonn"), Reply("Hello Ben."), Reply("Wet."))
    (call,), messages = await calling(query(pool, "What now?", tooled, owner="Ann"))
    assert (await query(pool, "Hello.", tooled, owner="Ben").finish()).text == "Hello Ben."
    assert pool.ended["gave_way"] == 1
    turn = query(pool, [result(call, "Rain.")], tooled, owner="Ann", history=messages)
    assert (await turn.finish()).text == "Wet."
    assert turn.warmth == "cold"
    assert last_sent(model) == unified(as_sent(*messages, Message("user", [result(call, "Rain.")])))


async def test_no_owner_gets_another_ones_turn(
    make_pool: MakePool, model: OfflineModel, tooled: Options
) -> None:
    pool = make_pool(warm=True)
    model.script(looks("Bonn"), Reply("Ben's."), Reply("Ann's."))
    (call,), messages = await calling(query(pool, "What now?", tooled, owner="Ann"))
    results = [result(call, "Rain.")]
    stolen = query(pool, results, tooled, owner="Ben", history=messages)
    assert (await stolen.finish()).text == "Ben's."
    assert stolen.warmth == "cold"
    owners = {slot.owner: slot.process for slot in pool.slots}
    assert owners["Ann"] is not owners["Ben"]
    turn = query(pool, results, tooled, owner="Ann", history=messages)
    assert (await turn.finish()).text == "Ann's."
    assert turn.warmth == "live"


async def test_a_turn_that_nobody_goes_on_with_is_given_up(
    make_pool: MakePool, model: OfflineModel, tooled: Options
) -> None:
    pool = make_pool(warm=True, tool_timeout=0.2)
    model.script(looks("Bonn"), Reply("Wet."))
    (call,), messages = await calling(query(pool, "What now?", tooled))
    await eventually(lambda: not pool.slots)
    assert pool.ended["expired"] == 1
    assert len(model.requests) == 1
    turn = query(pool, [result(call, "Rain.")], tooled, history=messages)
    assert (await turn.finish()).text == "Wet."
    assert len(model.main_requests) == 2


async def test_giving_turns_up_never_asks_the_model(
    make_pool: MakePool, model: OfflineModel, tooled: Options
) -> None:
    pool = make_pool(warm=True, max_concurrent_sessions=1)
    for number in range(6):
        model.script(looks("Bonn", "Ulm"))
        await calling(query(pool, "What now?", tooled, owner=f"owner {number}"))
    await pool.close()
    assert len(model.requests) == 6


async def test_a_process_that_dies_while_it_waits_costs_nothing(
    make_pool: MakePool, model: OfflineModel, tooled: Options
) -> None:
    pool = make_pool(warm=True)
    model.script(looks("Bonn"), Reply("Wet."))
    (call,), messages = await calling(query(pool, "What now?", tooled))
    (slot,) = pool.slots
    assert slot.process is not None
    slot.process.kill()
    turn = query(pool, [result(call, "Rain.")], tooled, history=messages)
    assert (await turn.finish()).text == "Wet."
    assert turn.warmth == "cold"
    assert last_sent(model) == unified(as_sent(*messages, Message("user", [result(call, "Rain.")])))


async def test_a_variable_of_the_users_does_not_end_the_wait(
    make_pool: MakePool, model: OfflineModel, tooled: Options
) -> None:
    pool = make_pool(warm=True, environment={"MCP_TOOL_TIMEOUT": "1000"})
    model.script(looks("Bonn"), Reply("Wet."))
    (call,), messages = await calling(query(pool, "What now?", tooled))
    await asyncio.sleep(1.5)  # longer than the CLI would wait
    turn = query(pool, [result(call, "Rain.")], tooled, history=messages)
    assert (await turn.finish()).text == "Wet."
    assert turn.warmth == "live"
    assert "Rain." in json.dumps(model.main_requests[-1].messages)


async def test_calls_may_be_allowed_one_at_a_time(
    pool: Pool, model: OfflineModel, tooled: Options
) -> None:
    options = replace(tooled, tools=tuple(replace(t, parallel=False) for t in tooled.tools))
    model.script(looks("Bonn", "Ulm"), looks("Ulm", text=""), Reply("Wet."))
    turn = query(pool, "What now?", options)
    events = await events_of(turn)
    (call,) = calls_in(events)
    assert {e.id for e in events if isinstance(e, ToolCallStarted | ToolInputDelta)} == {call.id}
    assert turn.messages is not None
    blocks = turn.messages[-1].blocks
    assert [block.get("id") for block in blocks] == [None, call.id]
    assert not any(slot.parked for slot in pool.slots)
    second = query(pool, [result(call, "Rain.")], options, history=turn.messages)
    (next_call,), added = await calling(second)
    assert next_call.input == {"city": "Ulm"}
    told = Message("user", [result(call, "Rain.")])
    assert last_sent(model) == unified(as_sent(*turn.messages, told))
    third = query(pool, [result(next_call, "Sun.")], options, history=[*turn.messages, *added])
    assert (await third.finish()).text == "Wet."
    # A single call is no more than was allowed.
    assert third.warmth == ("live" if pool.limits.warm else "cold")


async def test_what_is_told_of_tokens_and_cost_adds_up(
    make_pool: MakePool, model: OfflineModel, tooled: Options
) -> None:
    spent: list[tuple[Usage, float]] = []
    for warm in (True, False):
        pool = make_pool(warm=warm)
        counts: dict[str, Any] = {"cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
        model.script(
            replace(looks("Bonn"), input_tokens=100, output_tokens=20, **counts),
            replace(looks("Ulm"), input_tokens=200, output_tokens=30, **counts),
            Reply("Wet.", input_tokens=400, output_tokens=50, **counts),
        )
        first = query(pool, "What now?", tooled)
        (bonn,), added = await calling(first)
        second = query(pool, [result(bonn, "Rain.")], tooled, history=added)
        (ulm,), more = await calling(second)
        third = query(pool, [result(ulm, "Sun.")], tooled, history=[*added, *more])
        ends = [await turn.finish() for turn in (first, second, third)]
        assert [end.usage for end in ends] == [Usage(100, 20), Usage(200, 30), Usage(400, 50)]
        costs = [end.cost_usd for end in ends]
        assert (costs[0] > 0) is not warm
        spent.append((sum((end.usage for end in ends), Usage()), sum(costs)))
    (tokens, cost), (cold_tokens, cold_cost) = spent
    assert tokens == cold_tokens
    assert cost == pytest.approx(cold_cost)


async def test_an_agent_calls_them_beside_its_own_in_messages_of_their_own(
    pool: Pool, model: OfflineModel, agent: Options, tooled: Options
) -> None:
    options = replace(agent, tools=tooled.tools)
    bash = ("Bash", {"command": "echo one-$((1+1))"})
    model.script(
        Reply("Both.", tools=[(WEATHER, {"city": "Bonn"}), bash]), looks("Bonn"), Reply("Wet.")
    )
    turn = query(pool, "What now?", options)
    events = await events_of(turn)
    own, made = calls_in(events)
    assert (own.name, own.client, made.name, made.client) == ("Bash", False, "weather", True)
    assert [e.id for e in events if isinstance(e, ToolCallStarted)] == [made.id]
    assert [e.id for e in events if isinstance(e, ToolResult)] == [own.id]
    refused, ran = messages_sent(model.main_requests[1])[-1][1]
    assert refused["is_error"]
    assert "beside other tools" in json.dumps(refused)
    assert "one-2" in json.dumps(ran)
    assert turn.messages is not None
    roles = [message.role for message in turn.messages]
    assert roles == ["user", "assistant", "user", "assistant"]
    assert "one-2" in json.dumps(turn.messages[2].blocks)
    second = query(pool, [result(made, "Rain.")], options, history=turn.messages)
    assert (await second.finish()).text == "Wet."
    assert second.warmth == ("live" if pool.limits.warm else "cold")
    told = json.dumps(model.main_requests[-1].messages)
    assert all(text in told for text in ("one-2", "beside other tools", "Rain."))


async def test_a_tool_with_a_handler_runs_beside_those_of_the_client(
    pool: Pool, model: OfflineModel, tooled: Options
) -> None:
    async def clock(given: dict[str, Any]) -> str:
        return "noon"

    tools = (*tooled.tools, Tool("clock", "Tells the time.", {"type": "object"}, clock))
    model.script(Reply(tools=[(client_tool("clock"), {})]), looks("Bonn"), Reply("Wet."))
    options = replace(tooled, tools=tools)
    turn = query(pool, "What now?", options)
    events = await events_of(turn)
    ran, made = calls_in(events)
    assert (ran.name, ran.client) == ("clock", False)
    assert (made.name, made.client) == ("weather", True)
    assert turn.messages is not None
    second = query(pool, [result(made, "Rain.")], options, history=turn.messages)
    assert (await second.finish()).text == "Wet."
    assert "noon" in json.dumps(model.main_requests[-1].messages)


async def test_what_does_not_fit_the_schema_is_the_clients_to_see(
    pool: Pool, model: OfflineModel, tooled: Options
) -> None:
    model.script(Reply(tools=[(WEATHER, {"town": 1})]), Reply("Wet."))
    (call,), messages = await calling(query(pool, "What now?", tooled))
    assert call.input == {"town": 1}
    results = [result(call, "city is missing", error=True)]
    assert (await query(pool, results, tooled, history=messages).finish()).text == "Wet."


# Conversations.


async def test_a_conversation_goes_on_in_its_process(
    pool: Pool, model: OfflineModel, tooled: Options
) -> None:
    conversation = Conversation(pool, tooled)
    model.script(looks("Bonn"), looks("Ulm"), Reply("Wet."), Reply("Bye."))
    (bonn,), first = await calling(conversation.send("What now?"))
    (ulm,), second = await calling(conversation.send([result(bonn, "Rain.")]))
    turn = conversation.send([result(ulm, "Sun.")])
    assert (await turn.finish()).text == "Wet."
    assert turn.warmth == ("live" if pool.limits.warm else "cold")
    assert turn.messages is not None
    await conversation.send("Thanks.").finish()
    assert len(model.main_requests) == 4
    history = [*first, *second, *turn.messages]
    assert last_sent(model) == unified(as_sent(*history, Message("user", "Thanks.")))
    assert conversation.turns == 4


@pytest.mark.parametrize("how", ["gives way", "dies", "changes its mind", "another model"])
async def test_a_conversation_goes_on_where_its_process_does_not(
    make_pool: MakePool, model: OfflineModel, tooled: Options, how: str
) -> None:
    pool = make_pool(warm=True, max_concurrent_sessions=1)
    conversation = Conversation(pool, tooled)
    model.script(Reply("Hi."))
    await conversation.send("Hello.").finish()
    model.script(looks("Bonn"))
    (call,), messages = await calling(conversation.send("What now?"))
    prompt: Any = [result(call, "Rain.")]
    if how == "gives way":
        await query(pool, "hello", tooled, owner="Ben").finish()
    elif how == "dies":
        (slot,) = pool.slots
        assert slot.process is not None
        slot.process.kill()
    elif how == "changes its mind":
        prompt = [*prompt, {"type": "text", "text": "Never mind."}]
    else:
        conversation.set_model("opus")
    model.script(Reply("Wet."), Reply("Bye."))
    turn = conversation.send(prompt)
    assert (await turn.finish()).text == "Wet."
    assert turn.warmth != "live"
    history = [*talk("Hello.", "Hi."), *messages, Message("user", prompt)]
    assert last_sent(model) == unified(as_sent(*history))
    await conversation.send("Thanks.").finish()
    history += talk("", "Wet.", "Thanks.")[1:]
    assert last_sent(model) == unified(as_sent(*history))


async def test_a_conversation_that_waits_is_closed_like_any_other(
    pool: Pool, model: OfflineModel, tooled: Options, home: Any
) -> None:
    conversation = Conversation(pool, tooled)
    model.script(looks("Bonn"))
    await calling(conversation.send("What now?"))
    await conversation.interrupt()
    await conversation.close()
    assert pool.pids() == []
    assert clis(home) == []
    assert len(model.main_requests) == 1


async def test_a_turn_that_goes_on_can_be_interrupted(
    pool: Pool, model: OfflineModel, tooled: Options
) -> None:
    conversation = Conversation(pool, tooled)
    model.script(looks("Bonn"), Reply("one two three", word_delay=30.0), Reply("Bye."))
    (call,), _ = await calling(conversation.send("What now?"))
    turn = conversation.send([result(call, "Rain.")])
    async for event in turn:
        if isinstance(event, TextDelta):
            break
    await turn.interrupt()
    assert turn.end is not None
    assert (turn.end.reason, turn.end.text) == ("interrupted", "one ")
    assert turn.messages is None
    assert (await conversation.send("Go on.").finish()).text == "Bye."
    assert "Rain." in json.dumps(model.main_requests[-1].messages)


async def test_calls_that_are_interrupted_are_not_waited_for(
    pool: Pool, model: OfflineModel, tooled: Options
) -> None:
    model.script(Reply("I look.", tools=[(WEATHER, {"city": "x" * 200})], word_delay=0.1))
    turn = query(pool, "What now?", tooled)
    async for event in turn:
        if isinstance(event, ToolInputDelta):
            break
    await turn.interrupt()
    assert turn.end is not None
    assert turn.end.reason == "interrupted"
    assert not any(slot.parked for slot in pool.slots)


def test_only_exactly_the_open_calls_results_are_taken() -> None:
    def told(call: str, content: Any = "x", **more: Any) -> dict[str, Any]:
        return {"type": "tool_result", "tool_use_id": call, "content": content, **more}

    assert results_for(["a", "b"], [told("b"), told("a")]) is not None
    assert list(results_for(["a", "b"], [told("b"), told("a")]) or {}) == ["b", "a"]
    for content in (
        "x",
        [],
        [told("a")],
        [told("a"), told("b"), told("b")],
        [told("a"), told("c")],
        [told("a"), told("b"), {"type": "text", "text": "x"}],
        [told("a"), told("b", "")],
        [told("a"), told("b", None)],
        [told("a"), told("b", [{"type": "image"}])],
        [told("a"), told("b", [])],
        [told("a", "x" * 30_000), told("b", "x" * 30_000)],
        [told("a"), told("b", [{"type": "text", "text": "x"}] * 2, is_error=True)],
    ):
        assert results_for(["a", "b"], content) is None
