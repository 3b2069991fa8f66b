"""A conversation as a chat, in the output of a cell."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from ipywidgets import HBox, Layout, VBox  # type: ignore[import-untyped]

from jupyter_ccapi.claude import Answer, ClaudeError, Event, TurnEnd, Usage

from . import rendering, widget_parts
from .chat_view import ChatView
from .errors import cell_error
from .looks import LINE, note, safe
from .trimming import visible

_SAID = (
    f"{LINE}; white-space: pre-wrap; overflow-wrap: break-word; padding: 6px 12px; "
    "background-color: rgba(128, 128, 128, 0.12); border-radius: 10px; display: inline-block"
)


class Chatting(Protocol):
    """The conversation behind a chat; `notebook.claude.Claude` is one."""

    @property
    def turns(self) -> int:
        """How many prompts were answered."""

    @property
    def usage_total(self) -> Usage:
        """The tokens of those."""

    @property
    def cost_usd(self) -> float:
        """What those have cost, in USD."""

    def stream(self, prompt: str) -> AsyncIterator[Event]:
        """Send a prompt and yield the events of its turn."""

    async def interrupt(self) -> None:
        """End the turn that is running."""

    def answer(self, request_id: str, answer: Answer) -> None:
        """Answer a permission request of the turn that is running."""

    def on_change(self, call: Callable[[], None]) -> Callable[[], None]:
        """Have this called after each turn; returns what ends that."""


class ChatWidget(VBox):  # type: ignore[misc]
    """A chat: what was said, a line to write in, and what it has cost. It works while no cell runs
    and beside an async one; code that computes in the kernel holds it up.

    Raises ``ClaudeError`` without a notebook.
    """

    def __init__(self, claude: Chatting) -> None:
        self._loop = widget_parts.running_loop()
        self._claude = claude
        self._turn: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._messages = VBox(layout=Layout(flex="0 0 auto", grid_gap="2px", width="auto"))
        self._entry = widget_parts.Entry("Ask Claude… (Enter sends)", self._send, flex="1 1 auto")
        self._button = widget_parts.button(
            "Send", "Send what is written", lambda: self._call(self._press), "primary"
        )
        self._total = widget_parts.html()
        # Turned around, it stays at its end while that grows, unless one has scrolled up.
        turned = Layout(flex_flow="column-reverse nowrap", max_height="560px", overflow="auto")
        super().__init__(
            [
                VBox([self._messages], layout=turned),
                HBox([self._entry.widget, self._button], layout=Layout(grid_gap="8px")),
                self._total,
            ],
            layout=Layout(max_width="900px", grid_gap="6px", padding="4px 0"),
        )
        self._forget = claude.on_change(lambda: self._call(self._count))
        self._count()

    def close(self) -> None:
        """Take the chat away; a turn that is running is interrupted."""
        if self.comm is not None:  # Python closes a widget again when it forgets it
            self._forget()
            if self._turn is not None:
                self._turn.cancel()
            widget_parts.close_parts(self)
        super().close()

    def _call(self, call: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(call)

    def _press(self) -> None:
        """The button: it sends, or stops what is running."""
        if self._turn is None:
            self._send(self._entry.text)
        elif self._stopping is None:
            self._button.disabled = True
            self._stopping = self._loop.create_task(self._stop())

    async def _stop(self) -> None:
        try:
            await self._claude.interrupt()
        except ClaudeError as error:
            self._total.value = note(str(error))
            self._button.disabled, self._stopping = False, None

    def _send(self, prompt: str) -> None:
        if self._turn is not None or not prompt.strip():
            return
        self._entry.clear()
        said = f'<div style="text-align: right; margin: 8px 0 4px 48px">{_said(prompt)}</div>'
        self._messages.children = (*self._messages.children, widget_parts.html(said))
        self._button.description, self._button.button_style = "Stop", ""
        self._button.tooltip = "End this answer"
        self._turn = self._loop.create_task(self._follow(prompt))

    async def _follow(self, prompt: str) -> None:
        """Draw a turn at the view's own pace."""
        view = ChatView(self._messages, self._claude.answer)
        drawing: asyncio.TimerHandle | None = None
        ended = False

        def draw() -> None:
            nonlocal drawing
            drawing = None
            view.draw()

        try:
            async for event in self._claude.stream(prompt):
                view.take(event)
                drawing = drawing or self._loop.call_later(view.pause, draw)
                ended = ended or isinstance(event, TurnEnd)
            if not ended:
                view.fail("The answer broke off.")
        except ClaudeError as error:
            view.fail(str(cell_error(error)))
        except Exception as error:
            view.fail(f"The chat could not go on. {type(error).__name__}: {error}")
        finally:
            if drawing is not None:
                drawing.cancel()
            self._rest()

    def _rest(self) -> None:
        """Wait for the next prompt."""
        self._turn = self._stopping = None
        self._button.description, self._button.button_style = "Send", "primary"
        self._button.tooltip, self._button.disabled = "Send what is written", False
        self._count()

    def _count(self) -> None:
        """Say what all of it has cost."""
        turns = self._claude.turns
        spent = TurnEnd(
            "completed", "", None, "", self._claude.usage_total, self._claude.cost_usd, 0
        )
        parts = [f"{turns} {'turn' if turns == 1 else 'turns'}", rendering.summary(spent)]
        self._total.value = note(" · ".join(part for part in parts if part)) if turns else ""


def _said(prompt: str) -> str:
    return f'<div style="{_SAID}; text-align: left">{safe(visible(prompt))}</div>'
