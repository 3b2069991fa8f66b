"""Transcripts of the CLI's sessions, kept for it by the SDK's public ``SessionStore`` protocol.

The end of a transcript may be hidden (``show_upto``): it is as if it were not there, until it is
shown again, or something is added and it is gone.
"""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from .database import Database, Transaction
from .entries import Entry

if TYPE_CHECKING:
    from claude_agent_sdk import (
        SessionKey,
        SessionStore,
        SessionStoreEntry,
        SessionStoreListEntry,
        SessionSummaryEntry,
    )
    from claude_agent_sdk.types import SessionListSubkeysKey
    from sqlalchemy import ColumnElement
else:
    SessionStore = object  # the SDK asks for its methods alone, and is slow to import


class Transcripts(SessionStore):
    """A ``SessionStore``: entries by ``project_key``, ``session_id`` and ``subpath``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, key: "SessionKey", entries: "list[SessionStoreEntry]") -> None:
        """Add entries to a transcript, but those whose uuid it has already."""
        if entries:
            async with self._database.writing() as transaction:
                given = cast("list[Entry]", entries)
                await append_entries(transaction, key, lambda _: given)

    async def load(self, key: "SessionKey") -> "list[SessionStoreEntry] | None":
        """All entries of a transcript in their order; None if it was never written."""
        async with self._database.reading() as transaction:
            found = await find_transcript(transaction, key)
            if found is None:
                return None
            entries = await load_entries(transaction, found)
        return cast("list[SessionStoreEntry]", entries)

    async def list_sessions(self, project_key: str) -> "list[SessionStoreListEntry]":
        """The main transcripts of a project, with the times of their last change in
        milliseconds.
        """
        async with self._database.reading() as transaction:
            rows = await _main_transcripts(transaction, project_key)
        return [{"session_id": row.session_id, "mtime": row.modified_ms} for row in rows]

    async def list_session_summaries(self, project_key: str) -> "list[SessionSummaryEntry]":
        """What the SDK shows of the main transcripts of a project in a list."""
        # Made when asked for: kept beside the entries, it would have every append import the SDK.
        from claude_agent_sdk import fold_session_summary

        summaries = []
        async with self._database.reading() as transaction:
            for row in await _main_transcripts(transaction, project_key):
                key: SessionKey = {"project_key": project_key, "session_id": row.session_id}
                entries = cast("list[SessionStoreEntry]", await load_entries(transaction, row))
                summary = fold_session_summary(None, key, entries)
                summaries.append({**summary, "mtime": row.modified_ms})
        return cast("list[SessionSummaryEntry]", summaries)

    async def delete(self, key: "SessionKey") -> None:
        """Delete a transcript, with a main one also those of its subagents."""
        async with self._database.writing() as transaction:
            await delete_transcripts(transaction, key)

    async def list_subkeys(self, key: "SessionListSubkeysKey") -> list[str]:
        """The subpaths that have a transcript in a session."""
        async with self._database.reading() as transaction:
            table = transaction.tables.transcripts
            below = (table.c.project_key == key["project_key"]) & (table.c.subpath != "")
            of_session = below & (table.c.session_id == key["session_id"])
            rows = await transaction.all(table.select().where(of_session))
        return [row.subpath for row in rows]


async def append_entries(
    transaction: Transaction, key: "SessionKey", make: Callable[[str | None], list[Entry]]
) -> list[Entry]:
    """Add entries to a transcript and return them: those that ``make`` makes, given the uuid of
    the entry that they go on from. What is hidden there is deleted.
    """
    tables = transaction.tables
    found = await find_transcript(transaction, key, lock=True)
    if found is None:
        new = {**key, "subpath": key.get("subpath", ""), "next_seq": 0, "modified_ms": 0}
        await transaction.run(transaction.insert_new(tables.transcripts).values(**new))
        found = await find_transcript(transaction, key, lock=True)
    if found.shown_upto is not None:
        gone = tables.entries.c.transcript_id == found.id
        gone &= tables.entries.c.seq > found.shown_upto
        await transaction.run(tables.entries.delete().where(gone))
    entries = make(found.last_uuid)
    rows = [
        {"transcript_id": found.id, "seq": seq, "uuid": entry.get("uuid"), "entry": entry}
        for seq, entry in enumerate(entries, found.next_seq)
    ]
    await transaction.run(transaction.insert_new(tables.entries), rows)
    named = [row["uuid"] for row in rows if row["uuid"]]
    await change_transcript(
        transaction,
        found.id,
        next_seq=found.next_seq + len(rows),
        modified_ms=int(time.time() * 1000),
        last_uuid=named[-1] if named else found.last_uuid,
        shown_upto=None,
    )
    return entries


async def change_transcript(transaction: Transaction, id: int, **values: Any) -> None:
    """Write other values into the row of a transcript."""
    table = transaction.tables.transcripts
    await transaction.run(table.update().where(table.c.id == id).values(**values))


async def find_transcript(
    transaction: Transaction, key: "SessionKey", *, lock: bool = False
) -> Any:
    """The row of a transcript or None; locked, nobody else adds to it meanwhile."""
    table = transaction.tables.transcripts
    named = _in_session(transaction, key) & (table.c.subpath == key.get("subpath", ""))
    statement = table.select().where(named)
    return await transaction.first(statement.with_for_update() if lock else statement)


async def load_entries(
    transaction: Transaction, transcript: Any, *, hidden: bool = False
) -> list[Entry]:
    """The entries of a transcript, of which this is the row, in their order; with ``hidden`` also
    those that are.
    """
    table = transaction.tables.entries
    wanted = table.c.transcript_id == transcript.id
    if transcript.shown_upto is not None and not hidden:
        wanted &= table.c.seq <= transcript.shown_upto
    rows = await transaction.all(table.select().where(wanted).order_by(table.c.seq))
    return [row.entry for row in rows]


async def show_upto(transaction: Transaction, transcript: Any, uuid: str | None) -> bool:
    """Hide the entries after this one (None: all of them) and show all others; False where there
    is no such entry, and nothing was changed.
    """
    last = -1
    if uuid is not None:
        table = transaction.tables.entries
        named = (table.c.transcript_id == transcript.id) & (table.c.uuid == uuid)
        row = await transaction.first(table.select().where(named))
        if row is None:
            return False
        last = row.seq
    now = int(time.time() * 1000)
    await change_transcript(
        transaction, transcript.id, shown_upto=last, last_uuid=uuid, modified_ms=now
    )
    return True


async def delete_transcripts(transaction: Transaction, key: "SessionKey") -> None:
    """Delete the transcripts that a key names; their entries go with them."""
    table = transaction.tables.transcripts
    named = _in_session(transaction, key)
    if subpath := key.get("subpath"):
        named &= table.c.subpath == subpath
    await transaction.run(table.delete().where(named))


async def _main_transcripts(transaction: Transaction, project_key: str) -> Sequence[Any]:
    table = transaction.tables.transcripts
    main = (table.c.project_key == project_key) & (table.c.subpath == "")
    return await transaction.all(table.select().where(main))


def _in_session(transaction: Transaction, key: "SessionKey") -> "ColumnElement[bool]":
    columns = transaction.tables.transcripts.c
    return (columns.project_key == key["project_key"]) & (columns.session_id == key["session_id"])
