"""One night: the lock is refreshed, the group is run within its budget, and what is new is told against the night before.

refresh -> run -> compare -> trace -> cover -> exit code -> keep, write. Nothing here judges a cell: `pipeline.run` does, and
`history` compares. What the night found is the report's part `nightly` (docs/nightly.md)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from builder import (
    history,
    history_changes,
    history_runs,
    machine,
    nightly_keep,
    nightly_lock,
    nightly_order,
    nightly_part,
    nightly_trace,
    nightly_words,
    pipeline,
    results,
)
from builder.errors import InfrastructureError, UsageError
from builder.history_changes import Change
from builder.isolation import Isolation
from builder.pipeline import Keep, Listeners, Result, Work
from builder.project import Project
from builder.store import Store
from builder.values import Cell

GROUP = "nightly"
REFRESH = 0.25
"""Share of the budget that the lock may take."""
RESERVE = 0.1
"""Share of the budget that is kept for tracing new failures, where there is a night to compare with."""
LEAST = 0.5
"""Share of the budget that the cells have in any case: a night that does nothing else must still get on."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a night is asked for."""

    group: str | None = None
    budget: float | None = None
    """Seconds; None for the group's."""
    frozen: bool = False
    """Leave the lock as it is."""
    policy: nightly_part.Policy = "unexpected"
    jobs: int | None = None
    keep: Keep = "none"
    predict: bool = True
    isolation: Isolation | None = None
    command: str = "enginematrix nightly"


def night(project: Project, asked: Asked, *, listener: Listeners, say: Callable[[str], None]) -> dict[str, Any]:
    """Do a night and write its report, summary included; the report, with `nightly` and the night's own `exit`.

    Raises UsageError without such a group or cells, InfrastructureError where another night is at work on these artifacts,
    and what `pipeline.run` raises."""
    began = time.monotonic()
    work = selected(project, asked)
    store = Store(project.artifacts)
    with alone(store), pipeline.terminate_as_interrupt():
        earlier = nightly_keep.nights(store, work.select, work.spec.name)
        known = nightly_order.evidence(store)
        work = replace(work, **trying(work, known))
        budget = asked.budget if asked.budget is not None else work.budget
        refreshed = _refresh(work, asked, None if budget is None else budget * REFRESH, say)
        compared = bool(earlier or store.runs())
        result = _run(work, asked, _seconds(budget, began, compared), listener, say)
        report = result.report
        _conclude(work, store, report, asked, earlier, known, refreshed, budget, lambda: time.monotonic() - began, say)
    return report


def tell(project: Project, asked: Asked, *, say: Callable[[str], None]) -> dict[str, Any]:
    """What `night` says after its run, of the report that is there: that which `merge --report` made of its parts. Runs only
    what tracing takes, ten minutes where no budget is given.

    Raises UsageError where there is no such report, or it is of another group or matrix."""
    began = time.monotonic()
    work = selected(project, asked)
    store = Store(project.artifacts)
    report = _read(project, work)
    with alone(store), pipeline.terminate_as_interrupt():
        earlier = nightly_keep.nights(store, work.select, work.spec.name)
        spent = float(report["run"]["seconds"])
        _conclude(
            work, store, report, asked, [night for night in earlier if night["id"] != report["run"]["id"]],
            nightly_order.evidence(store), nightly_lock.Refreshed(asked="frozen"),
            None if asked.budget is None else asked.budget + spent, lambda: spent + time.monotonic() - began, say,
        )  # fmt: skip
    return report


