"""What is in a folder now, and which of it is to be in a snapshot.

A file whose status is what it was when it was last read is not read again. Links are not followed,
and nothing but files is ever opened.
"""

import errno
import os
import stat
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .errors import CannotSnapshot
from .ignore_rules import Rules, rules_for

#: Git's modes.
FILE, PROGRAM, LINK = 0o100644, 0o100755, 0o120000

#: What the name of a file begins with that is being written, and is to be renamed.
RESTORING = ".ccapi-restoring-"

_MB = 1024 * 1024

# A file that changed so shortly before it was read may change again without its status telling:
# times are as coarse as the file system's clock, at most two seconds. In nanoseconds.
_COARSE = 2_000_000_000

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, to open what has become a pipe would wait for somebody who writes.
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_OTHERS = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a pipe",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}

Signature = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class NotCovered:
    """What a snapshot leaves out: a file or a whole folder by its ``path`` in the workspace (with
    slashes; ``.`` is the workspace), and ``why`` in a few words for people.
    """

    path: str
    why: str


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


@dataclass(frozen=True, slots=True)
class Known:
    """A file that was read: its git mode, its blob, whether it is ``private`` (only its owner may
    use it), and what its status was then; None where that status says too little.
    """

    mode: int
    id: bytes
    private: bool
    signature: Signature | None


@dataclass(slots=True)
class Folder:
    """The covered files of a folder, by name; and the names of folders in it.

    ``pending`` have changed and are still to be read; without any, and ``same``, its files are all
    as before. ``tree`` is git's id of all that is covered below: None where nothing is, empty
    where it is not known; ``subtrees`` are those of the folders in it.
    """

    files: dict[str, Known]
    folders: list[str] = field(default_factory=list)
    pending: dict[str, os.stat_result] = field(default_factory=dict)
    same: bool = False
    tree: bytes | None = None
    subtrees: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Seen:
    """A workspace as it is: folders by their place (with a slash behind it, the workspace itself
    is empty), each before those in it, and what is left out.
    """

    folders: dict[str, Folder] = field(default_factory=dict)
    left_out: list[NotCovered] = field(default_factory=list)


class TooMuch(CannotSnapshot):
    """The workspace is larger than the limits allow."""


def look(
    root: Path, before: Mapping[str, Folder], limits: SnapshotLimits, *, apart: Collection[str]
) -> Seen:
    """Walk through a workspace (resolved) and compare it with how it was ``before``.

    What was covered before stays so when it becomes ignored, as in git: else what the very change
    of a ``.gitignore`` goes along with could not be told. ``apart`` are places that are nobody's
    files. Raises ``TooMuch``, and ``CannotSnapshot`` where the workspace cannot be read.
    """
    return _Walk(root, before, limits, apart).run()


def read_file(
    path: str, most: int, *, dir_fd: int | None = None
) -> tuple[bytes, os.stat_result, bool] | None:
    """The content of a file, its status, and whether it stayed the same meanwhile; None where it
    has more than ``most`` bytes. Raises ``OSError``, also where it is no file any more.
    """
    descriptor = os.open(path, _OPEN_FILE, dir_fd=dir_fd)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise OSError(errno.EINVAL, "no file any more")
        content = bytearray()
        while part := file.read(min(most + 1 - len(content), _MB)):
            content += part
            if len(content) > most:
                return None
        after = os.fstat(descriptor)
    return bytes(content), after, signature(before) == signature(after)


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


def known(status: os.stat_result, name: bytes, *, steady: bool = True) -> Known:
    """What is remembered of a file that was read just now; not its status, unless it was steady."""
    told = signature(status)
    settled = steady and time.time_ns() - max(told[2], told[3]) > _COARSE
    private = stat.S_ISREG(status.st_mode) and not status.st_mode & 0o077
    return Known(git_mode(status.st_mode), name, private, told if settled else None)


