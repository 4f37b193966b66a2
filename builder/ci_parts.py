"""The cells of a selection in parts, one for each job of a CI system.

Pure: the parts follow from matrix, recipes, families and `matrix.times.json` alone, so that every machine divides alike,
and each cell is in exactly one part. What a step costs, two parts that both need it pay twice; so cells that share much (an
environment, an export) are dealt out together, the heaviest first, each to the part that then ends soonest (longest
processing time first: R. L. Graham, "Bounds on Multiprocessing Timing Anomalies", 1969), counted with what it shares there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from builder import select
from builder.errors import UsageError
from builder.lock import Lock
from builder.machine import Machine
from builder.values import Cell

if TYPE_CHECKING:
    from builder.ci_times import Times
    from builder.pipeline import Work
    from builder.plan import Chain, Step
    from builder.spec import Group

MOST = 256
"""Jobs of one matrix (https://docs.github.com/en/actions/reference/limits)."""
_PART = re.compile(r"([0-9]{1,6})/([0-9]{1,6})$")
_FINE = 4
"""What cells share is dealt out apart where it is more than this share of a part's work: 1/4."""
_COMMON = 0.75
"""Nor where more than this share of their work is what all of them need: it would only be done twice."""
_NEARLY = 1.03
#: Dividing must not depend on the machine, so it is planned for this one. What needs a GPU is skipped there, and counts
#: `_SKIPPED` of its time: hardly anything beside what runs, and all the same among its like.
_NEUTRAL = Machine(cpu="", flags="", cores=1, memory=0, gpus=(), driver=None)
_SKIPPED = 0.05


@dataclass(frozen=True, kw_only=True)
class Part:
    """The cells of one job, in the selection's order."""

    cells: tuple[Cell, ...]
    seconds: float
    """Of one processor: every step that they need, once, with nothing stored."""


def parse(text: str) -> tuple[int, int]:
    """`3/12` -> (3, 12). Raises UsageError."""
    found = _PART.match(text)
    number, of = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= of <= MOST:
        msg = f"{text!r} is no part: write 3/12, the third of twelve (at most {MOST})"
        raise UsageError(msg)
    return number, of


def narrow(work: Work, text: str, asked: Sequence[str | None] = ()) -> Work:
    """Only the cells of one part. asked: the group and expressions that `work` was selected by. Raises UsageError; also for
    one that follows from results, which other machines do not have."""
    number, of = parse(text)
    for each in asked:
        if each and (word := from_results(each, work.spec.groups)):
            msg = f"a part of {each!r} is not the same everywhere: `{word}` follows from what is stored on each machine"
            raise UsageError(msg)
    part = parts(work, of)[number - 1]
    return replace(work, cells=part.cells, select=f"{work.select}, part {number}/{of}")


def from_results(text: str, groups: Mapping[str, Group]) -> str:
    """What in a group or expression asks for earlier results: `status`, `changed`, or "" where nothing does."""
    group = groups.get(text)
    trees = [group.expr, group.always] if group is not None else [select.parse(text)]
    for leaf in (leaf for tree in trees if tree is not None for leaf in select.leaves(tree)):
        if isinstance(leaf, select.Compare):
            found = leaf.field if leaf.field == "status" else ""
        else:
            found = (
                leaf.text if leaf.text == "changed" else from_results(leaf.text, groups) if leaf.text in groups else ""
            )
        if found:
            return found
    return ""


def parts(work: Work, number: int) -> list[Part]:
    """All cells of `work` in `number` parts, some of them empty where there is not enough to share."""
    return Division(work).parts(number)


Levels: TypeAlias = "tuple[Callable[[int], Hashable], ...]"
"""Place of a cell -> what it shares with others, coarse to fine."""


@dataclass(kw_only=True)
class _Atom:
    """Cells that are dealt out together. Steps are places in `Division.cost`."""

    cells: list[int]
    steps: set[int]


class Division:
    """A selection, planned, so that it can be divided into any number of parts."""

    def __init__(self, work: Work, times: Times | None = None) -> None:
        from builder import ci_times

        self.cells = work.cells
        known = ci_times.read(work.project.matrix) if times is None else times
        chains = _chains(work)
        self.cost: list[int] = []
        """Milliseconds of each step: whole numbers, which add up alike everywhere."""
        places: dict[int, int] = {}
        self.steps = []
        for chain in chains:
            needed = _closure(chain)
            for step in needed:
                if id(step) not in places:
                    places[id(step)] = len(self.cost)
                    skipped = step.state == "skip" or (
                        step.environment is not None and step.environment.state == "skip"
                    )
                    self.cost.append(max(1, round(1000 * known.of(step) * (_SKIPPED if skipped else 1))))
            self.steps.append(frozenset(places[id(step)] for step in needed))
        engine = lambda at: self.cells[at].engine.id  # noqa: E731
        model = lambda at: self.cells[at].model  # noqa: E731
        export = lambda at: places.get(id(chains[at].export), -1)  # noqa: E731
        build = lambda at: places.get(id(chains[at].build), -1)  # noqa: E731
        self._orders: tuple[Levels, ...] = (
            (engine, model, export, build),
            (model, export, engine, build),
        )
        """What is kept together first: the cells of an environment, or those of an export."""

    @property
    def seconds(self) -> float:
        """Of all cells in one part."""
        return self._milliseconds(set(range(len(self.cost)))) / 1000

    def parts(self, number: int) -> list[Part]:
        """In `number` parts: of the ways to deal cells out the one that ends first, or nearly and with less work."""
        if not self.cells:
            return [Part(cells=(), seconds=0.0)] * number
        dealt = [self._deal(number, levels, thrifty) for levels in self._orders for thrifty in (False, True)]
        ends = [max(part.seconds for part in parts) for parts in dealt]
        good = [parts for parts, end in zip(dealt, ends, strict=True) if end <= min(ends) * _NEARLY]
        return min(good, key=lambda parts: sum(part.seconds for part in parts))

    def _deal(self, number: int, levels: Levels, thrifty: bool) -> list[Part]:
        """thrifty: rather to a part that has what the cells need, unless it would end later than one has to."""
        share = self._milliseconds(set(range(len(self.cost)))) // number
        limit = share // _FINE
        atoms = self._atoms(list(range(len(self.cells))), levels, limit) if number > 1 else []
        if number == 1:
            atoms = [_Atom(cells=list(range(len(self.cells))), steps=set(range(len(self.cost))))]
        uses = [0] * len(self.cost)
        for atom in atoms:
            for step in atom.steps:
                uses[step] += 1
        load, holders = [0] * number, [list[int]() for _ in self.cost]
        cells: list[list[int]] = [[] for _ in range(number)]
        weight = {id(atom): self._milliseconds(atom.steps) + len(atom.cells) for atom in atoms}
        for atom in sorted(atoms, key=lambda atom: (-weight[id(atom)], atom.cells[0])):
            shared = [step for step in atom.steps if uses[step] > 1]
            ends = [before + weight[id(atom)] for before in load]
            for step in shared:
                for at in holders[step]:
                    ends[at] -= self.cost[step]
            bound = max(share, *load) if thrifty else 0
            at = min(
                range(number),
                key=lambda at: (max(0, ends[at] - bound), ends[at] - load[at] if thrifty else 0, ends[at], at),
            )
            load[at] = ends[at]
            for step in shared:
                if at not in holders[step]:
                    holders[step].append(at)
            cells[at] += atom.cells
        return [
            Part(cells=tuple(self.cells[at] for at in sorted(mine)), seconds=milliseconds / 1000)
            for mine, milliseconds in zip(cells, load, strict=True)
        ]

    def _atoms(self, cells: list[int], levels: Levels, limit: int) -> list[_Atom]:
        """Cells by what they share, as finely as it takes for none to be more work than `limit` (milliseconds)."""
        groups: dict[Hashable, list[int]] = {}
        for at in cells:
            groups.setdefault(levels[0](at), []).append(at)
        atoms = []
        for group in groups.values():
            steps = set[int]().union(*(self.steps[at] for at in group))
            work, common = self._milliseconds(steps), frozenset.intersection(*(self.steps[at] for at in group))
            if len(levels) == 1 or work <= limit or self._milliseconds(common) > work * _COMMON:
                atoms.append(_Atom(cells=group, steps=steps))
            else:
                atoms += self._atoms(group, levels[1:], limit)
        return atoms

    def _milliseconds(self, steps: Set[int]) -> int:
        return sum(map(self.cost.__getitem__, steps))


def _chains(work: Work) -> list[Chain]:
    """The steps of every cell on a machine that is the same everywhere; cells that the facts rule out have none of their own."""
    from builder.plan import Code, Planner
    from builder.predict import Predictor

    predictor = Predictor(work.spec.families, _NEUTRAL)
    against = {}
    for cell in work.cells:
        if cell.model not in work.spec.suites and cell.built_on is None:
            claim = predictor.predict(cell).against
            if claim is not None:
                against[cell.id] = claim
    planner = Planner(
        families=work.spec.families, recipes=work.spec.recipes,
        reference_stacks={model: work.spec.reference_stack(model) for model in {cell.model for cell in work.cells}},
        tools=work.spec.tools, lock=Lock(cutoff=""), machine=_NEUTRAL, code=Code.of({}), isolation=work.spec.isolation,
        against=against, suites=work.spec.suites, quantizers=work.spec.quantizers,
    )  # fmt: skip
    return planner.plan(work.cells).chains


def _closure(chain: Chain) -> list[Step]:
    """All steps that a cell takes, with the environments they are made in, each once, in order."""
    if chain.left_alone:
        return []
    found: dict[int, Step] = {}
    waiting = list(chain.steps())
    while waiting:
        step = waiting.pop()
        if id(step) not in found:
            found[id(step)] = step
            waiting += [need for need in (step.environment, *step.needs) if need is not None]
    return list(found.values())
