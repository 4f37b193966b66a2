"""Images, engines and exporters: what they hold and take. Questions to the catalog; see builder/knowledge.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from builder import facts
from builder.answers import Answer, Fact, absent, fact, find
from builder.facts_records import (
    CATALOG,
    Catalog,
    Entry,
    Exporter,
    Onnx,
    OnnxRuntime,
    OpenVINO,
    TensorRT,
    TensorRTRTX,
    Tf2onnx,
)

IMAGES = {
    "tensorrt": ("ngc-tensorrt", "-py3"),
    "pytorch": ("ngc-pytorch", "-py3"),
    "tensorflow": ("ngc-tensorflow", "-tf2-py3"),
    "tritonserver": ("ngc-tritonserver", "-py3"),
}
"""NGC repository -> its table, the ending of the tags that the table tells of."""
_RECORDS: dict[str, type[Entry]] = {
    "onnxruntime": OnnxRuntime, "openvino": OpenVINO, "tensorrt": TensorRT, "tensorrt-rtx": TensorRTRTX, "onnx": Onnx,
    "torch": Exporter, "tf2onnx": Tf2onnx,
}  # fmt: skip
ENGINES = tuple(_RECORDS)
"""Engines and exporters that take or write ONNX files."""
WRITERS = ("torch", "tf2onnx")
LEAST_OPSET = 7
"""ONNX Runtime supports opset 7 and newer in every release (https://onnxruntime.ai/docs/reference/compatibility.html)."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """What is in an image. `facts`: as in catalog/images.yaml (cuda, cudnn, tensorrt, python, driver ...), text;
    `inferred`: those of them that were not read in the image."""

    name: str
    facts: Mapping[str, str]
    inferred: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Opsets:
    """ONNX opsets. `first`: the least that is documented; `last`: the highest that is known to be taken; `beyond`: the least
    above it that is known to be refused. None: not known. What lies between `last` and `beyond` is open: documents of
    TensorRT and OpenVINO name a highest opset, but their parsers refuse operators, not opsets."""

    first: int | None
    last: int | None
    beyond: int | None


def image(reference: str, *, catalog: Catalog = CATALOG) -> Answer[Image]:
    """What an NGC image or a JetPack release holds: `nvcr.io/nvidia/pytorch:24.10-py3`, `tensorrt:24.10-py3`, `jetpack:6.2`,
    `l4t:36.4.3`. Raises SpecErrors."""
    name, _, tag = reference.partition("@")[0].removeprefix("nvcr.io/").removeprefix("nvidia/").partition(":")
    if name in IMAGES:
        table, ending = IMAGES[name]
        release = tag.removesuffix(ending)
        if not re.fullmatch(r"[0-9]{2}\.[0-9]{2}(\.[0-9]+)?", release):
            return Answer(value=None, unknown=f"of {name} the catalog tells of tags RELEASE{ending} only")
        return _image(catalog.images[table], release, name, ending)
    for key, row in catalog.images["l4t"].records.items():
        if name == row.facts.get("repository", "").rpartition("/")[2] and tag == row.facts.get("tag"):
            return _image(catalog.images["l4t"], key, "L4T", "")
    if name in ("jetpack", "l4t"):
        records = catalog.images["jetpack"]
        key = tag.removeprefix("r")
        if name == "jetpack":
            key = next((l4t for l4t, row in records.records.items() if row.facts["jetpack"] == tag), "")
        if key:
            return _image(records, key, "L4T", "")
    return Answer(value=None, unknown=f"the catalog does not have {reference!r}")


def _image(table: facts.Table, key: str, name: str, ending: str) -> Answer[Image]:
    row = table.records.get(key)
    if row is None:
        return Answer(value=None, unknown=absent(table.records, key, name))
    label = f"{name}:{key}{ending}"
    held = ", ".join(f"{item} {value}" for item, value in row.facts.items() if item not in ("repository", "tag"))
    doubt = [row.conflict, f"inferred: {', '.join(row.inferred)}" if row.inferred else ""]
    used = Fact(
        text=f"{label} holds {held}", sources=row.sources, where=row.where, doubt="; ".join(filter(None, doubt))
    )
    return Answer(value=Image(name=label, facts=row.facts, inferred=row.inferred), facts=(used,))


def opsets(engine: str, version: str, *, exporter: str = "", catalog: Catalog = CATALOG) -> Answer[Opsets]:
    """The ONNX opsets that an engine's release takes or an exporter's writes.

    Where a release has no record of its own, older releases bound it from below (what they took, it takes) and newer ones
    from above; `unknown` then says so. `exporter`: 'script' or 'graph' of torch, by default the one that torch.onnx.export
    takes unasked. Raises SpecErrors; ValueError for an engine that is not in ENGINES.
    """
    if engine not in _RECORDS:
        msg = f"{engine!r} is none of {', '.join(ENGINES)}"
        raise ValueError(msg)
    table = catalog.table(_RECORDS[engine])
    entry = find(table, version)
    if entry is None:
        return Answer(value=None, unknown=absent(table, version, engine))
    kind = (exporter or entry.default) if isinstance(entry, Exporter) else ""
    label = f"{engine} {entry.key}" + (f" ({kind} exporter)" if kind else "")
    first, last = _limits(entry, kind)
    verb = "writes" if engine in WRITERS else "takes"
    if last is not None:
        text = f"{label} {verb} ONNX opsets {f'{first} to' if first else 'up to'} {last}"
        return Answer(value=Opsets(first=first, last=last, beyond=_refused(entry, kind)), facts=(fact(entry, text),))
    order = list(table)
    place = order.index(entry.key)
    older = next((table[key] for key in reversed(order[:place]) if _limits(table[key], kind)[1]), None)
    newer = next((table[key] for key in order[place + 1 :] if _refused(table[key], kind)), None)
    if older is None and newer is None:
        return Answer(value=None, unknown=f"no ONNX opset of {label} or its neighbours is recorded")
    bounds = [
        fact(other, f"{engine} {other.key} {verb} ONNX opsets up to {_limits(other, kind)[1]}")
        for other in (older, newer)
        if other
    ]
    sure = _limits(older, kind) if older is not None else (None, None)
    beyond = _refused(newer, kind) if newer is not None else None
    value = Opsets(first=first or sure[0], last=sure[1], beyond=beyond)
    return Answer(value=value, facts=tuple(bounds), unknown=f"the highest opset of {label} is not recorded")


def _limits(entry: Entry, exporter: str) -> tuple[int | None, int | None]:
    """The least and the highest opset of a record; None where it does not say."""
    if isinstance(entry, OnnxRuntime):
        return LEAST_OPSET, entry.opset or None
    if isinstance(entry, TensorRT | TensorRTRTX):
        return entry.opset_from or None, entry.opset_until or None
    if isinstance(entry, Exporter):
        return (
            (entry.graph_from or None, entry.graph_until or None)
            if exporter == "graph"
            else (None, entry.script_until or None)
        )
    if isinstance(entry, Onnx):
        return 1, entry.opset
    return None, (entry.opset or None) if isinstance(entry, OpenVINO | Tf2onnx) else None


def _refused(entry: Entry, exporter: str) -> int | None:
    """The least opset that a release is known to refuse; None where it is not known to refuse any."""
    if isinstance(entry, Exporter) and exporter == "script" and entry.script_refused:
        return entry.script_refused
    strict = isinstance(entry, OnnxRuntime | Onnx) or (
        (isinstance(entry, Tf2onnx) or (isinstance(entry, Exporter) and exporter == "script")) and not entry.soft
    )
    last = _limits(entry, exporter)[1]
    return last + 1 if strict and last is not None and not entry.doubt else None


def takes_opset(
    engine: str, version: str, opset: int, *, exporter: str = "", catalog: Catalog = CATALOG
) -> Answer[bool]:
    """Whether an engine's release takes (an exporter's writes) an ONNX opset; unknown between what is known to be taken and
    what is known to be refused. Raises as `opsets`."""
    known = opsets(engine, version, exporter=exporter, catalog=catalog)
    if known.value is None:
        return Answer(value=None, facts=known.facts, unknown=known.unknown)
    first, last, beyond = known.value.first, known.value.last, known.value.beyond
    if beyond is not None and opset >= beyond:
        return Answer(value=False, facts=known.facts)
    if last is not None and (first or LEAST_OPSET) <= opset <= last:
        return Answer(value=True, facts=known.facts)
    reason = f"whether {engine} {version} takes opset {opset} is not recorded"
    return Answer(value=None, facts=known.facts, unknown=known.unknown or reason)


def default_opset(exporter: str, version: str, *, kind: str = "", catalog: Catalog = CATALOG) -> Answer[int]:
    """The opset that an exporter ('torch', 'tf2onnx') writes unasked; `kind` as in `opsets`. Raises SpecErrors."""
    table = catalog.table(_RECORDS[exporter]) if exporter in WRITERS else {}
    entry = find(table, version)
    if entry is None:
        return Answer(value=None, unknown=absent(table, version, exporter))
    written = entry.opset_default if isinstance(entry, Tf2onnx) else 0
    if isinstance(entry, Exporter):
        written = entry.graph_default if (kind or entry.default) == "graph" else entry.script_default
    if not written:
        return Answer(value=None, unknown=f"the opset that {exporter} {entry.key} writes unasked is not recorded")
    return Answer(value=written, facts=(fact(entry, f"{exporter} {entry.key} writes ONNX opset {written} unasked"),))


def ir(engine: str, version: str, *, catalog: Catalog = CATALOG) -> Answer[int]:
    """The highest ONNX IR version that ONNX Runtime takes, or that a release of onnx writes. Raises SpecErrors."""
    if engine not in ("onnx", "onnxruntime"):
        return Answer(value=None, unknown=f"no IR version of {engine} is recorded")
    table = catalog.table(_RECORDS[engine])
    entry = find(table, version)
    if entry is None:
        return Answer(value=None, unknown=absent(table, version, engine))
    highest = entry.ir if isinstance(entry, Onnx | OnnxRuntime) else 0
    if not highest:
        return Answer(value=None, unknown=f"the IR version of {engine} {entry.key} is not recorded")
    text = f"{engine} {entry.key} {'writes' if engine == 'onnx' else 'takes'} ONNX IR version {highest}"
    return Answer(value=highest, facts=(fact(entry, text),))
