"""How 8 bits are made: by which method, in which stack, from which data; and tables of ranges that are made once.

An option axis `quantization` says how: `static` (Q/DQ with the ranges of a calibration table; what a cell without that axis
gets), `dynamic` (8-bit weights alone, no data), or the name of a family that provides tools, such as `nncf`, which then
quantises in its own stack from the same data. What an engine takes beside (`settings: {quantization: {bias: float}}`) is its
family's to say.

A table belongs to a model, to data and to the version of what made it: the step `calibrate` of ONNX Runtime's tools has
these as its key. The table that TensorRT up to 10 writes while it builds is kept by `execute/beside.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

AXIS = "quantization"
MODES = ("static", "dynamic")
METHODS = ("minmax", "entropy", "percentile")
"""How a range is found from samples; `worker/exporters/tools_quantize.py` does it."""


def kind(settings: Mapping[str, Any], options: Mapping[str, str], precision: str) -> dict[str, str] | None:
    """What is asked of whoever quantises: {"mode": ..., "bias": ...}; None for other precisions. Cells with the same kind
    share a quantised graph."""
    if precision != "int8":
        return None
    given = dict(settings.get("quantization") or {})
    mode = options.get(AXIS) or given.get("mode") or MODES[0]
    return {**given, "mode": mode} if mode == "static" else {"mode": mode}


def needs_data(asked: Mapping[str, str] | None) -> bool:
    """Whether samples are needed for it: for all 8 bits but those of weights alone."""
    return asked is not None and asked["mode"] != "dynamic"


def families(axes: Mapping[str, Iterable[str]]) -> list[str]:
    """The families that the axis `quantization` names: its values that are no mode of ONNX Runtime's tools."""
    return [value for value in dict.fromkeys(axes.get(AXIS, ())) if value not in MODES]
