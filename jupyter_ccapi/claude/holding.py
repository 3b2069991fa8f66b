"""One program at a time has a conversation: two would each overwrite what the other one keeps."""

import errno
import os
import threading
import weakref
from pathlib import Path
from typing import Self

from .errors import ClaudeError, ConversationInUse

_TAKEN = (errno.EACCES, errno.EAGAIN)

_holds: "weakref.WeakValueDictionary[Path, Hold]" = weakref.WeakValueDictionary()
_holding = threading.Lock()


class Hold:
    """What this process has while it has a conversation: a lock on a file, which ends with the
    process. ``busy`` is whether a turn or a rewind is on its way.

    In one process the newest has it: the one before is ``lost``, unless it is busy.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.busy = False
        self.lost = False
        self._path = path
        self._closing = weakref.finalize(self, os.close, descriptor)

    @classmethod
    def take(cls, path: Path) -> Self:
        """Have the conversation of this lock file. Raises ``ConversationInUse`` where somebody
        else has it, and ``ClaudeError`` where the file cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = path.parent.resolve() / path.name
            with _holding:
                before = _holds.get(path)
                if before is None:
                    taken = cls(path, _locked(path))
                elif before.busy:
                    raise ConversationInUse("A turn or a rewind of this conversation is running.")
                else:
                    taken = cls(path, before._hand_over())
                _holds[path] = taken
                return taken
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise ClaudeError(f"{path} cannot be written: {why}.") from error

    def check(self) -> None:
        """Raise ``ConversationInUse`` where it is somebody else's by now."""
        if self.lost:
            raise ConversationInUse(
                "This conversation was closed here, or opened anew: go on with it there."
            )

    def release(self, *, for_good: bool = False) -> None:
        """Let others have it; ``for_good``: there is no such conversation any more."""
        with _holding:
            if self.lost:
                return
            if for_good:
                self._path.unlink(missing_ok=True)
            self.lost = True
            _holds.pop(self._path, None)
            self._closing()

    def _hand_over(self) -> int:
        self.lost = True
        closing = self._closing.detach()
        assert closing is not None
        descriptor: int = closing[2][0]
        return descriptor


def _locked(path: Path) -> int:
    """Open a file and lock it; the lock is not a child's who inherits the descriptor."""
    if os.name == "nt":
        return os.open(path, os.O_RDWR | os.O_CREAT)
    import fcntl

    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in _TAKEN:
                    raise ConversationInUse(_by_whom(descriptor)) from error
                # Some network file systems know no locks: it goes without.
            if _is_still(path, descriptor):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, str(os.getpid()).encode(), 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether a file was not removed, by whoever had it, between the opening and the lock."""
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _by_whom(descriptor: int) -> str:
    process = os.pread(descriptor, 20, 0).decode("ascii", "replace")
    return (
        f"Another kernel or server (process {process or 'unknown'}) has this conversation open: "
        "close it there, or fork it."
    )
