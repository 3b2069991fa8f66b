"""All sessions of a server: how they begin and end, also several at once, and over a restart."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from jupyter_ccapi.bridge import sessions as module
from jupyter_ccapi.bridge.host import Host
from jupyter_ccapi.bridge.remote import Hello, NotAdmitted
from jupyter_ccapi.bridge.session import Session
from jupyter_ccapi.bridge.sessions import New, NoSuchSession, Sessions, TooMany
from jupyter_ccapi.bridge.source import Refused
from jupyter_ccapi.claude import Conversation, Limits, Options, Pool
from jupyter_ccapi.store import Store, StoredSession
from tests.claude.support import eventually

KERNEL_SECRET = "the-kernels-secret"
ABOUT = {"model": None, "cwd": None, "permission_mode": "default"}
Make = Callable[..., Sessions]


@pytest.fixture
def store(tmp_path: Path, jp_asyncio_loop: asyncio.AbstractEventLoop) -> Iterator[Store]:
    """Where sessions are kept."""
    kept = Store.in_folder(tmp_path / "store")
    yield kept
    jp_asyncio_loop.run_until_complete(kept.close())


@pytest.fixture
def make(
    store: Store, tmp_path: Path, jp_asyncio_loop: asyncio.AbstractEventLoop
) -> Iterator[Make]:
    """Makes the sessions of one more server on the same store; no CLI is started by them."""
    made: list[Sessions] = []
    pool = Pool(Limits())

    async def open_host(
        id: str, owner: str, wish: Mapping[str, Any], tell: Callable[[dict[str, Any]], None]
    ) -> Host:
        if wish.get("fails"):
            raise Refused("It cannot be opened.")
        return Host(Conversation(pool, Options(mode="agent", cwd=tmp_path), id=id), tell)

    async def vet(session: Session, command: Mapping[str, Any]) -> Mapping[str, Any]:
        return command

    def build(**how: Any) -> Sessions:
        how = {"kernel_secret": KERNEL_SECRET, "kernel_owner": "ann", **how}
        made.append(Sessions(store, open_host, vet, **how))
        return made[-1]

    yield build
    for sessions in made:
        jp_asyncio_loop.run_until_complete(sessions.close())
    jp_asyncio_loop.run_until_complete(pool.close())


def local(owner: str = "ann", **more: Any) -> New:
    """A session that runs here."""
    return New(owner, ABOUT, more.pop("wish", {}), **more)


def hello(kind: str) -> Hello:
    """How a relay or a kernel introduces itself."""
    return Hello(uuid4().hex, kind, {})


async def states(*work: Awaitable[Any]) -> list[str]:
    """How each of several things ended that were begun at once."""
    ended = await asyncio.gather(*work, return_exceptions=True)
    return [type(one).__name__ for one in ended]


async def test_it_is_not_found_twice_while_it_is_made(make: Make, store: Store) -> None:
    """Whoever lists sessions meanwhile does not load it from the store as another one."""
    sessions = make()
    put = store.sessions.put

    async def slowly(session: StoredSession) -> None:
        await put(session)
        await asyncio.sleep(0.05)

    store.sessions.put = slowly  # type: ignore[method-assign]
    making = asyncio.create_task(sessions.create(New("ann", ABOUT, {}, "relay")))
    found: set[int] = set()
    while not making.done():
        found |= {id(session) for session in await sessions.list("ann")}
        await asyncio.sleep(0)
    session, secret = making.result()
    found |= {id(one) for one in await sessions.list("ann")}
    assert found == {id(session)}
    assert secret
    assert (await sessions.door(session.id, secret, hello("relay"))).session is session


async def test_one_of_several_who_delete_it_does(make: Make) -> None:
    sessions = make()
    session, _ = await sessions.create(local())
    deleting = [sessions.delete("ann", session.id) for _ in range(3)]
    assert sorted(await states(*deleting)) == ["NoSuchSession", "NoSuchSession", "NoneType"]
    again = make()
    kept, _ = await sessions.create(local())
    await sessions.close()
    deleting = [again.delete("ann", kept.id) for _ in range(3)]
    assert sorted(await states(*deleting)) == ["NoSuchSession", "NoSuchSession", "NoneType"]


async def test_nobody_sees_anothers(make: Make) -> None:
    sessions = make()
    session, _ = await sessions.create(local())
    assert await sessions.list("bob") == []
    for wrong in (sessions.get, sessions.delete):
        with pytest.raises(NoSuchSession):
            await wrong("bob", session.id)
    with pytest.raises(NoSuchSession):
        await sessions.resume("bob", session.id, local("bob"))


async def test_no_more_are_open_than_may_be(make: Make) -> None:
    sessions = make(most=1)
    session, _ = await sessions.create(local())
    with pytest.raises(TooMany, match="max_sessions"):
        await sessions.create(local())
    await sessions.delete("ann", session.id)
    await sessions.create(local())


async def test_what_cannot_be_opened_is_not_there(make: Make) -> None:
    sessions = make(most=1)
    with pytest.raises(Refused, match="cannot be opened"):
        await sessions.create(local(wish={"fails": True}))
    assert await sessions.list("ann") == []
    session, _ = await sessions.create(local())
    with pytest.raises(Refused, match="cannot be opened"):
        await sessions.resume("ann", session.id, local(wish={"fails": True}))
    await sessions.resume("ann", session.id, local())
    assert (await sessions.get("ann", session.id)).state == "idle"


async def test_idle_ones_end_and_pinned_ones_do_not(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one whose source was lost in a turn; and one that cannot be ended keeps no other."""
    sessions = make(idle_timeout=0.2)
    pinned, _ = await sessions.create(local(pinned=True))
    broken, _ = await sessions.create(local())
    lost, _ = await sessions.create(New("ann", ABOUT, {}, "relay"))
    idle, _ = await sessions.create(local())

    async def fail() -> None:
        raise OSError("No.")

    monkeypatch.setattr(broken, "close", fail)
    lost.take({"type": "user_message", "content": "Hi", "client_id": None})
    lost.lost("it is gone")
    assert lost.state == "source_lost"
    await eventually(lambda: lost.closed and idle.closed)
    assert pinned in await sessions.list("ann")
    ended = await sessions.get("ann", lost.id)
    assert ended.state == "closed"
    *_, last = [json.loads(entry.text) for entry in await ended.log.after(0)]
    assert (last["type"], last["is_error"]) == ("result", True)
    monkeypatch.undo()


