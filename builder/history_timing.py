"""Is a cell slower or faster than it was? Two measurements, compared by a bootstrap interval of the ratio of their medians.

Method: the percentile bootstrap (B. Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7, 1979)
of the median over the medians of the windows that a settled figure rests on, for the ratio of two independent samples. With
so few windows nothing is drawn at random: how often each window's median is the median of a resample follows from the
binomial distribution (J. Maritz and R. Jarrett, "A Note on Estimating the Variance of the Sample Median", JASA 73, 1978), so
that the interval is exact and the same each time.

What it does not cover: each side is one process, and processes of the same engine differ among themselves. The interval alone
would call one unchanged cell in ten changed: so often (2 of the 20 orders of 3 + 3 windows) do three windows all lie
beyond the three others by chance. So a change is told only where the interval excludes 1 and the ratio is further from 1 than
a threshold, which is never less than three times what cells differ by where nothing changed (the noise floor), and is
wider while too few of those are known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

WINDOWS = 3
"""The last windows of a settled measurement: its figures are theirs (builder/worker/timing.py, METHOD["last"])."""
LEVEL = 0.95
THRESHOLD = 0.05
"""Least relative change that is told: the windows of one measurement may differ by as much (METHOD["agree"])."""
UNKNOWN = 0.10
"""The same while no noise floor is known; see above."""
BUSY = THRESHOLD
"""Share of the machine's processors from which other processes may have made a difference as large."""
PAIRS = 5
"""Least number of unchanged cells that a noise floor rests on."""
FLOORS = 3
"""A change is told from this many noise floors on."""
METHOD = (
    f"ratio of medians, new over old, over the last {WINDOWS} windows' medians; exact percentile bootstrap interval "
    f"({LEVEL:.0%}); told where it excludes 1 and the change is over the threshold"
)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """New over old: 1.2 is 20 % slower."""

    ratio: float
    low: float
    high: float
    old: float
    """Seconds."""
    new: float

    def verdict(self, threshold: float) -> str:
        """`slower`, `faster` or `same`; threshold: relative, 0.05 is 5 % either way."""
        if self.low > 1 and self.ratio > 1 + threshold:
            return "slower"
        if self.high < 1 and self.ratio < 1 / (1 + threshold):
            return "faster"
        return "same"

    def as_dict(self) -> dict[str, float]:
        return {"ratio": self.ratio, "low": self.low, "high": self.high, "old": self.old, "new": self.new}


def windows(measure: Mapping[str, Any] | None) -> list[float]:
    """Medians (s) of the windows that a cell's `measure` rests on; [] where it did not settle or has too few."""
    if not measure or measure.get("status") != "settled":
        return []
    found = [float(window["median"]) for window in measure.get("windows") or () if isinstance(window, Mapping)]
    return found[-WINDOWS:] if len(found) >= WINDOWS and min(found) > 0 else []


def busy(measure: Mapping[str, Any] | None, machine: Mapping[str, Any] | None) -> bool:
    """Whether other processes took so much of the machine while a cell was timed that its times say little."""
    load = (measure or {}).get("load") or {}
    others = sum(float(process.get("share") or 0) for process in load.get("foreign") or ())
    return others > BUSY * int((machine or {}).get("cores") or 1)


def compare(old: Sequence[float], new: Sequence[float]) -> Compared:
    """Two samples of window medians (s), each an odd number of positive ones. Raises ValueError for others."""
    ratios = sorted(
        (after / before, p * q) for before, p in medians(old).items() for after, q in medians(new).items()
    )  # fmt: skip
    tail = (1 - LEVEL) / 2
    return Compared(
        ratio=median(new) / median(old), low=_quantile(ratios, tail), high=_quantile(reversed(ratios), tail),
        old=median(old), new=median(new),
    )  # fmt: skip


def medians(sample: Sequence[float]) -> dict[float, float]:
    """The median of a resample with replacement, as large as the sample: value -> probability. Raises ValueError for a sample
    that is even in number, whose medians need not be of it, or that holds what is no positive number."""
    number = len(sample)
    if number % 2 == 0 or not all(0 < value < math.inf for value in sample):
        msg = "compares an odd number of positive values"
        raise ValueError(msg)
    out: dict[float, float] = {}
    below = 0.0
    for rank, value in enumerate(sorted(sample), start=1):
        upto = _at_least(number, rank / number, (number + 1) // 2)
        out[value] = out.get(value, 0.0) + upto - below
        below = upto
    return out


def _at_least(number: int, chance: float, least: int) -> float:
    """That of `number` trials at least `least` succeed."""
    return sum(math.comb(number, k) * chance**k * (1 - chance) ** (number - k) for k in range(least, number + 1))


def _quantile(ratios: Iterable[tuple[float, float]], tail: float) -> float:
    """The first value by which more than `tail` of the probability is passed."""
    passed = 0.0
    for value, probability in ratios:
        passed += probability
        if passed > tail:
            return value
    raise AssertionError("the probabilities sum to 1")


def floor(unchanged: Sequence[Compared]) -> float | None:
    """Median relative difference of cells where nothing changed; None where too few were measured in both runs."""
    if len(unchanged) < PAIRS:
        return None
    return math.expm1(median(abs(math.log(pair.ratio)) for pair in unchanged))


def threshold(noise: float | None) -> float:
    """Least relative change that is told, for a noise floor or None."""
    return max(THRESHOLD, FLOORS * noise) if noise is not None else UNKNOWN
