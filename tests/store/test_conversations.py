"""Conversations and their messages."""

import time
from typing import Any, Literal

import pytest

from jupyter_ccapi.store import (
    Conversation,
    NoSuchConversation,
    NoSuchMessage,
    Store,
    StoredMessage,
)

HELLO: list[tuple[Any, Any]] = [
    ("user", "Hello"),
    ("assistant", [{"type": "text", "text": "Hi."}]),
]
ABSENT = f"conv_{0:032x}"


def said(messages: list[StoredMessage]) -> list[tuple[Any, Any]]:
    """Who said what."""
    return [(message.role, message.content) for message in messages]


async def test_what_is_created_is_found_again(store: Store) -> None:
    before = time.time()
    made = await store.conversations.create(
        "ann", metadata={"topic": "tea"}, settings={"model": "opus", "deep": [1, None]}, title="T"
    )
    assert made.id.startswith("conv_")
    assert len(made.id) == 37
    assert before <= made.created_at == made.updated_at <= time.time()
    assert made == Conversation(
        id=made.id,
        owner="ann",
        created_at=made.created_at,
        updated_at=made.updated_at,
        title="T",
        metadata={"topic": "tea"},
        settings={"model": "opus", "deep": [1, None]},
    )
    assert await store.conversations.get("ann", made.id) == made
    assert await store.conversations.messages("ann", made.id) == []


async def test_it_can_be_given_an_id_but_only_a_proper_one_and_once(store: Store) -> None:
    id = f"conv_{7:032x}"
    assert (await store.conversations.create("ann", id=id)).id == id
    with pytest.raises(ValueError, match="already"):
        await store.conversations.create("bob", id=id)
    with pytest.raises(ValueError, match="conv_nonsense"):
        await store.conversations.create("ann", id="conv_nonsense")


async def test_messages_come_back_in_order_and_touch_the_conversation(store: Store) -> None:
    made = await store.conversations.create("ann", messages=HELLO)
    results = [{"type": "tool_result", "tool_use_id": "t", "content": "18 °C"}]
    more: list[tuple[Any, Any]] = [
        ("user", "Weather?"),
        ("assistant", [{"type": "tool_use", "id": "t", "name": "w", "input": {"city": "Köln"}}]),
        ("user", results),
    ]
    appended = await store.conversations.append("ann", made.id, more)
    assert said(appended) == more
    messages = await store.conversations.messages("ann", made.id)
    assert said(messages) == HELLO + more
    assert messages[2:] == appended
    assert len({message.uuid for message in messages}) == 5
    assert (await store.conversations.get("ann", made.id)).updated_at > made.updated_at


async def test_an_assistants_text_is_one_block(store: Store) -> None:
    made = await store.conversations.create("ann")
    appended = await store.conversations.append("ann", made.id, [("assistant", "Hi.")])
    assert said(appended) == [("assistant", [{"type": "text", "text": "Hi."}])]
    assert await store.conversations.messages("ann", made.id) == appended


@pytest.mark.parametrize("text", ["nul \0 in it", "half a pair \ud83d", "😀 \x1b[0m ", ""])
async def test_any_text_that_a_client_can_send_is_kept(store: Store, text: str) -> None:
    made = await store.conversations.create(
        "ann", title=text, metadata={text: text}, messages=[("user", text)]
    )
    assert await store.conversations.get("ann", made.id) == made
    assert said(await store.conversations.messages("ann", made.id)) == [("user", text)]


async def test_appending_nothing_changes_no_message(store: Store) -> None:
    made = await store.conversations.create("ann", messages=HELLO)
    assert await store.conversations.append("ann", made.id, []) == []
    assert said(await store.conversations.messages("ann", made.id)) == HELLO


async def test_a_message_is_replaced_where_it_stands(store: Store) -> None:
    made = await store.conversations.create("ann", messages=HELLO)
    first, second = await store.conversations.messages("ann", made.id)
    changed = await store.conversations.replace("ann", made.id, first.uuid, "Good evening")
    assert changed == StoredMessage(first.uuid, "user", "Good evening")
    assert await store.conversations.messages("ann", made.id) == [changed, second]
    answer = await store.conversations.replace("ann", made.id, second.uuid, "Evening!")
    assert answer.content == [{"type": "text", "text": "Evening!"}]
    assert await store.conversations.messages("ann", made.id) == [changed, answer]


