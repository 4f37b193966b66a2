"""Delta debugging: of the changes between something that works and something that fails, those that matter.

`ddmin` of A. Zeller and R. Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE Transactions on Software
Engineering 28(2), 2002: tries ever smaller parts of what changed, and their complements, until no single change can be taken
away. What it finds is 1-minimal: a smaller set elsewhere that fails too is not ruled out. A trial that can neither be said
to work nor to fail (`unresolved`: it cannot be installed, it fails in another way) is never evidence.

Pure: what a trial is, the caller says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Answer = Literal["fails", "works", "unresolved"]
T = TypeVar("T")


@dataclass(frozen=True)
class Found(Generic[T]):
    changes: tuple[T, ...]
    """In the order in which they were given."""
    apart: tuple[T, ...]
    """Those of several without which nothing could be told: whether they matter is not known."""


def minimal(changes: Sequence[T], trial: Callable[[tuple[T, ...]], Answer]) -> Found[T]:
    """The smallest set of changes that ddmin finds to fail. All of them together must fail, and none of them work; neither is
    tried here. `trial` is asked once for each set; what it raises ends the search."""
    known: dict[tuple[int, ...], Answer] = {}

    def ask(which: Sequence[int]) -> Answer:
        key = tuple(sorted(which))
        if key not in known:
            known[key] = trial(tuple(changes[at] for at in key))
        return known[key]

    left = list(range(len(changes)))
    known[()], known[tuple(left)] = "works", "fails"
    parts = 2
    while len(left) > 1:
        chunks = _split(left, parts)
        smaller = next((chunk for chunk in chunks if ask(chunk) == "fails"), None)
        if smaller is not None:
            left, parts = smaller, 2
            continue
        others = [[at for at in left if at not in chunk] for chunk in chunks] if parts > 2 else []
        smaller = next((rest for rest in others if ask(rest) == "fails"), None)
        if smaller is not None:
            left, parts = smaller, max(parts - 1, 2)
        elif parts >= len(left):
            break
        else:
            parts = min(len(left), 2 * parts)
    without = {at: ask([other for other in left if other != at]) for at in left}
    return Found(
        changes=tuple(changes[at] for at in left),
        apart=tuple(changes[at] for at in left if without[at] == "unresolved"),
    )


def _split(items: Sequence[int], parts: int) -> list[list[int]]:
    """Into so many parts of nearly equal length, none of them empty."""
    size, more = divmod(len(items), parts)
    out, at = [], 0
    for number in range(parts):
        end = at + size + (number < more)
        out.append(list(items[at:end]))
        at = end
    return out
