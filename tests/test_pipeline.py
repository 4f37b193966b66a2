"""The program on one page, where stacks are realised in two ways: whole runs with fake workers."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import stacks
from teams import MATRIX, NEW, NGC, OLD, ONNX, Engine, Team, Workers, work_with

from builder import cli, collector, errors, locking, pipeline
from builder.environment import container, room
from builder.environment import engine as engine_module
from builder.environment import images as images_module
from builder.environment.images import DockerImage
from builder.errors import InfrastructureError
from builder.isolation import Isolation
from builder.lock import Image, Lock
from builder.project import Project
from builder.report import known

TOOLS = "onnx-tools-onnxruntime1.31.1-py3.12"
#: Somebody to ask, as far as files tell; nobody who answers.
SOMEWHERE = "tcp://127.0.0.1:1"


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    made = Workers()
    work_with(made, monkeypatch)
    return made


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("DOCKER_HOST", SOMEWHERE)
    return Engine(monkeypatch)


@pytest.fixture
def team(tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: Engine, workers: Workers) -> Team:
    return Team(tmp_path, capsys)


def run(team: Team, options: str = "", code: int = 0) -> dict[str, dict[str, Any]]:
    """The cells of a run, by engine."""
    out, _ = team(f"run --quiet --json {options}", code)
    return {cell["engine"]["id"]: cell for cell in json.loads(out)["cells"]}


def built(team: Team) -> None:
    """As a run leaves it whose workers were in containers."""
    team("images build")


# Evidence ------------------------------------------------------------------------------------------------------------


def test_a_result_of_one_way_is_none_of_the_other(team: Team, workers: Workers) -> None:
    venv = run(team, "--isolation venv")
    assert (venv[OLD]["status"], venv[OLD]["isolation"]) == ("verified", {"engine": "venv", "exporter": "venv"})
    jobs = len(workers.jobs)
    docker = run(team, "--isolation docker")
    assert (docker[OLD]["status"], docker[OLD]["isolation"]) == ("verified", {"engine": "docker", "exporter": "docker"})
    assert len(workers.jobs) == 2 * jobs, "each was really run"
    assert docker[OLD]["image"]["tag"] == "t" and venv[OLD]["image"] is None
    run(team, "--isolation venv")
    run(team, "--isolation docker")
    assert len(workers.jobs) == 2 * jobs, "and once"


def test_an_image_that_nobody_could_lock_is_not_verified_by_its_virtual_environment(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> Lock:
        raise InfrastructureError("registry.example.com does not answer")

    run(team, "--isolation venv")
    team.lock.images.clear()
    team.save()
    monkeypatch.setattr(locking, "ensure_locked", away)
    found = run(team, "--isolation docker", code=errors.EXIT_INFRASTRUCTURE)
    assert {(found[name]["status"], found[name]["category"]) for name in (OLD, NEW)} == {("blocked", "infrastructure")}
    assert "does not answer" in found[OLD]["line"]
    out, _ = team("report --isolation docker --json")
    assert "verified" not in {cell["status"] for cell in json.loads(out)["cells"]}


def test_no_engine_and_no_room_are_reasons_to_skip(
    team: Team, engine: Engine, monkeypatch: pytest.MonkeyPatch, workers: Workers
) -> None:
    engine.free = 0
    found = run(team, "--isolation docker")
    assert found[OLD]["status"] == "skipped" and "of disk for docker.io/library/python" in found[OLD]["reason"]
    assert workers.jobs == [] == engine.calls
    monkeypatch.setenv("DOCKER_HOST", f"unix://{team.folder}/nothing")
    assert "needs a Docker engine" in run(team, "--isolation docker")[OLD]["reason"]
    engine.free = None
    monkeypatch.setenv("DOCKER_HOST", SOMEWHERE)
    assert run(team, "--isolation docker")[OLD]["status"] == "verified", "a skip is not kept"


# The lock ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "host", "anywhere", "here"),
    [
        (None, SOMEWHERE, {NGC}, {NGC}), (None, "unix:///nothing", {NGC}, set()),
        ("venv", SOMEWHERE, {NGC}, set()), ("docker", SOMEWHERE, {NGC, ONNX, OLD, NEW, TOOLS}, {NGC, ONNX, OLD, NEW, TOOLS}),
        ("docker", "unix:///nothing", {NGC, ONNX, OLD, NEW, TOOLS}, set()),
    ],
)  # fmt: skip
def test_a_lock_is_for_all_machines_and_a_run_for_this_one(
    team: Team, monkeypatch: pytest.MonkeyPatch, asked: Isolation | None, host: str, anywhere: set[str], here: set[str]
) -> None:
    """A run in virtual environments must not ask nvcr.io, and `--frozen` must not fail for want of its images."""
    monkeypatch.setenv("DOCKER_HOST", host)
    work = pipeline.select(Project(matrix=team.folder / "matrix.yaml"), group="all", expression=None, asked=asked)
    assert pipeline.in_docker(work) == anywhere
    assert pipeline.in_docker(work, here=True) == here


def test_frozen_says_how_to_lock_what_was_asked_for(team: Team) -> None:
    team.lock.images.clear()
    team.save()
    assert run(team, "--isolation venv --frozen")[OLD]["status"] == "verified"
    _, err = team("run --isolation docker --frozen", errors.EXIT_USAGE)
    assert "run `enginematrix lock --isolation docker` and commit the file" in err


# Planning ------------------------------------------------------------------------------------------------------------


def test_a_plan_says_what_must_be_pulled(team: Team, engine: Engine) -> None:
    found = json.loads(team("plan --isolation docker --json")[0])
    assert [entry["stack"] for entry in found["images"]] == [ONNX, OLD, NEW]
    first = found["images"][0]
    assert first == {
        "stack": ONNX, "base": "docker.io/library/python:3.12-slim-bookworm", "platform": "linux/amd64", "size": 1, "pull": 1,
        "disk": 3, "driver": "", "refused": "",
    }  # fmt: skip
    assert found["images"][1]["pull"] == 0, "they share the base"
    ways = {cell["engine"]["id"]: cell["isolation"] for cell in found["cells"]}
    assert ways[OLD] == {"engine": "docker", "exporter": "docker"}
    text = team("plan --isolation docker")[0]
    assert f"image: {ONNX}: docker.io/library/python:3.12-slim-bookworm (linux/amd64): 0 MB to pull" in text
    engine.free = 0
    found = json.loads(team("plan --isolation docker --json")[0])
    assert found["steps"] == [] and all(entry["refused"] for entry in found["images"])
    assert "docker system df" in team("plan --isolation docker")[0]


def test_a_plan_says_what_is_not_locked(team: Team) -> None:
    team.lock.images.clear()
    team.save()
    assert f"not in the lock: {ONNX}, {OLD}, {NEW}; `enginematrix lock --isolation docker` pins them" in team(
        "plan --isolation docker"
    )[0].replace("\n", " ")
    assert "not in the lock" not in team("plan --isolation venv")[0]


def test_an_image_that_is_lost_is_counted_though_its_environment_is_known(team: Team) -> None:
    run(team, "--isolation docker")
    built(team)
    assert json.loads(team("plan --isolation docker --json")[0])["images"] == []
    (team.folder / "artifacts" / "images" / OLD / "image.json").unlink()
    assert "Nothing to do." in team("plan --isolation docker")[0], "nothing has to run in it"
    (team.folder / "matrix.yaml").write_text(MATRIX.replace("opset: [17]", "opset: [17, 18]"))
    assert [entry["stack"] for entry in json.loads(team("plan --isolation docker --json")[0])["images"]] == [OLD]


# Building before the run ---------------------------------------------------------------------------------------------


@pytest.fixture
def buildx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "builder_cli", lambda: engine_module.Cli("docker", True))
    monkeypatch.setattr(engine_module, "client", SimpleNamespace)
    monkeypatch.setattr(container, "sweep", lambda client, root: 0)


def test_with_buildx_missing_images_are_built_together_within_the_budget(
    team: Team, engine: Engine, buildx: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []

    def build(images: Sequence[DockerImage], *, jobs: int, timeout: float) -> dict[str, Exception | None]:
        given.append(timeout)
        return engine.build(images, jobs=jobs)

    monkeypatch.setattr(images_module, "build", build)
    run(team, "--isolation docker --budget 30m")
    assert (given, engine.calls) == ([1800], [("build", [ONNX, OLD, NEW])])


def test_ctrl_c_while_images_are_built_is_reported(
    team: Team, buildx: None, monkeypatch: pytest.MonkeyPatch, workers: Workers
) -> None:
    def build(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(images_module, "build", build)
    found = run(team, "--isolation docker", code=errors.EXIT_INTERRUPTED)
    assert found[OLD]["reason"] == "interrupted before it ran"
    assert workers.jobs == []


# What is told --------------------------------------------------------------------------------------------------------


def test_a_run_that_can_try_nothing_calls_nothing_up_to_date(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    run(team)
    assert "cells are up to date" in team("run --quiet")[0]
    monkeypatch.setattr(engine_module, "available", lambda: False)
    out, _ = team("run --quiet --isolation docker")
    assert out.startswith("Nothing was tried (") and "needs a Docker engine" in out and "up to date" not in out


def test_show_without_results_does_not_say_that_nothing_failed(team: Team) -> None:
    team("plan")  # makes a store, and no run
    assert "no run is stored here" in team("show", errors.EXIT_USAGE)[1]
    assert "nothing was tried yet" in team("rules")[0]


def test_an_empty_selection_is_not_everything(team: Team) -> None:
    assert "the selection is empty" in team("plan --select=", errors.EXIT_USAGE)[1]


def test_commands_to_paste_name_the_matrix_that_they_are_about(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside another matrix.yaml, `enginematrix repro ID` would know no such cell, or run it by another lock."""
    for kind in ("yaml", "lock"):
        (team.folder / f"matrix.{kind}").rename(team.folder / f"of a team.{kind}")
    path = str(team.folder / "of a team.yaml")
    begins = "enginematrix -f 'of a team.yaml'"
    assert cli.main(["-f", path, "run", "--quiet", "--json"]) == 0
    cell = {cell["engine"]["id"]: cell for cell in json.loads(capsys.readouterr().out)["cells"]}[OLD]
    assert cell["command"] == f"{begins} repro {cell['id']}"
    (entry, *_) = known.stacks([cell])
    assert entry["run"].startswith(f"{begins} run --select ")
    assert cli.main(["-f", path, "show", cell["id"]]) == 0
    assert f"{begins} repro {cell['id']}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("said", "options", "command"),
    [
        ("auto", "", ""), ("auto", "--isolation docker", " --isolation docker"),
        ("auto", "--isolation venv", " --isolation venv"),
        ("docker", "", ""), ("docker", "--isolation docker", ""), ("docker", "--isolation venv", " --isolation venv"),
        ("docker", "--isolation auto", " --isolation venv"),
    ],
)  # fmt: skip
def test_the_command_to_reproduce_runs_it_in_the_same_way(team: Team, said: str, options: str, command: str) -> None:
    (team.folder / "matrix.yaml").write_text(f"{MATRIX}isolation: {said}\n")
    found = run(team, options)[OLD]
    assert found["command"] == f"enginematrix repro {found['id']}{command}"
    again = team(f"{found['command'].removeprefix('enginematrix ')} --quiet")[0]
    assert "The same outcome as before." in again


