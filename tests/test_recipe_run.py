"""What `recipe new` writes works: real models of each kind, written by their own libraries, exported, built and compared.

Marked `real`: makes environments from the package index."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from modelserver import Hub
from running import enginematrix, outcomes, project, report
from test_exporters import pythons, uv

pytestmark = pytest.mark.real

MATRIX = """\
schema: 1
name: recipes
exporters:
  onnx: {family: onnx, onnx: 1.23.2}
  torch: {family: torch, torch: 2.13.0, python: "3.11"}
  tf: {family: tensorflow, tensorflow: 2.19.1}
engines:
  ort: {family: onnxruntime, onnxruntime: 1.31.1}
  openvino: {family: openvino, openvino: 2026.4.1}
axes:
  model: [MODEL]
  opset: [17]
  precision: [fp32]
  shapes: [static, dynamic]
"""
TORCH_AXIS = "  torch-exporter: {values: [torchscript], when: {exporter.family: torch}}\n"

#: Two inputs that must not be mixed up, with a name that no recipe may have; weights in a file beside the model; opset 13.
ONNX = """
import numpy, onnx
from onnx import TensorProto, helper, numpy_helper
weights = [numpy_helper.from_array(numpy.random.RandomState(0).randn(16, 8).astype("f4"), "w"),
           numpy_helper.from_array(numpy.random.RandomState(1).randn(300, 16).astype("f4"), "table")]
nodes = [helper.make_node("Gather", ["table", "in/ids"], ["rows"]), helper.make_node("Sub", ["rows", "in/x"], ["gap"]),
         helper.make_node("MatMul", ["gap", "w"], ["y"]), helper.make_node("Tanh", ["gap"], ["z"])]
ins = [helper.make_tensor_value_info("in/x", TensorProto.FLOAT, ["batch", 16]),
       helper.make_tensor_value_info("in/ids", TensorProto.INT64, ["batch"])]
outs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8]),
        helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 16])]
model = helper.make_model(helper.make_graph(nodes, "g", ins, outs, weights), opset_imports=[helper.make_opsetid("", 13)])
model.ir_version = 8
onnx.save_model(model, "model.onnx", save_as_external_data=True, location="weights/all.bin", size_threshold=0)
fixed = onnx.load("model.onnx")
for item in list(fixed.graph.input) + list(fixed.graph.output):
    item.type.tensor_type.shape.dim[0].dim_value = 2
onnx.save_model(fixed, "fixed.onnx")
"""
TENSORFLOW = """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy, tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
class Net(tf.Module):
    def __init__(self):
        random = numpy.random.RandomState(0)
        self.kernel = tf.Variable(random.randn(3, 3, 3, 8).astype("f4") * 0.2)
        self.head = tf.Variable(random.randn(8, 10).astype("f4") * 0.3)
    @tf.function
    def __call__(self, zoom, image):
        x = tf.nn.relu(tf.nn.conv2d(image, self.kernel, 1, "SAME") - zoom[:, None, None, None])
        x = tf.reduce_mean(x, [1, 2])
        return {"logits": tf.matmul(x, self.head), "features": x}
net = Net()
specs = [tf.TensorSpec([None], tf.float32, name="zoom"), tf.TensorSpec([None, 16, 16, 3], tf.float32, name="image")]
call = net.__call__.get_concrete_function(*specs)
tf.saved_model.save(net, "saved", signatures={"serving_default": call, "score": call})
with open("frozen.pb", "wb") as file:
    file.write(convert_variables_to_constants_v2(call).graph.as_graph_def().SerializeToString(deterministic=True))
"""
TORCH = """
import torch


class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, width, 3, padding=1)
        self.drop = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(width, 10)

    def forward(self, image, zoom):
        features = self.drop(torch.relu(self.conv(image) - zoom[:, None, None, None]).mean((2, 3)))
        return {"logits": self.head(features), "features": features}


def build(width=8):
    return Net(width)


