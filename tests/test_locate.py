"""`enginematrix locate` on mismatches of real libraries, as a user runs it (`-m real`), and what it says where it cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import enginematrix, project, report

from builder import locate_kept

MATRIX = """\
schema: 1
name: wrong
exporters:
  onnx: {family: onnx, onnx: 1.23.2}
  torch: {family: torch, torch: 2.13.0, python: "3.11"}
engines:
  ort: {family: onnxruntime, onnxruntime: 1.19.2}
  openvino: {family: openvino, openvino: 2026.4.1}
axes:
  model: [minilm, squeezenet]
  opset: [17]
  precision: [fp32, fp16, int8]
  shapes: [static]
  torch-exporter: {values: [torchscript], when: {exporter.family: torch}}
groups:
  default: >-
    (model=minilm and precision=fp16 and engine=ort) or (model=squeezenet and precision=int8 and engine=openvino)
    or (model=squeezenet and precision=fp32 and engine=ort)
"""

real = pytest.mark.real


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = project(tmp_path_factory.mktemp("wrong"), MATRIX)
    enginematrix(folder, "run", "--frozen", "--fail-on", "never")
    yield folder


def cell(folder: Path, model: str) -> dict[str, Any]:
    return next(
        cell for cell in report(folder)["cells"] if cell["axes"]["model"] == model and cell["status"] != "verified"
    )


def located(folder: Path, name: str) -> dict[str, Any]:
    text = enginematrix(folder, "locate", name, "--json")
    found: dict[str, Any] = json.loads(text[text.index("{\n") :])
    return found


@real
def test_nan_of_half_precision_is_the_clip_without_a_maximum(wrong: Path) -> None:
    """ONNX Runtime 1.19.2: every value of the embedding is NaN, by a division by what Clip made zero."""
    bad = cell(wrong, "minilm")
    assert (bad["status"], bad["comparison"]["outputs"][0]["nonfinite_equal"]) == ("mismatch", False)
    found = located(wrong, bad["id"])
    first = found["first"]
    assert first["operator"] == "Clip"
    assert first["error"] > 0.9
    assert [one["error"] < 1e-3 for one in first["inputs"]] == [True]
    assert (found["confirmed"], found["finished"], first["sudden"]) == (True, True, True)
    assert found["subgraph"]["reproduces"]
    assert found["subgraph"]["operators"] == ["Constant", "Clip"]
    assert found["engines"] <= 15


@real
def test_a_quantised_concatenation_that_another_engine_gets_right(wrong: Path) -> None:
    bad = cell(wrong, "squeezenet")
    assert bad["status"] == "mismatch"
    found = located(wrong, bad["id"])
    first, piece = found["first"], found["subgraph"]
    assert first["operator"] == "Concat"
    assert max(one["error"] for one in first["inputs"]) < 0.1 < found["limit"] < first["error"]
    assert piece["reproduces"]
    assert len(piece["nodes"]) < 20 < piece["of"]
    # The piece and what to put in are a model of their own, that another library runs.
    folder = wrong / "artifacts"
    python = next(
        path
        for path in folder.glob("env/*/bin/python")
        if list(path.parents[1].glob("lib/*/site-packages/onnxruntime"))
    )
    assert shutil.which("nice")
    import subprocess

    script = (
        "import sys, numpy, onnxruntime\n"
        "s = onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])\n"
        "d = numpy.load(sys.argv[2])\n"
        "got = s.run(None, {i.name: d['input_%d' % n] for n, i in enumerate(s.get_inputs())})[0]\n"
        "print(numpy.linalg.norm(got - d['output_0']) / numpy.linalg.norm(d['output_0']))\n"
    )
    done = subprocess.run(
        [python, "-c", script, folder / piece["path"], folder / piece["inputs"]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.1, "ONNX Runtime is right where OpenVINO is wrong"


@real
def test_show_and_the_report_have_it_until_the_cell_is_another(wrong: Path) -> None:
    bad = cell(wrong, "squeezenet")
    located(wrong, bad["id"])
    assert "made by Concat" in enginematrix(wrong, "show", bad["id"])
    enginematrix(wrong, "report", "--fail-on", "never")
    again = cell(wrong, "squeezenet")
    assert again["located"]["first"]["operator"] == "Concat"
    assert "located" not in cell(wrong, "minilm") or cell(wrong, "minilm")["located"]["first"]["operator"] == "Clip"
    text = (wrong / "artifacts" / "report" / "report.html").read_text()
    assert again["located"]["first"]["tensor"] in text
    kept = wrong / "artifacts" / locate_kept.FOLDER / bad["id"] / "located.json"
    kept.write_text(kept.read_text().replace(again["located"]["run"], "0" * 64))
    assert "made by Concat" not in enginematrix(wrong, "show", bad["id"])
    assert f"enginematrix locate {bad['id']}" in enginematrix(wrong, "show", bad["id"])


@real
def test_nothing_goes_wrong_where_nothing_is_wrong(wrong: Path) -> None:
    good = next(cell for cell in report(wrong)["cells"] if cell["status"] == "verified")
    found = located(wrong, good["id"])
    assert (found["first"], found["subgraph"]) == (None, None)
    assert len(found["measured"]) > 10
    assert all(one["error"] < 1e-4 for one in found["measured"])
    assert all(output["noise"]["scale"] > 0 for output in good["comparison"]["outputs"])


@real
def test_what_was_not_run_says_what_to_do(wrong: Path) -> None:
    other = json.loads(
        enginematrix(wrong, "plan", "--json", "--select", "model=squeezenet and precision=fp16 and engine=ort")
    )
    name = other["cells"][0]["id"]
    text = enginematrix(wrong, "locate", name, code=2)
    assert f"enginematrix run --select '#{name}'" in text
    assert not (wrong / "artifacts" / "located" / name).exists()


def test_damaged_files_of_what_was_located_are_left_aside(tmp_path: Path) -> None:
    assert locate_kept.stored(tmp_path, {}) == {}
    folder = tmp_path / "located" / "abc"
    folder.mkdir(parents=True)

    class Chain:
        class build:  # noqa: N801
            key = "b"

        class run:  # noqa: N801
            key = "r"

    chains: Any = {"abc": Chain}
    for text in (
        "",
        "[]",
        "{}",
        '{"schema": 2, "build": "b", "run": "r"}',
        '{"schema": 1, "build": "b", "run": "other"}',
    ):
        (folder / "located.json").write_text(text)
        assert locate_kept.stored(tmp_path, chains) == {}, text
    (folder / "located.json").write_text('{"schema": 1, "build": "b", "run": "r"}')
    assert list(locate_kept.stored(tmp_path, chains)) == ["abc"]
