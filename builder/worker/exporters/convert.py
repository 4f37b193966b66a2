"""Another precision in the ONNX file itself, for engines that take precision from the graph.

fp16: `onnxruntime.transformers.float16`, float32 kept at inputs and outputs. int8: `onnxruntime.quantization`, static,
Q/DQ, per channel, after its own pre-processing
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
"""

import os

from worker.exporters import common

#: What is worth quantising computes with weights (of MatMul only those whose second operand is constant). All
#: operators at once (ONNX Runtime's default) ruins attention, whose mask of -10000 takes the whole 8-bit range: the
#: cosine of MiniLM's embeddings then falls to 0.3.
QUANTISED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


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
            model, notes = _int8(job, onnx, path, external)
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


class _Samples:
    """Feeds calibration files, in order, to the quantiser; it asks `get_next()` until it gets None."""

    def __init__(self, paths, names):
        self.paths = list(paths)
        self.names = names
        self.rewind()

    def rewind(self):
        self.place = 0

    def __len__(self):
        return len(self.paths)

    def set_range(self, start_index, end_index):
        self.place = start_index

    def __iter__(self):
        return self

    def __next__(self):
        feed = self.get_next()
        if feed is None:
            raise StopIteration
        return feed

    def get_next(self):
        import numpy

        if self.place >= len(self.paths):
            return None
        with numpy.load(self.paths[self.place]) as arrays:
            feed = {name: arrays["input_%d" % index] for index, name in enumerate(self.names)}
        self.place += 1
        return feed


def _int8(job, onnx, path, external):
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if not job.input.get("calibration"):
        raise ValueError("int8 needs calibration samples; the recipe gives none")
    ready = os.path.join(job.dir, "ready.onnx")
    notes = []
    beside = {"save_as_external_data": True, "all_tensors_to_one_file": True} if external else {}
    before = set(os.listdir(job.dir))
    try:
        quant_pre_process(job.input["model"], ready, skip_symbolic_shape=False, **beside)
    except Exception as error:  # its documentation: symbolic shape inference may fail, and can then be left out
        notes.append("symbolic shape inference failed (%s: %s) and was left out" % (type(error).__name__, error))
        quant_pre_process(job.input["model"], ready, skip_symbolic_shape=True, **beside)
    names = [item["name"] for item in job.input["inputs"]]

    class Reader(_Samples, quantization.CalibrationDataReader):
        pass

    # TensorRT has no INT32 DequantizeLinear, ONNX Runtime computes a convolution in int8 only with an INT32 bias: the
    # engine's family says which (`settings: {quantization: {bias: float}}`).
    bias = (job.input.get("quantization") or {}).get("bias", "int32") == "int32"
    # TensorRT takes symmetric quantisation alone (zero point 0), for weights and activations:
    # https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html
    quantization.quantize_static(
        ready, path, Reader(job.input["calibration"], names),
        quant_format=quantization.QuantFormat.QDQ, op_types_to_quantize=list(QUANTISED), per_channel=True,
        activation_type=quantization.QuantType.QInt8, weight_type=quantization.QuantType.QInt8,
        extra_options={
            "ActivationSymmetric": True, "WeightSymmetric": True, "MatMulConstBOnly": True, "QuantizeBias": bias,
        },
        use_external_data_format=external,
    )  # fmt: skip
    model = onnx.load(path)
    for name in set(os.listdir(job.dir)) - before:
        os.remove(os.path.join(job.dir, name))
    told = "Q/DQ, per channel, symmetric, %s bias, %d calibration samples"
    return model, [told % ("int32" if bias else "float", len(job.input["calibration"]))] + notes


def _tidy(model):
    """Drop the operator sets that no node uses: ONNX Runtime adds all of its own, which other engines may not know."""
    used = {node.domain or "" for node in model.graph.node} | {""}
    for function in model.functions:
        used |= {node.domain or "" for node in function.node}
    kept = [item for item in model.opset_import if (item.domain or "") in used or item.domain == "ai.onnx"]
    del model.opset_import[:]
    model.opset_import.extend(kept)
