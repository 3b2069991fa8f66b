"""A conversation is published to a real server on loopback, over connections that are cut."""

import asyncio
import contextlib
import random
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from jupyter_ccapi.bridge.dialing import CannotConnect, is_exposed, socket_url, trusting
from jupyter_ccapi.bridge.link import encode
from jupyter_ccapi.bridge.relay import Relay, RelayRefused
from jupyter_ccapi.bridge.remote import Admission, RelayDoor
from jupyter_ccapi.bridge.source import Refused
from jupyter_ccapi.store import StoreUnavailable
from tests.bridge.relaying import INFO, Doing, Server, serving


class Publishing:
    """A relay that runs, over a source that stands in for a conversation."""

    def __init__(self, server: Server, **options: Any) -> None:
        self.source = Doing()
        self.resumed: Any = None
        self.noticed: list[tuple[str, str]] = []
        options = {"url": server.url, "secret": server.secret, **options}
        self.relay = Relay(
            options.pop("url"),
            options.pop("secret"),
            make=self.make,
            info=lambda: INFO,
            notice=lambda state, why: self.noticed.append((state, why)),
            longest_wait=0.5,
            **options,
        )

    async def make(self, resume: Mapping[str, Any] | None) -> Doing:
        """Say what the conversation is taken up by."""
        self.resumed = resume
        return self.source

    def say(self, *words: object) -> None:
        """Tell an event for each word."""
        for word in words:
            self.relay.tell({"type": "user_message", "content": str(word)})


@contextlib.asynccontextmanager
async def publishing(server: Server, **options: Any) -> AsyncIterator[Publishing]:
    """Have a relay run until the test is over."""
    publisher = Publishing(server, **options)
    running = asyncio.create_task(publisher.relay.run())
    try:
        yield publisher
    finally:
        running.cancel()
        await asyncio.wait([running])


def words(server: Server) -> list[str]:
    """What the session was told."""
    return [one["content"] for one in server.session.told]


async def test_what_is_told_arrives_also_what_was_told_before() -> None:
    async with serving() as server:
        publisher = Publishing(server)
        publisher.say(1, 2)
        running = asyncio.create_task(publisher.relay.run())
        await server.session.until(lambda: len(words(server)) == 2)
        publisher.say(3)
        assert await publisher.relay.flush(10)
        assert words(server) == ["1", "2", "3"]
        assert server.session.heard == [("back", INFO)]
        assert publisher.resumed == {"id": "session_1"}
        assert publisher.noticed == [("connected", "")]
        running.cancel()
        await asyncio.wait([running])
        # Its end is orderly, and the session is told.
        await server.session.until(lambda: server.session.names == ["back", "lost"])
        assert server.session.heard[1] == ("lost", "the relay was ended")


async def test_over_any_cuts_each_event_arrives_once_and_in_order() -> None:
    chance = random.Random(7)
    async with serving() as server, publishing(server) as publisher:
        await server.session.until(lambda: server.session.names == ["back"])
        said = 0
        for cuts in range(1, 6):
            for _ in range(chance.randrange(1, 400)):
                said += 1
                publisher.say(said)
                if chance.random() < 0.02:
                    await asyncio.sleep(0)
            expected = said
            server.cut()
            await server.session.until(
                lambda cuts=cuts: server.session.names.count("back") == cuts + 1  # type: ignore[misc]
            )
            await server.session.until(
                lambda expected=expected: len(words(server)) >= expected  # type: ignore[misc]
            )
        assert words(server) == [str(n) for n in range(1, said + 1)]
        assert server.session.names == ["back", *["lost", "back"] * 5]
        assert [state for state, _ in publisher.noticed] == ["connected", *["cut", "back"] * 5]
        assert len({one.run for one in server.hellos}) == 1


async def test_the_relay_finds_a_server_again_that_was_started_anew() -> None:
    server = Server()
    async with serving(server):
        publisher = Publishing(server)
        running = asyncio.create_task(publisher.relay.run())
        publisher.say(1)
        await server.session.until(lambda: words(server) == ["1"])
        port = int(server.url.split(":")[2].split("/")[0])
    publisher.say(2)
    await server.session.until(lambda: server.session.names == ["back", "lost"])
    async with serving(server, port):
        await server.session.until(lambda: words(server) == ["1", "2"])
        running.cancel()
        await asyncio.wait([running])


