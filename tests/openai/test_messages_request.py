"""Bodies of POST /v1/messages: what they become, and what is refused."""

from typing import Any

import pytest

from jupyter_ccapi.claude import Message
from jupyter_ccapi.openai.errors import APIError
from jupyter_ccapi.openai.messages_request import parse_count_tokens, parse_messages
from jupyter_ccapi.openai.request import Choice, Request

HELLO = {"role": "user", "content": "Hello"}
ADD = {"name": "add", "description": "Adds.", "input_schema": {"type": "object"}}
SUB = {"type": "custom", "name": "sub", "input_schema": {"type": "object"}}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "2"}


def parse(*messages: dict[str, Any], **fields: Any) -> Request:
    """Parse a body with these messages."""
    return parse_messages({"messages": list(messages) or [HELLO], "max_tokens": 9, **fields})


def test_messages_are_taken_as_they_are() -> None:
    request = parse(
        HELLO,
        {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Bye", "cache_control": {"type": "ephemeral"}}],
        },
    )
    assert request.messages == (
        Message("user", "Hello"),
        Message("assistant", "Hi"),
        Message("user", "Bye"),
    )


def test_a_system_prompt_is_text_or_blocks_and_may_stand_among_the_messages() -> None:
    assert parse(system="Be brief.").system_prompt == "Be brief."
    blocks = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
    request = parse({"role": "system", "content": "Three."}, HELLO, system=blocks)
    assert request.system_prompt == "One.\n\nTwo.\n\nThree."
    assert request.messages == (Message("user", "Hello"),)
    assert parse().system_prompt is None


def test_calls_have_their_long_name_inside_and_results_name_their_field() -> None:
    request = parse(
        HELLO,
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "Hm.", "signature": ""}, CALL],
        },
        {"role": "user", "content": [{"type": "text", "text": "Here."}, RESULT]},
        tools=[ADD],
    )
    _, call, results = request.messages
    assert call.blocks == [{**CALL, "name": "mcp__client__add"}]
    result, text = results.blocks
    assert result == {**RESULT, "param": "messages[2].content[1].tool_use_id"}
    assert text == {"type": "text", "text": "Here."}


def test_a_result_may_be_blocks_nothing_or_an_error() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    content = [{"type": "text", "text": "See:"}, image]
    request = parse(
        HELLO,
        {"role": "assistant", "content": [CALL, {**CALL, "id": "toolu_2"}]},
        {
            "role": "user",
            "content": [
                {**RESULT, "content": content, "is_error": True},
                {"type": "tool_result", "tool_use_id": "toolu_2"},
            ],
        },
    )
    first, second = request.messages[-1].blocks
    assert first["is_error"] is True
    assert first["content"][1]["source"]["param"] == "messages[2].content[0].content[1].source.url"
    assert second["content"] == ""


def test_images_are_still_to_be_read_also_where_they_came_along() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    request = parse({"role": "user", "content": [{"type": "image", "source": source}]})
    (image,) = request.messages[0].blocks
    assert image["source"] == {
        "type": "url",
        "url": "data:image/png;base64,iVBORw0KGgo=",
        "param": "messages[0].content[0].source.data",
    }


def test_parameters_are_read() -> None:
    request = parse(
        model="opus",
        stream=True,
        stop_sequences=["a", "b", "c", "d", "e"],
        output_config={
            "effort": "high",
            "format": {"type": "json_schema", "schema": {"type": "object"}},
        },
        metadata={"user_id": "u"},
        conversation_id="conv_1",
        store=False,
    )
    assert (request.model, request.stream, request.max_tokens) == ("opus", True, 9)
    assert request.stop == ("a", "b", "c", "d", "e")
    assert (request.effort, request.schema) == ("high", {"type": "object"})
    assert (request.conversation, request.store) == ("conv_1", False)


def test_what_has_no_effect_is_named_and_what_changes_nothing_is_not() -> None:
    request = parse(
        temperature=0.5, top_p=0.5, top_k=5, thinking={"type": "enabled", "budget_tokens": 1024}
    )
    assert request.ignored == ("temperature", "top_p", "top_k", "thinking")
    harmless = parse(thinking={"type": "adaptive"}, service_tier="auto", top_k=None, betas=["a"])
    assert harmless.ignored == ()


