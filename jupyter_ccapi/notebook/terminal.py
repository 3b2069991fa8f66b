"""A turn on a terminal: the raw text as it comes, and a line for each tool call."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

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


class TerminalView:
    """Writes to stdout. The options are those of `NotebookView`; `approvals` asks below the line of
    the call.
    """

    pause = 0.0

    def __init__(
        self,
        *,
        approvals: Callable[[PermissionRequest], None] | None = None,
        budget: float | None = None,
        quiet: bool = False,
        folder: Path | None = None,
    ) -> None:
        self._approvals = approvals
        self._budget = budget
        self._quiet = quiet
        self._calls = Calls(folder)
        self._open_line = ""  # the call whose line can still be written on
        self._thinking = False
        self._at_line_start = True
        self._ours = False  # whether the last line is one of ours, not the model's

    def take(self, event: Event) -> None:
        """Write an event."""
        match event:
            case ThinkingDelta() if not self._thinking:
                self._thinking = True
                self._line("Thinking…")
            case TextDelta(text=text):
                self._thinking = False
                self._say(text)
            case AnswerDiscarded():
                self._line("The answer begins anew.")
            case ToolCall() | ToolResult() | PermissionRequest() | PermissionResolved():
                self._thinking = False
                self._take_call(event)
            case TurnEnd():
                for id in self._calls.end([]):  # what has ended was told when it did
                    self._show(id)
                self._line(f"[{rendering.summary(event, self._budget)}]")

    def draw(self) -> None:
        """See to it that it is on the screen."""
        sys.stdout.flush()

    def stopping(self) -> None:
        """The terminal itself shows ^C."""

    def close(self, *, stopped: bool = False) -> None:
        """End the line, so that what follows starts on its own."""
        self._end_line()
        self.draw()

    def _take_call(self, event: Event) -> None:
        id = self._calls.take(event)
        if id is not None:
            self._show(id)
        if isinstance(event, PermissionRequest) and self._approvals is not None:
            self.close()
            self._approvals(event)

    def _show(self, id: str) -> None:
        """Write the line of a call, or on the one that is there how it went."""
        card = self._calls.cards[id]
        width = shutil.get_terminal_size().columns
        if self._open_line != id:
            self._end_line()
            self._write(cards.line_start(card, width))
            self._open_line, self._ours = id, True
        if not card.open:
            more = cards.details(card, colours=sys.stdout.isatty())
            self._write(f"  {cards.line_end(card)}\n" + (f"{more}\n" if more else ""))
            self._open_line = ""

    def _say(self, text: str) -> None:
        """Write a piece of the answer; what parts it from the text before is there already where a
        line of ours stands between them.
        """
        if self._ours:
            self._end_line()
            text = text.removeprefix("\n\n")
        self._write(text)
        self._ours = False

    def _line(self, text: str) -> None:
        """Write a line of our own, apart from the model's."""
        self._end_line()
        self._write(f"{text}\n")
        self._ours = True

    def _end_line(self) -> None:
        if not self._at_line_start:
            self._write("\n")
        self._open_line = ""

    def _write(self, text: str) -> None:
        if text and not self._quiet:
            sys.stdout.write(text)
            self._at_line_start = text.endswith("\n")
