"""The offline model's life: a thread with an event loop of its own, from `start` to `stop`."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from jupyter_ccapi.demo.log import LoggedRequest
from jupyter_ccapi.demo.replies import Reply
from jupyter_ccapi.demo.stage import Stage

HOST = "127.0.0.1"
API_KEY = "offline-demo-model"
"""What the CLI sends as its key: any text does, and this one is no secret."""

FOREIGN = (
    "ANTHROPIC_",
    "AWS_BEARER_TOKEN",
    "CLAUDE_CODE_API_KEY",
    "CLAUDE_CODE_OAUTH_",
    "CLAUDE_CODE_USE_",
)
"""How the variables open that would lead a CLI elsewhere, or show it its user's credentials."""


class OfflineModel:
    """Anthropic's Messages API on loopback, in a thread of its own.

    `port` 0 takes a free one; `word_delay` is in seconds after each word of a stream. Use it as a
    context manager, or `start()` and `stop()` it. All methods may be called from any thread.
    """

    def __init__(self, *, port: int = 0, word_delay: float = 0.0) -> None:
        self._port = port
        self._stage = Stage(word_delay)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._url = ""

    def start(self) -> Self:
        """Listen, and return the model. Raises `OSError` where the port is taken."""
        if self._thread is not None:
            raise RuntimeError("the offline model is running already")
        # Only now, since most who import this package never start a model.
        from tornado.httpserver import HTTPServer

        from jupyter_ccapi.demo.handlers import application

        listening = socket.create_server((HOST, self._port), backlog=128)
        listening.setblocking(False)
        self._url = f"http://{HOST}:{listening.getsockname()[1]}"
        ready = threading.Event()

        async def serve() -> None:
            server = HTTPServer(application(self._stage))
            server.add_socket(listening)
            self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
            ready.set()
            await self._ended.wait()
            server.stop()
            await server.close_all_connections()

        self._thread = threading.Thread(
            target=asyncio.run, args=(serve(),), name="offline-model", daemon=True
        )
        self._thread.start()
        ready.wait()
        return self

    def stop(self) -> None:
        """Close all connections and end the thread; the log stays readable."""
        if self._thread is None or self._loop is None or self._ended is None:
            return
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._thread = self._loop = self._ended = None

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    @property
    def url(self) -> str:
        """The base URL, `http://127.0.0.1:PORT`."""
        if not self._url:
            raise RuntimeError("start the offline model first: it has no port yet")
        return self._url

    @property
    def requests(self) -> list[LoggedRequest]:
        """The requests to the Messages API and to count_tokens, in order of arrival."""
        return self._stage.log.snapshot()

    @property
    def main_requests(self) -> list[LoggedRequest]:
        """The requests that belong to conversations, without what the CLI asks beside them."""
        return [request for request in self.requests if not request.side]

    def clear(self) -> None:
        """Forget the log and the scripted replies that were not used."""
        self._stage.clear()

    def script(self, *replies: Reply) -> None:
        """Answer the next main requests by these, in order; then read directives again."""
        self._stage.script(replies)

    def release(self) -> int:
        """Let every held answer go on; return how many there were."""
        return self._stage.release()

    def wait_for(
        self, predicate: Callable[[LoggedRequest], object], timeout: float = 10
    ) -> LoggedRequest:
        """Block until a request satisfies the predicate, and return the first that does.

        Looks at requests that arrived before the call too. Raises `TimeoutError` after `timeout`
        seconds, with what the log has.
        """
        return self._stage.log.wait_for(predicate, timeout)

    def environment(self, home: Path) -> dict[str, str]:
        """Return the variables that make a CLI process talk to this model and to nothing else.

        `home` becomes its HOME. They are meant to be laid over the environment of this process, so
        the credentials and providers that this names are set to an empty text, and a proxy is told
        to leave loopback alone.
        """
        blank = {name: "" for name in os.environ if name.startswith(FOREIGN)}
        spared = {
            name: ",".join(filter(None, [os.environ.get(name), HOST]))
            for name in ("NO_PROXY", "no_proxy")
        }
        return {
            **blank,
            **spared,
            "ANTHROPIC_API_KEY": API_KEY,
            "ANTHROPIC_BASE_URL": self.url,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CONFIG_DIR": str(home / ".claude"),
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "DISABLE_TELEMETRY": "1",
            "HOME": str(home),
        }
