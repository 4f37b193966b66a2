"""In which order to look for the first tensor that goes wrong. Pure: asks `measure`, starts nothing.

A wrong output is followed upstream. Of what leads to it a few tensors at a time are marked, spread evenly over the graph's
topological order and within a limit on their bytes; the earliest that is wrong takes the output's place, and what leads to a
right one is passed over, until nothing is left between a wrong tensor and right ones. That a right tensor has right ones behind
it is only supposed while there is something else to look at: in the end every input of the wrong one is measured together with
it, in one engine, and a wrong input takes its place in turn. A tensor whose fault goes no further (all that is made of it is
right) is not the one, and the search goes on from where it was.

An engine with further outputs is another engine: what it fuses changes. So each answer says whether the output is still wrong.
Where it is not, nothing that the answer says counts; fewer tensors are marked, down to one, and one that heals the engine by
itself is told and left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

MOST = 8
"""Tensors that are marked at a time: each round leaves a ninth of them."""
SUDDEN = 4.0
"""An error that is so many times the largest of the inputs' is that node's own; below, it has grown on the way."""

HEALED, UNSTEADY = "healed", "unsteady"


@dataclass(frozen=True, kw_only=True)
class Graph:
    """An engine's model as part `outline` of the worker's job gives it (builder/worker/locate_model.py)."""

    nodes: Sequence[Mapping[str, Any]]
    """{"name", "operator", "inputs", "outputs"}, in topological order."""
    pairs: Sequence[tuple[str, str]]
    """(tensor that the exported model has too, where it is marked), in that order."""

    @cached_property
    def maker(self) -> dict[str, int]:
        return {name: index for index, node in enumerate(self.nodes) for name in node["outputs"]}

    @cached_property
    def marks(self) -> dict[str, str]:
        return dict(self.pairs)

    @cached_property
    def order(self) -> dict[str, int]:
        return {name: place for place, (name, _) in enumerate(self.pairs)}

    @cached_property
    def _nearest(self) -> dict[int, frozenset[str]]:
        """Node -> the nearest tensors of `pairs` among what it takes, itself or through nodes between."""
        out: dict[int, frozenset[str]] = {}
        for index, node in enumerate(self.nodes):
            found: set[str] = set()
            for name in node["inputs"]:
                if name in self.order:
                    found.add(name)
                elif name in self.maker:
                    found |= out[self.maker[name]]
            out[index] = frozenset(found)
        return out

    def inputs(self, tensor: str) -> list[str]:
        """The nearest tensors upstream, in order. Empty where only the model's inputs and weights are."""
        at = self.maker.get(self.marks.get(tensor, tensor))
        # What is marked behind its own quantisation comes of the node that made it.
        at = self.maker.get(tensor, at)
        return sorted(self._nearest[at], key=self.order.__getitem__) if at is not None else []

    def upstream(self, tensor: str) -> set[str]:
        """All tensors of `pairs` that lead to it."""
        found: set[str] = set()
        edge = set(self.inputs(tensor))
        while edge:
            found |= edge
            edge = {name for one in edge for name in self.inputs(one)} - found
        return found

    def users(self, tensor: str, within: Iterable[str]) -> list[str]:
        """Those of `within` that take it directly."""
        return [name for name in within if tensor in self.inputs(name)]

    def between(self, tensor: str, edge: Iterable[str]) -> list[int]:
        """The nodes that lead to where a tensor is marked, from `edge` (or the model's inputs) on."""
        stop, found = set(edge), set[int]()
        stack = [self.marks.get(tensor, tensor)]
        while stack:
            at = self.maker.get(stack.pop())
            if at is None or at in found:
                continue
            found.add(at)
            stack.extend(name for name in self.nodes[at]["inputs"] if name not in stop)
        return sorted(found)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What an engine with some tensors marked gave."""

    output: Mapping[str, Any]
    """Of the output that is wrong: `difference` of the worker."""
    tensors: Mapping[str, Mapping[str, Any]]


class Refused(Exception):
    """The library did not build or run the engine with these outputs; the message says why."""


def wrong(entry: Mapping[str, Any], limit: float) -> bool:
    return bool(entry["wrong"]) or (entry["error"] is not None and entry["error"] > limit)


@dataclass(kw_only=True)
class Search:
    """One search. `measure(tensors)` builds and runs an engine with these marked, or raises Refused; `size(tensor)` its bytes."""

    graph: Graph
    limit: float
    """Errors above it are wrong."""
    measure: Callable[[Sequence[str]], Reading]
    size: Callable[[str], int]
    memory: int = 256 << 20
    """Bytes of marked tensors at a time."""
    tries: int = 40
    """Engines that are built at most."""
    most: int = MOST
    known: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Tensor -> its entry, as last measured in an engine that was still wrong."""
    left: dict[str, str] = field(default_factory=dict)
    """Tensors of which nothing can be said -> why: HEALED where marking them made the output right, UNSTEADY where they are wrong
    or right by what else is marked, else the library's refusal."""
    absorbed: list[str] = field(default_factory=list)
    """Wrong tensors whose fault went no further."""
    used: int = 0
    finished: bool = True
    """Whether the search came to its end before `tries`."""
    confirmed: bool = False
    """Whether the first wrong tensor and all its inputs were seen in one engine that was still wrong."""

    def run(self, output: str) -> str | None:
        """The first tensor that goes wrong on the way to `output`, `output` itself where only that does; None where the
        output is right and so is all that was looked at."""
        trail = [output]
        bad = self._down(trail)
        while bad is not None:
            if not self._absorbed(bad, trail):
                return bad
            if self._bad(bad):
                self.absorbed.append(bad)
            else:
                self.left[bad] = UNSTEADY
            if len(trail) < 2:
                return bad
            trail.pop()
            bad = self._down(trail)
        return bad

    def survey(self, output: str) -> None:
        """Measure tensors all along the way to an output that is right."""
        candidates = self._open(output)
        while candidates and self.used < 3:
            self._ask(self._choose(candidates), still=False)
            candidates = self._open(output)

    def _down(self, trail: list[str]) -> str:
        """Follow the last of the trail upstream; the trail grows by every wrong tensor on the way."""
        together = True
        while True:
            bad = trail[-1]
            candidates = self._between(bad)
            inputs = [name for name in self.graph.inputs(bad) if self._usable(name)]
            unknown = [name for name in inputs if name not in self.known]
            if not candidates and not unknown and (self.confirmed or not inputs or not together):
                return bad
            if self.used >= self.tries:
                self.finished = False
                return bad
            if candidates:
                chosen = self._choose(candidates)
            else:  # every input, whatever was supposed of it, with the tensor itself in the same engine if that can be
                chosen = self._fit([*unknown, *inputs], keep=bad if together else "")
                if set(chosen) <= {bad}:
                    together = False
                    continue
            got = self._ask(chosen)
            if got is None:
                together = together and bool(candidates)
                continue
            seen = [name for name in sorted(got, key=self.graph.order.__getitem__) if name != bad and self._bad(name)]
            if seen:
                trail.append(seen[0])
                self.confirmed, together = False, True
            elif not candidates and set(inputs) <= set(got):
                self.confirmed = bad not in self.graph.order or (bad in got and self._bad(bad))
                together = self.confirmed
            elif not candidates and not unknown:
                together = False

    def _absorbed(self, bad: str, trail: Sequence[str]) -> bool:
        """Whether all that is made of a wrong tensor, on the way to the last wrong one before it, is right."""
        if len(trail) < 2:
            return False
        way = self.graph.upstream(trail[-2]) | {trail[-2]}
        users = self.graph.users(bad, way)
        if not users or trail[-2] in users or any(name in self.known and self._bad(name) for name in users):
            return False
        asked = [name for name in users if self._usable(name)]
        if not asked or len(asked) < len(users) or self.used >= self.tries:
            return False
        got = self._ask(self._fit(asked, keep=bad))  # in one engine: what else is marked may change either
        return got is not None and set(users) <= got and not any(self._bad(name) for name in users)

    # Choosing ---------------------------------------------------------------------------------------------------

    def _usable(self, name: str) -> bool:
        return name in self.graph.order and name not in self.left and name not in self.absorbed

    def _bad(self, name: str) -> bool:
        return wrong(self.known[name], self.limit)

    def _open(self, bad: str) -> list[str]:
        return sorted(
            (name for name in self.graph.upstream(bad) if self._usable(name) and name not in self.known),
            key=self.graph.order.__getitem__,
        )

    def _between(self, bad: str) -> list[str]:
        """What leads to a wrong tensor and is neither measured nor behind a right one, in order."""
        right = [name for name in self.graph.upstream(bad) if name in self.known and not self._bad(name)]
        passed = set[str]().union(*(self.graph.upstream(name) for name in right)) if right else set()
        return [name for name in self._open(bad) if name not in passed]

    def _choose(self, candidates: Sequence[str]) -> list[str]:
        """At most `most`, evenly spread, within the memory."""
        number = min(self.most, len(candidates))
        places = sorted({math.ceil((at + 1) * len(candidates) / (number + 1)) - 1 for at in range(number)})
        return self._fit([candidates[place] for place in places])

    def _fit(self, names: Sequence[str], keep: str = "") -> list[str]:
        """The first that fit into the memory, one at least; `keep`, if there is such a tensor, before all."""
        out = [keep] if keep in self.graph.order else []
        total = sum(self.size(name) for name in out)
        for name in names:
            if name in out or name not in self.graph.order:
                continue
            if out and (total + self.size(name) > self.memory or len(out) >= max(self.most, 2)):
                continue
            out.append(name)
            total += self.size(name)
        return out

    # Asking -----------------------------------------------------------------------------------------------------

    def _ask(self, names: Sequence[str], *, still: bool = True) -> set[str] | None:
        """Measure; the tensors that were, or None where the answer does not count. Fewer are asked for next time then, and a
        single one that was asked for in vain is left out. `still`: the output has to be wrong as before."""
        if not names:
            return None
        self.used += 1
        try:
            reading = self.measure(names)
        except Refused as error:
            trouble = str(error)
        else:
            if not still or wrong(reading.output, self.limit):
                self.known.update(reading.tensors)
                return set(reading.tensors)
            trouble = HEALED
        if len(names) == 1:
            self.left[names[0]] = trouble
            self.most = MOST
        else:
            self.most = max(1, len(names) // 2)
        return None
