"""Rewind files and conversation to before a prompt, both or neither, and take that back.

A rewind is prepared, then noted in a journal, then the files are put in place, then the record is
replaced, which is the moment at which it is done. Whoever finds a journal later knows by the record
on which side of that moment the rewind was cut off: its files are put back, or its conversation is
moved on.
"""

import asyncio
import json
import shutil
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from .copies import copied, copy_to, put_back
from .errors import ClaudeError, RewindRefused
from .planning import Plan, plan_files, plan_own
from .record import Checkpoint, Pointer, Rewound, Step, write_whole
from .timeline import Timeline

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
        self._journal = timeline.path.with_suffix(".rewind")

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
        """Finish, or take back, what a process that is gone has left half done."""
        try:
            noted = json.loads(await asyncio.to_thread(self._journal.read_text))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise ClaudeError(
                f"The journal of a rewind ({self._journal}) cannot be read: {error}."
            ) from error
        record = self._timeline.record
        if record.last == noted["id"]:
            if record.head is not None and noted["moves"]:
                await self._talk.go(record.head)
        else:
            await asyncio.to_thread(self._take_back, noted)
        await asyncio.to_thread(self._journal.unlink, missing_ok=True)

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
        if steps and steps[0].before is not None and now is not None:
            return await asyncio.to_thread(plan_files, plan, self._timeline, steps, now, wish)
        return await asyncio.to_thread(plan_own, plan, self._timeline, later, wish)

    async def _plan_undo(self, rewound: Rewound, wish: Wish) -> Plan:
        plan = Plan(rewound.checkpoint, "", returns=rewound.undone)
        if rewound.copies is not None:
            own = await asyncio.to_thread(copied, Path(rewound.copies))
            return replace(plan, own=tuple(own))
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
        task = asyncio.create_task(self._do(id, plan, target, restore_own, commit))
        try:
            await asyncio.wait([task])
        finally:
            await asyncio.wait([task])
        task.result()

    async def _do(
        self,
        id: str,
        plan: Plan,
        target: Pointer | None,
        restore_own: Callable[[], Awaitable[None]],
        commit: Callable[[Step | None, str | None], None],
    ) -> None:
        record, snapshots = self._timeline.record, self._timeline.snapshots
        paths = [one.path for one in plan.files]
        copies = self._timeline.folder / f"{record.id}.{id}.copies" if plan.own else None
        noted: dict[str, Any] = {"id": id, "paths": paths, "now": plan.now, "target": plan.target}
        noted |= {"copies": str(copies) if copies else None, "moves": target is not None}
        if copies is not None:
            await asyncio.to_thread(_copy, copies, plan.own)
        await asyncio.to_thread(write_whole, self._journal, noted)
        step: Step | None = None
        kept = replace(
            record,
            steps=list(record.steps),
            checkpoints=list(record.checkpoints),
            rewinds=list(record.rewinds),
        )
        try:
            if copies is not None:
                await restore_own()
            elif paths:
                assert snapshots is not None
                assert plan.target is not None
                await asyncio.to_thread(snapshots.restore, plan.target, paths, expected=plan.now)
                step = Step(uuid4().hex, plan.now, await self._timeline.take())
                record.steps.append(step)
            commit(step, str(copies) if copies else None)
            record.last = id
            if target is not None:
                record.head = target
            await self._timeline.save()
        except BaseException as error:
            self._timeline.record = kept
            try:
                await asyncio.to_thread(self._take_back, noted)
            except (ClaudeError, OSError) as second:
                # The journal stays: whatever comes next to this conversation tries again.
                raise ClaudeError(
                    f"{error} The files could not be put back as they were ({second}); that is "
                    "tried again with the next prompt or rewind."
                ) from error
            await asyncio.to_thread(self._journal.unlink, missing_ok=True)
            raise
        if target is not None:
            await self._talk.go(target)
        await asyncio.to_thread(self._journal.unlink, missing_ok=True)

    def _take_back(self, noted: dict[str, Any]) -> None:
        """Put the files back of a rewind that was not done; one that somebody has changed since
        stays as it is.
        """
        if noted["copies"] is not None:
            put_back(Path(noted["copies"]))
            shutil.rmtree(noted["copies"], ignore_errors=True)
        snapshots = self._timeline.snapshots
        if not noted["paths"] or snapshots is None:
            return
        present = snapshots.take()
        other = {one.path for one in snapshots.changes(present, noted["target"])}
        paths = [path for path in noted["paths"] if path not in other]
        snapshots.restore(noted["now"], paths, expected=None)


def _copy(folder: Path, files: Collection[Path]) -> None:
    try:
        copy_to(folder, files)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise RewindRefused(
            f"Nothing was rewound: {error.filename} could not be copied first ({error.strerror})."
        ) from error
