"""`enginematrix repro`: run a cell again, or write down how others can."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from builder.cli_options import add_isolation, add_running, cell_of, positive
from builder.errors import EXIT_OK, InfrastructureError, UsageError
from builder.run_cli import go

if TYPE_CHECKING:
    from builder.isolation import Isolation
    from builder.pipeline import Work

HELP = "Run exactly this cell again, or write down how others can."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cell", metavar="CELL")
    parser.add_argument(
        "--folder", metavar="DIR", nargs="?", const="",
        help="run nothing; write a folder that shows this cell's failure with nothing of this program installed "
        "(default for DIR: artifacts/repro/CELL)",
    )  # fmt: skip
    parser.add_argument("--zip", action="store_true", help="as an archive, DIR.zip, instead of a folder")
    parser.add_argument("--limit", metavar="MIB", type=positive, default=256,
                        help="leave out files that are larger, and say how to make them (default: 256)")  # fmt: skip
    add_isolation(parser)
    add_running(parser)


def call(options: argparse.Namespace) -> int:
    from builder import pipeline
    from builder.report.show import text

    work = cell_of(options)
    if options.folder is not None or options.zip:
        return folder(options, work)
    before = pipeline.stored(work, command="enginematrix repro", policy="never", write=False).report["cells"][0]

    def show_log(path: Path) -> None:
        content = path.read_text(encoding="utf-8", errors="replace").rstrip()
        if content:
            print(f"--- {path}\n{content}", flush=True)

    result = go(work, options, "all", on_log=show_log, write=False)
    cell = result.report["cells"][0]
    print(text(cell, work.project.artifacts, logs=False))
    if before["when"]:
        same = (before["status"], before["category"]) == (cell["status"], cell["category"])
        print("The same outcome as before." if same else f"Before: {before['status']} ({before['reason']})")
    return int(result.report["exit"]["code"])


def folder(options: argparse.Namespace, work: Work) -> int:
    """Write the folder of the one cell of `work`. Raises UsageError, InfrastructureError."""
    from builder import lock, machine, pipeline, repro
    from builder.plan import reconcile
    from builder.store import Store

    store = Store(work.project.artifacts)
    locked, here = lock.read(work.project.lock) or lock.Lock(cutoff=""), machine.read()
    why = ""
    ways: tuple[Isolation | None, ...] = (options.isolation,) if options.isolation else (None, "venv", "docker")
    for way in ways:  # it may have been run otherwise than the matrix says
        asked = replace(work, asked=way) if way else work
        plan = pipeline.make_plan(asked, locked, here)
        reconcile(plan, store.light(), store.root / "objects", engines=False)
        (chain,) = plan.chains
        (cell,) = pipeline.collect(plan, asked, store, pipeline.Result(report={}, ran=0))
        if cell["status"] != "skipped":
            break
        why = why or cell["reason"]
    else:
        msg = f"{cell['id']} ({cell['slug']}): {why}; `{work.project.program} run --select '#{cell['id']}'` runs it"
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
