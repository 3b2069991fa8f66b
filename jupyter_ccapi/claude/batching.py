"""Many prompts at once, each on its own."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from .asking_once import query
from .errors import ClaudeError
from .events import TurnEnd
from .history import Content
from .options import Options
from .pool import Pool


async def batch(
    pool: Pool,
    prompts: Sequence[Content],
    options: Options | None = None,
    *,
    max_concurrency: int = 4,
    owner: str = "",
    on_done: Callable[[int, TurnEnd | ClaudeError], None] = lambda place, result: None,
) -> list[TurnEnd | ClaudeError]:
    """Ask all of them, so many at once, and return in their order how each ended; the failure of
    one is its result, and the others go on. ``on_done`` is called as they end, with the place of
    the prompt.

    Nobody is asked for permission. Cancelled, the turns under way are interrupted first.
    """
    options = replace(options or Options(), asks=False)
    places = asyncio.Semaphore(max(max_concurrency, 1))

    async def ask(place: int) -> TurnEnd | ClaudeError:
        result: TurnEnd | ClaudeError
        async with places:
            try:
                async with query(pool, prompts[place], options, owner=owner) as turn:
                    result = await turn.finish()
            except ClaudeError as error:
                result = error
        on_done(place, result)
        return result

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(place)) for place in range(len(prompts))]
    return [task.result() for task in tasks]
