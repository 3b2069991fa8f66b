"""What a client may ask of a session, checked."""

import json
import math
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from jupyter_ccapi.claude.options import PERMISSION_MODES

from .source import Refused

_TEXT = {"type": "string"}
_ID = {"type": "string", "minLength": 1, "maxLength": 256}
_YES = {"type": "boolean"}
_PARTS = {"text": "text", "image": "source", "file": "path"}
_PART = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": {"enum": list(_PARTS)},
        "text": _TEXT,
        "source": {"type": "object"},
        "path": {"type": "string", "minLength": 1},
    },
    "allOf": [
        {"if": {"properties": {"type": {"const": kind}}}, "then": {"required": [needed]}}
        for kind, needed in _PARTS.items()
    ],
    "additionalProperties": False,
}
_FIELDS: dict[str, dict[str, Any]] = {
    "user_message": {"content": {"type": ["string", "array"], "items": _PART}},
    "permission_response": {
        "request_id": _ID,
        "behavior": {"enum": ["allow", "deny"]},
        "updated_input": {"type": "object"},
        "scope": {"enum": ["once", "session"]},
        "message": _TEXT,
    },
    "interrupt": {},
    "set_model": {"model": {"type": ["string", "null"], "minLength": 1, "maxLength": 256}},
    "set_permission_mode": {"mode": {"enum": list(PERMISSION_MODES)}},
    "rewind": {
        "checkpoint": {"type": "integer", "minimum": 1},
        "dry_run": _YES,
        "files": _YES,
        "conversation": _YES,
        "force": _YES,
    },
    "ping": {},
}
_REQUIRED = {
    "user_message": ["content"],
    "permission_response": ["request_id", "behavior"],
    "set_model": ["model"],
    "set_permission_mode": ["mode"],
    "rewind": ["checkpoint"],
}


def read_command(message: str | bytes) -> dict[str, Any]:
    """Read what a client has sent. Raises ``Refused``, which says what is wrong with it."""
    if isinstance(message, bytes):
        raise Refused("Send text: each message is a JSON object.")
    try:
        command = json.loads(message, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise Refused(f"This is not valid JSON: {error}.") from None
    if not isinstance(command, dict) or not isinstance(command.get("type"), str):
        raise Refused('Each message is a JSON object with a "type".')
    return command


def check_command(command: dict[str, Any]) -> None:
    """Raise ``Refused`` for what is no command, or where a field of it is wrong."""
    kind = command["type"]
    if kind not in _FIELDS:
        known = ", ".join(_FIELDS)
        raise Refused(f"There is no message of type {kind[:64]!r} here; there are {known}.")
    try:
        wrong = best_match(_validator(kind).iter_errors(command))
    except RecursionError:
        raise Refused(f"{kind}: it is nested too deeply.") from None
    if wrong is not None:
        where = ".".join(str(part) for part in wrong.absolute_path)
        said = wrong.message if len(wrong.message) <= 300 else f"{wrong.message[:300]}…"
        raise Refused(f"{kind}{f', {where}' if where else ''}: {said}.")


def _finite(digits: str) -> float:
    """A number, of those that JSON can say again."""
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:20]} is too great")
    return number


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number there")


@cache
def _validator(kind: str) -> Draft202012Validator:
    schema = {
        "type": "object",
        "properties": {"type": {"const": kind}, "id": {**_ID, "maxLength": 128}, **_FIELDS[kind]},
        "required": _REQUIRED.get(kind, []),
        "additionalProperties": False,
    }
    return Draft202012Validator(schema)
