"""openai-python's chat completions, as anybody uses them, on a plain Jupyter server."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import (
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionMessageParam,
    ChatCompletionToolParam,
)
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
from tests.servers import TOKEN, Server, jupyter_server

pytestmark = pytest.mark.client("openai-python")

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


class Mood(BaseModel):
    """What a structured answer is."""

    mood: Literal["calm", "cross"]
    reason: str


def weather(city: str) -> str:
    """The tool, on the client's side."""
    return {"Oslo": "Rain", "Rome": "Sun"}[city]


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    """Two lines of set-up: the server's URL and its token."""
    with OpenAI(base_url=server.api, api_key=TOKEN, max_retries=0) as connected:
        yield connected


@pytest.mark.feature("chat")
def test_a_chat(client: OpenAI, model: OfflineModel) -> None:
    model.script(Reply("Paris."))
    answer = client.chat.completions.create(
        model="sonnet", messages=[{"role": "user", "content": "Capital of France?"}]
    )
    assert answer.choices[0].message.content == "Paris."
    assert answer.choices[0].finish_reason == "stop"
    assert model.main_requests[-1].user_text == "Capital of France?"


@pytest.mark.feature("streaming")
def test_a_stream_arrives_while_the_model_still_speaks(client: OpenAI, model: OfflineModel) -> None:
    hold = threading.Event()
    model.script(Reply("one two three", hold=hold))
    stream = client.chat.completions.create(
        model="sonnet",
        messages=[{"role": "user", "content": "Count"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    words, usage = [], None
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            words.append(chunk.choices[0].delta.content)
            assert len(words) > 1 or not hold.is_set()
            hold.set()
        usage = chunk.usage or usage
    assert words == ["one ", "two ", "three"]
    assert usage is not None
    assert usage.completion_tokens > 0


@pytest.mark.feature("streaming")
def test_the_streaming_helper(client: OpenAI, model: OfflineModel) -> None:
    model.script(Reply("one two"))
    with client.chat.completions.stream(
        model="sonnet", messages=[{"role": "user", "content": "Count"}]
    ) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert deltas == ["one ", "two"]
    assert final.choices[0].message.content == "one two"
    assert model.main_requests[-1].stream


@pytest.mark.feature("streaming")
def test_leaving_a_stream_early_ends_the_turn(client: OpenAI, model: OfflineModel) -> None:
    model.script(Reply("one two three", hold=threading.Event()))
    stream = client.chat.completions.create(
        model="sonnet", messages=[{"role": "user", "content": "Count"}], stream=True
    )
    next(iter(stream))
    stream.close()
    model.wait_for(lambda request: request.closed_early, 5)


@pytest.mark.feature("async")
async def test_the_asynchronous_client(server: Server, model: OfflineModel) -> None:
    model.script(Reply("Hello."), Reply("one two"))
    async with AsyncOpenAI(base_url=server.api, api_key=TOKEN) as client:
        answer = await client.chat.completions.create(model="sonnet", messages=HELLO)
        assert answer.choices[0].message.content == "Hello."
        stream = await client.chat.completions.create(
            model="sonnet", messages=[{"role": "user", "content": "Count"}], stream=True
        )
        words = [chunk.choices[0].delta.content async for chunk in stream]
    assert [word for word in words if word] == ["one ", "two"]
    assert [request.user_text for request in model.main_requests] == ["Hello", "Count"]


@pytest.mark.feature("history")
def test_the_history_that_the_client_resends_is_what_the_model_hears(
    client: OpenAI, model: OfflineModel
) -> None:
    client.chat.completions.create(
        model="sonnet",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "My name is Ann."},
            {"role": "assistant", "content": "Hello, Ann."},
            {"role": "user", "content": "What is my name?"},
        ],
    )
    assert texts(model) == ["My name is Ann.", "Hello, Ann.", "What is my name?"]
    assert "Be brief." in model.main_requests[-1].system_text


@pytest.mark.feature("thinking")
def test_thinking_comes_apart_from_the_answer(client: OpenAI, model: OfflineModel) -> None:
    model.script(Reply("42", thinking="Let me see."))
    answer = client.chat.completions.create(model="sonnet", messages=HELLO, reasoning_effort="high")
    message = answer.choices[0].message
    assert message.content == "42"
    assert message.model_extra == {"reasoning_content": "Let me see."}
    assert model.main_requests[-1].body["output_config"]["effort"] == "high"


@pytest.mark.feature("usage and cost")
def test_usage_is_the_models_own(client: OpenAI, model: OfflineModel) -> None:
    model.script(
        Reply(
            "Hi.",
            input_tokens=10,
            output_tokens=3,
            cache_read_input_tokens=90,
            cache_creation_input_tokens=0,
        )
    )
    raw = client.chat.completions.with_raw_response.create(model="sonnet", messages=HELLO)
    usage = raw.parse().usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (100, 3, 103)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 90
    assert float(raw.headers["x-ccapi-cost-usd"]) > 0
    assert len(model.main_requests) == 1


@pytest.mark.feature("length and stop")
def test_an_answer_that_is_cut(client: OpenAI, model: OfflineModel) -> None:
    model.script(Reply("one two", stop_reason="max_tokens", word_delay=0.1), Reply("one END two"))
    answer = client.chat.completions.create(model="sonnet", messages=HELLO, max_completion_tokens=2)
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("length", "one two")
    assert [request.body["max_tokens"] for request in model.main_requests] == [2]
    answer = client.chat.completions.create(model="sonnet", messages=HELLO, stop=["END"])
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("stop", "one ")


@pytest.mark.feature("tool calls")
@pytest.mark.feature("parallel tool calls")
def test_a_loop_of_tool_calls(client: OpenAI, model: OfflineModel) -> None:
    model.script(TWO_CALLS, ONE_CALL, Reply("Rain, sun, rain."))
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Weather?"}]
    while True:
        message = (
            client.chat.completions.create(model="sonnet", messages=messages, tools=[WEATHER])
            .choices[0]
            .message
        )
        if not message.tool_calls:
            break
        messages.append(message.to_dict())  # type: ignore[arg-type]
        for call in message.tool_calls:
            assert isinstance(call, ChatCompletionMessageFunctionToolCall)
            said = weather(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": said})
    assert message.content == "Rain, sun, rain."
    assert [len(request.tool_results) for request in model.main_requests] == [0, 2, 1]
    assert [one.text for one in model.main_requests[1].tool_results] == ["Rain", "Sun"]
    assert model.main_requests[0].tools == ["mcp__client__weather"]


@pytest.mark.feature("tool calls, streamed")
@pytest.mark.feature("parallel tool calls")
def test_a_loop_of_streamed_tool_calls(client: OpenAI, model: OfflineModel) -> None:
    model.script(TWO_CALLS, Reply("Rain and sun."))
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Weather?"}]
    fragments = []
    while True:
        with client.chat.completions.stream(
            model="sonnet", messages=messages, tools=[WEATHER]
        ) as stream:
            fragments += [
                event.arguments_delta
                for event in stream
                if event.type == "tool_calls.function.arguments.delta"
            ]
            message = stream.get_final_completion().choices[0].message
        if not message.tool_calls:
            break
        messages.append(message.to_dict())  # type: ignore[arg-type]
        for call in message.tool_calls:
            assert isinstance(call.function.parsed_arguments, dict)
            said = weather(**call.function.parsed_arguments)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": said})
    assert message.content == "Rain and sun."
    assert "".join(fragments) == '{"city": "Oslo"}{"city": "Rome"}'
    assert len(fragments) > 2
    assert results(model) == ["Rain", "Sun"]


@pytest.mark.feature("forced tool choice")
def test_a_named_tool_is_called_in_any_case(client: OpenAI, model: OfflineModel) -> None:
    model.script(structured(city="Oslo"))
    answer = client.chat.completions.create(
        model="sonnet",
        messages=HELLO,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    assert (call.function.name, call.function.arguments) == ("weather", '{"city": "Oslo"}')
    assert schema(model)["required"] == ["city"]


@pytest.mark.feature("structured output")
def test_an_answer_is_parsed_into_a_class(client: OpenAI, model: OfflineModel) -> None:
    model.script(structured(mood="calm", reason="tea"))
    answer = client.chat.completions.parse(model="sonnet", messages=HELLO, response_format=Mood)
    assert answer.choices[0].message.parsed == Mood(mood="calm", reason="tea")
    assert schema(model)["properties"]["mood"]["enum"] == ["calm", "cross"]


@pytest.mark.feature("structured output, streamed")
def test_a_structured_answer_is_streamed(client: OpenAI, model: OfflineModel) -> None:
    model.script(structured(mood="cross", reason="rain"))
    with client.chat.completions.stream(
        model="sonnet", messages=HELLO, response_format=Mood
    ) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert len(deltas) > 1
    assert final.choices[0].message.parsed == Mood(mood="cross", reason="rain")
    assert len(model.main_requests) == 1


@pytest.mark.feature("images")
def test_an_image(client: OpenAI, model: OfflineModel) -> None:
    client.chat.completions.create(
        model="sonnet",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {
                        "type": "image_url",
                        "image_url": {"url": f"data:image/png;base64,{png()}"},
                    },
                ],
            }
        ],
    )
    assert images(model) == [{"type": "base64", "media_type": "image/png", "data": png()}]
    assert model.main_requests[-1].user_text.strip() == "What is it?"


