"""Known-good stacks: which engine stack is verified for what, since when and on what machine, and what of it fails.

From a report's cells (docs/report-schema.md); since when, from the results of earlier runs in the store, where there is one.
"""

from __future__ import annotations

import contextlib
import shlex
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.project import program
from builder.report.stacks import ordered
from builder.report.versions import machine_name
from builder.values import FAILING

ROWS = 200_000
"""Results of earlier runs that are looked into, newest first; with more, `since` is at the latest what it says."""
_RESULTS = "select cell, status from results where run = ? and outcome not like '%.suite' and outcome not like '%.grid'"
_SILENT = ("skipped", "blocked", "unsupported")
"""What says nothing of a cell, and so ends no row of verified results."""


def stacks(cells: Sequence[Mapping[str, Any]], since: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """One entry for each engine stack, by family, newest release first; known good are those with verified cells:

    {"engine": id, "verified", "built", "failing", "silent": cells, "coverage": [[model, precision, verified, others that ran or
    failed]], "since": ISO, earliest verified result of a row that was not broken up to now, "all": ISO, the latest of those,
    "seen": ISO, newest of them, "machines": ["AMD EPYC, no GPU"], "exporters": [ids], "pick": command | null, "run": command}.
    `since`: cell id -> ISO (`verified_since`); without it the time of the result itself counts.
    """
    since = since or {}
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        if "built_on" not in cell and "suite" not in cell:
            groups.setdefault(cell["engine"]["id"], []).append(cell)
    known = _pickable() if groups else frozenset()
    out = []
    for engine in reversed(ordered(group[0]["engine"] for group in groups.values())):
        group = groups[engine["id"]]
        good = [cell for cell in group if cell["status"] == "verified"]
        times = sorted(since.get(cell["id"], cell["when"]) for cell in good if cell["when"])
        out.append({
            "engine": engine["id"], "verified": len(good), "built": sum(cell["status"] == "built" for cell in group),
            "failing": sum(cell["status"] in FAILING for cell in group),
            "silent": sum(cell["status"] in _SILENT for cell in group), "coverage": _coverage(group),
            "since": times[0] if times else None, "all": times[-1] if times else None,
            "seen": max((cell["when"] for cell in good if cell["when"]), default=None),
            "machines": list(dict.fromkeys(machine_name(cell["machine"]) for cell in good if cell.get("machine"))),
            "exporters": list(dict.fromkeys(cell["exporter"]["id"] for cell in good)),
            "pick": _pick(engine, group[0], known), "run": _run(engine, group[0]),
        })  # fmt: skip
    families = list(dict.fromkeys(cell["engine"]["family"] for cell in cells))
    family = {cell["engine"]["id"]: families.index(cell["engine"]["family"]) for cell in cells}
    return sorted(out, key=lambda entry: family[entry["engine"]])


def _coverage(group: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    """[model, precision, verified, others that ran or failed] in the order in which the cells come."""
    out: dict[tuple[str, str], list[int]] = {}
    for cell in group:
        counts = out.setdefault((cell["axes"]["model"], cell["axes"].get("precision", "")), [0, 0])
        counts[0] += cell["status"] == "verified"
        counts[1] += cell["status"] in FAILING or cell["status"] == "built"
    return [[model, precision, *counts] for (model, precision), counts in out.items()]


# ---------------------------------------------------------------- commands


def _pickable() -> frozenset[str]:
    """Names of the stacks that `pick` chooses from."""
    from builder.facts_records import CATALOG
    from builder.pick_stacks import candidates

    return frozenset(item.id for item in candidates(CATALOG))


def _pick(engine: Mapping[str, Any], cell: Mapping[str, Any], known: frozenset[str]) -> str | None:
    """The command that prints this very stack to install: where `pick` knows it, which has no stack of a family that the
    catalog lacks, nor one with a package added."""
    fields = {name: value for name, value in engine["fields"].items() if name != "python"}
    python = engine["fields"].get("python")
    if engine["id"].removesuffix(f"-py{python}") not in known or engine["family"] not in fields:
        return None
    need = ",".join(f"{name}=={value}" for name, value in fields.items())
    form = "dockerfile" if cell["isolation"]["engine"] == "docker" else "requirements"
    version = f" --python {python}" if python else ""
    return f"{program(cell)} pick --need {shlex.quote(need)}{version} --emit {form}"


def _run(engine: Mapping[str, Any], cell: Mapping[str, Any]) -> str:
    """The command that runs all of the matrix on this stack."""
    terms = [f"engine={engine['entry']}", *(f"engine.{name}={value}" for name, value in engine["fields"].items())]
    return f"{program(cell)} run --select {shlex.quote(' and '.join(terms))}"


# ---------------------------------------------------------------- since when


def verified_since(database: Path) -> dict[str, str]:
    """Cell id -> start (ISO 8601) of the earliest run from which on every result of the cell was `verified`, by the results
    database of the store; {} where there is none that can be read. Runs that say nothing of a cell are passed over."""
    from builder.store import open_readonly

    if not database.is_file():
        return {}
    out: dict[str, str] = {}
    broken: set[str] = set()
    with contextlib.suppress(sqlite3.Error), contextlib.closing(open_readonly(database)) as db:
        looked = 0
        # Run by run: to order all results by time would be to sort a million of them.
        for run, started in db.execute("select id, started from runs order by started desc, rowid desc").fetchall():
            for cell, status in db.execute(_RESULTS, (run,)):
                looked += 1
                if cell in broken or status in _SILENT:
                    continue
                if status == "verified":
                    out[cell] = started
                else:
                    broken.add(cell)
            if looked > ROWS:
                break
    return out


def for_page(cells: Sequence[Mapping[str, Any]], root: Path | None) -> list[dict[str, Any]]:
    """`stacks`, with what the store below `root` says of earlier runs."""
    return stacks(cells, verified_since(root / "results.sqlite") if root is not None else None)
