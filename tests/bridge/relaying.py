"""A server with one session whose conversation runs elsewhere, and what stands in for that."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketProtocol13

from jupyter_ccapi.bridge.remote import Hello, RelayDoor, Remote
from jupyter_ccapi.bridge.source import Refused
from jupyter_ccapi.server.routes.relay import RelaySocket

INFO = {"cwd": "/data", "model": "sonnet", "permission_mode": "default"}


class Writing:
    """A session's log, as far as a door sees one: it has written all, but while it is held up."""

    def __init__(self) -> None:
        self.last_id = 0
        self.on_written: Callable[[], None] = lambda: None
        self.held: int | None = None

    @property
    def settled(self) -> int:
        """Up to where it has."""
        return self.last_id if self.held is None else self.held

    def hold(self) -> None:
        """Write nothing more."""
        self.held = self.last_id

    def write(self, upto: int | None = None) -> None:
        """Write up to this number, or all."""
        self.held = upto
        self.on_written()


class Listening:
    """A session, as far as a door sees one: it keeps what it is told."""

    def __init__(self) -> None:
        self.log = Writing()
        self.told: list[dict[str, Any]] = []
        self.marks: list[str] = []
        self.heard: list[tuple[str, Any]] = []
        self._news = asyncio.Event()

    def take(self, event: dict[str, Any], mark: str = "") -> None:
        """Keep an event."""
        self.told.append(event)
        self.marks.append(mark)
        if event["type"] != "settings":
            self.log.last_id += 1
        self._news.set()

    def end_turn(self, why: str) -> None:
        """Keep that."""
        self._hear("end_turn", why)

    def lost(self, reason: str) -> None:
        """Keep that."""
        self._hear("lost", reason)

    def back(self, source: Remote, *, info: Mapping[str, Any]) -> None:
        """Keep that."""
        self._hear("back", dict(info))

    def _hear(self, what: str, about: Any) -> None:
        self.heard.append((what, about))
        self._news.set()

    @property
    def names(self) -> list[str]:
        """What happened to its source, without the details."""
        return [what for what, _ in self.heard]

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something it was told makes this true."""
        async with asyncio.timeout(20):
            while not is_so():
                self._news.clear()
                await self._news.wait()


class Doing:
    """A source that keeps what it is asked; ``wait`` holds it up, ``refuse`` is what it says."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, Any], str]] = []
        self.begun = asyncio.Event()
        self.wait: asyncio.Event | None = None
        self.refuse: str | None = None
        self.answer: dict[str, Any] | None = None
        self.closed = False

    async def do(self, command: Mapping[str, Any], by: str) -> Mapping[str, Any] | None:
        """Do as the test says."""
        self.asked.append((dict(command), by))
        self.begun.set()
        if self.wait is not None:
            await self.wait.wait()
        if self.refuse is not None:
            raise Refused(self.refuse)
        return self.answer

    async def close(self) -> None:
        """Keep that."""
        self.closed = True


class Server:
    """A real server on loopback with the route of relays, one session and its door."""

    def __init__(self) -> None:
        self.session = Listening()
        self.door = RelayDoor(self.session, resume={"id": "session_1"})
        self.secret = self.door.invite()
        self.url = ""
        self.hellos: list[Hello] = []
        self.fails: Exception | None = None
        self.asked = asyncio.Event()
        self.connections: list[RelaySocket] = []

    async def door_of(self, id: str, secret: str, hello: Hello) -> RelayDoor:
        """The door of the only session."""
        self.hellos.append(hello)
        self.asked.set()
        if self.fails is not None:
            raise self.fails
        if id != "session_1":
            raise Refused("There is no such session.")
        return self.door

    def cut(self) -> None:
        """Cut the newest connection, without a word."""
        drop(self.connections[-1])


def drop(connection: RelaySocket) -> None:
    """End a connection that may have ended already, without a word."""
    if isinstance(connection.ws_connection, WebSocketProtocol13):
        connection.ws_connection.stream.close()


class _Sessions:
    def __init__(self, server: Server) -> None:
        self.door = server.door_of


class _Gateway:
    def __init__(self, server: Server) -> None:
        self.sessions = _Sessions(server)


@contextlib.asynccontextmanager
async def serving(
    server: Server | None = None, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    """Run a server; the same one again, at the port that it had, for one that was restarted."""
    found = server or Server()

    class Watched(RelaySocket):
        def open(self, id: str) -> None:
            super().open(id)
            found.connections.append(self)

    routes = [(r"/ws/cli/([\w.-]+)", Watched)]
    application = Application(routes, ccapi_gateway=_Gateway(found))
    listening = HTTPServer(application, ssl_options=tls)
    (socket,) = bind_sockets(port, "127.0.0.1")
    listening.add_socket(socket)
    found.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{socket.getsockname()[1]}/ws/cli/session_1"
    try:
        yield found
    finally:
        listening.stop()
        for connection in found.connections:
            drop(connection)
        await listening.close_all_connections()
        await asyncio.sleep(0)
