"""What the tests of the core share: the CLIs that are alive, what the model was sent, stand-ins."""

import asyncio
import shlex
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil

from jupyter_ccapi.claude import CLI, Event, Turn
from jupyter_ccapi.claude.guard import MARK
from jupyter_ccapi.demo import LoggedRequest, OfflineModel, Reply
from jupyter_ccapi.demo.reading import ASIDE, blocks

PATIENCE = 30.0
"""Seconds that anything may take: others use the machine too."""

STAND_IN = Path(__file__).with_name("stand_in.py")
# The Bash tool refuses to sleep.
FOREVER = "perl -e 'sleep 3000'"

E = TypeVar("E")


def conversation_sent(request: LoggedRequest) -> list[tuple[str, str]]:
    """The roles and texts of the conversation that the model was sent; the CLI's asides not."""
    sent = []
    for entry in request.messages:
        texts = [str(block.get("text", block["type"])) for block in blocks(entry["content"])]
        text = ASIDE.sub("", "\n".join(texts)).strip()
        if entry["role"] != "system" and text:
            sent.append((entry["role"], text))
    return sent


def held(text: str = "one two three") -> Reply:
    """An answer that stops after its first word; `OfflineModel.release()` lets it go on."""
    return Reply(text, hold=threading.Event())


async def asked(model: OfflineModel, text: str) -> LoggedRequest:
    """Wait until the model was asked this."""
    return await seen(model, lambda request: request.user_text.endswith(text))


async def seen(model: OfflineModel, predicate: Callable[[LoggedRequest], object]) -> LoggedRequest:
    """Wait until the model has seen such a request."""
    return await asyncio.to_thread(model.wait_for, predicate, PATIENCE)


async def until(turn: Turn, kind: type[E]) -> E:
    """Read a turn up to the first event of a kind."""
    async for event in turn:
        if isinstance(event, kind):
            return event
    raise AssertionError(f"the turn had no {kind.__name__}")


async def events_of(turn: Turn) -> list[Event]:
    """All events of a turn."""
    return [event async for event in turn]


def transcripts(home: Path) -> list[Path]:
    """The transcripts that lie in a home."""
    return sorted((home / ".claude").rglob("*.jsonl"))


def clis(home: Path) -> list[psutil.Process]:
    """The living processes that a core has started for this home, and all that these have: CLIs,
    and the commands of their tools.
    """
    found = []
    for process in psutil.process_iter():
        try:
            variables = process.environ()
        except psutil.Error:
            continue
        if MARK in variables and variables.get("HOME") == str(home):
            found.append(process)
    return found


def named(home: Path, name: str) -> list[psutil.Process]:
    """Those of them that run a program of this name."""
    found = []
    for process in clis(home):
        with suppress(psutil.Error):
            if process.name() == name:
                found.append(process)
    return found


async def cli_starting(home: Path) -> psutil.Process:
    """Wait until there is a CLI process."""
    await eventually(lambda: clis(home))
    return clis(home)[0]


async def gone(*processes: psutil.Process) -> None:
    """Wait until processes have ended."""
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, PATIENCE)
    assert not alive


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for what nothing announces: processes of other processes."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 (there is no event in this process)
            await asyncio.sleep(0.01)


def stand_in(folder: Path, fault: str = "none") -> Callable[[], CLI]:
    """Something that finds a CLI which is a stand-in with a fault of `stand_in.py`."""
    path = folder / f"claude-{fault.replace(' ', '-')}"
    words = shlex.join([sys.executable, "-I", str(STAND_IN), fault])
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    path.chmod(0o755)
    return lambda: CLI(path, "configured")
