"""Export from PyTorch, by either of its two exporters.

A recipe's script defines `model(recipe, source) -> torch.nn.Module` (eval mode, weights set), `OUTPUTS` (names, in the
order in which the module returns them) and, when uniform noise will not do, `inputs(recipe, source, shapes, seed)`.

Option `torch-exporter`: `torchscript` (`torch.onnx.export(dynamo=False)`) or `dynamo` (`dynamo=True`). The opset is
asked as given; what was written is read back from the file, since the dynamo exporter builds its graph at opset 18 and
keeps that when its conversion down does not succeed (https://github.com/pytorch/pytorch/pull/161056).
"""

import os

from worker.exporters import common


def _load(job):
    import torch

    torch.set_num_threads(1)  # the sums of a reference must not depend on how many cores this machine has
    with job.stage("obtain"):
        module = common.script(job)
        model = module.model(job.input["recipe"], job.input.get("source"))
    return torch, module, model


def reference(job):
    """FP32 in PyTorch on the CPU; the noise floor is the same module in float64."""
    torch, module, model = _load(job)

    def run(arrays, net=model, dtype=torch.float32):
        tensors = [torch.from_numpy(array) for array in arrays]
        tensors = [tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in tensors]
        with torch.no_grad():
            out = net(*tensors)
        return [tensor.numpy() for tensor in (out if isinstance(out, (tuple, list)) else (out,))]

    with job.stage("export"):
        exact = module.model(job.input["recipe"], job.input.get("source")).double()
        return common.make_reference(
            job, module, run, lambda arrays: run(arrays, exact, torch.float64), "torch float64", module.OUTPUTS
        )


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
    arguments = {
        "input_names": [item["name"] for item in recipe["inputs"]],
        "output_names": list(module.OUTPUTS),
        "opset_version": asked,
    }
    if how == "torchscript":
        arguments["dynamo"] = False
        axes = dict(symbols)
        if symbols and hasattr(module, "OUTPUT_SYMBOLS"):
            axes.update(module.OUTPUT_SYMBOLS)
        arguments["dynamic_axes"] = axes or None
    elif how == "dynamo":
        arguments["dynamo"] = True
        arguments["external_data"] = False
        if symbols:
            dims = {name: torch.export.Dim(name) for names in symbols.values() for name in names.values()}
            arguments["dynamic_shapes"] = tuple(
                {axis: dims[name] for axis, name in symbols[item["name"]].items()} for item in recipe["inputs"]
            )
    else:
        raise ValueError("torch-exporter is %r; it can be torchscript or dynamo" % how)
    with job.stage("export"):
        tensors = tuple(torch.from_numpy(array) for array in arrays)
        with torch.no_grad():
            torch.onnx.export(model, tensors, path, **arguments)
        proto = onnx.load(path)
        os.remove(path)
        notes = []
        written = max(item.version for item in proto.opset_import if item.domain in ("", "ai.onnx"))
        if written != asked:
            notes.append("asked for opset %d, the exporter wrote %d" % (asked, written))
        return common.write(job, proto, "torch %s (%s)" % (torch.__version__.split("+")[0], how), notes)
