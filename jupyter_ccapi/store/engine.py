"""How SQLAlchemy speaks with each kind of database. Importing this imports SQLAlchemy."""

import json
from functools import partial
from typing import Any

from sqlalchemy import URL, event, make_url
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from .address import Address
from .errors import StoreUnavailable

_BUSY_MS = 5000
# Seconds: nobody waits for a database that does not answer longer than that.
_CONNECT = 5.0
_COMMAND = 10.0

_dumps = partial(json.dumps, separators=(",", ":"))


def make_engine(address: Address, *, pooled: bool = True) -> AsyncEngine:
    """Make an engine; nothing is connected yet. Without a pool every connection is closed after
    use.
    """
    more: dict[str, Any] = {"json_serializer": _dumps}
    if not pooled:
        more["poolclass"] = NullPool
    if address.path is not None:
        url = URL.create("sqlite+aiosqlite", database=str(address.path))
        if pooled:
            more["pool_reset_on_return"] = None  # every transaction has had its end by then
        engine = create_async_engine(url, **more)
        event.listen(engine.sync_engine, "connect", _set_up_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    try:
        url = make_url(address.url)
    except (ArgumentError, ValueError):
        # Not chained: the cause may quote the URL, and with it a password.
        raise StoreUnavailable(f"The database URL {address.shown!r} cannot be read.") from None
    connect_args = {"timeout": _CONNECT, "command_timeout": _COMMAND}
    if pooled:
        more["pool_pre_ping"] = True  # the server may have restarted since
    return create_async_engine(url, connect_args=connect_args, **more)


def for_writing(engine: AsyncEngine) -> AsyncEngine:
    """The same engine, whose transactions are going to write."""
    return engine.execution_options(writes=True)


def _set_up_sqlite(connection: Any, record: Any) -> None:
    # Else Python's driver begins a transaction when it sees fit, and never for reading.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    cursor.execute("PRAGMA foreign_keys = ON")
    # With WAL a crash of this process loses nothing; one of the machine the last moment at most.
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and then wants to write fails at once when another process
    # wrote in between; one that says so at its begin waits for its turn.
    if connection.get_execution_options().get("writes", False):
        driver: Any = connection.connection.dbapi_connection
        # Past SQLAlchemy's cursors, which would take three ways to the thread and back.
        driver.run_async(lambda sqlite: sqlite.execute("BEGIN IMMEDIATE"))
