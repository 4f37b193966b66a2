"""matrix.lock: what each stack was resolved to, with hashes and without addresses.

The lock is data: this module reads, compares and writes it. Resolving is the work of `environment/uv.py` (which asks the
package index) and `environment/registry.py` (which asks an image's registry). One package pin with its hashes stands once,
however many stacks use it, and so does an image. An image's own name is in it, never a mirror's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from builder.errors import EngineMatrixError
from builder.image import PLATFORMS, Image, Layer, PlatformImage, check_image, moved, parse_image, plain
from builder.values import Family, Recipe, Source, Stack, digest

__all__ = [
    "PLATFORMS", "Image", "Layer", "Lock", "LockError", "Pins", "PlatformImage", "check_image", "data_package",
    "data_package_of", "difference", "lines", "moved", "read",
]  # fmt: skip

SCHEMA = 1
HUB = "hub:"
"""What the entry of a hub's repository among the sources begins with; `sources_hub` has the form of its values."""


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
    refused: str = ""
    """Why its base image cannot be had, or is not what the catalog says: evidence, as `unresolved`, but only against
    making an image of it. A virtual environment of the same packages does without."""

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
    """No package newer than this instant (ISO 8601, UTC) was looked at, but for stacks with one of their own."""
    tools: dict[str, str] = field(default_factory=dict)
    stacks: dict[str, Pins] = field(default_factory=dict)
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """"name==version" of a package taken as data -> hashes; a hub's files (`data_package`) -> its commit and their hashes."""
    images: dict[str, Image] = field(default_factory=dict)
    """Reference with tag (as the stack's `base` says it, whatever mirror was asked) -> what it pointed at."""

    def entry(self, stack: Stack, *, docker: bool = False) -> Pins | None:
        """The stack's pins, None when absent or resolved from other lines than the stack's. For a stack that is to become
        an image (`docker`), a refused base image is why it is `unresolved`."""
        pins = self.stacks.get(stack.id)
        if pins is None or pins.python != stack.python or pins.requirements != lines(stack):
            return None
        return replace(pins, unresolved=pins.unresolved or pins.refused) if docker and pins.refused else pins

    def lacks_image(self, stack: Stack, platform: str) -> bool:
        """Whether the registry must be asked for the stack's base image before one can be made of it on `platform`. An
        image that was asked for PLATFORMS and lacks one of them lacks it: that is known, and asking again says the same."""
        image = self.images.get(stack.base)
        return stack.base != "" and (image is None or platform not in (*image.platforms, *PLATFORMS))

    def judge(self, stack: Stack, family: Family) -> str:
        """`check_image` for the stack's locked base image, "" where there is none. The first platform speaks for all: the
        catalog has one set of facts for them, and the lock must not depend on the machine that writes it."""
        image = self.images.get(stack.base)
        found = image.platforms[min(image.platforms)] if image and image.platforms else None
        return check_image(stack, family, found) if found else ""

    def keep(self, stacks: Iterable[Stack]) -> None:
        """Forget the entries of all other stacks, and the images that none of these is based on."""
        mine = list(stacks)
        names, bases = {stack.id for stack in mine}, {stack.base for stack in mine}
        self.stacks = {name: pins for name, pins in self.stacks.items() if name in names}
        self.images = {name: image for name, image in self.images.items() if name in bases}

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
            if pins.refused:
                entry["refused"] = pins.refused
            stacks[name] = entry
        data: dict[str, Any] = {
            "schema": SCHEMA,
            "cutoff": self.cutoff,
            "tools": dict(sorted(self.tools.items())),
            "stacks": stacks,
            "sources": {name: list(hashes) for name, hashes in sorted(self.sources.items())},
        }
        if self.images:
            data["images"] = {name: plain(image) for name, image in sorted(self.images.items())}
        data["packages"] = dict(sorted(packages.items()))
        return json.dumps(data, indent=1) + "\n"


def lines(stack: Stack) -> tuple[str, ...]:
    return tuple(requirement.line for requirement in stack.requirements)


