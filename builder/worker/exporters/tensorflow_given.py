"""SavedModels and frozen graphs that are given as they are: how they are called for the reference, and how tf2onnx is told of
them. Nothing of Keras is asked: a SavedModel runs without the code that made it.
"""

import os

from worker.exporters import common, given


def model(recipe, source):
    """What takes the place of a script's `model`: the Keras model of a callable, else the Graph that was obtained."""
    if not given.is_callable(recipe):
        return Graph(recipe, source)
    import tensorflow

    tensorflow.random.set_seed(0)  # random weights are the same in every process
    if hasattr(tensorflow.keras.utils, "set_random_seed"):
        tensorflow.keras.utils.set_random_seed(0)
    return given.call(recipe["source"], source)


class Graph:
    """One of both, by what lies at `path`: a folder with saved_model.pb, or a GraphDef."""

    def __init__(self, recipe, source):
        path = given.path(recipe, source)
        if os.path.basename(path) == "saved_model.pb":
            path = os.path.dirname(path)
        self.path = path
        self.recipe = recipe
        self.saved = os.path.isdir(path)
        settings = recipe.get("settings") or {}
        self.signature = settings.get("signature", "serving_default")
        self.tags = settings.get("tags", ["serve"])
        if self.saved and not os.path.exists(os.path.join(path, "saved_model.pb")):
            raise ValueError("%s is a folder without saved_model.pb: no SavedModel" % os.path.basename(path))

    def names(self):
        """The recipe's inputs as the model calls them."""
        return [item.get("tensor", item["name"]) for item in self.recipe["inputs"]]

    def function(self, tensorflow):
        """(call, output names): call(arrays) -> arrays, in the order of the names."""
        return self._signature(tensorflow) if self.saved else self._pruned(tensorflow)

    def _signature(self, tensorflow):
        loaded = tensorflow.saved_model.load(self.path, tags=self.tags)
        if self.signature not in loaded.signatures:
            there = ", ".join(sorted(loaded.signatures)) or "none"
            raise ValueError("the SavedModel has no signature %r; it has %s" % (self.signature, there))
        function = loaded.signatures[self.signature]
        accepted = sorted(function.structured_input_signature[1])
        if accepted != sorted(self.names()):
            raise ValueError("signature %s takes %s, the recipe gives %s"
                             % (self.signature, ", ".join(accepted), ", ".join(self.names())))  # fmt: skip
        outputs = sorted(function.structured_outputs)

        def call(arrays):
            fed = {name: tensorflow.constant(array) for name, array in zip(self.names(), arrays)}
            out = function(**fed)
            return [out[name].numpy() for name in outputs]

        call.keep = loaded  # a signature's variables live as long as what they were loaded with
        return call, outputs

    def graph_def(self, tensorflow):
        graph = tensorflow.compat.v1.GraphDef()
        with open(self.path, "rb") as file:
            graph.ParseFromString(file.read())
        return graph

    def _pruned(self, tensorflow):
        graph = self.graph_def(tensorflow)
        inputs, outputs = self.ends(graph)

        def imported():
            tensorflow.compat.v1.import_graph_def(graph, name="")

        wrapped = tensorflow.compat.v1.wrap_function(imported, [])
        place = wrapped.graph.as_graph_element
        function = wrapped.prune([place(name) for name in inputs], [place(name) for name in outputs])

        def call(arrays):
            out = function(*[tensorflow.constant(array) for array in arrays])
            return [tensor.numpy() for tensor in (out if isinstance(out, (list, tuple)) else [out])]

        return call, [name.split(":")[0] for name in outputs]

    def ends(self, graph):
        """(inputs in the recipe's order, outputs) as tensor names. `settings: {outputs: [...]}` says which outputs, else all
        that nothing reads."""
        from worker.exporters.tensorflow_ import ends

        placeholders, sinks = ends(graph)
        wanted = [name + ":0" for name in self.names()]
        if sorted(wanted) != sorted(placeholders):
            raise ValueError("the frozen graph has inputs %s, the recipe gives %s"
                             % (", ".join(placeholders) or "none", ", ".join(self.names())))  # fmt: skip
        outputs = [name + ":0" for name in (self.recipe.get("settings") or {}).get("outputs", [])] or sinks
        return wanted, outputs

    def arguments(self, tensorflow):
        """tf2onnx's, for its command line; output names in order."""
        if self.saved:
            tags = self.tags if isinstance(self.tags, str) else ",".join(self.tags)
            return ["--saved-model", self.path, "--tag", tags, "--signature_def", self.signature]
        graph = self.graph_def(tensorflow)
        inputs, outputs = self.ends(graph)
        shapes = {node.name + ":0": node for node in graph.node if node.op == "Placeholder"}
        told = []
        for item, name in zip(self.recipe["inputs"], inputs):
            attributes = shapes[name].attr
            if "shape" not in attributes or attributes["shape"].shape.unknown_rank:
                name += "[%s]" % ",".join("-1" if isinstance(dim, str) else str(dim) for dim in item["shape"])
            told.append(name)
        return ["--graphdef", self.path, "--inputs", ",".join(told), "--outputs", ",".join(outputs)]


def reference(job, tensorflow, script, graph):
    """FP32 in TensorFlow on the CPU, one thread; the noise floor is the same without TensorFlow's graph optimiser."""
    run, outputs = graph.function(tensorflow)
    first = common.shapes(graph.recipe, "static", "opt")
    run(common.inputs(script, job, first, graph.recipe["seeds"][0]))  # optimised now, before that is switched off
    tensorflow.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    again, _ = graph.function(tensorflow)
    method = "tensorflow %s without its graph optimiser" % tensorflow.__version__
    return common.make_reference(job, script, run, again, method, outputs)


def fit(model, recipe, outputs, option):
    """Make what tf2onnx wrote the recipe's: inputs by name and shape, outputs in the reference's order, in place. Notes."""
    graph = model.graph
    names = {}
    for item in recipe["inputs"]:
        asked = item.get("tensor", item["name"])
        for found in graph.input:
            if found.name in (asked, asked + ":0"):
                names[found.name] = item["name"]
    given.rename(graph, names)
    notes = given.shape(model, recipe, option)
    by_name = {item.name.split(":")[0]: item for item in graph.output}
    by_name.update({item.name: item for item in graph.output})
    missing = [name for name in outputs if name not in by_name]
    if missing or len(graph.output) != len(outputs):
        raise ValueError("tf2onnx wrote outputs %s, the model has %s"
                         % (", ".join(item.name for item in graph.output), ", ".join(outputs)))  # fmt: skip
    ordered = [by_name[name] for name in outputs]
    copies = [type(item).FromString(item.SerializeToString()) for item in ordered]
    del graph.output[:]
    graph.output.extend(copies)
    return notes
