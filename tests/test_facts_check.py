"""Contradictions in the catalog: the catalog has none, and each that is planted is found, at its place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from builder import facts, facts_check
from builder.facts_records import CATALOG, Catalog


def test_the_catalog_does_not_contradict_itself() -> None:
    assert [f"{finding.where}: {finding.text}" for finding in facts_check.check(CATALOG)] == []


def test_what_is_known_is_listed() -> None:
    known = {(finding.rule, finding.text.partition(":")[0]) for finding in facts_check.known(CATALOG)}
    assert {("conflict", "8.6"), ("conflict", "ngc-tensorrt 22.01"), ("doubt", "1.12")} <= known


PLANTED = [
    (
        "disagreement",
        "images.yaml",
        "platforms: [linux/arm64], inferred: [cudnn, python],",
        "platforms: [linux/amd64], inferred: [cudnn, python],",
        "an image for Jetson is for linux/amd64",
    ),
    (
        "driver",
        "drivers.yaml",
        '"13.0.2": {branches: ["535", "550", "565", "570", "575"]',
        '"13.0.2": {branches: ["535", "550", "565", "570", "580"]',
        "image 13.0.2: 580 is no older branch than that of its own driver 580.65.06",
    ),
    (
        "driver",
        "drivers.yaml",
        '"12.4.1": {branches: ["470", "525", "535"]',
        '"12.4.1": {branches: ["470", "510", "535"]',
        "image 12.4.1 takes 510, which the notes of 24.05 refuse",
    ),
    (
        "capability",
        "tensorrt.yaml",
        'capabilities: ["7.5", "8.6", "8.9", "12.0", "12.1"]',
        'capabilities: ["7.5", "8.6", "8.9", "12.0", "12.7"]',
        "TensorRT for RTX 1.5: compute capability 12.7 is not in the table",
    ),
    # rule, file, what is there, what is planted, the message
    (
        "duplicate",
        "gpus.yaml",
        'name: "RTX 4080"',
        'name: "RTX 4090"',
        "'rtx 4090' is the name of two GPUs; the other is on line",
    ),
    ("date", "onnx.yaml", 'date: "2019-01-23"', 'date: "2019-02-30"', "1.4.1: there is no 2019-02-30"),
    (
        "date",
        "onnx.yaml",
        'date: "2019-01-23"',
        'date: "2031-01-23"',
        "1.4.1: 2031-01-23 is after the facts were collected",
    ),
    (
        "date",
        "onnx.yaml",
        'date: "2020-05-08"',
        'date: "2018-01-01"',
        "1.7.0 of 2018-01-01 came before 1.6.0 of 2019-09-25",
    ),
    ("date", "drivers.yaml", 'end: "2027-03"', 'end: "2027-13"', "595: there is no 2027-13"),
    (
        "driver",
        "drivers.yaml",
        '"12.4.0": {driver: "550.54.14"',
        '"12.4.0": {driver: "530.30.02"',
        "CUDA 12.4.0 ships with driver 530.30.02, older than 545.23.08 of 12.3.2",
    ),
    (
        "driver",
        "drivers.yaml",
        '"525.60.13", until',
        '"535.54.03", until',
        "CUDA 12.x runs on driver 535.54.03, but 12.0.0 is of branch 525",
    ),
    (
        "driver",
        "drivers.yaml",
        '"10.1": {driver: "418.39"',
        '"10.1": {driver: "440.33"',
        "CUDA 10.1 needs driver 440.33, newer than the 418.87.00",
    ),
    (
        "driver",
        "drivers.yaml",
        'end: "2027-03", cuda: "13"',
        'end: "2027-03", cuda: "12"',
        "branch 595 ends at CUDA 12, but CUDA 13.x runs on it",
    ),
    (
        "driver",
        "drivers.yaml",
        'rejected: ["418", "440", "460"]',
        'rejected: ["418", "440", "470"]',
        ": 470 is accepted and rejected",
    ),
    (
        "image-driver",
        "images.yaml",
        'cuda: "12.1.0", cudnn: "8.9.0.131", tensorrt: "8.6.1.2", python: "3.8", driver: "530"',
        'cuda: "12.1.0", cudnn: "8.9.0.131", tensorrt: "8.6.1.2", python: "3.8", driver: "470"',
        "ngc-tensorrt 23.04: CUDA 12.1.0 does not run on driver 470",
    ),
    (
        "disagreement",
        "images.yaml",
        'cuda: "12.1.0", cudnn: "8.9.0.131", tensorrt: "8.6.1.2"',
        'cuda: "12.1.1", cudnn: "8.9.0.131", tensorrt: "8.6.1.2"',
        "ngc-tensorrt and ngc-tritonserver 23.04: cuda is 12.1.1 here and 12.1.0 at containers",
    ),
    (
        "component",
        "releases.yaml",
        '"1.20.0": {python: ["3.10",',
        '"1.20.0": {python: ["3.7",',
        "onnxruntime 1.20.0 is for Python 3.7; the record of 1.20",
    ),
    (
        "component",
        "pytorch.yaml",
        'tensorrt: "==10.1.0", cuda: "12.4"',
        'tensorrt: "==10.1.0", cuda: "12.6"',
        "torch-tensorrt 2.4.0 is for CUDA 12.6, torch 2.4 is not",
    ),
    (
        "component",
        "pytorch.yaml",
        '{torch: "2.9", cuda: "12.6"',
        '{torch: "2.9", cuda: "11.8"',
        "torch 2.9 has no build for CUDA 11.8",
    ),
    (
        "component",
        "images.yaml",
        'cuda: "12.1.0", cudnn: "8.9.0.131", tensorrt: "8.6.1.2"',
        'cuda: "12.1.0", cudnn: "8.9.0.131", tensorrt: "8.2.1.2"',
        "ngc-tensorrt 23.04: TensorRT 8.2 is not for CUDA 12",
    ),
    (
        "capability",
        "gpus.yaml",
        'cuda-from: "11.8"',
        'cuda-from: "99.8"',
        "no CUDA toolkit compiles for 8.9: 99.8 to now",
    ),
    (
        "capability",
        "gpus.yaml",
        'cuda-from: "5.0", cuda-until: "10.2"',
        'cuda-from: "5.0", cuda-until: "4.2"',
        "no CUDA toolkit compiles for 3.0",
    ),
    (
        "capability",
        "gpus.yaml",
        "absent: [tf32, fp16, bf16, fp8, fp4]",
        "absent: [tf32, fp16, bf16, fp8, int8]",
        "6.1: int8 is fast and absent",
    ),
    ("capability", "gpus.yaml", 'capability: "6.1"', 'capability: "6.4"', "compute capability 6.4 is not in the table"),
    (
        "capability",
        "tensorrt.yaml",
        'capability-until: "12.1"',
        'capability-until: "7.2"',
        "TensorRT 11.1: 7.5 is above 7.2",
    ),
    (
        "capability",
        "tensorrt.yaml",
        'also: ["10.0", "12.0"]',
        'also: ["10.0", "12.7"]',
        "compute capability 12.7 is not in the table",
    ),
    (
        "capability",
        "pytorch.yaml",
        'capabilities: ["7.5", "8.0"',
        'capabilities: ["7.0", "8.0"',
        "torch 2.9: CUDA 13.0 does not compile for 7.0",
    ),
    (
        "opset",
        "onnx.yaml",
        "ir: 7, opset: 13, ml: 2",
        "ir: 7, opset: 11, ml: 2",
        "opset 11 of 1.8.0 is below 12 of an older release",
    ),
    (
        "opset",
        "onnxruntime.yaml",
        "opset: 20, ir: 9",
        "opset: 20, ir: 10",
        "ONNX Runtime 1.17 takes IR 10, its ONNX 1.15.0 has 9",
    ),
    (
        "opset",
        "onnxruntime.yaml",
        "opset: 20, ir: 9",
        "opset: 19, ir: 9",
        "ONNX Runtime 1.17 takes opset 19, its ONNX 1.15.0 has 20",
    ),
    (
        "opset",
        "onnxruntime.yaml",
        "opset: 20, ir: 9, ml: 4",
        "opset: 20, ir: 9, ml: 5",
        "ONNX Runtime 1.17 takes ai.onnx.ml 5, its ONNX 1.15.0 has 4",
    ),
    (
        "opset",
        "tensorrt.yaml",
        "opset-from: 9, opset-until: 24",
        "opset-from: 9, opset-until: 8",
        "TensorRT 10.15: opsets from 9 to 8",
    ),
    (
        "opset",
        "tensorrt.yaml",
        "opset-from: 9, opset-until: 24",
        "opset-from: 9, opset-until: 12",
        "opset_until 12 of 10.15 is below 20 of an older release",
    ),
    (
        "opset",
        "pytorch.yaml",
        "script-default: 18",
        "script-default: 16",
        "script_default 16 of 2.8 is below 17 of an older release",
    ),
]


def planted(tmp_path: Path, file: str, old: str, new: str) -> Catalog:
    folder = tmp_path / "catalog"
    shutil.copytree(facts.CATALOG, folder)
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    return Catalog(folder)


@pytest.mark.parametrize(("rule", "file", "old", "new", "message"), PLANTED)
def test_what_is_planted_is_found(rule: str, file: str, old: str, new: str, message: str, tmp_path: Path) -> None:
    found = facts_check.check(planted(tmp_path, file, old, new))
    texts = [f"{finding.rule}: {finding.text}" for finding in found]
    assert any(text.startswith(f"{rule}: ") and message in text for text in texts), texts
    assert all(finding.where.file.endswith(".yaml") and finding.where.line > 1 for finding in found)


def test_every_rule_is_planted() -> None:
    assert {rule for rule, *_ in PLANTED} == set(facts_check.RULES)


def test_the_place_is_the_records(tmp_path: Path) -> None:
    catalog = planted(tmp_path, "gpus.yaml", 'name: "RTX 4080"', 'name: "RTX 4090"')
    (finding,) = facts_check.check(catalog)
    text = (tmp_path / "catalog" / "gpus.yaml").read_text(encoding="utf-8").splitlines()
    assert text[finding.where.line - 1].strip().startswith(("rtx-4080", "rtx-4090"))
    assert str(finding.where).startswith("gpus.yaml:")


def test_a_disagreement_that_is_told_is_no_finding(tmp_path: Path) -> None:
    old = 'cuda: "12.1.0", cudnn: "8.9.0.131", tensorrt: "8.6.1.2"'
    new = old.replace("12.1.0", "12.1.1") + ', conflict: "two pages say two"'
    catalog = planted(tmp_path, "images.yaml", old, new)
    assert facts_check.check(catalog) == ()
    assert any(finding.text == "ngc-tensorrt 23.04: two pages say two" for finding in facts_check.known(catalog))
