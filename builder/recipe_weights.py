"""What TensorFlow Lite files, safetensors and PyTorch's archives say of themselves, read by offset: nothing is unpacked, loaded
or unpickled. tensorflow/lite/schema/schema.fbs, https://huggingface.co/docs/safetensors,
https://docs.pytorch.org/docs/stable/export/pt2_archive.html, torch/_export/serde/schema.py.
"""

from __future__ import annotations

import ast
import json
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.enginefile_content import Content, Damaged, Exhausted
from builder.enginefile_flatbuffer import field, follow, string, vector
from builder.errors import UsageError
from builder.recipe_model import MAX_SHOWN, Dim, Model, Tensor, name

TFLITE_DTYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool", 7: "int16", 8: "complex64",
    9: "int8", 10: "float64", 11: "complex128", 12: "uint64", 13: "resource", 14: "variant", 15: "uint32", 16: "uint16",
    17: "int4", 18: "bfloat16",
}  # fmt: skip
SAFETENSORS_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32", "I16": "int16",
    "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
#: ScalarType of torch/_export/serde/schema.py.
PT2_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64", 12: "bool",
    13: "bfloat16",
}  # fmt: skip
MAX_TEXT = 64 << 20
"""Bytes of a JSON or source text in an archive that are read."""
MAX_FILES = 100_000


def tflite(path: Path) -> Model:
    """Inputs and outputs of the first subgraph. Raises UsageError."""
    try:
        with path.open("rb") as file:
            return _tflite(Content(file.fileno(), os.fstat(file.fileno()).st_size))
    except (Damaged, Exhausted, struct.error) as error:
        msg = f"{path.name}: a damaged TensorFlow Lite file: {error}"
        raise UsageError(msg) from None


def _tflite(content: Content) -> Model:
    """Model: operator_codes 1, subgraphs 2; SubGraph: tensors 0, inputs 1, outputs 2; Tensor: shape 0, type 1, name 3,
    shape_signature 7."""
    root = content.number("<I", 0)
    graphs = vector(content, field(content, root, 2))
    if not graphs[1]:
        msg = "it has no subgraph"
        raise Damaged(msg)
    graph = follow(content, graphs[0])
    tensors = vector(content, field(content, graph, 0))

    def numbers(at: int) -> list[int]:
        start, count = vector(content, at)
        if count > 1 << 16:
            msg = f"a list of {count} numbers"
            raise Damaged(msg)
        return [content.number("<i", start + 4 * index) for index in range(count)]

    def value(index: int) -> Tensor:
        if not 0 <= index < tensors[1]:
            msg = f"tensor {index} of {tensors[1]}"
            raise Damaged(msg)
        table = follow(content, tensors[0] + 4 * index)
        at = field(content, table, 1)
        dtype = content.number("<b", at) if at else 0
        sizes = numbers(field(content, table, 7)) or numbers(field(content, table, 0))
        return Tensor(
            name=name(string(content, field(content, table, 3))), dtype=TFLITE_DTYPES.get(dtype, f"type {dtype}"),
            shape=tuple(size if size >= 0 else None for size in sizes),
        )  # fmt: skip

    inputs, outputs = (tuple(map(value, numbers(field(content, graph, side)))) for side in (1, 2))
    details = {"subgraphs": graphs[1], "tensors": tensors[1]}
    return Model(format="tflite", inputs=inputs, outputs=outputs, details=details)


