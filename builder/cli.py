"""Parse, call, print. Imports what a command needs when it runs, so that `--help` is instant."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import math
import os
import shutil
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import (
    __version__,
    badge_cli,
    bisect_cli,
    check_cli,
    ci_cli,
    diff_cli,
    doctor_cli,
    facts_cli,
    images_cli,
    nightly_cli,
    pick_cli,
    recipe_cli,
    repro_cli,
    rules_cli,
    trace_cli,
)
from builder.errors import (
    EXIT_BUG,
    EXIT_FAILURES,
    EXIT_INFRASTRUCTURE,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EngineMatrixError,
    UsageError,
)

if TYPE_CHECKING:
    from builder.execute.local import Listener
    from builder.pipeline import Listeners, Result, Work
    from builder.plan import Chain
    from builder.project import Project

DESCRIPTION = """\
Versions as axes, compatibility as data with evidence: expand matrix.yaml, make every environment, export every
model, build and prove every engine, and report what works with what."""

EPILOG = """\
CELL is an id (1a2b3c4d or a unique beginning of it) or a name with wildcards that fits one cell.
EXPR selects cells: model=resnet50 and onnxruntime>=1.20 and not precision=int8; also status=failed, #1a2b3c4d, a group.

exit codes: 0 as expected, 1 unexpected failures, 2 bad input, 3 infrastructure only, 4 budget ran out, 70 a bug of ours,
130 interrupted"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if not getattr(options, "call", None):
        parser.print_help()
        return EXIT_OK
    try:
        return int(options.call(options))
    except EngineMatrixError as error:
        print(f"enginematrix: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_OK
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        print(f"enginematrix: {error}; free some space or mend its rights, and run again", file=sys.stderr)
        return EXIT_INFRASTRUCTURE
    except KeyboardInterrupt:
        print("enginematrix: interrupted; run again to continue", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception:  # a bug must not look like "1: unexpected failures"
        traceback.print_exc()
        print("enginematrix: that is a bug of ours; nothing finished is lost", file=sys.stderr)
        return EXIT_BUG


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="enginematrix", description=DESCRIPTION, epilog=EPILOG, formatter_class=formatter, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"enginematrix {__version__}")
    parser.add_argument(
        "-f", "--file", metavar="FILE", default="matrix.yaml", help="the matrix (default: matrix.yaml in this folder)"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, call: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=text, description=text, epilog=EPILOG, formatter_class=formatter, allow_abbrev=False
        )
        sub.set_defaults(call=call)
        return sub

    plan = command("plan", _plan, "Show what would run, and why; starts nothing.")
    _selection(plan)
    plan.add_argument("--json", action="store_true", help="the whole plan as JSON (default: a summary)")
    plan.add_argument("--explain", action="store_true", help="name the reason for each step that would run")
    plan.add_argument("--cells", action="store_true", help="list the selected cells")
    _predicting(plan)
    _part(plan)

    run = command("run", _run, "Build what is missing, prove it, and write the report.")
    _selection(run)
    _part(run)
    _running(run)
    run.add_argument(
        "--json", action="store_true", help="print the report as JSON at the end (default: a summary table)"
    )
    _predicting(run)
    run.add_argument(
        "--keep", choices=("all", "failing", "none"), default="all",
        help="the cells whose engine files stay once they are finished; results stay always (default: all)",
    )  # fmt: skip
    repro_cli.add_how(run)

    report = command("report", _report, "Write the report again from stored results; runs nothing.")
    _selection(report)
    report.add_argument("--json", action="store_true", help="print it as JSON (default: say where it is)")
    repro_cli.add_how(report)
    _predicting(report)
    _policy(report)

    why = command("why", _why, "Name the rule, with its place, that removed or changed a cell.")
    why.add_argument("cell", metavar="CELL")
    why.add_argument("--group", metavar="NAME", help="say whether this group holds it (default: default)")

    show = command(
        "show", _show, "Show what fails and what to do; or a cell: error, log, versions loaded, its neighbours."
    )
    show.add_argument(
        "cell", metavar="CELL", nargs="?", help="an id, its beginning, or a slug (default: all that failed)"
    )
    show.add_argument("--json", action="store_true", help="as JSON (default: text)")
    show.add_argument("--log", action="store_true", help="print its logs whole (default: where they are)")
    _isolated(show)

    locate = command(
        "locate", _locate, "Find the first tensor of a cell's model that goes wrong, and the piece that shows it."
    )
    locate.add_argument("cell", metavar="CELL")
    locate.add_argument("--json", action="store_true", help="as JSON (default: text)")
    locate.add_argument("--memory", metavar="MIB", type=_positive, default=256,
                        help="MiB of tensors that an engine is asked for at a time (default: 256)")  # fmt: skip
    locate.add_argument(
        "--tries", metavar="N", type=_positive, default=40, help="engines that are built at most (default: 40)"
    )
    _isolated(locate)

    repro = command("repro", _repro, "Run exactly this cell again, or write down how others can.")
    repro.add_argument("cell", metavar="CELL")
    repro_cli.add(repro, _positive)
    _isolated(repro)
    _running(repro)

    images_cli.add(
        command("images", _not_reached, "Render, build, push and verify the Docker images of the stacks; open a shell in one."),
        _choosing, _positive, _work, _one,
    )  # fmt: skip

    compare = command(
        "compare-isolation", _compare, "Say where cells came out otherwise in Docker than in virtual environments."
    )
    _choosing(compare)
    compare.add_argument("--json", action="store_true", help="as JSON (default: text)")

    pick_cli.add(command("pick", pick_cli.call, pick_cli.HELP))
    doctor_cli.add(command("doctor", doctor_cli.call, doctor_cli.HELP))
    check_cli.add(command("check", check_cli.call, check_cli.HELP))
    facts_cli.add(command("facts", facts_cli.call, facts_cli.HELP))
    recipe_cli.add(command("recipe", _not_reached, recipe_cli.HELP), _place)
    diff_cli.add(command("diff", _not_reached, diff_cli.HELP), _project)
    nightly_cli.add(command("nightly", _not_reached, nightly_cli.HELP), _project, _seconds, _positive, _listeners)
    diff_cli.add_merge(command("merge", _not_reached, diff_cli.MERGE_HELP), _project)

    trace_cli.add(command("trace", _not_reached, trace_cli.HELP), _project, _seconds, _say)
    bisect_cli.add(command("bisect", _not_reached, bisect_cli.HELP), _project, _seconds, _say)

    badge_cli.add(command("badge", _not_reached, badge_cli.HELP), _project)
    ci_cli.add(command("ci", _not_reached, ci_cli.HELP), _project)

    rules_cli.add(command("rules", lambda options: rules_cli.call(options, _work(options)), rules_cli.HELP), _selection)

    schema = command("schema", _schema, "Print the JSON Schema of matrix.yaml, for editors.")
    schema.add_argument("kind", nargs="?", choices=("matrix", "family", "recipe"), default="matrix",
                        help="of which file (default: matrix)")  # fmt: skip

    lock = command("lock", _lock, "Pin every stack of the matrix in matrix.lock.")
    lock.add_argument("--check", action="store_true", help="only say whether the lock is complete; asks nobody")
    lock.add_argument(
        "--update", metavar="EXPR", help="pin only these stacks anew: onnxruntime>=1.20, exporter=torch, a stack's name "
        "with wildcards, all (default: what is missing)",
    )  # fmt: skip
    lock.add_argument(
        "--cutoff", metavar="DATE", help="look at no package newer than this: pins every stack anew, or those of --update "
        "(default: the lock's, or now)",
    )  # fmt: skip
    lock.add_argument("--diff", action="store_true", help="show what would change; the file stays")
    _isolated(lock)

    gc = command("gc", _gc, "Remove what no cell of the matrix and none of the last runs needs.")
    gc.add_argument(
        "--keep-runs", metavar="N", type=_count, default=5, help="runs whose results stay whole (default: 5)"
    )
    gc.add_argument("--dry-run", action="store_true", help="only say what would go")
    return parser


def _selection(parser: argparse.ArgumentParser) -> None:
    _choosing(parser)
    _isolated(parser)


def _choosing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-s", "--select", metavar="EXPR", help="only these cells of the group (default: all of them)")
    parser.add_argument(
        "-g", "--group", metavar="NAME", help="a group of the matrix (default: `default`; with --select: every cell)"
    )
    parser.add_argument(
        "--failed", action="store_true", help="only cells that failed last time; `run` tries them again"
    )


def _isolated(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--isolation", choices=("auto", "docker", "venv"),
        help="how stacks are realised (default: the matrix's `isolation:`, or auto: what each family prefers of what is here)",
    )  # fmt: skip


def _predicting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-predict", dest="predict", action="store_false",
        help="try as well what the facts say cannot work (default: it is left alone and reported `unsupported`)",
    )  # fmt: skip


