"""A `tensorrt` module of a chosen release, for machines without the library or the GPU that it needs.

Its surface is that release's own: `surfaces/<release>.json` holds the names of the classes, methods, properties and
members of enumerations, as read from the real module (tests/test_tensorrt_surfaces.py reads them again); for 7, of which
no module can be had, they are from its headers and documentation. What is not there raises AttributeError, to read or to
set, as with the real one. What is there and has no behaviour here raises NotImplementedError.

The behaviour is small and made up where no document says more: a network is the ONNX file's nodes, an engine is JSON, and
running computes Relu, Identity, Add and NonZero. Where the real library logs or refuses, its words are the real ones:
https://github.com/NVIDIA/TensorRT/issues/2318 and /issues/3438 (DLA), /issues/4020 (inspector), and the parser's sources
(https://github.com/onnx/onnx-tensorrt: ModelImporter.cpp) for what it says of nodes.
"""

from __future__ import annotations

import ctypes
import enum
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

SURFACES = Path(__file__).parent / "surfaces"
RELEASES = ("7.2.3", "8.4.1.5", "8.6.1", "10.0.1", "10.16.1.11", "11.4.0.106")
KINDS = {
    "Conv": "CONVOLUTION", "MatMul": "MATRIX_MULTIPLY", "Relu": "ACTIVATION", "GlobalAveragePool": "REDUCE",
    "Flatten": "SHUFFLE", "Identity": "IDENTITY", "Add": "ELEMENTWISE", "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE", "NonZero": "NON_ZERO", "Shape": "SHAPE",
}  # fmt: skip
ELEMENTS = {1: "FLOAT", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "HALF", 16: "BF16"}


class World:
    """What a test decides of the machine and the library."""

    def __init__(self) -> None:
        self.dla_cores = 0
        self.not_on_dla: set[str] = set()
        """Kinds of layer (ONNX operators) that DLA cannot run."""
        self.refused: set[str] = set()
        """Operators that the parser does not take."""
        self.stubborn: set[str] = set()
        """Layers that the builder keeps in FP32, whatever is asked."""
        self.tf32_tactics = False
        self.measured: list[str] = []
        """Layers that the builder timed, because no timing cache had them."""
        self.executed: list[dict[str, Any]] = []
        self.device = "device 0"
        self.tells_of_dla = True
        """Whether the builder logs which layers it moved from DLA to the GPU."""
        self.flatters = False
        """Whether the parser's list of subgraphs has refused nodes as supported."""


def module(release: str, world: World | None = None) -> types.ModuleType:
    """A module of that release. Import it by putting it into `sys.modules`."""
    surface = json.loads((SURFACES / f"{release}.json").read_text(encoding="utf-8"))
    trt = types.ModuleType("fake_tensorrt_" + release.replace(".", "_"))
    trt.__version__ = surface["version"]  # type: ignore[attr-defined]
    trt.fake = world or World()  # type: ignore[attr-defined]
    made: dict[str, type] = {}
    for name in sorted(
        (name for name in surface if name not in ("version", "source")), key=lambda n: (n.count("."), n)
    ):
        _make(trt, name, surface, made)
    return trt


def _make(trt: types.ModuleType, name: str, surface: dict[str, Any], made: dict[str, type]) -> None:
    if name in made:
        return
    entry = surface[name]
    if "enum" in entry:
        made[name] = enum.IntEnum(name.split(".")[-1], entry["enum"])  # type: ignore[misc]
    else:
        for base in entry.get("bases", ()):
            if base in surface:
                _make(trt, base, surface, made)
        bases = tuple(made[base] for base in entry.get("bases", ()) if base in made) or (Bound,)
        made[name] = _class(trt, name, entry, bases)
    outer, _, inner = name.rpartition(".")
    if outer:
        setattr(made[outer], inner, made[name])
        for value in surface[outer].get("values", ()):  # ILogger.ERROR is ILogger.Severity.ERROR
            setattr(made[outer], value, getattr(made[name], value))
    else:
        setattr(trt, name, made[name])


