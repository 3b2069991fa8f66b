"""How an answer ends where it does not simply come to its end."""

import pytest

from jupyter_ccapi.claude import (
    AnswerDiscarded,
    Event,
    Message,
    TextDelta,
    ToolCall,
    ToolCallStarted,
    ToolInputDelta,
)
from jupyter_ccapi.openai.errors import APIError
from jupyter_ccapi.openai.request import Choice, FunctionTool, Request
from tests.openai.wire import STARTED, answered, turn_end

TOOLS = (FunctionTool("add", "", {"type": "object"}), FunctionTool("sub", "", {"type": "object"}))
FREE = Request("opus", (), tools=TOOLS, stream=True)
CUT_CALL: list[Event] = [ToolCallStarted("toolu_1", "add"), ToolInputDelta("toolu_1", '{"a":')]


def forced(*names: str) -> Request:
    """A request whose answer must be a call of one of these."""
    return Request("opus", (), tools=TOOLS, stream=True, choice=Choice("forced", names))


def test_what_begins_after_a_stop_sequence_is_no_part_of_the_answer() -> None:
    request = Request("opus", (), tools=TOOLS, stop=("STOP",))
    call = ToolCall("toolu_1", "add", {}, client=True)
    denied = [{"tool_name": "Bash"}]
    end = turn_end("tool_use", permission_denials=denied)
    answer = answered(request, [STARTED, TextDelta("One. STOP two."), call, end])
    assert (answer.text, answer.calls) == ("One. ", [])
    assert answer.ended is not None
    assert (answer.ended.finish, answer.ended.denied) == ("stop", ("Bash",))


def test_a_call_that_broke_off_is_not_kept() -> None:
    answer = answered(FREE, [STARTED, TextDelta("See:"), *CUT_CALL, turn_end("max_tokens")])
    assert [call.arguments for call in answer.calls] == ['{"a":']
    assert answer.message(None) == Message("assistant", [{"type": "text", "text": "See:"}])


@pytest.mark.parametrize("names", [("add",), ("add", "sub")])
@pytest.mark.parametrize(
    ("stop", "finish"), [("max_tokens", "length"), ("refusal", "content_filter")]
)
def test_a_forced_call_that_broke_off_is_none(
    names: tuple[str, ...], stop: str, finish: str
) -> None:
    answer = answered(forced(*names), [STARTED, TextDelta('{"calls": [{'), turn_end(stop)])
    assert answer.ended is not None
    assert (answer.ended.finish, answer.text) == (finish, "")


@pytest.mark.parametrize("names", [("add",), ("add", "sub")])
def test_a_forced_call_that_is_no_json_is_an_error(names: tuple[str, ...]) -> None:
    with pytest.raises(APIError) as caught:
        answered(forced(*names), [STARTED, TextDelta('{"calls'), turn_end()])
    assert (caught.value.status, caught.value.code) == (502, "schema_not_met")


def test_an_answer_that_is_discarded_before_it_was_told_begins_again() -> None:
    calls = '{"calls": [{"name": "sub", "arguments": {"b": 1}}]}'
    told: list[Event] = [STARTED, TextDelta("{}"), AnswerDiscarded(), TextDelta(calls), turn_end()]
    answer = answered(forced("add", "sub"), told)
    assert [(call.name, call.arguments) for call in answer.calls] == [("sub", '{"b": 1}')]
    with pytest.raises(APIError) as caught:
        answered(forced("add"), told)
    assert caught.value.code == "schema_not_met", "of a single tool the call is told at once"
