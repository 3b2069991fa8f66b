"""POST /v1/chat/completions."""

from typing import Any

from jupyter_ccapi.openai.chat_request import ChatRequest, parse_chat
from jupyter_ccapi.openai.chat_response import ChatStream, completion

from ..answering import Answering
from .turns import TurnHandler, Wire


class ChatCompletionsHandler(TurnHandler):
    """Chat completions, streamed and not."""

    route = "chat"

    def read(self, body: Any, known: None) -> ChatRequest:
        """Read a body."""
        return parse_chat(body)

    def wire(self, asked: ChatRequest) -> Wire:
        """Chunks."""
        return ChatStream(include_usage=asked.include_usage)

    def whole(self, asked: ChatRequest, answering: Answering) -> dict[str, Any]:
        """A completion; the conversation's id is ours, beside OpenAI's fields."""
        answer = completion(answering.answer)
        if answering.thread.id is not None:
            answer["conversation_id"] = answering.thread.id
        return answer


default_handlers = [(r"/v1/chat/completions", ChatCompletionsHandler)]
