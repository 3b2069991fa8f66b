"""What all conversations of one kernel share: the core's thread, its processes, and their names."""

import asyncio
import atexit
import os
import sys
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

from IPython.core.getipython import get_ipython
from IPython.core.interactiveshell import InteractiveShell

from jupyter_ccapi.claude import Limits, Pool, Tool, find_cli
from jupyter_ccapi.claude.record import Record
from jupyter_ccapi.claude.timeline import read_records
from jupyter_ccapi.config import NotebookOptions, data_folder

from .core_thread import CoreThread
from .dialog import Dialog
from .errors import NoSuchConversation
from .home_loop import HomeLoop
from .kernel_tools import kernel_tools
from .notebook_file import notebook_path
from .settings import Settings

T = TypeVar("T")

#: A kernel is given five seconds to shut down; an idle Claude Code needs a twentieth of one.
CLOSE_SECONDS = 3.0

#: The conversation of cells that name none.
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Kept:
    """A conversation that can be gone on with: here already (`open`), or by its id."""

    id: str
    name: str
    notebook: str
    prompts: int
    first: str
    when: float
    open: bool


class Desk:
    """The conversations of one kernel, or of one program, by their names."""

    def __init__(self, options: NotebookOptions, shell: InteractiveShell | None = None) -> None:
        self.options = options
        self.core = CoreThread()
        self.home = _home
        self.drawing = asyncio.Lock()
        self.dialogs: dict[str, Dialog] = {}
        # By their ids: a conversation may be taken up again when this is done.
        self.closing: dict[str, Future[None]] = {}
        self.timelines = data_folder() / "timelines"
        self.snapshots = data_folder() / "snapshots"
        self.shell = shell
        self.pool = Pool(self._limits(), find=lambda: find_cli(self.options.cli_path or None))

    @property
    def notebook(self) -> Path | None:
        """The notebook that this kernel belongs to, where that can be told."""
        return notebook_path(self.shell) if self.shell is not None else None

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the core do something, and wait for it, holding this thread up."""
        self.refresh()
        return self.core.submit(work).result()

    def refresh(self) -> None:
        """Have the options count as they are now."""
        self.pool.limits = self._limits()

    def begin(self, name: str, settings: Settings) -> Dialog:
        """Begin a new conversation by this name; the one that had it goes on by its id alone."""
        return self._take_up(Dialog(self, name, str(uuid4()), settings))

    def resume(self, name: str, id: str, settings: Settings) -> Dialog:
        """Take up a kept conversation: the one with this id, or the one id that begins so; with
        none, this notebook's last (of this name, where it is not that of cells that name none).
        `settings` are for what was not kept. Raises `NoSuchConversation`.
        """
        records = read_records(self.timelines)
        if not id:
            mine = [one for one in records if self._is_mine(one)]
            if name != DEFAULT:
                mine = [one for one in mine if one.about.get("name") == name]
            if not mine:
                named = "" if name == DEFAULT else f" {name!r}"
                raise NoSuchConversation(f"No conversation{named} of this notebook is kept yet.")
            return self._take_up(self._of(mine[0], name))
        found = [one for one in records if one.id.startswith(id.lower())]
        if len(found) == 1:
            return self._take_up(self._of(found[0], name))
        if found:
            ids = ", ".join(one.id[: len(id) + 4] for one in found[:5])
            raise NoSuchConversation(f"{len(found)} conversations begin with {id!r}: {ids} …")
        with suppress(ValueError):
            # One that the CLI itself has kept.
            session = str(UUID(id))
            return self._take_up(self._adopt(name, session, settings))
        raise NoSuchConversation(
            f"There is no conversation {id!r}: %claude_conversations lists what there is."
        )

    def copy(self, dialog: Dialog, name: str, number: int | None) -> Dialog:
        """A copy of a conversation by this name, as it was before a prompt (None: as it is).
        Raises `ClaudeError`.
        """
        id = str(uuid4())
        dialog.fork(id, number)
        return self._take_up(Dialog(self, name, id, dialog.settings))

    def kept(self) -> list[Kept]:
        """All conversations that can be gone on with, this notebook's first. Blocks."""
        here = {dialog.id for dialog in self.dialogs.values()}
        records = read_records(self.timelines)
        records.sort(key=lambda record: not self._is_mine(record))
        return [_kept(record, record.id in here) for record in records]

    def tools_for(self, dialog: Dialog) -> tuple[Tool, ...]:
        """The kernel's tools, whose calls come from this conversation; none outside of IPython."""
        if self.shell is None:
            return ()
        tools = kernel_tools(
            self.shell, self.drawing, dialog.note_variables, dialog.stop, dialog.shown
        )
        return tuple(_at_home(tool, self.home, dialog.name) for tool in tools)

    async def ask_for_models(self) -> list[str]:
        """Ask the CLI for its models (starts a process, calls no model). Raises `ClaudeError`."""
        self.refresh()
        await asyncio.wrap_future(self.core.submit(self.pool.ask_for_models("")))
        return self.reported_models

    @property
    def reported_models(self) -> list[str]:
        """The model names that the CLI reported; empty before its first start."""
        return [str(model.get("value", "")) for model in self.pool.reported_models]

    def close(self, seconds: float, *, at_exit: bool = False) -> None:
        """End every process, waiting at most so many seconds; what is kept stays.

        At the interpreter's exit the thread is left alone: it is a daemon, and Python lets nobody
        start the helper thread any more that its loop would end with.
        """
        if not self.core.running:
            return
        closing = self.core.submit(self._close())
        # What cannot be ended politely is ended by the core's guard once this process is gone.
        with suppress(Exception):
            closing.result(seconds)
        self.dialogs.clear()
        if not at_exit:
            self.core.stop()

    def close_at_exit(self) -> None:
        """End every process, as far as that is done soon."""
        self.close(CLOSE_SECONDS, at_exit=True)

    async def _close(self) -> None:
        dialogs = [dialog.closed() for dialog in self.dialogs.values()]
        await asyncio.gather(*dialogs, return_exceptions=True)
        await self.pool.close()

    def _take_up(self, dialog: Dialog) -> Dialog:
        for name, one in list(self.dialogs.items()):
            if name == dialog.name or one.id == dialog.id:
                del self.dialogs[name]
                one.close()
        self.dialogs[dialog.name] = dialog
        return dialog

    def _of(self, record: Record, name: str) -> Dialog:
        told = record.about.get("settings")
        missing: list[str] = []
        try:
            settings, missing = Settings.of(told if isinstance(told, Mapping) else {})
        except TypeError:
            settings = Settings(cwd=record.folder)
        if missing:
            names = ", ".join(missing)
            sys.stderr.write(
                f"These settings of the conversation were not kept: {names}. Give them again where "
                "they are needed; until then it asks for permission.\n"
            )
        return Dialog(self, name, record.id, settings)

    def _adopt(self, name: str, session: str, settings: Settings) -> Dialog:
        dialog = Dialog(self, name, str(uuid4()), settings)
        dialog.adopt(session)
        return dialog

    def _is_mine(self, record: Record) -> bool:
        notebook = self.notebook
        if notebook is not None:
            return record.about.get("notebook") == str(notebook)
        settings = record.about.get("settings")
        folder = settings.get("cwd") if isinstance(settings, Mapping) else record.folder
        return not record.about.get("notebook") and folder == os.getcwd()  # noqa: PTH109

    def _limits(self) -> Limits:
        options = self.options
        return Limits(
            max_concurrent_sessions=options.max_concurrent_sessions,
            turn_timeout=options.turn_timeout,
            warm=options.warm,
            spares=0,
        )


