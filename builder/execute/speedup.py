"""A `speedup` step: an engine and its baseline in turns, each window in a process of its own (see builder/speed.py)."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import samples
from builder.errors import InfrastructureError
from builder.execute.lost import no_evidence
from builder.execute.records import keep_samples
from builder.plan import Step
from builder.speed import ROUND_METHOD, ROUNDS, order, speedup
from builder.store import StepRecord

if TYPE_CHECKING:
    from builder.execute.jobs import Jobs


def do(
    jobs: Jobs, step: Step, input_of: Callable[[Step], dict[str, Any]], memory_of: Callable[[Step], int | None]
) -> StepRecord:
    """Run the rounds and store their record. `input_of` and `memory_of` give a job's input and its limit (bytes).

    A side that fails is a failed step, with its name, and no cell's failure: what a cell's own timing is worth, its own
    `measure` says. Raises InfrastructureError."""
    assert step.environment is not None
    sides: dict[str, Step] = {"engine": step.data["measure"], "baseline": step.data["baseline"]}
    inputs = {name: {**input_of(side), "method": ROUND_METHOD} for name, side in sides.items()}
    windows: dict[str, list[list[float]]] = {name: [] for name in sides}
    seconds = 0.0
    for number in range(ROUNDS):
        for name in order(number):
            side = sides[name]
            assert side.environment is not None
            folder = jobs.store.work(jobs.run, f"{side.environment.key[:16]}/{step.key[:24]}")
            try:
                end = jobs.session(side).run(
                    "measure", inputs[name], folder, seconds=step.seconds, memory=memory_of(side)
                )
                if trouble := no_evidence(end, stopped=jobs.stopped()):
                    msg = f"{step.kind} {step.name}: {trouble}"
                    raise InfrastructureError(msg)
                seconds += float(end.usage.get("seconds") or 0.0)
                if not end.ok:
                    return jobs.records.finish(step, "failed", "", _failed(name, side, end), seconds, {})
                try:
                    windows[name].append(_samples(folder, end.output["result"]))
                except (KeyError, TypeError, ValueError) as error:
                    bad = {"stage": "measure", "type": "BadOutput", "message": f"no samples of a timing: {error}"}
                    return jobs.records.finish(
                        step, "failed", "", {**_failed(name, side, end), "error": bad}, seconds, {}
                    )
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    pairs = list(zip(windows["baseline"], windows["engine"], strict=True))
    result = {
        "speedup": speedup(pairs),
        "windows": [
            {name: {"median": statistics.median(some), "samples": len(some)} for name, some in (("baseline", b), ("engine", e))}
            for b, e in pairs
        ],
        "baseline": {
            "stack": sides["baseline"].stack.id if sides["baseline"].stack else "", "name": sides["baseline"].name,
            "median": statistics.median(statistics.median(some) for some in windows["baseline"]), "of": step.data["of"],
        },
    }  # fmt: skip
    record = {"end": {"exit": 0}, "error": None, "stages": [{"stage": "measure", "seconds": seconds}], "result": result}
    packed = keep_samples(record, {f"speedup {name}": (taken, len(taken)) for name, taken in windows.items()})
    return jobs.records.finish(step, "ok", step.key, record, seconds, {}, packed)


def _samples(folder: Path, result: dict[str, Any]) -> list[float]:
    """Every sample of the one window (s)."""
    return [sample for window in samples.read(folder, result["samples_file"]) for sample in window]


def _failed(name: str, side: Step, end: Any) -> dict[str, Any]:
    error = (end.output or {}).get("error") or {
        "stage": "measure", "type": "WorkerError", "message": f"the job ended without a result: {end.end}",
    }  # fmt: skip
    return {
        "end": end.end,
        "error": error,
        "stages": [{"stage": "measure"}],
        "side": name,
        "of": side.name,
        "result": {},
    }
