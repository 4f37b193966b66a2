"""Where cells are tried that say nothing of the matrix: with a lock of no run, or a release that the matrix does not hold.

`artifacts/lab/` is a store of its own, with its own results: what is found in it has keys like everything else and is never
made twice, and neither history, nor `pick`, nor a report sees it. It takes over from the matrix's store, by hard links, what
a trial does not question (sources, exported models, references), and environments are the same ones.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from builder import machine, pipeline, pulls, results
from builder.environment import engine, uv
from builder.lock import Lock, Pins
from builder.pipeline import Work
from builder.plan import Chain, Kind, Plan, Step, reconcile, remake
from builder.project import utc
from builder.store import Light, StepRecord, Store
from builder.values import Cell, Stage, digest

FOLDER = "lab"
GRAPH: tuple[Kind, ...] = ("obtain", "reference", "export", "calibrate", "convert")
_BEFORE: dict[Stage, tuple[Kind, ...]] = {
    "resolve": ("obtain",), "environment": ("obtain",), "obtain": (), "export": ("obtain",),
    "parse": GRAPH, "build": GRAPH, "load": GRAPH, "run": GRAPH, "compare": GRAPH, "measure": GRAPH,
}  # fmt: skip
"""Stage in which a cell failed -> kinds of steps that came before it and are not in question."""
BUDGET = "the time budget ended before it ran"


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM ends a trial as Ctrl-C does, where that can be asked for: in the main thread."""
    if threading.current_thread() is threading.main_thread():
        with pipeline.terminate_as_interrupt():
            yield
    else:
        yield


