"""Sessions over HTTP: what they run with, who has them, how they end."""

import asyncio
import json
import os
import re
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psutil
import pytest
from jupyter_server.serverapp import ServerApp
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application
from tornado.websocket import websocket_connect

from jupyter_ccapi.claude.timeline import Timeline
from jupyter_ccapi.config import data_folder
from jupyter_ccapi.demo import OfflineModel, Reply
from jupyter_ccapi.server.app import CCApiApp
from jupyter_ccapi.server.principal import OWNER, Principal
from jupyter_ccapi.store import StoredSession, StoreUnavailable
from tests.claude.support import conversation_sent
from tests.conftest import WARM
from tests.server import tool_server
from tests.server.audience import SESSIONS, Connect, Listener, refused, runs, writes
from tests.server.chats import Call
from tests.server.test_key_access import bearer
from tests.server.waiting import eventually
from tests.servers import REPOSITORY, TOKEN, Server, jupyter_server

Join = Callable[..., Awaitable[Listener]]


@pytest.fixture
def ccapi_config() -> dict[str, Any]:
    """A server whose owner allows more than nothing."""
    return {
        "agent_permission_modes": ["default", "plan", "acceptEdits"],
        "agent_allowed_tools": ["Bash(touch *)", "mcp__answers__answer"],
        "model_map": {"gpt-4o": "sonnet"},
    }


@pytest.fixture
def root(jp_serverapp: ServerApp) -> Path:
    """The server's own folder."""
    return Path(jp_serverapp.root_dir)


@pytest.fixture
def join(jp_ws_fetch: Connect) -> Iterator[Join]:
    """Joins a session as one more client; all leave at the end."""
    listeners = []

    async def join(id: str) -> Listener:
        listener = Listener(await jp_ws_fetch("ws", "session", id))
        listeners.append(listener)
        await listener.hear()
        return listener

    yield join
    for listener in listeners:
        listener.connection.close()


async def begin(call: Call, **fields: Any) -> dict[str, Any]:
    """A new session."""
    answer = await call(*SESSIONS, json=fields)
    assert answer.status == 201, answer.body
    body: dict[str, Any] = answer.body
    return body


async def described(call: Call, id: str) -> dict[str, Any]:
    """A session."""
    answer = await call(*SESSIONS, id)
    assert answer.status == 200, answer.body
    body: dict[str, Any] = answer.body
    return body


class TestANewOne:
    """What it is without any field, and where it is found."""

    async def test_works_in_the_servers_folder_and_asks(self, call: Call, root: Path) -> None:
        made = await begin(call)
        id = made["session_id"]
        assert made["object"] == "session"
        assert made["state"] in ("starting", "idle")
        assert (made["cwd"], made["permission_mode"]) == (str(root), "default")
        assert (made["source"], made["pinned"], made["clients"]) == ("local", False, 0)
        assert (made["turns"], made["cost_usd"], made["pending_permissions"]) == (0, 0.0, [])
        assert "relay" not in made
        assert await described(call, id) == made
        listed = (await call(*SESSIONS)).body
        assert listed == {"object": "list", "sessions": [made]}

    async def test_is_reached_by_its_address(
        self, call: Call, jp_auth_header: dict[str, str], jp_base_url: str
    ) -> None:
        made = await begin(call)
        assert urlsplit(made["ws_url"]).path == f"{jp_base_url}ws/session/{made['session_id']}"
        connection = await websocket_connect(HTTPRequest(made["ws_url"], headers=jp_auth_header))
        first = json.loads(str(await connection.read_message()))
        assert (first["type"], first["session_id"]) == ("session_init", made["session_id"])
        connection.close()

    async def test_counts_its_turns_and_what_they_cost(
        self, call: Call, join: Join, model: OfflineModel
    ) -> None:
        id = (await begin(call))["session_id"]
        client = await join(id)
        costs = [(await client.ask(text))["cost_usd"] for text in ("One", "Two")]
        found = await described(call, id)
        assert (found["turns"], found["clients"], found["state"]) == (2, 1, "idle")
        assert found["cost_usd"] == pytest.approx(sum(costs))

    class TestBehindAProxy:
        """One that ends TLS."""

        @pytest.fixture
        def jp_server_config(self, jp_server_config: dict[str, Any]) -> dict[str, Any]:
            jp_server_config["ServerApp"]["allow_remote_access"] = True
            return jp_server_config

        @pytest.fixture
        def ccapi_config(self) -> dict[str, Any]:
            return {"url_prefix": "/ccapi"}

        async def test_has_the_address_that_the_client_sees(
            self, app: CCApiApp, jp_web_app: Application, jp_auth_header: Any, jp_base_url: str
        ) -> None:
            """With ServerApp.trust_xheaders Jupyter's own HTTP server is made like this one."""
            listening, port = bind_unused_port()
            server = HTTPServer(jp_web_app, xheaders=True)
            server.add_socket(listening)
            proxied = {"Host": "lab.example", "X-Forwarded-Proto": "https"}
            answer = await AsyncHTTPClient().fetch(
                f"http://127.0.0.1:{port}{jp_base_url}ccapi/v1/sessions",
                method="POST",
                body='{"source": "relay"}',
                headers={**jp_auth_header, **proxied},
            )
            server.stop()
            made = json.loads(answer.body)
            place = f"wss://lab.example{jp_base_url}ccapi/ws"
            assert made["ws_url"] == f"{place}/session/{made['session_id']}"
            assert made["relay"]["url"] == f"{place}/cli/{made['session_id']}"


