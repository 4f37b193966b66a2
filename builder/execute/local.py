"""Schedule a plan's steps on this machine: each when its needs are done, environments shared, timings alone at the end.

A step's key is known once its needs are done; if the store then holds it, nothing runs. One failing step costs the cells
behind it and no others.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import signal
import stat
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from builder import backoff
from builder.environment import Environment, Place, Session
from builder.environment.session import WorkerDied
from builder.environment.uv import PackageError
from builder.errors import InfrastructureError
from builder.execute.gpus import KINDS as ON_GPU
from builder.execute.gpus import Gpus
from builder.execute.jobs import Jobs
from builder.execute.lost import OUTSIDE, lost_in
from builder.image import agree
from builder.plan import Again, Chain, Plan, Step, blocked, holds, settle, unlocked
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


class Sessions:
    """One running worker an environment, started when first needed, stopped when no step is left for it."""

    def __init__(
        self, environments: Callable[[Step], Environment], folder: Path, inputs: tuple[Path, ...] = (),
        expected: Callable[[Step], Mapping[str, Any] | None] | None = None,
    ) -> None:  # fmt: skip
        self.environments = environments
        self.folder = folder
        """The run's work folder: each environment's jobs have a folder in it, the one place they may write to."""
        self.logs = folder / "sessions"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.inputs = inputs
        """Folders that jobs read."""
        self.expected = expected
        """The probe that an environment had when it was made, where it was made before."""
        self.made: dict[str, Mapping[str, Any]] = {}
        """Environment -> what its `make` said of it."""
        self._open: dict[tuple[str, bool], Session] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self.stopped = False

    def jobs_of(self, environment: Step) -> Path:
        return self.folder / environment.key[:16]

    def log_of(self, environment: Step, *, gpu: bool) -> Path:
        """What a worker prints outside its jobs. Two of one environment run side by side, and each rewrites its own."""
        return self.logs / f"{environment.key[:24]}{'.gpu' if gpu else ''}.log"

    def get(self, environment: Step, *, gpu: bool = False) -> Session:
        """The environment's worker, started if need be; `gpu`: one that is given the machine's GPUs, where that must be
        asked for. Raises WorkerDied, PackageError, InfrastructureError."""
        with self._guard:
            lock = self._locks.setdefault(environment.name, threading.Lock())
        with lock:
            session = self._open.get((environment.name, gpu))
            if session is not None and getattr(session, "alive", True):
                return session
            if self.stopped:
                msg = "interrupted"
                raise InfrastructureError(msg)
            realised = self.environments(environment)
            self.made[environment.name] = realised.make()
            family: Family = environment.data["family"]
            log = self.log_of(environment, gpu=gpu)
            self.jobs_of(environment).mkdir(parents=True, exist_ok=True)
            session = realised.start(
                (*family.modules, *family.preload), log, max(120.0, environment.seconds),
                place=Place(writable=self.jobs_of(environment), readonly=self.inputs, gpu=gpu),
            )  # fmt: skip
            if self.expected is not None and (changed := differs_from(self.expected(environment), session.probe)):
                session.close()
                realised.discard()
                msg = f"{environment.name}: its environment is not what it was ({changed}); removed: run again to make it anew"
                raise InfrastructureError(msg)
            self._open[environment.name, gpu] = session
            return session

    def keep_log(self, environment: Step, store: Store, *, gpu: bool) -> str | None:
        """What the libraries said while they were imported, as the log of the environment's step."""
        log = self.log_of(environment, gpu=gpu)
        if not log.exists() or not log.stat().st_size:
            return None
        copy = self.logs / f"{environment.key[:24]}.import.log"
        copy.write_bytes(log.read_bytes()[: 1 << 20])
        return store.keep_log(environment.key, copy)

    def close(self, environment: Step) -> None:
        with self._guard:
            sessions = [self._open.pop((environment.name, gpu), None) for gpu in (False, True)]
        for session in sessions:
            if session is not None:
                session.close()

    def stop(self) -> None:
        """End every worker and all that they started."""
        self.stopped = True
        with self._guard:
            sessions, self._open = list(self._open.values()), {}
        for session in sessions:
            session.close()


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
        self.unlocked = unlocked
        self.store = store
        self.listener = listener
        self.jobs = max(1, jobs)
        self.deadline = deadline
        self.again: Again = again
        self.light = store.light()
        self.sessions = Sessions(environments, store.work(run, ""), inputs_of(plan, store), self._made_before)
        self.gpu = gpu
        self.gpus = Gpus(gpus, lock_folder)
        self._on_gpu = 0
        """Steps of ours that run on a GPU now."""
        self.worker = Jobs(
            store, run, self._session, cores, on_log, gpu=gpu, stopped=lambda: self.sessions.stopped, machine=machine
        )
        self.run_id = run
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
                    if dependent.kind == "build" and dependent.state == "stored" and not self._present(dependent):
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
                with machine_lock(exclusive=False, stop=lambda: self._interrupted):
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
            with machine_lock(exclusive=True, stop=lambda: self._interrupted):
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
            if not self._interrupted:  # else we ended it ourselves
                self._died(step, error)
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
                    found = self._environment(step) if step.kind == "environment" else self._run(step)
                elif step.kind == "environment" and found.state == "ok":
                    self._session(step)
        except WorkerDied as error:
            if error.signal not in OUTSIDE or self._interrupted or not tries.again(str(error)):
                raise
            return False
        step.state = "stored" if found.state == "ok" else "failed"
        step.mark = found.run
        if step.kind != "environment":  # that one's output is its pins, known beforehand
            step.output = found.output
        return self._hold(step)

    def _died(self, step: Step, error: WorkerDied) -> None:
        """The environment's worker died while importing: that is what the environment does, not what the step does."""
        environment = step if step.kind == "environment" else step.environment
        ours = "/worker/" in error.log.rpartition("Traceback")[2].rpartition("File ")[2].partition(",")[0]
        if environment is None or ours or error.signal in OUTSIDE:
            self.infrastructure[step] = f"{error}\n{error.log}" if ours else str(error)
            return
        end: dict[str, Any] = {"exit": error.exit if error.exit is not None else 1}
        if error.timeout is not None:
            end = {"timeout": error.timeout}
        if error.signal is not None:
            end = {"signal": error.signal, "name": signal.Signals(error.signal).name}
        record = {
            "end": end, "stages": [{"stage": "environment"}], "log": None, "probe": {},
            "error": {"stage": "environment", "type": "WorkerDied", "message": f"{error}\n{error.log}"},
        }  # fmt: skip
        limits = {"timeout": error.timeout} if error.timeout is not None else {}
        environment.mark = self.worker.records.finish(environment, "failed", "", record, 0.0, limits).run
        environment.state = "failed"

    def _made_before(self, environment: Step) -> Mapping[str, Any] | None:
        found = self.store.step(environment.key)
        return found.record.get("probe") if found is not None and found.state == "ok" else None

    def _environment(self, step: Step) -> StepRecord:
        """Make an environment, start its worker, and hold what was imported against what was declared."""
        family: Family = step.data["family"]
        pins = step.data["pins"]
        if unlocked(step):
            raise InfrastructureError(self.unlocked or "not in the lock; run `enginematrix lock`")
        if pins.unresolved:
            record: dict[str, Any] = {
                "end": {"exit": 1}, "stages": [{"stage": "resolve"}], "log": None, "probe": {},
                "error": {"stage": "resolve", "type": "PackageError", "message": pins.unresolved},
            }  # fmt: skip
            return self.worker.records.finish(step, "failed", "", record, 0.0, {})
        started = time.monotonic()
        try:
            probe = backoff.retry(f"environment {step.name}", lambda: self._made(step)).probe
        except PackageError as error:
            record = {
                "end": {"exit": 1}, "stages": [{"stage": "environment"}], "log": None, "probe": {}, "error": _told(error),
            }  # fmt: skip
            return self.worker.records.finish(step, "failed", "", record, time.monotonic() - started, {})
        seconds = time.monotonic() - started
        record = {
            "end": {"exit": 0}, "stages": [{"stage": "environment", "seconds": round(seconds, 3)}], "error": None,
            "log": self.sessions.keep_log(step, self.store, gpu=self._needs_gpu(step)),
            "probe": probe, "differs": differs(family, step, probe),
            "isolation": step.data["isolation"], "image": _image(step, self.sessions.made[step.name]),
        }  # fmt: skip
        for name, module in probe.get("modules", {}).items():
            if "error" in module and name in family.modules:
                kind, _, text = str(module["error"]).partition(": ")
                record["error"] = {"stage": "environment", "type": kind, "message": f"import {name}: {text or kind}"}
                if lost := lost_in("environment", record["error"], None, ""):
                    raise lost.error(f"environment {step.name}")
                return self.worker.records.finish(step, "failed", "", record, seconds, {})
        return self.worker.records.finish(step, "ok", step.output, record, seconds, {})

    def _made(self, step: Step) -> Session:
        """Raises PackageError where it is evidence, InfrastructureError where its text tells of network or disk."""
        try:
            return self._session(step)
        except PackageError as error:
            if lost := lost_in("environment", _told(error), None, ""):
                raise lost.error(f"environment {step.name}") from error
            raise

    def _session(self, step: Step) -> Session:
        environment = step if step.kind == "environment" else step.environment
        assert environment is not None
        return self.sessions.get(environment, gpu=self._needs_gpu(step))

    def _needs_gpu(self, step: Step) -> bool:
        """Whether a step's container is given the GPUs; elsewhere they are simply there. What a family needs to be worth
        anything, it needs for being imported too: on a Jetson the libraries themselves come with the GPU."""
        environment = step if step.kind == "environment" else step.environment
        assert environment is not None
        family: Family = environment.data["family"]
        needs = (*family.needs, *(family.run_needs if step.kind in ("run", "measure", "conform") else ()))
        return self.gpu and environment.data["isolation"] == "docker" and "nvidia-gpu" in needs


