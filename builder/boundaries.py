"""Boundaries: along the releases of a component, or the opset, where cells that agree in all else begin or cease to work.

Pure functions over a report's cells. A boundary is two neighbours among the values that were run: the last that works and the
first that fails, or the other way round. What was built and could not be run here is said to build, not to work. What lies
between them and was not run is named, since the true boundary may be there; and a row that changes back again (works, fails,
works) is told as what it is, not as a boundary with an exception.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

from builder import versions
from builder.conflict_rules import category_of, is_ordered, values
from builder.conflict_rules_words import short
from builder.fields import ROLES
from builder.values import FAILING

GOOD = frozenset({"verified", "built"})
NAMED = 6
"""Values that were not tried and are named one by one in a sentence."""

Row = list[tuple[str, Mapping[str, Any]]]
"""The cells of one context along an axis: (value, cell), in the order of the values."""


def boundaries(
    cells: Sequence[Mapping[str, Any]], known: Mapping[str, Sequence[str]] | None = None
) -> list[dict[str, Any]]:
    """Where something changes, equal boundaries of several models and options together, most rows first
    (docs/report-schema.md, BOUNDARY). `known`: the releases that there are of a component, by its name.
    Cells need `id, status, category, axes, engine, exporter`."""
    named = [values(cell) for cell in cells]
    seen: dict[str, dict[str, None]] = {}
    for own in named:
        for name, value in own.items():
            seen.setdefault(name, {})[value] = None
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for axis, its in seen.items():
        if len(its) < 2 or axis.endswith(".python") or not is_ordered(its):
            continue
        between = {*(known or {}).get(axis.rpartition(".")[2], ()), *its}
        released = [value for value in versions.ordered(between) if _final(value) or value in its]
        for row in _rows(axis, cells, named):
            _row(found, axis, row, released)
    out = [{**item, "text": _text(item), "count": len(item["where"]),
            "models": sorted({place["model"] for place in item["where"]})} for item in found.values()]  # fmt: skip
    return sorted(out, key=lambda item: (-item["count"], item["axis"], item["text"]))


def _final(value: str) -> bool:
    parsed = versions.version(value)
    return parsed is not None and not parsed.is_prerelease


def _rows(axis: str, cells: Sequence[Mapping[str, Any]], named: Sequence[Mapping[str, str]]) -> Iterable[Row]:
    """Cells that agree in all but the axis. A stack's Python and the name of its entry may go along with its release; where one
    release has several of them, they tell rows apart."""
    role = axis.partition(".")[0] if "." in axis else ""
    loose = {axis, f"{role}.python", role}
    groups: dict[frozenset[tuple[str, str]], list[int]] = {}
    for at, own in enumerate(named):
        if axis in own:
            groups.setdefault(frozenset(item for item in own.items() if item[0] not in loose), []).append(at)
    for group in groups.values():
        parts = {"": group}
        if len({named[at][axis] for at in group}) < len(group):
            parts = {}
            for at in group:
                parts.setdefault(f"{named[at].get(f'{role}.python')} {named[at].get(role)}", []).append(at)
        for part in parts.values():
            order = {value: place for place, value in enumerate(versions.ordered({named[at][axis] for at in part}))}
            yield sorted(((named[at][axis], cells[at]) for at in part), key=lambda item: order[item[0]])


def _row(found: dict[tuple[Any, ...], dict[str, Any]], axis: str, row: Row, released: Sequence[str]) -> None:
    """Add what changes along one row, if anything does."""
    told = [(value, cell) for value, cell in row if cell["status"] in GOOD or cell["status"] in FAILING]
    spans = [(works, list(items)) for works, items in groupby(told, key=lambda item: item[1]["status"] in GOOD)]
    if len(spans) < 2:
        return
    tried = [value for value, _ in told]
    runs: list[dict[str, Any]] = [
        {"works": works, "built": any(cell["status"] == "built" for _, cell in items), "first": items[0][0], "last": items[-1][0],
         "categories": [] if works else list(dict.fromkeys(category_of(cell) for _, cell in items))}
        for works, items in spans
    ]  # fmt: skip
    changes = []
    place = {value: at for at, value in enumerate(released)}
    for before, after in pairwise(runs):
        inside = released[place[before["last"]] + 1 : place[after["first"]]]
        changes.append({"from": before["last"], "to": after["first"], "works": after["works"],
                        "untried": [value for value in inside if value not in tried]})  # fmt: skip
    kind = "non-monotone" if len(changes) > 1 else "mended" if changes[0]["works"] else "breaks"
    key = (axis, str(runs), str(changes))
    item = found.setdefault(key, {"axis": axis, "name": short(axis), "kind": kind, "runs": runs, "changes": changes,
                                  "where": []})  # fmt: skip
    ids: dict[str, Any] = {value: cell["id"] for value, cell in told}
    first = told[0][1]
    item["where"].append({
        "model": first["axes"]["model"],
        "options": {name: value for name, value in first["axes"].items() if name not in ("model", axis)},
        "stacks": [_stack(first[role], axis) for role in ROLES],
        "cells": [[ids[change["from"]], ids[change["to"]]] for change in changes],
    })  # fmt: skip


def _stack(stack: Mapping[str, Any], axis: str) -> str:
    """The stack without what changes along the row: `onnxruntime`, `tensorrt-rtx cuda 12`, `torch 2.13.0`."""
    own = axis.rpartition(".")[2]
    fields = [value if name == stack["family"] else f"{name} {value}"
              for name, value in stack["fields"].items() if name not in (own, "python")]  # fmt: skip
    return " ".join([stack["family"], *fields])


def _text(item: Mapping[str, Any]) -> str:
    """`onnxruntime: fails up to 1.17.3 (unsupported-ir), works from 1.18.1 on; 1.18.0 was not tried`."""
    parts, runs = [], item["runs"]
    for at, run in enumerate(runs):
        word = "fails" if not run["works"] else "builds" if run["built"] else "works"
        why = f" ({', '.join(run['categories'])})" if run["categories"] else ""
        if at == 0:
            where = f"up to {run['last']}"
        elif at == len(runs) - 1:
            where = f"from {run['first']} on"
        else:
            where = f"at {run['first']}" if run["first"] == run["last"] else f"from {run['first']} to {run['last']}"
        parts.append(f"{word} {where}{why}")
    text = f"{item['name']}: {', '.join(parts)}"
    for change in item["changes"]:
        if change["untried"]:
            text += f"; between {change['from']} and {change['to']}, {_untried(change)} not tried"
    return text


def _untried(change: Mapping[str, Any]) -> str:
    """`1.19.x was`, `1.18.0, 1.18.1 were`: minor releases of which nothing was tried as one."""
    ends = {_minor(change["from"]), _minor(change["to"])}
    names = list(dict.fromkeys(
        value if _minor(value) in ends or "." not in value else f"{_minor(value)}.x" for value in change["untried"]
    ))  # fmt: skip
    shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    return f"{shown} {'was' if len(names) == 1 else 'were'}"


def _minor(value: str) -> str:
    parsed = versions.version(value)
    return ".".join(map(str, parsed.release[:2])) if parsed else value