class TestEachField:
    """Takes effect."""

    async def test_model(self, call: Call, join: Join, model: OfflineModel) -> None:
        made = await begin(call, model="gpt-4o")
        assert made["model"] == "sonnet"
        await (await join(made["session_id"])).ask("Hi!")
        assert "sonnet" in model.main_requests[-1].body["model"]

    async def test_cwd(self, call: Call, join: Join, model: OfflineModel, root: Path) -> None:
        (root / "sub").mkdir()
        made = await begin(call, cwd="sub")
        assert made["cwd"] == str(root / "sub")
        model.script(runs("touch here"), Reply("Done."))
        client = await join(made["session_id"])
        await client.send("user_message", content="Go!")
        asked = await client.until("permission_request")
        await client.send("permission_response", request_id=asked["request_id"], behavior="allow")
        await client.until("result")
        assert (root / "sub" / "here").exists()

    async def test_permission_mode(
        self, call: Call, join: Join, model: OfflineModel, root: Path
    ) -> None:
        made = await begin(call, permission_mode="acceptEdits")
        assert made["permission_mode"] == "acceptEdits"
        model.script(writes(root / "a.txt"), Reply("Done."))
        client = await join(made["session_id"])
        await client.ask("Write!")
        assert client.of("permission_request") == []
        assert (root / "a.txt").exists()

    async def test_allowed_tools(
        self, call: Call, join: Join, model: OfflineModel, root: Path
    ) -> None:
        made = await begin(call, allowed_tools=["Bash(touch *)"])
        model.script(runs("touch a"), runs("mkdir b"), Reply("Done."))
        client = await join(made["session_id"])
        await client.send("user_message", content="Go!")
        asked = await client.until("permission_request")
        assert asked["request"]["input"]["command"] == "mkdir b"
        assert (root / "a").exists()
        await client.send("permission_response", request_id=asked["request_id"], behavior="deny")
        await client.until("result")

    async def test_system_prompt(self, call: Call, join: Join, model: OfflineModel) -> None:
        made = await begin(call, system_prompt="Always rhyme.")
        await (await join(made["session_id"])).ask("Hi!")
        assert model.main_requests[-1].system_text.endswith("Always rhyme.")

    async def test_mcp_servers(self, call: Call, join: Join, model: OfflineModel) -> None:
        server = {
            "command": sys.executable,
            "args": [str(tool_server.__file__)],
            "env": {"ANSWER": "It is 42."},
        }
        made = await begin(
            call, mcp_servers={"answers": server}, allowed_tools=["mcp__answers__answer"]
        )
        assert "It is" not in json.dumps(await described(call, made["session_id"]))
        model.script(Reply(tools=[("mcp__answers__answer", {})]), Reply("42."))
        await (await join(made["session_id"])).ask("What?")
        assert "It is 42." in model.main_requests[-1].tool_results[-1].text

    async def test_max_budget_usd(self, call: Call, join: Join, model: OfflineModel) -> None:
        made = await begin(call, max_budget_usd=0.5)
        model.script(*[Reply(tools=[("Bash", {"command": "ls"})], output_tokens=100_000)] * 4)
        client = await join(made["session_id"])
        assert (await client.ask("Go!"))["subtype"] == "error_max_budget_usd"
        asked = len(model.requests)
        more = await client.ask("More!")
        assert more["subtype"] == "error_max_budget_usd"
        assert "budget" in more["error"]
        assert len(model.requests) == asked

    async def test_pinned(self, call: Call) -> None:
        assert (await begin(call, pinned=True))["pinned"] is True

    async def test_null_is_as_left_out(self, call: Call, root: Path) -> None:
        fields = (
            *("model", "cwd", "permission_mode", "allowed_tools", "system_prompt"),
            *("mcp_servers", "max_budget_usd", "resume", "source", "pinned"),
        )
        made = await begin(call, **dict.fromkeys(fields))
        assert (made["cwd"], made["source"]) == (str(root), "local")

    async def test_source_relay(self, call: Call, jp_base_url: str) -> None:
        made = await begin(call, source="relay", pinned=True)
        assert (made["source"], made["state"], made["pinned"]) == ("relay", "starting", True)
        relay = made["relay"]
        assert urlsplit(relay["url"]).path == f"{jp_base_url}ws/cli/{made['session_id']}"
        assert urlsplit(relay["url"]).scheme == "ws"
        assert len(relay["secret"]) > 30
        assert relay["command"] == f"jupyter ccapi relay --url {relay['url']}"
        assert relay["secret"] not in json.dumps(await described(call, made["session_id"]))


