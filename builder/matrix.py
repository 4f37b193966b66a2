"""Spec -> cells: the explicit product, filtered, in a fixed order.

product (with `when`) -> recipe and family -> constraints -> exclude -> include (held to the constraints) -> set -> expect
-> selection -> sampling.

Every rule is a conjunction of terms over single fields. So a rule is decided once per stack and per model (bits over the
rules), and once per point of the option product; stacks and models that the same rules concern share one option product.
Selectors are bits over the cells. No version is compared twice, and a cell becomes an object only when it is asked for:
ten thousand cells cost what their few hundred blocks cost.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Literal

from builder import sample, select
from builder.errors import EngineMatrixError, SpecError, SpecErrors, UsageError
from builder.fields import FieldError, of_stack
from builder.match import Match, Term
from builder.sample import Sampled
from builder.select import Compare, Expr, Leaf, SelectError, Word
from builder.spec import Axis, Group, Include, Rule, Spec, check_selector
from builder.values import Attributes, Cell, Expect, Recipe, Removed, Stack, Where

MAX_CANDIDATES = 1_000_000
"""Of the whole product. More is a mistake in the file (or an attack), not a plan."""
Options = Mapping[str, str]
Verdict = tuple[str, str, Where | None]
"""Rule, because, where."""


@dataclass(frozen=True, slots=True)
class _Point:
    """One kept combination of options, with what `set` and `expect` gave it."""

    options: Options
    attributes: Attributes
    expect: Expect | None
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class _Points:
    """The option product under one set of live rules."""

    kept: tuple[_Point, ...]
    removed: tuple[tuple[Options, Verdict], ...]
    masks: dict[tuple[str, str], int] = field(default_factory=dict)
    """(axis, value) -> bits over `kept`."""


@dataclass(frozen=True, slots=True)
class _Block:
    """Consecutive cells that share exporter, engine and model (indexes into the spec's)."""

    exporter: int
    engine: int
    model: int
    start: int
    points: _Points


class _Rule:
    """A rule whose option terms are sets of accepted values."""

    def __init__(self, rule: Rule | None, match: Match, then: Match | None, spec: Spec) -> None:
        self.rule = rule
        self.base, self.options = _split(match, spec)
        self.then_base, self.then_options = _split(then, spec) if then else ([], [])
        self.has_then = then is not None
        self.hits = 0


_Base = list[tuple[str, Term]]
_OptionTerms = list[tuple[str, frozenset[str | None]]]


def _split(match: Match, spec: Spec) -> tuple[_Base, _OptionTerms]:
    """Terms over stacks and model by canonical field, and terms over options as accepted values (None: absent)."""
    base: _Base = []
    options: _OptionTerms = []
    for term in match.terms:
        name = spec.fields.resolve(term.field)
        if name in spec.fields.options and name != "model":
            fit: set[str | None] = {value for value in spec.fields.values[name] if term.accepts(value)}
            options.append((name, frozenset(fit | {None}) if None in term.patterns else frozenset(fit)))
        else:
            base.append((name, term))
    return base, options


def _holds(terms: _OptionTerms, options: Options) -> bool:
    return all(options.get(axis) in accepted for axis, accepted in terms)


def _allows(terms: _OptionTerms, options: Options) -> bool:
    """As `_holds`, but an absent axis is not held against a cell: `then` speaks only of cells that have the field."""
    return all(axis not in options or options[axis] in accepted for axis, accepted in terms)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The cells that a run is about, in the file's order."""

    name: str
    """The group's name, or '' for an expression."""
    expression: str
    cells: tuple[Cell, ...]
    candidates: int
    """Cells that fitted before sampling."""
    sampled: Sampled | None
    order: tuple[str, ...]
    budget: float | None
    """Seconds."""

    @property
    def sampled_out(self) -> int:
        return self.candidates - len(self.cells)

    @cached_property
    def ids(self) -> frozenset[str]:
        return frozenset(cell.id for cell in self.cells)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a cell is, or is not, part of the matrix or of a selection."""

    handle: str
    state: Literal["selected", "sampled-out", "not-selected", "in-matrix", "removed", "unknown"]
    cell: Cell | None = None
    rule: str = ""
    because: str = ""
    where: Where | None = None
    applied: tuple[Rule, ...] = ()
    """`set` and `expect` rules that changed the cell."""
    nearest: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.cell is None:
            near = "".join(f"\n    {slug}" for slug in self.nearest)
            return f"no cell {self.handle!r}" + (f"; the nearest are{near}" if near else "")
        lines = [f"{self.cell.id} {self.cell.slug}"]
        place = f" ({self.where})" if self.where else ""
        rule = f" by {self.rule}{place}" if self.rule else ""
        lines.append(f"  {self.state}{rule}" + (f": {self.because}" if self.because else ""))
        for applied in self.applied:
            what = ", ".join(f"{key}={value}" for key, value in applied.attributes.items())
            what = f"fail={applied.expect.fail}: {applied.because}" if applied.expect else what
            lines.append(f"  {applied.kind} ({applied.where}): {what}")
        return "\n".join(lines)


def expand(spec: Spec) -> Matrix:
    """All cells of a spec. Raises SpecErrors for rules that match nothing, and for wrong or doubled includes."""
    return _Expander(spec).matrix()


class _Expander:
    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.errors: list[SpecError] = []
        self.models = spec.axes[0].values
        self.axes = spec.axes[1:]
        self.whens = [_Rule(None, axis.when, None, spec) if axis.when else None for axis in self.axes]
        self.rules = [_Rule(rule, rule.match, rule.then, spec) for rule in spec.rules]
        self.all = [rule for rule in (*self.whens, *self.rules) if rule is not None]
        self.bit = {id(rule): 1 << index for index, rule in enumerate(self.all)}
        self.live, self.then = {}, {}
        for name, items in (("exporter", spec.exporters), ("engine", spec.engines), ("model", self.models)):
            self.live[name] = [self.mask(name, item, lambda rule: rule.base, absent=False) for item in items]
            self.then[name] = [self.mask(name, item, lambda rule: rule.then_base, absent=True) for item in items]
        self.cache: dict[tuple[object, ...], _Points] = {}
        self.attributes: dict[tuple[tuple[str, Any], ...], Attributes] = {}
        self.candidates = 0

    def mask(self, role: str, item: Stack | str, terms: Callable[[_Rule], _Base], *, absent: bool) -> int:
        """The rules whose terms over this role hold for this stack or model."""
        bits = 0
        for rule in self.all:
            for name, term in terms(rule):
                if name.partition(".")[0] != role:
                    continue
                value = item if isinstance(item, str) else of_stack(item, name.partition(".")[2])
                if not (term.accepts(value) or (absent and value is None)):
                    break
            else:
                bits |= self.bit[id(rule)]
        return bits

    def matrix(self) -> Matrix:
        spec = self.spec
        blocks: list[_Block] = []
        impossible: list[tuple[int, int, int]] = []
        able = [[stack.family in spec.recipes[model].exporters for model in self.models] for stack in spec.exporters]
        start = 0
        for x in range(len(spec.exporters)):
            for e in range(len(spec.engines)):
                for m in range(len(self.models)):
                    if not able[x][m]:
                        impossible.append((x, e, m))
                        continue
                    points = self.points(x, e, m)
                    blocks.append(_Block(x, e, m, start, points))
                    start += len(points.kept)
        for include in spec.includes:
            block = self.include(include, start, blocks)
            if block is not None:
                blocks.append(block)
                start += 1
        self.dead_rules()
        if not self.errors and start == 0:
            self.error(spec.axes[0].where, "no cell is left after constraints and exclude")
        if self.errors:
            raise SpecErrors(self.errors)
        return Matrix(spec, tuple(blocks), start, tuple(impossible), self)

    def error(self, where: Where, message: str, hint: str = "") -> None:
        before = len(self.spec.source.errors)
        self.spec.source.error(where, message, hint)
        self.errors += self.spec.source.errors[before:]
        del self.spec.source.errors[before:]

    def bits(self, x: int, e: int, m: int) -> tuple[int, int]:
        return (self.live["exporter"][x] & self.live["engine"][e] & self.live["model"][m],
                self.then["exporter"][x] & self.then["engine"][e] & self.then["model"][m])  # fmt: skip

    def points(self, x: int, e: int, m: int) -> _Points:
        """The option product of a block, computed once for all blocks that the same rules concern."""
        live, then = self.bits(x, e, m)
        recipe = self.spec.recipes[self.models[m]]
        family = self.spec.families[self.spec.engines[e].family]
        key = (live, then, self.able(recipe), None if self.realises(family.precision) else family.name)
        found = self.cache.get(key)
        if found is None:
            found = self.cache[key] = self.judge(self.product(live), live, then, recipe, family.name, exclude=True)
        self.candidates += len(found.kept) + len(found.removed)
        if self.candidates > MAX_CANDIDATES:
            self.error(self.spec.axes[0].where, f"the product has more than {MAX_CANDIDATES} candidates")
            raise SpecErrors(self.errors)
        return found

    def able(self, recipe: Recipe) -> str | None:
        """None when a recipe can do all that any recipe can; else its name, since it removes cells of its own."""
        return None if recipe.calibration and "dynamic" in recipe.shapes else recipe.name

    def realises(self, precision: Mapping[str, str]) -> bool:
        return all(value in precision for value in self.spec.fields.values.get("precision", ()))

    def product(self, live: int, *, whens: bool = True) -> list[dict[str, str]]:
        points: list[dict[str, str]] = [{}]
        for axis, when in zip(self.axes, self.whens, strict=True):
            grown: list[dict[str, str]] = []
            for point in points:
                if whens and when is not None and not (live & self.bit[id(when)] and _holds(when.options, point)):
                    grown.append(point)
                    continue
                if when is not None:
                    when.hits += 1
                grown += [{**point, axis.name: value} for value in axis.values]
            points = grown
            if len(points) > MAX_CANDIDATES:
                self.error(axis.where, f"the product has more than {MAX_CANDIDATES} candidates")
                raise SpecErrors(self.errors)
        return points

    def judge(
        self, product: Sequence[Options], live: int, then: int, recipe: Recipe, family: str, *, exclude: bool
    ) -> _Points:
        """Every point through the rules in their order; the first that objects is the one that is named."""
        active = [rule for rule in self.rules if live & self.bit[id(rule)]]
        kept: list[_Point] = []
        removed: list[tuple[Options, Verdict]] = []
        for options in product:
            verdict = self.possible(options, recipe, family)
            if verdict is not None:
                removed.append((options, verdict))
                continue
            given: dict[str, Any] = {}
            expect: Expect | None = None
            applied: list[_Rule] = []
            for rule in active:
                if not _holds(rule.options, options):
                    continue
                spec_rule = _of(rule)
                if spec_rule.kind == "constraints":
                    rule.hits += 1
                    fine = rule.has_then and then & self.bit[id(rule)] and _allows(rule.then_options, options)
                    if not fine and verdict is None:
                        verdict = ("constraints", spec_rule.because, spec_rule.where)
                elif spec_rule.kind == "exclude":
                    rule.hits += exclude
                    if exclude and verdict is None:
                        verdict = ("exclude", spec_rule.because, spec_rule.where)
                elif verdict is None:
                    applied.append(rule)
            if verdict is not None:
                removed.append((options, verdict))
                continue
            for rule in applied:
                rule.hits += 1
                given.update(_of(rule).attributes)
                expect = _of(rule).expect or expect
            key = tuple(sorted(given.items()))
            attributes = self.attributes.get(key) or self.attributes.setdefault(key, Attributes(**given))
            kept.append(_Point(options, attributes, expect, tuple(_of(rule) for rule in applied)))
        points = _Points(tuple(kept), tuple(removed))
        for position, point in enumerate(kept):
            for pair in point.options.items():
                points.masks[pair] = points.masks.get(pair, 0) | 1 << position
        return points

    def possible(self, options: Options, recipe: Recipe, family: str) -> Verdict | None:
        """What the recipe or the engine's family cannot do."""
        precision = options.get("precision")
        if options.get("shapes", recipe.shapes[0]) not in recipe.shapes:
            return "recipe", f"{recipe.name} has no {options['shapes']} dimensions", recipe.where
        if precision == "int8" and not recipe.calibration:
            return "recipe", f"{recipe.name} has no calibration data, which int8 needs", recipe.where
        if precision is not None and precision not in self.spec.families[family].precision:
            where = self.spec.families[family].where
            return "family", f"family {family} has no way to realise {precision}", where
        return None

    def include(self, include: Include, start: int, blocks: Sequence[_Block]) -> _Block | None:
        """The block of one exact cell; None when an error was noted."""
        spec, before = self.spec, len(self.errors)
        given: dict[str, str] = {}
        exporters, engines = list(range(len(spec.exporters))), list(range(len(spec.engines)))
        for key, value in include.values.items():
            try:
                name = spec.fields.resolve(key)
            except FieldError as error:
                self.error(include.places[key], error.message, error.hint)
                continue
            role, _, part = name.partition(".")
            if role == "engine":
                engines = [e for e in engines if of_stack(spec.engines[e], part) == value]
            elif role == "exporter":
                exporters = [x for x in exporters if of_stack(spec.exporters[x], part) == value]
            else:
                given[name] = value
        model = given.pop("model", self.models[0] if len(self.models) == 1 else "")
        if model not in self.models:
            known = f"axis 'model' has {', '.join(self.models)}"
            self.error(include.where, f"this include names no model of the matrix: {model!r}", known)
        else:
            exporters = [x for x in exporters if spec.exporters[x].family in spec.recipes[model].exporters]
        for role, found, stacks in (("engine", engines, spec.engines), ("exporter", exporters, spec.exporters)):
            if len(found) != 1:
                which = ", ".join(stacks[i].id for i in found[:4]) or "none"
                self.error(include.where, f"an include names one {role} stack, this one {len(found)}", which)
        if len(self.errors) > before:
            return None
        x, e, m = exporters[0], engines[0], self.models.index(model)
        live, then = self.bits(x, e, m)
        options = self.include_options(include, given, live)
        if options is None:
            return None
        family = spec.engines[e].family
        points = self.judge([options], live, then, spec.recipes[model], family, exclude=False)
        if points.removed:
            rule, because, where = points.removed[0][1]
            self.error(include.where, f"this include is held to {rule}: {because}", f"see {where}")
            return None
        for block in blocks:
            same = (block.exporter, block.engine, block.model) == (x, e, m)
            if same and any(point.options == options for point in block.points.kept):
                self.error(include.where, "this include adds a cell that is already there")
                return None
        return _Block(x, e, m, start, points)

    def include_options(self, include: Include, given: Mapping[str, str], live: int) -> dict[str, str] | None:
        options: dict[str, str] = {}
        fine = True
        for axis, when in zip(self.axes, self.whens, strict=True):
            if when is not None and not (live & self.bit[id(when)] and _holds(when.options, options)):
                if axis.name in given:
                    self.error(include.places[axis.name], f"axis {axis.name!r} does not exist for this cell")
                    fine = False
            elif axis.name in given:
                options[axis.name] = given[axis.name]
            elif len(axis.values) == 1:
                options[axis.name] = axis.values[0]
            else:
                self.error(include.where, f"this include has no {axis.name!r}", "an include is one exact cell")
                fine = False
        return options if fine else None

    def dead_rules(self) -> None:
        for axis, when in zip(self.axes, self.whens, strict=True):
            if when is not None and when.hits == 0 and axis.when is not None:
                self.error(axis.when.where, f"axis {axis.name!r} exists for no cell")
        for compiled in self.rules:
            rule = _of(compiled)
            if compiled.hits == 0 and not rule.optional:
                what = {"constraints": "constraint", "expect": "expectation", "set": "set rule"}.get(rule.kind, rule.kind)
                self.error(rule.where, f"this {what} matches no cell", "take it out, or write optional: true")


def _of(rule: _Rule) -> Rule:
    assert rule.rule is not None
    return rule.rule


class Matrix:
    """All cells of a spec, in order; made by `expand`."""

    def __init__(
        self, spec: Spec, blocks: tuple[_Block, ...], count: int, impossible: tuple[tuple[int, int, int], ...],
        expander: _Expander,
    ) -> None:  # fmt: skip
        self.spec = spec
        self._blocks = blocks
        self._starts = [block.start for block in blocks]
        self._count = count
        self._impossible = impossible
        self._expander = expander
        self._models = spec.axes[0].values
        self._made: dict[int, Cell] = {}
        self._everything = (1 << count) - 1
        self._groups: dict[str, int] = {}

    def __len__(self) -> int:
        return self._count

    # -- cells

    def cell(self, index: int) -> Cell:
        """The cell at a position, made when first asked for."""
        found = self._made.get(index)
        if found is None:
            block = self._blocks[bisect_right(self._starts, index) - 1]
            found = self._made[index] = self._cell(block, block.points.kept[index - block.start])
        return found

    def _cell(self, block: _Block, point: _Point) -> Cell:
        return Cell(exporter=self.spec.exporters[block.exporter], engine=self.spec.engines[block.engine],
                    model=self._models[block.model], options=point.options, attributes=point.attributes,
                    expect=point.expect)  # fmt: skip

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell, in the file's order: exporter stacks, engine stacks, models, options; then the includes."""
        return tuple(self.cell(index) for index in range(self._count))

    @cached_property
    def ids(self) -> dict[str, int]:
        """id -> position. Raises EngineMatrixError when two cells have one id (8 hex digits can collide)."""
        ids: dict[str, int] = {}
        for index, cell in enumerate(self.cells):
            other = ids.setdefault(cell.id, index)
            if other != index:
                raise EngineMatrixError(f"two cells have the id {cell.id}: {self.cell(other).slug} and {cell.slug}")
        return ids

    @cached_property
    def removed(self) -> tuple[Removed, ...]:
        """Every candidate that a rule took out."""
        return tuple(self._removed())

    def _removed(self) -> Iterator[Removed]:
        spec = self.spec
        for block in self._blocks:
            base = dict(exporter=spec.exporters[block.exporter], engine=spec.engines[block.engine],
                        model=self._models[block.model])  # fmt: skip
            for options, (rule, because, where) in block.points.removed:
                yield Removed(cell=Cell(**base, options=options), rule=rule, because=because, where=where)  # type: ignore[arg-type]
        for x, e, m in self._impossible:
            exporter, recipe = spec.exporters[x], spec.recipes[self._models[m]]
            because = f"family {exporter.family} cannot export {recipe.name}; {' or '.join(recipe.exporters)} can"
            for options in self._expander.product(self._expander.bits(x, e, m)[0]):
                cell = Cell(exporter=exporter, engine=spec.engines[e], model=recipe.name, options=options)
                yield Removed(cell=cell, rule="recipe", because=because, where=recipe.where)

    @cached_property
    def counts(self) -> dict[str, int]:
        """What each step did, in its order: product, recipe, family, constraints, exclude, include, cells."""
        counts = {"product": 0, "recipe": 0, "family": 0, "constraints": 0, "exclude": 0, "include": len(self.spec.includes)}
        for block in self._blocks[: len(self._blocks) - counts["include"]]:
            counts["product"] += len(block.points.kept) + len(block.points.removed)
            for _, (rule, _, _) in block.points.removed:
                counts[rule] += 1
        sizes: dict[int, int] = {}
        for x, e, m in self._impossible:
            live = self._expander.bits(x, e, m)[0]
            if live not in sizes:
                sizes[live] = len(self._expander.product(live))
            counts["product"] += sizes[live]
            counts["recipe"] += sizes[live]
        return {**counts, "cells": self._count}

    # -- selection

    def select(
        self, what: str, *, status: Mapping[str, str] | None = None, changed: set[str] | None = None
    ) -> Selection:
        """The cells of a group, or of an expression.

        `status` maps cell ids to the outcomes of the last run; `changed` are the ids whose key differs from it. A selector
        that asks for one that is not given raises UsageError, as do unknown names and values (SelectError).
        """
        group = self.spec.groups.get(what)
        if group is not None:
            mask, sampled, candidates = self._group(group, status, changed)
        else:
            expr = select.parse(what)
            problems = check_selector(expr, self.spec.fields, tuple(self.spec.groups))
            if problems:
                raise SelectError(what, *problems[0])
            mask, sampled = self._evaluate(expr, status, changed), None
            candidates = mask.bit_count()
        return Selection(
            name=what if group else "",
            expression=group.select if group else what,
            cells=tuple(self.cell(index) for index in _positions(mask)),
            candidates=candidates,
            sampled=sampled,
            order=group.order if group else (),
            budget=group.budget if group else None,
        )

    def _group(
        self, group: Group, status: Mapping[str, str] | None, changed: set[str] | None
    ) -> tuple[int, Sampled | None, int]:
        mask = self._evaluate(group.expr, status, changed)
        if group.sample is None:
            return mask, None, mask.bit_count()
        always = self._evaluate(group.always, status, changed) if group.always else 0
        candidates = _positions(mask | always)
        rows = self._rows(candidates)
        place = {position: index for index, position in enumerate(candidates)}
        try:
            sampled = sample.sample(
                rows, strategy=group.sample.strategy, seed=group.sample.seed, limit=group.sample.max,
                soft=group.sample.soft, always=[place[position] for position in _positions(always)],
            )  # fmt: skip
        except sample.SampleError as error:
            raise SpecErrors([SpecError(group.where, str(error))]) from None
        chosen = 0
        for index in sampled.chosen:
            chosen |= 1 << candidates[index]
        return chosen, sampled, len(candidates)

    def _rows(self, positions: Sequence[int]) -> list[int]:
        """Cells as sets of axis values (bits), for sampling: exporter stack, engine stack, model, options."""
        spec = self.spec
        numbers: dict[tuple[str, str], int] = {}
        shift = len(spec.exporters) + len(spec.engines) + len(self._models)
        points: dict[int, list[int]] = {}
        rows = []
        at = 0
        block, last = self._blocks[0], -1
        base = 0
        for position in positions:
            if position >= last:
                at = bisect_right(self._starts, position) - 1
                block = self._blocks[at]
                last = block.start + len(block.points.kept)
                base = (1 << block.exporter | 1 << len(spec.exporters) + block.engine
                        | 1 << len(spec.exporters) + len(spec.engines) + block.model)  # fmt: skip
                if id(block.points) not in points:
                    points[id(block.points)] = [
                        sum(1 << shift + numbers.setdefault(pair, len(numbers)) for pair in point.options.items())
                        for point in block.points.kept
                    ]
            rows.append(base | points[id(block.points)][position - block.start])
        return rows

    def _evaluate(self, expr: Expr, status: Mapping[str, str] | None, changed: set[str] | None) -> int:
        return select.evaluate(expr, lambda leaf: self._leaf(leaf, status, changed), self._everything)

    def _leaf(self, leaf: Leaf, status: Mapping[str, str] | None, changed: set[str] | None) -> int:
        if isinstance(leaf, Word):
            return self._word(leaf, status, changed)
        if leaf.field == "id":
            return self._each(lambda cell: leaf.accepts(cell.id))
        if leaf.field == "slug":
            return self._each(lambda cell: leaf.accepts(cell.slug))
        if leaf.field == "status":
            if status is None:
                raise UsageError("a selector asks for the status of the last run, and there is none yet")
            return self._each(lambda cell: leaf.accepts(status.get(cell.id)))
        return self._field(leaf)

    def _word(self, leaf: Word, status: Mapping[str, str] | None, changed: set[str] | None) -> int:
        if leaf.text == "all":
            return self._everything
        if leaf.text == "changed":
            if changed is None:
                raise UsageError("a selector asks for what has changed since the last run, and there is none yet")
            return self._each(lambda cell: cell.id in changed)
        if leaf.text in self.spec.groups:
            if leaf.text not in self._groups:
                self._groups[leaf.text] = self._group(self.spec.groups[leaf.text], status, changed)[0]
            return self._groups[leaf.text]
        if leaf.text.startswith("#"):
            return self._each(lambda cell: cell.id.startswith(leaf.text[1:]))
        return self._each(lambda cell: cell.slug == leaf.text or fnmatchcase(cell.slug, leaf.text))

    def _each(self, accepts: Callable[[Cell], bool]) -> int:
        text = "".join("1" if accepts(cell) else "0" for cell in reversed(self.cells))
        return int(text, 2) if text else 0

    def _field(self, leaf: Compare) -> int:
        spec = self.spec
        name = spec.fields.resolve(leaf.field)
        role, _, part = name.partition(".")
        mask = 0
        if name == "model" or role in ("engine", "exporter"):
            if name == "model":
                fits = [leaf.accepts(model) for model in self._models]
            else:
                fits = [leaf.accepts(of_stack(s, part)) for s in (spec.engines if role == "engine" else spec.exporters)]
            for block in self._blocks:
                if fits[{"model": block.model, "engine": block.engine, "exporter": block.exporter}[role]]:
                    mask |= (1 << len(block.points.kept)) - 1 << block.start
            return mask
        wanted = [(name, value) for value in spec.fields.values[name] if leaf.accepts(value)]
        for block in self._blocks:
            bits = 0
            for pair in wanted:
                bits |= block.points.masks.get(pair, 0)
            mask |= bits << block.start
        return mask

    # -- handles

    def find(self, handle: str) -> Cell:
        """The cell of an id, a unique beginning of one, a slug, or a glob that only one slug fits. Raises UsageError."""
        found = _handles(handle, self.cells)
        if len(found) == 1:
            return found[0]
        if found:
            shown = "".join(f"\n    {cell.id} {cell.slug}" for cell in found[:5])
            raise UsageError(f"{handle!r} fits {len(found)} cells:{shown}")
        raise UsageError(str(Explanation(handle=handle, state="unknown", nearest=self._nearest(handle))))

    def why(self, handle: str, selection: Selection | None = None, *, group: str | None = None) -> Explanation:
        """Which rule removed or changed a cell, or whether a selection (or a group, or its sampling) left it out."""
        if selection is None and group is not None:
            selection = self.select(group)
        found = _handles(handle, self.cells)
        if found:
            cell = found[0]
            block, point = self._point(cell)
            if selection is None:
                return Explanation(handle=handle, state="in-matrix", cell=cell, applied=point.rules)
            if cell.id in selection.ids:
                return Explanation(handle=handle, state="selected", cell=cell, rule=selection.name, applied=point.rules)
            state, because = self._left_out(block.start + block.points.kept.index(point), selection)
            saved = self.spec.groups.get(selection.name)
            rule, where = (f"group {selection.name}", saved.where) if saved else ("the selection", None)
            return Explanation(handle=handle, state=state, cell=cell, rule=rule, because=because, where=where,
                               applied=point.rules)  # fmt: skip
        plain = handle.removeprefix("#")
        for removed in self._removed():
            if _fits(plain, removed.cell):
                return Explanation(handle=handle, state="removed", cell=removed.cell, rule=removed.rule,
                                   because=removed.because, where=removed.where)  # fmt: skip
        return Explanation(handle=handle, state="unknown", nearest=self._nearest(handle))

    def _left_out(self, position: int, selection: Selection) -> tuple[Literal["sampled-out", "not-selected"], str]:
        if selection.sampled is None:
            return "not-selected", f"it does not fit {selection.expression!r}"
        group = self.spec.groups[selection.name]
        # Without a status: a sampled group that asks for one cannot be explained further than this.
        try:
            fits = bool(self._evaluate(group.expr, None, None) >> position & 1)
        except UsageError:
            fits = True
        if not fits:
            return "not-selected", f"it does not fit {selection.expression!r}"
        done = selection.sampled
        cover = f", which cover {done.covered} of {done.total} combinations of axis values" if done.total else ""
        return "sampled-out", (f"{done.strategy} sampling (seed {done.seed}) took {len(done.chosen)} of "
                               f"{done.candidates} cells{cover}")  # fmt: skip

    def _point(self, cell: Cell) -> tuple[_Block, _Point]:
        position = self.ids[cell.id]
        block = self._blocks[bisect_right(self._starts, position) - 1]
        return block, block.points.kept[position - block.start]

    def _nearest(self, handle: str) -> tuple[str, ...]:
        """The slugs that share most parts with a handle."""
        words = set(re.split(r"[.\-*]", handle)) - {""}
        scored = [(len(words & set(re.split(r"[.\-]", cell.slug))), -index) for index, cell in enumerate(self.cells)]
        best = sorted(scored, reverse=True)[:3]
        return tuple(self.cell(-index).slug for score, index in best if score)


def _positions(mask: int) -> list[int]:
    return [index for index, bit in enumerate(reversed(bin(mask)[2:])) if bit == "1"]


_PREFIX = re.compile(r"[0-9a-f]{4,8}")


def _fits(plain: str, cell: Cell) -> bool:
    if plain in (cell.id, cell.slug) or fnmatchcase(cell.slug, plain):
        return True
    return _PREFIX.fullmatch(plain) is not None and cell.id.startswith(plain)


def _handles(handle: str, cells: Sequence[Cell]) -> list[Cell]:
    """Cells that a handle means: exact matches alone if there are any."""
    plain = handle.removeprefix("#")
    if not plain:
        return []
    exact = [cell for cell in cells if plain in (cell.id, cell.slug)]
    return exact or [cell for cell in cells if _fits(plain, cell)]
