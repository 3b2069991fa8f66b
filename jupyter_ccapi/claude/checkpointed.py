"""A turn between the snapshots before and after it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from .errors import ClaudeError
from .events import TurnEnd
from .record import Pointer
from .timeline import Timeline
from .turn import Turn

logger = logging.getLogger(__name__)


async def checkpointed(
    timeline: Timeline,
    turn: Turn,
    words: str,
    head: Callable[[], Pointer],
    answer: Callable[[], Awaitable[TurnEnd]],
) -> TurnEnd:
    """Run a turn by ``answer``, whose prompt's ``words`` are a checkpoint; ``head`` tells where its
    conversation stands.
    """
    number = await timeline.begin(words, head=head())
    try:
        end = await answer()
    except BaseException:
        await _ended(timeline, turn, number, head())
        raise
    try:
        kept = await _ended(timeline, turn, number, head())
    except asyncio.CancelledError:
        if not turn.interrupted:
            raise
        # It was interrupted when all was said already: that is not lost, and was noted.
        kept = True
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
    return replace(end, checkpoint=number if kept else None)


async def _ended(timeline: Timeline, turn: Turn, number: int, head: Pointer) -> bool:
    """Note that the turn of a checkpoint is over; False where that could not be kept."""
    try:
        await timeline.end(
            number,
            anchor=turn.anchor if turn.started else None,
            head=head,
            edited=turn.edited,
            variables=turn.variables,
        )
    except ClaudeError as error:
        # The answer is there and paid for: it is not lost over this.
        logger.warning("A turn's checkpoint is not complete: %s", error)
        return False
    return True
