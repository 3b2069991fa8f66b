"""Sessions and their events: kept once, given back as they were, and gone together."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from jupyter_ccapi.store import Store, StoredSession

ID = "a session"
ODD = ["nul \0", "\ud800"]


def session(id: str = ID, **more: Any) -> StoredSession:
    """A session that was just made."""
    given: dict[str, Any] = {
        "id": id,
        "owner": "ann",
        "created_at": 100.0,
        "updated_at": 100.0,
        "settings": {"cwd": "/home/ann", "pinned": False},
        "last_event_id": 0,
        "closed": False,
    }
    return StoredSession(**{**given, **more})


def events(first: int, last: int, says: str = "") -> list[tuple[int, str]]:
    """The events with these numbers and those between."""
    return [(n, json.dumps({"event_id": n, "says": says})) for n in range(first, last + 1)]


async def numbers(store: Store, id: str = ID, **which: Any) -> list[int]:
    """The numbers of the events that are read."""
    return [number for number, _ in await store.sessions.read(id, **{"after": 0, **which})]


async def rows_of_events(store: Store) -> int:
    """How many events there are in the database."""
    async with store._database.reading() as transaction:
        return len(await transaction.all(transaction.tables.session_events.select()))


async def test_what_is_kept_is_there_after_a_restart(
    url: str, make_store: Callable[..., Store]
) -> None:
    store = make_store(url)
    kept = session(settings={"nul \0": [None, 1.5, "é"]}, last_event_id=2**40, closed=True)
    await store.sessions.put(kept)
    await store.sessions.append(ID, events(1, 3))
    await store.close()
    after = make_store(url)
    assert await after.sessions.get(ID) == kept
    assert await after.sessions.read(ID, after=0) == events(1, 3)


async def test_put_again_it_is_changed_but_for_its_owner_and_when_it_was_made(
    store: Store,
) -> None:
    await store.sessions.put(session(last_event_id=5))
    other = session(settings={"model": "opus"}, closed=True, updated_at=200.0, last_event_id=9)
    await store.sessions.put(replace(other, owner="bob", created_at=150.0))
    assert await store.sessions.get(ID) == other
    await store.sessions.put(session())
    assert await store.sessions.get(ID) == session(last_event_id=9)


async def test_the_last_number_only_rises(store: Store) -> None:
    async def last() -> int:
        found = await store.sessions.get(ID)
        assert found is not None
        return found.last_event_id

    await store.sessions.put(session())
    await store.sessions.reserve(ID, 1000)
    assert await last() == 1000
    await store.sessions.reserve(ID, 999)
    await store.sessions.append(ID, events(998, 999))
    assert await last() == 1000
    await store.sessions.append(ID, events(1000, 1002))  # more than were reserved
    assert await last() == 1002
    await store.sessions.reserve("another", 5)
    assert await store.sessions.get("another") is None


async def test_sessions_are_listed_by_their_age_and_closed_ones_when_asked_for(
    store: Store,
) -> None:
    made = [
        session("d", created_at=3.0),
        session("b", created_at=1.0),
        session("a", created_at=2.0, closed=True),
        session("c", created_at=2.5, owner="bob"),
    ]
    for one in made:
        await store.sessions.put(one)

    async def listed(owner: str | None = None, *, closed: bool = False) -> str:
        return "".join(one.id for one in await store.sessions.list(owner, closed=closed))

    assert await listed() == "bcd"
    assert await listed(closed=True) == "bacd"
    assert await listed("ann") == "bd"
    assert await listed("ann", closed=True) == "bad"
    assert await listed("eve", closed=True) == ""
    assert await store.sessions.list("bob") == [made[3]]


async def test_the_mark_comes_and_goes_with_the_events(store: Store) -> None:
    async def mark() -> str:
        found = await store.sessions.get(ID)
        assert found is not None
        return found.mark

    await store.sessions.put(session())
    assert await mark() == ""
    await store.sessions.append(ID, events(1, 2), "run:2")
    assert await mark() == "run:2"
    await store.sessions.append(ID, events(3, 4))
    # Who keeps the session knows an older one.
    await store.sessions.put(session(mark="run:1"))
    assert await mark() == "run:2"
    await store.sessions.put(session("another"))
    await store.sessions.append(ID, events(5, 5), "run:5")
    assert await mark() == "run:5"
    assert [one.mark for one in await store.sessions.list()] == ["run:5", ""]
    # What is not written leaves the mark as it is.
    with pytest.raises(Exception, match="says"):
        await store.sessions.append(ID, [(6, "{}"), (7, Says())], "run:7")  # type: ignore[list-item]
    assert await mark() == "run:5"
    await store.sessions.append("none", events(1, 1), "run:1")


class Says:
    """Something that cannot be an event."""

    def encode(self, *_: object) -> bytes:
        """It cannot."""
        raise ValueError("it says nothing")


async def test_events_are_read_in_their_order_and_in_parts(store: Store) -> None:
    await store.sessions.put(session())
    await store.sessions.put(session("another"))
    await store.sessions.append(ID, events(6, 9))
    await store.sessions.append("another", events(1, 20))
    await store.sessions.append(ID, list(reversed(events(1, 4))))
    assert await numbers(store) == [1, 2, 3, 4, 6, 7, 8, 9]
    assert await numbers(store, after=3) == [4, 6, 7, 8, 9]
    assert await numbers(store, after=3, upto=7) == [4, 6, 7]
    assert await numbers(store, after=1, limit=3) == [2, 3, 4]
    assert await numbers(store, after=1, upto=2, limit=3) == [2]
    assert await numbers(store, after=9) == []
    assert await numbers(store, after=5, upto=5) == []


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"text": "nul \0 é \U0001f600 \ud800"}),
        json.dumps({"text": "nul \0 é \U0001f600 \ud800"}, ensure_ascii=False),
        ' { "b" : 1.0, "a": 1E2, "a":12345678901234567890 }\n',
        json.dumps("x" * 3_000_000),
    ],
    ids=["escaped", "not escaped", "of anothers making", "long"],
)
async def test_an_event_is_given_back_to_the_letter(store: Store, text: str) -> None:
    await store.sessions.put(session())
    await store.sessions.append(ID, [(1, text)])
    ((number, found),) = await store.sessions.read(ID, after=0)
    assert number == 1
    assert found == text


async def test_an_event_that_is_there_already_stays_as_it_is(store: Store) -> None:
    await store.sessions.put(session())
    await store.sessions.append(ID, events(1, 500, "first"))
    await store.sessions.append(ID, events(1, 500, "again"))
    await store.sessions.append(ID, [])
    await store.sessions.append(ID, events(400, 600, "more") * 2)
    expected = events(1, 500, "first") + events(501, 600, "more")
    assert await store.sessions.read(ID, after=0) == expected


async def test_many_events_are_read_a_thousand_at_a_time(store: Store) -> None:
    await store.sessions.put(session())
    told = events(1, 2500)
    for first in range(0, 2500, 500):
        await store.sessions.append(ID, told[first : first + 500])
    found: list[tuple[int, str]] = []
    for length in (1000, 1000, 500, 0):
        part = await store.sessions.read(ID, after=len(found))
        assert len(part) == length
        found += part
    assert found == told


async def test_a_deleted_session_takes_its_events_along_and_gets_no_more(store: Store) -> None:
    for id in (ID, "another"):
        await store.sessions.put(session(id))
        await store.sessions.append(id, events(1, 3))
    for _ in range(2):  # where there is none, there is none
        await store.sessions.delete(ID)
        assert await store.sessions.get(ID) is None
        await store.sessions.append(ID, events(1, 3))
        await store.sessions.reserve(ID, 9)
        assert await numbers(store) == []
        assert await rows_of_events(store) == 3
    await store.sessions.put(session())
    assert await store.sessions.get(ID) == session()
    assert await numbers(store) == []
    assert await numbers(store, "another") == [1, 2, 3]


async def test_events_that_are_added_while_it_is_deleted_are_gone_with_it(
    url: str, make_store: Callable[..., Store]
) -> None:
    stores = [make_store(url), make_store(url)]
    for _ in range(10):
        await stores[0].sessions.put(session())
        await asyncio.gather(
            *(stores[0].sessions.append(ID, events(n, n + 1)) for n in range(1, 10, 2)),
            stores[1].sessions.delete(ID),
        )
        assert await rows_of_events(stores[1]) == 0


async def test_two_who_add_and_put_at_once_lose_nothing(
    url: str, make_store: Callable[..., Store]
) -> None:
    stores = [make_store(url), make_store(url)]
    await asyncio.gather(*(store.sessions.put(session()) for store in stores))
    await asyncio.gather(
        *(store.sessions.append(ID, events(n, n + 9)) for store in stores for n in range(1, 50, 5)),
        *(store.sessions.put(session()) for store in stores),
    )
    assert await numbers(stores[0]) == list(range(1, 56))
    assert await stores[1].sessions.get(ID) == session(last_event_id=55)


@pytest.mark.parametrize("odd", ODD)
async def test_what_no_database_can_hold_is_no_session(store: Store, odd: str) -> None:
    with pytest.raises(ValueError, match="no id of a session"):
        await store.sessions.put(session(odd))
    assert await store.sessions.get(odd) is None
    await store.sessions.append(odd, events(1, 1))
    await store.sessions.reserve(odd, 1)
    await store.sessions.delete(odd)
    assert await numbers(store, odd) == []
    assert await store.sessions.list() == []


async def test_closed_sessions_expire_with_their_events(store: Store) -> None:
    now = time.time()
    for id, age, closed in (("a", 100, True), ("b", 90, True), ("c", 10, True), ("d", 100, False)):
        await store.sessions.put(session(id, updated_at=now - age, closed=closed))
        await store.sessions.append(id, events(1, 2))
    assert await store.sessions.expire(now - 50) == 2
    assert await store.sessions.expire(now - 50) == 0
    left = await store.sessions.list(closed=True)
    assert [one.id for one in left] == ["c", "d"]
    assert await rows_of_events(store) == 4
    assert await numbers(store, "c") == [1, 2]


BEFORE = (
    "DROP TABLE session_events",
    "DROP TABLE sessions",
    "UPDATE alembic_version SET version_num = '0002'",
)


async def test_a_database_of_before_keeps_what_it_has_and_takes_sessions(
    url: str, make_store: Callable[..., Store], set_back: Callable[[tuple[str, ...]], None]
) -> None:
    store = make_store(url)
    made = await store.conversations.create("ann", messages=[("user", "Hello")])
    key, secret = await store.keys.create("ann", "laptop")
    await store.close()
    set_back(BEFORE)
    after = make_store(url)
    assert await after.sessions.list() == []
    assert await after.conversations.get("ann", made.id) == made
    (message,) = await after.conversations.messages("ann", made.id)
    assert message.content == "Hello"
    assert await after.keys.verify(secret) == key
    await after.sessions.put(session())
    await after.sessions.append(ID, events(1, 2))
    assert await numbers(after) == [1, 2]
