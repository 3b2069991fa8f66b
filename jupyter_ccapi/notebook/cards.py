"""A tool call as a card: one line that says what is done and how it goes, and unfolds to all of it.

Pure: a `Card` is what is known of a call, and each event of the call makes the next `Card` of it.
The line is as high while the tool runs as when it is done.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from jupyter_ccapi.claude import PermissionRequest, PermissionResolved, ToolCall, ToolResult

from . import card_input, card_output, diffs
from .looks import BAD, CALLING, LINE, MUTED, Bundle, block, folded, note, safe, span
from .trimming import shortened, trimmed, visible

Status = Literal["running", "waiting", "ok", "failed", "denied", "stopped"]

_MARKS = {"completed": "☑", "in_progress": "◐"}
_STYLES: dict[Status, str] = {"waiting": CALLING, "failed": BAD, "denied": BAD}
_WORDS: dict[Status, str] = {"running": "running…", "waiting": "waiting for your answer"}

# A failure says in its first lines what happened, also where nothing unfolds.
_FIRST_LINES = 3
_ROOM_FOR_END = 24
_ONE_LINE = "white-space: nowrap; overflow: hidden; text-overflow: ellipsis"
_NAME = "min-width: 74px; font-weight: 600; white-space: nowrap"
_ABOUT = (
    f"min-width: 30px; padding: 0; font-size: 12px; line-height: 22px; {_ONE_LINE}; "
    "background-color: transparent"
)
_HOW = f"flex: 0 0 auto; margin-left: auto; padding-left: 8px; max-width: 50%; {_ONE_LINE}"


@dataclass(frozen=True, slots=True)
class Card:
    """A call, and what has come of it: made by `begun`, then by one event from another.

    `diff` is what an edit changes, as far as it is known; `reason` is why the call was denied,
    `seconds` how long it ran. Files are named as seen from `folder`.
    """

    call: ToolCall
    folder: Path | None = None
    status: Status = "running"
    reason: str = ""
    diff: str = ""
    content: card_output.Content = None
    seconds: float = 0.0

    @classmethod
    def begun(cls, call: ToolCall, folder: Path | None = None) -> "Card":
        """The card of a call that runs."""
        return cls(call, folder, diff=card_input.edit(call.name, call.input, folder))

    @property
    def open(self) -> bool:
        """Whether more is to come of it."""
        return self.status in ("running", "waiting")

    @property
    def change(self) -> str:
        """The diff of what it changes; empty where it has turned out to change nothing."""
        return self.diff if self.open or self.status == "ok" else ""

    def asked(self, request: PermissionRequest) -> "Card":
        """A person is asked whether it may run."""
        return replace(self, status="waiting", diff=request.diff or self.diff)

    def resolved(self, answer: PermissionResolved) -> "Card":
        """The person has answered."""
        if answer.behavior == "allow":
            return replace(self, status="running")
        return replace(self, status="denied", reason=answer.message)

    def answered(self, result: ToolResult, seconds: float) -> "Card":
        """The tool has answered. What was denied has only told the model so."""
        if self.status == "denied":
            return self
        return replace(
            self,
            status="failed" if result.is_error else "ok",
            diff=result.diff or self.diff,
            content=result.content,
            seconds=seconds,
        )

    def refused(self) -> "Card":
        """It turns out to have been denied by a rule, with nobody asked."""
        return self if self.status == "denied" else replace(self, status="denied")

    def ended(self) -> "Card":
        """The turn is over: nothing more comes."""
        return replace(self, status="stopped") if self.open else self


def bundle(card: Card) -> Bundle:
    """A card as a notebook shows it."""
    return {"text/html": folded(_summary(card), _body(card)), "text/plain": text(card)}


def line(card: Card, width: int = 100) -> str:
    """A card on one line of text: `● Bash  ls -l  ok 0.3 s`."""
    return f"{line_start(card, width)}  {line_end(card)}"


def line_start(card: Card, width: int = 100) -> str:
    """The line up to how it goes, which may not be known yet: `● Bash  ls -l`."""
    start = f"● {_name(card)}"
    room = max(width - len(start) - _ROOM_FOR_END, 20)
    about = shortened(card_input.headline(card.call.input, card.folder), room)
    return f"{start}  {about}" if about else start


def line_end(card: Card) -> str:
    """The rest of the line: `+3 -1  ok 0.1 s`."""
    return "  ".join(part for part in (diffs.signs(card.change), _status(card)) if part)


def text(card: Card, width: int = 100, *, colours: bool = False) -> str:
    """A card where nothing unfolds: its line; an edit's diff, what is to do, why it failed."""
    return "\n".join(part for part in (line(card, width), details(card, colours=colours)) if part)


