"""What a turn yields, as plain frozen values.

A turn is ``TurnStarted``, then text, thinking and tools as the model makes them, then one
``TurnEnd``. A turn that fails raises an error of ``jupyter_ccapi.claude.errors`` in place of its
``TurnEnd``.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

#: How a turn came to its end. ``interrupted`` is a person's or a client's doing, not an error;
#: ``tool_calls``: the model waits for the results of the caller's tools.
EndReason = Literal["completed", "tool_calls", "interrupted", "max_turns", "max_budget"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one turn, as the model's API reported them (never estimated)."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_creation_tokens: int = 0
    thinking_tokens: int = 0

    @property
    def prompt_tokens(self) -> int:
        """All that the model read: new, read from its cache, and written to it."""
        return self.input_tokens + self.cache_read_tokens + self.cache_creation_tokens

    @property
    def total_tokens(self) -> int:
        """All that the model read and wrote."""
        return self.prompt_tokens + self.output_tokens

    def __add__(self, other: "Usage") -> "Usage":
        """The tokens of both."""
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_creation_tokens + other.cache_creation_tokens,
            self.thinking_tokens + other.thinking_tokens,
        )

    def __sub__(self, other: "Usage") -> "Usage":
        """What is left without the other's tokens."""
        return Usage(
            max(self.input_tokens - other.input_tokens, 0),
            max(self.output_tokens - other.output_tokens, 0),
            max(self.cache_read_tokens - other.cache_read_tokens, 0),
            max(self.cache_creation_tokens - other.cache_creation_tokens, 0),
            max(self.thinking_tokens - other.thinking_tokens, 0),
        )


@dataclass(frozen=True, slots=True)
class Spent:
    """What a CLI has counted up to now, over all turns of its session and all models."""

    cost_usd: float = 0.0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class TurnStarted:
    """The CLI took the prompt up. ``model`` is the model's full name, not the alias that was
    asked for.
    """

    conversation_id: str
    model: str


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer, exactly as the model made it."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """A piece of the model's thinking; never part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class AnswerDiscarded:
    """What was said so far is not the answer: it did not fulfil the schema, and the model begins
    again.
    """


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """The model begins to write a call of one of the caller's tools; ``name`` is the tool's own."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolInputDelta:
    """A piece of the input of the call ``id``, as JSON text: all of a call's pieces together are
    its whole input, and none at all are ``{}``.
    """

    id: str
    fragment: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model calls a tool; ``input`` is complete. With ``client`` it is one of the caller's,
    that whoever reads the turn is to make; else it is made here. ``name`` is the tool's own for
    all tools of the caller's.
    """

    id: str
    name: str
    input: dict[str, Any]
    client: bool = False


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered to the call ``id``; ``content`` is text or Anthropic content blocks,
    ``diff`` a unified diff of what an edit has changed.
    """

    id: str
    content: str | list[dict[str, Any]] | None
    is_error: bool
    diff: str | None = None


@dataclass(frozen=True, slots=True)
class PermissionRequest:
    """A person is asked whether a tool may run; the turn waits for ``Turn.answer`` meanwhile.

    ``id`` is the tool call's, ``tool`` its name for people (``Bash``, ``run_python``), ``title`` a
    sentence, ``description`` what the call is about, ``diff`` a unified diff of the edit that it
    would make. ``scope`` is what would be allowed for the whole conversation, in Claude Code's
    words: ``Bash(git status *)``; of a tool of the caller's ``run_python(*)``.
    """

    id: str
    tool: str
    input: dict[str, Any]
    title: str
    description: str
    diff: str | None
    scope: str


#: How a permission request is answered, and for how long that counts.
Behavior = Literal["allow", "deny"]
Scope = Literal["once", "conversation"]


@dataclass(frozen=True, slots=True)
class PermissionResolved:
    """A permission request was answered; ``message`` is the reason of a denial."""

    id: str
    behavior: Behavior
    scope: Scope
    message: str


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The account's limit as the API reported it; ``resets_at`` is in Unix seconds."""

    status: str
    resets_at: int | None
    kind: str | None


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """The turn is over.

    ``text`` is the whole answer (with a schema its JSON text, and ``structured_output`` the
    value), ``stop_reason`` the API's own word (``end_turn``, ``tool_use``, ``max_tokens``, …),
    ``seconds`` from the prompt to the end. ``usage`` and ``cost_usd`` are this turn's alone. The
    CLI tells a cost only when the model waits for no tools any more: a turn that ends with
    ``tool_calls`` costs nothing yet, and the one that goes on with it in its process carries all.
    ``checkpoint`` is the prompt's number in its conversation, from 1, where checkpoints are kept.
    """

    reason: EndReason
    text: str
    stop_reason: str | None
    model: str
    usage: Usage
    cost_usd: float
    seconds: float
    structured_output: Any = None
    permission_denials: list[Any] = field(default_factory=list)
    checkpoint: int | None = None


#: Any of the above.
Event = (
    TurnStarted
    | TextDelta
    | ThinkingDelta
    | AnswerDiscarded
    | ToolCallStarted
    | ToolInputDelta
    | ToolCall
    | ToolResult
    | PermissionRequest
    | PermissionResolved
    | RateLimit
    | TurnEnd
)
