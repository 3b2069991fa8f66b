"""Conversations and lists of things in OpenAI's shape."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Conversation(Protocol):
    """What is told of a conversation; times are Unix seconds."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    @property
    def created_at(self) -> float:
        """When it began."""
        ...

    @property
    def updated_at(self) -> float:
        """When something was said in it last."""
        ...

    @property
    def title(self) -> str | None:
        """What it is about."""
        ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """The client's own notes."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """What its requests have said: ``model``, ``system_prompt``, ``ccapi``."""
        ...


def conversation_object(conversation: Conversation) -> dict[str, Any]:
    """A conversation; ``title``, ``updated_at`` and ``settings`` are ours, beside OpenAI's."""
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": int(conversation.created_at),
        "metadata": dict(conversation.metadata),
        "title": conversation.title,
        "updated_at": int(conversation.updated_at),
        "settings": dict(conversation.settings),
    }


def deleted_object(id: str) -> dict[str, Any]:
    """What is told of a conversation that is no more."""
    return {"id": id, "object": "conversation.deleted", "deleted": True}


def page(data: Sequence[Mapping[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """A part of a list; the next one begins after ``last_id``."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }
