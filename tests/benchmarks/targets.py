"""What the figures of one run must be, each in relation to others of the same run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.benchmarks.measuring import Figure

Figures = Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a figure meets its target. ``limit`` is what its p50 may be, in its own unit (a
    rate: must be); ``met`` None means that what it is compared with was not measured.
    """

    key: str
    target: str
    measured: str
    limit: float | None
    met: bool | None


def judge(figures: Figures) -> list[Verdict]:
    """The verdicts on those of the figures that have a target."""
    verdicts = []
    for key, target in _TARGETS.items():
        if key not in figures:
            continue
        if all(needed in figures for needed in target.needs):
            limit, measured, met = target.compare(key, figures)
            verdicts.append(Verdict(key, target.words, measured, limit, met))
        else:
            words = f"without {', '.join(target.needs)}"
            verdicts.append(Verdict(key, target.words, words, None, None))
    return verdicts


_Outcome = tuple[float, str, bool]


@dataclass(frozen=True, slots=True)
class _Target:
    words: str
    needs: tuple[str, ...]
    compare: Callable[[str, Figures], _Outcome]


def _near_the_floor(key: str, figures: Figures) -> _Outcome:
    ours, floor = figures[key], figures["a"]
    usual, seldom = ours.p50 - floor.p50, ours.p95 - floor.p95
    return floor.p50 + 5, f"{usual:+.1f} / {seldom:+.1f} ms", usual <= 5 and seldom <= 15


def _share_of_cold(share: float) -> Callable[[str, Figures], _Outcome]:
    def compare(key: str, figures: Figures) -> _Outcome:
        cold = figures["b"].p50
        found = figures[key].p50 / cold
        return share * cold, f"{found:.2f} x", found <= share

    return compare


def _half_of_bare(key: str, figures: Figures) -> _Outcome:
    ours, bare = figures[key].p50, figures["g.bare"].p50
    limit = max(100.0, bare / 2)
    return limit, f"{ours:.0f} /s, {ours / bare:.2f} x", ours >= limit


def _times_cold(key: str, figures: Figures) -> _Outcome:
    ours, cold = figures[key].p50, figures["h.cold"].p50
    return 7 * cold, f"{ours / cold:.1f} x", ours >= 7 * cold


def _within_100_ms(key: str, figures: Figures) -> _Outcome:
    return 100.0, f"{figures[key].p95:.0f} ms", figures[key].p95 <= 100


def _within_20_ms(key: str, figures: Figures) -> _Outcome:
    return 20.0, f"{figures[key].p95:.1f} ms", figures[key].p95 <= 20


def _within_a_second(key: str, figures: Figures) -> _Outcome:
    return 1000.0, f"{figures[key].p95:.0f} ms", figures[key].p95 <= 1000


def _usually_within_100_ms(key: str, figures: Figures) -> _Outcome:
    return 100.0, f"{figures[key].p50:.0f} ms", figures[key].p50 <= 100


_TARGETS = {
    "c": _Target("p50 <= a + 5 ms, p95 <= a + 15 ms", ("a",), _near_the_floor),
    "d": _Target("p50 <= 0.4 x b", ("b",), _share_of_cold(0.4)),
    "e": _Target("p50 <= 0.2 x b", ("b",), _share_of_cold(0.2)),
    "f": _Target("p50 <= a + 5 ms, p95 <= a + 15 ms", ("a",), _near_the_floor),
    "g": _Target(">= 100 /s, >= 0.5 x bare handler", ("g.bare",), _half_of_bare),
    "h": _Target(">= 7 x cold starts", ("h.cold",), _times_cold),
    "j": _Target("p95 <= 100 ms", (), _within_100_ms),
    "k": _Target("p50 <= 100 ms", (), _usually_within_100_ms),
    "l": _Target("p95 <= 20 ms", (), _within_20_ms),
    "m": _Target("p95 <= 20 ms", (), _within_20_ms),
    "n": _Target("p95 <= 1 s", (), _within_a_second),
    "n.pieces": _Target("p95 <= 1 s", (), _within_a_second),
}