def data_package(recipe: Recipe) -> str | None:
    """What the lock must have of a recipe's source: "name==version" of a package taken as data, "hub:owner/name@revision:files"
    of a hub's repository; None where the recipe itself has the hashes."""
    source = recipe.source
    return data_package_of(source) if source is not None and source.kind in ("package", "hub") else None


def data_package_of(source: Source) -> str:
    if source.kind == "hub":
        return f"{HUB}{source.name}@{source.version}:{','.join(sorted(source.patterns))}"
    return f"{source.name}=={source.version}"


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
                refused=entry.get("refused", ""),
            )
        return Lock(
            cutoff=data["cutoff"],
            tools=dict(data["tools"]),
            stacks=stacks,
            sources={name: tuple(hashes) for name, hashes in data["sources"].items()},
            images={name: parse_image(image) for name, image in data.get("images", {}).items()},
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        msg = f"{path}: damaged lock (missing or odd {error}); make it again with `enginematrix lock`"
        raise LockError(msg) from error


def difference(old: Lock | None, new: Lock) -> list[str]:
    """One line for each thing that changed: cut-off, tools, stacks with their pins and hashes, packages taken as data,
    images."""
    was = old or Lock(cutoff="")
    out = []
    if was.cutoff != new.cutoff:
        out.append(f"~ cutoff: {was.cutoff or '-'} -> {new.cutoff}")
    for tool in sorted(was.tools.keys() | new.tools.keys()):
        if was.tools.get(tool) != new.tools.get(tool):
            out.append(f"~ {tool}: {was.tools.get(tool, '-')} -> {new.tools.get(tool, '-')}")
    for name in sorted(was.stacks.keys() | new.stacks.keys()):
        if name not in was.stacks:
            reason = new.stacks[name].unresolved or new.stacks[name].refused
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
            out.append(f"~ {name} (data): {_moved(was.sources[name], new.sources[name])}")
    for name in sorted(was.images.keys() | new.images.keys()):
        if name not in was.images:
            out.append(f"+ {name} (image {new.images[name].index})")
        elif name not in new.images:
            out.append(f"- {name} (image)")
        elif was.images[name].index != new.images[name].index:
            out.append(f"~ {name} (image): {moved(was.images[name], new.images[name])}")
        elif was.images[name] != new.images[name]:
            out.append(f"~ {name} (image): other platforms, facts or layers")
    return out


def _moved(old: tuple[str, ...], new: tuple[str, ...]) -> str:
    """What changed of a source: the commit that a hub's revision is, or hashes alone."""
    if old[:1] != new[:1] and all(entry[:1] and entry[0].startswith("commit:") for entry in (old, new)):
        return f"{old[0]} -> {new[0]}"
    return "other hashes"


def _changes(old: Lock, new: Lock, name: str) -> list[str]:
    """What became different in a stack that both have."""
    was, now = old.stacks[name], new.stacks[name]
    out = []
    if (was.python, was.requirements) != (now.python, now.requirements):
        out.append(f"asks for {', '.join(now.requirements)}")
    if set(was.packages) != set(now.packages) or was.unresolved != now.unresolved:
        gone, came = sorted(set(was.packages) - set(now.packages)), sorted(set(now.packages) - set(was.packages))
        out.append(f"{', '.join(gone) or '-'} -> {', '.join(came) or now.unresolved or '-'}")
    if was.refused != now.refused:
        out.append(f"base image {f'refused: {now.refused}' if now.refused else 'no longer refused'}")
    other = sorted(pin for pin in set(was.packages) & set(now.packages) if set(was.hashes[pin]) != set(now.hashes[pin]))
    if other:
        out.append(f"other hashes of {', '.join(other)}")
    before, after = old.cutoff_of(name), new.cutoff_of(name)
    if before != after and (before, after) != (old.cutoff, new.cutoff):  # else the lock's own line says it
        out.append(f"cutoff {before} -> {after}")
    return out
