"""Bodies of POST /v1/chat/completions: what they become, and what is refused."""

from typing import Any

import pytest

from jupyter_ccapi.claude import Message
from jupyter_ccapi.openai.chat_request import parse_chat
from jupyter_ccapi.openai.errors import APIError
from jupyter_ccapi.openai.fields import check_whole
from jupyter_ccapi.openai.request import Choice, Request
from jupyter_ccapi.openai.validation import read_json

HELLO = {"role": "user", "content": "Hello"}


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
TIME = {"type": "function", "function": {"name": "time"}}


def parse(*messages: dict[str, Any], **fields: Any) -> Request:
    """Parse a body with these messages."""
    return parse_chat({"messages": list(messages), **fields}).request


def calls(*ids: str, content: str | None = None) -> dict[str, Any]:
    """An assistant's message that calls for the weather."""
    function = {"name": "weather", "arguments": '{"city": "Oslo"}'}
    called = [{"id": id, "type": "function", "function": function} for id in ids]
    return {"role": "assistant", "content": content, "tool_calls": called}


def result(id: str, content: Any = "Rain.") -> dict[str, Any]:
    """What a tool answered."""
    return {"role": "tool", "tool_call_id": id, "content": content}


def test_the_last_user_message_is_the_prompt_and_the_others_are_history() -> None:
    request = parse(
        HELLO, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Bye"}
    )
    assert request.prompt == "Bye"
    assert request.messages[:-1] == (Message("user", "Hello"), Message("assistant", "Hi"))


def test_system_and_developer_messages_are_joined_in_order() -> None:
    request = parse(
        {"role": "system", "content": "One."},
        HELLO,
        {"role": "developer", "content": [{"type": "text", "text": "Two."}]},
    )
    assert request.system_prompt == "One.\n\nTwo."
    assert request.prompt == "Hello"


def test_no_system_message_means_no_system_prompt() -> None:
    assert parse(HELLO).system_prompt is None
    assert parse({"role": "system", "content": ""}, HELLO).system_prompt is None


def test_neighbouring_messages_of_one_role_are_one_turn() -> None:
    request = parse(HELLO, {"role": "user", "content": "Are you there?"})
    assert request.messages == (Message("user", "Hello\n\nAre you there?"),)


def test_text_parts_are_put_together_as_they_are() -> None:
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "\nb"}]
    assert parse({"role": "user", "content": parts}).prompt == "a \nb"


def test_text_is_kept_to_the_letter() -> None:
    text = "  @/etc/passwd /clear <x> \u2028 \U0001f600 "
    assert parse({"role": "user", "content": text}).prompt == text


def test_stream_and_usage_are_read_and_null_is_as_good_as_nothing() -> None:
    asked = {"messages": [HELLO], "stream": True, "stream_options": {"include_usage": True}}
    assert parse_chat(asked).include_usage
    assert parse_chat(asked).request.stream
    nothing = dict.fromkeys(("stream", "stream_options", "temperature", "n", "tools", "ccapi"))
    silent = parse_chat({"messages": [HELLO], **nothing})
    assert (silent.request.stream, silent.include_usage, silent.request.ignored) == (
        False,
        False,
        (),
    )


@pytest.mark.parametrize(
    ("asked", "given"),
    [("none", "low"), ("minimal", "low"), ("medium", "medium"), ("xhigh", "xhigh"), (None, None)],
)
def test_reasoning_effort_becomes_effort(asked: str | None, given: str | None) -> None:
    assert parse(HELLO, reasoning_effort=asked).effort == given


def test_what_has_no_effect_is_named_and_what_changes_nothing_is_not() -> None:
    request = parse(
        HELLO, temperature=0, max_tokens=5, seed=1, presence_penalty=0, stop=[], logit_bias={}
    )
    assert request.ignored == ("temperature", "seed")


def test_unknown_parameters_are_tolerated() -> None:
    request = parse(HELLO, store=True, service_tier="auto", brand_new={"a": 1})
    assert (request.prompt, request.ignored) == ("Hello", ())


def test_limits_are_read_from_either_of_their_names() -> None:
    assert parse(HELLO, max_tokens=5).max_tokens == 5
    assert parse(HELLO, max_completion_tokens=6).max_tokens == 6
    assert parse(HELLO, stop="END").stop == ("END",)
    assert parse(HELLO, stop=["a", "b"]).stop == ("a", "b")


