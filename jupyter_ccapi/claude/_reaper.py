"""The process that outlives a notebook server just long enough to end what the server left
behind.

Run as ``python -I -S _reaper.py PARENT_PID``. It reads lines ``+PID`` and ``-PID`` on stdin; each
PID leads a process group of its own. When stdin ends or the parent is gone, however it went, the
groups that are left are told to end, and two seconds later made to.

It imports nothing but the fast part of the standard library: one such process stands beside every
server and kernel that uses Claude Code.
"""

import os
import select
import signal
import sys
import time

_POLL_SECONDS = 1.0
_GRACE_SECONDS = 2.0


def watch(parent: int) -> set[int]:
    """Keep the list of groups until the parent is gone; return the groups that are left."""
    groups: set[int] = set()
    rest = b""
    # A forked child of the parent may hold the pipe open past its death: hence the look at the
    # parent's id too.
    while os.getppid() == parent:
        if not select.select([0], [], [], _POLL_SECONDS)[0]:
            continue
        chunk = os.read(0, 65536)
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
    return groups


def end(groups: set[int]) -> None:
    """Tell every group to end, wait, and kill what did not."""
    for how, grace in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, 0.0)):
        groups = {group for group in groups if _signal(group, how)}
        deadline = time.monotonic() + grace
        while groups and time.monotonic() < deadline:
            time.sleep(0.02)
            groups = {group for group in groups if _signal(group, 0)}


def _signal(group: int, how: int) -> bool:
    """Send a signal to a group; False if there is nobody left in it."""
    try:
        os.killpg(group, how)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    end(watch(int(sys.argv[1])))
