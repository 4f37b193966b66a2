"""What the exporters share: a recipe's script, shapes and inputs, reference cases, facts of an ONNX file."""

import collections
import contextlib
import importlib.util
import os
import sys

#: Bytes of weights from which on they are written beside the graph: protobuf ends at 2 GiB
#: (https://protobuf.dev/programming-guides/proto-limits/), and the graph needs room too.
LARGE = 1900 * 1000 * 1000


def script(job, given):
    """The recipe's script as a module, `given` (model(recipe, source)) in the place of what it does not define: a recipe whose
    source is the model needs no script, or one with `inputs` alone. Raises what the script raises at import."""
    from worker.exporters import given as givens

    name = job.input["recipe"].get("script")
    folder = job.input["recipe_dir"]
    if folder not in sys.path:
        sys.path.append(folder)  # modules beside the recipe; last, so that they shadow nothing
    sys.dont_write_bytecode = True  # the recipe's folder is its writer's
    if name is None:
        return givens.module(given)
    spec = importlib.util.spec_from_file_location("recipe_script", os.path.join(folder, name))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "model"):
        module.model, module.GIVEN = given, True
    return module


def model(job, module):
    """What the script's `model` gives, with unpickling forbidden: a pickle can run any code. Raises Pickled for one, and
    what the script raises."""
    with _unpickling_forbidden():
        return module.model(job.input["recipe"], job.input.get("source"))


class Pickled(Exception):  # noqa: N818
    """A model wanted to load a pickle."""


_forbidden = []


@contextlib.contextmanager
def _unpickling_forbidden():
    """The audit event of `pickle.Unpickler.find_class` (Python 3.8 and newer; before that nothing is held back):
    https://docs.python.org/3/library/audit_events.html. torch.load(weights_only=True) and safetensors do not raise it."""
    hook = getattr(sys, "addaudithook", None)
    if hook is not None and not _forbidden:
        hook(_audit)
    _forbidden.append(True)
    try:
        yield
    finally:
        _forbidden[-1] = False


def _audit(event, arguments):
    if event == "pickle.find_class" and _forbidden[-1]:
        raise Pickled(
            "the model is loaded from a pickle that asks for %s.%s: a pickle can run any code, so none is loaded; convert the "
            "weights to .safetensors, or read them with worker.exporters.weights.load" % tuple(arguments[:2])
        )


def shapes(recipe, option, point):
    """input name -> shape (list of int). `option` is static or dynamic; `point` is min, opt or max of a dynamic one."""
    dims = recipe["dims"][option]
    sizes = {name: size[point] if isinstance(size, dict) else size for name, size in dims.items()}
    return {
        item["name"]: [sizes[dim] if isinstance(dim, str) else dim for dim in item["shape"]]
        for item in recipe["inputs"]
    }


def symbols(recipe):
    """input name -> {axis: symbol} of the dimensions that are symbols in the recipe."""
    return {
        item["name"]: {axis: dim for axis, dim in enumerate(item["shape"]) if isinstance(dim, str)}
        for item in recipe["inputs"]
    }


def points(recipe, option):
    """The reference cases (label, point, seed): static, one per seed; dynamic, all at opt, the first at min and max."""
    seeds = recipe["seeds"]
    if option == "static":
        return [("static" if seed == seeds[0] else "static.%d" % seed, "opt", seed) for seed in seeds]
    cases = [("min", "min", seeds[0])]
    cases += [("opt" if seed == seeds[0] else "opt.%d" % seed, "opt", seed) for seed in seeds]
    return cases + [("max", "max", seeds[0])]


def inputs(module, job, shape, seed):
    """Arrays in the recipe's order, of its dtypes: the script's `inputs`, or uniform in the declared range, seeded."""
    import numpy

    recipe = job.input["recipe"]
    if hasattr(module, "inputs"):
        arrays = module.inputs(recipe, job.input.get("source"), shape, seed)
    else:
        arrays = []
        for index, item in enumerate(recipe["inputs"]):
            random = numpy.random.RandomState([seed, index])
            low, high = item.get("range", [-1, 1])
            if item["dtype"].startswith(("int", "uint", "bool")):
                array = random.randint(low, high + 1, size=shape[item["name"]])
            else:
                array = random.uniform(low, high, size=shape[item["name"]])
            arrays.append(array)
    out = []
    for item, array in zip(recipe["inputs"], arrays):
        if list(array.shape) != list(shape[item["name"]]):
            raise ValueError(
                "the recipe made input %s of shape %s, not %s" % (item["name"], array.shape, shape[item["name"]])
            )
        out.append(numpy.ascontiguousarray(array, dtype=item["dtype"]))
    return out


