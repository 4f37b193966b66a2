"""Latency of one call, end to end, by windows until it has settled.

Warm-up of at least 1 s and 10 runs. Then windows of at least 0.5 s and 25 runs (5 runs when one takes over 0.1 s), at
most 10, until the medians of the last three agree within 5 % (largest over smallest). The figures are those of these
three windows. p90 needs 100 samples, p99 needs 1000. Unsettled means no figure: only the windows, to look at.

`speed` adds to the latency of the recipe's own case: the same at other batch sizes, the time that the GPU itself took, and
memory.
"""

import json
import os
import time

METHOD = {
    "warmup_seconds": 1.0, "warmup_runs": 10, "window_seconds": 0.5, "window_runs": 25, "slow_seconds": 0.1,
    "slow_runs": 5, "windows": 10, "last": 3, "agree": 0.05, "batch_seconds": 45.0,
}  # fmt: skip


def speed(job, load, inputs):
    """The `measure` result of README.md for an engine that `load()` gives and inputs in the engine's order."""
    from worker import memory

    method = job.input.get("method") or {}
    with job.stage("load"):
        host, device = memory.Host(), memory.Device()
        engine = load()
    with job.stage("measure"):
        result = measure(lambda: engine.run(inputs), method, job.path("samples.json"))
        device.look()
        result["batch"] = batch_of(inputs)
        result["throughput"] = throughput(result["batch"], result["median"])
        result["device"] = device_time(engine, inputs, method, job.path("device.json"))
        result["batches"] = over_batches(job, engine, inputs, method, device) if method.get("batches", True) else []
        own = engine.device_memory() if hasattr(engine, "device_memory") else None
        result["memory"] = {"host": host.figures(), "device": device.figures(), "engine": own}
    return result


def device_time(engine, inputs, method, path):
    """{"settled", "median", "p90", "p99", "samples", "samples_file", "windows"} (s) of the GPU's own time for one run, without
    copies; None for an adapter that has no `device_timer`, or an engine on the CPU."""
    timer = engine.device_timer(inputs) if hasattr(engine, "device_timer") else None
    if timer is None:
        return None
    found = measure(timer, method, path, own=True)
    return {name: found[name] for name in ("settled", "median", "p90", "p99", "samples", "samples_file", "windows")}


def batch_of(arrays):
    """The size of the first dimension, when all inputs have the same; else None."""
    sizes = {array.shape[0] if array.ndim else None for array in arrays}
    return sizes.pop() if len(sizes) == 1 else None


def throughput(batch, median):
    """Items per second, or None where either is unknown."""
    return batch / median if batch and median else None


def batch_sizes(profile, names):
    """The sizes that the first dimension of every input may take together: the least, powers of two, `opt` and the most.

    Empty where there is no profile, or an input has another first dimension."""
    limits = set()
    for name in names if profile else ():
        given = profile.get(name)
        limits.add(tuple(given[point][0] for point in ("min", "opt", "max")) if given and given["min"] else (1, 1, 1))
    low, opt, high = limits.pop() if len(limits) == 1 else (1, 1, 1)
    if low == high:
        return []
    return sorted({low, opt, high} | {1 << power for power in range(31) if low <= 1 << power <= high})


def over_batches(job, engine, inputs, method, device):
    """[{"batch", "settled", "median", "throughput", "device", "samples_file", "windows"}] at the sizes of the profile, the
    inputs repeated or cut.

    What would begin after `batch_seconds` is there with a reason (`skipped`) in place of a figure."""
    import numpy

    out = []
    started, limit = time.perf_counter(), dict(METHOD, **method)["batch_seconds"]
    for size in batch_sizes(job.input.get("profile"), [item["name"] for item in job.input["inputs"]]):
        entry = {"batch": size, "settled": False, "median": None, "throughput": None, "device": None}
        out.append(entry)
        if time.perf_counter() - started > limit:
            entry["skipped"] = "the time for batch sizes (%g s) was over" % limit
            continue
        arrays = [numpy.take(array, [index % len(array) for index in range(size)], axis=0) for array in inputs]
        try:
            found = measure(lambda given=arrays: engine.run(given), method, job.path("batch-%d.json" % size))
            on_device = device_time(engine, arrays, method, job.path("batch-%d-device.json" % size))
        except Exception as error:  # the figure at the recipe's own case stands all the same
            entry["error"] = "%s: %s" % (type(error).__name__, error)
            continue
        device.look()
        entry.update({"settled": found["settled"], "median": found["median"], "device": on_device})
        entry.update({"samples_file": found["samples_file"], "windows": found["windows"]})
        entry["throughput"] = throughput(size, found["median"])
    return out


