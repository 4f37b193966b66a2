"""A failing case of a suite as what repro_case.py reads of any other cell: its model and tensors, taken out of the file that all
cases share (worker/conform_data.py has its layout), and the engine asked in the same few lines as the suite's runner does."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.values import Family

COMMENT = re.compile(rb"enginematrix-cases (\d+) (\d+)$")
DTYPES = {
    1: "<f4", 2: "|u1", 3: "|i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "|b1", 10: "<f2", 11: "<f8", 12: "<u4", 13: "<u8",
}  # fmt: skip
"""TensorProto.DataType (onnx.proto) -> NumPy's description of it; little-endian, as `raw_data` is."""
_KINDS = (
    ("gave ", "missing"), ("has shape", "shape"), ("NaN or infinity", "nonfinite"), ("differs in", "elements"),
    (", expected", "dtype"),
)  # fmt: skip
"""Words of worker/conform_compare.py -> those of the script's comparison."""


class Odd(Exception):
    """What of a case a short script cannot hold."""


class Cases:
    """The file of a suite's cases. Raises Odd for one that cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                size = file.seek(0, io.SEEK_END)
                file.seek(max(0, size - 100))
                found = COMMENT.search(file.read())
                if found is None:
                    raise ValueError("its comment does not say where the index is")
                file.seek(int(found[1]))
                index = json.loads(file.read(int(found[2])))
            self.cases = {case["name"]: case for case in index["cases"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = f"the file of the suite's cases cannot be read: {error}"
            raise Odd(msg) from error

    def part(self, at: Sequence[int]) -> bytes:
        with self.path.open("rb") as file:
            file.seek(at[0])
            return file.read(at[1])

    def npy(self, value: Mapping[str, Any]) -> bytes:
        """A tensor as a .npy file (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, version 1.0)."""
        if value["kind"] != "tensor" or value["type"] not in DTYPES:
            what = f"a value of kind {value['kind']}"
            if value["kind"] == "tensor":
                what = f"a tensor of type {value['type']}, which NumPy lacks"
            msg = f"the case has {what}; no short script handles it"
            raise Odd(msg)
        shape = "".join(f"{int(size)}, " for size in value["shape"])
        header = f"{{'descr': '{DTYPES[value['type']]}', 'fortran_order': False, 'shape': ({shape}), }}"
        header += " " * (-(len(header) + 11) % 64) + "\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + self.part(value["at"])

    def npz(self, case: Mapping[str, Any]) -> bytes:
        """Inputs and expected outputs as one .npz file, the same bytes every time."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as file:
            for kind, values in (("input", case["inputs"]), ("output", case["outputs"])):
                for number, value in enumerate(values):
                    file.writestr(zipfile.ZipInfo(f"{kind}_{number}.npy", (1980, 1, 1, 0, 0, 0)), self.npy(value))
        return out.getvalue()


def read(path: Path, name: str, result: Mapping[str, Any], job: Mapping[str, Any], family: Family, running: bool) -> tuple[
    dict[str, bytes], dict[str, Any]
]:  # fmt: skip
    """(files, what the engine was asked) of a case. `result`: what came of it; `job`: the input of the job that tried it. Raises
    Odd."""
    cases = Cases(path)
    case = cases.cases[name]
    files = {"model.onnx": cases.part(case["model"])}
    if running:
        files["cases/case.npz"] = cases.npz(case)
    return files, {
        "kind": family.adapter, "direct": family.adapter in ("onnxruntime", "openvino"), "precision": "fp32", "realised": "graph",
        "options": dict(job["options"]), "settings": {**job["settings"], "hint": job["precision"]}, "quantization": None,
        "inputs": [{"name": value["name"]} for value in case["inputs"]],
        "outputs": [{"name": value["name"]} for value in case["outputs"]], "shapes": "static", "profile": None, "engine": None,
        "tolerance": {key: result[key] for key in ("atol", "rtol") if key in result}, "running": running, "metric": None,
        "model": "model.onnx", "external": False, "cases": [(name, "cases/case.npz")],
    }  # fmt: skip


def wrong(case: str, reason: str, outputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What must be wrong again, from the runner's words: `output 0 differs in 3 of 8 values, by up to 0.5`. Raises Odd."""
    found = re.match(r"output (\d+) ", reason)
    kind = next((kind for words, kind in _KINDS if words in reason), None)
    if kind is None or (found is None and kind != "missing"):
        msg = f"how it is wrong is not what a short script compares: {reason}"
        raise Odd(msg)
    place = int(found[1]) if found is not None else len(outputs) - 1
    return [{"case": case, "name": outputs[place]["name"], "wrong": [kind]}]
