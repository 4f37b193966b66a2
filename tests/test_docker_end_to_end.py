"""The whole program with cells in containers, against the same cells in virtual environments.

Marked `docker` and `real`: a Docker engine, base images made by debootstrap behind a registry on loopback, packages from the
package index. The bases stand for NVIDIA's and Python's own images, which are not pulled here."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dockerparts
import pytest
from running import ROOT, enginematrix, outcomes, project, report

pytestmark = [pytest.mark.docker, pytest.mark.real]

MATRIX = """\
schema: 1
name: both
isolation: docker
docker: {build-network: host}
exporters:
  onnx: {family: onnx, onnx: 1.23.2}
engines:
  ort: {family: onnxruntime, onnxruntime: [1.15.1, 1.31.1]}
  ort-numpy2: {family: onnxruntime, onnxruntime: 1.16.3, numpy: 2.2.6}
  openvino: {family: openvino, openvino: 2026.4.1}
  rtx: {family: tensorrt-rtx, tensorrt-rtx: 1.7.1.116, cuda: 12}
  trt: {family: tensorrt, tensorrt: 11.4.0.106, cuda: 12}
axes:
  model: [squeezenet]
  opset: [17, 21]
  precision: [fp32]
  shapes: [static]
  target: {values: [sm89], when: {engine.family: tensorrt-rtx}}
groups:
  default: all
"""

NGC = """\
schema: 1
name: ngc
isolation: docker
docker: {build-network: host}
exporters:
  onnx: {family: onnx, onnx: 1.23.2}
engines:
  ngc: {family: ort-on-ngc, release: ["24.01", "24.02", "23.12", "24.09"], onnxruntime: 1.22.1}
axes:
  model: [squeezenet]
  opset: [17]
  precision: [fp32]
  shapes: [static]
groups:
  default: all
"""
RELEASES = '["24.01", "24.02", "23.12", "24.09"]'
#: ONNX Runtime on an NGC image: what NVIDIA's families need a GPU for can so be shown without one.
FAMILY = """\
family: ort-on-ngc
summary: ONNX Runtime, CPU, in NVIDIA's TensorRT image
provides: [engine]
adapter: onnxruntime
isolation: [docker]
facts: ngc-tensorrt
axes: {release: {required: true}, onnxruntime: {required: true}}
packages: ["onnxruntime=={onnxruntime}", numpy]
image:
  base: "nvcr.io/nvidia/tensorrt:{release}-py3"
  interpreter: python3
  env: {CUDA_VERSION: cuda, TRT_VERSION: tensorrt}
  checks: {python: python}
modules: {onnxruntime: onnxruntime, numpy: ""}
precision: {fp32: graph}
settings: {providers: [CPUExecutionProvider]}
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dockerparts.Registry]:
    with dockerparts.running_registry(tmp_path_factory.mktemp("registry")) as found:
        for version in ("3.10", "3.11", "3.12"):
            found.push(dockerparts.python_base(version), f"library/python:{version}-slim-bookworm")
        yield found


def mirrored(registry: dockerparts.Registry, **more: str) -> dict[str, str]:
    address = registry.address
    return {"ENGINEMATRIX_MIRRORS": f"docker.io={address} nvcr.io={address}", **more}


def ours(folder: Path) -> list[str]:
    """The containers of a project that the engine has, running or not."""
    from builder.environment.container import store_labels

    (label,) = [
        f"{name}={value}" for name, value in store_labels((folder / "artifacts").resolve(), "").items() if name.endswith(".store")
    ]  # fmt: skip
    return dockerparts.docker("ps", "-aq", "--filter", f"label={label}").split()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, registry: dockerparts.Registry) -> Path:
    """The matrix in Docker, then in virtual environments: the two crashes with NumPy 2 and IR 10 are nobody's expectation."""
    folder = project(tmp_path_factory.mktemp("both"), MATRIX)
    enginematrix(folder, "run", "--no-predict", code=1, env=mirrored(registry))
    shutil.copytree(folder / "artifacts" / "report", folder / "docker-report")
    return folder


def docker_report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "docker-report" / "report.json").read_text())


