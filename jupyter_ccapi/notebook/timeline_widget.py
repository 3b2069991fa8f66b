"""The checkpoints of a conversation: to look at what a rewind would do, and to do it."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ipywidgets import HBox, Layout, VBox, Widget  # type: ignore[import-untyped]

from jupyter_ccapi.claude import ClaudeError
from jupyter_ccapi.claude.record import Checkpoint

from . import rewind_view, widget_parts
from .looks import LINE, MUTED, note, safe, span
from .rewind_panel import RewindPanel
from .rewound import Rewound
from .trimming import shortened, visible

# So many are shown at first: each is a handful of widgets.
_MOST = 20
_COLUMNS = "28px 92px minmax(80px, 1fr) auto"
_CUT = "white-space: nowrap; overflow: hidden; text-overflow: ellipsis"


class Rewinding(Protocol):
    """The conversation behind a timeline; `notebook.claude.Claude` is one. All of it blocks, and
    raises ``ClaudeError``.
    """

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """Its checkpoints, the first one first."""

    @property
    def can_undo(self) -> bool:
        """Whether the last rewind can be taken back."""

    def rewind(
        self,
        checkpoint: int,
        *,
        files: bool = True,
        conversation: bool = True,
        dry_run: bool = False,
        force: bool = False,
    ) -> Rewound:
        """Rewind to before a prompt, or with ``dry_run`` look at what that would do."""

    def undo(self, *, dry_run: bool = False, force: bool = False) -> Rewound:
        """Take the last rewind back."""

    def on_change(self, call: Callable[[], None]) -> Callable[[], None]:
        """Have this called after each turn and rewind; returns what ends that."""


class TimelineWidget(VBox):  # type: ignore[misc]
    """A line for each checkpoint, the newest first. Raises ``ClaudeError`` without a notebook."""

    def __init__(self, claude: Rewinding) -> None:
        self._loop = widget_parts.running_loop()
        self._claude = claude
        self._all = False
        self._shown: list[Checkpoint] | None = None
        self._rows: list[tuple[Checkpoint, VBox]] = []
        self._panel: RewindPanel | None = None
        self._place: VBox | None = None  # what the panel stands in
        self._undo = self._button("Undo last rewind…", "Have it as before", self._begin_undo)
        self._older = self._button("Show all", "Show the older checkpoints, too", self._show_all)
        self._title = widget_parts.html(flex="1 1 auto")
        self._top = VBox(
            [HBox([self._title, self._undo], layout=_ROW)], layout=Layout(width="auto")
        )
        self._said = widget_parts.html()
        self._list = VBox(layout=Layout(width="auto", grid_gap="2px"))
        super().__init__(
            [self._top, self._said, self._list, self._older],
            layout=Layout(max_width="900px", grid_gap="4px", padding="4px 0"),
        )
        self._forget = claude.on_change(lambda: self._call(self._refresh))
        self._refresh()

    def close(self) -> None:
        """Take it away."""
        if self.comm is not None:  # Python closes a widget again when it forgets it
            self._forget()
            widget_parts.close_parts(self)
        super().close()

    def _call(self, call: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(call)

    def _button(self, words: str, tip: str, press: Callable[[], None]) -> Widget:
        return widget_parts.button(words, tip, lambda: self._call(press))

    def _refresh(self) -> None:
        """Show the checkpoints that there are now; what has not changed stays as it is."""
        try:
            found = self._claude.checkpoints
            can_undo = self._claude.can_undo
        except ClaudeError as error:
            self._said.value = note(str(error))
            return
        self._undo.layout.display = "" if can_undo else "none"
        if found != self._shown:
            self._shown = found
            self._draw(found)

    def _draw(self, found: Sequence[Checkpoint]) -> None:
        count = f"{len(found):,} {'checkpoint' if len(found) == 1 else 'checkpoints'}"
        self._title.value = _strong(count if found else "No checkpoints yet: each prompt is one")
        shown = found[::-1] if self._all else found[: -_MOST - 1 : -1]
        kept = {one.number: (one, row) for one, row in self._rows if one in shown}
        for one, row in self._rows:
            if one.number not in kept:
                self._drop(row)
        self._rows = [kept.get(one.number) or (one, self._row(one)) for one in shown]
        self._list.children = tuple(row for _, row in self._rows)
        self._older.layout.display = "none" if len(shown) == len(found) else ""

    def _drop(self, row: VBox) -> None:
        if self._place is row:
            self._close_panel()
        widget_parts.close(row)

    def _row(self, checkpoint: Checkpoint) -> VBox:
        number = checkpoint.number
        preview = self._button(
            "Preview", f"What a rewind to before prompt {number} would do", lambda: begin(False)
        )
        rewind = self._button("Rewind…", f"Rewind to before prompt {number}", lambda: begin(True))
        about = widget_parts.html(_about(checkpoint), flex="1 1 auto")
        row = VBox([HBox([about, preview, rewind], layout=_ROW)], layout=Layout(width="auto"))

        def begin(confirm: bool) -> None:
            def act(files: bool, conversation: bool, dry_run: bool, force: bool) -> Rewound:
                return self._claude.rewind(
                    number, files=files, conversation=conversation, dry_run=dry_run, force=force
                )

            self._open(row, RewindPanel(act, self._end, words="Rewind" if confirm else ""))

        return row

    def _begin_undo(self) -> None:
        def act(files: bool, conversation: bool, dry_run: bool, force: bool) -> Rewound:
            return self._claude.undo(dry_run=dry_run, force=force)

        self._open(self._top, RewindPanel(act, self._end, words="Undo", whole=True))

    def _open(self, place: VBox, panel: RewindPanel) -> None:
        """Show a panel below a line, and no other."""
        self._close_panel()
        self._said.value = ""
        self._panel, self._place = panel, place
        place.children = (*place.children[:1], panel.widget)

    def _end(self, rewound: Rewound | None) -> None:
        """A panel is done with; None where nothing was done."""
        self._close_panel()
        if rewound is not None:
            self._said.value = rewind_view.html(rewound.plan, done=rewound.done, undo=rewound.undo)
            self._refresh()

    def _close_panel(self) -> None:
        if self._panel is not None and self._place is not None:
            self._place.children = self._place.children[:1]
            widget_parts.close(self._panel.widget)
        self._panel = self._place = None

    def _show_all(self) -> None:
        self._all = True
        self._draw(self._shown or [])


_ROW = {"grid_gap": "8px", "align_items": "center", "width": "auto"}


def _about(checkpoint: Checkpoint) -> str:
    """Its number, time, first words, and what changed in its turn."""
    cells = [
        span(MUTED, str(checkpoint.number)),
        span(MUTED, _when(checkpoint.when)),
        f'<span style="{_CUT}">{safe(visible(checkpoint.words))}</span>',
        _changed(checkpoint),
    ]
    grid = f"display: grid; grid-template-columns: {_COLUMNS}; column-gap: 8px"
    return f'<div style="{LINE}; {grid}">{"".join(cells)}</div>'


def _changed(checkpoint: Checkpoint) -> str:
    if not checkpoint.files:
        return span(MUTED, "")
    names = shortened(visible(", ".join(checkpoint.files)), 400)
    count = len(checkpoint.files)
    files = f"{count:,} {'file' if count == 1 else 'files'}"
    lines = rewind_view.counts(checkpoint.insertions, checkpoint.deletions)
    tip = names.replace('"', "&quot;")
    return f'<span title="{safe(tip)}">{span(MUTED, files)} {lines}</span>'


def _when(seconds: float) -> str:
    """A time of today as one of the day, another with its date."""
    then, now = time.localtime(seconds), time.localtime()
    today = (then.tm_year, then.tm_yday) == (now.tm_year, now.tm_yday)
    return time.strftime("%H:%M" if today else "%d %b %H:%M", then)


def _strong(text: str) -> str:
    return f'<div style="{LINE}; font-weight: 600">{safe(text)}</div>'
