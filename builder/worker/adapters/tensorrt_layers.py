"""What layers there are and in which precision: as parsed, and as the engine's inspector tells them (from 8.2 on).

The inspector's JSON has no field for the precision of a layer. It is read off what the layer takes and gives, in the two
spellings that releases have had ("Channel major FP16 format where channel % 8 == 0", "Row major linear FP32",
"Thirty-two wide channel vectorized row major Int8 format" up to 10.0; "Half", "Float", "Int8" later), off the type of its
weights, and off the name of its tactic (`sm80_xmma_gemm_f32f32_tf32f32_f32_...` multiplies in TF32).
Recorded: https://github.com/NVIDIA/TensorRT/issues/2418 (8.4), /issues/4020 (10.x),
https://github.com/NVIDIA/TensorRT/blob/main/samples/sampleEditableTimingCache/README.md (10.9).
"""

import json
import re
import sys

from worker import adapters
from worker.adapters import tensorrt_api as api

#: Layers of a network that move or describe values and compute none.
MOVES = frozenset((
    "CONSTANT", "SHAPE", "SHUFFLE", "CAST", "IDENTITY", "CONCATENATION", "SLICE", "GATHER", "ASSERTION", "SQUEEZE",
    "UNSQUEEZE",
))  # fmt: skip
#: Layers of an engine that do the same.
ENGINE_MOVES = re.compile(
    r"^(reformat|noop|constant|shapehostto|shuffle|slice|cast|signal|wait|memset|devicetoshape)", re.I
)
SPELLINGS = (
    ("BFLOAT16", "bf16"), ("BF16", "bf16"), ("TF32", "tf32"), ("FP32", "fp32"), ("FLOAT8", "fp8"), ("FP8", "fp8"),
    ("FP4", "fp4"), ("FP16", "fp16"), ("HALF", "fp16"), ("FLOAT", "fp32"), ("UINT8", "uint8"),
    ("INT8", "int8"), ("INT4", "int4"), ("INT32", "int32"), ("INT64", "int64"), ("BOOL", "bool"),
)  # fmt: skip
#: Layers that a record names; the log has all of them, as the inspector tells them.
KEPT = 60


def parsed(network):
    """[(name, kind, precision of its first output)] of all layers of a network."""
    layers = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        output = layer.get_output(0) if layer.num_outputs else None
        layers.append((layer.name, layer.type.name, "" if output is None else api.precision(output.dtype)))
    return layers


def computing(layers):
    """[(kind, precision)] of parsed layers, without those that only move values."""
    return [(kind, precision) for _, kind, precision in layers if kind not in MOVES]


def named(failure, layers):
    """A Failure of the builder with the layers that its message names: "Could not find any implementation for node
    {ForeignNode[a...b]}.", "... node a + b.", "Cannot compile operation 'a' for Turing"."""
    match = re.search(r"implementation for (?:node|operation) (.+?)(?:\.?\)|\.(?: |$)| due to|$)", str(failure))
    match = match or re.search(r"Cannot compile operation '([^']+)'", str(failure))
    if match:
        text = re.sub(r"^\{ForeignNode\[|\]\}$", "", match.group(1))
        parts = [part.strip() for chunk in text.split(" + ") for part in chunk.split("...")]
        kinds = {name: kind for name, kind, _ in layers}
        failure.unsupported = [
            {"node": part, "operator": kinds[part].title(), "reason": str(failure)} for part in parts if part in kinds
        ]
    return failure


def inspect(trt, engine, context=None):
    """The engine's layers as [{"name", "kind", "precision", "tactic", "operations"}], and which text they were read
    from: "inspector", or "" where this release or this engine has none."""
    if not hasattr(engine, "create_engine_inspector"):
        return [], ""
    inspector = engine.create_engine_inspector()
    if context is not None:
        inspector.execution_context = context  # shapes of dynamic engines are then told as they are now
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    sys.stderr.write("%s\n" % text)
    return read(text), "inspector"


def read(text):
    """Layers of the inspector's JSON. An engine built without details names its layers alone."""
    try:
        layers = json.loads(text).get("Layers", [])
    except ValueError:
        return []
    return [_layer(layer) for layer in layers]


def _layer(layer):
    if not isinstance(layer, dict):
        return {"name": str(layer), "kind": "", "precision": "", "tactic": "", "operations": []}
    kind = layer.get("LayerType", "")
    parameter = layer.get("ParameterType", "")
    tactic = layer.get("TacticName") or layer.get("TacticValue") or ""
    # [ONNX Layer: a][ONNX Layer: b], from 8.6 on.
    operations = re.findall(r"\[ONNX Layer: ([^\]]*)\]", layer.get("Metadata") or "")
    return {
        "name": layer.get("Name", ""), "kind": parameter or kind, "engine": kind, "tactic": tactic, "operations": operations,
        "precision": _precision(layer, tactic),
    }  # fmt: skip


