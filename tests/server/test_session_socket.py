"""What the clients of a session see, and what they may do."""

import asyncio
import base64
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.serverapp import ServerApp
from tornado.websocket import WebSocketClosedError

from jupyter_ccapi.demo import ApiError, OfflineModel, Reply
from jupyter_ccapi.server import access
from jupyter_ccapi.server.app import CCApiApp
from jupyter_ccapi.server.principal import OWNER, Principal
from jupyter_ccapi.server.routes import sockets
from jupyter_ccapi.store import Key, StoreUnavailable
from tests.claude.support import conversation_sent
from tests.server.audience import (
    PATIENCE,
    SESSIONS,
    Connect,
    Failing,
    Held,
    Listener,
    refused,
    runs,
    writes,
)
from tests.server.chats import Call
from tests.server.test_key_access import SECRET, bearer, key, x_api_key
from tests.server.waiting import eventually

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)

Begin = Callable[..., Awaitable[str]]
Join = Callable[..., Awaitable[Listener]]


@pytest.fixture
def ccapi_config() -> dict[str, Any]:
    """A server whose owner lets agents change files where they are told to."""
    return {"agent_permission_modes": ["default", "plan", "acceptEdits"]}


@pytest.fixture
def root(jp_serverapp: ServerApp) -> Path:
    """The server's own folder."""
    return Path(jp_serverapp.root_dir)


@pytest.fixture
def begin(call: Call) -> Begin:
    """Makes a session; gives its id."""

    async def begin(**fields: Any) -> str:
        answer = await call(*SESSIONS, json=fields)
        assert answer.status == 201, answer.body
        return str(answer.body["session_id"])

    return begin


@pytest.fixture
def join(jp_ws_fetch: Connect) -> Iterator[Join]:
    """Joins a session as one more client; all leave at the end."""
    listeners = []

    async def join(id: str, *, headers: dict[str, str] | None = None, **query: Any) -> Listener:
        connection = await jp_ws_fetch("ws", "session", id, params=query, headers=headers)
        listener = Listener(connection)
        listeners.append(listener)
        first = await listener.hear()
        assert first["type"] == "session_init"
        return listener

    yield join
    for listener in listeners:
        listener.connection.close()


def answered(listener: Listener) -> list[str]:
    """The types of what has happened, in order."""
    return [frame["type"] for frame in listener.events]


def written(listener: Listener) -> str:
    """The text of the model's that has come in pieces."""
    events = [frame["event"] for frame in listener.of("stream_event")]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    return "".join(delta.get("text", "") for delta in deltas)


