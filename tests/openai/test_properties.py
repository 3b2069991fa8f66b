"""What holds for all requests and all turns, tried with many."""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from jupyter_ccapi.claude import (
    Event,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolCallStarted,
    ToolInputDelta,
    ToolResult,
)
from jupyter_ccapi.openai.chat_request import parse_chat
from jupyter_ccapi.openai.chat_response import completion
from jupyter_ccapi.openai.errors import APIError
from jupyter_ccapi.openai.messages_request import parse_messages
from jupyter_ccapi.openai.messages_response import message_object
from jupyter_ccapi.openai.request import Choice, FunctionTool, Request
from jupyter_ccapi.openai.responses_input import references
from jupyter_ccapi.openai.responses_request import parse_responses
from jupyter_ccapi.openai.responses_response import response_object
from jupyter_ccapi.openai.stops import StopCutter
from tests.openai import bodies
from tests.openai.wire import (
    STARTED,
    answered,
    anthropic_client,
    chat_stream,
    messages_stream,
    openai_client,
    responses_stream,
    turn_end,
)

PARSERS: dict[str, tuple[Callable[[Any], Any], st.SearchStrategy[Any]]] = {
    "chat": (lambda body: parse_chat(body).request, bodies.chat_bodies()),
    "responses": (lambda body: parse_responses(body).request, bodies.responses_bodies()),
    "messages": (parse_messages, bodies.messages_bodies()),
}
each_parser = pytest.mark.parametrize("api", list(PARSERS))
# The machines of continuous integration are slow, now and then.
quick = settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow], database=None
)


def parsed(api: str, body: Any) -> Request | APIError:
    """What becomes of a body."""
    parse, _ = PARSERS[api]
    try:
        request: Request = parse(body)
    except APIError as error:
        return error
    return request


def check_refusal(error: APIError, body: Any) -> None:
    """A refusal is the client's fault, says what it is about, and in which field."""
    unknown_item = error.code == "item_not_found"
    assert error.status == (404 if unknown_item else 400)
    assert error.message
    if error.param is None:
        assert not isinstance(body, dict)
    else:
        assert bodies.is_place(body, error.param), error.param


@each_parser
@quick
@given(data=st.data())
def test_a_right_body_becomes_a_request_or_is_refused_for_a_field(
    api: str, data: st.DataObject
) -> None:
    _, right = PARSERS[api]
    body = data.draw(right)
    before = json.dumps(body)
    made = parsed(api, body)
    assert json.dumps(body) == before, "a body is read, not changed"
    if isinstance(made, APIError):
        check_refusal(made, body)
        # Of what these strategies make, only a choice without tools cannot be had.
        assert made.param in ("tool_choice", "tool_choice.type")
    else:
        assert made.messages[-1].role == "user"
        roles = [message.role for message in made.messages]
        assert all(one != other for one, other in pairwise(roles))


@each_parser
@quick
@given(data=st.data())
def test_a_spoilt_body_becomes_a_request_or_is_refused_for_a_field(
    api: str, data: st.DataObject
) -> None:
    _, right = PARSERS[api]
    body = data.draw(bodies.spoilt(right))
    made = parsed(api, body)
    if isinstance(made, APIError):
        check_refusal(made, body)
    references(body)


@each_parser
@quick
@given(body=bodies.JSON)
def test_garbage_is_refused_and_never_more_than_that(api: str, body: Any) -> None:
    made = parsed(api, body)
    assert isinstance(made, APIError)
    check_refusal(made, body)


@each_parser
@pytest.mark.parametrize("field", ["input", "messages", "stream", "tools", "text", "system"])
def test_no_depth_is_too_much(api: str, field: str) -> None:
    deep: Any = "a"
    for _ in range(900):
        deep = [deep]
    for value in (deep, [{"role": "user", "content": deep}], [{"type": "function", "name": deep}]):
        assert isinstance(parsed(api, {field: value}), APIError)


