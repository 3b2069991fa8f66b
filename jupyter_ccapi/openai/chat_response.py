"""The pieces of an answer become a chat completion, or the chunks of its stream."""

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import uuid4

from jupyter_ccapi.claude import Usage

from .answer import (
    Answer,
    CallArguments,
    CallBegun,
    Ended,
    Piece,
    Said,
    Started,
    Thought,
)
from .errors import APIError

#: The last event of every stream that did not fail.
DONE = b"data: [DONE]\n\n"

# Made once: making it takes as long as encoding a delta.
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def encode(chunk: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + _ENCODER.encode(chunk).encode() + b"\n\n"


class ChatStream:
    """The chunks of one answer: its id and time are made once, and every chunk bears them."""

    def __init__(self, *, include_usage: bool = False) -> None:
        self._include_usage = include_usage
        self._head = _head("chat.completion.chunk")
        self._said_role = False
        self._around_text: tuple[bytes, bytes] | None = None

    def opening(self) -> bytes:
        """Nothing: the first chunk is the model's."""
        return b""

    def encoded(self, pieces: Iterable[Piece]) -> Iterator[bytes]:
        """The chunks of these pieces as server-sent events."""
        for piece in pieces:
            if isinstance(piece, Said) and self._said_role:
                # All but the text is the same in each.
                before, after = self._around_text = self._around_text or self._envelope()
                yield before + _ENCODER.encode(piece.text).encode() + after
            else:
                yield from map(encode, self._chunks(piece))

    def closing(self) -> bytes:
        """The end of the stream."""
        return DONE

    def failure(self, error: APIError, request_id: str) -> bytes:
        """The last event of a stream that failed."""
        return encode(error.body(request_id))

    def _envelope(self) -> tuple[bytes, bytes]:
        before, after = encode(self._delta({"content": "TEXT"})).rsplit(b'"TEXT"', 1)
        return before, after

    def _chunks(self, piece: Piece) -> Iterator[dict[str, Any]]:
        """The chunks that a piece makes: each delta becomes one, as it came from the model."""
        match piece:
            case Started(model=model):
                self._head["model"] = model
            case Said(text=text):
                yield self._delta({"content": text})
            case Thought(text=text):
                yield self._delta({"reasoning_content": text})
            case CallBegun(index=index, id=id, name=name):
                function = {"name": name, "arguments": ""}
                begun = {"index": index, "id": id, "type": "function", "function": function}
                yield self._delta({"tool_calls": [begun]}, content=None)
            case CallArguments(index=index, fragment=fragment):
                call = {"index": index, "function": {"arguments": fragment}}
                yield self._delta({"tool_calls": [call]})
            case Ended():
                yield self._delta({}, piece.finish)
                if self._include_usage:
                    spent = usage(piece.usage, piece.cost_usd)
                    yield {**self._head, "choices": [], "usage": spent}

    def _delta(
        self, delta: dict[str, Any], finish: str | None = None, content: str | None = ""
    ) -> dict[str, Any]:
        if not self._said_role:
            self._said_role = True
            delta = {"role": "assistant", "content": content, **delta}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk: dict[str, Any] = {**self._head, "choices": [choice]}
        if self._include_usage:
            chunk["usage"] = None
        return chunk


def completion(answer: Answer) -> dict[str, Any]:
    """The whole answer of a request that does not stream, when it has ended."""
    ended = answer.ended
    assert ended is not None, "a completion is made of a whole answer"
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments or "{}"},
        }
        for call in answer.calls
    ]
    # A call without a word beside it has no content, not an empty one.
    content = answer.text or (None if calls else "")
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if calls:
        message["tool_calls"] = calls
    if answer.thinking:
        message["reasoning_content"] = answer.thinking
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": ended.finish}
    made = {
        **_head("chat.completion"),
        "model": ended.model,
        "choices": [choice],
        "usage": usage(ended.usage),
    }
    if ended.denied:
        made["ccapi"] = {"permission_denials": list(ended.denied)}
    return made


def _head(kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": "",
    }


def usage(spent: Usage, cost_usd: float | None = None) -> dict[str, Any]:
    """Tokens as OpenAI counts them: cached ones are part of the prompt. ``cost_usd`` is ours,
    beside them.
    """
    counted: dict[str, Any] = {
        "prompt_tokens": spent.prompt_tokens,
        "completion_tokens": spent.output_tokens,
        "total_tokens": spent.total_tokens,
        "prompt_tokens_details": {"cached_tokens": spent.cache_read_tokens},
        "completion_tokens_details": {"reasoning_tokens": spent.thinking_tokens},
    }
    if cost_usd is not None:
        counted["cost_usd"] = round(cost_usd, 8)
    return counted