class TestATurn:
    """From its prompt to its result."""

    async def test_is_told_to_all_clients_in_the_same_order(
        self, begin: Begin, join: Join, model: OfflineModel
    ) -> None:
        id = await begin()
        asking, watching = await join(id), await join(id, role="viewer")
        assert asking.frames[0]["session_id"] == id
        assert asking.frames[0]["state"] in ("starting", "idle")
        gate = threading.Event()
        model.script(Reply("Hello, both.", hold=gate))
        await asking.send("user_message", content="Hi!")
        # While the model still speaks; what comes once its message is whole may be left out.
        for client in (asking, watching):
            while written(client) != "Hello, ":
                await client.until("stream_event")
        gate.set()
        result = await asking.until("result")
        await watching.until("result")

        assert answered(asking) == ["user_message", "assistant", "result"]
        assert asking.events == watching.events
        prompt, answer, _ = asking.events
        assert (prompt["content"], prompt["client_id"]) == ("Hi!", asking.id)
        assert answer["message"]["content"] == [{"type": "text", "text": "Hello, both."}]
        assert answer["parent_tool_use_id"] is None
        assert (result["subtype"], result["is_error"]) == ("success", False)
        assert (result["result"], result["checkpoint"]) == ("Hello, both.", 1)
        assert result["usage"]["output_tokens"] > 0
        assert result["cost_usd"] > 0
        numbers = [frame["event_id"] for frame in watching.frames if "event_id" in frame]
        assert numbers == sorted(set(numbers))
        assert "Hello, both.".startswith(written(watching))

    async def test_tells_of_its_tools(
        self, begin: Begin, join: Join, model: OfflineModel, root: Path
    ) -> None:
        (root / "a.txt").write_text("It is 42.\n")
        client = await join(await begin())
        model.script(Reply(tools=[("Read", {"file_path": str(root / "a.txt")})]), Reply("42."))
        await client.ask("What?")
        first, last = client.of("tool_progress")[0], client.of("tool_progress")[-1]
        assert (first["tool_name"], first["status"]) == ("Read", "running")
        assert last["tool_use_id"] == first["tool_use_id"]
        assert last["status"] == "completed"
        assert "It is 42." in str(last["content"])

    async def test_that_fails_ends_with_a_result_and_the_next_one_is_well(
        self, begin: Begin, join: Join, model: OfflineModel
    ) -> None:
        client = await join(await begin())
        model.script(*[Reply(error=ApiError(400, message="No good."))] * 6)
        result = await client.ask("Hi!")
        assert result["is_error"]
        assert "No good." in result["error"]
        model.clear()
        model.script(Reply("Well."))
        assert (await client.ask("Again?"))["result"] == "Well."

    async def test_is_interrupted_by_any_client(
        self, begin: Begin, join: Join, model: OfflineModel
    ) -> None:
        id = await begin()
        asking, other = await join(id), await join(id)
        model.script(Reply("One two three.", word_delay=5.0))
        await asking.send("user_message", content="Count!")
        await other.until("stream_event")
        await other.send("interrupt")
        assert (await asking.until("result"))["subtype"] == "interrupted"
        await other.send("interrupt", id="again")
        assert (await other.until("error"))["in_reply_to"] == "again"

    async def test_waits_for_the_one_before_it(
        self, begin: Begin, join: Join, model: OfflineModel
    ) -> None:
        id = await begin()
        one, two = await join(id), await join(id)
        model.script(Reply("First."), Reply("Second."))
        await one.send("user_message", content="1")
        await two.send("user_message", content="2")
        results = [(await one.until("result"))["result"] for _ in range(2)]
        assert results == ["First.", "Second."]
        order = [frame["type"] for frame in one.events]
        assert order == ["user_message", "assistant", "result"] * 2


