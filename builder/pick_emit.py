"""A chosen stack as something that runs as it is: a pull line, a Dockerfile, locked requirements, a matrix.yaml."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from builder import spec, versions
from builder.errors import UsageError
from builder.facts_records import CATALOG
from builder.lock import Lock
from builder.pick_judge import Question
from builder.pick_stacks import Candidate
from builder.project import Project
from builder.values import Family, Stack

_MODELS = {"onnx": "resnet50", "torch": "residual_cnn", "tensorflow": "keras_cnn"}
"""Exporter family -> the recipe that is taken when no model is asked for."""


def docker(stack: Candidate, lock: Lock | None, platform: str) -> str:
    """The line that pulls the stack's image: by digest where the lock has it. Raises UsageError."""
    if not stack.reference:
        msg = f"{stack.id} is a set of packages, no image; use --emit requirements or --emit matrix"
        raise UsageError(msg)
    option = f"--platform {platform} " if platform else ""
    image = lock.images.get(stack.reference) if lock is not None else None
    if image is None:
        told = "# By tag, which may come to mean another image: matrix.lock has no digest of it (`enginematrix lock` writes one)."
        return f"{told}\ndocker pull {option}{stack.reference}\n"
    repository = stack.reference.rpartition(":")[0]
    return f"# {stack.reference}\ndocker pull {option}{repository}@{image.index}\n"


def requirements(stack: Candidate, question: Question, project: Project, lock: Lock | None) -> str:
    """The stack's packages: locked and with hashes where the lock has them. Raises UsageError, SpecErrors."""
    if stack.reference:
        msg = f"{stack.id} is an image, which holds its packages; use --emit docker or --emit dockerfile"
        raise UsageError(msg)
    reason = "no family of images/ makes it, so matrix.lock cannot have it"
    if _there(stack, project):
        made = realised(stack, question, project)
        pins = lock.entry(made) if lock is not None else None
        if pins is not None and not pins.unresolved:
            return f"# {made.id}, for Python {pins.python}\n{pins.requirements_txt()}"
        reason = f"matrix.lock has no packages of {made.id}" + (f": {pins.unresolved}" if pins is not None else "")
        lines = [requirement.line for requirement in made.requirements]
    else:
        lines = list(stack.packages)
    head = f"# {stack.id}: not locked, without hashes and without what these packages ask for: {reason}.\n"
    local = next((line for line in lines if "+c" in line and line.startswith("torch==")), "")
    if local:
        head += f"# From PyTorch's own index: uv pip install --torch-backend {local.rpartition('+')[2]}\n"
    return head + "".join(f"{line}\n" for line in lines)


def dockerfile(stack: Candidate, question: Question, project: Project, lock: Lock | None) -> str:
    """The Dockerfile that this project builds of the stack. Raises UsageError where the lock lacks what it is made of."""
    from builder.render import render

    made, family = _realised(stack, question, project)
    platform = question.platform or ("linux/arm64" if stack.group == "l4t" else "linux/amd64")
    image = lock.images.get(made.base) if lock is not None else None
    pins = lock.entry(made, docker=True) if lock is not None else None
    if lock is None or image is None or pins is None or platform not in image.platforms or pins.unresolved:
        lacks = f"the digest of {made.base}" if image is None else f"{made.base} for {platform}"
        if image is not None and platform in image.platforms:
            lacks = f"the packages of {made.id}" + (f" ({pins.unresolved})" if pins is not None else "")
        msg = (
            f"no Dockerfile of {stack.id}: matrix.lock lacks {lacks}; write the matrix with --emit matrix, run "
            f"`enginematrix lock --isolation docker` on it, and ask again there"
        )
        raise UsageError(msg)
    rendered = render(made, family, pins, image.platforms[platform], platform, project.images, lock.cutoff_of(made.id))
    return rendered.dockerfile


def matrix(stack: Candidate, question: Question, project: Project) -> str:
    """A small matrix.yaml around the stack. Raises UsageError where no family of images/ makes it."""
    if not _there(stack, project):
        msg = f"no family of {project.images.name}/ makes {stack.id}, so it cannot stand in a matrix"
        raise UsageError(msg)
    roles = _family(stack.family, project)[0]
    if "engine" in roles:
        exporter = _exporter(question.model, project)
        return _matrix(stack, question, project, exporter, question.model or _MODELS["onnx"])
    can = [model for model in models(project) if stack.family in _exporters(model, project)]
    if question.model and question.model not in can:
        msg = f"{question.model} is not exported by {stack.family}, so {stack.id} cannot stand in a matrix of it"
        raise UsageError(msg)
    if not can:
        msg = (
            f"no model of {project.recipes.name}/ is exported by {stack.family}, so {stack.id} cannot stand in a matrix"
        )
        raise UsageError(msg)
    default = _MODELS.get(stack.family, "")
    return _matrix(stack, question, project, "", question.model or (default if default in can else can[0]))


