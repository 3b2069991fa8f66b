"""Stores in a new database for each test: in a SQLite file, and in PostgreSQL where it is."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jupyter_ccapi.store import Store
from tests.store.cluster import Cluster, find_programs, running


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server."""
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: neither /usr/lib/postgresql nor initdb on PATH")
    with running(programs) as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new database is, or is made."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.new_database()


def sqlite_url(folder: Path) -> str:
    """The URL of a file in this folder."""
    return f"sqlite+aiosqlite:///{folder}/store/ccapi.db"


@pytest.fixture
def make_store(jp_asyncio_loop: asyncio.AbstractEventLoop) -> Iterator[Callable[..., Store]]:
    """Make stores that are closed after the test. Two at one URL know nothing of each other, as
    if they were in two processes.
    """
    made: list[Store] = []

    def make(url: str, *, lease_ttl: float = 15.0) -> Store:
        made.append(Store(url, lease_ttl=lease_ttl))
        return made[-1]

    yield make
    for store in made:
        jp_asyncio_loop.run_until_complete(store.close())


@pytest.fixture
def store(url: str, make_store: Callable[..., Store]) -> Store:
    """A store in a new database."""
    return make_store(url)


@pytest.fixture
def set_back(
    request: pytest.FixtureRequest, url: str, tmp_path: Path
) -> Callable[[tuple[str, ...]], None]:
    """Make of the database, which nobody uses, what an earlier version left: takes the statements
    that do.
    """

    def run(statements: tuple[str, ...]) -> None:
        if url == sqlite_url(tmp_path):
            path = tmp_path / "store" / "ccapi.db"
            with closing(sqlite3.connect(path)) as connection, connection:
                for statement in statements:
                    connection.execute(statement)
        else:
            cluster: Cluster = request.getfixturevalue("cluster")
            cluster.execute("; ".join(statements))

    return run
