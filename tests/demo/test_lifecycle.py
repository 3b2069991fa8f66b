"""The offline model starts, stops, and runs as a program of its own."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import psutil
import pytest

from jupyter_ccapi.demo import OfflineModel, Reply
from tests.demo.http_client import MESSAGES, Client, asked


def test_it_listens_on_loopback_alone(model: OfflineModel) -> None:
    port = int(model.url.removeprefix("http://127.0.0.1:"))
    listening = [c for c in psutil.Process().net_connections() if c.status == psutil.CONN_LISTEN]
    assert [c.laddr.ip for c in listening if c.laddr.port == port] == ["127.0.0.1"]


def test_it_has_no_url_before_it_starts() -> None:
    with pytest.raises(RuntimeError, match="start"):
        _ = OfflineModel().url


def test_it_does_not_start_twice(model: OfflineModel) -> None:
    with pytest.raises(RuntimeError, match="already"):
        model.start()


def test_stopping_ends_held_streams_and_the_thread_and_keeps_the_log() -> None:
    before = threading.active_count()
    model = OfflineModel().start()
    http = Client(model.url)
    model.script(Reply("One two three.", hold=threading.Event()))
    connection = http.open("POST", MESSAGES, asked("Go", stream=True))
    model.wait_for(lambda request: request.held)
    model.stop()
    model.stop()
    with connection.getresponse() as response, pytest.raises((HTTPException, OSError)):
        response.read()
    http.close()
    assert threading.active_count() == before
    assert model.requests[0].closed_early
    with pytest.raises(OSError, match="refused"):
        Client(model.url).open("GET", "/")


def test_it_starts_again_after_a_stop() -> None:
    model = OfflineModel()
    for _ in range(2):
        with model:
            http = Client(model.url)
            assert http.call("GET", "/")[0] == 200
            http.close()


def test_a_taken_port_is_an_error_and_not_a_hang(model: OfflineModel) -> None:
    with pytest.raises(OSError, match="in use"):
        OfflineModel(port=int(model.url.rsplit(":")[-1])).start()


@contextmanager
def program(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the module as a program."""
    with subprocess.Popen(
        [sys.executable, "-m", "jupyter_ccapi.demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_it_runs_as_a_program_until_it_is_told_to_end() -> None:
    with program("--word-delay", "0.001") as process:
        assert process.stdout is not None
        http = Client(process.stdout.readline().strip())
        text = http.message(asked("[[say From elsewhere.]]"))["content"][0]["text"]
        assert text == "From elsewhere."
        assert http.call("GET", "/log")[1][0]["user_text"] == "[[say From elsewhere.]]"
        http.close()
        process.terminate()
        rest, errors = process.communicate(timeout=10)
        assert (process.returncode, rest, errors) == (0, "", "")


def test_as_a_program_it_says_when_its_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with program("--port", port) as process:
            output, errors = process.communicate(timeout=10)
    assert process.returncode == 1
    assert output == ""
    assert f"cannot listen on port {port}" in errors
    assert "Traceback" not in errors


def test_importing_it_does_not_import_tornado() -> None:
    code = "import sys, jupyter_ccapi.demo; sys.exit('tornado' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