class Bound:
    """An object of the bindings: only what its class has can be set."""

    def __setattr__(self, name: str, value: Any) -> None:
        # A class of a test's own, made from one of the bindings', takes anything, as Python's classes do.
        if (
            not name.startswith("_")
            and not hasattr(type(self), name)
            and getattr(type(self), "_final", None) is type(self)
        ):
            msg = f"'{type(self).__name__}' object has no attribute '{name}'"
            raise AttributeError(msg)
        object.__setattr__(self, name, value)


def _class(trt: types.ModuleType, name: str, entry: dict[str, Any], bases: tuple[type, ...]) -> type:
    behaviour = vars(globals().get("_" + name, object))
    content: dict[str, Any] = {"_trt": trt, "__module__": trt.__name__}
    python = ("__dict__", "__weakref__", "__doc__", "__module__")
    content.update({item: value for item, value in behaviour.items() if item.startswith("_") and item not in python})
    for item in entry.get("methods", ()):
        content[item] = behaviour.get(item) or _absent(name, item)
    for item in entry.get("properties", ()):
        content[item] = behaviour[item] if item in behaviour else _stored(item)
    made = type(name, bases, content)
    made._final = made  # type: ignore[attr-defined]
    return made


def _absent(name: str, item: str) -> Callable[..., Any]:
    def absent(self: Any, *_: Any, **__: Any) -> Any:
        msg = f"the fake has no behaviour for {name}.{item}"
        raise NotImplementedError(msg)

    return absent


def _stored(item: str) -> property:
    """A property that keeps what it is set to."""
    return property(
        lambda self: self.__dict__.get("_" + item), lambda self, value: self.__dict__.__setitem__("_" + item, value)
    )


def _major(trt: Any) -> int:
    return int(trt.__version__.split(".")[0])


# Behaviour, by the names of the bindings -----------------------------------------------------------------------------


class _ILogger:
    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class _Builder:
    def __init__(self, logger: Any) -> None:
        self._log = logger

    num_DLA_cores = property(lambda self: self._trt.fake.dla_cores)  # noqa: N815

    def create_network(self, flags: int = 0) -> Any:
        network = self._trt.INetworkDefinition()
        network._setup(self, flags)
        return network

    def create_builder_config(self) -> Any:
        config = self._trt.IBuilderConfig()
        config._setup(self)
        return config

    def create_optimization_profile(self) -> Any:
        profile = self._trt.IOptimizationProfile()
        profile._shapes = {}
        return profile

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        return _built(self, network, config)

    def build_engine(self, network: Any, config: Any) -> Any:
        data = _built(self, network, config)
        return None if data is None else _engine(self._trt, json.loads(data))


def _error(owner: Any, message: str) -> None:
    owner._log.log(owner._trt.ILogger.Severity.ERROR, message)


def _built(builder: Any, network: Any, config: Any) -> bytes | None:
    trt, world = builder._trt, builder._trt.fake
    major = _major(trt)
    flags = {flag.name for flag in trt.BuilderFlag if config.get_flag(flag)}
    if any(-1 in tensor._dims for tensor in network._inputs) and not config._profiles:
        _error(builder, "Network has dynamic or shape inputs, but no optimization profile has been defined.")
        return None
    calibrator = None
    if "INT8" in flags and hasattr(type(config), "int8_calibrator"):
        calibrator = config.int8_calibrator
        if calibrator is not None and not _calibrated(builder, network, calibrator):
            return None
    asked = [name for name in ("INT8", "FP8", "BF16", "FP16") if name in flags]
    layers = []
    for layer in network._layers:
        kept = layer.get_output(0).dtype.name
        precision = kept
        if kept == "FLOAT" and asked and not network._typed and layer.name not in world.stubborn:
            precision = {"INT8": "INT8", "FP8": "FP8", "BF16": "BF16", "FP16": "HALF"}[asked[0]]
        device = "GPU"
        if config.default_device_type == trt.DeviceType.DLA:
            if config.can_run_on_DLA(layer):
                device = "DLA"
            elif "GPU_FALLBACK" not in flags:
                _error(builder, f"Layer {layer.name} is not supported on DLA and GPU fallback is not enabled.")
                return None
            elif world.tells_of_dla:
                message = f"Default DLA is enabled but layer {layer.name} is not supported on DLA, falling back to GPU."
                builder._log.log(trt.ILogger.Severity.WARNING, message)
        layers.append({"name": layer.name, "operator": layer._operator, "precision": precision, "device": device})
        key = f"{layer.name} {precision}"
        cache = getattr(config, "_cache", None)
        if cache is None or key not in cache._entries:
            world.measured.append(key)
            if cache is not None:
                cache._entries.add(key)
    plan = {
        "release": trt.__version__, "device": world.device, "layers": layers, "nodes": network._nodes,
        "weights": network._weights, "detailed": _detailed(trt, config), "tf32": "TF32" in flags and world.tf32_tactics,
        "inputs": [[t.name, t.dtype.name, list(t._dims)] for t in network._inputs],
        "outputs": [[t.name, t.dtype.name, list(t._dims)] for t in network._outputs],
        "profiles": [profile._shapes for profile in config._profiles], "compatible": "VERSION_COMPATIBLE" in flags,
        "lean": "EXCLUDE_LEAN_RUNTIME" not in flags, "major": major,
    }  # fmt: skip
    return json.dumps(plan).encode()


