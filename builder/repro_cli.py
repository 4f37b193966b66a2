"""`repro CELL --folder`, and `--repro` of `run` and `report`: what is left of failures for others."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import EXIT_OK, InfrastructureError, UsageError

if TYPE_CHECKING:
    from builder.isolation import Isolation
    from builder.pipeline import Work


def add_how(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repro", choices=("findings", "all", "none"), default="findings",
        help="which failing cells leave a folder in artifacts/repro/ that shows the failure with nothing of this program "
        "installed: one for each finding, every one, or none (default: findings)",
    )  # fmt: skip


def add(parser: argparse.ArgumentParser, positive: Callable[[str], int]) -> None:
    parser.add_argument(
        "--folder", metavar="DIR", nargs="?", const="",
        help="run nothing; write a folder that shows this cell's failure with nothing of this program installed "
        "(default for DIR: artifacts/repro/CELL)",
    )  # fmt: skip
    parser.add_argument("--zip", action="store_true", help="as an archive, DIR.zip, instead of a folder")
    parser.add_argument("--limit", metavar="MIB", type=positive, default=256,
                        help="leave out files that are larger, and say how to make them (default: 256)")  # fmt: skip


def folder(options: argparse.Namespace, work: Work) -> int:
    """Write the folder of the one cell of `work`. Raises UsageError, InfrastructureError."""
    from builder import lock, machine, pipeline, repro
    from builder.plan import reconcile
    from builder.store import Store

    store = Store(work.project.artifacts)
    locked, here = lock.read(work.project.lock) or lock.Lock(cutoff=""), machine.read()
    ways: tuple[Isolation | None, ...] = (options.isolation,) if options.isolation else (None, "venv", "docker")
    for way in ways:  # it may have been run otherwise than the matrix says
        asked = replace(work, asked=way) if way else work
        plan = pipeline.make_plan(asked, locked, here)
        reconcile(plan, store.light(), store.root / "objects", engines=False)
        (chain,) = plan.chains
        (cell,) = pipeline.collect(plan, asked, store, pipeline.Result(report={}, ran=0))
        if cell["status"] != "skipped":
            break
    else:
        msg = f"{cell['id']} ({cell['slug']}): {cell['reason']}; `enginematrix run --select '#{cell['id']}'` runs it"
        raise UsageError(msg)
    target = Path(options.folder) if options.folder else None
    try:
        made = repro.export(chain, cell, store, target, zipped=options.zip, limit=options.limit << 20)
    except OSError as error:
        msg = f"{error.filename or target}: cannot be written: {error.strerror}"
        raise InfrastructureError(msg) from error
    for name, size in sorted(made.left_out.items()):
        print(f"left out: {name} ({size / 2**20:.1f} MiB; --limit takes more); README.md says how to make it")
    print(f"{made.path} ({made.bytes / 2**20:.1f} MiB)")
    if not options.zip:
        print(
            f"{made.path / 'reproduce.sh'} shows the failure: exit code 0 if it is the same, 1 if not, 2 if it cannot be tried"
        )
    return EXIT_OK
