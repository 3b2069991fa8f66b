"""What an answer becomes in the words of the Responses API."""

from typing import Any

import openai
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
from jupyter_ccapi.openai.responses_request import ResponsesRequest, parse_responses
from jupyter_ccapi.openai.responses_response import ResponsesStream, response_object
from tests.openai.wire import (
    STARTED,
    answered,
    events_of,
    openai_client,
    responses_stream,
    turn_end,
)

ASKED = parse_responses({"input": "Hello", "model": "opus", "metadata": {"a": "b"}})
TOOLS = [{"type": "function", "name": "add"}, {"type": "function", "name": "sub"}]
WITH_TOOLS = parse_responses({"input": "Hello", "tools": TOOLS})
TEXT: list[Event] = [STARTED, TextDelta("Hel"), TextDelta("lo!"), turn_end()]


def stream(events: list[Event], asked: ResponsesRequest = ASKED) -> list[dict[str, Any]]:
    """The events of a stream."""
    return events_of(responses_stream(asked, events))


def test_a_text_is_one_message_told_in_order() -> None:
    told = stream(TEXT)
    assert [event["type"] for event in told] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert [event["delta"] for event in told if "delta" in event] == ["Hel", "lo!"]
    assert told[0]["response"]["status"] == "in_progress"
    assert told[0]["response"]["model"] == "claude-x"
    assert told[0]["response"]["output"] == []
    final = told[-1]["response"]
    assert (final["id"], final["status"]) == (told[0]["response"]["id"], "completed")
    assert final["output"] == [told[-2]["item"]]
    assert final["output"][0]["content"][0]["text"] == "Hello!"


def test_thinking_is_a_reasoning_item_and_text_after_it_another_item() -> None:
    events: list[Event] = [
        STARTED,
        ThinkingDelta("Hm."),
        TextDelta("One."),
        ThinkingDelta("And?"),
        TextDelta("Two."),
        turn_end(),
    ]
    told = stream(events)
    output = told[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "reasoning", "message"]
    assert output[0]["summary"] == [{"type": "summary_text", "text": "Hm."}]
    reasoning = [event["type"] for event in told if event.get("output_index") == 0]
    assert reasoning == [
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
    ]


def test_what_claude_code_does_is_reasoning_and_never_a_call() -> None:
    events: list[Event] = [
        STARTED,
        ToolCall("toolu_1", "Read", {"file_path": "a.txt"}),
        TextDelta("Read."),
        turn_end(),
    ]
    reasoning, message = stream(events)[-1]["response"]["output"]
    assert reasoning["summary"][0]["text"] == "[Read: a.txt]\n"
    assert message["type"] == "message"


def calls_side_by_side() -> list[Event]:
    """Two calls, the pieces of the first among those of the second."""
    return [
        STARTED,
        TextDelta("Let me see."),
        ToolCallStarted("toolu_1", "add"),
        ToolInputDelta("toolu_1", '{"a":'),
        ToolCallStarted("toolu_2", "sub"),
        ToolInputDelta("toolu_2", "{}"),
        ToolInputDelta("toolu_1", "1}"),
        ToolCall("toolu_1", "add", {"a": 1}, client=True),
        ToolCall("toolu_2", "sub", {}, client=True),
        turn_end("tool_use"),
    ]


def test_calls_are_items_that_come_one_after_another_whatever_order_their_pieces_come_in() -> None:
    told = stream(calls_side_by_side(), WITH_TOOLS)
    assert told[-1]["type"] == "response.completed"
    places = [event["output_index"] for event in told if "output_index" in event]
    assert places == sorted(places)
    _, first, second = told[-1]["response"]["output"]
    assert (first["call_id"], first["name"], first["arguments"]) == ("toolu_1", "add", '{"a":1}')
    assert (second["call_id"], second["name"], second["arguments"]) == ("toolu_2", "sub", "{}")
    added = [event["item"] for event in told if event["type"] == "response.output_item.added"]
    assert [(item["id"], item["status"]) for item in added[1:]] == [
        (first["id"], "in_progress"),
        (second["id"], "in_progress"),
    ]


def test_each_delta_is_told_as_it_comes_also_after_something_else() -> None:
    answer = Answer(WITH_TOOLS.request)
    formatter = ResponsesStream(WITH_TOOLS)
    for event, delta in (
        (ThinkingDelta("Hm."), "Hm."),
        (TextDelta("One."), "One."),
        (ThinkingDelta("And?"), "And?"),
        (ToolCallStarted("toolu_1", "add"), None),
        (ToolInputDelta("toolu_1", '{"a"'), '{"a"'),
    ):
        told = events_of(b"".join(formatter.encoded(answer.feed([event]))))
        assert told[-1].get("delta") == delta


