"""`enginematrix recipe`: inspect a model, write a recipe from one."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.cli_options import place_of
from builder.errors import EXIT_FAILURES, EXIT_OK, UsageError

if TYPE_CHECKING:
    from builder.project import Project

HELP = "Look into a model without loading it; write a recipe from one."
_INSPECT = (
    "Say what a model file or folder is: ONNX, SavedModel, frozen graph, TensorFlow Lite, safetensors, TorchScript, .pt2. "
    "Inputs, outputs, weights, external data and hashes are read from the file itself; nothing is loaded or unpickled, and what "
    "cannot be known that way is said. Exit code 0: it can be used; 1: it has a problem, which is named; 2: no model known here."
)
_NEW = (
    "Write recipes/NAME/ from an ONNX file, a SavedModel's folder, a frozen graph, a TorchScript archive, or a PyTorch module "
    "that a callable gives (module:callable, path/to/file.py:callable). Inputs, types and shapes are found where the model says "
    "them; what is assumed is marked in the recipe."
)


def add(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    inspect = commands.add_parser("inspect", help="say what a model is", description=_INSPECT, allow_abbrev=False)
    inspect.add_argument("path", metavar="PATH", type=Path, help="a file, or the folder of a SavedModel")
    inspect.add_argument("--json", action="store_true", help="print JSON (default: text)")
    inspect.set_defaults(call=_inspect)
    new = commands.add_parser("new", help="write a recipe", description=_NEW, allow_abbrev=False)
    new.add_argument("name", metavar="NAME", help="of the recipe: its folder in recipes/")
    new.add_argument(
        "--from", dest="origin", metavar="MODEL", required=True, help="a file, a folder, or module:callable"
    )
    new.add_argument(
        "--input", dest="inputs", metavar="NAME:DTYPE:SHAPE", action="append", default=[],
        help="an input that the model does not describe: image:float32:N,3,224,224 (default: what it says; several times)",
    )  # fmt: skip
    new.add_argument(
        "--dim", dest="dims", metavar="NAME=MIN,OPT,MAX", action="append", default=[],
        help="sizes of a dimension that varies: N=1,4,8 (default: assumed, and marked; several times)",
    )  # fmt: skip
    new.add_argument("--signature", metavar="NAME", default="", help="of a SavedModel (default: serving_default)")
    new.add_argument(
        "--package", metavar="NAME==VERSION", default="", help="the package that a callable is of (default: none)"
    )
    new.add_argument(
        "--argument", dest="arguments", metavar="NAME=VALUE", action="append", default=[],
        help="what a callable is called with (default: nothing; several times)",
    )  # fmt: skip
    new.add_argument("--summary", metavar="TEXT", default="", help="one line (default: what the model is)")
    new.set_defaults(call=lambda options: _new(options, place_of(options)))


def _inspect(options: argparse.Namespace) -> int:
    from builder import recipe_inspect

    found = recipe_inspect.inspect(options.path)
    if options.json:
        print(json.dumps(recipe_inspect.as_dict(found), indent=1))
    else:
        print("\n".join(recipe_inspect.lines(found)))
    return EXIT_FAILURES if found.problems else EXIT_OK


def _new(options: argparse.Namespace, project: Project) -> int:
    from builder import recipe_new

    if options.package and not re.fullmatch(r"[^=]+==[^=]+", options.package):
        msg = f"--package {options.package!r}: write NAME==VERSION"
        raise UsageError(msg)
    asked = recipe_new.Asked(
        inputs=dict(map(_input, options.inputs)), dims=dict(map(_dim, options.dims)), signature=options.signature,
        package=options.package, arguments=dict(map(_argument, options.arguments)), summary=options.summary,
    )  # fmt: skip
    folder, notes = recipe_new.create(options.name, options.origin, project, asked)
    print(f"{folder / 'recipe.yaml'}: written and read back")
    for note in notes:
        print(f"  {note}")
    print("  tolerances are defaults: hold them against the first report")
    print(f"Add {options.name} to `axes: model` of {project.matrix.name}, then:")
    print(f"  {project.program} run --select model={options.name}")
    return EXIT_OK


def _input(text: str) -> tuple[str, Any]:
    from builder.recipe import DTYPES
    from builder.recipe_model import Tensor

    found = re.fullmatch(r"(.+):(\w+):\[?([\w, ]*)\]?", text)
    if found is None or found[2] not in DTYPES:
        msg = f"--input {text!r}: write NAME:DTYPE:SHAPE, such as image:float32:N,3,224,224; types: {', '.join(DTYPES)}"
        raise UsageError(msg)
    sizes: list[int | str] = []
    for part in filter(None, (part.strip() for part in found[3].split(","))):
        if not (part.isdigit() and int(part) > 0) and not part.isidentifier():
            msg = f"--input {text!r}: {part!r} is neither a size nor a name such as N"
            raise UsageError(msg)
        sizes.append(int(part) if part.isdigit() else part)
    return found[1], Tensor(name=found[1], dtype=found[2], shape=tuple(sizes))


def _dim(text: str) -> tuple[str, tuple[int, int, int]]:
    found = re.fullmatch(r"([A-Za-z_]\w*)=([0-9]+),([0-9]+),([0-9]+)", text, re.ASCII)
    low, opt, high = (int(found[index]) for index in (2, 3, 4)) if found else (0, 0, 0)
    if found is None or not 1 <= low <= opt <= high:
        msg = f"--dim {text!r}: write NAME=MIN,OPT,MAX, such as N=1,4,8, with 1 <= min <= opt <= max"
        raise UsageError(msg)
    return found[1], (low, opt, high)


def _argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        msg = f"--argument {text!r}: write NAME=VALUE"
        raise UsageError(msg)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
