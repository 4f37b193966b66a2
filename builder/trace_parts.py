"""What differs between two locks for one cell, as components that can be taken from either: the parts of a trace. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from builder import lock
from builder.lock import Image, Lock, Pins
from builder.values import Stack

Kind = Literal["package", "image", "stack", "data"]


@dataclass(frozen=True, kw_only=True)
class Component:
    """One thing that moved in the lock."""

    kind: Kind
    """`stack`: the whole entry, where one of the two has no packages; `data`: a model's source."""
    stack: str
    """Stack id; '' for data and images, which stacks may share."""
    name: str
    old: str
    """As it is told; '' where it was not there."""
    new: str

    def __str__(self) -> str:
        return f"{self.name} {self.old or 'none'} -> {self.new or 'none'}"


def components(
    old: Lock, new: Lock, stacks: Sequence[Stack], data: Iterable[str], images: Collection[str]
) -> list[Component]:
    """What moved, engine stacks first as they are given, what a stack asks for by name before what comes along with it.

    data: names under `sources` of the lock; images: ids of the stacks that are realised as images, whose base counts."""
    out: list[Component] = []
    for stack in stacks:
        was, now = old.stacks.get(stack.id), new.stacks.get(stack.id)
        out += _of_stack(stack, was, now)
    for base in dict.fromkeys(stack.base for stack in stacks if stack.id in images):
        before, after = old.images.get(base), new.images.get(base)
        if before != after:
            out.append(Component(kind="image", stack="", name=base, old=_index(before), new=_index(after)))
    for name in data:
        one, two = old.sources.get(name, ()), new.sources.get(name, ())
        if one != two:
            out.append(Component(kind="data", stack="", name=name, old=_first(one), new=_first(two)))
    return out


def _of_stack(stack: Stack, was: Pins | None, now: Pins | None) -> list[Component]:
    if was is None or now is None or was.unresolved or now.unresolved:
        states = [_state(pins) for pins in (was, now)]
        if states[0] == states[1]:
            return []
        return [Component(kind="stack", stack=stack.id, name=stack.id, old=states[0], new=states[1])]
    before, after = _by_name(was), _by_name(now)
    asked = [_project(line) for line in lock.lines(stack)]
    found = []
    for name in sorted(before.keys() | after.keys(), key=lambda name: (_rank(name, asked), name)):
        one, two = before.get(name), after.get(name)
        if one is not None and one == two and set(was.hashes[one]) == set(now.hashes[one]):
            continue
        old, new = (pin.partition("==")[2] if pin else "" for pin in (one, two))
        if old == new:
            old, new = f"{old} (other files)", f"{new} (other files)"
        found.append(Component(kind="package", stack=stack.id, name=name, old=old, new=new))
    return found


def _rank(name: str, asked: list[str]) -> int:
    return asked.index(name) if name in asked else len(asked)


def _state(pins: Pins | None) -> str:
    return "not in the lock" if pins is None else f"unresolved: {pins.unresolved}" if pins.unresolved else "locked"


def _index(image: Image | None) -> str:
    return image.index if image is not None else ""


def _first(values: tuple[str, ...]) -> str:
    return values[0][:19] if values else ""


def _project(line: str) -> str:
    end = next((at for at, char in enumerate(line) if char in "[<>=!~; "), len(line))
    return line[:end].lower()


def _by_name(pins: Pins) -> dict[str, str]:
    """Name -> whole pin."""
    return {pin.partition("==")[0]: pin for pin in pins.packages}


def cross(old: Lock, new: Lock, stacks: Iterable[Stack], data: Iterable[str], moved: Collection[Component]) -> Lock:
    """The lock that has `moved` from the new one and all else from the old one, with these stacks alone. An entry that neither
    has, or that the old one lacks and nothing moved, is left out."""
    at = {(part.kind, part.stack, part.name) for part in moved}
    out = Lock(cutoff=max(old.cutoff, new.cutoff), tools=dict(new.tools))
    for stack in stacks:
        was, now = old.stacks.get(stack.id), new.stacks.get(stack.id)
        names = {name for kind, own, name in at if (kind, own) == ("package", stack.id)}
        whole = ("stack", stack.id, stack.id) in at
        pins = now if whole else was
        if was is not None and now is not None and names:
            pins = _mixed(was, now, names)
        if pins is not None:
            from_new = whole or bool(names)
            cutoff = (new if from_new else old).cutoff_of(stack.id)
            # What it was resolved from may have been written otherwise since; what is installed is what counts.
            out.stacks[stack.id] = replace(pins, python=stack.python, requirements=lock.lines(stack), cutoff=cutoff)
        image = (new if ("image", "", stack.base) in at else old).images.get(stack.base)
        if image is not None:
            out.images[stack.base] = image
    for name in data:
        hashes = (new if ("data", "", name) in at else old).sources.get(name)
        if hashes is not None:
            out.sources[name] = hashes
    return out


def _mixed(was: Pins, now: Pins, names: Collection[str]) -> Pins:
    before, after = _by_name(was), _by_name(now)
    chosen: dict[str, tuple[str, ...]] = {}
    for name in before.keys() | after.keys():
        by_name, pins = (after, now) if name in names else (before, was)
        if name in by_name:
            chosen[by_name[name]] = tuple(pins.hashes[by_name[name]])
    return replace(now, packages=tuple(sorted(chosen)), hashes=chosen)
