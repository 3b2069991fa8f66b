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
    for it, and goes on until the turn is ``over``.
    """

    def __init__(self, process: "Process") -> None:
        self.over = asyncio.Event()
        self.timed_out = False
        self._process = process
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Stop the turn."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._stop())

    def expire(self) -> None:
        """Stop the turn because its time is up."""
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
