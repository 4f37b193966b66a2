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
from pathlib import Path
from typing import Any

from builder import nodes
from builder.section import Section

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


LAYOUTS = ("NCHW", "NHWC")
_FILES = (".npz", ".npy", ".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
"""What `worker/exporters/dataset.py` reads."""


def check(section: Section, folder: Path, script: bool) -> None:
    """Note what is wrong with a recipe's `calibration`: nothing there to calibrate with is an error of the recipe's, told at
    planning with its place. `folder` is the recipe's; `script`: whether it has one."""
    if not section.ok:
        return
    section.choice("method", METHODS)
    data, function = section.text("folder"), section.text("callable")
    count = section.integer("samples", 0, least=1)
    if data and function:
        section.error("callable", "'folder' and 'callable' are two sources of samples", "leave one out")
    elif data:
        _check_folder(section, folder, data)
    elif count == 0 and "samples" not in section:
        section.missing("samples", "how many; or folder: a folder of arrays or images")
    if function and not function.isidentifier():
        section.error("callable", f"{function!r} is no function's name")
    elif function and not script:
        section.error("callable", "a callable is a function of the recipe's script, and there is none")
    section.choice("layout", LAYOUTS)
    for key in ("mean", "std"):
        value = nodes.typed(section.node.items[key]) if key in section else 0
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(one, bool) or not isinstance(one, int | float) for one in numbers) or len(numbers) not in (
            1,
            3,
        ):
            section.error(key, f"{key!r} is a number, or three of them, one a channel")
        elif key == "std" and key in section and 0 in numbers:
            section.error(key, "a 'std' of 0 divides by nothing")
    for key in ("layout", "mean", "std"):
        if key in section and not data:
            section.error(key, f"{key!r} is for images of a folder", "leave it out")


def _check_folder(section: Section, folder: Path, name: str) -> None:
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts or not path.resolve().is_relative_to(folder.resolve()):
        section.error("folder", f"{name!r} leads out of the recipe's folder", "name a folder beside recipe.yaml")
    elif not path.is_dir():
        section.error("folder", f"no folder {name!r} beside recipe.yaml")
    elif not any(item.suffix.lower() in _FILES for item in path.iterdir()):
        section.error("folder", f"{name!r} holds no arrays (.npz, .npy) or images (.png, .jpg, ...)")
