"""The samples that int8 is calibrated with, from where the recipe's `calibration` says: a folder of arrays or images beside it,
a function of its script, or (`samples` and `seed` alone) as its reference inputs are made."""

import os

ARRAYS = (".npz", ".npy")
#: What Pillow may take a file for, whatever its name: some of its other readers start programs.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff")


def samples(module, job, shape):
    """(list of samples, each a list of arrays in the recipe's order; where they come from, as text). Raises ValueError
    naming the file or the sample that does not fit the recipe's inputs."""
    from worker.exporters import common

    recipe = job.input["recipe"]
    asked = recipe.get("calibration")
    if not asked:
        return [], ""
    if "folder" in asked:
        return _folder(job, asked, shape)
    seed, made = asked.get("seed", 0), []
    function = getattr(module, asked["callable"]) if "callable" in asked else None
    for number in range(asked["samples"]):
        if function is None:
            made.append(common.inputs(module, job, shape, seed + number))
        else:
            arrays = function(recipe, job.input.get("source"), shape, seed + number)
            made.append(_held(recipe, shape, arrays, "sample %d of %s" % (number, asked["callable"])))
    if function is not None:
        return made, "%d samples by %s of the recipe's script" % (len(made), asked["callable"])
    how = "the script's inputs" if hasattr(module, "inputs") else "random numbers in the inputs' ranges"
    return made, "%d samples: %s" % (len(made), how)


def _held(recipe, shape, arrays, what):
    """Arrays of the recipe's dtypes, held to its shapes."""
    import numpy

    if len(arrays) != len(recipe["inputs"]):
        raise ValueError("%s has %d arrays; the recipe has %d inputs" % (what, len(arrays), len(recipe["inputs"])))
    out = []
    for item, array in zip(recipe["inputs"], arrays):
        array = numpy.asarray(array)
        if list(array.shape) != list(shape[item["name"]]):
            raise ValueError(
                "%s is %s for input %s, which has %s here"
                % (what, list(array.shape), item["name"], list(shape[item["name"]]))
            )
        out.append(numpy.ascontiguousarray(array, dtype=item["dtype"]))
    return out


def _folder(job, asked, shape):
    recipe = job.input["recipe"]
    folder = os.path.join(job.input["recipe_dir"], asked["folder"])
    names = sorted(name for name in os.listdir(folder) if name.lower().endswith(ARRAYS + IMAGES))
    images = [name for name in names if name.lower().endswith(IMAGES)]
    arrays = [name for name in names if name.lower().endswith(ARRAYS)]
    if bool(images) == bool(arrays):
        raise ValueError(
            "%s holds %s" % (asked["folder"], "arrays and images at once" if images else "no arrays or images")
        )
    limit = asked.get("samples")
    if arrays:
        made = [_held(recipe, shape, _read(folder, name, recipe), name) for name in arrays[:limit]]
        return made, "%d samples: arrays of %s" % (len(made), asked["folder"])
    made = _images(recipe, folder, images, shape, asked)
    return made[:limit], "%d samples: images of %s" % (len(made[:limit]), asked["folder"])


def _read(folder, name, recipe):
    """The arrays of one file: of a .npz by the inputs' names, of a .npy the only input's."""
    import numpy

    found = numpy.load(os.path.join(folder, name), allow_pickle=False)
    wanted = [item["name"] for item in recipe["inputs"]]
    if name.lower().endswith(".npy"):
        return [found]
    with found:
        if set(found.files) != set(wanted):
            raise ValueError("%s has arrays %s; the inputs are %s" % (name, sorted(found.files), wanted))
        return [found[key] for key in wanted]


def _images(recipe, folder, names, shape, asked):
    """Batches of images for the only input, each image once: resized (bilinear), RGB or grey by the number of channels, scaled
    to 0..1, less `mean`, by `std`; of an integer input the pixels as they are. The last batch is filled up from the first
    images."""
    import numpy

    try:
        from PIL import Image
    except ImportError:
        raise ValueError("images need Pillow in the exporter's stack, which has none")
    if len(recipe["inputs"]) != 1:
        raise ValueError("images are for a model with one input; this one has %d" % len(recipe["inputs"]))
    item = recipe["inputs"][0]
    batch, height, width, channels, first = layout(shape[item["name"]], asked.get("layout"))
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]  # a build may lack some
    pixels = []
    for name in names:
        with Image.open(os.path.join(folder, name), formats=formats) as image:
            image = image.convert("RGB" if channels == 3 else "L").resize((width, height), Image.BILINEAR)
            array = numpy.asarray(image).reshape(height, width, channels)
        if item["dtype"].startswith("float"):
            array = array.astype("float32") / 255
            array = (array - numpy.float32(asked.get("mean", 0))) / numpy.float32(asked.get("std", 1))
        pixels.append(array.transpose(2, 0, 1) if first else array)
    made = []
    for start in range(0, len(pixels), batch):
        group = [pixels[(start + place) % len(pixels)] for place in range(batch)]
        made.append([numpy.ascontiguousarray(numpy.stack(group), dtype=item["dtype"])])
    return made


def layout(shape, asked):
    """(batch, height, width, channels, whether channels come first) of an input's shape; `asked` (NCHW or NHWC) decides where
    both would do. Raises ValueError where it is no image's."""
    if len(shape) != 4:
        raise ValueError("an input of shape %s takes no images; they need four dimensions" % list(shape))
    fits = {"NCHW": shape[1] in (1, 3), "NHWC": shape[3] in (1, 3)}
    found = [name for name in sorted(fits) if fits[name] and asked in (None, name)]
    if len(found) != 1:
        raise ValueError("cannot tell the layout of an input of shape %s: write layout: NCHW or NHWC" % list(shape))
    if found[0] == "NCHW":
        return shape[0], shape[2], shape[3], shape[1], True
    return shape[0], shape[1], shape[2], shape[3], False
