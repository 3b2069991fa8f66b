"""The conversations that requests go on with: found by their id or by what they hold, and kept."""

import asyncio
import logging
import os
import socket
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from jupyter_ccapi.claude import Message
from jupyter_ccapi.openai.errors import APIError
from jupyter_ccapi.openai.request import Request
from jupyter_ccapi.openai.thread import continuation, fingerprint
from jupyter_ccapi.store import (
    Conversation,
    Lease,
    NoSuchConversation,
    NoSuchResponse,
    Store,
    StoredMessage,
    StoreError,
)

logger = logging.getLogger(__name__)

# So many conversations are found again by what they hold.
_REMEMBERED = 4096
# Seconds that a request waits for those before it in its conversation.
_PATIENCE = 600.0
_DAY = 86400.0
_TITLE = 80


@dataclass
class Thread:
    """The conversation that a request goes on with.

    ``id`` is None where it is not kept. ``history`` is what was there before, ``new`` what the
    request adds, its prompt last. ``settings`` are what its earlier requests have said, for those
    that say nothing.
    """

    owner: str
    id: str | None
    history: list[Message]
    new: list[Message]
    settings: dict[str, Any] = field(default_factory=dict)
    #: Whether it was asked for by its id.
    named: bool = False
    #: Whether the store has it.
    known: bool = False
    #: Whether what this request adds is kept.
    kept: bool = True
    #: The names, in the store, of those that the client has edited away.
    dropped: tuple[str, ...] = ()
    #: What a named one is held by.
    lease: Lease | None = None
    recorded: bool = False
    changed: bool = False

    def remember(self, settings: dict[str, Any]) -> None:
        """Note what later requests need not say again."""
        self.changed = self.changed or settings != self.settings
        self.settings = settings


