"""The real Claude Code CLI does everything against the offline model."""

import asyncio
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from claude_agent_sdk import (
    AssistantMessage,
    StreamEvent,
    SystemMessage,
    ThinkingBlock,
    ToolAnnotations,
    ToolUseBlock,
    create_sdk_mcp_server,
    query,
    tool,
)

from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from tests.demo.cli import conversation, one_turn, options, result, said, turn

PIXEL = {
    "type": "image",
    "source": {
        "type": "base64",
        "media_type": "image/png",
        "data": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
        "AABJRU5ErkJggg==",
    },
}


def test_one_query_is_answered_and_what_was_sent_is_in_the_log(
    model: OfflineModel, home: Path
) -> None:
    async def ask() -> list[Any]:
        asked = options(model, home, system_prompt="Be brief.", tools=["Read"])
        return [message async for message in query(prompt="[[say Good day.]]", options=asked)]

    received = asyncio.run(ask())

    assert result(received).result == "Good day."
    (request,) = model.requests
    assert request.path == "/v1/messages"
    assert request.user_text == "[[say Good day.]]"
    assert "Be brief." in request.system_text
    assert "Read" in request.tools
    assert "Write" not in request.tools
    assert request.stream
    assert not request.side
    assert request.status == 200
    assert request.finished
    assert not request.closed_early


def test_a_newcomer_is_told_what_this_is(model: OfflineModel, home: Path) -> None:
    answer = said(asyncio.run(one_turn(model, home, "Who are you?")))
    first = answer.split(".")[0]
    assert "offline demo model" in first
    assert "not Claude" in first
    assert "> Who are you?" in answer
    assert "ANTHROPIC_API_KEY" in answer


def test_thinking_is_shown_before_the_answer(model: OfflineModel, home: Path) -> None:
    received = asyncio.run(
        one_turn(model, home, "[[think Two and two.]] [[say Four.]]", include_partial_messages=True)
    )
    blocks = [b for m in received if isinstance(m, AssistantMessage) for b in m.content]
    assert isinstance(blocks[0], ThinkingBlock)
    assert blocks[0].thinking == "Two and two."
    deltas = [
        m.event["delta"] for m in received if isinstance(m, StreamEvent) if "delta" in m.event
    ]
    assert [d["thinking"] for d in deltas if d.get("type") == "thinking_delta"] == [
        "Two ",
        "and ",
        "two.",
    ]
    assert said(received) == "Four."


def test_a_write_call_really_writes_the_file(model: OfflineModel, home: Path) -> None:
    received = asyncio.run(
        one_turn(model, home, "[[write notes/a.txt Hello\nyou]]", permission_mode="acceptEdits")
    )
    assert (home / "project" / "notes" / "a.txt").read_text() == "Hello\nyou"
    assert said(received).startswith("`Write` answered:\n\n> File created successfully")


def test_a_refused_tool_is_quoted_as_failed(model: OfflineModel, home: Path) -> None:
    received = asyncio.run(one_turn(model, home, "[[write a.txt Hello]]"))
    assert not (home / "project" / "a.txt").exists()
    assert said(received).startswith("`Write` failed:")


def test_several_calls_of_one_message_run_at_the_same_time(model: OfflineModel, home: Path) -> None:
    async def ask() -> list[Any]:
        both_there = asyncio.Barrier(2)

        @tool("double", "Doubles.", {"n": int}, annotations=ToolAnnotations(readOnlyHint=True))
        async def double(arguments: dict[str, Any]) -> dict[str, Any]:
            await both_there.wait()
            return {"content": [{"type": "text", "text": str(2 * arguments["n"])}]}

        text = '[[tool mcp__client__double {"n": 2}]] and [[tool mcp__client__double {"n": 50}]]'
        server = create_sdk_mcp_server("client", tools=[double])
        return await one_turn(
            model,
            home,
            text,
            tools=[],
            mcp_servers={"client": server},
            allowed_tools=["mcp__client"],
        )

    received = asyncio.run(ask())

    calls = [
        (block.name, block.input)
        for message in received
        if isinstance(message, AssistantMessage)
        for block in message.content
        if isinstance(block, ToolUseBlock)
    ]
    assert calls == [("mcp__client__double", {"n": 2}), ("mcp__client__double", {"n": 50})]
    assert sorted(model.requests[-1].tool_results) == [
        ("mcp__client__double", "100", False),
        ("mcp__client__double", "4", False),
    ]
    assert "> 100" in said(received)
    assert "> 4" in said(received)


