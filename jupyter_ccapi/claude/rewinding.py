"""Rewind files and conversation to before a prompt, both or neither, and take that back.

A rewind is prepared, then noted in a journal, then the files are put in place, then the record is
replaced, which is the moment at which it is done. Whoever finds a journal later knows by the record
on which side of that moment the rewind was cut off: its files are put back, or its conversation is
moved on.
"""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from .copies import changed_after, copied, copy_to, note_after, put_back
from .errors import ClaudeError, RewindRefused
from .journal import Journal, Noted
from .planning import Plan, plan_files, plan_own
from .record import Checkpoint, Pointer, Rewound, Step
from .timeline import Timeline
from .unbroken import unbroken

_NO_CHECKPOINT = "There is no checkpoint {} in this conversation; it has {}."


class Talk(Protocol):
    """The conversation whose checkpoints they are."""

    @property
    def head(self) -> Pointer:
        """Where it stands."""

    async def before(self, anchor: Pointer) -> Pointer:
        """Where it stands just before this prompt. Changes nothing that anybody sees. Raises
        ``ClaudeError`` where it cannot be had.
        """

    async def go(self, head: Pointer) -> None:
        """Stand there; again, where it stands there already."""

    async def rewind_own_files(self, anchor: Pointer) -> None:
        """Put back what Claude Code's own tools have changed since this prompt. Raises
        ``ClaudeError``.
        """


@dataclass(frozen=True, slots=True)
class Wish:
    """What to rewind: files, the conversation, or both. With ``force`` what has changed by another
    hand is overwritten, too; files in ``protected`` (absolute) never are: they are open.
    """

    files: bool = True
    conversation: bool = True
    force: bool = False
    protected: Collection[Path] = ()


