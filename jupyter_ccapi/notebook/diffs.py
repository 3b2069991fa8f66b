"""A unified diff as a person reads it, in HTML and as text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .looks import ADDED, BAD, GOOD, MUTED, REMOVED, block, safe, span
from .trimming import cut, kept, omission, visible

Kind = Literal["file", "hunk", "context", "added", "removed", "note"]

_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@ ?(.*)")
_COLOURS: dict[Kind, str] = {"file": "1", "hunk": "36", "added": "32", "removed": "31"}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a diff; `text` is without its sign. Of a file it is the name, of a hunk where it
    begins, empty for the top of a file.
    """

    kind: Kind
    text: str
    raw: str


def counts(diff: str) -> tuple[int, int]:
    """How many lines a diff adds, and how many it removes."""
    kinds = [line.kind for line in read(diff)]
    return kinds.count("added"), kinds.count("removed")


def html(diff: str, *, names: bool = True) -> str:
    """A diff in colours, each file under its name; without `names` where that is said already.

    What is long is left out in the middle, and that is said.
    """
    shown = "".join(_html(line) for line in _trimmed(diff) if names or line.kind != "file")
    # As wide as its longest line, so that the colour of each goes as far.
    return block(f'<div style="display: inline-block; min-width: 100%">{shown}</div>', wrap=False)


def text(diff: str, *, colours: bool = False) -> str:
    """A diff as the plain unified diff that it is, trimmed as in `html`, with `colours` those of a
    terminal.
    """
    return "\n".join(_coloured(line) if colours else line.raw for line in _trimmed(diff))


def signs(diff: str) -> str:
    """How many lines a diff adds and removes, as text: `+3 -1`."""
    added, removed = counts(diff)
    return " ".join([f"+{added:,}"] * (added > 0) + [f"-{removed:,}"] * (removed > 0))


def signs_html(diff: str) -> str:
    """The same in colours."""
    return " ".join(span(GOOD if sign[0] == "+" else BAD, sign) for sign in signs(diff).split())


def read(diff: str) -> Iterator[Line]:
    """Read a unified diff, of one file or of several (as git writes it)."""
    old = new = 0  # lines of the hunk that are still to come
    file = Line("file", "", "")
    for raw in map(cut, map(visible, diff.split("\n"))):
        if hunk := _HUNK.match(raw):
            old, new = int(hunk[1] or 1), int(hunk[3] or 1)
            where = f"line {hunk[2]}" if int(hunk[2]) > 1 else ""
            yield Line("hunk", " · ".join(part for part in (where, hunk[4]) if part), raw)
        elif old > 0 or new > 0 or raw.startswith("\\"):
            line = _in_hunk(raw)
            old -= line.kind in ("context", "removed")
            new -= line.kind in ("context", "added")
            yield line
        elif raw.startswith("--- "):
            file = Line("file", _name(raw), raw)
        elif raw.startswith("+++ "):
            name = _name(raw) if not raw.startswith("+++ /dev/null") else file.text
            yield Line("file", name, f"{file.raw}\n{raw}")
        elif raw and not raw.startswith(("diff --git ", "index ")):
            yield Line("note", raw, raw)


def _in_hunk(raw: str) -> Line:
    match raw[:1]:
        case "+":
            return Line("added", raw[1:], raw)
        case "-":
            return Line("removed", raw[1:], raw)
        case "\\":
            return Line("note", raw[1:].strip(), raw)
        case _:  # an empty line of context may have lost its blank
            return Line("context", raw[1:], raw)


def _name(raw: str) -> str:
    """The file's name in a header: without git's `a/`, and the time that `diff` adds."""
    return re.sub(r"^(a|b)/", "", raw[4:].split("\t")[0])


def _trimmed(diff: str) -> list[Line]:
    lines = list(read(diff))
    head, tail = kept([line.raw for line in lines])
    if head + tail == len(lines):
        return lines
    note = omission(len(lines) - head - tail)
    return [*lines[:head], Line("note", note, note), *lines[len(lines) - tail :]]


def _html(line: Line) -> str:
    match line.kind:
        case "added":
            return f'<div style="{ADDED}">{_sign(GOOD, "+")}{safe(line.text)}</div>'
        case "removed":
            return f'<div style="{REMOVED}">{_sign(BAD, "-")}{safe(line.text)}</div>'
        case "context":
            return f"<div>{_sign(MUTED, ' ')}{safe(line.text)}</div>"
        case "file":
            return f'<div style="font-weight: 600">{safe(line.text)}</div>'
        case "hunk" if not line.text:
            return ""
        case "hunk" | "note":
            return f'<div style="{MUTED}">⋯ {safe(line.text)}</div>'


def _sign(style: str, sign: str) -> str:
    """The sign in a column of its own: what is copied is the diff as it was."""
    return span(f"display: inline-block; width: 18px; {style}", sign)


def _coloured(line: Line) -> str:
    colour = _COLOURS.get(line.kind)
    if colour is None:
        return line.raw
    return "\n".join(f"\x1b[{colour}m{raw}\x1b[0m" for raw in line.raw.split("\n"))