def _detailed(trt: Any, config: Any) -> bool:
    kinds = getattr(trt, "ProfilingVerbosity", None)
    verbosity = getattr(config, "profiling_verbosity", None)
    return verbosity is not None and verbosity in [getattr(kinds, name, -1) for name in ("DETAILED", "VERBOSE")]


def _calibrated(builder: Any, network: Any, calibrator: Any) -> bool:
    table = calibrator.read_calibration_cache()
    if table is None:
        names, batches = [tensor.name for tensor in network._inputs], 0
        while calibrator.get_batch(names):
            batches += 1
        if not batches:
            _error(builder, "Calibration failure occurred with no scaling factors detected.")
            return False
        lines = "".join(f"{layer.get_output(0).name}: 3c010a14\n" for layer in network._layers)
        calibrator.write_calibration_cache(b"TRT-8401-EntropyCalibration2\n" + lines.encode())
    return True


class _IBuilderConfig:
    def _setup(self, builder: Any) -> None:
        trt = self._trt
        self._owner, self._profiles, self._cache = builder, [], None
        self._set = {trt.BuilderFlag.TF32}
        self._pools = dict.fromkeys(getattr(trt, "MemoryPoolType", ()), 8 << 30)
        self._max_workspace_size, self._level = 0, 3
        self._default_device_type, self._DLA_core = trt.DeviceType.GPU, -1
        self._hardware_compatibility_level = getattr(getattr(trt, "HardwareCompatibilityLevel", None), "NONE", None)

    def set_flag(self, flag: Any) -> None:
        self._set.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self._set.discard(flag)

    def get_flag(self, flag: Any) -> bool:
        return flag in self._set

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self._pools[pool] = size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._pools[pool]

    def add_optimization_profile(self, profile: Any) -> int:
        if any(
            not low <= best <= high
            for shapes in profile._shapes.values()
            for low, best, high in zip(*shapes, strict=True)
        ):
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    num_optimization_profiles = property(lambda self: len(self._profiles))

    def set_calibration_profile(self, profile: Any) -> bool:
        self._calibration = profile
        return True

    def can_run_on_DLA(self, layer: Any) -> bool:  # noqa: N802
        return self._trt.fake.dla_cores > 0 and layer._operator not in self._trt.fake.not_on_dla

    def create_timing_cache(self, blob: bytes) -> Any:
        cache = self._trt.ITimingCache()
        head, _, rest = bytes(blob).decode().partition("\n")
        cache._device = head or self._trt.fake.device
        cache._entries = set(rest.splitlines())
        return cache

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        self._cache = cache
        return ignore_mismatch or cache._device == self._trt.fake.device

    def get_timing_cache(self) -> Any:
        return self._cache


class _ITimingCache:
    def combine(self, input_cache: Any, ignore_mismatch: bool) -> bool:
        if input_cache._device != self._device and not ignore_mismatch:
            return False
        self._entries |= input_cache._entries
        return True

    def serialize(self) -> bytes:
        return "\n".join([self._device, *sorted(self._entries)]).encode()


class _IOptimizationProfile:
    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self._shapes[input] = [list(min), list(opt), list(max)]


