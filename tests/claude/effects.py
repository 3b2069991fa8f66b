"""The n-th effect on the file system, and what becomes of it: the end of the process, or an error.

Effects are all that this process does to files through Python, and what libgit2 writes.
"""

import builtins
import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal
from unittest.mock import patch

import pygit2
from pygit2.references import References

Fault = Literal["dies", "fails once", "is full", "is read-only"]

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# What needs no room on the disk.
_FREE = {"unlink", "remove", "rmdir"}
_CALLS = ("rename", "replace", "unlink", "remove", "rmdir", "mkdir", "symlink", "fsync", "fchmod")
_GITS: dict[str, Any] = {
    "create_blob": pygit2.Repository,
    "create_commit": pygit2.Repository,
    "create": References,
    "write": pygit2.Index,
    "write_tree": pygit2.Index,
}


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
        if name in _GITS:
            raise pygit2.GitError("failed to write: no room")
        number = errno.EROFS if self._fault == "is read-only" else errno.ENOSPC
        raise OSError(number, os.strerror(number))


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

    def os_open(path: Any, flags: int, *given: Any, **more: Any) -> int:
        if flags & _WRITING:
            counting.next("open")
        return real_os_open(path, flags, *given, **more)

    def io_open(file: Any, mode: str = "r", *given: Any, **more: Any) -> Any:
        if set(mode) & set("wax+") and not isinstance(file, int):
            counting.next("open")
        return real_open(file, mode, *given, **more)

    with ExitStack() as stack:
        for name in _CALLS:
            stack.enter_context(patch.object(os, name, counted(name, getattr(os, name))))
        stack.enter_context(patch.object(os, "open", os_open))
        stack.enter_context(patch.object(io, "open", io_open))
        stack.enter_context(patch.object(builtins, "open", io_open))
        for name, kind in _GITS.items():
            stack.enter_context(patch.object(kind, name, counted(name, getattr(kind, name))))
        yield counting
