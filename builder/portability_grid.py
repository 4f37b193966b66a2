"""The portability grid: engines built in one stack, loaded and run in the other stacks of its family.

    portability: "simple and model=resnet50 and engine=ort,openvino"      # in matrix.yaml

The selection is of ordinary cells. Those that differ in nothing but their engine stack, within one family, make a grid: each
of the stacks builds, each of them loads what each built, itself included (the control: what does not load at home says
nothing of others). Such a cell is the ordinary cell of the stack that loads, with `built-on`, the stack that builds; its
steps up to the engine are those of the ordinary cell of that one, so that nothing is built twice. The engine is run on the
recipe's cases and held against the same reference, within the same tolerance.

Cells of the grid are in a selection only where it names `built-on`, or a cell's id or slug, so that n stacks do not bring
n x n cells into groups that were written for other things.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from builder import suite
from builder.errors import SpecErrors
from builder.values import Cell, Family, Stack, Where

if TYPE_CHECKING:
    from builder.expansion import Block, Expander, Points
    from builder.predict import Prediction
    from builder.select import Expr
    from builder.spec import Spec

FIELDS = ("built-on",)
"""The field that cells of the grid alone have."""
_LOADING = ("wheel", "numpy", "driver")
"""Rules of builder/predict.py about a stack that only loads."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """`portability:` of matrix.yaml."""

    select: str
    expr: Expr
    where: Where


_TELLS = frozenset({"tensorrt-rtx"})
"""Families whose library tells of a file that another release built also where it cannot be loaded: their adapters `vouch`."""


def tells(family: Family) -> bool:
    """Whether the library is asked even on a machine that cannot load an engine of this family."""
    return family.name in _TELLS


def labels(engines: Sequence[Stack]) -> dict[str, str]:
    """Stack's id -> value of `built-on`: its version, so that rules compare it (`built-on>=2024`), and whatever else tells it
    from the others of its family: `1.15.1`, `1.7.1.116-cuda13`. The Python is in it only where an earlier stack has the rest."""
    found: dict[str, str] = {}
    taken: set[tuple[str, str]] = set()
    for stack in engines:
        first, *more = [(k, v) for k, v in stack.fields.items() if k != "python"] or [("", stack.id)]
        label = "-".join([first[1], *(f"{name}{value}" for name, value in more)])
        if (stack.family, label) in taken:
            label += f"-py{stack.python}"
        taken.add((stack.family, label))
        found[stack.id] = label
    return found


def options_of(engines: Sequence[Stack]) -> dict[str, list[str]]:
    """Field -> the values that cells of a grid over these stacks may have."""
    return {FIELDS[0]: list(dict.fromkeys(labels(engines).values()))}


def built_on(spec: Spec, engine: Stack, options: Mapping[str, str]) -> Stack:
    """The stack that builds, of a cell of the grid with these options that `engine` loads."""
    names = labels(spec.engines)
    wanted = options[FIELDS[0]]
    return next(it for it in spec.engines if it.family == engine.family and names[it.id] == wanted)


def ordinary(cell: Cell) -> Cell:
    """The ordinary cell that builds the engine of a cell of the grid."""
    assert cell.built_on is not None
    options = {name: value for name, value in cell.options.items() if name not in FIELDS}
    return replace(cell, engine=cell.built_on, options=options, expect=None, built_on=None)


def foreseen(cells: Sequence[Cell], predict: Callable[[Cell], Prediction]) -> dict[str, Prediction]:
    """What the facts say beforehand of the cells of the grid: only what keeps them from being tried, which is what keeps the
    one stack from building, or the other from being installed. `predict` is asked of ordinary cells."""
    from builder.predict import Prediction

    found = {}
    for cell in cells:
        if cell.built_on is None:
            continue
        builds = predict(ordinary(cell))
        loads = predict(ordinary(replace(cell, built_on=cell.engine)))
        against = [builds.against, *(it for it in loads.claims if it.rule in _LOADING and it.predicts == "unsupported")]
        found[cell.id] = Prediction(claims=tuple(it for it in against if it is not None)[:1])
    return found


def refusal(result: Mapping[str, Any]) -> dict[str, Any]:
    """What is added to the result of a cell whose engine another stack built, and that failed in its own steps: a library that
    refuses it with words that no signature knows says `engine-version` all the same, since nothing else differs from the cell
    in which the stack that built it loads it. The words stay as they are."""
    if result["status"] != "failed" or result["stage"] != "load" or result["signature"] is not None:
        return {}
    return {
        "category": "engine-version",
        "diagnosis": "An engine that another stack of its family built is refused when it is loaded.",
        "remedy": "Build the engine with the stack that loads it.",
    }


def mentions(expr: Expr, groups: Mapping[str, Expr] | None = None) -> bool:
    """Whether a selector is about the grid: whether it, or a group that it takes in, names `built-on`."""
    return suite.mentions(expr, groups, FIELDS)


def blocks(
    spec: Spec, expander: Expander, grid: Grid, product: Sequence[Block], chosen: int, start: int
) -> tuple[Block, ...]:
    """The blocks of the grid, from position `start` on: of those cells of the product that are `chosen` (bits). Raises
    SpecErrors where no two of these differ in their engine stack alone, and for rules about the grid that match nothing."""
    from builder.expansion import MAX_CANDIDATES, Block

    same: dict[tuple[object, ...], list[int]] = {}
    cells: list[tuple[Block, Mapping[str, str], tuple[object, ...]]] = []  # with what a grid's cells have in common
    for block in product:
        for offset, point in enumerate(block.points.kept):
            if chosen >> (block.start + offset) & 1:
                family = spec.engines[block.engine].family
                key: tuple[object, ...] = (block.exporter, family, block.model, tuple(point.options.items()))
                same.setdefault(key, []).append(block.engine)
                cells.append((block, point.options, key))
    pairs = sum(len(engines) ** 2 for engines in same.values() if len(engines) > 1)
    problem = ""
    if pairs == 0:
        problem = "it selects no two cells that differ in their engine stack alone: nothing to load elsewhere"
    elif pairs > MAX_CANDIDATES:
        problem = f"it makes {pairs} pairs of engine stacks, more than {MAX_CANDIDATES}"
    if problem:
        raise SpecErrors([spec.source.problem(grid.where, problem)])
    names = labels(spec.engines)
    products: dict[tuple[int, int, int], list[dict[str, str]]] = {}
    for block, options, key in cells:
        if len(same[key]) > 1:
            of = products.setdefault((block.exporter, block.engine, block.model), [])
            of += [{**options, FIELDS[0]: names[spec.engines[e].id]} for e in same[key]]
    out = []
    for (x, e, m), candidates in products.items():
        live, then = expander.bits(x, e, m)
        points = _untimed(expander.judge(candidates, live, then, None, spec.engines[e].family, exclude=True))
        out.append(Block(x, e, m, start, points, grid=True))
        start += len(points.kept)
    expander.dead_rules_of_grid()
    if expander.errors:
        raise SpecErrors(expander.errors)
    return tuple(out)


def _untimed(points: Points) -> Points:
    """No timing: the question is whether it loads and is right."""
    kept = tuple(replace(it, attributes=replace(it.attributes, measure=False)) for it in points.kept)
    return replace(points, kept=kept)
