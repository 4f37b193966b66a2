"""A model of TensorFlow as one tar file of a SavedModel, and its signature as a function: what the adapters share that run
TensorFlow itself, whole (tensorflow_.py) or with segments of TensorRT (tftrt_.py)."""

import os
import tarfile

from worker.exporters import common, tensorflow_, tensorflow_given
from worker.jobs import Failure

SIGNATURE = "serving_default"


def module(job):
    """The recipe's model as a SavedModel in one tar file, its inputs and outputs."""
    tensorflow, script, model = tensorflow_._load(job)
    recipe, shapes = job.input["recipe"], job.input["options"].get("shapes", "static")
    with job.stage("export"):
        if isinstance(model, tensorflow_given.Graph):
            if not model.saved or model.signature != SIGNATURE:
                raise Failure("only a SavedModel with the signature %s is run by TensorFlow itself" % SIGNATURE)
            folder = model.path
        else:
            folder = job.path("saved-model")
            tensorflow_._save(tensorflow, model, folder, tensorflow_._specs(tensorflow, recipe, shapes))
        arrays = common.inputs(script, job, common.shapes(recipe, shapes, "opt"), recipe["seeds"][0])
        outs = called(tensorflow, folder, [item.get("tensor", item["name"]) for item in recipe["inputs"]])[1](arrays)
        pack(folder, job.path("module.tar"))
    symbols = getattr(script, "OUTPUT_SYMBOLS", {}) if shapes == "dynamic" else {}
    return {
        "model": "module.tar",
        "inputs": [
            {
                "name": item.get("tensor", item["name"]), "dtype": item["dtype"],
                "shape": item["shape"] if shapes == "dynamic" else list(one.shape),
            }
            for item, one in zip(recipe["inputs"], arrays)
        ],
        "outputs": [
            {
                "name": name, "dtype": str(out.dtype),
                "shape": [symbols.get(name, {}).get(axis, size) for axis, size in enumerate(out.shape)],
            }
            for name, out in outs.items()
        ],
        "exporter": "tensorflow %s (SavedModel)" % tensorflow.__version__, "notes": [],
    }  # fmt: skip


def pack(folder, path):
    """A folder as a tar file; the same folder gives the same bytes."""

    def plain(item):
        item.mtime, item.uid, item.gid, item.uname, item.gname, item.mode = (
            0,
            0,
            0,
            "",
            "",
            0o755 if item.isdir() else 0o644,
        )
        return item

    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for at, folders, files in os.walk(folder):
            folders.sort()
            for name in sorted(files):
                full = os.path.join(at, name)
                archive.add(full, os.path.relpath(full, folder), recursive=False, filter=plain)


def unpack(path, folder):
    """The files of a tar file, none of them outside the folder. Raises Failure for one that has any other kind of entry."""
    with tarfile.open(path) as archive:
        for item in archive.getmembers():
            inside = os.path.realpath(os.path.join(folder, item.name)).startswith(os.path.realpath(folder) + os.sep)
            if not item.isfile() or not inside:
                raise Failure("the engine's archive has an entry that is no plain file of its own: %s" % item.name)
        archive.extractall(folder)
    return folder


def called(tensorflow, folder, names):
    """(the loaded model, a function of arrays -> {output: array}) of a SavedModel's signature; `names` are its inputs, in the
    order of the arrays. Raises Failure where it has others."""
    loaded = tensorflow.saved_model.load(folder)
    signature = loaded.signatures[SIGNATURE]
    known = sorted(signature.structured_input_signature[1])
    if sorted(names) != known:
        raise Failure("the signature takes %s, not %s" % (", ".join(known), ", ".join(names)))

    def call(arrays):
        out = signature(**{name: tensorflow.constant(array) for name, array in zip(names, arrays)})
        return {name: out[name].numpy() for name in sorted(out)}

    return loaded, call
