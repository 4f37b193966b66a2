"""`enginematrix ci`: parse, divide, write."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from builder.cli_options import project_of
from builder.errors import EXIT_FAILURES, EXIT_OK, UsageError

if TYPE_CHECKING:
    from builder.ci_emit import Options
    from builder.project import Project


HELP = "Write the jobs of a CI system that run a group in parts and merge what they found; see docs/ci.md."
EMIT = "Write workflows for GitHub (.github/workflows/nightly.yml, pr.yml) or GitLab (.gitlab/enginematrix.yml)."
TIMES = "Learn from the stored results how long steps take, into matrix.times.json, by which jobs are balanced."
DEFAULT_GROUP, PULLS = "nightly", ("pr", "quick")


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(call=lambda options: _none(parser))
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    emit = actions.add_parser("emit", help=EMIT, description=EMIT, allow_abbrev=False)
    emit.set_defaults(call=lambda options: _emit(options, project_of(options)))
    emit.add_argument("provider", choices=("github", "gitlab"))
    emit.add_argument("-g", "--group", metavar="NAME", help="what runs every night (default: nightly)")
    emit.add_argument(
        "--pr-group", metavar="NAME", help="what runs for a pull request, `none` for nothing (default: the group pr, or else "
        "quick, where the matrix has one)",
    )  # fmt: skip
    emit.add_argument(
        "--jobs", metavar="N", type=int, help="parts of the night (default: as many as --minutes asks for)"
    )
    emit.add_argument(
        "--minutes", metavar="M", type=float, default=30,
        help="minutes of one processor that a part is to take with nothing stored (default: 30)",
    )  # fmt: skip
    emit.add_argument(
        "--cron", metavar="TIME", help="when the night begins, in cron's five fields, UTC (default: 23 1 * * *)"
    )
    emit.add_argument("--fail-on", choices=("never", "failed", "unexpected", "infra"), default="unexpected",
                      help="what makes the last job fail (default: unexpected)")  # fmt: skip
    emit.add_argument(
        "--lock", choices=("frozen", "refresh"), default="frozen", help="refresh: a first job pins every stack anew, and the "
        "night runs what it pinned (default: frozen, the committed lock)",
    )  # fmt: skip
    emit.add_argument("--runs-on", metavar="LABELS", help="runners, as labels with commas between (default: ubuntu-24.04; "
                      "GitLab: any runner)")  # fmt: skip
    emit.add_argument(
        "--runner-for", metavar=("EXPR", "LABELS"), nargs=2, action="append", default=[],
        help="cells that runners with these labels run, a GPU's for one; never for pull requests (may be repeated)",
    )  # fmt: skip
    emit.add_argument("--setup", metavar="COMMAND", default="make setup",
                      help="what installs this program there (default: make setup)")  # fmt: skip
    emit.add_argument("--image", metavar="IMAGE", help="GitLab: the image of the jobs (default: python:3.12-bookworm)")
    emit.add_argument("--pages", action="store_true", help="GitLab: publish the report of the night as Pages")
    emit.add_argument("--check", action="store_true", help="write nothing; exit code 1 where the files would change")
    emit.add_argument("--force", action="store_true", help="write over files that were written by hand")
    times = actions.add_parser("times", help=TIMES, description=TIMES, allow_abbrev=False)
    times.set_defaults(call=lambda options: _times(project_of(options)))


def _none(parser: argparse.ArgumentParser) -> int:
    parser.print_help()
    return EXIT_OK


def _emit(options: argparse.Namespace, project: Project) -> int:
    """Raises UsageError, InfrastructureError."""
    from builder import ci_emit

    asked = _options(options, project)
    emitted = ci_emit.emit(project, asked)
    if options.check:
        changed = ci_emit.stale(emitted.files)
        for line in changed:
            print(f"{line}; write it: {asked.command}")
        return EXIT_FAILURES if changed else EXIT_OK
    ci_emit.save(emitted.files, force=options.force)
    print(*(path for path, text in emitted.files.items() if text), *emitted.told, sep="\n")
    return EXIT_OK


def _options(options: argparse.Namespace, project: Project) -> Options:
    from builder import ci_emit, spec

    groups = spec.load(project.matrix, project.images, project.recipes).groups
    group = options.group or DEFAULT_GROUP
    pulls = options.pr_group or next((name for name in PULLS if name in groups), "none")
    if not options.minutes >= 1:
        msg = f"--minutes {options.minutes:g}: a part is to take a minute at least"
        raise UsageError(msg)
    runners = tuple(
        ci_emit.Runner(select=expression, labels=tuple(labels.split(","))) for expression, labels in options.runner_for
    )
    words = ["ci", "emit", options.provider]
    for name in ("group", "pr_group", "jobs", "cron", "runs_on", "image"):
        if (value := getattr(options, name)) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--minutes", f"{options.minutes:g}"] if options.minutes != 30 else []
    words += ["--fail-on", options.fail_on] if options.fail_on != "unexpected" else []
    words += ["--setup", options.setup] if options.setup != "make setup" else []
    words += ["--lock", options.lock] if options.lock != "frozen" else []
    for each in options.runner_for:
        words += ["--runner-for", *each]
    words += ["--pages"] if options.pages else []
    matrix = [] if project.matrix.name == "matrix.yaml" else ["-f", project.matrix.name]
    return ci_emit.Options(
        provider=options.provider, group=group, pull_requests="" if pulls == "none" else pulls, jobs=options.jobs,
        minutes=options.minutes, cron=options.cron or ci_emit.CRON, fail_on=options.fail_on,
        runs_on=tuple(options.runs_on.split(",")) if options.runs_on else (), runners=runners, setup=options.setup,
        image=options.image or ci_emit.IMAGE, pages=options.pages, refresh=options.lock == "refresh",
        command=shlex.join(["enginematrix", *matrix, *words]),
    )  # fmt: skip


def _times(project: Project) -> int:
    """Raises UsageError, InfrastructureError."""
    from builder import ci_times, lock, machine, pipeline
    from builder.store import Store

    if not (project.artifacts / "results.sqlite").is_file():
        msg = f"{project.artifacts}: no results here yet; `enginematrix run` makes some, and `merge` brings them"
        raise UsageError(msg)
    work = pipeline.select(project, group="all", expression=None)
    work.cells = (*work.cells, *work.matrix.grid_cells, *work.matrix.suite_cells)
    plan = pipeline.make_plan(work, lock.read(project.lock) or lock.Lock(cutoff=""), machine.read())
    rows = Store(project.artifacts).read(
        "select kind, name, seconds from steps where state = 'ok' or kind != 'environment'"
    )
    times = ci_times.learn(plan.steps, rows)
    ci_times.save(project.matrix, times)
    known = sum(len(each) for each in times.seconds.values())
    print(f"{ci_times.path_of(project.matrix)}: {known} times of {len(rows)} stored steps")
    return EXIT_OK
