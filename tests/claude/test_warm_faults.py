"""Warm processes that die, hang or refuse, at every stage; clients that leave, servers that end."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from jupyter_ccapi.claude import (
    CLI,
    Conversation,
    Message,
    Options,
    Pool,
    TextDelta,
    Turn,
    TurnStarted,
    find_cli,
    query,
)
from jupyter_ccapi.claude.errors import ConversationClosed, ProcessDied
from jupyter_ccapi.claude.history import Held
from jupyter_ccapi.claude.limits import PROCESS_MEMORY
from jupyter_ccapi.claude.memory import Memory
from jupyter_ccapi.claude.process import Process
from jupyter_ccapi.claude.slots import Slot, Wanted, Warmth
from jupyter_ccapi.demo import OfflineModel, Reply
from tests.claude.conftest import ALL, MakePool
from tests.claude.support import (
    PATIENCE,
    clis,
    conversation_sent,
    eventually,
    gone,
    held,
    stand_in,
    until,
)

FIRST = [Message("user", "first"), Message("assistant", "first answer")]
OTHER = [Message("user", "I am Ann."), Message("assistant", "Hi Ann.")]


@dataclass(frozen=True)
class Asked:
    """A request that a warm process of this kind serves, where "first" was asked before."""

    warmth: Warmth
    history: tuple[Message, ...] = ()
    system_prompt: str | None = None

    def turn(self, pool: Pool, chat: Options) -> Turn:
        """Send it."""
        options = replace(chat, system_prompt=self.system_prompt)
        return query(pool, "second", options, history=self.history)

    @property
    def messages(self) -> list[tuple[str, str]]:
        """What the model is to be sent."""
        said = [*self.history, Message("user", "second")]
        return [(message.role, str(message.content)) for message in said]


#: Requests by what they wait for when their process says nothing any more.
STUCK = {
    "binding": Asked("spare", system_prompt="Be brief."),
    "seeding": Asked("bound", tuple(OTHER)),
    "recycling": Asked("recycled"),
    "prompt of a bound spare": Asked("bound"),
    "prompt of a live process": Asked("live", tuple(FIRST)),
}
stuck = pytest.mark.parametrize("stage", STUCK)
#: Those that have got as far as their prompt.
PROMPTED = {stage for stage in STUCK if stage.startswith("prompt")}
#: Requests by their warmth.
WARM = {asked.warmth: asked for asked in STUCK.values()}


async def resting(pool: Pool, warmth: Warmth) -> Slot:
    """Wait for a process that rests and can serve that way."""

    def found() -> list[Slot]:
        if warmth in ("live", "recycled"):
            return [slot for slot in pool.slots if slot.state == "idle" and slot.loose]
        bound = warmth == "bound"
        return [slot for slot in pool.slots if slot.state == "spare" and slot.bound == bound]

    await eventually(found)
    return found()[0]


async def probed(pool: Pool) -> None:
    """Wait until it is known what the CLI can do."""
    await eventually(lambda: pool.capabilities == ALL)


async def warmed(
    make_pool: MakePool, model: OfflineModel, chat: Options, asked: Asked, **limits: float
) -> tuple[Pool, Slot]:
    """A pool in which "first" was asked, and the place whose process will serve this request."""
    spares = 2 if asked.warmth in ("bound", "spare") else 0
    pool = make_pool(warm=True, spares=spares, **limits)
    model.script(Reply("first answer"))
    await query(pool, "first", chat).finish()
    await probed(pool)
    return pool, await resting(pool, asked.warmth)


def process_of(slot: Slot) -> psutil.Process:
    """The CLI in a place."""
    assert slot.process is not None
    return psutil.Process(slot.process.pid)


async def under_way(slot: Slot) -> None:
    """Wait until the process of a claimed slot was told something, be it only to bind."""

    def told() -> bool:
        process = slot.process
        if slot.state != "busy" or process is None:
            return False
        return process.held is None or (slot.warmth == "spare" and process.initialized)

    await eventually(told)


def running(home: Path) -> set[int]:
    """The process ids of our own CLIs; of those that these start for a moment, none."""
    children = {child.pid for child in psutil.Process().children()}
    return {cli.pid for cli in clis(home)} & children


async def serves_on(pool: Pool, model: OfflineModel, chat: Options, home: Path) -> None:
    """See that the next request is served, that no place is lost, and no process unknown."""
    model.clear()
    model.script(Reply("well"))
    async with asyncio.timeout(PATIENCE):
        assert (await query(pool, "and now", chat).finish()).text == "well"
    assert [conversation_sent(request) for request in model.main_requests] == [
        [("user", "and now")]
    ]
    assert (pool.waiting, pool.count("busy")) == (0, 0)
    await eventually(lambda: running(home) == set(pool.pids()))
    assert len(pool.slots) <= pool.limits.max_concurrent_sessions


async def test_killed_while_it_waits_it_is_reaped_at_once(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool = make_pool(warm=True, spares=2)
    await query(pool, "first", chat).finish()
    # One that may go on, one spare for its owner, one for anybody.
    await eventually(lambda: [pool.count("idle"), pool.count("spare")] == [1, 2])
    waiting = sorted(pool.slots, key=lambda slot: (slot.state, slot.bound))
    while waiting:
        process_of(waiting.pop()).kill()
        # Without anybody asking.
        await eventually(lambda: set(pool.slots) == set(waiting))
    await serves_on(pool, model, chat, home)


async def test_killed_while_its_conversation_rests_it_is_reaped_at_once(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool = make_pool(warm=True)
    conversation = Conversation(pool, chat)
    model.script(Reply("first answer"), Reply("second answer"))
    await conversation.send("first").finish()
    (slot,) = pool.slots
    process_of(slot).kill()
    await eventually(lambda: not pool.slots)
    await conversation.send("second").finish()
    assert conversation_sent(model.main_requests[-1]) == WARM["live"].messages
    await serves_on(pool, model, chat, home)


async def test_spares_killed_while_they_start_are_not_missed(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool = make_pool(warm=True, spares=2)
    await query(pool, "first", chat).finish()
    (first,) = (slot for slot in pool.slots if slot.state == "idle")
    spared, killed = process_of(first).pid, set[int]()

    def both_killed() -> bool:
        for pid in running(home) - {spared} - killed:
            psutil.Process(pid).kill()
            killed.add(pid)
        return len(killed) == 2

    await eventually(both_killed)
    await eventually(lambda: set(pool.slots) == {first})
    await serves_on(pool, model, chat, home)
    await resting(pool, "bound")


@stuck
async def test_killed_at_the_claim_a_new_process_answers(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path, stage: str
) -> None:
    asked = STUCK[stage]
    pool, slot = await warmed(make_pool, model, chat, asked)
    process = process_of(slot)
    process.suspend()
    model.clear()
    model.script(Reply("second answer"))
    turn = asked.turn(pool, chat)
    await under_way(slot)
    process.kill()
    async with asyncio.timeout(PATIENCE):
        assert (await turn.finish()).text == "second answer"
    assert [conversation_sent(request) for request in model.main_requests] == [asked.messages]
    assert pool.warm_failures == (stage not in PROMPTED)
    if stage not in PROMPTED:
        assert turn.warmth == "cold"
    await gone(process)
    await serves_on(pool, model, chat, home)


@stuck
async def test_hung_at_the_claim_it_is_not_waited_for(
    make_pool: MakePool,
    model: OfflineModel,
    chat: Options,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    asked = STUCK[stage]
    pool, slot = await warmed(make_pool, model, chat, asked, start_timeout=5)
    process = process_of(slot)
    process.suspend()
    monkeypatch.setattr("jupyter_ccapi.claude.process._ANSWER_PATIENCE", 1.0)
    monkeypatch.setattr("jupyter_ccapi.claude.transport._EXIT_GRACE", 0.3)
    model.clear()
    model.script(Reply("second answer"))
    async with asyncio.timeout(PATIENCE):
        assert (await asked.turn(pool, chat).finish()).text == "second answer"
    assert [conversation_sent(request) for request in model.main_requests] == [asked.messages]
    await gone(process)
    monkeypatch.undo()
    await serves_on(pool, model, chat, home)


async def test_killed_while_it_takes_a_conversation_over(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool = make_pool(warm=True, spares=2)
    conversation = Conversation(pool, chat)
    model.script(Reply("first answer"), Reply("second answer"))
    await conversation.send("first").finish()
    slot = await resting(pool, "spare")
    process = process_of(slot)
    process.suspend()
    conversation.options = replace(chat, system_prompt="Be brief.")
    turn = conversation.send("second")
    await under_way(slot)
    process.kill()
    assert (await turn.finish()).text == "second answer"
    assert conversation_sent(model.main_requests[-1]) == [
        ("user", "first"),
        ("assistant", "first answer"),
        ("user", "second"),
    ]
    assert "Be brief." in model.main_requests[-1].system_text
    await serves_on(pool, model, chat, home)


async def test_two_that_die_under_one_request_are_one_too_few_to_lose_it(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    # As when the kernel runs out of memory, or somebody kills everything that is named claude.
    pool = make_pool(warm=True, spares=0)
    model.script(held("first answer"), held("first answer"))
    turns = [query(pool, "first", chat) for _ in range(2)]
    for turn in turns:
        await until(turn, TextDelta)
    model.release()
    for turn in turns:
        await turn.finish()
    await probed(pool)
    slots = list(pool.slots)
    processes = [process_of(slot) for slot in slots]
    for process in processes:
        process.suspend()
    model.clear()
    model.script(Reply("second answer"))
    turn = query(pool, "second", chat, history=FIRST)
    for _ in slots:
        await eventually(lambda: pool.count("busy"))
        (slot,) = (slot for slot in pool.slots if slot.state == "busy")
        if slot in slots:
            await under_way(slot)
            process_of(slot).kill()
            await slot.gone.wait()
    async with asyncio.timeout(PATIENCE):
        assert (await turn.finish()).text == "second answer"
    assert [conversation_sent(request) for request in model.main_requests] == [
        WARM["live"].messages
    ]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    await gone(*processes)
    await serves_on(pool, model, chat, home)


@pytest.mark.parametrize("warmth", WARM)
async def test_killed_at_the_first_word_nothing_is_asked_twice(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path, warmth: Warmth
) -> None:
    pool, slot = await warmed(make_pool, model, chat, WARM[warmth])
    model.clear()
    model.script(held())
    turn = WARM[warmth].turn(pool, chat)
    await until(turn, TextDelta)
    assert turn.warmth == warmth
    process = process_of(slot)
    process.kill()
    with pytest.raises(ProcessDied):
        await turn.finish()
    await slot.gone.wait()
    assert not process.is_running()
    assert slot not in pool.slots
    assert [conversation_sent(request) for request in model.main_requests] == [
        WARM[warmth].messages
    ]
    assert pool.warm_failures == 0
    await serves_on(pool, model, chat, home)


async def test_killed_in_mid_stream_and_once_its_turn_has_begun(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool = make_pool(warm=True)
    for kind, reply in ((TurnStarted, held()), (TextDelta, Reply("word " * 500, word_delay=0.02))):
        model.script(Reply("first answer"))
        await query(pool, "first", chat).finish()
        model.clear()
        model.script(reply)
        turn = WARM["live"].turn(pool, chat)
        for _ in range(3 if kind is TextDelta else 1):
            await until(turn, kind)
        assert turn.warmth == "live"
        (slot,) = pool.slots
        process_of(slot).kill()
        with pytest.raises(ProcessDied):
            await turn.finish()
        await slot.gone.wait()
        assert len(model.main_requests) <= 1
        await serves_on(pool, model, chat, home)


async def test_one_that_does_not_cut_its_history_is_not_trusted(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool, slot = await warmed(make_pool, model, chat, WARM["recycled"])
    process = process_of(slot)
    assert slot.process is not None
    assert slot.process.held is not None
    # The CLI refuses to go back to a prompt that it does not know.
    slot.process.held = [Held(one.message, str(uuid4())) for one in slot.process.held]
    model.clear()
    model.script(Reply("second answer"))
    turn = WARM["recycled"].turn(pool, chat)
    assert (await turn.finish()).text == "second answer"
    assert (turn.warmth, pool.warm_failures) == ("cold", 1)
    assert [conversation_sent(request) for request in model.main_requests] == [
        WARM["recycled"].messages
    ]
    await gone(process)
    await serves_on(pool, model, chat, home)


@pytest.mark.parametrize("fault", ["forgets nothing", "hears no control", "takes no history"])
async def test_a_cli_that_lost_what_its_probe_found_is_not_trusted(
    make_pool: MakePool, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr("jupyter_ccapi.claude.process._ANSWER_PATIENCE", 0.5)
    pool = make_pool(find=stand_in(tmp_path, fault), able=ALL, warm=True)
    history = [Message("user", "hello"), Message("assistant", "word")]
    await query(pool, "hello").finish()
    if fault == "takes no history":
        history += OTHER
    else:
        history = OTHER
    await probed(pool)
    pids = pool.pids()
    turn = query(pool, "and now", history=history)
    async with asyncio.timeout(PATIENCE):
        assert (await turn.finish()).text == "word"
    assert (turn.warmth, pool.warm_failures) == ("cold", 1)
    assert not set(pids) & set(pool.pids())
    assert running(home) == set(pool.pids())


async def test_spares_that_do_not_start_harm_nobody(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path, tmp_path: Path
) -> None:
    # Spares know no system prompt yet.
    log = tmp_path / "starts"
    path = tmp_path / "claude-without-spares"
    path.write_text(
        f'#!/bin/sh\necho "$@" >> {log}\n'
        f'case "$*" in *--system-prompt-file*) exec {find_cli().path} "$@";; esac\nexit 3\n'
    )
    path.chmod(0o755)

    def spares_started() -> int:
        lines = log.read_text().splitlines()
        return sum("--system-prompt-file" not in line for line in lines)

    pool = make_pool(find=lambda: CLI(path, "configured"), able=ALL, warm=True, spares=2)
    options = replace(chat, system_prompt="Be brief.")
    for number in range(1, 5):
        before = spares_started() if number > 1 else 0
        model.script(Reply(f"answer {number}"))
        end = await query(pool, f"question {number}", options).finish()
        assert end.text == f"answer {number}"
        await eventually(lambda before=before: spares_started() > before)  # type: ignore[misc]
        # One for each kind, then not again until somebody asks.
        await eventually(lambda: all(slot.state == "idle" for slot in pool.slots))
        assert spares_started() <= 2 * number
    assert pool.warm_failures == 0
    await eventually(lambda: running(home) == set(pool.pids()))


def begun(monkeypatch: pytest.MonkeyPatch, name: str) -> asyncio.Event:
    """An event that says that a process has begun to do this."""
    event = asyncio.Event()
    method: Callable[..., Coroutine[Any, Any, None]] = getattr(Process, name)

    async def noted(*given: Any) -> None:
        event.set()
        await method(*given)

    monkeypatch.setattr(Process, name, noted)
    return event


async def test_a_spare_that_is_given_up_while_it_is_primed_leaves_nothing(
    make_pool: MakePool, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    priming = begun(monkeypatch, "prime")
    pool = make_pool(find=stand_in(tmp_path, "takes no history"), able=ALL, warm=True, spares=2)
    await query(pool, "hello").finish()
    async with asyncio.timeout(PATIENCE):
        await priming.wait()
        (slot,) = (slot for slot in pool.slots if slot.state == "starting")
        pool.release(slot)
        await slot.gone.wait()
    assert running(home) == set(pool.pids())


async def test_a_client_that_leaves_while_a_new_process_takes_its_tool_call_leaves_nothing(
    make_pool: MakePool, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding = begun(monkeypatch, "hold")
    pool = make_pool(find=stand_in(tmp_path, "takes no history"), able=ALL, warm=True)
    call = {"type": "tool_use", "id": "toolu_1", "name": "mcp__client__clock", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "noon"}
    history = [Message("user", "What time is it?"), Message("assistant", [call])]
    turn = query(pool, [result], history=history)
    async with asyncio.timeout(PATIENCE):
        await holding.wait()
        (slot,) = pool.slots
        await turn.interrupt()
        await slot.gone.wait()
    assert clis(home) == []


async def test_without_memory_those_there_serve_and_with_it_more_are_started(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    available = 0
    pool = make_pool(warm=True, memory=lambda: Memory(1 << 40, available))
    await query(pool, "question 0", chat).finish()
    await probed(pool)
    model.script(*(held(f"answer {number}") for number in range(1, 5)))
    turns = [query(pool, f"question {number}", chat) for number in range(1, 5)]
    await until(turns[0], TextDelta)
    assert (pool.count("busy"), pool.waiting, len(running(home))) == (1, 3, 1)
    model.release()
    await until(turns[1], TextDelta)
    assert (pool.count("busy"), pool.waiting, len(running(home))) == (1, 2, 1)
    assert turns[1].warmth == "recycled"
    available = 2 * PROCESS_MEMORY
    for turn in turns[2:]:
        await until(turn, TextDelta)
    assert (pool.count("busy"), pool.waiting, len(running(home))) == (3, 0, 3)
    available = 0
    model.release()
    # The last two asked the model at once.
    assert sorted([(await turn.finish()).text for turn in turns]) == [
        f"answer {number}" for number in range(1, 5)
    ]
    # Another owner is served too: an idle process gives way.
    model.script(Reply("answer 5"))
    assert (await query(pool, "question 5", chat, owner="B").finish()).text == "answer 5"
    await serves_on(pool, model, chat, home)


def many(pool: Pool, chat: Options) -> tuple[list[Turn], list[str], Counter[str]]:
    """A hundred requests at once of three owners: the same prompt again and again, prompts of
    their own, histories that go on. With the answer that each is to have, and how often the model
    is to be sent what.
    """
    brief = replace(chat, system_prompt="Be brief.")
    turns, answers, sent = [], [], Counter[str]()
    for number in range(100):
        # One has a single request, which comes last.
        owner = "C" if number == 99 else "B" if number % 10 == 9 else "A"
        name = f"{owner} again" if number % 3 == 0 else f"{owner}{number}"
        history = []
        if number % 3 == 1:
            history = [Message("user", f"I am {name}."), Message("assistant", f"Hi {name}.")]
        prompt = f"{name} asks [[say answer to {name}]]"
        options = brief if owner == "B" or number % 25 == 0 else chat
        turns.append(query(pool, prompt, options, owner=owner, history=history))
        answers.append(f"answer to {name}")
        said = [(message.role, str(message.content)) for message in history]
        sent[repr([*said, ("user", prompt)])] += 1
    return turns, answers, sent


async def test_a_hundred_requests_at_once_with_four_processes(
    make_pool: MakePool,
    model: OfflineModel,
    chat: Options,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = make_pool(warm=True, spares=2, max_queue=100, queue_deadline=100)
    served: list[str] = []
    claim = pool.claim

    async def noted(owner: str, wanted: Wanted) -> Slot:
        slot = await claim(owner, wanted)
        served.append(owner)
        return slot

    monkeypatch.setattr(pool, "claim", noted)
    turns, answers, sent = many(pool, chat)
    finished = asyncio.gather(*(turn.finish() for turn in turns))
    alive = []
    while not finished.done():
        alive.append(len(running(home)))
        assert len(pool.slots) <= 4
        await asyncio.wait([finished], timeout=0.05)
    assert [end.text for end in await finished] == answers
    assert Counter(repr(conversation_sent(request)) for request in model.main_requests) == sent
    assert max(alive) <= 4
    assert (served.count("A"), served.count("B"), served.count("C")) == (90, 9, 1)
    # The other two wait for a process to end and one to start, not for the flood.
    assert served.index("C") < 50
    assert max(index for index, owner in enumerate(served) if owner == "B") < 80
    assert pool.warm_failures == 0
    await pool.close()
    assert (clis(home), list(pool.slots)) == ([], [])


MOMENTS = (
    "waiting",
    "binding",
    "seeding",
    "recycling",
    "prompt of a live process",
    "first word",
    "mid-stream",
)


async def brought_to(
    moment: str, make_pool: MakePool, model: OfflineModel, chat: Options
) -> tuple[Pool, Turn, Slot | None]:
    """A turn at this moment, and the place that it was given, if it was."""
    if moment == "waiting":
        pool = make_pool(warm=True, max_concurrent_sessions=1)
        model.script(held())
        await until(query(pool, "before", chat), TextDelta)
        turn = query(pool, "second", chat)
        await eventually(lambda: pool.waiting)
        return pool, turn, None
    stage = {"first word": "recycling", "mid-stream": "prompt of a live process"}.get(moment)
    asked = STUCK[stage or moment]
    pool, slot = await warmed(make_pool, model, chat, asked)
    if stage:
        model.script(held() if moment == "first word" else Reply("word " * 500, word_delay=0.02))
        turn = asked.turn(pool, chat)
        for _ in range(1 if moment == "first word" else 3):
            await until(turn, TextDelta)
    else:
        process_of(slot).suspend()
        turn = asked.turn(pool, chat)
        await under_way(slot)
    assert turn.warmth in (None, slot.warmth)
    return pool, turn, slot


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have those that hang waited for less long, from the call on."""

    def begin() -> None:
        monkeypatch.setattr("jupyter_ccapi.claude.process._ANSWER_PATIENCE", 1.0)
        monkeypatch.setattr("jupyter_ccapi.claude.transport._EXIT_GRACE", 0.3)

    return begin


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_client_that_leaves_gives_its_place_back_and_no_doubtful_process(
    make_pool: MakePool,
    model: OfflineModel,
    chat: Options,
    home: Path,
    impatient: Callable[[], None],
    moment: str,
) -> None:
    pool, turn, slot = await brought_to(moment, make_pool, model, chat)
    processes = clis(home) if slot is None else [process_of(slot)]
    impatient()
    async with asyncio.timeout(PATIENCE):
        await turn.interrupt()
    assert turn.end is not None
    assert turn.end.reason == "interrupted"
    if slot is None:
        # It had none; the one that it waited for goes on.
        assert model.release() == 1
    else:
        await slot.gone.wait()
        assert slot not in pool.slots
        await gone(*processes)
    await eventually(lambda: not pool.count("busy"))
    assert pool.warm_failures == 0
    await serves_on(pool, model, chat, home)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_pool_that_is_closed_leaves_nothing_and_says_so(
    make_pool: MakePool,
    model: OfflineModel,
    chat: Options,
    home: Path,
    impatient: Callable[[], None],
    moment: str,
) -> None:
    pool, turn, _ = await brought_to(moment, make_pool, model, chat)
    impatient()
    async with asyncio.timeout(PATIENCE):
        await pool.close()
        with pytest.raises(ConversationClosed):
            await turn.finish()
    assert (clis(home), list(pool.slots), pool.waiting) == ([], [], 0)
    with pytest.raises(ConversationClosed):
        await query(pool, "too late", chat).finish()
    assert clis(home) == []


