"""Realise a stack and run a worker in it: the only place, with `execute/`, that starts anything.

`Environment` is what a way of isolating has to offer: `venv` (uv), `images` (Docker); `fake` in the tests.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from builder import plugins
from builder.values import digest

WORKER = Path(__file__).resolve().parent.parent / "worker"


class Session(Protocol):
    """A running worker: see worker/README.md. `run` may be called from several threads at once."""

    probe: dict[str, Any]

    def run(
        self, stage: str, input: dict[str, Any], dir: Path, *, seconds: float, memory: int | None
    ) -> Any: ...  # -> session.JobEnd

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a worker's jobs read and write, and what they are given: what a container must be told of."""

    writable: Path
    """The one folder that jobs write to."""
    readonly: tuple[Path, ...] = ()
    gpu: bool = False
    """Whether it is given the machine's GPUs."""


class Environment(Protocol):
    """One stack, realised."""

    key: str
    """Names what is installed; equal keys are one environment."""

    def ready(self) -> bool:
        """Whether it is there, by files alone: starts nothing."""

    def make(self) -> dict[str, Any]:
        """Make it if it is not there, and describe it: {"python", "seconds", "reused"}.

        Raises PackageError (these versions do not go together) or InfrastructureError (this machine or its network)."""

    def start(self, imports: tuple[str, ...], log: Path, seconds: float, *, place: Place) -> Session:
        """Start a worker in it. Raises session.WorkerDied when an import kills it or takes longer than `seconds`."""

    def discard(self) -> None:
        """Remove it: it is not what it was."""


def worker_files() -> dict[str, Path]:
    """Place in the worker -> file: ours, and the adapters that other packages offer (`plugins`)."""
    files = {str(path.relative_to(WORKER)): path for path in WORKER.rglob("*.py") if "__pycache__" not in path.parts}
    files.update({f"adapters/{name}_.py": path for name, path in plugins.adapters().items()})
    return dict(sorted(files.items()))


def worker_hashes() -> dict[str, str]:
    """File of the worker -> hash, so that a stage's key holds just the code that serves it."""
    return {name: digest(path.read_text(encoding="utf-8")) for name, path in worker_files().items()}


def install_worker(root: Path) -> Path:
    """Copy the worker into `artifacts/worker/<hash>/worker`, so that editing it does not change a run that is going on.
    Returns the folder that holds `worker/`."""
    target = root / "worker" / digest(worker_hashes())[:16]
    if not (target / "worker").exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".", dir=target.parent))
        for name, path in worker_files().items():
            copy = beside / "worker" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        try:
            beside.rename(target)
        except OSError:  # another run was first: the same files
            shutil.rmtree(beside, ignore_errors=True)
    return target
