"""The pool: how many processes there are, whose turn it is, and what becomes of the rest."""

import asyncio
from pathlib import Path

import psutil
import pytest

from jupyter_ccapi.claude import Conversation, Options, Pool, TextDelta, Turn, query
from jupyter_ccapi.claude.errors import (
    Busy,
    CLIStartFailed,
    ConversationClosed,
    ProcessDied,
    QueueFull,
    QueueTimeout,
)
from jupyter_ccapi.claude.history import Session
from jupyter_ccapi.claude.slots import Wanted
from jupyter_ccapi.demo import OfflineModel, Reply
from tests.claude.conftest import MakePool
from tests.claude.support import (
    PATIENCE,
    asked,
    cli_starting,
    clis,
    conversation_sent,
    eventually,
    gone,
    held,
    stand_in,
    started,
    until,
)

ANYTHING = Wanted(Options(), Session("any"), None)


async def test_the_limit_holds_however_many_ask(make_pool: MakePool, tmp_path: Path) -> None:
    log = tmp_path / "log"
    pool = make_pool(
        find=stand_in(tmp_path, "counted"),
        environment={"STAND_IN_FILE": str(log)},
        max_concurrent_sessions=2,
    )
    turns = [query(pool, f"question {number}", owner=str(number % 3)) for number in range(20)]
    await asyncio.gather(*(turn.finish() for turn in turns))
    await pool.close()
    alive = most = 0
    for sign in log.read_text():
        alive += 1 if sign == "+" else -1
        most = max(most, alive)
    assert log.read_text().count("+") == 20
    assert alive == 0
    assert most <= 2


