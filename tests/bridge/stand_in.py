"""A stand-in for the Claude Code CLI that does what a prompt orders: the real one never would.

It speaks as much stream-json as sessions need. The orders in a prompt are followed one after
another, and the turn ends with a result; without any it says one word.

    [[words 20 every 0.05]]  so many words, one each 0.05 seconds
    [[flood 10000]]          so many words, as fast as they are taken; [[flood 10 of 4000]]: each of
                             4,000 characters
    [[ask Bash]]             ask whether a tool may run; its result is the input that it ran with
    [[ask and die]]          ask that, and end in the same moment
    [[die]]                  end in the middle of a message, by SIGKILL
    [[hang]]                 say nothing more in this message, until it is interrupted;
                             [[flood 10000 and hang]]: after so many words
    [[messages 100]]         so many messages that come as a whole

Each word says when it was written: its number, ``@``, and the seconds of the monotonic clock.
"""

import json
import os
import select
import shlex
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SESSION = "7a1df533-fdae-46b6-bef7-8fd0b510cfde"
MODEL = "claude-stand-in"
USAGE = {"input_tokens": 10, "output_tokens": 20}


def install(folder: Path) -> Path:
    """Make an executable of it in a folder; it starts in 20 milliseconds."""
    path = folder / "stand-in-claude"
    words = shlex.join([sys.executable, "-I", "-S", str(Path(__file__).absolute())])
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    path.chmod(0o755)
    return path


class Interrupted(Exception):
    """The turn is to end."""


