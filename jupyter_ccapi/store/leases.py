"""Who may go on with a conversation: one at a time, in the order in which they came, over all
processes that use the database.

Whoever wants to draws a ticket (a row with a rising number); the lowest number of a conversation
has the lease. Tickets say until when they are valid and are renewed while their process lives, so
that one whose process is gone holds the others up for seconds. The times are those of the machines'
clocks: where several machines share a database, these must agree within a few seconds.
"""

import asyncio
import logging
import time
from bisect import insort
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .database import Database, Transaction
from .errors import LeaseTimeout, StoreError

log = logging.getLogger(__name__)
_T = TypeVar("_T")

# How often others' tickets are looked at, seconds.
_POLL = 0.05


@dataclass(slots=True)
class Lease:
    """The right to go on with a conversation. ``lost`` becomes true when it could not be renewed
    in time: others may have gone on since.
    """

    conversation_id: str
    holder: str
    lost: bool = False


@dataclass(order=True, slots=True)
class _Ticket:
    id: int
    lease: Lease = field(compare=False)
    expires_at: float = field(compare=False)
    has_lease: bool = field(compare=False)
    # Set when no ticket of this process comes before it, and when it is given back.
    is_next: asyncio.Event = field(default_factory=asyncio.Event, compare=False)
    given_back: asyncio.Event = field(default_factory=asyncio.Event, compare=False)


