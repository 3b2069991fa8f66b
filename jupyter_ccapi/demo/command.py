"""``jupyter ccapi demo``: the whole thing on this machine, with an offline model and no account.

The server, its extension and the Claude Code CLI are the real ones; only the model is not. It
runs in an environment of its own: another home, another configuration, and nothing of the user's
that could be a credential.
"""

import json
import os
import secrets
import shutil
import site
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

from jupyter_core.application import JupyterApp
from jupyter_core.paths import jupyter_path
from traitlets import Bool, Int
from traitlets.utils.importstring import import_item

from .._version import __version__
from .server import OfflineModel

_FIRST_NOTEBOOK = "01_first_steps.ipynb"
_QUESTION = "Hello! Who are you?"
# What a process needs to run at all. Everything else stays behind: what is not known to be
# harmless may be a credential.
_KEPT = {
    *("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX"),
    *("LANG", "LANGUAGE", "TZ", "TERM", "COLUMNS", "SHELL", "USER", "LOGNAME"),
    *("TMPDIR", "TEMP", "TMP", "XDG_RUNTIME_DIR", "JUPYTER_PATH", "SSL_CERT_FILE"),
    *("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "SYSTEMROOT", "COMSPEC", "PATHEXT"),
}


class DemoApp(JupyterApp):
    """Try everything offline: a server, the real Claude Code CLI, and a small model that stands
    in for Claude.
    """

    name = "jupyter-ccapi-demo"
    version = __version__
    description = """Start an offline model, the real Claude Code CLI and a Jupyter server, ask one
    question through the OpenAI route, and keep serving until Ctrl-C. No account is needed, nothing
    leaves this machine, and no credential of yours is used."""
    examples = """
    jupyter ccapi demo            # serve until Ctrl-C; opens JupyterLab where it is installed
    jupyter ccapi demo --once     # ask the question, show how to go on, and end
    """

    once = Bool(False, help="End after the question, with exit code 0 if it was answered.").tag(
        config=True
    )
    port = Int(8888, help="The port of the Jupyter server; the next free one if it is taken.").tag(
        config=True
    )

    flags = {"once": ({"DemoApp": {"once": True}}, "End after the question.")}
    aliases = {"port": "DemoApp.port"}
    classes = []

    def start(self) -> None:
        """Run until Ctrl-C, or until the question is answered."""
        super().start()
        with (
            TemporaryDirectory(prefix="ccapi-demo-", ignore_cleanup_errors=True) as folder,
            OfflineModel(word_delay=0.03) as model,
        ):
            environment = make_environment(Path(folder), model)
            os.environ.clear()
            os.environ.update(environment)
            guide = Guide(environment, once=self.once)
            guide.start()
            # This app stands where the server's app must: traitlets allows one at a time.
            self.clear_instance()
            serve(Path(folder), port=self.port, open_browser=not self.once)
            guide.join(timeout=10)
        self.exit(0 if guide.answered else 1)


def make_environment(folder: Path, model: OfflineModel) -> dict[str, str]:
    """An environment that leads to the offline model and to nothing of the user's."""
    home = folder / "home"
    work = folder / "notebooks"
    work.mkdir(parents=True)
    home.mkdir()
    for notebook in _manual().glob("*.ipynb"):
        shutil.copy(notebook, work)
    kept = {k: v for k, v in os.environ.items() if k in _KEPT or k.startswith("LC_")}
    return {
        **kept,
        **model.environment(home),
        # Packages that were installed with `pip install --user` are still found from another home.
        "PYTHONUSERBASE": site.getuserbase(),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home / "jupyter"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_TOKEN": secrets.token_hex(16),
    }


def serve(folder: Path, *, port: int, open_browser: bool) -> None:
    """Run JupyterLab, or a plain Jupyter server where there is no Lab, until it is stopped."""
    arguments = [
        f"--ServerApp.root_dir={folder / 'notebooks'}",
        f"--ServerApp.port={port}",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.answer_yes=True",
        "--ServerApp.log_level=WARN",
        "--ExtensionApp.log_level=WARN",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")
    if find_spec("jupyterlab"):
        app = import_item("jupyterlab.labapp.LabApp")
        settings = folder / "settings"
        settings.mkdir()
        # Lab need not go out to look for news.
        quiet = {"fetchNews": "false", "checkForUpdates": False}
        overrides = {"@jupyterlab/apputils-extension:notification": quiet}
        (settings / "overrides.json").write_text(json.dumps(overrides))
        arguments += [
            f"--LabApp.app_settings_dir={settings}",
            f"--LabApp.default_url=/lab/tree/{_FIRST_NOTEBOOK}",
        ]
    else:
        # A server without Lab has no page to look at.
        open_browser = False
        app = import_item("jupyter_server.serverapp.ServerApp")
    app.launch_instance(argv=[*arguments, f"--ServerApp.open_browser={open_browser}"])


class Guide(threading.Thread):
    """Asks the first question once the server is up, and says how to go on."""

    def __init__(self, environment: dict[str, str], *, once: bool) -> None:
        super().__init__(name="ccapi-demo-guide", daemon=True)
        self.answered = False
        self._token = environment["JUPYTER_TOKEN"]
        self._runtime = Path(environment["JUPYTER_RUNTIME_DIR"])
        self._once = once

    def run(self) -> None:
        """Wait, ask, tell; with ``once``, stop the server."""
        from jupyter_server.serverapp import ServerApp

        try:
            url = self._wait_for_server()
            say(_introduction())
            say(f"\nYou: {_QUESTION}\nDemo model: ", end="")
            for words in ask(url, self._token, _QUESTION):
                say(words, end="")
            say("\n\n" + how_to_go_on(url, self._token, lab=find_spec("jupyterlab") is not None))
            self.answered = True
            if not self._once:
                say("\nServing until Ctrl-C.")
        except Exception as error:
            say(
                f"\nThe demo did not come up: {error}\n`jupyter ccapi doctor` says what is missing."
            )
        if self._once or not self.answered:
            ServerApp.instance().stop(from_signal=True)

    def _wait_for_server(self) -> str:
        """The server writes this file shortly before it listens."""
        info = self._runtime / f"jpserver-{os.getpid()}.json"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if info.is_file() and (text := info.read_text()):
                url: str = json.loads(text)["url"]
                with suppress(URLError), _open(f"{url}health"):
                    return url
            time.sleep(0.05)
        raise TimeoutError("the Jupyter server did not start within 60 seconds.")


def ask(url: str, token: str, question: str) -> Iterator[str]:
    """Send one streamed chat request through the OpenAI route; yield the words as they arrive."""
    request = Request(
        f"{url}v1/chat/completions",
        data=json.dumps(
            {"messages": [{"role": "user", "content": question}], "stream": True}
        ).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with _open(request) as response:
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[len(b"data: ") :])
            if "error" in chunk:
                raise RuntimeError(chunk["error"]["message"])
            for choice in chunk["choices"]:
                yield choice["delta"].get("content") or ""


def _open(request: str | Request) -> Any:
    """Fetch from this machine: never through a proxy."""
    return build_opener(ProxyHandler({})).open(request, timeout=120)


def how_to_go_on(url: str, token: str, *, lab: bool) -> str:
    """The URL, the token, and a line for each way in."""
    page = f"{url}lab/tree/{_FIRST_NOTEBOOK}?token={token}" if lab else f"{url}health"
    body = '{"model": "sonnet", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}'
    lines = {
        "URL": page,
        "Token": token,
        "openai-python": f'OpenAI(base_url="{url}v1", api_key="{token}").chat.completions.create('
        'model="sonnet", messages=[{"role": "user", "content": "Hello"}])',
        "curl": f"curl -N {url}v1/chat/completions -H 'Authorization: Bearer {token}' "
        f"-H 'Content-Type: application/json' -d '{body}'",
        "notebook": "%load_ext jupyter_ccapi    and in the next cell    %%claude",
    }
    return "\n".join(f"{name + ':':<15}{line}" for name, line in lines.items())


def _introduction() -> str:
    lines = [
        "Answers come from the offline demo model on this machine, not from Claude. To use Claude,",
        "run `claude` and log in, or set ANTHROPIC_API_KEY, and start `jupyter lab` instead.",
    ]
    panels = [
        Path(folder, "jupyter-ccapi", "package.json") for folder in jupyter_path("labextensions")
    ]
    if not any(panel.is_file() for panel in panels):
        lines.append(
            "The JupyterLab panel was left out for want of Node.js; everything else works."
        )
    return "\n".join(lines)


def _manual() -> Path:
    """The manual's notebooks: inside the installed package, or beside it in a checkout."""
    inside = Path(__file__).parent / "notebooks"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "notebooks"


def say(text: str, end: str = "\n") -> None:
    """Print at once: the words of a stream are to be seen as they arrive."""
    sys.stdout.write(text + end)
    sys.stdout.flush()
