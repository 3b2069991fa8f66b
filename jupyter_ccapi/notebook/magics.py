"""`%%claude` and its sister magics: what a person types, done."""

import asyncio
import atexit
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand

from jupyter_ccapi.claude import ALIASES, ClaudeError, resolve_model
from jupyter_ccapi.claude.errors import UnknownModel
from jupyter_ccapi.config import NotebookOptions

from . import completion, desk, lists
from .answer import Answer
from .approvals import Approvals, How
from .asking import content_of, dialog_for, for_this_cell
from .claude import Claude
from .command import (
    Asked,
    check_mode,
    read_checkpoints,
    read_claude,
    read_export,
    read_nothing,
    read_rewind,
    split_line,
)
from .command_table import (
    CHECKPOINTS,
    CLAUDE,
    CLAUDE_LINE,
    CONVERSATIONS,
    EXPORT,
    LOGIN_HELP,
    REWIND,
    STATUS,
)
from .completion import Names
from .desk import DEFAULT, Desk
from .errors import CellError, TurnStopped, cell_error
from .exporting import to_markdown, to_notebook, told
from .following import Following
from .schemas import schema_option
from .showing import show
from .status import login_help, status
from .stop_button import sigint_cancels
from .terminal import TerminalView
from .usage import Command
from .views import NotebookView, View

T = TypeVar("T")

# A kernel is given five seconds to shut down; an idle Claude Code needs a twentieth of one.
_CLOSE_SECONDS = 3.0


