"""`pick` over 100,000 stored results, as a whole process (bar 0.5 s).

Two stores: 5,000 cells reported by 20 runs each (a nightly matrix), and 100,000 cells of one run, the worst there can be, of
which `pick` looks into the newest only.
"""

from __future__ import annotations

import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from builder.facts_records import CATALOG
from builder.pick_stacks import candidates
from builder.store import Store, text

RESULTS = 100_000
BAR = 0.5
GPUS = (("NVIDIA GeForce RTX 4090", "8.9"), ("NVIDIA H200", "9.0"), ("Tesla T4", "7.5"))
COMMAND = """
import argparse, sys
from builder import pick_cli
parser = argparse.ArgumentParser()
parser.add_argument("--file")
pick_cli.add(parser)
sys.exit(pick_cli.call(parser.parse_args()))
"""
ASKED = ["--gpu", "RTX 4090", "--driver", "550.54.14", "--need", "tensorrt>=10", "--precision", "fp16"]
MODEL = [*ASKED, "--opset", "17"]
NOTHING = ["--gpu", "RTX 4090", "--driver", "470.57.02", "--need", "tensorrt>=10.13", "--precision", "fp16"]


def fill(folder: Path, cells: int, runs: int) -> None:
    """Results as a real run writes them: an outcome's record is about 7 kB, most of it the libraries that were loaded."""
    stacks = [
        stack
        for stack in candidates(CATALOG)
        if stack.family in ("tensorrt", "onnxruntime", "openvino", "tensorrt-rtx")
    ]
    store = Store(folder)
    libraries = [
        {"name": f"libsome{number}.so.1", "path": f"site-packages/some/libsome{number}.so.1"} for number in range(75)
    ]
    machines = [
        {"cpu": "cpu", "driver": "550.54.14", "gpus": [{"name": name, "compute_capability": one}]} for name, one in GPUS
    ]
    outcomes, results = {}, {}
    for number in range(cells):
        stack, cell = stacks[number % len(stacks)], f"{number:012x}"
        record = {
            "engine": {"entry": "e", "family": stack.family, "fields": {**stack.fields, "python": "3.12"}, "id": stack.id},
            "exporter": {"entry": "x", "family": "onnx", "fields": {"onnx": "1.23.2", "python": "3.12"}, "id": "onnx-1.23.2"},
            "axes": {"model": "resnet50", "opset": "17", "precision": ("fp32", "fp16")[number // len(stacks) % 2]},
            "loaded": {"libraries": libraries}, "machine": machines[number % 3], "measure": {"median": 0.001},
            "when": "2026-11-20T00:00:00Z", "category": None,
        }  # fmt: skip
        key = hashlib.sha256(cell.encode()).hexdigest() + "0" * 16
        outcomes[key] = (cell, record)
        results[cell] = ("verified" if number % 5 else "failed", key)
        if len(outcomes) == 5000:
            store.put_outcomes(outcomes)
            outcomes = {}
    store.put_outcomes(outcomes)
    for number in range(runs):
        started = f"2026-{1 + number // 28:02}-{1 + number % 28:02}T00:00:00Z"
        store.put_run(f"run{number}", started, started, {"machine": machines[0]}, results)
    print(f"  an outcome is {len(text(record))} bytes")


def median(folder: Path, *arguments: str) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, "--file", str(folder / "matrix.yaml"), *arguments],
            capture_output=True,
            text=True,
        )
        times.append(time.perf_counter() - start)
        assert done.returncode in (0, 1), done.stderr
    return statistics.median(times)


def main() -> None:
    for cells, runs in ((0, 0), (5_000, 20), (RESULTS, 1)):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if cells:
                fill(folder / "artifacts", cells, runs)
            label = f"{cells * runs:,} results of {cells:,} cells"
            model = [*MODEL, "--model", "resnet50"] if cells else MODEL  # known by its stored runs alone
            for what, asked in (
                ("fits", ASKED), ("nothing fits", NOTHING), ("a model and an opset", model),
                ("as JSON", [*ASKED, "--emit", "json"]),
            ):  # fmt: skip
                seconds = median(folder, *asked)
                print(
                    f"{label}, {what}: {seconds:.3f} s (bar {BAR} s){'' if seconds <= BAR else '  ABOVE THE BAR'}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
