"""Nights with a lock in which one release moved, for real: the comparison names the component, the cells, the cause and the
remedy.

Marked `real`: makes environments from the package index."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import enginematrix, project

pytestmark = pytest.mark.real

MATRIX = """\
schema: 1
name: nights
exporters:
  onnx: {family: onnx, onnx: 1.23.2}
engines:
  ort: {family: onnxruntime, onnxruntime: [1.16.3, 1.31.1]}
axes:
  model: [squeezenet]
  opset: [17]
  precision: [fp32]
  shapes: [static]
"""
MOVED = "onnxruntime-1.16.3-py3.11"


def locked(folder: Path, numpy: str) -> None:
    """Give one stack another NumPy, as an index would after a release that its packages did not exclude."""
    path = folder / "matrix.lock"
    lock = json.loads(path.read_text())
    packages = lock["stacks"][MOVED]["packages"]
    lock["stacks"][MOVED]["packages"] = [f"numpy=={numpy}" if pin.startswith("numpy==") else pin for pin in packages]
    assert f"numpy=={numpy}" in lock["packages"], "another stack has it, with its hashes"
    path.write_text(json.dumps(lock, indent=1) + "\n")


def test_a_release_that_moved_in_the_lock_is_named(tmp_path: Path) -> None:
    folder = project(tmp_path / "nights", MATRIX)
    enginematrix(folder, "run", "--frozen", "--quiet")
    locked(folder, "2.2.6")
    enginematrix(folder, "run", "--frozen", "--quiet", "--no-predict", code=1)
    found = json.loads(enginematrix(folder, "diff", "--json", "--fail-on", "new", code=1))
    (row,) = found["kinds"]["new-failures"]
    assert row["engine"] == MOVED
    assert row["changes"] == [{"stack": MOVED, "component": "numpy", "old": "1.26.4", "new": "2.2.6"}]
    assert (row["new"]["category"], row["old"]["status"]) == ("python-abi", "verified")
    assert "numpy" in row["remedy"].lower()
    assert (found["regressions"], found["unchanged"], found["asked"]) == (1, 1, True)
    text = enginematrix(folder, "diff", env={"COLUMNS": "80"})
    assert f"beside: numpy 1.26.4 -> 2.2.6 ({MOVED})" in text
    assert max(map(len, text.splitlines())) <= 100

    locked(folder, "1.26.4")  # nothing has to run, and yet what is known now is something else
    assert "Nothing to do" in enginematrix(folder, "run", "--frozen", "--quiet")
    back = json.loads(enginematrix(folder, "diff", "--json", "--fail-on", "new"))
    (row,) = back["kinds"]["fixed"]
    assert row["changes"] == [{"stack": MOVED, "component": "numpy", "old": "2.2.6", "new": "1.26.4"}]
    enginematrix(folder, "run", "--frozen", "--quiet")
    assert enginematrix(folder, "diff", "--runs").count("\n") == 3, "a run that says the same is not kept"
