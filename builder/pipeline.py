"""The program on one page: what each command does, as steps that feed each other.

load -> select -> ensure_locked -> make_plan -> execute -> collect -> write_report -> exit_code
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import fnmatch
import functools
import hashlib
import json
import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from builder import __version__, environment, errors, lock, machine, matrix, spec
from builder import select as select_
from builder.errors import InfrastructureError, UsageError
from builder.fields import of_stack
from builder.matrix import Matrix, Selection
from builder.plan import Again, Chain, Code, Plan, Planner, Step, reconcile
from builder.project import Project
from builder.select import SelectError
from builder.spec import Group, Spec
from builder.store import Store
from builder.values import FAILING, STATUSES, Cell, Recipe, Stack, digest

if TYPE_CHECKING:
    from builder.execute.local import Listener


Listeners: TypeAlias = (
    "Callable[[int, int, Callable[[Chain], dict[str, Any]]], contextlib.AbstractContextManager[Listener]]"
)
"""Given the cells and steps to come and what gives a finished chain's outcome: who is told."""


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
    """The group's order of work: `failed`, `changed`, `oldest`."""
    selection: Selection | None = None


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
    project: Project, *, group: str | None, expression: str | None, failed: bool = False, default: str = "default"
) -> Work:
    """Cells asked for: a group (the default one when nothing is said), narrowed by an expression and by `--failed`."""
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
        order=chosen.order, selection=chosen,
    )  # fmt: skip


# Locking -----------------------------------------------------------------------------------------------------------


def stacks_of(work: Work, cells: Sequence[Cell]) -> list[Stack]:
    """Every stack that these cells need, once: exporters, engines, the references' and the tools'."""
    stacks = [*(cell.exporter for cell in cells), *(cell.engine for cell in cells)]
    stacks += [work.spec.reference_stack(model) for model in dict.fromkeys(cell.model for cell in cells)]
    if work.spec.tools is not None:
        stacks.append(work.spec.tools)
    return list({stack.id: stack for stack in stacks}.values())


def named(work: Work, text: str) -> list[Stack]:
    """The stacks that an expression names (`lock --update`). It is held against each stack's own fields, never against
    cells: pins that nobody named must stay. `engine...` takes engines only and `exporter...` exporters only; a word is a
    stack's name, with wildcards, or `all`. Raises SelectError for what is no stack's, UsageError when nothing fits."""
    stacks = stacks_of(work, work.cells)
    roles = {
        "engine": {cell.engine.id for cell in work.cells},
        "exporter": {stack.id for stack in stacks if stack.role == "exporter"},
    }
    known = work.spec.fields

    def leaf(term: select_.Leaf) -> int:
        if isinstance(term, select_.Word):
            if term.text in work.spec.groups or term.text == "changed" or term.text.startswith("#"):
                hint = f"write a stack's name: {stacks[0].id}"
                raise SelectError(text, term.offset, f"{term.text!r} names cells, not stacks", hint)
            fits = [term.text == "all" or fnmatch.fnmatchcase(stack.id, term.text) for stack in stacks]
        else:
            role, dot, field = known.names.get(term.field, term.field).partition(".")
            if role not in roles or not dot:
                hint = "write a field of a stack: engine, engine.family, exporter.python"
                raise SelectError(text, term.offset, f"{term.field!r} is no field of a stack", hint)
            fits = [stack.id in roles[role] and term.accepts(of_stack(stack, field)) for stack in stacks]
        return sum(1 << number for number, fit in enumerate(fits) if fit)

    mask = select_.evaluate(select_.parse(text), leaf, (1 << len(stacks)) - 1)
    found = [stack for number, stack in enumerate(stacks) if mask >> number & 1]
    if not found:
        msg = f"no stack of the matrix fits {text!r}; there are " + ", ".join(stack.id for stack in stacks)
        raise UsageError(msg)
    return found


def lockable(work: Work, here: machine.Machine) -> tuple[list[Stack], list[Recipe]]:
    """The stacks that this machine can make environments for, and the recipes, whose entries in the lock a run needs."""
    families = work.spec.families
    stacks = [s for s in stacks_of(work, work.cells) if all(here.has(need) for need in families[s.family].needs)]
    models = {cell.model for cell in work.cells}
    return stacks, [recipe for name, recipe in work.spec.recipes.items() if name in models]


