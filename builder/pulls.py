"""What must be pulled before images can be built, and whether it fits. Pure: the engine's layers and room are given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.environment.engine import chain_ids
from builder.lock import Lock
from builder.values import Stack

if TYPE_CHECKING:
    from builder.environment.images import DockerImage

#: Disk that a layer takes at most while it is pulled, in its compressed size: the download and what is unpacked of it.
#: Debian's own bases (gzip) unpack to 2.7 times their size; the packages of a stack come on top and are not known before.
DISK = 3.7


@dataclass(frozen=True, kw_only=True)
class Pull:
    """The base image of one stack, as far as this machine lacks it."""

    stack: Stack
    base: str
    platform: str
    """What it is pulled for: "linux/amd64"."""
    size: int
    """Bytes of the whole base image as the registry keeps it."""
    pull: int
    """Bytes of those of its layers that are neither here nor pulled for a stack before it."""
    disk: int
    """Bytes of disk that pulling them takes, about."""
    driver: str
    """Driver that it needs at least, "" when nothing is known."""
    refused: str = ""


def of(
    images: Iterable[DockerImage], locked: Lock, platform: str, present: frozenset[str], free: int | None
) -> list[Pull]:
    """What each image's base takes, in order. `present`: chain ids of the layers that the engine has; `free`: bytes of disk
    that it has left, None when nobody knows. What no longer fits behind those before it is refused, with the reason."""
    out = []
    have, left = set(present), free
    for image in images:
        stack = image.rendered.stack
        base = locked.images[stack.base].platforms[platform]
        pull = 0
        lacking = set()
        for chain, layer in zip(chain_ids([layer.diff_id for layer in base.layers]), base.layers, strict=True):
            if chain not in have:
                lacking.add(chain)
                pull += layer.size
        disk = int(pull * DISK)
        rules = image.family.image
        refused = ""
        if left is not None and disk > left:
            refused = f"needs about {gigabytes(disk)} of disk for {stack.base}, and the Docker engine has {gigabytes(left)} left"
            refused += "; free some (`docker system df` shows what takes it)"
        else:
            have |= lacking
            left = None if left is None else left - disk
        out.append(
            Pull(
                stack=stack, base=stack.base, platform=platform, size=base.size, pull=pull, disk=disk, refused=refused,
                driver=stack.facts.get(rules.driver, "") if rules is not None else "",
            )
        )  # fmt: skip
    return out


def gigabytes(size: int) -> str:
    """Bytes in words: `12.3 GB`, `340 MB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def table(found: Iterable[Pull]) -> list[str]:
    """Lines for `plan`: each image that has something to pull or is refused, and how many have all that they need."""
    out = []
    ready = 0
    for pull in found:
        if not pull.pull and not pull.refused:
            ready += 1
            continue
        needs = f", driver {pull.driver} or newer" if pull.driver else ""
        text = f"{gigabytes(pull.pull)} to pull of {gigabytes(pull.size)}, about {gigabytes(pull.disk)} of disk{needs}"
        out.append(f"  image: {pull.stack.id}: {pull.base} ({pull.platform}): {pull.refused or text}")
    if ready:
        out.append(f"  image: {ready} more to build, whose base images are here or stand above")
    return out
