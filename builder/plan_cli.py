"""`enginematrix plan`: what would run, and why."""

from __future__ import annotations

import argparse
import json
from collections import Counter

from builder.cli_options import add_part, add_predict, add_selection, work_of
from builder.errors import EXIT_OK

HELP = "Show what would run, and why; starts nothing."


def add(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    parser.add_argument("--json", action="store_true", help="the whole plan as JSON (default: a summary)")
    parser.add_argument("--explain", action="store_true", help="name the reason for each step that would run")
    parser.add_argument("--cells", action="store_true", help="list the selected cells")
    add_predict(parser)
    add_part(parser)


def call(options: argparse.Namespace) -> int:
    from builder import lock, machine, outcome, pipeline, pulls
    from builder.plan import unlocked
    from builder.store import Store

    work = work_of(options)
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
