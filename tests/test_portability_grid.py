"""The portability grid: from matrix.yaml to cells, steps that are shared, outcomes, and what `check` says beside them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import factory
import fake
import pytest
from running import enginematrix, project, report
from specs import MATRIX, Project

from builder import portability_grid as grid
from builder.diagnose import diagnose
from builder.enginefile import EngineFile
from builder.enginefile_content import Header
from builder.enginefile_manifest import Manifest
from builder.environment.session import WorkerDied
from builder.errors import SpecErrors, UsageError
from builder.execute.local import Local
from builder.locking import stacks_of
from builder.machine import read
from builder.matrix import Matrix
from builder.outcome import unexpected
from builder.plan import Plan, reconcile
from builder.portability_grid_check import claim, foreseen, observed, predictions, words
from builder.predict import Claim, Prediction
from builder.predict_score import score, seen
from builder.report.check import _cell as contradictions
from builder.results import deliver, judge
from builder.store import Store
from builder.values import Cell, Expect, Stack

GRID = "portability: opset=17\n"


@pytest.fixture
def small(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def matrix(small: Project) -> Matrix:
    return small.matrix(MATRIX + GRID + 'groups: {moved: "built-on=*", old: "onnxruntime<1.17"}\n')


def pairs(cells: tuple[Cell, ...]) -> list[tuple[str, str]]:
    return [(cell.options["built-on"], cell.engine.fields["onnxruntime"]) for cell in cells]


# -- matrix.yaml


def test_every_stack_loads_what_each_built(matrix: Matrix) -> None:
    versions = ("1.16.3", "1.20.1")
    assert sorted(pairs(matrix.grid_cells)) == sorted((a, b) for a in versions for b in versions)
    for cell in matrix.grid_cells:
        assert cell.built_on is not None
        assert cell.built_on.fields["onnxruntime"] == cell.options["built-on"]
        assert f".built-on-{cell.options['built-on']}." in cell.slug and cell.options["opset"] == "17"
        home = grid.ordinary(cell)
        assert matrix.find(home.id).engine is cell.built_on
    ids = [cell.id for cell in (*matrix.cells, *matrix.grid_cells)]
    assert len(set(ids)) == len(ids) == 8


def test_its_cells_are_in_a_selection_that_names_them_alone(matrix: Matrix) -> None:
    def number(what: str) -> int:
        return len(matrix.select(what).cells)

    assert len(matrix) == 4 and number("all") == 4
    assert number("old") == 2 and number("not onnxruntime=1.16.3") == 2
    assert number("moved") == number("built-on=*") == 4
    assert number("moved and old") == number("built-on=* and onnxruntime<1.17") == 2
    assert number("built-on>=1.17") == 2 and number("built-on>=1.17 and onnxruntime<1.17") == 1
    assert number("built-on!=1.16.3") == 2
    with pytest.raises(UsageError, match="no built-on '2.0' in this matrix"):
        number("built-on=2.0")
    chosen = matrix.select("moved").cells
    assert matrix.total(chosen) == 8 and matrix.total(matrix.cells) == 4


def test_a_cell_of_it_is_found_by_its_handles(matrix: Matrix) -> None:
    cell = matrix.grid_cells[1]
    for handle in (cell.id, cell.slug, f"#{cell.id[:8]}"):
        assert matrix.find(handle) == cell
        assert matrix.select(handle if handle != cell.id else f"id={cell.id}").cells == (cell,)
    assert matrix.why(cell.id).state == "in-matrix"
    assert matrix.why(cell.id, group="moved").state == "selected"
    left = matrix.why(cell.id, group="old")
    assert left.state == "not-selected" and "does not name 'built-on'" in left.because


def test_rules_reach_its_cells(small: Project) -> None:
    rules = """
set:
  - {match: {onnxruntime: 1.16.3}, timeout: 7m, measure: true}
exclude:
  - {match: {built-on: 1.20.1, onnxruntime: 1.20.1}, because: it is at home there}
expect:
  - {match: {built-on: ">=1.17", onnxruntime: "<1.17"}, fail: engine-version, because: older}
