"""`enginematrix diff` and `enginematrix merge`: parse, compare or merge, print."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.cli_options import printing, project_of
from builder.errors import EXIT_FAILURES, EXIT_OK, UsageError

if TYPE_CHECKING:
    from builder.project import Project
    from builder.store import Store


HELP = "Say what changed between two runs: what broke, was mended, fell silent, got slower, and what changed beside it."
DESCRIPTION = (
    HELP
    + " A run is an id or the beginning of one, a date (all runs of that day, UTC), `last` or `last~1`. Exit code 0,"
    " or 1 by --fail-on."
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument(
        "old", metavar="A", nargs="?", help="the earlier one (default: the last run before B with the same selection)"
    )
    parser.add_argument("new", metavar="B", nargs="?", help="the later one (default: the last run)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON, docs/history.md (default: text)")
    form.add_argument("--markdown", action="store_true", help="as Markdown, for a CI summary (default: text)")
    form.add_argument("--runs", action="store_true", help="list the runs that are stored (default: compare two)")
    parser.add_argument(
        "--fail-on", choices=("new", "never"), default="never",
        help="exit with 1 where cells got worse that nobody expected to: new failures and causes, pass to skip, stale "
        "(default: never)",
    )  # fmt: skip


def call(options: argparse.Namespace) -> int:
    """Raises UsageError, StoreError."""
    from builder import history, history_words
    from builder.store import Store

    project = project_of(options)
    if not (project.artifacts / "results.sqlite").is_file():
        msg = f"{project.artifacts}: no results here yet; `enginematrix run` makes some"
        raise UsageError(msg)
    store = Store(project.artifacts)
    if options.runs:
        for run in store.runs():
            counts = ", ".join(f"{n} {status}" for status, n in run.get("counts", {}).items() if n)
            print(history_words.plain(f"{run['id']}  {run.get('select', '')}: {counts}"))
        return EXIT_OK
    found = history.diff(store, options.old, options.new)
    with printing():
        if options.json:
            print(json.dumps(found, indent=1))
        elif options.markdown:
            print(history_words.markdown(found), end="")
        else:
            print("\n".join(history_words.lines(found)))
    return EXIT_FAILURES if options.fail_on == "new" and found["regressions"] else EXIT_OK


MERGE_HELP = "Merge the results of other machines, or of other jobs of a run, into this project's artifacts."
MERGE_DESCRIPTION = (
    MERGE_HELP
    + " In any order and as often as one likes: the same results come out. Of the same key with another result both"
    " are kept, and told. A report.json without a database beside it is merged as what became of its cells. Exit code 0, or 1"
    " where files were refused that are not what they should be; with --report that of the report, by --fail-on."
)


def add_merge(parser: argparse.ArgumentParser) -> None:
    parser.description = MERGE_DESCRIPTION
    parser.add_argument(
        "folders",
        metavar="FOLDER",
        nargs="*",
        type=Path,
        help="a folder of artifacts, its results.sqlite, or a report.json",
    )
    parser.add_argument(
        "--within",
        metavar="FOLDER",
        type=Path,
        help="every folder in this one, as jobs of a CI system left them (default: none)",
    )
    parser.add_argument(
        "--report", action="store_true", help="write the report of the selection from the reports in these folders, as if it "
        "were one run; a cell that none reports is blocked (default: merge results alone)",
    )  # fmt: skip
    parser.add_argument("-g", "--group", metavar="NAME", help="with --report: what was run (default: default)")
    parser.add_argument("-s", "--select", metavar="EXPR", help="with --report: what was run of it (default: all)")
    parser.add_argument(
        "--fail-on", choices=("never", "failed", "unexpected", "infra"), default="unexpected",
        help="with --report: what makes the exit code non-zero (default: unexpected)",
    )  # fmt: skip
    parser.add_argument(
        "--objects", choices=("copy", "link"),
        help="bring exported models, engines and reference cases too, as copies or hard links (default: results and logs)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="as JSON (default: text)")


def merge(options: argparse.Namespace) -> int:
    """Raises UsageError, InfrastructureError."""
    from builder import merge as merging
    from builder import pipeline
    from builder.history_words import plain
    from builder.store import Store

    folders = [*options.folders, *_within(options.within)]
    if not folders:
        msg = "name a folder of artifacts, or --within FOLDER for all that lie in one"
        raise UsageError(msg)
    if not options.report and (options.group or options.select):
        msg = "--group and --select say what a report is of; they go with --report"
        raise UsageError(msg)
    project = project_of(options)
    report = _collated(options, project, folders) if options.report else None
    store = Store(project.artifacts)
    with pipeline.in_use(store):
        found = merging.merge(store, folders, objects=options.objects or "")
        if options.json:
            print(json.dumps([each.as_dict() for each in found], indent=1))
        else:
            print("\n".join(plain(line) for each in found for line in each.lines()))
        code = _reported(options, project, store, report) if report is not None else EXIT_OK
    return code or (EXIT_FAILURES if any(each.refused for each in found) else EXIT_OK)


def _within(folder: Path | None) -> list[Path]:
    """Raises UsageError."""
    import sys

    from builder.merge import source

    if folder is None:
        return []
    found = []
    try:
        for path in sorted(each for each in folder.iterdir() if each.is_dir()):
            try:
                source(path)
                found.append(path)
            except UsageError:  # its job ended before it had any
                print(f"{path}: holds no results, and is passed over", file=sys.stderr)
    except OSError as error:
        msg = f"{folder}: cannot be read ({error})"
        raise UsageError(msg) from error
    if not found:
        msg = f"{folder}: no folder in it holds results; no part of the run left any"
        raise UsageError(msg)
    return found


def _collated(options: argparse.Namespace, project: Project, folders: list[Path]) -> dict[str, Any]:
    """The report of all; before anything is merged, so that bad ones are told first. Raises UsageError."""
    import sys

    from builder import merge, merge_collate, merge_report, pipeline

    work = pipeline.select(project, group=options.group, expression=options.select)
    reports = []
    for folder in folders:
        if (path := merge_report.find(folder)) is None:
            print(f"{folder}: holds no report.json; its cells count as not reported", file=sys.stderr)
            continue
        report = merge_report.read(path)
        if report.get("suites") and (database := merge.source(folder)).suffix != ".json":
            report = merge_collate.unfolded(work, report, database)
        reports.append(report)
    if not reports:
        msg = "no folder holds a report.json, so that there is nothing to make a report of"
        raise UsageError(msg)
    command = "enginematrix " + " ".join(sys.argv[1:])
    return merge_collate.collate(work, reports, command=command, policy=options.fail_on)


def _reported(options: argparse.Namespace, project: Project, store: Store, report: dict[str, Any]) -> int:
    """Write the report and keep it as a run; its exit code."""
    from builder import merge_collate, pipeline

    work = pipeline.select(project, group=options.group, expression=options.select)
    merge_collate.remember(work, store, report)
    merge_collate.write(work, report)
    if not options.json:
        from rich.console import Console

        from builder.report.console import summary

        summary(report, Console(), project.report / "report.html")
        if report["exit"]["code"]:
            print(f"exit {report['exit']['code']}: {report['exit']['because']}")
    return int(report["exit"]["code"])
