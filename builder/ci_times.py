"""How long steps take, by which the jobs of a CI system are balanced: `matrix.times.json`, beside the matrix.

Every job of a run has to divide the cells in the same way, whichever machine it is on and whatever is stored there. So past
times are read from the results once, by `enginematrix ci times`, and kept in a file that is committed like the lock.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.errors import UsageError
from builder.plan import KINDS, Step
from builder.project import write

SCHEMA = 1
#: Seconds of a step where no time is known: means of the default group of this repository's matrix on two cores of an AMD
#: EPYC, 2026-11-21, 28 environments with their packages in uv's cache, 614 other steps. calibrate, suite and conform were not
#: in that run: a calibration is a conversion's work, a suite's export and one of its shards take minutes by their own limits.
ESTIMATE: Mapping[str, float] = {
    "environment": 5.2, "obtain": 0.5, "reference": 2.8, "export": 3.3, "calibrate": 5.4, "convert": 5.4, "build": 2.0,
    "run": 0.8, "measure": 10.7, "speedup": 10.7, "suite": 60.0, "conform": 60.0,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds by kind of step and what it is about."""

    seconds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Kind -> `about` of a step -> median."""

    def of(self, step: Step) -> float:
        """Seconds of a step: of steps like it; else the median of its kind; else the estimate."""
        known = self.seconds.get(step.kind, {})
        if (found := known.get(about(step))) is not None:
            return found
        return statistics.median(known.values()) if known else ESTIMATE[step.kind]


def about(step: Step) -> str:
    """What steps have in common that take alike: the stack of an environment; else model (or suite) and family."""
    if step.kind == "environment":
        return step.name
    subject = step.data.get("recipe") or step.data.get("suite")
    return " ".join(part for part in (subject.name if subject else "", step.stack.family if step.stack else "") if part)


def learn(steps: Iterable[Step], rows: Iterable[tuple[str, str, float]]) -> Times:
    """Medians of what is stored. steps: of a plan; rows: kind, name and seconds of stored steps, whichever machine or version
    made them: steps are joined by name, since their keys hold where they were made alone."""
    named: dict[tuple[str, str], str] = {(step.kind, step.name): about(step) for step in steps}
    found: dict[str, dict[str, list[float]]] = {}
    for kind, name, seconds in rows:
        if (kind, name) in named:
            found.setdefault(kind, {}).setdefault(named[kind, name], []).append(seconds)
    return Times(
        seconds={
            kind: {name: round(statistics.median(values), 2) for name, values in sorted(found[kind].items())}
            for kind in KINDS if kind in found
        }
    )  # fmt: skip


def path_of(matrix: Path) -> Path:
    return matrix.with_suffix(".times.json")


def read(matrix: Path) -> Times:
    """The times beside a matrix; none where there is no such file. Raises UsageError for one that is not ours."""
    path = path_of(matrix)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Times()
    except (OSError, ValueError) as error:
        msg = f"{path}: not readable as JSON ({error}); `enginematrix ci times` writes it anew"
        raise UsageError(msg) from error
    if (trouble := _trouble(data)) is not None:
        msg = f"{path}: {trouble}; `enginematrix ci times` writes it anew"
        raise UsageError(msg)
    return Times(seconds=data["seconds"])


def _trouble(data: Any) -> str | None:
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        return f"not a file of times of schema {SCHEMA}"
    kinds = data.get("seconds")
    if not isinstance(kinds, dict) or not set(kinds) <= set(KINDS):
        return f"`seconds` must be of kinds of steps: {', '.join(KINDS)}"
    for kind, known in kinds.items():
        if not isinstance(known, dict):
            return f"`seconds.{kind}` must name steps"
        for name, value in known.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 10**7:
                return f"`seconds.{kind}`: {name!r} has no time"
    return None


def save(matrix: Path, times: Times) -> None:
    """Raises InfrastructureError."""
    text = json.dumps({"schema": SCHEMA, "seconds": times.seconds}, indent=1, sort_keys=False, ensure_ascii=False)
    write(path_of(matrix), text + "\n")
