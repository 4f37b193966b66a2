"""Seeded weights that are the same for every framework and every version of it.

Matrices are He-normal (He et al. 2015, "Delving Deep into Rectifiers", https://arxiv.org/abs/1502.01852), so that
activations keep their size through many layers; scales lie about 1, variances are positive. Each array is drawn from
NumPy's `RandomState`, whose streams are frozen for good
(https://numpy.org/doc/stable/reference/random/legacy.html), seeded by the parameter's own name: no order of creation,
no framework generator and no version of either can change it.
"""

import hashlib
import math


def array(name, shape, kind, fan_in=None, gain=2.0):
    """One float32 array. `kind`: matrix (He-normal over `fan_in`), bias, scale, mean or variance; `gain` is He's 2 for ReLU."""
    import numpy

    seed = int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:4], "little")
    noise = numpy.random.RandomState(seed).standard_normal(tuple(shape))
    if kind == "matrix":
        out = noise * math.sqrt(gain / fan_in)
    elif kind == "bias":
        out = 0.05 * noise
    elif kind == "scale":
        out = 1.0 + 0.1 * noise
    elif kind == "mean":
        out = 0.1 * noise
    elif kind == "variance":
        out = 1.0 + 0.2 * numpy.abs(noise)
    else:
        raise ValueError("unknown kind of weight: %s" % kind)
    return out.astype("float32")


def fill_torch(model, prefix):
    """Set every parameter and buffer of a torch module, by its kind of layer, and return the module in eval mode."""
    import torch

    with torch.no_grad():
        for path, module in sorted(model.named_modules()):
            for name, tensor in list(module.named_parameters(recurse=False)) + list(module.named_buffers(recurse=False)):
                kind, fan_in = "bias", None
                if name.startswith("running_mean"):
                    kind = "mean"
                elif name.startswith("running_var"):
                    kind = "variance"
                elif name.startswith("num_batches"):
                    continue
                elif tensor.dim() >= 2:
                    kind = "matrix"
                    # A transposed convolution stores (in, out, *kernel); each output pixel sees kernel/stride of it.
                    if getattr(module, "transposed", False):
                        window = _prod(tensor.shape[2:]) // _prod(module.stride)
                        fan_in = tensor.shape[0] * max(1, window) // module.groups
                    else:
                        fan_in = _prod(tensor.shape[1:])
                elif name == "weight":
                    kind = "scale"
                values = array("%s/%s.%s" % (prefix, path, name), tensor.shape, kind, fan_in)
                tensor.copy_(torch.from_numpy(values))
    return model.eval()


def fill_keras(model, prefix):
    """Set every weight of a Keras 2 or 3 model by its layer's and its own name, and return the model."""
    kinds = {"gamma": "scale", "beta": "bias", "bias": "bias", "moving_mean": "mean", "moving_variance": "variance"}
    for layer in model.layers:
        values = []
        for weight in layer.weights:
            name = weight.name.split("/")[-1].split(":")[0]
            shape = tuple(int(size) for size in weight.shape)
            fan_in = 1
            # Kernels are (height, width, in, out), a depthwise one (height, width, in, multiplier): one channel each.
            for size in shape[:2] if "depthwise" in type(layer).__name__.lower() else shape[:-1]:
                fan_in *= size
            values.append(array("%s/%s.%s" % (prefix, layer.name, name), shape, kinds.get(name, "matrix"), fan_in))
        layer.set_weights(values)
    return model


def smooth_image(shape, seed, low=-1.0, high=1.0, grid=8):
    """A batch (N, C, H, W) of blotchy images, float32 in [low, high]: random grids enlarged bilinearly, plus fine noise.

    White noise averages out in a deep network, which then answers the same for every input; blotches do not.
    """
    import numpy

    random = numpy.random.RandomState([seed, 4])
    batch, channels, height, width = shape
    coarse = random.uniform(low, high, size=(batch, channels, grid, grid))
    for axis, size in ((2, height), (3, width)):
        place = numpy.linspace(0, grid - 1, size)
        below = numpy.minimum(place.astype(int), grid - 2)
        part = (place - below).reshape([-1 if i == axis else 1 for i in range(4)])
        coarse = numpy.take(coarse, below, axis) * (1 - part) + numpy.take(coarse, below + 1, axis) * part
    fine = random.uniform(low, high, size=shape)
    return (0.8 * coarse + 0.2 * fine).astype("float32")


def _prod(sizes):
    out = 1
    for size in sizes:  # math.prod is newer than Python 3.6
        out *= int(size)
    return out
