"""Bisection along an ordered axis: between a release that works and one that does not, with as few trials as can be.

Binary search over what lies between two known ends; n releases between them take at most `bound(n)` trials where the answer
changes once and each release tells something. A release that tells nothing (it cannot be installed, or fails for a reason that
is not asked about) is passed over for its nearest neighbour, and if it lies between the two releases that are found in the end,
they say so. What is known already is never tried; where it contradicts a single change, `changes` shows more than one.

Pure: what a trial is, the caller says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Verdict = Literal["good", "bad", "nothing"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """Two places that were told, one good and one bad, and nothing told between them."""

    low: int
    high: int
    first: Verdict
    """What `low` is; `high` is the other."""

    @property
    def good(self) -> int:
        return self.low if self.first == "good" else self.high

    @property
    def bad(self) -> int:
        return self.high if self.first == "good" else self.low


def bound(between: int) -> int:
    """Trials that a single change among so many untried releases takes at most: ceil(log2(between + 1))."""
    return between.bit_length()


def changes(known: Mapping[int, Verdict]) -> list[Change]:
    """Where neighbours among the places that tell something differ, in order."""
    told = [(at, verdict) for at, verdict in sorted(known.items()) if verdict != "nothing"]
    return [
        Change(low=at, high=other, first=one) for (at, one), (other, two) in pairwise(told) if one != two
    ]  # fmt: skip


def between(change: Change, known: Mapping[int, Verdict]) -> list[int]:
    """Places inside a change that were not tried."""
    return [at for at in range(change.low + 1, change.high) if at not in known]


def narrow(
    change: Change, known: dict[int, Verdict], trial: Callable[[int], Verdict],
    told: Callable[[Change], None] = lambda change: None,
) -> Change:  # fmt: skip
    """The change, narrowed until nothing that tells something is left in it; `known` is added to. `told` hears of each step.
    What `trial` raises ends the search, and `known` has all that was found out."""
    while left := between(change, known):
        told(change)
        at = left[
            len(left) // 2
        ]  # halves the untried ones, wherever they lie; after one that tells nothing, its neighbour
        known[at] = trial(at)
        if known[at] == change.first:
            change = Change(low=at, high=change.high, first=change.first)
        elif known[at] != "nothing":
            change = Change(low=change.low, high=at, first=change.first)
    return change


def ends(places: Sequence[int], known: dict[int, Verdict], trial: Callable[[int], Verdict]) -> list[Change]:
    """The changes that are known among these places; where there is none, after trying the newest and the oldest that tell
    something. `known` is added to."""
    for order in ((), places[::-1], places):
        for at in order:
            if at not in known:
                known[at] = trial(at)
            if known[at] != "nothing":
                break
        if found := changes(known):
            return found
    return []
