"""TensorRT-RTX on a GPU that it does not serve: the engine builds ahead of time, is refused when it is loaded, and the refusal is
put in the right category.

    python3 benchmarks/gpu/rtx_refusal.py [--out FILE] [--category gpu-unsupported]

Needs tensorrt_rtx_bindings and its libraries, and onnx, beside this Python. Ends with 1 when the engine loads, or its refusal is
another than the category expected; on a GPU that TensorRT-RTX serves, say `--category none`.
"""

from __future__ import annotations

import sys

import common

from builder.diagnose import diagnose


def main() -> None:
    parser = common.arguments(__doc__ or "")
    parser.add_argument("--category", default="gpu-unsupported")
    parser.add_argument("--target", default="sm89")
    asked = parser.parse_args()
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "one",
        values[:1],
        values[1:],
        [numpy_helper.from_array(weight, "w")],
    )
    with common.session("tensorrt_rtx_bindings") as worker:
        path = worker.folder / "model.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        job = {
            "adapter": "tensorrt", "model": str(path), "precision": "fp32", "realised": "graph", "profile": None, "threads": 1,
            "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 8]}], "options": {"target": asked.target},
            "outputs": [{"name": "y", "dtype": "float32", "shape": [1, 8]}], "settings": {"module": "tensorrt_rtx_bindings"},
        }  # fmt: skip
        build, folder = worker.result("build", job)
        case = worker.folder / "case.npz"
        x = np.ones((1, 8), dtype=np.float32)
        np.savez(case, input_0=x, output_0=x @ weight)
        run = {**job, "engine": str(folder / build["engine"]), "cases": [{"file": str(case), "label": "static"}],
               "tolerance": {"atol": 1e-4, "rtol": 1e-3}, "metric": None}  # fmt: skip
        figures = {"built": build["found"], "category": "none", "line": "", "message": ""}
        try:
            figures["comparison"] = worker.result("run", run)[0]["comparison"]
        except common.Refused as refused:
            found = diagnose("load", "failed", refused.error, {"exit": 0}, refused.log, {})
            figures.update(category=found.category, line=found.line, message=refused.error.get("message", ""))
    common.finish(figures, asked.out)
    sys.exit(0 if figures["category"] == asked.category else 1)


if __name__ == "__main__":
    main()
