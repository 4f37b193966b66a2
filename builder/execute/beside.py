"""What goes on beside a build: files that builds leave for later ones, and the smallest piece of a model that was refused.

Neither is part of a step's key. A timing cache says which tactic was how fast: TensorRT measures that in every build
anyway, so that equal steps already may give other bytes, and the record tells what the build was given. A table of
calibration scales is made of what is in the key. `caches/` can be deleted at any time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.diagnose import diagnose
from builder.plan import Step
from builder.store import Store, file_sha256
from builder.values import digest

#: Seconds that looking for the smallest piece of a refused model may take, and what it may take of them in one model.
PATIENCE = 90.0
LIMIT = {"tries": 60, "seconds": 40.0, "pieces": 4}
KEPT = 4
"""Pieces whose operators are remembered of one failure."""


class Caches:
    """Timing caches, shared per release and kind of GPU; calibration tables, per model, samples and release.

    A job is given copies in its own folder, and what it leaves takes the place of what it was given: one that another job
    left meanwhile stays beside it, for the next build to put together. A file is written beside and renamed into place."""

    def __init__(self, store: Store, machine: Mapping[str, Any]) -> None:
        self.store = store
        self.machine = machine

    def hand(self, step: Step, job: dict[str, Any], folder: Path) -> None:
        """Add `timing_cache` and `calibration_table` to the job of a build, where its family has such."""
        if job["settings"].get("timing_cache") == "shared" and self.machine.get("gpus"):
            job["timing_cache"] = [
                str(shutil.copyfile(path, folder / f"given-{path.name}")) for path in self._stored(self.timing(step))
            ]
        if job.get("calibration"):
            table = self.table(step, job)
            if table.exists():
                job["calibration_table"] = str(shutil.copyfile(table, folder / "given.table"))

    def take(self, step: Step, job: Mapping[str, Any], result: Mapping[str, Any], folder: Path) -> None:
        """Keep what a build left. A worker runs code from elsewhere: what is no file of its folder is left alone."""
        if "timing_cache" in job and (made := _own(folder, result.get("timing_cache"))):
            place = self.timing(step)
            target = place / f"{file_sha256(made)[:32]}.cache"
            self._keep(made, target)
            for path in job["timing_cache"]:
                given = place / Path(path).name.removeprefix("given-")
                if given != target:
                    given.unlink(missing_ok=True)
        if job.get("calibration") and (made := _own(folder, result.get("calibration_table"))):
            self._keep(made, self.table(step, job))

    def timing(self, step: Step) -> Path:
        """The folder of the timing caches of a step's release on this machine's kind of GPU."""
        gpus = sorted({(gpu.get("name"), gpu.get("compute_capability")) for gpu in self.machine["gpus"]}, key=str)
        name = digest([self._release(step), gpus, self.machine.get("driver")])[:32]
        return self.store.root / "caches" / "timing" / name

    def table(self, step: Step, job: Mapping[str, Any]) -> Path:
        """The table of the scales that a step's release gives this model over these samples."""
        files = [file_sha256(Path(path)) for path in (job["model"], *job["calibration"])]
        kind = job["options"].get("calibration") or job["settings"].get("calibration")
        return self.store.root / "caches" / "calibration" / f"{digest([self._release(step), files, kind])[:32]}.table"

    def _release(self, step: Step) -> list[str | None]:
        assert step.stack is not None
        version = step.stack.value("tensorrt")
        return [version, step.stack.value("cuda")] if version else [step.stack.id]

    def _stored(self, place: Path) -> list[Path]:
        return sorted(path for path in place.glob("*.cache") if path.is_file()) if place.is_dir() else []

    def _keep(self, made: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with self.store.lock(f"cache-{target.parent.name[:16]}"):
            beside = target.with_name(f".{target.name}.part")
            shutil.copyfile(made, beside)
            beside.replace(target)


def _own(folder: Path, name: Any) -> Path | None:
    """A regular file in the folder itself."""
    if not isinstance(name, str) or Path(name).name != name:
        return None
    path = folder / name
    return path if path.is_file() and not path.is_symlink() else None


class Likenesses:
    """What the smallest refused pieces were made of, by engine and failure: the same failure of another model is looked for
    where that has the same operators, and found there in a few tries in place of some dozen. What is found is cut from the
    cell's own model and refused by its own build all the same, so that a wrong hint costs a few tries and no truth."""

    def __init__(self, store: Store, step: Step, error: Mapping[str, Any]) -> None:
        found = diagnose(str(error.get("stage")), "failed", error, None, "")
        about = [step.stack.family if step.stack else "", found.group_key, error.get("stage")]
        self.name = digest(about)[:32]
        self.path = store.root / "caches" / "refused" / f"{self.name}.json"
        self.store = store

    def known(self) -> list[list[str]]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        lists = found if isinstance(found, list) else []
        return [names for names in lists if isinstance(names, list) and all(isinstance(name, str) for name in names)]

    def learn(self, pieces: Sequence[Mapping[str, Any]]) -> None:
        known = self.known()
        new = [list(piece["operators"]) for piece in pieces if piece.get("smallest") and piece.get("operators")]
        new = [names for names in new if names not in known]
        if new:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.store.write_text(self.path, json.dumps([*known, *new][-KEPT:]))


def smallest(
    step: Step, job: Mapping[str, Any], error: Mapping[str, Any], folder: Path, store: Store,
    run: Callable[[str, dict[str, Any], Path, float], Any],
) -> list[dict[str, Any]]:  # fmt: skip
    """The smallest pieces of the model that a build refused, each as a stored ONNX file: records with `artifact`. None when
    the refusal is not of the model, or no piece shows it. `run(stage, input, folder, seconds)` runs a job in the step's
    environment; one that dies or takes too long costs nothing but its answer."""
    family = step.environment.data["family"] if step.environment else None
    if family is None or family.takes != "onnx" or error.get("stage") not in ("parse", "build"):
        return []
    likenesses = Likenesses(store, step, error)
    if likenesses.known():
        return _search(job, error, folder, store, run, likenesses)
    with store.lock(f"refused-{likenesses.name}"):  # who fails alike at the same time learns from this one
        return _search(job, error, folder, store, run, likenesses)


def _search(
    job: Mapping[str, Any], error: Mapping[str, Any], folder: Path, store: Store,
    run: Callable[[str, dict[str, Any], Path, float], Any], likenesses: Likenesses,
) -> list[dict[str, Any]]:  # fmt: skip
    given = {
        **job, "alike": likenesses.known(), "refused": error.get("unsupported") or [], "message": error.get("message", ""),
        "failed_at": error["stage"], "limit": LIMIT,
    }  # fmt: skip
    place = folder.with_name(f"{folder.name}-subgraph")
    place.mkdir(parents=True, exist_ok=True)
    try:
        end = run("subgraph", given, place, PATIENCE)
        output = end.output if isinstance(end.output, dict) else {}
        result = output.get("result")
        found = result.get("subgraphs", []) if output.get("ok") and isinstance(result, dict) else []
        pieces = [
            {**piece, "artifact": store.add_object(made)}
            for piece in found
            if isinstance(piece, dict) and (made := _own(place, piece.get("model")))
        ]
        likenesses.learn(pieces)
        return pieces
    finally:
        shutil.rmtree(place, ignore_errors=True)