async def test_a_long_turn_is_recalled_whole(make: Make) -> None:
    """The request that ends it can still be answered after a restart."""
    sessions = make()
    session, secret = await sessions.create(New("ann", ABOUT, {}, "relay"))
    assert secret
    door = await sessions.door(session.id, secret, hello("relay"))
    door.admission.run = "a" * 32
    session.take({"type": "user_message", "content": "Hi", "client_id": None})
    for number in range(2_500):
        told = {"type": "tool_progress", "tool_use_id": f"{number}", "status": "running"}
        session.take({**told, "parent_tool_use_id": None})
    session.take({"type": "permission_request", "request_id": "q", "request": {}})
    session.back(door.remote, info={})
    last = session.log.last_id
    await sessions.close()
    again = await make().get("ann", session.id)
    assert (again.state, list(again.pending)) == ("source_lost", ["q"])
    assert again.turn_open
    assert again.log.last_id >= last


async def test_the_kernels_secret_opens_kernels_sessions_alone(make: Make) -> None:
    """Not a relay's, whose own secret stays good; and what it makes has the id of a session."""
    sessions = make()
    session, secret = await sessions.create(New("ann", ABOUT, {}, "relay"))
    assert secret
    with pytest.raises(NotAdmitted):
        await sessions.door(session.id, KERNEL_SECRET, hello("kernel"))
    door = await sessions.door(session.id, secret, hello("relay"))
    assert not door.admission.reusable
    for id in ("..", "x" * 3_000, "session_", "timeline"):
        with pytest.raises(NotAdmitted):
            await sessions.door(id, KERNEL_SECRET, hello("kernel"))
    for wrong in ("", "wrong"):
        with pytest.raises(NotAdmitted):
            await sessions.door(f"session_{uuid4().hex}", wrong, hello("kernel"))
    assert [one.id for one in await sessions.list("ann")] == [session.id]
    theirs = f"session_{uuid4().hex}"
    await sessions.door(theirs, KERNEL_SECRET, hello("kernel"))
    assert len(await sessions.list("ann")) == 2


async def test_what_changes_while_it_is_written_is_written_too(make: Make, store: Store) -> None:
    sessions = make()
    session, _ = await sessions.create(local())
    put = store.sessions.put
    began = asyncio.Event()

    async def slowly(session: StoredSession) -> None:
        began.set()
        await asyncio.sleep(0.05)
        await put(session)

    store.sessions.put = slowly  # type: ignore[method-assign]
    session.take({"type": "settings", "model": "opus"})
    await began.wait()
    session.take({"type": "settings", "model": "haiku"})
    await sessions.close()
    kept = await store.sessions.get(session.id)
    assert kept is not None
    assert kept.settings["about"]["model"] == "haiku"


def test_ids_of_sessions_are_what_routes_take() -> None:
    assert module._ID.fullmatch(f"session_{uuid4().hex}")
