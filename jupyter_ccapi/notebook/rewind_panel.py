"""What a rewind would do, and the buttons with which it is done."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from ipywidgets import Checkbox, HBox, Layout, ToggleButtons, VBox  # type: ignore[import-untyped]

from jupyter_ccapi.claude import ClaudeError
from jupyter_ccapi.claude.errors import RewindRefused

from . import rewind_view, widget_parts
from .looks import BAD, LINE, safe
from .rewound import Rewound

_EDGE = "3px solid var(--jp-border-color2, rgb(190, 190, 190))"
_CHOICE = {
    "Files and conversation": (True, True),
    "Files": (True, False),
    "Conversation": (False, True),
}


class Act(Protocol):
    """Rewinds, or with ``dry_run`` says what that would do. Blocks. Raises ``ClaudeError``."""

    def __call__(self, files: bool, conversation: bool, dry_run: bool, force: bool) -> Rewound:
        """Do it."""


class RewindPanel:
    """Shows what a rewind would do. With ``words``, those of its button, it can be done, ``whole``
    or in part; ``end`` is called with what was done, or with None when it is closed.
    """

    def __init__(
        self,
        act: Act,
        end: Callable[[Rewound | None], None],
        *,
        words: str = "",
        whole: bool = False,
    ) -> None:
        self._act = act
        self._words = words
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._plan = widget_parts.html()
        self._choice = ToggleButtons(
            options=list(_CHOICE), layout=Layout(width="auto", margin="0"), tooltips=list(_CHOICE)
        )
        self._choice.style.button_width = "auto"
        self._force = Checkbox(
            description="Overwrite what another hand has changed",
            indent=False,
            layout=Layout(flex="1 1 100%", margin="0", display="none"),
        )
        self._do = widget_parts.button(words, "Do it now", lambda: self._call(self._go), "danger")
        leave = widget_parts.button(
            "Cancel" if words else "Close",
            "Leave everything as it is",
            lambda: self._call(lambda: end(None)),
        )
        parts = [self._force, self._choice, self._do, leave]
        if not words or whole:
            self._choice.layout.display = "none"
        if not words:
            self._do.layout.display = "none"
        row = Layout(flex_flow="row wrap", grid_gap="8px", align_items="center", margin="4px 0 0 0")
        self.widget = VBox(
            [self._plan, HBox(parts, layout=row)],
            layout=Layout(border_left=_EDGE, padding="4px 12px", margin="2px 0 8px 0"),
        )
        self._choice.observe(lambda _: self._call(self._look), "value")
        self._force.observe(lambda _: self._call(self._look), "value")
        self._look()

    def _call(self, call: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(call)

    def _look(self) -> None:
        """Show what would be done, as it is chosen now."""
        try:
            rewound = self._asked(dry_run=True)
        except ClaudeError as error:
            self._fail(error)
            return
        plan = rewound.plan
        self._plan.value = rewind_view.html(plan, done=False, undo=rewound.undo)
        if plan.conflicts and self._words:
            self._force.layout.display = ""
        self._do.disabled = bool(plan.conflicts)

    def _go(self) -> None:
        self._do.disabled = True
        try:
            rewound = self._asked(dry_run=False)
        except ClaudeError as error:
            self._fail(error)
            return
        self._end(rewound)

    def _asked(self, *, dry_run: bool) -> Rewound:
        files, conversation = _CHOICE[self._choice.value]
        return self._act(files, conversation, dry_run, bool(self._force.value))

    def _fail(self, error: ClaudeError) -> None:
        """Say why it cannot be done; it can be tried again."""
        self._plan.value = f'<div style="{LINE}; {BAD}">{safe(str(error))}</div>'
        self._do.disabled = False
        if isinstance(error, RewindRefused) and error.conflicts:
            self._force.layout.display = ""