@pytest.mark.feature("conversation_id")
def test_a_follow_up_by_the_conversations_id_sends_only_what_is_new(
    client: OpenAI, model: OfflineModel
) -> None:
    model.script(Reply("two"), Reply("four"))
    first = client.chat.completions.create(
        model="sonnet", messages=[{"role": "user", "content": "one"}]
    )
    assert first.model_extra is not None
    client.chat.completions.create(
        model="sonnet",
        messages=[{"role": "user", "content": "three"}],
        extra_body={"conversation_id": first.model_extra["conversation_id"]},
    )
    assert texts(model) == ["one", "two", "three"]


@pytest.mark.feature("agent mode")
def test_claude_code_with_its_own_tools(client: OpenAI, model: OfflineModel) -> None:
    answer = client.chat.completions.create(
        model="sonnet", messages=HELLO, extra_body={"ccapi": {"mode": "agent"}}
    )
    assert answer.choices[0].message.content
    assert {"Bash", "Read", "Edit"} <= set(model.main_requests[-1].tools)


@pytest.mark.feature("models")
def test_models(client: OpenAI) -> None:
    names = {entry.id for entry in client.models.list()}
    assert {"opus", "sonnet", "haiku"} <= names
    assert client.models.retrieve("opus").id == "opus"
    arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/claude"
    assert client.models.retrieve(arn).id == arn


