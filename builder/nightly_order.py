"""In which order what is left to do is done, so that a night whose time ends has done what tells most: what failed last time,
what changed since it was tried, the oldest evidence, the pairs of axis values that nothing covers yet.

A group's `order:` names these, the first deciding first. A result that told nothing (skipped for want of time, stopped by
the network) is no evidence: a cell is `failed`, `changed` or old by the newest result that did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

from builder import sample
from builder.plan import Chain, Plan, Step
from builder.store import Store
from builder.values import FAILING

TELLING = (*sorted(FAILING), "verified", "built")
"""Statuses that say something of versions; so does `blocked` behind a step that failed for a known cause."""
DEFAULT = ("failed", "changed", "oldest", "uncovered")
Known: TypeAlias = "Mapping[str, Evidence]"
"""Cell id -> the newest evidence."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The newest result of a cell that told anything."""

    status: str
    when: str
    """When it was made (ISO 8601); a later run that reuses it does not make it younger."""
    expected: str = ""
    """How it stood to its `expect:` entry, "" where there was none."""

    @property
    def bad(self) -> bool:
        return self.status in FAILING or self.status == "blocked"


def evidence(store: Store) -> dict[str, Evidence]:
    """The newest evidence of every cell, whatever it was made of. One pass over all results."""
    marks = ",".join("?" * len(TELLING))
    rows = store.read(
        # A bare column beside max() is of the row that has the maximum (SQLite: "Bare columns in an aggregate query").
        "select results.cell, results.status, results.outcome, results.expected, "  # noqa: S608
        "max(runs.started || printf(' %012d', runs.rowid)) "
        f"from results join runs on runs.id = results.run where results.status in ({marks}) or (results.status = 'blocked' "
        "and exists (select 1 from outcomes where outcomes.key = results.outcome "
        "and json_extract(outcomes.record, '$.category') <> 'infrastructure')) group by results.cell",
        TELLING,
    )
    when = _when(store, {outcome for _, _, outcome, _, _ in rows})
    return {
        cell: Evidence(status=status, when=when.get(outcome) or str(newest).partition(" ")[0], expected=expected)
        for cell, status, outcome, expected, newest in rows
    }


def _when(store: Store, outcomes: Iterable[str]) -> dict[str, str | None]:
    keys = sorted(outcomes)
    found: dict[str, str | None] = {}
    for start in range(0, len(keys), 500):
        part = keys[start : start + 500]
        marks = ",".join("?" * len(part))
        found.update(
            store.read(f"select key, json_extract(record, '$.when') from outcomes where key in ({marks})", part)  # noqa: S608
        )
    return found


def prioritise(plan: Plan, order: Sequence[str], store: Store) -> None:
    """Give the steps of the cells that `order` puts first the higher priority. Without an order nothing changes."""
    if not order:
        return
    ranked = arranged(plan.chains, order, evidence(store))
    for place, chain in enumerate(reversed(ranked), start=1):
        waits, seen = list(chain.steps()), set[Step]()
        while waits:  # and all that they wait for: the environment of the tools is no step of the chain
            step = waits.pop()
            if step not in seen:
                seen.add(step)
                step.priority = max(step.priority, place)
                waits += [*step.needs, *([step.environment] if step.environment is not None else [])]


def arranged(chains: Sequence[Chain], order: Sequence[str], known: Known) -> list[Chain]:
    """The chains that have something to run, in this order; where it does not decide, in their own."""
    waiting = [at for at, chain in enumerate(chains) if any(step.wanted for step in chain.steps())]
    split = order.index("uncovered") if "uncovered" in order else len(order)
    before, after = order[:split], order[split + 1 :]
    waiting.sort(key=lambda at: (_rank(chains[at], before, known), _rank(chains[at], after, known)))
    if split == len(order):
        return [chains[at] for at in waiting]
    rows = sample.rows_of([chain.cell for chain in chains])
    cover = sample.Cover.of(rows)
    left, shared = set(waiting), [0] * len(rows)
    for at, chain in enumerate(chains):
        if at not in left and chain.cell.id in known and not chain.left_alone:
            cover.take(at)
    out: list[int] = []
    for _, group in groupby(waiting, key=lambda at: _rank(chains[at], before, known)):
        alike = list(group)
        first = cover.greedy(alike, shared, set()) if len(alike) > 1 else []
        taken = set(first)
        rest = [at for at in alike if at not in taken]
        for at in rest if not first else ():  # those of a greedy cover's group hold nothing that is not covered
            cover.take(at)
        out += [*first, *rest]
    return [chains[at] for at in out]


def _rank(chain: Chain, order: Sequence[str], known: Known) -> tuple[Any, ...]:
    found = known.get(chain.cell.id)
    keys: dict[str, Any] = {
        "failed": not (found and found.bad and found.expected != "expected"),
        "changed": found is None,  # what waits and has evidence has it of something else
        "oldest": found.when if found else "",  # never tried is older than all
    }
    return tuple(keys[name] for name in order)