async def test_a_command_is_done_and_answered() -> None:
    async with serving() as server, publishing(server) as publisher:
        publisher.source.answer = {"type": "rewind_preview", "files": []}
        command = {"type": "rewind", "checkpoint": 3, "dry_run": True}
        assert await server.door.remote.do(command, "client_1") == publisher.source.answer
        assert publisher.source.asked == [(command, "client_1")]
        publisher.source.refuse = "There is no checkpoint 3."
        with pytest.raises(Refused, match=r"^There is no checkpoint 3\.$"):
            await server.door.remote.do(command, "client_1")


async def test_a_source_that_fails_is_said_to_have_and_the_relay_goes_on() -> None:
    async with serving() as server, publishing(server) as publisher:
        publisher.source.answer = {"type": object()}
        with pytest.raises(Refused, match="failed where the conversation runs"):
            await server.door.remote.do({"type": "interrupt"}, "client_1")
        publisher.source.answer = None
        assert await server.door.remote.do({"type": "interrupt"}, "client_1") is None


async def test_a_command_is_done_once_though_its_answer_got_lost() -> None:
    async with serving() as server, publishing(server) as publisher:
        publisher.source.wait = asyncio.Event()
        doing = asyncio.create_task(server.door.remote.do({"type": "interrupt"}, "client_1"))
        await publisher.source.begun.wait()
        server.cut()
        await server.session.until(lambda: server.session.names == ["back", "lost"])
        publisher.source.wait.set()
        async with asyncio.timeout(20):
            assert await doing is None
        assert len(publisher.source.asked) == 1
        assert server.session.names == ["back", "lost", "back"]


async def test_a_command_is_done_once_though_it_is_sent_over_many_connections() -> None:
    async with serving() as server, publishing(server) as publisher:
        publisher.source.wait = asyncio.Event()
        doing = asyncio.create_task(server.door.remote.do({"type": "interrupt"}, "client_1"))
        await publisher.source.begun.wait()
        for cuts in (1, 2):
            server.cut()
            await server.session.until(
                lambda cuts=cuts: server.session.names.count("back") == cuts + 1  # type: ignore[misc]
            )
        publisher.source.wait.set()
        assert await doing is None
        assert len(publisher.source.asked) == 1


async def test_the_end_of_the_session_ends_the_relay() -> None:
    async with serving() as server:
        publisher = Publishing(server)
        running = asyncio.create_task(publisher.relay.run())
        await server.session.until(lambda: server.session.names == ["back"])
        await server.door.remote.close()
        async with asyncio.timeout(20):
            assert await running is None  # type: ignore[func-returns-value]
        # Whose conversation it is decides what becomes of it.
        assert not publisher.source.closed
        publisher.say("nobody hears this")
        assert await publisher.relay.flush(0)


async def test_a_wrong_secret_is_refused_with_a_sentence() -> None:
    async with serving() as server:
        with pytest.raises(RelayRefused, match="not one of this session's"):
            await Publishing(server, secret="wrong").relay.run()
        url = server.url.replace("session_1", "session_2")
        with pytest.raises(RelayRefused, match="no such session"):
            await Publishing(server, url=url).relay.run()
        assert server.session.heard == []


