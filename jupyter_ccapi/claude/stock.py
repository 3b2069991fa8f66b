"""Keep spares ready, in what the requests leave of processor, places and memory."""

import asyncio
import time
from typing import TYPE_CHECKING

from .limits import PROCESS_MEMORY
from .slots import Slot, Wanted
from .spares import Demands
from .starter import Starter

if TYPE_CHECKING:
    from .pool import Pool

# In a container smaller than this no process is kept ready.
_SPARES_FROM = 2 * 1024**3
# Seconds after a turn got its process until spares are started: a start takes half a second of a
# core, which the turn needs first.
_SETTLING = 0.2
# A program goes on with its conversation within so many seconds.
_GOING_ON = 2.0


class Stock:
    """The spares of one pool. Nothing is started before somebody asked for something."""

    def __init__(self, pool: "Pool", starter: Starter) -> None:
        self._pool = pool
        self._starter = starter
        self._demands = Demands()
        self._task: asyncio.Task[None] | None = None
        self._wanted = False
        self._closed = False

    def note(self, owner: str, wanted: Wanted) -> None:
        """Learn what is asked for."""
        self._demands.note(owner, wanted)

    def soon(self) -> None:
        """See to the spares when the turn that has just got its process is under way."""
        if not self._pool.limits.warm or self._closed:
            return
        self._wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._replenish())

    def stop(self) -> None:
        """Start no more."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()

    async def stopped(self) -> None:
        """Wait until nothing is under way any more."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _replenish(self) -> None:
        while self._wanted:
            self._wanted = False
            await asyncio.sleep(_SETTLING)
            await self._starter.find_out()
            while not self._pool.waiting and await self._add_one():
                pass

    async def _add_one(self) -> bool:
        """Start the spare that is missing most; False where none is, or none may be started."""
        pool = self._pool
        limits = pool.limits
        most = min(limits.spares, limits.max_concurrent_sessions // 2)
        missing = self._demands.next_spare(pool.slots, pool.capabilities, most, limits.idle_timeout)
        crowded = pool.count("busy") > limits.max_concurrent_sessions // 2
        if missing is None or crowded or not self._has_memory():
            return False
        plan, instead_of = missing
        if instead_of is None and len(pool.slots) >= limits.max_concurrent_sessions:
            instead_of = self._least_needed()
            if instead_of is None:
                return False
        if instead_of is not None:
            pool.release(instead_of, "gave_way")
            await instead_of.gone.wait()
            return True
        return await pool.add_spare(plan)

    def _least_needed(self) -> Slot | None:
        """An idle process whose place a spare may take: a spare serves any next turn, the oldest
        of several idle processes one that may never come, and whose client sends its history
        again. None of those that rest between the turns of a program, or wait for a client.
        """
        idle = [
            slot
            for slot in self._pool.slots
            if slot.state == "idle" and slot.loose and not slot.parked
        ]
        oldest = min(idle, key=lambda slot: slot.since, default=None)
        if oldest is None or len(idle) < 2 or time.monotonic() - oldest.since < _GOING_ON:
            return None
        return oldest

    def _has_memory(self) -> bool:
        memory = self._pool.memory
        # One process more must still find its place.
        return memory.limit >= _SPARES_FROM and memory.available >= 2 * PROCESS_MEMORY
