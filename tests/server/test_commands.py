"""The commands, as a user runs them: `jupyter ccapi`, its demo and its doctor."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from jupyter_ccapi.demo import OfflineModel, Reply
from jupyter_ccapi.demo.command import ask
from jupyter_ccapi.demo.command import make_environment as make_demo_environment
from jupyter_ccapi.server.standalone import StandaloneServer
from tests.servers import TOKEN, Server, gone, jupyter_server, make_environment, serving


def fetch(url: str, body: Any = None, token: str = TOKEN) -> tuple[int, str]:
    """Status and text of an answer."""
    request = urllib.request.Request(
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def run(*arguments: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run `jupyter ccapi ARGUMENTS` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "jupyter_ccapi", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture
def environment(model: OfflineModel, home: Path) -> dict[str, str]:
    """A user's environment whose Claude is the offline model."""
    return make_environment(model, home)


@pytest.fixture
def hello() -> dict[str, Any]:
    """A chat."""
    return {"messages": [{"role": "user", "content": "Hello"}]}


def test_alone_it_serves_the_api_on_loopback_and_nothing_of_jupyters(
    environment: dict[str, str], home: Path, model: OfflineModel, hello: dict[str, Any]
) -> None:
    model.script(Reply("Hello from alone."))
    with serving("jupyter_ccapi", "--port", "0", environment=environment, home=home) as server:
        assert server.url.startswith("http://127.0.0.1:")
        status, text = fetch(f"{server.api}/chat/completions", hello)
        assert (status, "Hello from alone." in text) == (200, True)
        assert fetch(f"{server.url}stats")[0] == 200
        for path in ("api/kernels", "api/contents", "api/terminals", "api/sessions", "lab", "tree"):
            assert fetch(f"{server.url}{path}")[0] == 404, path
        assert fetch(f"{server.api}/models", token="wrong")[0] == 401
        addresses = {
            c.laddr.ip
            for c in psutil.Process(server.process.pid).net_connections()
            if c.status == "LISTEN"
        }
        assert addresses == {"127.0.0.1"}
        log = server.output.read_text()
        assert f"Claude Code answers at {server.api}" in log
        assert TOKEN not in log


def test_its_port_is_8080_on_loopback_and_its_help_says_so(environment: dict[str, str]) -> None:
    standalone = StandaloneServer()
    assert (standalone.ip, standalone.port) == ("127.0.0.1", 8080)
    shown = run("--help", environment=environment).stdout
    assert "http://127.0.0.1:8080" in shown
    assert re.search(r"demo\n\s+Try everything offline", shown)
    assert "--port" in shown
    everything = run("--help-all", environment=environment).stdout
    assert "--CCApiApp.max_concurrent_sessions" in everything
    assert "--CCApiApp.model_map" in everything


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("--CCApiApp.max_concurrent_sessions=0", "max_concurrent_sessions"),
        ("--CCApiApp.url_prefix=ccapi", "url_prefix"),
        ("--CCApiApp.turn_timeout=soon", "turn_timeout"),
        ("--CCApiApp.max_process=8", "max_process"),
    ],
)
def test_an_option_that_is_not_valid_stops_the_start_and_is_named(
    wrong: str, named: str, environment: dict[str, str]
) -> None:
    finished = run("--port=0", "--allow-root", wrong, environment=environment)
    assert finished.returncode != 0
    assert named in finished.stdout + finished.stderr
    assert "Traceback" not in finished.stdout + finished.stderr


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_no_cli_outlives_its_server(
    ending: signal.Signals,
    model: OfflineModel,
    home: Path,
    hello: dict[str, Any],
) -> None:
    """In the middle of a turn a CLI would go on reading the model after its stdin has ended."""
    model.script(Reply("one two three", hold=threading.Event()))
    with jupyter_server(model, home, "--ServerApp.answer_yes=True") as server:
        client = threading.Thread(target=_ignore_errors, args=(server, hello), daemon=True)
        client.start()
        model.wait_for(lambda request: request.held, 60)
        below = psutil.Process(server.process.pid).children(recursive=True)
        assert len(server.clis()) == 1
        server.process.send_signal(ending)
        server.wait_ended()
        assert gone(below)
        client.join(30)
    model.wait_for(lambda request: request.closed_early, 5)


def _ignore_errors(server: Server, body: dict[str, Any]) -> None:
    with suppress(OSError):
        fetch(f"{server.api}/chat/completions", body)


