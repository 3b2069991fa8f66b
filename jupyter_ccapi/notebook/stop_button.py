"""The stop button of a kernel, and Ctrl-C in a terminal: SIGINT, made to cancel what waits.

ipykernel cancels an `await`ing cell too, but (7.4) from a callback that does not wake its event
loop: while the model is silent, nothing happens until its next word. Terminal IPython lets
`KeyboardInterrupt` out of its loop, which leaves the cell's coroutine where it was, with nobody to
end its turn.
"""

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

# Seconds between the clicks of somebody who is impatient.
_BETWEEN_CLICKS = 0.25


class Pressed:
    """Whether SIGINT has come while a task waited."""

    def __init__(self, loop: asyncio.AbstractEventLoop, task: "asyncio.Task[Any]") -> None:
        self.yes = False
        self._inside = True
        self._last = 0.0
        self._loop = loop
        self._task = task

    def press(self) -> None:
        """It has come. Called from a signal handler."""
        self.yes = True
        self._last = time.monotonic()
        self._loop.call_soon_threadsafe(self._cancel)

    async def over(self) -> None:
        """Wait until nobody presses any more. A press that comes while ipykernel (7.4) sends the
        cell's reply takes that with it, and the cell runs on for ever, to look at.
        """
        while self.yes and (left := self._last + _BETWEEN_CLICKS - time.monotonic()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                self._task.uncancel()

    def leave(self) -> None:
        """The task waits no more."""
        self._inside = False

    def _cancel(self) -> None:
        if self._inside:
            self._task.cancel()


class _Waker:
    """Has each signal wake the loop. Python runs no handler between its last look and the moment in
    which the loop waits for events: one that arrives just then would be noticed with the next
    event, and a silent model makes none.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reads, self._writes = socket.socketpair()
        for end in (self._reads, self._writes):
            end.setblocking(False)
        self._before = signal.set_wakeup_fd(self._writes.fileno(), warn_on_full_buffer=False)
        try:
            loop.add_reader(self._reads, self._drain)
        except NotImplementedError:
            self.close()  # a loop of Windows

    def close(self) -> None:
        """Leave that to whoever saw to it before."""
        if self._reads.fileno() == -1:
            return
        now = signal.set_wakeup_fd(self._before)
        if now != self._writes.fileno():
            signal.set_wakeup_fd(now)  # somebody else has taken it over
        with suppress(NotImplementedError):
            self._loop.remove_reader(self._reads)
        self._reads.close()
        self._writes.close()

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            while self._reads.recv(4096):
                pass


class _Layer:
    """The tasks that our handler cancels, and the handler that it took the place of."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.waiting: list[Pressed] = []
        self.waker = _Waker(loop)
        # None stands for a handler that is not Python's own and cannot be put back.
        self.before = signal.signal(signal.SIGINT, _press) or signal.default_int_handler

    def put_back(self) -> Any:
        """Have SIGINT do what it did before; returns that."""
        self.waker.close()
        signal.signal(signal.SIGINT, self.before)
        return self.before


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
        _layers.append(_Layer(loop))
    layer = _layers[-1]
    layer.waiting.append(pressed)
    try:
        yield pressed
    finally:
        pressed.leave()
        layer.waiting.remove(pressed)
        while _layers and not _layers[-1].waiting and signal.getsignal(signal.SIGINT) is _press:
            _layers.pop().put_back()


def _press(number: int, frame: FrameType | None) -> None:
    while _layers and not _layers[-1].waiting:
        # Our handler was put back by somebody above it, after our block had ended.
        before = _layers.pop().put_back()
        if before is not _press:
            if callable(before):
                before(number, frame)
            return
    for pressed in _layers[-1].waiting if _layers else ():
        pressed.press()
