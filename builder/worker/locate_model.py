"""What of two ONNX files can be held against each other, and a file with further outputs. Standard library alone.

An engine's model comes of the exported one (fp16 by converting it, int8 by Q/DQ around its operators) and keeps the names of
its tensors. Where a tensor is quantised on the spot, its value after that is what the engine goes on with, and asking for the
value before would keep the library from fusing the two: so it is marked behind its QuantizeLinear and DequantizeLinear.
"""

import os

from worker import subgraph

#: onnx.TensorProto.DataType -> numpy's name, for types that numpy has.
DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip


def outline(plain, model):
    """What the two files are: {
    "nodes": [{"name", "operator", "inputs", "outputs"}] of `model`, its "inputs" and "outputs" (weights left out),
    "makers": {tensor: [name, operator] of the node of `plain` that makes it},
    "pairs": [[tensor, where it is marked]] of those that both compute, in the order of `model`; constants are weights, which a
    converter rounds,
    "types": {tensor of `model`: [dtype or None, shape or None]}}."""
    taken = {}
    for node in model.nodes:
        for name in node.inputs:
            taken.setdefault(name, []).append(node)
    pairs = []
    for node in model.nodes:
        for name in node.outputs if node.operator != "Constant" else ():
            if name in plain.makers or name in plain.outputs:
                pairs.append([name, settled(name, taken)])
    types = {}
    for name in {name for pair in pairs for name in pair} | set(model.inputs):
        if name in model.types:
            _, element, shape = subgraph.signature(model.types[name])
            types[name] = [DTYPES.get(element), shape]
    return {
        "nodes": [{"name": node.name or "node %d" % node.index, "operator": node.operator,
                   "inputs": [name for name in node.inputs if name not in model.weights], "outputs": node.outputs}
                  for node in model.nodes],
        "inputs": [name for name in model.inputs if name not in model.weights], "outputs": model.outputs,
        "makers": {name: [plain.nodes[index].name or "node %d" % index, plain.nodes[index].operator]
                   for name, index in plain.makers.items()},
        "pairs": pairs, "types": types,
    }  # fmt: skip


def settled(name, taken):
    """Where a tensor has the value that the engine goes on with: behind its own QuantizeLinear and DequantizeLinear, when all
    that takes it does so through these, else itself."""
    users = taken.get(name, [])
    if len(users) != 1 or users[0].operator != "QuantizeLinear" or users[0].inputs[0] != name:
        return name
    after = taken.get(users[0].outputs[0], [])
    if not after or any(node.operator != "DequantizeLinear" for node in after):
        return name
    return after[0].outputs[0]


def mark(source, target, names, data=()):
    """Write `source` to `target` with `names` among its outputs, each with the type that the file gives it, or by its name
    alone. `data` are the files of its weights, which come to lie beside. Raises subgraph.Damaged."""
    with open(source, "rb") as file:
        content = file.read()
    parts = []
    for number, _, value, raw in subgraph.fields(content):
        if number == subgraph.GRAPH:
            raw = subgraph.field(subgraph.GRAPH, _marked(value, names))
        parts.append(bytes(raw))
    with open(target, "wb") as file:
        file.write(b"".join(parts))
    for name in data:
        beside = os.path.join(os.path.dirname(target), name)
        if not os.path.exists(beside):
            os.symlink(os.path.join(os.path.dirname(source), name), beside)


def _marked(graph, names):
    wanted, known, there, parts = set(names), {}, set(), []
    for number, _, value, raw in subgraph.fields(graph):
        if number in (subgraph.VALUE, subgraph.OUTPUT):
            name = subgraph.signature(value)[0]
            if number == subgraph.OUTPUT:
                there.add(name)
            elif name in wanted:
                known[name] = value
                continue
        parts.append(bytes(raw))
    for name in names:
        if name not in there:
            there.add(name)
            parts.append(subgraph.field(subgraph.OUTPUT, known.get(name, subgraph.field(1, name.encode()))))
    return b"".join(parts)
