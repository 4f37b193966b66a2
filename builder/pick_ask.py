"""What `enginematrix pick` was asked, read from its options and checked: versions, names, numbers, files."""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import TYPE_CHECKING

from builder.errors import UsageError

if TYPE_CHECKING:
    from builder.pick_here import Here
    from builder.pick_judge import Hardware, Question
    from builder.pick_model import ModelFile
    from builder.project import Project

_PLATFORMS = {"amd64": "linux/amd64", "x86_64": "linux/amd64", "arm64": "linux/arm64", "aarch64": "linux/arm64"}
_DRIVER = re.compile(r"[rR]?([1-9][0-9]{1,3}(\.[0-9]{1,4}){0,3})")
_NEED = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)\s*(.*)")
_CLAUSE = re.compile(r"[<>=!~0-9A-Za-z.*+_\s-]*")
LONGEST = 1000
"""Characters of a text on the command line: names and clauses have far less."""


def question(options: argparse.Namespace, project: Project, seen: set[str], here: Here | None = None) -> Question:
    """What was asked, checked. `seen`: models of stored runs. Raises UsageError."""
    from builder.facts_records import PRECISIONS
    from builder.pick_judge import Question

    _checked(options)
    gpu = here.gpu if here is not None else _gpu(options.gpu)
    driver = _driver(options.driver) or (here.driver if here is not None else "")
    if options.python and not re.fullmatch(r"[23]\.[0-9]{1,2}(\.[0-9]{1,2})?", options.python):
        msg = f"--python takes a release such as 3.10, not {options.python!r}"
        raise UsageError(msg)
    precision, platform = (options.precision or "").lower(), (options.platform or "").lower()
    _one_of("precision", precision, ("fp32", *PRECISIONS))
    platform = _PLATFORMS.get(platform, platform)
    _one_of("platform", platform, tuple(sorted(set(_PLATFORMS.values()))))
    model, file = _model(options.model, project, seen) if options.model is not None else ("", None)
    return Question(
        gpu=gpu, driver=driver, needs=needs(options.need or []), python=options.python or "", model=model,
        precision=precision, platform=platform, file=file.name if file else "",
        opset=_number("opset", options.opset, file.opset if file else 0, file),
        ir=_number("ir", options.ir, file.ir if file else 0, file),
    )  # fmt: skip


def _checked(options: argparse.Namespace) -> None:
    """Raises UsageError for a text that is empty, or longer than any name or version."""
    texts = [("need", text) for text in options.need or []]
    texts += [
        (name, getattr(options, name))
        for name in ("gpu", "driver", "python", "precision", "platform", "explain", "model")
    ]
    for name, text in texts:
        if text is not None and len(text) > (4096 if name == "model" else LONGEST):
            msg = f"--{name}: {len(text)} characters, which no name or version has: {text[:40]!r}..."
            raise UsageError(msg)
        if (
            text is not None and not text.strip() and name not in ("need", "model", "gpu", "driver")
        ):  # which say what they take
            msg = f"--{name} is empty; leave it out where it does not matter"
            raise UsageError(msg)


def _model(text: str, project: Project, seen: set[str]) -> tuple[str, ModelFile | None]:
    """A recipe's name, or what a file's header says. Raises UsageError."""
    from builder import pick_model
    from builder.pick_matrix import models

    known = (*models(project), *seen)
    if text not in known and (pick_model.is_file(text) or os.path.isfile(text)):  # noqa: PTH113 - Path's raises for a name that is too long
        file = pick_model.read(text)
        for note in file.notes:
            print(f"enginematrix: {file.name}: {note}", file=sys.stderr)
        return "", file
    if not known:
        msg = f"--model {text!r}: there is no recipe here and no stored run of any; name an ONNX file, or ask with --opset"
        raise UsageError(msg)
    if not text:
        msg = f"--model takes a recipe ({', '.join(sorted(set(known)))}) or an ONNX file"
        raise UsageError(msg)
    _one_of("model", text, known)
    return text, None


def _number(name: str, text: str | None, read: int, file: ModelFile | None) -> int:
    """An opset or IR version: the one told, else the one read. Raises UsageError."""
    from builder import pick_model
    from builder.facts_records import CATALOG

    if text is not None and (not re.fullmatch(r"[0-9]{1,4}", text) or int(text) < 1):
        msg = f"--{name} takes a number from 1 on, not {text!r}"
        raise UsageError(msg)
    told = int(text) if text is not None else read
    if text is not None and read and told != read and file is not None:
        msg = f"--{name} {told}: {file.name} has {read}; leave one of them out"
        raise UsageError(msg)
    newest = pick_model.newest(CATALOG)[name == "ir"]
    if told > newest:
        print(f"enginematrix: {name} {told} is newer than the catalog, whose newest is {newest}", file=sys.stderr)
    return told


def _driver(text: str | None) -> str:
    """Raises UsageError for what cannot be the version of a Linux driver."""
    if text is None:
        return ""
    match = _DRIVER.fullmatch(text.strip())
    if match is None:
        msg = f"--driver takes a version of the Linux driver such as 550.54.14, not {text!r}"
        raise UsageError(msg)
    if int(match[1].split(".")[0]) < 100:  # no driver of the catalog has less than three digits
        msg = f"--driver {text}: drivers have versions such as 550.54.14; for a version of CUDA write --need 'cuda=={text}.*'"
        raise UsageError(msg)
    return match[1]


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
        if not wrong and not _CLAUSE.fullmatch(clause):
            wrong = "write a name and versions by PEP 440 only, such as tensorrt>=10,<11"
        if clause and not wrong:
            wrong = versions.problem(clause) or ("" if versions.is_range(clause) else f"write {name}=={clause}")
        if wrong:
            msg = f"--need {part!r}: {wrong}"
            raise UsageError(msg)
        out[name] = ",".join(filter(None, (out.get(name, ""), clause.replace(" ", ""))))
    return out


def _gpu(text: str | None) -> Hardware | None:
    """The GPU that is asked about. Raises UsageError."""
    from builder import pick
    from builder.facts_records import CATALOG, Capability
    from builder.pick_judge import Hardware

    if text is None:
        return None
    if text.strip().lower() == "none":
        return Hardware(name="none")
    if not text.strip():
        msg = '--gpu takes a name such as "RTX 4090", a compute capability such as 8.9, or none'
        raise UsageError(msg)
    known = pick.hardware(text)
    if isinstance(known, str):
        raise UsageError(f"--gpu: {known}")
    for capability in known.capabilities:
        if capability not in CATALOG.table(Capability):
            print(f"enginematrix: the catalog does not have compute capability {capability}; it has "
                  f"{', '.join(CATALOG.table(Capability))}", file=sys.stderr)  # fmt: skip
    return known
