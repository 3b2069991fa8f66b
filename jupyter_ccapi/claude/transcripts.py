"""Earlier turns, given to the model as the real conversation that they were.

A stateless client sends the whole history with each request. It is written as a transcript that
the CLI resumes, so that the model receives user and assistant turns and not a text about them. The
entries' shape, and where the file lies, are those of the CLI's own transcripts: one JSON object a
line, chained by ``parentUuid``, in a folder named for the one that the CLI works in.
"""

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from .history import Held, Message


def transcript_path(session_id: str, *, cwd: Path | None, environment: Mapping[str, str]) -> Path:
    """Where the CLI keeps the transcript of a session, with these variables over those of this
    process.
    """
    from claude_agent_sdk import project_key_for_directory

    variables = {**os.environ, **environment}
    configured = variables.get("CLAUDE_CONFIG_DIR")
    if configured:
        folder = Path(configured)
    else:
        folder = Path(variables.get("HOME") or Path.home()) / ".claude"
    return folder / "projects" / project_key_for_directory(cwd) / f"{session_id}.jsonl"


def write_transcript(path: Path, messages: Sequence[Message], *, cwd: Path | None) -> list[Held]:
    """Write earlier messages as a transcript that the CLI can resume by the file's name; only its
    owner may read it. Returns them with the names that they have in it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    entries = _entries(path.stem, messages, cwd or Path.cwd())
    lines = [json.dumps(entry) + "\n" for entry in entries]
    path.touch(mode=0o600)
    path.write_text("".join(lines), encoding="utf-8")
    return [Held(message, entry["uuid"]) for message, entry in zip(messages, entries, strict=True)]


def _entries(session_id: str, messages: Sequence[Message], cwd: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for message in messages:
        entries.append(
            {
                "parentUuid": entries[-1]["uuid"] if entries else None,
                "isSidechain": False,
                "userType": "external",
                "cwd": str(cwd),
                "sessionId": session_id,
                "version": "2.1.0",
                "type": message.role,
                "message": _anthropic(message),
                "uuid": str(uuid4()),
                "timestamp": now,
            }
        )
    return entries


def _anthropic(message: Message) -> dict[str, Any]:
    if message.role == "user":
        return {"role": "user", "content": message.content}
    return {
        "id": f"msg_{uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": "history",
        "content": message.blocks,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }
