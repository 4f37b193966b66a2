"""What the facts say of every stack for every value that the page offers: judged here, only looked up there.

A verdict is a pure function of the stack, the GPU and the value asked for. Which parts of the two it reads is not written
down here but noted while the judge reads them (`_Spy`); stacks and GPUs that agree in those parts get the same verdict, so that
one of them is judged for all. A new rule of builder/pick_judge.py needs no change here.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, cast

from builder.answers import Fact
from builder.pick_judge import Hardware, Judge, Question, Requirement, Verdict
from builder.pick_stacks import Candidate
from builder.values import Where

STACK, OWN, GPU = "\x01", "\x02", "\x03"
"""In a text: the stack's id, the value asked for, the GPU's name; the page puts them in."""
_OF_STACK = Fact(text=STACK, sources=(), where=Where(file="", line=0, column=0))
_OF_GPU = Fact(text=GPU, sources=(), where=Where(file="", line=0, column=0))
OF_STACK, OF_GPU = -1, -2
"""In a verdict's list of facts: all of the stack's, all of the GPU's."""

Read = tuple[str, ...]
"""A part that the judge reads: ("driver",), ("components", "cuda"), ("kind", "=", "jetson"), ("inferred", "has", "cuda")."""
_WORDS = frozenset({"device", "group", "kind", "reference"})


class Pool:
    """Values once each, by their place."""

    def __init__(self) -> None:
        self.places: dict[Hashable, int] = {}

    def add(self, value: Hashable) -> int:
        return self.places.setdefault(value, len(self.places))

    def all(self) -> list[Any]:
        return list(self.places)


class Words:
    """Sentences, facts, sources and verdicts of the page, once each."""

    def __init__(self) -> None:
        self.texts, self.facts, self.sources, self.verdicts = Pool(), Pool(), Pool(), Pool()
        self._known: dict[Hashable, int] = {}

    def fact(self, fact: Fact) -> int:
        if fact is _OF_STACK:
            return OF_STACK
        if fact is _OF_GPU:
            return OF_GPU
        return self.facts.add((fact.text, fact.doubt, tuple(self.sources.add(source) for source in fact.sources)))

    def verdict(self, verdict: Verdict, own: str = "") -> int:
        """`own`: the text of the value asked for, where the page takes any."""
        because = verdict.because.replace(own, OWN) if own else verdict.because
        told = (
            verdict.state,
            verdict.inferred,
            verdict.met,
            because,
            *[(fact.text, fact.where) for fact in verdict.facts],
        )
        found = self._known.get(told)
        if found is None:
            facts = tuple(dict.fromkeys(self.fact(fact) for fact in verdict.facts))
            made = (verdict.state, int(verdict.inferred), int(verdict.met), self.texts.add(because), facts)
            found = self._known[told] = self.verdicts.add(made)
        return found


class _Spy:
    """Stands for a stack or a GPU before the judge, and notes what is read of it. Its name and facts are no part of what is
    judged, only of what is told: in their place stand marks."""

    def __init__(self, target: Candidate | Hardware, reads: set[Read]) -> None:
        self._target, self._reads = target, reads

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if isinstance(self._target, Candidate):
            if name == "id":
                return STACK
            if name == "facts":
                return (_OF_STACK,)
        elif name == "name":
            return GPU
        elif name == "facts":
            self._reads.add(("facts",))
            return (_OF_GPU,) if found else ()
        if isinstance(found, Mapping):
            return _SpiedMapping(found, name, self._reads)
        if isinstance(found, frozenset):
            return _SpiedSet(found, name, self._reads)
        if name in _WORDS:
            return _SpiedWord(found).noting(name, self._reads)
        self._reads.add((name,))
        return found


class _SpiedWord(str):
    """A word that is only compared, most likely: what it is compared with is noted, and the whole of it where it is told."""

    __slots__ = ("name", "reads")

    def noting(self, name: str, reads: set[Read]) -> _SpiedWord:
        self.name, self.reads = name, reads
        return self

    def __eq__(self, other: object) -> bool:
        self.reads.add((self.name, "=", str.__str__(other) if isinstance(other, str) else ""))
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __len__(self) -> int:  # `if word:`
        self.reads.add((self.name, "=", ""))
        return str.__len__(self)

    def __format__(self, spec: str) -> str:
        self.reads.add((self.name,))
        return str.__format__(self, spec)

    def __str__(self) -> str:
        self.reads.add((self.name,))
        return str.__str__(self)

    __hash__ = str.__hash__


class _SpiedSet(Set[str]):
    def __init__(self, target: frozenset[str], name: str, reads: set[Read]) -> None:
        self._target, self._name, self._reads = target, name, reads

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> Any:
        return frozenset(it)

    def __contains__(self, item: object) -> bool:
        self._reads.add((self._name, "has", str(item)))
        return item in self._target

    def __iter__(self) -> Iterator[str]:
        self._reads.add((self._name,))
        return iter(self._target)

    def __len__(self) -> int:
        self._reads.add((self._name,))
        return len(self._target)


class _SpiedMapping(Mapping[str, Any]):
    def __init__(self, target: Mapping[str, Any], name: str, reads: set[Read]) -> None:
        self._target, self._name, self._reads = target, name, reads

    def __getitem__(self, key: str) -> Any:
        self._reads.add((self._name, key))
        return self._target[key]

    def __iter__(self) -> Iterator[str]:
        self._reads.add((self._name,))
        return iter(self._target)

    def __len__(self) -> int:
        self._reads.add((self._name,))
        return len(self._target)


