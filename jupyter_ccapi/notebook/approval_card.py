"""The card with which a person allows or denies what a tool would do: buttons, and a reason."""

import asyncio
from collections.abc import Callable

from ipywidgets import Button, HBox, Layout, VBox  # type: ignore[import-untyped]

from jupyter_ccapi.claude import Answer, ClaudeError, PermissionRequest

from . import permission, widget_parts
from .looks import BAD, Bundle, note, span

_BORDER = "1px solid var(--jp-border-color2, rgb(190, 190, 190))"
_EDGE = "3px solid var(--jp-warn-color1, rgb(230, 140, 20))"
_NO_BUTTONS = (
    "Where no buttons are shown, stop the cell and have it asked in words from then on: "
    "%config ClaudeMagics.approvals = 'input'"
)


class ApprovalCard:
    """A card for one request. ``answer`` is called once, on the event loop that made the card.

    ``widget`` is to be displayed; ``bundle`` is how.
    """

    def __init__(self, request: PermissionRequest, answer: Callable[[Answer], None]) -> None:
        self._request = request
        self._give = answer
        self._answered = False
        self._loop = asyncio.get_running_loop()
        self._reason = widget_parts.Entry(
            "Reason for a denial (Enter denies)", self._deny, flex="1 1 160px", max_width="420px"
        )
        self._buttons = self._made_buttons()
        self._told = widget_parts.html(note(permission.scope(request)))
        row = Layout(flex_flow="row wrap", grid_gap="8px", margin="2px 0 0 0", align_items="center")
        self.widget = VBox(
            [
                widget_parts.html(permission.html(request)),
                HBox([*self._buttons, self._reason.widget], layout=row),
                self._told,
            ],
            layout=Layout(
                border=_BORDER,
                border_left=_EDGE,
                padding="6px 12px",
                margin="4px 0",
                max_width="860px",
            ),
        )
        self.widget.add_class("ccapi-approval")

    def bundle(self) -> Bundle:
        """What a cell displays: the card, and how to answer where no widgets are shown."""
        shown = dict(self.widget._repr_mimebundle_())
        shown["text/plain"] = f"{permission.text(self._request)}\n{_NO_BUTTONS}"
        return shown

    def close(self) -> None:
        """Take the card away."""
        self._answered = True
        widget_parts.close(self.widget)

    def _made_buttons(self) -> list[Button]:
        allowed = self._request.scope
        always = "Do not ask again in this conversation" + (f": {allowed}" if allowed else "")
        once, conversation = Answer("allow"), Answer("allow", "conversation")
        return [
            widget_parts.button(
                "Allow once",
                "Allow this call alone",
                lambda: self._call(self._answer, once),
                "primary",
            ),
            widget_parts.button(
                "Allow for this conversation",
                always,
                lambda: self._call(self._answer, conversation),
            ),
            widget_parts.button(
                "Deny",
                "Deny it, with the reason if one is written",
                lambda: self._call(self._deny),
            ),
        ]

    def _call(self, call: Callable[..., None], *given: Answer) -> None:
        # A click may come on another thread than the cell's (ipykernel 7.3).
        self._loop.call_soon_threadsafe(call, *given)

    def _deny(self, reason: str | None = None) -> None:
        reason = self._reason.text if reason is None else reason
        self._answer(Answer("deny", message=reason.strip()))

    def _answer(self, answer: Answer) -> None:
        if self._answered:
            return
        self._answered = True
        for widget in (*self._buttons, self._reason.widget):
            widget.disabled = True
        try:
            self._give(answer)
        except ClaudeError as error:
            self._told.value = span(BAD, str(error))
