"""report.html in a real browser: every view, its links and keys, hostile text, 10,000 cells, no error on its console."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import selecting
from fake_report import fake_report
from playwright.sync_api import Browser, Page, expect, sync_playwright

from builder import select
from builder.report import build_report
from builder.report import page as page_module
from builder.report.assemble import complete
from builder.select import Compare, SelectError, Word
from builder.values import STATUSES
from builder.versions import matches, problem

pytestmark = pytest.mark.browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None and not os.environ.get("CI"):
    pytest.skip("no chromium on this machine", allow_module_level=True)

DESKTOP = {"width": 1360, "height": 900}
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "CI must have a browser (Debian: apt-get install chromium)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return fake_report()


@pytest.fixture(scope="module")
def address(report: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("html")
    build_report(report, out)
    return (out / "report.html").as_uri()


class Watched:
    """A page that remembers every error, and every address it asked for."""

    def __init__(self, page: Page) -> None:
        self.page, self.problems, self.asked = page, list[str](), list[str]()
        page.on("console", lambda m: self.problems.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: self.problems.append(str(e)))
        page.on("request", lambda r: self.asked.append(r.url))


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def view(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Watched]:
    context = browser.new_context(viewport=request.param, color_scheme="dark" if request.param is PHONE else "light")
    watched = Watched(context.new_page())
    yield watched
    context.close()
    assert watched.problems == []
    assert {url.split(":")[0] for url in watched.asked} <= {"file", "data", "blob"}


def open_at(watched: Watched, address: str, fragment: str) -> Page:
    watched.page.goto("about:blank")
    watched.page.goto(address + fragment)
    return watched.page


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1"))


def first(report: dict[str, Any], **want: Any) -> dict[str, Any]:
    return next(cell for cell in report["cells"] if all(cell[k] == v for k, v in want.items()))


FRAGMENTS = [
    "", "#/overview", "#/matrix", "#/matrix?by=opset", "#/matrix?only=failing", "#/cells",
    "#/matrix?rows=engine.onnxruntime&cols=opset&by=precision", "#/cells?at.nosuch=1", "#/matrix?q=%22&rows=model&cols=model",
    "#/cells?q=status%3Dfailed&sort=-sec", "#/speed", "#/facts", "#/rules", "#/cell/nosuch", "#/%00<b>", "#/cells?q=%",
    "#/versions?show=size", "#/versions?show=error",
]  # fmt: skip


def test_every_view_opens_fits_and_has_its_heading(view: Watched, address: str) -> None:
    for fragment in FRAGMENTS:
        page = open_at(view, address, fragment)
        expect(page.locator("main h1")).to_have_count(1)
        assert fits(page), fragment
        assert page.locator("#nav a[aria-current=page]").count() == 1, fragment


def test_overview_counts_and_leads_to_the_cells(view: Watched, address: str, report: dict[str, Any]) -> None:
    page = open_at(view, address, "")
    expect(page.locator("h1")).to_contain_text(
        f"{report['counts']['verified']} of {len(report['cells'])} cells verified"
    )
    for status, n in report["counts"].items():
        expect(page.locator(f".counts a.s-{status} b")).to_have_text(str(n))
        assert page.locator(f".counts a.s-{status} svg").count() == 1
    page.locator(".counts a.s-failed").click()
    expect(page.locator(".hint")).to_have_text(f"{report['counts']['failed']} of {len(report['cells'])} cells")
    page.go_back()
    findings = page.locator("section", has=page.get_by_role("heading", name="Findings", exact=True))
    findings.get_by_role("link", name="show cells").first.click()
    expect(page.locator(".hint")).to_have_text(f"20 of {len(report['cells'])} cells")
    expect(page.locator(".head")).to_contain_text("This tf2onnx cannot write opset 21.")


def test_the_overview_says_what_changed_and_what_is_covered(
    view: Watched, address: str, report: dict[str, Any]
) -> None:
    page = open_at(view, address, "#/overview")
    panel = page.locator("#since")
    expect(panel).to_contain_text("2 regressions")
    expect(panel).to_contain_text("New failures: 2, fixed: 1; 384 cells unchanged")
    expect(panel).to_contain_text("Cause: numpy 1.26.4 -> 2.2.6 (onnxruntime-1.16.3-py3.11), tried: it fails with it")
    expect(panel).to_contain_text("Beside: numpy 1.26.4 -> 2.2.6 (onnxruntime-1.16.3-py3.11).")
    covered = complete(report)["coverage"]
    told = f"{covered['cells']['told']} of {covered['cells']['all']} tried"
    expect(page.get_by_role("link", name=told)).to_be_visible()
    expect(page.locator("aside")).to_contain_text(f"{covered['pairs']['told']:,} of {covered['pairs']['all']:,} tried")
    panel.get_by_role("link", name="show cells").click()
    among = report["counts"]["timeout"]
    expect(page.locator(".hint")).to_have_text(f"{among} of {len(report['cells'])} cells")
    page.reload()
    expect(page.locator(".cells tbody tr")).to_have_count(among)
    expect(page.locator(".head")).to_contain_text("New failures: verified -> crashed at run")


def test_a_square_tells_and_leads_to_its_cells(view: Watched, address: str, report: dict[str, Any]) -> None:
    page = open_at(view, address, "#/matrix")
    wanted = [
        c
        for c in report["cells"]
        if c["engine"]["id"] == "onnxruntime-1.16.3-py3.11" and c["axes"]["model"] == "minilm"
    ]
    square = page.get_by_label(re.compile(r"^onnxruntime-1\.16\.3-py3\.11, minilm"))
    assert square.get_attribute("aria-label").endswith(
        "1 failed, 1 crashed: killed by SIGSEGV"
    ) or "crashed" in square.get_attribute("aria-label")
    expect(square).to_have_class(re.compile("s-crashed"))
    square.click()
    expect(page.locator(".hint")).to_have_text(f"{len(wanted)} of {len(report['cells'])} cells")


def test_any_two_axes_lie_across_and_the_rest_narrows(view: Watched, address: str, report: dict[str, Any]) -> None:
    page = open_at(view, address, "#/matrix")
    page.get_by_label("Split by").focus()
    page.get_by_label("Split by").select_option("opset")
    expect(page).to_have_url(re.compile("by=opset"))
    expect(page.get_by_label("Split by")).to_be_focused()
    expect(page.locator(".mx thead tr").nth(1).locator("th")).to_have_text(
        ["13", "17", "21", "13", "17", "21", "17", "21", "13", "17", "21", "17", "21", "13", "17", "21", "17", "21"]
    )
    page.get_by_label("Rows").select_option("precision")
    page.get_by_label("Columns").select_option("engine.onnxruntime")
    if page.get_by_text("Narrow by axis").is_visible():  # folded away on a phone
        page.get_by_text("Narrow by axis").click()
    page.get_by_label("model", exact=True).select_option("resnet50")
    page.locator("#filter").fill("onnxruntime>=1.18 or engine.family=openvino")
    wanted = [
        c for c in report["cells"] if c["axes"]["model"] == "resnet50" and (c["engine"]["family"] == "openvino"
            or c["engine"]["fields"].get("onnxruntime", "0") in ("1.18.1", "1.19.2", "1.20.1", "1.22.1", "1.24.2", "1.31.1"))
    ]  # fmt: skip
    expect(page.locator(".hint")).to_have_text(f"{len(wanted)} of {len(report['cells'])} cells")
    address_of = page.url
    assert page.locator(".mx").get_attribute("role") == "grid"
    none = page.get_by_label(re.compile(r"^precision fp32, onnxruntime none, opset 13"))
    assert none.get_attribute("aria-label").split(": ")[1] == "7 verified", "openvino has no onnxruntime"
    none.click()
    expect(page.locator(".chosen button")).to_have_text(
        ["model resnet50 ×", "precision fp32 ×", "engine.onnxruntime none ×", "opset 13 ×"]
    )
    expect(page.locator(".cells tbody tr")).to_have_count(7)
    page.keyboard.press("Escape")
    expect(page).to_have_url(address_of)
    expect(page.get_by_label(re.compile(r"^precision fp32, onnxruntime none, opset 13"))).to_be_focused()
    page.reload()
    expect(page.locator(".hint")).to_have_text(f"{len(wanted)} of {len(report['cells'])} cells")
    assert fits(page)
    page = open_at(view, address, "#/matrix?at.model=resnet50")  # a choice of an axis that lies across holds
    expect(page.locator(".mx thead .c")).to_have_text(["resnet50"])
    page.get_by_label("Columns").select_option("opset")
    expect(page.locator(".mx thead .c")).to_have_text(["13", "17", "21"])
    assert "at.model=resnet50" in page.url


QUERIES: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("model=resnet50 and opset=17", lambda c: c["axes"]["model"] == "resnet50" and c["axes"]["opset"] == "17"),
    ("onnxruntime>=1.18 and onnxruntime<1.31", lambda c: c["engine"]["fields"].get("onnxruntime", "0") in
        ("1.18.1", "1.19.2", "1.20.1", "1.22.1", "1.24.2")),
    ("not (status=verified,built) and engine.family!=tensorrt", lambda c: c["status"] not in ("verified", "built")
        and c["engine"]["family"] != "tensorrt"),
    ("category=unsupported-* or status=timeout", lambda c: (c["category"] or "").startswith("unsupported-")
        or c["status"] == "timeout"),
    ("*.segmenter.*", lambda c: c["axes"]["model"] == "segmenter"),
    ("GRIDSAMPLE support", lambda c: "GridSample" in (c["line"] or "")),
    ('reason="needs an NVIDIA GPU, and this machine has none"', lambda c: c["status"] == "skipped"),
    ("target=sm120", lambda c: c["axes"].get("target") == "sm120"),
]  # fmt: skip


def test_the_filter_speaks_the_selector_language(view: Watched, address: str, report: dict[str, Any]) -> None:
    page = open_at(view, address, "#/cells")
    for query, fits_cell in QUERIES:
        page.locator("#filter").fill(query)
        n = sum(map(bool, map(fits_cell, report["cells"])))
        assert 0 < n < len(report["cells"])
        expect(page.locator(".hint")).to_have_text(f"{n} of {len(report['cells'])} cells")


def test_the_overview_says_where_docker_came_out_otherwise(view: Watched, address: str) -> None:
    page = open_at(view, address, "#/")
    panel = page.locator("section", has_text="Docker and virtual environments").last
    expect(panel).to_contain_text("12 cells ran both ways")
    expect(panel).to_contain_text("Docker: degraded at run (precision-fallback, fp16 -> fp32)")
    panel.get_by_role("link").click()
    expect(page.locator("body")).to_contain_text("Run it again")


def test_a_cell_of_a_container_names_its_image(view: Watched, address: str, report: dict[str, Any]) -> None:
    cell = next(cell for cell in report["cells"] if cell["image"])
    page = open_at(view, address, f"#/cell/{cell['id']}")
    for words in (cell["image"]["tag"], cell["image"]["digest"], cell["command"]):
        expect(page.locator("body")).to_contain_text(words)
    assert fits(page), "a long command does not widen the page"


def test_a_filter_that_is_no_selector_says_why_and_searches(view: Watched, address: str) -> None:
    page = open_at(view, address, "#/cells")
    page.locator("#filter").fill("modle=resnet50")
    expect(page.locator(".hint")).to_have_text(
        "character 1: unknown field 'modle'; perhaps 'model'?; searching for the words instead"
    )
    expect(page.locator("tbody")).to_contain_text("No cell fits")


def python_says(text: str) -> list[Any]:
    """Which RECORDS a selector takes, or [offset, message] of what is wrong with it."""

    def leaf(term: Compare | Word) -> int:
        if isinstance(term, Compare):
            if term.field not in selecting.NAMES:
                raise SelectError(text, term.offset, f"unknown field {term.field!r}")
            fits = [term.accepts(record.get(selecting.NAMES[term.field])) for record in selecting.RECORDS]
        elif term.text == "all":
            fits = [True] * len(selecting.RECORDS)
        elif term.text.startswith("#"):
            fits = [record["id"].startswith(term.text[1:]) for record in selecting.RECORDS]
        else:
            fits = [fnmatchcase(record["slug"], term.text) for record in selecting.RECORDS]
        return sum(fit << at for at, fit in enumerate(fits))

    try:
        bits = select.evaluate(select.parse(text), leaf, (1 << len(selecting.RECORDS)) - 1)
    except SelectError as error:
        return [error.offset, f"{error.message}; {error.hint}" if error.hint else error.message]
    return [bool(bits >> at & 1) for at in range(len(selecting.RECORDS))]


def test_the_filter_and_select_agree(browser: Browser) -> None:
    """Each pattern on each value, each selector on each record, each error in its words and at its place."""
    script = "\n".join((page_module.TEMPLATES / f"{name}.js").read_text() for name in ("pep440", "grammar"))
    pairs = [(pattern, value) for pattern in selecting.PATTERNS for value in selecting.VERSIONS]
    page = browser.new_page()
    found = page.evaluate(
        f"""([pairs, selectors, records, names]) => {{ {script}
            const leaf = t => {{
                const id = t.word && t.word[0] === "#" && t.word.slice(1);
                if (t.word === "all") return () => true;
                if (t.word) return c => (id === false ? Patterns.matches(t.word, c.slug) : c.id.startsWith(id));
                if (!names[t.field]) throw new SelectError(t.offset, `unknown field '${{t.field}}'`);
                return c => accepts(t.operator, t.values, c[names[t.field]]);
            }};
            return {{
                patterns: pairs.map(([p, v]) => Patterns.problem(p) ?? Patterns.matches(p, v)),
                selectors: selectors.map(t => {{
                    try {{ return records.map(parseSelector(t, leaf)); }} catch (e) {{ return [e.offset, e.message]; }}
                }}),
            }};
        }}""",
        [pairs, selecting.SELECTORS, selecting.RECORDS, selecting.NAMES],
    )
    page.close()
    wanted = [problem(pattern) or matches(pattern, value) for pattern, value in pairs]
    assert [x for x in zip(pairs, wanted, found["patterns"], strict=True) if x[1] != x[2]] == []
    assert dict(zip(selecting.SELECTORS, found["selectors"], strict=True)) == {
        t: python_says(t) for t in selecting.SELECTORS
    }
    assert True in wanted and False in wanted and len(wanted) > 5000


def test_cells_sort_filter_by_chip_and_keep_the_address(browser: Browser, address: str, report: dict[str, Any]) -> None:
    page = browser.new_page(viewport=DESKTOP)
    page.goto(address + "#/cells")
    page.get_by_role("button", name="took").click()
    expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "ascending")
    page.get_by_role("button", name="took").click()
    expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "descending")
    page.get_by_role("button", name=re.compile("^crashed")).click()
    page.get_by_role("button", name=re.compile("^timeout")).click()
    expect(page.locator("tbody tr")).to_have_count(report["counts"]["crashed"] + report["counts"]["timeout"])
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(report["counts"]["crashed"] + report["counts"]["timeout"])
    expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "descending")
    page.close()


def test_a_cell_shows_what_failed_and_what_to_do(view: Watched, address: str, report: dict[str, Any]) -> None:
    cell = first(report, signature="openvino-unsupported-onnx-ops")
    page = open_at(view, address, f"#/cell/{cell['id']}")
    main = page.locator("main")
    for text in (cell["diagnosis"], cell["line"], cell["category"], cell["signature"], cell["command"], "What to do."):
        expect(main).to_contain_text(text)
    failed = next(stage for stage in cell["stages"] if stage["state"] == "failed")
    expect(page.locator(".steps li.s-failed a")).to_have_attribute("href", f"../{failed['log']}")
    expect(page.locator(".steps li")).to_have_count(len(cell["stages"]))
    expect(page.get_by_role("link", name="source")).to_have_attribute("href", cell["source"])


def test_a_comparison_stands_against_its_tolerance(view: Watched, address: str, report: dict[str, Any]) -> None:
    page = open_at(view, address, f"#/cell/{first(report, status='mismatch')['id']}")
    expect(page.locator("main")).to_contain_text("tolerance: atol 0.01, rtol 0.1")
    expect(page.locator("table.data tbody tr").first).to_contain_text("12.4 %")
    expect(page.locator("main")).to_contain_text("top1-agreement 0.75, at least 0.99 asked")
    page = open_at(view, address, f"#/cell/{first(report, status='degraded')['id']}")
    expect(page.locator("main")).to_contain_text("CPU kernels compute in float32")


def test_copying_the_command(browser: Browser, address: str, report: dict[str, Any]) -> None:
    context = browser.new_context(viewport=DESKTOP, permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    cell = report["cells"][0]
    page.goto(f"{address}#/cell/{cell['id']}")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == cell["command"]
    context.close()


def test_hostile_text_is_shown_and_does_nothing(view: Watched, address: str, report: dict[str, Any]) -> None:
    cell = next(c for c in report["cells"] if "pwned" in (c["line"] or ""))
    for fragment in ("#/overview", f"#/cell/{cell['id']}", "#/cells?q=pwned", "#/matrix"):
        page = open_at(view, address, fragment)
        page.wait_for_timeout(50)
        assert page.evaluate("window.pwned") is None
        assert page.locator("img").count() == 0
    expect(open_at(view, address, f"#/cell/{cell['id']}").locator("main .line")).to_contain_text("</script><script>")


def test_plotly_comes_with_the_speed_view_alone(view: Watched, address: str, report: dict[str, Any]) -> None:
    page = open_at(view, address, "#/overview")
    assert not [url for url in view.asked if "plotly" in url]
    page = open_at(view, address, "#/speed?model=minilm")
    expect(page.locator("#plot .scatterlayer .trace")).not_to_have_count(0, timeout=20_000)
    settled = [
        c
        for c in report["cells"]
        if c["measure"] and c["measure"]["status"] == "settled" and c["axes"]["model"] == "minilm"
    ]
    expect(page.locator(".rank tbody tr")).to_have_count(len(settled))
    expect(page.locator("#plot .point")).to_have_count(len(settled))
    unstable = [c for c in report["cells"] if c["measure"] and c["measure"]["status"] == "unstable"]
    expect(page.locator("ul.cols li")).to_have_count(len(unstable))
    assert "ms" not in page.locator("ul.cols").inner_text().split()


def test_without_plotly_beside_it_the_numbers_are_still_there(
    browser: Browser, report: dict[str, Any], tmp_path: Path
) -> None:
    build_report(report, tmp_path)
    shutil.rmtree(tmp_path / "assets")
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri() + "#/speed")
    expect(page.locator("#plot")).to_contain_text("plotly.min.js is not beside this page")
    expect(page.locator(".rank tbody tr")).not_to_have_count(0)
    page.close()


def test_keys_alone_reach_everything(browser: Browser, address: str) -> None:
    page = browser.new_page(viewport=DESKTOP)
    page.goto(address + "#/matrix")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".mx a[tabindex='0']").count() == 1, "one stop for Tab"
    page.locator(".sq").first.focus()
    assert page.locator("#tip").is_visible()
    focused = "document.activeElement.dataset.at"
    assert page.evaluate(focused) == "onnxruntime-1.15.1-py3.11|resnet50|"
    for key, at in (
        ("ArrowRight", "onnxruntime-1.15.1-py3.11|squeezenet|"), ("ArrowDown", "onnxruntime-1.16.3-py3.11|squeezenet|"),
        ("End", "onnxruntime-1.16.3-py3.11|minilm|"), ("Home", "onnxruntime-1.16.3-py3.11|"),
        ("PageDown", "openvino-2023.0.2-py3.11|"), ("ArrowRight", "openvino-2023.0.2-py3.11|resnet50|"),
        ("ArrowUp", "onnxruntime-1.31.1-py3.12|resnet50|"),
    ):  # fmt: skip
        page.keyboard.press(key)
        assert page.evaluate(focused) == at
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Cells")
    page.locator("tbody a").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".trail")).to_contain_text("1 of 3")
    page.keyboard.press("Escape")
    expect(page.locator("h1")).to_have_text("Cells")
    page.keyboard.press("Escape")
    expect(page.locator("h1")).to_have_text("Matrix")
    page.wait_for_function(f"{focused} === 'onnxruntime-1.31.1-py3.12|resnet50|'")
    page.goto(address + "#/overview")
    page.keyboard.press("/")
    expect(page.locator("#filter")).to_be_focused()
    page.keyboard.type("status=timeout")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.keyboard.press("Escape")
    page.locator("tbody a").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".trail")).to_contain_text("1 of 2")
    page.keyboard.press("j")
    expect(page.locator(".trail")).to_contain_text("2 of 2")
    page.close()


def test_ten_thousand_cells_stay_quick(browser: Browser, tmp_path: Path) -> None:
    """The bars are benchmarks/bench_report.py's, with room for a busy machine; the details lie beside the page."""
    report = fake_report(times=26)
    n = len(report["cells"])
    assert n > 10_000
    build_report(report, tmp_path)
    page = browser.new_page(viewport=DESKTOP)
    problems: list[str] = []
    page.on("console", lambda m: problems.append(m.text))
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_function("performance.getEntriesByName('shown').length > 0")
    assert page.evaluate("performance.getEntriesByName('shown')[0].startTime") < 4000
    page.evaluate("location.hash = '#/cells'")
    expect(page.locator(".hint")).to_have_text(f"{n:,} of {n:,} cells")
    took = page.evaluate(
        """async () => {
            const box = document.getElementById("filter"), out = [];
            for (const q of ["model=resnet50", "GridSample", "opset=17 and status!=verified", ""]) {
                const before = performance.getEntriesByName("filtered").length;
                box.value = q; box.dispatchEvent(new Event("input"));
                const done = () => performance.getEntriesByName("filtered").length > before;
                for (let i = 0; i < 2000 && !done(); i++) await new Promise(r => setTimeout(r, 5));
                out.push(performance.getEntriesByName("filtered").at(-1).duration);
            }
            return out;
        }"""
    )
    assert max(took) < 400, took
    assert page.locator(".cells tbody tr").count() < 1000, "only rows near what is seen are there"
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.locator(f'tr[aria-rowindex="{n + 1}"]')).to_be_visible()
    page.locator(f'tr[aria-rowindex="{n + 1}"] a').click()
    expect(page.locator("main")).to_contain_text(report["cells"][-1]["command"])
    page.evaluate("location.hash = '#/matrix?rows=seed'")
    expect(page.locator(".mx tbody tr")).to_have_count(26)
    assert problems == []
    shutil.rmtree(next(tmp_path.glob("cells-*")))
    page.goto((tmp_path / "report.html").as_uri() + f"#/cell/{report['cells'][0]['id']}")
    expect(page.locator("main")).to_contain_text("is not beside this page")
    page.close()


