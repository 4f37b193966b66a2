"""Suites from matrix.yaml to outcomes: selection, steps shared by many cells, and how each of them ends."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import factory
import fake
import pytest
from specs import MATRIX, Project

from builder import pick_evidence, suite
from builder.errors import SpecErrors, UsageError
from builder.execute.local import Local
from builder.matrix import Matrix
from builder.outcome import expectation, outcome, unexpected
from builder.plan import Plan, reconcile
from builder.report.check import _cell as contradictions
from builder.results import judge
from builder.store import Store
from builder.suite import Case, Suite
from builder.values import Cell, Expect

ONNX = """
family: onnx
summary: An exporter that has the tests
provides: [exporter]
exporter: onnx
axes: {onnx: {required: true}}
python: [{use: "3.12"}]
packages: ["onnx=={onnx}"]
modules: {onnx: onnx}
"""
SUITES = "suites:\n  operators: {package: onnx, version: 1.23.2}\n"
GROUPS = 'groups:\n  operators: "suite=operators"\n  old: "onnxruntime<1.17"\n  both: "operators or model=alpha"\n'


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write("images/onnx/family.yaml", ONNX)
    return made


@pytest.fixture
def matrix(project: Project) -> Matrix:
    return project.matrix(MATRIX + SUITES + GROUPS)


def number(matrix: Matrix, what: str) -> int:
    return len(matrix.select(what).cells)


# -- matrix.yaml


def test_cells_of_a_suite_are_in_a_selection_that_names_them_alone(matrix: Matrix) -> None:
    cases = len(suite.listed("onnx", "1.23.2", "node"))
    assert cases == 1884
    assert len(matrix) == len(matrix.cells) == 4 and len(matrix.suite_cells) == 2 * cases
    assert [number(matrix, what) for what in ("all", "old", "not onnxruntime=1.16.3", "opset=13")] == [4, 2, 2, 2]
    assert number(matrix, "suite=operators") == number(matrix, "operators") == 2 * cases
    assert number(matrix, "operators and old") == number(matrix, "suite=operators and onnxruntime<1.17") == cases
    assert number(matrix, "both") == 2 * cases + 4
    assert number(matrix, "case=test_abs") == 2 and number(matrix, "operator=Abs") == 2
    assert number(matrix, "case=test_conv_*") == 2 * sum(
        case.name.startswith("test_conv_") for case in suite.listed("onnx", "1.23.2", "node")
    )
    assert {cell.model for cell in matrix.select("operator=Conv and engine=ort").cells} == {"operators"}


def test_a_cell_of_a_suite_is_found_by_its_handles(matrix: Matrix) -> None:
    cell = matrix.select("case=test_abs and onnxruntime=1.20.1").cells[0]
    assert cell.options == {"operator": "Abs", "case": "test_abs"} and cell.exporter.id == "onnx-1.23.2-py3.12"
    for handle in (cell.id, cell.id[:8], cell.slug, "*1.20.1*.test_abs.*"):
        assert matrix.find(handle) == cell
    assert matrix.select(f"#{cell.id}").cells == (cell,) and matrix.select(cell.slug).cells == (cell,)
    assert matrix.why(cell.id).state == "in-matrix"
    assert matrix.why(cell.id, matrix.select("all")).state == "not-selected"
    with pytest.raises(UsageError, match="no operator 'Conw' in this matrix"):
        matrix.select("operator=Conw")


def test_its_cells_have_the_same_ids_whatever_else_is_in_the_matrix(project: Project, matrix: Matrix) -> None:
    other = project.matrix(MATRIX.replace("opset: [13, 17]", "opset: [17]\n  precision: [fp32, fp16]") + SUITES)
    assert [cell.id for cell in other.suite_cells] == [cell.id for cell in matrix.suite_cells]


def test_rules_reach_the_cells_of_suites(project: Project) -> None:
    rules = """
exclude:
  - {match: {suite: operators, onnxruntime: 1.16.3}, because: not of interest}
expect:
  - {match: {opset: 13}, fail: failed, because: of models alone}
  - {match: {onnxruntime: 1.20.1, opset: 17}, fail: crashed, because: of models alone}
  - {match: {onnxruntime: 1.20.1}, optional: true, fail: accuracy, because: it names no field of suites}
  - {match: {suite: operators, operator: [Conv, Abs]}, fail: accuracy, because: known}
