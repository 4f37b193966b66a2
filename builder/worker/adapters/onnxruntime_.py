"""ONNX Runtime, 1.15 and newer. The engine is the model as its offline optimiser leaves it.

https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html: level `extended` is saved, since
`all` adds layouts of this very CPU; loading applies the library's default level, as a user's session would. Nodes that
TensorRT's provider compiled cannot be saved like that: there the engine is the context model (`ep.context_*`,
https://onnxruntime.ai/docs/execution-providers/EP-Context-Design.html), with TensorRT's engines embedded.
"""

import os
import re

from worker import adapters
from worker.adapters import onnxruntime_profile, onnxruntime_providers, onnxruntime_timer
from worker.jobs import Failure


def _options(job):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(job.input.get("threads") or 1)
    options.inter_op_num_threads = 1
    return options


def build(job):
    import onnxruntime
    from onnxruntime.capi import _pybind_state

    options = _options(job)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    asked = onnxruntime_providers.asked(job)
    if asked[0] == onnxruntime_providers.TENSORRT:
        options.add_session_config_entry("ep.context_enable", "1")
        options.add_session_config_entry("ep.context_embed_mode", "1")
        options.add_session_config_entry("ep.context_file_path", job.path("engine.onnx"))
    else:
        options.optimized_model_filepath = job.path("engine.onnx")
    if job.input.get("data"):
        # Else the engine would go on naming the model's own files (onnxruntime_session_options_config_keys.h).
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "engine.onnx.data")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    onnxruntime_providers.preload(onnxruntime)
    given = onnxruntime_providers.options(job, asked, onnxruntime.__version__)
    try:
        # The two steps of onnxruntime.InferenceSession.__init__, apart, to tell reading a model from preparing it.
        with job.stage("parse"):
            session = _pybind_state.InferenceSession(options, job.input["model"], True, False)
        with job.stage("build"):
            session.initialize_session(asked, given, set())
    except Exception as error:
        raise _refused(error)
    providers = session.get_providers()
    found = {"providers": providers, "optimization": "extended"}
    return {
        "engine": "engine.onnx", "found": found, "unsupported": [],
        "data": ["engine.onnx.data"] if os.path.exists(job.path("engine.onnx.data")) else [],
        "degraded": onnxruntime_providers.absent(asked, providers),
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


def load(job, path):
    return Engine(job, path)


class Engine:
    def __init__(self, job, path):
        import onnxruntime

        options = _options(job)
        self.profile = job.kind == "run"  # never while timing
        options.enable_profiling = self.profile
        options.profile_file_prefix = job.path("profile")
        self.job, self.path, self.options = job, path, options
        self.asked = onnxruntime_providers.asked(job)
        onnxruntime_providers.preload(onnxruntime)
        given = onnxruntime_providers.options(job, self.asked, onnxruntime.__version__)
        self.session = onnxruntime.InferenceSession(path, options, providers=self.asked, provider_options=given)
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
            self.nodes = onnxruntime_profile.read(self.session.end_profiling())
        return [got.get(name) for name in self.wanted]

    def device_timer(self, arrays):
        return onnxruntime_timer.timer(self, arrays)

    def proof(self):
        """By the session's own profile: each node that ran, on which provider, in which precision."""
        providers = self.session.get_providers()
        degraded = onnxruntime_providers.absent(self.asked, providers)
        nodes = self.nodes or []
        computing = [
            node
            for node in nodes
            if node["operator"] not in onnxruntime_profile.MOVES
            and (node["precision"] in adapters.SHARE or onnxruntime_profile.COMPILED.match(node["operator"]))
        ]
        # Numbers made of shapes (an attention's 1/sqrt(width)) are worked out on the CPU on purpose, as the shapes are
        # (https://github.com/microsoft/onnxruntime/pull/10831).
        placed = [node for node in computing if not node["scalar"]]
        degraded += onnxruntime_providers.fallen(self.asked, providers, placed)
        # What is inside a compiled node the profile does not show.
        seen = [node for node in computing if not onnxruntime_profile.COMPILED.match(node["operator"])]
        layers = [(node["operator"], node["precision"]) for node in seen]
        asked = self.job.input.get("precision")
        degraded += adapters.shortfall(asked, layers, "by the session's profile")
        tf32, rounded = onnxruntime_providers.rounded(self.job, self.session)
        degraded += rounded
        used, operators = {}, {}
        for node in nodes:
            used[node["provider"]] = used.get(node["provider"], 0) + 1
            operators[node["operator"]] = operators.get(node["operator"], 0) + 1
        found = {
            "providers": providers, "nodes_by_provider": used, "operators": dict(sorted(operators.items())),
            "precision": adapters.tally(layers), "from": "session profile",
            "left": adapters.left(asked, [(node["name"], node["operator"], node["precision"]) for node in seen]),
        }  # fmt: skip
        if tf32 is not None:
            found["tf32"] = tf32
        return {"found": found, "degraded": degraded}
