"""The checkpoints of a conversation: each prompt is one, with the files as they were before it."""

import asyncio
import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from .changes import FileChange
from .copies import digest_of
from .errors import CannotSnapshot, ClaudeError, InvalidOption
from .holding import Hold
from .record import Checkpoint, Pointer, Record, Step
from .unbroken import unbroken

if TYPE_CHECKING:
    from .snapshots import Snapshots

# So many checkpoints of a conversation keep their files; older ones only their words.
_MOST_KEPT = 100
# With rewinds in between there is more to keep of those than a step each.
_MOST_STEPS = 4 * _MOST_KEPT
# So much of a prompt is kept to know it by, and so many of the files that a turn has changed.
_WORDS = 80
_MOST_FILES = 200


class Timeline:
    """The checkpoints of one conversation, kept in ``folder`` as ``<id>.json``.

    ``snapshots`` are those of the folder that it works in, ``workspace``; None where it has none
    (chat). Where that folder cannot be snapshotted ``refusal`` says why. One turn or rewind at a
    time; nobody else has the conversation until it is closed.
    """

    def __init__(
        self, folder: Path, id: str, *, workspace: Path | None, store: Path, about: Any = None
    ) -> None:
        if Path(id).name != id or not id or id.startswith(".") or "\0" in id:
            raise InvalidOption("id", f"{id!r} is no conversation's id: it names a file.")
        self.folder = folder
        self.path = folder / f"{id}.json"
        self.workspace = workspace
        self._hold = Hold.take(folder / f"{id}.lock")
        try:
            known = Record.load(self.path)
        except BaseException:
            self._hold.release()
            raise
        self.record = known or Record(id, time.time(), str(workspace or ""), about or {})
        self.snapshots: Snapshots | None = None
        self.refusal: str | None = None
        self._looked = False
        self._store = store
        if workspace is not None:
            self.work_in(workspace)
        self._named = _named(self.record)
        self._sweeps = False
        if not self.journal.exists():
            self.sweep()

    def work_in(self, workspace: Path) -> None:
        """Keep the files of this folder from now on. Those of another one, that were kept before,
        cannot be rewound any more: of them only the conversation can.
        """
        self.workspace = workspace
        # On Windows there are none: what keeps a path within its folder is of POSIX.
        self.snapshots = snapshots_of(self._store, workspace) if os.name != "nt" else None
        self.refusal, self._looked = None, False
        if self.record.folder != str(workspace):
            self.record.folder = str(workspace)
            self.record.steps = [Step(one.id, None) for one in self.record.steps]
            self.record.rewinds.clear()

    @property
    def journal(self) -> Path:
        """Where a rewind that is on its way is noted."""
        return self.path.with_suffix(".rewind")

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
        prompt); ``store`` is where the snapshots of all workspaces lie. Raises
        ``ConversationInUse`` where another process has it, and other ``ClaudeError``.
        """
        return await asyncio.to_thread(
            cls, folder, id, workspace=workspace, store=store, about=dict(about or {})
        )

    async def close(self) -> None:
        """Let others have the conversation; what is kept of it stays."""
        self._hold.release()
        if self.snapshots is not None:
            await asyncio.to_thread(self.snapshots.close)

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints there are, in their order."""
        return list(self.record.checkpoints)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Keep others in this process from taking the conversation over. Raises
        ``ConversationInUse`` where they have.
        """
        self._hold.check()
        was, self._hold.busy = self._hold.busy, True
        try:
            yield
        finally:
            self._hold.busy = was

    async def begin(self, prompt: str, *, head: Pointer | None = None) -> int:
        """A prompt is about to be sent, from where the conversation stands (``head``): keep the
        files as they are now. Returns its number. What
        was rewound before it cannot be taken back any more. Raises ``ClaudeError``, and then there
        is no such prompt; nor is there when it is cancelled.
        """
        self._hold.check()
        kept = self.record.copy()
        self._hold.busy = True
        try:
            return await unbroken(lambda: self._begin(prompt, head))
        except BaseException as error:
            self.record = kept
            if isinstance(error, asyncio.CancelledError):
                with suppress(ClaudeError):
                    await unbroken(self.save_now)
            self._hold.busy = False
            raise

    def _begin(self, prompt: str, head: Pointer | None) -> int:
        before = self.take_now()
        last = self.record.checkpoints[-1].number if self.record.checkpoints else 0
        step = Step(uuid4().hex, before)
        self.record.steps.append(step)
        words = " ".join(prompt.split())
        short = words if len(words) <= _WORDS else f"{words[: _WORDS - 1].rstrip()}…"
        self.record.checkpoints.append(Checkpoint(last + 1, time.time(), short, step.id))
        self._sweeps = any(one.copies is not None for one in self.record.rewinds)
        self.record.rewinds.clear()
        self.record.head = head or self.record.head
        self.save_now()
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
        prompt was never taken up, and is no checkpoint. A cancellation waits until it is noted.
        """
        try:
            await unbroken(lambda: self._end(number, anchor, head, [*edited], [*variables]))
        finally:
            self._hold.busy = False

    def _end(
        self,
        number: int,
        anchor: Pointer | None,
        head: Pointer | None,
        edited: list[Path],
        variables: list[str],
    ) -> None:
        step, place = self.record.steps[-1], len(self.record.checkpoints) - 1
        checkpoint = self.record.checkpoints[place]
        assert checkpoint.number == number
        after = self.take_now() if step.before is not None else None
        self.record.steps[-1] = replace(step, after=after)
        self.record.head = head
        if anchor is None:
            self.record.checkpoints.pop()
        else:
            changed = self._changes(step.before, after)
            digests = {str(path): digest_of(path) for path in edited}
            names = sorted(digests) if after is None else [one.path for one in changed]
            self.record.checkpoints[place] = replace(
                checkpoint,
                anchor=anchor,
                files=tuple(names[:_MOST_FILES]),
                insertions=sum(one.insertions for one in changed),
                deletions=sum(one.deletions for one in changed),
                edited=digests,
                variables=tuple(dict.fromkeys(variables)),
            )
        self._forget()
        self.save_now()
        if self._sweeps:
            self.sweep()

    def _changes(self, before: str | None, after: str | None) -> list[FileChange]:
        """What a turn changed; it is for people to read, and not worth failing for."""
        if self.snapshots is None or before is None or after is None:
            return []
        try:
            return self.snapshots.changes(before, after)
        except ClaudeError:
            return []

    async def take(self) -> str | None:
        """A snapshot of the files as they are; None where there can be none."""
        return await asyncio.to_thread(self.take_now)

    def take_now(self) -> str | None:
        """As ``take``. Blocks."""
        if self.snapshots is None:
            return None
        try:
            if self._refused():
                self._looked = False  # that can be mended
                return None
            return self.snapshots.take()
        except CannotSnapshot as error:
            self.refusal, self._looked = str(error), False
            return None

    async def refused(self) -> bool:
        """Whether the files cannot be snapshotted, so that Claude Code's checkpoints stand in."""
        return await asyncio.to_thread(self._refused)

    def _refused(self) -> bool:
        if self.snapshots is not None and not self._looked:
            self.refusal = self.snapshots.refusal()
            self._looked = True
        return self.refusal is not None

    async def fork(self, id: str, head: Pointer, before: int | None) -> None:
        """Keep a copy under another id, that stands there; of the checkpoints it has those before
        this one (None: all). Raises ``ClaudeError``.
        """
        record = self.record
        kept = [one for one in record.checkpoints if before is None or one.number < before]
        copy = replace(
            record.copy(),
            id=id,
            created=time.time(),
            head=head,
            checkpoints=kept,
            rewinds=[],
            last=None,
        )
        if self.snapshots is not None:
            await asyncio.to_thread(self.snapshots.keep, id, _named(copy))
        await asyncio.to_thread(copy.save, self.path.with_name(f"{id}.json"))

    async def save(self) -> None:
        """Write the record, then let the snapshots go that nothing in it names. Raises
        ``ClaudeError``, and then what was written before still stands.
        """
        await unbroken(self.save_now)

    def save_now(self) -> None:
        """As ``save``. Blocks."""
        self._hold.check()
        named = _named(self.record)
        self.keep(named)
        self.record.save(self.path)
        if self.snapshots is not None and self._named != named:
            # Where that fails they are kept for longer, and nothing is lost.
            with suppress(ClaudeError):
                self.snapshots.keep(self.record.id, named)
                self._named = named

    def keep(self, snapshots: Collection[str]) -> None:
        """Have these snapshots kept, beside those that the record names, until it is saved again.
        Blocks. Raises ``ClaudeError``.
        """
        if self.snapshots is not None and not self._named.issuperset(snapshots):
            both = self._named.union(snapshots)
            self.snapshots.keep(self.record.id, both)
            self._named = both

    def sweep(self) -> None:
        """Remove what was left behind beside the record: files that were not written to their end,
        and copies that no rewind needs. Not before a journal was seen to. Blocks.
        """
        needed = {one.copies for one in self.record.rewinds}
        begin = f"{self.record.id}."
        with suppress(OSError):
            for path in self.folder.iterdir():
                if path.name.startswith(f".{begin}"):
                    path.unlink(missing_ok=True)
                    continue
                ours = path.name.startswith(begin) and path.suffix == ".copies"
                if ours and str(path) not in needed:
                    shutil.rmtree(path, ignore_errors=True)

    async def delete(self) -> None:
        """Forget all of it. Raises ``ClaudeError``."""
        self._hold.check()
        try:
            for path in (self.journal, self.path):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise ClaudeError(f"{error.filename} cannot be removed: {error.strerror}.") from error
        self.record.rewinds.clear()
        await asyncio.to_thread(self.sweep)
        if self.snapshots is not None:
            await asyncio.to_thread(self.snapshots.keep, self.record.id, ())
        self._hold.release(for_good=True)

    def _forget(self) -> None:
        """Bound what is kept: files of the newest checkpoints only."""
        record = self.record
        old, new = record.checkpoints[:-_MOST_KEPT], record.checkpoints[-_MOST_KEPT:]
        places = {step.id: place for place, step in enumerate(record.steps)}
        first = min((places[one.step] for one in new if one.step in places), default=len(places))
        record.steps = record.steps[first:][-_MOST_STEPS:]
        shorter = [
            replace(one, files=(), edited={}) if one.files or one.edited else one for one in old
        ]
        record.checkpoints = [*shorter, *new]


def snapshots_of(store: Path, workspace: Path) -> "Snapshots":
    """The snapshots of a workspace, in the place for those of all workspaces."""
    # libgit2 takes its time to be loaded, and chats do without.
    from .snapshots import Snapshots

    return Snapshots(store, workspace)


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
