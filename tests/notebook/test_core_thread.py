"""The core's thread: it runs beside the kernel's loop, and ends when it is told to."""

import asyncio
import threading

import pytest

from jupyter_ccapi.notebook.core_thread import CoreThread


def names() -> set[str]:
    """Return the names of the threads that run."""
    return {thread.name for thread in threading.enumerate()}


async def test_it_runs_while_the_callers_loop_is_blocked() -> None:
    """As when a cell's code computes: the caller's loop stands still in `result()`."""
    core = CoreThread()

    async def count() -> int:
        done = 0
        for _ in range(3):
            await asyncio.sleep(0)
            done += 1
        return done

    assert core.submit(count()).result(10) == 3
    core.stop()


def test_nothing_is_started_before_the_first_coroutine() -> None:
    """Loading the extension costs no thread."""
    core = CoreThread()
    assert not core.running
    core.stop()
    assert not core.running


def test_stopping_cancels_what_still_runs_and_ends_the_thread() -> None:
    """A coroutine that would wait for ever does not keep it."""
    core = CoreThread()
    waiting = core.submit(asyncio.Event().wait())
    assert "claude-core" in names()
    core.stop()
    assert "claude-core" not in names()
    assert waiting.cancelled()


def test_a_stopped_thread_starts_anew() -> None:
    """`%reload_ext` is a stop and a start."""
    core = CoreThread()
    assert core.submit(asyncio.sleep(0, 1)).result(10) == 1
    core.stop()
    assert core.submit(asyncio.sleep(0, 2)).result(10) == 2
    core.stop()


def test_an_error_reaches_the_caller() -> None:
    """And the thread goes on."""
    core = CoreThread()

    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        core.submit(fail()).result(10)
    assert core.submit(asyncio.sleep(0, 1)).result(10) == 1
    core.stop()
