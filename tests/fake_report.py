"""A made-up report for tests of the report's pages: NOT measured, every number below is invented.

The shape is docs/report-schema.md; error texts are literal ones from the failure catalogue, explained by the real
`diagnose`, so that the pages are tried with what a matrix really produces. Deterministic: the same cells every time.
"""

from __future__ import annotations

import random
from typing import Any

from builder.answers import Fact
from builder.diagnose import diagnose
from builder.diagnose_catalog import catalog
from builder.predict import Claim, Prediction
from builder.predict_score import score
from builder.values import FAILING, STATUSES, Cell, Stack, Where

ORT = ["1.15.1", "1.16.3", "1.17.3", "1.18.1", "1.19.2", "1.20.1", "1.22.1", "1.24.2", "1.31.1"]
OPENVINO = ["2023.0.2", "2023.3.0", "2024.1.0", "2024.6.0", "2025.1.0", "2025.4.1", "2026.2.0"]
RTX = [("1.4.0.76", "12"), ("1.5.0.114", "12"), ("1.6.1.120", "12"), ("1.7.1.116", "12"), ("1.7.1.116", "13")]
TENSORRT = ["8.6.1", "10.9.0.34", "11.0.0.114"]
MODELS = {
    "resnet50": ("onnx", "onnx", "1.23.2", "3.11"),
    "squeezenet": ("onnx", "onnx", "1.23.2", "3.11"),
    "shufflenet": ("onnx", "onnx", "1.23.2", "3.11"),
    "encoder": ("torch", "torch", "2.13.0", "3.11"),
    "segmenter": ("torch", "torch", "2.13.0", "3.11"),
    "keras-cnn": ("tensorflow", "tensorflow", "2.15.1", "3.11"),
    "minilm": ("onnx", "onnx", "1.23.2", "3.11"),
}
OPSETS = ["13", "17", "21"]
HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>"
BASE_SECONDS = {"resnet50": 0.021, "squeezenet": 0.0062, "shufflenet": 0.0048, "encoder": 0.0031, "segmenter": 0.034,
                "keras-cnn": 0.0019, "minilm": 0.0074}  # fmt: skip


def engines() -> list[Stack]:
    def stack(entry: str, family: str, python: str, **fields: str) -> Stack:
        named = {key.replace("_", "-"): value for key, value in fields.items()}
        return Stack(role="engine", entry=entry, family=family, fields={**named, "python": python})

    out = [stack("ort", "onnxruntime", "3.11" if v < "1.19" else "3.12", onnxruntime=v) for v in ORT]
    out += [stack("ov", "openvino", "3.11" if v < "2024" else "3.12", openvino=v) for v in OPENVINO]
    out += [stack("rtx", "tensorrt-rtx", "3.12", tensorrt_rtx=v, cuda=cuda) for v, cuda in RTX]
    out += [stack("trt", "tensorrt", "3.10", tensorrt=v) for v in TENSORRT]
    return out


def cells() -> list[Cell]:
    """The product with a few combinations left out, as a matrix.yaml would have it."""
    out = []
    for engine in engines():
        for model, (entry, family, version, python) in MODELS.items():
            exporter = Stack(role="exporter", entry=entry, family=family, fields={family: version, "python": python})
            for opset in OPSETS:
                if opset == "13" and model in ("minilm", "segmenter", "shufflenet"):
                    continue
                precision = (
                    "fp16" if (model, opset) in (("resnet50", "17"), ("encoder", "21"), ("segmenter", "17")) else "fp32"
                )
                if opset == "21" and model == "squeezenet" and engine.family != "onnxruntime":
                    continue
                shapes = "dynamic" if model in ("encoder", "minilm") and opset == "17" else "static"
                options = {"opset": opset, "precision": precision, "shapes": shapes}
                if engine.family == "tensorrt-rtx":
                    options["target"] = "sm120" if model == "encoder" else "sm89"
                if engine.family == "tensorrt" and opset != "17":
                    continue
                out.append(Cell(exporter=exporter, engine=engine, model=model, options=options))
    return out


def _example(name: str) -> str:
    return next(s.example for s in catalog().signatures if s.id == name)


def _ort_opset(opset: str, limit: str) -> str:
    text = _example("ort-opset-not-released")
    return "Load model from /data/j/model.onnx failed: " + text.replace("Opset 16", f"Opset {opset}").replace(
        "opset 15", f"opset {limit}"
    )


