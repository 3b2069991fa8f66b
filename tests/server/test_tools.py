"""Client tools over chat completions: real calls, real results, in the model's own words."""

from typing import Any

import pytest

from jupyter_ccapi.demo import OfflineModel, Reply
from jupyter_ccapi.demo.reading import blocks
from tests.conftest import WARM
from tests.server.chats import CHAT, TIME, WEATHER, Call, assembled, chat, result

LONG = "mcp__client__weather"
TWO = Reply(tools=[(LONG, {"city": "Oslo"}), (LONG, {"city": "Rome"})])


async def test_calls_are_streamed_as_the_model_writes_them(call: Call, model: OfflineModel) -> None:
    model.script(TWO)
    answer = await call(*CHAT, json=chat("Weather?", tools=[WEATHER], stream=True))
    message = assembled(answer.body)
    assert message["finish_reason"] == "tool_calls"
    assert [(c["name"], c["arguments"]) for c in message["tool_calls"]] == [
        ("weather", '{"city": "Oslo"}'),
        ("weather", '{"city": "Rome"}'),
    ]
    assert LONG in model.main_requests[-1].tools


@pytest.mark.parametrize("order", [1, -1])
async def test_results_reach_the_model_by_their_ids_in_any_order(
    call: Call, model: OfflineModel, order: int
) -> None:
    model.script(TWO, Reply("Rain there, sun here."))
    body = chat("Weather?", tools=[WEATHER], model="sonnet")
    called = (await call(*CHAT, json=body)).body["choices"][0]
    assert called["finish_reason"] == "tool_calls"
    assert called["message"]["content"] is None
    ids = [one["id"] for one in called["message"]["tool_calls"]]
    body["messages"] += [
        called["message"],
        *[result(ids[0], "Rain"), result(ids[1], "Sun")][::order],
    ]
    answer = await call(*CHAT, json=body)
    assert answer.body["choices"][0]["message"]["content"] == "Rain there, sun here."
    told = {
        block["tool_use_id"]: blocks(block["content"])[0]["text"]
        for message in model.main_requests[-1].messages
        for block in blocks(message["content"])
        if block["type"] == "tool_result"
    }
    assert told == {ids[0]: "Rain", ids[1]: "Sun"}
    assert len(model.main_requests) == 2
    if WARM:
        assert answer.headers["x-ccapi-process"] == "live"


async def test_many_rounds(call: Call, model: OfflineModel) -> None:
    model.script(*[Reply(tools=[(LONG, {"city": c})]) for c in "abc"], Reply("Done."))
    body = chat("Weather?", tools=[WEATHER])
    for city in "abc":
        message = (await call(*CHAT, json=body)).body["choices"][0]["message"]
        (one,) = message["tool_calls"]
        assert one["function"]["arguments"] == f'{{"city": "{city}"}}'
        body["messages"] += [message, result(one["id"], f"{city}!")]
    assert (await call(*CHAT, json=body)).body["choices"][0]["message"]["content"] == "Done."
    sent = [m for m in model.main_requests[-1].messages if m["role"] != "system"]
    assert [m["role"] for m in sent] == ["user", *["assistant", "user"] * 3]


