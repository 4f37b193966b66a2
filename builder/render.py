"""A stack, its pins and its base image -> the Dockerfile and the files it needs. Pure: reads `images/`, starts nothing.

The text is a function of its arguments: the same lock gives the same bytes. Nothing of the host is in it (no address, no
path, no time), and no value is put where a shell or the Dockerfile's own syntax would read it: commands are JSON lists, and
every value is held to a pattern besides.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

from builder import imagerules, templates
from builder.environment import reference
from builder.lock import Pins, PlatformImage
from builder.section import VALUE
from builder.templates import RenderError
from builder.values import Family, ImageRules, Stack, digest

ENVIRONMENT = "/opt/enginematrix/env"
MOUNTED = "/mnt/enginematrix"
DEPENDENCIES, OWN = "requirements/dependencies.txt", "requirements/own.txt"
SCRIPTS = ("check.py", "environment.sh")
"""Of `images/`: every build context has them."""
_PIN = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._,-]+\])?==[A-Za-z0-9][A-Za-z0-9._+!-]*( ; [A-Za-z0-9_ .<>=!'\"()-]+)?"
)
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_EXACT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*==\s*([^\s;,*]+)")


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A stack as a Dockerfile, for one platform."""

    stack: Stack
    platform: str
    """"linux/amd64"."""
    dockerfile: str
    files: Mapping[str, str]
    """Relative path in the build context -> text. The builder adds the program `uv`, and below `wheels/` a folder for each
    file of `requirements/`."""
    registry: str
    """What ARG REGISTRY says without a mirror: "nvcr.io", "docker.io"."""
    pins: Pins
    python: str
    """The interpreter that starts the worker in a container: the environment's, or the image's own where nothing is added."""

    @cached_property
    def key(self) -> str:
        """Names the image: equal keys are one image (64 hex digits)."""
        return digest({"dockerfile": self.dockerfile, "files": dict(self.files), "platform": self.platform})

    @property
    def tag(self) -> str:
        """Names of images have small letters only, and single marks between them; the key tells families apart."""
        family = re.sub(r"[^a-z0-9]+", "-", self.stack.family.lower()).strip("-")
        return f"enginematrix/{family}:{self.key[:16]}"


def render(
    stack: Stack, family: Family, pins: Pins, image: PlatformImage, platform: str, images: Path, cutoff: str
) -> Rendered:
    """The Dockerfile of a stack on its locked base. `cutoff`: the instant (ISO 8601) under which the pins were resolved, which
    all files of the image get. Raises RenderError."""
    rules = family.image
    if rules is None or not stack.base:
        msg = f"{stack.id}: family {family.name!r} has no image"
        raise RenderError(msg)
    if pins.unresolved:
        msg = f"{stack.id}: the lock has no packages for it: {pins.unresolved}"
        raise RenderError(msg)
    _check_values(stack, image, pins)
    named = reference.parse(stack.base)
    interpreter = _filled(stack, rules.interpreter)
    files = {name: _script(images, name) for name in SCRIPTS}
    if pins.packages:
        own = own_pins(stack, pins)
        files[DEPENDENCIES] = _text(pins, [pin for pin in pins.packages if pin not in own])
        if own:
            files[OWN] = _text(pins, own)
    python = f"{ENVIRONMENT}/bin/python" if pins.packages else interpreter
    promised = _promised(stack, rules)
    script = ["/bin/sh", f"{MOUNTED}/environment.sh"]
    build = SimpleNamespace(
        epoch=_epoch(stack, cutoff),
        dependencies=DEPENDENCIES,
        own=OWN,
        check=[*script, "check", interpreter, stack.python if pins.packages else "", *promised],
        create=[*script, "create", interpreter, stack.python, rules.site, f"{MOUNTED}/{DEPENDENCIES}"]
        if DEPENDENCIES in files
        else [],
        add=[*script, "add", f"{MOUNTED}/{OWN}"] if OWN in files else [],
        recheck=[*script, "check", python, stack.python, *promised] if pins.packages and rules.site == "system" else [],
    )
    base = SimpleNamespace(
        registry=named.registry, path=named.repository, reference=stack.base, manifest=image.manifest
    )
    values: dict[str, object] = {**stack.facts, **stack.fields, "python": stack.python}
    names = {name.replace("-", "_"): value for name, value in values.items()}
    names.update(base=base, build=build, labels=_labels(stack, pins, image, cutoff))
    dockerfile = templates.fill(images, family, stack, names)
    start = f"FROM ${{REGISTRY}}/{base.path}@{base.manifest}"
    if not any(line == start or line.startswith(f"{start} ") for line in dockerfile.splitlines()):
        msg = f"{images / family.name / templates.TEMPLATE}: makes no {start!r}, so nothing holds it to the base that is locked; "
        raise RenderError(msg + 'begin it with {% extends "base.Dockerfile.j2" %}')
    return Rendered(
        stack=stack,
        platform=platform,
        dockerfile=dockerfile,
        files=files,
        registry=named.registry,
        pins=pins,
        python=python,
    )


