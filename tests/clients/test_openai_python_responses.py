"""openai-python's Responses and Conversations."""

import json
from collections.abc import Iterator
from typing import Literal

import openai
import pytest
from openai import OpenAI
from openai.types.responses import (
    FunctionToolParam,
    ResponseFunctionToolCall,
    ResponseInputItemParam,
    ResponseInputParam,
    ResponseReasoningItem,
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
from tests.servers import TOKEN, Server

pytestmark = pytest.mark.client("openai-python")

WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "weather",
    "description": "Tells the weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


class Mood(BaseModel):
    """What a structured answer is."""

    mood: Literal["calm", "cross"]


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    """Two lines of set-up: the server's URL and its token."""
    with OpenAI(base_url=server.api, api_key=TOKEN, max_retries=0) as connected:
        yield connected


@pytest.mark.feature("Responses")
def test_a_response(client: OpenAI, model: OfflineModel) -> None:
    model.script(Reply("Paris.", output_tokens=2))
    response = client.responses.create(
        model="sonnet", instructions="Be brief.", input="Capital of France?"
    )
    assert (response.output_text, response.status) == ("Paris.", "completed")
    assert response.usage is not None
    assert response.usage.output_tokens == 2
    assert texts(model) == ["Capital of France?"]
    assert "Be brief." in model.main_requests[-1].system_text
    assert client.responses.retrieve(response.id).output_text == "Paris."
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


@pytest.mark.feature("Responses, streamed")
def test_a_streamed_response(client: OpenAI, model: OfflineModel) -> None:
    model.script(Reply("one two three"))
    stream = client.responses.create(model="sonnet", input="Count", stream=True)
    events = list(stream)
    words = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert words == ["one ", "two ", "three"]
    assert [events[0].type, events[-1].type] == ["response.created", "response.completed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    model.script(Reply("four five"))
    with client.responses.stream(model="sonnet", input="Go on") as helper:
        helper.until_done()
        assert helper.get_final_response().output_text == "four five"
    assert texts(model) == ["Go on"]


@pytest.mark.feature("thinking")
def test_thinking_is_an_item_of_its_own(client: OpenAI, model: OfflineModel) -> None:
    model.script(Reply("42", thinking="Let me see."))
    response = client.responses.create(
        model="sonnet", input="The question?", reasoning={"effort": "low"}
    )
    thinking, _ = response.output
    assert isinstance(thinking, ResponseReasoningItem)
    assert thinking.summary[0].text == "Let me see."
    assert model.main_requests[-1].body["output_config"]["effort"] == "low"


@pytest.mark.feature("Responses: earlier ones gone on from")
def test_going_on_from_a_response(client: OpenAI, model: OfflineModel) -> None:
    model.script(Reply("two"), Reply("four"))
    first = client.responses.create(model="sonnet", input="one")
    client.responses.create(model="sonnet", input="three", previous_response_id=first.id)
    assert texts(model) == ["one", "two", "three"]


@pytest.mark.feature("Responses: earlier ones gone on from")
def test_going_on_with_all_items(client: OpenAI, model: OfflineModel) -> None:
    model.script(Reply("two", thinking="Hm."), Reply("four"))
    said: ResponseInputParam = [{"role": "user", "content": "one"}]
    first = client.responses.create(model="sonnet", input=said)
    said += [item.to_dict() for item in first.output]  # type: ignore[misc]
    said.append({"role": "user", "content": "three"})
    second = client.responses.create(model="sonnet", input=said)
    assert texts(model) == ["one", "two", "three"]
    client.responses.create(model="sonnet", input="five", previous_response_id=second.id)
    assert texts(model) == ["one", "two", "three", "four", "five"]


@pytest.mark.feature("Responses: tool calls")
@pytest.mark.feature("parallel tool calls")
def test_a_loop_of_function_calls(client: OpenAI, model: OfflineModel) -> None:
    model.script(TWO_CALLS, ONE_CALL, Reply("Rain, sun, rain."))
    given: ResponseInputParam = [{"role": "user", "content": "Weather?"}]
    previous = None
    while True:
        response = client.responses.create(
            model="sonnet", input=given, tools=[WEATHER], previous_response_id=previous
        )
        calls = [one for one in response.output if isinstance(one, ResponseFunctionToolCall)]
        if not calls:
            break
        previous = response.id
        given = [
            {
                "type": "function_call_output",
                "call_id": call.call_id,
                "output": f"It is warm in {json.loads(call.arguments)['city']}",
            }
            for call in calls
        ]
    assert response.output_text == "Rain, sun, rain."
    assert [len(request.tool_results) for request in model.main_requests] == [0, 2, 1]
    assert results(model) == ["It is warm in Oslo"]


@pytest.mark.feature("Responses: tool calls")
def test_function_calls_are_streamed(client: OpenAI, model: OfflineModel) -> None:
    model.script(TWO_CALLS)
    with client.responses.stream(model="sonnet", input="Weather?", tools=[WEATHER]) as stream:
        done = [
            event.arguments
            for event in stream
            if event.type == "response.function_call_arguments.done"
        ]
    assert [json.loads(arguments) for arguments in done] == [{"city": "Oslo"}, {"city": "Rome"}]
    assert model.main_requests[-1].tools == ["mcp__client__weather"]


@pytest.mark.feature("forced tool choice")
def test_a_named_function_is_called_in_any_case(client: OpenAI, model: OfflineModel) -> None:
    model.script(structured(city="Oslo"))
    response = client.responses.create(
        model="sonnet",
        input="Hello",
        tools=[WEATHER],
        tool_choice={"type": "function", "name": "weather"},
    )
    (call,) = response.output
    assert isinstance(call, ResponseFunctionToolCall)
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Oslo"})
    assert schema(model)["required"] == ["city"]


@pytest.mark.feature("Responses: structured output")
def test_a_response_is_parsed_into_a_class(client: OpenAI, model: OfflineModel) -> None:
    model.script(structured(mood="calm"))
    response = client.responses.parse(model="sonnet", input="How are you?", text_format=Mood)
    assert response.output_parsed == Mood(mood="calm")
    assert schema(model)["properties"]["mood"]["enum"] == ["calm", "cross"]


@pytest.mark.feature("images")
def test_an_image(client: OpenAI, model: OfflineModel) -> None:
    client.responses.create(
        model="sonnet",
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is it?"},
                    {
                        "type": "input_image",
                        "image_url": f"data:image/png;base64,{png()}",
                        "detail": "auto",
                    },
                ],
            }
        ],
    )
    assert images(model) == [{"type": "base64", "media_type": "image/png", "data": png()}]


