"""TensorFlow's `.pb` told apart by its fields, and the inputs and outputs of a SavedModel's signatures or a frozen graph.

tensorflow/core/protobuf/{saved_model,meta_graph}.proto, tensorflow/core/framework/{graph,node_def,attr_value,tensor_shape,
types}.proto. Nothing of TensorFlow is imported. Some files share the ending and are neither: said plainly.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from builder.enginefile_content import Content, Damaged, Exhausted
from builder.enginefile_protobuf import LENGTH, VARINT, Field, Walk, signed
from builder.errors import UsageError
from builder.recipe_model import MAX_SHOWN, Dim, Model, Tensor, name

T = TypeVar("T")
DTYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64", 9: "int64",
    10: "bool", 14: "bfloat16", 17: "uint16", 18: "complex128", 19: "float16", 20: "resource", 21: "variant", 22: "uint32",
    23: "uint64",
}  # fmt: skip
BUDGET = 2 << 30
MAX_FIELDS = 20_000_000
VARIABLES = ("VariableV2", "Variable", "VarHandleOp", "VarIsInitializedOp")
"""Operators of a graph whose weights are elsewhere: it is not frozen."""
_IDLE = ("Placeholder", "Const", "NoOp", "Assert")
"""Operators whose result nobody reads, and that are no outputs (as worker/exporters/tensorflow_.py has it)."""


def read_folder(folder: Path) -> Model:
    """A SavedModel's folder. Raises UsageError."""
    main = folder / "saved_model.pb"
    if not main.is_file():
        text = " (its text form, saved_model.pbtxt, is not read)" if (folder / "saved_model.pbtxt").is_file() else ""
        msg = f"{folder}: no saved_model.pb in it: no SavedModel{text}"
        raise UsageError(msg)
    model = read(main)
    problems: tuple[str, ...] = ()
    if not (folder / "variables").is_dir() and _reads_variables(main):
        problems = (f"{folder.name}/variables is not there, and its graph reads variables",)
    return Model(
        format=model.format, inputs=model.inputs, outputs=model.outputs, details=model.details, signatures=model.signatures,
        problems=(*model.problems, *problems),
    )  # fmt: skip


def read(path: Path) -> Model:
    """A `.pb` file: SavedModel or frozen graph. Raises UsageError, which says what it is instead, as far as that shows."""
    return _open(path, _Reader.model)


def _reads_variables(path: Path) -> bool:
    return _open(path, _Reader.has_variables)


def _open(path: Path, ask: Callable[[_Reader], T]) -> T:
    try:
        with path.open("rb") as file:
            return ask(_Reader(path.name, Content(file.fileno(), os.fstat(file.fileno()).st_size, budget=BUDGET)))
    except Damaged as error:
        msg = f"{path.name}: neither a SavedModel nor a frozen graph, or a damaged one: {error}"
        raise UsageError(msg) from None
    except Exhausted:
        msg = f"{path.name}: more nodes than can be looked at"
        raise UsageError(msg) from None
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise UsageError(msg) from None


