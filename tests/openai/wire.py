"""Turns as the core tells them, and the real clients' view of the bytes that become of them."""

import json
from collections.abc import Iterable
from typing import Any

import anthropic
import httpx2
import openai

from jupyter_ccapi.claude import Event, TurnEnd, TurnStarted, Usage
from jupyter_ccapi.openai.answer import Answer
from jupyter_ccapi.openai.chat_response import ChatStream
from jupyter_ccapi.openai.forced import Forced
from jupyter_ccapi.openai.messages_response import MessagesStream
from jupyter_ccapi.openai.request import Request
from jupyter_ccapi.openai.responses_request import ResponsesRequest
from jupyter_ccapi.openai.responses_response import ResponsesStream

USAGE = Usage(
    input_tokens=10,
    output_tokens=7,
    cache_read_tokens=100,
    cache_creation_tokens=5,
    thinking_tokens=2,
)
STARTED = TurnStarted("conversation", "claude-x")
HELLO = [{"role": "user", "content": "Hello"}]


def turn_end(stop_reason: str | None = "end_turn", **changed: Any) -> TurnEnd:
    """A turn that ended well, or by calling the client's tools."""
    reason: Any = "tool_calls" if stop_reason == "tool_use" else "completed"
    told = {"reason": reason, "text": "", "stop_reason": stop_reason, "model": "claude-x"}
    return TurnEnd(**{**told, "usage": USAGE, "cost_usd": 0.25, "seconds": 1.0, **changed})


def answered(request: Request, events: Iterable[Event]) -> Answer:
    """What a turn's events answer."""
    answer = Answer(request, Forced.by(request))
    for _ in answer.feed(events):
        pass
    return answer


def chat_stream(request: Request, events: Iterable[Event]) -> bytes:
    """The whole stream of a chat completion."""
    answer = Answer(request, Forced.by(request))
    stream = ChatStream(include_usage=True)
    told = b"".join(stream.encoded(answer.feed(events)))
    return stream.opening() + told + stream.closing()


def responses_stream(asked: ResponsesRequest, events: Iterable[Event]) -> bytes:
    """The whole stream of a response."""
    answer = Answer(asked.request, Forced.by(asked.request))
    stream = ResponsesStream(asked)
    told = b"".join(stream.encoded(answer.feed(events)))
    return stream.opening() + told + stream.closing()


def messages_stream(request: Request, events: Iterable[Event]) -> bytes:
    """The whole stream of a message."""
    answer = Answer(request, Forced.by(request))
    stream = MessagesStream()
    told = b"".join(stream.encoded(answer.feed(events)))
    return stream.opening() + told + stream.closing()


def events_of(stream: bytes) -> list[dict[str, Any]]:
    """The data of a stream's events; each event's name is the type that its data tells."""
    told = []
    for block in stream.decode().removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        told.append(event)
    return told


def http(sent: bytes | dict[str, Any]) -> httpx2.Client:
    """A server that answers with a stream, or with JSON."""
    kind = "text/event-stream" if isinstance(sent, bytes) else "application/json"
    content = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    answer = httpx2.Response(200, content=content, headers={"content-type": kind})
    return httpx2.Client(transport=httpx2.MockTransport(lambda _: answer))


def openai_client(sent: bytes | dict[str, Any]) -> openai.OpenAI:
    """OpenAI's own client, which checks all that it is sent against its types."""
    return openai.OpenAI(
        api_key="key",
        base_url="http://127.0.0.1/v1",
        http_client=http(sent),
        max_retries=0,
        _strict_response_validation=True,
    )


def anthropic_client(sent: bytes | dict[str, Any]) -> anthropic.Anthropic:
    """Anthropic's own client, which checks all that it is sent against its types."""
    return anthropic.Anthropic(
        api_key="key",
        base_url="http://127.0.0.1",
        http_client=http(sent),
        max_retries=0,
        _strict_response_validation=True,
    )
