"""Small ONNX files, written without the `onnx` package, by the field numbers of onnx.proto."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def write(
    path: Path,
    nodes: Sequence[tuple[str, str, Sequence[str], Sequence[str]]],
    *,
    shape: Sequence[int | str] = (2, 3),
    weights: Sequence[str] = (),
    element: int = 1,
    opset: int = 13,
    typed: bool = True,
) -> Path:
    """A model x -> y of these nodes (operator, name, inputs, outputs); `weights` are float scalars. Without `typed`, y has
    no type."""
    from worker.subgraph import _typed, field

    graph = b"".join(
        field(1, b"".join([
            *(field(1, name.encode()) for name in inputs), *(field(2, name.encode()) for name in outputs),
            field(3, name.encode()), field(4, operator.encode()),
        ]))
        for operator, name, inputs, outputs in nodes
    )  # fmt: skip
    graph += field(2, b"graph")
    graph += b"".join(field(5, field(2, 1) + field(8, name.encode()) + field(9, b"\0\0\x80\x3f")) for name in weights)
    graph += field(11, _typed("x", element, list(shape)))
    graph += field(12, _typed("y", element, list(shape)) if typed else field(1, b"y"))
    path.write_bytes(field(1, 8) + field(8, field(2, opset)) + field(7, graph))
    return path
