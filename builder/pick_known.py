"""What `pick --emit` pins by: matrix.lock, and what it lacks asked of the image's registry and, through uv, the package index.

Nothing is written: the answers go into what is printed. Without a network, or with --offline, there is a reason in their place.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from builder.errors import InfrastructureError
from builder.lock import Image, Lock, Pins
from builder.project import Project, utc
from builder.values import Requirement, Stack


@dataclass(frozen=True, kw_only=True)
class Known:
    """matrix.lock, and whether anybody is asked for what is not in it."""

    lock: Lock | None
    offline: bool = True
    mirrors: Mapping[str, str] = field(default_factory=dict)

    @property
    def cutoff(self) -> str:
        """No package newer than this instant is looked at: the lock's, else now."""
        return self.lock.cutoff if self.lock is not None else utc()

    def image(self, reference: str) -> tuple[Image | None, str]:
        """What a reference points at and who says so, or None and why it is not known."""
        found = self.lock.images.get(reference) if self.lock is not None else None
        if found is not None:
            return found, "matrix.lock"
        if self.offline:
            return None, "matrix.lock has no digest of it"
        self._say(f"asking the registry of {reference} for its digest")
        from builder.environment import registry
        from builder.environment.uv import PackageError

        try:
            return registry.resolve(reference, self.mirrors), f"its registry, {utc()}"
        except (PackageError, InfrastructureError) as error:
            return None, f"matrix.lock has no digest of it, and of its registry it could not be had: {_line(error)}"

    def pins(self, stack: Stack) -> tuple[Pins | None, str]:
        """The locked packages of a stack and who says so, or None and why there are none."""
        found = self.lock.entry(stack) if self.lock is not None else None
        if found is not None and not found.unresolved:
            assert self.lock is not None
            return found, f"matrix.lock, nothing newer than {found.cutoff or self.lock.cutoff}"
        lacks = f"matrix.lock has no packages of {stack.id}" + (f": {found.unresolved}" if found is not None else "")
        if self.offline:
            return None, lacks
        self._say(f"resolving {stack.id} with uv")
        from builder.environment import uv

        try:
            return uv.resolve(stack, self.cutoff), f"uv, nothing newer than {self.cutoff}"
        except (uv.PackageError, InfrastructureError) as error:
            return None, f"{lacks}, and uv could not resolve them: {_line(error)}"

    def _say(self, what: str) -> None:
        """Asking takes seconds, and half a minute where nobody answers."""
        print(f"enginematrix: {what} (--offline: do without)", file=sys.stderr)


def _line(error: Exception) -> str:
    """It is printed as a comment: in one line."""
    return " ".join(str(error).split())


def of(project: Project, lock: Lock | None, *, offline: bool) -> Known:
    """`lock` and, unless `offline`, the mirrors that the project and this machine name. Raises UsageError, SpecErrors."""
    if offline:
        return Known(lock=lock)
    from builder.environment.reference import mirrors_from

    settings: Mapping[str, str] = {}
    if project.matrix.is_file():
        from builder import spec

        settings = spec.load(project.matrix, project.images, project.recipes).docker.mirrors
    return Known(lock=lock, offline=False, mirrors=mirrors_from(settings, os.environ))


def loose(name: str, python: str, lines: tuple[str, ...]) -> Stack:
    """Packages that no family makes, as a stack that can be resolved."""
    wanted = tuple(Requirement(line=line) for line in lines)
    return Stack(role="engine", entry="pick", family=name, fields={"python": python}, requirements=wanted)
