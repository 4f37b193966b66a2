"""A newcomer's three clicks, the views along versions and of known-good stacks: report.html in a real browser."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from fake_report import fake_report
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from builder.report import build_report, known, page, story, versions
from builder.report.assemble import complete

pytestmark = pytest.mark.browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None and not os.environ.get("CI"):
    pytest.skip("no chromium on this machine", allow_module_level=True)

DESKTOP: ViewportSize = {"width": 1360, "height": 900}
PHONE: ViewportSize = {"width": 360, "height": 740}
RED = "openvino-unsupported-onnx-ops"


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    made = complete(fake_report())
    timed = next(cell for cell in made["cells"] if cell["measure"] and cell["measure"]["status"] == "settled")
    timed["measure"]["raw"] = [
        {"series": name, "unit": "s", "used": 3, "sha256": "ab" * 32, "windows": [
            {"runs": 140, "min": w["median"] * 0.9, "p25": w["median"] * 0.97, "median": w["median"], "p75": w["median"] * 1.1,
             "max": w["median"] * 3} for w in timed["measure"]["windows"]]} for name in ("call", "batch 4")]  # fmt: skip
    return made


@pytest.fixture(scope="module")
def address(report: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("artifacts")
    for cell in report["cells"]:
        if cell["signature"] == RED:
            found = story.log_of(cell)
            assert found is not None
            (root / found[1]).parent.mkdir(parents=True, exist_ok=True)
            lines = [f"step {i}" for i in range(1, 41)]
            lines[30] = f"RuntimeError: {cell['line']} <script>window.pwned=1</script>"
            (root / found[1]).write_text("\n".join(lines))
    build_report({k: v for k, v in report.items() if k not in ("findings", "undiagnosed")}, root / "report")
    return (root / "report" / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "CI must have a browser (Debian: apt-get install chromium)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def shown(browser: Browser) -> Iterator[Page]:
    """A page on which nothing may go wrong."""
    yield from _shown(browser, DESKTOP, "light")


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    yield from _shown(browser, PHONE, "dark")


def _shown(browser: Browser, size: ViewportSize, scheme: Literal["light", "dark"]) -> Iterator[Page]:
    context = browser.new_context(viewport=size, color_scheme=scheme)
    shown = context.new_page()
    problems: list[str] = []
    shown.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
    shown.on("pageerror", lambda e: problems.append(str(e)))
    yield shown
    assert shown.evaluate("window.pwned") is None
    context.close()
    assert problems == []


def fits(shown: Page) -> bool:
    return bool(shown.evaluate("document.documentElement.scrollWidth <= innerWidth + 1"))


def test_from_a_red_cell_to_its_cause_and_its_remedy_in_three_clicks(
    shown: Page, address: str, report: dict[str, Any]
) -> None:
    red = next(
        cell
        for cell in report["cells"]
        if cell["signature"] == RED and cell["engine"]["id"].startswith("openvino-2023.0.2")
    )
    shown.goto(f"{address}#/matrix")
    # 1: the red square.
    shown.get_by_label(re.compile(rf"^{re.escape(red['engine']['id'])}, {red['axes']['model']}\b")).click()
    # 2: a failed cell among those of the square.
    shown.locator(f"a[href='#/cell/{red['id']}']").first.click()
    main = shown.locator("main")
    for text in (red["diagnosis"], red["remedy"], red["command"]):
        expect(main).to_contain_text(text.replace("`", ""))
    here = shown.locator("#log tr.here")
    expect(here).to_contain_text(red["line"])
    expect(here.locator("th")).to_contain_text("31")
    expect(shown.get_by_role("link", name="the whole log")).to_have_attribute("href", f"../{story.log_of(red)[1]}")  # type: ignore[index]
    # 3: beside it, the nearest release that works.
    row = shown.locator("#beside tbody tr", has_text="2024.1.0")
    expect(row).to_contain_text("higher")
    row.get_by_role("link", name="verified").click()
    expect(shown.locator("h1")).to_contain_text("2024.1.0")
    expect(shown.locator("h1")).to_contain_text("verified")


def test_the_page_finds_the_neighbours_that_show_finds(shown: Page, address: str, report: dict[str, Any]) -> None:
    cells = report["cells"]
    chosen = [
        next(c for c in cells if c["status"] == status)
        for status in ("verified", "failed", "crashed", "built", "blocked", "mismatch")
    ]
    for cell in [*chosen, *cells[::61]]:
        shown.goto(f"{address}#/cell/{cell['id']}")
        told = shown.locator("#beside tbody a").evaluate_all("all => all.map(a => a.getAttribute('href').slice(7))")
        rows = story.neighbours(cell, cells)
        assert told == [row["cell"]["id"] for row in rows], cell["slug"]


def test_what_never_ran_beside_a_cell_can_be_run_by_a_command(
    browser: Browser, report: dict[str, Any], tmp_path: Path
) -> None:
    ort = [c for c in report["cells"] if c["engine"]["family"] == "onnxruntime" and c["axes"]["model"] == "resnet50"]
    cell = next(c for c in ort if c["axes"]["opset"] == "13")
    other = next(c for c in ort if c["axes"]["opset"] == "17" and c["engine"]["id"] != cell["engine"]["id"])
    counts = {status: sum(c["status"] == status for c in (cell, other)) for status in report["counts"]}
    made = complete(
        {k: v for k, v in report.items() if k not in ("findings", "undiagnosed")}
        | {"cells": [cell, other], "counts": counts, "selected": 2}
    )
    (tmp_path / "report.html").write_text(page.render(made), encoding="utf-8")
    shown = browser.new_page()
    shown.goto(f"{(tmp_path / 'report.html').as_uri()}#/cell/{cell['id']}")
    expect(shown.locator("#beside")).to_contain_text("no cell of this report differs")
    expect(shown.locator("#beside code")).to_have_text(f"enginematrix run --select '{story.along(cell)}'")
    shown.close()


def test_a_timing_shows_its_windows_and_says_where_there_are_no_samples(
    shown: Page, address: str, report: dict[str, Any]
) -> None:
    cell = next(c for c in report["cells"] if (c["measure"] or {}).get("raw"))
    shown.goto(f"{address}#/cell/{cell['id']}")
    panel = shown.locator("#timing")
    expect(panel.locator(".js-plotly-plot .box")).to_have_count(3)
    span = versions.interval(cell["measure"])
    assert span is not None
    expect(panel).to_contain_text("95 %, by its windows")
    panel.locator("summary").click()
    expect(panel.locator("table tbody tr")).to_have_count(3)
    panel.get_by_label("Series").select_option("1")
    expect(panel.locator("#windows")).to_have_attribute("aria-label", re.compile("^Windows of batch 4"))
    old = next(c for c in report["cells"] if c["measure"] and "raw" not in c["measure"])
    shown.goto(f"{address}#/cell/{old['id']}")
    expect(shown.locator("#timing")).to_contain_text("keeps no raw samples")


def test_declared_and_loaded_stand_side_by_side(shown: Page, address: str, report: dict[str, Any]) -> None:
    cell = next(c for c in report["cells"] if c["status"] == "verified" and c["engine"]["family"] == "onnxruntime")
    shown.goto(f"{address}#/cell/{cell['id']}")
    row = shown.locator("tr", has_text="engine onnxruntime")
    expect(row).to_contain_text(cell["engine"]["fields"]["onnxruntime"])
    expect(row).to_contain_text("the same")


def test_across_versions_draws_what_the_table_says(shown: Page, address: str, report: dict[str, Any]) -> None:
    shown.goto(f"{address}#/versions?axis=engine.onnxruntime&model=resnet50")
    expect(shown.locator("#plot .scatterlayer .trace").first).to_be_attached()
    timed = [
        c
        for c in report["cells"]
        if c["measure"] and c["axes"]["model"] == "resnet50" and c["engine"]["family"] == "onnxruntime"
    ]
    row = shown.locator(".across tbody tr", has_text="opset 17 · fp16")
    for cell in timed:
        entry = row.locator(f"a[href='#/cell/{cell['id']}']")
        if cell["measure"]["status"] == "settled":
            low, high = versions.interval(cell["measure"]) or (0, 0)
            text = entry.inner_text()
            median, least, most = (float(x) for x in re.findall(r"[\d.]+", text))
            assert (median, least, most) == pytest.approx(
                [x * 1e3 for x in (cell["measure"]["median"], low, high)], rel=0.006
            )
        else:
            expect(entry).to_contain_text("unstable")
    lines = "document.getElementById('plot').data.filter(t => t.yaxis !== 'y2' && t.showlegend === false)"
    drawn = shown.evaluate(f"{lines}.map(t => t.y.filter(y => y !== null).length)")
    assert sum(drawn) == sum(c["measure"]["status"] == "settled" for c in timed)
    failing = [
        c
        for c in report["cells"]
        if c["axes"]["model"] == "resnet50" and c["engine"]["family"] == "onnxruntime" and c["status"] == "failed"
    ]
    marks = shown.evaluate(
        "document.getElementById('plot').data.filter(t => t.yaxis === 'y2').flatMap(t => t.customdata.map(x => x[4]))"
    )
    assert {c["id"] for c in failing} <= set(marks) and failing
    # Arrows move from number to number.
    row.locator("a").first.focus()
    shown.keyboard.press("ArrowRight")
    assert shown.evaluate("document.activeElement.getAttribute('href')") == row.locator("a").nth(1).get_attribute(
        "href"
    )
    # The state is in the address, by keyboard too; a failure that was built has its size.
    shown.get_by_role("button", name="engine size").press("Enter")
    expect(shown).to_have_url(re.compile("show=size"))
    expect(shown.get_by_role("button", name="engine size")).to_be_focused()  # the view was drawn again
    shown.locator("label.pick select").first.select_option("engine.openvino")
    expect(shown).to_have_url(re.compile("axis=engine.openvino"))
    expect(shown.locator(".across thead th").nth(1)).to_have_text("2023.0.2")
    shown.get_by_label("Narrow").fill("opset=21")
    shown.get_by_label("Narrow").press("Enter")
    expect(shown).to_have_url(re.compile("q=opset%3D21"))
    expect(shown.locator(".across tbody tr")).to_have_count(1)


def test_many_lines_are_not_all_drawn_and_that_is_said(
    browser: Browser, report: dict[str, Any], tmp_path: Path
) -> None:
    some = [c for c in report["cells"] if c["axes"]["model"] == "resnet50" and c["engine"]["family"] == "onnxruntime"]
    many = [{**c, "id": f"{n:04x}{c['id'][:8]}", "slug": f"{c['slug']}.{n}", "axes": {**c["axes"], "workspace": str(n)}}
            for n in range(80) for c in some]  # fmt: skip
    counts = {status: sum(c["status"] == status for c in many) for status in report["counts"]}
    shutil.copytree(
        Path(page.assets()[0]).parent,
        tmp_path / "assets",
        ignore=lambda folder, names: [n for n in names if n != "plotly.min.js"],
    )
    made = complete(
        {k: v for k, v in report.items() if k not in ("findings", "undiagnosed")}
        | {"cells": many, "counts": counts, "selected": len(many)}
    )
    (tmp_path / "report.html").write_text(page.render(made), encoding="utf-8")
    shown = browser.new_page()
    shown.goto((tmp_path / "report.html").as_uri() + "#/versions?show=size&axis=engine.onnxruntime")
    expect(shown.locator("main")).to_contain_text("30 of 240 lines are drawn")
    expect(shown.locator("main")).to_contain_text("The table has the first 200")
    expect(shown.locator("#plot .legend .traces")).to_have_count(30)
    expect(shown.locator(".across tbody tr")).to_have_count(200)
    shown.close()


def test_known_good_answers_which_stack_for_what(shown: Page, address: str, report: dict[str, Any]) -> None:
    entries = known.stacks(report["cells"])
    good = [entry for entry in entries if entry["verified"]]
    shown.goto(f"{address}#/known")
    expect(shown.locator("h1 + p")).to_contain_text(f"{len(good)} engine stacks verified")
    expect(shown.locator("details.known")).to_have_count(len(good))
    first = shown.locator("details.known").first
    expect(first).to_contain_text("1.31.1")
    expect(first.locator("code").first).to_have_text(good[0]["pick"])
    second = shown.locator("details.known").nth(1)  # what is in it is made when it is opened, or printed
    assert second.locator("code").count() == 0
    second.locator("summary").press("Enter")
    expect(second.locator("code").first).to_have_text(good[1]["pick"])
    third = shown.locator("details.known").nth(2)
    shown.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(third.locator("code").first).to_have_text(good[2]["pick"])
    shown.get_by_label("model").select_option("segmenter")
    shown.get_by_label("precision").select_option("fp16")
    expect(shown).to_have_url(re.compile(r"known\?model=segmenter&precision=fp16"))
    expect(shown.get_by_label("precision")).to_be_focused()
    fit = [e for e in entries if any(row[:2] == ["segmenter", "fp16"] and row[2] for row in e["coverage"])]
    expect(shown.locator("details.known")).to_have_count(len(fit))
    rest = shown.locator("section", has_text="Not verified")
    expect(rest).to_contain_text("openvino 2023.0.2")
    rest.get_by_role("link", name=re.compile("show cell")).first.click()
    expect(shown.locator("h1")).to_be_visible()


@pytest.mark.parametrize("fragment", ["#/versions", "#/versions?show=error", "#/known", "#/cell/"])
def test_a_phone_in_the_dark(phone: Page, address: str, report: dict[str, Any], fragment: str) -> None:
    if fragment.endswith("/"):
        fragment += next(cell["id"] for cell in report["cells"] if cell["signature"] == RED)
    phone.goto(address + fragment)
    expect(phone.locator("main h1")).to_have_count(1)
    if "versions" in fragment:
        expect(phone.locator("#plot .scatterlayer, .empty").first).to_be_attached()
    assert fits(phone)
    phone.set_viewport_size({"width": 720, "height": 900})  # a page of A4 between its margins
    phone.emulate_media(media="print")
    assert fits(phone)


def test_without_plotly_the_table_stands_alone(browser: Browser, report: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(page.render(report), encoding="utf-8")
    context = browser.new_context(viewport=DESKTOP)
    shown = context.new_page()
    shown.goto((tmp_path / "report.html").as_uri() + "#/versions?axis=engine.onnxruntime&model=resnet50")
    expect(shown.locator("#plot")).to_contain_text("the table below has the numbers")
    assert shown.locator(".across tbody a").count() > 10
    context.close()
