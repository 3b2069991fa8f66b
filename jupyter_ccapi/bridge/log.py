"""The log of a session: what happened in it, numbered, for clients that come and go.

The stream events of a message are folded into it once it is finished: whoever reads the log later
gets the message in their place. The newest events are in memory, all are written to the store.
"""

import asyncio
import heapq
import json
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from jupyter_ccapi.store import StoreError

logger = logging.getLogger(__name__)

# So much is kept in memory once it is written down: events, and bytes of them.
_MOST_EVENTS = 1_000
_MOST_BYTES = 4 * 1024 * 1024
# And so much that is not written down yet, before the oldest are lost: the store may be slower than
# a flood, or down.
_MOST_UNWRITTEN = 100_000
_MOST_UNWRITTEN_BYTES = 32 * 1024 * 1024
# And so much of stream events whose message is not finished: that follows whole.
_MOST_STREAMING = 20_000
_MOST_STREAMING_BYTES = 16 * 1024 * 1024
# What comes within so many seconds is written together.
_GATHER = 0.1
_BATCH = 500
_AGAIN = 5.0
# Numbers are taken from the store by the thousand: after a crash none is given twice.
_NUMBERS = 1_000


class Keep(Protocol):
    """Where logs are written down; see ``store.sessions``."""

    async def append(self, id: str, events: Sequence[tuple[int, str]], mark: str = "") -> None:
        """Add events, which may be there already; with them the mark of the last, if it has one."""

    async def read(
        self, id: str, *, after: int, upto: int | None = None, limit: int = 1000
    ) -> list[tuple[int, str]]:
        """Events in their order."""

    async def reserve(self, id: str, upto: int) -> None:
        """Numbers up to this one are taken."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event with its number, as clients get it."""

    id: int
    text: str


