"""Export from Keras and TensorFlow through tf2onnx, by way of a SavedModel or of a frozen graph.

A recipe's script defines `model(recipe, source) -> keras model` (weights set; Keras 2 with TensorFlow up to 2.15,
Keras 3 after); `inputs` as for torch. Option `saved-as`: `saved-model` or `frozen-graph`. The names of inputs and
outputs are found, not asked: from the signature of a SavedModel, from the placeholders and the sinks of a frozen graph.

tf2onnx is driven through its documented command line (`python -m tf2onnx.convert`), in this process, so that
TensorFlow is not imported a second time.
"""

import os
import re
import sys

from worker.exporters import common, tensorflow_given, tflite


def _load(job):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow

    with job.stage("obtain"):
        module = common.script(job, tensorflow_given.model)
        return tensorflow, module, common.model(job, module)


def reference(job):
    """FP32 in Keras on the CPU, one thread; the noise floor is the same model with its layers in float64."""
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # its own sums differ from processor to processor
    tensorflow, module, model = _load(job)
    if isinstance(model, tensorflow_given.Graph):
        with job.stage("export"):
            return tensorflow_given.reference(job, tensorflow, module, model)
    keras = tensorflow.keras

    def run(which):
        def call(arrays):
            out = which(arrays[0] if len(arrays) == 1 else arrays, training=False)
            return [tensor.numpy() for tensor in (out if isinstance(out, (list, tuple)) else [out])]

        return call

    with job.stage("export"):
        _floats(keras, "float64")
        double = common.model(job, module)
        double.set_weights(model.get_weights())
        _floats(keras, "float32")
        if any(weight.dtype != "float64" for weight in double.get_weights()):
            raise ValueError("the model was not built in float64; there would be no noise floor to see")
        wide = run(double)
        return common.make_reference(
            job, module, run(model), lambda arrays: wide([array.astype("float64") for array in arrays]),
            "keras float64", list(model.output_names),
        )  # fmt: skip


def _floats(keras, name):
    if hasattr(keras, "config"):  # Keras 3 remembers its policy apart from floatx
        keras.config.set_dtype_policy(name)
    keras.backend.set_floatx(name)


def export(job):
    """The model as ONNX through tf2onnx; as a .tflite file, in the precision asked for, where the job `takes` that."""
    tensorflow, module, model = _load(job)
    lite = job.input.get("takes") == "tflite"
    recipe, options = job.input["recipe"], job.input["options"]
    how = options.get("saved-as", "saved-model")
    if isinstance(model, tensorflow_given.Graph):
        return _given(job, tensorflow, model, lite)
    specs = _specs(tensorflow, recipe, options.get("shapes", "static"))
    with job.stage("export"):
        if how == "saved-model":
            folder = os.path.join(job.dir, "saved-model")
            _save(tensorflow, model, folder, specs)
            if lite:
                return tflite.write(job, tensorflow, how, folder, list(model.output_names))
            arguments = ["--saved-model", folder, "--tag", "serve", "--signature_def", "serving_default"]
            notes = ["signature serving_default"]
        elif how == "frozen-graph":
            folder = os.path.join(job.dir, "frozen.pb")
            graph = _freeze(tensorflow, model, folder, specs)
            placeholders, sinks = ends(graph)
            if len(placeholders) != len(recipe["inputs"]):
                raise ValueError("the frozen graph has inputs %s" % placeholders)
            if lite:
                return tflite.write(job, tensorflow, how, folder, list(model.output_names), (placeholders, sinks))
            arguments = ["--graphdef", folder, "--inputs", ",".join(placeholders), "--outputs", ",".join(sinks)]
            if len(placeholders) == 1:
                arguments += ["--rename-inputs", recipe["inputs"][0]["name"]]
            notes = ["found inputs %s and outputs %s" % (", ".join(placeholders), ", ".join(sinks))]
        else:
            raise ValueError("saved-as is %r; it can be saved-model or frozen-graph" % how)
        import onnx
        import tf2onnx

        asked, path = int(options["opset"]), os.path.join(job.dir, "exported.onnx")
        _tf2onnx(arguments + ["--opset", str(asked), "--output", path])
        proto = onnx.load(path)
        proto.graph.name = recipe["recipe"]  # tf2onnx writes the path of its input there
        _dimensions(proto.graph, recipe)
        _number(proto.graph)
        os.remove(path)
        told = "tensorflow %s, tf2onnx %s (%s)" % (tensorflow.__version__, tf2onnx.__version__, how)
        return common.write(job, proto, told, notes)


