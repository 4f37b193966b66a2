"""One failing cell -> what it takes to show its failure without this program: which step failed, the files that it read, and
what is to be seen again. Pure but for looking whether files are there; repro_folder.py writes it down.

A plain script exists for the steps that repro_scripts.py knows. For every other one `Refusal` says why there is none: a folder
that would show something else than what happened is worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder import outcome
from builder.diagnose_text import clean
from builder.execute.inputs import profile
from builder.lock import Pins
from builder.plan import Chain, Step
from builder.repro_match import METRICS, Refusal, match
from builder.repro_scrub import scrub
from builder.store import StepRecord, Store
from builder.values import Family, Stack

PHASES = {
    "environment": "build", "obtain": "export", "export": "export", "parse": "build", "build": "build", "load": "run",
    "run": "run", "compare": "run",
}  # fmt: skip
"""Stage -> the part of a script in which it happens: libraries do not part reading a model from preparing it, nor loading from
running."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What repro_folder.py writes."""

    chain: Chain
    cell: Mapping[str, Any]
    """As report.json has it."""
    step: Step
    stack: Stack
    pins: Pins
    environment: Mapping[str, Any]
    """The record of the environment that the step ran in."""
    phase: str
    expected: Mapping[str, Any]
    """`match` of expected.json; repro_judge.py reads it."""
    end: Mapping[str, Any]
    message: str
    """The library's own words, without what names this machine."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Name in the folder -> stored file."""
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    """Name in the folder -> bytes of what is part of a larger file."""
    job: Mapping[str, Any] = field(default_factory=dict)
    """What the step was asked, as repro_scripts.py reads it."""

    @property
    def family(self) -> Family:
        family: Family = (self.step.environment or self.step).data["family"]
        return family


def read(chain: Chain, cell: Mapping[str, Any], records: Mapping[str, StepRecord], store: Store) -> Case:
    """Raises Refusal. `records`: of every step of the chain and their environments, by key."""
    if chain.suite is not None:
        return _of_suite(chain, cell, records, store)
    step = _step(chain, cell)
    record = records.get(step.key)
    if record is None:
        msg = "the record of the step that failed is gone; run the cell again"
        raise Refusal(msg)
    where = step.environment or step
    around = records.get(where.key)
    pins: Pins | None = where.data["pins"]
    if where.stack is None or around is None or pins is None or pins.unresolved:
        msg = "its packages cannot be had together, so there is no environment to show anything in: the error is the resolver's"
        raise Refusal(msg)
    data = record.record
    error = data.get("error") or {}
    imported = str(error.get("message", "")).startswith("import ") or cell["status"] in (
        "degraded",
        "crashed",
        "timeout",
    )
    if step.kind == "environment" and not imported:
        msg = "the environment itself could not be made; its log says why"
        raise Refusal(msg)
    log = _log(store, data)
    message = scrub(str(error.get("message") or ""))
    case = _Reader(chain, step, records, store, cell)
    files, job = case.read()
    adapter = None if step.kind == "environment" else where.data["family"].adapter or ""
    phase = PHASES.get(str(cell["stage"]), "build") if cell["status"] not in ("mismatch", "degraded") else case.last
    return Case(
        chain=chain, cell=cell, step=step, stack=where.stack, pins=pins, environment=around.record, phase=phase,
        expected=match(cell, data, adapter, message, log), end=data.get("end") or {}, message=message, files=files, job=job,
    )  # fmt: skip


