"""Turn what the SDK says during one turn into our events, and a bad end into our errors."""

import time
from collections.abc import Iterator
from typing import Any

from claude_agent_sdk import (
    AssistantMessage,
    Message,
    RateLimitEvent,
    ResultMessage,
    StreamEvent,
    SystemMessage,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)

from .errors import ModelError, NotLoggedIn, Overloaded, RateLimited, TurnFailed
from .events import (
    EndReason,
    Event,
    RateLimit,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolResult,
    TurnEnd,
    TurnStarted,
    Usage,
)

# terminal_reason of a turn that an interrupt ended (ResultMessage's docstring in the SDK).
_ABORTED = {"aborted_streaming", "aborted_tools"}
_LIMITS: dict[str, EndReason] = {
    "error_max_turns": "max_turns",
    "error_max_budget_usd": "max_budget",
}


class TurnReader:
    """Reads one turn. ``spent`` is what the process had cost before it, since the CLI's figure is
    cumulative.
    """

    def __init__(self, conversation_id: str, *, spent: float = 0.0) -> None:
        self.total_cost = spent
        self._conversation_id = conversation_id
        self._spent = spent
        self._began = time.monotonic()
        self._model = ""
        self._text: list[str] = []
        self._usage = Usage()
        self._message_usage = Usage()
        self._stop_reason: str | None = None
        self._error: str | None = None
        self._resets_at: int | None = None

    def feed(self, message: Message) -> Iterator[Event]:
        """Yield what this message means. Raises ``TurnFailed``, ``ModelError`` or ``NotLoggedIn``
        at a bad end.
        """
        match message:
            case SystemMessage(subtype="init", data=data):
                self._model = str(data.get("model", ""))
                yield TurnStarted(self._conversation_id, self._model)
            case StreamEvent(parent_tool_use_id=None, event=event):
                yield from self._stream(event)
            case AssistantMessage(parent_tool_use_id=None):
                self._error = message.error
                for block in message.content:
                    if isinstance(block, ToolUseBlock):
                        yield ToolCall(block.id, block.name, block.input)
            case UserMessage(parent_tool_use_id=None, content=list(blocks)):
                for block in blocks:
                    if isinstance(block, ToolResultBlock):
                        yield ToolResult(block.tool_use_id, block.content, bool(block.is_error))
            case RateLimitEvent(rate_limit_info=info):
                self._resets_at = info.resets_at
                yield RateLimit(info.status, info.resets_at, info.rate_limit_type)
            case ResultMessage():
                yield self._end(message)

    def _stream(self, event: dict[str, Any]) -> Iterator[Event]:
        """Read one of the Messages API's own stream events."""
        match event:
            case {"type": "message_start", "message": started}:
                self._model = started.get("model") or self._model
                self._message_usage = _usage(started.get("usage"))
            case {"type": "content_block_start", "content_block": {"type": "text"}} if self._text:
                # An agent's turn has several messages; its texts are paragraphs of one answer.
                yield self._say("\n\n")
            case {
                "type": "content_block_delta",
                "delta": {"type": "text_delta", "text": str(text)},
            } if text:
                yield self._say(text)
            case {
                "type": "content_block_delta",
                "delta": {"type": "thinking_delta", "thinking": str(text)},
            }:
                if text:
                    yield ThinkingDelta(text)
            case {"type": "message_delta", "delta": delta}:
                self._stop_reason = delta.get("stop_reason") or self._stop_reason
                output = (event.get("usage") or {}).get("output_tokens")
                if output is not None:
                    started = self._message_usage
                    self._message_usage = Usage(
                        started.input_tokens,
                        output,
                        started.cache_read_tokens,
                        started.cache_creation_tokens,
                    )
            case {"type": "message_stop"}:
                self._usage += self._message_usage
                self._message_usage = Usage()

    def _say(self, text: str) -> TextDelta:
        self._text.append(text)
        return TextDelta(text)

    def _end(self, result: ResultMessage) -> TurnEnd:
        self.total_cost = max(result.total_cost_usd or 0.0, self._spent)
        reason: EndReason = "completed"
        if result.terminal_reason in _ABORTED:
            reason = "interrupted"
        elif result.subtype in _LIMITS:
            reason = _LIMITS[result.subtype]
        elif result.is_error or result.subtype != "success":
            raise self._failure(result)
        reported = _usage(result.usage)
        streamed = self._usage + self._message_usage
        return TurnEnd(
            reason=reason,
            text="".join(self._text),
            stop_reason=self._stop_reason,
            model=self._model,
            # An interrupted turn's result reports nothing; what its stream said until then was
            # spent all the same.
            usage=reported if reported.total_tokens else streamed,
            cost_usd=self.total_cost - self._spent,
            seconds=time.monotonic() - self._began,
            structured_output=result.structured_output,
            permission_denials=list(result.permission_denials or []),
        )

    def _failure(self, result: ResultMessage) -> Exception:
        said = "; ".join(result.errors or []) or result.result or result.subtype
        status = result.api_error_status
        if self._error == "authentication_failed" or status == 401:
            return NotLoggedIn(said if status else None)
        if status == 429 or self._error == "rate_limit":
            wait = max(self._resets_at - time.time(), 1.0) if self._resets_at else None
            return RateLimited(said, status=429, retry_after=wait)
        if status in (503, 529):
            return Overloaded(said, status=status)
        if result.terminal_reason == "api_error" or status is not None:
            return ModelError(said, status=status)
        return TurnFailed(f"Claude Code could not finish the turn: {said}.")


def _usage(reported: dict[str, Any] | None) -> Usage:
    """Read the API's usage object (its input_tokens leave cached ones out)."""
    figures = reported or {}
    details = figures.get("output_tokens_details") or {}
    return Usage(
        input_tokens=figures.get("input_tokens") or 0,
        output_tokens=figures.get("output_tokens") or 0,
        cache_read_tokens=figures.get("cache_read_input_tokens") or 0,
        cache_creation_tokens=figures.get("cache_creation_input_tokens") or 0,
        thinking_tokens=details.get("thinking_tokens") or 0,
    )