def example_inputs():
    return torch.zeros(1, 3, 16, 16), torch.zeros(1)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, written by their libraries in environments of their own."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "nets.py").write_text(TORCH)
    (folder / "weights").mkdir()
    for script, minor, packages in (
        (ONNX, "3.12", ["onnx==1.23.2"]), (TENSORFLOW, "3.11", ["tensorflow-cpu==2.19.1"]),
    ):  # fmt: skip
        place = folder / f"env-{minor}"
        uv("venv", "-q", "-p", pythons(minor), str(place))
        uv("pip", "install", "-q", "--python", str(place / "bin/python"), *packages)
        ran = subprocess.run([place / "bin/python", "-c", script], cwd=folder, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield project(tmp_path_factory.mktemp("project"), MATRIX)


def run(folder: Path, name: str, *arguments: str, code: int | None = 0) -> dict[str, Any]:
    """`recipe new`, then a run of that model alone: its report."""
    if arguments:
        enginematrix(folder, "recipe", "new", name, *arguments)
    # An axis that exists for no cell is an error.
    (folder / "matrix.yaml").write_text(MATRIX.replace("MODEL", name) + (TORCH_AXIS if name == "module" else ""))
    enginematrix(folder, "run", "--frozen", "--quiet", "--select", f"model={name}", code=code)
    return report(folder)


def check(found: dict[str, Any], outputs: list[str]) -> None:
    """Two engines, static and dynamic, all verified, each output judged in every case, and none of them trivial."""
    assert [cell["status"] for cell in found["cells"]] == ["verified"] * 4, [cell["reason"] for cell in found["cells"]]
    for cell in found["cells"]:
        judged = cell["comparison"]["outputs"]
        assert {entry["name"].split(":")[0] for entry in judged} == set(outputs)
        assert len({entry["case"] for entry in judged}) == (4 if cell["axes"]["shapes"] == "dynamic" else 2)
        assert all(entry["snr_db"] is None or entry["snr_db"] > 60 for entry in judged)


def test_an_onnx_file_with_its_weights_beside_it(folder: Path, models: Path) -> None:
    found = run(folder, "net", "--from", str(models / "model.onnx"))
    check(found, ["y", "z"])
    paths = {cell["files"]["model"] for cell in found["cells"]}
    for path in paths:
        exported = folder / "artifacts" / path
        beside = exported.with_name("model.onnx.data")
        assert beside.stat().st_size >= 4 * 300 * 16, "the weights stay in a file of their own"
        assert exported.stat().st_size < 4000
    for cell in found["cells"]:
        if cell["engine"]["family"] == "onnxruntime":
            delivered = folder / "artifacts" / "engines" / cell["folder"]
            (data,) = json.loads((delivered / "manifest.json").read_text())["engine"]["data"]
            assert (delivered / data["file"]).stat().st_size == data["bytes"] >= 4 * 300 * 16
            told = json.loads(enginematrix(folder, "recipe", "inspect", str(delivered / "engine.onnx"), "--json"))
            assert list(told["data-files"]) == [data["file"]] and not told["problems"], "the engine needs nothing else"
    inputs = json.loads(enginematrix(folder, "recipe", "inspect", str(exported), "--json"))["inputs"]
    assert [item["name"] for item in inputs] == ["in_x", "in_ids"]


def test_a_fixed_batch_is_made_dynamic_where_a_recipe_asks_for_it(folder: Path, models: Path) -> None:
    enginematrix(folder, "recipe", "new", "fixed", "--from", str(models / "fixed.onnx"))
    path = folder / "recipes/fixed/recipe.yaml"
    text = path.read_text()
    assert "static: {}" in text
    text = text.replace("static: {}", "static: {N: 2}\n  dynamic: {N: {min: 1, opt: 2, max: 5}}")
    path.write_text(text.replace("shape: [2, 16]", "shape: [N, 16]").replace("shape: [2]", "shape: [N]"))
    check(run(folder, "fixed"), ["y", "z"])


def test_a_saved_model(folder: Path, models: Path) -> None:
    check(run(folder, "saved", "--from", str(models / "saved"), "--dim", "N=1,3,6"), ["features", "logits"])


def test_another_signature_of_a_saved_model(folder: Path, models: Path) -> None:
    check(run(folder, "score", "--from", str(models / "saved"), "--signature", "score"), ["features", "logits"])


def test_a_frozen_graph(folder: Path, models: Path) -> None:
    check(run(folder, "frozen", "--from", str(models / "frozen.pb")), ["Identity", "Identity_1"])


def test_a_torch_module(folder: Path, models: Path) -> None:
    """In eval mode, or its dropout would show, and with the same weights in every process."""
    made = run(folder, "module", "--from", f"{models / 'nets.py'}:build", "--argument", "width=16")
    check(made, ["features", "logits"])


def test_a_model_of_a_hub_by_its_commit(folder: Path, models: Path) -> None:
    """Through `huggingface_hub` from a server that speaks its API: locked by commit, and asked once."""
    pytest.importorskip("huggingface_hub")
    enginematrix(folder, "recipe", "new", "hubbed", "--from", str(models / "model.onnx"))
    for name in ("model.onnx", "weights/all.bin"):
        (folder / "recipes/hubbed" / name).unlink()
    path = folder / "recipes/hubbed/recipe.yaml"
    lines = path.read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("source:"))
    lines[at] = "source: {kind: hub, name: acme/net, revision: main, files: ['onnx/*'], entry: onnx/model.onnx}"
    path.write_text("\n".join(lines) + "\n")
    (folder / "matrix.yaml").write_text(MATRIX.replace("MODEL", "hubbed"))
    files = {f"onnx/{name}": (models / name).read_bytes() for name in ("model.onnx", "weights/all.bin")}
    with Hub() as hub:
        commit = hub.push("acme/net", "main", files)
        enginematrix(folder, "run", "--quiet", env={"HF_ENDPOINT": hub.base})
        check(report(folder), ["y", "z"])
        locked = json.loads((folder / "matrix.lock").read_text())["sources"]["hub:acme/net@main:onnx/*"]
        assert locked[0] == f"commit:{commit}" and len(locked) == 3
        hub.push("acme/net", "main", {"onnx/model.onnx": b"moved"})
        asked = len(hub.asked)
        assert "Nothing to do" in enginematrix(folder, "run", "--quiet", env={"HF_ENDPOINT": hub.base})
        assert len(hub.asked) == asked


