"""ONNX: `ModelProto` by its wire format (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), without its weights."""

from __future__ import annotations

from typing import Any

from builder.enginefile_content import Content, Damaged, Exhausted, Header, text
from builder.enginefile_protobuf import LENGTH, VARINT, Field, Walk, signed

_MODEL = {1: VARINT, 2: LENGTH, 3: LENGTH, 4: LENGTH, 5: VARINT, 6: LENGTH, 7: LENGTH, 8: LENGTH, 14: LENGTH, 20: LENGTH,
          25: LENGTH, 26: LENGTH}  # fmt: skip
_NAMES = {2: "producer", 3: "producer_version", 4: "domain"}
MAX_EXTERNAL = 16
MAX_OPSETS = 64
OPTIMISED = ("com.microsoft.nchwc", "com.ms.internal.nhwc")
"""Domains of ONNX Runtime's own optimiser: no exporter writes them."""


def match(content: Content) -> Header | None:
    """The header of an ONNX model, None if it is none. A model that is cut off is one, with its damage."""
    walk = Walk(content)
    details: dict[str, Any] = {}
    opsets: dict[str, int] = {}
    external: set[str] = set()
    damage, graph, count = "", None, 0
    notes: list[str] = []
    try:
        for field in walk.fields(0, content.size):
            count += 1
            if _MODEL.get(field.number, field.wire) != field.wire or (count == 1 and field.number not in _MODEL):
                return None
            if field.number == 1:
                details["ir_version"] = signed(field.value)
            elif field.number in _NAMES and field.value:
                details[_NAMES[field.number]] = text(walk.bytes(field))
            elif field.number == 7:
                graph = field
            elif field.number == 8:
                domain, version = _opset(walk, field)
                if len(opsets) == MAX_OPSETS:
                    raise Exhausted
                opsets[domain or "ai.onnx"] = version
    except Damaged as error:
        damage = str(error)
    except Exhausted:
        details["opset_import_complete"] = False
        notes.append("it has more fields than were read: opset imports may be missing")
    if not 1 <= details.get("ir_version", 0) <= 1000 or (graph is None and not opsets):
        return None
    details["opset_import"] = dict(sorted(opsets.items()))
    if not damage and not opsets and not notes:
        damage = "it imports no operator set, which an ONNX model must (IR version 3 and newer)"
    if graph is not None and not damage:
        try:
            _external(walk, graph, external)
        except Damaged as error:
            damage = f"in its graph: {error}"
        except Exhausted:
            notes.append("its graph has more fields than were read: files with weights may be missing in this list")
    if external:
        details["external_data"] = sorted(external)
        notes.append(f"its weights lie in other files, which must be beside it: {', '.join(sorted(external))}")
    if any(name in opsets for name in OPTIMISED):
        details["optimised_by"] = "onnxruntime"
    return Header(
        format="onnx", library="onnxruntime" if "optimised_by" in details else "", details=details, damage=damage,
        notes=tuple(notes),
    )  # fmt: skip


def _opset(walk: Walk, field: Field) -> tuple[str, int]:
    domain, version = "", 0
    for part in walk.fields(field.start, field.end):
        if part.number == 1 and part.wire == LENGTH:
            domain = text(walk.bytes(part), 100)
        elif part.number == 2 and part.wire == VARINT:
            version = signed(part.value)
    return domain, version


def _external(walk: Walk, graph: Field, found: set[str]) -> None:
    """Locations of the initializers' external data: GraphProto.initializer (5) with TensorProto.external_data (13)."""
    for tensor in walk.fields(graph.start, graph.end):
        if tensor.number != 5 or tensor.wire != LENGTH:
            continue
        for part in walk.fields(tensor.start, tensor.end):
            if part.number != 13 or part.wire != LENGTH:
                continue
            entry = {item.number: walk.bytes(item) for item in walk.fields(part.start, part.end) if item.wire == LENGTH}
            if entry.get(1) == b"location" and len(found) < MAX_EXTERNAL:
                found.add(text(entry.get(2, b"")))
