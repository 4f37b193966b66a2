"""benchmarks/gpu/ as far as it goes without a GPU: its matrix, and wheels of what is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from builder import matrix, spec
from builder.environment.interpreters import uv_binary

ROOT = Path(__file__).parent.parent
GPU = ROOT / "benchmarks" / "gpu"


def test_the_matrix_is_one_of_today(tmp_path: Path) -> None:
    shutil.copy(GPU / "matrix.yaml", tmp_path)
    found = matrix.expand(spec.load(tmp_path / "matrix.yaml", ROOT / "images", ROOT / "recipes"))
    assert {cell.engine.id for cell in found.cells} == {
        "onnxruntime-gpu-1.28.0-py3.12", "onnxruntime-gpu-1.31.1-py3.12", "onnxruntime-gpu-1.26.0-librariessystem-py3.12",
        "onnxruntime-gpu-1.31.1-librariessystem-py3.12", "torch-cuda-torch2.11.0-py3.12", "tensorrt-rtx-1.7.1.116-cuda13-py3.12",
    }  # fmt: skip
    timed = [cell for cell in found.cells if cell.attributes.measure]
    assert {cell.options["precision"] for cell in timed} == {"fp32", "fp16"}
    assert {cell.model for cell in timed} == {"encoder"} and {cell.options["tf32"] for cell in timed} == {"off"}


def test_what_is_installed_becomes_wheels_that_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = subprocess.run(
        [sys.executable, str(GPU / "installed.py"), str(tmp_path / "wheels"), "rich", "no-such-package"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    names = sorted(path.name.partition("-")[0].lower() for path in (tmp_path / "wheels").iterdir())
    assert {"rich", "pygments", "markdown_it_py", "mdurl"} <= set(names)  # what it asks for, and what that asks for
    assert made.startswith(f"{len(names)} wheels, ")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    (tmp_path / "uv.toml").write_text("no-index = true\n")
    monkeypatch.setenv("UV_CONFIG_FILE", str(tmp_path / "uv.toml"))
    subprocess.run([uv_binary(), "venv", "-q", "--python", sys.executable, str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([uv_binary(), "pip", "install", "-q", "--python", str(python), "rich"], check=True)
    ask = [str(python), "-c", "import rich.markdown; print(rich.markdown.__file__)"]
    done = subprocess.run(ask, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(tmp_path / "venv"))