@pytest.mark.feature("errors")
def test_a_wrong_key(server: Server) -> None:
    with OpenAI(base_url=server.api, api_key="not-needed", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as chat:
            stranger.chat.completions.create(model="sonnet", messages=HELLO)
        with pytest.raises(openai.AuthenticationError):
            stranger.models.list()
    assert chat.value.code == "invalid_api_key"


@pytest.mark.feature("errors")
def test_errors_are_the_clients_own_classes(client: OpenAI, model: OfflineModel) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model="sonnet", messages=[])
    assert wrong.value.param == "messages"
    assert model.main_requests == []
    model.script(Reply(error=ApiError(429)))
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="sonnet", messages=HELLO)


@pytest.mark.feature("errors")
def test_an_error_in_mid_stream_is_raised_where_the_stream_is_read(
    client: OpenAI, model: OfflineModel, server: Server
) -> None:
    hold = threading.Event()
    model.script(Reply("one two three", hold=hold))
    stream = client.chat.completions.create(
        model="sonnet", messages=[{"role": "user", "content": "Count"}], stream=True
    )

    def read() -> None:
        for chunk in stream:
            assert chunk.choices[0].delta.content == "one "
            for cli in server.clis():
                cli.kill()

    with pytest.raises(openai.APIError, match="ended in the middle of the turn"):
        read()
    hold.set()


@pytest.mark.feature("retries")
def test_only_the_client_tries_again(client: OpenAI, model: OfflineModel) -> None:
    busy = Reply(error=ApiError(529))
    model.script(busy, busy, Reply("At last."))
    patient = client.with_options(max_retries=2)
    answer = patient.chat.completions.create(model="sonnet", messages=HELLO)
    assert answer.choices[0].message.content == "At last."
    assert len(model.main_requests) == 3


@pytest.mark.feature("retries")
def test_the_client_waits_as_long_as_it_is_told_to(model: OfflineModel, home: Path) -> None:
    # Claude Code knows when a subscription's limit ends.
    login = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-offline"}
    name = "anthropic-ratelimit-unified"
    limited = {
        f"{name}-status": "rejected",
        f"{name}-representative-claim": "five_hour",
        f"{name}-reset": str(int(time.time()) + 9000),
    }
    model.script(Reply(error=ApiError(429), headers=limited), Reply("At last."))
    with (
        jupyter_server(model, home, f"--CCApiApp.cli_environment={login}") as server,
        OpenAI(base_url=server.api, api_key=TOKEN, max_retries=2) as client,
    ):
        with pytest.raises(openai.RateLimitError) as error:
            client.with_options(max_retries=0).chat.completions.create(
                model="sonnet", messages=HELLO
            )
        assert 8000 < int(error.value.response.headers["retry-after"]) <= 9000
        answer = client.chat.completions.create(model="sonnet", messages=HELLO)
    assert answer.choices[0].message.content == "At last."
    assert len(model.main_requests) == 2


@pytest.mark.feature("Idempotency-Key")
def test_a_request_that_was_sent_twice_is_answered_once(
    client: OpenAI, model: OfflineModel
) -> None:
    model.script(Reply("Once."), Reply("Twice."))
    answers = [
        client.chat.completions.create(
            model="sonnet", messages=HELLO, extra_headers={"Idempotency-Key": "order-66"}
        )
        for _ in range(2)
    ]
    assert answers[0] == answers[1]
    assert len(model.main_requests) == 1


@pytest.mark.feature("request ids")
def test_the_id_of_a_request(client: OpenAI, model: OfflineModel) -> None:
    answer = client.chat.completions.create(
        model="sonnet", messages=HELLO, extra_headers={"x-request-id": "mine-1"}
    )
    assert answer._request_id == "mine-1"
    assert client.models.list()._request_id.startswith("req_")  # type: ignore[union-attr]
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(
            model="gpt-4o", messages=HELLO, extra_headers={"x-request-id": "mine-2"}
        )
    assert unknown.value.request_id == "mine-2"
