"""Strategies for the bodies of the three APIs: right ones, and ones with something wrong."""

import copy
import re
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Body = st.SearchStrategy[Any]

NAMES = st.sampled_from(["add", "sub", "look_up"])
IDS = st.sampled_from(["call_1", "call_2", "call:3", "x" * 70])
TEXTS = st.text(max_size=8)
WORDS = st.text("ab ", min_size=1, max_size=5).map(lambda text: f"a{text}")
URLS = st.sampled_from(["data:image/png;base64,iVBORw0KGgo=", "https://example.org/a.png"])
KEYS = st.text("abc_", min_size=1, max_size=6)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
#: Anything that can stand in JSON.
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(KEYS, JSON, max_size=2)
ARGUMENTS = st.sampled_from(["", "{}", '{"a": 1}', '{"a": {"b": []}}'])
SCHEMAS = st.sampled_from(
    [
        {"type": "object"},
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {}}},
    ]
)
WISHES = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(["chat", "agent"]),
        "allowed_tools": st.lists(NAMES, max_size=2),
        "max_budget_usd": st.floats(0.1, 5),
    },
)


def fields(
    required: dict[str, Body], optional: dict[str, Body] | None = None, **more: Body
) -> Body:
    """An object with these fields; optional ones may be null too."""
    maybe = {name: st.none() | value for name, value in (optional or {}).items()}
    return st.fixed_dictionaries(required, optional={**maybe, **more})


def of_type(kind: str, **more: Body) -> Body:
    """An object with this type."""
    return st.fixed_dictionaries({"type": st.just(kind), **more})


def _tools(*keys: str, **strategies: Body) -> Body:
    """Up to two tools with different names."""
    tool = fields(strategies)

    def name(tool: dict[str, Any]) -> str:
        for key in keys:
            tool = tool[key]
        return str(tool)

    return st.lists(tool, max_size=2, unique_by=name)


def chat_bodies() -> Body:
    """Bodies of chat completions."""
    text = of_type("text", text=WORDS)
    image = of_type("image_url", image_url=fields({"url": URLS}))
    words = WORDS | st.lists(text, min_size=1, max_size=2)
    call = fields({"id": IDS, "function": fields({"name": NAMES, "arguments": ARGUMENTS})})
    message = st.one_of(
        fields({"role": st.sampled_from(["system", "developer"]), "content": words}),
        fields({"role": st.just("user"), "content": words | st.lists(text | image, min_size=1)}),
        fields(
            {"role": st.just("assistant")},
            {"content": words, "tool_calls": st.lists(call, max_size=2)},
        ),
        fields({"role": st.just("tool"), "tool_call_id": IDS, "content": words}),
    )
    user = fields({"role": st.just("user"), "content": words})
    function = fields({"name": NAMES}, {"description": TEXTS, "parameters": SCHEMAS})
    formats = of_type("text") | of_type("json_object")
    formats |= of_type("json_schema", json_schema=fields({"name": KEYS, "schema": SCHEMAS}))
    return fields(
        {"messages": st.builds(lambda some, last: [*some, last], st.lists(message), user)},
        {
            "model": WORDS,
            "stream": st.booleans(),
            "stream_options": fields({"include_usage": st.booleans()}),
            "temperature": st.floats(0, 2),
            "stop": TEXTS | st.lists(TEXTS, max_size=4),
            "max_tokens": st.integers(1, 99),
            "reasoning_effort": st.sampled_from(["none", "low", "max"]),
            "response_format": formats,
            "tools": _tools("function", "name", type=st.just("function"), function=function),
            "tool_choice": st.sampled_from(["auto", "none", "required"]),
            "parallel_tool_calls": st.booleans(),
            "store": st.booleans(),
            "ccapi": WISHES,
        },
    ).map(lambda body: {key: body[key] for key in body if (key, body[key]) != ("model", None)})


