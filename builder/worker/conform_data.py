"""The cases of a suite in one file: models, inputs and expected outputs, read without the onnx package.

The file is an uncompressed zip in the layout of the ONNX project's own test data (`CASE/model.onnx`,
`CASE/test_data_set_0/input_0.pb`, ...), so that any tool can take a case out of it. Its member `index.json` says where in
the zip the bytes of each model and of each tensor's `raw_data` lie, and the zip's comment where the index lies: a case
costs a few slices of a mapped file.

    {"format": 1, "package": "onnx", "version": "1.23.2", "kind": "node", "cases": [
       {"name": "test_abs", "operator": "Abs", "domain": "", "opset": 13, "rtol": 0.001, "atol": 1e-07,
        "model": [offset, bytes], "inputs": [VALUE], "outputs": [VALUE]}]}
    VALUE: {"name", "kind": "tensor", "type": TensorProto.DataType, "shape": [2, 3], "at": [offset, bytes]}
         | {"name", "kind": "strings", "shape": [2], "text": ["a", "b"]}
         | {"name", "kind": "sequence", "items": [VALUE]} | {"name", "kind": "none"}
"""

import json
import mmap
import re

FORMAT = 1
COMMENT = re.compile(rb"enginematrix-cases (\d+) (\d+)$")

#: TensorProto.DataType -> NumPy's name of it (onnx.proto, enum DataType).
NUMPY = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128",
}  # fmt: skip
#: Those that NumPy lacks -> name, bits, and how a code becomes a number.
CODED = {
    16: ("bfloat16", 16), 17: ("float8e4m3fn", 8), 18: ("float8e4m3fnuz", 8), 19: ("float8e5m2", 8),
    20: ("float8e5m2fnuz", 8), 21: ("uint4", 4), 22: ("int4", 4), 23: ("float4e2m1", 4), 24: ("float8e8m0", 8),
    25: ("uint2", 2), 26: ("int2", 2),
}  # fmt: skip
#: (bits of the exponent, bits of the mantissa, bias, which codes are not finite) of the small floating-point types:
#: https://onnx.ai/onnx/technical/float8.html and float4.html, there
_SMALL = {
    "float8e4m3fn": (4, 3, 7, "fn"), "float8e4m3fnuz": (4, 3, 8, "fnuz"), "float8e5m2": (5, 2, 15, "ieee"),
    "float8e5m2fnuz": (5, 2, 16, "fnuz"), "float4e2m1": (2, 1, 1, "none"),
}  # fmt: skip


class BadCases(Exception):  # noqa: N818
    """The file is not what it should be: a mistake of the host's, not of an engine's."""


class Coded:
    """A tensor of a type that NumPy lacks: `type` (TensorProto.DataType), `shape`, and its bytes as ONNX packs them."""

    def __init__(self, type, shape, data):
        self.type, self.shape, self.data = type, tuple(shape), bytes(data)

    @property
    def name(self):
        return CODED[self.type][0]

    @property
    def size(self):
        size = 1
        for dimension in self.shape:
            size *= dimension
        return size

    def codes(self):
        """One unsigned integer per element. Of packed types the first element lies in the lowest bits (onnx.proto)."""
        import numpy

        bits = CODED[self.type][1]
        if bits >= 8:
            return numpy.frombuffer(self.data, "<u%d" % (bits // 8))
        parts = numpy.frombuffer(self.data, "u1")
        shifts = numpy.arange(0, 8, bits, dtype="u1")
        return (parts[:, None] >> shifts & numpy.uint8((1 << bits) - 1)).ravel()[: self.size]

    def numbers(self):
        """The elements as float64, in the tensor's shape."""
        import numpy

        name, bits = CODED[self.type]
        codes = self.codes()
        if name == "bfloat16":
            out = (codes.astype("u4") << 16).view("f4").astype("f8")
        elif name.startswith("uint"):
            out = codes.astype("f8")
        elif name.startswith("int"):
            half = 1 << (bits - 1)
            out = ((codes.astype("i4") ^ half) - half).astype("f8")
        else:
            out = numpy.array(_table(name, bits))[codes]
        return out.reshape(self.shape)


_TABLES = {}


def _table(name, bits):
    """Every code's number, of a small floating-point type."""
    if name not in _TABLES:
        if name == "float8e8m0":  # a power of two alone; 255 is NaN
            _TABLES[name] = [2.0 ** (code - 127) for code in range(255)] + [float("nan")]
        else:
            _TABLES[name] = [_number(code, bits, *_SMALL[name]) for code in range(1 << bits)]
    return _TABLES[name]


def _number(code, bits, exponent_bits, mantissa_bits, bias, special):
    sign = -1.0 if code >> (bits - 1) else 1.0
    exponent = code >> mantissa_bits & ((1 << exponent_bits) - 1)
    mantissa = code & ((1 << mantissa_bits) - 1)
    full = exponent == (1 << exponent_bits) - 1
    if special == "fnuz" and code == 1 << (bits - 1):
        return float("nan")
    if special == "fn" and full and mantissa == (1 << mantissa_bits) - 1:
        return float("nan")
    if special == "ieee" and full:
        return sign * float("inf") if mantissa == 0 else float("nan")
    if exponent == 0:
        return sign * mantissa * 2.0 ** (1 - bias - mantissa_bits)
    return sign * (1 + mantissa / float(1 << mantissa_bits)) * 2.0 ** (exponent - bias)


class Cases:
    """The cases of a file, by name. Raises BadCases."""

    def __init__(self, path):
        try:
            with open(path, "rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise BadCases("the file of cases cannot be read: %s" % error)
        match = COMMENT.search(self._data[-100:])
        if match is None:
            raise BadCases("not a file of cases: its comment does not say where the index is")
        start, size = int(match.group(1)), int(match.group(2))
        try:
            index = json.loads(self._data[start : start + size].decode("utf-8"))
        except ValueError as error:
            raise BadCases("not a file of cases: %s" % error)
        if index.get("format") != FORMAT:
            raise BadCases("a file of cases of format %r; this program reads %d" % (index.get("format"), FORMAT))
        self.about = {key: index[key] for key in ("package", "version", "kind")}
        self.cases = {case["name"]: case for case in index["cases"]}

    def model(self, case):
        """The model's bytes (ModelProto)."""
        return self._slice(case["model"])

    def inputs(self, case):
        """[(name, value)]: arrays, `Coded`, lists of these, None for an optional that is absent."""
        return [(value["name"], self._value(value)) for value in case["inputs"]]

    def outputs(self, case):
        return [(value["name"], self._value(value)) for value in case["outputs"]]

    def _slice(self, at):
        return self._data[at[0] : at[0] + at[1]]

    def _value(self, value):
        import numpy

        kind = value["kind"]
        if kind == "tensor":
            if value["type"] in CODED:
                return Coded(value["type"], value["shape"], self._slice(value["at"]))
            # A slice of a map is a copy, aligned as any allocation; the array over it is made writable by copying again,
            # since some libraries refuse a read-only one.
            return numpy.frombuffer(self._slice(value["at"]), NUMPY[value["type"]]).reshape(value["shape"]).copy()
        if kind == "strings":
            return numpy.array(value["text"], dtype=object).reshape(value["shape"])
        if kind == "sequence":
            return [self._value(item) for item in value["items"]]
        return None
