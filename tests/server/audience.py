"""Clients of a session's socket, that remember all they are sent."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tornado.httpclient import HTTPClientError
from tornado.websocket import WebSocketClientConnection

from jupyter_ccapi.bridge.source import Source
from jupyter_ccapi.demo import Reply

#: Seconds that anything may take: others use the machine too.
PATIENCE = 30.0
SESSIONS = ("v1", "sessions")

Connect = Callable[..., Awaitable[WebSocketClientConnection]]


class Listener:
    """One client. ``frames`` are all that it was sent; ``closed`` is the code with which its
    connection was closed, None while it is open.
    """

    def __init__(self, connection: WebSocketClientConnection) -> None:
        self.connection = connection
        self.frames: list[dict[str, Any]] = []

    @property
    def closed(self) -> int | None:
        """The code with which the connection was closed."""
        return self.connection.close_code

    @property
    def id(self) -> str:
        """What others know it by."""
        return str(self.frames[0]["client_id"])

    @property
    def events(self) -> list[dict[str, Any]]:
        """What has happened in the conversation, without the pieces of its messages."""
        return [
            frame
            for frame in self.frames
            if "event_id" in frame and frame["type"] != "stream_event"
        ]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """All frames of a type."""
        return [frame for frame in self.frames if frame["type"] == kind]

    async def send(self, kind: str, **fields: Any) -> None:
        """Send a command."""
        await self.connection.write_message(json.dumps({"type": kind, **fields}))

    async def hear(self) -> dict[str, Any]:
        """The next frame."""
        async with asyncio.timeout(PATIENCE):
            text = await self.connection.read_message()
        assert isinstance(text, str), f"closed with {self.closed}: {self.connection.close_reason}"
        frame: dict[str, Any] = json.loads(text)
        self.frames.append(frame)
        return frame

    async def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next frame of a type that has these fields."""
        while True:
            frame = await self.hear()
            if frame["type"] == kind and frame.items() >= fields.items():
                return frame

    async def leave(self) -> None:
        """Close the connection."""
        self.connection.close()
        await self.gone()

    async def gone(self) -> int | None:
        """Wait until the server closes the connection; the code."""
        async with asyncio.timeout(PATIENCE):
            while await self.connection.read_message() is not None:
                pass
        code = self.closed
        self.connection.close()
        return code

    async def ask(self, content: Any) -> dict[str, Any]:
        """Send a prompt and wait for the end of its turn, after all that was there before."""
        await self.send("user_message", content=content)
        await self.until("user_message", client_id=self.id)
        return await self.until("result")


class Held:
    """A session's source that does nothing before it is ``released``; ``done`` is what it did."""

    def __init__(self, source: Source) -> None:
        self.begun = asyncio.Event()
        self.released = asyncio.Event()
        self.cancelled = False
        self.done: list[dict[str, Any]] = []
        self._source = source

    async def do(self, command: Mapping[str, Any], by: str) -> Mapping[str, Any] | None:
        """As ``Source.do``, later."""
        self.begun.set()
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        self.done.append(dict(command))
        return await self._source.do(command, by)

    async def close(self) -> None:
        """As ``Source.close``."""
        await self._source.close()


class Failing:
    """A session's source that does nothing at all."""

    def __init__(self, source: Source, error: Exception) -> None:
        self._source = source
        self._error = error

    async def do(self, command: Mapping[str, Any], by: str) -> Mapping[str, Any] | None:
        """Fail."""
        raise self._error

    async def close(self) -> None:
        """As ``Source.close``."""
        await self._source.close()


async def refused(connecting: Awaitable[WebSocketClientConnection]) -> tuple[int, Any]:
    """The HTTP status, and the error, of a connection that does not come about."""
    try:
        await connecting
    except HTTPClientError as error:
        body = error.response.body.decode() if error.response and error.response.body else "{}"
        return error.code, json.loads(body).get("error")
    raise AssertionError("The connection came about.")


def writes(path: Any, text: str = "1\n") -> Reply:
    """A message of the model's that writes a file."""
    return Reply(tools=[("Write", {"file_path": str(path), "content": text})])


def runs(command: str) -> Reply:
    """A message of the model's that runs a command."""
    return Reply(tools=[("Bash", {"command": command})])
