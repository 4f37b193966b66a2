"""What a model file says of itself without being loaded: formats, inputs and outputs, weights, and what cannot be known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from builder.enginefile_content import text

Dim: TypeAlias = int | str | None
"""A size, the name of one that varies, or None: it varies and has no name."""
MAX_SHOWN = 20_000
"""Tensors of one file that are told at most."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    name: str
    dtype: str = ""
    """As NumPy names it ("float32"; also "bfloat16", "string"); '' where the file does not say."""
    shape: tuple[Dim, ...] | None = None
    """None: the file does not say how many dimensions it has."""
    highest: int | None = None
    """The largest value that makes sense, for an input that is an index into a table; None: not known."""
    note: str = ""
    """Why it can be no input of a recipe, or what else must be known of it."""

    def as_dict(self) -> dict[str, Any]:
        shape = list(self.shape) if self.shape is not None else None
        out = {"name": self.name, "dtype": self.dtype or None, "shape": shape}
        return out | ({"highest": self.highest} if self.highest is not None else {}) | (
            {"note": self.note} if self.note else {}
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class External:
    """Where an ONNX tensor's bytes are, when they are in another file."""

    tensor: str
    location: str
    offset: int = 0
    length: int | None = None
    """Bytes; None: what its type and dimensions take."""


@dataclass(frozen=True, kw_only=True)
class Model:
    format: str
    """Key of `enginefile.FORMATS`, or "folder"."""
    inputs: tuple[Tensor, ...] | None = None
    """None: cannot be known without loading it (`unknown` says why)."""
    outputs: tuple[Tensor, ...] | None = None
    weights: tuple[Tensor, ...] | None = None
    """Tensors by name, of a file that is weights; None where that is no question."""
    external: tuple[External, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    signatures: Mapping[str, tuple[tuple[Tensor, ...], tuple[Tensor, ...]]] = field(default_factory=dict)
    """Of a SavedModel: signature -> (inputs, outputs)."""
    unknown: str = ""
    """What cannot be known without loading it, and why."""
    problems: tuple[str, ...] = ()
    """Why it cannot be used as it is."""


def name(data: bytes) -> str:
    """A name in a file, made fit for printing."""
    return text(data, 400)
