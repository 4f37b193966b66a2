"""Where things are: everything beside the matrix file; and how a file of ours is written."""

from __future__ import annotations

import datetime
import os
import time
from dataclasses import dataclass
from pathlib import Path

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
