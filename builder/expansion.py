"""The product of a matrix, filtered by its rules: Spec -> blocks of cells.

Every rule is a conjunction of terms over single fields. So a rule is decided once per stack and per model (as bits
over the rules) and once per point of the option product, and stacks and models that the same rules concern share one
option product. No version is compared twice: ten thousand cells cost what their few hundred blocks cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from builder import calibration, portability_grid
from builder.errors import SpecError, SpecErrors
from builder.fields import FieldError, of_stack
from builder.match import Match, Term
from builder.spec import Include, Rule, Spec
from builder.suite import FIELDS, Suite
from builder.values import Attributes, Expect, Recipe, Stack, Where

MAX_CANDIDATES = 1_000_000
"""Of the whole product. More is a mistake in the file (or an attack), not a plan."""
ONNX_EXPORTERS = frozenset({"onnx", "tensorflow", "torch"})
"""Those of worker/exporters/ that write ONNX, all of an opset that they are told."""
Options = Mapping[str, str]
Verdict = tuple[str, str, Where | None]
"""Rule, because, where."""


@dataclass(frozen=True, slots=True)
class Point:
    """One kept combination of options, with what `set` and `expect` gave it."""

    options: Options
    attributes: Attributes
    expect: Expect | None
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Points:
    """The option product under one set of live rules."""

    kept: tuple[Point, ...]
    removed: tuple[tuple[Options, Verdict], ...]
    masks: dict[tuple[str, str], int] = field(default_factory=dict)
    """(axis, value) -> bits over `kept`."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive cells that share exporter, engine and model (indexes into the spec's)."""

    exporter: int
    engine: int
    model: int
    start: int
    points: Points
    suite: Suite | None = None
    """Whose cases these are; `exporter` and `model` are then -1."""
    grid: bool = False
    """Whether they are of the portability grid: `engine` loads, the point's `built-on` builds."""


class CompiledRule:
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
        if name in spec.fields.options and name not in ("model", "suite"):
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


