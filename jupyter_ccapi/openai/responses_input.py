"""The input of a Responses request: its items become messages, and items as they are kept."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from jupyter_ccapi.claude import Message

from .errors import APIError, invalid
from .fields import image, in_turns, tool_result, tool_use, unsupported

_PARTS = {
    "input_file": "Files are not supported here: put their text into the message.",
    "input_audio": "Audio is not supported: Claude takes text and images.",
}
_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
}


@dataclass(frozen=True, slots=True)
class Input:
    """What an input says: messages, what its system and developer messages say, and its items with
    ids, as they are kept.
    """

    messages: tuple[Message, ...]
    system: str | None
    items: tuple[dict[str, Any], ...]


def references(body: Any) -> list[str]:
    """The ids of earlier items that a body refers to instead of sending them; @ai-sdk/openai does
    so with everything that was answered before. The body may be anything.
    """
    given = body.get("input") if isinstance(body, dict) else None
    return [
        item["id"]
        for item in (given if isinstance(given, list) else ())
        if isinstance(item, dict) and _kind(item) == "item_reference"
        if isinstance(item.get("id"), str)
    ]


def read_input(
    given: str | Sequence[dict[str, Any]],
    stored: Mapping[str, Mapping[str, Any]],
    *,
    only_new: bool = False,
) -> Input:
    """Read an input whose shape has been checked. ``stored`` are the earlier items that it refers
    to. With ``only_new`` it goes on with what is known: calls in it are the model's and known too,
    which @ai-sdk/openai sends again beside their outputs.

    Raises ``APIError``: 400 that names the item's field, 404 for a reference to nothing.
    """
    if isinstance(given, str):
        if not given.strip():
            raise invalid("input", "input must not be empty.")
        item = _kept({"role": "user", "content": given})
        return Input((Message("user", given),), None, (item,))
    items = []
    system = []
    messages = []
    for path, item in _resolved(given, stored):
        items.append(_kept(item))
        if item.get("role") in ("system", "developer"):
            if text := _text(item["content"], f"{path}.content").strip():
                system.append(text)
        elif only_new and _kind(item) == "function_call":
            continue
        elif (message := _message(item, path)) is not None:
            messages.append(message)
    turns = [_results_first(message) for message in in_turns(messages)]
    return Input(tuple(turns), "\n\n".join(system) or None, tuple(items))


def _resolved(
    given: Sequence[dict[str, Any]], stored: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each item with its path; those that are referred to in the places of their references."""
    for index, item in enumerate(given):
        path = f"input[{index}]"
        if _kind(item) != "item_reference":
            yield path, item
        elif item["id"] in stored:
            yield path, dict(stored[item["id"]])
        elif not item["id"].startswith("rs_"):
            # Reasoning is not given to the model again, so it need not be there.
            raise APIError(
                404,
                f"There is no item {item['id'][:80]!r} here. Items are kept with responses that "
                "are stored; send the item itself.",
                param=f"{path}.id",
                code="item_not_found",
            )


def _kind(item: Mapping[str, Any]) -> str | None:
    """An item's type, which messages and references need not have."""
    kind = item.get("type")
    if kind is None and "role" in item:
        return "message"
    if kind is None and item.get("id") is not None:
        return "item_reference"
    return str(kind) if kind is not None else None


def _message(item: dict[str, Any], path: str) -> Message | None:
    """A user's, assistant's or tool's item; None where there is nothing in it for the model."""
    match _kind(item):
        case "message" if item["role"] == "user":
            content = _content(item["content"], f"{path}.content")
            if not content:
                raise invalid(f"{path}.content", f"{path}.content must not be empty.")
            return Message("user", content)
        case "message":
            text = _text(item["content"], f"{path}.content")
            return Message("assistant", text) if text else None
        case "function_call":
            call = tool_use(item["call_id"], item["name"], item["arguments"], path, "arguments")
            return Message("assistant", [call])
        case "function_call_output":
            output = _content(item["output"], f"{path}.output")
            return Message("user", [tool_result(item["call_id"], output, f"{path}.call_id")])
        case "reasoning":
            # Claude takes back only what bears its own signature, which OpenAI's items have not.
            return None
        case None:
            raise invalid(
                f"{path}.type",
                f"Missing required parameter: '{path}.type'.",
                code="missing_required_parameter",
            )
        case kind:
            raise unsupported(f"{path}.type", f"Items of type {kind[:80]!r} are not supported.")


def _content(content: str | list[dict[str, Any]], path: str) -> str | list[dict[str, Any]]:
    """Text, or blocks where there are images; only white space counts as none."""
    if isinstance(content, str) or all(part["type"] != "input_image" for part in content):
        return _text(content, path)
    blocks: list[dict[str, Any]] = []
    for number, part in enumerate(content):
        where = f"{path}[{number}]"
        if part["type"] == "input_image":
            blocks.append(_image(part, where))
        elif text := _part(part, where):
            blocks.append({"type": "text", "text": text})
    return blocks


def _image(part: dict[str, Any], path: str) -> dict[str, Any]:
    if url := part.get("image_url"):
        return image(url, f"{path}.image_url")
    if part.get("file_id") is not None:
        raise unsupported(f"{path}.file_id", "Uploaded images are not supported: send image_url.")
    raise invalid(
        f"{path}.image_url",
        f"Missing required parameter: '{path}.image_url'.",
        code="missing_required_parameter",
    )


def _text(content: str | list[dict[str, Any]], path: str) -> str:
    if isinstance(content, list):
        content = "".join(_part(part, f"{path}[{i}]") for i, part in enumerate(content))
    return content if content.strip() else ""


def _part(part: dict[str, Any], path: str) -> str:
    kind = part["type"]
    if kind in ("input_text", "output_text"):
        return str(part["text"])
    if kind == "refusal":
        return str(part["refusal"])
    if kind == "input_image":
        raise unsupported(path, "Images are supported in messages of users and tools only.")
    why = _PARTS.get(kind, f"Parts of type {kind[:80]!r} are not supported.")
    raise unsupported(f"{path}.type", why)


def _results_first(message: Message) -> Message:
    """The model's API wants the results of tools before what else the user says."""
    if isinstance(message.content, str):
        return message
    blocks = sorted(message.content, key=lambda block: block["type"] != "tool_result")
    return Message(message.role, blocks)


def _kept(item: dict[str, Any]) -> dict[str, Any]:
    """An item as it is kept: with an id, and a message in its full form."""
    kind = _kind(item) or ""
    id = item.get("id") or f"{_PREFIXES.get(kind, 'item')}_{uuid4().hex}"
    kept: dict[str, Any] = {**item, "id": id, "type": kind}
    if kind == "message":
        kept["status"] = item.get("status") or "completed"
        if isinstance(content := item["content"], str):
            said = item["role"] == "assistant"
            part: dict[str, Any] = {"type": "output_text" if said else "input_text"}
            part["text"] = content
            if said:
                part["annotations"] = []
            kept["content"] = [part]
    return kept
