"""Bodies of POST /v1/chat/completions: what they become, and what is refused."""

from typing import Any

import pytest

from jupyter_ccapi.claude import Message
from jupyter_ccapi.openai.chat_request import ChatRequest, parse_chat
from jupyter_ccapi.openai.errors import APIError
from jupyter_ccapi.openai.validation import read_json

HELLO = {"role": "user", "content": "Hello"}


def parse(*messages: dict[str, Any], **fields: Any) -> ChatRequest:
    """Parse a body with these messages."""
    return parse_chat({"messages": list(messages), **fields})


def test_the_last_user_message_is_the_prompt_and_the_others_are_history() -> None:
    request = parse(
        HELLO, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Bye"}
    )
    assert request.prompt == "Bye"
    assert request.history == (Message("user", "Hello"), Message("assistant", "Hi"))


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
    assert (request.prompt, request.history) == ("Hello\n\nAre you there?", ())


def test_text_parts_are_put_together_as_they_are() -> None:
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "\nb"}]
    assert parse({"role": "user", "content": parts}).prompt == "a \nb"


def test_text_is_kept_to_the_letter() -> None:
    text = "  @/etc/passwd /clear <x> \u2028 \U0001f600 "
    assert parse({"role": "user", "content": text}).prompt == text


def test_stream_and_usage_are_read_and_null_is_as_good_as_nothing() -> None:
    asked = parse(HELLO, stream=True, stream_options={"include_usage": True})
    assert (asked.stream, asked.include_usage) == (True, True)
    silent = parse(HELLO, stream=None, stream_options=None, temperature=None, n=None, tools=None)
    assert (silent.stream, silent.include_usage, silent.ignored) == (False, False, ())


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
    assert request.ignored == ("temperature", "seed", "max_tokens")


def test_unknown_parameters_are_tolerated() -> None:
    request = parse(HELLO, store=True, prediction={"type": "content"}, service_tier="auto")
    assert request.prompt == "Hello"


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
        ({"messages": [{"role": "assistant", "content": "Hi"}, HELLO]}, "messages"),
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
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("functions", [{"name": "f"}]),
        ("response_format", {"type": "json_object"}),
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
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
            "messages[1].content[0]",
        ),
        ({"role": "tool", "tool_call_id": "1", "content": "42"}, "messages[1]"),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}, "messages[1]"),
    ],
)
def test_messages_that_cannot_be_given_to_the_model_are_refused(
    message: dict[str, Any], param: str
) -> None:
    with pytest.raises(APIError) as caught:
        parse(HELLO, message, HELLO)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize("raw", [b"", b"{", b'{"a": }', b"\xff\xfe", b"[" * 100_000, b"1" * 5000])
def test_broken_json_is_a_400_in_a_sentence(raw: bytes) -> None:
    with pytest.raises(APIError) as caught:
        read_json(raw)
    assert caught.value.status == 400
    assert "The body is not" in caught.value.message
