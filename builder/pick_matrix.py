"""A chosen stack as a small matrix.yaml, and as the stack that a matrix makes of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from builder import spec, versions
from builder.answers import minor
from builder.errors import SpecErrors, UsageError
from builder.facts_records import CATALOG
from builder.pick_question import Question
from builder.pick_stacks import Candidate
from builder.project import Project
from builder.values import Family, Stack

_MODELS = {"onnx": "resnet50", "torch": "residual_cnn", "tensorflow": "keras_cnn"}
"""Exporter -> the recipe that is taken when no model is asked for."""
OPSET = 17
"""Where none is asked for: every exporter family here writes it, and ONNX Runtime takes it from 1.12 on."""


def matrix(stack: Candidate, question: Question, project: Project) -> str:
    """A small matrix.yaml around the stack, with at least one cell. Raises UsageError where there can be none."""
    if not there(stack, project):
        msg = f"no family of {project.images.name}/ makes {stack.id}, so it cannot stand in a matrix"
        raise UsageError(msg)
    family = _family(stack.family, project)
    if _is_engine(family):
        model = question.model or _MODELS["onnx"]
        text = _matrix(stack, question, project, _exporters(model, project)[0], model)
    else:
        text = _matrix(stack, question, project, "", _exported(family, question, project))
    from builder.matrix import expand

    try:
        cells = expand(load(text, project))
    except SpecErrors as error:
        msg = f"{stack.id} cannot stand in a matrix of what was asked: {error.errors[0].message}"
        raise UsageError(msg) from error
    if not len(cells):
        reason = next((removed.because for removed in cells.removed), "no cell is left")
        msg = f"{stack.id} cannot stand in a matrix of what was asked: {reason}"
        raise UsageError(msg)
    return text


def _exported(family: Family, question: Question, project: Project) -> str:
    """The model that an exporter's family is shown with. Raises UsageError."""
    able = {family.name, family.exporter or ""}
    can = [model for model in models(project) if able & {*_exporters(model, project)}]
    if question.model and question.model not in can:
        msg = f"{question.model} is not exported by {family.name}, so it cannot stand in a matrix of it"
        raise UsageError(msg)
    if not can:
        msg = f"no model of {project.recipes.name}/ is exported by {family.name}, so it cannot stand in a matrix"
        raise UsageError(msg)
    default = _MODELS.get(family.exporter or "", "")
    return question.model or (default if default in can else can[0])


def _matrix(stack: Candidate, question: Question, project: Project, exporter: str, model: str) -> str:
    """A matrix of the stack and one model. `exporter`: the family that exports it, where the stack is an engine; '' where it
    exports the model itself."""
    own: Mapping[str, str] = dict(stack.fields)
    if question.python and stack.kind == "packages":
        own = {**own, "python": question.python}
    elif stack.reference and not _recorded(stack):  # then an entry must say it
        python = minor(question.python or "".join(stack.pythons[:1]))
        if not python:
            msg = (
                f"which Python {stack.id} has is not recorded; say it with --python, and it is looked for in the image"
            )
            raise UsageError(msg)
        own = {**own, "python": python}
    ways = {"from": _entry(exporter, {exporter: _newest(exporter)})} if exporter else {}
    engines = {"pick": _entry(stack.family, own)}
    family = _family(stack.family, project)
    if not _is_engine(family):
        ways, engines = (
            {**ways, **engines},
            {"onnxruntime": _entry("onnxruntime", {"onnxruntime": _newest("onnxruntime")})},
        )
    axes = {
        "model": model,
        "opset": str(question.opset or OPSET),
        "precision": question.precision or "fp32",
        "shapes": "static",
    }
    if stack.family == "tensorrt-rtx" and question.gpu is not None and question.gpu.capabilities:
        axes["target"] = f"sm{question.gpu.capabilities[0].replace('.', '')}"
    lines = [f"# {stack.id}, as chosen by `enginematrix pick`."]
    if question.file:
        lines.append(f"# {question.file} is no recipe: {model} stands for it, at its opset.")
    lines += ["schema: 1", "name: pick"]
    for title, entries in (("exporters", ways), ("engines", engines)):
        lines += ["", f"{title}:", *(f"  {name}: {entry}" for name, entry in entries.items())]
    lines += ["", "axes:", *(f"  {name}: [{_quoted(value)}]" for name, value in axes.items())]
    if stack.reference and "docker" in family.isolation:
        lines += ["", "isolation: docker"]
    return "\n".join(lines) + "\n"


def _recorded(stack: Candidate) -> bool:
    """Whether an image's own record says its Python."""
    record = CATALOG.images[stack.family].records[next(iter(stack.fields.values()))]
    return bool(record.facts.get("python"))


def realised(stack: Candidate, question: Question, project: Project) -> tuple[Stack, Family]:
    """The stack as a matrix has it, with its requirement lines and base image. Raises UsageError, SpecErrors."""
    if not there(stack, project):
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


def there(stack: Candidate, project: Project) -> bool:
    return bool(stack.family) and (project.images / stack.family / "family.yaml").is_file()


def _is_engine(family: Family) -> bool:
    """Whether a stack of the family stands in a matrix as an engine; one that also exports is shown as what exports."""
    return "engine" in family.provides and "exporter" not in family.provides


def _family(name: str, project: Project) -> Family:
    """Raises SpecErrors."""
    from builder import family
    from builder.errors import SpecError, SpecErrors

    errors: list[SpecError] = []
    file = family.load(project.images / name / "family.yaml", f"{project.images.name}/{name}/family.yaml", errors)
    if file is None or errors:
        raise SpecErrors(errors)
    return file.family


def _exporters(model: str, project: Project) -> list[str]:
    """The families, or exporters, that a recipe names. Raises UsageError, SpecErrors."""
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
