"""Another precision in the ONNX file itself, for engines that take precision from the graph.

fp16: `onnxruntime.transformers.float16`, float32 kept at inputs and outputs. int8: tools_quantize.py.
"""

import os

from worker.exporters import common, tools_quantize

calibrate = tools_quantize.calibrate


def convert(job):
    import onnx
    import onnxruntime

    precision = job.input["precision"]
    path = os.path.join(job.dir, "model.onnx")
    with job.stage("export"):
        external = common.has_external_data(job.input["model"])
        if precision == "fp16":
            model, notes = _fp16(onnx, job.input["model"])
        elif precision == "int8":
            before = set(os.listdir(job.dir))
            notes = tools_quantize.int8(job, path, external)
            model = onnx.load(path)
            for name in set(os.listdir(job.dir)) - before:  # what it left beside
                os.remove(os.path.join(job.dir, name))
        else:
            raise ValueError("precision is %r; it can be fp16 or int8" % precision)
        _tidy(model)
        model.graph.name = onnx.load(job.input["model"], load_external_data=False).graph.name
        told = "onnxruntime %s (%s)" % (onnxruntime.__version__, precision)
        return common.write(job, model, told, notes, external)


def _fp16(onnx, source):
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = convert_float_to_float16(onnx.load(source), keep_io_types=True)
    # It appends the casts of the inputs behind the nodes that read them; ONNX wants nodes in topological order, and
    # OpenVINO 2026.0 refuses a file that is not ("Input tensor isn't found for node graph_input_cast_0").
    OnnxModel(model).topological_sort()
    if common.size_of(model) < common.LARGE:  # the checker works through protobuf's 2 GiB; `write` checks the file
        onnx.checker.check_model(model)
    return model, ["inputs and outputs stay float32"]


def _tidy(model):
    """Drop the operator sets that no node uses: ONNX Runtime adds all of its own, which other engines may not know."""
    used = {node.domain or "" for node in model.graph.node} | {""}
    for function in model.functions:
        used |= {node.domain or "" for node in function.node}
    kept = [item for item in model.opset_import if (item.domain or "") in used or item.domain == "ai.onnx"]
    del model.opset_import[:]
    model.opset_import.extend(kept)
