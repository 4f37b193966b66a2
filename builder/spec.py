"""matrix.yaml, family.yaml and recipe.yaml -> Spec: typed, checked, with a place for every rule.

The only reader of YAML (with `nodes`, `section`, `family` and `recipe` below it). All errors of all files are found in
one pass and raised together. What depends on the cells themselves (a rule that matches nothing, an include that a
constraint forbids) is checked by `matrix.expand`.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from builder import calibration, isolation, match, nodes, portability_grid, recipe, sample, select, suite, versions
from builder import family as families
from builder.errors import SpecError, SpecErrors
from builder.family import FamilyFile
from builder.fields import FieldError, Fields
from builder.isolation import Isolation
from builder.match import Match
from builder.nodes import Map, Node, Seq, Source, Text
from builder.portability_grid import Grid
from builder.recipe import RecipeFile
from builder.section import NAME, VALUE, Section
from builder.select import Expr, SelectError
from builder.suite import Suite
from builder.values import FAILING, STATUSES, Docker, Expect, Family, Recipe, Role, Stack, Where

KEYS = ("schema", "name", "exporters", "engines", "tools", "suites", "axes", "constraints", "exclude", "include", "set", "expect",
        "portability", "groups", "isolation", "docker")  # fmt: skip
ENTRY_KEYS = ("family", "keep", "python")
AXIS_KEYS = ("values", "when")
CONSTRAINT_KEYS = ("if", "then", "never", "because", "source", "optional")
EXCLUDE_KEYS = ("match", "because", "optional")
ATTRIBUTE_KEYS = ("timeout", "memory", "retry", "priority", "measure")
SET_KEYS = ("match", *ATTRIBUTE_KEYS, "optional")
EXPECT_KEYS = ("match", "fail", "because", "until", "optional")
GROUP_KEYS = ("select", "sample", "order", "budget")
SAMPLE_KEYS = ("strategy", "seed", "always", "max", "soft")
ORDERS = ("failed", "changed", "oldest", "uncovered")
SCHEMA = "1"
DEFAULT_TOOLS = "onnx-tools"
DEFAULT_PRECISION = "fp32"
"""What a cell asks for in a matrix without a `precision` axis."""
OPSET = re.compile(r"[1-9][0-9]{0,3}")
_CATEGORY = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
RuleKind = Literal["when", "constraints", "exclude", "set", "expect"]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A build option (or `model`) with its values, in the file's order."""

    name: str
    values: tuple[str, ...]
    when: Match | None
    where: Where


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One entry of constraints, exclude, set or expect; also the `when` of an axis."""

    kind: RuleKind
    match: Match
    then: Match | None = None
    """Constraints: what must hold where `match` does; None for `never`."""
    because: str = ""
    optional: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)
    expect: Expect | None = None
    where: Where


@dataclass(frozen=True, kw_only=True)
class Include:
    """An exact cell: field or axis -> exact value."""

    values: Mapping[str, str]
    places: Mapping[str, Where]
    where: Where


@dataclass(frozen=True, kw_only=True)
class Sample:
    strategy: sample.Strategy
    seed: int
    always: str | None
    max: int | None
    soft: bool


@dataclass(frozen=True, kw_only=True)
class Group:
    """A saved selection."""

    name: str
    select: str
    expr: Expr
    always: Expr | None
    sample: Sample | None
    order: tuple[str, ...]
    budget: float | None
    """Seconds."""
    where: Where


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Everything that matrix.yaml says, with the families and recipes it names."""

    name: str
    file: str
    sha256: str
    exporters: tuple[Stack, ...]
    engines: tuple[Stack, ...]
    tools: Stack
    """The stack that rewrites precision in ONNX graphs."""
    quantizers: Mapping[str, Stack]
    """Value of the axis `quantization` -> the stack of that family, for those that `tools` does not do."""
    axes: tuple[Axis, ...]
    """`model` first."""
    rules: tuple[Rule, ...]
    """Constraints, exclude, set, expect: in that order, each in the file's."""
    includes: tuple[Include, ...]
    groups: Mapping[str, Group]
    families: Mapping[str, Family]
    recipes: Mapping[str, Recipe]
    entries: Mapping[str, Where]
    """Entry of exporters and engines -> its place."""
    fields: Fields
    source: Source
    isolation: Isolation
    """How its stacks are realised, unless the command line says otherwise."""
    docker: Docker
    suites: Mapping[str, Suite] = field(default_factory=dict)
    """Cases that somebody else wrote, by the name of the suite; see builder/suite.py."""
    portability: Grid | None = None
    """Which engines are loaded in the other stacks of their family; see builder/portability_grid.py."""

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """Every stack once: exporters, engines, tools, quantizers, and where the suites' cases are exported."""
        unique = {
            (stack.role, stack.id): stack for stack in (*self.exporters, *(s.stack for s in self.suites.values()))
        }
        return (*unique.values(), *self.engines, self.tools, *self.quantizers.values())

    def family_of(self, stack: Stack) -> Family:
        return self.families[stack.family]

    def exporters_of(self, model: str) -> tuple[Stack, ...]:
        """The exporter stacks whose family can export a model, in the file's order."""
        return tuple(stack for stack in self.exporters if self.exports(stack, model))

    def exports(self, stack: Stack, model: str) -> bool:
        return exports(self.families.get(stack.family), self.recipes[model])

    def reference_stack(self, model: str) -> Stack:
        """Where a model's reference is made: the last (newest) exporter stack that can export it; where a suite's cases come
        from."""
        if model in self.suites:
            return self.suites[model].stack
        return self.exporters_of(model)[-1]


