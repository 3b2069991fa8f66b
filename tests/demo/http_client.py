"""A bare HTTP client, to see exactly what the offline model sends."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

MESSAGES = "/v1/messages"


class Client:
    """Requests to one server, each on a connection of its own; `close()` closes them all."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc
        self._connections: list[HTTPConnection] = []

    def open(self, method: str, path: str, body: Any = None) -> HTTPConnection:
        """Send a request, JSON unless its body is bytes, and return its connection."""
        connection = HTTPConnection(self._address, timeout=10)
        self._connections.append(connection)
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, content)
        return connection

    def send(self, method: str, path: str, body: Any = None) -> HTTPResponse:
        """Send a request and return the response, its body still to be read."""
        return self.open(method, path, body).getresponse()

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send a request and return status and parsed JSON."""
        response = self.send(method, path, body)
        text = response.read()
        return response.status, json.loads(text) if text else None

    def message(self, body: Any) -> dict[str, Any]:
        """Ask for a whole message and return it."""
        status, message = self.call("POST", MESSAGES, body)
        assert status == 200
        assert isinstance(message, dict)
        return message

    def stream(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Ask for a stream and yield its events; each must be named as its data says."""
        name = ""
        for line in self.send("POST", MESSAGES, {**body, "stream": True}):
            key, _, value = line.decode().rstrip("\n").partition(": ")
            if key == "event":
                name = value
            elif key == "data":
                data = json.loads(value)
                assert data["type"] == name
                yield data

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            connection.close()


def asked(text: str, **more: Any) -> dict[str, Any]:
    """Return the body of a Messages request with one user text."""
    messages = [{"role": "user", "content": text}]
    return {"model": "claude-test", "max_tokens": 1000, "messages": messages, **more}
