"""Sessions that outlive the server's process, each with the events that its clients are told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .database import Database, Transaction
from .ids import can_be_kept

# In the class ``list`` is the method.
_Events = list[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session of an owner's; its events are asked for apart.

    ``settings`` are the server's own. No event has, or had, a number above ``last_event_id``.
    ``mark`` is what the source of the events knows the last of them by that it gave a mark; only
    ``Sessions.append`` changes it. Times are Unix seconds.
    """

    id: str
    owner: str
    created_at: float
    updated_at: float
    settings: dict[str, Any]
    last_event_id: int
    closed: bool
    mark: str = ""


class Sessions:
    """The sessions of all owners. Only ``list`` takes an owner: whose a session is that was asked
    for by its id, the caller sees.

    An event is its number in the session and its JSON text, which is given back as it was.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, session: StoredSession) -> None:
        """Keep a session. One with its id that is there already is changed, but for its owner and
        when it was made, and its mark; of the two ``last_event_id`` the greater one stays.
        """
        if not can_be_kept(session.id):
            raise ValueError(f"{session.id!r} is no id of a session")
        values = {name: getattr(session, name) for name in session.__slots__}
        async with self._database.writing() as transaction:
            table = transaction.tables.sessions
            if await transaction.run(transaction.insert_new(table).values(**values)):
                return
            for stays in ("owner", "created_at", "last_event_id", "mark"):
                del values[stays]
            await transaction.run(table.update().where(table.c.id == session.id).values(**values))
            await _raise_last(transaction, session.id, session.last_event_id)

    async def get(self, id: str) -> StoredSession | None:
        """One session, whoever owns it; None where there is none."""
        if not can_be_kept(id):
            return None
        async with self._database.reading() as transaction:
            table = transaction.tables.sessions
            row = await transaction.first(table.select().where(table.c.id == id))
        return None if row is None else _value(row)

    async def list(
        self, owner: str | None = None, *, closed: bool = False
    ) -> "list[StoredSession]":
        """The sessions of an owner, or of all owners, oldest first; with ``closed`` also those
        that are closed.
        """
        async with self._database.reading() as transaction:
            table = transaction.tables.sessions
            wanted = table.select().order_by(table.c.created_at, table.c.id)
            if owner is not None:
                wanted = wanted.where(table.c.owner == owner)
            if not closed:
                wanted = wanted.where(table.c.closed.is_(False))
            return [_value(row) for row in await transaction.all(wanted)]

    async def delete(self, id: str) -> None:
        """Delete a session and its events, where there is one."""
        if not can_be_kept(id):
            return
        async with self._database.writing() as transaction:
            table = transaction.tables.sessions
            await transaction.run(table.delete().where(table.c.id == id))

    async def append(self, id: str, events: Sequence[tuple[int, str]], mark: str = "") -> None:
        """Add events to a session, but those whose number it has already, and in the same moment
        its mark, if one is given; does nothing where there is no such session, as when it was
        deleted meanwhile.
        """
        if not events or not can_be_kept(id):
            return
        async with self._database.writing() as transaction:
            tables = transaction.tables
            # Locked, so that it is not deleted between this and its events.
            own = tables.sessions.select().where(tables.sessions.c.id == id)
            if await transaction.first(own.with_for_update()) is None:
                return
            rows = [
                {"session_id": id, "event_id": number, "body": _bytes(text)}
                for number, text in events
            ]
            await transaction.run(transaction.insert_new(tables.session_events), rows)
            await _raise_last(transaction, id, max(number for number, _ in events))
            if mark:
                table = tables.sessions
                marked = table.update().where(table.c.id == id).values(mark=mark)
                await transaction.run(marked)

    async def read(
        self, id: str, *, after: int, upto: int | None = None, limit: int = 1000
    ) -> _Events:
        """Up to ``limit`` events of a session by their numbers, lowest first: those that come
        after ``after``, and not after ``upto``.
        """
        if not can_be_kept(id):
            return []
        async with self._database.reading() as transaction:
            table = transaction.tables.session_events
            number = table.c.event_id
            wanted = table.select().with_only_columns(number, table.c.body)
            wanted = wanted.where((table.c.session_id == id) & (number > after))
            if upto is not None:
                wanted = wanted.where(number <= upto)
            rows = await transaction.all(wanted.order_by(number).limit(limit))
        return [(row.event_id, _text(row.body)) for row in rows]

    async def reserve(self, id: str, upto: int) -> None:
        """Have ``last_event_id`` be no less than this, before such events are told: whoever goes on
        with the session after a crash gives none of these numbers to another event.
        """
        if not can_be_kept(id):
            return
        async with self._database.writing() as transaction:
            await _raise_last(transaction, id, upto)

    async def expire(self, older_than: float) -> int:
        """Delete the closed sessions, of whatever owner, that were last changed before this moment;
        returns how many.
        """
        async with self._database.reading() as transaction:
            table = transaction.tables.sessions
            old = table.c.closed.is_(True) & (table.c.updated_at < older_than)
            rows = await transaction.all(table.select().with_only_columns(table.c.id).where(old))
        deleted = 0
        for row in rows:
            # One by one: it may have many events, and others get their turn in between.
            async with self._database.writing() as transaction:
                gone = table.delete().where(old & (table.c.id == row.id))
                deleted += await transaction.run(gone)
        return deleted


def _bytes(text: str) -> bytes:
    # A text of JSON may have half a surrogate pair in it, which no database takes for a text.
    return text.encode("utf-8", "surrogatepass")


def _text(body: bytes) -> str:
    return body.decode("utf-8", "surrogatepass")


def _value(row: Any) -> StoredSession:
    return StoredSession(**row._mapping)


async def _raise_last(transaction: Transaction, id: str, upto: int) -> None:
    table = transaction.tables.sessions
    lower = (table.c.id == id) & (table.c.last_event_id < upto)
    await transaction.run(table.update().where(lower).values(last_event_id=upto))
