"""Turns: what streams, in which order, what it cost, and that one follows the other."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from jupyter_ccapi.claude import (
    Conversation,
    Options,
    Pool,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    TurnEnd,
    TurnStarted,
    query,
)
from jupyter_ccapi.claude.errors import InvalidOption, ModelError
from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from tests.claude.conftest import MakePool
from tests.claude.support import (
    PATIENCE,
    asked,
    conversation_sent,
    events_of,
    eventually,
    held,
    seen,
    until,
)

COUNTED = Reply(
    "yes",
    input_tokens=10,
    output_tokens=20,
    cache_read_input_tokens=300,
    cache_creation_input_tokens=4000,
)


async def test_text_streams_as_the_model_makes_it(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    model.script(held("one two three"))
    conversation = Conversation(pool, chat)
    turn = conversation.send("count")
    started = await until(turn, TurnStarted)
    first = await until(turn, TextDelta)
    request = await asked(model, "count")
    assert (request.held, request.finished) == (True, False)
    assert first.text == "one "
    model.release()
    rest = await events_of(turn)
    assert [e.text for e in rest if isinstance(e, TextDelta)] == ["two ", "three"]
    end = rest[-1]
    assert isinstance(end, TurnEnd)
    assert (end.text, end.reason, end.stop_reason) == ("one two three", "completed", "end_turn")
    assert started.conversation_id == conversation.id
    assert started.model == end.model == request.body["model"]
    assert started.model.startswith("claude-")


async def test_thinking_is_no_part_of_the_answer(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    model.script(Reply("forty two", thinking="let me see"))
    events = await events_of(query(pool, "why?", chat))
    assert "".join(e.text for e in events if isinstance(e, ThinkingDelta)) == "let me see"
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "forty two"
    assert isinstance(events[-1], TurnEnd)
    assert events[-1].text == "forty two"


async def test_usage_is_what_the_model_reported(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    model.script(COUNTED)
    usage = (await query(pool, "count", chat).finish()).usage
    assert (usage.input_tokens, usage.output_tokens) == (10, 20)
    assert (usage.cache_read_tokens, usage.cache_creation_tokens) == (300, 4000)
    assert (usage.prompt_tokens, usage.total_tokens) == (4310, 4330)


async def test_cost_is_that_of_one_turn_in_one_process_or_several(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    conversation = Conversation(pool, chat)
    model.script(*[COUNTED] * 4)
    costs = [(await conversation.send(word).finish()).cost_usd for word in ("a", "b")]
    # A CLI that takes a conversation up again goes on counting from what it had counted.
    process = psutil.Process(pool.pids()[0])
    process.terminate()
    # It takes a moment to exit, in which it would still take a prompt up.
    await asyncio.to_thread(psutil.wait_procs, [process], PATIENCE)
    costs.append((await conversation.send("c").finish()).cost_usd)
    psutil.Process(pool.pids()[0]).kill()
    costs.append((await conversation.send("d").finish()).cost_usd)
    assert costs[0] > 0
    assert costs == pytest.approx([costs[0]] * 4)
    assert conversation.cost_usd == pytest.approx(4 * costs[0])
    assert conversation.usage.total_tokens == 4 * 4330
    assert conversation.turns == 4


async def test_the_next_turn_sends_the_earlier_ones_in_the_same_process(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True)
    conversation = Conversation(pool, chat)
    model.script(Reply("Hi Ann."), Reply("Ann."))
    await conversation.send("I am Ann.").finish()
    pids = pool.pids()
    await conversation.send("Who am I?").finish()
    assert pool.pids() == pids
    assert conversation_sent(model.main_requests[-1]) == [
        ("user", "I am Ann."),
        ("assistant", "Hi Ann."),
        ("user", "Who am I?"),
    ]


async def test_turns_of_one_conversation_run_one_after_another(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    conversation = Conversation(pool, chat)
    model.script(held("first answer"), Reply("second answer"))
    first, second = conversation.send("first"), conversation.send("second")
    await until(first, TextDelta)
    assert [r.user_text for r in model.main_requests] == ["first"]
    model.release()
    assert (await second.finish()).text == "second answer"
    assert first.end is not None
    assert conversation_sent(model.main_requests[-1]) == [
        ("user", "first"),
        ("assistant", "first answer"),
        ("user", "second"),
    ]


async def test_the_model_is_switched_without_a_new_process(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True)
    conversation = Conversation(pool, chat)
    await conversation.send("one").finish()
    await eventually(lambda: pool.capabilities.rewind_conversation)
    pids = pool.pids()
    conversation.set_model("claude-haiku-4-5-20251001")
    started = await until(turn := conversation.send("two"), TurnStarted)
    await turn.finish()
    assert pool.pids() == pids
    assert started.model == "claude-haiku-4-5-20251001"
    models = [request.body["model"] for request in model.main_requests]
    assert models[0] != models[1] == "claude-haiku-4-5-20251001"


async def test_an_answer_that_was_not_streamed_comes_all_the_same(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    # Where streaming is not found the CLI asks for the whole message at once.
    model.script(Reply(error=ApiError(404)), Reply("all at once", thinking="hm"))
    events = await events_of(query(pool, "go", chat))
    assert [request.stream for request in model.main_requests] == [True, False]
    assert [e.text for e in events if isinstance(e, TextDelta)] == ["all at once"]
    assert [e.text for e in events if isinstance(e, ThinkingDelta)] == ["hm"]
    assert isinstance(events[-1], TurnEnd)
    assert (events[-1].text, events[-1].stop_reason) == ("all at once", "end_turn")


async def test_an_answer_that_breaks_off_is_an_error_and_not_begun_again(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    model.script(Reply("one two three four", drop=True, word_delay=0.1), Reply("all of it again"))
    conversation = Conversation(pool, chat)
    turn = conversation.send("count")
    assert (await until(turn, TextDelta)).text == "one "
    with pytest.raises(ModelError) as failure:
        await turn.finish()
    assert failure.value.status is None
    assert len(model.main_requests) == 1
    assert (await conversation.send("again").finish()).text == "all of it again"


async def test_an_answer_that_the_model_was_asked_to_continue_is_one_text(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    model.script(Reply("one two ", error=ApiError(529)), Reply("three four"))
    end = await query(pool, "count", chat).finish()
    assert end.text == "one two three four"


async def test_texts_around_a_tool_call_are_paragraphs(
    pool: Pool, model: OfflineModel, agent: Options
) -> None:
    model.script(Reply("before", tools=[("Bash", {"command": "echo hi"})]), Reply("after"))
    events = await events_of(query(pool, "go", agent))
    assert isinstance(events[-1], TurnEnd)
    assert events[-1].text == "before\n\nafter"
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == events[-1].text


async def test_what_a_background_command_sets_off_is_not_the_answer_to_the_next_prompt(
    pool: Pool, model: OfflineModel, agent: Options, home: Path
) -> None:
    gate = home / "gate"
    command = {
        "command": f"while [ ! -e {gate} ]; do perl -e 'select(undef, undef, undef, 0.05)'; done"
    }
    model.script(
        Reply(tools=[("Bash", {**command, "run_in_background": True})]),
        Reply("started it"),
        Reply("it has ended"),
        Reply("the answer"),
        Reply("the next answer"),
    )
    conversation = Conversation(pool, agent)
    assert (await conversation.send("start").finish()).text == "started it"
    gate.touch()
    await seen(model, lambda _: len(model.main_requests) == 3 and model.main_requests[2].finished)
    events = await events_of(conversation.send("question"))
    assert isinstance(events[0], TurnStarted)
    assert isinstance(events[-1], TurnEnd)
    assert events[-1].text == "the answer"
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "the answer"
    assert (await conversation.send("next").finish()).text == "the next answer"


async def test_images_reach_the_model(pool: Pool, model: OfflineModel, chat: Options) -> None:
    pixel = (
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJg"
        "gg=="
    )
    source = {"type": "base64", "media_type": "image/png", "data": pixel}
    blocks: Any = [{"type": "text", "text": "look"}, {"type": "image", "source": source}]
    await query(pool, blocks, chat).finish()
    request = model.main_requests[-1]
    assert (request.user_text, request.images) == ("look", 1)


@pytest.mark.parametrize("prompt", ["", " \n", [], [{"type": "text", "text": " "}]])
async def test_an_empty_prompt_is_refused(pool: Pool, prompt: Any, chat: Options) -> None:
    with pytest.raises(InvalidOption, match="empty"):
        Conversation(pool, chat).send(prompt)


async def test_a_prompt_that_is_no_json_is_refused_and_harms_nothing(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    conversation = Conversation(pool, chat)
    with pytest.raises(InvalidOption, match="cannot be sent"):
        await conversation.send([{"type": "text", "text": "x", "more": object()}]).finish()
    model.script(Reply("fine"))
    assert (await conversation.send("hello").finish()).text == "fine"


async def test_a_turn_runs_to_its_end_with_nobody_reading(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    model.script(Reply("to the end"))
    turn = query(pool, "go", chat)
    assert (await turn.finish()).text == "to the end"
    assert turn.end is await turn.finish()
    # Its events are still there for whoever comes late.
    events = await events_of(turn)
    assert isinstance(events[0], TurnStarted)
    assert events[-1] is turn.end


async def test_two_readers_of_one_turn_both_see_its_end(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    model.script(Reply("one two three"))
    turn = query(pool, "go", chat)
    both = await asyncio.wait_for(asyncio.gather(events_of(turn), events_of(turn)), 30)
    assert [isinstance(events[-1], TurnEnd) for events in both].count(True) >= 1
    assert len([e for events in both for e in events if isinstance(e, TextDelta)]) == 3


async def test_a_system_prompt_of_any_length_arrives_and_nobody_else_sees_it(
    pool: Pool,
    model: OfflineModel,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    secret = "Speak like a pirate. " * 10_000  # more than a word of a command line holds
    for mode in ("chat", "agent"):
        model.script(held("Arr."))
        options = Options(mode=mode, cwd=home / "project", system_prompt=secret)
        turn = query(pool, "hello", options)
        await until(turn, TextDelta)
        assert "pirate" not in " ".join(psutil.Process(pool.pids()[0]).cmdline())
        assert list((tmp_path / "tmp").glob("ccapi-*")) == []
        model.release()
        await turn.finish()
        assert secret.strip() in model.main_requests[-1].system_text


async def test_a_tool_call_is_told_when_its_input_is_complete(
    pool: Pool, model: OfflineModel, agent: Options
) -> None:
    model.script(Reply(tools=[("Bash", {"command": "echo hi"})]), Reply("done"))
    call = await until(turn := query(pool, "go", agent), ToolCall)
    assert (call.name, call.input) == ("Bash", {"command": "echo hi"})
    await turn.finish()


async def test_a_limit_of_the_caller_ends_the_turn_and_is_named(
    pool: Pool, model: OfflineModel, home: Path
) -> None:
    options = Options(
        mode="agent", cwd=home / "project", sdk={"allowed_tools": ["Bash"], "max_turns": 1}
    )
    model.script(Reply("first", tools=[("Bash", {"command": "echo hi"})]), Reply("never"))
    end = await query(pool, "go", options).finish()
    assert (end.reason, end.text) == ("max_turns", "first")
