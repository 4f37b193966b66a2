"""`enginematrix images ...` as a user types it, with real Dockerfiles and an engine that is made up."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import stacks
from teams import NEW, NGC, OLD, ONNX, Engine, Team

from builder import collector, errors, locking, pipeline
from builder.environment import images as images_module
from builder.environment.images import DockerImage, ImageError
from builder.errors import EngineMatrixError, InfrastructureError
from builder.lock import Image
from builder.project import Project


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Team:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing")
    monkeypatch.setenv("ENGINEMATRIX_MIRRORS", "nvcr.io=127.0.0.1:1 docker.io=127.0.0.1:1")
    return Team(tmp_path, capsys)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    return Engine(monkeypatch)


# Rendering -----------------------------------------------------------------------------------------------------------


def test_render_needs_no_engine_and_tells_of_each_stack(team: Team) -> None:
    out, err = team("images render")
    assert sorted(Path(line).parent.name for line in out.split()) == [ONNX, OLD, NEW]
    assert all(Path(line).read_text().startswith("ARG REGISTRY=docker.io\n") for line in out.split())
    assert f"{NGC}: not in the lock; run `enginematrix lock --isolation docker`" in err
    assert "GPU" not in err, "none is needed to make an image"
    assert team("images render")[0] == out


def test_a_gpu_is_no_matter_for_a_stack_that_is_locked(team: Team) -> None:
    stack = stacks.stack("ngc-tensorrt", '{family: ngc-tensorrt, release: "24.01"}')
    team.lock.stacks[NGC] = stacks.pins(stack)
    team.lock.images[stack.base] = Image(index=stacks.sha("i"), platforms={"linux/amd64": stacks.image(stack)})
    team.save()
    assert NGC in team("images render")[0]
    team.lock.images[stack.base] = Image(index=stacks.sha("i"), platforms={"linux/s390x": stacks.image(stack)})
    team.save()
    out, err = team("images render")
    assert NGC not in out
    assert f"{NGC}: has no image for linux/amd64: {stack.base} is for linux/s390x" in err


def test_frozen_asks_nobody(team: Team) -> None:
    del team.lock.stacks[OLD]
    team.save()
    before = (team.folder / "matrix.lock").read_text()
    for line in ("render --frozen", "build --frozen", "push --to registry.example.com/x", "verify"):
        _, err = team(f"images {line}", code=errors.EXIT_USAGE)
        assert OLD in err and "run `enginematrix lock --isolation docker`" in err
    assert (team.folder / "matrix.lock").read_text() == before


def test_a_registry_that_is_away_costs_no_others_images(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise InfrastructureError("127.0.0.1:1: Connection refused")

    monkeypatch.setattr(locking, "ensure_locked", away)
    del team.lock.images[next(base for base in team.lock.images if "3.12" in base)]
    ngc = stacks.stack("ngc-tensorrt", '{family: ngc-tensorrt, release: "24.01"}')
    team.lock.stacks[NGC] = stacks.pins(ngc)
    team.lock.images[ngc.base] = Image(index=stacks.sha("i"), platforms={"linux/amd64": stacks.image(ngc)})
    team.save()
    out, err = team("images render", code=errors.EXIT_INFRASTRUCTURE)
    assert NGC in out
    assert "Connection refused" in err and f"{OLD}: not in the lock" in err


def test_what_the_lock_refuses_fails(team: Team, engine: Engine) -> None:
    (base,) = team.lock.images
    team.lock.images.clear()
    for name, pins in team.lock.stacks.items():
        team.lock.stacks[name] = dataclasses.replace(pins, refused=f"{base}: no such tag")
    team.save()
    _, err = team("images build", code=errors.EXIT_FAILURES)
    assert f"{OLD}: {base}: no such tag" in err
    assert engine.calls == []


def test_a_broken_template_is_bad_input(team: Team) -> None:
    (team.folder / "images" / "onnxruntime" / "Dockerfile.j2").write_text("FROM {{ nothing }}\n")
    _, err = team("images render", code=errors.EXIT_USAGE)
    assert "onnxruntime/Dockerfile.j2:1" in err and "nothing" in err


# Building ------------------------------------------------------------------------------------------------------------


def test_build_makes_what_is_missing_once(team: Team, engine: Engine) -> None:
    out, _ = team("images build")
    assert "3 built, 0 were there, 0 failed" in out and "enginematrix/onnxruntime:" in out
    assert team("images build")[0] == "Nothing to do: 3 images are there.\n"
    assert [call for call, _ in engine.calls] == ["build"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ImageError("check failed: tensorrt is 9, not 8", "..."), errors.EXIT_FAILURES),
        (InfrastructureError("the Docker engine went away"), errors.EXIT_INFRASTRUCTURE),
    ],
)
def test_one_image_that_fails_costs_no_other(team: Team, engine: Engine, error: EngineMatrixError, code: int) -> None:
    engine.broken[OLD] = error
    out, _ = team("images build", code=code)
    assert f"{OLD}: {error}" in out and "2 built, 0 were there, 1 failed" in out
    engine.broken.clear()
    assert "1 built, 2 were there, 0 failed" in team("images build")[0]


def test_evidence_comes_before_infrastructure(team: Team, engine: Engine) -> None:
    engine.broken = {OLD: ImageError("lies", "..."), NEW: InfrastructureError("down")}
    team("images build", code=errors.EXIT_FAILURES)


def test_what_the_disk_has_no_room_for_is_not_begun(team: Team, engine: Engine) -> None:
    engine.free = 1
    out, _ = team("images build", code=errors.EXIT_INFRASTRUCTURE)
    assert engine.calls == []
    assert f"{OLD}: needs about" in out and "docker system df" in out and "3 failed" in out


def test_selecting_takes_the_stacks_of_the_cells(team: Team, engine: Engine) -> None:
    team("images build --select onnxruntime=1.31.1")
    assert engine.calls == [("build", [ONNX, NEW])]
    _, err = team("images build --select onnxruntime=9", code=errors.EXIT_USAGE)
    assert "no onnxruntime '9' in this matrix" in err


def test_no_cell_that_failed_is_nothing_to_do(team: Team, engine: Engine) -> None:
    assert team("images build --failed")[0].startswith("Nothing to do")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("build -j 0", "at least 1"), ("build -j many", "no whole number"), ("push", "--to"), ("shell", "CELL"),
        ("build --isolation venv", "unrecognized"), ("", "COMMAND"), ("rebuild", "invalid choice"),
    ],
)  # fmt: skip
def test_bad_arguments(team: Team, line: str, words: str) -> None:
    assert words in team.usage(f"images {line}")


def test_gc_does_not_take_what_is_being_built(team: Team, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    work = pipeline.select(Project(matrix=team.folder / "matrix.yaml"), group="all", expression=None)
    said = []

    def build(images: Sequence[DockerImage], *, jobs: int) -> dict[str, Exception | None]:
        with pytest.raises(InfrastructureError) as raised:
            collector.collect_garbage(work, keep_runs=0, dry_run=False)
        said.append(str(raised.value))
        return {image.key: None for image in images}

    monkeypatch.setattr(images_module, "build", build)
    team("images build")
    assert "a run is using these artifacts" in said[0]


# What is built -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["push --to registry.example.com/team", "verify", "verify --rebuild"])
def test_without_images_there_is_nothing_to_push_or_verify(team: Team, engine: Engine, line: str) -> None:
    _, err = team(f"images {line}", code=errors.EXIT_USAGE)
    assert f"{OLD}: not built; run `enginematrix images build`" in err
    assert engine.calls == []


def test_push_tells_each_digest_and_goes_on_after_a_failure(team: Team, engine: Engine) -> None:
    team("images build")
    out, _ = team("images push --to registry.example.com/team")
    assert out.splitlines()[0] == f"registry.example.com/team/{ONNX}:1@sha256:" + "0" * 64
    engine.broken[ONNX] = InfrastructureError("denied")
    out, err = team("images push --to registry.example.com/team", code=errors.EXIT_INFRASTRUCTURE)
    assert len(out.splitlines()) == 2 and "denied" in err


@pytest.mark.parametrize(
    "prefix", ["https://registry.example.com/x", "Registry/Team", "registry.example.com/x:1", "a//b"]
)
def test_a_bad_prefix_is_told_before_anything_is_pushed(team: Team, engine: Engine, prefix: str) -> None:
    team("images build")
    _, err = team(f"images push --to {prefix}", code=errors.EXIT_USAGE)
    assert f"--to {prefix!r}" in err and "registry.example.com/team" in err
    assert ("push", [ONNX]) not in engine.calls


def test_verify_says_what_each_is(team: Team, engine: Engine) -> None:
    team("images build")
    assert team("images verify")[0].splitlines() == [f"{name}: as promised" for name in (ONNX, OLD, NEW)]
    engine.different.add(OLD)
    out, _ = team("images verify", code=errors.EXIT_FAILURES)
    assert f"{OLD}: label org.enginematrix.cuda is '1', not '2'" in out


@pytest.mark.parametrize("line", ["verify --json", "verify --rebuild --json"])
def test_verify_as_json_is_whole_though_one_fails(team: Team, engine: Engine, line: str) -> None:
    team("images build")
    engine.different.add(NEW)
    engine.broken[ONNX] = InfrastructureError("the Docker engine went away")
    out, _ = team(f"images {line}", code=errors.EXIT_FAILURES)
    found = {entry["stack"]: entry for entry in json.loads(out)}
    assert found[ONNX]["error"] == "the Docker engine went away"
    if "--rebuild" in line:
        assert (found[OLD]["identical"], found[NEW]["identical"]) == (True, False)
    else:
        assert found[OLD]["problems"] == [] and len(found[NEW]["problems"]) == 1
    engine.different.clear()
    team(f"images {line}", code=errors.EXIT_INFRASTRUCTURE)


def test_shell_is_of_the_engine_or_the_exporter(team: Team, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    team("images build")
    team(f"images shell {team.cells[NEW]}", code=7)
    team(f"images shell {team.cells[NEW]} --exporter", code=7)
    assert engine.calls[1:] == [("shell", [NEW]), ("shell", [ONNX])]


def test_shell_builds_what_is_missing_and_says_so(team: Team, engine: Engine) -> None:
    _, err = team(f"images shell {team.cells[NEW]}", code=7)
    assert f"building {NEW}" in err and "build.log" in err
    assert engine.calls == [("build", [NEW]), ("shell", [NEW])], "and nothing else"


def test_shell_without_an_image_says_why(team: Team, engine: Engine) -> None:
    _, err = team(f"images shell {team.cells[NGC]}", code=errors.EXIT_USAGE)
    assert f"{NGC}: not in the lock" in err and f"{NGC} has no image" in err
    _, err = team("images shell nothing", code=errors.EXIT_USAGE)
    assert "nothing" in err