def exports(family: Family | None, recipe: Recipe) -> bool:
    """Whether a family can export a model: its recipe names the family, or the exporter that the family is driven by, so that
    NVIDIA's PyTorch image exports what PyTorch does."""
    return family is not None and not {family.name, family.exporter}.isdisjoint(recipe.exporters)


def shown(path: Path, base: Path) -> str:
    """How a file is called in messages and reports: relative to the folder of matrix.yaml when it lies below it."""
    try:
        return path.resolve().relative_to(base.resolve()).as_posix()
    except (ValueError, OSError):
        return path.as_posix()


def load(path: Path, images: Path, recipes: Path) -> Spec:
    """Read a matrix and all that it names. Raises SpecErrors with every error of every file, in order of place."""
    errors: list[SpecError] = []
    loaded = nodes.load(path, path.name if path.is_absolute() else path.as_posix(), errors)
    if loaded is None:
        raise SpecErrors(errors)
    reader = _Reader(*loaded, path=path, images=images, recipes=recipes)
    spec = reader.spec()
    if errors or spec is None:
        raise SpecErrors(list({(error.where, error.message): error for error in errors}.values()))
    return spec


class _Reader:
    def __init__(self, source: Source, node: Node, *, path: Path, images: Path, recipes: Path) -> None:
        self.source, self.path, self.images, self.recipes_dir = source, path, images, recipes
        self.errors = source.errors
        extensions = [key for key in node.keys if key.startswith("x-")] if isinstance(node, Map) else []
        self.top = Section(source, node, [*KEYS, *extensions], "the matrix")
        self.files: dict[str, FamilyFile | None] = {}
        self.entries: dict[str, Where] = {}

    def spec(self) -> Spec | None:
        top = self.top
        if not top.ok:
            return None
        if top.text("schema", required=True, hint="schema: 1") not in ("", SCHEMA):
            top.error("schema", f"schema {top.text('schema')!r} is not known", f"this program reads schema {SCHEMA}")
        name = top.name("name")
        exporters, engines = self.stacks("exporters", "exporter"), self.stacks("engines", "engine")
        tools = self.tools()
        axes = self.axes()
        includes = self.includes()
        recipes = self.load_recipes(axes)
        options = {axis.name: list(axis.values) for axis in axes}
        for include in includes:
            for key, value in include.values.items():
                if key in options and value not in options[key]:
                    options[key].append(value)
        quantizers = self.quantizers(options)
        suites = self.suites(exporters, recipes)
        if "portability" in top:
            options.update(portability_grid.options_of(engines))
        self.fields = Fields(exporters, engines, {**options, **suite.options_of(list(suites.values()))})
        self.check_axes(axes)
        rules = (*self.constraints(), *self.excludes(), *self.sets(), *self.expects())
        groups = self.groups()
        grid = self.portability(groups)
        text = top.choice("isolation", isolation.ISOLATIONS)
        asked: Isolation = next((known for known in isolation.ISOLATIONS if known == text), "auto")
        docker = Docker()
        if "docker" in top:
            docker = isolation.read(Section(self.source, top.get("docker"), isolation.DOCKER_KEYS, "docker"))
        self.check_recipes(recipes, exporters, options, {include.values.get("model"): include for include in includes})
        if self.errors or tools is None:
            return None
        return Spec(
            name=name,
            file=self.source.name,
            sha256=hashlib.sha256(self.source.text.encode()).hexdigest(),
            exporters=exporters,
            engines=engines,
            tools=tools,
            quantizers=quantizers,
            axes=axes,
            rules=rules,
            includes=includes,
            groups=groups,
            families={name: file.family for name, file in self.files.items() if file},
            recipes={name: file.recipe for name, file in recipes.items()},
            entries=self.entries,
            fields=self.fields,
            source=self.source,
            isolation=asked,
            docker=docker,
            suites=suites,
            portability=grid,
        )

    # -- stacks

    def family(self, name: str, where: Where) -> FamilyFile | None:
        """The family of that name, read once; None when an error was noted."""
        if name not in self.files:
            self.files[name] = None
            path = self.images / name / "family.yaml"
            known = families.names(self.images)
            if name not in known:
                self.source.error(where, f"unknown family {name!r}", versions.nearest(name, known))
            else:
                self.files[name] = families.load(path, shown(path, self.path.parent), self.errors)
        return self.files[name]

    def stacks(self, key: str, role: Role) -> tuple[Stack, ...]:
        stacks: list[Stack] = []
        seen: dict[str, Stack] = {}
        if not isinstance(node := self.top.get(key), Map) or not node.items:
            self.top.missing(key, "a mapping of name to {family: ...}") if node is None else self.top.error(
                key, f"{key!r} must be a mapping of name to {{family: ...}}"
            )
        for entry, value, where in self.top.children(key):
            if entry in self.entries:
                self.source.error(where, f"{entry!r} is already the name of an entry", f"see {self.entries[entry]}")
            self.entries[entry] = where
            for stack in self.entry(entry, value, role):
                if stack.id in seen:
                    self.source.error(where, f"{stack.id} comes from both {seen[stack.id].entry!r} and {entry!r}")
                    continue
                seen[stack.id] = stack
                stacks.append(stack)
        return tuple(stacks)

    def entry(self, entry: str, value: Node, role: Role) -> list[Stack]:
        probe = Section(self.source, value, None, f"entry {entry!r}")
        name = probe.name("family") if probe.ok else ""
        file = self.family(name, probe.where("family")) if name else None
        if file is None:
            return []
        if role not in file.family.provides:
            self.source.error(probe.where("family"), f"family {name!r} provides no {role}",
                              f"it provides {', '.join(sorted(file.family.provides))}")  # fmt: skip
            return []
        section = Section(self.source, value, [*ENTRY_KEYS, *file.axes], f"entry {entry!r} of family {name!r}")
        return families.expand(file, role, entry, section, self.source)

    def tools(self) -> Stack | None:
        """The one stack of `tools:`; by default the newest of family `onnx-tools`."""
        if "tools" in self.top:
            stacks = self.entry("tools", self.top.node.items["tools"], "tools")
            if len(stacks) > 1:
                self.top.error("tools", f"tools must be one stack, not {len(stacks)}")
        elif DEFAULT_TOOLS not in families.names(self.images):
            self.top.missing("tools", f"the default, family {DEFAULT_TOOLS!r}, is not in the folder of families")
            return None
        else:
            file = self.family(DEFAULT_TOOLS, self.source.top())
            stacks = families.expand(file, "tools", "tools", None, self.source) if file else []
        return stacks[0] if stacks else None

    def suites(self, exporters: Sequence[Stack], recipes: Mapping[str, RecipeFile]) -> dict[str, Suite]:
        """`suites:`. A suite whose cases an exporter's own stack can export takes that one."""
        found: dict[str, Suite] = {}
        same = {stack.id: stack for stack in exporters}

        def expand(node: Node, name: str) -> list[Stack]:
            return [same.get(stack.id, stack) for stack in self.entry(name, node, "exporter")]

        for name, node, where in self.top.children("suites"):
            if name in recipes or name in self.entries:
                self.source.error(where, f"{name!r} is already the name of a model or an entry")
                continue
            read = suite.read(name, node, where, self.source, expand)
            if read is not None:
                found[name] = read
        return found

    def quantizers(self, options: Mapping[str, Sequence[str]]) -> dict[str, Stack]:
        """The stacks of the families that the axis `quantization` names, each in the version that its family gives."""
        found: dict[str, Stack] = {}
        axis = self.top.get("axes")
        where = axis.keys.get(calibration.AXIS, self.source.top()) if isinstance(axis, Map) else self.source.top()
        for name in calibration.families(options):
            known = [family for family in families.names(self.images) if family != DEFAULT_TOOLS]
            if name not in known:
                near = versions.nearest(name, [*calibration.MODES, *known])
                self.source.error(where, f"{name!r} is no quantization", near or "there are static, dynamic, nncf")
                continue
            file = self.family(name, where)
            if file is not None and "tools" not in file.family.provides:
                self.source.error(where, f"family {name!r} provides no tools", "static and dynamic need no family")
            elif file is not None:
                found.update((name, stack) for stack in families.expand(file, "tools", name, None, self.source))
        return found

    # -- axes and recipes

    def axes(self) -> tuple[Axis, ...]:
        axes = []
        for name, value, where in self.top.children("axes"):
            if name in select.RESERVED and name != "model":
                self.source.error(where, f"{name!r} has a meaning of its own and cannot be an axis")
                continue
            if not isinstance(value, Map):
                value = Map({"values": value}, {"values": value.where}, value.where, value.size + 1)
            section = Section(self.source, value, AXIS_KEYS, f"axis {name!r}")
            values = tuple(item.value for item in section.values("values"))
            if "values" not in section:
                section.missing("values")
            when = match.read(self.source, section.node.items["when"]) if "when" in section else None
            axes.append(Axis(name=name, values=values, when=when, where=where))
        if "axes" not in self.top:
            self.top.missing("axes", "axes: {model: [resnet50], ...}")
        elif not axes or axes[0].name != "model":
            self.top.error("axes", "the first axis must be 'model'", "axes: {model: [resnet50], ...}")
        elif axes[0].when is not None:
            self.source.error(axes[0].when.where, "'model' cannot depend on anything")
        for axis in axes:
            for shape in axis.values if axis.name == "shapes" else ():
                if shape not in recipe.SHAPES:
                    self.source.error(axis.where, f"{shape!r} is not a value of 'shapes'", "there are static, dynamic")
            for opset in axis.values if axis.name == "opset" else ():
                if not OPSET.fullmatch(opset):
                    self.source.error(axis.where, f"{opset!r} is no opset of ONNX", "opset: [17], a whole number")
        return tuple(axes)

    def check_axes(self, axes: Sequence[Axis]) -> None:
        later = {axis.name for axis in axes}
        for axis in axes:
            if axis.name in portability_grid.FIELDS:
                self.source.error(axis.where, f"{axis.name!r} is a field of the portability grid", "rename the axis")
            if axis.name in suite.FIELDS and "suites" in self.top:
                self.source.error(axis.where, f"{axis.name!r} is a field of suites", "give the axis another name")
            if axis.name in self.fields.ambiguous or self.fields.names.get(axis.name) != axis.name:
                self.source.error(axis.where, f"{axis.name!r} is also a field of a stack", "give the axis another name")
            elif axis.name != "model" and f"engine.{axis.name}" in self.fields.values:
                self.source.error(axis.where, f"{axis.name!r} is also a field of an engine stack", "rename the axis")
            elif axis.name != "model" and f"exporter.{axis.name}" in self.fields.values:
                self.source.error(axis.where, f"{axis.name!r} is also a field of an exporter stack", "rename the axis")
            if axis.when is not None:
                self.check_match(axis.when)
                for term in axis.when.terms:
                    if term.field in later:
                        self.source.error(term.where, f"axis {axis.name!r} can only depend on axes before it")
            later.discard(axis.name)

    def load_recipes(self, axes: Sequence[Axis]) -> dict[str, RecipeFile]:
        found: dict[str, RecipeFile] = {}
        known = recipe.names(self.recipes_dir)
        for item in self.model_nodes():
            if item.value not in known:
                self.source.error(item.where, f"unknown model {item.value!r}", versions.nearest(item.value, known))
                continue
            path = self.recipes_dir / item.value / "recipe.yaml"
            loaded = recipe.load(path, shown(path, self.path.parent), self.errors)
            if loaded is not None:
                found[item.value] = loaded
        return found

    def model_nodes(self) -> list[Text]:
        node = self.top.get("axes")
        node = node.items.get("model") if isinstance(node, Map) else None
        node = node.items.get("values") if isinstance(node, Map) else node
        items: Sequence[Node] = node.items if isinstance(node, Seq) else (node,) if node else ()
        return [item for item in items if isinstance(item, Text) and NAME.fullmatch(item.value)]

    def check_recipes(
        self, recipes: Mapping[str, RecipeFile], exporters: Sequence[Stack],
        options: Mapping[str, Sequence[str]], includes: Mapping[str | None, Include],
    ) -> None:  # fmt: skip
        """What the matrix asks of a recipe: an exporter, a tolerance and a metric's minimum per precision."""
        places = {item.value: item.where for item in self.model_nodes()}
        axis = self.top.get("axes")
        asked = _texts(axis.items.get("precision")) if isinstance(axis, Map) and "precision" in axis.items else []
        for name, file in recipes.items():
            found, source = file.recipe, file.source
            known = (self.files.get(stack.family) for stack in exporters)
            if exporters and not any(file is not None and exports(file.family, found) for file in known):
                self.source.error(places[name], f"no exporter of this matrix can export {name!r}",
                                  f"it needs {' or '.join(found.exporters)}")  # fmt: skip
            wanted = dict.fromkeys(asked or [DEFAULT_PRECISION])
            if name in includes and "precision" in includes[name].values:
                wanted[includes[name].values["precision"]] = None
            minimum = (found.data.get("metric") or {}).get("minimum", {})
            for precision in wanted:
                if precision == "int8" and not found.calibration and precision not in found.tolerance:
                    continue  # the expansion tells where data are missing, if such a cell is left
                if precision not in found.tolerance:
                    source.error(file.tolerance, f"no tolerance for {precision!r}, which {self.source.name} asks for",
                                 f"add tolerance: {{{precision}: {{atol: ..., rtol: ..., because: ...}}}}")  # fmt: skip
                elif found.data.get("metric") and precision not in minimum:
                    source.error(file.metric, f"metric.minimum has no {precision!r}, which {self.source.name} asks for")

    # -- rules

    def check_match(self, found: Match | None, *, values: bool = True) -> None:
        """Field names, and (`values`) that each pattern fits at least one value that the field has here."""
        for term in found.terms if found else ():
            try:
                canonical = self.fields.resolve(term.field)
            except FieldError as error:
                self.source.error(term.where, error.message, error.hint)
                continue
            known = self.fields.values[canonical]
            for pattern, place in zip(term.patterns, term.places, strict=True):
                if values and pattern is not None and not any(versions.matches(pattern, value) for value in known):
                    self.source.error(place, f"no {term.field} {pattern!r} in this matrix",
                                      versions.nearest(pattern, known))  # fmt: skip

    def condition(self, section: Section, key: str, *, values: bool = True) -> Match | None:
        if key not in section:
            section.missing(key)
            return None
        found = match.read(self.source, section.node.items[key])
        self.check_match(found, values=values)
        return found

    def constraints(self) -> list[Rule]:
        rules = []
        for section in self.top.sections("constraints", CONSTRAINT_KEYS, "a constraint"):
            because = section.text("because", required=True, hint="every rule says why")
            optional = section.boolean("optional", False)
            never = "never" in section
            if never and ("if" in section or "then" in section):
                section.error("never", "'never' stands alone", "or write 'if' and 'then'")
            found = self.condition(section, "never" if never else "if", values=not optional)
            then = None if never else self.condition(section, "then", values=False)
            if found is not None and (never or then is not None):
                rules.append(Rule(kind="constraints", match=found, then=then, because=because, optional=optional,
                                  where=section.node.where))  # fmt: skip
        return rules

    def excludes(self) -> list[Rule]:
        rules = []
        for section in self.top.sections("exclude", EXCLUDE_KEYS, "an exclude"):
            because = section.text("because", required=True, hint="every rule says why")
            optional = section.boolean("optional", False)
            found = self.condition(section, "match", values=not optional)
            if found is not None:
                rules.append(Rule(kind="exclude", match=found, because=because, optional=optional,
                                  where=section.node.where))  # fmt: skip
        return rules

    def sets(self) -> list[Rule]:
        rules = []
        for section in self.top.sections("set", SET_KEYS, "a set rule"):
            optional = section.boolean("optional", False)
            found = self.condition(section, "match", values=not optional)
            given: dict[str, Any] = {
                "timeout": section.duration("timeout"),
                "memory": section.size("memory"),
                "retry": section.integer("retry", 0) if "retry" in section else None,
                "priority": section.integer("priority", 0, least=-1000) if "priority" in section else None,
                "measure": section.boolean("measure", False) if "measure" in section else None,
            }
            attributes = {key: value for key, value in given.items() if value is not None}
            if not any(key in section for key in ATTRIBUTE_KEYS):
                section.missing("timeout", f"a set rule gives one of {', '.join(ATTRIBUTE_KEYS)}")
            if found is not None:
                rules.append(Rule(kind="set", match=found, attributes=attributes, optional=optional,
                                  where=section.node.where))  # fmt: skip
        return rules

    def expects(self) -> list[Rule]:
        rules = []
        for section in self.top.sections("expect", EXPECT_KEYS, "an expectation"):
            because = section.text("because", required=True, hint="every rule says why")
            optional = section.boolean("optional", False)
            found = self.condition(section, "match", values=not optional)
            fail = section.text("fail", required=True, hint="a category of failure, or a status such as crashed")
            if fail and (not _CATEGORY.fullmatch(fail) or (fail in STATUSES and fail not in FAILING)):
                section.error("fail", f"{fail!r} is neither a category of failure nor a failing status")
            until = section.text("until")
            if until:
                try:
                    datetime.date.fromisoformat(until)
                except ValueError:
                    section.error("until", f"{until!r} is not a date", "write 2027-02-01")
            if found is not None:
                expect = Expect(fail=fail, because=because, until=until or None, where=section.node.where)
                rules.append(Rule(kind="expect", match=found, because=because, optional=optional, expect=expect,
                                  where=section.node.where))  # fmt: skip
        return rules

    def includes(self) -> tuple[Include, ...]:
        out = []
        for section in self.top.sections("include", None, "an include"):
            values, places = {}, {}
            for key, node in section.node.items.items():
                if not isinstance(node, Text) or nodes.is_null(node) or not VALUE.fullmatch(node.value):
                    self.source.error(node.where, f"{key!r} of an include must be one exact value")
                    continue
                values[key], places[key] = node.value, section.node.keys[key]
            if len(values) == len(section.node.items):
                out.append(Include(values=values, places=places, where=section.node.where))
        return tuple(out)

    # -- groups

    def groups(self) -> dict[str, Group]:
        groups: dict[str, Group] = {}
        names = [name for name, _, _ in self.top.children("groups")]
        for name, value, where in self.top.children("groups"):
            if name in select.RESERVED:
                self.source.error(where, f"{name!r} has a meaning of its own and cannot be a group")
                continue
            if isinstance(value, Text):
                value = Map({"select": value}, {"select": value.where}, value.where, 2)
            section = Section(self.source, value, GROUP_KEYS, f"group {name!r}")
            text = section.text("select", required=True)
            expr = self.expression(section, "select", names) if text else None
            chosen, always = self.sample(section, names)
            order = section.choices("order", ORDERS)
            budget = section.duration("budget")
            if chosen is not None and expr is not None and suite.mentions(expr):
                section.error("sample", "the cells of a suite are not sampled", "give the suite a group of its own")
            if chosen is not None and expr is not None and portability_grid.mentions(expr):
                section.error(
                    "sample", "the cells of the portability grid are not sampled", "give it a group of its own"
                )
            if expr is not None:
                groups[name] = Group(name=name, select=text, expr=expr, always=always, sample=chosen, order=order,
                                     budget=budget, where=where)  # fmt: skip
        self.check_cycles(groups)
        return groups

    def portability(self, groups: Mapping[str, Group]) -> Grid | None:
        """`portability:`, a selection of the product's cells."""
        text = self.top.text("portability", required="portability" in self.top)
        expr = self.expression(self.top, "portability", tuple(groups)) if text else None
        if expr is None:
            return None
        inner = {name: group.expr for name, group in groups.items()}
        for fields, of in ((portability_grid.FIELDS, "the portability grid"), (suite.FIELDS, "suites")):
            if suite.mentions(expr, inner, fields):
                self.top.error("portability", f"it selects cells of the product, and names a field of {of}")
        return Grid(select=text, expr=expr, where=self.top.where("portability"))

    def expression(self, section: Section, key: str, groups: Sequence[str]) -> Expr | None:
        """A selector, its field and group names checked; errors point into the text where it is on one line."""
        node = section.node.items[key]
        if not isinstance(node, Text):
            return None
        text = node.value
        quote = 0 if node.plain else 1
        start = node.where

        def note(offset: int, message: str, hint: str) -> None:
            place = Where(file=start.file, line=start.line, column=start.column + quote + offset)
            line = self.source.lines[start.line - 1] if start.line <= len(self.source.lines) else ""
            same = line[start.column - 1 + quote :].startswith(text)
            self.source.error(place if same else start, message, hint)

        try:
            expr = select.parse(text)
        except SelectError as error:
            note(error.offset, error.message, error.hint)
            return None
        fine = True
        for problem in check_selector(expr, self.fields, groups):
            note(*problem)
            fine = False
        return expr if fine else None

    def sample(self, section: Section, groups: Sequence[str]) -> tuple[Sample | None, Expr | None]:
        if "sample" not in section:
            return None, None
        part = Section(self.source, section.get("sample"), SAMPLE_KEYS, "sample")
        strategy = part.choice("strategy", sample.STRATEGIES, required=True)
        always = self.expression(part, "always", groups) if part.text("always") else None
        maximum = part.integer("max", 0, least=1) if "max" in part else None
        if strategy == "random" and maximum is None:
            part.missing("max", "a random sample says how many")
        for known in sample.STRATEGIES:
            if known == strategy:
                return Sample(strategy=known, seed=part.integer("seed", 0), always=part.text("always") or None,
                              max=maximum, soft=part.boolean("soft", False)), always  # fmt: skip
        return None, None

    def check_cycles(self, groups: Mapping[str, Group]) -> None:
        def uses(name: str) -> set[str]:
            group = groups[name]
            found = select.leaves(group.expr) + (select.leaves(group.always) if group.always else [])
            return {leaf.text for leaf in found if isinstance(leaf, select.Word) and leaf.text in groups}

        for name, group in groups.items():
            reached, waiting = set(), uses(name)
            while waiting:
                reached |= waiting
                waiting = {other for inner in waiting for other in uses(inner)} - reached
            if name in reached:
                self.source.error(group.where, f"group {name!r} refers to itself")


