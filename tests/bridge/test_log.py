"""What a log gives out, keeps, and says that it has kept."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from jupyter_ccapi.bridge import log as log_module
from jupyter_ccapi.bridge.log import Log
from jupyter_ccapi.store import StoreUnavailable
from tests.bridge.test_views import Shelf

DELTA: dict[str, Any] = {"type": "stream_event", "event": {}, "parent_tool_use_id": None}
TOOL = {"type": "tool_progress", "tool_use_id": "1"}
MESSAGE: dict[str, Any] = {"type": "assistant", "message": {}, "parent_tool_use_id": None}


class Gated(Shelf):
    """It writes, and reserves numbers, when it is let; or fails at that."""

    def __init__(self) -> None:
        super().__init__()
        self.may_write, self.may_reserve = asyncio.Event(), asyncio.Event()
        self.asked = asyncio.Event()
        self.fails = False

    async def append(self, id: str, events: Sequence[tuple[int, str]], mark: str = "") -> None:
        """As ``store.sessions`` does."""
        await self._pass(self.may_write)
        await super().append(id, events, mark)

    async def reserve(self, id: str, upto: int) -> None:
        """As ``store.sessions`` does."""
        self.asked.set()
        await self._pass(self.may_reserve)
        await super().reserve(id, upto)

    async def _pass(self, gate: asyncio.Event) -> None:
        await gate.wait()
        if self.fails:
            raise StoreUnavailable("The disk is full.")


class News:
    """Counts calls, and waits for them."""

    def __init__(self) -> None:
        self.count = 0
        self._came = asyncio.Event()

    def __call__(self) -> None:
        self.count += 1
        self._came.set()

    async def came(self) -> None:
        """Wait for the next one."""
        async with asyncio.timeout(20):
            await self._came.wait()
        self._came.clear()


def ids(entries: Sequence[Any]) -> list[int]:
    """Their numbers."""
    return [entry.id for entry in entries]


@pytest.mark.parametrize(
    "odd",
    [{"x": float("nan")}, {"x": [float("inf")]}, {("a", 1): 2}],
    ids=["NaN", "infinity", "a key that is none"],
)
async def test_what_is_not_json_gets_no_number(odd: dict[Any, Any]) -> None:
    log = Log("s", Shelf())
    log.append(TOOL)
    with pytest.raises(ValueError, match="The event 'result' is not JSON"):
        log.append({"type": "result", **odd})
    assert (log.last_id, log.append(TOOL).id) == (1, 2)
    await log.close()


async def test_numbers_are_shown_when_the_store_knows_that_they_are_taken() -> None:
    shelf, news = Gated(), News()
    shelf.may_write.set()
    log = Log("s", shelf, last_id=100, reserved=400, news=news)
    for _ in range(500):
        log.append(DELTA)
    assert ids(log.here(100)) == ids(await log.after(100)) == list(range(101, 401))
    assert (log.shown, log.last_id) == (400, 600)
    # Nothing is to be written, and it is asked for at once.
    async with asyncio.timeout(0.09):
        await shelf.asked.wait()
    assert news.count == 0
    shelf.may_reserve.set()
    await news.came()
    assert shelf.reserved >= 600
    assert ids(log.here(100)) == list(range(101, 601))
    await log.close()


async def test_more_numbers_are_reserved_before_there_are_none() -> None:
    shelf = Gated()
    log = Log("s", shelf, reserved=1000)
    for _ in range(500):
        log.append(DELTA)
    await asyncio.sleep(0)
    assert not shelf.asked.is_set()
    log.append(DELTA)
    async with asyncio.timeout(20):
        await shelf.asked.wait()
    assert log.shown == log.last_id == 501
    shelf.may_reserve.set()
    await log.close()
    assert shelf.reserved == 1501


async def test_where_the_store_fails_all_is_shown_all_the_same() -> None:
    shelf, news = Gated(), News()
    shelf.fails = True
    log = Log("s", shelf, news=news)
    log.append(TOOL)
    assert log.here(0) == []
    shelf.may_reserve.set()
    await news.came()
    log.append(TOOL)
    assert ids(log.here(0)) == [1, 2]
    assert log.settled == 0
    shelf.fails = False
    shelf.may_write.set()
    await log.close()
    assert sorted(shelf.rows) == [1, 2]


async def test_it_says_how_much_was_written_and_the_store_gets_the_mark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_module, "_BATCH", 2)
    shelf, written = Gated(), News()
    shelf.may_reserve.set()
    log = Log("s", shelf)
    log.on_written = written
    log.append(DELTA, "run:1")
    assert log.settled == 1
    log.append(TOOL, "run:2")
    log.append({"type": "source_lost", "reason": ""})
    log.append(TOOL, "run:3")
    log.append(DELTA, "run:4")
    assert (log.settled, shelf.mark) == (1, "")
    marks = []
    shelf.may_write.set()
    log.on_written = lambda: marks.append((shelf.mark, log.settled))
    await log.close()
    # The second has none, and is written with the first; stream events never are.
    assert marks == [("run:2", 3), ("run:3", 5)]
    assert sorted(shelf.rows) == [2, 3, 4]


async def test_a_flood_that_the_store_is_slower_than_is_not_lost() -> None:
    shelf = Gated()
    shelf.may_reserve.set()
    log = Log("s", shelf)
    for _ in range(20_000):
        log.append(TOOL)
    shelf.may_write.set()
    await log.close()
    assert list(shelf.rows) == list(range(1, 20_001))


@pytest.mark.parametrize("bound", ["_MOST_UNWRITTEN", "_MOST_UNWRITTEN_BYTES"])
async def test_what_is_lost_from_memory_before_it_was_written_does_not_count_as_kept(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(log_module, bound, 20 if bound == "_MOST_UNWRITTEN" else 2000)
    shelf = Gated()
    shelf.may_reserve.set()
    log = Log("s", shelf)
    for _ in range(100):
        log.append(TOOL)
    assert 10 <= len(log._entries) <= 40
    assert log.settled == 0
    shelf.may_write.set()
    await log.close()
    assert log.settled == 100


async def test_the_end_of_a_turn_lets_go_of_stream_events() -> None:
    shelf = Shelf()
    log = Log("s", shelf, reserved=1000)
    for _ in range(5):
        log.append(DELTA)
    log.append({"type": "result"})
    assert ids(await log.after(0)) == [6]
    log.append(DELTA)
    assert ids(await log.after(0)) == [6, 7]
    await log.close()


@pytest.mark.parametrize("bound", ["_MOST_STREAMING", "_MOST_STREAMING_BYTES"])
async def test_of_a_message_without_end_the_oldest_is_let_go(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(log_module, bound, 10 if bound == "_MOST_STREAMING" else 800)
    log = Log("s", Shelf(), reserved=10_000)
    for _ in range(500):
        log.append(DELTA)
    left = ids(await log.after(0))
    assert 5 <= len(left) <= 10
    assert left[-1] == 500
    # Counted anew for the next message.
    log.append(MESSAGE)
    for _ in range(len(left)):
        log.append(DELTA)
    assert len(await log.after(0)) == 1 + len(left)
    await log.close()


async def test_a_message_that_is_not_finished_does_not_keep_the_rest_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And is still shown in its place."""
    monkeypatch.setattr(log_module, "_MOST_EVENTS", 10)
    monkeypatch.setattr(log_module, "_GATHER", 0.0)
    shelf = Shelf()
    written = News()
    log = Log("s", shelf, reserved=10_000)
    log.on_written = written
    log.append(DELTA)
    for _ in range(60):
        log.append(TOOL)
    log.append(DELTA)
    while len(shelf.rows) < 60:
        await written.came()
    assert len(log._entries) == 10
    seen: list[int] = []
    while found := await log.after(seen[-1] if seen else 0, limit=7):
        assert len(found) <= 7
        seen += ids(found)
    assert seen == list(range(1, 63))
    assert [json.loads(one.text)["type"] for one in await log.after(0, limit=1)] == ["stream_event"]
    await log.close()
