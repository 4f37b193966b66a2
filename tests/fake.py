"""An environment that starts nothing: sessions answer jobs by a script, and write down what they were asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from builder.environment import Place
from builder.environment.session import JobEnd, WorkerDied
from builder.environment.uv import PackageError
from builder.errors import InfrastructureError
from builder.plan import Step

Script = Callable[[str, dict[str, Any], Path], dict[str, Any]]

GRAPH = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 3]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": [1]}],
}
MATCH = {"verdict": "match", "reason": "", "tolerance": {}, "outputs": [], "metric": None}


def well(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Every job succeeds; files hold what they were made from, so that other inputs give other bytes."""
    text = f"{stage} {sorted((k, str(v)) for k, v in job.items() if k in ('options', 'precision', 'model', 'adapter'))}"
    if stage == "reference":
        (folder / "case-0.npz").write_text("reference")
        return {
            "cases": [{"file": "case-0.npz", "label": "opt", "seed": 0, "shapes": [[1, 3]]}],
            "calibration": [],
            "noise": {},
        }
    if stage in ("export", "convert"):
        (folder / "model.onnx").write_text(text)
        return {"model": "model.onnx", "opset": int((job.get("options") or {}).get("opset", 17)), "ir": 8, **GRAPH}
    if stage == "build":
        (folder / "engine.plan").write_text(text)
        return {"engine": "engine.plan", "found": {}, "unsupported": []}
    if stage == "run":
        return {"comparison": MATCH, "found": {}, "degraded": []}
    return {"settled": True, "median": 0.001, "p90": None, "p99": None, "windows": [], "samples": 30}


class FakeSession:
    def __init__(self, world: World, step: Step) -> None:
        self.world = world
        self.name = step.name
        self.alive = True
        self.probe = {"python": "3.11.7", "modules": {name: {"version": "1.0"} for name in step.data["family"].modules}}
        self.probe.update(world.probes.get(step.name, {}))

    def run(self, stage: str, input: dict[str, Any], dir: Path, *, seconds: float, memory: int | None) -> JobEnd:
        with self.world.lock:
            self.world.jobs.append((stage, self.name, input))
            self.world.now += 1
            self.world.most = max(self.world.most, self.world.now)
        try:
            time.sleep(self.world.pause)
            (dir / "log.txt").write_text(f"log of {stage}\n")
            answer = self.world.script(stage, input, dir)
        finally:
            with self.world.lock:
                self.world.now -= 1
        usage = {"seconds": 0.01, "user": 0.01, "system": 0.0, "max_rss": 1}
        if "end" in answer:
            return JobEnd(end=answer["end"], usage=usage, output=None, stages=(stage,))
        if "error" in answer:
            return JobEnd(
                end={"exit": 0},
                usage=usage,
                output={"ok": False, "stages": [], "error": answer["error"]},
                stages=(stage,),
            )
        output = {
            "ok": True,
            "stages": [{"stage": stage, "seconds": 0.01}],
            "result": answer,
            "loaded": {"libraries": []},
        }
        return JobEnd(end={"exit": 0}, usage=usage, output=output, stages=(stage,))

    def close(self) -> None:
        self.alive = False
        with self.world.lock:
            self.world.closed.append(self.name)


class World:
    """What there is, and what was asked of it."""

    def __init__(self, script: Script = well, pause: float = 0.0) -> None:
        self.script = script
        self.pause = pause
        self.lock = threading.Lock()
        self.jobs: list[tuple[str, str, dict[str, Any]]] = []
        self.made: list[str] = []
        self.started: list[str] = []
        self.closed: list[str] = []
        self.discarded: list[str] = []
        self.probes: dict[str, dict[str, Any]] = {}
        self.broken: dict[str, Exception] = {}
        self.now = self.most = 0

    def __call__(self, step: Step) -> FakeEnvironment:
        return FakeEnvironment(self, step)

    def stages(self) -> list[str]:
        return [stage for stage, _, _ in self.jobs]


class FakeEnvironment:
    def __init__(self, world: World, step: Step) -> None:
        self.world = world
        self.step = step
        self.key = step.name

    def ready(self) -> bool:
        return self.step.name in self.world.made

    def make(self) -> dict[str, Any]:
        error = self.world.broken.get(self.step.name)
        if isinstance(error, (PackageError, InfrastructureError)):
            raise error
        with self.world.lock:
            self.world.made.append(self.step.name)
        return {"reused": False, "seconds": 0.0}

    def discard(self) -> None:
        with self.world.lock:
            self.world.discarded.append(self.step.name)

    def start(self, imports: tuple[str, ...], log: Path, seconds: float, *, place: Place) -> FakeSession:
        error = self.world.broken.get(self.step.name)
        if isinstance(error, WorkerDied):
            raise error
        with self.world.lock:
            self.world.started.append(self.step.name)
        return FakeSession(self.world, self.step)


class Listener:
    def __init__(self) -> None:
        self.chains: list[str] = []
        self.steps: list[str] = []

    def step_started(self, name: str) -> None:
        pass

    def step_finished(self, name: str, seconds: float, ok: bool) -> None:
        self.steps.append(name)

    def chain_finished(self, chain: Any) -> None:
        self.chains.append(chain.cell.id)

    def message(self, text: str) -> None:
        pass
