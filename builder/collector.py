"""`enginematrix gc`: remove from `artifacts/` what neither the matrix nor the last runs need.

Kept: what every cell of the matrix is made of under its present lock and code, and all that the last N runs made.
Takes the store alone, so it never works beside a run."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import lock, locking, machine, merge_rows, pipeline, repro
from builder.environment import worker_hashes
from builder.errors import InfrastructureError
from builder.isolation import Isolation
from builder.plan import Plan, reconcile
from builder.store import StepRecord, Store
from builder.values import digest

if TYPE_CHECKING:
    from builder.pipeline import Work


def collect_garbage(work: Work, *, keep_runs: int, dry_run: bool) -> dict[str, tuple[int, int]]:
    """What was (or would be) removed: kind -> (number, bytes). Raises LockError when the lock does not say what is needed,
    InfrastructureError when a run is going on."""
    here = machine.read()
    locked = _whole_lock(work, here)
    store = Store(work.project.artifacts)
    with (store.root / "in-use").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = "a run is using these artifacts; wait for it to end"
            raise InfrastructureError(msg) from error
        plans = _plans(work, locked, here, store)
        plan = plans[0]
        runs = _kept(store.runs(), keep_runs)
        wanted = {step.key for each in plans for step in each.steps if step.key}
        gone = set(store.partition(wanted, runs)[0])
        records = store.steps(store.light().keys() - gone)
        # A source that was removed by hand: while its record stands, nothing fetches it again.
        gone |= {key for key, record in records.items() if _lost(record, store.root)}
        kept = [record.record for key, record in records.items() if key not in gone]
        files = {str(entry["path"]) for record in kept for entry in _entries(record)}
        files |= {str(Path(path).parent) for path in files}  # the folder of files that belong together
        logs = {str(record["log"]) for record in kept if record.get("log")}
        stacks = [step for each in plans for step in each.steps if step.kind == "environment"]
        pins = {step.data["pins"].key[:16] for step in stacks if step.data["pins"]}
        images = {step.data["rendered"].key for step in stacks if step.data["rendered"] is not None}
        sources = {record.output for key, record in records.items() if record.kind == "obtain" and key not in gone}
        ids = {chain.cell.id for chain in plan.chains}
        slugs = {chain.cell.folder for chain in plan.chains}
        root = store.root
        unused: dict[str, list[Path]] = {
            "objects": [path for path in root.glob("objects/*/*") if str(path.relative_to(root)) not in files],
            "logs": [path for path in root.glob("logs/*/*") if str(path.relative_to(root)) not in logs],
            "env": [path for path in root.glob("env/*") if path.name not in pins],
            "images": [path for path in root.glob("images/*") if _image(path).get("key") not in images],
            "sources": [path for path in root.glob("sources/*") if path.name not in sources],
            "engines": [path for path in root.glob("engines/*") if path.name not in slugs],
            "located": [path for path in root.glob("located/*") if path.name not in ids],
            "repro": repro.unused(root, slugs),
            "worker": [path for path in root.glob("worker/*") if path.name != digest(worker_hashes())[:16]],
            "work": list(root.glob("work/*")),
            "lab": [path for name in ("objects/*/*", "sources/*", "work/*") for path in root.glob(f"lab/{name}")],
        }
        freed = {kind: (len(paths), sum(_size(path) for path in paths)) for kind, paths in unused.items()}
        freed["records"] = (len(gone), 0)
        named = {entry["sha256"] for record in kept for entry in record.get("samples", ())}
        samples = {name: size for name, size in store.sample_sizes().items() if name not in named}
        freed["samples"] = (len(samples), sum(samples.values()))
        if not dry_run:
            store.forget(sorted(gone))
            store.forget_samples(samples)
            _untag([_image(path) for path in unused["images"]])
            for path in (path for paths in unused.values() for path in paths):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        return freed


def _kept(runs: Sequence[Mapping[str, Any]], number: int) -> set[str]:
    """The ids that steps name of the last runs: those that the runs gave themselves, whatever `merge` made of them. A run that
    was merged of parts is one run, and its steps are those of its parts."""
    parts = {str(name) for run in runs for name in run.get("parts", ())}
    last = [run for run in runs if str(run["id"]) not in parts][-number:] if number else []
    return {merge_rows.base(str(name)) for run in last for name in (run["id"], *run.get("parts", ()))}


def _plans(work: Work, locked: lock.Lock, here: machine.Machine, store: Store) -> list[Plan]:
    """The plan as asked for, and as it is each other way: what was made in Docker is no garbage to who uses environments."""
    ways: tuple[Isolation, ...] = (work.isolation, "venv", "docker")
    plans = []
    for way in ways:
        plan = pipeline.make_plan(replace(work, asked=way), locked, here)
        reconcile(plan, store.light(), store.root / "objects", engines=False)  # `run --keep none` keeps their records
        plans.append(plan)
    return plans


def _image(folder: Path) -> dict[str, Any]:
    """What image.json says of the image of a folder; {} when it was never built."""
    try:
        found = json.loads((folder / "image.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _untag(images: list[dict[str, Any]]) -> None:
    """Take the names from the engine's images that nothing needs; their layers go unless others share them. An engine that
    does not answer keeps them."""
    from builder.environment import engine

    tags = [
        str(tag)
        for image in images
        if str(image.get("tag", "")).startswith("enginematrix/")
        for tag in (image["tag"], *image.get("pushed", {}))  # the names that they were pushed under keep layers too
    ]
    if not tags:
        return
    with contextlib.suppress(InfrastructureError):
        client = engine.client()
        for tag in tags:
            with contextlib.suppress(*engine.errors()):
                client.images.remove(tag)


def _whole_lock(work: Work, here: machine.Machine) -> lock.Lock:
    """The lock, which says what is needed: without an entry, all that a stack has made would look unused."""
    locked = lock.read(work.project.lock)
    if locked is None:
        msg = f"{work.project.lock}: no such file, and only it says what is still needed; restore it, or run `enginematrix lock`"
        raise lock.LockError(msg)
    stacks, sources = locking.missing(work, locked, *locking.lockable(work, here), pipeline.in_docker(work, here=True))
    names = [*(locking.label(locked, stack) for stack in stacks), *sources]
    if names:
        msg = f"{work.project.lock}: no entry for {', '.join(names[:5])}; what they made would be lost: run `enginematrix lock`"
        raise lock.LockError(msg)
    return locked


def _lost(record: StepRecord, root: Path) -> bool:
    """Whether a source's record names a folder that is not there."""
    return record.kind == "obtain" and record.state == "ok" and not (root / "sources" / record.output).is_dir()


def _entries(record: Any) -> list[dict[str, Any]]:
    """Every stored file that a record names."""
    out = [record["artifact"]] if record.get("artifact") else []
    out += [*record.get("data", ()), *(case["artifact"] for case in record.get("cases", ()))]
    out += [entry["artifact"] for name in ("subgraphs", "pictures") for entry in record.get(name, ())]
    return out + list(record.get("calibration", ()))


def _size(path: Path) -> int:
    """Bytes on disk; a file with another name elsewhere (a hard link) frees nothing when this name goes."""
    if path.is_dir():
        return sum(_size(entry) for entry in path.iterdir() if not entry.is_symlink())
    status = path.lstat()
    return status.st_size if status.st_nlink == 1 else 0