@pytest.mark.parametrize("position", [0, 1, 2, 3])
async def test_a_message_is_removed_and_the_others_stay_together(
    store: Store, position: int
) -> None:
    made = await store.conversations.create("ann", messages=HELLO * 2)
    messages = await store.conversations.messages("ann", made.id)
    await store.conversations.remove("ann", made.id, messages[position].uuid)
    left = messages[:position] + messages[position + 1 :]
    assert await store.conversations.messages("ann", made.id) == left
    more = await store.conversations.append("ann", made.id, [("user", "More")])
    assert await store.conversations.messages("ann", made.id) == left + more


async def test_all_messages_removed_it_begins_anew(store: Store) -> None:
    made = await store.conversations.create("ann", messages=HELLO)
    for message in await store.conversations.messages("ann", made.id):
        await store.conversations.remove("ann", made.id, message.uuid)
    assert await store.conversations.messages("ann", made.id) == []
    more = await store.conversations.append("ann", made.id, HELLO)
    assert await store.conversations.messages("ann", made.id) == more


async def test_a_message_that_is_not_there_is_named(store: Store) -> None:
    made = await store.conversations.create("ann", messages=HELLO)
    for change in (
        store.conversations.replace("ann", made.id, "no such \0", "text"),
        store.conversations.remove("ann", made.id, "no such \0"),
        store.conversations.fork("ann", made.id, upto="no such \0"),
    ):
        with pytest.raises(NoSuchMessage, match="no such") as caught:
            await change
        assert caught.value.id == "no such \0"
    assert said(await store.conversations.messages("ann", made.id)) == HELLO
    assert len((await store.conversations.list("ann")).items) == 1


async def test_an_update_changes_what_is_given(store: Store) -> None:
    made = await store.conversations.create("ann", metadata={"a": "1"}, settings={"s": 1})
    titled = await store.conversations.update("ann", made.id, title="Tea")
    assert (titled.title, titled.metadata, titled.settings) == ("Tea", {"a": "1"}, {"s": 1})
    assert titled.updated_at > made.updated_at
    emptied = await store.conversations.update("ann", made.id, metadata={}, settings={"s": 2})
    assert (emptied.title, emptied.metadata, emptied.settings) == ("Tea", {}, {"s": 2})
    assert await store.conversations.get("ann", made.id) == emptied


async def test_the_list_is_paged_by_age(store: Store) -> None:
    made = [await store.conversations.create("ann", title=str(n)) for n in range(5)]
    await store.conversations.create("bob")
    await store.conversations.append("ann", made[0].id, HELLO)  # its age stays the same
    newest = await store.conversations.list("ann", limit=2)
    assert ([one.title for one in newest.items], newest.has_more) == (["4", "3"], True)
    older = await store.conversations.list("ann", limit=3, after=newest.items[-1].id)
    assert ([one.title for one in older.items], older.has_more) == (["2", "1", "0"], False)
    oldest = await store.conversations.list("ann", limit=4, order="asc")
    assert ([one.title for one in oldest.items], oldest.has_more) == (["0", "1", "2", "3"], True)
    newer = await store.conversations.list("ann", order="asc", after=oldest.items[-1].id)
    assert ([one.title for one in newer.items], newer.has_more) == (["4"], False)
    assert (await store.conversations.list("nobody")).items == []


async def test_those_of_one_moment_are_paged_by_their_ids(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.25)
    made = sorted([(await store.conversations.create("ann")).id for _ in range(5)])
    orders: tuple[Literal["asc", "desc"], ...] = ("asc", "desc")
    for order in orders:
        found: list[str] = []
        has_more = True
        while has_more:
            after = found[-1] if found else None
            got = await store.conversations.list("ann", limit=2, after=after, order=order)
            found += [one.id for one in got.items]
            has_more = got.has_more
        assert found == (made if order == "asc" else made[::-1])


async def test_deleted_it_is_gone_with_its_messages(store: Store) -> None:
    made = await store.conversations.create("ann", messages=HELLO)
    kept = await store.conversations.create("ann", messages=HELLO)
    session = await store.conversations.session("ann", made.id)
    await store.transcripts.append({**session, "subpath": "subagents/agent-1"}, [{"type": "x"}])
    await store.conversations.delete("ann", made.id)
    with pytest.raises(NoSuchConversation):
        await store.conversations.get("ann", made.id)
    assert await store.transcripts.load(session) is None
    assert await store.transcripts.list_subkeys(session) == []
    assert said(await store.conversations.messages("ann", kept.id)) == HELLO


