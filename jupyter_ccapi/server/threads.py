"""The conversations that requests go on with: found by their id or by what they hold, and kept."""

import asyncio
import logging
import os
import socket
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
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
    #: Whether it was asked for by its id: then it is held for this request alone.
    named: bool = False
    #: Whether the store has it.
    known: bool = False
    #: The names, in the store, of those that the client has edited away.
    dropped: tuple[str, ...] = ()
    #: What a named one is held by.
    lease: Lease | None = None
    _changed: bool = False

    def remember(self, settings: dict[str, Any]) -> None:
        """Note what later requests need not say again."""
        self._changed = self._changed or settings != self.settings
        self.settings = settings

    @property
    def changed(self) -> bool:
        """Whether its settings are not those of the store any more."""
        return self._changed and self.named


class Threads:
    """The conversations of one server that requests go on with, in its store. Without ``keep``
    only those are kept that were made on purpose.
    """

    def __init__(self, store: Store, *, keep: bool, keep_days: float) -> None:
        self.store = store
        self._keep = keep
        self._keep_days = keep_days
        # Who waits for a conversation behind us is told so.
        self._holder = f"{socket.gethostname()}:{os.getpid()}"
        self._held_by: OrderedDict[tuple[str, bytes], str] = OrderedDict()
        self._writing: dict[str, asyncio.Task[None]] = {}
        self._expired_at = 0.0

    def hold(self, id: str) -> AbstractAsyncContextManager[Lease]:
        """Have a conversation for oneself, in turn with all others, also of other processes."""
        return self.store.leases.hold(id, self._holder, patience=_PATIENCE)

    @asynccontextmanager
    async def thread(self, request: Request, owner: str) -> AsyncIterator[Thread]:
        """The conversation that a request means, held for it as long as it runs where it named
        one. Raises ``APIError`` 404.
        """
        if request.previous_response is not None:
            yield await self._after_response(request, owner)
        elif request.conversation is not None:
            id = request.conversation
            # Before it waits for its turn: nobody waits for what is not there.
            await self.get(owner, id)
            async with self.hold(id) as lease:
                thread = await self._named(request, owner, id)
                thread.lease = lease
                yield thread
        else:
            yield self._unnamed(request, owner)

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
        if thread.id is None:
            return
        if thread.named:
            if thread.lease is not None and thread.lease.lost:
                raise APIError(
                    409,
                    "Another process took this conversation over while the answer was made, which "
                    "was not kept. Ask again.",
                    code="conversation_busy",
                    param="conversation_id",
                )
            await self._write(thread, added)
            return
        id = thread.id
        key = (thread.owner, fingerprint([*thread.history, *added]))
        self._held_by[key] = id
        self._held_by.move_to_end(key)
        if len(self._held_by) > _REMEMBERED:
            self._held_by.popitem(last=False)
        before = self._writing.get(id)
        task = asyncio.get_running_loop().create_task(self._write_later(thread, added, before))
        self._writing[id] = task
        task.add_done_callback(lambda done: self._forget_write(id, done))

    async def close(self) -> None:
        """Wait for what is still to be kept."""
        while self._writing:
            await asyncio.wait(list(self._writing.values()))

    def _unnamed(self, request: Request, owner: str) -> Thread:
        history, new = list(request.messages[:-1]), [request.messages[-1]]
        if not (self._keep and request.store and request.begins_conversation):
            return Thread(owner, None, history, new)
        id = None
        if history and history[-1].role == "assistant":
            # Whoever takes it up has it: a second one that goes on from the same place begins
            # another conversation.
            id = self._held_by.pop((owner, fingerprint(history)), None)
        if id is None:
            return Thread(owner, f"conv_{uuid4().hex}", history, new)
        return Thread(owner, id, history, new, known=True)

    async def _named(self, request: Request, owner: str, id: str) -> Thread:
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
            dropped=tuple(one.uuid for one in stored[stays:]),
        )

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

    async def _write_later(
        self, thread: Thread, added: Sequence[Message], before: "asyncio.Task[None] | None"
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        try:
            await self._write(thread, added)
            await self._expire()
        except NoSuchConversation:
            logger.debug("The conversation %s was deleted while it went on", thread.id)
        except StoreError as error:
            logger.warning("The conversation %s was not kept: %s", thread.id, error)

    async def _write(self, thread: Thread, added: Sequence[Message]) -> None:
        assert thread.id is not None
        kept = self.store.conversations
        for uuid in thread.dropped:
            await kept.remove(thread.owner, thread.id, uuid)
        if thread.changed:
            await kept.update(thread.owner, thread.id, settings=thread.settings)
        if thread.known:
            await kept.append(thread.owner, thread.id, as_pairs(added))
            return
        await kept.create(
            thread.owner,
            id=thread.id,
            title=_title([*thread.history, *added]),
            settings=thread.settings,
            messages=as_pairs([*thread.history, *added]),
        )

    async def _written(self, id: str) -> None:
        """Wait until all that was said in a conversation is in the store."""
        if (writing := self._writing.get(id)) is not None:
            await asyncio.wait([writing])

    def _forget_write(self, id: str, task: "asyncio.Task[None]") -> None:
        if self._writing.get(id) is task:
            del self._writing[id]

    async def _expire(self) -> None:
        """Once a day: delete what is older than it may become."""
        now = time.time()
        if not self._keep_days or now - self._expired_at < _DAY:
            return
        self._expired_at = now
        oldest = now - self._keep_days * _DAY
        await self.store.conversations.expire(oldest)
        await self.store.responses.expire(oldest)


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
