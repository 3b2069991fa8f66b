"""Snapshots of a workspace's files: taken before and after each turn, compared, and restored.

They are kept apart from the workspace: a repository in it, its index, refs, hooks and settings
are neither used nor changed, and there need not be one. Git itself is not needed.
"""

import os
import pwd
import threading
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from . import text_diff
from .errors import CannotSnapshot
from .snapshot_record import Record, differences
from .snapshot_restore import ChangedSince, restore
from .snapshot_scan import NotCovered, Seen, SnapshotLimits, TooMuch, look
from .snapshot_store import Entry, SnapshotStore
from .snapshot_taking import Index, write_snapshot
from .text_diff import Side

__all__ = [
    "ChangedSince",
    "FileChange",
    "NotCovered",
    "SnapshotLimits",
    "Snapshots",
]

_LIMITS = SnapshotLimits()

# Characters of a diff that are shown, and bytes of a file whose lines are.
_MOST_SHOWN = 200_000
_MOST_COMPARED = 2 * 1024 * 1024

# Another process dropped objects while the folder was looked at: that is rare, and look again.
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file or link that is not the same in two snapshots: its path (relative, with slashes), and
    how many lines were inserted and deleted; none of a ``binary`` one.
    """

    path: str
    kind: Literal["added", "modified", "deleted"]
    insertions: int
    deletions: int
    binary: bool


class Snapshots:
    """The snapshots of one workspace, the folder ``folder``. All methods block, and may be called
    from any thread, and from several processes at once.

    ``store`` is a folder for the snapshots of all workspaces; it is made, for its owner alone.
    """

    def __init__(self, store: Path, folder: Path, *, limits: SnapshotLimits = _LIMITS) -> None:
        self._folder = folder.resolve()
        self._home = store.resolve()
        self._limits = limits
        name = sha256(os.fsencode(self._folder)).hexdigest()[:32]
        self._store = SnapshotStore(self._home / f"{name}.sqlite")
        self._index = Index()
        self._lock = threading.Lock()

    def refusal(self) -> str | None:
        """A sentence that says why there can be no snapshot of the folder; None where there can."""
        try:
            with self._lock:
                self._check()
                with self._store.transaction():
                    self._index.refresh(self._store)
                self._look()
        except CannotSnapshot as error:
            return str(error)
        return None

    def take(self) -> str:
        """Keep the folder's files as they are; return the snapshot's id, which is the same for the
        same state. Raises ``CannotSnapshot``.

        It may be dropped a day after it was last taken, unless somebody keeps it.
        """
        with self._lock:
            self._check()
            for _ in range(_ATTEMPTS):
                with self._store.transaction():
                    self._index.refresh(self._store)
                seen = self._look()
                with self._store.transaction(write=True):
                    stamp, was = self._store.stamp(), self._index.stamp
                    taken = (
                        write_snapshot(self._folder, seen, self._index, self._store, self._limits)
                        if was is not None and was.dropped == stamp.dropped
                        else None
                    )
                if taken is not None:
                    self._index.folders, self._index.stamp = taken.folders, taken.stamp
                    return taken.snapshot
        raise CannotSnapshot(
            f"Snapshots of {str(self._folder)!r} are being dropped by others all the time."
        )

    def not_covered(self, snapshot: str) -> list[NotCovered]:
        """What a snapshot leaves out, by path. Raises ``ClaudeError`` where there is none."""
        with self._store.transaction():
            left_out = Record.read(self._store, snapshot).left_out
        return [NotCovered(path, why) for path, why in sorted(left_out.items())]

    def changes(self, old: str, new: str) -> list[FileChange]:
        """The files that differ, by path. A renamed file is a deleted and an added one; one that
        either snapshot leaves out has not changed, as far as they can tell.
        """
        with self._store.transaction():
            return [self._change(*one) for one in self._differences(old, new)]

    def diff(self, old: str, new: str, paths: Collection[str] | None = None) -> str:
        """What differs, of these paths or of all, as git shows it. What is too long is cut, and a
        last line that begins with a backslash says so.
        """
        shown: list[str] = []
        length = cut = 0
        with self._store.transaction():
            for path, before, after in self._differences(old, new):
                if paths is not None and path not in paths:
                    continue
                if length >= _MOST_SHOWN:
                    cut += 1
                    continue
                text = self._unified(path, before, after)
                if length + len(text) > _MOST_SHOWN:
                    text, cut = _shortened(text, _MOST_SHOWN - length), cut + 1
                    length = _MOST_SHOWN
                length += len(text)
                shown.append(text)
        if cut:
            shown.append(f"\\ {cut:,} of the files are not shown, or not to their end\n")
        return "".join(shown)

    def restore(self, snapshot: str, paths: Collection[str], *, expected: str | None) -> None:
        """Put exactly these paths to what they are in a snapshot, or remove them where it has
        none. All or nothing: when a path cannot be put back, none is.

        Raises ``ChangedSince`` where a path is not what it is in the snapshot ``expected``, and
        ``ClaudeError`` for what the snapshot does not cover, or cannot be written.
        """
        with self._lock:
            self._check()
            # What is there now goes to the store for as long as it may have to be put back.
            with self._store.transaction(write=True, keep=False):
                restore(
                    self._folder,
                    self._store,
                    paths,
                    target=Record.read(self._store, snapshot),
                    expected=None if expected is None else Record.read(self._store, expected),
                    limits=self._limits,
                )

    def keep(self, owner: str, snapshots: Collection[str]) -> None:
        """Have an owner (such as a conversation) keep these snapshots, and no others. What nobody
        keeps is dropped, in time.
        """
        limits = self._limits
        spared = limits.spared_seconds
        with self._lock:
            with self._store.transaction(write=True):
                self._store.keep(owner, snapshots)
                due = self._store.collectable(older_than=spared, every=limits.collect_seconds)
                if due:
                    self._index.refresh(self._store)
                    self._store.collect(older_than=spared, needed=self._index.blobs())
            if due:
                self._store.shrink()

    def owners(self) -> list[str]:
        """Who keeps any, so that those that are no more can be told to keep none."""
        with self._store.transaction():
            return self._store.owners()

    def close(self) -> None:
        """Let go of the store's file; whatever needs it opens it again."""
        self._store.close()

    def __del__(self) -> None:
        """Let go of it at last."""
        with suppress(AttributeError):
            self._store.close()

    def _check(self) -> None:
        """Raise ``CannotSnapshot`` where that can be told at once."""
        folder = self._folder
        if not folder.is_dir():
            raise CannotSnapshot(f"There is no folder {str(folder)!r}.")
        for home in _homes():
            if folder == home or folder in home.parents:
                what = "is the home folder" if folder == home else "holds the home folder"
                raise CannotSnapshot(
                    f"The folder {str(folder)!r} {what}, which is never covered as a whole: work "
                    "in a folder of its own."
                )
        if folder.is_relative_to(self._home):
            raise CannotSnapshot(f"The folder {str(folder)!r} is where snapshots are kept.")

    def _look(self) -> Seen:
        """See what is in the folder. What was covered once and is ignored now is let go of, where
        with it the folder would hold too much.
        """
        apart: set[str] = set()
        if self._home.is_relative_to(self._folder):
            apart.add(self._home.relative_to(self._folder).as_posix() + "/")
        try:
            return look(self._folder, self._index.folders, self._limits, apart=apart)
        except TooMuch:
            if not self._index.folders:
                raise
            return look(self._folder, {}, self._limits, apart=apart)

    def _differences(self, old: str, new: str) -> Iterator[tuple[str, Side | None, Side | None]]:
        records = Record.read(self._store, old), Record.read(self._store, new)
        for path, before, after in differences(self._store, *records):
            yield path, self._side(before), self._side(after)

    def _side(self, entry: Entry | None) -> Side | None:
        return Side(entry.mode, self._store.read(entry.id, "blob")) if entry else None

    def _change(self, path: str, old: Side | None, new: Side | None) -> FileChange:
        kind: Literal["added", "modified", "deleted"] = "modified"
        if old is None or new is None:
            kind = "added" if old is None else "deleted"
        before, after = old.content if old else b"", new.content if new else b""
        if text_diff.is_binary(before) or text_diff.is_binary(after):
            return FileChange(path, kind, 0, 0, binary=True)
        return FileChange(path, kind, *text_diff.count(before, after), binary=False)

    def _unified(self, path: str, old: Side | None, new: Side | None) -> str:
        most = max(len(side.content) for side in (old, new) if side)
        if most > _MOST_COMPARED:
            cleared = [Side(side.mode, b"") if side else None for side in (old, new)]
            text = text_diff.unified(path, *cleared)
            return f"{text}\\ too long to be shown: {most:,} bytes\n"
        return text_diff.unified(path, old, new)


def _shortened(text: str, most: int) -> str:
    """As many whole lines as fit."""
    return text[: text.rfind("\n", 0, most) + 1]


def _homes() -> set[Path]:
    """The home folder, by the environment and by the system's list of users."""
    homes = {Path("/")}
    with suppress(RuntimeError):
        homes.add(Path.home().resolve())
    with suppress(KeyError):
        homes.add(Path(pwd.getpwuid(os.getuid()).pw_dir).resolve())
    return homes