class Log:
    """The events of one session, numbered from 1 and upwards, with gaps. ``last_id`` is the newest,
    ``size`` the bytes of all that came since it was opened.

    Clients are shown only numbers that the store knows to be taken, or another server might give
    them again after a crash; up to ``reserved`` it knows that already. ``news`` is called when more
    may be shown without anything new, ``on_written`` when ``settled`` has become greater so.
    """

    def __init__(
        self,
        session_id: str,
        keep: Keep,
        *,
        last_id: int = 0,
        reserved: int = 0,
        news: Callable[[], None] = lambda: None,
    ) -> None:
        self.last_id = last_id
        self.size = 0
        self.session_id = session_id
        self.on_written: Callable[[], None] = lambda: None
        self._keep = keep
        self._news = news
        self._reserved = max(last_id, reserved)
        self._reserving: asyncio.Task[None] | None = None
        # The store cannot be written: better a number that is given twice than nothing shown.
        self._unreserved = False
        # All with a greater number are here, or folded.
        self._floor = last_id
        self._entries: deque[Entry] = deque()
        self._held = 0
        self._streaming: deque[Entry] = deque()
        self._streamed = 0
        self._unwritten: deque[tuple[Entry, str]] = deque()
        self._written = self._settled = last_id
        self._writing: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()
        self._complained = False

    @property
    def shown(self) -> int:
        """The newest number that clients may be shown."""
        if self._unreserved:
            return self.last_id
        return min(self.last_id, max(self._reserved, self._written))

    @property
    def settled(self) -> int:
        """No event up to this number waits to be written, nor was any lost since it could not be.
        Stream events never are written.
        """
        return self._settled if self._unwritten else self.last_id

    def append(self, event: Mapping[str, Any], mark: str = "") -> Entry:
        """Give an event its number and keep it. ``mark`` is what its source knows it by; the store
        has that of the last one that it has. Raises ``ValueError`` for what is not JSON.
        """
        kind, number = event["type"], self.last_id + 1
        try:
            text = json.dumps({**event, "event_id": number}, default=str, allow_nan=False)
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"The event {str(kind)[:40]!r} is not JSON: {error}.") from error
        self.last_id = number
        entry = Entry(number, text)
        self.size += len(text)
        if kind == "stream_event":
            self._stream(entry)
        else:
            whole = kind == "assistant" and event.get("parent_tool_use_id") is None
            if whole or kind == "result":
                self._streaming.clear()
                self._streamed = 0
            if not self._unwritten:
                self._settled = number - 1
            self._entries.append(entry)
            self._held += len(text)
            self._unwritten.append((entry, mark))
            self._trim()
        self._keep_up()
        return entry

    async def after(self, id: int, *, limit: int = 500) -> list[Entry]:
        """The events after this number, at most so many; none where there are no more."""
        while id < self._floor:
            upto = self._floor
            rows = await self._keep.read(self.session_id, after=id, upto=upto, limit=limit)
            finished = [Entry(*row) for row in rows]
            if len(rows) == limit:
                upto = finished[-1].id
            streaming = _newer(self._streaming, id, upto)
            if found := _merged(finished, streaming)[:limit]:
                return found
            id = upto
        return self.here(id)[:limit]

    def here(self, id: int) -> list[Entry]:
        """Those of them that are in memory."""
        upto = self.shown
        return _merged(_newer(self._entries, id, upto), _newer(self._streaming, id, upto))

    async def close(self) -> None:
        """Write down what is not yet."""
        self._closed.set()
        under_way = [task for task in (self._writing, self._reserving) if task is not None]
        if under_way:
            # They are not cut off: a transaction that is cancelled may keep the database locked.
            await asyncio.wait(under_way)
        try:
            await self._write_batches()
        except StoreError as error:
            logger.warning("The end of session %s was not kept: %s", self.session_id, error)

    def _stream(self, entry: Entry) -> None:
        """Keep a stream event until its message is finished, while there are not too many."""
        self._streaming.append(entry)
        self._streamed += len(entry.text)
        while (
            len(self._streaming) > _MOST_STREAMING or self._streamed > _MOST_STREAMING_BYTES
        ) and len(self._streaming) > 1:
            self._streamed -= len(self._streaming.popleft().text)

    def _keep_up(self) -> None:
        """Have written what is to be, and have numbers taken before they run out."""
        if self._closed.is_set():
            return
        if self._writing is None and self._unwritten:
            self._writing = asyncio.get_running_loop().create_task(self._write())
        if self._reserving is None and self._few_left:
            self._reserving = asyncio.get_running_loop().create_task(self._reserve())

    @property
    def _few_left(self) -> bool:
        return self.last_id > self._reserved - _NUMBERS // 2

    async def _reserve(self) -> None:
        try:
            while self._few_left and not self._closed.is_set():
                upto, shown = self.last_id + _NUMBERS, self.shown
                try:
                    await self._keep.reserve(self.session_id, upto)
                    self._reserved, self._unreserved = upto, False
                except StoreError as error:
                    self._complain(error)
                    self._unreserved = True
                if self.shown > shown:
                    self._news()
                if self._unreserved:
                    await self._pause(_AGAIN)
        finally:
            self._reserving = None

    async def _write(self) -> None:
        try:
            while self._unwritten:
                await self._pause(_GATHER)
                if self._closed.is_set():
                    return
                try:
                    await self._write_batches()
                    self._complained = False
                except StoreError as error:
                    self._complain(error)
                    await self._pause(_AGAIN)
        finally:
            self._writing = None

    def _complain(self, error: StoreError) -> None:
        if not self._complained:
            logger.warning("Session %s is not kept: %s", self.session_id, error)
        self._complained = True

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until it is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    async def _write_batches(self) -> None:
        while self._unwritten:
            batch = list(islice(self._unwritten, _BATCH))
            rows = [(entry.id, entry.text) for entry, _ in batch]
            mark = next((mark for _, mark in reversed(batch) if mark), "")
            await self._keep.append(self.session_id, rows, *([mark] if mark else []))
            last = rows[-1][0]
            while self._unwritten and self._unwritten[0][0].id <= last:
                self._unwritten.popleft()
            if self._unwritten:
                self._settled = self._unwritten[0][0].id - 1
            self._written = last
            self._trim()
            self.on_written()

    def _trim(self) -> None:
        """Let go of what the store has, and, where that takes nothing, of the oldest."""
        entries = self._entries
        while len(entries) > 1:
            lost = entries[0].id > self._written
            most = _MOST_UNWRITTEN if lost else _MOST_EVENTS
            most_bytes = _MOST_UNWRITTEN_BYTES if lost else _MOST_BYTES
            if len(entries) <= most and self._held <= most_bytes:
                return
            oldest = entries.popleft()
            if lost:
                self._unwritten.popleft()
            self._held -= len(oldest.text)
            self._floor = oldest.id


def _merged(finished: list[Entry], streaming: list[Entry]) -> list[Entry]:
    if finished and streaming:
        return list(heapq.merge(finished, streaming, key=lambda entry: entry.id))
    return finished or streaming


def _newer(entries: deque[Entry], id: int, upto: int) -> list[Entry]:
    """Those after a number, and not after another; mostly they are the last few."""
    newer = list(_from_the_end(entries, id, upto))
    newer.reverse()
    return newer


def _from_the_end(entries: deque[Entry], id: int, upto: int) -> Iterator[Entry]:
    for entry in reversed(entries):
        if entry.id <= id:
            return
        if entry.id <= upto:
            yield entry
