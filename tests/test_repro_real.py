"""Folders of real failures, run as somebody would who has nothing of ours: in a bare shell, from another place, with an empty
home. The same failure is shown; with the version that mends it, it is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import enginematrix, project, report

from builder.environment import interpreters

pytestmark = pytest.mark.real

MATRIX = """\
schema: 1
name: repro
exporters:
  onnx: {family: onnx, onnx: 1.23.2}
engines:
  ort-numpy2: {family: onnxruntime, onnxruntime: 1.16.3, numpy: 2.2.6}
  openvino: {family: openvino, openvino: 2026.4.1}
  rtx: {family: tensorrt-rtx, tensorrt-rtx: 1.4.0.76, cuda: 12}
axes:
  model: [squeezenet]
  opset: [17, 21, 30]
  precision: [fp32, int8]
  shapes: [static]
  target: {values: [sm89], when: {engine.family: tensorrt-rtx}}
groups:
  default: "(engine=ort-numpy2 and precision=fp32) or (opset=17 and precision=int8 and not engine=ort-numpy2)"
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = project(tmp_path_factory.mktemp("repro"), MATRIX)
    enginematrix(folder, "run", "--frozen", "--no-predict", code=1)
    yield folder
    shutil.rmtree(folder / "artifacts" / "env")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Environments, kept from test to test, and an empty home."""
    place = tmp_path_factory.mktemp("bare")
    yield place
    shutil.rmtree(place)


def found(small: Path, words: str) -> Path:
    """The one folder whose cell has these words in its name."""
    folders = [path for path in (small / "artifacts" / "repro").iterdir() if path.is_dir()]
    (path,) = [path for path in folders if all(word in path.name for word in words.split())]
    return path


def shown(folder: Path, bare: Path, *pins: str, **more: str) -> tuple[int, str]:
    """(exit code, what was printed) of reproduce.sh. uv, its cache and pyenv are where they are; all else is away."""
    kept = ("UV_", "PIP_", "SSL_", "REQUESTS_CA", "CURL_CA", "http", "HTTP", "no_proxy", "NO_PROXY", "ALL_PROXY")
    env = {name: value for name, value in os.environ.items() if name.startswith(kept)}
    asked = {"UV_CACHE_DIR": ["cache", "dir"], "UV_PYTHON_INSTALL_DIR": ["python", "dir"]}
    for name, words in asked.items():  # else uv would look for them in the home that is away
        env[name] = subprocess.check_output([interpreters.uv_binary(), *words], text=True).strip()
    tools = bare / "bin"
    if not tools.exists():
        tools.mkdir()
        (tools / "uv").symlink_to(interpreters.uv_binary())
        for minor, python in interpreters.installed(os.environ).items():
            (tools / f"python{minor}").symlink_to(python)
        (bare / "home").mkdir()
    # Equal packages share an environment, as a user would have it with REPRODUCE_ENV.
    stack = folder.name.split(".squeezenet")[0]
    env |= {"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(bare / "home"), "PYTHONPATH": "/nowhere",
            "REPRODUCE_ENV": str(bare / f"{stack}{len(pins)}"), **more}  # fmt: skip
    done = subprocess.run(
        [str(folder / "reproduce.sh"), *pins], cwd="/", env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", check=False, timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout


KINDS = {
    "a crash": ("onnxruntime opset17", "crashed", "it died of SIGSEGV in run", ["numpy==1.26.4"]),
    "a refused opset": ("onnxruntime opset21", "failed", "Opset 21 is under development", ["onnxruntime==1.31.1"]),
    "wrong numbers": ("openvino opset17.int8", "mismatch", "is wrong: cosine", []),
    "a builder's refusal": ("tensorrt-rtx opset17.int8", "failed", "MyelinCheckException",
                            ["tensorrt-rtx-cu12-libs==1.7.1.116", "tensorrt_rtx_cu12_bindings==1.7.1.116"]),
    "an exporter's failure": ("onnxruntime opset30", "failed", "it failed in export", []),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_failure_shows_and_with_the_mended_version_it_does_not(kind: str, small: Path, bare: Path) -> None:
    words, status, told, mended = KINDS[kind]
    folder = found(small, words)
    expected = json.loads((folder / "expected.json").read_text())
    assert expected["status"] == status
    code, text = shown(folder, bare)
    assert (code, told in text, "reproduced: the same failure" in text) == (0, True, True), text[-3000:]
    if mended:
        code, text = shown(folder, bare, *mended)
        assert (code, text.rstrip().endswith("not reproduced")) == (1, True), text[-3000:]
        assert "it ended without an error" in text


def test_another_failure_is_not_taken_for_it(small: Path, bare: Path, tmp_path: Path) -> None:
    """The folder of the refused opset with the model of the crash, and the other way round: both fail, neither as expected."""
    crash, refused = found(small, "onnxruntime opset17"), found(small, "onnxruntime opset21")
    for mine, other in ((crash, refused), (refused, crash)):
        mixed = tmp_path / mine.name
        shutil.copytree(mine, mixed)
        (mixed / "model.onnx").unlink()
        shutil.copy(other / "model.onnx", mixed)
        code, text = shown(mixed, bare)
        assert code == 1, text[-3000:]


def test_the_smallest_piece_shows_it_too(small: Path, bare: Path) -> None:
    folder = found(small, "tensorrt-rtx")
    assert (folder / "smallest.onnx").stat().st_size < (folder / "model.onnx").stat().st_size / 100
    assert shown(folder, bare, MODEL="smallest.onnx")[0] == 0


def test_no_folder_names_a_place_of_this_machine(small: Path) -> None:
    for path in (small / "artifacts" / "repro").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for place in (str(small), str(Path.home()) + "/", os.sep + "home" + os.sep):
                assert place.encode() not in data, f"{path.name} has {place}"


def test_the_report_and_show_lead_to_it(small: Path) -> None:
    cells = [cell for cell in report(small)["cells"] if cell["status"] in ("failed", "crashed", "mismatch")]
    assert len(cells) == 5
    for cell in cells:
        assert (small / "artifacts" / cell["repro"]["path"] / "README.md").is_file()
    assert f"artifacts/{cells[0]['repro']['path']}" in enginematrix(small, "show", cells[0]["id"])


def test_it_is_written_for_one_cell_and_packed_the_same_twice(small: Path, tmp_path: Path) -> None:
    cell = next(cell["id"] for cell in report(small)["cells"] if cell["status"] == "crashed")
    for name in ("1.zip", "2.zip"):
        enginematrix(small, "repro", cell, "--folder", str(tmp_path / name), "--zip")
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.zip") as file:
        names = {name.split("/", 1)[1]: file.read(name) for name in file.namelist()}
    folder = found(small, "onnxruntime opset17")
    there = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert names == {name: data for name, data in there.items() if not name.startswith("env/")}
    enginematrix(small, "repro", cell, "--folder", str(tmp_path / "small"), "--limit", "1")
    text = (tmp_path / "small" / "README.md").read_text()
    assert "`model.onnx`" in text and "is too large to be here" in text
