"""The lock that a run was made with, had again later: what a trace crosses.

Every run that is remembered leaves its whole lock under `artifacts/kept-locks/`, once however many runs share it. Of runs
from before that, history has what was pinned and a digest of the hashes (`history_keep.entry`): the index is then asked for
the hashes, and they count only where they are those of the digest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from builder import history_runs, lock
from builder.environment import uv
from builder.errors import EngineMatrixError
from builder.lock import Lock, Pins
from builder.project import Project
from builder.store import Store
from builder.values import Stack, digest

_SHA256 = re.compile(r"[0-9a-f]{64}")
FOLDER = "kept-locks"
"""Under `artifacts/`."""


class LockGone(EngineMatrixError):
    """What a run was locked to cannot be had any more."""


def keep(store: Store, locked: Lock) -> None:
    """Keep a lock under its digest, which the run's record names. Raises InfrastructureError when the disk refuses."""
    path = _path(store, digest(locked.dumps()))
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        store.write_text(path, locked.dumps())


def of_run(
    store: Store, project: Project, run: Mapping[str, Any], stacks: Iterable[Stack], data: Iterable[str] = ()
) -> Lock:
    """The lock of a run (its record in the store), with an entry for each of these stacks that it had one for, and for these
    names of models' sources.

    Raises LockGone where it was not kept and cannot be had again; InfrastructureError when the index is away."""
    sha256 = str(run.get("lock", {}).get("sha256"))
    present = lock.read(project.lock)
    if present is not None and digest(present.dumps()) == sha256:
        return present
    path = _path(store, sha256)
    kept = lock.read(path) if _SHA256.fullmatch(sha256) else None  # a record may come from elsewhere
    if kept is None:
        return _again(store, run, stacks, {name: _source(run, present, name) for name in data})
    if digest(kept.dumps()) != sha256:
        msg = f"{path}: its content is not what its name says"
        raise LockGone(msg)
    return kept


def _path(store: Store, sha256: str) -> Path:
    return store.root / FOLDER / f"{sha256}.lock"


def _source(run: Mapping[str, Any], present: Lock | None, name: str) -> tuple[str, ...]:
    """The hashes of a source, of which history has nothing: those of the present lock, where the name itself says which version
    it is."""
    found = present.sources.get(name) if present is not None else None
    if found is None or name.startswith(lock.HUB):
        msg = f"run {run['id']} did not keep its lock, and history does not say what {name} was"
        raise LockGone(msg)
    return found


def _again(
    store: Store, run: Mapping[str, Any], stacks: Iterable[Stack], sources: Mapping[str, tuple[str, ...]]
) -> Lock:
    """From what history pinned, with the index's hashes, held against the digests that history has of them."""
    name = run["id"]
    entries = history_runs.pins(store, str(name))
    if not entries:
        msg = f"run {name} was made before lock entries were kept"
        raise LockGone(msg)
    cutoff = str(run["lock"]["cutoff"])
    found = Lock(cutoff=cutoff, sources=dict(sources))
    for stack in stacks:
        entry = entries.get(stack.id)
        if entry is None or "python" not in entry:
            continue
        if entry.get("image"):
            msg = f"run {name} did not keep its lock, and of the image of {stack.id} history has the digest alone"
            raise LockGone(msg)
        pins = tuple(f"{package}=={version}" for package, (version, _) in entry["packages"].items())
        unresolved = str(entry.get("unresolved", ""))
        found.stacks[stack.id] = Pins(
            python=entry["python"], requirements=lock.lines(stack), packages=pins, unresolved=unresolved,
            hashes=_hashes(str(name), stack.id, entry, pins, cutoff) if pins and not unresolved else {},
        )  # fmt: skip
    return found


def _hashes(
    run: str, stack: str, entry: Mapping[str, Any], pins: tuple[str, ...], cutoff: str
) -> dict[str, tuple[str, ...]]:
    try:
        had = uv.hashes_of(pins, entry["python"], cutoff)
    except uv.PackageError as error:
        msg = f"run {run} did not keep its lock, and the index no longer has all of {stack}: {error}"
        raise LockGone(msg) from error
    for pin in pins:
        name, _, _ = pin.partition("==")
        if digest(sorted(had.get(pin, ())))[:12] != entry["packages"][name][1]:
            msg = f"run {run} did not keep its lock, and the index now has other files of {pin} ({stack})"
            raise LockGone(msg)
    return had
