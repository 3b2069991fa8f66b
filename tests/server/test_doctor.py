"""What `jupyter ccapi doctor` says of warm starts."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jupyter_ccapi.claude import find_cli
from jupyter_ccapi.claude.capabilities import FACTS
from jupyter_ccapi.demo import OfflineModel
from tests.servers import make_environment


@pytest.fixture
def environment(model: OfflineModel, home: Path) -> dict[str, str]:
    """A user's environment whose Claude is the offline model."""
    return make_environment(model, home)


def doctor(*arguments: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run `jupyter ccapi doctor ARGUMENTS` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "jupyter_ccapi", "doctor", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def cli(path: Path, line: str) -> str:
    """The option for a CLI that is a line of shell; `$real` in it is the real one."""
    path.write_text(f"#!/bin/sh\nreal={shlex.quote(str(find_cli().path))}\n{line}\n")
    path.chmod(0o755)
    return f"--CCApiApp.cli_path={path}"


def section(stdout: str) -> list[str]:
    """The heading and the lines about warm starts."""
    return stdout[stdout.index("Warm starts") :].splitlines()


def test_it_lists_what_the_cli_can_do_and_what_is_done_where_it_cannot(
    environment: dict[str, str], model: OfflineModel, home: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    option = cli(tmp_path / "claude", f'echo $1 >> {log}; exec "$real" "$@"')
    first = doctor(option, environment=environment)
    heading, *lines = section(first.stdout)
    assert re.fullmatch(r"Warm starts, as found for Claude Code \d+\.\d+\.\d+\S*", heading)
    for line, fact in zip(lines, FACTS, strict=True):
        what = fact.what.capitalize()
        assert re.fullmatch(rf"ok  {re.escape(what)} +yes: {re.escape(fact.given)}", line)
    assert first.stderr == ""
    # It was found out on a model of its own, and is kept where servers find it.
    assert model.requests == []
    assert "--output-format" in log.read_text()
    (kept,) = (home / "data" / "ccapi").glob("capabilities-*.json")
    content = json.loads(kept.read_text())
    content["capabilities"]["bind_at_initialize"] = False
    kept.write_text(json.dumps(content))
    log.write_text("")
    second = doctor(option, environment=environment)
    fact = FACTS[0]
    changed = lines[0].replace("ok ", "-  ").replace(f"yes: {fact.given}", f"no: {fact.without}")
    assert section(second.stdout) == [heading, changed, *lines[1:]]
    assert second.returncode == first.returncode
    assert "--output-format" not in log.read_text()


def test_a_cli_that_does_not_start_is_no_traceback(
    environment: dict[str, str], tmp_path: Path
) -> None:
    lines = (
        'case "$1" in --version | auth) exec "$real" "$@";; esac',
        "echo no room here >&2",
        "exit 3",
    )
    option = cli(tmp_path / "claude", "\n".join(lines))
    finished = doctor(option, environment=environment)
    assert "Warm starts" in finished.stdout
    assert re.search(r"^-   What it can do +not found out$", finished.stdout, re.MULTILINE)
    assert "no room here" in finished.stdout
    assert finished.stderr == ""