def measure(call, method, path, own=False):
    """Time `call()`. `method` overrides METHOD. Every sample (s) goes to the JSON file `path`, by window. `own`: the call
    itself gives the seconds.

    Returns the `measure` result of README.md; `samples` is how many the figures rest on.
    """
    method = dict(METHOD, **method)
    before = Surroundings()
    clock = time.perf_counter
    started, runs = clock(), 0
    while clock() - started < method["warmup_seconds"] or runs < method["warmup_runs"]:
        call()
        runs += 1
    per_run = (clock() - started) / runs
    least = method["slow_runs"] if per_run > method["slow_seconds"] else method["window_runs"]
    windows, medians, settled = [], [], False
    while len(windows) < method["windows"] and not settled:
        samples, opened = [], clock()
        while clock() - opened < method["window_seconds"] or len(samples) < least:
            begun = clock()
            given = call()
            samples.append(given if own else clock() - begun)
        windows.append(samples)
        medians.append(quantile(samples, 0.5))
        last = medians[-method["last"] :]
        settled = len(last) == method["last"] and max(last) <= (1 + method["agree"]) * min(last)
    with open(path, "w") as file:
        json.dump({"unit": "s", "windows": windows}, file)
    kept = [sample for window in windows[-method["last"] :] for sample in window] if settled else []
    return {
        "settled": settled,
        "median": quantile(kept, 0.5) if kept else None,
        "p90": quantile(kept, 0.9) if len(kept) >= 100 else None,
        "p99": quantile(kept, 0.99) if len(kept) >= 1000 else None,
        "unit": "s",
        "samples": len(kept),
        "samples_file": os.path.basename(path),
        "windows": [{"runs": len(window), "median": median} for window, median in zip(windows, medians)],
        "warmup": {"runs": runs, "seconds": per_run * runs},
        "method": method,
        "load": before.until_now(),
    }


def quantile(values, share):
    """Linear interpolation between the ordered values (numpy's default); `values` not empty."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


class Surroundings:
    """What else went on: load average, processor time taken by other processes, clock frequency."""

    #: A foreign process is named when it took this share of one processor or more.
    NAMED = 0.05

    def __init__(self):
        self.when = time.monotonic()
        self.load = os.getloadavg()
        self.clock = clock_mhz()
        self.processes = processor_time()
        self.own = sum(os.times()[:4])

    def until_now(self):
        seconds = max(time.monotonic() - self.when, 1e-9)
        after = processor_time()
        foreign = []
        for pid, (name, used) in after.items():
            share = (used - self.processes.get(pid, (name, 0.0))[1]) / seconds
            if share >= self.NAMED and pid != os.getpid():
                foreign.append({"name": name, "share": round(share, 3)})
        foreign.sort(key=lambda item: (-item["share"], item["name"]))
        return {
            "loadavg": [self.load[0], os.getloadavg()[0]],
            "own_processors": (sum(os.times()[:4]) - self.own) / seconds,
            "foreign": foreign[:10],
            "clock_mhz": [self.clock, clock_mhz()],
            "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        }


def processor_time():
    """pid -> (name, processor seconds so far) of every process to be seen (proc(5), stat)."""
    tick = float(os.sysconf("SC_CLK_TCK"))
    found = {}
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            text = _read("/proc/%s/stat" % pid)
            if text:
                head, _, tail = text.rpartition(")")
                fields = tail.split()
                found[int(pid)] = (head.partition("(")[2], (int(fields[11]) + int(fields[12])) / tick)
    return found


def clock_mhz():
    """Mean clock of the processors as the kernel tells it now, or None."""
    found = [
        float(line.split(":")[1]) for line in (_read("/proc/cpuinfo") or "").splitlines() if line.startswith("cpu MHz")
    ]
    return round(sum(found) / len(found), 1) if found else None


def _read(path):
    try:
        with open(path, errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None