def test_one_tool_call_follows_another(model: OfflineModel, home: Path) -> None:
    text = "[[write a.txt one]] [[then]] [[say Now b.]] [[write b.txt two]] [[then]] [[say Done.]]"
    received = asyncio.run(one_turn(model, home, text, permission_mode="acceptEdits"))
    assert (home / "project" / "a.txt").read_text() == "one"
    assert (home / "project" / "b.txt").read_text() == "two"
    assert said(received) == "Now b.\nDone."
    assert len(model.requests) == 3


def test_structured_output_fits_its_schema(model: OfflineModel, home: Path) -> None:
    schema = {
        "type": "object",
        "properties": {
            "title": {"type": "string", "minLength": 20},
            "stars": {"type": "integer", "minimum": 3, "maximum": 5},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 2},
            "when": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
        },
        "required": ["title", "stars", "tags", "when"],
        "additionalProperties": False,
        "$defs": {"tag": {"enum": ["red", "blue"]}},
    }
    received = asyncio.run(
        one_turn(model, home, "Review it", output_format={"type": "json_schema", "schema": schema})
    )
    found = result(received).structured_output
    jsonschema.validate(found, schema)
    assert found["tags"] == ["red", "red"]
    assert "StructuredOutput" in model.requests[0].tools


def test_images_are_counted(model: OfflineModel, home: Path) -> None:
    async def ask() -> list[str]:
        async with conversation(model, home) as client:
            with_text = said(await turn(client, "Look:", PIXEL, "and", PIXEL))
            return [with_text, said(await turn(client, PIXEL)), said(await turn(client, "Well?"))]

    both, alone, none = asyncio.run(ask())

    assert "I was sent 2 images." in both
    assert "I was sent 1 image." in alone
    assert "I was sent" not in none
    assert [request.images for request in model.requests] == [2, 1, 0]
    assert [request.user_text for request in model.requests] == ["Look:\nand", "", "Well?"]


def test_an_error_reaches_the_result_with_its_status(model: OfflineModel, home: Path) -> None:
    received = asyncio.run(one_turn(model, home, "[[error 429 retry-after=7 Slow down.]]"))
    assert result(received).is_error
    assert result(received).api_error_status == 429
    assert "Slow down." in str(result(received).result)
    assert [request.status for request in model.requests] == [429]


def test_an_error_is_retried_after_the_time_that_it_names(model: OfflineModel, home: Path) -> None:
    model.script(Reply(error=ApiError(429, retry_after=1)), Reply("At last."))
    received = asyncio.run(one_turn(model, home, "Hello", env={"CLAUDE_CODE_MAX_RETRIES": "1"}))
    (retry,) = [
        m.data for m in received if isinstance(m, SystemMessage) and m.subtype == "api_retry"
    ]
    assert retry["error_status"] == 429
    assert retry["retry_delay_ms"] >= 1000
    assert said(received) == "At last."
    assert [request.status for request in model.requests] == [429, 200]


def test_an_error_in_mid_stream_ends_the_turn_with_an_error(
    model: OfflineModel, home: Path
) -> None:
    received = asyncio.run(one_turn(model, home, "[[words 5]] [[error 529]]"))
    assert result(received).is_error
    assert "word1 word2 word3 word4 word5" in said(received)


def test_an_interrupt_is_seen_in_mid_stream_and_the_conversation_goes_on(
    model: OfflineModel, home: Path
) -> None:
    async def ask() -> tuple[list[Any], list[Any]]:
        async with conversation(model, home) as client:
            first = asyncio.create_task(turn(client, "[[words 1000]] [[hold]]"))
            await asyncio.to_thread(model.wait_for, lambda request: request.held)
            await client.interrupt()
            await asyncio.to_thread(model.wait_for, lambda request: request.closed_early, 1)
            return await first, await turn(client, "And now?")

    interrupted, after = asyncio.run(ask())

    assert result(interrupted).terminal_reason == "aborted_streaming"
    assert not model.requests[0].finished
    assert model.requests[0].chunks_sent < 10
    assert "This is turn 2 of our conversation" in said(after)
    assert model.requests[1].user_text == "And now?"


