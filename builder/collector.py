"""`enginematrix gc`: remove from `artifacts/` what neither the matrix nor the last runs need.

Kept: what every cell of the matrix is made of under its present lock and code, and all that the last N runs made.
Takes the store alone, so it never works beside a run."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import lock, locking, machine, pipeline
from builder.environment import worker_hashes
from builder.errors import InfrastructureError
from builder.plan import reconcile
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
        plan = pipeline.make_plan(work, locked, here)
        reconcile(plan, store.light(), store.root / "objects")
        runs = {run["id"] for run in store.runs()[-keep_runs:]} if keep_runs else set()
        wanted = {step.key for step in plan.steps if step.key}
        gone = set(store.partition(wanted, runs)[0])
        records = store.steps(store.light().keys() - gone)
        # A source that was removed by hand: while its record stands, nothing fetches it again.
        gone |= {key for key, record in records.items() if _lost(record, store.root)}
        kept = [record.record for key, record in records.items() if key not in gone]
        files = {str(entry["path"]) for record in kept for entry in _entries(record)}
        logs = {str(record["log"]) for record in kept if record.get("log")}
        pins = {step.data["pins"].key[:16] for step in plan.steps if step.kind == "environment" and step.data["pins"]}
        sources = {record.output for key, record in records.items() if record.kind == "obtain" and key not in gone}
        slugs = {chain.cell.folder for chain in plan.chains}
        root = store.root
        unused: dict[str, list[Path]] = {
            "objects": [path for path in root.glob("objects/*/*") if str(path.relative_to(root)) not in files],
            "logs": [path for path in root.glob("logs/*/*") if str(path.relative_to(root)) not in logs],
            "env": [path for path in root.glob("env/*") if path.name not in pins],
            "sources": [path for path in root.glob("sources/*") if path.name not in sources],
            "engines": [path for path in root.glob("engines/*") if path.name not in slugs],
            "worker": [path for path in root.glob("worker/*") if path.name != digest(worker_hashes())[:16]],
            "work": list(root.glob("work/*")),
        }
        freed = {kind: (len(paths), sum(_size(path) for path in paths)) for kind, paths in unused.items()}
        freed["records"] = (len(gone), 0)
        if not dry_run:
            store.forget(sorted(gone))
            for path in (path for paths in unused.values() for path in paths):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        return freed


def _whole_lock(work: Work, here: machine.Machine) -> lock.Lock:
    """The lock, which says what is needed: without an entry, all that a stack has made would look unused."""
    locked = lock.read(work.project.lock)
    if locked is None:
        msg = f"{work.project.lock}: no such file, and only it says what is still needed; restore it, or run `enginematrix lock`"
        raise lock.LockError(msg)
    lacks = locked.missing(*locking.lockable(work, here))
    names = [*(stack.id for stack in lacks[0]), *lacks[1]]
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
    out += [case["artifact"] for case in record.get("cases", ())]
    return out + list(record.get("calibration", ()))


def _size(path: Path) -> int:
    """Bytes on disk; a file with another name elsewhere (a hard link) frees nothing when this name goes."""
    if path.is_dir():
        return sum(_size(entry) for entry in path.iterdir() if not entry.is_symlink())
    status = path.lstat()
    return status.st_size if status.st_nlink == 1 else 0
