"""DenseNet-121 from the onnx package's light models, with seeded weights."""


def model(recipe, source):
    from worker.exporters import light

    return light.load("densenet121", {"data_0": "image", "fc6_1": "logits"}, head=8.0)


def inputs(recipe, source, shapes, seed):
    from worker.exporters import weights

    return [weights.smooth_image(shapes["image"], seed)]
