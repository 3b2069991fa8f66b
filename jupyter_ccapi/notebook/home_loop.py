"""The loop that a kernel's user is at home on: callbacks of theirs run there, not on the core's."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar

T = TypeVar("T")

# The conversations whose turns wait for the code that runs here.
_held: contextvars.ContextVar[frozenset[str]] = contextvars.ContextVar("held", default=frozenset())


def waits_for_us(conversation: str) -> bool:
    """Whether a turn of this conversation waits for the code that asks."""
    return conversation in _held.get()


def called_back() -> bool:
    """Whether the code that asks runs within a turn: in a tool or a callback."""
    return bool(_held.get())


class HomeLoop:
    """Where callbacks run: the loop, and in it the cell, that has asked last.

    What a task prints or displays goes to the cell whose context it was made in
    (ipykernel keeps the parent in a context variable), so each callback gets that.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context = contextvars.copy_context()

    def enter(self) -> None:
        """From now on callbacks belong to whoever calls this."""
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()

    def wrap(
        self, call: Callable[..., Awaitable[T]], conversation: str
    ) -> Callable[..., Awaitable[T]]:
        """What the core is to call, on its own loop, in place of ``call``, in turns of this
        conversation.
        """

        @wraps(call)
        async def called(*given: Any, **named: Any) -> T:
            loop = self._loop
            assert loop is not None, "a turn was sent before anything is called back"

            async def run() -> T:
                return await call(*given, **named)

            context = self._context.copy()
            context.run(lambda: _held.set(_held.get() | {conversation}))
            running = context.run(asyncio.run_coroutine_threadsafe, run(), loop)
            return await asyncio.wrap_future(running)

        return called
