"""matrix.lock: what each stack was resolved to, with hashes and without addresses.

The lock is data: this module reads, compares and writes it. Resolving (which asks the package index) is
`environment/uv.py`'s work. One package pin with its hashes stands once, however many stacks use it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.errors import EngineMatrixError
from builder.values import Recipe, Stack, digest

SCHEMA = 1


class LockError(EngineMatrixError):
    """The lock file cannot be read or does not hold what is asked of it."""


@dataclass(frozen=True, kw_only=True)
class Pins:
    """One locked stack: Python minor version, pins ("numpy==1.26.4") with their hashes, or why there is none."""

    python: str
    requirements: tuple[str, ...]
    """The lines that were resolved; other lines make the entry stale."""
    packages: tuple[str, ...]
    hashes: Mapping[str, tuple[str, ...]]
    unresolved: str = ""

    @property
    def key(self) -> str:
        """Names the environment: what is installed, nothing else."""
        return digest({"python": self.python, "packages": {name: self.hashes[name] for name in self.packages}})

    def requirements_txt(self) -> str:
        """The pins as pip's requirements format."""
        lines = []
        for name in self.packages:
            lines.append(" \\\n".join([name, *(f"    --hash={value}" for value in self.hashes[name])]))
        return "\n".join(lines) + "\n"


@dataclass(kw_only=True)
class Lock:
    """The lock file's content."""

    cutoff: str
    """No package newer than this instant (ISO 8601, UTC) was looked at."""
    tools: dict[str, str] = field(default_factory=dict)
    stacks: dict[str, Pins] = field(default_factory=dict)
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """"name==version" of a package taken as data -> hashes."""

    def entry(self, stack: Stack) -> Pins | None:
        """The stack's pins, None when absent or resolved from other lines than the stack's."""
        pins = self.stacks.get(stack.id)
        if pins is None or pins.python != stack.fields["python"] or pins.requirements != lines(stack):
            return None
        return pins

    def missing(self, stacks: Iterable[Stack], recipes: Iterable[Recipe]) -> tuple[list[Stack], list[str]]:
        """Stacks and data packages that have no valid entry."""
        return (
            [stack for stack in stacks if self.entry(stack) is None],
            sorted({name for recipe in recipes if (name := data_package(recipe)) and name not in self.sources}),
        )

    def dumps(self) -> str:
        """Sorted text: the same lock is the same bytes."""
        packages: dict[str, list[str]] = {}
        for pins in self.stacks.values():
            packages.update({name: list(pins.hashes[name]) for name in pins.packages})
        stacks: dict[str, Any] = {}
        for name, pins in sorted(self.stacks.items()):
            entry: dict[str, Any] = {"python": pins.python, "requirements": list(pins.requirements)}
            if pins.unresolved:
                entry["unresolved"] = pins.unresolved
            else:
                entry["packages"] = list(pins.packages)
            stacks[name] = entry
        data = {
            "schema": SCHEMA,
            "cutoff": self.cutoff,
            "tools": dict(sorted(self.tools.items())),
            "stacks": stacks,
            "sources": {name: list(hashes) for name, hashes in sorted(self.sources.items())},
            "packages": dict(sorted(packages.items())),
        }
        return json.dumps(data, indent=1) + "\n"


def lines(stack: Stack) -> tuple[str, ...]:
    return tuple(requirement.line for requirement in stack.requirements)


def data_package(recipe: Recipe) -> str | None:
    """ "name==version" when the recipe's source is a package taken as data."""
    source = recipe.source
    return f"{source.name}=={source.version}" if source is not None and source.kind == "package" else None


def read(path: Path) -> Lock | None:
    """The lock, or None when there is no file. Raises LockError for one that cannot be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        msg = f"{path}: not a readable lock ({error}); make it again with `enginematrix lock`"
        raise LockError(msg) from error
    try:
        if data["schema"] != SCHEMA:
            msg = f"{path}: lock format {data['schema']}, this EngineMatrix reads {SCHEMA}; run `enginematrix lock`"
            raise LockError(msg)
        packages = {name: tuple(hashes) for name, hashes in data["packages"].items()}
        stacks = {}
        for name, entry in data["stacks"].items():
            pins = tuple(entry.get("packages", ()))
            stacks[name] = Pins(
                python=entry["python"],
                requirements=tuple(entry["requirements"]),
                packages=pins,
                hashes={pin: packages[pin] for pin in pins},
                unresolved=entry.get("unresolved", ""),
            )
        return Lock(
            cutoff=data["cutoff"],
            tools=dict(data["tools"]),
            stacks=stacks,
            sources={name: tuple(hashes) for name, hashes in data["sources"].items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        msg = f"{path}: damaged lock (missing or odd {error}); make it again with `enginematrix lock`"
        raise LockError(msg) from error


def difference(old: Lock | None, new: Lock) -> list[str]:
    """One line per stack that changed, naming the pins."""
    before = old.stacks if old else {}
    out = []
    for name in sorted(before.keys() | new.stacks.keys()):
        was, now = before.get(name), new.stacks.get(name)
        if was is None and now is not None:
            out.append(f"+ {name}" + (f" (unresolved: {now.unresolved})" if now.unresolved else ""))
        elif now is None:
            out.append(f"- {name}")
        elif was is not None and (set(was.packages) != set(now.packages) or was.unresolved != now.unresolved):
            gone, came = sorted(set(was.packages) - set(now.packages)), sorted(set(now.packages) - set(was.packages))
            out.append(f"~ {name}: {', '.join(gone) or '-'} -> {', '.join(came) or now.unresolved or '-'}")
    return out
