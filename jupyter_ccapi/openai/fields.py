"""What the bodies of the three APIs have in common, read into what the core knows."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from jupyter_ccapi.claude import Message, client_tool

from .errors import APIError, invalid
from .request import AgentWish, Choice, FunctionTool

# The efforts that Claude Code has; OpenAI's two lowest become its lowest.
_EFFORTS = {"none": "low", "minimal": "low"}
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_CALL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")

#: What fulfils ``json_object``.
JSON_OBJECT: Mapping[str, Any] = {
    "type": "object",
    "description": "The JSON object that was asked for.",
}

#: Parameters that Claude Code has no way to honour. They are accepted because clients send them by
#: habit, and named in the response's ``x-ccapi-ignored`` header; each stands with the values that
#: change nothing and need no mention.
IGNORED: Mapping[str, tuple[Any, ...]] = {
    "temperature": (),
    "top_p": (),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "seed": (),
    "logit_bias": ({},),
    "prediction": (),
    "verbosity": (),
    "service_tier": ("auto", "default"),
}


def ignored(
    fields: Mapping[str, Any], table: Mapping[str, tuple[Any, ...]] = IGNORED
) -> tuple[str, ...]:
    """The parameters of a body that have no effect."""
    return tuple(
        name
        for name, harmless in table.items()
        if (value := fields.get(name)) is not None and value not in harmless
    )


def effort(asked: str | None) -> str | None:
    """Claude Code's effort for OpenAI's."""
    return _EFFORTS.get(asked, asked) if asked else None


def agent_wish(fields: Mapping[str, Any]) -> AgentWish:
    """What the field ``ccapi`` asks for."""
    asked = fields.get("ccapi") or {}
    tools = asked.get("allowed_tools")
    return AgentWish(
        mode=asked.get("mode"),
        cwd=asked.get("cwd"),
        permission_mode=asked.get("permission_mode"),
        allowed_tools=None if tools is None else tuple(tools),
        max_budget_usd=asked.get("max_budget_usd"),
    )


def unsupported(param: str, why: str) -> APIError:
    """A value that is right and cannot be had here."""
    return invalid(param, why, code="unsupported_value")


def function_tools(given: Iterable[tuple[str, Mapping[str, Any], str]]) -> tuple[FunctionTool, ...]:
    """Tools from their field's path, their definition and the name of its schema's field. Raises
    ``APIError`` 400.
    """
    tools: dict[str, FunctionTool] = {}
    for path, definition, key in given:
        name = definition["name"]
        if not _TOOL_NAME.fullmatch(name):
            raise invalid(
                f"{path}.name",
                f"{path}.name must be up to 64 letters, digits, underscores and dashes, "
                f"not {name[:80]!r}.",
                code="invalid_value",
            )
        if name in tools:
            raise invalid(f"{path}.name", f"There are two tools named {name!r}.")
        parameters = dict(definition.get(key) or {"properties": {}})
        parameters.setdefault("type", "object")
        checked = object_schema(parameters, f"{path}.{key}")
        tools[name] = FunctionTool(name, definition.get("description") or "", checked)
    return tuple(tools.values())


def object_schema(schema: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """Check that this is the JSON Schema of an object and refers to nothing elsewhere. Raises
    ``APIError`` 400.
    """
    try:
        Draft202012Validator.check_schema(schema)
        references = list(_references(schema))
    except SchemaError as error:
        where = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in error.absolute_path)
        raise invalid(
            path,
            f"{path} is not a JSON Schema: {where.lstrip('.') or 'it'} is wrong, {error.message}.",
            code="invalid_schema",
        ) from None
    except RecursionError:
        raise invalid(path, f"{path} is nested too deeply.", code="invalid_schema") from None
    if schema.get("type") != "object":
        raise invalid(
            path,
            f"{path} must be the schema of an object ('type': 'object' at its root): put "
            "anything else into a property of one.",
            code="invalid_schema",
        )
    for reference in references:
        if not reference.startswith("#"):
            raise invalid(
                path,
                f"{path} refers to {reference[:80]!r}; a schema may refer only to itself ('#/…').",
                code="invalid_schema",
            )
    return schema


def named_schema(schema: Mapping[str, Any], about: str | None, path: str) -> Mapping[str, Any]:
    """A checked schema, with what the client says about it. Raises ``APIError`` 400."""
    checked = object_schema(schema, path)
    if about and "description" not in checked:
        return {**checked, "description": about}
    return checked


def forced(wanted: Sequence[Any], names: Sequence[str], param: str) -> Choice:
    """One of these tools must be called. Raises ``APIError`` 400 where they are not there."""
    for name in wanted:
        if name not in names:
            raise invalid(param, f"{param} names {name!r}, which is not among the tools.")
    if not wanted:
        raise invalid(param, "A tool is to be called, and there are none.")
    return Choice("forced", tuple(wanted))


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for one in part:
            yield from _references(one)
    elif isinstance(part, Mapping):
        for key, value in part.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            else:
                yield from _references(value)


def image(url: str, param: str) -> dict[str, Any]:
    """An image that is still to be read."""
    return {"type": "image", "source": {"type": "url", "url": url, "param": param}}


def tool_use(id: str, name: str, arguments: str, path: str, key: str) -> dict[str, Any]:
    """A call of a client's tool in a history. Raises ``APIError`` 400."""
    try:
        given = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise invalid(
            f"{path}.{key}",
            f"{path}.{key} must be the JSON text of an object.",
            code="invalid_json",
        )
    # A tool of another maker's may have a name that the model's API does not take.
    name = client_tool(re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64])
    return {"type": "tool_use", "id": call_id(id), "name": name, "input": given}