def save(path, ins, outs=()):
    """Write positional arrays `input_0`... and `output_0`... as one .npz file."""
    import numpy

    arrays = {"input_%d" % index: array for index, array in enumerate(ins)}
    arrays.update({"output_%d" % index: array for index, array in enumerate(outs)})
    numpy.savez(path, **arrays)


def make_reference(job, module, run, again, method, outputs):
    """The `reference` result: cases, calibration inputs and the noise floor.

    `run(arrays)` gives the FP32 outputs (list of arrays) for the inputs; `again(arrays)` the same model computed the
    way that `method` (text) names. Raises ValueError when the reference is not finite: nothing could be told from it.
    """
    import numpy

    recipe = job.input["recipe"]
    option = job.input["options"].get("shapes", "static")
    cases, noise = [], []
    for number, (label, point, seed) in enumerate(points(recipe, option)):
        shape = shapes(recipe, option, point)
        ins = inputs(module, job, shape, seed)
        outs = [numpy.asarray(array) for array in run(ins)]
        for name, array in zip(outputs, outs):
            if array.dtype.kind == "f" and not numpy.isfinite(array).all():
                raise ValueError("the reference output %s of case %s is not finite" % (name, label))
        name = "case-%d.npz" % number
        save(os.path.join(job.dir, name), ins, outs)
        cases.append({"file": name, "label": label, "seed": seed, "shapes": [list(array.shape) for array in ins]})
        for name, first, second in zip(outputs, outs, again(ins)):
            entry = {"case": label, "name": name}
            entry.update(difference(first, second))
            noise.append(entry)
    from worker.exporters import dataset

    samples, origin = dataset.samples(module, job, shapes(recipe, option, "opt"))
    calibration = ["calibration-%d.npz" % number for number in range(len(samples))]
    for name, ins in zip(calibration, samples):
        save(os.path.join(job.dir, name), ins)
    return {
        "cases": cases,
        "calibration": calibration,
        "calibration_from": origin,
        "inputs": [item["name"] for item in recipe["inputs"]],
        "outputs": list(outputs),
        "noise": {"method": method, "outputs": noise},
    }


def difference(first, second):
    """Largest absolute and relative difference; relative to |first| or a thousandth of its largest, if that is more."""
    import numpy

    first = numpy.asarray(first, dtype="float64")
    second = numpy.asarray(second, dtype="float64")
    gap = numpy.abs(first - second)
    floor = max(float(numpy.abs(first).max()) * 1e-3, 1e-30)
    return {
        "max_abs": float(gap.max()),
        "max_rel": float((gap / numpy.maximum(numpy.abs(first), floor)).max()),
        "scale": float(numpy.abs(first).max()),
    }


def strip(model):
    """Take out of an ONNX model what tells of the machine or the moment (source paths, stack traces), in place.

    Computation, names and the producer's version stay. What is removed: documentation strings and metadata properties
    of the model, its graphs, functions, nodes and values.
    """
    model.doc_string = ""
    del model.metadata_props[:]
    for function in model.functions:
        function.doc_string = ""
        _strip_nodes(function)
    _strip_graph(model.graph)
    return model


def _clear(item):
    item.doc_string = ""
    if hasattr(item, "metadata_props"):  # from IR 10
        del item.metadata_props[:]


def _strip_graph(graph):
    _clear(graph)
    for group in (graph.input, graph.output, graph.value_info, graph.initializer):
        for item in group:
            _clear(item)
    _strip_nodes(graph)


def _strip_nodes(owner):
    for node in owner.node:
        _clear(node)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _strip_graph(attribute.g)
            for graph in attribute.graphs:
                _strip_graph(graph)


