"""How an engine library is driven, one module each. An adapter has

    build(job) -> {"engine": file in job.dir, "found": {...}, "unsupported": [...], "degraded": [...]}
        enters the stages `parse` and `build`
    load(job, path) -> engine, which has
        outputs         names of all outputs the engine has
        run(arrays)     inputs in the order of job.input["inputs"] -> outputs in the order of job.input["outputs"],
                        None for one that the engine lacks
        proof()         {"found": {...}, "degraded": [...]}: what was really used, after `run`

and may have

    refusals(job, path) -> [{"node", "operator", "reason"}]: what the parser refuses of an ONNX file, [] for nothing;
                        without it `subgraph_search` asks by building
    types(job, path) -> {tensor: (onnx element type, shape)} of an ONNX file that the library takes
    (of an engine) device_timer(arrays), device_memory(): see timing.py

What a library refuses is raised as it comes, or as worker.jobs.Failure where the library only logs it.
Importing an adapter imports no library. Scalars of `settings` and `options` are text.
"""

import importlib.util
import os
import re
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))

#: Adapter -> its file: those that end with an underscore (so that none is ever mistaken for a library), ours and those of other
#: packages (builder/plugins.py), which the host puts beside ours.
FILES = {
    name[: -len("_.py")]: os.path.join(_HERE, name)
    for name in sorted(os.listdir(_HERE))
    if name.endswith("_.py") and not name.startswith("_")
}


def get(name):
    """The adapter's module. Raises KeyError when there is none of that name."""
    path = FILES[name]
    module_name = "worker.adapters." + os.path.basename(path)[:-3]
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
    return sys.modules[module_name]


#: Operators and layers that carry the arithmetic of a network, by the names of ONNX, ONNX Runtime, OpenVINO, LiteRT and
#: TensorRT. Which precision these run in is what "fp16" or "int8" means; element-wise neighbours follow them.
HEAVY = re.compile(r"conv(?!ert)|matmul|matrix_?multiply|gemm|fully_?connected|attention|mha|lstm|gru|rnn|einsum", re.I)

#: Share of the heavy operators that must run in the precision asked for. fp16 is asked for the whole graph; a few
#: operators that a converter keeps in fp32 are no degradation. int8 leaves by design some in floating point (the
#: first, the last, and products of two activations), so there the bar is that most are quantised.
SHARE = {"fp32": 0.9, "fp16": 0.9, "bf16": 0.9, "fp64": 0.9, "int8": 0.5, "fp8": 0.5}


def tally(layers):
    """[(operator, precision)] -> {operator: {precision: count}}, sorted."""
    out = {}
    for operator, precision in layers:
        counts = out.setdefault(operator, {})
        counts[precision] = counts.get(precision, 0) + 1
    return {operator: dict(sorted(out[operator].items())) for operator in sorted(out)}


def shortfall(asked, layers, how):
    """The degradation, if any, of the precision asked for against what ran, as a list of none or one.

    `layers` is [(operator, precision)] of what was executed; only heavy operators count, all of them when none is
    heavy. `how` says where that was read.
    """
    layers = [(operator, precision) for operator, precision in layers if precision in SHARE]  # not index arithmetic
    heavy = [precision for operator, precision in layers if HEAVY.search(operator)] or [p for _, p in layers]
    if not heavy or asked not in SHARE:
        return []
    share = heavy.count(asked) / len(heavy)
    if share >= SHARE[asked]:
        return []
    others = [precision for precision in heavy if precision != asked]
    got = max(sorted(set(others)), key=others.count)  # of what was not asked: most may be as asked, and not enough
    counts = ", ".join("%d in %s" % (heavy.count(name), name) for name in sorted(set(heavy)))
    text = "%d of %d compute operators ran in %s (%s), %s" % (heavy.count(asked), len(heavy), asked, counts, how)
    return [{"asked": asked, "got": got, "how": text}]


#: Nodes that `left` names; the tally counts all.
NAMED = 30


def left(asked, layers):
    """What was left in another precision than `asked`, by name: [{"node", "operator", "precision"}] of `layers`, which is
    [(node, operator, precision)]; heavy operators alone, the first NAMED."""
    out = [
        {"node": node, "operator": operator, "precision": precision}
        for node, operator, precision in layers
        if HEAVY.search(operator) and precision in SHARE and precision != asked
    ]
    return out[:NAMED]
