"""Bodies of POST /v1/responses: what they become, and what is refused."""

from typing import Any

import pytest

from jupyter_ccapi.claude import Message
from jupyter_ccapi.openai.errors import APIError
from jupyter_ccapi.openai.request import AgentWish, Choice
from jupyter_ccapi.openai.responses_input import references
from jupyter_ccapi.openai.responses_request import ResponsesRequest, parse_responses

ADD = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True}
SUB = {"type": "function", "name": "sub"}
CALL = {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": '{"a": 1}'}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "2"}
ASK = {"role": "user", "content": "What is 1 + 1?"}
PNG = "data:image/png;base64,iVBORw0KGgo="


def parse(*items: dict[str, Any], **fields: Any) -> ResponsesRequest:
    """Parse a body with these items, or with a text for input."""
    return parse_responses({"input": list(items) or "Hello", **fields})


def test_a_text_is_a_users_message() -> None:
    asked = parse()
    assert asked.request.messages == (Message("user", "Hello"),)
    (item,) = asked.items
    assert item["id"].startswith("msg_")
    assert {**item, "id": ""} == {
        "id": "",
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": [{"type": "input_text", "text": "Hello"}],
    }


def test_messages_in_their_easy_and_their_full_form_are_the_same() -> None:
    easy = parse(ASK, {"role": "assistant", "content": "2"}, ASK)
    full = parse(
        {**ASK, "type": "message", "content": [{"type": "input_text", "text": ASK["content"]}]},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "2", "annotations": []}],
        },
        ASK,
    )
    assert easy.request.messages == full.request.messages
    assert [item["role"] for item in full.items] == ["user", "assistant", "user"]
    assert full.items[1]["id"] == "msg_1"


def test_calls_and_outputs_are_tool_turns_with_the_long_name_inside() -> None:
    asked = parse(
        ASK, {"type": "reasoning", "id": "rs_1", "summary": []}, CALL, OUTPUT, tools=[ADD]
    )
    assert asked.request.messages == (
        Message("user", "What is 1 + 1?"),
        Message(
            "assistant",
            [{"type": "tool_use", "id": "call_1", "name": "mcp__client__add", "input": {"a": 1}}],
        ),
        Message(
            "user",
            [
                {
                    "type": "tool_result",
                    "tool_use_id": "call_1",
                    "content": "2",
                    "param": "input[3].call_id",
                }
            ],
        ),
    )
    assert [item["type"] for item in asked.items] == [
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
    ]


def test_parallel_calls_are_one_message_and_their_outputs_come_before_what_else_is_said() -> None:
    second = {**CALL, "call_id": "call_2"}
    asked = parse(ASK, CALL, second, ASK, {**OUTPUT, "call_id": "call_2"}, OUTPUT)
    _, calls, results = asked.request.messages
    assert [block["id"] for block in calls.blocks] == ["call_1", "call_2"]
    kinds = [(block["type"], block.get("tool_use_id")) for block in results.blocks]
    assert kinds == [("tool_result", "call_2"), ("tool_result", "call_1"), ("text", None)]


def test_images_are_still_to_be_read_and_bear_the_field_that_errors_name() -> None:
    parts = [{"type": "input_text", "text": "See:"}, {"type": "input_image", "image_url": PNG}]
    asked = parse(
        {"role": "user", "content": parts},
        CALL,
        {**OUTPUT, "output": [{"type": "input_image", "image_url": "https://example.org/a.png"}]},
    )
    text, image = asked.request.messages[0].blocks
    assert text == {"type": "text", "text": "See:"}
    source = {"type": "url", "url": PNG, "param": "input[0].content[1].image_url"}
    assert image == {"type": "image", "source": source}
    (result,) = asked.request.messages[-1].blocks
    assert result["content"][0]["source"]["param"] == "input[2].output[0].image_url"


def test_instructions_are_for_this_request_and_the_inputs_own_system_messages_stay() -> None:
    asked = parse(
        {"role": "system", "content": "Two."},
        ASK,
        {"role": "developer", "content": [{"type": "input_text", "text": "Three."}]},
        instructions="One.",
    )
    assert asked.request.instructions == "One."
    assert asked.request.system_prompt == "Two.\n\nThree."
    assert asked.request.messages == (Message("user", "What is 1 + 1?"),)
    assert (parse().request.instructions, parse().request.system_prompt) == (None, None)


