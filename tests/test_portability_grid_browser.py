"""The view of the portability grid in report.html, in a real browser."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from fake_report import fake_report
from playwright.sync_api import Page, expect
from test_report_browser import DESKTOP, PHONE, Watched, browser, fits

from builder.report import build_report, check_report

pytestmark = pytest.mark.browser
__all__ = ["browser"]

ANSWERS = {  # (verdict of check, status): the square's words
    ("loads", "verified"): "runs", ("will-not-load", "failed"): "refused", ("loads", "failed"): "refused",
    ("unknown", "verified"): "runs",
}  # fmt: skip


def moved(report: dict[str, Any]) -> dict[str, Any]:
    """The report with a grid of two stacks in place of its cells: one square for each of ANSWERS, hostile words in a line."""
    out = copy.deepcopy(report)
    good = next(cell for cell in out["cells"] if cell["status"] == "verified")
    bad = next(cell for cell in out["cells"] if cell["status"] == "failed")
    stacks = [
        {**good["engine"], "id": f"lib-{n}", "family": "lib", "fields": {"lib": n, "python": "3.12"}}
        for n in ("1.0", "2.0")
    ]
    order = [(stacks[0], stacks[0]), (stacks[0], stacks[1]), (stacks[1], stacks[0]), (stacks[1], stacks[1])]
    cells = []
    for (verdict, status), (builds, loads) in zip(ANSWERS, order, strict=True):
        cell = copy.deepcopy(good if status == "verified" else bad)
        told = {
            "verdict": verdict,
            "because": "it is so",
            "rule": "openvino-blob-version",
            "library": "lib",
            "version": "1",
        }
        name = f"{builds['id']}-{loads['id']}"
        axes = {**good["axes"], "built-on": builds["fields"]["lib"]}
        cell.update(
            id=name,
            slug=name,
            key=name,
            axes=axes,
            engine=loads,
            exporter=good["exporter"],
            built_on=builds,
            check=told,
        )
        cell.update(stage="load" if status == "failed" else cell["stage"], expected=None)
        if status == "failed":
            cell["line"] = "<img src=x onerror=alert(1)> refused"
        cells.append(cell)
    out["cells"] = cells
    out["selected"] = len(cells)
    out["counts"] = {status: sum(cell["status"] == status for cell in cells) for status in out["counts"]}
    return out


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("moved")
    build_report(moved(fake_report()), out)
    return (out / "report.html").as_uri()


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, browser: Any, address: str) -> Any:
    context = browser.new_context(viewport=request.param)
    watched = Watched(context.new_page())
    watched.page.goto(f"{address}#/portability")
    yield watched.page
    context.close()
    assert watched.problems == []


def test_the_report_does_not_contradict_itself() -> None:
    report = moved(fake_report())
    report["predictions"] = {**report["predictions"], "claims": [], "rules": [], "refuted": []}
    assert [it for it in check_report(report) if "prediction" not in it and "claim" not in it] == []


def test_a_square_says_what_happened_and_what_was_said(page: Page) -> None:
    expect(page.locator("h1")).to_have_text("Portability")
    rows = page.locator("table.carried tbody tr")
    assert rows.locator("th").all_inner_texts() == ["1.0", "2.0"]
    assert page.locator("table.carried thead th").all_inner_texts()[1:] == ["1.0", "2.0"]
    squares = page.locator("table.carried a.moved")
    words = [text.split("\n") for text in squares.all_inner_texts()]
    assert [it[0] for it in words] == list(ANSWERS.values())
    assert [it[1] for it in words] == ["loads", "will not load", "≠ loads", "unknown"]
    assert squares.nth(2).get_attribute("aria-label").endswith("the rule is refuted")  # type: ignore[union-attr]
    assert "1 cell came out otherwise" in page.locator(".head p").inner_text()
    assert squares.locator("svg").count() == 4, "a shape beside colour and word"
    assert fits(page)


def test_squares_lead_to_their_cells_and_words_are_text(page: Page) -> None:
    page.locator("summary", has_text="What the libraries said").click()
    assert page.locator(".finds .line").first.inner_text().startswith("<img src=x")
    assert page.locator("main img").count() == 0
    page.locator("table.carried a.moved").nth(1).click()
    expect(page.locator("h1")).to_contain_text("lib 2.0")
    expect(page.locator("main")).to_contain_text("built on 1.0")


def test_without_such_cells_there_is_no_view(browser: Any, tmp_path: Path) -> None:
    build_report(fake_report(), tmp_path)
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri() + "#/portability")
    assert "Portability" not in page.locator("#nav").inner_text()
    page.close()