def test_a_schema_may_be_deep_as_well() -> None:
    deep: Any = {}
    for _ in range(900):
        deep = {"a": deep}
    for keyword in ("default", "properties", "unknown"):
        tool = {"type": "function", "name": "f", "parameters": {keyword: deep}}
        made = parsed("responses", {"input": "a", "tools": [tool]})
        assert isinstance(made, Request) or made.param == "tools[0].parameters"


FRAGMENT = st.text(max_size=4)
TOOLS = tuple(FunctionTool(name, "", {"type": "object"}) for name in ("add", "sub"))
MODEL = "opus"
HELLO: Any = [{"role": "user", "content": "Hello"}]


@st.composite
def clients_calls(draw: st.DrawFn, number: int) -> list[Event]:
    """A call of a client's tool: with its pieces as the model writes them, or all at once."""
    id, name = f"toolu_{number}", draw(st.sampled_from(["add", "sub"]))
    given = draw(st.dictionaries(bodies.KEYS, bodies.SCALARS, max_size=2))
    whole = ToolCall(id, name, given, client=True)
    if draw(st.booleans()):
        return [whole]
    text = json.dumps(given, ensure_ascii=draw(st.booleans()))
    if not given and draw(st.booleans()):
        text = ""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    pieces = [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]
    return [ToolCallStarted(id, name), *(ToolInputDelta(id, piece) for piece in pieces), whole]


OWN_CALLS = st.builds(
    lambda number, name, path: [
        ToolCall(f"own_{number}", name, {"file_path": path}),
        ToolResult(f"own_{number}", "Done.", is_error=False),
    ],
    st.integers(0, 9),
    st.sampled_from(["Read", "Bash"]),
    FRAGMENT,
)
WORDS: st.SearchStrategy[Any] = st.one_of(
    st.lists(st.builds(TextDelta, FRAGMENT), min_size=1, max_size=4),
    st.lists(st.builds(ThinkingDelta, FRAGMENT), min_size=1, max_size=3),
    OWN_CALLS,
)


@st.composite
def turns(draw: st.DrawFn) -> list[Event]:
    """A turn: words, Claude Code's own tools, the client's, their pieces in any order."""
    words = [event for some in draw(st.lists(WORDS, max_size=4)) for event in some]
    lanes = [words, *(draw(clients_calls(n)) for n in range(draw(st.integers(0, 3))))]
    order = draw(st.permutations([n for n, lane in enumerate(lanes) for _ in lane]))
    left = [iter(lane) for lane in lanes]
    events: list[Event] = [STARTED, *(next(left[lane]) for lane in order)]
    if draw(st.booleans()):
        stop = "tool_use" if len(lanes) > 1 else draw(st.sampled_from(["end_turn", "refusal"]))
        denied = [{"tool_name": "Bash"}] if draw(st.booleans()) else []
        return [*events, turn_end(stop, permission_denials=denied)]
    # It breaks off anywhere.
    events = events[: draw(st.integers(1, len(events)))]
    reason = draw(st.sampled_from(["completed", "interrupted", "max_turns", "max_budget"]))
    return [*events, turn_end("max_tokens" if reason == "completed" else None, reason=reason)]


def said(events: Sequence[Event], kind: type[TextDelta] | type[ThinkingDelta]) -> str:
    """All text of a turn, or all thinking."""
    return "".join(event.text for event in events if isinstance(event, kind))


def calls(events: Sequence[Event]) -> list[tuple[str, str, Any]]:
    """The client's calls in the order in which they begin; those that broke off without input."""
    whole = {one.id: one for one in events if isinstance(one, ToolCall) and one.client}
    begun: dict[str, str] = {}
    for event in events:
        if isinstance(event, ToolCallStarted) or (isinstance(event, ToolCall) and event.client):
            begun.setdefault(event.id, event.name)
    return [(id, name, whole[id].input if id in whole else None) for id, name in begun.items()]


def finish(events: Sequence[Event]) -> str:
    """Why a turn ended, in OpenAI's words."""
    if getattr(events[-1], "reason", None) in ("max_turns", "max_budget"):
        return "length"
    stop = getattr(events[-1], "stop_reason", None)
    return {"tool_use": "tool_calls", "max_tokens": "length", "refusal": "content_filter"}.get(
        stop or "", "stop"
    )


