"""Keys: what they let in, what they have spent, and that nobody finds their secrets."""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from jupyter_ccapi.store import InvalidKeyName, KeyNameTaken, NoSuchKey, Store


async def test_a_secret_is_good_for_its_key(store: Store) -> None:
    before = time.time()
    key, secret = await store.keys.create(
        "ann", "laptop", models=["opus", "haiku"], budget_usd=5.0, expires_at=before + 60
    )
    assert re.fullmatch(r"sk-ccapi-[A-Za-z0-9_-]{43}", secret)
    assert re.fullmatch(r"key_[0-9a-f]{32}", key.id)
    assert key.prefix == secret[:12]
    assert (key.owner, key.name, key.models) == ("ann", "laptop", ["opus", "haiku"])
    assert (key.budget_usd, key.spent_usd, key.expires_at) == (5.0, 0.0, before + 60)
    assert before <= key.created_at <= time.time()
    assert (key.revoked_at, key.last_used_at) == (None, None)
    assert (key.revoked, key.expired(), key.exhausted) == (False, False, False)
    assert await store.keys.verify(secret) == key
    assert await store.keys.list() == [key]


@pytest.mark.parametrize("wrong", ["", "sk-ccapi-", "nul \0", "\ud800", "sk-ccapi-" + "A" * 43])
async def test_any_other_secret_is_good_for_none(store: Store, wrong: str) -> None:
    _, secret = await store.keys.create("ann", "laptop")
    assert await store.keys.verify(wrong) is None
    assert await store.keys.verify(secret.swapcase()) is None
    assert await store.keys.verify(secret + " ") is None


def test_the_secret_is_nowhere_in_the_database(
    make_store: Callable[..., Store], tmp_path: Path, jp_asyncio_loop: asyncio.AbstractEventLoop
) -> None:
    store = make_store(f"sqlite+aiosqlite:///{tmp_path}/a.db")
    _, secret = jp_asyncio_loop.run_until_complete(store.keys.create("ann", "laptop"))
    written = b"".join(path.read_bytes() for path in tmp_path.glob("a.db*"))
    assert b"laptop" in written
    assert secret[:12].encode() in written
    assert secret[9:].encode() not in written


async def test_what_is_spent_adds_up_and_nothing_gets_lost(
    url: str, make_store: Callable[..., Store]
) -> None:
    stores = [make_store(url), make_store(url)]
    key, secret = await stores[0].keys.create("ann", "laptop", budget_usd=10.0)
    other, _ = await stores[0].keys.create("ann", "other")
    await asyncio.gather(*(store.keys.spend(key.id, 0.25) for store in stores * 20))
    spent = await stores[1].keys.verify(secret)
    assert spent is not None
    assert spent.spent_usd == 10.0
    assert spent.last_used_at is not None
    assert spent.exhausted
    assert await stores[1].keys.list() == [spent, other]


async def test_a_name_is_free_again_when_its_key_is_revoked(store: Store) -> None:
    first, secret = await store.keys.create("ann", "laptop")
    with pytest.raises(KeyNameTaken, match="laptop") as caught:
        await store.keys.create("ann", "laptop")
    assert caught.value.name == "laptop"
    await store.keys.create("bob", "laptop")
    revoked = await store.keys.revoke("ann", "laptop")
    assert revoked.id == first.id
    assert revoked.revoked
    assert await store.keys.verify(secret) == revoked
    second, _ = await store.keys.create("ann", "laptop")
    assert await store.keys.list("ann") == [revoked, second]
    assert await store.keys.revoke("ann", second.id) != second


async def test_two_who_want_one_name_at_once_do_not_both_get_it(
    url: str, make_store: Callable[..., Store]
) -> None:
    stores = [make_store(url), make_store(url)]
    results = await asyncio.gather(
        *(store.keys.create("ann", "laptop") for store in stores), return_exceptions=True
    )
    assert sorted(isinstance(result, KeyNameTaken) for result in results) == [False, True]


async def test_who_has_no_such_key_cannot_revoke_it_or_spend(store: Store) -> None:
    key, _ = await store.keys.create("ann", "laptop")
    await store.keys.create("ann", "old")
    await store.keys.revoke("ann", "old")
    for owner, name in (
        ("bob", "laptop"),
        ("bob", key.id),
        ("ann", "lap\0top"),
        ("ann", "old"),
        ("ann", f"key_{0:032x}"),
    ):
        with pytest.raises(NoSuchKey) as caught:
            await store.keys.revoke(owner, name)
        assert caught.value.id == name
    for id in (f"key_{0:032x}", "laptop"):
        with pytest.raises(NoSuchKey):
            await store.keys.spend(id, 1.0)
    assert [one.revoked for one in await store.keys.list("ann")] == [False, True]


@pytest.mark.parametrize("name", ["", "a b", "a\n", "\0", "-x", "é", "x" * 65, "key_of_mine"])
async def test_a_name_must_be_fit_for_a_command_line(store: Store, name: str) -> None:
    with pytest.raises(InvalidKeyName) as caught:
        await store.keys.create("ann", name)
    assert caught.value.name == name
    assert await store.keys.list() == []


async def test_a_key_says_when_it_is_expired_or_exhausted(store: Store) -> None:
    key, _ = await store.keys.create("ann", "laptop")
    assert not key.expired(1e12)
    until = replace(key, expires_at=1000.0)
    assert (until.expired(999.9), until.expired(1000.0), until.expired(0.0)) == (False, True, False)
    assert until.expired()
    none = replace(key, budget_usd=0.0)
    assert none.exhausted
    assert not replace(key, budget_usd=1.0, spent_usd=0.99).exhausted
    assert not replace(key, spent_usd=99.0).exhausted
