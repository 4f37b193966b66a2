"""How much of a selection has evidence, in pairs of axis values: what grows from night to night until all is covered. Pure.

A pair of values (of exporter stacks, engine stacks, models and options, no two of one axis) is feasible where it occurs in a
cell of the selection: the measure that pairwise sampling uses (`sample.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

from builder import sample
from builder.nightly_order import TELLING
from builder.values import Cell


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Numbers of pairs, which add up to `pairs`, and of cells, which add up to `cells`."""

    pairs: int
    fresh: int
    """In a cell with evidence of what is locked now."""
    stale: int
    """Only in cells whose evidence is of something that changed since."""
    left: int
    """In a cell that can be tried here, and nothing tried yet."""
    unreachable: int
    """Only in cells that facts rule out, or that need what this machine has not."""
    cells: int
    cells_fresh: int
    cells_stale: int
    cells_left: int
    cells_unreachable: int

    @property
    def share(self) -> float | None:
        """Fresh ones of all pairs; None where there are none."""
        return self.fresh / self.pairs if self.pairs else None

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def tells(cell: Mapping[str, Any]) -> bool:
    """Whether a report's cell holds evidence of what is locked now."""
    return cell["status"] in TELLING or (
        cell["status"] == "blocked" and cell["category"] not in (None, "infrastructure")
    )


def coverage(
    cells: Sequence[Cell], outcomes: Iterable[Mapping[str, Any]], known: Set[str], waiting: Set[str]
) -> Coverage:
    """cells: the selection; outcomes: the same cells as a report has them; known: ids of cells that any run told something of;
    waiting: reasons of cells that are only not reached yet."""
    groups: dict[str, list[int]] = {"fresh": [], "stale": [], "left": [], "unreachable": []}
    by_id = {cell["id"]: cell for cell in outcomes}
    for at, cell in enumerate(cells):
        found = by_id[cell.id]
        if tells(found):
            groups["fresh"].append(at)
        elif cell.id in known:
            groups["stale"].append(at)
        elif found["status"] == "blocked" or found["reason"] in waiting:  # blocked by infrastructure: the next night's
            groups["left"].append(at)
        else:
            groups["unreachable"].append(at)
    rows = sample.rows_of(cells)
    sums, taken, before = {}, list[int](), 0
    for name, mine in groups.items():
        taken += mine
        now = sample.pairs(rows, taken)
        sums[name] = now - before
        before = now
    return Coverage(
        pairs=before, fresh=sums["fresh"], stale=sums["stale"], left=sums["left"], unreachable=sums["unreachable"],
        cells=len(cells), cells_fresh=len(groups["fresh"]), cells_stale=len(groups["stale"]), cells_left=len(groups["left"]),
        cells_unreachable=len(groups["unreachable"]),
    )  # fmt: skip
