"""What the catalogue does not know: counted, named, and with the command that prints what is needed to know it.

A cell that failed in a way that no signature explains has a category from its stage and its end alone. That is said
wherever cells are told of, so that the catalogue grows: what `show CELL --log` prints is what a signature is made from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.diagnose import undiagnosed
from builder.project import program

SHOWN = 3
"""Failures that are named; the others are counted."""


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """Equal failures without a signature: how many cells, their line, and how to see all of one."""

    count: int
    line: str
    command: str


def unknown(findings: Sequence[Mapping[str, Any]], cells: Mapping[str, Mapping[str, Any]]) -> list[Unknown]:
    """Those among the report's findings; `cells` by id."""
    return [
        Unknown(
            count=finding["count"], line=finding["line"] or "no message", command=command(cells[finding["cells"][0]])
        )
        for finding in findings
        if undiagnosed(cells[finding["cells"][0]])
    ]


def command(cell: Mapping[str, Any]) -> str:
    return f"{program(cell)} show {cell['id']} --log"
