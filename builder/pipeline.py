"""The program on one page: what each command does, as steps that feed each other.

load -> select -> ensure_locked -> make_plan -> execute -> collect -> write_report -> exit_code
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from builder import (
    __version__,
    environment,
    isolation,
    isolation_compare,
    lock,
    locking,
    machine,
    matrix,
    nightly_order,
    portability_grid,
    pulls,
    repro,
    results,
    spec,
)
from builder.environment import engine
from builder.errors import EngineMatrixError, InfrastructureError, UsageError
from builder.history_runs import INTERRUPTED, OVER_BUDGET
from builder.isolation import Isolation
from builder.matrix import Matrix, Selection
from builder.plan import Again, Chain, Code, Plan, Planner, Step, reconcile, remake
from builder.project import Project, utc
from builder.pulls import Pull
from builder.spec import Group, Spec
from builder.store import Store
from builder.values import FAILING, STATUSES, Cell, Docker, digest

if TYPE_CHECKING:
    from builder.environment.images import DockerImage
    from builder.execute.local import Listener
    from builder.predict import Claim, Prediction

Listeners: TypeAlias = (
    "Callable[[int, int, Callable[[Chain], dict[str, Any]]], contextlib.AbstractContextManager[Listener]]"
)
"""Given the cells and steps to come and what gives a finished chain's outcome: who is told."""
Keep: TypeAlias = Literal["all", "failing", "none"]


@dataclass(kw_only=True)
class Work:
    """What one command works on."""

    project: Project
    spec: Spec
    matrix: Matrix
    cells: tuple[Cell, ...]
    select: str
    budget: float | None = None
    """Seconds, from the group."""
    order: tuple[str, ...] = ()
    """The group's order of work: `failed`, `changed`, `oldest`, `uncovered`."""
    selection: Selection | None = None
    asked: Isolation | None = None
    """How stacks are to be realised, where the command line says so."""
    against: Mapping[str, Claim] = field(default_factory=dict)
    """Cells that are left alone -> the fact that says that they cannot work; see `foresee`."""
    insist: frozenset[str] = frozenset()
    """Ids of cells that are tried whatever the facts say."""

    @property
    def isolation(self) -> Isolation:
        return self.asked or self.spec.isolation

    @cached_property
    def docker(self) -> Docker:
        """Raises UsageError for what the environment's variables say."""
        return isolation.with_environment(self.spec.docker)


@dataclass(kw_only=True)
class Result:
    """What a run left: the report's data, and the steps that ended without evidence."""

    report: dict[str, Any]
    ran: int
    """Steps that were executed."""
    interrupted: bool = False
    over_budget: bool = False
    infrastructure: dict[Step, str] = field(default_factory=dict)


def load(project: Project) -> tuple[Spec, Matrix]:
    loaded = spec.load(project.matrix, project.images, project.recipes)
    return loaded, matrix.expand(loaded)


def _texts(group: Group) -> list[str]:
    return [group.select, (group.sample.always or "") if group.sample else ""]


def select(
    project: Project, *, group: str | None, expression: str | None, failed: bool = False, default: str = "default",
    asked: Isolation | None = None,
) -> Work:  # fmt: skip
    """Cells asked for: a group (the default one when nothing is said), narrowed by an expression and by `--failed`."""
    if expression is not None and not expression.strip():
        raise UsageError("the selection is empty: write `all`, or leave it out")
    loaded, expanded = load(project)
    texts = [expression or "", *(text for name in loaded.groups for text in _texts(loaded.groups[name]))]
    asks = failed or any("status" in text for text in texts)
    status = Store(project.artifacts).latest_status() if asks else {}
    if group is None and expression is None:
        group = default if default in loaded.groups else "all"
    chosen = expanded.select(group or expression or "all", status=status)
    cells, names = chosen.cells, [f"group {group}" if group else str(expression)]
    if group and expression:
        wanted = expanded.select(expression, status=status).ids
        cells = tuple(cell for cell in cells if cell.id in wanted)
        names.append(expression)
    if failed:
        cells = tuple(cell for cell in cells if status.get(cell.id) in (*FAILING, "blocked"))
        names.append("failed last time")
    return Work(
        project=project, spec=loaded, matrix=expanded, cells=cells, select=", ".join(names), budget=chosen.budget,
        order=chosen.order, selection=chosen, asked=asked,
    )  # fmt: skip


