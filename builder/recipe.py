"""`recipes/<model>/recipe.yaml` -> Recipe. Scalars are typed here (YAML 1.2), since the worker computes with them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder import calibration as calibration_data
from builder import nodes, recipe_source, versions
from builder.errors import SpecError
from builder.nodes import Map, Node, Seq, Source, Text
from builder.section import Section
from builder.values import Recipe, Where
from builder.values import Source as ModelSource

KEYS = ("recipe", "summary", "exporters", "script", "source", "inputs", "dims", "seeds", "uses", "tolerance", "metric",
        "images", "calibration", "settings")  # fmt: skip
INPUT_KEYS = ("name", "dtype", "shape", "range", "tensor")
DTYPES = ("float32", "float16", "float64", "int64", "int32", "int8", "uint8", "bool")
TOLERANCE_KEYS = ("atol", "rtol", "cosine", "mismatch", "because")
METRIC_KEYS = ("name", "minimum")
METRICS = ("top1-agreement", "embedding-cosine", "mask-iou")
RANGE_KEYS = ("min", "opt", "max")
CALIBRATION_KEYS = ("samples", "seed", "folder", "callable", "layout", "mean", "std", "method")
SHAPES = ("static", "dynamic")
_MAX_BYTES = 256 << 20
"""Of all files of one recipe together."""
_DECLARED = 16 << 20
"""Bytes of a file from which on the hash that the source declares of it stands for it."""


@dataclass(frozen=True, kw_only=True)
class RecipeFile:
    """A recipe, and the places where what the matrix asks of it would have to stand."""

    recipe: Recipe
    source: Source
    tolerance: Where
    metric: Where


def load(path: Path, name: str, errors: list[SpecError]) -> RecipeFile | None:
    """Read one recipe.yaml. None when errors were noted."""
    loaded = nodes.load(path, name, errors, keep_text=False)
    if loaded is None:
        return None
    source, node = loaded
    before = len(errors)
    top = Section(source, node, KEYS, "the recipe")
    if not top.ok:
        return None
    folder = path.parent
    if top.name("recipe") not in ("", folder.name):
        top.error("recipe", f"must be the name of its folder, {folder.name!r}")
    exporters = tuple(item.value for item in top.values("exporters"))
    if "exporters" not in top:
        top.missing("exporters", "the exporter families that can export it")
    script = top.text("script")
    if script:
        recipe_source.inside(top, "script", folder, script)
    model = recipe_source.read(top, folder)
    dims = _inputs(top)
    tolerance = _tolerance(top)
    _metric(top)
    _images(top)
    calibration = "calibration" in top
    if calibration:
        calibration_data.check(
            Section(source, top.get("calibration"), CALIBRATION_KEYS, "calibration"), folder, bool(script)
        )
    try:
        data: dict[str, Any] = nodes.typed(node)
    except ValueError:
        source.error(node.where, "a number that is too long")
        return None
    if not isinstance(data.get("seeds", [0]), list) or not all(type(seed) is int for seed in data.get("seeds", [0])):
        top.error("seeds", "'seeds' must be a list of whole numbers")
    data.setdefault("seeds", [0])
    if "script" not in top and not recipe_source.is_model(data, model):
        top.missing("script", "only a source that is the model itself (a file, a callable, an `entry`) does without")
    sha256 = _hash(top, folder, model)
    if len(errors) != before:
        return None
    recipe = Recipe(
        name=folder.name,
        summary=top.text("summary", required=True),
        exporters=exporters,
        source=model,
        uses=tuple(item.value for item in top.values("uses")),
        tolerance=tolerance,
        shapes=tuple(shape for shape in SHAPES if shape in dims),
        calibration=calibration,
        data=data,
        directory=str(folder),
        sha256=sha256,
        where=source.top(),
    )
    if len(errors) != before:
        return None
    return RecipeFile(recipe=recipe, source=source, tolerance=top.where("tolerance"), metric=top.where("metric"))


def _number(section: Section, key: str, node: Node, low: float, high: float) -> float | None:
    value = nodes.typed(node) if isinstance(node, Text) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        section.source.error(node.where, f"{key!r} must be a number from {low:g} to {high:g}")
        return None
    return float(value)


def _inputs(top: Section) -> dict[str, Any]:
    """Check inputs and dims. Returns {"static": {...}, "dynamic": {...}?}."""
    symbols: set[str] = set()
    if "inputs" not in top:
        top.missing("inputs")
    for item in top.sections("inputs", INPUT_KEYS, "an input"):
        item.name("name")
        item.choice("dtype", DTYPES, required=True)
        tensor = item.get("tensor")
        if tensor is not None and item.text("tensor") and not isinstance(nodes.typed(tensor), str):
            item.error("tensor", "a name that is read as a number", f'quote it: "{item.text("tensor")}"')
        shape = item.get("shape")
        if not isinstance(shape, Seq):
            item.error("shape", "'shape' must be a list of sizes and symbols")
            continue
        for size in shape.items:
            value = nodes.typed(size) if isinstance(size, Text) else None
            if isinstance(value, str) and value.isidentifier():
                symbols.add(value)
            elif type(value) is not int or value < 1:
                top.source.error(size.where, "a size is a whole number from 1, or a symbol such as N")
    dims = Section(top.source, top.get("dims"), SHAPES, "dims") if "dims" in top else None
    if dims is None:
        top.missing("dims", "static sizes of the symbols, and dynamic ranges if the model has them")
        return {"static": True}
    static = {name for name, _, _ in dims.children("static")}
    for name, value, where in dims.children("static"):
        if _number(dims, name, value, 1, 1 << 31) is not None and name not in symbols:
            top.source.error(where, f"no input has a dimension {name!r}", versions.nearest(name, symbols))
    for name, value, where in dims.children("dynamic"):
        limits = Section(top.source, value, RANGE_KEYS, f"the range of {name!r}")
        low, opt, high = (limits.integer(key, 0, least=1) for key in RANGE_KEYS)
        if limits.ok and not 1 <= low <= opt <= high:
            top.source.error(value.where, "needs 1 <= min <= opt <= max")
        if name not in static:
            top.source.error(where, f"dynamic dimension {name!r} has no static size")
    for name in sorted(symbols - static):
        dims.error("static", f"dimension {name!r} of an input has no static size")
    return {key: True for key in SHAPES if key == "static" or (key in dims and not nodes.is_null(dims.get(key)))}


def _tolerance(top: Section) -> dict[str, Mapping[str, Any]]:
    tolerance: dict[str, Mapping[str, Any]] = {}
    if "tolerance" not in top:
        top.missing("tolerance", "without one nothing can be called verified")
    for precision, value, _ in top.children("tolerance"):
        section = Section(top.source, value, TOLERANCE_KEYS, f"the tolerance of {precision!r}")
        section.text("because", required=True, hint="say where the figure comes from")
        limits: dict[str, Any] = {"because": section.text("because")}
        for key, low, high in (("atol", 0, 1e6), ("rtol", 0, 10), ("cosine", -1, 1), ("mismatch", 0, 1)):
            if (node := section.get(key)) is not None:
                limits[key] = _number(section, key, node, low, high)
        if section.ok and not {"atol", "rtol", "cosine"} & limits.keys():
            section.missing("atol", "atol and rtol, or cosine: a tolerance must be able to fail")
        tolerance[precision] = limits
    return tolerance


def _metric(top: Section) -> None:
    if "metric" not in top or nodes.is_null(top.get("metric")):
        return
    metric = Section(top.source, top.get("metric"), METRIC_KEYS, "metric")
    metric.choice("name", METRICS, required=True)
    if not isinstance(metric.get("minimum"), Map):
        metric.missing("minimum", "a mapping of precision to the least value")
    for name, value, _ in metric.children("minimum"):
        _number(metric, name, value, -1, 1)


def _images(top: Section) -> None:
    """Outputs that are pictures, by their places."""
    node = top.get("images")
    if node is None:
        return
    places = nodes.typed(node) if isinstance(node, Seq) else None
    if not isinstance(places, list) or not places or not all(type(at) is int and at >= 0 for at in places):
        top.error("images", "'images' must be a list of places of outputs, counted from 0: [0]")


def _hash(top: Section, folder: Path, source: ModelSource | None) -> str:
    """SHA-256 over the names and bytes of every file of the folder. Links that lead out of it are an error. Of a large file
    that the source declares with its hash, that hash stands for the bytes, which are checked when they are obtained: a model
    of gigabytes costs a plan nothing."""
    total = hashlib.sha256()
    size = 0
    root = folder.resolve()
    for path in sorted(Path(at) / name for at, folders, files in os.walk(folder) for name in (*files, *folders)):
        relative = path.relative_to(folder)
        if "__pycache__" in relative.parts or relative.name.startswith("."):
            continue
        if not path.resolve().is_relative_to(root) or (path.is_symlink() and path.is_dir()):
            top.source.error(top.node.where, f"{relative} is a link to a folder, or leads out of the recipe's")
            continue
        if not path.is_file():
            continue
        if path.stat().st_size > _DECLARED and (declared := _declared(source, relative)):
            total.update(f"{relative.as_posix()}\0declared {declared}\n".encode())
            continue
        size += path.stat().st_size
        if size > _MAX_BYTES:
            top.source.error(top.node.where, f"the recipe's folder is larger than {_MAX_BYTES >> 20} MiB")
            break
        with path.open("rb") as file:
            content = hashlib.sha256()
            while block := file.read(1 << 20):
                content.update(block)
        total.update(f"{relative.as_posix()}\0{content.hexdigest()}\n".encode())
    return total.hexdigest()


def _declared(source: ModelSource | None, relative: Path) -> str:
    if source is None or source.kind not in ("file", "folder"):
        return ""
    main = Path(source.name)
    if relative == main or (source.kind == "folder" and relative.is_relative_to(main)):
        return source.sha256
    return next((sha256 for name, sha256 in source.beside.items() if relative == main.parent / name), "")


def names(recipes: Path) -> list[str]:
    """The recipes that there are."""
    return sorted(path.parent.name for path in recipes.glob("*/recipe.yaml"))
