"""Put files of a workspace back to what they are in a snapshot: all of them, or none.

Before anything is changed, it is seen to that everything can be. A file is written beside its
place and renamed, so that nobody ever finds half of it. Every step goes through descriptors of
folders that were opened without following links, so that none leads out of the workspace.
"""

import errno
import os
import secrets
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pygit2

from .errors import ChangedSince, ClaudeError
from .snapshot_record import LINK, PROGRAM, Entry, Record, read_blob
from .snapshot_taking import (
    Signature,
    SnapshotLimits,
    git_mode,
    larger_than,
    read_file,
    signature,
)
from .snapshot_walk import RESTORING, is_gits

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What opening a folder says where there is none, or a file or a link in its place.
_NO_FOLDER = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_MAKE_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def restore(
    root: Path,
    git: pygit2.Repository,
    paths: Collection[str],
    *,
    target: Record,
    expected: Record | None,
    limits: SnapshotLimits,
    made: set[pygit2.Oid],
) -> None:
    """Put these paths of a workspace to what they are in ``target``. ``made`` becomes the blobs
    that are made of what is there now, so that it can be put back.

    Raises ``ChangedSince`` where one is not what it is in ``expected``, and ``ClaudeError`` where
    one cannot be put back; nothing has changed then.
    """
    descriptor = os.open(root, _OPEN_FOLDER)
    try:
        workspace = _Workspace(descriptor)
        steps = _Plan(workspace, git, target, expected, limits, made).steps(sorted(set(paths)))
        _Restoring(workspace, git, target).run(steps)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Now:
    """What is at a path: a file, a link or a folder by its status; nothing where that is None.

    ``content`` is what a file or link holds: the id of a blob, which the repository has.
    """

    status: os.stat_result | None = None
    content: pygit2.Oid | None = None

    @property
    def entry(self) -> Entry | None:
        """As a tree would hold it; None where it is neither a file nor a link."""
        if self.status is None or self.content is None:
            return None
        return Entry(git_mode(self.status.st_mode), self.content)

    @property
    def is_folder(self) -> bool:
        """Whether a folder is there."""
        return self.status is not None and stat.S_ISDIR(self.status.st_mode)

    @property
    def signature(self) -> Signature | None:
        """What its status is, unless that is a folder's, which changes with what is in it."""
        return signature(self.status) if self.status and not self.is_folder else None


@dataclass(frozen=True, slots=True)
class _Step:
    """What is at a path now, and what is to be there."""

    path: str
    now: _Now
    then: Entry | None


