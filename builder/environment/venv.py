"""A stack as a virtual environment made by uv from the lock's hashed pins."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder import machine
from builder.environment import Place, install_worker, interpreters, uv
from builder.environment.session import WorkerSession
from builder.lock import Pins
from builder.store import Store

STATE = "enginematrix.json"


class Venv:
    """`artifacts/env/<key>/`. A state file, renamed into place last, says that it is whole: an environment without one
    (its maker was killed) is removed and made again."""

    def __init__(self, store: Store, name: str, pins: Pins) -> None:
        self.store = store
        self.name = name
        self.pins = pins
        self.key = pins.key
        self.root = store.root.resolve() / "env" / self.key[:16]

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python"

    def state(self) -> dict[str, Any] | None:
        try:
            state = json.loads((self.root / STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        # A symbolic link to an interpreter that was since removed makes the environment useless.
        return state if isinstance(state, dict) and os.access(self.python, os.X_OK) else None

    def ready(self) -> bool:
        return self.state() is not None

    def make(self) -> dict[str, Any]:
        # uv holds the lock too: killed in the middle, we leave it working on the folder.
        with self.store.lock(f"env {self.key}") as held:
            state = self.state()
            if state is not None:
                return {**state, "reused": True}
            started = time.monotonic()
            shutil.rmtree(self.root, ignore_errors=True)
            python = interpreters.find(self.pins.python, interpreters.uv_binary(), uv.environ())
            try:
                uv.make_venv(python, self.root, held)
                uv.install(self.pins, self.python, self.name, held)
            except BaseException:
                shutil.rmtree(self.root, ignore_errors=True)
                raise
            state = {"stack": self.name, "key": self.key, "seconds": round(time.monotonic() - started, 3)}
            self.store.write_text(self.root / STATE, json.dumps(state))
            return {**state, "reused": False}

    def discard(self) -> None:
        with self.store.lock(f"env {self.key}"):
            shutil.rmtree(self.root, ignore_errors=True)

    def start(self, imports: tuple[str, ...], log: Path, seconds: float, *, place: Place) -> WorkerSession:
        session = WorkerSession(
            python=self.python, worker_dir=install_worker(self.store.root.resolve()), imports=imports, env=clean(os.environ),
            log=log,
        )  # fmt: skip
        session.start(seconds)
        return session


KEPT = frozenset({"PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
                  *machine.RESULTS})  # fmt: skip
"""What a worker gets of the host's variables, besides `LC_*`: to find its files, to speak a language, to find a GPU. Those
of them that can change a result stand in the machine's keys."""


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """The worker's variables: a list of what is let in, since libraries read a great many (ONEDNN_MAX_CPU_ISA, OMP_*,
    NVIDIA_TF32_OVERRIDE) that change results and stand in no key."""
    return {name: value for name, value in environ.items() if name in KEPT or name.startswith("LC_")}
