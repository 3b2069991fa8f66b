"""The lines of a description: of bounded size, and none can break it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class TimeUp(BaseException):
    """An object takes too long to look at. No ``Exception``: user code must not catch it."""


class Sheet:
    """Lines about an object, ``most`` characters in all; ``items`` is how many of a kind fit."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.items = max(5, most // 200)
        self._lines: list[str] = []

    def add(self, text: str) -> None:
        """Add a line, or several."""
        self._lines.append(text)

    def tell(self, label: str, make: Callable[[], object]) -> None:
        """Add what ``make`` returns, unless that is None; or what it raised."""
        try:
            found = make()
            text = None if found is None else str(found)
        except Exception as error:
            text = f"({raised(error)})"
        if text is not None:
            self.add(f"{label}: {text}" if label else text)

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """Within the block, what cannot be found out is left out."""
        try:
            yield
        except Exception:
            return

    def room(self) -> int:
        """How many characters still fit."""
        return max(0, self.most - len(self._text()) - 40)

    def __str__(self) -> str:
        text = self._text()
        if len(text) <= self.most:
            return text
        said = f"\n… (cut at {self.most:,} characters)"
        return text[: self.most - len(said)] + said

    def _text(self) -> str:
        return "\n".join(self._lines)


def shorten(text: str, most: int) -> str:
    """The beginning of a text, in at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def raised(error: BaseException) -> str:
    """Say what user code raised."""
    name = f"it raised {type(error).__name__}"
    try:
        text = shorten(" ".join(str(error).split()), 200)
    except Exception:
        return f"{name}, whose message cannot be read"
    return f"{name}: {text}" if text else name


def bytes_text(count: float) -> str:
    """A number of bytes for people."""
    if count < 1024:
        return f"{count:.0f} bytes"
    for unit in ("KB", "MB", "GB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:,.1f} TB"
