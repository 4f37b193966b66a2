"""junit.xml: valid by a schema that CI systems' own schemas take in, and true."""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import xmlschema
from fake_report import fake_report
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.report import junit
from builder.report.assemble import complete
from builder.values import FAILING

SCHEMA = xmlschema.XMLSchema(Path(__file__).parent / "inputs" / "junit.xsd")
RED = {"failed": "failure", "mismatch": "failure", "degraded": "failure", "crashed": "error", "timeout": "error",
       "out-of-memory": "error"}  # fmt: skip


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return complete(fake_report())


@pytest.fixture
def report(whole: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(whole)


def cell_of(report: dict[str, Any], status: str) -> dict[str, Any]:
    return next(cell for cell in report["cells"] if cell["status"] == status and not cell["expected"])


def only(report: dict[str, Any], cell: dict[str, Any]) -> ET.Element:
    """The test case of one cell, valid."""
    text = junit.render({**report, "cells": [cell]})
    SCHEMA.validate(text)
    (case,) = ET.fromstring(text.encode()).iter("testcase")
    return case


def test_every_cell_is_a_case_and_the_file_is_valid(whole: dict[str, Any]) -> None:
    text = junit.render(whole)
    SCHEMA.validate(text)
    root = ET.fromstring(text.encode())
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert set(cases) == {cell["slug"] for cell in whole["cells"]}
    for cell in whole["cells"]:
        case = cases[cell["slug"]]
        assert case.get("classname") == cell["engine"]["id"]
        tags = [child.tag for child in case if child.tag != "system-out"]
        foreseen = bool(cell["expected"]) and cell["expected"]["state"] == "expected"
        if cell["status"] in ("verified", "built"):
            assert tags == []
        elif cell["status"] in ("skipped", "unsupported") or foreseen:
            assert tags == ["skipped"]
            start = "expected: " if foreseen else f"{cell['status']}: "
            assert case.find("skipped").get("message", "").startswith(start)  # type: ignore[union-attr]
        elif cell["status"] == "blocked":
            assert tags == ["error" if cell["category"] == "infrastructure" else "failure"]
        else:
            assert tags == [RED[cell["status"]]]
            found = case.find(tags[0])
            assert found is not None
            assert cell["status"] in found.get("message", "") and cell["command"] in (found.text or "")
        assert f"id: {cell['id']}" in (case.findtext("system-out") or "")
    suite = root.find("testsuite")
    assert suite is not None
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.get(name, "")) == len(list(root.iter(tag)))
    assert int(suite.get("tests", "")) == len(whole["cells"])
    assert {"failure", "error", "skipped"} <= {element.tag for element in root.iter()}


def test_the_file_is_red_where_the_run_is(whole: dict[str, Any]) -> None:
    """What makes a run's exit code 1 or 3 is a failure or an error here, and nothing else is."""
    from builder.outcome import unexpected

    for cell in whole["cells"]:
        case = only(whole, cell)
        red = case.find("failure") is not None or case.find("error") is not None
        assert red == (unexpected(cell) or cell["status"] == "blocked"), cell["slug"]


@pytest.mark.parametrize("state", ["overdue", "other-failure"])
def test_an_expectation_that_does_not_hold_is_red(report: dict[str, Any], state: str) -> None:
    cell = next(cell for cell in report["cells"] if cell["expected"])
    cell["expected"]["state"] = state
    failure = only(report, cell).find("failure")
    assert failure is not None and state in (failure.text or "")


def test_an_expected_failure_is_skipped_and_says_why(report: dict[str, Any]) -> None:
    cell = next(c for c in report["cells"] if c["expected"] and c["expected"]["state"] == "expected")
    skipped = only(report, cell).find("skipped")
    assert skipped is not None and cell["expected"]["because"] in skipped.get("message", "")


def test_infrastructure_is_an_error(report: dict[str, Any]) -> None:
    cell = {**cell_of(report, "blocked"), "category": "infrastructure", "line": "no route to host"}
    error = only(report, cell).find("error")
    assert (
        error is not None and error.get("type") == "infrastructure" and "no route to host" in error.get("message", "")
    )


def test_a_failure_of_a_suite_that_is_not_strict_is_not_red(report: dict[str, Any]) -> None:
    cell = cell_of(report, "failed")
    cell["suite"] = {"name": "operators", "strict": False}
    assert [child.tag for child in only(report, cell)] == ["skipped", "system-out"]
    cell["suite"]["strict"] = True
    assert [child.tag for child in only(report, cell)] == ["failure", "system-out"]


def test_suites_in_sum_are_cases_of_their_own(report: dict[str, Any]) -> None:
    counts = dict.fromkeys(report["counts"], 0)
    line = {
        "suite": "operators",
        "engine": report["cells"][0]["engine"],
        "cells": 12,
        "counts": {**counts, "verified": 12},
    }
    bad = {**line, "counts": {**counts, "verified": 9, "failed": 2, "blocked": 1}}
    text = junit.render({**report, "cells": [], "suites": [line, bad]})
    SCHEMA.validate(text)
    good, rest = ET.fromstring(text.encode()).iter("testcase")
    assert good.find("skipped") is None and "verified: 12" in (good.findtext("system-out") or "")
    skipped = rest.find("skipped")
    assert skipped is not None and skipped.get("message", "").startswith("2 of 12 cases fail, 1 are blocked")


def test_a_huge_log_line_does_not_make_a_huge_file(report: dict[str, Any]) -> None:
    cell = {
        **cell_of(report, "failed"),
        "line": "x" * 10_000_000,
        "diagnosis": "y" * 10_000_000,
        "remedy": "z\n" * 5_000_000,
    }
    failure = only(report, cell).find("failure")
    assert failure is not None
    assert len(failure.get("message", "")) == junit.MESSAGE and len(failure.text or "") < 3 * junit.BODY
    assert failure.get("message", "").endswith("…")


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(st.characters(min_codepoint=0, max_codepoint=0x10FFFF), min_size=1, max_size=60),
    status=st.sampled_from(sorted(FAILING | {"blocked", "skipped", "verified"})),
)
def test_any_text_is_valid(whole: dict[str, Any], text: str, status: str) -> None:
    report = whole
    cell = {**next(cell for cell in report["cells"] if cell["status"] == "failed"), "status": status, "expected": None,
            "line": text, "reason": text, "slug": text, "diagnosis": text, "remedy": text, "category": text, "signature": text,
            "source": text}  # fmt: skip
    found = junit.render({**report, "cells": [cell]}).encode("utf-8", "replace")
    SCHEMA.validate(ET.ElementTree(ET.fromstring(found)))
