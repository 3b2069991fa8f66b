"""The pieces of an answer become a response object, or the events of its stream."""

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import uuid4

from jupyter_ccapi.claude import Usage

from .answer import Answer, CallBegun, Ended, Piece, Started
from .errors import APIError
from .responses_request import ResponsesRequest
from .sequence import Part, PartSequence, Step

_ENCODER = json.JSONEncoder(separators=(",", ":"))
# Why a response is incomplete, for why the answer ended.
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
# OpenAI's codes of a response's error are a closed list; clients that validate know no others.
_ERROR_CODES = {429: "rate_limit_exceeded", 400: "invalid_prompt", 413: "invalid_prompt"}


def new_response_id() -> str:
    """An id for a response."""
    return f"resp_{uuid4().hex}"


class ResponsesStream:
    """The events of one response. ``response`` is the response object as far as it has come: when
    the stream has ended it is what is kept of it.
    """

    def __init__(
        self,
        asked: ResponsesRequest,
        *,
        response_id: str | None = None,
        conversation_id: str | None = None,
    ) -> None:
        self.response = _empty(asked, response_id, conversation_id)
        self._sequence = PartSequence()
        self._number = 0
        self._begun = False
        self._ids: dict[Part, str] = {}

    def opening(self) -> bytes:
        """Nothing: the first event names the model, which says itself who it is."""
        return b""

    def encoded(self, pieces: Iterable[Piece]) -> Iterator[bytes]:
        """The server-sent events of these pieces."""
        for piece in pieces:
            if isinstance(piece, Started):
                # Until the model says something, a failure can still be an HTTP status.
                self.response["model"] = piece.model
                continue
            yield from self._begin()
            for step in self._sequence.feed(piece):
                yield from self._step(step)
            if isinstance(piece, Ended):
                _finish(self.response, piece)
                yield self._event(f"response.{self.response['status']}", response=self.response)

    def closing(self) -> bytes:
        """Nothing: the last event says that it is the last."""
        return b""

    def failure(self, error: APIError, request_id: str) -> bytes:
        """The last events of a stream that failed.

        OpenAI's libraries raise for the first, which has OpenAI's two shapes of it in one; those
        that read events by hand wait for the second.
        """
        told = error.body(request_id)["error"]
        flat = {"code": error.code, "message": error.message, "param": error.param}
        self.response.update(status="failed", error=_failed(error))
        return b"".join(
            [
                *self._begin(),
                self._event("error", **flat, error=told),
                self._event("response.failed", response=self.response),
            ]
        )

    def _begin(self) -> Iterator[bytes]:
        if not self._begun:
            self._begun = True
            response = {**self.response, "status": "in_progress", "error": None}
            yield self._event("response.created", response=response)
            yield self._event("response.in_progress", response=response)

    def _event(self, kind: str, **fields: Any) -> bytes:
        event = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return f"event: {kind}\ndata: {_ENCODER.encode(event)}\n\n".encode()

    def _step(self, step: Step) -> Iterator[bytes]:
        part = step.part
        if step.kind == "open":
            item = _item(part, status="in_progress")
            self._ids[part] = item["id"]
            yield self._event("response.output_item.added", output_index=part.index, item=item)
        place = {"item_id": self._ids[part], "output_index": part.index}
        match part.kind:
            case "text":
                yield from self._text(step, {**place, "content_index": 0})
            case "thinking":
                yield from self._thinking(step, {**place, "summary_index": 0})
            case "call" if part.call is not None:
                yield from self._call(step, part.call, place)
        if step.kind == "close":
            item = _item(part, id=self._ids[part], status="incomplete" if part.cut else "completed")
            self.response["output"].append(item)
            yield self._event("response.output_item.done", output_index=part.index, item=item)

    def _text(self, step: Step, place: dict[str, Any]) -> Iterator[bytes]:
        match step.kind:
            case "open":
                yield self._event("response.content_part.added", **place, part=_output_text(""))
            case "grow":
                yield self._event(
                    "response.output_text.delta", **place, delta=step.text, logprobs=[]
                )
            case "close":
                text = step.part.text
                yield self._event("response.output_text.done", **place, text=text, logprobs=[])
                yield self._event("response.content_part.done", **place, part=_output_text(text))

    def _thinking(self, step: Step, place: dict[str, Any]) -> Iterator[bytes]:
        event = "response.reasoning_summary"
        match step.kind:
            case "open":
                yield self._event(f"{event}_part.added", **place, part=_summary(""))
            case "grow":
                yield self._event(f"{event}_text.delta", **place, delta=step.text)
            case "close":
                text = step.part.text
                yield self._event(f"{event}_text.done", **place, text=text)
                yield self._event(f"{event}_part.done", **place, part=_summary(text))

    def _call(self, step: Step, call: CallBegun, place: dict[str, Any]) -> Iterator[bytes]:
        event = "response.function_call_arguments"
        match step.kind:
            case "grow":
                yield self._event(f"{event}.delta", **place, delta=step.text)
            case "close":
                arguments = step.part.text
                yield self._event(f"{event}.done", **place, name=call.name, arguments=arguments)


