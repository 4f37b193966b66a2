"""A small project in a folder of its own, for the tests of the spec and the matrix: text in, Spec and Matrix out."""

from __future__ import annotations

from pathlib import Path

from builder import matrix, spec

FAMILIES = {
    "engine": """
family: engine
summary: An engine
provides: [engine]
adapter: engine
axes: {onnxruntime: {required: true}, numpy: {}}
python:
  - {if: {onnxruntime: "<1.17"}, use: "3.11"}
  - {use: "3.12"}
packages:
  - "onnxruntime=={onnxruntime}"
  - {if: {numpy: "*"}, add: "numpy=={numpy}"}
  - {if: {onnxruntime: "<1.19", numpy: ~}, add: "numpy<2", because: built against NumPy 1}
modules: {onnxruntime: onnxruntime, numpy: numpy}
precision: {fp32: graph, fp16: graph, int8: [{if: {onnxruntime: "<1.17"}, use: flag}, {use: graph}]}
settings: {threads: 1}
""",
    "gpu": """
family: gpu
summary: An engine with a target
provides: [engine]
adapter: gpu
device: cuda
run-needs: [nvidia-gpu]
axes: {gpu: {required: true, releases: tensorrt-rtx}, cuda: {required: true}}
python: [{use: "3.12"}]
packages: ["gpu_cu{cuda}=={gpu}"]
modules: {gpu: gpu}
precision: {fp32: graph, fp16: graph}
""",
    "source": """
family: source
summary: An exporter
provides: [exporter]
exporter: source
axes: {onnx: {required: true}}
python: [{use: "3.12"}]
packages: ["onnx=={onnx}"]
modules: {onnx: onnx}
""",
    "other": """
family: other
summary: Another exporter
provides: [exporter]
exporter: other
axes: {torch: {required: true}}
python: [{use: "3.11"}]
packages: ["torch=={torch}"]
modules: {torch: torch}
""",
    "onnx-tools": """
family: onnx-tools
summary: Tools
provides: [tools]
exporter: tools
axes: {onnx: {required: true}}
python: [{use: "3.12"}]
packages: ["onnx=={onnx}"]
modules: {onnx: onnx}
""",
}

RECIPE = """
recipe: NAME
summary: A model
exporters: [source, other]
script: export.py
inputs: [{name: x, dtype: float32, shape: [N, 3]}]
dims: {static: {N: 1}, dynamic: {N: {min: 1, opt: 2, max: 4}}}
seeds: [0, 1]
uses: [opset, shapes]
tolerance:
  fp32: {atol: 1.0e-4, rtol: 1.0e-3, because: measured}
  fp16: {atol: 1.0e-2, rtol: 1.0e-2, because: measured}
  int8: {cosine: 0.98, because: measured}
calibration: {samples: 2, seed: 100}
"""

MATRIX = """
schema: 1
name: small
exporters:
  onnx: {family: source, onnx: 1.20.1}
engines:
  ort: {family: engine, onnxruntime: [1.16.3, 1.20.1]}
axes:
  model: [alpha]
  opset: [13, 17]
"""


class Project:
    """A folder with matrix.yaml, images/ and recipes/."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in FAMILIES.items():
            self.write(f"images/{name}/family.yaml", text)
        for name in ("alpha", "beta"):
            self.recipe(name, RECIPE)

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.lstrip("\n").encode())
        return path

    def recipe(self, name: str, text: str) -> None:
        self.write(f"recipes/{name}/recipe.yaml", text.replace("NAME", name))
        self.write(f"recipes/{name}/export.py", "def export():\n    pass\n")

    def spec(self, text: str | bytes = MATRIX) -> spec.Spec:
        path = self.write("matrix.yaml", text)
        return spec.load(path, self.folder / "images", self.folder / "recipes")

    def matrix(self, text: str | bytes = MATRIX) -> matrix.Matrix:
        return matrix.expand(self.spec(text))


def slugs(cells: object) -> list[str]:
    """Short names of cells: engine version, model, options."""
    return [".".join([cell.engine.fields.get("onnxruntime") or cell.engine.fields["gpu"], cell.model,  # type: ignore[attr-defined]
                      *cell.options.values()]) for cell in cells]  # type: ignore[attr-defined]  # fmt: skip
