"""The end of a conversation can be hidden, shown again, and is gone with what is said next."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from jupyter_ccapi.store import Conversation, NoSuchConversation, NoSuchMessage, Store

SAID: list[tuple[Any, Any]] = [
    ("user", "1"),
    ("assistant", "2"),
    ("user", "3"),
    ("assistant", "4"),
]


async def begun(store: Store) -> tuple[Conversation, list[str]]:
    """A conversation of four messages, and their names."""
    made = await store.conversations.create("ann", messages=SAID)
    return made, [one.uuid for one in await store.conversations.messages("ann", made.id)]


async def texts(store: Store, id: str) -> str:
    """What is said in it, one letter each."""
    said = ""
    for one in await store.conversations.messages("ann", id):
        said += one.content if isinstance(one.content, str) else one.content[0]["text"]
    return said


@pytest.mark.parametrize("length", [0, 1, 2, 4])
async def test_what_comes_after_is_hidden_everywhere_and_shown_again(
    store: Store, length: int
) -> None:
    kept = store.conversations
    made, uuids = await begun(store)
    upto = uuids[length - 1] if length else None
    for _ in range(2):  # again, it is the same
        await kept.show("ann", made.id, upto)
        assert await texts(store, made.id) == "1234"[:length]
    assert (await kept.get("ann", made.id)).updated_at > made.updated_at
    assert await texts(store, (await kept.fork("ann", made.id)).id) == "1234"[:length]
    session = await kept.session("ann", made.id)
    assert len(await store.transcripts.load(session) or ()) == length
    assert all([await kept.has_message("ann", made.id, uuid) for uuid in uuids])
    for uuid in uuids[length:]:
        for change in (
            kept.replace("ann", made.id, uuid, "x"),
            kept.remove("ann", made.id, uuid),
            kept.fork("ann", made.id, upto=uuid),
        ):
            with pytest.raises(NoSuchMessage):
                await change
    await kept.show("ann", made.id, uuids[-1])
    assert await texts(store, made.id) == "1234"


async def test_what_is_said_next_follows_what_is_shown_and_the_rest_is_gone(store: Store) -> None:
    kept = store.conversations
    made, uuids = await begun(store)
    await kept.show("ann", made.id, uuids[1])
    await kept.append("ann", made.id, [])
    assert await kept.has_message("ann", made.id, uuids[3])
    await kept.append("ann", made.id, [("user", "5")])
    assert await texts(store, made.id) == "125"
    assert not await kept.has_message("ann", made.id, uuids[3])
    with pytest.raises(NoSuchMessage, match=uuids[3]):
        await kept.show("ann", made.id, uuids[3])
    assert await texts(store, made.id) == "125"
    await kept.show("ann", made.id, None)
    await kept.append("ann", made.id, [("user", "6"), ("assistant", "7")])
    assert await texts(store, made.id) == "67"


async def test_what_is_taken_out_before_it_leaves_what_is_hidden_whole(store: Store) -> None:
    kept = store.conversations
    made, uuids = await begun(store)
    await kept.show("ann", made.id, uuids[1])
    await kept.remove("ann", made.id, uuids[1])
    assert await texts(store, made.id) == "1"
    await kept.show("ann", made.id, uuids[3])
    assert await texts(store, made.id) == "134"
    await kept.show("ann", made.id, uuids[0])
    await kept.append("ann", made.id, [("assistant", "5")], dropping=[])
    assert await texts(store, made.id) == "15"


async def test_an_end_that_is_replaced_takes_what_is_hidden_along(store: Store) -> None:
    kept = store.conversations
    made, uuids = await begun(store)
    await kept.show("ann", made.id, uuids[2])
    await kept.append("ann", made.id, [("user", "x")], dropping=[uuids[2]])
    assert await texts(store, made.id) == "12x"


async def test_the_cli_goes_on_from_what_is_shown(store: Store) -> None:
    made, uuids = await begun(store)
    session = await store.conversations.session("ann", made.id)
    await store.conversations.show("ann", made.id, uuids[1])
    entry: Any = {"type": "user", "uuid": "new", "parentUuid": uuids[1]}
    entry["message"] = {"role": "user", "content": "5"}
    await store.transcripts.append(session, [entry])
    assert await texts(store, made.id) == "125"


async def test_what_is_not_there_is_named(store: Store) -> None:
    kept = store.conversations
    made = await kept.create("ann")
    await kept.show("ann", made.id, None)
    for uuid in ("none", "no such \0"):
        with pytest.raises(NoSuchMessage):
            await kept.show("ann", made.id, uuid)
        assert not await kept.has_message("ann", made.id, uuid)
    made, _ = await begun(store)
    with pytest.raises(NoSuchMessage):
        await kept.show("ann", made.id, "no such \0")
    for change in (kept.show("bob", made.id, None), kept.has_message("bob", made.id, "x")):
        with pytest.raises(NoSuchConversation):
            await change
    assert await texts(store, made.id) == "1234"


async def test_those_that_no_conversation_has_are_told_apart(store: Store) -> None:
    there = [(await store.conversations.create(owner)).id for owner in ("ann", "bob")]
    none = [f"conv_{number:032x}" for number in range(300)]
    assert await store.conversations.missing([*there, *none, "x\0"]) == {*none, "x\0"}
    assert await store.conversations.missing([]) == set()


async def test_a_message_says_when_it_was_said_also_in_a_fork(store: Store) -> None:
    before = time.time() - 0.001  # it is kept in milliseconds
    made, _ = await begun(store)
    messages = await store.conversations.messages("ann", made.id)
    assert all(before <= one.created_at <= time.time() for one in messages)
    fork = await store.conversations.fork("ann", made.id)
    copies = await store.conversations.messages("ann", fork.id)
    assert [one.created_at for one in copies] == [one.created_at for one in messages]


BEFORE = (
    "DROP TABLE session_events",
    "DROP TABLE sessions",
    "ALTER TABLE transcripts DROP COLUMN shown_upto",
    "UPDATE alembic_version SET version_num = '0001'",
)


async def test_conversations_of_before_can_be_hidden_too(
    url: str, make_store: Callable[..., Store], set_back: Callable[[tuple[str, ...]], None]
) -> None:
    store = make_store(url)
    made, uuids = await begun(store)
    await store.close()
    set_back(BEFORE)
    after = make_store(url)
    assert await texts(after, made.id) == "1234"
    await after.conversations.show("ann", made.id, uuids[1])
    assert await texts(after, made.id) == "12"
