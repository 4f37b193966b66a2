"""A TensorFlow model as a .tflite file, by tf.lite.TFLiteConverter, in the precision asked for.

https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/post_training_quantization: fp16 keeps the weights in
half precision; int8 is full integer, inputs and outputs too, from a representative data set; int8 of `quantization`
mode `dynamic` has 8-bit weights alone, without data.
"""

import os


def write(job, tensorflow, kind, path, outputs, ends=((), ()), notes=()):
    """Convert a SavedModel's folder (`kind` saved-model) or a frozen graph's file, and give the `export` result with
    `model.tflite`. `outputs` names a signature's outputs in the recipe's order; `ends` are a frozen graph's placeholders
    and sinks. Raises what the converter raises; ValueError for int8 without data."""
    precision = job.input.get("precision") or "fp32"
    lite, notes = tensorflow.lite, list(notes)

    def converter():
        if kind == "saved-model":
            return lite.TFLiteConverter.from_saved_model(path, signature_keys=["serving_default"])
        # The converter of frozen graphs wants names of nodes, not of tensors.
        nodes = [[name.split(":")[0] for name in group] for group in ends]
        return tensorflow.compat.v1.lite.TFLiteConverter.from_frozen_graph(path, *nodes)

    made = converter()
    if precision == "fp16":
        made.optimizations = [lite.Optimize.DEFAULT]
        made.target_spec.supported_types = [tensorflow.float16]
        data = made.convert()
        notes.append("weights in float16")
    elif precision == "int8":
        data = _int8(job, tensorflow, converter, notes)
    elif precision == "fp32":
        data = made.convert()
    else:
        raise ValueError("precision is %r; a .tflite file can be fp32, fp16 or int8" % precision)
    with open(os.path.join(job.dir, "model.tflite"), "wb") as file:
        file.write(data)
    told = "tensorflow %s, TFLiteConverter (%s, %s)" % (tensorflow.__version__, kind, precision)
    return describe(data, job.input["recipe"], told, notes, outputs)


def _int8(job, tensorflow, converter, notes):
    lite = tensorflow.lite
    mode = (job.input.get("quantization") or {}).get("mode", "static")
    if mode not in ("static", "dynamic"):
        raise ValueError("quantization is %r; TensorFlow's converter does static and dynamic" % mode)
    if mode == "dynamic":
        notes.append("8-bit weights alone (dynamic range); no data was needed")
        made = converter()
        made.optimizations = [lite.Optimize.DEFAULT]
        return made.convert()
    paths = job.input.get("calibration")
    if not paths:
        raise ValueError("full-integer int8 needs a representative data set; the recipe gives none")

    def samples():
        import numpy

        for path in paths:
            with numpy.load(path, allow_pickle=False) as arrays:
                yield [arrays["input_%d" % index] for index in range(len(job.input["recipe"]["inputs"]))]

    def full(strict):
        made = converter()
        made.optimizations = [lite.Optimize.DEFAULT]
        made.representative_dataset = samples
        made.inference_input_type = made.inference_output_type = tensorflow.int8
        kinds = [lite.OpsSet.TFLITE_BUILTINS_INT8]
        made.target_spec.supported_ops = kinds if strict else kinds + [lite.OpsSet.TFLITE_BUILTINS]
        return made.convert()

    notes.append("full integer, %d calibration samples" % len(paths))
    try:
        return full(True)
    except Exception as error:  # its own class differs by release: ConverterError, RuntimeError, ValueError
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        notes.append("not every operator has an integer kernel (%s); those stay in floating point" % lines[0][:300])
        return full(False)


def describe(data, recipe, exporter, notes, outputs):
    """What a .tflite file says of itself, from its flatbuffer: operators of its first subgraph, inputs and outputs (in the
    recipe's order, by the names of its signature where it has one: `outputs` are those of its outputs)."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
    graph = model.subgraphs[0]
    builtin = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    types = {value: name.lower() for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
    operators = {}
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        # Codes above 127 are in the newer of two fields; the older then has its largest value.
        name = builtin.get(max(code.builtinCode, code.deprecatedBuiltinCode), "unknown")
        name = _text(code.customCode) if name == "CUSTOM" else name
        operators[name] = operators.get(name, 0) + 1

    def value(index):
        tensor = graph.tensors[index]
        shape = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
        shape = [None if size < 0 else int(size) for size in (shape if shape is not None else [])]
        return {"name": _text(tensor.name), "dtype": types[tensor.type], "shape": shape}

    ins, outs = list(graph.inputs), list(graph.outputs)
    names = [item["name"] for item in recipe["inputs"]]
    signature = model.signatureDefs[0] if model.signatureDefs else None
    if signature is not None:
        by_name = {_text(item.name): item.tensorIndex for item in signature.inputs}
        if set(by_name) != set(names):
            raise ValueError("the file has inputs %s; the recipe has %s" % (sorted(by_name), names))
        ins = [by_name[name] for name in names]
        results = {_text(item.name): item.tensorIndex for item in signature.outputs}
        outs = [results[name] for name in outputs]
    elif len(ins) > 1:
        found = {value(index)["name"].split(":")[0]: index for index in ins}
        if not set(names) <= set(found):
            raise ValueError("cannot tell which input is which of the recipe's: %s" % sorted(found))
        ins = [found[name] for name in names]
    return {
        "model": "model.tflite",
        "opset": None,
        "ir": None,
        "nodes": len(graph.operators),
        "operators": dict(sorted(operators.items())),
        "inputs": [value(index) for index in ins],
        "outputs": [value(index) for index in outs],
        "exporter": exporter,
        "notes": notes,
    }


def _text(value):
    return value.decode() if isinstance(value, bytes) else value
