"""Cutting a piece out of an ONNX file, with the standard library alone: an engine's environment has no `onnx` package.

Field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, the wire format that of
https://protobuf.dev/programming-guides/encoding/. Messages are copied as they are; only the lists of a graph are
written anew.
"""

import os
import struct

#: Fields of ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto and their like.
GRAPH = 7
NODE, INITIALIZER, INPUT, OUTPUT, VALUE, SPARSE = 1, 5, 11, 12, 13, 15
#: onnx.TensorProto.DataType -> bytes of one element, for those that external data holds; below a byte as a fraction.
SIZES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}


class Damaged(Exception):  # noqa: N818
    """The file is no ONNX model, or says something of itself that is not so."""


class Untyped(Exception):  # noqa: N818
    """A tensor at the edge of the piece has no type in the file; `name` is its name."""

    def __init__(self, name):
        Exception.__init__(self, "%s has no type in the file" % name)
        self.name = name


def fields(data):
    """[(number, wire type, value, whole field)] of a message: an int, or a memoryview. Raises Damaged."""
    view = memoryview(content(data))
    at, end = 0, len(view)
    while at < end:
        start = at
        key, at = _varint(view, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(view, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            value, at = view[at : at + size], at + size
        elif wire == 2:
            size, at = _varint(view, at)
            value, at = view[at : at + size], at + size
        else:
            raise Damaged("wire type %d at byte %d is none" % (wire, start))
        if at > end or number == 0:
            raise Damaged("a field at byte %d reaches past the end" % start)
        yield number, wire, value, view[start:at]


def _varint(view, at):
    value = shift = 0
    while True:
        if at >= len(view) or shift > 63:
            raise Damaged("no number ends at byte %d" % at)
        byte = view[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def number(value):
    """A varint."""
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(index, value):
    """A field of a message: of bytes, or of an int."""
    if isinstance(value, int):
        return number(index << 3) + number(value)
    return number(index << 3 | 2) + number(len(value)) + bytes(value)


def content(value):
    """A field that should hold bytes. Raises Damaged when it is a number."""
    if isinstance(value, int):
        raise Damaged("there is a number where a message or a text should be")
    return value


def whole(value):
    """A field that should hold a number. Raises Damaged when it is none."""
    if not isinstance(value, int):
        raise Damaged("there are bytes where a number should be")
    return value


def text(value):
    return bytes(content(value)).decode("utf-8", "replace")


def _first(message, index, otherwise=b""):
    for found, _, value, _ in fields(message):
        if found == index:
            return value
    return otherwise


class Node:
    """`index`, `name`, `operator` (with its domain, when it has one), `inputs` (those of graphs in its attributes that
    come from outside included), `outputs`, `raw`."""

    def __init__(self, index, raw):
        self.index, self.raw = index, raw
        self.name = self.operator = domain = ""
        self.inputs, self.outputs = [], []
        for found, _, value, _ in fields(raw):
            if found == 1:
                self.inputs.append(text(value))
            elif found == 2:
                self.outputs.append(text(value))
            elif found == 3:
                self.name = text(value)
            elif found == 4:
                self.operator = text(value)
            elif found == 5:
                self.inputs.extend(_captured(value))
            elif found == 7:
                domain = text(value)
        if domain not in ("", "ai.onnx"):
            self.operator = "%s.%s" % (domain, self.operator)
        self.inputs = [name for name in self.inputs if name]
        self.outputs = [name for name in self.outputs if name]


def _captured(attribute):
    """Names that the graphs of an attribute take from outside."""
    names = []
    for found, _, graph, _ in fields(attribute):
        if found in (6, 11):
            known, asked = set(), []
            for part, _, value, _ in fields(graph):
                if part == NODE:
                    node = Node(0, value)
                    asked.extend(name for name in node.inputs if name not in known)
                    known.update(node.outputs)
                elif part == INITIALIZER:
                    known.add(text(_first(value, 8)))
                elif part == INPUT:
                    known.add(text(_first(value, 1)))
            names.extend(name for name in asked if name not in known)
    return names


class Model:
    """An ONNX file, taken apart. `folder` is where the files of its external data are."""

    def __init__(self, data, folder="."):
        """Raises Damaged."""
        self.folder = folder
        self.rest, graphs = [], []
        for found, _, value, raw in fields(data):
            if found == GRAPH:
                graphs.append(value)
                self.place = len(self.rest)
            else:
                self.rest.append(raw)
        if len(graphs) != 1:
            raise Damaged("the file has %d graphs" % len(graphs))
        self.nodes, self.weights, self.types, self.inputs, self.outputs = [], {}, {}, [], []
        for found, _, value, _ in fields(graphs[0]):
            if found == NODE:
                self.nodes.append(Node(len(self.nodes), value))
            elif found == INITIALIZER:
                self.weights[text(_first(value, 8))] = (INITIALIZER, value)
            elif found == SPARSE:  # its name is that of its values
                self.weights[text(_first(_first(value, 1), 8))] = (SPARSE, value)
            elif found in (INPUT, OUTPUT, VALUE):
                name = text(_first(value, 1))
                if len(content(_first(value, 2))):
                    self.types[name] = value
                if found != VALUE:
                    (self.inputs if found == INPUT else self.outputs).append(name)
        self.makers = {name: node.index for node in self.nodes for name in node.outputs}

    def producers(self, indices):
        """The nodes that make what these take, without themselves."""
        taken = {name for index in indices for name in self.nodes[index].inputs}
        return {self.makers[name] for name in taken if name in self.makers} - set(indices)

    def ancestors(self, indices):
        """These nodes and all that lead to them."""
        found, edge = set(indices), set(indices)
        while edge:
            edge = self.producers(edge) - found
            found |= edge
        return found

    def cut(self, indices, outputs=None, probe=False):
        """The piece of these nodes as a file of its own: what they take from outside becomes its inputs, what others
        take of them (or `outputs`) its outputs. Raises Untyped for an input whose type is not known. An output of no
        known type is there by its name alone, which not every library takes; to `probe`, its shape takes its place."""
        kept = sorted(set(indices))
        made = {name for index in kept for name in self.nodes[index].outputs}
        taken = list(dict.fromkeys(name for index in kept for name in self.nodes[index].inputs))
        graph = [field(NODE, self.nodes[index].raw) for index in kept]
        graph.append(field(2, b"subgraph"))
        for name in taken:
            if name in self.weights:
                kind, value = self.weights[name]
                graph.append(field(kind, self._inline(value) if kind == INITIALIZER else value))
                if name in self.inputs and name in self.types:  # before IR 4 every weight is an input too
                    graph.append(field(INPUT, self.types[name]))
            elif name not in made:
                if name not in self.types:
                    raise Untyped(name)
                graph.append(field(INPUT, self.types[name]))
        ends = outputs if outputs is not None else self.ends(kept)
        for name in ends:
            if name not in self.types and probe:
                graph.insert(len(kept), field(NODE, _shape_of(name)))
                graph.append(field(OUTPUT, _typed(name + ":shape", 7, [None])))
            else:
                graph.append(field(OUTPUT, self.types.get(name, field(1, name.encode()))))
        graph.extend(field(VALUE, self.types[name]) for name in sorted(made) if name in self.types and name not in ends)
        # Where the graph was: some readers know a file by the order of its first fields.
        rest = [bytes(part) for part in self.rest]
        return b"".join([*rest[: self.place], field(GRAPH, b"".join(graph)), *rest[self.place :]])

    def ends(self, indices):
        """What these nodes make that others take, or nobody."""
        kept = set(indices)
        inside = {name for index in kept for name in self.nodes[index].inputs}
        rest = set(self.outputs).union(*(node.inputs for node in self.nodes if node.index not in kept))
        return [
            name for index in sorted(kept) for name in self.nodes[index].outputs if name in rest or name not in inside
        ]

    def freeze(self, shapes):
        """Give inputs fixed shapes, and forget the types of all that may have depended on them."""
        for name, shape in shapes.items():
            if name in self.types:
                self.types[name] = _typed(name, signature(self.types[name])[1], shape)
        for name in set(self.types) - set(self.inputs):
            if not all(isinstance(size, int) for size in signature(self.types[name])[2] or []):
                del self.types[name]

    def learn(self, name, element, shape):
        """Note a tensor's type: `element` as in onnx.TensorProto.DataType, `shape` of numbers, with text or None for a
        dimension that is not known; None for no shape at all."""
        self.types[name] = _typed(name, element, shape)

    def _inline(self, tensor):
        """An initializer with its external data in it. Raises Damaged when that is missing, short, or outside of the
        model's folder."""
        place, element, dims, rest = {}, 0, [], []
        for found, wire, value, raw in fields(tensor):
            if found == 13:
                place[text(_first(value, 1))] = text(_first(value, 2))
                continue
            if found == 14:
                continue
            if found == 1:
                dims.extend([value] if wire == 0 else _packed(value))
            elif found == 2:
                element = whole(value)
            rest.append(bytes(raw))
        if not place:
            return tensor
        name = text(_first(tensor, 8))
        root = os.path.realpath(self.folder)
        path = os.path.realpath(os.path.join(root, place.get("location", "")))
        if os.path.commonpath([root, path]) != root:
            raise Damaged("the data of %s is outside of the model's folder" % name)
        size = SIZES.get(element, 0)
        for dim in dims:
            size *= dim
        try:
            offset, length = int(place.get("offset") or 0), int(place.get("length") or size)
            with open(path, "rb") as file:
                file.seek(offset)
                data = file.read(length)
        except (ValueError, OSError) as error:
            raise Damaged("the data of %s cannot be read: %s" % (name, error))
        if size and len(data) != size:
            raise Damaged("the data of %s has %d bytes, and its shape needs %d" % (name, len(data), size))
        return b"".join(rest) + field(9, data)


def _typed(name, element, shape):
    """A ValueInfoProto."""
    tensor = field(1, element)
    if shape is not None:
        dims = [
            field(1, size) if isinstance(size, int) else field(2, (size or "d%d" % place).encode())
            for place, size in enumerate(shape)
        ]
        tensor += field(2, b"".join(field(1, dim) for dim in dims))
    return field(1, name.encode()) + field(2, field(1, tensor))


def _shape_of(name):
    """A NodeProto."""
    return field(1, name.encode()) + field(2, (name + ":shape").encode()) + field(4, b"Shape")


def _packed(value):
    at, out = 0, []
    while at < len(value):
        item, at = _varint(value, at)
        out.append(item)
    return out


def read(path):
    """The Model of a file. Raises Damaged."""
    with open(path, "rb") as file:
        return Model(file.read(), os.path.dirname(os.path.abspath(path)))


def signature(value):
    """(name, onnx element type, [size or text or None] or None) of a ValueInfoProto; element 0 when it is no tensor."""
    element, shape = 0, None
    for found, _, tensor, _ in fields(_first(value, 2)):
        if found == 1:
            for part, _, inner, _ in fields(tensor):
                if part == 1:
                    element = whole(inner)
                elif part == 2:
                    shape = [_dim(dim) for index, _, dim, _ in fields(inner) if index == 1]
    return text(_first(value, 1)), element, shape


def _dim(message):
    for found, _, value, _ in fields(message):
        if found == 1:
            return value if whole(value) < 1 << 63 else struct.unpack("<q", struct.pack("<Q", value))[0]
        if found == 2:
            return text(value)
    return None
