"""The contract of an engine adapter, for the tests of whoever writes one.

    from builder.contract import Subject, check

    def test_contract(tmp_path):
        check(Subject(name="tinyengine", file=adapter.__file__, python=sys.executable), tmp_path)

Runs the adapter as a cell does: its file in a worker of the product, in the environment of `python`, where its library is. What
it builds from is y = Relu(x W) + b as an ONNX file, unless the subject brings a model of its own. Raises Broken, with every
clause that does not hold.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder import contract_model
from builder.environment import WORKER
from builder.environment.session import JobEnd, WorkerDied, WorkerSession

NEEDED = ("build", "load")
ENTRY = {"degraded": ("asked", "got", "how"), "unsupported": ("node", "operator", "reason")}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An adapter, where its library is, and what it is tried on."""

    name: str
    file: str | Path
    python: str | Path = sys.executable
    """The interpreter of an environment with its library and NumPy."""
    imports: tuple[str, ...] = ()
    """Modules that the worker imports before any job, as `modules:` of its family has them."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    precision: str = "fp32"
    tolerance: Mapping[str, float] = field(default_factory=lambda: {"atol": 1e-4, "rtol": 1e-3})
    model: Path | None = None
    """A model of its own, for an engine that does not take ONNX; then also `broken`, the cases `right` and `wrong`, `inputs` and
    `outputs`."""
    broken: Path | None = None
    right: Path | None = None
    wrong: Path | None = None
    inputs: tuple[Mapping[str, Any], ...] = ()
    outputs: tuple[Mapping[str, Any], ...] = ()
    seconds: float = 120.0


class Broken(AssertionError):
    """Clauses of the contract that do not hold, one a line."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("the adapter breaks its contract:\n" + "\n".join(f"  - {problem}" for problem in problems))


def check(subject: Subject, folder: Path) -> None:
    """Hold an adapter to its contract, working in `folder`. Raises Broken."""
    problems = list(source_problems(Path(subject.file)))
    if not problems:
        problems = list(_Trial(subject, folder).problems())
    if problems:
        raise Broken(problems)


