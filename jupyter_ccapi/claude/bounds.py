"""What the model may write in one process, and that a cut off answer is not asked for again.

Left alone, the CLI has the model go on where its bound of tokens ended an answer, up to three
times. Neither a setting nor an interrupt keeps it from that: the interrupt comes too late for every
other of them. So while a request is under way, the CLI is told that no further one fits the model
(a bound for tests of its makers', CLAUDE_CODE_BLOCKING_LIMIT_OVERRIDE): it then ends the turn by
itself. Where it could not be told in time, it is killed (CLI 2.1.330).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

# Each change takes a CLI 10 ms, which an answer without a bound of its own pays only when it takes
# longer than this, in seconds: one that the CLI's own bound ends takes minutes.
_LONG = 1.0
# How long a CLI may take to answer what it answers in a millisecond.
_PATIENCE = 5.0


class Bounds:
    """The bounds of one process; ``max_tokens`` is the most that its model writes at once, None
    the CLI's own bound. ``control`` sends a control request, ``kill`` ends the process at once.
    ``killed`` says that it had to. ``gate`` is closed while the CLI may ask the model no further:
    no tool may answer then.
    """

    def __init__(
        self,
        control: Callable[..., Awaitable[Any]],
        kill: Callable[[], None],
        gate: asyncio.Event,
    ) -> None:
        self.max_tokens: int | None = None
        self.killed = False
        self._control = control
        self._kill = kill
        self._gate = gate
        self._guards = False
        self._in_turn = False
        self._asked = 0.0
        # Whether it is to ask further, and whether it has said that it does not.
        self._wanted, self._closed = True, False
        self._task: asyncio.Task[None] | None = None

    async def set(self, most: int | None) -> None:
        """Have the model write so much at most. Raises what ``control`` raises, or
        ``TimeoutError``.
        """
        if most != self.max_tokens:
            self.max_tokens = most
            await self._tell(asks=True)

    async def close(self) -> None:
        """Have the CLI ask the model nothing until a turn has ended."""
        self._change(asks=False)
        await self.settled()

    def begin(self, *, guards: bool) -> None:
        """A turn begins; ``guards``: with nothing in it but what the model and our tools say, so
        that we know when the model may be asked again.
        """
        self._guards, self._in_turn = guards, True

    def end(self) -> None:
        """The turn is over; ``settled`` waits until the next one may begin."""
        self._in_turn = False
        if not self._wanted:
            self._change(asks=True)

    async def settled(self) -> None:
        """Wait until the CLI has taken up what it was told."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def notice(self, message: Mapping[str, Any]) -> None:
        """Take note of what the CLI says, as soon as it does."""
        if not self._in_turn or message.get("parent_tool_use_id"):
            return
        match message:
            case {"type": "system", "subtype": "status", "status": "requesting"}:
                self._asked = time.monotonic()
                if self._guards and self.max_tokens is not None:
                    self._change(asks=False)
            case {
                "type": "stream_event",
                "event": {"type": "message_delta", "delta": {"stop_reason": str(reason)}},
            }:
                self._stopped(reason)
            case {"type": "stream_event"} if self._guards and self._wanted:
                if time.monotonic() - self._asked > _LONG:
                    self._change(asks=False)

    def _stopped(self, reason: str) -> None:
        """The model's message is complete."""
        if reason != "max_tokens":
            if not self._wanted:
                self._change(asks=True)
        elif self._closed:
            # A structured answer that is whole may be taken up: nothing is asked after it.
            self._gate.set()
        else:
            # What it is told now it may read too late.
            self.killed = True
            self._kill()

    def _change(self, *, asks: bool) -> None:
        self._gate.clear()
        self._wanted, self._closed = asks, False
        before = self._task
        self._task = asyncio.get_running_loop().create_task(self._after(before, asks=asks))

    async def _after(self, before: "asyncio.Task[None] | None", *, asks: bool) -> None:
        if before is not None:
            await asyncio.wait([before])
        try:
            with suppress(Exception):  # it is gone, or hangs: its turn will say so
                await self._tell(asks=asks)
                self._closed = not asks
        finally:
            if asks and self._wanted:
                self._gate.set()

    async def _tell(self, *, asks: bool) -> None:
        """Not public: ``apply_flag_settings`` sets variables in a CLI that runs. The capability
        probe finds out whether both of these work.
        """
        variables = {
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(self.max_tokens or ""),
            "CLAUDE_CODE_BLOCKING_LIMIT_OVERRIDE": "" if asks else "1",
        }
        async with asyncio.timeout(_PATIENCE):
            await self._control("apply_flag_settings", settings={"env": variables})