def test_a_resource_of_a_package(folder: Path) -> None:
    """A model that a package carries, taken as data: the package is not installed where it is exported."""
    name = "onnx/backend/test/data/simple/test_single_relu_model/model.onnx"
    path = folder / "recipes/carried/recipe.yaml"
    path.parent.mkdir()
    path.write_text(
        "recipe: carried\nsummary: A model in a package\nexporters: [onnx]\n"
        f"source: {{kind: package, name: onnx, version: 1.20.1, entry: {name}}}\n"
        "inputs: [{name: given, tensor: x, dtype: float32, shape: [1, 2], range: [-5, 5]}]\ndims: {static: {}}\n"
        "seeds: [0, 1, 2]\nuses: [opset, shapes]\ntolerance: {fp32: {atol: 1.0e-6, rtol: 1.0e-4, because: a test}}\n"
    )
    (folder / "matrix.yaml").write_text(MATRIX.replace("MODEL", "carried").replace("[static, dynamic]", "[static]"))
    enginematrix(folder, "run", "--quiet")
    assert [cell["status"] for cell in report(folder)["cells"]] == ["verified"] * 2


def test_a_model_that_changed_is_not_taken_for_the_one_declared(folder: Path, models: Path) -> None:
    enginematrix(folder, "recipe", "new", "changed", "--from", str(models / "model.onnx"))
    weights = folder / "recipes/changed/weights/all.bin"
    data = bytearray(weights.read_bytes())
    data[100] ^= 1
    weights.write_bytes(data)
    # Another hash is declared, or the bytes that were obtained for the same one before would do.
    path = folder / "recipes/changed/recipe.yaml"
    path.write_text(re.sub("(weights/all.bin: )[0-9a-f]{64}", r"\g<1>" + "0" * 64, path.read_text()))
    run(folder, "changed", code=1)
    for status, stage, category in outcomes(folder).values():
        assert (status, stage, category) == ("failed", "obtain", "obtain-error")
    assert "sha256" in report(folder)["cells"][0]["line"]


def test_a_model_that_reaches_out_of_its_folder_never_reaches_a_library(folder: Path, models: Path) -> None:
    enginematrix(folder, "recipe", "new", "out", "--from", str(models / "model.onnx"))
    weights = folder / "recipes/out/weights/all.bin"
    weights.rename(folder / "elsewhere.bin")
    os.symlink(folder / "elsewhere.bin", weights)
    enginematrix(folder, "recipe", "inspect", str(folder / "recipes/out/model.onnx"), code=1)
    (folder / "matrix.yaml").write_text(MATRIX.replace("MODEL", "out"))
    assert "leads out of the recipe's" in enginematrix(folder, "run", "--frozen", "--quiet", code=2)
