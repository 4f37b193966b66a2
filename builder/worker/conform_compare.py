"""Outputs of a case against the expected ones, by the rules of the onnx package's own runner.

`Runner.assert_similar_outputs` of onnx/backend/test/runner/__init__.py: as many outputs, the same shapes, the same types,
equal text, and `|got - expected| <= atol + rtol * |expected|` with NaN equal to NaN and infinities equal to themselves;
bfloat16 is compared with a relative tolerance of at least two of its last places (2**-6). Unlike `worker.compare` it
knows sequences, optionals, strings and the types that NumPy lacks, and it measures no more than it needs: a suite has
thousands of cases of a few bytes each.
"""

from worker.conform_data import Coded

#: Two units in the last place of bfloat16, as the runner allows.
BFLOAT16 = 2.0**-6


def compare(expected, got, rtol, atol):
    """(reason, max_abs): '' when all outputs match. `expected` and `got` are lists of values (see conform_data);
    max_abs is the largest absolute difference of numbers, None when no finite numbers were compared."""
    if len(got) != len(expected):
        return "gave %d outputs, the case has %d" % (len(got), len(expected)), None
    worst = None
    for index, (want, have) in enumerate(zip(expected, got)):
        reason, most = _value(want, have, rtol, atol)
        worst = most if worst is None else max(worst, most or 0.0)
        if reason:
            return "output %d %s" % (index, reason), worst
    return "", worst


def _value(want, have, rtol, atol):
    if isinstance(want, list) or isinstance(have, (list, tuple)):
        if not (isinstance(want, list) and isinstance(have, (list, tuple))):
            return "is %s, expected %s" % (describe(have), describe(want)), None
        reason, most = compare(want, have, rtol, atol)
        return ("is a sequence: item %s" % reason.replace("output ", "", 1) if reason else ""), most
    if want is None or have is None:
        return ("" if want is have else "is %s, expected %s" % (describe(have), describe(want))), None
    return _tensor(want, have, rtol, atol)


def _tensor(want, have, rtol, atol):
    import numpy

    if tuple(have.shape) != tuple(want.shape):
        return "has shape %s, expected %s" % (list(have.shape), list(want.shape)), None
    if kind(have) != kind(want):
        return "is %s, expected %s" % (kind(have), kind(want)), None
    if kind(want) == "strings":
        equal = [text(a) == text(b) for a, b in zip(want.ravel(), have.ravel())]
        return ("" if all(equal) else "differs in %d of %d texts" % (equal.count(False), len(equal))), None
    if isinstance(want, Coded):
        if want.data == have.data:
            return "", 0.0
        if want.type == 16:
            rtol = max(rtol, BFLOAT16)
        want, have = want.numbers(), have.numbers()
    elif numpy.array_equal(want, have):
        return "", 0.0
    wide = "complex128" if want.dtype.kind == "c" else "float64"
    return _numbers(want.astype(wide, copy=False), have.astype(wide, copy=False), rtol, atol)


def _numbers(want, have, rtol, atol):
    """Two arrays of one shape and of a wide type; equal bits were told before."""
    import numpy

    with numpy.errstate(all="ignore"):
        finite = numpy.isfinite(want) & numpy.isfinite(have)
        same = finite | (want == have) | (numpy.isnan(want) & numpy.isnan(have))
        difference = numpy.abs(have - want)
        # Where not finite the difference is none to judge by; `same` has judged already.
        wrong = ~same | (finite & ~(difference <= atol + rtol * numpy.abs(want)))
    most = float(difference[finite].max()) if finite.any() else None
    count = int(wrong.sum())
    if not count:
        return "", most
    if not same.all():
        return "has NaN or infinity in other places than expected (%d of %d values)" % (
            int((~same).sum()),
            want.size,
        ), most
    return "differs in %d of %d values, by up to %.6g" % (count, want.size, most), most


def kind(value):
    """A type in words: `float32`, `bfloat16`, `strings`."""
    if isinstance(value, Coded):
        return value.name
    return "strings" if value.dtype.kind in "OUS" else str(value.dtype)


def describe(value):
    if value is None:
        return "nothing"
    if isinstance(value, (list, tuple)):
        return "a sequence of %d" % len(value)
    return "%s %s" % (kind(value), list(value.shape))


def text(item):
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
