"""The database: made at first use, used by nobody else, and what is said when it cannot be."""

import asyncio
import json
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jupyter_ccapi.store import NoSuchConversation, Store, StoredSession, StoreUnavailable
from jupyter_ccapi.store.schema import HEAD, metadata
from tests.store.cluster import Cluster
from tests.store.conftest import sqlite_url

LOADED = """
import json, sys
from jupyter_ccapi.store import Store
Store("postgresql://host/name"), Store("sqlite:////a/file")
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
SLOW = {"sqlalchemy", "alembic", "aiosqlite", "asyncpg", "sqlite3", "claude_agent_sdk"}


def test_importing_it_and_making_a_store_imports_nothing_slow() -> None:
    run = subprocess.run(
        [sys.executable, "-c", LOADED],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(json.loads(run.stdout))
    assert "jupyter_ccapi" in loaded
    assert loaded & SLOW == set()


def test_an_up_to_date_database_is_opened_without_alembic(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from jupyter_ccapi.store import Store\n"
        "async def use():\n"
        f"    store = Store({sqlite_url(tmp_path)!r})\n"
        "    await store.conversations.list('ann')\n"
        "    await store.close()\n"
        "asyncio.run(use()); print('alembic' in sys.modules)"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert said == ["True\n", "False\n"]


async def test_the_folder_and_its_files_are_made_at_first_use_for_their_owner_alone(
    tmp_path: Path, jp_asyncio_loop: asyncio.AbstractEventLoop
) -> None:
    folder = tmp_path / "data" / "50% ? of #it"
    store = Store.in_folder(folder)
    assert _names(tmp_path) == []
    made = await store.conversations.create("ann")
    assert _modes(folder) == {".": 0o700, "ccapi.db": 0o600} | {
        f"ccapi.db-{beside}": 0o600 for beside in ("shm", "wal")
    }
    again = Store.in_folder(folder)
    assert await again.conversations.get("ann", made.id) == made
    await again.close()
    await store.close()
    assert _names(folder) == ["ccapi.db"]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _modes(folder: Path) -> dict[str, int]:
    paths = {path.name: path for path in folder.iterdir()} | {".": folder}
    return {name: stat.S_IMODE(path.stat().st_mode) for name, path in paths.items()}


async def test_what_is_kept_is_there_after_a_restart(
    url: str, make_store: Callable[..., Store]
) -> None:
    store = make_store(url)
    made = await store.conversations.create("ann", messages=[("user", "Hello")])
    await store.close()
    after = make_store(url)
    assert await after.conversations.get("ann", made.id) == made
    (message,) = await after.conversations.messages("ann", made.id)
    assert message.content == "Hello"


async def test_a_closed_store_says_so_and_closes_twice(store: Store) -> None:
    await store.conversations.create("ann")
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.conversations.list("ann")


async def test_many_who_are_first_open_it_once(store: Store) -> None:
    await asyncio.gather(*(store.conversations.create("ann") for _ in range(20)))
    assert len((await store.conversations.list("ann", limit=100)).items) == 20


async def test_the_steps_make_the_tables_that_are_used(url: str, store: Store) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def compare(connection: Any) -> tuple[str | None, list[Any]]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return context.get_current_revision(), compare_metadata(context, metadata)

    async with store._database.reading() as transaction:
        revision, differences = await transaction.connection.run_sync(compare)
    assert revision == HEAD
    assert differences == []


async def test_a_database_of_a_newer_version_is_left_alone(
    tmp_path: Path, make_store: Callable[..., Store]
) -> None:
    store = make_store(sqlite_url(tmp_path))
    await store.conversations.create("ann")
    await store.close()
    path = tmp_path / "store" / "ccapi.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnavailable, match="newer jupyter_ccapi"):
        await make_store(sqlite_url(tmp_path)).conversations.list("ann")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM conversations").fetchone() == (1,)


async def test_who_is_cancelled_while_the_database_is_locked_does_not_lock_it(
    tmp_path: Path, make_store: Callable[..., Store]
) -> None:
    store = make_store(sqlite_url(tmp_path))
    await store.conversations.create("ann")
    other = sqlite3.connect(tmp_path / "store" / "ccapi.db", isolation_level=None, timeout=30)
    with closing(other):
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(store.conversations.create("ann"))
        await asyncio.sleep(0.3)  # it waits in SQLite, where nothing can be awaited
        waiting.cancel()
        other.execute("ROLLBACK")
        with pytest.raises(asyncio.CancelledError):
            await waiting
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    await store.conversations.create("ann")
    assert len((await store.conversations.list("ann")).items) == 2


async def test_wherever_a_write_is_cancelled_the_next_one_can_write(
    tmp_path: Path, make_store: Callable[..., Store]
) -> None:
    """SQLite would say for five seconds, and longer, that it is locked."""
    store = make_store(sqlite_url(tmp_path))
    await store.sessions.put(StoredSession("one", "ann", 1.0, 1.0, {}, 0, closed=False))
    written = "x" * 60_000
    for step in range(25):
        begin = 1_000 * step
        events = [(begin + place, written) for place in range(1, 201)]
        writing = asyncio.create_task(store.sessions.append("one", events))
        for _ in range(step):
            await asyncio.sleep(0)
        await asyncio.sleep(0.0007 * step)
        writing.cancel()
        await asyncio.wait([writing])
        await store.sessions.append("one", [(begin + 500, "y")])
    assert len(await store.sessions.read("one", after=24_499, upto=24_500)) == 1


async def test_a_locked_database_is_named(tmp_path: Path, make_store: Callable[..., Store]) -> None:
    store = make_store(sqlite_url(tmp_path))
    made = await store.conversations.create("ann")
    other = sqlite3.connect(tmp_path / "store" / "ccapi.db", isolation_level=None)
    with closing(other):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match=r"ccapi\.db cannot be used: .*locked\.$"):
            await store.conversations.delete("ann", made.id)
        assert await store.conversations.get("ann", made.id) == made  # reading is free
    await store.conversations.delete("ann", made.id)
    with pytest.raises(NoSuchConversation):
        await store.conversations.get("ann", made.id)


@pytest.mark.parametrize("obstacle", ["a file for a folder", "a folder for a file", "no database"])
async def test_a_file_that_cannot_be_used_is_named(
    obstacle: str, tmp_path: Path, make_store: Callable[..., Store]
) -> None:
    _put(obstacle, tmp_path)
    store = make_store(sqlite_url(tmp_path))
    with pytest.raises(StoreUnavailable, match=rf"sqlite.*{tmp_path}/store/ccapi.db cannot be"):
        await store.conversations.list("ann")


def _put(obstacle: str, folder: Path) -> None:
    if obstacle == "a file for a folder":
        (folder / "store").touch()
    elif obstacle == "a folder for a file":
        (folder / "store" / "ccapi.db").mkdir(parents=True)
    else:
        (folder / "store").mkdir()
        (folder / "store" / "ccapi.db").write_text("This is a letter to a friend. " * 99)


async def test_a_server_that_cannot_be_reached_is_named_without_its_password(
    make_store: Callable[..., Store], tmp_path: Path
) -> None:
    socket = tmp_path / "nowhere"
    store = make_store(f"postgresql://ann:s3cret@/name?host={socket}&password=s3cret")
    with pytest.raises(StoreUnavailable) as caught:
        await store.keys.list()
    assert f"postgresql+asyncpg://ann:***@/name?host={socket}" in str(caught.value)
    assert "s3cret" not in str(caught.value)


async def test_a_server_that_comes_back_is_used_again(
    cluster: Cluster, make_store: Callable[..., Store]
) -> None:
    store = make_store(cluster.new_database())
    made = await store.conversations.create("ann")
    await asyncio.to_thread(cluster.stop)
    with pytest.raises(StoreUnavailable):
        await store.conversations.get("ann", made.id)
    await asyncio.to_thread(cluster.start)
    assert await store.conversations.get("ann", made.id) == made


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://ann:s3cret@host/name", "none that can be used"),
        ("postgresql+psycopg://ann:s3cret@host/name", "none that can be used"),
        ("sqlite://", "absolute path"),
        ("sqlite+aiosqlite:///ccapi.db", "absolute path"),
        ("sqlite+aiosqlite:///:memory:", "absolute path"),
        ("sqlite+aiosqlite:////a/file?mode=ro", "nothing more"),
        ("", "none that can be used"),
    ],
)
def test_a_url_that_names_no_database_is_refused_at_once(url: str, said: str) -> None:
    with pytest.raises(StoreUnavailable, match=said) as caught:
        Store(url)
    assert "s3cret" not in str(caught.value)


async def test_a_url_with_an_impossible_port_is_named_without_its_password(
    make_store: Callable[..., Store],
) -> None:
    store = make_store("postgresql://ann:s3/cret@host:port/name")
    with pytest.raises(StoreUnavailable, match=r"ann:\*\*\*@host:port") as caught:
        await store.keys.list()
    assert "cret" not in str(caught.value)
    assert caught.value.__cause__ is None
