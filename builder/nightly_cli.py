"""`enginematrix nightly`: parse, call, print."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from builder.cli_options import positive, printing, project_of, say, seconds
from builder.errors import EngineMatrixError, UsageError
from builder.run_cli import listeners

HELP = (
    "Refresh the lock, run the nightly group within its budget, and say on a page what is new since the night before."
)
DESCRIPTION = (
    HELP
    + " What failed last time is tried first, then what changed, then the oldest evidence, then the pairs of axis values that"
    " nothing covers; the next night goes on where the budget ended. Writes the report, its `nightly` part and"
    " artifacts/report/nightly.md, which is appended to the file that GITHUB_STEP_SUMMARY names as well."
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument("-g", "--group", metavar="NAME", help="a group of the matrix (default: `nightly`)")
    parser.add_argument(
        "--budget", metavar="TIME", type=seconds,
        help="of the whole night: 90m, 2h; nothing is begun after it (default: the group's, or none)",
    )  # fmt: skip
    parser.add_argument(
        "--lock", choices=("refresh", "frozen"), default="refresh",
        help="resolve every stack anew, up to now, or leave matrix.lock as it is (default: refresh)",
    )  # fmt: skip
    parser.add_argument(
        "--fail-on", choices=("never", "new", "unexpected", "failed", "infra"), default="unexpected",
        help="what makes the exit code non-zero; `new`: only what got worse since the night before (default: unexpected)",
    )  # fmt: skip
    parser.add_argument("-j", "--jobs", metavar="N", type=positive, help="steps at a time (default: one a core)")
    parser.add_argument(
        "--keep", choices=("all", "failing", "none"), default="none",
        help="the cells whose engine files stay once they are finished; results stay always (default: none)",
    )  # fmt: skip
    parser.add_argument(
        "--no-predict", dest="predict", action="store_false",
        help="try as well what the facts say cannot work and never did (default: it is left alone and reported `unsupported`)",
    )  # fmt: skip
    parser.add_argument(
        "--isolation", choices=("auto", "docker", "venv"), help="how stacks are realised (default: the matrix's)"
    )
    parser.add_argument(
        "--tell", action="store_true",
        help="refresh and run nothing: say it of the report that `merge --report` made of the night's parts (default: a night)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the report's part `nightly` (default: the page)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress (default: live, or lines when piped)")


def call(options: argparse.Namespace) -> int:
    """Raises UsageError, LockError, InfrastructureError."""
    import json

    from builder import nightly, nightly_words

    project = project_of(options)
    asked = nightly.Asked(
        group=options.group, budget=options.budget, frozen=options.lock == "frozen", policy=options.fail_on,
        jobs=options.jobs, keep=options.keep, predict=options.predict, isolation=options.isolation,
        command="enginematrix " + " ".join(sys.argv[1:]),
    )  # fmt: skip
    try:
        if options.tell:
            report = nightly.tell(project, asked, say=say)
        else:
            report = nightly.night(project, asked, listener=listeners(options.quiet), say=say)
    except EngineMatrixError as error:
        if not isinstance(error, UsageError):
            _append(f"# The night ended early\n\n```\n{str(error).replace('```', '')}\n```\n")
        raise
    except KeyboardInterrupt:  # before the first cell, or while the report was written
        _append("# The night was interrupted before it could tell anything\n")
        raise
    with printing():
        if options.json:
            print(json.dumps(report["nightly"], indent=1))
        else:
            print("\n".join(nightly_words.lines(report)))
            print(f"Report: {project.report / 'report.html'}; page: {project.report / nightly_words.SUMMARY}")
    _append((project.report / nightly_words.SUMMARY).read_text(encoding="utf-8"))
    return int(report["exit"]["code"])


def _append(page: str) -> None:
    """To the summary of a CI job, where there is one: that it cannot be written is said, and is no failure of the night."""
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return
    try:
        with Path(name).open("a", encoding="utf-8") as file:
            file.write(page + "\n")
    except OSError as error:
        say(f"{name}: {error}; the summary is in the report's folder")
