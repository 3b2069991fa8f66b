"""The log of a session: what happened in it, numbered, for clients that come and go.

The stream events of a message are folded into it once it is finished: whoever reads the log later
gets the message in their place. The newest events are in memory, all are written to the store.
"""

import asyncio
import heapq
import json
import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from jupyter_ccapi.store import StoreError

logger = logging.getLogger(__name__)

# So much is kept in memory once it is written down: events, and bytes of them.
_MOST_EVENTS = 1_000
_MOST_BYTES = 4 * 1024 * 1024
# Where nothing can be written, so many times that, before the oldest are lost.
_UNWRITTEN = 8
# What comes within so many seconds is written together.
_GATHER = 0.1
_BATCH = 500
_AGAIN = 5.0
# Numbers are taken from the store by the thousand: after a crash none is given twice.
_NUMBERS = 1_000


class Keep(Protocol):
    """Where logs are written down; see ``store.sessions``."""

    async def append(self, id: str, events: Sequence[tuple[int, str]]) -> None:
        """Add events, which may be there already."""

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
    """

    def __init__(self, session_id: str, keep: Keep, *, last_id: int = 0) -> None:
        self.last_id = last_id
        self.size = 0
        self.session_id = session_id
        self._keep = keep
        self._reserved = last_id
        # All with a greater number are here, or folded.
        self._floor = last_id
        self._entries: deque[Entry] = deque()
        self._held = 0
        self._streaming: list[Entry] = []
        self._unwritten: deque[Entry] = deque()
        self._written = last_id
        self._writing: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()
        self._complained = False

    def append(self, event: Mapping[str, Any]) -> Entry:
        """Give an event its number and keep it."""
        self.last_id += 1
        text = json.dumps({**event, "event_id": self.last_id}, default=str)
        entry = Entry(self.last_id, text)
        self.size += len(text)
        if event["type"] == "stream_event":
            self._streaming.append(entry)
        else:
            if event["type"] == "assistant" and event.get("parent_tool_use_id") is None:
                self._streaming.clear()
            self._entries.append(entry)
            self._held += len(text)
            self._unwritten.append(entry)
        self._trim()
        if self._writing is None and not self._closed.is_set():
            self._writing = asyncio.get_running_loop().create_task(self._write())
        return entry

    async def after(self, id: int, *, limit: int = 500) -> list[Entry]:
        """The events after this number, at most so many; none where there are no more."""
        while id < self._floor:
            upto = self._floor
            rows = await self._keep.read(self.session_id, after=id, upto=upto, limit=limit)
            if rows:
                return [Entry(*row) for row in rows]
            id = upto
        return self.here(id)[:limit]

    def here(self, id: int) -> list[Entry]:
        """Those of them that are in memory."""
        finished, streaming = _newer(self._entries, id), _newer(self._streaming, id)
        if finished and streaming:
            return list(heapq.merge(finished, streaming, key=lambda entry: entry.id))
        return finished or streaming

    async def close(self) -> None:
        """Write down what is not yet."""
        self._closed.set()
        if self._writing is not None:
            # It is not cut off: a transaction that is cancelled may keep the database locked.
            await asyncio.wait([self._writing])
        try:
            await self._write_batches()
        except StoreError as error:
            logger.warning("The end of session %s was not kept: %s", self.session_id, error)

    async def _write(self) -> None:
        try:
            while self._unwritten or self.last_id > self._reserved - _NUMBERS // 2:
                await self._pause(_GATHER)
                if self._closed.is_set():
                    return
                try:
                    await self._write_batches()
                    self._complained = False
                except StoreError as error:
                    if not self._complained:
                        logger.warning("Session %s is not kept: %s", self.session_id, error)
                    self._complained = True
                    await self._pause(_AGAIN)
        finally:
            self._writing = None

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until it is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    async def _write_batches(self) -> None:
        if self.last_id > self._reserved - _NUMBERS // 2:
            upto = self.last_id + _NUMBERS
            await self._keep.reserve(self.session_id, upto)
            self._reserved = upto
        while self._unwritten:
            batch = [self._unwritten[place] for place in range(min(_BATCH, len(self._unwritten)))]
            await self._keep.append(self.session_id, [(one.id, one.text) for one in batch])
            while self._unwritten and self._unwritten[0].id <= batch[-1].id:
                self._unwritten.popleft()
            self._written = batch[-1].id
            self._trim()

    def _trim(self) -> None:
        """Let go of what the store has, and, where that takes nothing, of the oldest."""
        entries = self._entries
        while len(entries) > 1 and not (self._streaming and self._streaming[0].id < entries[0].id):
            over = max(len(entries) / _MOST_EVENTS, self._held / _MOST_BYTES)
            lost = entries[0].id > self._written
            if over <= (_UNWRITTEN if lost else 1):
                return
            oldest = entries.popleft()
            if lost:
                self._unwritten.popleft()
            self._held -= len(oldest.text)
            self._floor = oldest.id


def _newer(entries: Sequence[Entry] | deque[Entry], id: int) -> list[Entry]:
    """Those after a number; mostly they are the last few."""
    newer = list(_from_the_end(entries, id))
    newer.reverse()
    return newer


def _from_the_end(entries: Sequence[Entry] | deque[Entry], id: int) -> Iterator[Entry]:
    for entry in reversed(entries):
        if entry.id <= id:
            return
        yield entry
