"""`enginematrix lock` and `gc`: what the matrix is held to, and what is no longer needed for it."""

from __future__ import annotations

import argparse

from builder.cli_options import add_isolation, count, project_of, say
from builder.errors import EXIT_FAILURES, EXIT_OK

HELP = "Pin every stack of the matrix in matrix.lock."
GC_HELP = "Remove what no cell of the matrix and none of the last runs needs."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="only say whether the lock is complete; asks nobody")
    parser.add_argument(
        "--update", metavar="EXPR", help="pin only these stacks anew: onnxruntime>=1.20, exporter=torch, a stack's name "
        "with wildcards, all (default: what is missing)",
    )  # fmt: skip
    parser.add_argument(
        "--cutoff", metavar="DATE", help="look at no package newer than this: pins every stack anew, or those of --update "
        "(default: the lock's, or now)",
    )  # fmt: skip
    parser.add_argument("--diff", action="store_true", help="show what would change; the file stays")
    add_isolation(parser)


def add_gc(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep-runs", metavar="N", type=count, default=5, help="runs whose results stay whole (default: 5)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")


def call(options: argparse.Namespace) -> int:
    from builder import lock, locking, machine, pipeline

    work = pipeline.select(project_of(options), group="all", expression=None, asked=options.isolation)
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
        work, machine.read(), current, missing, sources, cutoff=until, whole=not options.update, say=say,
        write=not options.diff, docker=docker, mirrors=work.docker.mirrors if docker else {}, update=bool(options.update),
    )  # fmt: skip
    for line in lock.difference(before, new) or ["no change"]:
        print(line)
    return EXIT_FAILURES if troubles else EXIT_OK


def gc(options: argparse.Namespace) -> int:
    from builder import collector, pipeline

    work = pipeline.select(project_of(options), group="all", expression=None)
    work.cells = (*work.cells, *work.matrix.grid_cells, *work.matrix.suite_cells)
    freed = collector.collect_garbage(work, keep_runs=options.keep_runs, dry_run=options.dry_run)
    verb = "would free" if options.dry_run else "freed"
    for kind, (number, size) in freed.items():
        print(f"  {kind:12} {number:6}  {size / 2**20:10.1f} MiB")
    print(f"{verb} {sum(size for _, size in freed.values()) / 2**20:.1f} MiB")
    return EXIT_OK
