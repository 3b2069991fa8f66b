"""A tool call that the model must make.

Claude Code has no ``tool_choice``. It has structured output: so the answer's schema is what the
tool takes, and the answer is handed to the client as the call. Where there are several tools to
choose from, the answer is a list of calls.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .request import FunctionTool, Request


@dataclass(frozen=True, slots=True)
class Forced:
    """The call that an answer must be: of ``tool``, or of any of several where that is None."""

    tool: str | None
    schema: Mapping[str, Any]

    @classmethod
    def by(cls, request: Request) -> "Forced | None":
        """What a request's choice forces; None where the model is free."""
        if request.choice.kind != "forced":
            return None
        tools = [tool for tool in request.tools if tool.name in request.choice.names]
        if len(tools) == 1:
            return cls(tools[0].name, _described(tools[0]))
        return cls(None, _calls(tools, most=None if request.parallel else 1))

    def calls(self, answer: str) -> list[tuple[str, str]]:
        """The names and arguments (JSON) of the calls in a finished answer."""
        if self.tool is not None:
            return [(self.tool, answer)]
        return [
            (call["name"], json.dumps(call["arguments"])) for call in json.loads(answer)["calls"]
        ]


def _described(tool: FunctionTool) -> dict[str, Any]:
    """The tool's parameters, which say in their description what they are for."""
    said = f"The arguments of a call of the function {tool.name}. {tool.description}".strip()
    own = tool.parameters.get("description")
    return {**tool.parameters, "description": f"{said} {own}" if own else said}


def _calls(tools: Sequence[FunctionTool], *, most: int | None) -> dict[str, Any]:
    """The schema of a list of calls of these tools."""
    definitions: dict[str, Any] = {}
    kinds = []
    for number, tool in enumerate(tools):
        parameters = _hoisted(tool.parameters, f"tool{number}_", definitions)
        kinds.append(
            {
                "type": "object",
                "description": tool.description,
                "properties": {
                    "name": {"type": "string", "enum": [tool.name]},
                    "arguments": parameters,
                },
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    calls: dict[str, Any] = {"type": "array", "minItems": 1, "items": {"anyOf": kinds}}
    if most is not None:
        calls["maxItems"] = most
    schema: dict[str, Any] = {
        "type": "object",
        "description": "The calls of functions that answer the user; at least one.",
        "properties": {"calls": calls},
        "required": ["calls"],
        "additionalProperties": False,
    }
    if definitions:
        schema["$defs"] = definitions
    return schema


def _hoisted(schema: Mapping[str, Any], prefix: str, into: dict[str, Any]) -> Any:
    """A schema whose definitions have moved to the root of another one, under names with a
    prefix; a reference to its own root refers to where that now stands.
    """
    names = {
        f"#/{place}/{name}": f"#/$defs/{prefix}{name}"
        for place in ("$defs", "definitions")
        for name in schema.get(place, {})
    }
    if _refers_to_root(schema):
        names["#"] = f"#/$defs/{prefix}root"

    def moved(part: Any) -> Any:
        if isinstance(part, list):
            return [moved(one) for one in part]
        if not isinstance(part, Mapping):
            return part
        return {
            key: _renamed(value, names)
            if key == "$ref" and isinstance(value, str)
            else value
            if key in ("const", "enum", "default", "examples")
            else moved(value)
            for key, value in part.items()
        }

    for place in ("$defs", "definitions"):
        for name, definition in schema.get(place, {}).items():
            into[prefix + name] = moved(definition)
    body = moved({key: value for key, value in schema.items() if key not in _PLACES})
    if "#" in names:
        into[f"{prefix}root"] = body
        return {"$ref": names["#"]}
    return body


_PLACES = ("$defs", "definitions", "$schema", "$id")


def _renamed(reference: str, names: Mapping[str, str]) -> str:
    for old in sorted(names, key=len, reverse=True):
        if reference == old or (old != "#" and reference.startswith(f"{old}/")):
            return names[old] + reference[len(old) :]
    return reference


def _refers_to_root(part: Any) -> bool:
    if isinstance(part, list):
        return any(_refers_to_root(one) for one in part)
    if isinstance(part, Mapping):
        return part.get("$ref") == "#" or any(_refers_to_root(one) for one in part.values())
    return False