class TestRefused:
    """What is wrong, or more than the server's options allow, is a 400 that names the field."""

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"modell": "opus"}, "modell"),
            # Of the other routes.
            ({"store": False}, "store"),
            ({"ccapi": {}}, "ccapi"),
            ({"model": 1}, "model"),
            ({"model": "gpt-7"}, "model"),
            ({"model": "--flag"}, "model"),
            ({"cwd": "none"}, "cwd"),
            ({"cwd": "/etc"}, "cwd"),
            ({"cwd": ".."}, "cwd"),
            ({"permission_mode": "yolo"}, "permission_mode"),
            ({"permission_mode": "bypassPermissions"}, "permission_mode"),
            ({"allowed_tools": "Bash"}, "allowed_tools"),
            ({"allowed_tools": ["Bash"]}, "allowed_tools"),
            ({"system_prompt": ["Rhyme."]}, "system_prompt"),
            ({"max_budget_usd": 0}, "max_budget_usd"),
            ({"max_budget_usd": True}, "max_budget_usd"),
            ({"source": "kernel"}, "source"),
            ({"pinned": "yes"}, "pinned"),
            ({"resume": "none"}, "resume"),
            ({"resume": str(uuid4())}, "resume"),
            ({"mcp_servers": []}, "mcp_servers"),
            ({"mcp_servers": {"a b": {"command": "x"}}}, "mcp_servers"),
            ({"mcp_servers": {"client": {"command": "x"}}}, "mcp_servers"),
            ({"mcp_servers": {"a": {}}}, "mcp_servers.a.command"),
            ({"mcp_servers": {"a": {"type": "http"}}}, "mcp_servers.a.url"),
            ({"mcp_servers": {"a": {"type": "sdk"}}}, "mcp_servers.a.type"),
            ({"mcp_servers": {"a": {"command": "x", "cwd": "/"}}}, "mcp_servers.a.cwd"),
            ({"mcp_servers": {"a": {"command": "x", "url": "y"}}}, "mcp_servers.a.url"),
            ({"mcp_servers": {"a": {"command": "x", "env": {"N": 1}}}}, "mcp_servers.a.env.N"),
            ({"mcp_servers": {"a": {"command": "x\0"}}}, "mcp_servers.a.command"),
            ({"mcp_servers": {"a": {"command": "x", "args": ["y", "\0"]}}}, "mcp_servers.a.args.1"),
            ({"mcp_servers": {"a": {"command": "x", "env": {"\0": ""}}}}, "mcp_servers.a.env"),
            ({"system_prompt": "half a pair: \ud83d"}, "system_prompt"),
            ({"source": "relay", "model": "opus"}, "model"),
            ({"source": "relay", "cwd": "."}, "cwd"),
            ({"source": "relay", "mcp_servers": {}}, "mcp_servers"),
        ],
    )
    async def test_field(self, call: Call, fields: dict[str, Any], param: str) -> None:
        answer = await call(*SESSIONS, json=fields)
        assert (answer.status, answer.body["error"]["param"]) == (400, param), answer.body
        assert (await call(*SESSIONS)).body["sessions"] == []

    async def test_body(self, call: Call) -> None:
        for body in ("[]", "{", "1"):
            assert (await call(*SESSIONS, method="POST", body=body)).status == 400

    async def test_a_budget_without_end(self, call: Call) -> None:
        for number in ("1e999", "1" * 400):
            body = f'{{"max_budget_usd": {number}}}'
            answer = await call(*SESSIONS, method="POST", body=body)
            assert answer.status == 400
            assert "too large" in answer.body["error"]["message"]
        assert (await call(*SESSIONS)).body["sessions"] == []

    class TestWithoutAgents:
        """A server for chats alone."""

        @pytest.fixture
        def ccapi_config(self) -> dict[str, Any]:
            return {"agent_mode": False}

        async def test_all_sessions(self, call: Call) -> None:
            for fields in ({}, {"source": "relay"}):
                answer = await call(*SESSIONS, json=fields)
                assert answer.status == 403
                assert "agent_mode" in answer.body["error"]["message"]

    class TestWithABound:
        """A server whose owner bounds costs and numbers."""

        @pytest.fixture
        def ccapi_config(self) -> dict[str, Any]:
            return {"agent_max_budget_usd": 1.0, "max_sessions": 2}

        async def test_more_money(self, call: Call) -> None:
            answer = await call(*SESSIONS, json={"max_budget_usd": 2})
            assert (answer.status, answer.body["error"]["param"]) == (400, "max_budget_usd")

        async def test_one_too_many(self, call: Call) -> None:
            first = await begin(call, max_budget_usd=1)
            await begin(call, source="relay")
            answer = await call(*SESSIONS, json={})
            assert (answer.status, answer.body["error"]["code"]) == (429, "too_many_sessions")
            await call(*SESSIONS, first["session_id"], method="DELETE")
            await begin(call)


