"""Starting workers in tests, and finding what they leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.environment.session import JobEnd, WorkerSession

BUILDER = Path(__file__).parent.parent.parent / "builder"
FAKE = Path(__file__).parent / "fake_adapter.py"
ARGUMENTS = ("--adapter", f"fake={FAKE}")
MARK = "ENGINEMATRIX_TEST"


class Fake:
    """A session with the fake adapter; everything that it starts carries a mark in its environment."""

    def __init__(self, folder: Path, python: Path = Path(sys.executable), imports: Sequence[str] = ()) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.session = WorkerSession(
            python=python, worker_dir=BUILDER, imports=imports, env={"PATH": "/usr/bin:/bin", MARK: self.mark},
            log=folder / "session.log", arguments=ARGUMENTS,
        )  # fmt: skip
        self.count = 0

    def do(
        self, what: str, *, seconds: float = 30, memory: int | None = 8 << 30, on_stage: Any = None, **more: Any
    ) -> JobEnd:
        self.count += 1
        self.last = self.folder / f"job-{self.count}"
        job = {"adapter": "fake", "settings": {"do": what, **more}}
        return self.session.run("build", job, self.last, seconds=seconds, memory=memory, on_stage=on_stage)

    def got(self, what: str, **more: Any) -> Any:
        """What the action gave, of a job that works."""
        end = self.do(what, **more)
        assert end.ok, end
        assert end.output is not None
        return end.output["result"]["got"]

    def log(self) -> str:
        return (self.last / "log.txt").read_text()


def marked(mark: str) -> list[int]:
    """Processes that carry the mark, zombies apart. Forked children share their parent's, whatever they did after."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def gone(mark: str, within: float = 8.0) -> bool:
    """Whether all marked processes are gone in that time (s), and stay so."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        if not marked(mark):
            time.sleep(0.1)
            if not marked(mark):
                return True
        time.sleep(0.02)
    return False


def hostile_venv(folder: Path, modules: dict[str, str]) -> Path:
    """Interpreter of an empty virtual environment with these modules (name -> source) in it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python3*/site-packages"))
    for name, source in modules.items():
        (site / f"{name}.py").write_text(source)
    return folder / "bin" / "python"


def host_script(folder: Path, body: str) -> subprocess.Popen[str]:
    """A host process of its own that imports this module and runs `body` (with `folder`); its standard output is a
    pipe."""
    code = f"from pathlib import Path\nfrom workers.support import *\nfolder = Path({str(folder)!r})\n{body}"
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": f"{BUILDER.parent}:{Path(__file__).parent.parent}"},
    )  # fmt: skip