class _Workspace:
    """A folder whose files are reached without ever following a link."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @contextmanager
    def folder_of(self, path: str) -> Iterator[tuple[int, str]]:
        """A descriptor of the folder that a path is in, and its name there. Raises ``OSError``
        where there is none, or a link or a file in its place.
        """
        *folders, name = path.split("/")
        opened = os.dup(self._descriptor)
        try:
            for one in folders:
                inner = os.open(one, _OPEN_FOLDER, dir_fd=opened)
                os.close(opened)
                opened = inner
            yield opened, name
        finally:
            os.close(opened)

    def status(self, path: str) -> os.stat_result | None:
        """The status of what is at a path, without following links; None where nothing is."""
        try:
            with self.folder_of(path) as (folder, name):
                return os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno in _NO_FOLDER:
                return None
            raise

    def names(self, path: str) -> list[str]:
        """What is in a folder."""
        with self.folder_of(path + "/.") as (folder, _):
            return os.listdir(folder)  # noqa: PTH208 - a descriptor is no path


class _Plan:
    """Finds out what has to be done, and whether it can be."""

    def __init__(
        self,
        workspace: _Workspace,
        git: pygit2.Repository,
        target: Record,
        expected: Record | None,
        limits: SnapshotLimits,
        made: set[pygit2.Oid],
    ) -> None:
        self._workspace = workspace
        self._git = git
        self._made = made
        self._target = target
        self._expected = expected
        self._limits = limits
        self._plain: set[str] = set()

    def steps(self, paths: list[str]) -> list[_Step]:
        """What has to be done, without what is so already."""
        found = [self._step(path) for path in paths]
        if self._expected is not None:
            changed = [step.path for step in found if not self._as_expected(step, self._expected)]
            if changed:
                raise ChangedSince(changed)
        steps = [step for step in found if step.now.entry != step.then]
        vanishing = {step.path for step in steps if step.then is None and not step.now.is_folder}
        for step in steps:
            if step.then is not None:
                self._check_room(step, vanishing)
        return [step for step in steps if step.then or not step.now.is_folder]

    def _check_path(self, path: str) -> None:
        names = path.split("/")
        if not all(names) or {".", ".."} & set(names) or "\0" in path:
            raise ClaudeError(f"{path!r} is no path of a file in this folder.")
        if any(is_gits(name) for name in names):
            raise ClaudeError(f"{path!r} belongs to a git repository itself, and is not restored.")
        for place in _folders_above(path):
            if place not in self._plain and self._workspace.status(f"{place}/.git"):
                raise ClaudeError(
                    f"{path!r} is in the repository {place!r} of its own, and is not restored."
                )
            self._plain.add(place)

    def _step(self, path: str) -> _Step:
        try:
            self._check_path(path)
            then = self._then(path)
            return _Step(path, self._now(path), then)
        except OSError as error:
            raise _failed(path, error) from error

    def _then(self, path: str) -> Entry | None:
        then = self._target.file(path)
        why = self._target.why_not(path)
        if then is None and why is not None:
            raise ClaudeError(
                f"What {path!r} was is not known: the snapshot does not cover it ({why})."
            )
        return then

    def _now(self, path: str) -> _Now:
        """What is there now; its content is kept, so that it can be put back."""
        status = self._workspace.status(path)
        if status is None or stat.S_ISDIR(status.st_mode):
            return _Now(status)
        if stat.S_ISLNK(status.st_mode):
            with self._workspace.folder_of(path) as (folder, name):
                link = os.fsencode(os.readlink(name, dir_fd=folder))
            return _Now(status, self._blob(link))
        if not stat.S_ISREG(status.st_mode):
            raise ClaudeError(f"{path!r} is neither a file nor a link now, and is not restored.")
        with self._workspace.folder_of(path) as (folder, name):
            found = read_file(name, self._limits.file_bytes, dir_fd=folder)
        if found is None:
            raise ClaudeError(
                f"{path!r} is {larger_than(self._limits)} now, and so could not be put back if "
                "something went wrong: move it away first."
            )
        content, status = found
        return _Now(status, self._blob(content))

    def _blob(self, content: bytes) -> pygit2.Oid:
        name = pygit2.hash(content)
        if name not in self._git:
            self._made.add(name)
            self._git.create_blob(content)
        return name

    def _as_expected(self, step: _Step, expected: Record) -> bool:
        entry = expected.file(step.path)
        return step.now.entry == entry and (
            entry is not None or expected.why_not(step.path) is None
        )

    def _check_room(self, step: _Step, vanishing: Collection[str]) -> None:
        """Nothing may stand in the way of a file that is not going to be removed as well."""
        for place in _folders_above(step.path):
            status = self._workspace.status(place)
            if status and not stat.S_ISDIR(status.st_mode) and place not in vanishing:
                raise ClaudeError(
                    f"{step.path!r} cannot be restored: {place!r} is no folder any more."
                )
        if step.now.is_folder:
            for path in self._files_in(step.path):
                if path not in vanishing:
                    raise ClaudeError(
                        f"{step.path!r} cannot be restored: it is a folder now, and {path!r} in "
                        "it would be lost."
                    )

    def _files_in(self, path: str) -> Iterator[str]:
        try:
            for name in self._workspace.names(path):
                inner = f"{path}/{name}"
                status = self._workspace.status(inner)
                if status and stat.S_ISDIR(status.st_mode):
                    yield from self._files_in(inner)
                elif status:
                    yield inner
        except OSError as error:
            raise _failed(path, error) from error


class _Restoring:
    """Does the steps, and knows how to undo those that are done."""

    def __init__(self, workspace: _Workspace, git: pygit2.Repository, target: Record) -> None:
        self._workspace = workspace
        self._git = git
        self._target = target
        self._undo: list[tuple[str, Callable[[], None]]] = []

    def run(self, steps: list[_Step]) -> None:
        """Remove what is to be removed, from the inside out, then write the rest."""
        removed = [step for step in reversed(steps) if step.then is None]
        written = [step for step in steps if step.then is not None]
        for step in [*removed, *written]:
            try:
                self._do(step)
            except BaseException as error:
                lost = self._put_back()
                if isinstance(error, OSError):
                    raise _failed(step.path, error, lost) from error
                if isinstance(error, ClaudeError) and lost:
                    raise ClaudeError(f"{error}{_lost(lost)}") from error
                raise

    def _do(self, step: _Step) -> None:
        status = self._workspace.status(step.path)
        if _Now(status).signature != step.now.signature:
            raise ClaudeError(
                f"{step.path!r} changed just now, while it was to be restored. Nothing was "
                "changed; try again."
            )
        if step.then is None:
            self._remove(step)
            return
        for place in _folders_above(step.path):
            self._make_folder(place)
        if step.now.is_folder:
            self._clear(step.path)
        mode = self._permissions(step, step.then)
        self._write(step.path, step.then, mode)
        self._undo.append((step.path, lambda: self._back(step)))

    def _remove(self, step: _Step) -> None:
        """Remove a file, and the folders that are empty without it and had not been there."""
        with self._workspace.folder_of(step.path) as (folder, name):
            os.unlink(name, dir_fd=folder)
        self._undo.append((step.path, lambda: self._back(step)))
        for place in reversed(_folders_above(step.path)):
            if self._target.had_folder(place):
                break
            try:
                self._remove_folder(place)
            except OSError:  # something else is in it
                break

    def _back(self, step: _Step) -> None:
        """Have what was there before the step."""
        now = step.now
        if now.entry is not None and now.status is not None:
            self._write(step.path, now.entry, stat.S_IMODE(now.status.st_mode))
        else:
            with self._workspace.folder_of(step.path) as (folder, name):
                os.unlink(name, dir_fd=folder)

    def _put_back(self) -> list[str]:
        """Undo what was done, the last first; return the paths where that failed."""
        lost = []
        for path, undo in reversed(self._undo):
            try:
                undo()
            except (OSError, ClaudeError):
                lost.append(path)
        return lost

    def _permissions(self, step: _Step, then: Entry) -> int | None:
        """A file's own bits, where no snapshot says others; None for those of a new file."""
        program = then.mode == PROGRAM
        if step.path in self._target.private:
            return 0o700 if program else 0o600
        status = step.now.status
        if status is None or not stat.S_ISREG(status.st_mode):
            return None
        bits = stat.S_IMODE(status.st_mode) & ~0o111
        return bits | (bits & 0o444) >> 2 if program else bits

    def _write(self, path: str, entry: Entry, bits: int | None) -> None:
        """Write a file or a link under another name, and rename it."""
        content = read_blob(self._git, entry.id)
        with self._workspace.folder_of(path) as (folder, name):
            beside = RESTORING + secrets.token_hex(8)
            try:
                if entry.mode == LINK:
                    os.symlink(os.fsdecode(content), beside, dir_fd=folder)
                else:
                    mode = 0o600 if bits is not None else 0o777 if entry.mode == PROGRAM else 0o666
                    with os.fdopen(os.open(beside, _MAKE_FILE, mode, dir_fd=folder), "wb") as file:
                        if bits is not None:
                            os.fchmod(file.fileno(), bits)
                        file.write(content)
                os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(beside, dir_fd=folder)
                raise

    def _make_folder(self, path: str, mode: int = 0o777) -> None:
        with self._workspace.folder_of(path) as (folder, name):
            try:
                os.mkdir(name, mode, dir_fd=folder)
            except FileExistsError:
                return
        self._undo.append((path, lambda: self._drop_folder(path)))

    def _remove_folder(self, path: str) -> None:
        status = self._workspace.status(path)
        self._drop_folder(path)
        bits = stat.S_IMODE(status.st_mode) if status else 0o777
        self._undo.append((path, lambda: self._make_folder(path, bits)))

    def _drop_folder(self, path: str) -> None:
        with self._workspace.folder_of(path) as (folder, name):
            os.rmdir(name, dir_fd=folder)

    def _clear(self, path: str) -> None:
        """Remove a folder that holds nothing but folders."""
        if not self._workspace.status(path):
            return
        for name in self._workspace.names(path):
            self._clear(f"{path}/{name}")
        self._remove_folder(path)


def _folders_above(path: str) -> list[str]:
    """The folders that a path is in, the topmost first."""
    names = path.split("/")[:-1]
    return ["/".join(names[: end + 1]) for end in range(len(names))]


def _failed(path: str, error: OSError, lost: Collection[str] = ()) -> ClaudeError:
    done = _lost(lost) if lost else " Nothing was changed."
    return ClaudeError(f"{path!r} could not be restored: {error.strerror}.{done}")


def _lost(lost: Collection[str]) -> str:
    return f" These could not be put back as they were: {', '.join(map(repr, lost))}."