class _INetworkDefinition:
    def _setup(self, builder: Any, flags: int) -> None:
        trt = self._trt
        kinds = trt.NetworkDefinitionCreationFlag
        explicit = getattr(kinds, "EXPLICIT_BATCH", None)
        typed = getattr(kinds, "STRONGLY_TYPED", None)
        self._implicit = _major(trt) < 10 and not (explicit is not None and flags & 1 << int(explicit))
        self._typed = _major(trt) >= 11 or (typed is not None and bool(flags & 1 << int(typed)))
        self._layers, self._inputs, self._outputs, self._nodes, self._weights = [], [], [], [], {}
        self._log = builder._log

    has_implicit_batch_dimension = property(lambda self: self._implicit)
    num_layers = property(lambda self: len(self._layers))
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))

    def get_layer(self, index: int) -> Any:
        return self._layers[index]

    def get_input(self, index: int) -> Any:
        return self._inputs[index]

    def get_output(self, index: int) -> Any:
        return self._outputs[index]

    def mark_output(self, tensor: Any) -> None:
        self._outputs.append(tensor)


class _ILayer:
    num_outputs = property(lambda self: len(self._tensors))

    def get_output(self, index: int) -> Any:
        return self._tensors[index]


def _tensor(trt: Any, name: str, dtype: Any, dims: list[int]) -> Any:
    tensor = trt.ITensor()
    tensor.name, tensor.dtype, tensor.shape = name, dtype, tuple(dims)
    tensor._dims, tensor.__dict__["_is_shape_tensor"] = dims, False
    return tensor


class _OnnxParser:
    def __init__(self, network: Any, logger: Any) -> None:
        self._network, self._log, self._errors, self._groups = network, logger, [], []
        if network._implicit:
            _error(self, "This version of the ONNX parser only supports TensorRT INetworkDefinitions with an explicit batch "
                         "dimension. Please ensure the network was created using the EXPLICIT_BATCH "
                         "NetworkDefinitionCreationFlag.")  # fmt: skip

    num_errors = property(lambda self: len(self._errors))
    num_subgraphs = property(lambda self: len(self._groups))

    def get_error(self, index: int) -> Any:
        return self._errors[index]

    def set_builder_config(self, builder_config: Any) -> bool:
        return True

    def supports_operator(self, op_name: str) -> bool:
        return op_name not in self._trt.fake.refused

    def parse_from_file(self, model: str) -> bool:
        return self._read(Path(model).read_bytes())

    def parse(self, model: bytes, path: str | None = None) -> bool:
        return self._read(model)

    def supports_model(self, model: bytes, path: str | None = None) -> Any:
        self._survey(model)
        return all(supported for _, supported in self._groups), self._groups

    def supports_model_v2(self, model: bytes, path: str | None = None) -> bool:
        self._survey(model)
        return all(supported for _, supported in self._groups)

    def get_subgraph_nodes(self, index: int) -> list[int]:
        return self._groups[index][0]

    def is_subgraph_supported(self, index: int) -> bool:
        return self._groups[index][1]

    def _survey(self, data: bytes) -> None:
        """Runs of nodes that are supported, and the others one by one."""
        from worker import subgraph

        self._groups = []
        for node in subgraph.Model(data).nodes:
            bad = node.operator.split(".")[-1] in self._trt.fake.refused and not self._trt.fake.flatters
            if not bad and self._groups and self._groups[-1][1]:
                self._groups[-1][0].append(node.index)
            else:
                self._groups.append(([node.index], not bad))

    def _fail(self, node: Any, code: str) -> bool:
        error = self._trt.ParserError()
        error._about = (node, code)
        self._errors.append(error)
        _error(
            self,
            f'ModelImporter.cpp:773: While parsing node number {node.index} [{node.operator} -> "{node.outputs[0]}"]:',
        )
        return False

    def _read(self, data: bytes) -> bool:
        from worker import subgraph

        trt, network = self._trt, self._network
        if network._implicit:
            return False
        model = subgraph.Model(data)
        types_ = {}
        for name in model.inputs:
            if name not in model.weights:
                _, element, shape = subgraph.signature(model.types[name])
                dims = [size if isinstance(size, int) else -1 for size in shape or []]
                dtype = ELEMENTS[element]
                if not hasattr(trt.DataType, dtype):
                    dtype = "INT32"  # before 10 int64 is read as int32
                tensor = _tensor(trt, name, getattr(trt.DataType, dtype), dims)
                types_[name] = tensor
                network._inputs.append(tensor)
        for node in model.nodes:
            operator = node.operator.split(".")[-1]
            if operator in trt.fake.refused:
                return self._fail(node, "UNSUPPORTED_NODE")
            source = next((types_[name] for name in node.inputs if name in types_), None)
            dtype = source.dtype if source is not None else trt.DataType.FLOAT
            dims = list(source._dims) if source is not None else []
            if operator == "NonZero":
                dtype, dims = getattr(trt.DataType, "INT64", trt.DataType.INT32), [len(dims), -1]
            layer = trt.ILayer()
            layer.name, layer._operator = node.name, operator
            kind = KINDS.get(operator, "ELEMENTWISE")
            layer.type = getattr(trt.LayerType, kind, trt.LayerType.ELEMENTWISE)
            layer._tensors = [_tensor(trt, name, dtype, dims) for name in node.outputs]
            types_.update(zip(node.outputs, layer._tensors, strict=True))
            network._layers.append(layer)
            network._nodes.append([operator, node.inputs, node.outputs])
        network._outputs = [types_[name] for name in model.outputs if name in types_]
        return True


