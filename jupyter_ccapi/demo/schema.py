"""A small valid instance of a JSON schema, for structured output and for example tool calls.

Covers what schemas of answers and tools are made of: `type`, `const`, `enum`, `properties`,
`required`, `items`, `prefixItems`, lengths, bounds, `multipleOf`, `format`, `anyOf`, `oneOf`,
`allOf` and local `$ref`. A `pattern` is met only where `default` or `examples` has a match.
"""

import re
from collections.abc import Mapping, Sequence
from math import ceil, floor
from typing import Any

TEXT = "offline demo"
"""What a free string says."""

DEEP = 6
"""Levels after which only what is required is filled in, and recursion looks for a way out."""

LONGEST = 10_000
"""The most characters or items that a schema gets, however many it asks for."""

FORMATS = {
    "date": "2025-01-01",
    "date-time": "2025-01-01T00:00:00Z",
    "duration": "PT1S",
    "email": "demo@example.com",
    "hostname": "example.com",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "time": "00:00:00Z",
    "uri": "https://example.com/",
    "uri-reference": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}

KEYWORDS = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
"""The keywords that tell the type of a schema which does not name it."""


def instance(schema: Any) -> Any:
    """Return an instance of a JSON schema, as small as is still worth looking at.

    An object gets its required properties, or all of them where none is required. Anything that
    is not a schema gets a text.
    """
    return _instance(schema, schema, 0)


def _instance(schema: Any, root: Any, depth: int) -> Any:
    if not isinstance(schema, Mapping):
        return TEXT
    schema = _resolved(schema, root, depth)
    if "const" in schema:
        return schema["const"]
    if _list(schema.get("enum")):
        return schema["enum"][0]
    kind = _type(schema, depth)
    if kind == "object":
        return _object(schema, root, depth)
    if kind == "array":
        return _array(schema, root, depth)
    if kind in ("integer", "number"):
        return _number(schema, kind)
    if kind == "string":
        return _string(schema)
    return False if kind == "boolean" else None


def _resolved(schema: Mapping[str, Any], root: Any, depth: int) -> dict[str, Any]:
    """Return the schema with its `$ref`, first branch and `allOf` parts merged into it."""
    merged = dict(schema)
    for _ in range(32):
        parts = list(_list(merged.pop("allOf", None)))
        if "$ref" in merged:
            parts.append(_target(root, merged.pop("$ref")))
        for union in ("anyOf", "oneOf"):
            if branches := _list(merged.pop(union, None)):
                parts.append(_branch(branches, depth))
        if not parts:
            break
        for part in parts:
            if isinstance(part, Mapping):
                merged = _merge(merged, part)
    return merged


def _merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**second, **first}
    if isinstance(first.get("properties"), Mapping) and isinstance(
        second.get("properties"), Mapping
    ):
        merged["properties"] = {**second["properties"], **first["properties"]}
    if required := [*_list(first.get("required")), *_list(second.get("required"))]:
        merged["required"] = required
    return merged


def _branch(branches: Sequence[Any], depth: int) -> Any:
    """Return the first branch, or deep inside a recursion the one that ends it."""
    if depth > DEEP:
        for branch in branches:
            if isinstance(branch, Mapping) and "$ref" not in branch:
                return branch
    return branches[0]


def _target(root: Any, reference: Any) -> Any:
    found = root
    if not isinstance(reference, str) or not reference.startswith("#"):
        return {}
    for part in reference[1:].strip("/").split("/"):
        if part:
            key = part.replace("~1", "/").replace("~0", "~")
            found = found.get(key, {}) if isinstance(found, Mapping) else {}
    return found


def _type(schema: Mapping[str, Any], depth: int) -> str:
    kind = schema.get("type")
    kinds = [kind] if isinstance(kind, str) else [k for k in _list(kind) if isinstance(k, str)]
    if depth > DEEP and "null" in kinds:
        return "null"
    if kinds:
        return next((k for k in kinds if k != "null"), "null")
    for name, keywords in KEYWORDS.items():
        if any(keyword in schema for keyword in keywords):
            return name
    return "string"


def _object(schema: Mapping[str, Any], root: Any, depth: int) -> dict[str, Any]:
    properties = schema.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    required = [str(name) for name in _list(schema.get("required"))]
    names = required or ([] if depth > DEEP else list(properties))
    return {name: _instance(properties.get(name, {}), root, depth + 1) for name in names}


def _array(schema: Mapping[str, Any], root: Any, depth: int) -> list[Any]:
    least = _size(schema.get("minItems"), 0)
    items = schema.get("items", {})
    made = [_instance(part, root, depth + 1) for part in _list(schema.get("prefixItems"))]
    while len(made) < least:
        made.append(_instance(items, root, depth + 1))
    return _distinct(made, items) if schema.get("uniqueItems") is True else made


def _distinct(made: list[Any], items: Any) -> list[Any]:
    choices = _list(items.get("enum")) if isinstance(items, Mapping) else []
    distinct: list[Any] = []
    for number, value in enumerate(made):
        if value in distinct:
            if number < len(choices):
                value = choices[number]
            elif isinstance(value, str):
                value = f"{value} {number + 1}"
            elif isinstance(value, int | float):
                value = value + number
        distinct.append(value)
    return distinct


def _number(schema: Mapping[str, Any], kind: str) -> int | float:
    """Return 0, or the number nearest to a bound that is inside all of them."""
    step = _bound(schema, "multipleOf") or 1
    low, above = _bound(schema, "minimum"), _bound(schema, "exclusiveMinimum")
    high, below = _bound(schema, "maximum"), _bound(schema, "exclusiveMaximum")
    candidates: list[int | float] = [0]
    if low is not None:
        candidates.append(ceil(low / step) * step)
    if above is not None:
        candidates.append((floor(above / step) + 1) * step)
    if high is not None:
        candidates.append(floor(high / step) * step)
    if below is not None:
        candidates.append((ceil(below / step) - 1) * step)
    lows = [bound for bound in (low, above) if bound is not None]
    highs = [bound for bound in (high, below) if bound is not None]
    if kind == "number" and lows and highs:
        candidates.append((max(lows) + min(highs)) / 2)
    for value in candidates:
        inside = (low is None or low <= value) and (high is None or value <= high)
        if inside and (above is None or above < value) and (below is None or value < below):
            return int(value) if kind == "integer" else value
    return 0


def _bound(schema: Mapping[str, Any], name: str) -> int | float | None:
    value = schema.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _size(value: Any, otherwise: int) -> int:
    """Return a length that a schema asks for, within reason."""
    return min(value, LONGEST) if isinstance(value, int) and value >= 0 else otherwise


def _string(schema: Mapping[str, Any]) -> str:
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        for offered in (schema.get("default"), *_list(schema.get("examples"))):
            if isinstance(offered, str) and re.search(pattern, offered):
                return offered
    if (text := FORMATS.get(str(schema.get("format")))) is not None:
        return text
    text = TEXT.ljust(_size(schema.get("minLength"), 0), ".")
    return text[: _size(schema.get("maxLength"), len(text))]


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []
