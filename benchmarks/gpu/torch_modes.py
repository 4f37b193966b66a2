"""Eager, TorchScript and AOTInductor on a GPU, in FP32, FP16, BF16 and INT8, and what happens when TF32 is left on.

    python3 benchmarks/gpu/torch_modes.py [--out FILE] [--recipes encoder,residual_cnn] [--modes aotinductor] [--rounds 4]

About a minute for a cell, two for AOTInductor; `--out` is written after each, so that a run that is cut short leaves what it had.

Every engine is built and run by the product's own adapter, compared with the reference that PyTorch computes in FP32 on the CPU,
timed by CUDA events and end to end at every batch size, and held against eager FP32 on the same GPU in turns.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import common
import yaml

from builder import speed

RECIPES = common.ROOT / "recipes"
#: (mode, precision, TF32 left on)
CELLS = [
    ("eager", "fp32", False), ("eager", "fp32", True), ("eager", "fp16", False), ("eager", "bf16", False),
    ("torchscript", "fp32", False), ("torchscript", "fp16", False),
    ("aotinductor", "fp32", False), ("aotinductor", "fp16", False), ("aotinductor", "bf16", False),
    ("eager", "int8", False),
]  # fmt: skip
METHOD = {
    "warmup_seconds": 1.0,
    "warmup_runs": 10,
    "window_seconds": 0.5,
    "window_runs": 25,
    "windows": 10,
    "agree": 0.05,
}


def typed(tolerance: dict[str, Any]) -> dict[str, Any]:
    return {name: float(value) if name != "because" else value for name, value in tolerance.items()}


class Model:
    """A recipe with its reference and its module, made once."""

    def __init__(self, worker: common.Worker, name: str) -> None:
        self.worker = worker
        self.recipe = yaml.safe_load((RECIPES / name / "recipe.yaml").read_text(encoding="utf-8"))
        self.shared = {"recipe": self.recipe, "recipe_dir": str(RECIPES / name), "source": None, "shapes": "dynamic"}
        options = {"options": {"shapes": "dynamic"}}
        self.reference, self.cases = worker.result("reference", {"exporter": "torch", **options, **self.shared})
        job = {"adapter": "torch", "exporter": "torch", "takes": "module", **options, **self.shared}
        self.module, self.folder = worker.result("export", job)

    def job(self, mode: str, precision: str, tf32: bool) -> dict[str, Any]:
        dims = self.recipe["dims"]["dynamic"]
        profile = {
            item["name"]: {
                point: [size if isinstance(size, int) else dims[size][point] for size in item["shape"]]
                for point in ("min", "opt", "max")
            }
            for item in self.recipe["inputs"]
        }
        return {
            "adapter": "torch", "model": str(self.folder / self.module["model"]), "precision": precision, "realised": "flag",
            "inputs": self.module["inputs"], "outputs": self.module["outputs"], "profile": profile, "threads": 4,
            "options": {"mode": mode}, "settings": {"device": "cuda", "tf32": str(tf32).lower()}, **self.shared,
        }  # fmt: skip

    def built(self, mode: str, precision: str, tf32: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        """(job with its engine and cases, the build's result with seconds and bytes). Raises Refused."""
        job = self.job(mode, precision, tf32)
        build, folder = self.worker.result("build", job, seconds=500)
        engine = folder / build["engine"]
        build["bytes"] = engine.stat().st_size
        build["seconds"] = sum(stage["seconds"] for stage in build["stages"])
        tolerances = self.recipe["tolerance"]
        # BF16 has three bits of mantissa less than FP16, and the recipes say nothing of it: eight times FP16's.
        tolerance = typed(tolerances.get(precision) or {k: 8 * float(tolerances["fp16"][k]) for k in ("atol", "rtol")})
        cases = [{"file": str(self.cases / case["file"]), "label": case["label"]} for case in self.reference["cases"]]
        return {**job, "engine": str(engine), "cases": cases, "tolerance": tolerance, "metric": None}, build

    def turns(self, one: dict[str, Any], other: dict[str, Any], rounds: int) -> dict[str, Any]:
        """The speed-up of `other` over `one`, by builder/speed.py."""
        windows: dict[str, list[list[float]]] = {"baseline": [], "engine": []}
        for number in range(rounds):
            for name in speed.order(number):
                job = {**(one if name == "baseline" else other), "method": dict(speed.ROUND_METHOD)}
                result, folder = self.worker.result("measure", job)
                found = json.loads((folder / Path(result["samples_file"]).name).read_text())
                windows[name].append([sample for window in found["windows"] for sample in window])
        return speed.speedup(list(zip(windows["baseline"], windows["engine"], strict=True)))


def cell(
    model: Model, mode: str, precision: str, tf32: bool, baseline: dict[str, Any] | None, rounds: int
) -> dict[str, Any]:
    out: dict[str, Any] = {"mode": mode, "precision": precision, "tf32_left_on": tf32}
    try:
        job, build = model.built(mode, precision, tf32)
        out["build"] = {name: build[name] for name in ("seconds", "bytes", "found", "degraded")}
        run, _ = model.worker.result("run", job)
        comparison = run["comparison"]
        out["verdict"] = comparison["verdict"]
        out["max_abs"] = max(item["max_abs"] for item in comparison["outputs"])
        out["found"], out["degraded"] = run["found"], run["degraded"]
        measured, _ = model.worker.result("measure", {**job, "method": METHOD})
        for name in ("settled", "median", "p90", "batch", "throughput", "memory"):
            out[name] = measured[name]
        out["device"] = {name: measured["device"][name] for name in ("settled", "median", "samples")}
        out["batches"] = [
            {**entry, "device": entry["device"] and entry["device"]["median"]} for entry in measured["batches"]
        ]
        if baseline is not None:
            out["speedup"] = model.turns(baseline, job, rounds)
    except common.Refused as refused:
        out["refused"] = {"message": str(refused)[:2000], "type": refused.error.get("type"), "log": refused.log}
    return out


def main() -> None:
    parser = common.arguments(__doc__ or "")
    parser.add_argument("--recipes", default="encoder,residual_cnn")
    parser.add_argument("--modes", default="eager,torchscript,aotinductor")
    parser.add_argument("--rounds", type=int, default=speed.ROUNDS, help="turns of each speed-up")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    figures: dict[str, Any] = {"cells": rows}
    begun = time.monotonic()
    with common.session("torch", "torch._dynamo", "torch.export") as worker:
        figures["torch"] = worker.session.probe["modules"]["torch"].get("version")
        for name in asked.recipes.split(","):
            model = Model(worker, name)
            baseline, _ = model.built("eager", "fp32", False)
            for mode, precision, tf32 in CELLS:
                if mode not in asked.modes.split(","):
                    continue
                is_baseline = (mode, precision, tf32) == CELLS[0]
                row = cell(model, mode, precision, tf32, None if is_baseline else baseline, asked.rounds)
                rows.append({"model": name, **row})
                common.write(figures, asked.out)
                words = [f"{time.monotonic() - begun:6.1f} s", name, mode, precision, "tf32" if tf32 else ""]
                print(*words, row.get("verdict") or row.get("refused"), flush=True)
    common.finish(figures, asked.out)


if __name__ == "__main__":
    main()
