"""Flatbuffers: ONNX Runtime's ORT format (identifier ORTM) and TensorFlow Lite (TFL3).

https://flatbuffers.dev/internals/, onnxruntime/core/flatbuffers/schema/ort.fbs (InferenceSession: field 0 is the version of
the format, as text), tensorflow/lite/schema/schema.fbs (Model: 0 version, 3 description, 4 buffers, 6 metadata).
"""

from __future__ import annotations

from typing import Any

from builder.enginefile_content import Content, Damaged, Header, text

MAX_METADATA = 64


def match(content: Content) -> Header | None:
    """The header of an ORT or TFLite file, None if it is neither. Raises Damaged."""
    identifier = content.at(4, 4)
    if identifier == b"ORTM":
        root = content.number("<I", 0)
        version = string(content, field(content, root, 0))
        damage = "" if version else "it says no version of its format"
        return Header(format="ort", library="onnxruntime", details={"format_version": text(version, 20)}, damage=damage)
    if identifier == b"TFL3":
        return _tflite(content)
    return None


def _tflite(content: Content) -> Header:
    root = content.number("<I", 0)
    details: dict[str, Any] = {}
    at = field(content, root, 0)
    details["schema_version"] = content.number("<I", at) if at else 0
    description = string(content, field(content, root, 3))
    if description:
        details["description"] = text(description)
    runtime = _minimum_runtime(content, root)
    if runtime:
        details["min_runtime_version"] = runtime
    return Header(format="tflite", library="tensorflow", details=details)


def _minimum_runtime(content: Content, root: int) -> str:
    """The buffer that the metadata `min_runtime_version` names, '' if there is none."""
    metadata, buffers = vector(content, field(content, root, 6)), vector(content, field(content, root, 4))
    for index in range(min(metadata[1], MAX_METADATA)):
        entry = follow(content, metadata[0] + 4 * index)
        if string(content, field(content, entry, 0)) != b"min_runtime_version":
            continue
        at = field(content, entry, 1)
        number = content.number("<I", at) if at else 0
        if number >= buffers[1]:
            break
        start, length = vector(content, field(content, follow(content, buffers[0] + 4 * number), 0))
        return text(content.at(start, min(length, 32)).rstrip(b"\0"), 32)
    return ""


def field(content: Content, table: int, index: int) -> int:
    """Where field `index` of the table is, 0 if it is absent."""
    vtable = table - content.number("<i", table)
    if not 0 <= vtable < content.size:
        msg = f"the table at byte {table} points out of the file"
        raise Damaged(msg)
    if 4 + 2 * index + 2 > content.number("<H", vtable):
        return 0
    offset = content.number("<H", vtable + 4 + 2 * index)
    return table + offset if offset else 0


def follow(content: Content, at: int) -> int:
    return at + content.number("<I", at)


def vector(content: Content, at: int) -> tuple[int, int]:
    """(where the elements begin, how many it says)."""
    if not at:
        return 0, 0
    start = follow(content, at)
    return start + 4, content.number("<I", start)


def string(content: Content, at: int, limit: int = 200) -> bytes:
    start, length = vector(content, at)
    if start + length > content.size:
        msg = f"the text at byte {start} reaches past the end"
        raise Damaged(msg)
    return content.at(start, min(length, limit))
