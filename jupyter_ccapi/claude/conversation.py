"""Conversations and their turns: what the rest of the project talks to."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Self
from uuid import uuid4

from .errors import ClaudeError, ConversationClosed, ProcessDied, TurnFailed, TurnTimeout
from .events import Event, TurnEnd, Usage
from .history import Content, Message
from .options import Options
from .pool import Pool, Slot

# A CLI ends its turn 10 to 40 ms after an interrupt. One that arrives in the moment its turn
# begins can miss it, so it is told again; one that does not obey three times is killed.
_INTERRUPTS = 3
_INTERRUPT_PATIENCE = 1.0


class Turn:
    """One prompt on its way. Iterate over it for its events; the last is a ``TurnEnd``.

    A turn runs by itself, whether or not somebody reads it. ``async with turn:`` interrupts it
    when the block is left before the end, so that nobody pays for an answer that nobody reads.
    ``started`` is whether the CLI took the prompt up.
    """

    def __init__(self, run: "Callable[[Turn], Awaitable[TurnEnd]]") -> None:
        self.end: TurnEnd | None = None
        self.interrupted = False
        self.started = False
        self._stop: Callable[[], Awaitable[None]] | None = None
        self._events: asyncio.Queue[Event | BaseException] = asyncio.Queue()
        self._over = False
        self._task = asyncio.get_running_loop().create_task(self._run(run))

    def __aiter__(self) -> Self:
        """Iterate over the events that have not been read yet."""
        return self

    async def __anext__(self) -> Event:
        """The next event. Raises ``ClaudeError`` where the turn failed. Cancelling the wait loses
        nothing.
        """
        if self._over:
            raise StopAsyncIteration
        event = await self._events.get()
        if isinstance(event, BaseException):
            self._over = True
            raise event
        self._over = isinstance(event, TurnEnd)
        return event

    async def finish(self) -> TurnEnd:
        """Read on to the end and return it. Raises ``ClaudeError`` where the turn failed."""
        async for event in self:
            if isinstance(event, TurnEnd):
                return event
        assert self.end is not None
        return self.end

    async def interrupt(self) -> None:
        """End the turn, not the conversation; its ``TurnEnd`` says ``interrupted``. Returns when
        it has ended.
        """
        if not self._task.done():
            self.interrupted = True
            if self._stop is None:
                self._task.cancel()
            else:
                await self._stop()
        with suppress(asyncio.CancelledError):
            await asyncio.wait([self._task])

    async def __aenter__(self) -> Self:
        """Read the turn in a block that interrupts it when left early."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Interrupt the turn unless it is over."""
        if not self._task.done():
            # In a task of its own: this block is often left because its task is being cancelled.
            stopping = asyncio.get_running_loop().create_task(self.interrupt())
            await asyncio.shield(stopping)

    async def _run(self, run: "Callable[[Turn], Awaitable[TurnEnd]]") -> None:
        try:
            self.end = await run(self)
            self._events.put_nowait(self.end)
        except ClaudeError as error:
            self._events.put_nowait(error)
        except asyncio.CancelledError:
            if not self.interrupted:
                self._events.put_nowait(ConversationClosed())
                raise
            self.end = _interrupted()
            self._events.put_nowait(self.end)
        except Exception as error:
            failure = TurnFailed(
                f"The turn failed inside this program ({type(error).__name__}: {error})."
            )
            failure.__cause__ = error
            self._events.put_nowait(failure)


