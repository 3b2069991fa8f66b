"""A run as a table for people and as JSON for programs."""

import json
import os
import platform
import subprocess
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from jupyter_ccapi._version import __version__
from jupyter_ccapi.claude import find_cli
from tests.benchmarks.measuring import Figure
from tests.benchmarks.targets import Verdict, judge

_SHARES = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
_HEAD = ("", "", "p50", "p95", "", "n", "target", "here", "", "processes")


@dataclass(frozen=True, slots=True)
class Report:
    """A run: when it began (ISO 8601), how long it took, on what, what was found, and what could
    not be measured, by letter, with the reason.
    """

    began: str
    seconds: float
    machine: dict[str, Any]
    figures: list[Figure]
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def in_order(self) -> list[Figure]:
        """The figures by their letters."""
        return sorted(self.figures, key=lambda figure: figure.key[0])

    @property
    def verdicts(self) -> list[Verdict]:
        """Which targets are met."""
        return judge({figure.key: figure for figure in self.figures})


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    cli = subprocess.run(
        [find_cli().path, "--version"], capture_output=True, text=True, timeout=20, check=False
    )
    return {
        "cpus": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "claude_code": cli.stdout.partition(" ")[0],
        "claude_agent_sdk": version("claude-agent-sdk"),
        "tornado": version("tornado"),
        "jupyter_ccapi": __version__,
    }


class Others:
    """How much of the processors other programs take, from now on: where they take much, the
    figures say little.
    """

    def __init__(self) -> None:
        self._began, self._taken = time.monotonic(), _taken_by_others()

    def share(self) -> float:
        """Their share so far. Our own processes count as ours once they have ended."""
        seconds = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        return max(0.0, (_taken_by_others() - self._taken) / seconds)


def _taken_by_others() -> float:
    """Seconds of processor time, ever: all that was not idle, without ours."""
    times = psutil.cpu_times()._asdict()
    busy = sum(times[name] for name in ("user", "nice", "system", "irq", "softirq", "steal"))
    return float(busy - sum(os.times()[:4]))


def table(report: Report) -> str:
    """The run as text: a line for each figure, then what could not be measured."""
    verdicts = {verdict.key: verdict for verdict in report.verdicts}
    rows: list[tuple[str, ...]] = [_HEAD]
    for figure in report.in_order:
        rows.append(_row(figure, verdicts.get(figure.key)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = {2, 3, 5}
    lines = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines += [f"{key}  NOT MEASURED: {reason}" for key, reason in sorted(report.failures.items())]
    about = report.machine
    return "\n".join(
        [
            *lines,
            "",
            f"{about['cpus']} CPUs, {about['others']:.0%} of them taken by other programs "
            f"meanwhile; Python {about['python']}, Claude Code {about['claude_code']}; "
            f"{report.seconds:.0f} seconds",
        ]
    )


def _row(figure: Figure, verdict: Verdict | None) -> tuple[str, ...]:
    letter = "" if "." in figure.key else figure.key
    p95 = f"{figure.p95:.1f}" if figure.unit == "ms" else ""
    said = {True: "met", False: "MISSED", None: "?"}
    return (
        letter,
        figure.label,
        f"{figure.p50:.1f}",
        p95,
        figure.unit,
        str(len(figure.samples)),
        verdict.target if verdict else "",
        verdict.measured if verdict else "",
        said[verdict.met] if verdict else "",
        ", ".join(f"{how} {count}" for how, count in sorted(figure.processes.items())),
    )


def write_json(report: Report, path: Path) -> None:
    """Write all of it, with more percentiles than the table has."""
    figures = [
        {
            "key": figure.key,
            "label": figure.label,
            "unit": figure.unit,
            "count": len(figure.samples),
            "min": round(min(figure.samples), 3),
            **{f"p{share * 100:.0f}": round(figure.percentile(share), 3) for share in _SHARES},
            "max": round(max(figure.samples), 3),
            "processes": dict(figure.processes),
        }
        for figure in report.in_order
    ]
    whole = {
        "began": report.began,
        "seconds": round(report.seconds, 1),
        "machine": report.machine,
        "figures": figures,
        "verdicts": [asdict(verdict) for verdict in report.verdicts],
        "not_measured": report.failures,
    }
    path.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", "utf-8")
