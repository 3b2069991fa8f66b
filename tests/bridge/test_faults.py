"""What clients of a session see of faults: of its CLI, of other clients, of themselves."""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from jupyter_server.serverapp import ServerApp
from tornado.httpclient import HTTPClientError, HTTPResponse

from jupyter_ccapi.bridge.client import GONE, TOO_SLOW
from jupyter_ccapi.bridge.log import Log
from jupyter_ccapi.server.app import CCApiApp
from tests.bridge.stand_in import install
from tests.conftest import WARM
from tests.server.audience import PATIENCE, SESSIONS, Connect, Listener

Join = Callable[..., Awaitable[Listener]]
Fetch = Callable[..., Awaitable[HTTPResponse]]


@pytest.fixture
def jp_server_config(home: Path) -> dict[str, Any]:
    """A server whose CLI is the stand-in."""
    return {
        "ServerApp": {"jpserver_extensions": {"jupyter_ccapi": True}},
        "CCApiApp": {"cli_path": str(install(home)), "warm": WARM, "spares": 0},
    }


@pytest.fixture
def join(jp_serverapp: ServerApp, jp_fetch: Fetch, jp_ws_fetch: Connect) -> Iterator[Join]:
    """Joins a session as one more client, which the first one begins; all leave at the end."""
    listeners: list[Listener] = []

    async def join(**query: Any) -> Listener:
        if listeners:
            id = session_of(listeners[0])
        else:
            answer = await jp_fetch(*SESSIONS, method="POST", body="{}")
            id = json.loads(answer.body)["session_id"]
        listeners.append(Listener(await jp_ws_fetch("ws", "session", id, params=query)))
        assert (await listeners[-1].hear())["type"] == "session_init"
        return listeners[-1]

    yield join
    for listener in listeners:
        listener.connection.close()


@pytest.fixture
def cli(jp_serverapp: ServerApp) -> Callable[[], int]:
    """The process id of the only CLI that runs."""
    app: CCApiApp = jp_serverapp.web_app.settings["ccapi"]

    def find() -> int:
        (pid,) = app.gateway.pool.pids()
        return pid

    return find


def session_of(client: Listener) -> str:
    """The id of the session that it has joined."""
    return str(client.frames[0]["session_id"])


