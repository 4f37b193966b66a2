"""The releases along an axis, and the cell that each would be: also those that the matrix does not hold.

A release that the catalog knows becomes a stack by its family's own rules, as if it stood in its entry of matrix.yaml, and goes
through the matrix's constraints, excludes, `set` and `expect` like every other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from builder import family as families
from builder import matrix as matrices
from builder import nodes, versions
from builder.conflict_rules import is_ordered
from builder.errors import SpecError, SpecErrors, UsageError
from builder.family import FamilyFile
from builder.fields import ROLES, FieldError, Fields
from builder.knowledge_packages import wheel
from builder.nodes import Map, Node, Text
from builder.pipeline import Work
from builder.section import Section
from builder.values import Cell, Stack


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What is bisected: a component of one of the two stacks, or an option of the matrix."""

    name: str
    """Canonical: `engine.onnxruntime`, `exporter.torch`, `opset`."""
    role: str
    """`engine`, `exporter`, '' for an option."""
    field: str

    @property
    def short(self) -> str:
        return self.field or self.name

    def value(self, cell: Cell) -> str | None:
        if not self.role:
            return cell.options.get(self.name)
        return self.stack(cell).fields.get(self.field)

    def stack(self, cell: Cell) -> Stack:
        return cell.engine if self.role == "engine" else cell.exporter


@dataclass(kw_only=True)
class Release:
    """One place along the axis."""

    value: str
    cell: Cell | None
    """None where no cell of it can be."""
    why_not: str = ""
    in_matrix: bool = False
    others: tuple[Cell, ...] = ()
    """The same on other Pythons, which its project has packages for, the nearest first."""


def axis(work: Work, name: str) -> Axis:
    """Raises UsageError for what is no field, or has no order."""
    fields = work.spec.fields
    try:
        canonical = fields.resolve(name)
    except FieldError as error:
        raise UsageError(f"--axis: {error}") from None
    role, dot, part = canonical.partition(".")
    if dot and (role not in ROLES or part in ("", "family")):
        raise UsageError(f"--axis {name}: not a component with versions; write one such as {_example(work)}")
    if (not dot and canonical not in fields.options) or canonical == "model":
        raise UsageError(f"--axis {name}: not an axis with an order; write one such as {_example(work)}")
    found = Axis(name=canonical, role=role if dot else "", field=part if dot else "")
    if not is_ordered(fields.values[canonical]):
        raise UsageError(f"--axis {name}: its values ({', '.join(fields.values[canonical][:4])}) have no order")
    if dot and not any(found.value(cell) is not None for cell in work.matrix.cells):
        raise UsageError(f"--axis {name}: is a fact of other fields, not a field that can be moved by itself")
    return found


def _example(work: Work) -> str:
    names = [f"{stack.family}" for stack in work.spec.engines if stack.family in stack.fields]
    return names[0] if names else "opset"


def contexts(cells: Sequence[Cell], axis: Axis) -> list[list[Cell]]:
    """Cells that agree in all but the axis, in the matrix's order. The stack's Python and the name of its entry may go along with
    its release, as in `boundaries`."""
    groups: dict[object, list[Cell]] = {}
    for cell in cells:
        if axis.value(cell) is None:
            continue
        own = {name: value for name, value in cell.options.items() if name != axis.name}
        stacks = []
        for role, stack in (("engine", cell.engine), ("exporter", cell.exporter)):
            loose = (axis.field, "python") if role == axis.role else ()
            stacks.append((stack.family, *(item for item in stack.fields.items() if item[0] not in loose)))
        groups.setdefault((cell.model, tuple(own.items()), *stacks), []).append(cell)
    return list(groups.values())


