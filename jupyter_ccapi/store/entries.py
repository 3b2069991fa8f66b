"""Messages as the entries of a transcript, in the shape of the CLI's own: chained by
``parentUuid``, the message itself as in Anthropic's API.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from .values import Content, Role, StoredMessage

Entry = dict[str, Any]


def make_entries(
    session_id: str, messages: Iterable[tuple[Role, Content]], after: str | None
) -> list[Entry]:
    """New messages as entries of a session that go on from the entry ``after``."""
    bare = [{"type": role, "message": _message(role, content)} for role, content in messages]
    return copies(session_id, bare, after)


def copies(session_id: str, entries: Iterable[Entry], after: str | None) -> list[Entry]:
    """The same entries as new ones of a session, that go on from the entry ``after``."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    linked = []
    for entry in entries:
        uuid = str(uuid4())
        linked.append(
            {
                "isSidechain": False,
                "userType": "external",
                "cwd": "",
                "version": "2.1.0",
                "timestamp": now,
                **entry,
                "parentUuid": after,
                "sessionId": session_id,
                "uuid": uuid,
            }
        )
        after = uuid
    return linked


def with_content(entry: Entry, content: Content) -> Entry:
    """The same entry saying something else."""
    said = _message(entry["type"], content)["content"]
    return {**entry, "message": {**entry["message"], "content": said}}


def message_chain(entries: Iterable[Entry]) -> list[Entry]:
    """The entries that are the conversation: from its first message to the one written last. What
    is off that way (an abandoned branch, a subagent, a note of the CLI's) is no part of it.
    """
    by_uuid = {entry["uuid"]: entry for entry in entries if entry.get("uuid")}
    said = [entry for entry in by_uuid.values() if _is_message(entry)]
    chain: list[Entry] = []
    entry = said[-1] if said else None
    while entry is not None:
        chain.append(entry)
        # Taken out, so that entries that are each other's parents end it.
        by_uuid.pop(entry["uuid"])
        entry = by_uuid.get(entry.get("parentUuid") or "")
    return [entry for entry in reversed(chain) if _is_message(entry)]


def stored(entry: Entry) -> StoredMessage:
    """The message of an entry."""
    said = entry["message"]["content"]
    # One that the CLI has written may have none.
    when = entry.get("timestamp")
    created_at = datetime.fromisoformat(when).timestamp() if when else 0.0
    return StoredMessage(entry["uuid"], entry["type"], said, created_at)


def _is_message(entry: Entry) -> bool:
    said = entry.get("type") in ("user", "assistant") and "message" in entry
    return said and not entry.get("isSidechain") and not entry.get("isMeta")


def _message(role: Role, content: Content) -> dict[str, Any]:
    if role == "user":
        return {"role": "user", "content": content}
    # What the model says is always blocks in the CLI's transcripts.
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
