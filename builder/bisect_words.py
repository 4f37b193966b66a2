"""What a bisection found, as data and in a sentence. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder import bisect_search as search
from builder.bisect_evidence import Kind, Tried
from builder.bisect_search import Change, Verdict

SAYS: Mapping[Kind, tuple[str, str]] = {
    "failure": ("fails", "works"), "mismatch": ("gives wrong numbers", "gives the right ones"),
    "slowdown": ("is slower", "is as fast"),
}  # fmt: skip
"""What a bad release does, and a good one."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """How a search ended."""

    name: str
    """The axis, short."""
    kind: Kind
    releases: Sequence[str]
    found: Mapping[int, Tried]
    """Place among the releases -> what is known of it."""
    change: Change | None
    bracket: Change | None
    """Where the time budget ended: how far it came; None too where it had not begun to narrow."""
    over: bool
    every: bool
    """Whether each release was to be tried."""

    @property
    def known(self) -> dict[int, Verdict]:
        return {at: tried.verdict for at, tried in self.found.items()}

    @property
    def others(self) -> list[Change]:
        """Changes that are known besides the one that was found."""
        mine = (self.change.low, self.change.high) if self.change is not None else None
        return [one for one in search.changes(self.known) if (one.low, one.high) != mine]

    @property
    def gap(self) -> list[Tried]:
        """What says nothing between the two releases that were found."""
        if self.change is None:
            return []
        return [self.found[at] for at in range(self.change.low + 1, self.change.high) if at in self.found]

    def boundary(self, change: Change) -> dict[str, Any]:
        gap = self.gap if change is self.change else []
        return {
            "good": self.releases[change.good], "bad": self.releases[change.bad],
            "kind": "breaks" if change.first == "good" else "mended",
            "between": [{"release": one.release, "why": one.line, "infrastructure": one.infrastructure} for one in gap],
        }  # fmt: skip

    def sides(self, change: Change) -> str:
        return f"{self.releases[change.good]} is good, {self.releases[change.bad]} bad"

    def sentence(self) -> str:
        bad, good = SAYS[self.kind]
        if self.change is None:
            return self._nothing(bad, good)
        low, high = self.releases[self.change.low], self.releases[self.change.high]
        first, last = (bad, good) if self.change.first == "good" else (good, bad)
        out = f"{self.name} {high} is the first release that {first}, {low} the last that {last}"
        if self.others:
            out = f"{self.name} {high} {first}, and {low} before it {last}"
        pythons = [self.found[at].python for at in (self.change.low, self.change.high)]
        if pythons[0] != pythons[1]:
            out += f" ({low} was tried on Python {pythons[0]}, {high} on {pythons[1]})"
        if self.gap:
            names = ", ".join(one.release for one in self.gap)
            out += f"; {names} between them {'says' if len(self.gap) == 1 else 'say'} nothing ({self.gap[0].line})"
        if self.others:
            more = "; ".join(f"{self.releases[one.low]} and {self.releases[one.high]}" for one in self.others)
            out += f". It is not the only change: what is known also differs between {more}"
            out += "" if self.every else "; --all tries every release"
        return out + "."

    def _nothing(self, bad: str, good: str) -> str:
        if self.over and self.bracket is not None:
            left = len(search.between(self.bracket, self.known))
            sides = f"{self.sides(self.bracket)}, {left} between them not tried"
            return f"The time budget ended: {sides}; the next call goes on from here."
        if self.over:
            return f"The time budget ended before a change of {self.name} was found; the next call goes on from here."
        told = {verdict for verdict in self.known.values() if verdict != "nothing"}
        if not told:
            return f"No release of {self.name} could be tried."
        return f"No change of {self.name} was found: every release that was tried {good if told == {'good'} else bad}."

    def as_dict(self) -> dict[str, Any]:
        """docs/bisect.md's JSON, but for what was asked."""
        bad = self.found[self.change.bad] if self.change is not None else None
        at = self.bracket if self.over else None
        return {
            "releases": list(self.releases), "tried": [self.found[at].as_dict() for at in sorted(self.found)],
            "boundary": self.boundary(self.change) if self.change is not None else None,
            "bracket": [self.releases[at.low], self.releases[at.high]] if at is not None else None,
            "others": [self.boundary(one) for one in self.others], "monotone": len(search.changes(self.known)) <= 1,
            "not_tried": len(self.releases) - len(self.found), "over_budget": self.over, "sentence": self.sentence(),
            "line": bad.line if bad else None, "diagnosis": bad.diagnosis if bad else None,
            "remedy": bad.remedy if bad else None,
        }  # fmt: skip


def plural(word: str, number: int) -> str:
    return word if number == 1 else f"{word}s"
