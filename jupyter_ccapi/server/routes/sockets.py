"""A session's clients, over WebSocket."""

import asyncio
import json
import struct
from collections import deque
from collections.abc import Mapping
from typing import Any

from jupyter_core.utils import ensure_async
from jupyter_server.base.websocket import WebSocketMixin
from tornado import web
from tornado.ioloop import PeriodicCallback
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from jupyter_ccapi.bridge.client import Client, Role
from jupyter_ccapi.openai.errors import invalid

from ..access import is_limited
from .base import BaseHandler, verb

#: The longest message that is taken, in bytes: there is room for an image.
MOST_BYTES = 16 * 1024 * 1024
# Beyond this the connection is closed; up to it the client is told.
_MOST_READ = 2 * MOST_BYTES
#: Seconds between two pings. Who answers neither is dropped, with this code.
PING_EVERY = 20.0
SILENT = 4407
_MOST_UNANSWERED = 2
# So many messages of a client wait for one that is not done yet, and as many bytes as
# one may have.
_MOST_WAITING = 64
# A ping is no longer than this; it is not worth looking for one in an image.
_PING_SIZE = 256


class SessionSocket(WebSocketMixin, WebSocketHandler, BaseHandler):
    """One client of a session. ``?last_event_id=N`` begins after that event, not with the first;
    ``?role=viewer`` sees and cannot act.
    """

    # Jupyter's pings count in milliseconds, Tornado's in seconds, by the same name, and Tornado
    # drops who needs longer than one of them for an image. Here neither is used.
    ping_interval = 0
    ping_timeout = 0
    max_message_size = _MOST_READ
    # A page that is open, and comes back when it was cut off, is no activity.
    _track_activity = False

    _role: Role = "viewer"
    _after: int | None = None
    _client: Client | None = None

    async def prepare(self) -> None:  # type: ignore[override]
        """See who is asking, as for any other route: Jupyter's own way for sockets knows no
        keys.
        """
        await BaseHandler.prepare(self)

    def check_origin(self, origin: str | None = None) -> bool:
        """Tell a page of another origin that it is kept out, by Jupyter's own rules."""
        if not super().check_origin(origin):
            raise web.HTTPError(
                403,
                "A page of %s may not connect here; the option ServerApp.allow_origin decides it.",
                self.get_origin(),
            )
        return True

    @verb("read")
    async def get(self, id: str) -> None:  # type: ignore[override]
        """Become a WebSocket, or say why not."""
        self._after = _event_id(self.get_query_argument("last_event_id", None))
        self._role = await self._role_for(self.get_query_argument("role", None))
        self._session = await self.gateway.sessions.get(self.principal, id)
        await super().get(id)

    async def open(self, id: str) -> None:
        """Join the session."""
        self.set_nodelay(True)
        self._unanswered = 0
        self._beat = PeriodicCallback(self._ping, PING_EVERY * 1000)
        self._beat.start()
        self._asked: deque[str | bytes] = deque()
        self._more = asyncio.Event()
        self._client = client = self._session.join(
            self._send,
            self.close,
            role=self._role,
            last_event_id=self._after,
            may_approve=self.gateway.sessions.may_approve(self.principal),
        )
        self._tasks = [asyncio.create_task(client.run()), asyncio.create_task(self._work(client))]

    async def on_message(self, message: str | bytes) -> None:
        """Have it done after those before it. One of them may wait long for the session's source:
        until then pings are answered all the same, and pongs heard.
        """
        assert self._client is not None
        self._unanswered = 0
        if _bytes_of(message) > MOST_BYTES:
            self._client.refuse(f"A message may have {MOST_BYTES // 2**20} MB at the most.")
        elif _is_ping(message):
            await self._client.take(message)
        elif len(self._asked) >= _MOST_WAITING or sum(map(len, self._asked)) > MOST_BYTES:
            self._client.refuse("Too much of what was asked before is not done yet: ask later.")
        else:
            self._asked.append(message)
        self._more.set()

    def on_pong(self, data: bytes) -> None:
        """The client is there."""
        self._unanswered = 0

    def on_close(self) -> None:
        """The client is gone."""
        if self._client is None:
            return
        self._beat.stop()
        self._client.leave()
        for task in self._tasks:
            task.cancel()

    async def _role_for(self, asked: str | None) -> Role:
        """What the client may be. Who may read, and not execute, can but see. Raises ``APIError``
        400 for a role that there is not.
        """
        if asked not in (None, "actor", "viewer"):
            raise invalid("role", f"role must be 'viewer' or left out, not {asked[:20]!r}.")
        may_act = await ensure_async(
            self.authorizer.is_authorized(self, self.current_user, "execute", self.auth_resource)
        )
        if asked == "viewer" or not may_act or (self.key is not None and is_limited(self.key)):
            return "viewer"
        return "actor"

    async def _send(self, text: str) -> None:
        """Send, and wait until the other side has room for more. Raises ``ConnectionError``.

        Tornado's ``write_message`` makes a task of each message, which takes as long as the rest.
        """
        connection = self.ws_connection
        stream = connection.stream if connection is not None else None
        if connection is None or stream is None or connection.is_closing():
            raise ConnectionError("The client is gone.")
        try:
            sent = stream.write(_frame(text))
            if stream.writing():
                await sent
        except StreamClosedError as error:
            raise ConnectionError("The client is gone.") from error

    async def _work(self, client: Client) -> None:
        """Do what the client asks, one after another."""
        while True:
            while self._asked:
                await client.take(self._asked.popleft())
            self._more.clear()
            await self._more.wait()

    def _ping(self) -> None:
        if self._unanswered >= _MOST_UNANSWERED:
            self._beat.stop()
            self.close(SILENT, "no answer to pings")
            return
        self._unanswered += 1
        try:
            self.ping()
        except WebSocketClosedError:
            self._beat.stop()


def _frame(text: str) -> bytes:
    """A text as one frame of a server's (RFC 6455, section 5.2)."""
    content = text.encode()
    length = len(content)
    if length < 126:
        return bytes((0x81, length)) + content
    if length <= 0xFFFF:
        return struct.pack("!BBH", 0x81, 126, length) + content
    return struct.pack("!BBQ", 0x81, 127, length) + content


def _event_id(asked: str | None) -> int | None:
    """Raises ``APIError`` 400 for what is no number of an event."""
    if asked is None:
        return None
    if not (asked.isascii() and asked.isdecimal() and len(asked) <= 18):
        raise invalid(
            "last_event_id", f"last_event_id must be a number from 0 on, not {asked[:20]!r}."
        )
    return int(asked)


def _bytes_of(message: str | bytes) -> int:
    # A text of a quarter of the size cannot be too long, and need not be encoded to see that.
    if isinstance(message, bytes) or len(message) * 4 <= MOST_BYTES:
        return len(message)
    return len(message.encode("utf-8", "surrogatepass"))


def _is_ping(message: str | bytes) -> bool:
    if isinstance(message, bytes) or len(message) > _PING_SIZE:
        return False
    try:
        said: Any = json.loads(message)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, Mapping) and said.get("type") == "ping"


default_handlers = [(r"/ws/session/([\w.-]+)", SessionSocket)]