def ensure_locked(work: Work, here: machine.Machine, *, frozen: bool, say: Callable[[str], None]) -> lock.Lock:
    """The lock, with an entry for every stack that can run here; asks the package index for what is missing.

    Raises LockError when something is missing and `frozen`, InfrastructureError when the index cannot be reached."""
    current = lock.read(work.project.lock)
    stacks, sources = (current or lock.Lock(cutoff=_utc())).missing(*lockable(work, here))
    if not stacks and not sources and current is not None:
        return current
    if frozen:
        names = ", ".join([*(stack.id for stack in stacks), *sources][:5])
        msg = f"{work.project.lock}: no entry for {names}; run `enginematrix lock` and commit the file"
        raise lock.LockError(msg)
    return update_lock(work, here, current, stacks, sources, cutoff=None, say=say)[0]


def update_lock(
    work: Work, here: machine.Machine, current: lock.Lock | None, stacks: Sequence[Stack], sources: Sequence[str], *,
    cutoff: str | None, whole: bool = False, say: Callable[[str], None], write: bool = True,
) -> tuple[lock.Lock, list[str]]:  # fmt: skip
    """Resolve stacks and data packages and write the lock. The cut-off is the lock's when `whole`, else that of these
    stacks alone. Returns the lock and its troubles: pins that were kept because there are none under this cut-off, and
    new stacks that have none though this machine could make their environments.

    Packages that do not go together are recorded with uv's reason, but never in the place of pins that are still valid.
    When the index is away nothing is recorded of it, and the InfrastructureError names what was left out."""
    from concurrent.futures import ThreadPoolExecutor

    from builder.environment import uv

    new = current or lock.Lock(cutoff=cutoff or _utc())
    if whole and cutoff and cutoff != new.cutoff:
        new.move(cutoff)
    until = cutoff or new.cutoff
    new.tools = {"uv": uv.version(), "enginematrix": __version__}
    away: list[str] = []
    troubles: list[str] = []

    def one(stack: Stack) -> lock.Pins | None:
        try:
            return uv.resolve(stack, until)
        except uv.PackageError as error:
            return lock.Pins(
                python=stack.fields["python"], requirements=lock.lines(stack), packages=(), hashes={}, unresolved=str(error)
            )  # fmt: skip
        except InfrastructureError as error:
            away.append(str(error))
            return None

    with ThreadPoolExecutor(4) as pool:
        for stack, pins in zip(stacks, pool.map(one, stacks), strict=True):
            if pins is None:
                continue
            before = new.entry(stack)
            if pins.unresolved and before is not None and not before.unresolved:
                troubles.append(f"{stack.id}: kept as it was; up to {until}: {pins.unresolved}")
                continue
            new.stacks[stack.id] = dataclasses.replace(pins, cutoff="" if until == new.cutoff else until)
            if not pins.unresolved:
                say(f"locked {stack.id} ({len(pins.packages)} packages)")
            elif before is None and all(here.has(need) for need in work.spec.families[stack.family].needs):
                troubles.append(f"{stack.id}: unresolved: {pins.unresolved}")
            else:
                say(f"locked {stack.id} as unresolved: {pins.unresolved}")
    for name in sources:
        try:
            new.sources[name] = uv.resolve_data(name, until)
            say(f"locked {name} (data)")
        except uv.PackageError as error:
            if name not in new.sources:
                away.append(str(error))
            else:
                troubles.append(f"{name} (data): kept as it was; up to {until}: {error}")
        except InfrastructureError as error:
            away.append(str(error))
    for trouble in troubles:
        say(trouble)
    if write:
        _write(work.project.lock, new.dumps())
    if away:
        raise InfrastructureError("\n".join(away))
    return new, troubles


def cutoff(date: str | None) -> str | None:
    """`--cutoff` as an instant. Raises UsageError."""
    if date is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(date.replace("Z", "+00:00"))
    except ValueError:
        msg = f"--cutoff {date!r}: write a date such as 2026-11-20 or 2026-11-20T00:00:00Z"
        raise UsageError(msg) from None
    return _utc((moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)).timestamp())


# Planning ----------------------------------------------------------------------------------------------------------


def make_plan(work: Work, locked: lock.Lock, here: machine.Machine) -> Plan:
    planner = Planner(
        families=work.spec.families,
        recipes=work.spec.recipes,
        reference_stacks={model: work.spec.reference_stack(model) for model in {cell.model for cell in work.cells}},
        tools=work.spec.tools,
        lock=locked,
        machine=here,
        code=Code.of(environment.worker_hashes()),
    )
    return planner.plan(work.cells)


