"""A folder in which real libraries fail silently, as a user's would: its matrix, its models, and what they are to show."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import factory
import fake
from fake_report import fake_report
from running import project

from builder.execute.local import Local
from builder.outcome import outcome
from builder.plan import reconcile
from builder.report import markdown, show
from builder.report.assemble import complete
from builder.store import Store
from builder.values import STATUSES, Cell

MATRIX = """\
schema: 1
name: silent
exporters:
  onnx: {family: onnx, onnx: 1.23.2}
engines:
  ort: {family: onnxruntime, onnxruntime: [1.16.3, 1.31.1]}
  ort-numpy2: {family: onnxruntime, onnxruntime: 1.16.3, numpy: 2.2.6}
  twice: {family: ort-twice, onnxruntime: 1.22.0}
  other: {family: ort-other, onnxruntime: 1.30.0}
  openvino: {family: openvino, openvino: 2026.4.1}
axes:
  model: [net, net10, recurrent, resizer]
  opset: [18]
  precision: [fp32, fp16, int8]
  shapes: [static]
  provider: {values: [cpu, cuda], when: {engine: ort}}
  inference-precision: {values: [asked, default], when: {engine: openvino}}
groups:
  default: >-
    (model=net and precision=fp16 and onnxruntime=1.31.1 and provider=cpu and engine=ort)
    or (model=recurrent and precision=int8 and onnxruntime=1.31.1 and provider=cpu and engine=ort)
    or (model=net and precision=fp32 and onnxruntime=1.31.1 and engine=ort)
    or (model=net10 and precision=fp32 and onnxruntime=1.16.3 and provider=cpu and engine=ort)
    or (model=net and precision=fp32 and engine=ort-numpy2,twice,other,openvino)
    or (model=resizer and precision=fp32 and inference-precision=asked)
    or (model=resizer and precision=fp32 and onnxruntime=1.31.1 and provider=cpu and engine=ort)
"""

#: Two packages of one import name, at one version: neither the resolver nor the version that is loaded tells.
TWICE = """\
family: ort-twice
summary: two packages that install the same files
provides: [engine]
adapter: onnxruntime
device: cpu
isolation: [venv]
axes: {onnxruntime: {required: true}}
python: [{use: "3.12"}]
packages: ["onnxruntime=={onnxruntime}", "onnxruntime-openvino=={onnxruntime}", numpy]
modules: {onnxruntime: onnxruntime, numpy: ''}
precision: {fp32: graph}
settings: {providers: [CPUExecutionProvider]}
"""

#: A family whose package line is not what its axis says.
OTHER = TWICE.replace("twice", "other").replace('=={onnxruntime}", "onnxruntime-openvino=={onnxruntime}', "==1.31.1")

_RECIPE = """\
recipe: {name}
summary: {name}
exporters: [onnx]
script: export.py
inputs: [{{name: x, dtype: float32, shape: {shape}, range: [-1, 1]}}]
dims: {{static: {{N: 1}}}}
seeds: [0]
uses: [opset, shapes]
tolerance:
  fp32: {{atol: 1.0e-4, rtol: 1.0e-3, because: sums in another order}}
  fp16: {{atol: 1.0e-2, rtol: 1.0e-2, because: half precision}}
  int8: {{cosine: 0.9, because: eight bits}}
calibration: {{samples: 2, seed: 9}}
"""

_SCRIPT = """\
def model(recipe, source):
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(0)

    def weight(name, *shape):
        return numpy_helper.from_array((draw.standard_normal(shape) * 0.3).astype(np.float32), name)

{body}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", {shape}), ("y", {out}))]
    graph = helper.make_graph(nodes, "{name}", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version={ir})
"""

_NET = """
weights = [weight("w", 8, 3, 3, 3), weight("w2", 8, 5)]
nodes = [
    helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], name="conv"),
    helper.make_node("Relu", ["c"], ["r"], name="relu"),
    helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
    helper.make_node("Flatten", ["p"], ["f"], name="flat"),
    helper.make_node("MatMul", ["f", "w2"], ["y"], name="fc"),
]
"""
#: ONNX Runtime's tools have no way to quantise an LSTM, and say nothing.
_RECURRENT = """
weights = [weight("w", 1, 16, 6), weight("r", 1, 16, 4)]
nodes = [helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=4, name="lstm")]
"""
#: Half the size, each pixel the mean of those it stands for: with `antialias`, which OpenVINO reads and leaves out.
_RESIZER = """
weights = [numpy_helper.from_array(np.array([1, 1, 0.3, 0.3], np.float32), "s")]
nodes = [helper.make_node("Resize", ["x", "", "s"], ["y"], mode="linear", antialias=1, name="resize")]
"""
#: name -> (shape of x, shape of y, IR version, body)
_MODELS = {
    "net": (["N", 3, 16, 16], ["N", 5], 8, _NET), "net10": (["N", 3, 16, 16], ["N", 5], 10, _NET),
    "recurrent": ([5, "N", 6], [5, 1, "N", 4], 8, _RECURRENT), "resizer": (["N", 1, 20, 20], ["N", 1, 6, 6], 8, _RESIZER),
}  # fmt: skip


def silent(folder: Path) -> Path:
    """The folder, ready to run."""
    project(folder, MATRIX)
    for name, text in (("ort-twice", TWICE), ("ort-other", OTHER)):
        (folder / "images" / name).mkdir()
        (folder / "images" / name / "family.yaml").write_text(text)
    for name, (shape, out, ir, body) in _MODELS.items():
        place = folder / "recipes" / name
        place.mkdir()
        (place / "recipe.yaml").write_text(_RECIPE.format(name=name, shape=str(shape).replace("'", "")))
        sizes = [[1 if size == "N" else size for size in given] for given in (shape, out)]
        text = _SCRIPT.format(
            name=name, shape=sizes[0], out=sizes[1], ir=ir, body=textwrap.indent(body.strip("\n"), "    ")
        )
        (place / "export.py").write_text(text)
    return folder


def told(tmp_path: Path, cell: Cell, **real: dict[str, Any]) -> tuple[dict[str, Any], str, str]:
    """(the cell of the report, `show`, report.md) of a cell whose stages (`export`, `build`, `run`) gave what a real library gave
    a job of a worker; the stages that are not named go well. For libraries that are too dear to be run a second time."""

    def script(stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        if stage == "calibrate":
            (folder / "table.json").write_text("{}")
            return {"table": "table.json"}
        kept = {
            name: value
            for name, value in real.get(stage, {}).items()
            if name not in ("model", "engine", "data", "pictures")
        }
        return {**fake.well(stage, job, folder), **kept}

    plan, store = factory.planner().plan([cell]), Store(tmp_path / "artifacts")
    reconcile(plan, store.light(), store.root / "objects")
    local = Local(plan, store, fake.World(script), fake.Listener(), run="run", jobs=1, cores=1)
    local.run()
    chain = plan.chains[0]
    found = outcome(
        chain, store.steps(step.key for step in chain.steps() if step.key), local.infrastructure, "", lambda path: ""
    )
    found["expected"] = None
    counts = {status: int(status == found["status"]) for status in STATUSES}
    whole = {**fake_report(), "cells": [found], "counts": counts, "selected": 1, "isolation": None}
    return found, show.text(found, store.root, logs=False), markdown.render(complete(whole))
