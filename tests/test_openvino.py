# ruff: noqa: F811  (fixtures of the contract test)
"""OpenVINO's silent default and its devices, for real (`-m real`)."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_adapters import OV_NEW, OV_OLD, Bench, bench, models, over, root  # noqa: F401

pytestmark = pytest.mark.real

_FLAGS = Path("/proc/cpuinfo").read_text()
#: OpenVINO's CPU plugin computes in bf16 by default where the processor has instructions for it.
BF16 = "avx512_bf16" in _FLAGS or "amx_bf16" in _FLAGS
DEFAULT = {"inference-precision": "default"}


@over(OV_OLD, OV_NEW)
def test_fp32_that_is_not_asked_for_is_bf16_here(bench: Bench) -> None:
    """The silent one: an FP32 model, nothing said, and the numbers are those of bf16."""
    loose = {"cosine": 0.99}
    result = bench.run("fp32", "fp32", tolerance=loose, options=DEFAULT)
    assert result["comparison"]["verdict"] == "match"
    found = result["found"]
    assert found["hint"] == "not given"
    if not BF16:
        assert result["degraded"] == []
        return
    assert found["hint_in_force"] == ("bf16" if bench.release is OV_NEW else None)  # 2023.0 does not say it of a blob
    (entry,) = result["degraded"]
    assert (entry["asked"], entry["got"]) == ("fp32", "bf16")
    assert entry["how"] == "0 of 2 compute operators ran in fp32 (2 in bf16), by the execution graph"
    assert {item["operator"] for item in found["left"]} == {"Convolution", "FullyConnected"}
    told = bench.run("fp32", "fp32")
    assert told["found"]["hint_in_force"] in ("f32", None)
    assert (told["degraded"], told["found"]["left"]) == ([], [])
    assert _error(told) < _error(result) / 10


def _error(result: dict[str, dict[str, list[dict[str, float]]]]) -> float:
    return result["comparison"]["outputs"][0]["max_abs"]


@over(OV_OLD, OV_NEW)
@pytest.mark.parametrize("device", ["GPU", "NPU", "AUTO:GPU,CPU", "HETERO:NPU,CPU"])
def test_a_device_that_is_not_there_is_refused_by_name(bench: Bench, device: str) -> None:
    if Path("/dev/dri").exists() or Path("/dev/accel").exists():
        pytest.skip("this machine may have one")
    end = bench.job("build", "fp32", options={"device": device})
    assert end.output is not None
    error = end.output["error"]
    name = "NPU" if "NPU" in device else "GPU"
    assert (error["type"], error["message"]) == (
        "NoDevice", f"OpenVINO has no device {name} on this machine; it has CPU",
    )  # fmt: skip


@over(OV_OLD, OV_NEW)
def test_a_precision_that_is_none_is_refused(bench: Bench) -> None:
    end = bench.job("build", "fp32", options={"inference-precision": "fast"})
    assert end.output is not None
    assert end.output["error"]["message"] == "inference-precision is 'fast'; it can be asked or default"
