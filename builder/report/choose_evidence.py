"""What runs have shown of each stack, for every question that the page can ask: weighed here, only looked up there."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, cast

from builder import pick
from builder.facts_records import Catalog
from builder.pick_evidence import Key, Observation, key
from builder.pick_judge import Hardware, Judge, Question, Verdict
from builder.pick_stacks import Candidate
from builder.report.choose_tables import OWN, STACK, Pool

OTHER = "\x04"
"""A value that no run had."""
EXPIRED = "\x05"
"""Stands among an evidence's notes where `pick` says that it is expired, which only the day of reading can say."""
_NOW = datetime.datetime(9999, 1, 1, tzinfo=datetime.timezone.utc)


@dataclass(frozen=True)
class _Unmet:
    """In place of a Judge: nothing is met, so that what a run takes back is seen."""

    catalog: Catalog

    def verdicts(self, stack: Candidate, question: Question) -> tuple[Verdict, ...]:
        return tuple(
            Verdict(requirement=asked, state="unsupported", because=OWN) for asked in question.requirements
        )  # fmt: skip


def kinds(
    options: Sequence[Hardware | None], runs: Sequence[tuple[tuple[str, str], ...]], like: Candidate, catalog: Catalog
) -> tuple[list[int], list[Hardware | None]]:
    """GPUs that stand alike to the machines of all runs: the class of each, and one of each class. Raises SpecErrors."""
    stack = replace(like, device="cuda", family="kind", fields={"kind": "kind"})
    known = key("kind", {"kind": "kind"})
    pool, first, places = Pool(), list[Hardware | None](), []
    for option in options:
        question = Question(gpu=option)
        alike = []
        for gpus in runs:
            run = Observation(
                family="kind", fields={"kind": "kind"}, role="engine", cell="", model="", precision="", status="verified",
                category="", when="", run="", gpus=gpus, driver="", cpu="", latency=None,
            )  # fmt: skip
            found = pick.choice(stack, question, {known: [run]}, _judge(catalog), now=_NOW, max_age=0)
            alike.append(found.evidence.of)
        # Beside the runs' GPUs it matters whether one is asked for at all, or that there be none.
        place = pool.add((option is None, option is not None and bool(option.capabilities), *alike))
        if place == len(first):
            first.append(option)
        places.append(place)
    return places, first


def _judge(catalog: Catalog) -> Judge:
    return cast(Judge, _Unmet(catalog))


def weighed(
    stacks: Sequence[Candidate], options: Sequence[Hardware | None], observations: Mapping[Key, Sequence[Observation]],
    catalog: Catalog, linked: Callable[[str], bool],
) -> dict[str, Any]:  # fmt: skip
    """For each stack that was run, its evidence by GPU, precision, Python and driver.

    `{"kinds": class of each GPU, "stacks": {place: {"precision": [...], "python": [...], "driver": [...], "cells": [evidence or
    -1, by class, precision, python, driver]}}, "evidence": [...], "runs": [...]}`. `linked`: whether the report has a cell.
    Raises SpecErrors.
    """
    machines = list(dict.fromkeys(item.gpus for items in observations.values() for item in items if item.gpus))
    kind_of, some = kinds(options, machines, stacks[0], catalog) if stacks else ([], [])
    evidence, runs = Pool(), Pool()
    out: dict[str, Any] = {}
    for place, stack in enumerate(stacks):
        seen = observations.get(key(stack.family, stack.fields), ()) if stack.family else ()
        if not seen:
            continue
        axes = {
            "precision": ["", *sorted({item.precision for item in seen if item.precision}), OTHER],
            "python": ["", *sorted({item.fields["python"] for item in seen if item.fields.get("python")}), OTHER],
            "driver": ["", *sorted({item.driver for item in seen if item.driver}), OTHER],
        }
        cells = []
        for gpu in some:
            for precision, python, driver in product(*axes.values()):
                question = Question(gpu=gpu, precision=precision, python=python, driver=driver)
                cells.append(_entry(stack, question, seen, catalog, evidence, runs, linked))
        out[str(place)] = {**axes, "cells": cells}
    return {"kinds": kind_of, "stacks": out, "evidence": evidence.all(), "runs": runs.all(), "count": len(some)}


def _entry(
    stack: Candidate, question: Question, seen: Sequence[Observation], catalog: Catalog, evidence: Pool, runs: Pool,
    linked: Callable[[str], bool],
) -> int:  # fmt: skip
    name = key(stack.family, stack.fields)
    found = pick.choice(stack, question, {name: seen}, _judge(catalog), now=_NOW, max_age=-1)
    told = found.evidence
    if told.latest is None:
        return -1

    def run(item: Observation | None) -> int:
        if item is None:
            return -1
        return runs.add((item.when, item.machine, item.model, item.precision, item.cell, item.category or item.status,
                         item.latency, int(linked(item.cell)), item.driver))  # fmt: skip

    notes = tuple(EXPIRED if note.startswith("expired: ") else note.replace(OTHER, OWN) for note in told.notes)
    taken_back = tuple(
        (verdict.requirement.key, verdict.because.replace(stack.id, STACK))
        for verdict in found.verdicts if verdict.state == "supported"
    )  # fmt: skip
    return evidence.add((told.of, run(told.latest), run(told.measured), told.verified, told.tried, notes, taken_back))
