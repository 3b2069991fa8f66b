"""A session's clients, over WebSocket."""

import asyncio
import struct
from collections import deque
from collections.abc import Mapping
from traceback import format_tb
from typing import Any

from jupyter_core.utils import ensure_async
from jupyter_server.base.websocket import WebSocketMixin
from tornado import web
from tornado.ioloop import PeriodicCallback
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from jupyter_ccapi.bridge.client import Client, Role
from jupyter_ccapi.bridge.commands import read_command
from jupyter_ccapi.bridge.source import Refused
from jupyter_ccapi.openai.errors import APIError, invalid
from jupyter_ccapi.store import StoreError

from ..access import is_limited
from .base import BaseHandler, verb

#: The longest message that is taken, in bytes: there is room for an image.
MOST_BYTES = 16 * 1024 * 1024
# Beyond this the connection is closed; up to it the client is told.
_MOST_READ = 2 * MOST_BYTES
#: Seconds between two pings. Who answers neither is dropped, with this code.
PING_EVERY = 20.0
SILENT = 4407
#: The key with which a client came is not valid any more.
KEY_GONE = 4401
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
        self._asked: deque[str | bytes] = deque()
        self._at_work = False
        self._client = client = self._session.join(
            self._send,
            self.close,
            role=self._role,
            last_event_id=self._after,
            may_approve=self.gateway.sessions.may_approve(self.principal),
        )
        self._telling = asyncio.create_task(client.run())
        self._beat = PeriodicCallback(lambda: self._ping(client), PING_EVERY * 1000)
        self._beat.start()

    async def on_message(self, message: str | bytes) -> None:
        """Have it done after those before it. One of them may wait long for the session's source:
        until then pings are answered all the same, and pongs heard.
        """
        client = self._client
        assert client is not None
        self._unanswered = 0
        if _bytes_of(message) > MOST_BYTES:
            client.refuse(f"A message may have {MOST_BYTES // 2**20} MB at the most.")
        elif len(message) <= _PING_SIZE and _read(message).get("type") == "ping":
            await client.take(message)
        elif len(self._asked) >= _MOST_WAITING or sum(map(len, self._asked)) > MOST_BYTES:
            client.refuse("Too much of what was asked before is not done yet: ask later.")
        else:
            self._asked.append(message)
            if not self._at_work:
                self._at_work = True
                self.gateway.sessions.work(self._work(client))

    def on_pong(self, data: bytes) -> None:
        """The client is there."""
        self._unanswered = 0

    def on_close(self) -> None:
        """The client is gone; what it has asked until then is done all the same."""
        if self._client is None:
            return
        self._beat.stop()
        self._client.leave()
        self._telling.cancel()

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
        """Do what the client has asked, one after another."""
        try:
            while self._asked:
                await self._do(client, self._asked.popleft())
        finally:
            self._at_work = False

    async def _do(self, client: Client, message: str | bytes) -> None:
        """Do one thing that the client asks; whatever goes wrong, the next has its turn."""
        try:
            if await self._may_still(client, message):
                await client.take(message)
        except StoreError as error:
            client.refuse(str(error), _read(message))
        except Exception as error:
            # Its own words may be what somebody said: where it came from must do.
            self.log.error(
                "A command of session %s failed: %s\n%s",
                self._session.id,
                type(error).__name__,
                "".join(format_tb(error.__traceback__)),
            )
            why = "This failed for a reason that nobody foresaw; the server's log says more."
            client.refuse(why, _read(message))

    async def _may_still(self, client: Client, message: str | bytes | None = None) -> bool:
        """Whether the key that the client came with is valid still; it is told if not (with its
        message as what was not done), and its connection ends.
        """
        try:
            await self.check_key()
        except APIError as error:
            over = error.status == 401
            if over or message is not None:
                client.refuse(error.message, None if message is None else _read(message))
            if over:
                self._asked.clear()
                await client.end(KEY_GONE, "the API key is not valid any more")
            return False
        return True

    async def _ping(self, client: Client) -> None:
        if self._unanswered >= _MOST_UNANSWERED:
            self._beat.stop()
            self.close(SILENT, "no answer to pings")
            return
        self._unanswered += 1
        try:
            self.ping()
        except WebSocketClosedError:
            self._beat.stop()
            return
        await self._may_still(client)


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


def _read(message: str | bytes) -> Mapping[str, Any]:
    """What a client says; nothing where that is no command."""
    try:
        return read_command(message)
    except Refused:
        return {}


default_handlers = [(r"/ws/session/([\w.-]+)", SessionSocket)]
