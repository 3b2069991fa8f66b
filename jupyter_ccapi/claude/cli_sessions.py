"""The sessions that a CLI keeps: what was said in them, and forks of them at a prompt."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from .errors import RewindRefused
from .history import Message
from .record import Pointer
from .transcripts import transcript_path

if TYPE_CHECKING:
    from claude_agent_sdk import SessionKey, SessionStore
    from claude_agent_sdk import SessionStoreEntry as Entry

Entries = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class CLISessions:
    """The sessions of a CLI with these variables in its ``environment``, over those of this
    process: they say where it keeps its transcripts. Its ``folder`` is where it works, None where
    that is this process's. Nothing that it has written is changed.
    """

    environment: Mapping[str, str]

    def is_kept(self, session: str, folder: Path | None) -> bool:
        """Whether there is a transcript of this session."""
        return self.path(session, folder).exists()

    async def messages(self, session: str, folder: Path | None) -> list[Message]:
        """What was said in a session, as far as it is kept."""
        from claude_agent_sdk import get_session_messages_from_store

        said: list[Message] = []
        last: object = None
        files = cast("SessionStore", _Files(self, folder))
        for one in await get_session_messages_from_store(files, session, _directory(folder)):
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

    async def fork_after(
        self, session: str, folder: Path | None, message: str | None = None
    ) -> Pointer:
        """Fork a session after this message (None: its last one). Raises ``RewindRefused``."""
        from claude_agent_sdk import fork_session_via_store

        files = cast("SessionStore", _Files(self, folder))
        try:
            fork = await fork_session_via_store(files, session, _directory(folder), message)
        except (OSError, ValueError) as error:
            raise RewindRefused(
                f"Claude Code cannot branch off the conversation: {error}."
            ) from error
        return {"session": fork.session_id, "answered": True}

    async def head_before(self, anchor: Pointer) -> Pointer:
        """Fork the session of a prompt (``session``, ``prompt``, ``cwd``) to just before it; return
        where the fork stands.

        Raises ``RewindRefused`` where the CLI does not have it any more (it deletes its transcripts
        after ``cleanupPeriodDays``, 30 by default).
        """
        session, prompt = str(anchor["session"]), str(anchor["prompt"])
        folder = Path(str(anchor["cwd"]))
        entries = await self._entries(session, folder)
        if prompt in entries:
            last = _message_from(entries[prompt].get("parentUuid"), entries)
        elif "after" in anchor and (anchor["after"] is None or anchor["after"] in entries):
            last = anchor["after"]
        else:
            raise RewindRefused(
                "The conversation cannot be rewound that far: Claude Code does not have that "
                f"prompt any more (session {session})."
            )
        if last is None:
            return {"session": str(uuid4()), "answered": False}
        return await self.fork_after(session, folder, last)

    async def with_place(self, anchor: Pointer) -> Pointer:
        """The same anchor of the last prompt, with the message that it came ``after`` (None: it was
        the first): its process has died, and may not have written the prompt down.
        """
        entries = await self._entries(str(anchor["session"]), Path(str(anchor["cwd"])))
        prompt = entries.get(str(anchor["prompt"]))
        start = prompt.get("parentUuid") if prompt is not None else next(reversed(entries), None)
        return {**anchor, "after": _message_from(start, entries)}

    async def _entries(self, session: str, folder: Path) -> Entries:
        """The entries of a transcript that have an id, by it."""
        read = await asyncio.to_thread(_read, self.path(session, folder))
        return {str(entry["uuid"]): entry for entry in read if entry.get("uuid")}

    def path(self, session: str, folder: Path | None) -> Path:
        """Where the transcript of a session is kept."""
        return transcript_path(session, cwd=folder, environment=self.environment)


@dataclass(frozen=True, slots=True)
class _Files:
    """The transcripts of a folder, as a store of sessions: the SDK's functions for files look only
    where a CLI with this process's own environment would keep them.
    """

    _sessions: CLISessions
    _folder: Path | None

    async def load(self, key: "SessionKey") -> "list[Entry] | None":
        path = self._sessions.path(key["session_id"], self._folder)
        read: list[Any] = await asyncio.to_thread(_read, path)
        return read or None

    async def append(self, key: "SessionKey", entries: "list[Entry]") -> None:
        path = self._sessions.path(key["session_id"], self._folder)
        await asyncio.to_thread(_write, path, entries)


def _directory(folder: Path | None) -> str | None:
    return None if folder is None else str(folder)


def _message_from(start: object, entries: Entries) -> str | None:
    """The id of the last message on the way up from an entry, itself one; None where there is none.

    A transcript is a tree by ``parentUuid``: between two messages stand entries of other kinds.
    """
    while start is not None and str(start) in entries:
        entry = entries[str(start)]
        if entry.get("type") in ("user", "assistant") and not entry.get("isMeta"):
            return str(start)
        start = entry.get("parentUuid") or entry.get("logicalParentUuid")
    return None


def _read(path: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue  # the CLI may be about to write it
                if isinstance(entry, dict):
                    entries.append(entry)
    except OSError:
        pass  # what is missing is said of the prompt
    return entries


def _write(path: Path, entries: "list[Entry]") -> None:
    """Write a new transcript, that only its owner may read."""
    path.touch(mode=0o600, exist_ok=False)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
