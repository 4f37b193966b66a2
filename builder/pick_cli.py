"""`enginematrix pick`: parse, look, print."""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import EXIT_FAILURES, EXIT_OK, UsageError
from builder.pick_ask import needs, question

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.pick import Choice
    from builder.pick_evidence import Key, Observation
    from builder.pick_here import Here
    from builder.pick_judge import Question
    from builder.pick_stacks import Candidate
    from builder.project import Project

HELP = "Choose a known-good stack for a GPU, a driver and versions, by stored runs and by facts with sources."
DESCRIPTION = HELP + (
    " Runs nothing, and asks no network but to --emit what is not locked. Exit code 0: something fits, 1: nothing does (the"
    " conflict is named), 2: bad input."
)
FORMS = ("docker", "dockerfile", "requirements", "matrix", "json")


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    machine = parser.add_mutually_exclusive_group()
    machine.add_argument("--gpu", metavar="GPU", help='"RTX 4090", "A100 80GB", sm89, 8.9, or none (default: any)')
    machine.add_argument("--here", action="store_true", help="take GPU and driver from this machine (default: no)")
    parser.add_argument("--driver", metavar="VERSION", help="version of the Linux driver: 550.54.14 (default: any)")
    parser.add_argument(
        "--need", metavar="LIST", action="append",
        help='what it must have, by PEP 440: "tensorrt>=10,<11,pytorch>=2.3" (default: anything; may be repeated)',
    )  # fmt: skip
    parser.add_argument("--python", metavar="X.Y", help="CPython release (default: any)")
    parser.add_argument(
        "--model", metavar="NAME|FILE",
        help="a recipe, whose own runs are the evidence; or an ONNX file, whose header says opset and IR version (default: any)",
    )  # fmt: skip
    parser.add_argument("--opset", metavar="N", help="ONNX opset of the model that it must take (default: any)")
    parser.add_argument("--ir", metavar="N", help="ONNX IR version of that model (default: any)")
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
        "--emit", choices=FORMS,
        help="print the best stack of that kind as something that runs; json: the whole answer (default: text)",
    )  # fmt: skip
    parser.add_argument(
        "--offline", action="store_true",
        help="emit what matrix.lock has, and ask no registry or package index for what it lacks (default: ask them)",
    )  # fmt: skip


def call(options: argparse.Namespace) -> int:
    """Raises UsageError, SpecErrors, StoreError, LockError."""
    collecting = gc.isenabled()
    gc.disable()  # one answer, nearly none of it garbage: looking for some is a tenth of the time
    try:
        return _call(options)
    finally:
        if collecting:
            gc.enable()


def _call(options: argparse.Namespace) -> int:
    from builder import pick, pick_evidence, pick_words
    from builder.project import Project

    path = Path(getattr(options, "file", "matrix.yaml"))
    project = Project(matrix=path / "matrix.yaml" if path.is_dir() else path)
    observations = pick_evidence.read(project.artifacts / "results.sqlite")
    seen = {item.model for items in observations.values() for item in items}
    outcomes = sum(item.role == "engine" for items in observations.values() for item in items)
    if outcomes >= pick_evidence.LIMIT:
        print(f"enginematrix: only the newest {pick_evidence.LIMIT} outcomes were looked into", file=sys.stderr)
    here = _here() if options.here else None
    asked = question(options, project, seen, here)
    told = [f"Here: {line}" for line in here.lines] if here is not None else []
    now = datetime.datetime.now(datetime.timezone.utc)
    if not options.max_age >= 0 or options.limit < 1:  # not a number is neither
        msg = "--max-age takes days from 0 on, --limit a number from 1 on"
        raise UsageError(msg)
    if options.emit not in (None, "json"):
        for line in told:
            print(f"enginematrix: {line}", file=sys.stderr)
    data = {"here": here.data if here is not None else None}
    if options.explain:
        return _explain(options, asked, project, observations, now, told, data)
    found = pick.pick(asked, observations, now=now, max_age=options.max_age)
    if options.emit == "json":
        print(json.dumps({**pick_words.as_dict(found), **data}, indent=1, ensure_ascii=False))
    elif options.emit and found.usable:
        print(emit(options.emit, found.choices, asked, project, offline=options.offline), end="")
    else:
        print("\n".join([*told, *pick_words.lines(found, options.limit)]))
    return EXIT_OK if found.usable else EXIT_FAILURES


def _explain(
    options: argparse.Namespace, asked: Question, project: Project, observations: Mapping[Key, list[Observation]],
    now: datetime.datetime, told: Sequence[str], data: Mapping[str, object],
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
        print(json.dumps({**pick_words.explained(found, against, better), **data}, indent=1, ensure_ascii=False))
    elif options.emit and found.usable:
        print(emit(options.emit, (found,), asked, project, offline=options.offline), end="")
    else:
        print("\n".join([*told, *pick_words.explain_lines(found, against, better)]))
    return EXIT_OK if found.usable else EXIT_FAILURES


def _here() -> Here:
    """Raises UsageError where this machine's GPUs cannot be told."""
    from builder import doctor_gpu, pick_here
    from builder.doctor_host import Host

    return pick_here.of(doctor_gpu.look(Host()))


def emit(form: str, choices: tuple[Choice, ...], asked: Question, project: Project, *, offline: bool = True) -> str:
    """The best choice that can be had in a form. Raises UsageError where there is none, SpecErrors, LockError."""
    from builder import lock, pick_emit, pick_known

    fitting = [found.stack for found in choices if found.usable and _has(form, found.stack)]
    if not fitting:
        what = {"docker": "an image", "requirements": "a set of packages"}
        words = what.get(form, f"a stack that a family of {project.images.name}/ makes")
        msg = f"--emit {form}: none of the {len(choices)} stacks that fit is {words}"
        raise UsageError(msg)
    stack = fitting[0]
    if stack is not choices[0].stack:
        print(f"enginematrix: {choices[0].stack.id} has no such form; this is {stack.id}", file=sys.stderr)
    if form == "matrix":
        return pick_emit.matrix(stack, asked, project)
    known = pick_known.of(project, lock.read(project.lock), offline=offline)
    if form == "docker":
        return pick_emit.docker(stack, known, asked.platform)
    if form == "requirements":
        return pick_emit.requirements(stack, asked, project, known)
    return pick_emit.dockerfile(stack, asked, project, known)


def _has(form: str, stack: Candidate) -> bool:
    if form == "matrix":
        return bool(stack.family)
    return form == "dockerfile" or (form == "docker") == bool(stack.reference)


__all__ = ["FORMS", "HELP", "add", "call", "emit", "needs", "question"]