async def test_a_store_that_cannot_be_read_is_another_try(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as server:
        server.fails = StoreUnavailable("The disk is on fire.")
        with pytest.raises(CannotConnect, match=r"cannot read its sessions now: try again\.$"):
            await Publishing(server).relay.run()
        server.fails = None
        async with publishing(server) as publisher:
            await server.session.until(lambda: server.session.names == ["back"])
            server.fails = StoreUnavailable("The disk is on fire.")
            server.cut()
            for _ in range(2):
                server.asked.clear()
                async with asyncio.timeout(20):
                    await server.asked.wait()
            server.fails = None
            publisher.say(1)
            await server.session.until(lambda: words(server) == ["1"])
            assert [state for state, _ in publisher.noticed] == ["connected", "cut", "back"]
    assert "turned away: The disk is on fire." in caplog.text
    assert "Traceback" not in caplog.text
    assert not [one for one in caplog.records if one.exc_info]


async def test_what_a_crash_of_the_server_took_is_told_again_and_nothing_else() -> None:
    server = Server()
    async with serving(server):
        publisher = Publishing(server)
        running = asyncio.create_task(publisher.relay.run())
        await server.session.until(lambda: server.session.names == ["back"])
        publisher.say(1)
        assert await publisher.relay.flush(10)
        server.session.log.hold()
        publisher.say(2, 3, 4)
        await server.session.until(lambda: len(words(server)) == 4)
        # A new connection to the same server: those are not told again, nor forgotten.
        server.cut()
        await server.session.until(lambda: server.session.names.count("back") == 2)
        assert not await publisher.relay.flush(0.3)
        admission = Admission(**asdict(server.door.admission))
        port = int(server.url.split(":")[2].split("/")[0])
    after = Server()
    # The third was written as the server was killed, and nobody could say so any more.
    after.door = RelayDoor(after.session, admission=admission, mark=server.session.marks[1])
    async with serving(after, port):
        await after.session.until(lambda: words(after) == ["3", "4"])
        assert await publisher.relay.flush(10)
        publisher.say(5)
        await after.session.until(lambda: words(after) == ["3", "4", "5"])
        running.cancel()
        await asyncio.wait([running])


async def test_who_leaves_says_so_after_all_that_was_told() -> None:
    async with serving() as server:
        publisher = Publishing(server)
        running = asyncio.create_task(publisher.relay.run())
        publisher.say("before")
        assert await publisher.relay.flush(10)
        publisher.say(*range(200))
        publisher.relay.leave()
        publisher.say("not told any more")
        # At once, as when a kernel ends.
        running.cancel()
        await server.session.until(lambda: server.session.names == ["back", "end_turn", "lost"])
        assert words(server) == ["before", *(str(n) for n in range(200))]
        assert server.session.heard[-1] == ("lost", "it is not shared any more")
        await asyncio.wait([running])


async def test_a_second_relay_is_refused_while_there_is_one() -> None:
    async with serving() as server, publishing(server) as publisher:
        publisher.say(1)
        await server.session.until(lambda: words(server) == ["1"])
        with pytest.raises(RelayRefused, match="Another relay"):
            await Publishing(server, secret=server.door.invite()).relay.run()
        publisher.say(2)
        await server.session.until(lambda: words(server) == ["1", "2"])


async def test_a_relay_that_cannot_be_understood_is_told_and_ends() -> None:
    async with serving() as server:
        publisher = Publishing(server)
        publisher.relay.tell({"type": "nonsense"})
        with pytest.raises(RelayRefused, match="no event 'nonsense'"):
            await publisher.relay.run()
        await server.session.until(lambda: server.session.names == ["back", "lost"])


async def test_what_cannot_be_made_ends_the_relay() -> None:
    async with serving() as server:
        publisher = Publishing(server)

        async def fail(resume: object) -> Doing:
            raise Refused("The conversation is in use.")

        publisher.relay._make = fail
        with pytest.raises(Refused, match="in use"):
            await publisher.relay.run()
        await server.session.until(lambda: server.session.names == ["back", "lost"])


async def test_where_there_is_no_server_that_is_said() -> None:
    async with serving() as server:
        pass
    with pytest.raises(CannotConnect, match=r"cannot be connected to: Connection refused\."):
        await Publishing(server).relay.run()
    async with serving() as server:
        url = server.url.replace("/ws/cli", "/ws/other")
        with pytest.raises(CannotConnect, match="no such address"):
            await Publishing(server, url=url).relay.run()


async def test_the_secret_is_shown_in_a_header_and_browsers_are_turned_away() -> None:
    async with serving() as server:
        secret = {"Authorization": f"Bearer {server.secret}"}
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Basic Og=="}, 401),
            ({"Authorization": "Bearer "}, 401),
            ({**secret, "Origin": "https://elsewhere.example"}, 403),
            ({**secret, "Origin": "null"}, 403),
        ):
            request = HTTPRequest(f"{server.url}?token={server.secret}", headers=headers)
            with pytest.raises(HTTPClientError) as refusal:
                await websocket_connect(request)
            assert refusal.value.code == status
        assert server.hellos == []


@pytest.mark.parametrize("text", ["hello", encode({"type": "event"}), b"\x00", "x" * 70_000])
async def test_strangers_may_say_little_before_they_are_known(text: str | bytes) -> None:
    async with serving() as server:
        headers = {"Authorization": f"Bearer {server.secret}"}
        socket = await websocket_connect(HTTPRequest(server.url, headers=headers))
        await socket.write_message(text, binary=isinstance(text, bytes))
        answer = await socket.read_message()
        if answer is not None:
            assert '"refused"' in str(answer)
            assert await socket.read_message() is None
            assert socket.close_code == 4400
        socket.close()
        assert server.hellos == []


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("http://host/ws/cli/1", "ws://host/ws/cli/1"),
        ("https://host:8443/base/ws/cli/1", "wss://host:8443/base/ws/cli/1"),
        (" wss://[::1]:8/ws/cli/1\n", "wss://[::1]:8/ws/cli/1"),
    ],
)
def test_urls_as_people_write_them_are_understood(url: str, meant: str) -> None:
    assert socket_url(url) == meant


