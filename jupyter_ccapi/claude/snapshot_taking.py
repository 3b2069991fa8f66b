"""From what is in a folder to a snapshot of it: libgit2 tells what has changed, and that is read.

The bytes of files are stored as they are, by ``read_file``: no filter of git ever sees them.
"""

import errno
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import pygit2
from pygit2.enums import DeltaStatus, DiffOption, FileMode

from .snapshot_record import FILE, LINK, PROGRAM, Record, why_not
from .snapshot_repository import SnapshotRepository, make_commit
from .snapshot_walk import Listings, TooMuch, pattern_for, patterns_above, walk

_MB = 1024 * 1024
# Without O_NONBLOCK, to open what has become a pipe would wait for somebody who writes.
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LOOK = (
    DiffOption.INCLUDE_UNTRACKED
    | DiffOption.RECURSE_UNTRACKED_DIRS
    | DiffOption.INCLUDE_IGNORED
    | DiffOption.INCLUDE_TYPECHANGE
    | DiffOption.UPDATE_INDEX
)
# JupyterLab's copies of notebooks: it writes them at each save.
_JUPYTERS_OWN = b".ipynb_checkpoints/\n"
Signature = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class SnapshotLimits:
    """The most that is covered: bytes of one file (a larger one is left out), and files and bytes
    in all (with more, there is no snapshot). And for how many seconds a snapshot is spared that
    nobody keeps, and how many lie between two times of collecting those that may go.
    """

    file_bytes: int = 50 * _MB
    files: int = 50_000
    total_bytes: int = 1024 * _MB
    spared_seconds: float = 24 * 3600
    collect_seconds: float = 3600


def read_file(
    path: str, most: int, *, dir_fd: int | None = None
) -> tuple[bytes, os.stat_result] | None:
    """The content of a file and its status; None where it has more than ``most`` bytes. Raises
    ``OSError``, also where it is no file any more.
    """
    descriptor = os.open(path, _OPEN_FILE, dir_fd=dir_fd)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no file any more")
        content = bytearray()
        while part := file.read(min(most + 1 - len(content), _MB)):
            content += part
            if len(content) > most:
                return None
        return bytes(content), os.fstat(descriptor)


def signature(status: os.stat_result) -> Signature:
    """What is another one after a change of the file; nobody can set the fourth part back."""
    return (
        status.st_mode,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
    )


def git_mode(mode: int) -> int:
    """Git's mode of a file or a link."""
    if stat.S_ISLNK(mode):
        return LINK
    return PROGRAM if mode & stat.S_IXUSR else FILE


def larger_than(limits: SnapshotLimits) -> str:
    """What is said of a file that is left out because of its size."""
    return f"larger than {_size(limits.file_bytes)}"


@dataclass(slots=True)
class Seen:
    """A workspace as it is beside its ``last`` snapshot (called ``name``): its ``folders``, what is
    left out and why, the paths that have ``changed`` and those that are ``gone``; what is left out
    now was taken out of the index already (``dropped``). ``bytes`` are those of all covered files.
    """

    name: str | None
    last: Record | None
    folders: list[str]
    left_out: dict[str, str]
    changed: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    private: set[str] = field(default_factory=set)
    dropped: bool = False
    bytes: int = 0


