"""A new failure, traced to what moved in the lock: old and new lock are crossed, component by component, until one is named.

For the cells that worked in one run and fail in a later one: of those that fail alike in one stack, the one that costs least is
tried again with the new lock (where it works now, it was flaky) and with the old one (where that fails too, it was not the
lock). Between the two, `trace_search` takes changes from one lock and the rest from the other, and each such crossing is a real
environment, hash-locked, in `artifacts/lab/` (`trace_lab`): evidence under keys of its own, that no history sees.
docs/bisect.md has the method and what each verdict means.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from builder import history, history_runs, lock, machine, pipeline, trace_locks, trace_parts
from builder import history_changes as changes
from builder.diagnose import group_key
from builder.environment import worker_hashes
from builder.errors import EngineMatrixError, InfrastructureError, UsageError
from builder.history_changes import Change, words
from builder.history_words import plain
from builder.isolation import Isolation
from builder.lock import Lock
from builder.pipeline import Work
from builder.plan import Chain, before
from builder.project import Project
from builder.store import Store
from builder.trace_lab import BUDGET, Lab, no_evidence
from builder.trace_parts import Component
from builder.trace_search import Answer, Found, minimal
from builder.values import FAILING, Cell, Stack, Stage, digest

SCHEMA = 1
Verdict = Literal["named", "interaction", "inseparable", "flaky", "not in the lock", "not traced"]
VERDICTS: Mapping[Verdict, str] = {
    "named": "one component of the lock makes it fail",
    "interaction": "the smallest set found of components that only together make it fail",
    "inseparable": "some of these components; they could not be tried apart",
    "flaky": "it fails with the old lock too and nothing else moved, or works when it is tried again",
    "not in the lock": "it fails with the old lock too, and something else moved",
    "not traced": "could not be told, and why",
}
_GOOD = ("verified", "built")
_NO_ENTRY = "no entry of the lock moved"
_REALISED = ("isolation", "Dockerfile")
"""Changes of a stack that are none of its lock entry."""
_BOOT = ("kernel", "memory")
"""What differs on one machine from one start to the next."""
_ANSWERS = {"fails": "fails the same", "works": "works", "unresolved": "says nothing"}


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """One lock that was tried."""

    moved: tuple[str, ...]
    """Components as in the new lock; all others are as in the old one."""
    name: str
    """`new lock`, `old lock`, else the components."""
    answer: Answer
    status: str
    """The outcome's; '' where nothing was run."""
    category: str | None
    line: str
    """What failed, or why it says nothing."""
    key: str
    """Of the outcome in `artifacts/lab/`; '' where nothing was run."""
    when: str | None

    def __str__(self) -> str:
        if self.answer == "works" and self.status not in _GOOD:
            return f"{self.name}: fails as it did before ({self.category or self.status})"
        detail = f" ({self.line})" if self.answer == "unresolved" and self.line else ""
        return f"{self.name}: {_ANSWERS[self.answer]}{detail}"


@dataclass(frozen=True, kw_only=True)
class Traced:
    """What became of the cells that fail alike in one engine stack."""

    cells: tuple[str, ...]
    """Ids."""
    tried: str
    """The one of them that was tried."""
    slug: str
    engine: str
    verdict: Verdict
    component: str
    """`numpy 1.26.4 -> 2.2.6`; several with ` and ` between; '' where none is named."""
    stack: str
    """Whose component it is: a stack's id, '' for what is of none."""
    category: str | None
    line: str
    remedy: str | None
    why: str
    """A sentence for what the verdict alone does not say."""
    evidence: tuple[Crossing, ...]

    @property
    def text(self) -> str:
        number = f"{len(self.cells)} {'cell' if len(self.cells) == 1 else 'cells'}"
        named = f"{self.verdict}{f': {self.component}' if self.component else ''}"
        return f"{number} of {self.engine} ({self.category or 'no category'}): {named}"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "cells": list(self.cells), "text": self.text, "meaning": VERDICTS[self.verdict]}


