"""The jobs that `ci emit` writes, run for real: parts in clones of their own, merged, are the run in one piece.

Marked `real`: makes environments from the package index."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from running import ROOT, enginematrix, project, report

from builder.merge_report import schema, store_of
from builder.report import check_report
from builder.store import Store

pytestmark = pytest.mark.real

MATRIX = """\
schema: 1
name: small
exporters:
  onnx: {family: onnx, onnx: 1.23.2}
engines:
  ort: {family: onnxruntime, onnxruntime: [1.15.1, 1.31.1]}
  rtx: {family: tensorrt-rtx, tensorrt-rtx: 1.7.1.116, cuda: 12}
axes:
  model: [squeezenet]
  opset: [17, 21]
  precision: [fp32, fp16]               # a CPU computes both in fp32: degraded, and nobody said so
  shapes: [static]
  target: {values: [sm89], when: {engine.family: tensorrt-rtx}}
exclude:
  - {match: {engine: rtx, opset: 21}, because: one is enough}
  - {match: {precision: fp16, opset: 21}, because: one is enough}
groups:
  nightly: {select: "not engine=rtx", order: [failed, changed, oldest], budget: 30m}
"""
TOLD = ("slug", "status", "stage", "category", "signature", "line", "diagnosis", "remedy", "expected", "prediction", "degraded",
        "axes", "engine", "exporter", "isolation", "python")  # fmt: skip


def steps(folder: Path, job: str) -> dict[str, str]:
    """Name -> script of a job of the night, as GitHub would run it."""
    workflow = yaml.safe_load((folder / ".github/workflows/nightly.yml").read_text())
    return {step["name"]: step["run"] for step in workflow["jobs"][job]["steps"] if "run" in step}


def run(folder: Path, script: str, code: int = 0, shell: str = "bash", **env: str) -> str:
    """A step, with the shell and the options that GitHub gives `shell: bash`; or with `sh -e`, as GitLab's runner has it."""
    command = ["sh", "-e", "-c"] if shell == "sh" else ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "enginematrix").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m builder "$@"\n')
    (tools / "enginematrix").chmod(0o755)
    done = subprocess.run(
        [*command, script], cwd=folder, text=True, check=False, timeout=600,
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "COLUMNS": "150", **env}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == code, done.stdout[-5000:]
    return done.stdout


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`whole`: in one run; `merged`: by the emitted jobs, each in a clone of its own; `parts`: what their artifacts hold."""
    root = tmp_path_factory.mktemp("night")
    whole = project(root / "whole", MATRIX)
    enginematrix(whole, "run", "--group", "nightly", "--frozen", "--keep", "none", code=1)
    merged = project(root / "merged", MATRIX)
    enginematrix(merged, "ci", "emit", "github", "--jobs", "2", "--setup", "true", "--pr-group", "none")
    jobs = yaml.safe_load((merged / ".github/workflows/nightly.yml").read_text())["jobs"]
    each = jobs["part"]["strategy"]["matrix"]["include"]
    assert len(each) == 2
    for job in each:
        clone = root / job["artifact"]
        shutil.copytree(merged, clone, ignore=shutil.ignore_patterns("artifacts", "parts"))
        script = steps(clone, "part")
        run(clone, script["Run this part"], PART=job["part"], SELECT=job["select"])
        run(clone, script["Gather its results"], ARTIFACT=job["artifact"])
        shutil.copytree(clone / "parts", merged / "parts", dirs_exist_ok=True)  # upload and download, merge-multiple
    summary = root / "summary.md"
    run(merged, steps(merged, "report")["Merge the parts and judge"], code=1, GITHUB_STEP_SUMMARY=str(summary))
    return {"whole": whole, "merged": merged, "parts": merged / "parts", "summary": summary}


def told(cell: dict[str, Any]) -> dict[str, Any]:
    return {name: cell[name] for name in TOLD}


def test_the_merged_report_is_that_of_the_whole_run(night: dict[str, Path]) -> None:
    whole, merged = report(night["whole"]), report(night["merged"])
    assert [told(cell) for cell in merged["cells"]] == [told(cell) for cell in whole["cells"]]
    assert {cell["status"] for cell in whole["cells"]} == {"verified", "unsupported", "degraded"}
    for name in ("counts", "selected", "exit", "undiagnosed", "predictions", "boundaries"):
        assert merged[name] == whole[name], name
    assert [(f["title"], f["cells"]) for f in merged["findings"]] == [
        (f["title"], f["cells"]) for f in whole["findings"]
    ]
    assert check_report(merged) == []
    jsonschema.Draft202012Validator(schema()).validate(merged)
    assert {part["select"] for part in merged["run"]["parts"]} == {f"group nightly, part {n}/2" for n in (1, 2)}
    assert sum(part["cells"] for part in merged["run"]["parts"]) == merged["selected"] == 6


def test_each_part_ran_something_and_none_ran_all(night: dict[str, Path]) -> None:
    cells = [
        {cell["id"] for cell in json.loads(path.read_text())["cells"]} for path in night["parts"].glob("*/report.json")
    ]
    assert len(cells) == 2 and all(cells) and not cells[0] & cells[1]


def test_the_job_leaves_a_summary_and_a_badge(night: dict[str, Path]) -> None:
    summary = night["summary"].read_text()
    assert "of 6 cells verified" in summary
    assert "verified" in (night["merged"] / "artifacts/report/badge.svg").read_text()
    assert json.loads((night["merged"] / "artifacts/report/badge.json").read_text())["schemaVersion"] == 1


def test_the_merged_results_are_reused_and_compared(night: dict[str, Path]) -> None:
    """On a machine of the same kind nothing is done again, and the whole night is a run that the next is held against."""
    text = enginematrix(night["merged"], "run", "--group", "nightly", "--frozen", "--keep", "none", code=1)
    assert "Nothing to do" in text
    runs = enginematrix(night["merged"], "diff", "--runs").splitlines()
    assert any("group nightly:" in line for line in runs) and any("part 1/2" in line for line in runs)


def test_a_job_of_a_named_runner_and_one_of_gitlab_do_their_part(night: dict[str, Path], tmp_path: Path) -> None:
    """On the merged results, so that nothing is left to do: which cells they take, and what they leave."""
    folder = tmp_path / "clone"
    shutil.copytree(night["merged"], folder, ignore=shutil.ignore_patterns("parts", "env"))
    select = "nightly and (onnxruntime<1.17)"
    told_ = run(folder, steps(folder, "part")["Run this part"], PART="1/1", SELECT=select)
    assert "Nothing to do: 3 cells are up to date" in told_
    run(folder, steps(folder, "part")["Gather its results"], ARTIFACT="part-007")
    left = json.loads((folder / "parts/part-007/report.json").read_text())
    assert {cell["engine"]["fields"]["onnxruntime"] for cell in left["cells"]} == {"1.15.1"}
    enginematrix(folder, "ci", "emit", "gitlab", "--jobs", "2", "--setup", "true", "--pr-group", "none")
    jobs = yaml.safe_load((folder / ".gitlab/enginematrix.yml").read_text())
    (script,) = jobs["nightly-part"]["script"]
    for number, part in enumerate(jobs["nightly-part"]["parallel"]["matrix"][0]["PART"]):
        cache = str(folder / ".uv-cache")  # as the job's own variables have it: what is in it is pruned
        run(folder, script, PART=part, SELECT="", CI_JOB_ID=f"4{number}", UV_CACHE_DIR=cache, shell="sh")
    shutil.rmtree(folder / "parts/part-007")
    (script,) = jobs["nightly-report"]["script"]
    run(folder, script, code=1, shell="sh")
    assert [told(cell) for cell in report(folder)["cells"]] == [told(cell) for cell in report(night["whole"])["cells"]]


def test_merging_again_changes_nothing(night: dict[str, Path]) -> None:
    store = Store(night["merged"] / "artifacts")
    tables = ("steps", "runs", "results", "outcomes", "pins", "run_pins", "conflicts")
    before = [store.read(f"select * from {table} order by 1, 2") for table in tables]
    again = ["merge", "--report", "--group", "nightly", "--fail-on", "unexpected", "--within", "parts"]
    enginematrix(night["merged"], *again, code=1)
    assert [store.read(f"select * from {table} order by 1, 2") for table in tables] == before


def test_a_part_that_was_lost_is_not_green(night: dict[str, Path], tmp_path: Path) -> None:
    folder = project(tmp_path / "alone", MATRIX)
    (one, other) = sorted(night["parts"].iterdir())
    text = enginematrix(folder, "merge", "--report", "--group", "nightly", str(one), code=None)
    found = report(folder)
    assert found["exit"]["code"] in (1, 3) and "exit " in text
    lost = {cell["id"] for cell in json.loads((other / "report.json").read_text())["cells"]}
    assert lost == {cell["id"] for cell in found["cells"] if cell["category"] == "infrastructure"}
    assert {cell["status"] for cell in found["cells"] if cell["id"] in lost} == {"blocked"}
    assert check_report(found) == []


def test_reports_alone_merge_to_the_same_cells(night: dict[str, Path], tmp_path: Path) -> None:
    folder = project(tmp_path / "reports", MATRIX)
    paths = [str(path) for path in sorted(night["parts"].glob("*/report.json"))]
    for path in paths:
        shutil.copytree(
            Path(path).parent, tmp_path / Path(path).parent.name, ignore=shutil.ignore_patterns("*.sqlite*", "logs")
        )
    alone = [str(tmp_path / Path(path).parent.name) for path in paths]
    text = enginematrix(folder, "merge", "--report", "--group", "nightly", *alone, code=1)
    assert text.count("a report alone") == 2
    assert [told(cell) for cell in report(folder)["cells"]] == [told(cell) for cell in report(night["whole"])["cells"]]
    assert json.loads(enginematrix(folder, "plan", "--group", "nightly", "--json"))["steps"], "it proves no step"
    kept = {row[0] for row in Store(folder / "artifacts").read("select status from results")}
    assert kept == {"verified", "unsupported", "degraded"}


def test_a_report_of_another_matrix_is_refused(night: dict[str, Path], tmp_path: Path) -> None:
    folder = project(tmp_path / "other", MATRIX + "# changed\n")
    text = enginematrix(folder, "merge", "--report", "--group", "nightly", "--within", str(night["parts"]), code=2)
    assert "is of another matrix.yaml" in text
    assert not (folder / "artifacts" / "report").exists()


def test_a_store_of_a_report_is_one_run(night: dict[str, Path], tmp_path: Path) -> None:
    store = store_of(report(night["whole"]), tmp_path / "store")
    (kept,) = store.runs()
    assert kept["from"] == "report.json" and kept["id"] == report(night["whole"])["run"]["id"]
