"""The families whose engines are segments of a framework's graph, Torch-TensorRT and TF-TRT, as far as they go without
their libraries: cells, packages, and the reason why nothing runs here."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder import spec
from builder.matrix import Matrix, expand

ROOT = Path(__file__).parent.parent
MATRIX = """
schema: 1
name: segments
exporters:
  torch: {family: torch, torch: 2.13.0}
  tf: {family: tensorflow, tensorflow: 2.19.1}
engines:
  trt: {family: torch-tensorrt, torch-tensorrt: [2.4.0, 2.8.0]}
  tftrt: {family: tf-trt, tensorflow: [2.15.1, 2.17.1]}
axes:
  model: [encoder, keras_cnn]
  precision: [fp32, fp16, int8]
  shapes: [static]
"""


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    path = tmp_path / "matrix.yaml"
    path.write_text(MATRIX)
    return expand(spec.load(path, ROOT / "images", ROOT / "recipes"))


def test_each_takes_the_models_of_its_framework_and_no_opset(matrix: Matrix) -> None:
    cells = {(cell.engine.id, cell.model, cell.options["precision"]) for cell in matrix.cells}
    torch, tensorflow = ("torch-tensorrt-2.4.0-py3.11", "torch-tensorrt-2.8.0-py3.12"), ("2.15.1", "2.17.1")
    assert cells == {
        *((stack, "encoder", precision) for stack in torch for precision in ("fp32", "fp16")),
        *((f"tf-trt-tensorflow{v}-py3.11", "keras_cnn", p) for v in tensorflow for p in ("fp32", "fp16")),
    }


def test_the_packages_are_what_each_library_names(matrix: Matrix) -> None:
    lines = {cell.engine.id: [item.line for item in cell.engine.requirements] for cell in matrix.cells}
    assert "torch-tensorrt==2.8.0" in lines["torch-tensorrt-2.8.0-py3.12"]
    assert not any(line.startswith("torch==") for line in lines["torch-tensorrt-2.8.0-py3.12"])  # as it asks for it
    assert {"tensorflow[and-cuda]==2.17.1", "tensorrt_libs==8.6.1"} <= set(lines["tf-trt-tensorflow2.17.1-py3.11"])