class _ParserError:
    def node(self) -> int:
        return self._about[0].index

    def node_name(self) -> str:
        return self._about[0].name

    def node_operator(self) -> str:
        return self._about[0].operator.split(".")[-1]

    def desc(self) -> str:
        return 'Assertion failed: creator && "Plugin not found, are the plugin name, version, and namespace correct?"'

    def code(self) -> Any:
        return self._trt.ErrorCode[self._about[1]]

    def __str__(self) -> str:
        return f"In node {self.node()} (importFallbackPluginImporter): {self._about[1]}: {self.desc()}"


class _Runtime:
    def __init__(self, logger: Any) -> None:
        self._log = logger
        self._engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        plan = json.loads(serialized_engine)
        if plan["release"] != self._trt.__version__ and not plan["compatible"]:
            _error(self, "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion "
                         "stdVersionRead == kSERIALIZATION_VERSION failed.Version tag does not match.)")  # fmt: skip
            return None
        if plan["compatible"] and plan["lean"] and not self._engine_host_code_allowed:
            _error(self, "IRuntime::deserializeCudaEngine: Error Code 4: API Usage Error (Cannot deserialize engine with lean "
                         "runtime: IRuntime::setEngineHostCodeAllowed(true) was not called.)")  # fmt: skip
            return None
        return _engine(self._trt, plan)


def _engine(trt: Any, plan: dict[str, Any]) -> Any:
    engine = trt.ICudaEngine()
    engine._plan = plan
    engine._all = [[*row, True] for row in plan["inputs"]] + [[*row, False] for row in plan["outputs"]]
    return engine


class _ICudaEngine:
    num_layers = property(lambda self: len(self._plan["layers"]))
    num_optimization_profiles = property(lambda self: max(len(self._plan["profiles"]), 1))
    num_io_tensors = property(lambda self: len(self._all))
    num_bindings = property(lambda self: len(self._all) * self.num_optimization_profiles)
    device_memory_size = property(lambda self: 4096)
    device_memory_size_v2 = property(lambda self: 4096)

    def serialize(self) -> bytes:
        return json.dumps(self._plan).encode()

    def _row(self, name: str) -> Any:
        return next(row for row in self._all if row[0] == name)

    def _range(self, row: Any, profile: int) -> Any:
        if not self._plan["profiles"]:
            return [row[2]] * 3
        return self._plan["profiles"][profile][row[0]]

    # by name
    def get_tensor_name(self, index: int) -> str:
        return self._all[index][0]

    def get_tensor_mode(self, name: str) -> Any:
        return self._trt.TensorIOMode.INPUT if self._row(name)[3] else self._trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return self._trt.DataType[self._row(name)[1]]

    def get_tensor_shape(self, name: str) -> Any:
        return tuple(self._row(name)[2])

    def get_tensor_location(self, name: str) -> Any:
        return self._trt.TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> Any:
        return [tuple(shape) for shape in self._range(self._row(name), profile_index)]

    # by number
    def _at(self, index: int) -> Any:
        return self._all[index % len(self._all)]

    def get_binding_name(self, index: int) -> str:
        profile = index // len(self._all)
        return self._at(index)[0] + (f" [profile {profile}]" if profile else "")

    def binding_is_input(self, index: int) -> bool:
        return self._at(index)[3]

    def get_binding_dtype(self, index: int) -> Any:
        return self._trt.DataType[self._at(index)[1]]

    def get_location(self, index: int) -> Any:
        return self._trt.TensorLocation.DEVICE

    def is_shape_binding(self, binding: int) -> bool:
        return False

    def get_profile_shape(self, profile_index: int, binding: int) -> Any:
        assert binding // len(self._all) == profile_index
        return [tuple(shape) for shape in self._range(self._at(binding), profile_index)]

    def create_execution_context(self) -> Any:
        context = self._trt.IExecutionContext()
        context._engine, context._profile = self, 0
        context._shapes, context._addresses, context._allocators = {}, {}, {}
        return context

    def create_engine_inspector(self) -> Any:
        inspector = self._trt.EngineInspector()
        inspector._engine = self
        return inspector