@pytest.mark.parametrize("primed", [False, True])
async def test_a_pool_that_is_closed_while_spares_start_leaves_nothing(
    make_pool: MakePool, tmp_path: Path, home: Path, primed: bool
) -> None:
    pool = make_pool(
        find=stand_in(tmp_path, "takes no history" if primed else "forgets nothing"),
        able=ALL,
        warm=True,
        spares=2,
    )
    await query(pool, "hello").finish()
    await eventually(lambda: pool.count("starting"))
    if primed:
        await eventually(lambda: len(clis(home)) == 3)
    async with asyncio.timeout(PATIENCE):
        await pool.close()
    assert (clis(home), list(pool.slots)) == ([], [])


async def test_a_turn_that_never_got_a_place_ends_nobody_elses(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool = make_pool(warm=True, max_concurrent_sessions=1)
    kept = Conversation(pool, chat, persist=False)
    await kept.send("first").finish()
    await probed(pool)
    # Its process serves another one of its owner now.
    model.script(held("said to the end"))
    other = query(pool, "other", chat)
    await until(other, TextDelta)
    assert other.warmth == "recycled"
    turn = kept.send("second")
    await eventually(lambda: pool.waiting)
    await turn.interrupt()
    await kept.close()
    model.release()
    assert (await other.finish()).text == "said to the end"
    await serves_on(pool, model, chat, home)


@contextmanager
def programs(
    model: OfflineModel, home: Path, *stages: str
) -> Iterator[list["subprocess.Popen[str]"]]:
    """Programs that have come to these stages; see `a_warm_program.py`."""
    variables = {**os.environ, **model.environment(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    started: list[subprocess.Popen[str]] = []
    try:
        for stage in stages:
            words = ["-m", "tests.claude.a_warm_program", stage, str(home / "project")]
            started.append(
                subprocess.Popen(
                    [sys.executable, *words], env=variables, stdout=subprocess.PIPE, text=True
                )
            )
        for program in started:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
        yield started
    finally:
        for program in started:
            program.kill()
            program.communicate()


def test_spares_do_not_outlive_a_program_that_is_killed(model: OfflineModel, home: Path) -> None:
    with programs(model, home, "spare", "starting") as started:
        everything = [
            process
            for program in started
            for process in psutil.Process(program.pid).children(recursive=True)
        ]
        # The reapers, the processes that serve, two spares of the first, one or two of the other.
        assert len(everything) >= 2 + 2 + 2 + 1
        # One that cannot listen.
        psutil.Process(clis(home)[0].pid).suspend()
        for program in started:
            program.send_signal(signal.SIGKILL)
            program.wait(PATIENCE)
        assert not psutil.wait_procs(everything, PATIENCE)[1]
        assert clis(home) == []
