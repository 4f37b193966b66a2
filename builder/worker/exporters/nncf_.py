"""INT8 Q/DQ in the ONNX file, by the Neural Network Compression Framework: post-training quantization with its own statistics
and bias correction (https://docs.openvino.ai/2025/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html).
"""


def convert(job):
    """As `convert` of the tools, for int8 alone. Raises ValueError without samples."""
    import nncf
    import onnx

    from worker.exporters import common
    from worker.exporters.tools_quantize import Samples

    if job.input["precision"] != "int8":
        raise ValueError("precision is %r; NNCF makes int8" % job.input["precision"])
    samples = job.input.get("calibration")
    if not samples:
        raise ValueError("int8 needs calibration samples; the recipe gives none")
    with job.stage("export"):
        external = common.has_external_data(job.input["model"])
        model = onnx.load(job.input["model"])
        name = model.graph.name
        feeds = list(Samples(samples, [item["name"] for item in job.input["inputs"]]))
        kind = nncf.ModelType.TRANSFORMER if _attends(model) else None
        made = nncf.quantize(model, nncf.Dataset(feeds), subset_size=len(feeds), model_type=kind)
        made.graph.name = name
        notes = ["Q/DQ by NNCF%s, %d calibration samples" % (", as a transformer" if kind else "", len(feeds))]
        told = "nncf %s (int8)" % nncf.__version__
        return common.write(job, made, told, notes, external)


def _attends(model):
    """Whether it has attention: two MatMul without a weight among their operands, with a Softmax between. NNCF then leaves in
    floating point what 8 bits would ruin (`ModelType.TRANSFORMER`)."""
    constant = {item.name for item in model.graph.initializer}
    constant |= {node.output[0] for node in model.graph.node if node.op_type in ("Constant", "DequantizeLinear")}
    free = [
        node
        for node in model.graph.node
        if node.op_type == "MatMul" and not any(edge in constant for edge in node.input)
    ]
    return len(free) >= 2 and any(node.op_type == "Softmax" for node in model.graph.node)