"""
    matrix = small.matrix(MATRIX + GRID + rules)
    assert len(matrix.grid_cells) == 3 and len(matrix) == 4
    old = {
        cell.options["built-on"]: cell for cell in matrix.grid_cells if cell.engine.fields["onnxruntime"] == "1.16.3"
    }
    assert {cell.attributes.timeout for cell in old.values()} == {420.0}
    assert not any(cell.attributes.measure for cell in old.values()), "a grid is not timed"
    assert old["1.16.3"].expect is None and old["1.20.1"].expect is not None
    assert all(cell.expect is None for cell in matrix.cells)
    gone = next(it for it in matrix.removed if it.cell.built_on is not None)
    assert (gone.rule, gone.because) == ("exclude", "it is at home there")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("portability: opset=17 and onnxruntime=1.16.3\n", "no two cells that differ in their engine stack alone"),
        ("portability: opset=99\n", "no opset '99' in this matrix"),
        ("portability: built-on=1.16.3\n", "names a field of the portability grid"),
        ("portability: status=failed\n", "a selector asks for the status of the last run"),
        ("portability: [a]\n", "'portability' must be text"),
        (GRID + "expect: [{match: {built-on: 3.0}, fail: crash, because: x}]\n", "no built-on '3.0' in this matrix"),
        (GRID + "expect: [{match: {built-on: 1.16.3, opset: 13}, fail: crash, because: x}]\n", "matches no cell"),
        (GRID + "include: [{onnxruntime: 1.16.3, opset: 17, built-on: 1.16.3}]\n", "an include adds no cell of the portability"),
        (GRID + "groups: {g: {select: built-on=*, sample: {strategy: pairwise}}}\n", "are not sampled"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(small: Project, text: str, message: str) -> None:
    with pytest.raises(SpecErrors) as caught:
        small.matrix(MATRIX + text)
    assert message in str(caught.value) and "matrix.yaml:" in str(caught.value)


def test_an_axis_cannot_take_its_name(small: Project) -> None:
    with pytest.raises(SpecErrors, match="'built-on' is a field of the portability grid"):
        small.matrix(MATRIX + "  built-on: [a]\n")


def test_without_it_its_field_is_unknown(small: Project) -> None:
    with pytest.raises(UsageError, match="unknown field 'built-on'"):
        small.matrix(MATRIX).select("built-on=*")


def test_labels_tell_stacks_of_a_family_apart() -> None:
    def stack(python: str = "3.12", **fields: str) -> Stack:
        return Stack(role="engine", entry="e", family="rtx", fields={**fields, "python": python})

    stacks = [stack(rtx="1.7", cuda="12"), stack(rtx="1.7", cuda="13"), stack("3.11", rtx="1.7", cuda="13")]
    assert list(grid.labels(stacks).values()) == ["1.7-cuda12", "1.7-cuda13", "1.7-cuda13-py3.11"]


# -- steps

OLD, NEW = factory.stack(version="1.0"), factory.stack(version="2.0")


def moved(builds: Stack, loads: Stack, **values: Any) -> Cell:
    plain = factory.cell(loads)
    return replace(plain, options={**plain.options, "built-on": builds.fields["engine"]}, built_on=builds, **values)


CELLS = [moved(OLD, OLD), moved(OLD, NEW), moved(NEW, OLD), moved(NEW, NEW)]


def plan(*cells: Cell, **values: Any) -> Plan:
    return factory.planner(OLD, NEW, **values).plan(cells or CELLS)


def test_nothing_is_built_twice() -> None:
    alone = plan(factory.cell(OLD), factory.cell(NEW)).counts()
    assert {kind: row["total"] for kind, row in plan().counts().items()} == {
        **{kind: row["total"] for kind, row in alone.items()}, "run": 4,
    }  # fmt: skip
    both = plan(factory.cell(OLD), factory.cell(NEW), *CELLS)
    assert both.counts()["build"]["total"] == 2 and both.counts()["run"]["total"] == 4
    old, new, at_home, away = both.chains[0], both.chains[1], both.chains[2], both.chains[3]
    assert at_home.run is old.run and away.build is old.build
    assert away.run is not new.run and away.run.environment is away.engine is new.engine and away.built_in is old.engine


class Library:
    """A worker whose engines bear the stack that built them, and which answers each (built on, loaded by) as told."""

    def __init__(self, answers: dict[tuple[str, str], dict[str, Any]]) -> None:
        self.answers = answers
        self.world = fake.World(self.answer)
        self.world.probes[B] = {"modules": {"fake": {"version": "2.0"}}}

    def answer(self, stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        here = self.world.jobs[-1][1]
        if stage == "build":
            if (here, here) in self.answers and "build" in self.answers[here, here]:
                return {"error": self.answers[here, here]["build"]}
            (folder / "engine.plan").write_text(here)
            return {"engine": "engine.plan", "found": {}, "unsupported": []}
        if stage == "run":
            return self.answers.get((Path(job["engine"]).read_text(), here), RIGHT)
        return fake.well(stage, job, folder)


A, B = "engine-1.0-py3.11", "engine-2.0-py3.11"
RIGHT = {"comparison": {**fake.MATCH, "outputs": [{"verdict": "match"}]}, "found": {}, "degraded": []}
WORDS = "the file was written by release 1.0, this is 2.0"
REFUSED = {"error": {"stage": "load", "type": "RuntimeError", "message": WORDS, "traceback": ""}}


def outcomes(tmp_path: Path, library: Library, *cells: Cell, **values: Any) -> dict[tuple[str, str], dict[str, Any]]:
    store = Store(tmp_path / "artifacts")
    made = plan(*cells, **values)
    reconcile(made, store.light(), store.root / "objects")
    local = Local(made, store, library.world, fake.Listener(), run="run", jobs=1, cores=1)
    local.run()
    found = judge(made.chains, store, local.infrastructure, "")
    deliver(made, store, found, again=True)
    assert all(it["key"].endswith(".grid") for it in found), "pick passes over them"
    # The families of these tests are none that `enginematrix check` knows.
    assert all(it["check"]["verdict"] == "unknown" for it in found)
    for it in found:
        assert list(contradictions({**it, "prediction": None})) == []
    return {(it["built_on"]["id"], it["engine"]["id"]): it for it in found}


def test_the_other_stack_loads_the_very_engine(tmp_path: Path) -> None:
    library = Library({(A, B): REFUSED})
    found = outcomes(tmp_path, library)
    assert {key: it["status"] for key, it in found.items()} == {
        (A, A): "verified", (A, B): "failed", (B, A): "verified", (B, B): "verified",
    }  # fmt: skip
    assert Counter(library.world.stages())["build"] == 2 and Counter(library.world.stages())["run"] == 4
    bad = found[A, B]
    assert (bad["stage"], bad["category"], bad["line"]) == ("load", "engine-version", f"RuntimeError: {WORDS}")
    assert bad["axes"]["built-on"] == "1.0" and unexpected(bad)
    assert [it["step"] for it in bad["stages"]][:3] == ["environment"] * 3
    assert not (tmp_path / "artifacts" / "engines").exists(), "an engine is delivered by the cell that builds it"


def test_at_home_a_refusal_is_no_matter_of_versions(tmp_path: Path) -> None:
    found = outcomes(tmp_path, Library({(A, A): REFUSED, (A, B): REFUSED}))
    told = diagnose("load", "failed", REFUSED["error"], {"exit": 0}, "", {})
    assert found[A, A]["category"] == told.category != "engine-version"
    assert found[A, B]["category"] == "engine-version"


def test_words_that_are_known_keep_their_category(tmp_path: Path) -> None:
    line = "Version tag does not match. Note: Current Version: 213, Serialized Engine Version: 205"
    error = {"error": {**REFUSED["error"], "message": line}}
    found = outcomes(tmp_path, Library({(A, B): error}))[A, B]
    assert found["signature"] == "trt-plan-version-tag" and found["line"] == f"RuntimeError: {line}"


@pytest.mark.parametrize(
    ("answer", "status", "stage"),
    [
        ({"end": {"signal": 11, "name": "SIGSEGV"}}, "crashed", "run"),
        ({"end": {"timeout": 120.0}}, "timeout", "run"),
        ({"comparison": {**fake.MATCH, "verdict": "mismatch", "reason": "off by 3"}, "found": {}, "degraded": []}, "mismatch",
         "compare"),
        ({**RIGHT, "degraded": [{"asked": "fp16", "got": "fp32", "how": "seen"}]}, "degraded", "compare"),
    ],
)  # fmt: skip
def test_it_ends_as_any_other_cell(tmp_path: Path, answer: dict[str, Any], status: str, stage: str) -> None:
    found = outcomes(tmp_path, Library({(A, B): answer}))
    assert (found[A, B]["status"], found[A, B]["stage"]) == (status, stage)
    assert found[B, B]["status"] == found[A, A]["status"] == "verified"


def test_what_could_not_be_built_is_blocked_everywhere(tmp_path: Path) -> None:
    error = {"stage": "build", "type": "RuntimeError", "message": "no kernel", "traceback": ""}
    found = outcomes(tmp_path, Library({(A, A): {"build": error}}))
    assert {key: it["status"] for key, it in found.items()} == {
        (A, A): "blocked", (A, B): "blocked", (B, A): "verified", (B, B): "verified",
    }  # fmt: skip
    assert "no kernel" in found[A, B]["reason"] and found[A, B]["artifact"] is None


def test_environments_that_fail(tmp_path: Path) -> None:
    library = Library({})
    library.world.broken[B] = WorkerDied("its imports failed", signal=11, exit=None, log="")
    found = outcomes(tmp_path, library)
    assert {key: it["status"] for key, it in found.items()} == {
        (A, A): "verified", (A, B): "crashed", (B, A): "blocked", (B, B): "crashed",
    }  # fmt: skip
    assert found[A, B]["category"] != "engine-version"


def test_without_a_gpu_it_is_built_and_never_verified(tmp_path: Path) -> None:
    families = {"engine": factory.family(run_needs=("nvidia-gpu",))}
    found = outcomes(tmp_path, Library({}), families=families)
    assert {it["status"] for it in found.values()} == {"built"}
    assert all("loading it needs an NVIDIA GPU" in it["reason"] for it in found.values())


def test_a_library_that_tells_is_asked_where_nothing_can_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(grid, "_TELLS", frozenset({"engine"}))
    families = {"engine": factory.family(run_needs=("nvidia-gpu",))}
    why = "loading it needs an NVIDIA GPU, and this machine has none"
    vouched = {"unloaded": why, "comparison": None, "found": {}, "degraded": []}
    library = Library({(A, B): REFUSED, (B, A): vouched})
    found = outcomes(tmp_path, library, families=families)
    asked = [job for stage, _, job in library.world.jobs if stage == "run"]
    assert [job["unloadable"] for job in asked] == [why, why], "not at home: there is nothing to tell"
    assert {key: it["status"] for key, it in found.items()} == {
        (A, A): "built", (A, B): "failed", (B, A): "built", (B, B): "built",
    }  # fmt: skip
    assert found[A, B]["category"] == "engine-version"
    told = found[B, A]
    assert told["comparison"] is None and "the library does not refuse it" in told["reason"]
    assert {it["state"] for it in told["stages"] if it["step"] == "run"} == {"skipped"}


def test_where_only_the_builder_cannot_be_had_it_is_skipped(tmp_path: Path) -> None:
    families = {"engine": factory.family(needs=("nvidia-gpu",))}
    found = outcomes(tmp_path, Library({}), families=families)
    assert {it["status"] for it in found.values()} == {"skipped"}


def test_the_stack_that_builds_is_locked_too(small: Project) -> None:
    matrix = small.matrix(MATRIX + GRID)
    (cell,) = matrix.select("built-on=1.16.3 and onnxruntime=1.20.1").cells
    work = SimpleNamespace(spec=matrix.spec)
    named = {stack.id for stack in stacks_of(work, [cell])}  # type: ignore[arg-type]
    assert {cell.engine.id, matrix.cells[0].engine.id} <= named


def test_a_key_holds_both_stacks(tmp_path: Path) -> None:
    keys = {chain.key() for chain in plan().chains}
    assert len(keys) == 4
    other = plan(moved(OLD, NEW)).chains[0]
    assert other.key() in keys


# -- facts beforehand


def test_only_what_keeps_it_from_being_tried_is_foreseen() -> None:
    def predict(cell: Cell) -> Prediction:
        no_wheel = Claim(rule="wheel", subject="no wheel", state="unsupported", because="it says so")
        opset = Claim(rule="opset", subject="opset 17", state="unsupported", because="it says so")
        return Prediction(claims=(no_wheel,) if cell.engine is OLD else (opset,))

    found = grid.foreseen([*CELLS, factory.cell()], predict)
    subjects = {pair: prediction.against.subject if prediction.against else "" for pair, prediction in zip(
        [("1", "1"), ("1", "2"), ("2", "1"), ("2", "2")], (found[cell.id] for cell in CELLS), strict=True)}  # fmt: skip
    assert subjects == {("1", "1"): "no wheel", ("1", "2"): "no wheel", ("2", "1"): "opset 17", ("2", "2"): "opset 17"}
    assert len(found) == 4, "cells of the product are predicted as ever"
    mild = grid.foreseen([CELLS[1]], lambda cell: predict(cell) if cell.engine is NEW else Prediction(claims=()))
    assert mild[CELLS[1].id].against is None, "what a stack builds says nothing of what it loads"


# -- what check says


def told(verdict: str, status: str, stage: str, *, rule: str = "openvino-blob-version", **more: Any) -> dict[str, Any]:
    return {
        "id": f"{verdict}-{status}-{stage}", "status": status, "stage": stage, "when": None, "degraded": [],
        "category": "engine-version" if status == "failed" else None, "built_on": {"id": A}, "engine": {"id": B},
        "check": {"verdict": verdict, "because": "it is so", "rule": rule, "library": "openvino", "version": "2.0"}, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "stage", "expected"),
    [
        ("verified", "compare", "held"), ("mismatch", "compare", "held"), ("degraded", "compare", "held"),
        ("degraded", "build", "open"), ("built", "build", "open"), ("failed", "load", "failed"), ("failed", "run", "failed"),
        ("crashed", "load", "failed"), ("out-of-memory", "load", "failed"), ("timeout", "load", "open"),
        ("failed", "environment", "open"), ("skipped", "environment", "open"), ("blocked", "build", "open"),
    ],
)  # fmt: skip
def test_what_an_outcome_shows_of_the_rule(status: str, stage: str, expected: str) -> None:
    assert seen(claim(told("loads", status, stage)), told("loads", status, stage)) == expected


def test_rules_are_scored_and_wrong_ones_named() -> None:
    cells = [
        told("loads", "verified", "compare"),
        told("will-not-load", "failed", "load"),
        told("unknown", "failed", "load"),
    ]
    for cell in cells:
        cell["engine"] = {"id": f"{B}-{cell['id']}"}
    scored = score(predictions(cells, {}), cells)
    row = next(it for it in scored["rules"] if it["rule"] == "portable")
    assert (row["supported"]["held"], row["unsupported"]["failed"], row["unknown"]["failed"]) == (1, 1, 1)
    assert scored["refuted"] == []
    wrong = [told("will-not-load", "verified", "compare"), told("loads", "failed", "load")]
    scored = score(predictions(wrong, {}), wrong)
    assert len(scored["refuted"]) == 2
    facts = scored["claims"][0]["facts"]
    assert facts[0]["sources"] and facts[0]["where"].startswith("builder/portability_rules.py:")


def test_a_refusal_that_a_rule_states_is_expected() -> None:
    found = foreseen(told("will-not-load", "failed", "load"))
    assert found is not None
    assert found["state"] == "expected" and "it is so" in found["because"]
    assert found["where"].startswith("builder/portability_rules.py:")
    assert not unexpected({**told("will-not-load", "failed", "load"), "expected": found})
    assert foreseen(told("unknown", "failed", "load")) is None
    assert foreseen(told("will-not-load", "verified", "compare")) is None
    assert foreseen(told("loads", "failed", "load")) is None


def test_what_the_matrix_expects_goes_before_the_rules(tmp_path: Path) -> None:
    expect = Expect(fail="engine-version", because="seen", until=None, where=factory.PLACE)
    found = outcomes(
        tmp_path, Library({(A, B): REFUSED}), moved(OLD, NEW, expect=expect), moved(NEW, OLD, expect=expect)
    )
    assert (found[A, B]["expected"] or {})["state"] == "expected"
    assert (found[B, A]["expected"] or {})["state"] == "fixed"


def test_check_cites_what_was_seen_of_the_very_file(tmp_path: Path) -> None:
    found = outcomes(tmp_path, Library({(A, B): REFUSED}))
    home = tmp_path / "artifacts" / "engines" / "cell"

    def file(sha256: str, folder: Path = home) -> EngineFile:
        manifest = Manifest(
            path=folder / "manifest.json", library="", version="", capability="", platform="", built={}, flags=None,
            sha256=sha256,
        )  # fmt: skip
        header = Header(format="onnx")
        return EngineFile(path=folder / "engine.plan", size=1, header=header, manifest=manifest, notes=())

    (told,) = observed(file(found[A, A]["artifact"]["sha256"]))
    assert (told["stack"], told["status"], told["cell"]) == (B, "failed", found[A, B]["id"])
    assert words(told).startswith(f"refused by {B} on 20") and WORDS in words(told)
    (told,) = observed(file(found[B, B]["artifact"]["sha256"]))
    assert words(told).startswith(f"loaded and run by {A} on 20")
    assert observed(file("0" * 64)) == [], "another file"
    assert observed(file("")) == [] == observed(replace(file(found[A, A]["artifact"]["sha256"]), manifest=None))
    assert observed(file(found[A, A]["artifact"]["sha256"], tmp_path / "elsewhere")) == [], "no store around it"
    other = tmp_path / "other" / "results.sqlite"
    other.parent.mkdir()
    other.write_bytes(b"no database" * 99)
    assert observed(file(found[A, A]["artifact"]["sha256"], other.parent / "engines" / "cell")) == [], "a damaged one"


# -- for real

REAL = """\
schema: 1
name: moved
exporters: {onnx: {family: onnx, onnx: 1.23.2}}
engines:
  ort: {family: onnxruntime, onnxruntime: [1.15.1, 1.31.1]}
  openvino: {family: openvino, openvino: [2023.0.2, 2026.4.1]}
