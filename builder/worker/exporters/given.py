"""Models that are given as they are, without a script: an ONNX file, a callable, a TorchScript archive; and what of them is
made to fit the recipe. (SavedModels and frozen graphs: `tensorflow_given`.)

Where what was obtained holds the model is laid down in builder/sources.py (`model_name`); this is the worker's half.
"""

import contextlib
import importlib
import os
import posixpath
import sys
import types
import urllib.parse


def path(recipe, source):
    """Absolute path of the model in the folder of what was obtained. Raises ValueError when the recipe names none."""
    declared = recipe.get("source") or {}
    kind, name, entry = declared.get("kind"), declared.get("name", ""), declared.get("entry", "")
    if not source or not kind:
        raise ValueError("the recipe has neither a script with `model` nor a source that is the model")
    if kind == "url":
        # As builder/sources.py (file_name) has it.
        entry = posixpath.basename(urllib.parse.unquote(urllib.parse.urlsplit(name).path)) or "download"
    elif kind == "file":
        entry = posixpath.basename(name)
    elif kind == "folder":
        entry = (
            posixpath.join(posixpath.basename(name.rstrip("/")), entry)
            if entry
            else posixpath.basename(name.rstrip("/"))
        )
    if not entry:
        raise ValueError("the recipe's source names no `entry`: which of its files is the model?")
    return os.path.join(source, *entry.split("/"))


def is_callable(recipe):
    return (recipe.get("source") or {}).get("kind") == "callable"


def module(model):
    """What takes a script's place: a module with this `model` and nothing else."""
    out = types.ModuleType("given")
    out.model = model
    out.GIVEN = True
    return out


# ONNX ------------------------------------------------------------------------------------------------------------------


def onnx_model(recipe, source):
    """The onnx.ModelProto of the file (its external data read) or of a callable, its inputs named as the recipe names them."""
    import onnx

    if is_callable(recipe):
        model = call(recipe["source"], source)
        if not isinstance(model, onnx.ModelProto):
            raise ValueError("%s gave %s, no onnx.ModelProto" % (recipe["source"]["name"], type(model).__name__))
    else:
        model = onnx.load(path(recipe, source))
    rename(model.graph, {item["tensor"]: item["name"] for item in recipe["inputs"] if item.get("tensor")})
    return model


def rename(graph, names):
    """Give inputs (old -> new name) other names, in place. Raises ValueError for a name that there is not, or is taken."""
    values = {item.name for item in list(graph.input) + list(graph.initializer)}
    values |= {edge for node in graph.node for edge in node.output}
    for old, new in names.items():
        if old == new:
            continue
        if old not in {item.name for item in graph.input}:
            raise ValueError(
                "the model has no input %r; it has %s" % (old, ", ".join(item.name for item in graph.input))
            )
        if new in values:
            raise ValueError("input %r cannot be called %r: the model has a value of that name" % (old, new))
        _rename_in(graph, old, new)


def _rename_in(graph, old, new):
    for item in list(graph.input) + list(graph.output) + list(graph.value_info):
        if item.name == old:
            item.name = new
    for node in graph.node:
        node.input[:] = [new if edge == old else edge for edge in node.input]
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                if old not in {item.name for item in inner.input}:  # else it is another value there
                    _rename_in(inner, old, new)


_FIXED = "input %s is fixed to %d in dimension %d"


def shape(model, recipe, option):
    """Hold the inputs of an ONNX model to the recipe's shapes, in place: sizes for `static`, symbols for `dynamic`.

    Returns notes. Raises ValueError where the model's own fixed size is another, or cannot be made dynamic.
    """
    graph = model.graph
    weights = {item.name for item in graph.initializer}
    inputs = {item.name: item for item in graph.input if item.name not in weights}
    names = {}  # symbol of the model -> what it becomes
    notes, frozen = [], False
    for item in recipe["inputs"]:
        found = inputs.get(item["name"])
        if found is None:
            raise ValueError(
                "the model has no input %r; it has %s" % (item["name"], ", ".join(sorted(inputs)) or "none")
            )
        tensor = found.type.tensor_type
        if not tensor.HasField("shape"):
            for _ in item["shape"]:
                tensor.shape.dim.add()
        dims = tensor.shape.dim
        if len(dims) != len(item["shape"]):
            raise ValueError(
                "input %s has %d dimensions, the recipe %d" % (item["name"], len(dims), len(item["shape"]))
            )
        for axis, (dim, wanted) in enumerate(zip(dims, item["shape"])):
            size = recipe["dims"]["static"][wanted] if isinstance(wanted, str) else wanted
            fixed = dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
            if option == "dynamic" and isinstance(wanted, str):
                if fixed is not None:
                    if axis != 0 or wanted != recipe["inputs"][0]["shape"][0]:
                        raise ValueError(_FIXED % (item["name"], fixed, axis) + " and cannot be made dynamic")
                    frozen = True
                    continue
                if dim.dim_param:
                    names[dim.dim_param] = wanted
                dim.Clear()
                dim.dim_param = wanted
            else:
                if fixed is not None and fixed != size:
                    raise ValueError(_FIXED % (item["name"], fixed, axis) + ", the recipe says %d" % size)
                if dim.dim_param:
                    names[dim.dim_param] = size
                dim.Clear()
                dim.dim_value = size
    for item in graph.output:
        for dim in item.type.tensor_type.shape.dim:
            new = names.get(dim.dim_param)
            if new is not None:
                dim.Clear()
                setattr(dim, "dim_param" if isinstance(new, str) else "dim_value", new)
    del graph.value_info[:]
    if frozen:
        from worker.exporters import onnx_

        onnx_.symbolic(model, recipe)
        notes.append("the batch size was fixed in the file and was made dynamic")
    return notes


