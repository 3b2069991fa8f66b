"""Responses and what was said up to them."""

import time
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from jupyter_ccapi.store import NoSuchResponse, Response, Store


def response(
    *texts: str, owner: str = "ann", parent: Response | None = None, **more: Any
) -> Response:
    """A response that added these texts."""
    given = {
        "id": f"resp_{uuid4().hex}",
        "owner": owner,
        "created_at": time.time(),
        "parent_id": parent and parent.id,
        "conversation_id": None,
        "body": {"status": "completed"},
        "input_items": [{"type": "message"}],
        "messages": [{"role": "user", "content": text} for text in texts],
    }
    return Response(**{**given, **more})


def texts(messages: list[dict[str, Any]]) -> list[str]:
    """What was said."""
    return [message["content"] for message in messages]


async def save_chain(store: Store, *chain: Response) -> None:
    """Save all."""
    for one in chain:
        await store.responses.save(one)


async def test_what_is_saved_is_found_again(store: Store) -> None:
    saved = response("Hello", "nul \0", conversation_id=f"conv_{1:032x}")
    await store.responses.save(saved)
    assert await store.responses.get("ann", saved.id) == saved


async def test_saved_again_it_is_changed_but_stays_in_its_place(store: Store) -> None:
    first, other = response("One"), response("Other")
    second = response("Two", parent=first, body={"status": "in_progress"})
    await save_chain(store, first, other, second)
    done = replace(second, body={"status": "completed"}, messages=[], parent_id=other.id)
    await store.responses.save(done)
    found = await store.responses.get("ann", second.id)
    assert found == replace(done, parent_id=first.id)


async def test_an_id_that_is_none_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="mine"):
        await store.responses.save(response(id="mine"))


async def test_the_history_is_all_that_was_said_up_to_a_response(store: Store) -> None:
    first = response("One", "two")
    second = response(parent=first)
    third = response("three", parent=second)
    branch = response("another three", parent=second)
    await save_chain(store, third, second, branch, first)
    assert texts(await store.responses.history("ann", third.id)) == ["One", "two", "three"]
    assert texts(await store.responses.history("ann", branch.id))[-1] == "another three"
    assert texts(await store.responses.history("ann", first.id)) == ["One", "two"]


async def test_a_long_chain_is_one_history(store: Store) -> None:
    chain = [response("0")]
    for n in range(1, 120):
        chain.append(response(str(n), parent=chain[-1]))
    await save_chain(store, *chain)
    history = await store.responses.history("ann", chain[-1].id)
    assert texts(history) == [str(n) for n in range(120)]


async def test_a_history_with_a_gap_names_what_is_missing(store: Store) -> None:
    first = response("One")
    second = response("Two", parent=first)
    third = response("Three", parent=second)
    await save_chain(store, first, second, third)
    await store.responses.delete("ann", second.id)
    with pytest.raises(NoSuchResponse, match=second.id) as caught:
        await store.responses.history("ann", third.id)
    assert caught.value.id == second.id
    assert texts(await store.responses.history("ann", first.id)) == ["One"]


async def test_responses_that_are_each_others_parents_have_no_history(store: Store) -> None:
    first = response("One")
    second = response("Two", parent=first)
    await save_chain(store, second, replace(first, parent_id=second.id))
    with pytest.raises(NoSuchResponse):
        await store.responses.history("ann", first.id)


async def test_old_ones_expire(store: Store) -> None:
    old, new = response("Old", created_at=1000.0), response("New", owner="bob")
    await save_chain(store, old, new)
    assert await store.responses.expire(new.created_at) == 1
    assert await store.responses.expire(new.created_at) == 0
    with pytest.raises(NoSuchResponse):
        await store.responses.get("ann", old.id)
    assert await store.responses.get("bob", new.id) == new


@pytest.mark.parametrize("id", [f"resp_{0:032x}", "nonsense", "resp_\0", f"conv_{0:032x}"])
async def test_an_unknown_id_is_named_by_every_method(store: Store, id: str) -> None:
    await expect_none(store, "ann", id)


async def test_nobody_sees_or_deletes_what_is_anothers(store: Store) -> None:
    anns = response("One")
    bobs = response("Two", owner="bob", parent=anns)
    await save_chain(store, anns, bobs)
    await expect_none(store, "bob", anns.id)
    with pytest.raises(NoSuchResponse, match=anns.id):
        await store.responses.history("bob", bobs.id)
    with pytest.raises(ValueError, match="another owner"):
        await store.responses.save(replace(anns, owner="bob"))
    assert await store.responses.get("ann", anns.id) == anns


async def expect_none(store: Store, owner: str, id: str) -> None:
    """Every method says that this owner has no such response."""
    for asked in (
        store.responses.get(owner, id),
        store.responses.delete(owner, id),
        store.responses.history(owner, id),
    ):
        with pytest.raises(NoSuchResponse) as caught:
            await asked
        assert caught.value.id == id


async def test_items_are_found_by_their_ids_as_long_as_their_response_is_there(
    store: Store,
) -> None:
    asked, said = {"id": "msg_1", "type": "message"}, {"id": "msg_2", "type": "message"}
    one = response("One", input_items=[asked], body={"output": [said]})
    await store.responses.save(one)
    await store.responses.save(one)
    found = await store.responses.items("ann", ["msg_2", "msg_1", "msg_3"])
    assert found == {"msg_2": said, "msg_1": asked}
    assert await store.responses.items("bob", ["msg_1"]) == {}
    await store.responses.delete("ann", one.id)
    assert await store.responses.items("ann", ["msg_1"]) == {}


@pytest.mark.parametrize("odd", ["nul \0", "\ud800", ""])
async def test_items_with_ids_that_no_database_holds_are_kept_but_not_found(
    store: Store, odd: str
) -> None:
    one = response("One", input_items=[{"id": odd}, {"id": "msg_1"}])
    await store.responses.save(one)
    assert await store.responses.items("ann", [odd, "msg_1"]) == {"msg_1": {"id": "msg_1"}}
    assert await store.responses.get("ann", one.id) == one


async def test_an_old_one_stays_as_long_as_later_ones_go_on_from_it(store: Store) -> None:
    now = time.time()
    first = response("One", created_at=now - 100)
    second = response("Two", parent=first, created_at=now - 90)
    third = response("Three", parent=second, created_at=now)
    await save_chain(store, first, second, third, response("Other", created_at=now - 100))
    assert await store.responses.expire(now - 50) == 1
    assert texts(await store.responses.history("ann", third.id)) == ["One", "Two", "Three"]
