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
from asyncio.subprocess import PIPE, SubprocessStreamProtocol
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from claude_agent_sdk import ClaudeAgentOptions, CLIConnectionError, Transport
from claude_agent_sdk import __version__ as sdk_version

# Not public: the one place that knows the CLI flag for every option.
# tests/claude/test_sdk_seams.py fails when it moves.
from claude_agent_sdk._internal.transport.subprocess_cli import SubprocessCLITransport

from .errors import ControlRefused
from .guard import MARK, Guard
from .options import clean_environment

logger = logging.getLogger(__name__)
# The SDK logs as an error what it then raises: not to the user's terminal or notebook, where
# nobody has configured logging.
logging.getLogger("claude_agent_sdk").addHandler(logging.NullHandler())

# One message of the CLI, bounded: a picture in a tool result comes as base64 in one line.
_MAX_LINE = 64 * 1024 * 1024
_STDERR_KEPT = 4000
# Stands in a stream event for several; the model's own events have a type.
_TOGETHER = "together"
# An idle CLI exits 40 ms after its stdin ends and has written its transcript by then; on SIGTERM
# it ends its tools first, in about 300 ms.
_EXIT_GRACE = 2.0
# What a CLI has said by its end is read in no time, unless something that it started still holds
# its pipes: that is not waited for.
_PIPE_GRACE = 0.5


@dataclass
class CLIOptions(ClaudeAgentOptions):
    """The SDK's options, and words at the end of the CLI's command line."""

    arguments: tuple[str, ...] = ()


class _Watched(SubprocessStreamProtocol):
    """Says when the process has ended, and when nothing more will come from it.
    ``Process.wait()`` will not do: it waits, in some versions of Python, until nobody holds the
    pipes any more either.
    """

    def __init__(self) -> None:
        super().__init__(limit=1 << 16, loop=asyncio.get_running_loop())
        self.exited = asyncio.Event()
        self.silent = asyncio.Event()
        self._speaking = {1, 2}  # its standard output and standard error

    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        super().pipe_connection_lost(fd, exc)
        self._speaking.discard(fd)
        if not self._speaking:
            self.silent.set()


