"""The cells of a matrix: the explicit product, filtered, in a fixed order.

product (with `when`) -> recipe and family -> constraints -> exclude -> include (held to the constraints) -> set ->
expect -> selection -> sampling.

Up to `expect` is the work of `expansion`. Here cells become objects, but only when they are asked for; a selection is
bits over the cells, and a handle (id, slug, glob) finds a cell or the rule that took it out.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal

from builder import portability_grid, sample, select, suite
from builder.errors import EngineMatrixError, SpecErrors, UsageError
from builder.expansion import Block, Expander, Point
from builder.fields import of_stack
from builder.sample import Sampled
from builder.select import Compare, Expr, Leaf, SelectError, Word
from builder.spec import Group, Rule, Spec, check_selector
from builder.values import Attributes, Cell, Removed, Where


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
    return Matrix(spec, Expander(spec))


class Matrix:
    """All cells of a spec, in order; made by `expand`."""

    def __init__(self, spec: Spec, expander: Expander) -> None:
        self.spec = spec
        self._expander = expander
        self._blocks = expander.blocks()
        self._all = (*self._blocks, *expander.suites)
        self._starts = [block.start for block in self._all]
        self._count = expander.count
        self._total = self._count + sum(len(block.points.kept) for block in expander.suites)
        self._models = spec.axes[0].values
        self._made: dict[int, Cell] = {}
        self._product = (1 << self._count) - 1
        self._everything = (1 << self._total) - 1
        self._suites = self._everything & ~self._product
        self._grid = 0
        self._grid_blocks: tuple[Block, ...] = ()
        self._groups: dict[tuple[str, bool], int] = {}
        if spec.portability is not None:
            self._add_grid(spec.portability)

    def _add_grid(self, grid: portability_grid.Grid) -> None:
        """The cells of the portability grid, behind all others."""
        before = self._total
        try:
            chosen = self._evaluate(grid.expr, None, None)
        except UsageError as error:
            raise SpecErrors([self.spec.source.problem(grid.where, str(error))]) from None
        self._grid_blocks = portability_grid.blocks(self.spec, self._expander, grid, self._blocks, chosen, before)
        self._all = (*self._all, *self._grid_blocks)
        self._starts = [block.start for block in self._all]
        self._total = before + sum(len(block.points.kept) for block in self._grid_blocks)
        self._everything = (1 << self._total) - 1
        self._grid = self._everything & ~((1 << before) - 1)

    def __len__(self) -> int:
        """Cells of the product and the includes; those of suites are not counted."""
        return self._count

    def total(self, cells: Sequence[Cell]) -> int:
        """Of how many cells these are a selection: with those of suites, and of the portability grid, where it has any."""
        suites = self._suites.bit_count() if any(cell.model in self.spec.suites for cell in cells) else 0
        return self._count + suites + (self._grid.bit_count() if any(cell.built_on for cell in cells) else 0)

    # -- cells

    def cell(self, index: int) -> Cell:
        """The cell at a position, made when first asked for."""
        found = self._made.get(index)
        if found is None:
            block = self._all[bisect_right(self._starts, index) - 1]
            found = self._made[index] = self._cell(block, block.points.kept[index - block.start])
        return found

    def _cell(self, block: Block, point: Point) -> Cell:
        if block.suite is not None:
            return Cell(exporter=block.suite.stack, engine=self.spec.engines[block.engine], model=block.suite.name,
                        options=point.options, attributes=point.attributes, expect=point.expect)  # fmt: skip
        engine = self.spec.engines[block.engine]
        built_on = portability_grid.built_on(self.spec, engine, point.options) if block.grid else None
        return Cell(exporter=self.spec.exporters[block.exporter], engine=engine,
                    model=self._models[block.model], options=point.options, attributes=point.attributes,
                    expect=point.expect, built_on=built_on)  # fmt: skip

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell, in the file's order: exporter stacks, engine stacks, models, options; then the includes. Those of
        suites, which may be many more, are `suite_cells`."""
        return tuple(self.cell(index) for index in range(self._count))

    @cached_property
    def suite_cells(self) -> tuple[Cell, ...]:
        """Every cell of a suite: suites, engine stacks, cases by name."""
        return tuple(self.cell(index) for index in range(self._count, self._count + self._suites.bit_count()))

    @cached_property
    def grid_cells(self) -> tuple[Cell, ...]:
        """Every cell of the portability grid, by the stack that loads, then by what is built and by the stack that builds."""
        return tuple(self.cell(index) for index in range(self._total - self._grid.bit_count(), self._total))

    @cached_property
    def ids(self) -> dict[str, int]:
        """id -> position. Raises EngineMatrixError when two cells have one id (12 hex digits: one chance in a million for
        20,000 cells)."""
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
        yield from self._removed_of_product()
        for block in self._all[len(self._blocks) :]:
            for options, (rule, because, where) in block.points.removed:
                cell = self._cell(block, Point(options, Attributes(), None, ()))
                yield Removed(cell=cell, rule=rule, because=because, where=where)

    def _removed_of_product(self) -> Iterator[Removed]:
        spec = self.spec
        for block in self._blocks:
            exporter, engine = spec.exporters[block.exporter], spec.engines[block.engine]
            model = self._models[block.model]
            for options, (rule, because, where) in block.points.removed:
                cell = Cell(exporter=exporter, engine=engine, model=model, options=options)
                yield Removed(cell=cell, rule=rule, because=because, where=where)
        for x, e, m in self._expander.impossible:
            exporter, recipe = spec.exporters[x], spec.recipes[self._models[m]]
            because = self._expander.cannot(x, e, m)
            for options in self._expander.candidates_of(x, e, m):
                cell = Cell(exporter=exporter, engine=spec.engines[e], model=recipe.name, options=options)
                yield Removed(cell=cell, rule="recipe", because=because, where=recipe.where)

    @cached_property
    def counts(self) -> dict[str, int]:
        """What each step did, in its order: product, recipe, family, constraints, exclude, include, cells."""
        counts = dict.fromkeys(("product", "recipe", "family", "constraints", "exclude"), 0)
        counts["include"] = len(self.spec.includes)
        for block in self._blocks[: len(self._blocks) - counts["include"]]:
            counts["product"] += len(block.points.kept) + len(block.points.removed)
            for _, (rule, _, _) in block.points.removed:
                counts[rule] += 1
        sizes: dict[tuple[int, frozenset[str]], int] = {}
        for x, e, m in self._expander.impossible:
            live = self._expander.bits(x, e, m)[0], self._expander.unread[e]
            if live not in sizes:
                sizes[live] = len(self._expander.product(*live))
            counts["product"] += sizes[live]
            counts["recipe"] += sizes[live]
        return {**counts, "cells": self._count}

    # -- selection

    def select(
        self, what: str, *, status: Mapping[str, str] | None = None, changed: set[str] | None = None
    ) -> Selection:
        """The cells of a group, or of an expression.

        `status` maps cell ids to the outcomes of the last run; `changed` are the ids whose key differs from it. A
        selector that asks for one that is not given raises UsageError, as do unknown names and values (SelectError).
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
        self, group: Group, status: Mapping[str, str] | None, changed: set[str] | None, *, wide: bool = False
    ) -> tuple[int, Sampled | None, int]:
        mask = self._evaluate(group.expr, status, changed, wide=wide and group.sample is None)
        if group.sample is None:
            return mask, None, mask.bit_count()
        always = self._evaluate(group.always, status, changed) if group.always else 0
        candidates = _positions(mask | always)
        rows, shared = self._rows(candidates)
        place = {position: index for index, position in enumerate(candidates)}
        try:
            sampled = sample.sample(
                rows, strategy=group.sample.strategy, seed=group.sample.seed, limit=group.sample.max,
                soft=group.sample.soft, shared=shared, always=[place[position] for position in _positions(always)],
            )  # fmt: skip
        except sample.SampleError as error:
            raise SpecErrors([self.spec.source.problem(group.where, str(error))]) from None
        chosen = 0
        for index in sampled.chosen:
            chosen |= 1 << candidates[index]
        return chosen, sampled, len(candidates)

    def _rows(self, positions: Sequence[int]) -> tuple[list[int], list[int]]:
        """Cells as sets of axis values (bits), for sampling: exporter stack, engine stack, model, options; and of each the
        part that its export is made from, so that cells of one export have equal parts."""
        spec = self.spec
        numbers: dict[tuple[str, str], int] = {}
        shift = len(spec.exporters) + len(spec.engines) + len(self._models)
        points: dict[int, list[int]] = {}
        rows: list[int] = []
        models: list[int] = []
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
            models.append(block.model)
        parts = []
        for index, name in enumerate(self._models):
            uses = spec.recipes[name].uses
            part = (1 << len(spec.exporters)) - 1 | 1 << len(spec.exporters) + len(spec.engines) + index
            parts.append(part | sum(1 << shift + number for (axis, _), number in numbers.items() if axis in uses))
        return rows, [row & parts[model] for row, model in zip(rows, models, strict=True)]

    def _evaluate(
        self, expr: Expr, status: Mapping[str, str] | None, changed: set[str] | None, *, wide: bool = False
    ) -> int:
        """The bits of the cells that fit. Cells of suites (and of the portability grid) are among them only where the
        expression is about suites (about the grid): where it names one of their fields or a group that does, or is the handle
        of one of their cells alone; so are (`wide`) those of the groups that such an expression takes in: `operators and
        here`."""
        scope = self._everything if wide else self._product
        if not wide and self._everything != self._product:
            groups = {name: group.expr for name, group in self.spec.groups.items()}
            named = self._names_cells_apart(expr)
            scope |= self._suites if named or suite.mentions(expr, groups) else 0
            scope |= self._grid if named or portability_grid.mentions(expr, groups) else 0
            wide = scope != self._product
        found = select.evaluate(expr, lambda leaf: self._leaf(leaf, status, changed, wide=wide), self._everything)
        return scope & found

    def _names_cells_apart(self, expr: Expr) -> bool:
        """Whether it holds an id or a slug that fits no cell of the product."""
        for leaf in select.leaves(expr):
            if isinstance(leaf, Word):
                handle = leaf.text not in ("all", "changed") and leaf.text not in self.spec.groups
            else:
                handle = leaf.field in ("id", "slug")
            if handle and not self._leaf(leaf, None, None, wide=False):
                return True
        return False

    def _leaf(
        self, leaf: Leaf, status: Mapping[str, str] | None, changed: set[str] | None, *, wide: bool
    ) -> int:  # fmt: skip
        if isinstance(leaf, Word):
            return self._word(leaf, status, changed, wide=wide)
        if leaf.field == "id":
            return self._each(lambda cell: leaf.accepts(cell.id), wide=wide)
        if leaf.field == "slug":
            return self._each(lambda cell: leaf.accepts(cell.slug), wide=wide)
        if leaf.field == "status":
            if status is None:
                raise UsageError("a selector asks for the status of the last run, and there is none yet")
            return self._each(lambda cell: leaf.accepts(status.get(cell.id)), wide=wide)
        return self._field(leaf)

    def _word(
        self, leaf: Word, status: Mapping[str, str] | None, changed: set[str] | None, *, wide: bool
    ) -> int:  # fmt: skip
        if leaf.text == "all":
            return self._everything
        if leaf.text == "changed":
            if changed is None:
                raise UsageError("a selector asks for what has changed since the last run, and there is none yet")
            return self._each(lambda cell: cell.id in changed, wide=wide)
        if leaf.text in self.spec.groups:
            if (leaf.text, wide) not in self._groups:
                self._groups[leaf.text, wide] = self._group(self.spec.groups[leaf.text], status, changed, wide=wide)[0]
            return self._groups[leaf.text, wide]
        if leaf.text.startswith("#"):
            return self._each(lambda cell: cell.id.startswith(leaf.text[1:]), wide=wide)
        return self._each(lambda cell: cell.slug == leaf.text or fnmatchcase(cell.slug, leaf.text), wide=wide)

    def _each(self, accepts: Callable[[Cell], bool], *, wide: bool) -> int:
        cells = (*self.cells, *self.suite_cells, *self.grid_cells) if wide else self.cells
        text = "".join("1" if accepts(cell) else "0" for cell in reversed(cells))
        return int(text, 2) if text else 0

    def _field(self, leaf: Compare) -> int:
        spec = self.spec
        name = spec.fields.resolve(leaf.field)
        role, _, part = name.partition(".")
        mask = 0
        if name == "suite":
            for block in self._all[len(self._blocks) :]:
                if block.suite is not None and leaf.accepts(block.suite.name):
                    mask |= (1 << len(block.points.kept)) - 1 << block.start
            return mask
        if name == "model" or role in ("engine", "exporter"):
            for block in self._all[len(self._blocks) :]:
                if block.suite is not None and leaf.accepts(self._of_suite(block, block.suite, name)):
                    mask |= (1 << len(block.points.kept)) - 1 << block.start
            if name == "model":
                fits = [leaf.accepts(model) for model in self._models]
            else:
                fits = [leaf.accepts(of_stack(s, part)) for s in (spec.engines if role == "engine" else spec.exporters)]
            for block in (*self._blocks, *self._grid_blocks):
                if fits[{"model": block.model, "engine": block.engine, "exporter": block.exporter}[role]]:
                    mask |= (1 << len(block.points.kept)) - 1 << block.start
            return mask
        wanted = [(name, value) for value in spec.fields.values[name] if leaf.accepts(value)]
        for block in self._all:
            bits = 0
            for pair in wanted:
                bits |= block.points.masks.get(pair, 0)
            mask |= bits << block.start
        return mask

    def _of_suite(self, block: Block, of: suite.Suite, name: str) -> str | None:
        """`model` or a stack's field, of the cells of a suite's block."""
        role, _, part = name.partition(".")
        if role == "model":
            return of.name
        return of_stack(self.spec.engines[block.engine] if role == "engine" else of.stack, part)

    # -- handles

    def _handled(self, handle: str) -> list[Cell]:
        return _handles(handle, self.cells) or _handles(handle, self.grid_cells) or _handles(handle, self.suite_cells)

    def find(self, handle: str) -> Cell:
        """The cell of an id, a unique beginning of one, a slug, or a glob that fits one slug. Raises UsageError."""
        found = self._handled(handle)
        if len(found) == 1:
            return found[0]
        if found:
            shown = "".join(f"\n    {cell.id} {cell.slug}" for cell in found[:5])
            raise UsageError(f"{handle!r} fits {len(found)} cells:{shown}")
        raise UsageError(str(Explanation(handle=handle, state="unknown", nearest=self._nearest(handle))))

    def why(self, handle: str, selection: Selection | None = None, *, group: str | None = None) -> Explanation:
        """Which rule removed or changed a cell, or whether a selection (or a group, or its sampling) left it out.

        Raises UsageError where the handle fits several cells."""
        if selection is None and group is not None:
            selection = self.select(group)
        found = self._handled(handle)
        if found:
            cell = found[0] if len(found) == 1 else self.find(handle)
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
        if self._grid >> position & 1:
            return "not-selected", f"{selection.expression!r} does not name 'built-on' and fit it"
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

    def _point(self, cell: Cell) -> tuple[Block, Point]:
        position = self.ids.get(cell.id)
        if position is None:
            apart = (*self.suite_cells, *self.grid_cells)
            position = self._count + next(i for i, other in enumerate(apart) if other.id == cell.id)
        block = self._all[bisect_right(self._starts, position) - 1]
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