def prioritise(plan: Plan, order: Sequence[str], store: Store) -> None:
    """Give the steps of the cells that a group's `order` puts first the higher priority: `failed` last time, then
    `changed` since they last ran, then the `oldest` evidence (never run before all)."""
    if not order:
        return
    status, times = store.latest_status(), store.latest_times()

    def rank(chain: Chain) -> tuple[Any, ...]:
        keys: dict[str, Any] = {
            "failed": status.get(chain.cell.id) not in (*FAILING, "blocked"),
            "changed": chain.cell.id not in status,
            "oldest": times.get(chain.cell.id, ""),
        }
        return tuple(keys[name] for name in order)

    waiting = [chain for chain in plan.chains if any(step.wanted for step in chain.steps())]
    for place, chain in enumerate(sorted(waiting, key=rank, reverse=True), start=1):
        for step in chain.steps():
            step.priority = max(step.priority, place)


# Running -----------------------------------------------------------------------------------------------------------


def run(
    work: Work, *, frozen: bool, again: Again = "", jobs: int | None, budget: float | None,
    command: str, policy: str, listener: Listeners,
    say: Callable[[str], None], on_log: Callable[[Path], None] = lambda path: None, write: bool = True,
) -> Result:  # fmt: skip
    """Do what is not done, then say what became of every selected cell."""
    started = time.time()
    here = machine.read()
    locked = ensure_locked(work, here, frozen=frozen, say=say)
    store = Store(work.project.artifacts)
    with _in_use(store):
        plan = make_plan(work, locked, here)
        reconcile(plan, store.light(), store.root / "objects", again=again)
        prioritise(plan, work.order, store)
        todo = plan.todo()
        run_id = f"{_utc(started)}-{secrets.token_hex(2)}"
        result = Result(report={}, ran=len(todo))
        if todo:
            _execute(plan, store, work, result, run_id, jobs, budget, listener, on_log, again, here, len(todo))
        cells = collect(plan, store, result)
        deliver(plan, store, cells, again=bool(todo))
        result.report = _report(work, locked, here, run_id, started, command, policy, cells, result)
        _remember(work, store, plan, result, run_id, cells)
        if write:
            write_report(work.project, result.report)
    return result


def stored(work: Work, *, command: str, policy: str, write: bool = True) -> Result:
    """The report of what is stored, running nothing. What was never run is `skipped`, and says so."""
    here = machine.read()
    locked = lock.read(work.project.lock) or lock.Lock(cutoff="")
    store = Store(work.project.artifacts)
    plan = make_plan(work, locked, here)
    reconcile(plan, store.light(), store.root / "objects")
    result = Result(report={}, ran=0)
    started = time.time()
    cells = collect(plan, store, result)
    result.report = _report(work, locked, here, f"{_utc(started)}-stored", started, command, policy, cells, result)
    if write:
        write_report(work.project, result.report)
    return result


def _execute(
    plan: Plan, store: Store, work: Work, result: Result, run_id: str, jobs: int | None, budget: float | None,
    listener: Listeners, on_log: Callable[[Path], None],
    again: Again, here: machine.Machine, steps: int,
) -> None:  # fmt: skip
    from builder.environment.venv import Venv
    from builder.execute.local import Local

    store.sweep()
    seconds = budget if budget is not None else work.budget
    busy = sum(any(step.wanted for step in chain.steps()) for chain in plan.chains)
    told_by = listener(busy, steps, lambda chain: judge([chain], store, result.infrastructure, "not run")[0])
    with told_by as told, _terminate_as_interrupt():
        local = Local(
            plan, store, lambda step: Venv(store, step.name, step.data["pins"]), told, run=run_id,
            jobs=jobs or here.cores, cores=here.cores, gpu=bool(here.gpus), on_log=on_log, again=again,
            deadline=None if seconds is None else time.monotonic() + seconds,
        )  # fmt: skip
        result.infrastructure = local.infrastructure
        result.interrupted = not local.run()
        result.over_budget = local.over_budget
    shutil.rmtree(store.root / "work" / run_id, ignore_errors=True)


