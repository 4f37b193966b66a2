"""What a delivered folder's manifest.json says of its engine (builder/manifest.py writes it), held against the file."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.enginefile_content import text

NAME = "manifest.json"
MAX_BYTES = 8 << 20
_MODULES = {
    "tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx", "tensorrt_rtx_bindings": "tensorrt-rtx", "openvino": "openvino",
    "onnxruntime": "onnxruntime",
}  # fmt: skip
"""Module of the library that built the engine -> its name here."""
_LOADERS = {"ld-linux-x86-64.so.2": "linux-x86_64", "ld-linux-aarch64.so.1": "linux-aarch64"}
"""Dynamic loader among the libraries that were loaded -> platform."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is of use here; empty where the manifest does not say."""

    path: Path
    library: str
    version: str
    capability: str
    platform: str
    built: Mapping[str, Any]
    """When, by which stack and from what: for people."""
    flags: tuple[str, ...] | None
    """The builder's flags (TensorRT), None where it does not say."""
    sha256: str = ""
    """Of the file that it describes."""


@dataclass(frozen=True, kw_only=True)
class Unread:
    """Why no manifest can be taken as the file's own."""

    because: str


def file_of(folder: Path) -> str | None:
    """The name of the engine that a folder's manifest describes; None where there is none that can be read."""
    data = _load(folder / NAME)
    name = _get(data, "engine", "file") if isinstance(data, dict) else None
    return name if isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0") else None


def beside(file: Path, descriptor: int, size: int) -> Manifest | Unread | None:
    """The manifest beside an open file if it describes just these bytes; None where there is no manifest, or one of another
    file. Reads the whole file, in pieces, when its size is the manifest's."""
    path = file.parent / NAME
    if not os.path.lexists(path):
        return None
    data = _load(path)
    if isinstance(data, str):
        return Unread(because=f"{path} {data}")
    engine = _get(data, "engine")
    if not isinstance(engine, dict) or not isinstance(engine.get("sha256"), str) or data.get("schema") != 1:
        return Unread(because=f"{path} is no manifest of version 1")
    if engine.get("file") != file.name:
        return None
    if engine.get("bytes") != size:
        said = text(str(engine.get("bytes")), 40)
        return Unread(because=f"{path} describes another file: it says {said} bytes, this one has {size}")
    digest = _sha256(descriptor)
    if digest != engine["sha256"].lower():
        said = text(engine["sha256"], 64)
        return Unread(because=f"{path} describes another file: its sha256 is {digest}, the manifest says {said}")
    return of(path, data)


def of(path: Path, data: dict[str, Any]) -> Manifest:
    """What a manifest of version 1 says that describes the file it lies beside."""
    modules = _get(data, "built", "modules")
    library = version = ""
    for module, name in _MODULES.items():
        said = modules.get(module) if isinstance(modules, dict) else None
        if isinstance(said, str):
            # OpenVINO calls itself 2024.3.0-16041-1e3b88e4e3f-releases/2024/3.
            library, version = name, text(said.split("-", 1)[0], 64)
    capability = _get(data, "loads", "compute_capability")
    libraries = _get(data, "built", "loaded", "libraries")
    names = {item.get("name") for item in libraries if isinstance(item, dict)} if isinstance(libraries, list) else set()
    flags = _get(data, "found", "flags")
    built = {
        "cell": _said(_get(data, "cell", "slug")),
        "when": _said(_get(data, "built", "when")),
        "stack": _said(_get(data, "built", "stack", "id")),
        "model": _said(_get(data, "built", "from", "model")),
        "options": _options(_get(data, "built", "from", "options")),
        "outcome": _said(_get(data, "outcome", "status")),
    }
    return Manifest(
        path=path, library=library, version=version, capability=text(capability, 16) if isinstance(capability, str) else "",
        platform=next((platform for loader, platform in _LOADERS.items() if loader in names), ""),
        built={key: value for key, value in built.items() if value},
        sha256=_said(_get(data, "engine", "sha256")).lower(),
        flags=tuple(text(flag, 40) for flag in flags if isinstance(flag, str)) if isinstance(flags, list) else None,
    )  # fmt: skip


def _said(value: Any) -> str:
    return text(value) if isinstance(value, str) else ""


def _options(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {text(key, 40): text(item, 40) for key, item in list(value.items())[:32] if isinstance(item, str)}


def _get(data: Any, *keys: str) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _load(path: Path) -> dict[str, Any] | str:
    """The object in a regular file of a sane size, or why there is none."""
    try:
        # Asked before it is opened: opening a device may already do something.
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
            return "is no regular file"
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if len(content) > MAX_BYTES:
        return f"is larger than {MAX_BYTES} bytes"
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return "is no JSON"
    return data if isinstance(data, dict) else "is no JSON object"


def _sha256(descriptor: int) -> str:
    digest, offset = hashlib.sha256(), 0
    while piece := os.pread(descriptor, 1 << 20, offset):
        digest.update(piece)
        offset += len(piece)
    return digest.hexdigest()
