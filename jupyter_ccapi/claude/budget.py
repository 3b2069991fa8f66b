"""End a turn whose cost has reached its bound.

What a turn costs the CLI tells with its result, and anybody who asks it meanwhile (``get_usage``,
not public, CLI 2.1.330: all models and sub-agents are in it, each message once it is complete). Its
own bound is a flag of the process: it counts over all turns, and the model is told of it.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from claude_agent_sdk import AssistantMessage, StreamEvent
from claude_agent_sdk import Message as SDKMessage

from .errors import ControlRefused, InvalidOption
from .transport import events_of

if TYPE_CHECKING:
    from .process import Process

# So many questions in a row may stay without an answer.
_MOST_MISSED = 3


class Budget:
    """Watches one turn: ``spent`` says that it was ended, by ``stop``, since it has cost as much as
    it may (``usd``; None: anything).
    """

    def __init__(self, process: "Process", usd: float | None, stop: Callable[[], None]) -> None:
        self.spent = False
        self._process = process
        self._usd = usd
        self._stop = stop
        self._before = 0.0
        self._asking: asyncio.Task[None] | None = None
        self._news = False
        self._missed = 0

    async def begin(self) -> None:
        """Ask what the process has cost before the turn. Raises ``InvalidOption`` where this CLI
        does not tell.
        """
        if self._usd is None:
            return
        try:
            self._before = _cost(await self._process.control("get_usage"))
        except ControlRefused as refusal:
            raise InvalidOption(
                "budget_usd",
                "This version of Claude Code does not tell what a turn costs before its end, so no "
                "budget can be kept. Set none, or claude-agent-sdk's own max_budget_usd.",
            ) from refusal

    def notice(self, message: SDKMessage) -> None:
        """Ask again where a message of the model's is complete."""
        if self._usd is None:
            return
        ended = isinstance(message, StreamEvent) and any(
            event.get("type") == "message_stop" for event in events_of(message.event)
        )
        # Of a sub-agent's messages nothing is streamed.
        if ended or (isinstance(message, AssistantMessage) and message.parent_tool_use_id):
            self._news = True
            if self._asking is None or self._asking.done():
                self._asking = asyncio.get_running_loop().create_task(self._ask())

    def end(self) -> None:
        """The turn is over."""
        if self._asking is not None:
            self._asking.cancel()

    async def _ask(self) -> None:
        while self._news and not self.spent:
            self._news = False
            try:
                usage = await self._process.glance("get_usage")
                cost = self._before if usage is None else _cost(usage)
            except ControlRefused:
                usage, cost = None, self._before
            # Too busy to answer now and then; one that never does is not let go on unwatched.
            self._missed = self._missed + 1 if usage is None else 0
            assert self._usd is not None
            if cost - self._before >= self._usd or self._missed >= _MOST_MISSED:
                self.spent = True
                self._stop()


def _cost(usage: dict[str, Any]) -> float:
    session = usage.get("session")
    if not isinstance(session, dict) or "total_cost_usd" not in session:
        raise ControlRefused("get_usage", f"no total cost in {sorted(usage)}")
    return float(session["total_cost_usd"] or 0.0)
