"""`enginematrix trace`: parse, trace, print."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from builder.cli_options import project_of, say, seconds
from builder.errors import EXIT_BUDGET, EXIT_FAILURES, EXIT_INFRASTRUCTURE, EXIT_OK, UsageError

if TYPE_CHECKING:
    from builder.trace import Traced


HELP = (
    "Name what moved in the lock and made cells fail: old and new lock are crossed, component by component, for real."
)
DESCRIPTION = (
    HELP
    + " A run is named as for `diff`. Exit code 0: every new failure was traced; 1: one was not, and why; 3: only infrastructure"
    " stood in the way; 4: the budget ended, and the next call goes on from there."
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument("old", metavar="A", nargs="?", help="the run in which they worked (default: the last one before B with "
                        "the same selection)")  # fmt: skip
    parser.add_argument("new", metavar="B", nargs="?", help="the run in which they fail (default: the last run)")
    parser.add_argument("--cell", metavar="CELL", action="append", help="only this cell, also when its failure was expected; may "
                        "be given several times (default: every new failure that nobody expected)")  # fmt: skip
    parser.add_argument("--budget", metavar="TIME", type=seconds, help="begin nothing after this long: 90s, 10m, 2h "
                        "(default: none)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="as JSON, docs/bisect.md (default: text)")


def call(options: argparse.Namespace) -> int:
    """Raises UsageError, StoreError."""
    from builder import history_runs, pipeline, trace
    from builder.history_words import plain
    from builder.store import Store

    project = project_of(options)
    if not (project.artifacts / "results.sqlite").is_file():
        msg = f"{project.artifacts}: no results here yet; `enginematrix run` makes some"
        raise UsageError(msg)
    known = Store(project.artifacts).runs()
    old, new = options.old, options.new
    if old is None:
        old, new = history_runs.default(known)
    new = new or "last"
    cells = None
    if options.cell:
        _, matrix = pipeline.load(project)
        cells = [matrix.find(handle).id for handle in options.cell]
    found = trace.trace_failures(project, old, new, budget_seconds=options.budget, progress=say, cells=cells)
    if options.json:
        print(
            json.dumps(
                {"schema": trace.SCHEMA, "old": old, "new": new, "traced": [one.as_dict() for one in found]}, indent=1
            )
        )
    else:
        for one in found:
            print("\n".join(plain(line) for line in lines(one, project.program)))
        if not found:
            print(f"Nothing to trace: no new failure of {new} against {old} that nobody expected.")
    return _code(found)


def lines(one: Traced, program: str) -> Iterator[str]:
    """A traced failure as text."""
    from builder.trace import VERDICTS

    yield one.text
    where = f" ({one.stack})" if one.stack else ""
    yield f"    {one.verdict}{where}: {VERDICTS[one.verdict]}" + (f"; {one.why}" if one.why else "")
    if one.line:
        yield f"    failure: {one.line.splitlines()[0][:200]}"
    if one.remedy:
        yield f"    remedy: {one.remedy}"
    yield from (f"    tried: {crossing}" for crossing in one.evidence)
    yield f"    reproduce: {program} repro {one.tried}"


def _code(found: list[Traced]) -> int:
    left = [one.why for one in found if one.verdict == "not traced"]
    if not left:
        return EXIT_OK
    if all(why.startswith("the time budget ended") for why in left):
        return EXIT_BUDGET
    return EXIT_INFRASTRUCTURE if all(why.startswith("it could not be tried here") for why in left) else EXIT_FAILURES