def in_docker(work: Work, *, here: bool = False) -> frozenset[str]:
    """The ids of the stacks that are realised as Docker images; `here`: none where they could not be used on this machine,
    for want of an engine or because virtual environments were asked for. A lock is for all machines, a run for this one."""
    families, available = work.spec.families, engine.available()
    if here and (work.isolation == "venv" or not available):
        return frozenset()
    stacks = locking.stacks_of(work, work.cells)
    return frozenset(
        s.id for s in stacks if isolation.choose(families[s.family], work.isolation, available) == "docker"
    )


def ensure_locked(
    work: Work, here: machine.Machine, *, frozen: bool, say: Callable[[str], None], engine_needed: bool = True
) -> lock.Lock:
    """The lock, complete for what this machine can run (or, unless `engine_needed`, could with a Docker engine); see
    locking.ensure_locked."""
    docker = in_docker(work, here=engine_needed)
    mirrors = work.docker.mirrors if docker else {}
    return locking.ensure_locked(work, here, frozen=frozen, say=say, docker=docker, mirrors=mirrors)


# Planning ----------------------------------------------------------------------------------------------------------


def foresee(work: Work, here: machine.Machine, store: Store, *, skip: bool) -> dict[str, Prediction]:
    """What the facts say of each cell; with `skip`, those that they say cannot work are left alone from here on."""
    from builder.predict import Prediction, Predictor

    refuted = {claim: observed for claim, (_, observed) in store.refuted().items()}
    predictor = Predictor(work.spec.families, here, refuted=refuted)
    # Of a suite every case is run, and what becomes of it is the question.
    predicted = [cell for cell in work.cells if cell.model not in work.spec.suites and cell.built_on is None]
    found = dict.fromkeys((cell.id for cell in work.cells), Prediction(claims=()))
    found.update({cell.id: predictor.predict(cell) for cell in predicted})
    found.update(portability_grid.foreseen(work.cells, predictor.predict))
    against = {cell: found[cell].against for cell in found if cell not in work.insist} if skip else {}
    work.against = {cell: claim for cell, claim in against.items() if claim is not None}
    return found


def make_plan(
    work: Work, locked: lock.Lock, here: machine.Machine, *, refused: Mapping[str, str] = MappingProxyType({})
) -> Plan:
    """Cells -> steps, not yet held against what is stored. `refused`: stacks that this machine has no room for -> why."""
    return make_planner(work, locked, here, refused=refused).plan(work.cells)


def make_planner(
    work: Work, locked: lock.Lock, here: machine.Machine, *, refused: Mapping[str, str] = MappingProxyType({})
) -> Planner:
    """What turns the cells of `work` into steps."""
    return Planner(
        families=work.spec.families,
        recipes=work.spec.recipes,
        reference_stacks={model: work.spec.reference_stack(model) for model in {cell.model for cell in work.cells}},
        tools=work.spec.tools,
        lock=locked,
        machine=here,
        code=Code.of(environment.worker_hashes()),
        isolation=work.isolation,
        docker=engine.available(),
        platform=engine.platform(),
        images=work.project.images,
        refused=refused,
        settings=work.spec.docker,
        against=work.against,
        suites=work.spec.suites,
        quantizers=work.spec.quantizers,
    )


def planned(
    work: Work, locked: lock.Lock, here: machine.Machine, store: Store, *, again: Again = "", engines: bool = True
) -> tuple[Plan, list[Pull]]:
    """The plan with what is stored, and what must be pulled for it. Asks the Docker engine which layers it has, and
    whether they fit, only when an image is to be made."""
    plan = make_plan(work, locked, here)
    _hold(plan, store, again, engines)
    needed = images_to_make(plan, work, store)
    if not needed:
        return plan, []
    from builder.environment.room import room

    present, free = room()
    found = pulls.of(needed, locked, engine.platform(), present, free)
    refused = {pull.stack.id: pull.refused for pull in found if pull.refused}
    if refused:
        plan = make_plan(work, locked, here, refused=refused)
        _hold(plan, store, again, engines)
    return plan, found


def _hold(plan: Plan, store: Store, again: Again, engines: bool) -> None:
    """Hold a plan against what is stored."""
    reconcile(plan, store.light(), store.root / "objects", again=again, engines=engines)

    def whole(steps: Iterable[Step]) -> Iterable[Step]:
        records = store.steps(step.key for step in steps)
        return [step for step in steps if step.key in records and store.whole(records[step.key])]

    remake(plan, whole)


