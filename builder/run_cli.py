"""`enginematrix run` and `report`: do what is missing and tell of it; write the report of what is stored."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.cli_options import (
    add_part,
    add_policy,
    add_predict,
    add_repro,
    add_running,
    add_selection,
    printing,
    say,
    work_of,
)
from builder.errors import EXIT_OK

if TYPE_CHECKING:
    from builder.execute.local import Listener
    from builder.pipeline import Listeners, Result, Work
    from builder.plan import Chain

HELP = "Build what is missing, prove it, and write the report."
REPORT_HELP = "Write the report again from stored results; runs nothing."


def add(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    add_part(parser)
    add_running(parser)
    parser.add_argument(
        "--json", action="store_true", help="print the report as JSON at the end (default: a summary table)"
    )
    add_predict(parser)
    parser.add_argument(
        "--keep", choices=("all", "failing", "none"), default="all",
        help="the cells whose engine files stay once they are finished; results stay always (default: all)",
    )  # fmt: skip
    add_repro(parser)


def add_report(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    parser.add_argument("--json", action="store_true", help="print it as JSON (default: say where it is)")
    add_repro(parser)
    add_predict(parser)
    add_policy(parser)


def call(options: argparse.Namespace) -> int:
    work = work_of(options)
    if not work.cells:
        print("Nothing to do: " + ("this part has no cell." if options.part else "no cell failed last time."))
        return EXIT_OK
    result = go(work, options, "failed" if options.failed else "")
    report = result.report
    with printing():
        if options.json:
            print(json.dumps(report, indent=1))
        else:
            _close(work, result)
    return int(report["exit"]["code"])


def go(
    work: Work,
    options: argparse.Namespace,
    again: Any,
    on_log: Callable[[Path], None] | None = None,
    write: bool = True,
) -> Result:
    from builder import pipeline

    command = "enginematrix " + " ".join(sys.argv[1:])
    return pipeline.run(
        work, frozen=options.frozen, again=again, jobs=options.jobs, budget=options.budget, command=command,
        policy=options.fail_on, listener=listeners(options.quiet), say=say, on_log=on_log or (lambda path: None), write=write,
        keep=getattr(options, "keep", "all"), predict=getattr(options, "predict", False),
        leave=getattr(options, "repro", "findings"),
    )  # fmt: skip


def listeners(quiet: bool) -> Listeners:
    """Who is told of what a run does."""

    @contextlib.contextmanager
    def listener(cells: int, steps: int, judge: Callable[[Chain], dict[str, Any]]) -> Iterator[Listener]:
        from builder.execute.tell import Tell
        from builder.report.console import Progress

        with Progress(quiet=quiet) as progress:
            progress.total(cells, steps)
            yield Tell(progress, judge)

    return listener


def _close(work: Work, result: Result) -> None:
    report = result.report
    where = work.project.report / "report.html"
    from builder.report import terminal

    if not result.ran:
        counts = ", ".join(f"{n} {status}" for status, n in report["counts"].items() if n)
        there = terminal.linked(where, sys.stdout)
        print(f"{_nothing(report, counts)} Report: {there}")
    else:
        from builder.report.summary import summary

        summary(report, terminal.console(sys.stdout), where)
    if report["exit"]["code"]:
        print(f"exit {report['exit']['code']}: {report['exit']['because']}")


def _nothing(report: Mapping[str, Any], counts: str) -> str:
    """Why nothing ran. Cells that this machine cannot run are not up to date."""
    reasons = [cell["reason"] for cell in report["cells"] if cell["status"] in ("skipped", "blocked")]
    if not reasons or len(reasons) < report["selected"]:
        return f"Nothing to do: {report['selected']} cells are up to date ({counts})."
    first = max(reasons, key=reasons.count)
    more = len(reasons) - reasons.count(first)
    return f"Nothing was tried ({counts}): {first}" + (f"; {more} for other reasons." if more else ".")


def report(options: argparse.Namespace) -> int:
    from builder import pipeline

    work = work_of(options)
    result = pipeline.stored(
        work, command="enginematrix report", policy=options.fail_on, predict=options.predict, leave=options.repro
    )
    with printing():
        if options.json:
            print(json.dumps(result.report, indent=1))
        else:
            from builder.report import terminal
            from builder.report.predictions import lines

            where = terminal.linked(work.project.report / "report.html", sys.stdout)
            print(*lines(result.report["predictions"]), where, sep="\n")
    return int(result.report["exit"]["code"])
