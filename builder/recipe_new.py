"""`enginematrix recipe new`: a working recipe from a model that is there. What the model says is taken from it; what it does not
say is asked for, or assumed with a comment that says so.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder import enginefile, nodes, recipe, recipe_callable, recipe_inspect
from builder.errors import SpecError, SpecErrors, UsageError
from builder.project import Project
from builder.recipe_model import Dim, Tensor
from builder.section import NAME

BATCH = (1, 4, 8)
LENGTH = (8, 32, 64)
SIDE = (160, 224, 256)
"""min, opt, max of dimensions whose sizes no file says: a batch, a sequence, the side of an image (multiples of 32, by which
most networks divide it)."""
#: Where each comes from is said in the recipe itself: they are defaults and not measured. `cosine` beside `atol`, since how large
#: outputs are is not known beforehand: where they are much smaller than atol, it judges.
TOLERANCE: Mapping[str, str] = {
    "fp32": "atol: 1.0e-4, rtol: 1.0e-3, cosine: 0.9999",
    "fp16": "atol: 2.0e-2, rtol: 2.0e-2, cosine: 0.999",
    "bf16": "atol: 1.0e-1, rtol: 5.0e-2, cosine: 0.99",
    "int8": "cosine: 0.95",
}
_OTHER = "cosine: 0.9"
USUAL = ("fp32", "fp16", "int8")
"""Precisions that every recipe has a tolerance for, whatever the matrix asks now."""
BECAUSE = (
    "default, not measured: for outputs of about 1; compare with the error and the noise floor of the first report"
)
_USES = {"onnx": "[opset, shapes]", "tensorflow": "[opset, shapes]", "torch": "[torch-exporter, opset, shapes]"}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line adds to what the model says."""

    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    dims: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    """Symbol -> min, opt, max."""
    signature: str = ""
    package: str = ""
    """ "name==version" that a callable is of."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""


@dataclass(kw_only=True)
class Draft:
    """A recipe to be written."""

    exporter: str
    source: dict[str, Any]
    inputs: tuple[Tensor, ...]
    summary: str
    copies: list[tuple[Path, str]] = field(default_factory=list)
    """(file or folder, its name in the recipe's folder)."""
    settings: dict[str, Any] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)
    batch: bool = False
    """The first dimension of every input is taken for the batch, although the example says a size."""


def create(name: str, origin: str, project: Project, asked: Asked) -> tuple[Path, list[str]]:
    """Write `recipes/NAME/`. Its folder, and what its writer must know. Raises UsageError."""
    if not NAME.fullmatch(name):
        msg = f"{name!r} cannot be a recipe's name: letters, digits, '.', '_' and '-' only"
        raise UsageError(msg)
    target = project.recipes / name
    if target.exists():
        msg = f"{target} is there already; remove it, or take another name"
        raise UsageError(msg)
    path = Path(origin)
    is_callable = ":" in origin and not path.exists()
    draft = _callable(origin, asked) if is_callable else _file(path, asked)
    text, notes = _text(name, draft, asked, precisions(project.matrix))
    project.recipes.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=project.recipes, prefix=f".{name}.") as beside:
        folder = Path(beside, name)
        folder.mkdir()
        for source, to in draft.copies:
            (folder / to).parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, folder / to)
            else:
                shutil.copyfile(source, folder / to)
        (folder / "recipe.yaml").write_text(text, encoding="utf-8")
        errors: list[SpecError] = []
        recipe.load(folder / "recipe.yaml", f"recipes/{name}/recipe.yaml", errors)
        if errors:
            raise SpecErrors(errors)
        folder.rename(target)
    return target, notes


