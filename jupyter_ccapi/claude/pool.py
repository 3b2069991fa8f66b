"""How many Claude Code processes there may be, and whose turn it is to have one.

Every process stands in a ``Slot``. A slot is busy during a turn, then idle while its conversation
may go on. Where all slots are taken, an idle one gives way, the oldest first (its conversation
comes back from its transcript); else the request waits in a queue that serves its owners in turn,
so that nobody's hundred requests keep another one's first out.
"""

import asyncio
import importlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from .cli import CLI, find_cli
from .errors import ConversationClosed, QueueFull, QueueTimeout
from .guard import Guard
from .history import Session
from .options import Options

if TYPE_CHECKING:
    from .process import Process

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a pool; times are in seconds."""

    max_concurrent_sessions: int = 4
    max_queue: int = 64
    queue_deadline: float = 30.0
    idle_timeout: float = 600.0
    start_timeout: float = 30.0
    turn_timeout: float = 600.0


@dataclass(eq=False, slots=True)
class Slot:
    """A place for one process. It belongs to one owner from its claim to its end, and never to
    another.
    """

    owner: str
    state: Literal["busy", "idle", "closing"] = "busy"
    starting: "asyncio.Task[Process] | None" = None
    process: "Process | None" = None
    since: float = field(default_factory=time.monotonic)
    reused: bool = False
    expiry: asyncio.TimerHandle | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def closing(self) -> bool:
        """Whether it was given up; ``gone`` is set when its process is."""
        return self.state == "closing"


class Pool:
    """The processes of one server or kernel. It belongs to the event loop that first uses it.

    ``environment`` is added to what each CLI inherits. Nothing is started before the first claim.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        find: Callable[[], CLI] = find_cli,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.environment = dict(environment or {})
        self.reported_models: list[dict[str, Any]] = []
        self._find = find
        self._guard = Guard()
        self._slots: set[Slot] = set()
        self._queue: dict[str, deque[asyncio.Future[Slot]]] = {}
        self._served: dict[str, float] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._asking = asyncio.Lock()
        self._held_seconds = 1.0
        self._closed = False

    async def claim(self, owner: str) -> Slot:
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
        future: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._queue.setdefault(owner, deque()).append(future)
        self._dispatch()
        try:
            async with asyncio.timeout(self.limits.queue_deadline):
                return await future
        except BaseException as error:
            self._forget(owner, future)
            if isinstance(error, TimeoutError):
                raise QueueTimeout(
                    f"No Claude Code process came free within {self.limits.queue_deadline:g} "
                    "seconds. Try again later, or raise the option max_concurrent_sessions.",
                    retry_after=self._expected_wait(),
                ) from None
            raise

    async def start(self, slot: Slot, options: Options, session: Session) -> "Process":
        """Start the process of a claimed slot. Raises ``CLINotFound`` or ``CLIStartFailed``, and
        ``ConversationClosed`` where the slot is released meanwhile.
        """
        cli = self._find()
        # In a task of its own, which the slot's release ends in good order, also for a caller that
        # is cancelled.
        slot.starting = asyncio.get_running_loop().create_task(self._start(cli, options, session))
        try:
            slot.process = process = await asyncio.shield(slot.starting)
        except asyncio.CancelledError:
            if slot.closing:
                raise ConversationClosed("pool") from None
            raise
        self.reported_models = await process.reported_models() or self.reported_models
        return process

    async def _start(self, cli: CLI, options: Options, session: Session) -> "Process":
        # The SDK takes seconds to import: not on the loop that serves everybody else.
        module = await asyncio.to_thread(importlib.import_module, f"{__package__}.process")
        process: Process = await module.Process.start(
            options,
            session,
            cli=cli,
            guard=self._guard,
            environment=self.environment,
            patience=self.limits.start_timeout,
        )
        return process

    async def ask_for_models(self, owner: str) -> list[dict[str, Any]]:
        """The models that the CLI reports; asks a process once, then remembers."""
        async with self._asking:
            if not self.reported_models:
                slot = await self.claim(owner)
                try:
                    await self.start(slot, Options(), Session(str(uuid4()), persist=False))
                finally:
                    self.release(slot)
        return self.reported_models

    def park(self, slot: Slot) -> None:
        """A turn is over: keep the process for the next one, as long as nobody needs the place."""
        if slot.state != "busy":
            return
        if slot.process is None or not slot.process.alive:
            self.release(slot)
            return
        self._note_held(slot)
        slot.state, slot.since = "idle", time.monotonic()
        slot.expiry = asyncio.get_running_loop().call_later(
            self.limits.idle_timeout, self.release, slot
        )
        self._dispatch()

    def unpark(self, slot: Slot) -> bool:
        """Take an idle slot up again; False if it has given way or its process is gone."""
        if slot.state != "idle":
            return False
        if slot.process is None or not slot.process.alive:
            self.release(slot)
            return False
        self._stop_expiry(slot)
        slot.state, slot.since, slot.reused = "busy", time.monotonic(), True
        return True

    def release(self, slot: Slot) -> None:
        """Close the slot's process, in the background; its place is free when the process is
        gone.
        """
        if slot.closing:
            return
        if slot.state == "busy" and slot.process is not None:
            self._note_held(slot)
        self._stop_expiry(slot)
        slot.state = "closing"
        task = asyncio.get_running_loop().create_task(self._close(slot))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """End every process and refuse what comes. Safe to call twice."""
        self._closed = True
        for waiters in self._queue.values():
            for future in waiters:
                if not future.done():
                    future.set_exception(ConversationClosed("pool"))
        self._queue.clear()
        for slot in list(self._slots):
            self.release(slot)
        while self._closing:
            await asyncio.wait(self._closing)
        try:
            await asyncio.to_thread(self._guard.close)
        except RuntimeError:  # no more threads: the interpreter is about to exit
            self._guard.close()

    @property
    def waiting(self) -> int:
        """How many requests wait in the queue."""
        return sum(len(waiters) for waiters in self._queue.values())

    def count(self, state: Literal["busy", "idle", "closing"]) -> int:
        """How many processes are in a state."""
        return sum(slot.state == state for slot in self._slots)

    def pids(self) -> list[int]:
        """The process ids of all CLIs that this pool runs."""
        return [slot.process.pid for slot in self._slots if slot.process and slot.process.pid]

    def _dispatch(self) -> None:
        """Hand free places to those who wait; where there are none, let the oldest idle processes
        give way.
        """
        while self._queue and len(self._slots) < self.limits.max_concurrent_sessions:
            owner, future = self._next()
            if not future.done():
                self._served[owner] = time.monotonic()
                slot = Slot(owner)
                self._slots.add(slot)
                future.set_result(slot)
        idle = sorted((s for s in self._slots if s.state == "idle"), key=lambda s: s.since)
        for slot in idle[: max(self.waiting - self.count("closing"), 0)]:
            self.release(slot)

    def _next(self) -> tuple[str, asyncio.Future[Slot]]:
        """The first waiter of the owner who has the fewest turns running; among equals, of the one
        who was served longest ago.
        """
        running = Counter(slot.owner for slot in self._slots if slot.state == "busy")
        owner = min(self._queue, key=lambda owner: (running[owner], self._served.get(owner, 0.0)))
        waiters = self._queue[owner]
        future = waiters.popleft()
        if not waiters:
            del self._queue[owner]
        return owner, future

    def _forget(self, owner: str, future: asyncio.Future[Slot]) -> None:
        """A waiter gave up; if it was served in the same moment, its slot goes back."""
        if future.done() and not future.cancelled() and future.exception() is None:
            self.release(future.result())
            return
        future.cancel()
        waiters = self._queue.get(owner)
        if waiters and future in waiters:
            waiters.remove(future)
            if not waiters:
                del self._queue[owner]

    async def _close(self, slot: Slot) -> None:
        process = slot.process
        try:
            if process is None and slot.starting is not None:
                slot.starting.cancel()
                await asyncio.wait([slot.starting])
                if not slot.starting.cancelled() and slot.starting.exception() is None:
                    process = slot.starting.result()
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
