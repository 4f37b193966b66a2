"""Where things are: everything beside the matrix file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
