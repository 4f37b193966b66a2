"""Which way a stack is realised, and what a team says of its Docker."""

from __future__ import annotations

from pathlib import Path

import factory
import pytest
import specs

from builder import isolation
from builder.errors import SpecErrors, UsageError
from builder.values import Docker


@pytest.mark.parametrize("docker", [True, False])
@pytest.mark.parametrize(
    ("ways", "asked", "with_engine", "without"),
    [
        (("venv",), "auto", "venv", "venv"), (("venv",), "docker", "venv", "venv"), (("venv",), "venv", "venv", "venv"),
        (("docker",), "auto", "docker", "docker"), (("docker",), "docker", "docker", "docker"),
        (("docker",), "venv", "docker", "docker"),
        (("venv", "docker"), "auto", "venv", "venv"), (("venv", "docker"), "docker", "docker", "docker"),
        (("venv", "docker"), "venv", "venv", "venv"),
        (("docker", "venv"), "auto", "docker", "venv"), (("docker", "venv"), "docker", "docker", "docker"),
        (("docker", "venv"), "venv", "venv", "venv"),
    ],
)  # fmt: skip
def test_choose(
    ways: tuple[str, ...], asked: isolation.Isolation, with_engine: str, without: str, docker: bool
) -> None:
    family = factory.family(isolation=ways)
    assert isolation.choose(family, asked, docker) == (with_engine if docker else without)


def read(tmp_path: Path, docker: str) -> Docker:
    return specs.Project(tmp_path).spec(specs.MATRIX + f"docker:{docker}\n").docker


def test_what_is_not_said_is_as_it_always_is(tmp_path: Path) -> None:
    assert specs.Project(tmp_path).spec().docker == Docker()
    assert read(tmp_path, " {}") == Docker()


def test_everything_can_be_said(tmp_path: Path) -> None:
    text = " {mirrors: {nvcr.io: 'example.com:5000/nvcr', index.docker.io: example.com/hub}, build-network: host, gpus: cdi, "
    assert read(tmp_path, text + "shm: 2g, pids: 64}") == Docker(
        mirrors={"nvcr.io": "example.com:5000/nvcr", "docker.io": "example.com/hub"}, build_network="host", gpus="cdi",
        shm=2 << 30, pids=64,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        (" {mirror: {}}", 10, "unknown key 'mirror' in docker; perhaps 'mirrors'?"),
        (" {mirrors: [a]}", 19, "'mirrors' must be a mapping"),
        (" {mirrors: {nvcr.io: 'https://example.com'}}", 20, "'https://example.com' cannot stand for 'nvcr.io'"),
        (" {mirrors: {nvcr.io: ''}}", 20, "'' cannot stand for 'nvcr.io'"),
        (" {mirrors: {nvcr.io: [a]}}", 20, "cannot stand for 'nvcr.io'"),
        (" {mirrors: {nvcr: example.com/nvcr}}", 20, "'nvcr' is no registry; write its host"),
        (" {build-network: hots}", 25, "'hots' is not a value of 'build-network'; perhaps 'host'?"),
        (" {gpus: all}", 16, "'all' is not a value of 'gpus'"),
        (" {shm: 0g}", 15, "'0g' is not an amount of memory"),
        (" {shm: lots}", 15, "'lots' is not an amount of memory"),
        (" {pids: 63}", 16, "'pids' must be a whole number of at least 64"),
        (" {pids: many}", 16, "'pids' must be a whole number"),
        (" nothing", 9, "docker must be a mapping"),
    ],
)
def test_what_is_wrong_is_told_at_its_place(tmp_path: Path, text: str, column: int, words: str) -> None:
    with pytest.raises(SpecErrors) as raised:
        read(tmp_path, text)
    assert words in str(raised.value)
    line = len(specs.MATRIX.lstrip("\n").splitlines()) + 1
    assert f"matrix.yaml:{line}:{column}: " in str(raised.value)


def test_an_unknown_way_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        SpecErrors, match=r"matrix.yaml:10:12: 'dokcer' is not a value of 'isolation'; perhaps 'docker'\?"
    ):
        specs.Project(tmp_path).spec(specs.MATRIX + "isolation: dokcer\n")


def test_the_environment_stands_before_the_file() -> None:
    said = Docker(
        mirrors={"nvcr.io": "file.example.com", "quay.io": "file.example.com/quay"}, build_network="none", pids=99
    )
    environ = {"ENGINEMATRIX_MIRRORS": "nvcr.io=here.example.com:5000/x docker.io=hub.example.com quay.io=",
               "ENGINEMATRIX_BUILD_NETWORK": "host"}  # fmt: skip
    assert isolation.with_environment(said, environ) == Docker(
        mirrors={"nvcr.io": "here.example.com:5000/x", "docker.io": "hub.example.com"}, build_network="host", pids=99
    )
    assert isolation.with_environment(said, {}) == said
    assert isolation.with_environment(said, {"ENGINEMATRIX_BUILD_NETWORK": "", "ENGINEMATRIX_MIRRORS": ""}) == said


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ENGINEMATRIX_BUILD_NETWORK", "bridge", "write default, host, none"),
        ("ENGINEMATRIX_MIRRORS", "nvcr.io", "'nvcr.io' is no registry"),
        ("ENGINEMATRIX_MIRRORS", "nvcr.io=https://x.example.com", "no scheme and no user"),
        ("ENGINEMATRIX_MIRRORS", "nvcr.io=me:hunter2@x.example.com", "no scheme and no user"),
        ("ENGINEMATRIX_MIRRORS", "me:hunter2@nvcr.io=x.example.com", "an entry is no registry"),
    ],
)
def test_what_is_wrong_in_the_environment_is_told(name: str, value: str, words: str) -> None:
    with pytest.raises(UsageError, match=name) as raised:
        isolation.with_environment(Docker(), {name: value})
    assert words in str(raised.value)
    assert "hunter2" not in str(raised.value)
