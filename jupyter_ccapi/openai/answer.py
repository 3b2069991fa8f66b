"""A turn's events become the pieces of an answer: what the three APIs have in common.

Each API only says a piece in its own words. Here is decided what is text and what is a call, where
a stop sequence ends the answer, and what of Claude Code's own doings a client is told.
"""

import json
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from uuid import uuid4

from jupyter_ccapi.claude import (
    AnswerDiscarded,
    Event,
    Message,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolCallStarted,
    ToolInputDelta,
    TurnEnd,
    TurnStarted,
    Usage,
    client_tool,
    plain_name,
)

from .errors import APIError
from .forced import Forced
from .request import Request
from .stops import StopCutter

#: Why an answer ended, in OpenAI's words.
Finish = Literal["stop", "length", "tool_calls", "content_filter"]

# The Messages API's stop reasons in OpenAI's words.
_FINISH: dict[str, Finish] = {
    "max_tokens": "length",
    "refusal": "content_filter",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}
# Claude Code's tools that change nothing: a turn that ran only these may be tried again.
_HARMLESS = {
    "Glob", "Grep", "LS", "NotebookRead", "Read", "TodoWrite", "ToolSearch", "WebFetch", "WebSearch"
}  # fmt: skip
# What says best, in one of these fields, what a tool of Claude Code's is about.
_TELLING = (
    "file_path", "notebook_path", "path", "pattern", "command", "url", "query", "description"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Started:
    """The model, by its full name, has begun."""

    model: str


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of thinking, or what Claude Code does on the way to its answer."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegun:
    """A call of a client's tool begins; ``index`` counts the calls of this answer from 0."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """A fragment of the JSON text of a call's arguments."""

    index: int
    fragment: str


@dataclass(frozen=True, slots=True)
class CallDone:
    """A call is complete."""

    index: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The answer is complete. ``cost_usd`` is None where Claude Code says it only when it goes on
    (after the client's tools). ``stop_sequence`` is the one that ended it, ``denied`` are the tools
    of Claude Code's that would have needed a person's permission.
    """

    finish: Finish
    usage: Usage
    cost_usd: float | None
    model: str
    stop_sequence: str | None = None
    denied: tuple[str, ...] = ()


Piece = Started | Said | Thought | CallBegun | CallArguments | CallDone | Ended


@dataclass(slots=True)
class Call:
    """A call of a client's tool; ``arguments`` is JSON text."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class _Collected:
    text: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)


class Answer:
    """Reads the events of one turn, and knows at the end what the answer is.

    ``satisfied`` says that nothing more is wanted of the turn, so that it can be interrupted.
    ``has_acted`` says that Claude Code has used a tool which may have changed something.
    """

    def __init__(self, request: Request, forced: Forced | None = None) -> None:
        self.model = ""
        self.ended: Ended | None = None
        self.has_acted = False
        self._forced = forced
        self._streams = request.stream
        self._structured = request.schema is not None or forced is not None
        self._cutter = StopCutter(() if self._structured else request.stop)
        self._collected = _Collected()
        self._wire_ids: dict[str, int] = {}
        self._note = ""

    @property
    def text(self) -> str:
        """The answer's text."""
        return "".join(self._collected.text)

    @property
    def thinking(self) -> str:
        """The thinking before and beside it."""
        return "".join(self._collected.thinking)

    @property
    def calls(self) -> list[Call]:
        """The calls of the client's tools."""
        return self._collected.calls

    @property
    def satisfied(self) -> bool:
        """Whether a stop sequence was reached."""
        return self._cutter.found is not None

    def feed(self, events: Iterable[Event]) -> Iterator[Piece]:
        """The pieces of these events. Raises ``APIError`` for an answer that has nothing in it, and
        in a stream for one that begins again after something was said.
        """
        for event in events:
            for piece in self._pieces(event):
                self._collect(piece)
                yield piece

    def message(self, added: list[Message] | None) -> Message:
        """What the conversation holds of the answer: the last message of ``added``, which the turn
        says it added, as the client knows it.
        """
        blocks: list[dict[str, Any]] = []
        if added and added[-1].role == "assistant" and not self._forced and not self.satisfied:
            last = added[-1]
            # What the client has read is what it sends again.
            noted = [{"type": "text", "text": self._note}] if self._note else []
            return Message("assistant", [*last.blocks, *noted]) if noted else last
        if self.text:
            blocks.append({"type": "text", "text": self.text})
        for call in self.calls:
            name = client_tool(call.name)
            given = _object(call.arguments or "{}")
            if given is not None:
                blocks.append({"type": "tool_use", "id": call.id, "name": name, "input": given})
        return Message("assistant", blocks)

    def _pieces(self, event: Event) -> Iterator[Piece]:
        match event:
            case TurnStarted(model=model):
                self.model = model
                yield Started(model)
            case TextDelta(text=text):
                yield from self._said(text)
            # What begins after a stop sequence is no part of the answer.
            case ThinkingDelta(text=text) if not self.satisfied:
                yield Thought(text)
            case ToolCallStarted(id=id, name=name) if not self.satisfied:
                index = self._wire_ids[id] = len(self._wire_ids)
                yield CallBegun(index, id, name)
            case ToolInputDelta(id=id, fragment=fragment) if fragment and id in self._wire_ids:
                yield CallArguments(self._wire_ids[id], fragment)
            case ToolCall(client=True):
                yield from self._called(event)
            case ToolCall(name=name) if plain_name(name) is None:
                self.has_acted = self.has_acted or event.name not in _HARMLESS
                if not self.satisfied:
                    yield Thought(_told(event, first=not self._collected.thinking))
            case AnswerDiscarded():
                self._discard()
            case TurnEnd():
                yield from self._end(event)

    def _said(self, text: str) -> Iterator[Piece]:
        if self._forced is None:
            if text := self._cutter.feed(text):
                yield Said(text)
        elif self._forced.tool is not None:
            # The answer is the call's arguments, letter by letter.
            if not self._wire_ids:
                yield self._begin_forced(self._forced.tool)
            yield CallArguments(0, text)
        else:
            self._collected.text.append(text)

    def _begin_forced(self, name: str) -> CallBegun:
        id = f"call_{uuid4().hex}"
        index = self._wire_ids[id] = len(self._wire_ids)
        return CallBegun(index, id, name)

    def _called(self, call: ToolCall) -> Iterator[Piece]:
        if call.id not in self._wire_ids:
            if self.satisfied:
                return
            # The whole message came at once, without a stream.
            index = self._wire_ids[call.id] = len(self._wire_ids)
            yield CallBegun(index, call.id, call.name)
        index = self._wire_ids[call.id]
        if not self.calls[index].arguments:
            yield CallArguments(index, json.dumps(call.input))
        yield CallDone(index)

    def _discard(self) -> None:
        told = self._forced is None or self._forced.tool is not None
        if self._streams and told and (self._collected.text or self._collected.calls):
            raise APIError(
                502,
                "The model's answer did not fulfil the schema, and a part of it had been streamed "
                "already. Ask again, or ask without a stream: then only a valid answer is sent.",
                code="schema_not_met",
            )
        self._collected = replace(self._collected, text=[], calls=[])
        self._wire_ids.clear()

    def _end(self, end: TurnEnd) -> Iterator[Piece]:
        if rest := self._cutter.rest():
            yield Said(rest)
        finish = _FINISH.get(end.stop_reason or "", "stop")
        if self._forced is not None:
            whole = yield from self._end_forced(self._forced, finish, end)
            finish = "tool_calls" if whole else finish
        elif end.reason != "tool_calls" and finish == "tool_calls":
            # A structured answer is a call, for Claude Code.
            finish = "stop"
        denied = tuple(str(one.get("tool_name")) for one in end.permission_denials)
        if denied and not self._structured and not self.satisfied:
            self._note = _note(denied)
            yield Said(f"\n\n{self._note}" if self.text else self._note)
        nothing = not self.text and not self.calls and not self.satisfied
        if nothing and finish == "stop" and end.reason == "completed":
            raise APIError(
                502, "The model ended its turn without an answer. Ask again.", code="empty_answer"
            )
        if end.reason in ("max_budget", "max_turns"):
            if nothing:
                said = "The request's bound was reached before there was an answer: ask for less, "
                said += "or raise ccapi.max_budget_usd."
                raise APIError(402, said, code="budget_exceeded", should_retry=False)
            finish = "length"
        self.model = end.model or self.model
        self.ended = Ended(
            "stop" if self.satisfied else finish,
            end.usage,
            # Nothing, for tokens that were used, is what nobody knows yet.
            end.cost_usd if end.cost_usd or not end.usage.total_tokens else None,
            self.model,
            self._cutter.found,
            denied,
        )
        yield self.ended

    def _end_forced(
        self, forced: Forced, finish: Finish, end: TurnEnd
    ) -> Generator[Piece, None, bool]:
        """The calls that the answer is; false where it broke off before it was any."""
        answer, self._collected.text = self.text, []
        if forced.tool is not None:
            answer = self.calls[0].arguments if self.calls else ""
        if not answer:
            return False
        if _object(answer) is None:
            if finish == "stop" and end.reason == "completed":
                raise APIError(
                    502,
                    "The model's call of a tool is not valid. Ask again.",
                    code="schema_not_met",
                )
            return False
        if forced.tool is not None:
            yield CallDone(0)
            return True
        for name, arguments in forced.calls(answer):
            begun = self._begin_forced(name)
            yield begun
            yield CallArguments(begun.index, arguments)
            yield CallDone(begun.index)
        return True

    def _collect(self, piece: Piece) -> None:
        match piece:
            case Said(text=text):
                self._collected.text.append(text)
            case Thought(text=text):
                self._collected.thinking.append(text)
            case CallBegun(id=id, name=name):
                self._collected.calls.append(Call(id, name))
            case CallArguments(index=index, fragment=fragment):
                self._collected.calls[index].arguments += fragment


def _object(text: str) -> dict[str, Any] | None:
    """The object that is JSON text; None for text that broke off."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return given if isinstance(given, dict) else None


def _told(call: ToolCall, *, first: bool) -> str:
    """A line about what Claude Code does."""
    about = next((call.input[key] for key in _TELLING if call.input.get(key)), None)
    line = f"{call.name}: {about}" if about is not None else call.name
    line = " ".join(line.split())
    if len(line) > 200:
        line = line[:197] + "..."
    return f"[{line}]\n" if first else f"\n[{line}]\n"


def _note(denied: tuple[str, ...]) -> str:
    """What an answer says of tools that nobody could be asked about."""
    names = ", ".join(dict.fromkeys(denied))
    return f"(Not done, since nobody can be asked here for the permission it needs: {names}.)"
