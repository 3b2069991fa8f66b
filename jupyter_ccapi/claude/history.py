"""Earlier turns, given to the model as the real conversation that they were.

A stateless client sends the whole history with each request. It goes into a transcript that the
CLI resumes, so that the model receives user and assistant turns and not a text about them. The
entries' shape is that of the CLI's own transcripts (one JSON object a line, chained by
``parentUuid``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

#: Text, or Anthropic content blocks.
Content = str | list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Message:
    """One earlier message of a conversation."""

    role: Literal["user", "assistant"]
    content: Content


class Transcript:
    """A ``SessionStore`` (the SDK's protocol) that holds one synthesized transcript and keeps
    nothing.
    """

    def __init__(self, session_id: str, entries: list[dict[str, Any]]) -> None:
        self.session_id = session_id
        self._entries = entries

    async def load(self, key: Any) -> list[dict[str, Any]] | None:
        """The entries, for the one session there is."""
        return self._entries if key["session_id"] == self.session_id else None

    async def append(self, key: Any, entries: Any) -> None:
        """Part of the protocol; what the turn adds belongs to the client, who resends it."""


def transcript(messages: Sequence[Message], *, cwd: Path) -> Transcript:
    """Write earlier messages as a transcript that the CLI can resume."""
    session_id = str(uuid4())
    entries: list[dict[str, Any]] = []
    parent: str | None = None
    for message in messages:
        uuid = str(uuid4())
        entries.append(
            {
                "parentUuid": parent,
                "isSidechain": False,
                "userType": "external",
                "cwd": str(cwd),
                "sessionId": session_id,
                "version": "2.1.0",
                "type": message.role,
                "message": _anthropic(message),
                "uuid": uuid,
                "timestamp": datetime.now(UTC)
                .isoformat(timespec="milliseconds")
                .replace("+00:00", "Z"),
            }
        )
        parent = uuid
    return Transcript(session_id, entries)


def _anthropic(message: Message) -> dict[str, Any]:
    if message.role == "user":
        return {"role": "user", "content": message.content}
    content = message.content
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return {
        "id": f"msg_{uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": "history",
        "content": blocks,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }
