"""Turn what the SDK says during one turn into our events, and a bad end into our errors."""

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from claude_agent_sdk import (
    AssistantMessage,
    Message,
    RateLimitEvent,
    ResultMessage,
    StreamEvent,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)

from .edits import made
from .errors import (
    ClaudeError,
    ModelError,
    NotLoggedIn,
    Overloaded,
    PromptTooLong,
    RateLimited,
    TurnFailed,
)
from .events import (
    EndReason,
    Event,
    RateLimit,
    Spent,
    TextDelta,
    ThinkingDelta,
    ToolResult,
    TurnEnd,
    TurnStarted,
    Usage,
)
from .options import Options
from .tools import ClientCalls
from .toolstream import ToolStream
from .transport import events_of

# terminal_reason of a turn that an interrupt ended (ResultMessage's docstring in the SDK).
_ABORTED = {"aborted_streaming", "aborted_tools"}
_LIMITS: dict[str, EndReason] = {
    "error_max_turns": "max_turns",
    "error_max_budget_usd": "max_budget",
}


@dataclass(frozen=True, slots=True)
class GoesOn:
    """What a turn goes on with: the calls that the model has waited for, its full name, and what
    earlier turns have told of the CLI's.
    """

    calls: Collection[str]
    model: str
    told: Usage


