"""One database and the transactions on it; opened at first use, never at a server's start."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .address import Address
from .errors import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from sqlalchemy import CursorResult, Executable, Row, Table
    from sqlalchemy.dialects.postgresql import Insert
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from .schema import Tables


@dataclass(frozen=True, slots=True)
class Transaction:
    """What is done in it is done together, or not at all.

    Statements are made from the ``tables`` themselves (``tables.keys.select()``), so that the
    rooms on top of this need not import SQLAlchemy.
    """

    connection: "AsyncConnection"
    tables: "Tables"

    async def first(self, statement: "Executable") -> "Row[Any] | None":
        """The first row that a statement gives."""
        return (await self._execute(statement)).first()

    async def all(self, statement: "Executable") -> "Sequence[Row[Any]]":
        """All rows that a statement gives."""
        return (await self._execute(statement)).all()

    async def run(
        self, statement: "Executable", rows: Sequence[Mapping[str, Any]] | None = None
    ) -> int:
        """Execute a statement, for each of ``rows`` where they are given; returns how many rows it
        touched.
        """
        return (await self._execute(statement, rows)).rowcount

    async def _execute(
        self, statement: "Executable", rows: Sequence[Mapping[str, Any]] | None = None
    ) -> "CursorResult[Any]":
        """Execute a statement, and see it through when cancelled: SQLAlchemy gives its connection
        up then, and SQLite is locked for as long as somebody still holds on to that.
        """
        task = asyncio.ensure_future(self.connection.execute(statement, rows))
        cancelled = False
        while not task.done():
            try:
                await asyncio.shield(asyncio.wait([task]))
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            task.exception()
            raise asyncio.CancelledError
        return task.result()

    def insert_new(self, table: "Table") -> "Insert":
        """An INSERT that leaves out what is there already."""
        # Both kinds of database have the same clause, and SQLAlchemy a class of its own for each.
        from sqlalchemy.dialects import postgresql, sqlite

        if self._is_sqlite:
            return sqlite.insert(table).on_conflict_do_nothing()  # type: ignore[return-value]
        return postgresql.insert(table).on_conflict_do_nothing()

    async def lock(self, name: str) -> None:
        """Wait for all transactions that have locked the same name to end, in SQLite for all that
        write.
        """
        if not self._is_sqlite:
            from sqlalchemy import func, select

            await self.connection.execute(
                select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0)))
            )

    @property
    def _is_sqlite(self) -> bool:
        return self.connection.dialect.name == "sqlite"


@dataclass(frozen=True, slots=True)
class _Engine:
    """The connections to a database, for what only reads and for what writes."""

    reader: "AsyncEngine"
    writer: "AsyncEngine"


class Database:
    """A database at an address. Belongs to the event loop in which it is first used."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._engine: _Engine | None = None
        self._closed = False
        self._opening = asyncio.Lock()
        # SQLite has writers of one process, too, look again and again whether it is their turn.
        self._writing = asyncio.Lock() if address.path else nullcontext()

    async def open(self) -> None:
        """Open it now, and not when something is first asked for."""
        await self._open()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Transaction]:
        """For reading alone: each statement sees what others have finished by then."""
        engine = await self._open()
        async with self._begin(engine.reader) as transaction:
            yield transaction

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Transaction]:
        """A transaction that writes; others wait for its end where they would disturb it."""
        engine = await self._open()
        async with self._writing, self._begin(engine.writer) as transaction:
            yield transaction

    async def close(self) -> None:
        """Close all connections; what still wants to use the database gets an error."""
        self._closed = True
        async with self._opening:
            if self._engine is not None:
                await self._engine.reader.dispose()
                self._engine = None

    async def _open(self) -> "_Engine":
        if self._engine is not None:
            return self._engine
        async with self._opening:
            if self._closed:
                raise StoreUnavailable("The store is closed.")
            if self._engine is None:
                with self._explained(all_of_them=True):
                    self._engine = await asyncio.to_thread(_open, self.address)
            return self._engine

    @asynccontextmanager
    async def _begin(self, engine: "AsyncEngine") -> AsyncIterator[Transaction]:
        from .schema import TABLES

        with self._explained():
            async with AsyncExitStack() as stack:
                with self._explained(all_of_them=True):
                    connection = await engine.connect()
                    stack.push_async_callback(_close, connection)
                    try:
                        await stack.enter_async_context(connection.begin())
                    except BaseException:
                        # Cancelled, it may still begin behind our back: nobody may reuse it.
                        await connection.invalidate()
                        raise
                yield Transaction(connection, TABLES)

    @contextmanager
    def _explained(self, *, all_of_them: bool = False) -> Iterator[None]:
        """Turn what a driver says of a database that cannot be used into ``StoreUnavailable``.
        Drivers do not agree on how they say it before there is a connection: then it is anything.
        """
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            if not (all_of_them or _is_about_the_database(error)):
                raise
            said = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
            said = said.splitlines()[0].rstrip(".")
            raise StoreUnavailable(
                f"The database {self.address.shown} cannot be used: {said}."
            ) from error


async def _close(connection: "AsyncConnection") -> None:
    """Seen through also when the caller is cancelled again, or the pool would lose it."""
    await asyncio.shield(asyncio.create_task(connection.close()))


def _open(address: Address) -> _Engine:
    """Runs in a thread: it imports slowly, and may have to wait for another process."""
    from . import engine, migrate

    migrate.prepare(address)
    reader = engine.make_engine(address)
    return _Engine(reader, engine.for_writing(reader))


def _is_about_the_database(error: Exception) -> bool:
    """Whether the database is to blame, and not what it was asked."""
    from sqlalchemy import exc

    if isinstance(error, exc.DBAPIError):
        asked_wrongly = exc.IntegrityError, exc.DataError, exc.ProgrammingError
        return error.connection_invalidated or not isinstance(error, asked_wrongly)
    return isinstance(error, exc.TimeoutError | OSError)
