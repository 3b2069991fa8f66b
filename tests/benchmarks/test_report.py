"""What a run says: its percentiles, its verdicts, its files."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.measuring import Figure, Reading, Series, Unit, interleave
from tests.benchmarks.plot import draw
from tests.benchmarks.report import Report, table, write_json
from tests.benchmarks.targets import Verdict, judge


def figure(key: str, *samples: float, unit: Unit = "ms") -> Figure:
    """A figure with these samples."""
    return Figure(key, f"measurement {key}", unit, samples)


def spread(key: str, p50: float, p95: float) -> Figure:
    """A figure with these percentiles."""
    return figure(key, *[p50] * 90, *[p95] * 9, p95 + 1000)


def verdict(*figures: Figure) -> Verdict:
    """The only verdict on these figures."""
    (found,) = judge({one.key: one for one in figures})
    return found


def report(*figures: Figure, **failures: str) -> Report:
    """A run with these figures."""
    machine = {"cpus": 2, "others": 0.25, "python": "3.11.7", "claude_code": "2.1.330"}
    return Report("2026-11-22T20:00:00+00:00", 12.3, machine, list(figures), failures)


def test_a_percentile_is_the_sample_of_the_nearest_rank() -> None:
    """It is a sample that was taken, whatever their order and number."""
    hundred = figure("a", *reversed([float(number) for number in range(1, 101)]))
    assert (hundred.p50, hundred.p95, hundred.percentile(1)) == (50, 95, 100)
    ten = figure("a", *[float(number) for number in range(1, 11)])
    assert (ten.p50, ten.p95) == (5, 10)
    assert (figure("a", 7.0).p50, figure("a", 7.0).p95) == (7, 7)


def test_series_are_taken_in_blocks_that_alternate() -> None:
    """What is thrown away is taken too, at the beginning of each block."""
    taken: list[str] = []

    def take(key: str) -> dict[str, Reading]:
        taken.append(key)
        return {key: Reading(len(taken))}

    series = [Series(lambda: take("a"), 2), Series(lambda: take("c"), 1, unmeasured=1)]
    found = interleave(series, rounds=2, seconds=60)
    assert "".join(taken) == "aaccaacc"
    values = {key: [reading.value for reading in readings] for key, readings in found.items()}
    assert values == {"a": [1, 2, 5, 6], "c": [4, 8]}


def test_rounds_for_which_there_is_no_time_are_left_out() -> None:
    """The first one is taken in any case."""
    found = interleave([Series(lambda: {"a": Reading(1)}, 3)], rounds=5, seconds=0)
    assert found == {"a": [Reading(1)] * 3}


def test_a_figure_counts_how_its_turns_came_to_their_processes() -> None:
    """As far as the server says it; the table says it too."""
    readings = [Reading(30, "live"), Reading(31, "live"), Reading(700, "cold"), Reading(32)]
    made = Figure.of("c", "next turn", "ms", readings)
    assert made.samples == (30, 31, 700, 32)
    assert made.processes == {"live": 2, "cold": 1}
    assert "cold 1, live 2" in table(report(made))


@pytest.mark.parametrize("key", ["c", "f"])
@pytest.mark.parametrize(
    ("p50", "p95", "met"), [(35, 65, True), (36, 60, False), (30, 66, False), (20, 40, True)]
)
def test_next_turns_are_compared_with_the_floor(
    key: str, p50: float, p95: float, met: bool
) -> None:
    """By both percentiles, in milliseconds."""
    found = verdict(spread("a", 30, 50), spread(key, p50, p95))
    assert (found.key, found.met, found.limit) == (key, met, 35)
    assert found.measured == f"{p50 - 30:+.1f} / {p95 - 50:+.1f} ms"


@pytest.mark.parametrize(
    ("key", "p50", "met"),
    [("d", 200, True), ("d", 201, False), ("e", 100, True), ("e", 101, False)],
)
def test_beginnings_are_compared_with_a_cold_cli(key: str, p50: float, met: bool) -> None:
    """As a share of its first delta, by the median."""
    assert verdict(spread("b", 500, 900), spread(key, p50, 5000)).met is met


@pytest.mark.parametrize(
    ("ours", "bare", "met"), [(100, 200, True), (99, 150, False), (150, 400, False)]
)
def test_streams_must_be_many_and_half_of_the_bare_handlers(
    ours: float, bare: float, met: bool
) -> None:
    """Both must hold."""
    rates = figure("g", ours, unit="/s"), figure("g.bare", bare, unit="/s")
    assert verdict(*rates).met is met


@pytest.mark.parametrize(("ours", "met"), [(21, True), (20, False)])
def test_one_shots_must_be_seven_times_the_cold_starts(ours: float, met: bool) -> None:
    """In the same time on the same machine."""
    rates = figure("h", ours, unit="/s"), figure("h.cold", 3, unit="/s")
    assert verdict(*rates).met is met


@pytest.mark.parametrize(("p95", "met"), [(100, True), (101, False)])
def test_an_interrupt_frees_within_100_ms(p95: float, met: bool) -> None:
    """Not only usually."""
    assert verdict(spread("j", 10, p95)).met is met


@pytest.mark.parametrize(("p50", "met"), [(100, True), (101, False)])
def test_the_snapshots_of_a_turn_cost_at_most_100_ms(p50: float, met: bool) -> None:
    """Both of them together; now and then they may take longer."""
    assert verdict(spread("k", p50, 300)).met is met


@pytest.mark.parametrize("key", ["l", "m"])
@pytest.mark.parametrize(("p95", "met"), [(20, True), (20.5, False)])
def test_clients_are_told_within_20_ms(key: str, p95: float, met: bool) -> None:
    """After the session's log, however many there are."""
    assert verdict(spread(key, 3, p95)).met is met


