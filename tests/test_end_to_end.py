"""The whole program as a user runs it, with real engines: a small matrix in a folder of its own.

Marked `real`: makes environments from the package index."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest
from running import ROOT, enginematrix, outcomes, project, report

pytestmark = pytest.mark.real

MATRIX = """\
schema: 1
name: small
exporters:
  onnx: {family: onnx, onnx: 1.23.2}
  torch: {family: torch, torch: 2.13.0, python: "3.11"}
engines:
  ort: {family: onnxruntime, onnxruntime: [1.15.1, 1.31.1]}
  ort-numpy2: {family: onnxruntime, onnxruntime: 1.16.3, numpy: 2.2.6}
  openvino: {family: openvino, openvino: [2023.0.2, 2026.4.1]}
  rtx: {family: tensorrt-rtx, tensorrt-rtx: 1.7.1.116, cuda: 12}
  trt: {family: tensorrt, tensorrt: 11.4.0.106, cuda: 12}
axes:
  model: [squeezenet, residual_cnn]
  opset: [17, 21]
  precision: [fp32]
  shapes: [static]
  target: {values: [sm89], when: {engine.family: tensorrt-rtx}}
  torch-exporter: {values: [torchscript], when: {exporter.family: torch}}
groups:
  default: all
  one: model=squeezenet and opset=17 and engine=ort
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = project(tmp_path_factory.mktemp("small"), MATRIX)
    # Two real failures that nobody expected: IR 10 on an old ONNX Runtime, and the NumPy 2 trap.
    enginematrix(folder, "run", "--frozen", "--no-predict", code=1)
    yield folder


def test_every_cell_ends_as_it_must(small: Path) -> None:
    found = report(small)
    assert len(found["cells"]) == found["selected"] == 28
    by_engine: dict[str, set[str]] = {}
    for cell in found["cells"]:
        by_engine.setdefault(cell["engine"]["id"], set()).add(cell["status"])
    assert by_engine["onnxruntime-1.31.1-py3.12"] == {"verified"}
    assert by_engine["openvino-2026.4.1-py3.12"] == {"verified"}
    assert by_engine["tensorrt-rtx-1.7.1.116-cuda12-py3.12"] == {"built"}, "no GPU here: never verified"
    assert by_engine["tensorrt-11.4.0.106-cuda12-py3.12"] == {"skipped"}
    assert by_engine["onnxruntime-1.16.3-numpy2.2.6-py3.11"] <= {"crashed", "failed"}
    assert "crashed" in by_engine["onnxruntime-1.16.3-numpy2.2.6-py3.11"]
    assert "failed" in by_engine["onnxruntime-1.15.1-py3.11"]


def test_every_record_says_what_was_loaded(small: Path) -> None:
    for cell in report(small)["cells"]:
        if cell["status"] not in ("verified", "built"):
            continue
        names = " ".join(library["name"] for library in cell["loaded"]["libraries"])
        wanted = {"onnxruntime": "onnxruntime", "openvino": "openvino", "tensorrt-rtx": "tensorrt_rtx"}[
            cell["engine"]["family"]
        ]
        assert wanted in names, names
        assert str(small) not in json.dumps(cell["loaded"]), "records name no folder of this machine"
        assert cell["python"]
        assert cell["machine"]["cpu"]
        assert cell["machine"]["driver"] is None


def test_every_failure_has_a_line_and_a_category(small: Path) -> None:
    for cell in report(small)["cells"]:
        if cell["status"] in ("failed", "crashed"):
            assert cell["line"], cell["slug"]
            assert cell["category"], cell["slug"]
            assert cell["command"] == f"enginematrix repro {cell['id']}"


def test_the_other_reports_agree(small: Path) -> None:
    folder = small / "artifacts" / "report"
    found = report(small)
    junit = ElementTree.parse(folder / "junit.xml").getroot()
    assert len(junit.findall(".//testcase")) == len(found["cells"])
    red = sum(cell["status"] in ("failed", "crashed") for cell in found["cells"])
    assert len(junit.findall(".//failure")) + len(junit.findall(".//error")) == red
    assert "verified" in (folder / "report.md").read_text()
    assert "1a2b" not in (folder / "report.html").read_text()[:10]


