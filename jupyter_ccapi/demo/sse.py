"""A `Reply` as Anthropic puts it on the wire: a whole message, or the events of a stream.

Shapes from https://docs.anthropic.com/en/api/messages and …/messages-streaming.
"""

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jupyter_ccapi.demo import reading
from jupyter_ccapi.demo.replies import Reply

FRAGMENT = 24
"""Characters of a tool call's JSON in one `input_json_delta`."""

IMAGE_CHARACTERS = 6000
"""What an image counts for, in characters: 1,500 tokens, whatever its size."""


class Event(NamedTuple):
    """One event of the stream; `paced` ones are followed by the delay between words."""

    data: dict[str, Any]
    paced: bool = False

    def encode(self) -> str:
        """Return the event as text of a server-sent event stream."""
        return f"event: {self.data['type']}\ndata: {json.dumps(self.data)}\n\n"


def message(reply: Reply, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole message that answers a request body with a reply."""
    content: list[dict[str, Any]] = []
    if reply.thinking:
        content.append(
            {"type": "thinking", "thinking": reply.thinking, "signature": "b2ZmbGluZSBkZW1v"}
        )
    if reply.text:
        content.append({"type": "text", "text": reply.text})
    for name, arguments in reply.tools:
        content.append(
            {
                "type": "tool_use",
                "id": f"toolu_{uuid.uuid4().hex[:24]}",
                "name": name,
                "input": dict(arguments),
            }
        )
    return {
        "id": f"msg_{uuid.uuid4().hex[:24]}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", ""),
        "content": content,
        "stop_reason": reply.stop_reason or ("tool_use" if reply.tools else "end_turn"),
        "stop_sequence": None,
        "usage": usage(reply, body, content),
    }


def stream(whole: Mapping[str, Any]) -> Iterator[Event]:
    """Yield the events of a stream that says the whole message word by word."""
    started = dict(whole["usage"], output_tokens=1)
    yield Event(
        {
            "type": "message_start",
            "message": {**whole, "content": [], "stop_reason": None, "usage": started},
        }
    )
    for index, block in enumerate(whole["content"]):
        yield Event(
            {"type": "content_block_start", "index": index, "content_block": _opening(block)}
        )
        if index == 0:
            yield Event({"type": "ping"})
        for delta in _deltas(block):
            paced = delta["type"] != "signature_delta"
            yield Event({"type": "content_block_delta", "index": index, "delta": delta}, paced)
        yield Event({"type": "content_block_stop", "index": index})
    yield Event(
        {
            "type": "message_delta",
            "delta": {"stop_reason": whole["stop_reason"], "stop_sequence": None},
            "usage": whole["usage"],
        }
    )
    yield Event({"type": "message_stop"})


def usage(reply: Reply, body: Mapping[str, Any], content: list[dict[str, Any]]) -> dict[str, int]:
    """Count tokens, about four characters each, the same for the same texts.

    What the model has seen before counts as read from the cache: system prompt, tools and every
    entry up to its own last message. In a conversation without one that asks for caching, system
    prompt and tools count as written to it.
    """
    entries = reading.entries(body)
    seen = max((n for n, e in enumerate(entries, 1) if e.get("role") == "assistant"), default=0)
    fixed = _characters([body.get("system"), body.get("tools")])
    fresh = _characters(entries[seen:])
    read = created = 0
    if seen:
        read = fixed + _characters(entries[:seen])
    elif '"cache_control"' in json.dumps(body):
        created = fixed
    else:
        fresh += fixed
    counted = {
        "input_tokens": _tokens(fresh),
        "cache_creation_input_tokens": _tokens(created),
        "cache_read_input_tokens": _tokens(read),
        "output_tokens": max(1, _tokens(_characters(content))),
    }
    overrides = {name: getattr(reply, name) for name in counted}
    return counted | {name: value for name, value in overrides.items() if value is not None}


def count_tokens(body: Mapping[str, Any]) -> int:
    """Return the tokens of a whole request."""
    return _tokens(_characters([body.get("system"), body.get("tools"), reading.entries(body)]))


def _opening(block: Mapping[str, Any]) -> dict[str, Any]:
    empty: dict[str, dict[str, Any]] = {
        "thinking": {"thinking": "", "signature": ""},
        "text": {"text": ""},
        "tool_use": {"input": {}},
    }
    return {**block, **empty[block["type"]]}


def _deltas(block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if block["type"] == "thinking":
        for word in words(block["thinking"]):
            yield {"type": "thinking_delta", "thinking": word}
        yield {"type": "signature_delta", "signature": block["signature"]}
    elif block["type"] == "text":
        for word in words(block["text"]):
            yield {"type": "text_delta", "text": word}
    else:
        text = json.dumps(block["input"])
        for start in range(0, len(text), FRAGMENT):
            yield {"type": "input_json_delta", "partial_json": text[start : start + FRAGMENT]}


def words(text: str) -> list[str]:
    """Split a text into words that carry the white space behind them, losing nothing."""
    return re.findall(r"\s*\S+\s*|\s+", text)


def _tokens(characters: int) -> int:
    return (characters + 3) // 4


def _characters(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        if value.get("type") == "image":
            return IMAGE_CHARACTERS
        return sum(len(key) + _characters(item) for key, item in value.items())
    if isinstance(value, list):
        return sum(map(_characters, value))
    return 0 if value is None else len(str(value))
