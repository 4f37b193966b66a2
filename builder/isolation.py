"""Which way a stack is realised: in a Docker image or in a virtual environment. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, get_args

from builder.environment import reference
from builder.errors import UsageError
from builder.section import Section
from builder.values import Docker, Family

Isolation = Literal["auto", "docker", "venv"]
Realised = Literal["docker", "venv"]
ISOLATIONS: tuple[Isolation, ...] = get_args(Isolation)
Network = Literal["default", "host", "none"]
Gpus = Literal["auto", "devices", "cdi"]
NETWORKS: tuple[Network, ...] = get_args(Network)
GPUS: tuple[Gpus, ...] = get_args(Gpus)
DOCKER_KEYS = ("mirrors", "build-network", "gpus", "shm", "pids")
#: For editors; `reference.is_mirror` decides.
REGISTRY = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9][a-z0-9._-]*)*")


def choose(family: Family, asked: Isolation, docker: bool) -> Realised:
    """How a family's stacks are realised when `asked` is asked for. `docker`: whether a Docker engine may answer here.

    What is asked for holds where the family can do it. `auto` takes the first of the family's own list that there is:
    `[docker]` needs an engine, `[docker, venv]` prefers one, `[venv, docker]` does without.
    """
    if asked != "auto":
        return asked if asked in family.isolation else _other(asked)
    return "docker" if family.isolation[0] == "docker" and (docker or "venv" not in family.isolation) else "venv"


def _other(realised: Realised) -> Realised:
    return "venv" if realised == "docker" else "docker"


def read(section: Section) -> Docker:
    """`docker:` of matrix.yaml; what is wrong with it is noted at its place."""
    known = Docker()
    mirrors = {}
    for name, value, where in section.children("mirrors"):
        text = getattr(value, "value", "")
        registry = reference.DOCKER_IO if name == "index.docker.io" else name
        if not reference.is_host(registry):
            section.source.error(where, f"{name!r} is no registry", "write its host: nvcr.io, docker.io")
        elif not reference.is_mirror(text):
            section.source.error(
                where, f"{text!r} cannot stand for {name!r}", "write a host and a path: example.com/nvcr"
            )
        else:
            mirrors[registry] = text
    return Docker(
        mirrors=mirrors,
        build_network=_network(section.choice("build-network", NETWORKS)) or known.build_network,
        gpus=_gpus(section.choice("gpus", GPUS)) or known.gpus,
        shm=section.size("shm") or known.shm,
        pids=section.integer("pids", known.pids, least=64),
    )


def _network(text: str) -> Network | None:
    return next((known for known in NETWORKS if known == text), None)


def _gpus(text: str) -> Gpus | None:
    return next((known for known in GPUS if known == text), None)


def with_environment(settings: Docker, environ: Mapping[str, str] = os.environ) -> Docker:
    """What the matrix says of Docker, with what this machine's environment says in its place: ENGINEMATRIX_MIRRORS
    ("nvcr.io=mirror.example.com/nvcr docker.io=...") and ENGINEMATRIX_BUILD_NETWORK. Raises UsageError."""
    text = environ.get("ENGINEMATRIX_BUILD_NETWORK", "")
    if text and _network(text) is None:
        msg = f"ENGINEMATRIX_BUILD_NETWORK={text!r}: write {', '.join(NETWORKS)}"
        raise UsageError(msg)
    mirrors = reference.mirrors_from(settings.mirrors, environ)
    return replace(settings, mirrors=mirrors, build_network=_network(text) or settings.build_network)
