"""What the tests of chats share: bodies, and what came of them."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from jupyter_server.serverapp import ServerApp

CHAT = ("v1", "chat", "completions")
Call = Callable[..., Awaitable[Any]]

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
TIME = {"type": "function", "function": {"name": "time", "description": "Tells the time."}}


def chat(text: str = "Hello", **fields: Any) -> dict[str, Any]:
    """A body with one user message."""
    return {"messages": [{"role": "user", "content": text}], **fields}


async def post_alone(
    server: ServerApp, body: str, headers: Mapping[str, str] | None = None
) -> asyncio.StreamWriter:
    """Post a chat over a connection of its own, which the client can close when it likes to."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    told = {
        "Host": "127.0.0.1",
        "Authorization": f"Bearer {server.identity_provider.token}",
        "Content-Length": str(len(body)),
        **(headers or {}),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    begin = f"POST {server.base_url}v1/chat/completions HTTP/1.1\r\n"
    writer.write(f"{begin}{lines}\r\n{body}".encode())
    return writer


def events(body: str) -> list[Any]:
    """The data of each server-sent event; [DONE] as it is."""
    data = [line[6:] for line in body.splitlines() if line.startswith("data: ")]
    return [json.loads(line) if line.startswith("{") else line for line in data]


def assembled(body: str) -> dict[str, Any]:
    """The message that a client puts together from a stream, and its finish_reason."""
    message: dict[str, Any] = {"content": "", "tool_calls": [], "finish_reason": None}
    for chunk in events(body)[:-1]:
        for choice in chunk["choices"]:
            message["content"] += choice["delta"].get("content") or ""
            message["finish_reason"] = choice["finish_reason"] or message["finish_reason"]
            for call in choice["delta"].get("tool_calls", ()):
                if call["index"] == len(message["tool_calls"]):
                    message["tool_calls"].append({"id": call["id"], **call["function"]})
                else:
                    known = message["tool_calls"][call["index"]]
                    known["arguments"] += call["function"]["arguments"]
    return message


def result(id: str, content: str) -> dict[str, Any]:
    """What a tool answered."""
    return {"role": "tool", "tool_call_id": id, "content": content}
