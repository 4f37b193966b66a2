"""What ran in a session of ONNX Runtime, read from the profile it writes: each node, its provider and its precision."""

import json
import os
import re

_QUANTISED = re.compile(
    r"^(QLinear|QGemm|QAttention|MatMulInteger|ConvInteger|DynamicQuantize|MatMulNBits|QMoE|QEmbed)"
)
#: Operators that compute nothing: they move, name or re-type data.
MOVES = frozenset(
    "Cast Reshape Transpose Flatten Squeeze Unsqueeze Concat Slice Gather Shape Constant ConstantOfShape Identity "
    "Split Pad Expand Tile QuantizeLinear DequantizeLinear ReorderInput ReorderOutput Size Range MemcpyToHost "
    "MemcpyFromHost".split()
)
#: What a provider compiled is one node of a name of its own, whose inside the profile does not show.
COMPILED = re.compile(r"^(TRTKernel|TensorrtExecutionProvider|NvTensorRTRTX|OpenVINOExecutionProvider|OpenVINO-EP)")
_TYPES = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64", "int8": "int8", "uint8": "int8"}


def read(path):
    """[{"name", "operator", "provider", "precision", "scalar"}] of the nodes that ran, once each; the file is removed. `scalar`:
    nothing that it took or gave has more than one element."""
    with open(path) as file:
        events = json.load(file)
    os.unlink(path)
    seen, nodes = set(), []
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        arguments = event["args"]
        key = (event["name"], arguments.get("node_index"))
        if key in seen:  # a node inside a loop
            continue
        seen.add(key)
        operator = arguments["op_name"]
        nodes.append(
            {
                "name": event["name"][: -len("_kernel_time")],
                "operator": operator,
                "provider": arguments.get("provider", ""),
                "precision": _precision(operator, arguments),
                "scalar": _scalar(arguments),
            }
        )
    return nodes


def _scalar(arguments):
    """False where the profile tells no shape."""
    shapes = [
        shape
        for name in ("input_type_shape", "output_type_shape")
        for item in arguments.get(name) or ()
        for shape in item.values()
    ]
    return bool(shapes) and all(size == 1 for shape in shapes for size in shape)


def _precision(operator, arguments):
    """What a node computes in: int8 when it is a quantised operator, else its narrowest floating-point type."""
    if _QUANTISED.match(operator):
        return "int8"
    types = [
        name
        for group in (arguments.get("input_type_shape"), arguments.get("output_type_shape"))
        for item in group or ()
        for name in item
    ]
    found = [_TYPES.get(name, name) for name in types]
    for name in ("fp16", "bf16", "fp32", "fp64", "int8"):
        if name in found:
            return name
    return found[0] if found else "unknown"
