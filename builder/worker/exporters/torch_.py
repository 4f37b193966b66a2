"""Export from PyTorch, by either of its two exporters.

A recipe's script defines `model(recipe, source) -> torch.nn.Module` (eval mode, weights set), `OUTPUTS` (names, in the
order in which the module returns them) and, when uniform noise will not do, `inputs(recipe, source, shapes, seed)`.
Without one, the source is the model (`given.torch_model`: a callable, a TorchScript archive), and outputs are named by what
it returns.

Option `torch-exporter`: `torchscript` (`torch.onnx.export(dynamo=False)`) or `dynamo` (`dynamo=True`). The opset is
asked as given; what was written is read back from the file, since the dynamo exporter builds its graph at opset 18 and
keeps that when its conversion down does not succeed (https://github.com/pytorch/pytorch/pull/161056).
"""

import os

from worker.exporters import common, given


def _load(job):
    import torch

    torch.set_num_threads(1)  # the sums of a reference must not depend on how many cores this machine has
    with job.stage("obtain"):
        module = common.script(job, given.torch_model)
        model = common.model(job, module)
    return torch, module, model


def reference(job):
    """FP32 in PyTorch on the CPU; the noise floor is the same module in float64."""
    torch, module, model = _load(job)

    recipe = job.input["recipe"]
    with job.stage("export"):
        names = getattr(module, "OUTPUTS", None)
        if names is None:
            first = common.inputs(module, job, common.shapes(recipe, "static", "opt"), recipe["seeds"][0])
            names = given.output_names(_run(torch, model, first))
        exact = common.model(job, module).double()

        def run(arrays, net=model, dtype=torch.float32):
            return [tensor.numpy() for tensor in given.flat(_run(torch, net, arrays, dtype))[1]]

        return common.make_reference(
            job, module, run, lambda arrays: run(arrays, exact, torch.float64), "torch float64", names
        )


def _run(torch, model, arrays, dtype=None):
    """What the module returns for arrays; floating-point ones are given as `dtype`, if there is one."""
    tensors = [torch.from_numpy(array) for array in arrays]
    tensors = [tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor for tensor in tensors]
    with torch.no_grad():
        return model(*tensors)


def export(job):
    torch, module, model = _load(job)
    import onnx

    recipe, options = job.input["recipe"], job.input["options"]
    shape_option = options.get("shapes", "static")
    how = options.get("torch-exporter", "dynamo")
    asked = int(options["opset"])
    path = os.path.join(job.dir, "exported.onnx")
    arrays = common.inputs(module, job, common.shapes(recipe, shape_option, "opt"), recipe["seeds"][0])
    symbols = common.symbols(recipe) if shape_option == "dynamic" else {}
    names = getattr(module, "OUTPUTS", None) or given.output_names(_run(torch, model, arrays))
    arguments = {
        "input_names": [item["name"] for item in recipe["inputs"]],
        "output_names": list(names),
        "opset_version": asked,
    }
    if how == "torchscript":
        arguments["dynamo"] = False
        axes = dict(symbols)
        if symbols:
            axes.update(_grown(torch, job, module, model, names))
        arguments["dynamic_axes"] = axes or None
    elif how == "dynamo":
        arguments["dynamo"] = True
        # One file, unless the weights do not fit into one.
        arguments["external_data"] = _bytes(model) > common.LARGE
        if symbols:
            dims = {name: torch.export.Dim(name) for names in symbols.values() for name in names.values()}
            arguments["dynamic_shapes"] = tuple(
                {axis: dims[name] for axis, name in symbols[item["name"]].items()} for item in recipe["inputs"]
            )
    else:
        raise ValueError("torch-exporter is %r; it can be torchscript or dynamo" % how)
    with job.stage("export"):
        before = set(os.listdir(job.dir))
        tensors = tuple(torch.from_numpy(array) for array in arrays)
        with torch.no_grad():
            torch.onnx.export(model, tensors, path, **arguments)
        proto = onnx.load(path)
        for name in set(os.listdir(job.dir)) - before:  # the file, and weights beside it
            os.remove(os.path.join(job.dir, name))
        notes = []
        written = max(item.version for item in proto.opset_import if item.domain in ("", "ai.onnx"))
        if written != asked:
            notes.append("asked for opset %d, the exporter wrote %d" % (asked, written))
        return common.write(job, proto, "torch %s (%s)" % (torch.__version__.split("+")[0], how), notes)


def _bytes(model):
    return sum(item.numel() * item.element_size() for item in list(model.parameters()) + list(model.buffers()))


def _grown(torch, job, module, model, names):
    """output -> {axis: symbol}: the script's word, or what differs between the smallest and the largest inputs."""
    recipe = job.input["recipe"]
    if hasattr(module, "OUTPUT_SYMBOLS"):
        return dict(module.OUTPUT_SYMBOLS)
    if hasattr(module, "OUTPUTS"):
        return {}
    outs = [
        _run(torch, model, common.inputs(module, job, common.shapes(recipe, "dynamic", point), recipe["seeds"][0]))
        for point in ("min", "max")
    ]
    return given.output_symbols(recipe, names, *outs)
