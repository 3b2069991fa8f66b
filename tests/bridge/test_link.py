"""Whatever happens to a socket, what was told arrives once and in order; commands are done once."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_ccapi.bridge.link import MAX_FRAME, Done, Inbox, Outbox, decode, reply

Told = dict[str, Any]


def event(kind: str, parent: str | None = None, size: int = 0) -> Told:
    """An event that is told apart by its type, its parent and its size."""
    return {"type": kind, "parent_tool_use_id": parent, "text": "x" * size}


def events_in(outbox: Outbox, after: int = 0) -> list[Told]:
    """All that is still there after a number, as it would be sent."""
    found = []
    while (next_one := outbox.after(after)) is not None:
        after, text = next_one
        frame = json.loads(text)
        assert (frame["type"], frame["n"]) == ("event", after)
        found.append(frame["event"])
    return found


# What may happen: something is told, so many frames are sent, so many of those arrive before an
# acknowledgement is sent, the acknowledgement arrives, the socket is cut.
steps = st.lists(
    st.one_of(
        st.just(("tell", 0)),
        st.tuples(st.sampled_from(["send", "arrive"]), st.integers(1, 4)),
        st.sampled_from([("ack", 0), ("acked", 0), ("cut", 0)]),
    ),
    max_size=60,
)


class Cable:
    """Both ends of a link, with what is on its way between them."""

    def __init__(self) -> None:
        self.outbox, self.inbox = Outbox(), Inbox()
        self.arrived: list[int] = []
        self.sent_upto = 0
        self.frames: list[str] = []
        self.acks: list[int] = []

    def do(self, step: str, count: int) -> None:
        """One thing happens."""
        match step:
            case "tell":
                self.outbox.put({"type": "user_message", "told": self.outbox.sent + 1})
            case "send":
                for _ in range(count):
                    if (found := self.outbox.after(self.sent_upto)) is not None:
                        self.sent_upto, frame = found
                        self.frames.append(frame)
            case "arrive":
                for frame in self.frames[:count]:
                    self.take(json.loads(frame))
                del self.frames[:count]
            case "ack":
                self.acks.append(self.inbox.received)
            case "acked" if self.acks:
                self.outbox.acked(self.acks.pop(0))
            case "cut":
                # What was on its way either way is lost; the welcome says where to go on.
                self.frames, self.acks = [], []
                self.sent_upto = self.inbox.received
                self.outbox.acked(self.inbox.received)

    def take(self, frame: Told) -> None:
        """A frame arrives."""
        if self.inbox.take(frame["n"]):
            self.arrived.append(frame["event"]["told"])


@given(steps)
def test_each_event_arrives_once_and_in_order(happens: list[tuple[str, int]]) -> None:
    cable = Cable()
    for step, count in happens:
        cable.do(step, count)
        assert cable.arrived == list(range(1, len(cable.arrived) + 1))
    cable.do("cut", 0)
    cable.do("send", cable.outbox.sent)
    cable.do("arrive", cable.outbox.sent)
    assert cable.arrived == list(range(1, cable.outbox.sent + 1))


def test_what_arrives_again_is_not_taken_again() -> None:
    inbox = Inbox()
    assert [inbox.take(n) for n in (1, 2, 1, 2, 4, 3)] == [True, True, False, False, True, False]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["stream_event", "assistant", "result"]),
            st.sampled_from([None, "toolu_1"]),
        ),
        max_size=40,
    ),
    st.integers(0, 3000),
)
def test_past_the_bound_only_stream_events_go(
    told: list[tuple[str, str | None]], limit: int
) -> None:
    outbox = Outbox(limit)
    given = [event(kind, parent, size=10 * place) for place, (kind, parent) in enumerate(told)]
    for one in given:
        outbox.put(one)
    kept = events_in(outbox)
    assert [one for one in given if one in kept] == kept
    assert [one for one in kept if one["type"] != "stream_event"] == [
        one for one in given if one["type"] != "stream_event"
    ]
    if any(one["type"] == "stream_event" for one in kept):
        assert outbox.size <= limit
    outbox.acked(outbox.sent)
    assert (len(outbox), outbox.size) == (0, 0)


def test_stream_events_of_finished_messages_go_first() -> None:
    outbox = Outbox(4300)
    for size, parent in ((1000, None), (1001, "toolu_1"), (1002, None)):
        outbox.put(event("stream_event", parent, size))
    outbox.put(event("assistant", "toolu_1"))
    outbox.put(event("stream_event", None, 1003))
    assert [len(one["text"]) for one in events_in(outbox)] == [1000, 1002, 0, 1003]
    outbox.put(event("stream_event", None, 1004))
    assert [len(one["text"]) for one in events_in(outbox)] == [1002, 0, 1003, 1004]


def test_an_event_that_would_be_too_long_is_shortened() -> None:
    outbox = Outbox()
    picture = {"type": "image", "data": "A" * (MAX_FRAME // 2)}
    outbox.put({"type": "tool_progress", "tool_use_id": "toolu_1", "content": [picture]})
    found = outbox.after(0)
    assert found is not None
    assert len(found[1]) < 20_000
    told = json.loads(found[1])["event"]
    assert told["tool_use_id"] == "toolu_1"
    assert "more characters were left out" in told["content"][0]["data"]


def test_a_command_that_comes_again_is_not_done_again() -> None:
    done = Done()
    assert done.begin("1")
    assert not done.begin("1")
    assert done.answer("1") is None
    done.end("1", reply("1"))
    assert not done.begin("1")
    assert json.loads(done.answer("1") or "") == {"type": "reply", "id": "1", "ok": True}


def test_of_old_commands_those_that_are_not_done_yet_are_known_for_longest() -> None:
    done = Done(known=3)
    done.begin("slow")
    for id in ("1", "2", "3", "4"):
        done.begin(id)
        done.end(id, reply(id))
    assert [done.begin(id) for id in ("slow", "4", "3")] == [False, False, False]
    assert done.begin("1")


def test_long_answers_of_old_commands_are_let_go_and_that_is_said() -> None:
    done = Done(limit=1000)
    for id in ("1", "2"):
        done.begin(id)
        done.end(id, reply(id, answer={"files": "x" * 800}))
    first, second = json.loads(done.answer("1") or ""), json.loads(done.answer("2") or "")
    assert (first["ok"], second["ok"]) == (False, True)
    assert "ask again" in first["error"]


def test_numbers_that_json_has_not_are_null_on_the_way() -> None:
    """As JavaScript has it: the other side takes no others."""
    outbox = Outbox()
    outbox.put({"type": "result", "cost": float("nan"), "all": [float("-inf"), 1.5, {"x": 2}]})
    found = outbox.after(0)
    assert found is not None
    told = decode(found[1])["event"]
    assert told == {"type": "result", "cost": None, "all": [None, 1.5, {"x": 2}]}


NO_NUMBERS = [f'{{"type": "ack", "n": {n}}}' for n in ("NaN", "Infinity", "-Infinity", "1e999")]


@pytest.mark.parametrize(
    "text",
    [*("", "{", "[]", '"hello"', "{}", '{"type": 1}', "[" * 100_000), *NO_NUMBERS],
)
def test_what_is_no_frame_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ValueError, match="A frame is not"):
        decode(text)


def test_bytes_and_too_much_text_are_no_frames() -> None:
    with pytest.raises(ValueError, match="not bytes"):
        decode(b'{"type": "ack"}')
    with pytest.raises(ValueError, match="longer than"):
        decode('{"type": "ack"}', most=10)
