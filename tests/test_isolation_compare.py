"""What came out otherwise in Docker than in a virtual environment, and what cannot be compared."""

from __future__ import annotations

from typing import Any

import pytest

from builder import isolation_compare


def cell(way: str = "venv", exporter: str = "", **values: Any) -> dict[str, Any]:
    outputs = [{"case": "opt", "name": "y", "max_abs": values.pop("max_abs", 1e-6)}]
    return {
        "slug": "a.cell", "status": "verified", "stage": "compare", "category": None, "degraded": [],
        "comparison": {"outputs": outputs}, "isolation": {"engine": way, "exporter": exporter or way}, **values,
    }  # fmt: skip


def compare(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    return isolation_compare.compare({"1a": one}, {"1a": two})


def test_what_is_equal_is_counted() -> None:
    found = compare(cell(), cell("docker"))
    assert found == {"compared": 1, "differences": [], "numbers": [], "missing": {"venv": 0, "docker": 0}, "alone": 0}
    assert list(isolation_compare.lines(found)) == ["1 cells ran both ways, 0 came out otherwise"]


@pytest.mark.parametrize(
    "other",
    [
        {"status": "crashed", "stage": "run", "category": "crash"}, {"stage": "measure"}, {"category": "accuracy"},
        {"degraded": [{"asked": "fp16", "got": "fp32", "how": "by itself"}]},
        {"status": "blocked", "category": "python-abi", "stage": "export"},
    ],
)  # fmt: skip
def test_another_outcome_is_a_difference(other: dict[str, Any]) -> None:
    found = compare(cell(), cell("docker", **other))
    (entry,) = found["differences"]
    assert (entry["id"], entry["slug"], found["compared"], found["numbers"]) == ("1a", "a.cell", 1, [])
    assert entry["venv"] != entry["docker"]
    text = list(isolation_compare.lines(found))
    assert text[:2] == ["1a a.cell", "  venv    verified at compare"]
    assert text[2].startswith("  docker  ") and text[2] != text[1]


def test_a_difference_counts_before_its_numbers() -> None:
    found = compare(cell(max_abs=1.0, status="mismatch"), cell("docker"))
    assert (len(found["differences"]), found["numbers"]) == (1, [])


def test_other_last_digits_are_told_apart_from_other_outcomes() -> None:
    found = compare(cell(max_abs=1e-6), cell("docker", max_abs=2e-6))
    assert found["differences"] == []
    assert found["numbers"] == [
        {"id": "1a", "slug": "a.cell", "venv": [["opt", "y", 1e-6]], "docker": [["opt", "y", 2e-6]]}
    ]
    assert "other last digits" in next(iter(isolation_compare.lines(found)))
    assert (
        compare(cell(comparison=None, status="built"), cell("docker", comparison=None, status="built"))["numbers"] == []
    )


@pytest.mark.parametrize(
    ("status", "category"),
    [("skipped", None), ("skipped", "infrastructure"), ("blocked", "infrastructure"), ("unsupported", None)],
)
def test_what_did_not_run_one_way_is_missing_there(status: str, category: str | None) -> None:
    found = compare(cell(status=status, category=category), cell("docker"))
    assert (found["compared"], found["missing"], found["differences"]) == (0, {"venv": 1, "docker": 0}, [])
    assert any("1 cells have no result in venv; `enginematrix run --isolation venv`" in line
               for line in isolation_compare.lines(found))  # fmt: skip
    both = compare(cell(status=status, category=category), cell("docker", status=status, category=category))
    assert both["missing"] == {"venv": 1, "docker": 1}


def test_what_is_realised_in_one_way_only_stands_alone() -> None:
    assert compare(cell("venv"), cell("venv"))["alone"] == 1, "it has no image"
    assert compare(cell("docker", status="skipped"), cell("docker"))["alone"] == 1, "it needs Docker"
    mixed = compare(cell("docker", exporter="venv", status="skipped"), cell("docker"))
    assert (mixed["alone"], mixed["missing"]) == (1, {"venv": 0, "docker": 0}), "no run will ever make it"
    assert compare(cell("venv"), cell("docker", exporter="venv"))["compared"] == 1, "its engine alone has an image"
