"""The conjunction of axis conditions that explains most failures, exactly, by branch and bound.

What is looked for is a minimal failure-causing schema (Nie and Leung, "The minimal failure-causing schema of combinatorial
testing", ACM TOSEM 20(4), 2011): a set of axis values that every failing case of one kind contains and no passing one, of
which no smaller set does. Two things are added, since a matrix is often sampled: a condition may be a range of versions or
a set of values, and a schema must be more than luck. So each is scored in bits, as subgroup discovery does:

    score = failing * log2(1 / rate)  -  passing * e  -  cost

`rate` is the share of failures among the cells that show something, `cost` the length of the rule in a prefix code (which
fields, which kind of condition, which values), and `e` is what a counter-example costs: the more of log2(cells), which names
it, and ten failures' worth, so that a rule with exceptions must hold in ten cells of eleven. Where outcomes are shuffled, the
chance that any rule at all scores s bits is at most 2^-s: a rule over p failing cells occurs with at most rate^p, those with
counter-examples number at most cells^n, and the code's lengths satisfy Kraft's inequality. A found rule is held against the
limit with the exact probability in place of rate^p (hypergeometric, as in Fisher's test). (The same correction for the
size of the search as Webb, "Discovering significant patterns", Machine Learning 68, 2007, with weights.)

The search is exact: a conjunction of at most `DEPTH` conditions is left out only where its optimistic estimate, all of its
failing cells and none of the passing ones, is no better than what was found (Wrobel 1997; Grosskreutz et al., "Tight
optimistic estimates for fast subgroup discovery", ECML PKDD 2008). Its last condition is solved in closed form over all
ranges and sets of values; the others are single values, ranges, or sets of fields with few values. Sets in several fields at
once come from improving one condition at a time, which is not exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import comb, factorial, log2

DEPTH = 4
"""Conditions of a rule at most, where the search is exact."""
LONGEST = 6
"""Conditions of a rule at most, where longer ones are come upon by improving what was found."""
CONTEXTS = 20_000
"""Conjunctions whose last condition is solved, for one rule at most; a bound on time that is noted where it is met."""
TOTAL = 60_000
"""The same for all rules of a report: what a few seconds allow."""
SURER = 12.0
"""Bits below the limit to which a search looks, for rules that the exact probability lifts above it."""
STARTS = 4
SEEDS = 3
"""Rules that are climbed to before the search begins: from single conditions, and from minimal schemas of failing cells."""
EXCEPTION = 10
"""Failing cells that a rule must gain for each counter-example that it takes."""
SUBSETS = 4
"""All sets of values are tried as any condition of a rule in fields with at most so many values."""

Conditions = tuple[tuple[int, frozenset[int]], ...]
"""(Field, accepted values), by their places, one for each field, in the order of the fields."""


Columns = Sequence[Sequence[int]]
"""Of each field's values, the cells that have it, as bits."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A dimension of the cells. `ordered`: ranges of its values make sense, and `values` are in that order."""

    name: str
    values: tuple[str, ...]
    ordered: bool

    @cached_property
    def single(self) -> float:
        """Bits that name one value. Which kind of condition: 1 bit in a field without order, 2 in an ordered one."""
        return (2 if self.ordered else 1) + log2(len(self.values))

    @cached_property
    def sided(self) -> float:
        """Bits of "up to" or "from" a value on."""
        return 2 + log2(2 * max(1, len(self.values) - 1))

    @cached_property
    def between(self) -> float:
        """Bits of a range with two ends."""
        return 2 + log2(max(1, len(self.values) * (len(self.values) - 1) / 2))

    @cached_property
    def sets(self) -> tuple[float, ...]:
        """Bits of a set of 0, 1, 2... values: how many, and which."""
        k = len(self.values)
        return tuple((2 if self.ordered else 1) + log2(k) + log2(comb(k, m)) for m in range(k + 1))

    def cost(self, chosen: frozenset[int]) -> float:
        """Bits of the cheapest condition that accepts exactly these values."""
        costs = [self.sets[len(chosen)]]
        if len(chosen) == 1:
            costs.append(self.single)
        low, high, last = min(chosen), max(chosen), len(self.values) - 1
        if self.ordered and high - low + 1 == len(chosen):
            costs.append(self.sided if (low == 0) != (high == last) else self.between)
        return min(costs)


