"""What the tests of the core share: the CLIs that are alive, what the model was sent, stand-ins."""

import asyncio
import os
import shlex
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil

from jupyter_ccapi.claude import CLI, Event, Message, Pool, Turn
from jupyter_ccapi.claude.guard import MARK
from jupyter_ccapi.claude.slots import Slot
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


def messages_sent(request: LoggedRequest) -> list[tuple[str, list[dict[str, Any]]]]:
    """The roles and blocks of the conversation that the model was sent, word for word; the CLI's
    own entries, its cache marks and the model's earlier thinking not.
    """
    return [
        (entry["role"], _compared(blocks(entry["content"])))
        for entry in request.messages
        if entry["role"] != "system"
    ]


def as_history(request: LoggedRequest) -> list[Message]:
    """What the model was sent, as a client that keeps all of it would send it again."""
    return [
        Message("user" if role == "user" else "assistant", given)
        for role, given in messages_sent(request)
    ]


def as_sent(*messages: Message) -> list[tuple[str, list[dict[str, Any]]]]:
    """What `messages_sent` says where the model was sent these."""
    return [(message.role, _compared(message.blocks)) for message in messages]


def _compared(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in block.items() if name != "cache_control"}
        for block in given
        if block["type"] != "thinking"
    ]


def talk(*texts: str) -> list[Message]:
    """A history of these texts: the user's, the assistant's, the user's …"""
    return [
        Message("assistant" if number % 2 else "user", text) for number, text in enumerate(texts)
    ]


def spoken(*messages: Message) -> list[tuple[str, str]]:
    """What `conversation_sent` says where the model was sent these texts."""
    return [(message.role, str(message.content)) for message in messages]


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
    # A CLI that runs takes files and folders away while they are listed: `rglob` fails then.
    return sorted(
        Path(folder, name)
        for folder, _, names in os.walk(home / ".claude")
        for name in names
        if name.endswith(".jsonl")
    )


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


def started(home: Path) -> list[psutil.Process]:
    """Those of them that the core itself has started, without what these start in passing."""
    found = []
    for process in clis(home):
        with suppress(psutil.Error):
            if process.ppid() == os.getpid():
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


def spares(pool: Pool) -> list[str | None]:
    """The owners of the spares that are ready; None for one that is bound to nothing."""
    return [slot.owner for slot in pool.slots if slot.state == "spare"]


async def spare_for(pool: Pool, owner: str | None = None, told: str = "") -> int:
    """Wait until a spare is ready, bound for this owner to options that hold this text, or bound
    to nothing; return the process id of one.
    """

    def fits(slot: Slot) -> bool:
        if slot.state != "spare" or slot.owner != owner or slot.binding is None:
            return False
        return owner is None or told in slot.binding.bound

    await eventually(lambda: any(map(fits, pool.slots)))
    process = next(slot.process for slot in pool.slots if fits(slot))
    assert process is not None
    assert process.pid is not None
    return process.pid


def stand_in(folder: Path, fault: str = "none") -> Callable[[], CLI]:
    """Something that finds a CLI which is a stand-in with a fault of `stand_in.py`."""
    path = folder / f"claude-{fault.replace(' ', '-')}"
    words = shlex.join([sys.executable, "-I", str(STAND_IN), fault])
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    path.chmod(0o755)
    return lambda: CLI(path, "configured")
