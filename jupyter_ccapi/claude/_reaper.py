"""The process that outlives a notebook server just long enough to end what the server left
behind.

Run as ``python -I -S _reaper.py PARENT_PID``. It reads lines on stdin: ``+PID MARK`` is a CLI that
has started, which leads a process group of its own and carries MARK in its environment; ``-PID``
has ended. Whatever still carries the mark of a CLI that has ended is killed: a CLI gives each
command of its Bash tool a session of its own, so that no signal to its group finds them. When
stdin ends or the parent is gone, however it went, the CLIs that are left are told to end, and two
seconds later made to.

It imports nothing but the fast part of the standard library: one such process stands beside every
server and kernel that uses Claude Code.
"""

import os
import select
import signal
import sys
import time

#: The environment variable that holds the mark, inherited by all that a CLI starts.
MARK = "JUPYTER_CCAPI_PROCESS"

_POLL_SECONDS = 1.0
_GRACE_SECONDS = 2.0


def watch(parent: int) -> dict[int, bytes]:
    """Keep the list of CLIs until the parent is gone; return those that are left, with marks."""
    groups: dict[int, bytes] = {}
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
            group, _, mark = line[1:].partition(b" ")
            if line[:1] == b"+":
                groups[int(group)] = mark
            else:
                sweep({groups.pop(int(group), b"")})
    return groups


def end(groups: dict[int, bytes]) -> None:
    """Tell every CLI to end, wait, kill those that did not, and then all that they left."""
    left = set(groups)
    for how, grace in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, 0.0)):
        left = {group for group in left if _signal(group, how)}
        deadline = time.monotonic() + grace
        while left and time.monotonic() < deadline:
            time.sleep(0.02)
            left = {group for group in left if _signal(group, 0)}
    sweep(set(groups.values()))


def sweep(marks: set[bytes]) -> None:
    """Kill all processes that carry one of the marks. Only where there is a ``/proc``; elsewhere
    it is left to the CLI, which ends its commands when it is told to end.
    """
    wanted = {f"{MARK}=".encode() + mark for mark in marks if mark}
    deadline = time.monotonic() + _GRACE_SECONDS
    # Again until none is found, for those that were started meanwhile; not for ever, since one
    # that hangs in the kernel cannot be killed.
    while wanted and time.monotonic() < deadline:
        killed = [pid for pid in _carriers(wanted) if _kill(pid)]
        if not killed:
            return
        time.sleep(0.01)


def _carriers(wanted: set[bytes]) -> list[int]:
    found = []
    try:
        names = [entry.name for entry in os.scandir("/proc") if entry.name.isdecimal()]
    except FileNotFoundError:
        return []
    for name in names:
        try:
            variables = _read(f"/proc/{name}/environ").split(b"\0")
        except OSError:  # it has ended, or belongs to somebody else
            continue
        if not wanted.isdisjoint(variables):
            found.append(int(name))
    return found


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        read = b""
        while chunk := os.read(descriptor, 65536):
            read += chunk
        return read
    finally:
        os.close(descriptor)


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


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
