"""The pieces of an answer become a message of Anthropic's API, or the events of its stream."""

import json
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import uuid4

from jupyter_ccapi.claude import Usage

from .answer import Answer, CallBegun, Ended, Piece, Started
from .errors import APIError
from .sequence import Part, PartSequence, Step

_ENCODER = json.JSONEncoder(separators=(",", ":"))
# Why an answer ended, in Anthropic's words.
_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
# Anthropic's classes of error.
_ERRORS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_DELTAS = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "call": ("input_json_delta", "partial_json"),
}


def encode(event: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"event: {event['type']}\ndata: {_ENCODER.encode(event)}\n\n".encode()


#: Keeps a connection alive; clients skip it.
PING = encode({"type": "ping"})


class MessagesStream:
    """The events of one message."""

    def __init__(self, *, model: str = "") -> None:
        self._sequence = PartSequence()
        self._message = _message(model)
        self._begun = False

    def opening(self) -> bytes:
        """Nothing: the first event names the model, which says itself who it is."""
        return b""

    def encoded(self, pieces: Iterable[Piece]) -> Iterator[bytes]:
        """The server-sent events of these pieces."""
        for piece in pieces:
            if isinstance(piece, Started):
                # Until the model says something, a failure can still be an HTTP status.
                self._message["model"] = piece.model
                continue
            if not self._begun:
                self._begun = True
                yield encode({"type": "message_start", "message": self._message})
            for step in self._sequence.feed(piece):
                yield encode(_event(step))
            if isinstance(piece, Ended):
                spent = usage(piece.usage)
                yield encode({"type": "message_delta", "delta": _stop(piece), "usage": spent})
                yield encode({"type": "message_stop"})

    def closing(self) -> bytes:
        """Nothing: the last event says that it is the last."""
        return b""

    def failure(self, error: APIError, request_id: str) -> bytes:
        """The last event of a stream that failed."""
        return encode(error_body(error, request_id))


def message_object(answer: Answer) -> dict[str, Any]:
    """The whole message of a request that does not stream, when its answer has ended."""
    ended = answer.ended
    assert ended is not None, "a message is made of a whole answer"
    content: list[dict[str, Any]] = []
    if answer.thinking:
        content.append(_block(Part(0, "thinking", text=answer.thinking)))
    if answer.text:
        content.append(_block(Part(0, "text", text=answer.text)))
    for index, call in enumerate(answer.calls):
        begun = CallBegun(index, call.id, call.name)
        content.append(_block(Part(0, "call", begun, call.arguments)))
    made = {
        **_message(ended.model),
        "content": content,
        **_stop(ended),
        "usage": usage(ended.usage),
    }
    if ended.denied:
        made["ccapi"] = {"permission_denials": list(ended.denied)}
    return made


def error_body(error: APIError, request_id: str | None = None) -> dict[str, Any]:
    """An error as Anthropic's clients expect it; ``param`` and ``code`` are OpenAI's."""
    kind = _ERRORS.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    told = {"type": kind, "message": error.message, "param": error.param, "code": error.code}
    return {"type": "error", "error": told, "request_id": request_id}


def usage(spent: Usage) -> dict[str, Any]:
    """Tokens as Anthropic counts them: cached ones stand beside the input's."""
    return {
        "input_tokens": spent.input_tokens,
        "cache_creation_input_tokens": spent.cache_creation_tokens,
        "cache_read_input_tokens": spent.cache_read_tokens,
        "output_tokens": spent.output_tokens,
        "output_tokens_details": {"thinking_tokens": spent.thinking_tokens},
    }


def _message(model: str) -> dict[str, Any]:
    """A message that nothing has been said in yet; what it costs is known at its end."""
    return {
        "id": f"msg_{uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage(Usage()),
    }


def _stop(ended: Ended) -> dict[str, Any]:
    if ended.stop_sequence is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": ended.stop_sequence}
    return {"stop_reason": _STOP_REASONS[ended.finish], "stop_sequence": None}


def _event(step: Step) -> dict[str, Any]:
    index = step.part.index
    match step.kind:
        case "open":
            empty = Part(index, step.part.kind, step.part.call)
            return {"type": "content_block_start", "index": index, "content_block": _block(empty)}
        case "grow":
            kind, field = _DELTAS[step.part.kind]
            delta = {"type": kind, field: step.text}
            return {"type": "content_block_delta", "index": index, "delta": delta}
        case "close":
            return {"type": "content_block_stop", "index": index}


def _block(part: Part) -> dict[str, Any]:
    """A part as a content block."""
    if part.kind == "thinking":
        # A signature makes thinking fit to be sent again; without one it is left out there.
        return {"type": "thinking", "thinking": part.text, "signature": ""}
    if part.call is not None:
        given = _input(part.text)
        return {"type": "tool_use", "id": part.call.id, "name": part.call.name, "input": given}
    return {"type": "text", "text": part.text}


def _input(arguments: str) -> Any:
    """A call's input; nothing where the answer was cut off in the midst of it."""
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return {}
