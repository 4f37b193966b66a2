"""What a step's job is given: options, and files of the store whose bytes were checked."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.errors import InfrastructureError
from builder.plan import METHOD, Step
from builder.store import Store, file_sha256
from builder.values import Family


class CorruptArtifact(InfrastructureError):
    """A stored file no longer has the bytes that its name says; it was removed and is made again by the next run."""


class Inputs:
    """Inputs of jobs, from the records of the steps that they need. `cores`: threads of an engine whose time is taken."""

    def __init__(self, store: Store, cores: int) -> None:
        self.store = store
        self.cores = cores
        self._sources: set[str] = set()
        self._sources_lock = threading.Lock()

    def of(self, step: Step) -> dict[str, Any]:
        """What a job is given (builder/worker/README.md). Raises InfrastructureError where a stored file or record is gone."""
        data = step.data
        if step.kind in ("suite", "conform"):
            from builder.conformance import job_input

            return job_input(step, lambda need: self.file(self.record(need)["artifact"], need))
        recipe = data["recipe"]
        assert step.environment is not None
        family: Family = step.environment.data["family"]
        if step.kind in ("reference", "export"):
            return {
                "exporter": family.exporter, "options": data["options"], **self._recipe(step), **self._asked(step),
            }  # fmt: skip
        if step.kind in ("calibrate", "convert"):
            export = self.record(step.needs[0])
            table = next((need for need in step.needs if need.kind == "calibrate"), None)
            return {
                "exporter": family.exporter, "recipe": recipe.data, "precision": data.get("precision"),
                "quantization": data.get("quantization"), "calibration": self._samples(step),
                "table": self.file(self.record(table)["artifact"], table) if table else None,
                "model": self.graph(export, step.needs[0]),
                "inputs": export["result"]["inputs"], "outputs": export["result"]["outputs"],
            }  # fmt: skip
        graph_step = step.needs[0] if step.kind == "build" else data["build"].needs[0]
        graph = self.record(graph_step)
        job = {
            "adapter": family.adapter, "model": self.graph(graph, graph_step) if step.kind == "build" else None,
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
        reference = self.record(data["reference"])
        job["engine"] = self.graph(self.record(data["build"]), data["build"])
        job["cases"] = [
            {"file": self.file(case["artifact"], data["reference"]), "label": case["label"]}
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
        return [self.file(entry, reference) for entry in self.record(reference)["calibration"]]

    def record(self, step: Step) -> Mapping[str, Any]:
        """The record of a step that is done. Raises InfrastructureError."""
        found = self.store.step(step.key)
        if found is None:  # removed by hand or by another run's `gc` since this run planned
            msg = f"{step.name}: its stored record has disappeared; run again"
            raise InfrastructureError(msg)
        return found.record

    def graph(self, record: Mapping[str, Any], owner: Step) -> str:
        """Path of an ONNX file, it and the weights beside it checked. Raises CorruptArtifact."""
        for entry in record.get("data", ()):
            self.file(entry, owner)
        return self.file(record["artifact"], owner)

    def file(self, entry: Mapping[str, Any], owner: Step) -> str:
        """Path of a stored file, its bytes checked once a run. Raises CorruptArtifact."""
        if not self.store.intact(entry):
            self.store.discard(entry)
            self.store.forget([owner.key])
            msg = f"{entry['path']} (made by {owner.kind} {owner.name}) is missing or corrupt; removed: run again to make it anew"
            raise CorruptArtifact(msg)
        return str(self.store.root.resolve() / entry["path"])

    def _source(self, step: Step) -> str:
        """Folder of what was obtained, its bytes checked once a run, as those of every stored file are."""
        folder = self.store.root.resolve() / "sources" / step.output
        with self._sources_lock:
            if step.output not in self._sources:
                for name, sha256 in self.record(step).get("sha256", {}).items():
                    path = folder / name
                    if not path.is_file() or file_sha256(path) != sha256:
                        shutil.rmtree(folder, ignore_errors=True)
                        self.store.forget([step.key])
                        msg = f"{name} of {step.name} is missing or corrupt; removed: run again to obtain it anew"
                        raise CorruptArtifact(msg)
                self._sources.add(step.output)
        return str(folder)


def on(gpu: str | None, job: dict[str, Any]) -> dict[str, Any]:
    """A job's input, held to a GPU."""
    return {**job, "gpu": gpu} if gpu else job


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
