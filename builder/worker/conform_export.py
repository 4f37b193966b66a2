"""The ONNX project's own node tests as a file of cases: job `suite`, in an environment that has the onnx package.

`onnx.backend.test.loader.load_model_tests(kind="node")` gives them: made in process in new releases, read from a folder
of the package up to about 1.18. What is written is laid down in conform_data.py.

    python -m worker.conform_export --list        prints what there is, as builder/suites/ keeps it
"""

import glob
import json
import os
import re
import sys
import warnings
import zipfile

from worker import conform_data

FILE = "cases.zip"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def suite(job):
    """Write the cases asked for. Raises ValueError when the package has other cases than the suite's list names."""
    asked = job.input["suite"]
    with job.stage("obtain"):
        cases = load(asked["kind"])
        version = _version()
        if version != asked["version"]:
            raise ValueError("the environment has onnx %s, the suite is of %s" % (version, asked["version"]))
        named, found = set(job.input["names"]), {case.name for case in cases}
        if named != found:
            text = "onnx %s has %d cases, the suite's list %d; only in the package: %s; only in the list: %s"
            more, less = sorted(found - named)[:3], sorted(named - found)[:3]
            raise ValueError(text % (version, len(found), len(named), ", ".join(more), ", ".join(less)))
    with job.stage("export"):
        write(job.path(FILE), cases, dict(asked, version=version))
    return {"cases": FILE, "number": len(cases)}


def _version():
    import onnx

    return onnx.__version__


