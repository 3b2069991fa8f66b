"""Leases: one at a time, first come first served, and nobody waits for the dead."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from jupyter_ccapi.store import Lease, LeaseTimeout, Store, StoreUnavailable
from tests.store.cluster import Cluster
from tests.store.conftest import sqlite_url

CONVERSATION = f"conv_{1:032x}"


class Holder:
    """Somebody who holds a conversation until told to let it go."""

    def __init__(self, store: Store, name: str, log: list[str], *, patience: float = 60) -> None:
        self.got_it = asyncio.Event()
        self.let_go = asyncio.Event()
        self._work = (store, name, log, patience)
        self.task = asyncio.create_task(self._hold())

    async def _hold(self) -> None:
        store, name, log, patience = self._work
        async with store.leases.hold(CONVERSATION, name, patience=patience):
            log.append(name)
            self.got_it.set()
            await self.let_go.wait()

    async def finish(self) -> None:
        """Let go."""
        self.let_go.set()
        await self.task


async def tickets(store: Store) -> list[str]:
    """Whose tickets there are, in order."""
    async with store._database.reading() as transaction:
        table = transaction.tables.tickets
        rows = await transaction.all(table.select().order_by(table.c.id))
    return [row.holder for row in rows]


async def drawn(store: Store, number: int) -> None:
    """Wait until there are so many tickets."""
    async with asyncio.timeout(30):
        while True:
            if len(await tickets(store)) == number:
                return
            await asyncio.sleep(0.005)


async def lost(lease: Lease) -> None:
    """Wait until a lease is lost."""
    async with asyncio.timeout(60):
        while True:
            if lease.lost:
                return
            await asyncio.sleep(0.01)


async def test_a_free_conversation_is_had_at_once_and_is_free_again(store: Store) -> None:
    for _ in range(2):
        async with store.leases.hold(CONVERSATION, "me", patience=0) as lease:
            assert (lease.conversation_id, lease.holder) == (CONVERSATION, "me")
            assert await tickets(store) == ["me"]
            async with store.leases.hold("another", "me too", patience=0):
                pass
        assert not lease.lost
        assert await tickets(store) == []


async def test_it_is_free_again_after_an_error(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        async with store.leases.hold(CONVERSATION, "me", patience=0):
            raise ZeroDivisionError
    assert await tickets(store) == []


@pytest.mark.parametrize("processes", [1, 2, 3])
async def test_first_come_first_served(
    url: str, make_store: Callable[..., Store], processes: int
) -> None:
    stores = [make_store(url) for _ in range(processes)]
    log: list[str] = []
    holders = []
    for n in range(6):
        holders.append(Holder(stores[n % processes], str(n), log))
        await drawn(stores[0], n + 1)
    for n, holder in enumerate(holders):
        async with asyncio.timeout(30):
            await holder.got_it.wait()
        assert log == [str(one) for one in range(n + 1)]
        await holder.finish()
    assert await tickets(stores[0]) == []


async def test_many_at_once_all_get_it(url: str, make_store: Callable[..., Store]) -> None:
    stores = [make_store(url) for _ in range(2)]
    inside = 0

    async def hold(store: Store) -> None:
        nonlocal inside
        async with store.leases.hold(CONVERSATION, "one of many", patience=60):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*map(hold, stores * 15))
    assert await tickets(stores[0]) == []


async def test_who_draws_while_another_is_drawing_comes_after_it(
    url: str, make_store: Callable[..., Store]
) -> None:
    stores = [make_store(url), make_store(url)]
    log: list[str] = []
    await drawn(stores[1], 0)
    async with stores[0]._database.writing() as transaction:
        await transaction.lock(CONVERSATION)
        new = {"conversation_id": CONVERSATION, "holder": "first", "expires_at": time.time() + 60}
        await transaction.run(transaction.tables.tickets.insert().values(**new))
        second = Holder(stores[1], "second", log)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await second.got_it.wait()
    await drawn(stores[0], 2)
    assert await tickets(stores[0]) == ["first", "second"]
    assert log == []
    await delete_ticket(stores[0], "first")
    await second.got_it.wait()
    await second.finish()


@pytest.mark.parametrize("processes", [1, 2])
async def test_whose_patience_ends_is_told_who_holds_it(
    url: str, make_store: Callable[..., Store], processes: int
) -> None:
    stores = [make_store(url) for _ in range(processes)]
    async with stores[0].leases.hold(CONVERSATION, "the kernel", patience=0):
        with pytest.raises(LeaseTimeout, match="in use by the kernel") as caught:
            async with stores[-1].leases.hold(CONVERSATION, "me", patience=0.12):
                pass
        assert caught.value.conversation_id == CONVERSATION
        assert (caught.value.holder, caught.value.patience) == ("the kernel", 0.12)
        assert await tickets(stores[0]) == ["the kernel"]


@pytest.mark.parametrize("processes", [1, 2])
async def test_who_is_cancelled_while_waiting_leaves_no_ticket(
    url: str, make_store: Callable[..., Store], processes: int
) -> None:
    stores = [make_store(url) for _ in range(processes)]
    log: list[str] = []
    first = Holder(stores[0], "first", log)
    await first.got_it.wait()
    waiting = Holder(stores[-1], "waiting", log)
    await drawn(stores[0], 2)
    last = Holder(stores[0], "last", log)
    await drawn(stores[0], 3)
    waiting.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting.task
    assert await tickets(stores[0]) == ["first", "last"]
    await first.finish()
    await last.got_it.wait()
    await last.finish()
    assert log == ["first", "last"]


async def test_wherever_it_is_cancelled_no_ticket_is_left(store: Store) -> None:
    async def hold() -> None:
        async with store.leases.hold(CONVERSATION, "me", patience=1):
            pass

    await hold()
    finished = False
    steps = 0
    while not finished:
        task = asyncio.create_task(hold())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        finished = result is None
        await drawn(store, 0)
        steps += 1 + steps // 8
    await hold()
    assert steps > 20  # it was cancelled in many places


async def test_a_lease_is_renewed_for_as_long_as_it_is_held(
    url: str, make_store: Callable[..., Store]
) -> None:
    stores = [make_store(url, lease_ttl=0.6) for _ in range(2)]
    async with stores[0].leases.hold(CONVERSATION, "me", patience=0) as lease:
        with pytest.raises(LeaseTimeout):
            async with stores[1].leases.hold(CONVERSATION, "you", patience=2):
                pass
        assert not lease.lost


async def test_nobody_waits_long_for_the_dead(url: str, make_store: Callable[..., Store]) -> None:
    dead, alive = make_store(url, lease_ttl=0.5), make_store(url)
    log: list[str] = []
    holder, waiter = Holder(dead, "dead", log), Holder(dead, "also dead", log)
    await drawn(dead, 2)
    await dead.leases.close()  # as if its process were killed: nothing renews what it holds
    async with alive.leases.hold(CONVERSATION, "alive", patience=30):
        assert await tickets(alive) == ["alive"]
    waiter.task.cancel()
    await asyncio.gather(holder.finish(), waiter.task, return_exceptions=True)


async def test_who_stood_still_for_too_long_has_lost_it_and_is_told(
    url: str, make_store: Callable[..., Store], caplog: pytest.LogCaptureFixture
) -> None:
    store, other = make_store(url, lease_ttl=0.5), make_store(url)
    async with store.leases.hold(CONVERSATION, "sleeper", patience=0) as lease:
        await delete_ticket(other, "sleeper")  # as one does who takes it for a dead one's
        async with other.leases.hold(CONVERSATION, "other", patience=0):
            await lost(lease)
            assert await tickets(other) == ["other"]
    assert "sleeper lost the conversation" in caplog.text


async def test_who_stood_still_while_nobody_came_has_it_still(
    url: str, make_store: Callable[..., Store]
) -> None:
    store, other = make_store(url, lease_ttl=0.5), make_store(url)
    async with store.leases.hold(CONVERSATION, "sleeper", patience=0) as lease:
        time.sleep(0.6)  # noqa: ASYNC251 -- the loop is to stand still
        await asyncio.sleep(0.5)
        with pytest.raises(LeaseTimeout):
            async with other.leases.hold(CONVERSATION, "other", patience=0):
                pass
        assert not lease.lost


async def test_a_waiter_who_stood_still_draws_anew(
    url: str, make_store: Callable[..., Store]
) -> None:
    store, waiting = make_store(url), make_store(url, lease_ttl=0.5)
    log: list[str] = []
    first = Holder(store, "first", log)
    await first.got_it.wait()
    late = Holder(waiting, "late", log)
    await drawn(store, 2)
    await delete_ticket(store, "late")  # as one does who takes it for a dead one's
    await drawn(store, 2)
    await first.finish()
    await late.got_it.wait()
    await late.finish()
    assert log == ["first", "late"]


async def delete_ticket(store: Store, holder: str) -> None:
    """Delete somebody's tickets."""
    async with store._database.writing() as transaction:
        table = transaction.tables.tickets
        await transaction.run(table.delete().where(table.c.holder == holder))


