"""Schedule a plan's steps on this machine: each when its needs are done, environments shared, timings alone at the end.

A step's key is known once its needs are done; if the store then holds it, nothing runs. One failing step costs the cells
behind it and no others.
"""

from __future__ import annotations

import heapq
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from builder import backoff
from builder.environment import Environment
from builder.environment.session import WorkerDied
from builder.environment.uv import PackageError
from builder.errors import InfrastructureError
from builder.execute import locks
from builder.execute.environments import Environments
from builder.execute.gpus import KINDS as ON_GPU
from builder.execute.gpus import Gpus
from builder.execute.jobs import Jobs
from builder.execute.lost import OUTSIDE
from builder.execute.records import Records
from builder.execute.sessions import Sessions, inputs_of
from builder.plan import Again, Chain, Plan, Step, blocked, holds, settle
from builder.store import Light, StepRecord, Store
from builder.values import Family

#: Long chains first (an exporter's environment gates exports, which gate everything), then what finishes cells.
_ORDER = {"obtain": 0, "environment": 1, "reference": 2, "export": 3, "run": 4, "calibrate": 4, "convert": 5, "build": 6,
          "measure": 9, "speedup": 9, "suite": 2, "conform": 6}  # fmt: skip


class Listener(Protocol):
    """Told what happens, from several threads."""

    def step_started(self, name: str) -> None: ...
    def step_finished(self, name: str, seconds: float, ok: bool) -> None: ...
    def chain_finished(self, chain: Chain) -> None: ...
    def message(self, text: str) -> None: ...


