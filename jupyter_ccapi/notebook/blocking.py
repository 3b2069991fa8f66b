"""Run a coroutine to its end and return its value, also where an event loop runs already.

A cell that calls a blocking function holds up the kernel's loop, on which callbacks and
`run_python` are to run meanwhile: that loop has to be driven from within, which asyncio does not
do. nest-asyncio makes a loop that can, and this is the one place that uses it: for that loop alone,
and when it is first needed.
"""

import asyncio
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

from .stop_button import sigint_cancels

T = TypeVar("T")


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine and return what it returns; its errors are raised.

    The stop button (Ctrl-C) cancels it, and `KeyboardInterrupt` is raised when it has ended. Raises
    `RuntimeError` where the running loop is of a kind that cannot be driven from within.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    try:
        _make_nestable(loop)
    except BaseException:
        coroutine.close()
        raise
    return _drive(loop, loop.create_task(_stoppable(coroutine)))


def _drive(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[T]") -> T:
    try:
        return loop.run_until_complete(task)
    except asyncio.CancelledError:
        if not task.cancelling():
            raise
        # Nobody but the stop button knows this task.
    except BaseException:
        # Another callback of the loop was interrupted, and not the task: it must not live on.
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                loop.run_until_complete(task)
        raise
    raise KeyboardInterrupt


async def _stoppable(coroutine: Coroutine[Any, Any, T]) -> T:
    with sigint_cancels():
        return await coroutine


def _make_nestable(loop: asyncio.AbstractEventLoop) -> None:
    """Let a running loop be driven from within, and leave every other one as it is.

    nest-asyncio changes the loop's class, `asyncio.run`, and what `asyncio` calls tasks and
    futures, for all threads of the process: the core's too, which would no longer cancel what is
    left on its loop. So the loop gets a class of its own first, and the rest is put back.
    """
    if hasattr(loop, "_nest_patched"):
        return
    if not isinstance(loop, asyncio.BaseEventLoop):
        raise RuntimeError(
            f"The running event loop ({type(loop).__module__}.{type(loop).__name__}) cannot be "
            "driven from within: write `await claude.query(…)` in place of `claude.ask(…)`."
        )
    kind = type(loop)
    loop.__class__ = type(kind.__name__, (kind,), {"__module__": kind.__module__})
    with _unchanged():
        _nest_asyncio().apply(loop)


def _nest_asyncio() -> ModuleType:
    """The successor, which ipykernel 7.3 and later bring: only that one keeps for later what a
    kernel of version 7 is sent meanwhile; the other one loses it.
    """
    try:
        return import_module("nest_asyncio2")
    except ImportError:
        return import_module("nest_asyncio")


@contextmanager
def _unchanged() -> Iterator[None]:
    """Put back what the block changes in asyncio's modules, its policy, and Tornado's."""
    names = ("asyncio", "asyncio.events", "asyncio.tasks", "asyncio.futures", "tornado.concurrent")
    places: list[Any] = [sys.modules[name] for name in names if name in sys.modules]
    if sys.version_info < (3, 14):  # from there on nothing is done to it, and it is deprecated
        places.append(type(asyncio.get_event_loop_policy()))
    before = [(place, dict(vars(place))) for place in places]
    try:
        yield
    finally:
        for place, names_before in before:
            for name, value in dict(vars(place)).items():
                if name not in names_before:
                    delattr(place, name)
                elif names_before[name] is not value:
                    setattr(place, name, names_before[name])
