"""Sources in a run: the lock, the store, what is asked again and what is not."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import fake
import pytest
import specs
from modelserver import Files, Hub
from small import Small

from builder import lock, locking, machine
from builder.errors import InfrastructureError
from builder.execute.local import Local
from builder.lock import Lock
from builder.plan import Plan
from builder.store import Store

DATA = os.urandom(50_000)
SHA = hashlib.sha256(DATA).hexdigest()


class Project(Small):
    """The small project, whose alpha takes another source."""

    def source(self, text: str) -> None:
        self.files.recipe("alpha", specs.RECIPE + f"source: {text}\n")

    def go(self, name: str, script: fake.Script = fake.well) -> tuple[Plan, Store, Local]:
        plan, store = self.plan()
        world = fake.World(script)
        for step in plan.steps:
            if step.kind == "environment" and step.stack is not None:
                fields = step.stack.fields
                modules = {m: {"version": fields.get(axis, "1.0")} for m, axis in step.data["family"].modules.items()}
                world.probes[step.name] = {"python": fields["python"] + ".1", "modules": modules}
        local = Local(plan, store, world, fake.Listener(), run=name, jobs=2, cores=2)
        assert local.run()
        return plan, store, local

    def obtained(self, plan: Plan) -> Any:
        return next(step for step in plan.steps if step.kind == "obtain" and step.data["recipe"].name == "alpha")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_second_run_asks_nobody(project: Project) -> None:
    with Files({"/net.onnx.bin": DATA}) as server:
        project.source(f"{{kind: url, name: '{server.base}/net.onnx.bin', sha256: {SHA}}}")
        plan, store, _ = project.go("first")
        assert len(server.asked) == 1
    step = project.obtained(plan)
    assert step.state == "stored"
    assert (store.root / "sources" / step.output / "net.onnx.bin").read_bytes() == DATA
    record = store.step(step.key)
    assert record is not None and record.record["sha256"] == {"net.onnx.bin": SHA}
    assert project.left() == 0, "the server is gone, and nothing is to be done"


def test_what_broke_off_goes_on_in_the_next_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.backoff.wait", lambda stop, seconds: False)
    with Files({"/m.bin": DATA}) as server:
        project.source(f"{{kind: url, name: '{server.base}/m.bin', sha256: {SHA}}}")
        server.break_after = [20_000] * 2 + [0] * 2
        plan, store, local = project.go("first")
        step = project.obtained(plan)
        assert "what came of it is kept" in local.infrastructure[step]
        assert store.step(step.key) is None, "infrastructure is never stored"
        server.asked.clear()
        plan, store, local = project.go("second")
        assert project.obtained(plan).state == "stored"
        assert server.asked[0][2]["range"].startswith("bytes=4")
    assert not list((store.root / "sources").glob(".partial*"))


def test_a_stored_source_that_was_altered_is_not_used(project: Project) -> None:
    project.source(f"{{kind: file, name: data.bin, sha256: {hashlib.sha256(b'weights of alpha').hexdigest()}}}")
    plan, store, _ = project.go("first")
    step = project.obtained(plan)
    (store.root / "sources" / step.output / "data.bin").write_text("altered")
    store.forget(each.key for each in plan.steps if each.kind in ("export", "reference"))
    plan, store, local = project.go("second")
    assert any("missing or corrupt; removed" in why for why in local.infrastructure.values())
    plan, store, local = project.go("third")
    assert not local.infrastructure and project.left() == 0
    assert (store.root / "sources" / step.output / "data.bin").read_text() == "weights of alpha"


@pytest.mark.parametrize(("data", "limit", "kind"), [(b"other", "16g", "HashMismatch"), (DATA, "10k", "TooLarge")])
def test_bad_input_is_stored_and_costs_its_own_cells_alone(
    project: Project, data: bytes, limit: str, kind: str
) -> None:
    with Files({"/m.bin": data}) as server:
        project.source(f"{{kind: url, name: '{server.base}/m.bin', sha256: {SHA}, limit: {limit}}}")
        plan, store, local = project.go("first")
    step = project.obtained(plan)
    assert step.state == "failed" and not local.infrastructure
    record = store.step(step.key)
    assert record is not None and record.record["error"]["type"] == kind
    assert {chain.run.state for chain in plan.chains if chain.cell.model == "beta"} == {"stored"}
    assert project.left() == 0, "asking again would give the same"
    assert not list((store.root / "sources").glob(".partial*")), "nor does anything of it stay"


def test_a_hubs_revision_is_locked_and_obtained_by_its_commit(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub")
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.base)
        commit = hub.push("acme/net", "main", {"model.safetensors": DATA, "config.json": b"{}"})
        project.source("{kind: hub, name: acme/net, revision: main, files: ['*']}")
        said: list[str] = []
        current, troubles = _locked(project, said)
        assert not troubles and current.sources["hub:acme/net@main:*"][0] == f"commit:{commit}"
        assert lock.read(project.folder / "matrix.lock") == current, "written and read back"
        project.lock = current
        plan, store, _ = project.go("first")
        step = project.obtained(plan)
        assert step.state == "stored"
        assert (store.root / "sources" / step.output / "model.safetensors").read_bytes() == DATA
        assert not list((store.root / "sources").glob(".partial*"))

        second = hub.push("acme/net", "main", {"model.safetensors": DATA[::-1], "config.json": b"{}"})
        assert project.left() == 0, "the branch moved, the lock did not"
        again = Lock(cutoff=current.cutoff, stacks=current.stacks)
        assert lock.difference(current, _locked(project, said, again)[0]) == [
            f"~ hub:acme/net@main:* (data): commit:{commit} -> commit:{second}"
        ]


def test_a_revision_that_is_not_there_is_told_when_locking_and_as_an_outcome(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub")
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.base)
        hub.push("acme/net", "main", {"config.json": b"{}"})
        project.source("{kind: hub, name: acme/net, revision: v9, files: ['*']}")
        current, troubles = _locked(project, [])
        assert "it has no revision 'v9'" in troubles[0]
        project.lock = current
        plan, store, _ = project.go("first")
        record = store.step(project.obtained(plan).key)
        assert record is not None and "it has no revision 'v9'" in record.record["error"]["message"]


def _locked(project: Project, said: list[str], current: Lock | None = None) -> tuple[Lock, list[str]]:
    work = project.work
    old = current or lock.read(project.folder / "matrix.lock")
    _, missing = locking.missing(work, old, [], list(work.spec.recipes.values()))
    return locking.update_lock(work, machine.read(), old, [], missing, cutoff=None, say=said.append)


def _with_data(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
    answer = fake.well(stage, job, folder)
    if stage == "export":
        (folder / "model.onnx.data").write_bytes(b"weights")
        answer["data"] = ["model.onnx.data"]
    if stage == "build":
        assert Path(job["model"]).name == "model.onnx"
        assert Path(job["model"]).with_name("model.onnx.data").read_bytes() == b"weights"
    return answer


def test_weights_beside_a_model_go_with_it_to_every_build(project: Project) -> None:
    project.source(f"{{kind: file, name: data.bin, sha256: {hashlib.sha256(b'weights of alpha').hexdigest()}}}")
    plan, store, _ = project.go("first", _with_data)
    assert {chain.run.state for chain in plan.chains} == {"stored"}
    (export,) = [step for step in plan.steps if step.kind == "export" and step.data["recipe"].name == "alpha"]
    record = store.step(export.key)
    assert record is not None
    (data,) = record.record["data"]
    path = store.root / data["path"]
    store.put_run("first", "first", "first", {}, {chain.cell.id: ("verified", "") for chain in plan.chains})
    for step in plan.steps:
        if step.kind == "environment":
            (store.root / "env" / step.data["pins"].key[:16]).mkdir(parents=True, exist_ok=True)
    assert "objects" not in project.collect(keep_runs=1), "what is needed is no garbage"
    assert path.read_bytes() == b"weights"
    # Damaged weights are found before a build reads them.
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    store.forget(chain.build.key for chain in plan.chains)
    plan, store, local = project.go("second", _with_data)
    assert any("missing or corrupt" in why for why in local.infrastructure.values())
    plan, store, local = project.go("third", _with_data)
    assert not local.infrastructure
    assert {chain.run.state for chain in plan.chains} == {"stored"}


def test_without_the_library_a_hubs_cells_are_blocked_and_the_others_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is optional: what lacks it is this machine, not the recipe."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    project.source("{kind: hub, name: acme/net, revision: main, files: ['*']}")
    with pytest.raises(InfrastructureError, match="needs huggingface_hub"):
        _locked(project, [])
    name = "hub:acme/net@main:*"
    project.lock.sources[name] = (f"commit:{'0' * 40}", f"sha256:{SHA}:{len(DATA)}:model.safetensors")
    plan, store, local = project.go("first")
    step = project.obtained(plan)
    assert "needs huggingface_hub" in local.infrastructure[step] and "bug" not in local.infrastructure[step]
    assert store.step(step.key) is None
    assert {chain.run.state for chain in plan.chains if chain.cell.model == "beta"} == {"stored"}


def test_a_variable_that_says_nothing_is_this_machines(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINEMATRIX_SOURCE_MIRRORS", "nonsense")
    project.source(f"{{kind: url, name: 'https://models.example.invalid/m.bin', sha256: {SHA}}}")
    plan, _, local = project.go("first")
    assert "ENGINEMATRIX_SOURCE_MIRRORS" in local.infrastructure[project.obtained(plan)]
