"""A new failure is traced to exactly what was planted in the lock, by real crossings of real locks, and nobody else sees them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import specs
from planted import Planted, fails, hashes

from builder import lock, trace, trace_locks
from builder.environment import uv
from builder.store import Store

MATRIX = """
schema: 1
name: nights
exporters:
  onnx: {family: source, onnx: 1.20.1}
engines:
  ort: {family: engine, onnxruntime: 1.20.1}
axes:
  model: [alpha, beta]
"""
STACK = "engine-onnxruntime1.20.1-py3.12"
OLD = {"onnxruntime": "1.20.1", **{f"p{at}": "1" for at in range(8)}}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A night with OLD."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as monkeypatch:
        planted = Planted(folder, MATRIX, monkeypatch)
        planted.packages[STACK] = dict(OLD)
        planted.save()
        planted.run()
    return folder


@pytest.fixture
def nights(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planted:
    """After that night version 2 of p0 to p7 came out."""
    folder = tmp_path / "nights"
    shutil.copytree(first, folder)
    planted = Planted(folder, MATRIX, monkeypatch)
    planted.packages[STACK] = {**OLD, **{f"p{at}": "2" for at in range(8)}}
    planted.save()
    return planted


def culprits(nights: Planted, *names: str, message: str = "no kernel for GridSample") -> None:
    """Runs fail where all of these are new."""

    def answer(stage: str, packages: Mapping[str, str], job: dict[str, Any], folder: Path) -> dict[str, Any] | None:
        bad = stage == "run" and "onnxruntime" in packages and all(packages[name] == "2" for name in names)
        return fails(message) if bad else None

    nights.answer = answer


def traced(nights: Planted, code: int = 0, *arguments: str) -> dict[str, Any]:
    (one,) = nights.json("trace", *arguments, code=code)["traced"]
    return one


def test_the_planted_component_is_named_and_history_does_not_see_how(nights: Planted) -> None:
    culprits(nights, "p5")
    nights.run(code=1)
    store = Store(nights.project.artifacts)
    tables = ("runs", "results", "outcomes", "steps")
    before = [store.read(f"select * from {table} order by 1, 2") for table in tables]
    nights.jobs.clear()
    one = traced(nights)
    assert (one["verdict"], one["component"], one["stack"]) == ("named", "p5 1 -> 2", STACK)
    assert len(one["cells"]) == 2 and one["tried"] in one["cells"], "cells that fail alike are traced once"
    engines = [stack for stage, stack in nights.jobs if stage == "run"]
    assert len(engines) <= 2 + 2 * 3, "both ends, and at most twice the logarithm of 8"
    assert {stage for stage, _ in nights.jobs} == {"build", "run"}, "what came before the failure is taken over"
    assert before == [store.read(f"select * from {table} order by 1, 2") for table in tables]
    nights.jobs.clear()
    again = traced(nights)
    assert nights.jobs == []
    assert {**again, "evidence": 0} == {**one, "evidence": 0}
    text = nights("trace")
    assert "named: p5 1 -> 2" in text and f"reproduce: enginematrix repro {one['tried']}" in text


def test_one_component_that_moved_needs_no_search(nights: Planted) -> None:
    nights.packages[STACK] = {**OLD, "p3": "2"}
    nights.save()
    culprits(nights, "p3")
    nights.run(code=1)
    one = traced(nights)
    assert (one["verdict"], one["component"]) == ("named", "p3 1 -> 2")
    assert [crossing["name"] for crossing in one["evidence"]] == ["new lock", "old lock"]


def test_what_is_named_in_one_stack_is_tried_first_in_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stacks = [STACK, "engine-onnxruntime1.31.1-py3.12"]
    nights = Planted(tmp_path / "two", MATRIX.replace("1.20.1}\naxes", "[1.20.1, 1.31.1]}\naxes"), monkeypatch)
    for version in ("1", "2"):
        for stack in stacks:
            nights.packages[stack].update({f"p{at}": version for at in range(8)})
        nights.save()
        culprits(nights, "p6")
        nights.run(code=int(version) - 1)
    found = nights.json("trace")["traced"]
    assert {one["engine"] for one in found} == set(stacks)
    assert {(one["verdict"], one["component"]) for one in found} == {("named", "p6 1 -> 2")}
    tries = sorted(len(one["evidence"]) for one in found)
    assert tries[0] == 3 < tries[1], "both ends, and what is likely"


def test_components_that_only_together_fail_are_an_interaction(nights: Planted) -> None:
    culprits(nights, "p1", "p6")
    nights.run(code=1)
    one = traced(nights)
    assert (one["verdict"], one["component"]) == ("interaction", "p1 1 -> 2 and p6 1 -> 2")
    alone = {crossing["name"]: crossing["answer"] for crossing in one["evidence"]}
    assert alone["p1 1 -> 2"] == alone["p6 1 -> 2"] == "works"


def test_what_cannot_be_installed_apart_is_no_evidence(nights: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    def misfit(packages: tuple[str, ...], python: str, cutoff: str) -> str:
        return "p2 and p3 must be of one version" if ("p2==2" in packages) != ("p3==2" in packages) else ""

    monkeypatch.setattr(uv, "misfit", misfit)
    culprits(nights, "p2")
    nights.run(code=1)
    one = traced(nights)
    assert (one["verdict"], one["component"]) == ("inseparable", "p2 1 -> 2 and p3 1 -> 2")
    apart = next(crossing for crossing in one["evidence"] if crossing["name"] == "p2 1 -> 2")
    assert apart["answer"] == "unresolved" and "must be of one version" in apart["line"] and not apart["key"]


def test_a_stack_whose_own_sets_do_not_fit_is_not_held_to_them(
    nights: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uv, "misfit", lambda packages, python, cutoff: "whatever it is")
    culprits(nights, "p2")
    nights.run(code=1)
    assert traced(nights)["component"] == "p2 1 -> 2"


def test_another_failure_on_the_way_is_no_evidence(nights: Planted) -> None:
    def answer(stage: str, packages: Mapping[str, str], job: dict[str, Any], folder: Path) -> dict[str, Any] | None:
        if stage != "run" or "p0" not in packages:
            return None
        if packages["p0"] == "2" and packages["p7"] == "1":
            return fails("Segment table is of another version")
        return fails() if packages["p0"] == "2" else None

    nights.answer = answer
    nights.run(code=1)
    one = traced(nights)
    assert (one["verdict"], one["component"]) == ("inseparable", "p0 1 -> 2 and p7 1 -> 2")
    assert any("fails otherwise" in crossing["line"] for crossing in one["evidence"])


def test_what_works_when_it_is_tried_again_is_flaky(nights: Planted) -> None:
    culprits(nights)
    nights.run(code=1)
    nights.answer = lambda stage, packages, job, folder: None
    one = traced(nights)
    assert (one["verdict"], one["component"]) == ("flaky", "")
    assert [crossing["answer"] for crossing in one["evidence"]] == ["works"]


def test_what_works_now_with_another_recipe_is_no_whim(nights: Planted) -> None:
    culprits(nights)
    nights.run(code=1)
    nights.files.recipe("alpha", specs.RECIPE.replace("atol: 1.0e-4", "atol: 1.0e-5"))
    nights.answer = lambda stage, packages, job, folder: None
    one = traced(nights, 1)
    assert one["verdict"] == "not traced"
    assert "since that run changed: recipe alpha" in one["why"]


def test_a_cause_that_changed_is_traced_to_what_changed_it(nights: Planted) -> None:
    """It fails with the old lock as well, in another way, and that is said."""
    nights.packages[STACK] = dict(OLD)
    nights.save()
    nights.files.recipe("alpha", specs.RECIPE.replace("atol: 1.0e-4", "atol: 1.0e-5"))
    nights.answer = lambda stage, packages, job, folder: fails("it was always so") if stage == "run" else None
    nights.run(code=1)
    nights.packages[STACK] = {**OLD, "p1": "2", "p2": "2"}
    nights.save()

    def answer(stage: str, packages: Mapping[str, str], job: dict[str, Any], folder: Path) -> dict[str, Any] | None:
        if stage != "run":
            return None
        return fails("now it is p2") if packages.get("p2") == "2" else fails("it was always so")

    nights.answer = answer
    nights.run(code=1)
    alpha = next(cell.id for cell in nights.work.cells if cell.model == "alpha")
    one = traced(nights, 0, "--cell", alpha)
    assert (one["verdict"], one["component"]) == ("named", "p2 1 -> 2")
    assert "old lock: fails as it did before" in nights("trace", "--cell", alpha)


def test_what_fails_with_the_old_lock_too_is_flaky_where_nothing_else_moved(nights: Planted) -> None:
    culprits(nights)
    nights.run(code=1)
    one = traced(nights)
    assert one["verdict"] == "flaky"
    assert "fails with the old lock too" in one["why"]


def test_a_recipe_that_moved_is_not_in_the_lock(nights: Planted) -> None:
    culprits(nights)
    nights.files.write("recipes/alpha/export.py", "def export():\n    return 1\n")
    nights.run(code=1)
    cell = next(cell.id for cell in nights.work.cells if cell.model == "alpha")
    one = traced(nights, 0, "--cell", cell)
    assert one["verdict"] == "not in the lock"
    assert "recipe alpha " in one["component"]


def test_without_a_lock_that_moved_the_failure_is_tried_again(nights: Planted) -> None:
    nights.packages[STACK] = dict(OLD)
    nights.save()
    nights.files.recipe("alpha", specs.RECIPE.replace("atol: 1.0e-4", "atol: 1.0e-5"))
    nights.answer = lambda stage, packages, job, folder: fails() if stage == "run" else None
    nights.run(code=1)
    one = traced(nights)
    assert (one["verdict"], len(one["cells"])) == ("not in the lock", 1)
    assert "recipe alpha " in one["component"]
    assert [crossing["name"] for crossing in one["evidence"]] == ["new lock"]


def test_a_lock_that_was_not_kept_is_had_again_by_its_digests_or_not_at_all(
    nights: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    culprits(nights, "p4")
    nights.run(code=1)
    for path in (nights.project.artifacts / trace_locks.FOLDER).iterdir():
        path.unlink()
    monkeypatch.setattr(uv, "hashes_of", lambda pins, python, cutoff: {pin: hashes(pin + "other") for pin in pins})
    one = traced(nights, 1)
    assert one["verdict"] == "not traced"
    assert "the index now has other files of" in one["why"]
    monkeypatch.setattr(uv, "hashes_of", lambda pins, python, cutoff: {pin: hashes(pin) for pin in pins})
    assert traced(nights)["component"] == "p4 1 -> 2"


def test_a_source_that_history_says_nothing_of_is_taken_where_its_name_says_what_it_is(
    nights: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (nights.project.artifacts / trace_locks.FOLDER).iterdir():
        path.unlink()
    locked = lock.read(nights.project.lock)
    assert locked is not None
    package, hub = "weights==1.0", "hub:owner/model@main:*"
    locked.sources = {package: ("sha256:1",), hub: ("commit:x", "sha256:2")}
    nights.project.lock.write_text(locked.dumps())
    store = Store(nights.project.artifacts)
    (run,) = store.runs()
    assert trace_locks.of_run(store, nights.project, run, [], [package]).sources == {package: ("sha256:1",)}
    for name in (hub, "weights==2.0"):
        with pytest.raises(trace_locks.LockGone, match="history does not say what"):
            trace_locks.of_run(store, nights.project, run, [], [name])


def test_a_kept_lock_that_was_changed_is_not_believed(nights: Planted) -> None:
    culprits(nights, "p4")
    nights.run(code=1)
    for path in (nights.project.artifacts / trace_locks.FOLDER).iterdir():
        path.write_text(path.read_text().replace(hashes("p4==1")[0], hashes("evil")[0]))
    one = traced(nights, 1)
    assert "not what its name says" in one["why"]


def test_infrastructure_and_a_budget_end_a_trace_without_a_verdict(nights: Planted) -> None:
    culprits(nights, "p4")
    nights.run(code=1)
    nights.down = True
    one = traced(nights, 3)
    assert one["verdict"] == "not traced" and "the package index is away" in one["why"]
    assert "budget ended after 0 crossings" in traced(nights, 4, "--budget", "0.000001s")["why"]
    nights.down = False
    assert traced(nights)["component"] == "p4 1 -> 2", "neither was remembered as evidence"


def test_expected_failures_are_left_alone_unless_they_are_asked_about(nights: Planted) -> None:
    culprits(nights, "p0")
    text = nights.project.matrix.read_text()
    nights.files.write("matrix.yaml", text + "expect:\n  - {match: {model: alpha}, fail: run-error, because: known}\n")
    nights.run(code=1)
    alpha = next(cell.id for cell in nights.work.cells if cell.model == "alpha")
    assert alpha not in traced(nights)["cells"]
    assert traced(nights, 0, "--cell", alpha)["cells"] == [alpha]


def test_nothing_new_is_nothing_to_trace(nights: Planted) -> None:
    nights.run()
    assert "Nothing to trace" in nights("trace")
    with pytest.raises(Exception, match="no new failure"):
        trace.trace_failures(nights.project, "last~1", "last", cells=[nights.work.cells[0].id])


def test_gc_keeps_the_evidence_and_frees_the_files(nights: Planted) -> None:
    culprits(nights, "p5")
    nights.run(code=1)
    one = traced(nights)
    lab = nights.project.artifacts / "lab"
    assert list(lab.glob("objects/*/*"))
    nights("gc")
    assert not list(lab.glob("objects/*/*"))
    nights.jobs.clear()
    assert traced(nights)["component"] == one["component"] and nights.jobs == []


def test_every_run_keeps_its_lock_once(nights: Planted) -> None:
    nights.run()
    kept = sorted((nights.project.artifacts / trace_locks.FOLDER).iterdir())
    assert len(kept) == 2
    assert nights.project.lock.read_text() in [path.read_text() for path in kept]
    assert json.loads(kept[0].read_text())["schema"] == 1