def details(card: Card, *, colours: bool = False) -> str:
    """What a card says below its line where nothing unfolds, indented."""
    told = ""
    if card.status == "failed" or (card.status == "denied" and not card.reason):
        lines = [one for one in card_output.text(card.content).split("\n") if one.strip()]
        told = "\n".join(shortened(one, 200) for one in lines[:_FIRST_LINES])
    elif card.status == "ok" and card.diff:
        told = diffs.text(card.diff, colours=colours)
    elif items := card_input.todos(card.call.input):
        told = "\n".join(f"{_MARKS.get(status, '☐')} {item}" for status, item in items)
    return "\n".join(f"    {one}" for one in told.split("\n")) if told else ""


def _name(card: Card) -> str:
    return shortened(visible(card_input.plain_name(card.call.name)), 60)


def _status(card: Card) -> str:
    """How it goes, in words: `ok 0.3 s`."""
    if card.status == "denied" and card.reason:
        return f"denied: {shortened(visible(card.reason), 80)}"
    words = _WORDS.get(card.status, card.status)
    timed = card.status in ("ok", "failed") and card.seconds >= 0.05
    return f"{words} {card.seconds:.1f} s" if timed else words


def _summary(card: Card) -> str:
    """The line: the name, what it is about, and at the right how it goes."""
    about = safe(card_input.headline(card.call.input, card.folder))
    counted = diffs.signs_html(card.change)
    style = _STYLES.get(card.status, MUTED)
    return (
        f'<div style="display: flex; gap: 8px"><span style="{_NAME}">{safe(_name(card))}</span>'
        f'<code style="{_ABOUT}">{about}</code><span>{counted}</span>'
        f'<span style="{_HOW}; {style}">{safe(_status(card))}</span></div>'
    )


def _body(card: Card) -> str:
    """What unfolds: what was asked for, and what came of it."""
    parts = [_asked_for(card)]
    if card.reason:
        parts.append(note(f"Denied: {visible(card.reason)}"))
    for picture in card_output.pictures(card.content):
        if picture.data:
            source = f"data:{picture.kind};base64,{picture.data}"
            parts.append(
                f'<img src="{source}" alt="{safe(picture.label)}" '
                'style="max-width: 100%; max-height: 420px; margin: 4px 0">'
            )
        else:
            parts.append(note(picture.label))
    # Of an edit that was made the diff says it all, as the list does of things to do.
    told = card.status == "ok" and (card.diff or card_input.todos(card.call.input))
    said = "" if told else card_output.text(card.content)
    if said.strip():
        parts.append(block(safe(trimmed(said))))
    return "".join(parts)


def _asked_for(card: Card) -> str:
    given = card.call.input
    if items := card_input.todos(given):
        return "".join(_todo(status, item) for status, item in items)
    if card.diff:
        return diffs.html(card.diff, names=False)
    command = given.get("command")
    if card.call.name == "Bash" and isinstance(command, str):
        about = given.get("description")
        intro = note(shortened(visible(about), 300)) if isinstance(about, str) and about else ""
        return intro + block(span(MUTED, "$ ") + safe(trimmed(visible(command))))
    shown = card_input.fields(given)
    return block(safe(trimmed(shown))) if shown else ""


def _todo(status: str, item: str) -> str:
    style = {"completed": MUTED, "in_progress": "font-weight: 600"}.get(status, "")
    mark = _MARKS.get(status, "☐")
    return f'<div style="{LINE}; {style}">{mark} {safe(item)}</div>'
