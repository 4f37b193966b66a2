"""What a reference to an image points at: digests, layers and the versions that its configuration tells.

Reads manifests and configurations only, some tens of KiB; layers are pulled by the engine. Everything is held against its
digest, and an image against what its index says of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from builder.environment.reference import DIGEST, mirror_of, mirrors_from, parse
from builder.environment.registry_client import NotThere, Registry
from builder.environment.uv import PackageError
from builder.errors import InfrastructureError
from builder.lock import PLATFORMS, Image, Layer, PlatformImage

__all__ = ["NoSuchImage", "Registry", "facts", "mirror_of", "mirrors_from", "resolve"]

INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
OLD = "application/vnd.docker.distribution.manifest.v1"

#: Variables of an image's configuration that tell versions, and nothing else is taken: an image's environment may hold
#: secrets, and the lock is published.
NAMES = re.compile(r"[A-Z][A-Z0-9_]*_VERSION|CUDA_[A-Z0-9_]+|TRT_[A-Z0-9_]+|CUDNN_[A-Z0-9_]+|NVIDIA_REQUIRE_[A-Z0-9_]+")
SECRETS = re.compile(r"TOKEN|SECRET|PASS|KEY|AUTH|CREDENTIAL")
#: ... and of those only values that are versions ("12.4.1.003", "v1.2", "R36.3.0", "2.4.0a0+07cecf4", "2.21.5-1+cuda12.4"),
VERSION = re.compile(r"[vVrR]?[0-9]{1,9}(\.[0-9]{1,9})*([-+.~_a-zA-Z][0-9A-Za-z.+~_-]{0,31})?")
#: ... or what NVIDIA's container toolkit demands ("cuda>=12.4 brand=tesla,driver>=470,driver<471").
DEMAND = re.compile(r"[A-Za-z0-9_.,<>=!~ +-]{1,8192}")

#: Bytes that no layer has.
_SIZE = 1 << 50


class NoSuchImage(PackageError):
    """The registry has no such tag, digest or platform, or an image that is not what its index says: evidence. The message
    says it without naming a mirror, since it is recorded in the lock; `text` says who was asked."""


def resolve(reference: str, mirrors: Mapping[str, str], platforms: Sequence[str] = PLATFORMS) -> Image:
    """Ask a reference's registry, or the mirror in its place, what it points at now, for those of the platforms that there
    are. Raises NoSuchImage, InfrastructureError (down, slow, credentials refused, TLS, rate limit) and UsageError (no
    reference, no mirror)."""
    ref = parse(reference)
    target = mirror_of(reference, mirrors)
    host, _, prefix = target.partition("/")
    repository = f"{prefix}/{ref.repository}" if prefix else ref.repository
    reader = _Reader(reference, Registry(host), repository)
    try:
        return reader.image(ref.wanted, platforms)
    except NotThere as error:
        words = str(error).replace(host, ref.registry)
        raise NoSuchImage(f"{reference}: no such image: {words}", f"asked {target}/{ref.repository}") from None


class _Reader:
    """The documents of one image, read with distrust."""

    def __init__(self, reference: str, registry: Registry, repository: str) -> None:
        self.reference = reference
        self.registry = registry
        self.repository = repository

    def image(self, wanted: str, platforms: Sequence[str]) -> Image:
        document, digest = self._manifest(wanted)
        if "manifests" not in document:
            one = self._platform_image(document, digest, None)
            if one[0] not in platforms:
                self._refused(f"is for {one[0]}, not for {' or '.join(platforms)}")
            return Image(index=digest, platforms=dict([one]))
        found: dict[str, PlatformImage] = {}
        offered = []
        for entry in self._list(document, "manifests"):
            described = entry.get("platform") if isinstance(entry, dict) else None
            if not isinstance(described, dict):
                continue  # an artifact beside the images
            name = f"{described.get('os')}/{described.get('architecture')}"
            if name == "unknown/unknown":
                continue  # BuildKit's attestations
            offered.append(_shown("/".join([name, *filter(None, [str(described.get("variant") or "")])])))
            if name in platforms and name not in found and _plain(described):
                inner, manifest = self._manifest(self._digest(entry, "digest"))
                if "manifests" in inner:
                    self._odd("an index in an index")
                found[name] = self._platform_image(inner, manifest, described)[1]
        if not found:
            self._refused(
                f"is for {', '.join(sorted(set(offered))[:20]) or 'no platform'}, not for {' or '.join(platforms)}"
            )
        return Image(index=digest, platforms=found)

    def _manifest(self, wanted: str) -> tuple[dict[str, Any], str]:
        """An index ("manifests") or a manifest ("config", "layers") with its digest."""
        body, digest, kind = self.registry.manifest(self.repository, wanted, ", ".join((*INDEXES, *MANIFESTS)))
        document = self._json(body)
        kind = document.get("mediaType", kind)
        if document.get("schemaVersion") == 1 or str(kind).startswith(OLD):
            self._refused("is kept in the registry format of before 2016 (schema 1), which engines no longer pull")
        index = "manifests" in document
        # a document that is both would be an index to one program and a manifest to another (CVE-2021-41190)
        if index == ("layers" in document or "config" in document):
            self._odd("neither an index nor a manifest")
        if kind in (*INDEXES, *MANIFESTS) and (kind in INDEXES) != index:
            self._odd("a document of another kind than it says")
        return document, digest

    def _platform_image(
        self, document: dict[str, Any], manifest: str, described: Mapping[str, Any] | None
    ) -> tuple[str, PlatformImage]:
        """("linux/amd64", the image), read from its manifest and configuration; `described` is what the index says of it."""
        pointer = document.get("config")
        if not isinstance(pointer, dict):
            self._odd("a manifest without a configuration")
        digest = self._digest(pointer, "digest")
        config = self._json(self.registry.blob(self.repository, digest))
        platform = f"{config.get('os')}/{config.get('architecture')}"
        if described is not None:
            said = f"{described['os']}/{described['architecture']}"
            mine, its = described.get("variant"), config.get("variant")
            if said != platform or (mine and its and mine != its):
                says = "/".join(filter(None, (said, mine if isinstance(mine, str) else "")))
                is_ = "/".join(filter(None, (platform, its if isinstance(its, str) else "")))
                self._refused(f"is not what its index says: {_shown(says)} there, {_shown(is_)} in the image")
        layers = self._list(document, "layers")
        rootfs = config.get("rootfs")
        diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
        if not isinstance(diff_ids, list) or len(diff_ids) != len(layers):
            self._odd("an image whose configuration does not name the layers of its manifest")
        inner = config.get("config")
        return _shown(platform), PlatformImage(
            manifest=manifest,
            config=digest,
            facts=facts(inner.get("Env") if isinstance(inner, dict) else None),
            layers=tuple(
                Layer(
                    digest=self._digest(layer, "digest"),
                    size=self._size(layer),
                    diff_id=self._digest({"id": diff_id}, "id"),
                )
                for layer, diff_id in zip(layers, diff_ids, strict=True)
            ),
        )

    def _json(self, body: bytes) -> dict[str, Any]:
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            self._odd("something that is no JSON")
        if not isinstance(document, dict):
            self._odd("JSON that is no document")
        return document

    def _list(self, document: Mapping[str, Any], name: str) -> list[Any]:
        found = document.get(name)
        return found if isinstance(found, list) else self._odd(f"{name!r} that are no list")

    def _digest(self, item: Any, name: str) -> str:
        found = item.get(name) if isinstance(item, dict) else None
        return found if isinstance(found, str) and DIGEST.fullmatch(found) else self._odd("a digest that is no SHA-256")

    def _size(self, layer: Mapping[str, Any]) -> int:
        found = layer.get("size")
        if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < _SIZE:
            return found
        return self._odd("a layer of no possible size")

    def _odd(self, what: str) -> NoReturn:
        raise InfrastructureError(f"{self.registry.host}: {self.repository}: answers with {what} for {self.reference}")

    def _refused(self, why: str) -> NoReturn:
        raise NoSuchImage(f"{self.reference}: {why}", f"asked {self.registry.host}/{self.repository}")


def _plain(platform: Mapping[str, Any]) -> bool:
    """Whether every machine of its architecture runs it: linux/arm64/v8 and linux/amd64/v1 are the plain ones."""
    return platform.get("variant") in (None, "", {"arm64": "v8", "amd64": "v1"}.get(str(platform.get("architecture"))))


def _shown(text: str) -> str:
    """Text of a stranger, fit to be shown and kept."""
    return re.sub(r"[^A-Za-z0-9_./-]", "?", text)[:60]


def facts(env: Any) -> dict[str, str]:
    """The variables of a configuration's `Env` (["CUDA_VERSION=12.4.1.003", ...]) that tell versions, and no other."""
    out = {}
    for item in env if isinstance(env, list) else []:
        name, equals, value = item.partition("=") if isinstance(item, str) else ("", "", "")
        form = DEMAND if name.startswith("NVIDIA_REQUIRE_") else VERSION
        if form is VERSION and len(value) > 80:
            continue
        if equals and len(name) <= 80 and NAMES.fullmatch(name) and not SECRETS.search(name) and form.fullmatch(value):
            out[name] = value
    return dict(sorted(out.items()))
