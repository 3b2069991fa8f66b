"""Samples and their percentiles, and how samples are taken: in turns, so that the machine's noise
hits all that is compared alike.
"""

import gc
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

Unit = Literal["ms", "/s", "MB"]

# What a process still does after its turn is not part of the next one.
_PAUSE = 0.02


class Reading(NamedTuple):
    """One value that was read, and where the server says it, how the turn came to its process:
    live, recycled, bound, spare or cold.
    """

    value: float
    process: str = ""


#: Takes one sample; it may have readings for several figures, by their keys.
Sample = Callable[[], Mapping[str, Reading]]


class NotMeasured(Exception):
    """Something did not answer as it must for a figure to mean anything; the message says what."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report: all samples of one measurement, in its unit, under a key that
    begins with the letter of the measurement. ``processes`` counts how its turns came to theirs.
    """

    key: str
    label: str
    unit: Unit
    samples: tuple[float, ...]
    processes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, key: str, label: str, unit: Unit, readings: Sequence[Reading]) -> Self:
        """The figure that these readings make."""
        processes = Counter(reading.process for reading in readings if reading.process)
        return cls(key, label, unit, tuple(reading.value for reading in readings), processes)

    def percentile(self, share: float) -> float:
        """The sample that this share of all samples does not exceed (the nearest rank)."""
        ranked = sorted(self.samples)
        return ranked[max(math.ceil(share * len(ranked)) - 1, 0)]

    @property
    def p50(self) -> float:
        """The median."""
        return self.percentile(0.5)

    @property
    def p95(self) -> float:
        """What one sample in twenty exceeds."""
        return self.percentile(0.95)


@dataclass(frozen=True, slots=True)
class Series:
    """A block of ``count`` samples in every round, after ``unmeasured`` ones that are thrown
    away.
    """

    take: Sample
    count: int
    unmeasured: int = 0


def interleave(
    series: Sequence[Series], *, rounds: int, seconds: float
) -> dict[str, list[Reading]]:
    """Take all series in rounds, a block of each; return the readings by key.

    It ends after the round that is the last to fit into the time, in ``seconds``, or after the
    first one.
    """
    found: dict[str, list[Reading]] = {}
    # What was imported is not looked through again and again in the middle of a sample.
    gc.collect()
    gc.freeze()
    began = time.perf_counter()
    for done in range(1, rounds + 1):
        for one in series:
            for number in range(-one.unmeasured, one.count):
                time.sleep(_PAUSE)
                for key, reading in one.take().items():
                    if number >= 0:
                        found.setdefault(key, []).append(reading)
        if (time.perf_counter() - began) * (done + 1) / done > seconds:
            break
    return found


def milliseconds_since(began: float) -> float:
    """How long ago this reading of ``time.perf_counter()`` was."""
    return (time.perf_counter() - began) * 1000
