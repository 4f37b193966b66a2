"""Small ONNX models and their reference cases: `python models.py FOLDER`. Needs the onnx package (a tools
environment)."""

import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

OUT = pathlib.Path(sys.argv[1])
RANDOM = np.random.default_rng(0)
W = (RANDOM.standard_normal((8, 3, 3, 3)) * 0.3).astype(np.float32)
B = RANDOM.standard_normal(8).astype(np.float32)
W2 = (RANDOM.standard_normal((8, 5)) * 0.3).astype(np.float32)


def body(source, target):
    return [
        helper.make_node("Conv", [source, "w", "b"], ["c"], pads=[1, 1, 1, 1], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", "w2"], [target], name="fc"),
    ]


def cast(source, target, to):
    return helper.make_node("Cast", [source], [target], to=to, name="cast_" + target)


def model(name, nodes, weights, batch=1, opset=13, domain=None):
    values = [
        helper.make_tensor_value_info(item, TensorProto.FLOAT, shape)
        for item, shape in (("x", [batch, 3, 16, 16]), ("y", [batch, 5]))
    ]
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    initializers = [numpy_helper.from_array(value, key) for key, value in weights.items()]
    graph = helper.make_graph(nodes, name, values[:1], values[1:], initializers)
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    if not domain:
        onnx.checker.check_model(made)
    onnx.save(made, OUT / f"{name}.onnx")
    return made


def quantise(source, scale):
    return [
        helper.make_node("QuantizeLinear", [source, scale, "z"], [source + "_q"], name="q_" + source),
        helper.make_node("DequantizeLinear", [source + "_q", scale, "z"], [source + "_dq"], name="dq_" + source),
    ]


FLOAT = {"w": W, "b": B, "w2": W2}
fp32 = model("fp32", body("x", "y"), FLOAT)
model("dynamic", body("x", "y"), FLOAT, batch="N")
HALF = {key: value.astype(np.float16) for key, value in FLOAT.items()}
model("fp16", [cast("x", "xh", TensorProto.FLOAT16), *body("xh", "yh"), cast("yh", "y", TensorProto.FLOAT)], HALF)

sx, sw = np.float32(4 / 127), np.float32(np.abs(W).max() / 127)
int8 = model(
    "int8",
    [
        *quantise("x", "sx"),
        helper.make_node("DequantizeLinear", ["wq", "sw", "z"], ["wdq"], name="dq_w"),
        helper.make_node("DequantizeLinear", ["bq", "sb"], ["bdq"], name="dq_b"),
        helper.make_node("Conv", ["x_dq", "wdq", "bdq"], ["c"], pads=[1, 1, 1, 1], name="conv"),
        *quantise("c", "sc"),
        helper.make_node("GlobalAveragePool", ["c_dq"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", "w2"], ["y"], name="fc"),
    ],
    {
        "wq": np.round(W / sw).astype(np.int8), "bq": np.round(B / (sx * sw)).astype(np.int32), "w2": W2,
        "sx": sx, "sw": sw, "sb": np.float32(sx * sw), "sc": np.float32(0.1), "z": np.int8(0),
    },
)  # fmt: skip
# Quantised at its input alone: the convolution itself can only run in floating point.
half_hearted = model(
    "int8-input-only", [*quantise("x", "sx"), *body("x_dq", "y")], {**FLOAT, "sx": sx, "z": np.int8(0)}
)
custom = [
    helper.make_node("NoSuchOp", ["x"], ["c"], name="first", domain="custom"),
    helper.make_node("NoSuchToo", ["c"], ["y"], name="second", domain="custom"),
]
model("unknown", custom, {}, domain="custom")
double = helper.make_graph(
    [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")],
    "double",
    [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [1, 3, 16, 16])],
    [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)],
    [numpy_helper.from_array(W.astype(np.float64), "w")],
)
onnx.save(helper.make_model(double, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), OUT / "double.onnx")
(OUT / "broken.onnx").write_bytes((OUT / "fp32.onnx").read_bytes()[:500])

for name, made, batch in (
    ("fp32", fp32, 1), ("batch3", fp32, 3), ("int8", int8, 1), ("int8-input-only", half_hearted, 1)
):  # fmt: skip
    x = RANDOM.standard_normal((batch, 3, 16, 16)).astype(np.float32)
    made.opset_import[0].version = 19  # onnx's evaluator has Q/DQ from there on; these operators mean the same in 13
    y = ReferenceEvaluator(made).run(None, {"x": x})[0]
    np.savez(OUT / f"{name}.npz", input_0=x, output_0=y)
    if name == "fp32":
        np.savez(OUT / "wrong.npz", input_0=x, output_0=y + np.float32(0.01) * np.arange(5, dtype=np.float32))
