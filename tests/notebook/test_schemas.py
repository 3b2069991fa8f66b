"""What `-f` puts into a prompt, and what `--schema` makes of an answer."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from IPython.core.error import UsageError
from jsonschema import Draft202012Validator

from jupyter_ccapi.claude.errors import InvalidOption
from jupyter_ccapi.notebook.errors import CellError
from jupyter_ccapi.notebook.interpolation import interpolate
from jupyter_ccapi.notebook.schemas import read_schema, schema_option

pydantic = pytest.importorskip("pydantic")


def test_expressions_are_put_into_a_prompt() -> None:
    """With conversions and formats, as in an f-string."""
    names = {"rows": [1, 2, 3], "name": "Ann", "width": 8, "table": {"a:b": "x"}}
    text = "{len(rows)} rows, {sum(rows)/2:.2f}, {name!r:>{width}}, {table['a:b']} {{braces}}"
    assert interpolate(text, names) == "3 rows, 3.00,    'Ann', x {braces}"
    assert interpolate("{[n * width for n in rows]}", names) == "[8, 16, 24]"


def test_what_is_put_in_is_not_looked_into_again() -> None:
    """A value with braces in it is a value."""
    assert interpolate("{text}", {"text": "{1/0}"}) == "{1/0}"
    assert interpolate("No braces, no values.", {}) == "No braces, no values."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{nothing}", "-f: {nothing} cannot be evaluated: NameError: name 'nothing' is not"),
        ("{1/0}", "-f: {1/0} cannot be evaluated: ZeroDivisionError: division by zero"),
        ("{a b}", "-f: {a b} cannot be evaluated: SyntaxError: "),
        ("{x = 1}", "-f: {x = 1} cannot be evaluated: SyntaxError: "),
        ("{'a':d}", "-f: {'a'} cannot be written as text: ValueError: "),
        ("{}", "-f: {} holds no expression. Write {{ and }} for braces."),
        ("{ }", "-f: {} holds no expression."),
        ('{"a": 1', "-f: the braces of the prompt cannot be read ("),
        ("a } b", "-f: the braces of the prompt cannot be read ("),
        ("{1 if 2 != 3 else 4}", "give an expression with a colon or a ! a name first."),
    ],
)
def test_what_cannot_be_put_in_is_a_sentence(text: str, message: str) -> None:
    """It names the expression and what was wrong with it."""
    with pytest.raises(UsageError) as caught:
        interpolate(text, {})
    assert message in str(caught.value)
    assert str(caught.value).startswith("-f: ")
    assert caught.value.__context__ is None or caught.value.__suppress_context__


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
}


def test_a_schema_of_an_object_is_taken_as_it_is() -> None:
    """And the answer is checked, and given as it is."""
    schema = schema_option("PERSON", {"PERSON": PERSON})
    assert schema.json == PERSON
    assert schema.make({"name": "Ann"}) == {"name": "Ann"}
    with pytest.raises(CellError, match=r"^The answer does not fulfil the schema: \$\.age: 'x' is"):
        schema.make({"name": "Ann", "age": "x"})


@pytest.mark.parametrize(
    ("wanted", "value", "wrong"),
    [
        ({"type": "array", "items": {"type": "integer"}}, [1, 2], ["x"]),
        ({"enum": ["yes", "no"]}, "yes", "perhaps"),
        ({"type": "object", "oneOf": [{"required": ["a"]}]}, {"a": 1}, {}),
        ({"type": ["object", "null"]}, None, 3),
        (
            {"type": "array", "items": {"$ref": "#/$defs/N"}, "$defs": {"N": {"type": "number"}}},
            [1.5],
            ["x"],
        ),
        ({"type": "array", "items": {"$ref": "#"}}, [[], [[]]], [1]),
        (
            {
                "type": "array",
                "prefixItems": [{"type": "string"}, {"$ref": "#/prefixItems/0"}],
            },
            ["a", "b"],
            ["a", 1],
        ),
    ],
    ids=["list", "choice", "one of", "or nothing", "definitions", "of itself", "reference"],
)
def test_any_other_schema_is_that_of_a_value_in_an_object(
    wanted: Mapping[str, Any], value: Any, wrong: Any
) -> None:
    """What the core is given means the same: it takes what the schema takes, and no more."""
    schema = read_schema(wanted)
    assert schema.json["type"] == "object"
    sent = Draft202012Validator(schema.json)
    sent.check_schema(schema.json)

    assert sent.is_valid({"value": value})
    assert schema.make({"value": value}) == value
    assert not sent.is_valid({"value": wrong})
    with pytest.raises(CellError, match="does not fulfil the schema: "):
        schema.make({"value": wrong})
    with pytest.raises(CellError, match='has no "value"'):
        schema.make({})


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("{'type': 'objekt'}", r"This is no JSON Schema: \$\.type: 'objekt' is not valid"),
        (
            "{'type': 'object', 'properties': {'a': {'minimum': 'x'}}}",
            r"This is no JSON Schema: \$\.properties\.a\.minimum: 'x' is not of type 'number'",
        ),
        ("{'$ref': '#/$defs/No'}", r"The schema refers to '#/\$defs/No', which it does not hold"),
        ("{'$ref': 'http://127.0.0.1:9/s'}", "refers to 'http://127.0.0.1:9/s', which it does not"),
        ("{'enum': {1, 2}}", "The schema cannot be written as JSON: "),
        ("{'minimum': float('nan')}", "The schema cannot be written as JSON: "),
        ("'object'", "A schema is a dict .* and not 'object'"),
        ("[1]", r"A schema is a dict .* and not \[1\]"),
        ("Nope", "Nope cannot be evaluated: NameError: name 'Nope' is not defined"),
        ("object()", "A schema is a dict"),
        ("type('Own', (), {})", "pydantic can make no schema of .*Own"),
    ],
)
def test_what_is_no_schema_is_a_sentence(expression: str, message: str) -> None:
    """Before anything is sent, with the place in the schema."""
    with pytest.raises(UsageError, match=rf"^--schema: .*{message}") as caught:
        schema_option(expression, {})
    assert "\n" not in str(caught.value)


class Person(pydantic.BaseModel):  # type: ignore[misc, name-defined]
    """A model as a user writes it."""

    model_config = {"strict": True}

    name: str
    born: date
    friends: list["Person"] = []


class Group(pydantic.BaseModel):  # type: ignore[misc, name-defined]
    """One that has another."""

    people: list[Person]


@dataclass
class Point:
    """What pydantic knows as well."""

    x: int
    y: int = 0


ANN = {"name": "Ann", "born": "2001-02-03"}


def test_a_pydantic_model_gives_its_instance() -> None:
    """Read as JSON: a date is a text there, and a strict model takes it."""
    group = read_schema(Group).make({"people": [ANN]})
    assert group == Group(people=[Person(name="Ann", born=date(2001, 2, 3))])


@pytest.mark.parametrize(
    ("wanted", "answer", "value"),
    [
        (Person, {"value": ANN}, Person(name="Ann", born=date(2001, 2, 3))),
        (list[Person], {"value": [ANN]}, [Person(name="Ann", born=date(2001, 2, 3))]),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (int | None, {"value": None}, None),
        (Point, {"x": 1}, Point(1)),
        (pydantic.TypeAdapter(list[int]), {"value": [1]}, [1]),
        (pydantic.RootModel[list[int]], {"value": [1]}, pydantic.RootModel[list[int]]([1])),
    ],
    ids=["recursive", "list", "dict", "union", "dataclass", "adapter", "root model"],
)
def test_a_type_gives_a_value_of_it(wanted: Any, answer: Any, value: Any) -> None:
    """In an object where it is none."""
    schema = read_schema(wanted)
    assert schema.json["type"] == "object"
    Draft202012Validator.check_schema(schema.json)
    assert Draft202012Validator(schema.json).is_valid(answer)
    assert schema.make(answer) == value


def test_an_answer_that_a_model_refuses_is_a_sentence() -> None:
    """With the fields and what pydantic says of them."""
    with pytest.raises(CellError) as caught:
        read_schema(list[Person]).make({"value": [{"name": 3}] * 4})
    assert str(caught.value).startswith("The answer is no list[")
    assert "0.name: Input should be a valid string; 0.born: Field required" in str(caught.value)
    assert str(caught.value).endswith("; and 5 more.")
    with pytest.raises(CellError, match=r"^The answer is no Point: x: Field required\.$"):
        read_schema(Point).make({})


def test_without_pydantic_a_type_is_refused_and_a_dict_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It need not be installed."""
    monkeypatch.setitem(sys.modules, "pydantic", None)
    assert read_schema(PERSON).json == PERSON
    with pytest.raises(InvalidOption, match=r"Point.*, and it is not installed\.$"):
        read_schema(Point)
