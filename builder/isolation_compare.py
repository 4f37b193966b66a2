"""`enginematrix compare-isolation`: the same cells, run in Docker and in virtual environments. Reads stored results alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from builder.pipeline import Work

#: What of two outcomes must be the same.
OUTCOME = ("status", "stage", "category")


def compare(work: Work) -> dict[str, Any]:
    """{"compared": n, "differences": [...], "numbers": [...], "missing": {way: n}, "alone": n}.

    Both ways stand under one lock, so that what differs comes from the isolation: base system, C library, limits. A
    difference is another outcome or something else that was degraded; `numbers` are cells of one outcome whose outputs are
    not the same to the last bit. Cells that were not run one way are counted, not compared, as are those (`alone`) whose
    family is realised in one way only.
    """
    from builder import pipeline

    ways: dict[str, Mapping[str, Any]] = {}
    for way in ("venv", "docker"):
        report = pipeline.stored(replace(work, asked=way), command="enginematrix compare-isolation", policy="never", write=False)
        ways[way] = {cell["id"]: cell for cell in report.report["cells"]}
    found: dict[str, Any] = {
        "select": work.select, "compared": 0, "differences": [], "numbers": [], "missing": {"venv": 0, "docker": 0}, "alone": 0,
    }  # fmt: skip
    for cell in work.cells:
        venv, docker = ways["venv"][cell.id], ways["docker"][cell.id]
        if venv["isolation"] == docker["isolation"]:
            found["alone"] += 1
            continue
        absent = [way for way, one in (("venv", venv), ("docker", docker)) if one["status"] in ("skipped", "blocked")]
        for way in absent:
            found["missing"][way] += 1
        if absent:
            continue
        found["compared"] += 1
        entry = {"id": cell.id, "slug": cell.slug, "venv": outcome(venv), "docker": outcome(docker)}
        if entry["venv"] != entry["docker"]:
            found["differences"].append(entry)
        elif numbers(venv) != numbers(docker):
            found["numbers"].append({**entry, "venv": numbers(venv), "docker": numbers(docker)})
    return found


def outcome(cell: Mapping[str, Any]) -> dict[str, Any]:
    degraded = sorted(f"{entry['asked']} -> {entry['got']}" for entry in cell["degraded"])
    return {**{name: cell[name] for name in OUTCOME}, "degraded": degraded}


def numbers(cell: Mapping[str, Any]) -> list[Any]:
    """How far each output is from the reference: [case, output, largest absolute difference]."""
    return [[row["case"], row["name"], row.get("max_abs")] for row in (cell["comparison"] or {}).get("outputs") or ()]


def lines(found: Mapping[str, Any]) -> list[str]:
    """For a terminal."""
    out = []
    for entry in found["differences"]:
        out.append(f"{entry['id']} {entry['slug']}")
        for way in ("venv", "docker"):
            one = entry[way]
            more = f", {', '.join(one['degraded'])}" if one["degraded"] else ""
            out.append(f"  {way:7} {one['status']} at {one['stage']} {one['category'] or ''}{more}".rstrip())
    if found["numbers"]:
        out.append(f"{len(found['numbers'])} cells with one outcome and other last digits: {found['numbers'][0]['slug']}, ...")
    for way, number in found["missing"].items():
        if number:
            hint = f"enginematrix run --isolation {way}"
            out.append(f"{number} cells have no result in {way}; `{hint}` makes it")
    if found["alone"]:
        out.append(f"{found['alone']} cells can be realised in one way only")
    out.append(f"{found['compared']} cells ran both ways, {len(found['differences'])} came out otherwise")
    return out
