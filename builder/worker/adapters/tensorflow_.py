"""TensorFlow itself on a CPU, eager: the baseline that the speed-ups of TensorFlow's models are measured against.

The engine is the recipe's model as a SavedModel, as one tar file; a run calls its signature. Threads are the job's, precision
is FP32 alone. What was computed in which type is read from the functions of the signature's graph.
"""

import os
import shutil
import tempfile

from worker import adapters
from worker.exporters.tensorflow_saved import SIGNATURE, called, module, unpack  # noqa: F401  (`module` is the adapter's)
from worker.jobs import Failure

#: Types of TensorFlow's DataType (tensorflow/core/framework/types.proto) that count as a precision.
_TYPES = {1: "fp32", 2: "fp64", 14: "bf16", 19: "fp16"}


def build(job):
    precision = job.input.get("precision") or "fp32"
    mode = job.input.get("options", {}).get("mode") or "eager"
    with job.stage("parse"):
        import tensorflow

        if precision != "fp32" or mode != "eager":
            raise Failure("TensorFlow itself is run eager and in fp32 alone, not %s in %s" % (mode, precision))
    with job.stage("build"):
        folder = unpack(job.input["model"], tempfile.mkdtemp(dir=job.dir))
        loaded, _ = called(tensorflow, folder, [item["name"] for item in job.input["inputs"]])
        shutil.copyfile(job.input["model"], job.path("engine.tar"))
    found = {"mode": mode, "precision": adapters.tally(layers(loaded)), "from": "the signature's functions"}
    return {"engine": "engine.tar", "found": found, "unsupported": [], "degraded": []}


def layers(loaded):
    """[(operator, precision)] of what a loaded model's signature computes, by its graph and the functions in it."""
    graph = loaded.signatures[SIGNATURE].graph.as_graph_def()
    nodes = list(graph.node) + [node for function in graph.library.function for node in function.node_def]
    out = []
    for node in nodes:
        precision = _TYPES.get(node.attr["T"].type) if "T" in node.attr else None
        if precision and adapters.HEAVY.search(node.op):
            out.append((node.op, precision))
    return out


def load(job, path):
    return Engine(job, path)


class Engine:
    def __init__(self, job, path):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow

        self.job = job
        threads = int(job.input.get("threads") or 1)
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
        folder = unpack(path, tempfile.mkdtemp(dir=job.dir))
        self.loaded, self.call = called(tensorflow, folder, [item["name"] for item in job.input["inputs"]])
        self.wanted = [item["name"] for item in job.input["outputs"]]
        self.outputs = sorted(self.loaded.signatures[SIGNATURE].structured_outputs)

    def run(self, arrays):
        out = self.call(arrays)
        return [out.get(name) for name in self.wanted]

    def proof(self):
        ran, how = layers(self.loaded), "by the signature's functions"
        found = {"mode": "eager", "precision": adapters.tally(ran), "from": "the signature's functions"}
        return {"found": found, "degraded": adapters.shortfall(self.job.input.get("precision"), ran, how)}
