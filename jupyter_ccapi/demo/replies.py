"""What the offline model says: one `Reply` is one assistant message, or one failure to give it."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

StopReason = Literal["end_turn", "tool_use", "max_tokens", "stop_sequence", "refusal", "pause_turn"]

ERROR_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Anthropic's error type for each HTTP status (https://docs.anthropic.com/en/api/errors)."""


class ToolCall(NamedTuple):
    """A tool call of the model; a plain `(name, input)` pair does as well."""

    name: str
    input: Mapping[str, Any] = {}


class ApiError(NamedTuple):
    """A failure in place of an answer: HTTP `status`, Anthropic's error `type` and `message`.

    An empty `type` is derived from the status, an empty `message` says that it was asked for.
    `retry_after` (seconds) becomes the `Retry-After` header.
    """

    status: int
    type: str = ""
    message: str = ""
    retry_after: float | None = None

    def body(self) -> dict[str, Any]:
        """Return the error as Anthropic words it: `{"type": "error", "error": {…}}`."""
        kind = self.type or ERROR_TYPES.get(
            self.status, "api_error" if self.status >= 500 else "invalid_request_error"
        )
        message = self.message or f"The offline demo model was asked for a {self.status}."
        return {"type": "error", "error": {"type": kind, "message": message}}


@dataclass(frozen=True)
class Reply:
    """One message of the model, in the order thinking, text, tool calls.

    `stop_reason` is `tool_use` where there are tool calls and `end_turn` elsewhere, unless given.
    `word_delay` (seconds after each word) is the server's own unless given. With `hold` the answer
    pauses after its first word (or first fragment) until the event is set. `drop` cuts the
    connection after half of the message. An `error` stands in place of the answer, or follows its
    text in mid-stream where there is some. `headers` join those of the HTTP answer. The token
    counts replace those that are derived from the lengths of the texts.
    """

    text: str = ""
    thinking: str = ""
    tools: Sequence[tuple[str, Mapping[str, Any]]] = ()
    stop_reason: StopReason | None = None
    word_delay: float | None = None
    hold: threading.Event | None = None
    error: ApiError | None = None
    drop: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
