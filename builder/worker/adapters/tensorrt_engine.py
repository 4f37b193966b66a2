"""An engine on the device: loaded, fed, run, timed.

Two ways of naming what goes in and out: bindings by number (7 to 9; with several profiles each has its own range of
numbers) and tensors by name (8.5 on). Both are served, the latter where there is one.
"""

from worker.adapters import cuda, tensorrt_layers
from worker.adapters import tensorrt_api as api
from worker.jobs import Failure

#: trt.DataType -> NumPy's name. Not `trt.nptype`, which before 8.6 asks NumPy for a name that 1.24 no longer has.
NUMPY = {
    "FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "BOOL": "bool", "UINT8": "uint8",
    "INT64": "int64", "BF16": "bf16",
}  # fmt: skip


def pack(array, dtype):
    """An array as the engine reads it: contiguous, in its type. bfloat16, which NumPy lacks, is rounded to nearest even and
    held in 16-bit integers. Raises Failure for a type that no array can be made of, or integers that do not fit."""
    import numpy

    name = _numpy(dtype)
    if name == "bf16":
        bits = numpy.ascontiguousarray(array, dtype="float32").view("uint32").astype("uint64")
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return numpy.where(numpy.isnan(array), 0x7FC0, rounded).astype("uint16")
    out = numpy.ascontiguousarray(array, dtype=name)
    # TensorRT before 10 reads int64 as int32.
    if array.dtype.kind in "iu" and out.dtype.kind in "iu" and not numpy.array_equal(out, array):
        raise Failure("an input of %s has values that %s cannot hold" % (array.dtype, name))
    return out


def blank(shape, dtype):
    """An array to receive an output of this shape."""
    import numpy

    name = _numpy(dtype)
    return numpy.empty(shape, dtype="uint16" if name == "bf16" else name)


def unpack(array, dtype):
    """What `blank` received, as numbers."""
    if _numpy(dtype) == "bf16":
        return (array.astype("uint32") << 16).view("float32")
    return array


def _numpy(dtype):
    if dtype.name not in NUMPY:
        raise Failure("arrays of %s cannot be given to an engine or taken from it here" % dtype.name)
    return NUMPY[dtype.name]


