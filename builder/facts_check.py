"""Contradictions in the catalog: what cannot be true together, each with its place.

A record that says that its sources disagree (`conflict`) or that a value may be wrong (`doubt`) has explained itself: it is
listed by `known`, and is no finding where the rule is about that disagreement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations, pairwise

from builder import facts, versions
from builder.answers import find, minor, number
from builder.facts_records import (
    FILES,
    Architectures,
    Branch,
    Capability,
    Catalog,
    CudaImage,
    Entry,
    Exporter,
    Forward,
    Gpu,
    Minimum,
    MinorVersions,
    Onnx,
    OnnxRuntime,
    OpenVINO,
    PyTorch,
    TensorFlow,
    TensorRT,
    TensorRTRTX,
    Tf2onnx,
    Toolkit,
    TorchTensorRT,
)
from builder.knowledge_hardware import Runs, compiles, driver_runs
from builder.values import Where


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong, or one that is known and explained."""

    rule: str
    text: str
    where: Where


Rule = Callable[[Catalog], Iterator[tuple[str, Where]]]


def check(catalog: Catalog) -> tuple[Finding, ...]:
    """Every contradiction, in order of place. Raises SpecErrors if a file cannot be read."""
    found = [
        Finding(rule=name, text=text, where=where) for name, rule in RULES.items() for text, where in rule(catalog)
    ]
    return tuple(sorted(found, key=lambda finding: finding.where))


def known(catalog: Catalog) -> tuple[Finding, ...]:
    """Every disagreement and doubt that a record tells of itself, in order of place. Raises SpecErrors."""
    found = []
    for entry in _entries(catalog):
        for rule, text in (("conflict", entry.conflict), ("doubt", entry.doubt)):
            if text:
                found.append(Finding(rule=rule, text=f"{entry.key}: {text}", where=entry.where))
    for table in catalog.images.values():
        for key, row in table.records.items():
            if row.conflict:
                found.append(Finding(rule="conflict", text=f"{table.name} {key}: {row.conflict}", where=row.where))
    return tuple(sorted(found, key=lambda finding: finding.where))


def _entries(catalog: Catalog) -> Iterator[Entry]:
    for tables in FILES.values():
        for cls in tables.values():
            yield from catalog.table(cls).values()


def _names(catalog: Catalog) -> Iterator[tuple[str, Where]]:
    """Two GPUs of one name."""
    seen: dict[str, Gpu] = {}
    for entry in catalog.table(Gpu).values():
        for name in dict.fromkeys(text.casefold() for text in (entry.name, *entry.alias)):
            if name in seen:
                yield f"{name!r} is the name of two GPUs; the other is on line {seen[name].where.line}", entry.where
            seen.setdefault(name, entry)


def _dates(catalog: Catalog) -> Iterator[tuple[str, Where]]:
    """Days that there are not, releases after the facts were collected, newer releases that came before older ones."""
    collected = max((project.collected for project in catalog.projects.values()), default="")
    for tables in FILES.values():
        for cls in tables.values():
            before: tuple[str, str] | None = None
            for entry in catalog.table(cls).values():
                if isinstance(entry, Branch) and entry.end and not _is_date(entry.end):
                    yield f"{entry.key}: there is no {entry.end}", entry.where
                day = getattr(entry, "date", "")
                if not day:
                    continue
                if not _is_date(day):
                    yield f"{entry.key}: there is no {day}", entry.where
                elif collected and day > collected:
                    yield f"{entry.key}: {day} is after the facts were collected ({collected})", entry.where
                elif before is not None and day < before[1]:
                    yield f"{entry.key} of {day} came before {before[0]} of {before[1]}", entry.where
                else:
                    before = (entry.key, day)


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text if len(text) > 7 else f"{text}-01")
    except ValueError:
        return False
    return True


def _drivers(catalog: Catalog) -> Iterator[tuple[str, Where]]:
    """Drivers that go backwards, and tables of drivers that disagree."""
    toolkits = list(catalog.table(Toolkit).values())
    for older, newer in pairwise(toolkits):
        if number(newer.driver) < number(older.driver):
            yield (
                f"CUDA {newer.key} ships with driver {newer.driver}, older than {older.driver} of {older.key}",
                newer.where,
            )
    floors = catalog.table(MinorVersions)
    for rule in floors.values():
        first = next((entry for entry in toolkits if entry.key.split(".")[0] == rule.key), None)
        if first is not None and _branch(first.driver) != _branch(rule.driver):
            text = (
                f"CUDA {rule.key}.x runs on driver {rule.driver}, but {first.key} is of branch {_branch(first.driver)}"
            )
            yield text, rule.where
    for entry in catalog.table(Minimum).values():
        own = [toolkit for toolkit in toolkits if minor(toolkit.key) == entry.key]
        if own and number(entry.driver) > number(own[0].driver):
            yield (
                f"CUDA {entry.key} needs driver {entry.driver}, newer than the {own[0].driver} it ships with",
                entry.where,
            )
    for branch in catalog.table(Branch).values():
        majors = [rule.key for rule in floors.values() if _branch(rule.driver) <= int(branch.key)]
        if branch.cuda and majors and branch.cuda != majors[-1] and not branch.conflict:
            yield f"branch {branch.key} ends at CUDA {branch.cuda}, but CUDA {majors[-1]}.x runs on it", branch.where
    for row in catalog.table(Forward).values():
        both = sorted({str(_branch(least)) for least in row.accepted} & set(row.rejected))
        if both and not (row.conflict or row.doubt):
            yield f"{row.key}: {', '.join(both)} is accepted and rejected", row.where
    yield from _images_and_notes(catalog)