class TestAnOwner:
    """Nobody sees another one's sessions."""

    async def test_is_the_only_one_to_see_and_end_them(
        self, call: Call, jp_serverapp: ServerApp, join: Join
    ) -> None:
        settings = jp_serverapp.web_app.settings
        mine, identify = await begin(call), settings["ccapi_identify"]
        id = mine["session_id"]
        settings["ccapi_identify"] = lambda handler: Principal("hub:ann", "ann")
        for options in ({}, {"method": "DELETE"}):
            answer = await call(*SESSIONS, id, **options)
            assert (answer.status, answer.body["error"]["code"]) == (404, "session_not_found")
        assert (await call(*SESSIONS)).body["sessions"] == []
        answer = await call(*SESSIONS, json={"resume": id})
        assert (answer.status, answer.body["error"]["param"]) == (400, "resume")
        settings["ccapi_identify"] = identify
        assert [one["session_id"] for one in (await call(*SESSIONS)).body["sessions"]] == [id]

    async def test_gives_a_key_no_programs_to_run_and_none_of_its_own_conversations(
        self, call: Call, app: CCApiApp, root: Path, home: Path, join: Join
    ) -> None:
        _, secret = await app.gateway.store.keys.create("owner", "laptop")
        key = bearer(secret)
        servers = {"a": {"command": "x"}}
        answer = await call(*SESSIONS, headers=key, json={"mcp_servers": servers})
        assert (answer.status, answer.body["error"]["param"]) == (400, "mcp_servers")
        session = _kept_by_claude(home, root)
        answer = await call(*SESSIONS, headers=key, json={"resume": session})
        assert (answer.status, answer.body["error"]["param"]) == (400, "resume")
        made = await call(*SESSIONS, headers=key, json={})
        assert made.status == 201
        assert (await call(*SESSIONS, made.body["session_id"])).status == 200

    @pytest.mark.parametrize("limit", [{"models": ["haiku"]}, {"budget_usd": 1.0}])
    async def test_has_its_sessions_ended_by_no_key_that_may_only_watch(
        self, call: Call, app: CCApiApp, limit: dict[str, Any]
    ) -> None:
        id = (await begin(call))["session_id"]
        _, secret = await app.gateway.store.keys.create("owner", "laptop", **limit)
        answer = await call(*SESSIONS, id, method="DELETE", headers=bearer(secret))
        assert (answer.status, answer.body["error"]["code"]) == (403, "not_allowed")
        assert "laptop" in answer.body["error"]["message"]
        assert (await call(*SESSIONS, id, headers=bearer(secret))).status == 200
        _, unlimited = await app.gateway.store.keys.create("owner", "desktop")
        answer = await call(*SESSIONS, id, method="DELETE", headers=bearer(unlimited))
        assert answer.status == 200


