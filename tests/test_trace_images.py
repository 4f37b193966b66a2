"""A trace where stacks are Docker images: base images are components, and nothing is pulled that there is no room for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake
import pytest
import stacks
from planted import fails
from teams import NEW, OLD, Engine, Team, Workers

from builder import errors, pipeline
from builder.execute import locks
from builder.lock import Image
from builder.plan import Step

MOVED = "docker.io/library/python:3.12-slim-bookworm"


class Nights:
    """Two nights in images: a base image and a package moved, and with the new base image runs fail."""

    def __init__(self, team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
        self.team, self.broken = team, ""
        self.bases: list[str] = []
        """The Dockerfile of each environment that a run was made in."""
        monkeypatch.setattr(pipeline, "realise", lambda step, work, store: self.environment(step))
        monkeypatch.setattr(locks, "lock_folder", lambda: team.folder)
        self.night()
        one = replace(
            stacks.image(stacks.stack("onnxruntime", '{onnxruntime: "1.31.1"}')), manifest=stacks.sha("moved")
        )
        self.broken = one.manifest
        team.lock.images[MOVED] = Image(
            index=stacks.sha("moved index"), platforms=dict.fromkeys(("linux/amd64", "linux/arm64"), one)
        )
        for name in (OLD, NEW):
            pins = team.lock.stacks[name]
            packages = tuple(sorted({*pins.packages, "packaging==26.4"} - {"packaging==26.3"}))
            team.lock.stacks[name] = replace(
                pins, packages=packages, hashes={pin: (stacks.sha(pin),) for pin in packages}
            )
        team.save()
        self.night(code=1)

    def night(self, code: int = 0) -> None:
        self.team("run --quiet --frozen --isolation docker", code)

    def environment(self, step: Step) -> fake.FakeEnvironment:
        text = step.data["rendered"].dockerfile

        def script(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
            if stage == "run":
                self.bases.append(text)
                if self.broken and self.broken in text:
                    return fails("libc is too old for GridSample")
            return fake.well(stage, job, folder)

        return Workers(script)(step)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    return Engine(monkeypatch)


@pytest.fixture
def nights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> Nights:
    monkeypatch.setattr("builder.environment.uv.misfit", lambda packages, python, cutoff: "")
    return Nights(Team(tmp_path, capsys), monkeypatch)


def test_a_base_image_that_moved_is_named(nights: Nights) -> None:
    found = json.loads(nights.team("trace --json")[0])["traced"]
    assert {one["engine"] for one in found} == {OLD, NEW}
    for one in found:
        assert (one["verdict"], one["stack"]) == ("named", "")
        assert one["component"].startswith(f"{MOVED} sha256:")
    runs = len(nights.bases)
    nights.team("trace")
    assert len(nights.bases) == runs, "and once, in images, though the matrix says nothing of them"


def test_without_room_for_an_image_nothing_is_said(nights: Nights, engine: Engine) -> None:
    engine.free = 0
    out, _ = nights.team("trace", errors.EXIT_INFRASTRUCTURE)
    assert "not traced" in out and "of disk for docker.io/library/python" in out
