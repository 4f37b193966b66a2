"""Sampling: few cells that still cover every pair (or triple) of axis values that can occur together.

The method is the greedy cover of AETG (Cohen et al., 1997, "The AETG System"), with one difference that makes
constraints free: it picks among the cells that exist, so a pair that the rules forbid is never asked for, and none
that they allow is lost. At the end the covered combinations are counted anew, from the chosen cells alone; one that
is missing is an error.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Literal, TypeAlias

from builder.errors import EngineMatrixError
from builder.values import Cell

Strategy = Literal["pairwise", "threewise", "random", "all"]
STRATEGIES: tuple[Strategy, ...] = ("pairwise", "threewise", "random", "all")
_STRENGTH = {"pairwise": 2, "threewise": 3}


class SampleError(EngineMatrixError):
    """`max` is below what the cover needs, or the cover is not one."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """What a sampling did."""

    strategy: Strategy
    seed: int
    candidates: int
    chosen: tuple[int, ...]
    """Indexes into the candidates, ascending."""
    covered: int
    total: int
    """Combinations of two (or three) axis values covered, of those that occur in any candidate; 0 of 0 for `random`."""


def order(count: int, seed: int) -> list[int]:
    """A permutation that is the same on every Python: only `Random.random` is promised to be."""
    rng = random.Random(seed)
    keys = [rng.random() for _ in range(count)]
    return sorted(range(count), key=keys.__getitem__)


def sample(
    rows: Sequence[int],
    *,
    strategy: Strategy,
    seed: int,
    always: Iterable[int] = (),
    limit: int | None = None,
    soft: bool = False,
    shared: Sequence[int] | None = None,
) -> Sampled:
    """Choose rows. A row is a set of axis values as bits: bit v is set when the cell has value number v.

    `shared` names for each row the work that it shares with others (an export): among rows that cover as much, those whose
    work is already chosen go first. `always` are indexes that are chosen in any case. Raises SampleError when `limit` does
    not suffice, unless `soft`.
    """
    fixed = sorted(set(always))
    if strategy == "all":
        every = tuple(range(len(rows)))
        return Sampled(strategy=strategy, seed=seed, candidates=len(rows), chosen=every, covered=0, total=0)
    if strategy == "random":
        inside = set(fixed)
        rest = [index for index in order(len(rows), seed) if index not in inside]
        room = len(rows) if limit is None else limit - len(fixed)
        chosen = sorted(fixed + rest[: max(room, 0)])
        return Sampled(strategy=strategy, seed=seed, candidates=len(rows), chosen=tuple(chosen), covered=0, total=0)
    strength = _STRENGTH[strategy]
    contexts = [_contexts(row, strength) for row in rows]
    partners = _partners(rows, contexts)
    total = _count(partners, strength)
    picked = _cover(rows, contexts, partners, seed, fixed, shared or [0] * len(rows))
    if limit is not None and len(picked) > limit:
        if not soft:
            covered = _covered(rows, contexts, picked[:limit], strength)
            raise SampleError(
                f"max {limit} is too few: {strategy} needs {len(picked)} cells, and {total - covered} of {total} "
                f"combinations would stay uncovered (write soft: true to accept that)"
            )
        picked = picked[: max(limit, len(fixed))]
    chosen = sorted(picked)
    covered = _covered(rows, contexts, chosen, strength)
    if covered < total and not soft:
        raise SampleError(f"{strategy} sampling covered only {covered} of {total} combinations: this is a bug")
    return Sampled(
        strategy=strategy, seed=seed, candidates=len(rows), chosen=tuple(chosen), covered=covered, total=total
    )


Context: TypeAlias = "int | tuple[int, ...]"
"""What partners are counted for: a value for pairs, a pair of values for triples."""

_HALF = 40


@lru_cache(maxsize=1 << 16)
def _bits(part: int, shift: int) -> tuple[int, ...]:
    return tuple(shift + index for index in range(part.bit_length()) if part >> index & 1)


def _contexts(row: int, strength: int) -> Sequence[Context]:
    # Rows are stacks and a model with a few options: their halves are few, and cached.
    values = _bits(row & (1 << _HALF) - 1, 0) + _bits(row >> _HALF, _HALF)
    return values if strength == 2 else list(combinations(values, strength - 1))


def _partners(rows: Iterable[int], contexts: Iterable[Sequence[Context]]) -> dict[Context, int]:
    """context -> the values that occur together with it, its own included, as bits."""
    partners: dict[Context, int] = {}
    for row, of_row in zip(rows, contexts, strict=True):
        for context in of_row:
            partners[context] = partners.get(context, 0) | row
    return partners


def _count(partners: Mapping[Context, int], strength: int) -> int:
    """Distinct combinations: each is seen from each of its contexts."""
    return sum(bits.bit_count() - (strength - 1) for bits in partners.values()) // strength


def _covered(
    rows: Sequence[int],
    contexts: Mapping[int, Sequence[Context]] | Sequence[Sequence[Context]],
    chosen: Sequence[int],
    strength: int,
) -> int:
    """Combinations in the chosen rows, counted from scratch: nothing that the cover kept is believed."""
    return _count(_partners((rows[i] for i in chosen), (contexts[i] for i in chosen)), strength)


def _own(context: Context) -> int:
    return 1 << context if isinstance(context, int) else sum(1 << value for value in context)


class Cover:
    """Which combinations of values are still uncovered, while rows are taken one after the other."""

    def __init__(
        self, rows: Sequence[int], contexts: Sequence[Sequence[Context]], partners: Mapping[Context, int]
    ) -> None:
        self.rows, self.contexts = rows, contexts
        # A combination counts once per context; the context itself is no partner of its own.
        self.uncovered = {context: bits & ~_own(context) for context, bits in partners.items()}

    @classmethod
    def of(cls, rows: Sequence[int]) -> Cover:
        """Nothing covered yet of the pairs that occur in any of the rows (sets of values, as bits)."""
        contexts = [_contexts(row, 2) for row in rows]
        return cls(rows, contexts, _partners(rows, contexts))

    @property
    def left(self) -> int:
        """Combinations (pairs, when made by `of`) that no row taken so far holds."""
        return sum(bits.bit_count() for bits in self.uncovered.values()) // 2

    def gain(self, index: int) -> int:
        row = self.rows[index]
        return sum([(self.uncovered[context] & row).bit_count() for context in self.contexts[index]])

    def take(self, index: int) -> None:
        row = self.rows[index]
        for context in self.contexts[index]:
            self.uncovered[context] &= ~row

    def greedy(self, waiting: Sequence[int], shared: Sequence[int], used: set[int]) -> list[int]:
        """Take of the rows `waiting` always one with the most combinations still uncovered, in their order where several
        have as many, until none has any; those taken. `shared`: what rows share with others; where it is in `used` they
        come first among equals. Lazy: a row's gain only falls, so it is counted again only when it stands first; rows wait
        in buckets by the gain they had when last counted."""
        picked: list[int] = []
        most = max((len(self.contexts[index]) * self.rows[index].bit_count() for index in waiting), default=0)
        buckets: list[list[int]] = [[] for _ in range(most + 1)]
        buckets[most] = list(waiting[::-1])
        level = most
        while level > 0:
            if not buckets[level]:
                level -= 1
                continue
            groups: dict[int, list[int]] = {}
            for index in reversed(buckets[level]):
                groups.setdefault(shared[index], []).append(index)
            buckets[level] = []
            for group in sorted(groups, key=lambda group: group not in used):
                for index in groups[group]:
                    now = self.gain(index)
                    if now == level:
                        picked.append(index)
                        used.add(group)
                        self.take(index)
                    elif now:
                        buckets[now].append(index)
        return picked


def _cover(
    rows: Sequence[int],
    contexts: Sequence[Sequence[Context]],
    partners: Mapping[Context, int],
    seed: int,
    fixed: Sequence[int],
    shared: Sequence[int],
) -> list[int]:
    """The rows `fixed`, and those that the greedy method takes with them."""
    cover = Cover(rows, contexts, partners)
    for index in fixed:
        cover.take(index)
    inside = set(fixed)
    waiting = [index for index in order(len(rows), seed) if index not in inside]
    return [*fixed, *cover.greedy(waiting, shared, {shared[index] for index in fixed})]


def pairs(rows: Sequence[int], chosen: Iterable[int] | None = None) -> int:
    """How many pairs of values occur in rows (sets of values, as bits), or in the chosen ones of them."""
    picked = range(len(rows)) if chosen is None else list(chosen)
    return _covered(rows, {index: _contexts(rows[index], 2) for index in picked}, picked, 2)


def rows_of(cells: Sequence[Cell]) -> list[int]:
    """Cells as sets of values: exporter stack, engine stack, model, and each option axis."""
    numbers: dict[tuple[str, str], int] = {}
    rows = []
    for cell in cells:
        row = 0
        stacks = (("exporter", cell.exporter.id), ("engine", cell.engine.id))
        for pair in (*stacks, ("model", cell.model), *cell.options.items()):
            row |= 1 << numbers.setdefault(pair, len(numbers))
        rows.append(row)
    return rows


def pairwise(cells: Sequence[Cell], seed: int, always: Iterable[Cell] = (), limit: int | None = None) -> list[Cell]:
    """The chosen cells, in the order given: every pair of axis values that occurs in a cell occurs in a chosen one."""
    index = {id(cell): number for number, cell in enumerate(cells)}
    done = sample(
        rows_of(cells), strategy="pairwise", seed=seed, always=[index[id(cell)] for cell in always], limit=limit
    )
    return [cells[number] for number in done.chosen]
