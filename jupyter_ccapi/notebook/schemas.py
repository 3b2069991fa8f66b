"""`--schema`: what an answer must be, as JSON Schema, and how the answer becomes that.

The core's schemas describe an object. Any other one is put into an object with one property, which
is taken out of the answer again.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, get_origin

from IPython.core.error import UsageError
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from jupyter_ccapi.claude.errors import InvalidOption

from .errors import CellError
from .interpolation import evaluate

_VALUE = "value"
# These say something about the whole document, wherever the schema itself ends up.
_ROOTED = ("$schema", "$id", "$defs", "definitions")
# The model's API takes none of these at the root of a schema.
_NOT_AT_ROOT = ("oneOf", "anyOf", "allOf")
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Schema:
    """What the core is given (`json`, an object's schema), and what makes a value of the answer:
    `make` takes `TurnEnd.structured_output` and raises `CellError` where it is not what was asked
    for.
    """

    json: dict[str, Any]
    make: Callable[[Any], Any]


def schema_option(expression: str, variables: dict[str, Any]) -> Schema:
    """Read `--schema EXPR`. Raises `UsageError`."""
    wanted = evaluate(expression, variables, f"--schema: {expression}")
    try:
        return read_schema(wanted)
    except InvalidOption as error:
        raise UsageError(f"--schema: {error}") from None


def read_schema(wanted: Any) -> Schema:
    """Read what a person gave: a dict is JSON Schema, a pydantic model gives its instance, and any
    other type that pydantic knows (`list[Model]`, a dataclass) a value of it.

    Raises `InvalidOption`.
    """
    if isinstance(wanted, Mapping):
        return _of_dict(wanted)
    if hasattr(wanted, "model_json_schema") and hasattr(wanted, "model_validate_json"):
        return _of_pydantic(wanted, wanted.model_json_schema, wanted.model_validate_json)
    adapter = wanted
    if not (hasattr(wanted, "json_schema") and hasattr(wanted, "validate_json")):
        adapter = _adapter(wanted)
    return _of_pydantic(wanted, adapter.json_schema, adapter.validate_json)


def _of_dict(wanted: Mapping[str, Any]) -> Schema:
    schema = _checked(wanted)
    # With a registry of its own it fetches nothing that a schema refers to.
    validator = _kind(schema)(schema, registry=Registry())

    def make(value: Any) -> Any:
        error = best_match(validator.iter_errors(value))
        if error is not None:
            raise CellError(f"The answer does not fulfil the schema: {_where(error)}")
        return value

    return _rooted(schema, make)


def _of_pydantic(
    wanted: Any, schema_of: Callable[[], dict[str, Any]], validate: Callable[[str], Any]
) -> Schema:
    name = wanted.__name__ if isinstance(wanted, type) and not get_origin(wanted) else str(wanted)
    try:
        schema = schema_of()
    except Exception as error:  # pydantic's own, which it need not be installed for
        raise InvalidOption(
            "schema", f"There is no JSON Schema for {name}: {_first_line(error)}"
        ) from None

    def make(value: Any) -> Any:
        try:
            # As JSON: there a date may be a text, also for a strict model.
            return validate(json.dumps(value))
        except ValueError as error:
            raise CellError(f"The answer is no {name}: {_problems(error)}") from None

    return _rooted(schema, make)


def _adapter(wanted: Any) -> Any:
    """What pydantic makes of a type."""
    what = _short(repr(wanted))
    if not isinstance(wanted, type) and get_origin(wanted) is None:
        raise InvalidOption(
            "schema",
            f"A schema is a dict (JSON Schema), a pydantic model or another type, and not {what}.",
        )
    try:
        pydantic = import_module("pydantic")
        return pydantic.TypeAdapter(wanted)
    except ImportError:
        raise InvalidOption(
            "schema", f"pydantic makes a schema of {what}, and it is not installed."
        ) from None
    except Exception as error:
        raise InvalidOption(
            "schema", f"pydantic can make no schema of {what}: {_first_line(error)}"
        ) from None


def _checked(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """A schema as JSON has it. Raises `InvalidOption` for what is none, saying where."""
    try:
        schema: dict[str, Any] = json.loads(json.dumps(dict(wanted), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidOption("schema", f"The schema cannot be written as JSON: {error}.") from None
    try:
        _kind(schema).check_schema(schema)
    except SchemaError as error:
        raise InvalidOption("schema", f"This is no JSON Schema: {_where(error)}") from None
    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    resolver: Any = Registry().resolver_with_root(resource)
    for target in _references(schema):
        try:
            resolver.lookup(target)
        except Unresolvable:
            raise InvalidOption(
                "schema", f"The schema refers to {target!r}, which it does not hold."
            ) from None
    return schema


def _kind(schema: dict[str, Any]) -> type[Validator]:
    """The validator for the version of JSON Schema that a schema names, else for the newest."""
    kind: type[Validator] = validator_for(schema, default=Draft202012Validator)
    return kind


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict) and isinstance(schema.get("$ref"), str):
        yield schema["$ref"]
    if isinstance(schema, (dict, list)):
        for one in schema.values() if isinstance(schema, dict) else schema:
            yield from _references(one)


def _rooted(schema: dict[str, Any], make: Callable[[Any], Any]) -> Schema:
    """Put a schema into that of an object, unless it is one."""
    if schema.get("type") == "object" and not any(name in schema for name in _NOT_AT_ROOT):
        return Schema(schema, make)
    root = {name: schema[name] for name in _ROOTED if name in schema}
    inner = {name: value for name, value in schema.items() if name not in root}
    wrapped = {
        **root,
        "type": "object",
        "properties": {_VALUE: inner},
        "required": [_VALUE],
        "additionalProperties": False,
    }

    def unwrapped(answer: Any) -> Any:
        if not isinstance(answer, dict) or _VALUE not in answer:
            raise CellError(f'The answer does not fulfil the schema: it has no "{_VALUE}".')
        return make(answer[_VALUE])

    return Schema(_moved(wrapped), unwrapped)


def _moved(schema: Any) -> Any:
    """Have references to the root, and to what moved with it, find what they mean."""
    if isinstance(schema, list):
        return [_moved(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {name: _moved(value) for name, value in schema.items()}
    target = schema.get("$ref")
    # Those to an anchor (#name) are found anywhere.
    if isinstance(target, str) and re.match(r"#(/(?!\$defs/|definitions/)|$)", target):
        moved["$ref"] = f"#/properties/{_VALUE}{target[1:]}"
    return moved


def _where(error: ValidationError | SchemaError) -> str:
    """The innermost place and what is wrong there: `$.age: '3' is not of type 'integer'.`"""
    return f"{error.json_path}: {_short(error.message)}."


def _problems(error: ValueError) -> str:
    """What pydantic says of each field, in one sentence."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return f"{_first_line(error)}."
    told = [
        f"{'.'.join(str(step) for step in one['loc']) or 'it'}: {one['msg']}" for one in errors()
    ]
    more = f"; and {len(told) - 3} more" if len(told) > 3 else ""
    return f"{_short('; '.join(told[:3]))}{more}."


def _first_line(error: Exception) -> str:
    return _short(str(error).strip().partition("\n")[0] or type(error).__name__)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
