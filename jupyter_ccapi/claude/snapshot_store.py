"""Where snapshots are kept: git's objects (blobs and trees, by git's own ids) in one SQLite file
for each workspace.

SQLite brings what several threads and processes need that share a store: whatever ends in the
middle of a transaction has changed nothing, and its locks end with it.
"""

import json
import sqlite3
import threading
import time
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha1
from os import fsdecode, fsencode
from pathlib import Path
from typing import Any, NamedTuple

from .errors import CannotSnapshot, ClaudeError

#: What stands for a folder in a tree.
FOLDER = 0o40000

# Raised whenever the tables change: a file of another version is not touched.
_VERSION = 1
_TABLES = """
CREATE TABLE objects (id BLOB PRIMARY KEY, kind TEXT NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE snapshots (id TEXT PRIMARY KEY, taken REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE kept (owner TEXT, id TEXT, PRIMARY KEY (owner, id)) WITHOUT ROWID;
CREATE TABLE folders (place BLOB PRIMARY KEY, files TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, number REAL NOT NULL) WITHOUT ROWID;
"""
# Seconds to wait for another process that writes: its first snapshot may be a long one.
_PATIENCE = 60.0
# Trees that were read stay in memory: they never change.
_MOST_TREES = 1_000


class Entry(NamedTuple):
    """What a tree holds under a name: git's mode, and the id of a blob or of a tree."""

    mode: int
    id: bytes


class Stamp(NamedTuple):
    """What tells whether the rows about folders are still those that were read (``written``), and
    whether objects were dropped since (``dropped``).
    """

    written: float
    dropped: float


def object_id(kind: str, data: bytes) -> bytes:
    """Git's id of an object."""
    return sha1(b"%s %d\0" % (kind.encode(), len(data)) + data, usedforsecurity=False).digest()


def tree_data(entries: Iterable[tuple[str, Entry]]) -> bytes:
    """A tree as git writes it: sorted by name, folders as if a slash were behind theirs."""
    rows = [(fsencode(name), entry) for name, entry in entries]
    rows.sort(key=lambda row: row[0] + b"/" if row[1].mode == FOLDER else row[0])
    return b"".join(b"%o %s\0%s" % (entry.mode, name, entry.id) for name, entry in rows)


