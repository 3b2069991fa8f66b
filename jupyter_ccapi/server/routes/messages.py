"""POST /v1/messages and /v1/messages/count_tokens, for Anthropic's own clients."""

from typing import Any

from jupyter_ccapi.openai.errors import APIError
from jupyter_ccapi.openai.messages_request import parse_count_tokens, parse_messages
from jupyter_ccapi.openai.messages_response import (
    PING,
    MessagesStream,
    error_body,
    message_object,
)
from jupyter_ccapi.openai.request import Request
from jupyter_ccapi.openai.validation import read_json

from ..answering import Answering
from .base import BaseHandler, verb
from .turns import TurnHandler, Wire


class _Anthropic(BaseHandler):
    """Errors in Anthropic's shape, with OpenAI's fields in it."""

    def set_default_headers(self) -> None:
        """Anthropic's clients look for the request's id under another name."""
        super().set_default_headers()
        self.set_header("request-id", self.request_id)

    def error_body(self, error: APIError) -> dict[str, Any]:
        """An error in place of a message."""
        return error_body(error, self.request_id)


class _Asked:
    """A request that needs nothing more for its answer."""

    def __init__(self, request: Request) -> None:
        self.request = request


class MessagesHandler(_Anthropic, TurnHandler):
    """Messages, streamed and not."""

    route = "messages"
    keep_alive = PING

    def read(self, body: Any, known: None) -> _Asked:
        """Read a body."""
        return _Asked(parse_messages(body))

    def wire(self, asked: _Asked) -> Wire:
        """Anthropic's events."""
        return MessagesStream(model=asked.request.model or "")

    def whole(self, asked: _Asked, answering: Answering) -> dict[str, Any]:
        """A message; the conversation's id is ours, beside Anthropic's fields."""
        message = message_object(answering.answer)
        if answering.thread.id is not None:
            message["conversation_id"] = answering.thread.id
        return message


class CountTokensHandler(_Anthropic):
    """How many tokens a request would have."""

    @verb("execute")
    async def post(self) -> None:
        """Count them, without asking the model for an answer."""
        request = parse_count_tokens(read_json(self.request.body))
        self.finish({"input_tokens": await self.gateway.count_tokens(request, self.principal)})


default_handlers = [
    (r"/v1/messages", MessagesHandler),
    (r"/v1/messages/count_tokens", CountTokensHandler),
]
