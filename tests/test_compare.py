"""The comparison, against a plain oracle that works value by value in Python's own arithmetic."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from builder.worker import compare

TOLERANCE = {"atol": 1e-3, "rtol": 1e-2}


def one(expected: Any, got: Any, tolerance: Any = TOLERANCE, dtype: Any = "float32") -> dict[str, Any]:
    return compare.one(np.asarray(expected, dtype), None if got is None else np.asarray(got, dtype), tolerance)


def whole(*cases: tuple[Any, Any], tolerance: Any = TOLERANCE, **more: Any) -> dict[str, Any]:
    rows = [
        (f"case{index}", [np.asarray(a, "float32")], [None if b is None else np.asarray(b, "float32")])
        for index, (a, b) in enumerate(cases)
    ]
    out = compare.compare(rows, ["y"], tolerance, **more)
    json.dumps(out, allow_nan=False)
    return out


def same_kind(a: float, b: float) -> bool:
    """Whether two values may be compared: both finite, or the same non-finite one."""
    if math.isfinite(a) and math.isfinite(b):
        return True
    return (math.isnan(a) and math.isnan(b)) or a == b


def exact(value: float) -> Fraction:
    return Fraction(value)


floats = st.floats(width=32, allow_nan=True, allow_infinity=True)
tame = st.floats(-1e6, 1e6, width=32)
shapes = hnp.array_shapes(min_dims=0, max_dims=3, max_side=5)


@st.composite
def pairs(draw: st.DrawFn, elements: st.SearchStrategy[float] = floats) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays of a shape, mostly close to each other."""
    shape = draw(shapes)
    a = draw(hnp.arrays("float32", shape, elements=elements))
    kind = draw(st.sampled_from(["same", "near", "any"]))
    if kind == "same":
        return a, a.copy()
    if kind == "any":
        return a, draw(hnp.arrays("float32", shape, elements=elements))
    noise = draw(hnp.arrays("float32", shape, elements=st.floats(-0.015625, 0.015625, width=32)))
    with np.errstate(all="ignore"):
        return a, (a * (1 + noise)).astype("float32")


@settings(max_examples=300, deadline=None)
@given(pairs(), st.sampled_from([0.0, 1e-3, 0.5]), st.sampled_from([0.0, 1e-2]), st.sampled_from([0.0, 0.25]))
def test_verdict_agrees_with_the_oracle(
    arrays: tuple[np.ndarray, np.ndarray], atol: float, rtol: float, allowed: float
) -> None:
    expected, got = arrays
    out = compare.one(expected, got, {"atol": atol, "rtol": rtol, "mismatch": allowed})
    values = list(zip(expected.ravel().tolist(), got.ravel().tolist(), strict=True))
    fits = [same_kind(a, b) for a, b in values]
    wrong = doubtful = 0
    for (a, b), fit in zip(values, fits, strict=True):
        if not fit:
            wrong += 1
        elif math.isfinite(a):
            gap, bound = abs(exact(a) - exact(b)), exact(atol) + exact(rtol) * abs(exact(a))
            if abs(gap - bound) <= bound * Fraction(1, 10**12):
                doubtful += 1  # float64 may round either way on the bound itself
            elif gap > bound:
                wrong += 1
    assert out["nonfinite_equal"] == all(fits)
    total = max(len(values), 1)
    assert wrong / total <= out["mismatched"] <= (wrong + doubtful) / total
    if not doubtful:
        assert out["verdict"] == ("match" if all(fits) and wrong / total <= allowed else "mismatch")
    json.dumps(out, allow_nan=False)


