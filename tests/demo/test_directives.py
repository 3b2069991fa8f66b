"""Directives in a user's text, read on their own."""

import json

import pytest

from jupyter_ccapi.demo import ApiError, Reply
from jupyter_ccapi.demo.directives import DirectiveError, parse


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("[[say Good day.]]", Reply("Good day.")),
        ("Please [[say one]] and\n[[say two\nlines]], thanks", Reply("one\n\ntwo\nlines")),
        ("[[words 3]]", Reply("word1 word2 word3")),
        ("[[think Hm.]] [[say Yes.]]", Reply("Yes.", thinking="Hm.")),
        ("[[tool Read]]", Reply(tools=(("Read", {}),))),
        (
            '[[tool mcp__client__x {"a": [[1], [2]]}]]',
            Reply(tools=(("mcp__client__x", {"a": [[1], [2]]}),)),
        ),
        (
            '[[tool a {"s": "]] [[say no]]"}]] [[tool b {}]]',
            Reply(tools=(("a", {"s": "]] [[say no]]"}), ("b", {}))),
        ),
        (
            "[[write notes/a.py x = 1\ny = 2]]",
            Reply(tools=(("Write", {"file_path": "notes/a.py", "content": "x = 1\ny = 2"}),)),
        ),
        (
            '[[write "my notes.txt" Hello you]]',
            Reply(tools=(("Write", {"file_path": "my notes.txt", "content": "Hello you"}),)),
        ),
        (
            "[[write empty.txt]]",
            Reply(tools=(("Write", {"file_path": "empty.txt", "content": ""}),)),
        ),
        ("[[delay 0.5]]", Reply(word_delay=0.5)),
        ("[[stop max_tokens]]", Reply(stop_reason="max_tokens")),
        (
            "[[usage input_tokens=5 cache_read_input_tokens=7]]",
            Reply(input_tokens=5, cache_read_input_tokens=7),
        ),
        ("[[error 500]]", Reply(error=ApiError(500))),
        ("[[error 429 retry-after=7]]", Reply(error=ApiError(429, retry_after=7))),
        (
            "[[error 400 type=odd_error a=b is wrong]]",
            Reply(error=ApiError(400, "odd_error", "a=b is wrong")),
        ),
        ("[[drop]]", Reply(drop=True)),
    ],
)
def test_a_directive_asks_for(text: str, reply: Reply) -> None:
    assert parse(text) == [reply]


def test_then_ends_a_message() -> None:
    assert parse("[[say a]] [[then]] [[tool b]] [[then]] [[say c]]") == [
        Reply("a"),
        Reply(tools=(("b", {}),)),
        Reply("c"),
    ]


def test_hold_waits_for_an_event_of_its_own() -> None:
    first, second = (parse("[[hold]]")[0].hold for _ in range(2))
    assert first is not None
    assert second is not None
    assert first is not second
    assert not first.is_set()


@pytest.mark.parametrize(
    "text",
    ["Hello", "", "x = [[1, 2], [3, 4]]", "See [[Some Page]].", "[[sayings of old]]", "[say x]"],
)
def test_other_texts_ask_for_nothing(text: str) -> None:
    assert parse(text) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[say hello", "no closing"),
        ("[[tool]]", "names no tool"),
        ("[[tool Read {broken}]]", "[[tool NAME {json}]]"),
        ("[[tool Read [1]]]", "not one JSON object"),
        ('[[tool Read {"a": 1} more]]', "not one JSON object"),
        ("[[words many]]", "[[words N]]"),
        ("[[words 0]]", "[[words N]]"),
        ("[[words 999999999]]", "[[words N]]"),
        ("[[delay soon]]", "[[delay SECONDS]]"),
        ("[[delay -1]]", "[[delay SECONDS]]"),
        ("[[delay nan]]", "[[delay SECONDS]]"),
        ("[[write]]", "[[write PATH TEXT]]"),
        ("[[stop now]]", "max_tokens"),
        ("[[usage cost=3]]", "input_tokens"),
        ("[[usage]]", "input_tokens"),
        ("[[error]]", "[[error STATUS …]]"),
        ("[[error 200]]", "400 to 599"),
        ("[[error 429 retry-after=soon]]", "number of seconds"),
    ],
)
def test_a_directive_that_cannot_be_followed_is_explained(text: str, says: str) -> None:
    with pytest.raises(DirectiveError) as raised:
        parse(text)
    assert says in str(raised.value)
    assert json.dumps(text.split()[0].strip("]"))[1:-1] in str(raised.value)
