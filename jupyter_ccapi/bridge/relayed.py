"""What a relay may tell of its conversation."""

from collections.abc import Iterable, Mapping
from typing import Any

# What a relay may tell, and what must be in that for a session to take it; that it was lost and is
# back is the server's to say.
_EVENTS: dict[str, dict[str, Any]] = {
    "user_message": {"content": str | list},
    "stream_event": {"event": dict},
    "assistant": {"message": dict},
    "tool_progress": {"tool_use_id": str},
    "permission_request": {"request_id": str, "request": dict},
    "permission_resolved": {"request_id": str, "behavior": str},
    "result": {"subtype": str, "is_error": bool},
    "rewound": {},
    "settings": {},
}


def checked(kind: str, event: dict[str, Any]) -> dict[str, Any]:
    """An event without what is not a relay's to say. Raises ``ValueError``."""
    if kind not in _EVENTS:
        raise ValueError(f"There is no event {kind[:40]!r} in this version.")
    for name, wanted in _EVENTS[kind].items():
        if not isinstance(event.get(name), wanted):
            raise ValueError(f"The event {kind!r} has no {name}.")
    if kind == "settings":
        return {"type": kind, **texts(event, ("model", "permission_mode"))}
    if kind == "result" and not isinstance(event.get("cost_usd", 0.0), int | float | None):
        raise ValueError("The event 'result' has a cost that is no number.")
    event.pop("event_id", None)
    return event


def texts(found: Mapping[str, Any], names: Iterable[str]) -> dict[str, str | None]:
    """Those of these that are there. Raises ``ValueError`` for what is neither text nor null."""
    known = {name: found[name] for name in names if name in found}
    for name, value in known.items():
        if value is not None and not (isinstance(value, str) and len(value) <= 4096):
            raise ValueError(f"{name} must be a text, or null.")
    return known
