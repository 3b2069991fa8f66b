"""langchain-openai's ChatOpenAI, on a plain Jupyter server."""

from typing import Any, Literal

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from jupyter_ccapi.demo import OfflineModel, Reply
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

pytestmark = pytest.mark.client("langchain-openai")


class Mood(BaseModel):
    """How somebody feels."""

    mood: Literal["calm", "cross"]


@tool
def weather(city: str) -> str:
    """Tells the weather of a city."""
    return {"Oslo": "Rain", "Rome": "Sun"}[city]


def chat_model(server: Server, **more: Any) -> ChatOpenAI:
    """The server's URL and its token are all that is to be said."""
    return ChatOpenAI(
        model="sonnet", base_url=server.api, api_key=SecretStr(TOKEN), max_retries=0, **more
    )


@pytest.fixture
def chat(server: Server) -> ChatOpenAI:
    """A chat model."""
    return chat_model(server)


@pytest.mark.feature("chat")
@pytest.mark.feature("history")
def test_invoke(chat: ChatOpenAI, model: OfflineModel) -> None:
    model.script(Reply("Ann.", output_tokens=2))
    answer = chat.invoke(
        [
            SystemMessage("Be brief."),
            HumanMessage("My name is Ann."),
            AIMessage("Hello, Ann."),
            HumanMessage("What is my name?"),
        ]
    )
    assert answer.text == "Ann."
    assert texts(model) == ["My name is Ann.", "Hello, Ann.", "What is my name?"]
    assert "Be brief." in model.main_requests[-1].system_text


@pytest.mark.feature("streaming")
@pytest.mark.feature("usage and cost")
def test_stream(chat: ChatOpenAI, model: OfflineModel) -> None:
    model.script(Reply("one two three", output_tokens=3))
    chunks = list(chat.stream("Count", stream_usage=True))
    assert [chunk.text for chunk in chunks if chunk.text] == ["one ", "two ", "three"]
    (usage,) = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert usage["output_tokens"] == 3
    assert model.main_requests[-1].user_text == "Count"


@pytest.mark.feature("async")
async def test_asynchronously(chat: ChatOpenAI, model: OfflineModel) -> None:
    model.script(Reply("one two"))
    words = [chunk.text async for chunk in chat.astream("Count")]
    assert "".join(words) == "one two"
    assert model.main_requests[-1].user_text == "Count"


@pytest.mark.feature("batches")
def test_batch(chat: ChatOpenAI, model: OfflineModel) -> None:
    questions = ["[[say one]]", "[[say two]]", "[[say three]]"]
    answers = chat.batch(list(questions), config={"max_concurrency": 2})
    assert [answer.text for answer in answers] == ["one", "two", "three"]
    assert sorted(request.user_text for request in model.main_requests) == sorted(questions)


@pytest.mark.feature("tool calls")
@pytest.mark.feature("parallel tool calls")
def test_an_agents_loop(chat: ChatOpenAI, model: OfflineModel) -> None:
    model.script(TWO_CALLS, ONE_CALL, Reply("Rain, sun, rain."))
    assert agent(chat, "Weather?").text == "Rain, sun, rain."
    assert [len(request.tool_results) for request in model.main_requests] == [0, 2, 1]
    assert results(model) == ["Rain"]
    assert model.main_requests[0].tools == ["mcp__client__weather"]


def agent(chat: ChatOpenAI, question: str) -> BaseMessage:
    """Answer a question by tools."""
    able = chat.bind_tools([weather])
    messages: list[BaseMessage] = [HumanMessage(question)]
    while True:
        answer = able.invoke(messages)
        messages.append(answer)
        if not answer.tool_calls:
            return answer
        messages += [weather.invoke(call) for call in answer.tool_calls]


@pytest.mark.feature("tool calls, streamed")
def test_streamed_tool_calls(chat: ChatOpenAI, model: OfflineModel) -> None:
    model.script(TWO_CALLS)
    chunks = list(chat.bind_tools([weather]).stream("Weather?"))
    whole = sum(chunks[1:], chunks[0])
    assert [call["args"] for call in whole.tool_calls] == [{"city": "Oslo"}, {"city": "Rome"}]
    assert model.main_requests[-1].stream


