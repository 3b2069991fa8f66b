"""Interrupts: at every stage of a turn, by every way, and what becomes of the conversation."""

import asyncio
from pathlib import Path

import pytest

from jupyter_ccapi.claude import (
    Conversation,
    Options,
    Pool,
    TextDelta,
    ToolCall,
    TurnEnd,
    TurnStarted,
    query,
)
from jupyter_ccapi.claude.errors import ConversationClosed, TurnTimeout
from jupyter_ccapi.demo import OfflineModel, Reply
from tests.claude.conftest import MakePool
from tests.claude.support import (
    FOREVER,
    asked,
    cli_starting,
    conversation_sent,
    events_of,
    eventually,
    gone,
    held,
    named,
    seen,
    stand_in,
    until,
)

# A scripted reply could go to the turn before, whose request may be on its way yet.
GO_ON = "go on [[say of course]]"


async def goes_on(conversation: Conversation, model: OfflineModel) -> list[tuple[str, str]]:
    """Send one more prompt, and return what the model was sent."""
    model.clear()
    assert (await conversation.send(GO_ON).finish()).text == "of course"
    return conversation_sent(model.main_requests[-1])


async def test_in_the_middle_of_the_answer(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True)
    conversation = Conversation(pool, chat)
    model.script(held("partly said"))
    turn = conversation.send("tell me")
    await until(turn, TextDelta)
    pids = pool.pids()
    await turn.interrupt()
    assert turn.end is not None
    assert (turn.end.reason, turn.end.text) == ("interrupted", "partly ")
    assert turn.end.usage.output_tokens > 0
    assert await events_of(turn) == [turn.end]
    await seen(model, lambda request: request.closed_early)
    sent = await goes_on(conversation, model)
    assert pool.pids() == pids
    assert sent[:2] == [("user", "tell me"), ("assistant", "partly")]


async def test_before_its_first_step(pool: Pool, model: OfflineModel, chat: Options) -> None:
    turn = query(pool, "hello", chat)
    await turn.interrupt()
    events = await events_of(turn)
    assert [type(event) for event in events] == [TurnEnd]
    assert turn.end is not None
    assert turn.end.reason == "interrupted"
    assert (pool.pids(), model.requests) == ([], [])


