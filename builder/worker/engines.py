"""The stages of engine stacks, the same for every engine: the adapter does what differs. See adapters/__init__.py."""

import os

from worker import adapters
from worker.jobs import BadInput


def module(job):
    """The recipe's module -> a file of its weights and what it takes and gives, for adapters that build from it."""
    return _adapter(job).module(job)


def build(job):
    """ONNX file (or what the family takes) -> engine file. The adapter enters the stages `parse` and `build`."""
    return _adapter(job).build(job)


def run(job):
    """Load the engine, run every case, compare with the reference."""
    from worker import compare, picture

    adapter = _adapter(job)
    with job.stage("load"):
        if job.input.get("unloadable"):  # this machine cannot; what the library tells of the file all the same
            adapter.vouch(job, job.input["engine"])
            return {"unloaded": job.input["unloadable"], "comparison": None, "found": {}, "degraded": []}
        engine = adapter.load(job, job.input["engine"])
    pairs = []
    with job.stage("run"):
        for case in job.input["cases"]:
            inputs, expected = arrays(case["file"])
            check_inputs(job, inputs)
            pairs.append((case.get("label", os.path.basename(case["file"])), expected, engine.run(inputs)))
        proof = engine.proof()
    with job.stage("compare"):
        names = [item["name"] for item in job.input["outputs"]]
        comparison = compare.compare(
            pairs, names, job.input.get("tolerance") or {}, job.input.get("metric"), job.input.get("precision"),
            extra=[name for name in engine.outputs if name not in names],
        )  # fmt: skip
        pictures = picture.draw(job, pairs, names)
    return {
        "comparison": comparison, "found": proof["found"], "degraded": proof["degraded"], "pictures": pictures,
    }  # fmt: skip


def measure(job):
    """Time the engine on the case labelled `opt` (or `static`, or the first)."""
    from worker import timing

    adapter = _adapter(job)
    cases = job.input["cases"]
    if not cases:
        raise BadInput("nothing to measure: no cases")
    case = next((case for case in cases if case.get("label") in ("opt", "static")), cases[0])
    inputs, _ = arrays(case["file"])
    check_inputs(job, inputs)
    result = timing.speed(job, lambda: adapter.load(job, job.input["engine"]), inputs)
    result["case"] = case.get("label")
    return result


def _adapter(job):
    try:
        return adapters.get(job.input.get("adapter"))
    except KeyError:
        raise BadInput("no adapter %r; there are %s" % (job.input.get("adapter"), ", ".join(sorted(adapters.FILES))))


def arrays(path):
    """(inputs, outputs) of a case file, in order."""
    import numpy

    with numpy.load(path, allow_pickle=False) as data:
        return tuple(
            [data["%s_%d" % (kind, index)] for index in range(sum(name.startswith(kind + "_") for name in data.files))]
            for kind in ("input", "output")
        )


def check_inputs(job, inputs):
    if len(inputs) != len(job.input["inputs"]):
        raise BadInput("the case has %d inputs, the model %d" % (len(inputs), len(job.input["inputs"])))


def subgraph(job):
    """The smallest piece of a refused model that the library still refuses."""
    from worker import subgraph_search

    _adapter(job)
    return subgraph_search.reduce(job)
