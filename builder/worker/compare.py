"""Outputs against the reference. Whatever cannot be compared is told as such; it never counts as a match.

Per element: |got - ref| <= atol + rtol * |ref|, in float64, where both are finite; NaN, +inf and -inf must stand in the
same places. Per output also mean, maximum and 99th percentile of the absolute difference, the relative one, cosine,
SNR.
"""

import math

#: The relative difference is taken over at least this share of the reference's largest magnitude, so that values near
#: zero do not rule it.
FLOOR = 1e-3


def compare(cases, names, tolerance, metric=None, precision=None, extra=()):
    """The `comparison` of README.md.

    `cases` is [(label, reference arrays, arrays got or None for a missing one)], `names` the outputs in order,
    `tolerance` has any of `atol`, `rtol` (an element must pass both as one sum), `mismatch` (share of elements that may
    fail, default 0), `cosine` (minimum). With `cosine` alone, the elements are measured and not judged.
    `metric` is {"name", "minimum": number or {precision: number}} or None. `extra` are outputs that nobody asked for.
    """
    outputs = []
    for label, reference, got in cases:
        if len(reference) != len(names):
            reason = "the reference has %d outputs, the model %d" % (len(reference), len(names))
            outputs.append(_entry(label, "", "mismatch", reason))
            continue
        for name, expected, array in zip(names, reference, got):
            outputs.append(dict(_entry(label, name, "match", ""), **one(expected, array, tolerance)))
    judged = judge_metric(metric, precision, cases) if metric else None
    verdict, reason = _verdict(outputs, tolerance, judged, list(extra))
    kept = {key: tolerance[key] for key in ("atol", "rtol", "mismatch", "cosine") if key in tolerance}
    for entry in outputs:
        entry.pop("compared", None)
    return {"verdict": verdict, "reason": reason, "tolerance": kept, "outputs": outputs, "metric": judged}


def _entry(label, name, verdict, reason):
    return {
        "case": label, "name": name, "dtype": None, "shape": None, "nonfinite_equal": None, "mismatched": None,
        "max_abs": None, "mean_abs": None, "p99_abs": None, "max_rel": None, "cosine": None, "snr_db": None,
        "verdict": verdict, "reason": reason,
    }  # fmt: skip


def _verdict(outputs, tolerance, metric, extra):
    """(verdict, reason): the worst of all; `none` when nothing was judged."""
    bad = [entry for entry in outputs if entry["verdict"] == "mismatch"]
    if bad:
        return "mismatch", "output %s of case %s: %s" % (bad[0]["name"] or "?", bad[0]["case"], bad[0]["reason"])
    if extra:
        return "mismatch", "the engine has outputs that the model has not: %s" % ", ".join(extra)
    if metric and metric["verdict"] == "mismatch":
        return "mismatch", "%s is %.6g, the minimum %.6g" % (metric["name"], metric["value"], metric["minimum"])
    if not any(tolerance.get(name) is not None for name in ("atol", "rtol", "cosine")):
        return "none", "no tolerance to judge by"
    unjudged = [entry for entry in outputs if entry["verdict"] == "none"]
    if unjudged:
        return "none", "output %s of case %s: %s" % (unjudged[0]["name"], unjudged[0]["case"], unjudged[0]["reason"])
    if not sum(entry.get("compared", 0) for entry in outputs):
        return "none", "no value was compared"
    if metric and metric["verdict"] != "match":
        return "none", "the metric %s could not be formed: %s" % (metric["name"], metric["reason"])
    return "match", ""