class Expander:
    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.errors: list[SpecError] = []
        self.always_opset = any(axis.name == "opset" and axis.when is None for axis in spec.axes)
        self.models = spec.axes[0].values
        self.axes = spec.axes[1:]
        self.whens = [CompiledRule(None, axis.when, None, spec) if axis.when else None for axis in self.axes]
        self.rules = [CompiledRule(rule, rule.match, rule.then, spec) for rule in spec.rules]
        self.all = [rule for rule in (*self.whens, *self.rules) if rule is not None]
        self.bit = {id(rule): 1 << index for index, rule in enumerate(self.all)}
        self.live, self.then = {}, {}
        for name, items in (("exporter", spec.exporters), ("engine", spec.engines), ("model", self.models)):
            self.live[name] = [self.mask(name, item, lambda rule: rule.base, absent=False) for item in items]
            self.then[name] = [self.mask(name, item, lambda rule: rule.then_base, absent=True) for item in items]
        self.no_suite = self.mask("suite", None, lambda rule: rule.base, absent=False)
        self.suites: tuple[Block, ...] = ()
        self.cache: dict[tuple[object, ...], Points] = {}
        self.attributes: dict[tuple[tuple[str, Any], ...], Attributes] = {}
        self.candidates = 0
        self.count = 0
        self.impossible: list[tuple[int, int, int]] = []
        """(exporter, engine, model) where that exporter's family cannot export that model for that engine."""
        self.unread = [self.meaningless(stack) for stack in spec.engines]

    def mask(self, role: str, item: Stack | str | None, terms: Callable[[CompiledRule], _Base], *, absent: bool) -> int:
        """The rules whose terms over this role hold for this stack or model."""
        bits = 0
        for rule in self.all:
            for name, term in terms(rule):
                if name.partition(".")[0] != role:
                    continue
                value = of_stack(item, name.partition(".")[2]) if isinstance(item, Stack) else item
                if not (term.accepts(value) or (absent and value is None)):
                    break
            else:
                bits |= self.bit[id(rule)]
        return bits

    def blocks(self) -> tuple[Block, ...]:
        """All blocks in order; includes, one cell each, come last. Raises SpecErrors."""
        spec = self.spec
        blocks: list[Block] = []
        start = 0
        for x in range(len(spec.exporters)):
            for e in range(len(spec.engines)):
                for m in range(len(self.models)):
                    if self.apart(x, e, m):
                        continue
                    if self.cannot(x, e, m):
                        self.impossible.append((x, e, m))
                        continue
                    points = self.points(x, e, m)
                    blocks.append(Block(x, e, m, start, points))
                    start += len(points.kept)
        for include in spec.includes:
            block = self.include(include, start, blocks)
            if block is not None:
                blocks.append(block)
                start += 1
        if any(map(self.lacks_opset, blocks)):
            self.error(
                spec.axes[0].where, "models are to be exported to ONNX, and no axis gives an opset", "opset: [17]"
            )
        self.suites = self.suite_blocks(start)
        self.dead_rules()
        if not self.errors and start == 0:
            self.error(spec.axes[0].where, "no cell is left after constraints and exclude")
        if self.errors:
            raise SpecErrors(self.errors)
        self.count = start
        return tuple(blocks)

    def error(self, where: Where, message: str, hint: str = "") -> None:
        self.errors.append(self.spec.source.problem(where, message, hint))

    def bits(self, x: int, e: int, m: int) -> tuple[int, int]:
        return (self.live["exporter"][x] & self.live["engine"][e] & self.live["model"][m] & self.no_suite,
                self.then["exporter"][x] & self.then["engine"][e] & self.then["model"][m])  # fmt: skip

    def apart(self, x: int, e: int, m: int) -> bool:
        """Whether two stacks have nothing to do with each other: an engine that takes the recipe's module loads that
        itself; the one exporter stack that it goes with is the one that makes the model's reference."""
        if self.spec.families[self.spec.engines[e].family].takes != "module":
            return False
        return self.spec.exporters[x] is not self.spec.reference_stack(self.models[m])

    def cannot(self, x: int, e: int, m: int) -> str:
        """Why an exporter stack cannot give a model to an engine stack, '' when it can."""
        families, recipe = self.spec.families, self.spec.recipes[self.models[m]]
        exporter, engine = families[self.spec.exporters[x].family], families[self.spec.engines[e].family]
        if not self.spec.exports(self.spec.exporters[x], recipe.name):
            return f"family {exporter.name} cannot export {recipe.name}; {' or '.join(recipe.exporters)} can"
        if engine.takes == "module":
            other = exporter.exporter != engine.exporter
            return f"{recipe.name} is a model of {exporter.exporter}, not of {engine.exporter}" if other else ""
        return "" if exporter.gives(engine.takes) else f"family {exporter.name} writes no {engine.takes} files"

    def meaningless(self, engine: Stack) -> frozenset[str]:
        """The option axes that a cell of this engine stack does not have: without ONNX there is no opset, and without an
        export nothing of what an export alone reads."""
        takes = self.spec.families[engine.family].takes
        if takes == "onnx":
            return frozenset()
        if takes == "tflite":
            return frozenset({"opset"})
        read = {axis for recipe in self.spec.recipes.values() for axis in recipe.uses}
        return frozenset(read - {"shapes", "precision"}) | {calibration.AXIS}

    def lacks_opset(self, block: Block) -> bool:
        """Whether a cell of the block is exported to ONNX without an opset: which one is meant cannot be guessed."""
        if self.always_opset or self.spec.families[self.spec.engines[block.engine].family].takes != "onnx":
            return False
        exporter = self.spec.families[self.spec.exporters[block.exporter].family].exporter
        return exporter in ONNX_EXPORTERS and any("opset" not in point.options for point in block.points.kept)

    def candidates_of(self, x: int, e: int, m: int) -> list[dict[str, str]]:
        """The option product of these three, before any rule."""
        return self.product(self.bits(x, e, m)[0], self.unread[e])

    def points(self, x: int, e: int, m: int) -> Points:
        """The option product of a block, computed once for all blocks that the same rules concern."""
        live, then = self.bits(x, e, m)
        recipe = self.spec.recipes[self.models[m]]
        family = self.spec.families[self.spec.engines[e].family]
        unread = self.unread[e]
        key = (live, then, unread, self.able(recipe), None if self.realises(family.precision) else family.name)
        found = self.cache.get(key)
        if found is None:
            product = self.product(live, unread)
            found = self.cache[key] = self.judge(product, live, then, recipe, family.name, exclude=True)
        self.candidates += len(found.kept) + len(found.removed)
        if self.candidates > MAX_CANDIDATES:
            self.error(self.spec.axes[0].where, f"the product has more than {MAX_CANDIDATES} candidates")
            raise SpecErrors(self.errors)
        return found

    def suite_blocks(self, start: int) -> tuple[Block, ...]:
        """One block for each suite and engine stack that takes ONNX, behind all others. Engine stacks that the same rules
        concern share their points."""
        spec, blocks = self.spec, []
        fit = sum(self.bit[id(rule)] for rule in self.rules if _concerns_suites(rule))
        for suite in spec.suites.values():
            parts = (("exporter", suite.stack), ("model", suite.name), ("suite", suite.name))
            live, then = fit, fit
            for role, item in parts:
                live &= self.mask(role, item, lambda rule: rule.base, absent=False)
                then &= self.mask(role, item, lambda rule: rule.then_base, absent=True)
            product = [{"operator": case.operator, "case": case.name} for case in suite.cases]
            for e, engine in enumerate(spec.engines):
                if spec.families[engine.family].takes != "onnx":
                    continue
                mine, its = live & self.live["engine"][e], then & self.then["engine"][e]
                key = ("suite", suite.name, mine, its & mine)
                points = self.cache.get(key)
                if points is None:
                    points = self.cache[key] = self.judge(product, mine, its, None, engine.family, exclude=True)
                blocks.append(Block(-1, e, -1, start, points, suite))
                start += len(points.kept)
        return tuple(blocks)

    def able(self, recipe: Recipe) -> str | None:
        """None when a recipe can do all that any recipe can; else its name, since it removes cells of its own."""
        return None if recipe.calibration and "dynamic" in recipe.shapes else recipe.name

    def realises(self, precision: Mapping[str, str]) -> bool:
        return all(value in precision for value in self.spec.fields.values.get("precision", ()))

    def product(self, live: int, unread: frozenset[str] = frozenset()) -> list[dict[str, str]]:
        points: list[dict[str, str]] = [{}]
        for axis, when in zip(self.axes, self.whens, strict=True):
            if axis.name in unread:
                continue
            grown: list[dict[str, str]] = []
            for point in points:
                if when is not None and not (live & self.bit[id(when)] and _holds(when.options, point)):
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
        self, product: Sequence[Options], live: int, then: int, recipe: Recipe | None, family: str, *, exclude: bool
    ) -> Points:
        """Every point through the rules in their order; the first that objects is the one that is named."""
        active = [rule for rule in self.rules if live & self.bit[id(rule)]]
        kept: list[Point] = []
        removed: list[tuple[Options, Verdict]] = []
        for options in product:
            verdict = self.possible(options, recipe, family) if recipe is not None else None
            if verdict is not None:
                removed.append((options, verdict))
                continue
            given: dict[str, Any] = {}
            expect: Expect | None = None
            applied: list[CompiledRule] = []
            for rule in active:
                if not _holds(rule.options, options):
                    continue
                spec_rule = of(rule)
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
            if recipe is not None and self.without_data(options, recipe, family):
                continue
            for rule in applied:
                rule.hits += 1
                given.update(of(rule).attributes)
                expect = of(rule).expect or expect
            key = tuple(sorted(given.items()))
            attributes = self.attributes.get(key) or self.attributes.setdefault(key, Attributes(**given))
            kept.append(Point(options, attributes, expect, tuple(of(rule) for rule in applied)))
        points = Points(tuple(kept), tuple(removed))
        for position, point in enumerate(kept):
            for pair in point.options.items():
                points.masks[pair] = points.masks.get(pair, 0) | 1 << position
        return points

    def without_data(self, options: Options, recipe: Recipe, family: str) -> bool:
        """Whether a cell that is left by all rules asks for 8 bits of data that its recipe does not have: an error, noted once
        a recipe, and no guess."""
        owner = self.spec.families[family]
        asked = calibration.kind(owner.settings, options, options.get("precision", ""))
        if recipe.calibration or owner.takes == "module" or not calibration.needs_data(asked):
            return False
        hint = (
            f"add calibration: {{samples: 8}} or {{folder: ...}}, or exclude: {{model: {recipe.name}, precision: int8}}"
        )
        message = (
            f"int8 is asked of {recipe.name} ({self.spec.source.name}), and there is no 'calibration' to make it from"
        )
        if all(error.where != recipe.where or error.message != message for error in self.errors):
            self.errors.append(SpecError(recipe.where, message, hint=hint))
        return True

    def possible(self, options: Options, recipe: Recipe, family: str) -> Verdict | None:
        """What the recipe or the engine's family cannot do."""
        precision = options.get("precision")
        if options.get("shapes", recipe.shapes[0]) not in recipe.shapes:
            return "recipe", f"{recipe.name} has no {options['shapes']} dimensions", recipe.where
        mode = options.get(calibration.AXIS, calibration.MODES[0])
        if self.spec.families[family].takes == "tflite" and mode not in calibration.MODES:
            where = self.spec.families[family].where
            return "family", f"family {family} takes files that TensorFlow's converter quantised, not {mode}", where
        if precision is not None and precision not in self.spec.families[family].precision:
            where = self.spec.families[family].where
            return "family", f"family {family} has no way to realise {precision}", where
        return None

    def include(self, include: Include, start: int, blocks: Sequence[Block]) -> Block | None:
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
            if name in FIELDS and spec.suites:
                self.error(include.places[key], "an include adds no case of a suite", "all of them are there already")
            elif name in portability_grid.FIELDS:
                self.error(include.places[key], "an include adds no cell of the portability grid", "portability: does")
            elif role == "engine":
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
            m = self.models.index(model)
            fits = [(x, e) for x in exporters for e in engines if not self.apart(x, e, m) and not self.cannot(x, e, m)]
            exporters = [x for x in exporters if any(x == other for other, _ in fits)]
        for role, found, stacks in (("engine", engines, spec.engines), ("exporter", exporters, spec.exporters)):
            if len(found) != 1:
                which = ", ".join(stacks[i].id for i in found[:4]) or "none"
                self.error(include.where, f"an include names one {role} stack, this one {len(found)}", which)
        if len(self.errors) > before:
            return None
        x, e, m = exporters[0], engines[0], self.models.index(model)
        live, then = self.bits(x, e, m)
        options = self.include_options(include, given, live, self.unread[e])
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
        return Block(x, e, m, start, points)

    def include_options(
        self, include: Include, given: Mapping[str, str], live: int, unread: frozenset[str]
    ) -> dict[str, str] | None:
        options: dict[str, str] = {}
        fine = True
        for axis, when in zip(self.axes, self.whens, strict=True):
            absent = when is not None and not (live & self.bit[id(when)] and _holds(when.options, options))
            if absent or axis.name in unread:
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
        self.dead([rule for rule in self.rules if not _concerns_grid(rule)])

    def dead_rules_of_grid(self) -> None:
        """As `dead_rules`, of the rules that are about the portability grid alone: its cells are made last."""
        self.dead([rule for rule in self.rules if _concerns_grid(rule)])

    def dead(self, rules: Sequence[CompiledRule]) -> None:
        for compiled in rules:
            rule = of(compiled)
            if compiled.hits == 0 and not rule.optional:
                what = {"constraints": "constraint", "expect": "expectation", "set": "set rule"}.get(
                    rule.kind, rule.kind
                )
                self.error(rule.where, f"this {what} matches no cell", "take it out, or write optional: true")


def _concerns_suites(rule: CompiledRule) -> bool:
    """Whether a rule may reach a suite's cells. Constraints are physics and hold for every cell; other rules, like
    selections, are about suites only where they name one of their fields."""
    if not all(axis in FIELDS or None in accepted for axis, accepted in rule.options):
        return False  # over an axis that they do not have
    named = [name for name, _ in rule.base] + [name for name, _ in rule.options]
    return of(rule).kind == "constraints" or any(name in FIELDS for name in named)


def _concerns_grid(rule: CompiledRule) -> bool:
    return any(name in portability_grid.FIELDS and None not in accepted for name, accepted in rule.options)


def of(rule: CompiledRule) -> Rule:
    assert rule.rule is not None
    return rule.rule
