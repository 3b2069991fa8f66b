"""End the turn of a process that goes on by itself."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .process import Process

# A CLI ends its turn 10 to 40 ms after an interrupt. One that arrives in the moment its turn
# begins is lost, so it is told again after these pauses (in seconds); one that does not obey by
# then is killed.
_INTERRUPT_PAUSES = (0.1, 0.1, 0.2, 0.4, 0.8, 1.6)


class Stopping:
    """Ends the turn of a process: by interrupts, else by force. It begins once, however many ask
    for it, and goes on until the turn is ``over``. A turn that has worked for ``seconds`` is
    stopped, too; the time in which it waits for a person does not count.
    """

    def __init__(self, process: "Process", seconds: float) -> None:
        self.over = asyncio.Event()
        self.timed_out = False
        self._process = process
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._left = seconds
        self._since = 0.0
        self._limit: asyncio.TimerHandle | None = None
        self.pause(False)

    def pause(self, waits: bool) -> None:
        """Have the time not count while the turn waits for a person."""
        if waits and self._limit is not None:
            self._limit.cancel()
            self._left -= self._loop.time() - self._since
        elif not waits:
            if self._limit is not None:
                self._limit.cancel()
            self._since = self._loop.time()
            self._limit = self._loop.call_later(self._left, self._expire)

    def end(self) -> None:
        """The turn is over."""
        if self._limit is not None:
            self._limit.cancel()
        self.over.set()

    def begin(self) -> None:
        """Stop the turn."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._stop())

    def _expire(self) -> None:
        self.timed_out = True
        self.begin()

    async def _stop(self) -> None:
        for pause in _INTERRUPT_PAUSES:
            # Never into the turn that may come after it.
            if self.over.is_set():
                return
            if not await self._process.interrupt():
                break
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self.over.wait()
        if not self.over.is_set():
            self._process.kill()
