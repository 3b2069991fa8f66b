"""Ask once, in a conversation that ends with its answer."""

from collections.abc import Sequence

from .conversation import Conversation
from .history import Content, Message
from .options import Options
from .pool import Pool
from .turn import Turn


def query(
    pool: Pool,
    prompt: Content,
    options: Options | None = None,
    *,
    owner: str = "",
    history: Sequence[Message] = (),
    parks: bool = True,
) -> Turn:
    """Ask once: a turn of a conversation that ends with it and leaves no transcript. Without
    ``parks`` no process waits for the client's tools: what the turn has cost is told at once.
    """
    conversation = Conversation(
        pool, options, owner=owner, history=history, persist=False, parks=parks
    )
    return conversation.send(prompt)
