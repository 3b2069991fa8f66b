"""The server's side of a relay, without a socket: who is let in, what is taken, what waits."""

import asyncio
import json
from dataclasses import asdict
from typing import Any

import pytest

from jupyter_ccapi.bridge.remote import Admission, Hello, Line, NotAdmitted, RelayDoor, refuse
from jupyter_ccapi.bridge.source import Refused
from tests.bridge.relaying import INFO, Listening

RUN = "a" * 32
OTHER = "b" * 32


class Wire:
    """What a door sends to one relay."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None

    def send(self, text: str) -> None:
        """Keep a frame."""
        self.frames.append(json.loads(text))

    def close(self, code: int, reason: str) -> None:
        """Keep that it was closed."""
        self.closed = (code, reason)

    def sent(self, kind: str) -> list[dict[str, Any]]:
        """The frames of one type."""
        return [frame for frame in self.frames if frame["type"] == kind]


def hello(run: str = RUN, **changes: Any) -> Hello:
    """A relay's first frame, read."""
    said = {"type": "hello", "version": 1, "kind": "relay", "run": run, "info": INFO}
    return Hello.read(json.dumps({**said, **changes}))


def let_in(door: RelayDoor, secret: str, run: str = RUN) -> tuple[Line, Wire]:
    """Have a relay come in."""
    wire = Wire()
    return door.open(secret, hello(run), wire), wire


def event(n: int, **fields: Any) -> str:
    """An event's frame."""
    told = {"type": "user_message", "content": f"{n}", **fields}
    return json.dumps({"type": "event", "n": n, "event": told})


def kept(door: RelayDoor) -> Admission:
    """What is kept of who may come in, as it is read again."""
    return Admission(**json.loads(json.dumps(asdict(door.admission))))


@pytest.fixture
def session() -> Listening:
    """A session that listens."""
    return Listening()


@pytest.fixture
def door(session: Listening) -> RelayDoor:
    """Its door."""
    return RelayDoor(session, resume={"id": "session_1"})


def test_a_relay_is_welcomed_and_its_events_are_taken_in_order(
    door: RelayDoor, session: Listening
) -> None:
    async def come() -> Wire:
        line, wire = let_in(door, door.invite())
        for n in (1, 2, 2, 1, 5, 4):
            line.take(event(n, event_id=99))
        await asyncio.sleep(0.3)
        return wire

    wire = asyncio.run(come())
    (welcome,) = wire.sent("welcome")
    assert (welcome["received"], welcome["resume"]) == (0, {"id": "session_1"})
    assert session.heard == [("back", INFO)]
    assert [one["content"] for one in session.told] == ["1", "2", "5"]
    assert not any("event_id" in one for one in session.told)
    # Six frames at once are acknowledged at once.
    assert wire.sent("ack") == [{"type": "ack", "n": 5}]


def test_a_wrong_secret_does_not_open(door: RelayDoor, session: Listening) -> None:
    door.invite()
    for wrong in ("", "wrong", "é"):
        with pytest.raises(NotAdmitted, match="not one of this session's") as refusal:
            let_in(door, wrong)
        assert refusal.value.code == 4403
    assert session.heard == []


def test_without_an_invitation_nobody_comes_in(door: RelayDoor) -> None:
    with pytest.raises(NotAdmitted):
        let_in(door, "")


def test_a_secret_is_good_for_one_run(door: RelayDoor) -> None:
    secret = door.invite()
    line, _ = let_in(door, secret)
    line.gone("cut")
    with pytest.raises(NotAdmitted, match="used already"):
        let_in(door, secret, OTHER)
    # The welcome may have been lost, and the token with it.
    again, wire = let_in(door, secret)
    again.gone("cut")
    token = wire.sent("welcome")[0]["token"]
    let_in(door, token)[0].gone("cut")
    with pytest.raises(NotAdmitted):
        let_in(door, secret)
    with pytest.raises(NotAdmitted):
        let_in(door, token, OTHER)


