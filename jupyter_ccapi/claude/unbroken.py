"""Work on files that is not left in the middle, whoever no longer waits for it."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def unbroken(function: Callable[[], T]) -> T:
    """Call a function in a thread and wait until it has returned; a cancellation is raised only
    then.
    """
    # Not a task: what cancels all tasks, as the end of a loop does, would cancel it, too.
    work = asyncio.get_running_loop().run_in_executor(None, function)
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        work.exception()
        raise cancelled
    return work.result()
