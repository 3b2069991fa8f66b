"""The private git repository that keeps the snapshots of one workspace.

It has no work tree of its own and lies apart from the workspace. A snapshot is a commit;
``refs/last`` is the one that the index stands for, ``refs/taken/<id>`` are those that were taken
lately (by the time of that file), and ``refs/kept/<hash>`` is a commit for each owner, whose
parents are the snapshots that it keeps.
"""

import os
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import pygit2
from pygit2.enums import ConfigLevel, RepositoryOpenFlag

from .errors import CannotSnapshot, ClaudeError

# Whatever of the user's settings could change a byte, a name or a diff is overruled here.
_CONFIG = """[core]
\trepositoryformatversion = 0
\tbare = true
\tfilemode = true
\tsymlinks = true
\tignorecase = false
\tprecomposeunicode = false
\tprotectHFS = false
\tprotectNTFS = false
\ttrustctime = true
\tautocrlf = false
\tsafecrlf = false
\tlogallrefupdates = false
\texcludesfile = /dev/null
\tattributesfile = /dev/null
[diff]
\tignoresubmodules = none
\tmnemonicprefix = false
\tnoprefix = false
"""
# Of all places for attributes this one decides.
_ATTRIBUTES = "* -text !eol -ident -filter -working-tree-encoding !diff\n"
_LEVELS = (ConfigLevel.PROGRAMDATA, ConfigLevel.SYSTEM, ConfigLevel.XDG, ConfigLevel.GLOBAL)
_WITHOUT_SETTINGS = threading.Lock()