def same_calls(
    told: Sequence[tuple[str, str, Any]], wanted: Sequence[tuple[str, str, Any]]
) -> bool:
    """Whether these are the calls; of one that broke off the input is not looked at."""
    return len(told) == len(wanted) and all(
        one[:2] == other[:2] and other[2] in (None, one[2])
        for one, other in zip(told, wanted, strict=True)
    )


def loaded(arguments: str) -> Any:
    """A call's input; None where it broke off."""
    try:
        return json.loads(arguments)
    except ValueError:
        return None


def is_answer(request: Request, events: Sequence[Event]) -> bool:
    """Whether there is anything in a turn. A turn with nothing in it is an error of its own."""
    try:
        answered(request, events)
    except APIError as error:
        nothing = error.code in ("empty_answer", "budget_exceeded")
        return not nothing or bool(said(events, TextDelta))
    return True


def check_text(text: str, events: Sequence[Event]) -> None:
    """The text is the turn's, and after it the note of tools that nobody could be asked about."""
    wanted = said(events, TextDelta)
    assert text.startswith(wanted)
    denied = getattr(events[-1], "permission_denials", [])
    assert ("Bash" in text[len(wanted) :]) == bool(denied)


CHAT = Request(MODEL, (), tools=TOOLS, stream=True)
RESPONSES = parse_responses(
    {"input": "Hello", "tools": [{"type": "function", "name": tool.name} for tool in TOOLS]}
)


@quick
@given(events=turns())
def test_openais_client_takes_every_chat_stream(events: list[Event]) -> None:
    assume(is_answer(CHAT, events))
    client = openai_client(chat_stream(CHAT, events))
    with client.chat.completions.stream(model=MODEL, messages=HELLO) as stream:
        streamed = stream.until_done().current_completion_snapshot
    client = openai_client(completion(answered(CHAT, events)))
    whole = client.chat.completions.create(model=MODEL, messages=HELLO)
    for told in (streamed.choices[0], whole.choices[0]):
        check_text(told.message.content or "", events)
        assert told.finish_reason == finish(events)
        made = [
            (call.id, call.function.name, loaded(call.function.arguments))
            for call in told.message.tool_calls or []
            if call.type == "function"
        ]
        assert same_calls(made, calls(events))


@quick
@given(events=turns())
def test_openais_client_takes_every_responses_stream(events: list[Event]) -> None:
    assume(is_answer(RESPONSES.request, events))
    client = openai_client(responses_stream(RESPONSES, events))
    last: Any = None
    with client.responses.stream(model=MODEL, input="Hello") as stream:
        for event in stream:
            last = event
        if last.type == "response.completed":
            stream.get_final_response()
    client = openai_client(response_object(answered(RESPONSES.request, events), RESPONSES))
    whole = client.responses.create(model=MODEL, input="Hello")
    one: Any
    for one in (last.response, whole):
        check_text(one.output_text, events)
        thoughts = "".join(
            part.text for item in one.output if item.type == "reasoning" for part in item.summary
        )
        assert thoughts == answered(RESPONSES.request, events).thinking
        made = [
            (item.call_id, item.name, loaded(item.arguments))
            for item in one.output
            if item.type == "function_call"
        ]
        assert same_calls(made, calls(events))
        reason = one.incomplete_details and one.incomplete_details.reason
        wanted = {"length": "max_output_tokens", "content_filter": "content_filter"}
        assert reason == wanted.get(finish(events))
        assert one.status == ("incomplete" if reason else "completed")
    assert last.type == f"response.{last.response.status}"


@quick
@given(events=turns())
def test_anthropics_client_takes_every_messages_stream(events: list[Event]) -> None:
    assume(is_answer(CHAT, events))
    client = anthropic_client(messages_stream(CHAT, events))
    with client.messages.stream(model=MODEL, max_tokens=9, messages=HELLO) as stream:
        streamed = stream.get_final_message()
    client = anthropic_client(message_object(answered(CHAT, events)))
    whole = client.messages.create(model=MODEL, max_tokens=9, messages=HELLO)
    for message in (streamed, whole):
        text = "".join(block.text for block in message.content if block.type == "text")
        check_text(text, events)
        made = [
            (block.id, block.name, block.input)
            for block in message.content
            if block.type == "tool_use"
        ]
        assert same_calls(made, calls(events))
        words = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
        assert message.stop_reason == words.get(finish(events), "refusal")
        assert message.usage.input_tokens == 10


