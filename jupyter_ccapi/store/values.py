"""What the store gives back: plain values, that change only in the store."""

import time
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")

#: Text, or Anthropic content blocks.
Content = str | list[dict[str, Any]]
Role = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of a list, in order, and whether there are more after it."""

    items: list[T]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation of an owner's; its messages are asked for apart.

    ``metadata`` is the client's, ``settings`` are the server's own. Times are Unix seconds.
    """

    id: str
    owner: str
    created_at: float
    updated_at: float
    title: str | None
    metadata: dict[str, str]
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message of a conversation, with the name that it has in its transcript.

    ``created_at`` is in Unix seconds; it makes no two messages different.
    """

    uuid: str
    role: Role
    content: Content
    created_at: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer of the Responses API, as it was given.

    ``messages`` are only those that it added: ``{"role": …, "content": …}`` each. What came before
    is its parent's (``parent_id``) or its conversation's.
    """

    id: str
    owner: str
    created_at: float
    parent_id: str | None
    conversation_id: str | None
    body: dict[str, Any]
    input_items: list[dict[str, Any]]
    messages: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Key:
    """A key of an owner's, without its secret. ``prefix`` is how the secret begins, for a person
    to recognize it.

    ``models`` are the only ones that it may use (None: any), ``budget_usd`` what it may spend in
    all (None: any amount). Times are Unix seconds.
    """

    id: str
    owner: str
    name: str
    prefix: str
    models: list[str] | None
    budget_usd: float | None
    spent_usd: float
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    last_used_at: float | None

    @property
    def revoked(self) -> bool:
        """Whether it was taken back."""
        return self.revoked_at is not None

    def expired(self, now: float | None = None) -> bool:
        """Whether its time is over; ``now`` is the present time where none is given."""
        now = time.time() if now is None else now
        return self.expires_at is not None and self.expires_at <= now

    @property
    def exhausted(self) -> bool:
        """Whether its budget is spent."""
        return self.budget_usd is not None and self.spent_usd >= self.budget_usd
