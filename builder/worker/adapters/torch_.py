"""PyTorch itself: eager (the baseline of every speed-up), TorchScript, and torch.export with AOTInductor.

The engine is built from the recipe's module, not from an ONNX file (`takes: module`): option `mode` says how.
    eager        engine.safetensors, the weights in the precision asked for; the recipe's script is the rest
    torchscript  engine.pt: traced and frozen (torch.jit.trace, torch.jit.freeze)
    aotinductor  engine.pt2: machine code of this processor or GPU, made with a C++ compiler (on a GPU, Triton and nvcc's parts)
Settings: `device` (`cpu`, `cuda`), `tf32` (`off`, or `allowed` to leave TF32 on, which answers fp32 with 10 bits of mantissa); an
option `tf32` comes before it.
Inputs and outputs are those of the module in FP32 whatever the precision, as converted ONNX files have it.

Precision is proved by the operators that went through PyTorch's dispatcher while a case ran. Code that AOTInductor
compiled does not pass there: for it the graph that was compiled speaks, kept in the package's metadata.
"""

import collections
import os
import re
import shutil
import warnings

from worker import adapters
from worker.exporters import common, given
from worker.jobs import BadInput, Failure

MODES = {"eager": "engine.safetensors", "torchscript": "engine.pt", "aotinductor": "engine.pt2"}
#: Operators of ATen that carry a network's arithmetic -> what adapters.HEAVY calls them.
_HEAVY = {"mm": "matmul", "addmm": "matmul", "bmm": "matmul", "baddbmm": "matmul", "linear": "matmul", "mv": "matmul"}
#: Operators that compute nothing.
_MOVES = re.compile(
    r"^(view|reshape|t|transpose|permute|expand|clone|copy|_?to|_to_copy|detach|alias|slice|select|cat|split|unsqueeze|squeeze"
    r"|contiguous|equal|empty|empty_strided|as_strided|resize|flatten|unsafe_view|_reshape_alias|lift_fresh|arange|zeros|ones"
    r"|full|size|embedding|index|index_select|resolve_conj|unbind|chunk|getitem|scalar_tensor|sym_size)_?\d*$"
)
_TYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64"}
_KEY = "enginematrix"


def mode_of(job):
    mode = job.input.get("options", {}).get("mode") or job.input.get("settings", {}).get("mode") or "eager"
    if mode not in MODES:
        raise BadInput("mode is %r; it can be %s" % (mode, ", ".join(sorted(MODES))))
    return mode


def prepare(job):
    """torch, set up for a job: threads, TF32, and its temporary files in the job's own folder."""
    os.environ["TMPDIR"] = job.dir
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(job.dir, "inductor")
    import torch

    torch.set_num_threads(int(job.input.get("threads") or 1))
    asked = job.input.get("options", {}).get("tf32") or job.input.get("settings", {}).get("tf32") or "off"
    if asked not in ("off", "allowed"):
        raise BadInput("tf32 is %r; it can be off or allowed" % asked)
    allowed = asked == "allowed"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 2.9 and newer speak of another spelling; both are kept in step by it
        torch.backends.cuda.matmul.allow_tf32 = allowed
        torch.backends.cudnn.allow_tf32 = allowed
    return torch


def device_of(torch, job):
    """The device asked for. Raises Failure when it is a GPU and this build or machine has none."""
    name = job.input.get("settings", {}).get("device") or "cpu"
    if name == "cuda":
        if not torch.backends.cuda.is_built():
            raise Failure("torch %s is built without CUDA, and a GPU was asked for" % torch.__version__)
        if not torch.cuda.is_available():
            raise Failure("torch %s finds no usable CUDA device" % torch.__version__)
    return torch.device(name)


def network(torch, job):
    """(the recipe's script, its module in FP32 on the CPU)."""
    script = common.script(job, given.torch_model)
    return script, common.model(job, script).eval()


