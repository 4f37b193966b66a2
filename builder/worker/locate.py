"""The job `locate`: one step of the search for the first tensor that goes wrong, whose order builder/locate_search.py gives.

    part outline    what of the engine's model can be held against the exported one
    part reference  values of tensors of the exported model in FP32, by ONNX Runtime on the CPU, no optimisation
    part engine     an engine of the same model with these tensors among its outputs: built, loaded, run, held against them
    part cut        a piece of the model as a file: built and run on the reference's own values

The error of a tensor is |got - ref| / |ref|, by Euclidean norms (the inverse of the signal-to-noise ratio): one figure that
does not hang on the tensor's scale, nor on one element of a million. Of whole numbers and truth values it is the share of
those that differ. docs/accuracy.md has what is made of it.
"""

import math
import os

from worker import adapters, compare, engines, jobs, locate_model, subgraph
from worker.jobs import BadInput


def locate(job):
    """See README.md. Raises BadInput for a part that there is not, or a model that cannot be read."""
    part = {"outline": _outline, "reference": _reference, "engine": _engine, "cut": _cut}.get(job.input.get("part"))
    if part is None:
        raise BadInput("no part %r of locate" % job.input.get("part"))
    try:
        return part(job)
    except subgraph.Damaged as error:
        raise BadInput("%s is no model to look into: %s" % (os.path.basename(job.input["model"]), error))


def _outline(job):
    with job.stage("parse"):
        found = locate_model.outline(subgraph.read(job.input["plain"]), subgraph.read(job.input["model"]))
    # Dimensions that are symbols, as they are in the case: what a tensor takes is known before it is marked.
    case, _ = engines.arrays(job.input["case"])
    sizes = {}
    for item, array in zip(job.input["inputs"], case):
        sizes.update((dim, size) for dim, size in zip(item["shape"] or [], array.shape) if not isinstance(dim, int))
    for about in found["types"].values():
        about[1] = about[1] and [sizes.get(dim, dim) for dim in about[1]]
    return found


def _reference(job):
    """{"values": file, "tensors": {name: {"dtype", "shape", "bytes", "scale", "noise"}}}. `noise` is the error of a second
    run, with every optimisation: other kernels and orders of summation for the same mathematics."""
    import numpy

    names = job.input["names"]
    path = job.path("marked.onnx")
    with job.stage("parse"):
        locate_model.mark(job.input["model"], path, names, job.input.get("data") or ())
    inputs, _ = engines.arrays(job.input["case"])
    feed = dict(zip([item["name"] for item in job.input["inputs"]], inputs))
    with job.stage("run"):
        first = _answer(path, names, feed, "ORT_DISABLE_ALL")
        second = _answer(path, names, feed, "ORT_ENABLE_ALL")
    numpy.savez(job.path("values.npz"), **{"tensor_%d" % index: array for index, array in enumerate(first)})
    tensors = {}
    for name, array, again in zip(names, first, second):
        tensors[name] = {
            "dtype": str(array.dtype), "shape": list(array.shape), "bytes": int(array.nbytes),
            "noise": difference(array, again)["error"],
        }  # fmt: skip
    return {"values": "values.npz", "tensors": tensors}


def _answer(path, names, feed, level):
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return [numpy.asarray(array) for array in session.run(names, feed)] if names else []


def values(job):
    """{tensor: the reference's value}."""
    import numpy

    with numpy.load(job.input["values"], allow_pickle=False) as data:
        return {name: data["tensor_%d" % index] for index, name in enumerate(job.input["names"])}


def _engine(job):
    """{"tensors": {name: difference}, "outputs": [difference and `name`, `allowed`], "comparison": as of `run`}."""
    marks = job.input["marks"]
    wanted = [item["name"] for item in job.input["outputs"]]
    places = [place for _, place in marks if place not in wanted]
    inner = _inner(job, places)
    inputs, expected = engines.arrays(job.input["case"])
    engines.check_inputs(job, inputs)
    got = _run(job, inner, inputs)
    found = dict(zip([item["name"] for item in inner.input["outputs"]], got))
    with job.stage("compare"):
        reference = values(job)
        tolerance = job.input.get("tolerance") or {}
        tensors = {name: difference(reference[name], found.get(place)) for name, place in marks}
        outputs = [
            dict(difference(array, found.get(name)), name=name, allowed=allowed(array, tolerance))
            for name, array in zip(wanted, expected)
        ]
        comparison = compare.compare(
            [(job.input["label"], expected, got[: len(wanted)])], wanted, tolerance, job.input.get("metric"),
            job.input.get("precision"),
        )  # fmt: skip
    return {"tensors": tensors, "outputs": outputs, "comparison": comparison}


