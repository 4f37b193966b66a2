"""What it costs to hold every case of a suite to its own deeds: wall time of the suite's steps with a warm environment,
against a plain loop over the same models in one process of the same environment, in one run, by turns.

Bar: 1.5 times the loop. The loop is the least that gives a verdict: a session of one thread, one run, NumPy's own
comparison, nothing to survive a crash and nothing written down. Its time is counted from the first model to the last
one, with the interpreter started, the library imported and all data in memory; ours is all that the steps take, forks,
runs to make sure of a failure and the store included, as many steps at once as there are cores, as in a run. Beside it
stand the same with one step at a time, and processor time (of the loop, and of the worker's jobs with all they started),
which holds on a busy machine, too.

    python benchmarks/bench_conformance.py [SELECTOR] [ROUNDS]        default: onnxruntime=1.20.1,1.31.1 and 3
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import synthetic

sys.path.insert(0, str(synthetic.ROOT))

from builder import lock, machine, pipeline
from builder.environment import install_worker
from builder.environment.venv import Venv
from builder.execute.jobs import Jobs
from builder.execute.records import Records
from builder.execute.sessions import Sessions
from builder.plan import Chain, Step, reconcile
from builder.project import Project
from builder.store import Store

BAR = 1.5
LOOP = """
import json, sys, time
import numpy
sys.path.insert(0, sys.argv[1])
from worker import conform_data
cases = conform_data.Cases(sys.argv[2])
values = lambda pairs: [value for _, value in pairs]
data = [(cases.model(case), values(cases.inputs(case)), values(cases.outputs(case))) for case in cases.cases.values()]
adapter = sys.argv[3]
if adapter == "onnxruntime":
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4

    def outputs(model, inputs):
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return session.run(None, dict(zip([item.name for item in session.get_inputs()], inputs)))
else:
    import openvino
    runtime = openvino if hasattr(openvino, "Core") else __import__("openvino.runtime", fromlist=["Core"])
    core = runtime.Core()

    def outputs(model, inputs):
        config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}
        compiled = core.compile_model(core.read_model(model), "CPU", config)
        got = compiled(inputs)
        return [got[port] for port in compiled.outputs]

good = 0
outputs(*data[0][:2])
started, before = time.perf_counter(), time.process_time()
for model, inputs, expected in data:
    try:
        for want, have in zip(expected, outputs(model, inputs)):
            numpy.testing.assert_allclose(have, want, rtol=1e-3, atol=1e-7)
        good += 1
    except Exception:
        pass
print(json.dumps([time.perf_counter() - started, time.process_time() - before, good, len(data)]))
"""


def main(select: str, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("images", "recipes", "matrix.yaml", "matrix.lock"):
            source = synthetic.ROOT / part
            shutil.copytree(source, folder / part) if source.is_dir() else shutil.copy(source, folder / part)
        expression = f"suite=operators and {select}"
        work = pipeline.select(Project(matrix=folder / "matrix.yaml"), group=None, expression=expression)
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
        first = plan.chains[0].export
        first.resolve_key()
        made = jobs.do(first)
        first.output = made.output
        cases = store.root / made.record["artifact"]["path"]
        chains: dict[str, Chain] = {chain.cell.engine.id: chain for chain in plan.chains}
        for stack, chain in chains.items():
            steps = {id(c.build): c.build for c in plan.chains if c.cell.engine.id == stack}
            for step in steps.values():
                step.resolve_key()
            session(chain.build)  # starts the worker
            python = Venv(store, chain.engine.name, chain.engine.data["pins"]).python
            family = chain.engine.data["family"]
            together: list[tuple[float, float]] = []
            walls, processors, good, count, children, verified = [], [], 0, 0, 0, 0
            for _ in range(rounds):
                command = [str(python), "-c", LOOP, str(install_worker(store.root)), str(cases), family.adapter]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                wall, processor, good, count = json.loads(done.stdout)
                started = time.perf_counter()
                with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                    list(pool.map(jobs.do, steps.values()))
                together.append((wall, time.perf_counter() - started))
                started = time.perf_counter()
                records = [jobs.do(step).record for step in steps.values()]
                walls.append((wall, time.perf_counter() - started))
                used = sum(record["usage"]["user"] + record["usage"]["system"] for record in records)
                processors.append((processor, used))
                children = sum(record["result"]["children"] for record in records)
                verified = sum(c["status"] == "match" for r in records for c in r["result"]["cases"].values())
            print(
                f"{stack}: {count} cases, {good} pass in the loop, {verified} verified in {children} processes (bar {BAR})"
            )
            for what, pairs in (("wall time", together), ("one by one", walls), ("processor time", processors)):
                loop, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
                ratios = [b / a for a, b in pairs]
                spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
                print(
                    f"  {what:<15} loop {loop:6.2f} s, suite {ours:6.2f} s, ratio {statistics.median(ratios):.2f} ({spread})"
                )
            sys.stdout.flush()
        sessions.stop()


main(sys.argv[1] if len(sys.argv) > 1 else "onnxruntime=1.20.1,1.31.1", int(sys.argv[2]) if len(sys.argv) > 2 else 3)
