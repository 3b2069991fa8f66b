"""The floor and the ceiling: the CLI alone, warm and cold, without anything of this project around
it (but for the flags that the core starts it with, which are the same).
"""

import asyncio
import itertools
import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from claude_agent_sdk import ClaudeAgentOptions, StreamEvent, query

# Not public; tests/claude/test_sdk_seams.py fails when it moves.
from claude_agent_sdk._internal.transport.subprocess_cli import SubprocessCLITransport

from jupyter_ccapi.claude import Options, find_cli
from jupyter_ccapi.claude.options import clean_environment, to_sdk
from tests.benchmarks.measuring import NotMeasured, Reading, milliseconds_since
from tests.benchmarks.setting import MODEL, Setting, end

SYSTEM_PROMPT = "You are a helpful assistant. Answer in one word."

# The first real turn of a process costs it about 90 ms more, once, and the next ones some.
WARM_UP_TURNS = 5


def chat_options(setting: Setting, home: Path) -> ClaudeAgentOptions:
    """The core's chat mode, for one conversation that need not last."""
    options = Options(model=MODEL, system_prompt=SYSTEM_PROMPT, cwd=home / "project")
    chosen = to_sdk(options, cli_path=find_cli().path)
    chosen.extra_args = {**chosen.extra_args, "no-session-persistence": None}
    chosen.env = {**setting.model.environment(home), **chosen.env}
    return chosen


class BareCLI:
    """A CLI process over pipes that are read and written as directly as Python can."""

    def __init__(self, setting: Setting, home: Path) -> None:
        options = chat_options(setting, home)
        self._process = subprocess.Popen(
            SubprocessCLITransport(prompt="", options=options)._build_command(),
            cwd=options.cwd,
            env={
                **clean_environment(os.environ),
                "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
                "CLAUDE_CODE_SDK_READS_SESSION_STATE": "1",
                **options.env,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            request = {"subtype": "initialize", "hooks": None}
            self._write({"type": "control_request", "request_id": "initialize", "request": request})
            while b'"control_response"' not in self._line():
                pass
        except BaseException:
            end(self._process)
            raise

    def turn(self, text: str) -> tuple[float, float]:
        """Have one turn; return its first delta and its result, in milliseconds."""
        prompt = {
            "type": "user",
            "uuid": str(uuid4()),
            "message": {"role": "user", "content": text},
            "parent_tool_use_id": None,
            "client_composed": True,
        }
        first = None
        began = time.perf_counter()
        self._write(prompt)
        while True:
            line = self._line()
            if first is None and b'"text_delta"' in line:
                first = milliseconds_since(began)
            elif b'"type":"result"' in line:
                break
        total = milliseconds_since(began)
        if first is None:
            raise NotMeasured(f"the CLI ended its turn without a text: {line[:300]!r}")
        return first, total

    def close(self) -> None:
        """End its input, as the SDK does, and wait until it has exited."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(5)
        finally:
            end(self._process)

    def _write(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def _line(self) -> bytes:
        """The next line that is not about client tools, of which there are none."""
        assert self._process.stdout is not None
        while True:
            line = self._process.stdout.readline()
            if not line:
                raise NotMeasured(f"the CLI exited with {self._process.wait()}")
            if b'"type":"control_request"' not in line:
                return line
            self._answer(json.loads(line))

    def _answer(self, asked: Mapping[str, Any]) -> None:
        """Be an MCP server without tools: chat mode names one for the client's."""
        message = asked["request"].get("message", {})
        results: dict[str, Any] = {
            "initialize": {
                "protocolVersion": message.get("params", {}).get("protocolVersion"),
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "client", "version": "1"},
            },
            "tools/list": {"tools": []},
        }
        result = results.get(str(message.get("method")), {})
        answer = {"mcp_response": {"jsonrpc": "2.0", "id": message.get("id"), "result": result}}
        response = {"subtype": "success", "request_id": asked["request_id"], "response": answer}
        self._write({"type": "control_response", "response": response})

    def __enter__(self) -> Self:
        """It has started."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.close()


class WarmTurns:
    """(a) The next turn of a conversation with a CLI that is up, after these prompts."""

    def __init__(self, key: str, cli: BareCLI, before: Sequence[str] = ()) -> None:
        self._key = key
        self._cli = cli
        self._numbers = itertools.count()
        for prompt in before:
            cli.turn(prompt)
        for _ in range(WARM_UP_TURNS):
            self()

    def __call__(self) -> dict[str, Reading]:
        """Have one turn."""
        first, total = self._cli.turn(f"[[say hi {next(self._numbers)}]]")
        return {self._key: Reading(first), f"{self._key}.result": Reading(total)}


def cold_turn(setting: Setting, home: Path) -> dict[str, Reading]:
    """(b) Spawn a CLI, initialize it, have one turn, and let it exit."""
    began = time.perf_counter()
    with BareCLI(setting, home) as cli:
        up = milliseconds_since(began)
        first, _ = cli.turn("[[say hi]]")
    return {"b": Reading(up + first)}


def cold_query(setting: Setting, home: Path) -> dict[str, Reading]:
    """(b) A one-shot ``query()`` of the SDK, to its first delta and to its end."""
    options = chat_options(setting, home)
    # The SDK takes the server of the client's tools only with something behind it.
    options.mcp_servers = {}
    return asyncio.run(_query(options))


async def _query(options: ClaudeAgentOptions) -> dict[str, Reading]:
    first = None
    began = time.perf_counter()
    async for message in query(prompt="[[say hi]]", options=options):
        if first is None and isinstance(message, StreamEvent):
            delta = message.event.get("delta", {})
            if delta.get("type") == "text_delta":
                first = milliseconds_since(began)
    if first is None:
        raise NotMeasured("query() ended without a text")
    return {"b.query": Reading(first), "b.query.end": Reading(milliseconds_since(began))}


def cold_starts_per_second(setting: Setting, home: Path, seconds: float) -> float:
    """(h) How many one-shot CLIs (spawn, initialize, one turn, exit) get through in a second, two
    at a time: with as many workers as this machine has cores, more would only wait for each other.
    """
    began = time.perf_counter()

    def work() -> int:
        done = 0
        while time.perf_counter() - began < seconds:
            cold_turn(setting, home)
            done += 1
        return done

    with ThreadPoolExecutor(2) as workers:
        futures = [workers.submit(work) for _ in range(2)]
        done = sum(future.result() for future in futures)
    return done / (time.perf_counter() - began)
