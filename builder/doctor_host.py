"""What `doctor` looks at the machine with: files below a root, commands with a short time limit; and what a check says.

Tests give another root and other variables, so that every state of every check can be shown on any machine.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

State = Literal["ok", "warning", "problem", "absent"]
Need = Literal["all", "venv", "docker", "gpu", "docker-gpu"]

#: Bytes of a file or of a command's output that are read: what is asked here answers in far less.
LIMIT = 4 << 20
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-_]|.)")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    """`ok`; `warning`: works, with a catch; `problem`: broken, or contradicts itself; `absent`: not there, which is no fault."""
    found: str
    matters: str
    mend: str = ""
    need: Need = "all"
    """Which families it concerns: all, those in virtual environments, in images, on a GPU, in images on a GPU."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """The same for programs; JSON values."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command said. `code` is None when it could not be run or was stopped, and `error` says why."""

    code: int | None
    out: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Host:
    """The machine, or what stands for it."""

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def text(self, name: str) -> str:
        """A file's text, '' when it cannot be read."""
        try:
            with self.path(name).open("rb") as file:
                return file.read(LIMIT).decode(errors="replace")
        except (OSError, ValueError):
            return ""

    def exists(self, name: str) -> bool:
        try:
            return os.path.lexists(self.path(name))
        except (OSError, ValueError):
            return False

    def names(self, folder: str) -> list[str]:
        """What is in a folder, sorted; nothing when it is none."""
        try:
            return sorted(path.name for path in self.path(folder).iterdir())
        except (OSError, ValueError):
            return []

    def which(self, command: str, *folders: str) -> str | None:
        """A command on PATH, else in one of `folders`."""
        more = os.pathsep.join(str(self.path(folder)) for folder in folders)
        found = shutil.which(command, path=self.environ.get("PATH") or os.defpath)
        return found or (shutil.which(command, path=more) if more else None)

    def ask(self, command: Sequence[str], seconds: float) -> Answer:
        """Run a command without input, in a process group of its own that is killed after `seconds` or LIMIT bytes."""
        environ = {**self.environ, "LC_ALL": "C"}
        try:
            process = subprocess.Popen(  # noqa: S603
                command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            return Answer(code=None, out="", error=f"cannot be run: {getattr(error, 'strerror', None) or error}")
        with process:
            out, err, trouble = _listen(process, time.monotonic() + seconds)
            if not trouble:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1)
            code = process.returncode
            if code is None:
                _kill(process)
            else:
                with contextlib.suppress(ProcessLookupError, PermissionError):  # what it left behind
                    os.killpg(process.pid, signal.SIGKILL)
        if trouble or code is None:
            what = trouble or "closed its output and went on"
            return Answer(code=None, out=out, error=what.format(seconds=f"{seconds:g}"))
        return Answer(code=code, out=out, error=err)


def _listen(process: subprocess.Popen[bytes], deadline: float) -> tuple[str, str, str]:
    """(stdout, stderr, why it was not heard to the end)."""
    texts: dict[int, bytearray] = {}
    trouble = ""
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            texts[stream.fileno()] = bytearray()
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(deadline - time.monotonic(), 0))
            if not ready:
                trouble = "does not answer within {seconds} s"
                break
            for key, _ in ready:
                chunk = os.read(key.fd, 1 << 16)
                texts[key.fd] += chunk
                if not chunk:
                    selector.unregister(key.fileobj)
            if sum(map(len, texts.values())) > LIMIT:
                trouble = f"prints more than {LIMIT >> 20} MiB"
                break
    out, err = (bytes(text).decode(errors="replace") for text in texts.values())
    return out, err, trouble


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)
    # A process in the kernel (a driver that hangs) dies when the kernel lets it: it is not waited for.
    process.returncode = -9 if process.returncode is None else process.returncode


def clean(text: object, limit: int = 200) -> str:
    """Text from elsewhere on one line, without what steers a terminal, and not longer than `limit` characters."""
    plain = _ESCAPE.sub("", str(text))
    plain = " ".join("".join(c if c.isprintable() else " " for c in plain).split())
    return plain if len(plain) <= limit else plain[: limit - 3] + "..."


def size(number: float) -> str:
    """Bytes in words, by 1024: `140.4 GiB`."""
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"
