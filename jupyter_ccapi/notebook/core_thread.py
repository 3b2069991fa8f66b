"""An event loop in a thread of its own, for the core.

A kernel runs its user's code on its own loop: code that computes for a minute would stall every
stream on it, and on Windows that loop cannot run subprocesses.
"""

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from jupyter_ccapi.claude import ClaudeError

T = TypeVar("T")


class CoreThread:
    """A daemon thread that runs coroutines; it starts with the first one."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None

    @property
    def running(self) -> bool:
        """Whether the thread runs. In a forked child it does not."""
        return self._thread is not None and self._thread.is_alive()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine on the thread's loop; may be called from any thread. Raises `ClaudeError`
        in a forked child: thread and processes are its parent's.
        """
        if os.getpid() != self._process:
            coroutine.close()
            raise ClaudeError(
                "A forked process cannot use the conversations of the one that it was forked from: "
                "start it anew (multiprocessing's spawn), and make a Claude of its own there."
            )
        return asyncio.run_coroutine_threadsafe(coroutine, self._started())

    def call(self, call: Callable[[], object]) -> None:
        """Have this called on the thread's loop, soon."""
        self._started().call_soon_threadsafe(call)

    def stop(self) -> None:
        """Cancel what still runs and end the thread. A coroutine submitted later starts it anew."""
        with self._lock:
            if self._thread is None or self._loop is None or self._ended is None:
                return
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join()
            self._thread = None

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._thread is None or self._loop is None:
                ready = threading.Event()
                self._thread = threading.Thread(
                    target=lambda: asyncio.run(self._serve(ready)), name="claude-core", daemon=True
                )
                self._thread.start()
                ready.wait()
            assert self._loop is not None
            return self._loop

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await self._ended.wait()
