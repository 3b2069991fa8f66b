"""Read the tool calls that the model writes: the client's, and a structured answer."""

from collections.abc import Iterable, Iterator
from typing import Any

from .events import AnswerDiscarded, Event, TextDelta, ToolCall, ToolCallStarted, ToolInputDelta
from .history import STRUCTURED
from .tools import ClientCalls, plain_name


class ToolStream:
    """Follows the tool calls of one turn, from the stream events and the whole calls.

    ``answer`` is the JSON text of the structured answer; with ``schema`` there is one. With
    ``mixes`` the model may call other tools beside the client's, in one message: then that message
    is told of when it is whole, since calls beside others are not made. ``waits`` says that the
    model waits for the client; ``waited_for`` are the calls that it waited for when this turn
    began.
    """

    def __init__(
        self,
        calls: ClientCalls,
        *,
        schema: bool = False,
        mixes: bool = False,
        waited_for: Iterable[str] = (),
    ) -> None:
        self.answer = ""
        self.waits = False
        self._calls = calls
        self._schema = schema
        self._mixes = mixes
        self._names: dict[str, str] = {}
        self._blocks: dict[int, str] = {}
        self._others = False
        self._kept_back: list[Event] = []
        self._waited_for = frozenset(waited_for)

    def feed(self, event: dict[str, Any]) -> Iterator[Event]:
        """Yield what a stream event of the model's means."""
        match event:
            case {"type": "message_start"}:
                self._calls.begin()
                self._blocks.clear()
                self._kept_back.clear()
                self._others = self.waits = False
            case {"type": "content_block_start", "content_block": {"type": "tool_use"} as block}:
                self._blocks[event.get("index", 0)] = call = str(block.get("id"))
                yield from self._begin(call, str(block.get("name")))
            case {"type": "content_block_delta", "delta": {"partial_json": str(text)}} if text:
                yield from self._piece(self._blocks.get(event.get("index", 0), ""), text)
            case {"type": "message_delta", "delta": {"stop_reason": str(reason)}}:
                yield from self._complete(reason)

    def whole(self, call: str, name: str, given: dict[str, Any]) -> Iterator[Event]:
        """Yield what a whole call means."""
        if call not in self._names:
            yield from self._begin(call, name)
        if self._is_answer(name):
            if not self.answer:
                yield from self._piece(call, "{}")
        elif not self._calls.is_client(name):
            yield ToolCall(call, plain_name(name) or name, given)
        elif self._calls.makes(call, name):
            yield from self._tell(ToolCall(call, plain_name(name) or name, given, client=True))

    def result(self, call: str, *, failed: bool) -> Iterator[Event]:
        """Yield what it means that a call that nobody else is told of has its result."""
        if failed and self._is_answer(self._names.get(call, "")):
            yield from self._discard()

    def concerns(self, call: str) -> bool:
        """Whether this is a call of the client's, or the structured answer."""
        name = self._names.get(call, "")
        mine = self._is_answer(name) or self._calls.is_client(name)
        return mine or call in self._waited_for

    def _is_answer(self, name: str) -> bool:
        return self._schema and name == STRUCTURED

    def _begin(self, call: str, name: str) -> Iterator[Event]:
        self._names[call] = name
        client = self._calls.is_client(name)
        self._others |= not client
        if self._is_answer(name):
            yield from self._discard()
        elif client and self._calls.makes(call, name):
            yield from self._tell(ToolCallStarted(call, plain_name(name) or name))

    def _piece(self, call: str, text: str) -> Iterator[Event]:
        name = self._names.get(call, "")
        if self._is_answer(name):
            self.answer += text
            yield TextDelta(text)
        elif self._calls.is_client(name) and self._calls.makes(call, name):
            yield from self._tell(ToolInputDelta(call, text))

    def _complete(self, reason: str) -> Iterator[Event]:
        """All calls of a message are there."""
        made = any(self._calls.is_client(self._names[call]) for call in self._blocks.values())
        self.waits = made and not self._others and reason == "tool_use"
        if self.waits:
            yield from self._kept_back
        self._kept_back.clear()

    def _tell(self, event: Event) -> Iterator[Event]:
        if self._mixes:
            self._kept_back.append(event)
        else:
            yield event

    def _discard(self) -> Iterator[Event]:
        if self.answer:
            self.answer = ""
            yield AnswerDiscarded()
