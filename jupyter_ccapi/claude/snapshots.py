"""Snapshots of a workspace's files: taken before and after each turn, compared, and restored.

They are kept apart from the workspace: a repository in it, its index, refs, hooks and settings
are neither used nor changed, and there need not be one. Their own repository is used by libgit2, so
that git itself is not needed.
"""

import os
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Literal

import pygit2

from .changes import FileChange, NotCovered
from .errors import CannotSnapshot
from .snapshot_record import Difference, Record, differences, read_blob
from .snapshot_repository import SnapshotRepository
from .snapshot_restore import restore
from .snapshot_taking import SnapshotLimits, Taking

__all__ = ["SnapshotLimits", "Snapshots"]

_LIMITS = SnapshotLimits()

# Characters of a diff that are shown, and bytes of a file whose lines are compared: of longer ones,
# with few different lines, that could take many seconds.
_MOST_SHOWN = 200_000
_MOST_COMPARED = 1024 * 1024


class Snapshots:
    """The snapshots of one workspace, the folder ``folder``. All methods block, and may be called
    from any thread, and from several processes at once.

    ``store`` is a folder for the snapshots of all workspaces; it is made, for its owner alone.
    """

    def __init__(self, store: Path, folder: Path, *, limits: SnapshotLimits = _LIMITS) -> None:
        self._folder = folder.resolve()
        self._home = store.resolve()
        self._limits = limits
        inside = self._home != self._folder and self._home.is_relative_to(self._folder)
        apart = self._home.relative_to(self._folder).as_posix() if inside else None
        self._repository = SnapshotRepository(self._home, self._folder)
        self._taking = Taking(self._repository, self._folder, limits, apart)

    def refusal(self) -> str | None:
        """A sentence that says why there can be no snapshot of the folder; None where there can."""
        try:
            self._check()
            with self._repository.opened() as git:
                self._taking.look(git)
        except CannotSnapshot as error:
            return str(error)
        return None

    def take(self) -> str:
        """Keep the folder's files as they are; return the snapshot's id, which is the one before
        where nothing has changed since. Raises ``CannotSnapshot``.

        It may be dropped a day after it was last taken, unless somebody keeps it.
        """
        self._check()
        with self._repository.opened() as git:
            return self._taking.take(git)

    def not_covered(self, snapshot: str) -> list[NotCovered]:
        """What a snapshot leaves out, by path. Raises ``ClaudeError`` where there is none."""
        with self._repository.opened() as git:
            left_out = Record.read(git, snapshot).left_out
        return [NotCovered(path, why) for path, why in sorted(left_out.items())]

    def changes(self, old: str, new: str) -> list[FileChange]:
        """The files that differ, by path. A renamed file is a deleted and an added one; one that
        either snapshot leaves out has not changed, as far as they can tell. In very long files,
        lines that have only moved do not count.
        """
        with self._repository.opened() as git:
            found = differences(Record.read(git, old), Record.read(git, new))
            return [_change(git, one) for one in found]

    def diff(self, old: str, new: str, paths: Collection[str] | None = None) -> str:
        """What differs, of these paths or of all, as git shows it. What is too long is cut, and a
        last line that begins with a backslash says so.
        """
        shown: list[str] = []
        length = cut = 0
        with self._repository.opened() as git:
            for one in differences(Record.read(git, old), Record.read(git, new)):
                if paths is not None and one.path not in paths:
                    continue
                if length >= _MOST_SHOWN:
                    cut += 1
                    continue
                text = _unified(git, one)
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
        self._check()
        made: set[pygit2.Oid] = set()
        with self._repository.opened() as git:
            try:
                restore(
                    self._folder,
                    git,
                    paths,
                    target=Record.read(git, snapshot),
                    expected=None if expected is None else Record.read(git, expected),
                    limits=self._limits,
                    made=made,
                )
            finally:
                self._repository.forget(made)

    def keep(self, owner: str, snapshots: Collection[str]) -> None:
        """Have an owner (such as a conversation) keep these snapshots, and no others. What nobody
        keeps is dropped, in time.
        """
        limits = self._limits
        with self._repository.opened() as git:
            self._repository.keep(git, owner, snapshots)
            self._repository.collect(
                git, older_than=limits.spared_seconds, every=limits.collect_seconds
            )

    def owners(self) -> list[str]:
        """Who keeps any, so that those that are no more can be told to keep none."""
        with self._repository.opened() as git:
            return self._repository.owners(git)

    def close(self) -> None:
        """Let go of the repository; whatever needs it opens it again."""
        self._repository.close()

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


def _change(git: pygit2.Repository, one: Difference) -> FileChange:
    status = one.delta.status_char()
    kind: Literal["added", "modified", "deleted"] = "modified"
    if status in "AD":
        kind = "added" if status == "A" else "deleted"
    sides = _sides(git, one)
    if max(size for _, size in sides) <= _MOST_COMPARED:
        patch = one.patch()
        _, inserted, deleted = patch.line_stats
        return FileChange(one.path, kind, inserted, deleted, binary=bool(patch.delta.is_binary))
    old, new = (read_blob(git, side.id) if size else b"" for side, size in sides)
    if b"\0" in old[:8000] + new[:8000]:
        return FileChange(one.path, kind, 0, 0, binary=True)
    lines = Counter(old.split(b"\n")), Counter(new.split(b"\n"))
    inserted, deleted = (lines[1] - lines[0]).total(), (lines[0] - lines[1]).total()
    return FileChange(one.path, kind, inserted, deleted, binary=False)


def _unified(git: pygit2.Repository, one: Difference) -> str:
    most = max(size for _, size in _sides(git, one))
    if most <= _MOST_COMPARED:
        return one.patch().data.decode(errors="replace")
    head = one.head().decode(errors="replace")
    return f"{head}\\ too long to be shown: {most:,} bytes\n"


def _sides(git: pygit2.Repository, one: Difference) -> list[tuple[pygit2.DiffFile, int]]:
    """Both sides of a file that differs, and how many bytes each has; 0 where there is none."""
    return [
        (side, git.odb.read_header(side.id)[1] if one.delta.status_char() != absent else 0)
        for side, absent in ((one.delta.old_file, "A"), (one.delta.new_file, "D"))
    ]


def _shortened(text: str, most: int) -> str:
    """As many whole lines as fit."""
    return text[: text.rfind("\n", 0, most) + 1]


def _homes() -> set[Path]:
    """The home folder, by the environment and by the system's list of users."""
    homes = {Path("/")}
    with suppress(RuntimeError):
        homes.add(Path.home().resolve())
    import pwd  # there is none on Windows

    with suppress(KeyError):
        homes.add(Path(pwd.getpwuid(os.getuid()).pw_dir).resolve())
    return homes
