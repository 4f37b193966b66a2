"""The same cells, run in Docker and in virtual environments: where they came out otherwise. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Way = Mapping[str, Mapping[str, Any]]
"""Cell id -> the cell's outcome when realised in one way."""

#: What of two outcomes must be the same.
OUTCOME = ("status", "stage", "category")


def compare(venv: Way, docker: Way) -> dict[str, Any]:
    """{"compared": n, "differences": [...], "numbers": [...], "missing": {way: n}, "alone": n}.

    Both ways stand under one lock, so that what differs comes from the isolation: base system, C library, limits. A
    difference is another outcome or something else that was degraded; `numbers` are cells of one outcome whose outputs are
    not as far from the reference to the last bit. Cells that were not run one way are counted, not compared, as are those
    (`alone`) whose families are realised in one way only: that need Docker, or have no image.
    """
    differences: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    missing = {"venv": 0, "docker": 0}
    compared = alone = 0
    for name, one in venv.items():
        two = docker[name]
        if one["isolation"] == two["isolation"] or "docker" in one["isolation"].values():
            alone += 1
            continue
        absent = [way for way, cell in (("venv", one), ("docker", two)) if not told_anything(cell)]
        for way in absent:
            missing[way] += 1
        if absent:
            continue
        compared += 1
        entry = {"id": name, "slug": one["slug"]}
        if outcome(one) != outcome(two):
            differences.append({**entry, "venv": outcome(one), "docker": outcome(two)})
        elif numbers(one) != numbers(two):
            others.append({**entry, "venv": numbers(one), "docker": numbers(two)})
    return {"compared": compared, "differences": differences, "numbers": others, "missing": missing, "alone": alone}


def told_anything(cell: Mapping[str, Any]) -> bool:
    """Whether a cell's outcome says something of its versions. One that is blocked by a step which failed does, one that was
    left alone for a fact does not: nothing was tried."""
    return cell["status"] not in ("skipped", "blocked", "unsupported") or (
        cell["status"] == "blocked" and cell["category"] != "infrastructure"
    )


def outcome(cell: Mapping[str, Any]) -> dict[str, Any]:
    degraded = sorted(f"{entry['asked']} -> {entry['got']}" for entry in cell["degraded"])
    return {**{name: cell[name] for name in OUTCOME}, "degraded": degraded}


def numbers(cell: Mapping[str, Any]) -> list[Any]:
    """How far each output is from the reference: [case, output, largest absolute difference]."""
    return [[row["case"], row["name"], row.get("max_abs")] for row in (cell["comparison"] or {}).get("outputs") or ()]


def told(one: Mapping[str, Any]) -> str:
    """One way's outcome in words."""
    more = ", ".join(filter(None, [one["category"], *one["degraded"]]))
    return f"{one['status']} at {one['stage']}" + (f" ({more})" if more else "")


def lines(found: Mapping[str, Any]) -> Iterable[str]:
    """For a terminal."""
    for entry in found["differences"]:
        yield f"{entry['id']} {entry['slug']}"
        for way in ("venv", "docker"):
            yield f"  {way:7} {told(entry[way])}"
    if found["numbers"]:
        yield f"{len(found['numbers'])} cells have one outcome and other last digits: {found['numbers'][0]['slug']}, ..."
    for way, number in found["missing"].items():
        if number:
            yield f"{number} cells have no result in {way}; `enginematrix run --isolation {way}` makes it, where this machine can"
    if found["alone"]:
        yield f"{found['alone']} cells are realised in one way only"
    yield f"{found['compared']} cells ran both ways, {len(found['differences'])} came out otherwise"
