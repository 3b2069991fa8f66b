"""The stop button of a kernel, and Ctrl-C in a terminal: SIGINT, made to cancel the running cell.

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


@contextmanager
def sigint_cancels() -> Iterator[None]:
    """Within the block SIGINT cancels the current task, each time that it comes."""
    if threading.current_thread() is not threading.main_thread():
        yield  # a subshell: signals are the main thread's alone
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    inside = True

    def cancel() -> None:
        if inside:
            task.cancel()

    def pressed(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(cancel)

    before = signal.signal(signal.SIGINT, pressed)
    try:
        yield
    finally:
        inside = False
        # None stands for a handler that is not Python's own and cannot be put back.
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)