def test_it_prints_every_cell_and_no_tools(browser: Browser, address: str, report: dict[str, Any]) -> None:
    page = browser.new_page(viewport=DESKTOP)
    page.goto(address + "#/cells")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(page.locator("tbody tr")).to_have_count(len(report["cells"]))
    assert not page.locator("#nav").is_visible() and not page.locator("#filter").is_visible()
    page.evaluate("location.hash = '#/matrix?rows=model&cols=engine.id&by=opset'")
    squares = page.locator(".mx .sq")
    expect(page.locator(".mx.two-axis")).to_have_count(1)
    shown = squares.count()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".mx").count() > 1, "a wide grid is several on paper"
    assert squares.count() == shown > 300
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    expect(page.locator(".mx")).to_have_count(1)
    page.close()


def test_without_javascript_the_outcomes_are_readable(browser: Browser, address: str, report: dict[str, Any]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    expect(page.locator("noscript h1, main h1").first).to_contain_text(
        f"{report['counts']['verified']} of {len(report['cells'])}"
    )
    expect(page.locator("noscript li").first).to_contain_text("This tf2onnx cannot write opset 21.")
    expect(page.locator("noscript li").first).to_be_visible()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(browser: Browser, address: str, scheme: str) -> None:
    """WCAG AA: 4.5 to 1 for text, 3 to 1 for the shapes of outcomes (https://www.w3.org/TR/WCAG22/#contrast-minimum)."""
    page = browser.new_page(viewport=DESKTOP, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(address)
    ratios = page.evaluate(
        """names => {
            const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
            const light = name => {
                const probe = document.createElement("i");
                probe.style.color = `var(--${name})`; document.body.append(probe);
                const rgb = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map(v => linear(v / 255));
                probe.remove();
                return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2];
            };
            const out = {};
            for (const name of names) {
                const [x, y] = [light(name), light("surface")].sort((p, q) => q - p);
                out[name] = (x + 0.05) / (y + 0.05);
            }
            return out;
        }""",
        ["text", "soft", "faint", "accent", *STATUSES],
    )
    page.close()
    low = {name: round(value, 2) for name, value in ratios.items() if value < (3.0 if name == "skipped" else 4.5)}
    assert low == {}


def test_facts_stand_beside_what_happened(view: Any, address: str, report: dict[str, Any]) -> None:
    page = open_at(view, address, "#/facts")
    scored = report["predictions"]
    expect(page.locator("h1")).to_have_text("Facts against observations")
    rows = page.locator("table.data tbody tr")
    assert rows.count() == len(scored["rules"])
    wrong = [claim for claim in scored["claims"] if claim["verdict"] == "refuted"]
    panel = page.locator("section", has=page.locator("h2", has_text="Wrong facts"))
    assert wrong and panel.locator("ul.finds > li").count() == len(wrong)
    first = panel.locator("ul.finds > li").first
    first.locator("summary").click()
    expect(first).to_contain_text("<b>a fact</b>")
    expect(first.locator("a[href='https://example.com/facts']")).to_be_visible()
    shown = first.locator("a", has_text="show cells")
    evidence = next(claim for claim in wrong if claim["subject"] in (first.locator(".t").text_content() or ""))[
        "evidence"
    ]
    shown.click()
    expect(page.locator("table tbody tr")).to_have_count(len(evidence))


def test_the_page_of_a_cell_says_what_the_facts_said(view: Any, address: str, report: dict[str, Any]) -> None:
    cell = next(cell for cell in report["cells"] if cell["status"] == "unsupported")
    page = open_at(view, address, f"#/cell/{cell['id']}")
    panel = page.locator("section", has=page.locator("h2", has_text="What the facts say"))
    expect(panel).to_contain_text("unsupported")
    expect(panel).to_contain_text(cell["engine"]["id"])


def test_rules_lead_to_their_cells_and_give_the_entry(view: Watched, address: str, report: dict[str, Any]) -> None:
    found = complete(report)
    rule = next(rule for rule in found["rules"]["rules"] if "onnxruntime<=1.17.3" in rule["when"])
    page = open_at(view, address, "#/rules")
    item = page.locator(".finds > li", has_text=rule["when"]).first
    expect(item).to_contain_text(rule["text"])
    item.get_by_text("entry for expect:").click()
    expect(item).to_contain_text(rule["expect"].splitlines()[0])
    item.get_by_role("link", name="show cells").click()
    fit = rule["failing"] + rule["passing"] + rule["other"] + rule["silent"]
    expect(page.locator(".hint")).to_have_text(f"{fit} of {len(report['cells'])} cells")


def test_boundaries_lead_to_the_cells_beside_them(view: Watched, address: str, report: dict[str, Any]) -> None:
    found = next(item for item in complete(report)["boundaries"] if item["axis"] == "engine.onnxruntime")
    page = open_at(view, address, "#/rules")
    item = page.locator(".finds > li", has_text=found["text"]).first
    item.get_by_text("rows", exact=True).last.click()
    expect(item.locator("ul li")).to_have_count(len(found["where"]))
    item.get_by_role("link", name="after").first.click()
    expect(page).to_have_url(re.compile(f"#/cell/{found['where'][0]['cells'][0][1]}$"))
