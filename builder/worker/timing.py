"""Latency of one call, end to end, by windows until it has settled.

Warm-up of at least 1 s and 10 runs. Then windows of at least 0.5 s and 25 runs (5 runs when one takes over 0.1 s), at
most 10, until the medians of the last three agree within 5 % (largest over smallest). The figures are those of these
three windows. p90 needs 100 samples, p99 needs 1000. Unsettled means no figure: only the windows, to look at.
"""

import json
import os
import time

METHOD = {
    "warmup_seconds": 1.0, "warmup_runs": 10, "window_seconds": 0.5, "window_runs": 25, "slow_seconds": 0.1,
    "slow_runs": 5, "windows": 10, "last": 3, "agree": 0.05,
}  # fmt: skip


def measure(call, method, path):
    """Time `call()`. `method` overrides METHOD. Every sample (s) goes to the JSON file `path`, by window.

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
            call()
            samples.append(clock() - begun)
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