@quick
@given(events=turns(), stop=st.lists(st.text(min_size=1, max_size=2), max_size=3))
def test_a_stop_sequence_ends_every_answer_and_every_stream(
    events: list[Event], stop: list[str]
) -> None:
    request = Request(MODEL, (), tools=TOOLS, stream=True, stop=tuple(stop))
    assume(is_answer(request, events))
    cutter = StopCutter(stop)
    wanted = cutter.feed(said(events, TextDelta)) + cutter.rest()
    client = anthropic_client(messages_stream(request, events))
    with client.messages.stream(model=MODEL, max_tokens=9, messages=HELLO) as stream:
        message = stream.get_final_message()
    text = "".join(block.text for block in message.content if block.type == "text")
    if cutter.found is None:
        assert text.startswith(wanted)
        assert message.stop_sequence is None
    else:
        assert text == wanted
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", cutter.found)
    answered(request, events).message(None)


@st.composite
def forced_turns(draw: st.DrawFn, one: bool) -> tuple[list[Event], list[tuple[str, Any]], bool]:
    """A turn whose text is calls, those calls, and whether it got to its end."""
    arguments = st.dictionaries(bodies.KEYS, bodies.SCALARS, max_size=2)
    names = st.just("add") if one else st.sampled_from(["add", "sub"])
    made = draw(st.lists(st.tuples(names, arguments), min_size=1, max_size=1 if one else 3))
    listed = [{"name": name, "arguments": given} for name, given in made]
    text = json.dumps(made[0][1] if one else {"calls": listed})
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=5)))
    deltas = [TextDelta(text[a:b]) for a, b in pairwise([0, *cuts, len(text)])]
    events: list[Event] = [STARTED, *deltas]
    if draw(st.booleans()):
        return [*events, turn_end()], made, True
    shorter = TextDelta(text[: draw(st.integers(1, len(text) - 1))])
    stop = draw(st.sampled_from(["max_tokens", "refusal"]))
    return [STARTED, shorter, turn_end(stop)], made, False


@pytest.mark.parametrize("one", [True, False])
@quick
@given(data=st.data())
def test_a_forced_call_is_a_call_to_openais_client(one: bool, data: st.DataObject) -> None:
    names = ("add",) if one else ("add", "sub")
    request = Request(MODEL, (), tools=TOOLS, stream=True, choice=Choice("forced", names))
    events, wanted, whole = data.draw(forced_turns(one))
    client = openai_client(chat_stream(request, events))
    with client.chat.completions.stream(model=MODEL, messages=HELLO) as stream:
        told = stream.until_done().current_completion_snapshot.choices[0]
    made = [
        (call.function.name, loaded(call.function.arguments))
        for call in told.message.tool_calls or []
    ]
    assert not told.message.content
    if whole:
        assert (made, told.finish_reason) == (wanted, "tool_calls")
    else:
        assert told.finish_reason == finish(events)
        assert all(given is None for _, given in made)
    answered(request, events).message(None)


@quick
@given(
    text=st.text("abc", max_size=12),
    stop=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
    data=st.data(),
)
def test_a_text_is_cut_at_the_same_place_in_whatever_pieces_it_comes(
    text: str, stop: list[str], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    whole, pieces = StopCutter(stop), StopCutter(stop)
    at_once = whole.feed(text) + whole.rest()
    parts = [pieces.feed(text[a:b]) for a, b in pairwise([0, *cuts, len(text)])]
    assert "".join(parts) + pieces.rest() == at_once
    assert pieces.found == whole.found
    assert text.startswith(at_once)
    if whole.found is None:
        assert at_once == text
        assert not any(one in text for one in stop)
    else:
        assert text.startswith(at_once + whole.found)
        # Up to where the sequence ends, no other was complete before.
        assert not any(one in (at_once + whole.found)[:-1] for one in stop)
