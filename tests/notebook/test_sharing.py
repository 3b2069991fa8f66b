"""A kernel's conversation on the notebook's server: watched, continued, approved and rewound by
clients there.
"""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from jupyter_ccapi.bridge.relay import Relay
from jupyter_ccapi.bridge.source import Refused
from jupyter_ccapi.demo import OfflineModel, Reply
from jupyter_ccapi.notebook.sharing import Sharing
from tests.bridge.relaying import INFO, Doing, serving
from tests.notebook.kernels import Kernel, environment
from tests.server.audience import Listener, writes
from tests.servers import TOKEN, Server, jupyter_server


@pytest.fixture
def server(model: OfflineModel, home: Path) -> Iterator[Server]:
    """The notebook's server."""
    (home / "project").mkdir(exist_ok=True)
    with jupyter_server(model, home) as running:
        yield running


_joined: list[Listener] = []


@pytest.fixture(autouse=True)
def leaving() -> Iterator[None]:
    """Clients leave when a test is over."""
    yield
    while _joined:
        _joined.pop().connection.close()


@pytest.fixture
def shared(server: Server, model: OfflineModel, home: Path, folder: Path) -> Iterator[Kernel]:
    """A kernel beside it, in a folder of its own."""
    runtime = {"JUPYTER_RUNTIME_DIR": str(home / "runtime")}
    running = Kernel({**environment(model, home), **runtime}, folder)
    assert running.run("%load_ext jupyter_ccapi").status == "ok"
    running.run("%config ClaudeMagics.approvals = 'widget'")
    yield running
    running.shut_down()


async def join(server: Server, id: str, query: str = "") -> Listener:
    """Connect to a session, as its owner does."""
    url = f"{server.url.replace('http', 'ws', 1)}ws/session/{id}{query}"
    request = HTTPRequest(url, headers={"Authorization": f"Bearer {TOKEN}"})
    _joined.append(Listener(await websocket_connect(request)))
    return _joined[-1]


def listed(server: Server) -> list[dict[str, Any]]:
    """The sessions of the server."""
    request = Request(f"{server.api}/sessions", headers={"Authorization": f"Bearer {TOKEN}"})
    with urlopen(request, timeout=30) as answer:
        found: list[dict[str, Any]] = json.load(answer)["sessions"]
    return found


async def test_clients_see_all_and_may_do_what_the_notebook_may(
    server: Server, shared: Kernel, model: OfflineModel, folder: Path
) -> None:
    """What was said before is there; an approval comes from either side; a client's prompt runs in
    the kernel; a rewind is one for both.
    """
    model.script(Reply("Hello Ann."))
    shared.run("%%claude\nI am Ann.")
    cell = shared.run("%%claude --share\n[[say Shared now.]]")
    (id,) = re.findall(r"Shared as session (session_\w+)", cell.text)
    (one,) = listed(server)
    assert (one["session_id"], one["source"], one["state"]) == (id, "kernel", "idle")
    assert one["cwd"] == str(folder)

    client = await join(server, id)
    await client.until("result")
    prompts = [event["content"] for event in client.of("user_message")]
    assert prompts == ["I am Ann.", "[[say Shared now.]]"]
    assert "Hello Ann." in json.dumps(client.of("assistant"))

    # A client answers for the cell.
    model.script(writes("a.txt", "A\n"), Reply("Written."))
    running = shared.start("%%claude\nWrite it.")
    request = await client.until("permission_request")
    assert "+A" in request["request"]["diff"]
    await client.send("permission_response", request_id=request["request_id"], behavior="allow")
    assert (await client.until("permission_resolved"))["by"] == client.id
    assert running.finish().status == "ok"
    assert "Written." in running.answer
    result = await client.until("result")
    assert (result["subtype"], result["checkpoint"]) == ("success", 3)
    assert (folder / "a.txt").read_text() == "A\n"

    # A client's prompt runs in the kernel.
    model.script(Reply(tools=[("mcp__client__run_python", {"code": "x = 41 + 1"})]), Reply("Set."))
    await client.send("user_message", content="Set x.")
    request = await client.until("permission_request")
    assert request["request"]["tool_name"] == "run_python"
    await client.send("permission_response", request_id=request["request_id"], behavior="allow")
    await client.until("result", subtype="success")
    assert shared.run("x").value == "42"

    # And what it rewinds is rewound for the notebook.
    await client.send("rewind", checkpoint=3, dry_run=True)
    preview = await client.until("rewind_preview")
    assert [file["path"] for file in preview["files"]] == ["a.txt"]
    assert (folder / "a.txt").exists()
    await client.send("rewind", checkpoint=3)
    await client.until("rewound", checkpoint=3)
    assert not (folder / "a.txt").exists()
    shared.run("from jupyter_ccapi import Claude")
    assert shared.run("len(Claude('default').checkpoints)").value == "2"
    shared.run("%%claude\n[[say On we go.]]")
    assert "Write it." not in json.dumps(model.main_requests[-1].messages)
    assert "I am Ann." in json.dumps(model.main_requests[-1].messages)

    shared.kill()
    await client.until("source_lost")
    assert [one["state"] for one in listed(server)] == ["source_lost"]


