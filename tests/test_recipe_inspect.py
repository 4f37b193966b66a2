"""What a model says of itself without being loaded: files that the libraries themselves wrote, and hostile ones."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path

import enginefiles
import pytest
from enginefiles import block, number
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import recipe_inspect, recipe_onnx, recipe_tensorflow, recipe_weights
from builder.cli import main
from builder.errors import EngineMatrixError, UsageError
from builder.recipe_model import Tensor


def value(name: str, dtype: int, *dims: int | str | None) -> bytes:
    """A ValueInfoProto."""
    shape = b"".join(
        block(1, number(1, dim) if isinstance(dim, int) else block(2, dim.encode()) if dim else b"") for dim in dims
    )
    return block(1, name.encode()) + block(2, block(1, number(1, dtype) + block(2, shape)))


def onnx(*inputs: bytes, nodes: bytes = b"", weights: bytes = b"", outputs: tuple[bytes, ...] = ()) -> bytes:
    graph = nodes + block(2, b"g") + weights
    graph += b"".join(block(11, item) for item in inputs) + b"".join(block(12, item) for item in outputs)
    return number(1, 8) + block(7, graph) + block(8, number(2, 17))


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_onnx_inputs_are_those_that_are_no_weights(tmp_path: Path) -> None:
    """Until IR 3 weights are listed among the inputs as well."""
    weights = block(5, number(1, 30522) + number(1, 384) + number(2, 1) + block(8, b"table"))
    gather = block(1, block(1, b"table") + block(1, b"ids") + block(2, b"rows") + block(4, b"Gather"))
    path = write(
        tmp_path, "m.onnx",
        onnx(value("ids", 7, "batch", None), value("table", 1, 30522, 384), value("x", 10, -1, 3), nodes=gather, weights=weights,
             outputs=(value("rows", 1, "batch", None, 384),)),
    )  # fmt: skip
    model = recipe_onnx.read(path)
    assert model.inputs == (
        Tensor(name="ids", dtype="int64", shape=("batch", None), highest=30521),
        Tensor(name="x", dtype="float16", shape=(None, 3)),
    )  # fmt: skip
    assert model.outputs == (Tensor(name="rows", dtype="float32", shape=("batch", None, 384)),)
    assert model.details["opset_import"] == {"ai.onnx": 17}


def test_a_gather_along_another_axis_says_nothing_of_the_first(tmp_path: Path) -> None:
    weights = block(5, block(1, enginefiles.varint(100) + enginefiles.varint(7)) + block(8, b"table"))
    axis = block(5, block(1, b"axis") + number(3, 1))
    gather = block(1, block(1, b"table") + block(1, b"ids") + block(4, b"Gather") + axis)
    model = recipe_onnx.read(write(tmp_path, "m.onnx", onnx(value("ids", 7, 4), nodes=gather, weights=weights)))
    assert model.inputs is not None and model.inputs[0].highest is None


def test_an_input_that_is_no_tensor_says_what_it_is(tmp_path: Path) -> None:
    sequence = block(1, b"s") + block(2, block(4, block(1, block(1, number(1, 1)))))
    model = recipe_onnx.read(write(tmp_path, "m.onnx", onnx(sequence)))
    assert model.inputs is not None and model.inputs[0].note == "is a sequence, no tensor"


def node(name: str, operator: str, *reads: str, attributes: bytes = b"") -> bytes:
    edges = b"".join(block(3, edge.encode()) for edge in reads)
    return block(1, block(1, name.encode()) + block(2, operator.encode()) + edges + attributes)


def test_a_frozen_graph_as_tensorflow_wrote_it(tmp_path: Path) -> None:
    model = recipe_tensorflow.read(write(tmp_path, "g.pb", enginefiles.FROZEN_GRAPH))
    assert (model.format, model.problems) == ("frozen-graph", ())
    assert model.inputs == (Tensor(name="x", dtype="float32", shape=(None, 4)),)
    assert model.outputs is not None and [item.name for item in model.outputs] == ["Identity"]
    assert "types and shapes of outputs" in model.unknown


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (enginefiles.onnx(), "begins as ONNX does"),
        (b"\x12\x04abcd", "its first field is number 2"),
        (b"node {\n  name: \"x\"\n}\n", "it is text"),
        (b"\xff" * 20, "no number ends"),
        (block(1, b""), "first node has the operator ''"),
        (block(1, block(1, b"x") + block(2, b"not an operator")), "first node has the operator 'not an operator'"),
        (node("x", "Placeholder") + block(9, b"?"), "a graph has no field 9"),
        (number(1, 1), "it has no graph"),
        (number(1, 1) + block(7, b"x"), "a SavedModel has no field 7"),
    ],
)  # fmt: skip
def test_a_pb_that_is_neither_is_said_plainly(data: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"neither a SavedModel.*({words})"):
        recipe_inspect.inspect(write(tmp_path, "m.pb", data))


def test_a_graph_with_variables_is_not_frozen(tmp_path: Path) -> None:
    data = node("x", "Placeholder") + node("w", "VarHandleOp") + node("y", "MatMul", "x", "w")
    found = recipe_inspect.inspect(write(tmp_path, "m.pb", data))
    assert "not frozen: its weights are variables kept elsewhere (w)" in found.problems[0]


def test_outputs_are_what_nobody_reads(tmp_path: Path) -> None:
    data = node("x", "Placeholder") + node("c", "Const") + node("a", "Add", "x", "c") + node("b", "Relu", "a:0")
    data += node("d", "Tanh", "^b", "x")
    for more, outputs in ((b"", ["d"]), (node("n", "NoOp", "^d"), []), (node("e", "Abs", "x"), ["d", "e"])):
        model = recipe_tensorflow.read(write(tmp_path, "m.pb", data + more))
        assert model.outputs is not None
        assert [item.name for item in model.outputs] == outputs


def signature(title: str, inputs: dict[str, tuple[int, tuple[int, ...] | None]], outputs: tuple[str, ...]) -> bytes:
    def info(dtype: int, shape: tuple[int, ...] | None) -> bytes:
        sizes = number(3, 1) if shape is None else b"".join(block(2, number(1, size)) for size in shape)
        return block(1, b"t:0") + number(2, dtype) + block(3, sizes)

    sides = b"".join(block(1, block(1, name.encode()) + block(2, info(*what))) for name, what in inputs.items())
    sides += b"".join(block(2, block(1, name.encode()) + block(2, info(1, (-1, 10)))) for name in outputs)
    return block(5, block(1, title.encode()) + block(2, sides + block(3, b"tensorflow/serving/predict")))


def saved(*signatures: bytes, graph: bytes = enginefiles.FROZEN_GRAPH) -> bytes:
    meta = block(1, block(4, b"serve") + block(5, b"2.19.1")) + block(2, graph) + b"".join(signatures)
    return number(1, 1) + block(2, meta)


def test_a_saved_model_tells_its_signatures(tmp_path: Path) -> None:
    data = saved(
        signature("__saved_model_init_op", {}, ("init",)),
        signature("serving_default", {"mask": (9, (-1, 8)), "ids": (9, (-1, -1))}, ("b", "a")),
        signature("other", {"raw": (7, None)}, ("a",)),
    )
    write(tmp_path, "sm/saved_model.pb", data)
    found = recipe_inspect.inspect(tmp_path / "sm")
    assert found.path.name == "sm" and found.problems == ()
    assert found.model.inputs == (
        Tensor(name="ids", dtype="int64", shape=(None, None)), Tensor(name="mask", dtype="int64", shape=(None, 8)),
    )  # fmt: skip
    assert found.model.outputs is not None and [item.name for item in found.model.outputs] == ["a", "b"]
    assert set(found.model.signatures) == {"serving_default", "other"}
    assert found.model.signatures["other"][0] == (Tensor(name="raw", dtype="string", shape=None),)
    assert "other signatures: other" in "\n".join(recipe_inspect.lines(found))
    write(tmp_path, "sm/variables/variables.index", b"x")
    assert recipe_inspect.inspect(tmp_path / "sm" / "saved_model.pb").path.name == "sm", "the folder is the model"


def test_a_saved_model_without_signature_or_variables(tmp_path: Path) -> None:
    write(tmp_path, "a/saved_model.pb", saved())
    assert "it has no signature" in recipe_inspect.inspect(tmp_path / "a").problems[0]
    graph = node("w", "VarHandleOp")
    write(tmp_path, "b/saved_model.pb", saved(signature("serving_default", {}, ("y",)), graph=graph))
    assert recipe_inspect.inspect(tmp_path / "b").problems == (
        "b/variables is not there, and its graph reads variables",
    )
    function = block(2, block(1, block(3, block(1, b"w") + block(2, b"VarHandleOp"))))
    write(tmp_path, "c/saved_model.pb", saved(signature("serving_default", {}, ("y",)), graph=function))
    assert "reads variables" in recipe_inspect.inspect(tmp_path / "c").problems[0], "in a function of the graph too"


def test_a_tflite_file_as_tensorflow_wrote_it(tmp_path: Path) -> None:
    model = recipe_inspect.inspect(write(tmp_path, "m.tflite", enginefiles.TFLITE)).model
    assert model.inputs == (Tensor(name="serving_default_x:0", dtype="float32", shape=(None, 4)),)
    assert model.outputs == (Tensor(name="PartitionedCall:0", dtype="float32", shape=(None, 4)),)


def test_torchscript_as_torch_wrote_it(tmp_path: Path) -> None:
    found = recipe_inspect.inspect(write(tmp_path, "m.pt", enginefiles.TORCHSCRIPT))
    assert found.model.inputs is not None and [(item.name, item.dtype, item.shape) for item in found.model.inputs] == [
        ("x", "", None)
    ]
    assert found.model.outputs is None
    assert "types and shapes of inputs and outputs" in found.model.unknown


def test_nothing_of_torch_save_is_unpickled(tmp_path: Path) -> None:
    flag = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {flag}",)

    data = pickle.dumps(Evil())
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as file:
        file.writestr("m/data.pkl", data)
        file.writestr("m/version", "3")
    found = recipe_inspect.inspect(tmp_path / "m.pth")
    assert found.model.inputs is None and "which can run any code" in found.model.unknown
    with zipfile.ZipFile(tmp_path / "s.pt", "w") as file:
        for name, content in {
            "data.pkl": data,
            "constants.pkl": data,
            "code/__torch__.py": b"x = 1\n",
            "version": b"3",
        }.items():
            file.writestr(f"s/{name}", content)
    assert recipe_inspect.inspect(tmp_path / "s.pt").model.inputs is None
    with pytest.raises(UsageError, match="a pickle, and none is ever loaded"):
        recipe_inspect.inspect(write(tmp_path, "m.bin", data))
    assert not flag.exists()


def test_an_archive_that_swells_is_not_read_to_its_end(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt2", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("m/archive_format", "pt2", compress_type=zipfile.ZIP_STORED)
        file.writestr("m/models/model.json", " " * (recipe_weights.MAX_TEXT + 1))
    with pytest.raises(UsageError, match="has more than"):
        recipe_inspect.inspect(tmp_path / "m.pt2")


def test_an_exported_program_tells_types_shapes_and_symbols(tmp_path: Path) -> None:
    values = {
        "x": {"dtype": 7, "sizes": [{"as_expr": {"expr_str": "Symbol('s40', positive=True, integer=True)"}}, {"as_int": 3}]},
        "y": {"dtype": 5, "sizes": [{"as_expr": {"expr_str": "2*s40"}}]},
    }  # fmt: skip
    signature_ = {
        "input_specs": [{"parameter": {"arg": {"name": "p"}}}, {"user_input": {"arg": {"as_tensor": {"name": "x"}}}},
                        {"user_input": {"arg": {"as_int": 3}}}],
        "output_specs": [{"user_output": {"arg": {"as_tensor": {"name": "y"}}}}],
    }  # fmt: skip
    program = {
        "graph_module": {"graph": {"tensor_values": values}, "signature": signature_},
        "schema_version": {"major": 8},
    }
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as file:
        file.writestr("m/archive_format", "pt2")
        file.writestr("m/models/model.json", json.dumps(program))
    model = recipe_inspect.inspect(tmp_path / "m.pt2").model
    assert model.inputs == (
        Tensor(name="x", dtype="float32", shape=("s40", 3)),
        Tensor(name="as_int", note="is no tensor"),
    )
    assert model.outputs == (Tensor(name="y", dtype="int64", shape=("2*s40",)),)


def test_safetensors_list_their_weights(tmp_path: Path) -> None:
    header = json.dumps(
        {"b": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, "__metadata__": {"format": "pt"}}
    )
    model = recipe_inspect.inspect(
        write(tmp_path, "m.safetensors", enginefiles.safetensors(header.encode(), bytes(12)))
    ).model
    assert model.weights == (Tensor(name="b", dtype="bfloat16", shape=(2, 3)),)
    assert model.inputs is None and "weights alone" in model.unknown


def test_external_data_is_hashed_and_its_escape_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "m.onnx", enginefiles.onnx(external="w.bin"))
    assert main(["recipe", "inspect", str(path)]) == 1
    assert "problem: tensor 'w' has its data in 'w.bin': no such file beside the model" in capsys.readouterr().out
    write(tmp_path, "w.bin", b"1234")
    assert main(["recipe", "inspect", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["problems"] == [] and list(told["data-files"]) == ["w.bin"] and told["bytes"] == path.stat().st_size + 4
    write(tmp_path, "m.onnx", enginefiles.onnx(external="/etc/hostname"))
    assert main(["recipe", "inspect", str(path)]) == 1
    assert "an absolute path" in capsys.readouterr().out


def test_a_folder_with_several_models_is_asked_back(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        write(tmp_path, name, enginefiles.onnx())
    with pytest.raises(UsageError, match=r"several models: name one of a\.onnx, b\.onnx"):
        recipe_inspect.inspect(tmp_path)
    (tmp_path / "b.onnx").unlink()
    assert recipe_inspect.inspect(tmp_path).path.name == "a.onnx"


_REAL = {
    "m.onnx": onnx(value("x", 1, "N", 3), outputs=(value("y", 1, "N"),)), "m.pb": enginefiles.FROZEN_GRAPH,
    "s.pb": saved(signature("serving_default", {"x": (1, (-1, 4))}, ("y",))), "m.tflite": enginefiles.TFLITE,
    "m.pt": enginefiles.TORCHSCRIPT,
}  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(_REAL)), data=st.data())
def test_a_damaged_file_is_an_error_and_nothing_worse(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(_REAL[name])
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    path = write(tmp_path_factory.mktemp("damaged"), name, bytes(content[:cut]))
    try:
        found = recipe_inspect.inspect(path)
    except EngineMatrixError as error:
        assert str(error)
    else:
        assert all(line.isprintable() for line in recipe_inspect.lines(found))
        json.dumps(recipe_inspect.as_dict(found))
