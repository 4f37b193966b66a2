"""An image as matrix.lock knows it: digests, layers, and the versions that its configuration tells. Pure.

Where they come from: `environment/registry.py`. `check_image` holds them against what the catalog says of a stack."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from builder.values import Family, Stack

PLATFORMS = ("linux/amd64", "linux/arm64")
"""What images are locked for, as far as their registry has it: those that NGC's images are made for."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_VERSION = re.compile(r"[vVrR]?([0-9]+(?:\.[0-9]+)*)(?:(a|b|rc)([0-9]+))?")


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


def plain(image: Image) -> dict[str, Any]:
    """An image as the lock's JSON has it: each layer is one line, "digest bytes diff_id"."""
    return {
        "index": image.index,
        "platforms": {
            name: {
                "manifest": one.manifest,
                "config": one.config,
                "facts": dict(sorted(one.facts.items())),
                "layers": [f"{layer.digest} {layer.size} {layer.diff_id}" for layer in one.layers],
            }
            for name, one in sorted(image.platforms.items())
        },
    }


def parse_image(data: Mapping[str, Any]) -> Image:
    """What `plain` gave. Raises KeyError, TypeError, AttributeError, ValueError. Digests reach Dockerfiles, so that a
    lock which was edited by hand is held to their form."""
    platforms = {}
    for name, one in data["platforms"].items():
        rows = [line.split(" ") for line in one["layers"]]
        platforms[name] = PlatformImage(
            manifest=_sha(one["manifest"]),
            config=_sha(one["config"]),
            facts={str(key): str(value) for key, value in one["facts"].items()},
            layers=tuple(Layer(digest=_sha(a), size=int(size), diff_id=_sha(b)) for a, size, b in rows),
        )
    return Image(index=_sha(data["index"]), platforms=platforms)


def _sha(text: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise ValueError(f"digest {text[:80]!r}")
    return text


def moved(old: Image, new: Image) -> str:
    """ "digest moved: old -> new", and the versions that its configuration now tells otherwise."""
    out = [f"digest moved: {old.index} -> {new.index}"]
    for platform in sorted(old.platforms.keys() | new.platforms.keys()):
        if platform not in old.platforms or platform not in new.platforms:
            out.append(f"{platform} {'gone' if platform in old.platforms else 'new'}")
            continue
        was, now = old.platforms[platform].facts, new.platforms[platform].facts
        for name in sorted(was.keys() | now.keys()):
            if was.get(name) != now.get(name):
                out.append(f"{name} {was.get(name, '-')} -> {now.get(name, '-')}")
    return "; ".join(dict.fromkeys(out))


def check_image(stack: Stack, family: Family, image: PlatformImage) -> str:
    """Where the versions that an image's configuration tells are not the catalog's, in words that name the image, the
    variable and both values; "" where nothing speaks against it.

    Compared is each variable of the family's `image: env:` that the image has, with the field or fact of the stack, to the
    precision of the shorter. A variable that the image lacks, or a fact that the catalog lacks, says nothing. But an image
    that has none of the variables that its family's images have is refused too: it is another image, and it is better to
    hear that now than after pulling ten gigabytes. A family whose images tell no versions names no variables.
    """
    rules = family.image.env if family.image is not None else {}
    promised = {name: value for name, field in rules.items() if (value := stack.value(field))}
    told = {name: image.facts[name] for name in promised if name in image.facts}
    if promised and not told:
        said = ", ".join(f"{rules[name]} {value}" for name, value in sorted(promised.items()))
        return f"{stack.base}: its configuration says nothing of {', '.join(sorted(promised))}; the catalog says {said}"
    wrong = [
        f"its {name} is {told[name]}, the catalog says {rules[name]} {promised[name]}"
        for name in sorted(told)
        if not agree(promised[name], told[name])
    ]
    return f"{stack.base}: {'; '.join(wrong)}" if wrong else ""


def agree(one: str, other: str) -> bool:
    """Whether two versions are one as far as both go: 12.4.1 and 12.4.1.003, v8.6 and 8.6.1-1, 2.4.0a0 and
    2.4.0a0+07cecf4; not 10.0.1 and 10.1. Looked at are the numbers at their beginning, and a pre-release where both have
    one; what follows (builds, revisions of packages, "(Update 1)") is written differently everywhere. Texts that begin
    with no number must be the same."""
    a, b = _VERSION.match(one.strip()), _VERSION.match(other.strip())
    if a is None or b is None:
        return one.strip().lower() == other.strip().lower()
    if any(int(x) != int(y) for x, y in zip(a[1].split("."), b[1].split("."), strict=False)):
        return False
    return a[2] is None or b[2] is None or (a[2], int(a[3])) == (b[2], int(b[3]))
