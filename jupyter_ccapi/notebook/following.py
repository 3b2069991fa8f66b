"""Follow a turn from the running cell: draw it as it comes, stop it when the cell is stopped."""

import asyncio
from contextlib import suppress

from jupyter_ccapi.claude import ClaudeError

from .errors import TurnStopped, cell_error
from .session import LiveTurn
from .views import View


async def follow(turn: LiveTurn, view: View) -> None:
    """Draw a turn until it has ended.

    Raises `CellError` where it failed, `TurnStopped` when the cell was cancelled: the stop button.
    """
    try:
        await _draw(turn, view)
        stopped = False
    except asyncio.CancelledError:
        stopped = True
    # Raised out here: IPython prints a whole traceback for an error whose context is a group of
    # errors, as some of the SDK's are.
    if stopped:
        await _stop(turn, view)
        raise TurnStopped
    if turn.failure is not None:
        view.close()
        raise cell_error(turn.failure) if isinstance(turn.failure, ClaudeError) else turn.failure


async def _draw(turn: LiveTurn, view: View) -> None:
    """Draw at the view's own pace: what comes in between is drawn together."""
    while True:
        for event in await turn.arrivals():
            view.take(event)
        view.draw()
        if turn.over:
            return
        await asyncio.sleep(view.pause)


async def _stop(turn: LiveTurn, view: View) -> None:
    """End the turn and draw what it came to. A second press of the button skips the wait."""
    view.stopping()
    with suppress(asyncio.CancelledError):
        await turn.interrupt()
        if turn.over:
            for event in await turn.arrivals():
                view.take(event)
    view.draw()
    view.close(stopped=True)
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()  # dealt with: the task goes on
