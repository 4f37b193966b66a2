"""A project of the repository's own families with an invented lock, a Docker engine that is made up, and fake workers: the
whole program with images, without any."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fake
import pytest
import stacks

from builder import cli, errors, locking, pipeline
from builder.environment import images as images_module
from builder.environment import room
from builder.environment.images import DockerImage
from builder.environment.rebuild import Comparison
from builder.errors import EngineMatrixError
from builder.lock import Image, Lock
from builder.plan import Step
from builder.project import Project

ROOT = Path(__file__).parent.parent
MATRIX = """\
schema: 1
name: images
exporters:
  onnx: {family: onnx, onnx: 1.23.2}
engines:
  ort: {family: onnxruntime, onnxruntime: [1.26.0, 1.31.1]}
  ngc: {family: ngc-tensorrt, release: "24.01"}
axes:
  model: [squeezenet]
  opset: [17]
  precision: [fp32]
  shapes: [static]
"""
ONNX, OLD, NEW, NGC = (
    "onnx-1.23.2-py3.12",
    "onnxruntime-1.26.0-py3.12",
    "onnxruntime-1.31.1-py3.12",
    "ngc-tensorrt-24.01",
)


class Engine:
    """What the Docker engine would do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broken: dict[str, EngineMatrixError] = {}
        self.calls: list[tuple[str, list[str]]] = []
        self.free: int | None = None
        self.different: set[str] = set()
        for name in ("build", "push", "verify", "rebuild_twice", "shell"):
            monkeypatch.setattr(images_module, name, getattr(self, name))
        monkeypatch.setattr(room, "room", lambda: (frozenset(), self.free))

    def build(self, images: Sequence[DockerImage], *, jobs: int, timeout: float = 0) -> dict[str, Exception | None]:
        self.calls.append(("build", [image.name for image in images]))
        ends: dict[str, Exception | None] = {}
        for image in images:
            ends[image.key] = self.broken.get(image.name)
            if ends[image.key] is None:
                image.write()
                image.remember({"key": image.key, "id": f"sha256:{image.name}", "tag": image.rendered.tag})
        return ends

    def _one(self, call: str, image: DockerImage) -> None:
        self.calls.append((call, [image.name]))
        if error := self.broken.get(image.name):
            raise error

    def push(self, images: Sequence[DockerImage], prefix: str) -> dict[str, str]:
        images_module.reference.parse(f"{prefix}/x:1")
        (image,) = images
        self._one("push", image)
        return {f"{prefix}/{image.name}:1": "sha256:" + "0" * 64}

    def verify(self, image: DockerImage) -> list[str]:
        self._one("verify", image)
        return ["label org.enginematrix.cuda is '1', not '2'"] if image.name in self.different else []

    def rebuild_twice(self, image: DockerImage) -> Comparison:
        self._one("rebuild", image)
        same = image.name not in self.different
        return Comparison(identical=same, layers=(), files=(), configuration=() if same else ("Created",))

    def shell(self, image: DockerImage, artifacts: Path) -> int:
        self._one("shell", image)
        return 7


class Team:
    """A project of the repository's own families, locked but for its NGC stack."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        (folder / "matrix.yaml").write_text(MATRIX)
        for name in ("images", "recipes"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        work = pipeline.select(Project(matrix=folder / "matrix.yaml"), group="all", expression=None)
        self.cells = {cell.engine.id: cell.id for cell in work.cells}
        self.lock = Lock(cutoff=stacks.CUTOFF)
        for stack in locking.stacks_of(work, work.cells):
            if stack.family != "ngc-tensorrt":
                self.lock.stacks[stack.id] = stacks.pins(stack)
                one = stacks.image(stack)
                platforms = {"linux/amd64": one, "linux/arm64": one}
                self.lock.images[stack.base] = Image(index=stacks.sha(stack.base), platforms=platforms)
        self.save()

    def save(self) -> None:
        (self.folder / "matrix.lock").write_text(self.lock.dumps())

    def __call__(self, line: str, code: int = 0) -> tuple[str, str]:
        """What `enginematrix LINE` prints: (standard output, standard error)."""
        self.capsys.readouterr()
        assert cli.main(["-f", str(self.folder / "matrix.yaml"), *line.split()]) == code
        told = self.capsys.readouterr()
        assert "Traceback" not in told.err
        return told.out, told.err

    def usage(self, line: str) -> str:
        """What it says of arguments that cannot be read."""
        with pytest.raises(SystemExit) as ended:
            cli.main(["-f", str(self.folder / "matrix.yaml"), *line.split()])
        assert ended.value.code == errors.EXIT_USAGE
        return self.capsys.readouterr().err


class Workers(fake.World):
    """Workers of environments of either kind, whose libraries are what they should be."""

    def __call__(self, step: Step) -> fake.FakeEnvironment:
        assert step.stack is not None
        family = step.data["family"]
        modules = {name: {"version": step.stack.value(field) or "1.0"} for name, field in family.modules.items()}
        self.probes[step.name] = {"modules": modules}

        class Made(fake.FakeEnvironment):
            def make(self) -> dict[str, Any]:
                return {**super().make(), "tag": "t", "base": "b@d", "platform": "linux/amd64", "key": "k"}

        return Made(self, step)


def work_with(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "realise", lambda step, work, store: workers(step))