def test_a_new_invitation_outlives_a_reconnection_of_the_run_before(door: RelayDoor) -> None:
    line, wire = let_in(door, door.invite())
    secret = door.invite()
    line.gone("cut")
    let_in(door, wire.sent("welcome")[0]["token"])[0].gone("ended")
    let_in(door, secret, OTHER)


def test_a_reusable_secret_lets_one_run_after_another_in(door: RelayDoor) -> None:
    secret = door.invite(secret="a kernel's", reusable=True)
    assert secret == "a kernel's"
    for run in (RUN, OTHER, RUN):
        line, _ = let_in(door, secret, run)
        line.gone("ended")


def test_only_digests_of_secrets_are_kept(door: RelayDoor) -> None:
    secret = door.invite()
    _, wire = let_in(door, secret)
    kept = json.dumps(asdict(door.admission))
    assert secret not in kept
    assert wire.sent("welcome")[0]["token"] not in kept


def test_a_door_that_was_kept_goes_on_with_the_same_run(
    door: RelayDoor, session: Listening
) -> None:
    async def come() -> None:
        line, wire = let_in(door, door.invite())
        line.take(event(1))
        door.cut(1001, "the server ends")
        after = RelayDoor(session, admission=kept(door))
        line, again = let_in(after, wire.sent("welcome")[0]["token"])
        assert again.sent("welcome")[0]["received"] == 1
        line.take(event(1))
        line.take(event(2))

    asyncio.run(come())
    assert [one["content"] for one in session.told] == ["1", "2"]
    assert "end_turn" not in session.names


async def test_what_is_not_written_yet_is_not_acknowledged(
    door: RelayDoor, session: Listening
) -> None:
    line, wire = let_in(door, door.invite())
    line.take(event(1))
    session.log.hold()
    for n in (2, 3, 5):
        line.take(event(n))
    # What is not for the log comes after those all the same.
    line.take(json.dumps({"type": "event", "n": 6, "event": {"type": "settings", "model": "a"}}))
    await asyncio.sleep(0.3)
    assert wire.sent("ack") == [{"type": "ack", "n": 1}]
    session.log.write(3)
    assert wire.sent("ack")[1:] == [{"type": "ack", "n": 3}]
    session.log.write()
    assert wire.sent("ack")[2:] == [{"type": "ack", "n": 6}]
    line.gone("over")


async def test_who_comes_again_is_told_what_is_here_and_what_is_kept(
    door: RelayDoor, session: Listening
) -> None:
    line, wire = let_in(door, door.invite())
    line.take(event(1))
    session.log.hold()
    line.take(event(2))
    line.gone("cut")
    line, again = let_in(door, wire.sent("welcome")[0]["token"])
    (welcome,) = again.sent("welcome")
    assert (welcome["received"], welcome["kept"]) == (2, 1)
    line.take(event(2))
    session.log.write()
    assert again.sent("ack") == [{"type": "ack", "n": 2}]
    assert [one["content"] for one in session.told] == ["1", "2"]
    line.gone("over")


