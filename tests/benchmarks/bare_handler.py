"""What Tornado alone can do: a handler that writes given events, with a flush after each.

Run as `python -m tests.benchmarks.bare_handler`: it reads a JSON list of events from its standard
input, prints its URL in one line, and serves until it is ended.
"""

import asyncio
import json
import socket
import sys

from tornado import web
from tornado.httpserver import HTTPServer


class Handler(web.RequestHandler):
    """Streams the same events to everybody."""

    chunks: list[bytes]

    def initialize(self, chunks: list[bytes]) -> None:
        """Take what is to be written."""
        self.chunks = chunks

    async def post(self) -> None:
        """Write and flush each event."""
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-cache")
        for chunk in self.chunks:
            self.write(chunk)
            await self.flush()


async def serve(events: list[str]) -> None:
    """Serve for ever."""
    chunks = [f"data: {event}\n\n".encode() for event in events]
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    listening.setblocking(False)
    handlers = [(r"/v1/chat/completions", Handler, {"chunks": chunks})]
    HTTPServer(web.Application(handlers, log_function=lambda _: None)).add_socket(listening)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.stdin.readline())))
