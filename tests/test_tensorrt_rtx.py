"""The TensorRT adapter on TensorRT for RTX itself: four releases, each in its own environment (`-m real`)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from running import enginematrix, project, report
from test_adapters import Bench, bench, models, over, root, rtx  # noqa: F401  (fixtures)

from builder.worker import subgraph

pytestmark = pytest.mark.real

RELEASES = tuple(rtx(version) for version in ("1.4.0.76", "1.5.0.114", "1.6.1.120", "1.7.1.116"))
TARGET = {"target": "sm89"}
RANGE = {"min": [1, 3, 16, 16], "opt": [2, 3, 16, 16], "max": [4, 3, 16, 16]}


def refusal(bench: Bench, model: str, **more: Any) -> dict[str, Any]:  # noqa: F811
    end = bench.job("build", model, **more)
    assert end.end == {"exit": 0}
    assert end.output is not None
    assert not end.output["ok"]
    error: dict[str, Any] = end.output["error"]
    return error


def smallest(bench: Bench, model: str, error: dict[str, Any], **more: Any) -> list[dict[str, Any]]:  # noqa: F811
    end = bench.job(
        "subgraph",
        model,
        refused=error.get("unsupported", []),
        message=error["message"],
        failed_at=error["stage"],
        **more,
    )
    assert end.ok, (end.end, end.output, (bench.last / "log.txt").read_text())
    assert end.output is not None
    pieces: list[dict[str, Any]] = end.output["result"]["subgraphs"]
    return pieces


@over(*RELEASES)
def test_what_is_asked_is_set_or_refused_by_name(bench: Bench) -> None:  # noqa: F811
    result, _ = bench.build("fp32", options={**TARGET, "workspace": "268435456", "optimization": "1", "tf32": "true"})
    found = result["found"]
    assert (found["workspace"], found["optimization"], found["flags"]) == (268435456, 1, ["TF32"])
    for options, words in (
        ({"hardware": "ampere-plus"}, "has no hardware-compatible engines"),
        ({"device": "dla"}, "finds 0 DLA cores here, and core 0 was asked"),
        ({"calibration": "entropy"}, ""),
        ({"optimization": "7"}, "a number from 0 to 5"),
        ({"workspace": "lots"}, "a number of bytes"),
    ):
        more = {"precision": "int8", "realised": "flag"} if "calibration" in options else {}
        error = refusal(bench, "fp32", options={**TARGET, **options}, **more)
        assert error["stage"] == "build"
        assert words in error["message"]
        assert re.search(r"has no BuilderFlag\.INT8|calibrat|has neither", error["message"]) or words


@over(*RELEASES)
def test_several_profiles(bench: Bench) -> None:  # noqa: F811
    result, _ = bench.build("dynamic", options={**TARGET, "tune": "min+max"}, profile={"x": RANGE})
    assert result["found"]["profiles"] == ["min", "max"]


@over(*RELEASES)
def test_a_refused_file_is_judged_node_by_node(bench: Bench) -> None:  # noqa: F811
    """`int8` has an INT32 DequantizeLinear, which TensorRT does not take, as its fourth node."""
    error = refusal(bench, "int8", precision="int8", options=TARGET)
    assert error["stage"] == "parse"
    assert [(entry["node"], entry["operator"]) for entry in error["unsupported"]] == [("dq_b", "DequantizeLinear")]
    judged = error["found"]["parser"]
    assert judged["nodes"] == 10
    assert judged["refused"] == 1
    assert judged["supported"] >= 3  # those before it, at least
    assert judged["supported"] + judged["refused"] + len(judged["unjudged"]) == 10
    assert all(judged["operators"].values())  # no operator of it is unknown: it is the type


@over(*RELEASES)
def test_the_smallest_piece_that_is_refused_is_refused_again(bench: Bench) -> None:  # noqa: F811
    error = refusal(bench, "int8", precision="int8", options=TARGET)
    (piece,) = smallest(bench, "int8", error, precision="int8", options=TARGET)
    assert piece["nodes"] == ["dq_b"]
    assert (piece["of"], piece["smallest"]) == (10, True)
    file = bench.last / piece["model"]
    assert file.stat().st_size < 1000
    again = refusal(bench, str(file.with_suffix("")), options=TARGET)
    assert [entry["node"] for entry in again["unsupported"]] == ["dq_b"]


@over(*RELEASES)
def test_unknown_operators_have_a_piece_each(bench: Bench) -> None:  # noqa: F811
    pieces = smallest(bench, "unknown", refusal(bench, "unknown"))
    assert [piece["nodes"] for piece in pieces] == [["first"], ["first", "second"]]


@over(*RELEASES)
def test_a_refusal_of_the_builder_that_names_no_node_is_pinned_down(bench: Bench) -> None:  # noqa: F811
    options = {**TARGET, "workspace": "1048576"}
    error = refusal(bench, "fp32", options=options)
    assert error["stage"] == "build"
    assert "within workspace limit" in error["message"]
    assert not error.get("unsupported")
    (piece,) = smallest(bench, "fp32", error, options=options)
    assert piece["operators"] == ["Conv"]
    assert piece["of"] == 5


@over(*RELEASES)
def test_a_file_that_is_no_engine_is_refused_with_the_librarys_diagnosis(bench: Bench) -> None:  # noqa: F811
    end = bench.job("run", "fp32", engine=str(bench.models / "fp32.onnx"), cases=[], tolerance={"atol": 1}, metric=None)
    assert end.output is not None
    error = end.output["error"]
    assert error["stage"] == "load"
    assert error["found"]["validity"] == ["INVALID", "MALFORMED_ENGINE"]
    assert Path(bench.models).name not in error["message"]


MATRIX = """\
schema: 1
name: refused
exporters:
  onnx: {family: onnx, onnx: 1.23.2}
engines:
  rtx: {family: tensorrt-rtx, tensorrt-rtx: 1.7.1.116, cuda: 12}
axes:
  model: [squeezenet]
  opset: [17]
  precision: [fp32]
  shapes: [static]
  target: [sm89]
  workspace: ["1048576", "1073741824"]
groups: {default: all}
"""


def test_a_refused_cell_of_a_run_comes_with_the_file_that_shows_it(tmp_path: Path) -> None:
    folder = project(tmp_path, MATRIX)
    enginematrix(folder, "run", "--frozen", code=1)
    cells = {cell["axes"]["workspace"]: cell for cell in report(folder)["cells"]}
    assert cells["1073741824"]["status"] == "built"
    assert cells["1073741824"]["found"]["workspace"] == 1 << 30
    assert cells["1073741824"]["files"]["subgraphs"] == []
    refused = cells["1048576"]
    assert refused["status"] == "failed"
    (piece,) = refused["files"]["subgraphs"]
    assert len(piece["nodes"]) == 1
    assert piece["of"] > 50
    file = folder / "artifacts" / piece["path"]
    assert file.suffix == ".onnx"
    assert [node.name for node in subgraph.read(str(file)).nodes if node.name] == piece["nodes"]
    shown = enginematrix(folder, "show", refused["id"])
    assert piece["path"] in shown
    assert "1 of" in shown
    enginematrix(folder, "gc")
    assert file.exists()