class Leases:
    """The queues of all conversations. ``ttl``: seconds for which a ticket is valid unless it is
    renewed.
    """

    def __init__(self, database: Database, *, ttl: float = 15.0) -> None:
        self._database = database
        self._ttl = ttl
        # The tickets of this process, by conversation and in order: only the first of them has to
        # look at what other processes do.
        self._queues: dict[str, list[_Ticket]] = {}
        self._renewals: set[asyncio.Task[None]] = set()
        self._to_finish: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def hold(
        self, conversation_id: str, holder: str, *, patience: float
    ) -> AsyncIterator[Lease]:
        """Wait for the conversation to be free, up to ``patience`` seconds, and keep all others
        from it meanwhile. ``holder`` is told to those who waited in vain: they get
        ``LeaseTimeout``.

        A database that is lost meanwhile ends no work: the lease is ``lost`` then.
        """
        ticket = await self._acquire(Lease(conversation_id, holder), patience)
        try:
            yield ticket.lease
        finally:
            await self._see_through(self._give_back(ticket))

    async def close(self) -> None:
        """Let what is being given back be given back, and renew nothing any more."""
        for task in self._renewals:
            task.cancel()
        await asyncio.gather(*self._renewals, *self._to_finish, return_exceptions=True)

    async def _acquire(self, lease: Lease, patience: float) -> _Ticket:
        deadline = asyncio.get_running_loop().time() + patience
        while True:
            ticket = await self._draw(lease)
            try:
                if ticket.has_lease or await self._wait(ticket, deadline, patience):
                    return ticket
            except BaseException:
                await self._see_through(self._give_back(ticket))
                raise
            await self._see_through(self._give_back(ticket))

    async def _draw(self, lease: Lease) -> _Ticket:
        # Cut off in the middle it would leave a ticket that nobody knows of.
        drawing = self._start(self._insert(lease))
        try:
            return await asyncio.shield(drawing)
        except asyncio.CancelledError:
            await self._see_through(self._undo(drawing))
            raise

    async def _insert(self, lease: Lease) -> _Ticket:
        """Draw a ticket and take its place among those of this process."""
        expires_at = time.time() + self._ttl
        async with self._database.writing() as transaction:
            # Numbers are to rise in the order in which others see them.
            await transaction.lock(lease.conversation_id)
            table = transaction.tables.tickets
            new = table.insert().values(
                conversation_id=lease.conversation_id, holder=lease.holder, expires_at=expires_at
            )
            result = await transaction.connection.execute(new)
            assert result.inserted_primary_key is not None
            id = int(result.inserted_primary_key[0])
            rows = await _upto(transaction, lease.conversation_id, id)
        ticket = _Ticket(id, lease, expires_at, has_lease=len(rows) == 1)
        queue = self._queues.setdefault(lease.conversation_id, [])
        insort(queue, ticket)
        queue[0].is_next.set()
        renewal = asyncio.create_task(self._keep(ticket))
        self._renewals.add(renewal)
        renewal.add_done_callback(self._renewals.discard)
        return ticket

    async def _wait(self, ticket: _Ticket, deadline: float, patience: float) -> bool:
        """Wait until a ticket has the lease; False if it was taken for that of a dead process,
        since this one, or its machine, stood still.
        """
        lease = ticket.lease
        try:
            async with asyncio.timeout_at(deadline):
                await ticket.is_next.wait()
        except TimeoutError:
            holder = self._queues[lease.conversation_id][0].lease.holder
            raise LeaseTimeout(lease.conversation_id, holder, patience) from None
        loop = asyncio.get_running_loop()
        while True:
            async with self._database.reading() as transaction:
                rows = await _upto(transaction, lease.conversation_id, ticket.id)
            if not rows or rows[-1].id != ticket.id:
                return False
            if len(rows) == 1:
                ticket.has_lease = await self._renew(ticket)
                return ticket.has_lease
            if rows[0].expires_at <= time.time():
                async with self._database.writing() as transaction:
                    await _delete_expired(transaction, lease.conversation_id)
                continue
            left = deadline - loop.time()
            if left <= 0:
                raise LeaseTimeout(lease.conversation_id, rows[0].holder, patience)
            await asyncio.sleep(min(_POLL, left))

    async def _give_back(self, ticket: _Ticket) -> None:
        ticket.given_back.set()
        try:
            async with self._database.writing() as transaction:
                table = transaction.tables.tickets
                await transaction.run(table.delete().where(table.c.id == ticket.id))
        except StoreError as error:
            log.warning(
                "A conversation could not be given free, others may wait up to %g s for it: %s",
                self._ttl,
                error,
            )
        finally:
            queue = self._queues[ticket.lease.conversation_id]
            queue.remove(ticket)
            if queue:
                queue[0].is_next.set()
            else:
                del self._queues[ticket.lease.conversation_id]

    async def _undo(self, drawing: "asyncio.Task[_Ticket]") -> None:
        with suppress(StoreError):
            await self._give_back(await drawing)

    async def _keep(self, ticket: _Ticket) -> None:
        """Renew a ticket until it is given back."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._ttl / 3):
                    await ticket.given_back.wait()
            if ticket.given_back.is_set():
                return
            renewed = await self._renew(ticket)
            if ticket.has_lease and not renewed and not ticket.given_back.is_set():
                ticket.lease.lost = True
                log.warning(
                    "%s lost the conversation %s: it was not renewed for %g s.",
                    ticket.lease.holder,
                    ticket.lease.conversation_id,
                    self._ttl,
                )
                return

    async def _renew(self, ticket: _Ticket) -> bool:
        """Whether a ticket is still valid; it is so for longer if the database can be reached."""
        expires_at = time.time() + self._ttl
        try:
            async with self._database.writing() as transaction:
                table = transaction.tables.tickets
                renewed = table.update().where(table.c.id == ticket.id)
                if not await transaction.run(renewed.values(expires_at=expires_at)):
                    return False
        except StoreError:
            return time.time() < ticket.expires_at
        ticket.expires_at = expires_at
        return True

    async def _see_through(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this to its end, also when the one who waits for it is cancelled."""
        await asyncio.shield(self._start(work))

    def _start(self, work: Coroutine[Any, Any, _T]) -> "asyncio.Task[_T]":
        task = asyncio.create_task(work)
        self._to_finish.add(task)
        task.add_done_callback(self._to_finish.discard)
        return task


async def _upto(transaction: Transaction, conversation_id: str, id: int) -> Sequence[Any]:
    """The tickets of a conversation up to and with this one, in order."""
    table = transaction.tables.tickets
    wanted = (table.c.conversation_id == conversation_id) & (table.c.id <= id)
    return await transaction.all(table.select().where(wanted).order_by(table.c.id))


async def _delete_expired(transaction: Transaction, conversation_id: str) -> None:
    """Delete the tickets of dead processes, so that they cannot come back to life."""
    table = transaction.tables.tickets
    dead = (table.c.conversation_id == conversation_id) & (table.c.expires_at <= time.time())
    await transaction.run(table.delete().where(dead))