@dataclass(frozen=True, slots=True)
class Found:
    """A rule and its score."""

    conditions: Conditions
    score: float


class Search:
    """Cells as bits: of every field's values, the failing cells that have it, and the passing ones."""

    def __init__(
        self, fields: Sequence[Field], bad: Columns, good: Columns, failing: int, passing: int, searched: int,
    ) -> None:  # fmt: skip
        """`bad` and `good` are `bits` of the failing and the passing cells, so many each. `searched`: of the fields, how many
        may be in a rule; the rest are looked at by `alike` alone."""
        self.fields, self.bad, self.good = fields, bad, good
        self.left = (1 << failing) - 1
        """The failing cells that no rule explains yet."""
        self.all_good = (1 << passing) - 1
        whole = (self.left, self.all_good)
        self.searched = [at for at in range(searched) if whole not in zip(bad[at], good[at], strict=True)]
        """Places of the fields in which these cells differ."""
        self.limited = False
        """Whether `CONTEXTS` ended a search."""
        self.name = log2(max(1, len(self.searched)))
        self.cheapest = 1 + self.name + min((fields[at].single for at in self.searched), default=0.0)

    def weigh(self) -> None:
        failing, passing = self.left.bit_count(), self.all_good.bit_count()
        self.gain = log2((failing + passing) / failing)
        self.loss = max(log2(failing + passing), EXCEPTION * self.gain)

    def cells(self, conditions: Conditions) -> tuple[int, int]:
        """(Failing cells that are not explained yet, passing cells) that fit, as bits."""
        bad, good = self.left, self.all_good
        for field, chosen in conditions:
            bad &= _any(self.bad[field], chosen)
            good &= _any(self.good[field], chosen)
        return bad, good

    def cost(self, conditions: Conditions) -> float:
        """Bits of a rule: how many conditions (one bit each), then each one's field and values, in any order."""
        each = sum(1 + self.name + self.fields[field].cost(chosen) for field, chosen in conditions)
        return each - log2(factorial(len(conditions)))

    def score(self, conditions: Conditions) -> float:
        bad, good = self.cells(conditions)
        return bad.bit_count() * self.gain - good.bit_count() * self.loss - self.cost(conditions)

    def best(self, least: float, budget: int = CONTEXTS) -> Found | None:
        """The rule with the highest score of at least `least` bits, over what no rule explains yet. `budget`: conjunctions to
        solve at most; `solved` says afterwards how many there were."""
        self.solved = 0
        if not self.left or not self.all_good:
            return None
        self.weigh()
        self.found = Found((), least - min(SURER, self._surer(self.left.bit_count())) - 1e-9)
        single = self._single()
        seen: dict[tuple[int, int], float] = {}
        self._climb()
        level: list[tuple[float, Conditions, int, int, int, float]] = [
            (0.0, (), -1, self.left, self.all_good, 0.0)
        ]  # fmt: skip
        for depth in range(1, DEPTH):
            last, grown = depth == DEPTH - 1, []
            for bound, conditions, place, bad, good, cost in sorted(level, key=lambda item: -item[0]):
                if conditions and bound <= self.found.score:
                    break
                for item in self._grow(conditions, place, bad, good, cost, single):
                    bound, more, _, fewer, kept, spent = item
                    if bound <= self.found.score or seen.get((fewer, kept), spent + 1) <= spent:
                        continue
                    seen[fewer, kept] = spent
                    if self.solved >= budget:
                        self.limited = True
                        break
                    self.solved += 1
                    self._solve(more, fewer, kept, spent)
                    further = bound - self.cheapest + log2(len(more) + 2)
                    if not last and kept and further > self.found.score:
                        grown.append((further, *item[1:]))
            level = grown
        if not self.found.conditions:
            return None
        found = self._improved(self.found)
        part = self._parted(found)
        for rule in filter(None, (part, found)):
            score = rule.score + self._surer(self.cells(rule.conditions)[0].bit_count())
            if score >= least:
                return Found(rule.conditions, score)
        return None

    def _surer(self, cells: int) -> float:
        """Bits by which that many failing cells in one rule are less likely than rate^cells, drawn as they are without return:
        what matters where a rule explains all of few."""
        failing, passing = self.left.bit_count(), self.all_good.bit_count()
        exact = sum(log2((failing + passing - at) / (failing - at)) for at in range(cells))
        return exact - cells * self.gain

    def _parted(self, found: Found) -> Found | None:
        """One of two rules that explain more than this one, where it is but what they have in common: `a=1 or 2, b=1, c=1`
        of `a=1, b=1` and `a=2, c=1`. Such a rule is no minimal schema, as parts of it hold without one of the conditions."""
        best, chosen_part = found.score, None
        for at, chosen in found.conditions:
            for part in _parts(chosen, self.fields[at].ordered):
                first, second = (
                    tuple((field, own if field == at else other) for field, other in found.conditions)
                    for own in (part, chosen - part)
                )
                if not (self._widens(first, at) or self._widens(second, at)):
                    continue
                one = self._improved(self._improved(Found(first, self.score(first)), at))
                left, self.left = self.left, self.left & ~self.cells(one.conditions)[0]
                two = self._improved(self._improved(Found(second, self.score(second)), at))
                self.left = left
                if one.score + two.score > best + 1e-9 and min(one.score, two.score) > 0:
                    best = one.score + two.score
                    chosen_part = max(one, two, key=lambda item: item.score)
        return chosen_part if chosen_part and chosen_part.conditions != found.conditions else None

    def _widens(self, conditions: Conditions, fixed: int) -> bool:
        """Whether a condition, other than the one on field `fixed`, could be better."""
        score = self.score(conditions) + 1e-9
        for at, _ in conditions:
            others = tuple(item for item in conditions if item[0] != at)
            if at == fixed or not others:
                continue
            if self.score(others) > score:
                return True
            chosen, _ = self._condition(at, *self.cells(others), float("-inf"))
            if chosen and self.score(tuple(sorted((*others, (at, chosen)), key=lambda item: item[0]))) > score:
                return True
        return False

    def _climb(self) -> None:
        """A good rule to begin with, so that the bounds bite: the best of what each field's best condition leads to."""
        starts = []
        for at in self.searched:
            chosen, score = self._condition(at, self.left, self.all_good, float("-inf"))
            if chosen:
                starts.append((score, at, chosen))
        ways: list[Conditions] = [
            ((at, chosen),) for _, at, chosen in sorted(starts, key=lambda item: -item[0])[:STARTS]
        ]
        left = [at for at in range(self.left.bit_length()) if self.left >> at & 1]
        ways += [
            self._schema(left[place * (len(left) - 1) // max(1, SEEDS - 1)]) for place in range(min(SEEDS, len(left)))
        ]
        for conditions in filter(None, ways):
            found = self._improved(Found(conditions, self.score(conditions)))
            if found.score > self.found.score:
                self.found = found

    def _single(self) -> list[tuple[int, frozenset[int], int, int, float]]:
        """Every condition that a rule may begin with, one of those that take the same cells: (field, values, failing, passing,
        bits)."""
        out: dict[tuple[int, int], tuple[int, frozenset[int], int, int, float]] = {}
        for at in self.searched:
            field = self.fields[at]
            for chosen in _choices(field):
                bad, good = _any(self.bad[at], chosen) & self.left, _any(self.good[at], chosen)
                if bad and good != self.all_good:
                    out.setdefault((bad, good), (at, chosen, bad, good, 1 + self.name + field.cost(chosen)))
        return sorted(out.values(), key=lambda item: item[0])

    def _grow(
        self, conditions: Conditions, place: int, bad: int, good: int, cost: float,
        single: Sequence[tuple[int, frozenset[int], int, int, float]],
    ) -> Iterator[tuple[float, Conditions, int, int, int, float]]:  # fmt: skip
        """The conjunctions with one more condition that may still lead to the best rule."""
        field = conditions[-1][0] if conditions else -1
        for at in range(place + 1, len(single)):
            own, chosen, its_bad, its_good, bits = single[at]
            if own == field:
                continue
            fewer = bad & its_bad
            spent = cost + bits
            more = len(conditions) + 2  # a further condition is to come
            bound = fewer.bit_count() * self.gain - spent - self.cheapest + log2(factorial(more))
            if bound <= self.found.score:
                continue
            kept = good & its_good
            if kept == good:  # a condition that keeps out no passing cell could be left out
                continue
            yield bound, (*conditions, (own, chosen)), at, fewer, kept, spent

    def _solve(self, conditions: Conditions, bad: int, good: int, cost: float) -> None:
        """The best last condition of a conjunction, over all fields, ranges and sets of values."""
        used = {field for field, _ in conditions}
        size = bad.bit_count() * self.gain
        order = log2(factorial(len(conditions) + 1))
        for at in self.searched:
            field = self.fields[at]
            spent = cost + 1 + self.name - order
            if at in used or size - spent - field.single <= self.found.score:
                continue
            chosen, score = self._condition(at, bad, good, self.found.score + spent)
            if chosen:
                found = (*conditions, (at, chosen))
                self.found = Found(tuple(sorted(found, key=lambda item: item[0])), score - spent)

    def _condition(self, at: int, bad: int, good: int, least: float) -> tuple[frozenset[int], float]:
        """The condition on one field that scores most, if more than `least`, and its bits."""
        field, count = self.fields[at], len(self.fields[at].values)
        hits = [(bad & bits).bit_count() for bits in self.bad[at]]
        if not any(hits) or sum(hits) * self.gain - field.single <= least:
            return frozenset(), 0.0
        some = [v for v in range(count) if hits[v]]
        low, high = some[0], some[-1]
        weight = [0.0] * count
        for v in range(low, high + 1) if field.ordered else some:
            weight[v] = hits[v] * self.gain - (good & self.good[at][v]).bit_count() * self.loss
        best: tuple[frozenset[int], float] = (frozenset(), least)
        top = max(some, key=lambda v: weight[v])
        if weight[top] - field.single > best[1]:
            best = frozenset({top}), weight[top] - field.single
        if field.ordered and count > 2:
            best = self._range(field, weight, low, high, best)
        gaining = sorted((v for v in some if weight[v] > 0), key=lambda v: -weight[v])
        total = 0.0
        for m, v in enumerate(gaining, start=1):
            total += weight[v]
            if m > 1 and m < count and total - field.sets[m] > best[1]:
                best = frozenset(gaining[:m]), total - field.sets[m]
        return best

    def _range(
        self, field: Field, weight: Sequence[float], low: int, high: int, best: tuple[frozenset[int], float]
    ) -> tuple[frozenset[int], float]:
        """The best range, where it beats `best`. Its ends are values that fail: what lies beyond is no evidence for it, unless
        the range is open there because nothing lies beyond."""
        for first in range(low, high + 1):
            total = 0.0
            for last in range(first, high + 1):
                total += weight[last]
                if last == first or weight[first] <= 0 or weight[last] <= 0:
                    continue
                chosen = frozenset(range(first, last + 1))
                if len(chosen) < len(field.values) and total - field.sided > best[1]:
                    found = total - field.cost(chosen)
                    if found > best[1]:
                        best = chosen, found
        return best

    def _schema(self, cell: int) -> Conditions:
        """A minimal schema of a failing cell: of its values, those without any of which passing cells would fit."""
        kept = [
            (at, frozenset({value})) for at in self.searched for value, own in enumerate(self.bad[at]) if own >> cell & 1
        ]  # fmt: skip
        while True:
            most, drop = -1, None
            for place in range(len(kept) - 1, -1, -1):
                bad, good = self.cells(tuple(kept[:place] + kept[place + 1 :]))
                if not good and bad.bit_count() > most:
                    most, drop = bad.bit_count(), place
            if drop is None:
                return tuple(kept) if len(kept) <= LONGEST else ()
            del kept[drop]

    def _improved(self, found: Found, fixed: int = -1) -> Found:
        """The rule with one condition after the other made better, dropped or added, until none can be; but not that on the
        field `fixed`."""
        better = True
        while better:
            better = False
            for at in self.searched:
                if at == fixed:
                    continue
                others = tuple(item for item in found.conditions if item[0] != at)
                options = [others] if others and len(others) < len(found.conditions) else []
                if len(others) < LONGEST:
                    chosen, _ = self._condition(at, *self.cells(others), float("-inf"))
                    options += [tuple(sorted((*others, (at, chosen)), key=lambda item: item[0]))] if chosen else []
                for conditions in options:
                    score = self.score(conditions)
                    if score > found.score + 1e-9:
                        found, better = Found(conditions, score), True
        return found

    def explain(self, conditions: Conditions) -> None:
        """Take the failing cells that fit as explained."""
        self.left &= ~self.cells(conditions)[0]

    def alike(self, conditions: Conditions, at: int) -> list[tuple[int, frozenset[int]]]:
        """Conditions on other fields that take exactly the same cells in place of the one on field `at`."""
        others = tuple(item for item in conditions if item[0] != at)
        bad, good = self.cells(others)
        mine_bad, mine_good = self.cells(conditions)
        used = {field for field, _ in conditions}
        out = []
        for field in range(len(self.fields)):
            chosen = frozenset(v for v, bits in enumerate(self.bad[field]) if bits & mine_bad)
            if field in used or not chosen:
                continue
            if bad & _any(self.bad[field], chosen) == mine_bad and good & _any(self.good[field], chosen) == mine_good:
                out.append((field, chosen))
        return out


def bits(fields: Sequence[Field], rows: Sequence[Sequence[int]]) -> Columns:
    """Of each field's values, the rows that have it, as bits. Rows hold the place of each field's value, -1 for none."""
    columns = [[bytearray(len(rows) // 8 + 1) for _ in field.values] for field in fields]
    for number, row in enumerate(rows):
        byte, bit = number >> 3, 1 << (number & 7)
        for column, value in zip(columns, row, strict=True):
            if value >= 0:
                column[value][byte] |= bit
    return [[int.from_bytes(own, "little") for own in column] for column in columns]


def _any(bits: Sequence[int], chosen: frozenset[int]) -> int:
    out = 0
    for value in chosen:
        out |= bits[value]
    return out


def _parts(chosen: frozenset[int], ordered: bool) -> Iterator[frozenset[int]]:
    """Ways to part a set of values in two: one of them and the rest; in an ordered field, below and above a value too."""
    parts = {frozenset({value}) for value in chosen} if len(chosen) > 1 else set()
    if ordered:
        parts |= {frozenset(sorted(chosen)[:at]) for at in range(1, len(chosen))}
    yield from sorted(parts, key=sorted)


def _choices(field: Field) -> Iterator[frozenset[int]]:
    """Single values, ranges, and in a field of few values every set; never all values."""
    count = len(field.values)
    for value in range(count):
        yield frozenset({value})
    if field.ordered:
        for first, last in combinations(range(count), 2):
            if last - first + 1 < count:
                yield frozenset(range(first, last + 1))
    elif count <= SUBSETS:
        for m in range(2, count):
            yield from map(frozenset, combinations(range(count), m))


def rows(fields: Sequence[Field], cells: Sequence[Mapping[str, str]]) -> list[list[int]]:
    """What `bits` takes, of cells as {field: value}."""
    places = [{value: at for at, value in enumerate(field.values)} for field in fields]
    return [
        [
            place.get(cell[field.name], -1) if field.name in cell else -1
            for field, place in zip(fields, places, strict=True)
        ]
        for cell in cells
    ]