def _told(error: PackageError) -> dict[str, Any]:
    return {"stage": "environment", "type": "PackageError", "message": f"{error}\n{error.text}"}


def _image(step: Step, made: Mapping[str, Any]) -> dict[str, str] | None:
    """The image of a stack, for the record: its tag and key here, its base by name and digest."""
    if step.data["isolation"] != "docker":
        return None
    base, _, digest = str(made["base"]).partition("@")
    return {"tag": made["tag"], "base": base, "digest": digest, "platform": made["platform"], "key": made["key"]}


def inputs_of(plan: Plan, store: Store) -> tuple[Path, ...]:
    """The folders that any job of a plan reads: stored files, models' data, the worker's code, recipes."""
    folders = {step.data["recipe"].directory for step in plan.steps if "recipe" in step.data}
    recipes = {Path(folder).resolve() for folder in folders}
    root = store.root.resolve()
    return (root / "objects", root / "sources", *sorted(recipes))


def _answers(found: StepRecord, step: Step) -> bool:
    return Light(state=found.state, output=found.output, limits=found.limits).answers(step.seconds, step.memory)


def differs(family: Family, step: Step, probe: dict[str, Any]) -> list[dict[str, str]]:
    """Modules whose own version is not the declared one, or that several packages installed over each other:
    [{"asked", "got", "how"}]."""
    out = []
    stack = step.stack
    for name, field in family.modules.items():
        if owners := probe.get("modules", {}).get(name, {}).get("installers"):
            how = (
                f"they installed the same files ({probe['modules'][name]['file']}), and which are loaded is an accident"
            )
            out.append({"asked": f"one package for {name}", "got": " and ".join(owners), "how": how})
        declared = stack.value(field) if stack and field else None
        loaded = str(probe.get("modules", {}).get(name, {}).get("version") or "")
        # Libraries append what they were built from: 2.13.0+cpu, 2026.0.0-20965-c6d6a13a886-releases/2026/0.
        plain = loaded.split("+")[0].split("-")[0]
        same = agree(declared, plain) if stack and field not in stack.fields and declared else plain == declared
        if declared and loaded and not same and not plain.startswith(declared + "."):
            out.append(
                {
                    "asked": f"{name} {declared}",
                    "got": f"{name} {loaded}",
                    "how": "declared version is not the one loaded",
                }
            )
    return out