def test_the_doctor_is_content_when_all_is_there(environment: dict[str, str]) -> None:
    finished = run("doctor", environment=environment)
    assert re.search(r"^ok +Claude Code +\d+\.\d+\.\d+, bundled", finished.stdout, re.MULTILINE)
    assert re.search(r"^ok +Logged in +yes, by api_key", finished.stdout, re.MULTILINE)
    assert "Server extension" in finished.stdout
    assert "JupyterLab panel" in finished.stdout


def test_the_doctor_takes_no_misspelt_option_for_one_that_counts(
    environment: dict[str, str],
) -> None:
    finished = run("doctor", "--CCApiApp.cli_pth=/nowhere/claude", environment=environment)
    assert finished.returncode == 2
    assert "There is no option CCApiApp.cli_pth" in finished.stderr
    assert "Claude Code  " not in finished.stdout


def test_the_doctor_says_what_to_do_and_fails_when_claude_cannot_be_used(
    environment: dict[str, str],
) -> None:
    environment["ANTHROPIC_API_KEY"] = ""
    out = run("doctor", environment=environment)
    assert out.returncode == 1
    assert re.search(r"^NO +Logged in +no$", out.stdout, re.MULTILINE)
    assert "Run `claude` in a terminal" in out.stdout
    missing = run("doctor", "--CCApiApp.cli_path=/nowhere/claude", environment=environment)
    assert missing.returncode == 1
    assert re.search(r"^NO +Claude Code +cannot be used$", missing.stdout, re.MULTILINE)
    assert "/nowhere/claude" in missing.stdout


@dataclass(frozen=True)
class Demo:
    """What `jupyter ccapi demo --once` printed, and its folder for temporary files."""

    stdout: str
    stderr: str
    folder: Path


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Run `jupyter ccapi demo --once` with a user's credentials in the environment."""
    folder = tmp_path_factory.mktemp("demo")
    environment = {
        **os.environ,
        "ANTHROPIC_API_KEY": "sk-ant-of-the-user",
        "CLAUDE_CODE_OAUTH_TOKEN": "oauth-of-the-user",
        "AWS_SECRET_ACCESS_KEY": "aws-of-the-user",
        "GOOGLE_APPLICATION_CREDENTIALS": "google-of-the-user",
        "HTTP_PROXY": "http://user:password-of-the-user@127.0.0.1:1",
        "TMPDIR": str(folder),
    }
    finished = run("demo", "--once", "--port=0", environment=environment)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return Demo(finished.stdout, finished.stderr, folder)


def test_the_demo_says_what_answers_and_how_to_use_claude(demo: Demo) -> None:
    text = demo.stdout
    assert "Answers come from the offline demo model" in text
    assert "ANTHROPIC_API_KEY" in text
    assert "offline demo model**, not Claude" in text


def test_the_demo_shows_the_three_ways_in(demo: Demo) -> None:
    text = demo.stdout
    url = re.search(r"curl -N (http://127\.0\.0\.1:\d+/)v1/chat/completions", text)
    assert url
    token = re.search(r"^Token: +([0-9a-f]{32})$", text, re.MULTILINE)
    assert token
    assert f'OpenAI(base_url="{url[1]}v1", api_key="{token[1]}")' in text
    assert "%%claude" in text


def test_the_demo_leaves_nothing_behind_and_shows_no_traceback(demo: Demo) -> None:
    assert "Traceback" not in demo.stdout + demo.stderr
    assert list(demo.folder.glob("ccapi-demo-*")) == []


def test_the_demo_shows_nothing_of_its_users_secrets(demo: Demo) -> None:
    assert "of-the-user" not in demo.stdout + demo.stderr


def test_the_demo_prints_the_words_as_they_arrive(model: OfflineModel, home: Path) -> None:
    hold = threading.Event()
    model.script(Reply("one two three", hold=hold))
    with jupyter_server(model, home) as server:
        words = ask(server.url, TOKEN, "Count")
        assert next(word for word in words if word) == "one "
        hold.set()
        assert "".join(words) == "two three"


def test_the_demos_environment_has_no_credential_of_its_user(
    tmp_path: Path, model: OfflineModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "AWS_ACCESS_KEY_ID",
        "AWS_BEARER_TOKEN_BEDROCK",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "CLAUDE_CODE_USE_VERTEX",
        "OPENAI_API_KEY",
        "HTTPS_PROXY",
        "A_NEW_KIND_OF_SECRET",
    ):
        monkeypatch.setenv(name, "of-the-user")
    environment = make_demo_environment(tmp_path / "demo", model)
    assert "of-the-user" not in environment.values()
    assert environment["ANTHROPIC_BASE_URL"] == model.url
    assert Path(environment["HOME"]).is_relative_to(tmp_path)
    assert "PATH" in environment