def test_every_cell_ends_in_a_container_as_it_must(both: Path) -> None:
    found = docker_report(both)
    assert found["selected"] == len(found["cells"]) == 12
    by_engine: dict[str, set[str]] = {}
    for cell in found["cells"]:
        assert cell["isolation"] == {"engine": "docker", "exporter": "docker"}
        by_engine.setdefault(cell["engine"]["id"], set()).add(cell["status"])
    assert by_engine["onnxruntime-1.31.1-py3.12"] == {"verified"}
    assert by_engine["openvino-2026.4.1-py3.12"] == {"verified"}
    assert by_engine["tensorrt-rtx-1.7.1.116-cuda12-py3.12"] == {"built"}
    assert by_engine["tensorrt-11.4.0.106-cuda12-py3.12"] == {"skipped"}
    assert by_engine["onnxruntime-1.15.1-py3.11"] == {"verified", "failed"}
    assert "crashed" in by_engine["onnxruntime-1.16.3-numpy2.2.6-py3.11"]


def test_a_cell_says_which_image_it_ran_in(both: Path) -> None:
    locked = json.loads((both / "matrix.lock").read_text())["images"]
    assert set(locked) == {f"docker.io/library/python:{version}-slim-bookworm" for version in ("3.11", "3.12")}
    for cell in docker_report(both)["cells"]:
        if cell["status"] == "skipped":
            assert cell["image"] is None
            continue
        image = cell["image"]
        assert image["digest"] == locked[image["base"]]["platforms"][image["platform"]]["manifest"]
        manifest = both / "artifacts" / "engines" / cell["folder"] / "manifest.json"
        if cell["status"] in ("verified", "built"):
            assert json.loads(manifest.read_text())["built"]["image"] == image
    shown = enginematrix(both, "show", docker_report(both)["cells"][0]["id"])
    assert "docker: enginematrix/" in shown


def test_no_record_names_this_machine_or_the_mirror(both: Path, registry: dockerparts.Registry) -> None:
    text = (both / "docker-report" / "report.json").read_text() + (both / "matrix.lock").read_text()
    assert registry.address not in text
    for path in both.glob("artifacts/images/*/Dockerfile"):
        assert registry.address not in path.read_text()
    for cell in docker_report(both)["cells"]:
        assert str(both) not in json.dumps([cell["loaded"], cell["line"], cell["reason"]])
        for library in (cell["loaded"] or {}).get("libraries", ()):
            assert not library["path"].startswith("/opt/enginematrix"), library


def test_no_container_is_left(both: Path) -> None:
    assert ours(both) == []


def test_with_nothing_to_do_the_engine_is_not_asked(both: Path, registry: dockerparts.Registry, tmp_path: Path) -> None:
    calls: list[int] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()
                    calls.append(1)

        threading.Thread(target=answer, daemon=True).start()
        env = mirrored(registry, DOCKER_HOST=f"unix://{tmp_path / 's'}")
        assert "Nothing to do" in enginematrix(both, "run", "--no-predict", code=1, env=env)
        assert "Nothing to do" in enginematrix(both, "plan", env=env)
        assert calls == []
        cell = next(cell["id"] for cell in docker_report(both)["cells"] if cell["status"] == "verified")
        enginematrix(both, "repro", cell, code=3, env=env)
        assert calls, "or this test could not fail"


def test_virtual_environments_give_the_same(both: Path) -> None:
    enginematrix(both, "run", "--no-predict", "--isolation", "venv", "--frozen", code=1)
    now = {cell["id"]: cell for cell in report(both)["cells"]}
    for cell in docker_report(both)["cells"]:
        assert {now[cell["id"]][name] for name in ("status",)} == {cell["status"]}, cell["slug"]
        assert now[cell["id"]]["isolation"]["engine"] == "venv"
    told = report(both)["isolation"]
    assert (told["compared"], told["differences"]) == (10, [])
    text = enginematrix(both, "compare-isolation")
    assert "10 cells ran both ways, 0 came out otherwise" in text
    assert "2 cells have no result in docker" in text, "full TensorRT needs a GPU either way"


