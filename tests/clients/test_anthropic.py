"""Anthropic's own Python client, on a plain Jupyter server."""

from collections.abc import Iterator
from typing import Literal

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic
from anthropic.types import MessageParam, ToolParam, ToolResultBlockParam
from pydantic import BaseModel

from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from tests.clients.sent import (
    ONE_CALL,
    TWO_CALLS,
    images,
    png,
    results,
    schema,
    structured,
    texts,
)
from tests.servers import TOKEN, Server

pytestmark = pytest.mark.client("anthropic")

HELLO: list[MessageParam] = [{"role": "user", "content": "Hello"}]
WEATHER: ToolParam = {
    "name": "weather",
    "description": "Tells the weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


class Mood(BaseModel):
    """What a structured answer is."""

    mood: Literal["calm", "cross"]


@pytest.fixture
def client(server: Server) -> Iterator[Anthropic]:
    """The client adds /v1 itself, and sends the key as x-api-key."""
    with Anthropic(base_url=server.url, api_key=TOKEN, max_retries=0) as connected:
        yield connected


@pytest.mark.feature("chat")
@pytest.mark.feature("history")
@pytest.mark.feature("usage and cost")
def test_a_message(client: Anthropic, model: OfflineModel) -> None:
    model.script(Reply("Ann.", input_tokens=10, cache_read_input_tokens=5, output_tokens=2))
    message = client.messages.create(
        model="sonnet",
        max_tokens=100,
        system="Be brief.",
        messages=[
            {"role": "user", "content": "My name is Ann."},
            {"role": "assistant", "content": "Hello, Ann."},
            {"role": "user", "content": "What is my name?"},
        ],
    )
    (block,) = message.content
    assert (block.type, block.type == "text" and block.text) == ("text", "Ann.")
    assert message.stop_reason == "end_turn"
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (10, 5, 2)
    assert texts(model) == ["My name is Ann.", "Hello, Ann.", "What is my name?"]
    assert "Be brief." in model.main_requests[-1].system_text


@pytest.mark.feature("streaming")
@pytest.mark.feature("thinking")
def test_the_streaming_helper(client: Anthropic, model: OfflineModel) -> None:
    model.script(Reply("one two", thinking="Let me count."))
    with client.messages.stream(model="sonnet", max_tokens=100, messages=HELLO) as stream:
        events = list(stream)
        final = stream.get_final_message()
    assert [event.text for event in events if event.type == "text"] == ["one ", "two"]
    thought = [event.thinking for event in events if event.type == "thinking"]
    assert "".join(thought) == "Let me count."
    assert [block.type for block in final.content] == ["thinking", "text"]
    assert model.main_requests[-1].stream


@pytest.mark.feature("async")
async def test_the_asynchronous_client(server: Server, model: OfflineModel) -> None:
    model.script(Reply("one two"))
    async with (
        AsyncAnthropic(base_url=server.url, api_key=TOKEN) as client,
        client.messages.stream(model="sonnet", max_tokens=100, messages=HELLO) as stream,
    ):
        assert [text async for text in stream.text_stream] == ["one ", "two"]
    assert model.main_requests[-1].user_text == "Hello"


@pytest.mark.feature("tool calls")
@pytest.mark.feature("parallel tool calls")
def test_a_loop_of_tool_calls(client: Anthropic, model: OfflineModel) -> None:
    model.script(TWO_CALLS, ONE_CALL, Reply("Rain, sun, rain."))
    messages: list[MessageParam] = [{"role": "user", "content": "Weather?"}]
    while True:
        message = client.messages.create(
            model="sonnet", max_tokens=100, messages=messages, tools=[WEATHER]
        )
        if message.stop_reason != "tool_use":
            break
        messages.append({"role": "assistant", "content": message.content})
        told: list[ToolResultBlockParam] = [
            {
                "type": "tool_result",
                "tool_use_id": block.id,
                "content": f"It is warm in {block.input['city']}",
            }
            for block in message.content
            if block.type == "tool_use"
        ]
        messages.append({"role": "user", "content": told})
    assert [len(request.tool_results) for request in model.main_requests] == [0, 2, 1]
    assert results(model) == ["It is warm in Oslo"]
    assert model.main_requests[0].tools == ["mcp__client__weather"]


@pytest.mark.feature("tool calls, streamed")
def test_tool_calls_are_streamed(client: Anthropic, model: OfflineModel) -> None:
    model.script(TWO_CALLS)
    with client.messages.stream(
        model="sonnet", max_tokens=100, messages=HELLO, tools=[WEATHER]
    ) as stream:
        fragments = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    assert "".join(fragments) == '{"city": "Oslo"}{"city": "Rome"}'
    called = [block.input for block in final.content if block.type == "tool_use"]
    assert called == [{"city": "Oslo"}, {"city": "Rome"}]
    assert len(model.main_requests) == 1


@pytest.mark.feature("forced tool choice")
def test_a_named_tool_is_called_in_any_case(client: Anthropic, model: OfflineModel) -> None:
    model.script(structured(city="Oslo"))
    message = client.messages.create(
        model="sonnet",
        max_tokens=100,
        messages=HELLO,
        tools=[WEATHER],
        tool_choice={"type": "tool", "name": "weather"},
    )
    (block,) = message.content
    assert block.type == "tool_use"
    assert (block.name, block.input) == ("weather", {"city": "Oslo"})
    assert schema(model)["required"] == ["city"]


@pytest.mark.feature("structured output")
def test_an_answer_is_parsed_into_a_class(client: Anthropic, model: OfflineModel) -> None:
    model.script(structured(mood="calm"))
    message = client.messages.parse(
        model="sonnet", max_tokens=100, messages=HELLO, output_format=Mood
    )
    assert message.parsed_output == Mood(mood="calm")
    assert schema(model)["properties"]["mood"]["enum"] == ["calm", "cross"]


@pytest.mark.feature("images")
def test_an_image(client: Anthropic, model: OfflineModel) -> None:
    client.messages.create(
        model="sonnet",
        max_tokens=100,
        messages=[
            {
                "role": "user",
                "content": [
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": png()},
                    },
                    {"type": "text", "text": "What is it?"},
                ],
            }
        ],
    )
    assert images(model) == [{"type": "base64", "media_type": "image/png", "data": png()}]