def _inner(job, places):
    """The job of building with these tensors marked: by the adapter where it can (`marks`), else in the file."""
    adapter = adapters.get(job.input["adapter"])
    outputs = job.input["outputs"] + [{"name": place, "dtype": None, "shape": None} for place in places]
    given = dict(job.input, outputs=outputs)
    if places and getattr(adapter, "MARKS", False):
        given["mark"] = places
    elif places:
        given["model"] = job.path("marked.onnx")
        locate_model.mark(job.input["model"], given["model"], places, job.input.get("data") or ())
    return jobs.Job(job.kind, given, job.dir, job._tell)


def _run(job, inner, inputs):
    """Build, load and run; the stages are the outer job's."""
    adapter = adapters.get(job.input["adapter"])
    try:
        built = adapter.build(inner)
        with inner.stage("load"):
            engine = adapter.load(inner, inner.path(built["engine"]))
        with inner.stage("run"):
            return engine.run(inputs)
    finally:
        job.stages.extend(inner.stages)
        job.current = inner.current


def _cut(job):
    """{"model": file, "inputs": file of what it was run on, "nodes", "error", ...difference} of the nodes `indices`, which
    give `ends`; the first of these is held against the reference's `tensor`. {"untyped": tensor} when nobody knows the type of
    one at its edge. Inputs of the whole model keep the case's values."""
    import numpy

    with job.stage("parse"):
        model = subgraph.read(job.input["model"])
        for name, (dtype, shape) in job.input["types"].items():
            element = next((number for number, text in locate_model.DTYPES.items() if text == dtype), None)
            if name not in model.types and element is not None:
                model.learn(name, element, shape)
        try:
            data = model.cut(job.input["indices"], outputs=job.input["ends"])
        except subgraph.Untyped as error:
            return {"untyped": error.name}
        piece = subgraph.Model(data)
        with open(job.path("subgraph.onnx"), "wb") as file:
            file.write(data)
    case, _ = engines.arrays(job.input["case"])
    known = dict(zip([item["name"] for item in job.input["inputs"]], case))
    reference = values(job)
    names = [name for name in piece.inputs if name not in piece.weights]
    missing = [name for name in names if name not in known and name not in reference]
    if missing:
        raise BadInput("no value of %s" % ", ".join(missing))
    feed, signatures = [], []
    for name in names:
        _, element, shape = subgraph.signature(piece.types[name])
        array = known.get(name, reference.get(name))
        dtype = locate_model.DTYPES.get(element, str(array.dtype))
        feed.append(numpy.ascontiguousarray(saturate(array, dtype).astype(dtype)))
        signatures.append({"name": name, "dtype": dtype, "shape": list(array.shape)})
    expected = reference[job.input["tensor"]]
    numpy.savez(
        job.path("subgraph.npz"), output_0=expected, **{"input_%d" % at: array for at, array in enumerate(feed)}
    )
    outputs = [{"name": name, "dtype": None, "shape": None} for name in job.input["ends"]]
    given = dict(job.input, model=job.path("subgraph.onnx"), data=[], inputs=signatures, outputs=outputs)
    given["profile"] = {name: at for name, at in (job.input.get("profile") or {}).items() if name in names} or None
    got = _run(job, jobs.Job(job.kind, given, job.dir, job._tell), feed)
    nodes = [model.nodes[index] for index in sorted(job.input["indices"])]
    return dict(
        difference(expected, got[0]), model="subgraph.onnx", inputs="subgraph.npz", of=len(model.nodes),
        nodes=[node.name or "node %d" % node.index for node in nodes], operators=[node.operator for node in nodes],
    )  # fmt: skip


