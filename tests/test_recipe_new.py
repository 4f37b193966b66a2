"""`recipe new`: what it writes is read back, says what it assumed, and refuses what it cannot know."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import enginefiles
import pytest
import yaml
from enginefiles import block, number
from test_recipe_inspect import onnx, saved, signature, value, write

from builder import recipe, recipe_callable, recipe_new
from builder.cli import main
from builder.errors import SpecError, UsageError
from builder.project import Project
from builder.recipe_model import Tensor
from builder.recipe_new import Asked


def new(folder: Path, origin: str | Path, name: str = "net", **asked: Any) -> tuple[dict[str, Any], list[str]]:
    """The recipe's data, as the worker gets it, and the notes."""
    made, notes = recipe_new.create(name, str(origin), Project(matrix=folder / "matrix.yaml"), Asked(**asked))
    errors: list[SpecError] = []
    loaded = recipe.load(made / "recipe.yaml", "recipe.yaml", errors)
    assert loaded is not None and not errors
    text = (made / "recipe.yaml").read_text()
    assert yaml.safe_load(text)["inputs"] == loaded.recipe.data["inputs"], "other YAML readers see the same"
    assert max(map(len, text.splitlines())) < 400
    return dict(loaded.recipe.data), notes


def test_an_onnx_file(tmp_path: Path) -> None:
    weights = block(5, number(1, 1000) + number(1, 8) + number(2, 1) + block(8, b"table"))
    gather = block(1, block(1, b"table") + block(1, b"ids") + block(4, b"Gather"))
    values = [value("ids", 7, "batch", "sequence"), value("gpu_0/image", 1, None, 3, None, None), value("flag", 9)]
    data = onnx(*values, nodes=gather, weights=weights)
    found, notes = new(tmp_path, write(tmp_path, "my net.onnx", data))
    assert found["exporters"] == ["onnx"] and found["source"]["name"] == "my_net.onnx"
    assert (tmp_path / "recipes/net/my_net.onnx").read_bytes() == data
    ids, image, flag = found["inputs"]
    assert ids == {"name": "ids", "dtype": "int64", "shape": ["batch", "sequence"], "range": [0, 999]}
    assert image == {
        "name": "gpu_0_image", "tensor": "gpu_0/image", "dtype": "float32", "shape": ["N", 3, "H", "W"], "range": [-1, 1],
    }  # fmt: skip
    assert flag["shape"] == [] and flag["range"] == [0, 1]
    assert found["dims"]["static"] == {"batch": 1, "sequence": 32, "N": 1, "H": 224, "W": 224}
    assert found["dims"]["dynamic"]["sequence"] == {"min": 8, "opt": 32, "max": 64}
    assert any("sequence" in note and "assumed" in note for note in notes)
    assert any("index into a table of 1000 rows" in note for note in notes)
    text = (tmp_path / "recipes/net/recipe.yaml").read_text()
    assert "# assumed: batch, sequence, N, H, W; put in your own" in text
    assert "default, not measured" in text and "calibration" not in found


def test_what_is_fixed_has_no_dynamic_shape(tmp_path: Path) -> None:
    found, notes = new(tmp_path, write(tmp_path, "m.onnx", onnx(value("x", 1, 1, 3))))
    assert found["dims"] == {"static": {}} and notes == []


def test_sizes_that_are_given_are_not_assumed(tmp_path: Path) -> None:
    path = write(tmp_path, "m.onnx", onnx(value("x", 1, "n", 3)))
    found, notes = new(tmp_path, path, dims={"n": (2, 3, 5)})
    assert found["dims"] == {"static": {"n": 2}, "dynamic": {"n": {"min": 2, "opt": 3, "max": 5}}}
    assert notes == [] and "assumed" not in (tmp_path / "recipes/net/recipe.yaml").read_text()


def test_external_data_is_copied_and_declared(tmp_path: Path) -> None:
    write(tmp_path, "m/w.bin", b"1234")
    path = write(tmp_path, "m/model.onnx", enginefiles.onnx(external="w.bin"))
    found, _ = new(tmp_path, path, inputs={"x": Tensor(name="x", dtype="float32", shape=(1,))})
    assert list(found["source"]["data-files"]) == ["w.bin"]
    assert (tmp_path / "recipes/net/w.bin").read_bytes() == b"1234"


def test_a_tolerance_for_every_precision_of_the_matrix(tmp_path: Path) -> None:
    path = write(tmp_path, "m.onnx", onnx(value("x", 1, 3)))
    write(tmp_path, "matrix.yaml", b"axes:\n  model: [not-there-yet]\n  precision: {values: [fp32, bf16, fp8]}\n")
    found, _ = new(tmp_path, path)
    assert set(found["tolerance"]) == {"fp32", "fp16", "int8", "bf16", "fp8"}
    for limits in found["tolerance"].values():
        assert limits["cosine"] <= 0.9999, "it can fail whatever the scale of the outputs"
    assert "calibration" not in found, "nothing asks for int8"


