"""ONNX Runtime, 1.15 and newer. The engine is the model as its offline optimiser leaves it.

https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html: level `extended` is saved, since
`all` adds layouts of this very CPU; loading applies the library's default level, as a user's session would.
"""

import json
import os
import re

from worker import adapters
from worker.jobs import Failure

_QUANTISED = re.compile(
    r"^(QLinear|QGemm|QAttention|MatMulInteger|ConvInteger|DynamicQuantize|MatMulNBits|QMoE|QEmbed)"
)
#: Operators that compute nothing: they move, name or re-type data.
_MOVES = frozenset(
    "Cast Reshape Transpose Flatten Squeeze Unsqueeze Concat Slice Gather Shape Constant ConstantOfShape Identity "
    "Split Pad Expand Tile QuantizeLinear DequantizeLinear ReorderInput ReorderOutput Size Range".split()
)
_TYPES = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64", "int8": "int8", "uint8": "int8"}


def _options(job):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(job.input.get("threads") or 1)
    options.inter_op_num_threads = 1
    return options


def _providers(job):
    wanted = job.input.get("settings", {}).get("providers") or ["CPUExecutionProvider"]
    return [wanted] if isinstance(wanted, str) else list(wanted)


def build(job):
    import onnxruntime
    from onnxruntime.capi import _pybind_state

    options = _options(job)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = job.path("engine.onnx")
    providers = _providers(job)
    try:
        # The two steps of onnxruntime.InferenceSession.__init__, apart, to tell reading a model from preparing it.
        with job.stage("parse"):
            session = _pybind_state.InferenceSession(options, job.input["model"], True, False)
        with job.stage("build"):
            session.initialize_session(providers, [{} for _ in providers], set())
    except Exception as error:
        raise _refused(error)
    found = {"providers": session.get_providers(), "optimization": "extended"}
    return {
        "engine": "engine.onnx", "found": found, "unsupported": [],
        "degraded": _provider_shortfall(providers, session.get_providers()),
    }  # fmt: skip


def _refused(error):
    """The library's error with the operator that it names, if it names one."""
    text = str(error)
    for pattern in (
        r"(?P<reason>Fatal error: (?P<op>\S+?)\(-?\d+\) is not a registered function/op)",
        r"(?P<reason>No Op registered for (?P<op>\S+) with domain_version of \d+)",
        r"(?P<reason>Could not find an implementation for (?:the node )?(?:(?P<node>\S*?):)?(?P<op>\w+)\(\d+\)"
        r"(?: node with name '(?P<name>[^']*)')?)",
    ):
        match = re.search(pattern, text)
        if match:
            groups = match.groupdict()
            node = groups.get("name") or groups.get("node") or ""
            entry = {"node": node, "operator": groups["op"], "reason": groups["reason"]}
            return Failure(text, [entry], type(error).__name__)
    return error


def _provider_shortfall(asked, got):
    """The CPU provider is always there as a fall-back; only one that was asked for and is absent is a degradation."""
    return [
        {"asked": name, "got": ", ".join(got), "how": "the session does not have the execution provider"}
        for name in asked
        if name not in got
    ]


def load(job, path):
    return Engine(job, path)


class Engine:
    def __init__(self, job, path):
        import onnxruntime

        options = _options(job)
        self.profile = job.kind == "run"  # never while timing
        options.enable_profiling = self.profile
        options.profile_file_prefix = job.path("profile")
        self.job = job
        self.asked = _providers(job)
        self.session = onnxruntime.InferenceSession(path, options, providers=self.asked)
        self.inputs = [item["name"] for item in job.input["inputs"]]
        self.outputs = [item.name for item in self.session.get_outputs()]
        self.wanted = [item["name"] for item in job.input["outputs"]]
        self.asking = [name for name in self.wanted if name in self.outputs]
        self.nodes = None

    def run(self, arrays):
        got = dict(zip(self.asking, self.session.run(self.asking, dict(zip(self.inputs, arrays)))))
        if self.profile:
            # One run is enough to see each node; the session stays usable after.
            self.profile = False
            self.nodes = _read_profile(self.session.end_profiling())
        return [got.get(name) for name in self.wanted]

    def proof(self):
        """By the session's own profile: each node that ran, on which provider, on which types."""
        providers = self.session.get_providers()
        degraded = _provider_shortfall(self.asked, providers)
        nodes = self.nodes or []
        layers = [(node["operator"], node["precision"]) for node in nodes if node["operator"] not in _MOVES]
        asked = self.job.input.get("precision")
        degraded += adapters.shortfall(asked, layers, "by the session's profile")
        used = {}
        for node in nodes:
            used[node["provider"]] = used.get(node["provider"], 0) + 1
        operators = {}
        for node in nodes:
            operators[node["operator"]] = operators.get(node["operator"], 0) + 1
        found = {
            "providers": providers, "nodes_by_provider": used, "operators": dict(sorted(operators.items())),
            "precision": adapters.tally(layers), "from": "session profile",
        }  # fmt: skip
        return {"found": found, "degraded": degraded}


def _read_profile(path):
    """[{"operator", "provider", "precision"}] of the nodes that ran, once each."""
    with open(path) as file:
        events = json.load(file)
    os.unlink(path)
    seen, nodes = set(), []
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        arguments = event["args"]
        key = (event["name"], arguments.get("node_index"))
        if key in seen:  # a node inside a loop
            continue
        seen.add(key)
        operator = arguments["op_name"]
        nodes.append(
            {
                "operator": operator,
                "provider": arguments.get("provider", ""),
                "precision": _precision(operator, arguments),
            }
        )
    return nodes


def _precision(operator, arguments):
    """What a node computes in: int8 when it is a quantised operator, else its narrowest floating-point type."""
    if _QUANTISED.match(operator):
        return "int8"
    types = [
        name
        for group in (arguments.get("input_type_shape"), arguments.get("output_type_shape"))
        for item in group or ()
        for name in item
    ]
    found = [_TYPES.get(name, name) for name in types]
    for name in ("fp16", "bf16", "fp32", "fp64", "int8"):
        if name in found:
            return name
    return found[0] if found else "unknown"
