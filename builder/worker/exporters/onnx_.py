"""A model that is ONNX already: given weights, a batch size and the asked opset.

A recipe's script defines `model(recipe, source) -> onnx.ModelProto` with the recipe's input names; `inputs` as for
torch. Without one, the source is the model (`given.onnx_model`), and its inputs are held to the recipe's shapes; weights
that lie beside the file there lie beside the exported one too.
The opset is moved by `onnx.version_converter`. The IR version stays what the source says, as that converter leaves it:
a file whose IR is too new or older than its opset is a thing that users meet, so it is not tidied up here.
"""

import os

from worker.exporters import common, given


def _load(job):
    import onnx

    with job.stage("obtain"):
        module = common.script(job, given.onnx_model)
        return onnx, module, common.model(job, module)


def _shaped(job, module, model):
    """The model in the shapes that are asked for; notes."""
    option = job.input["options"].get("shapes", "static")
    if getattr(module, "GIVEN", False):
        return given.shape(model, job.input["recipe"], option)
    if option == "dynamic":
        symbolic(model, job.input["recipe"])
    return []


def reference(job):
    """FP32 in ONNX Runtime on the CPU at the model's own opset; the noise floor is the same without optimisations."""
    onnx, module, model = _load(job)
    import onnxruntime

    _shaped(job, module, model)
    if common.size_of(model) > common.LARGE:
        common.save_model(model, job.dir, "reference.onnx")
        data = os.path.join(job.dir, "reference.onnx")
    else:
        data = model.SerializeToString()

    def session(level):
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.graph_optimization_level = level
        return onnxruntime.InferenceSession(data, settings, providers=["CPUExecutionProvider"])

    levels = onnxruntime.GraphOptimizationLevel
    with job.stage("export"):
        optimised, plain = session(levels.ORT_ENABLE_ALL), session(levels.ORT_DISABLE_ALL)
        names = [item["name"] for item in job.input["recipe"]["inputs"]]
        method = "onnxruntime %s without optimisations" % onnxruntime.__version__

        def run(which):
            return lambda arrays: which.run(None, dict(zip(names, arrays)))

        outputs = [item.name for item in optimised.get_outputs()]
        return common.make_reference(job, module, run(optimised), run(plain), method, outputs)


def export(job):
    onnx, module, model = _load(job)
    from onnx import version_converter

    options = job.input["options"]
    with job.stage("export"):
        external = False
        if getattr(module, "GIVEN", False) and not given.is_callable(job.input["recipe"]):
            external = common.has_external_data(given.path(job.input["recipe"], job.input.get("source")))
        notes = _shaped(job, module, model)
        was = {item.domain: item.version for item in model.opset_import}[""]
        asked = int(options["opset"])
        if asked != was:
            with given.without_weights(model) as back:
                model = back(version_converter.convert_version(model, asked))
        notes = ["opset moved from %d; IR version %d kept" % (was, model.ir_version)] + notes
        return common.write(job, model, "onnx %s (version_converter)" % onnx.__version__, notes, external)


def symbolic(model, recipe):
    """Make the leading dimension of inputs and outputs the recipe's symbol, in place.

    A Reshape to a constant shape whose first entry is the old batch size gets 0 there, which copies the input's
    dimension (ONNX operator Reshape, https://onnx.ai/onnx/operators/onnx__Reshape.html).
    """
    from onnx import numpy_helper

    names = {item["name"]: item["shape"] for item in recipe["inputs"]}
    symbol = recipe["inputs"][0]["shape"][0]
    if not isinstance(symbol, str):
        raise ValueError("the first dimension of input %s is not a symbol" % recipe["inputs"][0]["name"])
    batch = recipe["dims"]["static"][symbol]
    graph = model.graph
    for item in list(graph.input) + list(graph.output):
        if item.name in names or item in graph.output:
            item.type.tensor_type.shape.dim[0].dim_param = symbol
    targets = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    for index, item in enumerate(graph.initializer):
        if item.name in targets:
            shape = numpy_helper.to_array(item).copy()
            if shape.size and shape[0] == batch:
                shape[0] = 0
                graph.initializer[index].CopyFrom(numpy_helper.from_array(shape, item.name))
    del graph.value_info[:]
    return model
