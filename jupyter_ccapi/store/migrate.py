"""Bringing a database to the newest schema. Importing this imports SQLAlchemy.

It runs in a thread with an event loop of its own, so that neither imports nor a lock that another
process holds keep the server from answering.
"""

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from threading import Lock

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection

from .address import Address
from .engine import for_writing, make_engine
from .errors import StoreUnavailable
from .schema import HEAD

_MIGRATIONS = Path(__file__).parent / "migrations"
# Alembic has one present migration in the whole process.
_one_at_a_time = Lock()
# Any number does that no other program on the same PostgreSQL takes for its own locks.
_ADVISORY_LOCK = 0x6363617069


def prepare(address: Address) -> None:
    """Create the database's file where there is none, readable by its owner alone, and bring the
    schema up to date. Blocks; safe in any number of processes at once.
    """
    if address.path is not None:
        _prepare_file(address.path)
    with _one_at_a_time:
        asyncio.run(_migrate(address))


def _prepare_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)  # SQLite gives the files beside it the same mode
    with closing(sqlite3.connect(path)) as connection:
        _use_wal(connection)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Have readers and a writer not wait for each other. SQLite does not wait for its turn to
    switch that on, so this does.
    """
    deadline = time.monotonic() + 5
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


async def _migrate(address: Address) -> None:
    engine = make_engine(address, pooled=False)
    try:
        async with engine.connect() as connection:
            if await connection.run_sync(_revision) == HEAD:
                return
        async with for_writing(engine).begin() as connection:
            if address.path is None:
                lock = text("SELECT pg_advisory_xact_lock(:number)")
                await connection.execute(lock, {"number": _ADVISORY_LOCK})
            await connection.run_sync(_upgrade, address)
    finally:
        await engine.dispose()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection, address: Address) -> None:
    """Take all steps that are missing, in the transaction that is open."""
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    # A % in the path would be the begin of a variable.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    revision = _revision(connection)
    if revision is not None and revision not in known:
        raise StoreUnavailable(
            f"The database {address.shown} was written by a newer jupyter_ccapi (its schema is "
            f"{revision}, this one knows {HEAD}): upgrade this one, or use another database."
        )
    command.upgrade(config, "head")
