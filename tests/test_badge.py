"""The shield: what it says is true, it is green only where nothing is missing, and it can be read."""

from __future__ import annotations

import copy
import datetime
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from fake_report import fake_report
from hypothesis import given, settings
from hypothesis import strategies as st
from small import Small

from builder import badge, cli
from builder.outcome import unexpected
from builder.report.assemble import complete
from builder.values import FAILING, STATUSES

SVG = "{http://www.w3.org/2000/svg}"
NOW = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.timezone.utc)


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return complete(fake_report())


def made(whole: dict[str, Any], *statuses: str, age: float = 0.1, **run: Any) -> dict[str, Any]:
    """A report of so many cells: `expected` is a failure that was foreseen."""
    sample = {cell["status"]: cell for cell in reversed(whole["cells"]) if not cell["expected"]}
    foreseen = next(c for c in whole["cells"] if c["expected"] and c["expected"]["state"] == "expected")
    cells = [copy.deepcopy(foreseen if status == "expected" else sample[status]) for status in statuses]
    for number, cell in enumerate(cells):
        cell["id"] = f"{number:012x}"
    finished = (NOW - datetime.timedelta(days=age)).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {**whole, "cells": cells, "run": {**whole["run"], "finished": finished, "interrupted": False, **run}}


def of(report: dict[str, Any] | None, **options: Any) -> badge.Badge:
    return badge.of(report, label="default", now=NOW, **options)


def test_green_is_for_what_is_whole_and_as_expected(whole: dict[str, Any]) -> None:
    found = of(made(whole, "verified", "verified", "expected", "unsupported"))
    assert (found.message, found.state) == ("2 of 4 verified", "verified")


@pytest.mark.parametrize(
    ("status", "message", "state"),
    [("failed", "1 of 2 verified, 1 failing", "failing"), ("crashed", "1 of 2 verified, 1 failing", "failing"),
     ("mismatch", "1 of 2 verified, 1 failing", "failing"), ("degraded", "1 of 2 verified, 1 failing", "failing"),
     ("built", "1 of 2 verified, 1 not run", "partial"), ("skipped", "1 of 2 verified, 1 not run", "partial")],
)  # fmt: skip
def test_one_cell_that_is_not_proven_takes_the_green(
    whole: dict[str, Any], status: str, message: str, state: str
) -> None:
    found = of(made(whole, "verified", status))
    assert (found.message, found.state) == (message, state)


def test_a_step_that_blocks_is_red_and_infrastructure_is_missing(whole: dict[str, Any]) -> None:
    report = made(whole, "verified", "blocked")
    report["cells"][1]["category"] = "packaging"
    assert of(report).state == "failing"
    report["cells"][1]["category"] = "infrastructure"
    assert (of(report).message, of(report).state) == ("1 of 2 verified, 1 missing", "missing")


@pytest.mark.parametrize("run", [{"interrupted": True}, {"over_budget": True}])
def test_a_run_that_did_not_end_is_not_green(whole: dict[str, Any], run: dict[str, Any]) -> None:
    assert of(made(whole, "verified", **run)).state == "missing"


def test_old_evidence_is_stale(whole: dict[str, Any]) -> None:
    assert of(made(whole, "verified", age=6.9)).state == "verified"
    found = of(made(whole, "verified", age=12))
    assert (found.message, found.state) == ("1 of 1 verified, stale", "stale") and "12 days" in found.detail
    assert of(made(whole, "verified", age=12), max_age=30).state == "verified"


def test_evidence_of_another_matrix_or_lock_is_stale(whole: dict[str, Any]) -> None:
    report = made(whole, "verified")
    same = {"matrix": report["run"]["matrix"]["sha256"], "lock": report["run"]["lock"]["sha256"]}
    assert of(report, **same).state == "verified"
    assert of(report, **{**same, "matrix": "0"}).state == "stale"
    assert of(report, **{**same, "lock": "0"}).state == "stale"


def test_no_report_and_nothing_proven_are_grey(whole: dict[str, Any]) -> None:
    assert (of(None).message, of(None).state) == ("no results", "none")
    assert of(made(whole, "expected")).state == "none"


def test_cells_that_the_report_does_not_have_are_missing(whole: dict[str, Any]) -> None:
    report = made(whole, "verified", "failed")
    first = report["cells"][0]["id"]
    assert (of(report, only={first}).message, of(report, only={first}).state) == ("1 of 1 verified", "verified")
    found = of(report, only={first, "ffffffffffff"})
    assert (found.message, found.state) == ("1 of 2 verified, 1 missing", "missing")


def test_suites_in_sum_count(whole: dict[str, Any]) -> None:
    counts = {**dict.fromkeys(STATUSES, 0), "verified": 9, "failed": 1}
    report = {**made(whole, "verified"), "suites": [{"suite": "operators", "cells": 10, "counts": counts}]}
    assert of(report).message == "10 of 11 verified"


