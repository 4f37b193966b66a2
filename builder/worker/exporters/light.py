"""The light models of the `onnx` package: real architectures whose weights are left out, given seeded weights.

They lie in `onnx/backend/test/data/light` (ResNet-50, SqueezeNet, DenseNet-121, ShuffleNet and others, opset 9, IR 3).
Every weight there is one constant, 0.02: all channels would be equal and any mix-up of them invisible. See `weights`
for what takes its place.
"""

import os


def load(name, rename, quiet=0.3, head=1.0):
    """The light model as an onnx.ModelProto with real weights and the names that `rename` (old -> new) gives.

    Weights become initializers; they are no longer listed as graph inputs, which needs IR 4, so IR 3 becomes 4.
    `quiet` scales the last normalisation of a residual branch, as training does (0 at the start in Goyal et al. 2017,
    https://arxiv.org/abs/1706.02677, section 5.1), so that activations stay far from float16's largest number. `head`
    scales the classifier's matrix, so that logits are as far apart (a few units) as those of a trained network and the
    softmax after them does not hide them.
    """
    import onnx
    from onnx import numpy_helper

    from worker.exporters import weights

    path = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data", "light", "light_%s.onnx" % name)
    model = onnx.load(path)
    graph = model.graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    sizes = {item.name: array.shape for item, array in zip(graph.initializer, constants.values())}
    made = [node for node in graph.node if node.op_type == "ConstantOfShape"]
    for node in made:
        sizes[node.output[0]] = tuple(int(size) for size in constants[node.input[0]])
    kinds = _kinds(graph)
    initializers = []
    nodes = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    used = {edge for node in nodes for edge in node.input}
    for weight in sorted(sizes):
        if weight not in used:
            continue
        if weight in kinds:
            kind, fan_in, role = kinds[weight]
            values = weights.array(
                "%s/%s" % (name, weight), sizes[weight], kind, fan_in, 1 if kind == "matrix" else None
            )
            values = values * values.dtype.type({"quiet": quiet, "head": head}.get(role, 1.0))
        else:
            values = constants[weight]
        initializers.append(numpy_helper.from_array(values, weight))
    data = [item for item in graph.input if item.name not in sizes]
    outputs = list(graph.output)
    fresh = onnx.helper.make_graph(nodes, name, data, outputs, initializers)
    for node in fresh.node:
        node.input[:] = [rename.get(edge, edge) for edge in node.input]
        node.output[:] = [rename.get(edge, edge) for edge in node.output]
    for item in list(fresh.input) + list(fresh.output):
        item.name = rename.get(item.name, item.name)
    model.graph.CopyFrom(fresh)
    model.ir_version = max(model.ir_version, 4)
    return model


def _kinds(graph):
    """weight -> (kind, fan-in, its role: "quiet", "head" or ""), by the node that reads it."""
    sizes = {item.name: list(item.dims) for item in graph.initializer}
    from onnx import numpy_helper

    shapes = {item.name: numpy_helper.to_array(item) for item in graph.initializer if item.name.endswith("__SHAPE")}
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            sizes[node.output[0]] = [int(size) for size in shapes[node.input[0]]]
    summed = {edge for node in graph.node if node.op_type == "Sum" for edge in node.input}
    through = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Unsqueeze"}
    classifier = [node for node in graph.node if node.op_type in ("Conv", "Gemm")][-1]
    kinds = {}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            fan_in = 1
            for size in sizes[node.input[1]][1:]:
                fan_in *= size
            kinds[node.input[1]] = ("matrix", fan_in, "head" if node is classifier else "")
            if len(node.input) > 2:
                kinds[node.input[2]] = ("bias", None, "")
        elif node.op_type == "BatchNormalization":
            last = node.output[0] in summed
            for edge, kind in zip(node.input[1:], ("scale", "bias", "mean", "variance")):
                kinds[edge] = (kind, None, "quiet" if last and kind == "scale" else "")
        elif node.op_type in ("Mul", "Add"):  # Caffe's Scale layer: a scale, then a shift, both unsqueezed
            for edge in node.input:
                if edge in through:
                    kinds[through[edge]] = ("scale" if node.op_type == "Mul" else "bias", None, "")
    return kinds
