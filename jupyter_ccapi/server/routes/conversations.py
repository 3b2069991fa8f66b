"""Conversations in the shape of OpenAI's Conversations API, and what it has not: a list, forks."""

from collections.abc import Mapping
from typing import Any

from jupyter_ccapi.openai.conversations import conversation_object, deleted_object, page
from jupyter_ccapi.openai.errors import APIError, invalid
from jupyter_ccapi.openai.validation import check, read_json

from .base import BaseHandler, verb


class _Handler(BaseHandler):
    """What the routes of conversations share."""

    def fields(self) -> Mapping[str, Any]:
        """The body; one that is empty says nothing. Raises ``APIError`` 400."""
        return check(read_json(self.request.body or b"{}"), "conversation")


class ConversationsHandler(_Handler):
    """All conversations of an owner."""

    @verb("read")
    async def get(self) -> None:
        """List them, the latest first."""
        asked = paging(self)
        found = await self.gateway.conversations.listed(self.principal.id, **asked)
        data = [conversation_object(one) for one in found.items]
        self.finish(page(data, has_more=found.has_more))

    @verb("write")
    async def post(self) -> None:
        """Begin one, with items or without."""
        fields = self.fields()
        made = await self.gateway.conversations.create(
            self.principal.id,
            metadata=fields.get("metadata") or {},
            title=fields.get("title"),
            items=fields.get("items") or [],
        )
        self.finish(conversation_object(made))


class ConversationHandler(_Handler):
    """One conversation."""

    @verb("read")
    async def get(self, id: str) -> None:
        """Describe it."""
        found = await self.gateway.conversations.get(self.principal.id, id)
        self.finish(conversation_object(found))

    @verb("write")
    async def patch(self, id: str) -> None:
        """Change its metadata or title."""
        fields = self.fields()
        changes = {name: fields[name] for name in ("metadata", "title") if name in fields}
        if "metadata" in changes:
            changes["metadata"] = changes["metadata"] or {}
        changed = await self.gateway.conversations.update(self.principal.id, id, **changes)
        self.finish(conversation_object(changed))

    #: OpenAI's clients say POST.
    post = patch

    @verb("write")
    async def delete(self, id: str) -> None:
        """Delete it, with all that was said in it."""
        await self.gateway.conversations.delete(self.principal.id, id)
        self.finish(deleted_object(id))


class ItemsHandler(_Handler):
    """What was said in a conversation."""

    @verb("read")
    async def get(self, id: str) -> None:
        """List its items, the latest first."""
        asked = paging(self)
        items, more = await self.gateway.conversations.items(self.principal.id, id, **asked)
        self.finish(page([item.body for item in items], has_more=more))

    @verb("write")
    async def post(self, id: str) -> None:
        """Add items, without asking the model."""
        given = self.fields().get("items")
        if not given:
            raise invalid(
                "items", "Missing required parameter: 'items'.", code="missing_required_parameter"
            )
        added = await self.gateway.conversations.add(self.principal.id, id, given)
        self.finish(page([item.body for item in added], has_more=False))


class ItemHandler(_Handler):
    """One item."""

    @verb("read")
    async def get(self, id: str, item_id: str) -> None:
        """Show it."""
        item = await self.gateway.conversations.item(self.principal.id, id, item_id)
        self.finish(item.body)

    @verb("write")
    async def delete(self, id: str, item_id: str) -> None:
        """Take it out; the answer is the conversation."""
        found = await self.gateway.conversations.take_out(self.principal.id, id, item_id)
        self.finish(conversation_object(found))


class ForkHandler(_Handler):
    """Another conversation that begins as this one does."""

    @verb("write")
    async def post(self, id: str) -> None:
        """Copy it, up to the message of ``item_id`` where that is given."""
        fields = self.fields()
        if fields.get("items"):
            raise APIError(400, "Items can be added when the fork is made.", param="items")
        made = await self.gateway.conversations.fork(
            self.principal.id,
            id,
            item_id=fields.get("item_id"),
            metadata=fields.get("metadata"),
        )
        self.finish({**conversation_object(made), "forked_from": id})


def paging(handler: BaseHandler) -> dict[str, Any]:
    """The query's ``limit``, ``after`` and ``order``. Raises ``APIError`` 400."""
    limit = handler.get_query_argument("limit", "20")
    if not limit.isdecimal() or not 1 <= int(limit) <= 100:
        raise invalid("limit", f"limit must be a number from 1 to 100, not {limit[:20]!r}.")
    order = handler.get_query_argument("order", "desc")
    if order not in ("asc", "desc"):
        raise invalid("order", f"order must be 'asc' or 'desc', not {order[:20]!r}.")
    after = handler.get_query_argument("after", None)
    return {"limit": int(limit), "after": after or None, "order": order}


_ONE = r"/v1/conversations/([\w.-]+)"

default_handlers = [
    (r"/v1/conversations", ConversationsHandler),
    (_ONE, ConversationHandler),
    (rf"{_ONE}/items", ItemsHandler),
    (rf"{_ONE}/items/([\w.-]+)", ItemHandler),
    (rf"{_ONE}/fork", ForkHandler),
]
