"""Is a build reproducible? Build an image twice, each time without anything of an earlier build, and compare.

No layer cache is used (`--no-cache`), and no package cache: both builds are of a copy of the Dockerfile in which the cache
mount has an id of its own, so it starts empty. The id is in no layer and no history (BuildKit keeps a RUN's command there
and not its mounts), so the copy makes what the original makes. Afterwards that mount is pruned.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from builder.environment import build_context, buildkit, buildsecrets, engine
from builder.environment.build_log import failure
from builder.errors import InfrastructureError

if TYPE_CHECKING:
    from builder.environment.images import DockerImage

_CACHE = re.compile(r"(--mount=type=cache,(?:\S*,)?id=)([^,\s]+)")
_IGNORED = frozenset(
    {"Id", "RepoTags", "RepoDigests", "Metadata", "GraphDriver", "Parent", "Size", "VirtualSize", "RootFS"}
)
"""What an engine says of an image that is no part of it, and the layers, which are compared apart."""
SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class FileDifference:
    """A file of a layer that the two builds do not agree on."""

    layer: int
    path: str
    what: str
    """`only in the first`, `only in the second`, or what differs: `size 10, 12; content`."""


@dataclass(frozen=True, kw_only=True)
class LayerPair:
    """One layer of both builds, by the digest of its unpacked content ("" where a build has no such layer)."""

    first: str
    second: str

    @property
    def identical(self) -> bool:
        return self.first == self.second


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two builds of one image."""

    identical: bool
    """The same image, with the same id: layers and configuration."""
    layers: tuple[LayerPair, ...]
    files: tuple[FileDifference, ...]
    """Of the layers that differ."""
    configuration: tuple[str, ...]
    """Fields of the configuration that differ: `Created` where the builder knows no SOURCE_DATE_EPOCH."""

    @property
    def same_layers(self) -> bool:
        return all(layer.identical for layer in self.layers)

    def as_dict(self) -> dict[str, Any]:
        return {
            "identical": self.identical, "same_layers": self.same_layers, "configuration": list(self.configuration),
            "layers": [{**asdict(layer), "identical": layer.identical} for layer in self.layers],
            "files": [asdict(file) for file in self.files],
        }  # fmt: skip

    def lines(self) -> list[str]:
        """For people."""
        if self.identical:
            return [f"identical: {len(self.layers)} layers and the configuration"]
        same = sum(layer.identical for layer in self.layers)
        out = [f"not identical: {same} of {len(self.layers)} layers are the same"]
        if self.configuration:
            out.append(f"the configuration differs in {', '.join(self.configuration)}")
        out += [f"layer {file.layer}: {file.path}: {file.what}" for file in self.files[:SHOWN]]
        if len(self.files) > SHOWN:
            out.append(f"... and {len(self.files) - SHOWN} more files")
        if self.files and all(file.path == "etc" and file.what.startswith("mtime ") for file in self.files):
            out.append(
                "BuildKit before 0.11 (Docker before 23) itself changes /etc after each step: moby/buildkit issue 3148"
            )
        return out


def rebuild_twice(image: DockerImage, *, timeout: float = buildkit.TIMEOUT) -> Comparison:
    """Build it twice and compare; the image itself is left alone. Raises ImageError or InfrastructureError."""
    cli = engine.builder_cli()
    context = build_context.complete(image.store, image.rendered)
    marks = [secrets.token_hex(8) for _ in range(2)]
    tags = [f"enginematrix-rebuild:{mark}" for mark in marks]
    try:
        with buildsecrets.lent(os.environ) as lent, tempfile.TemporaryDirectory() as folder:
            options = buildkit.Options(network=image.settings.build_network, secrets=lent, fresh=True, timeout=timeout)
            for number, (mark, tag) in enumerate(zip(marks, tags, strict=True), start=1):
                dockerfile = Path(folder, mark)
                dockerfile.write_text(_CACHE.sub(rf"\g<1>\g<2>-{mark}", image.rendered.dockerfile), encoding="utf-8")
                target = replace(image.target(context), dockerfile=dockerfile, tag=tag)
                ended = buildkit.build(cli, target, options, image.folder / f"rebuild-{number}.log")
                if ended.code:
                    raise failure(f"{image.name}: rebuild", ended.text)
        return compare(cli, *tags)
    finally:
        for tag in tags:
            buildkit.ask(cli, "image", "rm", tag)
        _prune(marks)


def _prune(marks: list[str]) -> None:
    """Remove the package caches of these two builds. Where that fails the engine's own garbage collection gets them."""
    with contextlib.suppress(InfrastructureError, *engine.errors()):
        api = engine.client().api
        for entry in api.df().get("BuildCache") or ():
            if any(mark in str(entry.get("Description", "")) for mark in marks):
                api.prune_builds(filters={"id": entry["ID"]}, all=True)