def precisions(matrix: Path) -> list[str]:
    """What the matrix has on its axis `precision`: a recipe must have a tolerance for each, and data where int8 is asked. The
    matrix need not be right, or there, yet."""
    loaded = nodes.load(matrix, matrix.name, [], keep_text=False) if matrix.is_file() else None
    node: Any = loaded[1] if loaded else None
    for key in ("axes", "precision"):
        node = node.items.get(key) if isinstance(node, nodes.Map) else None
    node = node.items.get("values") if isinstance(node, nodes.Map) else node
    values = [item.value for item in node.items if isinstance(item, nodes.Text)] if isinstance(node, nodes.Seq) else []
    return [value for value in dict.fromkeys(values) if NAME.fullmatch(value)]


# Where it comes from ----------------------------------------------------------------------------------------------------


def _file(path: Path, asked: Asked) -> Draft:
    found = recipe_inspect.inspect(path)
    model = found.model
    if found.problems:
        msg = f"{found.path.name}: {found.problems[0]}"
        raise UsageError(msg)
    what = enginefile.FORMATS.get(model.format, model.format)
    if model.format not in ("onnx", "saved-model", "frozen-graph", "torchscript"):
        msg = (
            f"{found.path.name} is a {what}: no exporter takes it as a model. Give an ONNX file, a SavedModel, a frozen graph, a "
            "TorchScript archive, or the Python that makes the model as module:callable"
        )
        raise UsageError(msg)
    title = _plain_name(found.path.name)
    draft = Draft(
        exporter={"onnx": "onnx", "torchscript": "torch"}.get(model.format, "tensorflow"),
        source={"kind": "folder" if found.path.is_dir() else "file", "name": title, "sha256": found.sha256},
        inputs=model.inputs or (),
        summary=asked.summary or f"{what} {found.path.name}",
        copies=[(found.path, title)],
    )
    if found.beside:
        draft.source["data-files"] = dict(found.beside)
        draft.copies += [(found.path.parent / name, name) for name in found.beside]
    if model.format == "saved-model":
        _signature(draft, found, asked)
    elif model.format == "frozen-graph" and model.outputs:
        draft.settings["outputs"] = [item.name for item in model.outputs]
        draft.comments.append("outputs: the nodes that no other node reads; take out what is no result")
    elif model.format == "torchscript":
        if not title.endswith((".pt", ".ts", ".torchscript")):
            title = f"{title}.pt"
            draft.source["name"], draft.copies = title, [(found.path, title)]
        draft.comments.append("a TorchScript archive: only `torch-exporter: torchscript` can export it")
    draft.inputs = _with_asked(draft.inputs, asked, found.path.name)
    return draft


def _signature(draft: Draft, found: recipe_inspect.Inspected, asked: Asked) -> None:
    chosen = asked.signature or str(found.model.details.get("signature", ""))
    if chosen not in found.model.signatures:
        msg = f"{found.path.name} has no signature {chosen!r}; it has {', '.join(sorted(found.model.signatures))}"
        raise UsageError(msg)
    draft.inputs = found.model.signatures[chosen][0]
    if chosen != "serving_default":
        draft.settings["signature"] = chosen
    tags = found.model.details.get("tags") or [["serve"]]
    if tags[0] != ["serve"]:
        draft.settings["tags"] = tags[0]


def _callable(origin: str, asked: Asked) -> Draft:
    found = recipe_callable.find(origin, need_file=not asked.package)
    lacking = sorted(set(found.required) - set(asked.arguments))
    if lacking:
        msg = f"{origin} takes {', '.join(lacking)}; say what: --argument {lacking[0]}=VALUE"
        raise UsageError(msg)
    source: dict[str, Any] = {"kind": "callable", "name": found.name}
    if asked.package:
        package, _, version = asked.package.partition("==")
        source |= {"package": package, "version": version}
    if asked.arguments:
        source["arguments"] = dict(asked.arguments)
    draft = Draft(
        exporter="torch", source=source, inputs=found.inputs, summary=asked.summary or f"PyTorch module of {found.name}",
        copies=[(found.file, found.file.name)] if found.file is not None and not asked.package else [], batch=found.example,
    )  # fmt: skip
    if found.example:
        draft.comments.append(
            "inputs: from the example that the module has; its first dimension is taken for the batch"
        )
    draft.inputs = _with_asked(found.inputs, asked, origin)
    draft.comments.append("weights: what the callable sets; random ones are drawn after torch.manual_seed(0)")
    return draft


