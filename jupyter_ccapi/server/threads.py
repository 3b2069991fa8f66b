"""The conversations that requests go on with: found by their id or by what they hold, and kept."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
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

from .checkpoints import words_of
from .seen import Seen, place_of
from .timelines import Mark, Timelines

logger = logging.getLogger(__name__)

# Seconds that a request waits for those before it in its conversation.
_PATIENCE = 600.0
# And so many, that does not name its conversation, for another process that has it.
_LITTLE_PATIENCE = 5.0
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
    #: What it is held by, also against other processes.
    lease: Lease | None = None
    #: What is noted of its turn, where files may be rewound.
    mark: Mark | None = None
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

    def __init__(self, store: Store, timelines: Timelines, *, keep: bool, keep_days: float) -> None:
        self.store = store
        self.timelines = timelines
        self._keep = keep
        self._keep_days = keep_days
        # Who waits for a conversation behind us is told so.
        self._holder = f"{socket.gethostname()}:{os.getpid()}"
        self._seen = Seen()
        self._alone: dict[str, tuple[asyncio.Lock, list[None]]] = {}
        self._writing: dict[str, asyncio.Task[None]] = {}
        self._expired_at = 0.0

    @asynccontextmanager
    async def hold(self, id: str, *, recover: bool = True) -> AsyncIterator[Lease]:
        """Have a conversation for oneself, in turn with all others, also of other processes; a
        rewind that was cut off is finished or taken back before, unless ``recover`` is false. It
        may be changed: it is not found again any more by what it held.
        """
        async with self._alone_with(id):
            await self._written(id)
            self._seen.forget(id)
            async with self.store.leases.hold(id, self._holder, patience=_PATIENCE) as lease:
                if recover:
                    await self.timelines.recover(id)
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
                await self.find(owner, id)
            async with self.hold(id) as lease:
                yield await self._named(request, owner, id, lease)
        elif not (self._keep and request.store and request.begins_conversation):
            yield Thread(owner, None, list(request.messages[:-1]), [request.messages[-1]])
        else:
            async with self._unnamed(request, owner) as thread:
                yield thread

    async def get(self, owner: str, id: str) -> Conversation:
        """A conversation of the store, no rewind of which is half done. Raises ``APIError`` 404."""
        found = await self.find(owner, id)
        if await self.timelines.broken_off(id):
            async with self.hold(id):
                found = await self.find(owner, id)
        return found

    async def find(self, owner: str, id: str) -> Conversation:
        """A conversation of the store as it is. Raises ``APIError`` 404."""
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

    @asynccontextmanager
    async def marked(self, thread: Thread, workspace: Path | None) -> AsyncIterator[None]:
        """Have a turn be a checkpoint of its conversation; it may change files in ``workspace`` if
        that is given. What is noted of it is the thread's ``mark``.
        """
        async with AsyncExitStack() as held:
            marking = asyncio.ensure_future(self._mark(thread, workspace, held))
            try:
                await asyncio.wait([marking])
                thread.mark = marking.result()
                yield
            finally:
                await _seen_through(self._leave(thread, marking))

    async def record(self, thread: Thread, added: Sequence[Message]) -> None:
        """Keep what a turn has added. One that was named, or changed files, is kept when this
        returns; any other soon after.
        """
        if thread.id is None:
            return
        if not thread.kept:
            if thread.mark is not None:
                await _seen_through(thread.mark.left())
            return
        if thread.named and thread.lease is not None and thread.lease.lost:
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
        self._seen.note(place_of(thread.owner, thread.settings, [*thread.history, *added]), id)
        if thread.named or thread.mark is not None:
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
        await self.timelines.expire(oldest)

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
        place = place_of(owner, asked, thread.history)
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
        found = await self.find(owner, id)
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
        await self._note(thread, added)

    async def _write_soon(self, thread: Thread, added: Sequence[Message]) -> None:
        """After the answer: nobody waits for it, but for what its turn has changed."""
        assert thread.id is not None
        try:
            if not thread.known or not await self._appended(thread, added):
                await self._create(thread, added)
            await self._note(thread, added)
            if thread.mark is None:
                await self.expire()
        except (StoreError, APIError) as error:
            logger.warning("The conversation %s was not kept: %s", thread.id, error)

    async def _appended(self, thread: Thread, added: Sequence[Message]) -> bool:
        """Keep it where it went on; False where that is not what it was any more."""
        assert thread.id is not None
        kept = self.store.conversations
        async with AsyncExitStack() as held:
            if thread.lease is None:
                await self._take(thread, held, _PATIENCE)
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

    async def _mark(
        self, thread: Thread, workspace: Path | None, held: AsyncExitStack
    ) -> Mark | None:
        if thread.id is None or (workspace is None and not thread.known):
            return None
        if not await self.timelines.marks(thread.id, workspace):
            return None
        try:
            if thread.known and thread.lease is None:
                await self._take(thread, held, _LITTLE_PATIENCE)
            prompt = thread.new[-1]
            return await self.timelines.begin(
                thread.owner,
                thread.id,
                workspace,
                words_of(prompt),
                counts=thread.kept and prompt.is_prompt,
            )
        except StoreError as error:
            if thread.named:
                raise
            logger.warning("What a turn of %s changes cannot be rewound: %s", thread.id, error)
            return None

    async def _leave(self, thread: Thread, marking: "asyncio.Task[Mark | None]") -> None:
        """Note the end of a turn of which nothing was kept."""
        await asyncio.wait([marking])
        if marking.cancelled() or marking.exception() is not None:
            return
        mark = marking.result()
        if mark is None:
            return
        await self._written(mark.id)
        if not mark.over and thread.lease is not None and thread.lease.lost:
            await mark.drop()
        elif not mark.over:
            await mark.left()
            if not thread.known:
                # Nobody knows of this conversation.
                await self.timelines.forget(mark.id)

    async def _note(self, thread: Thread, added: Sequence[Message]) -> None:
        mark = thread.mark
        if mark is not None and mark.id == thread.id:
            await mark.kept(before=len(thread.new) - 1, added=len(added))

    async def _take(self, thread: Thread, held: AsyncExitStack, patience: float) -> None:
        """Have the conversation of a thread also against other processes."""
        assert thread.id is not None
        lease = self.store.leases.hold(thread.id, self._holder, patience=patience)
        thread.lease = await held.enter_async_context(lease)
        held.callback(setattr, thread, "lease", None)
        await self.timelines.recover(thread.id)

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


async def _seen_through(work: Coroutine[Any, Any, None]) -> None:
    """Do this to its end, also where the one who waits for it is cancelled."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    finally:
        await asyncio.wait([task])
    task.result()


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
