"""`jupyter ccapi relay`, as a user runs it, for a session of a real server."""

import asyncio
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketProtocol13, websocket_connect

from jupyter_ccapi.claude.errors import InvalidOption
from jupyter_ccapi.claude.options import Options, to_sdk
from jupyter_ccapi.demo import OfflineModel, Reply
from jupyter_ccapi.server.app import CCApiApp
from jupyter_ccapi.server.command import WrongUse
from jupyter_ccapi.server.relay_command import RelayApp, options_of
from jupyter_ccapi.server.routes.relay import RelaySocket
from tests.claude.support import conversation_sent, gone
from tests.server.audience import PATIENCE, SESSIONS, Connect, Listener, writes
from tests.server.chats import Call
from tests.servers import TOKEN, Server, make_environment, serving

ROOT = Path(__file__).parents[2]


class Relaying:
    """The command as it runs; ``said`` are its lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[str] = []

    async def until(self, words: str) -> str:
        """The next line with these words."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while line := (await self.process.stdout.readline()).decode():
                self.said.append(line.rstrip("\n"))
                if words in line:
                    return line
        raise AssertionError(f"It ended without {words!r}: {self.said}")

    async def ended(self) -> int:
        """Wait for its end; the exit code."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            self.said += (await self.process.stdout.read()).decode().splitlines()
            return await self.process.wait()

    @property
    def clis(self) -> list[psutil.Process]:
        """The processes of Claude Code that it runs."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [one for one in children if "stream-json" in " ".join(one.cmdline())]


Relay = Callable[..., Awaitable[Relaying]]
Join = Callable[[str], Awaitable[Listener]]


@pytest.fixture
def environment(model: OfflineModel, home: Path) -> dict[str, str]:
    """Another user's, on another machine, as far as that can be had."""
    (home / "far").mkdir()
    given = {**os.environ, **model.environment(home / "far"), "PYTHONPATH": str(ROOT)}
    places = {f"JUPYTER_{name}_DIR": str(home / "far" / name) for name in ("DATA", "CONFIG")}
    return {**given, **places, "COLUMNS": "100"}


@pytest.fixture
def relay(
    environment: dict[str, str], home: Path, jp_asyncio_loop: asyncio.AbstractEventLoop
) -> Iterator[Relay]:
    """Runs `jupyter ccapi relay ARGUMENTS` with a secret; it is killed at the end."""
    started = []

    async def run(*arguments: str, secret: str = "secret") -> Relaying:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "jupyter_ccapi", "relay", *arguments),
            env={**environment, "CCAPI_RELAY_SECRET": secret},
            cwd=home / "project",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        started.append(process)
        return Relaying(process)

    yield run
    for process in started:
        with suppress(ProcessLookupError):
            process.kill()
        jp_asyncio_loop.run_until_complete(process.communicate())


@pytest.fixture
def join(jp_ws_fetch: Connect) -> Iterator[Join]:
    """Joins a session."""
    connections = []

    async def join(id: str) -> Listener:
        connections.append(await jp_ws_fetch("ws", "session", id))
        listener = Listener(connections[-1])
        await listener.until("session_init")
        return listener

    yield join
    for connection in connections:
        connection.close()


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[WebSocketProtocol13]:
    """The connections of relays to the server, in the order in which they were made."""
    found: list[WebSocketProtocol13] = []
    before = RelaySocket.open

    def open(self: RelaySocket, id: str) -> None:
        assert isinstance(self.ws_connection, WebSocketProtocol13)
        found.append(self.ws_connection)
        before(self, id)

    monkeypatch.setattr(RelaySocket, "open", open)
    return found


async def made(call: Call, **fields: Any) -> tuple[str, str, str]:
    """A session for a relay: its id, its URL for that, and the secret."""
    answer = await call(*SESSIONS, json={"source": "relay", **fields})
    assert answer.status == 201, answer.body
    given = answer.body["relay"]
    return answer.body["session_id"], given["url"], given["secret"]


async def state_of(call: Call, id: str) -> str:
    """What a session does."""
    return str((await call(*SESSIONS, id)).body["state"])


