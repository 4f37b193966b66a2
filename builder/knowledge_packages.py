"""Packages on PyPI: which Python, CUDA and NumPy they are for. Questions to the catalog; see builder/knowledge.py."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from builder import versions
from builder.answers import Answer, Fact, absent, fact, find, minor
from builder.facts_records import (
    CATALOG,
    Catalog,
    Entry,
    OnnxRuntime,
    OpenVINO,
    PyTorch,
    TensorFlow,
    TensorRT,
    TensorRTRTX,
)
from builder.versions import ordered

_WHEELS: dict[str, type[Entry]] = {
    "onnxruntime": OnnxRuntime, "openvino": OpenVINO, "tensorrt": TensorRT, "tensorrt-rtx": TensorRTRTX, "tensorflow": TensorFlow,
    "torch": PyTorch,
}  # fmt: skip
NEWEST_NUMPY = 2
"""The newest major version of NumPy when the facts were collected: of a later one nothing is said."""


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """The wheels of a release. `python`: CPython releases; `cuda`: CUDA versions, '12' for any of a major. (): not known."""

    python: tuple[str, ...]
    cuda: tuple[str, ...]


def wheel(project: str, version: str, *, catalog: Catalog = CATALOG) -> Answer[Wheel]:
    """The Pythons and CUDA versions for which a release has Linux x86-64 wheels. Raises SpecErrors.

    `project`: onnxruntime, openvino, tensorrt, tensorrt-rtx, tensorflow, torch; and, for Python alone, every project of
    catalog/releases.yaml, which says of single releases what PyPI answered. The others speak of minor releases.
    """
    table = catalog.table(_WHEELS[project]) if project in _WHEELS else {}
    listed = catalog.projects.get(project)
    if not table and listed is None:
        return Answer(value=None, unknown=f"the catalog does not have the project {project!r}")
    used: list[Fact] = []
    python: tuple[str, ...] = ()
    cuda: tuple[str, ...] = ()
    entry = find(table, minor(version))
    if isinstance(entry, OnnxRuntime | OpenVINO | TensorRT | TensorRTRTX | TensorFlow | PyTorch):
        python, cuda = entry.python, wheel_cuda(entry)
        text = f"wheels of {project} {entry.key}: Python {', '.join(python) or 'not recorded'}"
        used.append(fact(entry, text + (f"; CUDA {', '.join(cuda)}" if cuda else "")))
    release = listed.releases.get(version) if listed is not None else None
    if listed is not None and release is not None and release.python:
        text = f"PyPI has {listed.package} {version} for CPython {', '.join(release.python)}"
        used.append(Fact(text=text, sources=(listed.source,), where=release.where))
        python = tuple(ordered({*python, *release.python}))
    if not used:
        return Answer(value=None, unknown=absent(table or (listed.releases if listed else {}), version, project))
    return Answer(value=Wheel(python=python, cuda=cuda), facts=tuple(used))


def wheel_cuda(entry: Entry) -> tuple[str, ...]:
    """The CUDA versions of a release's packages, as far as they are recorded."""
    if isinstance(entry, OnnxRuntime):
        return tuple(item for item in (entry.cuda, entry.cuda_other) if item)
    if isinstance(entry, TensorRT | TensorRTRTX):
        known = entry.cuda or (entry.built if isinstance(entry, TensorRT) else ())
        # Of a major that packages are for, the very version need not be known.
        bare = [major for major in entry.majors if not any(item.split(".")[0] == major for item in known)]
        return tuple(ordered({*known, *bare}))
    if isinstance(entry, PyTorch):
        return entry.cuda
    return (entry.cuda,) if isinstance(entry, TensorFlow) and entry.cuda else ()


def takes_numpy(project: str, version: str, numpy: str, *, catalog: Catalog = CATALOG) -> Answer[bool]:
    """Whether a release works with a NumPy version: by what its wheels were built against, and by what it asks for.

    `project`: onnxruntime, openvino, tensorflow, torch. Its requirement was asked under one Python; as its lower bound
    differs from one to the other, a NumPy below it is unknown, not refused. Raises SpecErrors.
    """
    asked = versions.version(numpy)
    if asked is None:
        return Answer(value=None, unknown=f"{numpy!r} is not a version of NumPy")
    if asked.major > NEWEST_NUMPY:
        return Answer(value=None, unknown=f"NumPy {numpy} is newer than the catalog")
    table = catalog.table(_WHEELS[project]) if project in _WHEELS else {}
    entry = find(table, minor(version))
    listed = catalog.projects.get(project)
    release = listed.releases.get(version) if listed is not None else None
    used: list[Fact] = []
    majors = entry.numpy if isinstance(entry, OnnxRuntime | TensorFlow | PyTorch) else ()
    if entry is not None and majors:
        used.append(fact(entry, f"wheels of {project} {entry.key} work with NumPy {' and '.join(majors)}"))
        if str(asked.major) not in majors:
            return Answer(value=False, facts=tuple(used))
    if listed is not None and release is not None and release.numpy:
        text = f"{listed.package} {version} asks for numpy{release.numpy}"
        used.append(Fact(text=text, sources=(listed.source,), where=release.where))
        if not SpecifierSet(release.numpy).contains(asked, prereleases=True):
            if _above(release.numpy, asked):
                return Answer(value=False, facts=tuple(used))
            reason = f"whether {project} {version} works with a NumPy below its requirement depends on the Python"
            return Answer(value=None, facts=tuple(used), unknown=reason)
    if not used:
        reason = f"the NumPy of {project} {version} is not recorded"
        return Answer(value=None, unknown=reason if entry is not None else absent(table, version, project))
    return Answer(value=True, facts=tuple(used))


def _above(specifier: str, version: Version) -> bool:
    """Whether it is an upper bound of a specifier that a version breaks."""
    return any(
        item.operator in ("<", "<=") and not item.contains(version, prereleases=True)
        for item in SpecifierSet(specifier)
    )