def _read(project: Project, work: Work) -> dict[str, Any]:
    path = project.report / "report.json"
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        of = (report["run"]["select"], report["run"]["matrix"]["sha256"])
        whole = {cell["id"] for cell in report["cells"]} == {cell.id for cell in work.cells}
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path}: no report to tell of ({type(error).__name__}: {error}); `enginematrix merge --report` makes one of parts"
        raise UsageError(msg) from error
    if of != (work.select, work.spec.sha256):
        msg = f"{path} is of {of[0]!r}, or of the matrix as it was, and not of {work.select!r}; merge with --group and --report"
        raise UsageError(msg)
    if not whole:
        msg = f"{path} does not hold all cells of {work.select!r}: those of suites are told by a night that runs them"
        raise UsageError(msg)
    return report


def _conclude(
    work: Work, store: Store, report: dict[str, Any], asked: Asked, earlier: Sequence[Mapping[str, Any]],
    known: nightly_order.Known, refreshed: nightly_lock.Refreshed, budget: float | None, spent: Callable[[], float],
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """Compare, trace, cover, judge; keep the night and write the report. `spent`: seconds of the night so far."""
    old, new = sides(store, report["run"], earlier)
    found = history.diff(store, old, new) if old and new and old != new else None
    refreshed.moved = _moved(store, old, new) if found else refreshed.moved
    debts = [*_new_failures(found), *nightly_trace.owed(earlier, report)]
    limit = spent() + nightly_trace.UNLIMITED if budget is None else budget
    traced = _trace(work, store, report, debts, lambda: limit - spent(), say)
    part = nightly_part.part(report, found, refreshed, traced, old, new)
    part["coverage"] = nightly_part.covered(work.cells, report, {*known, *nightly_order.evidence(store)}, earlier)
    part.update(group=work.select.removeprefix("group "), budget=budget, seconds=round(spent(), 1))
    report["nightly"] = part
    code, because = nightly_part.exit_code(report, asked.policy)
    report["exit"] = {"code": code, "policy": asked.policy, "because": because}
    nightly_keep.put(store, report["run"]["id"], report["run"]["started"], _record(work, report, new or old))
    results.write_report(work.project, report, always=True)
    store.write_text(work.project.report / nightly_words.SUMMARY, nightly_words.markdown(report))


# Before the run ----------------------------------------------------------------------------------------------------


def selected(project: Project, asked: Asked) -> Work:
    """The cells of the night. Raises UsageError."""
    group = asked.group or GROUP
    loaded, _ = pipeline.load(project)
    if group not in loaded.groups:
        have = ", ".join(sorted(loaded.groups)) or "none"
        msg = (
            f"{project.matrix}: no group {group!r} (there are: {have}); add one, such as\n"
            f"    nightly: {{select: all, order: [{', '.join(nightly_order.DEFAULT)}], budget: 90m}}\n"
            f"or name another with --group"
        )
        raise UsageError(msg)
    work = pipeline.select(project, group=group, expression=None, asked=asked.isolation)
    if not work.cells:
        msg = f"no cell fits {work.select!r}; `enginematrix plan --group all --cells` lists them"
        raise UsageError(msg)
    return replace(work, order=work.order or nightly_order.DEFAULT)


@contextlib.contextmanager
def alone(store: Store) -> Iterator[None]:
    """One night at a time on a store. Raises InfrastructureError where there is another one."""
    with (store.root / "night").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = "another night is at work on these artifacts, and goes on; this one did nothing"
            raise InfrastructureError(msg) from error
        yield


def trying(work: Work, known: nightly_order.Known) -> dict[str, Any]:
    """Cells that were ever tried are tried whatever the facts say of them now, so that what is told of them is what happened.
    Those that worked are given another try where a worker dies: that they break must be no whim of the machine."""

    def patient(cell: Cell) -> Cell:
        if cell.id not in known or known[cell.id].bad or cell.attributes.retry:
            return cell
        return replace(cell, attributes=replace(cell.attributes, retry=1))

    cells = tuple(patient(cell) for cell in work.cells)
    return {"cells": cells, "insist": frozenset(cell.id for cell in cells if cell.id in known)}


def _refresh(work: Work, asked: Asked, seconds: float | None, say: Callable[[str], None]) -> nightly_lock.Refreshed:
    if asked.frozen:
        return nightly_lock.Refreshed(asked="frozen")
    say("refreshing the lock")
    return nightly_lock.refresh(work, machine.read(), pipeline.in_docker(work, here=True), seconds=seconds, say=say)


def _seconds(budget: float | None, began: float, compared: bool) -> float | None:
    if budget is None:
        return None
    rest = budget - (time.monotonic() - began) - (budget * RESERVE if compared else 0)
    return max(rest, budget * LEAST)


def _run(work: Work, asked: Asked, seconds: float | None, listener: Listeners, say: Callable[[str], None]) -> Result:
    return pipeline.run(
        replace(work, budget=None), frozen=asked.frozen, jobs=asked.jobs, budget=seconds, command=asked.command, policy="never",
        listener=listener, say=say, write=False, keep=asked.keep, predict=asked.predict,
    )  # fmt: skip


# After the run -----------------------------------------------------------------------------------------------------


def sides(store: Store, run: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The runs to compare: that of the night before (else the last one of the same cells, else the last of the same matrix), and
    this night's, or where nothing had to run and none was kept, the last that was. "" where there is none."""
    known = store.runs()
    of_matrix = [one for one in known if one.get("matrix", {}).get("name") == run["matrix"]["name"]]
    alike = [one for one in of_matrix if one.get("select") == run["select"]]
    ids = {str(one["id"]) for one in known}
    new = run["id"] if run["id"] in ids else (str(alike[-1]["id"]) if alike else "")
    before = [str(night["run"]) for night in earlier if night.get("run") in ids and night["run"] != run["id"]]
    if before:
        return before[-1], new
    others = [
        one for one in (alike if len(alike) > 1 else of_matrix)
        if one["id"] not in (new, run["id"]) and not str(one.get("select")).startswith("#")
    ]  # fmt: skip
    return (str(others[-1]["id"]) if others else ""), new


def _moved(store: Store, old: str, new: str) -> list[Change]:
    """What the stacks that both runs had are locked to otherwise."""
    was, now = history_runs.pins(store, old), history_runs.pins(store, new)
    return [
        one for name in sorted(was.keys() & now.keys()) for one in history_changes.stack(name, was, now) or []
    ]  # fmt: skip


def _new_failures(found: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    cells = nightly_trace.wanted(found) if found else []
    return [{"old": found["old"]["runs"][0], "new": found["new"]["runs"][0], "cells": cells}] if found and cells else []


def _trace(
    work: Work, store: Store, report: dict[str, Any], debts: Sequence[Mapping[str, Any]], left: Callable[[], float],
    say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """Trace what is new, unless the run was interrupted: then it is the next night's."""
    untraced = [{"old": one["old"], "new": one["new"], "cells": list(one["cells"])} for one in debts]
    nothing = {"results": [], "untraced": untraced, "trouble": None, "again": []}
    if report["run"]["interrupted"] or not debts:
        return nothing
    try:
        found = nightly_trace.trace(work, debts, left=left, say=say)
    except KeyboardInterrupt:
        report["run"]["interrupted"] = True
        return nothing
    return {**found, "again": nightly_trace.try_again(work, store, found["results"])}


def _record(work: Work, report: Mapping[str, Any], run: str) -> dict[str, Any]:
    part = report["nightly"]
    locked = part["lock"]
    return {
        "select": work.select, "matrix": work.spec.name, "run": run, "coverage": part["coverage"], "exit": report["exit"],
        "budget": part["budget"], "seconds": part["seconds"], "over_budget": report["run"]["over_budget"],
        "interrupted": report["run"]["interrupted"], "regressions": part["regressions"],
        "untraced": part["trace"]["untraced"],
        "lock": {"asked": locked["asked"], "cutoff": locked["cutoff"], "kept": len(locked["kept"]), "away": locked["away"]},
    }  # fmt: skip
