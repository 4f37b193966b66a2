"""Locking, as commands do it: which stacks need an entry in matrix.lock, and asking the package index for it.

The lock's data is `lock.py`; asking is `environment/uv.py`."""

from __future__ import annotations

import dataclasses
import datetime
import fnmatch
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from builder import __version__, lock, machine
from builder import select as select_
from builder.errors import InfrastructureError, UsageError
from builder.fields import of_stack
from builder.project import utc
from builder.project import write as write_file
from builder.select import SelectError
from builder.values import Cell, Recipe, Stack

if TYPE_CHECKING:
    from builder.pipeline import Work


def stacks_of(work: Work, cells: Sequence[Cell]) -> list[Stack]:
    """Every stack that these cells need, once: exporters, engines, the references' and the tools'."""
    stacks = [*(cell.exporter for cell in cells), *(cell.engine for cell in cells)]
    stacks += [work.spec.reference_stack(model) for model in dict.fromkeys(cell.model for cell in cells)]
    if work.spec.tools is not None:
        stacks.append(work.spec.tools)
    return list({stack.id: stack for stack in stacks}.values())


def named(work: Work, text: str) -> list[Stack]:
    """The stacks that an expression names (`lock --update`). It is held against each stack's own fields, never against
    cells: pins that nobody named must stay. `engine...` takes engines only and `exporter...` exporters only; a word is a
    stack's name, with wildcards, or `all`. Raises SelectError for what is no stack's, UsageError when nothing fits."""
    stacks = stacks_of(work, work.cells)
    roles = {
        "engine": {cell.engine.id for cell in work.cells},
        "exporter": {stack.id for stack in stacks if stack.role == "exporter"},
    }
    known = work.spec.fields

    def leaf(term: select_.Leaf) -> int:
        if isinstance(term, select_.Word):
            if term.text in work.spec.groups or term.text == "changed" or term.text.startswith("#"):
                hint = f"write a stack's name: {stacks[0].id}"
                raise SelectError(text, term.offset, f"{term.text!r} names cells, not stacks", hint)
            fits = [term.text == "all" or fnmatch.fnmatchcase(stack.id, term.text) for stack in stacks]
        else:
            role, dot, field = known.names.get(term.field, term.field).partition(".")
            if role not in roles or not dot:
                hint = "write a field of a stack: engine, engine.family, exporter.python"
                raise SelectError(text, term.offset, f"{term.field!r} is no field of a stack", hint)
            fits = [stack.id in roles[role] and term.accepts(of_stack(stack, field)) for stack in stacks]
        return sum(1 << number for number, fit in enumerate(fits) if fit)

    mask = select_.evaluate(select_.parse(text), leaf, (1 << len(stacks)) - 1)
    found = [stack for number, stack in enumerate(stacks) if mask >> number & 1]
    if not found:
        msg = f"no stack of the matrix fits {text!r}; there are " + ", ".join(stack.id for stack in stacks)
        raise UsageError(msg)
    return found


def lockable(work: Work, here: machine.Machine) -> tuple[list[Stack], list[Recipe]]:
    """The stacks that this machine can make environments for, and the recipes, whose entries in the lock a run needs."""
    families = work.spec.families
    stacks = [s for s in stacks_of(work, work.cells) if all(here.has(need) for need in families[s.family].needs)]
    models = {cell.model for cell in work.cells}
    return stacks, [recipe for name, recipe in work.spec.recipes.items() if name in models]


def ensure_locked(work: Work, here: machine.Machine, *, frozen: bool, say: Callable[[str], None]) -> lock.Lock:
    """The lock, with an entry for every stack that can run here; asks the package index for what is missing.

    Raises LockError when something is missing and `frozen`, InfrastructureError when the index cannot be reached."""
    current = lock.read(work.project.lock)
    stacks, sources = (current or lock.Lock(cutoff=utc())).missing(*lockable(work, here))
    if not stacks and not sources and current is not None:
        return current
    if frozen:
        names = ", ".join([*(stack.id for stack in stacks), *sources][:5])
        msg = f"{work.project.lock}: no entry for {names}; run `enginematrix lock` and commit the file"
        raise lock.LockError(msg)
    return update_lock(work, here, current, stacks, sources, cutoff=None, say=say)[0]


def update_lock(
    work: Work, here: machine.Machine, current: lock.Lock | None, stacks: Sequence[Stack], sources: Sequence[str], *,
    cutoff: str | None, whole: bool = False, say: Callable[[str], None], write: bool = True,
) -> tuple[lock.Lock, list[str]]:  # fmt: skip
    """Resolve stacks and data packages and write the lock. The cut-off is the lock's when `whole`, else that of these
    stacks alone. Returns the lock and its troubles: pins that were kept because there are none under this cut-off, and
    new stacks that have none though this machine could make their environments.

    Packages that do not go together are recorded with uv's reason, but never in the place of pins that are still valid.
    When the index is away nothing is recorded of it, and the InfrastructureError names what was left out."""
    from concurrent.futures import ThreadPoolExecutor

    from builder.environment import uv

    new = current or lock.Lock(cutoff=cutoff or utc())
    if whole and cutoff and cutoff != new.cutoff:
        new.move(cutoff)
    until = cutoff or new.cutoff
    new.tools = {"uv": uv.version(), "enginematrix": __version__}
    away: list[str] = []
    troubles: list[str] = []

    def one(stack: Stack) -> lock.Pins | None:
        try:
            return uv.resolve(stack, until)
        except uv.PackageError as error:
            return lock.Pins(
                python=stack.fields["python"], requirements=lock.lines(stack), packages=(), hashes={}, unresolved=str(error)
            )  # fmt: skip
        except InfrastructureError as error:
            away.append(str(error))
            return None

    with ThreadPoolExecutor(4) as pool:
        for stack, pins in zip(stacks, pool.map(one, stacks), strict=True):
            if pins is None:
                continue
            before = new.entry(stack)
            if pins.unresolved and before is not None and not before.unresolved:
                troubles.append(f"{stack.id}: kept as it was; up to {until}: {pins.unresolved}")
                continue
            new.stacks[stack.id] = dataclasses.replace(pins, cutoff="" if until == new.cutoff else until)
            if not pins.unresolved:
                say(f"locked {stack.id} ({len(pins.packages)} packages)")
            elif before is None and all(here.has(need) for need in work.spec.families[stack.family].needs):
                troubles.append(f"{stack.id}: unresolved: {pins.unresolved}")
            else:
                say(f"locked {stack.id} as unresolved: {pins.unresolved}")
    for name in sources:
        try:
            new.sources[name] = uv.resolve_data(name, until)
            say(f"locked {name} (data)")
        except uv.PackageError as error:
            if name not in new.sources:
                away.append(str(error))
            else:
                troubles.append(f"{name} (data): kept as it was; up to {until}: {error}")
        except InfrastructureError as error:
            away.append(str(error))
    for trouble in troubles:
        say(trouble)
    if write:
        write_file(work.project.lock, new.dumps())
    if away:
        raise InfrastructureError("\n".join(away))
    return new, troubles


def cutoff(date: str | None) -> str | None:
    """`--cutoff` as an instant. Raises UsageError."""
    if date is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(date.replace("Z", "+00:00"))
    except ValueError:
        msg = f"--cutoff {date!r}: write a date such as 2026-11-20 or 2026-11-20T00:00:00Z"
        raise UsageError(msg) from None
    return utc((moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)).timestamp())