def _judge(cell: Cell, rnd: random.Random) -> tuple[str, str, dict[str, Any] | None, dict[str, Any] | None, str]:
    """(status, stage, error, end, log)"""
    version = cell.engine.fields[cell.engine.family]
    family, opset, model = cell.engine.family, cell.options["opset"], cell.model

    def error(stage: str, kind: str, message: str) -> tuple[str, str, dict[str, Any], dict[str, Any], str]:
        return "failed", stage, {"stage": stage, "type": kind, "message": message}, {"exit": 0}, ""

    if family == "tensorrt":
        if version == "11.0.0.114":
            return "skipped", "environment", None, None, ""
        return "blocked", "environment", {"type": "", "message": ""}, {"exit": 1}, (
            _example("vendor-index-unreachable") if version == "10.9.0.34" else _example("wheel-tag-mismatch")
            .replace("onnxruntime==1.15.1", "tensorrt==8.6.1"))  # fmt: skip
    if model == "keras-cnn" and opset == "21":
        return error(
            "export", "ValueError", "make_sure failure: Opset 21 is not supported yet. Please use a lower opset"
        )
    if family == "onnxruntime":
        if version in ("1.15.1", "1.16.3") and opset == "21":
            return error("parse", "Fail", _ort_opset("21", "19"))
        if version == "1.17.3" and opset == "21":
            return error("parse", "Fail", _ort_opset("21", "20"))
        if version == "1.16.3" and model == "minilm":
            return "crashed", "run", None, {"signal": 11, "name": "SIGSEGV"}, ""
        if version == "1.18.1" and model == "shufflenet":
            return "timeout", "build", None, {"timeout": 120.0}, ""
        if version == "1.22.1" and model == "segmenter" and opset == "17":
            return "degraded", "compare", None, None, ""
        if version == "1.31.1" and model == "encoder" and opset == "13":
            return error("run", "RuntimeError", f"unexpected node {HOSTILE} \x1b[31mred\x1b[0m")
    if family == "openvino":
        if version < "2024" and model == "segmenter":
            return error("parse", "RuntimeError", "Check 'false' failed at src/inference/src/core.cpp:100:\n"
                         "OpenVINO does not support the following ONNX operations: GridSample")  # fmt: skip
        if version == "2024.1.0" and model == "encoder" and opset == "21":
            return "mismatch", "compare", None, None, ""
        if version == "2025.1.0" and model == "minilm" and opset == "17":
            return "out-of-memory", "build", None, {"memory": 8 << 30}, ""
    if family == "tensorrt-rtx":
        if version == "1.4.0.76" and model == "encoder":
            return error(
                "parse", "ParseError", _example("rtx-operator-unsupported").replace("Swish", "LayerNormalization")
            )
        if version == "1.5.0.114" and cell.options["target"] == "sm120" and opset == "13":
            return "unsupported", "resolve", None, None, ""
        return "built", "build", None, None, ""
    return "verified", "compare", None, None, ""


REASONS = {
    "verified": "matches the reference", "built": "built; no GPU of compute capability 8.9 here to run it on",
    "skipped": "needs an NVIDIA GPU, and this machine has none",
    "unsupported": "SM 120 came with TensorRT-RTX 1.6 (predicted, not run)",
}  # fmt: skip


def comparison(status: str, precision: str, rnd: random.Random) -> dict[str, Any]:
    scale = 1e-3 if precision == "fp16" else 1e-6
    bad = status == "mismatch"
    error = 0.37 if bad else scale * rnd.uniform(0.5, 4)
    return {
        "verdict": "mismatch" if bad else "match",
        "reason": "logits: 12.4 % of the values differ by more than the tolerance" if bad else "",
        "tolerance": {"atol": scale * 10, "rtol": scale * 100},
        "outputs": [
            {"case": case, "name": "logits", "dtype": "float32", "shape": [n, 1000], "nonfinite_equal": True,
             "mismatched": 0.124 if bad else 0.0, "max_abs": error, "mean_abs": error / 9, "p99_abs": error / 2,
             "max_rel": error * 3, "cosine": 0.91 if bad else 1 - scale * scale, "snr_db": 18.2 if bad else 96.1,
             "verdict": "mismatch" if bad else "match", "reason": "12.4 % mismatched" if bad else ""}
            for case, n in (("opt", 1), ("max", 8))
        ],
        "metric": {"name": "top1-agreement", "value": 0.75 if bad else 1.0, "minimum": 0.99,
                   "verdict": "mismatch" if bad else "match"},
    }  # fmt: skip


