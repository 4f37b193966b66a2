"""TensorRT 8.5 to 11 and TensorRT-RTX, by feature tests. The engine is the serialized network (a *plan* file).

Settings: `module` (default `tensorrt`; `tensorrt_rtx_bindings`), `workspace` (bytes), `tf32` (`true` to leave TF32 on).
Options: `target` (`sm89`: builds for that compute capability, TensorRT-RTX), `workspace`.
`run` needs a GPU: device memory through the CUDA runtime library (ctypes), which the engine's own packages bring.
"""

import ctypes
import glob
import importlib
import os
import sys

from worker import adapters
from worker.jobs import Failure


def _library(job):
    return importlib.import_module(job.input.get("settings", {}).get("module") or "tensorrt")


def _logger(trt):
    """Keeps the library's errors and warnings, and shows them in the log as they come."""

    class Logger(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)
            self.errors, self.warnings = [], []

        def log(self, severity, message):
            kinds = trt.ILogger.Severity
            if severity in (kinds.INTERNAL_ERROR, kinds.ERROR):
                self.errors.append(message.strip())
            elif severity == kinds.WARNING:
                self.warnings.append(message.strip())
            else:
                return
            sys.stderr.write("[%s] %s\n" % (severity.name, message))

        def refusal(self, what):
            """Failure with the first error logged: those after it are mostly its echoes."""
            return Failure(self.errors[0] if self.errors else "%s, and the library logged no reason" % what)

    return Logger()


def _has(enum, name):
    """Whether an enumeration of the bindings has a member (hasattr alone also sees `name`, `value`)."""
    return name in getattr(enum, "__members__", {}) or hasattr(enum, name)


def build(job):
    trt = _library(job)
    logger = _logger(trt)
    builder = trt.Builder(logger)
    typed = _typed(trt, job)
    network = builder.create_network(_network_flags(trt, typed))
    config = builder.create_builder_config()
    with job.stage("parse"):
        parser = trt.OnnxParser(network, logger)
        if hasattr(parser, "set_builder_config"):
            parser.set_builder_config(config)
        if not parser.parse_from_file(job.input["model"]):
            errors = [parser.get_error(index) for index in range(parser.num_errors)]
            first = str(errors[0]) if errors else str(logger.refusal("parsing failed"))
            raise Failure(first, _unsupported(errors))
        layers = _layers(network)
    with job.stage("build"):
        flags = _configure(trt, job, builder, network, config, typed)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise logger.refusal("building gave nothing")
        with open(job.path("engine.plan"), "wb") as file:
            file.write(plan)
    found = {
        "typed": "strongly" if typed else "weakly", "flags": flags,
        "target": job.input.get("options", {}).get("target"),
        "precision": adapters.tally(layers),
        "from": "network as parsed" + ("" if typed else "; the builder may have chosen other types"),
        "warnings": list(dict.fromkeys(logger.warnings))[:20],
    }  # fmt: skip
    # A strongly typed network is computed in its own types. How Q/DQ pairs were fused is known from a loaded engine
    # only.
    judged = typed and job.input.get("precision") != "int8"
    degraded = adapters.shortfall(job.input.get("precision"), layers, "in the strongly typed network") if judged else []
    return {"engine": "engine.plan", "found": found, "unsupported": [], "degraded": degraded}