async def test_claude_code_runs_where_the_relay_does(
    call: Call, relay: Relay, join: Join, app: CCApiApp, model: OfflineModel, home: Path
) -> None:
    id, url, secret = await made(call)
    assert await state_of(call, id) == "starting"
    client = await join(id)
    relaying = await relay("--url", url, "--", "--model", "opus", secret=secret)
    await relaying.until(f"the session runs here, in {home / 'project'}.")
    await client.until("status", state="idle", model="opus")
    model.script(writes(home / "project" / "made.txt"), Reply("It is written."))
    await client.send("user_message", content="Write it")
    request = await client.until("permission_request")
    assert request["request"]["tool_name"] == "Write"
    assert not (home / "project" / "made.txt").exists()
    await client.send("permission_response", request_id=request["request_id"], behavior="allow")
    result = await client.until("result")
    assert (result["subtype"], result["result"]) == ("success", "It is written.")
    assert (home / "project" / "made.txt").read_text() == "1\n"
    # A preview is for whoever asks.
    await client.send("rewind", checkpoint=result["checkpoint"], dry_run=True, id="look")
    preview = await client.until("rewind_preview", in_reply_to="look")
    assert [one["path"] for one in preview["files"]] == ["made.txt"]
    assert (await call(*SESSIONS, id)).body["cwd"] == str(home / "project")
    # That was another Claude Code than the server's, which has not even started one.
    assert app.gateway.pool.pids() == []
    assert len(relaying.clis) == 1


async def test_a_cut_connection_is_made_again_and_nothing_is_lost(
    call: Call,
    relay: Relay,
    join: Join,
    model: OfflineModel,
    connections: list[WebSocketProtocol13],
) -> None:
    id, url, secret = await made(call)
    client = await join(id)
    relaying = await relay("--url", url, secret=secret)
    await relaying.until("Connected")
    await client.send("user_message", content="[[hold]] [[words 30]]")
    await client.until("stream_event")
    connections[-1].stream.close()
    await client.until("source_lost")
    model.release()
    await relaying.until("The connection was cut")
    await client.until("source_back")
    result = await client.until("result")
    assert result["subtype"] == "success"
    told = "".join(
        frame["event"]["delta"]["text"]
        for frame in client.of("stream_event")
        if frame["event"].get("delta", {}).get("type") == "text_delta"
    )
    assert told == result["result"]
    assert len(client.of("assistant")) == 1
    await relaying.until("The connection is back.")


async def test_the_end_of_the_session_ends_claude_code_and_the_relay(
    call: Call, relay: Relay, join: Join
) -> None:
    id, url, secret = await made(call)
    client = await join(id)
    relaying = await relay("--url", url, secret=secret)
    await relaying.until("Connected")
    assert (await client.ask("Hello"))["subtype"] == "success"
    (cli,) = relaying.clis
    assert (await call(*SESSIONS, id, method="DELETE")).status == 200
    await gone(cli)
    assert await relaying.ended() == 0
    assert relaying.said[-1] == "Closed: the session was ended on the server."


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_turn_claude_code_and_the_relay(
    call: Call, relay: Relay, join: Join, name: signal.Signals
) -> None:
    id, url, secret = await made(call)
    client = await join(id)
    relaying = await relay("--url", url, secret=secret)
    await relaying.until("Connected")
    await client.send("user_message", content="[[hold]] [[words 30]]")
    await client.until("stream_event")
    (cli,) = relaying.clis
    relaying.process.send_signal(name)
    assert (await client.until("result"))["subtype"] == "interrupted"
    lost = await client.until("source_lost")
    assert "ended" in lost["reason"]
    assert await relaying.ended() == 0
    assert relaying.said[-1] == "Closed."
    assert not cli.is_running()


async def test_another_relay_goes_on_with_the_conversation(
    call: Call, relay: Relay, join: Join, model: OfflineModel
) -> None:
    id, url, secret = await made(call)
    client = await join(id)
    first = await relay("--url", url, secret=secret)
    await first.until("Connected")
    assert (await client.ask("[[say One]]"))["result"] == "One"
    await client.send("user_message", content="[[hold]] [[words 30]]")
    await client.until("stream_event")
    first.process.kill()
    await client.until("source_lost")
    model.release()
    # The secret was good once.
    again = await relay("--url", url, secret=secret)
    assert await again.ended() == 1
    assert "used already" in again.said[-1]
    answer = await call(*SESSIONS, json={"resume": id})
    assert (answer.status, answer.body["session_id"]) == (201, id)
    second = await relay("--url", url, secret=answer.body["relay"]["secret"])
    # The turn that was under way has its end.
    failed = await client.until("result")
    assert (failed["subtype"], failed["is_error"]) == ("error_during_execution", True)
    assert "started anew" in failed["error"]
    await client.until("source_back")
    await second.until("Connected")
    result = await client.ask("[[say Three]]")
    assert result["result"] == "Three"
    texts = [text for _, text in conversation_sent(model.main_requests[-1])]
    assert "[[say One]]" in texts[0]
    assert "One" in texts


