"""How many Claude Code processes there may be, and whose turn it is to have one.

Every process stands in a ``Slot``. A slot is busy during a turn, then idle while its conversation
may go on; a spare was started before anybody asked. A turn gets the warm process that serves it
soonest, else a place for a new one. Where all places are taken, or memory is short, an idle one
gives way, the oldest first (its conversation comes back from its transcript, or from the client's
own history); else the request waits in a queue that serves its owners in turn, so that nobody's
hundred requests keep another one's first out.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from .capabilities import Capabilities
from .cli import CLI, find_cli
from .cli_sessions import CLISessions
from .errors import ConversationClosed, QueueFull, QueueTimeout
from .history import Session
from .limits import PROCESS_MEMORY, Limits
from .memory import Memory, read_memory
from .options import Options
from .slots import Ending, Slot, State, Wanted, Warmth, choose
from .spares import Plan
from .starter import Starter
from .stock import Stock

if TYPE_CHECKING:
    from .process import Process

logger = logging.getLogger(__name__)

# Where memory kept a request waiting, it is looked at again after so many seconds.
_MEMORY_AGAIN = 1.0


@dataclass(eq=False, slots=True)
class _Request:
    """A turn that waits for its slot."""

    wanted: Wanted
    future: asyncio.Future[Slot]


class Pool:
    """The processes of one server or kernel. It belongs to the event loop that first uses it.

    ``environment`` is added to what each CLI inherits. ``probe`` finds out what the CLI can do
    beyond its public face; it is asked once, beside the first claim, and until it has answered,
    or without it, only public ways are gone. ``memory`` tells how much there is. Nothing is
    started before the first claim.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        find: Callable[[], CLI] = find_cli,
        environment: Mapping[str, str] | None = None,
        probe: Callable[[CLI], Awaitable[Capabilities]] | None = None,
        memory: Callable[[], Memory] = read_memory,
    ) -> None:
        self.limits = limits or Limits()
        self.environment = dict(environment or {})
        self.reported_models: list[dict[str, Any]] = []
        self.served: Counter[Warmth] = Counter()
        self.ended: Counter[Ending] = Counter()
        self._memory = memory
        self._slots: set[Slot] = set()
        self._queue: dict[str, deque[_Request]] = {}
        self._last_served: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._starter = Starter(find, self.environment, probe, patience=self.limits.start_timeout)
        self._stock = Stock(self, self._starter)
        self._memory_again: asyncio.TimerHandle | None = None
        self._asking = asyncio.Lock()
        self._held_seconds = 1.0
        self._closed = False

    def preload(self) -> None:
        """Import claude-agent-sdk now, in a thread: it takes two seconds, which the first request
        need not wait for. Nothing is started.
        """
        self._starter.preload()

    @property
    def capabilities(self) -> Capabilities:
        """What the CLI can do beyond its public face, as far as that is known."""
        return self._starter.capabilities

    async def find_out(self) -> None:
        """Wait until it is known what the CLI can do, as far as there is a probe."""
        await self._starter.find_out()

    @property
    def warm_failures(self) -> int:
        """How many warm processes failed before their turn began, which a new one then served."""
        return self._starter.failures

    @property
    def memory(self) -> Memory:
        """How much memory there is for processes."""
        return self._memory()

    def kept(self, options: Options) -> CLISessions:
        """The sessions that a CLI with these options keeps."""
        return CLISessions({**self.environment, **(options.sdk.get("env") or {})})

    @property
    def slots(self) -> Collection[Slot]:
        """All places that are taken."""
        return self._slots

    async def claim(self, owner: str, wanted: Wanted) -> Slot:
        """Wait for a slot. Raises ``QueueFull``, ``QueueTimeout`` or ``ConversationClosed``."""
        if self._closed:
            raise ConversationClosed("pool")
        coming_free = self.limits.max_concurrent_sessions - self.count("busy")
        if self.waiting >= self.limits.max_queue + coming_free:
            raise QueueFull(
                f"All {self.limits.max_concurrent_sessions} Claude Code processes are busy and "
                f"{self.waiting} requests wait already. Try again later, or raise "
                "the option max_concurrent_sessions or max_queue.",
                retry_after=self._expected_wait(),
            )
        self._stock.note(owner, wanted)
        request = _Request(wanted, asyncio.get_running_loop().create_future())
        self._queue.setdefault(owner, deque()).append(request)
        self._dispatch()
        try:
            async with asyncio.timeout(self.limits.queue_deadline):
                return await request.future
        except BaseException as error:
            self._forget(owner, request)
            if isinstance(error, TimeoutError):
                raise QueueTimeout(
                    f"No Claude Code process came free within {self.limits.queue_deadline:g} "
                    "seconds. Try again later, or raise the option max_concurrent_sessions.",
                    retry_after=self._expected_wait(),
                ) from None
            raise

    async def prepare(self, slot: Slot, wanted: Wanted) -> "Process":
        """Have the process of a claimed slot hold what is wanted: the warm one that it was given,
        else, also where that one fails in any way, a new one.

        Raises ``CLINotFound`` or ``CLIStartFailed``, and ``ConversationClosed`` where the slot is
        released meanwhile.
        """
        # In a task of its own, which the slot's release ends in good order, also for a caller that
        # is cancelled.
        slot.starting = asyncio.get_running_loop().create_task(self._starter.prepare(slot, wanted))
        before = slot.process
        try:
            slot.process = process = await asyncio.shield(slot.starting)
        except asyncio.CancelledError:
            if slot.closing:
                raise ConversationClosed("pool") from None
            raise
        finally:
            self._stock.soon()
        if process is not before:
            self._watch(slot, process)
        self.reported_models = await process.reported_models() or self.reported_models
        return process

    async def ask_for_models(self, owner: str) -> list[dict[str, Any]]:
        """The models that the CLI reports; asks a process once, then remembers."""
        async with self._asking:
            if not self.reported_models:
                session = Session(str(uuid4()), persist=False)
                wanted = Wanted(Options(), session, None)
                slot = await self.claim(owner, wanted)
                try:
                    await self.prepare(slot, wanted)
                finally:
                    self.release(slot)
        return self.reported_models

    def park(self, slot: Slot, *, loose: bool = False) -> None:
        """A turn is over: keep the process for the next one, as long as nobody needs the place.

        ``loose`` says that nobody comes back to this slot; it is kept only where it can serve
        another turn.
        """
        if slot.state != "busy":
            return
        process = slot.process
        useless = loose and (slot.binding is None or process is None or process.held is None)
        if process is None or not process.alive or useless or not self.limits.warm:
            self.release(slot)
            return
        self._note_held(slot)
        self._rest(slot, "idle", loose=loose)
        self._dispatch()

    def unpark(self, slot: Slot) -> bool:
        """Take an idle slot up again; False if it has given way or its process is gone."""
        if slot.state != "idle":
            return False
        if slot.process is None or not slot.process.alive:
            self.release(slot, "died")
            return False
        self._take(slot, "live")
        return True

    def _rest(self, slot: Slot, state: State, *, loose: bool = False) -> None:
        slot.state, slot.loose, slot.since = state, loose, time.monotonic()
        self._stop_expiry(slot)
        limits = self.limits
        rests = (
            min(limits.idle_timeout, limits.tool_timeout) if slot.parked else limits.idle_timeout
        )
        slot.expiry = asyncio.get_running_loop().call_later(rests, self.release, slot, "expired")

    def _take(self, slot: Slot, warmth: Warmth) -> None:
        self._stop_expiry(slot)
        slot.state, slot.loose, slot.warmth = "busy", False, warmth
        slot.since = time.monotonic()

    def release(self, slot: Slot, why: Ending = "done") -> None:
        """Close the slot's process, in the background; its place is free when the process is
        gone.
        """
        if slot.closing:
            return
        if slot.process is not None:
            self.ended[why] += 1
        if slot.state == "busy" and slot.process is not None:
            self._note_held(slot)
        self._stop_expiry(slot)
        slot.state = "closing"
        task = asyncio.get_running_loop().create_task(self._close(slot))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End every process and refuse what comes. Safe to call twice."""
        self._closed = True
        for requests in self._queue.values():
            for request in requests:
                if not request.future.done():
                    request.future.set_exception(ConversationClosed("pool"))
        self._queue.clear()
        self._stock.stop()
        for slot in list(self._slots):
            self.release(slot)
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._stock.stopped()
        await self._starter.close()

    async def add_spare(self, plan: Plan) -> bool:
        """Start a process ahead; False where that fails, which the next cold start will say."""
        slot = Slot(plan.owner, plan.binding, "starting")
        self._slots.add(slot)
        slot.starting = asyncio.get_running_loop().create_task(self._starter.spare(plan))
        try:
            slot.process = process = await asyncio.shield(slot.starting)
        except Exception as error:
            logger.debug("A spare did not start: %s", error)
            self.release(slot)
            return False
        if slot.state == "starting":
            self._rest(slot, "spare")
            self._watch(slot, process)
            self._dispatch()
        return True

    @property
    def waiting(self) -> int:
        """How many requests wait in the queue."""
        return sum(len(requests) for requests in self._queue.values())

    def count(self, state: State) -> int:
        """How many processes are in a state."""
        return sum(slot.state == state for slot in self._slots)

    def pids(self) -> list[int]:
        """The process ids of all CLIs that this pool runs."""
        return [slot.process.pid for slot in self._slots if slot.process and slot.process.pid]

    def _dispatch(self) -> None:
        """Give those who wait a warm process or a free place, in turn; where there is neither,
        let the oldest idle processes give way.
        """
        coming_free = self.count("closing")
        blocked: set[str] = set()
        while (owner := self._next_owner(blocked)) is not None:
            request = self._queue[owner][0]
            slot = None if request.future.done() else self._place(owner, request.wanted)
            if slot is None and not request.future.done():
                # Its place is set aside before others may take an idle process up.
                blocked.add(owner)
                if coming_free > 0:
                    coming_free -= 1
                else:
                    self._make_room()
                continue
            self._queue[owner].popleft()
            if not self._queue[owner]:
                del self._queue[owner]
            if slot is not None:
                self._last_served[owner] = time.monotonic()
                request.future.set_result(slot)
        for _ in range(self.waiting - self.count("closing")):
            if not self._make_room():
                break

    def _next_owner(self, blocked: set[str]) -> str | None:
        """The waiting owner who has the fewest turns running; among equals, the one who was served
        longest ago.
        """
        running = Counter(slot.owner for slot in self._slots if slot.state == "busy")
        waiting = [owner for owner in self._queue if owner not in blocked]
        return min(
            waiting,
            key=lambda owner: (running[owner], self._last_served.get(owner, 0.0)),
            default=None,
        )

    def _place(self, owner: str, wanted: Wanted) -> Slot | None:
        """A slot for this turn, with a warm process where there is one that serves it."""
        full = len(self._slots) >= self.limits.max_concurrent_sessions
        if self.limits.warm:
            chosen = choose(self._slots, owner, wanted, self.capabilities, crowded=full)
            if chosen is not None:
                slot, warmth = chosen
                self._take(slot, warmth)
                slot.owner, slot.binding = owner, wanted.binding
                return slot
        if full or not self._has_memory():
            return None
        slot = Slot(owner, wanted.binding)
        self._slots.add(slot)
        return slot

    def _has_memory(self) -> bool:
        """Whether there is memory for one more process. The first is started in any case: without
        it nothing would ever be answered.
        """
        if not self._slots or self._memory().available >= PROCESS_MEMORY:
            return True
        if self._memory_again is not None:
            self._memory_again.cancel()
        self._memory_again = asyncio.get_running_loop().call_later(_MEMORY_AGAIN, self._dispatch)
        return False

    def _make_room(self) -> bool:
        """Let the oldest process go that serves nobody now; False if there is none."""
        resting = [slot for slot in self._slots if slot.state in ("idle", "spare", "starting")]
        oldest = min(resting, key=lambda slot: slot.since, default=None)
        if oldest is not None:
            self.release(oldest, "gave_way")
        return oldest is not None

    def _forget(self, owner: str, request: _Request) -> None:
        """A waiter gave up; if it was served in the same moment, its slot goes back."""
        future = request.future
        if future.done() and not future.cancelled() and future.exception() is None:
            self.release(future.result())
            return
        future.cancel()
        waiters = self._queue.get(owner)
        if waiters and request in waiters:
            waiters.remove(request)
            if not waiters:
                del self._queue[owner]

    def _watch(self, slot: Slot, process: "Process") -> None:
        """Give a process up that ends while nobody looks."""

        def ended() -> None:
            if slot.process is process and slot.state in ("idle", "spare"):
                self.release(slot, "died")

        process.when_ended(ended)

    async def _close(self, slot: Slot) -> None:
        try:
            if slot.starting is not None and not slot.starting.done():
                slot.starting.cancel()
                await asyncio.wait([slot.starting])
            process = slot.process
            if slot.starting is not None and not slot.starting.cancelled():
                process = process if slot.starting.exception() else slot.starting.result()
            if process is not None:
                await process.close()
        except Exception:
            logger.exception("A Claude Code process did not close cleanly")
        finally:
            self._slots.discard(slot)
            slot.gone.set()
            self._dispatch()

    def _stop_expiry(self, slot: Slot) -> None:
        if slot.expiry is not None:
            slot.expiry.cancel()
            slot.expiry = None

    def _note_held(self, slot: Slot) -> None:
        """A running mean of how long a turn holds its slot: what Retry-After is reckoned from."""
        self._held_seconds += 0.2 * (time.monotonic() - slot.since - self._held_seconds)

    def _expected_wait(self) -> float:
        """Seconds until a new request would be served, going by the last turns; from 1 to 60."""
        rounds = (self.waiting + 1) / self.limits.max_concurrent_sessions
        return min(max(1.0, rounds * self._held_seconds), 60.0)
