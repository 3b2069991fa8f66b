"""Ask the person at a running cell for permission: with buttons, in words, or not at all."""

import asyncio
import builtins
import importlib.util
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from IPython.core.error import StdinNotImplementedError
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import DisplayHandle, display

from jupyter_ccapi.claude import Answer, ClaudeError, PermissionRequest, PermissionResolved

from . import permission
from .interrupting import keyboard_interrupts
from .looks import Bundle

if TYPE_CHECKING:
    from .approval_card import ApprovalCard

How = Literal["auto", "widget", "input", "deny"]

#: The first ipykernel that delivers a click while an async cell runs.
_CLICKS = (7, 4)


class Approvals:
    """Puts the permission requests of a cell to its person. Its methods are for the cell's own
    task, on the kernel's loop.

    ``how`` is ``widget``, ``input``, or ``deny``; ``auto`` takes what there is: buttons in a
    kernel that delivers clicks meanwhile, words where something can be typed, and where nobody is
    there (nbclient, papermill) all is denied.
    """

    def __init__(self, shell: InteractiveShell | None, how: How = "auto") -> None:
        self._shell = shell
        self._how = how
        self._open: dict[str, _Asked] = {}

    def ask(self, request: PermissionRequest, answer: Callable[[Answer], None]) -> None:
        """Put a request. ``answer`` is called once, now or when there is an answer; several may
        be open at once.
        """
        asked = self._open[request.id] = _Asked(request, self._in_kernel)
        how = way(self._shell) if self._how == "auto" else self._how
        if how == "widget" and not _held_up():
            from .approval_card import ApprovalCard

            asked.card = ApprovalCard(request, answer)
            asked.show(asked.card.bundle())
        elif how == "deny":
            _give(answer, Answer("deny", message=permission.nobody(request)))
        else:
            self._ask_in_words(asked, answer)

    def resolved(self, event: PermissionResolved) -> None:
        """A request was answered: a line that says so takes the place of what asked."""
        asked = self._open.pop(event.id, None)
        if asked is not None:
            asked.settle(event)

    def close(self) -> None:
        """The cell is over: of what is still open nothing stays that could be clicked."""
        while self._open:
            self._open.popitem()[1].settle(None)

    @property
    def _in_kernel(self) -> bool:
        return getattr(self._shell, "kernel", None) is not None

    def _ask_in_words(self, asked: "_Asked", answer: Callable[[Answer], None]) -> None:
        """Ask with ``input()``: nothing else happens in the kernel meanwhile."""
        request = asked.request
        if self._in_kernel:
            asked.show(
                {"text/html": permission.html(request), "text/plain": permission.text(request)}
            )
        else:
            print(permission.text(request, colours=sys.stdout.isatty()))
        try:
            with keyboard_interrupts():
                typed = _typed(permission.question(request))
        except KeyboardInterrupt:
            # The stop button: it is for whoever waits for the turn, and ends the question with it.
            signal.raise_signal(signal.SIGINT)
            return
        except (EOFError, StdinNotImplementedError):
            _give(answer, Answer("deny", message=permission.nobody(request)))
            return
        _give(answer, read(typed))


def way(shell: Any) -> Literal["widget", "input", "deny"]:
    """How a person can be asked at this moment."""
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return "input" if sys.stdin is not None and sys.stdin.isatty() else "deny"
    if not getattr(kernel, "_allow_stdin", False):
        return "deny"
    version = str(getattr(kernel, "implementation_version", ""))
    clicks = tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) >= _CLICKS
    return "widget" if clicks and importlib.util.find_spec("ipywidgets") else "input"


def read(typed: str) -> Answer:
    """What somebody means who has typed this."""
    match typed.strip().lower():
        case "y" | "yes":
            return Answer("allow")
        case "a" | "always":
            return Answer("allow", "conversation")
        case "n" | "no":
            return Answer("deny")
        case _:
            return Answer("deny", message=typed.strip())


def _held_up() -> bool:
    """Whether code that blocks drives the loop from within, as `Claude.ask` does with nest-asyncio:
    no click arrives meanwhile.
    """
    return int(getattr(asyncio.get_running_loop(), "_num_runs_pending", 1)) > 1


def _give(answer: Callable[[Answer], None], given: Answer) -> None:
    """Answer; a turn that is over meanwhile needs no answer any more."""
    with suppress(ClaudeError):
        answer(given)


def _typed(question: str) -> str:
    """Ask until something is typed."""
    while not (typed := builtins.input(question).strip()):
        pass
    return typed


class _Asked:
    """A request that waits for its answer, and what of it is on display."""

    def __init__(self, request: PermissionRequest, displays: bool) -> None:
        self.request = request
        self.card: ApprovalCard | None = None
        self._displays = displays
        self._handle: DisplayHandle | None = None

    def show(self, bundle: Bundle) -> None:
        """Display a bundle, or replace what is displayed."""
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)  # type: ignore[no-untyped-call]

    def settle(self, event: PermissionResolved | None) -> None:
        """Show how it ended. A terminal says it on the call's own line."""
        if self._displays:
            self.show(permission.settled(self.request, event))
        if self.card is not None:
            self.card.close()