class Rewinder:
    """Rewinds one conversation. Nothing else may happen in it meanwhile."""

    def __init__(self, timeline: Timeline, talk: Talk) -> None:
        self._timeline = timeline
        self._talk = talk
        self._journal = Journal(timeline)

    async def preview(self, number: int, wish: Wish | None = None) -> Plan:
        """What a rewind to before prompt ``number`` would do; nothing is changed. Raises
        ``RewindRefused`` where there is no such checkpoint.
        """
        await self.recover()
        return await self._plan(self._checkpoint(number), wish or Wish())

    async def rewind(self, number: int, wish: Wish | None = None) -> Plan:
        """Rewind to before prompt ``number``; returns what was done. Raises ``RewindRefused``, or
        another ``ClaudeError``, and then nothing was.
        """
        wish = wish or Wish()
        await self.recover()
        checkpoint = self._checkpoint(number)
        if not wish.conversation and self._timeline.snapshots is None:
            raise RewindRefused("There are no files to rewind: this conversation has no folder.")
        plan = await self._plan(checkpoint, wish)
        plan.check()
        record = self._timeline.record
        head = self._talk.head if wish.conversation else None
        target = await self._before(checkpoint) if wish.conversation else None
        undone = record.checkpoints[record.checkpoints.index(checkpoint) :]
        rewound = Rewound(uuid4().hex, number, time.time(), None, head)
        if wish.conversation:
            rewound = replace(rewound, undone=tuple(undone))

        async def restore() -> None:
            assert checkpoint.anchor is not None
            await self._talk.rewind_own_files(checkpoint.anchor)

        def commit(step: Step | None, copies: str | None) -> None:
            if wish.conversation:
                record.checkpoints = record.checkpoints[: -len(undone)]
            changed = step.id if step is not None else None
            record.rewinds.append(replace(rewound, step=changed, copies=copies))

        await self._perform(rewound.id, plan, target, restore, commit)
        return plan

    async def preview_undo(self, wish: Wish | None = None) -> Plan:
        """What taking back the last rewind would do. Raises ``RewindRefused`` where there is none
        since the last prompt.
        """
        await self.recover()
        return await self._plan_undo(self._last(), wish or Wish())

    async def undo(self, wish: Wish | None = None) -> Plan:
        """Take the last rewind back. Raises as ``rewind`` does."""
        await self.recover()
        rewound = self._last()
        plan = await self._plan_undo(rewound, wish or Wish())
        plan.check()
        record = self._timeline.record

        async def restore() -> None:
            assert rewound.copies is not None
            await asyncio.to_thread(put_back, Path(rewound.copies))

        def commit(step: Step | None, copies: str | None) -> None:
            record.rewinds.pop()
            record.checkpoints += rewound.undone

        await self._perform(uuid4().hex, plan, rewound.head, restore, commit)
        return plan

    async def head_before(self, number: int) -> Pointer:
        """Where the conversation stood just before prompt ``number``; it stays where it is. Raises
        ``RewindRefused``.
        """
        await self.recover()
        return await self._before(self._checkpoint(number))

    async def recover(self) -> None:
        """Finish, or take back, what a process that is gone has left half done. Raises
        ``ClaudeError`` where that cannot be.
        """
        with self._timeline.busy():
            noted = await asyncio.to_thread(self._journal.read)
            if noted is None:
                return
            record = self._timeline.record
            if record.last != noted.id:
                await unbroken(lambda: self._journal.recover(noted))
            elif record.head is not None and noted.moves:
                await self._talk.go(record.head)
            await asyncio.to_thread(self._journal.clear)

    def _checkpoint(self, number: int) -> Checkpoint:
        record = self._timeline.record
        found = record.checkpoint(number)
        if found is None:
            numbers = [one.number for one in record.checkpoints]
            has = f"{numbers[0]} to {numbers[-1]}" if numbers else "none yet"
            raise RewindRefused(_NO_CHECKPOINT.format(number, has))
        return found

    def _last(self) -> Rewound:
        if not self._timeline.record.rewinds:
            raise RewindRefused(
                "There is no rewind to take back: none was done since the last prompt."
            )
        return self._timeline.record.rewinds[-1]

    async def _before(self, checkpoint: Checkpoint) -> Pointer:
        if checkpoint.anchor is None:
            raise RewindRefused(
                f"The conversation cannot be rewound to {checkpoint.number}: how that turn ended "
                "is not known. --files rewinds the files alone."
            )
        return await self._talk.before(checkpoint.anchor)

    async def _plan(self, checkpoint: Checkpoint, wish: Wish) -> Plan:
        record = self._timeline.record
        later = record.checkpoints[record.checkpoints.index(checkpoint) :]
        plan = Plan(
            checkpoint.number,
            checkpoint.words,
            undone=tuple(later) if wish.conversation else (),
            variables=tuple(dict.fromkeys(name for one in later for name in one.variables)),
        )
        if not wish.files:
            return plan
        now = await self._timeline.take()
        steps = record.since(checkpoint.step)
        if steps and steps[0].before is not None:
            if now is None:
                raise RewindRefused(
                    f"The files cannot be rewound: {self._timeline.refusal} --conversation "
                    "rewinds the conversation alone."
                )
            return await asyncio.to_thread(plan_files, plan, self._timeline, steps, now, wish)
        return await asyncio.to_thread(plan_own, plan, self._timeline, later, wish)

    async def _plan_undo(self, rewound: Rewound, wish: Wish) -> Plan:
        plan = Plan(rewound.checkpoint, "", returns=rewound.undone)
        if rewound.copies is not None:
            return await asyncio.to_thread(_plan_copies, plan, Path(rewound.copies), wish)
        if rewound.step is None:
            return plan
        now, steps = await self._timeline.take(), self._timeline.record.since(rewound.step)
        if now is None or not steps:
            raise RewindRefused(
                f"The files cannot be put back: {self._timeline.refusal or 'they are not kept'}."
            )
        return await asyncio.to_thread(plan_files, plan, self._timeline, steps, now, wish)

    async def _perform(
        self,
        id: str,
        plan: Plan,
        target: Pointer | None,
        restore_own: Callable[[], Awaitable[None]],
        commit: Callable[[Step | None, str | None], None],
    ) -> None:
        """Do it, all or nothing. A cancellation waits until it is one or the other."""
        cancelled: asyncio.CancelledError | None = None
        with self._timeline.busy():
            task = asyncio.create_task(self._do(id, plan, target, restore_own, commit))
            while not task.done():
                try:
                    await asyncio.wait([task])
                except asyncio.CancelledError as error:
                    cancelled = error
        if cancelled is not None and not task.cancelled() and task.exception() is None:
            raise cancelled
        task.result()

    async def _do(
        self,
        id: str,
        plan: Plan,
        target: Pointer | None,
        restore_own: Callable[[], Awaitable[None]],
        commit: Callable[[Step | None, str | None], None],
    ) -> None:
        timeline = self._timeline
        copies = timeline.folder / f"{timeline.record.id}.{id}.copies" if plan.own else None
        noted = Noted.of(id, plan, timeline.workspace, copies, moves=target is not None)
        kept, done = timeline.record.copy(), False

        def prepare() -> None:
            if copies is not None:
                _copy(copies, plan.own)
            self._journal.write(noted)

        def carry_out() -> None:
            nonlocal done
            step = self._restore(plan)
            if copies is not None:
                note_after(copies)
            commit(step, noted.copies)
            timeline.record.last = id
            if target is not None:
                timeline.record.head = target
            timeline.save_now()
            done = True

        try:
            await unbroken(prepare)
            if copies is not None:
                await restore_own()
            await unbroken(carry_out)
        except BaseException as error:
            if done:
                raise  # what is left to do is done by whoever comes next
            timeline.record = kept
            failure = error
            await unbroken(lambda: self._journal.give_up(noted, failure))
            if isinstance(error, OSError):
                raise ClaudeError(f"Nothing was rewound: {error.strerror}.") from error
            raise
        if target is not None:
            await self._talk.go(target)
        await asyncio.to_thread(self._journal.clear)

    def _restore(self, plan: Plan) -> Step | None:
        """Put the files in place; return the step that this is, None where there are none."""
        snapshots, paths = self._timeline.snapshots, [one.path for one in plan.files]
        if not paths:
            return None
        assert snapshots is not None
        assert plan.target is not None
        snapshots.restore(plan.target, paths, expected=plan.now)
        step = Step(uuid4().hex, plan.now, self._timeline.take_now())
        self._timeline.record.steps.append(step)
        return step


def _plan_copies(plan: Plan, folder: Path, wish: Wish) -> Plan:
    """The plan to take back a rewind with copies of its own. Blocks."""
    try:
        own, changed = copied(folder), changed_after(folder)
    except (OSError, ValueError) as error:
        raise RewindRefused(
            f"The files cannot be put back: the copies of them ({folder}) cannot be read: {error}."
        ) from error
    open_ones = {str(path) for path in wish.protected} & {str(path) for path in own}
    if open_ones:
        raise RewindRefused(
            f"Nothing was put back: {', '.join(sorted(open_ones))} is open, and here only all "
            "files can be put back at once."
        )
    return replace(plan, own=tuple(own), conflicts=() if wish.force else tuple(changed))


def _copy(folder: Path, files: Collection[Path]) -> None:
    try:
        copy_to(folder, files)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise RewindRefused(
            f"Nothing was rewound: {error.filename} could not be copied first ({error.strerror})."
        ) from error
