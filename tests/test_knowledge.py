"""The catalog's size, its reading, and what it answers. Questions with answers of the vendors' documents; no guesses."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from builder import facts, knowledge
from builder.errors import SpecErrors
from builder.facts_records import (
    CATALOG,
    FILES,
    Capability,
    Catalog,
    Gpu,
    OnnxRuntime,
    OpenVINO,
    PyTorch,
    TensorFlow,
    TensorRT,
    Toolkit,
    read,
)
from builder.knowledge import Runs


def test_the_catalogs_size() -> None:
    ngc = [table for name, table in CATALOG.images.items() if name.startswith("ngc-")]
    assert sum(len(table.records) for table in ngc) >= 60
    assert len(CATALOG.table(Gpu)) >= 60
    # 8.1, 8.3 and 8.7 to 8.9 were never released for x86-64
    minors = {"7": range(3), "8": (0, 2, 4, 5, 6), "9": range(4), "10": range(17), "11": range(5)}
    assert {f"{major}.{item}" for major, items in minors.items() for item in items} <= set(CATALOG.table(TensorRT))
    assert {f"1.{item}" for item in range(10, 32)} <= set(CATALOG.table(OnnxRuntime))
    openvino = set(CATALOG.table(OpenVINO))
    assert {f"{year}.{item}" for year, last in (("2022", 3), ("2023", 3), ("2024", 6), ("2025", 4), ("2026", 4))
            for item in range(1 if year == "2022" else 0, last + 1)} <= openvino  # fmt: skip
    assert {f"2.{item}" for item in range(4, 22)} <= set(CATALOG.table(TensorFlow))
    torch = set(CATALOG.table(PyTorch))
    assert {f"1.{item}" for item in range(8, 14)} | {f"2.{item}" for item in range(15)} <= torch


def test_every_record_has_sources_and_a_place() -> None:
    for file, tables in FILES.items():
        for cls in tables.values():
            for entry in CATALOG.table(cls).values():
                assert entry.sources and all(entry.sources), entry
                assert entry.where.file == file and entry.where.line > 1


TEXT = """
sources: {notes: "Release notes - https://example.com"}
tables:
  toolkits:
    about: an example
    records:
      "12.4.1": {driver: "550.54.15", source: [notes]}
      "12.4.0": {driver: "550.54.14", conflict: two say two, source: [notes]}