class _IExecutionContext:
    def _fits(self, name: str, shape: Any) -> bool:
        low, _, high = self._engine._range(self._engine._row(name), self._profile)
        return len(low) == len(shape) and all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self._profile = profile_index
        return profile_index < self._engine.num_optimization_profiles

    def set_input_shape(self, name: str, shape: Any) -> bool:
        if not self._fits(name, shape):
            return False
        self._shapes[name] = tuple(shape)
        return True

    def set_binding_shape(self, binding: int, shape: Any) -> bool:
        count = len(self._engine._all)
        assert binding // count == self._profile, "a binding of another profile"
        return _IExecutionContext.set_input_shape(self, self._engine._at(binding)[0], shape)

    def _missing(self) -> list[str]:
        return [row[0] for row in self._engine._all if row[3] and row[0] not in self._shapes]

    def infer_shapes(self) -> list[str]:
        return self._missing()

    all_binding_shapes_specified = property(lambda self: not self._missing())
    all_shape_inputs_specified = property(lambda self: True)

    def _shape(self, name: str) -> Any:
        row = self._engine._row(name)
        first = next(iter(self._shapes.values()), ())
        return tuple(row[2]) if row[1] in ("INT64", "INT32") else tuple(first)

    def get_tensor_shape(self, name: str) -> Any:
        return self._shape(name)

    def get_binding_shape(self, binding: int) -> Any:
        return self._shape(self._engine._at(binding)[0])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        self._allocators[name] = output_allocator
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        return self._compute(stream_handle)

    def execute_async_v2(self, bindings: list[int], stream_handle: int) -> bool:
        count = len(self._engine._all)
        for index, address in enumerate(bindings):
            if index // count == self._profile:
                self._addresses[self._engine._at(index)[0]] = address
            else:
                assert address == 0, "an address for a binding of another profile"
        return self._compute(stream_handle)

    def _compute(self, stream: int) -> bool:
        import numpy

        values: dict[str, Any] = {}
        names = {"FLOAT": "float32", "HALF": "float16", "INT32": "int32", "INT64": "int64", "BF16": "uint16"}
        for name, dtype, _, is_input in self._engine._all:
            if is_input:
                shape = self._shapes[name]
                kind = numpy.dtype(names[dtype])
                size = int(numpy.prod(shape)) * kind.itemsize
                values[name] = numpy.frombuffer(ctypes.string_at(self._addresses[name], size), kind).reshape(shape)
        operators: dict[str, Callable[..., Any]] = {
            "Relu": lambda x: numpy.maximum(x, 0).astype(x.dtype), "Identity": lambda x: x, "Add": lambda x, y: x + y,
            "NonZero": lambda x: numpy.stack(numpy.nonzero(x)).astype("int64"),
        }  # fmt: skip
        for operator, inputs, outputs in self._engine._plan["nodes"]:
            values[outputs[0]] = operators[operator](*(values[name] for name in inputs))
        for name, dtype, _, is_input in self._engine._all:
            if not is_input:
                array = numpy.ascontiguousarray(values[name], dtype=names[dtype])
                if name in self._allocators:
                    allocator = self._allocators[name]
                    late = getattr(allocator, "reallocate_output_async", None) if _major(self._trt) >= 10 else None
                    asked = (name, 0, array.nbytes, 256)
                    self._addresses[name] = late(*asked, stream) if late else allocator.reallocate_output(*asked)
                    allocator.notify_shape(name, array.shape)
                ctypes.memmove(self._addresses[name], array.ctypes.data, array.nbytes)
        self._engine._trt.fake.executed.append({"profile": self._profile, "stream": stream})
        return True


