"""LiteRT (TensorFlow Lite) on the CPU: the package ai-edge-litert 1.0 and newer, or the interpreter that TensorFlow itself
carries (setting `module`: `tensorflow.lite.python.interpreter`). The engine is the .tflite file itself: there is
no other form in which a prepared interpreter could be kept.

Which operators a delegate took, and in which types each computes, is read from the interpreter after it has prepared the
graph. The option or setting `delegate` is `xnnpack` (the library's default on a CPU) or `none` (its built-in kernels).
"""

import importlib
import re
import shutil

from worker import adapters
from worker.jobs import Failure

#: Operators that compute nothing.
_MOVES = frozenset(
    "QUANTIZE DEQUANTIZE RESHAPE TRANSPOSE CONCATENATION SPLIT SPLIT_V PACK UNPACK SQUEEZE EXPAND_DIMS SLICE "
    "STRIDED_SLICE GATHER GATHER_ND PAD PADV2 MIRROR_PAD SHAPE RANK CAST TILE BROADCAST_TO BROADCAST_ARGS FILL RANGE "
    "DELEGATE SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND SPACE_TO_DEPTH DEPTH_TO_SPACE".split()
)
_TYPES = {"float32": "fp32", "float16": "fp16", "float64": "fp64", "int8": "int8", "uint8": "int8", "int16": "int16"}
#: Ways in which the library names an operator that it does not have: one of its own in a newer version, one of nobody's, one
#: of TensorFlow's (`Flex...`).
_MISSING = (
    r"(?P<reason>Didn't find op for builtin opcode '(?P<op>\w+)' version '\d+')",
    r"(?P<reason>Encountered unresolved custom op: (?P<op>\w+))",
    r"(?s)(?P<reason>Select TensorFlow op\(s\), included in the given model, is\(are\) not supported by this interpreter)"
    r".*?Node number \d+ \((?P<op>\w+)\)",
)


def _delegate(job):
    name = job.input.get("options", {}).get("delegate") or job.input.get("settings", {}).get("delegate") or "xnnpack"
    if name not in ("xnnpack", "none"):
        raise Failure("LiteRT's Python package has no delegate %r for a CPU; there are xnnpack, none" % name)
    return name


def _open(job, path):
    """A prepared interpreter, entering the stages `parse` and `build` of a build."""
    litert = importlib.import_module(job.input.get("settings", {}).get("module") or "ai_edge_litert.interpreter")
    kinds = litert.OpResolverType
    kind = kinds.AUTO if _delegate(job) == "xnnpack" else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return litert.Interpreter(
        model_path=path, num_threads=int(job.input.get("threads") or 1), experimental_op_resolver_type=kind
    )


def build(job):
    try:
        with job.stage("parse"):
            interpreter = _open(job, job.input["model"])
        with job.stage("build"):
            interpreter.allocate_tensors()
            found, degraded = _inspect(job, interpreter)
            shutil.copyfile(job.input["model"], job.path("engine.tflite"))
    except (RuntimeError, ValueError) as error:
        raise _refused(error)
    return {"engine": "engine.tflite", "found": found, "unsupported": [], "degraded": degraded}


def _refused(error):
    """The library's error with the operator that it names, if it names one."""
    text = str(error)
    for pattern in _MISSING:
        match = re.search(pattern, text)
        if match:
            entry = {"node": "", "operator": match.group("op"), "reason": match.group("reason")}
            return Failure(text, [entry], type(error).__name__)
    return error


def load(job, path):
    return Engine(job, path)


class Engine:
    def __init__(self, job, path):
        self.job = job
        self.interpreter = _open(job, path)
        self.interpreter.allocate_tensors()
        ins = {item["name"]: item for item in self.interpreter.get_input_details()}
        outs = {item["name"]: item for item in self.interpreter.get_output_details()}
        missing = [item["name"] for item in job.input["inputs"] if item["name"] not in ins]
        if missing:
            raise Failure("the engine has no input %s; it has %s" % (", ".join(missing), ", ".join(sorted(ins))))
        self.inputs = [ins[item["name"]] for item in job.input["inputs"]]
        self.wanted = [outs.get(item["name"]) for item in job.input["outputs"]]
        self.outputs = sorted(outs)

    def run(self, arrays):
        resized = False
        for item, array in zip(self.inputs, arrays):
            # A copy of the shape: this view keeps the tensor's memory, which must be free to move.
            if list(self.interpreter.get_tensor(item["index"]).shape) != list(array.shape):
                self.interpreter.resize_tensor_input(item["index"], list(array.shape))
                resized = True
        if resized:
            self.interpreter.allocate_tensors()
        for item, array in zip(self.inputs, arrays):
            self.interpreter.set_tensor(item["index"], quantise(array, item))
        self.interpreter.invoke()
        return [
            None if item is None else dequantise(self.interpreter.get_tensor(item["index"]), item)
            for item in self.wanted
        ]

    def proof(self):
        found, degraded = _inspect(self.job, self.interpreter)
        found["inputs"] = [_border(item) for item in self.inputs]
        found["outputs"] = [_border(item) for item in self.wanted if item is not None]
        return {"found": found, "degraded": degraded}