def module(job):
    """The recipe's module -> its weights (safetensors: nothing is pickled), inputs and outputs."""
    torch = prepare(job)
    from safetensors.torch import save_file

    with job.stage("export"):
        script, net = network(torch, job)
        recipe, shapes = job.input["recipe"], job.input["options"].get("shapes", "static")
        arrays = common.inputs(script, job, common.shapes(recipe, shapes, "opt"), recipe["seeds"][0])
        with torch.no_grad():
            out = net(*[torch.from_numpy(array) for array in arrays])
        names, outs = list(getattr(script, "OUTPUTS", None) or given.output_names(out)), given.flat(out)[1]
        if len(names) != len(outs):
            raise ValueError("the module gives %d outputs, its script names %d" % (len(outs), len(names)))
        save_file(weights(net), job.path("module.safetensors"))
    symbols = getattr(script, "OUTPUT_SYMBOLS", {}) if shapes == "dynamic" else {}
    return {
        "model": "module.safetensors",
        "inputs": [
            {
                "name": item["name"], "dtype": item["dtype"],
                "shape": item["shape"] if shapes == "dynamic" else list(array.shape),
            }
            for item, array in zip(recipe["inputs"], arrays)
        ],
        "outputs": [
            {
                "name": name, "dtype": str(out.dtype).split(".")[-1],
                "shape": [symbols.get(name, {}).get(axis, size) for axis, size in enumerate(out.shape)],
            }
            for name, out in zip(names, outs)
        ],
        "parameters": sum(tensor.numel() for tensor in net.parameters()),
        "exporter": "torch %s (module)" % torch.__version__.split("+")[0],
        "notes": [],
    }  # fmt: skip


def weights(net):
    """A module's state as safetensors takes it: every tensor for itself."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in net.state_dict().items()}


def dtype_of(torch, precision):
    """What floating-point weights and inputs are cast to; int8 is dynamic: it starts from float32."""
    return {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)


def restore(torch, job, path, device, precision):
    """The recipe's module with the weights of a file, in the precision asked for, on the device.

    Returns (module, notes)."""
    from safetensors.torch import load_file

    _, net = network(torch, job)
    net = net.to(dtype_of(torch, precision))
    net.load_state_dict(load_file(path))
    notes = {}
    if precision == "int8":
        net, notes["quantized_modules"] = quantised(torch, net)
    return net.to(device).eval(), notes


def quantised(torch, net):
    """Dynamic int8: linear and recurrent layers, weights ahead, activations at each run. Raises Failure where it cannot.

    https://docs.pytorch.org/docs/stable/generated/torch.ao.quantization.quantize_dynamic.html; it has no convolutions.
    """
    quantize = getattr(getattr(getattr(torch, "ao", None), "quantization", None), "quantize_dynamic", None)
    if quantize is None:
        raise Failure("torch %s has no torch.ao.quantization.quantize_dynamic" % torch.__version__)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = quantize(net, dtype=torch.qint8)
    kinds = [type(part) for part in net.modules()]
    done = [kind for kind in kinds if kind.__module__.startswith("torch.ao.nn.quantized")]
    return net, sum(not kind.__name__.endswith("PackedParams") for kind in done)


def example(torch, job, device, dtype):
    """Inputs (tensors) of the shapes that are traced: the static ones, or `opt`."""
    script = common.script(job, given.torch_model)
    recipe, shapes = job.input["recipe"], job.input.get("shapes") or "static"
    arrays = common.inputs(script, job, common.shapes(recipe, shapes, "opt"), recipe["seeds"][0])
    return tuple(tensor(torch, array, device, dtype) for array in arrays)


def tensor(torch, array, device, dtype):
    made = torch.from_numpy(array).to(device)
    return made.to(dtype) if made.is_floating_point() and made.dtype != dtype else made


def build(job):
    torch = prepare(job)
    mode, precision = mode_of(job), job.input.get("precision") or "fp32"
    with job.stage("parse"):
        if mode == "aotinductor":
            if precision == "int8":
                raise Failure("AOTInductor takes int8 from torchao's quantisation, which this stack does not have")
            compiler(torch)
        device = device_of(torch, job)
        net, found = restore(torch, job, job.input["model"], device, precision)
        dtype = dtype_of(torch, precision)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            if mode == "torchscript":
                if not hasattr(torch, "jit") or not hasattr(torch.jit, "trace"):
                    raise Failure("torch %s has no TorchScript" % torch.__version__)
                net = torch.jit.trace(net, example(torch, job, device, dtype))
            elif mode == "aotinductor":
                net = program(torch, job, net, example(torch, job, device, dtype))
    engine, degraded = job.path(MODES[mode]), []
    with job.stage("build"):
        if mode == "eager":
            from safetensors.torch import save_file

            if (
                precision == "int8"
            ):  # int8 weights exist only inside the quantised modules, which are made again at load
                net, _ = restore(torch, job, job.input["model"], device, "fp32")
            state = weights(net)
            save_file(state, engine)
            found["parameters"] = tally_types(state.values())
        elif mode == "torchscript":
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                torch.jit.save(torch.jit.freeze(net), engine)
        else:
            layers = graph_layers(torch, net)
            found["precision"], found["from"] = adapters.tally(layers), "graph as exported, which is compiled"
            degraded = adapters.shortfall(precision, renamed(layers), "in the exported graph")
            told = ["%s %s" % layer for layer in layers]
            compile_package(torch, net, engine, ",".join(told))
    found.update({"mode": mode, "device": str(device)})
    return {"engine": os.path.basename(engine), "found": found, "unsupported": [], "degraded": degraded}


def compiler(torch):
    """AOTInductor's C++ compiler. Raises Failure when there is none: it writes C++ even for a GPU."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
    if not any(shutil.which(name) for name in names):
        raise Failure(
            "AOTInductor compiles C++, and this environment has no compiler (%s); install g++, or choose mode eager or "
            "torchscript" % ", ".join(names),
            kind="NoCompiler",
        )  # fmt: skip
    if not hasattr(getattr(torch, "_inductor", None), "aoti_compile_and_package"):
        import torch._inductor  # older releases do not import it by themselves

        if not hasattr(torch._inductor, "aoti_compile_and_package"):
            raise Failure("torch %s has no torch._inductor.aoti_compile_and_package" % torch.__version__)