async def test_while_it_waits_for_a_process(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(max_concurrent_sessions=1)
    model.script(held())
    other = query(pool, "busy", chat)
    await until(other, TextDelta)
    conversation = Conversation(pool, chat)
    turn = conversation.send("waiting")
    await eventually(lambda: pool.waiting)
    await turn.interrupt()
    assert turn.end is not None
    assert (turn.end.reason, pool.waiting) == ("interrupted", 0)
    model.release()
    await other.finish()
    assert await goes_on(conversation, model) == [("user", GO_ON)]


async def test_while_it_waits_for_the_turn_before_it(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    conversation = Conversation(pool, chat)
    model.script(held("first answer"))
    first, second = conversation.send("first"), conversation.send("second")
    await until(first, TextDelta)
    await second.interrupt()
    assert second.end is not None
    assert (second.end.reason, first.end) == ("interrupted", None)
    model.release()
    assert (await first.finish()).text == "first answer"
    assert await goes_on(conversation, model) == [
        ("user", "first"),
        ("assistant", "first answer"),
        ("user", GO_ON),
    ]


async def test_while_its_process_starts(
    pool: Pool, model: OfflineModel, chat: Options, home: Path
) -> None:
    conversation = Conversation(pool, chat)
    turn = conversation.send("hello")
    process = await cli_starting(home)
    # Twice, and the second time from a task that does not wait for it.
    await asyncio.gather(turn.interrupt(), turn.interrupt())
    assert turn.end is not None
    assert turn.end.reason == "interrupted"
    await gone(process)
    assert await goes_on(conversation, model) == [("user", GO_ON)]


async def test_in_every_moment_around_the_prompt(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    conversation = Conversation(pool, chat)
    await conversation.send("warm").finish()
    for steps in range(12):
        # The prompt itself holds the answer back: a request that was on its way when its turn
        # ended may reach the model after that.
        turn = conversation.send(f"[[hold]] moment {steps}")
        for _ in range(steps):
            await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await turn.interrupt()
        assert turn.end is not None
        assert turn.end.reason == "interrupted"
    assert not any(request.finished for request in model.main_requests[1:])
    assert (await conversation.send("[[say of course]]").finish()).text == "of course"
    assert len(pool.pids()) == 1


async def test_as_soon_as_it_has_started(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True)
    conversation = Conversation(pool, chat)
    model.script(held())
    turn = conversation.send("hello")
    await until(turn, TurnStarted)
    pids = pool.pids()
    await turn.interrupt()
    assert turn.end is not None
    assert turn.end.reason == "interrupted"
    await goes_on(conversation, model)
    assert pool.pids() == pids


async def test_after_its_end_it_does_nothing(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    conversation = Conversation(pool, chat)
    model.script(Reply("all said"))
    turn = conversation.send("hello")
    end = await turn.finish()
    await turn.interrupt()
    await conversation.interrupt()
    assert (turn.end, turn.interrupted, end.reason) == (end, False, "completed")
    assert await goes_on(conversation, model) == [
        ("user", "hello"),
        ("assistant", "all said"),
        ("user", GO_ON),
    ]


async def test_leaving_the_block_interrupts(pool: Pool, model: OfflineModel, chat: Options) -> None:
    model.script(held())
    async with query(pool, "hello", chat) as turn:
        await until(turn, TextDelta)
    assert turn.end is not None
    assert turn.end.reason == "interrupted"
    await seen(model, lambda request: request.closed_early)


async def test_cancelling_the_reader_interrupts(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    conversation = Conversation(pool, chat)
    model.script(held())
    turn = conversation.send("hello")
    reading = asyncio.Event()

    async def read() -> None:
        async with turn:
            async for event in turn:
                if isinstance(event, TextDelta):
                    reading.set()

    reader = asyncio.create_task(read())
    await reading.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert turn.end is not None
    assert turn.end.reason == "interrupted"
    await seen(model, lambda request: request.closed_early)
    await goes_on(conversation, model)


async def test_who_waits_for_it_may_be_cancelled(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    model.script(held())
    turn = query(pool, "hello", chat)
    await until(turn, TextDelta)
    waiting = asyncio.create_task(turn.interrupt())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await turn.finish()).reason == "interrupted"


async def test_a_tool_that_runs_is_ended(
    pool: Pool, model: OfflineModel, agent: Options, home: Path
) -> None:
    conversation = Conversation(pool, agent)
    model.script(Reply(tools=[("Bash", {"command": FOREVER})]))
    turn = conversation.send("wait")
    await until(turn, ToolCall)
    await eventually(lambda: named(home, "perl"))
    await turn.interrupt()
    assert turn.end is not None
    assert turn.end.reason == "interrupted"
    await eventually(lambda: not named(home, "perl"))
    await goes_on(conversation, model)


@pytest.mark.parametrize("fault", ["stubborn", "deaf"])
async def test_a_cli_that_does_not_obey_is_killed(
    make_pool: MakePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr("jupyter_ccapi.claude.process._ANSWER_PATIENCE", 0.5)
    monkeypatch.setattr("jupyter_ccapi.claude.stopping._INTERRUPT_PAUSES", (0.1, 0.1))
    fault_now = [fault]
    pool = make_pool(find=lambda: stand_in(tmp_path, fault_now[0])())
    conversation = Conversation(pool)
    turn = conversation.send("hello")
    await until(turn, TextDelta)
    pids = pool.pids()
    await turn.interrupt()
    assert turn.end is not None
    # What it had said is not lost.
    assert (turn.end.reason, turn.end.text) == ("interrupted", "word")
    fault_now[0] = "none"
    assert (await conversation.send("go on").finish()).text == "word"
    assert pool.pids() != pids


async def test_a_cli_that_does_not_take_the_prompt_is_killed(
    make_pool: MakePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupyter_ccapi.claude.process._ANSWER_PATIENCE", 0.3)
    pool = make_pool(find=stand_in(tmp_path, "sleeps"), turn_timeout=0.3)
    with pytest.raises(TurnTimeout):
        await query(pool, "more than a pipe holds " * 10_000).finish()


async def test_closing_a_conversation_ends_its_turns_and_its_process(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    conversation = Conversation(pool, chat)
    model.script(held())
    running, waiting = conversation.send("hello"), conversation.send("and then")
    await until(running, TextDelta)
    await conversation.close()
    assert running.end is not None
    assert running.end.reason == "interrupted"
    with pytest.raises(ConversationClosed):
        await waiting.finish()
    with pytest.raises(ConversationClosed):
        conversation.send("too late")
    assert pool.pids() == []
    await conversation.close()


async def test_interrupting_a_conversation_interrupts_its_turn(
    pool: Pool, model: OfflineModel, chat: Options
) -> None:
    conversation = Conversation(pool, chat)
    model.script(held())
    turn = conversation.send("hello")
    await asked(model, "hello")
    await conversation.interrupt()
    assert turn.end is not None
    assert turn.end.reason == "interrupted"
