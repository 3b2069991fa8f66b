"""How much memory Claude Code processes may still take before the kernel ends one, and how much
one takes.

Container limits are read as the kernel documents them (admin-guide/cgroup-v2, section "Memory",
and admin-guide/cgroup-v1/memory), the machine's memory from ``/proc/meminfo`` (filesystems/proc),
or from psutil where there is none.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil


@dataclass(frozen=True, slots=True)
class Memory:
    """What this container, or machine, may use at all (``limit``) and what may still be taken
    before that is reached (``available``); both in bytes.
    """

    limit: int
    available: int


class _Files(NamedTuple):
    """The names that one version of cgroups has for the same things."""

    limits: tuple[str, ...]
    usage: str
    inactive: str  # the entry of memory.stat, with all cgroups below counted


# Above memory.max the kernel kills; above memory.high it slows the processes down until they fall
# below again, which for a CLI is as good as never.
_V2 = _Files(("memory.max", "memory.high"), "memory.current", "inactive_file")
# "No limit" is a number larger than any machine, which the machine's own memory then undercuts.
_V1 = _Files(("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")


def read_memory(root: Path = Path("/")) -> Memory:
    """Read the tightest limit, and the least memory available, among this process's cgroup, all
    cgroups above it that can be seen, and the machine.

    Swap does not count. A file that cannot be read, or makes no sense, is no limit. ``root`` is
    the folder that holds ``proc`` and ``sys``.
    """
    levels = [_machine(root)]
    for files, mount, path in _hierarchies(root):
        levels += [level for folder in _chain(mount, path) if (level := _level(folder, files))]
    return Memory(min(level.limit for level in levels), min(level.available for level in levels))


def proportional_size(pid: int) -> int | None:
    """Measure the memory of one process, without its children, in bytes; None if it has ended or
    may not be looked at.

    It is the proportional set size (PSS: a page that n processes share counts 1/n) where the
    system tells it, which is Linux, for processes of the same user; else the resident set size.
    """
    try:
        process = psutil.Process(pid)
        size: int | None = None
        with suppress(psutil.AccessDenied):
            size = getattr(process.memory_full_info(), "pss", None)
        if size is None:
            size = process.memory_info().rss
    except psutil.Error:
        return None
    # One that has ended and was not yet waited for has none left.
    return size or None


def _machine(root: Path) -> Memory:
    entries = _entries(root / "proc" / "meminfo")  # in KiB
    if "MemTotal" in entries and "MemAvailable" in entries:
        return Memory(entries["MemTotal"] * 1024, entries["MemAvailable"] * 1024)
    machine = psutil.virtual_memory()
    return Memory(machine.total, machine.available)


def _hierarchies(root: Path) -> Iterator[tuple[_Files, Path, str]]:
    """The hierarchies that may limit memory: file names, mount, and this process's path in it.

    A line of ``/proc/self/cgroup`` is ``ID:CONTROLLERS:PATH``; version 2 has ID 0 and names no
    controllers. Hybrid systems mount both versions, and then version 2 at ``unified``.
    """
    mounts = root / "sys" / "fs" / "cgroup"
    for line in _read(root / "proc" / "self" / "cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            yield _V1, mounts / "memory", path
        elif number == "0" and not controllers:
            yield _V2, mounts, path
            yield _V2, mounts / "unified", path


def _chain(mount: Path, path: str) -> list[Path]:
    """This process's cgroup and all above it, up to the mount's root.

    A container often has its own cgroup mounted as the root, and sees either ``/`` for its path
    or a path of the host that does not exist here: then the root alone counts, even where some
    folder on the way bears the same name. A path with ``..`` lies outside of the namespace.
    """
    own = mount / path.lstrip("/")
    try:
        visible = ".." not in own.relative_to(mount).parts and own.is_dir()
    except OSError:
        visible = False
    if not visible:
        return [mount]
    return [folder for folder in (own, *own.parents) if folder.is_relative_to(mount)]


def _level(folder: Path, files: _Files) -> Memory | None:
    """The limit of one cgroup and what is left of it; None where it has no limit.

    The page cache on the inactive list does not count as used: the kernel takes it back before
    it kills.
    """
    found = (_number(_read(folder / name)) for name in files.limits)
    limits = [limit for limit in found if limit is not None]
    if not limits:
        return None
    current = _number(_read(folder / files.usage)) or 0
    used = max(0, current - _entries(folder / "memory.stat").get(files.inactive, 0))
    return Memory(min(limits), max(0, min(limits) - used))


def _entries(path: Path) -> dict[str, int]:
    """The ``name number`` or ``name: number unit`` lines of a file, by name."""
    words = [line.split() for line in _read(path).splitlines()]
    return {
        line[0].rstrip(":"): number
        for line in words
        if len(line) > 1 and (number := _number(line[1])) is not None
    }


def _number(text: str) -> int | None:
    """A count that the kernel wrote; None for ``max`` and whatever else is none."""
    try:
        number = int(text)
    except ValueError:
        return None
    return number if number >= 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""
