"""A matrix of a wanted size in a folder of its own, and a store in which all of it is done."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

MATRIX = """\
schema: 1
name: synthetic
exporters:
  source: {{family: source, source: "1.0"}}
tools: {{family: source, source: "1.0"}}
engines:
  engine: {{family: engine, engine: [{versions}]}}
axes:
  model: [{models}]
  opset: [13, 17, 18, 21, 23]
  shapes: [static, dynamic]
  precision: [fp32]
groups:
  default: all
"""
ENGINE = """\
family: engine
summary: An engine for measuring
provides: [engine]
adapter: onnxruntime
device: cpu
needs: []
run-needs: []
isolation: [venv]
axes:
  engine: {required: true}
python:
  - {use: "3.12"}
packages: ["engine=={engine}"]
modules: {engine: engine}
precision: {fp32: flag}
settings: {}
"""
SOURCE = (
    ENGINE.replace("engine", "source")
    .replace("provides: [source]", "provides: [exporter, tools]")
    .replace("adapter: onnxruntime", "exporter: onnx")
)
RECIPE = """\
recipe: {name}
summary: A model for measuring
exporters: [source]
script: export.py
inputs:
  - {{name: x, dtype: float32, shape: [N, 3], range: [-1, 1]}}
dims:
  static: {{N: 1}}
  dynamic: {{N: {{min: 1, opt: 2, max: 4}}}}
seeds: [0]
uses: [opset, shapes]
tolerance:
  fp32: {{atol: 1.0e-4, rtol: 1.0e-3, because: measuring}}
"""


def write(folder: Path, cells: int) -> None:
    """A matrix of exactly `cells` cells: 10 option combinations x 10 models x engines (a multiple of 100)."""
    engines = cells // 100
    models = [f"model{number}" for number in range(10)]
    versions = ", ".join(f'"1.{number}.0"' for number in range(engines))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "matrix.yaml").write_text(MATRIX.format(versions=versions, models=", ".join(models)))
    for name, text in (("engine", ENGINE), ("source", SOURCE)):
        (folder / "images" / name).mkdir(parents=True, exist_ok=True)
        (folder / "images" / name / "family.yaml").write_text(text)
    for name in models:
        (folder / "recipes" / name).mkdir(parents=True, exist_ok=True)
        (folder / "recipes" / name / "recipe.yaml").write_text(RECIPE.format(name=name))
        (folder / "recipes" / name / "export.py").write_text("def model(recipe, source):\n    return None\n")


def complete(folder: Path) -> int:
    """Lock every stack and store a finished record for every step, as a run would; the number of cells."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    import fake

    from builder import lock, locking, machine, pipeline
    from builder.execute.local import Local
    from builder.plan import reconcile
    from builder.project import Project
    from builder.store import Store

    work = pipeline.select(Project(matrix=folder / "matrix.yaml"), group="all", expression=None)
    pins = {}
    for stack in locking.stacks_of(work, work.cells):
        names = lock.lines(stack)
        pins[stack.id] = lock.Pins(
            python=stack.fields["python"],
            requirements=names,
            packages=names,
            hashes=dict.fromkeys(names, ("sha256:00",)),
        )
    locked = lock.Lock(cutoff="2026-11-20T00:00:00Z", stacks=pins)
    (folder / "matrix.lock").write_text(locked.dumps())
    store = Store(folder / "artifacts")
    plan = pipeline.make_plan(work, locked, machine.read())
    reconcile(plan, store.light(), store.root / "objects")
    local = Local(plan, store, fake.World(), fake.Listener(), run="bench", jobs=2, cores=2)
    if not local.run():
        raise SystemExit("interrupted")
    return len(plan.chains)


def median(command: Sequence[str], folder: Path, runs: int = 7) -> tuple[float, float, float]:
    """(median, fastest, slowest) seconds of a whole process, after one run that is not counted."""
    times = []
    for number in range(runs + 1):
        started = time.perf_counter()
        done = subprocess.run([*command], cwd=folder, capture_output=True, text=True, check=False, env=_environ())
        if number:
            times.append(time.perf_counter() - started)
        if done.returncode:
            raise SystemExit(f"{command}: {done.stdout}{done.stderr}")
    return statistics.median(times), min(times), max(times)


def _environ() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


def show(what: str, figures: tuple[float, float, float], bar: float) -> None:
    middle, least, most = figures
    print(f"{what:<58} {middle:7.3f} s  ({least:.3f} to {most:.3f}; bar {bar:g} s: {middle / bar:.2f} of it)")
