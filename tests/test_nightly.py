"""Nights: in which order, what is new and what made it, how much is covered, and how they end."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import specs
from hypothesis import given, settings
from hypothesis import strategies as st
from nights import MATRIX, Nights, fails

from builder import (
    cli,
    lock,
    machine,
    nightly,
    nightly_coverage,
    nightly_keep,
    nightly_lock,
    nightly_order,
    nightly_part,
    nightly_trace,
    nightly_words,
    pipeline,
    predict,
    sample,
    sources,
)
from builder.environment import uv
from builder.environment.uv import PackageError
from builder.errors import InfrastructureError
from builder.nightly_order import Evidence
from builder.values import STATUSES

SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "report.schema.json").read_text(encoding="utf-8"))
OLD, MID, NEW = (f"engine-onnxruntime{version}" for version in ("1.18.0-py3.12", "1.20.1-py3.12", "1.22.0-py3.12"))


@pytest.fixture
def nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nights:
    return Nights(tmp_path, monkeypatch, capsys)


def numpy2(stage: str, stack: str, packages: dict[str, str], job: dict[str, Any]) -> dict[str, Any] | None:
    """Engines of any release that do not build beside NumPy 2."""
    return fails() if stage == "build" and packages["numpy"].startswith("2") else None


# What is new ---------------------------------------------------------------------------------------------------------


def test_a_component_that_moved_is_named_by_trying(nights: Nights) -> None:
    first = nights()
    assert (first["nightly"]["against"], first["exit"]["code"]) == (None, 0)
    assert "the first one" in nights.page
    nights.write_lock(**{MID: "2.0.0"})
    nights.world.answer = numpy2
    second = nights(code=1)
    part = second["nightly"]
    jsonschema.validate(second, SCHEMA)
    assert part["against"] == first["run"]["id"] and part["run"] == second["run"]["id"]
    (group,) = part["changes"]
    assert (group["kind"], len(group["cells"]), group["category"]) == ("new-failures", 4, "build-error")
    (traced,) = part["trace"]["results"]
    assert (traced["verdict"], traced["component"], traced["stack"]) == ("named", "numpy 1.26.4 -> 2.0.0", MID)
    assert sorted(traced["cells"]) == sorted(group["cells"])
    for told in (nights.page.replace("&gt;", ">"), second["said"]):
        assert "New failures: 4 cells" in told
        assert f"cause: numpy 1.26.4 -> 2.0.0 ({MID})" in told.replace("\\", "").replace("\n        ", " ")
        assert group["cells"][0] in told
    # The lock back, and all is well: nothing runs, and yet it is fixed.
    nights.write_lock()
    third = nights()
    assert [one["kind"] for one in third["nightly"]["changes"]] == ["fixed"]
    assert third["run"]["steps"] == 0


def test_a_night_in_which_nothing_moved_runs_and_says_nothing(nights: Nights) -> None:
    first = nights()
    jobs = len(nights.world.jobs)
    second = nights()
    assert len(nights.world.jobs) == jobs
    assert second["nightly"]["run"] == second["nightly"]["against"] == first["run"]["id"]
    assert "nothing got worse" in nights.page and "no cell ran anew" in nights.page
    assert len(nights.store.runs()) == 1


def test_the_night_compares_with_the_one_before_and_not_with_runs_by_hand(nights: Nights) -> None:
    first = nights()
    nights.write_lock(**{MID: "2.0.0"})
    nights.world.answer = numpy2
    assert cli.main(["-f", str(nights.folder / "matrix.yaml"), "run", "--frozen", "--quiet", "--group", "nightly"]) == 1
    second = nights(code=1)
    assert second["nightly"]["against"] == first["run"]["id"]
    assert second["nightly"]["counts"]["new-failures"] == 4, "nobody was told of them at night"


def test_without_a_night_before_the_last_run_of_the_matrix_is_compared_with(nights: Nights) -> None:
    arguments = ["run", "--frozen", "--quiet", "--select", "model=alpha"]
    assert cli.main(["-f", str(nights.folder / "matrix.yaml"), *arguments]) == 0
    report = nights()
    assert report["nightly"]["counts"]["first"] == 6 and not report["nightly"]["asked"]
    assert "another one than then" in nights.page


def test_a_first_night_that_runs_nothing_is_what_the_second_is_held_against(nights: Nights) -> None:
    """All was tried by `run` before, and then a few cells alone: the second night is not compared with those few."""
    for select in ("all", "model=alpha"):
        arguments = ["run", "--frozen", "--quiet", "--select", select]
        assert cli.main(["-f", str(nights.folder / "matrix.yaml"), *arguments]) == 0
    first = nights()
    assert first["run"]["steps"] == 0
    nights.write_lock(**{MID: "2.0.0"})
    nights.world.answer = numpy2
    part = nights(code=1)["nightly"]
    assert part["against"] == first["run"]["id"] and part["asked"]
    assert part["counts"]["new-failures"] == 4


def test_what_fails_the_first_time_is_told_and_is_no_change(nights: Nights) -> None:
    nights.files.write("matrix.yaml", MATRIX.replace(", 1.22.0]", "]"))
    nights()
    nights.files.write("matrix.yaml", MATRIX)
    nights.world.answer = lambda stage, stack, packages, job: fails() if stage == "build" and stack == NEW else None
    report = nights("--lock frozen --fail-on new")
    assert report["counts"]["failed"] == 4 and report["nightly"]["regressions"] == 0
    assert "## Failing the first time that they were tried: 4 cells" in nights.page
    assert report["nightly"]["trace"]["results"] == []


def test_a_matrix_that_changed_is_no_regression(nights: Nights) -> None:
    nights()
    nights.files.write("matrix.yaml", MATRIX.replace(", 1.22.0]", "]"))
    report = nights("--lock frozen --fail-on new")
    assert report["nightly"]["counts"]["stale"] == 4 and report["nightly"]["regressions"] == 0
    assert "another one than then" in nights.page
    assert report["nightly"]["coverage"]["pairs"] < report["nightly"]["coverage"]["before"][0]["pairs"]


def test_a_clock_that_was_set_back_is_said_and_misleads_nobody(nights: Nights) -> None:
    first = nights()
    nights.clock.wall -= 10 * 86400
    nights.write_lock(**{MID: "2.0.0"})
    nights.world.answer = numpy2
    second = nights(code=1)
    assert second["run"]["started"] < first["run"]["started"]
    assert second["nightly"]["against"] == first["run"]["id"]
    assert second["nightly"]["counts"]["new-failures"] == 4 and "clock was set back" in nights.page


def test_a_cell_that_was_a_whim_is_tried_again_by_the_next_night(nights: Nights) -> None:
    nights()
    nights.write_lock(**{MID: "2.0.0"})
    nights.world.answer = numpy2  # and tracing finds that it works
    told = []

    def once(stage: str, stack: str, packages: dict[str, str], job: dict[str, Any]) -> dict[str, Any] | None:
        if stage == "build" and stack == MID and not told:
            told.append(stack)
            return fails()
        return None

    nights.world.answer = once
    second = nights(code=1)
    (traced,) = second["nightly"]["trace"]["results"]
    assert traced["verdict"] == "flaky"
    assert second["nightly"]["trace"]["again"] == traced["cells"] and len(traced["cells"]) == 1
    assert "flaky" in nights.page and "tried again by the next night" in nights.page
    assert nightly_part.exit_code(second, "new")[0] == 0
    third = nights()
    assert third["counts"]["verified"] == 12
    assert [one["kind"] for one in third["nightly"]["changes"]] == ["fixed"]


def test_a_worker_that_dies_once_breaks_no_cell_that_worked(nights: Nights) -> None:
    nights()
    nights.write_lock(**{MID: "2.0.0"})
    died: list[str] = []

    def dies(stage: str, stack: str, packages: dict[str, str], job: dict[str, Any]) -> dict[str, Any] | None:
        if stage == "run" and stack == MID and not died:
            died.append(stack)
            return {"end": {"signal": 11, "name": "SIGSEGV"}}
        return None

    nights.world.answer = dies
    report = nights()
    assert died and report["counts"]["verified"] == 12
    assert report["nightly"]["counts"]["flaky"] == 1 and "Flaky: 1 cell" in nights.page


def test_what_was_ever_tried_is_tried_whatever_the_facts_say(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = SimpleNamespace(key="k", subject="s", because="b", change=None, state="unsupported", rule="r")
    against = SimpleNamespace(against=claim, claims=(), state="unsupported")
    nights()
    monkeypatch.setattr(predict.Predictor, "predict", lambda self, cell: against)
    work = pipeline.select(nights.work.project, group="nightly", expression=None)
    trying = nightly.trying(work, {work.cells[0].id: Evidence(status="verified", when=""),
                                   work.cells[1].id: Evidence(status="failed", when="")})  # fmt: skip
    assert [cell.attributes.retry for cell in trying["cells"][:2]] == [1, 0]
    insisting = replace(work, **trying)
    pipeline.foresee(insisting, machine.read(), nights.store, skip=True)
    assert set(insisting.against) == {cell.id for cell in work.cells[2:]}


# Budget, order, coverage ---------------------------------------------------------------------------------------------


def test_coverage_adds_up_until_all_is_done(nights: Nights) -> None:
    """Jobs of ten seconds in nights of a minute: each goes on where the one before ended, and none does a thing twice."""
    nights.world.seconds = 10
    reports: list[dict[str, Any]] = []
    while not reports or reports[-1]["left"]:
        out, _ = nights.say("--lock frozen --budget 60s --json", code=None)
        reports.append(json.loads(out))
        assert len(reports) < 20
    shares = [one["coverage"]["fresh"] for one in reports]
    assert len(reports) > 2 and shares == sorted(shares) and shares[0] < shares[-1]
    for one in reports:
        found = one["coverage"]
        assert found["fresh"] + found["stale"] + found["left"] + found["unreachable"] == found["pairs"] == 23
        assert found["cells_fresh"] + found["cells_left"] == found["cells"] == 12
    assert shares[-1] == 23 and not reports[-1]["left"]
    assert [night["fresh"] for night in reports[-1]["coverage"]["before"]] == shares[:-1][-9:]
    kept = nightly_keep.nights(nights.store, "group nightly", "nights")
    assert [night["coverage"]["fresh"] for night in kept] == shares
    did = [(stage, name, json.dumps(job, default=str, sort_keys=True)) for stage, name, job in nights.world.jobs]
    assert len(did) == len(set(did))


def test_a_budget_smaller_than_a_step_still_gets_on(nights: Nights) -> None:
    nights.world.seconds = 3600
    done = []
    for _ in range(3):
        nights.say("--lock frozen --budget 1s", code=4)
        done.append(len(nights.world.jobs) + len(nights.world.made))
    assert done[0] < done[1] < done[2]
    assert "the next night goes on there" in nights.page


def test_a_lock_that_takes_the_whole_budget_leaves_the_cells_half_of_it(nights: Nights) -> None:
    nights.answers_in = 1000
    report = nights("--budget 60s")
    assert report["counts"]["verified"] == 12 and report["nightly"]["lock"]["kept"]


def test_what_failed_and_what_changed_come_before_what_was_never_tried(nights: Nights) -> None:
    matrix = MATRIX.replace(", 1.22.0]", "]")
    nights.files.write("matrix.yaml", matrix)
    nights.world.answer = lambda stage, stack, packages, job: fails() if stage == "build" and stack == MID else None
    nights(code=1)
    nights.files.write("matrix.yaml", MATRIX)
    nights.write_lock(**{OLD: "1.26.3", MID: "1.26.3"})
    nights.world.jobs.clear()
    nights.world.answer = lambda stage, stack, packages, job: None
    nights()
    built = [name for stage, name, _ in nights.world.jobs if stage == "build"]
    assert built == [MID] * 4 + [OLD] * 4 + [NEW] * 4


def test_failures_find_their_component_the_next_night_when_there_was_no_time(nights: Nights) -> None:
    nights()
    nights.write_lock(**{MID: "2.0.0"})
    nights.world.answer = numpy2
    nights.world.seconds = 30
    second = nights("--lock frozen --budget 200s", code=1)
    (debt,) = second["nightly"]["trace"]["untraced"]
    assert len(debt["cells"]) == 4 and not [r for r in second["nightly"]["trace"]["results"] if r["verdict"] == "named"]
    assert "4 cells left for the next night" in nights.page
    third = nights(code=1)
    (traced,) = third["nightly"]["trace"]["results"]
    assert (traced["verdict"], traced["component"]) == ("named", "numpy 1.26.4 -> 2.0.0")
    assert not third["nightly"]["trace"]["untraced"] and "Traced now" in nights.page, "told although it is not new"
    assert f"numpy 1.26.4 -> 2.0.0 ({MID})" in third["said"]


def test_tracing_that_the_time_ends_is_gone_on_with(nights: Nights) -> None:
    first = nights()
    nights.write_lock(**{MID: "2.0.0"})
    nights.world.answer = numpy2
    second = nights(code=1)
    cells = [cell["id"] for cell in second["cells"] if cell["engine"]["id"] == MID]
    nights.world.seconds = 30
    shutil.rmtree(nights.folder / "artifacts" / "lab")
    debts = [{"old": first["run"]["id"], "new": second["run"]["id"], "cells": cells}]
    found = nightly_trace.trace(nights.work, debts, left=lambda: 1.0, say=lambda text: None)
    assert [one["verdict"] for one in found["results"]] == ["not traced"]
    assert [(one["old"], sorted(one["cells"])) for one in found["untraced"]] == [(first["run"]["id"], sorted(cells))]


class Chain:
    """As far as ordering reads it."""

    def __init__(self, name: str, waits: bool = True, **options: str) -> None:
        stack = SimpleNamespace(id=options.pop("stack", "s"))
        self.cell = SimpleNamespace(id=name, exporter=SimpleNamespace(id="x"), engine=stack, model="m", options=options)
        self.left_alone = False
        self._steps = [SimpleNamespace(wanted=waits)]

    def steps(self) -> list[Any]:
        return self._steps


def _order(chains: list[Chain], order: tuple[str, ...], known: dict[str, Evidence]) -> list[str]:
    return [chain.cell.id for chain in nightly_order.arranged(chains, order, known)]  # type: ignore[arg-type]


def test_the_order_of_work() -> None:
    known = {
        "young": Evidence(status="verified", when="2026-11-20"), "old": Evidence(status="verified", when="2026-11-02"),
        "bad": Evidence(status="crashed", when="2026-11-19"), "worse": Evidence(status="blocked", when="2026-11-18"),
        "done": Evidence(status="verified", when="2026-11-01"),
        "foreseen": Evidence(status="failed", when="2026-11-03", expected="expected"),
    }  # fmt: skip
    chains = [
        Chain("never", a="1", b="1"),
        Chain("young"),
        Chain("old"),
        Chain("bad"),
        Chain("worse"),
        Chain("foreseen"),
        Chain("done", waits=False),
    ]
    assert _order(chains, nightly_order.DEFAULT, known) == ["worse", "bad", "old", "foreseen", "young", "never"]
    assert _order(chains, ("oldest",), known) == ["never", "old", "foreseen", "worse", "bad", "young"]
    assert _order(chains, ("changed",), known)[-1] == "never" and _order(chains, (), known)[0] == "never"


def test_what_covers_most_is_tried_first_of_what_was_never_tried() -> None:
    names = [(a, b, c) for a in "12" for b in "12" for c in "12"]
    chains = [Chain("".join(name), a=name[0], b=name[1], c=name[2]) for name in names]
    found = _order(chains, ("uncovered",), {})
    at = dict(zip((chain.cell.id for chain in chains), sample.rows_of([chain.cell for chain in chains]), strict=True))  # type: ignore[misc]
    assert sorted(found) == sorted(at)
    for number in range(len(found)):
        before = [at[name] for name in found[:number]]
        gains = {name: sample.pairs([*before, at[name]]) - sample.pairs(before) for name in found[number:]}
        assert gains[found[number]] == max(gains.values()), "each holds the most pairs that those before it do not"
    done = [Chain(name, waits=False, a=name[0], b=name[1], c=name[2]) for name in found[:2]]
    rest = [chain for chain in chains if chain.cell.id not in found[:2]]
    told = {chain.cell.id: Evidence(status="verified", when="") for chain in done}
    assert set(_order([*done, *rest], ("uncovered",), told)[:2]) == set(found[2:4]), "on top of what is covered"


def test_what_the_first_cell_waits_for_comes_first_as_well(nights: Nights) -> None:
    nights.files.write("matrix.yaml", MATRIX.replace("opset: [13, 17]", "precision: [fp32, int8]"))
    nights.write_lock()
    work = pipeline.select(nights.work.project, group="nightly", expression=None)
    locked = lock.read(work.project.lock)
    assert locked is not None
    plan, _ = pipeline.planned(work, locked, machine.read(), nights.store)
    nightly_order.prioritise(plan, work.order, nights.store)
    for step in plan.todo():
        waits = [*step.needs, *([step.environment] if step.environment else [])]
        assert all(need.priority >= step.priority > 0 for need in waits), f"{step.kind} {step.name}"
    assert any(step.name.startswith("onnx-tools") and step.priority > 1 for step in plan.steps)


def test_evidence_is_the_newest_result_that_told_anything(nights: Nights) -> None:
    first = nights()
    nights.write_lock(**{MID: "1.26.3", OLD: "1.26.3", NEW: "1.26.3"})
    nights.world.seconds = 3600
    nights("--lock frozen --budget 1s", code=4)  # all of it left for want of time
    found = nightly_order.evidence(nights.store)
    when = {cell["id"]: cell["when"] for cell in first["cells"]}
    assert {name: one.when for name, one in found.items()} == when and len(found) == 12
    assert {one.status for one in found.values()} == {"verified"}


@given(
    st.lists(st.tuples(st.sampled_from(["verified", "failed", "left", "none"]), st.booleans()), min_size=8, max_size=8)
)
@settings(deadline=None)
def test_pairs_are_counted_once_as_the_best_that_is_known(cells: list[tuple[str, bool]]) -> None:
    names = [a + b + c for a in "12" for b in "12" for c in "12"]
    chains = [Chain(name, a=name[0], b=name[1], c=name[2]) for name in names]
    status = {"left": ("skipped", "late"), "none": ("unsupported", "a fact")}
    outcomes = [
        {"id": name, "status": status.get(s, (s, ""))[0], "reason": status.get(s, (s, ""))[1], "category": None}
        for name, (s, _) in zip(names, cells, strict=True)
    ]
    known = {name for name, (_, k) in zip(names, cells, strict=True) if k}
    found = nightly_coverage.coverage([c.cell for c in chains], outcomes, known, {"late"})  # type: ignore[misc]

    def pairs(chosen: set[str]) -> set[tuple[tuple[int, str], tuple[int, str]]]:
        return {((i, n[i]), (j, n[j])) for n in chosen for i in range(3) for j in range(i)}

    fresh = {o["id"] for o in outcomes if o["status"] in ("verified", "failed")}
    stale, left = known | fresh, known | fresh | {o["id"] for o in outcomes if o["reason"] == "late"}
    constant = 3 + 3 * len(
        {(i, n[i]) for n in names for i in range(3)}
    )  # exporter, engine and model, with all and each other
    any_fresh = constant - 3 * (6 - len({(i, n[i]) for n in fresh for i in range(3)})) if fresh else 0
    assert found.fresh == len(pairs(fresh)) + any_fresh
    assert found.pairs == len(pairs(set(names))) + constant
    assert found.fresh + found.stale + found.left + found.unreachable == found.pairs
    if not left:
        assert found.unreachable == found.pairs
    if stale == fresh:
        assert found.stale == 0
    assert found.cells_fresh == len(fresh) and found.cells_stale == len(stale - fresh)


# How it ends ---------------------------------------------------------------------------------------------------------


def test_exit_codes_by_policy(nights: Nights) -> None:
    nights.world.answer = lambda stage, stack, packages, job: fails() if stage == "build" and stack == MID else None
    nights("--lock frozen --fail-on new")  # nothing is new in the first night
    assert "Failing and not expected to, old and new: 4 cells" in nights.page
    nights("--lock frozen", code=1)
    nights("--lock frozen --fail-on failed", code=1)
    nights("--lock frozen --fail-on never")
    report = nights("--lock frozen --fail-on new")
    assert report["exit"] == {"code": 0, "policy": "new", "because": "as expected"}
    nights.write_lock(**{NEW: "2.0.0"})
    nights.world.answer = numpy2
    assert nights("--lock frozen --fail-on new", code=1)["exit"]["because"].startswith("4 cells got worse")


def test_an_expectation_past_its_date_is_red_and_named(nights: Nights) -> None:
    expect = 'expect:\n  - {match: {onnxruntime: 1.20.1}, fail: build-error, because: known, until: "UNTIL"}\ngroups:'
    nights.files.write("matrix.yaml", MATRIX.replace("groups:", expect.replace("UNTIL", "2999-01-01")))
    nights.world.answer = lambda stage, stack, packages, job: fails() if stage == "build" and stack == MID else None
    nights()
    nights.files.write("matrix.yaml", MATRIX.replace("groups:", expect.replace("UNTIL", "2020-01-01")))
    for policy in ("unexpected", "new"):
        report = nights(f"--lock frozen --fail-on {policy}", code=1)
        assert len(report["nightly"]["overdue"]) == 4 and report["run"]["steps"] == 0
        assert "Expectations past their date: 4 cells" in nights.page and "until 2020-01-01: known" in nights.page
    nights.world.answer = lambda stage, stack, packages, job: None
    nights.write_lock(**{MID: "1.26.3"})
    report = nights()
    assert len(report["nightly"]["expected-fixed"]) == 4 and "Expected to fail, and working: 4 cells" in nights.page


def test_an_interrupted_night_tells_what_it_has_and_the_next_goes_on(nights: Nights) -> None:
    def interrupt(stage: str, stack: str, packages: dict[str, str], job: dict[str, Any]) -> None:
        if len(nights.world.jobs) == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        if len(nights.world.jobs) >= 9:
            raise InfrastructureError("ended")

    nights.world.answer = interrupt
    first = nights(code=130)
    left = first["nightly"]["left"]
    assert left and "Left for the next night" in nights.page and "interrupted" in nights.page
    nights.world.answer = lambda stage, stack, packages, job: None
    second = nights()
    assert second["counts"]["verified"] == 12 and second["nightly"]["against"] == first["run"]["id"]
    assert second["nightly"]["counts"]["first"] >= len(left)


def test_a_second_night_at_once_does_nothing_and_says_so(nights: Nights) -> None:
    with (nights.store.root / "night").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        _, told = nights.say("--lock frozen", code=3)
    assert "another night is at work" in told and not nights.world.jobs
    nights()


def test_nights_can_be_merged_and_freed(nights: Nights, tmp_path: Path) -> None:
    nights()
    other = tmp_path / "other" / "artifacts"
    other.mkdir(parents=True)
    for path in (nights.folder / "artifacts").glob("results.sqlite*"):
        shutil.copy(path, other)
    for line in (f"merge {other}", "gc --keep-runs 0"):
        assert cli.main(["-f", str(nights.folder / "matrix.yaml"), *line.split()]) == 0
    assert len(nightly_keep.nights(nights.store, "group nightly", "nights")) == 1
    assert nights()["nightly"]["against"]


def test_a_night_of_the_portability_grid(nights: Nights) -> None:
    matrix = MATRIX.replace("groups:", "portability: all\ngroups:").replace("select: all", 'select: "built-on=*"')
    nights.files.write("matrix.yaml", matrix)
    report = nights()
    found = report["nightly"]["coverage"]
    assert report["selected"] == found["cells"] == 36 and found["fresh"] == found["pairs"] > 23


def test_a_night_in_parts_is_told_once_they_are_merged(nights: Nights, tmp_path: Path) -> None:
    first = nights()
    nights.write_lock(**{MID: "2.0.0"})
    nights.world.answer = numpy2
    file = str(nights.folder / "matrix.yaml")
    artifacts, here = nights.folder / "artifacts", tmp_path / "here"
    shutil.move(artifacts, here)
    parts = []
    for part in ("1-2", "2-2"):
        line = f"run --frozen --quiet --group nightly --jobs 1 --part {part.replace('-', '/')}"
        cli.main(["-f", file, *line.split()])
        parts.append(str(shutil.move(artifacts, tmp_path / part)))
    shutil.move(here, artifacts)
    assert cli.main(["-f", file, "merge", "--report", "--group", "nightly", *parts]) == 1
    report = nights("--tell --fail-on new", code=1)
    assert report["nightly"]["against"] == first["run"]["id"] and report["nightly"]["counts"]["new-failures"] == 4
    (traced,) = report["nightly"]["trace"]["results"]
    assert (traced["verdict"], traced["component"]) == ("named", "numpy 1.26.4 -> 2.0.0")
    assert "New failures: 4 cells" in nights.page and report["nightly"]["coverage"]["fresh"] == 23
    assert [night["id"] for night in nightly_keep.nights(nights.store, "group nightly", "nights")][-1] == report["run"][
        "id"
    ]


def test_bad_input_is_named(nights: Nights) -> None:
    assert "no report to tell of" in nights.say("--tell", code=2)[1]
    assert (
        cli.main(["-f", str(nights.folder / "matrix.yaml"), "run", "--frozen", "--quiet", "--select", "model=alpha"])
        == 0
    )
    assert "is of 'model=alpha', or of the matrix as it was" in nights.say("--tell", code=2)[1]
    assert "no group 'weekly' (there are: nightly)" in nights.say("--group weekly", code=2)[1]
    nights.files.write("matrix.yaml", MATRIX.replace("nightly:", "other:"))
    told = nights.say("", code=2)[1]
    assert "no group 'nightly'" in told and "order: [failed, changed, oldest, uncovered]" in told
    (nights.folder / "matrix.lock").write_text("{}")
    assert "matrix.lock" in nights.say("--group other", code=2)[1]


def test_the_page_goes_to_the_ci_systems_summary(
    nights: Nights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    nights()
    assert summary.read_text() == "before\n" + nights.page + "\n"
    (nights.folder / "matrix.lock").write_text("{}")
    nights.say("--lock frozen", code=2)
    assert "The night ended early" in summary.read_text() and "matrix.lock" in summary.read_text()
    nights.write_lock()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "none" / "summary.md"))
    assert "the summary is in the report's folder" in nights.say("--lock frozen")[1]


# The lock ------------------------------------------------------------------------------------------------------------


def test_a_refresh_moves_what_the_index_has_and_tells_it(nights: Nights) -> None:
    nights("--lock refresh")
    assert set(nights.asked) == set(nights.stacks())
    nights.index[MID] = {"numpy": "2.0.0"}
    nights.world.answer = numpy2
    report = nights("", code=1)
    part = report["nightly"]
    assert part["lock"]["moved"] == [{"stack": MID, "component": "numpy", "old": "1.26.4", "new": "2.0.0"}]
    assert part["trace"]["results"][0]["verdict"] == "named"
    assert f"numpy 1.26.4 -&gt; 2.0.0 \\({MID}\\)" in nights.page
    assert json.loads((nights.folder / "matrix.lock").read_text())["cutoff"] == part["lock"]["cutoff"]


def test_a_stack_whose_index_is_away_keeps_its_pins(nights: Nights) -> None:
    nights()
    nights.index = {MID: InfrastructureError(f"{MID}: no answer from the package index"), NEW: {"numpy": "1.26.9"},
                    OLD: PackageError(f"{OLD}: numpy<2 cannot be had", "")}  # fmt: skip
    before = json.loads((nights.folder / "matrix.lock").read_text())["stacks"]
    report = nights("", code=3)
    after = json.loads((nights.folder / "matrix.lock").read_text())["stacks"]
    assert after[MID]["packages"] == before[MID]["packages"] and after[MID]["cutoff"] == "2026-11-01T00:00:00Z"
    assert after[OLD]["packages"] == before[OLD]["packages"] and "numpy==1.26.9" in after[NEW]["packages"]
    kept = report["nightly"]["lock"]["kept"]
    assert set(kept) == {MID, OLD} and kept[MID] == "no answer from the package index"
    assert "numpy<2 cannot be had" in kept[OLD], "its own reason, and not that of its neighbour"
    assert report["counts"]["verified"] == 12 and "the lock could not be refreshed" in report["exit"]["because"]
    assert "not refreshed for 2 of 5 stacks" in nights.page


def test_a_night_without_a_network_runs_what_is_locked(nights: Nights) -> None:
    for name in nights.stacks():
        nights.index[name] = InfrastructureError(f"{name}: no answer from the package index")
    before = (nights.folder / "matrix.lock").read_bytes()
    report = nights("", code=3)
    assert (nights.folder / "matrix.lock").read_bytes() == before
    assert report["counts"]["verified"] == 12 and report["nightly"]["lock"]["moved"] == []


def test_an_index_that_is_away_is_not_asked_for_every_stack(nights: Nights) -> None:
    versions = ", ".join(f"1.2{minor}.{patch}" for minor in (0, 2) for patch in range(8))
    nights.files.write("matrix.yaml", MATRIX.replace("1.18.0, 1.20.1, 1.22.0", versions))
    nights.write_lock()
    for name in nights.stacks():
        nights.index[name] = InfrastructureError(f"{name}: no answer from the package index")
    found = nightly_lock.refresh(nights.work, machine.read(), frozenset(), seconds=None, say=lambda text: None)
    assert len(nights.asked) == nightly_lock.BATCH * nightly_lock.AWAY < found.stacks == len(found.kept)
    assert sum(why.startswith("not asked for: ") for why in found.kept.values()) == found.stacks - len(nights.asked)


def test_a_refresh_ends_with_its_time(nights: Nights) -> None:
    nights.index = {name: {"numpy": "1.26.9"} for name in nights.stacks()}
    found = nightly_lock.refresh(nights.work, machine.read(), frozenset(), seconds=-1, say=lambda text: None)
    assert not nights.asked and len(found.kept) == found.stacks == 5 and not found.moved
    assert set(found.kept.values()) == {"not asked for: the time for the lock was over"}


def test_the_models_that_are_locked_are_asked_for_as_well(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "source: {kind: package, name: weights, version: 1.0}\n"
    nights.files.recipe("alpha", specs.RECIPE + source)
    made = nights.write_lock()
    made.sources["weights==1.0"] = ("sha256:old",)
    (nights.folder / "matrix.lock").write_text(made.dumps())
    monkeypatch.setattr(sources, "resolve", lambda name, until: ("sha256:new",))
    found = nightly_lock.refresh(nights.work, machine.read(), frozenset(), seconds=None, say=lambda text: None)
    assert found.moved == [{"stack": "", "component": "weights==1.0 (data)", "old": "sha256:old", "new": "sha256:new"}]
    assert "sha256:new" in (nights.folder / "matrix.lock").read_text()


def test_where_not_even_a_model_is_answered_the_lock_stays_as_it_is(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.files.recipe("alpha", specs.RECIPE + "source: {kind: package, name: weights, version: 1.0}\n")
    nights.files.write(
        "matrix.yaml", MATRIX.replace("1.18.0, 1.20.1, ", "")
    )  # so few stacks that the model is asked for
    made = nights.write_lock()
    made.sources["weights==1.0"] = ("sha256:old",)
    (nights.folder / "matrix.lock").write_text(made.dumps())

    def away(name: str, until: str) -> tuple[str, ...]:
        asked.append(name)
        raise InfrastructureError(f"{name}: no answer from the package index")

    asked: list[str] = []
    monkeypatch.setattr(sources, "resolve", away)
    nights.index = {name: InfrastructureError(f"{name}: no answer from the package index") for name in nights.stacks()}
    nightly_lock.refresh(nights.work, machine.read(), frozenset(), seconds=None, say=lambda text: None)
    assert asked and (nights.folder / "matrix.lock").read_text() == made.dumps()


def test_a_lock_that_somebody_changes_meanwhile_stays_theirs(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    path = nights.folder / "matrix.lock"

    def meddling(stack: Any, cutoff: str) -> Any:
        path.write_text(path.read_text() + "\n")
        return nights.pins(stack, numpy="1.26.9")

    monkeypatch.setattr(uv, "resolve", meddling)
    found = nightly_lock.refresh(nights.work, machine.read(), frozenset(), seconds=None, say=lambda text: None)
    assert "changed by somebody else" in found.troubles[0] and "1.26.9" not in path.read_text() and not found.moved


# The page ------------------------------------------------------------------------------------------------------------


def _report(kinds: dict[str, list[int]], overdue: int, moved: int, kept: int, nasty: str) -> dict[str, Any]:
    """A report with so many groups (of so many cells) of each kind."""
    changes = [
        {
            "kind": kind, "cells": [f"{kind}{at}-{cell}" for cell in range(size)], "slugs": [f"slug{nasty}"] * min(size, 3),
            "became": f"verified -> failed at build: {nasty}", "status": "failed", "stage": "build", "category": "c",
            "line": nasty,
            "expected": "expected" if at % 2 else None, "remedy": f"take another {nasty}", "beside": [f"numpy {nasty}"] * 5,
            "unexplained": False, "since": "r",
        }
        for kind, sizes in kinds.items() for at, size in enumerate(sizes)
    ]  # fmt: skip
    cells = [
        {"id": f"o{at}", "expected": {"where": f"matrix.yaml:{at}:1", "fail": nasty, "because": nasty, "until": "2020-01-01"}}
        for at in range(overdue)
    ]  # fmt: skip
    coverage = {**dict.fromkeys(nightly_coverage.Coverage.__annotations__, 3), "pairs": 9, "before": []}
    lock = {"asked": "refresh", "cutoff": "c", "stacks": 9, "kept": {f"s{at}": nasty for at in range(kept)}, "troubles": [],
            "away": nasty if kept % 2 else None,
            "moved": [{"stack": nasty, "component": f"p{at}", "old": "1", "new": "2"} for at in range(moved)]}  # fmt: skip
    part = {
        "group": "nightly", "budget": 60.0, "seconds": 1.0, "against": "a", "run": "b", "asked": False, "backwards": True,
        "trace": {"results": [], "untraced": [{"old": "a", "new": "b", "cells": ["x"]}], "again": ["x"], "trouble": nasty},
        "counts": {kind: sum(sizes) for kind, sizes in kinds.items()}, "unchanged": 1, "beside": [nasty], "changes": changes,
        "red": {"cells": 1, "findings": 2, "title": nasty}, "overdue": [cell["id"] for cell in cells], "expected-fixed": [],
        "left": ["x"], "coverage": coverage, "lock": lock,
    }  # fmt: skip
    return {
        "run": {"started": "2026-11-20T01:00:00Z", "matrix": {"name": nasty}, "interrupted": False}, "selected": 3,
        "exit": {"code": 1, "policy": "new", "because": nasty}, "counts": dict.fromkeys(STATUSES, 1), "cells": cells,
        "nightly": part,
    }  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(nightly_part.TOLD), st.lists(st.integers(1, 5), min_size=1, max_size=30)),
    st.integers(0, 30), st.integers(0, 30), st.integers(0, 30),
    st.sampled_from(["", "x", "a\nb\n# c", "<script>" * 99, "|`*" * 400]),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_a_page_is_a_page(kinds: dict[str, list[int]], overdue: int, moved: int, kept: int, nasty: str) -> None:
    report = _report(kinds, overdue, moved, kept, nasty)
    page = nightly_words.markdown(report)
    assert len(page.splitlines()) <= nightly_words.LINES
    assert "<script>" not in page and "\n# c" not in page[1:]
    titles = [line for line in page.splitlines() if line.startswith("## ")]
    order = [nightly_words.NAMED[kind] for kind in nightly_words.BAD if kind in kinds]
    assert [title[3:].partition(":")[0] for title in titles[: len(order)]] == order
    for kind in kinds:  # each is told, with a cell or the place where they all are
        title = f"{nightly_words.NAMED[kind]}: "
        assert title in page
    assert "## Coverage of pairs" in page and "## Lock" in page and "## Left for the next night" in page
    shown = list(nightly_words.lines(report))
    assert all(len(line) <= 100 or "slug" in line for line in shown)


def test_a_page_that_has_all_there_can_be() -> None:
    report = _report({kind: [3] * 20 for kind in nightly_part.TOLD}, 20, 20, 21, "x" * 300)
    report["nightly"]["expected-fixed"] = report["nightly"]["overdue"]
    report["nightly"]["trace"]["results"] = [
        {"cells": ["z"], "verdict": "named", "component": "c", "stack": "s", "why": "w", "meaning": "m", "category": None,
         "line": "l", "remedy": "r", "slug": "slug"}
    ]  # fmt: skip
    page = nightly_words.markdown(report)
    assert len(page.splitlines()) <= nightly_words.LINES
    for title in (
        "New failures: 60 cells",
        "Traced now",
        "Expectations past",
        "Slower: 60 cells",
        "Expected to fail, and working",
    ):
        assert title in page


def test_of_a_crowd_the_unexpected_and_the_largest_come_first() -> None:
    page = nightly_words.markdown(_report({"new-failures": [1, 5, 2, 9, 3] * 5}, 0, 0, 0, "x"))
    sizes = [line[4:].partition(" ")[0] for line in page.splitlines() if line.startswith("- **") and "cell" in line]
    assert len(sizes) > 5 and sizes == sorted(sizes, reverse=True) and sizes[0] == "9", (
        "those of an even place are expected"
    )
    assert f"- and {25 - len(sizes)} more" in page
