"""The log of what the offline model was sent: the test suite's oracle."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jupyter_ccapi.demo import reading


@dataclass
class LoggedRequest:
    """One POST to the Messages API and how its answer went.

    `body` is the parsed JSON (`None` where it was malformed), `at` the arrival in seconds of
    `time.monotonic()`, `status` the HTTP status of the answer (0 until it is known), `side` true
    for requests that the CLI makes beside the conversation. `held` is true while the answer waits
    for its hold. `closed_early` says that the connection ended before the answer was `finished`,
    `chunks_sent` how many stream events were sent by then.
    """

    path: str
    headers: Mapping[str, str]
    body: Any
    at: float = field(default_factory=time.monotonic)
    side: bool = False
    status: int = 0
    held: bool = False
    finished: bool = False
    closed_early: bool = False
    chunks_sent: int = 0

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The `messages[]` of the request, as sent."""
        return reading.entries(self.body)

    @property
    def system_text(self) -> str:
        """The system prompt as one text."""
        return reading.system_text(self.body)

    @property
    def user_text(self) -> str:
        """The last text that the user wrote, without `<system-reminder>` parts."""
        return reading.user_text(self.body)

    @property
    def tools(self) -> list[str]:
        """The names of the tools on offer."""
        return reading.tool_names(self.body)

    @property
    def tool_results(self) -> list[reading.ToolResult]:
        """The tool results that the model is to answer now."""
        return reading.tool_results(self.body)

    @property
    def images(self) -> int:
        """How many images the current turn holds."""
        return reading.images(self.body)

    @property
    def stream(self) -> bool:
        """Whether a streamed answer was asked for."""
        return isinstance(self.body, Mapping) and self.body.get("stream") is True

    def as_json(self) -> dict[str, Any]:
        """Return the request for `GET /log`; headers stay out, since they carry keys."""
        return {
            "path": self.path,
            "body": self.body,
            "at": self.at,
            "side": self.side,
            "user_text": self.user_text,
            "tools": self.tools,
            "images": self.images,
            "stream": self.stream,
            "status": self.status,
            "held": self.held,
            "finished": self.finished,
            "closed_early": self.closed_early,
            "chunks_sent": self.chunks_sent,
        }


KEPT = 1000
"""How many requests the log holds; older ones go, so that a demo may run for weeks."""


class RequestLog:
    """The last requests in order of arrival, readable from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._requests: deque[LoggedRequest] = deque(maxlen=KEPT)

    def add(self, request: LoggedRequest) -> None:
        """Append a request."""
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()

    def update(self, request: LoggedRequest, **changes: Any) -> None:
        """Set attributes of a request and wake whoever waits for them."""
        with self._changed:
            for name, value in changes.items():
                setattr(request, name, value)
            self._changed.notify_all()

    def snapshot(self) -> list[LoggedRequest]:
        """Return the requests so far."""
        with self._changed:
            return list(self._requests)

    def clear(self) -> None:
        """Forget the requests so far."""
        with self._changed:
            self._requests.clear()

    def wait_for(
        self, predicate: Callable[[LoggedRequest], object], timeout: float
    ) -> LoggedRequest:
        """Block until a request satisfies the predicate and return the first that does.

        Raises `TimeoutError`, which tells what was in the log, after `timeout` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: any(map(predicate, self._requests)), timeout):
                raise TimeoutError(
                    f"no request satisfied the predicate within {timeout} s; "
                    f"the log has: {[_line(r) for r in self._requests]}"
                )
            return next(r for r in self._requests if predicate(r))


def _line(request: LoggedRequest) -> str:
    state = "closed early" if request.closed_early else "finished" if request.finished else "open"
    return f"{request.path} {request.user_text[:60]!r} {request.status} {state}"
