"""Finding the CLI and asking it about itself."""

from pathlib import Path

import pytest

from jupyter_ccapi.claude import CLI, Login, cli, find_cli
from jupyter_ccapi.claude.errors import CLINotFound, CLIStartFailed
from jupyter_ccapi.demo import OfflineModel


def a_file(path: Path, text: str = "#!/bin/sh\nexit 0\n", mode: int = 0o755) -> Path:
    """A program, unless the mode says otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_configured_one_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = a_file(tmp_path / "mine" / "claude")
    assert find_cli(mine) == find_cli(str(mine)) == CLI(mine, "configured")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_cli("~/mine/claude") == CLI(mine, "configured")
    # A process works in a folder of its own.
    monkeypatch.chdir(tmp_path)
    assert find_cli("mine/claude") == CLI(mine, "configured")


@pytest.mark.parametrize("kind", ["missing", "folder", "no program"])
def test_a_configured_one_that_is_wrong_is_never_passed_over(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "claude"
    if kind == "folder":
        path.mkdir()
    elif kind == "no program":
        a_file(path, mode=0o644)
    with pytest.raises(CLINotFound, match="the option cli_path") as failure:
        find_cli(path)
    assert str(path) in str(failure.value)


@pytest.mark.parametrize("configured", [None, ""])
def test_then_the_one_that_the_sdk_carries(configured: str | None) -> None:
    found = find_cli(configured)
    assert found.source == "bundled"
    assert found.path.is_file()


def test_then_the_one_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_bundled", lambda: None)
    program = a_file(tmp_path / "bin" / "claude")
    monkeypatch.setenv("PATH", str(program.parent))
    assert find_cli() == CLI(program, "PATH")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "bin")
    assert find_cli() == CLI(program, "PATH")


def test_none_at_all_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_bundled", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CLINotFound, match="npm install"):
        find_cli()


async def test_the_version(model: OfflineModel, home: Path) -> None:
    found = find_cli()
    said = await cli.version(found, model.environment(home))
    assert said in (found.path.parent / "claude.version").read_text()


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo hello", "does not answer like Claude Code.*hello"),
        ("echo no room >&2; exit 3", "exit code 3: no room"),
        ("exit 4", "exit code 4: no message"),
        ("exec sleep 100", "did not answer within 1 seconds"),
    ],
)
async def test_a_program_that_is_not_claude_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, complaint: str
) -> None:
    monkeypatch.setattr(cli, "_PATIENCE", 1.0)
    program = CLI(a_file(tmp_path / "claude", f"#!/bin/sh\n{script}\n"), "configured")
    with pytest.raises(CLIStartFailed, match=complaint):
        await cli.version(program)


async def test_a_program_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(CLIStartFailed, match="No such file"):
        await cli.version(CLI(tmp_path / "claude", "PATH"))


@pytest.mark.parametrize(
    ("variables", "login"),
    [
        ({"ANTHROPIC_API_KEY": ""}, Login(False, "none", "firstParty")),
        ({}, Login(True, "api_key", "firstParty")),
        (
            {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-offline"},
            Login(True, "oauth_token", "firstParty"),
        ),
        ({"CLAUDE_CODE_USE_BEDROCK": "1"}, Login(True, "third_party", "bedrock")),
    ],
    ids=["nothing", "key", "token", "bedrock"],
)
async def test_the_login(
    model: OfflineModel, home: Path, variables: dict[str, str], login: Login
) -> None:
    environment = {**model.environment(home), **variables}
    assert await cli.login(find_cli(), environment) == login
    assert model.requests == []


async def test_a_cli_too_old_to_say_whether_it_is_logged_in(tmp_path: Path) -> None:
    program = CLI(a_file(tmp_path / "claude", "#!/bin/sh\necho usage\n"), "PATH")
    with pytest.raises(CLIStartFailed, match=r"too old.*usage"):
        await cli.login(program)
