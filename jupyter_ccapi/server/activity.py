"""Tell whoever ends idle servers (Jupyter's own time-out, JupyterHub's culler) that turns run."""

import asyncio
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime

# Far less than any time-out for idleness.
_EVERY = 30.0


class Activity:
    """Notes activity while turns run. ``times`` are those of Jupyter's extensions, by their names
    (``last_activity_times`` in the settings); ``running`` tells whether a turn runs that does not
    wait for a person.
    """

    def __init__(self, times: MutableMapping[str, datetime], running: Callable[[], bool]) -> None:
        self._times = times
        self._running = running
        self._watching: asyncio.Task[None] | None = None

    def note(self) -> None:
        """Something has happened; and if a turn runs, go on noting."""
        self._times["ccapi"] = datetime.now(UTC)
        if self._watching is None and self._running():
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    def close(self) -> None:
        """Note nothing more."""
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self) -> None:
        try:
            while self._running():
                self._times["ccapi"] = datetime.now(UTC)
                await asyncio.sleep(_EVERY)
        finally:
            self._watching = None
