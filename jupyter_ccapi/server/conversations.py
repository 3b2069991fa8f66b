"""The conversations that are kept: what their owners see of them, and may change."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from jupyter_ccapi.openai.errors import APIError, invalid
from jupyter_ccapi.openai.fields import check_whole
from jupyter_ccapi.openai.items import Item, items_of, message_of, read_items
from jupyter_ccapi.store import Conversation, NoSuchConversation, NoSuchMessage, Page

from .images import ImageLoader
from .threads import Threads, as_message, as_pairs


class Conversations:
    """The kept conversations of one server. Each belongs to an owner; to others it is not there.

    Its methods raise ``APIError`` 404 for what is not there, and wait for a turn under way before
    they change what was said.
    """

    def __init__(self, threads: Threads, images: ImageLoader) -> None:
        self._threads = threads
        self._images = images
        self._kept = threads.store.conversations

    async def listed(
        self, owner: str, *, limit: int, after: str | None, order: Literal["asc", "desc"]
    ) -> Page[Conversation]:
        """A part of the list of all."""
        try:
            return await self._kept.list(owner, limit=limit, after=after, order=order)
        except NoSuchConversation:
            raise invalid("after", f"There is no conversation {after!r} here.") from None

    async def create(
        self,
        owner: str,
        *,
        metadata: Mapping[str, str],
        title: str | None,
        items: Sequence[Mapping[str, Any]],
    ) -> Conversation:
        """Begin one, with items or without."""
        given, system = read_items(items) if items else ([], None)
        messages = await self._images.load(given)
        return await self._kept.create(
            owner,
            metadata=dict(metadata),
            title=title,
            settings={"system_prompt": system} if system else {},
            messages=as_pairs(check_whole(messages) if messages else []),
        )

    async def get(self, owner: str, id: str) -> Conversation:
        """One of them."""
        return await self._threads.get(owner, id)

    async def update(self, owner: str, id: str, **changes: Any) -> Conversation:
        """Change its ``metadata`` or ``title``."""
        await self.get(owner, id)
        return await self._kept.update(owner, id, **changes)

    async def delete(self, owner: str, id: str) -> None:
        """Delete it, with all that was said in it."""
        await self._threads.find(owner, id)
        async with self._threads.hold(id, recover=False):
            await self._kept.delete(owner, id)
            await self._threads.timelines.forget(id)

    async def fork(
        self, owner: str, id: str, *, item_id: str | None, metadata: Mapping[str, str] | None
    ) -> Conversation:
        """A copy that ends with the message of an item, or with the last one."""
        await self.get(owner, id)
        upto = message_of(item_id) if item_id is not None else None
        if item_id is not None:
            await self.item(owner, id, item_id)
        return await self._kept.fork(
            owner, id, upto=upto, metadata=None if metadata is None else dict(metadata)
        )

    async def items(
        self, owner: str, id: str, *, limit: int, after: str | None, order: str
    ) -> tuple[list[Item], bool]:
        """A part of what was said, and whether there is more."""
        items = await self._all(owner, id)
        if order == "desc":
            items.reverse()
        if after is not None:
            place = next((n for n, item in enumerate(items, 1) if item.id == after), None)
            if place is None:
                raise invalid("after", f"There is no item {after!r} in this conversation.")
            items = items[place:]
        return items[:limit], len(items) > limit

    async def item(self, owner: str, id: str, item_id: str) -> Item:
        """One thing that was said."""
        for item in await self._all(owner, id):
            if item.id == item_id:
                return item
        raise APIError(
            404,
            f"There is no item {item_id!r} in this conversation.",
            param="item_id",
            code="item_not_found",
        )

    async def add(self, owner: str, id: str, given: Sequence[Mapping[str, Any]]) -> list[Item]:
        """Add items at the end, without asking the model."""
        added, system = read_items(given)
        new = await self._images.load(added)
        found = await self.get(owner, id)
        async with self._threads.hold(id):
            if system:
                said = [part for part in (found.settings.get("system_prompt"), system) if part]
                settings = {**found.settings, "system_prompt": "\n\n".join(said)}
                await self._kept.update(owner, id, settings=settings)
            before = [as_message(one) for one in await self._kept.messages(owner, id)]
            checked = check_whole([*before, *new])[len(before) :] if new else []
            stored = await self._kept.append(owner, id, as_pairs(checked))
        return [item for one in stored for item in items_of(one.uuid, one.role, one.content)]

    async def take_out(self, owner: str, id: str, item_id: str) -> Conversation:
        """Delete an item."""
        await self.get(owner, id)
        async with self._threads.hold(id):
            item = await self.item(owner, id, item_id)
            await self._threads.timelines.note(owner, id)
            stored = await self._kept.messages(owner, id)
            message = next(one for one in stored if one.uuid == item.uuid)
            rest = [
                block
                for place, block in enumerate(as_message(message).blocks)
                if place not in item.blocks
            ]
            try:
                if rest:
                    await self._kept.replace(owner, id, item.uuid, rest)
                else:
                    await self._kept.remove(owner, id, item.uuid)
            except NoSuchMessage as error:
                raise APIError(404, str(error), param="item_id", code="item_not_found") from None
        return await self.get(owner, id)

    async def _all(self, owner: str, id: str) -> list[Item]:
        await self.get(owner, id)
        stored = await self._kept.messages(owner, id)
        return [item for one in stored for item in items_of(one.uuid, one.role, one.content)]