class Threads:
    """The conversations of one server that requests go on with, in its store. Without ``keep``
    only those are kept that were made on purpose.

    A conversation has one request at a time: within this process they wait for each other in
    order, and those that name it also for those of other processes.
    """

    def __init__(self, store: Store, *, keep: bool, keep_days: float) -> None:
        self.store = store
        self._keep = keep
        self._keep_days = keep_days
        # Who waits for a conversation behind us is told so.
        self._holder = f"{socket.gethostname()}:{os.getpid()}"
        self._seen = Seen()
        self._alone: dict[str, tuple[asyncio.Lock, list[None]]] = {}
        self._writing: dict[str, asyncio.Task[None]] = {}
        self._expired_at = 0.0

    @asynccontextmanager
    async def hold(self, id: str) -> AsyncIterator[Lease]:
        """Have a conversation for oneself, in turn with all others, also of other processes. It
        may be changed: it is not found again any more by what it held.
        """
        async with self._alone_with(id):
            await self._written(id)
            self._seen.forget(id)
            async with self.store.leases.hold(id, self._holder, patience=_PATIENCE) as lease:
                yield lease

    @asynccontextmanager
    async def thread(self, request: Request, owner: str) -> AsyncIterator[Thread]:
        """The conversation that a request means, for it alone as long as it runs. Raises
        ``APIError`` 404.
        """
        id = request.conversation
        if request.previous_response is not None:
            yield await self._after_response(request, owner)
        elif id is not None:
            if id not in self._alone:
                # Before it waits for its turn: nobody waits for what is not there.
                await self.get(owner, id)
            async with self.hold(id) as lease:
                yield await self._named(request, owner, id, lease)
        elif not (self._keep and request.store and request.begins_conversation):
            yield Thread(owner, None, list(request.messages[:-1]), [request.messages[-1]])
        else:
            async with self._unnamed(request, owner) as thread:
                yield thread

    async def get(self, owner: str, id: str) -> Conversation:
        """A conversation of the store. Raises ``APIError`` 404."""
        await self._written(id)
        try:
            return await self.store.conversations.get(owner, id)
        except NoSuchConversation:
            raise APIError(
                404,
                f"There is no conversation {id!r} here.",
                param="conversation_id",
                code="conversation_not_found",
            ) from None

    async def record(self, thread: Thread, added: Sequence[Message]) -> None:
        """Keep what a turn has added. One that was named is kept when this returns; any other
        soon after.
        """
        if thread.id is None or not thread.kept:
            return
        if thread.lease is not None and thread.lease.lost:
            raise APIError(
                409,
                "Another process took this conversation over while the answer was made, which was "
                "not kept. Ask again.",
                code="conversation_busy",
                param="conversation_id",
                should_retry=False,
            )
        thread.recorded = True
        writing = self._write_now if thread.named else self._write_soon
        task = asyncio.get_running_loop().create_task(writing(thread, added))
        id = thread.id
        self._writing[id] = task
        task.add_done_callback(lambda done: self._forget_write(id, done))
        self._seen.note(place_of(thread, [*thread.history, *added]), id)
        if thread.named:
            # Kept as a whole, also where its client leaves meanwhile.
            await asyncio.shield(task)

    async def expire(self) -> None:
        """At most once a day: delete what is older than it may become."""
        now = time.time()
        if not self._keep_days or now - self._expired_at < _DAY:
            return
        self._expired_at = now
        oldest = now - self._keep_days * _DAY
        await self.store.conversations.expire(oldest)
        await self.store.responses.expire(oldest)

    async def close(self) -> None:
        """Wait for what is still to be kept."""
        while self._writing:
            await asyncio.wait(list(self._writing.values()))

    async def whole(self, thread: Thread) -> Thread:
        """An unnamed conversation with all that the model knows of it, and not only what its
        client has seen.
        """
        if thread.known and not thread.named and thread.id is not None:
            await self._written(thread.id)
            with suppress(StoreError):
                stored = await self.store.conversations.messages(thread.owner, thread.id)
                full = [as_message(one) for one in stored]
                if fingerprint(full) == fingerprint(thread.history):
                    thread.history = full
        return thread

    @asynccontextmanager
    async def _unnamed(self, request: Request, owner: str) -> AsyncIterator[Thread]:
        thread = Thread(owner, None, list(request.messages[:-1]), [request.messages[-1]])
        asked = {"system_prompt": request.system_prompt, "ccapi": request.agent.mode}
        place = place_of(thread, thread.history, asked)
        # Whoever takes it up has it: a second one that goes on from the same place meanwhile
        # begins another conversation.
        known = self._seen.take(place) if _goes_on(thread.history) else None
        if known is not None and known in self._alone:
            known = None
        thread.id, thread.known = known or f"conv_{uuid4().hex}", known is not None
        async with self._alone_with(thread.id):
            try:
                yield thread
            finally:
                if known is not None and not thread.recorded:
                    self._seen.note(place, known)

    async def _named(self, request: Request, owner: str, id: str, lease: Lease) -> Thread:
        found = await self.get(owner, id)
        stored = await self.store.conversations.messages(owner, id)
        known = [as_message(one) for one in stored]
        stays, new = len(known), list(request.messages)
        if not request.only_new:
            stays, new = continuation(known, request.messages)
        return Thread(
            owner,
            id,
            known[:stays],
            new,
            settings=found.settings,
            named=True,
            known=True,
            kept=request.store,
            dropped=tuple(one.uuid for one in stored[stays:]),
            lease=lease,
        )

    async def _after_response(self, request: Request, owner: str) -> Thread:
        assert request.previous_response is not None
        try:
            history = await self.store.responses.history(owner, request.previous_response)
        except NoSuchResponse as error:
            raise APIError(
                404,
                f"{error}",
                param="previous_response_id",
                code="previous_response_not_found",
            ) from None
        known = [Message(one["role"], one["content"]) for one in history if one["role"] != "system"]
        said = [one["content"] for one in history if one["role"] == "system"]
        settings = {"system_prompt": "\n\n".join(said)} if said else {}
        return Thread(owner, None, known, list(request.messages), settings)

    async def _write_now(self, thread: Thread, added: Sequence[Message]) -> None:
        assert thread.id is not None
        await self.store.conversations.append(
            thread.owner,
            thread.id,
            as_pairs(added),
            dropping=thread.dropped,
            settings=thread.settings if thread.changed else None,
        )

    async def _write_soon(self, thread: Thread, added: Sequence[Message]) -> None:
        """After the answer: nobody waits for it."""
        assert thread.id is not None
        try:
            if not thread.known or not await self._appended(thread, added):
                await self._create(thread, added)
            await self.expire()
        except StoreError as error:
            logger.warning("The conversation %s was not kept: %s", thread.id, error)

    async def _appended(self, thread: Thread, added: Sequence[Message]) -> bool:
        """Keep it where it went on; False where that is not what it was any more."""
        assert thread.id is not None
        kept = self.store.conversations
        async with self.store.leases.hold(thread.id, self._holder, patience=_PATIENCE):
            try:
                stored = await kept.messages(thread.owner, thread.id)
                if fingerprint([as_message(m) for m in stored]) == fingerprint(thread.history):
                    await kept.append(thread.owner, thread.id, as_pairs(added))
                    return True
            except NoSuchConversation:
                logger.debug("The conversation %s was deleted while it went on", thread.id)
        self._seen.forget(thread.id)
        thread.id = f"conv_{uuid4().hex}"
        return False

    async def _create(self, thread: Thread, added: Sequence[Message]) -> None:
        assert thread.id is not None
        await self.store.conversations.create(
            thread.owner,
            id=thread.id,
            title=_title([*thread.history, *added]),
            settings=thread.settings,
            messages=as_pairs([*thread.history, *added]),
        )

    @asynccontextmanager
    async def _alone_with(self, id: str) -> AsyncIterator[None]:
        """Wait for all others of this process who have the conversation."""
        lock, users = self._alone.setdefault(id, (asyncio.Lock(), []))
        users.append(None)
        try:
            async with lock:
                yield
        finally:
            users.pop()
            if not users:
                del self._alone[id]

    async def _written(self, id: str) -> None:
        """Wait until all that was said in a conversation is in the store."""
        if (writing := self._writing.get(id)) is not None:
            await asyncio.wait([writing])

    def _forget_write(self, id: str, task: "asyncio.Task[None]") -> None:
        if self._writing.get(id) is task:
            del self._writing[id]
        if not task.cancelled():
            task.exception()  # whoever named it was told