async def test_while_nothing_can_be_written_not_much_is_remembered_of_it(
    door: RelayDoor, session: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupyter_ccapi.bridge.remote._MOST_UNSETTLED", 5)
    line, wire = let_in(door, door.invite())
    session.log.hold()
    for n in range(1, 50):
        line.take(event(n))
    assert len(door._unsettled) < 10
    session.log.write(49)
    assert wire.sent("ack") == [{"type": "ack", "n": 49}]
    line.gone("over")


@pytest.mark.parametrize(
    ("mark", "received"), [("", 0), (f"{RUN}:2", 2), (f"{OTHER}:2", 0), (f"{RUN}:x", 0), ("2", 0)]
)
async def test_after_a_crash_the_log_says_how_far_it_has_come(
    session: Listening, mark: str, received: int
) -> None:
    before = RelayDoor(session)
    line, wire = let_in(before, before.invite())
    session.log.hold()
    for n in (1, 2, 3):
        line.take(event(n))
    assert session.marks == [f"{RUN}:{n}" for n in (1, 2, 3)]
    # Of what was taken nothing was kept but what the log says.
    admission = kept(before)
    line.gone("killed")
    after = Listening()
    line, again = let_in(
        RelayDoor(after, admission=admission, mark=mark), wire.sent("welcome")[0]["token"]
    )
    (welcome,) = again.sent("welcome")
    assert (welcome["received"], welcome["kept"]) == (received, received)
    for n in (1, 2, 3):
        line.take(event(n))
    assert [one["content"] for one in after.told] == ["1", "2", "3"][received:]
    line.gone("over")


async def test_at_the_servers_end_nothing_is_acknowledged_that_was_not_taken(
    door: RelayDoor, session: Listening
) -> None:
    line, wire = let_in(door, door.invite())
    token = wire.sent("welcome")[0]["token"]
    line.take(event(1))
    session.log.hold()
    line.take(event(2))
    door.cut(1001, "the server ends")
    assert wire.closed == (1001, "the server ends")
    line.take(event(3))
    line.gone("closed")
    with pytest.raises(NotAdmitted, match="try again") as refusal:
        let_in(door, token)
    assert refusal.value.code == 1013
    await asyncio.sleep(0.3)
    assert (session.names, len(session.told)) == (["back"], 2)
    assert wire.sent("ack") == []
    # What was written until the end counts.
    assert door.admission.received == 1
    session.log.write()
    assert kept(door).received == 2
    _, again = let_in(RelayDoor(session, admission=kept(door)), token)
    assert again.sent("welcome")[0]["received"] == 2


async def test_after_a_restart_commands_wait_for_the_relay(
    door: RelayDoor, session: Listening
) -> None:
    _, wire = let_in(door, door.invite())
    door.cut(1001, "the server ends")
    after = RelayDoor(session, admission=kept(door))
    doing = asyncio.create_task(after.remote.do({"type": "interrupt"}, "client_1"))
    await asyncio.sleep(0)
    line, again = let_in(after, wire.sent("welcome")[0]["token"])
    (command,) = again.sent("command")
    line.take(json.dumps({"type": "reply", "id": command["id"], "ok": True}))
    assert await doing is None
    line.gone("over")


async def test_a_conversation_that_is_not_shared_any_more_leaves_no_turn_open(
    door: RelayDoor, session: Listening
) -> None:
    line, wire = let_in(door, door.invite())
    line.take(event(1))
    doing = asyncio.create_task(door.remote.do({"type": "interrupt"}, "client_1"))
    await asyncio.sleep(0)
    line.take('{"type": "ended"}')
    line.take(event(2))
    line.gone("closed")
    with pytest.raises(Refused, match="not shared any more"):
        await doing
    # Nobody says that it will be back: nothing waits for that.
    with pytest.raises(Refused, match="not shared any more"):
        await door.remote.do({"type": "interrupt"}, "client_1")
    assert session.names == ["back", "end_turn", "lost"]
    assert session.heard[-1] == ("lost", "it is not shared any more")
    assert len(session.told) == 1
    assert wire.closed == (1000, "it is not shared any more")
    # But if it is, they are.
    line, again = let_in(door, wire.sent("welcome")[0]["token"])
    doing = asyncio.create_task(door.remote.do({"type": "interrupt"}, "client_1"))
    await asyncio.sleep(0)
    assert len(again.sent("command")) == 1
    line.gone("over")
    doing.cancel()


def test_there_is_one_relay_at_a_time(door: RelayDoor, session: Listening) -> None:
    let_in(door, door.invite())
    second = door.invite()
    with pytest.raises(NotAdmitted, match="Another relay") as refusal:
        let_in(door, second, OTHER)
    assert refusal.value.code == 4409
    assert session.names == ["back"]


def test_the_same_run_takes_the_place_of_its_dead_connection(
    door: RelayDoor, session: Listening
) -> None:
    async def come() -> None:
        line, wire = let_in(door, door.invite())
        new, _ = let_in(door, wire.sent("welcome")[0]["token"])
        assert wire.closed is not None
        line.take(event(1))
        line.gone("closed")
        new.take(event(1))

    asyncio.run(come())
    assert session.names == ["back", "back"]
    assert [one["content"] for one in session.told] == ["1"]


async def test_a_command_is_answered(door: RelayDoor) -> None:
    line, wire = let_in(door, door.invite())
    doing = asyncio.create_task(door.remote.do({"type": "rewind", "checkpoint": 1}, "client_1"))
    await asyncio.sleep(0)
    (command,) = wire.sent("command")
    assert command["command"] == {"type": "rewind", "checkpoint": 1}
    assert command["by"] == "client_1"
    answer = {"type": "rewind_preview", "files": []}
    line.take(json.dumps({"type": "reply", "id": command["id"], "ok": True, "answer": answer}))
    assert await doing == answer
    # Once more, as after a reconnection: nobody waits for it.
    line.take(json.dumps({"type": "reply", "id": command["id"], "ok": True}))
    assert wire.closed is None


async def test_a_refusal_comes_back_as_one(door: RelayDoor) -> None:
    line, wire = let_in(door, door.invite())
    doing = asyncio.create_task(door.remote.do({"type": "interrupt"}, "client_1"))
    await asyncio.sleep(0)
    id = wire.sent("command")[0]["id"]
    line.take(json.dumps({"type": "reply", "id": id, "ok": False, "error": "No turn runs."}))
    with pytest.raises(Refused, match=r"^No turn runs\.$"):
        await doing


async def test_commands_wait_for_the_relay_and_are_sent_again(door: RelayDoor) -> None:
    line, wire = let_in(door, door.invite())
    first = asyncio.create_task(door.remote.do({"type": "interrupt"}, "client_1"))
    await asyncio.sleep(0)
    line.gone("cut")
    second = asyncio.create_task(door.remote.do({"type": "user_message", "content": "Hi"}, "c"))
    await asyncio.sleep(0)
    line, again = let_in(door, wire.sent("welcome")[0]["token"])
    commands = again.sent("command")
    assert commands[0] == wire.sent("command")[0]
    assert [one["command"]["type"] for one in commands] == ["interrupt", "user_message"]
    for one in commands:
        line.take(json.dumps({"type": "reply", "id": one["id"], "ok": True}))
    assert (await first, await second) == (None, None)


async def test_only_so_many_commands_wait(door: RelayDoor) -> None:
    doing = [asyncio.create_task(door.remote.do({"type": "interrupt"}, "c")) for _ in range(32)]
    await asyncio.sleep(0)
    with pytest.raises(Refused, match="32 commands wait already"):
        await door.remote.do({"type": "interrupt"}, "c")
    doing[0].cancel()
    await asyncio.sleep(0)
    doing.append(asyncio.create_task(door.remote.do({"type": "interrupt"}, "c")))
    await asyncio.sleep(0)
    # The first relay of a session gets them all.
    _, wire = let_in(door, door.invite())
    assert len(wire.sent("command")) == 32
    await door.remote.close()
    results = await asyncio.gather(*doing, return_exceptions=True)
    assert all(isinstance(one, Refused | asyncio.CancelledError) for one in results)


async def test_too_much_does_not_wait(door: RelayDoor) -> None:
    async def prompt() -> None:
        await door.remote.do({"type": "user_message", "content": "x" * 30 * 2**20}, "c")

    doing = [asyncio.create_task(prompt()) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Refused, match="out of reach"):
        await prompt()
    for one in doing:
        one.cancel()


async def test_another_run_knows_nothing_of_the_commands_and_the_turn_before(
    door: RelayDoor, session: Listening
) -> None:
    line, _ = let_in(door, door.invite())
    doing = asyncio.create_task(door.remote.do({"type": "interrupt"}, "client_1"))
    await asyncio.sleep(0)
    line.take(event(7))
    line.gone("killed")
    line, wire = let_in(door, door.invite(), OTHER)
    with pytest.raises(Refused, match="started anew"):
        await doing
    assert (wire.sent("welcome")[0]["received"], wire.sent("command")) == (0, [])
    assert session.names == ["back", "lost", "end_turn", "back"]
    line.take(event(1))
    assert [one["content"] for one in session.told] == ["7", "1"]
    line.gone("over")


async def test_the_end_of_a_session_reaches_its_relay_also_later(
    door: RelayDoor, session: Listening
) -> None:
    line, wire = let_in(door, door.invite())
    await door.remote.close()
    assert wire.sent("close") == [{"type": "close"}]
    line.gone("closed")
    assert session.names == ["back"]
    with pytest.raises(Refused, match="closed"):
        await door.remote.do({"type": "interrupt"}, "client_1")
    _, again = let_in(door, wire.sent("welcome")[0]["token"])
    assert again.sent("close") == [{"type": "close"}]


MALFORMED = [
    "",
    "nonsense",
    b"\x00",
    "[" * 100_000,
    "[1]",
    '{"type": "hello"}',
    '{"type": "event"}',
    '{"type": "event", "n": "1", "event": {"type": "result"}}',
    '{"type": "event", "n": 0, "event": {"type": "rewound"}}',
    f'{{"type": "event", "n": 1{"0" * 400}, "event": {{"type": "rewound"}}}}',
    '{"type": "event", "n": 1, "event": {"type": "source_lost"}}',
    '{"type": "event", "n": 1, "event": {"type": "permission_request", "request_id": "1"}}',
    '{"type": "event", "n": 1, "event": {"type": "settings", "model": 1}}',
    '{"type": "event", "n": 1, "event": {"type": "result", "subtype": "", "is_error": true,'
    ' "cost_usd": "much"}}',
    '{"type": "event", "n": 1, "event": {"type": "result", "subtype": "", "is_error": true,'
    ' "cost_usd": NaN}}',
    '{"type": "event", "n": 1, "event": {"type": "assistant", "message": {"x": 1e999}}}',
    '{"type": "reply", "id": "1"}',
    '{"type": "reply", "id": "1", "ok": true, "answer": "yes"}',
]


@pytest.mark.parametrize("text", MALFORMED, ids=range(len(MALFORMED)))
async def test_what_makes_no_sense_ends_the_connection_and_is_said(
    door: RelayDoor, session: Listening, text: str | bytes
) -> None:
    line, wire = let_in(door, door.invite())
    line.take(text)
    (refused,) = wire.sent("refused")
    assert refused["error"].endswith(".")
    assert wire.closed == (4400, "refused")
    line.take(event(1))
    assert session.told == []


async def test_settings_of_a_relay_are_only_those_that_it_may_say(
    door: RelayDoor, session: Listening
) -> None:
    line, _ = let_in(door, door.invite())
    said = {"type": "settings", "model": None, "session_id": "another", "state": "closed"}
    line.take(json.dumps({"type": "event", "n": 1, "event": said}))
    assert session.told == [{"type": "settings", "model": None}]
    line.gone("over")


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "event"},
        {"version": 2},
        {"version": None},
        {"run": "short"},
        {"run": 7},
        {"run": "\ud800" * 20},
        {"kind": "panel"},
        {"info": None},
        {"info": {"cwd": 1}},
        {"info": {"name": "x" * 5000}},
        {"padding": "x" * 70_000},
    ],
    ids=str,
)
def test_who_does_not_introduce_itself_is_turned_away(changes: dict[str, Any]) -> None:
    with pytest.raises(NotAdmitted) as refusal:
        hello(**changes)
    assert refusal.value.code == 4400
    wire = Wire()
    refuse(wire, refusal.value)
    assert wire.frames == [{"type": "refused", "error": str(refusal.value)}]
    assert wire.closed == (4400, "refused")
