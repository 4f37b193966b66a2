"""Conflict rules and boundaries of 10,000 cells over 8 axes (bar 1 s each), and how often noise shows a rule (bar: the limit)."""

from __future__ import annotations

import itertools
import random
import sys
import time
from typing import Any

from builder.boundaries import boundaries
from builder.conflict_rules import LIMIT, rules

SPACE = {
    "engine.onnxruntime": [f"1.{minor}.0" for minor in range(15, 25)], "exporter.torch": ["2.1.0", "2.13.0"],
    "model": ["a", "b", "c", "d", "e"], "opset": ["13", "17", "18", "21", "23"], "precision": ["fp32", "fp16", "int8"],
    "shapes": ["static", "dynamic"], "target": ["sm75", "sm89", "sm120", "sm80"], "saved": ["x", "y"],
}  # fmt: skip


def cell(number: int, point: dict[str, str], failed: bool) -> dict[str, Any]:
    return {
        "id": f"{number:012x}", "status": "failed" if failed else "verified", "category": "broken" if failed else None,
        "stage": "build" if failed else "compare", "axes": {name: value for name, value in point.items() if "." not in name},
        "engine": {"id": "e", "entry": "ort", "family": "onnxruntime",
                   "fields": {"onnxruntime": point["engine.onnxruntime"], "python": "3.12"}},
        "exporter": {"id": "x", "entry": "torch", "family": "torch",
                     "fields": {"torch": point["exporter.torch"], "python": "3.12"}},
    }  # fmt: skip


def broken(point: dict[str, str]) -> bool:
    old = point["engine.onnxruntime"] < "1.19"
    return (
        (old and point["opset"] in ("21", "23"))
        or (point["precision"] == "int8" and point["target"] == "sm75" and point["model"] in ("a", "c"))
        or (point["engine.onnxruntime"] == "1.20.0" and point["model"] == "e" and point["precision"] == "fp16")
    )


def took(call: Any, *arguments: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    return (out := call(*arguments)) and (time.perf_counter() - start, out)


def main(reports: int) -> None:
    points = [dict(zip(SPACE, point, strict=True)) for point in itertools.product(*SPACE.values())]
    rnd = random.Random(7)
    chosen = rnd.sample(points, 10_000)
    planted = [cell(at, point, broken(point)) for at, point in enumerate(chosen)]
    noisy = [cell(at, point, broken(point) or rnd.random() < 0.005) for at, point in enumerate(chosen)]
    for name, cells in (("3 planted rules", planted), ("the same and noise", noisy)):
        seconds, found = took(rules, cells)
        print(f"rules of {len(cells)} cells, {name}: {seconds:.2f} s (bar 1 s), {len(found['rules'])} found")
    seconds, lines = took(boundaries, planted)
    print(f"boundaries of {len(planted)} cells: {seconds:.2f} s (bar 1 s), {len(lines)} found")
    wrong = 0
    for turn in range(reports):
        some = rnd.sample(points, (60, 200, 600)[turn % 3])
        rate = (0.02, 0.1, 0.3, 0.6)[turn % 4]
        wrong += bool(rules([cell(at, point, rnd.random() < rate) for at, point in enumerate(some)])["rules"])
    print(f"noise: {wrong} of {reports} reports with random failures show a rule (bar {LIMIT:.0%})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
