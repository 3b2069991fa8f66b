"""What a turn's events become on the wire."""

import json
from dataclasses import replace
from typing import Any

import pytest

from jupyter_ccapi.claude import (
    Event,
    Message,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolCallStarted,
    ToolInputDelta,
    TurnEnd,
    TurnStarted,
    Usage,
)
from jupyter_ccapi.openai import chat_response
from jupyter_ccapi.openai.answer import Answer
from jupyter_ccapi.openai.chat_response import ChatStream, encode
from jupyter_ccapi.openai.errors import APIError
from jupyter_ccapi.openai.forced import Forced
from jupyter_ccapi.openai.request import Choice, FunctionTool, Request

USAGE = Usage(
    input_tokens=10,
    output_tokens=7,
    cache_read_tokens=100,
    cache_creation_tokens=5,
    thinking_tokens=2,
)


REQUEST = Request(None, (Message("user", "Hello"),), stream=True)


def turn_end(reason: Any = "completed", stop_reason: str | None = "end_turn") -> TurnEnd:
    """A turn that ended well."""
    return TurnEnd(reason, "", stop_reason, "claude-x", USAGE, 0.25, 1.0)


def called(*ids: str) -> list[Event]:
    """Calls of the client's, written side by side in two fragments each."""
    return [
        *(ToolCallStarted(id, "weather") for id in ids),
        *(ToolInputDelta(id, '{"city": ') for id in ids),
        *(ToolInputDelta(id, f'"{id}"}}') for id in ids),
        *(ToolCall(id, "weather", {"city": id}, client=True) for id in ids),
    ]


STARTED = TurnStarted("conversation", "claude-x")
TURN: list[Event] = [
    STARTED,
    ThinkingDelta("Hm."),
    TextDelta("Hel"),
    TextDelta("lo!"),
    turn_end(),
]
CALLING: list[Event] = [STARTED, *called("a", "b"), turn_end("tool_calls", "tool_use")]


def chunks(
    events: list[Event], request: Request = REQUEST, *, include_usage: bool = False
) -> list[dict[str, Any]]:
    """All chunks of a stream."""
    stream = ChatStream(include_usage=include_usage)
    answer = Answer(request, Forced.by(request))
    sent = b"".join(stream.encoded(answer.feed(events)))
    return [json.loads(line[6:]) for line in sent.splitlines() if line]


def completion(events: list[Event], request: Request = REQUEST) -> dict[str, Any]:
    """The whole answer."""
    answer = Answer(replace(request, stream=False), Forced.by(request))
    for _ in answer.feed(events):
        pass
    return chat_response.completion(answer)


def forcing(*names: str) -> Request:
    """A request that has one of these tools called."""
    tools = tuple(FunctionTool(name, "", {"type": "object"}) for name in names)
    return replace(REQUEST, tools=tools, choice=Choice("forced", names))


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
    assert (
        "reasoning_content"
        not in completion([TextDelta("Hi"), turn_end()])["choices"][0]["message"]
    )


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
    answer = completion([TextDelta("Hi"), turn_end(stop_reason=stop_reason)])
    assert answer["choices"][0]["finish_reason"] == finish


def test_an_empty_answer_is_an_error_and_a_refusal_is_not() -> None:
    with pytest.raises(APIError) as caught:
        completion([turn_end()])
    assert (caught.value.status, caught.value.code) == (502, "empty_answer")
    assert completion([turn_end(stop_reason="refusal")])["choices"][0]["message"]["content"] == ""


def test_calls_come_as_fragments_with_their_name_first_and_an_index() -> None:
    first, *rest = [chunk["choices"][0] for chunk in chunks(CALLING)]
    assert first["delta"]["role"] == "assistant"
    assert first["delta"]["content"] is None
    assert first["delta"]["tool_calls"] == [
        {
            "index": 0,
            "id": "a",
            "type": "function",
            "function": {"name": "weather", "arguments": ""},
        }
    ]
    fragments: dict[int, str] = {}
    for choice in rest:
        for call in choice["delta"].get("tool_calls", ()):
            said = call["function"]["arguments"]
            fragments[call["index"]] = fragments.get(call["index"], "") + said
    assert fragments == {0: '{"city": "a"}', 1: '{"city": "b"}'}
    assert [choice["finish_reason"] for choice in rest if choice["finish_reason"]] == ["tool_calls"]


def test_a_completion_with_calls_has_no_content() -> None:
    choice = completion(CALLING)["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    assert [call["id"] for call in choice["message"]["tool_calls"]] == ["a", "b"]


def test_a_forced_call_is_written_as_the_answer_comes() -> None:
    events: list[Event] = [STARTED, TextDelta('{"city":'), TextDelta(' "Oslo"}'), turn_end()]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks(events, forcing("weather"))]
    arguments = [d["tool_calls"][0]["function"]["arguments"] for d in deltas if d.get("tool_calls")]
    assert arguments == ["", '{"city":', ' "Oslo"}']
    choice = completion(events, forcing("weather"))["choices"][0]
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "weather"
    assert choice["finish_reason"] == "tool_calls"


def test_one_of_several_tools_is_forced_by_a_list_of_calls() -> None:
    text = '{"calls": [{"name": "b", "arguments": {"x": 1}}, {"name": "a", "arguments": {}}]}'
    calls = completion([STARTED, TextDelta(text), turn_end()], forcing("a", "b"))
    functions = [c["function"] for c in calls["choices"][0]["message"]["tool_calls"]]
    assert functions == [{"name": "b", "arguments": '{"x": 1}'}, {"name": "a", "arguments": "{}"}]


def test_a_stop_sequence_cuts_across_deltas() -> None:
    request = replace(REQUEST, stop=("END",))
    events: list[Event] = [STARTED, TextDelta("one E"), TextDelta("N"), TextDelta("D two")]
    answer = Answer(request)
    assert "".join(p.text for p in answer.feed(events) if hasattr(p, "text")) == "one "
    assert answer.satisfied
    said = completion([*events, turn_end("interrupted", None)], request)["choices"][0]
    assert (said["message"]["content"], said["finish_reason"]) == ("one ", "stop")


def test_what_claude_code_does_itself_is_told_as_thinking_and_never_as_a_call() -> None:
    own = ToolCall("t", "Read", {"file_path": "/a/b.txt"})
    end = replace(turn_end(), permission_denials=[{"tool_name": "Write"}])
    message = completion([STARTED, own, TextDelta("Done."), end])["choices"][0]["message"]
    assert message["reasoning_content"] == "[Read: /a/b.txt]\n"
    assert "tool_calls" not in message
    assert message["content"].startswith("Done.\n\n(Not done")
    assert "Write" in message["content"]


def test_an_event_is_one_line_whatever_is_in_it() -> None:
    chunk = {"text": "a\nb\r\n\u2028\ud800 data: [DONE]"}
    sent = encode(chunk)
    assert sent.startswith(b"data: ")
    assert sent.endswith(b"\n\n")
    assert sent.count(b"\n") == 2
    assert b"\r" not in sent
    assert json.loads(sent[6:]) == chunk