class Quiet:
    """A listener that passes on what went wrong, and nothing else."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.message = say

    def step_started(self, name: str) -> None: ...
    def step_finished(self, name: str, seconds: float, ok: bool) -> None: ...
    def chain_finished(self, chain: Chain) -> None: ...


class Lab:
    """Runs cells of `work` under any lock. One at a time; the caller holds `pipeline.in_use` of the matrix's store."""

    def __init__(
        self, work: Work, store: Store, *, deadline: float | None, say: Callable[[str], None] = lambda text: None
    ) -> None:
        """`store`: the matrix's. `deadline`: time.monotonic() after which nothing is begun."""
        self.work = replace(work, against={})
        self.main = store
        self.store = Store(store.root / FOLDER)
        self.store.sweep()
        self.here = machine.read()
        self.deadline = deadline
        self.say = say
        self.ran = 0
        """Steps that were executed so far."""
        self._light: dict[str, Light] | None = None
        self._engines: set[str] = set()
        """Builds whose engines were kept."""

    @property
    def over(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    def plan(self, cells: Sequence[Cell], locked: Lock, refused: Mapping[str, str] = MappingProxyType({})) -> Plan:
        """The steps of these cells, not yet held against what is stored; `refused` as for `pipeline.make_plan`."""
        return pipeline.make_plan(replace(self.work, cells=tuple(cells)), locked, self.here, refused=refused)

    def run(
        self, cells: Sequence[Cell], locked: Lock, *, failed_at: Stage = "build", since: str = "", again: bool = False,
        keep_engines: bool = False, change: Callable[[Plan], None] = lambda plan: None,
    ) -> list[dict[str, Any]]:  # fmt: skip
        """The cells' outcomes, as reports have them; what is stored in the lab is not run again, unless `again`, or where it is
        older than `since` (ISO 8601, UTC). What ended without evidence is `blocked`, its category `infrastructure`; what the
        budget left is `skipped`, its reason `BUDGET`. `failed_at`: the stage in question: what comes before it may come from the
        matrix's store. `change` may add to the plan; `keep_engines`: until `tidy`."""
        found = self._once(cells, locked, failed_at, again, keep_engines, change)
        if since and any((one["when"] or "") < since for one in found if not _lost(one)):
            found = self._once(cells, locked, failed_at, True, keep_engines, change)
        return found

    def peek(self, cell: Cell, locked: Lock) -> dict[str, Any] | None:
        """What the lab has of a cell; None where something would have to be run."""
        plan = self.plan([cell], locked)
        reconcile(plan, self.store.light(), self.store.root / "objects", engines=False)
        return None if plan.todo() else results.judge(plan.chains, self.store, {}, "not run")[0]

    def _once(
        self, cells: Sequence[Cell], locked: Lock, failed_at: Stage, again: bool, keep_engines: bool,
        change: Callable[[Plan], None],
    ) -> list[dict[str, Any]]:  # fmt: skip
        self._take_over(self.plan(cells, locked), _BEFORE[failed_at])
        plan = self._held(cells, locked, again, change, {})
        if refused := self._no_room(plan, locked):
            plan = self._held(cells, locked, again, change, refused)
        lost: dict[Step, str] = {}
        over = False
        if plan.todo() and not self.over:
            lost, over = self._execute(plan, again, keep_engines)
        elif plan.todo():
            over = True
        return results.judge(plan.chains, self.store, lost, BUDGET if over else "not run")

    def _held(
        self,
        cells: Sequence[Cell],
        locked: Lock,
        again: bool,
        change: Callable[[Plan], None],
        refused: Mapping[str, str],
    ) -> Plan:
        """The plan, held against what the lab has."""
        plan = self.plan(cells, locked, refused)
        change(plan)
        reconcile(plan, self.store.light(), self.store.root / "objects", again="all" if again else "", engines=False)
        remake(plan, self._whole)
        return plan

    def _no_room(self, plan: Plan, locked: Lock) -> dict[str, str]:
        """Stacks whose images the Docker engine has no room for -> why."""
        needed = pipeline.images_to_make(plan, self.work, self.main)
        if not needed:
            return {}
        from builder.environment.room import room

        found = pulls.of(needed, locked, engine.platform(), *room())
        return {pull.stack.id: pull.refused for pull in found if pull.refused}

    def _execute(self, plan: Plan, again: bool, keep_engines: bool) -> tuple[dict[Step, str], bool]:
        """(Steps that ended without evidence, whether the budget ended). Raises KeyboardInterrupt, InfrastructureError."""
        from builder.execute.gpus import usable
        from builder.execute.local import Local

        run = f"{utc()}-{secrets.token_hex(2)}-lab"
        here = self.here
        self.ran += len(plan.todo())
        with _terminated(), contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.store.root / "work" / run, ignore_errors=True)
            local = Local(
                plan, self.store, lambda step: pipeline.realise(step, self.work, self.main), Quiet(self.say), run=run,
                jobs=here.cores, cores=here.cores, gpu=bool(here.gpus), gpus=usable(here.gpus, os.environ),
                machine=here.as_dict(), again="all" if again else "", deadline=self.deadline,
                dismiss=None if keep_engines else lambda chain: True,
            )  # fmt: skip
            if not local.run():
                raise KeyboardInterrupt
        self._engines |= {
            step.key for step in plan.steps if keep_engines and step.kind == "build" and step.state == "stored"
        }
        return local.infrastructure, local.over_budget

    def tidy(self) -> None:
        """Remove the engines that were kept."""
        for record in self.store.steps(self._engines).values():
            for entry in _entries(record):
                self.store.discard(entry)

    def _whole(self, steps: Iterable[Step]) -> list[Step]:
        records = self.store.steps(step.key for step in steps)
        return [step for step in steps if step.key in records and self.store.whole(records[step.key])]

    # What the matrix's store has ------------------------------------------------------------------------------------

    def _take_over(self, plan: Plan, kinds: Sequence[Kind]) -> None:
        """Link the stored results of these kinds of steps into the lab, where it does not have them whole."""
        if self._light is None:
            self._light = self.main.light()
        mine = self.store.light()
        reconcile(plan, {**self._light, **mine}, self.store.root / "objects", engines=False)
        steps = [step for step in plan.steps if step.kind in kinds and step.state == "stored"]
        whole = set(self._whole([step for step in steps if step.key in mine]))
        records = self.main.steps(step.key for step in steps if step not in whole)
        for record in records.values():
            if record.state == "ok" and self.main.whole(record) and self._link(record):
                self.store.put_step(record)

    def _link(self, record: StepRecord) -> bool:
        """Whether all files that a record names are in the lab's store now."""
        paths = [entry["path"] for entry in _entries(record)]
        if record.kind == "obtain":
            folder = self.main.root / "sources" / record.output
            paths += [str(path.relative_to(self.main.root)) for path in folder.rglob("*") if path.is_file()]
        for path in paths:
            target = self.store.root / path
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError):
                    os.link(self.main.root / path, target)
            except OSError:  # removed meanwhile, or another file system: it is made anew
                return False
        return True

    # Packages -------------------------------------------------------------------------------------------------------

    def misfit(self, pins: Pins, cutoff: str) -> str:
        """`uv.misfit` of a stack's pins, asked once and kept. Raises InfrastructureError."""
        if not pins.packages:
            return ""
        path = self.store.root / "fits" / f"{digest([pins.key, cutoff])[:32]}.txt"
        if path.exists():
            return path.read_text(encoding="utf-8")
        found = uv.misfit(pins.packages, pins.python, cutoff)
        path.parent.mkdir(exist_ok=True)
        self.store.write_text(path, found)
        return found


def _lost(outcome: dict[str, Any]) -> bool:
    """Whether it ended without evidence."""
    return outcome["status"] in ("skipped", "unsupported") or outcome["category"] == "infrastructure"


def _entries(record: StepRecord) -> list[dict[str, Any]]:
    """Every stored file that the record of such a step names."""
    own = record.record
    out = [own["artifact"]] if own.get("artifact") else []
    return [
        *out,
        *own.get("data", ()),
        *(case["artifact"] for case in own.get("cases", ())),
        *own.get("calibration", ()),
    ]


def no_evidence(outcome: dict[str, Any]) -> str:
    """Why an outcome says nothing of versions, '' where it does. Raises InfrastructureError for nothing."""
    return str(outcome["reason"]) if _lost(outcome) else ""
