"""Where a turn is drawn: in the outputs of a notebook's cell, or on a terminal.

What is drawn is made by `rendering` and `cards`; a view keeps which display shows what.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from IPython.display import DisplayHandle, clear_output, display

from jupyter_ccapi.claude import (
    AnswerDiscarded,
    Event,
    PermissionRequest,
    PermissionResolved,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolResult,
    TurnEnd,
)

from . import cards, rendering
from .calls import Calls
from .looks import Bundle
from .terminal import TerminalView

__all__ = ["Approvals", "NotebookView", "TerminalView", "View"]

#: Shows a person a permission request.
Approvals = Callable[[PermissionRequest], None]


class View(Protocol):
    """Draws one turn. `pause` is the least time between two drawings, in seconds."""

    pause: float

    def take(self, event: Event) -> None:
        """Note an event. A part of the answer that it ends is drawn for good."""

    def draw(self) -> None:
        """Draw what has changed since it was drawn last."""

    def stopping(self) -> None:
        """Show that the stop button was heard."""

    def close(self, *, stopped: bool = False) -> None:
        """Leave what was drawn as it is to stay, after a stop or a failure."""


class NotebookView:
    """Draws in the running cell's outputs: thoughts, answer, cards and footer in a display each.

    A display is drawn anew only when it changes, so what a reader has unfolded stays so. The last
    one is where the next thing comes: while nothing is there yet, it says what is waited for.

    `approvals` shows a permission request, below the card of its call. `budget` is what the cell
    may spend, in USD. A `quiet` view draws nothing, and passes the requests on. Files are named as
    seen from `folder`.
    """

    def __init__(
        self,
        updates_per_second: float,
        *,
        approvals: Approvals | None = None,
        budget: float | None = None,
        quiet: bool = False,
        folder: Path | None = None,
    ) -> None:
        self.pause = 1 / updates_per_second
        self._approvals = approvals
        self._budget = budget
        self._quiet = quiet
        self._calls = Calls(folder)
        self._shown: dict[str, _Display] = {}
        self._display = _Display(quiet)
        self._display.show(rendering.waiting())
        self._footer: _Display | None = None
        self._nothing_yet = True
        self._waiting = True
        self._thoughts = ""
        self._thinking_since = 0.0
        self._text = ""
        self._spoken = False
        self._stopping = False
        self._ended = False

    def take(self, event: Event) -> None:
        """Note an event. A part of the answer that it ends is drawn for good."""
        match event:
            case ThinkingDelta(text=text):
                self._end_text()
                if not self._thoughts:
                    self._thinking_since = time.monotonic()
                self._thoughts += text
            case TextDelta(text=text):
                self._end_thoughts()
                # What parts it from the text before is here the display of its own.
                begins = self._spoken and not self._text
                self._text += text.removeprefix("\n\n") if begins else text
            case AnswerDiscarded():
                self._text = ""
                self._wait()
            case ToolCall() | ToolResult() | PermissionRequest() | PermissionResolved():
                self._take_call(event)
            case TurnEnd():
                self._finish(event)

    def draw(self) -> None:
        """Draw what has changed since it was drawn last."""
        if self._thoughts:
            self._show(rendering.thinking(self._thoughts))
        elif self._text:
            bundle = rendering.partial_answer(self._text)
            if bundle["text/markdown"].strip():
                self._show(bundle)
        elif not (self._calls.open or self._stopping or self._ended):
            self._wait()

    def stopping(self) -> None:
        """Show that the stop button was heard, where the footer will be."""
        self._stopping = True
        if self._waiting:
            self._display.show(rendering.stopping())
        elif not self._ended:
            # Not in the display of the answer: its last words may still come.
            self._footer = _Display(self._quiet)
            self._footer.show(rendering.stopping())

    def close(self, *, stopped: bool = False) -> None:
        """Leave what was drawn as it is to stay, after a stop or a failure."""
        if self._ended:
            return
        if stopped:
            self._finish(None)
        elif self._nothing_yet:
            # The error that follows takes the place of the line that waits.
            if not self._quiet:
                clear_output(wait=True)  # type: ignore[no-untyped-call]
        else:
            self._end_parts()
            if self._waiting:
                self._display.show(rendering.broken_off())

    def _take_call(self, event: Event) -> None:
        id = self._calls.take(event)
        if id is not None:
            if id not in self._shown:
                self._end_thoughts()
                self._end_text()
                self._shown[id] = self._display
                self._next()
            self._shown[id].show(cards.bundle(self._calls.cards[id]))
        if isinstance(event, PermissionRequest) and self._approvals is not None:
            self._end_thoughts()
            self._end_text()
            self._approvals(event)

    def _finish(self, end: TurnEnd | None) -> None:
        self._end_parts([] if end is None else end.permission_denials)
        (self._footer or self._display).show(rendering.footer(end, self._budget))
        self._ended = True

    def _end_parts(self, denials: list[Any] | None = None) -> None:
        self._end_thoughts()
        self._end_text()
        for id in self._calls.end(denials or []):
            self._shown[id].show(cards.bundle(self._calls.cards[id]))

    def _end_thoughts(self) -> None:
        if self._thoughts:
            seconds = time.monotonic() - self._thinking_since
            self._show(rendering.thought(self._thoughts, seconds))
            self._thoughts = ""
            self._next()

    def _end_text(self) -> None:
        if self._text:
            self._show(rendering.answer(self._text))
            self._text = ""
            self._spoken = True
            self._next()

    def _show(self, bundle: Bundle) -> None:
        self._waiting = self._nothing_yet = False
        self._display.show(bundle)

    def _wait(self) -> None:
        """Say in the last display that more is to come."""
        self._waiting = True
        self._display.show(rendering.waiting())

    def _next(self) -> None:
        """What comes from now on comes below."""
        self._waiting = self._nothing_yet = False
        self._display = _Display(self._quiet)


class _Display:
    """One output of the cell: displayed at the first bundle, replaced by each other one."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._handle: DisplayHandle | None = None
        self._shown: Bundle = {}

    def show(self, bundle: Bundle) -> None:
        """Show a bundle, unless it is what is shown already."""
        if self._quiet or bundle == self._shown:
            return
        self._shown = bundle
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)  # type: ignore[no-untyped-call]
