"""Silent failures, provoked in real libraries by the whole program: the outcome, and the line of each report that shows it.

Those that need a library too dear to be run once more are provoked where that library is run anyway; docs/silent.md has the
table of all of them, and is held against the tests here."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import factory
import pytest
from running import ROOT, enginematrix, report
from silent import silent, told

#: Processors with bf16 arithmetic, as the kernel names it: on others OpenVINO's default is f32.
BF16 = re.search(r"avx512_bf16|amx_bf16", Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))


@dataclass(frozen=True, kw_only=True)
class Silent:
    where: dict[str, str]
    """Axes of the one cell, and `entry` of its engine stack."""
    status: str
    category: str
    line: str
    """The cell's own line, in report.json, `show` and on the terminal as the cell ends."""
    finding: str
    """What report.md and the terminal's summary say of it."""


ASKED = "Without an error, the cell is not what was asked: asked {}."
CELLS = {
    "fp16": Silent(
        where={"entry": "ort", "precision": "fp16"}, status="degraded", category="precision-fallback",
        line="asked fp16, got fp32: 0 of 2 compute operators ran in fp16 (2 in fp32), by the session's profile",
        finding=ASKED.format("fp16, got fp32"),
    ),
    "int8": Silent(
        where={"entry": "ort", "precision": "int8"}, status="degraded", category="precision-fallback",
        line="asked int8, got fp32: 0 of 1 compute operators ran in int8 (1 in fp32), by the session's profile",
        finding=ASKED.format("int8, got fp32"),
    ),
    "gpu": Silent(
        where={"entry": "ort", "provider": "cuda"}, status="degraded", category="silent-fallback",
        line="asked CUDAExecutionProvider, got CPUExecutionProvider: the session does not have the execution provider",
        finding=ASKED.format("CUDAExecutionProvider, got CPUExecutionProvider"),
    ),
    "resize": Silent(
        where={"entry": "openvino", "model": "resizer"}, status="mismatch", category="accuracy",
        line="output y of case static: 100 % of the values exceed the tolerance",
        finding="The engine ran and its outputs are not those of the reference within the recipe's tolerance.",
    ),
    "bf16": Silent(
        where={"entry": "openvino", "inference-precision": "default"}, status="mismatch", category="accuracy",
        line="60 % of the values exceed the tolerance",
        finding="It is not what was asked either: asked fp32, got bf16.",
    ),
    "numpy2": Silent(
        where={"entry": "ort-numpy2"}, status="crashed", category="python-abi", line="killed by SIGSEGV",
        finding="ONNX Runtime 1.16.3 was compiled for NumPy 1 and dies at its first run beside NumPy 2.2.6.",
    ),
    "twice": Silent(
        where={"entry": "twice"}, status="degraded", category="version-differs",
        line="asked one package for onnxruntime, got onnxruntime 1.22.0 and onnxruntime-openvino 1.22.0: they installed the same "
        "files (site-packages/onnxruntime/__init__.py), and which are loaded is an accident",
        finding=ASKED.format("one package for onnxruntime, got onnxruntime 1.22.0 and onnxruntime-openvino 1.22.0"),
    ),
    "other": Silent(
        where={"entry": "other"}, status="degraded", category="version-differs",
        line="asked onnxruntime 1.30.0, got onnxruntime 1.31.1: declared version is not the one loaded",
        finding=ASKED.format("onnxruntime 1.30.0, got onnxruntime 1.31.1"),
    ),
    "ir": Silent(
        where={"entry": "ort", "model": "net10"}, status="failed", category="unsupported-ir",
        line="Unsupported model IR version: 10, max supported IR version: 9",
        finding="The model has ONNX IR version 10; this ONNX Runtime reads IR up to 9.",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder after its run, and what the terminal said."""
    folder = silent(tmp_path_factory.mktemp("silent"))
    yield folder, enginematrix(folder, "run", "--no-predict", code=1)


def the_cell(folder: Path, where: dict[str, str]) -> dict[str, Any]:
    (found,) = [
        cell for cell in report(folder)["cells"]
        if all((cell["engine"]["entry"] if name == "entry" else cell["axes"].get(name)) == value for name, value in where.items())
    ]  # fmt: skip
    return found


@pytest.mark.real
@pytest.mark.parametrize("name", CELLS)
def test_the_report_shows_it(ran: tuple[Path, str], name: str) -> None:
    folder, terminal = ran
    wanted = CELLS[name]
    cell = the_cell(folder, wanted.where)
    if name == "bf16" and not BF16:
        assert (cell["status"], cell["degraded"]) == ("verified", [])
        return
    assert (cell["status"], cell["category"]) == (wanted.status, wanted.category)
    assert wanted.line in cell["line"]
    assert wanted.line in terminal
    summary = re.sub(r"\s+", " ", terminal)
    assert wanted.finding in summary
    page = (folder / "artifacts" / "report" / "report.md").read_text()
    assert wanted.finding in re.sub(r"\\(.)", r"\1", page)
    assert wanted.line in enginematrix(folder, "show", cell["id"])


@pytest.mark.real
def test_the_same_asked_for_rightly_is_verified(ran: tuple[Path, str]) -> None:
    """The same models on the same stacks: what was shown above is the asking's doing, not the models'."""
    folder, _ = ran
    for where in (
        {"entry": "ort", "model": "net", "provider": "cpu", "precision": "fp32"},
        {"entry": "ort", "model": "resizer"},
        {"entry": "openvino", "model": "net", "inference-precision": "asked"},
    ):
        assert the_cell(folder, where)["status"] == "verified"


def test_what_a_worker_gave_is_told_as_a_cell(tmp_path: Path) -> None:
    """What the tests of dear libraries use: a result of theirs, through the store, the outcome and both reports."""
    degraded = [{"asked": "int8", "got": "fp32", "how": "0 of 3 compute operators ran in int8"}]
    cell, shown, page = told(tmp_path, factory.cell(precision="int8"), run={"degraded": degraded})
    assert (cell["status"], cell["category"]) == ("degraded", "precision-fallback")
    assert "asked int8, got fp32: 0 of 3 compute operators ran in int8" in shown
    assert "asked int8, got fp32." in page
    assert told(tmp_path / "well", factory.cell())[0]["status"] == "verified"


TABLE = [
    line.split("|")[1:-1] for line in (ROOT / "docs" / "silent.md").read_text().splitlines() if line.startswith("| ")
][2:]
NAMED = [test for row in TABLE for test in re.findall(r"`(test_\w+\.py::[^`]+)`", row[4])]


def test_every_row_of_the_table_names_a_test_and_no_cell_is_left_out() -> None:
    assert len(TABLE) >= 15
    for row in TABLE:
        assert re.search(r"`test_\w+\.py::\w+", row[4]), row
    mine = {test.partition("[")[2].rstrip("]") for test in NAMED if test.startswith("test_silent.py::")}
    assert mine == set(CELLS)
    page = (ROOT / "docs" / "silent.md").read_text()
    for name, cell in CELLS.items():
        (row,) = [row for row in TABLE if f"test_silent.py::test_the_report_shows_it[{name}]" in row[4]]
        line = row[3].strip().strip("`")
        assert line in cell.line or line in cell.finding or cell.line.startswith(line), (name, line)
        assert cell.status in row[2] and cell.category in row[2]
    assert page.count("`test_") == len(NAMED), "every test that is named is in the table"


def test_every_test_of_the_table_is_collected() -> None:
    files = sorted({test.partition("::")[0] for test in NAMED})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", "-p", "no:cacheprovider", *files],
        cwd=ROOT / "tests", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    collected = {line.rpartition("/")[2] for line in done.stdout.splitlines() if "::" in line}
    whole = collected | {name.partition("[")[0] for name in collected}
    assert [test for test in NAMED if test not in whole] == []
