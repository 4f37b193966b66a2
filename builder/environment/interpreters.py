"""Find a CPython of a given minor version: pyenv's, uv's, the system's, and the one this program runs on.

uv's own discovery does not see pyenv versions that are not selected (their shims refuse to start), so pyenv's folders are
read directly. Nothing is executed but the one candidate that is finally chosen (by `uv venv`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from builder.errors import InfrastructureError


class InterpreterMissing(InfrastructureError):
    """This machine has no such Python and none could be fetched."""


def pyenv_roots(environ: Mapping[str, str]) -> Iterator[Path]:
    """Folders that hold `versions/`: named by variables, the usual place, beside shims on PATH, around ourselves."""
    for name in ("PYENV_ROOT", "PYENV"):
        if environ.get(name):
            yield Path(environ[name])
    yield Path(environ.get("HOME") or "/nonexistent") / ".pyenv"
    for entry in environ.get("PATH", "").split(os.pathsep):
        if Path(entry).name == "shims":
            yield Path(entry).parent
    for parent in Path(sys.base_prefix).parents:
        if parent.name == "versions":
            yield parent.parent


def installed(environ: Mapping[str, str]) -> dict[str, Path]:
    """Minor version -> interpreter, the newest patch of each; pyenv's before the system's, so that a machine with
    pyenv behaves the same whatever is selected."""
    found: dict[str, tuple[tuple[int, ...], Path]] = {}
    seen = set()
    for root in pyenv_roots(environ):
        if root in seen or not (root / "versions").is_dir():
            continue
        seen.add(root)
        for folder in (root / "versions").iterdir():
            match = re.fullmatch(r"(3\.\d+)\.(\d+)", folder.name)
            python = folder / "bin" / "python3"
            if match and os.access(python, os.X_OK):
                patch = (int(match[2]),)
                if match[1] not in found or found[match[1]][0] < patch:
                    found[match[1]] = (patch, python)
    out = {minor: path for minor, (_, path) in found.items()}
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    out.setdefault(here, Path(getattr(sys, "_base_executable", sys.executable)))
    for minor in range(6, 16):
        name = f"python3.{minor}"
        for entry in environ.get("PATH", "").split(os.pathsep):
            if Path(entry).name != "shims" and os.access(Path(entry) / name, os.X_OK):
                out.setdefault(f"3.{minor}", Path(entry) / name)
                break
    return out


def find(version: str, uv: str, environ: Mapping[str, str]) -> Path:
    """An interpreter for `version` ("3.11"). Asks uv last, which may fetch one unless `UV_PYTHON_DOWNLOADS=never`.

    Raises InterpreterMissing with what is there and what to do."""
    have = installed(environ)
    if version in have:
        return have[version]
    done = subprocess.run(  # noqa: S603
        [uv, "python", "find", "--no-project", version], env=dict(environ), capture_output=True, text=True, check=False
    )
    if done.returncode == 0 and done.stdout.strip():
        return Path(done.stdout.strip())
    if environ.get("UV_PYTHON_DOWNLOADS", "automatic") != "never":
        fetched = subprocess.run(  # noqa: S603
            [uv, "python", "install", version], env=dict(environ), capture_output=True, text=True, check=False
        )
        if fetched.returncode == 0:
            done = subprocess.run(  # noqa: S603
                [uv, "python", "find", "--no-project", version],
                env=dict(environ), capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode == 0:
                return Path(done.stdout.strip())
    names = ", ".join(sorted(have, key=lambda minor: int(minor.split(".")[1]))) or "none"
    msg = (
        f"no CPython {version} on this machine (found: {names}) and none could be fetched; install it "
        f"(`uv python install {version}`, `pyenv install {version}`) or give the stack another `python:`"
    )
    raise InterpreterMissing(msg)


_FINDING = threading.Lock()


def uv_binary() -> str:
    """The uv of this program's own environment, else the one on PATH. Raises InfrastructureError."""
    with _FINDING:  # it asks sysconfig, whose first use in two threads at once gives one of them half the answers
        try:
            from uv import find_uv_bin

            return str(find_uv_bin())
        except (ImportError, FileNotFoundError):
            found = shutil.which("uv")
            if found:
                return found
    msg = "uv is not installed; run `make setup`, or `pip install uv`"
    raise InfrastructureError(msg)