async def test_real_processes_stay_within_the_limit(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool = make_pool(max_concurrent_sessions=2)
    counts = []
    turns = [query(pool, f"question {number}", chat) for number in range(5)]
    answers = asyncio.gather(*(turn.finish() for turn in turns))
    while not answers.done():
        counts.append(len(started(home)))
        await asyncio.wait([answers], timeout=0.02)
    assert max(counts) == 2
    assert len(await answers) == len(model.main_requests) == 5


def noting(order: list[str], name: str, turn: Turn) -> "asyncio.Task[None]":
    """Note the name when the turn has ended."""

    async def note() -> None:
        await turn.finish()
        order.append(name)

    return asyncio.create_task(note())


@pytest.mark.parametrize("processes", [1, 2])
async def test_one_request_of_another_owner_is_served_before_the_rest_of_a_flood(
    make_pool: MakePool, tmp_path: Path, processes: int
) -> None:
    pool = make_pool(find=stand_in(tmp_path), max_concurrent_sessions=processes)
    order: list[str] = []
    flood = [noting(order, "A", query(pool, "hello", owner="A")) for _ in range(8)]
    await eventually(lambda: pool.waiting == 8 - processes)
    other = noting(order, "B", query(pool, "hello", owner="B"))
    await asyncio.gather(*flood, other)
    assert "B" in order[: 2 * processes]


async def test_owners_are_served_in_turn(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(find=stand_in(tmp_path), max_concurrent_sessions=1)
    order: list[str] = []
    turns = [noting(order, owner, query(pool, "hello", owner=owner)) for owner in "AAABBBC"]
    await asyncio.gather(*turns)
    assert order == ["A", "B", "C", "A", "B", "A", "B"]


async def test_a_full_queue_refuses_and_says_when_to_come_again(
    make_pool: MakePool, tmp_path: Path
) -> None:
    pool = make_pool(find=stand_in(tmp_path, "endless"), max_concurrent_sessions=1, max_queue=1)
    running, waiting = query(pool, "hello"), query(pool, "hello")
    await until(running, TextDelta)
    with pytest.raises(QueueFull) as failure:
        await query(pool, "hello").finish()
    assert failure.value.retry_after > 0
    await running.interrupt()
    await until(waiting, TextDelta)
    await waiting.interrupt()


async def test_without_a_queue_free_and_idle_places_are_taken_all_the_same(
    make_pool: MakePool, tmp_path: Path
) -> None:
    pool = make_pool(find=stand_in(tmp_path), max_concurrent_sessions=1, max_queue=0)
    for _ in range(2):
        await Conversation(pool).send("hello").finish()
    assert len(pool.pids()) == 1


async def test_waiting_has_an_end(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(
        find=stand_in(tmp_path, "endless"), max_concurrent_sessions=1, queue_deadline=0.2
    )
    running = query(pool, "hello")
    await until(running, TextDelta)
    with pytest.raises(QueueTimeout) as failure:
        await query(pool, "hello").finish()
    assert isinstance(failure.value, Busy)
    assert failure.value.retry_after > 0
    assert pool.waiting == 0


async def test_who_stops_waiting_leaves_the_queue(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(find=stand_in(tmp_path, "endless"), max_concurrent_sessions=1)
    running = query(pool, "hello")
    await until(running, TextDelta)
    waiting = [asyncio.create_task(pool.claim("", ANYTHING)) for _ in range(3)]
    await eventually(lambda: pool.waiting == 3)
    waiting[0].cancel()
    waiting[2].cancel()
    await asyncio.wait([waiting[0], waiting[2]])
    assert pool.waiting == 1
    await running.interrupt()
    slot = await waiting[1]
    # Cancelled in the moment when it was served: the place is not lost.
    late = asyncio.create_task(pool.claim("", ANYTHING))
    await eventually(lambda: pool.waiting == 1)
    pool.release(slot)
    await slot.gone.wait()
    assert pool.waiting == 0
    assert late.cancel()
    await asyncio.wait([late])
    await eventually(lambda: pool.count("busy") == pool.count("closing") == 0)


async def test_the_oldest_idle_process_gives_way_and_its_conversation_comes_back(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True, max_concurrent_sessions=2)
    first, second, third = (Conversation(pool, chat) for _ in range(3))
    model.script(*(Reply(f"answer {number}") for number in range(1, 6)))
    await first.send("prompt 1").finish()
    first_pids = set(pool.pids())
    await second.send("prompt 2").finish()
    second_pids = set(pool.pids()) - first_pids
    await third.send("prompt 3").finish()
    assert second_pids < set(pool.pids())
    assert not first_pids & set(pool.pids())
    await first.send("prompt 4").finish()
    assert len(pool.pids()) == 2
    assert conversation_sent(model.main_requests[-1]) == [
        ("user", "prompt 1"),
        ("assistant", "answer 1"),
        ("user", "prompt 4"),
    ]
    assert not second_pids & set(pool.pids())


async def test_an_idle_process_ends_after_its_time(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool = make_pool(warm=True, idle_timeout=0.1)
    conversation = Conversation(pool, chat)
    model.script(Reply("answer 1"), Reply("answer 2"))
    await conversation.send("prompt 1").finish()
    await eventually(lambda: pool.count("idle") == pool.count("closing") == 0)
    assert clis(home) == []
    await conversation.send("prompt 2").finish()
    assert conversation_sent(model.main_requests[-1])[:2] == [
        ("user", "prompt 1"),
        ("assistant", "answer 1"),
    ]


async def test_no_process_serves_two_owners(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(warm=True, find=stand_in(tmp_path), max_concurrent_sessions=1)
    seen: dict[str, set[int]] = {"A": set(), "B": set()}
    conversations = {owner: Conversation(pool, owner=owner) for owner in seen}
    for owner in "AABBA":
        await conversations[owner].send("hello").finish()
        seen[owner].update(pool.pids())
    assert [len(seen["A"]), len(seen["B"])] == [2, 1]
    assert not seen["A"] & seen["B"]


async def test_closing_ends_everything(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool = make_pool(max_concurrent_sessions=2)
    idle = Conversation(pool, chat)
    await idle.send("hello").finish()
    model.script(held())
    running = query(pool, "run", chat)
    await until(running, TextDelta)
    model.script(held())
    starting = query(pool, "start", chat)
    waiting = query(pool, "wait", chat)
    await eventually(lambda: pool.waiting)
    await asyncio.gather(pool.close(), pool.close())
    assert clis(home) == []
    for turn in (running, starting, waiting):
        with pytest.raises(ConversationClosed):
            await turn.finish()
    with pytest.raises(ConversationClosed):
        await idle.send("again").finish()
    with pytest.raises(ConversationClosed):
        await query(pool, "again").finish()
    await pool.close()


async def test_closing_while_a_process_starts(
    pool: Pool, model: OfflineModel, chat: Options, home: Path
) -> None:
    turn = query(pool, "hello", chat)
    process = await cli_starting(home)
    await pool.close()
    assert not process.is_running()
    with pytest.raises(ConversationClosed):
        await turn.finish()
    assert psutil.Process().children() == []


async def test_closing_does_not_wait_for_a_start(
    make_pool: MakePool, tmp_path: Path, home: Path
) -> None:
    pool = make_pool(find=stand_in(tmp_path, "silent"), start_timeout=600)
    turn = query(pool, "hello")
    await cli_starting(home)
    async with asyncio.timeout(PATIENCE):
        await pool.close()
    with pytest.raises(ConversationClosed):
        await turn.finish()


async def test_closing_does_not_wait_for_a_turn(
    make_pool: MakePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupyter_ccapi.claude.transport._EXIT_GRACE", 60)
    pool = make_pool(find=stand_in(tmp_path, "busy"))
    turn = query(pool, "hello")
    await until(turn, TextDelta)
    async with asyncio.timeout(PATIENCE):
        await pool.close()
    with pytest.raises(ConversationClosed):
        await turn.finish()


async def test_closing_in_the_moment_when_a_place_was_given(
    make_pool: MakePool, chat: Options, home: Path
) -> None:
    pool = make_pool(max_concurrent_sessions=1)
    slot = await pool.claim("", ANYTHING)
    turn = query(pool, "hello", chat)
    await eventually(lambda: pool.waiting == 1)
    pool.release(slot)
    await slot.gone.wait()
    assert pool.count("busy") == 1
    await pool.close()
    with pytest.raises(ConversationClosed):
        await turn.finish()
    assert clis(home) == []


async def test_closing_goes_on_when_nobody_waits_for_it(
    pool: Pool, model: OfflineModel, chat: Options, home: Path
) -> None:
    model.script(held())
    turn = query(pool, "hello", chat)
    await until(turn, TextDelta)
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    await gone(*clis(home))
    with pytest.raises(ConversationClosed):
        await turn.finish()


async def test_a_failed_start_gives_its_place_back(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(find=stand_in(tmp_path, "exits"), max_concurrent_sessions=1, queue_deadline=20)
    for _ in range(3):
        with pytest.raises(CLIStartFailed):
            await query(pool, "hello").finish()
    assert pool.pids() == []


async def test_a_dead_process_gives_its_place_back(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(max_concurrent_sessions=1)
    model.script(held())
    turn = query(pool, "hello", chat)
    await until(turn, TextDelta)
    psutil.Process(pool.pids()[0]).kill()
    with pytest.raises(ProcessDied):
        await turn.finish()
    model.script(Reply("fine"))
    assert (await query(pool, "hello", chat).finish()).text == "fine"


async def test_models_are_asked_for_once(
    pool: Pool, model: OfflineModel, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims: list[str] = []
    claim = pool.claim

    def counted(owner: str, wanted: Wanted) -> object:
        claims.append(owner)
        return claim(owner, wanted)

    monkeypatch.setattr(pool, "claim", counted)
    first, second = await asyncio.gather(pool.ask_for_models("A"), pool.ask_for_models("B"))
    assert first == second == await pool.ask_for_models("C")
    assert {"sonnet", "haiku"} <= {entry["value"] for entry in first}
    assert all(entry["resolvedModel"].startswith("claude-") for entry in first)
    assert claims == ["A"]
    assert model.main_requests == []


async def test_nothing_is_started_before_it_is_needed(pool: Pool, chat: Options) -> None:
    Conversation(pool, chat)
    assert psutil.Process().children() == []
    await pool.close()
    assert psutil.Process().children() == []


async def test_the_counts_say_what_is_going_on(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True, max_concurrent_sessions=1)
    model.script(held())
    conversation = Conversation(pool, chat)
    turn = conversation.send("hello")
    await asked(model, "hello")
    waiting = query(pool, "and me", chat)
    await eventually(lambda: pool.waiting == 1)
    assert (pool.count("busy"), pool.count("idle")) == (1, 0)
    await waiting.interrupt()
    model.release()
    await turn.finish()
    assert (pool.count("busy"), pool.count("idle"), pool.waiting) == (0, 1, 0)
