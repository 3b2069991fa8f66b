"""Where a turn of a chat is drawn: a widget for each thought, part of the answer and tool call."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ipywidgets import HTML, Output, VBox, Widget  # type: ignore[import-untyped]

from jupyter_ccapi.claude import (
    Answer,
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

from . import cards, chat_markdown, permission, rendering, widget_parts
from .approval_card import ApprovalCard
from .calls import Calls
from .looks import BAD, LINE, Bundle, safe
from .markdown import drawable


class ChatView:
    """Draws one turn at the end of ``box``. ``answer`` is called with a permission request's id and
    its answer. ``pause`` is the least time between two drawings, in seconds.
    """

    pause = 0.1

    def __init__(self, box: VBox, answer: Callable[[str, Answer], None]) -> None:
        self._box = box
        self._answer = answer
        self._calls = Calls(Path.cwd())
        self._cards: dict[str, HTML] = {}
        self._asked: dict[str, tuple[PermissionRequest, ApprovalCard]] = {}
        self._last: HTML | None = None  # what is being written, or the line that waits
        self._thoughts = ""
        self._thinking_since = 0.0
        self._text = ""
        self._ended = False
        self.draw()

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
            case AnswerDiscarded():
                self._text = ""
            case ToolCall() | ToolResult() | PermissionRequest() | PermissionResolved():
                self._take_call(event)
            case TurnEnd():
                self._end(event, event.permission_denials)

    def draw(self) -> None:
        """Draw what has changed since it was drawn last."""
        if self._ended:
            return
        if self._thoughts:
            self._write(_html(rendering.thinking(self._thoughts)))
        elif self._text.strip():
            self._write(chat_markdown.html(drawable(self._text)))
        elif self._calls.open:
            self._write("")
        else:
            self._write(_html(rendering.waiting()))

    def fail(self, sentence: str) -> None:
        """The turn has failed: leave what there is, and say why."""
        self._end(None, [])
        self._write(f'<div style="{LINE}; {BAD}">{safe(sentence)}</div>')

    def _take_call(self, event: Event) -> None:
        id = self._calls.take(event)
        if id is not None:
            self._show_card(id)
        match event:
            case PermissionRequest():
                self._end_parts()
                card = ApprovalCard(event, lambda answer: self._answer(event.id, answer))
                self._asked[event.id] = event, card
                self._add(card.widget)
            case PermissionResolved():
                self._settle(event.id, event)

    def _show_card(self, id: str) -> None:
        if id not in self._cards:
            self._end_parts()
            self._cards[id] = widget_parts.html()
            self._add(self._cards[id])
        self._cards[id].value = _html(cards.bundle(self._calls.cards[id]))

    def _settle(self, id: str, event: PermissionResolved | None) -> None:
        """Put the line that says how it was answered in the place of what asked."""
        if id in self._asked:
            request, card = self._asked.pop(id)
            said = widget_parts.html(_html(permission.settled(request, event)))
            self._replace(card.widget, said)
            card.close()

    def _end(self, end: TurnEnd | None, denials: list[Any]) -> None:
        """The turn is over; None where it failed."""
        self._end_parts()
        for id in list(self._asked):
            self._settle(id, None)
        for id in self._calls.end(denials):
            self._show_card(id)
        self._write(_html(rendering.footer(end)) if end is not None else "")
        self._ended = True

    def _end_parts(self) -> None:
        self._end_thoughts()
        self._end_text()

    def _end_thoughts(self) -> None:
        if self._thoughts:
            seconds = time.monotonic() - self._thinking_since
            self._write(_html(rendering.thought(self._thoughts, seconds)))
            self._thoughts, self._last = "", None

    def _end_text(self) -> None:
        if self._text.strip():
            self._write(chat_markdown.html(self._text))
            if "$" in self._text and self._last is not None:
                # Formulas are for JupyterLab's own Markdown to set.
                data = rendering.answer(self._text)
                shown = {"output_type": "display_data", "data": data, "metadata": {}}
                self._replace(self._last, Output(outputs=(shown,)), gone=True)
            self._last = None
        self._text = ""

    def _write(self, html: str) -> None:
        """Show this at the end."""
        if self._last is None:
            self._last = widget_parts.html()
            self._box.children = (*self._box.children, self._last)
        self._last.value = html

    def _add(self, widget: Widget) -> None:
        """Put a widget at the end, before the line that waits."""
        others = [one for one in self._box.children if one is not self._last]
        self._box.children = (*others, widget, *([self._last] if self._last is not None else []))

    def _replace(self, old: Widget, new: Widget, *, gone: bool = False) -> None:
        self._box.children = tuple(new if one is old else one for one in self._box.children)
        if gone:
            widget_parts.close(old)


def _html(bundle: Bundle) -> str:
    return bundle["text/html"]