def _typed(trt, job):
    """Whether to build strongly typed: whenever the precision is in the graph and the library can. From 11 on it always
    is (https://docs.nvidia.com/deeplearning/tensorrt/latest/api/migration/tensorrt-10x-to-11x.html)."""
    offered = _has(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    return (offered and job.input.get("realised") != "flag") or not _has(trt.BuilderFlag, "FP16")


def _network_flags(trt, typed):
    flags = 0
    if typed and _has(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    if not typed and _has(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH"):  # needed up to 9
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    return flags


def _configure(trt, job, builder, network, config, typed):
    """Set up the builder's configuration; returns the flags set (names)."""
    settings, options = job.input.get("settings", {}), job.input.get("options", {})
    precision, realised = job.input.get("precision"), job.input.get("realised")
    flags = []
    wanted = {"fp16": "FP16", "bf16": "BF16", "int8": "INT8", "fp8": "FP8"}.get(precision)
    if wanted and realised == "flag" and not _has(trt.BuilderFlag, wanted):
        raise Failure("%s %s has no BuilderFlag.%s" % (trt.__name__, trt.__version__, wanted))
    if wanted and not typed and _has(trt.BuilderFlag, wanted):
        config.set_flag(getattr(trt.BuilderFlag, wanted))
        flags.append(wanted)
    if _has(trt.BuilderFlag, "TF32"):
        # On by default, and FP32 would then be computed with 10 bits of mantissa.
        if str(settings.get("tf32", "false")).lower() == "true":
            flags.append("TF32")
        else:
            config.clear_flag(trt.BuilderFlag.TF32)
    workspace = options.get("workspace") or settings.get("workspace")
    if workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(workspace))
    target = options.get("target")
    if target:
        if not hasattr(config, "set_compute_capability"):
            raise Failure("%s %s cannot build for a chosen compute capability" % (trt.__name__, trt.__version__))
        # A target that this release lacks is its own AttributeError.
        capability = getattr(trt.ComputeCapability, target.upper())
        config.num_compute_capabilities = 1
        config.set_compute_capability(capability, 0)
        if config.get_compute_capability(0) != capability:
            raise Failure("%s %s did not take the target %s" % (trt.__name__, trt.__version__, target))
    if job.input.get("profile"):
        profile = builder.create_optimization_profile()
        for name, shapes in sorted(job.input["profile"].items()):
            profile.set_shape(name, shapes["min"], shapes["opt"], shapes["max"])
        config.add_optimization_profile(profile)
    return flags


def _unsupported(errors):
    """The parser's errors as the contract has them; what a release's ParserError lacks stays empty."""
    entries = []
    for error in errors:
        operator = error.node_operator() if hasattr(error, "node_operator") else ""
        name = error.node_name() if hasattr(error, "node_name") else "node %d" % error.node()
        if operator or name:
            entries.append({"node": name, "operator": operator, "reason": error.desc()})
    return entries


_TYPES = {
    "FLOAT": "fp32",
    "HALF": "fp16",
    "BF16": "bf16",
    "INT8": "int8",
    "FP8": "fp8",
    "INT32": "int32",
    "INT64": "int64",
}


def _layers(network):
    """[(kind, type of its first output)] of the network's layers, constants and shape arithmetic apart."""
    layers = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type.name in ("CONSTANT", "SHAPE", "SHUFFLE", "CAST", "IDENTITY", "CONCATENATION", "SLICE", "GATHER"):
            continue
        dtype = layer.get_output(0).dtype.name if layer.num_outputs and layer.get_output(0) is not None else "NONE"
        layers.append((layer.type.name, _TYPES.get(dtype, dtype.lower())))
    return layers


def load(job, path):
    return Engine(job, path)


class Engine:
    """Deserialized, with device buffers.

    Tried on a GPU: deserializing up to the library's refusal (TensorRT-RTX 1.7.1 on compute capability 9.0, which it
    does not serve) and the copies of `Cuda`. Executing (`run`, `proof`) follows the API's documentation and is untried.
    """

    def __init__(self, job, path):
        self.job = job
        self.trt = _library(job)
        self.logger = _logger(self.trt)
        self.runtime = self.trt.Runtime(self.logger)
        with open(path, "rb") as file:
            self.engine = self.runtime.deserialize_cuda_engine(file.read())
        if self.engine is None:
            raise self.logger.refusal("the engine was not loaded")
        self.context = self.engine.create_execution_context()
        if self.context is None:
            raise self.logger.refusal("no execution context")
        self.cuda = Cuda()
        self.stream = self.cuda.stream()
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        self.outputs = [name for name in names if self.engine.get_tensor_mode(name) == self.trt.TensorIOMode.OUTPUT]
        self.inputs = [item["name"] for item in job.input["inputs"]]
        missing = sorted(set(self.inputs) - set(names))
        if missing:
            raise Failure("the engine has no input %s" % ", ".join(missing))
        self.wanted = [item["name"] for item in job.input["outputs"]]

    def run(self, arrays):
        """Copies in, executes, copies out, waits. Inputs are cast where the engine's type differs (TensorRT 8 reads
        int64 as int32), outputs are given in the engine's own type."""
        import numpy

        buffers = []
        try:
            for name, array in zip(self.inputs, arrays):
                dtype = self.trt.nptype(self.engine.get_tensor_dtype(name))
                array = numpy.ascontiguousarray(array, dtype=dtype)
                if not self.context.set_input_shape(name, array.shape):
                    raise self.logger.refusal("the engine refused the shape %s of %s" % (array.shape, name))
                buffers.append(self.cuda.allocate(array.nbytes))
                self.cuda.to_device(buffers[-1], array, self.stream)
                self.context.set_tensor_address(name, buffers[-1])
            results = {}
            for name in self.outputs:
                shape = tuple(self.context.get_tensor_shape(name))
                array = numpy.empty(shape, dtype=self.trt.nptype(self.engine.get_tensor_dtype(name)))
                buffers.append(self.cuda.allocate(array.nbytes))
                self.context.set_tensor_address(name, buffers[-1])
                results[name] = (array, buffers[-1])
            if not self.context.execute_async_v3(self.stream):
                raise self.logger.refusal("execution failed")
            for array, pointer in results.values():
                self.cuda.to_host(array, pointer, self.stream)
            self.cuda.wait(self.stream)
        finally:
            for pointer in buffers:
                self.cuda.free(pointer)
        return [results[name][0] if name in results else None for name in self.wanted]

    def proof(self):
        """What the engine's inspector says of itself, as it says it."""
        inspector = self.engine.create_engine_inspector()
        text = inspector.get_engine_information(self.trt.LayerInformationFormat.JSON)
        return {"found": {"layers": self.engine.num_layers, "inspector": text[:20000]}, "degraded": []}


class Cuda:
    """The few calls of the CUDA runtime that moving arrays takes."""

    def __init__(self):
        self.library = ctypes.CDLL(_cudart())
        self.library.cudaGetErrorString.restype = ctypes.c_char_p

    def _call(self, name, *arguments):
        code = getattr(self.library, name)(*arguments)
        if code:
            raise Failure("%s: %s (CUDA error %d)" % (name, self.library.cudaGetErrorString(code).decode(), code))

    def stream(self):
        handle = ctypes.c_void_p()
        self._call("cudaStreamCreate", ctypes.byref(handle))
        return handle.value or 0

    def allocate(self, size):
        pointer = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(max(size, 1)))
        return pointer.value

    def free(self, pointer):
        self.library.cudaFree(ctypes.c_void_p(pointer))

    def to_device(self, pointer, array, stream):
        self._copy(ctypes.c_void_p(pointer), ctypes.c_void_p(array.ctypes.data), array.nbytes, 1, stream)

    def to_host(self, array, pointer, stream):
        self._copy(ctypes.c_void_p(array.ctypes.data), ctypes.c_void_p(pointer), array.nbytes, 2, stream)

    def _copy(self, to, source, size, kind, stream):
        self._call("cudaMemcpyAsync", to, source, ctypes.c_size_t(size), kind, ctypes.c_void_p(stream))

    def wait(self, stream):
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))


def _cudart():
    """The CUDA runtime library: the one mapped already, else of the packages installed, else what the system finds."""
    with open("/proc/self/maps") as file:
        for line in file:
            if "libcudart.so" in line:
                return line.split(None, 5)[5].rstrip("\n")
    for folder in sys.path:
        found = sorted(glob.glob(os.path.join(folder, "nvidia", "**", "libcudart.so.*"), recursive=True))
        if found:
            return found[-1]
    return "libcudart.so"