def words(cell: Cell, axis: Axis) -> str:
    """A context as text: `squeezenet, opset 17, fp32, static; onnx 1.23.2 -> onnxruntime`."""
    named = {"opset": "opset {}"}
    options = [named.get(name, "{}").format(value) for name, value in cell.options.items() if name != axis.name]
    stacks = []
    for role, stack in (("exporter", cell.exporter), ("engine", cell.engine)):
        loose = (axis.field, "python") if role == axis.role else ("python",)
        own = [v if k == stack.family else f"{k} {v}" for k, v in stack.fields.items() if k not in loose]
        stacks.append(" ".join([stack.family, *own]))
    return f"{', '.join([cell.model, *options])}; {' -> '.join(stacks)}"


def where(cell: Cell, axis: Axis) -> str:
    """The selection that leaves this context alone, for `--where`."""
    terms = [f"{name}={value}" for name, value in cell.options.items() if name != axis.name]
    for role, stack in (("engine", cell.engine), ("exporter", cell.exporter)):
        terms.append(f"{role}.family={stack.family}")
        loose = (axis.field, "python") if role == axis.role else ()
        terms += [f"{role}.{name}={value}" for name, value in stack.fields.items() if name not in loose]
    return " and ".join(terms)


def releases(work: Work, axis: Axis, context: Sequence[Cell], *, only: Sequence[str] = ()) -> list[Release]:
    """Every release along the axis, oldest first: those of the matrix, those that the catalog knows, and `only` (which need be
    neither). Raises UsageError, SpecErrors."""
    held: dict[str, Cell] = {}
    for cell in context:
        held.setdefault(str(axis.value(cell)), cell)
    found = {value: Release(value=value, cell=cell, in_matrix=True) for value, cell in held.items()}
    if axis.role:
        base = context[0]
        stack = axis.stack(base)
        file = _family(work, stack.family)
        known = [value for value in file.releases(axis.field) if _final(value)]
        new = [value for value in dict.fromkeys((*known, *only)) if value not in found]
        found.update(_beyond(work, axis, base, file, new))
    for value in only:
        if value not in found:
            raise UsageError(f"{value!r} is no value of {axis.short} in the matrix; there are {', '.join(held)}")
    return [found[value] for value in versions.ordered(found)]


def _final(value: str) -> bool:
    parsed = versions.version(value)
    return parsed is not None and not parsed.is_prerelease


def _family(work: Work, name: str) -> FamilyFile:
    errors: list[SpecError] = []
    file = families.load(work.project.images / name / "family.yaml", f"images/{name}/family.yaml", errors)
    assert file is not None and not errors, "the matrix was read with it"
    return file


def _beyond(work: Work, axis: Axis, base: Cell, file: FamilyFile, values: Sequence[str]) -> dict[str, Release]:
    """Releases that the matrix does not hold."""
    own = axis.stack(base)
    fixed = _python_of_entry(work, own)
    stacks: dict[str, list[Stack]] = {}
    out: dict[str, Release] = {}
    for value in values:
        made, why = _stack(file, own, axis, value, fixed)
        if made is None:
            out[value] = Release(value=value, cell=None, why_not=why)
            continue
        stacks[value] = [made]
        for python in () if fixed else _pythons(file, axis, value, made.python):
            other, _ = _stack(file, own, axis, value, python)
            stacks[value] += [other] if other is not None else []
    cells = _cells(work, axis, base, [stack for some in stacks.values() for stack in some[:1]])
    for value, some in stacks.items():
        cell, why = cells[some[0].id]
        if cell is None:
            out[value] = Release(value=value, cell=None, why_not=why)
            continue
        others = tuple(_with(cell, axis, stack) for stack in some[1:])
        out[value] = Release(value=value, cell=cell, others=others)
    return out


def _with(cell: Cell, axis: Axis, stack: Stack) -> Cell:
    return replace(cell, engine=stack) if axis.role == "engine" else replace(cell, exporter=stack)


def _python_of_entry(work: Work, stack: Stack) -> str:
    """The Python that the stack's entry of the matrix asks for, '' where the family's rules give it."""
    section = nodes.load(work.project.matrix, work.spec.file, [])
    top = section[1] if section is not None else None
    for role in ("exporters", "engines"):
        entries = top.items.get(role) if isinstance(top, Map) else None
        entry = entries.items.get(stack.entry) if isinstance(entries, Map) else None
        if isinstance(entry, Map) and stack.role == role[:-1] and "python" in entry.items:
            return stack.python
    return ""


