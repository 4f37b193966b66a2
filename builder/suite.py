"""Suites: the cases that somebody else wrote, as cells of a matrix (`suites:` in matrix.yaml).

    suites:
      operators: {package: onnx, version: 1.23.2, kind: node}

A suite is declared like a model's source and becomes one cell for each engine stack and case: `suite=operators and
operator=Conv`, `case=test_conv_*`. It does not multiply by opset, precision or shapes: a case brings its model. Suites
are in a selection only when it names one of their fields (`suite`, `operator`, `case`), a cell's id or its slug, so that
thousands of small cases never swell a group that was written for models.

Which cases there are is known without running anything: `builder/suites/` has a list for each version of a package, made
by `builder/suite_list.py` and held against the package whenever its cases are exported.
"""

from __future__ import annotations

import functools
import gzip
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from packaging.version import Version

from builder import versions
from builder.nodes import Map, Node, Source, Text
from builder.section import Section
from builder.values import Stack, Where, digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from builder.select import Expr

LISTS = Path(__file__).parent / "suites"
KEYS = ("package", "version", "kind", "timeout", "precision", "target", "strict")
KINDS = ("node",)
PRECISIONS = ("f32", "default")
FIELDS = ("suite", "operator", "case")
"""The fields that cells of suites alone have."""
FAMILIES = {"onnx": "onnx"}
"""Package -> the family whose environment has it."""
TIMEOUT = 20.0
"""Seconds for one case: they are of a few bytes, and the slowest was seen to take 0.4 s."""
SHARD = 1000
"""Cases of one step, about: so many that starting the step does not count, so few that one can be run again."""
_LIST = re.compile(r"(?P<package>[a-z]+)-(?P<version>.+)-(?P<kind>[a-z]+)\.json\.gz")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One small model with its inputs and what they must give."""

    name: str
    operator: str
    domain: str
    """The operator's: '' for ONNX's own."""
    opset: int
    """Version of that domain which the case's model asks for."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """One entry of `suites:`."""

    name: str
    package: str
    version: str
    kind: str
    timeout: float
    """Seconds for one case."""
    precision: str
    """`f32`: computed in f32 wherever the library must be asked for it; `default`: as the library itself chooses."""
    target: str
    """GPU that engines are built for where the library wants to be told: `sm89`; '' for none."""
    strict: bool
    """Whether a case that fails, and that no `expect:` names, is red. A suite mostly records what works where."""
    stack: Stack
    """Where its cases are exported: one of the exporters', or one of its own."""
    cases: tuple[Case, ...]
    """By name."""
    where: Where

    BUDGET: ClassVar[float] = 7200.0
    """Seconds for all cases of a shard. TensorRT for RTX, the slowest, was seen to take 2.5 s for a case on a busy machine."""

    @cached_property
    def shards(self) -> tuple[tuple[str, ...], ...]:
        """The names of the cases of each step: those of an operator together, operators by name."""
        out: list[list[str]] = [[]]
        operator = ""
        for case in sorted(self.cases, key=lambda case: (case.operator, case.name)):
            if len(out[-1]) >= SHARD and case.operator != operator:
                out.append([])
            operator = case.operator
            out[-1].append(case.name)
        return tuple(tuple(names) for names in out)

    @cached_property
    def shard_of(self) -> Mapping[str, int]:
        """Case -> its shard."""
        return {name: index for index, names in enumerate(self.shards) for name in names}

    @cached_property
    def by_name(self) -> Mapping[str, Case]:
        return {case.name: case for case in self.cases}

    @cached_property
    def asked(self) -> dict[str, str]:
        """What the worker that exports the cases is told."""
        return {"package": self.package, "version": self.version, "kind": self.kind}

    @cached_property
    def names_digest(self) -> str:
        return digest([case.name for case in self.cases])


def known() -> list[tuple[str, str, str]]:
    """(package, version, kind) of every list that there is, versions in their order."""
    found = []
    for path in LISTS.glob("*.json.gz"):
        if match := _LIST.fullmatch(path.name):
            found.append((match["package"], match["version"], match["kind"]))
    return sorted(found, key=lambda entry: (entry[0], versions.version(entry[1]) or Version("0"), entry[2]))


@functools.cache
def listed(package: str, version: str, kind: str) -> tuple[Case, ...]:
    """The cases of a list, by name. Raises FileNotFoundError when there is none."""
    path = LISTS / f"{package}-{version}-{kind}.json.gz"
    data = json.loads(gzip.decompress(path.read_bytes()))
    return tuple(
        Case(name=name, operator=operator, domain=domain, opset=opset)
        for name, operator, domain, opset in data["cases"]
    )


def read(
    name: str, node: Node, where: Where, source: Source, expand: Callable[[Node, str], Sequence[Stack]]
) -> Suite | None:
    """A suite from its entry; None when an error was noted. `expand` gives the exporter stacks of an entry's node."""
    section = Section(source, node, KEYS, f"suite {name!r}")
    if not section.ok:
        return None
    before = len(source.errors)
    package = section.choice("package", tuple(FAMILIES), required=True)
    version = section.text("version", required=True)
    kind = section.choice("kind", KINDS, default="node") or "node"
    cases: tuple[Case, ...] = ()
    if package and version:
        try:
            cases = listed(package, version, kind)
        except OSError:
            there = [entry[1] for entry in known() if entry[0] == package and entry[2] == kind]
            section.error("version", f"there is no list of the cases of {package} {version}",
                          f"there are {', '.join(there)}; builder/suite_list.py makes one")  # fmt: skip
    target = section.text("target")
    if target and not re.fullmatch(r"sm[0-9]{2,3}", target):
        section.error("target", f"{target!r} is not a compute capability", "write sm89")
    if len(source.errors) > before:
        return None
    axis = FAMILIES[package]
    family = Text(axis, plain=True, where=where)
    entry = Map({"family": family, axis: Text(version, plain=False, where=section.where("version"))},
                {"family": where, axis: section.where("version")}, where, 3)  # fmt: skip
    stacks = expand(entry, name)
    if len(stacks) != 1:
        return None
    return Suite(
        name=name, package=package, version=version, kind=kind, timeout=section.duration("timeout") or TIMEOUT,
        precision=section.choice("precision", PRECISIONS, default="f32") or "f32", target=target,
        strict=section.boolean("strict", False), stack=stacks[0], cases=cases, where=where,
    )  # fmt: skip


def options_of(suites: Sequence[Suite]) -> dict[str, tuple[str, ...]]:
    """Field -> the values that the cells of these suites have; {} without suites."""
    if not suites:
        return {}
    cases = {case.name: case for suite in suites for case in suite.cases}
    return {
        "suite": tuple(suite.name for suite in suites),
        "operator": tuple(sorted({case.operator for case in cases.values()})),
        "case": tuple(cases),
    }


def mentions(expr: Expr, groups: Mapping[str, Expr] | None = None, fields: Sequence[str] = FIELDS) -> bool:
    """Whether a selector is about suites: whether it, or a group that it takes in, names one of their fields."""
    from builder.select import Compare, Word, leaves

    for leaf in leaves(expr):
        if isinstance(leaf, Compare) and leaf.field in fields:
            return True
        if isinstance(leaf, Word) and groups and leaf.text in groups:
            others = {name: other for name, other in groups.items() if name != leaf.text}
            if mentions(groups[leaf.text], others, fields):
                return True
    return False
