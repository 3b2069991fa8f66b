"""Keep a turn's messages as the CLI keeps them, to know what its process holds afterwards."""

from typing import Any

from claude_agent_sdk import (
    AssistantMessage,
    ResultMessage,
    StreamEvent,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)
from claude_agent_sdk import (
    Message as SDKMessage,
)

from .history import Held, Message
from .tools import ClientCalls
from .transport import events_of


class Recorder:
    """Follows one turn. Where the CLI did anything but ask the model and run tools, what it holds
    is in doubt.

    ``waiting`` are the client's calls that the model waits for, ``left_out`` those of the same
    message that are not made; ``refused`` are calls that cannot be made at all: beside other tools,
    or by a sub-agent. ``stopped`` says that the model's last message is complete, ``cut_off`` that
    its bound of tokens ended it: what the CLI does after that is not recorded. ``model`` is the
    full name of the model that answers.
    """

    def __init__(self, calls: ClientCalls | None = None) -> None:
        self.waiting: list[str] = []
        self.left_out: list[str] = []
        self.refused: list[str] = []
        self.stopped = False
        self.cut_off = False
        self.model = ""
        #: Tells which calls are the client's; a later turn may have other tools answered by it.
        self.calls = calls or ClientCalls()
        self._made: list[str] = []
        self._others = False
        self._held: list[Held] = []
        self._message_id: str | None = None
        self._doubtful = False

    def feed(self, message: SDKMessage) -> None:
        """Take note of a message of the turn."""
        if self.cut_off:
            return
        match message:
            case StreamEvent(parent_tool_use_id=None, event=event):
                for one in events_of(event):
                    self._stream(one)
            case AssistantMessage(parent_tool_use_id=None):
                self._assistant(message)
            case AssistantMessage(content=blocks):
                self.refused += [block.id for block in self._client_calls(blocks)]
            case UserMessage(parent_tool_use_id=None, content=list(blocks)):
                self._results(blocks, message.uuid)
            case UserMessage(parent_tool_use_id=None):
                self._doubtful = True  # the CLI wrote to the model by itself
            case SystemMessage(subtype="compact_boundary"):
                self._doubtful = True

    def held(self, result: ResultMessage) -> list[Held] | None:
        """The messages that the turn has added after its prompt; None where that is in doubt."""
        whole = not result.is_error and result.subtype == "success"
        # A structured answer is a call of the CLI's own tool, and ends with that tool's result.
        structured = result.structured_output is not None
        answered = bool(self._held) and (self._held[-1].message.role == "assistant" or structured)
        if (
            self._doubtful
            or self.cut_off
            or not whole
            or not answered
            or result.terminal_reason != "completed"
        ):
            return None
        return self._held

    def so_far(self) -> list[Held] | None:
        """The messages up to now, without the calls of the last that are left out, or that were
        cut off; None where that is in doubt.
        """
        if self._doubtful or not self._held or self._held[-1].message.role == "user":
            return None if self._doubtful else list(self._held)
        *earlier, last = self._held
        blocks = last.message.blocks
        if self.cut_off:
            # Where some are missing, none has a result.
            kept = [block for block in blocks if block.get("type") == "text"]
        else:
            kept = [block for block in blocks if block.get("id") not in self.left_out]
        return [*earlier, Held(Message("assistant", kept))] if kept else earlier

    def _stream(self, event: dict[str, Any]) -> None:
        match event:
            case {"type": "message_start"}:
                self.calls.begin()
                self.stopped = False
                self._made, self.left_out, self._others = [], [], False
            case {"type": "message_delta", "delta": {"stop_reason": str(reason)}}:
                # All blocks of the message are there.
                self.stopped = True
                self.cut_off = reason == "max_tokens"
                if self._others:
                    self.refused += [*self._made, *self.left_out]
                elif reason == "tool_use":
                    self.waiting = self._made

    def _assistant(self, message: AssistantMessage) -> None:
        if message.model == "<synthetic>" or message.error:
            self._doubtful = True
        self.model = message.model
        client = self._client_calls(message.content)
        for call in client:
            makes = self.calls.makes(call.id, call.name)
            (self._made if makes else self.left_out).append(call.id)
        self._others |= len(client) < sum(isinstance(b, ToolUseBlock) for b in message.content)
        blocks = [block for given in message.content if (block := _block(given)) is not None]
        last = self._held[-1] if self._held else None
        if last is None or last.message.role == "user":
            self._held.append(Held(Message("assistant", blocks)))
        elif message.message_id == self._message_id:
            # A message comes in one piece for each of its blocks.
            self._held[-1] = Held(Message("assistant", [*last.message.blocks, *blocks]))
        else:
            self._doubtful = True  # the model was asked again without anything new
        self._message_id = message.message_id

    def _client_calls(self, blocks: list[Any]) -> list[ToolUseBlock]:
        calls = [block for block in blocks if isinstance(block, ToolUseBlock)]
        return [call for call in calls if self.calls.is_client(call.name)]

    def _results(self, blocks: list[Any], uuid: str | None) -> None:
        results = [_result(block) for block in blocks if isinstance(block, ToolResultBlock)]
        if len(results) < len(blocks) or not self._held:
            self._doubtful = True
            return
        last = self._held[-1]
        if last.message.role == "user":
            self._held[-1] = Held(Message("user", [*last.message.blocks, *results]), uuid)
        else:
            self._held.append(Held(Message("user", results), uuid))


def _block(block: Any) -> dict[str, Any] | None:
    match block:
        case TextBlock(text=text):
            return {"type": "text", "text": text}
        case ToolUseBlock():
            return {"type": "tool_use", "id": block.id, "name": block.name, "input": block.input}
        case ThinkingBlock():
            # The API has no use for the thinking of earlier turns, and takes it only as it was.
            return None
    return {"type": "unknown"}


def _result(block: ToolResultBlock) -> dict[str, Any]:
    result = {"type": "tool_result", "tool_use_id": block.tool_use_id, "content": block.content}
    return {**result, "is_error": True} if block.is_error else result