async def test_a_history_never_seen_before_becomes_real_calls_and_results(
    call: Call, model: OfflineModel
) -> None:
    model.script(Reply("It rained."))
    asked = {"name": "weather", "arguments": '{"city": "Oslo"}'}
    answer = await call(
        *CHAT,
        json={
            "tools": [WEATHER],
            "messages": [
                {"role": "user", "content": "Weather?"},
                {
                    "role": "assistant",
                    "content": "Let me see.",
                    "tool_calls": [{"id": "from|elsewhere", "type": "function", "function": asked}],
                },
                result("from|elsewhere", "Rain"),
                {"role": "user", "content": "In one word?"},
            ],
        },
    )
    assert answer.body["choices"][0]["message"]["content"] == "It rained."
    _, assistant, user = [m for m in model.main_requests[-1].messages if m["role"] != "system"]
    text, use = assistant["content"]
    assert text["text"] == "Let me see."
    assert (use["type"], use["name"], use["input"]) == ("tool_use", LONG, {"city": "Oslo"})
    assert user["content"][0]["type"] == "tool_result"
    assert user["content"][0]["tool_use_id"] == use["id"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_named_tool_is_called_in_any_case(
    call: Call, model: OfflineModel, stream: bool
) -> None:
    model.script(Reply(tools=[("StructuredOutput", {"city": "Oslo"})]))
    choice = {"type": "function", "function": {"name": "weather"}}
    body = chat("Hello", tools=[WEATHER, TIME], tool_choice=choice, stream=stream)
    answer = await call(*CHAT, json=body)
    message = assembled(answer.body) if stream else answer.body["choices"][0]["message"]
    (one,) = message["tool_calls"]
    function = one if stream else one["function"]
    assert (function["name"], function["arguments"]) == ("weather", '{"city": "Oslo"}')
    assert not message["content"]


async def test_one_of_several_is_called_in_any_case(call: Call, model: OfflineModel) -> None:
    calls = [{"name": "time", "arguments": {}}, {"name": "weather", "arguments": {"city": "Rome"}}]
    model.script(Reply(tools=[("StructuredOutput", {"calls": calls})]))
    answer = await call(*CHAT, json=chat(tools=[WEATHER, TIME], tool_choice="required"))
    choice = answer.body["choices"][0]
    functions = [one["function"] for one in choice["message"]["tool_calls"]]
    assert functions == [
        {"name": "time", "arguments": "{}"},
        {"name": "weather", "arguments": '{"city": "Rome"}'},
    ]
    assert choice["finish_reason"] == "tool_calls"


async def test_a_forced_call_goes_on_as_a_real_one(call: Call, model: OfflineModel) -> None:
    model.script(Reply(tools=[("StructuredOutput", {"city": "Oslo"})]), Reply("Rain."))
    choice = {"type": "function", "function": {"name": "weather"}}
    body = chat(tools=[WEATHER], tool_choice=choice)
    message = (await call(*CHAT, json=body)).body["choices"][0]["message"]
    body["messages"] += [message, result(message["tool_calls"][0]["id"], "Rain")]
    del body["tool_choice"]
    answer = await call(*CHAT, json=body)
    assert answer.body["choices"][0]["message"]["content"] == "Rain."
    sent = [m for m in model.main_requests[-1].messages if m["role"] != "system"]
    assert sent[1]["content"][0]["name"] == LONG


async def test_no_tool_is_called_where_none_may_be(call: Call, model: OfflineModel) -> None:
    answer = await call(*CHAT, json=chat(tools=[WEATHER], tool_choice="none"))
    assert answer.body["choices"][0]["finish_reason"] == "stop"
    assert model.main_requests[-1].tools == []


async def test_calls_of_before_keep_their_tool_where_none_may_be_called(
    call: Call, model: OfflineModel
) -> None:
    model.script(Reply(tools=[(LONG, {"city": "Oslo"})]))
    body = chat(tools=[WEATHER])
    message = (await call(*CHAT, json=body)).body["choices"][0]["message"]
    body["messages"] += [message, result(message["tool_calls"][0]["id"], "Rain")]
    for tools in ({"tools": [WEATHER], "tool_choice": "none"}, {"tools": None}):
        # It tries all the same, and is told.
        model.script(Reply(tools=[(LONG, {"city": "Rome"})]), Reply("Rain."))
        answer = await call(*CHAT, json={**body, **tools})
        choice = answer.body["choices"][0]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", "Rain.")
        assert model.main_requests[-1].tools == [LONG]
        assert "cannot be used" in model.main_requests[-1].tool_results[-1].text


async def test_one_call_at_a_time_where_the_client_wants_it_so(
    call: Call, model: OfflineModel
) -> None:
    model.script(TWO, Reply("Rain."))
    body = chat(tools=[WEATHER], parallel_tool_calls=False)
    message = (await call(*CHAT, json=body)).body["choices"][0]["message"]
    (one,) = message["tool_calls"]
    body["messages"] += [message, result(one["id"], "Rain")]
    answer = await call(*CHAT, json=body)
    assert answer.body["choices"][0]["message"]["content"] == "Rain."
    uses = [
        block["id"]
        for m in model.main_requests[-1].messages
        if m["role"] == "assistant"
        for block in m["content"]
        if block["type"] == "tool_use"
    ]
    assert uses == [one["id"]]


async def test_a_result_without_its_call_is_refused_before_anything_is_spent(
    call: Call, model: OfflineModel
) -> None:
    body: dict[str, Any] = chat(tools=[WEATHER])
    body["messages"].append(result("nobody", "Rain"))
    answer = await call(*CHAT, json=body)
    assert answer.status == 400
    assert answer.body["error"]["param"] == "messages[1].tool_call_id"
    assert model.requests == []
