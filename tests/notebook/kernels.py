"""A real kernel under test: cells run in it, and what a frontend would show is read off."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from jupyter_ccapi.demo import OfflineModel
from tests.conftest import WARM

ROOT = Path(__file__).parents[2]
PATIENCE = 60
"""Seconds that anything may take that is waited for."""


def environment(model: OfflineModel, home: Path) -> dict[str, str]:
    """Return the variables for a kernel whose Claude Code knows this home and this model only."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("ANTHROPIC_", "CLAUDE"))}
    return {
        **own,
        **model.environment(home),
        "IPYTHONDIR": str(home / ".ipython"),
        "PYTHONPATH": str(ROOT),
    }


def claude_processes(home: Path) -> list[psutil.Process]:
    """Return the Claude Code processes that have this home."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            arguments = process.cmdline()
            if arguments and Path(arguments[0]).name.startswith("claude"):
                found += [process] if process.environ().get("HOME") == str(home) else []
    return found


def roles_and_texts(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return who said what to the model, without the texts that Claude Code adds by itself."""
    said = []
    for message in messages:
        content = message["content"]
        blocks = [{"text": content}] if isinstance(content, str) else content
        texts = [str(block.get("text", "")) for block in blocks]
        said += [(str(message["role"]), text) for text in texts]
    return [(role, text) for role, text in said if role != "system" and _is_said(text)]


def _is_said(text: str) -> bool:
    return bool(text) and not text.startswith("<system-reminder>")


@dataclass
class Cell:
    """A cell that was sent to the kernel, and what has come of it."""

    kernel: "Kernel" = field(repr=False)
    request: str
    reply: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)
    displays: dict[str, dict[str, str]] = field(default_factory=dict)
    drawn: list[str] = field(default_factory=list)
    stdout: str = ""
    stderr: str = ""
    value: str = ""

    def wait_until(self, seen: "Callable[[Cell], object]") -> "Cell":
        """Read what the kernel publishes until the cell shows something; fail if it never will."""
        while not seen(self):
            assert not self._idle, f"the cell has ended: {self}"
            self._take(self.kernel.client.get_iopub_msg(timeout=PATIENCE))
        return self

    def type(self, text: str) -> str:
        """Type an answer to what the cell asks with ``input()``; return its question."""
        asked = self.kernel.client.get_stdin_msg(timeout=PATIENCE)
        self.kernel.client.input(text)
        return str(asked["content"]["prompt"])

    def finish(self) -> "Cell":
        """Read to the end of the cell."""
        self.wait_until(lambda cell: cell._idle)
        while not self.reply:
            message = self.kernel.client.get_shell_msg(timeout=PATIENCE)
            if message["parent_header"].get("msg_id") == self.request:
                self.reply = message["content"]
        return self

    @property
    def status(self) -> str:
        """How the cell ended: `ok` or `error`."""
        return str(self.reply["status"])

    @property
    def answer(self) -> str:
        """The Markdown that the cell shows now."""
        return "\n".join(
            bundle["text/markdown"]
            for bundle in self.displays.values()
            if "text/markdown" in bundle
        )

    @property
    def text(self) -> str:
        """All that the cell shows now, as plain text."""
        return "\n".join(self.lines)

    @property
    def failure(self) -> str:
        """What the cell failed with; fails where that is more than a sentence."""
        (line,) = self.error["traceback"]
        assert "\n" not in line
        return str(line)

    @property
    def lines(self) -> list[str]:
        """The displays that the cell shows now, as plain text."""
        return [bundle["text/plain"] for bundle in self.displays.values()]

    _idle = False

    def _take(self, message: dict[str, Any]) -> None:
        if message["parent_header"].get("msg_id") != self.request:
            return
        content = message["content"]
        match message["msg_type"]:
            case "display_data" | "update_display_data" as kind:
                name = content["transient"]["display_id"]
                assert (kind == "display_data") == (name not in self.displays)
                self.displays[name] = content["data"]
                self.drawn.append(content["data"]["text/plain"])
            case "clear_output":
                self.displays.clear()
            case "stream" if content["name"] == "stdout":
                self.stdout += content["text"]
            case "stream":
                self.stderr += content["text"]
            case "execute_result":
                self.value = content["data"]["text/plain"]
            case "error":
                self.error = content
            case "status":
                self._idle = content["execution_state"] == "idle"


class Kernel:
    """A running ipykernel."""

    def __init__(self, env: dict[str, str], cwd: Path) -> None:
        self.manager = KernelManager()
        self.manager.start_kernel(
            env=env, cwd=str(cwd), extra_arguments=[f"--ClaudeMagics.warm={WARM}"]
        )
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)

    def start(self, code: str) -> Cell:
        """Send a cell and do not wait for it."""
        return Cell(self, self.client.execute(code))

    def run(self, code: str) -> Cell:
        """Run a cell to its end."""
        return self.start(code).finish()

    def interrupt(self) -> None:
        """Press the stop button."""
        self.manager.interrupt_kernel()

    def kill(self) -> None:
        """End the kernel as a crash does."""
        self.manager.signal_kernel(signal.SIGKILL)

    def shut_down(self) -> None:
        """End the kernel as a user does; may be called twice."""
        if self.manager.has_kernel:
            self.client.stop_channels()
            self.manager.shutdown_kernel()
            self.manager.context.destroy()
