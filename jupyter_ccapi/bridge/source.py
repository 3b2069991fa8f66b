"""Where a session's conversation runs: here, in a notebook's kernel, or wherever somebody holds a
CLI.
"""

from collections.abc import Mapping
from typing import Any, Protocol


class Refused(Exception):
    """What a client asked cannot be done; says why, and what to do, in a sentence."""


class Source(Protocol):
    """Runs the conversation of a session, whose events it tells by the way."""

    async def do(self, command: Mapping[str, Any], by: str) -> Mapping[str, Any] | None:
        """Do what a client asks, by its id; the command is checked. Returns when it is accepted (a
        prompt has its place in the queue), and what is for that client alone, as the preview of a
        rewind. Raises ``Refused``.
        """

    async def close(self) -> None:
        """End the conversation, and its process."""
