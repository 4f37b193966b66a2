"""What the scripts of this folder share: the product's own worker, started with the Python that runs them, on this machine's GPU.

Nothing is installed and nothing is fetched: they run where PyTorch with CUDA is there already and neither Docker nor a network
is. Jobs go through builder/environment/session.py and builder/worker, as in a run: a fresh process each, forked after the
imports.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from builder.environment.session import JobEnd, WorkerSession  # noqa: E402

WORKER = ROOT / "builder"


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file too")
    return parser


def finish(figures: dict[str, Any], out: Path | None) -> None:
    """Print the figures as JSON, and write them where that was asked."""
    text = json.dumps({"machine": machine(), **figures}, indent=1, sort_keys=True)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")
    print(text)


def gpus() -> list[dict[str, str]]:
    """Every GPU: {"name", "uuid", "compute_cap", "driver_version"}. Ends the script where there is none."""
    fields = ("name", "uuid", "compute_cap", "driver_version")
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"], capture_output=True, text=True,
            check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"this needs an NVIDIA GPU: {error}")
    return [dict(zip(fields, line.split(", "), strict=True)) for line in done.stdout.splitlines()]


def machine() -> dict[str, Any]:
    return {"gpus": gpus(), "python": platform.python_version(), "kernel": platform.release(), "cores": os.cpu_count()}


@contextmanager
def session(*imports: str, arguments: Sequence[str] = ()) -> Iterator[Worker]:
    """A worker in this Python, with a folder for its jobs; `arguments` are more of the worker's own (`--adapter`)."""
    with tempfile.TemporaryDirectory(prefix="enginematrix-gpu-") as name:
        folder = Path(name)
        worker = WorkerSession(
            python=Path(sys.executable), worker_dir=WORKER, imports=imports, log=folder / "session.log",
            env=dict(os.environ), arguments=arguments,
        )  # fmt: skip
        with worker:
            yield Worker(worker, folder)


class Worker:
    def __init__(self, session: WorkerSession, folder: Path) -> None:
        self.session, self.folder = session, folder
        self.count = 0

    def job(self, stage: str, job: dict[str, Any], *, seconds: float = 300) -> tuple[JobEnd, Path]:
        """Run one job. (its end, its folder)"""
        self.count += 1
        folder = self.folder / f"{self.count}-{stage}"
        return self.session.run(stage, job, folder, seconds=seconds, memory=None), folder

    def result(self, stage: str, job: dict[str, Any], *, seconds: float = 300) -> tuple[dict[str, Any], Path]:
        """The result of a job that succeeds. Raises Refused when it does not."""
        end, folder = self.job(stage, job, seconds=seconds)
        if not end.ok or end.output is None:
            error = (end.output or {}).get("error") or {"message": str(end.end), "stage": stage, "type": "Ended"}
            raise Refused(error, folder)
        return {**end.output["result"], "stages": end.output["stages"]}, folder


class Refused(Exception):
    def __init__(self, error: dict[str, Any], folder: Path) -> None:
        self.error = error
        self.log = (folder / "log.txt").read_text(errors="replace")[-4000:] if (folder / "log.txt").exists() else ""
        super().__init__(f"{error.get('stage')}: {error.get('type')}: {error.get('message')}")