def _with_asked(inputs: tuple[Tensor, ...], asked: Asked, title: str) -> tuple[Tensor, ...]:
    """What the model says of its inputs, with what the command line says in its place."""
    known = {item.name for item in inputs}
    unknown = [name for name in asked.inputs if name not in known]
    if unknown and inputs:
        msg = f"{title} has no input {unknown[0]!r}; it has {', '.join(sorted(known))}"
        raise UsageError(msg)
    out = [asked.inputs.get(item.name, item) for item in inputs] or list(asked.inputs.values())
    if not out:
        msg = f"{title}: its inputs are not known; name each: --input image:float32:N,3,224,224"
        raise UsageError(msg)
    for item in out:
        why = item.note if item.note and item.name not in asked.inputs else ""
        if item.dtype and item.dtype not in recipe.DTYPES:
            why = f"is of type {item.dtype}"
        if why:
            msg = f"{title}: input {item.name!r} {why}; a recipe's inputs are arrays of {', '.join(recipe.DTYPES)}"
            raise UsageError(msg)
        if not item.dtype or item.shape is None:
            msg = (
                f"{title}: type or shape of input {item.name!r} cannot be known without loading it; say it: "
                f"--input {item.name}:float32:N,3,224,224"
            )
            raise UsageError(msg)
    return tuple(out)


# Text -------------------------------------------------------------------------------------------------------------------


def _text(name: str, draft: Draft, asked: Asked, precision: Sequence[str]) -> tuple[str, list[str]]:
    symbols = _Symbols(asked)
    inputs = []
    named: set[str] = set()
    for item in draft.inputs:
        assert item.shape is not None
        shape = symbols.of(item, batch=draft.batch and item.name not in asked.inputs)
        plain = _unique(_plain_name(item.name.split(":")[0] if draft.exporter == "tensorflow" else item.name), named)
        entry: dict[str, Any] = {"name": plain}
        if plain != item.name:
            entry["tensor"] = item.name
        entry |= {"dtype": item.dtype, "shape": shape}
        why = _range(item, entry)
        inputs.append((entry, why))
    out = [f"recipe: {_yaml(name)}", f"summary: {_yaml(draft.summary)}", f"exporters: [{draft.exporter}]"]
    out += [f"# {comment}" for comment in draft.comments]
    out.append(f"source: {_yaml(draft.source)}")
    out.append("inputs:")
    out += [f"  - {_yaml(entry)}" + (f"   # {why}" if why else "") for entry, why in inputs]
    out += ["dims:", f"  static: {_yaml({symbol: symbols.fixed(symbol) for symbol in symbols.sizes})}"]
    if symbols.sizes:
        ranges = {s: dict(zip(("min", "opt", "max"), sizes, strict=True)) for s, sizes in symbols.sizes.items()}
        assumed = [symbol for symbol in symbols.sizes if symbol not in asked.dims]
        note = f"   # assumed: {', '.join(assumed)}; put in your own" if assumed else ""
        out.append(f"  dynamic: {_yaml(ranges)}{note}")
    else:
        out.append("  # every size is fixed in the model: no `dynamic`")
    out += ["seeds: [0, 1]", f"uses: {_USES[draft.exporter]}"]
    if draft.settings:
        out.append(f"settings: {_yaml(draft.settings)}")
    out.append("tolerance:")
    for one in dict.fromkeys([*USUAL, *precision]):
        out.append(f"  {one}: {{{TOLERANCE.get(one, _OTHER)}, because: {json.dumps(BECAUSE)}}}")
    # A matrix that asks for int8 wants data of every model; where none does, none are made up.
    calibration = "calibration: {samples: 8, seed: 100}"
    if "int8" in precision:
        out.append(
            f"{calibration}   # assumed: random numbers, as the inputs are. Data of your own: {{folder: samples}}"
        )
    else:
        out.append(f"# {calibration}   # what int8 needs; better data of your own: {{folder: samples}}")
    notes = [f"input {entry['name']}: {why}" for entry, why in inputs if why]
    notes += [f"dimension {s}: {', '.join(map(str, symbols.sizes[s]))} (min, opt, max) is assumed" for s in symbols.sizes
              if s not in asked.dims]  # fmt: skip
    if "int8" in precision:
        notes.append("int8 is calibrated on random numbers until you give it data of your own")
    return "\n".join(out) + "\n", notes