class TestAPermission:
    """A person is asked before Claude changes anything."""

    async def test_is_given_and_the_tool_runs_with_its_own_input(
        self, begin: Begin, join: Join, model: OfflineModel, root: Path
    ) -> None:
        id = await begin()
        client = await join(id)
        model.script(writes(root / "a.txt"), Reply("Done."))
        await client.send("user_message", content="Write!")
        asked = await client.until("permission_request")
        assert asked["request"]["tool_name"] == "Write"
        assert asked["request"]["input"] == {"file_path": str(root / "a.txt"), "content": "1\n"}
        assert "+1\n" in asked["request"]["diff"]
        assert (await client.until("status"))["state"] == "waiting_permission"
        assert not (root / "a.txt").exists()
        await client.send("permission_response", request_id=asked["request_id"], behavior="allow")
        resolved = await client.until("permission_resolved")
        assert (resolved["behavior"], resolved["by"]) == ("allow", client.id)
        await client.until("result")
        assert (root / "a.txt").read_text() == "1\n"

    async def test_is_denied_with_a_reason_that_the_model_reads(
        self, begin: Begin, join: Join, model: OfflineModel, root: Path
    ) -> None:
        client = await join(await begin())
        model.script(writes(root / "a.txt"), Reply("As you like."))
        await client.send("user_message", content="Write!")
        asked = await client.until("permission_request")
        await client.send(
            "permission_response",
            request_id=asked["request_id"],
            behavior="deny",
            message="Not in this folder.",
        )
        result = await client.until("result")
        assert result["subtype"] == "success"
        assert not (root / "a.txt").exists()
        assert "Not in this folder." in model.main_requests[-1].tool_results[-1].text
        assert client.of("tool_progress")[-1]["status"] == "denied"

    async def test_is_given_for_another_input(
        self, begin: Begin, join: Join, model: OfflineModel, root: Path
    ) -> None:
        client = await join(await begin())
        model.script(writes(root / "a.txt"), Reply("Done."))
        await client.send("user_message", content="Write!")
        asked = await client.until("permission_request")
        better = {"file_path": str(root / "b.txt"), "content": "2\n"}
        await client.send(
            "permission_response",
            request_id=asked["request_id"],
            behavior="allow",
            updated_input=better,
        )
        await client.until("result")
        assert (root / "b.txt").read_text() == "2\n"
        assert not (root / "a.txt").exists()

    async def test_is_the_first_ones_to_give(
        self, begin: Begin, join: Join, model: OfflineModel, root: Path
    ) -> None:
        id = await begin()
        one, two = await join(id), await join(id)
        model.script(writes(root / "a.txt"), Reply("Done."))
        await one.send("user_message", content="Write!")
        asked = await one.until("permission_request")
        assert await two.until("permission_request") == asked
        answer = {"request_id": asked["request_id"], "id": "mine"}
        await one.send("permission_response", **answer, behavior="deny")
        await one.until("permission_resolved")
        await two.send("permission_response", **answer, behavior="allow")
        error = await two.until("error")
        assert error["in_reply_to"] == "mine"
        assert "first answer" in error["error"]
        assert "event_id" not in error
        await one.until("result")
        assert one.of("error") == []
        assert not (root / "a.txt").exists()

    async def test_for_the_session_is_not_asked_for_again(
        self, begin: Begin, join: Join, model: OfflineModel, root: Path
    ) -> None:
        client = await join(await begin())
        model.script(runs("touch a"), runs("touch a"), Reply("Done."))
        await client.send("user_message", content="Twice!")
        asked = await client.until("permission_request")
        await client.send(
            "permission_response", request_id=asked["request_id"], behavior="allow", scope="session"
        )
        await client.until("result")
        assert len(client.of("permission_request")) == 1

    async def test_is_still_asked_for_when_its_client_comes_back(
        self, begin: Begin, join: Join, call: Call, model: OfflineModel, root: Path
    ) -> None:
        id = await begin()
        client = await join(id)
        model.script(writes(root / "a.txt"), Reply("Done."))
        await client.send("user_message", content="Write!")
        asked = await client.until("permission_request")
        client.connection.close()
        described = (await call(*SESSIONS, id)).body
        assert described["state"] == "waiting_permission"
        assert [one["request_id"] for one in described["pending_permissions"]] == [
            asked["request_id"]
        ]
        back = await join(id, last_event_id=asked["event_id"])
        again = await back.until("permission_request", request_id=asked["request_id"])
        assert again["request"] == asked["request"]
        await back.send("permission_response", request_id=asked["request_id"], behavior="allow")
        await back.until("result")
        assert (root / "a.txt").exists()


class TestSettings:
    """Model and permission mode of a session that is open."""

    async def test_the_model_is_changed_for_all(
        self, begin: Begin, join: Join, call: Call, model: OfflineModel
    ) -> None:
        id = await begin(model="haiku")
        client, other = await join(id), await join(id)
        await client.ask("Hi!")
        await client.send("set_model", model="opus")
        await other.until("status", model="opus")
        await client.ask("And you?")
        before, after = (request.body["model"] for request in model.main_requests[-2:])
        assert "haiku" in before
        assert "opus" in after
        assert (await call(*SESSIONS, id)).body["model"] == "opus"

    async def test_a_model_that_there_is_not_is_refused(self, begin: Begin, join: Join) -> None:
        client = await join(await begin())
        await client.send("set_model", model="gpt-7", id="m")
        error = await client.until("error")
        assert error["in_reply_to"] == "m"
        assert "gpt-7" in error["error"]

    async def test_the_permission_mode_is_changed_as_far_as_the_server_allows(
        self, begin: Begin, join: Join, model: OfflineModel, root: Path
    ) -> None:
        client = await join(await begin())
        await client.send("set_permission_mode", mode="bypassPermissions", id="p")
        error = await client.until("error", in_reply_to="p")
        assert "agent_permission_modes" in error["error"]
        await client.send("set_permission_mode", mode="acceptEdits")
        await client.until("status", permission_mode="acceptEdits")
        model.script(writes(root / "a.txt"), Reply("Done."))
        await client.ask("Write!")
        assert client.of("permission_request") == []
        assert (root / "a.txt").exists()


