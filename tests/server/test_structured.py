"""Structured output over chat completions: what fulfils the schema, and nothing else."""

import json
from typing import Any

import pytest

from jupyter_ccapi.demo import OfflineModel, Reply
from tests.server.chats import CHAT, WEATHER, Call, assembled, chat, events, result

SCHEMA = {
    "type": "object",
    "properties": {"mood": {"type": "string", "enum": ["calm", "cross"]}},
    "required": ["mood"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "mood", "schema": SCHEMA, "strict": True}}


def says(value: dict[str, Any], text: str = "") -> Reply:
    """The model's structured answer."""
    return Reply(text, tools=[("StructuredOutput", value)])


@pytest.mark.parametrize("stream", [False, True])
async def test_the_answer_is_the_json_and_nothing_beside_it(
    call: Call, model: OfflineModel, stream: bool
) -> None:
    model.script(says({"mood": "calm"}, text="Here is the JSON:"))
    answer = await call(*CHAT, json=chat(response_format=FORMAT, stream=stream))
    message = assembled(answer.body) if stream else answer.body["choices"][0]["message"]
    assert json.loads(message["content"]) == {"mood": "calm"}
    finish = message["finish_reason"] if stream else answer.body["choices"][0]["finish_reason"]
    assert finish == "stop"
    assert not message.get("tool_calls")
    (schema,) = [
        tool["input_schema"]
        for tool in model.main_requests[0].body["tools"]
        if tool["name"] == "StructuredOutput"
    ]
    assert schema["properties"] == SCHEMA["properties"]


async def test_it_is_streamed_as_the_model_writes_it(call: Call, model: OfflineModel) -> None:
    model.script(says({"mood": "calm and rather long"}))
    any_object = {"type": "json_object"}
    answer = await call(*CHAT, json=chat(response_format=any_object, stream=True))
    deltas = [c["choices"][0]["delta"].get("content") for c in events(answer.body)[:-1]]
    assert len([text for text in deltas if text]) > 1


async def test_an_answer_that_does_not_fulfil_it_is_asked_for_again(
    call: Call, model: OfflineModel
) -> None:
    model.script(says({"mood": "wild"}), says({"mood": "cross"}))
    answer = await call(*CHAT, json=chat(response_format=FORMAT))
    assert json.loads(answer.body["choices"][0]["message"]["content"]) == {"mood": "cross"}
    assert len(model.main_requests) == 2


async def test_a_stream_never_passes_a_wrong_answer_off_as_right(
    call: Call, model: OfflineModel
) -> None:
    model.script(says({"mood": "wild"}), says({"mood": "cross"}))
    answer = await call(*CHAT, json=chat(response_format=FORMAT, stream=True))
    *_, last = events(answer.body)
    assert last["error"]["code"] == "schema_not_met"


async def test_any_object_will_do(call: Call, model: OfflineModel) -> None:
    model.script(says({"a": [1, 2]}))
    answer = await call(*CHAT, json=chat(response_format={"type": "json_object"}))
    assert json.loads(answer.body["choices"][0]["message"]["content"]) == {"a": [1, 2]}


async def test_tools_may_be_called_before_the_answer(call: Call, model: OfflineModel) -> None:
    model.script(Reply(tools=[("mcp__client__weather", {"city": "Oslo"})]), says({"mood": "cross"}))
    body = chat(response_format=FORMAT, tools=[WEATHER])
    message = (await call(*CHAT, json=body)).body["choices"][0]["message"]
    body["messages"] += [message, result(message["tool_calls"][0]["id"], "Rain")]
    answer = await call(*CHAT, json=body)
    assert json.loads(answer.body["choices"][0]["message"]["content"]) == {"mood": "cross"}
    assert model.main_requests[-1].tool_results[0].text == "Rain"