def test_references_are_replaced_by_the_items_that_they_name() -> None:
    said = {"type": "message", "id": "msg_9", "role": "assistant", "content": "2"}
    body = {
        "input": [
            ASK,
            {"type": "item_reference", "id": "rs_9"},
            {"id": "msg_9"},
            ASK,
        ]
    }
    assert references(body) == ["rs_9", "msg_9"]
    asked = parse_responses(body, {"msg_9": said})
    assert [message.role for message in asked.request.messages] == ["user", "assistant", "user"]
    assert [item["id"] for item in asked.items][1] == "msg_9"
    assert len(asked.items) == 3, "reasoning need not be there: it is not given to the model"


def test_a_reference_to_nothing_is_a_404() -> None:
    with pytest.raises(APIError) as caught:
        parse(ASK, {"type": "item_reference", "id": "msg_9"}, ASK)
    assert (caught.value.status, caught.value.param) == (404, "input[1].id")


@pytest.mark.parametrize("body", [None, [], {}, {"input": "a"}, {"input": [1, {"id": 3}, {}]}])
def test_what_is_no_request_refers_to_nothing(body: Any) -> None:
    assert references(body) == []


def test_conversations_have_two_names_and_a_previous_response_is_another_thing() -> None:
    assert parse(conversation="conv_1").request.conversation == "conv_1"
    assert parse(conversation={"id": "conv_1"}).request.conversation == "conv_1"
    assert parse(conversation_id="conv_1").request.conversation == "conv_1"
    asked = parse(previous_response_id="resp_1")
    assert asked.request.previous_response == "resp_1"
    assert asked.request.conversation is None


def test_with_what_is_known_already_the_calls_are_not_told_again() -> None:
    asked = parse(CALL, OUTPUT, previous_response_id="resp_1")
    (results,) = asked.request.messages
    assert [block["type"] for block in results.blocks] == ["tool_result"]
    assert [item["type"] for item in asked.items] == ["function_call", "function_call_output"]
    assert asked.request.only_new
    assert parse(OUTPUT, conversation="conv_1").request.only_new
    assert not parse(ASK, CALL, OUTPUT, conversation_id="conv_1").request.only_new


def test_parameters_are_read_and_null_is_as_good_as_nothing() -> None:
    request = parse(
        model="opus",
        stream=True,
        max_output_tokens=50,
        reasoning={"effort": "minimal", "summary": "auto"},
        parallel_tool_calls=False,
        store=False,
        metadata={"topic": "sums"},
        ccapi={"mode": "agent"},
    ).request
    assert (request.model, request.stream, request.max_tokens) == ("opus", True, 50)
    assert (request.effort, request.parallel, request.store) == ("low", False, False)
    assert request.metadata == {"topic": "sums"}
    assert request.agent == AgentWish(mode="agent")
    names = (
        "model", "stream", "max_output_tokens", "reasoning", "parallel_tool_calls", "store",
        "metadata", "tools", "tool_choice", "text", "include", "instructions", "conversation",
        "previous_response_id", "background", "prompt", "truncation", "ccapi",
    )  # fmt: skip
    silent: dict[str, Any] = dict.fromkeys(names)
    assert parse(**silent).request == parse().request


def test_what_has_no_effect_is_named_and_what_changes_nothing_is_not() -> None:
    asked = parse(temperature=0, top_p=0.5, truncation="auto", text={"verbosity": "low"})
    assert asked.request.ignored == ("temperature", "top_p", "truncation", "text.verbosity")
    harmless = parse(
        truncation="disabled",
        text={"verbosity": "medium"},
        include=["reasoning.encrypted_content"],
        stream_options={"include_obfuscation": False},
        user="u",
        context_management=[],
    )
    assert harmless.request.ignored == ()


def test_a_format_is_a_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    named = {"type": "json_schema", "name": "sum", "schema": schema, "description": "A sum."}
    assert parse(text={"format": named}).request.schema == {**schema, "description": "A sum."}
    anything = parse(text={"format": {"type": "json_object"}}).request.schema
    assert anything is not None
    assert anything["type"] == "object"
    assert parse(text={"format": {"type": "text"}}).request.schema is None


@pytest.mark.parametrize(
    ("asked", "choice"),
    [
        ("auto", Choice()),
        ("none", Choice("none")),
        ("required", Choice("forced", ("add", "sub"))),
        ({"type": "function", "name": "sub"}, Choice("forced", ("sub",))),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", **SUB}]},
            Choice("forced", ("sub",)),
        ),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", **SUB}]},
            Choice("auto", ("sub",)),
        ),
    ],
)
def test_tool_choices(asked: Any, choice: Choice) -> None:
    request = parse(tools=[ADD, SUB], tool_choice=asked).request
    assert [tool.name for tool in request.tools] == ["add", "sub"]
    assert request.choice == choice


