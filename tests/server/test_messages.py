"""POST /v1/messages and count_tokens, for Anthropic's own clients."""

from typing import Any

import pytest
from jupyter_server.serverapp import ServerApp

from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from tests.claude.support import conversation_sent
from tests.server.chats import Call, events

MESSAGES = ("v1", "messages")
TOOL = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {}}}}


def ask(text: str = "Hello", **fields: Any) -> dict[str, Any]:
    return {
        "model": "sonnet",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": text}],
        **fields,
    }


async def test_a_message(call: Call, model: OfflineModel) -> None:
    model.script(Reply("Hi.", input_tokens=10, cache_read_input_tokens=5, output_tokens=3))
    answer = await call(*MESSAGES, json=ask(system="Be brief."))
    assert answer.body["type"] == "message"
    assert answer.body["content"] == [{"type": "text", "text": "Hi.", "citations": None}] or (
        answer.body["content"][0]["text"] == "Hi."
    )
    assert answer.body["stop_reason"] == "end_turn"
    assert answer.body["usage"]["input_tokens"] == 10
    assert answer.body["usage"]["cache_read_input_tokens"] == 5
    assert model.main_requests[-1].body["max_tokens"] == 100
    assert "Be brief." in model.main_requests[-1].system_text


async def test_a_stream_has_anthropics_events(call: Call, model: OfflineModel) -> None:
    model.script(Reply("one two"))
    answer = await call(*MESSAGES, json=ask(stream=True))
    kinds = [event["type"] for event in events(answer.body) if event["type"] != "ping"]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert "content_block_delta" in kinds


async def test_tools(call: Call, model: OfflineModel) -> None:
    model.script(Reply(tools=[("mcp__client__weather", {"city": "Oslo"})]), Reply("Rain."))
    body = ask(tools=[TOOL])
    first = (await call(*MESSAGES, json=body)).body
    assert first["stop_reason"] == "tool_use"
    (use,) = first["content"]
    assert (use["name"], use["input"]) == ("weather", {"city": "Oslo"})
    result = {"type": "tool_result", "tool_use_id": use["id"], "content": "It rains"}
    body["messages"] += [
        {"role": "assistant", "content": first["content"]},
        {"role": "user", "content": [result]},
    ]
    assert (await call(*MESSAGES, json=body)).body["content"][0]["text"] == "Rain."
    assert model.main_requests[-1].tool_results[0].text == "It rains"


async def test_stop_sequences(call: Call, model: OfflineModel) -> None:
    model.script(Reply("one END two"))
    answer = (await call(*MESSAGES, json=ask(stop_sequences=["END"]))).body
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", "END")
    assert answer["content"][0]["text"] == "one "


async def test_a_conversation_by_its_id(call: Call, model: OfflineModel) -> None:
    model.script(Reply("two"), Reply("four"))
    id = (await call(*MESSAGES, json=ask("one"))).body["conversation_id"]
    await call(*MESSAGES, json=ask("three", conversation_id=id))
    assert [t for _, t in conversation_sent(model.main_requests[-1])] == ["one", "two", "three"]


async def test_tokens_are_counted_by_the_model(call: Call, model: OfflineModel) -> None:
    short = (await call(*MESSAGES, "count_tokens", json=ask("Hello"))).body["input_tokens"]
    long = (await call(*MESSAGES, "count_tokens", json=ask("Hello " * 1000))).body["input_tokens"]
    tool = {**TOOL, "description": "Tells the weather. " * 500}
    tools = (await call(*MESSAGES, "count_tokens", json=ask(tools=[tool]))).body["input_tokens"]
    assert short > 0
    assert long > short + 1000
    assert tools > short
    assert model.main_requests == []


@pytest.mark.parametrize(
    ("reply", "status", "kind"),
    [
        (ApiError(429), 429, "rate_limit_error"),
        (ApiError(529), 529, "overloaded_error"),
        (ApiError(400), 400, "invalid_request_error"),
    ],
)
async def test_errors_are_anthropics(
    call: Call, model: OfflineModel, reply: ApiError, status: int, kind: str
) -> None:
    model.script(*[Reply(error=reply)] * 4)
    answer = await call(*MESSAGES, json=ask())
    assert answer.status == status
    assert (answer.body["type"], answer.body["error"]["type"]) == ("error", kind)
    assert answer.body["request_id"] == answer.headers["request-id"]


async def test_an_error_in_mid_stream(call: Call, model: OfflineModel) -> None:
    # Claude Code has the model go on some times by itself.
    model.script(*[Reply("one two", error=ApiError(529))] * 6)
    answer = await call(*MESSAGES, json=ask(stream=True))
    last = events(answer.body)[-1]
    assert (last["type"], last["error"]["type"]) == ("error", "api_error")


async def test_the_token_may_come_as_anthropics_clients_send_it(
    call: Call, jp_serverapp: ServerApp, http_server_client: Any
) -> None:
    assert (await call(*MESSAGES, json={})).status == 400
    url = f"{jp_serverapp.base_url}v1/models"
    token = jp_serverapp.identity_provider.token
    answer = await http_server_client.fetch(url, headers={"x-api-key": token})
    assert answer.code == 200