async def test_what_clients_set_the_next_cell_has_and_the_other_way_round(
    server: Server, shared: Kernel, model: OfflineModel, folder: Path
) -> None:
    """The model and the permission mode are the conversation's."""
    shared.run("from jupyter_ccapi import Claude\nshared = Claude('default').share()")
    client = await join(server, shared.run("shared.session_id").value.strip("'"))
    await client.until("session_init")
    await client.send("set_permission_mode", mode="acceptEdits")
    await client.until("status", permission_mode="acceptEdits")
    model.script(writes("b.txt", "B\n"), Reply("Written."))
    assert shared.run("%%claude\nWrite it.").status == "ok"
    assert (folder / "b.txt").exists()
    await client.until("result")

    shared.run("%%claude -m haiku\nHello.")
    await client.until("status", model="haiku")
    shared.run("shared.stop()")
    await client.until("source_lost")

    # Shared again, it is another session, which has all of it once.
    again = await join(server, shared.run("Claude('default').share().session_id").value.strip("'"))
    await again.until("assistant")
    assert [event["content"] for event in again.of("user_message")] == ["Write it."]


async def test_a_turn_that_is_not_shared_any_more_has_an_end_for_clients(
    server: Server, shared: Kernel, model: OfflineModel
) -> None:
    """The kernel's own goes on."""
    shared.run("from jupyter_ccapi import Claude\nshared = Claude('default').share()")
    id = shared.run("shared.session_id").value.strip("'")
    client = await join(server, id)
    await client.until("session_init")
    await client.send("user_message", content="[[hold]] [[words 30]]")
    await client.until("stream_event")
    assert shared.run("shared.stop()").status == "ok"
    result = await client.until("result")
    assert (result["subtype"], result["is_error"]) == ("error_during_execution", True)
    assert "not shared any more" in result["error"]
    lost = await client.until("source_lost")
    assert lost["reason"] == "it is not shared any more"
    await client.send("user_message", content="Hello?", id="late")
    assert "not shared any more" in (await client.until("error", in_reply_to="late"))["error"]
    model.release()
    cell = shared.run("%%claude\n[[say On we go.]]")
    assert "On we go." in cell.answer
    assert "[[hold]]" in json.dumps(model.main_requests[-1].messages)
    assert not client.events[client.events.index(lost) + 1 :]


async def test_a_kernel_that_is_shut_down_in_a_turn_says_so(server: Server, shared: Kernel) -> None:
    shared.run("from jupyter_ccapi import Claude\nshared = Claude('default').share()")
    client = await join(server, shared.run("shared.session_id").value.strip("'"))
    await client.until("session_init")
    await client.send("user_message", content="[[hold]] [[words 30]]")
    await client.until("stream_event")
    shared.shut_down()
    assert (await client.until("result"))["is_error"]
    assert (await client.until("source_lost"))["reason"] == "it is not shared any more"


async def test_a_server_that_refuses_it_later_is_told_of_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No cell waits for that."""

    class Still:
        def unwatch(self) -> None:
            """Nothing is told any more."""
            told.append("unwatched")

    told: list[str] = []
    connected = asyncio.Event()

    async def make(_: object) -> Doing:
        return Doing()

    async with serving() as there:
        relay = Relay(
            there.url,
            there.secret,
            make=make,
            info=lambda: INFO,
            notice=lambda state, why: connected.set(),
        )
        sharing = Sharing("session_1", relay, Still())  # type: ignore[arg-type]
        await sharing._connect(connected)
        there.fails = Refused("There is no session here that waits for you.")
        there.cut()
        running = sharing._running
        assert running is not None
        async with asyncio.timeout(30):
            await asyncio.wait([running])
        assert sharing.over
        assert told == ["unwatched"]
        assert running.exception() is None
        await sharing.stop()
    said = capsys.readouterr().err
    assert said.count("not shared any more, as session session_1: There is no session here") == 1


def test_it_is_not_shared_in_the_middle_of_a_turn(shared: Kernel, model: OfflineModel) -> None:
    """Its clients would see an end without a beginning."""
    model.script(Reply("Once upon a time", hold=threading.Event()))
    shared.run("from jupyter_ccapi import Claude\ntalk = Claude('default').stream('Hi.')")
    shared.run("await anext(talk)")
    cell = shared.run("Claude('default').share()")
    assert "A turn is running" in str(cell.error["evalue"])
    shared.run("await talk.aclose()")
    assert shared.run("Claude('default').share()").status == "ok"


def test_without_a_server_it_is_a_sentence(own_kernel: Kernel, tmp_path: Path) -> None:
    """Nothing is sent then."""
    own_kernel.run(f"import os; os.environ['JUPYTER_RUNTIME_DIR'] = {str(tmp_path / 'none')!r}")
    cell = own_kernel.run("%%claude --share\nHello.")
    assert cell.status == "error"
    assert "No Jupyter server" in cell.failure
