"""operators.html in a real browser: the table, a case's error line, keys, the address, a phone, hostile text."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_report import HOSTILE
from playwright.sync_api import Browser, Page, expect, sync_playwright
from test_operators import case_cells, report

from builder.report import build_report

pytestmark = pytest.mark.browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None and not os.environ.get("CI"):
    pytest.skip("no chromium on this machine", allow_module_level=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "CI must have a browser (Debian: apt-get install chromium)"
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("operators")
    build_report(report(case_cells(copies=8, line=HOSTILE)), out)
    return out


@pytest.fixture(params=[(1360, 900, "light"), (390, 844, "dark")], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    width, height, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page, problems, asked = context.new_page(), list[str](), list[str]()
    page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.on("request", lambda r: asked.append(r.url))
    yield page
    assert page.evaluate("window.pwned") is None
    context.close()
    assert problems == [] and {url.split(":")[0] for url in asked} <= {"file", "data"}


def test_from_the_report_to_a_cases_error_line(page: Page, folder: Path) -> None:
    page.goto((folder / "report.html").as_uri())
    page.get_by_role("link", name="which operators work where").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Which operators work where")
    square = page.get_by_role(
        "button", name="Conv on onnxruntime 1.20.1: some cases, 8 of 16 verified; 8 cases worked in"
    )
    square.click()
    detail = page.locator(".detail")
    expect(detail.get_by_role("heading")).to_have_text("Conv on onnxruntime 1.20.1")
    expect(detail.locator("tbody tr")).to_have_count(16)
    expect(detail.locator("tbody tr").first).to_contain_text("test_conv_a")
    expect(detail.locator("tbody tr").first).to_contain_text(HOSTILE)
    expect(detail).to_contain_text("every case since 1.31.1; lost 8 cases in 1.20.1")
    assert "op=Conv" in page.url and "at=onnxruntime-1.20.1-py3.12" in page.url
    page.keyboard.press("Escape")
    expect(detail).to_have_count(0)


def test_an_address_says_what_was_chosen(page: Page, folder: Path) -> None:
    page.goto((folder / "operators.html").as_uri() + "#q=gelu&op=Gelu")
    expect(page.locator("tbody tr th.name button")).to_have_text(["Gelu"])
    expect(page.locator(".detail tbody tr")).to_have_count(8)
    expect(page.locator(".detail .dots span").first).to_have_text("✗ onnxruntime 1.15.1")


def test_narrowing_by_words_and_by_what_they_do(page: Page, folder: Path) -> None:
    page.goto((folder / "operators.html").as_uri())
    names = page.locator("tbody tr th.name button")
    expect(names).to_have_text(["Abs", "Conv", "Gelu", "New", "Odd", "Rtx"])
    show = page.get_by_label("Which operators")
    for value, expected in {
        "none": ["New"],
        "all": [],
        "lost": ["Conv", "Odd"],
        "gaps": ["Abs", "Conv", "Gelu", "New", "Odd"],
    }.items():
        show.select_option(value)
        expect(names).to_have_text(expected)
    show.select_option("")
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("/")
    page.keyboard.type("conv_b")
    expect(names).to_have_text(["Conv"])
    expect(page.locator("#q")).to_be_focused()


def test_arrows_move_over_the_table(page: Page, folder: Path) -> None:
    page.goto((folder / "operators.html").as_uri())
    page.get_by_role("button", name="Abs on onnxruntime 1.15.1").focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    expect(page.locator("button.sq:focus")).to_have_attribute(
        "aria-label", "Conv on onnxruntime 1.16.3 numpy 2.2.6: no case, 0 of 16 verified"
    )
    page.keyboard.press("Enter")
    expect(page.locator(".detail")).to_contain_text("Conv on onnxruntime 1.16.3 numpy 2.2.6")


def test_the_page_itself_does_not_scroll_sideways(page: Page, folder: Path) -> None:
    page.goto((folder / "operators.html").as_uri() + "#op=Conv&at=onnxruntime-1.20.1-py3.12")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
