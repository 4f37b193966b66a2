"""How a suite's cases go through an engine library: many small models in one process, none of them written to disk.

    engine = get(job_input, folder)
    with stages told through `enter(name)`:
    engine.run(case, cases, enter) -> outputs, a list of values (see conform_data), or None when the engine was built and
                                      cannot be run on this machine

What a library refuses is raised as it comes. What this program cannot hand over to a library's Python interface, or read
back from it, is a `Harness`: it says nothing of the library.

ONNX Runtime and OpenVINO have a way of their own here, since an adapter's `build` and `load` go through files and profiles
that would take several times as long as such a model itself; every other adapter is used as it is.
"""

import ctypes
import os
import shutil

from worker.conform_data import CODED, Coded


class Harness(Exception):  # noqa: N818
    """Something that this program cannot do with a library's interface."""


def get(input, folder):
    """The engine of a job's input; `folder` is its own. Imports the library."""
    return ENGINES.get(input["adapter"], Adapter)(input, folder)


def coded(values):
    """Whether any value has a type that NumPy lacks."""
    return any(isinstance(value, Coded) or (isinstance(value, list) and coded(value)) for value in values)


class OnnxRuntime:
    """ONNX Runtime 1.15 and newer, one session a case; the two steps of `InferenceSession` apart, to tell reading a model
    from preparing it. One thread, as the rest of this program asks: a pool for each of thousands of sessions costs more
    than all of them compute."""

    def __init__(self, input, folder):
        import onnxruntime
        from onnxruntime.capi import _pybind_state

        self.library, self.state = onnxruntime, _pybind_state
        wanted = (input.get("settings") or {}).get("providers") or ["CPUExecutionProvider"]
        self.providers = [wanted] if isinstance(wanted, str) else list(wanted)
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = self.options.inter_op_num_threads = 1
        self.options.log_severity_level = 4  # what matters comes as an exception

    def run(self, case, cases, enter):
        enter("parse")
        session = self.state.InferenceSession(self.options, cases.model(case), False, False)
        enter("build")
        session.initialize_session(self.providers, [{} for _ in self.providers], set())
        enter("run")
        names = [item.name for item in session.inputs_meta]
        outputs = [item.name for item in session.outputs_meta]
        values = [value for _, value in cases.inputs(case)]
        expected = case["outputs"]
        if coded(values) or any(value.get("type") in CODED for value in expected):
            return self._with_values(session, names, outputs, values)
        return session.run(outputs, dict(zip(names, values)), None)

    def _with_values(self, session, names, outputs, values):
        """Types that NumPy lacks travel as OrtValues over their bytes."""
        feeds = {name: self._put(value) for name, value in zip(names, values) if value is not None}
        found = session.run_with_ort_values({name: value._ortvalue for name, value in feeds.items()}, outputs, None)
        return [self._take(value) for value in found]

    def _put(self, value):
        make = self.library.OrtValue
        if isinstance(value, list):
            raise Harness("onnxruntime's Python interface makes no sequence beside a tensor of a type that NumPy lacks")
        if not isinstance(value, Coded):
            if value.dtype == object:
                raise Harness("onnxruntime's Python interface makes no OrtValue of text")
            return make.ortvalue_from_numpy(value)
        name, bits = CODED[value.type]
        try:
            if hasattr(self.state.OrtValue, "ortvalue_from_shape_and_onnx_type"):
                out = make.ortvalue_from_shape_and_type(list(value.shape), value.type)
                ctypes.memmove(out.data_ptr(), value.data, len(value.data))
                return out
            if bits >= 8 and hasattr(make, "ortvalue_from_numpy_with_onnx_type"):
                return make.ortvalue_from_numpy_with_onnx_type(value.codes().reshape(value.shape).copy(), value.type)
        except Exception as error:  # it knows the type, or it does not: nothing has run yet
            raise Harness(
                "the Python interface of onnxruntime %s takes no %s: %s" % (self.library.__version__, name, error)
            )
        raise Harness("the Python interface of onnxruntime %s takes no %s" % (self.library.__version__, name))

    def _take(self, value):
        """An OrtValue as a value of ours; tensors of types that NumPy lacks by their bytes in memory."""
        kind = value.data_type()
        known = {name: number for number, (name, _) in CODED.items()}
        name = kind[7:-1] if kind.startswith("tensor(") else ""
        if name not in known:
            if kind.startswith("seq("):
                raise Harness("onnxruntime's Python interface reads no %s from an OrtValue" % kind)
            return value.numpy()
        shape = tuple(value.shape())
        count = 1
        for size in shape:
            count *= size
        length = (count * CODED[known[name]][1] + 7) // 8
        return Coded(known[name], shape, ctypes.string_at(value.data_ptr(), length) if length else b"")


