"""ResNet-50 from the onnx package's light models, with seeded weights."""


def model(recipe, source):
    from worker.exporters import light

    return light.load("resnet50", {"gpu_0/data_0": "image", "gpu_0/softmax_1": "probabilities"}, quiet=0.4, head=12.0)


def inputs(recipe, source, shapes, seed):
    from worker.exporters import weights

    return [weights.smooth_image(shapes["image"], seed)]
