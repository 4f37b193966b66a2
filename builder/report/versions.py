"""What the page's view along a version axis needs beside the records: intervals of times, and the build's own seconds.

The interval of a median is the exact percentile bootstrap over the medians of the windows that it rests on, as two runs are
compared by (builder/history_timing.py, which has the method's sources). It says how much one process varied while it was timed,
and nothing of how processes differ among themselves. Sizes are exact; a build ran once, so that its time has no interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from builder import history_timing


def interval(measure: Mapping[str, Any] | None, level: float = history_timing.LEVEL) -> tuple[float, float] | None:
    """(Low, high) in s of a settled median; None where there is none, or fewer windows than it takes."""
    found = history_timing.windows(measure)
    if not found:
        return None
    chances = sorted(history_timing.medians(found).items())
    tail = (1 - level) / 2
    return _quantile(chances, tail), _quantile(chances[::-1], tail)


def _quantile(chances: Iterable[tuple[float, float]], tail: float) -> float:
    passed = 0.0
    for value, chance in chances:
        passed += chance
        if passed > tail:
            return value
    raise AssertionError("the probabilities sum to 1")


def build_seconds(cell: Mapping[str, Any]) -> float | None:
    """Seconds of the build's own stages (parse and build), where an engine was built; else None."""
    stages = [stage for stage in cell["stages"] if stage["stage"] in ("parse", "build")]
    if not stages or any(stage["state"] != "ok" for stage in stages):
        return None
    return float(sum(stage["seconds"] or 0.0 for stage in stages))


def for_page(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By the place of a cell: {"interval": {place: [low, high] in s}, "build": {place: s}, "level": share, "busy": {place: share
    of the machine that other processes had, where it is so large that a time says little (`history_timing.busy`)},
    "machines": [names], "machine": {place: its number}, both empty where all ran on one: no line goes from one to another}."""
    spans, builds, busy = {}, {}, {}
    names: dict[str, int] = {}
    ran = {}
    for place, cell in enumerate(cells):
        if (span := interval(cell["measure"])) is not None:
            spans[place] = span
        if cell.get("machine"):
            ran[place] = names.setdefault(machine_name(cell["machine"]), len(names))
        if history_timing.busy(cell["measure"], cell.get("machine")):
            busy[place] = round(others(cell["measure"], cell.get("machine")), 3)
        if (seconds := build_seconds(cell)) is not None:
            builds[place] = round(seconds, 4)
    return {"interval": spans, "build": builds, "level": history_timing.LEVEL, "busy": busy,
            "machines": list(names) if len(names) > 1 else [], "machine": ran if len(names) > 1 else {}}  # fmt: skip


def machine_name(machine: Mapping[str, Any]) -> str:
    """A machine as far as it can change a time: `AMD EPYC, 2 cores, no GPU`, `..., NVIDIA H200, driver 580.65`."""
    gpus = ", ".join(gpu["name"] for gpu in machine["gpus"]) or "no GPU"
    cores = f", {machine['cores']} cores" if machine.get("cores") else ""
    return f"{machine['cpu']}{cores}, {gpus}{', driver ' + machine['driver'] if machine.get('driver') else ''}"


def others(measure: Mapping[str, Any], machine: Mapping[str, Any] | None) -> float:
    """Share of the machine's processors that other processes had while a cell was timed."""
    load = measure.get("load") or {}
    used = sum(float(process.get("share") or 0) for process in load.get("foreign") or ())
    return used / int((machine or {}).get("cores") or 1)
