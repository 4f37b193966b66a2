"""`enginematrix pick`: parse, look, print."""

from __future__ import annotations

import argparse
import datetime
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import EXIT_FAILURES, EXIT_OK, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.pick import Choice
    from builder.pick_evidence import Key, Observation
    from builder.pick_judge import Hardware, Question
    from builder.project import Project

HELP = "Choose a known-good stack for a GPU, a driver and versions, by stored runs and by facts with sources."
DESCRIPTION = HELP + (
    " Offline; runs nothing. Exit code 0: something fits, 1: nothing does (the conflict is named), 2: bad input."
)
_PLATFORMS = {"amd64": "linux/amd64", "x86_64": "linux/amd64", "arm64": "linux/arm64", "aarch64": "linux/arm64"}
FORMS = ("docker", "dockerfile", "requirements", "matrix", "json")
_NEED = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)\s*(.*)")


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    machine = parser.add_mutually_exclusive_group()
    machine.add_argument("--gpu", metavar="GPU", help='"RTX 4090", "A100 80GB", sm89 or 8.9 (default: any)')
    machine.add_argument("--here", action="store_true", help="take GPU and driver from this machine (default: no)")
    parser.add_argument("--driver", metavar="VERSION", help="version of the Linux driver: 550.54.14 (default: any)")
    parser.add_argument(
        "--need", metavar="LIST", action="append",
        help='what it must have, by PEP 440: "tensorrt>=10,<11,pytorch>=2.3" (default: anything; may be repeated)',
    )  # fmt: skip
    parser.add_argument("--python", metavar="X.Y", help="CPython release (default: any)")
    parser.add_argument("--model", metavar="NAME", help="count only runs of this recipe (default: of any)")
    parser.add_argument("--precision", metavar="NAME", help="fp32, tf32, fp16, bf16, int8, fp8 or fp4 (default: any)")
    parser.add_argument("--platform", metavar="NAME", help="linux/amd64 or linux/arm64 (default: any)")
    parser.add_argument(
        "--max-age", metavar="DAYS", type=float, default=180, help="older runs are called expired (default: 180)"
    )
    parser.add_argument("--limit", metavar="N", type=int, default=5, help="stacks to print (default: 5)")
    parser.add_argument(
        "--explain", metavar="STACK", help="say of this stack alone whether it fits, and why not (default: rank all)"
    )
    parser.add_argument(
        "--emit",
        choices=FORMS,
        help="print the best stack of that kind as something that runs; json: the whole answer (default: text)",
    )


def call(options: argparse.Namespace) -> int:
    """Raises UsageError, SpecErrors, StoreError, LockError."""
    from builder import pick, pick_evidence, pick_words
    from builder.project import Project

    path = Path(getattr(options, "file", "matrix.yaml"))
    project = Project(matrix=path / "matrix.yaml" if path.is_dir() else path)
    observations = pick_evidence.read(project.artifacts / "results.sqlite")
    seen = {item.model for items in observations.values() for item in items}
    outcomes = sum(item.role == "engine" for items in observations.values() for item in items)
    if outcomes >= pick_evidence.LIMIT:
        print(f"enginematrix: only the newest {pick_evidence.LIMIT} outcomes were looked into", file=sys.stderr)
    asked = question(options, project, seen)
    now = datetime.datetime.now(datetime.timezone.utc)
    if options.max_age < 0 or options.limit < 1:
        msg = "--max-age takes days from 0 on, --limit a number from 1 on"
        raise UsageError(msg)
    if options.explain:
        return _explain(options, asked, project, observations, now)
    found = pick.pick(asked, observations, now=now, max_age=options.max_age)
    if options.emit == "json":
        print(json.dumps(pick_words.as_dict(found), indent=1, ensure_ascii=False))
    elif options.emit and found.choices:
        print(emit(options.emit, found.choices, asked, project), end="")
    else:
        print("\n".join(pick_words.lines(found, options.limit)))
    return EXIT_OK if found.choices else EXIT_FAILURES


def _explain(
    options: argparse.Namespace, asked: Question, project: Project, observations: Mapping[Key, list[Observation]],
    now: datetime.datetime,
) -> int:  # fmt: skip
    """One stack alone. Raises UsageError for a name that no stack has."""
    from builder import pick, pick_words
    from builder.facts_records import CATALOG
    from builder.pick_judge import Judge
    from builder.pick_stacks import candidates
    from builder.versions import nearest

    stacks = candidates(CATALOG)
    stack = pick.find(options.explain, stacks)
    if stack is None:
        msg = f"the catalog has no stack {options.explain!r}; {nearest(options.explain, [item.id for item in stacks])}"
        raise UsageError(msg.rstrip("; "))
    judge = Judge(CATALOG)
    group = [item for item in stacks if item.group == stack.group]
    choices = {
        item.id: pick.choice(item, asked, observations, judge, now=now, max_age=options.max_age) for item in group
    }
    found = choices[stack.id]
    against = pick.why(found, asked, stacks, judge)
    better = (
        "" if found.fits else next((item.stack.id for item in pick.ranked(list(choices.values())) if item.fits), "")
    )
    if options.emit == "json":
        print(json.dumps(pick_words.explained(found, against, better), indent=1, ensure_ascii=False))
    elif options.emit and found.fits:
        print(emit(options.emit, (found,), asked, project), end="")
    else:
        print("\n".join(pick_words.explain_lines(found, against, better)))
    return EXIT_OK if found.fits else EXIT_FAILURES