async def test_one_session_has_one_relay(call: Call, relay: Relay) -> None:
    _, url, secret = await made(call)
    await (await relay("--url", url, secret=secret)).until("Connected")
    second = await relay("--url", url, secret=secret)
    assert await second.ended() == 1
    assert "used already" in second.said[-1]


async def test_what_cannot_be_connected_to_is_said(call: Call, relay: Relay) -> None:
    _, url, _ = await made(call)
    wrong = await relay("--url", url, secret="wrong")
    missing = await relay("--url", f"{url[:-32]}{'0' * 32}", secret="wrong")
    nowhere = await relay("--url", "ws://127.0.0.1:1/ws/cli/session_1")
    assert [await one.ended() for one in (wrong, missing, nowhere)] == [1, 1, 1]
    assert "not one of this session's" in wrong.said[-1]
    assert "no session here that waits for you" in missing.said[-1]
    assert "cannot be connected to: Connection refused." in nowhere.said[-1]


async def test_what_claude_code_does_not_take_is_said_at_once(call: Call, relay: Relay) -> None:
    _, url, secret = await made(call)
    relaying = await relay("--url", url, "--", "--no-such-option", secret=secret)
    assert await relaying.ended() == 1
    assert "--no-such-option" in relaying.said[-1]
    # The secret was not used up by that.
    await (await relay("--url", url, secret=secret)).until("Connected")


@pytest.mark.parametrize(
    ("arguments", "secret", "status", "said"),
    [
        ((), "s", 2, "--url wss://HOST/ws/cli/ID"),
        (("--url", "ws://h/", "--cdw", "."), "s", 2, "no option --cdw"),
        (("--url", "ws://h/", "--cwd", "nowhere"), "s", 2, "'nowhere' is not a folder"),
        (("--url", "ws://h/"), "", 2, "CCAPI_RELAY_SECRET"),
        (("--url", "ws://h/"), "two words\n", 2, "no session's secret"),
        (("--url", "h"), "s", 1, "wss://host/ws/cli/ID"),
        (("--url", "wss://h/", "--cafile", "none.pem"), "s", 1, "none.pem"),
        (("--url", "ws://h/", "--", "--resume", "x"), "s", 2, "--resume cannot be given"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else None,
)
def test_wrong_use_is_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    home: Path,
    arguments: tuple[str, ...],
    secret: str,
    status: int,
    said: str,
) -> None:
    for name in ("DATA", "CONFIG"):
        monkeypatch.setenv(f"JUPYTER_{name}_DIR", str(home / name))
    monkeypatch.setenv("CCAPI_RELAY_SECRET", secret)
    monkeypatch.setattr(sys, "stdin", None)
    command = RelayApp()
    command.initialize([*arguments])
    with pytest.raises(SystemExit) as ended:
        command.start()
    assert ended.value.code == status
    assert said in capsys.readouterr().err


def test_on_a_terminal_the_secret_is_asked_for_and_not_shown(
    environment: dict[str, str], home: Path
) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "jupyter_ccapi", "relay", "--url", "h"],
        env=environment,
        cwd=home,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        shown = b""
        while b"The session's secret:" not in shown:
            shown += os.read(ours, 10_000)
        os.write(ours, b"hidden\n")
        assert process.wait(PATIENCE) == 1
    shown += os.read(ours, 10_000)
    os.close(ours)
    assert b"is no URL" in shown
    assert b"hidden" not in shown


def test_the_options_that_clients_can_change_are_the_conversations(tmp_path: Path) -> None:
    words = ["--model=opus", "--add-dir", "../data", "--permission-mode", "plan", "--brief"]
    options = options_of(tmp_path, words)
    assert (options.mode, options.asks, options.cwd) == ("agent", True, tmp_path)
    assert (options.model, options.sdk) == ("opus", {"permission_mode": "plan"})
    assert options.arguments == ("--add-dir", "../data", "--brief")


