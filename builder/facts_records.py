"""The catalog's files as typed records. A file is read once, when something asks for one of its tables.

Every record has sources and a place; a key that its table does not have, a value of the wrong form and a record without a
source are SpecErrors. What a column means is written at the head of its file.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from builder import facts, nodes, versions
from builder.errors import SpecError, SpecErrors
from builder.nodes import Source
from builder.section import NAME, VALUE, Section
from builder.values import Where

VERSION = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}){0,4}")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}(-[0-9]{2})?")
PRECISIONS = ("tf32", "fp16", "bf16", "int8", "fp8", "fp4")
KINDS = ("geforce", "workstation", "datacenter", "jetson")
DESIGNATIONS = ("long-term-support", "production", "new-feature", "end-of-life")


def _version(row: Section, key: str) -> str:
    text = row.text(key)
    if text and not VERSION.fullmatch(text):
        row.error(key, f"{text!r} is not a version of {key!r}")
        return ""
    return text


def _versions(row: Section, key: str) -> tuple[str, ...]:
    return tuple(item.value for item in row.values(key, VERSION))


def _date(row: Section, key: str) -> str:
    text = row.text(key)
    if text and not DATE.fullmatch(text):
        row.error(key, f"{text!r} is not a date", "write 2026-11 or 2026-11-20")
        return ""
    return text


def _texts(row: Section, key: str) -> tuple[str, ...]:
    return tuple(item.value for item in row.values(key, None))


def _choice(*allowed: str) -> Callable[[Section, str], str]:
    return lambda row, key: row.choice(key, allowed)


def _choices(*allowed: str) -> Callable[[Section, str], tuple[str, ...]]:
    return lambda row, key: row.choices(key, allowed)


def _number(row: Section, key: str) -> int:
    return row.integer(key, 0, least=1)


def _text(row: Section, key: str) -> str:
    return row.text(key)


def _specifier(row: Section, key: str) -> str:
    text = row.text(key)
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        row.error(key, f"{text!r} is no version specifier", "write >=1.21.6,<2")
        return ""
    return text


def _flag(row: Section, key: str) -> bool:
    return row.boolean(key, False)


def column(read: Callable[[Section, str], Any], *, required: bool = False) -> Any:
    """A field of a record that is read by `read`; its key is the field's name with '-' for '_'. Empty when absent."""
    return dataclasses.field(metadata={"read": read, "required": required})


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What every record has. `conflict`: how sources disagree; `doubt`: why a value may be wrong."""

    key: str
    note: str
    conflict: str
    doubt: str
    inferred: tuple[str, ...]
    sources: tuple[str, ...]
    where: Where


@dataclass(frozen=True, kw_only=True)
class Toolkit(Entry):
    driver: str = column(_version, required=True)


@dataclass(frozen=True, kw_only=True)
class MinorVersions(Entry):
    driver: str = column(_version, required=True)
    until: str = column(_version)


@dataclass(frozen=True, kw_only=True)
class Minimum(Entry):
    driver: str = column(_version, required=True)


@dataclass(frozen=True, kw_only=True)
class Branch(Entry):
    designation: str = column(_choice(*DESIGNATIONS), required=True)
    end: str = column(_date)
    cuda: str = column(_version)


@dataclass(frozen=True, kw_only=True)
class Forward(Entry):
    cuda: str = column(_version, required=True)
    accepted: tuple[str, ...] = column(_versions, required=True)
    rejected: tuple[str, ...] = column(_versions)


@dataclass(frozen=True, kw_only=True)
class CudaImage(Entry):
    branches: tuple[str, ...] = column(_versions, required=True)


@dataclass(frozen=True, kw_only=True)
class CompatPackage(Entry):
    kinds: tuple[str, ...] = column(_choices(*KINDS), required=True)
    cuda: str = column(_version, required=True)


@dataclass(frozen=True, kw_only=True)
class Capability(Entry):
    family: str = column(_text, required=True)
    cuda_from: str = column(_version, required=True)
    cuda_until: str = column(_version)
    fast: tuple[str, ...] = column(_choices(*PRECISIONS))
    absent: tuple[str, ...] = column(_choices(*PRECISIONS))
    dla: bool = column(_flag)


@dataclass(frozen=True, kw_only=True)
class Gpu(Entry):
    name: str = column(_text, required=True)
    alias: tuple[str, ...] = column(_texts)
    kind: str = column(_choice(*KINDS), required=True)
    capability: str = column(_version, required=True)
    memory: tuple[str, ...] = column(_versions)
    """GiB as marketed, one item for each variant that is sold."""
    shared: bool = column(_flag)


@dataclass(frozen=True, kw_only=True)
class TensorRT(Entry):
    patch: str = column(_version, required=True)
    date: str = column(_date)
    cuda: tuple[str, ...] = column(_versions)
    built: tuple[str, ...] = column(_versions)
    majors: tuple[str, ...] = column(_versions)
    python: tuple[str, ...] = column(_versions)
    cudnn: str = column(_text)
    opset_from: int = column(_number)
    opset_until: int = column(_number)
    capability_from: str = column(_version, required=True)
    capability_until: str = column(_version)
    also: tuple[str, ...] = column(_versions)


@dataclass(frozen=True, kw_only=True)
class TensorRTRTX(Entry):
    patch: str = column(_version, required=True)
    cuda: tuple[str, ...] = column(_versions)
    majors: tuple[str, ...] = column(_versions)
    python: tuple[str, ...] = column(_versions)
    opset_from: int = column(_number)
    opset_until: int = column(_number)
    capabilities: tuple[str, ...] = column(_versions)


@dataclass(frozen=True, kw_only=True)
class Onnx(Entry):
    date: str = column(_date)
    ir: int = column(_number)
    opset: int = column(_number, required=True)
    ml: int = column(_number)


@dataclass(frozen=True, kw_only=True)
class Ir(Entry):
    date: str = column(_date)
    adds: str = column(_text)


@dataclass(frozen=True, kw_only=True)
class OnnxRuntime(Entry):
    onnx: str = column(_version)
    opset: int = column(_number)
    ir: int = column(_number)
    ml: int = column(_number)
    python: tuple[str, ...] = column(_versions)
    numpy: tuple[str, ...] = column(_versions)
    """Major versions of NumPy that its wheels work with."""
    cuda: str = column(_version)
    cuda_other: str = column(_version)
    cudnn: str = column(_version)
    tensorrt: str = column(_version)
    openvino: tuple[str, ...] = column(_versions)


@dataclass(frozen=True, kw_only=True)
class OpenVINO(Entry):
    date: str = column(_date)
    python: tuple[str, ...] = column(_versions, required=True)
    glibc: str = column(_text)
    operations: int = column(_number)
    opset: int = column(_number)
    lts: bool = column(_flag)


@dataclass(frozen=True, kw_only=True)
class TensorFlow(Entry):
    python: tuple[str, ...] = column(_versions, required=True)
    numpy: tuple[str, ...] = column(_versions)
    """Major versions of NumPy that its wheels work with."""
    cuda: str = column(_version)
    cudnn: str = column(_version)
    tensorrt: str = column(_version)


@dataclass(frozen=True, kw_only=True)
class Tf2onnx(Entry):
    date: str = column(_date)
    opset: int = column(_number, required=True)
    opset_default: int = column(_number)
    soft: bool = column(_flag)
    """Opsets above `opset` are not refused."""
    ir_by_opset: bool = column(_flag)
    """It writes the IR version that came with the opset, and at least 4 from opset 7 on."""
    python: tuple[str, ...] = column(_versions)
    tensorflow: str = column(_text)


@dataclass(frozen=True, kw_only=True)
class PyTorch(Entry):
    python: tuple[str, ...] = column(_versions, required=True)
    numpy: tuple[str, ...] = column(_versions)
    """Major versions of NumPy that its wheels work with."""
    cuda: tuple[str, ...] = column(_versions)
    index_cuda: str = column(_version)
    """The one of them that the wheels on PyPI itself are of."""


@dataclass(frozen=True, kw_only=True)
class Exporter(Entry):
    default: str = column(_choice("script", "graph"), required=True)
    script_default: int = column(_number)
    script_until: int = column(_number)
    soft: bool = column(_flag)
    """Opsets above `script_until` are documented not to be there, but not refused."""
    script_refused: int = column(_number)
    """The least opset that the exporter by TorchScript refuses, where that is not the one after `script_until`."""
    ir_by_opset: bool = column(_flag)
    """The exporter by TorchScript writes the IR version that came with the opset."""
    graph_default: int = column(_number)
    graph_from: int = column(_number)
    graph_until: int = column(_number)
    graph_ir: int = column(_number)
    """The IR version that the exporter by torch.export writes at every opset."""


@dataclass(frozen=True, kw_only=True)
class Architectures(Entry):
    torch: str = column(_version, required=True)
    cuda: str = column(_version, required=True)
    capabilities: tuple[str, ...] = column(_versions, required=True)
    ptx: bool = column(_flag)


@dataclass(frozen=True, kw_only=True)
class TorchTensorRT(Entry):
    torch: str = column(_text, required=True)
    tensorrt: str = column(_text, required=True)
    cuda: str = column(_version)
    python: tuple[str, ...] = column(_versions)


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release on PyPI. `python`: of those asked, the CPython releases with a Linux x86-64 file; () when not recorded.
    `numpy`: what it asks of NumPy, a PEP 440 specifier; '' when not recorded."""

    version: str
    python: tuple[str, ...]
    numpy: str
    where: Where