def test_a_matrix_with_int8_wants_data_and_is_told_what_they_are(tmp_path: Path) -> None:
    """Without, the whole matrix would be refused for the new model."""
    path = write(tmp_path, "m.onnx", onnx(value("x", 1, 3)))
    write(tmp_path, "matrix.yaml", b"axes:\n  precision: [fp32, int8]\n")
    found, notes = new(tmp_path, path)
    assert found["calibration"] == {"samples": 8, "seed": 100}
    assert any("random numbers" in note for note in notes)
    assert "# assumed: random numbers" in (tmp_path / "recipes/net/recipe.yaml").read_text()


def test_a_saved_model_by_its_signature(tmp_path: Path) -> None:
    data = saved(
        signature("serving_default", {"image": (1, (-1, 8, 8, 3))}, ("y",)),
        signature("score", {"a": (3, (-1,)), "b": (3, (2,))}, ("y",)),
    )
    write(tmp_path, "sm/saved_model.pb", data)
    write(tmp_path, "sm/variables/variables.index", b"x")
    found, _ = new(tmp_path, tmp_path / "sm")
    assert found["source"]["kind"] == "folder" and "settings" not in found
    assert found["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["N", 8, 8, 3], "range": [-1, 1]}]
    assert (tmp_path / "recipes/net/sm/variables/variables.index").exists()
    found, _ = new(tmp_path, tmp_path / "sm", "scores", signature="score")
    assert found["settings"] == {"signature": "score"}
    assert [item["name"] for item in found["inputs"]] == ["a", "b"]
    with pytest.raises(UsageError, match="no signature 'none'; it has score, serving_default"):
        new(tmp_path, tmp_path / "sm", "none", signature="none")


def test_a_frozen_graph_with_its_outputs(tmp_path: Path) -> None:
    found, _ = new(tmp_path, write(tmp_path, "graph.pb", enginefiles.FROZEN_GRAPH))
    assert found["settings"] == {"outputs": ["Identity"]} and found["exporters"] == ["tensorflow"]
    assert found["inputs"][0]["shape"] == ["N", 4]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("m.tflite", enginefiles.TFLITE, "TensorFlow Lite model: no exporter takes it"),
        ("m.safetensors", enginefiles.safetensors(b"{}"), "no exporter takes it as a model"),
        ("m.pb", b"\x12\x04abcd", "neither a SavedModel"),
        ("m.onnx", enginefiles.onnx(external="../w"), "leads out of the model's folder"),
        ("m.onnx", onnx(value("x", 8, 3)), "input 'x' is of type string"),
        ("m.onnx", onnx(block(1, b"s") + block(2, block(4, b""))), "input 's' is a sequence"),
        ("m.onnx", onnx(block(1, b"s") + block(2, block(1, number(1, 1)))), "type or shape of input 's' cannot be known"),
        ("m.pt", enginefiles.TORCHSCRIPT, "say it: --input x:float32"),
    ],
)  # fmt: skip
def test_what_cannot_become_a_recipe_leaves_nothing(name: str, data: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        new(tmp_path, write(tmp_path, name, data))
    assert not (tmp_path / "recipes").exists() or not os.listdir(tmp_path / "recipes")


def test_a_recipe_that_is_there_stays(tmp_path: Path) -> None:
    path = write(tmp_path, "m.onnx", onnx(value("x", 1, 3)))
    write(tmp_path, "recipes/net/recipe.yaml", b"mine")
    with pytest.raises(UsageError, match="is there already"):
        new(tmp_path, path)
    assert (tmp_path / "recipes/net/recipe.yaml").read_text() == "mine"
    with pytest.raises(UsageError, match="cannot be a recipe's name"):
        new(tmp_path, path, "../x")


NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self, width, depth=2):
        super().__init__()

    def forward(self, ids, mask, scale=1.0):
        return ids

def build(width=8, *, depth):
    net = Net(width)
    return net.eval()

def example_inputs():
    return torch.randint(0, 100, (2, 16)), torch.ones((2, 16), dtype=torch.bool)
