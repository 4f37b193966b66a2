#!/usr/bin/env python3
"""Hold a report against running the engines by hand. A plain script that knows nothing of EngineMatrix but its report.

For a sample of cells it makes an environment of its own (`uv venv`, `uv pip install PACKAGE==VERSION`), loads the cell's
ONNX file in that library with a few lines of the library's public API, runs the reference cases, compares with
numpy, and says what happened in one word: `match`, `mismatch`, `failed`, `crashed`, `built`. Then it holds that against
the cell's outcome.

    python tests/crosscheck.py artifacts/report/report.json [--per-outcome 2] [--seed 7]

Exit code 0 when every sampled cell agrees, 1 when one does not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ONNXRUNTIME = """
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
names = [i.name for i in session.get_inputs()]
outputs = [o.name for o in session.get_outputs()]
run = lambda arrays: session.run(outputs, dict(zip(names, arrays)))
"""
OPENVINO = """
import sys, numpy
try:
    import openvino as ov; ov.Core
except (ImportError, AttributeError):
    import openvino.runtime as ov
core = ov.Core()
model = core.read_model(MODEL)
compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": HINT, "INFERENCE_NUM_THREADS": 1})
import io; compiled.export_model(io.BytesIO())
request = compiled.create_infer_request()
def run(arrays):
    found = request.infer(dict(enumerate(arrays)))
    return [numpy.array(found[o]) for o in compiled.outputs]
"""
COMPARE = """
import json
good, worst = True, 0.0
for path in CASES:
    data = numpy.load(path)
    inputs = [data["input_%d" % n] for n in range(sum(k.startswith("input_") for k in data.files))]
    expected = [data["output_%d" % n] for n in range(sum(k.startswith("output_") for k in data.files))]
    found = run(inputs)
    if len(found) != len(expected):
        good = False
    for a, b in zip(found, expected):
        a, b = numpy.asarray(a, dtype="float64"), numpy.asarray(b, dtype="float64")
        if a.shape != b.shape or not (numpy.isfinite(a) == numpy.isfinite(b)).all():
            good = False
            continue
        error = numpy.abs(a - b)
        worst = max(worst, float(error.max()) if error.size else 0.0)
        if TOLERANCE.get("atol") is not None:
            wrong = float((error > TOLERANCE["atol"] + TOLERANCE.get("rtol", 0.0) * numpy.abs(b)).mean())
            good = good and wrong <= TOLERANCE.get("mismatch", 0.0)
        if TOLERANCE.get("cosine") is not None:
            norm = float(numpy.linalg.norm(a) * numpy.linalg.norm(b))
            good = good and (float((a * b).sum()) / norm if norm else 1.0) >= TOLERANCE["cosine"]
print("RESULT " + json.dumps({"good": good, "worst": worst}))
"""
TENSORRT_RTX = """
import hashlib, tensorrt_rtx_bindings as trt
log = trt.Logger(trt.Logger.ERROR)
builder = trt.Builder(log)
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
parser = trt.OnnxParser(network, log)
config = builder.create_builder_config()
config.clear_flag(trt.BuilderFlag.TF32)
config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the plan keeps no names of layers, and is other bytes
if not parser.parse_from_file(MODEL):
    raise SystemExit("; ".join(parser.get_error(n).desc() for n in range(parser.num_errors)))
config.num_compute_capabilities = 1
config.set_compute_capability(getattr(trt.ComputeCapability, TARGET.upper()), 0)
if PROFILE:
    profile = builder.create_optimization_profile()
    for n in range(network.num_inputs):
        tensor = network.get_input(n)
        profile.set_shape(tensor.name, *PROFILE[n])
    config.add_optimization_profile(profile)
plan = builder.build_serialized_network(network, config)
if plan is None:
    raise SystemExit("no plan was built")
