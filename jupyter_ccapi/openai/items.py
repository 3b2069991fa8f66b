"""A conversation's messages as the items of OpenAI's Conversations API.

A message of the model's API becomes one item for each thing in it: what is said in a row is a
message, each call and each result an item of its own. What Claude Code did itself is told as
reasoning, its tools' results are not shown. An item's id names its message and its place in it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jupyter_ccapi.claude import Message, plain_name

from .errors import APIError
from .responses_input import read_input
from .validation import check

_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
}


@dataclass(frozen=True, slots=True)
class Item:
    """An item, the ``uuid`` of the message that it is of, and the blocks there that it tells."""

    body: dict[str, Any]
    uuid: str
    blocks: tuple[int, ...]

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.body["id"])


def items_of(uuid: str, role: str, content: str | Sequence[Mapping[str, Any]]) -> list[Item]:
    """The items of one message, in order."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    items: list[Item] = []
    said: list[int] = []
    for place, block in enumerate(blocks):
        if block["type"] in ("text", "image"):
            said.append(place)
            continue
        items.extend(_message(uuid, role, blocks, said))
        said = []
        body = _other(block)
        if body is not None:
            items.append(_item(uuid, body, (place,)))
    items.extend(_message(uuid, role, blocks, said))
    return items


def read_items(items: Sequence[Mapping[str, Any]]) -> tuple[list[Message], str | None]:
    """The messages of items that a client adds, and what its system messages among them say.
    Raises ``APIError`` 400 that names the item's field.
    """
    try:
        fields = check({"input": list(items)}, "responses")
        said = read_input(fields["input"], {})
    except APIError as error:
        # They are the same items, in a field of another name.
        param = error.param and re.sub(r"^input\b", "items", error.param)
        message = error.message.replace(error.param or "input[", param or "items[")
        raise APIError(error.status, message, code=error.code, param=param) from None
    return list(said.messages), said.system


def message_of(id: str) -> str:
    """The uuid of the message that an item's id names."""
    return id.partition("_")[2].rpartition("-")[0]


def _message(
    uuid: str, role: str, blocks: Sequence[Mapping[str, Any]], places: Sequence[int]
) -> Iterator[Item]:
    if places:
        content = [_part(blocks[place], role) for place in places]
        body = {"type": "message", "role": role, "status": "completed", "content": content}
        yield _item(uuid, body, tuple(places))


def _part(block: Mapping[str, Any], role: str) -> dict[str, Any]:
    if block["type"] == "image":
        source = block["source"]
        url = f"data:{source['media_type']};base64,{source['data']}"
        return {"type": "input_image", "image_url": url, "detail": "auto", "file_id": None}
    if role == "user":
        return {"type": "input_text", "text": block["text"]}
    return {"type": "output_text", "text": block["text"], "annotations": [], "logprobs": []}


def _other(block: Mapping[str, Any]) -> dict[str, Any] | None:
    match block["type"]:
        case "tool_use":
            name = plain_name(block["name"])
            if name is None:
                summary = {"type": "summary_text", "text": f"[{block['name']}]"}
                return {"type": "reasoning", "summary": [summary]}
            return {
                "type": "function_call",
                "call_id": block["id"],
                "name": name,
                "arguments": json.dumps(block["input"]),
                "status": "completed",
            }
        case "tool_result":
            return {
                "type": "function_call_output",
                "call_id": block["tool_use_id"],
                "output": _output(block.get("content")),
                "status": "completed",
            }
        case _:
            return None


def _output(content: Any) -> Any:
    """A tool's result: text, or parts where there is more in it."""
    if content is None or isinstance(content, str):
        return content or ""
    if all(block["type"] == "text" for block in content):
        return "".join(block["text"] for block in content)
    return [_part(block, "user") for block in content if block["type"] in ("text", "image")]


def _item(uuid: str, body: dict[str, Any], places: tuple[int, ...]) -> Item:
    id = f"{_PREFIXES[body['type']]}_{uuid}-{places[0]}"
    return Item({"id": id, **body}, uuid, places)
