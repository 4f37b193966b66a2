"""What report.html's script gets: columns of all cells, blocks that are read when a view needs them, details in parts.

A cell's record is about 7 KB, and a page that parses a hundred thousand of them opens nowhere. So the page has

- `head`: what every view needs, each text once and cells as columns of numbers that point at them (about 60 bytes a cell);
- `blocks`: JSON by name, parsed when first asked for: `numbers` (timings and errors of all cells), `analysis` (rules,
  boundaries, predictions), `shared` (loaded libraries, machines, images), `pictures`;
- `parts`: the rest of each record, PART cells in one, read when a cell is opened. They are in the page while they are small
  together, and else in script files beside it, since a page from disk may not fetch.

The names here are those that templates/core.js reads; report.json has the same data in the shape of docs/report-schema.md.
"""

from __future__ import annotations

import json
import marshal
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from builder.report.stacks import ordered
from builder.values import STAGES, STATUSES

PART = 250
"""Cells in one part."""
#: Keys of a record that are in columns or blocks, and so in no part.
ELSEWHERE = frozenset({
    "id", "slug", "status", "stage", "reason", "category", "signature", "line", "diagnosis", "remedy", "source", "expected",
    "flaky", "axes", "engine", "exporter", "built_on", "measure", "check", "reused", "when", "seconds", "loaded", "machine",
    "image", "suite",
})  # fmt: skip
CAUSE = ("category", "signature", "diagnosis", "remedy", "source")
#: Keys whose values many cells share, as numbers that point into the block `shared`.
SHARED = ("loaded", "machine", "image")


class Texts:
    """Values once each, by number in the order of their first appearance."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._at: dict[Hashable, int] = {}

    def number(self, value: Any, key: Hashable | None = None) -> int:
        """`key`: what stands for a value that cannot be hashed."""
        mark = value if key is None else key
        at = self._at.get(mark)
        if at is None:
            at = self._at[mark] = len(self.values)
            self.values.append(value)
        return at


def packed(values: list[Any]) -> Any:
    """A column; one value where it has no other."""
    return values[0] if values and all(value == values[0] for value in values) else values


def columns(cells: Sequence[Mapping[str, Any]], findings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Cells as columns, with the tables that they point into."""
    engines, exporters = ordered(c["engine"] for c in cells), ordered(c["exporter"] for c in cells)
    builders = ordered(c["built_on"] for c in cells if "built_on" in c)
    engine_at, exporter_at, builder_at = (
        {stack["id"]: at for at, stack in enumerate(stacks)} for stacks in (engines, exporters, builders)
    )
    status_at = {status: at for at, status in enumerate(STATUSES)}
    stage_at = {stage: at for at, stage in enumerate(STAGES)}
    finding_at = {cell: at for at, finding in enumerate(findings, 1) for cell in finding["cells"]}
    options, slugs, causes, texts, expected, times = Texts(), Texts(), Texts(), Texts(), Texts(), Texts()
    texts.number(None)
    expected.number(None, "")
    out: dict[str, list[Any]] = {name: [] for name in (
        "id", "status", "stage", "engine", "exporter", "options", "slug", "cause", "line", "reason", "expected", "finding",
        "flags", "seconds", "when", "built_on",
    )}  # fmt: skip
    odd = {}
    for at, cell in enumerate(cells):
        stack, slug = cell["engine"]["id"], cell["slug"]
        out["id"].append(cell["id"])
        out["status"].append(status_at[cell["status"]])
        out["stage"].append(stage_at[cell["stage"]])
        out["engine"].append(engine_at[stack])
        out["exporter"].append(exporter_at[cell["exporter"]["id"]])
        out["options"].append(options.number(cell["axes"], tuple(cell["axes"].items())))
        if slug.startswith(stack):  # the rest is that of the same options on another stack
            out["slug"].append(slugs.number(slug[len(stack) :]))
        else:
            odd[at] = slug
            out["slug"].append(0)
        out["cause"].append(causes.number(tuple(cell[name] for name in CAUSE)))
        out["line"].append(texts.number(cell["line"]))
        out["reason"].append(texts.number(cell["reason"]))
        state = cell["expected"]
        out["expected"].append(expected.number(state, json.dumps(state, sort_keys=True) if state else ""))
        out["finding"].append(finding_at.get(cell["id"], 0))
        out["flags"].append(bool(cell["flaky"]) + 2 * bool(cell["reused"]))
        out["seconds"].append(round(cell["seconds"], 4) if cell["seconds"] is not None else None)
        out["when"].append(times.number(cell["when"]))
        out["built_on"].append(builder_at[cell["built_on"]["id"]] + 1 if "built_on" in cell else 0)
    return {
        "n": len(cells), "columns": {name: packed(values) for name, values in out.items()}, "odd": odd,
        "engines": engines, "exporters": exporters, "builders": builders, "stages": STAGES, "options": options.values,
        "slugs": slugs.values, "causes": causes.values, "texts": texts.values, "expected": expected.values,
        "times": times.values,
    }  # fmt: skip


def numbers(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What views over all timed or compared cells need: cell by number -> its record's `measure`, the error of its worst
    output and the noise floor, bytes of its engine, what `check` says."""
    out: dict[str, Any] = {"measure": {}, "error": {}, "floor": {}, "bytes": {}, "check": {}}
    for at, cell in enumerate(cells):
        if cell["measure"]:
            out["measure"][at] = cell["measure"]
        if cell["comparison"] and (error := error_of(cell["comparison"])) is not None:
            out["error"][at], out["floor"][at] = error, _floor(cell["comparison"])
        if cell["artifact"]:
            out["bytes"][at] = cell["artifact"]["bytes"]
        if cell.get("check"):
            out["check"][at] = cell["check"]
    return out


def error_of(comparison: Mapping[str, Any]) -> float | None:
    """The largest |a-b| of any output as a share of that output's largest reference value; -1 where non-finite values differ;
    None where the share of an output is not known."""
    shares = [_share(output) for output in comparison.get("outputs") or ()]
    known = [share for share in shares if share is not None]
    if not shares or len(known) < len(shares):
        return None
    return -1 if -1 in known else max(known)


def _share(output: Mapping[str, Any]) -> float | None:
    if output.get("nonfinite_equal") is False:
        return -1
    noise = output.get("noise")
    if not noise or not noise["scale"] or noise["scale"] < 0 or output.get("max_abs") is None:
        return None
    return float(output["max_abs"] / noise["scale"])


def _floor(comparison: Mapping[str, Any]) -> float:
    noises = [output.get("noise") for output in comparison.get("outputs") or ()]
    return max((n["max_abs"] / n["scale"] for n in noises if n and n["scale"] and n["scale"] > 0), default=0)


def parts(cells: Sequence[Mapping[str, Any]], shared: dict[str, Texts]) -> Iterator[list[dict[str, Any]]]:
    """Details of PART cells at a time; `shared` gets the values that they point at."""
    for start in range(0, len(cells), PART):
        yield [_detail(cell, shared) for cell in cells[start : start + PART]]


def _detail(cell: Mapping[str, Any], shared: dict[str, Texts]) -> dict[str, Any]:
    out = {k: v for k, v in cell.items() if k not in ELSEWHERE and v not in (None, [], {}, "", False)}
    for name in SHARED:
        if value := cell.get(name):
            out[name] = shared.setdefault(name, Texts()).number(value, _mark(value))
    return out


def _mark(value: Any) -> Hashable:
    return marshal.dumps(value, 2)  # equal values, equal bytes (2: without references), at a fraction of JSON's cost
