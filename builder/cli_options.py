"""What commands share: arguments, the types of their values, and what they say: which project, which cells."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import UsageError

if TYPE_CHECKING:
    from builder.pipeline import Work
    from builder.project import Project


def add_selection(parser: argparse.ArgumentParser) -> None:
    add_choosing(parser)
    add_isolation(parser)


def add_choosing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-s", "--select", metavar="EXPR", help="only these cells of the group (default: all of them)")
    parser.add_argument(
        "-g", "--group", metavar="NAME", help="a group of the matrix (default: `default`; with --select: every cell)"
    )
    parser.add_argument(
        "--failed", action="store_true", help="only cells that failed last time; `run` tries them again"
    )


def add_isolation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--isolation", choices=("auto", "docker", "venv"),
        help="how stacks are realised (default: the matrix's `isolation:`, or auto: what each family prefers of what is here)",
    )  # fmt: skip


def add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-predict", dest="predict", action="store_false",
        help="try as well what the facts say cannot work (default: it is left alone and reported `unsupported`)",
    )  # fmt: skip


def add_part(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--part", metavar="K/N", help="only the K-th of N parts of the selection, the same on every machine: what "
        "jobs of a CI system run side by side (docs/ci.md; default: all of it)",
    )  # fmt: skip


def add_repro(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repro", choices=("findings", "all", "none"), default="findings",
        help="which failing cells leave a folder in artifacts/repro/ that shows the failure with nothing of this program "
        "installed: one for each finding, every one, or none (default: findings)",
    )  # fmt: skip


def add_policy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fail-on", choices=("never", "failed", "unexpected", "infra"), default="unexpected",
        help="what makes the exit code non-zero (default: unexpected)",
    )  # fmt: skip


def add_running(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-j", "--jobs", metavar="N", type=positive, help="steps at a time (default: one a core)")
    parser.add_argument("--budget", metavar="TIME", type=seconds, help="begin nothing after this long: 90s, 30m, 2h "
                        "(default: the group's, or none)")  # fmt: skip
    parser.add_argument("--frozen", action="store_true", help="fail if matrix.lock lacks a stack (default: resolve it)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress (default: live, or lines when piped)")
    add_policy(parser)


def positive(text: str, least: int = 1) -> int:
    """A whole number of at least `least`. Raises ArgumentTypeError."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if number < least:
        raise argparse.ArgumentTypeError(f"must be at least {least}")
    return number


def count(text: str) -> int:
    return positive(text, 0)


def seconds(text: str) -> float:
    """A time with its unit, as seconds; without one it is minutes. Raises ArgumentTypeError."""
    factor = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
    try:
        value = float(text[:-1] if factor else text) * (factor or 60)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90s, 30m or 2h") from None
    if not 0 < value < math.inf:  # nor is it "nan"
        raise argparse.ArgumentTypeError("must be more than nothing, and end")
    return value


def project_of(options: argparse.Namespace) -> Project:
    """The project whose matrix `--file` names, or that of this folder. Raises UsageError where there is none."""
    from builder.project import Project

    path = Path(options.file)
    if path.is_dir():
        path = path / "matrix.yaml"
    if not path.exists():
        msg = f"{path}: no such file; name the matrix with -f FILE, or go to the folder that holds it"
        raise UsageError(msg)
    return Project(matrix=path)


def place_of(options: argparse.Namespace) -> Project:
    """The project's folder, whether its matrix is there yet or not."""
    from builder.project import Project

    path = Path(options.file)
    return Project(matrix=path / "matrix.yaml" if path.is_dir() else path)


def work_of(options: argparse.Namespace) -> Work:
    """The cells that the options of `add_selection` choose; none only with --failed or --part. Raises UsageError, SpecErrors."""
    from builder import pipeline

    work = pipeline.select(
        project_of(options), group=options.group, expression=options.select, failed=getattr(options, "failed", False),
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


def cell_of(options: argparse.Namespace) -> Work:
    """The one cell that CELL names. Raises UsageError, SpecErrors."""
    from builder import pipeline

    project = project_of(options)
    loaded, expanded = pipeline.load(project)
    cell = expanded.find(options.cell)
    return pipeline.Work(
        project=project, spec=loaded, matrix=expanded, cells=(cell,), select=f"#{cell.id}", asked=options.isolation
    )


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Around what a command prints before its exit code: where nobody reads any more (`| head`), the code still tells."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str) -> None:
    """Progress and asides: what a command prints on standard output may be read by a program."""
    print(text, file=sys.stderr, flush=True)
