"""How far a batch has come, in a line below the cell."""

import sys
from html import escape
from types import TracebackType

from IPython.core.getipython import get_ipython
from IPython.display import DisplayHandle

from jupyter_ccapi.claude import ClaudeError, TurnEnd

from .showing import show

_WIDTH = 30


class Progress:
    """A bar that fills; a context, at whose end it says what all has cost. In a terminal it is one
    line that is written over, on stderr; where that is no terminal, nothing.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = self._failed = 0
        self._cost = 0.0
        self._kernel = getattr(get_ipython(), "kernel", None) is not None
        self._terminal = not self._kernel and sys.stderr is not None and sys.stderr.isatty()
        self._handle: DisplayHandle | None = None

    def __enter__(self) -> "Progress":
        """Show it, empty."""
        self._draw()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave it as it is."""
        self._draw()
        if self._terminal:
            sys.stderr.write("\n")

    def count(self, result: TurnEnd | ClaudeError) -> None:
        """One more is done."""
        self._done += 1
        if isinstance(result, ClaudeError):
            self._failed += 1
        else:
            self._cost += result.cost_usd
        self._draw()

    def _draw(self) -> None:
        filled = _WIDTH * self._done // max(self._total, 1)
        bar = "█" * filled + "░" * (_WIDTH - filled)
        parts = [f"{self._done} of {self._total}"]
        parts += [f"{self._failed} failed"] if self._failed else []
        parts += [f"${self._cost:.4f}"] if self._cost else []
        text = f"{bar} {' · '.join(parts)}"
        if self._terminal:
            sys.stderr.write(f"\r{text}")
            sys.stderr.flush()
        if not self._kernel:
            return
        bundle = {"text/html": f"<small><code>{escape(text)}</code></small>", "text/plain": text}
        self._handle = show(bundle, self._handle)
