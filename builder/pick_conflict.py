"""Nothing fits: which requirements exclude each other, and what to relax. Exact, since both are few."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from builder import pick_model, versions
from builder.facts_records import PRECISIONS, Capability, Catalog, Gpu, Minimum, MinorVersions, Toolkit
from builder.pick_judge import Hardware, Judge, Question, Requirement, Verdict
from builder.pick_stacks import Candidate

Judged = tuple[Candidate, tuple[Verdict, ...]]
_SAME = {"gpu": ("gpu", "driver", "precision"), "opset": ("opset", "ir")}
"""Requirement -> those whose answer changes with it: what a driver runs depends on the kind of GPU; a model that is converted
to another opset is written anew, in an IR version of its own."""


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """One requirement of the smallest set that nothing meets. `verdict`: what speaks against the newest of the stacks that
    meet the others of the set. `relax`: the nearest value with which something would fit, in words; '' when changing this
    requirement alone helps nothing. `stack`: that something."""

    requirement: Requirement
    verdict: Verdict | None
    relax: str
    stack: str = ""


def smallest(judged: Sequence[Judged], requirements: Sequence[Requirement]) -> tuple[Requirement, ...]:
    """The least set of requirements that no stack meets together; () when some stack meets all of them.

    Of several sets as small, the first in the order of the requirements.
    """
    masks = {
        sum(1 << place for place, verdict in enumerate(verdicts) if not verdict.met) for _, verdicts in judged
    }  # fmt: skip
    for size in range(1, len(requirements) + 1):
        for chosen in combinations(range(len(requirements)), size):
            asked = sum(1 << place for place in chosen)
            if all(mask & asked for mask in masks):
                return tuple(requirements[place] for place in chosen)
    return ()


def explain(judged: Sequence[Judged], question: Question, judge: Judge) -> tuple[Conflict, ...]:
    """The smallest conflict of a question that no stack fits, each requirement with its fact and what to relax."""
    requirements = question.requirements
    core = smallest(judged, requirements)
    return tuple(_conflict(requirement, core, judged, question, judge) for requirement in core)


def _conflict(
    requirement: Requirement, core: Sequence[Requirement], judged: Sequence[Judged], question: Question, judge: Judge
) -> Conflict:
    others = {item.key for item in core} - set(_SAME.get(requirement.key, (requirement.key,)))
    near = [
        (stack, next(verdict for verdict in verdicts if verdict.requirement.key == requirement.key))
        for stack, verdicts in judged
        if not any(not verdict.met for verdict in verdicts if verdict.requirement.key in others)
    ]
    relax, found = relaxed(requirement, judged, question, judge)
    verdict = _nearest(requirement, near, question, found)
    if verdict is not None and verdict.met and question.gpu is not None:  # what is against it is the GPU's own nature
        verdict = replace(verdict, because="; ".join(fact.text for fact in question.gpu.facts) or question.gpu.name,
                          facts=question.gpu.facts)  # fmt: skip
    return Conflict(requirement=requirement, verdict=verdict, relax=relax, stack=found)


def _nearest(
    requirement: Requirement, near: Sequence[tuple[Candidate, Verdict]], question: Question, found: str
) -> Verdict | None:
    """Of the stacks that meet the others, the verdict on the one that comes nearest: that which would fit if this
    requirement were relaxed, else the one with the nearest version, else the newest."""
    for stack, verdict in near:
        if stack.id == found:
            return verdict
    name = requirement.key.removeprefix("need:")
    if name in question.needs:
        held = {stack.components[name]: verdict for stack, verdict in near if name in stack.components}
        for value in _near(question.needs[name], versions.ordered(held)):
            return held[value]
    return near[-1][1] if near else None


def relaxed(requirement: Requirement, judged: Sequence[Judged], question: Question, judge: Judge) -> tuple[str, str]:
    """The nearest value of one requirement with which a stack would fit, in words, and that stack; ('', '') for none."""
    key = requirement.key
    left = [
        stack for stack, verdicts in judged
        if all(verdict.met or verdict.requirement.key in _SAME.get(key, (key,)) for verdict in verdicts)
    ]  # fmt: skip
    for value, words, asked in _values(requirement, left, question, judge.catalog):
        for stack in reversed(left):
            if key.startswith("need:"):
                if stack.components.get(key.removeprefix("need:")) == value:
                    return words, stack.id
            elif _meets(stack, asked, key, judge):
                return words, stack.id
    if key.startswith("need:") and left:
        return f"do without {key.removeprefix('need:')}", left[-1].id
    return "", ""


def _meets(stack: Candidate, asked: Question, key: str, judge: Judge) -> bool:
    """Whether a stack meets the relaxed requirement for sure, and those that change with it: advice is no guess."""
    changed = [requirement for requirement in asked.requirements if requirement.key in _SAME.get(key, (key,))]
    return all(judge.verdict(stack, asked, requirement).state == "supported" for requirement in changed)


def _values(
    requirement: Requirement, left: Sequence[Candidate], question: Question, catalog: Catalog
) -> list[tuple[str, str, Question]]:
    """Other values of a requirement, nearest first: (value, what to do, the question with it)."""
    key = requirement.key
    if key.startswith("need:"):
        name = key.removeprefix("need:")
        held = versions.ordered({stack.components[name] for stack in left if name in stack.components})
        return [(value, f"accept {name} {value}", question) for value in _near(question.needs[name], held)]
    ways: Mapping[str, Callable[[], list[tuple[str, str, Question]]]] = {
        "driver": lambda: _drivers(left, question, catalog),
        "gpu": lambda: _gpus(question, catalog),
        "python": lambda: _pythons(left, question),
        "precision": lambda: [
            (name, f"use {name}", replace(question, precision=name)) for name in (*PRECISIONS[1:], "fp32")
            if name != question.precision
        ],
        "opset": lambda: [
            (str(value), f"convert or export the model to opset {value}", replace(question, opset=value, ir=0))
            for value in _lower_first(question.opset, pick_model.newest(catalog)[0])
        ],
        "ir": lambda: [
            (str(value), f"save the model with IR version {value}", replace(question, ir=value))
            for value in _lower_first(question.ir, pick_model.newest(catalog)[1])
        ],
        "platform": lambda: [
            (name, f"use {name}", replace(question, platform=name))
            for name in sorted({name for stack in left for name in stack.platforms}) if name != question.platform
        ],
    }  # fmt: skip
    return ways[key]()


def _lower_first(asked: int, newest: int) -> list[int]:
    """What a model may be written as: what is older, nearest first, since what reads the new reads the old; then newer."""
    return [*range(min(asked - 1, newest), 0, -1), *range(asked + 1, newest + 1)]


def _near(clause: str, held: Sequence[str]) -> list[str]:
    """Versions, those nearest to what was asked first: below its bound the newest, above it the oldest."""
    named = (part.strip(" <>=!~").removesuffix(".*") for part in clause.split(","))
    bound = next((found for text in named if (found := versions.version(text))), None)
    if bound is None:
        return list(reversed(held))
    below = [value for value in held if (parsed := versions.version(value)) is None or parsed < bound]
    above = [value for value in held if value not in below]
    return [*reversed(below), *above]


def _drivers(left: Sequence[Candidate], question: Question, catalog: Catalog) -> list[tuple[str, str, Question]]:
    known = {entry.driver for table in (Toolkit, MinorVersions, Minimum) for entry in catalog.table(table).values()}  # type: ignore[attr-defined]
    known |= {stack.driver for stack in left if stack.driver}
    mine = versions.version(question.driver)
    newer = [value for value in versions.ordered(known) if mine is None or (versions.version(value) or mine) > mine]
    return [(value, f"move the driver to {value} or newer", replace(question, driver=value)) for value in newer]


def _pythons(left: Sequence[Candidate], question: Question) -> list[tuple[str, str, Question]]:
    offered = versions.ordered({".".join(python.split(".")[:2]) for stack in left for python in stack.pythons})

    def numbers(python: str) -> tuple[int, int]:
        major, _, rest = python.partition(".")
        return int(major), int(rest.partition(".")[0] or 0)

    mine = numbers(question.python)
    offered.sort(key=lambda value: (abs(numbers(value)[0] - mine[0]), abs(numbers(value)[1] - mine[1])))
    return [(value, f"use Python {value}", replace(question, python=value)) for value in offered]


def _gpus(question: Question, catalog: Catalog) -> list[tuple[str, str, Question]]:
    gpu = question.gpu
    assert gpu is not None
    capabilities = versions.ordered(catalog.table(Capability))
    if not gpu.capabilities:
        one = Hardware(name="any", capabilities=(capabilities[-1],))
        return [("any", "use a machine with an NVIDIA GPU", replace(question, gpu=one))]
    mine = capabilities.index(gpu.capabilities[0]) if gpu.capabilities[0] in capabilities else len(capabilities)
    order = sorted(range(len(capabilities)), key=lambda place: (abs(place - mine), -place))
    out = []
    for place in order:
        value = capabilities[place]
        board = gpu.kind == "jetson"  # nobody swaps a card for a board
        kinds = [
            entry
            for entry in catalog.table(Gpu).values()
            if entry.capability == value and (entry.kind == "jetson") == board
        ]
        named = [entry for entry in kinds if entry.kind == gpu.kind] or kinds
        if value not in gpu.capabilities and named:
            other = Hardware(name=named[-1].name, capabilities=(value,), kind=named[-1].kind)
            words = f"use a GPU of compute capability {value}, such as {named[-1].name}"
            out.append((value, words, replace(question, gpu=other)))
    out.append(("none", "do without a GPU", replace(question, gpu=Hardware(name="none"))))
    return out
