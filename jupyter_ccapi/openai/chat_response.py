"""A turn's events become a chat completion, or the chunks of its stream."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import uuid4

from jupyter_ccapi.claude import Event, TextDelta, ThinkingDelta, TurnEnd, TurnStarted, Usage

from .errors import APIError

#: The last event of every stream that did not fail.
DONE = b"data: [DONE]\n\n"
#: A comment; clients skip it, and proxies see that the connection lives.
KEEP_ALIVE = b": keep-alive\n\n"

# Made once: making it takes as long as encoding a delta.
_ENCODER = json.JSONEncoder(separators=(",", ":"))

# The Messages API's stop reasons in OpenAI's words.
_FINISH = {
    "max_tokens": "length",
    "refusal": "content_filter",
    "model_context_window_exceeded": "length",
}


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

    def encoded(self, events: Iterable[Event]) -> Iterator[bytes]:
        """The chunks of these events as server-sent events. Raises as ``chunks`` does."""
        for event in events:
            if isinstance(event, TextDelta) and self._said_role:
                # All but the text is the same in each.
                before, after = self._around_text = self._around_text or self._envelope()
                yield before + _ENCODER.encode(event.text).encode() + after
            else:
                yield from map(encode, self.chunks(event))

    def _envelope(self) -> tuple[bytes, bytes]:
        before, after = encode(self._delta({"content": "TEXT"})).rsplit(b'"TEXT"', 1)
        return before, after

    def chunks(self, event: Event) -> Iterator[dict[str, Any]]:
        """The chunks that an event makes: each delta becomes one, as it came from the model.

        Raises ``APIError`` when a turn ends with nothing to show.
        """
        match event:
            case TurnStarted(model=model):
                self._head["model"] = model
            case TextDelta(text=text):
                yield self._delta({"content": text})
            case ThinkingDelta(text=text):
                yield self._delta({"reasoning_content": text})
            case TurnEnd():
                yield self._delta({}, finish_reason(event))
                if self._include_usage:
                    yield {**self._head, "choices": [], "usage": usage(event.usage, event.cost_usd)}

    def _delta(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        if not self._said_role:
            self._said_role = True
            delta = {"role": "assistant", "content": "", **delta}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk: dict[str, Any] = {**self._head, "choices": [choice]}
        if self._include_usage:
            chunk["usage"] = None
        return chunk


def completion(events: Sequence[Event]) -> dict[str, Any]:
    """The whole answer of a request that does not stream, from all events of its turn.

    Raises ``APIError`` when there is none.
    """
    end = events[-1]
    assert isinstance(end, TurnEnd)
    message: dict[str, Any] = {"role": "assistant", "content": end.text, "refusal": None}
    if thinking := "".join(event.text for event in events if isinstance(event, ThinkingDelta)):
        message["reasoning_content"] = thinking
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(end)}
    return {
        **_head("chat.completion"),
        "model": end.model,
        "choices": [choice],
        "usage": usage(end.usage),
    }


def _head(kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": "",
    }


def finish_reason(end: TurnEnd) -> str:
    """OpenAI's word for how a turn ended. Raises ``APIError`` for an answer that has no text and
    no reason for that.
    """
    reason = _FINISH.get(end.stop_reason or "", "stop")
    if reason == "stop" and not end.text and end.reason == "completed":
        raise APIError(
            502, "The model ended its turn without an answer. Ask again.", code="empty_answer"
        )
    return reason


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
