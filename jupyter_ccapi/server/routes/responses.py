"""POST /v1/responses, and what is kept of them."""

import time
from collections.abc import Mapping
from typing import Any

from jupyter_ccapi.openai.conversations import page
from jupyter_ccapi.openai.errors import APIError, invalid
from jupyter_ccapi.openai.responses_input import references
from jupyter_ccapi.openai.responses_request import ResponsesRequest, parse_responses
from jupyter_ccapi.openai.responses_response import (
    ResponsesStream,
    new_response_id,
    response_object,
)
from jupyter_ccapi.store import NoSuchResponse, Response

from ..answering import Answering
from .base import BaseHandler, verb
from .conversations import paging
from .turns import TurnHandler, Wire


class ResponsesHandler(TurnHandler):
    """Responses, streamed and not. Those that are stored can be gone on from."""

    route = "responses"
    _response: dict[str, Any]

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Give the response its id."""
        super().initialize(*args, **kwargs)
        self._id = new_response_id()

    async def known(self, body: Any) -> Mapping[str, Mapping[str, Any]]:
        """The earlier items that a body refers to."""
        named = references(body)
        if not named:
            if isinstance(body, dict) and body.get("store") is not False:
                # Before anything is spent on what then could not be kept.
                await self.gateway.store.open()
            return {}
        return await self.gateway.store.responses.items(self.principal.id, named)

    def read(self, body: Any, known: Any) -> ResponsesRequest:
        """Read a body."""
        return parse_responses(body, known)

    def wire(self, asked: ResponsesRequest) -> Wire:
        """Typed events."""
        stream = ResponsesStream(asked, response_id=self._id)
        self._response = stream.response
        return stream

    def whole(self, asked: ResponsesRequest, answering: Answering) -> dict[str, Any]:
        """A response object."""
        self._response = response_object(answering.answer, asked, response_id=self._id)
        return self._response

    async def keep(self, asked: ResponsesRequest, answering: Answering) -> None:
        """Keep the response too, unless its request says that it is not to be."""
        await super().keep(asked, answering)
        if not asked.request.store:
            return
        carried, told = asked.carried, answering.added
        if asked.request.previous_response is None:
            # Nothing else that is kept leads to what was there before.
            carried = answering.thread.settings.get("system_prompt")
            told = [*answering.thread.history, *told]
        said = [{"role": "system", "content": carried}] if carried else []
        await self.gateway.store.responses.save(
            Response(
                id=self._id,
                owner=self.principal.id,
                created_at=time.time(),
                parent_id=asked.request.previous_response,
                conversation_id=asked.request.conversation,
                body=self._response,
                input_items=list(asked.items),
                messages=[*said, *({"role": one.role, "content": one.content} for one in told)],
            )
        )


class ResponseHandler(BaseHandler):
    """A response that is kept."""

    @verb("read")
    async def get(self, id: str) -> None:
        """Show it."""
        if self.get_query_argument("stream", "false").lower() in ("true", "1"):
            raise invalid("stream", "A response that is complete is not streamed again.")
        self.finish((await _found(self, id)).body)

    @verb("write")
    async def delete(self, id: str) -> None:
        """Delete it. Nobody can go on from it any more, nor from those after it."""
        await _found(self, id)
        await self.gateway.store.responses.delete(self.principal.id, id)
        self.finish({"id": id, "object": "response", "deleted": True})


class InputItemsHandler(BaseHandler):
    """What a response was asked with."""

    @verb("read")
    async def get(self, id: str) -> None:
        """List the items."""
        asked = paging(self)
        items = (await _found(self, id)).input_items
        if asked["order"] == "desc":
            items = items[::-1]
        if asked["after"]:
            ids = [item["id"] for item in items]
            if asked["after"] not in ids:
                raise invalid("after", "There is no such item in this response's input.")
            items = items[ids.index(asked["after"]) + 1 :]
        limit = asked["limit"]
        self.finish(page(items[:limit], has_more=len(items) > limit))


class CancelHandler(BaseHandler):
    """Responses in the background, which there are none of."""

    @verb("write")
    async def post(self, id: str) -> None:
        """Say so."""
        await _found(self, id)
        raise APIError(
            400,
            "Only responses in the background can be cancelled: to end this one, its client closes "
            "the connection.",
        )


async def _found(handler: BaseHandler, id: str) -> Response:
    """A response of the one who asks. Raises ``APIError`` 404."""
    try:
        return await handler.gateway.store.responses.get(handler.principal.id, id)
    except NoSuchResponse as error:
        raise APIError(404, str(error), param="response_id", code="response_not_found") from None


_ONE = r"/v1/responses/([\w.-]+)"

default_handlers = [
    (r"/v1/responses", ResponsesHandler),
    (_ONE, ResponseHandler),
    (rf"{_ONE}/input_items", InputItemsHandler),
    (rf"{_ONE}/cancel", CancelHandler),
]
