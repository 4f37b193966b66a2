"""`module:callable` found as text: which file, which arguments, and the inputs of the torch module that it makes. The file is
parsed and never imported: torch is in the exporter's environment, not here.

Inputs are taken from the names of `forward`, and their types and shapes from an example that the module keeps by one of the names
in use: `example_inputs`, PyTorch Lightning's `example_input_array`, Transformers' `dummy_inputs`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from builder import versions
from builder.errors import UsageError
from builder.recipe_model import Tensor

EXAMPLES = ("example_inputs", "example_input_array", "dummy_inputs")
MAX_BYTES = 4 << 20
_FLOATS = ("zeros", "ones", "rand", "randn", "empty")
_DTYPES = {
    "float": "float32", "float32": "float32", "half": "float16", "float16": "float16", "double": "float64",
    "float64": "float64", "long": "int64", "int64": "int64", "int": "int32", "int32": "int32", "int8": "int8",
    "uint8": "uint8", "bool": "bool",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Callable:
    name: str
    """`module:function`, as the recipe names it."""
    file: Path | None
    required: tuple[str, ...]
    """Arguments without a default."""
    inputs: tuple[Tensor, ...]
    """By name; without type and shape where no example says them."""
    example: bool
    """Whether types and shapes come from an example."""


def find(origin: str, *, need_file: bool = True) -> Callable:
    """`package.module:name`, or `path/to/file.py:name`. Raises UsageError, with what is there instead."""
    place, _, attribute = origin.rpartition(":")
    path = Path(place) if place.endswith(".py") else Path(*place.split(".")).with_suffix(".py")
    if not path.is_file():
        if not need_file:
            return Callable(name=origin, file=None, required=(), inputs=(), example=False)
        msg = (
            f"{origin}: no file {path}; give a module in this folder, a path (models/net.py:build), or the package that it is of "
            "(--package NAME==VERSION)"
        )
        raise UsageError(msg)
    if path.stem == "__init__" or not path.stem.isidentifier():
        msg = f"{path}: a module's file has a plain name, and is copied alone; move what it needs into one"
        raise UsageError(msg)
    try:
        with path.open("rb") as file:
            tree = ast.parse(file.read(MAX_BYTES))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        msg = f"{path}: not Python: {error}"
        raise UsageError(msg) from None
    for item in ast.walk(tree):
        if isinstance(item, ast.ImportFrom) and item.level:
            msg = f"{path}:{item.lineno}: imports from its own package, and is copied alone; name modules that are installed"
            raise UsageError(msg)
    made = {item.name: item for item in tree.body if isinstance(item, ast.FunctionDef | ast.ClassDef)}
    if attribute not in made:
        near = versions.nearest(attribute, made) or f"it has {', '.join(sorted(made)) or 'none'}"
        msg = f"{path} has no function or class {attribute!r}; {near}"
        raise UsageError(msg)
    node = made[attribute]
    kind = node if isinstance(node, ast.ClassDef) else _made_by(node, made)
    forward = _method(kind, "forward") if kind is not None else None
    names = [item.arg for item in _positional(forward)] if forward is not None else []
    inputs, example = _examples(tree, names)
    builder = node if isinstance(node, ast.FunctionDef) else _method(node, "__init__")
    return Callable(
        name=f"{path.stem}:{attribute}", file=path, inputs=inputs, example=example,
        required=tuple(item.arg for item in _required(builder, method=isinstance(node, ast.ClassDef))),
    )  # fmt: skip


def _method(node: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    return next((item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == name), None)


def _made_by(function: ast.FunctionDef, made: dict[str, ast.FunctionDef | ast.ClassDef]) -> ast.ClassDef | None:
    """The class of the same file whose instance a function gives: the last one that it calls, unless it defines its own."""
    local = {item.name: item for item in ast.walk(function) if isinstance(item, ast.ClassDef)}
    classes = {name: item for name, item in made.items() if isinstance(item, ast.ClassDef)} | local
    found = None
    for item in ast.walk(function):
        if isinstance(item, ast.Call) and isinstance(item.func, ast.Name) and item.func.id in classes:
            found = classes[item.func.id]
    return found


def _positional(function: ast.FunctionDef) -> list[ast.arg]:
    """Arguments of a method without a default, but for `self`."""
    arguments = [*function.args.posonlyargs, *function.args.args][1:]
    return arguments[: len(arguments) - len(function.args.defaults)] if function.args.defaults else arguments


def _required(function: ast.FunctionDef | None, *, method: bool) -> list[ast.arg]:
    if function is None:
        return []
    arguments = [*function.args.posonlyargs, *function.args.args][int(method) :]
    needed = arguments[: len(arguments) - len(function.args.defaults)] if function.args.defaults else arguments
    keywords = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    return needed + [item for item, default in keywords if default is None]


def _examples(tree: ast.Module, names: list[str]) -> tuple[tuple[Tensor, ...], bool]:
    """Inputs with type and shape, if an example says them; else by name alone."""
    for value in _candidates(tree):
        given = _tensors(value)
        if given is None or (names and len(given) > len(names) and not all(item.name for item in given)):
            continue
        out = []
        for index, item in enumerate(given):
            name = item.name or (names[index] if index < len(names) else f"input_{index}")
            out.append(replace(item, name=name))
        return tuple(out), True
    return tuple(Tensor(name=name) for name in names), False


def _candidates(tree: ast.Module) -> Iterator[ast.expr]:
    for item in ast.walk(tree):
        if isinstance(item, ast.FunctionDef) and item.name in EXAMPLES:
            yield from (
                part.value for part in ast.walk(item) if isinstance(part, ast.Return) and part.value is not None
            )
        elif isinstance(item, ast.Assign):
            for target in item.targets:
                named = target.id if isinstance(target, ast.Name) else getattr(target, "attr", "")
                if named in EXAMPLES or named.lower() in EXAMPLES:
                    yield item.value


def _tensors(value: ast.expr) -> list[Tensor] | None:
    """The tensors of a tuple, a list, a mapping or one alone; None unless all are written out."""
    if isinstance(value, ast.Tuple | ast.List):
        items: list[tuple[str, ast.expr]] = [("", item) for item in value.elts]
    elif isinstance(value, ast.Dict):
        if not all(isinstance(key, ast.Constant) and isinstance(key.value, str) for key in value.keys):
            return None
        items = [(str(key.value), item) for key, item in zip(value.keys, value.values, strict=True)
                 if isinstance(key, ast.Constant)]  # fmt: skip
    else:
        items = [("", value)]
    out = []
    for name, item in items:
        found = _tensor(item)
        if found is None:
            return None
        out.append(replace(found, name=name))
    return out or None


def _tensor(value: ast.expr) -> Tensor | None:
    """`torch.zeros(1, 3, 64, 64)`, `torch.randint(0, 30522, (1, 16))` and the like, with sizes written as numbers."""
    if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute)):
        return None
    function, arguments = value.func.attr, list(value.args)
    keywords = {item.arg: item.value for item in value.keywords}
    highest = None
    if function == "randint":
        arguments = [*arguments, *(keywords[key] for key in ("low", "high", "size") if key in keywords)]
        bounds = [
            item.value for item in arguments[:-1] if isinstance(item, ast.Constant) and isinstance(item.value, int)
        ]
        if not bounds or len(bounds) != len(arguments) - 1:
            return None
        highest, arguments, dtype = bounds[-1] - 1, arguments[-1:], "int64"
    elif function in _FLOATS:
        dtype = "float32"
    else:
        return None
    if "size" in keywords and function != "randint":
        arguments = [keywords["size"]]
    if len(arguments) == 1 and isinstance(arguments[0], ast.Tuple | ast.List):
        arguments = list(arguments[0].elts)
    sizes = [
        item.value
        for item in arguments
        if isinstance(item, ast.Constant) and type(item.value) is int and item.value > 0
    ]
    if len(sizes) != len(arguments) or not sizes:
        return None
    if "dtype" in keywords:
        named = keywords["dtype"]
        dtype = _DTYPES.get(named.attr if isinstance(named, ast.Attribute) else "", "")
        if not dtype:
            return None
    return Tensor(name="", dtype=dtype, shape=tuple(sizes), highest=highest)