class Engine:
    """Deserialized, with device buffers. Raises Failure with the library's first error."""

    def __init__(self, job, path):
        self.job, self.trt = job, api.library(job)
        self.logger = api.logger(self.trt)
        self.runtime = self.trt.Runtime(self.logger)
        self._allow()
        with open(path, "rb") as file:
            data = file.read()
        self.engine = self.runtime.deserialize_cuda_engine(data)
        if self.engine is None:
            failure = self.logger.refusal("the engine was not loaded")
            validity = self._validity(data)
            failure.found = {"validity": validity} if validity else None
            raise failure
        self.context = self.engine.create_execution_context()
        if self.context is None:
            raise self.logger.refusal("no execution context")
        self.cuda = cuda.Cuda()
        self.stream = self.cuda.stream()
        self.buffers = cuda.Buffers(self.cuda)
        kind = Tensors if hasattr(self.engine, "num_io_tensors") else Bindings
        self.ends = kind(self)
        self.outputs = self.ends.outputs
        self.inputs = [item["name"] for item in job.input["inputs"]]
        missing = sorted(set(self.inputs) - set(self.ends.inputs))
        # A builder leaves out an input that nothing depends on.
        if missing and set(self.ends.inputs) - set(self.inputs):
            raise Failure("the engine has no input %s; it has %s" % (", ".join(missing), ", ".join(self.ends.inputs)))
        self.wanted = [item["name"] for item in job.input["outputs"]]
        self.shapes = None

    def _allow(self):
        """A version-compatible engine brings a runtime as code; an engine for DLA needs its core."""
        compatible = api.option(self.job, "compatibility", "none") != "none"
        if compatible and hasattr(self.runtime, "engine_host_code_allowed"):
            self.runtime.engine_host_code_allowed = True
        device = api.option(self.job, "device", "gpu")
        if device.startswith("dla"):
            self.runtime.DLA_core = int(device.partition(":")[2] or 0)

    def _validity(self, data):
        """What a release that can tell says of a refused file: ["INVALID", diagnostics], else None."""
        if not hasattr(self.runtime, "get_engine_validity"):
            return None
        try:
            validity, diagnostics = self.runtime.get_engine_validity(data)
        except (TypeError, RuntimeError):
            return None
        kinds = getattr(self.trt, "EngineInvalidityDiagnostics", None)
        names = [name for name, value in getattr(kinds, "__members__", {}).items() if int(diagnostics) & int(value)]
        return [validity.name, *sorted(names)]

    def prepare(self, arrays):
        """Choose the profile, copy in, and have everything in place for `enqueue`. Outputs of shapes that depend on the
        data get their memory while the engine runs."""
        given = {name: array for name, array in zip(self.inputs, arrays) if name in self.ends.inputs}
        shapes = {name: tuple(array.shape) for name, array in given.items()}
        if shapes != self.shapes:
            self.shapes = None
            self.ends.use(self._profile(shapes))
        self.held = []
        for name, array in given.items():
            array = pack(array, self.ends.dtype(name))
            self.held.append(array)
            if not self.ends.shape_input(name, array):
                raise self.logger.refusal("the engine refused the shape %s of %s" % (tuple(array.shape), name))
            if self.ends.on_host(name):
                self.ends.address(name, array.ctypes.data)
            else:
                pointer = self.buffers.get(name, array.nbytes)
                self.cuda.to_device(pointer, array, self.stream)
                self.ends.address(name, pointer)
        self.ends.ready()
        self.results = {}
        for name in self.outputs:
            shape = self.ends.shape(name)
            if min(shape or (0,)) < 0:
                self.ends.allocate_later(name)
                continue
            array = blank(shape, self.ends.dtype(name))
            on_host = self.ends.on_host(name)
            pointer = array.ctypes.data if on_host else self.buffers.get(name, array.nbytes)
            self.ends.address(name, pointer)
            self.results[name] = (array, None if on_host else pointer)
        self.shapes = shapes

    def _profile(self, shapes):
        """The profile to use: of those whose range holds all shapes, the one whose optimum is nearest."""
        best = None
        if self.engine.num_optimization_profiles < 2:
            return 0
        for index in range(self.engine.num_optimization_profiles):
            away = 0
            for name, shape in shapes.items():
                low, best_at, high = self.ends.profile(index, name)
                if len(low) != len(shape) or any(not a <= b <= c for a, b, c in zip(low, shape, high)):
                    break
                away += sum(abs(a - b) for a, b in zip(best_at, shape))
            else:
                if best is None or away < best[0]:
                    best = (away, index)
        if best is None:  # the library says it better, when it is given the shape
            return 0
        return best[1]

    def enqueue(self):
        if not self.ends.execute(self.stream):
            raise self.logger.refusal("execution failed")

    def fetch(self):
        """The outputs wanted, in the job's order; None for one that the engine lacks."""
        self.cuda.wait(self.stream)
        for name, (pointer, shape) in self.ends.late().items():
            array = blank(shape, self.ends.dtype(name))
            self.results[name] = (array, pointer)
        for array, pointer in self.results.values():
            if pointer is not None:
                self.cuda.to_host(array, pointer, self.stream)
        self.cuda.wait(self.stream)
        return [
            unpack(self.results[name][0], self.ends.dtype(name)) if name in self.results else None
            for name in self.wanted
        ]

    def run(self, arrays):
        """Copies in, executes, copies out, waits. Inputs are cast where the engine's type differs, outputs are given in
        the engine's own type."""
        self.prepare(arrays)
        self.enqueue()
        return self.fetch()

    def device_timer(self, arrays):
        """A call that runs the engine once on what is on the device already, and gives the seconds that the device took,
        by a pair of events."""
        self.prepare(arrays)
        first, last = self.cuda.event(), self.cuda.event()

        def once():
            self.cuda.record(first, self.stream)
            self.enqueue()
            self.cuda.record(last, self.stream)
            return self.cuda.between(first, last)

        return once

    def device_memory(self):
        """Bytes of device memory: {"buffers", "context"} of arrays in and out, and of what layers work in."""
        size = getattr(self.engine, "device_memory_size_v2", None) or getattr(self.engine, "device_memory_size", None)
        return {"buffers": self.buffers.total(), "context": size}

    def proof(self):
        """Layers as the engine's inspector tells them, their precision against what was asked."""
        layers, source = tensorrt_layers.inspect(self.trt, self.engine, self.context)
        found = {"layers": self.engine.num_layers, "memory": self.device_memory()}
        if self.engine.num_optimization_profiles > 1:
            found["profiles"] = self.engine.num_optimization_profiles
        if not source:
            found["from"] = "%s has no engine inspector (8.2 is the first)" % api.title(self.trt)
            return {"found": found, "degraded": []}
        if not any(layer["kind"] for layer in layers):
            found["from"] = "the engine was built without details: layers have names alone"
            found["engine_layers"] = [layer["name"] for layer in layers[: tensorrt_layers.KEPT]]
            return {"found": found, "degraded": []}
        told, degraded = tensorrt_layers.judge(self.job, layers)
        found.update(told)
        return {"found": found, "degraded": degraded}