def _stack(file: FamilyFile, own: Stack, axis: Axis, value: str, python: str) -> tuple[Stack | None, str]:
    """The stack of a release, all else as in `own`; its Python by the family's rules where none is given."""
    source = nodes.Source("--axis", "")
    where = source.top()
    given = {"family": own.family, **{k: v for k, v in own.fields.items() if k != "python"}, axis.field: value}
    if python:
        given["python"] = python
    items: Mapping[str, Node] = {key: Text(text, False, where) for key, text in given.items()}
    section = Section(
        source, Map(items, dict.fromkeys(items, where), where, len(items) + 1), None, f"entry {own.entry!r}"
    )
    before = len(file.source.errors)
    made = families.expand(file, own.role, own.entry, section, source)
    errors = [*source.errors, *file.source.errors[before:]]
    del file.source.errors[before:]
    if errors or len(made) != 1:
        return None, errors[0].message if errors else f"{value!r} is no single release"
    return made[0], ""


def _pythons(file: FamilyFile, axis: Axis, value: str, present: str) -> list[str]:
    """Other Pythons for which the catalog knows packages of a release, the nearest to the present one first."""
    rule = file.axes.get(axis.field)
    answer = wheel(rule.releases if rule is not None else axis.field, value).value
    known = [python for python in (answer.python if answer else ()) if python != present]
    return sorted(known, key=lambda python: (abs(_minor(python) - _minor(present)), -_minor(python)))


def _minor(python: str) -> int:
    return int(python.partition(".")[2] or 0)


def _cells(work: Work, axis: Axis, base: Cell, stacks: Sequence[Stack]) -> dict[str, tuple[Cell | None, str]]:
    """Stack id -> its cell in the context of `base`, or the rule that takes it away."""
    spec = work.spec
    if base.model in spec.suites:  # whose thousands of cases no rule tells apart by release
        return {stack.id: (_with(base, axis, stack), "") for stack in stacks}
    engines = (base.engine, *stacks) if axis.role == "engine" else (base.engine,)
    exporters = (*stacks, base.exporter) if axis.role == "exporter" else (base.exporter,)
    options = {name: spec.fields.values[name] for name in spec.fields.options}
    fields = Fields((*spec.exporters, *exporters), (*spec.engines, *engines), options)
    point = {"model": base.model, **base.options}
    narrowed = replace(  # this point of the product alone: what no rule is about here is no mistake in the file
        spec, engines=engines, exporters=exporters, fields=fields, portability=None, suites={},
        includes=(), rules=tuple(replace(rule, optional=True) for rule in spec.rules),
        axes=tuple(replace(each, values=(point[each.name],)) for each in spec.axes if each.name in point),
    )  # fmt: skip
    try:
        wide = matrices.expand(narrowed)
    except SpecErrors as error:
        return {stack.id: (None, error.errors[0].message) for stack in stacks}
    wanted = {stack.id for stack in stacks}
    same = (base.model, dict(base.options), (base.exporter if axis.role == "engine" else base.engine).id)

    def fits(cell: Cell) -> bool:
        other = cell.exporter if axis.role == "engine" else cell.engine
        return axis.stack(cell).id in wanted and (cell.model, dict(cell.options), other.id) == same

    found: dict[str, tuple[Cell | None, str]] = dict.fromkeys(wanted, (None, "the matrix has no such cell for it"))
    for removed in wide.removed:
        if fits(removed.cell):
            place = f" ({removed.where})" if removed.where else ""
            found[axis.stack(removed.cell).id] = (None, f"taken away by {removed.rule}{place}: {removed.because}")
    found.update({axis.stack(cell).id: (cell, "") for cell in wide.cells if fits(cell)})
    return found
