"""The workers of a run: one for each environment, and what its jobs may read and write."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from builder.environment import Environment, Place, Session
from builder.errors import InfrastructureError
from builder.plan import Plan, Step
from builder.store import Store
from builder.values import Family


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


def inputs_of(plan: Plan, store: Store) -> tuple[Path, ...]:
    """The folders that any job of a plan reads: stored files, models' data, the worker's code, recipes."""
    folders = {step.data["recipe"].directory for step in plan.steps if "recipe" in step.data}
    recipes = {Path(folder).resolve() for folder in folders}
    root = store.root.resolve()
    return (root / "objects", root / "sources", *sorted(recipes))


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
