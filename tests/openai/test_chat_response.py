"""What a turn's events become on the wire."""

import json
from typing import Any

import pytest

from jupyter_ccapi.claude import Event, TextDelta, ThinkingDelta, TurnEnd, TurnStarted, Usage
from jupyter_ccapi.openai.chat_response import ChatStream, completion, encode
from jupyter_ccapi.openai.errors import APIError

USAGE = Usage(
    input_tokens=10,
    output_tokens=7,
    cache_read_tokens=100,
    cache_creation_tokens=5,
    thinking_tokens=2,
)


def turn_end(text: str = "Hello!", stop_reason: str | None = "end_turn") -> TurnEnd:
    """A turn that ended well."""
    return TurnEnd("completed", text, stop_reason, "claude-x", USAGE, 0.25, 1.0)


TURN: list[Event] = [
    TurnStarted("conversation", "claude-x"),
    ThinkingDelta("Hm."),
    TextDelta("Hel"),
    TextDelta("lo!"),
    turn_end(),
]


def chunks(events: list[Event], *, include_usage: bool = False) -> list[dict[str, Any]]:
    """All chunks of a stream."""
    stream = ChatStream(include_usage=include_usage)
    return [chunk for event in events for chunk in stream.chunks(event)]


def test_each_delta_becomes_one_chunk_as_it_came() -> None:
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks(TURN)]
    assert deltas == [
        {"role": "assistant", "content": "", "reasoning_content": "Hm."},
        {"content": "Hel"},
        {"content": "lo!"},
        {},
    ]


def test_all_chunks_of_a_stream_have_one_head() -> None:
    heads = {
        (chunk["id"], chunk["object"], chunk["created"], chunk["model"])
        for chunk in chunks(TURN, include_usage=True)
    }
    assert len(heads) == 1
    ((identity, kind, _, name),) = heads
    assert identity.startswith("chatcmpl-")
    assert (kind, name) == ("chat.completion.chunk", "claude-x")


def test_exactly_one_chunk_says_why_it_ended() -> None:
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks(TURN)]
    assert reasons == [None, None, None, "stop"]


def test_usage_comes_last_with_no_choices_and_only_when_asked_for() -> None:
    *before, last = chunks(TURN, include_usage=True)
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] == 115
    assert last["usage"]["cost_usd"] == 0.25
    assert all(chunk["usage"] is None for chunk in before)
    assert all("usage" not in chunk for chunk in chunks(TURN))


def test_a_completion_has_text_thinking_and_usage_with_cached_tokens_in_the_prompt() -> None:
    answer = completion(TURN)
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["finish_reason"] == "stop"
    message = answer["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Hello!", "Hm.")
    assert answer["usage"] == {
        "prompt_tokens": 115,
        "completion_tokens": 7,
        "total_tokens": 122,
        "prompt_tokens_details": {"cached_tokens": 100},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


def test_an_answer_without_thinking_has_no_field_for_it() -> None:
    assert "reasoning_content" not in completion([turn_end()])["choices"][0]["message"]


@pytest.mark.parametrize(
    ("stop_reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("refusal", "content_filter"),
        (None, "stop"),
    ],
)
def test_stop_reasons_become_openais(stop_reason: str | None, finish: str) -> None:
    assert completion([turn_end(stop_reason=stop_reason)])["choices"][0]["finish_reason"] == finish


def test_an_empty_answer_is_an_error_and_a_refusal_is_not() -> None:
    with pytest.raises(APIError) as caught:
        completion([turn_end("")])
    assert (caught.value.status, caught.value.code) == (502, "empty_answer")
    assert completion([turn_end("", "refusal")])["choices"][0]["message"]["content"] == ""


def test_an_event_is_one_line_whatever_is_in_it() -> None:
    chunk = {"text": "a\nb\r\n\u2028\ud800 data: [DONE]"}
    sent = encode(chunk)
    assert sent.startswith(b"data: ")
    assert sent.endswith(b"\n\n")
    assert sent.count(b"\n") == 2
    assert b"\r" not in sent
    assert json.loads(sent[6:]) == chunk