"""


def test_a_callable_is_read_and_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text("raise SystemExit('imported')\n" + NET)
    with pytest.raises(UsageError, match="takes depth; say what: --argument depth=VALUE"):
        new(tmp_path, "nets:build")
    found, _ = new(tmp_path, "nets.py:build", arguments={"depth": 3})
    assert found["source"] == {"kind": "callable", "name": "nets:build", "arguments": {"depth": 3}}
    assert found["inputs"] == [
        {"name": "ids", "dtype": "int64", "shape": ["N", 16], "range": [0, 99]},
        {"name": "mask", "dtype": "bool", "shape": ["N", 16], "range": [0, 1]},
    ]
    assert found["dims"]["static"] == {"N": 2}, "the size that the example has"
    assert (tmp_path / "recipes/net/nets.py").exists()


def test_inputs_of_a_module_without_an_example_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NET[: NET.index("def example_inputs")])
    with pytest.raises(UsageError, match="input 'ids' cannot be known without loading it; say it: --input ids:"):
        new(tmp_path, "nets:Net", arguments={"width": 1})
    asked = {name: Tensor(name=name, dtype="int64", shape=("N", 4)) for name in ("ids", "mask")}
    found, _ = new(tmp_path, "nets:Net", arguments={"width": 1}, inputs=asked)
    assert [item["shape"] for item in found["inputs"]] == [["N", 4], ["N", 4]]
    with pytest.raises(UsageError, match="has no input 'other'; it has ids, mask"):
        new(tmp_path, "nets:Net", "b", arguments={"width": 1}, inputs={"other": Tensor(name="other")})


@pytest.mark.parametrize(
    ("example", "inputs"),
    [
        ("example_inputs = (torch.zeros(1, 3, 8, 8),)", [("float32", (1, 3, 8, 8), None)]),
        ("EXAMPLE_INPUTS = [torch.randn([4, 5], dtype=torch.float16)]", [("float16", (4, 5), None)]),
        ("example_inputs = torch.rand(size=(4,))", [("float32", (4,), None)]),
        ("class A:\n  example_input_array = torch.empty((2, 2))", [("float32", (2, 2), None)]),
        ("class A:\n  def __init__(self):\n    self.example_input_array = torch.zeros(1, 2)", [("float32", (1, 2), None)]),
        ("class A:\n  @property\n  def dummy_inputs(self):\n    return {'a': torch.randint(5, (1, 2))}", [("int64", (1, 2), 4)]),
        ("example_inputs = torch.zeros(1, SIZE)", None),
        ("example_inputs = torch.zeros(-1)", None),
        ("example_inputs = make()", None),
        ("example_inputs = (torch.zeros(1), other)", None),
        ("example_inputs = __import__('os').system('touch executed')", None),
    ],
)  # fmt: skip
def test_examples_are_read_as_far_as_they_are_written_out(
    example: str, inputs: list[Any] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(f"class Net:\n  def forward(self, x): return x\n{example}\n")
    found = recipe_callable.find("nets:Net")
    assert found.example == (inputs is not None)
    if inputs is not None:
        assert [(item.dtype, item.shape, item.highest) for item in found.inputs] == inputs
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("text", "origin", "words"),
    [
        ("x = 1", "nets:build", "has no function or class 'build'; it has none"),
        ("def builds(): pass", "nets:build", "perhaps 'builds'"),
        ("def build(:", "nets:build", "not Python"),
        ("from . import other\ndef build(): pass", "nets:build", "imports from its own package"),
        ("", "other.nets:build", "no file other/nets.py"),
    ],
)  # fmt: skip
def test_a_callable_that_is_not_there(
    text: str, origin: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(text)
    with pytest.raises(UsageError, match=words):
        recipe_callable.find(origin)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "m.onnx", onnx(value("x", 1, "n", 3)))
    assert main(["recipe", "new", "net", "--from", "m.onnx", "--dim", "n=1,2,4"]) == 0
    said = capsys.readouterr().out
    assert "recipes/net/recipe.yaml: written" in said and "enginematrix run --select model=net" in said
    for wrong in (
        ["--dim", "n=3,2,1"],
        ["--input", "x:float32"],
        ["--input", "x:text:1"],
        ["--argument", "x"],
        ["--package", "x"],
    ):
        assert main(["recipe", "new", "other", "--from", "m.onnx", *wrong]) == 2
        assert wrong[0] in capsys.readouterr().err
    assert main(["recipe", "new", "other", "--from", "none.onnx"]) == 2
    assert not Path("recipes/other").exists()


_WORDS = ("N", "batch size", "2*n", "unk__3", "né", "class", "-", "a.b")


@pytest.mark.parametrize("word", _WORDS)
def test_any_name_of_a_dimension_or_an_input_becomes_one_that_a_recipe_takes(word: str, tmp_path: Path) -> None:
    found, _ = new(tmp_path, write(tmp_path, "m.onnx", onnx(value(word, 1, word, 3), value(word + "!", 1, word, None))))
    first, second = found["inputs"]
    assert first["shape"][0] == second["shape"][0] != second["shape"][1]
    assert first["name"] != second["name"] and first.get("tensor", first["name"]) == word
    assert json.dumps(found) and shutil.rmtree(tmp_path / "recipes") is None
