"""`python -m tests.benchmarks`: measure the whole in one run, on one offline model.

Each measurement has a letter; `--only` picks some. Figures that a target compares are measured
beside those that were picked. The exit code is 0 also where a target is missed, and 1 where
something could not be measured.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from tests.benchmarks import audience, core, gateway, load, snapshots
from tests.benchmarks.measuring import Figure
from tests.benchmarks.plot import draw
from tests.benchmarks.report import Others, Report, machine, table, write_json
from tests.benchmarks.setting import QUICK, ModelProcess, Setting, Sizes
from tests.servers import REPOSITORY

Measure = Callable[[Setting, Collection[str]], list[Figure]]

#: What is measured together, by the letters that it yields.
GROUPS: dict[str, Measure] = {
    "acf": gateway.next_turns,
    "bde": gateway.beginnings,
    "g": lambda setting, _: load.streams(setting),
    "h": lambda setting, _: load.one_shots(setting),
    "i": lambda setting, _: core.memory(setting),
    "j": lambda setting, _: core.interrupts(setting),
    "k": lambda setting, _: snapshots.turns(setting),
    "l": lambda setting, _: audience.one_session(setting),
    "m": lambda setting, _: audience.many_sessions(setting),
    "n": lambda setting, _: audience.replays(setting),
}
LETTERS = "abcdefghijklmn"
COMPARED_WITH = {"c": "a", "f": "a", "d": "b", "e": "b"}

# Seconds that one group may take; then it hangs.
_PATIENCE = 180


def main() -> int:
    """Measure, print the table, write the files; return the exit code."""
    options = _options()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    began, clock = datetime.now(UTC), time.monotonic()
    about, others = machine(), Others()
    figures, failures = _measure(options.only, QUICK if options.quick else Sizes())
    about["others"] = round(others.share(), 3)
    seconds = time.monotonic() - clock
    report = Report(began.isoformat(timespec="seconds"), seconds, about, figures, failures)
    print(table(report))
    write_json(report, out / "benchmark.json")
    draw(report, out / "benchmark.png")
    _say(f"Wrote benchmark.json and benchmark.png to {out}")
    return 1 if failures else 0


def _measure(letters: str, sizes: Sizes) -> tuple[list[Figure], dict[str, str]]:
    """The figures, and by letter why there are none."""
    wanted = {*letters, *(COMPARED_WITH.get(letter, letter) for letter in letters)}
    figures: list[Figure] = []
    failures: dict[str, str] = {}
    clock = time.monotonic()
    with ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="ccapi-bench-", ignore_cleanup_errors=True)
        )
        setting = Setting(Path(folder), stack.enter_context(ModelProcess()), sizes)
        for group, measure in GROUPS.items():
            if picked := wanted & set(group):
                _say(f"{time.monotonic() - clock:4.0f} s  {', '.join(sorted(picked))} …")
                try:
                    with _deadline():
                        figures += measure(setting, picked)
                except Exception as error:
                    failures |= dict.fromkeys(picked, f"{type(error).__name__}: {error}")
    return figures, failures


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="few samples, only to see that everything runs"
    )
    parser.add_argument(
        "--only", type=_letters, default=LETTERS, metavar="a,b,c", help="these measurements alone"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=REPOSITORY / "build" / "benchmarks",
        metavar="FOLDER",
        help="where the files go (default: build/benchmarks)",
    )
    return parser.parse_args()


def _letters(text: str) -> str:
    letters = text.replace(",", "").replace(" ", "").lower()
    if unknown := set(letters) - set(LETTERS):
        raise argparse.ArgumentTypeError(
            f"there is no measurement {', '.join(sorted(unknown))}: they are a to n"
        )
    return letters


@contextmanager
def _deadline() -> Iterator[None]:
    """Raise ``TimeoutError`` in what takes longer than the patience."""

    def expired(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it took longer than {_PATIENCE} seconds")

    signal.signal(signal.SIGALRM, expired)
    signal.alarm(_PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
