"""See to it that no CLI outlives the server or kernel that started it, even one that is killed.

Measured with CLI 2.1.330: at the end of its stdin an idle CLI exits, one in the middle of a turn
goes on reading the model to the end of the answer, at its owner's cost; a CLI that is killed
leaves the commands of its Bash tool behind. Nobody can act after its own SIGKILL, so a small
process of its own (``_reaper.py``) stands by.
"""

import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from ._reaper import MARK

__all__ = ["MARK", "Guard"]

_REAPER = Path(__file__).with_name("_reaper.py")


class Guard:
    """Tells the reaper which CLIs are ours; starts it at the first one. Thread-safe.

    A CLI leads a process group, whose id is its own, and carries a mark of its own in the
    environment variable ``MARK``.
    """

    def __init__(self) -> None:
        self._groups: dict[int, str] = {}
        self._reaper: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def watch(self, group: int, mark: str) -> None:
        """From now on end this CLI, and all that it started, when this Python process is gone."""
        with self._lock:
            self._groups[group] = mark
            if self._reaper is None or self._reaper.poll() is not None:
                self._start()
            else:
                self._tell(f"+{group} {mark}\n")

    def release(self, group: int) -> None:
        """The CLI has ended: end what it left behind and forget it, since its number may come
        again.
        """
        with self._lock:
            self._groups.pop(group, None)
            self._tell(f"-{group}\n")

    def close(self) -> None:
        """End the reaper; whatever is still watched is ended by it. Blocks for some milliseconds,
        for seconds where there is something left that does not want to end.
        """
        with self._lock:
            reaper, self._reaper = self._reaper, None
        if reaper is not None:
            _hang_up(reaper)
            try:
                reaper.wait(timeout=10)
            except subprocess.TimeoutExpired:
                reaper.kill()
                reaper.wait()

    def _start(self) -> None:
        if self._reaper is not None:
            _hang_up(self._reaper)
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_REAPER), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A server that was itself started by a CLI carries that one's mark; its reaper must
            # not, or it would be killed before its work.
            env={name: value for name, value in os.environ.items() if name != MARK},
            # Ctrl-C in the terminal and a kernel's interrupt go to a whole process group; not to
            # this one.
            start_new_session=True,
        )
        self._tell("".join(f"+{group} {mark}\n" for group, mark in self._groups.items()))

    def _tell(self, lines: str) -> None:
        """Write to the reaper. One that has died is replaced at the next ``watch``."""
        if self._reaper is not None and self._reaper.stdin is not None:
            with suppress(OSError):
                self._reaper.stdin.write(lines.encode())
                self._reaper.stdin.flush()


def _hang_up(reaper: "subprocess.Popen[bytes]") -> None:
    assert reaper.stdin is not None
    with suppress(OSError):
        reaper.stdin.close()
