"""Stacks of this repository's own families with invented pins and digests, for the tests of what is made of them."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

from builder import family, lock, nodes, render
from builder.errors import SpecError, SpecErrors
from builder.family import FamilyFile
from builder.nodes import Source
from builder.section import Section
from builder.values import Stack

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "images"
CUTOFF = "2026-11-20T00:00:00Z"


@cache
def read(name: str) -> FamilyFile:
    """A family of this repository. Raises SpecErrors."""
    errors: list[SpecError] = []
    found = family.load(IMAGES / name / "family.yaml", f"images/{name}/family.yaml", errors)
    if errors or found is None:
        raise SpecErrors(errors)
    return found


def expand(file: FamilyFile, entry: str) -> list[Stack]:
    """The stacks of an entry of matrix.yaml: `{release: ">=24"}`. Raises SpecErrors."""
    errors: list[SpecError] = []
    source = Source("matrix.yaml", entry, errors)
    node = nodes.compose(source)
    section = Section(source, node, None, "entry 'one'") if node else None
    role = next(iter(sorted(file.family.provides)))
    stacks = family.expand(file, role, "one", section, source) if section else []
    if errors:
        raise SpecErrors(errors)
    return stacks


def stack(name: str, entry: str) -> Stack:
    (found,) = expand(read(name), entry)
    return found


def sha(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def pins(stack: Stack, *more: str) -> lock.Pins:
    """What a lock might say: each line at its exact version, or at 1.0, and a package that all need."""
    packages = {"packaging==26.3"} if stack.requirements else set()
    for line in (*lock.lines(stack), *more):
        name = re.split(r"[<>=!~ ;\[]", line)[0]
        exact = re.search(r"==([^,; ]+)", line)
        packages = {pin for pin in packages if not pin.startswith(f"{name}==")} | {
            f"{name}=={exact[1] if exact else '1.0'}"
        }
    return lock.Pins(
        python=stack.python, requirements=lock.lines(stack), packages=tuple(sorted(packages)),
        hashes={pin: (sha(pin), sha(pin + " for arm64")) for pin in packages},
    )  # fmt: skip


def image(stack: Stack, manifest: str = "") -> lock.PlatformImage:
    return lock.PlatformImage(
        manifest=manifest or sha(stack.base), config=sha("config " + stack.base), facts={},
        layers=(lock.Layer(digest=sha("layer"), size=1, diff_id=sha("diff")),),
    )  # fmt: skip


def rendered(name: str, entry: str) -> render.Rendered:
    found = stack(name, entry)
    platform = "linux/arm64" if name == "l4t" else "linux/amd64"
    return render.render(found, read(name).family, pins(found), image(found), platform, IMAGES, CUTOFF)
