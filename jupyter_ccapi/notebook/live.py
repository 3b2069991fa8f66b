"""A turn of the core's, as a running cell sees it.

The pool, the conversations and the turns live on the core's loop; a cell runs on the kernel's. What
crosses from the one to the other goes through `call_soon_threadsafe`, here and nowhere else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

from jupyter_ccapi.claude import Answer, ClaudeError, Event, Turn
from jupyter_ccapi.claude.errors import InvalidOption

from .core_thread import CoreThread

# The core interrupts, waits, and kills after that: it needs less than this in the worst case.
_STOP_PATIENCE = 20.0
# In seconds; a view draws some ten times in one.
_AHEAD, _SHOWN = 0.03, 0.5


class LiveTurn:
    """A turn on the core's loop, read from the loop that made this object.

    `over` is true once the turn has ended; `failure` is then what it failed with, if it did.
    `stopped_here` is whether the user has stopped code that it ran in the kernel, and so the turn.
    """

    def __init__(self, core: CoreThread, send: Callable[[], Awaitable[Turn]]) -> None:
        self.over = False
        self.stopped_here = False
        self.failure: BaseException | None = None
        self._core = core
        self._send = send
        self._turn: Turn | None = None
        self._stopped = False
        self._loop = asyncio.get_running_loop()
        self._arrived: list[Event] = []
        self._news = asyncio.Event()
        self._all_taken = asyncio.Event()
        self._reading = core.submit(self._read())

    async def arrivals(self) -> list[Event]:
        """Wait for something new and return the events that have come; none at a failure.

        Cancelling the wait loses nothing.
        """
        await self.news()
        return self.take()

    async def news(self) -> None:
        """Wait for something new, or for the end."""
        if not self.over:
            await self._news.wait()

    def take(self) -> list[Event]:
        """The events that have come."""
        self._news.clear()
        self._all_taken.set()
        arrived, self._arrived = self._arrived, []
        return arrived

    async def shown(self) -> None:
        """Wait until the reader has what has come, but not for long."""
        # What a call says to the core is a few steps ahead of what it says to the reader.
        await asyncio.sleep(_AHEAD)
        with suppress(TimeoutError):
            async with asyncio.timeout(_SHOWN):
                await self._all_taken.wait()

    async def interrupt(self) -> None:
        """End the turn, not the conversation; returns when it has ended.

        Cancelled, it returns at once, and the turn is being ended all the same.
        """
        self._core.submit(self._interrupt())
        await asyncio.wait({asyncio.wrap_future(self._reading)}, timeout=_STOP_PATIENCE)

    def begin_interrupt(self) -> None:
        """End the turn, without waiting for that."""
        self._core.submit(self._interrupt())

    def answer(self, request_id: str, answer: Answer) -> None:
        """Answer a permission request, from any thread. Raises `InvalidOption` where none waits."""
        if self._turn is None:
            raise InvalidOption("request_id", "The turn does not wait for any permission.")
        self._core.submit(self._answer(self._turn, request_id, answer)).result()

    def note_variables(self, names: Iterable[str]) -> None:
        """Note variables that code of this turn has set in the kernel."""
        if self._turn is not None:
            self._turn.variables.extend(names)

    async def _answer(self, turn: Turn, request_id: str, answer: Answer) -> None:
        turn.answer(request_id, answer)

    async def _interrupt(self) -> None:
        self._stopped = True
        if self._turn is not None:
            await self._turn.interrupt()

    async def _read(self) -> None:
        """Pass the events on, from the core's loop, then the end."""
        failure: BaseException | None = None
        try:
            self._turn = await self._send()
            if self._stopped:
                await self._turn.interrupt()
            async for event in self._turn:
                if not self._pass_on(self._take, event):
                    await self._turn.interrupt()
                    return
        except BaseException as error:
            failure = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._pass_on(self._end, failure)

    def _pass_on(self, call: Callable[[Any], None], what: object) -> bool:
        """Call this on the reader's loop; False where that is closed: nobody reads any more."""
        try:
            self._loop.call_soon_threadsafe(call, what)
        except RuntimeError:
            return False
        return True

    def _take(self, event: Event) -> None:
        self._arrived.append(event)
        self._all_taken.clear()
        self._news.set()

    def _end(self, failure: BaseException | None) -> None:
        self.over, self.failure = True, failure
        self._news.set()


def failure_of(turn: LiveTurn) -> ClaudeError | None:
    """What a turn that is over has failed with; an error that nobody foresaw is raised."""
    if turn.failure is None or isinstance(turn.failure, ClaudeError):
        return turn.failure
    raise turn.failure
