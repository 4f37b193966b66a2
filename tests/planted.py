"""A project whose workers do as is planted: which environment makes a cell fail, by what is installed in it. Real stores, locks
and plans, and the real command line; only environments and the package index are made up."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fake
import pytest
import specs

from builder import cli, lock, locking, pipeline, results
from builder.environment import uv
from builder.errors import InfrastructureError
from builder.execute import locks
from builder.lock import Lock, Pins
from builder.plan import Step
from builder.project import Project
from builder.values import Stack

CUTOFF = "2026-11-20T00:00:00Z"
Answer = Callable[[str, Mapping[str, str], dict[str, Any], Path], dict[str, Any] | None]
"""(stage, package -> version, job, folder) -> what the worker says, None where all is well."""


def hashes(pin: str) -> tuple[str, ...]:
    return ("sha256:" + hashlib.sha256(pin.encode()).hexdigest(),)


def pins(stack: Stack, packages: Mapping[str, str]) -> Pins:
    named = tuple(sorted(f"{name}=={version}" for name, version in packages.items()))
    return Pins(
        python=stack.python, requirements=lock.lines(stack), packages=named, hashes={pin: hashes(pin) for pin in named}
    )


def fails(message: str = "no kernel for GridSample", stage: str = "run") -> dict[str, Any]:
    return {"error": {"type": "ValueError", "message": message, "stage": stage}}


class Planted:
    """`answer` decides what workers say; `made` are the environments that something was run in, by stack and packages."""

    def __init__(self, folder: Path, matrix: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """In a new folder, or in a copy of another one's."""
        monkeypatch.setenv("DOCKER_HOST", "unix:///nothing")
        self.files = specs.Project(folder)
        self.files.write("matrix.yaml", matrix)
        self.folder = folder
        self.project = Project(matrix=folder / "matrix.yaml")
        self.answer: Answer = lambda stage, packages, job, place: None
        self.jobs: list[tuple[str, str]] = []
        """(stage, stack) of every job."""
        self.down = False
        """Whether environments cannot be made: infrastructure."""
        monkeypatch.setattr(pipeline, "realise", lambda step, work, store: self._environment(step))
        monkeypatch.setattr(uv, "misfit", lambda packages, python, cutoff: "")
        monkeypatch.setattr(uv, "version", lambda: "0")
        monkeypatch.setattr(results, "write_report", lambda *_, **__: False)  # nobody reads it, and it takes longest
        monkeypatch.setattr(locks, "lock_folder", lambda: folder)  # fakes disturb no timing, and wait for none
        self.packages: dict[str, dict[str, str]] = {}
        self.work = pipeline.select(self.project, group="all", expression=None)
        for stack in locking.stacks_of(self.work, self.work.cells):
            self.packages[stack.id] = dict([stack.requirements[0].line.split("==")])
        self.save()

    def save(self) -> None:
        """Write the lock that `packages` says."""
        stacks = locking.stacks_of(self.work, self.work.cells)
        locked = Lock(cutoff=CUTOFF, stacks={stack.id: pins(stack, self.packages[stack.id]) for stack in stacks})
        self.project.lock.write_text(locked.dumps())

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """What `enginematrix ARGUMENTS` prints on standard output."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            got = cli.main(["-f", str(self.project.matrix), *arguments])
        self.said = err.getvalue()
        assert got == code, (out.getvalue(), self.said)
        assert "Traceback" not in self.said
        return out.getvalue()

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self(*arguments, "--json", code=code))
        return found

    def run(self, code: int = 0) -> None:
        self("run", "--frozen", "--quiet", "--group", "all", "--isolation", "venv", code=code)

    def _environment(self, step: Step) -> fake.FakeEnvironment:
        packages = dict(pin.split("==") for pin in step.data["pins"].packages)

        def script(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
            self.jobs.append((stage, step.name))
            return self.answer(stage, packages, job, folder) or fake.well(stage, job, folder)

        world = fake.World(script)
        if self.down:
            world.broken[step.name] = InfrastructureError("the package index is away")
        modules = {name: {"version": packages.get(axis, "1.0")} for name, axis in step.data["family"].modules.items()}
        world.probes[step.name] = {"python": f"{step.data['pins'].python}.1", "modules": modules}
        return fake.FakeEnvironment(world, step)
