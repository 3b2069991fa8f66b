"""Answers of the Responses API, each with what it added to the one before it."""

from collections.abc import Collection
from typing import Any

from .database import Database, Transaction
from .errors import NoSuchResponse
from .ids import can_be_kept, is_id
from .values import Response


class Responses:
    """The responses of all owners. Every method but ``expire`` takes the owner, by itself or in
    the response, and raises ``NoSuchResponse`` for an id that is not this owner's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, response: Response) -> None:
        """Keep a response; one with its id that is there already is changed, but for its place
        after another. ``id`` is resp_ and 32 hexadecimal digits.
        """
        if not is_id(response.id, "resp"):
            raise ValueError(f"{response.id!r} is no id of a response")
        content = {
            "conversation_id": response.conversation_id,
            "body": response.body,
            "input_items": response.input_items,
            "messages": response.messages,
        }
        async with self._database.writing() as transaction:
            table = transaction.tables.responses
            own = (table.c.id == response.id) & (table.c.owner == response.owner)
            items = transaction.tables.response_items
            if await transaction.run(table.update().where(own).values(**content)):
                await transaction.run(items.delete().where(items.c.response_id == response.id))
            else:
                new = transaction.insert_new(table).values(
                    id=response.id,
                    owner=response.owner,
                    created_at=response.created_at,
                    parent_id=response.parent_id,
                    **content,
                )
                if not await transaction.run(new):
                    raise ValueError(f"{response.id!r} is a response of another owner's")
            named = {item["id"] for item in _items(response.body, response.input_items)}
            if named:
                rows = [{"response_id": response.id, "item_id": id} for id in sorted(named)]
                await transaction.run(items.insert(), rows)

    async def get(self, owner: str, id: str) -> Response:
        """One response."""
        async with self._database.reading() as transaction:
            return _value(await _find(transaction, owner, id))

    async def delete(self, owner: str, id: str) -> None:
        """Delete a response. Those that go on from it stay, but nobody can go on from them."""
        async with self._database.writing() as transaction:
            await _find(transaction, owner, id)
            table = transaction.tables.responses
            await transaction.run(table.delete().where(table.c.id == id))

    async def items(self, owner: str, ids: Collection[str]) -> dict[str, dict[str, Any]]:
        """The items with these ids in what was asked and answered, as far as there are any."""
        wanted = [id for id in ids if can_be_kept(id)]
        async with self._database.reading() as transaction:
            table, items = transaction.tables.responses, transaction.tables.response_items
            having = items.select().with_only_columns(items.c.response_id)
            found = table.select().where(
                (table.c.owner == owner) & table.c.id.in_(having.where(items.c.item_id.in_(wanted)))
            )
            rows = await transaction.all(found)
        known = {item["id"]: item for row in rows for item in _items(row.body, row.input_items)}
        return {id: known[id] for id in ids if id in known}

    async def history(self, owner: str, id: str) -> list[dict[str, Any]]:
        """All that was said up to and with a response: its messages and before them those of all
        that it goes on from. ``NoSuchResponse`` names the one of them that is missing.
        """
        async with self._database.reading() as transaction:
            await _find(transaction, owner, id)
            table = transaction.tables.responses
            own = table.c.owner == owner
            link = table.select().with_only_columns(table.c.id, table.c.parent_id)
            chain = link.where(own & (table.c.id == id)).cte("chain", recursive=True)
            # UNION, unlike UNION ALL, ends also where two should be each other's parents.
            chain = chain.union(link.where(own & (table.c.id == chain.c.parent_id)))
            in_chain = chain.select().with_only_columns(chain.c.id)
            rows = await transaction.all(table.select().where(table.c.id.in_(in_chain)))
        by_id = {row.id: row for row in rows}
        messages: list[dict[str, Any]] = []
        wanted: str | None = id
        while wanted is not None:
            if wanted not in by_id:
                raise NoSuchResponse(wanted)
            row = by_id.pop(wanted)
            messages[:0] = row.messages
            wanted = row.parent_id
        return messages

    async def expire(self, older_than: float) -> int:
        """Delete all responses, of whatever owner, made before this moment, but for those that
        later ones go on from; returns how many.
        """
        async with self._database.writing() as transaction:
            table = transaction.tables.responses
            link = table.select().with_only_columns(table.c.id, table.c.parent_id)
            kept = link.where(table.c.created_at >= older_than).cte("kept", recursive=True)
            kept = kept.union(link.where(table.c.id == kept.c.parent_id))
            needed = kept.select().with_only_columns(kept.c.id)
            old = (table.c.created_at < older_than) & table.c.id.not_in(needed)
            rows = await transaction.all(link.where(old))
            await transaction.run(table.delete().where(old))
            return len(rows)


def _items(body: dict[str, Any], asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items of a response that have an id by which they can be found."""
    items = (*asked, *body.get("output", ()))
    return [item for item in items if item.get("id") and can_be_kept(item["id"])]


def _value(row: Any) -> Response:
    return Response(**row._mapping)


async def _find(transaction: Transaction, owner: str, id: str) -> Any:
    if not is_id(id, "resp"):
        raise NoSuchResponse(id)
    table = transaction.tables.responses
    row = await transaction.first(
        table.select().where((table.c.id == id) & (table.c.owner == owner))
    )
    if row is None:
        raise NoSuchResponse(id)
    return row