def _of_suite(chain: Chain, cell: Mapping[str, Any], records: Mapping[str, StepRecord], store: Store) -> Case:
    """A case of a suite. Raises Refusal."""
    from builder import conformance, repro_suite

    step, name = chain.build, chain.cell.options["case"]
    record, around = records.get(step.key), records.get(chain.engine.key)
    shared = records.get(chain.export.key)
    pins: Pins | None = chain.engine.data["pins"]
    found = record.record["result"]["cases"].get(name) if record is not None and step.state == "stored" else None
    if found is None or around is None or shared is None or pins is None or chain.engine.stack is None:
        msg = "what came of the case is no longer kept; run it again"
        raise Refusal(msg)
    artifact = shared.record["artifact"]
    if not store.present(artifact):
        msg = f"{artifact['path']} is no longer kept; run the suite again"
        raise Refusal(msg)
    path = store.root / str(artifact["path"])
    phase = PHASES.get(str(found["stage"]), "build")
    error = found.get("error") or {}
    message = scrub(str(error.get("message") or ""))
    try:
        asked = conformance.job_input(step, lambda need: str(path))
        blobs, job = repro_suite.read(path, name, found, asked, chain.engine.data["family"], phase == "run")
        if cell["status"] == "mismatch":
            rows = repro_suite.wrong(name, str(found["reason"]), job["outputs"])
            wanted: dict[str, Any] = {"by": "mismatch", "metric": None, "outputs": rows}
        else:
            data = {"end": found.get("end") or {}, "error": error}
            adapter = chain.engine.data["family"].adapter or ""
            wanted = match(cell, data, adapter, message, scrub(str(found.get("said") or "")))
    except repro_suite.Odd as error_:
        raise Refusal(str(error_)) from error_
    return Case(
        chain=chain, cell=cell, step=step, stack=chain.engine.stack, pins=pins, environment=around.record, phase=phase,
        expected=wanted, end=found.get("end") or {}, message=message, blobs=blobs, job=job,
    )  # fmt: skip


def _step(chain: Chain, cell: Mapping[str, Any]) -> Step:
    """The step that shows it. Raises Refusal."""
    if cell["status"] == "mismatch":
        return chain.run
    if cell["status"] == "degraded":
        kind = outcome.degraded_by(cell["degraded"][0])
        if kind == "opset-changed":
            return chain.export
        if kind == "version-differs":
            return chain.engine
        if kind == "precision-fallback" and chain.run.state == "stored":
            return chain.run
        msg = f"what was asked and what was got ({kind}) is told by the library in a way that no short script reads"
        raise Refusal(msg)
    for step in chain.steps():
        if step.state == "failed" and step is not chain.reference:
            return step
    msg = "no step of it failed"
    raise Refusal(msg)


def _log(store: Store, data: Mapping[str, Any]) -> str:
    try:
        with (store.root / (data.get("log") or "")).open("rb") as file:
            return scrub(file.read(1 << 18).decode("utf-8", "replace"))
    except OSError:
        return ""


