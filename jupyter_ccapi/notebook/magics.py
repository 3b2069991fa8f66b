"""`%%claude` and its sister magics: what a person types, done."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand

from jupyter_ccapi.claude import ALIASES, ClaudeError, TurnEnd, resolve_model
from jupyter_ccapi.claude.errors import UnknownModel
from jupyter_ccapi.claude.history import Content
from jupyter_ccapi.config import NotebookOptions

from . import completion, desk, lists
from .answer import Answer
from .approvals import Approvals, How
from .asking import content_of, dialog_for, for_this_cell
from .claude import Claude
from .command import (
    Asked,
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
from .desk import DEFAULT
from .dialog import Dialog
from .errors import CellError, TurnStopped, cell_error
from .exporting import to_markdown, to_notebook, told
from .following import Following
from .schemas import schema_option
from .settings import ForThisCell
from .showing import show
from .status import login_help, status
from .stop_button import sigint_cancels
from .terminal import TerminalView
from .usage import Command
from .views import NotebookView, View

T = TypeVar("T")


@magics_class
class ClaudeMagics(NotebookOptions, Magics):
    """Magics that talk to Claude Code. Options are traits: `%config ClaudeMagics`."""

    def __init__(self, shell: InteractiveShell, **traits: Any) -> None:
        super().__init__(shell=shell, **traits)
        self._shell = shell
        self._desk = desk.take_desk(self, shell)
        completion.install(shell, self._names)

    @CLAUDE.documented
    @no_var_expand
    @line_cell_magic
    async def claude(self, line: str, cell: str | None = None) -> Any:
        """Ask Claude. The answer streams in below the cell.

        The text below the first line is the prompt; in one line it stands behind the options:

            %%claude
            What does a context manager do?

            %claude And what does contextlib add?
            answer = %claude In one word?

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
        answer = await self._ask(prompt, asked, command)
        # Of a cell nobody takes it. A line's transformer drops it where it is not assigned.
        return answer.value if cell is None else None

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
        completion.remove(self._shell)
        desk.leave_desk(self._desk, desk.CLOSE_SECONDS)

    async def _ask(self, prompt: str, asked: Asked, command: Command) -> Answer:
        """Send the prompt where it belongs, follow the turn, and keep the answer where that was
        asked for.
        """
        names = self._shell.user_ns
        schema = schema_option(asked.schema, names) if asked.schema else None
        with sigint_cancels() as pressed:
            try:
                model = await self._resolved(asked.model)
                content = content_of(prompt, asked, self._shell)
                try:
                    dialog = dialog_for(asked, self._desk, model or self.model or None, command)
                except ClaudeError as error:
                    raise command.error(str(error)) from None
                if asked.share:
                    shared = self._said(dialog.share)
                    show(shared._repr_mimebundle_())
                cell = for_this_cell(asked, schema, self.budget_usd, dialog.settings)
                end = await self._followed(dialog, content, cell, asked)
            finally:
                await pressed.over()
        answer = Answer.of(end, schema.make if schema else None)
        if asked.out is not None:
            self._shell.push({asked.out: answer.value})  # type: ignore[no-untyped-call]
        return answer

    async def _followed(
        self, dialog: Dialog, content: Content, cell: ForThisCell, asked: Asked
    ) -> TurnEnd:
        """Send a prompt and draw its turn. Raises `CellError` where that fails, `TurnStopped` where
        the user has stopped it.
        """
        end: TurnEnd | None = None
        failure: ClaudeError | None = None
        try:
            turn = dialog.send(content, cell)
            asks = Approvals(self._shell, cast(How, self.approvals))
            following = Following(dialog, turn, asks, self._desk.drawing)
            view = self._view(following, cell.budget, asked, Path(dialog.settings.cwd))
            end = await following.follow(view)
        except ClaudeError as error:
            failure = error
        except asyncio.CancelledError:
            _go_on()
        # Raised out here: IPython prints a whole traceback for an error whose context is a group
        # of errors, as some of the SDK's are.
        if failure is not None:
            raise cell_error(failure)
        if end is None or end.reason == "interrupted":
            raise TurnStopped
        if end.reason == "max_budget":
            # Run All stops here, before more is spent.
            raise CellError("This cell's budget is spent, and its answer is not finished.")
        return end

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
            if DEFAULT in here:
                checkpoints = [one.number for one in here[DEFAULT].checkpoints()]
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
            _go_on()
            raise TurnStopped from None
        known = ", ".join(dict.fromkeys((*ALIASES, *reported)))
        raise UsageError(
            f"There is no model {name!r}. Known are {known}; full names (claude-…) and the ids of "
            "Bedrock and Vertex work too."
        )


def _go_on() -> None:
    """The stop button was seen to: the running task goes on."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
