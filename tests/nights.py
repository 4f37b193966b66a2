"""Whole nights with fake workers, an invented package index and a clock of their own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake
import pytest
import specs

from builder import cli, lock, locking, nightly, nightly_lock, pipeline, trace, trace_lab
from builder import project as project_module
from builder.environment import uv
from builder.execute import environments, local, locks
from builder.lock import Lock, Pins
from builder.plan import Step
from builder.project import Project
from builder.report import choose, page
from builder.store import Store
from builder.values import Stack

MATRIX = """\
schema: 1
name: nights
exporters:
  onnx: {family: source, onnx: 1.20.1}
engines:
  ort: {family: engine, onnxruntime: [1.18.0, 1.20.1, 1.22.0]}
axes:
  model: [alpha, beta]
  opset: [13, 17]
groups:
  nightly: {select: all, order: [failed, changed, oldest, uncovered], budget: 90m}
"""
START = 1_795_000_000.0
"""Seconds since the epoch of the first night."""
Answer = Callable[[str, str, dict[str, str], dict[str, Any]], "dict[str, Any] | None"]


class Clock:
    """Time passes where a job says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.wall = START

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


class _Session(fake.FakeSession):
    def run(self, *arguments: Any, **values: Any) -> Any:
        self.world.at.step = self.step  # type: ignore[attr-defined]
        return super().run(*arguments, **values)


class _Environment(fake.FakeEnvironment):
    def start(self, *arguments: Any, **values: Any) -> Any:
        session = super().start(*arguments, **values)
        session.__class__ = _Session
        session.step = self.step
        return session


class World(fake.World):
    """Workers that answer by `answer(stage, stack, packages, job)`, or well where that gives None."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(self.script_)
        self.clock = clock
        self.at = threading.local()
        self.answer: Answer = lambda stage, stack, packages, job: None
        self.seconds = 1.0
        """What each job takes."""

    def script_(self, stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        self.clock.pass_(self.seconds)
        step: Step = self.at.step
        environment = step if step.kind == "environment" else step.environment or step
        packages = dict(pin.split("==") for pin in environment.data["pins"].packages)
        answer = self.answer(stage, environment.name, packages, job)
        if answer is None:
            answer = fake.well(stage, job, folder)
            if stage == "export":  # each model is another file
                path = folder / "model.onnx"
                path.write_text(path.read_text() + Path(job["recipe_dir"]).name)
            if stage == "run":  # without a compared output nothing is verified, says the schema of reports
                output = {"case": "opt", "name": "y", "verdict": "match"}
                answer = {**answer, "comparison": {**fake.MATCH, "outputs": [output]}}
        return answer

    def __call__(self, step: Step) -> fake.FakeEnvironment:
        assert step.stack is not None
        modules = {name: {"version": step.stack.value(of) or "1.0"} for name, of in step.data["family"].modules.items()}
        self.probes[step.name] = {"modules": modules}
        return _Environment(self, step)

    def ran(self) -> list[str]:
        """Engine stack of every `run` job."""
        return [name for stage, name, _ in self.jobs if stage == "run"]


class Nights:
    """A project, and what `enginematrix nightly` says of it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.clock = Clock()
        self.files = specs.Project(folder)
        self.files.write("matrix.yaml", MATRIX)
        self.world = World(self.clock)
        self.index: dict[str, dict[str, str] | Exception] = {}
        """Stack id -> what its packages resolve to today beside its own lines, or what happens."""
        self.asked: list[str] = []
        self.answers_in = 0.0
        """Seconds that the index takes for a stack."""
        times = SimpleNamespace(
            monotonic=lambda: self.clock.now, time=lambda: self.clock.wall, sleep=time.sleep, strftime=time.strftime
        )
        for module in (nightly, nightly_lock, pipeline, environments, local, trace, trace_lab, project_module):
            monkeypatch.setattr(module, "time", times)
        monkeypatch.setattr(pipeline, "realise", lambda step, work, store: self.world(step))
        monkeypatch.setattr(page, "assets", list)  # megabytes a night, of which no test here reads any
        monkeypatch.setattr(choose, "write", lambda *_, **__: False)
        (folder / "locks").mkdir()
        monkeypatch.setattr(locks, "lock_folder", lambda: folder / "locks")  # nobody's timings are waited for
        monkeypatch.setattr(uv, "resolve", self._resolve)
        monkeypatch.setattr(uv, "misfit", lambda packages, python, cutoff: "")
        monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
        self.write_lock()

    @property
    def work(self) -> pipeline.Work:
        return pipeline.select(Project(matrix=self.folder / "matrix.yaml"), group="all", expression=None)

    @property
    def store(self) -> Store:
        return Store(self.folder / "artifacts")

    def stacks(self) -> dict[str, Stack]:
        return {stack.id: stack for stack in locking.stacks_of(self.work, self.work.cells)}

    def pins(self, stack: Stack, **more: str) -> Pins:
        own = {line.partition("==")[0]: line.partition("==")[2] for line in lock.lines(stack) if "==" in line}
        packages = sorted(f"{name}=={version}" for name, version in {"numpy": "1.26.4", **own, **more}.items())
        return Pins(
            python=stack.fields["python"], requirements=lock.lines(stack), packages=tuple(packages),
            hashes={pin: (f"sha256:{pin}",) for pin in packages},
        )  # fmt: skip

    def write_lock(self, **numpy: str) -> Lock:
        """Every stack locked; `numpy`: a part of a stack's name -> its NumPy."""
        made = Lock(cutoff="2026-11-01T00:00:00Z", tools={"uv": "0"})
        for name, stack in self.stacks().items():
            version = next((value for part, value in numpy.items() if part.replace("_", ".") in name), "1.26.4")
            made.stacks[name] = self.pins(stack, numpy=version)
        (self.folder / "matrix.lock").write_text(made.dumps())
        return made

    def _resolve(self, stack: Stack, cutoff: str) -> Pins:
        self.asked.append(stack.id)
        self.clock.pass_(self.answers_in)
        today = self.index.get(stack.id, {})
        if isinstance(today, Exception):
            raise today
        return replace(self.pins(stack, **today), cutoff="")

    def __call__(self, line: str = "--lock frozen", code: int = 0) -> dict[str, Any]:
        """One night a day; the report."""
        out, _ = self.say(line, code)
        report: dict[str, Any] = json.loads((self.folder / "artifacts" / "report" / "report.json").read_text())
        report["said"] = out
        return report

    def say(self, line: str, code: int | None = 0) -> tuple[str, str]:
        """(Standard output, standard error) of `enginematrix nightly LINE`."""
        self.capsys.readouterr()
        got = cli.main(["-f", str(self.folder / "matrix.yaml"), "nightly", "--quiet", "--jobs", "1", *line.split()])
        told = self.capsys.readouterr()
        assert "Traceback" not in told.err, told.err
        assert code is None or got == code, told
        self.clock.pass_(86400)
        return told.out, told.err

    @property
    def page(self) -> str:
        return (self.folder / "artifacts" / "report" / "nightly.md").read_text()


def fails(line: str = "GridSample is not supported") -> dict[str, Any]:
    return {"error": {"stage": "build", "type": "RuntimeError", "message": line}}
