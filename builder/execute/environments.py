"""An `environment` step: make it, import what it is for, and hold that against what was declared."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from typing import Any

from builder import backoff
from builder.environment import Session
from builder.environment.session import WorkerDied
from builder.environment.uv import PackageError
from builder.errors import InfrastructureError
from builder.execute.lost import OUTSIDE, lost_in
from builder.execute.records import Records
from builder.execute.sessions import Sessions
from builder.image import agree
from builder.plan import Step, unlocked
from builder.store import StepRecord
from builder.values import Family


class Environments:
    """Makes the environments of a run, each when its step comes, and gives their workers to the jobs.

    `gpu`: whether this machine has one; `unlocked`: why the lock says nothing of some stacks."""

    def __init__(self, sessions: Sessions, records: Records, *, gpu: bool, unlocked: str) -> None:
        self.sessions = sessions
        self.records = records
        self.gpu = gpu
        self.unlocked = unlocked

    def make(self, step: Step) -> StepRecord:
        """Make an environment, start its worker, and hold what was imported against what was declared.

        Raises WorkerDied, InfrastructureError."""
        family: Family = step.data["family"]
        pins = step.data["pins"]
        if unlocked(step):
            raise InfrastructureError(self.unlocked or "not in the lock; run `enginematrix lock`")
        if pins.unresolved:
            record: dict[str, Any] = {
                "end": {"exit": 1}, "stages": [{"stage": "resolve"}], "log": None, "probe": {},
                "error": {"stage": "resolve", "type": "PackageError", "message": pins.unresolved},
            }  # fmt: skip
            return self.records.finish(step, "failed", "", record, 0.0, {})
        started = time.monotonic()
        try:
            probe = backoff.retry(f"environment {step.name}", lambda: self._made(step)).probe
        except PackageError as error:
            record = {
                "end": {"exit": 1}, "stages": [{"stage": "environment"}], "log": None, "probe": {}, "error": _told(error),
            }  # fmt: skip
            return self.records.finish(step, "failed", "", record, time.monotonic() - started, {})
        seconds = time.monotonic() - started
        record = {
            "end": {"exit": 0}, "stages": [{"stage": "environment", "seconds": round(seconds, 3)}], "error": None,
            "log": self.sessions.keep_log(step, self.records.store, gpu=self._needs_gpu(step)),
            "probe": probe, "differs": differs(family, step, probe),
            "isolation": step.data["isolation"], "image": _image(step, self.sessions.made[step.name]),
        }  # fmt: skip
        for name, module in probe.get("modules", {}).items():
            if "error" in module and name in family.modules:
                kind, _, text = str(module["error"]).partition(": ")
                record["error"] = {"stage": "environment", "type": kind, "message": f"import {name}: {text or kind}"}
                if lost := lost_in("environment", record["error"], None, ""):
                    raise lost.error(f"environment {step.name}")
                return self.records.finish(step, "failed", "", record, seconds, {})
        return self.records.finish(step, "ok", step.output, record, seconds, {})

    def _made(self, step: Step) -> Session:
        """Raises PackageError where it is evidence, InfrastructureError where its text tells of network or disk."""
        try:
            return self.session(step)
        except PackageError as error:
            if lost := lost_in("environment", _told(error), None, ""):
                raise lost.error(f"environment {step.name}") from error
            raise

    def session(self, step: Step) -> Session:
        """The worker of a step's environment. Raises WorkerDied, PackageError, InfrastructureError."""
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

    def died(self, step: Step, error: WorkerDied) -> str | None:
        """The environment's worker died while importing: that is what the environment does, not what the step does. Its step has
        failed then; else why that is no evidence."""
        environment = step if step.kind == "environment" else step.environment
        ours = "/worker/" in error.log.rpartition("Traceback")[2].rpartition("File ")[2].partition(",")[0]
        if environment is None or ours or error.signal in OUTSIDE:
            return f"{error}\n{error.log}" if ours else str(error)
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
        environment.mark = self.records.finish(environment, "failed", "", record, 0.0, limits).run
        environment.state = "failed"
        return None


def _told(error: PackageError) -> dict[str, Any]:
    return {"stage": "environment", "type": "PackageError", "message": f"{error}\n{error.text}"}


def _image(step: Step, made: Mapping[str, Any]) -> dict[str, str] | None:
    """The image of a stack, for the record: its tag and key here, its base by name and digest."""
    if step.data["isolation"] != "docker":
        return None
    base, _, digest = str(made["base"]).partition("@")
    return {"tag": made["tag"], "base": base, "digest": digest, "platform": made["platform"], "key": made["key"]}


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
