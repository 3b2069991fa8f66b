"""The permission mode of a conversation, changed while its turns wait or run."""

from dataclasses import replace
from typing import TYPE_CHECKING

from .errors import ControlRefused
from .options import Options

if TYPE_CHECKING:
    from .process import Process


class PermissionMode:
    """What was set last. ``changes`` counts: a prompt was sent before some of them, and after
    others.
    """

    def __init__(self) -> None:
        self.changes = 0
        self._mode = "default"

    def change(self, mode: str) -> None:
        """It is another one from now on, also for prompts that wait."""
        self._mode = mode
        self.changes += 1

    def over(self, options: Options, changes: int) -> Options:
        """The options of a prompt that was sent after so many changes, with those since."""
        return self.put(options) if self.changes > changes else options

    def put(self, options: Options) -> Options:
        """These options with this mode."""
        return replace(options, sdk={**options.sdk, "permission_mode": self._mode})

    async def tell(self, process: "Process") -> None:
        """Have a process that runs ask by it, at once. Raises ``ControlRefused``, and
        ``ProcessDied``.
        """
        try:
            await process.control("set_permission_mode", mode=self._mode)
        except ControlRefused as error:
            raise ControlRefused(
                error.subtype, f"{error.said} The mode {self._mode!r} counts from the next turn on."
            ) from error
