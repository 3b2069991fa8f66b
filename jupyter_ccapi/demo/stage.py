"""What the handlers of the offline model share: its log and what it says next."""

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

from jupyter_ccapi.demo import answers
from jupyter_ccapi.demo.log import RequestLog
from jupyter_ccapi.demo.replies import Reply


class Stage:
    """The log, the scripted replies and the held answers; usable from any thread."""

    def __init__(self, word_delay: float) -> None:
        self.log = RequestLog()
        self.word_delay = word_delay
        self._lock = threading.Lock()
        self._scripted: deque[Reply] = deque()
        self._held: list[threading.Event] = []

    def script(self, replies: Iterable[Reply]) -> None:
        """Queue replies for the next requests of conversations."""
        with self._lock:
            self._scripted.extend(replies)

    def clear(self) -> None:
        """Forget the log and the queued replies."""
        with self._lock:
            self._scripted.clear()
        self.log.clear()

    def reply(self, body: Any, *, side: bool) -> Reply:
        """Return what to answer to a request; only conversations use up scripted replies."""
        if side:
            return answers.side_answer(body)
        with self._lock:
            reply = self._scripted.popleft() if self._scripted else answers.answer(body)
            if reply.hold is not None:
                self._held = [event for event in self._held if not event.is_set()] + [reply.hold]
            return reply

    def release(self) -> int:
        """Let every held answer go on; return how many there were."""
        with self._lock:
            waiting = [event for event in self._held if not event.is_set()]
            self._held.clear()
        for event in waiting:
            event.set()
        return len(waiting)