@settings(max_examples=80, deadline=None)
@given(statuses=st.lists(st.sampled_from([*STATUSES, "expected"]), min_size=1, max_size=6))
def test_green_never_hides_anything(whole: dict[str, Any], statuses: list[str]) -> None:
    report = made(whole, *statuses)
    found = of(report)
    proven = all(
        cell["status"] in ("verified", "unsupported") or (cell["status"] in FAILING and not unexpected(cell))
        for cell in report["cells"]
    )
    assert (found.state == "verified") == (proven and "verified" in statuses)
    assert found.message.startswith(f"{statuses.count('verified')} of {len(statuses)} verified")
    assert (found.message.count(",") == 0) == (found.state in ("verified", "none"))


# The picture -----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(label=st.text(max_size=30), message=st.text(max_size=30))
def test_any_text_is_a_valid_picture(label: str, message: str) -> None:
    shown = badge.Badge(label=label, message=message, state="verified", detail="d")
    root = ET.fromstring(badge.svg(shown).encode("utf-8", "replace"))
    texts = [element.text or "" for element in root.iter(f"{SVG}text")]
    assert len(texts) == 1 + bool(label.strip()) and root.get("role") == "img"
    assert root.get("aria-label", "").endswith(texts[-1]) and root.find(f"{SVG}title") is not None
    assert not any(element.get("id") for element in root.iter()), "two of them on one page must not share a name"
    assert int(root.get("width", "")) >= sum(map(badge.width, texts))


def test_white_is_readable_on_every_colour() -> None:
    """The contrast of WCAG 2.2, by its definition of relative luminance."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in (*badge.COLOURS.values(), badge.GREY):
        assert 1.05 / (luminance(colour) + 0.05) >= 4.5, colour


@pytest.mark.browser
def test_the_text_fits_its_half(whole: dict[str, Any], tmp_path: Path) -> None:
    """In a real browser, with the font that the widths are of: what we reckon is what it draws."""
    from playwright.sync_api import sync_playwright
    from test_report_browser import CHROMIUM

    texts = ["default", "412 of 430 verified, 3 failing", "MMWW%%@@", "iiiillll....", "{portability}~18/660"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        for text in texts:
            page.set_content(badge.svg(badge.Badge(label="x", message=text, state="verified", detail="d")))
            drawn = page.evaluate("""() => { const t = document.querySelectorAll("text")[1]; t.removeAttribute("textLength");
                t.setAttribute("font-family", "DejaVu Sans"); return t.getComputedTextLength(); }""")
            assert abs(drawn - badge.width(text)) <= 1.0, text
        browser.close()


# The command ---------------------------------------------------------------------------------------------------------


def test_the_command_writes_what_the_last_report_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], whole: dict[str, Any]
) -> None:
    small = Small(tmp_path)
    matrix = str(tmp_path / "matrix.yaml")
    assert cli.main(["-f", matrix, "badge", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "schemaVersion": 1, "label": "small", "message": "no results", "color": "636363",
    }  # fmt: skip
    report = made(whole, "verified", "failed", "verified", "verified")
    work = small.work
    for cell, own in zip(report["cells"], work.cells, strict=True):
        cell["id"] = own.id
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    from builder.values import digest

    report["run"].update(finished=now, matrix={"sha256": work.spec.sha256}, lock={"sha256": digest(small.lock.dumps())})
    folder = tmp_path / "artifacts" / "report"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report))
    out = tmp_path / "badge.json"
    assert cli.main(["-f", matrix, "badge", "--json", "--out", str(out), "--label", ""]) == 0
    assert json.loads(out.read_text()) == {
        "schemaVersion": 1, "label": "", "message": "3 of 4 verified, 1 failing", "color": "b3261e", "isError": True,
    }  # fmt: skip
    first = work.cells[0]
    assert cli.main(["-f", matrix, "badge", "-s", f"#{first.id}", "--label", "<b>"]) == 0
    text = capsys.readouterr().out
    assert "1 of 1 verified" in text and badge.COLOURS["verified"] in text and "<b>" not in text
    assert cli.main(["-f", matrix, "badge", "-s", "model=gamma"]) == 2
    assert cli.main(["-f", matrix, "badge", "--max-age", "0"]) == 2
    small.files.write("matrix.yaml", (tmp_path / "matrix.yaml").read_text() + "# changed\n")
    assert cli.main(["-f", matrix, "badge", "-s", f"#{first.id}", "--json"]) == 0
    assert "stale" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 2}', '{"schema": 1}', "\\xff"])
def test_a_report_that_is_none_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    Small(tmp_path)
    folder = tmp_path / "artifacts" / "report"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(content)
    assert cli.main(["-f", str(tmp_path / "matrix.yaml"), "badge"]) == 2
    assert "report.json" in capsys.readouterr().err