def compare(cli: engine.Cli, first: str, second: str) -> Comparison:
    """Compare two images of the engine, by name or id. Only layers that differ are read. Raises InfrastructureError."""
    found = [buildkit.inspect(cli, name) for name in (first, second)]
    one, two = found
    if one is None or two is None:
        msg = f"the Docker engine lost {first if one is None else second} before it could be compared"
        raise InfrastructureError(msg)
    layers = _pairs(one["RootFS"].get("Layers") or [], two["RootFS"].get("Layers") or [])
    files: list[FileDifference] = []
    if not all(pair.identical for pair in layers):
        mine = contents(cli, first, {pair.first for pair in layers if not pair.identical})
        theirs = contents(cli, second, {pair.second for pair in layers if not pair.identical})
        for number, pair in enumerate(layers, start=1):
            if not pair.identical:
                files += differences(number, mine.get(pair.first, {}), theirs.get(pair.second, {}))
    return Comparison(
        identical=one["Id"] == two["Id"], layers=layers, files=tuple(files),
        configuration=tuple(
            key for key in sorted(one.keys() | two.keys()) if key not in _IGNORED and one.get(key) != two.get(key)
        ),
    )  # fmt: skip


def _pairs(first: list[str], second: list[str]) -> tuple[LayerPair, ...]:
    length = max(len(first), len(second))
    both = [[*layers, *[""] * (length - len(layers))] for layers in (first, second)]
    return tuple(LayerPair(first=one, second=two) for one, two in zip(*both, strict=True))


# Layers ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of a layer, as far as the layer's digest depends on it."""

    kind: str
    size: int
    mode: str
    owner: str
    mtime: float
    target: str
    sha256: str
    more: str
    """Extended attributes and the like."""


def differences(layer: int, first: Mapping[str, Entry], second: Mapping[str, Entry]) -> Iterator[FileDifference]:
    """What two layers' files differ in; one line about the order where nothing else does."""
    some = False
    for path in sorted(first.keys() | second.keys()):
        one, two = first.get(path), second.get(path)
        if one is None or two is None:
            what = f"only in the {'second' if one is None else 'first'}"
        elif one != two:
            mine, theirs = asdict(one), asdict(two)
            unlike = [name for name in mine if mine[name] != theirs[name]]
            what = "; ".join(
                "content" if name == "sha256" else f"{name} {mine[name]}, {theirs[name]}" for name in unlike
            )
        else:
            continue
        some = True
        yield FileDifference(layer=layer, path=path, what=what)
    if not some:
        yield FileDifference(layer=layer, path=".", what="the same files, packed in another order or form")


def contents(cli: engine.Cli, image: str, wanted: set[str]) -> dict[str, dict[str, Entry]]:
    """diff id -> path -> entry, of those layers of an image that are wanted, from `docker save`, which is read as it comes.
    Raises InfrastructureError."""
    process = subprocess.Popen(  # noqa: S603
        [cli.path, "image", "save", image], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=buildkit.environ()
    )
    assert process.stdout is not None and process.stderr is not None
    layers: dict[str, dict[str, Entry]] = {}
    names: dict[str, str] = {}
    documents: dict[str, Any] = {}
    try:
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                if member.issym() or member.islnk():  # a layer that stands there twice
                    names[member.name] = os.path.normpath(Path(member.name).parent / member.linkname)
                    continue
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is None:
                    continue
                if member.name.endswith("layer.tar"):
                    layers[member.name] = _entries(stream)
                    continue
                head = stream.read(1)
                if head in (b"{", b"["):
                    documents[member.name] = json.loads(head + stream.read())
                elif member.name.startswith("blobs/"):
                    layers[member.name] = _entries(_Resumed(head, stream))
        error = process.stderr.read().decode("utf-8", "replace")
    except (tarfile.TarError, OSError, ValueError) as failed:
        msg = f"the Docker engine's `save` of {image} cannot be read: {failed}"
        raise InfrastructureError(msg) from failed
    finally:
        process.stdout.close()
        code = process.wait()
        process.stderr.close()
    manifest = documents.get("manifest.json")
    if code or not manifest:
        msg = f"`docker save` of {image} failed: {error.strip() or f'exit code {code}'}"
        raise InfrastructureError(msg)
    order = [names.get(name, name) for name in manifest[0]["Layers"]]
    diff_ids = documents[manifest[0]["Config"]]["rootfs"]["diff_ids"]
    return {diff_id: layers.get(name, {}) for diff_id, name in zip(diff_ids, order, strict=True) if diff_id in wanted}


class _Resumed:
    """A stream whose first byte was read already."""

    def __init__(self, head: bytes, stream: IO[bytes]) -> None:
        self.head = head
        self.stream = stream

    def read(self, size: int = -1) -> bytes:
        head, self.head = self.head, b""
        return head + self.stream.read(size - len(head) if size >= 0 else -1)


def _entries(stream: Any) -> dict[str, Entry]:
    out: dict[str, Entry] = {}
    with tarfile.open(fileobj=stream, mode="r|*") as layer:
        for member in layer:
            sha = hashlib.sha256()
            file = layer.extractfile(member) if member.isreg() else None
            while file is not None and (chunk := file.read(1 << 20)):
                sha.update(chunk)
            more = {
                key: value
                for key, value in member.pax_headers.items()
                if key not in ("path", "linkpath", "mtime", "size")
            }
            out[member.name] = Entry(
                kind=_kind(member), size=member.size, mode=stat.filemode(member.mode)[1:], owner=f"{member.uid}:{member.gid}",
                mtime=float(member.mtime), target=member.linkname, sha256=sha.hexdigest() if file is not None else "",
                more=json.dumps(more, sort_keys=True) if more else "",
            )  # fmt: skip
    return out


def _kind(member: tarfile.TarInfo) -> str:
    names = {"isdir": "folder", "issym": "symbolic link", "islnk": "hard link", "isreg": "file"}
    return next((name for test, name in names.items() if getattr(member, test)()), "device")