def check_selector(expr: Expr, fields: Fields, groups: Sequence[str]) -> list[tuple[int, str, str]]:
    """(offset, message, hint) for every unknown field, value or group of a selector."""
    problems = []
    for leaf in select.leaves(expr):
        if isinstance(leaf, select.Word):
            known = leaf.text in ("all", "changed") or leaf.text in groups or leaf.text.startswith("#")
            if not known and "." not in leaf.text and versions.is_pattern(leaf.text) is False:
                problems.append((leaf.offset, f"unknown group {leaf.text!r}", versions.nearest(leaf.text, groups)))
            continue
        if leaf.field in ("id", "slug"):
            continue
        if leaf.field == "status":
            problems += [(leaf.offset, f"unknown status {value!r}", versions.nearest(value, STATUSES))
                         for value in leaf.values if not any(versions.matches(value, s) for s in STATUSES)]  # fmt: skip
            continue
        try:
            values = fields.values[fields.resolve(leaf.field)]
        except FieldError as error:
            problems.append((leaf.offset, error.message, error.hint))
            continue
        if leaf.operator not in ("=", "!="):
            if not any(versions.version(value) for value in values):
                problems.append((leaf.offset, f"{leaf.field!r} has no versions to compare", "use = or !="))
            continue
        for value in leaf.values:
            if versions.is_range(value):
                problems.append((leaf.offset, f"{value!r} after {leaf.operator!r}", "write FIELD>=VERSION"))
            elif not any(versions.matches(value, known) for known in values):
                hint = versions.nearest(value, values)
                problems.append((leaf.offset, f"no {leaf.field} {value!r} in this matrix", hint))
    return problems


def _texts(node: Node | None) -> list[str]:
    if isinstance(node, Map):
        return _texts(node.items.get("values"))
    items: Sequence[Node] = node.items if isinstance(node, Seq) else (node,) if node else ()
    return [item.value for item in items if isinstance(item, Text)]