class Tensors:
    """What goes in and out, by name (from 8.5 on)."""

    def __init__(self, owner):
        self.owner, self.engine, self.context, self.trt = owner, owner.engine, owner.context, owner.trt
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        modes = self.trt.TensorIOMode
        self.inputs = [name for name in names if self.engine.get_tensor_mode(name) == modes.INPUT]
        self.outputs = [name for name in names if self.engine.get_tensor_mode(name) == modes.OUTPUT]
        self.allocators = {}
        self.current = 0

    def dtype(self, name):
        return self.engine.get_tensor_dtype(name)

    def on_host(self, name):
        """Whether it is one of the few small tensors (shapes) that the library reads and writes in host memory."""
        return self.engine.get_tensor_location(name) == self.trt.TensorLocation.HOST

    def profile(self, index, name):
        """(min, opt, max) of an input in a profile."""
        if self.on_host(name):
            shape = tuple(self.engine.get_tensor_shape(name))
            return shape, shape, shape
        return tuple(tuple(shape) for shape in self.engine.get_tensor_profile_shape(name, index))

    def use(self, index):
        if index != self.current:
            if not self.context.set_optimization_profile_async(index, self.owner.stream):
                raise self.owner.logger.refusal("profile %d was refused" % index)
            self.current = index

    def shape_input(self, name, array):
        return self.context.set_input_shape(name, tuple(array.shape))

    def address(self, name, pointer):
        if not self.context.set_tensor_address(name, pointer):
            raise self.owner.logger.refusal("the engine did not take the address of %s" % name)

    def ready(self):
        missing = self.context.infer_shapes() if hasattr(self.context, "infer_shapes") else []
        if missing:
            raise Failure("the engine still lacks the shapes or values of %s" % ", ".join(missing))

    def shape(self, name):
        return tuple(self.context.get_tensor_shape(name))

    def allocate_later(self, name):
        if name not in self.allocators:
            self.allocators[name] = _allocator(self.trt, self.owner.buffers)
            if not self.context.set_output_allocator(name, self.allocators[name]):
                raise self.owner.logger.refusal("the engine took no memory for %s while it runs" % name)

    def late(self):
        """{name: (device address, shape)} of outputs whose shapes became known while the engine ran."""
        for allocator in self.allocators.values():
            if allocator.error is not None:
                raise allocator.error
        return {name: (allocator.pointer, allocator.shape) for name, allocator in self.allocators.items()}

    def execute(self, stream):
        return self.context.execute_async_v3(stream)


def _allocator(trt, buffers):
    class Allocator(trt.IOutputAllocator):
        """Memory for an output whose size depends on the data."""

        def __init__(self):
            trt.IOutputAllocator.__init__(self)
            self.pointer, self.shape, self.error = 0, None, None

        def reallocate_output(self, tensor_name, memory, size, alignment):
            try:
                self.pointer = buffers.get(tensor_name, size)
            except Failure as error:  # what is raised here would be lost in the library
                self.error = error
                return 0
            return self.pointer

        def reallocate_output_async(self, tensor_name, memory, size, alignment, stream):
            return self.reallocate_output(tensor_name, memory, size, alignment)

        def notify_shape(self, tensor_name, shape):
            self.shape = tuple(shape)

    return Allocator()


class Bindings:
    """What goes in and out, by number (7 to 8.4): all profiles one after the other, each with the same names."""

    def __init__(self, owner):
        self.owner, self.engine, self.context, self.trt = owner, owner.engine, owner.context, owner.trt
        profiles = max(self.engine.num_optimization_profiles, 1)
        self.each = self.engine.num_bindings // profiles
        names = [self.engine.get_binding_name(index) for index in range(self.each)]
        self.number = {name: index for index, name in enumerate(names)}
        self.inputs = [name for name in names if self.engine.binding_is_input(self.number[name])]
        self.outputs = [name for name in names if not self.engine.binding_is_input(self.number[name])]
        self.pointers = [0] * self.engine.num_bindings
        self.current = 0

    def _at(self, name):
        return self.current * self.each + self.number[name]

    def dtype(self, name):
        return self.engine.get_binding_dtype(self.number[name])

    def on_host(self, name):
        return self.engine.get_location(self.number[name]) == self.trt.TensorLocation.HOST

    def profile(self, index, name):
        return tuple(
            tuple(shape) for shape in self.engine.get_profile_shape(index, index * self.each + self.number[name])
        )

    def use(self, index):
        if index == self.current:
            return
        if hasattr(self.context, "set_optimization_profile_async"):
            taken = self.context.set_optimization_profile_async(index, self.owner.stream)
        else:
            self.context.active_optimization_profile = index
            taken = self.context.active_optimization_profile == index
        if not taken:
            raise self.owner.logger.refusal("profile %d was refused" % index)
        self.current = index
        self.pointers = [0] * len(self.pointers)

    def shape_input(self, name, array):
        index = self._at(name)
        if self.engine.is_shape_binding(index):
            return self.context.set_shape_input(index, [int(value) for value in array.ravel()])
        return self.context.set_binding_shape(index, tuple(array.shape))

    def address(self, name, pointer):
        self.pointers[self._at(name)] = int(pointer)

    def ready(self):
        if not (self.context.all_binding_shapes_specified and self.context.all_shape_inputs_specified):
            raise Failure("the engine still lacks the shapes or values of some inputs")

    def shape(self, name):
        return tuple(self.context.get_binding_shape(self._at(name)))

    def allocate_later(self, name):
        raise Failure("%s has outputs of fixed shapes alone, and that of %s is not known" % (api.title(self.trt), name))

    def late(self):
        return {}

    def execute(self, stream):
        return self.context.execute_async_v2(self.pointers, stream)