def folded(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a client knows of the conversation: its events, whole messages in place of their
    pieces.
    """
    events = {frame["event_id"]: frame for frame in frames if "event_id" in frame}
    last = max((id for id, one in events.items() if one["type"] == "assistant"), default=0)
    return [
        event
        for id, event in sorted(events.items())
        if event["type"] != "stream_event" or id > last
    ]


def vanish(listener: Listener) -> None:
    """Cut a client's connection, without a word."""
    protocol: Any = listener.connection.protocol
    protocol.stream.close()


class TestACLIThatDies:
    """However it ends, its turn ends with a result, and the session goes on."""

    async def test_in_the_middle_of_a_turn(self, join: Join) -> None:
        asking, watching = await join(), await join(role="viewer")
        result = await asking.ask("[[die]]")
        assert (result["subtype"], result["is_error"]) == ("error_during_execution", True)
        assert "ended in the middle of the turn" in result["error"]
        (broken_off,) = asking.of("assistant")
        assert broken_off["partial"] is True
        assert broken_off["message"]["content"] == [{"type": "text", "text": "half a "}]

        assert (await asking.ask("Again."))["subtype"] == "success"
        await watching.until("result", subtype="success")
        assert folded(watching.frames) == folded(asking.frames)
        assert [one["type"] for one in folded(asking.frames)] == [
            *("user_message", "assistant", "result") * 2
        ]

    async def test_between_two_turns(self, join: Join, cli: Callable[[], int]) -> None:
        client = await join()
        await client.ask("Hello.")
        if WARM:
            os.kill(cli(), signal.SIGKILL)
        assert (await client.ask("Again."))["subtype"] == "success"

    async def test_while_it_waits_for_permission(self, join: Join, cli: Callable[[], int]) -> None:
        asking, other = await join(), await join()
        await asking.send("user_message", content="[[ask Bash]]")
        request = await asking.until("permission_request")
        os.kill(cli(), signal.SIGKILL)
        resolved = await asking.until("permission_resolved")
        assert (resolved["request_id"], resolved["behavior"]) == (request["request_id"], "deny")
        assert (await asking.until("result"))["is_error"] is True

        # Somebody answers who has not seen that yet.
        await other.send("permission_response", request_id=request["request_id"], behavior="allow")
        refused = await other.until("error")
        assert refused["in_reply_to"] == "permission_response"
        assert "waits for an answer" in refused["error"]
        assert (await other.ask("Go on."))["subtype"] == "success"

    async def test_in_the_moment_it_asks_for_permission(self, join: Join) -> None:
        client = await join()
        result = await client.ask("[[ask and die]]")
        assert result["is_error"] is True
        asked = [one["request_id"] for one in client.of("permission_request")]
        assert [one["request_id"] for one in client.of("permission_resolved")] == asked
        assert (await client.ask("Go on."))["subtype"] == "success"


class TestAClientThatVanishes:
    """While a permission request is open: that waits for whoever is there, or comes."""

    async def test_leaves_the_answer_to_another_one(self, join: Join) -> None:
        asking, other = await join(), await join()
        await asking.send("user_message", content="[[ask Bash]]")
        await asking.until("permission_request")
        vanish(asking)
        request = await other.until("permission_request")
        await other.until("status", clients=1)
        await answer(other, request, "allow")
        assert (await other.until("permission_resolved"))["by"] == other.id
        assert (await other.until("result"))["subtype"] == "success"

    async def test_finds_it_again_when_it_comes_back(self, join: Join) -> None:
        asking = await join()
        await asking.send("user_message", content="[[ask Bash]]")
        request = await asking.until("permission_request")
        vanish(asking)
        again = await join(last_event_id=request["event_id"])
        assert again.frames[0]["state"] == "waiting_permission"
        # It has had that number; the request is told once more, since it still waits.
        repeated = await again.until("permission_request")
        assert "event_id" not in repeated
        assert repeated["request"] == request["request"]
        await answer(again, repeated, "allow")
        await again.until("result")
        assert len(again.of("permission_request")) == 1

    async def test_finds_it_in_the_log_when_it_has_lost_all(self, join: Join) -> None:
        asking = await join()
        await asking.send("user_message", content="[[ask Bash]]")
        request = await asking.until("permission_request")
        vanish(asking)
        new = await join()
        assert await new.until("permission_request") == request
        await answer(new, request, "allow")
        await new.until("result")
        assert len(new.of("permission_request")) == 1


class TestAFlood:
    """Ten thousand pieces of one message, as fast as the CLI can write."""

    async def test_reaches_every_client_whole_and_in_order(self, join: Join) -> None:
        clients = [await join() for _ in range(3)]
        result, *_ = await asyncio.gather(
            clients[0].ask("[[flood 10000]]"), *(one.until("result") for one in clients[1:])
        )
        assert result["subtype"] == "success"
        for client in clients:
            numbers = [one["event_id"] for one in client.frames if "event_id" in one]
            assert numbers == sorted(set(numbers))
            (message,) = client.of("assistant")
            words = message["message"]["content"][0]["text"].split()
            assert [int(word.partition("@")[0]) for word in words] == list(range(10_000))
            streamed = "".join(
                one["event"]["delta"]["text"]
                for one in client.of("stream_event")
                if one["event"]["type"] == "content_block_delta"
            )
            # Who was behind at its end was sent the message in place of its last pieces.
            assert message["message"]["content"][0]["text"].startswith(streamed)

    async def test_is_one_message_for_who_comes_later(self, join: Join) -> None:
        client = await join()
        await client.ask("[[flood 10000]]")
        later = await join()
        await later.until("result")
        assert later.of("stream_event") == []
        assert folded(later.frames) == folded(client.frames)


async def test_a_client_that_stops_reading_is_closed_and_holds_nobody_up(join: Join) -> None:
    """It may come back, and then knows what the others do."""
    reading, stalled = await join(), await join()
    # More than all buffers on the way take, and after that as much as nobody may be behind.
    for _ in range(4):
        await reading.ask(" ".join(["[[flood 20 of 60000]]"] * 4))
    assert (await reading.ask("[[words 3000 every 0.0002]]"))["subtype"] == "success"
    # It is gone, and the other one has been told all, while it has read nothing.
    if not any(status["clients"] == 1 for status in reading.of("status")[-1:]):
        await reading.until("status", clients=1)
    assert len(stalled.frames) == 1
    numbers = [one["event_id"] for one in reading.frames if "event_id" in one]
    assert numbers == sorted(set(numbers))

    async with asyncio.timeout(PATIENCE):
        while (text := await stalled.connection.read_message()) is not None:
            stalled.frames.append(json.loads(text))
    assert stalled.closed == TOO_SLOW
    seen = max(one["event_id"] for one in stalled.frames if "event_id" in one)
    assert seen < numbers[-1]
    again = await join(last_event_id=seen)
    await again.until("result", event_id=numbers[-1])
    assert folded([*stalled.frames, *again.frames]) == folded(reading.frames)


class TestTwoAnswers:
    """To one permission request, at once."""

    @pytest.mark.parametrize("first", ["allow", "deny"])
    async def test_one_counts_and_the_other_is_refused(self, join: Join, first: str) -> None:
        one, two = await join(), await join()
        answers = {"allow": one, "deny": two}
        second = {"allow": "deny", "deny": "allow"}[first]
        await one.send("user_message", content="[[ask Bash]]")
        request = await one.until("permission_request")
        await two.until("permission_request")
        await asyncio.gather(
            answer(answers[first], request, first), answer(answers[second], request, second)
        )
        results = await asyncio.gather(one.until("result"), two.until("result"))
        assert results[0] == results[1]
        (resolved,) = one.of("permission_resolved")
        assert two.of("permission_resolved") == [resolved]
        won = resolved["behavior"]
        lost = {"allow": "deny", "deny": "allow"}[won]
        assert resolved["by"] == answers[won].id
        assert answers[won].of("error") == []
        (error,) = answers[lost].of("error") or [await answers[lost].until("error")]
        assert error["in_reply_to"] == "permission_response"
        # What the tool did is what was answered first.
        (done,) = (call for call in one.of("tool_progress") if call["status"] != "running")
        assert done["status"] == {"allow": "completed", "deny": "denied"}[won]
        if won == "allow":
            assert json.loads(done["content"]) == request["request"]["input"]


class TestEveryTurn:
    """Ends with a result, however it does."""

    async def test_that_is_interrupted(self, join: Join) -> None:
        client = await join()
        await client.send("user_message", content="[[hang]]")
        await client.until("stream_event")
        await client.send("interrupt")
        result = await client.until("result")
        assert (result["subtype"], result["is_error"]) == ("interrupted", False)
        assert (await client.ask("Go on."))["subtype"] == "success"

    async def test_that_is_interrupted_while_it_waits_for_permission(self, join: Join) -> None:
        client = await join()
        await client.send("user_message", content="[[ask Bash]]")
        request = await client.until("permission_request")
        await client.send("interrupt")
        resolved = await client.until("permission_resolved")
        assert (resolved["request_id"], resolved["behavior"]) == (request["request_id"], "deny")
        assert (await client.until("result"))["subtype"] == "interrupted"

    async def test_that_is_denied_what_it_asks_for(self, join: Join) -> None:
        client = await join()
        await client.send("user_message", content="[[ask Bash]]")
        request = await client.until("permission_request")
        await answer(client, request, "deny", message="Not today.")
        denied = await client.until("tool_progress", status="denied")
        assert denied["content"] == "Not today."
        assert (await client.until("result"))["subtype"] == "success"


@pytest.mark.parametrize(
    ("prompt", "until"),
    [("Hello.", "result"), ("[[hang]]", "stream_event"), ("[[ask Bash]]", "permission_request")],
)
async def test_a_session_that_is_deleted_ends_its_process(
    join: Join, cli: Callable[[], int], jp_fetch: Fetch, prompt: str, until: str
) -> None:
    """Whatever it does; its clients are told, and it is gone."""
    client = await join()
    await client.send("user_message", content=prompt)
    await client.until(until)
    process = psutil.Process(cli()) if WARM or until != "result" else None
    path = (*SESSIONS, session_of(client))
    deleted = await jp_fetch(*path, method="DELETE")
    assert json.loads(deleted.body)["deleted"] is True
    assert process is None or not process.is_running()
    assert await client.gone() == GONE
    if until != "result":
        assert client.of("result") == []
    with pytest.raises(HTTPClientError) as missing:
        await jp_fetch(*path)
    assert missing.value.code == 404


async def answer(client: Listener, request: dict[str, Any], behavior: str, **more: Any) -> None:
    """Answer a permission request."""
    id = request["request_id"]
    await client.send("permission_response", request_id=id, behavior=behavior, **more)


class _SlowStore:
    """Keeps what it is given, when it is let; a writing that is cut off is noted."""

    def __init__(self) -> None:
        self.kept: list[int] = []
        self.began, self.go_on = asyncio.Event(), asyncio.Event()
        self.cut_off = False

    async def append(self, id: str, events: Sequence[tuple[int, str]], mark: str = "") -> None:
        """Keep events."""
        self.began.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cut_off = True
            raise
        self.kept += [number for number, _ in events]

    async def read(
        self, id: str, *, after: int, upto: int | None = None, limit: int = 1000
    ) -> list[tuple[int, str]]:
        """Nothing."""
        return []

    async def reserve(self, id: str, upto: int) -> None:
        """Do nothing."""


async def test_a_log_that_is_closed_does_not_cut_its_writing_off() -> None:
    """A transaction that is cut off can keep a database locked for all others."""
    store = _SlowStore()
    log = Log("session", store)
    log.append({"type": "user_message"})
    await asyncio.wait_for(store.began.wait(), PATIENCE)
    log.append({"type": "result"})
    closing = asyncio.create_task(log.close())
    await asyncio.sleep(0)
    store.go_on.set()
    await asyncio.wait_for(closing, PATIENCE)
    assert not store.cut_off
    assert store.kept == [1, 2]
