"""`enginematrix facts`: tables, filters, questions and `check`, as text and as JSON."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from builder import facts, facts_cli
from builder.errors import EXIT_FAILURES, EXIT_OK, UsageError
from builder.facts_records import CATALOG, Catalog, Gpu


def run(*words: str, catalog: Catalog = CATALOG) -> int:
    parser = argparse.ArgumentParser()
    facts_cli.add(parser)
    options = parser.parse_args(words)
    return facts_cli.answer(list(options.what), options.json, catalog)


def data(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert run(*words, "--json") == EXIT_OK
    return json.loads(capsys.readouterr().out)


def test_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    counts = data(capsys)
    assert counts["gpus"] == len(CATALOG.table(Gpu))
    assert {"tensorrt/releases", "images/ngc-pytorch", "releases/torch", "drivers/toolkits"} <= set(counts)
    assert run() == EXIT_OK
    assert "tensorrt/releases" in capsys.readouterr().out


def test_a_table_is_filtered_and_keeps_its_sources(capsys: pytest.CaptureFixture[str]) -> None:
    rows = data(capsys, "drivers/toolkits", "550.54.14")
    assert [row["key"] for row in rows] == ["12.4.0"]
    assert rows[0]["sources"] and rows[0]["where"].startswith("drivers.yaml:")
    assert {row["table"] for row in data(capsys, "drivers")} == {
        f"drivers/{name}"
        for name in ("toolkits", "minor-versions", "minimums", "branches", "forward", "images", "packages")
    }
    assert data(capsys, "gpus", "nothing-has-this") == []
    assert run("gpus", "jetson", "ORIN", "64") == EXIT_OK
    out = capsys.readouterr().out
    assert out.startswith(
        "gpus jetson-agx-orin-64gb: name Jetson AGX Orin 64GB, kind jetson, capability 8.7, memory 64"
    )
    assert "    source: jetson_stats" in out and "    at gpus.yaml:" in out


@pytest.mark.parametrize(
    ("words", "title", "value"),
    [
        (("gpu", "NVIDIA", "GeForce", "RTX", "4090"), "compute capability", "8.9"),
        (("gpu", "h200"), "gpu", ["H200"]),
        (("gpu", "RTX 6000"), "compute capability", None),
        (("driver", "550.54.14"), "cuda", {"exact": "12.4.0", "minor": "12.9.1"}),
        (("driver", "470.57.02", "12.6", "datacenter"), "driver 470.57.02 runs CUDA 12.6", "forward"),
        (("driver", "470.57.02", "12.6"), "driver 470.57.02 runs CUDA 12.6", "no"),
        (("wheel", "torch", "2.0.1"), "wheel", {"python": ["3.8", "3.9", "3.10", "3.11"], "cuda": ["11.7", "11.8"]}),
        (("opsets", "onnxruntime", "1.17.1"), "opsets", {"first": 7, "last": 20, "beyond": 21}),
        (("opsets", "onnxruntime", "1.17.1"), "ir", 9),
        (("opsets", "torch", "2.3"), "default opset", 17),
        (("numpy", "onnxruntime", "1.18.1", "2.0.1"), "onnxruntime 1.18.1 works with NumPy 2.0.1", False),
        (("numpy", "onnxruntime", "1.19.2", "two"), "onnxruntime 1.19.2 works with NumPy two", None),
        (("written", "torch", "2.13", "17", "script"), "written", {"opsets": [17], "ir": 8}),
        (("written", "torch", "2.13", "24", "script"), "written", {"opsets": [], "ir": None}),
        (("written", "tf2onnx", "99.1", "17"), "written", None),
        (("image", "pytorch:30.01-py3"), "image", None),
    ],
)
def test_questions(words: tuple[str, ...], title: str, value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answer = data(capsys, *words)[title]
    assert answer["value"] == value
    assert (value is None) == (answer["unknown"] != "")
    assert all(fact["sources"] and fact["where"] for fact in answer["facts"])


def test_an_answer_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("gpu", "RTX 3090") == EXIT_OK
    out = capsys.readouterr().out
    assert "compute capability: 8.6\n    RTX 3090: geforce, compute capability 8.6, 24 GiB\n        source: " in out
    assert (
        'fast precisions: {"tf32": true, "fp16": true, "bf16": true, "int8": true, "fp8": false, "fp4": false}' in out
    )
    assert run("image", "pytorch:30.01-py3") == EXIT_OK
    assert capsys.readouterr().out.startswith("image: unknown\n    pytorch 30.01 is newer than the catalog")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("gpuss",), "no facts about 'gpuss'; perhaps 'gpus'?"),
        (("check", "all"), "facts check takes no 'all'"),
        (("wheel", "torch"), "facts wheel takes 2 words, not 1"),
        (("driver", "1", "2", "3", "4"), "facts driver takes 1 to 3 words, not 4"),
        (("driver", "470.57.02", "12.6", "laptop"), "'laptop' is no kind of GPU; there are geforce, workstation"),
        (("opsets", "caffe", "1"), "'caffe' is none of onnxruntime, openvino"),
        (("numpy", "torch", "2.3"), "facts numpy takes 3 words, not 2"),
        (("written", "keras", "1", "17"), "'keras' is none of torch, tf2onnx, onnx"),
        (("written", "torch", "2.3", "0"), "'0' is no opset"),
        (("written", "torch", "2.3", "\u0663"), "is no opset"),
        (("written", "tf2onnx", "1.16.1", "17", "graph"), "'graph' is no kind of exporter; torch has script and graph"),
    ],
)
def test_wrong_questions(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        run(*words)
    assert message in str(caught.value)


def test_check_is_clean(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check") == EXIT_OK
    out = capsys.readouterr().out
    assert "known conflict: 8.6: " in out
    assert out.splitlines()[-1].startswith("0 contradictions; ")
    found = data(capsys, "check")
    assert found["found"] == [] and len(found["known"]) > 20


def copied(tmp_path: Path, file: str, old: str, new: str) -> Catalog:
    folder = tmp_path / "catalog"
    shutil.copytree(facts.CATALOG, folder)
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    return Catalog(folder)


def test_check_tells_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = copied(tmp_path, "gpus.yaml", 'name: "RTX 4080"', 'name: "RTX 4090"')
    assert run("check", catalog=catalog) == EXIT_FAILURES
    out = capsys.readouterr().out
    assert ": duplicate: 'rtx 4090' is the name of two GPUs" in out and "1 contradictions;" in out
    assert run("check", "--json", catalog=catalog) == EXIT_FAILURES
    (found,) = json.loads(capsys.readouterr().out)["found"]
    assert found["rule"] == "duplicate" and found["where"].startswith("gpus.yaml:")


def test_check_of_a_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = copied(tmp_path, "gpus.yaml", "kind: geforce", "kind: gforce")
    assert run("check", catalog=catalog) == EXIT_FAILURES
    assert "'gforce' is not a value of 'kind'; perhaps 'geforce'?" in capsys.readouterr().out


def test_the_commands_of_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(facts.CATALOG).parents[1] / "docs" / "facts.md").read_text(encoding="utf-8")
    commands = [
        line.removeprefix("$ enginematrix facts").partition("#")[0]
        for line in text.splitlines()
        if line.startswith("$ ")
    ]
    assert len(commands) >= 9
    for command in commands:
        assert run(*shlex.split(command)) == EXIT_OK, command
        assert capsys.readouterr().out.strip(), command
    for file in facts.CATALOG.glob("*.yaml"):
        assert f"`{file.name}`" in text


def test_the_module_is_light_to_import() -> None:
    """The command line imports every command's module to build its parser."""
    script = "import sys, builder.facts_cli; print([m for m in ('yaml', 'packaging', 'builder.knowledge') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
