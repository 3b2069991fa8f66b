"""What the tests of clients say to the model, and read of what it was sent."""

import base64
import zlib
from struct import pack
from typing import Any

from jupyter_ccapi.demo import OfflineModel, Reply
from jupyter_ccapi.demo.reading import blocks
from tests.claude.support import conversation_sent

#: The model calls the client's tool `weather` once, and twice at once.
ONE_CALL = Reply(tools=[("mcp__client__weather", {"city": "Oslo"})])
TWO_CALLS = Reply(
    tools=[("mcp__client__weather", {"city": city}) for city in ("Oslo", "Rome")],
)


def structured(**fields: Any) -> Reply:
    """The model's structured answer, or its call where a call is forced."""
    return Reply(tools=[("StructuredOutput", fields)])


def texts(model: OfflineModel) -> list[str]:
    """The texts of the conversation that the model was sent last: the user's, its own, …"""
    request = model.main_requests[-1]
    answers = [text.removeprefix("thinking\n") for _, text in conversation_sent(request)]
    return [text for text in answers if text]


def results(model: OfflineModel) -> list[str]:
    """What tools answered, in the model's last request."""
    return [result.text for result in model.main_requests[-1].tool_results]


def images(model: OfflineModel) -> list[dict[str, Any]]:
    """The sources of the images in the model's last request."""
    return [
        block["source"]
        for message in model.main_requests[-1].messages
        for block in blocks(message["content"])
        if block["type"] == "image"
    ]


def schema(model: OfflineModel) -> dict[str, Any]:
    """The schema that the model's answer must fulfil."""
    (found,) = [
        tool["input_schema"]
        for tool in model.main_requests[-1].body["tools"]
        if tool["name"] == "StructuredOutput"
    ]
    assert isinstance(found, dict)
    return found


def png() -> str:
    """A red dot, as base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))

    header = pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\xff\0\0")
    made = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)
    return base64.b64encode(made + chunk(b"IEND", b"")).decode()