def test_a_turn_interrupted_before_its_first_word_is_not_said_again(
    model: OfflineModel, home: Path
) -> None:
    async def ask() -> str:
        async with conversation(model, home) as client:
            first = asyncio.create_task(turn(client, "[[think Well well.]] [[say No.]] [[hold]]"))
            await asyncio.to_thread(model.wait_for, lambda request: request.held)
            await client.interrupt()
            await first
            return said(await turn(client, "And now?"))

    answer = asyncio.run(ask())

    # The CLI sends both texts in one entry, with the mark of the interrupt between them.
    assert len(model.requests[1].messages) == len(model.requests[0].messages)
    assert "> And now?" in answer
    assert "This is turn 2 of our conversation" in answer


def test_a_conversation_sends_its_history_and_most_of_it_counts_as_cached(
    model: OfflineModel, home: Path
) -> None:
    async def ask() -> list[Any]:
        async with conversation(model, home) as client:
            await turn(client, "My name is Ada.")
            return await turn(client, "What is my name?")

    second = asyncio.run(ask())

    assert "This is turn 2 of our conversation" in said(second)
    assert "your first words were “My name is Ada.”" in said(second)
    roles = [entry["role"] for entry in model.requests[1].messages if entry["role"] != "system"]
    assert roles == ["user", "assistant", "user"]
    usage = result(second).usage
    assert usage is not None
    assert usage["cache_read_input_tokens"] > usage["input_tokens"] > 0


def test_what_the_cli_asks_for_itself_uses_up_no_scripted_reply(
    model: OfflineModel, home: Path
) -> None:
    async def ask() -> str:
        async with conversation(model, home) as client:
            await turn(client, "[[say First.]]")
            model.script(Reply("From the script."))
            await client.query("/compact")
            async for _ in client.receive_response():
                pass
            return said(await turn(client, "Next"))

    assert asyncio.run(ask()) == "From the script."
    assert [request.side for request in model.requests] == [False, True, False]
    assert [request.user_text for request in model.main_requests] == ["[[say First.]]", "Next"]


def test_a_message_cut_off_by_its_limit_is_gone_on_with(model: OfflineModel, home: Path) -> None:
    text = "[[say One, two,]] [[stop max_tokens]] [[then]] [[say three.]]"
    received = asyncio.run(one_turn(model, home, text))
    assert said(received) == "One, two,\nthree."
    assert not result(received).is_error


def test_a_cut_connection_is_tried_again(model: OfflineModel, home: Path) -> None:
    model.script(Reply("One two three four.", drop=True))
    received = asyncio.run(
        one_turn(model, home, "[[say Whole.]]", env={"CLAUDE_CODE_MAX_RETRIES": "1"})
    )
    assert said(received) == "Whole."
    assert [request.closed_early for request in model.requests] == [True, False]


def test_a_subagent_reads_its_own_directives_and_the_turn_ends(
    model: OfflineModel, home: Path
) -> None:
    text = (
        '[[tool Agent {"description": "a helper", "prompt": "[[say I am the helper.]]",'
        ' "subagent_type": "general-purpose"}]]'
    )

    async def ask() -> list[Any]:
        async with conversation(model, home, allowed_tools=["Agent"]) as client:
            received = await turn(client, text)
            helper = "[[say I am the helper.]]"
            await asyncio.to_thread(model.wait_for, lambda r: r.finished and r.user_text == helper)
            return received

    received = asyncio.run(ask())

    assert not result(received).is_error
    # The call, its result, the helper's own; and perhaps the notice that the helper is done.
    assert len(model.requests) in (3, 4)


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({"CLAUDE_CODE_USE_BEDROCK": "1"}, id="another provider"),
        pytest.param({"ANTHROPIC_AUTH_TOKEN": "a-secret"}, id="a credential"),
        pytest.param({"ANTHROPIC_CUSTOM_HEADERS": "X-Mine: a-secret"}, id="headers"),
        pytest.param({"HTTP_PROXY": "http://127.0.0.1:9"}, id="a proxy"),
    ],
)
def test_the_environment_leads_to_this_model_and_shows_it_no_secret(
    variables: dict[str, str], model: OfflineModel, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert said(asyncio.run(one_turn(model, home, "[[say Here.]]"))) == "Here."
    assert "a-secret" not in str(model.requests[0].headers)
