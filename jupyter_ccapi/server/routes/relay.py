"""Where a conversation that runs elsewhere comes in: ``jupyter ccapi relay``, and kernels."""

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from jupyter_server.auth.decorator import allow_unauthenticated
from tornado.websocket import WebSocketClosedError, WebSocketHandler, WebSocketProtocol13

from jupyter_ccapi.bridge.dialing import PING_INTERVAL, post
from jupyter_ccapi.bridge.link import MAX_FRAME
from jupyter_ccapi.bridge.remote import (
    MALFORMED,
    MAX_HELLO,
    Hello,
    Line,
    NotAdmitted,
    TryAgain,
    refuse,
)
from jupyter_ccapi.bridge.source import Refused
from jupyter_ccapi.store import StoreError

if TYPE_CHECKING:
    from ..gateway import Gateway

logger = logging.getLogger(__name__)

# Seconds for a hello to come.
_PATIENCE = 30.0
_NO_SECRET = "Send the session's secret as `Authorization: Bearer SECRET`."


class RelaySocket(WebSocketHandler):
    """One connection of a relay. It is not Jupyter's to say who that is: the secret of one session
    opens that session and nothing else, and nothing else opens this. Browsers are turned away, but
    for pages of this server: Tornado compares their origin with the host.
    """

    _line: Line | None = None
    _came = False

    @property
    def gateway(self) -> "Gateway":
        """The core of this server."""
        gateway: Gateway = self.settings["ccapi_gateway"]
        return gateway

    @property
    def ping_interval(self) -> float:
        """Seconds between two pings; Tornado closes what does not answer one before the next."""
        return PING_INTERVAL

    @property
    def max_message_size(self) -> int:
        """In bytes, of what strangers send; Tornado closes the connection beyond."""
        return MAX_HELLO

    @allow_unauthenticated
    async def get(self, id: str) -> None:
        """Upgrade to a WebSocket for whoever shows a secret; which one is right is looked at when
        it has said hello.
        """
        scheme, _, secret = self.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() not in ("bearer", "token") or not secret.strip():
            self.set_status(401)
            await self.finish(_NO_SECRET)
            return
        self._secret = secret.strip()
        await super().get(id)

    def open(self, id: str) -> None:
        """Wait for its hello."""
        self.set_nodelay(True)
        self._id = id
        self._expected = asyncio.get_running_loop().call_later(_PATIENCE, self._give_up)

    async def on_message(self, message: str | bytes) -> None:
        """Let it in, or take what it says."""
        if self._line is not None:
            self._line.take(message)
        elif not self._came:
            self._came = True
            self._expected.cancel()
            await self._let_in(message)

    def on_close(self) -> None:
        """Its session waits for it to come back."""
        self._expected.cancel()
        if self._line is not None:
            self._line.gone(self.close_reason or "the connection was lost")

    async def _let_in(self, message: str | bytes) -> None:
        try:
            hello = Hello.read(message)
            door = await self.gateway.sessions.door(self._id, self._secret, hello)
            if self.ws_connection is not None:
                self._line = door.open(self._secret, hello, _Out(self))
                assert isinstance(self.ws_connection, WebSocketProtocol13)
                self.ws_connection.params.max_message_size = MAX_FRAME
        except Refused as error:
            refuse(_Out(self), error)
        except StoreError as error:
            logger.warning("A relay of session %s was turned away: %s", self._id, error)
            refuse(_Out(self), TryAgain("The server cannot read its sessions now: try again."))

    def _give_up(self) -> None:
        refuse(_Out(self), NotAdmitted("There was no hello.", MALFORMED))


class _Out:
    """A handler as what frames are sent to."""

    def __init__(self, handler: WebSocketHandler) -> None:
        self._handler = handler

    def send(self, text: str) -> None:
        post(self._handler, text)

    def close(self, code: int, reason: str) -> None:
        with suppress(WebSocketClosedError):
            self._handler.close(code, reason)


default_handlers = [(r"/ws/cli/([\w.-]+)", RelaySocket)]