@dataclass(frozen=True, kw_only=True)
class Project:
    package: str
    source: str
    collected: str
    platform: str
    releases: Mapping[str, Release]
    where: Where


FILES: dict[str, dict[str, type[Entry]]] = {
    "drivers.yaml": {
        "toolkits": Toolkit, "minor-versions": MinorVersions, "minimums": Minimum, "branches": Branch, "forward": Forward,
        "images": CudaImage, "packages": CompatPackage,
    },
    "gpus.yaml": {"capabilities": Capability, "gpus": Gpu},
    "tensorrt.yaml": {"releases": TensorRT, "rtx": TensorRTRTX},
    "onnx.yaml": {"releases": Onnx, "irs": Ir},
    "onnxruntime.yaml": {"releases": OnnxRuntime},
    "openvino.yaml": {"releases": OpenVINO},
    "tensorflow.yaml": {"releases": TensorFlow, "tf2onnx": Tf2onnx},
    "pytorch.yaml": {
        "releases": PyTorch, "exporters": Exporter, "architectures": Architectures, "torch-tensorrt": TorchTensorRT,
    },
}  # fmt: skip
_PLACES = {cls: (file, table) for file, tables in FILES.items() for table, cls in tables.items()}
_E = TypeVar("_E", bound=Entry)


