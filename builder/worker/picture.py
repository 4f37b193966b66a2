"""Outputs that are pictures, side by side with the reference's: reference | engine | difference, as one PNG file.

Maps of (N, C, H, W), of which the first of the batch is drawn. One channel is grey and three are colours, both from the
reference's smallest to its largest value, so that an engine's values stand on the same scale; any other number of
channels is taken for scores of classes, each place in the colour of its largest. The difference is the largest over the
channels, black for none and white for the largest of the picture, which `difference` says; places that are not finite
are magenta in any part. A map of more than SIDE places a side is thinned: values by taking every n-th, differences by
their largest, so that none is lost.

PNG by https://www.w3.org/TR/png-3/: eight bits a channel, colour type 2, one zlib stream, no filter.
"""

import struct
import zlib

SIDE = 256
GAP = 4
#: Of classes, by hue and lightness (Okabe and Ito's palette, https://jfly.uni-koeln.de/color/), and then again.
CLASSES = (
    (0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip
BROKEN = (255, 0, 255)
BETWEEN = (128, 128, 128)


def draw(job, pairs, names):
    """The pictures of the first case, as files in the job's folder: [{"file", "case", "name", "kind": "grey" | "colour" |
    "classes", "width", "height" (of one part), "step": every how many-th place, "difference": the largest shown, or None
    where nothing was finite, "broken": places that are not finite in the engine's}]. `pairs` is [(label, reference
    arrays, arrays got)]; job.input["images"] the places of the outputs, from 0. What is no map of the reference's shape is
    left out: the comparison says why."""
    out = []
    if not pairs:
        return out
    label, reference, got = pairs[0]
    for place in job.input.get("images") or []:
        if place >= len(reference) or place >= len(got) or not drawable(reference[place], got[place]):
            continue
        name = "picture-%d.png" % place
        data, told = side_by_side(reference[place], got[place])
        with open(job.path(name), "wb") as file:
            file.write(data)
        out.append(dict(told, file=name, case=label, name=names[place] if place < len(names) else ""))
    return out


def drawable(expected, got):
    """Whether two arrays are maps of one shape, of numbers."""
    return (
        got is not None and expected.ndim == 4 and expected.shape == got.shape and min(expected.shape) > 0
        and expected.dtype.kind in "fiub" and got.dtype.kind in "fiub"
    )  # fmt: skip


def side_by_side(expected, got):
    """(bytes of a PNG, what it shows) of two (N, C, H, W) arrays of one shape."""
    import numpy

    step = max(1, -(-max(expected.shape[2:]) // SIDE))
    first, second = (numpy.asarray(array[0], dtype="float64") for array in (expected, got))
    with numpy.errstate(all="ignore"):
        gap = numpy.abs(first - second)
    gap[~numpy.isfinite(gap)] = numpy.nan
    broken = ~numpy.isfinite(second).all(axis=0)
    gap = blocks(numpy.where(numpy.isnan(gap), -1.0, gap).max(axis=0), step)
    lost = blocks(broken | ~numpy.isfinite(first).all(axis=0), step) > 0
    kind = {1: "grey", 3: "colour"}.get(len(first), "classes")
    parts = [paint(array[:, ::step, ::step], kind, first) for array in (first, second)]
    largest = float(gap.max()) if (gap >= 0).any() else None
    shade = numpy.clip(gap / largest if largest else gap * 0, 0, 1)
    difference = numpy.repeat((255 * shade).astype("uint8")[:, :, None], 3, axis=2)
    difference[lost] = BROKEN
    height, width = difference.shape[:2]
    strip = numpy.empty((height, GAP, 3), "uint8")
    strip[:] = BETWEEN
    told = {
        "kind": kind, "width": width, "height": height, "step": step, "difference": largest, "broken": int(broken.sum()),
    }  # fmt: skip
    return png(numpy.concatenate([parts[0], strip, parts[1], strip, difference], axis=1)), told


def blocks(array, step):
    """The largest of each step x step places of an (H, W) array."""
    import numpy

    if step == 1:
        return numpy.asarray(array, "float64")
    rows = numpy.maximum.reduceat(numpy.asarray(array, "float64"), range(0, array.shape[0], step), axis=0)
    return numpy.maximum.reduceat(rows, range(0, array.shape[1], step), axis=1)


def paint(array, kind, reference):
    """(H, W, 3) bytes of a (C, H, W) array, on the scale of the reference."""
    import numpy

    finite = numpy.isfinite(array).all(axis=0)
    if kind == "classes":
        colours = numpy.array(CLASSES, "uint8")
        out = colours[numpy.where(finite, numpy.nan_to_num(array).argmax(axis=0), 0) % len(CLASSES)]
    else:
        known = reference[numpy.isfinite(reference)]
        low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
        with numpy.errstate(all="ignore"):
            scaled = numpy.nan_to_num((array - low) / ((high - low) or 1.0))
        out = numpy.moveaxis((255 * numpy.clip(scaled, 0, 1)).astype("uint8"), 0, 2)
        out = numpy.repeat(out, 3, axis=2) if kind == "grey" else out
    out = numpy.array(out)
    out[~finite] = BROKEN
    return out


def png(pixels):
    """The file of an (H, W, 3) array of bytes."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + pixels[row].tobytes() for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data) & 0xFFFFFFFF)
        for name, data in parts
    )
