"""Conversations and what is said in them."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from . import entries as shape
from .database import Database, Transaction
from .entries import Entry
from .errors import NoSuchConversation, NoSuchMessage
from .ids import can_be_kept, is_id, new_id
from .transcripts import (
    append_entries,
    change_transcript,
    delete_transcripts,
    find_transcript,
    load_entries,
    show_upto,
)
from .values import Content, Conversation, Page, Role, StoredMessage

if TYPE_CHECKING:
    from claude_agent_sdk import SessionKey

# In the class ``list`` is the method.
Messages = list[StoredMessage]

# So many are deleted together: others get their turn in between.
_BATCH = 200


class Conversations:
    """The conversations of all owners. Their messages are kept as transcripts of Claude Code's,
    once: this is a face over them. Messages that are hidden (see ``show``) are as if they were not
    there.

    Every method but ``expire`` and ``missing`` takes the owner, and raises ``NoSuchConversation``
    for an id that is not this owner's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        owner: str,
        *,
        metadata: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        title: str | None = None,
        id: str | None = None,
        messages: Sequence[tuple[Role, Content]] = (),
    ) -> Conversation:
        """Begin a conversation, with what was said already. ``id`` is conv_ and 32 hexadecimal
        digits that no other has, a new one where none is given.
        """
        now = time.time()
        new = Conversation(
            id or new_id("conv"), owner, now, now, title, dict(metadata or {}), dict(settings or {})
        )
        if not is_id(new.id, "conv"):
            raise ValueError(f"{new.id!r} is no id of a conversation")
        async with self._database.writing() as transaction:
            session = await _insert(transaction, new)
            await _say(transaction, session, messages)
        return new

    async def get(self, owner: str, id: str) -> Conversation:
        """One conversation."""
        async with self._database.reading() as transaction:
            return _value(await _find(transaction, owner, id))

    async def list(
        self,
        owner: str,
        *,
        limit: int = 20,
        after: str | None = None,
        order: Literal["asc", "desc"] = "desc",
    ) -> Page[Conversation]:
        """Up to ``limit`` conversations by their age, newest first with ``desc``, that come after
        the one with the id ``after``.
        """
        async with self._database.reading() as transaction:
            table = transaction.tables.conversations
            created, id = table.c.created_at, table.c.id
            wanted = table.select().where(table.c.owner == owner)
            if after is not None:
                row = await _find(transaction, owner, after)
                if order == "asc":
                    later = (created > row.created_at) | (
                        (created == row.created_at) & (id > row.id)
                    )
                else:
                    later = (created < row.created_at) | (
                        (created == row.created_at) & (id < row.id)
                    )
                wanted = wanted.where(later)
            sort = (created, id) if order == "asc" else (created.desc(), id.desc())
            rows = await transaction.all(wanted.order_by(*sort).limit(limit + 1))
        return Page([_value(row) for row in rows[:limit]], len(rows) > limit)

    async def update(
        self,
        owner: str,
        id: str,
        *,
        metadata: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        title: str | None = None,
    ) -> Conversation:
        """Put others in the place of these; None leaves what is there."""
        given = {
            "metadata": None if metadata is None else dict(metadata),
            "settings": None if settings is None else dict(settings),
            "title": title,
        }
        values = {name: value for name, value in given.items() if value is not None}
        async with self._database.writing() as transaction:
            await _touch(transaction, owner, id, **values)
            return _value(await _find(transaction, owner, id))

    async def delete(self, owner: str, id: str) -> None:
        """Delete a conversation and all that was said in it."""
        async with self._database.writing() as transaction:
            row = await _find(transaction, owner, id, lock=True)
            await _delete(transaction, row)

    async def fork(
        self,
        owner: str,
        id: str,
        *,
        upto: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Conversation:
        """A new conversation that begins like this one, up to and with the message ``upto``, and
        with this one's settings, title and, unless others are given, metadata.
        """
        now = time.time()
        async with self._database.writing() as transaction:
            row = await _find(transaction, owner, id)
            chain = await _chain(transaction, _session(row))
            if upto is not None:
                chain = chain[: _position(chain, upto) + 1]
            new = Conversation(
                new_id("conv"),
                owner,
                now,
                now,
                row.title,
                dict(row.metadata if metadata is None else metadata),
                dict(row.settings),
            )
            session = await _insert(transaction, new)
            if chain:
                copy = partial(shape.copies, session["session_id"], chain)
                await append_entries(transaction, session, copy)
        return new

    async def expire(self, older_than: float) -> int:
        """Delete all conversations, of whatever owner, that were last changed before this moment;
        returns how many.
        """
        deleted = 0
        while True:
            async with self._database.writing() as transaction:
                table = transaction.tables.conversations
                old = table.select().where(table.c.updated_at < older_than)
                rows = await transaction.all(old.limit(_BATCH).with_for_update())
                for row in rows:
                    await _delete(transaction, row)
            deleted += len(rows)
            if len(rows) < _BATCH:
                return deleted

    async def missing(self, ids: Sequence[str]) -> set[str]:
        """Those of these ids that no conversation has, of whatever owner."""
        left = set(ids)
        async with self._database.reading() as transaction:
            table = transaction.tables.conversations
            for first in range(0, len(ids), _BATCH):
                some = [id for id in ids[first : first + _BATCH] if is_id(id, "conv")]
                found = table.select().with_only_columns(table.c.id).where(table.c.id.in_(some))
                left -= {row.id for row in await transaction.all(found)}
        return left

    async def session(self, owner: str, id: str) -> "SessionKey":
        """Under which key ``Store.transcripts`` has the conversation's transcript."""
        async with self._database.reading() as transaction:
            return _session(await _find(transaction, owner, id))

    async def append(
        self,
        owner: str,
        id: str,
        messages: Sequence[tuple[Role, Content]],
        *,
        dropping: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> Messages:
        """Add messages at the end, in the place of those with the uuids ``dropping``, and change
        the ``settings`` where they are given: all of it or nothing. An assistant's text is kept,
        and given back, as one block of text. Where there are any, what is hidden is deleted.
        """
        changes = {} if settings is None else {"settings": dict(settings)}
        async with self._database.writing() as transaction:
            session = _session(await _touch(transaction, owner, id, **changes))
            for uuid in dropping:
                await _take_out(transaction, session, uuid)
            made = await _say(transaction, session, messages)
        return [shape.stored(entry) for entry in made]

    async def messages(self, owner: str, id: str) -> Messages:
        """All messages in their order."""
        async with self._database.reading() as transaction:
            chain = await _chain(transaction, _session(await _find(transaction, owner, id)))
        return [shape.stored(entry) for entry in chain]

    async def show(self, owner: str, id: str, upto: str | None) -> None:
        """Have the conversation end with the message ``upto``, hidden or not (None: before the
        first one). Those after it are hidden, those before it shown. Doing it again changes nothing
        more.
        """
        async with self._database.writing() as transaction:
            session = _session(await _touch(transaction, owner, id))
            transcript = await find_transcript(transaction, session, lock=True)
            if upto is None and transcript is None:
                return
            known = transcript is not None and (upto is None or can_be_kept(upto))
            if not known or not await show_upto(transaction, transcript, upto):
                raise NoSuchMessage(str(upto))

    async def has_message(self, owner: str, id: str, uuid: str) -> bool:
        """Whether it has this message, hidden or not."""
        async with self._database.reading() as transaction:
            session = _session(await _find(transaction, owner, id))
            transcript = await find_transcript(transaction, session)
            if transcript is None:
                return False
            entries = await load_entries(transaction, transcript, hidden=True)
        return any(entry.get("uuid") == uuid for entry in entries)

    async def replace(self, owner: str, id: str, uuid: str, content: Content) -> StoredMessage:
        """Have a message say something else."""
        async with self._database.writing() as transaction:
            session = _session(await _touch(transaction, owner, id))
            chain = await _chain(transaction, session)
            entry = shape.with_content(chain[_position(chain, uuid)], content)
            await _write(transaction, session, entry)
        return shape.stored(entry)

    async def remove(self, owner: str, id: str, uuid: str) -> None:
        """Take a message out; what came after it comes after the one before it."""
        async with self._database.writing() as transaction:
            session = _session(await _touch(transaction, owner, id))
            await _take_out(transaction, session, uuid)


async def _take_out(transaction: Transaction, session: "SessionKey", uuid: str) -> None:
    """Take a message out of a transcript."""
    transcript = await find_transcript(transaction, session, lock=True)
    entries = await load_entries(transaction, transcript) if transcript else []
    chain = shape.message_chain(entries)
    gone = chain[_position(chain, uuid)]
    for entry in await load_entries(transaction, transcript, hidden=True):
        if entry.get("parentUuid") == uuid:
            moved = {**entry, "parentUuid": gone.get("parentUuid")}
            await _write(transaction, session, moved)
    table = transaction.tables.entries
    of_it = (table.c.transcript_id == transcript.id) & (table.c.uuid == uuid)
    await transaction.run(table.delete().where(of_it))
    if transcript.last_uuid == uuid:
        await change_transcript(transaction, transcript.id, last_uuid=gone.get("parentUuid"))


def _session(row: Any) -> "SessionKey":
    return {"project_key": row.owner, "session_id": row.session_id}


def _value(row: Any) -> Conversation:
    return Conversation(
        row.id,
        row.owner,
        row.created_at,
        row.updated_at,
        row.title,
        row.metadata,
        row.settings,
    )


async def _find(transaction: Transaction, owner: str, id: str, *, lock: bool = False) -> Any:
    """The row of a conversation; locked, others wait who want to change it."""
    if not is_id(id, "conv"):
        raise NoSuchConversation(id)
    table = transaction.tables.conversations
    statement = table.select().where((table.c.id == id) & (table.c.owner == owner))
    row = await transaction.first(statement.with_for_update() if lock else statement)
    if row is None:
        raise NoSuchConversation(id)
    return row


async def _touch(transaction: Transaction, owner: str, id: str, **values: Any) -> Any:
    """Lock a conversation and note that it changes now; the row as it was."""
    row = await _find(transaction, owner, id, lock=True)
    table = transaction.tables.conversations
    changed = table.update().where(table.c.id == id).values(updated_at=time.time(), **values)
    await transaction.run(changed)
    return row


async def _insert(transaction: Transaction, new: Conversation) -> "SessionKey":
    session = str(uuid4())
    insert = transaction.insert_new(transaction.tables.conversations).values(
        id=new.id,
        owner=new.owner,
        created_at=new.created_at,
        updated_at=new.updated_at,
        title=new.title,
        metadata=new.metadata,
        settings=new.settings,
        session_id=session,
    )
    if not await transaction.run(insert):
        raise ValueError(f"there is a conversation {new.id!r} already")
    return {"project_key": new.owner, "session_id": session}


async def _delete(transaction: Transaction, row: Any) -> None:
    await delete_transcripts(transaction, _session(row))
    table = transaction.tables.conversations
    await transaction.run(table.delete().where(table.c.id == row.id))


async def _chain(transaction: Transaction, session: "SessionKey") -> list[Entry]:
    transcript = await find_transcript(transaction, session)
    if transcript is None:
        return []
    return shape.message_chain(await load_entries(transaction, transcript))


def _position(chain: Sequence[Entry], uuid: str) -> int:
    for position, entry in enumerate(chain):
        if entry["uuid"] == uuid:
            return position
    raise NoSuchMessage(uuid)


async def _say(
    transaction: Transaction, session: "SessionKey", messages: Sequence[tuple[Role, Content]]
) -> list[Entry]:
    """Add messages to a transcript; the entries that they have become."""
    if not messages:
        return []
    make = partial(shape.make_entries, session["session_id"], messages)
    return await append_entries(transaction, session, make)


async def _write(transaction: Transaction, session: "SessionKey", entry: Entry) -> None:
    """Put an entry in the place of the one with its uuid."""
    transcript = await find_transcript(transaction, session, lock=True)
    table = transaction.tables.entries
    of_it = (table.c.transcript_id == transcript.id) & (table.c.uuid == entry["uuid"])
    await transaction.run(table.update().where(of_it).values(entry=entry))
