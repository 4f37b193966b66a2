"""What a night does with its new failures: has each traced to the component that makes it, as far as the time goes. What finds
no time is the next night's, and what was a whim is tried again by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from builder import pipeline
from builder.errors import EngineMatrixError
from builder.store import Store
from builder.values import FAILING

if TYPE_CHECKING:
    from builder.pipeline import Work

UNLIMITED = 600.0
"""Seconds for tracing in a night without a budget."""
_TIME = "the time budget ended"
_AGAIN = frozenset({"build", "run", "measure", "speedup", "conform"})
"""Steps that a cell which is wrong is made anew from, as with `run --failed`."""


def wanted(found: Mapping[str, Any]) -> list[str]:
    """Cells of a comparison that fail anew, or otherwise, and that nobody expected to."""
    kinds = found["kinds"]
    rows = [*kinds["new-failures"], *(row for row in kinds["changed-cause"] if row.get("judged") != "otherwise")]
    return [row["id"] for row in rows if row["expected"] != "expected"]


def owed(nights: Sequence[Mapping[str, Any]], report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the night before had no time to trace, and fails still: [{"old", "new", "cells"}], runs and ids."""
    failing = {cell["id"] for cell in report["cells"] if cell["status"] in FAILING or cell["status"] == "blocked"}
    left = nights[-1].get("untraced", []) if nights else []
    out = [{**one, "cells": [cell for cell in one["cells"] if cell in failing]} for one in left]
    return [one for one in out if one["cells"]]


def trace(
    work: Work, debts: Iterable[Mapping[str, Any]], *, left: Callable[[], float], say: Callable[[str], None]
) -> dict[str, Any]:
    """Trace the cells of each pair of runs while `left()` seconds are more than nothing. Raises nothing but KeyboardInterrupt:
    that a failure cannot be traced is said in its place."""
    from builder.trace import trace_failures

    results: list[dict[str, Any]] = []
    untraced: list[dict[str, Any]] = []
    trouble = ""
    for debt in debts:
        pair = {"old": debt["old"], "new": debt["new"]}
        seconds = left()
        if seconds <= 0:
            untraced.append({**pair, "cells": list(debt["cells"])})
            continue
        say(f"tracing {len(debt['cells'])} new failures")
        try:
            found = trace_failures(
                work.project, pair["old"], pair["new"], budget_seconds=seconds, progress=say, cells=debt["cells"]
            )
        except EngineMatrixError as error:
            trouble = trouble or str(error)
            continue
        for one in found:
            if one.verdict == "not traced" and one.why.startswith(_TIME):
                untraced.append({**pair, "cells": list(one.cells)})
            results.append({**pair, **one.as_dict()})
    return {"results": results, "untraced": untraced, "trouble": trouble or None}


def try_again(work: Work, store: Store, results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Forget the failures that were whims, so that the next night tries these cells again; their ids. What became of them tonight
    stays in the history."""
    from builder import lock, machine
    from builder.plan import reconcile

    flaky = {cell for one in results if one["verdict"] == "flaky" for cell in one["cells"]}
    cells = tuple(cell for cell in work.cells if cell.id in flaky)
    locked = lock.read(work.project.lock)
    if not cells or locked is None:
        return []
    plan = pipeline.make_plan(replace(work, cells=cells), locked, machine.read())
    reconcile(plan, store.light(), store.root / "objects", engines=False)
    steps = {step for chain in plan.chains for step in chain.steps()}
    store.forget(sorted(step.key for step in steps if step.key and (step.state == "failed" or step.kind in _AGAIN)))
    return sorted(cell.id for cell in cells)
