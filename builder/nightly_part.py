"""The report's part `nightly`: what a night found, and how it ends. Pure over the report and the comparison (docs/nightly.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from builder import (
    errors,
    history_changes,
    history_runs,
    history_words,
    nightly_coverage,
    nightly_lock,
    nightly_words,
    results,
)
from builder.history import Kind
from builder.values import FAILING, Cell

SCHEMA = 1
Policy = Literal["never", "new", "unexpected", "failed", "infra"]
TOLD: tuple[Kind, ...] = ("new-failures", "changed-cause", "first", "pass-to-skip", "stale", "fixed", "flaky", "slower")
"""What the summary names the cells of (of first results those that fail and were not expected to); of the rest it gives the
number."""
WAITING = frozenset({history_runs.INTERRUPTED, history_runs.OVER_BUDGET})


def part(
    report: Mapping[str, Any], found: Mapping[str, Any] | None, refreshed: nightly_lock.Refreshed,
    traced: Mapping[str, Any], old: str, new: str,
) -> dict[str, Any]:  # fmt: skip
    """The report's `nightly`, without coverage and times."""
    kinds = {**found["kinds"], "first": [row for row in found["kinds"]["first"] if _red_row(row)]} if found else {}
    cells = report["cells"]
    states = {
        name: [c["id"] for c in cells if (c["expected"] or {}).get("state") == name] for name in ("overdue", "fixed")
    }
    return {
        "schema": SCHEMA, "run": new or None, "against": old or None, "asked": found["asked"] if found else True,
        "backwards": found["backwards"] if found else False, "lock": refreshed.as_dict(),
        "counts": found["counts"] if found else {}, "unchanged": found["unchanged"] if found else None,
        "regressions": found["regressions"] if found else 0,
        "beside": history_changes.words(one for one in found["changes"] if one["component"] != "lock") if found else [],
        "changes": [_group(kind, *group) for kind in TOLD if kind in kinds for group in history_words.groups(kinds[kind])],
        "trace": traced, "red": _red(cells), "overdue": states["overdue"], "expected-fixed": states["fixed"],
        "left": [cell["id"] for cell in cells if cell["reason"] in WAITING],
    }  # fmt: skip


def _red_row(row: Mapping[str, Any]) -> bool:
    status = str(row["new"]["status"])
    return (status in FAILING or status == "blocked") and str(row["expected"]) != "expected"


def _red(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What fails and was not expected to, be it new or old: how many cells, of how many kinds, the largest; None for nothing."""
    from builder.report import findings

    found = [one for one in findings(cells) if not one["expected"]]
    if not found:
        return None
    return {"cells": sum(one["count"] for one in found), "findings": len(found), "title": found[0]["title"]}


def _group(kind: Kind, became: str, beside: list[str], rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Cells that changed alike."""
    first = rows[0]
    seen = first["new"] or first["old"]
    return {
        "kind": kind, "cells": [row["id"] for row in rows], "slugs": [row["slug"] for row in rows[:3]], "became": became,
        "status": seen["status"], "stage": seen["stage"], "category": seen["category"],
        "line": seen["line"] or seen["reason"], "expected": first["expected"],
        "remedy": next((row["remedy"] for row in rows if row["remedy"]), None), "beside": beside,
        "unexplained": all(row["unexplained"] for row in rows), "since": first["old"]["run"] if first["old"] else None,
    }  # fmt: skip


def covered(
    cells: Sequence[Cell], report: Mapping[str, Any], known: set[str], earlier: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The coverage after this night, and that of the nights before, oldest first."""
    now = nightly_coverage.coverage(cells, report["cells"], known, WAITING).as_dict()
    before = [
        {"night": night["id"], "fresh": night["coverage"]["fresh"], "pairs": night["coverage"]["pairs"]}
        for night in earlier[-9:]
    ]  # fmt: skip
    return {**now, "before": before}


def exit_code(report: dict[str, Any], policy: Policy) -> tuple[int, str]:
    """DESIGN's exit codes. `new`: cells that got worse since the night before and that nobody expected to (not those that worked
    when they were traced), and expectations past their date; without a night before there is nothing new. A lock that could
    not be refreshed is infrastructure."""
    part = report["nightly"]
    if policy == "new" and not report["run"]["interrupted"]:
        worse = {cell for group in part["changes"] if group["kind"] in nightly_words.BAD for cell in group["cells"]}
        if bad := part["regressions"] - len(worse.intersection(part["trace"]["again"])) + len(part["overdue"]):
            return errors.EXIT_FAILURES, f"{_cells(bad)} got worse since the night before and nobody expected it"
        code, because = results.exit_code(report, "infra")
    else:
        code, because = results.exit_code(report, policy)
    if code in (errors.EXIT_OK, errors.EXIT_BUDGET) and part["lock"]["away"] and policy != "never":
        locked = part["lock"]
        what = (
            f" for {len(locked['kept'])} of {locked['stacks']} stacks"
            if locked["kept"]
            else f": {locked['away'][:120]}"
        )
        return errors.EXIT_INFRASTRUCTURE, f"the lock could not be refreshed{what}"
    if code == errors.EXIT_BUDGET:
        return code, f"the time budget ended before {_cells(len(part['left']))}; the next night goes on there"
    return code, because


def _cells(number: int) -> str:
    return "1 cell" if number == 1 else f"{number} cells"
