"""Text of others, made fit to be shown: without control characters, and not endless."""

import re

LINES = 200
CHARACTERS = 20_000
_LINE = 2_000

# CSI and OSC sequences, and the two-character ones (ECMA-48, sections 5.3 to 5.6).
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]")
_TURNING = re.compile(r"[\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Output as it stands on a terminal in the end: of a progress bar its last state."""
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return visible("\n".join(lines))


def visible(text: str) -> str:
    """Text without a terminal's colours and other control characters.

    Those that turn the direction of writing, with which a command can read as another one, are
    spelled out.
    """
    text = _CONTROLS.sub("", _ESCAPES.sub("", text))
    return _TURNING.sub(lambda found: f"<U+{ord(found[0]):04X}>", text)


def trimmed(text: str) -> str:
    """Text of at most about `LINES` lines and `CHARACTERS` characters: its beginning and its end,
    and between them how much was left out.
    """
    lines = [cut(line) for line in text.rstrip("\n").split("\n")]
    head, tail = kept(lines)
    left_out = len(lines) - head - tail
    if not left_out:
        return "\n".join(lines)
    return "\n".join([*lines[:head], omission(left_out), *lines[len(lines) - tail :]])


def cut(line: str) -> str:
    """A line without its middle, where it is longer than anybody reads."""
    if len(line) <= _LINE:
        return line
    more = len(line) - _LINE
    half = _LINE // 2
    return f"{line[:half]} … {more:,} characters left out … {line[-half:]}"


def kept(lines: list[str]) -> tuple[int, int]:
    """How many lines to keep of the beginning, and how many of the end."""
    if len(lines) <= LINES and sum(map(len, lines)) <= CHARACTERS:
        return len(lines), 0
    head = _fitting(lines)
    tail = _fitting(lines[:head:-1])
    return head, tail


def omission(lines: int) -> str:
    """The line that stands for those left out."""
    return f"… {lines:,} {'line' if lines == 1 else 'lines'} left out …"


def shortened(text: str, width: int) -> str:
    """Text on one line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def _fitting(lines: list[str]) -> int:
    """How many of the first lines make up one half of what is shown."""
    room = CHARACTERS // 2
    for number, line in enumerate(lines[: LINES // 2]):
        room -= len(line)
        if room < 0:
            return number
    return min(len(lines), LINES // 2)
