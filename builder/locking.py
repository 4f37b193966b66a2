"""Locking, as commands do it: which stacks need an entry in matrix.lock, and asking the package index and the registries of
their base images for it.

The lock's data is `lock.py`; asking is `environment/uv.py` and `environment/registry.py`. `docker` is everywhere the ids of
the stacks that are to become Docker images: only their base images are looked at."""

from __future__ import annotations

import dataclasses
import datetime
import fnmatch
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from builder import __version__, backoff, calibration, lock, machine
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
    stacks += _builders(cells)
    stacks += [work.spec.reference_stack(model) for model in dict.fromkeys(cell.model for cell in cells)]
    if work.spec.tools is not None:
        stacks.append(work.spec.tools)
    asked = {dict(getattr(cell, "options", {})).get(calibration.AXIS) for cell in cells}
    stacks += [stack for mode, stack in getattr(work.spec, "quantizers", {}).items() if mode in asked]
    return list({stack.id: stack for stack in stacks}.values())


def _builders(cells: Sequence[Cell]) -> list[Stack]:
    """The stacks that build the engines of cells of the portability grid."""
    found = (getattr(cell, "built_on", None) for cell in cells)
    return [stack for stack in found if stack is not None]


def named(work: Work, text: str) -> list[Stack]:
    """The stacks that an expression names (`lock --update`). It is held against each stack's own fields, never against
    cells: pins that nobody named must stay. `engine...` takes engines only and `exporter...` exporters only; a word is a
    stack's name, with wildcards, or `all`. Raises SelectError for what is no stack's, UsageError when nothing fits."""
    stacks = stacks_of(work, work.cells)
    roles = {
        "engine": {stack.id for stack in (*(cell.engine for cell in work.cells), *_builders(work.cells))},
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


def missing(
    work: Work,
    current: lock.Lock | None,
    stacks: Sequence[Stack],
    recipes: Sequence[Recipe],
    docker: Collection[str] = (),
) -> tuple[list[Stack], list[str]]:
    """Stacks and data packages that the lock says nothing valid of. What it says of a stack's image is valid as long as the
    image is there, or known not to be, and is judged as it would be now: facts of the catalog are corrected."""
    locked = current or lock.Lock(cutoff="")
    absent, sources = locked.missing(stacks, recipes)
    without = {stack.id for stack in absent}
    if docker:
        from builder.environment import engine

        platform = engine.platform()
        without |= {
            stack.id for stack in stacks if stack.id in docker and _image_missing(work, locked, stack, platform)
        }
    return [stack for stack in stacks if stack.id in without], sources


def _image_missing(work: Work, locked: lock.Lock, stack: Stack, platform: str) -> bool:
    pins = locked.entry(stack)
    refused = pins.refused if pins is not None else ""
    if stack.base not in locked.images:
        return stack.base != "" and not refused.startswith(f"{stack.base}: ")
    return locked.lacks_image(stack, platform) or refused != locked.judge(stack, work.spec.families[stack.family])


def label(current: lock.Lock | None, stack: Stack) -> str:
    """What is missing of a stack that `missing` names."""
    pins = current.entry(stack) if current is not None else None
    return stack.id if pins is None else f"{stack.base}, the image of {stack.id}"


def ensure_locked(
    work: Work, here: machine.Machine, *, frozen: bool, say: Callable[[str], None], docker: Collection[str] = (),
    mirrors: Mapping[str, str] = MappingProxyType({}),
) -> lock.Lock:  # fmt: skip
    """The lock, with an entry for every stack that can run here; asks the package index, and the registries (or the mirrors
    in their place), for what is missing.

    Raises LockError when something is missing and `frozen`, InfrastructureError when one of them cannot be reached."""
    current = lock.read(work.project.lock)
    stacks, sources = missing(work, current, *lockable(work, here), docker)
    if not stacks and not sources and current is not None:
        return current
    if frozen:
        names = ", ".join([*(label(current, stack) for stack in stacks), *sources][:5])
        option = f" --isolation {work.asked}" if work.asked else ""
        msg = f"{work.project.lock}: no entry for {names}; run `enginematrix lock{option}` and commit the file"
        raise lock.LockError(msg)
    return update_lock(
        work, here, current, stacks, sources, cutoff=None, say=say, docker=docker, mirrors=mirrors
    )[0]  # fmt: skip


def update_lock(
    work: Work, here: machine.Machine, current: lock.Lock | None, stacks: Sequence[Stack], sources: Sequence[str], *,
    cutoff: str | None, whole: bool = False, say: Callable[[str], None], write: bool = True, docker: Collection[str] = (),
    mirrors: Mapping[str, str] = MappingProxyType({}), update: bool = False,
) -> tuple[lock.Lock, list[str]]:  # fmt: skip
    """Resolve stacks and data packages and write the lock. The cut-off is the lock's when `whole`, else that of these
    stacks alone. Returns the lock and its troubles: what was kept because there is nothing better under this cut-off, and
    new stacks that have no packages, or no image, though this machine could make their environments.

    Packages that do not go together are recorded with uv's reason, but never in the place of pins that are still valid; an
    image that is not there, or not what the catalog says, is recorded as refused, but never in the place of one that is
    locked and right. What is locked of a stack to become an image stays, unless `update` (these stacks are named: packages
    and images) or a cut-off (packages) asks for it anew. When an index or a registry is away nothing is recorded of it, and
    the InfrastructureError names what was left out."""
    from concurrent.futures import ThreadPoolExecutor

    from builder import sources as models
    from builder.environment import uv
    from builder.locking_images import Images

    new = current or lock.Lock(cutoff=cutoff or utc())
    if whole and cutoff and cutoff != new.cutoff:
        new.move(cutoff)
    until = cutoff or new.cutoff
    new.tools = {"uv": uv.version(), "enginematrix": __version__}
    away: list[str] = []
    troubles: list[str] = []

    def packages(stack: Stack) -> lock.Pins | None:
        before = new.entry(stack)
        if before and not before.unresolved and stack.id in docker and not update and cutoff is None:
            return before
        none = lock.Pins(python=stack.python, requirements=lock.lines(stack), packages=(), hashes={})
        if not stack.requirements:  # all that it has comes with its image
            return none
        try:
            return uv.resolve(stack, until)
        except uv.PackageError as error:
            return dataclasses.replace(none, unresolved=str(error))
        except InfrastructureError as error:
            away.append(str(error))
            return None

    with ThreadPoolExecutor(4) as pool, backoff.shared() as shared:
        known = {stack.id: stack for stack in (*stacks, *stacks_of(work, work.cells)) if stack.id in docker}
        images = Images(work.spec.families, new, stacks, known.values(), update)
        answers = pool.map(shared(lambda reference: images.ask(reference, mirrors)), images.wanted)
        for stack, pins in zip(stacks, pool.map(shared(packages), stacks), strict=True):
            if pins is None:
                continue
            before = new.entry(stack)
            if pins is before:
                continue
            if pins.unresolved and before is not None and not before.unresolved:
                troubles.append(f"{stack.id}: kept as it was; up to {until}: {pins.unresolved}")
                continue
            new.stacks[stack.id] = dataclasses.replace(
                pins, cutoff="" if until == new.cutoff else until, refused=before.refused if before else ""
            )
            if not pins.unresolved:
                say(f"locked {stack.id} ({len(pins.packages)} packages)")
            elif before is None and all(here.has(need) for need in work.spec.families[stack.family].needs):
                troubles.append(f"{stack.id}: unresolved: {pins.unresolved}")
            else:
                say(f"locked {stack.id} as unresolved: {pins.unresolved}")
        for reference, answer in zip(images.wanted, answers, strict=True):
            images.take(reference, answer, say, troubles, away)
        images.judge(here, say, troubles)
    for name in sources:
        try:
            new.sources[name] = models.resolve(name, until)
            say(f"locked {name} (data)")
        except models.SourceError as error:
            # Said here, and the outcome of the model's cells: other models need not wait for it.
            troubles.append(f"{name} (data){': kept as it was' if name in new.sources else ''}: {error}")
        except uv.PackageError as error:
            if name not in new.sources:
                away.append(str(error))
            else:
                troubles.append(f"{name} (data): kept as it was; up to {until}: {error}")
        except (InfrastructureError, UsageError) as error:  # the optional library that asks a hub may not be here
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
