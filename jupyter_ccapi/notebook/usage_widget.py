"""What a conversation has used and cost, in the output of a cell."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ipywidgets import Layout, VBox  # type: ignore[import-untyped]

from jupyter_ccapi.claude import Usage

from . import widget_parts
from .looks import LINE, MUTED, safe

_CELL = f"{LINE}; padding: 0 24px 0 0"


@dataclass(frozen=True, slots=True)
class KernelUsage:
    """What all conversations of a kernel have used together, and the processes kept ready."""

    conversations: int
    turns: int
    usage: Usage
    cost_usd: float
    warm_processes: int


class Counted(Protocol):
    """The conversation behind it; `notebook.claude.Claude` is one. Where it has a
    ``kernel_usage``, that is shown beside its own.
    """

    @property
    def turns(self) -> int:
        """How many prompts were answered."""

    @property
    def usage_total(self) -> Usage:
        """The tokens of those."""

    @property
    def cost_usd(self) -> float:
        """What those have cost, in USD."""

    def on_change(self, call: Callable[[], None]) -> Callable[[], None]:
        """Have this called after each turn; returns what ends that."""


class UsageWidget(VBox):  # type: ignore[misc]
    """A small table that counts on while the conversation does. Raises ``ClaudeError`` without a
    notebook.
    """

    def __init__(self, claude: Counted) -> None:
        self._loop = widget_parts.running_loop()
        self._claude = claude
        self._table = widget_parts.html()
        super().__init__([self._table], layout=Layout(padding="4px 0"))
        self._forget = claude.on_change(self._count_soon)
        self._count()

    def close(self) -> None:
        """Take it away."""
        if self.comm is not None:  # Python closes a widget again when it forgets it
            self._forget()
            widget_parts.close_parts(self)
        super().close()

    def _count_soon(self) -> None:
        self._loop.call_soon_threadsafe(self._count)

    def _count(self) -> None:
        all_of_it: KernelUsage | None = getattr(self._claude, "kernel_usage", None)
        self._table.value = table(self._claude, all_of_it)


def table(one: Counted, all_of_it: KernelUsage | None) -> str:
    """The table as HTML: this conversation, and all of the kernel."""
    heads, columns = [""], [_figures(one.turns, one.usage_total, one.cost_usd)]
    if all_of_it is not None:
        heads = ["This conversation", f"All {all_of_it.conversations:,} in this kernel"]
        columns.append(_figures(all_of_it.turns, all_of_it.usage, all_of_it.cost_usd))
    rows = [_row("", heads, MUTED)] if all_of_it is not None else []
    rows += [_row(name, [column[name] for column in columns]) for name in columns[0]]
    if all_of_it is not None and all_of_it.warm_processes:
        rows.append(_row("Warm processes", ["", f"{all_of_it.warm_processes:,}"]))
    return f'<table style="border-collapse: collapse">{"".join(rows)}</table>'


def _figures(turns: int, usage: Usage, cost: float) -> dict[str, str]:
    return {
        "Turns": f"{turns:,}",
        "Tokens in": f"{usage.input_tokens:,}",
        "Tokens in, from the cache": f"{usage.cache_read_tokens:,}",
        "Tokens in, newly cached": f"{usage.cache_creation_tokens:,}",
        "Tokens out": f"{usage.output_tokens:,}",
        "Cost": "$0" if not cost else f"${cost:.4f}" if cost < 1 else f"${cost:,.2f}",
    }


def _row(name: str, values: list[str], style: str = "") -> str:
    cells = "".join(
        f'<td style="{_CELL}; {style}; text-align: right; font-variant-numeric: tabular-nums">'
        f"{safe(value)}</td>"
        for value in values
    )
    return f'<tr><td style="{_CELL}; {MUTED}; text-align: left">{safe(name)}</td>{cells}</tr>'