def _given(job, tensorflow, graph, lite):
    """Export what was given, as it was given."""
    recipe, options = job.input["recipe"], job.input["options"]
    how = "saved-model" if graph.saved else "frozen-graph"
    with job.stage("export"):
        _, outputs = graph.function(tensorflow)
        if lite:
            ends_ = ((), ()) if graph.saved else graph.ends(graph.graph_def(tensorflow))
            return tflite.write(job, tensorflow, how, graph.path, outputs, ends_, ["as it was given"])
        import onnx
        import tf2onnx

        path = os.path.join(job.dir, "exported.onnx")
        _tf2onnx(graph.arguments(tensorflow) + ["--opset", options["opset"], "--output", path])
        proto = onnx.load(path)
        os.remove(path)
        proto.graph.name = recipe["recipe"]
        notes = tensorflow_given.fit(proto, recipe, outputs, options.get("shapes", "static"))
        _number(proto.graph)
        told = "tensorflow %s, tf2onnx %s (%s)" % (tensorflow.__version__, tf2onnx.__version__, how)
        return common.write(job, proto, told, ["as it was given"] + notes)


def _specs(tensorflow, recipe, option):
    sizes = common.shapes(recipe, option, "opt")
    specs = []
    for item in recipe["inputs"]:
        shape = list(sizes[item["name"]])
        if option == "dynamic":
            shape = [None if isinstance(dim, str) else dim for dim in item["shape"]]
        specs.append(tensorflow.TensorSpec(shape, item["dtype"], name=item["name"]))
    return specs


def _save(tensorflow, model, folder, specs):
    """A SavedModel whose only signature has the given shapes, by Keras 3's ExportArchive or tf.saved_model."""
    keras = tensorflow.keras
    if not hasattr(keras, "ops"):  # Keras 2
        call = tensorflow.function(lambda *tensors: _named(model, tensors), input_signature=specs)
        tensorflow.saved_model.save(model, folder, signatures={"serving_default": call.get_concrete_function()})
        return
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", lambda *tensors: _named(model, tensors), input_signature=specs)
    archive.write_out(folder, verbose=False)


def _named(model, tensors):
    out = model(tensors[0] if len(tensors) == 1 else list(tensors), training=False)
    return dict(zip(model.output_names, out if isinstance(out, (list, tuple)) else [out]))


def _freeze(tensorflow, model, path, specs):
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    call = tensorflow.function(
        lambda *tensors: model(tensors[0] if len(tensors) == 1 else list(tensors), training=False)
    )
    frozen = convert_variables_to_constants_v2(call.get_concrete_function(*specs))
    graph = frozen.graph.as_graph_def()
    with open(path, "wb") as file:
        file.write(graph.SerializeToString(deterministic=True))
    return graph


def ends(graph):
    """(inputs, outputs) of a frozen GraphDef, as tensor names: its placeholders, and the nodes that nothing reads."""
    read = set()
    for node in graph.node:
        for edge in node.input:
            read.add(edge.lstrip("^").split(":")[0])
    inputs = [node.name + ":0" for node in graph.node if node.op == "Placeholder"]
    idle = ("Placeholder", "Const", "NoOp", "Assert")
    outputs = [node.name + ":0" for node in graph.node if node.name not in read and node.op not in idle]
    return inputs, outputs


def _dimensions(graph, recipe):
    """tf2onnx numbers the dimensions it does not know (`unk__336`): give inputs the recipe's symbols."""
    symbols = common.symbols(recipe)
    for item in list(graph.input) + list(graph.output) + list(graph.value_info):
        for axis, dim in enumerate(item.type.tensor_type.shape.dim):
            if dim.dim_param.startswith("unk__"):
                symbol = symbols.get(item.name.split(":")[0], {}).get(axis)
                if symbol:
                    dim.dim_param = symbol
                else:
                    dim.ClearField("dim_param")


_NUMBERED = re.compile(r".*__\d+(:\d+)?")


def _number(graph):
    """Number tf2onnx's own names (`const_fold_opt__403`) by their first use, and order initializers by name.

    It walks sets of names, so numbers, order, and which of several equal constants lends its name follow Python's hash
    seed and differ from process to process. Graphs with subgraphs stay as they are: names are visible across borders.
    """
    for node in graph.node:
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            return
    kept = {item.name for item in list(graph.input) + list(graph.output)}
    new = {}

    def renamed(name):
        found = _NUMBERED.fullmatch(name)
        if not found or name in kept:
            return name
        # The whole name, tensor index and all, is one entry: no two names can become the same.
        return new.setdefault(name, "tf2onnx__%d%s" % (len(new), found.group(1) or ""))

    for node in graph.node:
        node.input[:] = [renamed(edge) for edge in node.input]
        node.output[:] = [renamed(edge) for edge in node.output]
        node.name = renamed(node.name)
    for group in (graph.initializer, graph.value_info):
        for item in group:
            item.name = renamed(item.name)
        group.sort(key=lambda item: item.name)


def _tf2onnx(arguments):
    """Run tf2onnx's command line here. Raises RuntimeError when it ends the process with another code than 0."""
    from tf2onnx import convert

    before = sys.argv
    sys.argv = ["tf2onnx.convert"] + arguments
    try:
        convert.main()
    except SystemExit as end:
        if end.code not in (None, 0):
            raise RuntimeError("tf2onnx.convert ended with %s" % end.code)
    finally:
        sys.argv = before