def _part(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--part", metavar="K/N", help="only the K-th of N parts of the selection, the same on every machine: what "
        "jobs of a CI system run side by side (docs/ci.md; default: all of it)",
    )  # fmt: skip


def _policy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fail-on", choices=("never", "failed", "unexpected", "infra"), default="unexpected",
        help="what makes the exit code non-zero (default: unexpected)",
    )  # fmt: skip


def _running(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-j", "--jobs", metavar="N", type=_positive, help="steps at a time (default: one a core)")
    parser.add_argument("--budget", metavar="TIME", type=_seconds, help="begin nothing after this long: 90s, 30m, 2h "
                        "(default: the group's, or none)")  # fmt: skip
    parser.add_argument("--frozen", action="store_true", help="fail if matrix.lock lacks a stack (default: resolve it)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress (default: live, or lines when piped)")
    _policy(parser)


def _positive(text: str, least: int = 1) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if number < least:
        raise argparse.ArgumentTypeError(f"must be at least {least}")
    return number


def _count(text: str) -> int:
    return _positive(text, 0)


def _seconds(text: str) -> float:
    factor = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
    try:
        value = float(text[:-1] if factor else text) * (factor or 60)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90s, 30m or 2h") from None
    if not 0 < value < math.inf:  # nor is it "nan"
        raise argparse.ArgumentTypeError("must be more than nothing, and end")
    return value


def _project(options: argparse.Namespace) -> Project:
    from builder.project import Project

    path = Path(options.file)
    if path.is_dir():
        path = path / "matrix.yaml"
    if not path.exists():
        msg = f"{path}: no such file; name the matrix with -f FILE, or go to the folder that holds it"
        raise UsageError(msg)
    return Project(matrix=path)


def _place(options: argparse.Namespace) -> Project:
    """The project's folder, whether its matrix is there yet or not."""
    from builder.project import Project

    path = Path(options.file)
    return Project(matrix=path / "matrix.yaml" if path.is_dir() else path)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _work(options: argparse.Namespace) -> Work:
    from builder import pipeline

    work = pipeline.select(
        _project(options), group=options.group, expression=options.select, failed=getattr(options, "failed", False),
        asked=getattr(options, "isolation", None),
    )  # fmt: skip
    if (part := getattr(options, "part", None)) is not None:
        from builder import ci_parts

        if options.failed:
            raise UsageError(
                "--failed follows from what is stored on each machine, so that it has no parts; leave one out"
            )
        narrowed = ci_parts.narrow(work, part, (options.group, options.select))
        if work.cells:
            return narrowed
    if not work.cells and not getattr(options, "failed", False):
        msg = f"no cell fits {work.select!r}; `enginematrix plan --group all --cells` lists them"
        raise UsageError(msg)
    return work


# Commands ----------------------------------------------------------------------------------------------------------


def _plan(options: argparse.Namespace) -> int:
    from builder import lock, machine, outcome, pipeline, pulls
    from builder.plan import unlocked
    from builder.store import Store

    work = _work(options)
    locked = lock.read(work.project.lock) or lock.Lock(cutoff="")
    store = Store(work.project.artifacts)
    here = machine.read()
    foreseen = pipeline.foresee(work, here, store, skip=options.predict and not options.failed)
    plan, needed = pipeline.planned(work, locked, here, store, again="failed" if options.failed else "")
    todo = plan.todo()
    stacks = list(dict.fromkeys(cell.engine.id for cell in work.cells))
    if options.json:
        cells = [
            {
                "id": cell.id, "slug": cell.slug, "model": cell.model, "options": dict(cell.options),
                "engine": cell.engine.as_dict(), "exporter": cell.exporter.as_dict(), "measure": cell.attributes.measure,
                "timeout": cell.attributes.timeout, "memory": cell.attributes.memory,
                "expect": cell.expect.fail if cell.expect else None, "isolation": outcome.isolation(chain),
                "prediction": foreseen[cell.id].state, "left-alone": chain.left_alone,
            }
            for chain in plan.chains for cell in (chain.cell,)
        ]  # fmt: skip
        steps = [{"kind": s.kind, "name": s.name, "state": s.state, "why": s.why, "key": s.key} for s in todo]
        images = [
            {
                "stack": pull.stack.id, "base": pull.base, "platform": pull.platform, "size": pull.size, "pull": pull.pull,
                "disk": pull.disk, "driver": pull.driver, "refused": pull.refused,
            }
            for pull in needed
        ]  # fmt: skip
        print(
            json.dumps({"schema": 1, "select": work.select, "cells": cells, "steps": steps, "images": images}, indent=1)
        )
        return EXIT_OK
    total = work.matrix.total(work.cells)
    print(f"{len(work.cells)} cells over {len(stacks)} engine stacks ({work.select}), of {total} in the matrix")
    if options.cells:
        for cell in work.cells:
            print(f"  {cell.id}  {cell.slug}")
    for kind, row in plan.counts().items():
        print(f"  {kind:12} {row['total']:6} steps, {row['stored']:6} stored, {row['run']:6} to run")
    skipped = {step.name: step.skipped for step in plan.steps if step.kind == "environment" and step.state == "skip"}
    for name, reason in skipped.items():
        print(f"  skipped: {name}: {reason}")
    left = [chain.against for chain in plan.chains if chain.against is not None and chain.left_alone]
    for claim, number in Counter(left).most_common(10):
        cells_ = "cell" if number == 1 else "cells"
        print(f"  unsupported: {number} {cells_}: {claim.subject}: {claim.because} (to mend: {claim.change})")
    if len(set(left)) > 10:
        print(f"  unsupported: {len(left)} cells in all, for {len(set(left))} reasons; `--no-predict` tries them")
    for line in pulls.table(needed):
        print(line)
    absent = [step.name for step in plan.environments() if unlocked(step)]
    if absent:
        names = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        lock_ = f"enginematrix lock{f' --isolation {options.isolation}' if options.isolation else ''}"
        print(
            f"  not in the lock: {names}; `{lock_}` pins them, as `run` does, and then a plan says what must be pulled"
        )
    if options.explain:
        for step in todo:
            print(f"  {step.kind} {step.name}: {step.why}")
    print(f"{len(todo)} steps to run" if todo else "Nothing to do.")
    return EXIT_OK


def _run(options: argparse.Namespace) -> int:
    work = _work(options)
    if not work.cells:
        print("Nothing to do: " + ("this part has no cell." if options.part else "no cell failed last time."))
        return EXIT_OK
    result = _go(work, options, "failed" if options.failed else "")
    report = result.report
    try:
        if options.json:
            print(json.dumps(report, indent=1))
        else:
            _close(work, result)
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads: the exit code still tells
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return int(report["exit"]["code"])


def _go(
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
        policy=options.fail_on, listener=_listeners(options.quiet), say=_say, on_log=on_log or (lambda path: None), write=write,
        keep=getattr(options, "keep", "all"), predict=getattr(options, "predict", False),
        leave=getattr(options, "repro", "findings"),
    )  # fmt: skip


def _listeners(quiet: bool) -> Listeners:
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
        print(f"Nothing to do: {report['selected']} cells are up to date ({counts}). Report: {there}")
    else:
        from builder.report.summary import summary

        summary(report, terminal.console(sys.stdout), where)
    if report["exit"]["code"]:
        print(f"exit {report['exit']['code']}: {report['exit']['because']}")


def _report(options: argparse.Namespace) -> int:
    from builder import pipeline

    work = _work(options)
    result = pipeline.stored(
        work, command="enginematrix report", policy=options.fail_on, predict=options.predict, leave=options.repro
    )
    if options.json:
        print(json.dumps(result.report, indent=1))
    else:
        from builder.report import terminal
        from builder.report.predictions import lines

        where = terminal.linked(work.project.report / "report.html", sys.stdout)
        print(*lines(result.report["predictions"]), where, sep="\n")
    return int(result.report["exit"]["code"])


def _why(options: argparse.Namespace) -> int:
    from builder import pipeline

    work = pipeline.select(_project(options), group=options.group, expression=None)
    found = work.matrix.why(options.cell, work.selection)
    if found.state == "unknown":
        raise UsageError(str(found))
    print(found)
    return EXIT_OK


def _one(options: argparse.Namespace) -> Work:
    from builder import pipeline

    project = _project(options)
    loaded, expanded = pipeline.load(project)
    cell = expanded.find(options.cell)
    return pipeline.Work(
        project=project, spec=loaded, matrix=expanded, cells=(cell,), select=f"#{cell.id}", asked=options.isolation
    )


def _show(options: argparse.Namespace) -> int:
    from builder import near, pipeline
    from builder.report.show import text

    if options.cell is None:
        return _show_failures(options)
    work = _one(options)
    report = pipeline.stored(work, command="enginematrix show", policy="never", write=False).report
    cell = report["cells"][0]
    if options.isolation is None and _never_run(cell):
        for way in ("venv", "docker"):  # it may have been run as the command line said
            other = pipeline.stored(
                replace(work, asked=way), command="enginematrix show", policy="never", write=False
            ).report["cells"][0]
            if not _never_run(other):
                _say(f"not run as the matrix has its stacks realised; this is what came of it with --isolation {way}")
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

    work = pipeline.select(_project(options), group=None, expression="all", failed=True, asked=options.isolation)
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


def _locate(options: argparse.Namespace) -> int:
    from builder import locate
    from builder.locate_kept import lines

    work = _one(options)
    found = locate.locate(work, memory=options.memory << 20, tries=options.tries, say=_say)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(lines(found, work.project.artifacts)))
    return EXIT_OK


