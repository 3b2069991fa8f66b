"""Conversations and their turns: what the rest of the project talks to."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from .asking import Allowed
from .checkpointed import checkpointed
from .errors import (
    BudgetSpent,
    ClaudeError,
    ConversationClosed,
    InvalidOption,
    ProcessDied,
    RewindRefused,
    TurnTimeout,
)
from .events import Event, Spent, TurnEnd, Usage
from .history import Content, Message, Session, as_said, is_blank, settle, words_of
from .options import Options
from .permission_mode import PermissionMode
from .planning import Plan
from .pool import Pool
from .record import Pointer
from .rewinding import Rewinder
from .slots import Slot, Wanted
from .stopping import Stopping
from .timeline import Timeline
from .turn import Turn
from .watching import Watchers

if TYPE_CHECKING:
    from claude_agent_sdk import Message as SDKMessage

    from .process import Process
    from .translate import TurnReader

T = TypeVar("T")

# Seconds in which a turn can be ended politely when its conversation is closed.
_CLOSE_PATIENCE = 0.5


class Conversation:
    """A conversation with Claude Code that outlives its process.

    ``owner`` is who it belongs to: no process ever serves two owners. ``history`` are turns that
    were had elsewhere. Without ``persist`` the CLI writes no transcript, and each turn begins with
    ``history`` again. It belongs to the pool's event loop.

    ``options`` may be replaced between turns. The model is switched live; what a process is bound
    to (system prompt, tools, schema, mode, folder) moves the conversation to another process, which
    then holds the same history. ``id`` stays, over all sessions of the CLI. With a ``timeline``
    each prompt is a checkpoint, and it goes on where that says that it stands. ``budget_usd`` may
    be set: what all its turns may cost, of which ``cost_usd`` is spent.
    """

    def __init__(
        self,
        pool: Pool,
        options: Options | None = None,
        *,
        owner: str = "",
        history: Sequence[Message] = (),
        persist: bool = True,
        parks: bool = True,
        id: str | None = None,
        timeline: Timeline | None = None,
    ) -> None:
        self.id = id or str(uuid4())
        self.timeline = timeline
        self.options = options or Options()
        self.owner = owner
        self.turns = 0
        self.usage = Usage()
        self.cost_usd = 0.0
        self.budget_usd: float | None = None
        self.watchers = Watchers()
        self._pool = pool
        self._persist = persist
        self._parks = parks
        # What it holds, as far as we know it better than from the CLI's transcript.
        self._history: Sequence[Message] | None = tuple(history)
        # The CLI's session that holds it, and whether that has an answer in its transcript, which
        # must not get lost unnoticed.
        self._session = str(uuid4()) if id else self.id
        self._answered = False
        # Whether the CLI's transcript says something else than what was said: the last turn waits
        # for the client's tools, or was cut off.
        self._differs = False
        self._allowed = Allowed()
        self._slot: Slot | None = None
        self._bound_to: Options | None = None
        self._totals: list[Spent] = []
        self._permission = PermissionMode()
        self._lock = asyncio.Lock()
        self._current: Turn | None = None
        self._closed = False
        if timeline is not None and timeline.record.head is not None:
            self._stand(timeline.record.head)

    def send(self, content: Content) -> Turn:
        """Send a prompt: text, or Anthropic content blocks, with the options as they are now.
        Turns of one conversation run one after another. Raises ``InvalidOption`` where there is
        nothing in it.
        """
        if self._closed:
            raise ConversationClosed()
        if is_blank(content):
            # The CLI would answer nothing, or send a text of its own in its place.
            raise InvalidOption("content", "The prompt is empty.")
        options, changes = self.options, self._permission.changes
        return Turn(lambda turn: self._turn(turn, content, options, changes))

    def set_model(self, model: str | None) -> None:
        """Answer with another model from the next turn on; None is the CLI's default."""
        self.options = replace(self.options, model=model)

    async def set_permission_mode(self, mode: str) -> None:
        """Have Claude Code ask as this mode of its says, at once: also in a turn that runs, and for
        prompts that wait. Raises ``ControlRefused`` where the turn that runs goes on without.
        """
        self._permission.change(mode)
        self.options = self._permission.put(self.options)
        # A process that comes up now is told when it is there.
        if self._slot is not None and self._slot.process is not None:
            await self._tell_permission(self._slot.process)

    async def _tell_permission(self, process: "Process") -> None:
        if self._bound_to is None or not process.initialized:
            return
        try:
            await self._permission.tell(process)
        except ClaudeError:
            # Where no turn runs, the next one has a process of its own.
            if self._current is not None:
                raise
        else:
            self._bound_to = self._permission.put(self._bound_to)

    async def interrupt(self) -> None:
        """End the turn that is running, if there is one."""
        if self._current is not None:
            await self._current.interrupt()

    async def close(self) -> None:
        """End the conversation and its process. The CLI's transcript stays where the CLI keeps
        it.
        """
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_PATIENCE):
                await self.interrupt()
        if self._current is not None and self._slot is not None and self._slot.process is not None:
            self._slot.process.kill()  # a tool of its does not let go
            await self.interrupt()
        async with self._lock:  # a rewind is done by then
            if self._slot is not None:
                self._pool.release(self._slot)
                await self._slot.gone.wait()

    async def _turn(self, turn: Turn, content: Content, options: Options, changes: int) -> TurnEnd:
        """Run one turn from the queue to its end; the process is parked after a good end and
        released after a bad one.
        """
        async with self._lock:
            if self._closed:
                raise ConversationClosed()
            self._current = turn
            self.watchers.tell(lambda one: one.begins(turn, content))
            try:
                turn.changes = self._permission.changes
                options = self._within_budget(self._permission.over(options, changes))
                end = await self._checkpointed(turn, content, options)
            except BaseException as error:
                self._let_go()
                outcome = turn.outcome_of(error)
                if isinstance(outcome, ClaudeError) and outcome.spent is not None:
                    self._count(outcome.spent)
                self.watchers.tell(lambda one: one.ends(outcome))
                raise
            finally:
                self._current = None
            self.turns += 1
            self._count(end)
            self.watchers.tell(lambda one: one.ends(end))
            return end

    def _within_budget(self, options: Options) -> Options:
        """These options with what the conversation may still spend. Raises ``BudgetSpent``."""
        if self.budget_usd is None:
            return options
        if (left := self.budget_usd - self.cost_usd) <= 0:
            raise BudgetSpent(self.budget_usd)
        return replace(options, budget_usd=min(left, options.budget_usd or left))

    async def _checkpointed(self, turn: Turn, content: Content, options: Options) -> TurnEnd:
        """Run a turn between the snapshots before and after it."""
        timeline = self.timeline
        if timeline is None:
            return await self._answer(turn, content, options)
        await Rewinder(timeline, self).recover()
        answer = partial(self._answer, turn, content, options)
        return await checkpointed(timeline, turn, words_of(content), lambda: self.head, answer)

    @property
    def head(self) -> Pointer:
        """Where it stands: in which session of the CLI's, and whether that has an answer."""
        return {"session": self._session, "answered": self._answered or self._history is None}

    async def before(self, anchor: Pointer) -> Pointer:
        """Where it would stand just before a prompt; see ``rewinding.Talk``."""
        return await self._pool.kept(self.options).head_before(anchor)

    async def go(self, head: Pointer) -> None:
        """Stand there from the next turn on, in a process of its own."""
        if self._slot is not None:
            self._pool.release(self._slot)
            await self._slot.gone.wait()
        self._stand(head)

    def _stand(self, head: Pointer) -> None:
        self._session, self._answered = str(head["session"]), bool(head["answered"])
        # A first turn that was not lived to its end has left a transcript all the same.
        kept = self._pool.kept(self.options)
        known = self._answered or kept.is_kept(self._session, self.options.cwd)
        self._history = None if known else ()
        self._differs = False

    async def rewind_own_files(self, anchor: Pointer) -> None:
        """Have Claude Code put back what its own tools have changed since a prompt."""
        from .cli_checkpoints import rewind_files

        session = Session(str(anchor["session"]), None, known=True)
        wanted = Wanted.of(self.options, session, cold=True)
        slot = await self._pool.claim(self.owner, wanted)
        try:
            process = await self._pool.prepare(slot, wanted)
            await rewind_files(process, str(anchor["prompt"]))
        finally:
            self._pool.release(slot)
            await slot.gone.wait()

    async def rewinding(self, act: Callable[[Rewinder], Awaitable[T]]) -> T:
        """Do something with the checkpoints while no turn runs. Raises ``RewindRefused`` while one
        does, and where no checkpoints are kept.
        """
        if self.timeline is None:
            raise RewindRefused("No checkpoints are kept of this conversation.")
        timeline, rewinder = self.timeline, Rewinder(self.timeline, self)

        async def done() -> T:
            if self._lock.locked():
                raise RewindRefused("A turn is running in this conversation: stop it first.")
            async with self._lock:
                rewinds = len(timeline.record.rewinds)
                done = await act(rewinder)
                more = len(timeline.record.rewinds) - rewinds
                if isinstance(done, Plan) and more:
                    self.watchers.tell(lambda one: one.rewound(done, undo=more < 0))
                return done

        # Whoever watches is told of it, also where nobody waits for it any more.
        return await asyncio.shield(asyncio.get_running_loop().create_task(done()))

    async def fork(self, id: str, number: int | None = None) -> None:
        """Keep a copy of it under another id, as it was just before prompt ``number`` (None: as it
        is). Raises ``RewindRefused``.
        """

        async def copy(rewinder: Rewinder) -> None:
            assert self.timeline is not None
            if number is not None:
                head = await rewinder.head_before(number)
            elif self.head["answered"]:
                kept = self._pool.kept(self.options)
                head = await kept.fork_after(self._session, self.options.cwd)
            else:
                head = {"session": str(uuid4()), "answered": False}
            await self.timeline.fork(id, head, number)

        await self.rewinding(copy)

    async def messages(self) -> list[Message]:
        """All that was said in it, from the CLI's transcript."""
        return await self._pool.kept(self.options).messages(self._session, self.options.cwd)

    def _count(self, end: TurnEnd) -> None:
        self.usage, self.cost_usd = self.usage + end.usage, self.cost_usd + end.cost_usd

    async def _answer(self, turn: Turn, content: Content, options: Options) -> TurnEnd:
        history = self._history
        if history is not None:
            history, content = settle(history, content)
        slot = await self._ready(turn, options, history, content)
        try:
            end = await self._stream(turn, slot, content, options)
        except ProcessDied:
            if not slot.reused or turn.started or turn.interrupted:
                raise
            # It died while it was idle, and nobody had noticed: the prompt was never taken up.
            self._let_go()
            # The other warm ones may have died with it.
            slot = await self._ready(turn, options, history, content, cold=True)
            end = await self._stream(turn, slot, content, options)
        self._leave(turn, slot, end, history)
        return end

    def _leave(
        self, turn: Turn, slot: Slot, end: TurnEnd, history: Sequence[Message] | None
    ) -> None:
        """Note what the turn has added, and let its process wait for the next one."""
        process = slot.process
        assert process is not None
        added = None if process.added is None else as_said(process.added)
        turn.messages = added if end.reason in ("completed", "tool_calls") else None
        self._differs = process.broken_off or end.reason == "tool_calls"
        if self._persist:
            self._answered = self._answered or end.reason == "completed"
            if process.held is not None:
                self._history = as_said([held.message for held in process.held])
            elif added is not None and history is not None:
                self._history = [*history, *added]
        else:
            # From now on it may serve another turn of its owner.
            self._slot = None
        if process.broken_off:
            self._pool.release(slot)
        else:
            self._pool.park(slot, loose=not self._persist)

    async def _ready(
        self,
        turn: Turn,
        options: Options,
        history: Sequence[Message] | None,
        content: Content,
        *,
        cold: bool = False,
    ) -> Slot:
        """The slot with our process: the one we left it in, else another one that takes the
        conversation up; ``cold``: a new one.
        """
        bound_to = replace(options, model=None, max_tokens=None, budget_usd=None)
        slot = self._slot if self._persist else None
        if slot is not None and self._serves(slot, bound_to, options, content):
            assert slot.process is not None
            slot.process.toolbox.fill(options.tools)
        else:
            if slot is not None:
                # It may still be writing the transcript that the next one is to read.
                self._pool.release(slot)
                await slot.gone.wait()
            options = self._allowed.over(options)
            wanted = Wanted.of(options, self._next_session(bound_to, history), content, cold=cold)
            self._slot = slot = await self._pool.claim(self.owner, wanted)
            self._bound_to = bound_to
            (await self._pool.prepare(slot, wanted)).asking.allowed = self._allowed
        turn.warmth = slot.warmth
        self._pool.served[slot.warmth] += 1
        return slot

    def _next_session(self, bound_to: Options, history: Sequence[Message] | None) -> Session:
        """The session of the CLI's in which another process takes the conversation up.

        A move begins a new one: the one before may lie in another folder, and has another system
        prompt. So does a turn that the CLI has noted as broken off, and we have not.
        """
        moves = self._differs or self._bound_to not in (None, bound_to)
        moves = moves and history is not None
        name = str(uuid4()) if moves else self._session
        return Session(name, history, self._persist, known=self._answered and not moves)

    def _serves(self, slot: Slot, bound_to: Options, options: Options, content: Content) -> bool:
        """Whether the process that we left can go on; it is ours again then."""
        process = slot.process
        if self._bound_to != bound_to or process is None:
            return False
        able = self._pool.capabilities
        same = process.bounds.max_tokens == options.max_tokens
        if slot.parked and not (same and process.takes(content) and process.model == options.model):
            return False
        switches = process.can_switch(options.model, able) and (same or able.set_bounds)
        return switches and self._pool.unpark(slot)

    def _begin(
        self, process: "Process", content: Content, options: Options, *, parks: bool
    ) -> "tuple[AsyncGenerator[SDKMessage, None], TurnReader]":
        """What the CLI says to a prompt, and what reads it."""
        from .translate import GoesOn, TurnReader

        # An agent's own tools and sub-agents have the model asked when we do not know.
        guarded = options.mode == "chat" and self._pool.capabilities.set_bounds
        # A process counts on over all that it served; one that takes a session up, from what was
        # counted in that.
        totals = [process.total] if process.total else self._totals
        if process.takes(content):
            before = GoesOn(tuple(process.waiting_for), process.answering, process.told)
            reader = TurnReader(self.id, totals, options, before)
            return process.resume(content, parks=parks, guarded=guarded), reader
        said = process.turn(content, parks=parks, guarded=guarded)
        return said, TurnReader(self.id, totals, options)

    async def _stream(self, turn: Turn, slot: Slot, content: Content, options: Options) -> TurnEnd:
        """Send the prompt and pass the events on."""
        from .budget import Budget

        process = slot.process
        assert process is not None
        await process.switch_model(options.model)
        await process.set_max_tokens(options.max_tokens)
        stays = self._persist or slot.binding is not None
        parks = self._parks and self._pool.limits.warm and stays
        said, reader = self._begin(process, content, options, parks=parks)
        stopping = Stopping(process, self._pool.limits.turn_timeout)
        budget = Budget(process, options.budget_usd, stopping.begin)

        def tell(event: Event) -> None:
            turn._tell(event)
            self.watchers.tell(lambda one: one.sees(event))

        if turn.changes != self._permission.changes:
            await self._tell_permission(process)
        process.asking.begin(tell, options.cwd or Path.cwd(), stopping.pause)
        process.hears = self.watchers.hears
        # From here on a cancellation would leave the process in the middle of a turn: an
        # interrupt goes to the CLI.
        turn._stop, turn._asking = stopping.begin, process.asking
        end: TurnEnd | None = None
        try:
            await budget.begin()
            async with aclosing(said) as messages:
                async for message in messages:
                    budget.notice(message)
                    for event in reader.feed(message):
                        if not turn.started:
                            self._taken_up(process)
                            cwd = str(options.cwd or Path.cwd())
                            turn.anchor = {
                                "session": process.session_id,
                                "prompt": process.prompt,
                                "cwd": cwd,
                            }
                        turn.started = True
                        if isinstance(event, TurnEnd):
                            end = event
                        else:
                            tell(event)
                            turn.note(event)
        except ProcessDied:
            if turn.interrupted or stopping.timed_out or budget.spent:
                end = reader.interrupted()
            elif slot.closing:
                raise ConversationClosed("pool") from None
            elif reader.waits:
                end = reader.waiting()
            else:
                if turn.anchor is not None:
                    turn.anchor = await self._pool.kept(self.options).with_place(turn.anchor)
                raise
        finally:
            turn._stop = turn._asking = process.hears = None
            budget.end()
            process.asking.end()
            stopping.end()
            if reader.total is not None:
                self._totals.append(reader.total)
                process.total = reader.total
        if end is None:
            # The last message of a turn is its result, unless it goes on or was cut off.
            end = reader.waiting() if process.waiting_for else reader.cut_off()
            process.told += end.usage
        if end.reason != "interrupted" or turn.interrupted:
            return end
        if budget.spent:
            return replace(end, reason="max_budget")
        if stopping.timed_out:
            raise TurnTimeout(
                f"The turn took longer than {self._pool.limits.turn_timeout:g} seconds and was "
                "interrupted. Ask for less at once, or raise the option turn_timeout."
            )
        return end

    def _taken_up(self, process: "Process") -> None:
        """The prompt is in the CLI's transcript; what we know of that is known again when the turn
        ends well.
        """
        self._differs = False
        if self._persist:
            self._history, self._session = None, process.session_id

    def _let_go(self) -> None:
        """Give our process up, if we have one."""
        if self._slot is not None:
            self._pool.release(self._slot)