async def test_work_ends_when_its_database_is_locked_meanwhile(
    tmp_path: Path, make_store: Callable[..., Store], caplog: pytest.LogCaptureFixture
) -> None:
    store = make_store(sqlite_url(tmp_path), lease_ttl=1.0)
    async with store.leases.hold(CONVERSATION, "me", patience=0) as lease:
        other = sqlite3.connect(tmp_path / "store" / "ccapi.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await lost(lease)
    assert "could not be given free" in caplog.text
    with closing(other):
        with pytest.raises(StoreUnavailable, match="locked"):
            async with store.leases.hold(CONVERSATION, "me", patience=0):
                pass
        other.execute("ROLLBACK")
    async with store.leases.hold(CONVERSATION, "me", patience=30):
        assert await tickets(store) == ["me"]


async def test_work_ends_when_its_database_is_gone_meanwhile(
    cluster: Cluster, make_store: Callable[..., Store], caplog: pytest.LogCaptureFixture
) -> None:
    store = make_store(cluster.new_database(), lease_ttl=1.0)
    caplog.set_level(logging.WARNING, "jupyter_ccapi")
    async with asyncio.timeout(60):
        async with store.leases.hold(CONVERSATION, "me", patience=0) as lease:
            await asyncio.to_thread(cluster.stop)
            await lost(lease)
        assert "could not be given free" in caplog.text
        with pytest.raises(StoreUnavailable):
            async with store.leases.hold(CONVERSATION, "me", patience=0):
                pass
        await asyncio.to_thread(cluster.start)
        async with store.leases.hold(CONVERSATION, "me", patience=30):
            assert await tickets(store) == ["me"]
