"""Markdown while it streams: what is half written is closed for drawing, so that nothing flickers.

Without it a line that will be a list makes a heading of the paragraph above it, bold text stands
between asterisks until its end has come, and a link shows its address.
"""

import re

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_MARKS_ONLY = re.compile(r"\s*([-=*_+#>`~]+|\d+[.)]?)\s*")
_HALF_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*$")
_HALF_BOLD = re.compile(r"\*\*(?!\s)(?:(?!\*\*).)*$")


def drawable(text: str) -> str:
    """Markdown that is still being written, as it is best drawn; never to be kept.

    A code block that is open is closed; of the last line what is only begun (the marks of a list,
    a link's address) is left out, and what is open (bold, code) is closed.
    """
    lines = text.split("\n")
    fence = _open_fence(lines[:-1])
    *before, last = lines
    if fence:
        ends = not last.strip().strip(fence[0])  # with nothing on it yet, or with its end begun
        return "\n".join([*before, fence] if ends else [*lines, fence])
    if begins := _FENCE.match(last):
        return "\n".join([*lines, begins[1]])
    if _MARKS_ONLY.fullmatch(last):
        return "\n".join(before)
    return "\n".join([*before, _closed(last)])


def _open_fence(lines: list[str]) -> str:
    """The fence of the code block that these lines leave open; empty for none."""
    fence = ""
    for line in lines:
        found = _FENCE.match(line)
        if found is None:
            continue
        if not fence:
            fence = found[1]
        elif found[1].startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
    return fence


def _closed(line: str) -> str:
    """A line of prose, its last open mark closed."""
    if line.count("`") % 2:
        return line.removesuffix("`") if line.endswith("`") else f"{line}`"
    line = _HALF_LINK.sub(r"\1", line)
    if line.count("**") % 2 and _HALF_BOLD.search(line):
        start = line.rstrip("* ")
        return f"{start}**" if start.count("**") % 2 else start
    return line