def _range(item: Tensor, entry: dict[str, Any]) -> str:
    """Put the range of an input's values into its entry; why that one, where it is not plain."""
    if item.dtype.startswith("float"):
        entry["range"] = [-1, 1]
        return ""
    if item.dtype == "bool":
        entry["range"] = [0, 1]
        return ""
    if item.highest is not None:
        entry["range"] = [0, item.highest]
        return f"it is an index into a table of {item.highest + 1} rows"
    entry["range"] = [0, 255] if item.dtype == "uint8" else [0, 1]
    return "assumed: the model does not say which values make sense"


class _Symbols:
    """Names and sizes of the dimensions that vary; equal names of the model are one symbol, and what has no name is one for
    each axis."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.sizes: dict[str, tuple[int, int, int]] = {}
        self.names: dict[str, str] = {}
        self.found: dict[str, int] = {}
        """Symbol -> the size that an example has."""
        self.first: set[str] = set()
        """Symbols of first dimensions: batches."""

    def of(self, item: Tensor, *, batch: bool) -> list[int | str]:
        shape: list[Dim] = list(item.shape or ())
        if batch and shape and isinstance(shape[0], int):
            self.found["N"] = shape[0]
            shape[0] = "N"
        return [dim if isinstance(dim, int) else self.symbol(dim, axis, len(shape)) for axis, dim in enumerate(shape)]

    def symbol(self, dim: str | None, axis: int, rank: int) -> str:
        text = dim or (
            "N" if axis == 0 else ("H", "W")[axis - 2] if rank == 4 and axis >= 2 else "S" if axis == 1 else f"D{axis}"
        )
        if text not in self.names:
            plain = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "D"
            plain = plain if plain.isidentifier() else f"D_{plain}"
            self.names[text] = _unique(plain, set(self.names.values()))
            symbol = self.names[text]
            if axis == 0:
                self.first.add(symbol)
            self.sizes[symbol] = self.asked.dims.get(symbol) or _sizes(symbol, axis, rank)
        return self.names[text]

    def fixed(self, symbol: str) -> int:
        """The size for `static`: that of the example, the smallest batch, else the usual one."""
        low, opt, _ = self.sizes[symbol]
        return self.found.get(symbol, low if symbol in self.first else opt)


def _sizes(symbol: str, axis: int, rank: int) -> tuple[int, int, int]:
    if axis == 0 and not re.search("seq|len|token", symbol.lower()):
        return BATCH
    return SIDE if rank >= 4 else LENGTH


def _plain_name(text: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")[:60]
    return plain or "input"


def _unique(plain: str, taken: set[str]) -> str:
    out, number = plain, 1
    while out in taken:
        number += 1
        out = f"{plain}_{number}"
    taken.add(out)
    return out


def _yaml(value: Any) -> str:
    """Flow style, as recipes are written; text is quoted where YAML would read something else."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_yaml(key)}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if isinstance(value, str):
        bare = re.fullmatch(r"[A-Za-z_][\w./-]*( [\w./()-]+)*", value, re.ASCII) or re.fullmatch(r"[0-9a-f]{64}", value)
        special = nodes.altered(value) is not None or value in ("true", "false", "null")
        return value if bare and not special else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)
