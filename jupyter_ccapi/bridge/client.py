"""One client of a session: it reads the log at its own pace."""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from jupyter_ccapi.store import StoreError

from .commands import check_command, read_command
from .log import Entry
from .source import Refused

if TYPE_CHECKING:
    from .session import Session

logger = logging.getLogger(__name__)

#: Who may act, and who may only see.
Role = Literal["actor", "viewer"]

#: A client that was too slow is closed with this; it may come back with ``last_event_id``.
TOO_SLOW = 4408
#: The session is no more.
GONE = 4410

# While one message is on its way to a client, so much may happen before it counts as stalled.
_MOST_BEHIND = 1_000
_MOST_BYTES = 32 * 1024 * 1024
# So many messages are sent before all others have their turn.
_IN_A_ROW = 20
# What waits for this client alone: answers, and changes of the session's state.
_MOST_OWN = 200
# A session that ends waits so many seconds for its clients to be sent the last of it.
_LAST_WORDS = 0.5


class Client:
    """A connection. ``send`` returns when the other side's buffers have taken the text, ``close``
    ends it with a code and a reason. ``cursor`` is the last event that it was sent.
    """

    def __init__(
        self,
        session: "Session",
        id: str,
        send: Callable[[str], Awaitable[None]],
        close: Callable[[int, str], None],
        *,
        role: Role,
        may_approve: bool,
        cursor: int,
    ) -> None:
        self.id = id
        self.role = role
        self.may_approve = may_approve
        self.cursor = cursor
        self._session = session
        self._send = send
        self._close = close
        self._own: deque[str] = deque()
        self._news = asyncio.Event()
        self._closed = False
        self._status_due = False
        self._end: tuple[int, str] | None = None
        self._gone = asyncio.Event()
        # The log's last number and size when the message that is on its way set out.
        self._set_out: tuple[int, int] | None = None

    async def run(self) -> None:
        """Send what has happened, and what happens, until the client is closed or gone."""
        log, seen = self._session.log, self.cursor
        try:
            await self._out(json.dumps(self._session.greeting(self)))
            while not self._closed and (entries := await log.after(self.cursor)):
                await self._out_all(entries)
            for text in self._session.pending_before(seen):
                await self._out(text)
            while not self._closed:
                self._news.clear()
                entries = await log.after(self.cursor)
                await self._out_all(entries)
                await self._out_own()
                if entries or self._own or self._status_due or self._closed:
                    continue
                if self._end is not None:
                    self.close(*self._end)
                    return
                await self._news.wait()
        except ConnectionError:
            self.leave()
        except StoreError as error:
            logger.warning("What happened in session %s cannot be read: %s", log.session_id, error)
            self.close(1011, "the log cannot be read")

    async def take(self, message: str | bytes) -> None:
        """Do what the client asks; what is wrong with it the client is told."""
        asked: dict[str, Any] = {}
        try:
            asked = read_command(message)
            check_command(asked)
            answer = await self._session.do(self, asked)
        except Refused as error:
            self.refuse(str(error), asked)
        else:
            if answer is not None:
                self.tell({**answer, **_reply_to(asked)})

    def refuse(self, why: str, asked: Mapping[str, Any] | None = None) -> None:
        """Tell the client that something it asked was not done."""
        reply = _reply_to(asked or {}) or (
            {"in_reply_to": asked["type"][:64]} if asked and "type" in asked else {}
        )
        self.tell({"type": "error", "error": why, **reply})

    def tell(self, frame: Mapping[str, Any]) -> None:
        """Send this client what is no event."""
        if len(self._own) >= _MOST_OWN:
            self.close(TOO_SLOW, "too slow")
            return
        self._own.append(json.dumps(frame))
        self._news.set()

    def tell_status(self) -> None:
        """The session's state has changed: it is sent as it is when this client gets to it."""
        self._status_due = True
        self._news.set()

    def wake(self) -> None:
        """There is something new in the log."""
        self._news.set()
        if self._set_out is not None:
            behind = self._session.log.last_id - self._set_out[0]
            size = self._session.log.size - self._set_out[1]
            if behind > _MOST_BEHIND or size > _MOST_BYTES:
                self.close(TOO_SLOW, "too slow")

    def close(self, code: int, reason: str) -> None:
        """End the connection."""
        if not self._closed:
            self.leave()
            self._close(code, reason)

    def say_goodbye(self, code: int, reason: str) -> None:
        """End the connection when it has been sent all there is."""
        self._end = (code, reason)
        self._news.set()

    async def end(self, code: int, reason: str) -> None:
        """End the connection when it has been sent all there is; soon, in any case."""
        self.say_goodbye(code, reason)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                await self._gone.wait()
        self.close(code, reason)

    def leave(self) -> None:
        """The connection has ended."""
        self._closed = True
        self._gone.set()
        self._news.set()
        self._session.left(self)

    async def _out_own(self) -> None:
        while self._own and not self._closed:
            await self._out(self._own.popleft())
        if self._status_due and not self._closed:
            self._status_due = False
            await self._out(json.dumps(self._session.status()))

    async def _out_all(self, entries: Sequence[Entry]) -> None:
        for place, entry in enumerate(entries, 1):
            if self._closed:
                return
            await self._out(entry.text)
            self.cursor = entry.id
            if place % _IN_A_ROW == 0:
                # Sending need not have waited for anything.
                await asyncio.sleep(0)

    async def _out(self, text: str) -> None:
        log = self._session.log
        self._set_out = (log.last_id, log.size)
        await self._send(text)
        self._set_out = None


def _reply_to(asked: Mapping[str, Any]) -> dict[str, Any]:
    id = asked.get("id")
    return {"in_reply_to": id} if isinstance(id, str) and len(id) <= 128 else {}
