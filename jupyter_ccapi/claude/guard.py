"""See to it that no CLI outlives the server or kernel that started it, even one that is killed.

Measured with CLI 2.1.330: at the end of its stdin an idle CLI exits, one in the middle of a turn
goes on reading the model to the end of the answer, at its owner's cost. Nobody can act after its
own SIGKILL, so a small process of its own (``_reaper.py``) stands by.
"""

import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

_REAPER = Path(__file__).with_name("_reaper.py")


class Guard:
    """Tells the reaper which process groups are ours; starts it at the first one. Thread-safe."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._reaper: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def watch(self, group: int) -> None:
        """From now on end this process group when this Python process is gone."""
        with self._lock:
            self._groups.add(group)
            if self._reaper is None or self._reaper.poll() is not None:
                self._start()
            else:
                self._tell(f"+{group}\n")

    def release(self, group: int) -> None:
        """The group has ended: forget it, since its number may come again."""
        with self._lock:
            self._groups.discard(group)
            self._tell(f"-{group}\n")

    def close(self) -> None:
        """End the reaper; whatever is still watched is ended by it."""
        with self._lock:
            reaper, self._reaper = self._reaper, None
        if reaper is not None:
            with suppress(OSError):
                assert reaper.stdin is not None
                reaper.stdin.close()
            reaper.wait(timeout=10)

    def _start(self) -> None:
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_REAPER), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Ctrl-C in the terminal and a kernel's interrupt go to a whole process group; not to
            # this one.
            start_new_session=True,
        )
        self._tell("".join(f"+{group}\n" for group in self._groups))

    def _tell(self, lines: str) -> None:
        """Write to the reaper. One that has died is replaced at the next ``watch``."""
        if self._reaper is not None and self._reaper.stdin is not None:
            with suppress(OSError):
                self._reaper.stdin.write(lines.encode())
                self._reaper.stdin.flush()
