"""Which operators work where: the cells of suites as a table for people (operators.html) and programs (.csv, .json).

A suite has thousands of cells; the report's own pages show it as a line for each engine stack, unless so few were selected
that they can be read one by one.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from builder.report.stacks import ordered
from builder.values import STATUSES

FEW = 200
"""So many cells of suites are still shown as any others are."""
FILES = ("operators.html", "operators.csv", "operators.json")
_TRIED = frozenset(STATUSES) - {"skipped", "blocked", "unsupported"}

Cell = Mapping[str, Any]


def fold(report: Mapping[str, Any]) -> tuple[dict[str, Any], list[Cell]]:
    """(the report with its cells of suites told as `suites`, where they are many; all cells of suites)."""
    cases = [cell for cell in report["cells"] if cell.get("suite")]
    if len(cases) <= FEW:
        return dict(report), cases
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for cell in cases:
        line = lines.setdefault(
            (cell["suite"]["name"], cell["engine"]["id"]),
            {
                "suite": cell["suite"]["name"],
                "engine": cell["engine"],
                "cells": 0,
                "counts": dict.fromkeys(STATUSES, 0),
            },
        )
        line["cells"] += 1
        line["counts"][cell["status"]] += 1
    rest = [cell for cell in report["cells"] if not cell.get("suite")]
    return {**report, "cells": rest, "suites": list(lines.values())}, cases


def table(report: Mapping[str, Any], cases: Sequence[Cell]) -> dict[str, Any]:
    """operators.json (docs/operators.md): suites, their stacks, and for each operator and case what came of it on each."""
    run = {key: report["run"][key] for key in ("id", "started", "machine")}
    suites: dict[str, list[Cell]] = {}
    for cell in cases:
        suites.setdefault(cell["suite"]["name"], []).append(cell)
    return {
        "schema": 1, "version": report["version"], "run": run, "matrix": report["run"]["matrix"]["name"],
        "suites": [_suite(name, cells) for name, cells in suites.items()],
    }  # fmt: skip


def _suite(name: str, cells: Sequence[Cell]) -> dict[str, Any]:
    stacks = ordered(cell["engine"] for cell in cells)
    at = {stack["id"]: index for index, stack in enumerate(stacks)}
    rows: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for cell in cells:
        about = cell["suite"]
        row = rows.setdefault((cell["axes"]["operator"], about["domain"]), {})
        case = row.setdefault(
            cell["axes"]["case"],
            {"case": cell["axes"]["case"], "opset": about["opset"], "results": [None] * len(stacks)},
        )
        result = {"status": cell["status"], "id": cell["id"]}
        if cell["status"] not in ("verified", "built"):
            result.update(stage=cell["stage"], category=cell["category"], line=cell["line"] or cell["reason"])
        if cell["flaky"]:
            result["note"] = cell["reason"]
        case["results"][at[cell["engine"]["id"]]] = result
    about = cells[0]["suite"]
    return {
        "name": name, "package": about["package"], "version": about["version"], "precision": about["precision"],
        "stacks": [{key: stack[key] for key in ("id", "family", "version", "label", "fields")} for stack in stacks],
        "counts": [_counts(cell for cell in cells if cell["engine"]["id"] == stack["id"]) for stack in stacks],
        "operators": [_operator(operator, domain, row, stacks) for (operator, domain), row in sorted(rows.items())],
    }  # fmt: skip


def _operator(
    name: str, domain: str, row: Mapping[str, Mapping[str, Any]], stacks: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:  # fmt: skip
    cases = [row[case] for case in sorted(row)]
    counts = [
        _counts(case["results"][index] for case in cases if case["results"][index]) for index in range(len(stacks))
    ]
    return {
        "operator": name, "domain": domain, "opsets": sorted({case["opset"] for case in cases}),
        "works": [works(count) for count in counts], "counts": counts,
        "releases": {family: _releases(family, cases, counts, stacks) for family in dict.fromkeys(s["family"] for s in stacks)},
        "cases": cases,
    }  # fmt: skip


def _counts(results: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for result in results:
        counts[result["status"]] = counts.get(result["status"], 0) + 1
    return counts


def works(counts: Mapping[str, int]) -> str:
    """`all` (every case that was tried is verified), `some`, `none`; `built` where engines were built and none could be run;
    `unknown` where nothing was tried."""
    tried = sum(n for status, n in counts.items() if status in _TRIED)
    if not tried:
        return "unknown"
    if counts.get("built", 0) == tried:
        return "built"
    good = counts.get("verified", 0)
    return "all" if good == tried else "some" if good else "none"


def _releases(
    family: str, cases: Sequence[Mapping[str, Any]], counts: Sequence[Mapping[str, int]], stacks: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:  # fmt: skip
    """Over the releases of a family in this report, oldest first: `since`, the first from which on every case works in each
    later one too; `first`, the first in which any case works (null: none); `lost`, where cases that worked in the release
    before do not. Variants (another NumPy) are no releases."""
    plain = [index for index, stack in enumerate(stacks) if stack["family"] == family and not stack["more"]]
    since = None
    for index in reversed(plain):
        if works(counts[index]) != "all":
            break
        since = stacks[index]["version"]
    first = next((stacks[i]["version"] for i in plain if counts[i].get("verified")), None)
    lost = []
    for before, after in itertools.pairwise(plain):
        names = [
            case["case"] for case in cases
            if (a := case["results"][before]) and (b := case["results"][after])
            and a["status"] == "verified" and b["status"] in _TRIED - {"verified"}
        ]  # fmt: skip
        if names:
            lost.append({"version": stacks[after]["version"], "cases": names})
    return {"since": since, "first": first, "lost": lost}


def csv_text(data: Mapping[str, Any]) -> str:
    """operators.csv: a line for each suite, operator and engine stack."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["suite", "operator", "domain", "opsets", "family", "version", "stack", "cases", *STATUSES, "works",
                     "works_since", "first_release_of_any"])  # fmt: skip
    for suite in data["suites"]:
        for row in suite["operators"]:
            for index, stack in enumerate(suite["stacks"]):
                counts, releases = row["counts"][index], row["releases"][stack["family"]]
                writer.writerow([
                    suite["name"], row["operator"], row["domain"], " ".join(map(str, row["opsets"])), stack["family"],
                    stack["version"], stack["id"], sum(counts.values()), *(counts.get(status, 0) for status in STATUSES),
                    row["works"][index], releases["since"] or "", releases["first"] or "",
                ])  # fmt: skip
    return out.getvalue()
