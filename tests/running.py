"""The whole program, run as a user runs it, in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def project(folder: Path, matrix: str) -> Path:
    """A folder with this matrix and the repository's own families, recipes and lock."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "matrix.yaml").write_text(matrix)
    shutil.copy(ROOT / "matrix.lock", folder / "matrix.lock")
    for name in ("images", "recipes"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def enginematrix(folder: Path, *arguments: str, code: int | None = 0, env: dict[str, str] | None = None) -> str:
    """Run the program; its output, both streams."""
    done = subprocess.run(
        [sys.executable, "-m", "builder", *arguments], cwd=folder, text=True, errors="replace", check=False, timeout=900,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **(env or {})}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if code is not None:
        assert done.returncode == code, done.stdout[-5000:]
    return done.stdout


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "artifacts" / "report" / "report.json").read_text())


def outcomes(folder: Path) -> dict[str, tuple[str, str, str | None]]:
    return {cell["slug"]: (cell["status"], cell["stage"], cell["category"]) for cell in report(folder)["cells"]}
