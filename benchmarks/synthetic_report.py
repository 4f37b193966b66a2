"""A report of a wanted size for measuring its page: NOT measured, every number in it is invented.

Its shape is that of the default matrix: three families of engine stacks and their releases, twenty models, options; about 7 KB
for each cell, its loaded libraries shared by the cells of a stack, two compared outputs, eight stages with logs, and one cell
in four that fails, by rules of version, opset and model as real ones do. The same size is the same report.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator
from typing import Any

STATUSES = ("verified", "built", "degraded", "mismatch", "failed", "crashed", "timeout", "out-of-memory", "unsupported",
            "skipped", "blocked")  # fmt: skip
FAMILIES = (("ort", "onnxruntime", "1"), ("ov", "openvino", "2"), ("rtx", "tensorrt-rtx", "3"))
OPSETS, PRECISIONS, SHAPES = ("13", "17", "18", "21", "23"), ("fp32", "fp16", "int8"), ("static", "dynamic")
MODELS = tuple(f"model{number:02}" for number in range(20))
STAGES = (("environment", "environment"), ("environment", "environment"), ("export", "export"), ("parse", "build"),
          ("build", "build"), ("load", "run"), ("run", "run"), ("compare", "run"))  # fmt: skip
OPTIONS = len(OPSETS) * len(PRECISIONS) * len(SHAPES)
RULES = ("wheel", "export-opset", "opset", "ir", "precision")


def report(cells: int) -> dict[str, Any]:
    """A report as `build_report` takes it, of exactly `cells` cells."""
    rnd = random.Random(11)
    made = list(itertools.islice(_cells(rnd, -(-cells // (len(MODELS) * OPTIONS))), cells))
    claims = {key: claim for cell in made for key, claim in cell.pop("claims").items()}
    machine = made[0]["machine"]
    return {
        "schema": 1, "version": "0.1.0",
        "run": {"id": "2026-11-21T10:00:00Z-3f2a", "started": "2026-11-21T10:00:00Z", "finished": "2026-11-21T12:00:00Z",
                "seconds": 7200.0, "interrupted": False, "over_budget": False, "steps": 3 * cells, "command": "enginematrix run",
                "select": "group default", "matrix": {"file": "matrix.yaml", "name": "synthetic", "sha256": "5e" * 32},
                "lock": {"sha256": "a7" * 32, "cutoff": "2026-11-20T00:00:00Z"}, "machine": machine},
        "counts": {status: sum(cell["status"] == status for cell in made) for status in STATUSES},
        "selected": cells, "cells": made, "isolation": None,
        "exit": {"code": 1, "policy": "unexpected", "because": "unexpected failures"},
        "predictions": {
            "skipping": True, "cells": {"supported": cells, "unsupported": 0, "unknown": 0}, "refuted": [],
            "rules": [{"rule": rule, "text": f"the stack has what {rule} asks for", "claims": 1,
                       **{state: {"held": 1, "failed": 0, "open": 0} for state in ("supported", "unsupported", "unknown")}}
                      for rule in RULES],
            "claims": list(claims.values()),
        },
    }  # fmt: skip


def _stacks(number: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """(Its release as a number, an engine stack): the families by turns."""
    for at in range(number):
        entry, family, major = FAMILIES[at % 3]
        release, python = at // 3, "3.11" if at % 6 < 3 else "3.12"
        version = f"{major}.{release}.0"
        yield release, {"id": f"{family}-{version}-py{python}", "entry": entry, "family": family,
                        "fields": {family: version, "python": python}}  # fmt: skip


def _cells(rnd: random.Random, stacks: int) -> Iterator[dict[str, Any]]:
    exporters = [
        {
            "id": f"torch-{version}-py3.11",
            "entry": "torch",
            "family": "torch",
            "fields": {"torch": version, "python": "3.11"},
        }
        for version in ("2.12.0", "2.13.0")
    ]
    machine = {"cores": 2, "cpu": "Invented Processor 3000", "cuda": None, "driver": None, "glibc": "2.36", "gpus": [],
               "kernel": "6.1.0", "memory": 24 << 30, "platform": "Linux-x86_64"}  # fmt: skip
    for release, engine in _stacks(stacks):
        loaded = {
            "libraries": [
                {"name": f"lib{n}.so.{release}", "path": f"/usr/lib/x86_64-linux-gnu/lib{n}-{engine['id']}.so.{release}"}
                for n in range(31)
            ],
            "modules": {engine["family"]: engine["fields"][engine["family"]], "numpy": f"2.{release % 5}.0"},
        }  # fmt: skip
        for number, model in enumerate(MODELS):
            exporter = exporters[number % 2]
            for opset, precision, shapes in itertools.product(OPSETS, PRECISIONS, SHAPES):
                axes = {"model": model, "opset": opset, "precision": precision, "shapes": shapes}
                yield _cell(rnd, release, engine, exporter, axes, loaded, machine)


def _judge(rnd: random.Random, release: int, family: str, axes: dict[str, str]) -> tuple[str, str, dict[str, Any]]:
    """(Status, stage, what explains it)."""
    opset, number = int(axes["opset"]), int(axes["model"][-2:])
    if family == "tensorrt-rtx":
        return "built", "build", {"reason": "built; no GPU of compute capability 8.9 here to run it on"}
    if opset > 18 + release:
        line = f"Unsupported model: opset {opset} is under development and support for this is limited"
        return "failed", "parse", {"reason": f"parse: {line}", "line": line, "category": "unsupported-opset",
                                   "signature": "opset-too-new", "diagnosis": f"This release does not read opset {opset}.",
                                   "remedy": "Export with a lower opset, or take a newer release.",
                                   "source": "https://example.com/opsets"}  # fmt: skip
    if axes["precision"] == "int8" and number % 5 == 0 and family == "onnxruntime":
        line = (
            f"Could not find an implementation for QuantizeLinear({opset}) node with name '{axes['model']}_{opset}_q'"
        )
        return "failed", "build", {"reason": f"build: {line}", "line": line, "category": "unsupported-operator",
                                   "signature": "no-kernel", "diagnosis": "There is no kernel for QuantizeLinear here.",
                                   "remedy": "Take another opset or precision."}  # fmt: skip
    if axes["precision"] == "fp16" and number == 7:
        return "degraded", "compare", {"reason": "asked fp16, got fp32", "line": "asked fp16, got fp32: CPU kernels",
                                       "category": "precision-fallback"}  # fmt: skip
    if rnd.random() < 0.004:
        line = f"output: {rnd.uniform(0.1, 50):.3f} % of the values differ by more than the tolerance"
        return "mismatch", "compare", {"reason": f"compare: {line}", "line": line, "category": "accuracy"}
    return "verified", "compare", {"reason": "outputs match the reference"}


def _cell(
    rnd: random.Random, release: int, engine: dict[str, Any], exporter: dict[str, Any], axes: dict[str, str],
    loaded: dict[str, Any], machine: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    status, last, why = _judge(rnd, release, engine["family"], axes)
    opset = axes["opset"]
    slug = f"{engine['id']}.{axes['model']}.opset{opset}.{axes['precision']}.{axes['shapes']}.from-{exporter['id']}"
    sha = hashlib.sha256(slug.encode()).hexdigest()
    ran, engine_made = last == "compare", last in ("compare", "build") and status != "failed"
    state, stages = "ok", []
    for stage, step in STAGES:
        if state == "ok" and stage == last and status == "failed":
            state = "failed"
        told = state in ("ok", "failed")
        stages.append({
            "stage": stage, "state": state, "step": step, "reused": stage == "environment",
            "seconds": rnd.uniform(0.01, 2) if told else None, "log": f"logs/{sha[:2]}/{sha}.txt" if told else None,
        })  # fmt: skip
        if stage == last:
            state = "not-reached"
    outputs = [
        {"case": case, "name": "logits", "dtype": "float32", "shape": [1, 100], "nonfinite_equal": True, "mismatched": 0.0,
         "max_abs": rnd.uniform(1e-7, 1e-4), "mean_abs": rnd.uniform(1e-8, 1e-5), "p99_abs": rnd.uniform(1e-8, 1e-5),
         "max_rel": rnd.uniform(1e-6, 1e-3), "cosine": 1 - rnd.random() * 1e-9, "snr_db": rnd.uniform(90, 130), "reason": "",
         "verdict": "mismatch" if status == "mismatch" else "match", "noise": {"max_abs": 1e-6, "max_rel": 1e-5, "scale": 3.1}}
        for case in ("static", "static.1")
    ]  # fmt: skip
    median = rnd.uniform(0.001, 0.05)
    settled = {"status": "settled", "median": median, "p90": median * 1.1, "p99": None, "samples": 400,
               "windows": [{"median": median * f, "samples": 130} for f in (1.01, 1.0, 0.99)], "load": {"others": 0.01},
               "batch": 1, "throughput": 1 / median, "device": "cpu", "build_seconds": rnd.uniform(0.1, 4),
               "build_memory": 300 << 20, "engine_bytes": 737463}  # fmt: skip
    rules = {rule: hashlib.sha256(f"{rule}{engine['id']}{opset}".encode()).hexdigest()[:16] for rule in RULES}
    claims = {
        key: {"key": key, "rule": rule, "subject": f"{engine['id']}, opset {opset}", "state": "supported", "change": None,
              "because": "so it is written", "facts": [], "held": 1, "failed": 0, "open": 0, "verdict": "confirmed",
              "evidence": [], "refuted": None}
        for rule, key in rules.items()
    }  # fmt: skip
    return {
        "id": sha[:12], "slug": slug, "folder": slug, "key": sha + sha[:16], "status": status, "stage": last, "category": None,
        "signature": None, "line": None, "diagnosis": None, "remedy": None, "source": None, **why,
        "expected": {"state": "expected", "fail": "unsupported-operator", "because": "no kernel yet", "until": None,
                     "where": "matrix.yaml:74:5"} if why.get("signature") == "no-kernel" else None,
        "flaky": sha[0] == "0" and status == "verified", "axes": axes, "engine": engine, "exporter": exporter, "stages": stages,
        "comparison": {"verdict": "match", "reason": "", "tolerance": {"atol": 1e-4, "rtol": 1e-3}, "outputs": outputs,
                       "metric": None} if ran else None,
        "degraded": [{"asked": "fp16", "got": "fp32", "how": "CPU kernels"}] if status == "degraded" else [],
        "found": {"from": "session profile", "nodes_by_provider": {"CPUExecutionProvider": 20},
                  "providers": ["CPUExecutionProvider"],
                  "operators": {"Conv": 15, "Flatten": 1, "Gemm": 1, "GlobalAveragePool": 1, "MaxPool": 1},
                  "precision": {"Conv": {"fp32": 15}, "Gemm": {"fp32": 1}}} if ran else None,
        "measure": settled if status == "verified" and axes["precision"] == "fp32" and opset == "17" else None,
        "artifact": {"sha256": sha, "bytes": 737463, "path": f"objects/{sha[:2]}/{sha}.onnx"} if engine_made else None,
        "files": {"model": f"objects/{sha[:2]}/{sha}.onnx", "cases": [f"objects/{sha[:2]}/{sha}.npz"] * 2, "subgraphs": [],
                  "pictures": []},
        "loaded": loaded if last != "environment" else {}, "python": f"{engine['fields']['python']}.7", "machine": machine,
        "isolation": {"engine": "venv", "exporter": "venv"}, "image": None, "command": f"enginematrix repro {sha[:12]}",
        "when": f"2026-11-21T10:{release % 60:02}:{rnd.randrange(60):02}Z", "reused": sha[1] in "01234567",
        "seconds": round(rnd.uniform(0.1, 4), 4), "prediction": {"state": "supported", "claims": [*rules.values()]},
        "claims": claims,
    }  # fmt: skip
