"""Everything that can go wrong in the core, in one tree.

* ``ClaudeError``

  * ``InvalidOption``: a request that cannot be served as asked
  * ``UnknownModel``: a model name that nothing here can serve
  * ``CLIUnavailable``: Claude Code cannot be used on this machine

    * ``CLINotFound``
    * ``CLIStartFailed``

  * ``NotLoggedIn``: Claude Code has no account and no key
  * ``Busy``: no process came free in time

    * ``QueueFull``
    * ``QueueTimeout``

  * ``TurnFailed``: a turn began and could not be finished

    * ``ModelError``: the model's API said no

      * ``RateLimited``
      * ``Overloaded``

    * ``PromptTooLong``
    * ``ProcessDied``
    * ``TurnTimeout``

  * ``ControlRefused``: the CLI said no to what it was asked beside its turn
  * ``CannotSnapshot``: the state of a folder's files cannot be kept
  * ``ChangedSince``: files were to be put back that somebody has changed
  * ``RewindRefused``: a rewind cannot be done, and nothing was
  * ``ConversationInUse``: another program, or another part of this one, has it open
  * ``ConversationClosed``

The message of each is a whole sentence for a person: what happened and what to do. The core knows
no HTTP; ``jupyter_ccapi.openai.errors`` alone says which status each becomes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .events import TurnEnd


class ClaudeError(Exception):
    """Base of every error that the core raises on purpose.

    ``spent`` is what a turn had cost when it failed, where the CLI said so: it is paid for too.
    """

    spent: "TurnEnd | None" = None


class InvalidOption(ClaudeError):
    """An option has a value that cannot be honoured.

    ``field`` is the option's name as the caller wrote it.
    """

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(message)


class UnknownModel(ClaudeError):
    """The model name is neither known, nor mapped, nor a Claude name.

    ``model`` is the name that was asked for.
    """

    def __init__(self, model: str, known: list[str]) -> None:
        self.model = model
        super().__init__(
            f"The model {model!r} does not exist here. Known names: {', '.join(known)}; "
            "any claude-* name and the ids of Bedrock and Vertex work too, and "
            "the server's option model_map adds names of your own."
        )


class CLIUnavailable(ClaudeError):
    """Claude Code cannot be used on this machine as it is."""


class CLINotFound(CLIUnavailable):
    """There is no Claude Code CLI where it was looked for."""


class CLIStartFailed(CLIUnavailable):
    """The CLI was found and did not come up.

    ``exit_code`` is None while unknown; ``stderr`` holds the last lines that it wrote.
    """

    def __init__(self, message: str, *, exit_code: int | None = None, stderr: str = "") -> None:
        self.exit_code = exit_code
        self.stderr = stderr
        super().__init__(message)


#: What a person can do about ``NotLoggedIn``.
HOW_TO_LOG_IN = (
    "Run `claude` in a terminal and log in, or set ANTHROPIC_API_KEY in the environment that the "
    "server or kernel starts in"
)


class NotLoggedIn(ClaudeError):
    """Claude Code runs, and has neither a login nor a key; or the API refused the one it has.

    ``said`` is what the API answered to a key that it refused.
    """

    def __init__(self, said: str | None = None) -> None:
        what = (
            f"Claude Code's login was refused ({said})."
            if said
            else "Claude Code is not logged in."
        )
        super().__init__(f"{what} {HOW_TO_LOG_IN}; `jupyter ccapi doctor` says more.")


class Busy(ClaudeError):
    """No process came free in time. ``retry_after`` is in seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class QueueFull(Busy):
    """So many requests wait already that this one was not queued."""


class QueueTimeout(Busy):
    """The request waited in the queue until its deadline."""


class TurnFailed(ClaudeError):
    """A turn began and did not end well; its conversation can go on."""


class ModelError(TurnFailed):
    """The model's API answered an error.

    ``status`` is its HTTP status, None where the CLI did not say; ``retry_after`` is in seconds.
    """

    def __init__(
        self, message: str, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        self.status = status
        self.retry_after = retry_after
        super().__init__(message)


class RateLimited(ModelError):
    """The account's limit is reached (the API's 429)."""


class Overloaded(ModelError):
    """The model is overloaded (the API's 529 or 503)."""


class PromptTooLong(TurnFailed):
    """The prompt and what was said before it do not fit into the model's context."""

    def __init__(self) -> None:
        super().__init__(
            "The conversation is too long for the model: shorten it, or begin a new one."
        )


class ProcessDied(TurnFailed):
    """The CLI ended in the middle of a turn.

    ``exit_code`` is negative for a signal, as in ``subprocess``.
    """

    def __init__(self, message: str, *, exit_code: int | None = None, stderr: str = "") -> None:
        self.exit_code = exit_code
        self.stderr = stderr
        super().__init__(message)


class TurnTimeout(TurnFailed):
    """The turn took longer than it may; it was interrupted."""


class BudgetSpent(ClaudeError):
    """A conversation may spend nothing more; its prompt was not sent."""

    def __init__(self, budget_usd: float) -> None:
        super().__init__(f"The conversation's budget of ${budget_usd:.2f} is spent.")


class ControlRefused(ClaudeError):
    """The CLI said no to a control request (``subtype``), or does not know it; ``said`` is its
    answer.
    """

    def __init__(self, subtype: str, said: str) -> None:
        self.subtype = subtype
        self.said = said
        super().__init__(f"Claude Code did not do what it was asked ({subtype}): {said}")


class CannotSnapshot(ClaudeError):
    """A snapshot of a folder's files cannot be taken, or those that were cannot be used."""


class ChangedSince(ClaudeError):
    """Files are not what they were expected to be: somebody has changed them since.

    ``paths`` are theirs.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = tuple(paths)
        named = ", ".join(repr(path) for path in self.paths[:5])
        more = f" and {len(self.paths) - 5} more" if len(self.paths) > 5 else ""
        super().__init__(
            f"Changed by another hand since: {named}{more}. Nothing was restored, as that change "
            "would be lost."
        )


class RewindRefused(ClaudeError):
    """A rewind cannot be done as asked, and nothing was; ``conflicts`` are the files that another
    hand has changed.
    """

    def __init__(self, message: str, *, conflicts: Sequence[str] = ()) -> None:
        self.conflicts = tuple(conflicts)
        super().__init__(message)


class ConversationInUse(ClaudeError):
    """Somebody else has the conversation open: two at once would lose what each other keeps."""


class ConversationClosed(ClaudeError):
    """The conversation, or the pool behind it, is closed."""

    def __init__(self, what: str = "conversation") -> None:
        super().__init__(
            "Claude Code is being shut down here: try again when the server or kernel is back."
            if what == "pool"
            else f"This {what} is closed; start a new one."
        )
