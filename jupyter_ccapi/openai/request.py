"""What a client asks for, whichever of the three APIs it speaks."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jupyter_ccapi.claude import Message
from jupyter_ccapi.claude.history import Content


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """A tool of the client's own; ``parameters`` is JSON Schema of an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether tools are called: as the model likes, not at all, or one of ``names`` in any case."""

    kind: Literal["auto", "none", "forced"] = "auto"
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentWish:
    """What the field ``ccapi`` of a body asks for; None is what the server's options say."""

    mode: Literal["chat", "agent"] | None = None
    cwd: str | None = None
    permission_mode: str | None = None
    allowed_tools: tuple[str, ...] | None = None
    max_budget_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the model.

    ``messages`` are what the client sent of the conversation, the last of them a user's: all of
    it, or only what is new in ``conversation`` or after ``previous_response`` (``only_new``: it
    cannot be more). ``system_prompt`` stays with the conversation, ``instructions`` come before it
    and are for this request alone. Images may still have to be read (a source of type ``url``), and
    results of tools and images bear the ``param`` that errors name. ``schema`` is what the answer
    must fulfil. ``ignored`` names the parameters that have no effect. ``store`` says whether the
    conversation is kept; one that was not named is only where ``begins_conversation``. ``field`` is
    the body's field that holds the messages.
    """

    model: str | None
    messages: tuple[Message, ...]
    system_prompt: str | None = None
    instructions: str | None = None
    only_new: bool = False
    stream: bool = False
    effort: str | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    tools: tuple[FunctionTool, ...] = ()
    choice: Choice = Choice()
    parallel: bool = True
    schema: Mapping[str, Any] | None = None
    agent: AgentWish = AgentWish()
    conversation: str | None = None
    previous_response: str | None = None
    store: bool = True
    begins_conversation: bool = True
    field: str = "messages"
    ignored: tuple[str, ...] = ()
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def prompt(self) -> Content:
        """What is to be answered."""
        return self.messages[-1].content
