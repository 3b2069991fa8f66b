"""Connecting to a server's WebSocket: addresses, certificates, and errors that people can read."""

import asyncio
import ssl
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from .link import MAX_FRAME

if TYPE_CHECKING:
    from tornado.websocket import WebSocketClientConnection, WebSocketHandler

#: Seconds between two pings; who does not answer one before the next is dead.
PING_INTERVAL = 20

# Seconds for a connection to be made, and to be closed.
_PATIENCE, _GRACE = 30.0, 2.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


class CannotConnect(Exception):
    """There is no connection; says why, in a sentence."""


def socket_url(url: str) -> str:
    """The address of a WebSocket by a URL as people write it. Raises ``CannotConnect``."""
    try:
        parts = urlsplit(url.strip())
        named = bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise CannotConnect(f"{url!r} is no URL: {error}.") from None
    if parts.scheme not in _SCHEMES or not named:
        raise CannotConnect(f"{url!r} is no URL like wss://host/ws/cli/ID.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise CannotConnect("The URL must hold nothing but an address: a secret never goes there.")
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, parts.path, "", ""))


def is_exposed(url: str) -> bool:
    """Whether what goes there can be read on its way."""
    parts = urlsplit(url)
    return parts.scheme == "ws" and parts.hostname not in _LOOPBACK


def trusting(cafile: str | None, url: str) -> ssl.SSLContext | None:
    """What to trust besides the system's certificates; None for a connection without any. A server
    on this machine is known by its certificate, which seldom names the loopback address. Raises
    ``CannotConnect``.
    """
    parts = urlsplit(url)
    if parts.scheme != "wss":
        return None
    context = ssl.create_default_context()
    if cafile is not None:
        try:
            context.load_verify_locations(cafile)
        except OSError as error:
            raise CannotConnect(f"No certificate can be read from {cafile}: {error}.") from None
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = parts.hostname not in _LOOPBACK
    return context


async def dial(url: str, secret: str, tls: ssl.SSLContext | None) -> "WebSocketClientConnection":
    """Connect, showing the secret. Raises ``CannotConnect``."""
    from tornado.httpclient import HTTPRequest
    from tornado.websocket import websocket_connect

    request = HTTPRequest(
        url,
        headers={"Authorization": f"Bearer {secret}"},
        connect_timeout=_PATIENCE,
        request_timeout=_PATIENCE,
        ssl_options=tls,
    )
    connecting = asyncio.ensure_future(
        websocket_connect(request, ping_interval=PING_INTERVAL, max_message_size=MAX_FRAME)
    )
    try:
        socket = await asyncio.shield(connecting)
    except asyncio.CancelledError:
        connecting.add_done_callback(_close)
        raise
    except Exception as error:  # Tornado lets through whatever happens below it.
        raise CannotConnect(f"{url} cannot be connected to: {_why(error)}") from error
    if socket.protocol is not None:
        socket.protocol.set_nodelay(True)
    return socket


def post(socket: "WebSocketClientConnection | WebSocketHandler", text: str) -> None:
    """Send a frame, if the connection is still there, and do not wait for it."""
    from tornado.websocket import WebSocketClosedError

    with suppress(WebSocketClosedError):
        socket.write_message(text).add_done_callback(lambda sent: sent.exception())


async def hang_up(socket: "WebSocketClientConnection", reason: str) -> None:
    """Close a connection, and wait a little until the other side has, too."""
    over = socket.protocol is None or socket.protocol.is_closing()
    socket.close(1000, reason)
    if over:
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(_GRACE):
            while await socket.read_message() is not None:
                pass


def _close(connecting: "asyncio.Future[WebSocketClientConnection]") -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()


def _why(error: Exception) -> str:
    from tornado.httpclient import HTTPClientError

    match error:
        case HTTPClientError(code=401 | 403 as code):
            return f"the server refused it ({code} {HTTPStatus(code).phrase})."
        case HTTPClientError(code=404):
            return "there is no such address on that server, or it has no jupyter_ccapi."
        case HTTPClientError(code=code) if code != 599:
            return f"the server answered {code} in place of a WebSocket."
        case ssl.SSLCertVerificationError():
            return f"its certificate cannot be trusted ({error.verify_message})."
        case OSError() if error.strerror:
            return f"{error.strerror}."
    return f"{str(error).rstrip('.') or type(error).__name__}."
