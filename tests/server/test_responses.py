"""POST /v1/responses on a Jupyter server, and what is kept of them."""

import json
from typing import Any

import pytest

from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from tests.claude.support import conversation_sent
from tests.server.chats import Call, events

RESPONSES = ("v1", "responses")
WEATHER = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def texts(model: OfflineModel) -> list[str]:
    return [text for _, text in conversation_sent(model.main_requests[-1])]


def said(body: Any) -> str:
    """The text of a response."""
    return "".join(
        part["text"]
        for item in body["output"]
        if item["type"] == "message"
        for part in item["content"]
    )


async def test_a_response_can_be_gone_on_from(call: Call, model: OfflineModel) -> None:
    model.script(Reply("two"), Reply("four"), Reply("six"))
    first = (await call(*RESPONSES, json={"input": "one", "instructions": "Be brief."})).body
    assert (first["object"], first["status"], said(first)) == ("response", "completed", "two")
    asked = {"input": "three", "previous_response_id": first["id"]}
    second = (await call(*RESPONSES, json=asked)).body
    assert second["previous_response_id"] == first["id"]
    assert texts(model) == ["one", "two", "three"]
    assert "Be brief." not in model.main_requests[-1].system_text
    # It can be gone on from more than once.
    await call(*RESPONSES, json={**asked, "input": "3"})
    assert texts(model) == ["one", "two", "3"]


async def test_what_a_system_message_says_stays(call: Call, model: OfflineModel) -> None:
    given = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "one"}]
    first = (await call(*RESPONSES, json={"input": given})).body
    more = {"input": "two", "previous_response_id": first["id"], "instructions": "Sing."}
    await call(*RESPONSES, json=more)
    assert "Sing.\n\nBe brief." in model.main_requests[-1].system_text


@pytest.mark.parametrize("stream", [False, True])
async def test_it_is_kept_until_it_is_deleted(
    call: Call, model: OfflineModel, stream: bool
) -> None:
    model.script(Reply("two"))
    answer = await call(*RESPONSES, json={"input": "one", "stream": stream})
    body = events(answer.body)[-1]["response"] if stream else answer.body
    id = body["id"]
    assert (await call(*RESPONSES, id)).body == body
    items = (await call(*RESPONSES, id, "input_items")).body
    assert items["data"][0]["content"][0]["text"] == "one"
    gone = (await call(*RESPONSES, id, method="DELETE")).body
    assert gone == {"id": id, "object": "response", "deleted": True}
    assert (await call(*RESPONSES, id)).status == 404
    answer = await call(*RESPONSES, json={"input": "x", "previous_response_id": id})
    assert (answer.status, answer.body["error"]["param"]) == (404, "previous_response_id")


async def test_one_that_is_not_stored_is_not_kept(call: Call) -> None:
    id = (await call(*RESPONSES, json={"input": "one", "store": False})).body["id"]
    assert (await call(*RESPONSES, id)).status == 404


async def test_functions(call: Call, model: OfflineModel) -> None:
    model.script(Reply(tools=[("mcp__client__weather", {"city": "Oslo"})]), Reply("Rain."))
    first = (await call(*RESPONSES, json={"input": "Weather?", "tools": [WEATHER]})).body
    (called,) = first["output"]
    assert (called["type"], called["name"]) == ("function_call", "weather")
    assert json.loads(called["arguments"]) == {"city": "Oslo"}
    output = {"type": "function_call_output", "call_id": called["call_id"], "output": "It rains"}
    again = {"input": [output], "previous_response_id": first["id"], "tools": [WEATHER]}
    assert said((await call(*RESPONSES, json=again)).body) == "Rain."
    assert model.main_requests[-1].tool_results[0].text == "It rains"


async def test_earlier_items_may_be_referred_to(call: Call, model: OfflineModel) -> None:
    model.script(Reply("two"), Reply("four"))
    first = (await call(*RESPONSES, json={"input": "one"})).body
    given = [
        {"role": "user", "content": "one"},
        {"type": "item_reference", "id": first["output"][0]["id"]},
        {"role": "user", "content": "three"},
    ]
    assert (await call(*RESPONSES, json={"input": given})).status == 200
    assert texts(model) == ["one", "two", "three"]
    given[1]["id"] = "msg_nobody"
    assert (await call(*RESPONSES, json={"input": given})).status == 404


async def test_a_conversation_goes_on_in_responses_and_chats(
    call: Call, model: OfflineModel
) -> None:
    model.script(Reply("two"), Reply("four"))
    id = (await call("v1", "conversations", json={})).body["id"]
    answer = (await call(*RESPONSES, json={"input": "one", "conversation": id})).body
    assert answer["conversation"] == {"id": id}
    body = {"messages": [{"role": "user", "content": "three"}], "conversation_id": id}
    await call("v1", "chat", "completions", json=body)
    assert texts(model) == ["one", "two", "three"]


async def test_structured_output_and_length(call: Call, model: OfflineModel) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    model.script(Reply(tools=[("StructuredOutput", {"a": 1})]))
    format = {"type": "json_schema", "name": "x", "schema": schema}
    answer = (await call(*RESPONSES, json={"input": "one", "text": {"format": format}})).body
    assert json.loads(said(answer)) == {"a": 1}
    model.script(Reply("one two", stop_reason="max_tokens", word_delay=0.1))
    answer = (await call(*RESPONSES, json={"input": "one", "max_output_tokens": 2})).body
    assert (answer["status"], answer["incomplete_details"]) == (
        "incomplete",
        {"reason": "max_output_tokens"},
    )


async def test_a_stream_that_fails_says_so_in_its_own_events(
    call: Call, model: OfflineModel
) -> None:
    # Claude Code has the model go on some times by itself.
    model.script(*[Reply("one two", error=ApiError(529))] * 6)
    answer = await call(*RESPONSES, json={"input": "one", "stream": True})
    kinds = [event["type"] for event in events(answer.body)]
    assert kinds[0] == "response.created"
    assert kinds[-2:] == ["error", "response.failed"]


async def test_an_error_before_the_stream_is_a_status(call: Call, model: OfflineModel) -> None:
    model.script(Reply(error=ApiError(429)))
    answer = await call(*RESPONSES, json={"input": "one", "stream": True})
    assert (answer.status, answer.body["error"]["code"]) == (429, "rate_limit_exceeded")