class TestAnId:
    """In an address."""

    @pytest.mark.parametrize(
        "id", ["none", "session_1", f"session_{'A' * 32}", f"session_{'0' * 33}", "0" * 32, ".."]
    )
    async def test_that_none_is_like_is_not_looked_for(
        self, call: Call, app: CCApiApp, monkeypatch: pytest.MonkeyPatch, id: str
    ) -> None:
        async def get(id: str) -> None:
            raise AssertionError("the store was asked")

        await begin(call)
        monkeypatch.setattr(app.gateway.store.sessions, "get", get)
        answer = await call(*SESSIONS, json={"resume": id})
        assert (answer.status, answer.body["error"]["param"]) == (400, "resume")
        if id != "..":
            for options in ({}, {"method": "DELETE"}):
                answer = await call(*SESSIONS, id, **options)
                assert (answer.status, answer.body["error"]["code"]) == (404, "session_not_found")

    async def test_that_none_is_like_is_no_kernels_to_bring(
        self, call: Call, app: CCApiApp, jp_ws_fetch: Connect
    ) -> None:
        secret = app.gateway.kernel_secret
        kernel = await jp_ws_fetch("ws", "cli", "none", headers=bearer(secret))
        hello = {"type": "hello", "version": 1, "kind": "kernel", "run": "r" * 20, "info": {}}
        await kernel.write_message(json.dumps(hello))
        said = json.loads(str(await kernel.read_message()))
        assert said == {"type": "refused", "error": "There is no session 'none'."}
        assert await Listener(kernel).gone() == 4403
        assert (await call(*SESSIONS)).body["sessions"] == []


