"""`enginematrix recipe inspect PATH`: what a model file or folder says of itself, without loading it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builder import enginefile, recipe_onnx, recipe_tensorflow, recipe_weights, sources
from builder.errors import UsageError
from builder.recipe_model import Model, Tensor
from builder.recipe_source import ADVICE
from builder.store import file_sha256


@dataclass(frozen=True, kw_only=True)
class Inspected:
    path: Path
    """The file, or the folder of a SavedModel."""
    model: Model
    sha256: str
    """Of the file; of a folder that of all its files, as a source of kind `folder` wants it."""
    size: int
    """Bytes of all of it, files with external data included."""
    beside: Mapping[str, str]
    """Files with external data -> sha256, relative to the model."""
    problems: tuple[str, ...]
    """Why it cannot be used as it is."""
    notes: tuple[str, ...]


def inspect(path: Path) -> Inspected:
    """Raises UsageError for what cannot be read, is of no known format, is a pickle, or is damaged."""
    if path.is_dir() and not (path / "saved_model.pb").is_file():
        path = _in_folder(path)
    if path.name == "saved_model.pb" and path.is_file() and (path.parent / "variables").is_dir():
        path = path.parent
    if path.is_dir():
        model = recipe_tensorflow.read_folder(path)
        try:
            sha256 = sources.tree_sha256(path)
        except sources.SourceError as error:
            msg = f"{path}: {error}"
            raise UsageError(msg) from error
        size = sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
        return Inspected(path=path, model=model, sha256=sha256, size=size, beside={}, problems=model.problems, notes=())
    if path.is_file() and sources.is_pickle(path):
        msg = f"{path.name}: a pickle, and none is ever loaded or looked into: {ADVICE}"
        raise UsageError(msg)
    found_notes: tuple[str, ...]
    if path.suffix == ".pb" and path.is_file():
        model, found_notes, damage = recipe_tensorflow.read(path), (), ""
    else:
        file = enginefile.read(path)
        path = file.path
        model, found_notes, damage = _model(file), file.notes, file.header.damage
    problems = [f"damaged: {damage}"] if damage else []
    problems += model.problems
    problems += [why for item in model.external if (why := recipe_onnx.escapes(item, path.parent))]
    beside: dict[str, str] = {}
    if not problems:
        for location in sorted({item.location for item in model.external}):
            beside[location] = file_sha256(path.parent / location)
    size = path.stat().st_size + sum((path.parent / name).stat().st_size for name in beside)
    return Inspected(
        path=path, model=model, sha256=file_sha256(path), size=size, beside=beside, problems=tuple(problems),
        notes=tuple(note for note in found_notes if note),
    )  # fmt: skip


def _in_folder(folder: Path) -> Path:
    """The one model of a folder."""
    found = sorted(folder.glob("*.onnx")) or sorted(
        item for item in folder.glob("*") if item.suffix in (".pb", ".tflite", ".safetensors", ".pt2", ".pt")
    )
    if len(found) == 1:
        return found[0]
    if not found:
        return folder  # its own reader says what is missing
    msg = f"{folder}: several models: name one of {', '.join(item.name for item in found[:8])}"
    raise UsageError(msg)


def _model(file: enginefile.EngineFile) -> Model:
    kind = file.header.format
    if kind == "onnx":
        return recipe_onnx.read(file.path)
    if kind in ("saved-model", "frozen-graph"):
        return recipe_tensorflow.read(file.path)
    if kind == "tflite":
        return recipe_weights.tflite(file.path)
    if kind == "safetensors":
        return recipe_weights.safetensors(file.path)
    if kind in ("torchscript", "pt2", "torch-save"):
        model = recipe_weights.archive(file.path, kind)
        return replace(model, details={**file.header.details, **model.details})
    msg = f"{file.path.name}: {enginefile.FORMATS[kind]}; `enginematrix check` tells of engines, `recipe inspect` of models"
    raise UsageError(msg)


def as_dict(found: Inspected) -> dict[str, Any]:
    """For `--json`."""
    model = found.model

    def listed(tensors: tuple[Tensor, ...] | None) -> list[dict[str, Any]] | None:
        return None if tensors is None else [item.as_dict() for item in tensors]

    return {
        "path": str(found.path), "format": model.format, "sha256": found.sha256, "bytes": found.size,
        "inputs": listed(model.inputs), "outputs": listed(model.outputs), "weights": listed(model.weights),
        "signatures": {name: {"inputs": listed(ins), "outputs": listed(outs)} for name, (ins, outs) in model.signatures.items()},
        "external": [
            {"tensor": item.tensor, "file": item.location, "offset": item.offset, "bytes": item.length} for item in model.external
        ],
        "data-files": dict(found.beside), "details": dict(model.details), "unknown": model.unknown or None,
        "problems": list(found.problems), "notes": list(found.notes),
    }  # fmt: skip


def lines(found: Inspected, limit: int = 40) -> list[str]:
    """For people."""
    model = found.model
    out = [f"{found.path.name}: {enginefile.FORMATS.get(model.format, model.format)}, {found.size} bytes"]
    out.append(f"  sha256 {found.sha256}" + (" (of all its files)" if found.path.is_dir() else ""))
    out += [
        f"  {key.replace('_', ' ')}: {_said(value)}" for key, value in model.details.items() if value not in ("", None)
    ]
    for title, tensors in (("inputs", model.inputs), ("outputs", model.outputs), ("weights", model.weights)):
        if tensors is None:
            continue
        out.append(f"  {title}:" + ("" if tensors else " none"))
        out += [f"    {shown(item)}" for item in tensors[:limit]]
        if len(tensors) > limit:
            out.append(f"    ... and {len(tensors) - limit} more (--json has all)")
    others = [title for title in model.signatures if title != model.details.get("signature")]
    if others:
        out.append(f"  other signatures: {', '.join(sorted(others))}")
    for name, sha256 in found.beside.items():
        count = sum(item.location == name for item in model.external)
        out.append(f"  external data: {name}, of {count} tensors, sha256 {sha256}")
    if model.unknown:
        out.append(f"  not known without loading it: {model.unknown}")
    out += [f"  note: {note}" for note in found.notes]
    out += [f"  problem: {problem}" for problem in found.problems]
    return out


def shown(tensor: Tensor) -> str:
    shape = (
        "shape not said"
        if tensor.shape is None
        else "[" + ", ".join("?" if d is None else str(d) for d in tensor.shape) + "]"
    )
    parts = [tensor.name, tensor.dtype or "type not said", shape]
    if tensor.highest is not None:
        parts.append(f"an index up to {tensor.highest}")
    return "  ".join(parts + ([tensor.note] if tensor.note else []))


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(_said(item) for item in value) if isinstance(value, list) else str(value)
