"""INT8 in the ONNX file, by ONNX Runtime's quantization tools
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).

static: Q/DQ, per channel, with the ranges of a calibration table that `calibrate` made once for model and data; dynamic:
8-bit weights in the graph, activations quantised as they come, without data.
"""

import json
import os

#: What is worth quantising computes with weights (of MatMul only those whose second operand is constant). All
#: operators at once (ONNX Runtime's default) ruins attention, whose mask of -10000 takes the whole 8-bit range: the
#: cosine of MiniLM's embeddings then falls to 0.3.
QUANTISED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
#: Ways to find a tensor's range from samples: their names here -> in the library.
METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}


class Samples:
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
        with numpy.load(self.paths[self.place], allow_pickle=False) as arrays:
            feed = {name: arrays["input_%d" % index] for index, name in enumerate(self.names)}
        self.place += 1
        return feed


def _reader(job):
    from onnxruntime import quantization

    class Reader(Samples, quantization.CalibrationDataReader):
        pass

    if not job.input.get("calibration"):
        raise ValueError("int8 needs calibration samples; the recipe gives none")
    return Reader(job.input["calibration"], [item["name"] for item in job.input["inputs"]])


def _prepared(job, external):
    """(path, notes) of the model after the quantiser's own pre-processing, which is the same every time it is done."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready = os.path.join(job.dir, "ready.onnx")
    beside = {"save_as_external_data": True, "all_tensors_to_one_file": True} if external else {}
    try:
        quant_pre_process(job.input["model"], ready, skip_symbolic_shape=False, **beside)
    except Exception as error:  # its documentation: symbolic shape inference may fail, and can then be left out
        quant_pre_process(job.input["model"], ready, skip_symbolic_shape=True, **beside)
        return ready, ["symbolic shape inference failed (%s: %s) and was left out" % (type(error).__name__, error)]
    return ready, []


def calibrate(job):
    """The range of each tensor that can be quantised, over the calibration samples: `table.json`, {"method", "samples",
    "ranges": {tensor: [lowest, highest]}}. Raises ValueError without samples, and for a range that is not finite."""
    import numpy
    import onnxruntime
    from onnxruntime.quantization import calibrate as library

    from worker.exporters import common

    method = (job.input["recipe"].get("calibration") or {}).get("method", "minmax")
    if method not in METHODS:
        raise ValueError("calibration method is %r; it can be %s" % (method, ", ".join(sorted(METHODS))))
    with job.stage("export"):
        external = common.has_external_data(job.input["model"])
        reader = _reader(job)
        ready, notes = _prepared(job, external)
        maker = library.create_calibrator(
            ready, list(QUANTISED), augmented_model_path=os.path.join(job.dir, "augmented.onnx"),
            calibrate_method=getattr(library.CalibrationMethod, METHODS[method]), use_external_data_format=external,
        )  # fmt: skip
        maker.collect_data(reader)
        ranges = {}
        for name, data in maker.compute_data().items():
            low, high = (float(numpy.asarray(value).ravel()[0]) for value in data.range_value)
            if not low <= high or low in (float("-inf"), float("inf")) or high == float("inf"):
                raise ValueError("the range of tensor %s over the samples is %g to %g" % (name, low, high))
            ranges[name] = [low, high]
        table = {"method": method, "samples": len(reader), "ranges": dict(sorted(ranges.items()))}
        with open(os.path.join(job.dir, "table.json"), "w") as file:
            json.dump(table, file, indent=0)
    return {
        "table": "table.json", "method": method, "samples": len(reader), "tensors": len(ranges), "notes": notes,
        "tool": "onnxruntime %s" % onnxruntime.__version__,
    }  # fmt: skip


def int8(job, path, external):
    """Write the quantised model to `path`. Returns notes. Raises ValueError for a mode that is none."""
    kind = job.input.get("quantization") or {}
    mode = kind.get("mode", "static")
    if mode == "static":
        return _static(job, path, external, kind.get("bias", "int32") == "int32")
    if mode == "dynamic":
        return _dynamic(job, path, external)
    raise ValueError("quantization is %r; these tools do static and dynamic" % mode)


def _static(job, path, external, bias):
    import inspect

    from onnxruntime import quantization

    with open(job.input["table"]) as file:
        table = json.load(file)
    ready, notes = _prepared(job, external)
    more = {}
    if "calibration_cache_path" in inspect.signature(quantization.quantize_static).parameters:
        more = {"calibration_cache_path": _cache(job, table)}
    else:
        # Of these releases none takes ranges that are known: it finds them again, from the same samples.
        more = {
            "calibration_data_reader": _reader(job),
            "calibrate_method": getattr(quantization.CalibrationMethod, METHODS[table["method"]]),
        }
    # TensorRT has no INT32 DequantizeLinear, ONNX Runtime computes a convolution in int8 only with an INT32 bias: the
    # engine's family says which (`settings: {quantization: {bias: float}}`).
    # TensorRT takes symmetric quantisation alone (zero point 0), for weights and activations:
    # https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html
    quantization.quantize_static(
        ready, path, quant_format=quantization.QuantFormat.QDQ, op_types_to_quantize=list(QUANTISED), per_channel=True,
        activation_type=quantization.QuantType.QInt8, weight_type=quantization.QuantType.QInt8,
        extra_options={
            "ActivationSymmetric": True, "WeightSymmetric": True, "MatMulConstBOnly": True, "QuantizeBias": bias,
        },
        use_external_data_format=external, **more
    )  # fmt: skip
    told = "Q/DQ, per channel, symmetric, %s bias, %s over %d calibration samples"
    return [told % ("int32" if bias else "float", table["method"], table["samples"])] + notes


def _cache(job, table):
    """The table in the library's own form. A range is a range, whichever method found it."""
    import numpy
    from onnxruntime.quantization import calibrate as library

    path = os.path.join(job.dir, "ranges.json")
    data = {
        name: (numpy.array(low, dtype="float32"), numpy.array(high, dtype="float32"))
        for name, (low, high) in table["ranges"].items()
    }
    library.save_tensors_data(library.TensorsData(library.CalibrationMethod.MinMax, data), path)
    return path


def _dynamic(job, path, external):
    """8-bit weights; of MatMul only those with constant ones. Unsigned, since ConvInteger has no kernel for signed weights
    (seen with 1.16.3: "Could not find an implementation for ConvInteger(10)"; 1.31.1 has one)."""
    from onnxruntime import quantization

    ready, notes = _prepared(job, external)
    quantization.quantize_dynamic(
        ready, path, op_types_to_quantize=["Conv", "Gemm", "MatMul"],
        weight_type=quantization.QuantType.QUInt8, use_external_data_format=external,
        extra_options={"MatMulConstBOnly": True},
    )  # fmt: skip
    return ["dynamic: weights of 8 bits, activations quantised at run time; no data was needed"] + notes