def quantise(array, item):
    """An array for an input: real numbers become the integers that stand for them, real = scale * (integer - zero point)
    (https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec), rounded and held to the
    type's range. Raises Failure where the types differ and the input is not quantised."""
    import numpy

    kind = numpy.dtype(item["dtype"])
    if array.dtype == kind:
        return array
    scale, zero = item["quantization"]
    if not scale or array.dtype.kind != "f" or kind.kind not in "iu":
        raise Failure("input %s is %s; the case has %s" % (item["name"], kind.name, array.dtype.name))
    limits = numpy.iinfo(kind)
    return numpy.clip(numpy.rint(array / scale) + zero, limits.min, limits.max).astype(kind)


def dequantise(array, item):
    """The real numbers, as float32, that a quantised output stands for; any other output as it is."""
    import numpy

    scale, zero = item["quantization"]
    if not scale or array.dtype.kind not in "iu":
        return array
    return (array.astype(numpy.float32) - numpy.float32(zero)) * numpy.float32(scale)


def _border(item):
    import numpy

    scale, zero = item["quantization"]
    return {"name": item["name"], "dtype": numpy.dtype(item["dtype"]).name, "scale": float(scale), "zero": int(zero)}


def _inspect(job, interpreter):
    """(found, degraded), by the interpreter's nodes: types of each operator, and which of them a delegate took."""
    details = interpreter.get_tensor_details()
    names = {item["index"]: item["name"] for item in details}
    types = {item["index"]: item["dtype"] for item in details}
    nodes = interpreter._get_ops_details()  # there is no public way; there from 1.0.1 to 2.3.0
    plain = [node for node in nodes if node["op_name"] != "DELEGATE"]
    taken = _taken(plain, [node for node in nodes if node["op_name"] == "DELEGATE"])
    layers, operators = [], {}
    for node in plain:
        operators[node["op_name"]] = operators.get(node["op_name"], 0) + 1
        if node["op_name"] not in _MOVES:
            outputs = [index for index in node["outputs"] if index >= 0]
            layers.append((names.get(outputs[0], "") if outputs else "", node["op_name"], _precision(node, types)))
    dynamic = (job.input.get("quantization") or {}).get("mode") == "dynamic"
    asked = job.input.get("precision")
    # Weights of 8 bits alone are what `dynamic` asks for, and no int8 otherwise.
    judged = [(name, kind, {"hybrid": "int8" if dynamic else "fp32"}.get(p, p)) for name, kind, p in layers]
    degraded = adapters.shortfall(asked, [(kind, p) for _, kind, p in judged], "by the interpreter's nodes")
    if asked == "int8" and not dynamic and not degraded:
        degraded += _not_full(judged)
    delegate = _delegate(job)
    left = [node for index, node in enumerate(plain) if index not in taken]
    if delegate != "none" and plain and not taken:
        how = "no operator was taken by the delegate: %s" % ", ".join(sorted(operators))
        degraded.append({"asked": "delegate %s" % delegate, "got": "built-in kernels", "how": how})
    found = {
        "delegate": delegate, "operators": dict(sorted(operators.items())),
        "delegated": len(taken), "not_delegated": _named(left, names), "nodes": len(plain),
        "precision": adapters.tally([(kind, precision) for _, kind, precision in layers]),
        "left": adapters.left(asked, judged), "from": "interpreter",
    }  # fmt: skip
    return found, degraded


def _named(nodes, names):
    return [
        {"node": names.get(int(node["outputs"][0]), "") if len(node["outputs"]) else "", "operator": node["op_name"]}
        for node in nodes[: adapters.NAMED]
    ]


def _not_full(layers):
    """Full integer was asked for: any operator that computes in floating point is one too many, heavy or not."""
    floating = [(name, kind) for name, kind, precision in layers if precision.startswith(("fp", "bf"))]
    if not floating:
        return []
    how = "%d of %d compute operators stayed in floating point (%s), by the interpreter's nodes" % (
        len(floating), len(layers), ", ".join(sorted({kind for _, kind in floating})),
    )  # fmt: skip
    return [{"asked": "full-integer int8", "got": "int8 and fp32", "how": how}]


def _precision(node, types):
    """What an operator computes in, by the types (tensor -> type) of its tensors: `hybrid` is 8-bit weights with float32
    activations. Not by the node's own `operand_types`, which TensorFlow 2.15's interpreter does not tell."""
    ins, outs = ([_name(types[int(i)]) for i in node[side] if int(i) in types] for side in ("inputs", "outputs"))
    result = outs[0] if outs else ""
    if result == "float32" and any(name in ("int8", "uint8") for name in ins + outs):
        return "hybrid"
    if result in _TYPES:
        return _TYPES[result]
    return result or "unknown"


def _name(kind):
    return getattr(kind, "__name__", str(kind))


def _taken(nodes, delegates):
    """Places in `nodes` of the operators that run inside a delegate: those on the way back from what a delegate's node
    gives to what it takes. The library keeps them listed beside the node that stands for them."""
    maker = {int(edge): place for place, node in enumerate(nodes) for edge in node["outputs"]}
    taken = set()
    for delegate in delegates:
        border = {int(edge) for edge in delegate["inputs"]}
        open_edges = [int(edge) for edge in delegate["outputs"]]
        while open_edges:
            edge = open_edges.pop()
            place = maker.get(edge)
            if place is None or place in taken or edge in border:
                continue
            taken.add(place)
            open_edges += [int(edge) for edge in nodes[place]["inputs"] if edge >= 0]
    return taken
