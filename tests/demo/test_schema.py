"""Instances made from JSON schemas are valid ones."""

from typing import Any

import jsonschema
import pytest

from jupyter_ccapi.demo.schema import LONGEST, instance

NODE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["value", "next"],
        }
    },
}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}}},
        {
            "properties": {"a/b": {"$ref": "#/definitions/a~1b"}},
            "definitions": {"a/b": {"const": 7}},
        },
        {"type": "object", "required": ["free"]},
        {"type": "array", "items": {"type": "integer"}, "minItems": 3},
        {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True},
        {"type": "array", "items": {"type": "string"}, "minItems": 2, "uniqueItems": True},
        {"type": "array", "items": {"type": "integer"}, "minItems": 4, "uniqueItems": True},
        {"prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2},
        {"type": "integer", "minimum": 3},
        {"type": "integer", "exclusiveMinimum": 3, "multipleOf": 5},
        {"type": "integer", "maximum": -3},
        {"type": "integer", "exclusiveMaximum": -10, "multipleOf": 4},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "number", "minimum": 0.2, "maximum": 0.3},
        {"minimum": 2.5},
        {"type": "string", "minLength": 50},
        {"type": "string", "maxLength": 3},
        {"type": "string", "pattern": "^[A-Z]{3}$", "default": "no", "examples": ["abc", "ABC"]},
        {"type": ["null", "integer"], "minimum": 1},
        {"const": {"a": [1]}},
        {"enum": [3, "x"]},
        {"anyOf": [{"type": "integer"}, {"type": "string"}], "minimum": 2},
        {"oneOf": [{"type": "object", "properties": {"k": {"const": "a"}}, "required": ["k"]}]},
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"properties": {"b": {"enum": [1]}}, "required": ["b"]},
            ]
        },
        NODE,
        {"type": "array", "items": {"$ref": "#"}, "minItems": 0},
        {},
    ],
    ids=str,
)
def test_an_instance_is_valid(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(instance(schema), schema)


@pytest.mark.parametrize(
    "form", ["date", "email", "ipv4", "ipv6", "date-time", "time", "uuid", "uri"]
)
def test_a_string_has_the_format_that_is_asked(form: str) -> None:
    schema = {"type": "string", "format": form}
    jsonschema.validate(
        instance(schema), schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


def test_only_what_is_required_is_filled_in() -> None:
    properties = {"a": {"type": "integer"}, "b": {"type": "integer"}}
    assert instance({"properties": properties, "required": ["b"]}) == {"b": 0}
    assert instance({"properties": properties}) == {"a": 0, "b": 0}


@pytest.mark.parametrize(
    "schema",
    [
        None,
        True,
        "text",
        [1],
        {"type": 7},
        {"type": "object", "properties": [1], "required": "a"},
        {"type": "array", "minItems": "many"},
        {"type": "integer", "minimum": "low", "multipleOf": 0},
        {"type": "string", "minLength": -1, "maxLength": None},
        {"$ref": "#"},
        {"$ref": "https://example.com/elsewhere"},
        {"anyOf": []},
        {"anyOf": [3]},
    ],
    ids=str,
)
def test_what_is_no_schema_still_gets_something(schema: Any) -> None:
    instance(schema)


def test_a_schema_cannot_ask_for_more_than_fits() -> None:
    assert len(instance({"type": "string", "minLength": 10**12})) == LONGEST
    assert len(instance({"type": "array", "minItems": 10**12})) == LONGEST