def trace_failures(
    project: Project, old_run_id: str, new_run_id: str, *, budget_seconds: float | None = None,
    progress: Callable[[str], None] = lambda text: None, cells: Sequence[str] | None = None,
) -> list[Traced]:  # fmt: skip
    """What makes the cells fail that worked (or failed otherwise) in one run and fail in another, most cells first. The runs
    are named as for `diff`. `cells`: ids of those that are asked about, else all that nobody expected to fail.

    Where a cell cannot be traced, its verdict says so; raises UsageError for what is no run or no such cell, SpecErrors for a
    matrix that cannot be read."""
    store = Store(project.artifacts)

    def tell(text: str) -> None:
        progress(plain(text))  # libraries' messages are in it

    found = history.diff(store, old_run_id, new_run_id)
    rows = _rows(found, cells)
    if not rows:
        return []
    deadline = time.monotonic() + budget_seconds if budget_seconds is not None else None
    runs = {str(run["id"]): run for run in store.runs()}
    spec, matrix = pipeline.load(project)
    out = []
    named: set[tuple[str, str, str]] = set()
    with pipeline.in_use(store):
        for group in _groups(rows):
            ids = [row["id"] for row in group]
            cheap = _cheapest(store, group)
            try:
                cell = matrix.find(cheap["id"])
            except UsageError:
                out.append(_untold(cheap, ids, "the matrix no longer has this cell"))
                continue
            work = pipeline.Work(project=project, spec=spec, matrix=matrix, cells=(cell,), select=f"#{cell.id}")
            tell(cell.slug + (f", and {len(ids) - 1} more that fail like it" if len(ids) > 1 else ""))
            one = _Trace(work, store, cell, cheap, ids, found["changes"], runs, deadline, tell, named)
            out.append(one.trace())
            tell(f"  {out[-1].verdict}" + (f": {out[-1].component}" if out[-1].component else f": {out[-1].why}"))
    return sorted(out, key=lambda one: -len(one.cells))


def _rows(found: Mapping[str, Any], cells: Sequence[str] | None) -> list[dict[str, Any]]:
    kinds = found["kinds"]
    rows = [*kinds["new-failures"], *(row for row in kinds["changed-cause"] if row.get("judged") != "otherwise")]
    if cells is None:
        return [row for row in rows if row["expected"] != "expected"]
    missing = [cell for cell in cells if all(row["id"] != cell for row in rows)]
    if missing:
        msg = (
            f"{', '.join(missing)}: no new failure of {found['new']['name']} against {found['old']['name']}; `enginematrix diff` "
            f"shows what changed"
        )
        raise UsageError(msg)
    return [row for row in rows if row["id"] in cells]


