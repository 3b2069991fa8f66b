"""openai-python, as anybody uses it, on a plain Jupyter server."""

import threading
from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from tests.servers import TOKEN, Server


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    """Two lines of set-up: the server's URL and its token."""
    with OpenAI(base_url=server.api, api_key=TOKEN, max_retries=0) as connected:
        yield connected


def test_a_chat(client: OpenAI, model: OfflineModel) -> None:
    model.script(Reply("Paris."))
    answer = client.chat.completions.create(
        model="sonnet", messages=[{"role": "user", "content": "Capital of France?"}]
    )
    assert answer.choices[0].message.content == "Paris."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert model.main_requests[-1].user_text == "Capital of France?"


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


def test_the_history_that_the_client_resends_is_what_the_model_hears(
    client: OpenAI, model: OfflineModel
) -> None:
    client.chat.completions.create(
        model="sonnet",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "My name is Ann."},
            {"role": "assistant", "content": "Hello, Ann."},
            {"role": "user", "content": "What is my name?"},
        ],
    )
    request = model.main_requests[-1]
    roles = [message["role"] for message in request.messages if message["role"] != "system"]
    assert roles == ["user", "assistant", "user"]
    assert "Be brief." in request.system_text


def test_the_streaming_helper(client: OpenAI, model: OfflineModel) -> None:
    model.script(Reply("one two"))
    with client.chat.completions.stream(
        model="sonnet", messages=[{"role": "user", "content": "Count"}]
    ) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert deltas == ["one ", "two"]
    assert final.choices[0].message.content == "one two"


def test_models(client: OpenAI) -> None:
    names = {entry.id for entry in client.models.list()}
    assert {"opus", "sonnet", "haiku"} <= names
    assert client.models.retrieve("opus").id == "opus"
    arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/claude"
    assert client.models.retrieve(arn).id == arn


def test_a_wrong_key(server: Server) -> None:
    with OpenAI(base_url=server.api, api_key="not-needed", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as chat:
            stranger.chat.completions.create(
                model="sonnet", messages=[{"role": "user", "content": "Hello"}]
            )
        with pytest.raises(openai.AuthenticationError):
            stranger.models.list()
    assert chat.value.code == "invalid_api_key"


def test_errors_are_the_clients_own_classes(client: OpenAI, model: OfflineModel) -> None:
    hello: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-4o", messages=hello)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model="sonnet", messages=[])
    assert wrong.value.param == "messages"
    model.script(Reply(error=ApiError(429)))
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="sonnet", messages=hello)


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


def test_leaving_a_stream_early_ends_the_turn(client: OpenAI, model: OfflineModel) -> None:
    model.script(Reply("one two three", hold=threading.Event()))
    stream = client.chat.completions.create(
        model="sonnet", messages=[{"role": "user", "content": "Count"}], stream=True
    )
    next(iter(stream))
    stream.close()
    model.wait_for(lambda request: request.closed_early, 5)
