"""Where things are: everything beside the matrix file; and how a file of ours is written."""

from __future__ import annotations

import datetime
import os
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import InfrastructureError


@dataclass(frozen=True, kw_only=True)
class Project:
    matrix: Path

    @property
    def root(self) -> Path:
        return self.matrix.parent

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def recipes(self) -> Path:
        return self.root / "recipes"

    @property
    def lock(self) -> Path:
        return self.matrix.with_suffix(".lock")

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def report(self) -> Path:
        return self.artifacts / "report"

    @property
    def program(self) -> str:
        """How a command that is printed to be pasted begins: it must speak of this matrix, not of the matrix.yaml beside it."""
        name = self.matrix.name
        return "enginematrix" if name == "matrix.yaml" else f"enginematrix -f {shlex.quote(name)}"


def program(cell: Mapping[str, Any]) -> str:
    """The same, by a cell of a report: as its own command begins."""
    return str(cell.get("command") or "").partition(" repro ")[0] or "enginematrix"


def utc(seconds: float | None = None) -> str:
    moment = datetime.datetime.fromtimestamp(time.time() if seconds is None else seconds, datetime.timezone.utc)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        msg = f"{path}: cannot be written: {error}"
        raise InfrastructureError(msg) from error
