"""Follow a turn from the running cell: draw it as it comes, stop it when the cell is stopped."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from jupyter_ccapi.claude import Answer, Event, PermissionRequest, PermissionResolved, TurnEnd

from .dialog import Dialog
from .live import LiveTurn, failure_of
from .views import View


class Asks(Protocol):
    """How a person is asked for permission."""

    def ask(self, request: PermissionRequest, answer: Callable[[Answer], None]) -> None:
        """Put the question; it may be answered before this returns, or later."""

    def resolved(self, event: PermissionResolved) -> None:
        """It is answered."""

    def close(self) -> None:
        """The cell is over: nothing is to be answered any more."""


class Following:
    """One turn of a conversation, followed by one cell: `view` draws it, `asks` puts its
    questions. Drawing waits while code runs in the kernel, whose output is for the model.
    """

    def __init__(self, dialog: Dialog, turn: LiveTurn, asks: Asks, drawing: asyncio.Lock) -> None:
        self.end: TurnEnd | None = None
        self._dialog = dialog
        self._turn = turn
        self._asks = asks
        self._drawing = drawing

    def ask(self, request: PermissionRequest) -> None:
        """Put a question of the turn's."""
        self._asks.ask(request, lambda answer: self._turn.answer(request.id, answer))

    async def follow(self, view: View) -> TurnEnd:
        """Draw the turn until it has ended, and return its end.

        Raises `ClaudeError` where it failed. Cancelled, as by the stop button, it ends the turn
        and draws what that came to.
        """
        try:
            await self._draw(view)
        except asyncio.CancelledError:
            await self._stop(view)
            raise
        except BaseException:
            self._turn.begin_interrupt()  # nobody is there any more to answer what it asks
            raise
        finally:
            self._asks.close()
        failure = failure_of(self._turn)
        if failure is not None:
            view.close()
            raise failure
        assert self.end is not None
        return self.end

    async def _draw(self, view: View) -> None:
        """Draw at the view's own pace: what comes in between is drawn together."""
        while True:
            await self._turn.news()
            async with self._drawing:
                over = self._turn.over
                for event in self._turn.take():
                    self._take(event, view)
                view.draw()
            if over:
                return
            await asyncio.sleep(view.pause)

    def _take(self, event: Event, view: View) -> None:
        view.take(event)
        match event:
            case PermissionResolved():
                self._asks.resolved(event)
            case TurnEnd():
                self.end = event
                self._dialog.note(event)

    async def _stop(self, view: View) -> None:
        """End the turn and draw what it came to. A second press of the button skips the wait."""
        view.stopping()
        with suppress(asyncio.CancelledError):
            await self._turn.interrupt()
            if self._turn.over:
                for event in self._turn.take():
                    self._take(event, view)
        view.draw()
        view.close(stopped=True)