def responses_bodies() -> Body:
    """Bodies of the Responses API."""
    text = of_type("input_text", text=WORDS)
    image = of_type("input_image", image_url=URLS)
    said = of_type("output_text", text=WORDS) | of_type("refusal", refusal=WORDS)
    words = WORDS | st.lists(text, min_size=1, max_size=2)
    item = st.one_of(
        fields({"role": st.sampled_from(["system", "developer"]), "content": words}),
        fields({"role": st.just("user"), "content": words | st.lists(text | image, min_size=1)}),
        of_type("message", role=st.just("assistant"), content=st.lists(said), id=KEYS),
        of_type("reasoning", id=KEYS, summary=st.just([])),
        of_type("function_call", call_id=IDS, name=NAMES, arguments=ARGUMENTS),
        of_type("function_call_output", call_id=IDS, output=words | st.lists(image)),
        of_type("item_reference", id=st.just("rs_1")),
    )
    user = fields({"role": st.just("user"), "content": words})
    tool = {"type": st.just("function"), "name": NAMES, "parameters": st.none() | SCHEMAS}
    formats = of_type("text") | of_type("json_object")
    formats |= of_type("json_schema", name=KEYS, schema=SCHEMAS)
    input = WORDS | st.builds(lambda some, last: [*some, last], st.lists(item), user)
    return fields(
        {"input": input},
        {
            "model": WORDS,
            "instructions": TEXTS,
            "previous_response_id": KEYS,
            "stream": st.booleans(),
            "max_output_tokens": st.integers(1, 99),
            "metadata": st.dictionaries(KEYS, TEXTS, max_size=2),
            "reasoning": fields({}, {"effort": st.sampled_from(["minimal", "high"])}),
            "text": fields({}, {"format": formats}),
            "tools": _tools("name", **tool),
            "tool_choice": st.sampled_from(["auto", "none", "required"]),
            "truncation": st.sampled_from(["auto", "disabled"]),
            "store": st.booleans(),
            "ccapi": WISHES,
        },
    )


def messages_bodies() -> Body:
    """Bodies of the Messages API."""
    text = of_type("text", text=WORDS)
    source = of_type("url", url=URLS)
    source |= of_type("base64", media_type=st.just("image/png"), data=st.just("iVBORw0KGgo="))
    image = of_type("image", source=source)
    result = of_type("tool_result", tool_use_id=IDS, content=WORDS | st.lists(text | image))
    call = of_type("tool_use", id=IDS, name=NAMES, input=OBJECTS)
    thought = of_type("thinking", thinking=TEXTS, signature=TEXTS)
    words = WORDS | st.lists(text, min_size=1, max_size=2)
    message = st.one_of(
        fields({"role": st.just("system"), "content": words}),
        fields({"role": st.just("user"), "content": st.lists(text | image | result, min_size=1)}),
        fields({"role": st.just("assistant"), "content": st.lists(text | call | thought)}),
    )
    user = fields({"role": st.just("user"), "content": words})
    tool = {"name": NAMES, "input_schema": SCHEMAS}
    return fields(
        {
            "max_tokens": st.integers(1, 99),
            "messages": st.builds(lambda some, last: [*some, last], st.lists(message), user),
        },
        {
            "system": words,
            "stream": st.booleans(),
            "stop_sequences": st.lists(TEXTS, max_size=5),
            "temperature": st.floats(0, 1),
            "thinking": of_type("enabled", budget_tokens=st.integers(1, 9)) | of_type("adaptive"),
            "output_config": fields({}, {"effort": st.sampled_from(["low", "max"])}),
            "tools": _tools("name", **tool),
            "tool_choice": of_type("auto") | of_type("none") | of_type("any"),
            "ccapi": WISHES,
        },
    )


def places(part: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all that is in a body."""
    inside: Any = ()
    if isinstance(part, dict):
        inside = part.items()
    elif isinstance(part, list):
        inside = enumerate(part)
    for key, value in inside:
        yield (*path, key)
        yield from places(value, (*path, key))


@st.composite
def spoilt(draw: st.DrawFn, bodies: Body) -> Any:
    """A body in which something is another thing, or is not there."""
    body = copy.deepcopy(draw(bodies))
    for _ in range(draw(st.integers(1, 2))):
        found = list(places(body))
        if not found:
            break
        *path, last = draw(st.sampled_from(found))
        part = body
        for key in path:
            part = part[key]
        if draw(st.booleans()):
            del part[last]
        else:
            part[last] = draw(JSON)
    return body


def is_place(body: Any, param: str) -> bool:
    """Whether a field is in a body, or is not there but could be."""
    steps = [step for step in re.split(r"\.|\[(\d+)\]", param) if step]
    for step in steps[:-1]:
        if isinstance(body, list) and step.isdigit() and int(step) < len(body):
            body = body[int(step)]
        elif isinstance(body, dict) and step in body:
            body = body[step]
        else:
            return False
    last = steps[-1]
    return isinstance(body, dict) or (
        isinstance(body, list) and last.isdigit() and int(last) < len(body)
    )
