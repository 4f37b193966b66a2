"""Conflict rules: which axis values together explain the failures of one category. Pure functions over a report's cells.

What counts as evidence is decided here; the method, and its source, is in `conflict_rules_search`.

A category is looked at once for each phase in which its cells failed: `export`; `build` (parse and build), and `run` (load, run,
compare). A cell that fails so is for a rule, one that got through that phase is against it (`built` is against a rule about
builds, and says nothing of runs), and every other cell says nothing: what was skipped, blocked or left alone, and what failed
in another way, which may have hidden this one. A degradation of which some cells were `built` shows without running, so for all
of it `built` cells count. Rules of two phases with the same conditions are one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import log2
from typing import Any

from builder import conflict_rules_words as words
from builder import versions
from builder.conflict_rules_search import CONTEXTS, TOTAL, Conditions, Field, Search, bits, rows
from builder.fields import ROLES
from builder.values import FAILING, STAGES

LIMIT = 0.01
"""The chance, at most, that a report whose failures are luck shows any rule (docs/rules.md has the measured rate)."""
PHASES = ("export", "build", "run")
_PHASE = {stage: "build" if stage in ("parse", "build") else "run" if stage in ("load", "run", "compare") else "export"
          for stage in STAGES}  # fmt: skip


def rules(cells: Sequence[Mapping[str, Any]], *, limit: float = LIMIT) -> dict[str, Any]:
    """What explains the failures of a report's cells (docs/report-schema.md, RULES):

        {"limit": chance of a false rule, "rules": [RULE...], "unexplained": [{"category", "phase", "cells": [ids],
         "passing": cells that could speak against a rule}...], "limited": whether a search was cut short}

    Rules come with the most failing cells first. Cells need `id, status, stage, category, axes, engine, exporter`.
    """
    named = [values(cell) for cell in cells]
    fields, searched = _fields(named)
    placed = rows(fields, named)
    groups = _groups(cells)
    least = log2(max(1, len(groups)) / limit)
    found: dict[tuple[str, _Named], dict[str, Any]] = {}
    unexplained: list[dict[str, Any]] = []
    limited, budget = False, TOTAL
    passing = {phase: [at for at, cell in enumerate(cells) if _passes(cell, phase)] for phase in PHASES}
    good = {phase: bits(fields, [placed[at] for at in passing[phase]]) for phase in {phase for _, phase in groups}}
    for (category, phase), failing in groups.items():
        bad = bits(fields, [placed[at] for at in failing])
        search = Search(fields, bad, good[phase], len(failing), len(passing[phase]), searched)
        while (rule := search.best(least, min(CONTEXTS, budget))) is not None:
            budget -= search.solved
            _add(found, category, phase, rule.score, rule.conditions, search)
            search.explain(rule.conditions)
        budget -= search.solved
        left = [cells[at]["id"] for bit, at in enumerate(failing) if search.left >> bit & 1]
        if left:
            unexplained.append({"category": category, "phase": phase, "cells": left, "passing": len(passing[phase])})
        limited = limited or search.limited
    known = {field.name: field.values for field in fields}
    made = [_rule(rule, cells, named, groups, known) for rule in found.values()]
    made.sort(key=lambda rule: (-rule["failing"], rule["category"], rule["text"]))
    unexplained.sort(key=lambda item: (-len(item["cells"]), item["category"], item["phase"]))
    return {"limit": limit, "rules": made, "unexplained": unexplained, "limited": limited}


def values(cell: Mapping[str, Any]) -> dict[str, str]:
    """A cell's fields by the names that rules of matrix.yaml take everywhere: `model`, `opset`, `engine`, `engine.cuda`..."""
    out = {name: str(value) for name, value in cell["axes"].items()}
    for role in ROLES:
        stack = cell[role]
        out |= {f"{role}.{name}": str(value) for name, value in stack["fields"].items()}
        out |= {f"{role}.family": stack["family"], role: stack["entry"]}
    return out


def is_ordered(values_: Iterable[str]) -> bool:
    """Whether all values are versions or numbers, so that ranges of them mean something."""
    return all(versions.version(value) is not None for value in values_)


def category_of(cell: Mapping[str, Any]) -> str:
    """What failed, as `expect:` names it: the category, else the status."""
    return str(cell["category"] or cell["status"])


def _groups(cells: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[int]]:
    """(Category, phase) -> places of its failing cells."""
    unrun = {category_of(cell) for cell in cells if cell["status"] == "degraded" and _PHASE[cell["stage"]] != "run"}
    out: dict[tuple[str, str], list[int]] = {}
    for at, cell in enumerate(cells):
        if cell["status"] not in FAILING:
            continue
        category, phase = category_of(cell), _PHASE[cell["stage"]]
        if cell["status"] == "degraded" and category in unrun:
            phase = "build"
        out.setdefault((category, phase), []).append(at)
    return dict(sorted(out.items()))


