"""Host overhead of a cell with a warm environment: wall time of its build and run steps, less what the worker spent in the
engine's own stages (parse, build, load, run, compare). Bar: 30 ms a cell.

Real ONNX Runtime; one environment, made first. Prints the median over 40 rounds, and where it goes.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import synthetic

sys.path.insert(0, str(synthetic.ROOT))

from builder import lock, machine, pipeline
from builder.environment.venv import Venv
from builder.execute.jobs import Jobs
from builder.execute.records import Records
from builder.execute.sessions import Sessions
from builder.plan import Step, reconcile
from builder.project import Project
from builder.store import Store

SELECT = "model=squeezenet and opset=17 and precision=fp32 and shapes=static and onnxruntime=1.31.1"
ROUNDS = 40


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("images", "recipes", "matrix.yaml", "matrix.lock"):
            source = synthetic.ROOT / part
            shutil.copytree(source, folder / part) if source.is_dir() else shutil.copy(source, folder / part)
        command = [sys.executable, "-m", "builder", "run", "--quiet", "--frozen", "--select", SELECT]
        subprocess.run(command, cwd=folder, env=synthetic._environ(), check=True, stdout=subprocess.DEVNULL)
        work = pipeline.select(Project(matrix=folder / "matrix.yaml"), group=None, expression=SELECT)
        locked = lock.read(folder / "matrix.lock")
        assert locked is not None
        plan = pipeline.make_plan(work, locked, machine.read())
        store = Store(folder / "artifacts")
        reconcile(plan, store.light(), store.root / "objects")
        sessions = Sessions(lambda step: Venv(store, step.name, step.data["pins"]), store.work("bench", "sessions"))

        def session(step: Step) -> object:
            assert step.environment is not None
            return sessions.get(step.environment)

        jobs = Jobs(Records(store, "bench", {}), session, 2, lambda path: None, gpu=False)
        chain = plan.chains[0]
        jobs.do(chain.build)  # starts the worker
        overhead: dict[str, list[float]] = {"build": [], "run": [], "cell": []}
        for _ in range(ROUNDS):
            total = 0.0
            for step in (chain.build, chain.run):
                started = time.perf_counter()
                record = jobs.do(step)
                wall = time.perf_counter() - started
                own = sum(stage.get("seconds") or 0.0 for stage in record.record["stages"])
                overhead[step.kind].append(wall - own)
                total += wall - own
            overhead["cell"].append(total)
        sessions.stop()
        for kind, values in overhead.items():
            bar = f"  (bar 0.030 s: {statistics.median(values) / 0.03:.2f} of it)" if kind == "cell" else ""
            print(
                f"host overhead, {kind:<6} {statistics.median(values) * 1e3:7.1f} ms  "
                f"({min(values) * 1e3:.1f} to {max(values) * 1e3:.1f}){bar}"
            )


main()