def test_stop_sequences_do_not_cut_json_and_that_is_said() -> None:
    assert parse(HELLO, stop="}", response_format={"type": "json_object"}).ignored == ("stop",)


def test_calls_and_results_become_the_models_own() -> None:
    request = parse(
        HELLO,
        calls("a", "b", content="Let me see."),
        result("b"),
        result("a", [{"type": "text", "text": "Sun"}, {"type": "text", "text": "."}]),
        tools=[WEATHER],
    )
    _, assistant, results = check_whole(request.messages)
    assert assistant.blocks[0] == {"type": "text", "text": "Let me see."}
    use = {"type": "tool_use", "name": "mcp__client__weather", "input": {"city": "Oslo"}}
    assert assistant.blocks[1:] == [{**use, "id": "a"}, {**use, "id": "b"}]
    assert results.blocks == [
        {"type": "tool_result", "tool_use_id": "b", "content": "Rain."},
        {"type": "tool_result", "tool_use_id": "a", "content": "Sun."},
    ]


def test_ids_of_other_makers_are_made_fit_for_the_model() -> None:
    request = parse(HELLO, calls("call|x:1"), result("call|x:1"), tools=[WEATHER])
    _, assistant, results = check_whole(request.messages)
    assert results.blocks[0]["tool_use_id"] == assistant.blocks[0]["id"]
    assert assistant.blocks[0]["id"].startswith("call_")


@pytest.mark.parametrize(
    ("asked", "choice"),
    [
        (None, Choice()),
        ("auto", Choice()),
        ("none", Choice("none")),
        ("required", Choice("forced", ("weather", "time"))),
        ({"type": "function", "function": {"name": "time"}}, Choice("forced", ("time",))),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TIME]}},
            Choice("forced", ("time",)),
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TIME]}},
            Choice("auto", ("time",)),
        ),
    ],
)
def test_tool_choice(asked: Any, choice: Choice) -> None:
    assert parse(HELLO, tools=[WEATHER, TIME], tool_choice=asked).choice == choice


def test_a_tool_without_parameters_takes_an_empty_object() -> None:
    (tool,) = parse(HELLO, tools=[TIME]).tools
    assert (tool.name, dict(tool.parameters)) == ("time", {"properties": {}, "type": "object"})


def test_images_are_still_to_be_read_and_know_their_field() -> None:
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}}
    request = parse({"role": "user", "content": [{"type": "text", "text": "What?"}, url]})
    assert request.prompt == [
        {"type": "text", "text": "What?"},
        {
            "type": "image",
            "source": {
                "type": "url",
                "url": "data:image/png;base64,AA",
                "param": "messages[0].content[1].image_url.url",
            },
        },
    ]