def _images_and_notes(catalog: Catalog) -> Iterator[tuple[str, Where]]:
    """What NVIDIA's CUDA images take of older drivers, against the toolkit's own driver and the notes of its containers."""
    for image in catalog.table(CudaImage).values():
        own = next((item for item in catalog.table(Toolkit).values() if minor(item.key) == minor(image.key)), None)
        for branch in image.branches if own is not None and not image.doubt else ():
            if own is not None and int(branch) >= _branch(own.driver):
                yield (
                    f"image {image.key}: {branch} is no older branch than that of its own driver {own.driver}",
                    image.where,
                )
        for row in catalog.table(Forward).values():
            both = sorted(set(image.branches) & set(row.rejected))
            if both and row.cuda == minor(image.key) and not (image.doubt or row.conflict or row.doubt):
                yield f"image {image.key} takes {', '.join(both)}, which the notes of {row.key} refuse", image.where


def _branch(driver: str) -> int:
    return int(driver.split(".")[0])


def _image_drivers(catalog: Catalog) -> Iterator[tuple[str, Where]]:
    """Images whose CUDA does not run on the least driver that the record names."""
    for name, table in catalog.images.items():
        for key, row in table.records.items():
            driver, cuda = row.facts.get("driver", ""), row.facts.get("cuda", "")
            if not driver or not cuda or row.conflict:
                continue
            least = driver if "." in driver else f"{driver}.9999"  # a whole branch: any driver of it may be meant
            if driver_runs(least, cuda, catalog=catalog).value is Runs.NO:
                yield f"{name} {key}: CUDA {cuda} does not run on driver {driver}", row.where


def _disagree(catalog: Catalog) -> Iterator[tuple[str, Where]]:
    """Tables that tell of the same month's base, or the same L4T release, and differ without saying so; images for Jetson that
    are for another platform."""
    groups = (("ngc-tensorrt", "ngc-pytorch", "ngc-tensorflow", "ngc-tritonserver"), ("l4t", "jetpack"))
    for group in groups:
        tables = {name: catalog.images[name] for name in group if name in catalog.images}
        for (one, first), (other, second) in combinations(tables.items(), 2):
            for key in first.records.keys() & second.records.keys():
                yield from _rows(f"{one} and {other} {key}", first.records[key], second.records[key])
    for key, row in catalog.images["l4t"].records.items() if "l4t" in catalog.images else ():
        if row.platforms != ("linux/arm64",):
            yield f"l4t {key}: an image for Jetson is for {', '.join(row.platforms) or 'no platform'}", row.where


def _rows(what: str, one: facts.Record, other: facts.Record) -> Iterator[tuple[str, Where]]:
    if one.conflict or other.conflict:
        return
    for name in ("cuda", "cudnn", "tensorrt", "python", "ubuntu", "jetpack"):
        a, b = one.facts.get(name, ""), other.facts.get(name, "")
        inferred = name in one.inferred or name in other.inferred
        if a and b and not inferred and not f"{a}.".startswith(f"{b}.") and not f"{b}.".startswith(f"{a}."):
            yield f"{what}: {name} is {a} here and {b} at {other.where}", one.where


def _components(catalog: Catalog) -> Iterator[tuple[str, Where]]:
    """Releases whose Python or CUDA is outside what the record of their minor release says."""
    for project, cls in (
        ("onnxruntime", OnnxRuntime), ("openvino", OpenVINO), ("tensorrt", TensorRT), ("tensorflow", TensorFlow),
        ("torch", PyTorch),
    ):  # fmt: skip
        table: dict[str, Entry] = dict(catalog.table(cls))
        for release in catalog.projects[project].releases.values() if project in catalog.projects else ():
            entry = find(table, minor(release.version))
            python = getattr(entry, "python", ())
            extra = [item for item in release.python if python and item not in python]
            if entry is not None and extra and not (entry.conflict or entry.doubt):
                text = f"{project} {release.version} is for Python {', '.join(extra)}; the record of {entry.key} has no such"
                yield f"{text} ({entry.where})", release.where
    torch = catalog.table(PyTorch)
    for built in catalog.table(TorchTensorRT).values():
        wanted = find(torch, minor(built.torch.lstrip("<>=~").partition(",")[0]))
        if wanted is None:
            continue
        for item in built.python:
            if item not in wanted.python:
                yield f"torch-tensorrt {built.key} is for Python {item}, torch {wanted.key} is not", built.where
        if built.cuda and wanted.cuda and built.cuda not in wanted.cuda and not wanted.doubt:
            yield f"torch-tensorrt {built.key} is for CUDA {built.cuda}, torch {wanted.key} is not", built.where
    for listed in catalog.table(Architectures).values():
        wanted = torch.get(listed.torch)
        if wanted is not None and wanted.cuda and listed.cuda not in wanted.cuda:
            yield f"torch {listed.torch} has no build for CUDA {listed.cuda}", listed.where
    for name, table_ in catalog.images.items():
        for key, row in table_.records.items():
            held = find(catalog.table(TensorRT), minor(row.facts.get("tensorrt", "")))
            majors = (
                {item.split(".")[0] for item in (*held.cuda, *held.built, *held.majors)} if held is not None else set()
            )
            cuda = row.facts.get("cuda", "").split(".")[0]
            if (
                held is not None
                and cuda
                and majors
                and cuda not in majors
                and not (row.conflict or name in ("l4t", "jetpack"))
            ):
                yield f"{name} {key}: TensorRT {held.key} is not for CUDA {cuda}", row.where


