"""`enginematrix bisect`: parse, search, print."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from builder.cli_options import project_of, say, seconds
from builder.errors import EXIT_BUDGET, EXIT_FAILURES, EXIT_INFRASTRUCTURE, EXIT_OK

if TYPE_CHECKING:
    from builder.bisect import Bisect


HELP = "Find the two releases between which a model begins to fail, or to work, running only what it takes."
DESCRIPTION = (
    HELP
    + " Releases are those of the matrix and those that the catalog knows; what is stored counts. Exit code 0: a change was"
    " found; 1: there is none among what could be tried; 3: infrastructure stood in the way; 4: the budget ended, and the next"
    " call goes on from there."
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument("--model", metavar="M", required=True, help="the model, as on the axis `model` (no default)")
    parser.add_argument(
        "--axis", metavar="A", required=True, help="what to move: onnxruntime, exporter.tensorflow, opset (no default)"
    )
    parser.add_argument(
        "--good", metavar="V", help="a release that works; it is tried (default: as stored, else the ends)"
    )
    parser.add_argument(
        "--bad", metavar="V", help="a release that does not; it is tried (default: as stored, else the ends)"
    )
    parser.add_argument("--where", metavar="EXPR", help="only cells that fit, as for --select (default: of all that differ in "
                        "more than the axis one where something changes, else the first)")  # fmt: skip
    parser.add_argument("--for", dest="kind", choices=("failure", "mismatch", "slowdown"), default="failure",
                        help="what makes a release bad (default: failure, of any kind)")  # fmt: skip
    parser.add_argument("--category", metavar="NAME", help="only failures of this category, signature or status are bad; others "
                        "say nothing (default: all are)")  # fmt: skip
    parser.add_argument("--threshold", metavar="SHARE", type=_share, default=0.10,
                        help="of --for slowdown: slower by more than this share (default: 0.1)")  # fmt: skip
    parser.add_argument("--all", dest="every", action="store_true", help="try every release, and name every change (default: "
                        "only as many as one change takes)")  # fmt: skip
    parser.add_argument(
        "--try",
        dest="only",
        metavar="V",
        help="run this release anew and show what becomes of it; no search (default: search)",
    )
    parser.add_argument("--budget", metavar="TIME", type=seconds, help="begin nothing after this long: 90s, 10m, 2h "
                        "(default: none)")  # fmt: skip
    parser.add_argument(
        "--isolation", choices=("auto", "docker", "venv"), help="how stacks are realised (default: the matrix's)"
    )
    parser.add_argument("--json", action="store_true", help="as JSON, docs/bisect.md (default: text)")


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number; write 0.1 for 10 %") from None
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError("must be more than nothing, and end")
    return value


def call(options: argparse.Namespace) -> int:
    """Raises UsageError, SpecErrors, InfrastructureError."""
    from builder import bisect, bisect_evidence, bisect_releases, pipeline
    from builder.errors import UsageError
    from builder.history_words import plain
    from builder.store import Store
    from builder.versions import nearest

    if options.category and options.kind != "failure":
        msg = "--category is for --for failure"
        raise UsageError(msg)
    if options.good is not None and options.good == options.bad:
        msg = "--good and --bad are the same release"
        raise UsageError(msg)
    project = project_of(options)
    spec, matrix = pipeline.load(project)
    models = [*spec.axes[0].values, *spec.suites]
    if options.model not in models:
        msg = f"--model {options.model}: no model or suite of this matrix; {nearest(options.model, models)}"
        raise UsageError(msg.rstrip("; "))
    if options.model in spec.suites and options.kind == "slowdown":
        msg = f"--for slowdown: the cases of suite {options.model} are not timed"
        raise UsageError(msg)
    text = f"{'suite' if options.model in spec.suites else 'model'}={options.model}"
    cells = matrix.select(text).cells
    if options.where:
        wanted = matrix.select(options.where).ids
        cells = tuple(cell for cell in cells if cell.id in wanted)
    work = pipeline.Work(project=project, spec=spec, matrix=matrix, cells=cells, select=text, asked=options.isolation)
    axis = bisect_releases.axis(work, options.axis)
    context, number, stored = bisect.choose(work, axis, cells, options.kind)
    say(plain(bisect_releases.words(context[0], axis)))
    if number > 1:
        rows = "row" if number == 2 else "rows"
        say(f"{number - 1} other {rows} of cells differ in more than {axis.short}; --where chooses another")
    store = Store(project.artifacts)
    deadline = time.monotonic() + options.budget if options.budget is not None else None
    question = bisect_evidence.Question(
        kind=options.kind, good=options.good, bad=options.bad, category=options.category, every=options.every,
        threshold=options.threshold,
    )  # fmt: skip
    with pipeline.in_use(store):
        search = bisect.Bisect(work, store, axis, context, stored, question, deadline=deadline,
                               say=lambda text: say(plain(text)), only=[options.only] if options.only else [])  # fmt: skip
        if options.only:
            return _again(search, options)
        found = search.run()
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(plain(line) for line in lines(found)))
    return _code(found)


def _again(search: Bisect, options: argparse.Namespace) -> int:
    from builder.report.show import text
    from builder.values import FAILING

    cell = search.again(options.only)
    print(json.dumps(cell, indent=1) if options.json else text(cell, search.lab.store.root, logs=True))
    if cell["category"] == "infrastructure":
        return EXIT_INFRASTRUCTURE
    return EXIT_FAILURES if cell["status"] in FAILING else EXIT_OK


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """A search as text; its steps were told as they went."""
    yield found["sentence"]
    boundary = found["boundary"]
    if boundary is not None:
        yield (
            f"    last good: {boundary['good']}, first bad: {boundary['bad']}"
            if boundary["kind"] == "breaks"
            else (f"    last bad: {boundary['bad']}, first good: {boundary['good']}")
        )
        for one in boundary["between"]:
            yield f"    between them, {one['release']} says nothing: {one['why']}"
    for word in ("line", "diagnosis", "remedy"):
        if found[word]:
            yield f"    {'failure' if word == 'line' else word}: {str(found[word]).splitlines()[0][:300]}"
    told = sum(one["verdict"] != "nothing" for one in found["tried"])
    yield f"    {told} of {len(found['releases'])} releases are known, {found['runs']} of them from now"
    if found["command"]:
        yield f"    reproduce: {found['command']}"


def _code(found: Mapping[str, Any]) -> int:
    if found["over_budget"]:
        return EXIT_BUDGET
    boundary = found["boundary"]
    doubtful = boundary["between"] if boundary is not None else found["tried"]
    if any(one["infrastructure"] for one in doubtful):
        return EXIT_INFRASTRUCTURE
    return EXIT_OK if boundary is not None else EXIT_FAILURES
