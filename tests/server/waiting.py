"""Wait for what has no event of its own."""

import asyncio
from collections.abc import Callable


async def eventually(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    """Return as soon as the condition holds; fail if it does not within the time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - other processes' states cannot be awaited
            await asyncio.sleep(0.01)
