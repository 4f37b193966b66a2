"""`source:` of recipe.yaml: where a model comes from. Everything that an installer, a server or a file system would read as
something else is refused here, with its place, before anything reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, get_args
from urllib.parse import urlsplit

from packaging.version import InvalidVersion, Version

from builder import nodes
from builder.nodes import Text
from builder.section import Section
from builder.values import Source, SourceKind

KEYS = ("kind", "name", "version", "revision", "sha256", "licence", "entry", "files", "data-files", "limit", "arguments",
        "package")  # fmt: skip
KINDS = (*get_args(SourceKind), "callable")
_ALLOWED: Mapping[str, tuple[str, ...]] = {
    "package": ("version", "entry"),
    "url": ("sha256", "data-files", "limit"),
    "file": ("sha256", "data-files"),
    "folder": ("sha256", "entry"),
    "hub": ("revision", "files", "entry", "limit"),
    "callable": ("package", "version", "arguments"),
}
PICKLES = (".pkl", ".pickle", ".joblib", ".dill")
"""Suffixes of what is a pickle and nothing else: reading it runs whatever code its writer put there."""
WEIGHTS = (".safetensors", ".pth", ".bin", ".ckpt", ".npz", ".h5", ".index")
"""Suffixes of what is weights alone: only a script knows the model that they belong to."""
ADVICE = "loading one can run any code; convert weights to .safetensors (safetensors.torch.save_file), a model to ONNX"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PACKAGE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,120}")
_CALLABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def read(top: Section, folder: Path) -> Source | None:
    """The source to obtain, None where there is none: a callable beside the recipe, or an error that was noted."""
    if "source" not in top:
        return None
    section = Section(top.source, top.get("source"), KEYS, "source")
    kind = section.choice("kind", KINDS, required=True)
    name, version, sha256 = section.text("name", required=True), _quoted(section, "version"), _quoted(section, "sha256")
    if "sha256" in _ALLOWED.get(kind, ()) and section.ok and not _SHA256.fullmatch(sha256):
        section.error("sha256", f"a source of kind {kind!r} needs its sha256: 64 hexadecimal digits")
    for key in section.node.keys:
        allowed = ("kind", "name", "licence", *_ALLOWED.get(kind, KEYS), *(("version",) if kind == "url" else ()))
        if key in KEYS and key not in allowed:
            section.error(key, f"a source of kind {kind!r} has no {key!r}")
    entry = section.text("entry")
    if entry and not plain(entry):
        section.error("entry", f"{entry!r} is no path in what is obtained")
    if kind == "callable":
        return _callable(section, name, version, folder)
    if kind == "package":
        _package(section, "name", name, version)
    if kind == "url" and name and not safe(name):
        section.error("name", "an address must begin with https://")
    if kind in ("file", "folder") and name:
        inside(section, "name", folder, name, directory=kind == "folder")
    revision, patterns = _hub(section, name) if kind == "hub" else ("", ())
    beside = _beside(section, folder if kind == "file" else None)
    for key, text in (("name", urlsplit(name).path if kind == "url" and safe(name) else name), ("entry", entry)):
        if text.lower().endswith(PICKLES):
            section.error(key, f"{PurePosixPath(text).name!r} is a pickle", ADVICE)
    for literal in get_args(SourceKind):
        if kind == literal:
            return Source(
                kind=literal, name=name, version=revision or version, sha256=sha256, licence=section.text("licence"),
                entry=entry, beside=beside, patterns=patterns, limit=section.size("limit") or Source.limit,
            )  # fmt: skip
    return None


def is_model(data: Mapping[str, Any], source: Source | None) -> bool:
    """Whether an exporter can take what is obtained as the model itself, so that no script is needed."""
    declared = data.get("source")
    if isinstance(declared, dict) and declared.get("kind") == "callable":
        return True
    if source is None:
        return False
    name = source.entry or ("" if source.kind in ("package", "hub") else source.name)
    return bool(name) and not name.lower().endswith(WEIGHTS)


def plain(text: str) -> bool:
    """Whether a text is a relative path of plain names, which leads nowhere else on any system."""
    parts = text.split("/")
    return not re.search(r"[\\\0:*?\"<>|]|^[~ ]", text) and all(part not in ("", ".", "..") for part in parts)


def inside(section: Section, key: str, folder: Path, text: str, *, directory: bool = False) -> None:
    """A file (or folder) named by a recipe lies in its folder, by name and after following links."""
    path = folder / text
    what = "folder" if directory else "file"
    if Path(text).is_absolute() or ".." in Path(text).parts or "\\" in text or "\0" in text:
        section.error(key, f"{text!r} leads out of the recipe's folder", "name a file beside recipe.yaml")
    elif not path.resolve().is_relative_to(folder.resolve()):
        section.error(key, f"{text!r} is a link that leads out of the recipe's folder", "copy the file there")
    elif not (path.is_dir() if directory else path.is_file()):
        section.error(key, f"no {what} {text!r} beside recipe.yaml")


def safe(address: str) -> bool:
    """Whether nobody on the way can change what comes from there (its hash is checked besides)."""
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK))


def _quoted(section: Section, key: str) -> str:
    """A text that must not look like a number, as a version may."""
    node = section.get(key)
    if isinstance(node, Text) and node.plain and nodes.altered(node.value):
        section.error(key, f"{node.value} is read as {nodes.altered(node.value)}", f'quote it: "{node.value}"')
        return ""
    return section.text(key)


def _package(section: Section, key: str, name: str, version: str) -> None:
    """Both become a line for the installer, which must not read anything else into it."""
    if name and not _PACKAGE.fullmatch(name):
        section.error(key, f"{name!r} is no package's name: letters, digits, '.', '_' and '-' only")
    if not version:
        if section.get("version") is None:
            section.missing("version")
        return
    try:
        Version(version)
    except InvalidVersion:
        section.error("version", f"{version!r} is not a version; write one such as 1.2.0")


def _hub(section: Section, name: str) -> tuple[str, tuple[str, ...]]:
    if name and (not _REPOSITORY.fullmatch(name) or "--" in name or ".." in name):
        section.error("name", f"{name!r} is no repository: write owner/name")
    revision = _quoted(section, "revision")
    if not revision and section.get("revision") is None:
        section.missing("revision", "a branch, a tag or a commit; the lock pins which commit it is")
    elif revision and (not _REVISION.fullmatch(revision) or ".." in revision):
        section.error("revision", f"{revision!r} is no branch, tag or commit")
    if "files" not in section:
        section.missing("files", "which files: [model.safetensors, config.json], with wildcards")
    patterns = []
    for item in section.values("files", None):
        if "," in item.value or not plain(item.value.replace("*", "x").replace("?", "x")):
            section.source.error(item.where, f"{item.value!r} is no path in a repository")
        elif item.value.lower().endswith(PICKLES):
            section.source.error(item.where, f"{item.value!r} is a pickle", ADVICE)
        else:
            patterns.append(item.value)
    return revision, tuple(patterns)


def _beside(section: Section, folder: Path | None) -> dict[str, str]:
    """`data-files`, which are named as the model names them: relative to it."""
    out = {}
    node = section.get("data-files")
    if node is None:
        return {}
    if not isinstance(node, nodes.Map):
        section.error("data-files", "'data-files' must be a mapping of file name to sha256")
        return {}
    for name, value in node.items.items():
        text = value.value if isinstance(value, Text) else ""
        if not plain(name):
            section.source.error(node.keys[name], f"{name!r} is no path beside the model")
        elif not _SHA256.fullmatch(text):
            section.source.error(value.where, f"{name!r} needs its sha256: 64 hexadecimal digits")
        else:
            out[name] = text
            if folder is not None:
                inside(section, "data-files", folder, str(PurePosixPath(section.text("name")).parent / name))
    return out


def _callable(section: Section, name: str, version: str, folder: Path) -> Source | None:
    """`package.module:function`, of a module beside the recipe, of the exporter stack, or of a package taken as data."""
    if name and not _CALLABLE.fullmatch(name):
        section.error("name", f"{name!r} is no callable: write module:function, or package.module:Class")
    if "arguments" in section and not isinstance(section.get("arguments"), nodes.Map):
        section.error("arguments", "'arguments' must be a mapping of keyword to value")
    if "package" not in section:
        if version:
            section.error("version", "a version needs the package that it is of: package: name")
        return None
    package = section.text("package", required=True)
    _package(section, "package", package, version)
    return Source(kind="package", name=package, version=version, licence=section.text("licence"))