@pytest.mark.parametrize(
    "url",
    [
        *("", "host", "host/ws", "ftp://host/", "ws:///x", "ws://host:x/", "ws://host:99999/"),
        *("ws://[", "ws://me:secret@host/", "ws://host/ws/cli/1?secret=s", "ws://host/#s"),
    ],
)
def test_other_urls_are_refused_with_a_sentence(url: str) -> None:
    with pytest.raises(CannotConnect, match=r"\.$"):
        socket_url(url)


def test_what_can_be_read_on_its_way_is_known() -> None:
    assert is_exposed("ws://host.example/ws/cli/1")
    assert not is_exposed("wss://host.example/ws/cli/1")
    assert not is_exposed("ws://127.0.0.1:8888/ws/cli/1")


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """A certificate of the server's own making for another name, and its key."""
    paths = str(tmp_path / "own.pem"), str(tmp_path / "own.key")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=notebooks.example", "-out", paths[0], "-keyout", paths[1]),
        ],
        check=True,
        capture_output=True,
    )
    return paths


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate")
async def test_a_server_on_this_machine_is_known_by_its_own_certificate(
    certificate: tuple[str, str],
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    async with serving(tls=context) as server:
        assert server.url.startswith("wss://127.0.0.1:")
        with pytest.raises(CannotConnect, match="certificate cannot be trusted"):
            await Publishing(server).relay.run()
        async with publishing(server, cafile=certificate[0]) as publisher:
            publisher.say(1)
            await server.session.until(lambda: words(server) == ["1"])
    # Elsewhere, who is connected to must bear the name, too.
    there = trusting(certificate[0], "wss://notebooks.example/")
    assert there is not None
    assert there.check_hostname


def test_what_is_no_certificate_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("nothing")
    for name in ("none.pem", "missing.pem"):
        with pytest.raises(CannotConnect, match=r"No certificate can be read from .*pem"):
            trusting(str(tmp_path / name), "wss://host/")
    assert trusting(str(tmp_path / "missing.pem"), "ws://host/") is None


class Way:
    """What stands between a relay and its server, and can go silent without a word."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._carrying: set[asyncio.Task[None]] = set()
        self._open: list[asyncio.StreamWriter] = []

    async def begin(self) -> str:
        """Listen; the address that stands in for the server's."""
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def silence(self) -> None:
        """Carry nothing any more of the connections there are, which stay open."""
        for task in self._carrying:
            task.cancel()

    async def end(self) -> None:
        """Close everything."""
        self.silence()
        self._server.close()
        for writer in self._open:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._port)
        self._open += [writer, there[1]]
        for source, target in ((reader, there[1]), (there[0], writer)):
            task = asyncio.create_task(self._carry(source, target))
            self._carrying.add(task)
            task.add_done_callback(self._carrying.discard)

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()


async def test_both_sides_notice_a_connection_that_has_gone_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("bridge.dialing", "server.routes.relay"):
        monkeypatch.setattr(f"jupyter_ccapi.{module}.PING_INTERVAL", 0.5)
    async with serving() as server:
        address = server.url.split("/")[2]
        way = Way(int(address.partition(":")[2]))
        url = server.url.replace(address, await way.begin())
        async with publishing(server, url=url) as publisher:
            publisher.say(1)
            await server.session.until(lambda: words(server) == ["1"])
            way.silence()
            publisher.say(2)
            await server.session.until(lambda: words(server) == ["1", "2"])
            # The new connection may have come before the server gave the old one up.
            assert server.session.names in (["back", "lost", "back"], ["back", "back"])
            assert [state for state, _ in publisher.noticed] == ["connected", "cut", "back"]
        await way.end()


async def test_a_relay_that_has_gone_silent_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jupyter_ccapi.server.routes.relay.PING_INTERVAL", 0.5)
    async with serving() as server:
        address = server.url.split("/")[2]
        way = Way(int(address.partition(":")[2]))
        url = server.url.replace(address, await way.begin())
        async with publishing(server, url=url):
            await server.session.until(lambda: server.session.names == ["back"])
            way.silence()
            await server.session.until(lambda: server.session.names == ["back", "lost"])
        await way.end()
