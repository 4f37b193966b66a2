"""The timing cache: what a builder measured of tactics on one GPU with one release, so that the next build need not.

The host hands files (`timing_cache` of a job); all of them become one cache, and what the build leaves is a file again,
which the host puts in their place. Two jobs at once both add to what they were given; nothing that one measured is lost.
From TensorRT 8.0 on. In TensorRT for RTX its calls do nothing, so that its family hands none.
"""

import os

from worker.adapters import tensorrt_api as api


def attach(trt, job, config):
    """Give the configuration a cache made of the files handed; what `found` tells of it, or None when there is none."""
    paths = job.input.get("timing_cache")
    if paths is None or api.option(job, "timing_cache") == "off":
        return None
    if not hasattr(config, "create_timing_cache"):
        return {"files": 0, "because": "%s has no timing cache (8.0 is the first)" % api.title(trt)}
    cache = config.create_timing_cache(b"")
    taken, left = 0, []
    for path in paths:
        with open(path, "rb") as file:
            other = config.create_timing_cache(file.read())
        # Without ignore_mismatch: one of another GPU, driver or release is left aside, and named.
        if other is not None and cache.combine(other, False):
            taken += 1
        else:
            left.append(os.path.basename(path))
    if not config.set_timing_cache(cache, False):
        return {"files": 0, "because": "the configuration did not take the cache"}
    return {"files": taken, "left": left, "bytes": [_size(cache)]}


def keep(job, config, found):
    """Write what the build left of the cache; the name of the file in the job's folder, or None."""
    if found is None or "bytes" not in found:
        return None
    data = bytes(config.get_timing_cache().serialize())
    found["bytes"].append(len(data))
    with open(job.path("timing.cache"), "wb") as file:
        file.write(data)
    return "timing.cache"


def _size(cache):
    return len(bytes(cache.serialize()))