@contextlib.contextmanager
def without_weights(model, larger=1 << 16):
    """Take the large initializers (more than `larger` bytes) out of a model while something works on its structure, and put
    them back: what works through protobuf's 2 GiB, or copies, then sees a small model. Yields a function that must be given the
    model that came out."""
    import onnx

    kept = {}
    for item in model.graph.initializer:
        if len(item.raw_data) > larger:
            kept[item.name] = item.raw_data
            item.ClearField("raw_data")
            item.data_location = onnx.TensorProto.EXTERNAL
            entry = item.external_data.add()
            entry.key, entry.value = "location", "weights"

    def back(out):
        for item in out.graph.initializer:
            if item.name in kept:
                item.raw_data = kept.pop(item.name)
                item.ClearField("data_location")
                del item.external_data[:]
        if kept:
            raise ValueError("the conversion lost the weights %s" % ", ".join(sorted(kept)[:5]))
        return out

    yield back


# PyTorch ---------------------------------------------------------------------------------------------------------------


def torch_model(recipe, source):
    """The torch.nn.Module in eval mode that a callable gives, or a TorchScript archive.

    A callable's random weights are drawn after `torch.manual_seed(0)`, so that every process makes the same ones.
    """
    import torch

    declared = recipe.get("source") or {}
    if is_callable(recipe):
        torch.manual_seed(0)
        model = call(declared, source)
    else:
        place = path(recipe, source)
        if not place.endswith((".pt", ".ts", ".torchscript")):
            raise ValueError("%s is no TorchScript archive (.pt): write a script that makes the module and reads its weights "
                             "(worker.exporters.weights.load)" % os.path.basename(place))  # fmt: skip
        model = torch.jit.load(place, map_location="cpu")
    if not isinstance(model, torch.nn.Module):
        raise ValueError("%s gave %s, no torch.nn.Module" % (declared.get("name"), type(model).__name__))
    return model.eval()


def call(declared, source):
    """What `module:function` gives, called with the recipe's `arguments`. The module is looked for in the recipe's folder
    (which `common.script` put on the path), in the package that was obtained for it, and in the environment."""
    name, _, attribute = declared["name"].partition(":")
    if source and source not in sys.path:
        sys.path.append(source)
    found = importlib.import_module(name)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found(**(declared.get("arguments") or {}))


def flat(out):
    """(names or None, tensors) of what a torch module returns: a tensor, a tuple, or a mapping."""
    if hasattr(out, "items"):
        pairs = [(name, item) for name, item in out.items() if item is not None]
        return [name for name, _ in pairs], [item for _, item in pairs]
    return None, list(out) if isinstance(out, (tuple, list)) else [out]


def output_names(out):
    """The keys of a mapping, else `output`, or `output_0`, ..."""
    names, tensors = flat(out)
    if names is not None:
        return names
    return ["output"] if len(tensors) == 1 else ["output_%d" % index for index in range(len(tensors))]


def output_symbols(recipe, names, small, large):
    """output -> {axis: symbol} of what grows from the outputs at `min` (`small`) to those at `max` (`large`)."""
    out = {}
    for name, first, second in zip(names, flat(small)[1], flat(large)[1]):
        for axis, (low, high) in enumerate(zip(first.shape, second.shape)):
            if low == high:
                continue
            sizes = recipe["dims"]["dynamic"].items()
            fits = [symbol for symbol, size in sizes if (size["min"], size["max"]) == (low, high)]
            out.setdefault(name, {})[axis] = fits[0] if fits else "%s_%d" % (name, axis)
    return out