def question(options: argparse.Namespace, project: Project, seen: set[str]) -> Question:
    """What was asked, checked. `seen`: models of stored runs. Raises UsageError."""
    from builder import versions
    from builder.facts_records import PRECISIONS
    from builder.pick_judge import Question

    gpu, driver = _machine(options)
    if driver and versions.version(driver) is None:
        msg = f"--driver takes a version such as 550.54.14, not {driver!r}"
        raise UsageError(msg)
    if options.python and not re.fullmatch(r"[23]\.[0-9]{1,2}(\.[0-9]{1,2})?", options.python):
        msg = f"--python takes a release such as 3.10, not {options.python!r}"
        raise UsageError(msg)
    _one_of("precision", options.precision, ("fp32", *PRECISIONS))
    platform = _PLATFORMS.get(options.platform or "", options.platform or "")
    _one_of("platform", platform, tuple(sorted(set(_PLATFORMS.values()))))
    if options.model and project.recipes.is_dir():
        from builder.pick_emit import models

        _one_of("model", options.model, (*models(project), *seen))
    return Question(
        gpu=gpu, driver=driver, needs=needs(options.need or []), python=options.python or "", model=options.model or "",
        precision=options.precision or "", platform=platform,
    )  # fmt: skip


def _one_of(name: str, value: str | None, known: tuple[str, ...]) -> None:
    from builder.versions import nearest

    if value and value not in known:
        msg = (
            f"--{name} does not know {value!r}; {nearest(value, known) or 'there are ' + ', '.join(sorted(set(known)))}"
        )
        raise UsageError(msg)


def needs(texts: list[str]) -> dict[str, str]:
    """Component -> version clauses of "tensorrt>=10,<11,pytorch>=2.3". Raises UsageError.

    >>> needs(["tensorrt>=10,<11,pytorch>=2.3"])
    {'tensorrt': '>=10,<11', 'torch': '>=2.3'}
    """
    from builder import versions
    from builder.pick_stacks import ALIASES, COMPONENTS

    out: dict[str, str] = {}
    name = ""
    for part in (part.strip() for text in texts for part in text.split(",")):
        match = _NEED.fullmatch(part)
        if match:
            name = match[1].lower().replace("_", "-")
            name, clause = ALIASES.get(name, name), match[2].strip()
            if name == "python":
                msg = "--need has no python; use --python 3.10"
                raise UsageError(msg)
            if name not in COMPONENTS:
                msg = f"--need: no stack has a {match[1]!r}; {versions.nearest(name, (*COMPONENTS, *ALIASES))}"
                raise UsageError(msg.rstrip("; "))
        else:
            clause = part
        wrong = "begin with a name, such as tensorrt>=10" if not name or not part else ""
        if clause and not wrong:
            wrong = versions.problem(clause) or ("" if versions.is_range(clause) else f"write {name}=={clause}")
        if wrong:
            msg = f"--need {part!r}: {wrong}"
            raise UsageError(msg)
        out[name] = ",".join(filter(None, (out.get(name, ""), clause.replace(" ", ""))))
    return out


def _machine(options: argparse.Namespace) -> tuple[Hardware | None, str]:
    """The GPU and the driver that are asked about. Raises UsageError."""
    from builder import pick

    driver = (options.driver or "").strip()
    if options.here:
        from builder import machine

        here = machine.read()
        if here.gpu_trouble:
            msg = f"--here: the driver of this machine does not answer: {here.gpu_trouble}; `enginematrix doctor` says more"
            raise UsageError(msg)
        found = pick.of_machine([(gpu.name, gpu.compute_capability) for gpu in here.gpus])
        return found, driver or (here.driver or "")
    if options.gpu is None:
        return None, driver
    known = pick.hardware(options.gpu)
    if isinstance(known, str):
        raise UsageError(f"--gpu: {known}")
    return known, driver


def emit(form: str, choices: tuple[Choice, ...], asked: Question, project: Project) -> str:
    """The best choice that can be had in a form. Raises UsageError where there is none."""
    from builder import lock, pick_emit

    wanted = {"docker": "image", "requirements": "packages"}.get(form, "")
    fitting = [found.stack for found in choices if wanted in ("", found.stack.kind) and (wanted or found.stack.family)]
    if not fitting:
        what = {"docker": "an image", "requirements": "a set of packages"}.get(
            form, "a stack that a family of images/ makes"
        )
        msg = f"--emit {form}: none of the {len(choices)} stacks that fit is {what}"
        raise UsageError(msg)
    stack = fitting[0]
    if stack is not choices[0].stack:
        print(f"enginematrix: {choices[0].stack.id} has no such form; this is {stack.id}", file=sys.stderr)
    locked = lock.read(project.lock) if form != "matrix" else None
    if form == "docker":
        return pick_emit.docker(stack, locked, asked.platform)
    if form == "requirements":
        return pick_emit.requirements(stack, asked, project, locked)
    if form == "dockerfile":
        return pick_emit.dockerfile(stack, asked, project, locked)
    return pick_emit.matrix(stack, asked, project)