print("RESULT " + repr(hashlib.sha256(bytes(plan)).hexdigest()))
"""


def by_hand(cell: dict[str, Any], artifacts: Path, scratch: Path) -> tuple[str, str]:
    """(word, detail) of running this cell's engine on this cell's model, by the library's own API."""
    family, fields = cell["engine"]["family"], cell["engine"]["fields"]
    if family == "tensorrt-rtx":
        packages = [f"tensorrt_rtx_cu{fields['cuda']}_{part}=={fields[family]}" for part in ("libs", "bindings")]
    else:
        packages = [f"{family}=={fields[family]}"]
    numpy = fields.get("numpy")
    if numpy is None and family == "onnxruntime" and tuple(map(int, fields[family].split(".")[:2])) < (1, 19):
        packages.append("numpy<2")
    packages.append(f"numpy=={numpy}" if numpy else "numpy")
    python = environment(packages, fields["python"], scratch)
    values = {
        "MODEL": str(artifacts / cell["files"]["model"]), "CASES": [str(artifacts / path) for path in cell["files"]["cases"]],
        "TOLERANCE": (cell["comparison"] or {}).get("tolerance") or {}, "TARGET": cell["axes"].get("target", ""),
        "HINT": (cell["found"] or {}).get("hint", "f32"), "PROFILE": None,
    }  # fmt: skip
    code = {"onnxruntime": ONNXRUNTIME + COMPARE, "openvino": OPENVINO + COMPARE, "tensorrt-rtx": TENSORRT_RTX}[family]
    code = "".join(f"{name} = {value!r}\n" for name, value in values.items()) + code
    done = subprocess.run(
        [python, "-c", code],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=600,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode < 0:
        return "crashed", f"signal {-done.returncode}"
    result = next((line[7:] for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if result is None:
        return "failed", " ".join(done.stderr.split()[-200:]) or "no output"
    if family == "tensorrt-rtx":
        return "built", result.strip("'")
    data = json.loads(result)
    return ("match" if data["good"] else "mismatch"), f"largest absolute error {data['worst']:.3g}"


def same_words(line: str, said: str) -> bool:
    """Whether most of the longer words of the report's error line are in what the library said by hand."""
    words = re.findall(r"[A-Za-z][A-Za-z0-9_]{4,}", line)
    return sum(word in said for word in words) >= 0.6 * len(words)


def environment(packages: list[str], version: str, scratch: Path) -> str:
    name = "-".join([version, *packages]).replace("<", "lt").replace("=", "")
    folder = scratch / name
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run(
            ["uv", "venv", "--quiet", "--no-project", "--python", interpreter(version), str(folder)], check=True
        )
        subprocess.run(["uv", "pip", "install", "--quiet", "--python", str(python), *packages], check=True)
    return str(python)


def interpreter(version: str) -> str:
    """pyenv's interpreter of that minor version where there is one, else whatever uv finds."""
    roots = [os.environ.get("PYENV_ROOT"), os.environ.get("PYENV"), str(Path.home() / ".pyenv")]
    found = [path for root in roots if root for path in sorted(Path(root).glob(f"versions/{version}.*/bin/python3"))]
    return str(found[-1]) if found else version


#: Outcome in the report -> what running by hand must give.
AGREES = {
    "verified": {"match"}, "degraded": {"match", "built"}, "mismatch": {"mismatch"}, "failed": {"failed"},
    "crashed": {"crashed"}, "built": {"built"},
}  # fmt: skip


def sample(cells: list[dict[str, Any]], each: int, seed: int) -> list[dict[str, Any]]:
    """Some cells of every outcome of every family, among those whose engine was reached."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in cells:
        reached = cell["files"]["model"] and cell["stage"] not in ("export", "obtain", "environment", "resolve")
        known = cell["engine"]["family"] in ("onnxruntime", "openvino", "tensorrt-rtx")
        # Dynamic shapes need the recipe's profile for TensorRT, which the report does not hold.
        plain = cell["engine"]["family"] != "tensorrt-rtx" or cell["axes"].get("shapes") == "static"
        if reached and known and plain and cell["status"] in AGREES:
            groups.setdefault((cell["engine"]["family"], cell["status"]), []).append(cell)
    chooser = random.Random(seed)
    return [cell for _, group in sorted(groups.items()) for cell in chooser.sample(group, min(each, len(group)))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--per-outcome", type=int, default=2, help="cells per family and outcome (default: 2)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--scratch", type=Path, help="keep the environments here (default: a temporary folder)")
    options = parser.parse_args()
    report = json.loads(options.report.read_text())
    artifacts = options.report.resolve().parent.parent
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        for cell in sample(report["cells"], options.per_outcome, options.seed):
            word, detail = by_hand(cell, artifacts, options.scratch or Path(temporary))
            agrees = word in AGREES[cell["status"]]
            if agrees and word == "failed" and not same_words(cell["line"], detail):
                agrees, detail = False, f"but says: {detail}"
            if agrees and word == "built" and cell["artifact"]:
                agrees = detail == cell["artifact"]["sha256"]
                detail = "the same bytes" if agrees else f"other bytes: {detail[:12]}"
            wrong += not agrees
            print(
                f"{'ok  ' if agrees else 'DIFF'} {cell['status']:<9} by hand {word:<9} {cell['slug']}  ({detail[:160]})",
                flush=True,
            )
    print(f"{wrong} of the sampled cells disagree" if wrong else "every sampled cell agrees")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
