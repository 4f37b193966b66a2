"""`enginematrix doctor`: options, and the report for people or programs."""

from __future__ import annotations

import argparse
import json
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from builder.errors import EXIT_FAILURES, EXIT_OK

if TYPE_CHECKING:
    from rich.table import Table

    from builder.doctor import Report
    from builder.doctor_host import Check

HELP = "Look at this machine: what the families need, what is here, and how to mend what is not."
WIDTH = 100
STYLE = {
    "ok": "green", "warning": "yellow", "problem": "bold red", "absent": "dim", "run": "green", "build": "cyan", "no": "yellow",
}  # fmt: skip


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON, see docs/doctor.md (default: tables)")


def call(options: argparse.Namespace) -> int:
    """Exit code 1 when something that a family of the project needs is a problem, else 0."""
    from builder.doctor import examine
    from builder.project import Project

    report = examine(Project(matrix=Path(getattr(options, "file", "matrix.yaml")).absolute()))
    if options.json:
        print(json.dumps(report.as_dict(), indent=1))
    else:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a path may have letters that a terminal's encoding has not
        show(report, sys.stdout)
    return EXIT_FAILURES if report.problems else EXIT_OK


def show(report: Report, out: TextIO) -> None:
    """Two tables in 100 columns or less; colours on a terminal only."""
    from rich.console import Console

    console = Console(file=out, highlight=False, emoji=False, markup=False)
    # Piped, rich would take 80 columns.
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    console.print(_checks(report))
    if report.families or report.broken:
        console.print(_families(report))
    console.print(_sum(report))


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False)
    for name in columns[:-1]:
        table.add_column(name, overflow="fold", max_width=24)
    table.add_column(columns[-1], ratio=1, overflow="fold")
    return table


def _checks(report: Report) -> Table:
    table = _table("", "check", "found")
    for check, names in zip(report.checks, report.concerned, strict=True):
        table.add_row(_lines((check.state, STYLE[check.state])), _lines((check.name, "")), _details(check, names))
    return table


def _details(check: Check, names: tuple[str, ...]) -> Any:
    parts = [(check.found, "")]
    if check.state in ("warning", "problem"):
        parts.append((f"why it matters: {check.matters}", "dim"))
    if check.mend:
        parts.append((f"how to mend it: {check.mend}", "dim" if check.state == "absent" else "cyan"))
    if check.state == "problem" and not names:
        parts.append(("no family of this project needs it", "dim"))
    return _lines(*parts)


def _families(report: Report) -> Table:
    table = _table("", "family", "by", "here")
    for each in report.families:
        whole = "builds and runs" if each.engines else "exports"
        what = {"run": whole, "build": "builds engines", "no": "cannot"}[each.can]
        parts = [(f"{what}: {each.why}" if each.why else what, "")]
        if each.mend:
            # What a check above says already is not said for each family again.
            said = next((check.name for check in report.checks if check.mend and check.mend == each.mend), "")
            parts.append((f"how to mend it: see {said} above" if said else f"how to mend it: {each.mend}", "dim"))
        mark = {"run": "yes", "build": "part", "no": "no"}[each.can]
        name = each.name + (" *" if each.in_matrix else "")
        table.add_row(_lines((mark, STYLE[each.can])), _lines((name, "")), _lines((each.isolation, "")), _lines(*parts))
    for name, error in report.broken:
        table.add_row(_lines(("problem", STYLE["problem"])), _lines((name, "")), _lines(("-", "")), _lines((error, "")))
    return table


def _sum(report: Report) -> Any:
    star = "* in the matrix. " if any(each.in_matrix for each in report.families) else ""
    if report.problems:
        return _lines((f"{star}Problems: {', '.join(report.problems)}.", STYLE["problem"]))
    warnings = sum(check.state == "warning" for check in report.checks)
    more = f" {warnings} {'warning' if warnings == 1 else 'warnings'}." if warnings else ""
    return _lines((f"{star}No problem with what the families need.{more}", ""))


def _lines(*parts: tuple[str, str]) -> Any:
    """Lines, each (text, style); nothing in them is markup, and nothing steers the terminal."""
    from rich.text import Text

    from builder.doctor_host import clean

    return Text("\n").join(Text(clean(text, 1500), style=style) for text, style in parts)
