"""Trace and bisect with real releases, as a user runs them: which package broke a night, which release began to read an opset.

Marked `real`: makes environments from the package index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from running import ROOT, enginematrix, project

from builder.bisect_search import bound
from builder.environment import uv

pytestmark = pytest.mark.real

MATRIX = """\
schema: 1
name: real
exporters:
  onnx: {family: onnx, onnx: 1.23.2}
engines:
  ort: {family: onnxruntime, onnxruntime: [1.16.3, 1.23.2]}
axes:
  model: [squeezenet]
  opset: [17, 23]
  precision: [fp32]
  shapes: [static]
"""
STACK = "onnxruntime-1.16.3-py3.11"
MOVED = {"numpy": "2.2.6", "protobuf": "3.20.3"}


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = project(tmp_path_factory.mktemp("nights"), MATRIX)
    enginematrix(folder, "run", "--frozen", "--quiet", "--no-predict", "--fail-on", "never")
    return folder


def told(folder: Path, *arguments: str) -> dict[str, Any]:
    text = enginematrix(folder, *arguments, "--json")
    found: dict[str, Any] = json.loads(text[text.index("{\n") :])
    return found


def test_the_release_that_began_to_read_an_opset_is_found(night: Path) -> None:
    """Opset 23 came with onnx 1.18, which ONNX Runtime carries from 1.23.0 on; the matrix holds neither neighbour."""
    found = told(night, "bisect", "--model", "squeezenet", "--axis", "onnxruntime", "--where", "opset=23")
    assert found["boundary"] == {"good": "1.23.0", "bad": "1.22.1", "kind": "mended", "between": []}
    names = found["releases"]
    inside = names.index("1.23.2") - names.index("1.16.3") - 1
    assert 0 < found["runs"] <= bound(inside)
    assert "opset 23" in found["diagnosis"]
    again = told(night, "bisect", "--model", "squeezenet", "--axis", "onnxruntime", "--where", "opset=23")
    assert (again["runs"], again["steps"], again["boundary"]) == (0, 0, found["boundary"])


def test_the_package_that_broke_a_night_is_named(night: Path) -> None:
    path = night / "matrix.lock"
    lock = json.loads(path.read_text())
    pins = (pin.partition("==") for pin in lock["stacks"][STACK]["packages"])
    lock["stacks"][STACK]["packages"] = [f"{name}=={MOVED.get(name, version)}" for name, _, version in pins]
    assert {f"{name}=={version}" for name, version in MOVED.items()} <= lock["packages"].keys(), (
        "other stacks have them"
    )
    path.write_text(json.dumps(lock, indent=1) + "\n")
    enginematrix(night, "run", "--frozen", "--quiet", "--no-predict", "--fail-on", "never")
    (one,) = told(night, "trace")["traced"]
    assert (one["verdict"], one["component"], one["stack"]) == ("named", "numpy 1.26.4 -> 2.2.6", STACK)
    assert one["category"] == "python-abi" and "numpy" in one["remedy"].lower()
    assert [crossing["answer"] for crossing in one["evidence"][:2]] == ["fails", "works"]
    assert enginematrix(night, "diff", "--runs").count("\n") == 2, "no run of the matrix"
    keys = {crossing["key"] for crossing in one["evidence"] if crossing["key"]}
    assert len(keys) == sum(bool(crossing["key"]) for crossing in one["evidence"]), "each has evidence of its own"


def test_uv_says_whether_pins_fit_together_and_what_their_hashes_are() -> None:
    lock = json.loads((ROOT / "matrix.lock").read_text())
    cutoff, pins = lock["cutoff"], lock["stacks"]["onnxruntime-1.18.1-py3.12"]["packages"]
    assert uv.misfit(pins, "3.12", cutoff) == ""
    numpy = [pin if not pin.startswith("numpy==") else "numpy==2.2.6" for pin in pins]
    assert "depends on numpy>=1.21.6,<2.0" in uv.misfit(numpy, "3.12", cutoff)
    assert (
        uv.misfit([pin for pin in pins if not pin.startswith("sympy==")], "3.12", cutoff)
        == "they ask for sympy as well"
    )
    had = uv.hashes_of(pins, "3.12", cutoff)
    assert {pin: set(hashes) for pin, hashes in had.items()} == {pin: set(lock["packages"][pin]) for pin in pins}
    with pytest.raises(uv.PackageError):
        uv.hashes_of(["numpy==0.0.0"], "3.12", cutoff)
