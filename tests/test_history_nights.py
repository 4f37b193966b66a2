"""Nights with a lock in which one release moved, for real: the night and the comparison name the component, the cells, the
category and the remedy.

Marked `real`: makes environments from the package index."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from running import ROOT, enginematrix, project, report

pytestmark = pytest.mark.real

MATRIX = """\
schema: 1
name: nights
exporters:
  onnx: {family: onnx, onnx: 1.23.2}
engines:
  ort: {family: onnxruntime, onnxruntime: [1.16.3, 1.31.1]}
axes:
  model: [squeezenet]
  opset: [17]
  precision: [fp32]
  shapes: [static]
groups:
  nightly: {select: all, order: [failed, changed, oldest, uncovered], budget: 30m}
"""
MOVED = "onnxruntime-1.16.3-py3.11"


def locked(folder: Path, numpy: str) -> None:
    """Give one stack another NumPy, as an index would after a release that its packages did not exclude."""
    path = folder / "matrix.lock"
    lock = json.loads(path.read_text())
    packages = lock["stacks"][MOVED]["packages"]
    lock["stacks"][MOVED]["packages"] = [f"numpy=={numpy}" if pin.startswith("numpy==") else pin for pin in packages]
    assert f"numpy=={numpy}" in lock["packages"], "another stack has it, with its hashes"
    path.write_text(json.dumps(lock, indent=1) + "\n")


def night(folder: Path, code: int = 0) -> tuple[str, dict[str, Any]]:
    """What a night prints, and its report, which holds to the schema."""
    out = enginematrix(
        folder, "nightly", "--lock", "frozen", "--quiet", code=code, env={"GITHUB_STEP_SUMMARY": "summary.md"}
    )
    found = report(folder)
    jsonschema.validate(found, json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8")))
    return out, found


def test_a_release_that_moved_in_the_lock_is_named(tmp_path: Path) -> None:
    folder = project(tmp_path / "nights", MATRIX)
    first, _ = night(folder)
    assert "the first one" in first and "Coverage of pairs: 100.0 %" in first
    locked(folder, "2.2.6")
    # Facts say that it cannot work; what worked before is tried all the same.
    said, second = night(folder, code=1)
    (cell,) = [one["id"] for one in second["cells"] if one["engine"]["id"] == MOVED]
    page = (folder / "artifacts" / "report" / "nightly.md").read_text()
    for text in (said, html.unescape(page).replace("\\", "")):
        plain = " ".join(text.split())
        assert "New failures: 1 cell" in plain and f"{cell}: {MOVED}.squeezenet" in plain
        assert f"cause: numpy 1.26.4 -> 2.2.6 ({MOVED}), tried: it fails with it and works without it" in plain
        assert "verified -> crashed at run, python-abi: killed by SIGSEGV" in plain
        assert "remedy: Pin numpy<2 for this stack, or use ONNX Runtime 1.19 or newer." in plain
    assert (folder / "summary.md").read_text().endswith(page + "\n") and len(page.splitlines()) <= 60
    (traced,) = second["nightly"]["trace"]["results"]
    assert (traced["verdict"], traced["cells"], traced["category"]) == ("named", [cell], "python-abi")
    assert [(one["name"], one["answer"]) for one in traced["evidence"]] == [
        ("new lock", "fails"),
        ("old lock", "works"),
    ]

    found = json.loads(enginematrix(folder, "diff", "--json", "--fail-on", "new", code=1))
    (row,) = found["kinds"]["new-failures"]
    assert row["engine"] == MOVED
    assert row["changes"] == [{"stack": MOVED, "component": "numpy", "old": "1.26.4", "new": "2.2.6"}]
    assert (row["new"]["category"], row["old"]["status"]) == ("python-abi", "verified")
    assert "numpy" in row["remedy"].lower()
    assert (found["regressions"], found["unchanged"], found["asked"]) == (1, 1, True)
    text = enginematrix(folder, "diff", env={"COLUMNS": "80"})
    assert f"beside: numpy 1.26.4 -> 2.2.6 ({MOVED})" in text
    assert max(map(len, text.splitlines())) <= 100

    locked(folder, "1.26.4")  # nothing has to run, and yet what is known now is something else
    out, third = night(folder)
    assert third["run"]["steps"] == 0 and "Fixed: 1 cell" in out
    back = json.loads(enginematrix(folder, "diff", "--json", "--fail-on", "new"))
    (row,) = back["kinds"]["fixed"]
    assert row["changes"] == [{"stack": MOVED, "component": "numpy", "old": "2.2.6", "new": "1.26.4"}]
    night(folder)
    assert enginematrix(folder, "diff", "--runs").count("\n") == 3, "a run that says the same is not kept"
