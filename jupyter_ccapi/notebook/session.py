"""The conversation of one kernel, and its turns as a running cell sees them.

The pool, the conversation and the turns live on the core's loop; a cell runs on the kernel's. What
crosses from the one to the other goes through `call_soon_threadsafe`, here and nowhere else.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from jupyter_ccapi.claude import (
    CLI,
    Conversation,
    Event,
    Limits,
    Options,
    Pool,
    Turn,
)

from .core_thread import CoreThread

# The core interrupts, waits, and kills after that: it needs less than this in the worst case.
_STOP_PATIENCE = 20.0


class Session:
    """The conversation that a kernel's cells share. Its methods are for the kernel's thread.

    `find` finds the CLI whenever a process is started.
    """

    def __init__(self, *, find: Callable[[], CLI]) -> None:
        self._core = CoreThread()
        self._pool = Pool(Limits(spares=0), find=find)
        self._conversation: Conversation | None = None

    @property
    def is_new(self) -> bool:
        """Whether nothing was said yet."""
        return self._conversation is None

    def limit(self, limits: Limits) -> None:
        """Bound the turns from the next one on."""
        self._pool.limits = limits

    @property
    def reported_models(self) -> list[str]:
        """The model names that the CLI reported; empty before its first start."""
        return [str(model.get("value", "")) for model in self._pool.reported_models]

    async def ask_for_models(self) -> list[str]:
        """Ask the CLI for its models (starts a process, calls no model). Raises `ClaudeError`."""
        await asyncio.wrap_future(self._core.submit(self._pool.ask_for_models("")))
        return self.reported_models

    def begin(self, prompt: str, options: Options) -> "LiveTurn":
        """Send a prompt as the first of a new conversation; the one before it is closed."""

        def send() -> Turn:
            left, self._conversation = self._conversation, Conversation(self._pool, options)
            if left is not None:
                self._core.submit(left.close())
            return self._conversation.send(prompt)

        return LiveTurn(self._core, send)

    def go_on(self, prompt: str, model: str | None) -> "LiveTurn":
        """Send a prompt in the conversation there is; None leaves its model as it is."""
        conversation = self._conversation
        assert conversation is not None

        def send() -> Turn:
            if model is not None:
                conversation.set_model(model)
            return conversation.send(prompt)

        return LiveTurn(self._core, send)

    def close(self, seconds: float, *, at_exit: bool = False) -> None:
        """End the conversation and every process, waiting at most so many seconds.

        At the interpreter's exit the thread is left alone: it is a daemon, and Python lets nobody
        start the helper thread any more that its loop would end with.
        """
        if not self._core.running:
            return
        closing = self._core.submit(self._pool.close())
        # What cannot be ended politely is ended by the core's guard once this process is gone.
        with suppress(Exception):
            closing.result(seconds)
        self._conversation = None
        if not at_exit:
            self._core.stop()


class LiveTurn:
    """A turn on the core's loop, read from the loop that made this object.

    `over` is true once the turn has ended; `failure` is then what it failed with, if it did.
    """

    def __init__(self, core: CoreThread, send: Callable[[], Turn]) -> None:
        self.over = False
        self.failure: BaseException | None = None
        self._core = core
        self._send = send
        self._turn: Turn | None = None
        self._loop = asyncio.get_running_loop()
        self._arrived: list[Event] = []
        self._news = asyncio.Event()
        self._reading = core.submit(self._read())

    async def arrivals(self) -> list[Event]:
        """Wait for something new and return the events that have come; none at a failure.

        Cancelling the wait loses nothing.
        """
        await self._news.wait()
        self._news.clear()
        arrived, self._arrived = self._arrived, []
        return arrived

    async def interrupt(self) -> None:
        """End the turn, not the conversation; returns when it has ended.

        Cancelled, it returns at once, and the turn is being ended all the same.
        """
        self._core.submit(self._interrupt())
        await asyncio.wait({asyncio.wrap_future(self._reading)}, timeout=_STOP_PATIENCE)

    async def _interrupt(self) -> None:
        if self._turn is not None:
            await self._turn.interrupt()

    async def _read(self) -> None:
        """Pass the events on, from the core's loop, then the end."""
        failure: BaseException | None = None
        try:
            self._turn = self._send()
            async for event in self._turn:
                self._loop.call_soon_threadsafe(self._take, event)
        except BaseException as error:
            failure = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._loop.call_soon_threadsafe(self._end, failure)

    def _take(self, event: Event) -> None:
        self._arrived.append(event)
        self._news.set()

    def _end(self, failure: BaseException | None) -> None:
        self.over, self.failure = True, failure
        self._news.set()