def _precision(layer, tactic):
    if layer.get("Name", "").startswith("{ForeignNode["):
        return ""  # a region compiled as a whole, or run by DLA: what is inside is not told
    if "tf32" in tactic.lower():
        return "tf32"
    weights = layer.get("Weights")
    if isinstance(weights, dict) and weights.get("Type") and weights.get("Count", 1):
        return spelled(weights["Type"])
    ours = [spelled(tensor.get("Format/Datatype", "")) for tensor in layer.get("Inputs") or []]
    theirs = [spelled(tensor.get("Format/Datatype", "")) for tensor in layer.get("Outputs") or []]
    real = [name for name in ours + theirs if name in adapters.SHARE]
    return real[0] if real else (ours + theirs + [""])[0]


def spelled(text):
    """The precision in a format's name, or ''."""
    upper = (text or "").upper()
    return next((name for spelling, name in SPELLINGS if spelling in upper), "")


def computes(layer):
    """Whether a layer of the engine does arithmetic that precision is asked for."""
    return layer["precision"] != "" and not ENGINE_MOVES.match(layer.get("engine") or layer["kind"] or "")


def judge(job, layers):
    """(`found`, `degraded`) of an engine's layers against the precision that was asked for."""
    asked = job.input.get("precision")
    pairs = [(_named(layer), layer["precision"]) for layer in layers if computes(layer)]
    opaque = [layer["name"] for layer in layers if layer["name"].startswith("{ForeignNode[")]
    degraded = adapters.shortfall(asked, _plain(pairs), "by the engine's inspector")
    if opaque and not any(adapters.HEAVY.search(kind) for kind, _ in pairs):
        degraded = []  # all that carries the arithmetic is where nothing is told of it
    tf32 = [layer["name"] for layer in layers if layer["precision"] == "tf32"]
    if asked == "fp32" and tf32 and not api.asked(job, "tf32"):
        text = "%d of %d compute layers by the names of their tactics, the first %s" % (len(tf32), len(pairs), tf32[0])
        degraded.append({"asked": "fp32", "got": "tf32", "how": text})
    operations = {}
    for layer in layers:
        if layer["precision"] in adapters.SHARE or layer["precision"] == "tf32":
            count = max(len(layer["operations"]), 1)
            operations[layer["precision"]] = operations.get(layer["precision"], 0) + count
    found = {
        "precision": adapters.tally(pairs), "operations": dict(sorted(operations.items())),
        "engine_layers": [
            {key: layer[key] for key in ("name", "kind", "precision", "tactic") if layer.get(key)} for layer in layers[:KEPT]
        ],
        "from": "engine inspector" + ("; %d regions do not tell what is inside" % len(opaque) if opaque else ""),
    }  # fmt: skip
    return found, degraded


def _named(layer):
    """What says whether a layer is heavy: its kind and its name, since fused ones are called `ForeignNode` or `kgen`."""
    return " ".join(part for part in (layer["kind"] or layer.get("engine", ""),) if part) or layer["name"]


def _plain(pairs):
    """TF32 as the FP32 that was asked for; it is told apart beside."""
    return [(kind, "fp32" if precision == "tf32" else precision) for kind, precision in pairs]


#: Where a layer went, in the words of releases 7 to 10:
#: "Default DLA is enabled but layer X is not supported on DLA, falling back to GPU."
#: "DLA supports only 8 subgraphs per DLA core. Switching to GPU for layer X"
#: "DLA only supports FP16 and Int8 precision type. Switching X device type to GPU."
FALLBACKS = (
    re.compile(r"enabled but layer (.+?) is not (?:supported|running) on DLA"),
    re.compile(r"Switching to GPU for layer (.+?)\.?$"),
    re.compile(r"Switching (.+?) device type to GPU"),
)


def fallbacks(messages):
    """Names of layers that DLA was asked for and the GPU runs, by the library's messages."""
    names = []
    for message in messages:
        for pattern in FALLBACKS:
            match = pattern.search(message)
            if match:
                names.append(match.group(1))
    return list(dict.fromkeys(names))


def on_dla(job, network, config, messages):
    """(`found`, `degraded`) of a build for DLA: which layers the GPU has, by what the configuration says that DLA cannot
    run and by the library's messages."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    names = [layer.name for layer in layers if layer.type.name != "CONSTANT"]
    left = [layer.name for layer in layers if layer.type.name != "CONSTANT" and not config.can_run_on_DLA(layer)]
    left = list(dict.fromkeys(left + [name for name in fallbacks(messages) if name in names]))
    found = {"layers": len(names), "on_gpu": left}
    if not left:
        return found, []
    asked = api.option(job, "device")
    text = "%d of %d layers (%.0f %%) on the GPU: %s" % (
        len(left), len(names), 100.0 * len(left) / max(len(names), 1), ", ".join(left[:5]) + (", ..." if len(left) > 5 else ""),
    )  # fmt: skip
    return found, [{"asked": asked, "got": "gpu" if len(left) == len(names) else asked + " and gpu", "how": text}]