def collect(plan: Plan, store: Store, result: Result) -> list[dict[str, Any]]:
    """Every chain's outcome."""
    not_run = "interrupted before it ran" if result.interrupted else ""
    if result.over_budget:
        not_run = "the time budget ended before it ran"
    return judge(plan.chains, store, result.infrastructure, not_run)


def judge(chains: Sequence[Chain], store: Store, infrastructure: dict[Step, str], not_run: str) -> list[dict[str, Any]]:
    """Outcomes of chains. They are kept under the hash of all that they are made of, so that a run with nothing to do
    reads one row a cell."""
    from builder import outcome

    code = _outcome_code()
    keys = {id(chain): chain.key() + code for chain in chains}
    kept = store.outcomes(keys.values())
    fresh = [chain for chain in chains if keys[id(chain)] not in kept]
    steps = [step for chain in fresh for step in chain.steps()]
    steps += [need for step in list(steps) for need in (step.environment, *step.needs) if need is not None]
    steps += [step.environment for step in list(steps) if step.environment is not None]
    records = store.steps(step.key for step in steps if step.key)

    def log(path: str) -> str:
        try:
            with (store.root / path).open("rb") as file:
                return file.read(1 << 18).decode(errors="replace")
        except OSError:
            return ""

    new: dict[str, tuple[str, dict[str, Any]]] = {}
    for chain in fresh:
        found = outcome.outcome(chain, records, infrastructure, not_run, log)
        kept[keys[id(chain)]] = found
        if _lasting(chain, found):
            new[keys[id(chain)]] = (chain.cell.id, found)
    store.put_outcomes(new)
    today = datetime.datetime.now(datetime.timezone.utc).date()
    out = []
    for chain in chains:
        own = dict(kept[keys[id(chain)]])
        own["slug"] = chain.cell.slug
        own["engine"], own["exporter"] = chain.cell.engine.as_dict(), chain.cell.exporter.as_dict()
        own["key"] = keys[id(chain)]
        own["expected"] = outcome.expectation(chain.cell.expect, own, today)
        own["reused"] = not any(step.wanted for step in chain.steps())
        out.append(own)
    return out


def _lasting(chain: Chain, found: dict[str, Any]) -> bool:
    return found["category"] != "infrastructure" and all(
        step.done or found["status"] not in ("skipped", "blocked") for step in chain.steps()
    )


@functools.cache
def _outcome_code() -> str:
    """Hash of what turns records into outcomes, so that a better diagnosis is seen without running anything again."""
    sha = hashlib.sha256()
    here = Path(__file__).parent
    for path in (here / "outcome.py", here / "diagnose.py", *sorted((here / "catalog").glob("*.yaml"))):
        sha.update(path.read_bytes())
    return sha.hexdigest()[:16]


def deliver(plan: Plan, store: Store, cells: Sequence[dict[str, Any]], *, again: bool) -> None:
    """`artifacts/engines/<cell>/`: the engine and a manifest that says where it will load and what became of it, for people
    and deployments. A cell without an engine has no folder. Unless `again`, only what is missing is delivered."""
    from builder.manifest import manifest

    root = store.root / "engines"
    have = {path.name for path in root.iterdir()} if root.is_dir() else set()
    todo = []
    for chain, cell in zip(plan.chains, cells, strict=True):
        built = chain.build.state == "stored" and cell["artifact"] is not None
        if built and (again or chain.cell.folder not in have):
            todo.append((chain, cell))
        elif not built and chain.cell.folder in have and cell["status"] not in ("skipped", "blocked"):
            shutil.rmtree(root / chain.cell.folder, ignore_errors=True)
    records = store.steps(key for chain, _ in todo for key in (chain.build.key, chain.engine.key) if key)
    for chain, cell in todo:
        record = records[chain.build.key]
        source = store.root / record.record["artifact"]["path"]
        if not source.exists():  # removed by hand since; the next run makes it anew
            continue
        folder = root / chain.cell.folder
        target = folder / ("engine" + source.suffix)
        folder.mkdir(parents=True, exist_ok=True)
        if not target.exists() or not target.samefile(source):
            beside = folder / f".engine.{os.getpid()}"
            beside.unlink(missing_ok=True)
            os.link(source, beside)
            os.replace(beside, target)
        text = json.dumps(manifest(chain, record, records.get(chain.engine.key), cell), indent=1, sort_keys=True)
        store.write_text(folder / "manifest.json", text + "\n")