def one(expected, got, tolerance):
    """One output: its measures, verdict and reason; `compared` is how many values were."""
    import numpy

    if got is None:
        return {"verdict": "mismatch", "reason": "missing", "compared": 0}
    expected, got = numpy.asarray(expected), numpy.asarray(got)
    out = {"dtype": str(got.dtype), "shape": list(got.shape), "compared": 0, "verdict": "match", "reason": ""}
    reasons = []
    if got.dtype != expected.dtype:
        reasons.append("is %s, the reference %s" % (got.dtype, expected.dtype))
    if got.shape != expected.shape:
        reasons.append("has shape %s, the reference %s" % (list(got.shape), list(expected.shape)))
    if got.shape != expected.shape or got.dtype.kind not in "fiub" or expected.dtype.kind not in "fiub":
        if not reasons:
            return dict(out, verdict="none", reason="values of type %s are not compared" % got.dtype)
        return dict(out, verdict="mismatch", reason="; ".join(reasons))
    measures = measure(expected, got, float(tolerance.get("atol") or 0), float(tolerance.get("rtol") or 0))
    out.update(measures)
    if not out["nonfinite_equal"]:
        reasons.append("NaN or infinity stands in other places than in the reference")
    if tolerance.get("atol") is not None or tolerance.get("rtol") is not None:
        allowed = float(tolerance.get("mismatch") or 0)
        if out["mismatched"] > allowed:
            reasons.append("%.4g %% of the values exceed the tolerance" % (100 * out["mismatched"]))
    else:
        out["mismatched"] = None  # nothing says what a mismatched element would be
    least = tolerance.get("cosine")
    if least is not None and out["cosine"] is not None and not out["cosine"] >= float(least):
        reasons.append("cosine %.6g is below %.6g" % (out["cosine"], float(least)))
    if reasons:
        out.update(verdict="mismatch", reason="; ".join(reasons))
    return out


def measure(expected, got, atol, rtol):
    """The numbers of two arrays of equal shape. A number that cannot be formed (nothing finite, no noise) is None:
    `cosine` needs values; it is 1 of two zero vectors and 0 of a zero and another; `snr_db` needs signal and noise."""
    import numpy

    out = {
        "nonfinite_equal": True, "mismatched": 0.0, "max_abs": None, "mean_abs": None, "p99_abs": None, "max_rel": None,
        "cosine": None, "snr_db": None, "compared": 0,
    }  # fmt: skip
    if expected.size == 0:
        return out
    integers = expected.dtype.kind in "iub" and got.dtype.kind in "iub"
    unequal = expected != got
    with numpy.errstate(all="ignore"):
        e, g = expected.astype("float64").ravel(), got.astype("float64").ravel()
        same = numpy.isfinite(e) & numpy.isfinite(g)
        # Equal non-finite: both NaN, or the same infinity.
        fits = same | (numpy.isnan(e) & numpy.isnan(g)) | (numpy.isinf(e) & (e == g))
        out["nonfinite_equal"] = bool(fits.all())
        a, b = e[same], g[same]
        difference = numpy.abs(a - b)
        if integers:  # beyond 2**53 two integers may meet in one float64
            difference = numpy.where(unequal.ravel(), numpy.maximum(difference, 1.0), 0.0)
        wrong = difference > atol + rtol * numpy.abs(a)
        out["mismatched"] = float((wrong.sum() + (~fits).sum()) / float(e.size))
        out["compared"] = int(same.sum())
        if not a.size:
            return out
        largest = float(numpy.abs(a).max())
        out["max_abs"] = float(difference.max())
        out["mean_abs"] = float(difference.mean())
        out["p99_abs"] = float(numpy.percentile(difference, 99))
        floor = largest * FLOOR or 1.0
        out["max_rel"] = float((difference / numpy.maximum(numpy.abs(a), floor)).max())
        out["cosine"] = cosine(a, b)
        noise = _norm(difference)
        if largest and noise:
            # By the norms' logarithms: their squares may overflow.
            out["snr_db"] = 20 * (math.log10(_norm(a)) - math.log10(noise))
    for key, value in list(out.items()):
        if isinstance(value, float) and not math.isfinite(value):  # a difference beyond float64
            out[key] = None if key != "max_abs" else float(numpy.finfo("float64").max)
    return out


def _norm(array):
    """Euclidean norm, scaled so that neither overflow nor underflow of the squares falsifies it."""
    import numpy

    scale = float(numpy.abs(array).max()) if array.size else 0.0
    if scale == 0.0 or not math.isfinite(scale):
        return scale
    return scale * math.sqrt(float(((array / scale) ** 2).sum()))


