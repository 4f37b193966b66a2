"""Torch-TensorRT: torch.export's program, what TensorRT takes of it in engines, the rest left to PyTorch.

Built from the recipe's module (`takes: module`), as torch_.py does. Settings: `min-block-size` (operators that a segment needs
to become an engine, default 1), and those of torch_.py. A graph of which a part stays with PyTorch is `degraded`, with the
operators that stayed.

How much went into engines is read twice: from the dry-run report, which the library logs at every compilation
(https://github.com/pytorch/TensorRT/pull/2451), and from the compiled module's own parts (`_run_on_acc_N` are engines,
`_run_on_gpu_N` is PyTorch). Untried beyond its import: the library comes with gigabytes of CUDA. The reading of its report is
tested on reports that others have published.
"""

import logging
import re
import warnings

from worker import adapters
from worker.adapters import torch_
from worker.jobs import Failure

_LOGGER = "torch_tensorrt.dynamo._DryRunTracker"


def module(job):
    return torch_.module(job)


def build(job):
    torch = torch_.prepare(job)
    precision = job.input.get("precision") or "fp32"
    with job.stage("parse"):
        import torch_tensorrt

        if precision == "int8":
            raise Failure(
                "Torch-TensorRT takes int8 from a module quantised by modelopt, which this stack does not have"
            )
        device = torch_.device_of(torch, dict_device(job))
        net, _ = torch_.restore(torch, job, job.input["model"], device, precision)
        arguments = torch_.example(torch, job, device, torch_.dtype_of(torch, precision))
        exported = torch_.program(torch, job, net, arguments)
        layers = torch_.graph_layers(torch, exported)
    with job.stage("build"):
        least = int(job.input.get("settings", {}).get("min-block-size") or 1)
        with Reports() as reports, warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            compiled = torch_tensorrt.dynamo.compile(
                exported, arg_inputs=list(arguments), enabled_precisions={torch_.dtype_of(torch, precision)},
                min_block_size=least, disable_tf32=True,
            )  # fmt: skip
        torch_tensorrt.save(
            compiled, job.path("engine.ep"), output_format="exported_program", arg_inputs=list(arguments)
        )
    report = reports.merged()
    parts = segments([name for name, _ in compiled.named_children()])
    found = {"report": report, "segments": parts, "precision": adapters.tally(layers), "from": "graph as exported"}
    return {"engine": "engine.ep", "found": found, "unsupported": [], "degraded": shortfall(report, parts)}


def dict_device(job):
    """The job, with a GPU as the device where its settings name none: TensorRT has no other."""
    job.input.setdefault("settings", {}).setdefault("device", "cuda")
    return job


class Reports(logging.Handler):
    """The dry-run reports that are logged inside a `with`."""

    def __init__(self):
        logging.Handler.__init__(self, logging.DEBUG)
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())

    def __enter__(self):
        self.logger = logging.getLogger(_LOGGER)
        self.level = self.logger.level
        self.logger.setLevel(logging.DEBUG)
        self.logger.addHandler(self)
        return self

    def __exit__(self, *_):
        self.logger.removeHandler(self)
        self.logger.setLevel(self.level)

    def merged(self):
        return parse_report("\n".join(self.texts))


def parse_report(text):
    """A dry-run report -> {"operators", "supported", "native": {operator: count}, "engines": [{"name", "operators"}]}, or None
    where there is no report in the text. Of several graphs (breaks between them) the figures are summed."""
    totals = re.findall(r"consists of (\d+) Total Operators, of which (\d+) operators are supported", text)
    if not totals:
        return None
    native = {}
    for block in re.findall(
        r"unsupported or excluded from conversion[^\n]*\n((?:[ #]*torch\.ops[^\n]*:\s*\d+[^\n]*\n?)+)", text
    ):
        for name, count in re.findall(r"(torch\.ops\.[\w.]+):\s*(\d+)", block):
            native[name] = native.get(name, 0) + int(count)
    engines = [
        {"name": name, "operators": int(count)}
        for name, count in re.findall(
            r"TRT Engine #\d+ - Submodule name: (\S+)\s.*?Number of Operators in Engine: (\d+)", text, re.S
        )
    ]
    return {
        "operators": sum(int(total) for total, _ in totals), "supported": sum(int(some) for _, some in totals),
        "native": dict(sorted(native.items())), "engines": engines,
    }  # fmt: skip


def segments(names):
    """{"engines": [...], "native": [...]} of the names of a compiled module's parts."""
    return {
        "engines": [name for name in names if name.startswith("_run_on_acc")],
        "native": [name for name in names if name.startswith("_run_on_gpu")],
    }


def shortfall(report, parts):
    """What stayed with PyTorch, as a list of none or one degradation."""
    if not parts["engines"]:
        return [{"asked": "tensorrt", "got": "torch", "how": "no part of the graph became an engine"}]
    if report is None:
        left = parts["native"]
        text = "%d parts of the compiled module run in PyTorch (%s)" % (len(left), ", ".join(left[:5]))
        return [{"asked": "tensorrt", "got": "torch in part", "how": text}] if left else []
    outside = report["operators"] - sum(engine["operators"] for engine in report["engines"])
    left = report["operators"] - report["supported"]
    if not parts["native"] and not left and (not report["engines"] or outside <= 0):
        return []
    names = ", ".join("%s x %d" % item for item in sorted(report["native"].items(), key=lambda item: -item[1])[:5])
    inside = report["supported"] if not report["engines"] else report["operators"] - outside
    text = "%d of %d operators are in %d engines%s, by the library's dry-run report" % (
        inside, report["operators"], len(parts["engines"]), "; left native: " + names if names else "",
    )  # fmt: skip
    return [{"asked": "tensorrt", "got": "torch in part", "how": text}]


def load(job, path):
    return Engine(job, path)


class Engine(torch_.Engine):
    """An exported program with engines inside. Its operators run inside TensorRT, so it is not recorded what was dispatched:
    what was built speaks (see `build`)."""

    def __init__(self, job, path):
        torch = self.torch = torch_.prepare(job)
        import torch_tensorrt  # noqa: F401  (registers the operator that runs an engine)

        self.job, self.mode = job, "torch-tensorrt"
        self.precision = job.input.get("precision") or "fp32"
        self.device, self.dtype = torch_.device_of(torch, dict_device(job)), torch_.dtype_of(torch, self.precision)
        self.net = torch.export.load(path).module()
        self.wanted = [item["name"] for item in job.input["outputs"]]
        self.dtypes = [getattr(torch, item["dtype"], None) for item in job.input["outputs"]]
        self.outputs = list(self.wanted)
        self.recorded = True

    def proof(self):
        names = [name for name, _ in self.net.named_children()]
        parts = segments(names)
        return {"found": {"segments": parts, "device": str(self.device)}, "degraded": shortfall(None, parts)}