def test_engines_come_with_manifests(small: Path) -> None:
    cells = {cell["slug"]: cell for cell in report(small)["cells"]}
    manifests = list((small / "artifacts" / "engines").glob("*/manifest.json"))
    assert len(manifests) == sum(cell["artifact"] is not None for cell in cells.values())
    for path in manifests:
        manifest = json.loads(path.read_text())
        cell = cells[path.parent.name]
        assert manifest["engine"]["sha256"] == cell["artifact"]["sha256"]
        assert (path.parent / manifest["engine"]["file"]).stat().st_size == manifest["engine"]["bytes"]
        if cell["engine"]["family"] == "tensorrt-rtx":
            assert manifest["loads"]["compute_capability"] == "8.9"


def test_a_second_run_does_nothing_says_so_and_starts_no_process(small: Path) -> None:
    """Every way to start a process or to speak to a network is an audit event of the interpreter's."""
    before = (small / "artifacts" / "report" / "report.html").stat().st_mtime_ns
    guard = (
        "import sys\n"
        "def hook(event, args):\n"
        "    if event in ('subprocess.Popen', 'os.fork', 'os.forkpty', 'os.posix_spawn', 'os.exec', 'os.system',"
        " 'socket.connect'):\n"
        "        sys.stderr.write('STARTED ' + event + '\\n')\n"
        "sys.addaudithook(hook)\n"
        "from builder.cli import main\n"
        "sys.exit(main(['run']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", guard], cwd=small, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "Nothing to do: 28 cells are up to date" in done.stdout
    assert "STARTED" not in done.stderr
    assert done.returncode == 1, "what failed still fails"
    assert (small / "artifacts" / "report" / "report.html").stat().st_mtime_ns == before