class OpenVino:
    """OpenVINO 2023.0 and newer on one Core. Computes in f32 unless the suite asks for the library's own choice."""

    def __init__(self, input, folder):
        import openvino

        runtime = openvino
        if not hasattr(openvino, "Core"):  # before 2023.1
            import openvino.runtime as runtime
        self.library = runtime
        settings = input.get("settings") or {}
        self.device = settings.get("device") or "CPU"
        self.core = runtime.Core()
        self.config = {"INFERENCE_NUM_THREADS": "1"}
        if input.get("precision") != "default":
            self.config["INFERENCE_PRECISION_HINT"] = "f32"

    def run(self, case, cases, enter):
        enter("parse")
        model = self.core.read_model(cases.model(case))
        enter("build")
        compiled = self.core.compile_model(model, self.device, self.config)
        enter("run")
        request = compiled.create_infer_request()
        ports = {name: port for port in compiled.inputs for name in port.get_names()}
        given = cases.inputs(case)
        texts = {}
        for index, (name, value) in enumerate(given):
            port = ports.get(name)
            if port is None and len(compiled.inputs) == len(given):
                port = compiled.inputs[index]
            if port is None:
                continue  # an input that the graph does not read, and that the library left out
            if value is None or isinstance(value, list):
                what = "nothing" if value is None else "a sequence"
                raise Harness("OpenVINO's interface takes tensors alone, not %s" % what)
            if not isinstance(value, Coded) and value.dtype == object:
                texts[port] = value.astype("U")
            else:
                self._fill(request.get_tensor(port), value)
        request.infer(texts)
        return [self._take(request.get_tensor(port)) for port in compiled.outputs]

    def _fill(self, tensor, value):
        """Write into a request's own tensor. A tensor of ours that is set in its place is read after it was freed by 2023.0
        and 2023.3, and so are arrays without dimensions that their `infer` is given."""
        import numpy

        if list(tensor.shape) != list(value.shape):
            tensor.shape = list(value.shape)
        if not isinstance(value, Coded):
            tensor.data[...] = value
            return
        if tensor.get_element_type().get_type_name() != _OPENVINO.get(value.name):
            raise Harness("this OpenVINO's interface takes no %s" % value.name)
        # Types that NumPy lacks are the bytes as they lie there, under another type's name.
        tensor.data.reshape(-1).view("u1")[:] = numpy.frombuffer(value.data, "u1")

    def _take(self, tensor):
        name = tensor.get_element_type().get_type_name()
        if name == "string":
            return tensor.str_data.astype(object)
        known = {other: number for number, (ours, _) in CODED.items() for other in [_OPENVINO.get(ours)] if other}
        data = tensor.data
        return Coded(known[name], tuple(tensor.shape), data.tobytes()) if name in known else data.copy()


#: Our names of the types that NumPy lacks -> OpenVINO's.
_OPENVINO = {
    "bfloat16": "bf16", "float8e4m3fn": "f8e4m3", "float8e5m2": "f8e5m2", "uint4": "u4", "int4": "i4", "uint2": "u2",
    "float4e2m1": "f4e2m1", "float8e8m0": "f8e8m0",
}  # fmt: skip


class Adapter:
    """Any other adapter, by its contract (adapters/__init__.py): the model as a file, built, and run where it can be."""

    def __init__(self, input, folder):
        from worker import adapters

        self.adapter = adapters.get(input["adapter"])
        self.input, self.folder = input, folder

    def run(self, case, cases, enter):
        from worker.jobs import Job

        given, expected = cases.inputs(case), case["outputs"]
        place = os.path.join(self.folder, "case")
        os.makedirs(place, exist_ok=True)
        try:
            path = os.path.join(place, "model.onnx")
            with open(path, "wb") as file:
                file.write(cases.model(case))
            input = dict(
                self.input, model=path, precision="fp32", realised="graph", profile=None, threads=1,
                inputs=[_declared(value) for value in case["inputs"]], outputs=[_declared(value) for value in expected],
            )  # fmt: skip
            job = Job("build", input, place, lambda told: enter(told["stage"]) if "stage" in told else None)
            built = self.adapter.build(job)
            if not self.input.get("loads"):
                return None
            if any(value is None or isinstance(value, (list, Coded)) or value.dtype == object for _, value in given):
                raise Harness("an adapter takes tensors of NumPy's types alone")
            enter("load")
            job.kind = "run"
            engine = self.adapter.load(job, job.path(built["engine"]))
            enter("run")
            return engine.run([value for _, value in given])
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _declared(value):
    from worker.conform_data import NUMPY

    dtype = NUMPY.get(value.get("type")) or (CODED[value["type"]][0] if "type" in value else value["kind"])
    return {"name": value["name"], "dtype": dtype, "shape": value.get("shape")}


ENGINES = {"onnxruntime": OnnxRuntime, "openvino": OpenVino}