# Reporting ---------------------------------------------------------------------------------------------------------


def _report(
    work: Work, locked: lock.Lock, here: machine.Machine, run_id: str, started: float, command: str, policy: str,
    cells: list[dict[str, Any]], result: Result,
) -> dict[str, Any]:  # fmt: skip
    counts = dict.fromkeys(STATUSES, 0)
    for cell in cells:
        counts[cell["status"]] += 1
    report: dict[str, Any] = {
        "schema": 1, "version": __version__,
        "run": {
            "id": run_id, "started": _utc(started), "finished": _utc(), "seconds": round(time.time() - started, 3),
            "interrupted": result.interrupted, "over_budget": result.over_budget, "command": command, "select": work.select,
            "matrix": {"file": work.project.matrix.name, "name": work.spec.name, "sha256": work.spec.sha256},
            "lock": {"sha256": digest(locked.dumps()), "cutoff": locked.cutoffs()[1]}, "machine": here.as_dict(),
            "steps": result.ran,
        },
        "counts": counts, "selected": len(work.cells), "cells": cells,
    }  # fmt: skip
    code, because = exit_code(report, policy)
    report["exit"] = {"code": code, "policy": policy, "because": because}
    return report


def _remember(work: Work, store: Store, plan: Plan, result: Result, run_id: str, cells: list[dict[str, Any]]) -> None:
    if not result.ran:
        return
    report = result.report
    summary = {"select": work.select, "counts": report["counts"], "exit": report["exit"], **report["run"]}
    store.put_run(
        run_id, report["run"]["started"], report["run"]["finished"], summary,
        {cell["id"]: (cell["status"], cell["key"]) for cell in cells},
    )  # fmt: skip


def write_report(project: Project, report: dict[str, Any], *, always: bool = False) -> bool:
    """Write `artifacts/report/` unless it is there and already says exactly this; whether it was written."""
    mark = project.report / ".digest"
    content = digest(
        [report["counts"], [[c["key"], c["status"], c["expected"]] for c in report["cells"]], _report_code()]
    )
    there = all((project.report / name).exists() for name in ("report.json", "report.md", "report.html", "junit.xml"))
    with contextlib.suppress(OSError):
        if not always and there and report["run"]["steps"] == 0 and mark.read_text(encoding="utf-8") == content:
            return False
    from builder.report import build_report

    build_report(report, project.report)
    _write(mark, content)
    return True


def _report_code() -> str:
    sha = hashlib.sha256()
    for path in sorted((Path(__file__).parent / "report").rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            sha.update(path.read_bytes())
    return sha.hexdigest()


def exit_code(report: dict[str, Any], policy: str) -> tuple[int, str]:
    """DESIGN's exit codes under a `--fail-on` policy: never, failed, unexpected, infra."""
    from builder.outcome import unexpected

    cells = report["cells"]
    infra = sum(cell["status"] == "blocked" and cell["category"] == "infrastructure" for cell in cells)
    behind = sum(cell["status"] == "blocked" and cell["category"] != "infrastructure" for cell in cells)
    red = sum(unexpected(cell) for cell in cells) + behind
    failing = sum(cell["status"] in FAILING for cell in cells) + behind
    if report["run"]["interrupted"]:
        return errors.EXIT_INTERRUPTED, "interrupted; run again to continue"
    if policy == "failed" and failing:
        return errors.EXIT_FAILURES, f"{failing} cells fail, expected or not"
    if policy == "unexpected" and red:
        return errors.EXIT_FAILURES, f"{red} cells fail that nobody expected to"
    if policy != "never" and infra:
        return errors.EXIT_INFRASTRUCTURE, f"{infra} cells could not be tried: infrastructure"
    if report["run"]["over_budget"]:
        return errors.EXIT_BUDGET, "the time budget ended; run again to continue"
    return errors.EXIT_OK, "as expected" if failing else "nothing fails"


# Small things ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _in_use(store: Store) -> Iterator[None]:
    """Runs share the store; `gc` takes it alone."""
    with (store.root / "in-use").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM (a CI system cancelling) ends a run as Ctrl-C does: what is finished is reported."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _utc(seconds: float | None = None) -> str:
    moment = datetime.datetime.fromtimestamp(time.time() if seconds is None else seconds, datetime.timezone.utc)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        msg = f"{path}: cannot be written: {error}"
        raise InfrastructureError(msg) from error