def difference(expected, got):
    """{"error": |got - ref| / |ref| or None where that is no number, "wrong": whether NaN or infinity stands where it should
    not, the shape differs, or nothing came, "reason", "broken": values that are not finite and should be (or the other way),
    "max_abs", "scale": largest of the reference, "dtype": of what came}."""
    import numpy

    out = {"error": None, "wrong": True, "reason": "", "broken": 0, "max_abs": None, "scale": None, "dtype": None}
    if got is None:
        return dict(out, reason="the engine did not give it")
    expected, got = numpy.asarray(expected), numpy.asarray(got)
    out["dtype"] = str(got.dtype)
    if expected.shape != got.shape:
        return dict(out, reason="shape %s, the reference %s" % (list(got.shape), list(expected.shape)))
    if expected.dtype.kind not in "fiub" or got.dtype.kind not in "fiub":
        return dict(out, wrong=False, reason="values of type %s are not compared" % got.dtype)
    if not expected.size:
        return dict(out, error=0.0, wrong=False)
    if expected.dtype.kind in "iub":
        unequal = float((expected != got).mean())
        return dict(out, error=unequal, wrong=False)
    with numpy.errstate(all="ignore"):
        a, b = expected.astype("float64").ravel(), got.astype("float64").ravel()
        # What stands for "never" may be any very large number, or infinity: the same by either, and no part of the scale.
        never = masked(a) & (numpy.sign(a) == numpy.sign(b)) & (numpy.abs(b) >= HALF)
        fits = numpy.isfinite(a) & numpy.isfinite(b) & ~never
        broken = int((~(fits | never | (numpy.isnan(a) & numpy.isnan(b)) | (a == b))).sum())
        gap = numpy.where(fits, a - b, 0.0)
        base = numpy.where(fits, a, 0.0)
        size, away = compare._norm(base), compare._norm(gap)
    out.update(broken=broken, wrong=broken > 0, max_abs=float(numpy.abs(gap).max()), scale=float(numpy.abs(base).max()))
    if broken:
        out["reason"] = "%d of %d values are not finite, or should not be" % (broken, a.size)
    elif size:
        error = away / size
        out["error"] = error if math.isfinite(error) else None
        out["wrong"] = out["error"] is None
    else:
        out.update(
            error=0.0 if not away else None, wrong=bool(away), reason="the reference is all zero" if away else ""
        )
    return out


#: A value that stands for "never" in a mask: exporters write the lowest of float32 (-3.4e38), or -1e9, -1e30; in half
#: precision that becomes the lowest of its own, whose magnitude is HALF.
MASK, HALF = 1e9, 65504.0


def masked(array):
    """Where a float64 array has a mask's "never": very large numbers that are all one and the same, a score's worth apart. Values
    of a network that are as large differ."""
    import numpy

    large = numpy.abs(array) >= MASK
    finite = numpy.abs(array[large & numpy.isfinite(array)])
    if finite.size and float(finite.max()) - float(finite.min()) > 1e-6 * float(finite.max()):
        return numpy.isinf(array)
    return large


def saturate(array, dtype):
    """A reference's values as far as a type can hold them: a mask's stay as large as can be. Anything else that the type cannot
    hold becomes infinity, as it does in the engine."""
    import numpy

    if array.dtype.kind != "f" or dtype != "float16":
        return array
    never = masked(array.astype("float64")) & numpy.isfinite(array)
    return numpy.where(never, numpy.clip(array, -HALF, HALF), array)


def allowed(expected, tolerance):
    """The largest error that an output within the recipe's tolerance can have, or None without one.

    By atol and rtol: |got - ref| <= atol + rtol |ref| for each element gives, by the triangle inequality of the norm,
    an error of at most rtol + atol / rms(ref). By cosine c: whatever is farther from ref than an angle of arccos(c) has an
    error of at least sqrt(1 - c^2), so below that the cosine is met."""
    import numpy

    expected = numpy.asarray(expected)
    if expected.dtype.kind != "f" or not expected.size:
        return None
    limits = []
    if tolerance.get("atol") is not None or tolerance.get("rtol") is not None:
        rms = compare._norm(expected.astype("float64").ravel()) / math.sqrt(expected.size)
        atol = float(tolerance.get("atol") or 0)
        if rms or not atol:
            limits.append(float(tolerance.get("rtol") or 0) + (atol / rms if atol else 0.0))
    if tolerance.get("cosine") is not None:
        limits.append(math.sqrt(max(0.0, 1.0 - max(0.0, float(tolerance["cosine"])) ** 2)))
    return min(limits) if limits else None
