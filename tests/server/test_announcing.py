"""A server tells the kernels of its machine where to publish their conversations."""

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from jupyter_ccapi.bridge.runtime import NoServer, find_server
from jupyter_ccapi.demo import OfflineModel
from jupyter_ccapi.server.announcing import address_of, announce
from tests.claude.support import eventually
from tests.servers import make_environment, serving

HELLO = {
    "type": "hello",
    "version": 1,
    "kind": "kernel",
    "run": "0123456789abcdef",
    "info": {"cwd": "/data", "model": None, "permission_mode": "default", "name": "a.ipynb"},
}


async def test_what_a_server_leaves_lets_a_kernel_in_while_it_runs(
    model: OfflineModel, home: Path
) -> None:
    environment = make_environment(model, home)
    with serving(
        *("jupyter_ccapi", "--port", "0", "--CCApiApp.url_prefix=/claude"),
        environment=environment,
        home=home,
    ) as server:
        # A process that it has started knows it by its id.
        kernel = {"JPY_PARENT_PID": str(server.process.pid)}
        await eventually(lambda: list((home / "runtime").glob("ccapi-server-*.json")))
        address = find_server(kernel, home / "runtime")
        assert address.url == f"{server.url.replace('http', 'ws', 1)}claude/"
        (path,) = (home / "runtime").glob("ccapi-server-*.json")
        assert path.stat().st_mode & 0o077 == 0
        headers = {"Authorization": f"Bearer {address.secret}"}
        request = HTTPRequest(address.relay_url(f"session_{uuid4().hex}"), headers=headers)
        socket = await websocket_connect(request)
        await socket.write_message(json.dumps(HELLO))
        welcome = json.loads(str(await socket.read_message()))
        assert (welcome["type"], welcome["received"]) == ("welcome", 0)
        socket.close()
        assert address.secret not in server.output.read_text()
        server.process.send_signal(signal.SIGTERM)
        server.wait_ended()
        assert not path.exists()
    with pytest.raises(NoServer):
        find_server(kernel, home / "runtime")


def serverapp(**changes: Any) -> Any:
    """What is asked of a server."""
    given = {"sock": "", "ip": "localhost", "port": 8888, "base_url": "/", "certfile": ""}
    return SimpleNamespace(**{**given, "root_dir": "/data", **changes})


@pytest.mark.parametrize(
    ("changes", "prefix", "url"),
    [
        ({}, "", "ws://localhost:8888/"),
        ({"ip": "0.0.0.0"}, "", "ws://127.0.0.1:8888/"),
        ({"ip": ""}, "", "ws://127.0.0.1:8888/"),
        ({"ip": "::"}, "", "ws://[::1]:8888/"),
        ({"ip": "10.0.0.7", "base_url": "/user/ada/"}, "", "ws://10.0.0.7:8888/user/ada/"),
        ({"base_url": "/base/", "certfile": "c.pem"}, "/ccapi", "wss://localhost:8888/base/ccapi/"),
    ],
)
def test_the_address_is_one_that_this_machine_reaches(
    changes: dict[str, Any], prefix: str, url: str
) -> None:
    address = address_of(serverapp(**changes), prefix, "secret")
    assert address is not None
    assert (address.url, address.secret, address.pid) == (url, "secret", os.getpid())
    assert address.cafile == (changes.get("certfile") or None)


def test_a_server_on_a_unix_socket_has_none() -> None:
    assert address_of(serverapp(sock="/run/jupyter.sock"), "", "secret") is None


def test_where_it_cannot_be_left_the_server_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "file" / "runtime"))
    assert announce(serverapp(), "", "secret") is None
    assert "cannot share" in caplog.text
