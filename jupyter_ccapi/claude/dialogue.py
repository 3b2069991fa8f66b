"""Prompts to a CLI, and which of what it says answers which of them."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from claude_agent_sdk import ClaudeSDKClient, ResultMessage, TaskStartedMessage
from claude_agent_sdk import Message as SDKMessage

from .history import Content


class Dialogue:
    """The prompts that one CLI is sent over a connected client, and its turns."""

    def __init__(self, client: ClaudeSDKClient) -> None:
        self._client = client
        self._has_background = False

    async def send(self, content: Content, uuid: str, **more: Any) -> None:
        """Send a prompt of this name, with ``more`` fields of its message."""
        prompt = {
            "type": "user",
            "uuid": uuid,
            "message": {"role": "user", "content": content},
            "parent_tool_use_id": None,
            **more,
        }
        await self._client.query(_only(prompt))

    async def messages(self, uuid: str, *, ours: bool = False) -> AsyncGenerator[SDKMessage, None]:
        """The messages of the turn that answers the prompt with this name, its result last;
        ``ours``: it has begun already.

        A command that was left in the background begins a turn of its own when it ends, between
        our turns or in front of one: that is for the model to know and not part of our answer.
        """
        ours = ours or not self._has_background
        held: list[SDKMessage] = []
        messages: Any = self._client.receive_messages()
        async with aclosing(messages):
            async for message in messages:
                self._has_background |= isinstance(message, TaskStartedMessage)
                ours = ours or _belongs(message, uuid)
                if not ours and not isinstance(message, ResultMessage):
                    held.append(message)
                    continue
                if ours:
                    for earlier in held:
                        yield earlier
                    yield message
                    if isinstance(message, ResultMessage):
                        return
                held.clear()


def _belongs(message: SDKMessage, uuid: str) -> bool:
    """Whether this message says that its turn answers the prompt with this name."""
    if isinstance(message, ResultMessage):
        named = message.user_message_uuids or [message.user_message_uuid or ""]
        # An interrupted turn may name none.
        return uuid in named or (named == [""] and message.origin is None)
    return uuid in (getattr(message, "user_message_uuids", None) or ())


async def _only(prompt: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield prompt
