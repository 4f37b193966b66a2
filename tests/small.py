"""A small project with fake workers and real sources, for the tests of what works on stored results."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import fake
import specs

from builder import collector, lock, locking, machine, pipeline
from builder.execute.local import Local
from builder.lock import Lock, Pins
from builder.plan import Plan, reconcile
from builder.project import Project
from builder.store import Store

MATRIX = """
schema: 1
name: small
exporters:
  onnx: {family: source, onnx: 1.20.1}
engines:
  ort: {family: engine, onnxruntime: [1.16.3, 1.20.1]}
axes:
  model: [alpha, beta]
"""


class Small:
    """A project whose models take a file each, on a machine of its own."""

    def __init__(self, folder: Path) -> None:
        self.files = specs.Project(folder)
        self.folder = folder
        for model in ("alpha", "beta"):
            self.data(model, f"weights of {model}")
        self.files.write("matrix.yaml", MATRIX)
        self.artifacts = folder / "artifacts"
        pins = {}
        for stack in locking.stacks_of(self.work, self.work.cells):
            name = stack.requirements[0].line
            pins[stack.id] = Pins(
                python=stack.fields["python"], requirements=lock.lines(stack), packages=(name,),
                hashes={name: (f"sha256:{stack.id}",)},
            )  # fmt: skip
        self.lock = Lock(cutoff="2026-11-20T00:00:00Z", stacks=pins)
        (folder / "matrix.lock").write_text(self.lock.dumps())

    def data(self, model: str, text: str) -> None:
        """Give a model another source."""
        source = f"source: {{kind: file, name: data.bin, sha256: {hashlib.sha256(text.encode()).hexdigest()}}}\n"
        self.files.recipe(model, specs.RECIPE + source)
        self.files.write(f"recipes/{model}/data.bin", text)

    @property
    def work(self) -> pipeline.Work:
        return pipeline.select(Project(matrix=self.folder / "matrix.yaml"), group="all", expression=None)

    def plan(self) -> tuple[Plan, Store]:
        store = Store(self.artifacts)
        plan = pipeline.make_plan(self.work, self.lock, machine.read())
        reconcile(plan, store.light(), store.root / "objects")
        return plan, store

    def run(self, name: str) -> Store:
        """A run with fake workers and real sources; environments have their folders."""
        plan, store = self.plan()
        self.world = fake.World()
        for step in plan.steps:
            if step.kind == "environment" and step.stack is not None:
                fields = step.stack.fields
                modules = {
                    name: {"version": fields.get(axis, "1.0")} for name, axis in step.data["family"].modules.items()
                }
                self.world.probes[step.name] = {"python": fields["python"] + ".1", "modules": modules}
        cells = {chain.cell.id: ("verified", "") for chain in plan.chains}
        assert Local(plan, store, self.world, fake.Listener(), run=name, jobs=2, cores=2).run()
        shutil.rmtree(store.root / "work" / name)
        store.put_run(name, name, name, {}, cells)
        for step in plan.steps:
            if step.kind == "environment":
                (store.root / "env" / step.data["pins"].key[:16]).mkdir(parents=True, exist_ok=True)
        return store

    def collect(self, *, keep_runs: int = 0, dry_run: bool = False) -> dict[str, int]:
        found = collector.collect_garbage(self.work, keep_runs=keep_runs, dry_run=dry_run)
        return {kind: number for kind, (number, _) in found.items() if number}

    def sources(self) -> set[str]:
        return {(path / "data.bin").read_text() for path in (self.artifacts / "sources").iterdir()}

    def left(self) -> int:
        return len(self.plan()[0].todo())
