"""What openai-python can ask for and does not get: it is told so, before anything is spent."""

from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from jupyter_ccapi.demo import OfflineModel
from tests.servers import TOKEN, Server

pytestmark = pytest.mark.client("openai-python")

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    """Two lines of set-up: the server's URL and its token."""
    with OpenAI(base_url=server.api, api_key=TOKEN, max_retries=0) as connected:
        yield connected


@pytest.fixture
def refused(model: OfflineModel) -> Callable[..., openai.BadRequestError]:
    """Ask, and return the 400 that is the answer."""

    def ask(method: Callable[..., Any], **fields: Any) -> openai.BadRequestError:
        with pytest.raises(openai.BadRequestError) as error:
            method(model="sonnet", **fields)
        assert model.requests == []
        return error.value

    return ask


Refused = Callable[..., openai.BadRequestError]


@pytest.mark.feature("audio", supported=False)
def test_audio(client: OpenAI, refused: Refused) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    error = refused(client.chat.completions.create, messages=[{"role": "user", "content": [sound]}])
    assert error.param == "messages[0].content[0]"
    assert "Audio is not supported: Claude takes text and images." in error.message
    audio = {"voice": "alloy", "format": "wav"}
    error = refused(
        client.chat.completions.create, messages=HELLO, modalities=["text", "audio"], audio=audio
    )
    assert "Audio is not supported: Claude answers in text." in error.message


@pytest.mark.feature("files", supported=False)
def test_files(client: OpenAI, refused: Refused) -> None:
    paper = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:;base64,JVBERi0="}}
    error = refused(client.chat.completions.create, messages=[{"role": "user", "content": [paper]}])
    assert "Files are not supported here: put their text into the message." in error.message


@pytest.mark.feature("n over 1", supported=False)
def test_several_answers_at_once(client: OpenAI, refused: Refused) -> None:
    error = refused(client.chat.completions.create, messages=HELLO, n=2)
    assert error.param == "n"
    assert "Only n=1 is supported: send the request several times." in error.message


@pytest.mark.feature("log probabilities", supported=False)
def test_log_probabilities(client: OpenAI, refused: Refused) -> None:
    error = refused(client.chat.completions.create, messages=HELLO, logprobs=True)
    assert error.param == "logprobs"
    assert "Claude reports no log probabilities." in error.message


@pytest.mark.feature("embeddings", supported=False)
def test_embeddings(client: OpenAI, model: OfflineModel) -> None:
    with pytest.raises(openai.NotFoundError, match="Unknown request URL: POST /v1/embeddings"):
        client.embeddings.create(model="sonnet", input="Hello")
    assert model.requests == []


@pytest.mark.feature("hosted tools (web search …)", supported=False)
def test_hosted_tools(client: OpenAI, refused: Refused) -> None:
    error = refused(client.responses.create, input="News?", tools=[{"type": "web_search"}])
    assert error.param == "tools[0].type"
    assert "Claude Code's own tools are there in agent mode." in error.message


@pytest.mark.feature("background responses", supported=False)
def test_responses_in_the_background(client: OpenAI, refused: Refused) -> None:
    error = refused(client.responses.create, input="Hello", background=True)
    assert error.param == "background"
    assert "Responses in the background are not supported" in error.message
