"""Seeded weights that are the same for every framework and every version of it.

Matrices are He-normal (He et al. 2015, "Delving Deep into Rectifiers", https://arxiv.org/abs/1502.01852), so that
activations keep their size through many layers; scales lie about 1, variances are positive. Each array is drawn from
NumPy's `RandomState`, whose streams are frozen for good
(https://numpy.org/doc/stable/reference/random/legacy.html), seeded by the parameter's own name: no order of creation,
no framework generator and no version of either can change it.
"""

import hashlib
import math

#: He's gain keeps the mean square through a ReLU, E[relu(x)^2] = 1/2. Centred weights see the variance alone, which is
#: 1/2 - 1/(2 pi) of the input's.
CENTRED_GAIN = 1.0 / (0.5 - 0.5 / math.pi)


def load(path):
    """The learned weights of a file, name -> tensor, for scripts: `.safetensors`, or what `torch.save` wrote, read with
    `weights_only=True`. Raises ValueError for any other file, and where torch is too old to do that safely."""
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    import zipfile

    import torch

    if not zipfile.is_zipfile(path):
        raise ValueError("%s is neither .safetensors nor an archive of torch.save; a pickle is not loaded: convert it to "
                         ".safetensors where you trust it" % path.split("/")[-1])  # fmt: skip
    # weights_only=True ran what a file told it to until 2.5.1 (CVE-2025-32434) and could be made to corrupt memory until
    # 2.9.1 (CVE-2026-24747).
    if tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) < (2, 10):
        raise ValueError("torch %s does not load weights safely (CVE-2026-24747): convert %s to .safetensors"
                         % (torch.__version__, path.split("/")[-1]))  # fmt: skip
    return torch.load(path, map_location="cpu", weights_only=True)


def array(name, shape, kind, fan_in=None, centre=None):
    """One float32 array. `kind`: matrix (He-normal over `fan_in`), bias, scale, mean or variance.

    `centre` is the axis of a matrix that counts input channels: its mean is taken out of the weights (Huang et al.
    2017, "Centered Weight Normalization in Accelerating Training of Deep Neural Networks", ICCV). Without that the
    positive mean of every ReLU adds up through the layers, and a deep random network gives nearly the same answer
    whatever the input; an engine that ignored its input would then pass. Matrices of fewer than 8 input channels
    (images, depthwise kernels) are left as they are.
    """
    import numpy

    seed = int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:4], "little")
    noise = numpy.random.RandomState(seed).standard_normal(tuple(shape))
    if kind == "matrix":
        gain = 2.0
        if centre is not None and shape[centre] >= 8:
            noise = noise - noise.mean(axis=centre, keepdims=True)
            gain = CENTRED_GAIN
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
            tensors = list(module.named_parameters(recurse=False)) + list(module.named_buffers(recurse=False))
            for name, tensor in tensors:
                kind, fan_in, centre = "bias", None, None
                if name.startswith("running_mean"):
                    kind = "mean"
                elif name.startswith("running_var"):
                    kind = "variance"
                elif name.startswith("num_batches"):
                    continue
                elif tensor.dim() >= 2:
                    kind, centre = "matrix", 1
                    # A transposed convolution stores (in, out, *kernel); each output pixel sees kernel/stride of it.
                    if getattr(module, "transposed", False):
                        window = _prod(tensor.shape[2:]) // _prod(module.stride)
                        fan_in, centre = tensor.shape[0] * max(1, window) // module.groups, 0
                    else:
                        fan_in = _prod(tensor.shape[1:])
                elif name == "weight":
                    kind = "scale"
                values = array("%s/%s.%s" % (prefix, path, name), tensor.shape, kind, fan_in, centre)
                tensor.copy_(torch.from_numpy(values))
    return model.eval()


def fill_keras(model, prefix):
    """Set every weight of a Keras 2 or 3 model by its layer's and its own name, and return the model."""
    kinds = {"gamma": "scale", "beta": "bias", "bias": "bias", "moving_mean": "mean", "moving_variance": "variance"}
    for layer in model.layers:
        values = []
        for weight in layer.weights:
            # Keras 2 says conv/depthwise_kernel:0 where Keras 3 says kernel.
            name = weight.name.split("/")[-1].split(":")[0].replace("depthwise_", "")
            shape = tuple(int(size) for size in weight.shape)
            fan_in = 1
            # Kernels are (height, width, in, out), a depthwise one (height, width, in, multiplier): one channel each.
            depthwise = "depthwise" in type(layer).__name__.lower()
            for size in shape[:2] if depthwise else shape[:-1]:
                fan_in *= size
            kind = kinds.get(name, "matrix")
            centre = -2 if kind == "matrix" and not depthwise else None
            values.append(array("%s/%s.%s" % (prefix, layer.name, name), shape, kind, fan_in, centre))
        layer.set_weights(values)
    return model


def smooth_image(shape, seed, low=-1.0, high=1.0, grid=8):
    """A batch (N, C, H, W) of blotchy images, float32 in [low, high]: random grids enlarged, plus fine noise.

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
