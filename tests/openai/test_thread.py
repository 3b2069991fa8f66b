"""What a request adds to a conversation that is known, whichever way its client sends it."""

from typing import Any

import pytest

from jupyter_ccapi.claude import Message
from jupyter_ccapi.openai.thread import continuation, fingerprint, visible


def user(content: Any) -> Message:
    return Message("user", content)


def assistant(content: Any) -> Message:
    return Message("assistant", content)


def use(id: str, name: str = "mcp__client__weather") -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": {}}


def result(id: str, text: str = "Rain.") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": text}


KNOWN = [user("one"), assistant("two"), user("three"), assistant("four")]
NEXT = user("five")


@pytest.mark.parametrize(
    "sent",
    [[NEXT], [*KNOWN, NEXT], [*KNOWN[2:], NEXT], [KNOWN[1], *KNOWN[2:], NEXT]],
    ids=["only what is new", "everything", "the last turn", "from an answer on"],
)
def test_nothing_is_doubled_however_much_is_sent_again(sent: list[Message]) -> None:
    assert continuation(KNOWN, sent) == (4, [NEXT])


def test_a_regenerated_answer_takes_the_place_of_the_one_before() -> None:
    assert continuation(KNOWN, KNOWN[:3]) == (2, [KNOWN[2]])


def test_an_edited_conversation_goes_on_from_the_edit() -> None:
    edited = [*KNOWN[:2], user("3"), assistant("4"), NEXT]
    assert continuation(KNOWN, edited) == (2, edited[2:])


def test_the_same_words_again_are_a_new_prompt() -> None:
    assert continuation(KNOWN, [user("three")]) == (4, [user("three")])


def test_the_first_messages_of_an_empty_conversation_are_all_new() -> None:
    assert continuation([], KNOWN[:3]) == (0, KNOWN[:3])


def test_results_alone_go_on_with_their_calls() -> None:
    known = [user("one"), assistant([use("a"), use("b")])]
    results = user([result("b"), result("a")])
    assert continuation(known, [results]) == (2, [results])
    assert continuation(known, [*known, results]) == (2, [results])


def test_what_claude_code_did_itself_is_not_in_what_its_client_has_seen() -> None:
    full = [
        user("one"),
        assistant([{"type": "text", "text": "Let me look."}, use("x", "Read")]),
        user([result("x")]),
        assistant("It says so."),
    ]
    seen = [user("one"), assistant("Let me look.\n\nIt says so.")]
    assert [m.digest for m in visible(full)] == [m.digest for m in seen]
    assert fingerprint(full) == fingerprint(seen)
    assert continuation(full, [*seen, NEXT]) == (4, [NEXT])
    edited = [user("5"), assistant("6"), user("7")]
    assert continuation([*full, NEXT, assistant("six")], [*seen, *edited]) == (4, edited)
