"""Raw timing samples: read from what a job left, packed for the store, and read back.

A measurement is one or more series: `call` (end to end, the recipe's own case), `device` (the GPU's own time), `batch 8` and
`batch 8 device` (other batch sizes), `speedup baseline` and `speedup engine` (one window a round, taken in turns). Each is kept
window by window in the order in which it was taken, as float32 (a relative error of 6e-8, far below any clock's), little-endian
and compressed, under the SHA-256 of the packed bytes.
"""

from __future__ import annotations

import array
import hashlib
import json
import math
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Windows = Sequence[Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One series of samples, as read back."""

    name: str
    unit: str
    """`s`: all samples are seconds of one call."""
    used: int
    """How many of the last windows the reported figures rest on; 0 where the timing did not settle."""
    windows: tuple[tuple[float, ...], ...]


def of_job(folder: Path, result: Mapping[str, Any]) -> dict[str, tuple[Windows, int]]:
    """Series -> (windows, how many of the last ones were used) of what a `measure` job left in its folder: none where it names
    no file. Raises ValueError, with what is wrong, where a file is not what builder/worker/README.md says of it."""
    out: dict[str, tuple[Windows, int]] = {}
    for name, entry in _named(result):
        if entry.get("samples_file"):
            found = read(folder, entry["samples_file"])
            counts = [window["runs"] for window in entry.get("windows") or ()]
            if counts and counts != [len(window) for window in found]:
                msg = f"{entry['samples_file']}: its windows have {[len(w) for w in found]} samples, the result says {counts}"
                raise ValueError(msg)
            last = int((result.get("method") or {}).get("last", 3))
            out[name] = found, min(last, len(found)) if entry.get("settled") else 0
    return out


def _named(result: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "call", result
    if result.get("device"):
        yield "device", result["device"]
    for entry in result.get("batches") or ():
        yield f"batch {entry['batch']}", entry
        if entry.get("device"):
            yield f"batch {entry['batch']} device", entry["device"]


def read(folder: Path, name: Any) -> list[list[float]]:
    """The windows of a file of samples (s) in a job's folder. Raises ValueError for anything else."""
    path = folder / Path(str(name)).name
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["unit"] != "s":
            msg = f"{path.name}: samples in {found['unit']!r}, not in s"
            raise ValueError(msg)
        windows = [[float(sample) for sample in window] for window in found["windows"]]
    except (OSError, KeyError, TypeError, RecursionError) as error:
        msg = f"{path.name}: not a file of samples ({type(error).__name__}: {error})"
        raise ValueError(msg) from error
    if not windows or not all(windows):
        msg = f"{path.name}: a window without samples"
        raise ValueError(msg)
    if not all(math.isfinite(sample) and sample >= 0 for window in windows for sample in window):
        msg = f"{path.name}: a sample that is no time"
        raise ValueError(msg)
    return windows


def entry(name: str, windows: Windows, used: int) -> tuple[dict[str, Any], bytes]:
    """What a step's record says of a series (docs/report-schema.md, SERIES), and the packed samples that it names."""
    data = pack(windows)
    told = {
        "series": name, "unit": "s", "used": used, "windows": [_five(window) for window in windows],
        "sha256": hashlib.sha256(data).hexdigest(),
    }  # fmt: skip
    return told, data


def _five(window: Sequence[float]) -> dict[str, float]:
    """The number of samples and Tukey's five numbers: what a box plot shows."""
    ordered = sorted(window)
    places = {"min": 0.0, "p25": 0.25, "median": 0.5, "p75": 0.75, "max": 1.0}
    return {"runs": len(ordered), **{name: _quantile(ordered, share) for name, share in places.items()}}


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between ordered values, as the worker's own (worker/timing.py)."""
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def pack(windows: Windows) -> bytes:
    """All windows' samples, one after the other."""
    values = array.array("f", [sample for window in windows for sample in window])
    if sys.byteorder == "big":
        values.byteswap()
    return zlib.compress(values.tobytes(), 6)


def unpack(told: Mapping[str, Any], data: bytes) -> Series:
    """A series from its entry and the bytes that it names. Raises ValueError where they do not belong together."""
    counts = [int(window["runs"]) for window in told["windows"]]
    values = array.array("f")
    limit = 4 * sum(counts)  # bytes from elsewhere may unpack to anything
    try:
        unpacker = zlib.decompressobj()
        values.frombytes(unpacker.decompress(data, limit + 1))
        whole = unpacker.eof and len(values) == sum(counts)
    except (zlib.error, ValueError):  # the latter: no multiple of four bytes
        whole = False
    if not whole:
        msg = f"samples {told['sha256'][:12]} of {told['series']!r}: not the {sum(counts)} that the record says"
        raise ValueError(msg)
    if sys.byteorder == "big":
        values.byteswap()
    windows, start = [], 0
    for count in counts:
        windows.append(tuple(values[start : start + count]))
        start += count
    return Series(name=told["series"], unit=told["unit"], used=int(told["used"]), windows=tuple(windows))