def images_to_make(plan: Plan, work: Work, store: Store) -> list[DockerImage]:
    """Images that steps to run need and that are not there, by files alone."""
    found = [step.data["rendered"] for step in plan.environments()]
    if not any(found):
        return []
    from builder.environment.images import DockerImage

    families = work.spec.families
    images = [DockerImage(store, it, work.docker, families[it.stack.family]) for it in found if it is not None]
    return [image for image in images if not image.ready()]


def realise(step: Step, work: Work, store: Store) -> environment.Environment:
    """The environment of a step, as its plan says that it is realised."""
    if step.data["isolation"] == "docker":
        from builder.environment.images import DockerImage

        return DockerImage(store, step.data["rendered"], work.docker, step.data["family"])
    from builder.environment.venv import Venv

    return Venv(store, step.name, step.data["pins"])


# Running -----------------------------------------------------------------------------------------------------------


def run(
    work: Work, *, frozen: bool, again: Again = "", jobs: int | None, budget: float | None,
    command: str, policy: str, listener: Listeners,
    say: Callable[[str], None], on_log: Callable[[Path], None] = lambda path: None, write: bool = True, keep: Keep = "all",
    predict: bool = True, leave: repro.How = "findings",
) -> Result:  # fmt: skip
    """Do what is not done, then say what became of every selected cell. `keep`: the cells whose engines stay on disk once
    they are finished; what was found out of the others stays all the same. `predict`: leave alone what the facts say cannot
    work, unless it is asked to run `again`."""
    started = time.time()
    here = machine.read()
    store = Store(work.project.artifacts)
    unlocked = ""
    try:
        locked = ensure_locked(work, here, frozen=frozen, say=say)
    except InfrastructureError as error:  # an index or a registry is away: what the lock has can run all the same
        unlocked = str(error)
        locked = lock.read(work.project.lock) or lock.Lock(cutoff="")
        say(unlocked)
    with in_use(store):
        predictions = foresee(work, here, store, skip=predict and not again)
        plan, _ = planned(work, locked, here, store, again=again, engines=keep == "all")
        nightly_order.prioritise(plan, work.order, store)
        todo = plan.todo()
        run_id = f"{utc(started)}-{secrets.token_hex(2)}"
        result = Result(report={}, ran=len(todo))
        if todo:
            _execute(
                plan,
                store,
                work,
                result,
                run_id,
                jobs,
                budget,
                listener,
                on_log,
                again,
                here,
                len(todo),
                unlocked,
                keep,
            )
        cells = collect(plan, work, store, result)
        if keep != "none" or todo:
            results.deliver(plan, store, cells, again=bool(todo), new=keep != "none")
        predictions = with_grid(cells, predictions)
        both = _both_ways_if_readable(work, locked, here, store, cells)
        result.report = report_of(
            work, locked, here, run_id, started, command, policy, cells, result, both, predictions
        )
        _refute(work, store, result, cells, predictions, say)
        _remember(work, store, plan, result, locked, here, cells)
        repro.leave(plan.chains, store, cells, leave if write else "none")
        if write:
            results.write_report(work.project, result.report)
    return result


def stored(
    work: Work, *, command: str, policy: str, write: bool = True, predict: bool = True, leave: repro.How = "findings"
) -> Result:
    """The report of what is stored, running nothing. What was never run is `skipped`, and says so."""
    here = machine.read()
    locked = lock.read(work.project.lock) or lock.Lock(cutoff="")
    store = Store(work.project.artifacts)
    predictions = foresee(work, here, store, skip=predict)
    plan = make_plan(work, locked, here)
    reconcile(plan, store.light(), store.root / "objects", engines=False)
    result = Result(report={}, ran=0)
    started = time.time()
    cells = collect(plan, work, store, result)
    predictions = with_grid(cells, predictions)
    both = _both_ways_if_readable(work, locked, here, store, cells)
    run_id = f"{utc(started)}-stored"
    result.report = report_of(work, locked, here, run_id, started, command, policy, cells, result, both, predictions)
    repro.leave(plan.chains, store, cells, leave if write else "none")
    if write:
        results.write_report(work.project, result.report)
    return result