def cosine(a, b):
    """Cosine of two vectors of finite values; 1 of two zero vectors, 0 of a zero and another."""
    import numpy

    first, second = float(numpy.abs(a).max()), float(numpy.abs(b).max())
    if first == 0.0 or second == 0.0:
        return 1.0 if first == second else 0.0
    a, b = a / first, b / second
    value = float(a.dot(b)) / math.sqrt(float(a.dot(a)) * float(b.dot(b)))
    return max(-1.0, min(1.0, value))


def judge_metric(metric, precision, cases):
    """The recipe's own measure over all cases: {"name", "value", "minimum", "verdict", "reason"}."""
    least = metric.get("minimum")
    if isinstance(least, dict):
        least = least.get(precision)
    out = {"name": metric["name"], "value": None, "minimum": least, "verdict": "none", "reason": ""}
    function = METRICS.get(metric["name"])
    if function is None:
        return dict(out, reason="there is no metric of that name; there are %s" % ", ".join(sorted(METRICS)))
    index = int(metric.get("output") or 0)
    pairs = []
    for _, expected, got in cases:
        if (
            index >= len(expected)
            or index >= len(got)
            or got[index] is None
            or got[index].shape != expected[index].shape
        ):
            return dict(out, reason="the output is missing or of another shape")
        pairs.append((expected[index], got[index]))
    try:
        out["value"] = function(pairs)
    except ValueError as error:
        return dict(out, reason=str(error))
    if least is None:
        return dict(out, reason="no minimum for %s" % precision)
    return dict(out, verdict="match" if out["value"] >= float(least) else "mismatch")


def _rows(pairs):
    """(reference, got) as rows along the last axis that is longer than 1 (a classifier may give [N, 1000, 1, 1]), in
    float64. Raises ValueError when there are none."""
    import numpy

    if not pairs or any(expected.ndim < 1 or expected.size == 0 for expected, _ in pairs):
        raise ValueError("nothing to compare")
    for expected, got in pairs:
        width = next((size for size in reversed(expected.shape) if size > 1), 1)
        yield numpy.asarray(expected, "float64").reshape(-1, width), numpy.asarray(got, "float64").reshape(-1, width)


def top1_agreement(pairs):
    """Share of the rows whose largest value stands in the same place. A row with a NaN or an infinity agrees with
    none."""
    import numpy

    agree = total = 0
    for expected, got in _rows(pairs):
        finite = numpy.isfinite(expected).all(axis=1) & numpy.isfinite(got).all(axis=1)
        agree += int((finite & (expected.argmax(axis=1) == got.argmax(axis=1))).sum())
        total += len(expected)
    return agree / float(total)


def embedding_cosine(pairs):
    """The smallest cosine of any row with its reference. -1 for a row that is not finite."""
    import numpy

    least = 1.0
    for expected, got in _rows(pairs):
        for a, b in zip(expected, got):
            finite = numpy.isfinite(a).all() and numpy.isfinite(b).all()
            least = min(least, cosine(a, b) if finite else -1.0)
    return least


def mask_iou(pairs):
    """Mean intersection over union of the classes present in either mask, over all cases.

    Outputs are (N, classes, ...) scores: the class is the largest along axis 1; one channel is a score above 0.
    Positions with a value that is not finite belong to no class.
    """
    import numpy

    overlap, union = {}, {}
    for expected, got in pairs:
        if expected.ndim < 3 or expected.size == 0:
            raise ValueError("a mask needs at least three dimensions, not %d" % expected.ndim)
        masks = []
        for array in (expected, got):
            array = numpy.asarray(array, "float64")
            mask = (array[:, 0] > 0).astype(int) if array.shape[1] == 1 else array.argmax(axis=1)
            masks.append(numpy.where(numpy.isfinite(array).all(axis=1), mask, -1))
        for label in set(numpy.unique(masks[0]).tolist()) | set(numpy.unique(masks[1]).tolist()):
            a, b = masks[0] == label, masks[1] == label
            overlap[label] = overlap.get(label, 0) + (int((a & b).sum()) if label >= 0 else 0)
            union[label] = union.get(label, 0) + int((a | b).sum())
    if not union:
        raise ValueError("nothing to compare")
    return sum(overlap[label] / float(union[label]) for label in union) / len(union)


METRICS = {"top1-agreement": top1_agreement, "embedding-cosine": embedding_cosine, "mask-iou": mask_iou}
