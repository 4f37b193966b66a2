"""`enginematrix badge`: parse, read the last report, write."""

from __future__ import annotations

import argparse
import datetime
import json
import math
from pathlib import Path
from typing import Any

from builder.cli_options import project_of
from builder.errors import EXIT_OK, UsageError

HELP = "Write a shield that says how many cells of the last report are verified: SVG, or the JSON of shields.io."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="FILE", type=Path, help="the file to write (default: print it)")
    parser.add_argument("-s", "--select", metavar="EXPR", help="count only these cells (default: all of the report)")
    parser.add_argument("--label", metavar="TEXT", help="the left half (default: the matrix's name)")
    parser.add_argument("--max-age", metavar="DAYS", type=float, default=7,
                        help="an older report is stale, and the shield grey (default: 7)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="JSON for shields.io's endpoint badge (default: SVG)")


def call(options: argparse.Namespace) -> int:
    """Raises UsageError for a report that cannot be read or an expression that fits no cell, InfrastructureError."""
    from builder import badge, lock, pipeline
    from builder.project import write
    from builder.values import digest

    if not 0 < options.max_age < math.inf:
        msg = f"--max-age {options.max_age:g}: a number of days above nought"
        raise UsageError(msg)
    project = project_of(options)
    report = _report(project.report / "report.json")
    work = pipeline.select(project, group="all" if options.select is None else None, expression=options.select)
    if not work.cells:
        msg = f"no cell fits {options.select!r}"
        raise UsageError(msg)
    only = {cell.id for cell in work.cells} if options.select is not None else None
    locked = lock.read(project.lock)
    found = badge.of(
        report, label=work.spec.name if options.label is None else options.label, only=only, max_age=options.max_age,
        now=datetime.datetime.now(datetime.timezone.utc), matrix=work.spec.sha256, lock=digest(locked.dumps()) if locked else "",
    )  # fmt: skip
    text = badge.endpoint(found) if options.json else badge.svg(found)
    if options.out is None:
        print(text, end="")
    else:
        write(options.out, text)
    return EXIT_OK


def _report(path: Path) -> dict[str, Any] | None:
    """Raises UsageError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and found.get("schema") == 1 and {"run", "cells"} <= found.keys():
            return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        msg = f"{path}: not readable as JSON ({error})"
        raise UsageError(msg) from error
    msg = f"{path}: not a report of this version; `enginematrix report` writes it again"
    raise UsageError(msg)