class TestARewind:
    """Back to a checkpoint, for all clients."""

    async def test_is_previewed_for_one_and_done_for_all(
        self, begin: Begin, join: Join, model: OfflineModel, root: Path
    ) -> None:
        id = await begin(permission_mode="acceptEdits")
        client, other = await join(id), await join(id)
        model.script(writes(root / "a.txt", "1\n"), Reply("One."))
        assert (await client.ask("Write 1."))["checkpoint"] == 1
        model.script(writes(root / "b.txt", "2\n"), Reply("Two."))
        assert (await client.ask("Write 2."))["checkpoint"] == 2

        await client.send("rewind", checkpoint=2, dry_run=True, id="look")
        preview = await client.until("rewind_preview")
        assert (preview["checkpoint"], preview["in_reply_to"]) == (2, "look")
        assert [one["path"] for one in preview["files"]] == ["b.txt"]
        assert "-2\n" in preview["files"][0]["diff"]
        assert preview["not_covered"] == []
        assert "event_id" not in preview
        assert (root / "b.txt").exists()

        await client.send("rewind", checkpoint=2)
        assert (await other.until("rewound"))["checkpoint"] == 2
        assert other.of("rewind_preview") == []
        assert not (root / "b.txt").exists()
        assert (root / "a.txt").exists()
        model.clear()
        model.script(Reply("Only one."))
        await client.ask("What did I ask?")
        said = [text for _, text in conversation_sent(model.main_requests[-1])]
        assert "Write 1." in said
        assert "Write 2." not in said

    async def test_to_a_checkpoint_that_there_is_not_is_refused(
        self, begin: Begin, join: Join
    ) -> None:
        client = await join(await begin())
        await client.send("rewind", checkpoint=7)
        assert (await client.until("error"))["in_reply_to"] == "rewind"


