"""Which files a folder's ``.gitignore`` files leave out, told as git tells it (gitignore(5)),
without git.

Patterns match bytes: ``?`` is one byte of a name, as in git. Case counts on every system.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from os import fsencode
from pathlib import Path
from typing import NamedTuple

# Git reads no more of one either.
_MOST_BYTES = 1024 * 1024

# What a bracket may name, `[[:alpha:]]`, in ASCII.
_CLASSES = {
    b"alnum": rb"[0-9A-Za-z]",
    b"alpha": rb"[A-Za-z]",
    b"blank": rb"[ \t]",
    b"cntrl": rb"[\x00-\x1f\x7f]",
    b"digit": rb"[0-9]",
    b"graph": rb"[\x21-\x7e]",
    b"lower": rb"[a-z]",
    b"print": rb"[\x20-\x7e]",
    b"punct": rb"[!-/:-@\[-`{-~]",
    b"space": rb"[ \t-\r]",
    b"upper": rb"[A-Z]",
    b"xdigit": rb"[0-9A-Fa-f]",
}
_MEMBERS = {
    name: {byte for byte in range(256) if re.match(one, bytes([byte]))}
    for name, one in _CLASSES.items()
}


class Patterns:
    """The patterns of one file; the last one that matches decides."""

    def __init__(self, content: bytes) -> None:
        rules = [rule for line in _lines(content) if (rule := _rule(line))]
        rules.reverse()
        self._negated = [rule.negated for rule in rules]
        self._any = re.compile(b"|".join(b"(%s)" % rule.regex for rule in rules), re.DOTALL)

    def verdict(self, path: bytes, *, is_folder: bool) -> bool | None:
        """Whether they ignore a path below the file's folder; None where no pattern matches."""
        if not self._negated:
            return None
        match = self._any.fullmatch(path + b"/" if is_folder else path)
        if match is None or match.lastindex is None:
            return None
        return not self._negated[match.lastindex - 1]


class Rules:
    """All patterns that hold in one folder: its own and, behind them, those of the folders above.

    ``place`` is the folder's path below the topmost one, with a slash behind it, or empty.
    """

    def __init__(self, place: str, source: Path | None, above: "Rules | None" = None) -> None:
        self.place = place
        self._source = source
        self._above = above
        self._patterns: Patterns | None = None

    def below(self, name: str, source: Path | None) -> "Rules":
        """Those of a folder in this one, which has a ``.gitignore`` (``source``), or has none."""
        return Rules(f"{self.place}{name}/", source, self)

    def ignores(self, name: str, *, is_folder: bool) -> bool:
        """Whether they leave out what has this name in the folder. That nothing is taken up
        inside of an ignored folder is for the caller to see to.
        """
        path = self.place + name
        rules: Rules | None = self
        while rules is not None:
            verdict = rules._own(path, is_folder)
            if verdict is not None:
                return verdict
            rules = rules._above
        return False

    def _own(self, path: str, is_folder: bool) -> bool | None:
        if self._source is None:
            return None
        if self._patterns is None:
            self._patterns = _compiled(_read(self._source))
        return self._patterns.verdict(fsencode(path[len(self.place) :]), is_folder=is_folder)


def rules_for(folder: Path) -> Rules:
    """The rules at the top of a folder (resolved), its own ``.gitignore`` included.

    Where it lies in a repository, the repository's ``info/exclude`` and the ``.gitignore`` files
    above the folder hold too; unless they ignore the folder itself, which then would be empty.
    """
    top = next((one for one in (folder, *folder.parents) if (one / ".git").exists()), None)
    if top is None:
        return Rules("", folder / ".gitignore")
    rules = Rules("", top / ".gitignore", Rules("", _git_folder(top) / "info" / "exclude"))
    for name in folder.relative_to(top).parts:
        if rules.ignores(name, is_folder=True):
            return Rules("", folder / ".gitignore")
        rules = rules.below(name, top / rules.place / name / ".gitignore")
    return rules


def _git_folder(top: Path) -> Path:
    """Where the repository keeps its own; a worktree's and a submodule's ``.git`` is a file."""
    own = top / ".git"
    if own.is_file():
        text = _read(own).removeprefix(b"gitdir:").strip()
        own = top / text.decode(errors="surrogateescape")
        common = _read(own / "commondir").strip()
        if common:
            own = own / common.decode(errors="surrogateescape")
    return own


def _read(path: Path) -> bytes:
    """The file; empty where it is none, a link (which git does not follow), or cannot be read."""
    try:
        if path.is_symlink() or not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except (OSError, ValueError):
        return b""


