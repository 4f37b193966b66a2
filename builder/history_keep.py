"""What a run leaves for comparisons with later ones, beyond its outcomes: what each of its stacks was locked to, how its
results stood to what was expected, and why a cell ended without evidence. docs/history.md has the form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from builder.environment import worker_hashes
from builder.lock import Lock, Pins
from builder.machine import Machine
from builder.plan import Chain, Plan, Step
from builder.store import Store
from builder.values import digest

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
"""The base image's, in a Dockerfile that is pinned by it."""
SAID = "said:"
"""Begins the key of an outcome that is no evidence: never looked up when a cell is judged, only when runs are compared."""
SAID_FIELDS = ("id", "slug", "status", "stage", "reason", "category", "line", "axes", "engine", "exporter", "isolation")


def pins(plan: Plan) -> dict[str, dict[str, Any]]:
    """Stack id -> what a stack of the plan was locked to and how it was realised. Raises nothing: a stack that could not be
    locked says so."""
    return {step.stack.id: entry(step) for step in plan.steps if step.kind == "environment" and step.stack is not None}


def entry(step: Step) -> dict[str, Any]:
    """One environment step: {"python", "isolation", "packages": {name: [version, digest of its files' hashes]}} and, where
    there are such, "image" (digests of the base and of all that is rendered), "unresolved", "refused"."""
    locked, rendered = step.data["pins"], step.data["rendered"]
    out: dict[str, Any] = {"isolation": step.data["isolation"]}
    if locked is None:
        return {**out, "unresolved": "not in the lock"}
    out["python"] = locked.python
    out["packages"] = packages(locked)
    if locked.unresolved:
        out["unresolved"] = locked.unresolved
    if locked.refused:
        out["refused"] = locked.refused
    if rendered is not None and step.stack is not None:
        base = _DIGEST.search(rendered.dockerfile)
        out["image"] = {"base": base[0] if base else step.stack.base, "dockerfile": rendered.key[:12]}
    return out


def packages(locked: Pins) -> dict[str, list[str]]:
    """Name -> [version, digest of its files' hashes], of what a stack is locked to."""
    return {
        name: [version, digest(sorted(locked.hashes[pin]))[:12]]
        for pin in locked.packages for name, _, version in (pin.partition("=="),)
    }  # fmt: skip


def tools(chain: Chain) -> tuple[str, ...]:
    """The stacks beside its own two that a cell's model, reference and conversion were made in."""
    own = {chain.engine.name, chain.exporter.name}
    steps = (chain.obtain, chain.reference, chain.export, chain.convert)
    used = [step.environment.name for step in steps if step is not None and step.environment is not None]
    return tuple(dict.fromkeys(name for name in used if name not in own))


def summary(report: Mapping[str, Any], locked: Lock, here: Machine, recipes: Mapping[str, str]) -> dict[str, Any]:
    """The run's own record: the report's `run` without cells, and what else could explain another outcome.

    recipes: model -> sha256 of its recipe."""
    run = report["run"]
    return {
        "counts": report["counts"], "exit": report["exit"], "version": report["version"], **run,
        "lock": {**run["lock"], "tools": dict(locked.tools)}, "recipes": dict(recipes),
        "code": digest(worker_hashes())[:16], "processor": {"flags": here.flags, "environment": here.environment},
    }  # fmt: skip


def moved(store: Store, report: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> bool:
    """Whether stored results say something else than the last run of the same selection did, though nothing had to run: as
    after a lock was put back. Where there was no such run, whether they tell anything: else the next run of that selection
    (the second night of a group whose cells `run` had tried before) would be compared with one of other cells."""
    asked = report["run"]["select"]
    last = next((run["id"] for run in reversed(store.runs()) if run.get("select") == asked), None)
    if last is None:
        return any(cell["status"] not in ("skipped", "blocked", "unsupported") for cell in cells)
    rows = store.read("select cell, status, outcome from results where run = ?", (last,))
    before = {cell: (status, _evidence(outcome)) for cell, status, outcome in rows}
    for cell in cells:
        status, evidence = before.pop(cell["id"], ("", ""))
        if status != cell["status"] or (evidence and evidence != _evidence(cell["key"])):
            return True
    return bool(before)


def _evidence(outcome: str) -> str:
    """What the outcome was made of, without the code that judged it; '' for what is no evidence."""
    return "" if outcome.startswith(SAID) else outcome[:64]


def remember(
    store: Store, plan: Plan, report: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], record: Mapping[str, Any]
) -> None:
    """Keep a run. record: `summary`. Raises InfrastructureError when the disk refuses."""
    stored = store.have_outcomes(cell["key"] for cell in cells)
    results: dict[str, tuple[str, str]] = {}
    said: dict[str, dict[str, Any]] = {}
    for cell in cells:
        key = cell["key"]
        if key not in stored:
            content = {name: cell[name] for name in SAID_FIELDS}
            key = SAID + digest(content)
            said[key] = content
        results[cell["id"]] = (cell["status"], key)
    run = report["run"]
    store.put_run(
        run["id"], run["started"], run["finished"], record, results,
        expected={cell["id"]: cell["expected"]["state"] for cell in cells if cell["expected"]},
        tools={chain.cell.id: names for chain in plan.chains if (names := tools(chain))},
        pins=pins(plan), said=said,
    )  # fmt: skip