def test_show_finds_a_cell_that_was_run_in_the_other_way(team: Team) -> None:
    cell = team.cells[OLD]
    assert "skipped at resolve: not run" in team(f"show {cell}")[0]
    run(team, "--isolation docker")
    out, err = team(f"show {cell}")
    assert "verified" in out and "docker: t from b@d" in out
    assert "--isolation docker" in err
    assert "not run" in team(f"show {cell} --isolation venv")[0], "what is asked for is shown"
    run(team, "--isolation venv")
    out, err = team(f"show {cell}")
    assert "isolation   venv" in out and err == ""


def test_both_ways_are_compared(team: Team) -> None:
    _, err = team("compare-isolation", errors.EXIT_USAGE)
    assert "no image was ever made here" in err
    team("images render")
    team("compare-isolation", errors.EXIT_USAGE)
    built(team)
    run(team, "--isolation docker")
    assert "2 cells have no result in venv" in team("compare-isolation")[0]
    run(team, "--isolation venv")
    assert "2 cells ran both ways, 0 came out otherwise" in team("compare-isolation")[0]
    found = json.loads(team("compare-isolation --json")[0])
    assert (found["compared"], found["alone"]) == (2, 1), "NGC's stack needs Docker"


def test_a_broken_template_costs_no_report_of_virtual_environments(team: Team) -> None:
    built(team)
    (team.folder / "images" / "onnxruntime" / "Dockerfile.j2").write_text("FROM {{ nothing }}\n")
    out, _ = team("run --quiet --json --isolation venv")
    found = json.loads(out)
    assert found["isolation"] is None
    assert found["counts"]["verified"] == 2
    assert (team.folder / "artifacts" / "report" / "report.html").exists()
    _, err = team("compare-isolation", errors.EXIT_USAGE)
    assert "onnxruntime/Dockerfile.j2:1" in err


