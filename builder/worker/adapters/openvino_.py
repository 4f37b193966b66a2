"""OpenVINO on the CPU, 2022.1 (API 2.0) and newer. The engine is the compiled model as `export_model` writes it.

The precision hint is always given: on a CPU with bfloat16 units the default computes an FP32 model in bf16
(https://docs.openvino.ai/2024/openvino-workflow/running-inference/optimize-inference/precision-control.html). It must
be given again at `import_model`: an imported blob takes the default, whatever it was exported with. The option
`inference-precision: default` leaves the hint out, to see what a program gets that does not give it.

The option or setting `device` is OpenVINO's name of one: CPU, GPU, GPU.1, NPU, AUTO:..., HETERO:...
"""

import io
import re

from worker import adapters
from worker.jobs import Failure

#: Layers that compute nothing.
_MOVES = frozenset(
    "Parameter Result Input Output Const Constant Reorder Reshape Transpose Convert Concat Concatenation Split Gather "
    "ShapeOf Squeeze Unsqueeze Broadcast StridedSlice Pad MemoryInput MemoryOutput Tile ConvertLike".split()
)
_PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "f64": "fp64", "i8": "int8", "u8": "int8"}


def _core():
    try:
        from openvino import Core
    except ImportError:  # before 2023.1
        from openvino.runtime import Core
    return Core()


def _device(job, core):
    """The device asked for. Raises Failure when this machine has no such device: compiling for it would end in the words
    of a driver that is not there, and AUTO would quietly take another."""
    device = job.input.get("options", {}).get("device") or job.input.get("settings", {}).get("device") or "CPU"
    there = list(core.available_devices)
    mode, _, listed = device.partition(":")
    wanted = [name.strip().lstrip("-") for name in listed.split(",") if name.strip()] if mode in _MODES else [device]
    for name in wanted:
        if not any(have == name or have.split(".")[0] == name for have in there):
            raise Failure(
                "OpenVINO has no device %s on this machine; it has %s" % (name, ", ".join(there) or "none"),
                kind="NoDevice",
            )
    return device


#: Names that stand for a choice among devices, with their list behind a colon.
_MODES = ("AUTO", "MULTI", "HETERO", "BATCH")


def _config(job):
    """f16 only when it is asked of the builder; a model converted to fp16 or int8 carries its precision in the graph,
    and what stays in floating point there is computed in f32."""
    config = {"INFERENCE_NUM_THREADS": str(int(job.input.get("threads") or 1))}
    how = job.input.get("options", {}).get("inference-precision", "asked")
    if how not in ("asked", "default"):
        raise Failure("inference-precision is %r; it can be asked or default" % how)
    if how == "asked":
        flag = job.input.get("realised") == "flag"
        hint = {"fp16": "f16", "bf16": "bf16"}.get(job.input.get("precision"), "f32") if flag else "f32"
        config["INFERENCE_PRECISION_HINT"] = hint
    return config


def build(job):
    core = _core()
    config = _config(job)
    device = _device(job, core)
    with job.stage("parse"):
        try:
            model = core.read_model(job.input["model"])
        except Exception as error:
            raise _refused(error)
    with job.stage("build"):
        compiled = core.compile_model(model, device, config)
        with open(job.path("engine.blob"), "wb") as file:
            file.write(_blob(compiled))
        found, degraded = _inspect(job, compiled, config, device)
    return {"engine": "engine.blob", "found": found, "unsupported": [], "degraded": degraded}


def _blob(compiled):
    """The compiled model's bytes. Into a buffer of ours: without one, `export_model()` of 2024.2 to 2024.4 dies of SIGSEGV
    (seen with Python 3.12 in a plain process)."""
    buffer = io.BytesIO()
    try:
        compiled.export_model(buffer)
    except TypeError:  # releases that know only the other form
        return compiled.export_model()
    return buffer.getbuffer()


