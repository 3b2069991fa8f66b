"""Where a turn is drawn: in the outputs of a notebook's cell, or on a terminal."""

import sys
import time
from typing import Protocol

from IPython.display import DisplayHandle, clear_output, display

from jupyter_ccapi.claude import Event, TextDelta, ThinkingDelta, TurnEnd

from . import rendering
from .rendering import Bundle


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
    """Draws in the running cell's outputs: thoughts, answer and footer in a display each.

    A display is drawn anew only while it grows, so thoughts that a reader has unfolded stay so.
    """

    def __init__(self, updates_per_second: float) -> None:
        self.pause = 1 / updates_per_second
        self._display = _Display()
        self._display.show(rendering.waiting())
        self._footer: _Display | None = None
        self._waiting = True
        self._thoughts = ""
        self._thinking_since = 0.0
        self._text = ""
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
                self._text += text
            case TurnEnd():
                self._finish(event)

    def draw(self) -> None:
        """Draw what has changed since it was drawn last."""
        if self._thoughts:
            self._show(rendering.thinking(self._thoughts))
        elif self._text:
            self._show(rendering.answer(self._text))

    def stopping(self) -> None:
        """Show that the stop button was heard, where the footer will be."""
        if self._waiting:
            self._display.show(rendering.stopping())
        elif not self._ended:
            # Not in the display of the answer: its last words may still come.
            self._footer = _Display()
            self._footer.show(rendering.stopping())

    def close(self, *, stopped: bool = False) -> None:
        """Leave what was drawn as it is to stay, after a stop or a failure."""
        if self._ended:
            return
        if stopped:
            self._finish(None)
        elif self._waiting:
            # Nothing came: the error that follows takes the place of the line that waits.
            clear_output(wait=True)  # type: ignore[no-untyped-call]
        else:
            self._end_thoughts()
            self._end_text()

    def _finish(self, end: TurnEnd | None) -> None:
        self._end_thoughts()
        self._end_text()
        (self._footer or self._display).show(rendering.footer(end))
        self._ended = True

    def _end_thoughts(self) -> None:
        if self._thoughts:
            seconds = time.monotonic() - self._thinking_since
            self._show(rendering.thought(self._thoughts, seconds))
            self._thoughts = ""
            self._display = _Display()

    def _end_text(self) -> None:
        if self._text:
            self._show(rendering.answer(self._text))
            self._text = ""
            self._display = _Display()

    def _show(self, bundle: Bundle) -> None:
        self._waiting = False
        self._display.show(bundle)


class TerminalView:
    """Writes the raw text to stdout as it comes."""

    pause = 0.0

    def __init__(self) -> None:
        self._thinking = False
        self._at_line_start = True

    def take(self, event: Event) -> None:
        """Write an event."""
        match event:
            case ThinkingDelta() if not self._thinking:
                self._thinking = True
                self._line("Thinking…")
            case TextDelta(text=text):
                self._thinking = False
                self._write(text)
            case TurnEnd():
                self._line(f"[{rendering.summary(event)}]")

    def draw(self) -> None:
        """See to it that it is on the screen."""
        sys.stdout.flush()

    def stopping(self) -> None:
        """The terminal itself shows ^C."""

    def close(self, *, stopped: bool = False) -> None:
        """End the line, so that what follows starts on its own."""
        if not self._at_line_start:
            self._write("\n")
        self.draw()

    def _line(self, text: str) -> None:
        """Write a line of our own, apart from the model's."""
        self.close()
        self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        if text:
            sys.stdout.write(text)
            self._at_line_start = text.endswith("\n")


class _Display:
    """One output of the cell: displayed at the first bundle, replaced by each other one."""

    def __init__(self) -> None:
        self._handle: DisplayHandle | None = None
        self._shown: Bundle = {}

    def show(self, bundle: Bundle) -> None:
        """Show a bundle, unless it is what is shown already."""
        if bundle == self._shown:
            return
        self._shown = bundle
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)  # type: ignore[no-untyped-call]
