"""`enginematrix show`, `why` and `locate`: what became of a cell, and why."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from builder.cli_options import add_isolation, cell_of, positive, project_of, say
from builder.errors import EXIT_OK, UsageError

HELP = "Show what fails and what to do; or a cell: error, log, versions loaded, its neighbours."
WHY_HELP = "Name the rule, with its place, that removed or changed a cell."
LOCATE_HELP = "Find the first tensor of a cell's model that goes wrong, and the piece that shows it."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "cell", metavar="CELL", nargs="?", help="an id, its beginning, or a slug (default: all that failed)"
    )
    parser.add_argument("--json", action="store_true", help="as JSON (default: text)")
    parser.add_argument("--log", action="store_true", help="print its logs whole (default: where they are)")
    add_isolation(parser)


def add_why(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cell", metavar="CELL")
    parser.add_argument("--group", metavar="NAME", help="say whether this group holds it (default: default)")


def add_locate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cell", metavar="CELL")
    parser.add_argument("--json", action="store_true", help="as JSON (default: text)")
    parser.add_argument("--memory", metavar="MIB", type=positive, default=256,
                        help="MiB of tensors that an engine is asked for at a time (default: 256)")  # fmt: skip
    parser.add_argument(
        "--tries", metavar="N", type=positive, default=40, help="engines that are built at most (default: 40)"
    )
    add_isolation(parser)


def call(options: argparse.Namespace) -> int:
    from builder import near, pipeline
    from builder.report.show import text

    if options.cell is None:
        return _show_failures(options)
    work = cell_of(options)
    report = pipeline.stored(work, command="enginematrix show", policy="never", write=False).report
    cell = report["cells"][0]
    if options.isolation is None and _never_run(cell):
        for way in ("venv", "docker"):  # it may have been run as the command line said
            other = pipeline.stored(
                replace(work, asked=way), command="enginematrix show", policy="never", write=False
            ).report["cells"][0]
            if not _never_run(other):
                say(f"not run as the matrix has its stacks realised; this is what came of it with --isolation {way}")
                cell, work = other, replace(work, asked=way)
                break
    if options.json:
        print(json.dumps(cell, indent=1))
        return EXIT_OK
    print(
        text(
            cell,
            work.project.artifacts,
            logs=options.log,
            claims=report["predictions"]["claims"],
            near=near.cells(work),
            releases=near.releases(work),
            width=shutil.get_terminal_size().columns if sys.stdout.isatty() else 0,
        )
    )
    return EXIT_OK


def _show_failures(options: argparse.Namespace) -> int:
    from builder import pipeline
    from builder.report import summary, terminal
    from builder.store import Store

    project = project_of(options)
    if not Store(project.artifacts).runs():  # "nothing failed" were said of what nobody tried
        msg = f"no run is stored here; `{project.program} run` makes one"
        raise UsageError(msg)
    work = pipeline.select(project, group=None, expression="all", failed=True, asked=options.isolation)
    report = pipeline.stored(work, command="enginematrix show", policy="never", write=False).report
    if options.json:
        print(json.dumps(report["cells"], indent=1))
    else:
        summary.failures(report, terminal.console(sys.stdout))
    return EXIT_OK


def _never_run(cell: Mapping[str, Any]) -> bool:
    return cell["status"] in ("skipped", "unsupported") and all(
        stage["state"] in ("not-reached", "skipped") for stage in cell["stages"][2:]
    )


def why(options: argparse.Namespace) -> int:
    from builder import pipeline

    work = pipeline.select(project_of(options), group=options.group, expression=None)
    found = work.matrix.why(options.cell, work.selection)
    if found.state == "unknown":
        raise UsageError(str(found))
    print(found)
    return EXIT_OK


def locate(options: argparse.Namespace) -> int:
    from builder import locate
    from builder.locate_kept import lines

    work = cell_of(options)
    found = locate.locate(work, memory=options.memory << 20, tries=options.tries, say=say)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(lines(found, work.project.artifacts)))
    return EXIT_OK
