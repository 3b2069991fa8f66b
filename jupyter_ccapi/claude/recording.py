"""Keep a turn's messages as the CLI keeps them, to know what its process holds afterwards."""

from typing import Any

from claude_agent_sdk import (
    AssistantMessage,
    ResultMessage,
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


class Recorder:
    """Follows one turn. Where the CLI did anything but ask the model and run tools, what it holds
    is in doubt.
    """

    def __init__(self) -> None:
        self._held: list[Held] = []
        self._message_id: str | None = None
        self._doubtful = False

    def feed(self, message: SDKMessage) -> None:
        """Take note of a message of the turn."""
        match message:
            case AssistantMessage(parent_tool_use_id=None):
                self._assistant(message)
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
        if self._doubtful or not whole or not answered or result.terminal_reason != "completed":
            return None
        return self._held

    def _assistant(self, message: AssistantMessage) -> None:
        if message.model == "<synthetic>" or message.error:
            self._doubtful = True
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
