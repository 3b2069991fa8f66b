"""`%%claude`: what a person types, read and checked."""

import asyncio
import atexit
import difflib
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from jupyter_ccapi.claude import (
    ALIASES,
    ClaudeError,
    Limits,
    Options,
    find_cli,
    resolve_model,
)
from jupyter_ccapi.claude.errors import UnknownModel
from jupyter_ccapi.config import NotebookOptions

from .errors import TurnStopped
from .following import follow
from .session import Session
from .stop_button import sigint_cancels
from .views import NotebookView, TerminalView, View

# A kernel is given five seconds to shut down; an idle Claude Code needs a twentieth of one.
_CLOSE_SECONDS = 3.0
_MODEL = "the model that answers from this cell on: opus, sonnet, haiku or a full name"
_NEW = "start a new conversation"
_HELP = "%%claude? shows what it understands."


@magics_class
class ClaudeMagics(NotebookOptions, Magics):
    """Magics that talk to Claude Code. Options are traits: `%config ClaudeMagics`."""

    def __init__(self, shell: InteractiveShell, **traits: Any) -> None:
        super().__init__(shell=shell, **traits)
        self._shell = shell
        self._session: Session | None = None
        atexit.register(self._close_at_exit)

    @magic_arguments("%claude")  # type: ignore[no-untyped-call, untyped-decorator]
    @argument("-m", "--model", metavar="NAME", help=_MODEL)  # type: ignore[no-untyped-call, untyped-decorator]
    @argument("--new", action="store_true", help=_NEW)  # type: ignore[no-untyped-call, untyped-decorator]
    @no_var_expand
    @cell_magic
    async def claude(self, line: str, cell: str) -> None:
        """Ask Claude. The answer streams in below the cell.

        The text below the first line is the prompt:

            %%claude
            What does a context manager do?

        The next %%claude cell goes on with the conversation. The stop button (Ctrl-C in a
        terminal) ends the answer; the conversation stays, and the next cell goes on with it.
        """
        asked = self._parse(line)
        prompt = cell.strip("\r\n")
        if not prompt.strip():
            raise UsageError("%%claude needs a prompt: write it below the %%claude line.")
        with sigint_cancels():
            await self._ask(prompt, asked)

    def close(self) -> None:
        """End the conversation and its processes. The next cell would start a new one."""
        atexit.unregister(self._close_at_exit)
        if self._session is not None:
            self._session.close(_CLOSE_SECONDS)
            self._session = None

    def _close_at_exit(self) -> None:
        if self._session is not None:
            self._session.close(_CLOSE_SECONDS, at_exit=True)

    def _parse(self, line: str) -> Namespace:
        """Read the first line. Raises `UsageError` with the option that was probably meant."""
        parser = self.claude.parser
        try:
            asked, rest = parser.parse_argstring(line, partial=True)
        except UsageError as error:
            raise UsageError(f"%%claude: {error}. {_HELP}") from None
        if rest:
            raise UsageError(_not_understood(rest[0], list(parser._option_string_actions)))
        assert isinstance(asked, Namespace)
        return asked

    async def _ask(self, prompt: str, asked: Namespace) -> None:
        """Send the prompt where it belongs, and follow the turn."""
        if self._session is None:
            self._session = Session(find=lambda: find_cli(self.cli_path or None))
        session = self._session
        session.limit(Limits(turn_timeout=self.turn_timeout, warm=self.warm, spares=0))
        if asked.new or session.is_new:
            model = await self._resolved(session, asked.model or self.model or None)
            turn = session.begin(prompt, Options(mode="chat", model=model, cwd=Path.cwd()))
        else:
            turn = session.go_on(prompt, await self._resolved(session, asked.model))
        await follow(turn, self._view())

    def _view(self) -> View:
        if getattr(self._shell, "kernel", None) is not None:
            return NotebookView(self.updates_per_second)
        return TerminalView()

    async def _resolved(self, session: Session, name: str | None) -> str | None:
        """What the CLI is to be given for a model name. Raises `UsageError` for an unknown one."""
        try:
            return resolve_model(name, model_map={}, reported=session.reported_models)
        except UnknownModel:
            pass
        try:
            # Before its first start nobody knows what else the CLI offers. This costs no tokens.
            with suppress(ClaudeError):
                return resolve_model(name, model_map={}, reported=await session.ask_for_models())
        except asyncio.CancelledError:
            raise TurnStopped from None
        known = ", ".join(dict.fromkeys((*ALIASES, *session.reported_models)))
        raise UsageError(
            f"There is no model {name!r}. Known are {known}; full names (claude-…) and the ids of "
            "Bedrock and Vertex work too."
        )


def _not_understood(word: str, options: list[str]) -> str:
    """Say what is wrong with a word on the first line."""
    if not word.startswith("-"):
        return f"%%claude takes no {word!r} here: the prompt goes below the %%claude line. {_HELP}"
    name = word.partition("=")[0]
    meant = difflib.get_close_matches(name, options, n=1)
    hint = f": did you mean {meant[0]}?" if meant else "."
    return f"%%claude has no option {name}{hint} {_HELP}"