@pytest.mark.parametrize("key", ["n", "n.pieces"])
@pytest.mark.parametrize(("p95", "met"), [(1000, True), (1001, False)])
def test_who_joins_is_told_all_within_a_second(key: str, p95: float, met: bool) -> None:
    """Whatever of it is in memory."""
    assert verdict(spread(key, 300, p95)).met is met


def test_without_what_it_is_compared_with_a_figure_is_not_judged() -> None:
    """Neither met nor missed."""
    assert verdict(spread("c", 30, 40)).met is None


def test_the_table_says_what_was_missed_and_what_could_not_be_measured() -> None:
    """With the figures and the reason."""
    text = table(report(spread("a", 30, 50), spread("c", 40, 52), h="the server hung up"))
    line = next(line for line in text.splitlines() if line.startswith("c "))
    assert line.endswith("MISSED")
    assert "+10.0 / +2.0 ms" in line
    assert " 40.0 " in line
    assert " 52.0 " in line
    assert "h  NOT MEASURED: the server hung up" in text
    assert "25% of them taken by other programs" in text


def test_the_json_holds_figures_verdicts_and_failures(tmp_path: Path) -> None:
    """All that the table has, and more percentiles."""
    path = tmp_path / "benchmark.json"
    write_json(report(spread("j", 10, 20), i="no /proc"), path)
    found = json.loads(path.read_text())
    (one,) = found["figures"]
    assert (one["key"], one["count"], one["unit"]) == ("j", 100, "ms")
    assert (one["min"], one["p50"], one["p90"], one["p95"], one["max"]) == (10, 10, 10, 20, 1020)
    assert [(v["key"], v["met"]) for v in found["verdicts"]] == [("j", True)]
    assert found["not_measured"] == {"i": "no /proc"}
    assert found["machine"]["cpus"] == 2


@pytest.mark.parametrize("keys", [["a", "b", "c", "d", "e", "f"], ["g", "g.bare", "h"], []])
def test_a_picture_is_drawn_of_whatever_was_measured(tmp_path: Path, keys: list[str]) -> None:
    """What was not measured is left out."""
    path = tmp_path / "benchmark.png"
    draw(report(*[spread(key, 40, 60) for key in keys]), path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n")
