"""What an answer becomes in the words of Anthropic's Messages API."""

from typing import Any

import anthropic
import pytest

from jupyter_ccapi.claude import (
    Event,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolCallStarted,
    ToolInputDelta,
)
from jupyter_ccapi.openai.answer import Answer
from jupyter_ccapi.openai.errors import APIError
from jupyter_ccapi.openai.messages_request import parse_messages
from jupyter_ccapi.openai.messages_response import (
    PING,
    MessagesStream,
    error_body,
    message_object,
)
from jupyter_ccapi.openai.request import Request
from tests.openai.wire import (
    STARTED,
    answered,
    anthropic_client,
    events_of,
    messages_stream,
    turn_end,
)


def asked(**fields: Any) -> Request:
    """A request with these fields."""
    hello = [{"role": "user", "content": "Hello"}]
    return parse_messages({"messages": hello, "max_tokens": 9, **fields})


REQUEST = asked(tools=[{"name": "add", "input_schema": {"type": "object"}}])
TEXT: list[Event] = [STARTED, ThinkingDelta("Hm."), TextDelta("Hel"), TextDelta("lo!"), turn_end()]
CALL: list[Event] = [
    STARTED,
    TextDelta("Let me see."),
    ToolCallStarted("toolu_1", "add"),
    ToolInputDelta("toolu_1", '{"a":'),
    ToolInputDelta("toolu_1", " 1}"),
    ToolCall("toolu_1", "add", {"a": 1}, client=True),
    turn_end("tool_use"),
]


def test_blocks_are_told_in_order_and_usage_at_the_end() -> None:
    told = events_of(messages_stream(REQUEST, TEXT))
    assert [event["type"] for event in told] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert told[0]["message"]["model"] == "claude-x"
    assert told[0]["message"]["usage"]["input_tokens"] == 0
    assert told[1]["content_block"] == {"type": "thinking", "thinking": "", "signature": ""}
    assert told[2]["delta"] == {"type": "thinking_delta", "thinking": "Hm."}
    assert [event["delta"]["text"] for event in told[5:7]] == ["Hel", "lo!"]
    assert told[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert told[-2]["usage"] == {
        "input_tokens": 10,
        "cache_creation_input_tokens": 5,
        "cache_read_input_tokens": 100,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 2},
    }


def test_a_call_is_a_block_with_fragments_of_json() -> None:
    told = events_of(messages_stream(REQUEST, CALL))
    block = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}}
    assert told[4]["content_block"] == block
    assert [event["delta"]["partial_json"] for event in told[5:7]] == ['{"a":', " 1}"]
    assert told[-2]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("stop_reason", "told"),
    [
        ("end_turn", "end_turn"),
        ("max_tokens", "max_tokens"),
        ("refusal", "refusal"),
        (None, "end_turn"),
    ],
)
def test_stop_reasons(stop_reason: str | None, told: str) -> None:
    answer = answered(REQUEST, [STARTED, TextDelta("Hi"), turn_end(stop_reason)])
    assert message_object(answer)["stop_reason"] == told


def test_a_stop_sequence_is_named_and_not_told() -> None:
    request = asked(stop_sequences=["STOP", "lo"])
    message = message_object(answered(request, TEXT))
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "lo")
    assert message["content"][-1] == {"type": "text", "text": "Hel"}


def test_a_call_that_is_cut_off_has_no_input() -> None:
    events = [*CALL[:4], turn_end("max_tokens")]
    message = message_object(answered(REQUEST, events))
    assert message["stop_reason"] == "max_tokens"
    assert message["content"][-1]["input"] == {}


def test_tools_that_nobody_could_be_asked_about_are_named() -> None:
    events: list[Event] = [STARTED, turn_end(permission_denials=[{"tool_name": "Bash"}])]
    message = message_object(answered(REQUEST, events))
    assert message["ccapi"] == {"permission_denials": ["Bash"]}


def test_anthropics_client_reads_both() -> None:
    sent = messages_stream(REQUEST, CALL)
    start, rest = sent.split(b"\n\n", 1)
    client = anthropic_client(start + b"\n\n" + PING + rest)
    hello: Any = [{"role": "user", "content": "Hello"}]
    with client.messages.stream(model="opus", max_tokens=9, messages=hello) as stream:
        streamed = stream.get_final_message()
    client = anthropic_client(message_object(answered(REQUEST, CALL)))
    whole = client.messages.create(model="opus", max_tokens=9, messages=hello)
    for message in (streamed, whole):
        text, call = message.content
        assert text.type == "text"
        assert call.type == "tool_use"
        assert call.input == {"a": 1}
        assert message.stop_reason == "tool_use"
        assert message.usage.input_tokens == 10
        assert message.usage.cache_read_input_tokens == 100


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_errors_have_anthropics_words_and_openais_fields_beside_them(
    status: int, kind: str
) -> None:
    error = APIError(status, "No.", code="a_code", param="model")
    assert error_body(error, "req_1") == {
        "type": "error",
        "error": {"type": kind, "message": "No.", "param": "model", "code": "a_code"},
        "request_id": "req_1",
    }


def test_a_failure_in_a_stream_is_an_error_to_anthropics_client() -> None:
    answer = Answer(REQUEST)
    formatter = MessagesStream()
    sent = b"".join(formatter.encoded(answer.feed(TEXT[:3])))
    sent += formatter.failure(APIError(529, "Too much to do.", code="overloaded"), "req_1")
    client = anthropic_client(sent)
    hello: Any = [{"role": "user", "content": "Hello"}]
    with (
        client.messages.stream(model="opus", max_tokens=9, messages=hello) as stream,
        pytest.raises(anthropic.APIStatusError, match=r"Too much to do\."),
    ):
        stream.until_done()
