"""What a prompt came to, for a program."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jupyter_ccapi.claude import TurnEnd, Usage

from .errors import CellError

_SHOWN = 60


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """Claude's answer. `value` is what it is as a value: with a schema what that describes, else
    the text. `end` says how the turn came to its end (`completed`, or what kept it from that:
    `max_budget`, `max_turns`, `interrupted`), and what it has cost.
    """

    text: str
    value: Any
    end: TurnEnd

    @classmethod
    def of(cls, end: TurnEnd, make: Callable[[Any], Any] | None = None) -> "Answer":
        """The answer that a turn has ended with; `make` makes its value of a structured one.
        Raises what `make` raises, and `CellError` where there is none to make it of.
        """
        if make is None:
            return cls(end.text, end.text, end)
        if end.structured_output is None:
            why = "the model said only text" if end.reason == "completed" else end.reason
            raise CellError(f"There is no answer that fulfils the schema: {why}.")
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
        told = [repr(short)] if self.end.reason == "completed" else [repr(short), self.end.reason]
        told += [f"{self.usage.total_tokens:,} tokens", f"${self.cost_usd:.4f}"]
        return f"<Answer {', '.join(told)}>"

    def _repr_markdown_(self) -> str:
        return self.text
