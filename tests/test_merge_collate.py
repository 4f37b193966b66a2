"""One report of the parts of a run: whole, the same in any order, and never greener than its parts."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_report import fake_report
from small import Small
from specs import MATRIX, Project
from test_conformance_cells import GROUPS, ONNX, SUITES

from builder import cli, merge_collate, merge_report, pipeline
from builder import project as projects
from builder.errors import UsageError
from builder.pipeline import Work
from builder.report import check_report
from builder.report.assemble import complete
from builder.report.operators import fold
from builder.store import Store


def report(work: Work, places: slice, name: str, **run: Any) -> dict[str, Any]:
    """What a part that ran these cells leaves."""
    part = replace(work, cells=work.cells[places])
    found = pipeline.stored(part, command="enginematrix run", policy="never", write=False).report
    found["run"].update(id=name, over_budget=False, **run)
    sample = next(cell["comparison"] for cell in fake_report()["cells"] if cell["status"] == "verified")
    for cell in found["cells"]:  # fake workers compare nothing
        cell["comparison"] = sample if cell["status"] == "verified" else cell["comparison"]
    return json.loads(json.dumps(complete(found)))


@pytest.fixture
def small(tmp_path: Path) -> Small:
    made = Small(tmp_path)
    made.run("2026-11-20T01:00:00Z-aaaa")
    return made


@pytest.fixture
def parts(small: Small) -> list[dict[str, Any]]:
    cut = (slice(0, 1), "2026-11-20T01:00:00Z-aaaa"), (slice(1, 4), "2026-11-20T01:00:01Z-bbbb")
    return [report(small.work, cells, name) for cells, name in cut]


def collate(work: Work, parts: list[dict[str, Any]], policy: str = "unexpected") -> dict[str, Any]:
    found = merge_collate.collate(work, parts, command="enginematrix merge --report", policy=policy)
    assert check_report(complete(found)) == []
    return found


def test_the_whole_is_the_sum_of_its_parts(small: Small, parts: list[dict[str, Any]]) -> None:
    whole = report(small.work, slice(0, 4), "whole")
    found = complete(collate(small.work, parts))
    for name in ("counts", "selected", "predictions", "findings", "rules", "boundaries"):
        assert found[name] == whole[name], name
    assert [{**cell, "reused": None} for cell in found["cells"]] == [
        {**cell, "reused": None} for cell in whole["cells"]
    ]
    assert [part["cells"] for part in found["run"]["parts"]] == [1, 3]
    merge_report._trouble(json.loads(json.dumps(found)))


def test_the_order_of_the_parts_does_not_matter(small: Small, parts: list[dict[str, Any]]) -> None:
    found = collate(small.work, parts)
    assert found == collate(small.work, parts[::-1]) == collate(small.work, [*parts, copy.deepcopy(parts[0])])


def test_what_no_part_reports_is_blocked(small: Small, parts: list[dict[str, Any]]) -> None:
    found = collate(small.work, parts[1:])
    assert found["counts"]["blocked"] == 1 and found["cells"][0]["category"] == "infrastructure"
    assert found["cells"][0]["reason"] == merge_collate.LOST
    assert found["exit"]["code"] == (1 if found["counts"]["failed"] else 3)
    assert collate(small.work, parts[1:], policy="never")["exit"]["code"] == 0


def test_an_interrupted_part_makes_an_interrupted_run(small: Small, parts: list[dict[str, Any]]) -> None:
    parts[0]["run"]["interrupted"] = True
    assert collate(small.work, parts)["exit"]["code"] == 130
    parts[0]["run"].update(interrupted=False, over_budget=True)
    assert collate(small.work, parts, policy="never")["exit"]["code"] == 4


def test_of_two_results_the_one_that_says_something_stands(small: Small) -> None:
    """A part that was run again, or two machines of which one could not."""
    ran = report(small.work, slice(0, 4), "2026-11-20T01:00:00Z-aaaa")
    idle = copy.deepcopy(ran)
    idle["run"]["id"] = "2026-11-21T01:00:00Z-bbbb"
    for cell in idle["cells"]:
        cell.update(
            status="skipped",
            reason="needs a GPU",
            comparison=None,
            category=None,
            line=None,
            when="2027-01-01T00:00:00Z",
        )
    idle["counts"] = {**dict.fromkeys(idle["counts"], 0), "skipped": 4}
    assert collate(small.work, [idle, ran])["counts"] == ran["counts"]
    newer = copy.deepcopy(ran)
    newer["run"]["id"] = "2026-11-21T01:00:00Z-cccc"
    for cell in newer["cells"]:
        cell.update(when="2027-01-01T00:00:00Z", seconds=99.0)
    assert {cell["seconds"] for cell in collate(small.work, [newer, ran])["cells"]} == {99.0}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [(lambda r: r["run"]["matrix"].update(sha256="0"), r"of another matrix\.yaml"),
     (lambda r: r["run"]["lock"].update(sha256="0"), "of another lock"),
     (lambda r: r.update(version="99"), "of another version"),
     (lambda r: r["cells"][0].update(id="ffffffffffff"), "does not select")],
)  # fmt: skip
def test_parts_of_something_else_are_refused(small: Small, parts: list[dict[str, Any]], spoil: Any, says: str) -> None:
    spoil(parts[1])
    with pytest.raises(UsageError, match=says):
        collate(small.work, parts)


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "/etc/passwd", "javascript:alert(1)", "a/../../b", "C:\\x", "", "a\nb"]
)
def test_a_path_that_leads_elsewhere_is_refused(parts: list[dict[str, Any]], tmp_path: Path, path: str) -> None:
    if path:
        parts[0]["cells"][0]["stages"][0]["log"] = path
    else:
        parts[0]["cells"][0]["files"] = {"pictures": [{"path": "../../secret.png"}]}
    (tmp_path / "report.json").write_text(json.dumps(parts[0]))
    with pytest.raises(UsageError, match="lies elsewhere"):
        merge_report.read(tmp_path / "report.json")


def test_the_command_keeps_the_whole_as_a_run(
    small: Small, parts: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = []
    for number, part in enumerate(parts):
        part["run"]["steps"] = 1
        folders.append(str(tmp_path / f"part{number}.json"))
        Path(folders[-1]).write_text(json.dumps(part))
    matrix = str(tmp_path / "matrix.yaml")
    command = ["-f", matrix, "merge", "--report", "--group", "all", "--fail-on", "never"]
    assert cli.main([*command, *folders]) == 0
    assert cli.main([*command, *folders[::-1]]) == 0
    runs = Store(small.artifacts).runs()
    (whole,) = [run for run in runs if run.get("parts")]
    assert whole["select"] == "group all" and whole["parts"] == [part["run"]["id"] for part in parts]
    assert (small.artifacts / "report" / "junit.xml").exists()
    capsys.readouterr()
    assert cli.main(["-f", matrix, "merge", "--group", "all", *folders]) == 2
    assert "go with --report" in capsys.readouterr().err
    assert cli.main(["-f", matrix, "merge"]) == 2
    (tmp_path / "empty").mkdir()
    assert cli.main(["-f", matrix, "merge", "--within", str(tmp_path / "empty")]) == 2
    assert "no part of the run left any" in capsys.readouterr().err
    (tmp_path / "empty" / "part-1").mkdir()
    assert cli.main(["-f", matrix, "merge", "--report", "--within", str(tmp_path / "empty")]) == 2
    assert "part-1: holds no results, and is passed over" in capsys.readouterr().err
    Store(tmp_path / "empty" / "part-2").close()
    assert cli.main(["-f", matrix, "merge", "--report", "--within", str(tmp_path / "empty")]) == 2
    assert "nothing to make a report of" in capsys.readouterr().err
    (tmp_path / "empty" / "part-3").mkdir()
    (tmp_path / "empty" / "part-3" / "report.json").write_text(json.dumps(parts[0]))
    command = ["-f", matrix, "merge", "--report", "--group", "all", "--within", str(tmp_path / "empty")]
    assert cli.main(command) == 3, "three cells were not reported"
    assert "part-2: holds no report.json" in capsys.readouterr().err


def test_nights_are_compared_and_not_their_parts(
    small: Small, parts: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix = str(tmp_path / "matrix.yaml")

    def night(day: str) -> str:
        for number, part in enumerate(parts):
            when = f"2026-11-{day}T01:00:0{number}Z"
            part["run"].update(
                id=f"{when}-aaaa", started=when, finished=when, steps=1, select=f"group all, part {number + 1}/2"
            )
            (tmp_path / f"part{number}.json").write_text(json.dumps(part))
        folders = [str(tmp_path / f"part{number}.json") for number in (0, 1)]
        assert cli.main(["-f", matrix, "merge", "--report", "--group", "all", "--fail-on", "never", *folders]) == 0
        runs = [
            run
            for run in Store(small.artifacts).runs()
            if run.get("parts") and run["started"].startswith(f"2026-11-{day}")
        ]
        return str(runs[0]["id"])

    (small.artifacts / "results.sqlite").unlink()  # the run that made these cells
    first = night("20")
    assert cli.main(["-f", matrix, "diff"]) == 2, "one night is not held against its own parts"
    second = night("21")
    capsys.readouterr()
    assert cli.main(["-f", matrix, "diff", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["old"]["runs"], found["new"]["runs"]) == ([first], [second])
    assert found["new"]["cells"] == 4 and found["regressions"] == 0


# Suites ----------------------------------------------------------------------------------------------------------------


def test_cells_of_suites_that_a_report_has_in_sum_come_from_its_database(tmp_path: Path) -> None:
    files = Project(tmp_path)
    files.write("images/onnx/family.yaml", ONNX)
    files.write("matrix.yaml", MATRIX + SUITES + GROUPS)
    work = pipeline.select(
        projects.Project(matrix=tmp_path / "matrix.yaml"),
        group="operators",
        expression="operators and onnxruntime<1.17",
    )
    cells = merge_collate._untried(work, work.cells)
    for number, cell in enumerate(cells[:-5]):
        cell.update(
            status="failed",
            stage="run",
            category="accuracy",
            line="wrong",
            reason="wrong",
            when=f"2026-11-20T0{number % 10}:00:00Z",
        )
    name = "2026-11-20T01:00:00Z-aaaa"
    store = Store(tmp_path / "part")
    store.put_outcomes({f"{number:064x}": (cell["id"], cell) for number, cell in enumerate(cells[:-5])})
    said = {
        f"said:{cell['id']}": {name: cell[name] for name in ("id", "status", "reason", "stage")} for cell in cells[-5:]
    }
    rows = {cell["id"]: (cell["status"], f"{number:064x}") for number, cell in enumerate(cells[:-5])}
    rows.update({cell["id"]: (cell["status"], f"said:{cell['id']}") for cell in cells[-5:]})
    store.put_run(name, name, name, {}, rows, said=said)
    store.close()
    whole = {"run": {"id": name}, "cells": cells}
    folded, _ = fold(whole)
    assert folded["cells"] == [] and folded["suites"]
    found = merge_collate.unfolded(work, dict(folded), tmp_path / "part" / "results.sqlite")
    assert "suites" not in found
    assert [(cell["id"], cell["status"], cell["when"]) for cell in found["cells"]] == [
        (cell["id"], cell["status"], cell["when"]) for cell in cells
    ]
    folded["suites"][0]["counts"]["failed"] += 1
    assert merge_collate.unfolded(work, dict(folded), tmp_path / "part" / "results.sqlite") == folded, (
        "they are not all there"
    )