class TestAMessage:
    """What a client may send."""

    async def test_has_images_and_files_of_the_workspace(
        self, begin: Begin, join: Join, model: OfflineModel, root: Path
    ) -> None:
        (root / "sub").mkdir()
        (root / "sub" / "note.md").write_text("It is 42.")
        (root / "dot.png").write_bytes(base64.b64decode(PIXEL))
        client = await join(await begin())
        source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
        await client.ask(
            [
                {"type": "file", "path": "sub/note.md"},
                {"type": "file", "path": "dot.png"},
                {"type": "image", "source": source},
                {"type": "text", "text": "What is it?"},
            ]
        )
        request = model.main_requests[-1]
        assert request.images == 2
        assert "It is 42." in str(request.body["messages"])
        assert request.user_text.endswith("What is it?")

    @pytest.mark.parametrize(
        "path", ["../secret.txt", "/etc/hosts", "link", "sub", "none.txt", "\0"]
    )
    async def test_brings_no_files_from_elsewhere(
        self, begin: Begin, join: Join, model: OfflineModel, root: Path, path: str
    ) -> None:
        (root.parent / "secret.txt").write_text("a secret")
        (root / "sub").mkdir()
        (root / "link").symlink_to(root.parent / "secret.txt")
        client = await join(await begin())
        await client.send("user_message", content=[{"type": "file", "path": path}], id="f")
        error = await client.until("error", in_reply_to="f")
        assert "content.0" in error["error"]
        assert model.requests == []

    @pytest.mark.parametrize(
        "message",
        [
            "{",
            "[]",
            "null",
            '{"type": 1}',
            '{"type": "launch"}',
            '{"type": "user_message"}',
            '{"type": "user_message", "content": 1}',
            '{"type": "user_message", "content": ""}',
            '{"type": "user_message", "content": "Hi", "more": 1}',
            '{"type": "user_message", "content": [{"type": "video"}]}',
            '{"type": "rewind", "checkpoint": 0}',
            '{"type": "permission_response", "request_id": "none", "behavior": "allow"}',
            '{"type": "ping", "n": NaN}',
            "[" * 100_000,
            b"\x00\x01",
        ],
    )
    async def test_that_is_none_is_answered_with_an_error_and_nothing_else_happens(
        self, begin: Begin, join: Join, message: str | bytes
    ) -> None:
        client = await join(await begin())
        await client.connection.write_message(message, binary=isinstance(message, bytes))
        error = await client.until("error")
        assert len(error["error"]) < 500
        await client.send("ping", id="still")
        assert (await client.until("pong"))["in_reply_to"] == "still"
        assert client.events == []

    async def test_may_have_16_mb_and_no_more(
        self, begin: Begin, join: Join, model: OfflineModel
    ) -> None:
        client = await join(await begin())
        write, most = client.connection.write_message, sockets.MOST_BYTES
        # In the second, there are half as many letters as bytes.
        for text in ("x" * most, "é" * (most // 2)):
            await write(f'{{"type": "user_message", "content": "{text}"}}')
            assert "16 MB" in (await client.until("error"))["error"]
        frame = '{"type": "ping", "more": "%s"}'
        await write(frame % (" " * (most - len(frame % ""))))
        assert "more" in (await client.until("error"))["error"]
        assert model.requests == []
        with suppress(WebSocketClosedError):
            await write(b"x" * (2 * most + 1), binary=True)
        await client.gone()


class TestWhatWasAsked:
    """Before its connection ended, or something went wrong."""

    async def test_is_done_in_its_order_when_the_client_is_gone(
        self, begin: Begin, join: Join, call: Call, app: CCApiApp
    ) -> None:
        id = await begin(model="haiku")
        session = await app.gateway.sessions.get(OWNER, id)
        assert session.source is not None
        session.source = held = Held(session.source)
        client = await join(id)
        await client.send("set_model", model="sonnet")
        await client.send("set_permission_mode", mode="plan")
        await client.send("set_model", model="opus")
        await held.begun.wait()
        await client.leave()
        await eventually(lambda: not session.clients)
        held.released.set()
        await eventually(lambda: len(held.done) == 3)
        assert [one["type"] for one in held.done] == [
            "set_model",
            "set_permission_mode",
            "set_model",
        ]
        assert not held.cancelled
        described = (await call(*SESSIONS, id)).body
        assert (described["model"], described["permission_mode"]) == ("opus", "plan")

    async def test_does_not_hold_the_servers_end(
        self, begin: Begin, join: Join, app: CCApiApp
    ) -> None:
        id = await begin()
        session = await app.gateway.sessions.get(OWNER, id)
        assert session.source is not None
        session.source = held = Held(session.source)
        client = await join(id)
        await client.send("set_model", model="sonnet")
        await held.begun.wait()
        async with asyncio.timeout(PATIENCE):
            await app.gateway.sessions.close()
        assert held.cancelled
        assert await client.gone() == 1001

    async def test_may_fail_for_any_reason_and_the_next_is_done(
        self, begin: Begin, join: Join, app: CCApiApp, caplog: pytest.LogCaptureFixture
    ) -> None:
        id = await begin()
        session = await app.gateway.sessions.get(OWNER, id)
        assert session.source is not None
        source = session.source
        client = await join(id)
        session.source = Failing(source, KeyError("what somebody said"))
        await client.send("set_model", model="sonnet", id="m")
        error = await client.until("error")
        assert error["in_reply_to"] == "m"
        assert "log says more" in error["error"]
        assert f"session {id} failed: KeyError" in caplog.text
        assert "in do\n" in caplog.text
        assert "what somebody said" not in caplog.text
        session.source = Failing(source, StoreUnavailable("The disk is full."))
        await client.send("set_model", model="sonnet")
        error = await client.until("error")
        assert error == {
            "type": "error",
            "error": "The disk is full.",
            "in_reply_to": "set_model",
        }
        session.source = source
        await client.send("set_model", model="sonnet")
        await client.until("status", model="sonnet")


class TestAConnection:
    """Who may connect, and as what."""

    async def test_goes_on_after_the_event_that_it_names(
        self, begin: Begin, join: Join, model: OfflineModel
    ) -> None:
        id = await begin()
        first = await join(id)
        model.script(Reply("One."), Reply("Two."))
        last = (await first.ask("1"))["event_id"]
        await first.ask("2")
        whole = await join(id)
        await whole.until("result", result="Two.")
        assert whole.events == first.events
        assert whole.of("stream_event") == []
        rest = await join(id, last_event_id=last)
        await rest.until("result", result="Two.")
        assert rest.events == [event for event in first.events if event["event_id"] > last]

    async def test_that_is_a_viewers_sees_and_cannot_act(
        self, begin: Begin, join: Join, model: OfflineModel
    ) -> None:
        id = await begin()
        viewer = await join(id, role="viewer")
        assert viewer.frames[0]["role"] == "viewer"
        commands: dict[str, dict[str, Any]] = {
            "user_message": {"content": "Hi"},
            "interrupt": {},
            "set_model": {"model": "opus"},
            "rewind": {"checkpoint": 1},
        }
        for kind, fields in commands.items():
            await viewer.send(kind, **fields)
            assert "viewer" in (await viewer.until("error", in_reply_to=kind))["error"]
        await viewer.send("ping")
        await viewer.until("pong")
        assert model.requests == []

    async def test_by_one_who_may_only_read_is_a_viewers(
        self, begin: Begin, join: Join, jp_serverapp: ServerApp
    ) -> None:
        class Readers(Authorizer):
            def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
                return action == "read"

        id = await begin()
        jp_serverapp.web_app.settings["authorizer"] = Readers(parent=jp_serverapp)
        assert (await join(id)).frames[0]["role"] == "viewer"

    async def test_by_one_who_may_not_even_read_is_refused(
        self, begin: Begin, jp_ws_fetch: Connect, jp_serverapp: ServerApp
    ) -> None:
        class Nobody(Authorizer):
            def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
                return False

        id = await begin()
        jp_serverapp.web_app.settings["authorizer"] = Nobody(parent=jp_serverapp)
        assert (await refused(jp_ws_fetch("ws", "session", id)))[0] == 403

    @pytest.mark.parametrize(
        "query", [{"role": "owner"}, {"last_event_id": "-1"}, {"last_event_id": "x"}]
    )
    async def test_that_asks_for_what_there_is_not_is_a_400(
        self, begin: Begin, jp_ws_fetch: Connect, query: dict[str, str]
    ) -> None:
        status, error = await refused(jp_ws_fetch("ws", "session", await begin(), params=query))
        assert (status, error["param"]) == (400, *query)

    async def test_to_no_session_or_anothers_is_a_404(
        self, begin: Begin, jp_ws_fetch: Connect, jp_serverapp: ServerApp
    ) -> None:
        id = await begin()
        assert (await refused(jp_ws_fetch("ws", "session", "none")))[0] == 404
        settings = jp_serverapp.web_app.settings
        settings["ccapi_identify"] = lambda handler: Principal("hub:ann", "ann")
        status, error = await refused(jp_ws_fetch("ws", "session", id))
        assert status == 404
        assert id in error["message"]

    @pytest.mark.parametrize("headers", [{"Authorization": ""}, bearer("wrong"), x_api_key("no")])
    async def test_of_a_stranger_is_refused_before_anything_is_said(
        self, begin: Begin, jp_ws_fetch: Connect, headers: dict[str, str]
    ) -> None:
        id = await begin()
        for path in (id, "none"):
            assert (await refused(jp_ws_fetch("ws", "session", path, headers=headers)))[0] == 401

    async def test_may_show_the_token_in_its_address(
        self, begin: Begin, join: Join, app: CCApiApp
    ) -> None:
        assert app.serverapp is not None
        token = app.serverapp.identity_provider.token
        await join(await begin(), headers={"Authorization": ""}, token=token)

    async def test_by_cookie_is_for_pages_of_this_origin(
        self, begin: Begin, join: Join, call: Call, jp_ws_fetch: Connect, jp_http_port: int
    ) -> None:
        """Jupyter sets the cookie with the first page that it shows to somebody with the token."""
        shown = await call("stats", headers={"Host": f"localhost:{jp_http_port}"})
        cookie = shown.headers["Set-Cookie"].split(";")[0]
        by_cookie = {"Authorization": "", "Cookie": cookie}
        id = await begin()
        own = {**by_cookie, "Origin": f"http://localhost:{jp_http_port}"}
        await join(id, headers=own)
        foreign = {**by_cookie, "Origin": "https://evil.example"}
        status, error = await refused(jp_ws_fetch("ws", "session", id, headers=foreign))
        assert status == 403
        assert "evil.example" in error["message"]

    async def test_of_a_page_elsewhere_that_shows_the_token_is_let_in(
        self, begin: Begin, join: Join, jp_auth_header: dict[str, str]
    ) -> None:
        await join(await begin(), headers={**jp_auth_header, "Origin": "https://app.example"})

    async def test_is_closed_with_its_session(self, begin: Begin, join: Join, call: Call) -> None:
        id = await begin()
        client = await join(id)
        assert (await call(*SESSIONS, id, method="DELETE")).status == 200
        assert await client.gone() == 4410

    async def test_that_answers_no_pings_is_dropped(
        self, begin: Begin, join: Join, call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sockets, "PING_EVERY", 0.05)
        id = await begin()
        well, dead = await join(id), await join(id)
        protocol = dead.connection.protocol
        assert protocol is not None
        monkeypatch.setattr(protocol, "_send_pong", lambda data: None)
        listening = asyncio.ensure_future(well.until("status", clients=1))
        assert await dead.gone() == sockets.SILENT
        await listening
        assert (await call(*SESSIONS, id)).body["clients"] == 1
        assert well.closed is None


class TestAKey:
    """Whoever has no token, and a key of ours."""

    @pytest.fixture
    def keys(self, jp_serverapp: ServerApp, app: CCApiApp) -> dict[str, Key]:
        """The keys that there are, by their secrets."""
        there_are = {SECRET: key()}

        async def verify(secret: str) -> Key | None:
            return there_are.get(secret)

        jp_serverapp.web_app.settings["ccapi_verify_key"] = verify
        return there_are

    @pytest.mark.parametrize("show", [bearer, x_api_key])
    async def test_acts_and_denies_and_leaves_it_to_the_owner_to_allow(
        self,
        begin: Begin,
        join: Join,
        model: OfflineModel,
        root: Path,
        keys: dict[str, Key],
        show: Any,
    ) -> None:
        id = await begin()
        program, owner = await join(id, headers=show(SECRET)), await join(id)
        model.script(writes(root / "a.txt"), writes(root / "b.txt"), Reply("Done."))
        await program.send("user_message", content="Write!")
        asked = await program.until("permission_request")
        answer = {"request_id": asked["request_id"], "behavior": "allow"}
        await program.send("permission_response", **answer)
        error = await program.until("error", in_reply_to="permission_response")
        assert "keys_may_approve" in error["error"]
        await owner.send("permission_response", **answer)
        again = await program.until("permission_request")
        await program.send("permission_response", request_id=again["request_id"], behavior="deny")
        await program.until("result")
        assert (root / "a.txt").exists()
        assert not (root / "b.txt").exists()

    async def test_for_certain_models_or_so_much_money_only_watches(
        self, begin: Begin, join: Join, call: Call, keys: dict[str, Key]
    ) -> None:
        id = await begin()
        limits: list[dict[str, Any]] = [{"models": ["haiku"]}, {"budget_usd": 1.0}]
        for limit in limits:
            keys[SECRET] = key(**limit)
            watching = await join(id, headers=bearer(SECRET))
            assert watching.frames[0]["role"] == "viewer"
            answer = await call(*SESSIONS, headers=bearer(SECRET), json={})
            assert answer.status == 403
            assert "laptop" in answer.body["error"]["message"]

    @pytest.mark.parametrize(
        "now", [key(revoked_at=1.0), key(expires_at=1.0), None], ids=["revoked", "expired", "gone"]
    )
    async def test_that_is_not_valid_any_more_acts_no_more(
        self,
        begin: Begin,
        join: Join,
        model: OfflineModel,
        keys: dict[str, Key],
        monkeypatch: pytest.MonkeyPatch,
        now: Key | None,
    ) -> None:
        monkeypatch.setattr(access, "_VALID_FOR", 0.0)
        id = await begin()
        program, owner = await join(id, headers=bearer(SECRET)), await join(id)
        model.script(Reply("Hello."))
        await program.ask("Hi!")
        if now is None:
            del keys[SECRET]
        else:
            keys[SECRET] = now
        await program.send("user_message", content="And you?", id="late")
        error = await program.until("error", in_reply_to="late")
        assert "'laptop'" in error["error"]
        assert await program.gone() == sockets.KEY_GONE
        await owner.send("ping")
        await owner.until("pong")
        assert len(owner.of("user_message")) == 1

    async def test_that_is_not_valid_any_more_does_not_watch_for_long(
        self, begin: Begin, join: Join, keys: dict[str, Key], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(access, "_VALID_FOR", 0.0)
        monkeypatch.setattr(sockets, "PING_EVERY", 0.05)
        id = await begin()
        watching = await join(id, headers=bearer(SECRET), role="viewer")
        owner = await join(id)
        keys[SECRET] = key(revoked_at=1.0)
        error = await watching.until("error")
        assert "revoked" in error["error"]
        assert "in_reply_to" not in error
        assert await watching.gone() == sockets.KEY_GONE
        await owner.send("ping")
        await owner.until("pong")

    async def test_is_looked_up_once_for_what_is_asked_at_once(
        self,
        begin: Begin,
        join: Join,
        jp_serverapp: ServerApp,
        app: CCApiApp,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        asked, expired = [], False

        async def verify(secret: str) -> Key | None:
            asked.append(secret)
            return key()

        monkeypatch.setattr(access, "_VALID_FOR", 3600.0)
        monkeypatch.setattr(Key, "expired", lambda self, now: expired)
        jp_serverapp.web_app.settings["ccapi_verify_key"] = verify
        program = await join(await begin(), headers=bearer(SECRET))
        for name in ("sonnet", "opus", "haiku"):
            await program.send("set_model", model=name)
            await program.until("status", model=name)
        assert asked == [SECRET]
        # No store is needed to see that.
        expired = True
        await program.send("set_model", model="opus")
        assert "expired" in (await program.until("error"))["error"]
        assert await program.gone() == sockets.KEY_GONE

    async def test_that_cannot_be_looked_up_does_nothing_until_it_can(
        self, begin: Begin, join: Join, jp_serverapp: ServerApp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        down = False
        tried = asyncio.Event()

        async def verify(secret: str) -> Key | None:
            if down:
                tried.set()
                raise StoreUnavailable("The database is locked.")
            return key()

        monkeypatch.setattr(access, "_VALID_FOR", 0.0)
        monkeypatch.setattr(sockets, "PING_EVERY", 0.1)
        jp_serverapp.web_app.settings["ccapi_verify_key"] = verify
        program = await join(await begin(), headers=bearer(SECRET))
        down = True
        await tried.wait()
        await program.send("set_model", model="opus", id="m")
        error = await program.until("error")
        assert (error["error"], error["in_reply_to"]) == ("The database is locked.", "m")
        down = False
        await program.send("set_model", model="opus")
        await program.until("status", model="opus")

    class TestThatMayApprove:
        """Where the server's owner wants that."""

        @pytest.fixture
        def ccapi_config(self) -> dict[str, Any]:
            return {"keys_may_approve": True}

        async def test_allows(
            self, begin: Begin, join: Join, model: OfflineModel, root: Path, app: CCApiApp
        ) -> None:
            _, secret = await app.gateway.store.keys.create("owner", "phone")
            program = await join(await begin(), headers=bearer(secret))
            model.script(writes(root / "a.txt"), Reply("Done."))
            await program.send("user_message", content="Write!")
            asked = await program.until("permission_request")
            await program.send(
                "permission_response", request_id=asked["request_id"], behavior="allow"
            )
            await program.until("result")
            assert (root / "a.txt").exists()


class TestActivity:
    """Whoever ends idle servers is told of turns, and of nothing else."""

    async def test_an_open_socket_is_none_and_a_turn_is(
        self,
        begin: Begin,
        join: Join,
        jp_serverapp: ServerApp,
        app: CCApiApp,
        model: OfflineModel,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(sockets, "PING_EVERY", 0.02)
        id = await begin()
        last_activity: Callable[[], datetime] = jp_serverapp.web_app.last_activity
        last = last_activity()
        client = await join(id)
        for _ in range(3):
            await client.send("ping")
            await client.until("pong")
        client.connection.close()
        session = await app.gateway.sessions.get(OWNER, id)
        await eventually(lambda: not session.clients)
        assert last_activity() == last
        client = await join(id)
        model.script(Reply("One two.", word_delay=0.2))
        await client.send("user_message", content="Hi!")
        await client.until("stream_event")
        assert app.current_activity() == {"turns": 1}
        during = last_activity()
        assert during > last
        await client.until("result")
        assert last_activity() > during

    async def test_a_turn_that_waits_for_a_person_is_none(
        self, begin: Begin, join: Join, app: CCApiApp, model: OfflineModel, root: Path
    ) -> None:
        client = await join(await begin())
        model.script(writes(root / "a.txt"), Reply("Done."))
        await client.send("user_message", content="Write!")
        asked = await client.until("permission_request")
        assert app.current_activity() is None
        await client.send("permission_response", request_id=asked["request_id"], behavior="allow")
        await client.until("result")
