"""What bisect asks of a release, and what an outcome says to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from builder import bisect_timing
from builder.bisect_search import Verdict
from builder.errors import EXIT_BUDGET, EngineMatrixError
from builder.trace_lab import no_evidence
from builder.values import FAILING

Kind = Literal["failure", "mismatch", "slowdown"]
Source = Literal["stored", "run", "not tried"]
_GOOD = frozenset({"verified", "built"})
_INSTALL = frozenset({"packaging", "resolve-error", "image-unavailable"})
"""Categories that say that there is no such environment, nothing of what happens in it."""


class OverBudget(EngineMatrixError):
    """The time is over; what was found out stays."""

    exit_code = EXIT_BUDGET

    def __init__(self) -> None:
        super().__init__("the time budget ended; the next call goes on from here")


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What is known of one release."""

    release: str
    verdict: Verdict
    source: Source
    status: str
    category: str | None
    line: str
    """What failed; of one that says nothing, why."""
    diagnosis: str | None
    remedy: str | None
    cell: str
    """Id; '' where there is no cell of it."""
    slug: str
    stack: str
    in_matrix: bool
    python: str = ""
    """The Python that it was tried on."""
    infrastructure: bool = False
    timing: Mapping[str, Any] | None = None
    """Of a slowdown: against the good release, `bisect_timing.Compared`."""

    @property
    def text(self) -> str:
        kind = {"good": "good", "bad": "bad", "nothing": "says nothing"}[self.verdict]
        about = self.category or self.status
        if self.timing is not None:
            about = str(self.timing["text"])
        tail = f": {self.line}" if self.verdict == "nothing" else f" ({about})" if about else ""
        return f"{self.release}: {kind}{tail}" + (", stored" if self.source == "stored" else "")

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "text": self.text}


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked."""

    kind: Kind = "failure"
    good: str | None = None
    bad: str | None = None
    category: str | None = None
    """Count only failures of this category as bad; others say nothing."""
    every: bool = False
    """Try each release, not only as many as it takes."""
    threshold: float = bisect_timing.THRESHOLD


def judge(outcome: Mapping[str, Any], kind: Kind, category: str | None) -> tuple[Verdict, str]:
    """What an outcome says to the question, and why where that is nothing. For a slowdown: whether it can be timed at all."""
    if lost := no_evidence(dict(outcome)):
        return "nothing", lost
    status = outcome["status"]
    about = str(outcome["line"] or outcome["reason"] or status)
    if outcome["stage"] == "resolve" or (outcome["stage"] == "environment" and outcome["category"] in _INSTALL):
        return "nothing", f"cannot be installed: {about}"
    if status in _GOOD or (kind != "failure" and status == "degraded"):
        if status == "built" and kind != "failure":
            return "nothing", str(outcome["reason"])
        return "good", ""
    if kind == "failure" and (status in FAILING or status == "blocked"):
        if category is None or category in (outcome["category"], outcome["signature"], status):
            return "bad", ""
        return "nothing", f"fails otherwise: {outcome['category'] or status}: {about}"
    if kind == "mismatch" and status == "mismatch":
        return "bad", ""
    return "nothing", f"fails before that can be told: {outcome['category'] or status}: {about}"
