"""What clients see of a session, however they come and go."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_ccapi.bridge import log as log_module
from jupyter_ccapi.bridge.client import Client
from jupyter_ccapi.bridge.log import Log
from jupyter_ccapi.bridge.session import Session

ABOUT = {"model": None, "cwd": "/", "permission_mode": "default", "source": "local"}


class Shelf:
    """Keeps logs as the store does, and takes its time."""

    def __init__(self) -> None:
        self.rows: dict[int, str] = {}
        self.reserved = 0
        self.mark = ""

    async def append(self, id: str, events: Sequence[tuple[int, str]], mark: str = "") -> None:
        """As ``store.sessions`` does."""
        await asyncio.sleep(0)
        self.rows.update(events)
        self.mark = mark or self.mark

    async def read(
        self, id: str, *, after: int, upto: int | None = None, limit: int = 1000
    ) -> list[tuple[int, str]]:
        """As ``store.sessions`` does."""
        await asyncio.sleep(0)
        most = max(self.rows, default=0) if upto is None else upto
        return [(one, self.rows[one]) for one in sorted(self.rows) if after < one <= most][:limit]

    async def reserve(self, id: str, upto: int) -> None:
        """As ``store.sessions`` does."""
        self.reserved = max(self.reserved, upto)


class Viewer:
    """A person who looks at a session, over any number of connections."""

    def __init__(self, session: Session) -> None:
        self.seen: list[dict[str, Any]] = []
        self.all: list[dict[str, Any]] = []
        self._news = asyncio.Event()
        self._session = session
        self._client: Client | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def last(self) -> int | None:
        """The last event that was seen."""
        return self.seen[-1]["event_id"] if self.seen else None

    async def connect(self) -> None:
        """Come, or come again."""
        await self.drop()
        self._client = self._session.join(self._take, self._closed, last_event_id=self.last)
        self._running = asyncio.create_task(self._client.run())

    async def drop(self) -> None:
        """Go, wherever the last message is on its way."""
        if self._client is not None and self._running is not None:
            self._client.leave()
            self._running.cancel()
            await asyncio.wait([self._running])
            self._client = self._running = None

    async def until(self, holds: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Wait until what was seen is so."""
        async with asyncio.timeout(20):
            while not holds(self.seen):
                self._news.clear()
                await self._news.wait()

    def _take(self, text: str) -> Awaitable[None]:
        event = json.loads(text)
        self.all.append(event)
        if "event_id" in event:
            self.seen.append(event)
        self._news.set()
        return asyncio.sleep(0)

    def _closed(self, code: int, reason: str) -> None:
        raise AssertionError(f"closed with {code}: {reason}")


def fold(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What is left to be seen: stream events of finished messages are part of those."""
    left: list[Mapping[str, Any]] = []
    for event in events:
        if event["type"] == "assistant":
            left = [one for one in left if one["type"] != "stream_event"]
        left.append(event)
    return left


def event_of(kind: str, number: int) -> dict[str, Any]:
    """Some event."""
    match kind:
        case "delta":
            delta = {"type": "content_block_delta", "delta": {"text": str(number)}}
            return {"type": "stream_event", "event": delta, "parent_tool_use_id": None}
        case "message":
            message = {"id": f"msg_{number}", "content": [{"type": "text", "text": "x" * 50}]}
            return {"type": "assistant", "message": message, "parent_tool_use_id": None}
        case "ask":
            request = {"tool_name": "Bash", "input": {}}
            return {"type": "permission_request", "request_id": f"{number}", "request": request}
    return {"type": "tool_progress", "tool_use_id": f"{number}", "status": "running"}


def session_on(shelf: Shelf) -> Session:
    """A session of which nothing was said yet."""

    async def vet(command: Mapping[str, Any]) -> Mapping[str, Any]:
        return command

    log = Log("s", shelf, news=lambda: session.wakes())
    session = Session("s", "me", log, ABOUT, created_at=0.0, vet=vet)
    return session


STEPS = st.lists(
    st.one_of(
        st.sampled_from(["delta", "delta", "message", "ask", "tool"]),
        st.tuples(st.sampled_from(["connect", "drop"]), st.integers(0, 2)),
        st.integers(1, 12),  # so many turns of the event loop
    ),
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_each_view_folded_is_the_log_folded(steps: list[Any]) -> None:
    """Whatever the interleaving of connects, drops and resumes, and however little of the log is in
    memory.
    """

    async def live() -> None:
        shelf = Shelf()
        session = session_on(shelf)
        viewers = [Viewer(session) for _ in range(3)]
        told: list[Mapping[str, Any]] = []
        for number, step in enumerate(steps):
            match step:
                case str(kind):
                    event = event_of(kind, number)
                    session.take(dict(event))
                    told.append({**event, "event_id": session.log.last_id})
                case ("connect", int(place)):
                    await viewers[place].connect()
                case ("drop", int(place)):
                    await viewers[place].drop()
                case int(times):
                    for _ in range(times):
                        await asyncio.sleep(0)
        viewers.append(late := Viewer(session))
        for viewer in viewers:
            await viewer.connect()
        wanted = fold(told)
        for viewer in viewers:
            await viewer.until(lambda seen: fold(seen) == wanted)
        assert late.seen == wanted  # it needs no folding: the log is
        for viewer in viewers:
            ids = [event["event_id"] for event in viewer.seen]
            assert ids == sorted(set(ids))
            await viewer.drop()
        await session.log.close()
        # And what is kept is what a later server would show.
        kept = [json.loads(text) for _, text in sorted(shelf.rows.items())]
        assert kept == [event for event in told if event["type"] != "stream_event"]

    few, gather = log_module._MOST_EVENTS, log_module._GATHER
    log_module._MOST_EVENTS, log_module._GATHER = 3, 0.0
    try:
        asyncio.run(live())
    finally:
        log_module._MOST_EVENTS, log_module._GATHER = few, gather


async def test_a_permission_request_that_waits_is_told_again_to_one_who_has_seen_it() -> None:
    """Without a number: it is no new event. One that is answered is not."""
    session = session_on(Shelf())
    session.take(event_of("ask", 1))
    session.take(event_of("ask", 2))
    session.take({"type": "permission_resolved", "request_id": "1", "behavior": "allow"})
    viewer = Viewer(session)
    viewer.seen.append({"event_id": 3})
    await viewer.connect()
    await viewer.until(lambda _: any(one["type"] == "status" for one in viewer.all))
    init, request, _ = viewer.all
    assert (init["type"], request["type"]) == ("session_init", "permission_request")
    assert request["request_id"] == "2"
    assert "event_id" not in request
    await viewer.drop()
    await session.log.close()


async def test_a_store_that_fails_loses_nothing_while_memory_lasts() -> None:
    """What could not be written is written when it can."""

    class Broken(Shelf):
        broken = True

        async def append(self, id: str, events: Sequence[tuple[int, str]], mark: str = "") -> None:
            from jupyter_ccapi.store import StoreUnavailable

            if self.broken:
                raise StoreUnavailable("The disk is full.")
            await super().append(id, events, mark)

    shelf = Broken()
    session = session_on(shelf)
    for number in range(2_000):
        session.take(event_of("tool", number))
    await asyncio.sleep(0.3)
    assert not shelf.rows
    seen: list[int] = []
    cursor = 0
    while entries := await session.log.after(cursor):
        seen += [entry.id for entry in entries]
        cursor = seen[-1]
    assert seen == list(range(1, 2_001))
    shelf.broken = False
    await session.log.close()
    assert len(shelf.rows) == 2_000
