"""How a `%%claude` cell ends in error: one sentence, and no traceback.

IPython asks an exception for its own lines (`_render_traceback_`) wherever it shows one: in a
kernel's error output, and so in a saved notebook, and in a terminal.
"""

import asyncio

from jupyter_ccapi.claude import ClaudeError


class CellError(Exception):
    """The turn failed. The message is the core's own sentence: what happened, and what to do."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class TurnStopped(KeyboardInterrupt):
    """The turn was stopped by its user; the conversation was not."""

    def __init__(self) -> None:
        super().__init__("Stopped. The conversation goes on with the next %%claude cell.")

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class QueryStopped(asyncio.CancelledError):
    """A prompt of a program's was stopped by its user; whoever awaits it is cancelled."""

    def _render_traceback_(self) -> list[str]:
        return ["Stopped. The conversation goes on with the next prompt."]


class NoSuchConversation(ClaudeError):
    """There is no conversation of this name or id."""


def cell_error(error: ClaudeError) -> CellError:
    """Put an error of the core into a notebook's words.

    The core names an option by itself (the option cli_path); `%config` wants the magics' name too.
    """
    return CellError(str(error).replace("the option ", "the option ClaudeMagics."))
