"""An ONNX file's inputs, outputs and external data, by its wire format (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto):
neither the onnx package nor the weights are read.

A tensor may say that its bytes are in another file. https://github.com/onnx/onnx/blob/main/docs/ExternalData.md: `location` is
relative to the folder of the model. Readers differ in how strictly they hold to that, so it is held here, before any of them
sees the model.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from builder.enginefile_content import Content, Damaged, Exhausted
from builder.enginefile_protobuf import LENGTH, VARINT, Field, Walk, signed
from builder.errors import UsageError
from builder.recipe_model import MAX_SHOWN, Dim, External, Model, Tensor, name

DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
    17: "float8_e4m3fn", 18: "float8_e4m3fnuz", 19: "float8_e5m2", 20: "float8_e5m2fnuz", 21: "uint4", 22: "int4",
    23: "float4_e2m1fn",
}  # fmt: skip
MAX_FIELDS = 20_000_000
BUDGET = 2 << 30
_OTHER_TYPES = {4: "a sequence", 5: "a map", 8: "a sparse tensor", 9: "an optional value"}
_DRIVE = re.compile(r"[A-Za-z]:")


def read(path: Path) -> Model:
    """Inputs (those that are no weights), outputs and external data. Raises UsageError for what is damaged or too large."""
    try:
        with path.open("rb") as file:
            content = Content(file.fileno(), os.fstat(file.fileno()).st_size, budget=BUDGET)
            return _Reader(content).model()
    except Damaged as error:
        msg = f"{path.name}: no ONNX model, or a damaged one: {error}"
        raise UsageError(msg) from None
    except Exhausted:
        msg = f"{path.name}: more nodes and tensors than can be looked at"
        raise UsageError(msg) from None
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise UsageError(msg) from None


def escapes(external: External, folder: Path) -> str:
    """Why a tensor's external data must not be read, or cannot be; "" when it lies in the model's own folder."""
    where = external.location
    parts = re.split(r"[/\\]", where)
    said = f"tensor {external.tensor!r} has its data in {where[:200]!r}"
    if not where or "\0" in where:
        return f"tensor {external.tensor!r} has external data and names no file for it"
    if where.startswith(("/", "\\")) or _DRIVE.match(where):
        return f"{said}: an absolute path; data must lie in the model's own folder"
    if ".." in parts:
        return f"{said}: it leads out of the model's folder"
    if "\\" in where:
        return f"{said}: write / between folders"
    at = folder
    for part in parts:
        at = at / part
        try:
            status = at.lstat()
        except (OSError, ValueError):
            return f"{said}: no such file beside the model"
        if stat.S_ISLNK(status.st_mode):
            return f"{said}: {part!r} is a symbolic link; copy the file itself there"
    if not stat.S_ISREG(status.st_mode):
        return f"{said}: not a regular file"
    end = external.offset + (external.length or 0)
    if external.offset < 0 or (external.length or 0) < 0 or end > status.st_size:
        return f"{said}: bytes {external.offset} to {end}, and the file has {status.st_size}"
    return ""


class _Reader:
    def __init__(self, content: Content) -> None:
        self.content = content
        self.walk = Walk(content, MAX_FIELDS)
        self.external: list[External] = []
        self.tables: dict[str, int] = {}
        """Initializer -> its first dimension."""
        self.highest: dict[str, int] = {}
        """What is read as an index -> the largest that the table has."""

    def fields(self, field: Field) -> Iterator[Field]:
        return self.walk.fields(field.start, field.end)

    def text(self, field: Field) -> str:
        return name(self.walk.bytes(field, 4096))

    def model(self) -> Model:
        graph: Field | None = None
        opsets: dict[str, int] = {}
        details: dict[str, Any] = {}
        for field in self.walk.fields(0, self.content.size):
            if (field.number, field.wire) == (1, VARINT):
                details["ir_version"] = signed(field.value)
            elif (field.number, field.wire) == (7, LENGTH):
                graph = field
            elif (field.number, field.wire) == (8, LENGTH):
                parts = {item.number: item for item in self.fields(field)}
                domain = self.text(parts[1]) if 1 in parts else ""
                opsets[domain or "ai.onnx"] = signed(parts[2].value) if 2 in parts else 0
            elif (field.number, field.wire) == (25, LENGTH):  # FunctionProto: nodes (7)
                self.nodes(field, 7, "", {})
            elif (field.number, field.wire) == (20, LENGTH):  # TrainingInfoProto: graphs (1, 2)
                for inner in self.fields(field):
                    if inner.number in (1, 2) and inner.wire == LENGTH:
                        self.graph(inner, "")
        if graph is None:
            msg = "it has no graph"
            raise Damaged(msg)
        inputs, outputs = self.graph(graph, "", top=True)
        details["opset_import"] = dict(sorted(opsets.items()))
        return Model(format="onnx", inputs=inputs, outputs=outputs, external=tuple(self.external), details=details)

    def graph(
        self, graph: Field, place: str, *, top: bool = False, depth: int = 0
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        if depth > 64:
            msg = "graphs in graphs, more than 64 deep"
            raise Damaged(msg)
        values: dict[int, list[Field]] = {11: [], 12: []}
        weights: set[str] = set()
        for field in self.fields(graph):
            if field.wire != LENGTH:
                continue
            if field.number == 5:
                found, size = self.tensor(field, place)
                weights.add(found)
                if top and size is not None:
                    self.tables[found] = size
            elif field.number == 15:  # SparseTensorProto: values (1), indices (2)
                for inner in self.fields(field):
                    if inner.number in (1, 2) and inner.wire == LENGTH:
                        weights.add(self.tensor(inner, place)[0])
            elif field.number in values and top:
                values[field.number].append(field)
        self.nodes(graph, 1, place, self.highest if top else {}, depth=depth)
        if not top:
            return (), ()
        inputs = [self.value(field) for field in values[11][:MAX_SHOWN]]
        return (
            tuple(item for item in inputs if item.name not in weights),
            tuple(self.value(field) for field in values[12][:MAX_SHOWN]),
        )

    def nodes(self, owner: Field, number: int, place: str, highest: dict[str, int], *, depth: int = 0) -> None:
        for node in self.fields(owner):
            if (node.number, node.wire) != (number, LENGTH):
                continue
            reads: list[str] = []
            operator = title = ""
            attributes: list[Field] = []
            for field in self.fields(node):
                if field.wire != LENGTH:
                    continue
                if field.number == 1:
                    reads.append(self.text(field))
                elif field.number == 2 and not title:
                    title = self.text(field)
                elif field.number == 3:
                    title = self.text(field) or title
                elif field.number == 4:
                    operator = self.text(field)
                elif field.number == 5:
                    attributes.append(field)
            axis = 0
            for attribute in attributes:
                axis = self.attribute(attribute, title or operator, depth) or axis
            if operator == "Gather" and len(reads) == 2 and axis == 0 and reads[0] in self.tables:
                most = self.tables[reads[0]] - 1
                highest[reads[1]] = min(most, highest.get(reads[1], most))

    def attribute(self, attribute: Field, node: str, depth: int) -> int:
        """Looks into the tensors and graphs of an attribute; the value of one named `axis`."""
        named, value = "", 0
        for field in self.fields(attribute):
            if (field.number, field.wire) == (1, LENGTH):
                named = self.text(field)
            elif (field.number, field.wire) == (3, VARINT):
                value = signed(field.value)
            elif field.number in (5, 10) and field.wire == LENGTH:
                self.tensor(field, node)
            elif field.number in (6, 11) and field.wire == LENGTH:
                self.graph(field, node, depth=depth + 1)
            elif field.number in (22, 23) and field.wire == LENGTH:
                for inner in self.fields(field):
                    if inner.number in (1, 2) and inner.wire == LENGTH:
                        self.tensor(inner, node)
        return value if named == "axis" else 0

    def tensor(self, field: Field, place: str) -> tuple[str, int | None]:
        """(name, first dimension) of a TensorProto; notes where its data is, when that is elsewhere."""
        found, first, entries, elsewhere = "", None, {}, False
        for part in self.fields(field):
            if part.number == 1 and first is None:
                first = signed(part.value) if part.wire == VARINT else self._first(part)
            elif (part.number, part.wire) == (8, LENGTH):
                found = self.text(part)
            elif (part.number, part.wire) == (14, VARINT):
                elsewhere = part.value == 1
            elif (part.number, part.wire) == (13, LENGTH):
                pair = {item.number: self.walk.bytes(item, 4096) for item in self.fields(part) if item.wire == LENGTH}
                entries[pair.get(1, b"")] = pair.get(2, b"")
        if elsewhere or entries:
            try:
                offset, length = int(entries.get(b"offset", b"0")), entries.get(b"length")
                self.external.append(
                    External(
                        tensor=found or f"of node {place}", location=entries.get(b"location", b"").decode("utf-8"),
                        offset=offset, length=int(length) if length is not None else None,
                    )
                )  # fmt: skip
            except ValueError:
                msg = f"tensor {found!r} says where its data is in words that are none"
                raise Damaged(msg) from None
        return found, first

    def _first(self, field: Field) -> int | None:
        """The first number of a packed list."""
        value = shift = 0
        for byte in self.content.at(field.start, min(10, field.end - field.start)):
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return signed(value)
        return None

    def value(self, field: Field) -> Tensor:
        """ValueInfoProto: name (1), type (2)."""
        found, dtype, note = "", "", ""
        shape: tuple[Dim, ...] | None = None
        for part in self.fields(field):
            if (part.number, part.wire) == (1, LENGTH):
                found = self.text(part)
            elif (part.number, part.wire) == (2, LENGTH):
                for kind in self.fields(part):
                    if (kind.number, kind.wire) == (1, LENGTH):
                        dtype, shape = self.tensor_type(kind)
                    elif kind.number in _OTHER_TYPES:
                        note = f"is {_OTHER_TYPES[kind.number]}, no tensor"
        return Tensor(name=found, dtype=dtype, shape=shape, highest=self.highest.get(found), note=note)

    def tensor_type(self, field: Field) -> tuple[str, tuple[Dim, ...] | None]:
        dtype = ""
        shape: tuple[Dim, ...] | None = None
        for part in self.fields(field):
            if (part.number, part.wire) == (1, VARINT):
                dtype = DTYPES.get(part.value, f"type {part.value}")
            elif (part.number, part.wire) == (2, LENGTH):
                shape = tuple(self.dim(dim) for dim in self.fields(part) if (dim.number, dim.wire) == (1, LENGTH))
        return dtype, shape

    def dim(self, field: Field) -> Dim:
        for part in self.fields(field):
            if (part.number, part.wire) == (1, VARINT):
                size = signed(part.value)
                return size if size >= 0 else None  # -1 is what some exporters write for a size that varies
            if (part.number, part.wire) == (2, LENGTH) and part.end > part.start:
                return self.text(part)
        return None