async def test_a_store_that_is_down_is_a_503_and_no_traceback(
    call: Call,
    app: CCApiApp,
    jp_ws_fetch: Connect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(*given: Any, **more: Any) -> None:
        raise StoreUnavailable("The disk is full.")

    mine = (await begin(call))["session_id"]
    with monkeypatch.context() as down:
        for name in ("get", "list", "put", "delete"):
            down.setattr(app.gateway.store.sessions, name, broken)
        unknown = f"session_{uuid4().hex}"
        for path, options in (
            ((), {}),
            ((), {"json": {}}),
            ((), {"json": {"source": "relay"}}),
            ((), {"json": {"resume": mine}}),
            ((unknown,), {}),
            ((unknown,), {"method": "DELETE"}),
            ((mine,), {"method": "DELETE"}),
        ):
            answer = await call(*SESSIONS, *path, **options)
            error = answer.body["error"]
            assert (answer.status, error["code"]) == (503, "store_unavailable"), (path, options)
            assert error["message"] == "The disk is full."
        status, error = await refused(jp_ws_fetch("ws", "session", unknown))
        assert (status, error["code"]) == (503, "store_unavailable")
    assert [record for record in caplog.records if record.exc_info] == []
    listed = (await call(*SESSIONS)).body["sessions"]
    assert [one["session_id"] for one in listed] == [mine]
    assert (await call(*SESSIONS, mine, method="DELETE")).status == 200


class TestTheEnd:
    """Of a session."""

    async def test_by_delete_takes_its_process_and_all_that_was_kept_of_it(
        self, call: Call, join: Join, app: CCApiApp, model: OfflineModel
    ) -> None:
        id = (await begin(call))["session_id"]
        client = await join(id)
        await client.ask("Hi!")
        held = _holding(app)
        timeline = data_folder() / "timelines" / "sessions" / f"{id}.json"
        # Without warm processes there is none between two turns.
        assert bool(held) == WARM
        assert timeline.exists()
        answer = await call(*SESSIONS, id, method="DELETE")
        assert answer.body == {"object": "session.deleted", "deleted": True, "session_id": id}
        _, alive = psutil.wait_procs(held, timeout=1)
        assert alive == []
        assert await client.gone() == 4410
        assert not timeline.exists()
        assert (await call(*SESSIONS, id)).status == 404
        assert (await call(*SESSIONS, id, method="DELETE")).status == 404
        assert (await call(*SESSIONS)).body["sessions"] == []

    async def test_by_delete_comes_in_the_middle_of_a_turn(
        self, call: Call, join: Join, app: CCApiApp, model: OfflineModel
    ) -> None:
        id = (await begin(call))["session_id"]
        client = await join(id)
        model.script(Reply("One two three.", word_delay=30))
        await client.send("user_message", content="Count!")
        await client.until("stream_event")
        held = _holding(app)
        assert held
        assert (await call(*SESSIONS, id, method="DELETE")).status == 200
        _, alive = psutil.wait_procs(held, timeout=1)
        assert alive == []

    async def test_by_delete_waits_for_no_tool(
        self, call: Call, join: Join, app: CCApiApp, model: OfflineModel
    ) -> None:
        """That does not want to end."""
        id = (await begin(call, permission_mode="default"))["session_id"]
        client = await join(id)
        model.script(runs("trap '' INT TERM HUP; touch began; sleep 60 & wait; sleep 60"))
        await client.send("user_message", content="Go on and on.")
        request = await client.until("permission_request")
        answer = {"request_id": request["request_id"], "behavior": "allow"}
        await client.send("permission_response", **answer)
        began = Path(app.serverapp.root_dir) / "began"  # type: ignore[union-attr]
        await eventually(began.exists, seconds=30)
        held = _holding(app)
        tools = [tool for one in held for tool in one.children(recursive=True)]
        assert tools
        assert (await call(*SESSIONS, id, method="DELETE")).status == 200
        _, alive = psutil.wait_procs(held, timeout=1)
        assert alive == []
        assert (await client.until("result"))["subtype"] == "interrupted"
        _, alive = psutil.wait_procs(tools, timeout=20)
        assert alive == []

    async def test_by_time_takes_what_was_closed_long_ago(self, app: CCApiApp, root: Path) -> None:
        folder = data_folder() / "timelines" / "sessions"
        sessions = app.gateway.store.sessions
        for id, closed in (("old", True), ("open", False)):
            about = {"model": None, "cwd": str(root), "permission_mode": "default"}
            settings = {"place": "local", "about": about, "wish": {"cwd": str(root)}}
            await sessions.put(StoredSession(id, "owner", 0.0, 0.0, settings, 0, closed))
            timeline = await Timeline.open(folder, id, workspace=root, store=folder / "snapshots")
            await timeline.save()
            await timeline.close()
            os.utime(folder / f"{id}.json", (0, 0))
        await app.gateway.sessions.expire()
        assert await sessions.get("old") is None
        assert await sessions.get("open") is not None
        assert not (folder / "old.json").exists()
        assert (folder / "open.json").exists()

    class TestForIdleness:
        """A session that nobody needs."""

        @pytest.fixture
        def ccapi_config(self) -> dict[str, Any]:
            return {"session_idle_timeout": 0.2}

        async def test_takes_its_process_and_leaves_the_conversation(
            self, call: Call, join: Join, app: CCApiApp, model: OfflineModel
        ) -> None:
            pinned = await begin(call, pinned=True)
            watched = await begin(call)
            watching = await join(watched["session_id"])
            id = (await begin(call))["session_id"]
            client = await join(id)
            model.script(Reply("Noted."))
            await client.ask("It is 42.")
            client.connection.close()
            session = await app.gateway.sessions.get(OWNER, id)
            await eventually(lambda: session.closed)
            assert (await described(call, id))["state"] == "closed"
            listed = [one["session_id"] for one in (await call(*SESSIONS)).body["sessions"]]
            assert listed == [pinned["session_id"], watched["session_id"]]

            model.script(Reply("42."))
            again = await begin(call, resume=id)
            assert again["session_id"] == id
            assert (await (await join(id)).ask("What was it?"))["result"] == "42."
            texts = [text for _, text in conversation_sent(model.main_requests[-1])]
            assert texts == ["It is 42.", "Noted.", "What was it?"]
            await watching.send("ping")
            await watching.until("pong")


class TestResume:
    """Going on with what was there before."""

    async def test_of_an_open_session_has_the_new_settings_over_the_old(
        self, call: Call, join: Join, model: OfflineModel, root: Path
    ) -> None:
        made = await begin(call, model="haiku", system_prompt="Always rhyme.")
        id = made["session_id"]
        client = await join(id)
        model.script(Reply("Noted."))
        await client.ask("It is 42.")
        again = await begin(call, resume=id, permission_mode="acceptEdits", pinned=True)
        assert again["session_id"] == id
        assert (again["permission_mode"], again["pinned"]) == ("acceptEdits", True)
        assert again["model"] == made["model"]
        model.script(writes(root / "a.txt"), Reply("42."))
        await client.ask("What was it?")
        request = model.main_requests[-1]
        assert (root / "a.txt").exists()
        assert "Always rhyme." in request.system_text
        assert "haiku" in request.body["model"]
        assert ("user", "It is 42.") in conversation_sent(request)

    async def test_waits_for_the_end_of_a_turn(
        self, call: Call, join: Join, model: OfflineModel
    ) -> None:
        id = (await begin(call))["session_id"]
        client = await join(id)
        hold = threading.Event()
        model.script(Reply("One two three.", hold=hold))
        await client.send("user_message", content="Count!")
        await client.until("user_message")
        answer = await call(*SESSIONS, json={"resume": id})
        hold.set()
        assert (answer.status, answer.body["error"]["code"]) == (409, "session_busy")
        assert (await client.until("result"))["result"] == "One two three."
        assert (await begin(call, resume=id))["session_id"] == id

    async def test_stays_in_its_folder_and_at_its_source(self, call: Call, root: Path) -> None:
        (root / "sub").mkdir()
        id = (await begin(call))["session_id"]
        remote = (await begin(call, source="relay"))["session_id"]
        for fields, param in (
            ({"resume": id, "cwd": "sub"}, "cwd"),
            ({"resume": id, "source": "relay"}, "source"),
            ({"resume": remote, "source": "local"}, "source"),
            ({"resume": remote, "model": "opus"}, "model"),
        ):
            answer = await call(*SESSIONS, json=fields)
            assert (answer.status, answer.body["error"]["param"]) == (400, param)
        again = await begin(call, resume=remote)
        assert (again["session_id"], again["source"]) == (remote, "relay")
        assert again["relay"]["secret"]

    async def test_of_a_session_of_claude_codes_own(
        self, call: Call, join: Join, model: OfflineModel, root: Path, home: Path
    ) -> None:
        session = _kept_by_claude(home, root)
        id = (await begin(call, resume=session))["session_id"]
        assert id != session
        model.script(Reply("42."))
        client = await join(id)
        await client.ask("What was it?")
        prompts = [event["content"] for event in client.of("user_message")]
        assert prompts == ["It is 42.", "What was it?"]
        stats = (await call("stats")).body
        assert stats["sessions"] == {"turns": 1}
        assert stats["cost_usd"] > 0
        texts = [text for _, text in conversation_sent(model.main_requests[-1])]
        assert texts == ["It is 42.", "Noted.", "What was it?"]
        (root / "sub").mkdir()
        answer = await call(*SESSIONS, json={"resume": session, "cwd": "sub"})
        assert (answer.status, answer.body["error"]["param"]) == (400, "resume")


async def test_a_session_goes_on_after_a_restart_of_the_server(
    model: OfflineModel, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a server of its own, and then in another one on the same folder."""
    model.script(Reply("Noted."), Reply("42."))
    with jupyter_server(model, home) as server:
        made = await _asked(server, "POST", "v1/sessions", {"model": "haiku"})
        id = made["session_id"]
        client = await _joined(server, id)
        await client.ask("It is 42.")
        await client.send("set_model", model="opus")
        await client.until("status", model="opus")
        before = client.events
    assert await client.gone() == 1001
    with jupyter_server(model, home) as server:
        listed = (await _asked(server, "GET", "v1/sessions"))["sessions"]
        assert [(one["session_id"], one["state"]) for one in listed] == [(id, "idle")]
        assert (listed[0]["turns"], listed[0]["model"]) == (1, "opus")
        assert server.clis() == []
        client = await _joined(server, id)
        assert (await client.ask("What was it?"))["result"] == "42."
        assert client.events[: len(before)] == before
        request = model.main_requests[-1]
        texts = [text for _, text in conversation_sent(request)]
        assert texts == ["It is 42.", "Noted.", "What was it?"]
        assert "opus" in request.body["model"]
        assert (await _asked(server, "GET", f"v1/sessions/{id}"))["turns"] == 2
        await client.leave()


async def test_the_program_of_the_readme(
    model: OfflineModel, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the client that it names."""
    readme = (REPOSITORY / "README.md").read_text()
    (program,) = re.findall(r"```python\n(import json\n\nfrom websocket .*?)```", readme, re.DOTALL)
    with jupyter_server(model, home) as server:
        made = await _asked(server, "POST", "v1/sessions", {})
        model.script(writes(home / "project" / "a.txt", "A"), Reply("Mended."))
        names = {"ws_url": made["ws_url"], "TOKEN": TOKEN, "input": lambda asked: "allow"}
        await asyncio.to_thread(exec, program, names)
        names["socket"].close()
    assert "Claude wants to write a.txt." in (printed := capsys.readouterr().out)
    assert "+A" in printed
    assert "Mended." in printed
    assert (home / "project" / "a.txt").read_text() == "A"


async def test_a_session_gets_no_more_than_a_restarted_server_allows(
    model: OfflineModel, home: Path
) -> None:
    allowed = "--CCApiApp.agent_permission_modes={}".format
    with jupyter_server(model, home, allowed("acceptEdits")) as server:
        wish = {"permission_mode": "acceptEdits"}
        id = (await _asked(server, "POST", "v1/sessions", wish))["session_id"]
    with jupyter_server(model, home, allowed("default")) as server:
        client = await _joined(server, id)
        await client.send("user_message", content="Hi!")
        assert "agent_permission_modes" in (await client.until("error"))["error"]
        assert model.requests == []
        again = await _asked(
            server, "POST", "v1/sessions", {"resume": id, "permission_mode": "default"}
        )
        assert again["permission_mode"] == "default"
        assert not (await client.ask("Hi!"))["is_error"]
        await client.leave()


def _kept_by_claude(home: Path, folder: Path) -> str:
    """A session that Claude Code has kept of a folder: its id."""
    from jupyter_ccapi.claude import Message
    from jupyter_ccapi.claude.transcripts import transcript_path, write_transcript

    id = str(uuid4())
    path = transcript_path(id, cwd=folder, environment={"CLAUDE_CONFIG_DIR": str(home / ".claude")})
    said = [Message("user", "It is 42."), Message("assistant", "Noted.")]
    write_transcript(path, said, cwd=folder)
    return id


def _holding(app: CCApiApp) -> list[psutil.Process]:
    """The processes that are not spares."""
    slots = [slot for slot in app.gateway.pool.slots if slot.state in ("busy", "idle")]
    return [psutil.Process(slot.process.pid) for slot in slots if slot.process and slot.process.pid]


async def _asked(server: Server, method: str, path: str, fields: Any = None) -> Any:
    answer = await AsyncHTTPClient().fetch(
        f"{server.url}{path}",
        method=method,
        headers=bearer(TOKEN),
        body=None if fields is None else json.dumps(fields),
        raise_error=False,
    )
    assert answer.code < 300, answer.body
    return json.loads(answer.body)


async def _joined(server: Server, id: str) -> Listener:
    url = f"{server.url.replace('http', 'ws', 1)}ws/session/{id}"
    listener = Listener(await websocket_connect(HTTPRequest(url, headers=bearer(TOKEN))))
    await listener.hear()
    return listener
