"""The report's data and its files: what findings say, what contradicts itself, what hostile text may do (nothing)."""

from __future__ import annotations

import copy
import io
import json
import os
import re
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import histories
import jsonschema
import pytest
from fake_report import HOSTILE, fake_report
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.report import build_report, check_report, data, findings, junit, markdown, page, undiagnosed
from builder.report.assemble import EXPLAINED, complete, stacks, write
from builder.report.console import Progress, summary
from builder.report.coverage import coverage
from builder.report.since import since
from builder.store import Store
from builder.values import FAILING, STATUSES

SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "report.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return complete(fake_report())


@pytest.fixture
def report(whole: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(whole)


def cell_of(report: dict[str, Any], status: str) -> dict[str, Any]:
    return next(cell for cell in report["cells"] if cell["status"] == status)


def test_the_fake_has_something_of_everything(whole: dict[str, Any]) -> None:
    assert all(whole["counts"][status] for status in STATUSES)
    assert len(whole["cells"]) >= 330 and len({cell["engine"]["id"] for cell in whole["cells"]}) >= 22


# ---------------------------------------------------------------- findings


def test_every_failing_or_blocked_cell_is_in_exactly_one_finding(whole: dict[str, Any]) -> None:
    named = [cell_id for finding in whole["findings"] for cell_id in finding["cells"]]
    bad = [cell["id"] for cell in whole["cells"] if cell["status"] in FAILING | {"blocked"}]
    assert sorted(named) == sorted(bad)
    assert [f["count"] for f in whole["findings"]] == sorted((f["count"] for f in whole["findings"]), reverse=True)


def test_a_finding_states_only_what_all_its_cells_have(whole: dict[str, Any]) -> None:
    by_id = {cell["id"]: cell for cell in whole["cells"]}
    for finding in whole["findings"]:
        cells = [by_id[cell_id] for cell_id in finding["cells"]]
        for name in ("status", "category", "signature"):
            assert {cell[name] for cell in cells} == {finding[name]}
        for name in ("diagnosis", "remedy"):
            assert finding[name] is None or {cell[name] for cell in cells} == {finding[name]}
        assert set(finding["engines"]) == {cell["engine"]["id"] for cell in cells}
        assert finding["lines"] == len({cell["line"] for cell in cells})


def test_equal_failures_of_several_engines_are_one_finding(whole: dict[str, Any]) -> None:
    first = whole["findings"][0]
    assert first["title"] == "This tf2onnx cannot write opset 21."
    assert len(first["engines"]) == 20 and first["models"] == ["keras-cnn"]
    limits = [f["title"] for f in whole["findings"] if f["signature"] == "ort-opset-not-released" and not f["expected"]]
    assert limits == [
        f"The model uses opset 21 of domain ai.onnx; this ONNX Runtime supports it up to {n}." for n in (19, 20)
    ]


def test_expected_and_unexpected_never_share_a_finding(whole: dict[str, Any]) -> None:
    by_id = {cell["id"]: cell for cell in whole["cells"]}
    for finding in whole["findings"]:
        assert {bool(by_id[i]["expected"]) for i in finding["cells"]} == {finding["expected"]}


def test_mismatches_group_whatever_their_numbers(report: dict[str, Any]) -> None:
    one = cell_of(report, "mismatch")
    other = {**copy.deepcopy(one), "id": "ffffffff", "line": one["line"].replace("12.4", "3.17")}
    (found,) = findings([one, other])
    assert found["count"] == 2 and found["lines"] == 2 and found["title"] == one["diagnosis"]


def test_what_was_got_instead_is_one_cause_whichever_output_shows_it(report: dict[str, Any]) -> None:
    """TF32 on an H200 was four findings with one title: one for each output and case that missed its tolerance."""
    plain, instead = cell_of(report, "mismatch"), [{"asked": "fp32", "got": "tf32", "how": "use_tf32=1"}]
    cells = [
        {**plain, "id": f"{at}{model}", "line": f"output {output} of case {case}: 59 % of the values exceed the tolerance",
         "degraded": instead, "diagnosis": "The numbers are wrong. It is not what was asked either: asked fp32, got tf32."}
        for at, (model, output, case) in enumerate((("a", "logits", "static"), ("b", "logits", "min"), ("c", "features", "opt")))
    ]  # fmt: skip
    (found,) = findings(cells)
    assert found["count"] == 3 and found["lines"] == 3 and found["title"] == cells[0]["diagnosis"]
    other = {
        **cells[0],
        "id": "other",
        "degraded": [{**instead[0], "got": "bf16"}],
        "diagnosis": "... asked fp32, got bf16.",
    }
    assert len(findings([*cells, other])) == 2
    assert len(findings([{**cell, "degraded": []} for cell in cells])) == 3  # wrong and nothing else: no cause is known


def test_undiagnosed_counts_what_no_signature_explains(report: dict[str, Any]) -> None:
    assert undiagnosed(report["cells"]) == report["undiagnosed"] > 0
    odd: dict[str, Any] = {"signature": None, "diagnosis": None, "degraded": [], "category": "build-error"}
    strange = {**cell_of(report, "failed"), **odd}
    assert undiagnosed([strange]) == 1
    assert undiagnosed([{**strange, "signature": "no-usable-wheels"}]) == 0


def test_stacks_are_named_shortly() -> None:
    engines = [
        {"id": f"x{v}{c}", "family": "tensorrt-rtx", "fields": {"tensorrt-rtx": v, "cuda": c, "python": "3.12"}}
        for v, c in (("1.6", "12"), ("1.7", "12"), ("1.7", "13"))
    ]
    assert stacks(engines) == "tensorrt-rtx 1.6 (cuda 12), 1.7 (cuda 12, 13)"
    assert stacks(engines, 2) == "3 tensorrt-rtx stacks"
    assert stacks([*engines, *engines], 3) == stacks(engines)
    plain = {"id": "a", "family": "onnxruntime", "fields": {"onnxruntime": "1.16.3", "python": "3.11"}}
    with_it = {"onnxruntime": "1.16.3", "numpy": "2.2.6", "python": "3.11"}
    assert (
        stacks([plain, {"id": "b", "family": "onnxruntime", "fields": with_it}])
        == "onnxruntime 1.16.3, 1.16.3 (numpy 2.2.6)"
    )  # not only those with it


# ---------------------------------------------------------------- does it contradict itself?


def test_an_honest_report_passes(whole: dict[str, Any]) -> None:
    assert check_report(whole) == []
    assert check_report(fake_report()) == []


def timed(report: dict[str, Any]) -> dict[str, Any]:
    return next(cell["measure"] for cell in report["cells"] if cell["measure"])


def _status(of: str, **changes: Any) -> Any:
    return lambda r: cell_of(r, of).update(changes)


LIES = {
    "a cell is missing": (lambda r: r["cells"].pop(0), "selected"),
    "a cell twice": (lambda r: r["cells"].__setitem__(1, r["cells"][0]), "2 times"),
    "counts": (lambda r: r["counts"].__setitem__("verified", 1), "counts say 1 verified"),
    "an unknown outcome": (_status("verified", status="fine"), "not an outcome"),
    "verified, never compared": (_status("verified", comparison=None), "verified with the verdict None"),
    "verified, compared with nothing": (_status("verified", comparison={"verdict": "match", "outputs": []}),
                                      "without any"),
    "verified, one output wrong": (
        lambda r: cell_of(r, "verified")["comparison"]["outputs"][0].update(verdict="mismatch"), "does not match"),
    "verified, not as asked": (_status("verified", degraded=[{"asked": 1, "got": 2, "how": "x"}]),
                               "not what was asked"),
    "verified after a failure": (
        lambda r: cell_of(r, "verified")["stages"][0].update(state="failed"), "a stage failed"),
    "verified with an error": (_status("verified", line="boom"), "carries a failure"),
    "built and compared": (_status("built", comparison={"verdict": "match", "outputs": [{}]}), "and yet compared"),
    "built and timed": (_status("built", measure={"status": "unstable", "median": None}), "and yet timed"),
    "mismatch that matches": (
        lambda r: cell_of(r, "mismatch")["comparison"].__setitem__("verdict", "match"), "matching comparison"),
    "degraded to nothing": (_status("degraded", degraded=[]), "nothing says"),
    "failing without a category": (_status("crashed", category=None), "without a category or line"),
    "failing without a line": (_status("timeout", line=""), "without a category or line"),
    "skipped without a reason": (_status("skipped", reason=""), "no reason is given"),
    "settled without a number": (
        lambda r: timed(r).update(status="settled", median=None), "median"),
    "unstable with a number": (
        lambda r: timed(r).update(status="unstable", median=1.0), "has a number"),
    "fixed, and failing": (
        lambda r: next(c for c in r["cells"] if c["expected"])["expected"].update(state="fixed"), "fixed"),
    "a finding lost": (lambda r: r["findings"].pop(), "is in 0 findings"),
    "a finding counts wrong": (lambda r: r["findings"][0].update(count=3), "counts 3 of 20"),
    "no such stage": (_status("failed", stage="thinking"), "not a stage"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_every_lie_is_found(report: dict[str, Any], name: str) -> None:
    tell, found = LIES[name]
    tell(report)
    assert any(found in problem for problem in check_report(report)), check_report(report)


# ---------------------------------------------------------------- report.json


def test_json_fits_its_schema(whole: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(json.loads(json.dumps(whole)), SCHEMA)


@pytest.mark.parametrize("name", ["verified, never compared", "built and compared", "failing without a category",
                                  "skipped without a reason", "an unknown outcome", "degraded to nothing"])  # fmt: skip
def test_the_schema_knows_the_lattice_too(report: dict[str, Any], name: str) -> None:
    LIES[name][0](report)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(report, SCHEMA)


def test_the_schema_has_all_outcomes_and_stages() -> None:
    assert SCHEMA["$defs"]["cell"]["properties"]["status"]["enum"] == list(STATUSES)


# ---------------------------------------------------------------- the files

ADDED = ("findings", "undiagnosed", "coverage", "rules", "boundaries")
"""What `complete` puts into a report."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, whole: dict[str, Any]) -> Path:
    out = tmp_path_factory.mktemp("report") / "deep" / "report"
    build_report({k: v for k, v in whole.items() if k not in ADDED}, out)
    return out


def test_all_files_are_written_and_nothing_is_left_beside(folder: Path, whole: dict[str, Any]) -> None:
    assert sorted(p.name for p in folder.iterdir()) == [
        "assets",
        "junit.xml",
        "report.html",
        "report.json",
        "report.md",
    ]
    assert [p.name for p in (folder / "assets").iterdir()] == ["plotly.min.js"]
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == json.loads(json.dumps(whole))


def test_the_same_report_is_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    build_report(fake_report(), tmp_path)
    for name in ("report.json", "report.md", "report.html", "junit.xml"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_a_write_that_fails_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.txt", "old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "a.txt", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


def test_details_beside_the_page_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = fake_report()
    monkeypatch.setattr(page, "INLINE", 1000)
    build_report(report, tmp_path)
    (first,) = tmp_path.glob("cells-*")
    html = (tmp_path / "report.html").read_text()
    assert f'"{first.name}"' in html and 'id="part-0"' not in html
    calls = [re.fullmatch(rf"enginematrixPart\({n},(.*)\);\n", (first / f"{n}.js").read_text()) for n in range(2)]
    rows = [row for call in calls if call for row in json.loads(call[1])]
    assert [row["command"] for row in rows] == [cell["command"] for cell in report["cells"]]
    build_report(report, tmp_path)
    assert [path.name for path in tmp_path.glob("*cells-*")] == [first.name], "the same details are there once"

    def full(self: Path, *_: Any) -> None:
        raise OSError(28, "No space left on device")

    other = {**report, "cells": report["cells"][:300]}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space"):
            build_report(other, tmp_path)
    assert [path.name for path in (*tmp_path.glob("cells-*"), *tmp_path.glob(".cells-*"))] == [first.name]
    assert f'"{first.name}"' in (tmp_path / "report.html").read_text(), "the old page and its details stay"
    build_report(other, tmp_path)
    assert first.is_dir(), "a page of before may be open"
    os.utime(first, (0, 0))
    build_report(other, tmp_path)
    assert not first.is_dir() and len([*tmp_path.glob("cells-*")]) == 1


def test_columns_say_what_the_cells_say(whole: dict[str, Any]) -> None:
    """What templates/core.js puts together from the columns, put together here."""
    view = page.view(whole)
    for at, cell in enumerate(whole["cells"]):

        def get(name: str, at: int = at) -> Any:
            column = view["columns"][name]
            return column[at] if isinstance(column, list) else column

        assert (get("id"), STATUSES[get("status")], view["stages"][get("stage")]) == (
            cell["id"],
            cell["status"],
            cell["stage"],
        )
        assert view["engines"][get("engine")]["id"] == cell["engine"]["id"]
        assert view["exporters"][get("exporter")]["id"] == cell["exporter"]["id"]
        assert view["odd"].get(at, cell["engine"]["id"] + view["slugs"][get("slug")]) == cell["slug"]
        assert view["options"][get("options")] == cell["axes"] and view["expected"][get("expected")] == cell["expected"]
        assert view["causes"][get("cause")] == tuple(cell[name] for name in data.CAUSE)
        assert (view["texts"][get("line")], view["texts"][get("reason")]) == (cell["line"], cell["reason"])
        assert (bool(get("flags") & 1), bool(get("flags") & 2)) == (cell["flaky"], cell["reused"])
        finding = whole["findings"][get("finding") - 1]["cells"] if get("finding") else []
        assert (cell["id"] in finding) == (cell["status"] in EXPLAINED)
    shared: dict[str, data.Texts] = {}
    rows = [row for part in data.parts(whole["cells"], shared) for row in part]
    assert [shared["loaded"].values[row["loaded"]] for row in rows if "loaded" in row] == [
        cell["loaded"] for cell in whole["cells"] if cell["loaded"]
    ]
    covered = {name for row in rows for name in row} | data.ELSEWHERE
    assert {name for cell in whole["cells"] for name in cell if cell[name]} <= covered


def test_errors_are_of_the_worst_output() -> None:
    noise = {"max_abs": 0.001, "scale": 2.0}
    outputs = [{"max_abs": 0.1, "noise": noise}, {"max_abs": 0.4, "noise": noise}]
    assert data.error_of({"outputs": outputs}) == 0.2
    assert data.error_of({"outputs": [*outputs, {"nonfinite_equal": False}]}) == -1
    assert data.error_of({"outputs": [*outputs, {"nonfinite_equal": False}, {"max_abs": 1}]}) is None
    assert data.error_of({"outputs": [{"max_abs": 0.1, "noise": {"scale": 0}}]}) is data.error_of({}) is None


def test_coverage_counts_cells_and_pairs() -> None:
    def cell(engine: str, model: str, status: str, category: str | None = None) -> dict[str, Any]:
        own = {"engine": {"id": engine}, "exporter": {"id": "x"}, "axes": {"model": model}}
        return {**own, "status": status, "category": category}

    cells = [cell("a", "m", "verified"), cell("a", "n", "failed"), cell("b", "m", "skipped")]
    cells.append(cell("b", "n", "blocked", "infrastructure"))
    # x-a, x-m, a-m; x-n, a-n; x-b, b-m; b-n
    assert coverage(cells) == {
        "cells": {"all": 4, "told": 2, "verified": 1},
        "pairs": {"all": 8, "told": 5, "verified": 3},
    }
    cells[3]["category"] = "unsupported-operator"  # what it needs failed for a cause that is known
    assert coverage(cells)["pairs"]["told"] == 7


def test_since_is_the_comparison_with_the_last_run_of_the_selection(tmp_path: Path) -> None:
    store, report = Store(tmp_path), fake_report()
    report["run"].update(id="2026-11-22T01", select="group nightly")
    report["cells"][0]["id"] = "broke"
    named = {"matrix": report["run"]["matrix"]}
    assert since(store, report) is None, "no run of it is stored"
    histories.run(store, "2026-11-20T01", [histories.cell("broke"), histories.cell("away")], **named)
    histories.run(store, "2026-11-21T01", [histories.cell("broke", "failed")], select="all", **named)
    first = since(store, {**report, "run": {**report["run"], "select": "all"}})
    assert first and (first["old"], first["new"], first["groups"]) == (None, "2026-11-21T01", [])
    histories.run(
        store, "2026-11-22T01", [histories.cell("broke", "crashed"), histories.cell("away", "crashed")],
        lock=histories.locked(histories.ENGINE, numpy="2.2.6"), **named,
    )  # fmt: skip
    found = since(store, report)
    assert found and (found["old"], found["new"], found["regressions"]) == ("2026-11-20T01", "2026-11-22T01", 2)
    (group,) = found["groups"]
    assert (group["kind"], group["count"], group["cells"]) == ("new-failures", 2, ["broke"]), (
        "away is not in this report"
    )
    assert group["remedy"] == "take another release" and "numpy" in group["beside"][0] and "crashed" in group["became"]
    jsonschema.validate(found, SCHEMA["properties"]["since"])
    stored = since(store, {**report, "run": {**report["run"], "id": "2026-11-23T01-stored"}})
    assert stored == found, "what is stored is what the newest run of the selection found"


def test_text_that_is_no_unicode_is_written(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "x\udcff")
    assert (tmp_path / "a.txt").read_text() == "x?"


# ---------------------------------------------------------------- any text


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(min_codepoint=0, max_codepoint=0x10FFFF), max_size=60))
def test_any_text_is_valid_xml_and_html(text: str) -> None:
    report = fake_report()
    report["cells"] = [cell_of(report, "failed")]
    report["cells"][0].update(line=text or "x", reason=text, slug=text)
    full = complete(report)
    ET.fromstring(junit.render(full).encode("utf-8", "replace"))
    assert text[:1] in "\n\r" or markdown.text(text).count("\n") == 0
    data = page.embedded(page.view(full))
    assert not re.search("[<>&\u2028\u2029]", data)
    shown = json.loads(data)
    assert shown["odd"]["0"] == text if shown["odd"] else full["cells"][0]["engine"]["id"] + shown["slugs"][0] == text


# ---------------------------------------------------------------- report.md


def test_markdown_is_a_page_and_says_what_matters(folder: Path, whole: dict[str, Any]) -> None:
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 90 and len(text) < 8000
    assert f"**{whole['counts']['verified']} of {whole['selected']} cells verified**" in text
    for status in STATUSES:
        assert f"| {status} | {whole['counts'][status]} |" in text
    assert "This tf2onnx cannot write opset 21" in text and "Invented Processor" in text and "*(expected)*" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<img src=x>", "&lt;img src=x&gt;"),
        ("a|b\nc", "a\\|b c"),
        ("@team #12 `x` **b** [l](u)", "&#64;team \\#12 \\`x\\` \\*\\*b\\*\\* \\[l\\]\\(u\\)"),
        ("https://x.example www.y.example", "https&#58;//x.example www&#46;y.example"),
        ("x" * 300, "x" * 219 + "…"),
    ],
)
def test_markdown_escapes_foreign_text(text: str, shown: str) -> None:
    assert markdown.text(text) == shown


# ---------------------------------------------------------------- report.html, without a browser


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_html_fetches_nothing_and_hostile_text_makes_no_tag(folder: Path) -> None:
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert HOSTILE not in html and "pwned" in html
    parser = Tags()
    parser.feed(html)
    scripts = [attributes for tag, attributes in parser.tags if tag == "script"]
    assert [sorted(attributes) for attributes in scripts if attributes.get("type") != "application/json"] == [["nonce"]]
    assert not [tag for tag, attrs in parser.tags if tag == "img" or attrs.get("src")]
    for tag, attrs in parser.tags:
        for value in attrs.values():
            assert tag == "link" or not re.match(r"(?:https?:)?//", value or "")
    policy = next(
        a["content"] for t, a in parser.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in (policy or "") and "unsafe-eval" not in (policy or "")
    assert not re.search(r"""innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|\bfetch\(|XMLHttp""", html)


def test_view_says_what_repeats_once(whole: dict[str, Any]) -> None:
    view = page.view(whole)
    assert len(view["columns"]["id"]) == view["n"] == len(whole["cells"]) and len(view["engines"]) == 24
    families = [engine["family"] for engine in view["engines"]]
    assert families == sorted(families, key=families.index)
    ort = [engine["version"] for engine in view["engines"] if engine["family"] == "onnxruntime"]
    assert ort == ["1.15.1", "1.16.3", "1.17.3", "1.18.1", "1.19.2", "1.20.1", "1.22.1", "1.24.2", "1.31.1"]
    assert view["axes"]["opset"] == ["13", "17", "21"]
    assert (
        sum(entry["count"] for entry in view["absent"]) == whole["counts"]["skipped"] + whole["counts"]["unsupported"]
    )


def test_an_empty_and_a_gpu_report_can_be_written(report: dict[str, Any], tmp_path: Path) -> None:
    report["run"]["machine"].update(
        gpus=[{"name": "Some GPU", "compute_capability": "8.9", "memory": 24 << 30, "uuid": "GPU-1"}], driver="580.65"
    )
    build_report(report, tmp_path / "gpu")
    assert "Some GPU" in (tmp_path / "gpu" / "report.md").read_text()
    build_report({**report, "cells": [], "selected": 0, "counts": dict.fromkeys(STATUSES, 0)}, tmp_path / "empty")
    assert (tmp_path / "empty" / "report.html").is_file()


# ---------------------------------------------------------------- the terminal


def test_plain_progress_is_one_line_each_and_flushed() -> None:
    class Out(io.StringIO):
        flushed = 0

        def flush(self) -> None:
            self.flushed += 1

    out = Out()
    with Progress(out=out) as progress:
        progress.total(2, 3)
        progress.step_started("export a")
        progress.step_finished("export a", 1.25, True)
        progress.step_finished("build b", 0.1, False)
        progress.cell_finished("x.resnet50", "verified", "", False)
        progress.cell_finished("y.resnet50", "failed", "bad\x1b[31m\nnews", True)
        progress.message("done")
    lines = out.getvalue().splitlines()
    assert lines == [
        "[1/3] ok        1.2 s  export a", "[2/3] failed   100 ms  build b", "cell 1/2 verified: x.resnet50",
        "cell 2/2 failed (expected): y.resnet50: bad [31m news", "done",
    ]  # fmt: skip
    assert out.flushed == 5 and (progress.done, progress.failed, progress.expected) == (2, 0, 1)


def test_quiet_says_only_what_is_unexpectedly_wrong() -> None:
    out = io.StringIO()
    with Progress(quiet=True, out=out) as progress:
        progress.total(3, 3)
        progress.step_finished("build b", 0.1, False)
        progress.cell_finished("a", "verified", "", False)
        progress.cell_finished("b", "failed", "known", True)
        progress.cell_finished("c", "crashed", "SIGSEGV", False)
    assert out.getvalue() == "cell 3/3 crashed: c: SIGSEGV\n"


def test_live_progress_shows_what_runs_from_many_threads() -> None:
    out = io.StringIO()
    with Progress(out=out, live=True) as progress:
        progress.total(40, 40)

        def work(n: int) -> None:
            for i in range(10):
                progress.step_started(f"step {n}-{i}")
                progress.step_finished(f"step {n}-{i}", 0.0, True)
                progress.cell_finished(f"cell {n}-{i}", "failed" if i == 0 else "verified", "[red]why[/red]", False)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        progress.step_started("build the last one")
        left = progress.left()
        from rich.console import Console

        shown = Console(file=io.StringIO(), width=100, record=True)
        shown.print(progress._render())
        text = shown.export_text()
    assert left is None and (progress.done, progress.failed) == (40, 4)
    assert "40/40 cells" in text and "4 failed" in text and "build the last one" in text
    assert "[red]why[/red]" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


@pytest.mark.parametrize("width", [80, 220])
def test_summary_counts_by_stack_and_says_where(whole: dict[str, Any], width: int) -> None:
    from rich.console import Console

    out = io.StringIO()
    summary(fake_report(), Console(file=out, width=width), Path("reports/report.html"))
    text = out.getvalue()
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if re.match(r"\S+-py3\.\d+ |all ", line)}
    assert rows["all"] == [str(whole["counts"][status]) for status in STATUSES if whole["counts"][status]]
    assert rows["onnxruntime-1.16.3-py3.11"][0] == "10" and len(rows) == 25
    assert "20 cells failed  This tf2onnx cannot write opset 21." in text and "reports/report.html" in text
    assert (
        "7 expected failures" in text and f"{whole['counts']['verified']} of {whole['selected']} cells verified" in text
    )


def test_importing_loads_no_library() -> None:
    code = (
        "import sys, builder.report, builder.report.console; "
        "print([m for m in ('rich', 'jinja2', 'plotly', 'yaml', 'packaging') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_markdown_says_where_docker_came_out_otherwise(whole: dict[str, Any]) -> None:
    text = markdown.render(whole)
    assert "12 cells ran both ways, 1 came out otherwise." in text
    assert "venv verified at compare, Docker degraded at run" in text
    assert "Docker and virtual" not in markdown.render({**whole, "isolation": None})