def program(torch, job, net, arguments):
    """The torch.export program, with a range for every symbol of the recipe when its shapes are dynamic."""
    recipe, dynamic = job.input["recipe"], None
    if job.input.get("shapes") == "dynamic":
        limits = recipe["dims"]["dynamic"]
        symbols = common.symbols(recipe)
        names = {name for axes in symbols.values() for name in axes.values()}
        dims = {name: torch.export.Dim(name, min=limits[name]["min"], max=limits[name]["max"]) for name in names}
        dynamic = tuple({axis: dims[name] for axis, name in symbols[item["name"]].items()} for item in recipe["inputs"])
    return torch.export.export(net, arguments, dynamic_shapes=dynamic)


def compile_package(torch, exported, path, about):
    """Compile an exported program into a .pt2 package. `about` (plain text) goes into its metadata."""
    config = {
        # Threads are those of the process that runs it, not of the one that compiled it.
        "cpp.dynamic_threads": True,
        # A process pool would outlive the job's limits.
        "compile_threads": 1,
        "cpp_cache_precompile_headers": False,
        "aot_inductor.metadata": {_KEY: about},
    }
    from torch._inductor import config as known

    config = {name: value for name, value in config.items() if has(known, name)}
    torch._inductor.aoti_compile_and_package(exported, package_path=path, inductor_configs=config)


def has(config, name):
    """Whether this release of inductor has a setting."""
    for part in name.split("."):
        if not hasattr(config, part):
            return False
        config = getattr(config, part)
    return True


def graph_layers(torch, exported):
    """[(operator, precision)] of an exported program's calls."""
    layers = []
    for node in exported.graph.nodes:
        if node.op != "call_function":
            continue
        values = [node.meta.get("val")] + [getattr(arg, "meta", {}).get("val") for arg in node.args]
        types = [str(value.dtype).split(".")[-1] for value in values if isinstance(value, torch.Tensor)]
        add_layer(layers, str(node.target), types)
    return layers


def add_layer(layers, target, types):
    """Note an operator (`aten.addmm.default`) with the narrowest floating-point type of what it takes and gives."""
    space, _, rest = target.partition(".")
    name = rest.split(".")[0]
    if _MOVES.match(name):
        return
    found = {_TYPES[item] for item in types if item in _TYPES}
    if space == "quantized" or name.startswith(("qlinear", "_weight_int8", "_int_mm")):
        found = {"int8"}
    precision = next((kind for kind in ("int8", "fp16", "bf16", "fp32", "fp64") if kind in found), None)
    if precision is not None:
        layers.append((space + "." + name, precision))


def renamed(layers):
    """The same by names that adapters.HEAVY knows."""
    return [(_HEAVY.get(name.partition(".")[2].split("_dynamic")[0], name), precision) for name, precision in layers]


def tally_types(tensors):
    """{"fp32": elements, ...} of tensors."""
    count = collections.Counter()
    for item in tensors:
        name = str(item.dtype).split(".")[-1]
        count[_TYPES.get(name, name)] += item.numel()
    return dict(sorted(count.items()))