def safetensors(path: Path) -> Model:
    """Weights by name, type and shape. Raises UsageError."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(min(length, MAX_TEXT))
    try:
        data = json.loads(header) if length <= MAX_TEXT else None
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        msg = f"{path.name}: a safetensors file whose header is no JSON, or larger than any honest one"
        raise UsageError(msg)
    data.pop("__metadata__", None)
    weights = []
    for title, entry in sorted(data.items())[:MAX_SHOWN]:
        entry = entry if isinstance(entry, dict) else {}
        said = str(entry.get("dtype"))
        shape = entry.get("shape")
        sizes = tuple(s for s in shape if isinstance(s, int)) if isinstance(shape, list) else None
        weights.append(Tensor(name=name(title.encode()), dtype=SAFETENSORS_DTYPES.get(said, said), shape=sizes))
    return Model(
        format="safetensors", weights=tuple(weights), details={"tensors": len(data)},
        unknown="inputs and outputs: the file is weights alone; the code of its model says how they are used",
    )  # fmt: skip


def archive(path: Path, kind: str) -> Model:
    """A TorchScript archive, a `.pt2` or what torch.save wrote, by its text files. Raises UsageError."""
    try:
        with zipfile.ZipFile(path) as files:
            if len(files.namelist()) > MAX_FILES:
                msg = f"{path.name}: more than {MAX_FILES} files in it"
                raise UsageError(msg)
            if kind == "pt2":
                return _pt2(path, files)
            if kind == "torchscript":
                return _torchscript(files)
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, RuntimeError, zlib.error) as error:
        msg = f"{path.name}: a damaged archive: {error}"
        raise UsageError(msg) from None
    return Model(
        format="torch-save",
        unknown="everything but that torch.save wrote it: what is in it is known only by unpickling it, which can run any code. "
        "Weights in it are read with weights_only=True (worker.exporters.weights.load, torch 2.10 or newer); better convert it "
        "to .safetensors, where it is trusted",
    )


def _read(files: zipfile.ZipFile, title: str) -> bytes:
    """A text of the archive, of MAX_TEXT bytes at most whatever its list of files says: what is compressed can swell."""
    with files.open(title) as file:
        data = file.read(MAX_TEXT + 1)
    if len(data) > MAX_TEXT:
        msg = f"{title} has more than {MAX_TEXT} bytes"
        raise zipfile.BadZipFile(msg)
    return data


def _torchscript(files: zipfile.ZipFile) -> Model:
    """Names of `forward`'s arguments, from the archive's own code: Python text, which is parsed and not run."""
    unknown = (
        "types and shapes of inputs and outputs, and how many outputs: TorchScript code says that they are tensors"
    )
    top = _main_class(files)
    for title in files.namelist():
        if "/code/" not in title or not title.endswith(".py"):
            continue
        try:
            tree = ast.parse(_read(files, title))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for item in tree.body:
            if isinstance(item, ast.ClassDef) and item.name == top:
                for method in item.body:
                    if isinstance(method, ast.FunctionDef) and method.name == "forward":
                        return Model(format="torchscript", inputs=_arguments(method), unknown=unknown)
    return Model(format="torchscript", unknown=f"inputs too, since no text of a `forward` was found; {unknown}")


def _main_class(files: zipfile.ZipFile) -> str:
    """The class of the module itself: the one that data.pkl names first. Its bytes are searched, not unpickled: opcode GLOBAL,
    `c module newline class newline` (https://github.com/python/cpython/blob/main/Lib/pickletools.py)."""
    title = next((item for item in files.namelist() if item.endswith("/data.pkl")), None)
    if title is None:
        return ""
    data = _read(files, title)
    at = data.find(b"c__torch__")
    parts = data[at + 1 : at + 400].split(b"\n", 2) if at >= 0 else []
    return parts[1].decode("utf-8", "replace") if len(parts) > 2 else ""


def _arguments(method: ast.FunctionDef) -> tuple[Tensor, ...]:
    out = []
    for argument in method.args.args[1:]:
        said = ast.unparse(argument.annotation) if argument.annotation is not None else "Tensor"
        out.append(Tensor(name=argument.arg, note="" if said == "Tensor" else f"is a {name(said.encode())}, no tensor"))
    return tuple(out)


def _pt2(path: Path, files: zipfile.ZipFile) -> Model:
    """Inputs and outputs of the exported program, from its JSON."""
    models = [t for t in files.namelist() if t.endswith(("models/model.json", "serialized_exported_program.json"))]
    unknown = "inputs and outputs: it holds compiled code (AOTInductor) and no exported program"
    if not models:
        return Model(format="pt2", unknown=unknown)
    try:
        program = json.loads(_read(files, models[0]))
        module = program["graph_module"]
        return Model(
            format="pt2", inputs=_values(module, "input_specs"), outputs=_values(module, "output_specs"),
            details={"opset_version": program.get("opset_version"), "schema_version": program.get("schema_version")},
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
        msg = f"{path.name}: {models[0]} is not the JSON of an exported program: {type(error).__name__} {error}"
        raise UsageError(msg) from None


def _values(module: Mapping[str, Any], side: str) -> tuple[Tensor, ...]:
    """The user's inputs or outputs: {"user_input": {"arg": {"as_tensor": {"name": ...}}}}, their types and shapes beside them in
    `graph.tensor_values`."""
    kind = "user_input" if side == "input_specs" else "user_output"
    metas = module["graph"]["tensor_values"]
    out = []
    for spec in module["signature"][side]:
        if kind not in spec:
            continue
        argument = spec[kind]["arg"]
        found = argument.get("as_tensor")
        if found is None:
            out.append(Tensor(name=name(str(next(iter(argument))).encode()), note="is no tensor"))
            continue
        meta = metas[found["name"]]
        dims: list[Dim] = []
        for size in meta["sizes"]:
            said = size.get("as_int")
            dims.append(int(said) if said is not None else _symbol(str(size["as_expr"]["expr_str"])))
        dtype = PT2_DTYPES.get(int(meta["dtype"]), f"type {meta['dtype']}")
        out.append(Tensor(name=name(str(found["name"]).encode()), dtype=dtype, shape=tuple(dims)))
    return tuple(out)


def _symbol(text: str) -> str:
    """SymPy's own text of a symbol, "Symbol('s40', positive=True, integer=True)", as its name; of anything else that text."""
    found = re.fullmatch(r"Symbol\('(\w+)'[^()]*\)", text)
    return name((found[1] if found else text).encode())
