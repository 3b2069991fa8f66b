"""A client that costs next to nothing: one persistent HTTP connection over a bare socket."""

import json
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.benchmarks.measuring import NotMeasured, milliseconds_since
from tests.servers import TOKEN

#: Where a stream's first word stands.
CONTENT = re.compile(rb'"content":\s?"[^"]')
#: How a chunked HTTP body ends (RFC 9112, section 7.1).
LAST_CHUNK = b"\r\n0\r\n\r\n"

_PROCESS = re.compile(rb"(?i)\r\nx-ccapi-process: (\w+)")
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Streamed:
    """A stream as it came: milliseconds to its first content, its events, and what the server says
    of the process that served it.
    """

    first: float
    events: tuple[str, ...]
    process: str

    @property
    def text(self) -> str:
        """What the model said."""
        chunks = [json.loads(event) for event in self.events if event.startswith("{")]
        deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
        return "".join(delta.get("content") or "" for delta in deltas)


def request_for(url: str, body: Mapping[str, Any]) -> bytes:
    """The bytes of a request for a chat completion at a server's root URL."""
    content = json.dumps(body).encode()
    return _head("POST", f"{urlsplit(url).path}v1/chat/completions", len(content)) + content


def process_in(head: bytes) -> str:
    """How the turn came to its process, as the head of the answer says it; empty if it does not."""
    found = _PROCESS.search(head)
    return found[1].decode() if found else ""


def _head(verb: str, path: str, length: int = 0) -> bytes:
    lines = [
        f"{verb} {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {TOKEN}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Connection:
    """A connection to a server's root URL, one request at a time."""

    def __init__(self, url: str) -> None:
        self._url = url
        address = urlsplit(url)
        self._socket = socket.create_connection(
            (address.hostname or "", address.port or 80), timeout=_PATIENCE
        )
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def stream(self, body: Mapping[str, Any]) -> Streamed:
        """Ask for a streamed chat completion and time it. Raises ``NotMeasured`` for anything
        else than a whole stream.
        """
        request = request_for(self._url, body)
        received = bytearray()
        first = None
        began = time.perf_counter()
        self._socket.sendall(request)
        while not received.endswith(LAST_CHUNK):
            self._receive(received)
            if first is None and CONTENT.search(received):
                first = milliseconds_since(began)
            if first is None and not received.startswith(b"HTTP/1.1 200 "):
                raise NotMeasured(f"the server answered {received[:500].decode()!r}")
        if first is None or b"data: [DONE]" not in received:
            raise NotMeasured(f"the stream broke off: {received[-500:].decode()!r}")
        lines = received.decode().splitlines()
        events = (line.removeprefix("data: ") for line in lines if line.startswith("data: "))
        return Streamed(first, tuple(events), process_in(bytes(received)))

    def get(self, path: str) -> dict[str, Any]:
        """The JSON object at a path below the server's root."""
        self._socket.sendall(_head("GET", urlsplit(self._url).path + path))
        received = bytearray()
        while b"\r\n\r\n" not in received:
            self._receive(received)
        head, _, content = bytes(received).partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if not head.startswith(b"HTTP/1.1 200 ") or length is None:
            raise NotMeasured(f"the server answered {head[:200].decode()!r}")
        received = bytearray(content)
        while len(received) < int(length[1]):
            self._receive(received)
        answer: dict[str, Any] = json.loads(received)
        return answer

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _receive(self, received: bytearray) -> None:
        data = self._socket.recv(1 << 16)
        if not data:
            raise NotMeasured("the server hung up")
        received += data