set:
  - {match: {case: test_abs}, timeout: 7s}
"""
    matrix = project.matrix(MATRIX + SUITES + rules)
    assert number(matrix, "suite=operators") == 1884 and number(matrix, "all") == 4
    (cell,) = matrix.select("case=test_abs").cells
    assert cell.attributes.timeout == 7 and cell.expect is not None and cell.expect.fail == "accuracy"
    assert [c.expect and c.expect.fail for c in matrix.select("operator=Relu").cells[:1]] == [None]
    assert {c.expect.fail for c in matrix.cells if c.expect} == {"failed", "accuracy"}
    why = matrix.why(
        "engine-1.16.3-py3.11.operators.Abs.test_abs.from-onnx-1.23.2-py3.12".replace("engine-", "engine-onnxruntime")
    )
    assert (why.state, why.because) == ("removed", "not of interest")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("suites:\n  operators: {package: onnx, version: 1.9}\n", "there is no list of the cases of onnx 1.9; there are 1.23.2"),
        ("suites:\n  operators: {package: onxx, version: 1.23.2}\n", "'onxx' is not a value of 'package'; perhaps 'onnx'"),
        ("suites:\n  operators: {package: onnx}\n", "suite 'operators' has no 'version'"),
        ("suites:\n  operators: {package: onnx, version: 1.23.2, kinds: node}\n", "unknown key 'kinds'"),
        ("suites:\n  operators: {package: onnx, version: 1.23.2, kind: real}\n", "'real' is not a value of 'kind'"),
        ("suites:\n  operators: {package: onnx, version: 1.23.2, target: ada}\n", "'ada' is not a compute capability"),
        ("suites:\n  operators: {package: onnx, version: 1.23.2, precision: fp16}\n", "'fp16' is not a value of 'precision'"),
        ("suites:\n  alpha: {package: onnx, version: 1.23.2}\n", "'alpha' is already the name of a model or an entry"),
        ("suites:\n  ort: {package: onnx, version: 1.23.2}\n", "'ort' is already the name of a model or an entry"),
        (SUITES + "groups:\n  g: {select: operator=Abs, sample: {strategy: pairwise}}\n", "the cells of a suite are not sampled"),
        (SUITES + "include:\n  - {onnxruntime: 1.20.1, case: test_abs}\n", "an include adds no case of a suite"),
        (SUITES + "expect:\n  - {match: {operator: Convv}, fail: failed, because: x}\n", "no operator 'Convv' in this matrix"),
        (SUITES + "expect:\n  - {match: {operator: Conv, case: test_abs}, fail: failed, because: x}\n", "matches no cell"),
    ],
)  # fmt: skip
def test_mistakes_are_told(project: Project, text: str, message: str) -> None:
    with pytest.raises(SpecErrors) as raised:
        project.matrix(MATRIX + text)
    assert message in str(raised.value)


def test_without_suites_their_fields_are_unknown(project: Project) -> None:
    matrix = project.matrix()
    with pytest.raises(UsageError, match="unknown field 'suite'"):
        matrix.select("suite=operators")
    axes = MATRIX.replace("opset: [13, 17]", "opset: [13, 17]\n  case: [upper, lower]")
    assert len(project.matrix(axes)) == 8  # nobody else's word
    with pytest.raises(SpecErrors, match="'case' is a field of suites"):
        project.matrix(axes + SUITES)


# -- steps and outcomes

CASES = tuple(
    Case(name=f"test_{operator}_{index}", operator=operator.title(), domain="", opset=13)
    for operator in ("add", "conv", "relu") for index in range(400)
)  # fmt: skip


def small(**values: Any) -> Suite:
    made = {
        "name": "operators", "package": "onnx", "version": "1.0", "kind": "node", "timeout": 20.0, "precision": "f32",
        "target": "", "strict": False, "stack": factory.stack("exporter", "exporter"), "cases": CASES, "where": factory.PLACE,
    }  # fmt: skip
    return Suite(**{**made, **values})


def cells(of: Suite, *names: str, expect: Expect | None = None) -> list[Cell]:
    return [
        Cell(exporter=of.stack, engine=factory.stack(), model=of.name, expect=expect,
             options={"operator": of.by_name[name].operator, "case": name})
        for name in names or [case.name for case in of.cases]
    ]  # fmt: skip


def plan(of: Suite, *names: str, machine: Any = None, families: Any = None, code: Any = None) -> Plan:
    planner = factory.planner(machine=machine or factory.MACHINE, families=families, code=code or factory.CODE)
    planner.suites = {of.name: of}
    return planner.plan(cells(of, *names))


def test_an_operators_cases_stay_together_in_shards_of_some_hundred() -> None:
    of = small()
    assert [len(names) for names in of.shards] == [1200]
    assert sorted(name for names in of.shards for name in names) == sorted(case.name for case in CASES)
    real = small(cases=suite.listed("onnx", "1.23.2", "node"))
    assert sum(map(len, real.shards)) == 1884 and all(len(names) < 2 * suite.SHARD for names in real.shards)
    homes: dict[str, set[int]] = {}
    for case in real.cases:
        homes.setdefault(case.operator, set()).add(real.shard_of[case.name])
    assert all(len(shards) == 1 for shards in homes.values())


def test_cells_share_their_steps(tmp_path: Path) -> None:
    made = plan(small())
    assert {kind: row["total"] for kind, row in made.counts().items()} == {"environment": 2, "suite": 1, "conform": 1}
    assert [step.kind for step in made.chains[0].steps()] == ["environment", "environment", "suite", "conform"]
    few = plan(small(), "test_add_1", "test_add_2")
    assert few.counts()["conform"]["total"] == 1


def keys(of: Suite, **values: Any) -> tuple[str, str]:
    made = plan(of, "test_add_1", **values)
    suite_step, conform = made.chains[0].export, made.chains[0].build
    suite_step.resolve_key()
    suite_step.output = "cases"
    conform.resolve_key()
    return suite_step.key, conform.key


def test_a_key_holds_what_can_change_the_result() -> None:
    before = keys(small())
    fast = dataclasses.replace(factory.MACHINE, cpu="Other CPU")
    code = dataclasses.replace
    assert keys(small(strict=True)) == before
    assert keys(small(precision="default"))[1] != before[1] and keys(small(precision="default"))[0] == before[0]
    assert keys(small(timeout=5.0))[1] != before[1]
    assert keys(small(), machine=fast)[1] != before[1] and keys(small(), machine=fast)[0] == before[0]
    assert keys(small(), code=code(factory.CODE, conform="x"))[1] != before[1]
    assert keys(small(), code=code(factory.CODE, suite="x"))[0] != before[0]
    assert keys(small(), code=code(factory.CODE, compare="x", timing="x", exporters="x")) == before
    assert keys(small(), code=code(factory.CODE, adapters={"__init__": "i", "fake": "other"}))[1] != before[1]
    assert keys(small(cases=CASES[:-1]))[0] != before[0]
    gpu = {"engine": factory.family(device="cuda", run_needs=("nvidia-gpu",))}
    assert keys(small(target="sm89"), families=gpu)[1] != keys(small(target="sm75"), families=gpu)[1]
    assert keys(small(target="sm89"))[1] == before[1]  # a CPU has no target


RESULTS: dict[str, dict[str, Any]] = {
    "match": {"stage": "compare", "max_abs": 0.0, "atol": 1e-7, "rtol": 1e-3},
    "mismatch": {"stage": "compare", "max_abs": 2.0, "atol": 1e-7, "rtol": 1e-3,
                 "reason": "output 0 differs in 1 of 2 values, by up to 2"},
    "failed": {"stage": "build", "error": {"type": "NotImplemented", "message": "no kernel for that"}},
    "crashed": {"stage": "run", "end": {"signal": 11, "name": "SIGSEGV"}, "said": "Fatal Python error: Segmentation fault"},
    "timeout": {"stage": "run", "end": {"timeout": 20.0}, "said": ""},
    "memory": {"stage": "build", "error": {"type": "MemoryError", "message": "std::bad_alloc"}},
    "built": {"stage": "build"},
    "harness": {"stage": "run", "reason": "takes no float8e8m0"},
    "left": {"stage": "run", "reason": "the time for the suite was over before it ran"},
}  # fmt: skip
ENDS = {
    "match": ("verified", "compare", None), "mismatch": ("mismatch", "compare", "accuracy"),
    "failed": ("failed", "build", "build-error"), "crashed": ("crashed", "run", "crash"),
    "timeout": ("timeout", "run", "timeout"), "memory": ("out-of-memory", "build", "memory"),
    "built": ("built", "build", None), "harness": ("skipped", "run", None), "left": ("skipped", "run", None),
}  # fmt: skip


def case_result(word: str, **more: Any) -> dict[str, Any]:
    return {"status": word, "seconds": 0.01, **RESULTS[word], **more}


def script(words: dict[str, dict[str, Any]], answer: dict[str, dict[str, Any]] | None = None) -> fake.Script:
    """A worker that gives these results, and a match for every other case."""

    def run(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        if answer and stage in answer:
            return answer[stage]
        if stage == "suite":
            (folder / "cases.zip").write_text("cases")
            return {"cases": "cases.zip", "number": len(job["names"])}
        if stage == "conform":
            assert Path(job["cases"]).read_text() == "cases"
            return {"cases": {name: words.get(name, case_result("match")) for name in job["names"]}, "children": 1}
        return fake.well(stage, job, folder)

    return run


def outcomes(
    tmp_path: Path, asked: fake.Script, of: Suite, *names: str, families: Any = None, not_run: str = "", **world: Any
) -> list[dict[str, Any]]:  # fmt: skip
    around = fake.World(asked)
    for key, value in world.items():
        setattr(around, key, value)
    store = Store(tmp_path / "artifacts")
    made = plan(of, *names, families=families)
    reconcile(made, store.light(), store.root / "objects")
    local = Local(made, store, around, fake.Listener(), run="run", jobs=1, cores=1)
    if not not_run:
        local.run()
    records = store.steps(step.key for step in made.steps if step.key)
    return [outcome(chain, records, local.infrastructure, not_run, lambda path: "") for chain in made.chains]


def test_every_word_of_the_worker_has_its_outcome(tmp_path: Path) -> None:
    names = [f"test_add_{index}" for index in range(len(RESULTS))]
    words = {name: case_result(word) for name, word in zip(names, RESULTS, strict=True)}
    found = outcomes(tmp_path, script(words), small(), *names)
    for result, word in zip(found, RESULTS, strict=True):
        assert (result["status"], result["stage"], result["category"]) == ENDS[word], word
        assert list(contradictions({**result, "expected": None})) == [], word
        assert result["reason"] and (result["line"] is not None) == (
            word in ("mismatch", "failed", "crashed", "timeout", "memory")
        )
        states = [stage["state"] for stage in result["stages"] if stage["step"] == "conform"]
        assert ("failed" in states) == (word in ("failed", "crashed", "timeout", "memory")), word
    assert found[0]["comparison"]["tolerance"] == {"atol": 1e-7, "rtol": 1e-3}
    assert found[1]["line"] == "output 0 differs in 1 of 2 values, by up to 2"
    assert found[3]["reason"].startswith("run died of SIGSEGV")


def test_an_outcome_has_the_keys_of_any_other(tmp_path: Path) -> None:
    store = Store(tmp_path / "artifacts")
    ordinary = factory.planner().plan([factory.cell()])
    reconcile(ordinary, store.light(), store.root / "objects")
    other = outcome(ordinary.chains[0], {}, {}, "not run", lambda path: "")
    (own,) = outcomes(tmp_path / "own", script({}), small(), "test_add_1")
    assert set(own) - set(other) <= {"suite"} and set(other) - set(own) <= set(), set(other) ^ set(own)


def test_a_note_is_told_and_makes_it_flaky(tmp_path: Path) -> None:
    words = {"test_add_1": case_result("match", flaky=True, note="the process was broken by test_add_0")}
    (found,) = outcomes(tmp_path, script(words), small(), "test_add_1")
    assert found["status"] == "verified" and found["flaky"] and "broken by test_add_0" in found["reason"]


def test_steps_that_fail_block_every_case(tmp_path: Path) -> None:
    error = {"stage": "obtain", "type": "ValueError", "message": "onnx 1.0 has 3 cases, the suite's list 2"}
    (found,) = outcomes(tmp_path, script({}, {"suite": {"error": error}}), small(), "test_add_1")
    assert (found["status"], found["stage"]) == ("blocked", "export") and "the suite's list 2" in found["reason"]
    short = {"conform": {"cases": {"test_add_1": case_result("match")}, "children": 1}}
    (found,) = outcomes(tmp_path / "b", script({}, short), small(), "test_add_1")
    assert found["status"] == "blocked" and "1 results for 1200 cases" in found["reason"]
    (found,) = outcomes(
        tmp_path / "c", script({}, {"conform": {"end": {"signal": 11, "name": "SIGSEGV"}}}), small(), "test_add_1"
    )
    assert found["status"] == "blocked" and found["comparison"] is None


def test_what_this_machine_cannot_do_is_skipped(tmp_path: Path) -> None:
    families = {"engine": factory.family(needs=("nvidia-gpu",))}
    (found,) = outcomes(tmp_path, script({}), small(), "test_add_1", families=families)
    assert found["status"] == "skipped" and "GPU" in found["reason"]
    (found,) = outcomes(
        tmp_path / "b", script({}), small(), "test_add_1", not_run="the time budget ended before it ran"
    )
    assert found["status"] == "skipped" and found["reason"] == "the time budget ended before it ran"


def test_nothing_runs_twice(tmp_path: Path) -> None:
    first = fake.World(script({}))
    for world in (first, again := fake.World(script({}))):
        store = Store(tmp_path / "artifacts")
        made = plan(small())
        reconcile(made, store.light(), store.root / "objects")
        Local(made, store, world, fake.Listener(), run=f"run{id(world)}", jobs=1, cores=1).run()
    assert [job[0] for job in first.jobs] == ["suite", "conform"] and again.jobs == []


def test_cases_leave_no_engine_to_let_go_of(tmp_path: Path) -> None:
    """`run --keep none`; an exception in a worker's thread would be an error here."""
    store = Store(tmp_path / "artifacts")
    made = plan(small())
    reconcile(made, store.light(), store.root / "objects", engines=False)
    asked: list[str] = []
    listener = fake.Listener()
    Local(
        made, store, fake.World(script({})), listener, run="run", jobs=1, cores=1,
        dismiss=lambda chain: asked.append(chain.cell.id) is None,
    ).run()  # fmt: skip
    assert set(asked) == {chain.cell.id for chain in made.chains} == set(listener.chains)


