"""What the stacks of a bisection are locked to: the matrix's lock, and beside it what releases that the matrix does not hold were
resolved to, kept in the lab, so that the same release is the same environment the next time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from builder import isolation, lock, locking
from builder.environment import engine, uv
from builder.lock import Lock, LockError, Pins
from builder.pipeline import Work
from builder.project import utc
from builder.store import Store
from builder.values import Cell, Stack

FILE = "bisect.lock"
"""In the lab."""


class Locks:
    def __init__(self, work: Work, lab: Store) -> None:
        self.work, self.lab = work, lab
        self.matrix = lock.read(work.project.lock) or Lock(cutoff=utc())
        newest = self.matrix.cutoffs()[1]
        self.kept = lock.read(lab.root / FILE) or Lock(cutoff=newest)
        if self.kept.cutoff < newest:  # what could not be had then may be there now
            self.kept.move(newest)
            self.kept.stacks = {name: pins for name, pins in self.kept.stacks.items() if not pins.unresolved}

    def whole(self) -> Lock:
        """Both, the matrix's first."""
        stacks = {**self.kept.stacks, **self.matrix.stacks}
        return replace(self.matrix, stacks=stacks)

    def known(self, stack: Stack) -> Pins | None:
        return self.whole().entry(stack)

    def need(self, cell: Cell, moved: Sequence[Stack]) -> None:
        """Raises LockError where the matrix's lock lacks what a cell needs besides the stacks that are moved."""
        own = {stack.id for stack in moved}
        stacks = [stack for stack in locking.stacks_of(self.work, [cell]) if stack.id not in own]
        recipe = self.work.spec.recipes.get(cell.model)
        absent, sources = self.matrix.missing(stacks, [recipe] if recipe is not None else [])
        if names := [*(stack.id for stack in absent), *sources]:
            msg = f"{self.work.project.lock}: no entry for {', '.join(names)}; run `enginematrix lock`"
            raise LockError(msg)

    def ensure(self, stack: Stack) -> str:
        """See that a stack is locked; why it cannot be, '' where it is. Raises InfrastructureError when the index is away."""
        family = self.work.spec.families[stack.family]
        realised = isolation.choose(family, self.work.isolation, engine.available())
        if realised == "docker" and stack.base not in self.matrix.images:
            return f"its image {stack.base} is not in the lock; put the release into the matrix"
        pins = self.known(stack)
        if pins is None:
            pins = self._resolve(stack)
            self.kept.stacks[stack.id] = pins
            self.lab.write_text(self.lab.root / FILE, self.kept.dumps())
        return short(pins.unresolved)

    def _resolve(self, stack: Stack) -> Pins:
        """The pins of a stack under the lock's cut-off; of a release that is younger than that, under today's."""
        none = Pins(python=stack.python, requirements=lock.lines(stack), packages=(), hashes={})
        try:
            return uv.resolve(stack, self.kept.cutoff)
        except uv.PackageError as error:
            if "exclude-newer" not in error.text:
                return replace(none, unresolved=str(error))
        now = utc()
        try:
            return replace(uv.resolve(stack, now), cutoff=now)
        except uv.PackageError as error:
            return replace(none, unresolved=str(error), cutoff=now)


def short(reason: str) -> str:
    """What uv says of a set that cannot be, without the stack's name and what it concludes.

    >>> short("onnx-1.5-py3.11: Because onnx==1.5 has no usable wheels and you require onnx==1.5, we can conclude that ...")
    'onnx==1.5 has no usable wheels'
    """
    first = reason.partition("\n")[0]
    found = re.search(r": Because (.*?)(?:,? and you require .*|, we can conclude .*)?$", first)
    return found[1] if found else first
