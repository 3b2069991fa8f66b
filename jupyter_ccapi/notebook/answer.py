"""What a prompt came to, for a program."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jupyter_ccapi.claude import TurnEnd, Usage

_SHOWN = 60


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """Claude's answer. `value` is what it is as a value: with a schema what that describes, else
    the text. `end` says how the turn came to its end, and what it has cost.
    """

    text: str
    value: Any
    end: TurnEnd

    @classmethod
    def of(cls, end: TurnEnd, make: Callable[[Any], Any] | None = None) -> "Answer":
        """The answer that a turn has ended with; `make` makes its value of a structured one.
        Raises what `make` raises.
        """
        if make is None or end.structured_output is None:
            return cls(end.text, end.text, end)
        return cls(end.text, make(end.structured_output), end)

    @property
    def usage(self) -> Usage:
        """Tokens of the turn."""
        return self.end.usage

    @property
    def cost_usd(self) -> float:
        """What the turn has cost, in USD."""
        return self.end.cost_usd

    @property
    def model(self) -> str:
        """The model's full name."""
        return self.end.model

    @property
    def checkpoint(self) -> int | None:
        """The prompt's number in its conversation."""
        return self.end.checkpoint

    def __str__(self) -> str:
        """The text."""
        return self.text

    def __repr__(self) -> str:
        """Its beginning, and what it has cost."""
        words = " ".join(self.text.split())
        short = words if len(words) <= _SHOWN else f"{words[: _SHOWN - 1]}…"
        return f"<Answer {short!r}, {self.usage.total_tokens:,} tokens, ${self.cost_usd:.4f}>"

    def _repr_markdown_(self) -> str:
        return self.text
