"""Find the Claude Code CLI, and ask it who it is and whether it can be used."""

import asyncio
import importlib.util
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import CLINotFound, CLIStartFailed
from .options import clean_environment

# Seconds for a short command of the CLI.
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class CLI:
    """A Claude Code executable; ``source`` says where it was found: configured, bundled or PATH."""

    path: Path
    source: str


@dataclass(frozen=True, slots=True)
class Login:
    """Whether Claude Code can reach a model, and how: ``method`` and ``provider`` are its own
    words.
    """

    logged_in: bool
    method: str
    provider: str


def find_cli(configured: str | Path | None = None) -> CLI:
    """Find the CLI: the configured path, else the one in claude-agent-sdk's wheel, else
    ``claude`` on PATH.

    Raises ``CLINotFound`` with what to do. A configured path that is wrong is an error, never
    passed over.
    """
    if configured:
        path = Path(configured).expanduser()
        if path.is_file() and os.access(path, os.X_OK):
            # Absolute, since a process is started in a folder of its own.
            return CLI(path.absolute(), "configured")
        raise CLINotFound(
            f"The configured Claude Code CLI {str(path)!r} is not an executable file. "
            "Correct the option cli_path, or leave it empty to use the one that comes with "
            "claude-agent-sdk."
        )
    if (bundled := _bundled()) is not None:
        return CLI(bundled, "bundled")
    if on_path := shutil.which("claude"):
        return CLI(Path(on_path).absolute(), "PATH")
    raise CLINotFound(
        "Claude Code was not found: this platform's claude-agent-sdk carries none, and there is "
        "no `claude` on PATH. Install it with `npm install -g @anthropic-ai/claude-code`, or name "
        "it in the option cli_path."
    )


def _bundled() -> Path | None:
    """The CLI inside claude-agent-sdk's wheel, found without importing the SDK (that takes
    seconds).
    """
    spec = importlib.util.find_spec("claude_agent_sdk")
    if spec is None or spec.origin is None:
        return None
    name = "claude.exe" if os.name == "nt" else "claude"
    path = Path(spec.origin).parent / "_bundled" / name
    return path if path.is_file() else None


async def version(cli: CLI, environment: Mapping[str, str] | None = None) -> str:
    """Ask the CLI for its version, such as ``2.1.330``. Raises ``CLIStartFailed``."""
    output = await _run(cli, ["--version"], environment)
    if match := re.match(r"\d+\.\d+\.\d+\S*", output):
        return match[0]
    raise CLIStartFailed(
        f"{cli.path} does not answer like Claude Code: --version printed {output[:200]!r}."
    )


async def login(cli: CLI, environment: Mapping[str, str] | None = None) -> Login:
    """Ask the CLI whether it has a login, a key or a provider (``claude auth status --json``; no
    network).

    Raises ``CLIStartFailed``.
    """
    output = await _run(cli, ["auth", "status", "--json"], environment, may_fail=True)
    try:
        status: dict[str, Any] = json.loads(output)
    except ValueError as error:
        raise CLIStartFailed(
            f"{cli.path} is too old to say whether it is logged in: "
            f"auth status printed {output[:200]!r}."
        ) from error
    return Login(
        bool(status.get("loggedIn")),
        str(status.get("authMethod", "unknown")),
        str(status.get("apiProvider", "unknown")),
    )


async def _run(
    cli: CLI, arguments: list[str], environment: Mapping[str, str] | None, *, may_fail: bool = False
) -> str:
    """Run a short command of the CLI and return what it printed."""
    try:
        process = await asyncio.create_subprocess_exec(
            cli.path,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**clean_environment(os.environ), **(environment or {})},
        )
    except OSError as error:
        raise CLIStartFailed(f"{cli.path} cannot be run: {error.strerror or error}.") from error
    try:
        out, err = await asyncio.wait_for(process.communicate(), _PATIENCE)
    except BaseException as error:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if isinstance(error, TimeoutError):
            raise CLIStartFailed(
                f"{cli.path} {arguments[0]} did not answer within {_PATIENCE:g} seconds."
            ) from error
        raise
    if process.returncode and not may_fail:
        last = err.decode(errors="replace").strip()[-500:]
        raise CLIStartFailed(
            f"{cli.path} {arguments[0]} failed with exit code {process.returncode}: "
            f"{last or 'no message'}",
            exit_code=process.returncode,
            stderr=last,
        )
    return out.decode(errors="replace").strip()