class Conversation:
    """A conversation with Claude Code that outlives its process.

    ``owner`` is who it belongs to: no process ever serves two owners. ``history`` are turns that
    were had elsewhere. Without ``persist`` the CLI writes no transcript, and the conversation
    ends with its process. It belongs to the pool's event loop.
    """

    def __init__(
        self,
        pool: Pool,
        options: Options | None = None,
        *,
        owner: str = "",
        history: Sequence[Message] = (),
        persist: bool = True,
    ) -> None:
        self.id = str(uuid4())
        self.options = options or Options()
        self.owner = owner
        self.turns = 0
        self.usage = Usage()
        self.cost_usd = 0.0
        self._pool = pool
        self._history = tuple(history)
        self._persist = persist
        self._slot: Slot | None = None
        self._model_in_process: str | None = None
        # The CLI's own session: a transcript exists once it has taken a prompt up.
        self._session_id = self.id
        self._has_transcript = False
        self._lock = asyncio.Lock()
        self._current: Turn | None = None
        self._closed = False

    def send(self, content: Content) -> Turn:
        """Send a prompt: text, or Anthropic content blocks. Turns of one conversation run one
        after another.
        """
        if self._closed:
            raise ConversationClosed()
        return Turn(lambda turn: self._turn(turn, content))

    def set_model(self, model: str | None) -> None:
        """Answer with another model from the next turn on; None is the CLI's default."""
        self.options = replace(self.options, model=model)

    async def interrupt(self) -> None:
        """End the turn that is running, if there is one."""
        if self._current is not None:
            await self._current.interrupt()

    async def close(self) -> None:
        """End the conversation and its process. The CLI's transcript stays where the CLI keeps
        it.
        """
        self._closed = True
        await self.interrupt()
        self._let_go()

    async def _turn(self, turn: Turn, content: Content) -> TurnEnd:
        """Run one turn from the queue to its end; the process is parked after a good end and
        released after a bad one.
        """
        async with self._lock:
            if self._closed:
                raise ConversationClosed()
            self._current = turn
            try:
                slot = await self._ready()
                try:
                    end = await self._stream(turn, slot, content)
                except ProcessDied:
                    if not slot.reused or turn.started or turn.interrupted:
                        raise
                    # It died while it was idle, and nobody had noticed: the prompt was never
                    # taken up.
                    self._let_go()
                    slot = await self._ready()
                    end = await self._stream(turn, slot, content)
            except BaseException as error:
                self._let_go()
                if isinstance(error, ProcessDied) and turn.interrupted:
                    return _interrupted()
                raise
            finally:
                self._current = None
            self.turns += 1
            self.usage += end.usage
            self.cost_usd += end.cost_usd
            if self._persist:
                self._pool.park(slot)
            else:
                self._let_go()
            return end

    async def _ready(self) -> Slot:
        """The slot with our process: the one we left it in, else a new one that takes the
        conversation up.
        """
        if self._slot is None or not self._pool.unpark(self._slot):
            self._slot = await self._pool.claim(self.owner)
            if not self._has_transcript:
                self._session_id = str(uuid4())
            await self._pool.start(
                self._slot,
                self.options,
                session_id=self._session_id,
                resume=self._has_transcript,
                history=() if self._has_transcript else self._history,
                persist=self._persist,
            )
        elif self._model_in_process != self.options.model:
            assert self._slot.process is not None
            await self._slot.process.set_model(self.options.model)
        self._model_in_process = self.options.model
        return self._slot

    async def _stream(self, turn: Turn, slot: Slot, content: Content) -> TurnEnd:
        """Send the prompt and pass the events on."""
        from .translate import TurnReader

        process = slot.process
        assert process is not None

        async def stop() -> None:
            for _ in range(_INTERRUPTS):
                await process.interrupt()
                if (await asyncio.wait([turn._task], timeout=_INTERRUPT_PATIENCE))[0]:
                    return
            process.kill()

        reader = TurnReader(self.id, spent=process.total_cost)
        # From here on a cancellation would leave the process in the middle of a turn: an
        # interrupt goes to the CLI.
        turn._stop = stop
        limit = asyncio.get_running_loop().call_later(
            self._pool.limits.turn_timeout, lambda: asyncio.ensure_future(stop())
        )
        timed_out = False
        try:
            async for message in process.turn(content):
                for event in reader.feed(message):
                    self._has_transcript = self._persist
                    turn.started = True
                    if isinstance(event, TurnEnd):
                        timed_out = event.reason == "interrupted" and not turn.interrupted
                        if timed_out:
                            break
                        return event
                    turn._events.put_nowait(event)
        finally:
            limit.cancel()
            process.total_cost = reader.total_cost
        if timed_out:
            raise TurnTimeout(
                f"The turn took longer than {self._pool.limits.turn_timeout:g} seconds and was "
                "interrupted. Ask for less at once, or raise CCApiApp.turn_timeout."
            )
        raise ProcessDied("Claude Code ended in the middle of the turn.")

    def _let_go(self) -> None:
        """Give our process up, if we have one."""
        if self._slot is not None:
            self._pool.release(self._slot)
            self._slot = None


def query(
    pool: Pool,
    prompt: Content,
    options: Options | None = None,
    *,
    owner: str = "",
    history: Sequence[Message] = (),
) -> Turn:
    """Ask once: a turn of a conversation that ends with it and leaves no transcript."""
    return Conversation(pool, options, owner=owner, history=history, persist=False).send(prompt)


def _interrupted() -> TurnEnd:
    """The end of a turn that was stopped before the model had said anything."""
    return TurnEnd("interrupted", "", None, "", Usage(), 0.0, 0.0)
