"""The checkpoints of a conversation: each prompt is one, with the files as they were before it."""

import asyncio
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from .copies import digest_of
from .errors import CannotSnapshot, ClaudeError
from .record import Checkpoint, Pointer, Record, Step
from .snapshots import FileChange, Snapshots

# So many checkpoints of a conversation keep their files; older ones only their words.
_MOST_KEPT = 100
# So much of a prompt is kept to know it by, and so many of the files that a turn has changed.
_WORDS = 80
_MOST_FILES = 200


class Timeline:
    """The checkpoints of one conversation, kept in ``folder`` as ``<id>.json``.

    ``snapshots`` are those of the folder that it works in; None where it has none (chat). Where
    that folder cannot be snapshotted ``refusal`` says why. One turn or rewind at a time.
    """

    def __init__(
        self, folder: Path, id: str, *, workspace: Path | None, store: Path, about: Any = None
    ) -> None:
        self.folder = folder
        self.path = folder / f"{id}.json"
        known = Record.load(self.path)
        self.record = known or Record(id, time.time(), str(workspace or ""), about or {})
        self.snapshots = Snapshots(store, workspace) if workspace is not None else None
        self.refusal: str | None = None
        self._looked = False

    @classmethod
    async def open(
        cls,
        folder: Path,
        id: str,
        *,
        workspace: Path | None,
        store: Path,
        about: Mapping[str, Any] | None = None,
    ) -> "Timeline":
        """Read what is kept of a conversation, or begin with nothing (written with the first
        prompt); ``store`` is where the snapshots of all workspaces lie. Raises ``ClaudeError``.
        """
        return await asyncio.to_thread(
            cls, folder, id, workspace=workspace, store=store, about=dict(about or {})
        )

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints there are, in their order."""
        return list(self.record.checkpoints)

    async def begin(self, prompt: str) -> int:
        """A prompt is about to be sent: keep the files as they are now. Returns its number. What
        was rewound before it cannot be taken back any more.
        """
        before = await self.take()
        last = self.record.checkpoints[-1].number if self.record.checkpoints else 0
        step = Step(uuid4().hex, before)
        self.record.steps.append(step)
        words = " ".join(prompt.split())
        short = words if len(words) <= _WORDS else f"{words[: _WORDS - 1].rstrip()}…"
        self.record.checkpoints.append(Checkpoint(last + 1, time.time(), short, step.id))
        copies = [one.copies for one in self.record.rewinds if one.copies is not None]
        self.record.rewinds.clear()
        await self.save()
        for folder in copies:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return last + 1

    async def end(
        self,
        number: int,
        *,
        anchor: Pointer | None,
        head: Pointer | None,
        edited: Iterable[Path] = (),
        variables: Iterable[str] = (),
    ) -> None:
        """The turn of this checkpoint is over: note what it changed. Without an ``anchor`` the
        prompt was never taken up, and is no checkpoint.
        """
        step, place = self.record.steps[-1], len(self.record.checkpoints) - 1
        checkpoint = self.record.checkpoints[place]
        assert checkpoint.number == number
        after = await self.take()
        changed: list[FileChange] = []
        if step.before is not None and after is not None:
            assert self.snapshots is not None
            changed = await asyncio.to_thread(self.snapshots.changes, step.before, after)
        self.record.steps[-1] = Step(step.id, step.before, after)
        self.record.head = head
        if anchor is None:
            self.record.checkpoints.pop()
        else:
            digests = await asyncio.to_thread(
                lambda: {str(path): digest_of(path) for path in edited}
            )
            self.record.checkpoints[place] = Checkpoint(
                number,
                checkpoint.when,
                checkpoint.words,
                step.id,
                anchor,
                tuple(one.path for one in changed)[:_MOST_FILES]
                or tuple(sorted(digests))[:_MOST_FILES],
                sum(one.insertions for one in changed),
                sum(one.deletions for one in changed),
                digests,
                tuple(dict.fromkeys(variables)),
            )
        self._forget()
        await self.save()

    async def take(self) -> str | None:
        """A snapshot of the files as they are; None where there can be none."""
        if self.snapshots is None:
            return None
        try:
            if await self.refused():
                return None
            return await asyncio.to_thread(self.snapshots.take)
        except CannotSnapshot as error:
            self.refusal, self._looked = str(error), False
            return None

    async def refused(self) -> bool:
        """Whether the files cannot be snapshotted, so that Claude Code's checkpoints stand in."""
        if self.snapshots is not None and not self._looked:
            self.refusal = await asyncio.to_thread(self.snapshots.refusal)
            self._looked = True
        return self.refusal is not None

    async def fork(self, id: str, head: Pointer, before: int | None) -> None:
        """Keep a copy under another id, that stands there; of the checkpoints it has those before
        this one (None: all). Raises ``ClaudeError``.
        """
        record = self.record
        kept = [one for one in record.checkpoints if before is None or one.number < before]
        copy = replace(
            record,
            id=id,
            created=time.time(),
            head=head,
            steps=list(record.steps),
            checkpoints=kept,
            rewinds=[],
            last=None,
        )
        await asyncio.to_thread(copy.save, self.path.with_name(f"{id}.json"))
        if self.snapshots is not None:
            await asyncio.to_thread(self.snapshots.keep, id, _named(copy))

    async def save(self) -> None:
        """Write the record, then let the snapshots go that nothing in it names. Raises
        ``ClaudeError``.
        """
        await asyncio.to_thread(self.record.save, self.path)
        if self.snapshots is not None:
            await asyncio.to_thread(self.snapshots.keep, self.record.id, _named(self.record))

    async def delete(self) -> None:
        """Forget all of it."""
        self.path.unlink(missing_ok=True)
        if self.snapshots is not None:
            await asyncio.to_thread(self.snapshots.keep, self.record.id, ())

    def _forget(self) -> None:
        """Bound what is kept: files of the newest checkpoints only."""
        kept = self.record.checkpoints[-_MOST_KEPT:]
        if len(self.record.checkpoints) > _MOST_KEPT:
            self.record.steps = self.record.since(kept[0].step) or self.record.steps


def _named(record: Record) -> set[str]:
    """The snapshots that a record names."""
    return {one for step in record.steps for one in (step.before, step.after) if one}


def read_records(folder: Path) -> list[Record]:
    """All conversations of which checkpoints are kept, the one written last first; what cannot be
    read is left out.
    """
    found: list[tuple[float, Record]] = []
    for path in folder.glob("*.json"):
        try:
            record = Record.load(path)
            if record is not None:
                found.append((path.stat().st_mtime, record))
        except (ClaudeError, OSError):
            continue
    return [record for _, record in sorted(found, key=lambda pair: pair[0], reverse=True)]