def test_with_nothing_to_do_no_engine_is_asked_and_little_time_passes(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(team)
    run(team, "--isolation docker")

    def asked(*_: Any, **__: Any) -> Any:
        raise AssertionError("the engine was asked")

    monkeypatch.setattr(engine_module, "client", asked)
    monkeypatch.setattr(engine_module, "builder_cli", asked)
    monkeypatch.setattr(room, "room", asked)
    started = time.monotonic()
    assert "Nothing to do" in team("run --isolation docker")[0]
    assert "Nothing to do" in team("plan --isolation docker")[0]
    assert "Nothing to do" in team("images build")[0]
    assert time.monotonic() - started < 3.0, "three commands"


# Garbage -------------------------------------------------------------------------------------------------------------


class Names:
    """The engine's names of images."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.removed: list[str] = []
        self.images = SimpleNamespace(remove=self.removed.append)
        monkeypatch.setattr(engine_module, "client", lambda: self)


@pytest.mark.parametrize("said", ["auto", "venv", "docker"])
def test_gc_keeps_what_either_way_needs(
    team: Team, monkeypatch: pytest.MonkeyPatch, said: str, workers: Workers
) -> None:
    built(team)
    run(team, "--isolation docker")
    run(team, "--isolation venv")
    jobs = len(workers.jobs)
    (team.folder / "matrix.yaml").write_text(f"{MATRIX}isolation: {said}\n")
    with monkeypatch.context() as patched:
        names = Names(patched)
        assert "freed 0.0 MiB" in team("gc --keep-runs 0")[0]
        assert names.removed == []
    run(team, "--isolation docker")
    run(team, "--isolation venv")
    assert len(workers.jobs) == jobs
    assert "3 images are there" in team("images build")[0]


def test_gc_takes_the_images_of_stacks_that_left_and_their_names(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch)
    built(team)
    state = team.folder / "artifacts" / "images" / OLD / "image.json"
    old = json.loads(state.read_text())
    state.write_text(json.dumps({**old, "pushed": {"registry.example.com/x:1": "sha256:0"}}))
    (team.folder / "matrix.yaml").write_text(MATRIX.replace("[1.26.0, 1.31.1]", "1.31.1"))
    assert "images            1" in team("gc --dry-run")[0]
    assert names.removed == [] and state.exists()
    team("gc")
    assert names.removed == [old["tag"], "registry.example.com/x:1"]
    assert not state.parent.exists() and (state.parent.parent / NEW).exists()


def test_gc_without_an_engine_keeps_its_images(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise InfrastructureError("no engine")

    monkeypatch.setattr(engine_module, "client", away)
    built(team)
    (team.folder / "matrix.yaml").write_text(MATRIX.replace("[1.26.0, 1.31.1]", "1.31.1"))
    assert "images            1" in team("gc")[0]


def test_gc_needs_no_lock_of_what_cannot_be_used_here(team: Team) -> None:
    """NGC's stack is not locked, and needs a GPU; nor are images, where environments are asked for."""
    (team.folder / "matrix.yaml").write_text(f"{MATRIX}isolation: venv\n")
    team.lock.images.clear()
    team.save()
    work = pipeline.select(Project(matrix=team.folder / "matrix.yaml"), group="all", expression=None)
    assert collector.collect_garbage(work, keep_runs=0, dry_run=True)["records"] == (0, 0)


def test_another_lock_of_the_same_image_is_another_image(team: Team, workers: Workers) -> None:
    """The lock is edited between two runs: what was made of the old one is not taken for the new one's."""
    built(team)
    run(team, "--isolation docker")
    jobs = len(workers.jobs)
    (base,) = team.lock.images
    other = stacks.image(stacks.stack("onnx", "{family: onnx, onnx: 1.23.2}"), stacks.sha("moved"))
    team.lock.images[base] = Image(index=stacks.sha("moved"), platforms={"linux/amd64": other, "linux/arm64": other})
    team.save()
    assert [entry["stack"] for entry in json.loads(team("plan --isolation docker --json")[0])["images"]] == [
        ONNX,
        OLD,
        NEW,
    ]
    run(team, "--isolation docker")
    assert len(workers.jobs) == 2 * jobs
