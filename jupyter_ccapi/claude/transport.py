"""Run the CLI for the SDK: a ``Transport`` over a process that is ours to start, watch and end.

The SDK's own transport starts the CLI in its parent's process group. There a kernel's stop button
(SIGINT to the group) ends the CLI, conversation and all, and nothing ends it when its parent is
killed. This one gives it a session of its own and tells the guard. The command line and
everything above it remain the SDK's.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, CLIConnectionError, Transport
from claude_agent_sdk import __version__ as sdk_version

# Not public: the one place that knows the CLI flag for every option.
# tests/claude/test_sdk_seams.py fails when it moves.
from claude_agent_sdk._internal.transport.subprocess_cli import SubprocessCLITransport

from .guard import Guard
from .options import clean_environment

logger = logging.getLogger(__name__)

# One message of the CLI, bounded: a picture in a tool result comes as base64 in one line.
_MAX_LINE = 64 * 1024 * 1024
_STDERR_KEPT = 4000
# An idle CLI exits 40 ms after its stdin ends and has written its transcript by then.
_EXIT_GRACE = 2.0


class CLITransport(Transport):
    """One CLI process in a process group of its own. ``connect()`` starts it, ``close()`` ends it
    for certain.
    """

    def __init__(self, options: ClaudeAgentOptions, guard: Guard) -> None:
        self._options = options
        self._guard = guard
        self._process: asyncio.subprocess.Process | None = None
        self._stderr = bytearray()
        self._background: set[asyncio.Task[None]] = set()
        self._write_lock = asyncio.Lock()
        self._closing = False

    @property
    def pid(self) -> int | None:
        """The process's id, None before it is started."""
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._process.returncode if self._process else None

    @property
    def stderr(self) -> str:
        """The last lines that the CLI wrote to its standard error."""
        return self._stderr.decode(errors="replace").strip()

    async def connect(self) -> None:
        """Start the CLI. Raises ``CLIConnectionError`` with the reason, as the SDK's own
        transport does.
        """
        if self._process is not None:
            return
        command = SubprocessCLITransport(prompt="", options=self._options)._build_command()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=self._options.cwd,
                env=self._environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise CLIConnectionError(
                f"Claude Code could not be started: {error.strerror or error}"
            ) from error
        self._guard.watch(self._process.pid)
        for task in (self._read_stderr(), self._wait()):
            self._background.add(asyncio.ensure_future(task))

    def _environment(self) -> dict[str, str]:
        """The same variables as the SDK's own transport sets, over a cleaned environment."""
        environment = {
            **clean_environment(os.environ),
            "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
            "CLAUDE_CODE_SDK_READS_SESSION_STATE": "1",
            **self._options.env,
            "CLAUDE_AGENT_SDK_VERSION": sdk_version,
        }
        if self._options.enable_file_checkpointing:
            environment["CLAUDE_CODE_ENABLE_SDK_FILE_CHECKPOINTING"] = "true"
        if self._options.cwd:
            environment["PWD"] = str(self._options.cwd)
        return environment

    async def write(self, data: str) -> None:
        """Send one line to the CLI. Raises ``CLIConnectionError`` once it is gone."""
        async with self._write_lock:
            stdin = self._process.stdin if self._process else None
            if stdin is None or self._closing or self.exit_code is not None:
                raise CLIConnectionError("Claude Code is not running.")
            try:
                stdin.write(data.encode())
                await stdin.drain()
            except OSError as error:
                raise CLIConnectionError("Claude Code closed its input.") from error

    def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what the CLI prints, one JSON object a line, until it exits."""
        return self._messages()

    async def _messages(self) -> AsyncIterator[dict[str, Any]]:
        assert self._process is not None
        assert self._process.stdout is not None
        pending = bytearray()
        while chunk := await self._process.stdout.read(65536):
            pending += chunk
            if len(pending) > _MAX_LINE:
                raise CLIConnectionError(f"A message of Claude Code is over {_MAX_LINE >> 20} MB.")
            if b"\n" not in chunk:
                continue
            *lines, rest = pending.split(b"\n")
            pending = rest
            for line in lines:
                # Some builds print diagnostics among their messages; a message is an object.
                if line.startswith(b"{"):
                    yield json.loads(line)
        await self._process.wait()

    async def end_input(self) -> None:
        """Close the CLI's stdin: it exits when it is idle."""
        if self._process and self._process.stdin:
            with suppress(OSError):
                self._process.stdin.close()

    async def close(self) -> None:
        """End the CLI: its stdin first, then SIGTERM, then SIGKILL; nothing of its group is left
        after it.
        """
        self._closing = True
        if self._process is None:
            return
        await self.end_input()
        if not await self._gone(_EXIT_GRACE):
            self._signal("terminate")
            if not await self._gone(_EXIT_GRACE):
                self._signal("kill")
        # Shielded, since a cancelled close must not leave a process that nobody waits for.
        await asyncio.shield(asyncio.gather(*self._background, return_exceptions=True))

    def kill(self) -> None:
        """End the CLI at once. ``close()`` still has to be awaited."""
        self._signal("kill")

    def _signal(self, how: str) -> None:
        if self._process and self._process.returncode is None:
            with suppress(ProcessLookupError):
                getattr(self._process, how)()

    async def _gone(self, seconds: float) -> bool:
        assert self._process is not None
        try:
            await asyncio.wait_for(asyncio.shield(self._process.wait()), seconds)
        except TimeoutError:
            return False
        return True

    async def _wait(self) -> None:
        assert self._process is not None
        code = await self._process.wait()
        self._guard.release(self._process.pid)
        logger.debug("Claude Code %d ended with %d", self._process.pid, code)

    async def _read_stderr(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(4096):
            self._stderr += chunk
            del self._stderr[:-_STDERR_KEPT]

    def is_ready(self) -> bool:
        """Whether the CLI runs and takes messages."""
        return self._process is not None and self.exit_code is None and not self._closing