def test_a_difference_is_told(both: Path, tmp_path: Path) -> None:
    """Another outcome in one of the two ways, as a difference of the base system would make it."""
    copy = tmp_path / "copy"
    shutil.copytree(both, copy, symlinks=True, ignore=shutil.ignore_patterns("env", "engines", "uv"))
    script = (
        "import sqlite3, sys, json\n"
        "db = sqlite3.connect(sys.argv[1]); n = 0\n"
        "for key, name, record in db.execute(\"select key, name, record from steps where kind = 'run'\").fetchall():\n"
        "    record = json.loads(record)\n"
        "    if name.startswith('openvino') and n == 0:\n"
        "        record['result']['comparison'].update(verdict='mismatch', reason='changed by a test'); n += 1\n"
        "        db.execute('update steps set record = ? where key = ?', (json.dumps(record), key))\n"
        "db.execute('delete from outcomes'); db.commit(); assert n == 1\n"
    )
    subprocess.run([sys.executable, "-c", script, str(copy / "artifacts" / "results.sqlite")], check=True)
    text = enginematrix(copy, "compare-isolation", code=1)
    assert "2 came out otherwise" in text, "both cells of that engine; they share the step"
    assert "mismatch at compare (accuracy)" in text


def test_an_engine_that_is_not_there_is_a_reason_to_skip(tmp_path: Path) -> None:
    folder = project(tmp_path / "none", MATRIX)
    text = enginematrix(folder, "run", "-q", "--no-predict", env={"DOCKER_HOST": f"unix://{tmp_path / 'nothing'}"})
    assert {cell["status"] for cell in report(folder)["cells"]} == {"skipped"}
    assert "needs a Docker engine, and none is here" in json.dumps(report(folder)) and "12" in text


def ngc(folder: Path) -> Path:
    project(folder, NGC)
    (folder / "images" / "ort-on-ngc").mkdir()
    (folder / "images" / "ort-on-ngc" / "family.yaml").write_text(FAMILY)
    (folder / "images" / "ort-on-ngc" / "Dockerfile.j2").write_text('{% extends "base.Dockerfile.j2" %}\n')
    return folder


def test_lying_and_missing_images_cost_their_own_cells_only(tmp_path: Path, registry: dockerparts.Registry) -> None:
    """24.01 is what the catalog says, 24.02 lies about TensorRT, 23.12 is not in the registry, 24.09 has no Python."""
    parent = dockerparts.python_base("3.10")
    bare = dockerparts.derived(dockerparts.base("bookworm"), run="rm -f /usr/bin/python3*")
    for tag, image, cuda, tensorrt in (
        ("24.01", parent, "12.3.2.001", "8.6.1.6"), ("24.02", parent, "12.3.2.001", "9.9.9.9"),
        ("24.09", bare, "12.6.1.006", "10.4.0.26"),
    ):  # fmt: skip
        made = dockerparts.derived(image, env={"CUDA_VERSION": cuda, "TRT_VERSION": tensorrt, "PASSWORD": "hunter2"})
        registry.push(made, f"nvidia/tensorrt:{tag}-py3")
    folder = ngc(tmp_path / "ngc")
    enginematrix(folder, "run", "--no-predict", code=1, env=mirrored(registry))
    cells = {cell["engine"]["fields"]["release"]: cell for cell in report(folder)["cells"]}
    assert cells["24.01"]["status"] == "verified"
    assert cells["24.01"]["image"]["base"] == "nvcr.io/nvidia/tensorrt:24.01-py3"
    for release, words in (("24.02", ("9.9.9.9", "8.6.3")), ("23.12", ("23.12-py3",)), ("24.09", ("no Python",))):
        assert cells[release]["status"] == "failed", cells[release]["reason"]
        for word in words:
            assert word in cells[release]["reason"] + str(cells[release]["line"]), cells[release]
        assert cells[release]["category"] != "infrastructure"
    assert "hunter2" not in (folder / "matrix.lock").read_text()
    assert enginematrix(folder, "lock", "--check", env=mirrored(registry)).count("ort-on-ngc") >= 2
    # The tag is pushed again, with other bytes: what is locked stays, until it is asked to move.
    registry.push(dockerparts.derived(parent, env={"CUDA_VERSION": "12.3.2", "TRT_VERSION": "8.6.1.6", "AGAIN": "1"}),
                  "nvidia/tensorrt:24.01-py3")  # fmt: skip
    assert "Nothing to do" in enginematrix(folder, "run", "--no-predict", code=1, env=mirrored(registry))
    text = enginematrix(folder, "lock", "--update", "ort-on-ngc-24.01*", code=None, env=mirrored(registry))
    assert "digest moved" in text and "sha256:" in text