def _matrix(stack: Candidate, question: Question, project: Project, exporter: str, model: str) -> str:
    """A matrix of the stack and one model. `exporter`: the family that exports it, where the stack is an engine; '' where it
    exports the model itself."""
    own: Mapping[str, str] = dict(stack.fields)
    if question.python and stack.kind == "packages":
        own = {**own, "python": question.python}
    ways = {"from": _entry(exporter, {exporter: _newest(exporter)})} if exporter else {}
    engines = {"pick": _entry(stack.family, own)}
    roles, isolations = _family(stack.family, project)
    if "engine" not in roles:
        ways, engines = (
            {**ways, **engines},
            {"onnxruntime": _entry("onnxruntime", {"onnxruntime": _newest("onnxruntime")})},
        )
    axes = {"model": model, "opset": "17", "precision": question.precision or "fp32", "shapes": "static"}
    if stack.family == "tensorrt-rtx" and question.gpu is not None and question.gpu.capabilities:
        axes["target"] = f"sm{question.gpu.capabilities[0].replace('.', '')}"
    lines = [f"# {stack.id}, as chosen by `enginematrix pick`.", "schema: 1", "name: pick"]
    for title, entries in (("exporters", ways), ("engines", engines)):
        lines += ["", f"{title}:", *(f"  {name}: {entry}" for name, entry in entries.items())]
    lines += ["", "axes:", *(f"  {name}: [{_quoted(value)}]" for name, value in axes.items())]
    if stack.reference and "docker" in isolations:
        lines += ["", "isolation: docker"]
    return "\n".join(lines) + "\n"


def realised(stack: Candidate, question: Question, project: Project) -> Stack:
    """The stack as a matrix has it, with its requirement lines and base image. Raises UsageError, SpecErrors."""
    return _realised(stack, question, project)[0]


def _realised(stack: Candidate, question: Question, project: Project) -> tuple[Stack, Family]:
    if not _there(stack, project):
        msg = f"no family of {project.images.name}/ makes {stack.id}; `enginematrix lock` cannot lock it"
        raise UsageError(msg)
    loaded = load(_matrix(stack, question, project, "onnx", _MODELS["onnx"]), project)
    # The last: a matrix may have to have another stack of the same family to export its model.
    made = [found for found in (*loaded.engines, *loaded.exporters) if found.family == stack.family]
    return made[-1], loaded.families[stack.family]


def load(text: str, project: Project) -> spec.Spec:
    """What a matrix says. Raises SpecErrors."""
    with tempfile.TemporaryDirectory(prefix="enginematrix-") as folder:
        path = Path(folder) / "matrix.yaml"
        path.write_text(text, encoding="utf-8")
        return spec.load(path, project.images, project.recipes)


def _quoted(value: str) -> str:
    """As YAML text: 25.10 is no number."""
    return json.dumps(value)


def _entry(family: str, fields: Mapping[str, str]) -> str:
    return (
        "{" + ", ".join([f"family: {family}", *(f"{name}: {_quoted(value)}" for name, value in fields.items())]) + "}"
    )


def _newest(project: str) -> str:
    """The newest release that the catalog knows."""
    return versions.ordered(CATALOG.projects[project].releases)[-1]


def _there(stack: Candidate, project: Project) -> bool:
    return bool(stack.family) and (project.images / stack.family / "family.yaml").is_file()


def _family(name: str, project: Project) -> tuple[frozenset[str], tuple[str, ...]]:
    """What a family provides (as an exporter alone, where it is that too), and how it is isolated. Raises SpecErrors."""
    from builder import family
    from builder.errors import SpecError, SpecErrors

    errors: list[SpecError] = []
    file = family.load(project.images / name / "family.yaml", f"{project.images.name}/{name}/family.yaml", errors)
    if file is None or errors:
        raise SpecErrors(errors)
    provides = file.family.provides
    return provides - {"engine"} if "exporter" in provides else provides, file.family.isolation


def _exporter(model: str, project: Project) -> str:
    """The family that exports a model: what its recipe names first. Raises UsageError."""
    return _exporters(model or _MODELS["onnx"], project)[0]


def _exporters(model: str, project: Project) -> list[str]:
    from builder import nodes
    from builder.errors import SpecError, SpecErrors
    from builder.section import NAME, Section

    path = project.recipes / model / "recipe.yaml"
    if not path.is_file():
        msg = f"{project.recipes.name}/ has no model {model!r}; {versions.nearest(model, models(project))}"
        raise UsageError(msg.rstrip("; "))
    errors: list[SpecError] = []
    loaded = nodes.load(path, f"{project.recipes.name}/{model}/recipe.yaml", errors, keep_text=False)
    if loaded is None:
        raise SpecErrors(errors)
    found = [item.value for item in Section(*loaded, None, "the recipe").values("exporters", NAME)]
    if errors:
        raise SpecErrors(errors)
    return found


def models(project: Project) -> list[str]:
    """The models that have a recipe."""
    return sorted(path.parent.name for path in project.recipes.glob("*/recipe.yaml"))