class Taking:
    """Looks at the workspace ``root``, and takes snapshots; with its repository opened.

    ``apart`` is the folder in it where snapshots are kept, if it is in it.
    """

    def __init__(
        self, repository: SnapshotRepository, root: Path, limits: SnapshotLimits, apart: str | None
    ) -> None:
        self._repository = repository
        self._root = root
        self._limits = limits
        self._apart = apart
        self._listings: Listings = {}

    def look(self, git: pygit2.Repository) -> Seen:
        """See what has changed since the last snapshot. What was covered once and is ignored now is
        let go of, where with it the folder would hold too much. Raises ``CannotSnapshot``.
        """
        index = git.index
        index.read(False)
        name = self._repository.last(git)
        last = Record.read(git, name) if name else None
        # Somebody may have been killed between the two.
        if last is None or index.write_tree() != last.tree.id:
            index.clear()
            name = last = None
        try:
            return self._look(git, name, last)
        except TooMuch:
            if last is None:
                raise
            index.clear()
            return self._look(git, None, None)

    def take(self, git: pygit2.Repository) -> str:
        """Keep the folder as it is; return the id of the snapshot. Raises ``CannotSnapshot``."""
        seen = self.look(git)
        # First, as what a link has taken the place of must not be looked for behind it.
        for path in seen.gone:
            self._drop(git, path, seen)
        for path in seen.changed:
            self._take_up(git, path, seen)
        tree = git[git.index.write_tree()]
        assert isinstance(tree, pygit2.Tree)
        empty = frozenset(place for place in seen.folders if place not in tree)
        hidden = not self._root.stat().st_mode & 0o077
        private = frozenset() if hidden else frozenset(seen.private)
        record = Record(tree, seen.left_out, empty, private, seen.bytes)
        message, last = record.message(), seen.last
        if last and last.tree.id == tree.id and seen.name and last.message() == message:
            snapshot = seen.name
        else:
            snapshot = make_commit(git, message, tree.id)
        if seen.changed or seen.dropped:
            git.index.write()
        self._repository.taken(git, snapshot)
        return snapshot

    def _look(self, git: pygit2.Repository, name: str | None, last: Record | None) -> Seen:
        partly: list[str] = []

        def ignored(place: str) -> bool:
            if not git.path_is_ignored(place):
                return False
            if last is None or place not in last.tree:
                return True
            partly.append(place)
            return False

        self._exclude([])
        folders, left_out = walk(
            self._root,
            self._listings,
            most=4 * self._limits.files,
            apart=self._apart,
            ignored=ignored,
        )
        self._exclude([path for path, why in left_out.items() if why.endswith(" deep")])
        seen = Seen(name, last, folders, left_out)
        if last is not None:
            seen.private, seen.bytes = set(last.private), last.bytes
        for path in [path for path, why in left_out.items() if why != "ignored"]:
            self._drop(git, path, seen)
        # Of folders that are ignored, but were covered once, libgit2 tells what it knows alone.
        for path in [f"{place}/{name}" for place in partly for name in self._names(place)]:
            if path not in git.index and not (self._root / path).is_dir():
                left_out.setdefault(path, "ignored")
        for delta in self._deltas(git):
            path = os.fsdecode(delta.new_file.raw_path).removesuffix("/")
            if delta.status == DeltaStatus.IGNORED:
                left_out.setdefault(path, "ignored")
            elif why_not(left_out, path) is None:
                deleted = delta.status == DeltaStatus.DELETED
                (seen.gone if deleted else seen.changed).append(path)
        self._count(git, seen)
        return seen

    def _deltas(self, git: pygit2.Repository) -> list[pygit2.DiffDelta]:
        """What libgit2 sees. As it gives up where it cannot read a file that it knows, such files
        are let go of then.
        """
        try:
            return list(git.index.diff_to_workdir(_LOOK).deltas)
        except pygit2.GitError:
            for path in [entry.path for entry in git.index]:
                if not os.access(self._root / path, os.R_OK, effective_ids=True):
                    git.index.remove(path)
            return list(git.index.diff_to_workdir(_LOOK).deltas)

    def _names(self, place: str) -> list[str]:
        try:
            return os.listdir(self._root / place)  # noqa: PTH208 - names are enough
        except OSError:
            return []

    def _drop(self, git: pygit2.Repository, path: str, seen: Seen) -> None:
        """Have nothing of this file, or of this folder, in the index."""
        place = path + "/"
        files = [path] if path in git.index else []
        if seen.last is not None and path in seen.last.tree and not files:
            files = [one.path for one in git.index if str(one.path).startswith(place)]
        for one in files:
            seen.bytes -= git.odb.read_header(git.index[one].id)[1]
            seen.private.discard(one)
            git.index.remove(one)
            seen.dropped = True

    def _count(self, git: pygit2.Repository, seen: Seen) -> None:
        """Raise ``TooMuch`` where more than the limits allow would be covered."""
        limits, index = self._limits, git.index
        files, total = len(index), seen.bytes
        for path in (*seen.gone, *seen.changed):
            if path in index:
                files -= 1
                total -= git.odb.read_header(index[path].id)[1]
        for path in seen.changed:
            status = _status(self._root / path)
            if status and status.st_size <= limits.file_bytes:
                files += 1
                total += status.st_size
        if files > limits.files:
            raise TooMuch(self._root, f"more than {limits.files:,} files")
        if total > limits.total_bytes:
            raise TooMuch(self._root, f"more than {_size(limits.total_bytes)}")

    def _take_up(self, git: pygit2.Repository, path: str, seen: Seen) -> None:
        """Have a file in the index as it is now; say why, where that cannot be."""
        self._drop(git, path, seen)
        place = self._root / path
        try:
            status = place.lstat()
            if stat.S_ISDIR(status.st_mode):
                return
            if stat.S_ISLNK(status.st_mode):
                # Not `Path.readlink()`, which tidies up what the link says.
                content = os.fsencode(os.readlink(place))  # noqa: PTH115
            else:
                found = read_file(str(place), self._limits.file_bytes)
                if found is None:
                    seen.left_out[path] = larger_than(self._limits)
                    return
                content, status = found
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            seen.left_out[path] = f"cannot be read ({error.strerror})"
            return
        mode = FileMode(git_mode(status.st_mode))
        git.index.add(pygit2.IndexEntry(path, git.create_blob(content), mode))
        seen.bytes += len(content)
        if mode != FileMode.LINK and not status.st_mode & 0o077:
            seen.private.add(path)

    def _exclude(self, deep: Collection[str]) -> None:
        """Have the patterns of the repository around the workspace hold, unless they leave out the
        workspace itself; and leave out these folders.
        """
        top, own, above = patterns_above(self._root)
        if top is not None and top != self._root:
            self._repository.exclude(own)
            if self._repository.ignores(top, self._root.relative_to(top).as_posix()):
                above = b""
        apart = [self._apart] if self._apart else []
        folders = b"".join(map(pattern_for, (*apart, *deep)))
        self._repository.exclude(_JUPYTERS_OWN + above + folders)


def _status(path: Path) -> os.stat_result | None:
    """That of a file or a link; None where there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return None if stat.S_ISDIR(status.st_mode) else status


def _size(count: int) -> str:
    for unit, name in ((1024 * _MB, "GB"), (_MB, "MB"), (1024, "KB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} bytes"
