"""References to images ("nvcr.io/nvidia/tensorrt:24.05-py3") and the mirrors that are asked in a registry's place. Pure.

The grammar is that of the distribution project (https://pkg.go.dev/github.com/distribution/reference), with `docker.io` and
`library/` put in as Docker does.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

from builder.errors import UsageError

DOCKER_IO = "docker.io"
#: What Docker asks for images of docker.io.
DOCKER_IO_HOST = "registry-1.docker.io"
VARIABLE = "ENGINEMATRIX_MIRRORS"

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]{{2,45}}\])(?::([0-9]{{1,5}}))?")
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
LONGEST = 255
"""Characters of host and path together, as the distribution project has it."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An image, as its author names it: no mirror."""

    registry: str
    """Host and port; `docker.io` for Docker Hub."""
    repository: str
    tag: str
    """'' where only a digest is given."""
    digest: str

    @property
    def wanted(self) -> str:
        """What a registry is asked for: the digest where there is one."""
        return self.digest or self.tag


def parse(text: str) -> Reference:
    """A reference in its parts; without tag and digest it is `latest`, as everywhere. Raises UsageError."""
    name, at, digest = text.partition("@")
    if at and not DIGEST.fullmatch(digest):
        raise _bad(text, "its digest is not sha256: and 64 hex digits")
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise _bad(text, "its tag has a character that no tag has")
    name = head + slash + last
    first, slash, rest = name.partition("/")
    if slash and is_host(first):
        registry, path = first, rest
    else:
        registry, path = DOCKER_IO, name
    if registry in ("index.docker.io", DOCKER_IO):
        registry, path = DOCKER_IO, path if "/" in path else f"library/{path}"
    if len(name) > LONGEST or not _PATH.fullmatch(path):
        raise _bad(text, "its path is not made of a-z, 0-9 and . _ - between slashes")
    return Reference(registry=registry, repository=path, tag=tag or ("" if digest else "latest"), digest=digest)


def _bad(text: str, why: str) -> UsageError:
    return UsageError(f"{text[:LONGEST]!r} names no image: {why}; write it as nvcr.io/nvidia/tensorrt:24.05-py3")


def is_host(text: str) -> bool:
    """Whether Docker takes the first part of a reference for a registry: it has a dot or a port, or is `localhost`."""
    match = _HOST.fullmatch(text)
    if match is None or not ("." in text or ":" in text or text == "localhost"):
        return False
    return match[1] is None or 0 < int(match[1]) < 65536


def loopback(host: str) -> bool:
    """Whether "127.0.0.1:5000", "[::1]:5000" or "localhost" is this machine itself, by its text: nothing is looked up."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def mirror_of(reference: str, mirrors: Mapping[str, str]) -> str:
    """What stands in a reference's registry's place: "mirror.example.com:5000/nvcr", or the registry itself ("nvcr.io").
    It is the value of a Dockerfile's ARG REGISTRY. Raises UsageError for a bad reference or mirror."""
    registry = parse(reference).registry
    target = mirrors.get(registry, registry)
    if target != registry and not is_mirror(target):
        msg = f"the mirror of {registry} is no registry; write host, port and path: mirror.example.com:5000/nvcr"
        raise UsageError(msg)
    return target


def is_mirror(target: str) -> bool:
    """Whether a text is host, port and path, as in "mirror.example.com:5000/nvcr"."""
    host, slash, path = target.partition("/")
    return is_host(host) and len(target) <= LONGEST and (not slash or _PATH.fullmatch(path) is not None)


def mirrors_from(settings: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The mirrors of the matrix file with those of ENGINEMATRIX_MIRRORS in their place: "nvcr.io=mirror:5000/nvcr
    docker.io=...", blanks between them; "nvcr.io=" asks nvcr.io itself, whatever the file says. Raises UsageError, without
    what stands behind the `=`: somebody may have put a password there."""
    out = dict(settings)
    for item in environ.get(VARIABLE, "").split():
        registry, equals, target = item.partition("=")
        if not equals or not is_host(registry):
            said = repr(registry[:LONGEST]) if "@" not in registry else "an entry"
            msg = f"{VARIABLE}: {said} is no registry; write {VARIABLE}='nvcr.io=mirror.example.com:5000/nvcr docker.io=...'"
            raise UsageError(msg)
        registry = DOCKER_IO if registry == "index.docker.io" else registry
        if not target:
            out.pop(registry, None)
        elif is_mirror(target):
            out[registry] = target
        else:
            msg = (
                f"{VARIABLE}: what is said for {registry} is no mirror; write host, port and path, no scheme and no user: "
                f"{registry}=mirror.example.com:5000/nvcr"
            )
            raise UsageError(msg)
    return out