def tool_result(id: str, content: str | list[dict[str, Any]], param: str) -> dict[str, Any]:
    """What a client's tool answered; ``param`` is the field that says to which call."""
    return {
        "type": "tool_result",
        "tool_use_id": call_id(id),
        "content": content,
        "param": param,
    }


def call_id(id: str) -> str:
    """An id as the model's API takes it; clients that were elsewhere before bring others."""
    if _CALL_ID.fullmatch(id):
        return id
    digest = hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"call_{digest}"


def in_turns(messages: Iterable[Message]) -> list[Message]:
    """Neighbours of one role are one message, as the model's API has it."""
    merged = []
    for _, group in groupby(messages, key=lambda message: message.role):
        several = list(group)
        if len(several) > 1:
            blocks = [block for message in several for block in message.blocks]
            several = [Message(several[0].role, _joined(blocks))]
        merged.append(several[0])
    return merged


def _joined(blocks: list[dict[str, Any]]) -> Any:
    """Texts alone are one text, of several paragraphs; results come before what else is said, as
    the model's API wants them.
    """
    if all(block["type"] == "text" for block in blocks):
        return "\n\n".join(block["text"] for block in blocks)
    return sorted(blocks, key=lambda block: block["type"] != "tool_result")


def check_whole(messages: Sequence[Message], field: str = "messages") -> list[Message]:
    """See that a whole conversation begins with a user, and that every result of a tool belongs to
    a call just before it and is given once; gives it back without the ``param`` of its blocks.
    Raises ``APIError`` 400.
    """
    if messages[0].role != "user":
        raise invalid(field, "The first message after the system's must be a user's.")
    checked: list[Message] = []
    for message in messages:
        calls = {
            block["id"]
            for block in (checked[-1].blocks if checked else ())
            if block["type"] == "tool_use"
        }
        blocks = []
        for block in message.blocks:
            if block["type"] == "tool_result":
                param = block.get("param", field)
                if block["tool_use_id"] not in calls:
                    raise invalid(
                        param,
                        f"{param} is the result of a call that is not among those of the message "
                        "before it, or that has a result already.",
                    )
                calls.discard(block["tool_use_id"])
                block = {key: value for key, value in block.items() if key != "param"}
            blocks.append(block)
        checked.append(
            message if isinstance(message.content, str) else Message(message.role, blocks)
        )
    return checked
