"""Parts of a selection: each cell in one of them, the same ones on every machine, and about as long as each other."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import ROOT
from small import MATRIX, Small

from builder import ci_parts, ci_times, cli, pipeline
from builder.errors import UsageError
from builder.project import Project
from builder.store import Store


@pytest.fixture(scope="module")
def default() -> pipeline.Work:
    """This repository's own default group."""
    return pipeline.select(Project(matrix=ROOT / "matrix.yaml"), group="default", expression=None)


@pytest.fixture(scope="module")
def divided(default: pipeline.Work) -> ci_parts.Division:
    return ci_parts.Division(default, ci_times.Times())


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(1, 40))
def test_every_cell_is_in_one_part(divided: ci_parts.Division, number: int) -> None:
    parts = divided.parts(number)
    assert len(parts) == number
    found = [cell.id for part in parts for cell in part.cells]
    assert sorted(found) == sorted(cell.id for cell in divided.cells)
    order = {cell.id: place for place, cell in enumerate(divided.cells)}
    for part in parts:
        places = [order[cell.id] for cell in part.cells]
        assert places == sorted(places), "in the selection's order"


@pytest.mark.parametrize(("number", "least"), [(2, 0.05), (4, 0.1), (8, 0.2), (16, 0.3)])
def test_parts_end_together_and_share_what_saves_work(divided: ci_parts.Division, number: int, least: float) -> None:
    parts = divided.parts(number)
    longest, shortest = max(p.seconds for p in parts), min(p.seconds for p in parts)
    assert longest < 1.1 * shortest
    # Dealing cells out one by one makes every part build nearly every environment and export.
    turns = [set[int]().union(*divided.steps[at::number]) for at in range(number)]
    naive = sum(sum(divided.cost[step] for step in steps) for steps in turns) / 1000
    assert sum(part.seconds for part in parts) < (1 - least) * naive


def test_what_a_part_is_said_to_take_is_what_its_cells_need(divided: ci_parts.Division) -> None:
    place = {cell.id: at for at, cell in enumerate(divided.cells)}
    for part in divided.parts(5):
        steps = set[int]().union(*(divided.steps[place[cell.id]] for cell in part.cells))
        assert part.seconds == pytest.approx(sum(divided.cost[step] for step in steps) / 1000, rel=0.01)


