"""Is one release slower than another? Both in turns, each window in a fresh process, judged by the bootstrap interval of `speed`.

The rounds are those of a `speedup` step (builder/execute/speedup.py), with the release that works in the place of the framework's
baseline. A release is slower where the whole interval of its time over the other's lies above 1 + threshold, and is not where
all of it lies below; what lies across says nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from builder import speed
from builder.bisect_search import Verdict
from builder.lock import Lock
from builder.plan import Plan, Step
from builder.trace_lab import Lab, no_evidence
from builder.values import Cell, digest

THRESHOLD = 0.10
"""Share by which a release must be slower: above what two processes of one engine differ by on a quiet machine."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A release's time over the good one's: 1.2 is 20 % slower."""

    verdict: Verdict
    why: str
    """Of one that says nothing."""
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    rounds: int = 0
    lost: str = ""
    """Why there is no evidence at all."""

    @property
    def text(self) -> str:
        if self.low is None or self.high is None:
            return "not timed"
        return f"{self.low:.2f} to {self.high:.2f} times the time"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "text": self.text}


def judge(found: dict[str, Any], threshold: float) -> Compared:
    """Of `speed.speedup` of (good release, other release): its ratio is good over other."""
    low, high = found["low"], found["high"]
    if low is None or high is None:
        return Compared(verdict="nothing", why="too few rounds were timed", rounds=found["rounds"])
    slow, fast = 1 / low, 1 / high
    shown = Compared(verdict="good", why="", ratio=1 / found["ratio"] if found["ratio"] else None, low=fast, high=slow,
                     rounds=found["rounds"])  # fmt: skip
    if fast > 1 + threshold:
        return replace(shown, verdict="bad")
    if slow < 1 + threshold:
        return shown
    why = f"cannot be told from {threshold:.0%} slower: {shown.text}"
    return replace(shown, verdict="nothing", why=why)


def against(lab: Lab, good: Cell, other: Cell, locked: Lock, threshold: float) -> Compared:
    """Time two cells that work. Stored in the lab like every step. Raises what `Lab.run` does."""
    timed = [replace(cell, attributes=replace(cell.attributes, measure=True)) for cell in (good, other)]
    step: list[Step] = []

    def in_turns(plan: Plan) -> None:
        """In the place of each cell's own timings, one step that runs the rounds."""
        first, second = plan.chains
        assert first.measure is not None and second.measure is not None
        baseline, measure = first.measure, second.measure
        made = Step(
            kind="speedup", name=f"{measure.name} against {baseline.name}", stack=measure.stack,
            static=digest(["bisect", measure.static, baseline.static, speed.ROUNDS, dict(speed.ROUND_METHOD)]),
            needs=(measure.needs[0], baseline.needs[0], second.reference, first.reference), environment=measure.environment,
            data={"recipe": measure.data["recipe"], "measure": measure, "baseline": baseline, "of": good.engine.id},
            seconds=measure.seconds, memory=max(measure.memory, baseline.memory),
        )  # fmt: skip
        for chain in plan.chains:
            chain.measure, chain.speedup = None, None
        second.speedup = made
        plan.steps.append(made)
        step.append(made)

    outcomes = lab.run(timed, locked, keep_engines=True, change=in_turns)
    if lost := next((why for outcome in outcomes if (why := no_evidence(outcome))), ""):
        return Compared(verdict="nothing", why=lost, lost=lost)
    record = lab.store.step(step[-1].key) if step[-1].key else None
    if record is None or record.state != "ok":
        failed = (record.record.get("error") or {}).get("message", "") if record is not None else "it was not run"
        return Compared(verdict="nothing", why=f"could not be timed: {str(failed).partition(chr(10))[0]}")
    return judge(record.record["result"]["speedup"], threshold)