def _cell(cell: Cell, rnd: random.Random) -> dict[str, Any]:
    status, stage, error, end, log = _judge(cell, rnd)
    precision = cell.options["precision"]
    found = None
    if status in FAILING - {"mismatch", "degraded"} or status == "blocked":
        versions = {cell.engine.family: cell.engine.fields[cell.engine.family], "numpy": "2.4.6"}
        found = diagnose(stage, status, error, end, log, versions)
    order = ["environment", "environment", "export", "parse", "build", "load", "run", "compare"]
    stages, state = [], "ok"
    for i, name in enumerate(order):
        if state == "ok" and name == stage and status not in ("verified", "built", "degraded", "mismatch"):
            state = "failed" if status not in ("skipped", "unsupported") else "skipped"
        elif state != "ok" or (status == "built" and name in ("load", "run", "compare")):
            state = "not-reached" if status != "built" else "skipped"
        seconds = {"environment": 4.2, "export": 1.31, "parse": 0.02, "build": 0.4, "load": 0.03, "run": 0.05}.get(
            name, 0.01
        )
        stages.append({
            "stage": name, "state": state,
            "seconds": round(seconds * rnd.uniform(0.6, 1.6), 4) if state in ("ok", "failed") else None,
            "reused": i < 2, "log": f"logs/{cell.id}/{name}.txt" if state in ("ok", "failed") else None,
            "step": ["environment", "environment", "export", "build", "build", "run", "run", "run"][i],
        })  # fmt: skip
    compared = comparison(status, precision, rnd) if status in ("verified", "mismatch", "degraded") else None
    degraded = (
        [{"asked": "fp16", "got": "fp32", "how": "CPU kernels compute in float32"}] if status == "degraded" else []
    )
    measure = None
    if status == "verified" and cell.options["opset"] == "17":
        base = BASE_SECONDS[cell.model] * (1.25 if cell.engine.family == "onnxruntime" else 1.0)
        version = (ORT + OPENVINO).index(cell.engine.fields[cell.engine.family])
        median = base * (1.3 - 0.02 * version) * rnd.uniform(0.95, 1.05)
        settled = rnd.random() > 0.12
        measure = {
            "status": "settled" if settled else "unstable", "median": median if settled else None,
            "p90": median * rnd.uniform(1.02, 1.2) if settled else None, "p99": None, "samples": 420,
            "windows": [{"runs": 140, "median": median * f} for f in ((1.02, 1.0, 0.99) if settled else (1.3, 1.0, 0.8))],
        }  # fmt: skip
    line = found.line if found else None
    category = found.category if found else None
    diagnosis, remedy = (found.diagnosis, found.remedy) if found else (None, None)
    if status == "mismatch":
        category, line = "accuracy", compared["reason"] if compared else ""
        diagnosis = "The engine ran and its outputs are not those of the reference within the recipe's tolerance."
    if status == "degraded":
        category, line = "precision-fallback", "asked fp16, got fp32: CPU kernels compute in float32"
    expected = None
    if status == "failed" and cell.engine.fields.get("onnxruntime") == "1.15.1":
        expected = {"state": "expected", "fail": "unsupported-opset", "because": "released before opset 21",
                    "until": None, "where": "matrix.yaml:40:5"}  # fmt: skip
    family = cell.engine.family
    return {
        "id": cell.id, "slug": cell.slug, "key": cell.id * 8, "status": status, "stage": stage,
        "reason": REASONS.get(status) or f"{f'needs {cell.engine.id}' if status == 'blocked' else stage}: {line}",
        "category": category, "signature": found.signature if found else None, "line": line, "diagnosis": diagnosis,
        "remedy": remedy, "source": found.source if found else None, "expected": expected,
        "flaky": cell.id[0] == "0" and status == "verified",
        "axes": {"model": cell.model, **cell.options}, "engine": cell.engine.as_dict(),
        "exporter": cell.exporter.as_dict(),
        "stages": stages, "comparison": compared, "degraded": degraded,
        "found": {"device": "CPU", "inference_precision": "f32"} if compared else None, "measure": measure,
        "artifact": {"sha256": cell.id * 8, "bytes": rnd.randrange(10**5, 10**8), "path": f"engines/{cell.slug}"}
        if status in ("verified", "built", "degraded", "mismatch") else None,
        "loaded": {"libraries": [{"name": f"lib{family}.so.{cell.engine.fields[family]}",
                                  "path": f"site-packages/{family}/lib{family}.so"}],
                   "modules": {family: cell.engine.fields[family], "numpy": "2.4.6"}}
        if compared or status == "built" else {},
        "python": f"{cell.engine.fields['python']}.7",
        "command": f"enginematrix repro {cell.id}" + (" --isolation docker" if family == "openvino" else ""),
        "isolation": {"engine": "docker" if family == "openvino" else "venv", "exporter": "venv"},
        "image": {"tag": "enginematrix/openvino:2a63fa3a0e426f93", "base": "docker.io/library/python:3.11-slim-bookworm",
                  "digest": f"sha256:{'ab' * 32}", "platform": "linux/amd64", "key": "2a" * 32}
        if family == "openvino" else None,
        "when": "2026-11-21T10:02:11Z", "reused": cell.id[-1] in "01234567", "seconds": round(rnd.uniform(0.2, 3), 3),
    }  # fmt: skip