class _Reader:
    def __init__(self, title: str, content: Content) -> None:
        self.title = title
        self.content = content
        self.walk = Walk(content, MAX_FIELDS)

    def fields(self, field: Field) -> Iterator[Field]:
        return self.walk.fields(field.start, field.end)

    def text(self, field: Field) -> str:
        return name(self.walk.bytes(field, 4096))

    def model(self) -> Model:
        head = self.content.at(0, 256)
        if head and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
            raise self.neither("it is text, as the text form of a protobuf is (.pbtxt), which is not read")
        first = next(self.walk.fields(0, self.content.size), None)
        if first is None:
            raise self.neither("it is empty")
        if (first.number, first.wire) == (1, VARINT):
            if first.value != 1:
                raise self.neither(f"it begins as ONNX does (IR version {first.value}); name it .onnx")
            return self.saved_model()
        if (first.number, first.wire) in ((1, LENGTH), (4, LENGTH)):
            return self.graph()
        raise self.neither(f"its first field is number {first.number}")

    def neither(self, why: str) -> UsageError:
        return UsageError(f"{self.title}: neither a SavedModel (saved_model.pb) nor a frozen graph (GraphDef): {why}")

    # SavedModel: saved_model_schema_version (1), meta_graphs (2) -------------------------------------------------

    def saved_model(self) -> Model:
        signatures: dict[str, tuple[tuple[Tensor, ...], tuple[Tensor, ...]]] = {}
        tags: list[list[str]] = []
        version = ""
        for field in self.walk.fields(0, self.content.size):
            if (field.number, field.wire) != (2, LENGTH):
                if (field.number, field.wire) != (1, VARINT):
                    raise self.neither(f"a SavedModel has no field {field.number}")
                continue
            mine: list[str] = []
            for part in self.fields(field):  # MetaGraphDef: meta_info_def (1), graph_def (2), signature_def (5)
                if (part.number, part.wire) == (1, LENGTH):
                    for item in self.fields(part):  # tags (4), tensorflow_version (5)
                        if (item.number, item.wire) == (4, LENGTH):
                            mine.append(self.text(item))
                        elif (item.number, item.wire) == (5, LENGTH):
                            version = self.text(item)
                elif (part.number, part.wire) == (5, LENGTH):
                    title, signature = self.signature(part)
                    signatures.setdefault(title, signature)
            tags.append(mine)
        if not tags:
            raise self.neither("it has no graph")
        # What loading and saving leaves behind; it computes nothing.
        real = {title: value for title, value in signatures.items() if not title.startswith("__saved_model")}
        chosen = "serving_default" if "serving_default" in real else next(iter(sorted(real)), "")
        inputs, outputs = real.get(chosen, (None, None))
        problems = () if real else ("it has no signature: save it with one (tf.saved_model.save(..., signatures=...))",)
        return Model(
            format="saved-model", inputs=inputs, outputs=outputs, signatures=real, problems=problems,
            details={"tags": tags, "tensorflow": version, "signature": chosen},
        )  # fmt: skip

    def has_variables(self) -> bool:
        """Whether any graph of a SavedModel reads a variable: from the nodes of its graph and of its functions."""
        for field in self.walk.fields(0, self.content.size):
            if (field.number, field.wire) != (2, LENGTH):
                continue
            for part in self.fields(field):
                if (part.number, part.wire) == (2, LENGTH) and any(op in VARIABLES for _, op, _, _ in self.nodes(part)):
                    return True
        return False

    def signature(self, entry: Field) -> tuple[str, tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
        """A map entry: key (1), SignatureDef (2) of inputs (1), outputs (2)."""
        title = ""
        sides: dict[int, list[Tensor]] = {1: [], 2: []}
        for field in self.fields(entry):
            if (field.number, field.wire) == (1, LENGTH):
                title = self.text(field)
            elif (field.number, field.wire) == (2, LENGTH):
                for part in self.fields(field):
                    if part.number in sides and part.wire == LENGTH:
                        sides[part.number].append(self.tensor_info(part))
        by_name = [tuple(sorted(side, key=lambda item: item.name)) for side in sides.values()]
        return title, (by_name[0], by_name[1])

    def tensor_info(self, entry: Field) -> Tensor:
        """A map entry: key (1), TensorInfo (2) of name (1), dtype (2), tensor_shape (3)."""
        title, dtype, note = "", "", ""
        shape: tuple[Dim, ...] | None = None
        for field in self.fields(entry):
            if (field.number, field.wire) == (1, LENGTH):
                title = self.text(field)
            elif (field.number, field.wire) == (2, LENGTH):
                for part in self.fields(field):
                    if (part.number, part.wire) == (2, VARINT):
                        dtype = DTYPES.get(part.value, f"type {part.value}")
                    elif (part.number, part.wire) == (3, LENGTH):
                        shape = self.shape(part)
                    elif part.number in (4, 5) and part.wire == LENGTH:
                        note = "is no plain tensor (sparse or composite)"
        return Tensor(name=title, dtype=dtype, shape=shape, note=note)

    def shape(self, field: Field) -> tuple[Dim, ...] | None:
        """TensorShapeProto: dim (2) of size (1; -1 is unknown, absent is 0), unknown_rank (3)."""
        dims: list[Dim] = []
        for part in self.fields(field):
            if (part.number, part.wire) == (3, VARINT) and part.value:
                return None
            if (part.number, part.wire) == (2, LENGTH):
                size = next((signed(i.value) for i in self.fields(part) if (i.number, i.wire) == (1, VARINT)), 0)
                dims.append(size if size >= 0 else None)
        return tuple(dims)

    # GraphDef: node (1), library (2), versions (4) ----------------------------------------------------------------

    def graph(self) -> Model:
        whole = Field(0, LENGTH, self.content.size, 0, self.content.size)
        inputs: list[Tensor] = []
        read: set[str] = set()
        last: list[tuple[str, str]] = []
        stateful: set[str] = set()
        count = 0
        for field in self.walk.fields(0, self.content.size):
            if (field.number, field.wire) not in ((1, LENGTH), (2, LENGTH), (3, VARINT), (4, LENGTH), (5, LENGTH)):
                raise self.neither(f"a graph has no field {field.number}")
        for title, operator, edges, attributes in self.nodes(whole):
            if not title.isprintable() or not operator.isidentifier():
                if count == 0:
                    raise self.neither(f"its first node has the operator {operator[:60]!r}")
                msg = f"node {title[:60]!r} has the operator {operator[:60]!r}"
                raise Damaged(msg)
            count += 1
            read.update(edge.lstrip("^").split(":")[0] for edge in edges)
            if operator == "Placeholder":
                inputs.append(self.placeholder(title, attributes))
            elif operator in VARIABLES:
                stateful.add(title)
            if operator not in _IDLE:
                last.append((title, operator))
        if not count:
            raise self.neither("it has no node")
        outputs = [Tensor(name=title, note=f"of a {operator} node") for title, operator in last if title not in read]
        problems = []
        if stateful:
            problems.append(
                f"it is a graph and not frozen: its weights are variables kept elsewhere ({', '.join(sorted(stateful)[:3])}); "
                "save the model as a SavedModel, or freeze it"
            )
        if not inputs:
            problems.append("it has no Placeholder: nothing can be fed to it")
        return Model(
            format="frozen-graph", inputs=tuple(inputs[:MAX_SHOWN]), outputs=tuple(outputs[:MAX_SHOWN]), details={"nodes": count},
            problems=tuple(problems), unknown="types and shapes of outputs: a graph says them only after it was imported",
        )  # fmt: skip

    def nodes(self, graph: Field) -> Iterator[tuple[str, str, list[str], list[Field]]]:
        """(name, operator, inputs, attributes) of the nodes of a GraphDef and of its functions (library (2), function (1),
        node_def (3))."""
        for field in self.fields(graph):
            if (field.number, field.wire) == (1, LENGTH):
                yield self.node(field)
            elif (field.number, field.wire) == (2, LENGTH) and graph.start > 0:
                for function in self.fields(field):
                    if (function.number, function.wire) == (1, LENGTH):
                        yield from (self.node(f) for f in self.fields(function) if (f.number, f.wire) == (3, LENGTH))

    def node(self, field: Field) -> tuple[str, str, list[str], list[Field]]:
        """NodeDef: name (1), op (2), input (3), attr (5)."""
        title, operator = "", ""
        edges: list[str] = []
        attributes: list[Field] = []
        for part in self.fields(field):
            if part.wire != LENGTH:
                continue
            if part.number == 1:
                title = self.text(part)
            elif part.number == 2:
                operator = self.text(part)
            elif part.number == 3:
                edges.append(self.text(part))
            elif part.number == 5:
                attributes.append(part)
        return title, operator, edges, attributes

    def placeholder(self, title: str, attributes: list[Field]) -> Tensor:
        """From its attributes, map entries of key (1) and AttrValue (2): `dtype` (type, 6), `shape` (shape, 7)."""
        dtype = ""
        shape: tuple[Dim, ...] | None = None
        for entry in attributes:
            key = ""
            for field in self.fields(entry):
                if (field.number, field.wire) == (1, LENGTH):
                    key = self.text(field)
                elif (field.number, field.wire) == (2, LENGTH):
                    for value in self.fields(field):
                        if key == "dtype" and (value.number, value.wire) == (6, VARINT):
                            dtype = DTYPES.get(value.value, f"type {value.value}")
                        elif key == "shape" and (value.number, value.wire) == (7, LENGTH):
                            shape = self.shape(value)
        return Tensor(name=title, dtype=dtype, shape=shape)
