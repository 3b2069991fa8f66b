"""Pieces of an answer, which may come side by side, become parts that come one after another.

The Responses and the Messages API tell an answer as a list of parts: a text, some thinking, a call.
The next begins when the one before it has ended; clients count on that.
"""

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from .answer import CallArguments, CallBegun, CallDone, Ended, Piece, Said, Thought


@dataclass(slots=True, eq=False)
class Part:
    """A part of the answer: ``text`` is what was told of it, a call's is JSON. ``cut`` says that
    the answer ended in the midst of it.
    """

    index: int
    kind: Literal["text", "thinking", "call"]
    call: CallBegun | None = None
    text: str = ""
    cut: bool = False
    _whole: bool = False
    _opened: bool = False
    _waiting: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Step:
    """A part is opened, told on by ``text``, or closed."""

    kind: Literal["open", "grow", "close"]
    part: Part
    text: str = ""


class PartSequence:
    """Puts pieces in order: what belongs to a later part waits until those before it are whole."""

    def __init__(self) -> None:
        self._parts: deque[Part] = deque()
        self._calls: dict[int, Part] = {}
        self._count = 0

    def feed(self, piece: Piece) -> Iterator[Step]:
        """What is to be told now."""
        match piece:
            case Said(text=text) if text:
                self._running("text")._waiting.append(text)
            case Thought(text=text) if text:
                self._running("thinking")._waiting.append(text)
            case CallBegun(index=index):
                self._end_words()
                self._calls[index] = self._add("call", piece)
            case CallArguments(index=index, fragment=fragment):
                self._calls[index]._waiting.append(fragment)
            case CallDone(index=index):
                self._calls[index]._whole = True
            case Ended(finish=finish):
                for part in self._parts:
                    part.cut = finish == "length" and not part._whole
                    part._whole = True
        yield from self._flow()

    def _running(self, kind: Literal["text", "thinking"]) -> Part:
        if self._parts and self._parts[-1].kind == kind:
            return self._parts[-1]
        self._end_words()
        return self._add(kind)

    def _add(
        self, kind: Literal["text", "thinking", "call"], call: CallBegun | None = None
    ) -> Part:
        part = Part(self._count, kind, call)
        self._count += 1
        self._parts.append(part)
        return part

    def _end_words(self) -> None:
        """Text and thinking end where something else begins; a call says itself when it ends."""
        if self._parts and self._parts[-1].kind != "call":
            self._parts[-1]._whole = True

    def _flow(self) -> Iterator[Step]:
        while self._parts:
            part = self._parts[0]
            if not part._opened:
                part._opened = True
                yield Step("open", part)
            for text in part._waiting:
                part.text += text
                yield Step("grow", part, text)
            part._waiting.clear()
            if not part._whole and not (len(self._parts) > 1 and _is_json(part.text)):
                return
            self._parts.popleft()
            yield Step("close", part)


def _is_json(text: str) -> bool:
    """Whether a call's arguments are complete, so that nothing of them can come any more."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
