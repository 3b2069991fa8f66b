"""Catch what code puts out while it runs: text, displays, values and pictures, for the model."""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import TextIOBase
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.interactiveshell import InteractiveShell

#: A picture as it was displayed: base64 text, or the bytes themselves.
Picture = tuple[str, str | bytes]

ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
# What a carriage return, as of a progress bar, has overwritten.
_OVERWRITTEN = re.compile(r"[^\n]*\r(?=[^\n])")
# Of text without an end both ends are kept.
_KEPT = 50_000
_MOST_PARTS = 2_000
_PICTURES = ("image/png", "image/jpeg")
_TEXTS = ("text/markdown", "text/latex", "text/plain", "application/json", "text/html")


def cut_middle(text: str, most: int) -> str:
    """A text of at most about ``most`` characters: both ends, and between them what was cut."""
    if len(text) <= most:
        return text
    head, tail = most * 2 // 3, most // 3
    cut = len(text) - head - tail
    return f"{text[:head]}\n… [{cut:,} of {len(text):,} characters cut] …\n{text[-tail:]}"


class _Text:
    """Text of one stream; of endless text the beginning and the end."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self._head = ""
        self._chunks: list[str] = []
        self._length = self._dropped = 0

    def add(self, text: str) -> None:
        self._chunks.append(text)
        self._length += len(text)
        if self._length > 4 * _KEPT:
            joined = "".join(self._chunks)
            if not self._dropped:
                self._head, joined = joined[:_KEPT], joined[_KEPT:]
            self._dropped += len(joined) - _KEPT
            self._chunks = [joined[-_KEPT:]]
            self._length = _KEPT

    def __str__(self) -> str:
        gap = f"\n… [{self._dropped:,} characters dropped] …\n" if self._dropped else ""
        text = self._head + gap + "".join(self._chunks)
        return _OVERWRITTEN.sub("", ESCAPES.sub("", text).replace("\r\n", "\n")).strip("\r")


@dataclass(slots=True)
class _Display:
    """A display, or the value of the last expression."""

    data: Mapping[str, Any]
    name: str | None = None
    is_value: bool = False


@dataclass(slots=True)
class Captured:
    """What was put out, in its order."""

    parts: list[_Text | _Display] = field(default_factory=list)
    dropped: int = 0

    def write(self, stream: str, text: str) -> None:
        """Take text of ``stdout`` or ``stderr``."""
        last = self.parts[-1] if self.parts else None
        if not isinstance(last, _Text) or last.stream != stream:
            last = _Text(stream)
            self._add(last)
        last.add(text)

    def show(
        self, data: Mapping[str, Any], *, name: str | None = None, value: bool = False
    ) -> None:
        """Take a MIME bundle; ``name`` is its display id."""
        self._add(_Display(data, name, value))

    def update(self, data: Mapping[str, Any], name: str | None) -> bool:
        """Put a bundle where one of this display id stands; whether one does."""
        found = [part for part in self.parts if isinstance(part, _Display) and part.name == name]
        for part in found:
            part.data = data
        return bool(found)

    def clear(self) -> None:
        """Forget what was put out, as ``clear_output`` wants it."""
        self.parts.clear()

    def pictures(self) -> list[Picture]:
        """The pictures that were displayed, in their order."""
        return [found for part in self.parts if (found := _picture(part)) is not None]

    def text(self) -> str:
        """All of the text; a picture's place in it is marked with its number."""
        lines, pictures = [], 0
        for part in self.parts:
            if isinstance(part, _Text):
                said = str(part).strip("\n")
                lines.append(f"[stderr] {said}" if part.stream == "stderr" and said else said)
            elif _picture(part):
                pictures += 1
                lines.append(f"[picture {pictures}]")
            else:
                lines.append(f"Out: {_text(part.data)}" if part.is_value else _text(part.data))
        if self.dropped:
            lines.append(f"[{self.dropped:,} more outputs dropped]")
        return "\n".join(line for line in lines if line)

    def _add(self, part: "_Text | _Display") -> None:
        if len(self.parts) < _MOST_PARTS:
            self.parts.append(part)
        else:
            self.dropped += 1


def _picture(part: _Text | _Display) -> Picture | None:
    if isinstance(part, _Text):
        return None
    return next(((mime, part.data[mime]) for mime in _PICTURES if part.data.get(mime)), None)


def _text(data: Mapping[str, Any]) -> str:
    """What a model reads of a bundle without pictures."""
    plain = str(data.get("text/plain", ""))
    # Such an object's text says nothing: what it holds does.
    if plain.startswith("<IPython.core.display.") and "text/html" in data:
        return cut_middle(str(data["text/html"]), 4_000)
    for mime in _TEXTS:
        if mime in data:
            found = data[mime]
            return found if isinstance(found, str) else json.dumps(found, default=str)
    return f"[{', '.join(data)}: not shown]" if data else ""


class _Stream(TextIOBase):
    """Stands for ``sys.stdout`` or ``sys.stderr``."""

    encoding = "utf-8"

    def __init__(self, captured: Captured, name: str) -> None:
        self.name = name
        self._captured = captured

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._captured.write(self.name, text)
        return len(text)


@contextmanager
def capturing(shell: InteractiveShell, code: str) -> Iterator[Captured]:
    """Within the block what code puts out goes to the model and not to the user's cell.

    Errors that IPython itself shows are caught too. What a child process writes to the kernel's
    own file descriptors is not, except by ``!command``. ``code`` is what will run: a semicolon at
    its end silences its last value. A display that an earlier cell has shown is updated there.
    """
    captured = Captured()
    publisher, publish = shell.display_pub, shell.display_pub.publish
    silent = DisplayHook.semicolon_at_end_of_expression

    def display(
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        *args: Any,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        **more: Any,
    ) -> None:
        name = (transient or {}).get("display_id")
        if not update:
            captured.show(data, name=name)
        elif not captured.update(data, name):
            publish(data, metadata, *args, transient=transient, update=True, **more)

    def value(result: object) -> None:
        if result is not None and not _ends_silent(silent, code):
            data, _ = shell.display_formatter.format(result)  # type: ignore[union-attr]
            captured.show(data, value=True)

    def error(kind: object, value: object, lines: list[str]) -> None:
        captured.write("stderr", shell.InteractiveTB.stb2text(lines) + "\n")

    with ExitStack() as stack:
        for owner, name, stand_in in (
            (sys, "stdout", _Stream(captured, "stdout")),
            (sys, "stderr", _Stream(captured, "stderr")),
            (sys, "displayhook", value),
            # Not another publisher: a message that comes meanwhile sets its parent on this one.
            (publisher, "publish", display),
            (publisher, "clear_output", lambda wait=False: captured.clear()),
            (shell, "_showtraceback", error),
            # A terminal's would hand the command the terminal itself.
            (shell, "system", shell.system_piped),
        ):
            stack.enter_context(_replaced(owner, name, stand_in))
        yield captured


def _ends_silent(test: Callable[[str], bool], code: str) -> bool:
    try:
        return test(code)
    except Exception:  # the tokenizer knows no magics
        return False


@contextmanager
def _replaced(owner: object, name: str, stand_in: object) -> Iterator[None]:
    """Within the block an attribute is another one."""
    before, own = getattr(owner, name), name in vars(owner)
    setattr(owner, name, stand_in)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)