def with_grid(cells: Sequence[Mapping[str, Any]], predictions: dict[str, Prediction]) -> dict[str, Prediction]:
    """With what is said of the cells of the portability grid, once their engines are there to ask about."""
    if not any("check" in cell for cell in cells):
        return predictions
    from builder import portability_grid_check

    return portability_grid_check.predictions(cells, predictions)


def _execute(
    plan: Plan, store: Store, work: Work, result: Result, run_id: str, jobs: int | None, budget: float | None,
    listener: Listeners, on_log: Callable[[Path], None],
    again: Again, here: machine.Machine, steps: int, unlocked: str, keep: Keep,
) -> None:  # fmt: skip
    from builder.execute.gpus import usable
    from builder.execute.local import Local

    store.sweep()
    seconds = budget if budget is not None else work.budget
    deadline = None if seconds is None else time.monotonic() + seconds
    busy = sum(any(step.wanted for step in chain.steps()) for chain in plan.chains)

    def judge(chain: Chain) -> dict[str, Any]:
        return results.judge([chain], store, result.infrastructure, "not run")[0]

    def dismiss(chain: Chain) -> bool:
        return keep == "none" or judge(chain)["status"] not in FAILING

    told_by = listener(busy, steps, judge)
    with told_by as told, terminate_as_interrupt():
        local = Local(
            plan, store, lambda step: realise(step, work, store), told, run=run_id,
            jobs=jobs or here.cores, cores=here.cores, gpu=bool(here.gpus), gpus=usable(here.gpus, os.environ),
            machine=here.as_dict(), on_log=on_log, again=again,
            unlocked=unlocked, deadline=deadline, dismiss=None if keep == "all" else dismiss,
        )  # fmt: skip
        result.infrastructure = local.infrastructure
        try:
            if any(step.data["isolation"] == "docker" for step in plan.environments()):
                _prepare_docker(plan, work, store, jobs or here.cores, seconds, told.message)
            result.interrupted = not local.run()
        except KeyboardInterrupt:  # while images were built
            result.interrupted = True
        result.over_budget = local.over_budget
    shutil.rmtree(store.root / "work" / run_id, ignore_errors=True)


def _prepare_docker(
    plan: Plan, work: Work, store: Store, jobs: int, seconds: float | None, say: Callable[[str], None]
) -> None:
    """Remove containers that a killed run left, and with buildx build the missing images together, within `seconds`: what
    fails here is tried, and told, when its step comes."""
    from builder.environment import buildkit, container, images

    with contextlib.suppress(InfrastructureError):
        container.sweep(engine.client(), store.root)
        if engine.builder_cli().buildx and (missing := images_to_make(plan, work, store)):
            say(f"building {len(missing)} images; their logs: {store.root / 'images'}/*/{images.LOG}")
            images.build(missing, jobs=jobs, timeout=min(buildkit.TIMEOUT, seconds or buildkit.TIMEOUT))


def collect(plan: Plan, work: Work, store: Store, result: Result) -> list[dict[str, Any]]:
    """Every chain's outcome."""
    not_run = INTERRUPTED if result.interrupted else ""
    if result.over_budget:
        not_run = OVER_BUDGET
    cells = results.judge(plan.chains, store, result.infrastructure, not_run)
    for cell in cells:
        cell["command"] = f"{work.project.program} repro {cell['id']}{_isolated(work, set(cell['isolation'].values()))}"
    return cells


def _isolated(work: Work, ways: set[str]) -> str:
    """What the command line must say for a cell to be realised in these ways again: nothing where the matrix says it."""
    if work.isolation == work.spec.isolation and (work.isolation != "auto" or ways != {"docker"}):
        return ""
    return f" --isolation {min(ways) if len(ways) == 1 else work.isolation}"


def compare_isolation(work: Work) -> dict[str, Any] | None:
    """Where the selected cells came out otherwise in Docker than in virtual environments; see `both_ways`."""
    locked = lock.read(work.project.lock) or lock.Lock(cutoff="")
    return both_ways(work, locked, machine.read(), Store(work.project.artifacts), None)


