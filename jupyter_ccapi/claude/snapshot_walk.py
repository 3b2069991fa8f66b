"""What libgit2 does not tell of a folder: nested repositories, pipes, what cannot be read, folders
without files; and the patterns that hold from above it.
"""

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .errors import CannotSnapshot

#: What the name of a file begins with that is being written, and is to be renamed.
RESTORING = ".ccapi-restoring-"

# libgit2 goes a hundred folders deep, and with one more it tells nothing at all.
_DEEPEST = 99
# A folder that changed so shortly before it was listed may change again without its time telling:
# in nanoseconds.
_COARSE = 2_000_000_000

_OTHERS = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a pipe",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


class TooMuch(CannotSnapshot):
    """The workspace is larger than the limits allow: it holds ``what``."""

    def __init__(self, root: Path, what: str) -> None:
        super().__init__(
            f"The folder {str(root)!r} holds {what}: name what need not be covered in a "
            ".gitignore file, or work in a smaller folder."
        )


@dataclass(slots=True)
class Listing:
    """A folder: how many entries it has, which are folders, and why some cannot be covered."""

    count: int = 0
    folders: list[str] = field(default_factory=list)
    odd: dict[str, str] = field(default_factory=dict)
    git: str | None = None


Listings = dict[str, tuple[tuple[int, int, int], Listing]]


def walk(
    root: Path,
    listings: Listings,
    *,
    most: int,
    apart: str | None,
    ignored: Callable[[str], bool],
) -> tuple[list[str], dict[str, str]]:
    """The folders (but the workspace itself), and what cannot be covered, with the reasons.

    ``listings`` remembers folders that have not changed. ``apart`` is nobody's. Raises ``TooMuch``
    where there are more than ``most`` entries, and ``CannotSnapshot`` where it cannot be read.
    """
    folders: list[str] = []
    left_out: dict[str, str] = {}
    waiting = [""]
    while waiting:
        place = waiting.pop()
        try:
            found = _list(f"{root}/{place}", listings)
        except OSError as error:
            if not place:
                raise CannotSnapshot(
                    f"The folder {str(root)!r} cannot be read: {error.strerror}."
                ) from error
            left_out[place[:-1]] = f"cannot be read ({error.strerror})"
            continue
        most -= found.count
        if most < 0:
            raise TooMuch(root, "too many files and folders")
        if found.git and place:
            left_out[place[:-1]] = "a nested repository"
            continue
        if found.git:
            left_out[found.git] = "the repository itself"
        if place:
            folders.append(place[:-1])
        for name, why in found.odd.items():
            left_out[place + name] = why
        for name in found.folders:
            inner = place + name
            if inner == apart:
                left_out[inner] = "the snapshots themselves"
            elif inner.count("/") >= _DEEPEST:
                left_out[inner] = f"more than {_DEEPEST} folders deep"
            elif name != found.git and ignored(inner):
                left_out[inner] = "ignored"
            elif name != found.git:
                waiting.append(inner + "/")
    return folders, left_out


def is_gits(name: str) -> bool:
    """Whether git keeps a repository's own under this name, on some system."""
    return len(name) == 4 and name.lower() == ".git"


def patterns_above(folder: Path) -> tuple[Path | None, bytes, bytes]:
    """The top of the repository that a folder (resolved) is in, the patterns of its own list
    (``info/exclude``), and all that hold in the folder from above, as if they were for it.

    A pattern is taken over where it names no folder, or begins with the folder's own path.
    """
    top = next((one for one in (folder, *folder.parents) if (one / ".git").exists()), None)
    if top is None:
        return None, b"", b""
    own = _read(_git_folder(top) / "info" / "exclude")
    lines = list(_moved(own, folder.relative_to(top)))
    for place in reversed(folder.parents):
        if place.is_relative_to(top):
            lines += _moved(_read(place / ".gitignore"), folder.relative_to(place))
    return top, own, b"".join(lines)


def pattern_for(path: str) -> bytes:
    """A pattern that matches this folder alone."""
    return b"/" + re.sub(rb"([\\*?\[! #])", rb"\\\1", os.fsencode(path)) + b"/\n"


def _list(path: str, listings: Listings) -> Listing:
    status = os.lstat(path)
    stamp = status.st_ino, status.st_mtime_ns, status.st_ctime_ns
    known = listings.get(path)
    if known and known[0] == stamp:
        return known[1]
    found = Listing()
    with os.scandir(path) as entries:
        for entry in entries:
            found.count += 1
            name = entry.name
            if is_gits(name):
                found.git = name
            if entry.is_dir(follow_symlinks=False):
                found.folders.append(name)
            elif name.startswith(RESTORING):
                found.odd[name] = "left behind by a rewind that was cut off"
            elif not entry.is_file(follow_symlinks=False) and not entry.is_symlink():
                kind = stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)
                found.odd[name] = _OTHERS.get(kind, "no file")
    listings.pop(path, None)
    if time.time_ns() - max(stamp[1:]) > _COARSE:
        listings[path] = stamp, found
    return found


def _moved(content: bytes, below: Path) -> Iterator[bytes]:
    """The patterns of a folder as they hold in one ``below`` it."""
    place = os.fsencode(below.as_posix()) + b"/"
    for line in content.removeprefix(b"\xef\xbb\xbf").splitlines():
        negated, pattern = (b"!", line[1:]) if line.startswith(b"!") else (b"", line)
        if place == b"./" or b"/" not in pattern.rstrip(b"/ ") or pattern.startswith(b"**/"):
            yield line + b"\n"
        elif pattern.removeprefix(b"/").startswith(place):
            yield negated + b"/" + pattern.removeprefix(b"/").removeprefix(place) + b"\n"


def _git_folder(top: Path) -> Path:
    """Where the repository keeps its own; a worktree's and a submodule's ``.git`` is a file."""
    own = top / ".git"
    if own.is_file():
        own = top / os.fsdecode(_read(own).removeprefix(b"gitdir:").strip())
        if common := _read(own / "commondir").strip():
            own /= os.fsdecode(common)
    return own


def _read(path: Path) -> bytes:
    """The file; empty where it is none, a link (which git does not follow), or cannot be read."""
    try:
        return path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    except (OSError, ValueError):
        return b""