def size_of(model):
    """Bytes of an ONNX model's weights (initializers); what stands in attributes is small."""
    return sum(
        len(item.raw_data) or 4 * (len(item.float_data) + len(item.int32_data)) for item in model.graph.initializer
    )


def has_external_data(path):
    """Whether an ONNX file keeps weights in other files."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    return any(item.data_location == onnx.TensorProto.EXTERNAL for item in graph.initializer)


def save_model(model, folder, name, external=False):
    """Write a model, with its weights inside or, if `external` or they are LARGE, beside it; the names of the files beside it.
    The same model gives the same bytes."""
    from onnx import external_data_helper

    beside = []
    if external or size_of(model) > LARGE:
        data = os.path.splitext(name)[0] + ".onnx.data"
        if os.path.exists(os.path.join(folder, data)):
            os.remove(os.path.join(folder, data))  # its writer appends
        external_data_helper.convert_model_to_external_data(model, location=data, size_threshold=1024)
        external_data_helper.write_external_data_tensors(model, folder)
        if os.path.exists(os.path.join(folder, data)):
            beside.append(data)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(model.SerializeToString(deterministic=True))
    return beside


def write(job, model, exporter, notes=(), external=False):
    """Strip an ONNX model, write it as `model.onnx`, weights inside (`external`, or too large: beside it, in `model.onnx.data`),
    and give the `export` result.

    A file that `onnx.checker` refuses is written all the same, with a note: what an engine says of it is the outcome.
    Raises ValueError when the model's inputs are not the recipe's.
    """
    import onnx

    path = os.path.join(job.dir, "model.onnx")
    beside = save_model(strip(model), job.dir, "model.onnx", external)
    notes = list(notes)
    try:
        onnx.checker.check_model(path)
    except onnx.checker.ValidationError as error:
        notes.append("onnx.checker refuses the file: " + (str(error).strip().splitlines() or ["no reason given"])[0])
    return dict(describe(path, job.input.get("recipe"), exporter, notes), data=beside)


def describe(path, recipe, exporter, notes=()):
    """What an ONNX file says of itself: opset, IR, nodes, operators, inputs and outputs; read back from the file."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    weights = {item.name for item in graph.initializer} | {item.values.name for item in graph.sparse_initializer}
    ins = in_recipe_order([_value(item) for item in graph.input if item.name not in weights], recipe)
    opsets = {item.domain or "ai.onnx": item.version for item in model.opset_import}
    return {
        "model": os.path.basename(path),
        "opset": opsets.get("ai.onnx"),
        "opsets": opsets,
        "ir": model.ir_version,
        "nodes": len(graph.node),
        "operators": dict(
            sorted(
                collections.Counter(
                    node.op_type if node.domain in ("", "ai.onnx") else node.domain + "." + node.op_type
                    for node in graph.node
                ).items()
            )
        ),
        "inputs": ins,
        "outputs": [_value(item) for item in graph.output],
        "exporter": exporter,
        "notes": list(notes),
    }


def _value(item):
    import onnx

    tensor = item.type.tensor_type
    shape = []
    for dim in tensor.shape.dim:
        shape.append(dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None))
    return {"name": item.name, "dtype": _DTYPES[onnx.TensorProto.DataType.Name(tensor.elem_type)], "shape": shape}


_DTYPES = {
    "FLOAT": "float32", "FLOAT16": "float16", "DOUBLE": "float64", "BFLOAT16": "bfloat16", "BOOL": "bool",
    "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
}  # fmt: skip


def in_recipe_order(found, recipe):
    """The exported inputs in the recipe's order: by name, by name before a colon, or the only one there is."""
    if not recipe:
        return found
    wanted = [item["name"] for item in recipe["inputs"]]
    if len(wanted) != len(found):
        names = ", ".join(item["name"] for item in found)
        raise ValueError("the exported model has inputs %s; the recipe has %s" % (names or "none", ", ".join(wanted)))
    if len(wanted) == 1:
        return found
    by_name = {item["name"].split(":")[0]: item for item in found}
    if set(by_name) != set(wanted):
        raise ValueError("cannot tell which exported input is which of the recipe's: %s" % ", ".join(sorted(by_name)))
    return [by_name[name] for name in wanted]
