"""A small ONNX model with its cases, written without onnx or NumPy: y = Relu(x W) + b, x of [N, 4], y of [N, 3].

The field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), the format of .npy files
https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

from __future__ import annotations

import random
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path

INPUTS = [{"name": "x", "dtype": "float32", "shape": [1, 4]}]
OUTPUTS = [{"name": "y", "dtype": "float32", "shape": [1, 3]}]
_DRAW = random.Random(7)
WEIGHT = [[round(_DRAW.uniform(-1, 1), 3) for _ in range(3)] for _ in range(4)]
BIAS = [0.25, -0.5, 1.0]


def answer(x: Sequence[float]) -> list[float]:
    """What the model gives for one row."""
    return [max(0.0, sum(x[k] * WEIGHT[k][n] for k in range(4))) + BIAS[n] for n in range(3)]


def write(folder: Path) -> dict[str, Path]:
    """`model.onnx`, `broken.onnx` (cut off in its middle), `right.npz` and `wrong.npz` (a reference that is off by a third)."""
    x = [0.5, -1.0, 2.0, 0.125]
    y = answer(x)
    model = _model()
    files = {name: folder / name for name in ("model.onnx", "broken.onnx", "right.npz", "wrong.npz")}
    files["model.onnx"].write_bytes(model)
    files["broken.onnx"].write_bytes(model[: len(model) // 2])
    _npz(files["right.npz"], {"input_0": [x], "output_0": [y]})
    _npz(files["wrong.npz"], {"input_0": [x], "output_0": [[value * 1.33 + 0.33 for value in y]]})
    return files


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _tensor(name: str, dims: Sequence[int], values: Sequence[float]) -> bytes:
    raw = struct.pack(f"<{len(values)}f", *values)
    return b"".join(_number(1, dim) for dim in dims) + _number(2, 1) + _bytes(8, name) + _bytes(9, raw)


def _value(name: str, shape: Sequence[int]) -> bytes:
    dims = b"".join(_bytes(1, _number(1, size)) for size in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, 1) + _bytes(2, dims)))


def _node(operator: str, inputs: Sequence[str], output: str) -> bytes:
    return (
        b"".join(_bytes(1, name) for name in inputs)
        + _bytes(2, output)
        + _bytes(3, f"{operator}_0")
        + _bytes(4, operator)
    )


def _model() -> bytes:
    nodes = [_node("MatMul", ["x", "w"], "m"), _node("Relu", ["m"], "r"), _node("Add", ["r", "b"], "y")]
    weights = [_tensor("w", (4, 3), [value for row in WEIGHT for value in row]), _tensor("b", (3,), BIAS)]
    graph = b"".join(_bytes(1, node) for node in nodes) + _bytes(2, "contract")
    graph += b"".join(_bytes(5, weight) for weight in weights)
    graph += _bytes(11, _value("x", (1, 4))) + _bytes(12, _value("y", (1, 3)))
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, _bytes(1, "") + _number(2, 13))


def _npz(path: Path, arrays: dict[str, list[list[float]]]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, rows in arrays.items():
            header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(rows)}, {len(rows[0])}), }}"
            header += " " * (-(len(header) + 11) % 64) + "\n"
            data = b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)
            archive.writestr(
                f"{name}.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data
            )
