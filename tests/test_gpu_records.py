"""What the product says of runs on a GPU: over the records of one NVIDIA H200 (tests/inputs/h200-runs.json; docs/gpu.md), since
no machine of the tests has one. The records are real; what is made of them here is today's program."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import factory
import pytest
from silent import told

from builder.diagnose import diagnose

RECORDS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "inputs" / "h200-runs.json").read_text())[
    "records"
]
TF32 = "the CUDA provider may compute fp32 products in TF32, with 10 bits of mantissa (use_tf32=1, NVIDIA_TF32_OVERRIDE=None)"


#: name of the record -> (outcome, category, what the cell's line says)
RAN = {
    "fp32": ("verified", None, ""), "fp16": ("verified", None, ""), "torch, compiled": ("verified", None, ""),
    "tf32, wrong": ("mismatch", "accuracy", "output features of case static: 59.01 % of the values exceed the tolerance"),
    "tf32, within the tolerance": ("degraded", "precision-fallback", f"asked fp32, got tf32: {TF32}"),
    "torch, tf32": ("mismatch", "accuracy", "output features of case static: 55.54 % of the values exceed the tolerance"),
    "int8": ("degraded", "precision-fallback", "asked int8, got fp32: 0 of 16 compute operators ran in int8 (16 in fp32)"),
    "no CUDA 12": (
        "degraded", "silent-fallback",
        "asked CUDAExecutionProvider, got CPUExecutionProvider: the session does not have the execution provider",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RAN)
def test_what_ran_on_a_gpu(tmp_path: Path, name: str) -> None:
    (status, category, line), record = RAN[name], RECORDS[name]
    assert record["end"] == {"exit": 0} and record["stages"] == ["load", "run", "compare"]
    cell, shown, page = told(tmp_path, factory.cell(), run=record["result"])
    assert (cell["status"], cell["category"]) == (status, category)
    assert line in (cell["line"] or "") and line in re.sub(r"\s+", " ", shown)
    if "tf32" in name:
        assert "asked fp32, got tf32" in page


def test_tf32_costs_a_thousandfold_and_only_where_it_is_allowed() -> None:
    off, on = RECORDS["fp32"]["result"], RECORDS["tf32, wrong"]["result"]
    assert off["found"]["tf32"] == "use_tf32=0, NVIDIA_TF32_OVERRIDE=0"
    assert on["found"]["tf32"] == "use_tf32=1, NVIDIA_TF32_OVERRIDE=None"
    (before,), (after,) = off["comparison"]["outputs"], on["comparison"]["outputs"]
    assert after["max_abs"] > 1000 * before["max_abs"]


def test_half_precision_is_proved_on_the_gpu_itself() -> None:
    found = RECORDS["fp16"]["result"]["found"]
    assert found["providers"] == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert set(found["precision"]["MatMul"]) == {"fp16"} and found["left"] == []


@pytest.mark.parametrize(
    ("name", "stage", "category", "signature"),
    [
        ("TensorRT-RTX", "load", "gpu-unsupported", "rtx-engine-on-unsupported-gpu"),
        ("torch, int8", "run", "precision", "torch-quantized-no-cuda-kernel"),
    ],
)
def test_what_a_gpu_refused(name: str, stage: str, category: str, signature: str) -> None:
    record = RECORDS[name]
    found = diagnose(stage, "failed", record["error"], record["end"], "", {})
    assert (found.category, found.signature) == (category, signature)
    assert record["stages"][-1] == stage


def test_the_refusal_names_both_capabilities() -> None:
    record = RECORDS["TensorRT-RTX"]
    found = diagnose("load", "failed", record["error"], record["end"], "", {})
    assert found.diagnosis == "TensorRT-RTX does not serve compute capability 9.0 at all; the engine is for 8.9."
    assert record["error"]["found"]["validity"] == ["INVALID", "UNSUPPORTED_CC"]  # asked before it was loaded
