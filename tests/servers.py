"""Real server processes, as a user starts them, over the real CLI and the offline model."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from jupyter_ccapi.demo import OfflineModel
from tests import probed
from tests.conftest import WARM

REPOSITORY = Path(__file__).parents[1]
TOKEN = "a-token"


@dataclass
class Server:
    """A running server: its root URL (with a slash at the end) and its process."""

    url: str
    process: subprocess.Popen[str]
    output: Path

    @property
    def api(self) -> str:
        """What an OpenAI client calls base_url."""
        return f"{self.url}v1"

    def wait_ended(self, seconds: float = 30) -> None:
        """Wait until the server has ended; if it does not, say what it was doing."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            # With PYTHONFAULTHANDLER it then says where all of its threads are.
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(10)
            raise AssertionError(f"the server did not end:\n{self.output.read_text()}") from None

    def clis(self) -> list[psutil.Process]:
        """The Claude Code processes below the server."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.Error):  # it may be about to end
                if "--output-format" in child.cmdline():
                    found.append(child)
        return found


def make_environment(model: OfflineModel, home: Path) -> dict[str, str]:
    """A user's environment whose Claude is the offline model and whose Jupyter is its own."""
    return {
        **os.environ,
        **model.environment(home),
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONFAULTHANDLER": "1",
        "JUPYTER_TOKEN": TOKEN,
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "IPYTHONDIR": str(home / "ipython"),
    }


@contextmanager
def serving(*arguments: str, environment: Mapping[str, str], home: Path) -> Iterator[Server]:
    """Start ``python -m`` with these arguments and wait until the server listens."""
    probed.put_into(home / "data")
    root = ["--allow-root"] if os.geteuid() == 0 else []
    output = home / "server.log"
    with output.open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", *arguments, "--ServerApp.open_browser=False"),
                *(f"--CCApiApp.warm={WARM}", *root),
            ],
            env=dict(environment),
            cwd=home / "project",
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell that has started the tests in the background has them ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        yield Server(
            _url(process, Path(environment["JUPYTER_RUNTIME_DIR"]), output), process, output
        )
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            process.kill()


def jupyter_server(model: OfflineModel, home: Path, *more: str) -> AbstractContextManager[Server]:
    """A plain Jupyter server with the extension, on a free port."""
    return serving(
        "jupyter_server",
        "--ServerApp.jpserver_extensions={'jupyter_ccapi': True}",
        "--ServerApp.port=0",
        *more,
        environment=make_environment(model, home),
        home=home,
    )


def _url(process: "subprocess.Popen[str]", runtime: Path, output: Path) -> str:
    """The server writes its address down shortly before it listens."""
    info = runtime / f"jpserver-{process.pid}.json"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if info.is_file() and (text := info.read_text()):
            known = json.loads(text)
            with suppress(OSError), socket.create_connection(("127.0.0.1", known["port"])):
                url: str = known["url"].replace("localhost", "127.0.0.1")
                return url
        time.sleep(0.02)
    raise AssertionError(f"the server did not start:\n{output.read_text()}")


def gone(processes: list[psutil.Process], *, seconds: float = 10) -> bool:
    """Whether all of them end within the time."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not alive