@settings(max_examples=200, deadline=None)
@given(pairs(tame))
def test_measures_agree_with_the_oracle(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    expected, got = arrays
    out = compare.measure(expected, got, 0.0, 0.0)
    a, b = [exact(v) for v in expected.ravel().tolist()], [exact(v) for v in got.ravel().tolist()]
    gaps = sorted(abs(x - y) for x, y in zip(a, b, strict=True))
    assert out["max_abs"] == pytest.approx(float(gaps[-1]))
    assert out["mean_abs"] == pytest.approx(float(sum(gaps) / len(gaps)))
    place = Fraction(99, 100) * (len(gaps) - 1)
    low = gaps[int(place)]
    high = gaps[min(int(place) + 1, len(gaps) - 1)]
    assert out["p99_abs"] == pytest.approx(float(low + (high - low) * (place - int(place))))
    largest = max(abs(x) for x in a)
    floor = largest * Fraction(compare.FLOOR) or Fraction(1)
    relative = [abs(x - y) / max(abs(x), floor) for x, y in zip(a, b, strict=True)]
    assert out["max_rel"] == pytest.approx(float(max(relative)))
    dot, aa, bb = sum(x * y for x, y in zip(a, b, strict=True)), sum(x * x for x in a), sum(y * y for y in b)
    if aa and bb:
        assert out["cosine"] == pytest.approx(float(dot) / math.sqrt(float(aa)) / math.sqrt(float(bb)), abs=1e-9)
    else:
        assert out["cosine"] == (1.0 if aa == bb else 0.0)
    noise = sum(gap * gap for gap in gaps)
    if aa and noise:
        assert out["snr_db"] == pytest.approx(10 * (math.log10(aa) - math.log10(noise)), abs=1e-6)
    else:
        assert out["snr_db"] is None


@settings(max_examples=100, deadline=None)
@given(pairs())
def test_swapping_verdicts_never_matches_what_differs_in_kind(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    """Whatever is NaN or infinite on one side alone is a mismatch, whatever the tolerance."""
    expected, got = arrays
    loose = compare.one(expected, got, {"atol": 1e38, "rtol": 1e38, "mismatch": 1.0, "cosine": -1.0})
    assert (loose["verdict"] == "match") == all(
        same_kind(a, b) for a, b in zip(expected.ravel().tolist(), got.ravel().tolist(), strict=True)
    )


def test_zeros_match_and_are_measured() -> None:
    out = one([0, 0, 0], [0, 0, 0])
    assert out["verdict"] == "match"
    assert (out["max_abs"], out["max_rel"], out["cosine"], out["snr_db"]) == (0, 0, 1.0, None)
    assert one([0, 0], [0, 1])["verdict"] == "mismatch"


def test_nan_in_the_same_place_matches_and_elsewhere_does_not() -> None:
    nan, inf = math.nan, math.inf
    assert one([1, nan, inf, -inf], [1, nan, inf, -inf])["verdict"] == "match"
    for got in ([1, 1, inf, -inf], [nan, nan, inf, -inf], [1, nan, -inf, -inf], [1, nan, inf, 3e38]):
        out = one([1, nan, inf, -inf], got, {"atol": 1e38, "rtol": 1.0})
        assert out["verdict"] == "mismatch"
        assert "NaN" in out["reason"]


def test_infinite_output_where_the_reference_is_finite_is_a_mismatch_by_cosine_too() -> None:
    out = one([1, 2], [1, math.inf], {"cosine": 0.0})
    assert out["verdict"] == "mismatch"


def test_huge_values_do_not_overflow() -> None:
    big = np.finfo("float64").max
    out = compare.one(np.array([big, -big]), np.array([-big, big]), {"rtol": 1e-3})
    assert out["verdict"] == "mismatch"
    json.dumps(out, allow_nan=False)
    assert out["cosine"] == pytest.approx(-1.0)
    assert compare.one(np.array([1e300, 1e300]), np.array([1e300, 1e300]), {"rtol": 1e-3})["cosine"] == pytest.approx(
        1.0
    )
    tiny = compare.one(np.array([1e-300, 1e-300]), np.array([1e-300, 0.0]), {"atol": 1.0})
    assert tiny["cosine"] == pytest.approx(math.sqrt(0.5))


def test_dtype_and_shape_are_held_to() -> None:
    out = compare.one(np.zeros(3, "float32"), np.zeros(3, "float16"), TOLERANCE)
    assert (out["verdict"], out["reason"]) == ("mismatch", "is float16, the reference float32")
    out = compare.one(np.zeros((1, 3), "float32"), np.zeros(3, "float32"), TOLERANCE)
    assert (out["verdict"], out["reason"]) == ("mismatch", "has shape [3], the reference [1, 3]")


def test_fp16_and_int8_are_compared_in_float64() -> None:
    """In their own types the difference itself would overflow."""
    out = compare.one(np.array([-60000], "float16"), np.array([60000], "float16"), TOLERANCE)
    assert out["max_abs"] == pytest.approx(119968, abs=100)
    out = compare.one(np.array([-128], "int8"), np.array([127], "int8"), TOLERANCE)
    assert out["max_abs"] == 255


def test_integers_are_told_apart_beyond_float64() -> None:
    a = np.array([2**53], "int64")
    assert compare.one(a, a + 1, {"atol": 0.5})["verdict"] == "mismatch"
    assert compare.one(a, a, {"atol": 0.0})["verdict"] == "match"
    assert compare.one(np.array([True]), np.array([False]), {"atol": 0.0})["verdict"] == "mismatch"


def test_missing_output() -> None:
    out = whole(([1], None))
    assert (out["verdict"], out["outputs"][0]["reason"]) == ("mismatch", "missing")


def test_another_number_of_outputs() -> None:
    out = compare.compare([("c", [np.zeros(1), np.zeros(1)], [np.zeros(1)])], ["y"], TOLERANCE)
    assert out["verdict"] == "mismatch"
    assert "2 outputs, the model 1" in out["reason"]


def test_an_output_too_many() -> None:
    out = whole(([1], [1]), extra=["debug"])
    assert out["verdict"] == "mismatch"
    assert "debug" in out["reason"]


def test_allowed_share_of_mismatches() -> None:
    tolerance = {"atol": 0.1, "mismatch": 0.25}
    assert whole(([0, 0, 0, 0], [0, 0, 0, 1]), tolerance=tolerance)["verdict"] == "match"
    assert whole(([0, 0, 0, 0], [0, 0, 1, 1]), tolerance=tolerance)["verdict"] == "mismatch"


def test_cosine_alone_judges_by_cosine() -> None:
    out = whole(([1, 2, 3], [2, 4, 6]), tolerance={"cosine": 0.999})
    assert out["verdict"] == "match"
    assert out["outputs"][0]["mismatched"] is None
    assert out["outputs"][0]["max_abs"] == 3
    assert whole(([1, 2, 3], [3, 2, 1]), tolerance={"cosine": 0.999})["verdict"] == "mismatch"
    assert whole(([0, 0], [0, 1]), tolerance={"cosine": 0.9})["verdict"] == "mismatch"


def test_cosine_and_elements_must_both_hold() -> None:
    tolerance = {"atol": 10.0, "cosine": 0.999}
    assert whole(([1, 2, 3], [3, 2, 1]), tolerance=tolerance)["verdict"] == "mismatch"
    assert whole(([1, 2, 3], [20, 40, 60]), tolerance=tolerance)["verdict"] == "mismatch"


@pytest.mark.parametrize(
    ("cases", "tolerance", "reason"),
    [
        ([([1], [1])], {}, "no tolerance to judge by"),
        ([([1], [1])], {"because": "of nothing"}, "no tolerance to judge by"),
        ([], TOLERANCE, "no value was compared"),
        ([([], [])], TOLERANCE, "no value was compared"),
        ([([math.nan], [math.nan])], TOLERANCE, "no value was compared"),
    ],
)
def test_no_comparison_is_no_match(cases: Any, tolerance: Any, reason: str) -> None:
    out = whole(*cases, tolerance=tolerance)
    assert (out["verdict"], out["reason"]) == ("none", reason)


def test_an_empty_output_beside_a_full_one_is_no_objection() -> None:
    assert whole(([], []), ([1], [1]))["verdict"] == "match"


def test_values_that_cannot_be_compared() -> None:
    a = np.array(["text"], "U4")
    out = compare.compare([("c", [a], [a])], ["y"], TOLERANCE)
    assert out["verdict"] == "none"


def test_top1_agreement() -> None:
    metric = {"name": "top1-agreement", "minimum": {"fp32": 1.0, "int8": 0.5}}
    cases = ([[0, 1], [1, 0]], [[0, 3], [0, 3]])
    loose = {"atol": 10.0}
    out = whole(cases, tolerance=loose, metric=metric, precision="int8")
    assert (out["metric"]["value"], out["metric"]["verdict"], out["verdict"]) == (0.5, "match", "match")
    out = whole(cases, tolerance=loose, metric=metric, precision="fp32")
    assert (out["metric"]["verdict"], out["verdict"]) == ("mismatch", "mismatch")
    assert "top1-agreement is 0.5" in out["reason"]


def test_top1_of_nan_agrees_with_nothing() -> None:
    nan = math.nan
    assert compare.top1_agreement([(np.array([[1.0, nan]]), np.array([[1.0, nan]]))]) == 0.0


def test_embedding_cosine_is_the_worst_row() -> None:
    a = np.eye(3, dtype="float32")
    b = a.copy()
    b[2] = [0, 1, 1]
    assert compare.embedding_cosine([(a, b)]) == pytest.approx(math.sqrt(0.5))
    b[1, 0] = math.inf
    assert compare.embedding_cosine([(a, b)]) == -1.0


def test_mask_iou() -> None:
    scores = np.zeros((1, 2, 1, 4), "float32")
    scores[0, 1] = [[-1, -1, 1, 1]]  # classes 0 0 1 1
    other = scores.copy()
    other[0, 1] = [[-1, 1, 1, 1]]  # classes 0 1 1 1
    assert compare.mask_iou([(scores, other)]) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert compare.mask_iou([(scores, scores)]) == 1.0
    single = scores[:, 1:]
    assert compare.mask_iou([(single, other[:, 1:])]) == pytest.approx((1 / 2 + 2 / 3) / 2)
    other[0, 0, 0, 0] = math.nan
    assert compare.mask_iou([(scores, other)]) < (1 / 2 + 2 / 3) / 2


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        ({"name": "nonesuch", "minimum": 1.0}, "no metric of that name"),
        ({"name": "mask-iou", "minimum": 1.0}, "at least three dimensions"),
        ({"name": "top1-agreement", "minimum": {"fp16": 1.0}}, "no minimum for fp32"),
        ({"name": "top1-agreement", "minimum": 1.0, "output": 3}, "missing"),
    ],
)
def test_a_metric_that_cannot_be_judged_is_no_match(metric: Any, reason: str) -> None:
    out = whole(([[1, 2]], [[1, 2]]), metric=metric, precision="fp32")
    assert out["verdict"] == "none"
    assert reason in out["metric"]["reason"]
