"""One prompt on its way, and its events."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .asking import Answer, Asking
from .edits import EDITING
from .errors import ClaudeError, ConversationClosed, InvalidOption, TurnFailed
from .events import Event, ToolCall, ToolResult, TurnEnd, Usage
from .history import Message
from .record import Pointer
from .slots import Warmth

logger = logging.getLogger(__name__)


class Turn:
    """One prompt on its way. Iterate over it for its events; the last is a ``TurnEnd``.

    A turn runs by itself, whether or not somebody reads it. ``async with turn:`` interrupts it
    when the block is left before the end, so that nobody pays for an answer that nobody reads.
    ``started`` is whether the CLI took the prompt up, ``warmth`` how it came to its process.
    ``messages`` are, after the end, the prompt and all that the turn has added to it, as the model
    knows them: a history that goes on is the old one and these; None where that is in doubt.
    ``anchor`` is where the prompt stands, once it was taken up; ``edited`` are the files that
    Claude Code's own tools have changed, ``variables`` what code in a kernel has set, as far as
    whoever runs it says so.
    """

    def __init__(self, run: "Callable[[Turn], Coroutine[Any, Any, TurnEnd]]") -> None:
        self.end: TurnEnd | None = None
        self.interrupted = False
        self.started = False
        self.warmth: Warmth | None = None
        self.messages: list[Message] | None = None
        self.anchor: Pointer | None = None
        # How often the permission mode had been changed when it began.
        self.changes = 0
        self._edits: dict[str, Path] = {}
        self.variables: list[str] = []
        self._stop: Callable[[], None] | None = None
        self._asking: Asking | None = None
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._failure: ClaudeError | None = None
        self._told = False
        self._task = asyncio.get_running_loop().create_task(run(self))
        # Not in the task itself: one that is cancelled before its first step never runs.
        self._task.add_done_callback(self._settle)

    def __aiter__(self) -> Self:
        """Iterate over the events that have not been read yet."""
        return self

    async def __anext__(self) -> Event:
        """The next event. Raises ``ClaudeError`` where the turn failed. Cancelling the wait loses
        nothing.
        """
        waited = await self._wait()
        if self._events:
            return self._events.popleft()
        if waited and self.end is not None:
            return self.end  # another reader took it, and this one waits for it too
        raise StopAsyncIteration

    async def read(self) -> list[Event]:
        """All events that have come since the last one was read, at least one; none at all once
        the turn is over. Raises and may be cancelled as iterating does.
        """
        await self._wait()
        events = list(self._events)
        self._events.clear()
        return events

    async def _wait(self) -> bool:
        """Wait for an event or for the end, and say whether that took waiting."""
        waited = False
        while not self._events:
            if self._failure is not None and (waited or not self._told):
                self._told = True
                raise self._failure
            if self.end is not None or self._failure is not None:
                break
            waited = True
            self._arrived.clear()
            await self._arrived.wait()
        return waited

    def note(self, event: Event) -> None:
        """Keep in mind what an event says about files."""
        if isinstance(event, ToolCall) and event.name in EDITING:
            path = event.input.get("file_path") or event.input.get("notebook_path")
            if isinstance(path, str):
                self._edits[event.id] = Path(path)
        elif isinstance(event, ToolResult) and event.is_error:
            self._edits.pop(event.id, None)

    @property
    def edited(self) -> list[Path]:
        """The files that Claude Code's own tools have changed, or may have: not all have ended."""
        return list(self._edits.values())

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        self._arrived.set()

    async def finish(self) -> TurnEnd:
        """Wait for the end and return it. Raises ``ClaudeError`` where the turn failed."""
        await asyncio.wait([self._task])
        if self._failure is not None:
            raise self._failure
        assert self.end is not None
        return self.end

    async def interrupt(self) -> None:
        """End the turn, not the conversation; its ``TurnEnd`` says ``interrupted``. Returns when
        it has ended. Cancelling the wait takes nothing back.
        """
        if not self._task.done():
            self.interrupted = True
            if self._stop is None:
                self._task.cancel()
            else:
                self._stop()
        await asyncio.wait([self._task])

    def answer(self, request_id: str, answer: Answer) -> None:
        """Answer a ``PermissionRequest`` of this turn. Raises ``InvalidOption`` where no request of
        this id waits: the first answer counts.
        """
        if self._asking is None:
            raise InvalidOption("request_id", "The turn does not wait for any permission.")
        self._asking.answer(request_id, answer)

    async def __aenter__(self) -> Self:
        """Read the turn in a block that interrupts it when left early."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Interrupt the turn unless it is over."""
        await self.interrupt()

    def outcome_of(self, error: BaseException) -> TurnEnd | ClaudeError:
        """How a turn ends in which this was raised."""
        match error:
            case asyncio.CancelledError():
                return _interrupted() if self.interrupted else ConversationClosed()
            case ClaudeError():
                return error
        return TurnFailed(
            "The turn failed inside jupyter_ccapi; the log of the server or kernel says more."
        )

    def _settle(self, task: "asyncio.Task[TurnEnd]") -> None:
        """Say how the turn ended."""
        outcome: TurnEnd | ClaudeError
        if task.cancelled():
            outcome = self.outcome_of(asyncio.CancelledError())
        elif (error := task.exception()) is None:
            outcome = task.result()
        else:
            outcome = self.outcome_of(error)
            if outcome is not error:
                logger.error("A turn failed in a way that nobody foresaw", exc_info=error)
        if isinstance(outcome, TurnEnd):
            self.end = outcome
            self._tell(outcome)
        else:
            self._failure = outcome
            self._arrived.set()


def _interrupted() -> TurnEnd:
    """The end of a turn that was stopped before the CLI was told of it."""
    return TurnEnd("interrupted", "", None, "", Usage(), 0.0, 0.0)