class StandIn:
    """One process, which serves its prompts one after another until its input ends."""

    def __init__(self) -> None:
        self._rest = b""
        self._prompts: deque[dict[str, Any]] = deque()
        self._answers: dict[str, dict[str, Any]] = {}
        self._interrupted = False
        self._names = 0
        self._turns = 0

    def serve(self) -> None:
        """Answer prompts."""
        while True:
            while not self._prompts:
                self._listen(None)
            self._turn(self._prompts.popleft())

    def _listen(self, seconds: float | None) -> None:
        """Take in what comes within so many seconds, once (None: wait for it)."""
        if not select.select([0], [], [], seconds)[0]:
            return
        chunk = os.read(0, 1 << 20)
        if not chunk:
            sys.exit(0)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._hear(json.loads(line))

    def _hear(self, message: dict[str, Any]) -> None:
        if message["type"] == "user":
            self._prompts.append(message)
        elif message["type"] == "control_response":
            answer = message["response"]
            self._answers[answer["request_id"]] = answer.get("response") or {}
        elif message["type"] == "control_request":
            kind = message["request"]["subtype"]
            self._interrupted |= kind == "interrupt"
            answers: dict[str, dict[str, Any]] = {
                "rewind_conversation": {"rewound": True},
                "get_usage": {"session": {"total_cost_usd": 0.001 * self._turns}},
                "get_context_usage": {"totalTokens": 100},
                "mcp_status": {"mcpServers": []},
            }
            answer = {"subtype": "success", "request_id": message["request_id"]}
            answer["response"] = answers.get(kind, {})
            self._say({"type": "control_response", "response": answer})

    def _wait(self, until: float) -> None:
        """Listen until this time of the monotonic clock. Raises ``Interrupted``."""
        while True:
            left = until - time.monotonic()
            self._listen(max(left, 0.0))
            if self._interrupted:
                raise Interrupted
            if left <= 0:
                return

    def _turn(self, prompt: dict[str, Any]) -> None:
        self._interrupted, queried = False, prompt.get("shouldQuery", True)
        self._say({"type": "system", "subtype": "init", "model": MODEL, "session_id": SESSION})
        reason = "completed"
        try:
            if queried:
                self._turns += 1
                self._follow(_text(prompt["message"]["content"]))
        except Interrupted:
            reason = "aborted_streaming"
        done = reason == "completed" and queried
        result = {"type": "result", "subtype": "success", "is_error": False, "result": ""}
        result |= {"duration_ms": 1, "duration_api_ms": 1, "num_turns": int(queried)}
        result |= {"terminal_reason": reason, "session_id": SESSION, "permission_denials": []}
        result |= {"total_cost_usd": 0.001 * self._turns, "usage": USAGE if done else {}}
        self._say({**result, "user_message_uuids": [prompt.get("uuid")]})

    def _follow(self, text: str) -> None:
        """Do what the prompt orders."""
        orders = [part.partition("]]")[0].split() for part in text.split("[[")[1:]]
        for order in orders or [["flood", "1"]]:
            match order:
                case ["words", count, "every", seconds]:
                    self._words(int(count), float(seconds))
                case ["flood", count]:
                    self._words(int(count))
                case ["flood", count, "of", size]:
                    self._words(int(count), size=int(size))
                case ["ask", "and", "die"]:
                    self._ask("Bash", dies=True)
                case ["ask", tool]:
                    self._ask(tool)
                case ["die"]:
                    with self._message() as content:
                        self._delta("half a ", content)
                        os.kill(os.getpid(), signal.SIGKILL)
                case ["hang"]:
                    self._words(1, hangs=True)
                case ["flood", count, "and", "hang"]:
                    self._words(int(count), hangs=True)
                case ["messages", count]:
                    for _ in range(int(count)):
                        self._say(self._whole({"type": "text", "text": "word " * 20}))

    def _words(self, count: int, pause: float = 0, size: int = 0, *, hangs: bool = False) -> None:
        began = time.monotonic()
        with self._message() as content:
            for number in range(count):
                self._wait(began + number * pause)
                self._delta(f"{number}@{time.monotonic():.6f} ".ljust(size, "."), content)
            if hangs:
                self._wait(began + 3600)

    @contextmanager
    def _message(self, block: dict[str, Any] | None = None) -> Iterator[list[str]]:
        """A message of the model's with one block: a text, of which the pieces are collected in
        what is given, or this one.
        """
        line = self._whole()
        self._event({"type": "message_start", "message": line["message"]})
        begun = block or {"type": "text", "text": ""}
        self._event({"type": "content_block_start", "index": 0, "content_block": begun})
        pieces: list[str] = []
        yield pieces
        line["message"]["content"] = [block or {"type": "text", "text": "".join(pieces)}]
        self._say(line)
        self._event({"type": "content_block_stop", "index": 0})
        stop = {"stop_reason": "tool_use" if block else "end_turn"}
        self._event({"type": "message_delta", "delta": stop, "usage": USAGE})
        self._event({"type": "message_stop"})

    def _whole(self, *blocks: dict[str, Any]) -> dict[str, Any]:
        """A message of the model's as a line of its own."""
        message: dict[str, Any] = {"id": self._name("msg"), "type": "message", "model": MODEL}
        message |= {"role": "assistant", "content": [*blocks], "stop_reason": None, "usage": USAGE}
        line = {"type": "assistant", "message": message, "parent_tool_use_id": None}
        return {**line, "session_id": SESSION}

    def _delta(self, text: str, content: list[str]) -> None:
        content.append(text)
        word = {"type": "text_delta", "text": text}
        self._event({"type": "content_block_delta", "index": 0, "delta": word})

    def _ask(self, tool: str, *, dies: bool = False) -> None:
        """Ask for a tool, and tell its result."""
        call, name = self._name("toolu"), self._name("request")
        given = {"command": "echo asked"}
        with self._message({"type": "tool_use", "id": call, "name": tool, "input": given}):
            pass
        asked = {"subtype": "can_use_tool", "tool_name": tool, "input": given}
        asked |= {"tool_use_id": call, "permission_suggestions": []}
        self._say({"type": "control_request", "request_id": name, "request": asked})
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        while name not in self._answers:
            self._wait(time.monotonic() + 0.05)
        answer = self._answers.pop(name)
        allowed = answer.get("behavior") == "allow"
        said = json.dumps(answer["updatedInput"]) if allowed else answer.get("message")
        block = {"type": "tool_result", "tool_use_id": call, "content": said}
        message = {"role": "user", "content": [{**block, "is_error": not allowed}]}
        line = {"type": "user", "message": message, "parent_tool_use_id": None}
        self._say({**line, "session_id": SESSION})

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}_{os.getpid()}_{self._names}"

    def _event(self, event: dict[str, Any]) -> None:
        line = {"type": "stream_event", "uuid": "u", "session_id": SESSION, "event": event}
        self._say({**line, "parent_tool_use_id": None})

    def _say(self, message: dict[str, Any]) -> None:
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            data = data[os.write(1, data) :]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(block.get("text", "") for block in content)


if __name__ == "__main__":
    if "--version" in sys.argv:
        print("0.0.0 (Claude Code)")
    else:
        with suppress(BrokenPipeError):
            StandIn().serve()