"""


def table(tmp_path: Path, text: str = TEXT) -> dict[str, Toolkit]:
    path = tmp_path / "drivers.yaml"
    path.write_text(text.lstrip("\n"))
    return read(path, {"toolkits": Toolkit})["toolkits"]  # type: ignore[return-value]


def test_a_file(tmp_path: Path) -> None:
    rows = table(tmp_path)
    assert list(rows) == ["12.4.0", "12.4.1"]
    assert rows["12.4.0"].conflict == "two say two"
    assert rows["12.4.1"].sources == ("Release notes - https://example.com",)
    assert str(rows["12.4.1"].where) == "drivers.yaml:6:7"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('driver: "550.54.15"', 'diver: "550.54.15"', "drivers.yaml:6:18: unknown key 'diver' in record '12.4.1'"),
        ('driver: "550.54.15", ', "", "drivers.yaml:6:17: record '12.4.1' has no 'driver'"),
        ('"550.54.15"', '"R550"', "drivers.yaml:6:26: 'R550' is not a version of 'driver'"),
        ('"550.54.15"', "[a, b]", "drivers.yaml:6:26: 'driver' must be text"),
        ('"550.54.15"', "550.10", "550.10 is read as 550.1 by other YAML tools"),
        ('"550.54.15", source: [notes]', '"550.54.15"', "record '12.4.1' has no 'source'; no fact without its source"),
        (
            '"550.54.15", source: [notes]',
            '"550.54.15", source: [note]',
            "no source 'note' in this file; perhaps 'notes'?",
        ),
        ('"12.4.1"', '"12.4.0"', "duplicate key '12.4.0'"),
        ("  toolkits:", "  toolkit:", "unknown key 'toolkit' in tables; perhaps 'toolkits'?"),
        ("about: an example", "abut: an example", "unknown key 'abut' in table 'toolkits'"),
    ],
)
def test_mistakes_have_places(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in TEXT
    with pytest.raises(SpecErrors) as caught:
        table(tmp_path, TEXT.replace(old, new, 1))
    assert message in str(caught.value)


def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "catalog"
    shutil.copytree(facts.CATALOG, folder)
    return folder


def test_a_file_is_read_when_it_is_asked_for_and_once(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    (folder / "tensorrt.yaml").unlink()
    catalog = Catalog(folder)
    gpus = catalog.table(Gpu)
    (folder / "gpus.yaml").unlink()
    assert catalog.table(Capability) and catalog.table(Gpu) is gpus
    with pytest.raises(SpecErrors, match="tensorrt.yaml:1:1: no such file"):
        catalog.table(TensorRT)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("RTX 4090", ["RTX 4090"]),
        ("NVIDIA GeForce RTX 4090", ["RTX 4090"]),
        ("rtx4090", ["RTX 4090"]),
        ("RTX 4070", ["RTX 4070"]),  # not the Ti or the Super
        ("3080ti", ["RTX 3080 Ti"]),
        ("h200", ["H200"]),
        ("NVIDIA H200", ["H200"]),
        ("Tesla T4", ["T4"]),
        ("NVIDIA L4", ["L4"]),
        ("NVIDIA A100-SXM4-80GB", ["A100 80GB"]),
        ("A100", ["A100 40GB", "A100 80GB"]),
        ("Tesla V100-SXM2-16GB", ["Tesla V100"]),
        ("NVIDIA RTX 6000 Ada Generation", ["RTX 6000 Ada"]),
        ("NVIDIA H100 80GB HBM3", ["H100 PCIe 80GB", "H100 SXM5 80GB"]),
    ],
)
def test_a_gpu_by_name(name: str, found: list[str]) -> None:
    answer = knowledge.gpu(name)
    assert answer.value is not None
    assert [entry.name for entry in answer.value] == found
    assert all(fact.sources for fact in answer.facts)


@pytest.mark.parametrize(
    "name", ["NVIDIA GeForce RTX 4090 Laptop GPU", "RTX 9090", "nvidia", "", "V100 64GB", "A100-SXM4-40GB MIG 1g.5gb"]
)
def test_a_gpu_that_is_not_known(name: str) -> None:
    answer = knowledge.gpu(name)
    assert answer.value is None
    assert "the catalog does not have the GPU" in answer.unknown


def test_a_name_between_generations_has_no_compute_capability() -> None:
    answer = knowledge.capability("RTX 6000")
    assert answer.value is None and "7.5 or 8.9 or 12.0" in answer.unknown
    assert knowledge.capability("A100").value == "8.0"
    assert knowledge.capability("RTX 5090").value == "12.0"


@pytest.mark.parametrize(
    ("driver", "exact", "minor"),
    [
        ("550.54.14", "12.4.0", "12.9.1"),
        ("535.129.03", "12.2.2", "12.9.1"),
        ("470.57.02", "11.4.2", "11.8.0"),
        ("525.60.13", "12.0.0", "12.9.1"),
        ("525.60.11", "11.8.0", "11.8.0"),  # one below the floor of 12.x
        ("580.65.06", "13.0.0", "13.4.1"),
        ("418.87.00", "10.1.243", "10.1.243"),
    ],
)
def test_the_cuda_of_a_driver(driver: str, exact: str, minor: str) -> None:
    answer = knowledge.driver_cuda(driver)
    assert answer.value == knowledge.DriverCuda(exact=exact, minor=minor)
    assert answer.unknown == "" and answer.facts


def test_drivers_out_of_sight() -> None:
    newer = knowledge.driver_cuda("700.10")
    assert newer.value is not None and "newer than the catalog" in newer.unknown
    assert knowledge.driver_cuda("384.90").value is None
    assert knowledge.driver_cuda("R550").unknown == "'R550' is not a driver version"


@pytest.mark.parametrize(
    ("driver", "cuda", "kind", "runs"),
    [
        ("550.54.14", "12.4", "", Runs.EXACT),
        ("550.54.14", "11.8", "", Runs.EXACT),  # drivers run older toolkits
        ("525.60.13", "12.8", "", Runs.MINOR),
        ("450.80.02", "11.8", "", Runs.MINOR),
        ("450.51.06", "11.8", "", Runs.NO),
        ("470.57.02", "12.6", "", Runs.NO),
        ("470.57.02", "12.6", "geforce", Runs.NO),
        ("470.57.02", "12.6", "datacenter", Runs.FORWARD),
        ("470.42.01", "12.6", "datacenter", Runs.NO),  # the notes want 470.57 of that branch
        ("510.47.03", "12.6", "datacenter", Runs.NO),
        ("510.47.03", "12.3.0", "datacenter", Runs.NO),  # 24.01 leaves what 23.12 took
        ("440.33.00", "10.2", "", Runs.EXACT),
        ("418.87.00", "10.2.89", "", Runs.NO),  # before CUDA 11 each toolkit needs its own
        ("575.57.08", "13.0", "geforce", Runs.NO),
        # NVIDIA_REQUIRE_CUDA of the nvidia/cuda images names the branches
        ("470.57.02", "12.4", "datacenter", Runs.FORWARD),
        ("470.42.01", "12.4", "datacenter", Runs.NO),  # the notes of 24.05 want 470.57 of that branch
        ("470.256.02", "12.8", "datacenter", Runs.FORWARD),
        ("470.256.02", "12.9", "datacenter", Runs.NO),
        ("535.183.06", "13.0", "datacenter", Runs.FORWARD),
        ("550.54.14", "13.0", "datacenter", Runs.FORWARD),
        ("560.35.03", "13.0", "datacenter", Runs.NO),
        ("550.54.14", "13.2", "datacenter", Runs.NO),
        ("570.86.10", "13.2.1", "datacenter", Runs.FORWARD),
        ("570.86.10", "13.2", "workstation", Runs.NO),
    ],
)
def test_how_a_driver_runs_a_cuda(driver: str, cuda: str, kind: str, runs: Runs) -> None:
    answer = knowledge.driver_runs(driver, cuda, kind)
    assert answer.value is runs
    assert answer.facts and all(fact.sources for fact in answer.facts)


@pytest.mark.parametrize(
    ("driver", "cuda", "kind", "unknown"),
    [
        ("590.44.01", "13.9", "", "CUDA 13.9 is newer than the catalog"),
        ("590.44.01", "14.0", "", "CUDA 14.0 is newer than the catalog"),
        ("590.44.01", "9.0", "", "the catalog does not have CUDA 9.0"),
        ("550.54.14", "13.4", "datacenter", "what older drivers run CUDA 13.4 with cuda-compat is not recorded"),
        ("550.54.14", "13.3", "datacenter", "read in one Dockerfile"),
        ("550.54.14", "twelve", "", "'twelve' is not a CUDA version"),
    ],
)
def test_unknown_is_not_guessed(driver: str, cuda: str, kind: str, unknown: str) -> None:
    answer = knowledge.driver_runs(driver, cuda, kind)
    assert answer.value is None
    assert answer.unknown.startswith(unknown)


def test_compute_capabilities() -> None:
    assert knowledge.toolkits("7.0").value == knowledge.Range(first="9.0", last="12.9")
    assert knowledge.compiles("11.4", "8.9").value is False
    assert knowledge.compiles("12.9.1", "7.0").value is True
    assert knowledge.compiles("13.0", "7.0").value is False
    assert knowledge.compiles("14.0", "8.9").value is None
    assert (
        knowledge.toolkits("99.0").unknown == "compute capability 99.0 is newer than the catalog, whose newest is 12.1"
    )
    assert knowledge.precision("8.9", "fp8").value is True
    assert knowledge.precision("7.5", "bf16").value is False
    assert knowledge.precision("6.1", "fp16").value is False
    assert knowledge.precision("6.0", "fp16").value is True
    assert knowledge.precision("10.3", "fp16").value is None
    assert knowledge.precision("5.0", "fp32").value is True


@pytest.mark.parametrize(
    ("tensorrt", "capability", "takes"),
    [
        ("10.4.0", "7.0", True), ("10.5.0", "7.0", False), ("10.0.1", "6.1", False), ("9.3", "6.1", True), ("8.5.3", "3.7", True),
        ("8.6.1", "3.7", False), ("8.6.1.6", "8.9", True), ("10.7.0", "12.0", False), ("10.8.0.43", "12.0", True),
        ("10.9", "11.0", False), ("10.14.1", "11.0", True), ("10.13", "12.1", None), ("11.1.0", "12.1", True),
        ("12.0", "9.0", None),
    ],
)  # fmt: skip
def test_what_tensorrt_takes(tensorrt: str, capability: str, takes: bool | None) -> None:
    answer = knowledge.tensorrt_takes(tensorrt, capability)
    assert answer.value is takes
    assert (answer.unknown != "") == (takes is None)


@pytest.mark.parametrize(
    ("release", "capability", "takes"),
    [("1.4.0.76", "8.9", True), ("1.4", "7.0", False), ("1.4", "8.0", None), ("1.5", "12.1", True), ("1.7.1", "8.9", None),
     ("1.9", "8.9", None)],
)  # fmt: skip
def test_what_tensorrt_for_rtx_takes(release: str, capability: str, takes: bool | None) -> None:
    answer = knowledge.tensorrt_rtx_takes(release, capability)
    assert answer.value is takes
    assert (answer.unknown != "") == (takes is None)


def test_the_tensorrt_releases_of_a_gpu() -> None:
    volta = knowledge.tensorrt_releases("7.0")
    assert volta.value is not None and volta.value[-1] == "10.4"
    blackwell = knowledge.tensorrt_releases("12.0")
    assert blackwell.value is not None and blackwell.value[0] == "10.8"
    assert "10.13" in knowledge.tensorrt_releases("12.1").unknown


@pytest.mark.parametrize(
    ("engine", "version", "first", "last", "beyond"),
    [
        ("onnxruntime", "1.17.1", 7, 20, 21), ("onnx", "1.16.1", 1, 21, 22), ("tf2onnx", "1.16.1", None, 18, 19),
        ("tensorrt", "8.6.1", None, 17, None), ("tensorrt", "10.15.1.29", 9, 24, None), ("torch", "2.4.1+cu121", None, 20, 21),
        ("torch", "2.3.1", None, 17, None), ("tensorrt", "10.9.0", 9, 20, None), ("openvino", "2024.4.0", None, 20, None),
    ],
)  # fmt: skip
def test_opsets(engine: str, version: str, first: int | None, last: int | None, beyond: int | None) -> None:
    assert knowledge.opsets(engine, version).value == knowledge.Opsets(first=first, last=last, beyond=beyond)


def test_an_opset_between_what_is_known() -> None:
    assert knowledge.takes_opset("tensorrt", "10.9", 20).value is True  # 10.1 took it
    assert knowledge.takes_opset("tensorrt", "10.9", 22).value is None
    assert knowledge.takes_opset("onnxruntime", "1.17", 21).value is False
    assert knowledge.takes_opset("onnxruntime", "1.40", 17).value is None
    assert knowledge.takes_opset("torch", "2.8", 23, exporter="graph").value is True
    assert knowledge.takes_opset("torch", "2.7", 21).value is False  # unasked, 2.7 exports by TorchScript
    with pytest.raises(ValueError, match="'caffe' is none of"):
        knowledge.opsets("caffe", "1")


def test_exporters_and_ir() -> None:
    assert knowledge.default_opset("torch", "2.3.1").value == 17
    assert knowledge.default_opset("torch", "2.9.0").value == 20
    assert knowledge.default_opset("tf2onnx", "1.16.1").value == 15
    assert knowledge.ir("onnxruntime", "1.18.1").value == 10
    assert knowledge.ir("onnxruntime", "1.15").facts[0].doubt.startswith("the compatibility page says IR 8")
    assert knowledge.ir("onnx", "1.14.1").value == 9
    assert knowledge.ir("onnx", "1.23.2").value == 14
    assert knowledge.ir("tensorrt", "10.0").value is None


# What torch 2.13.0, tf2onnx 1.16.1 and 1.17.0 and onnx 1.23.2 wrote when they were asked: (opsets, IR version).
@pytest.mark.parametrize(
    ("exporter", "version", "kind", "opset", "opsets", "ir"),
    [
        ("torch", "2.13.0", "script", 1, (1,), 3),
        ("torch", "2.13.0", "script", 9, (9,), 4),
        ("torch", "2.13.0", "script", 13, (13,), 7),
        ("torch", "2.13.0", "script", 17, (17,), 8),
        ("torch", "2.13.0", "script", 20, (20,), 9),
        ("torch", "2.13.0", "script", 21, (21,), 10),  # with a warning, from here to 23
        ("torch", "2.13.0", "script", 23, (23,), 11),
        ("torch", "2.13.0", "script", 24, (), None),
        ("torch", "2.13.0", "script", 3, (), None),
        ("torch", "2.13.0", "graph", 13, (13, 18), 10),
        ("torch", "2.13.0", "graph", 18, (18,), 10),
        ("torch", "2.13.0", "", 23, (23,), 10),
        ("torch", "2.13.0", "graph", 24, None, None),
        ("torch", "2.7.1", "", 20, (20,), 9),
        ("torch", "2.7.1", "", 21, (), None),
        ("torch", "2.2.2", "script", 18, None, None),  # it warns above 17; where it ends is not recorded
        ("tf2onnx", "1.17.0", "", 13, (13,), 7),
        ("tf2onnx", "1.16.1", "", 18, (18,), 8),
        ("tf2onnx", "1.16.1", "", 21, (), None),
        ("tf2onnx", "1.16.1", "", 8, (8,), 4),
        ("tf2onnx", "1.7.2", "", 13, None, None),  # it has no check that would refuse it
        ("onnx", "1.23.2", "", 21, (21,), None),
        ("onnx", "1.15.0", "", 21, (), None),
        ("onnx", "9.0", "", 21, None, None),
    ],
)
def test_what_an_exporter_writes(
    exporter: str, version: str, kind: str, opset: int, opsets: tuple[int, ...] | None, ir: int | None
) -> None:
    answer = knowledge.written(exporter, version, opset, kind=kind)
    if opsets is None:
        assert answer.value is None
        assert answer.unknown
        return
    assert answer.value == knowledge.Written(opsets=opsets, ir=ir)
    assert answer.value.refused == (opsets == ())
    assert answer.value.opset == (opsets[0] if len(opsets) == 1 else None)
    assert answer.facts
    # A value stands without a reservation only where both of its parts are known.
    assert bool(answer.unknown) == (not answer.value.refused and (answer.value.opset is None or ir is None))


def test_what_no_exporter_is_asked() -> None:
    with pytest.raises(ValueError, match="'jax' is none of torch, tf2onnx, onnx"):
        knowledge.written("jax", "1.0", 17)
    with pytest.raises(ValueError, match="0 is not an opset"):
        knowledge.written("torch", "2.13.0", 0)


@pytest.mark.parametrize(
    ("project", "version", "python", "cuda"),
    [
        ("torch", "2.3.1", ("3.8", "3.9", "3.10", "3.11", "3.12"), ("11.8", "12.1")),
        ("torch", "1.8.0", ("3.6", "3.7", "3.8", "3.9"), ("10.2", "11.1")),
        ("tensorflow", "2.15.0", ("3.9", "3.10", "3.11"), ("12.2",)),
        ("onnxruntime", "1.20.0", ("3.10", "3.11", "3.12", "3.13"), ("12", "11.8")),
        ("openvino", "2022.3.0", ("3.7", "3.8", "3.9", "3.10"), ()),
        ("tensorrt", "10.5.0", ("3.8", "3.9", "3.10", "3.11", "3.12"), ("11.8", "12.6")),
    ],
)
def test_wheels(project: str, version: str, python: tuple[str, ...], cuda: tuple[str, ...]) -> None:
    assert knowledge.wheel(project, version).value == knowledge.Wheel(python=python, cuda=cuda)


def test_wheels_that_are_not_known() -> None:
    assert "newer than the catalog" in knowledge.wheel("openvino", "2027.0").unknown
    assert knowledge.wheel("mxnet", "1.0").unknown == "the catalog does not have the project 'mxnet'"


@pytest.mark.parametrize(
    ("project", "version", "numpy", "works"),
    [
        # What they were built against: https://github.com/microsoft/onnxruntime/issues/21063 and
        # https://github.com/pytorch/pytorch/issues/132179; onnxruntime 1.16.3 was seen to die at its first run.
        ("onnxruntime", "1.16.3", "2.2.6", False),
        ("onnxruntime", "1.18.1", "2.0.0", False),
        ("onnxruntime", "1.18.1", "1.26.4", True),
        ("onnxruntime", "1.19.2", "2.2.6", True),
        ("torch", "2.2.2", "2.0.1", False),
        ("torch", "2.3.1", "2.0.1", True),
        # What they ask for.
        ("openvino", "2023.0.2", "2.4.6", True),
        ("openvino", "2025.2.0", "2.3.1", False),
        ("openvino", "2025.4.1", "2.3.1", True),
        ("tensorflow", "2.12.1", "1.26.0", False),
        ("tensorflow", "2.15.1", "1.26.4", True),
        ("tensorflow", "2.19.1", "2.1.3", True),
        ("tensorflow", "2.19.1", "2.2.0", False),
        # A requirement's lower bound is that of one Python.
        ("onnxruntime", "1.17.3", "1.24.4", None),
        ("openvino", "2022.1.0", "2.0.0", None),
        ("onnxruntime", "1.31.1", "3.0.0", None),
        ("onnxruntime", "2.0.0", "2.0.0", None),
        ("onnxruntime", "1.31.1", "new", None),
        ("jax", "0.4", "2.0.0", None),
    ],
)
def test_what_numpy_a_release_works_with(project: str, version: str, numpy: str, works: bool | None) -> None:
    answer = knowledge.takes_numpy(project, version, numpy)
    assert answer.value is works
    assert bool(answer.unknown) == (works is None)
    assert bool(answer.facts) >= (works is not None)


# The releases that matrix.yaml names, and the Pythons of their files as uv finds them (2026-11-21).
@pytest.mark.parametrize(
    ("project", "versions", "python"),
    [
        ("onnxruntime", "1.15.1 1.16.3", "3.8 3.9 3.10 3.11"),
        ("onnxruntime", "1.17.3 1.18.1 1.19.2", "3.8 3.9 3.10 3.11 3.12"),
        ("onnxruntime", "1.20.1 1.22.1 1.23.2", "3.10 3.11 3.12 3.13"),
        ("onnxruntime", "1.26.0 1.31.1", "3.11 3.12 3.13 3.14"),
        ("openvino", "2023.0.2", "3.7 3.8 3.9 3.10 3.11"),
        ("openvino", "2024.3.0", "3.8 3.9 3.10 3.11 3.12"),
        ("openvino", "2024.6.0", "3.9 3.10 3.11 3.12"),
        ("openvino", "2025.2.0", "3.9 3.10 3.11 3.12 3.13"),
        ("openvino", "2026.0.0 2026.4.1", "3.10 3.11 3.12 3.13 3.14"),
        ("tensorflow", "2.15.1", "3.9 3.10 3.11"),
        ("tensorflow", "2.19.1", "3.9 3.10 3.11 3.12"),
        ("tensorrt-rtx", "1.4.0.76 1.5.0.114", "3.8 3.9 3.10 3.11 3.12 3.13"),
        ("tensorrt-rtx", "1.6.1.120 1.7.1.116", "3.8 3.9 3.10 3.11 3.12 3.13 3.14"),
        ("tensorrt", "10.9.0.34", "3.8 3.9 3.10 3.11 3.12 3.13"),
        ("tensorrt", "11.4.0.106", "3.8 3.9 3.10 3.11 3.12 3.13 3.14"),
        ("tensorrt", "8.6.1", "3.6 3.7 3.8 3.9 3.10 3.11"),  # uv does not ask for 3.6
    ],
)
def test_the_pythons_of_the_matrixs_releases(project: str, versions: str, python: str) -> None:
    for version in versions.split():
        wheel = knowledge.wheel(project, version).value
        assert wheel is not None
        assert " ".join(wheel.python) == python, version


def test_images() -> None:
    answer = knowledge.image("nvcr.io/nvidia/pytorch:24.01-py3")
    assert answer.value is not None
    assert (answer.value.facts["cuda"], answer.value.facts["tensorrt"]) == ("12.3.2", "8.6.1.6")
    assert answer.value.inferred == ("python",) and "inferred: python" in answer.facts[0].doubt
    triton = knowledge.image("tritonserver:24.10-py3").value
    assert triton is not None and triton.facts["triton"] == "2.51.0"
    jetpack = knowledge.image("jetpack:6.2").value
    assert jetpack is not None and jetpack.facts["tensorrt"] == "10.3.0.30"
    assert knowledge.image("l4t:36.4.3").value == jetpack


@pytest.mark.parametrize(
    ("reference", "unknown"),
    [
        ("pytorch:30.01-py3", "pytorch 30.01 is newer than the catalog"),
        ("pytorch:19.01-py3", "the catalog does not have pytorch 19.01"),
        ("tritonserver:26.07-vllm-python-py3", "of tritonserver the catalog tells of tags RELEASE-py3 only"),
        ("jetpack:99", "the catalog does not have 'jetpack:99'"),
        ("ubuntu:24.04", "the catalog does not have 'ubuntu:24.04'"),
        ("", "the catalog does not have ''"),
    ],
)
def test_images_that_are_not_known(reference: str, unknown: str) -> None:
    answer = knowledge.image(reference)
    assert answer.value is None and answer.unknown.startswith(unknown)


def test_the_whole_catalog_is_read_in_a_fifth_of_a_second() -> None:
    """In a process of its own, best of five: other tests have what they loaded, and the machine has other work."""
    script = (
        "import time\nfrom builder import facts_records as r, facts\nbest = 9.0\n"
        "for _ in range(5):\n    start = time.process_time()\n    catalog = r.Catalog(facts.CATALOG)\n"
        "    [catalog.table(cls) for tables in r.FILES.values() for cls in tables.values()]\n"
        "    catalog.images, catalog.projects\n    best = min(best, time.process_time() - start)\nprint(best)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.2