def load(kind):
    """The package's test cases, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tests themselves overflow and divide by zero on purpose
        from onnx.backend.test.loader import load_model_tests

        return sorted(load_model_tests(kind=kind), key=lambda case: case.name)


def listing(cases):
    """[[name, operator, domain, opset]] of cases: what the tracked list of a suite has."""
    models = {case.name: _model(case) for case in cases}
    return [[case.name] + list(_subject(case.name, models)) for case in cases]


def _subject(name, models):
    """(operator, domain, opset) that a case is about. `NAME_expanded` has the body of the operator's function in place of
    the operator of the case NAME."""
    model = models[name]
    plain = re.sub("_expanded.*$", "", name)
    nodes = models.get(plain, model).graph.node
    domain = nodes[0].domain
    versions = {item.domain: item.version for item in model.opset_import}
    # An expanded body may be without the operator's own domain.
    return nodes[0].op_type, domain, versions.get(domain, versions.get("", max(versions.values())))


def _model(case):
    import onnx

    if case.model is not None:
        return case.model
    return onnx.load(os.path.join(case.model_dir, "model.onnx"))


def write(path, cases, about):
    """The same cases give the same bytes."""
    models = {case.name: _model(case) for case in cases}
    entries = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for case in cases:
            model = models[case.name]
            operator, domain, opset = _subject(case.name, models)
            inputs, outputs = _data(case, model)
            entry = {
                "name": case.name, "operator": operator, "domain": domain, "opset": opset, "rtol": case.rtol, "atol": case.atol,
                "model": _put(archive, "%s/model.onnx" % case.name, model.SerializeToString(deterministic=True)),
            }  # fmt: skip
            for kind, values, infos in (("input", inputs, model.graph.input), ("output", outputs, model.graph.output)):
                entry[kind + "s"] = [
                    _value(archive, "%s/test_data_set_0/%s_%d.pb" % (case.name, kind, index), value, info.name)
                    for index, (value, info) in enumerate(zip(values, infos))
                ]
                if len(values) != len(infos):
                    text = "%s has %d %ss and data for %d"
                    raise ValueError(text % (case.name, len(infos), kind, len(values)))
            entries.append(entry)
        index = dict({"format": conform_data.FORMAT, "cases": entries}, **about)
        start, size = _put(archive, "index.json", json.dumps(index, sort_keys=True).encode("utf-8"))
        archive.comment = b"enginematrix-cases %d %d" % (start, size)


def _put(archive, name, data):
    """Write a member; [offset of its first byte in the zip, bytes]."""
    info = zipfile.ZipInfo(name, _EPOCH)
    info.external_attr = 0o644 << 16
    archive.writestr(info, data)
    # local file header: 30 bytes, the name, the extra field (APPNOTE.TXT 4.3.7)
    return [info.header_offset + 30 + len(name.encode("utf-8")) + len(info.extra), len(data)]


def _data(case, model):
    """(inputs, outputs) of a case's data set, as TensorProto, SequenceProto, OptionalProto, arrays, lists or None. Raises
    ValueError for a case of several data sets: none was ever seen among the node tests."""
    if case.data_sets is not None:
        if len(case.data_sets) != 1:
            raise ValueError("%s has %d data sets" % (case.name, len(case.data_sets)))
        return [list(values) for values in case.data_sets[0]]
    folders = glob.glob(os.path.join(case.model_dir, "test_data_set_*"))
    if len(folders) != 1:
        raise ValueError("%s has %d data sets" % (case.name, len(folders)))
    out = []
    for kind, infos in (("input", model.graph.input), ("output", model.graph.output)):
        paths = [os.path.join(folders[0], "%s_%d.pb" % (kind, index)) for index in range(len(infos))]
        out.append([_read(path, info) for path, info in zip(paths, infos) if os.path.exists(path)])
    return out


def _read(path, info):
    import onnx

    kind = info.type.WhichOneof("value")
    make = {"sequence_type": onnx.SequenceProto, "optional_type": onnx.OptionalProto}.get(kind, onnx.TensorProto)
    proto = make()
    with open(path, "rb") as file:
        proto.ParseFromString(file.read())
    return proto


def _value(archive, path, value, name):
    """Write one value; its entry in the index."""
    import onnx

    if isinstance(value, onnx.OptionalProto):
        field = {1: "tensor_value", 3: "sequence_value"}.get(value.elem_type)
        if value.elem_type not in (0, 1, 3):
            raise ValueError("%s: an optional of kind %d" % (path, value.elem_type))
        value = getattr(value, field) if field and value.HasField(field) else None
    if isinstance(value, onnx.SequenceProto):
        value = list(value.tensor_values)
    if value is None:
        return {"name": name, "kind": "none"}
    if isinstance(value, (list, tuple)):
        items = [_value(archive, path[:-3] + "_%d.pb" % index, item, name) for index, item in enumerate(value)]
        return {"name": name, "kind": "sequence", "items": items}
    proto = _tensor(value, name)
    data = proto.SerializeToString(deterministic=True)
    start, size = _put(archive, path, data)
    if proto.data_type == onnx.TensorProto.STRING:
        text = [item.decode("utf-8") for item in proto.string_data]
        return {"name": name, "kind": "strings", "shape": list(proto.dims), "text": text}
    # raw_data is field 9, the last that is written here: its bytes end the message.
    raw = proto.raw_data
    if not data.endswith(raw):
        raise ValueError("%s: raw_data is not where it was expected" % path)
    at = [start + size - len(raw), len(raw)]
    return {"name": name, "kind": "tensor", "type": proto.data_type, "shape": list(proto.dims), "at": at}


def _tensor(value, name):
    """A TensorProto with its elements in `raw_data` (or `string_data`), and nothing else that takes bytes."""
    import numpy
    import onnx
    from onnx import numpy_helper

    if not isinstance(value, onnx.TensorProto):
        value = numpy_helper.from_array(numpy.asarray(value))
    elif not value.HasField("raw_data") and value.data_type != onnx.TensorProto.STRING:
        # Old releases read types that NumPy lacks as float32: those have to be raw.
        array = numpy_helper.to_array(value)
        again = numpy_helper.from_array(array)
        if again.data_type != value.data_type:
            raise ValueError("%s: this onnx cannot rewrite elements of type %d" % (name, value.data_type))
        value = again
    out = onnx.TensorProto()
    out.CopyFrom(value)
    out.name = name
    out.ClearField("doc_string")
    return out


if __name__ == "__main__":
    if sys.argv[1:] != ["--list"]:
        sys.exit(__doc__)
    json.dump({"version": _version(), "kind": "node", "cases": listing(load("node"))}, sys.stdout)