@pytest.mark.parametrize(
    "words",
    [
        ["--session-id", "x"],
        ["--resume=x"],
        ["-rx"],
        ["-c"],
        ["-dp"],
        ["--brief", "--print"],
        ["--input-format=text"],
        ["--output-format", "json"],
        ["--fork-session"],
        ["--permission-prompt-tool", "x"],
        ["--help"],
        ["mcp", "list"],
        ["--brief", "--", "Hello"],
        ["--add-dir", "a\0b"],
        ["--model"],
        ["--model", "--brief"],
        ["--permission-mode="],
    ],
    ids=" ".join,
)
def test_words_that_are_not_a_persons_to_set_are_refused(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(WrongUse, match=r"\.$"):
        options_of(tmp_path, words)
    if "model" not in words[0] and "mode" not in words[0]:
        with pytest.raises(InvalidOption):
            to_sdk(Options(mode="agent", arguments=tuple(words)), cli_path=Path("claude"))


async def test_a_server_that_is_started_anew_has_its_session_and_its_relay_again(
    model: OfflineModel, relay: Relay, home: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serving(*server_at(port), environment=make_environment(model, home), home=home) as server:
        made = await asyncio.to_thread(posted, server, {"source": "relay"})
        relaying = await relay("--url", made["relay"]["url"], secret=made["relay"]["secret"])
        await relaying.until("Connected")
        client = await joined(made["ws_url"])
        assert (await client.ask("[[say One]]"))["result"] == "One"
        await client.send("user_message", content="[[hold]] [[words 30]]")
        last = await client.until("stream_event")
    client.connection.close()
    await relaying.until("cut")
    model.release()
    with serving(*server_at(port), environment=make_environment(model, home), home=home):
        await relaying.until("back")
        again = await joined(f"{made['ws_url']}?last_event_id={last['event_id']}")
        result = await again.until("result")
        assert result["subtype"] == "success"
        assert len(again.of("assistant")) == 1
        again.connection.close()


async def test_a_server_that_is_killed_in_a_turn_loses_nothing_and_doubles_nothing(
    model: OfflineModel, relay: Relay, home: Path
) -> None:
    """What the relay told it, and it had not kept, the next one is told."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = make_environment(model, home)
    folder = home / "project"
    with serving(*server_at(port), environment=environment, home=home) as server:
        made = await asyncio.to_thread(posted, server, {"source": "relay"})
        relaying = await relay("--url", made["relay"]["url"], secret=made["relay"]["secret"])
        await relaying.until("Connected")
        client = await joined(made["ws_url"])
        assert (await client.ask("[[say One]]"))["result"] == "One"
        reads = [Reply(f"Step {n}.", tools=[("Bash", {"command": f"ls #{n}"})]) for n in range(12)]
        model.script(*reads, writes(folder / "made.txt"), Reply("It is written."))
        await client.send("user_message", content="Look around, then write")
        # Just then, whatever of it is written and acknowledged.
        while len(client.of("tool_progress")) < 9:
            await client.hear()
        server.process.kill()
        server.process.wait()
    seen = client.events
    client.connection.close()
    await relaying.until("cut")
    with serving(*server_at(port), environment=environment, home=home):
        await relaying.until("back")
        last = max(frame.get("event_id", 0) for frame in client.frames)
        again = await joined(f"{made['ws_url']}?last_event_id={last}")
        request = await again.until("permission_request")
        await again.send("permission_response", request_id=request["request_id"], behavior="allow")
        result = await again.until("result")
        assert result["result"].endswith("It is written.")
        # A client that comes later sees each message, and each step of each tool, once.
        late = await joined(made["ws_url"])
        while (await late.until("result"))["event_id"] != result["event_id"]:
            pass
        said = [
            block["text"]
            for event in late.of("assistant")
            for block in event["message"]["content"]
            if block["type"] == "text"
        ]
        assert said == ["One", *(f"Step {n}." for n in range(12)), "It is written."]
        ids = [event["event_id"] for event in late.events]
        assert ids == sorted(set(ids))
        steps = [
            (event["tool_use_id"], event["status"])
            for event in late.of("tool_progress")
            if event["status"] != "running"
        ]
        assert len(steps) == len(set(steps)) == 13
        assert len(late.of("user_message")) == len(late.of("result")) == 2
        # No number was given twice: what the first client has seen, it has seen there.
        there = {event["event_id"]: event for event in late.events}
        assert [one for one in seen if there.get(one["event_id"], one) != one] == []
        for connection in (again.connection, late.connection):
            connection.close()


def server_at(port: int) -> list[str]:
    """The words that start a server there."""
    extension = "--ServerApp.jpserver_extensions={'jupyter_ccapi': True}"
    return ["jupyter_server", extension, f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]


def posted(server: Server, body: dict[str, Any]) -> dict[str, Any]:
    """The session that this makes. Blocks."""
    request = urllib.request.Request(
        f"{server.api}/sessions",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        answer: dict[str, Any] = json.loads(response.read())
    return answer


async def joined(url: str) -> Listener:
    """A client of a session."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    client = Listener(await websocket_connect(HTTPRequest(url, headers=headers)))
    await client.until("session_init")
    return client