class SnapshotRepository:
    """The repository of the workspace ``folder``, in the folder ``home``; it is made where there is
    none. One thread of one process uses it at a time.
    """

    def __init__(self, home: Path, folder: Path) -> None:
        name = sha256(os.fsencode(folder)).hexdigest()[:32]
        self.path = home / f"{name}.git"
        self._folder = folder
        self._lock = threading.Lock()
        self._repository: pygit2.Repository | None = None
        self._state: tuple[int, ...] = ()

    @contextmanager
    def opened(self) -> Iterator[pygit2.Repository]:
        """The repository, while nobody else uses it. What libgit2 and the system say against it
        becomes ``CannotSnapshot``.
        """
        with self._lock:
            try:
                with self._alone():
                    yield self._current()
            except BaseException as error:
                # The index in memory may be half changed.
                self._repository = None
                if isinstance(error, pygit2.GitError | OSError) and not isinstance(
                    error, ClaudeError
                ):
                    raise CannotSnapshot(
                        f"The snapshots in {str(self.path)!r} cannot be used: {error}. If that "
                        "stays so, remove that folder to begin anew."
                    ) from error
                raise

    def close(self) -> None:
        """Let go of it; whatever needs it opens it again."""
        with self._lock:
            self._repository = None

    def exclude(self, patterns: bytes) -> None:
        """Have these patterns hold beside those in the workspace."""
        path = self.path / "info" / "exclude"
        if not path.exists() or path.read_bytes() != patterns:
            path.write_bytes(patterns)

    def ignores(self, top: Path, path: str) -> bool:
        """Whether a path is ignored by these patterns and the files in another work tree."""
        repository = _open(self.path)
        repository.workdir = str(top)
        return repository.path_is_ignored(path)

    def last(self, repository: pygit2.Repository) -> str | None:
        """The snapshot that was taken last."""
        found = repository.references.get("refs/last")
        return str(found.target) if found else None

    def taken(self, repository: pygit2.Repository, snapshot: str) -> None:
        """This one was taken just now."""
        path = self.path / "refs" / "taken" / snapshot
        if path.exists():
            path.touch()
        else:
            self._point(repository, f"refs/taken/{snapshot}", snapshot)
        if self.last(repository) != snapshot:
            self._point(repository, "refs/last", snapshot)

    def keep(self, repository: pygit2.Repository, owner: str, snapshots: Collection[str]) -> None:
        """Have an owner keep these, as far as they exist, and no others."""
        name = f"refs/kept/{sha256(owner.encode()).hexdigest()}"
        found = [one for one in dict.fromkeys(snapshots) if commit(repository, one)]
        if found:
            tree = repository.TreeBuilder().write()
            self._point(repository, name, make_commit(repository, owner, tree, found))
        elif name in repository.references:
            repository.references.delete(name)

    def owners(self, repository: pygit2.Repository) -> list[str]:
        """Who keeps any."""
        names = [name for name in repository.references if name.startswith("refs/kept/")]
        kept = [commit(repository, str(repository.references[name].target)) for name in names]
        return sorted(one.message for one in kept if one)

    def collect(self, repository: pygit2.Repository, *, older_than: float, every: float) -> None:
        """Drop the snapshots that nobody keeps and that were taken so many seconds ago, and all
        objects that no snapshot needs; unless that was done a short time ago (``every``).
        """
        marker, now = self.path / "collected", time.time()
        if marker.exists() and abs(now - marker.stat().st_mtime) < every:
            return
        for path in self.path.glob("refs/taken/*"):
            if path.stat().st_mtime <= now - older_than:
                path.unlink()
        reached = _reached(repository)
        for path in self.path.glob("objects/??/*"):
            if path.parent.name + path.name not in reached:
                path.unlink()
        for path in self.path.glob("objects/tmp_*"):
            path.unlink()
        # Who has the repository open sees by this that it is to be opened anew.
        marker.write_text("")
        self._repository = None

    def forget(self, blobs: Collection[pygit2.Oid]) -> None:
        """Drop these at once, which no snapshot needs."""
        for name in map(str, blobs):
            with suppress(OSError):
                (self.path / "objects" / name[:2] / name[2:]).unlink()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others out; the lock ends with its process."""
        place, how = self.path.with_suffix(".lock"), os.O_RDONLY | os.O_CLOEXEC
        try:
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                how |= os.O_CREAT
            lock = os.open(place, how, 0o600)
        except OSError as error:
            raise CannotSnapshot(
                f"Snapshots cannot be kept in {str(self.path.parent)!r}: {error.strerror}."
            ) from error
        try:
            import fcntl  # there is none on Windows, nor are there snapshots

            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _current(self) -> pygit2.Repository:
        if not self.path.exists():
            self._make()
        # As nobody else is here, whoever made it was killed.
        _remove(self.path / "index.lock")
        marker = self.path / "collected"
        collected = marker.stat().st_mtime_ns if marker.exists() else 0
        state = self.path.stat().st_ino, collected
        if self._repository is None or state != self._state:
            self._repository = _open(self.path)
            self._repository.workdir = str(self._folder)
            self._state = state
        return self._repository

    def _make(self) -> None:
        making = self.path.with_suffix(".making")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(mode=0o700)
        for name in ("objects", "refs", "info"):
            (making / name).mkdir()
        (making / "HEAD").write_text("ref: refs/heads/none\n")
        (making / "config").write_text(_CONFIG)
        (making / "info" / "attributes").write_text(_ATTRIBUTES)
        making.rename(self.path)

    def _point(self, repository: pygit2.Repository, name: str, target: str) -> None:
        _remove(self.path / f"{name}.lock")
        repository.references.create(name, target, force=True)


def commit(repository: pygit2.Repository, name: str) -> pygit2.Commit | None:
    """The commit with this whole id; None where there is none."""
    try:
        return repository[name].peel(pygit2.Commit) if len(name) == 40 else None
    except (KeyError, ValueError):
        return None


def make_commit(
    repository: pygit2.Repository, message: str, tree: pygit2.Oid, parents: Collection[str] = ()
) -> str:
    """Write a commit; return its id."""
    by = pygit2.Signature("jupyter_ccapi", "-", int(time.time()), 0)
    return str(repository.create_commit(None, by, by, message, tree, list(parents)))


def _open(path: Path) -> pygit2.Repository:
    """Where the user's own settings are broken, or cannot be read, it is opened without them.

    Where libgit2 looks for them is one setting for the whole process; for the moment that it is
    another one, nobody else could open a repository with those settings either.
    """
    flags = RepositoryOpenFlag.BARE | RepositoryOpenFlag.NO_SEARCH
    try:
        return pygit2.Repository(str(path), flags)
    except pygit2.GitError:
        paths = pygit2.settings.search_path
        with _WITHOUT_SETTINGS:
            before = [(level, paths[level]) for level in _LEVELS]
            try:
                for level in _LEVELS:
                    paths[level] = ""
                return pygit2.Repository(str(path), flags)
            finally:
                for level, value in before:
                    paths[level] = value


def _reached(repository: pygit2.Repository) -> set[str]:
    """All objects that a reference leads to."""
    reached: set[str] = set()
    waiting = [str(repository.references[name].target) for name in repository.references]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        # Where one is damaged, nothing below it can be brought back anyway.
        with suppress(KeyError, pygit2.GitError):
            found = repository[name]
            if isinstance(found, pygit2.Commit):
                waiting += [str(found.tree_id), *map(str, found.parent_ids)]
            elif isinstance(found, pygit2.Tree):
                for one in found:
                    if isinstance(one, pygit2.Tree):
                        waiting.append(str(one.id))
                    else:
                        reached.add(str(one.id))
    return reached


def _remove(lock: Path) -> None:
    if lock.exists():
        lock.unlink()