class _EngineInspector:
    def get_engine_information(self, format: Any) -> str:
        plan = self._engine._plan
        if not plan["detailed"]:
            return json.dumps({"Layers": [layer["name"] for layer in plan["layers"]], "Bindings": []})
        old = plan["major"] < 10
        words = {"FLOAT": "Row major linear FP32" if old else "Float", "INT8": "Row major Int8 format" if old else "Int8",
                 "HALF": "Channel major FP16 format where channel % 8 == 0" if old else "Half"}  # fmt: skip
        layers = []
        for layer in plan["layers"]:
            word = words.get(layer["precision"], layer["precision"])
            tensor = [{"Name": "t", "Location": "Device", "Dimensions": [1], "Format/Datatype": word}]
            kind = {"Conv": "CaskConvolution", "MatMul": "gemm"}.get(layer["operator"], "PointWiseV2")
            tactic = (
                "sm80_xmma_gemm_f32f32_tf32f32_f32_nn_n"
                if plan["tf32"] and kind in ("gemm", "CaskConvolution")
                else "0x1"
            )
            layers.append({
                "Name": layer["name"], "LayerType": kind, "Inputs": tensor, "Outputs": tensor,
                "ParameterType": "Convolution" if kind == "CaskConvolution" else kind, "TacticName": tactic,
                "Metadata": f"[ONNX Layer: {layer['name']}]",
            })  # fmt: skip
        return json.dumps({"Layers": layers, "Bindings": []})


class Cudart:
    """The CUDA runtime's calls over host memory: what would be an address on the device is one here."""

    def __init__(self) -> None:
        self.libc = ctypes.CDLL(None)
        self.libc.malloc.restype, self.libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        self.libc.free.argtypes = [ctypes.c_void_p]
        self.calls: list[str] = []
        self.live: set[int] = set()
        self.room: int | None = None
        self.cudaGetErrorString = types.FunctionType((lambda code: b"out of memory").__code__, {})

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cuda"):
            raise AttributeError(name)
        self.calls.append(name)
        return getattr(self, "_" + name)

    def _cudaStreamCreate(self, handle: Any) -> int:  # noqa: N802
        handle._obj.value = 7
        return 0

    def _cudaMalloc(self, pointer: Any, size: Any) -> int:  # noqa: N802
        if self.room is not None and size.value > self.room:
            return 2
        pointer._obj.value = self.libc.malloc(size.value)
        self.live.add(pointer._obj.value)
        return 0

    def _cudaFree(self, pointer: Any) -> int:  # noqa: N802
        self.live.remove(pointer.value)
        self.libc.free(pointer)
        return 0

    def _cudaMemcpyAsync(self, to: Any, source: Any, size: Any, kind: int, stream: Any) -> int:  # noqa: N802
        ctypes.memmove(to, source, size.value)
        return 0

    def _cudaStreamSynchronize(self, stream: Any) -> int:  # noqa: N802
        return 0

    def _cudaEventCreate(self, handle: Any) -> int:  # noqa: N802
        handle._obj.value = 100 + len(self.calls)
        return 0

    def _cudaEventRecord(self, event: Any, stream: Any) -> int:  # noqa: N802
        return 0

    def _cudaEventSynchronize(self, event: Any) -> int:  # noqa: N802
        return 0

    def _cudaEventElapsedTime(self, milliseconds: Any, first: Any, last: Any) -> int:  # noqa: N802
        milliseconds._obj.value = 1.5
        return 0


def install(release: str, world: World | None = None) -> str:
    """Make the module importable; its name."""
    made = module(release, world)
    sys.modules[made.__name__] = made
    return made.__name__