def _refused(error):
    """The library's error with the operators that it names."""
    text = str(error)
    match = re.search(
        r"(?:does not support the following ONNX operations|No conversion rule found for operations): *([^\n]+)", text
    )
    if not match:
        return error
    reason = match.group(0).strip()
    entries = [{"node": "", "operator": name.strip(), "reason": reason} for name in match.group(1).split(",")]
    return Failure(text, entries, type(error).__name__)


def load(job, path):
    return Engine(job, path)


class Engine:
    def __init__(self, job, path):
        self.job = job
        self.config = _config(job)
        core = _core()
        self.device = _device(job, core)
        with open(path, "rb") as file:
            self.compiled = core.import_model(file.read(), self.device, self.config)
        self.request = self.compiled.create_infer_request()
        ports = {name: port for port in self.compiled.inputs for name in _names(port)}
        missing = [item["name"] for item in job.input["inputs"] if item["name"] not in ports]
        if missing:
            raise Failure("the engine has no input %s; it has %s" % (", ".join(missing), ", ".join(sorted(ports))))
        self.inputs = [ports[item["name"]] for item in job.input["inputs"]]
        self.ports = {name: port for port in self.compiled.outputs for name in _names(port)}
        wanted = [item["name"] for item in job.input["outputs"]]
        self.wanted = [self.ports.get(name) for name in wanted]
        # A port may have several names; it is extra only when none of them is wanted.
        self.outputs = [
            next((name for name in wanted if name in _names(port)), (sorted(_names(port)) or ["unnamed"])[0])
            for port in self.compiled.outputs
        ]

    def run(self, arrays):
        results = self.request.infer(dict(zip(self.inputs, arrays)))
        # Copied: the request's own memory is written over by the next run.
        return [None if port is None else results[port].copy() for port in self.wanted]

    def proof(self):
        found, degraded = _inspect(self.job, self.compiled, self.config, self.device)
        return {"found": found, "degraded": degraded}


def _names(port):
    return port.get_names()


def _inspect(job, compiled, config, device):
    """(found, degraded), by the execution graph: type and runtime precision of each layer, and the devices."""
    layers = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        kind = _text(info["layerType"])
        precision = _text(info["runtimePrecision"]).lower()
        precision = {"fp32": "f32", "fp16": "f16"}.get(precision, precision)
        if kind not in _MOVES:
            layers.append((node.get_friendly_name(), kind, _PRECISIONS.get(precision, precision)))
    devices = [str(name) for name in _property(compiled, "EXECUTION_DEVICES") or []]
    asked = job.input.get("precision")
    counted = [(kind, precision) for _, kind, precision in layers]
    degraded = adapters.shortfall(asked, counted, "by the execution graph")
    if devices and device.split(":")[0] not in _MODES and not any(name.startswith(device) for name in devices):
        degraded.append({"asked": device, "got": ", ".join(devices), "how": "by EXECUTION_DEVICES"})
    given = config.get("INFERENCE_PRECISION_HINT")
    force = _type_name(_property(compiled, "INFERENCE_PRECISION_HINT"))
    if given is not None and force is not None and force != given:
        how = "INFERENCE_PRECISION_HINT as the compiled model gives it back"
        degraded.append({"asked": "inference precision %s" % given, "got": force, "how": how})
    found = {
        "device": device, "devices": devices, "hint": given or "not given", "hint_in_force": force,
        "precision": adapters.tally(counted), "from": "execution graph", "left": adapters.left(asked, layers),
    }  # fmt: skip
    return found, degraded


def _text(value):
    """A runtime attribute (OVAny) as text."""
    value = getattr(value, "value", value)
    return value if isinstance(value, str) else str(value)


def _property(compiled, name):
    try:
        return compiled.get_property(name)
    except Exception:  # a property that this release does not have
        return None


def _type_name(value):
    """`f32` of an openvino Type, whose text is `<Type: 'float32'>`."""
    if value is None:
        return None
    return value.get_type_name() if hasattr(value, "get_type_name") else str(value)