def test_the_response_will_repeat_what_was_asked() -> None:
    echo = parse(
        instructions="Be brief.", tools=[ADD], tool_choice="required", user="u", store=False
    ).echo
    assert (echo["instructions"], echo["tools"]) == ("Be brief.", [ADD])
    assert (echo["tool_choice"], echo["user"], echo["store"]) == ("required", "u", False)
    assert (parse().echo["tool_choice"], parse().echo["parallel_tool_calls"]) == ("auto", True)
    assert parse().echo["text"] == {"format": {"type": "text"}, "verbosity": "medium"}


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    """A body whose only message has these parts."""
    return {"input": [{"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (None, None),
        ([], None),
        ({}, "input"),
        ({"input": 3}, "input"),
        ({"input": ""}, "input"),
        ({"input": " "}, "input"),
        ({"input": []}, "input"),
        ({"input": ["Hello"]}, "input[0]"),
        ({"input": [{}]}, "input[0].type"),
        ({"input": [{"type": 3}]}, "input[0].type"),
        ({"input": [{"type": "web_search_call"}]}, "input[0].type"),
        ({"input": [{"role": "robot", "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"type": "message", "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": None}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": " "}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": []}]}, "input[0].content"),
        (user({"text": "a"}), "input[0].content[0].type"),
        (user({"type": "text", "text": "a"}), "input[0].content[0].type"),
        (user({"type": "input_text"}), "input[0].content[0].text"),
        (user({"type": "input_file", "file_id": "f"}), "input[0].content[0].type"),
        (user({"type": "input_audio"}), "input[0].content[0].type"),
        (user({"type": "input_image"}), "input[0].content[0].image_url"),
        (user({"type": "input_image", "file_id": "f"}), "input[0].content[0].file_id"),
        (
            {"input": [{"role": "system", "content": [{"type": "input_image"}]}, ASK]},
            "input[0].content[0]",
        ),
        ({"input": [ASK, {**CALL, "arguments": "{"}, OUTPUT]}, "input[1].arguments"),
        ({"input": [ASK, {**CALL, "arguments": "[]"}, OUTPUT]}, "input[1].arguments"),
        ({"input": [ASK, {"type": "function_call", "name": "f"}]}, "input[1].call_id"),
        ({"input": [ASK, CALL, {**OUTPUT, "output": 3}]}, "input[2].output"),
        ({"input": [ASK, {"type": "item_reference"}]}, "input[1].id"),
        ({"input": [ASK, CALL]}, "input"),
        ({"input": [ASK, {"role": "assistant", "content": "2"}]}, "input"),
        ({"input": [{"role": "system", "content": "Be brief."}]}, "input"),
    ],
)
def test_a_wrong_input_is_a_400_that_names_the_field(body: Any, param: str | None) -> None:
    with pytest.raises(APIError) as caught:
        parse_responses(body)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 4}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"instructions": ["a"]}, "instructions"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"max_tool_calls": 3}, "max_tool_calls"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"include": "reasoning"}, "include"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"truncation": "middle"}, "truncation"),
        ({"temperature": 3}, "temperature"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"conversation": {}}, "conversation.id"),
        ({"conversation": ""}, "conversation"),
        ({"conversation": "a", "conversation_id": "b"}, "conversation_id"),
        ({"conversation": "a", "previous_response_id": "b"}, "previous_response_id"),
        ({"text": {"format": {}}}, "text.format.type"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema"),
        (
            {"text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "nil"}}}},
            "text.format.schema",
        ),
        ({"tools": [{"name": "f"}]}, "tools[0].type"),
        ({"tools": [SUB, {"type": "web_search"}]}, "tools[1].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name"),
        ({"tools": [{**SUB, "parameters": {"type": "array"}}]}, "tools[0].parameters"),
        ({"tools": [SUB], "tool_choice": "some"}, "tool_choice"),
        ({"tools": [SUB], "tool_choice": {}}, "tool_choice.type"),
        ({"tools": [SUB], "tool_choice": {"type": "mcp"}}, "tool_choice.type"),
        ({"tools": [SUB], "tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"tools": [SUB], "tool_choice": {"type": "function", "name": "f"}}, "tool_choice.name"),
        (
            {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [SUB]}},
            "tool_choice.tools",
        ),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"ccapi": {"mode": "robot"}}, "ccapi.mode"),
    ],
)
def test_a_wrong_field_is_a_400_that_names_it(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(APIError) as caught:
        parse(**fields)
    assert (caught.value.status, caught.value.param) == (400, param)