@magics_class
class ClaudeMagics(NotebookOptions, Magics):
    """Magics that talk to Claude Code. Options are traits: `%config ClaudeMagics`."""

    def __init__(self, shell: InteractiveShell, **traits: Any) -> None:
        super().__init__(shell=shell, **traits)
        self._shell = shell
        self._desk = Desk(self, shell)
        desk.put_desk(self._desk)
        completion.install(shell, self._names)
        atexit.register(self._close_at_exit)

    @CLAUDE.documented
    @no_var_expand
    @line_cell_magic
    async def claude(self, line: str, cell: str | None = None) -> None:
        """Ask Claude. The answer streams in below the cell.

        The text below the first line is the prompt; in one line it stands behind the options:

            %%claude
            What does a context manager do?

            %claude And what does contextlib add?

        The next cell goes on with the conversation. The stop button (Ctrl-C in a terminal) ends
        the answer; the conversation stays, and the next cell goes on with it.
        """
        if cell is None:
            command, (asked, prompt) = CLAUDE_LINE, split_line(line)
        else:
            command, asked, prompt = CLAUDE, read_claude(line), cell.strip("\r\n")
        if not prompt.strip():
            where = "below the %%claude line" if cell is not None else "behind %claude"
            raise command.error(f"it needs a prompt: write it {where}.")
        await self._ask(prompt, asked, command)

    @REWIND.documented
    @no_var_expand
    @line_magic
    def claude_rewind(self, line: str) -> None:
        """Have the files and the conversation as they were just before a prompt was sent.

        Both are done, or neither; --undo takes the last rewind back, until the next prompt.
        """
        asked = read_rewind(line)
        claude = self._existing(asked.name)
        how = {"dry_run": asked.dry_run, "force": asked.force}
        try:
            if asked.undo:
                done = claude.undo(**how)
            else:
                assert asked.checkpoint is not None
                parts = {"files": asked.files, "conversation": asked.conversation}
                done = claude.rewind(asked.checkpoint, **parts, **how)
        except ClaudeError as error:
            raise cell_error(error) from None
        show(done._repr_mimebundle_())

    @CHECKPOINTS.documented
    @no_var_expand
    @line_magic
    def claude_checkpoints(self, line: str) -> None:
        """List the checkpoints of a conversation: one for each prompt."""
        claude = self._existing(read_checkpoints(line))
        show(lists.checkpoints(self._said(lambda: claude.checkpoints)))

    @CONVERSATIONS.documented
    @no_var_expand
    @line_magic
    def claude_conversations(self, line: str) -> None:
        """List the conversations that can be gone on with, this notebook's first."""
        read_nothing(CONVERSATIONS, line)
        show(lists.conversations(self._desk.kept(), self._desk.notebook))

    @STATUS.documented
    @no_var_expand
    @line_magic
    def claude_status(self, line: str) -> None:
        """Show which Claude Code is used, its login, models, warm processes and what was spent."""
        read_nothing(STATUS, line)
        show(status(self._desk))

    @LOGIN_HELP.documented
    @no_var_expand
    @line_magic
    def claude_login_help(self, line: str) -> None:
        """Say how Claude Code gets an account."""
        read_nothing(LOGIN_HELP, line)
        show(login_help())

    @EXPORT.documented
    @no_var_expand
    @line_magic
    def claude_export(self, line: str) -> None:
        """Write a conversation to a file, as Markdown or as a notebook; without FILE, show it."""
        asked = read_export(line)
        claude = self._existing(asked.name)
        turns = told(self._said(lambda: claude.messages))
        notebook = asked.notebook and asked.file is not None
        text = to_notebook(turns) if notebook else to_markdown(turns)
        if asked.file is None:
            show({"text/markdown": text, "text/plain": text})
            return
        try:
            asked.file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise EXPORT.error(f"{asked.file} cannot be written: {error.strerror}.") from None
        print(f"Wrote {len(turns)} prompts and answers to {asked.file}.")

    def close(self) -> None:
        """End the conversations' processes. They stay: `%%claude --resume` goes on."""
        atexit.unregister(self._close_at_exit)
        completion.remove(self._shell)
        desk.take_desk(self._desk)
        self._desk.close(_CLOSE_SECONDS)

    def _close_at_exit(self) -> None:
        self._desk.close(_CLOSE_SECONDS, at_exit=True)

    async def _ask(self, prompt: str, asked: Asked, command: Command) -> None:
        """Send the prompt where it belongs, and follow the turn."""
        names = self._shell.user_ns
        schema = schema_option(asked.schema, names) if asked.schema else None
        with sigint_cancels():
            model = await self._resolved(asked.model)
            content = content_of(prompt, asked, self._shell)
            try:
                dialog = dialog_for(asked, self._desk, model or self.model or None)
            except ClaudeError as error:
                raise command.error(str(error)) from None
            check_mode(asked, dialog.settings.mode, command)
            cell = for_this_cell(asked, schema, self.budget_usd, dialog.settings)
            turn = dialog.send(content, cell)
            asks = Approvals(self._shell, cast(How, self.approvals))
            following = Following(dialog, turn, asks, self._desk.drawing)
            view = self._view(following, cell.budget, asked, Path(dialog.settings.cwd))
            try:
                end = await following.follow(view)
            except ClaudeError as error:
                raise cell_error(error) from None
            if end.reason == "max_budget":
                # Run All stops here, before more is spent.
                raise CellError("This cell's budget is spent, and its answer is not finished.")
            answer = Answer.of(end, schema.make if schema else None)
        if asked.out is not None:
            self._shell.push({asked.out: answer.value})  # type: ignore[no-untyped-call]

    def _view(self, following: Following, budget: float | None, asked: Asked, folder: Path) -> View:
        how: dict[str, Any] = {"approvals": following.ask, "budget": budget}
        how |= {"quiet": asked.quiet, "folder": folder}
        if getattr(self._shell, "kernel", None) is not None:
            return NotebookView(self.updates_per_second, **how)
        return TerminalView(**how)

    def _existing(self, name: str | None) -> Claude:
        """A conversation of this kernel; where it has none yet, this notebook's last."""
        wanted = name or DEFAULT
        if wanted in self._desk.dialogs:
            return Claude(wanted)
        if name is None:
            with suppress(ClaudeError):
                return Claude.resume()
        known = ", ".join(self._desk.dialogs) or "none yet"
        raise UsageError(
            f"There is no conversation {wanted!r} in this kernel; it has {known}. "
            "%%claude --resume takes up one that is kept: %claude_conversations lists them."
        )

    def _said(self, get: Callable[[], T]) -> T:
        try:
            return get()
        except ClaudeError as error:
            raise cell_error(error) from None

    def _names(self) -> Names:
        """What options are completed with."""
        here = self._desk.dialogs
        checkpoints: list[int] = []
        with suppress(ClaudeError):
            checkpoints = [one.number for one in here[DEFAULT].checkpoints()] if here else []
        return Names(
            models=list(dict.fromkeys((*ALIASES, *self._desk.reported_models))),
            conversations=list(here),
            sessions=[one.id for one in self._desk.kept()],
            checkpoints=checkpoints,
        )

    async def _resolved(self, name: str | None) -> str | None:
        """What the CLI is to be given for a model name. Raises `UsageError` for an unknown one."""
        reported = self._desk.reported_models
        try:
            return resolve_model(name, model_map={}, reported=reported)
        except UnknownModel:
            pass
        try:
            # Before its first start nobody knows what else the CLI offers. This costs no tokens.
            with suppress(ClaudeError):
                reported = await self._desk.ask_for_models()
                return resolve_model(name, model_map={}, reported=reported)
        except asyncio.CancelledError:
            raise TurnStopped from None
        known = ", ".join(dict.fromkeys((*ALIASES, *reported)))
        raise UsageError(
            f"There is no model {name!r}. Known are {known}; full names (claude-…) and the ids of "
            "Bedrock and Vertex work too."
        )