def test_a_failing_case_is_red_only_where_that_was_asked_for(tmp_path: Path) -> None:
    words = {"test_add_1": case_result("mismatch")}
    today = datetime.date(2026, 11, 21)
    for strict in (False, True):
        (found,) = outcomes(tmp_path / str(strict), script(words), small(strict=strict), "test_add_1")
        assert unexpected({**found, "expected": None}) == strict
    known = Expect(fail="accuracy", because="known", until=None, where=factory.PLACE)
    other = dataclasses.replace(known, fail="crashed")
    assert not unexpected({**found, "expected": expectation(known, found, today)})
    assert unexpected({**found, "expected": expectation(other, found, today)})  # another failure than the one foreseen


def test_failed_cases_run_again_when_that_is_asked_for(tmp_path: Path) -> None:
    words = {"test_add_1": case_result("mismatch")}
    outcomes(tmp_path, script(words), small(), "test_add_1")
    store = Store(tmp_path / "artifacts")
    again = plan(small(), "test_add_1")
    reconcile(again, store.light(), store.root / "objects", again="failed")
    assert [step.kind for step in again.todo()] == ["conform"]


def test_pick_takes_no_case_of_a_suite_for_evidence(tmp_path: Path) -> None:
    """Thousands of them would crowd out the runs of models, and say nothing of any."""
    store = Store(tmp_path / "artifacts")
    made = plan(small(), "test_add_1", "test_add_2")
    reconcile(made, store.light(), store.root / "objects")
    Local(made, store, fake.World(script({})), fake.Listener(), run="run", jobs=1, cores=1).run()
    found = judge(made.chains, store, {}, "")
    record = {"machine": {"cpu": "Test CPU", "gpus": []}}
    store.put_run("2026-11-21T10:00:00Z-1", "2026-11-21T10:00:00Z", "2026-11-21T10:00:01Z", record,
                  {cell["id"]: (cell["status"], cell["key"]) for cell in found})  # fmt: skip
    assert store.latest_status() == {cell["id"]: "verified" for cell in found}
    assert len(store.outcomes(cell["key"] for cell in found)) == 2
    assert pick_evidence.read(store.path) == {}
