"""The job `locate`: marking outputs in a file and in a TensorRT network (made up: tests/fakes), and what an error is."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import worker

sys.modules.setdefault("worker", worker)

from fakes import onnxfile  # noqa: E402
from fakes.tensorrt_fake import RELEASES  # noqa: E402
from test_tensorrt import Bench, bench, double, over  # noqa: E402, F401

from worker import compare, jobs, locate, locate_model, subgraph  # noqa: E402

CHAIN = [("Conv", "conv", ["x", "w"], ["c"]), ("Relu", "relu", ["c"], ["r"]), ("Add", "add", ["r", "c"], ["y"])]


# What is wrong ---------------------------------------------------------------------------------------------------------


def test_an_error_hangs_on_no_scale() -> None:
    a = np.array([3.0, 4.0], "float32")
    for scale in (1e-20, 1.0, 1e20):
        got = locate.difference(a * scale, a * scale + np.array([0, 0.5], "float32") * scale)
        assert got["error"] == pytest.approx(0.1, rel=1e-5)
        assert (got["wrong"], got["broken"]) == (False, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_where_none_should_be_are_wrong(value: float) -> None:
    got = locate.difference(np.ones(4, "float32"), np.array([1, value, 1, 1], "float32"))
    assert (got["wrong"], got["broken"], got["error"]) == (True, 1, None)
    assert got["reason"] == "1 of 4 values are not finite, or should not be"
    same = np.array([1, value], "float32")
    assert locate.difference(same, same)["wrong"] is False
    assert locate.difference(same, np.ones(2, "float32"))["wrong"] is True


@pytest.mark.parametrize("never", [-65504.0, -1e9, -math.inf, -3.4028234663852886e38])
def test_a_mask_says_the_same_by_any_very_large_number(never: float) -> None:
    lowest = np.array([0.5, np.finfo("float32").min], "float32")
    got = locate.difference(lowest, np.array([0.25, never], "float32"))
    assert (got["wrong"], got["error"]) == (False, 0.5), "what is beside the mask is not hidden by it"
    assert locate.difference(lowest, np.array([0.5, 7.0], "float32"))["error"] is not None
    other = locate.difference(lowest, np.array([0.5, -never], "float32"))
    assert other["wrong"] or other["error"] >= 1


def test_large_values_of_a_network_are_no_mask() -> None:
    large = np.array([1e10, 2e10, 4e10], "float32")
    assert locate.difference(large, large[::-1].copy())["error"] > 0.5


def test_an_overflow_is_no_mask() -> None:
    got = locate.difference(np.array([1.0, 70000.0], "float32"), np.array([1.0, math.inf], "float16"))
    assert got["wrong"]


def test_what_cannot_be_compared_says_why() -> None:
    assert locate.difference(np.ones(2), None)["reason"] == "the engine did not give it"
    assert locate.difference(np.ones((2, 1)), np.ones((1, 2)))["reason"] == "shape [1, 2], the reference [2, 1]"
    assert locate.difference(np.array(["a"]), np.array(["a"]))["wrong"] is False
    assert locate.difference(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5]))["error"] == 0.25
    assert locate.difference(np.zeros(2), np.ones(2))["wrong"] is True
    assert locate.difference(np.zeros(2), np.zeros(2))["error"] == 0.0
    assert locate.difference(np.zeros(0), np.zeros(0))["error"] == 0.0


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-100, 100, width=32), st.floats(-1, 1)), min_size=1, max_size=30),
    st.floats(1e-6, 1.0), st.floats(0, 0.5),
)  # fmt: skip
def test_nothing_within_the_tolerance_has_a_larger_error_than_is_allowed(
    values: list[tuple[float, float]], atol: float, rtol: float
) -> None:
    reference = np.array([value for value, _ in values], "float64")
    got = reference + np.array([part for _, part in values]) * (atol + rtol * np.abs(reference))
    error = locate.difference(reference, got)["error"]
    limit = locate.allowed(reference, {"atol": atol, "rtol": rtol})
    if error is not None and limit is not None:
        assert error <= limit * (1 + 1e-6)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=20), st.floats(0.1, 0.999))
def test_what_fails_the_cosine_has_a_larger_error_than_is_allowed(
    pairs: list[tuple[float, float]], least: float
) -> None:
    reference, got = (np.array(column) for column in zip(*pairs, strict=True))
    if not np.abs(reference).max() > 1e-3 or not np.abs(got).max() > 1e-3:
        return
    if compare.cosine(reference, got) < least:
        assert locate.difference(reference, got)["error"] >= locate.allowed(reference, {"cosine": least}) * (1 - 1e-6)


def test_without_a_tolerance_nothing_is_allowed_for() -> None:
    assert locate.allowed(np.ones(3), {}) is None
    assert locate.allowed(np.ones(3, "int64"), {"atol": 1}) is None
    assert locate.allowed(np.full(4, 2.0), {"atol": 0.1, "rtol": 0.01, "cosine": 0.5}) == pytest.approx(0.06)


# Marking ---------------------------------------------------------------------------------------------------------------


def test_tensors_are_marked_in_the_file(tmp_path: Path) -> None:
    path = onnxfile.write(tmp_path / "m.onnx", CHAIN, weights=["w"])
    locate_model.mark(str(path), str(tmp_path / "marked.onnx"), ["r", "y", "c"])
    marked = subgraph.read(str(tmp_path / "marked.onnx"))
    assert marked.outputs == ["y", "r", "c"]
    assert [node.raw.tobytes() for node in marked.nodes] == [
        node.raw.tobytes() for node in subgraph.read(str(path)).nodes
    ]
    assert marked.inputs == ["x"]


def test_weights_beside_the_file_are_beside_the_marked_one(tmp_path: Path) -> None:
    path = onnxfile.write(tmp_path / "m.onnx", CHAIN, weights=["w"])
    (tmp_path / "m.data").write_bytes(b"weights")
    (tmp_path / "job").mkdir()
    locate_model.mark(str(path), str(tmp_path / "job" / "marked.onnx"), ["c"], ["m.data"])
    assert (tmp_path / "job" / "m.data").read_bytes() == b"weights"


def test_a_quantised_tensor_is_marked_behind_its_quantisation(tmp_path: Path) -> None:
    plain = subgraph.read(str(onnxfile.write(tmp_path / "p.onnx", CHAIN, weights=["w"])))
    quantised = [
        ("QuantizeLinear", "q0", ["x", "s"], ["xq"]), ("DequantizeLinear", "d0", ["xq", "s"], ["xd"]),
        ("Constant", "k", [], ["w2"]), ("Conv", "conv", ["xd", "w2"], ["c"]),
        ("QuantizeLinear", "q1", ["c", "s"], ["cq"]), ("DequantizeLinear", "d1", ["cq", "s"], ["cd"]),
        ("Relu", "relu", ["cd"], ["r"]), ("QuantizeLinear", "q2", ["r", "s"], ["rq"]),
        ("DequantizeLinear", "d2", ["rq", "s"], ["rd"]), ("Add", "add", ["rd", "r"], ["y"]),
    ]  # fmt: skip
    model = subgraph.read(str(onnxfile.write(tmp_path / "q.onnx", quantised, weights=["s"])))
    outline = locate_model.outline(plain, model)
    assert outline["pairs"] == [["c", "cd"], ["r", "r"], ["y", "y"]], "r is taken as it is, too"
    assert outline["makers"]["c"] == ["conv", "Conv"]
    assert outline["inputs"] == ["x"]
    assert outline["nodes"][3]["inputs"] == ["xd", "w2"]


# TensorRT --------------------------------------------------------------------------------------------------------------


def made(bench: Bench, tmp_path: Path, model: Path, marks: list[list[str]], **values: Any) -> dict[str, Any]:  # noqa: F811
    """The part `engine` over a made-up release."""
    x = np.array([[-1, 2, 3], [4, -5, 6]], "float32")
    right = {"r": np.maximum(x, 0), "y": 2 * np.maximum(x, 0), **values}
    np.savez(tmp_path / "case.npz", input_0=x, output_0=right["y"])
    np.savez(tmp_path / "ref.npz", **{f"tensor_{at}": right.get(name, x) for at, (name, _) in enumerate(marks)})
    job = bench.job(
        model, part="engine", marks=marks, names=[name for name, _ in marks], case=str(tmp_path / "case.npz"),
        values=str(tmp_path / "ref.npz"), label="static", tolerance={"atol": 1e-5, "rtol": 1e-4}, metric=None,
        profile={"x": {"min": [1, 3], "opt": [2, 3], "max": [4, 3]}},
    )  # fmt: skip
    job.kind = "locate"
    result = locate.locate(job)
    jobs.clean(result, "result", job)
    return result


@over(*RELEASES[1:])
def test_tensors_are_marked_in_a_tensorrt_network(bench: Bench, double: Path, tmp_path: Path) -> None:  # noqa: F811
    got = made(bench, tmp_path, double, [["r", "r"], ["y", "y"]])
    assert got["comparison"]["verdict"] == "match"
    assert [got["tensors"][name]["error"] for name in ("r", "y")] == [0.0, 0.0]
    assert got["outputs"][0]["name"] == "y"
    off = made(bench, tmp_path, double, [["r", "r"]], r=np.full((2, 3), 4.0, "float32"))
    assert off["tensors"]["r"]["error"] > 0.3
    assert off["comparison"]["verdict"] == "match"


@over(RELEASES[-1])
def test_a_tensor_that_the_network_has_not_is_refused_by_name(bench: Bench, double: Path, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(jobs.Failure, match="no tensor gone to mark"):
        made(bench, tmp_path, double, [["gone", "gone"]])


def test_bad_parts_and_models_are_bad_input(tmp_path: Path) -> None:
    job = jobs.Job("locate", {"part": "nothing"}, str(tmp_path), lambda what: None)
    with pytest.raises(jobs.BadInput, match="no part 'nothing'"):
        locate.locate(job)
    (tmp_path / "bad.onnx").write_bytes(b"\xff\xff\xff")
    job = jobs.Job("locate", {"part": "outline", "plain": str(tmp_path / "bad.onnx"), "model": str(tmp_path / "bad.onnx")},
                   str(tmp_path), lambda what: None)  # fmt: skip
    with pytest.raises(jobs.BadInput, match="bad.onnx is no model to look into"):
        locate.locate(job)


def test_symbols_have_the_sizes_of_the_case(tmp_path: Path) -> None:
    path = onnxfile.write(tmp_path / "m.onnx", CHAIN, weights=["w"], shape=["N", 3])
    np.savez(tmp_path / "case.npz", input_0=np.zeros((5, 3), "float32"), output_0=np.zeros((5, 3), "float32"))
    given = {"part": "outline", "plain": str(path), "model": str(path), "case": str(tmp_path / "case.npz"),
             "inputs": [{"name": "x", "dtype": "float32", "shape": ["N", 3]}]}  # fmt: skip
    found = locate.locate(jobs.Job("locate", given, str(tmp_path), lambda what: None))
    assert found["types"]["y"] == ["float32", [5, 3]]
    assert found["pairs"] == [["c", "c"], ["r", "r"], ["y", "y"]]
