"""How much of a selection its runs say something of: cells, and pairs of axis values as pairwise sampling counts them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from builder.nightly_coverage import tells


def coverage(cells: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """{"cells": SHARE, "pairs": SHARE} with SHARE {"all", "told", "verified"}: of all, those that an outcome says something of
    (`nightly_coverage.tells`: it ran, or failed for a cause that is not the machine's), and those that are verified.

    A pair is two values, of different axes, of the exporter stack, the engine stack, the model and each option; it is there
    when a cell has both, told when a told cell has both."""
    numbers: dict[tuple[str, str], int] = {}
    rows = [[numbers.setdefault(value, len(numbers)) for value in _values(cell)] for cell in cells]
    tests: dict[str, Callable[[Mapping[str, Any]], bool]] = {
        "all": lambda cell: True, "told": tells, "verified": lambda cell: cell["status"] == "verified",
    }  # fmt: skip
    out: dict[str, dict[str, int]] = {"cells": {}, "pairs": {}}
    for name, test in tests.items():
        taken = {tuple(sorted(row)) for row, cell in zip(rows, cells, strict=True) if test(cell)}
        out["cells"][name] = sum(map(test, cells))
        out["pairs"][name] = len({pair for row in taken for pair in combinations(row, 2)})
    return out


def _values(cell: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "exporter", cell["exporter"]["id"]
    yield "engine", cell["engine"]["id"]
    yield from cell["axes"].items()