def test_a_call_whose_arguments_are_whole_does_not_hold_up_the_next() -> None:
    answer = Answer(WITH_TOOLS.request)
    formatter = ResponsesStream(WITH_TOOLS)
    events: list[Event] = [
        STARTED,
        ToolCallStarted("toolu_1", "add"),
        ToolInputDelta("toolu_1", '{"a": 1}'),
        ToolCallStarted("toolu_2", "sub"),
        ToolInputDelta("toolu_2", '{"b"'),
    ]
    told = events_of(b"".join(formatter.encoded(answer.feed(events))))
    assert told[-1]["delta"] == '{"b"'


def test_an_answer_that_is_too_long_is_incomplete_and_so_is_its_last_item() -> None:
    events: list[Event] = [STARTED, ThinkingDelta("Hm."), TextDelta("Hel"), turn_end("max_tokens")]
    told = stream(events)
    assert told[-1]["type"] == "response.incomplete"
    final = told[-1]["response"]
    assert final["status"] == "incomplete"
    assert final["incomplete_details"] == {"reason": "max_output_tokens"}
    assert final["output"][-1]["status"] == "incomplete"
    whole = response_object(answered(ASKED.request, events), ASKED)
    assert whole["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item.get("status") for item in whole["output"]] == [None, "incomplete"]


def test_a_call_that_is_cut_off_is_incomplete_too() -> None:
    events: list[Event] = [
        STARTED,
        ToolCallStarted("toolu_1", "add"),
        ToolInputDelta("toolu_1", '{"a":'),
        turn_end("max_tokens"),
    ]
    (item,) = stream(events, WITH_TOOLS)[-1]["response"]["output"]
    assert (item["status"], item["arguments"]) == ("incomplete", '{"a":')


def test_a_refusal_is_incomplete_for_its_content() -> None:
    final = stream([STARTED, turn_end("refusal")])[-1]["response"]
    assert final["incomplete_details"] == {"reason": "content_filter"}


def test_usage_counts_cached_tokens_as_input() -> None:
    assert stream(TEXT)[-1]["response"]["usage"] == {
        "input_tokens": 115,
        "input_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 5},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 122,
        "cost_usd": 0.25,
    }


def test_a_response_has_the_ids_that_it_is_given_and_repeats_what_was_asked() -> None:
    answer = answered(ASKED.request, TEXT)
    response = response_object(answer, ASKED, response_id="resp_1", conversation_id="conv_1")
    assert (response["id"], response["conversation_id"]) == ("resp_1", "conv_1")
    assert response["conversation"] is None, "nobody spoke of a conversation"
    assert response["metadata"] == {"a": "b"}
    gone_on = parse_responses({"input": "Hello", "conversation": "conv_1"})
    assert response_object(answer, gone_on)["conversation"] == {"id": "conv_1"}


def test_tools_that_nobody_could_be_asked_about_are_named() -> None:
    events: list[Event] = [STARTED, turn_end(permission_denials=[{"tool_name": "Bash"}])]
    response = response_object(answered(ASKED.request, events), ASKED)
    assert response["ccapi"] == {"permission_denials": ["Bash"]}


def test_what_is_kept_of_a_stream_is_what_its_last_event_says() -> None:
    answer = Answer(ASKED.request)
    formatter = ResponsesStream(ASKED)
    told = events_of(b"".join(formatter.encoded(answer.feed(TEXT))))
    assert formatter.response == told[-1]["response"]


@pytest.mark.parametrize("come_so_far", [0, 2])
def test_a_failure_is_an_error_to_openais_client_and_a_failed_response(come_so_far: int) -> None:
    answer = Answer(ASKED.request)
    formatter = ResponsesStream(ASKED)
    begun = b"".join(formatter.encoded(answer.feed(TEXT[:come_so_far])))
    sent = begun + formatter.failure(
        APIError(502, "The process died.", code="process_died"), "req_1"
    )
    *_, error, failed = events_of(sent)
    assert error["type"] == "error"
    assert (error["code"], error["message"]) == ("process_died", "The process died.")
    assert failed["type"] == "response.failed"
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"]["code"] == "server_error"
    assert failed["response"]["error"]["ccapi"] == {"code": "process_died"}
    client = openai_client(sent)
    with (
        client.responses.stream(model="opus", input="Hello") as events,
        pytest.raises(openai.APIError, match=r"The process died\.") as caught,
    ):
        events.until_done()
    assert caught.value.code == "process_died"


def test_openais_client_reads_a_response_that_does_not_stream() -> None:
    answer = answered(WITH_TOOLS.request, calls_side_by_side())
    client = openai_client(response_object(answer, WITH_TOOLS))
    response = client.responses.create(model="opus", input="Hello")
    assert response.output_text == "Let me see."
    calls = [item for item in response.output if item.type == "function_call"]
    assert [(call.name, call.arguments) for call in calls] == [("add", '{"a":1}'), ("sub", "{}")]
