"""The few widgets of which ours are made. Importing it imports ipywidgets, which takes a while."""

import asyncio
from collections.abc import Callable
from typing import Any

from ipywidgets import HTML, Box, Button, Layout, Text, Widget  # type: ignore[import-untyped]

from jupyter_ccapi.claude import ClaudeError

# A reader who presses Enter sends the key's own message before the text that it ends.
_GRACE = 0.5


def running_loop() -> asyncio.AbstractEventLoop:
    """The loop that widgets live on, the kernel's. Raises ``ClaudeError`` where none runs."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ClaudeError("Widgets need a notebook: make them in one of its cells.") from None


def html(content: str = "", **layout: str) -> HTML:
    """HTML as wide as there is room. What others have written must be escaped in it."""
    widget = HTML(content, layout=Layout(width="auto", margin="0", min_width="0", **layout))
    widget.add_class("ccapi-html")
    return widget


def button(words: str, tip: str, press: Callable[[], object], style: str = "") -> Button:
    """A button that is as wide as its words; ``style`` is one of ``button_style``."""
    layout = Layout(width="auto", margin="0", flex="0 0 auto")
    made = Button(description=words, tooltip=tip, button_style=style, layout=layout)
    made.on_click(lambda _: press())
    return made


class Entry:
    """A line to write in. ``enter`` is called, on the event loop that made it, with what is
    written when Enter is pressed.
    """

    def __init__(self, hint: str, enter: Callable[[str], None], **layout: str) -> None:
        # Not continuous: half a line that is on its way would arrive after the key's message.
        self.widget = Text(
            placeholder=hint,
            tooltip=hint,
            continuous_update=False,
            layout=Layout(margin="0", min_width="0", **layout),
        )
        self._enter = enter
        self._loop = asyncio.get_running_loop()
        self._pressed: asyncio.TimerHandle | None = None
        self.widget.on_msg(lambda _, content, __: self._call(self._press, content))
        self.widget.observe(lambda _: self._call(self._arrive), "value")

    @property
    def text(self) -> str:
        """What is written there."""
        return str(self.widget.value)

    def clear(self) -> None:
        """Write nothing there."""
        self.widget.value = ""

    def _call(self, call: Callable[..., None], *given: Any) -> None:
        self._loop.call_soon_threadsafe(call, *given)

    def _press(self, content: Any) -> None:
        """The key: what was written since the last time comes after it, or there is nothing."""
        if content == {"event": "submit"} and self._pressed is None:
            self._pressed = self._loop.call_later(_GRACE, self._arrive)

    def _arrive(self) -> None:
        if self._pressed is not None:
            self._pressed.cancel()
            self._pressed = None
            self._enter(self.text)


def close(widget: Widget) -> None:
    """Take a widget away with all that it is made of; its views go, and its models in the kernel
    and in the browser.
    """
    close_parts(widget)
    widget.close()


def close_parts(widget: Widget) -> None:
    """Take away what a widget is made of."""
    children = widget.children if isinstance(widget, Box) else ()
    for part in (*children, getattr(widget, "style", None), getattr(widget, "layout", None)):
        if isinstance(part, Widget):
            close(part)
