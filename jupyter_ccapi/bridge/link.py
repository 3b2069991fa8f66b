"""Events that arrive once and in order over a socket that may be cut, and commands that are done
once. Pure bookkeeping: it knows no socket.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping
from math import isfinite
from typing import Any

#: The longest frame that either side takes, in characters.
MAX_FRAME = 64 * 1024 * 1024
#: So much of what has not arrived yet is kept, in characters.
MAX_OUTBOX = 64 * 1024 * 1024

# One event is shortened beyond this, so that its frame is always taken; and to how much of a text.
_MAX_EVENT = MAX_FRAME // 2
_SHORT = 10_000
# So many commands are known to have been done, and so much of the answers to them.
_KNOWN = 1000
_MAX_ANSWERS = 8 * 1024 * 1024
_LOST = "It was done, but the answer got lost with the connection: ask again."


class Outbox:
    """The events of one run, numbered from 1, until the other side has them.

    Past ``limit`` (characters) stream events go: first those of messages that have since been told
    whole, by an ``assistant`` event with the same parent, then the oldest. Nothing else ever does.
    """

    def __init__(self, limit: int = MAX_OUTBOX) -> None:
        self.sent = 0
        self.size = 0
        self._limit = limit
        self._frames: OrderedDict[int, str] = OrderedDict()
        # The stream events among them, each with its parent while its message is not told whole.
        self._open: OrderedDict[int, Any] = OrderedDict()
        self._folded: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, event: Mapping[str, Any]) -> int:
        """Add an event; returns its number."""
        self.sent += 1
        kind, parent = event.get("type"), event.get("parent_tool_use_id")
        if kind == "assistant":
            for number in [n for n, theirs in self._open.items() if theirs == parent]:
                del self._open[number]
                self._folded[number] = None
        elif kind == "stream_event":
            self._open[self.sent] = parent
        frame = _frame(self.sent, event)
        self._frames[self.sent] = frame
        self.size += len(frame)
        while self.size > self._limit and (self._folded or self._open):
            self._drop(next(iter(self._folded or self._open)))
        return self.sent

    def after(self, number: int) -> tuple[int, str] | None:
        """The first event after this number that is still there: its number and its frame."""
        if number >= self.sent or not self._frames:
            return None
        for candidate in range(max(number + 1, next(iter(self._frames))), self.sent + 1):
            frame = self._frames.get(candidate)
            if frame is not None:
                return candidate, frame
        return None

    def acked(self, number: int) -> None:
        """The other side has everything up to this number."""
        while self._frames and (first := next(iter(self._frames))) <= number:
            self._drop(first)

    def _drop(self, number: int) -> None:
        self.size -= len(self._frames.pop(number))
        self._open.pop(number, None)
        self._folded.pop(number, None)


class Inbox:
    """What has arrived of one run."""

    def __init__(self, received: int = 0) -> None:
        self.received = received

    def take(self, number: int) -> bool:
        """Whether this one is new. Numbers may be left out: that is what was let go."""
        if number <= self.received:
            return False
        self.received = number
        return True


class Done:
    """The commands that were taken up, by their ids, with the answers to them: a command that comes
    again, since its answer may have been lost, is not done again.
    """

    def __init__(self, known: int = _KNOWN, limit: int = _MAX_ANSWERS) -> None:
        self._known = known
        self._limit = limit
        self._size = 0
        # None: it is still being done.
        self._answers: OrderedDict[str, str | None] = OrderedDict()

    def begin(self, id: str) -> bool:
        """Whether this command is new; it counts as taken up from now on."""
        if id in self._answers:
            return False
        self._answers[id] = None
        if len(self._answers) > self._known:
            # One that is still being done is never forgotten, or it would be done twice.
            oldest = next((one for one, said in self._answers.items() if said is not None), None)
            if oldest is not None:
                self._size -= len(self._answers.pop(oldest) or "")
        return True

    def end(self, id: str, answer: str) -> None:
        """Keep the answer to a command."""
        self._answers[id] = answer
        self._size += len(answer)
        for one, said in self._answers.items():
            if self._size <= self._limit:
                break
            if said is not None and one != id:
                short = reply(one, error=_LOST)
                if len(short) < len(said):
                    self._answers[one] = short
                    self._size += len(short) - len(said)

    def answer(self, id: str) -> str | None:
        """The answer to a command, None while there is none."""
        return self._answers.get(id)


def reply(id: str, *, answer: Mapping[str, Any] | None = None, error: str | None = None) -> str:
    """The frame that answers a command."""
    if error is not None:
        return encode({"type": "reply", "id": id, "ok": False, "error": error})
    said = {"type": "reply", "id": id, "ok": True}
    frame = encode(said if answer is None else {**said, "answer": dict(answer)})
    if len(frame) > _MAX_EVENT:
        return reply(id, error="The answer is too long to be sent.")
    return frame


def encode(frame: Mapping[str, Any]) -> str:
    """A frame as it is sent: JSON, all ASCII. Raises ``ValueError`` for numbers that JSON has not:
    NaN and infinity.
    """
    return json.dumps(frame, separators=(",", ":"), allow_nan=False)


def decode(text: str | bytes, *, most: int = MAX_FRAME) -> dict[str, Any]:
    """A frame as it came. Raises ``ValueError`` with a sentence for what is none."""
    if not isinstance(text, str):
        raise ValueError("A frame is text, not bytes.")
    if len(text) > most:
        raise ValueError(f"A frame is longer than {most >> 10:,} KB.")
    try:
        frame = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        raise ValueError("A frame is not JSON.") from None
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise ValueError("A frame is not a JSON object with a type.")
    return frame


def _finite(text: str) -> float:
    if not isfinite(number := float(text)):
        raise ValueError("JSON has finite numbers only")
    return number


def _frame(number: int, event: Mapping[str, Any]) -> str:
    try:
        frame = encode({"type": "event", "n": number, "event": dict(event)})
    except ValueError:
        # The other side would hang up, and each time again when it is sent again.
        event = _without_odd_numbers(dict(event))
        frame = encode({"type": "event", "n": number, "event": event})
    if len(frame) <= _MAX_EVENT:
        return frame
    return encode({"type": "event", "n": number, "event": _shortened(dict(event))})


def _without_odd_numbers(value: Any) -> Any:
    """This with null for NaN and infinity, as JavaScript has it."""
    if isinstance(value, float) and not isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _without_odd_numbers(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_odd_numbers(one) for one in value]
    return value


def _shortened(value: Any) -> Any:
    """This with long texts cut: a frame that is not taken would cut the connection each time."""
    if isinstance(value, str) and len(value) > _SHORT:
        return f"{value[:_SHORT]}… ({len(value) - _SHORT:,} more characters were left out)"
    if isinstance(value, Mapping):
        return {key: _shortened(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(one) for one in value]
    return value