def test_running_by_hand_agrees(small: Path) -> None:
    """The cross-check knows nothing of this program but its report."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "crosscheck.py"), str(small / "artifacts" / "report" / "report.json"),
         "--per-outcome", "1", "--scratch", str(small / "by-hand")],
        capture_output=True, text=True, check=False, timeout=900, env=_with_uv(),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    words = {line.split()[4] for line in done.stdout.splitlines() if line.startswith(("ok", "DIFF"))}
    assert {"match", "failed", "crashed", "built"} <= words


def _with_uv() -> dict[str, str]:
    from builder.environment.interpreters import uv_binary

    return {**os.environ, "PATH": f"{Path(uv_binary()).parent}{os.pathsep}{os.environ['PATH']}"}


def test_show_why_and_repro(small: Path) -> None:
    cell = next(cell for cell in report(small)["cells"] if cell["status"] == "failed" and cell["stage"] == "parse")
    shown = enginematrix(small, "show", cell["id"], "--log")
    assert cell["line"] in shown
    assert "enginematrix repro" in shown
    assert "    | " in shown, "the log itself"
    assert "selected" in enginematrix(small, "why", cell["id"])
    repeated = enginematrix(small, "repro", cell["slug"], "--quiet", code=1)
    assert "The same outcome as before." in repeated
    assert "ONNXRuntimeError" in repeated, "the engine's own words, in its log"
    assert cell["id"] in enginematrix(small, "plan", "--cells", "--select", f"#{cell['id']}")
    assert "no cell" in enginematrix(small, "show", "nothing-like-it", code=2)


def test_what_the_facts_rule_out_is_left_alone_and_tried_when_asked(small: Path, tmp_path: Path) -> None:
    """The same cells, first as the facts have them and then all the same: none that was ruled out works, and none that was
    not fails for such a reason."""
    folder = project(tmp_path / "predicted", MATRIX)
    choice = ["--select", "model=residual_cnn and engine=ort,ort-numpy2"]
    enginematrix(folder, "run", "--frozen", *choice)
    first = {cell["id"]: cell for cell in report(folder)["cells"]}
    alone = [cell for cell in first.values() if cell["status"] == "unsupported"]
    assert {cell["status"] for cell in first.values()} == {"unsupported", "verified"}
    assert all(cell["remedy"] and cell["source"] for cell in alone)
    assert {"opset", "ir"} <= {
        claim["rule"] for claim in report(folder)["predictions"]["claims"] if claim["state"] == "unsupported"
    }
    shown = enginematrix(folder, "show", alone[0]["id"])
    assert "unsupported" in shown and "facts" in shown
    assert "Nothing to do" in enginematrix(folder, "run", "--frozen", *choice)

    told = enginematrix(folder, "run", "--frozen", "--no-predict", *choice, code=1)
    assert f"{len(alone)} unsupported (0 work all the same)" in told
    forced = {cell["id"]: cell for cell in report(folder)["cells"]}
    assert {forced[cell["id"]]["status"] for cell in alone} <= {"failed", "crashed"}
    scored = report(folder)["predictions"]
    assert scored["refuted"] == [] and scored["skipping"] is False
    assert sum(row["unsupported"]["failed"] for row in scored["rules"]) >= len(alone)
    assert "0 fail for that reason" in enginematrix(folder, "report", *choice, code=1)
    assert {c["status"] for c in report(folder)["cells"]} == {c["status"] for c in forced.values()}, (
        "what was tried stays"
    )


def test_what_is_deleted_by_hand_comes_back(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "deleted"
    shutil.copytree(small, folder, symlinks=True, ignore=shutil.ignore_patterns("by-hand"))
    before = outcomes(folder)
    shutil.rmtree(folder / "artifacts" / "engines")
    (folder / "artifacts" / "report" / "report.html").unlink()
    out = enginematrix(folder, "run", "--frozen", "--no-predict", code=1)
    assert "Nothing to do" in out
    assert len(list((folder / "artifacts" / "engines").glob("*/manifest.json"))) > 10
    assert (folder / "artifacts" / "report" / "report.html").exists()
    shutil.rmtree(folder / "artifacts" / "objects")
    enginematrix(folder, "run", "--frozen", "--no-predict", code=1)
    assert outcomes(folder) == before


def test_a_skipped_cell_can_be_asked_for(small: Path) -> None:
    cell = next(cell for cell in report(small)["cells"] if cell["status"] == "skipped")
    assert "needs an NVIDIA GPU" in enginematrix(small, "repro", cell["id"], "--quiet")


def test_a_reader_that_goes_away_does_not_change_the_exit_code(small: Path) -> None:
    command = f"{sys.executable} -m builder run --frozen --failed 2>/dev/null | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=small, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.stdout.splitlines()[-1] == "1"
    enginematrix(small, "run", "--frozen", "--no-predict", code=1)  # the report of all cells again


def test_bad_selections_are_bad_input(small: Path) -> None:
    assert "modle" in enginematrix(small, "run", "--select", "modle=squeezenet", code=2)
    assert "no cell fits" in enginematrix(small, "run", "--select", "model=squeezenet and model=residual_cnn", code=2)
    assert "no such file" in enginematrix(small, "-f", "elsewhere.yaml", "run", code=2)


def test_killed_in_the_middle_and_run_again_ends_the_same(small: Path, tmp_path: Path) -> None:
    folder = project(tmp_path / "killed", MATRIX)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(
        [sys.executable, "-m", "builder", "run", "--frozen", "--no-predict"], cwd=folder, env=env,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    objects = folder / "artifacts" / "objects"
    deadline = time.monotonic() + 300
    while len(list(objects.glob("*/*"))) < 6 and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    children = psutil.Process(run.pid).children(recursive=True)
    assert run.poll() is None, "it was killed in the middle, not at its end"
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert children, "workers were running"
    psutil.wait_procs(children, timeout=15)
    assert [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []
    enginematrix(folder, "run", "--frozen", "--no-predict", code=1)
    assert outcomes(folder) == outcomes(small)


def test_ctrl_c_reports_what_is_done_and_goes_on(tmp_path: Path) -> None:
    folder = project(tmp_path / "interrupted", MATRIX)
    run = subprocess.Popen(
        [sys.executable, "-m", "builder", "run", "--frozen", "--no-predict", "--group", "all", "--select", "exporter=onnx"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    objects = folder / "artifacts" / "objects"
    deadline = time.monotonic() + 300
    while len(list(objects.glob("*/*"))) < 5 and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 130, out[-3000:]
    cells = report(folder)["cells"]
    assert len(cells) == report(folder)["selected"]
    assert any(cell["reason"] == "interrupted before it ran" for cell in cells)
    assert not any(cell["status"] == "blocked" for cell in cells)
    with sqlite3.connect(folder / "artifacts" / "results.sqlite") as db:
        stored = [row[0] for row in db.execute("select name from steps where state = 'failed'")]
    db.close()
    assert all("1.15.1" in name or "numpy2" in name for name in stored), "nothing that we ended counts as a failure"
    enginematrix(folder, "run", "--frozen", "--no-predict", "--group", "all", "--select", "exporter=onnx", code=1)
    assert not any(cell["reason"].startswith("interrupted") for cell in report(folder)["cells"])


def test_no_network_is_infrastructure_and_leaves_no_evidence(tmp_path: Path) -> None:
    folder = project(tmp_path / "offline", MATRIX)
    env = {"UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "empty"), "UV_FIND_LINKS": ""}
    out = enginematrix(
        folder, "run", "--frozen", "--no-predict", "--select", "engine=ort and exporter=onnx", code=3, env=env
    )
    assert "infrastructure" in out
    cells = report(folder)["cells"]
    assert {(cell["status"], cell["category"]) for cell in cells} == {("blocked", "infrastructure")}
    enginematrix(folder, "run", "--frozen", "--no-predict", "--group", "one", code=0)
    assert {cell["status"] for cell in report(folder)["cells"]} == {"verified"}


def test_a_missing_interpreter_is_named_with_what_to_do(tmp_path: Path) -> None:
    matrix = MATRIX.replace("onnxruntime: [1.15.1, 1.31.1]}", 'onnxruntime: [1.31.1], python: "3.99"}')
    folder = project(tmp_path / "python", matrix)
    out = enginematrix(folder, "lock", "--update", "engine=ort", code=None)
    assert "3.99" in out


def test_a_frozen_lock_that_lacks_a_stack_is_bad_input(tmp_path: Path) -> None:
    folder = project(tmp_path / "frozen", MATRIX)
    (folder / "matrix.lock").unlink()
    out = enginematrix(folder, "run", "--frozen", "--no-predict", code=2)
    assert "no entry for" in out
    assert "enginematrix lock" in out
    assert not (folder / "matrix.lock").exists()


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """A file system of its own that is nearly full, where this user may mount one."""
    folder = project(tmp_path / "full", MATRIX)
    disk = folder / "artifacts"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False
    ).returncode:
        pytest.skip("may not mount a file system here")
    try:
        out = enginematrix(folder, "run", "--frozen", "--no-predict", "--group", "one", code=3)
        assert "free some space" in out
        subprocess.run(["mount", "-o", "remount,size=2g", str(disk)], check=True)
        enginematrix(folder, "run", "--frozen", "--no-predict", "--group", "one", code=0)
        assert {cell["status"] for cell in report(folder)["cells"]} == {"verified"}
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_gc_keeps_what_is_needed_and_drops_the_rest(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gc"
    shutil.copytree(small, folder, symlinks=True, ignore=shutil.ignore_patterns("env", "by-hand"))
    smaller = MATRIX.replace("model: [squeezenet, residual_cnn]", "model: [squeezenet]").replace(
        "  torch: {family: torch, torch: 2.13.0, python: \"3.11\"}\n", ""
    ).replace("  torch-exporter: {values: [torchscript], when: {exporter.family: torch}}\n", "")  # fmt: skip
    (folder / "matrix.yaml").write_text(smaller)
    before = sum(1 for _ in (folder / "artifacts" / "objects").glob("*/*"))
    dry = enginematrix(folder, "gc", "--keep-runs", "0", "--dry-run")
    assert sum(1 for _ in (folder / "artifacts" / "objects").glob("*/*")) == before
    done = enginematrix(folder, "gc", "--keep-runs", "0")
    assert "freed" in done
    assert "would free" in dry
    after = sum(1 for _ in (folder / "artifacts" / "objects").glob("*/*"))
    assert 0 < after < before
    assert "0 to run" in enginematrix(folder, "plan") or "Nothing to do" in enginematrix(folder, "plan")