class CLITransport(Transport):
    """One CLI process in a process group of its own. ``connect()`` starts it, ``close()`` ends it
    for certain. ``inherited`` stands in place of this process's environment.
    """

    def __init__(
        self,
        options: ClaudeAgentOptions,
        guard: Guard,
        inherited: Mapping[str, str] | None = None,
    ) -> None:
        self._options = options
        self._guard = guard
        self._inherited = inherited
        self._mark = uuid4().hex
        self._process: asyncio.subprocess.Process | None = None
        self._stderr = bytearray()
        self._watching: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._write_lock = asyncio.Lock()
        self._binding: Mapping[str, Any] = {}
        self._muted = False
        self._terminated = False
        self._asked: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._take: Callable[[Mapping[str, Any]], bool] = lambda message: False
        self._notice: Callable[[Mapping[str, Any]], None] = lambda message: None

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
        command += getattr(self._options, "arguments", ())
        loop = asyncio.get_running_loop()
        try:
            pipes, protocol = await loop.subprocess_exec(
                _Watched,
                *command,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                cwd=self._options.cwd,
                env=self._environment(),
                user=self._options.user,
                start_new_session=True,
            )
        except OSError as error:
            raise CLIConnectionError(
                f"Claude Code could not be started: {error.strerror or error}"
            ) from error
        self._process = asyncio.subprocess.Process(pipes, protocol, loop)
        self._watching = loop.create_task(self._watch(pipes, protocol))
        self._guard.watch(self._process.pid, self._mark)

    def _environment(self) -> dict[str, str]:
        """The same variables as the SDK's own transport sets, over a cleaned environment."""
        environment = {
            **clean_environment(os.environ if self._inherited is None else self._inherited),
            "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
            "CLAUDE_CODE_SDK_READS_SESSION_STATE": "1",
            **self._options.env,
            "CLAUDE_AGENT_SDK_VERSION": sdk_version,
            MARK: self._mark,
        }
        if self._options.enable_file_checkpointing:
            environment["CLAUDE_CODE_ENABLE_SDK_FILE_CHECKPOINTING"] = "true"
        if self._options.cwd:
            environment["PWD"] = str(self._options.cwd)
        return environment

    def bind(self, fields: Mapping[str, Any]) -> None:
        """Add these fields to the ``initialize`` request that is to come.

        Not public: the CLI takes ``systemPrompt``, ``appendSystemPrompt``, ``jsonSchema`` and
        ``systemPromptSnapshot`` there; the SDK for Python sends the first three as flags. The
        capability probe finds out whether they work.
        """
        self._binding = fields

    def intercept(
        self,
        take: Callable[[Mapping[str, Any]], bool],
        notice: Callable[[Mapping[str, Any]], None],
    ) -> None:
        """Have ``take`` see the control requests that the CLI makes before the SDK's client does,
        which does not get those that it takes; ``notice`` sees all else in the moment it comes.
        """
        self._take, self._notice = take, notice

    async def control(self, subtype: str, **fields: Any) -> dict[str, Any]:
        """Send a control request that the SDK's client does not know, and wait for the answer.

        Raises ``ControlRefused`` where the CLI says no, and ``CLIConnectionError`` where it is
        gone. The client must be connected: it reads what the CLI says.
        """
        name = f"ccapi_{uuid4().hex}"
        self._asked[name] = future = asyncio.get_running_loop().create_future()
        request = {"subtype": subtype, **fields}
        try:
            await self.write(
                json.dumps({"type": "control_request", "request_id": name, "request": request})
                + "\n"
            )
            answer = await future
        finally:
            self._asked.pop(name, None)
        if answer.get("subtype") != "success":
            raise ControlRefused(subtype, str(answer.get("error")))
        return dict(answer.get("response") or {})

    def when_ended(self, call: Callable[[], None]) -> None:
        """Have this called once the CLI has ended, however it did."""
        if self._watching is not None:
            self._watching.add_done_callback(lambda _: call())

    async def write(self, data: str) -> None:
        """Send one line to the CLI. Raises ``CLIConnectionError`` once it is gone."""
        if self._binding:
            data = self._bound(data)
        async with self._write_lock:
            stdin = self._process.stdin if self._process else None
            if stdin is None or not self.is_ready():
                raise CLIConnectionError("Claude Code is not running.")
            try:
                stdin.write(data.encode())
                await stdin.drain()
            except OSError as error:
                raise CLIConnectionError("Claude Code closed its input.") from error

    def _bound(self, data: str) -> str:
        message = json.loads(data)
        request = message.get("request") or {}
        if request.get("subtype") != "initialize":
            return data
        request.update(self._binding)
        self._binding = {}
        return json.dumps(message) + "\n"

    def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what the CLI prints, one JSON object a line. Raises ``CLIConnectionError`` when
        it has ended, so that nobody waits for an answer that cannot come any more.
        """
        return self._messages()

    async def _messages(self) -> AsyncIterator[dict[str, Any]]:
        assert self._process is not None
        assert self._process.stdout is not None
        pending = bytearray()
        while (chunk := await self._process.stdout.read(65536)) and not self._muted:
            pending += chunk
            if len(pending) > _MAX_LINE:
                raise CLIConnectionError(f"A message of Claude Code is over {_MAX_LINE >> 20} MB.")
            if b"\n" not in chunk:
                continue
            *lines, rest = pending.split(b"\n")
            pending = rest
            # Some builds print diagnostics among their messages; a message is an object.
            arrived = [_parse(line) for line in lines if line.startswith(b"{")]
            for message in arrived:
                self._notice(message)
            for message in _together(arrived):
                if not self._is_ours(message):
                    yield message
        assert self._watching is not None
        await asyncio.wait([self._watching])
        raise CLIConnectionError(f"Claude Code ended (exit code {self.exit_code}).")

    def _is_ours(self, message: dict[str, Any]) -> bool:
        """Whether this is not for the SDK's client: it answers a control request of ours, to
        which it is handed over, or asks for what we answer.
        """
        if message.get("type") in ("control_request", "control_cancel_request"):
            return self._take(message)
        if message.get("type") != "control_response":
            return False
        answer = message.get("response") or {}
        future = self._asked.get(str(answer.get("request_id")))
        if future is not None and not future.done():
            future.set_result(answer)
        return future is not None

    async def end_input(self) -> None:
        """Close the CLI's stdin: it exits when it is idle."""
        if self._process and self._process.stdin:
            with suppress(OSError):
                self._process.stdin.close()

    async def close(self) -> None:
        """End the CLI: its stdin first, then SIGTERM, then SIGKILL; the guard ends what it leaves
        behind. May be called by several at once, and cancelled: the CLI ends all the same.
        """
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        if self._watching is None:
            return
        if not self._terminated:
            # A CLI whose tools wait for us would take that as their end, and ask the model again.
            await self.end_input()
        for signal in ("terminate", "kill"):
            if (await asyncio.wait([self._watching], timeout=_EXIT_GRACE))[0]:
                return
            self._signal(signal)
        await self._watching

    def mute(self) -> None:
        """Pass on nothing more of what the CLI says: it is about to end."""
        self._muted = True

    def terminate(self) -> None:
        """Tell the CLI to end at once, in the middle of its turn. ``close()`` still has to be
        awaited.
        """
        self._terminated = True
        self._signal("terminate")

    def kill(self) -> None:
        """End the CLI at once, whatever it says. ``close()`` still has to be awaited."""
        self._signal("kill")

    def _signal(self, how: str) -> None:
        if self._process and self._process.returncode is None:
            with suppress(ProcessLookupError):
                getattr(self._process, how)()

    async def _watch(self, pipes: asyncio.SubprocessTransport, protocol: _Watched) -> None:
        """Collect what the CLI writes to its standard error; when it has ended, let go of its
        pipes and its name.
        """
        assert self._process is not None
        reading = asyncio.get_running_loop().create_task(self._read_stderr())
        try:
            await protocol.exited.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(_PIPE_GRACE):
                    await protocol.silent.wait()
        finally:
            pipes.close()  # at the end of an event loop that nobody tidied up, it kills too
        await reading
        for future in self._asked.values():
            if not future.done():
                future.set_exception(CLIConnectionError("Claude Code ended."))
        self._guard.release(self._process.pid)
        logger.debug("Claude Code %d ended with %s", self._process.pid, self.exit_code)

    async def _read_stderr(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(4096):
            self._stderr += chunk
            del self._stderr[:-_STDERR_KEPT]

    def is_ready(self) -> bool:
        """Whether the CLI runs and takes messages."""
        return self._process is not None and self.exit_code is None and self._ending is None


def events_of(event: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """The events of the model's stream in one stream event: one, or all that came together."""
    several: Sequence[dict[str, Any]] = event.get(_TOGETHER, (event,))
    return several


def _together(messages: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Put stream events that have arrived at once into one message: on its way through the SDK
    each message costs more than all else that is done for a delta.
    """
    first: dict[str, Any] | None = None
    events: list[dict[str, Any]] = []
    for message in messages:
        streams = message.get("type") == "stream_event"
        agent = message.get("parent_tool_use_id")
        if streams and first is not None and first.get("parent_tool_use_id") == agent:
            events.append(message["event"])
            continue
        if first is not None:
            yield {**first, "event": {_TOGETHER: events}}
        first, events = (message, [message["event"]]) if streams else (None, [])
        if not streams:
            yield message
    if first is not None:
        yield {**first, "event": {_TOGETHER: events}}


def _parse(line: bytearray) -> dict[str, Any]:
    try:
        message: dict[str, Any] = json.loads(line.decode())
    except ValueError as error:
        raise CLIConnectionError(f"Claude Code printed {line[:200]!r}, not JSON.") from error
    return message
