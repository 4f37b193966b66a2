"""One step -> one job of a worker -> one record in the store.

A job that fails is a record like any other; only what says nothing about versions (network, disk, a process killed from
outside) is an InfrastructureError, which is never stored.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from builder import backoff
from builder import samples as timings
from builder.execute import beside
from builder.execute.inputs import Inputs, on
from builder.execute.lost import lost
from builder.execute.obtain import obtain
from builder.execute.records import BadOutput, Records, keep_samples
from builder.plan import Step
from builder.store import StepRecord


class Jobs:
    """Turns steps into records. `session(step)` gives the running worker of a step's environment."""

    def __init__(
        self,
        records: Records,
        session: Callable[[Step], Any],
        cores: int,
        log: Callable[[Path], None],
        *,
        gpu: bool,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.records = records
        self.store = records.store
        self.run = records.run
        self.session = session
        self.gpu = gpu
        self.stopped = stopped
        """Whether we are ending the workers ourselves: how a job then ends says nothing."""
        self.inputs = Inputs(records.store, cores)
        self.caches = beside.Caches(records.store, records.machine)
        self.log = log
        """Told of each job's log when it is kept (`repro` prints it)."""

    def do(self, step: Step, gpu: str | None = None) -> StepRecord:
        """Run a step and store its record; `gpu`: the UUID of the one that its job is given. Raises InfrastructureError."""
        if step.kind == "obtain":
            return obtain(self.records, step)
        if step.kind == "speedup":
            from builder.execute import speedup

            return speedup.do(self, step, lambda side: on(gpu, self.inputs.of(side)), self._memory)
        assert step.environment is not None
        folder = self.store.work(self.run, f"{step.environment.key[:16]}/{step.key[:24]}")
        tries = backoff.Tries(f"{step.kind} {step.name}", backoff.KILLED)
        try:
            attempts = 1  # of a job that crashes (`retry` of matrix.yaml); what the host did to it is no attempt
            while True:
                job = on(gpu, self.inputs.of(step))
                if step.kind == "build":
                    self.caches.hand(step, job, folder)
                end = self.session(step).run(step.kind, job, folder, seconds=step.seconds, memory=self._memory(step))
                if trouble := lost(end, folder, stopped=self.stopped()):
                    if trouble.lasting or not tries.again(trouble.why):
                        raise trouble.error(tries.what, str(tries) if tries.made > 1 else "")
                elif "signal" in end.end and attempts <= step.retry:
                    attempts += 1
                else:
                    break
                shutil.rmtree(folder, ignore_errors=True)
                folder = self.store.work(self.run, f"{step.environment.key[:16]}/{step.key[:24]}")
            return self._record(step, job, end, folder, attempts)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _memory(self, step: Step) -> int | None:
        """No limit on the address space where CUDA is used: it reserves far more than it takes."""
        assert step.environment is not None
        return None if self.gpu and step.environment.data["family"].device == "cuda" else step.memory

    def _record(self, step: Step, job: dict[str, Any], end: Any, folder: Path, attempts: int) -> StepRecord:
        # A recipe's code may leave anything where the worker leaves its result.
        output = end.output if isinstance(end.output, dict) else {}
        error = output.get("error")
        ok = end.end.get("exit") == 0 and bool(output.get("ok"))
        record: dict[str, Any] = {
            "end": end.end, "usage": end.usage, "stages": output.get("stages") or [{"stage": s} for s in end.stages],
            "result": output.get("result") or {}, "error": error, "loaded": output.get("loaded") or {},
            "attempts": attempts, "flaky": attempts > 1 and ok,
        }  # fmt: skip
        result_digest, samples = "", dict[str, bytes]()
        if ok:
            try:
                if step.kind == "measure":
                    samples = keep_samples(record, timings.of_job(folder, record["result"]))
                result_digest = self.records.ingest(step, record, folder)
                if step.kind == "build":
                    self.caches.take(step, job, record["result"], folder)
            except (KeyError, TypeError, AttributeError, ValueError, BadOutput) as trouble:
                ok = False
                text = f"{type(trouble).__name__}: {trouble}: not what a {step.kind} gives"
                record["error"] = {"stage": step.kind, "type": "BadOutput", "message": text}
        elif not error and end.end.get("exit") == 0:
            record["error"] = {"stage": step.kind, "type": "WorkerError", "message": "the job ended without a result"}
        if not ok and error and step.kind == "build" and (pieces := self._smallest(step, job, error, folder)):
            record["subgraphs"] = pieces
        record["log"] = self.store.keep_log(step.key, folder / "log.txt")
        if record["log"]:
            self.log(self.store.root / record["log"])
        limits = {name: end.end[name] for name in ("timeout", "memory") if name in end.end}
        seconds = float(end.usage.get("seconds") or 0.0)
        return self.records.finish(step, "ok" if ok else "failed", result_digest, record, seconds, limits, samples)

    def _smallest(
        self, step: Step, job: dict[str, Any], error: Mapping[str, Any], folder: Path
    ) -> list[dict[str, Any]]:
        def run(stage: str, given: dict[str, Any], place: Path, seconds: float) -> Any:
            return self.session(step).run(stage, given, place, seconds=seconds, memory=self._memory(step))

        return beside.smallest(step, job, error, folder, self.store, run)
