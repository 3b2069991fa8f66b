"""Clients that cannot live beside the others: made once per checkout, from pinned files."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from tests.servers import TOKEN, Server

FOREIGN = Path(__file__).with_name("foreign")
INSTRUCTOR = FOREIGN / "instructor"
NODE = FOREIGN / "node"

# Seconds that an installation may take.
_PATIENCE = 300


def instructor_python() -> Path:
    """The Python of an environment with instructor, which wants another jiter than openai does."""
    folder = INSTRUCTOR / ".venv"
    python = folder / "bin" / "python"
    pinned = INSTRUCTOR / "requirements.txt"
    commands = [
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(pinned)],
    ]
    make(folder, [pinned.read_text(), sys.version], commands)
    return python


def node() -> Path:
    """Node, once the packages beside the scripts are there."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        _give_up("Node.js is not there.")
    pinned = [(NODE / name).read_text() for name in ("package.json", "package-lock.json")]
    make(NODE / "node_modules", pinned, [["npm", "ci", "--prefix", str(NODE)]])
    return Path(found)


def starting(program: Path, script: Path, server: Server) -> "subprocess.Popen[str]":
    """Run a script as its user would: it finds the server by the two variables of OpenAI's own
    clients.
    """
    own = {"OPENAI_BASE_URL": server.api, "OPENAI_API_KEY": TOKEN}
    return subprocess.Popen(
        [str(program), str(script)],
        env={**os.environ, **own},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(program: Path, script: Path, server: Server) -> str:
    """What a script prints. A script that fails fails the test, with what it said."""
    with starting(program, script, server) as process:
        printed, said = process.communicate(timeout=60)
    assert process.returncode == 0, f"{script.name}: {said}"
    return printed


def make(folder: Path, pinned: Sequence[str], commands: Sequence[Sequence[str]]) -> None:
    """Make an environment, unless it was made from the same files before."""
    # Tests run side by side, and two would remove each other's files.
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _make(folder, pinned, commands)


def _make(folder: Path, pinned: Sequence[str], commands: Sequence[Sequence[str]]) -> None:
    digest = hashlib.blake2b("\0".join(pinned).encode()).hexdigest()
    mark = folder / ".made-from"
    if mark.is_file() and mark.read_text() == digest:
        return
    for command in commands:
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_PATIENCE)
        except subprocess.CalledProcessError as error:
            _give_up(f"{' '.join(command)}: {error.stderr or error.stdout}")
        except (OSError, subprocess.TimeoutExpired) as error:
            _give_up(str(error))
    mark.write_text(digest)


def _give_up(why: str) -> NoReturn:
    """A machine without a network or Node runs the rest; continuous integration runs it all."""
    said = f"This client cannot be installed here. {why}"
    if os.environ.get("CCAPI_REQUIRE_CLIENTS") == "1":
        pytest.fail(said, pytrace=False)
    pytest.skip(said)