@pytest.mark.parametrize(
    ("asked", "choice", "parallel"),
    [
        (None, Choice(), True),
        ({"type": "auto"}, Choice(), True),
        ({"type": "auto", "disable_parallel_tool_use": True}, Choice(), False),
        ({"type": "none"}, Choice("none"), True),
        ({"type": "any"}, Choice("forced", ("add", "sub")), True),
        ({"type": "tool", "name": "sub"}, Choice("forced", ("sub",)), True),
    ],
)
def test_tool_choices(asked: Any, choice: Choice, parallel: bool) -> None:
    request = parse(tools=[ADD, SUB], tool_choice=asked)
    assert [tool.name for tool in request.tools] == ["add", "sub"]
    assert (request.choice, request.parallel) == (choice, parallel)


def test_tokens_are_counted_of_the_same_body_without_a_bound() -> None:
    body = {"messages": [HELLO], "system": "Be brief."}
    request = parse_count_tokens(body)
    assert (request.system_prompt, request.max_tokens) == ("Be brief.", None)
    with pytest.raises(APIError) as caught:
        parse_messages(body)
    assert (caught.value.param, caught.value.code) == ("max_tokens", "missing_required_parameter")


def block(given: Any, role: str = "user") -> dict[str, Any]:
    """Fields of a body whose only message has this block."""
    return {"messages": [{"role": role, "content": [given]}, HELLO]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [HELLO, {"role": "assistant", "content": "Hi"}]}, "messages"),
        ({"messages": [{"role": "system", "content": "Be brief."}]}, "messages"),
        (block({"text": "a"}), "messages[0].content[0].type"),
        (block({"type": "text"}), "messages[0].content[0].text"),
        (block({"type": "document"}), "messages[0].content[0].type"),
        (block({"type": "search_result"}), "messages[0].content[0].type"),
        (block({"type": "server_tool_use"}, "assistant"), "messages[0].content[0].type"),
        (block(CALL), "messages[0].content[0].type"),
        (block(RESULT, "assistant"), "messages[0].content[0].type"),
        (block({**CALL, "input": "{}"}, "assistant"), "messages[0].content[0].input"),
        (block({"type": "tool_result"}), "messages[0].content[0].tool_use_id"),
        (
            block({**RESULT, "content": [{"type": "document"}]}),
            "messages[0].content[0].content[0].type",
        ),
        (block({"type": "image"}), "messages[0].content[0].source"),
        (
            block({"type": "image", "source": {"type": "file", "file_id": "f"}}),
            "messages[0].content[0].source.type",
        ),
        (
            block({"type": "image", "source": {"type": "base64", "media_type": "image/png"}}),
            "messages[0].content[0].source.data",
        ),
        ({"model": ""}, "model"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"system": 3}, "system"),
        ({"system": [{"type": "image", "source": {"type": "url", "url": "a"}}]}, "system[0].type"),
        ({"stop_sequences": "a"}, "stop_sequences"),
        ({"temperature": 2}, "temperature"),
        ({"thinking": {"type": "hard"}}, "thinking.type"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "array"}}}},
            "output_config.format.schema",
        ),
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tools": [ADD, {"type": "web_search_20250305", "name": "f"}]}, "tools[1].type"),
        ({"tools": [{**ADD, "input_schema": {"type": "nil"}}]}, "tools[0].input_schema"),
        ({"tools": [ADD, ADD]}, "tools[1].name"),
        ({"tools": [ADD], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tools": [ADD], "tool_choice": {"type": "tool", "name": "f"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "any"}}, "tool_choice.type"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"ccapi": {"mode": "robot"}}, "ccapi.mode"),
    ],
)
def test_a_wrong_body_is_a_400_that_names_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(APIError) as caught:
        parse(**fields)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(("body", "param"), [(None, None), ([], None), ({}, "messages")])
def test_what_is_no_body_is_a_400(body: Any, param: str | None) -> None:
    with pytest.raises(APIError) as caught:
        parse_messages(body)
    assert (caught.value.status, caught.value.param) == (400, param)
