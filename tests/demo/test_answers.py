"""What the offline model answers when no reply is scripted."""

from typing import Any

import pytest

from jupyter_ccapi.demo import LoggedRequest
from jupyter_ccapi.demo.answers import answer
from jupyter_ccapi.demo.directives import parse
from tests.demo.http_client import asked

WRITE = {"name": "Write", "input_schema": {"type": "object"}}
ADD = {
    "name": "mcp__client__add",
    "input_schema": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
}


def after(text: str, *later: tuple[str, Any], **more: Any) -> dict[str, Any]:
    """Return a request that goes on after a user's text, with (role, content) entries."""
    body = asked(text, **more)
    body["messages"] += [{"role": role, "content": content} for role, content in later]
    return body


def called(name: str, number: int = 1) -> dict[str, Any]:
    """Return a tool call of the model."""
    return {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": {}}


def got(content: Any, number: int = 1, **more: Any) -> dict[str, Any]:
    """Return the result of a tool call."""
    return {"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": content, **more}


@pytest.mark.parametrize(
    "tools", [[], [WRITE], [WRITE, ADD]], ids=["chat", "agent", "client tools"]
)
@pytest.mark.parametrize("text", ["Hello!", "What can you do for me in this notebook, please?"])
def test_the_usual_answer_is_short_and_what_it_suggests_works(
    text: str, tools: list[dict[str, Any]]
) -> None:
    said = answer(asked(text, tools=tools)).text
    assert 60 <= len(said.split()) <= 110
    assert f"> {text}" in said
    suggestions = [line for line in said.splitlines() if line.startswith("- ")]
    assert len(suggestions) == 3
    assert "ANTHROPIC_API_KEY" in suggestions[-1]
    asked_for = parse(said)
    assert bool(tools) == any(reply.tools for reply in asked_for)
    assert {name for reply in asked_for for name, _ in reply.tools} <= {t["name"] for t in tools}


def test_a_long_text_is_repeated_in_part() -> None:
    said = answer(asked("many words " * 1000)).text
    assert "many words" in said
    assert "…" in said
    assert len(said) < 1500


def test_a_client_tool_is_suggested_with_arguments_that_fit_it() -> None:
    (reply,) = parse(answer(asked("Hi", tools=[WRITE, ADD])).text)
    assert reply.tools[0] == ("mcp__client__add", {"a": 0, "b": 0})


def test_tool_results_are_quoted_with_their_tools_by_their_ids() -> None:
    body = after(
        "[[tool a]] [[tool b]] [[tool c]]",
        ("assistant", [called("a", 1), called("b", 2), called("c", 3)]),
        (
            "user",
            [got("two", 2), got([{"type": "text", "text": "one"}]), got("", 3, is_error=True)],
        ),
    )
    assert answer(body).text == (
        "`b` answered:\n\n> two\n\n`a` answered:\n\n> one\n\n`c` failed:\n\n> (nothing)"
    )


def test_reminders_beside_tool_results_do_not_start_a_new_turn() -> None:
    body = after(
        "[[tool a]]",
        ("assistant", [called("a")]),
        ("user", [got("one"), {"type": "text", "text": "<system-reminder>x</system-reminder>"}]),
        ("system", "The date is today."),
    )
    assert answer(body).text == "`a` answered:\n\n> one"


def test_a_new_text_beside_tool_results_is_what_is_answered() -> None:
    body = after(
        "[[tool a]]",
        ("assistant", [called("a")]),
        ("user", [got("one"), {"type": "text", "text": "[[say Stopped.]]"}]),
    )
    assert answer(body).text == "Stopped."


def test_a_notice_of_the_cli_is_noted_and_repeats_nothing() -> None:
    body = after(
        "[[tool a]]",
        ("assistant", [called("a")]),
        ("user", [got("one")]),
        ("assistant", "It said one."),
        ("user", "<system-reminder>\nA task has ended.\n</system-reminder>"),
    )
    reply = answer(body)
    assert reply.text.startswith("Noted.")
    assert not reply.tools


def test_a_message_cut_off_by_max_tokens_is_cut_off_again() -> None:
    body = after(
        "[[say One]] [[stop max_tokens]]",
        ("assistant", "One"),
        ("user", "Output token limit hit. Resume directly"),
    )
    assert answer(body).text == "One"
    assert answer(body).stop_reason == "max_tokens"


def test_a_directive_that_cannot_be_followed_is_answered_with_its_use() -> None:
    said = answer(asked("[[words lots]]")).text
    assert "offline demo model" in said
    assert "[[words N]]" in said


def test_a_directive_without_words_slows_down_the_usual_answer() -> None:
    reply = answer(asked("[[delay 0.5]] [[think Hm.]]"))
    assert reply.word_delay == 0.5
    assert reply.thinking == "Hm."
    assert "offline demo model" in reply.text


@pytest.mark.parametrize("text", ["Rate it", "[[say Here you are.]]"])
def test_structured_output_is_given_once(text: str) -> None:
    schema = {"type": "object", "properties": {"n": {"const": 4}}, "required": ["n"]}
    tools = [WRITE, {"name": "StructuredOutput", "input_schema": schema}]
    first = answer(asked(text, tools=tools))
    assert first.tools == (("StructuredOutput", {"n": 4}),)
    assert first.text == ("Here you are." if "say" in text else "")
    call = ("assistant", [called("StructuredOutput")])
    assert not answer(after(text, call, ("user", [got("Good.")]), tools=tools)).tools
    failed = after(text, call, ("user", [got("Bad.", is_error=True)]), tools=tools)
    assert answer(failed).tools == first.tools


def test_structured_output_waits_for_the_tools_that_were_asked_for() -> None:
    tools = [WRITE, {"name": "StructuredOutput", "input_schema": {"properties": {}}}]
    text = "[[write a.txt x]]"
    assert [name for name, _ in answer(asked(text, tools=tools)).tools] == ["Write"]
    body = after(text, ("assistant", [called("Write")]), ("user", [got("Done.")]), tools=tools)
    assert [name for name, _ in answer(body).tools] == ["StructuredOutput"]


def texts(*parts: str) -> list[dict[str, Any]]:
    """Return text blocks."""
    return [{"type": "text", "text": part} for part in parts]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Hello", "Hello"),
        (texts("Hello\n", "you"), "Hello\nyou"),
        (texts("<system-reminder>x</system-reminder>", "Hello"), "Hello"),
        ("<system-reminder>\nx\n</system-reminder>\nHello", "Hello"),
        (texts("a\n", "[Request interrupted by user]\n", "b"), "b"),
        ([{"type": "image"}, *texts("[Image: source: /a.png]")], ""),
        (texts("<command-name>/compact</command-name>", "Hello"), "Hello"),
        ([3, {"type": "text"}, {"type": "text", "text": None}, {"text": "no"}], ""),
        (None, ""),
    ],
)
def test_the_users_own_words_are_told_from_the_clis(content: Any, text: str) -> None:
    body = {"messages": [{"role": "user", "content": content}, {"role": "system", "content": "x"}]}
    assert LoggedRequest("/v1/messages", {}, body).user_text == text


@pytest.mark.parametrize("body", [None, [], 3, {}, {"messages": 3}, {"messages": [3]}])
def test_the_log_takes_any_body(body: Any) -> None:
    request = LoggedRequest("/v1/messages", {}, body)
    assert request.user_text == request.system_text == ""
    assert not [*request.tools, *request.messages, *request.tool_results]
    assert request.images == 0
    assert not request.stream
