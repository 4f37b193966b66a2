"""Cells next to one in the matrix, as far as they ever ran: what `show` sets beside a cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from builder.fields import ROLES
from builder.store import Store
from builder.values import Cell

if TYPE_CHECKING:
    from builder.pipeline import Work

MOST = 400
"""Cells that are looked up: an axis of hundreds of values says no more by its far ones."""


def cells(work: Work) -> list[dict[str, Any]]:
    """Of the cells that differ from `work`'s one in a single axis those with a result, as the report has them (without what
    was never run). Raises as `pipeline.stored`."""
    from builder import pipeline
    from builder.report import story

    reported = Store(work.project.artifacts).latest_status()
    own = _values(work.cells[0])
    wanted = [
        cell for cell in work.matrix.cells if cell.id in reported and story.apart(own, _values(cell)) is not None
    ][:MOST]
    if not wanted:
        return []
    found = pipeline.stored(
        replace(work, cells=tuple(wanted)), command="enginematrix show", policy="never", write=False
    ).report["cells"]
    return [cell for cell in found if any(stage["state"] in ("ok", "failed") for stage in cell["stages"])]


def releases(work: Work) -> int:
    """How many cells of the matrix are `work`'s one on another release of its engine, whether or not they ever ran."""
    own = work.cells[0]
    return sum(
        cell.engine.id != own.engine.id and cell.engine.entry == own.engine.entry and cell.model == own.model
        and cell.options == own.options and cell.exporter.id == own.exporter.id
        for cell in work.matrix.cells
    )  # fmt: skip


def _values(cell: Cell) -> Mapping[str, str]:
    """As `conflict_rules.values`, of a cell that has no report yet."""
    out = {"model": cell.model, **cell.options}
    for role, stack in zip(ROLES, (cell.engine, cell.exporter), strict=True):
        out |= {f"{role}.{name}": value for name, value in stack.fields.items()}
        out |= {f"{role}.family": stack.family, role: stack.entry}
    return out
