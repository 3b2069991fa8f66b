"""The most that the model may write at once, and answers that it cuts off."""

from dataclasses import replace

import pytest

from jupyter_ccapi.claude import (
    Conversation,
    Message,
    Options,
    Tool,
    ToolCall,
    TurnEnd,
    client_tool,
    query,
)
from jupyter_ccapi.demo import OfflineModel, Reply
from tests.claude.conftest import ALL, MakePool
from tests.claude.support import as_sent, events_of, eventually, messages_sent, spare_for, talk

# No model answers at once; this one does not either.
CUT = Reply("one two three", stop_reason="max_tokens", word_delay=0.1)


def asked_for(model: OfflineModel) -> list[int]:
    """How much the model was allowed to write, request by request."""
    return [request.body["max_tokens"] for request in model.main_requests]


@pytest.mark.parametrize("able", [True, False])
@pytest.mark.parametrize("warm", [True, False])
async def test_it_reaches_the_model_and_holds_for_its_turn_alone(
    make_pool: MakePool, model: OfflineModel, chat: Options, able: bool, warm: bool
) -> None:
    pool = make_pool(warm=warm, able=replace(ALL, set_bounds=able))
    warmths = []
    history: list[Message] = []
    for most in (None, 77, 77, 88, None):
        turn = query(pool, "hello", replace(chat, max_tokens=most), history=history)
        await turn.finish()
        await eventually(lambda: not warm or pool.capabilities.seed)
        assert turn.messages is not None
        history = [*history, *turn.messages]
        warmths.append(turn.warmth)
    first, *rest = asked_for(model)
    assert first > 1000
    assert rest == [77, 77, 88, first]
    if warm and able:
        assert warmths == ["cold", *["live"] * 4]
    elif warm:
        assert warmths[2] == "live"
        assert warmths[1] == "cold"


async def test_a_spare_takes_any(make_pool: MakePool, model: OfflineModel, chat: Options) -> None:
    pool = make_pool(warm=True, spares=1)
    await query(pool, "hello", chat, owner="A").finish()
    await spare_for(pool)
    turn = query(pool, "hello", replace(chat, max_tokens=99), owner="B")
    await turn.finish()
    assert turn.warmth == "spare"
    assert asked_for(model)[-1] == 99


@pytest.mark.parametrize("able", [True, False])
async def test_an_answer_that_is_cut_off_is_asked_for_once(
    make_pool: MakePool, model: OfflineModel, chat: Options, able: bool
) -> None:
    pool = make_pool(able=replace(ALL, set_bounds=able))
    options = replace(chat, max_tokens=3)
    for number in range(5):
        model.clear()
        model.script(CUT, *[Reply("never")] * 3)
        turn = query(pool, "Count.", options, history=talk("Hello.", str(number)))
        end = await turn.finish()
        assert (end.reason, end.stop_reason) == ("completed", "max_tokens")
        assert end.text == "one two three"
        assert end.usage.output_tokens > 0
        assert turn.messages == [Message("user", "Count."), Message("assistant", turn_text(end))]
        # Without that ability the CLI is killed, which may come too late.
        assert len(model.requests) == 1 or not able
        model.clear()
        history = [*talk("Hello.", str(number)), *turn.messages]
        assert (await query(pool, "Go on.", chat, history=history).finish()).reason == "completed"
        assert messages_sent(model.main_requests[-1]) == as_sent(
            *history, Message("user", "Go on.")
        )


def turn_text(end: TurnEnd) -> list[dict[str, str]]:
    """An answer as a block."""
    return [{"type": "text", "text": end.text}]


async def test_without_a_bound_of_ones_own_it_is_asked_for_once_too(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool()
    # The CLI's own bound ends none but long answers.
    model.script(replace(CUT, word_delay=0.6), *[Reply("never")] * 3)
    end = await query(pool, "Count.", chat).finish()
    assert (end.reason, end.stop_reason, end.text) == ("completed", "max_tokens", "one two three")
    await pool.close()
    assert len(model.requests) == 1


async def test_a_conversation_goes_on_after_an_answer_that_was_cut_off(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool()
    conversation = Conversation(pool, replace(chat, max_tokens=3))
    model.script(CUT, Reply("four"))
    assert (await conversation.send("Count.").finish()).stop_reason == "max_tokens"
    assert (await conversation.send("Go on.").finish()).text == "four"
    assert len(model.requests) == 2
    assert messages_sent(model.main_requests[-1]) == as_sent(
        *talk("Count.", "one two three", "Go on.")
    )


async def test_tools_and_a_bound_go_together(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    async def clock(given: object) -> str:
        return "noon"

    pool = make_pool()
    schema = {"type": "object"}
    tools = (Tool("clock", "Time.", schema, clock), Tool("weather", "Weather.", schema))
    options = replace(chat, tools=tools, max_tokens=50)
    model.script(
        *[Reply(tools=[(client_tool("clock"), {})])] * 3,
        Reply(tools=[(client_tool("weather"), {})]),
        CUT,
        Reply("never"),
    )
    turn = query(pool, "What now?", options)
    events = await events_of(turn)
    assert turn.end is not None
    assert turn.end.reason == "tool_calls"
    assert turn.messages is not None
    call = next(e.id for e in events if isinstance(e, ToolCall) and e.client)
    results = [{"type": "tool_result", "tool_use_id": call, "content": "Rain."}]
    end = await query(pool, results, options, history=turn.messages).finish()
    assert (end.stop_reason, end.text) == ("max_tokens", "one two three")
    assert len(model.requests) == 5
    assert asked_for(model) == [50] * 5


async def test_a_structured_answer_that_is_rejected_is_asked_for_again(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    schema = {"type": "object", "properties": {"why": {"type": "string"}}, "required": ["why"]}
    pool = make_pool()
    wrong = Reply(tools=[("StructuredOutput", {"why": 1})])
    model.script(wrong, wrong, Reply(tools=[("StructuredOutput", {"why": "rain"})]))
    end = await query(pool, "Your mood?", replace(chat, schema=schema, max_tokens=99)).finish()
    assert end.structured_output == {"why": "rain"}
    assert asked_for(model) == [99] * 3


async def test_a_structured_answer_that_is_cut_off_is_asked_for_once(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    schema = {"type": "object", "properties": {"why": {"type": "string"}}, "required": ["why"]}
    pool = make_pool()
    tools = [("StructuredOutput", {"why": "rain"})]
    model.script(replace(CUT, text="", tools=tools), Reply("never"), Reply("never"))
    end = await query(pool, "Your mood?", replace(chat, schema=schema, max_tokens=9)).finish()
    assert (end.reason, end.stop_reason) == ("completed", "max_tokens")
    assert end.text == '{"why": "rain"}'
    await pool.close()
    assert len(model.requests) == 1
