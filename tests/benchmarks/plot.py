"""A run as a picture: first deltas on the left, what many clients get through on the right."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture

from tests.benchmarks.measuring import Figure
from tests.benchmarks.report import Report

_INK = "#3f4652"
_FAINT = "#8b93a1"
_OURS = "#8fb3d1"
_OTHERS = "#d5d9e0"
_TARGET = "#c98a5e"

_FIRST_DELTAS = {
    "a": "CLI alone, warm (a)",
    "c": "next turn (c)",
    "f": "long history resent (f)",
    "e": "new, prompt seen (e)",
    "d": "new, prompt never seen (d)",
    "b": "cold CLI (b)",
    "b.query": "cold query() of the SDK (b)",
}
_STREAMS = {"g": "gateway", "g.bare": "bare Tornado\nhandler"}
_ONE_SHOTS = {"h": "gateway", "h.cold": "cold CLIs"}


def draw(report: Report, path: Path) -> None:
    """Write the picture as PNG. What was not measured is left out."""
    figures = {figure.key: figure for figure in report.figures}
    limits = {one.key: one.limit for one in report.verdicts if one.limit is not None}
    picture = Picture(figsize=(11, 4.6), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(picture)
    grid = picture.add_gridspec(2, 2, width_ratios=(1.75, 1))
    panels = (
        (grid[:, 0], _FIRST_DELTAS, "Time to the first delta, in ms"),
        (grid[0, 1], _STREAMS, "Streams of 100 deltas per second (g)"),
        (grid[1, 1], _ONE_SHOTS, "One-shot requests per second (h)"),
    )
    for place, labels, title in panels:
        _bars(picture.add_subplot(place), figures, labels, limits, title)
    about = report.machine
    picture.supxlabel(
        "Bars to the p50, lines to the p95, marks where the targets are; on the right 16 clients "
        f"at once. {about.get('cpus')} CPUs, Claude Code {about.get('claude_code')}, offline model",
        fontsize=8,
        color=_FAINT,
    )
    picture.savefig(path)


def _bars(
    axes: Axes,
    figures: dict[str, Figure],
    labels: dict[str, str],
    limits: dict[str, float],
    title: str,
) -> None:
    """Horizontal bars, the first on top, each with its value behind it."""
    shown = [figures[key] for key in labels if key in figures]
    _frame(axes, title)
    if not shown:
        axes.set_xticks([])
        axes.text(0, 0.5, "not measured", transform=axes.transAxes, color=_FAINT, fontsize=9)
    axes.set_yticks(range(len(shown)), [labels[figure.key] for figure in shown])
    widest = max((_end(figure, limits) for figure in shown), default=1.0)
    axes.set_xlim(0, widest * 1.2)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    for row, figure in enumerate(shown):
        ours = figure.key in ("c", "d", "e", "f", "g", "h")
        axes.barh(row, figure.p50, height=0.62, color=_OURS if ours else _OTHERS)
        if figure.unit == "ms":
            axes.plot([figure.p50, figure.p95], [row, row], color=_INK, linewidth=1)
        if figure.key in limits:
            limit = limits[figure.key]
            axes.plot([limit, limit], [row - 0.38, row + 0.38], color=_TARGET, linewidth=2)
        axes.annotate(
            _value(figure),
            (_clear(figure, limits, widest), row),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=_INK,
            fontsize=9,
        )


def _frame(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=_INK)
    axes.tick_params(left=False, labelcolor=_INK, labelsize=9, color=_OTHERS)
    axes.tick_params(axis="x", labelcolor=_FAINT, labelsize=8)
    axes.grid(axis="x", color="#eef0f3")
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _end(figure: Figure, limits: dict[str, float]) -> float:
    """Where a row ends: its bar, its line or its mark."""
    return max(figure.p50, _spread(figure), limits.get(figure.key, 0.0))


def _spread(figure: Figure) -> float:
    """Where its line ends; a rate has none."""
    return figure.p95 if figure.unit == "ms" else figure.p50


def _clear(figure: Figure, limits: dict[str, float], widest: float) -> float:
    """Where there is room for its value: behind the line, or behind a mark that would cross it."""
    spread, limit = _spread(figure), limits.get(figure.key, 0.0)
    return limit if spread < limit < spread + 0.12 * widest else spread


def _value(figure: Figure) -> str:
    digits = 1 if figure.p50 < 10 else 0
    return f"{figure.p50:.{digits}f}"
