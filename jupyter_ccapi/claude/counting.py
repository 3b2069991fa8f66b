"""How long a conversation is, in the model's own count."""

from collections.abc import Sequence
from uuid import uuid4

from .errors import InvalidOption
from .history import Message, Session
from .options import Options
from .pool import Pool
from .slots import Wanted


async def count_tokens(
    pool: Pool, options: Options, messages: Sequence[Message], *, owner: str = ""
) -> int:
    """How many tokens the model would read: system prompt, tools and messages.

    Claude Code asks the model's API to count them, and where that cannot, estimates. No answer is
    asked for. Raises ``ClaudeError``.
    """
    wanted = Wanted.of(options, Session(str(uuid4()), persist=False))
    slot = await pool.claim(owner, wanted)
    try:
        process = await pool.prepare(slot, wanted)
        await pool.find_out()
        if not pool.capabilities.seed:
            raise InvalidOption(
                "messages", "This version of Claude Code cannot count what it was not asked."
            )
        await process.hold(messages)
        return await process.context_tokens()
    finally:
        # It may serve another conversation from here on.
        pool.park(slot, loose=True)
