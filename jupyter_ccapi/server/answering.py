"""One request being answered: its turn, what of it is said, and what is kept of it."""

from collections.abc import Iterator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from jupyter_ccapi.claude import Message, Turn
from jupyter_ccapi.openai.answer import Answer, Piece
from jupyter_ccapi.openai.errors import APIError
from jupyter_ccapi.openai.request import Request

from .threads import Thread, Threads


class Answering:
    """A turn under way for a request. ``async with`` interrupts it when the block is left early,
    and then lets the next request of its conversation go on.
    """

    def __init__(
        self,
        request: Request,
        turn: Turn,
        answer: Answer,
        thread: Thread,
        threads: Threads,
        held: AsyncExitStack,
    ) -> None:
        self.request = request
        self.turn = turn
        self.answer = answer
        self.thread = thread
        self._threads = threads
        self._held = held

    async def read(self) -> Iterator[Piece]:
        """The pieces that have come since the last call; ``over`` says when there are no more.
        Raises ``ClaudeError``; reading the pieces raises ``APIError``.
        """
        if self.answer.satisfied:
            await self.turn.interrupt()
        return self.answer.feed(await self.turn.read())

    @property
    def over(self) -> bool:
        """Whether the answer is complete."""
        return self.answer.ended is not None

    @property
    def added(self) -> list[Message]:
        """The messages that the conversation has more after this turn."""
        told = self.turn.messages
        *before, last = [*self.thread.new, self.answer.message(told)]
        if told and len(told) > 1:
            # As the model knows them: with the calls of Claude Code's own tools.
            # The first of them is the prompt, with what stood before it unanswered.
            before = [*self.thread.new, *told[1:-1]]
        return [*before, last] if last.blocks else before

    async def keep(self) -> None:
        """Keep what the turn has added to its conversation. Raises ``APIError``."""
        await self._threads.record(self.thread, self.added)

    def mark(self, error: APIError) -> APIError:
        """An error of this turn; it is not to be asked for again by a program where Claude Code
        may have changed something already.
        """
        if self.answer.has_acted:
            error.should_retry = False
        return error

    async def __aenter__(self) -> Self:
        """Read the answer in a block."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the turn, and let the conversation go."""
        try:
            await self.turn.interrupt()
        finally:
            await self._held.aclose()