@pytest.mark.feature("Conversations API")
def test_a_conversation_from_its_beginning_to_its_end(client: OpenAI, model: OfflineModel) -> None:
    model.script(Reply("Hello, Ann."), Reply("Ann."))
    conversation = client.conversations.create(
        metadata={"topic": "names"},
        items=[{"type": "message", "role": "user", "content": "My name is Ann."}],
    )
    assert client.conversations.retrieve(conversation.id).metadata == {"topic": "names"}
    changed = client.conversations.update(conversation.id, metadata={"topic": "people"})
    assert changed.metadata == {"topic": "people"}

    for text in ("Hello!", "What is my name?"):
        response = client.responses.create(model="sonnet", input=text, conversation=conversation.id)
        assert response.conversation is not None
        assert response.conversation.id == conversation.id
    assert texts(model) == ["My name is Ann.\nHello!", "Hello, Ann.", "What is my name?"]

    items = list(client.conversations.items.list(conversation.id, order="asc", limit=2))
    said = [part.text for item in items for part in item.content]  # type: ignore[union-attr]
    assert said == ["My name is Ann.", "Hello!", "Hello, Ann.", "What is my name?", "Ann."]
    first = items[0].id
    assert first is not None
    one = client.conversations.items.retrieve(first, conversation_id=conversation.id)
    assert one.id == first
    client.conversations.items.delete(first, conversation_id=conversation.id)
    client.conversations.items.create(
        conversation.id,
        items=[{"type": "message", "role": "user", "content": "My name is Bob."}],
    )
    rest = client.conversations.items.list(conversation.id, order="desc")
    assert "My name is Bob." in rest.data[0].to_json()
    assert first not in [item.id for item in rest]
    assert client.conversations.delete(conversation.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(conversation.id)


@pytest.mark.feature("Conversations API")
def test_going_on_from_a_response_of_a_conversation(client: OpenAI, model: OfflineModel) -> None:
    model.script(Reply("two"), Reply("four"), Reply("six"))
    rules: list[ResponseInputItemParam] = [{"role": "developer", "content": "Be brief."}]
    id = client.conversations.create(items=rules).id
    client.responses.create(model="sonnet", input="one", conversation=id)
    second = client.responses.create(model="sonnet", input="three", conversation=id)
    client.responses.create(model="sonnet", input="five", previous_response_id=second.id)
    assert texts(model) == ["one", "two", "three", "four", "five"]
    assert "Be brief." in model.main_requests[-1].system_text


@pytest.mark.feature("errors")
def test_errors_are_the_clients_own_classes(client: OpenAI, model: OfflineModel) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.responses.create(model="sonnet", input="Hello", previous_response_id="resp_none")
    assert unknown.value.param == "previous_response_id"
    assert model.main_requests == []
    # Claude Code has the model go on some times by itself.
    model.script(*[Reply("one two", error=ApiError(529))] * 6)
    with pytest.raises(openai.APIError, match="Server error mid-response"):
        list(client.responses.create(model="sonnet", input="Hello", stream=True))


@pytest.mark.feature("length and stop")
def test_a_response_that_is_cut(client: OpenAI, model: OfflineModel) -> None:
    model.script(Reply("one two", stop_reason="max_tokens", word_delay=0.1))
    response = client.responses.create(model="sonnet", input="Count", max_output_tokens=16)
    assert (response.status, response.output_text) == ("incomplete", "one two")
    assert [request.body["max_tokens"] for request in model.main_requests] == [16]
