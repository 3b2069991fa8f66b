"""Clients of sessions, in one process of their own: they read, and note what came when.

Run as `python -m tests.benchmarks.audience_client`: it reads a `Job` as JSON from its standard
input and prints the outcome as JSON.
"""

import asyncio
import json
import re
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal
from urllib.parse import urlsplit

from tests.benchmarks.measuring import NotMeasured
from tests.servers import TOKEN

_PATIENCE = 120.0
# The first byte of a frame that is a whole text (RFC 6455, section 5.2).
_WHOLE_TEXT = 0x81
# A word says when the CLI wrote it, and its event when the log took it up.
_WORD = re.compile(rb'"text": "\d+@([\d.]+) "}}.*"appended": ([\d.]+)')
_NUMBER = re.compile(rb'"event_id": (\d+)}$')


@dataclass(frozen=True, slots=True)
class Job:
    """What clients do with ``sessions`` of the server at ``url``; each prompt comes with a text
    that says, when it comes, that enough of the answer is there.

    ``live``: each session has so many ``clients``, the first of which sends the prompts, one after
    the other; it is noted when the words of the last answer came. ``replay``: the prompts are sent
    in the only session; then so many clients join it, one after the other, and it is noted how
    long that takes until each has been sent all.
    """

    url: str
    sessions: list[str]
    prompts: list[tuple[str, str]]
    clients: int
    kind: Literal["live", "replay"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """In milliseconds: words from the log to a client (``added``) and from the CLI to a client
    (``whole``), all that has happened in a session to a client that joins (``replays``; so many
    ``events``).
    """

    added: list[float]
    whole: list[float]
    replays: list[float]
    events: int = 0


class Client(asyncio.Protocol):
    """A connection to a session. What comes is only kept, with its time, and read later."""

    def __init__(self, url: str, session: str) -> None:
        self.chunks: list[tuple[float, bytes]] = []
        self._url = urlsplit(url)
        self._session = session
        self._news = asyncio.Event()
        self._lost = False
        self._mark = b""
        self._seen = False
        self._tail = b""

    async def connect(self) -> None:
        """Join the session."""
        loop = asyncio.get_running_loop()
        connection = socket.socket()
        connection.setblocking(False)
        await loop.sock_connect(connection, (self._url.hostname, self._url.port))
        lines = [
            f"GET {self._url.path}ws/session/{self._session} HTTP/1.1",
            f"Host: {self._url.netloc}",
            f"Authorization: Bearer {TOKEN}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ]
        await loop.sock_sendall(connection, ("\r\n".join(lines) + "\r\n\r\n").encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += await loop.sock_recv(connection, 1 << 16)
        if not head.startswith(b"HTTP/1.1 101 "):
            raise NotMeasured(f"the server answered {head[:300].decode()!r}")
        self.data_received(head.partition(b"\r\n\r\n")[2])
        self._transport, _ = await loop.create_connection(lambda: self, sock=connection)

    def data_received(self, data: bytes) -> None:
        """Keep it."""
        self.chunks.append((time.monotonic(), data))
        if self._mark:
            self._seen = self._seen or self._mark in self._tail + data
            self._tail = data[-len(self._mark) :]
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits is told."""
        self._lost = True
        self._news.set()

    def send(self, **command: str) -> None:
        """Send a command."""
        content = json.dumps(command).encode()
        # Masked with zeros, with eight bytes for its length.
        self._transport.write(b"\x81\xff" + len(content).to_bytes(8, "big") + bytes(4) + content)

    def look_for(self, text: str) -> None:
        """From now on, look for this text."""
        self._mark, self._tail, self._seen = text.encode(), b"", False

    async def found(self) -> None:
        """Wait until the text has come."""
        while not self._seen:
            self._news.clear()
            await self._news.wait()
            if self._lost:
                raise NotMeasured("the server closed a connection")

    def frames(self) -> Iterator[tuple[float, bytes]]:
        """All texts, each with the time at which its last byte came."""
        rest = bytearray()
        for when, data in self.chunks:
            rest += data
            at = 0
            while len(rest) >= (start := at + _head(rest, at)) > at:
                end = start + _length(rest, at)
                if len(rest) < end:
                    break
                if rest[at] == _WHOLE_TEXT:
                    yield when, bytes(rest[start:end])
                at = end
            del rest[:at]

    def close(self) -> None:
        """Hang up."""
        self._transport.abort()


def _head(data: bytearray, at: int) -> int:
    """How long a frame's head is; 0 where not even that is known."""
    if len(data) < at + 2:
        return 0
    return {126: 4, 127: 10}.get(data[at + 1], 2)


def _length(data: bytearray, at: int) -> int:
    start = at + 2
    return int.from_bytes(data[start : at + _head(data, at)], "big") or data[at + 1]


async def live(job: Job) -> Outcome:
    """Time words on their way."""
    audiences = [[Client(job.url, id) for _ in range(job.clients)] for id in job.sessions]
    clients = [client for audience in audiences for client in audience]
    for client in clients:
        await client.connect()
    for prompt, mark in job.prompts:
        for client in clients:
            client.chunks.clear()
            client.look_for(mark)
        for first, *_ in audiences:
            first.send(type="user_message", content=prompt)
        for client in clients:
            await client.found()
    found = [
        (when, *(float(group) for group in word.groups()))
        for client in clients
        for when, text in client.frames()
        if (word := _WORD.search(text)) is not None
    ]
    added = [(came - appended) * 1000 for came, _, appended in found]
    whole = [(came - written) * 1000 for came, written, _ in found]
    return Outcome(added, whole, [])


async def replay(job: Job) -> Outcome:
    """Time who joins a session in which much has happened."""
    (session,) = job.sessions
    first = Client(job.url, session)
    await first.connect()
    for prompt, mark in job.prompts:
        first.look_for(mark)
        first.send(type="user_message", content=prompt)
        await first.found()
    last = max(int(found[1]) for _, text in first.frames() if (found := _NUMBER.search(text)))
    times, events = [], 0
    for _ in range(job.clients):
        client = Client(job.url, session)
        client.look_for(f'"event_id": {last}}}')
        began = time.monotonic()
        await client.connect()
        await client.found()
        times.append((time.monotonic() - began) * 1000)
        client.close()
        events = sum(_NUMBER.search(text) is not None for _, text in client.frames())
    return Outcome([], [], times, events)


def main() -> int:
    """Do the job on the standard input; return the exit code."""
    job = Job(**json.load(sys.stdin))
    doing = live(job) if job.kind == "live" else replay(job)
    try:
        print(json.dumps(asdict(asyncio.run(asyncio.wait_for(doing, _PATIENCE)))))
    except (NotMeasured, OSError) as error:
        print(str(error) or "it took too long", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