class _Reader:
    """The files of a step, and what it was asked."""

    def __init__(
        self, chain: Chain, step: Step, records: Mapping[str, StepRecord], store: Store, cell: Mapping[str, Any]
    ) -> None:
        self.chain, self.step, self.records, self.store, self.cell = chain, step, records, store, cell
        self.files: dict[str, Path] = {}
        self.last = {"export": "export", "build": "build", "run": "run", "measure": "run"}.get(step.kind, "build")

    def read(self) -> tuple[dict[str, Path], dict[str, Any]]:
        kind = self.step.kind
        if kind == "environment":
            return self.files, {"kind": "import"}
        if kind == "export":
            return self.files, self._export()
        if kind in ("build", "run"):
            return self.files, self._engine()
        msg = f"the step {kind!r} is done by parts of EngineMatrix that no short script replaces"
        raise Refusal(msg)

    def _record(self, step: Step) -> Mapping[str, Any]:
        found = self.records.get(step.key)
        if found is None:
            msg = f"{step.kind} {step.name}: its record is gone; run the cell again"
            raise Refusal(msg)
        return found.record

    def _path(self, entry: Mapping[str, Any]) -> Path:
        if not self.store.present(entry):
            msg = f"{entry['path']} is no longer kept; run the cell again"
            raise Refusal(msg)
        return self.store.root / str(entry["path"])

    def _export(self) -> dict[str, Any]:
        data = self.step.data
        recipe = data["recipe"]
        if data.get("takes", "onnx") != "onnx":
            msg = f"this export writes {data['takes']}, for which there is no short script"
            raise Refusal(msg)
        job = {"kind": "export", **self._model(self.step)}
        case, _ = self._cases(("opt", "static"))
        job.update(options=dict(data["options"]), case=case[0][1])
        if recipe.data.get("script") is None:
            msg = "its recipe has no script: the model is what was obtained, as it is"
            raise Refusal(msg)
        return job

    def _model(self, step: Step) -> dict[str, Any]:
        """A recipe with its script and source, for a script that makes the model itself."""
        recipe = step.data["recipe"]
        source = next((need for need in step.needs if need.kind == "obtain"), None)
        found: dict[str, Any] = {"recipe": recipe, "source": None}
        if source is not None:
            folder = self.store.root / "sources" / source.output
            names = self._record(source).get("sha256") or {}
            if not names or not folder.is_dir():
                msg = "what its model is made from is no longer kept, or is of too many files"
                raise Refusal(msg)
            self.files.update({f"source/{name}": folder / name for name in names})
            found["source"] = "source"
        return found

    def _cases(self, labels: Sequence[str] = ()) -> tuple[list[tuple[str, str]], list[list[int]]]:
        """[(label, name in the folder)], shapes of the first's inputs. With `labels`, the first case of one of them alone."""
        reference = self._record(self.chain.reference)
        if "cases" not in reference:
            msg = "there are no inputs: its reference could not be computed"
            raise Refusal(msg)
        cases = reference["cases"]
        if labels:
            cases = [next((case for case in cases if case["label"] in labels), cases[0])]
        out = []
        for case in cases:
            name = f"cases/{re.sub(r'[^A-Za-z0-9._-]', '_', case['label'])}.npz"
            self.files[name] = self._path(case["artifact"])
            out.append((str(case["label"]), name))
        return out, cases[0]["shapes"]

    def _engine(self) -> dict[str, Any]:
        build = self.step if self.step.kind == "build" else self.step.data["build"]
        data = build.data
        family: Family = data["family"]
        graph_step = build.needs[0]
        graph = self._record(graph_step)
        recipe = data["recipe"]
        job: dict[str, Any] = {
            "kind": family.adapter, "precision": data["precision"], "realised": data["realised"],
            "options": dict(data["options"]), "settings": dict(family.settings), "quantization": data["quantization"],
            "inputs": graph["result"]["inputs"], "outputs": graph["result"]["outputs"], "shapes": data["shapes"],
            "profile": profile(recipe.data, data["shapes"], graph["result"]["inputs"]), "engine": None,
            "tolerance": dict(recipe.tolerance[data["precision"]]), "running": self.step.kind == "run",
        }  # fmt: skip
        if len(build.needs) > 1 and build.needs[1].kind == "reference" and job["realised"] == "flag":
            msg = "its builder calibrates from samples, for which there is no short script"
            raise Refusal(msg)
        if family.takes == "module":
            job.update(self._model(graph_step))
            if recipe.data.get("script") is None:
                msg = "its recipe has no script: the model is what was obtained, as it is"
                raise Refusal(msg)
            job["example"] = self._cases(("opt", "static"))[0][0][1]
        else:
            source = self._path(graph["artifact"])
            beside = [self._path(entry) for entry in graph.get("data", ())]
            job["model"] = source.name if beside else f"model{source.suffix}"
            job["external"] = bool(beside)
            self.files[job["model"]] = source
            self.files.update({path.name: path for path in beside})
        if (
            self.chain.built_in is not None
            and self.step is self.chain.run
            and self.chain.built_in is not self.chain.engine
        ):
            made = self._record(build)
            if made.get("data"):
                msg = "the engine that another stack built is of several files"
                raise Refusal(msg)
            path = self._path(made["artifact"])
            job["engine"] = f"engine{path.suffix}"
            self.files[job["engine"]] = path
        if job["running"] and self.step.data.get("unloadable"):
            msg = "the library was asked of the file alone, since this machine cannot load it: no script runs it here"
            raise Refusal(msg)
        if job["running"]:
            job["cases"] = self._cases()[0]
            metric = recipe.data.get("metric")
            job["metric"] = metric["name"] if metric and metric["name"] in METRICS else None
        self._pieces(build)
        return job

    def _pieces(self, build: Step) -> None:
        """The smallest pieces of the model that were refused, or the one that `locate` found to be wrong."""
        record = self.records.get(build.key)
        if self.cell["status"] != "mismatch":
            pieces = record.record.get("subgraphs", ()) if record is not None else ()
            for number, piece in enumerate(one for one in pieces if self.store.present(one["artifact"])):
                name = f"smallest-{number + 1}.onnx" if number else "smallest.onnx"
                self.files[name] = self.store.root / str(piece["artifact"]["path"])
            return
        located = (self.cell.get("located") or {}).get("subgraph") or {}
        if located.get("reproduces"):
            found = {"piece.onnx": self.store.root / located["path"], "piece.npz": self.store.root / located["inputs"]}
            if all(path.is_file() for path in found.values()):
                self.files.update(found)


def lines(text: str, limit: int) -> Iterator[str]:
    """The first lines of a text, cleaned, `limit` characters in all."""
    for line in text.splitlines():
        limit -= len(line) + 1
        if limit < 0:
            yield "..."
            return
        yield clean(line).rstrip()