axes: {model: [squeezenet], opset: [17], precision: [fp32], shapes: [static]}
portability: all
groups: {default: "built-on=*"}
"""


@pytest.mark.real
def test_real_libraries_refuse_in_their_own_words(tmp_path: Path) -> None:
    folder = project(tmp_path / "moved", REAL)
    enginematrix(folder, "run")
    cells = {(c["built_on"]["fields"].get("onnxruntime") or c["built_on"]["fields"]["openvino"],
              c["engine"]["fields"].get("onnxruntime") or c["engine"]["fields"]["openvino"]): c
             for c in report(folder)["cells"]}  # fmt: skip
    assert len(cells) == 8
    for (built, loads), cell in cells.items():
        if built == loads or (built, loads) == ("1.15.1", "1.31.1"):
            assert (cell["status"], cell["check"]["verdict"]) == ("verified", "loads"), (built, loads)
            assert cell["comparison"]["verdict"] == "match"
        else:
            assert cell["status"] in ("failed", "out-of-memory") and cell["stage"] == "load", (built, loads)
            assert cell["check"]["verdict"] == "will-not-load" and cell["expected"]["state"] == "expected"
    assert "incompatible runtime requirements" in cells["2023.0.2", "2026.4.1"]["line"]
    assert "Opset 5 is under development" in cells["1.31.1", "1.15.1"]["line"]
    enginematrix(folder, "run", "--select", "all")
    (engine,) = (folder / "artifacts" / "engines").glob("openvino-2023.0.2-*")
    told = enginematrix(folder, "check", str(engine))
    assert "seen: refused by openvino-2026.4.1-py3.12 on 20" in told and "incompatible runtime requirements" in told
    assert told.count("seen: ") == 1
    enginematrix(folder, "run")
    rules = {it["rule"]: it for it in report(folder)["predictions"]["rules"]}
    assert rules["portable"]["supported"]["held"] == 5 and rules["portable"]["unsupported"]["failed"] == 3
    assert "up to date" in enginematrix(folder, "run")


RTX = """\
schema: 1
name: plans
exporters: {onnx: {family: onnx, onnx: 1.23.2}}
engines: {rtx: {family: tensorrt-rtx, tensorrt-rtx: [1.4.0.76, 1.7.1.116], cuda: 12}}
axes: {model: [squeezenet], opset: [17], precision: [fp32], shapes: [static], target: [sm89]}
portability: all
groups: {default: "built-on=*"}
"""


@pytest.mark.real
@pytest.mark.skipif(bool(read().gpus), reason="with a GPU plans are loaded")
def test_real_tensorrt_rtx_tells_of_another_release_without_a_gpu(tmp_path: Path) -> None:
    folder = project(tmp_path / "plans", RTX)
    enginematrix(folder, "run")
    cells = {(c["built_on"]["fields"]["tensorrt-rtx"], c["engine"]["fields"]["tensorrt-rtx"]): c
             for c in report(folder)["cells"]}  # fmt: skip
    assert {key: it["status"] for key, it in cells.items()} == {
        ("1.4.0.76", "1.4.0.76"): "built", ("1.4.0.76", "1.7.1.116"): "failed",
        ("1.7.1.116", "1.4.0.76"): "failed", ("1.7.1.116", "1.7.1.116"): "built",
    }  # fmt: skip
    refused = cells["1.7.1.116", "1.4.0.76"]
    assert "version 1.7.1, but the current runtime is TensorRT-RTX version 1.4.0" in refused["line"]
    assert (refused["category"], refused["check"]["verdict"]) == ("engine-version", "will-not-load")