class Local:
    """Runs a plan with `jobs` steps at a time. `run` returns when nothing is left that can run."""

    def __init__(
        self, plan: Plan, store: Store, environments: Callable[[Step], Environment], listener: Listener, *, run: str,
        jobs: int, cores: int, gpu: bool = False, gpus: Sequence[str] = (),
        machine: Mapping[str, Any] | None = None, deadline: float | None = None,
        on_log: Callable[[Path], None] = lambda path: None,
        again: Again = "", unlocked: str = "", dismiss: Callable[[Chain], bool] | None = None,
    ) -> None:  # fmt: skip
        """`unlocked`: why the lock says nothing of some stacks; nothing that follows from it is evidence. `gpus`: UUIDs of those
        that jobs may be given, each by itself; without any, `gpu` or not, jobs take what they find. `dismiss`: of a finished
        cell, whether its engine's file may go."""
        self.plan = plan
        self.store = store
        self.listener = listener
        self.jobs = max(1, jobs)
        self.deadline = deadline
        self.again: Again = again
        self.light = store.light()
        self.sessions = Sessions(
            environments, store.work(run, ""), inputs_of(plan, store), lambda step: _made_before(store, step)
        )
        self.gpus = Gpus(gpus, locks.lock_folder)
        self._on_gpu = 0
        """Steps of ours that run on a GPU now."""
        records = Records(store, run, machine or {})
        self.environments = Environments(self.sessions, records, gpu=gpu, unlocked=unlocked)
        self.worker = Jobs(
            records, self.environments.session, cores, on_log, gpu=gpu, stopped=lambda: self.sessions.stopped
        )
        self.infrastructure: dict[Step, str] = {}
        """Steps that ended without evidence -> why."""
        self.over_budget = False
        self._condition = threading.Condition()
        self._ready: list[tuple[int, int, int, Step]] = []
        self._measures: list[Step] = []
        self._running = 0
        self._stop = False
        self._interrupted = False
        self._crash: BaseException | None = None
        self._in_vain = 0
        """Steps, one after the other, that infrastructure stopped although they were tried again."""
        self._given_up = threading.Event()
        """Set on Ctrl-C: nobody waits any longer to try something again."""
        self._todo = [step for step in plan.steps if step.wanted and not step.done]
        self._index = {step: number for number, step in enumerate(plan.steps)}
        self._waiting: dict[Step, int] = {}
        self._dependents: dict[Step, list[Step]] = {}
        self._chains: dict[Step, list[Chain]] = {}
        self._left: dict[int, int] = {}
        self._users: dict[str, int] = {}
        self.dismiss = dismiss
        self._held: Counter[str] = Counter()
        """Engine -> unfinished cells that it is of. Other cells may have built the same bytes."""
        self._finished: dict[str, list[Chain]] = {}
        """Engine -> finished cells that it is of."""

    # Bookkeeping ------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        todo = set(self._todo)
        for step in self._todo:
            needs = [need for need in (*step.needs, step.environment) if need is not None and need in todo]
            self._waiting[step] = len(needs)
            for need in needs:
                self._dependents.setdefault(need, []).append(step)
            if step.environment is not None:
                self._users[step.environment.name] = self._users.get(step.environment.name, 0) + 1
            if not needs:
                self._push(step)
        for chain in self.plan.chains:
            mine = {step for step in chain.steps() if step in todo}
            self._left[id(chain)] = len(mine)
            for step in mine:
                self._chains.setdefault(step, []).append(chain)
            if mine and chain.build.state == "stored":
                self._held[chain.build.output] += 1
            if not mine:
                self._finished.setdefault(chain.build.output, []).append(chain)
                self.listener.chain_finished(chain)

    def _push(self, step: Step) -> None:
        if self.over_budget or self._interrupted:
            return
        if step.kind in ("measure", "speedup"):
            self._measures.append(step)
        else:
            heapq.heappush(self._ready, (-step.priority, _ORDER[step.kind], self._index[step], step))

    def _finish(self, step: Step) -> None:
        """A step is decided (done, stored, failed, without evidence or never to be reached): tell what waits for it."""
        stack = [step]
        while stack:
            current = stack.pop()
            if current not in self._waiting:
                continue
            del self._waiting[current]
            for chain in self._chains.get(current, ()):
                self._left[id(chain)] -= 1
                if self._left[id(chain)] == 0:
                    self.listener.chain_finished(chain)
                    self._let_go(chain)
            if current.environment is not None:
                self._users[current.environment.name] -= 1
                if self._users[current.environment.name] == 0:
                    self.sessions.close(current.environment)
            for dependent in self._dependents.get(current, ()):
                if dependent not in self._waiting:
                    continue
                self._waiting[dependent] -= 1
                if self._never(dependent):
                    stack.append(dependent)
                elif self._waiting[dependent] == 0:
                    settle(dependent, self.light, self.again)
                    read = dependent.kind == "build" or dependent in self._dependents
                    if dependent.state == "stored" and read and not self._present(dependent):
                        dependent.state, dependent.output = "run", ""
                    if dependent.state == "run":
                        self._push(dependent)
                    else:
                        stack.append(dependent)
        self._condition.notify_all()

    def _let_go(self, chain: Chain) -> None:
        """Remove a finished cell's engine where it is not to be kept, once no other cell that holds the same bytes is left and
        none of those that are finished keeps them."""
        if self.dismiss is None or chain.build.state != "stored":
            return
        of = self._finished.setdefault(chain.build.output, [])
        of.append(chain)
        self._held[chain.build.output] -= 1
        if self._held[chain.build.output] < 1 and all(self.dismiss(it) for it in of):
            found = self.store.step(chain.build.key)
            if found is not None and "artifact" in found.record:  # the cases of a suite leave no engine
                self.store.discard(found.record["artifact"])

    def _hold(self, step: Step) -> bool:
        """Keep a built engine's file until the cells that it is of are finished; False where it was let go of meanwhile, by a
        cell that had built the same bytes."""
        if step.kind != "build" or step.state != "stored" or self.dismiss is None:
            return True
        with self._condition:
            if not self._present(step):
                return False
            self._held[step.output] += sum(self._left[id(chain)] > 0 for chain in self._chains.get(step, ()))
        return True

    def _present(self, step: Step) -> bool:
        found = self.store.step(step.key)
        return found is not None and self.store.whole(found)

    def _never(self, step: Step) -> bool:
        before = (*step.needs, step.environment)
        return (
            blocked(step)
            or any(need in self.infrastructure for need in before if need is not None)
            or any(need is not None and need.wanted and not need.done and need not in self._waiting for need in before)
        )

    # Running ----------------------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Whether it ran to its end (False: interrupted)."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self.jobs)]
        try:
            with self._condition:
                self._prepare()
            for thread in threads:
                thread.start()
            with self._condition:
                while not self._idle() and self._crash is None:
                    self._condition.wait(0.2)
                self._stop = True
                self._condition.notify_all()
            for thread in threads:
                thread.join()
            if self._crash is not None:
                raise self._crash
            self._measure()
        except KeyboardInterrupt:
            self._given_up.set()
            with self._condition:
                self._stop = self._interrupted = True
                self._ready.clear()
                self._condition.notify_all()
            return False
        finally:
            self.sessions.stop()
            until = time.monotonic() + 10
            for thread in threads:
                if thread.ident is not None:
                    thread.join(timeout=max(0.0, until - time.monotonic()))
        return True

    def _idle(self) -> bool:
        self._budget()
        return not self._ready and not self._running

    def _budget(self) -> None:
        """Begin nothing more once the time is over."""
        if self.deadline is not None and time.monotonic() > self.deadline and not self.over_budget:
            self.over_budget = bool(self._ready or self._measures or self._waiting)
            self._ready.clear()
            self._measures.clear()

    def _work(self) -> None:
        while True:
            with self._condition:
                while not self._ready and not self._stop:
                    self._condition.wait(0.2)
                self._budget()
                if not self._ready and not self._stop:
                    continue
                if not self._ready:
                    return
                step = self._next()
                if step is None:  # all that is left wants a GPU, and all of them are busy
                    self._condition.wait(0.2)
                    continue
                self._running += 1
                self._on_gpu += self._wants_gpu(step)
            try:
                with locks.machine_lock(exclusive=False, stop=lambda: self._interrupted):
                    self._do(step)
            except (
                InfrastructureError,
                OSError,
            ) as error:  # the machine's, not the step's: all others would end so too
                with self._condition:
                    self._crash = error
            except Exception as error:  # a bug of ours costs one step, loudly
                self.infrastructure[step] = f"a bug of ours: {type(error).__name__}: {error}"
                self.listener.message(traceback.format_exc())
            finally:
                with self._condition:
                    self._running -= 1
                    self._on_gpu -= self._wants_gpu(step)
                    self._finish(step)

    def _next(self) -> Step | None:
        """The first of what is ready that need not wait for a GPU."""
        aside = []
        found = None
        while self._ready and found is None:
            entry = heapq.heappop(self._ready)
            if self._wants_gpu(entry[-1]) and self._on_gpu >= len(self.gpus):
                aside.append(entry)
            else:
                found = entry[-1]
        for entry in aside:
            heapq.heappush(self._ready, entry)
        return found

    def _wants_gpu(self, step: Step) -> bool:
        """Whether a step is given a GPU for itself."""
        if not self.gpus or step.kind not in ON_GPU or step.environment is None:
            return False
        family: Family = step.environment.data["family"]
        return family.device == "cuda"

    def _run(self, step: Step) -> StepRecord:
        if not self._wants_gpu(step):
            return self.worker.do(step)
        with self.gpus.one(lambda: self._interrupted) as uuid:
            return self.worker.do(step, uuid)

    def _measure(self) -> None:
        """Timings, one at a time with nothing of ours beside them."""
        while self._measures and not self.over_budget:
            step = self._measures.pop(0)
            with locks.machine_lock(exclusive=True, stop=lambda: self._interrupted):
                self._do(step)
            with self._condition:
                self._finish(step)
                self._idle()

    def _do(self, step: Step) -> None:
        started = time.monotonic()
        self.listener.step_started(f"{step.kind} {step.name}")
        of = backoff.Scope(
            stop=self._given_up,
            deadline=self.deadline,
            tell=self.listener.message,
            patient=self._in_vain < backoff.PATIENCE,
        )
        try:
            with backoff.scope(of):
                tries = backoff.Tries(f"{step.kind} {step.name}", backoff.KILLED)
                while not self._done(step, tries):
                    pass
        except WorkerDied as error:
            if not self._interrupted and (why := self.environments.died(step, error)):  # else we ended it ourselves
                self.infrastructure[step] = why
        except (InfrastructureError, PackageError) as error:  # an environment that was made before can no longer be
            if not self._interrupted:
                self.infrastructure[step] = str(error)
        self._in_vain = self._in_vain + bool(of.attempts) if step in self.infrastructure else 0
        self.listener.step_finished(f"{step.kind} {step.name}", time.monotonic() - started, step.state == "stored")

    def _done(self, step: Step, tries: backoff.Tries) -> bool:
        """Do a step, or find it done. False when it is to be done again: its engine's file was let go of meanwhile, or the host
        killed its worker before it took jobs."""
        try:
            with self.store.lock(step.key):
                found = self.store.step(step.key)  # another run on this store may have made it meanwhile
                if (
                    found is None
                    or not self.store.whole(found)
                    or not holds(step, found.state == "ok", _answers(found, step), self.again)
                ):
                    found = self.environments.make(step) if step.kind == "environment" else self._run(step)
                elif step.kind == "environment" and found.state == "ok":
                    self.environments.session(step)
        except WorkerDied as error:
            if error.signal not in OUTSIDE or self._interrupted or not tries.again(str(error)):
                raise
            return False
        step.state = "stored" if found.state == "ok" else "failed"
        step.mark = found.run
        if step.kind != "environment":  # that one's output is its pins, known beforehand
            step.output = found.output
        return self._hold(step)


def _made_before(store: Store, environment: Step) -> Mapping[str, Any] | None:
    found = store.step(environment.key)
    return found.record.get("probe") if found is not None and found.state == "ok" else None


def _answers(found: StepRecord, step: Step) -> bool:
    return Light(state=found.state, output=found.output, limits=found.limits).answers(step.seconds, step.memory)