def source_problems(file: Path) -> Iterator[str]:
    """What its text alone shows: the functions, Python 3.6, and no import of a library at the top."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 6))
    except (SyntaxError, OSError, ValueError) as error:
        yield f"it is no Python 3.6: {error}"
        return
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for name, arguments in (("build", 1), ("load", 2)):
        if name not in functions:
            yield f"it has no function {name}"
        elif len(functions[name].args.args) != arguments:
            yield f"{name} takes {len(functions[name].args.args)} arguments, not {arguments}"
    for node in tree.body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""] if not node.level else ["."]
        for name in names:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top != "worker":
                yield f"line {node.lineno} imports {name} when the adapter is imported; libraries are imported inside functions"


class _Trial:
    def __init__(self, subject: Subject, folder: Path) -> None:
        self.subject, self.folder = subject, folder
        self.model, self.broken, self.right, self.wrong = subject.model, subject.broken, subject.right, subject.wrong
        if subject.model is None:
            made = contract_model.write(folder)
            self.model, self.broken = made["model.onnx"], made["broken.onnx"]
            self.right, self.wrong = made["right.npz"], made["wrong.npz"]
        self.count = 0

    def problems(self) -> Iterator[str]:
        session = WorkerSession(
            python=Path(self.subject.python), worker_dir=WORKER.parent, imports=self.subject.imports,
            log=self.folder / "session.log", env=dict(os.environ),
            arguments=("--adapter", f"{self.subject.name}={Path(self.subject.file).resolve()}"),
        )  # fmt: skip
        try:
            with session:
                self.session = session
                yield from self._all()
        except WorkerDied as error:
            yield f"the worker died: {error}\n{error.log}"

    def _all(self) -> Iterator[str]:
        yield from (f"import {n}: {m['error']}" for n, m in self.session.probe["modules"].items() if "error" in m)
        end, place = self._job("build", self.model)
        if not end.ok:
            yield f"build of a good model ended as {_said(end)}"
            return
        if end.stages != ("parse", "build"):
            yield f"build entered the stages {', '.join(end.stages) or 'none'}, not parse and build"
        result = self._result(end)
        name = result.get("engine")
        engine = place / str(name)
        if not isinstance(name, str) or not engine.is_file() or engine.stat().st_size == 0 or engine.is_symlink():
            yield f"build names {name!r} as its engine, which is no file with content in the job's folder"
            return
        yield from _shape("build", result, ("found", "unsupported", "degraded"))
        end, _ = self._job("run", self.model, engine=engine, cases=[self.right])
        if not end.ok:
            yield f"run of a good engine ended as {_said(end)}"
            return
        result = self._result(end)
        yield from _shape("run", result, ("found", "degraded"))
        if result["comparison"]["verdict"] != "match":
            yield f"run does not match the reference: {result['comparison']['reason']}"
        if not result.get("found"):
            yield "proof tells nothing of what was used: `found` is empty"
        end, _ = self._job("run", self.model, engine=engine, cases=[self.right, self.wrong])
        if not end.ok or self._result(end)["comparison"]["verdict"] != "mismatch":
            yield f"a wrong reference is not a mismatch: {_said(end)}"
        method = {"warmup_seconds": 0.05, "window_seconds": 0.05, "agree": 100.0, "windows": 3}
        end, place = self._job("measure", self.model, engine=engine, cases=[self.right], method=method)
        if not end.ok or not (self._result(end)["median"] or 0) > 0:
            yield f"measure gives no time: {_said(end)}"
        end, _ = self._job("build", self.broken)
        if end.end != {"exit": 0} or end.output is None or end.output.get("ok"):
            yield f"a broken model is not refused with an error: {_said(end)}"
        elif not str(end.output["error"].get("message", "")).strip():
            yield "a broken model is refused without a word"
        broken = self.folder / "broken-engine"
        broken.write_bytes(b"this is no engine")
        end, _ = self._job("run", self.model, engine=broken, cases=[self.right])
        if end.end != {"exit": 0} or end.output is None or end.output.get("ok"):
            yield f"an engine file that is none is not refused with an error: {_said(end)}"

    def _job(
        self,
        stage: str,
        model: Path | None,
        *,
        engine: Path | None = None,
        cases: list[Path | None] | None = None,
        **more: Any,
    ) -> tuple[JobEnd, Path]:
        subject = self.subject
        self.count += 1
        folder = self.folder / f"{self.count}-{stage}"
        job: dict[str, Any] = {
            "adapter": subject.name, "model": str(model), "precision": subject.precision, "realised": "graph",
            "inputs": list(subject.inputs or contract_model.INPUTS), "outputs": list(subject.outputs or contract_model.OUTPUTS),
            "profile": None, "options": dict(subject.options), "settings": dict(subject.settings), "threads": 1, **more,
        }  # fmt: skip
        if engine is not None:
            job["engine"], job["tolerance"], job["metric"] = str(engine), dict(subject.tolerance), None
            job["cases"] = [{"file": str(case), "label": f"case-{n}"} for n, case in enumerate(cases or [])]
        return self.session.run(stage, job, folder, seconds=subject.seconds, memory=None), folder

    @staticmethod
    def _result(end: JobEnd) -> dict[str, Any]:
        return dict((end.output or {}).get("result") or {})


def _shape(stage: str, result: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        value = result.get(name)
        if name == "found":
            if not isinstance(value, dict):
                yield f"{stage} gives no `found` (a mapping)"
        elif not isinstance(value, list) or any(
            not isinstance(v, dict) or not {*ENTRY[name]} <= v.keys() for v in value
        ):
            yield f"{stage}: `{name}` is no list of entries with {', '.join(ENTRY[name])}: {value!r}"


def _said(end: JobEnd) -> str:
    error = (end.output or {}).get("error") or {}
    return f"{error.get('type')}: {error.get('message')}" if error else str(end.end if not end.ok else "a success")