def test_an_agent_is_asked_for_in_a_field_of_our_own() -> None:
    wish = parse(HELLO, ccapi={"mode": "agent", "allowed_tools": ["Read"]}).agent
    assert (wish.mode, wish.allowed_tools, wish.cwd) == ("agent", ("Read",), None)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([], None),
        ("hello", None),
        (None, None),
        ({}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["Hello"]}, "messages[0]"),
        ({"messages": [{"content": "Hello"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "Hello"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "messages[0].content"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"text": "a"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
        ),
        ({"messages": [HELLO, {"role": "assistant", "content": "Hi"}]}, "messages"),
        ({"messages": [{"role": "system", "content": "Be brief."}]}, "messages"),
        ({"messages": [HELLO], "model": 4}, "model"),
        ({"messages": [HELLO], "model": ""}, "model"),
        ({"messages": [HELLO], "model": "claude-" + "a" * 300}, "model"),
        ({"messages": [HELLO], "stream": "yes"}, "stream"),
        ({"messages": [HELLO], "stream_options": []}, "stream_options"),
        ({"messages": [HELLO], "temperature": "hot"}, "temperature"),
        ({"messages": [HELLO], "temperature": 3}, "temperature"),
        ({"messages": [HELLO], "max_tokens": 0}, "max_tokens"),
        ({"messages": [HELLO], "stop": 3}, "stop"),
        ({"messages": [HELLO], "n": 0}, "n"),
        ({"messages": [HELLO], "reasoning_effort": "huge"}, "reasoning_effort"),
        ({"messages": [HELLO], "response_format": {"type": "xml"}}, "response_format.type"),
        (
            {"messages": [HELLO], "response_format": {"type": "json_schema"}},
            "response_format.json_schema",
        ),
        ({"messages": [HELLO], "ccapi": {"mod": "agent"}}, "ccapi.mod"),
        ({"messages": [HELLO], "ccapi": {"max_budget_usd": 0}}, "ccapi.max_budget_usd"),
        ({"messages": [HELLO], "tools": [{"type": "function"}]}, "tools[0].function"),
        ({"messages": [HELLO], "tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
        (
            {"messages": [HELLO], "tools": [{"type": "function", "function": {"name": "a b"}}]},
            "tools[0].function.name",
        ),
        ({"messages": [HELLO], "tool_choice": "required"}, "tool_choice"),
        (
            {
                "messages": [HELLO],
                "tools": [TIME],
                "tool_choice": {"type": "function", "function": {"name": "weather"}},
            },
            "tool_choice.function.name",
        ),
        ({"messages": [HELLO, {"role": "tool", "content": "42"}]}, "messages[1].tool_call_id"),
        (
            {"messages": [HELLO, {"role": "assistant", "tool_calls": [{"id": "1"}]}, HELLO]},
            "messages[1].tool_calls[0].function",
        ),
        (
            {
                "messages": [
                    HELLO,
                    {
                        "role": "assistant",
                        "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "["}}],
                    },
                    result("1"),
                ]
            },
            "messages[1].tool_calls[0].function.arguments",
        ),
    ],
)
def test_a_wrong_body_is_a_400_that_names_the_field(body: Any, param: str | None) -> None:
    with pytest.raises(APIError) as caught:
        parse_chat(body)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("functions", [{"name": "f"}]),
        ("function_call", {"name": "f"}),
        ("web_search_options", {}),
        ("modalities", ["text", "audio"]),
    ],
)
def test_what_cannot_be_honoured_is_refused_and_not_passed_over(field: str, value: Any) -> None:
    with pytest.raises(APIError) as caught:
        parse(HELLO, **{field: value})
    assert (caught.value.status, caught.value.param) == (400, field)
    assert caught.value.code == "unsupported_parameter"


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": [{"type": "input_audio"}]}, "messages[1].content[0]"),
        ({"role": "user", "content": [{"type": "file"}]}, "messages[1].content[0]"),
        ({"role": "assistant", "function_call": {"name": "f"}}, "messages[1].function_call"),
        ({"role": "function", "name": "f", "content": "42"}, "messages[1].role"),
    ],
)
def test_messages_that_cannot_be_given_to_the_model_are_refused(
    message: dict[str, Any], param: str
) -> None:
    with pytest.raises(APIError) as caught:
        parse(HELLO, message, HELLO)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strong"},
        {"type": "array"},
        {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1/secret"}}},
    ],
)
def test_a_schema_that_cannot_be_one_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(APIError) as caught:
        parse(
            HELLO,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        )
    assert caught.value.param == "response_format.json_schema.schema"
    with pytest.raises(APIError) as tool:
        parse(HELLO, tools=[{"type": "function", "function": {"name": "f", "parameters": schema}}])
    assert tool.value.param == "tools[0].function.parameters"


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "assistant", "content": "Hi"}, HELLO], "messages"),
        ([HELLO, result("a")], "messages[1].tool_call_id"),
        ([HELLO, calls("a"), result("b")], "messages[2].tool_call_id"),
        ([HELLO, calls("a"), result("a"), result("a")], "messages[3].tool_call_id"),
        ([HELLO, calls("a"), HELLO, calls("b"), result("a")], "messages[4].tool_call_id"),
    ],
)
def test_a_conversation_as_a_whole_must_make_sense(
    messages: list[dict[str, Any]], param: str
) -> None:
    with pytest.raises(APIError) as caught:
        check_whole(parse(*messages).messages)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"{", b'{"a": }', b"\xff\xfe", b"[" * 100_000, b"1" * 5000),
        # Python's reader would make something of these.
        *(b"NaN", b"-Infinity", b'{"a": 1e999}', b"[-1e999]", b"1" * 400),
    ],
)
def test_broken_json_is_a_400_in_a_sentence(raw: bytes) -> None:
    with pytest.raises(APIError) as caught:
        read_json(raw)
    assert caught.value.status == 400
    assert "The body is not" in caught.value.message
    assert len(caught.value.message) < 200


def test_numbers_are_read_as_far_as_they_are_finite() -> None:
    largest = int(1.7e308)
    assert read_json(b"[1, -2.5, 1.7e308, %d]" % largest) == [1, -2.5, 1.7e308, largest]
