"""What runs have shown of each stack, for every question that the page can ask: weighed here, only looked up there."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Hashable, Mapping, Sequence
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
    options: Sequence[Hardware | None], machines: Sequence[tuple[tuple[str, str], ...]], like: Candidate, catalog: Catalog
) -> list[tuple[Hashable, ...]]:  # fmt: skip
    """How each GPU stands to the GPUs of the machines: whether one is asked for, or none, and whether a run on each machine is
    a run on it. Raises SpecErrors."""
    stack = replace(like, device="cuda", family="kind", fields={"kind": "kind"})
    known = key("kind", {"kind": "kind"})
    out: list[tuple[Hashable, ...]] = []
    for option in options:
        question = Question(gpu=option)
        alike = []
        for gpus in machines:
            run = Observation(
                family="kind", fields={"kind": "kind"}, role="engine", cell="", model="", precision="", status="verified",
                category="", when="", run="", gpus=gpus, driver="", cpu="", latency=None,
            )  # fmt: skip
            found = pick.choice(stack, question, {known: [run]}, _judge(catalog), now=_NOW, max_age=0)
            alike.append(found.evidence.of)
        out.append((option is None, option is not None and bool(option.capabilities), *alike))
    return out


def _judge(catalog: Catalog) -> Judge:
    return cast(Judge, _Unmet(catalog))


def weighed(
    stacks: Sequence[Candidate], options: Sequence[Hardware | None], observations: Mapping[Key, Sequence[Observation]],
    catalog: Catalog, linked: Callable[[str], bool],
) -> dict[str, Any]:  # fmt: skip
    """For each stack that was run, its evidence by GPU, precision, Python and driver.

    `{"kinds": class of each GPU, "stacks": {place: {"precision": [...], "python": [...], "driver": [...], "by": [row of each
    class]}}, "rows": [[evidence or -1, by precision, python, driver]], "evidence": [...], "says": texts of evidence, "runs":
    [...]}`. A value that is not among a stack's stands where OTHER does; without an OTHER, nothing was seen with it. `linked`:
    whether the report has a cell. Raises SpecErrors.
    """
    machines = list(dict.fromkeys(item.gpus for items in observations.values() for item in items if item.gpus))
    alike = kinds(options, machines, stacks[0], catalog) if stacks else []
    classes, rows = Pool(), Pool()
    kind_of = [classes.add(kind) for kind in alike]
    some = dict(zip(alike, options, strict=True))
    weigher = _Weigher(catalog, linked)
    out: dict[str, Any] = {}
    for place, stack in enumerate(stacks):
        seen = [item for name in stack.keys for item in observations.get(name, ())]
        if not seen:
            continue
        axes = weigher.axes(stack, seen)
        mine = {at for at, gpus in enumerate(machines) if any(item.gpus == gpus for item in seen)}
        known: dict[Hashable, int] = {}
        by = []
        for kind in classes.all():
            here = (*kind[:2], *(kind[2 + at] for at in sorted(mine)))  # of machines that it never ran on none matters
            if here not in known:
                ways = product(*axes.values())
                known[here] = rows.add(tuple(
                    weigher.weigh(stack, Question(gpu=some[kind], precision=precision, python=python, driver=driver), seen)
                    for precision, python, driver in ways
                ))  # fmt: skip
            by.append(known[here])
        out[str(place)] = {**axes, "by": by}
    return {"kinds": kind_of, "stacks": out, "rows": rows.all(), "evidence": weigher.evidence.all(),
            "says": weigher.says.all(), "runs": weigher.runs.all()}  # fmt: skip


class _Weigher:
    """Weighs a stack's runs for a question by builder/pick.py, and keeps what came out once each."""

    def __init__(self, catalog: Catalog, linked: Callable[[str], bool]) -> None:
        self.catalog, self.linked = catalog, linked
        self.evidence, self.says, self.runs = Pool(), Pool(), Pool()

    def axes(self, stack: Candidate, seen: Sequence[Observation]) -> dict[str, list[str]]:
        """The values that make a difference, the first '' for not asked. OTHER is left out where even on any machine nothing
        was seen with it: who asks for more sees no more."""
        axes = {
            "precision": sorted({item.precision for item in seen if item.precision}),
            "python": sorted({item.fields["python"] for item in seen if item.fields.get("python")}),
            "driver": sorted({item.driver for item in seen if item.driver}),
        }
        other = {
            "precision": Question(precision=OTHER), "python": Question(python=OTHER), "driver": Question(driver=OTHER)
        }  # fmt: skip
        return {
            name: ["", *values, *([OTHER] if self.weigh(stack, other[name], seen) >= 0 else [])]
            for name, values in axes.items()
        }

    def weigh(self, stack: Candidate, question: Question, seen: Sequence[Observation]) -> int:
        """The place of the evidence; -1 for none."""
        found = pick.choice(stack, question, {stack.keys[0]: seen}, _judge(self.catalog), now=_NOW, max_age=-1)
        told = found.evidence
        if told.latest is None:
            return -1
        notes = []
        for note in told.notes:
            whole = note.replace(question.driver, OWN) if question.driver else note
            notes.append(self.says.add(EXPIRED if note.startswith("expired: ") else whole))
        taken_back = tuple(
            (verdict.requirement.key, self.says.add(verdict.because.replace(stack.id, STACK)))
            for verdict in found.verdicts if verdict.state == "supported"
        )  # fmt: skip
        runs = (self._run(told.latest), self._run(told.measured))
        return self.evidence.add((told.of, *runs, told.verified, told.tried, tuple(notes), taken_back))

    def _run(self, item: Observation | None) -> int:
        if item is None:
            return -1
        return self.runs.add((item.when, item.machine, item.model, item.precision, item.cell, item.category or item.status,
                              item.latency, int(self.linked(item.cell))))  # fmt: skip
