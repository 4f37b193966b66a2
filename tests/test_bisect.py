"""Bisection over the releases of the catalog finds exactly the planted one, with no more runs than it takes, and remembers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from planted import CUTOFF, Planted, fails, pins

from builder import bisect_timing, cli, facts, lock, versions
from builder.bisect_locks import short
from builder.bisect_search import bound
from builder.environment import uv
from builder.environment.uv import PackageError
from builder.errors import InfrastructureError
from builder.lock import Pins
from builder.store import Store
from builder.trace_lab import Lab
from builder.values import Stack

MATRIX = """
schema: 1
name: bisect
exporters:
  onnx: {family: source, onnx: 1.20.1}
engines:
  ort: {family: engine, onnxruntime: [1.16.3, 1.31.1]}
axes:
  model: [alpha, beta]
  opset: [13, 17]
groups: {some: "model=alpha and opset=17"}
"""
KNOWN = facts.releases()["onnxruntime"]
AT = ("bisect", "--model", "alpha", "--axis", "onnxruntime", "--where", "opset=17")


class Index:
    """A package index: stacks that it has nothing for, and how often it was asked."""

    def __init__(self) -> None:
        self.without: dict[tuple[str, str], str] = {}
        """(release, Python) -> why."""
        self.asked: list[str] = []
        self.away = False

    def resolve(self, stack: Stack, cutoff: str) -> Pins:
        self.asked.append(stack.id)
        if self.away:
            raise InfrastructureError("no answer from the package index")
        release = stack.fields["onnxruntime"]
        if why := self.without.get((release, stack.python)):
            raise PackageError(
                f"{stack.id}: Because {why} and you require it, we can conclude that they are unsatisfiable.", why
            )
        return pins(stack, {"onnxruntime": release})


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Index:
    index = Index()
    monkeypatch.setattr(uv, "resolve", index.resolve)
    return index


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Index) -> Planted:
    return Planted(tmp_path / "project", MATRIX, monkeypatch)


def bad(planted: Planted, where: Callable[[str], bool], answer: Callable[[], dict[str, Any]] = fails) -> None:
    """These releases do not work."""

    def say(stage: str, packages: Mapping[str, str], job: dict[str, Any], folder: Path) -> dict[str, Any] | None:
        return (
            answer()
            if stage == "run" and where(packages.get("onnxruntime", "")) and "onnxruntime" in packages
            else None
        )

    planted.answer = say


def tried(planted: Planted) -> list[str]:
    """The releases that an engine was built with since the last look."""
    found = [stack for stage, stack in planted.jobs if stage == "build"]
    planted.jobs.clear()
    return found


def between(low: str, high: str) -> list[str]:
    return [value for value in versions.ordered(KNOWN) if versions.matches(f">{low},<{high}", value)]


@pytest.mark.parametrize("first", ["1.17.0", "1.24.2", "1.31.1"])
def test_the_planted_release_is_found_within_the_bound_and_remembered(planted: Planted, first: str) -> None:
    bad(planted, lambda release: versions.matches(f">={first}", release))
    planted.run(code=1)
    store = Store(planted.project.artifacts)
    before = [store.read(f"select * from {table} order by 1, 2") for table in ("runs", "results", "outcomes", "steps")]
    planted.jobs.clear()
    found = planted.json(*AT)
    last = versions.ordered(KNOWN)[versions.ordered(KNOWN).index(first) - 1]
    assert found["boundary"] == {"good": last, "bad": first, "kind": "breaks", "between": []}
    assert found["sentence"].startswith(
        f"onnxruntime {first} is the first release that fails, {last} the last that works"
    )
    assert ("was tried on Python 3.11" in found["sentence"]) == (last == "1.16.3"), (
        "its Python goes along with a release"
    )
    assert len(tried(planted)) == found["runs"] <= bound(len(between("1.16.3", "1.31.1")))
    assert found["monotone"] and found["others"] == []
    after = [store.read(f"select * from {table} order by 1, 2") for table in ("runs", "results", "outcomes", "steps")]
    assert before == after, "history has the matrix's cells alone"
    again = planted.json(*AT)
    assert (again["runs"], again["steps"], tried(planted)) == (0, 0, [])
    assert again["boundary"] == found["boundary"]
    told = {one["release"]: one["source"] for one in again["tried"]}
    assert set(told.values()) == {"stored"}


def test_without_results_the_ends_are_tried_and_a_release_that_mends_is_found(planted: Planted) -> None:
    bad(planted, lambda release: versions.matches("<1.20.0", release))
    found = planted.json(*AT)
    assert found["boundary"] == {"good": "1.20.0", "bad": "1.19.2", "kind": "mended", "between": []}
    assert {KNOWN[0], KNOWN[-1]} <= {one["release"] for one in found["tried"]}
    assert found["runs"] <= 2 + bound(len(KNOWN))
    assert "1.20.0 is the first release that works, 1.19.2 the last that fails" in planted(*AT)


def test_what_cannot_be_installed_is_passed_over_and_named(planted: Planted, index: Index) -> None:
    bad(planted, lambda release: versions.matches(">=1.22.0", release))
    gone = ("1.21.1", "1.22.0")
    for release in gone:
        for python in ("3.10", "3.11", "3.12", "3.13"):
            index.without[release, python] = f"onnxruntime=={release} has no usable wheels"
    found = planted.json(*AT, "--good", "1.21.0", "--bad", "1.23.0")
    boundary = found["boundary"]
    assert (boundary["good"], boundary["bad"]) == ("1.21.0", "1.22.1")
    assert [one["release"] for one in boundary["between"]] == list(gone)
    assert boundary["between"][0]["why"] == "cannot be installed: onnxruntime==1.21.1 has no usable wheels"
    asked = list(index.asked)
    planted(*AT, "--good", "1.21.0", "--bad", "1.23.0")
    assert index.asked == asked, "what cannot be installed is remembered"


def test_a_release_without_files_for_its_python_moves_to_another(planted: Planted, index: Index) -> None:
    bad(planted, lambda release: versions.matches("<1.14.1", release))
    for release in KNOWN:
        if versions.matches("<1.15", release):
            index.without[release, "3.11"] = f"onnxruntime=={release} has no wheels for cp311"
    found = planted.json(*AT, "--good", "1.16.3", "--bad", "1.13.1")
    assert (found["boundary"]["bad"], found["boundary"]["good"]) == ("1.14.0", "1.14.1")
    stacks = {one["release"]: (one["stack"], one["python"]) for one in found["tried"] if one["verdict"] != "nothing"}
    assert stacks["1.14.1"] == ("engine-onnxruntime1.14.1-py3.10", "3.10")
    assert "1.14.1: not on Python 3.11; tried on 3.10" in planted.said


def test_a_python_that_the_matrix_fixes_is_not_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Index
) -> None:
    text = MATRIX.replace("onnxruntime: [1.16.3, 1.31.1]}", 'onnxruntime: [1.16.3, 1.31.1], python: "3.11"}')
    planted = Planted(tmp_path / "fixed", text, monkeypatch)
    index.without["1.13.1", "3.11"] = "onnxruntime==1.13.1 has no wheels for cp311"
    planted(*AT, "--good", "1.16.3", "--bad", "1.13.1", code=2)
    assert "--bad 1.13.1 says nothing: cannot be installed" in planted.said
    assert index.asked == ["engine-onnxruntime1.13.1-py3.11"]


def test_what_is_stored_contradicts_a_single_change(planted: Planted) -> None:
    """1.16.3 and the twenties do not work, all others do: what is found is said not to be all."""
    bad(planted, lambda release: versions.matches(">=1.20,<1.30", release) or release == "1.16.3")
    planted.run(code=1)
    whole = planted.json(*AT, "--all")
    kinds = {(one["bad"], one["good"], one["kind"]) for one in (*whole["others"], whole["boundary"])}
    assert kinds == {
        ("1.16.3", "1.16.2", "breaks"), ("1.16.3", "1.17.0", "mended"), ("1.20.0", "1.19.2", "breaks"),
        ("1.29.0", "1.30.0", "mended"),
    }  # fmt: skip
    assert not whole["monotone"] and "not the only change" in whole["sentence"]
    assert whole["not_tried"] == 0
    planted.jobs.clear()
    part = planted.json(*AT)
    assert tried(planted) == [] and part["boundary"]["good"] == "1.30.0" and not part["monotone"]


def test_another_failure_than_the_one_that_is_asked_about_says_nothing(planted: Planted) -> None:
    def say(stage: str, packages: Mapping[str, str], job: dict[str, Any], folder: Path) -> dict[str, Any] | None:
        release = packages.get("onnxruntime", "")
        if stage == "run" and release and versions.matches(">=1.26", release):
            return {"end": {"signal": 11, "name": "SIGSEGV"}}
        return fails() if stage == "run" and release and versions.matches(">=1.24.1,<1.26", release) else None

    planted.answer = say
    plain = planted.json(*AT, "--good", "1.20.0", "--bad", "1.31.1")
    assert (plain["boundary"]["good"], plain["boundary"]["bad"]) == ("1.23.2", "1.24.1")
    found = planted.json(*AT, "--good", "1.20.0", "--bad", "1.31.1", "--category", "crashed")
    assert (found["boundary"]["good"], found["boundary"]["bad"]) == ("1.23.2", "1.26.0")
    assert all("fails otherwise" in one["why"] for one in found["boundary"]["between"])
    assert len(found["boundary"]["between"]) == len(between("1.23.2", "1.26.0"))


def test_wrong_numbers_are_told_from_failures(planted: Planted) -> None:
    wrong = {"comparison": {"verdict": "mismatch", "reason": "off", "tolerance": {}, "outputs": [], "metric": None},
             "found": {}, "degraded": []}  # fmt: skip

    def say(stage: str, packages: Mapping[str, str], job: dict[str, Any], folder: Path) -> dict[str, Any] | None:
        release = packages.get("onnxruntime", "")
        if stage == "run" and release and versions.matches("<1.17", release):
            return fails()
        return wrong if stage == "run" and release and versions.matches(">=1.22", release) else None

    planted.answer = say
    found = planted.json(*AT, "--for", "mismatch", "--bad", "1.31.1")
    assert (found["boundary"]["good"], found["boundary"]["bad"]) == ("1.21.1", "1.22.0")


def test_infrastructure_is_no_evidence(planted: Planted, index: Index) -> None:
    bad(planted, lambda release: versions.matches(">=1.24", release))
    planted.run(code=1)
    index.away = True
    found = planted.json(*AT, code=3)
    assert all(one["infrastructure"] for one in found["boundary"]["between"])
    assert len(found["boundary"]["between"]) == len(between("1.16.3", "1.31.1"))
    index.away = False
    assert planted.json(*AT)["boundary"]["bad"] == "1.24.1", "and is not remembered"


def test_a_budget_ends_it_and_the_next_call_goes_on(planted: Planted) -> None:
    bad(planted, lambda release: versions.matches(">=1.24", release))
    planted.run(code=1)
    assert "goes on from here" in planted(*AT, "--budget", "0.000001s", code=4)
    assert planted.json(*AT)["boundary"]["bad"] == "1.24.1"


def test_a_budget_that_ends_on_the_way_says_how_far_it_came(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    bad(planted, lambda release: versions.matches(">=1.24", release))
    planted.run(code=1)
    monkeypatch.setattr(Lab, "over", property(lambda lab: lab.ran > 0))
    found = planted.json(*AT, code=4)
    assert found["boundary"] is None and found["runs"] == 1
    low, high = found["bracket"]
    assert versions.matches(">=1.16.3,<1.24", low) and versions.matches(">=1.24,<1.31.1", high) or high == "1.31.1"
    assert f"{low} is good, {high} bad" in found["sentence"]


def test_a_release_that_is_younger_than_the_lock_is_resolved_as_of_today(
    planted: Planted, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    cutoffs: list[str] = []

    def resolve(stack: Stack, cutoff: str) -> Pins:
        cutoffs.append(cutoff)
        if cutoff == CUTOFF:
            raise PackageError("no such version", "hint: 1.30.0 was filtered by `exclude-newer`")
        return index.resolve(stack, cutoff)

    monkeypatch.setattr(uv, "resolve", resolve)
    bad(planted, lambda release: versions.matches(">=1.30", release))
    found = planted.json(*AT, "--good", "1.29.0", "--bad", "1.30.0")
    assert (found["boundary"]["bad"], found["boundary"]["between"]) == ("1.30.0", [])
    assert len(cutoffs) == 4 and cutoffs[0] == cutoffs[2] == CUTOFF < cutoffs[1]
    kept = lock.read(planted.project.artifacts / "lab" / "bisect.lock")
    assert kept is not None and {pins.cutoff for pins in kept.stacks.values()} == {*cutoffs} - {CUTOFF}


def test_what_could_not_be_had_is_asked_for_again_once_the_lock_is_younger(planted: Planted, index: Index) -> None:
    for python in ("3.10", "3.11", "3.12", "3.13", "3.14"):
        index.without["1.30.0", python] = "there is no version of onnxruntime==1.30.0"
    bad(planted, lambda release: versions.matches(">=1.30", release))
    first = planted.json(*AT, "--good", "1.29.0", "--bad", "1.31.1")
    assert [one["release"] for one in first["boundary"]["between"]] == ["1.30.0", "1.31.0"][:1]
    index.without.clear()
    text = planted.project.lock.read_text()
    planted.project.lock.write_text(text.replace(CUTOFF, "2026-12-01T00:00:00Z"))
    assert planted.json(*AT, "--good", "1.29.0", "--bad", "1.31.1")["boundary"]["bad"] == "1.30.0"


def test_what_the_lock_lacks_besides_is_told_at_once(planted: Planted, index: Index) -> None:
    planted.project.lock.unlink()
    planted(*AT, code=2)
    assert "no entry for source-onnx1.20.1-py3.12" in planted.said and "enginematrix lock" in planted.said
    assert index.asked == [] and planted.jobs == []


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("a-1: Because a==1 has no wheels with a matching Python ABI tag (e.g., `cp311`) and you require a==1, we can conclude "
         "that your requirements are unsatisfiable.", "a==1 has no wheels with a matching Python ABI tag (e.g., `cp311`)"),
        ("a-1: Because b>=2 depends on c>=4 and a==1 depends on c<4, we can conclude that a==1 and b>=2 are.\n\nhint",
         "b>=2 depends on c>=4 and a==1 depends on c<4"),
        ("no address of it", "no address of it"), ("", ""),
    ],
)  # fmt: skip
def test_what_uv_says_is_told_without_what_it_concludes(reason: str, told: str) -> None:
    assert short(reason) == told


def test_nothing_to_find_is_said(planted: Planted) -> None:
    assert "every release that was tried works" in planted(*AT, code=1)
    bad(planted, lambda release: True)
    shutil.rmtree(planted.project.artifacts)
    assert "every release that was tried fails" in planted(*AT, code=1)


def test_a_constraint_of_the_matrix_holds_for_releases_that_it_does_not_hold(planted: Planted) -> None:
    text = (
        MATRIX
        + 'constraints:\n  - {never: {onnxruntime: ">=1.24,<1.30", opset: 17}, because: broken files, optional: true}\n'
    )
    planted.files.write("matrix.yaml", text)
    bad(planted, lambda release: versions.matches(">=1.24", release))
    found = planted.json(*AT)
    assert found["boundary"]["bad"] == "1.30.0"
    gap = found["boundary"]["between"]
    assert len(gap) == len(between("1.23.2", "1.30.0")) and all("constraints" in one["why"] for one in gap)


def test_a_release_can_be_tried_by_itself(planted: Planted) -> None:
    bad(planted, lambda release: versions.matches(">=1.24", release))
    found = planted.json(*AT, "--good", "1.23.0", "--bad", "1.24.3")
    assert found["command"].endswith("--try 1.24.1")
    where = found["command"].split("--where ")[1].split(" --try")[0].strip("'")
    planted.jobs.clear()
    text = planted("bisect", "--model", "alpha", "--axis", "onnxruntime", "--where", where, "--try", "1.24.1", code=1)
    assert "no kernel for GridSample" in text and tried(planted) == ["engine-onnxruntime1.24.1-py3.12"]
    in_matrix = planted.json(*AT, "--good", "1.16.3", "--bad", "1.31.1", "--all")
    assert in_matrix["boundary"]["bad"] == "1.24.1"


def test_a_slowdown_is_found_by_its_interval(planted: Planted) -> None:
    def say(stage: str, packages: Mapping[str, str], job: dict[str, Any], folder: Path) -> dict[str, Any] | None:
        if stage != "measure":
            return None
        seconds = 0.013 if versions.matches(">=1.23.1", packages["onnxruntime"]) else 0.010
        (folder / "samples.json").write_text(
            json.dumps({"unit": "s", "windows": [[seconds, seconds * 1.01, seconds * 0.99]]})
        )
        return {"settled": True, "median": seconds, "p90": None, "p99": None, "windows": [{"median": seconds, "runs": 3}],
                "samples": 3, "samples_file": "samples.json"}  # fmt: skip

    planted.answer = say
    arguments = (*AT, "--for", "slowdown")
    found = planted.json(*arguments, "--bad", "1.31.1")
    assert (found["boundary"]["good"], found["boundary"]["bad"]) == ("1.23.0", "1.23.1")
    timing = next(one["timing"] for one in found["tried"] if one["release"] == "1.23.1")
    assert timing["low"] > 1.2 and timing["ratio"] == pytest.approx(1.3, rel=0.05)
    assert "1.16.3 is the oldest release of the matrix that works" in planted.said
    planted.jobs.clear()
    assert planted.json(*arguments, "--bad", "1.31.1")["boundary"] == found["boundary"]
    assert planted.jobs == []
    assert "every release that was tried is as fast" in planted(*arguments, "--threshold", "0.5", code=1)
    lab = planted.project.artifacts / "lab" / "objects"
    assert not list(lab.rglob("*.plan")), "engines that nothing needs any more are gone"


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.70, 0.80, "bad"), (0.95, 1.05, "good"), (0.85, 0.99, "nothing"), (1.2, 1.3, "good")]
)
def test_an_interval_across_the_threshold_says_nothing(low: float, high: float, verdict: str) -> None:
    found = bisect_timing.judge({"ratio": (low + high) / 2, "low": low, "high": high, "rounds": 8}, 0.10)
    assert found.verdict == verdict
    assert found.low == pytest.approx(1 / high) and found.high == pytest.approx(1 / low)


def test_the_threshold_that_the_help_says_is_the_one_that_counts() -> None:
    options = cli._parser().parse_args(["bisect", "--model", "m", "--axis", "a"])
    assert options.threshold == bisect_timing.THRESHOLD


def test_an_option_with_an_order_is_bisected_over_its_values(planted: Planted) -> None:
    planted.answer = lambda stage, packages, job, folder: (
        fails() if stage == "build" and "17" in Path(job["model"]).read_text() else None
    )
    found = planted.json("bisect", "--model", "beta", "--axis", "opset", "--where", "onnxruntime=1.31.1")
    assert found["boundary"] == {"good": "13", "bad": "17", "kind": "breaks", "between": []}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--model alphaa --axis onnxruntime", "perhaps 'alpha'"),
        ("--model alpha,beta --axis onnxruntime", "no model or suite of this matrix"),
        ("--model alpha --axis onnxruntim", "perhaps 'onnxruntime'"),
        ("--model alpha --axis model", "not an axis with an order"),
        ("--model alpha --axis engine", "not a component with versions"),
        ("--model alpha --axis onnxruntime --where opset=99", "opset"),
        ("--model alpha --axis opset --good 15", "no value of opset"),
        ("--model alpha --axis onnxruntime --good 1.16.3 --bad 1.16.3", "the same release"),
        ("--model alpha --axis onnxruntime --category crashed --for mismatch", "--category is for"),
        ("--model alpha --axis onnxruntime --bad 1.16.3", "--bad 1.16.3 is good"),
        ("--model alpha --axis onnxruntime --good ../../etc", "cannot be a value"),
    ],
)  # fmt: skip
def test_bad_input_is_told(planted: Planted, arguments: str, words: str) -> None:
    planted("bisect", *arguments.split(), code=2)
    assert words in planted.said