@pytest.mark.feature("forced tool choice")
def test_a_tool_that_must_be_called(chat: ChatOpenAI, model: OfflineModel) -> None:
    model.script(structured(city="Oslo"))
    answer = chat.bind_tools([weather], tool_choice="weather").invoke("Hello")
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Oslo"})
    assert schema(model)["required"] == ["city"]


@pytest.mark.feature("structured output")
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(
    chat: ChatOpenAI,
    model: OfflineModel,
    method: Literal["json_schema", "function_calling"],
) -> None:
    model.script(structured(mood="calm"))
    answer = chat.with_structured_output(Mood, method=method).invoke("How are you?")
    assert answer == Mood(mood="calm")
    assert schema(model)["properties"]["mood"]["enum"] == ["calm", "cross"]


# langchain dumps an event of the openai package whose field holds the class.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
@pytest.mark.feature("structured output, streamed")
def test_structured_output_is_streamed(chat: ChatOpenAI, model: OfflineModel) -> None:
    model.script(structured(mood="calm"))
    *_, last = chat.with_structured_output(Mood).stream("How are you?")
    assert last == Mood(mood="calm")
    assert model.main_requests[-1].stream


@pytest.mark.feature("images")
def test_an_image(chat: ChatOpenAI, model: OfflineModel) -> None:
    dot = {"type": "image", "base64": png(), "mime_type": "image/png"}
    chat.invoke([HumanMessage([{"type": "text", "text": "What is it?"}, dot])])
    assert images(model) == [{"type": "base64", "media_type": "image/png", "data": png()}]


@pytest.mark.feature("length and stop")
def test_the_length_of_an_answer(server: Server, model: OfflineModel) -> None:
    model.script(Reply("one two", stop_reason="max_tokens", word_delay=0.1))
    answer = chat_model(server, max_tokens=2).invoke("Count")
    assert answer.text == "one two"
    assert answer.response_metadata["finish_reason"] == "length"
    assert [request.body["max_tokens"] for request in model.main_requests] == [2]


@pytest.mark.feature("Responses")
@pytest.mark.feature("thinking")
def test_responses(server: Server, model: OfflineModel) -> None:
    chat = chat_model(server, use_responses_api=True, reasoning={"effort": "low"})
    model.script(Reply("two", thinking="Hm."), Reply("four"))
    first = chat.invoke("one")
    assert [block["type"] for block in first.content_blocks] == ["reasoning", "text"]
    assert first.content_blocks[0].get("reasoning") == "Hm."
    answer = chat.invoke([HumanMessage("one"), first, HumanMessage("three")])
    assert answer.text == "four"
    assert texts(model) == ["one", "two", "three"]
    assert model.main_requests[-1].body["output_config"]["effort"] == "low"


@pytest.mark.feature("Responses, streamed")
def test_responses_are_streamed(server: Server, model: OfflineModel) -> None:
    model.script(Reply("one two"))
    chunks = chat_model(server, use_responses_api=True).stream("Count")
    assert [chunk.text for chunk in chunks if chunk.text] == ["one ", "two"]
    assert model.main_requests[-1].stream


@pytest.mark.feature("Responses: tool calls")
def test_an_agents_loop_over_responses(server: Server, model: OfflineModel) -> None:
    model.script(TWO_CALLS, Reply("Rain and sun."))
    assert agent(chat_model(server, use_responses_api=True), "Weather?").text == "Rain and sun."
    assert results(model) == ["Rain", "Sun"]


@pytest.mark.feature("Responses: structured output")
def test_structured_output_over_responses(server: Server, model: OfflineModel) -> None:
    model.script(structured(mood="cross"))
    chat = chat_model(server, use_responses_api=True)
    assert chat.with_structured_output(Mood).invoke("How are you?") == Mood(mood="cross")
    assert schema(model)["properties"]["mood"]["enum"] == ["calm", "cross"]


@pytest.mark.feature("Responses: earlier ones gone on from")
def test_going_on_from_a_response(server: Server, model: OfflineModel) -> None:
    chat = chat_model(server, use_responses_api=True, use_previous_response_id=True)
    model.script(Reply("two"), Reply("four"))
    first = chat.invoke("one")
    chat.invoke([HumanMessage("one"), first, HumanMessage("three")])
    assert texts(model) == ["one", "two", "three"]
