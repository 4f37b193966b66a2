"""One step -> one job of a worker -> one record in the store.

A job that fails is a record like any other; only what says nothing about versions (network, disk, a process killed from
outside) is an InfrastructureError, which is never stored.
"""

from __future__ import annotations

import datetime
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from builder import backoff, diagnose, sources
from builder import samples as timings
from builder.errors import InfrastructureError, TransientError, UsageError
from builder.execute import beside
from builder.plan import METHOD, Step
from builder.store import StepRecord, Store, file_sha256
from builder.values import Family, Source, digest


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


class CorruptArtifact(InfrastructureError):
    """A stored file no longer has the bytes that its name says; it was removed and is made again by the next run."""


class Jobs:
    """Turns steps into records. `session(step)` gives the running worker of a step's environment."""

    def __init__(
        self,
        store: Store,
        run: str,
        session: Callable[[Step], Any],
        cores: int,
        log: Callable[[Path], None],
        *,
        gpu: bool,
        stopped: Callable[[], bool] = lambda: False,
        machine: Mapping[str, Any] | None = None,
    ) -> None:
        self.store = store
        self.run = run
        self.session = session
        self.cores = cores
        self.gpu = gpu
        self.stopped = stopped
        self.machine = dict(machine or {})
        self.caches = beside.Caches(store, self.machine)
        """Whether we are ending the workers ourselves: how a job then ends says nothing."""
        self._sources: set[str] = set()
        self._sources_lock = threading.Lock()
        self.log = log
        """Told of each job's log when it is kept (`repro` prints it)."""

    def do(self, step: Step, gpu: str | None = None) -> StepRecord:
        """Run a step and store its record; `gpu`: the UUID of the one that its job is given. Raises InfrastructureError."""
        if step.kind == "obtain":
            return self._obtain(step)
        if step.kind == "speedup":
            from builder.execute import speedup

            return speedup.do(self, step, lambda side: on(gpu, self._input(side)), self._memory)
        assert step.environment is not None
        folder = self.store.work(self.run, f"{step.environment.key[:16]}/{step.key[:24]}")
        tries = backoff.Tries(f"{step.kind} {step.name}", backoff.KILLED)
        try:
            attempts = 1  # of a job that crashes (`retry` of matrix.yaml); what the host did to it is no attempt
            while True:
                job = on(gpu, self._input(step))
                if step.kind == "build":
                    self.caches.hand(step, job, folder)
                end = self.session(step).run(step.kind, job, folder, seconds=step.seconds, memory=self._memory(step))
                if lost := self._lost(end, folder):
                    if lost.lasting or not tries.again(lost.why):
                        raise lost.error(tries.what, str(tries) if tries.made > 1 else "")
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

    # Inputs -----------------------------------------------------------------------------------------------------

    def _input(self, step: Step) -> dict[str, Any]:
        data = step.data
        if step.kind in ("suite", "conform"):
            from builder.conformance import job_input

            return job_input(step, lambda need: self._file(self._record_of(need)["artifact"], need))
        recipe = data["recipe"]
        assert step.environment is not None
        family: Family = step.environment.data["family"]
        if step.kind in ("reference", "export"):
            return {
                "exporter": family.exporter, "options": data["options"], **self._recipe(step), **self._asked(step),
            }  # fmt: skip
        if step.kind in ("calibrate", "convert"):
            export = self._record_of(step.needs[0])
            table = next((need for need in step.needs if need.kind == "calibrate"), None)
            return {
                "exporter": family.exporter, "recipe": recipe.data, "precision": data.get("precision"),
                "quantization": data.get("quantization"), "calibration": self._samples(step),
                "table": self._file(self._record_of(table)["artifact"], table) if table else None,
                "model": self._graph(export, step.needs[0]),
                "inputs": export["result"]["inputs"], "outputs": export["result"]["outputs"],
            }  # fmt: skip
        graph_step = step.needs[0] if step.kind == "build" else data["build"].needs[0]
        graph = self._record_of(graph_step)
        job = {
            "adapter": family.adapter, "model": self._graph(graph, graph_step) if step.kind == "build" else None,
            "data": [Path(entry["path"]).name for entry in graph.get("data", ())],
            "precision": data["precision"], "realised": data["realised"],
            "inputs": graph["result"]["inputs"], "outputs": graph["result"]["outputs"],
            "profile": profile(recipe.data, data["shapes"], graph["result"]["inputs"]),
            "options": data["options"], "settings": dict(family.settings), "quantization": data["quantization"],
            "threads": self.cores if step.kind == "measure" else 1,
        }  # fmt: skip
        if family.takes == "module":
            job.update(self._recipe(graph_step))
            job["shapes"] = data["shapes"]
        if step.kind == "build":
            return {**job, "calibration": self._samples(step)}
        reference = self._record_of(data["reference"])
        job["engine"] = self._graph(self._record_of(data["build"]), data["build"])
        job["cases"] = [
            {"file": self._file(case["artifact"], data["reference"]), "label": case["label"]}
            for case in reference["cases"]
        ]
        if step.kind == "run":
            tolerance = recipe.tolerance[data["precision"]]
            metric = recipe.data.get("metric")
            if metric:
                metric = {"name": metric["name"], "minimum": metric["minimum"].get(data["precision"])}
            if data.get("unloadable"):
                job["unloadable"] = data["unloadable"]
            return {**job, "tolerance": tolerance, "metric": metric, "images": recipe.data.get("images") or []}
        return {**job, "method": METHOD}

    def _recipe(self, step: Step) -> dict[str, Any]:
        """What it takes to run a recipe's script: of a step that needs the recipe's source, when it has one."""
        recipe = step.data["recipe"]
        source = next((need for need in step.needs if need.kind == "obtain"), None)
        return {
            "recipe": recipe.data, "recipe_dir": str(Path(recipe.directory).resolve()),
            "source": self._source(source) if source else None,
        }  # fmt: skip

    def _asked(self, step: Step) -> dict[str, Any]:
        """What an export is asked for besides the recipe's options: nothing for plain ONNX."""
        assert step.environment is not None
        takes = step.data.get("takes", "onnx")
        if takes == "onnx":
            return {}
        if takes == "module":
            return {"takes": takes, "adapter": step.environment.data["family"].adapter}
        return {
            "takes": takes, "precision": step.data["precision"], "quantization": step.data["quantization"],
            "calibration": self._samples(step),
        }  # fmt: skip

    def _samples(self, step: Step) -> list[str]:
        """Paths of the calibration inputs that a step reads: those of the reference among its needs."""
        reference = next((need for need in step.needs if need.kind == "reference"), None)
        if reference is None:
            return []
        return [self._file(entry, reference) for entry in self._record_of(reference)["calibration"]]

    def _record_of(self, step: Step) -> Mapping[str, Any]:
        found = self.store.step(step.key)
        if found is None:  # removed by hand or by another run's `gc` since this run planned
            msg = f"{step.name}: its stored record has disappeared; run again"
            raise InfrastructureError(msg)
        return found.record

    def _graph(self, record: Mapping[str, Any], owner: Step) -> str:
        """Path of an ONNX file, it and the weights beside it checked."""
        for entry in record.get("data", ()):
            self._file(entry, owner)
        return self._file(record["artifact"], owner)

    def _file(self, entry: Mapping[str, Any], owner: Step) -> str:
        """Path of a stored file, its bytes checked once a run."""
        if not self.store.intact(entry):
            self.store.discard(entry)
            self.store.forget([owner.key])
            msg = f"{entry['path']} (made by {owner.kind} {owner.name}) is missing or corrupt; removed: run again to make it anew"
            raise CorruptArtifact(msg)
        return str(self.store.root.resolve() / entry["path"])

    # Records ----------------------------------------------------------------------------------------------------

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
                result_digest = self._ingest(step, record, folder)
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
        return self.finish(step, "ok" if ok else "failed", result_digest, record, seconds, limits, samples)

    def _lost(self, end: Any, folder: Path) -> Lost | None:
        """Why a job's end says nothing about versions; None when it does."""
        if why := no_evidence(end, stopped=self.stopped()):
            return Lost(why=why, lasting=why == INTERRUPTED)
        output = end.output if isinstance(end.output, dict) else {}
        if end.end.get("exit") is None or output.get("ok"):  # a limit that it ran into, or all is well
            return None
        told = output.get("error")
        error: dict[str, Any] = told if isinstance(told, dict) else {}
        stage = str(error.get("stage") or (end.stages[-1] if end.stages else ""))
        try:
            with (folder / "log.txt").open("rb") as file:
                log = file.read(2 * diagnose.LOG_LIMIT).decode("utf-8", "replace")
        except OSError:
            log = ""
        return lost_in(stage, error, end.end, log)

    def _smallest(
        self, step: Step, job: dict[str, Any], error: Mapping[str, Any], folder: Path
    ) -> list[dict[str, Any]]:
        def run(stage: str, given: dict[str, Any], place: Path, seconds: float) -> Any:
            return self.session(step).run(stage, given, place, seconds=seconds, memory=self._memory(step))

        return beside.smallest(step, job, error, folder, self.store, run)

    def _ingest(self, step: Step, record: dict[str, Any], folder: Path) -> str:
        """Move a job's files into the store; the digest that later steps depend on."""
        result = record["result"]
        if step.kind in ("export", "convert"):
            made = self._keep(record, folder, result["model"])
            beside = [[entry["sha256"] for entry in record["data"]]] if "data" in record else []
            return digest([made["sha256"], *beside, result["inputs"], result["outputs"]])
        if step.kind == "suite":
            entry = record["artifact"] = self.store.add_object(inside(folder, result["cases"]))
            return str(entry["sha256"])
        if step.kind == "conform" and set(result["cases"]) != set(step.data["names"]):
            msg = f"it has {len(result['cases'])} results for {len(step.data['names'])} cases"
            raise BadOutput(msg)
        if step.kind == "calibrate":
            entry = record["artifact"] = self.store.add_object(inside(folder, result["table"]))
            return str(entry["sha256"])
        if step.kind == "build":
            # Its name in the store: that of its folder, where it has weights beside it.
            path = Path(self._keep(record, folder, result["engine"])["path"])
            return path.parent.name if "data" in record else path.name
        if step.kind == "reference":
            record["cases"] = [
                {**case, "artifact": self.store.add_object(inside(folder, case["file"]))} for case in result["cases"]
            ]
            record["calibration"] = [
                self.store.add_object(inside(folder, name)) for name in result.get("calibration", ())
            ]
            return digest(
                [[case["artifact"]["sha256"] for case in record["cases"]], [c["sha256"] for c in record["calibration"]]]
            )
        if step.kind == "run" and result.get("pictures"):
            record["pictures"] = [
                {**picture, "artifact": self.store.add_object(inside(folder, picture["file"]))}
                for picture in result["pictures"]
            ]
        return digest(result)

    def _keep(self, record: dict[str, Any], folder: Path, name: str) -> Mapping[str, Any]:
        """Put a job's file into the store as its artifact, with the files beside it that hold its weights as its `data`."""
        beside = [inside(folder, other) for other in record["result"].get("data") or ()]
        if beside:
            record["artifact"], *record["data"] = self.store.add_bundle([inside(folder, name), *beside])
        else:
            record["artifact"] = self.store.add_object(inside(folder, name))
        artifact: Mapping[str, Any] = record["artifact"]
        return artifact

    def finish(
        self,
        step: Step,
        state: str,
        output: str,
        record: Mapping[str, Any],
        seconds: float,
        limits: Mapping[str, float],
        samples: Mapping[str, bytes] = MappingProxyType({}),
    ) -> StepRecord:
        retries = backoff.current().attempts
        done = StepRecord(
            key=step.key, kind=step.kind, name=step.name, state=state, output=output, limits=limits,
            seconds=round(seconds, 4), created=now(), run=self.run,
            record={**record, "machine": self.machine, **({"retries": retries} if retries else {})},
        )  # fmt: skip
        self.store.put_step(done, samples)
        return done

    # Sources ----------------------------------------------------------------------------------------------------

    def _source(self, step: Step) -> str:
        """Folder of what was obtained, its bytes checked once a run, as those of every stored file are."""
        folder = self.store.root.resolve() / "sources" / step.output
        with self._sources_lock:
            if step.output not in self._sources:
                for name, sha256 in self._record_of(step).get("sha256", {}).items():
                    path = folder / name
                    if not path.is_file() or file_sha256(path) != sha256:
                        shutil.rmtree(folder, ignore_errors=True)
                        self.store.forget([step.key])
                        msg = f"{name} of {step.name} is missing or corrupt; removed: run again to obtain it anew"
                        raise CorruptArtifact(msg)
                self._sources.add(step.output)
        return str(folder)

    def _obtain(self, step: Step) -> StepRecord:
        """A model's data into `sources/<digest of its files>/`. Nothing of it is executed."""
        source: Source = step.data["source"]
        started = time.monotonic()
        folder = self.store.work(self.run, step.key[:24])
        # What breaks off stays here for the next try, until `gc`.
        partial = self.store.root / "sources" / f".partial-{step.key[:32]}"
        try:
            sources.obtain(source, step.data["hashes"], Path(step.data["recipe"].directory), folder, partial)
            files = {
                str(path.relative_to(folder)): file_sha256(path)
                for path in sorted(folder.rglob("*"))
                if path.is_file() and "__pycache__" not in path.parts and not path.name.endswith((".lock", "RECORD"))
            }
            output = digest(files)[:32]
            target = self.store.root / "sources" / output
            if not target.exists():
                folder.rename(target)
        except sources.SourceError as error:
            shutil.rmtree(partial, ignore_errors=True)
            failure = {"stage": "obtain", "type": error.kind, "message": str(error)}
            return self.finish(
                step, "failed", "", {"end": {"exit": 1}, "error": failure}, time.monotonic() - started, {}
            )
        except (OSError, UsageError) as error:  # an optional library that is not here, a variable that says nothing
            msg = f"obtain {step.name}: {error}"
            raise InfrastructureError(msg) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        seconds = time.monotonic() - started
        record = {
            "end": {"exit": 0}, "files": len(files), "sha256": files if len(files) <= 100 else {},
            "stages": [{"stage": "obtain", "seconds": seconds}],
        }  # fmt: skip
        return self.finish(step, "ok", output, record, seconds, {})


