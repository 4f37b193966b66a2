"""Which of two records of one key stands, and what is kept of the other: a join in which order does not matter. Pure.

For each key there is the set of all records that anybody made. Of those that say the same (`Table.says`) the least one
stands for all; of those that say otherwise the least one of all is the main record, and the others are kept as conflicts.
That is a function of the set alone, so merging is commutative, associative and idempotent (a state-based replicated data
type: M. Shapiro and others, "Conflict-Free Replicated Data Types", 2011).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from builder.values import digest

Row = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table of the store whose first column is its key."""

    name: str
    columns: int
    says: Callable[[Row], Any]
    """What two rows of a key must agree in to say the same."""
    order: Callable[[Row], Any]
    """Which of two rows comes first; ties are broken by the rows' digests."""


def _outcome(row: Row) -> list[Any]:
    record = json.loads(row[2])
    return [record.get(name) for name in ("status", "stage", "category")]


def _step(row: Row) -> list[Any]:
    """What became of the step. That a measurement came out otherwise to the last digit is no conflict."""
    return [row[3], "" if row[1] in ("run", "measure", "environment") else row[4]]


STEPS = Table(name="steps", columns=10, says=_step, order=lambda row: row[7])
OUTCOMES = Table(name="outcomes", columns=3, says=_outcome, order=lambda row: "")
REFUTED = Table(name="refuted", columns=3, says=lambda row: "", order=lambda row: "")
"""What was observed against a fact: either cell is as good."""
TABLES = (STEPS, OUTCOMES, REFUTED)


def join(table: Table, rows: Iterable[Row]) -> list[tuple[str, Row]]:
    """All rows of one key -> [(digest of what it says, row)], the main one first, then the conflicts in order."""
    least: dict[str, tuple[Any, str, Row]] = {}
    for row in rows:
        said = digest(table.says(row))
        place = (table.order(row), digest(list(row)), row)
        if said not in least or place[:2] < least[said][:2]:
            least[said] = place
    return [(said, place[2]) for said, place in sorted(least.items(), key=lambda item: item[1][:2])]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run with all that is kept of it, but for its id."""

    base: str
    """The id it gave itself."""
    row: Row
    """started, finished, record."""
    results: tuple[Row, ...]
    """cell, status, outcome, expected, tools: sorted."""
    pins: tuple[Row, ...]
    """stack, key of what it was locked to: sorted."""

    @property
    def told(self) -> bool:
        """Whether only a report.json told of it (`merge_report`)."""
        return bool(json.loads(self.row[2]).get("from") == "report.json")

    def covers(self, other: Run) -> bool:
        """Whether it says all that `other` does, of the same start: then the other is a report of this very run."""
        mine = {row[:2] for row in self.results}
        return self.row[0] == other.row[0] and all(row[:2] in mine for row in other.results)

    @property
    def mark(self) -> str:
        return digest([self.row, self.results, self.pins])


APART = "~"
"""Between the id that two runs gave themselves and what tells them apart."""


def base(run: str) -> str:
    return run.partition(APART)[0]


def runs(found: Sequence[Run]) -> dict[str, Run]:
    """All runs that gave themselves one id -> by the ids under which they are kept: one keeps it, the others, which two
    machines named alike, are told apart by what is in them. What a report told of a run gives way to the run itself: that is
    the greater one in an order, and of an ordered set the greatest are kept whichever come first."""
    whole = [run for run in found if not run.told]
    kept = [run for run in found if not (run.told and any(other.covers(run) for other in whole))]
    each = sorted({run.mark: run for run in kept}.items())
    return {run.base if place == 0 else f"{run.base}{APART}{mark[:8]}": run for place, (mark, run) in enumerate(each)}
