"""Accuracy in the report, in a real browser: the picture beside the reference's, where a cell goes wrong, the view of accuracy
against speed. The numbers are made up (fake_report.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from fake_report import fake_report
from playwright.sync_api import Browser, expect
from test_report_browser import DESKTOP, PHONE, Watched, browser, fits, open_at  # noqa: F401

from builder.report import build_report
from builder.report.page import pictures

pytestmark = pytest.mark.browser

HOSTILE = "</script><img src=x onerror=window.pwned=1>"


def entry(name: str, error: float | None, **more: Any) -> dict[str, Any]:
    return {
        "tensor": name, "error": error, "wrong": error is None, "reason": "", "broken": 0, "max_abs": 1.0, "scale": 2.0,
        "noise": 1e-7, **more,
    }  # fmt: skip


def located(cell: dict[str, Any]) -> dict[str, Any]:
    """What `locate` leaves, as far as the page reads it."""
    return {
        "schema": 1, "cell": cell["id"], "when": "2026-11-21T10:00:00Z", "method": "relative error", "reference": "onnx-tools",
        "build": "b", "run": "r", "case": "static", "precision": "int8", "output": entry("logits", 1.04), "limit": 0.312,
        "limit_by": "the recipe", "confirmed": True, "finished": True, "engines": 4, "tensors": 31, "absorbed": ["mask"],
        "left": [{"tensor": "gelu", "why": "healed"}],
        "first": {**entry("concat_1" + HOSTILE, 0.868), "node": "/Concat_1", "operator": "Concat", "growth": 12.3, "sudden": True,
                  "inputs": [entry("relu", 0.0668), entry("resize", None, reason="3 of 9 values are not finite")]},
        "subgraph": {"path": f"located/{cell['id']}/subgraph.onnx", "inputs": f"located/{cell['id']}/subgraph.npz",
                     "nodes": ["a", "b"], "operators": ["Concat", "Conv"], "of": 109, "error": 0.8, "broken": 0, "reason": "",
                     "reproduces": True},
        "measured": [entry("relu", 0.0668, operator="Relu"), entry("concat_1", 0.868, operator="Concat")],
    }  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """A report with pictures, floors, and one cell that was looked into; its address."""
    from builder.worker import picture

    root = tmp_path_factory.mktemp("artifacts")
    report = fake_report()
    for cell in report["cells"]:
        for output in (cell["comparison"] or {}).get("outputs", ()):
            output["noise"] = {"max_abs": 1e-7, "max_rel": 1e-6, "scale": 2.0}
        if cell["comparison"]:
            cell["comparison"]["noise_by"] = "other kernels"
    bad = [cell for cell in report["cells"] if cell["status"] == "mismatch"]
    maps = numpy.zeros((1, 4, 20, 30), "float32")
    wrong = maps.copy()
    wrong[0, 2, 5:9, 5:9] = 3.0
    data, told = picture.side_by_side(maps, wrong)
    (root / "one.png").write_bytes(data)
    output = bad[0]["comparison"]["outputs"][0]
    bad[0]["files"] = {"pictures": [{"path": "one.png", "case": output["case"], "name": output["name"], **told},
                                    {"path": "gone.png", "case": "x", "name": "y", **told, "difference": None}]}  # fmt: skip
    bad[0]["located"] = located(bad[0])
    build_report(report, root / "report")
    return report, (root / "report" / "report.html").as_uri()


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def view(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Watched]:  # noqa: F811
    context = browser.new_context(viewport=request.param, color_scheme="dark" if request.param is PHONE else "light")
    watched = Watched(context.new_page())
    yield watched
    context.close()
    assert watched.problems == []
    assert {url.split(":")[0] for url in watched.asked} <= {"file", "data", "blob"}


def test_a_picture_is_shown_with_its_figures(view: Watched, made: tuple[dict[str, Any], str]) -> None:
    report, address = made
    bad = next(cell for cell in report["cells"] if cell.get("located"))
    page = open_at(view, address, f"#/cell/{bad['id']}")
    image = page.locator("figure.beside img")
    expect(image).to_have_count(1)
    assert image.evaluate("i => i.decode().then(() => [i.naturalWidth, i.naturalHeight])") == [98, 20]
    expect(page.locator("figure.beside").first).to_contain_text("white is a difference of 3, 150 % of the reference's")
    expect(page.locator("figure.beside").last).to_contain_text("nothing finite to compare")
    expect(page.locator("figure.beside").last.locator("code")).to_have_text("gone.png")
    expect(page.locator("text=noise floor").first).to_be_visible()
    assert fits(page)


def test_where_a_cell_goes_wrong_is_told(view: Watched, made: tuple[dict[str, Any], str]) -> None:
    report, address = made
    bad = next(cell for cell in report["cells"] if cell.get("located"))
    page = open_at(view, address, f"#/cell/{bad['id']}")
    panel = page.locator("#located")
    expect(panel).to_contain_text("First wrong: concat_1</script>")
    expect(panel).to_contain_text("With gelu marked the output was right")
    expect(panel).to_contain_text("3 of 9 values are not finite")
    expect(panel.locator("tbody").first.locator("tr")).to_have_count(3)
    ends = panel.locator("tbody").first.locator("tr td:last-child").all_inner_texts()
    assert [text.strip() for text in ends] == ["wrong", "right", "wrong"]
    assert panel.locator("a").first.get_attribute("href") == f"../located/{bad['id']}/subgraph.onnx"
    assert page.evaluate("window.pwned") is None


def test_where_nothing_was_looked_for_says_how(view: Watched, made: tuple[dict[str, Any], str], tmp_path: Path) -> None:
    report = {**made[0], "cells": [{k: v for k, v in cell.items() if k != "located"} for cell in made[0]["cells"]]}
    bad = next(cell for cell in report["cells"] if cell["status"] == "mismatch")
    build_report(report, tmp_path / "report")
    page = open_at(view, (tmp_path / "report" / "report.html").as_uri(), f"#/cell/{bad['id']}")
    expect(page.locator("main")).to_contain_text(f"enginematrix locate {bad['id']}")


@pytest.mark.parametrize("shapes", ["static", "dynamic"])
def test_the_front_holds_what_nothing_beats(view: Watched, made: tuple[dict[str, Any], str], shapes: str) -> None:
    """Of the same work: static and dynamic models are timed at other sizes."""
    report, address = made
    page = open_at(view, address, f"#/accuracy?model=encoder&shapes={shapes}")
    expect(page.locator("div.seg[aria-label=Shapes] button[aria-pressed=true]")).to_have_text(shapes)
    expect(page.locator("#nav a[aria-current=page]")).to_have_text("Accuracy")
    mine = []
    for cell in report["cells"]:
        if cell["axes"]["model"] == "encoder" and cell["axes"]["shapes"] == shapes and cell["comparison"]:
            error = max(output["max_abs"] / 2.0 for output in cell["comparison"]["outputs"])
            settled = cell["measure"] and cell["measure"]["status"] == "settled"
            mine.append((cell, cell["measure"]["median"] if settled else None, error))
    rows = page.locator("main table.data tbody tr")
    expect(rows).to_have_count(len(mine))
    able = [(cell, time, error) for cell, time, error in mine if time and cell["status"] in ("verified", "degraded")]
    front = {
        cell["id"]
        for cell, time, error in able
        if not any(t <= time and e <= error and (t, e) != (time, error) for _, t, e in able)
    }
    assert bool(front) is bool(able)
    marked = page.locator("main table.data tbody tr", has_text="on the front")
    links = marked.locator("a").evaluate_all("a => a.map(x => x.hash.split('/').pop())")
    assert set(links) == front
    assert fits(page)
    if any(time for _, time, _ in mine):
        expect(page.locator("#plot .main-svg").first).to_be_visible()


def test_the_view_is_worked_by_keys(view: Watched, made: tuple[dict[str, Any], str]) -> None:
    _, address = made
    page = open_at(view, address, "#/accuracy")
    models = page.locator("div.seg[aria-label=Model] button, select[aria-label=Model]")
    expect(models.first).to_be_visible()
    buttons = page.locator("div.seg[aria-label=Model] button")
    buttons.nth(1).focus()
    page.keyboard.press("Enter")
    expect(page.locator("div.seg[aria-label=Model] button[aria-pressed=true]")).to_have_text(
        buttons.nth(1).inner_text()
    )
    link = page.locator("main table.data tbody a").first
    link.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".cellhead")).to_be_visible()


def test_pictures_are_of_this_store_and_within_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    png = b"\x89PNG\r\n\x1a\n" + b"x" * 100
    root = tmp_path / "artifacts"
    root.mkdir()
    for name in ("a.png", "b.png"):
        (root / name).write_bytes(png)
    (tmp_path / "outside.png").write_bytes(png)
    (root / "text.png").write_text("<svg onload=alert(1)>")

    def cell(status: str, *paths: str) -> dict[str, Any]:
        return {"status": status, "files": {"pictures": [{"path": path} for path in paths]}}

    cells = [cell("verified", "a.png"), cell("mismatch", "b.png", "b.png", "../outside.png", "text.png", "no.png")]
    assert list(pictures(cells, root)) == ["b.png", "a.png"]
    assert pictures(cells, None) == {}
    monkeypatch.setattr("builder.report.page.PICTURES", 150)
    assert list(pictures(cells, root)) == ["b.png"], "a failing cell's first"
    assert json.dumps(pictures(cells, root)).count("data:image/png;base64,") == 1
