"""Boundaries: the neighbours between which cells begin or cease to work, and what was not tried between them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_conflict_rules import cell

from builder.boundaries import boundaries

KNOWN = ["1.15.1", "1.16.0", "1.16.3", "1.17.3", "1.18.0", "1.18.1", "1.19.0", "1.19.2", "1.20.1", "2.0.0rc1"]


def row(told: str, **more: str) -> list[dict[str, Any]]:
    """`1.15.1 x, 1.16.3 +`: `+` verified, `b` built, `x` failed, `n` mismatch, `-` skipped."""
    out = []
    for item in told.split(", "):
        version, mark = item.split()
        status, category = {"+": ("verified", None), "b": ("built", None), "x": ("failed", "unsupported-opset"),
                            "n": ("mismatch", "accuracy"), "-": ("skipped", None)}[mark]  # fmt: skip
        out.append(cell({"engine.onnxruntime": version, "opset": "17", **more}, status, category))
    return out


@pytest.mark.parametrize(
    ("told", "kind", "text"),
    [
        ("1.15.1 x, 1.16.3 x, 1.17.3 +", "mended", "fails up to 1.16.3 (unsupported-opset), works from 1.17.3 on"),
        ("1.17.3 +, 1.18.0 x", "breaks", "works up to 1.17.3, fails from 1.18.0 on (unsupported-opset)"),
        ("1.17.3 b, 1.18.0 x", "breaks", "builds up to 1.17.3, fails from 1.18.0 on (unsupported-opset)"),
        (
            "1.18.1 +, 1.20.1 x", "breaks",
            "works up to 1.18.1, fails from 1.20.1 on (unsupported-opset); between 1.18.1 and 1.20.1, 1.19.x was not tried",
        ),
        (
            "1.18.1 +, 1.19.2 n, 1.20.1 +", "non-monotone",
            "works up to 1.18.1, fails at 1.19.2 (accuracy), works from 1.20.1 on; "
            "between 1.18.1 and 1.19.2, 1.19.0 was not tried",
        ),
        (
            "1.16.3 x, 1.17.3 -, 1.18.1 +", "mended",
            "fails up to 1.16.3 (unsupported-opset), works from 1.18.1 on; "
            "between 1.16.3 and 1.18.1, 1.17.x, 1.18.0 were not tried",
        ),
        ("1.18.0 x, 1.18.1 n, 1.19.0 +", "mended", "fails up to 1.18.1 (unsupported-opset, accuracy), works from 1.19.0 on"),
    ],
)  # fmt: skip
def test_a_row_is_told(told: str, kind: str, text: str) -> None:
    found = boundaries(row(told), {"onnxruntime": KNOWN})
    assert [(item["kind"], item["text"]) for item in found] == [(kind, f"onnxruntime: {text}")]
    for change, pair in zip(found[0]["changes"], found[0]["where"][0]["cells"], strict=True):
        assert [one.split("-")[0] for one in pair] == [change["from"], change["to"]]


@pytest.mark.parametrize(
    "told", ["1.15.1 +, 1.16.3 +", "1.15.1 x, 1.16.3 n", "1.15.1 +, 1.16.3 -", "1.15.1 -, 1.16.3 -", "1.15.1 x"]
)
def test_where_nothing_changes_there_is_no_boundary(told: str) -> None:
    assert boundaries(row(told), {"onnxruntime": KNOWN}) == []


def test_releases_are_in_the_order_of_versions() -> None:
    found = boundaries(row("1.9.0 x, 1.100.0 +, 1.10.0 x"))
    assert found[0]["runs"][0]["last"] == "1.10.0" and found[0]["kind"] == "mended"


def test_a_candidate_is_not_named_as_untried_but_counts_when_it_ran() -> None:
    known = {"onnxruntime": [*KNOWN, "2.1.0"]}
    assert boundaries(row("1.20.1 x, 2.1.0 +"), known)[0]["changes"][0]["untried"] == []
    assert boundaries(row("1.20.1 x, 2.0.0rc1 +"), known)[0]["changes"][0]["to"] == "2.0.0rc1"


def test_equal_boundaries_are_one_and_unlike_rows_are_not_mixed() -> None:
    told = "1.15.1 x, 1.16.3 +"
    cells = row(told, model="a") + row(told, model="b") + row("1.15.1 +, 1.16.3 x", model="c")
    found = boundaries(cells)
    assert [(item["count"], item["models"], item["kind"]) for item in found] == [
        (2, ["a", "b"], "mended"),
        (1, ["c"], "breaks"),
    ]
    assert [place["model"] for place in found[0]["where"]] == ["a", "b"]
    assert found[0]["where"][0]["options"] == {"opset": "17"}
    assert found[0]["where"][0]["stacks"] == ["onnxruntime", "onnx 1.20.1"]


def test_a_python_that_goes_along_with_the_release_does_not_tear_the_row() -> None:
    old, new = row("1.15.1 x")[0], row("1.20.1 +")[0]
    old["engine"]["fields"]["python"] = "3.9"
    new["engine"]["entry"] = "ort-new"
    assert len(boundaries([old, new])) == 1


def test_one_release_on_two_pythons_is_two_rows() -> None:
    cells = [*row("1.15.1 x, 1.20.1 +"), *row("1.15.1 +, 1.20.1 +")]
    for one in cells[2:]:
        one["engine"]["fields"]["python"] = "3.13"
        one["id"] += "-py313"
    found = boundaries(cells)
    assert [(item["count"], item["where"][0]["cells"]) for item in found] == [(1, [["1.15.1-17", "1.20.1-17"]])]


def test_the_opset_is_an_axis_and_a_target_is_not() -> None:
    bad: tuple[str, str | None] = ("failed", "x")
    cells = [
        cell({"opset": opset, "target": target}, *(bad if opset == "9" or target == "sm75" else ("verified", None)))
        for opset in ("9", "13", "17") for target in ("sm75", "sm89")
    ]  # fmt: skip
    found = boundaries(cells)
    assert [(item["axis"], item["text"]) for item in found] == [("opset", "opset: fails up to 9 (x), works from 13 on")]
    assert found[0]["where"][0]["options"] == {"target": "sm89"}


@given(st.lists(st.sampled_from("+xn-b"), min_size=1, max_size=len(KNOWN)))
def test_the_changes_are_those_of_the_row(marks: list[str]) -> None:
    releases = KNOWN[: len(marks)]
    found = boundaries(row(", ".join(map(" ".join, zip(releases, marks, strict=True)))), {"onnxruntime": KNOWN})
    seen = [(version, mark in "+b") for version, mark in zip(releases, marks, strict=True) if mark != "-"]
    wanted = [(a[0], b[0]) for a, b in zip(seen, seen[1:], strict=False) if a[1] != b[1]]
    assert [(change["from"], change["to"]) for item in found for change in item["changes"]] == wanted
    for item in found:
        for change in item["changes"]:
            assert all(marks[releases.index(value)] == "-" for value in change["untried"])
