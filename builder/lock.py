"""matrix.lock: what each stack was resolved to, with hashes and without addresses.

The lock is data: this module reads, compares and writes it. Resolving (which asks the package index) is
`environment/uv.py`'s work. One package pin with its hashes stands once, however many stacks use it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
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
    cutoff: str = ""
    """No package newer than this instant was looked at for this stack; '' for the lock's own."""

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


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of an image, as the registry keeps it."""

    digest: str
    size: int
    """Bytes as pulled (compressed)."""
    diff_id: str
    """Digest of the layer unpacked: what an engine knows it by."""


@dataclass(frozen=True, kw_only=True)
class PlatformImage:
    """An image for one platform."""

    manifest: str
    """Digest; what a Dockerfile pins."""
    config: str
    """Digest of its configuration; the image's id in an engine with the classic image store."""
    facts: Mapping[str, str]
    """Variables of its configuration that tell versions: CUDA_VERSION, TRT_VERSION, NVIDIA_REQUIRE_CUDA..."""
    layers: tuple[Layer, ...]

    @property
    def size(self) -> int:
        return sum(layer.size for layer in self.layers)


@dataclass(frozen=True, kw_only=True)
class Image:
    """What a tag pointed at when it was locked."""

    index: str
    """Digest of the index, or of the manifest where there is no index."""
    platforms: Mapping[str, PlatformImage]
    """"linux/amd64" -> ..."""


@dataclass(kw_only=True)
class Lock:
    """The lock file's content."""

    cutoff: str
    """No package newer than this instant (ISO 8601, UTC) was looked at, but for stacks with one of their own."""
    tools: dict[str, str] = field(default_factory=dict)
    stacks: dict[str, Pins] = field(default_factory=dict)
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """"name==version" of a package taken as data -> hashes."""
    images: dict[str, Image] = field(default_factory=dict)
    """Reference with tag (as the stack's `base` says it, whatever mirror was asked) -> what it pointed at."""

    def entry(self, stack: Stack) -> Pins | None:
        """The stack's pins, None when absent or resolved from other lines than the stack's."""
        pins = self.stacks.get(stack.id)
        if pins is None or pins.python != stack.python or pins.requirements != lines(stack):
            return None
        return pins

    def cutoff_of(self, stack: str) -> str:
        """The cut-off that this stack's entry was resolved under."""
        return self.stacks[stack].cutoff or self.cutoff

    def cutoffs(self) -> tuple[str, str]:
        """The oldest and the newest cut-off of any entry."""
        found = sorted(self.cutoff_of(name) for name in self.stacks) or [self.cutoff]
        return found[0], found[-1]

    def move(self, cutoff: str) -> None:
        """Give the lock another cut-off. What was resolved under the old one goes on saying so."""
        for name, pins in self.stacks.items():
            self.stacks[name] = replace(pins, cutoff=self.cutoff_of(name))
        self.cutoff = cutoff

    def missing(self, stacks: Iterable[Stack], recipes: Iterable[Recipe]) -> tuple[list[Stack], list[str]]:
        """Stacks and data packages that have no valid entry."""
        return (
            [stack for stack in stacks if self.entry(stack) is None],
            sorted({name for recipe in recipes if (name := data_package(recipe)) and name not in self.sources}),
        )

    def dumps(self) -> str:
        """Sorted text: the same lock is the same bytes. A stack's own cut-off, and hashes that differ from another
        stack's of the same pin (files were added to a release between two cut-offs), stand in its entry."""
        packages: dict[str, list[str]] = {}
        stacks: dict[str, Any] = {}
        for name, pins in sorted(self.stacks.items()):
            entry: dict[str, Any] = {"python": pins.python, "requirements": list(pins.requirements)}
            if self.cutoff_of(name) != self.cutoff:
                entry["cutoff"] = pins.cutoff
            if pins.unresolved:
                entry["unresolved"] = pins.unresolved
            else:
                entry["packages"] = list(pins.packages)
                hashes = {pin: list(pins.hashes[pin]) for pin in pins.packages}
                own = {pin: found for pin, found in hashes.items() if packages.setdefault(pin, found) != found}
                if own:
                    entry["hashes"] = own
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
            own = {pin: tuple(hashes) for pin, hashes in entry.get("hashes", {}).items()}
            stacks[name] = Pins(
                python=entry["python"],
                requirements=tuple(entry["requirements"]),
                packages=pins,
                hashes={pin: own[pin] if pin in own else packages[pin] for pin in pins},
                unresolved=entry.get("unresolved", ""),
                cutoff=entry.get("cutoff", ""),
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
    """One line for each thing that changed: cut-off, tools, stacks with their pins and hashes, packages taken as data."""
    was = old or Lock(cutoff="")
    out = []
    if was.cutoff != new.cutoff:
        out.append(f"~ cutoff: {was.cutoff or '-'} -> {new.cutoff}")
    for tool in sorted(was.tools.keys() | new.tools.keys()):
        if was.tools.get(tool) != new.tools.get(tool):
            out.append(f"~ {tool}: {was.tools.get(tool, '-')} -> {new.tools.get(tool, '-')}")
    for name in sorted(was.stacks.keys() | new.stacks.keys()):
        if name not in was.stacks:
            reason = new.stacks[name].unresolved
            out.append(f"+ {name}" + (f" (unresolved: {reason})" if reason else ""))
        elif name not in new.stacks:
            out.append(f"- {name}")
        elif changes := _changes(was, new, name):
            out.append(f"~ {name}: {'; '.join(changes)}")
    for name in sorted(was.sources.keys() | new.sources.keys()):
        if name not in was.sources:
            out.append(f"+ {name} (data)")
        elif name not in new.sources:
            out.append(f"- {name} (data)")
        elif set(was.sources[name]) != set(new.sources[name]):
            out.append(f"~ {name} (data): other hashes")
    return out


def _changes(old: Lock, new: Lock, name: str) -> list[str]:
    """What became different in a stack that both have."""
    was, now = old.stacks[name], new.stacks[name]
    out = []
    if (was.python, was.requirements) != (now.python, now.requirements):
        out.append(f"asks for {', '.join(now.requirements)}")
    if set(was.packages) != set(now.packages) or was.unresolved != now.unresolved:
        gone, came = sorted(set(was.packages) - set(now.packages)), sorted(set(now.packages) - set(was.packages))
        out.append(f"{', '.join(gone) or '-'} -> {', '.join(came) or now.unresolved or '-'}")
    other = sorted(pin for pin in set(was.packages) & set(now.packages) if set(was.hashes[pin]) != set(now.hashes[pin]))
    if other:
        out.append(f"other hashes of {', '.join(other)}")
    before, after = old.cutoff_of(name), new.cutoff_of(name)
    if before != after and (before, after) != (old.cutoff, new.cutoff):  # else the lock's own line says it
        out.append(f"cutoff {before} -> {after}")
    return out
