"""Parse, call, print. Imports what a command needs when it runs, so that `--help` is instant."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence

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
    lock_cli,
    nightly_cli,
    pick_cli,
    plan_cli,
    recipe_cli,
    repro_cli,
    rules_cli,
    run_cli,
    show_cli,
    trace_cli,
)
from builder.errors import (
    EXIT_BUG,
    EXIT_INFRASTRUCTURE,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EngineMatrixError,
)

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

    def command(
        name: str, text: str, add: Callable[[argparse.ArgumentParser], None],
        call: Callable[[argparse.Namespace], int] | None = None,
    ) -> None:  # fmt: skip
        """Without a `call`, `add` gives one to each of the command's own commands."""
        sub = commands.add_parser(
            name, help=text, description=text, epilog=EPILOG, formatter_class=formatter, allow_abbrev=False
        )
        if call is not None:
            sub.set_defaults(call=call)
        add(sub)

    command("plan", plan_cli.HELP, plan_cli.add, plan_cli.call)
    command("run", run_cli.HELP, run_cli.add, run_cli.call)
    command("report", run_cli.REPORT_HELP, run_cli.add_report, run_cli.report)
    command("why", show_cli.WHY_HELP, show_cli.add_why, show_cli.why)
    command("show", show_cli.HELP, show_cli.add, show_cli.call)
    command("locate", show_cli.LOCATE_HELP, show_cli.add_locate, show_cli.locate)
    command("repro", repro_cli.HELP, repro_cli.add, repro_cli.call)
    command("images", images_cli.HELP, images_cli.add)
    command("compare-isolation", images_cli.COMPARE_HELP, images_cli.add_compare, images_cli.compare)
    command("pick", pick_cli.HELP, pick_cli.add, pick_cli.call)
    command("doctor", doctor_cli.HELP, doctor_cli.add, doctor_cli.call)
    command("check", check_cli.HELP, check_cli.add, check_cli.call)
    command("facts", facts_cli.HELP, facts_cli.add, facts_cli.call)
    command("recipe", recipe_cli.HELP, recipe_cli.add)
    command("diff", diff_cli.HELP, diff_cli.add, diff_cli.call)
    command("nightly", nightly_cli.HELP, nightly_cli.add, nightly_cli.call)
    command("merge", diff_cli.MERGE_HELP, diff_cli.add_merge, diff_cli.merge)
    command("trace", trace_cli.HELP, trace_cli.add, trace_cli.call)
    command("bisect", bisect_cli.HELP, bisect_cli.add, bisect_cli.call)
    command("badge", badge_cli.HELP, badge_cli.add, badge_cli.call)
    command("ci", ci_cli.HELP, ci_cli.add)
    command("rules", rules_cli.HELP, rules_cli.add, rules_cli.call)
    command("schema", "Print the JSON Schema of matrix.yaml, for editors.", _add_schema, _schema)
    command("lock", lock_cli.HELP, lock_cli.add, lock_cli.call)
    command("gc", lock_cli.GC_HELP, lock_cli.add_gc, lock_cli.gc)
    return parser


def _add_schema(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", nargs="?", choices=("matrix", "family", "recipe"), default="matrix",
                        help="of which file (default: matrix)")  # fmt: skip


def _schema(options: argparse.Namespace) -> int:
    from builder import schema

    print(json.dumps(schema.schema(options.kind), indent=2))
    return EXIT_OK
