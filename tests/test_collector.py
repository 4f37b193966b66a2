"""`gc` removes what nothing needs, keeps what stored results refer to, and refuses where it cannot know."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import fake
import pytest
import specs

from builder import cli, collector, lock, machine, pipeline
from builder.errors import EXIT_USAGE
from builder.execute.local import Local
from builder.lock import Lock, LockError, Pins
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
        for stack in pipeline.stacks_of(self.work, self.work.cells):
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


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small(tmp_path)


def test_nothing_that_the_matrix_needs_goes(small: Small) -> None:
    small.run("1")
    assert small.left() == 0
    assert small.collect() == {}
    assert small.left() == 0


def test_what_left_the_matrix_goes(small: Small) -> None:
    small.run("1")
    small.files.write("matrix.yaml", MATRIX.replace("[alpha, beta]", "[alpha]").replace("[1.16.3, 1.20.1]", "1.20.1"))
    dry = small.collect(dry_run=True)
    assert small.sources() == {"weights of alpha", "weights of beta"}
    assert small.collect() == dry
    assert small.sources() == {"weights of alpha"}
    assert dry["sources"] == dry["env"] == 1
    assert small.left() == 0
    small.files.write("matrix.yaml", MATRIX)
    small.run("2")
    assert small.left() == 0, "all that went can be made again"
    assert small.sources() == {"weights of alpha", "weights of beta"}


def test_the_sources_of_the_runs_that_are_kept_stay(small: Small) -> None:
    """A record that says that a source is there, and none there, would fail every export from it."""
    small.run("1")
    small.data("beta", "other weights")
    small.run("2")
    assert small.collect(keep_runs=2) == {}
    assert small.sources() == {"weights of alpha", "weights of beta", "other weights"}
    small.data("beta", "weights of beta")
    assert small.left() == 0
    small.collect(keep_runs=0)
    assert small.sources() == {"weights of alpha", "weights of beta"}
    small.data("beta", "other weights")
    small.run("3")
    assert small.sources() == {"weights of alpha", "weights of beta", "other weights"}, "fetched again"


def test_the_record_of_a_source_that_is_gone_goes(small: Small) -> None:
    store = small.run("1")
    for path in (small.artifacts / "sources").iterdir():
        shutil.rmtree(path)
    assert small.collect()["records"] == 2
    assert "obtain" not in {record.kind for record in store.steps(store.light()).values()}
    small.run("2")
    assert small.sources() == {"weights of alpha", "weights of beta"}, "fetched again"
    assert small.world.jobs == [], "and with the same bytes, all else still holds"


def test_without_a_lock_nothing_is_removed(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    small.run("1")
    (small.folder / "matrix.lock").unlink()
    with pytest.raises(LockError, match="restore it, or run `enginematrix lock`"):
        small.collect()
    assert cli.main(["-f", str(small.folder / "matrix.yaml"), "gc"]) == EXIT_USAGE
    assert "matrix.lock: no such file" in capsys.readouterr().err
    assert len(list((small.artifacts / "env").iterdir())) == 3
    assert small.left() == 0


def test_with_half_a_lock_nothing_is_removed(small: Small) -> None:
    small.run("1")
    half = json.loads(small.lock.dumps())
    del half["stacks"]["engine-onnxruntime1.16.3-py3.11"]
    (small.folder / "matrix.lock").write_text(json.dumps(half))
    with pytest.raises(LockError, match=r"no entry for engine-onnxruntime1\.16\.3-py3\.11"):
        small.collect()
    assert small.left() == 0


def test_beside_a_run_it_does_nothing(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    store = small.run("1")
    with pipeline._in_use(store):
        assert cli.main(["-f", str(small.folder / "matrix.yaml"), "gc"]) == 3
    assert "a run is using these artifacts" in capsys.readouterr().err
