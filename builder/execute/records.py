"""What becomes of a job: its files in the store, and one record a step."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from builder import backoff
from builder import samples as timings
from builder.plan import Step
from builder.store import StepRecord, Store
from builder.values import digest


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


class BadOutput(Exception):
    """A job says that it made what it did not make."""


def inside(folder: Path, name: str) -> Path:
    """A file a job names, held to the job's own folder: a worker runs code from elsewhere."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file() or (folder / name).is_symlink():
        msg = f"the job named {name!r}, which is not a file in its folder"
        raise BadOutput(msg)
    return path


class Records:
    """Writes the records of a run. `machine`: what of this one can change a result, kept with each."""

    def __init__(self, store: Store, run: str, machine: Mapping[str, Any]) -> None:
        self.store = store
        self.run = run
        self.machine = dict(machine)

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
        """Store what became of a step, with this machine and how often it was tried again.

        state: "ok" or "failed"; output: the digest that later steps depend on; seconds: of the job; limits: that it ran
        into; samples: SHA-256 -> packed bytes."""
        retries = backoff.current().attempts
        done = StepRecord(
            key=step.key, kind=step.kind, name=step.name, state=state, output=output, limits=limits,
            seconds=round(seconds, 4), created=now(), run=self.run,
            record={**record, "machine": self.machine, **({"retries": retries} if retries else {})},
        )  # fmt: skip
        self.store.put_step(done, samples)
        return done

    def ingest(self, step: Step, record: dict[str, Any], folder: Path) -> str:
        """Move a job's files into the store; the digest that later steps depend on. Raises BadOutput, and KeyError, TypeError,
        AttributeError or ValueError for a result of another shape."""
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


def keep_samples(record: dict[str, Any], series: Mapping[str, tuple[timings.Windows, int]]) -> dict[str, bytes]:
    """Name the samples of a timing in its record (`samples`); what the store keeps of them: SHA-256 -> packed bytes."""
    packed = [timings.entry(name, windows, used) for name, (windows, used) in series.items()]
    record["samples"] = [told for told, _ in packed]
    return {told["sha256"]: data for told, data in packed}