def _capabilities(catalog: Catalog) -> Iterator[tuple[str, Where]]:
    """Compute capabilities that no toolkit compiles for, that nobody knows, or that contradict themselves."""
    table = catalog.table(Capability)
    toolkits = [minor(key) for key in catalog.table(Toolkit)]
    for entry in table.values():
        least, most = number(entry.cuda_from), number(entry.cuda_until or "9999")
        if not any(least <= number(key) <= most for key in toolkits):
            yield (
                f"no CUDA toolkit compiles for {entry.key}: {entry.cuda_from} to {entry.cuda_until or 'now'}",
                entry.where,
            )
        for name in sorted(set(entry.fast) & set(entry.absent)):
            yield f"{entry.key}: {name} is fast and absent", entry.where
    for gpu in catalog.table(Gpu).values():
        if gpu.capability not in table:
            yield f"{gpu.name}: compute capability {gpu.capability} is not in the table", gpu.where
    for release in catalog.table(TensorRT).values():
        for item in (release.capability_from, release.capability_until, *release.also):
            if item and item not in table:
                yield f"TensorRT {release.key}: compute capability {item} is not in the table", release.where
        if release.capability_until and number(release.capability_from) > number(release.capability_until):
            yield (
                f"TensorRT {release.key}: {release.capability_from} is above {release.capability_until}",
                release.where,
            )
    for rtx in catalog.table(TensorRTRTX).values():
        for item in rtx.capabilities:
            if item not in table:
                yield f"TensorRT for RTX {rtx.key}: compute capability {item} is not in the table", rtx.where
    for listed in catalog.table(Architectures).values():
        for item in listed.capabilities:
            if compiles(listed.cuda, item, catalog=catalog).value is False:
                yield f"torch {listed.torch}: CUDA {listed.cuda} does not compile for {item}", listed.where


def _opsets(catalog: Catalog) -> Iterator[tuple[str, Where]]:
    """Opsets and IR versions that go backwards, and ONNX Runtime against the ONNX that is linked into it."""
    series: Sequence[tuple[type[Entry], str]] = (
        (Onnx, "opset"), (Onnx, "ir"), (OnnxRuntime, "opset"), (OnnxRuntime, "ir"), (OnnxRuntime, "ml"),
        (TensorRT, "opset_until"),
        (OpenVINO, "opset"), (OpenVINO, "operations"), (Tf2onnx, "opset"), (Exporter, "script_default"),
        (Exporter, "script_until"), (Exporter, "graph_until"),
    )  # fmt: skip
    for cls, name in series:
        highest = 0
        for entry in catalog.table(cls).values():
            value = getattr(entry, name)
            if value and value < highest:
                yield f"{name} {value} of {entry.key} is below {highest} of an older release", entry.where
            highest = max(highest, value)
    for release in catalog.table(TensorRT).values():
        if release.opset_from and release.opset_until and release.opset_from > release.opset_until:
            yield f"TensorRT {release.key}: opsets from {release.opset_from} to {release.opset_until}", release.where
    for runtime in catalog.table(OnnxRuntime).values():
        linked = find(catalog.table(Onnx), runtime.onnx) if versions.version(runtime.onnx) else None
        if linked is None or runtime.conflict or runtime.doubt:
            continue
        pairs = (
            ("opset", runtime.opset, linked.opset),
            ("IR", runtime.ir, linked.ir),
            ("ai.onnx.ml", runtime.ml, linked.ml),
        )
        for what, here, there in pairs:
            if here and there and here != there:
                text = f"ONNX Runtime {runtime.key} takes {what} {here}, its ONNX {linked.key} has {there}"
                yield text, runtime.where


RULES: dict[str, Rule] = {
    "duplicate": _names, "date": _dates, "driver": _drivers, "image-driver": _image_drivers, "disagreement": _disagree,
    "component": _components, "capability": _capabilities, "opset": _opsets,
}  # fmt: skip
