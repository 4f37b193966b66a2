"""The lock of a night: asked anew what each stack resolves to now, within a time, keeping what cannot be asked.

A stack whose index is away, whose packages do not go together any more, or that the time did not reach keeps its pins and its
cut-off, and says so."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from builder import history_changes, history_keep, lock, locking, machine
from builder.errors import InfrastructureError
from builder.history_changes import Change
from builder.project import utc, write
from builder.values import Stack

if TYPE_CHECKING:
    from builder.pipeline import Work

BATCH = 4
"""Stacks that are asked for at a time, as many as `locking.update_lock` asks at once."""
AWAY = 2
"""Batches of which none was answered, one after the other: then the index is away, and the rest is not asked for."""


@dataclass(kw_only=True)
class Refreshed:
    """What a refresh did."""

    asked: str
    """`refresh`, or `frozen`: nobody was asked."""
    cutoff: str = ""
    """No package newer than this was looked at; "" where nobody was asked."""
    stacks: int = 0
    """That were to be asked for."""
    kept: dict[str, str] = field(default_factory=dict)
    """Stack id -> why it keeps what it was locked to."""
    troubles: list[str] = field(default_factory=list)
    """What else could not be had: packages of models, base images."""
    away: str = ""
    """The first thing that did not answer: infrastructure; "" where all did."""
    moved: list[Change] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "asked": self.asked, "cutoff": self.cutoff or None, "stacks": self.stacks, "kept": self.kept,
            "troubles": self.troubles, "away": self.away or None, "moved": self.moved,
        }  # fmt: skip


def refresh(
    work: Work, here: machine.Machine, docker: frozenset[str], *, seconds: float | None, say: Callable[[str], None]
) -> Refreshed:
    """Resolve every stack of the work that can run here up to now, `seconds` long at most, and write the lock after each few, so
    that an interruption loses nothing. A project without a lock is left to the run, which makes one. Raises LockError for one
    that cannot be read."""
    text = _text(work)
    before, locked = lock.read(work.project.lock), lock.read(work.project.lock)
    until = utc()
    found = Refreshed(asked="refresh", cutoff=until)
    if before is None or locked is None:
        return found
    stacks, recipes = locking.lockable(work, here)
    # What is new in the matrix is locked by the run.
    stacks = [stack for stack in stacks if before.entry(stack) is not None]
    sources = sorted({name for recipe in recipes if (name := lock.data_package(recipe)) in before.sources and name})
    batches = [(stacks[start : start + BATCH], list[str]()) for start in range(0, len(stacks), BATCH)]
    found.stacks = len(stacks)
    deadline = None if seconds is None else time.monotonic() + seconds
    silent = 0
    for batch, names in [*batches, *([([], sources)] if sources else [])]:
        late = deadline is not None and time.monotonic() > deadline
        if silent >= AWAY or late:
            why = "the time for the lock was over" if late else found.away
            found.kept.update({stack.id: f"not asked for: {why}" for stack in batch})
            found.troubles += [f"{name}: not asked for: {why}" for name in names]
            continue
        said, away = _ask(work, here, locked, batch, names, until, docker)
        old = [stack for stack in batch if locked.cutoff_of(stack.id) != until]
        silent = silent + 1 if away and len(old) == len(batch) else 0
        found.away = found.away or (away[0] if away else "")
        for stack in old:
            found.kept[stack.id] = _reason(stack, [*said, *away])
            say(f"{stack.id} keeps what it was locked to: {found.kept[stack.id]}")
        found.troubles += [line for line in said if line.partition(":")[0] not in found.kept]
        if len(old) < len(batch) or (names and not away):  # where nothing was answered, nothing is new
            if _text(work) != text:
                meanwhile = "was changed by somebody else meanwhile, and stays as they left it"
                found.troubles.append(f"{work.project.lock.name} {meanwhile}")
                return found
            text = locked.dumps()
            write(work.project.lock, text)
    found.moved = moved(before, locked, stacks, sources)
    return found


def _ask(
    work: Work, here: machine.Machine, locked: lock.Lock, stacks: Sequence[Stack], sources: Sequence[str], until: str,
    docker: frozenset[str],
) -> tuple[list[str], list[str]]:  # fmt: skip
    """Resolve these into `locked`: (what could not be had, what did not answer). Both are told where one raises."""
    said: list[str] = []
    away: list[str] = []
    try:
        locking.update_lock(
            work, here, locked, stacks, sources, cutoff=until, whole=True, say=said.append, write=False, docker=docker,
            mirrors=work.docker.mirrors if docker else {}, update=True,
        )  # fmt: skip
    except InfrastructureError as error:
        away = str(error).splitlines()
    return [line for line in said if not line.startswith("locked ")], away


def _text(work: Work) -> str:
    path = work.project.lock
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _reason(stack: Stack, lines: Sequence[str]) -> str:
    """What was said of a stack, without its name."""
    for line in lines:
        name, _, rest = line.partition(": ")
        if name == stack.id:
            return rest.removeprefix("kept as it was; ")
    return next((line for line in lines if stack.id in line), "no answer")


def moved(before: lock.Lock, after: lock.Lock, stacks: Sequence[Stack], sources: Sequence[str]) -> list[Change]:
    """What is locked otherwise: packages, their files, base images, and that something cannot be had any more; models that are
    packages or a hub's files."""
    out: list[Change] = []
    for stack in stacks:
        was, now = (_entry(each, stack) for each in (before, after))
        out += history_changes.stack(stack.id, {stack.id: was}, {stack.id: now}) or []
    for name in sources:
        old, new = before.sources[name], after.sources[name]
        if set(old) != set(new):
            out.append(history_changes.change(f"{name} (data)", old[0] if old else "", new[0] if new else ""))
    return out


def _entry(locked: lock.Lock, stack: Stack) -> dict[str, Any]:
    """As `history_keep.entry` has it, as far as the lock alone says it."""
    pins, image = locked.stacks[stack.id], locked.images.get(stack.base)
    out: dict[str, Any] = {
        "python": pins.python, "unresolved": pins.unresolved, "refused": pins.refused,
        "packages": history_keep.packages(pins),
    }  # fmt: skip
    return {**out, "image": {"base": image.index}} if image is not None else out