def predictions(made: list[dict[str, Any]]) -> dict[str, Any]:
    """Every cell's opset claim; of the first unsupported claim's cells some work, so that it is refuted."""
    fact = Fact(
        text="<b>a fact</b>",
        sources=("a document - https://example.com/facts",),
        where=Where(file="f.yaml", line=3, column=1),
    )
    found = {}
    for cell in made:
        if "suite" in cell:
            found[cell["id"]], cell["prediction"] = Prediction(claims=()), {"state": "unknown", "claims": []}
            continue
        engine, opset = cell["engine"]["id"], cell["axes"].get("opset", "17")
        alone = cell["status"] == "unsupported"
        state: Any = "unsupported" if alone else ("supported", "unsupported", "unknown")[(len(engine) + int(opset)) % 3]
        claim = Claim(rule="opset", subject=f"{engine}, ONNX opset {opset}{' alone' * alone}", state=state,
                      because="so it is written", facts=(fact,),
                      change="take another" if state == "unsupported" else "")  # fmt: skip
        found[cell["id"]] = Prediction(claims=(claim,))
        cell["prediction"] = {"state": state, "claims": [claim.key]}
    return score(found, made)


def fake_report(times: int = 1) -> dict[str, Any]:
    """About 330 cells over 24 engine stacks, without findings; `times` repeats them with other ids."""
    rnd = random.Random(7)
    made: list[dict[str, Any]] = []
    for turn in range(times):
        for cell in cells():
            made.append(_cell(cell, rnd))
            if turn:
                made[-1]["id"] = f"{turn:02x}{made[-1]['id'][2:]}"
                made[-1]["slug"] = f"{made[-1]['slug']}.seed{turn}"
                made[-1]["axes"]["seed"] = str(turn)
    counts = {status: sum(cell["status"] == status for cell in made) for status in STATUSES}
    return {
        "schema": 1, "version": "0.1.0",
        "run": {
            "id": "2026-11-21T10:00:00Z-3f2a", "started": "2026-11-21T10:00:00Z", "finished": "2026-11-21T10:03:21Z",
            "seconds": 201.3, "interrupted": False, "over_budget": False, "steps": 412,
            "command": "enginematrix run --group default", "select": "group default",
            "matrix": {"file": "matrix.yaml", "name": "default", "sha256": "5e" * 32},
            "lock": {"sha256": "a7" * 32, "cutoff": "2026-11-20T00:00:00Z"},
            "machine": {"cpu": "Invented Processor 3000", "cores": 2, "memory": 24 << 30, "gpus": [], "driver": None,
                        "kernel": "6.1.0", "platform": "Linux-x86_64", "glibc": "2.36"},
        },
        "counts": counts, "selected": len(made), "cells": made,
        "isolation": {
            "compared": 12, "missing": {"venv": 0, "docker": 3}, "alone": 1, "numbers": [],
            "differences": [{
                "id": made[0]["id"], "slug": made[0]["slug"],
                "venv": {"status": "verified", "stage": "compare", "category": None, "degraded": []},
                "docker": {"status": "degraded", "stage": "run", "category": "precision-fallback", "degraded": ["fp16 -> fp32"]},
            }],
        },
        "exit": {"code": 1, "policy": "unexpected", "because": "unexpected failures"},
        "since": {
            "old": "2026-11-20T10:00:00Z-77ab", "new": "2026-11-21T10:00:00Z-3f2a", "regressions": 2,
            "headline": "new failures: 2, fixed: 1; 384 cells unchanged", "changes": ["lock 628c4ff6e58c -> fc0627444a9c"],
            "groups": [
                {"kind": "new-failures", "title": "New failures", "meaning": "worked before and fails now", "count": 2,
                 "became": f"verified -> crashed at run: {HOSTILE}",
                 "causes": ["numpy 1.26.4 -> 2.2.6 (onnxruntime-1.16.3-py3.11), tried: it fails with it and works without it"],
                 "beside": ["numpy 1.26.4 -> 2.2.6 (onnxruntime-1.16.3-py3.11)"],
                 "remedy": "Pin numpy<2.", "cells": [cell["id"] for cell in made if cell["status"] == "timeout"]},
                {"kind": "fixed", "title": "Fixed", "meaning": "failed before and works now", "count": 1, "remedy": None,
                 "became": "failed -> verified", "causes": [], "beside": [], "cells": [made[0]["id"]]},
            ],
        },
        "predictions": predictions(made),
    }  # fmt: skip