def both_ways(
    work: Work, locked: lock.Lock, here: machine.Machine, store: Store, cells: list[dict[str, Any]] | None
) -> dict[str, Any] | None:
    """Where the cells came out otherwise in Docker than in virtual environments, as far as both ways are stored. None where
    no image was ever made. `cells`: outcomes that are known already. Raises RenderError for a template that cannot be
    rendered."""
    if not any((store.root / "images").glob("*/image.json")):
        return None
    ways = {}
    each: tuple[Isolation, ...] = ("venv", "docker")
    for way in each:
        if cells is not None and all(set(cell["isolation"].values()) == {way} for cell in cells):
            found = cells
        else:
            other = replace(work, asked=way)
            plan = make_plan(other, locked, here)
            reconcile(plan, store.light(), store.root / "objects", engines=False)
            found = collect(plan, other, store, Result(report={}, ran=0))
        ways[way] = {cell["id"]: cell for cell in found}
    return isolation_compare.compare(ways["venv"], ways["docker"])


def _both_ways_if_readable(
    work: Work, locked: lock.Lock, here: machine.Machine, store: Store, cells: list[dict[str, Any]],
) -> dict[str, Any] | None:  # fmt: skip
    """`both_ways`, for reports: a template that somebody is editing must not cost the report of a run without Docker."""
    try:
        return both_ways(work, locked, here, store, cells)
    except EngineMatrixError:
        return None


# Reporting ---------------------------------------------------------------------------------------------------------


def report_of(
    work: Work, locked: lock.Lock, here: machine.Machine, run_id: str, started: float, command: str, policy: str,
    cells: list[dict[str, Any]], result: Result, both: dict[str, Any] | None, predictions: Mapping[str, Prediction],
) -> dict[str, Any]:  # fmt: skip
    """The run as docs/report-schema.md has it, without findings. started: seconds since 1970."""
    from builder.predict_score import score

    for cell in cells:
        foreseen = predictions[cell["id"]]
        cell["prediction"] = {"state": foreseen.state, "claims": [claim.key for claim in foreseen.claims]}
    counts = dict.fromkeys(STATUSES, 0)
    for cell in cells:
        counts[cell["status"]] += 1
    report: dict[str, Any] = {
        "schema": 1, "version": __version__,
        "run": {
            "id": run_id, "started": utc(started), "finished": utc(), "seconds": round(time.time() - started, 3),
            "interrupted": result.interrupted, "over_budget": result.over_budget, "command": command, "select": work.select,
            "candidates": work.selection.candidates if work.selection else len(work.cells),
            "matrix": {"file": work.project.matrix.name, "name": work.spec.name, "sha256": work.spec.sha256},
            "lock": {"sha256": digest(locked.dumps()), "cutoff": locked.cutoffs()[1]}, "machine": here.as_dict(),
            "steps": result.ran,
        },
        "counts": counts, "selected": len(work.cells), "cells": cells,
        "isolation": both, "predictions": score(predictions, cells),
    }  # fmt: skip
    code, because = results.exit_code(report, policy)
    report["exit"] = {"code": code, "policy": policy, "because": because}
    return report


def _remember(
    work: Work, store: Store, plan: Plan, result: Result, locked: lock.Lock, here: machine.Machine, cells: list[dict[str, Any]],
) -> None:  # fmt: skip
    from builder import history_keep, trace_locks

    report = result.report
    if not result.ran and not history_keep.moved(store, report, cells):
        return
    trace_locks.keep(store, locked)
    known = work.spec.recipes  # suites have none
    recipes = {cell.model: known[cell.model].sha256 for cell in work.cells if cell.model in known}
    history_keep.remember(store, plan, report, cells, history_keep.summary(report, locked, here, recipes))


def _refute(
    work: Work, store: Store, result: Result, cells: list[dict[str, Any]], predictions: Mapping[str, Prediction],
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """Remember what these cells show against the facts; also where nothing ran, since a fact may have come into the catalog
    after them."""
    from builder.predict_score import refuted, shown

    wrong = refuted(result.report["predictions"], cells)
    store.put_refuted(wrong, shown(store.refuted(), predictions, cells))
    left = sum(cell["status"] == "unsupported" and work.against[cell["id"]].key in wrong for cell in cells)
    if left:
        say(f"{left} cells were left alone by facts that other cells refute; run again to try them")


# Small things ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def in_use(store: Store) -> Iterator[None]:
    """Runs share the store; `gc` takes it alone."""
    with (store.root / "in-use").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM (a CI system cancelling) ends a run as Ctrl-C does: what is finished is reported."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