class SnapshotStore:
    """The store of one workspace, in the file ``path``; it is made where there is none.

    Every method needs a ``transaction()`` around it. SQLite's errors become ``CannotSnapshot``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._inode = -1
        self._trees: dict[bytes, Mapping[str, Entry]] = {}

    @contextmanager
    def transaction(self, *, write: bool = False, keep: bool = True) -> Iterator[None]:
        """One view of the store; with ``write`` all of what is changed is kept, or nothing, as
        always without ``keep``.
        """
        with self._lock:
            try:
                connection = self._connected()
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                try:
                    yield
                except BaseException:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT" if keep else "ROLLBACK")
            except sqlite3.Error as error:
                raise CannotSnapshot(
                    f"The snapshots in {str(self._path)!r} cannot be used: {error}. If that stays "
                    "so, remove the file to begin anew."
                ) from error

    def close(self) -> None:
        """Let go of the file; it is opened again when it is needed."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def add(self, kind: str, data: bytes) -> bytes:
        """Keep an object; return its id."""
        name = object_id(kind, data)
        if not self.holds(name):
            packed = zlib.compress(data, 1)
            self._run("INSERT INTO objects VALUES (?, ?, ?)", name, kind, packed)
        return name

    def holds(self, name: bytes) -> bool:
        """Whether there is such an object."""
        return bool(self._rows("SELECT 1 FROM objects WHERE id = ?", name))

    def read(self, name: bytes, kind: str) -> bytes:
        """An object's data. Raises ``ClaudeError`` where it is gone or damaged."""
        rows = self._rows("SELECT data FROM objects WHERE id = ? AND kind = ?", name, kind)
        with suppress(IndexError, zlib.error):
            data = zlib.decompress(rows[0][0])
            if object_id(kind, data) == name:
                return data
        raise ClaudeError(
            f"A part of the snapshots in {str(self._path)!r} is missing or damaged "
            f"({kind} {name.hex()}): what is in it cannot be brought back."
        )

    def tree(self, name: bytes) -> Mapping[str, Entry]:
        """What a tree holds, by name."""
        if name not in self._trees:
            if len(self._trees) > _MOST_TREES:
                self._trees.clear()
            self._trees[name] = self._parsed(name)
        return self._trees[name]

    def _parsed(self, name: bytes) -> Mapping[str, Entry]:
        data, found, at = self.read(name, "tree"), {}, 0
        while at < len(data):
            end = data.index(b"\0", at)
            mode, _, path = data[at:end].partition(b" ")
            found[fsdecode(path)] = Entry(int(mode, 8), data[end + 1 : end + 21])
            at = end + 21
        return found

    def record(self, snapshot: str) -> None:
        """Remember that it was taken, now."""
        self._run("INSERT OR REPLACE INTO snapshots VALUES (?, ?)", snapshot, time.time())

    def recorded(self, snapshot: str) -> bool:
        """Whether it was taken, and is still here."""
        return bool(self._rows("SELECT 1 FROM snapshots WHERE id = ?", snapshot))

    def keep(self, owner: str, snapshots: Collection[str]) -> None:
        """Have an owner keep these, and no others."""
        self._run("DELETE FROM kept WHERE owner = ?", owner)
        for snapshot in snapshots:
            self._run("INSERT OR IGNORE INTO kept VALUES (?, ?)", owner, snapshot)

    def owners(self) -> list[str]:
        """Who keeps any."""
        return [row[0] for row in self._rows("SELECT DISTINCT owner FROM kept ORDER BY owner")]

    def stamp(self) -> Stamp:
        """How the store stands."""
        facts = dict(self._rows("SELECT name, number FROM facts"))
        return Stamp(facts.get("written", 0), facts.get("dropped", 0))

    def folders(self) -> dict[str, Any]:
        """The rows about folders, as they were given to ``write_folders()``."""
        rows = self._rows("SELECT place, files FROM folders")
        return {fsdecode(place): json.loads(files) for place, files in rows}

    def write_folders(self, changed: dict[str, Any], gone: Iterable[str]) -> Stamp:
        """Write what changed, as JSON, and drop what is gone; return how the store stands then."""
        for place, files in changed.items():
            text = json.dumps(files, separators=(",", ":"))
            self._run("INSERT OR REPLACE INTO folders VALUES (?, ?)", fsencode(place), text)
        for place in gone:
            self._run("DELETE FROM folders WHERE place = ?", fsencode(place))
        self._count("written")
        return self.stamp()

    def collectable(self, *, older_than: float, every: float) -> bool:
        """Whether anything may go, and the last time is so many seconds ago."""
        last = dict(self._rows("SELECT name, number FROM facts")).get("collected", 0)
        return abs(time.time() - last) >= every and bool(
            self._rows(f"SELECT 1 {_FORGOTTEN} LIMIT 1", time.time() - older_than)
        )

    def collect(self, *, older_than: float, needed: Iterable[bytes]) -> None:
        """Drop the snapshots that nobody keeps and that were taken so many seconds ago, then all
        objects that neither a snapshot needs nor the caller.
        """
        self._run(f"DELETE {_FORGOTTEN}", time.time() - older_than)
        roots = self._rows("SELECT id FROM snapshots")
        reached = set(needed)
        waiting = [bytes.fromhex(row[0]) for row in roots]
        while waiting:
            name = waiting.pop()
            if name in reached:
                continue
            reached.add(name)
            # Where a tree is damaged, nothing below it can be brought back anyway.
            with suppress(ClaudeError):
                entries = self.tree(name).values()
                waiting += [entry.id for entry in entries if entry.mode == FOLDER]
                reached.update(entry.id for entry in entries if entry.mode != FOLDER)
        for (name,) in self._rows("SELECT id FROM objects"):
            if name not in reached:
                self._run("DELETE FROM objects WHERE id = ?", name)
        self._count("dropped")
        self._run("INSERT OR REPLACE INTO facts VALUES ('collected', ?)", time.time())

    def shrink(self) -> None:
        """Give free space back to the system; outside of a transaction, and not in need of one."""
        with self._lock, suppress(sqlite3.Error):
            connection = self._connected()
            connection.execute("PRAGMA incremental_vacuum").fetchall()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _count(self, fact: str) -> None:
        self._run("INSERT OR IGNORE INTO facts VALUES (?, 0)", fact)
        self._run("UPDATE facts SET number = number + 1 WHERE name = ?", fact)

    def _run(self, statement: str, *values: Any) -> None:
        assert self._connection is not None
        self._connection.execute(statement, values)

    def _rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        assert self._connection is not None
        return self._connection.execute(statement, values).fetchall()

    def _connected(self) -> sqlite3.Connection:
        """The connection; a new one where the file is another one by now, or was removed."""
        try:
            inode = self._path.stat().st_ino
        except OSError:
            inode = -1
        if self._connection is not None and inode == self._inode:
            return self._connection
        self.close()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path.touch(mode=0o600)
        except OSError as error:
            raise CannotSnapshot(
                f"Snapshots cannot be kept in {str(self._path)!r}: {error.strerror}."
            ) from error
        self._connection = self._open()
        self._inode = self._path.stat().st_ino
        return self._connection

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Have the tables. The write-ahead log makes a commit cheap: no wait for the disk."""
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if connection.execute("PRAGMA user_version").fetchone()[0] == _VERSION:
            return
        connection.execute("BEGIN IMMEDIATE")
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found == 0:
            for statement in _TABLES.strip().splitlines():
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
        if found not in (0, _VERSION):
            raise CannotSnapshot(
                f"The snapshots in {str(self._path)!r} are of another version of this package. "
                "Remove the file to begin anew."
            )


_FORGOTTEN = "FROM snapshots WHERE taken < ? AND id NOT IN (SELECT id FROM kept)"