def _groups(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Rows that fail alike in one engine stack since the same run, the largest group first."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["engine"], row["cause"], row["old"]["run"], row["new"]["run"]), []).append(row)
    return sorted(groups.values(), key=len, reverse=True)


def _cheapest(store: Store, group: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The row whose steps took least, as far as that was kept."""
    places = {row["id"]: row for row in group}
    marks = ",".join("?" * len(places))
    query = f"select cell, outcome from results where run = ? and cell in ({marks})"  # noqa: S608
    keys = {outcome: cell for cell, outcome in store.read(query, [group[0]["new"]["run"], *places])}
    seconds: dict[str, float] = {}
    for key, record in store.outcomes(keys).items():
        seconds[keys[key]] = sum(stage.get("seconds") or 0.0 for stage in record.get("stages") or ())
    return min(group, key=lambda row: (seconds.get(row["id"], float("inf")), row["slug"]))


class _Stop(Exception):
    """Nothing more can be told."""


class _Trace:
    """One cell."""

    def __init__(
        self, work: Work, store: Store, cell: Cell, row: Mapping[str, Any], ids: Sequence[str], matrix: Sequence[Change],
        runs: Mapping[str, Mapping[str, Any]], deadline: float | None, progress: Callable[[str], None],
        named: set[tuple[str, str, str]],
    ) -> None:  # fmt: skip
        """`named`: components (name, old, new) that other groups were traced to; this one's join them."""
        self.store, self.row, self.ids, self.progress = store, row, ids, progress
        self.matrix, self.named = matrix, named
        self.cell = replace(cell, attributes=replace(cell.attributes, measure=False))  # a timing decides no failure
        self.old_run, self.new_run = runs[row["old"]["run"]], runs[row["new"]["run"]]
        self.work = replace(work, asked=self._isolation(work))
        self.lab = Lab(self.work, store, deadline=deadline, say=progress)
        stage: Stage = row["new"]["stage"] or "environment"
        self.failed_at: Stage = "environment" if row["new"]["status"] == "blocked" else stage
        self.crossings: list[Crossing] = []

    def trace(self) -> Traced:
        try:
            return self._trace()
        except InfrastructureError as error:
            return self._told("not traced", why=f"it could not be tried here: {error}")
        except (_Stop, trace_locks.LockGone) as error:
            return self._told("not traced", why=str(error))
        except EngineMatrixError as error:  # a bug in a family's template, say: other groups need not wait for it
            return self._told("not traced", why=f"{type(error).__name__}: {error}")

    def _trace(self) -> Traced:
        outside = [one for one in self.row["changes"] or () if not one["stack"] or one["component"] in _REALISED]
        outside += [one for one in self.matrix if one["component"] == "matrix"]
        stacks, data = self._needed()
        new = trace_locks.of_run(self.store, self.work.project, self.new_run, stacks, data)
        old = trace_locks.of_run(self.store, self.work.project, self.old_run, stacks, data)
        stacks, data = self._used(stacks, data, new)
        images = {step.stack.id for step in self.lab.plan([self.cell], new).steps
                  if step.kind == "environment" and step.stack is not None and step.data["isolation"] == "docker"}  # fmt: skip
        parts = trace_parts.components(old, new, stacks, data, images)
        self.old, self.new, self.stacks, self.data = old, new, stacks, data
        again = self._try("new lock", parts, since=str(self.new_run["finished"] or self.new_run["started"]))
        if again.answer == "works" and (moved := self._moved_since()):
            raise _Stop(f"it works here and now, and since that run changed: {'; '.join(words(moved))}")
        if again.answer == "works":
            return self._told("flaky", why="it works when it is tried again with the same lock")
        if again.answer == "unresolved":
            raise _Stop(f"with the new lock it does not fail as it did: {again.line}")
        if not parts:
            return self._elsewhere(outside, _NO_ENTRY)
        back = self._try("old lock", (), since=str(self.new_run["finished"] or self.new_run["started"]))
        if back.answer == "fails":
            return self._elsewhere(outside, "it fails with the old lock too")
        if back.answer == "unresolved":
            raise _Stop(f"with the old lock it fails otherwise now: {back.line}")
        found = self._likely(parts) or minimal(parts, lambda moved: self._try("", moved).answer)
        if not found.apart:
            self.named |= {(part.name, part.old, part.new) for part in found.changes}
        component = " and ".join(str(part) for part in found.changes)
        stack = ", ".join(dict.fromkeys(part.stack for part in found.changes if part.stack))
        if found.apart:
            apart = ", ".join(part.name for part in found.apart)
            return self._told("inseparable", component, stack, f"without {apart} nothing could be told")
        if len(found.changes) > 1:
            return self._told("interaction", component, stack, "with any one of them as it was, it works")
        why = (
            f"of {len(parts)} components that moved"
            if len(parts) > 1
            else "nothing else moved in the lock of its stacks"
        )
        return self._told("named", component, stack, why)

    def _likely(self, parts: Sequence[Component]) -> Found[Component] | None:
        """What was named in another stack already, if that alone makes this one fail too."""
        for part in parts:
            if (
                len(parts) > 1
                and (part.name, part.old, part.new) in self.named
                and self._try("", (part,)).answer == "fails"
            ):
                return Found(changes=(part,), apart=())
        return None

    def _moved_since(self) -> list[Change]:
        """What is otherwise here and now than it was in the new run, and not in its lock."""
        run, here = self.new_run, self.lab.here
        now = {
            "code": digest(worker_hashes())[:16], "processor": {"flags": here.flags, "environment": here.environment},
            "recipes": {name: recipe.sha256 for name, recipe in self.work.spec.recipes.items()},
            "matrix": {"sha256": self.work.spec.sha256}, "machine": here.as_dict(),
        }  # fmt: skip
        found = changes.run(run, now) + changes.recipe(self.cell.model, run, now)
        return [one for one in found if one["component"] not in _BOOT]

    def _elsewhere(self, outside: Sequence[Change], why: str) -> Traced:
        if outside:
            return self._told("not in the lock", "; ".join(words(outside)), "", why)
        if self.row["changes"] is None:
            return self._told("not in the lock", why=f"{why}, and what else moved was not kept")
        if why == _NO_ENTRY:
            unknown = "nothing else that is recorded did, and it fails again: it depends on what nobody pins"
            return self._told("not in the lock", why=f"{why}, {unknown}")
        return self._told("flaky", why=f"{why}, and nothing else that is recorded moved")

    # Locks ----------------------------------------------------------------------------------------------------------

    def _needed(self) -> tuple[list[Stack], list[str]]:
        from builder import locking

        recipe = self.work.spec.recipes.get(self.cell.model)
        source = lock.data_package(recipe) if recipe is not None else None
        return locking.stacks_of(self.work, [self.cell]), [source] if source else []

    def _used(self, stacks: Sequence[Stack], data: list[str], new: Lock) -> tuple[list[Stack], list[str]]:
        """The stacks that the cell's steps run in, the engine's first."""
        (chain,) = self.lab.plan([self.cell], new).chains
        used = {step.environment.name for step in _steps(chain) if step.environment is not None}
        used |= {chain.engine.name, chain.exporter.name} | ({chain.built_in.name} if chain.built_in else set())
        found = [stack for stack in stacks if stack.id in used]
        return sorted(
            found, key=lambda stack: stack.id != self.cell.engine.id
        ), data if chain.obtain is not None else []

    def _isolation(self, work: Work) -> Isolation | None:
        """How the stacks were realised in the new run, where the matrix does not say it. Where that cannot be told, as the matrix
        has it."""
        kept = history_runs.pins(self.store, str(self.new_run["id"]))
        was = {name: entry.get("isolation") for name, entry in kept.items()}
        ways: tuple[Isolation | None, ...] = (None, "venv", "docker")
        locked, here = lock.read(work.project.lock) or Lock(cutoff=""), machine.read()
        for way in ways:
            plan = pipeline.make_plan(replace(work, asked=way), locked, here)
            steps = [step for step in plan.steps if step.kind == "environment"]
            if all(was.get(step.name, step.data["isolation"]) == step.data["isolation"] for step in steps):
                return way
        return work.asked

    # Trials ---------------------------------------------------------------------------------------------------------

    def _try(self, name: str, moved: Sequence[Component], since: str = "") -> Crossing:
        """Run the cell with these components as in the new lock. Raises _Stop where the budget ended or infrastructure failed."""
        told = tuple(str(part) for part in moved)
        name = name or " and ".join(told)
        crossed = trace_parts.cross(self.old, self.new, self.stacks, self.data, moved)
        if self.lab.over:
            raise _Stop(f"the time budget ended after {len(self.crossings)} crossings")
        nothing: dict[str, Any] = {"status": "", "category": None, "key": "", "when": None}
        misfit = self._misfit(crossed, moved) if name not in ("new lock", "old lock") else ""
        if misfit:
            return self._keep(Crossing(moved=told, name=name, answer="unresolved", line=misfit, **nothing))
        outcome = self._run(crossed, since)
        answer = self._judge(outcome)
        line = str(outcome["line"] or outcome["reason"]) if answer != "works" else ""
        line = (
            f"fails otherwise: {outcome['category'] or outcome['status']}: {line}" if answer == "unresolved" else line
        )
        return self._keep(Crossing(
            moved=told, name=name, answer=answer, status=outcome["status"], category=outcome["category"], line=line,
            key=outcome["key"], when=outcome["when"],
        ))  # fmt: skip

    def _keep(self, crossing: Crossing) -> Crossing:
        self.crossings.append(crossing)
        self.progress(f"  {crossing}")
        return crossing

    def _run(self, crossed: Lock, since: str) -> dict[str, Any]:
        (outcome,) = self.lab.run([self.cell], crossed, failed_at=self.failed_at, since=since)
        lost = no_evidence(outcome)
        if lost == BUDGET:
            raise _Stop(f"the time budget ended after {len(self.crossings)} crossings")
        if lost:
            raise _Stop(f"it could not be tried here: {lost}")
        return outcome

    def _judge(self, outcome: Mapping[str, Any]) -> Answer:
        new, old = self.row["new"], self.row["old"]
        if _alike(outcome, new):
            return "fails"
        bad = outcome["status"] in FAILING or outcome["status"] == "blocked"
        if not bad or (old["status"] not in _GOOD and _alike(outcome, old)):
            return "works"
        return "unresolved"

    def _misfit(self, crossed: Lock, moved: Sequence[Component]) -> str:
        """Why a stack of the crossing cannot be: a set of packages that no resolver gives. A stack whose old or new set is none
        either is not held to it."""
        for stack in self.stacks:
            pins = crossed.stacks.get(stack.id)
            if pins is None or not any((part.kind, part.stack) == ("package", stack.id) for part in moved):
                continue
            ends = [found.stacks[stack.id] for found in (self.old, self.new)]
            if pins.key in {end.key for end in ends}:
                continue
            found = self.lab.misfit(pins, crossed.cutoff)
            if found and not any(self.lab.misfit(end, crossed.cutoff) for end in ends):
                return f"cannot be installed: {found}"
        return ""

    def _told(self, verdict: Verdict, component: str = "", stack: str = "", why: str = "") -> Traced:
        new = self.row["new"]
        return Traced(
            cells=tuple(self.ids), tried=self.row["id"], slug=self.row["slug"], engine=self.row["engine"] or "",
            verdict=verdict, component=component, stack=stack, category=new["category"],
            line=str(new["line"] or new["reason"] or ""), remedy=self.row["remedy"], why=why, evidence=tuple(self.crossings),
        )  # fmt: skip


def _steps(chain: Chain) -> list[Any]:
    steps = list(chain.steps())
    return [*steps, *(need for step in steps for need in before(step))]


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two outcomes are one failure: by status, category and signature; by the line where no signature fits."""
    plain = ("status", "category", "signature")
    if [one[name] for name in plain] != [other[name] for name in plain]:
        return False
    if one["status"] not in FAILING and one["status"] != "blocked":
        return False
    lines = [group_key("", None, None, each["line"] or each["reason"], None) for each in (one, other)]
    return one["signature"] is not None or lines[0] == lines[1]


def _untold(row: Mapping[str, Any], ids: Sequence[str], why: str) -> Traced:
    return Traced(
        cells=tuple(ids), tried=row["id"], slug=row["slug"], engine=row["engine"] or "", verdict="not traced", component="",
        stack="", category=row["new"]["category"], line=str(row["new"]["line"] or row["new"]["reason"] or ""),
        remedy=row["remedy"], why=why, evidence=(),
    )  # fmt: skip