def own_pins(stack: Stack, pins: Pins) -> list[str]:
    """The pins of the packages that the stack is named by: those whose line asks for exactly the version that one of the
    stack's fields is. They differ between neighbours, so they are installed last."""
    fields = set(stack.fields.values())
    lines = [_EXACT.match(requirement.line) for requirement in stack.requirements]
    wanted = {_normal(line[1]) for line in lines if line and line[2] in fields}
    return [pin for pin in pins.packages if _normal(re.split(r"[\[=]", pin)[0]) in wanted]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _text(pins: Pins, packages: list[str]) -> str:
    """Some of the pins as pip's requirements format; '' for none."""
    return replace(pins, packages=tuple(packages)).requirements_txt() if packages else ""


def _promised(stack: Stack, rules: ImageRules) -> list[str]:
    """Arguments of check.py. What the catalog does not know of this stack is not asked."""
    out = []
    for name, field in rules.checks.items():
        value = stack.python if field == "python" else stack.value(field)
        if value:
            known = name in ("python", "cuda", "cudnn", "tensorrt")
            out += [f"--{name}", value] if known else ["--distribution", f"{name}={value}"]
    return out


def _filled(stack: Stack, text: str) -> str:
    def value(found: re.Match[str]) -> str:
        name = found[1]
        out = stack.python if name == "python" else stack.value(name)
        if out is None or not imagerules.PART.fullmatch(out):
            msg = f"{stack.id}: {{{name}}} of {text!r} is {out!r}"
            raise RenderError(msg)
        return out

    return imagerules.PLACEHOLDER.sub(value, text)


def _check_values(stack: Stack, image: PlatformImage, pins: Pins) -> None:
    """Nothing that means something to a shell, a Dockerfile or pip reaches any of them."""
    for name, value in (*stack.fields.items(), *stack.facts.items(), ("python", stack.python)):
        if not VALUE.fullmatch(value):
            msg = f"{stack.id!r}: {name} is {value!r}, which cannot stand in a Dockerfile"
            raise RenderError(msg)
    if not imagerules.is_reference(stack.base):
        msg = f"{stack.id}: {stack.base!r} is not an image with registry and tag"
        raise RenderError(msg)
    if not _HASH.fullmatch(image.manifest):
        msg = f"{stack.id}: {image.manifest!r} is not the digest of an image; run `enginematrix lock`"
        raise RenderError(msg)
    for pin in pins.packages:
        if not _PIN.fullmatch(pin):
            msg = f"{stack.id}: {pin!r} in the lock is not a pin"
            raise RenderError(msg)
        wrong = [value for value in pins.hashes[pin] if not _HASH.fullmatch(value)]
        if wrong or not pins.hashes[pin]:
            msg = f"{stack.id}: {pin} in the lock has {wrong[0] if wrong else 'nothing'!r} for a hash"
            raise RenderError(msg)


def _epoch(stack: Stack, cutoff: str) -> int:
    """Seconds since 1970 of an instant such as 2026-11-20T00:00:00Z."""
    try:
        if not cutoff.isprintable():  # Python 3.11 takes any character between date and time
            raise ValueError(cutoff)
        moment = datetime.datetime.fromisoformat(cutoff.replace("Z", "+00:00"))
    except ValueError as error:
        msg = f"{stack.id}: the cut-off {cutoff!r} is not an instant"
        raise RenderError(msg) from error
    return int(moment.replace(tzinfo=moment.tzinfo or datetime.timezone.utc).timestamp())


def _labels(stack: Stack, pins: Pins, image: PlatformImage, cutoff: str) -> list[tuple[str, str]]:
    """OCI's annotations (https://specs.opencontainers.org/image-spec/annotations/) and the stack's own facts."""
    known = {**stack.facts, **stack.fields, "python": stack.python}
    return [
        ("org.opencontainers.image.title", stack.id),
        ("org.opencontainers.image.version", stack.id.removeprefix(f"{stack.family}-")),
        ("org.opencontainers.image.created", cutoff),
        ("org.opencontainers.image.base.name", stack.base),
        ("org.opencontainers.image.base.digest", image.manifest),
        ("org.enginematrix.stack", stack.id),
        ("org.enginematrix.family", stack.family),
        *((f"org.enginematrix.{name}", known[name]) for name in sorted(known)),
        ("org.enginematrix.packages", pins.key),
    ]


def _script(images: Path, name: str) -> str:
    try:
        return (images / name).read_text(encoding="utf-8")
    except OSError as error:
        msg = f"{images / name}: {error.strerror}; every image needs it"
        raise RenderError(msg) from error