async def test_what_nobody_continued_expires(store: Store) -> None:
    old = await store.conversations.create("ann", messages=HELLO)
    continued = await store.conversations.create("bob", messages=HELLO)
    moment = time.time()
    await store.conversations.append("bob", continued.id, HELLO)
    sessions = [await store.conversations.session("ann", old.id)]
    assert await store.conversations.expire(moment) == 1
    assert await store.conversations.expire(moment) == 0
    with pytest.raises(NoSuchConversation):
        await store.conversations.get("ann", old.id)
    assert await store.transcripts.load(sessions[0]) is None
    assert len(await store.conversations.messages("bob", continued.id)) == 4


async def test_more_than_fit_into_one_go_expire(store: Store) -> None:
    for _ in range(203):
        await store.conversations.create("ann")
    assert await store.conversations.expire(time.time() + 1) == 203
    assert (await store.conversations.list("ann")).items == []


async def test_a_fork_has_the_messages_up_to_one_and_goes_its_own_way(store: Store) -> None:
    made = await store.conversations.create(
        "ann", title="Tea", metadata={"a": "1"}, settings={"s": 1}, messages=HELLO * 2
    )
    messages = await store.conversations.messages("ann", made.id)
    fork = await store.conversations.fork("ann", made.id, upto=messages[1].uuid)
    assert fork.id != made.id
    assert (fork.title, fork.metadata, fork.settings) == ("Tea", {"a": "1"}, {"s": 1})
    copied = await store.conversations.messages("ann", fork.id)
    assert said(copied) == HELLO
    assert {one.uuid for one in copied}.isdisjoint(one.uuid for one in messages)
    await store.conversations.append("ann", fork.id, [("user", "Elsewhere")])
    await store.conversations.replace("ann", fork.id, copied[0].uuid, "Changed")
    assert await store.conversations.messages("ann", made.id) == messages
    whole = await store.conversations.fork("ann", made.id, metadata={"b": "2"})
    assert whole.metadata == {"b": "2"}
    assert said(await store.conversations.messages("ann", whole.id)) == HELLO * 2
    empty = await store.conversations.create("ann")
    forked = await store.conversations.fork("ann", empty.id)
    assert await store.conversations.messages("ann", forked.id) == []


@pytest.mark.parametrize("id", [ABSENT, "nonsense", "conv_\0", "\ud800", "resp_" + ABSENT[5:]])
async def test_an_unknown_id_is_named_by_every_method(store: Store, id: str) -> None:
    await expect_none(store, "ann", id)


async def test_nobody_sees_or_changes_what_is_anothers(store: Store) -> None:
    made = await store.conversations.create("ann", messages=HELLO)
    await expect_none(store, "bob", made.id)
    assert await store.conversations.get("ann", made.id) == made
    assert said(await store.conversations.messages("ann", made.id)) == HELLO


async def expect_none(store: Store, owner: str, id: str) -> None:
    """Every method says that this owner has no such conversation."""
    conversations = store.conversations
    for asked in (
        conversations.get(owner, id),
        conversations.list(owner, after=id),
        conversations.update(owner, id, title="mine"),
        conversations.delete(owner, id),
        conversations.fork(owner, id),
        conversations.session(owner, id),
        conversations.append(owner, id, HELLO),
        conversations.messages(owner, id),
        conversations.replace(owner, id, "uuid", "text"),
        conversations.remove(owner, id, "uuid"),
    ):
        with pytest.raises(NoSuchConversation) as caught:
            await asked
        assert caught.value.id == id


async def test_an_end_is_replaced_altogether_or_not_at_all(store: Store) -> None:
    made = await store.conversations.create("ann", messages=[("user", "1"), ("assistant", "2")])
    _, answer = await store.conversations.messages("ann", made.id)
    with pytest.raises(NoSuchMessage):
        await store.conversations.append(
            "ann", made.id, [("user", "x")], dropping=[answer.uuid, "none"], settings={"a": 1}
        )
    assert len(await store.conversations.messages("ann", made.id)) == 2
    assert (await store.conversations.get("ann", made.id)).settings == {}
    await store.conversations.append(
        "ann", made.id, [("assistant", "two")], dropping=[answer.uuid], settings={"a": 1}
    )
    first, last = await store.conversations.messages("ann", made.id)
    assert (first.content, last.content) == ("1", [{"type": "text", "text": "two"}])
    assert (await store.conversations.get("ann", made.id)).settings == {"a": 1}