def test_a_registry_that_is_down_costs_only_what_it_has(tmp_path: Path, registry: dockerparts.Registry) -> None:
    """The bases that are locked and built go on; the one that nobody can ask for is no evidence."""
    registry.push(
        dockerparts.derived(dockerparts.python_base("3.10"), env={"CUDA_VERSION": "12.3.2", "TRT_VERSION": "8.6.1.6"}),
        "nvidia/tensorrt:24.01-py3",
    )
    folder = ngc(tmp_path / "down")
    (folder / "matrix.yaml").write_text(NGC.replace(RELEASES, '"24.01"'))
    enginematrix(folder, "run", env=mirrored(registry))
    (folder / "matrix.yaml").write_text(NGC.replace(RELEASES, '["24.01", "25.01"]'))
    dead = f"127.0.0.1:{dockerparts.free_port()}"
    text = enginematrix(folder, "run", code=3, env={"ENGINEMATRIX_MIRRORS": f"docker.io={dead} nvcr.io={dead}"})
    assert dead in text
    found = {cell["engine"]["fields"]["release"]: cell for cell in report(folder)["cells"]}
    assert found["24.01"]["status"] == "verified"
    assert (found["25.01"]["status"], found["25.01"]["category"]) == ("blocked", "infrastructure")


def test_kill_9_leaves_nothing_that_stays(both: Path, tmp_path: Path, registry: dockerparts.Registry) -> None:
    folder = project(tmp_path / "killed", MATRIX)
    shutil.copy(both / "matrix.lock", folder / "matrix.lock")
    process = subprocess.Popen(
        [sys.executable, "-m", "builder", "run", "-q"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), **mirrored(registry)},
    )  # fmt: skip
    until = time.monotonic() + 120
    while not ours(folder):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stopped = time.monotonic() + 30
    while dockerparts.docker("ps", "-q", "--filter", "status=running").split() and set(ours(folder)) & set(
        dockerparts.docker("ps", "-q").split()
    ):
        assert time.monotonic() < stopped, "the container outlives its host program"
        time.sleep(0.1)
    enginematrix(folder, "run", "--no-predict", code=1, env=mirrored(registry))
    assert ours(folder) == []
    mine, theirs = (
        outcomes(folder),
        {c["slug"]: (c["status"], c["stage"], c["category"]) for c in docker_report(both)["cells"]},
    )
    assert mine == theirs


def test_an_engine_that_stops_in_the_middle_costs_what_it_was_doing(
    tmp_path: Path, registry: dockerparts.Registry
) -> None:
    """What was finished stays, what was not is no evidence, and the next run, with an engine again, does the rest."""
    matrix = MATRIX.replace("  ort-numpy2:", "  x-numpy2:").replace("[1.15.1, 1.31.1]", "1.31.1")
    matrix = "".join(
        line for line in matrix.splitlines(True) if not line.startswith(("  x-", "  rtx:", "  trt:", "  target:"))
    )
    folder = project(tmp_path / "stops", matrix)
    engine = dockerparts.Engine(tmp_path / "engine")
    try:
        env = mirrored(registry, DOCKER_HOST=engine.host)
        process = subprocess.Popen(
            [sys.executable, "-m", "builder", "run", "-j", "1"], cwd=folder, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **env},
        )  # fmt: skip
        assert process.stdout is not None
        told = []
        for line in process.stdout:
            told.append(line)
            if line.startswith("cell 1/"):
                engine.stop()
                break
        told.append(process.stdout.read())
        process.stdout.close()
        assert process.wait(120) == 3, "".join(told)
        found = {cell["slug"]: cell for cell in report(folder)["cells"]}
        statuses = [cell["status"] for cell in found.values()]
        assert statuses.count("verified") >= 1 and "blocked" in statuses, statuses
        assert set(statuses) == {"verified", "blocked"}, "nothing else can be said"
        assert {cell["category"] for cell in found.values() if cell["status"] == "blocked"} == {"infrastructure"}
        engine.start()
        enginematrix(folder, "run", env=env)
        assert {cell["status"] for cell in report(folder)["cells"]} == {"verified"}
        left = subprocess.run(
            [str(dockerparts.cli()), "--host", engine.host, "ps", "-aq"], capture_output=True, text=True, check=True
        )
        assert left.stdout == ""
    finally:
        engine.remove()