class TurnReader:
    """Reads one turn, which runs with these options.

    ``totals`` are the sums that the CLI has reported after each earlier turn; ``total`` is what it
    reports after this one. ``goes_on`` is what the turn goes on with, where the model has waited
    for the client.
    """

    def __init__(
        self,
        conversation_id: str,
        totals: Sequence[Spent] = (),
        options: Options | None = None,
        goes_on: GoesOn | None = None,
    ) -> None:
        options = options or Options()
        self.total: Spent | None = None
        self._folder = options.cwd or Path.cwd()
        self._goes_on = goes_on
        self._tools = ToolStream(
            ClientCalls(options.tools),
            schema=options.schema is not None,
            mixes=options.schema is not None
            or options.mode == "agent"
            or any(tool.handler is not None for tool in options.tools),
            waited_for=goes_on.calls if goes_on else (),
        )
        self._structured = options.schema is not None
        self._told = goes_on.told if goes_on else Usage()
        self._totals = totals
        self._conversation_id = conversation_id
        self._began = time.monotonic()
        self._model = ""
        self._text: list[str] = []
        self._separator = ""
        self._usage = Usage()
        self._message_usage = Usage()
        self._streamed: str | None = None
        self._stop_reason: str | None = None
        self._cut_off = False
        self._continues = False
        self._error: str | None = None
        self._resets_at: int | None = None

    def feed(self, message: Message) -> Iterator[Event]:
        """Yield what this message means. Raises ``TurnFailed``, ``ModelError`` or ``NotLoggedIn``
        at a bad end.
        """
        if self._goes_on is not None:
            if not isinstance(message, UserMessage | ResultMessage):
                return  # of the time before: the CLI takes the results up first
            self._model, self._goes_on = self._goes_on.model, None
            yield TurnStarted(self._conversation_id, self._model)
        match message:
            case SystemMessage(subtype="init", data=data):
                self._model = str(data.get("model", ""))
                yield TurnStarted(self._conversation_id, self._model)
            case StreamEvent(parent_tool_use_id=None, event=event):
                for one in events_of(event):
                    if (delta := self._stream(one)) is not None:
                        yield delta
                    yield from self._tools.feed(one)
            case AssistantMessage(parent_tool_use_id=None):
                yield from self._message(message)
            case UserMessage(parent_tool_use_id=None, content=list(blocks)):
                for block in blocks:
                    if isinstance(block, ToolResultBlock):
                        about = message.tool_use_result if len(blocks) == 1 else None
                        yield from self._result(block, made(about, self._folder))
            case RateLimitEvent(rate_limit_info=info):
                self._resets_at = info.resets_at
                yield RateLimit(info.status, info.resets_at, info.rate_limit_type)
            case ResultMessage():
                yield self._end(message)

    def interrupted(self) -> TurnEnd:
        """The end of a turn whose process had to be killed for it."""
        return self._turn_end("interrupted", self._usage + self._message_usage)

    @property
    def waits(self) -> bool:
        """Whether the model waits for the client's tools."""
        return self._tools.waits

    def cut_off(self) -> TurnEnd:
        """The end of a turn whose answer was cut off, by the model's bound of tokens."""
        return self._turn_end("completed", self._usage + self._message_usage)

    def waiting(self) -> TurnEnd:
        """The end of a turn whose model waits for the client's tools."""
        return self._turn_end("tool_calls", self._usage + self._message_usage)

    def _result(self, block: ToolResultBlock, diff: str | None) -> Iterator[Event]:
        if self._tools.concerns(block.tool_use_id):
            yield from self._tools.result(block.tool_use_id, failed=bool(block.is_error))
        else:
            yield ToolResult(block.tool_use_id, block.content, bool(block.is_error), diff)

    def _message(self, message: AssistantMessage) -> Iterator[Event]:
        """Read a whole message, or one block of it; its text has been streamed already, unless
        the CLI fell back to asking the model for the whole at once.
        """
        self._error = message.error
        # The CLI speaks in the model's name where it reports an error.
        unheard = message.message_id != self._streamed and message.model != "<synthetic>"
        for block in message.content:
            match block:
                case ToolUseBlock():
                    yield from self._tools.whole(block.id, block.name, block.input)
                case TextBlock(text=text) if unheard and text and not self._structured:
                    self._paragraph()
                    yield self._say(text)
                case ThinkingBlock(thinking=text) if unheard and text:
                    yield ThinkingDelta(text)
        if unheard:
            self._stop_reason = message.stop_reason or self._stop_reason

    def _stream(self, event: dict[str, Any]) -> TextDelta | ThinkingDelta | None:
        """Read one of the Messages API's own stream events."""
        match event:
            case {"type": "content_block_delta", "delta": delta}:
                return self._delta(delta)
            case {"type": "message_start", "message": started}:
                self._model = started.get("model") or self._model
                self._streamed = started.get("id")
                self._message_usage = _usage(started.get("usage"))
                # Cut off until a reason to stop has come: then the model was asked to go on from
                # there, in the same sentence.
                self._continues, self._cut_off = self._cut_off, True
            case {"type": "content_block_start", "content_block": {"type": "text"}}:
                self._paragraph()
            case {"type": "message_delta", "delta": delta}:
                self._stop_reason = delta.get("stop_reason") or self._stop_reason
                self._cut_off = self._stop_reason == "max_tokens"
                output = (event.get("usage") or {}).get("output_tokens")
                if output is not None:
                    self._message_usage = replace(self._message_usage, output_tokens=output)
            case {"type": "message_stop"}:
                self._usage += self._message_usage
                self._message_usage = Usage()
        return None

    def _delta(self, delta: dict[str, Any]) -> TextDelta | ThinkingDelta | None:
        if text := delta.get("text"):
            return None if self._structured else self._say(str(text))
        if thinking := delta.get("thinking"):
            return ThinkingDelta(str(thinking))
        return None

    def _paragraph(self) -> None:
        """A text begins: an agent's turn has several, which are paragraphs of one answer."""
        self._separator = "\n\n" if self._text and not self._continues else ""
        self._continues = False

    def _say(self, text: str) -> TextDelta:
        if self._separator:
            text, self._separator = self._separator + text, ""
        self._text.append(text)
        return TextDelta(text)

    def _end(self, result: ResultMessage) -> TurnEnd:
        reported = _usage(result.usage)
        self.total = Spent(result.total_cost_usd or 0.0, _tokens(result))
        before = self._before(self.total.tokens - reported.total_tokens)
        reason: EndReason = "completed"
        failed = False
        if self.waits:
            reason = "tool_calls"
        elif result.terminal_reason in _ABORTED:
            reason = "interrupted"
        elif result.subtype in _LIMITS:
            reason = _LIMITS[result.subtype]
        elif self._stop_reason != "max_tokens":
            failed = result.is_error or result.subtype != "success"
        end = self._turn_end(
            reason,
            # An interrupted turn's result reports nothing; what its stream said until then was
            # spent all the same.
            reported - self._told if reported.total_tokens else self._usage + self._message_usage,
            cost_usd=max(self.total.cost_usd - before.cost_usd, 0.0),
            structured_output=result.structured_output,
            permission_denials=list(result.permission_denials or []),
        )
        if failed:
            failure = self._failure(result)
            failure.spent = end
            raise failure
        return end

    def _before(self, tokens: int) -> Spent:
        """What the CLI had counted before this turn, in which it had these tokens at most.

        A CLI counts on from its last turn; one that takes a session up, from what another one had
        counted in it when that last exited in good order, or else from zero.
        """
        known = [total for total in self._totals if total.tokens <= tokens]
        return max(known, key=lambda total: total.tokens, default=Spent())

    def _turn_end(self, reason: EndReason, usage: Usage, **more: Any) -> TurnEnd:
        return TurnEnd(
            reason=reason,
            text=self._tools.answer if self._structured else "".join(self._text),
            stop_reason=self._stop_reason,
            model=self._model,
            usage=usage,
            seconds=time.monotonic() - self._began,
            **{"cost_usd": 0.0, **more},
        )

    def _failure(self, result: ResultMessage) -> ClaudeError:
        said = "; ".join(result.errors or []) or result.result or result.subtype
        status = result.api_error_status
        if said.lower().startswith("prompt is too long"):
            if self._cut_off:
                # It would have had the model go on, which a bound of ours keeps it from.
                return ModelError("The model's answer broke off in the middle. Ask again.")
            return PromptTooLong()
        if status == 401 or (self._error == "authentication_failed" and status != 403):
            return NotLoggedIn(said.rstrip(".") if status else None)
        if status == 429 or self._error == "rate_limit":
            wait = max(self._resets_at - time.time(), 1.0) if self._resets_at else None
            return RateLimited(said, status=429, retry_after=wait)
        if status in (503, 529):
            return Overloaded(said, status=status)
        if result.terminal_reason == "api_error" or status is not None:
            return ModelError(said, status=status)
        return TurnFailed(f"Claude Code could not finish the turn: {said}".rstrip(".") + ".")


def _tokens(result: ResultMessage) -> int:
    """All tokens that the CLI has counted, over its models."""
    counts = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
    models: Any = result.model_usage or {}
    return sum(model.get(name) or 0 for model in models.values() for name in counts)


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