def differs_from(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """What of an environment changed since it was made: modules that are imported and distributions installed."""
    if before is None:
        return ""
    for name, module in before.get("modules", {}).items():
        other = now.get("modules", {}).get(name, {})
        if "error" in module and "error" in other:  # what is imported ahead only "if it can"
            continue
        if module.get("version") != other.get("version") or "error" in module or "error" in other:
            return f"{name} is {other.get('version') or other.get('error')}, it was {module.get('version')}"
    was, has = before.get("distributions", {}), now.get("distributions", {})
    changed = sorted(name for name in was.keys() | has.keys() if was.get(name) != has.get(name))
    return f"{', '.join(changed[:5])} changed" if changed else ""


@contextlib.contextmanager
def machine_lock(*, exclusive: bool, stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Shared by every job of this user on this machine; a timing takes it alone, whichever run it belongs to.

    Two locks: whoever wants the second stands at the first, the gate, meanwhile. So a timing that waits for the jobs that
    run keeps new ones back, and is not kept waiting for ever by another run's. Waits until `stop()`.

    Raises InfrastructureError when the folder of the locks cannot be used."""
    folder = lock_folder()
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    with (folder / "machine").open("ab") as machine:
        with (folder / "gate").open("ab") as gate:
            _flock(gate, kind, stop)
            _flock(machine, kind, stop)
        yield


def lock_folder() -> Path:
    """The folder of the locks of this user on this machine. Raises InfrastructureError when it cannot be used."""
    folder = Path(tempfile.gettempdir(), f"enginematrix-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    except OSError as error:
        msg = f"{folder}: {error}; remove it, or set TMPDIR to a folder of your own"
        raise InfrastructureError(msg) from error
    if not mine:
        msg = f"{folder}: belongs to somebody else; remove it, or set TMPDIR to a folder of your own"
        raise InfrastructureError(msg)
    return folder


def _flock(file: IO[bytes], kind: int, stop: Callable[[], bool]) -> None:
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if stop():
                msg = "interrupted"
                raise InfrastructureError(msg) from None
            time.sleep(0.05)
        else:
            return