class Seen:
    """The latest conversations by what they hold, each in one place."""

    def __init__(self) -> None:
        self._by_place: OrderedDict[Place, str] = OrderedDict()
        self._places: dict[str, Place] = {}

    def note(self, place: "Place", id: str) -> None:
        """Note what a conversation holds now."""
        self.forget(id)
        if (other := self._by_place.pop(place, None)) is not None:
            del self._places[other]
        self._by_place[place] = id
        self._places[id] = place
        if len(self._by_place) > _REMEMBERED:
            _, oldest = self._by_place.popitem(last=False)
            del self._places[oldest]

    def take(self, place: "Place") -> str | None:
        """The conversation that holds this, which then is not found again."""
        id = self._by_place.get(place)
        if id is not None:
            self.forget(id)
        return id

    def forget(self, id: str) -> None:
        """Not find this conversation again."""
        if (place := self._places.pop(id, None)) is not None:
            del self._by_place[place]


#: Whose it is, what its system prompt and mode are, and what its client has seen of it.
Place = tuple[str, str | None, str | None, bytes]


def place_of(
    thread: Thread, messages: Sequence[Message], asked: Mapping[str, Any] | None = None
) -> Place:
    """Where a conversation with these messages is found, by what is ``asked`` of it."""
    settings = thread.settings if asked is None else asked
    agent = settings.get("ccapi")
    mode = agent.get("mode") if isinstance(agent, Mapping) else agent
    return thread.owner, settings.get("system_prompt"), mode, fingerprint(messages)


def _goes_on(history: Sequence[Message]) -> bool:
    """Whether there is an answer at the end: nothing is found by a question alone."""
    return bool(history) and history[-1].role == "assistant"


def as_message(stored: StoredMessage) -> Message:
    """A message of the store as the core's."""
    return Message(stored.role, stored.content)


def as_pairs(messages: Sequence[Message]) -> list[tuple[Any, Any]]:
    """The core's messages as the store takes them."""
    return [(message.role, message.content) for message in messages]


def _title(messages: Sequence[Message]) -> str | None:
    """What a conversation is about, as far as its first words say."""
    for message in messages:
        for block in message.blocks:
            if message.role == "user" and block.get("type") == "text":
                words = " ".join(str(block["text"]).split())
                return words if len(words) <= _TITLE else words[: _TITLE - 1] + "…"
    return None