@lru_cache(maxsize=256)
def _compiled(content: bytes) -> Patterns:
    return Patterns(content)


class _Rule(NamedTuple):
    negated: bool
    regex: bytes


def _lines(content: bytes) -> Iterator[bytes]:
    for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if line and not line.startswith(b"#"):
            yield _trimmed(line.removesuffix(b"\r"))


def _trimmed(line: bytes) -> bytes:
    """Without the spaces at its end that no backslash quotes."""
    kept = position = 0
    while position < len(line):
        if line[position : position + 1] == b"\\":
            position += 1
            kept = position + 1
        elif line[position : position + 1] != b" ":
            kept = position + 1
        position += 1
    return line[:kept]


def _rule(line: bytes) -> _Rule | None:
    """A line as a regular expression for whole paths, folders with a slash at their end; None
    where it can match nothing.
    """
    negated = line.startswith(b"!")
    pattern = line[1:] if negated else line
    end = b"/?"
    if pattern.endswith(b"/"):
        pattern, end = pattern[:-1], b"/"
    start = b""
    if b"/" not in pattern:
        start = b"(?:.*/)?"
    pattern = pattern.removeprefix(b"/")
    body = _translated(pattern, floating=bool(start)) if pattern else None
    return _Rule(negated, start + body + end) if body is not None else None


def _translated(pattern: bytes, *, floating: bool) -> bytes | None:
    """The body of a pattern (git's wildmatch.c); a floating one matches a name alone."""
    made: list[bytes] = []
    position, literal = 0, True
    while position < len(pattern):
        one = pattern[position : position + 1]
        # Git strips the part without wildcards first, so that `**` right behind it is at the
        # beginning of what remains.
        bounded = position == 0 or literal or pattern[position - 1 : position] == b"/"
        literal = literal and one not in (b"*", b"?", b"[", b"\\")
        if one == b"*":
            end = position
            while pattern[end : end + 1] == b"*":
                end += 1
            piece, position = _stars(pattern, position, end, deep=bounded and not floating)
        elif one == b"?":
            piece, position = b"[^/]", position + 1
        elif one == b"[":
            found = _bracket(pattern, position + 1)
            if found is None:
                return None
            piece, position = found
        elif one == b"\\":
            if position + 1 == len(pattern):
                return None
            piece, position = re.escape(pattern[position + 1 : position + 2]), position + 2
        else:
            piece, position = re.escape(one), position + 1
        made.append(piece)
    return b"".join(made)


def _stars(pattern: bytes, start: int, end: int, *, deep: bool) -> tuple[bytes, int]:
    """What one or more stars match, and where the pattern goes on."""
    following = pattern[end : end + 2]
    if end - start > 1 and deep:
        if not following:
            return b".*", end
        if following[:1] == b"/":
            return b"(?:.*/)?", end + 1
        if following == b"\\/":
            return b"(?:.*/)?", end + 2
    return b"[^/]*", end


def _bracket(pattern: bytes, position: int) -> tuple[bytes, int] | None:
    """What a bracket matches, and where the pattern goes on; None where it is not closed."""
    negated = pattern[position : position + 1] in (b"!", b"^")
    position += negated
    members: set[int] = set()
    before: int | None = None
    first = True
    while first or pattern[position : position + 1] != b"]":
        first = False
        if position >= len(pattern):
            return None
        one = pattern[position]
        following = pattern[position + 1 : position + 2]
        if pattern[position : position + 2] == b"[:":
            end = pattern.find(b"]", position + 2)
            if end < 0:
                return None
            if pattern[end - 1 : end] == b":" and end > position + 2:
                named = _MEMBERS.get(pattern[position + 2 : end - 1])
                if named is None:
                    return None
                members |= named
                before, position = None, end + 1
                continue
        if one == ord("-") and before is not None and following and following != b"]":
            position += 1
            if following == b"\\":
                position += 1
            if position >= len(pattern):
                return None
            members |= set(range(before, pattern[position] + 1))
            before, position = None, position + 1
            continue
        if one == ord("\\"):
            position += 1
            if position >= len(pattern):
                return None
            one = pattern[position]
        members.add(one)
        before, position = one, position + 1
    chosen = (set(range(256)) - members if negated else members) - {ord("/")}
    listed = b"".join(b"\\x%02x" % byte for byte in sorted(chosen))
    return (b"[%s]" % listed if listed else b"(?!)"), position + 1