def _repro(options: argparse.Namespace) -> int:
    from builder import pipeline
    from builder.report.show import text

    work = _one(options)
    if options.folder is not None or options.zip:
        return repro_cli.folder(options, work)
    before = pipeline.stored(work, command="enginematrix repro", policy="never", write=False).report["cells"][0]

    def show_log(path: Path) -> None:
        content = path.read_text(encoding="utf-8", errors="replace").rstrip()
        if content:
            print(f"--- {path}\n{content}", flush=True)

    result = _go(work, options, "all", on_log=show_log, write=False)
    cell = result.report["cells"][0]
    print(text(cell, work.project.artifacts, logs=False))
    if before["when"]:
        same = (before["status"], before["category"]) == (cell["status"], cell["category"])
        print("The same outcome as before." if same else f"Before: {before['status']} ({before['reason']})")
    return int(result.report["exit"]["code"])


def _not_reached(options: argparse.Namespace) -> int:
    raise AssertionError("a command of `images` has its own call, and one must be named")


def _compare(options: argparse.Namespace) -> int:
    from builder import pipeline
    from builder.isolation_compare import lines

    found = pipeline.compare_isolation(_work(options))
    if found is None:
        raise UsageError("no image was ever made here; `enginematrix run --isolation docker` runs cells in Docker")
    print(json.dumps(found, indent=1) if options.json else "\n".join(lines(found)))
    return EXIT_FAILURES if found["differences"] else EXIT_OK


