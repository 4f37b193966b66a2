"""The speed-up of an engine over its framework's baseline, measured in one sitting.

The baseline is the framework itself, eager and in FP32, on the same device, at the same inputs and threads. Both run in turns,
each time in a fresh process (so what one process happened to be given, its memory's place for one, is drawn anew), the order
turned round each time (so what drifts, a clock for one, falls on both). A round gives one window each.

The interval is the percentile bootstrap (Efron 1979, https://doi.org/10.1214/aos/1176344552) of the median over rounds of the
ratio of the windows' medians: rounds are drawn with replacement, and in each the samples of both windows.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from builder.plan import METHOD

ROUNDS = 8
RESAMPLES = 2000
CONFIDENCE = 0.95
AGREE = 0.05
"""A speed-up is `settled` when its interval reaches no farther than this share to either side."""
ROUND_METHOD: Mapping[str, Any] = {
    **METHOD, "warmup_seconds": 0.25, "window_seconds": 0.25, "windows": 1, "last": 1, "batches": False,
}  # fmt: skip
"""One window in each process; whether they agree is for the interval to say. Half as long as where one process gives the figure:
how processes differ is more than how a window does, and sixteen of them are begun for each cell."""


def speedup(pairs: Sequence[tuple[Sequence[float], Sequence[float]]], *, seed: int = 7) -> dict[str, Any]:
    """{"status", "ratio", "low", "high", "confidence", "rounds"} of (baseline's samples, engine's samples) by round, in s.

    `ratio` is baseline / engine: 2.0 is twice as fast. It is None where the interval is too wide (`unstable`) or there is none:
    fewer than three rounds tell nothing of how rounds differ. Raises ValueError for a round without samples.
    """
    if any(not baseline or not engine for baseline, engine in pairs):
        raise ValueError("a round without samples")
    out: dict[str, Any] = {
        "status": "unstable", "ratio": None, "low": None, "high": None, "confidence": CONFIDENCE, "rounds": len(pairs),
    }  # fmt: skip
    if len(pairs) < 3:
        return out
    ratios = [statistics.median(baseline) / statistics.median(engine) for baseline, engine in pairs]
    ratio = statistics.median(ratios)
    draw = random.Random(seed)
    drawn = []
    for _ in range(RESAMPLES):
        chosen = draw.choices(pairs, k=len(pairs))
        drawn.append(statistics.median(_again(draw, baseline) / _again(draw, engine) for baseline, engine in chosen))
    drawn.sort()
    edge = (1 - CONFIDENCE) / 2
    out["low"], out["high"] = _quantile(drawn, edge), _quantile(drawn, 1 - edge)
    if out["low"] >= ratio * (1 - AGREE) and out["high"] <= ratio * (1 + AGREE):
        out.update(status="settled", ratio=ratio)
    return out


_MOST = 100
"""Samples of a window that are drawn from: the spread of a median of hundreds is far below that between rounds."""


def _again(draw: random.Random, samples: Sequence[float]) -> float:
    some = samples if len(samples) <= _MOST else samples[:: -(-len(samples) // _MOST)]
    return statistics.median(draw.choices(some, k=len(some)))


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def order(number: int) -> tuple[str, str]:
    """Who goes first in a round: the first two begin with the baseline and with the engine, and so on in turns."""
    return ("baseline", "engine") if number % 2 == 0 else ("engine", "baseline")
