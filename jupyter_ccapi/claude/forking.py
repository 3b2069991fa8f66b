"""Where a conversation stood before a prompt: a fork of the CLI's session that it stood in."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

from .errors import RewindRefused
from .history import Message
from .record import Pointer
from .transcripts import transcript_path


def head_before(anchor: Pointer) -> Pointer:
    """Fork the session of a prompt (``session``, ``prompt``, ``cwd``) to just before it; return
    where the fork stands. The session itself stays as it is. Blocks.

    Raises ``RewindRefused`` where the CLI does not have it any more (it deletes its transcripts
    after ``cleanupPeriodDays``, 30 by default).
    """
    session, prompt = str(anchor["session"]), str(anchor["prompt"])
    folder = Path(str(anchor["cwd"]))
    entries = _entries(session, folder)
    if prompt in entries:
        last = _message_from(entries[prompt].get("parentUuid"), entries)
    elif "after" in anchor and (anchor["after"] is None or anchor["after"] in entries):
        last = anchor["after"]
    else:
        raise RewindRefused(
            "The conversation cannot be rewound that far: Claude Code does not have that prompt "
            f"any more (session {session})."
        )
    if last is None:
        return {"session": str(uuid4()), "answered": False}
    return fork_after(session, folder, last)


def with_place(anchor: Pointer) -> Pointer:
    """The same anchor of the last prompt, with the message that it came ``after`` (None: it was
    the first): its process has died, and may not have written the prompt down. Blocks.
    """
    entries = _entries(str(anchor["session"]), Path(str(anchor["cwd"])))
    prompt = entries.get(str(anchor["prompt"]))
    start = prompt.get("parentUuid") if prompt is not None else next(reversed(entries), None)
    return {**anchor, "after": _message_from(start, entries)}


def fork_after(session: str, folder: Path, message: str | None = None) -> Pointer:
    """Fork a session after this message (None: its last one). Raises ``RewindRefused``."""
    from claude_agent_sdk import fork_session

    try:
        fork = fork_session(session, directory=str(folder), up_to_message_id=message)
    except (OSError, ValueError) as error:
        raise RewindRefused(f"Claude Code cannot branch off the conversation: {error}.") from error
    return {"session": fork.session_id, "answered": True}


def read_messages(session: str, folder: Path) -> list[Message]:
    """What was said in a session of the CLI's, as far as it still has it. Blocks."""
    from claude_agent_sdk import get_session_messages

    said: list[Message] = []
    last: object = None
    for one in get_session_messages(session, directory=str(folder)):
        told: Any = one.message
        content = told.get("content") if isinstance(told, dict) else None
        if one.type not in ("user", "assistant") or not isinstance(content, str | list):
            continue
        same = told.get("id")
        if said and one.type == "assistant" and same is not None and same == last:
            # A message comes in one piece for each of its blocks.
            more = Message("assistant", content).blocks
            said[-1] = Message("assistant", [*said[-1].blocks, *more])
        else:
            said.append(Message("user" if one.type == "user" else "assistant", content))
        last = same
    return said


def is_kept(session: str, folder: Path) -> bool:
    """Whether the CLI has a transcript of this session."""
    return transcript_path(session, cwd=folder, environment={}).exists()


def _message_from(start: object, entries: dict[str, dict[str, Any]]) -> str | None:
    """The id of the last message on the way up from an entry, itself one; None where there is none.

    A transcript is a tree by ``parentUuid``: between two messages stand entries of other kinds.
    """
    while start is not None and str(start) in entries:
        entry = entries[str(start)]
        if entry.get("type") in ("user", "assistant") and not entry.get("isMeta"):
            return str(start)
        start = entry.get("parentUuid") or entry.get("logicalParentUuid")
    return None


def _entries(session: str, folder: Path) -> dict[str, dict[str, Any]]:
    """The entries of a transcript that have an id, by it."""
    path = transcript_path(session, cwd=folder, environment={})
    entries: dict[str, dict[str, Any]] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue  # the CLI may be about to write it
                if isinstance(entry, dict) and entry.get("uuid"):
                    entries[str(entry["uuid"])] = entry
    except OSError:
        pass  # what is missing is said of the prompt
    return entries