#: Signals that come from outside: a person, a CI system, a service manager. A library's own death is none of these.
OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


INTERRUPTED = "interrupted"


@dataclass(frozen=True, kw_only=True)
class Lost:
    """A job that ended without evidence. `lasting`: another try would end so too; `advice`: what to do, after the reason."""

    why: str
    advice: str = ""
    lasting: bool = False

    def error(self, what: str, tries: str = "") -> InfrastructureError:
        kind = InfrastructureError if self.lasting else TransientError
        return kind(f"{what}: {self.why}{f' ({tries})' if tries else ''}{f'; {self.advice}' if self.advice else ''}")


def lost_in(stage: str, error: Mapping[str, Any] | None, end: Mapping[str, Any] | None, log: str) -> Lost | None:
    """Infrastructure that an error, or what was printed, tells of: a full disk, a download that a job tried itself, a driver
    that does not fit its kernel module. The catalogue knows the words (builder/diagnose.py)."""
    stage = "export" if stage in ("reference", "calibrate", "convert") else stage
    found = diagnose.diagnose(stage, "failed", error, end, log)
    if not found.infrastructure or found.signature is None:
        return None
    advice = found.remedy or ""
    return Lost(why=found.line, advice=f"{advice[:1].lower()}{advice[1:].rstrip('.')}", lasting=not found.transient)


