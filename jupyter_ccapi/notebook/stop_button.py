"""The stop button of a kernel, and Ctrl-C in a terminal: SIGINT, made to cancel what waits.

ipykernel cancels an `await`ing cell too, but (7.4) from a callback that does not wake its event
loop: while the model is silent, nothing happens until its next word. Terminal IPython lets
`KeyboardInterrupt` out of its loop, which leaves the cell's coroutine where it was, with nobody to
end its turn.
"""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Pressed:
    """Whether SIGINT has come while a task waited."""

    def __init__(self, loop: asyncio.AbstractEventLoop, task: "asyncio.Task[Any]") -> None:
        self.yes = False
        self._inside = True
        self._loop = loop
        self._task = task

    def press(self) -> None:
        """It has come. Called from a signal handler."""
        self.yes = True
        self._loop.call_soon_threadsafe(self._cancel)

    def leave(self) -> None:
        """The task waits no more."""
        self._inside = False

    def _cancel(self) -> None:
        if self._inside:
            self._task.cancel()


class _Layer:
    """The tasks that our handler cancels, and the handler that it took the place of."""

    def __init__(self) -> None:
        self.waiting: list[Pressed] = []
        # None stands for a handler that is not Python's own and cannot be put back.
        self.before = signal.signal(signal.SIGINT, _press) or signal.default_int_handler


# A new one where another handler was put above ours: while code of the user's computes.
_layers: list[_Layer] = []


@contextmanager
def sigint_cancels() -> Iterator[Pressed]:
    """Within the block SIGINT cancels the current task, each time that it comes. Blocks of several
    tasks may overlap: all of them are cancelled.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    pressed = Pressed(loop, task)
    if threading.current_thread() is not threading.main_thread():
        yield pressed  # a subshell: signals are the main thread's alone
        return
    if not _layers or signal.getsignal(signal.SIGINT) is not _press:
        _layers.append(_Layer())
    layer = _layers[-1]
    layer.waiting.append(pressed)
    try:
        yield pressed
    finally:
        pressed.leave()
        layer.waiting.remove(pressed)
        while _layers and not _layers[-1].waiting and signal.getsignal(signal.SIGINT) is _press:
            signal.signal(signal.SIGINT, _layers.pop().before)


def _press(number: int, frame: FrameType | None) -> None:
    while _layers and not _layers[-1].waiting:
        # Our handler was put back by somebody above it, after our block had ended.
        before = _layers.pop().before
        signal.signal(number, before)
        if before is not _press:
            if callable(before):
                before(number, frame)
            return
    for pressed in _layers[-1].waiting if _layers else ():
        pressed.press()
