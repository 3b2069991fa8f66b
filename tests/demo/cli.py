"""The real Claude Code CLI, driven against an offline model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    Message,
    ResultMessage,
    TextBlock,
)

from jupyter_ccapi.demo import OfflineModel


def options(
    model: OfflineModel, home: Path, env: dict[str, str] | None = None, **more: Any
) -> ClaudeAgentOptions:
    """Return options for a CLI that knows nothing but this home and this model."""
    environment = {
        **model.environment(home),
        "CLAUDE_CODE_MAX_RETRIES": "0",
        **(env or {}),
    }
    return ClaudeAgentOptions(env=environment, cwd=home / "project", setting_sources=[], **more)


@asynccontextmanager
async def conversation(
    model: OfflineModel, home: Path, env: dict[str, str] | None = None, **more: Any
) -> AsyncIterator[ClaudeSDKClient]:
    """Open a conversation with the real CLI."""
    async with ClaudeSDKClient(options(model, home, env, **more)) as client:
        yield client


async def turn(client: ClaudeSDKClient, *content: str | dict[str, Any]) -> list[Message]:
    """Send one user message, of texts and other blocks, and return all that comes back."""

    async def message() -> AsyncIterator[dict[str, Any]]:
        blocks = [{"type": "text", "text": c} if isinstance(c, str) else c for c in content]
        yield {
            "type": "user",
            "message": {"role": "user", "content": blocks},
            "parent_tool_use_id": None,
            "session_id": "default",
        }

    await client.query(message())
    return [received async for received in client.receive_response()]


async def one_turn(
    model: OfflineModel, home: Path, *content: str | dict[str, Any], **more: Any
) -> list[Message]:
    """Open a conversation for one turn, and return all that comes back."""
    async with conversation(model, home, **more) as client:
        return await turn(client, *content)


def result(received: list[Message]) -> ResultMessage:
    """Return the result that ends a turn."""
    assert isinstance(received[-1], ResultMessage)
    return received[-1]


def said(received: list[Message]) -> str:
    """Return what the model said in a turn, all its messages together."""
    return "\n".join(
        block.text
        for message in received
        if isinstance(message, AssistantMessage)
        for block in message.content
        if isinstance(block, TextBlock)
    )