def _at_home(tool: Tool, home: HomeLoop, conversation: str) -> Tool:
    assert tool.handler is not None
    return replace(tool, handler=home.wrap(tool.handler, conversation))


def _kept(record: Record, open: bool) -> Kept:
    last = record.checkpoints[-1].when if record.checkpoints else record.created
    first = record.checkpoints[0].words if record.checkpoints else ""
    about = record.about
    return Kept(
        record.id,
        str(about.get("name", "")),
        str(about.get("notebook", "")),
        len(record.checkpoints),
        first,
        last,
        open,
    )


_home = HomeLoop()
_desk: list[Desk] = []


def current_desk() -> Desk:
    """The desk of this kernel or program; the magics' own where they are loaded."""
    if not _desk:
        shell = get_ipython()
        given = shell.config.get("ClaudeMagics", {}) if shell is not None else {}
        known = NotebookOptions.class_trait_names(config=True)
        options = {name: value for name, value in given.items() if name in known}
        _open(Desk(NotebookOptions(**options), shell))
    return _desk[-1]


def take_desk(options: NotebookOptions, shell: InteractiveShell) -> Desk:
    """Have a shell's desk be run with these options, and be the current one: the one that is there
    already, with its conversations, or a new one.
    """
    if _desk and _desk[-1].shell is shell:
        _desk[-1].options = options
    else:
        _open(Desk(options, shell))
    return _desk[-1]


def leave_desk(desk: Desk, seconds: float) -> None:
    """Close it, waiting at most so many seconds for its processes; it is not the current one any
    more.
    """
    if desk in _desk:
        _desk.remove(desk)
    atexit.unregister(desk.close_at_exit)
    desk.close(seconds)


def _open(desk: Desk) -> None:
    _desk.append(desk)
    atexit.register(desk.close_at_exit)
