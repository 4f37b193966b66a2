"""SqueezeNet from the onnx package's light models, with seeded weights."""


def model(recipe, source):
    from worker.exporters import light

    return light.load("squeezenet", {"data_0": "image", "softmaxout_1": "probabilities"}, head=16.0)


def inputs(recipe, source, shapes, seed):
    from worker.exporters import weights

    return [weights.smooth_image(shapes["image"], seed)]
