"""Which operators work where: the table, and what the report's own pages say of a suite's thousands of cells."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_report import HOSTILE, fake_report, predictions

from builder.report import build_report, check_report
from builder.report.operators import FEW, FILES, csv_text, fold, table, works
from builder.report.operators_page import view
from builder.values import STATUSES

RELEASES = ("1.15.1", "1.16.3", "1.20.1", "1.31.1")
#: case -> its outcome on each release, and on 1.16.3 with another NumPy
CASES = {
    ("Abs", "test_abs"): ("verified",) * 4 + ("crashed",),
    ("Conv", "test_conv_a"): ("failed", "verified", "mismatch", "verified", "crashed"),
    ("Conv", "test_conv_b"): ("failed", "verified", "verified", "verified", "crashed"),
    ("Gelu", "test_gelu"): ("failed", "failed", "verified", "verified", "crashed"),
    ("New", "test_new"): ("failed",) * 4 + ("crashed",),
    ("Odd", "test_odd"): ("skipped", "skipped", "verified", "timeout", "skipped"),
    ("Rtx", "test_rtx"): ("built",) * 4 + ("built",),
}


def stack(version: str, **more: str) -> dict[str, Any]:
    suffix = "".join(f"-{key}{value}" for key, value in more.items())
    fields = {"onnxruntime": version, **more, "python": "3.12"}
    return {"id": f"onnxruntime-{version}{suffix}-py3.12", "entry": "ort", "family": "onnxruntime", "fields": fields}


STACKS = [*(stack(version) for version in RELEASES), stack("1.16.3", numpy="2.2.6")]


def case_cells(copies: int = 1, line: str = "no kernel") -> list[dict[str, Any]]:
    template = next(cell for cell in fake_report()["cells"] if cell["status"] == "verified")
    out = []
    for copy in range(copies):
        for (operator, case), results in CASES.items():
            for engine, status in zip(STACKS, results, strict=True):
                bad = status in ("failed", "mismatch", "crashed", "timeout")
                out.append({
                    **template, "id": f"{copy}{case[5:]}{engine['id']}"[:60], "status": status, "engine": engine,
                    "axes": {"model": "operators", "operator": operator, "case": f"{case}{copy or ''}"},
                    "suite": {"name": "operators", "strict": False, "package": "onnx", "version": "1.23.2", "precision": "f32",
                              "domain": "ai.onnx.preview" if operator == "New" else "", "opset": 13 + copy % 2},
                    "stage": "run" if bad else "compare", "category": "build-error" if bad else None,
                    "line": line if bad else None,
                    "reason": "not tried" if status == "skipped" else "because", "expected": None, "measure": None,
                    "comparison": template["comparison"] if status == "verified" else None, "degraded": [],
                    "stages": [], "flaky": False,
                })  # fmt: skip
    return out


def report(cases: list[dict[str, Any]], rest: int = 30) -> dict[str, Any]:
    made = fake_report()
    made["cells"] = [*made["cells"][:rest], *cases]
    made["predictions"] = predictions(made["cells"])
    made["selected"] = len(made["cells"])
    made["counts"] = {status: sum(cell["status"] == status for cell in made["cells"]) for status in STATUSES}
    return made


@pytest.fixture(scope="module")
def data() -> Iterator[dict[str, Any]]:
    cases = case_cells()
    yield table(report(cases), cases)


def row(data: dict[str, Any], operator: str) -> dict[str, Any]:
    (found,) = [row for row in data["suites"][0]["operators"] if row["operator"] == operator]
    return dict(found)


def test_what_works_on_which_stack(data: dict[str, Any]) -> None:
    (suite,) = data["suites"]
    assert [stack["label"] for stack in suite["stacks"]] == [
        "1.15.1",
        "1.16.3",
        "1.16.3 numpy 2.2.6",
        "1.20.1",
        "1.31.1",
    ]
    assert [entry["operator"] for entry in suite["operators"]] == ["Abs", "Conv", "Gelu", "New", "Odd", "Rtx"]
    assert row(data, "Abs")["works"] == ["all", "all", "none", "all", "all"]
    assert row(data, "Conv")["works"] == ["none", "all", "none", "some", "all"]
    assert row(data, "Odd")["works"] == ["unknown", "unknown", "unknown", "all", "none"]
    assert set(row(data, "Rtx")["works"]) == {"built"}
    assert row(data, "New")["domain"] == "ai.onnx.preview"
    assert suite["counts"][0] == {"verified": 1, "failed": 4, "skipped": 1, "built": 1}


def test_the_release_since_which_an_operator_works(data: dict[str, Any]) -> None:
    def releases(operator: str) -> Any:
        return row(data, operator)["releases"]["onnxruntime"]

    assert releases("Abs") == {"since": "1.15.1", "first": "1.15.1", "lost": []}  # the variant is no release
    # It worked from 1.16.3 on, and then in part did not: it works since the last release alone.
    assert releases("Conv") == {
        "since": "1.31.1",
        "first": "1.16.3",
        "lost": [{"version": "1.20.1", "cases": ["test_conv_a"]}],
    }
    assert releases("Gelu") == {"since": "1.20.1", "first": "1.20.1", "lost": []}
    assert releases("New") == {"since": None, "first": None, "lost": []}
    assert releases("Odd") == {"since": None, "first": "1.20.1", "lost": [{"version": "1.31.1", "cases": ["test_odd"]}]}
    assert releases("Rtx") == {"since": None, "first": None, "lost": []}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [({"verified": 2}, "all"), ({"verified": 1, "mismatch": 1}, "some"), ({"failed": 1, "skipped": 3}, "none"), ({}, "unknown"),
     ({"skipped": 2, "blocked": 1}, "unknown"), ({"verified": 1, "skipped": 1}, "all"), ({"built": 2}, "built"),
     ({"built": 1, "failed": 1}, "none"), ({"degraded": 1, "verified": 1}, "some"), ({"verified": 1, "timeout": 1}, "some")],
)  # fmt: skip
def test_works_says_no_more_than_was_seen(counts: dict[str, int], expected: str) -> None:
    assert works(counts) == expected


def test_the_table_for_programs(data: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(data))))
    assert len(rows) == 6 * 5
    (conv,) = [entry for entry in rows if entry["operator"] == "Conv" and entry["stack"] == "onnxruntime-1.20.1-py3.12"]
    assert conv["verified"] == "1" and conv["mismatch"] == "1" and conv["cases"] == "2" and conv["works"] == "some"
    assert conv["works_since"] == "1.31.1" and conv["first_release_of_any"] == "1.16.3"
    failed = row(data, "Gelu")["cases"][0]["results"][0]
    assert failed == {
        "status": "failed",
        "id": failed["id"],
        "stage": "run",
        "category": "build-error",
        "line": "no kernel",
    }
    assert sum(int(entry[status]) for entry in rows for status in STATUSES) == 7 * 5


def test_the_page_has_every_result_of_the_table(data: dict[str, Any]) -> None:
    shown = view(data)
    lines = shown["lines"]
    for suite, plain in zip(shown["suites"], data["suites"], strict=True):
        for entry, origin in zip(suite["operators"], plain["operators"], strict=True):
            for (name, opset, results), case in zip(entry["cases"], origin["cases"], strict=True):
                assert (name, opset) == (case["case"], case["opset"])
                for got, found in zip(results, case["results"], strict=True):
                    code = got[0] if isinstance(got, list) else got
                    assert STATUSES[code] == found["status"]
                    assert (lines[got[2]] if isinstance(got, list) else None) == found.get("line")


def test_few_cells_stay_cells(tmp_path: Path) -> None:
    few = report(case_cells())
    build_report(few, tmp_path)
    written = json.loads((tmp_path / "report.json").read_text())
    assert len(written["cells"]) == 30 + 35 and "suites" not in written and written["operators"] is True
    assert check_report(written) == []


def test_many_are_a_line_for_each_stack(tmp_path: Path) -> None:
    cases = case_cells(copies=FEW // 35 + 1)
    many = report(cases)
    build_report(many, tmp_path)
    written = json.loads((tmp_path / "report.json").read_text())
    assert len(written["cells"]) == 30 and len(written["suites"]) == 5 and written["selected"] == 30 + len(cases)
    assert check_report(written) == []
    assert sum(line["cells"] for line in written["suites"]) == len(cases)
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert "test_gelu" not in page and "operators.html" in page
    assert "| operators | onnxruntime-1.31.1-py3.12 |" in text and "test_gelu" not in text
    assert json.loads((tmp_path / "operators.json").read_text()) == table(many, cases)
    written["suites"][0]["counts"]["verified"] += 1
    assert any("counts" in problem for problem in check_report(written))
    written["suites"][0]["cells"] += 1
    assert any("were selected" in problem for problem in check_report(written))


def test_another_selections_table_does_not_stay(tmp_path: Path) -> None:
    build_report(report(case_cells()), tmp_path)
    assert all((tmp_path / name).exists() for name in FILES)
    build_report(report([]), tmp_path)
    assert not any((tmp_path / name).exists() for name in FILES)
    written = json.loads((tmp_path / "report.json").read_text())
    assert "operators" not in written and "suites" not in written


def test_what_a_library_says_is_text(tmp_path: Path) -> None:
    build_report(report(case_cells(line=HOSTILE)), tmp_path)
    page = (tmp_path / "operators.html").read_text()
    assert HOSTILE not in page and "<img" not in page and page.count("<script") == 2
    assert fold(report(case_cells()))[1]