def response_object(
    answer: Answer,
    asked: ResponsesRequest,
    *,
    response_id: str | None = None,
    conversation_id: str | None = None,
) -> dict[str, Any]:
    """The whole response of a request that does not stream, when its answer has ended."""
    ended = answer.ended
    assert ended is not None, "a response is made of a whole answer"
    response = _empty(asked, response_id, conversation_id)
    cut = ended.finish == "length"
    parts = []
    if answer.thinking:
        parts.append(Part(0, "thinking", text=answer.thinking))
    if answer.text:
        parts.append(Part(0, "text", text=answer.text, cut=cut and not answer.calls))
    for index, call in enumerate(answer.calls):
        last = index == len(answer.calls) - 1
        begun = CallBegun(index, call.id, call.name)
        parts.append(Part(0, "call", begun, call.arguments, cut=cut and last))
    response["output"] = [
        _item(part, status="incomplete" if part.cut else "completed") for part in parts
    ]
    _finish(response, ended)
    return response


def _empty(
    asked: ResponsesRequest, response_id: str | None, conversation_id: str | None
) -> dict[str, Any]:
    """A response that nothing has been said in yet."""
    request = asked.request
    known = conversation_id or request.conversation
    response: dict[str, Any] = {
        "id": response_id or new_response_id(),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "max_tool_calls": None,
        "model": request.model or "",
        "output": [],
        "service_tier": "default",
        "top_logprobs": 0,
        "usage": None,
        **asked.echo,
        "conversation": {"id": known} if known and request.conversation else None,
    }
    if known:
        response["conversation_id"] = known
    return response


def _finish(response: dict[str, Any], ended: Ended) -> None:
    """Say how it ended."""
    reason = _INCOMPLETE.get(ended.finish)
    response["model"] = ended.model or response["model"]
    response["usage"] = _usage(ended.usage, ended.cost_usd)
    if reason is None:
        response.update(status="completed", completed_at=int(time.time()))
    else:
        response.update(status="incomplete", incomplete_details={"reason": reason})
    if ended.denied:
        response["ccapi"] = {"permission_denials": list(ended.denied)}


def _failed(error: APIError) -> dict[str, Any]:
    told = {
        "code": _ERROR_CODES.get(error.status, "server_error"),
        "message": error.message,
        "param": error.param,
        "type": error.type,
    }
    return {**told, "ccapi": {"code": error.code}} if error.code else told


def _item(part: Part, *, status: str, id: str | None = None) -> dict[str, Any]:
    """A part as an output item; one that is still in progress has nothing in it."""
    begun = status == "in_progress"
    if part.kind == "thinking":
        summary = [] if begun else [_summary(part.text)]
        return {"id": id or f"rs_{uuid4().hex}", "type": "reasoning", "summary": summary}
    if part.call is not None:
        return {
            "id": id or f"fc_{uuid4().hex}",
            "type": "function_call",
            "status": status,
            "call_id": part.call.id,
            "name": part.call.name,
            "arguments": "" if begun else part.text,
        }
    return {
        "id": id or f"msg_{uuid4().hex}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [] if begun else [_output_text(part.text)],
    }


def _output_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _summary(text: str) -> dict[str, Any]:
    return {"type": "summary_text", "text": text}


def _usage(spent: Usage, cost_usd: float | None) -> dict[str, Any]:
    """Tokens as OpenAI counts them: cached ones are part of the input. ``cost_usd`` is ours."""
    counted = {
        "input_tokens": spent.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": spent.cache_read_tokens,
            "cache_write_tokens": spent.cache_creation_tokens,
        },
        "output_tokens": spent.output_tokens,
        "output_tokens_details": {"reasoning_tokens": spent.thinking_tokens},
        "total_tokens": spent.total_tokens,
    }
    return counted if cost_usd is None else {**counted, "cost_usd": round(cost_usd, 8)}
