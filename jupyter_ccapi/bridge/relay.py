"""Publishes a conversation that runs here to a session on a server."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from .dialing import CannotConnect, dial, hang_up, post, socket_url, trusting
from .link import Done, Outbox, decode, encode, reply
from .remote import VERSION
from .source import Refused, Source

if TYPE_CHECKING:
    from tornado.websocket import WebSocketClientConnection

logger = logging.getLogger(__name__)

#: What becomes of the connection: there for the first time, gone, there again.
State = Literal["connected", "cut", "back"]

# Seconds: until the first try to connect again, and between tries at the most; for the server to
# say welcome; for what was told last to leave.
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 10.0
_PATIENCE = 30.0
_GRACE = 2.0
_FAILED = "This failed where the conversation runs; the log there says more."


class RelayRefused(Exception):
    """The server does not take the conversation (any longer); says why."""


class _Cut(Exception):
    """The connection has ended; another one may do."""


class Relay:
    """Publishes a conversation to the session at ``url``, for as long as ``run`` runs.

    ``tell`` is for the conversation's host. What is told before there is a connection is sent when
    there is one: of a conversation that is published late, tell first what was said in it.

    ``make`` is awaited once the server has let us in, with what that knows of the conversation
    (``{"id": …}`` or None); it returns the source that commands go to. ``info`` says what it runs
    with: cwd, model, permission_mode, name. ``notice`` hears of the connection, and why it was cut.
    ``cafile`` holds certificates to trust besides the system's. All on one event loop.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        make: Callable[[Mapping[str, Any] | None], Awaitable[Source]],
        info: Callable[[], Mapping[str, Any]],
        kind: Literal["relay", "kernel"] = "relay",
        notice: Callable[[State, str], None] = lambda state, why: None,
        cafile: str | None = None,
        longest_wait: float = _LONGEST_WAIT,
    ) -> None:
        self.url = socket_url(url)
        self.source: Source | None = None
        self._tls = trusting(cafile, self.url)
        self._secret = secret
        self._make = make
        self._info = info
        self._kind = kind
        self._notice = notice
        self._longest_wait = longest_wait
        self._run = uuid4().hex
        self._over = False
        self._leaving = False
        self._there = False
        # The number of the last event that was handed to the connection.
        self._sent = 0
        self._outbox = Outbox()
        self._told = asyncio.Event()
        self._arrived = asyncio.Event()
        self._arrived.set()
        self._done = Done()
        self._doing: set[asyncio.Task[None]] = set()
        self._socket: WebSocketClientConnection | None = None

    def tell(self, event: Mapping[str, Any]) -> None:
        """Something happened in the conversation."""
        if not (self._over or self._leaving):
            self._outbox.put(event)
            self._arrived.clear()
            self._told.set()

    async def run(self) -> None:
        """Publish until the server ends the session; what becomes of the source then is up to the
        caller. A connection that is cut is made again. Raises ``CannotConnect`` where the first
        fails, ``RelayRefused``, and what ``make`` raises.
        """
        wait, time = _FIRST_WAIT, asyncio.get_running_loop().time
        try:
            while True:
                began = time()
                try:
                    await self._once()
                    return
                except _Cut as cut:
                    if self.source is None:
                        raise CannotConnect(f"{self.url} cannot be connected to: {cut}.") from cut
                    if self._there:
                        self._there = False
                        self._notice("cut", str(cut))
                    # One that is cut again and again at once is not tried ever faster.
                    wait = _FIRST_WAIT if time() - began > self._longest_wait else wait
                except CannotConnect:
                    if self.source is None:
                        raise
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))
                wait = min(2 * wait, self._longest_wait)
        finally:
            self._over = True
            self._arrived.set()
            for task in self._doing:
                task.cancel()

    def leave(self) -> None:
        """The conversation is not to be published any more, though it goes on: nothing is taken
        from ``tell`` now, and the session is told when ``run`` is cancelled.
        """
        self._leaving = True

    async def flush(self, patience: float = _GRACE) -> bool:
        """Wait until the server has all that was told; False where that takes longer (seconds)."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._arrived.wait()
        return self._arrived.is_set()

    async def _once(self) -> None:
        """One connection, from its beginning until the server ends the session."""
        socket = await dial(self.url, self._secret, self._tls)
        try:
            self._sent = await self._introduce(socket)
            self._socket = socket
            await self._serve(socket)
        finally:
            if self._leaving and self._socket is not None:
                self._say_goodbye(socket)
            self._socket = None
            await hang_up(socket, "the relay was ended")

    async def _introduce(self, socket: "WebSocketClientConnection") -> int:
        """Say who we are, and be welcomed; returns the number of the last event that the server
        has.
        """
        hello = {"version": VERSION, "kind": self._kind, "run": self._run}
        post(socket, encode({"type": "hello", **hello, "info": dict(self._info())}))
        try:
            async with asyncio.timeout(_PATIENCE):
                frame = await _read(socket)
        except TimeoutError:
            raise _Cut("the server does not answer") from None
        match frame:
            case {"type": "welcome", "token": str(token), "received": int(received)}:
                self._secret = token
                # A crash of the server may yet take what it has received and not kept.
                kept = frame.get("kept")
                self._acked(kept if isinstance(kept, int) else received)
            case _:
                raise RelayRefused("The server says something else than welcome.")
        self._there = True
        if self.source is None:
            self.source = await self._make(frame.get("resume"))
            self._notice("connected", "")
        else:
            self._notice("back", "")
        return received

    async def _serve(self, socket: "WebSocketClientConnection") -> None:
        telling = asyncio.create_task(self._send_all(socket))
        try:
            while True:
                match await _read(socket):
                    case {"type": "ack", "n": int(number)}:
                        self._acked(number)
                    case {"type": "command", "id": str(id), "command": dict(command), "by": by}:
                        self._take_up(id, command, str(by))
                    case {"type": "close"}:
                        return
        finally:
            telling.cancel()
            await asyncio.wait([telling])

    def _acked(self, number: int) -> None:
        self._outbox.acked(number)
        if not len(self._outbox):
            self._arrived.set()

    async def _send_all(self, socket: "WebSocketClientConnection") -> None:
        """Send what was told, as fast as the connection takes it."""
        from tornado.websocket import WebSocketClosedError

        with suppress(WebSocketClosedError):
            while True:
                self._told.clear()
                while (frame := self._next()) is not None:
                    await socket.write_message(frame)
                await self._told.wait()

    def _next(self) -> str | None:
        """What is to be sent next."""
        if (found := self._outbox.after(self._sent)) is None:
            return None
        self._sent, frame = found
        return frame

    def _say_goodbye(self, socket: "WebSocketClientConnection") -> None:
        """Say what is left to be said, and that it was the last."""
        while (frame := self._next()) is not None:
            post(socket, frame)
        post(socket, encode({"type": "ended"}))

    def _take_up(self, id: str, command: Mapping[str, Any], by: str) -> None:
        if self._done.begin(id):
            task = asyncio.create_task(self._do(id, command, by))
            self._doing.add(task)
            task.add_done_callback(self._doing.discard)
        elif (said := self._done.answer(id)) is not None and self._socket is not None:
            post(self._socket, said)

    async def _do(self, id: str, command: Mapping[str, Any], by: str) -> None:
        assert self.source is not None
        try:
            said = reply(id, answer=await self.source.do(command, by))
        except Refused as error:
            said = reply(id, error=str(error))
        except Exception:
            logger.exception("A command failed: %s", command.get("type"))
            said = reply(id, error=_FAILED)
        self._done.end(id, said)
        if self._socket is not None:
            post(self._socket, said)


async def _read(socket: "WebSocketClientConnection") -> dict[str, Any]:
    """The next frame. Raises ``_Cut``, and ``RelayRefused`` where we are turned away."""
    text = await socket.read_message()
    if text is None:
        raise _Cut(socket.close_reason or "the connection was lost")
    try:
        frame = decode(text)
    except ValueError as error:
        raise RelayRefused(f"The server cannot be understood: {error}") from None
    if frame["type"] == "refused":
        if frame.get("again") is True:
            raise _Cut(str(frame.get("error")).rstrip("."))
        raise RelayRefused(str(frame.get("error")))
    return frame