def _schema(options: argparse.Namespace) -> int:
    from builder import schema

    print(json.dumps(schema.schema(options.kind), indent=2))
    return EXIT_OK


def _lock(options: argparse.Namespace) -> int:
    from builder import lock, locking, machine, pipeline

    work = pipeline.select(_project(options), group="all", expression=None, asked=options.isolation)
    current = lock.read(work.project.lock)
    stacks = locking.stacks_of(work, work.cells)
    recipes = list(work.spec.recipes.values())
    docker = pipeline.in_docker(work)
    missing, sources = locking.missing(work, current, stacks, recipes, docker)
    if options.check:
        for name in [*(locking.label(current, stack) for stack in missing), *sources]:
            print(f"{work.project.lock}: no entry for {name}")
        extra = sorted(set(current.stacks) - {stack.id for stack in stacks}) if current else []
        for name in extra:
            print(f"{work.project.lock}: {name} is in no cell of the matrix")
        if missing or sources or current is None:
            raise lock.LockError("the lock is not complete; run `enginematrix lock`")
        for stack in stacks:
            pins = current.entry(stack, docker=stack.id in docker)
            if pins is not None and pins.unresolved:
                print(f"{work.project.lock}: {stack.id}: {pins.unresolved}")
        oldest, newest = current.cutoffs()
        ages = f" (stacks were pinned up to {oldest}..{newest})" if oldest != newest else ""
        print(f"{work.project.lock}: complete, {len(stacks)} stacks, no package newer than {newest}{ages}")
        return EXIT_OK
    until = locking.cutoff(options.cutoff)
    if options.update:
        missing, sources = locking.named(work, options.update), []
    elif until:
        missing, sources = stacks, sorted({n for r in recipes if (n := lock.data_package(r))})
    before = lock.read(work.project.lock)
    if current is not None and not options.update:
        current.keep(stacks)
    new, troubles = locking.update_lock(
        work, machine.read(), current, missing, sources, cutoff=until, whole=not options.update, say=_say,
        write=not options.diff, docker=docker, mirrors=work.docker.mirrors if docker else {}, update=bool(options.update),
    )  # fmt: skip
    for line in lock.difference(before, new) or ["no change"]:
        print(line)
    return EXIT_FAILURES if troubles else EXIT_OK


def _gc(options: argparse.Namespace) -> int:
    from builder import collector, pipeline

    work = pipeline.select(_project(options), group="all", expression=None)
    work.cells = (*work.cells, *work.matrix.grid_cells, *work.matrix.suite_cells)
    freed = collector.collect_garbage(work, keep_runs=options.keep_runs, dry_run=options.dry_run)
    verb = "would free" if options.dry_run else "freed"
    for kind, (number, size) in freed.items():
        print(f"  {kind:12} {number:6}  {size / 2**20:10.1f} MiB")
    print(f"{verb} {sum(size for _, size in freed.values()) / 2**20:.1f} MiB")
    return EXIT_OK
