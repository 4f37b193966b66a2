"""`enginematrix diff` and `enginematrix merge`: parse, compare or merge, print."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import EXIT_FAILURES, EXIT_OK, UsageError

if TYPE_CHECKING:
    from builder.project import Project

Place = Callable[[argparse.Namespace], "Project"]

HELP = "Say what changed between two runs: what broke, was mended, fell silent, got slower, and what changed beside it."
DESCRIPTION = (
    HELP
    + " A run is an id or the beginning of one, a date (all runs of that day, UTC), `last` or `last~1`. Exit code 0,"
    " or 1 by --fail-on."
)


def add(parser: argparse.ArgumentParser, place: Place) -> None:
    parser.description = DESCRIPTION
    parser.set_defaults(call=lambda options: call(options, place))
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


def call(options: argparse.Namespace, place: Place) -> int:
    """Raises UsageError, StoreError."""
    from builder import history, history_words
    from builder.store import Store

    project = place(options)
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
    " are kept, and told. Exit code 0, or 1 where files were refused that are not what they should be."
)


def add_merge(parser: argparse.ArgumentParser, place: Place) -> None:
    parser.description = MERGE_DESCRIPTION
    parser.set_defaults(call=lambda options: merge(options, place))
    parser.add_argument(
        "folders", metavar="FOLDER", nargs="+", type=Path, help="a folder of artifacts, or its results.sqlite"
    )
    parser.add_argument(
        "--objects", choices=("copy", "link"),
        help="bring exported models, engines and reference cases too, as copies or hard links (default: results and logs)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="as JSON (default: text)")


def merge(options: argparse.Namespace, place: Place) -> int:
    """Raises UsageError, InfrastructureError."""
    from builder import merge as merging
    from builder import pipeline
    from builder.history_words import plain
    from builder.store import Store

    store = Store(place(options).artifacts)
    with pipeline.in_use(store):
        found = merging.merge(store, options.folders, objects=options.objects or "")
    if options.json:
        print(json.dumps([each.as_dict() for each in found], indent=1))
    else:
        print("\n".join(plain(line) for each in found for line in each.lines()))
    return EXIT_FAILURES if any(each.refused for each in found) else EXIT_OK
