"""TF-TRT: a SavedModel in which TensorRT takes over segments of the graph, TensorFlow the rest.

The engine is the converted SavedModel as one tar file. Built from the recipe's model (`takes: module`); it ends with TensorFlow
2.17, whose packages want TensorRT 8.6 (https://github.com/tensorflow/tensorflow/issues/64809). Settings:
`min-segment-size` (default 3, as in the library). A graph of which a segment fell back is `degraded`.

How much went into engines is read from the converted graph itself (nodes TRTEngineOp, and what else computes), and why the rest
did not from what the converter logs. Untried beyond its refusal by a TensorFlow without TensorRT: one with it comes with
gigabytes of CUDA. The reading of its log is tested on logs that others have published.
"""

import os
import re
import shutil
import sys
import tempfile

from worker import adapters
from worker.exporters.tensorflow_saved import called, module, pack, unpack  # noqa: F401  (`module` is the adapter's)
from worker.jobs import Failure

#: Nodes that compute nothing.
_MOVES = frozenset(
    "Const Identity IdentityN NoOp Placeholder Reshape Shape StridedSlice Pack Squeeze ExpandDims PartitionedCall "
    "StatefulPartitionedCall Cast Transpose ConcatV2 Split Unpack ReadVariableOp VarHandleOp".split()
)


def build(job):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0")  # the converter says why in its log alone
    precision = job.input.get("precision") or "fp32"
    with job.stage("parse"):
        import tensorflow

        try:
            from tensorflow.python.compiler.tensorrt import trt_convert
        except ImportError as error:
            raise Failure("tensorflow %s has no TF-TRT, which ends with 2.17: %s" % (tensorflow.__version__, error))
        if precision == "int8":
            raise Failure("TF-TRT calibrates int8 on a GPU while it converts; this adapter does not offer it")
        source = unpack(job.input["model"], tempfile.mkdtemp(dir=job.dir))
    with job.stage("build"):
        least = int(job.input.get("settings", {}).get("min-segment-size") or 3)
        with Log(job.path("converter.log")) as log:
            converter = trt_convert.TrtGraphConverterV2(
                input_saved_model_dir=source, precision_mode=precision.upper(), minimum_segment_size=least
            )
            converter.convert()
            target = job.path("converted")
            converter.save(target)
        graph = tensorflow.saved_model.load(target).signatures["serving_default"].graph.as_graph_def()
        pack(target, job.path("engine.tar"))
        shutil.rmtree(target)
    share, report = nodes(graph), parse_log(log.text())
    return {
        "engine": "engine.tar", "found": {"graph": share, "log": report}, "unsupported": [],
        "degraded": shortfall(share, report),
    }  # fmt: skip


class Log:
    """What the C++ of a library writes on standard error inside a `with`, kept and passed on."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        sys.stderr.flush()
        self.kept = os.dup(2)
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, 2)
        os.close(file)
        return self

    def __exit__(self, *_):
        sys.stderr.flush()
        os.dup2(self.kept, 2)
        os.close(self.kept)
        sys.stderr.write(self.text())

    def text(self):
        with open(self.path, errors="replace") as file:
            return file.read()


def nodes(graph):
    """{"engines": count, "native": {operator: count}} of a converted GraphDef: nodes that compute, those of functions too, but
    for what lies in an engine (its native copy, which is only there to fall back on)."""
    engines, native = 0, {}
    inside = set()
    every = list(graph.node)
    for node in every:
        if node.op == "TRTEngineOp":
            inside.add(node.attr["segment_func"].func.name)
    for function in graph.library.function:
        if function.signature.name not in inside:
            every += list(function.node_def)
    for node in every:
        if node.op == "TRTEngineOp":
            engines += 1
        elif node.op not in _MOVES:
            native[node.op] = native.get(node.op, 0) + 1
    return {"engines": engines, "native": dict(sorted(native.items()))}


def parse_log(text):
    """What the converter logs -> {"candidates", "replaced": [{"segment", "nodes"}], "kept": [{"segment", "nodes", "reason"}],
    "native": operators outside or None, "types": [...]}; null where it says nothing. In the words of TensorFlow 2.0 to 2.17."""
    candidates = re.findall(r"Number of TensorRT candidate segments: (\d+)", text)
    replaced = re.findall(r"Replaced segment (\d+) consisting of (\d+) nodes by \S+", text)
    replaced += re.findall(r"TensorRT node \S+ added for segment (\d+) consisting of (\d+) nodes succeeded", text)
    kept = re.findall(
        r"Cannot replace segment (\d+) consisting of (\d+) nodes by \S+ reason: (.*?) \(keeping original segment\)",
        text,
    )
    old = re.search(
        r"There are (\d+) ops of \d+ different types in the graph that are not converted to TensorRT: (.*?),? \(For more",
        text,
    )
    new = re.search(r"Total nonconverted OPs: (\d+)", text)
    return {
        "candidates": sum(map(int, candidates)) if candidates else None,
        "replaced": [{"segment": int(one), "nodes": int(count)} for one, count in replaced],
        "kept": [{"segment": int(one), "nodes": int(count), "reason": reason} for one, count, reason in kept],
        "native": int((old or new).group(1)) if old or new else None,
        "types": [name for name in re.split(r",\s*", old.group(2)) if name] if old else [],
    }


def shortfall(share, report):
    """What TensorFlow still computes, as a list of none or one degradation."""
    if not share["engines"]:
        return [{"asked": "tensorrt", "got": "tensorflow", "how": "no segment of the graph became an engine"}]
    parts = []
    if report["kept"]:
        reasons = "; ".join("segment %(segment)d of %(nodes)d nodes: %(reason)s" % one for one in report["kept"][:3])
        parts.append("%d of %s segments fell back (%s)" % (len(report["kept"]), report["candidates"], reasons))
    left = [(name, kind) for name, count in share["native"].items() for kind in ["native"] * count]
    heavy = [name for name, _ in left if adapters.HEAVY.search(name)]
    if heavy:
        parts.append("%d operators that carry the arithmetic are outside engines (%s)" % (
            len(heavy), ", ".join(sorted(set(heavy))[:5])
        ))  # fmt: skip
    return [{"asked": "tensorrt", "got": "tensorflow in part", "how": "; ".join(parts)}] if parts else []


def load(job, path):
    return Engine(job, path)


class Engine:
    def __init__(self, job, path):
        import tensorflow
        from tensorflow.python.compiler.tensorrt import trt_convert  # noqa: F401  (registers TRTEngineOp)

        folder = unpack(path, tempfile.mkdtemp(dir=job.dir))
        names = [item["name"] for item in job.input["inputs"]]
        self.loaded, self.call = called(tensorflow, folder, names)
        self.graph = self.loaded.signatures["serving_default"].graph.as_graph_def()
        self.wanted = [item["name"] for item in job.input["outputs"]]
        self.outputs = sorted(self.loaded.signatures["serving_default"].structured_outputs)

    def run(self, arrays):
        out = self.call(arrays)
        return [out.get(name) for name in self.wanted]

    def proof(self):
        share = nodes(self.graph)
        none = {"kept": [], "candidates": None}
        return {"found": {"graph": share, "from": "the converted graph"}, "degraded": shortfall(share, none)}