class Catalog:
    """The facts of one folder, each file read when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, dict[str, dict[str, Entry]]] = {}

    def table(self, cls: type[_E]) -> Mapping[str, _E]:
        """key -> record, oldest version first. Raises SpecErrors with every mistake in the file."""
        file, table = _PLACES[cls]
        if file not in self._files:
            self._files[file] = read(self.folder / file, FILES[file])
        return self._files[file][table]  # type: ignore[return-value]  # FILES says which class is in which table

    @cached_property
    def images(self) -> Mapping[str, facts.Table]:
        """Tables of images: those of images.yaml and of containers.yaml. Raises SpecErrors."""
        return {**facts.read(self.folder / "images.yaml"), **facts.read(self.folder / "containers.yaml")}

    @cached_property
    def projects(self) -> Mapping[str, Project]:
        """Projects on PyPI and their releases. Raises SpecErrors."""
        return _projects(self.folder / "releases.yaml")


CATALOG = Catalog(facts.CATALOG)


def read(path: Path, tables: Mapping[str, type[Entry]]) -> dict[str, dict[str, Entry]]:
    """The tables of one file. Raises SpecErrors with every mistake in it."""
    errors: list[SpecError] = []
    loaded = nodes.load(path, path.name, errors)
    if loaded is None:
        raise SpecErrors(errors)
    source, node = loaded
    top = Section(source, node, ("sources", "tables"), "the catalog")
    references = {name: value.value for name, value, _ in top.children("sources") if isinstance(value, nodes.Text)}
    found = {name: dict[str, Entry]() for name in tables}
    section = Section(source, top.get("tables"), tuple(tables), "tables")
    for name, cls in tables.items():
        if name not in section:
            section.missing(name)
            continue
        table = Section(source, section.get(name), ("about", "records"), f"table {name!r}")
        rows = {key: _entry(source, key, row, where, cls, references) for key, row, where in table.children("records")}
        found[name] = {key: rows[key] for key in versions.ordered(rows)}
    if errors:
        raise SpecErrors(errors)
    return found


def _entry(
    source: Source, key: str, node: nodes.Node, where: Where, cls: type[Entry], references: Mapping[str, str]
) -> Entry:
    columns = [item for item in dataclasses.fields(cls) if "read" in item.metadata]
    names = [item.name.replace("_", "-") for item in columns]
    row = Section(source, node, [*names, "note", "conflict", "doubt", "inferred", "source"], f"record {key!r}")
    values: dict[str, Any] = {}
    for item, name in zip(columns, names, strict=True):
        if item.metadata["required"] and name not in row:
            row.missing(name)
        values[item.name] = item.metadata["read"](row, name)
    used = row.values("source", NAME)
    if not used:
        row.missing("source", "no fact without its source")
    for text in used:
        if text.value not in references:
            source.error(text.where, f"no source {text.value!r} in this file", versions.nearest(text.value, references))
    return cls(
        key=key, note=row.text("note"), conflict=row.text("conflict"), doubt=row.text("doubt"),
        inferred=row.choices("inferred", names), sources=tuple(references.get(text.value, "") for text in used), where=where,
        **values,
    )  # fmt: skip


def _projects(path: Path) -> dict[str, Project]:
    errors: list[SpecError] = []
    loaded = nodes.load(path, path.name, errors)
    if loaded is None:
        raise SpecErrors(errors)
    source, node = loaded
    found = {}
    for name, value, where in Section(source, node, ("releases",), "the catalog").children("releases"):
        row = Section(source, value, ("package", "source", "collected", "platform", "versions"), f"project {name!r}")
        releases = {}
        for version, entry, place in row.children("versions"):
            if not VALUE.fullmatch(version):
                source.error(place, f"{version!r} is not a version")
            release = Section(source, entry, ("python", "numpy"), f"release {version!r}")
            releases[version] = Release(
                version=version, python=_versions(release, "python"), numpy=_specifier(release, "numpy"), where=place
            )
        found[name] = Project(
            package=row.text("package", required=True), source=row.text("source", required=True),
            collected=_date(row, "collected"), platform=row.text("platform"), where=where,
            releases={version: releases[version] for version in versions.ordered(releases)},
        )  # fmt: skip
    if errors:
        raise SpecErrors(errors)
    return found