def _passes(cell: Mapping[str, Any], phase: str) -> bool:
    return cell["status"] == "verified" or (cell["status"] == "built" and phase != "run")


def _rank(name: str) -> tuple[int, str]:
    """Of fields that say the same, the one that is nearest to a cause: versions, then options, the model, and Python and the
    names that the matrix gave, which only go along with something, last."""
    own = name.partition(".")[2]
    order = 0 if own and own not in ("python", "family") else 3 if own == "python" else 2 if own else 1
    return (4 if name in ("engine", "exporter") else order), name


def _fields(cells: Sequence[Mapping[str, str]]) -> tuple[list[Field], int]:
    """The fields in which cells differ, and how many of them to search, from the first on. The rest, a stack's Python and the
    name of its entry where its other fields decide them, only go along with a cause; they are named beside a rule."""
    seen: dict[str, dict[str, None]] = {}
    number: dict[str, int] = {}
    for cell in cells:
        for name, value in cell.items():
            seen.setdefault(name, {})[value] = None
            number[name] = number.get(name, 0) + 1
    stacks = {
        role: {tuple(item for item in cell.items() if item[0].startswith(role)) for cell in cells} for role in ROLES
    }
    searched: list[Field] = []
    derived: list[Field] = []
    for name in sorted(seen, key=_rank):
        found = versions.ordered(seen[name])
        if len(found) > 1 or number[name] < len(cells):
            field = Field(name=name, values=tuple(found), ordered=len(found) > 1 and is_ordered(found))
            (derived if _decided(name, stacks) else searched).append(field)
    return [*searched, *derived], len(searched)


def _decided(name: str, stacks: Mapping[str, Iterable[tuple[tuple[str, str], ...]]]) -> bool:
    """Whether the field is a stack's Python, or its entry, and goes along with its other fields."""
    role, _, own = name.partition(".")
    if role not in ROLES or own not in ("", "python"):
        return False
    of: dict[tuple[tuple[str, str], ...], set[str]] = {}
    for stack in stacks[role]:
        rest = tuple(item for item in stack if item[0] not in (role, f"{role}.python"))
        of.setdefault(rest, set()).add(dict(stack).get(name, ""))
    return all(len(values_) == 1 for values_ in of.values())


_Named = tuple[tuple[str, tuple[str, ...]], ...]


def _add(
    found: dict[tuple[str, _Named], dict[str, Any]], category: str, phase: str, score: float, conditions: Conditions,
    search: Search,
) -> None:  # fmt: skip
    """Keep a rule, by names; once for all phases."""
    fields = search.fields
    by_name = tuple((fields[at].name, tuple(fields[at].values[v] for v in sorted(chosen))) for at, chosen in conditions)
    rule = found.setdefault((category, by_name), {"category": category, "conditions": by_name, "phases": [], "bits": 0.0,
                                                  "alike": {}})  # fmt: skip
    rule["phases"].append(phase)
    rule["bits"] += score
    for at, _ in conditions:
        for other, chosen in search.alike(conditions, at):
            same = (fields[other].name, tuple(fields[other].values[v] for v in sorted(chosen)))
            rule["alike"].setdefault(fields[at].name, {})[same] = None


def _rule(
    rule: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], named: Sequence[Mapping[str, str]],
    groups: Mapping[tuple[str, str], Sequence[int]], known: Mapping[str, Sequence[str]],
) -> dict[str, Any]:  # fmt: skip
    """A rule with its evidence, over all cells of the report (docs/report-schema.md, RULE)."""
    category, phases = rule["category"], rule["phases"]
    accepted = [(name, frozenset(chosen)) for name, chosen in rule["conditions"]]
    mine = {at for phase in phases for at in groups[category, phase]}
    failing, passing, other, silent = [], [], [], 0
    for at, (cell, own) in enumerate(zip(cells, named, strict=True)):
        if not all(own.get(name) in chosen for name, chosen in accepted):
            continue
        if at in mine:
            failing.append(cell["id"])
        elif any(_passes(cell, phase) for phase in phases):
            passing.append(cell["id"])
        elif cell["status"] in FAILING:
            other.append(cell["id"])
        else:
            silent += 1
    told = words.Rule(
        category=category, conditions=rule["conditions"], known=known, failing=len(failing), passing=len(passing),
        elsewhere=len(mine) - len(failing), other=len(other), silent=silent,
    )  # fmt: skip
    return {
        "category": category, "phases": phases, "text": told.text(), "when": told.when(), "conditions": told.plain(),
        "failing": len(failing), "passing": len(passing), "elsewhere": len(mine) - len(failing), "other": len(other),
        "silent": silent, "cells": failing, "counterexamples": passing, "bits": round(rule["bits"], 1),
        "alike": [
            {"of": words.short(name), "when": words.condition(same[0], same[1], known[same[0]])}
            for name, others in rule["alike"].items() for same in others
        ],
        "select": told.select(), "expect": told.expect(), "constraint": told.constraint(),
    }  # fmt: skip