def recorder(torch, layers, devices):
    """A context in which every operator that is dispatched is noted, with its precision and its device."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            every = out if isinstance(out, (tuple, list)) else [out]
            outs = [item for item in every if isinstance(item, torch.Tensor)]
            tensors = outs + [item for item in args if isinstance(item, torch.Tensor)]
            before = len(layers)
            add_layer(layers, str(function), [str(item.dtype).split(".")[-1] for item in tensors])
            if len(layers) > before:
                devices.update(item.device.type for item in outs)
            return out

    return Recorder()


def load(job, path):
    return Engine(job, path)


class Engine:
    def __init__(self, job, path):
        self.job = job
        self.torch = torch = prepare(job)
        self.mode, self.precision = mode_of(job), job.input.get("precision") or "fp32"
        self.device = device_of(torch, job)
        self.dtype = dtype_of(torch, self.precision)
        self.notes, self.about = {}, {}
        if self.device.type == "cuda":
            torch.cuda.init()
            torch.cuda.reset_peak_memory_stats()
        if self.mode == "eager":
            self.net, self.notes = restore(torch, job, path, self.device, self.precision)
            if self.precision != "int8":
                self.notes["parameters"] = tally_types(self.net.state_dict().values())
        elif self.mode == "torchscript":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                self.net = torch.jit.load(path, map_location=self.device)
        else:
            import torch._inductor
            from torch._inductor import config as known

            if has(known, "cpp.vec_isa_ok"):
                # Else it compiles a program (4 s of a load's 5 here), to say in a warning whether the
                # package is of this processor's vector instructions.
                known.cpp.vec_isa_ok = True
            self.net = torch._inductor.aoti_load_package(path)
            self.about = dict(self.net.get_metadata()) if hasattr(self.net, "get_metadata") else {}
        # A package has no names: outputs go by the recipe's order.
        self.wanted = [item["name"] for item in job.input["outputs"]]
        self.dtypes = [getattr(torch, item["dtype"], None) for item in job.input["outputs"]]
        self.outputs = list(self.wanted)
        self.layers, self.devices = [], set()
        # Never while timing; and what AOTInductor compiled does not go through the dispatcher.
        self.recorded = job.kind != "run" or self.mode == "aotinductor"

    def run(self, arrays):
        torch = self.torch
        tensors = [tensor(torch, array, self.device, self.dtype) for array in arrays]
        with torch.inference_mode():
            if self.recorded:
                outs = self.net(*tensors)
            else:  # one run is enough to see each operator
                self.recorded = True
                with recorder(torch, self.layers, self.devices):
                    outs = self.net(*tensors)
            outs = given.flat(outs)[1]
            if len(outs) > len(self.wanted):
                self.outputs = self.wanted + ["output_%d" % index for index in range(len(self.wanted), len(outs))]
            return [
                out.to("cpu", dtype if dtype is not None and out.is_floating_point() else out.dtype).numpy()
                for out, dtype in zip(outs, self.dtypes)
            ] + [None] * (len(self.wanted) - len(outs))

    def device_timer(self, arrays):
        """A function that runs once and gives the seconds that the GPU itself took, without copies; None on a CPU."""
        torch = self.torch
        if self.device.type != "cuda":
            return None
        tensors = [tensor(torch, array, self.device, self.dtype) for array in arrays]
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))

        def once():
            with torch.inference_mode():
                begun.record()
                self.net(*tensors)
                ended.record()
            ended.synchronize()
            return begun.elapsed_time(ended) / 1e3

        return once

    def device_memory(self):
        """Bytes that PyTorch's allocator held at most since loading; None on a CPU."""
        if self.device.type != "cuda":
            return None
        return {
            "peak": self.torch.cuda.max_memory_reserved(), "allocated": self.torch.cuda.max_memory_allocated(),
            "from": "torch.cuda.max_memory_reserved",
        }  # fmt: skip

    def proof(self):
        torch = self.torch
        layers, how = self.layers, "by the operators that were dispatched"
        found = dict(self.notes, mode=self.mode, device=str(self.device))
        if self.mode == "aotinductor":
            layers = [tuple(item.split(" ")) for item in self.about.get(_KEY, "").split(",") if item]
            how = "by the exported graph that was compiled"
            found["package"] = {name: text for name, text in sorted(self.about.items()) if name != _KEY and text}
        found.update({"precision": adapters.tally(layers), "from": how, "tf32": tf32(torch, self.device)})
        degraded = adapters.shortfall(self.precision, renamed(layers), how)
        if self.precision == "fp32" and any(found["tf32"].values()):
            names = ", ".join(name for name, on in sorted(found["tf32"].items()) if on)
            degraded.append({"asked": "fp32", "got": "tf32", "how": "TF32 is on for %s" % names})
        told = self.about.get("AOTI_DEVICE_KEY")
        other = sorted((self.devices | ({told} if told else set())) - {self.device.type})
        if other:
            degraded.append({"asked": str(self.device), "got": ", ".join(other), "how": "by the operators' outputs"})
        return {"found": found, "degraded": degraded}


def tf32(torch, device):
    """Which libraries may answer FP32 in TF32: {} on a CPU."""
    if device.type != "cuda":
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"matmul": torch.backends.cuda.matmul.allow_tf32, "cudnn": torch.backends.cudnn.allow_tf32}
