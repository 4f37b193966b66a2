"""INT8 by calibration, up to TensorRT 10: the builder runs the network in FP32 over the recipe's samples and chooses a
scale for every tensor. 11 and TensorRT for RTX have no calibrators: there INT8 is Q/DQ in the graph.

Asked by the option `calibration`: `entropy` (IInt8EntropyCalibrator2, NVIDIA's advice for CNNs), `entropy1` (the first
one) or `minmax` (IInt8MinMaxCalibrator, for BERT and its like). The scales are a table of text, which is handed back, so
that the host can hand it to the next build of the same model, samples and release: then no sample is run.
"""

from worker.adapters import cuda
from worker.adapters import tensorrt_api as api
from worker.engines import arrays
from worker.jobs import BadInput, Failure

KINDS = {"entropy": "IInt8EntropyCalibrator2", "entropy1": "IInt8EntropyCalibrator", "minmax": "IInt8MinMaxCalibrator"}


def wanted(job):
    """Whether this build is to be calibrated: INT8 that is asked of the builder and not in the graph."""
    return job.input.get("precision") == "int8" and job.input.get("realised") == "flag"


def attach(trt, job, config, network):
    """Give the configuration a calibrator. Returns it; it must live as long as the build does."""
    kind = api.option(job, "calibration", "entropy")
    if kind not in KINDS:
        raise Failure("calibration is %r; it is %s" % (kind, ", ".join(sorted(KINDS))))
    if not hasattr(trt, KINDS[kind]) or not hasattr(config, "int8_calibrator"):
        raise Failure("%s has no calibrators; INT8 is Q/DQ in the graph there" % api.title(trt))
    samples = job.input.get("calibration") or []
    if not samples and not job.input.get("calibration_table"):
        raise BadInput("INT8 by calibration needs samples or a table, and the job has neither")
    if any("QUANTIZE" in network.get_layer(index).type.name for index in range(network.num_layers)):
        raise Failure("the graph has Q/DQ nodes already: a calibrator would not be asked")
    calibrator = _calibrator(trt, job, kind, samples)
    config.int8_calibrator = calibrator
    return calibrator


def _calibrator(trt, job, kind, samples):
    base = getattr(trt, KINDS[kind])

    class Calibrator(base):
        def __init__(self):
            base.__init__(self)
            self.kind, self.cuda = kind, None
            self.used = 0
            self.table, self.reused = None, False
            self.error = None

        def get_batch_size(self):
            return 1  # the sample's own first dimension is the batch: networks here have it explicit

        def get_batch(self, names, *_):
            """Device addresses of the next sample's arrays, in the order of `names`; None after the last. What is
            raised here would be lost in the library: it is kept, and raised after the build."""
            try:
                return self._batch(names)
            except Exception as error:
                self.error = error
                return None

        def _batch(self, names):
            import numpy

            if self.used == len(samples):
                return None
            if self.cuda is None:
                self.cuda = cuda.Cuda()
                self.stream, self.buffers = self.cuda.stream(), cuda.Buffers(self.cuda)
            order = [item["name"] for item in job.input["inputs"]]
            found = dict(zip(order, arrays(samples[self.used])[0]))
            missing = sorted(set(names) - set(found))
            if missing:
                raise BadInput("the calibration samples have no input %s" % ", ".join(missing))
            self.used += 1
            out = []
            for name in names:
                array = numpy.ascontiguousarray(found[name])
                address = self.buffers.get(name, array.nbytes)
                self.cuda.to_device(address, array, self.stream)
                out.append(address)
            self.cuda.wait(self.stream)
            return out

        def read_calibration_cache(self, *_):
            path = job.input.get("calibration_table")
            if not path:
                return None
            with open(path, "rb") as file:
                self.table = file.read()
            self.reused = True
            return self.table

        def write_calibration_cache(self, table, *_):
            self.table = bytes(table)
            with open(job.path("calibration.table"), "wb") as file:
                file.write(self.table)

    return Calibrator()


def tell(calibrator):
    """What `found` says: {"kind", "samples", "reused", "tensors"}. Raises what reading the samples raised."""
    if calibrator.error is not None:
        raise calibrator.error
    lines = (calibrator.table or b"").decode("utf-8", "replace").splitlines()
    return {
        "kind": calibrator.kind, "samples": calibrator.used, "reused": calibrator.reused,
        "tensors": sum(": " in line for line in lines),
    }  # fmt: skip