@pytest.mark.feature("length and stop")
def test_an_answer_that_is_cut(client: Anthropic, model: OfflineModel) -> None:
    model.script(Reply("one two", stop_reason="max_tokens", word_delay=0.1), Reply("one END two"))
    message = client.messages.create(model="sonnet", max_tokens=2, messages=HELLO)
    assert message.stop_reason == "max_tokens"
    assert [request.body["max_tokens"] for request in model.main_requests] == [2]
    message = client.messages.create(
        model="sonnet", max_tokens=100, messages=HELLO, stop_sequences=["END"]
    )
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")


@pytest.mark.feature("token counts")
def test_tokens_are_counted_without_an_answer(client: Anthropic, model: OfflineModel) -> None:
    few = client.messages.count_tokens(model="sonnet", messages=HELLO)
    more = client.messages.count_tokens(
        model="sonnet", messages=[{"role": "user", "content": "Hello " * 1000}]
    )
    assert 0 < few.input_tokens < more.input_tokens
    assert model.main_requests == []


@pytest.mark.feature("conversation_id")
def test_a_follow_up_by_the_conversations_id_sends_only_what_is_new(
    client: Anthropic, model: OfflineModel
) -> None:
    model.script(Reply("two"), Reply("four"))
    first = client.messages.create(
        model="sonnet", max_tokens=100, messages=[{"role": "user", "content": "one"}]
    )
    assert first.model_extra is not None
    client.messages.create(
        model="sonnet",
        max_tokens=100,
        messages=[{"role": "user", "content": "three"}],
        extra_body={"conversation_id": first.model_extra["conversation_id"]},
    )
    assert texts(model) == ["one", "two", "three"]


@pytest.mark.feature("errors")
@pytest.mark.feature("request ids")
def test_errors_are_the_clients_own_classes(
    server: Server, client: Anthropic, model: OfflineModel
) -> None:
    with (
        Anthropic(base_url=server.url, api_key="not-needed", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError),
    ):
        stranger.messages.create(model="sonnet", max_tokens=100, messages=HELLO)
    with pytest.raises(anthropic.NotFoundError) as unknown:
        client.messages.create(model="gpt-4o", max_tokens=100, messages=HELLO)
    assert unknown.value.request_id is not None
    assert unknown.value.request_id.startswith("req_")
    assert model.main_requests == []
    model.script(Reply(error=ApiError(429)))
    with pytest.raises(anthropic.RateLimitError):
        client.messages.create(model="sonnet", max_tokens=100, messages=HELLO)


@pytest.mark.feature("retries")
def test_only_the_client_tries_again(client: Anthropic, model: OfflineModel) -> None:
    busy = Reply(error=ApiError(529))
    model.script(busy, busy, Reply("At last."))
    patient = client.with_options(max_retries=2)
    patient.messages.create(model="sonnet", max_tokens=100, messages=HELLO)
    assert len(model.main_requests) == 3


@pytest.mark.feature("hosted tools (web search …)", supported=False)
@pytest.mark.feature("files", supported=False)
def test_what_is_not_to_be_had(client: Anthropic, model: OfflineModel) -> None:
    with pytest.raises(anthropic.BadRequestError, match="Claude Code's own tools are there in"):
        client.messages.create(
            model="sonnet",
            max_tokens=100,
            messages=HELLO,
            tools=[{"type": "web_search_20250305", "name": "web_search"}],
        )
    paper: MessageParam = {
        "role": "user",
        "content": [
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "Hello"},
            }
        ],
    }
    with pytest.raises(anthropic.BadRequestError, match="put their text into the message"):
        client.messages.create(model="sonnet", max_tokens=100, messages=[paper])
    assert model.requests == []