def no_evidence(end: Any, *, stopped: bool) -> str:
    """Why a job's end says nothing about versions, or "". `stopped`: we are ending the workers ourselves."""
    lost = end.output is None and str(end.end.get("note", "")).startswith("the worker itself ended")
    if end.end.get("cancelled") or (stopped and end.output is None):
        return INTERRUPTED
    if end.end.get("signal") in OUTSIDE:
        return f"killed from outside ({signal.Signals(end.end['signal']).name})"
    return "its worker ended under it" if lost else ""


def keep_samples(record: dict[str, Any], series: Mapping[str, tuple[timings.Windows, int]]) -> dict[str, bytes]:
    """Name the samples of a timing in its record (`samples`); what the store keeps of them: SHA-256 -> packed bytes."""
    packed = [timings.entry(name, windows, used) for name, (windows, used) in series.items()]
    record["samples"] = [told for told, _ in packed]
    return {told["sha256"]: data for told, data in packed}


def on(gpu: str | None, job: dict[str, Any]) -> dict[str, Any]:
    """A job's input, held to a GPU."""
    return {**job, "gpu": gpu} if gpu else job


class BadOutput(Exception):
    """A job says that it made what it did not make."""


def inside(folder: Path, name: str) -> Path:
    """A file a job names, held to the job's own folder: a worker runs code from elsewhere."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file() or (folder / name).is_symlink():
        msg = f"the job named {name!r}, which is not a file in its folder"
        raise BadOutput(msg)
    return path


def profile(recipe: Mapping[str, Any], shapes: str, inputs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The optimisation profile of a dynamic build: {ONNX input name: {"min": [...], "opt": [...], "max": [...]}} from
    the recipe's dimension symbols. Inputs are matched by position, since exporters rename them."""
    if shapes == "static":
        return None
    dims = recipe["dims"][shapes]
    out = {}
    for declared, real in zip(recipe["inputs"], inputs, strict=True):
        out[real["name"]] = {
            point: [size if isinstance(size, int) else dims[size][point] for size in declared["shape"]]
            for point in ("min", "opt", "max")
        }
    return out