def _part(target: Candidate | Hardware | None, read: Read) -> Hashable:
    """The part of a stack or a GPU that was read."""
    if target is None:
        return None
    found = getattr(target, read[0])
    if read == ("facts",):
        return bool(found)
    if len(read) == 3:
        return bool(read[2] in found if read[1] == "has" else read[2] == found)
    if isinstance(found, Mapping):
        return found.get(read[1]) if len(read) > 1 else tuple(found.items())
    return cast(Hashable, found)


def _classes(targets: Sequence[Any], reads: set[Read]) -> tuple[list[int], list[Any]]:
    """For each target the class of those that agree in all that is read, and one target of each class."""
    order = sorted(reads)
    pool = Pool()
    first: list[Any] = []
    places = []
    for target in targets:
        place = pool.add((target is None, *(_part(target, read) for read in order)))
        if place == len(first):
            first.append(target)
        places.append(place)
    return places, first


def table(
    judge: Judge, key: str, values: Sequence[tuple[str, Mapping[str, Any]]], stacks: Sequence[Candidate],
    gpus: Sequence[Hardware | None], words: Words, *, free: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """One requirement on every stack, by the value asked for and the GPU. `values`: (text, fields of the question). `free`:
    the values stand for others between them, so that their text is no part of the answer.

    `{"stacks": class of each stack, "gpus": class of each GPU, "cells": [GPU class][stack class] -> place in "rows", "rows":
    [value, verdict, value, verdict...]}`: a verdict holds from its value on up to the next. Raises SpecErrors.
    """
    of_stack, of_gpu = _reads(judge, key, [fields for _, fields in values], stacks, gpus)
    stack_of, some_stacks = _classes(stacks, of_stack)
    gpu_of, some_gpus = _classes(gpus, of_gpu)
    some_stacks = [replace(stack, id=STACK, facts=(_OF_STACK,)) for stack in some_stacks]
    rows = Pool()
    cells: list[list[int]] = []
    for gpu in some_gpus:
        if gpu is not None:
            gpu = replace(gpu, name=GPU, facts=(_OF_GPU,) if gpu.facts else ())
        found: list[list[int]] = [[] for _ in some_stacks]
        for place, (text, fields) in enumerate(values):
            question, asked = _question(key, fields, gpu)
            own = text if free else ""
            for row, stack in zip(found, some_stacks, strict=True):
                verdict = words.verdict(judge.verdict(stack, question, asked), own)
                if not row or row[-1] != verdict:
                    row += (place, verdict)
        cells.append([rows.add(tuple(row)) for row in found])
    return {"stacks": stack_of, "gpus": gpu_of, "cells": cells, "rows": rows.all()}


def _question(key: str, fields: Mapping[str, Any], gpu: Hardware | None) -> tuple[Question, Requirement]:
    question = Question(**{"gpu": gpu, **fields})
    return question, next(found for found in question.requirements if found.key == key)


def _reads(
    judge: Judge, key: str, values: Sequence[Mapping[str, Any]], stacks: Sequence[Candidate], gpus: Sequence[Hardware | None]
) -> tuple[set[Read], set[Read]]:  # fmt: skip
    """What the judge reads of a stack and of a GPU for one requirement: of one of each class, with values and GPUs drawn by
    lot, until nothing new is read. (tests/test_choose.py judges stacks one by one and compares.)"""
    lot = random.Random(0)
    of_stack: set[Read] = set()
    of_gpu: set[Read] = set()
    known = -1
    while known < len(of_stack) + len(of_gpu):
        known = len(of_stack) + len(of_gpu)
        some_stacks = _classes(stacks, of_stack)[1]
        some_gpus = _classes(gpus, of_gpu)[1]
        for turn in range(max(100, len(some_stacks) * 2, len(some_gpus) * 2)):
            stack, gpu = some_stacks[turn % len(some_stacks)], some_gpus[turn % len(some_gpus)]
            if turn % 2:
                stack, gpu = lot.choice(some_stacks), lot.choice(some_gpus)
            fields = lot.choice(values)
            _, asked = _question(key, fields, gpu)
            spied = cast(Hardware, _Spy(gpu, of_gpu)) if gpu is not None else None
            fresh = type(judge)(judge.catalog)  # which remembers no answer, or it would not read what was asked before
            fresh.verdict(cast(Candidate, _Spy(stack, of_stack)), Question(**{"gpu": spied, **fields}), asked)
    return of_stack, of_gpu


def needs(judge: Judge, components: Sequence[str], stacks: Sequence[Candidate], words: Words) -> dict[str, list[Any]]:
    """Component -> for each stack its version ('' for none) and its verdicts: when the clauses take that version (any, when
    it has none), when they do not, and when they ask for more numbers than are recorded (-1: cannot be)."""
    out: dict[str, list[Any]] = {}
    pool = Pool()
    for name in components:
        rows = []
        for stack in stacks:
            held = stack.components.get(name, "")
            # A clause that takes nothing, and one that names a number more than is recorded.
            found = []
            for clause in ("", "<0", f"<={held}.1") if held else ("",):
                question = Question(needs={name: clause})
                verdict = judge.verdict(stack, question, question.requirements[0])
                found.append(words.verdict(_marked(verdict, stack)))
            few = found[-1] if found[-1] not in found[:2] else -1
            rows.append(pool.add((held, found[0], found[min(1, len(found) - 1)], few)))
        out[name] = rows
    out[""] = pool.all()
    return out


def _marked(verdict: Verdict, stack: Candidate) -> Verdict:
    own = frozenset(stack.facts)
    facts = tuple(_OF_STACK if fact in own else fact for fact in verdict.facts)
    return replace(verdict, because=verdict.because.replace(stack.id, STACK), facts=facts)