def test_another_machine_divides_alike(default: pipeline.Work, divided: ci_parts.Division) -> None:
    """In another process (another seed of hashes), with a GPU and with a Docker engine."""
    code = f"""
import sys; sys.path[:0] = [{str(ROOT / "tests")!r}]
from dataclasses import replace
from pathlib import Path
from builder import ci_parts, machine, pipeline
from builder.environment import engine
from builder.project import Project
here = machine.read()
gpu = machine.Gpu(name="NVIDIA L4", compute_capability="8.9", memory=1, uuid="GPU-1")
machine.read = lambda: replace(here, cpu="other", gpus=(gpu,), driver="580.65")
engine.available = lambda: True
work = pipeline.select(Project(matrix=Path("matrix.yaml")), group="default", expression=None)
from builder.ci_times import Times
for part in ci_parts.Division(work, Times()).parts(7): print(*[cell.id for cell in part.cells])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "7"}, text=True,
        capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [" ".join(cell.id for cell in part.cells) for part in divided.parts(7)]


def test_past_times_move_the_work(tmp_path: Path) -> None:
    small = Small(tmp_path)
    slow = small.work.cells[0].engine.id
    quick = {step.name: 5.0 for step in small.plan()[0].steps if step.kind == "environment"}
    times = ci_times.Times(seconds={"environment": {**quick, slow: 3600.0}, "build": {"alpha engine": 60.0}})
    first, second = ci_parts.Division(small.work, times).parts(2)
    ids = [{cell.engine.id for cell in part.cells} for part in (first, second)]
    assert ids in ([{slow}, ids[1]], [ids[0], {slow}]), "an hour's environment is made once"
    assert max(first.seconds, second.seconds) < 3600 + 300


def test_more_parts_than_work_leaves_some_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = Small(tmp_path)
    sizes = [len(part.cells) for part in ci_parts.parts(small.work, 9)]
    assert sum(sizes) == 4 and sizes.count(0) == 5
    empty = sizes.index(0) + 1
    assert cli.main(["-f", str(tmp_path / "matrix.yaml"), "run", "--group", "all", "--part", f"{empty}/9"]) == 0
    assert "this part has no cell" in capsys.readouterr().out


def test_no_cell_has_no_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = Small(tmp_path)
    assert [part.cells for part in ci_parts.Division(replace(small.work, cells=())).parts(2)] == [(), ()]
    matrix = str(tmp_path / "matrix.yaml")
    assert cli.main(["-f", matrix, "run", "--select", "onnxruntime<1", "--part", "1/1"]) == 2
    assert "no cell fits" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["", "3", "0/3", "4/3", "1/257", "1/0", "-1/3", "1/3x", "a/b", "1/3/4", "1 /3", "\u0663/\u0664"]
)
def test_what_is_no_part_is_said(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no part: write 3/12"):
        ci_parts.parse(text)


@pytest.mark.parametrize("select", ["status=failed", "not (model=alpha and status!=verified)", "again", "sampled"])
def test_what_follows_from_results_has_no_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], select: str
) -> None:
    small = Small(tmp_path)
    groups = "groups:\n  red: status=failed\n  again: red or model=beta\n"
    groups += "  sampled: {select: all, sample: {strategy: pairwise, seed: 1, always: red}}\n"
    small.files.write("matrix.yaml", MATRIX + groups)
    matrix = str(tmp_path / "matrix.yaml")
    assert cli.main(["-f", matrix, "run", "--select", select, "--part", "1/2"]) == 2
    assert "not the same everywhere" in capsys.readouterr().err
    assert cli.main(["-f", matrix, "run", "--failed", "--part", "1/2"]) == 2
    assert "no parts" in capsys.readouterr().err


# Times ---------------------------------------------------------------------------------------------------------------


def test_times_are_learnt_from_what_is_stored_on_any_machine(tmp_path: Path) -> None:
    small = Small(tmp_path)
    store = small.run("1")
    plan, _ = small.plan()
    rows = [(kind, name, 7.0 if kind == "build" else seconds) for kind, name, seconds in
            store.read("select kind, name, seconds from steps")]  # fmt: skip
    times = ci_times.learn(plan.steps, [*rows, ("build", "of a stack that is gone", 99.0)])
    learnt = times.seconds["build"]  # the models' files are alike, so that either's cell builds for both
    assert set(learnt.values()) == {7.0} and learnt.keys() <= {"alpha engine", "beta engine"}
    assert set(times.seconds["environment"]) == {step.name for step in plan.steps if step.kind == "environment"}
    ci_times.save(tmp_path / "matrix.yaml", times)
    assert ci_times.read(tmp_path / "matrix.yaml") == times
    build = next(step for step in plan.steps if step.kind == "build")
    assert times.of(build) == 7.0
    assert ci_times.Times(seconds={"build": {"other": 3.0}}).of(build) == 3.0, "like the others of its kind"
    assert ci_times.Times().of(build) == ci_times.ESTIMATE["build"]


def test_every_kind_of_step_has_an_estimate() -> None:
    from builder.plan import KINDS

    assert set(ci_times.ESTIMATE) == set(KINDS)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"schema": 2, "seconds": {}}', '{"schema": 1, "seconds": {"cook": {}}}',
     '{"schema": 1, "seconds": {"build": [1]}}', '{"schema": 1, "seconds": {"build": {"a": -1}}}',
     '{"schema": 1, "seconds": {"build": {"a": true}}}', '{"schema": 1, "seconds": {"build": {"a": NaN}}}'],
)  # fmt: skip
def test_a_file_that_has_no_times_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "matrix.times.json").write_text(content)
    with pytest.raises(UsageError, match=r"matrix\.times\.json.*writes it anew"):
        ci_times.read(tmp_path / "matrix.yaml")


def test_a_store_that_knows_nothing_gives_no_times(tmp_path: Path) -> None:
    small = Small(tmp_path)
    plan, store = small.plan()
    assert isinstance(store, Store)
    assert ci_times.learn(plan.steps, []).seconds == {}


def test_changed_follows_from_results_too(tmp_path: Path) -> None:
    groups = Small(tmp_path).work.spec.groups
    assert ci_parts.from_results("model=alpha or changed", groups) == "changed"
    assert ci_parts.from_results("model=alpha", groups) == ""
