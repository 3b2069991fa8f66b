"""End user code by the stop button: SIGINT, whether the code computes or waits."""

import asyncio
import signal
import threading
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class Interrupted(Exception):
    """The user stopped the code; the message is what the model is told."""


async def interruptible(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await user code so that SIGINT ends it; raises ``Interrupted`` then.

    While it computes, that is a ``KeyboardInterrupt`` in it; while it waits, it is cancelled: a
    ``KeyboardInterrupt`` would end the event loop. Code that goes on in spite of it has ended in
    an interrupt all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        return await coroutine  # signals are the main thread's alone
    loop, steps = asyncio.get_running_loop(), _Steps()
    task = loop.create_task(steps.drive(coroutine))

    def pressed(number: int, frame: FrameType | None) -> None:
        steps.pressed = True
        if steps.computing:
            raise KeyboardInterrupt
        loop.call_soon_threadsafe(task.cancel)

    with _on_sigint(pressed):
        try:
            answer = await task
        except asyncio.CancelledError:
            if not steps.pressed or is_cancelled():
                raise
    if steps.pressed:
        raise Interrupted
    return answer


@contextmanager
def keyboard_interrupts() -> Iterator[None]:
    """Within the block SIGINT raises ``KeyboardInterrupt``, as it does in a cell that computes.

    For user code that runs without an ``await``, whatever handler stands around it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _on_sigint(signal.default_int_handler):
        yield


class _Steps:
    """Drives a coroutine step by step; knows whether one runs, and whether SIGINT has come."""

    def __init__(self) -> None:
        self.computing = self.pressed = False

    async def drive(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return await self._stepped(coroutine)

    @types.coroutine
    def _stepped(self, coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """Await a coroutine, by PEP 380's rules."""
        resume: Callable[[Any], Any] = coroutine.send
        value: Any = None
        while True:
            try:
                try:
                    self.computing = True
                    awaited = resume(value)
                finally:
                    self.computing = False
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            except KeyboardInterrupt:
                self.computing = False
                coroutine.close()
                raise Interrupted from None
            try:
                value = yield awaited
                resume = coroutine.send
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as error:
                value, resume = error, coroutine.throw


@contextmanager
def _on_sigint(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        # Not where another was put there meanwhile: the one before may be out of date.
        if signal.getsignal(signal.SIGINT) is handler:
            signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)


def is_cancelled() -> bool:
    """Whether the current task was asked to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
