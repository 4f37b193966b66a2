"""A chosen stack as something that runs as it is: a pull line, a Dockerfile, locked requirements; pick_matrix.py: a matrix.yaml.

Each says what it is pinned by, and plainly so where it is not.
"""

from __future__ import annotations

import re
import shlex
import sys

from builder import __version__
from builder.answers import minor
from builder.errors import UsageError
from builder.lock import Pins
from builder.pick_known import Known, loose
from builder.pick_matrix import matrix, models, realised, there
from builder.pick_question import Question
from builder.pick_stacks import Candidate
from builder.project import Project
from builder.values import Stack
from builder.versions import ordered

__all__ = ["docker", "dockerfile", "matrix", "models", "realised", "requirements"]

BASE = "docker.io/library/python:{python}-slim-bookworm"
"""What sets of packages are installed on: the base of this project's own images (images/*/family.yaml)."""
LONGEST = 60_000
"""Characters of pins in one step of a Dockerfile."""
_LOCAL = re.compile(r"torch==[0-9.]+\+(cpu|cu[0-9]+)")


def docker(stack: Candidate, known: Known, platform: str) -> str:
    """The line that pulls the stack's image: by digest where it is known. Raises UsageError."""
    if not stack.reference:
        msg = f"{stack.id} is a set of packages, no image; use --emit requirements, dockerfile or matrix"
        raise UsageError(msg)
    option = f"--platform {platform} " if platform else ""
    name, told = _pinned(stack.reference, known, platform)
    return f"{told}\ndocker pull {option}{name}\n"


def _pinned(reference: str, known: Known, platform: str) -> tuple[str, str]:
    """An image by its digest, else by its tag; and a comment that says which. Raises UsageError for a platform that it is not
    for."""
    image, who = known.image(reference)
    if image is None:
        return reference, f"# By tag, which may come to mean another image: {who}."
    if platform and platform not in image.platforms:
        msg = f"{reference} is for {', '.join(image.platforms)}, not for {platform} (by {who})"
        raise UsageError(msg)
    return f"{reference.rpartition(':')[0]}@{image.index}", f"# {reference}, by {who}"


def requirements(stack: Candidate, question: Question, project: Project, known: Known) -> str:
    """The stack's packages and all that they ask for, by version and hash; where that cannot be had, their own lines and why.
    Raises UsageError, SpecErrors."""
    if stack.reference:
        msg = f"{stack.id} is an image, which holds its packages; use --emit docker or --emit dockerfile"
        raise UsageError(msg)
    made = packages(stack, question, project)
    pins, who = known.pins(made)
    if pins is not None:
        how = "uv pip install --require-hashes" + _backend(pins.packages) + " -r FILE"
        head = f"{_elsewhere(stack, question)}# {made.id}, for Python {pins.python}, by {who}\n"
        return f"{head}# {how}\n{pins.requirements_txt()}"
    lines = [requirement.line for requirement in made.requirements]
    told = f"{made.id}: not locked, without hashes and without what these packages ask for: {who}"
    head = f"{_elsewhere(stack, question)}# {told}\n"
    if _backend(lines):
        head += f"# uv pip install{_backend(lines)} -r FILE\n"
    return head + "".join(f"{line}\n" for line in lines)


def _elsewhere(stack: Candidate, question: Question) -> str:
    """A comment where packages are asked for on a platform that they are not known to be for."""
    if not question.platform or question.platform in stack.platforms:
        return ""
    known = ", ".join(stack.platforms) or "no platform that is recorded"
    return (
        f"# Chosen and resolved for {known}: whether there are such packages for {question.platform} is not recorded.\n"
    )


def packages(stack: Candidate, question: Question, project: Project) -> Stack:
    """A set of packages with the Python that it is for: as its family makes it, else by its own lines. Raises UsageError,
    SpecErrors."""
    if there(stack, project):
        return realised(stack, question, project)[0]
    known = ordered({minor(python) for python in stack.pythons})
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    newest = here if here in known else "".join(known[-1:])  # the one that is here is sooner at hand than the newest
    python = minor(question.python) if question.python else newest
    if not python:
        msg = f"which Python {stack.id} is for is not recorded; name one with --python"
        raise UsageError(msg)
    return loose(stack.id, python, stack.packages)


def dockerfile(stack: Candidate, question: Question, project: Project, known: Known) -> str:
    """A Dockerfile that needs no other file: `docker build - < Dockerfile`. Raises UsageError, SpecErrors."""
    platform = question.platform or ("linux/arm64" if stack.group == "l4t" else "")
    option = f"--platform={platform} " if platform else ""
    head = f"# {stack.id}, as chosen by enginematrix {__version__} pick. Build: docker build - < Dockerfile\n"
    if stack.reference:
        name, told = _pinned(stack.reference, known, platform)
        return f"{head}{told}\nFROM {option}{name}\n"
    made = packages(stack, question, project)
    pins, who = known.pins(made)
    if pins is None:
        msg = f"no Dockerfile of {stack.id}: its packages are not locked: {who}"
        raise UsageError(msg)
    name, told = _pinned(BASE.format(python=minor(pins.python)), known, platform)
    return f"{head}{_elsewhere(stack, question)}{told}\nFROM {option}{name}\n{_installed(pins, who)}"


def _installed(pins: Pins, who: str) -> str:
    """Packages by hash. Those of PyTorch's own index are found by uv, which knows that index by name."""
    text = f"# Packages by {who}.\n"
    install = "python -m pip install --no-cache-dir --no-deps --require-hashes"
    if backend := _backend(pins.packages):
        text += _run(_uv(), "/tmp/uv.txt", install)  # noqa: S108 - in the image
        install = f"uv pip install --system --no-cache --no-deps --require-hashes{backend}"
    return text + _run(pins, "/tmp/requirements.txt", install)  # noqa: S108 - in the image


def _run(pins: Pins, path: str, install: str) -> str:
    """Write the pins and install them, by what every builder of Dockerfiles knows: no documents within, which need BuildKit
    with Dockerfile syntax 1.4. Linux takes arguments of up to 128 KiB, so that many hashes take several steps."""
    parts: list[list[str]] = [[]]
    for name in pins.packages:
        line = shlex.quote(" ".join([name, *(f"--hash={value}" for value in pins.hashes[name])]))
        if sum(map(len, parts[-1])) + len(line) > LONGEST:
            parts.append([])
        parts[-1].append(line)
    steps = []
    for part in parts:
        lines = "".join(f"      {line} \\\n" for line in part)
        steps.append(f"RUN printf '%s\\n' \\\n{lines}      >> {path}")
    return "\n".join(steps) + f" && \\\n    {install} -r {path} && rm {path}\n"


def _uv() -> Pins:
    """uv by version and hash, as this program's own requirements have it. Raises UsageError."""
    from pathlib import Path

    from builder.environment.uv import parse_requirements

    path = Path(__file__).parent.parent / "requirements" / "run.txt"
    found = parse_requirements(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name, hashes in found.items():
        if name.startswith("uv=="):
            return Pins(python="", requirements=(), packages=(name,), hashes={name: hashes})
    msg = f"{path.name} has no hashes of uv, which finds PyTorch's index; use --emit requirements"
    raise UsageError(msg)


def _backend(lines: tuple[str, ...] | list[str]) -> str:
    """The option that makes uv look into PyTorch's own index, which has the builds with a local version; or ''."""
    found = next((match for line in lines if (match := _LOCAL.match(line))), None)
    return f" --torch-backend {found[1]}" if found else ""
