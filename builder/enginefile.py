"""What an engine file is, and what it was built with: from its manifest if that is its own, else from its own header.

Nothing here loads an engine, unpacks an archive or runs a library. A file is opened once, must be a regular one, and a
bounded part of it is read by offset (enginefile_content.py); only its hash, for a manifest of the same size, takes it whole.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builder import (
    enginefile_flatbuffer,
    enginefile_manifest,
    enginefile_onnx,
    enginefile_openvino,
    enginefile_tensorflow,
    enginefile_tensorrt,
    enginefile_torch,
)
from builder.enginefile_content import Content, Damaged, Exhausted, Header, text
from builder.enginefile_manifest import Manifest, Unread
from builder.errors import UsageError

FORMATS: Mapping[str, str] = {
    "tensorrt-plan": "TensorRT plan",
    "tensorrt-rtx-plan": "TensorRT-RTX plan",
    "onnx": "ONNX model",
    "ort": "ONNX Runtime model (ORT format)",
    "openvino-blob": "OpenVINO compiled model (blob)",
    "openvino-ir": "OpenVINO IR",
    "tflite": "TensorFlow Lite model",
    "torchscript": "TorchScript archive",
    "pt2": "PyTorch exported program (.pt2)",
    "torch-save": "PyTorch checkpoint (torch.save)",
    "safetensors": "safetensors weights",
    "saved-model": "TensorFlow SavedModel",
    "frozen-graph": "TensorFlow frozen graph (GraphDef)",
    "zip": "zip archive",
}
_MATCHERS = (
    enginefile_tensorrt.match, enginefile_flatbuffer.match, enginefile_openvino.match, enginefile_torch.match,
    enginefile_onnx.match, enginefile_tensorflow.match,
)  # fmt: skip
"""Those with a magic number first: almost anything may be protobuf."""
_STARTS = {b"\x93NUMPY": "numpy", b"version https://git-lfs": "git-lfs", b"\x7fELF": "elf", b"\x89HDF": "hdf5"}
_WHAT = {
    "numpy": "a NumPy array", "elf": "a program or shared library", "hdf5": "an HDF5 file (Keras 2 keeps models in it)",
    "git-lfs": "a Git LFS pointer: the file itself was not fetched (`git lfs pull`)",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EngineFile:
    path: Path
    size: int
    """Bytes."""
    header: Header
    """With what the manifest adds, where the file says nothing itself."""
    manifest: Manifest | None
    notes: tuple[str, ...]


def read(path: Path) -> EngineFile:
    """Look at a file, or at the engine in a delivered folder or a SavedModel. Raises UsageError for what cannot be read, is no
    regular file, is empty, or is of no format known here."""
    path = _file(path)
    try:
        # Asked before it is opened: opening a device may already do something.
        regular = stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC) if regular else -1
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise UsageError(msg) from None
    if not regular:
        msg = f"{path}: not a regular file"
        raise UsageError(msg)
    try:
        status = os.fstat(descriptor)
        if status.st_size == 0:
            msg = f"{path}: empty (0 bytes)"
            raise UsageError(msg)
        header = _header(path, Content(descriptor, status.st_size))
        manifest = enginefile_manifest.beside(path, descriptor, status.st_size)
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise UsageError(msg) from None
    finally:
        os.close(descriptor)
    if header.format == "openvino-ir" and not path.with_suffix(".bin").is_file():
        header = replace(
            header, notes=(*header.notes, f"its weights are not beside it ({path.with_suffix('.bin').name})")
        )
    notes: tuple[str, ...] = ()
    if isinstance(manifest, Unread):
        notes, manifest = ((f"{manifest.because}; what follows is from the file's own header",), None)
    elif manifest is not None:
        header, notes = _joined(header, manifest)
    return EngineFile(path=path, size=status.st_size, header=header, manifest=manifest, notes=(*notes, *header.notes))


def with_manifest(file: EngineFile, data: dict[str, Any]) -> EngineFile:
    """The file as if `data`, which is known to describe just these bytes, were the manifest beside it."""
    manifest = enginefile_manifest.of(file.path.parent / enginefile_manifest.NAME, data)
    header, notes = _joined(file.header, manifest)
    return replace(file, header=header, manifest=manifest, notes=(*file.notes, *notes))


def as_dict(file: EngineFile) -> dict[str, Any]:
    """For `--json` and for people: what there is, unknown parts absent."""
    header, manifest = file.header, file.manifest
    data: dict[str, Any] = {
        "path": str(file.path), "bytes": file.size, "format": header.format, "library": header.library or None,
        "version": header.version or None, "details": dict(header.details),
        "compute_capabilities": list(header.capabilities) if header.capabilities is not None else None,
        "built_on": header.built_on or None, "platform": header.platform or None, "damage": header.damage or None,
        "manifest": {"path": str(manifest.path), "built": dict(manifest.built)} if manifest else None,
        "notes": list(file.notes),
    }  # fmt: skip
    return data


def _file(path: Path) -> Path:
    """The file itself: a folder stands for the engine in it."""
    try:
        if not path.is_dir():
            os.stat(path)  # noqa: PTH116 - its message for a loop of links, a missing file
            return path
        named = enginefile_manifest.file_of(path)
        if named:
            return path / named
        found = sorted(
            item for item in path.iterdir() if item.name.startswith("engine.") or item.name == "saved_model.pb"
        )
    except (OSError, ValueError) as error:
        msg = f"{text(str(path), 400)}: {getattr(error, 'strerror', None) or error}"
        raise UsageError(msg) from None
    if len(found) != 1:
        what = "several engines: name one" if found else "no engine: neither manifest.json, engine.* nor saved_model.pb"
        msg = f"{path}: a folder with {what}"
        raise UsageError(msg)
    return found[0]


def _header(path: Path, content: Content) -> Header:
    head = content.at(0, 64)
    start = next((_WHAT[name] for magic, name in _STARTS.items() if head.startswith(magic)), "")
    if not start:
        for matcher in _MATCHERS:
            try:
                found = matcher(content)
            except Damaged as error:
                found = Header(format=_FORMAT_OF[matcher](head), damage=str(error))
            except Exhausted:
                found = Header(format=_FORMAT_OF[matcher](head), damage="its header is larger than any honest one")
            if found is not None:
                return found
        start = f"begins with {head[:16].hex(' ')} ({text(head[:16])})"
        msg = f"{path}: of no format known here: {start}"
        raise UsageError(msg)
    msg = f"{path}: {start}"
    raise UsageError(msg)


_FORMAT_OF: Mapping[Any, Any] = {
    enginefile_tensorrt.match: lambda head: "tensorrt-rtx-plan" if head[:4] == b"vtrt" else "tensorrt-plan",
    enginefile_flatbuffer.match: lambda head: "ort" if head[4:8] == b"ORTM" else "tflite",
    enginefile_openvino.match: lambda head: "openvino-blob",
    enginefile_torch.match: lambda head: "zip",
    enginefile_onnx.match: lambda head: "onnx",
    enginefile_tensorflow.match: lambda head: "frozen-graph",
}


def _joined(header: Header, manifest: Manifest) -> tuple[Header, tuple[str, ...]]:
    """The header with what only the manifest knows. Where both speak and differ, the file is believed and it is said."""
    notes: list[str] = []
    if header.version and manifest.version and header.version != manifest.version:
        notes.append(f"the manifest says {manifest.library} {manifest.version}, the file itself {header.version}")
    capabilities = header.capabilities
    if manifest.capability and capabilities is None:
        capabilities = (manifest.capability,)
    elif manifest.capability and manifest.capability not in (capabilities or ()):
        said = ", ".join(capabilities or ()) or "none"
        notes.append(f"the manifest says compute capability {manifest.capability}, the file itself {said}")
    return (
        replace(
            header, library=header.library or manifest.library, version=header.version or manifest.version,
            capabilities=capabilities, platform=header.platform or manifest.platform,
        ),
        tuple(notes),
    )  # fmt: skip