class _Walk:
    def __init__(
        self,
        root: Path,
        before: Mapping[str, Folder],
        limits: SnapshotLimits,
        apart: Collection[str],
    ) -> None:
        self._root = root
        self._before = before
        self._limits = limits
        self._apart = apart
        self._seen = Seen()
        self._files = self._bytes = self._entries = 0

    def run(self) -> Seen:
        waiting: list[tuple[str, Rules | None]] = [("", rules_for(self._root))]
        while waiting:
            place, rules = waiting.pop()
            entries = self._list(place)
            if entries is not None:
                waiting += self._visit(place, entries, rules)
        self._seen.left_out.sort(key=lambda one: one.path)
        return self._seen

    def _list(self, place: str) -> dict[str, os.stat_result] | None:
        """What is in a folder, with each status; None where it cannot be told, which is noted."""
        found: dict[str, os.stat_result] = {}
        try:
            descriptor = os.open(f"{self._root}/{place}", _OPEN_FOLDER)
            try:
                with os.scandir(descriptor) as entries:
                    for entry in entries:
                        try:
                            found[entry.name] = entry.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
            finally:
                os.close(descriptor)
        except OSError as error:
            if not place:
                raise CannotSnapshot(
                    f"The folder {str(self._root)!r} cannot be read: {error.strerror}."
                ) from error
            self._leave_out(place[:-1], f"cannot be read ({error.strerror})")
            return None
        return found

    def _visit(
        self, place: str, entries: Mapping[str, os.stat_result], rules: Rules | None
    ) -> list[tuple[str, Rules | None]]:
        """Take up what is in a folder; return the folders in it that are to be walked through.

        Without rules the folder itself is ignored, and so is all that is new in it.
        """
        before = self._before.get(place)
        old = before.files if before else {}
        folder = Folder({})
        new: list[str] = []
        files, total = folder.files, 0
        for name, status in entries.items():
            was = old.get(name)
            # As `signature()` has it; a call for each file would cost a third more.
            if was is not None and was.signature == (
                status.st_mode,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
                status.st_ino,
            ):
                files[name] = was
                total += status.st_size
            else:
                new.append(name)
        nested = next(filter(is_gits, new), None)
        if nested is not None:
            if place:
                self._leave_out(place[:-1], "a nested repository")
                return []
            self._leave_out(nested, "the repository itself")
            new.remove(nested)
        folder.same = before is not None and len(files) == len(old)
        below: list[tuple[str, Rules | None]] = []
        for name in new:
            status = entries[name]
            if stat.S_ISDIR(status.st_mode):
                below += self._take_folder(folder, place, name, rules)
            elif self._takes(place, name, status, rules, new=name not in old):
                folder.pending[name] = status
                total += status.st_size
        self._seen.folders[place] = folder
        self._count(len(entries), len(files) + len(folder.pending), total)
        return below

    def _take_folder(
        self, folder: Folder, place: str, name: str, rules: Rules | None
    ) -> list[tuple[str, Rules | None]]:
        """Walk through a folder, unless it is ignored and nothing in it was covered before."""
        inner = f"{place}{name}/"
        if inner in self._apart:
            self._leave_out(inner[:-1], "the snapshots themselves")
            return []
        ignored = rules is None or rules.ignores(name, is_folder=True)
        before = self._before.get(inner)
        if ignored and (before is None or before.tree is None):
            self._leave_out(inner[:-1], "ignored")
            return []
        folder.folders.append(name)
        if rules is None or ignored:
            return [(inner, None)]
        return [(inner, rules.below(name, self._root / inner / ".gitignore"))]

    def _takes(
        self, place: str, name: str, status: os.stat_result, rules: Rules | None, *, new: bool
    ) -> bool:
        """Whether a file is to be covered that is new, or has changed."""
        other = _OTHERS.get(stat.S_IFMT(status.st_mode))
        if new and (rules is None or rules.ignores(name, is_folder=False)):
            self._leave_out(place + name, "ignored")
        elif name.startswith(RESTORING):
            self._leave_out(place + name, "left behind by a rewind that was cut off")
        elif other is not None:
            self._leave_out(place + name, other)
        elif status.st_size > self._limits.file_bytes:
            self._leave_out(place + name, larger_than(self._limits))
        else:
            return True
        return False

    def _leave_out(self, path: str, why: str) -> None:
        self._seen.left_out.append(NotCovered(path, why))

    def _count(self, entries: int, files: int, size: int) -> None:
        self._entries += entries
        self._files += files
        self._bytes += size
        limits = self._limits
        if self._files > limits.files or self._entries > 4 * limits.files:
            raise self._too_much(f"more than {limits.files:,} files")
        if self._bytes > limits.total_bytes:
            raise self._too_much(f"more than {_size(limits.total_bytes)}")

    def _too_much(self, what: str) -> TooMuch:
        return TooMuch(
            f"The folder {str(self._root)!r} holds {what}: name what need not be covered in a "
            ".gitignore file, or work in a smaller folder."
        )


def is_gits(name: str) -> bool:
    """Whether git keeps a repository's own under this name, on some system."""
    return len(name) == 4 and name.lower() == ".git"


def larger_than(limits: SnapshotLimits) -> str:
    """What is said of a file that is left out because of its size."""
    return f"larger than {_size(limits.file_bytes)}"


def _size(count: int) -> str:
    for unit, name in ((1024 * _MB, "GB"), (_MB, "MB"), (1024, "KB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} bytes"
