"""The n-th effect on the file system, and what becomes of it: the end of the process, or an error.

Effects are all that this process does to files through Python, and the commits of SQLite.
"""

import builtins
import errno
import io
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal
from unittest.mock import patch

from jupyter_ccapi.claude.snapshot_store import SnapshotStore

Fault = Literal["dies", "fails once", "is full", "is read-only"]

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# What needs no room on the disk.
_FREE = {"unlink", "remove", "rmdir"}
_CALLS = ("rename", "replace", "unlink", "remove", "rmdir", "mkdir", "symlink", "fsync", "fchmod")


class Effects:
    """Counts effects; has the ``last`` one, counted from 1, come to a bad end."""

    def __init__(self, last: int, fault: Fault) -> None:
        self.count = 0
        self._last = last
        self._fault = fault

    def next(self, name: str) -> None:
        """One more is about to be. Raises ``OSError`` where it fails."""
        self.count += 1
        if self.count < self._last:
            return
        if self._fault == "dies":
            os._exit(9)
        if self._fault == "fails once" and (self.count > self._last or name == "rmdir"):
            return
        if self._fault == "is full" and name in _FREE:
            return
        if name == "COMMIT":
            raise sqlite3.OperationalError("database or disk is full")
        number = errno.EROFS if self._fault == "is read-only" else errno.ENOSPC
        raise OSError(number, os.strerror(number))


class _Connection:
    """SQLite's, with commits that count."""

    def __init__(self, connection: sqlite3.Connection, effects: Effects) -> None:
        self._connection = connection
        self._effects = effects

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if statement == "COMMIT":
            try:
                self._effects.next("COMMIT")
            except sqlite3.Error:
                # As SQLite does it where the disk is full.
                self._connection.execute("ROLLBACK")
                raise
        return self._connection.execute(statement, *values)


@contextmanager
def effects(last: int, fault: Fault) -> Iterator[Effects]:
    """Have the n-th effect of this block come to a bad end."""
    counting = Effects(last, fault)

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            counting.next(name)
            return real(*given, **more)

        return call

    real_os_open, real_open = os.open, io.open
    connected = SnapshotStore._connected

    def os_open(path: Any, flags: int, *given: Any, **more: Any) -> int:
        if flags & _WRITING:
            counting.next("open")
        return real_os_open(path, flags, *given, **more)

    def io_open(file: Any, mode: str = "r", *given: Any, **more: Any) -> Any:
        if set(mode) & set("wax+") and not isinstance(file, int):
            counting.next("open")
        return real_open(file, mode, *given, **more)

    def store(self: SnapshotStore) -> Any:
        return _Connection(connected(self), counting)

    with ExitStack() as stack:
        for name in _CALLS:
            stack.enter_context(patch.object(os, name, counted(name, getattr(os, name))))
        stack.enter_context(patch.object(os, "open", os_open))
        stack.enter_context(patch.object(io, "open", io_open))
        stack.enter_context(patch.object(builtins, "open", io_open))
        stack.enter_context(patch.object(SnapshotStore, "_connected", store))
        yield counting
