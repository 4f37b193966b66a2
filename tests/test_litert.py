"""LiteRT for real: TensorFlow's converter writes the files, two releases of the runtime run them (`-m real`)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import factory
import numpy as np
import pytest
import yaml
from silent import told
from test_adapters import BUILDER, make, root  # noqa: F401
from worker_parts import part

from builder.contract import Broken, Subject, check
from builder.environment.session import JobEnd, WorkerSession

litert_: Any = part("adapters.litert_")

ROOT = Path(__file__).parent.parent
TENSORFLOW = {"2.15.1": ("3.10", ()), "2.19.1": ("3.11", ())}
RELEASES = {"1.0.1": ("3.11", ("numpy<2",)), "2.3.0": ("3.12", ("numpy",))}

#: A model with an operator that has no integer kernel (cumulative sum) between two that have, and one whose weights are
#: so few that the converter leaves them alone when it is asked for 8-bit weights.
SCRIPT = """
def model(recipe, source):
    from tensorflow import keras
    import tensorflow as tf

    from worker.exporters import weights

    class Sum(keras.layers.Layer):
        def call(self, x):
            return tf.cumsum(x, axis=1)

    image = keras.Input(shape=recipe["inputs"][0]["shape"][1:], name="image")
    wide = recipe["recipe"] == "wide"
    x = keras.layers.Conv2D(64 if wide else 8, 3, padding="same", activation="relu", name="first")(image)
    if recipe["recipe"] == "summed":
        x = Sum(name="sum")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    out = keras.layers.Dense(20 if wide else 5, name="out")(x)
    return weights.fill_keras(keras.Model(image, out, name=recipe["recipe"]), "small")
"""


#: A file whose first operator is of a version to come, one whose first operator is nobody's, one with TensorFlow's own.
UNKNOWN = """
import sys
import flatbuffers
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

def write(name, **code):
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(open(sys.argv[1], "rb").read(), 0))
    for key, value in code.items():
        setattr(model.operatorCodes[0], key, value)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    open(name, "wb").write(builder.Output())

write("newer.tflite", version=99)
custom = schema.BuiltinOperator.CUSTOM
write("custom.tflite", version=1, builtinCode=custom, deprecatedBuiltinCode=custom, customCode=b"NoSuchOp")
call = tf.function(lambda x: tf.linalg.det(tf.reshape(x, [1, 3, 3])), input_signature=[tf.TensorSpec([1, 9])])
made = tf.lite.TFLiteConverter.from_concrete_functions([call.get_concrete_function()])
made.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
open("flex.tflite", "wb").write(made.convert())
"""


def small(name: str, folder: Path) -> dict[str, Any]:
    (folder / name).mkdir()
    (folder / name / "export.py").write_text(SCRIPT)
    recipe = {
        "recipe": name, "script": "export.py", "seeds": [0], "calibration": {"samples": 4, "seed": 9},
        "inputs": [{"name": "image", "dtype": "float32", "shape": ["N", 16, 16, 3], "range": [-1, 1]}],
        "dims": {"static": {"N": 1}},
    }  # fmt: skip
    return {"recipe": recipe, "recipe_dir": str(folder / name), "source": None}


def tensorflow(release: str) -> tuple[str, ...]:
    """Packages of an environment with that release of TensorFlow."""
    return f"tensorflow-cpu=={release}", "tf2onnx==1.16.1" if release < "2.16" else "tf2onnx==1.17.0"


@pytest.fixture(scope="session", params=sorted(TENSORFLOW))
def files(request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: F811
    """name -> the exporter's answer with its folder, of one release of TensorFlow."""
    release = request.param
    minor, _ = TENSORFLOW[release]
    python = make(root, f"tensorflow-{release}", minor, tensorflow(release))
    folder = tmp_path_factory.mktemp(f"tflite-{release}")
    recipe = yaml.safe_load((ROOT / "recipes/keras_cnn/recipe.yaml").read_text())
    given = {"recipe": recipe, "recipe_dir": str(ROOT / "recipes/keras_cnn"), "source": None}
    models = {"keras": given, **{name: small(name, folder) for name in ("small", "summed", "wide")}}
    wanted: list[dict[str, Any]] = []

    def job(name: str, stage: str, model: str, options: dict[str, str], **more: Any) -> None:
        job_input = {**models[model], "options": options, **more}
        place = str(folder / "jobs" / name)
        wanted.append({"exporter": "tensorflow", "stage": stage, "input": job_input, "dir": place})

    static = {"shapes": "static", "saved-as": "saved-model"}
    for model in models:
        job(f"reference-{model}", "reference", model, {"shapes": "static"})
    job("reference-dynamic", "reference", "keras", {"shapes": "dynamic"})

    def samples(model: str, count: int) -> list[str]:
        return [str(folder / "jobs" / f"reference-{model}" / f"calibration-{number}.npz") for number in range(count)]

    lite = {"takes": "tflite"}
    job("fp32", "export", "keras", static, **lite, precision="fp32")
    job("fp32-again", "export", "keras", static, **lite, precision="fp32")
    job("fp32-frozen", "export", "keras", {**static, "saved-as": "frozen-graph"}, **lite, precision="fp32")
    job("fp32-dynamic", "export", "keras", {**static, "shapes": "dynamic"}, **lite, precision="fp32")
    job("fp16", "export", "keras", static, **lite, precision="fp16")
    job("int8", "export", "keras", static, **lite, precision="int8", calibration=samples("keras", 8))
    job("int8-dynamic", "export", "keras", static, **lite, precision="int8", quantization={"mode": "dynamic"})
    job("int8-none", "export", "keras", static, **lite, precision="int8", calibration=[])
    job("small-dynamic", "export", "small", static, **lite, precision="int8", quantization={"mode": "dynamic"})
    job("wide-dynamic", "export", "wide", static, **lite, precision="int8", quantization={"mode": "dynamic"})
    job("summed-int8", "export", "summed", static, **lite, precision="int8", calibration=samples("summed", 4))
    job("onnx", "export", "keras", {**static, "opset": "17"})
    listed = folder / "jobs.json"
    listed.write_text(json.dumps(wanted))
    code = folder / "code"
    code.mkdir()
    (code / "worker").symlink_to(BUILDER / "worker")
    log = folder / "log.txt"
    with log.open("w") as file:
        command = [str(python), "-B", str(ROOT / "tests" / "exporter_job.py"), str(code), str(listed)]
        ran = subprocess.run(command, stdout=file, stderr=file, check=False)
    assert ran.returncode == 0, log.read_text()[-3000:]
    with log.open("w") as file:
        command = [str(python), "-c", UNKNOWN, str(folder / "jobs" / "fp32" / "model.tflite")]
        ran = subprocess.run(command, stdout=file, stderr=file, cwd=folder, check=False)
    assert ran.returncode == 0, log.read_text()[-3000:]
    return {
        Path(item["dir"]).name: SimpleNamespace(
            **json.loads(Path(item["dir"], "result.json").read_text()), dir=Path(item["dir"])
        )
        for item in wanted
    }


@pytest.fixture(scope="session", params=sorted(RELEASES))
def session(request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: F811
    minor, more = RELEASES[request.param]
    python = make(root, f"litert-{request.param}", minor, (f"ai-edge-litert=={request.param}", *more))
    folder = tmp_path_factory.mktemp(f"litert-{request.param}")
    started = WorkerSession(
        python=python, worker_dir=BUILDER, imports=("ai_edge_litert",), log=folder / "session.log",
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
    )  # fmt: skip
    with started:
        yield SimpleNamespace(run=started.run, probe=started.probe, folder=folder, release=request.param)


def ask(session: Any, stage: str, file: Any, **more: Any) -> JobEnd:
    job = {
        "adapter": "litert", "model": str(file.dir / "model.tflite"), "precision": "fp32", "realised": "graph",
        "profile": None, "options": {}, "settings": {}, "threads": 1,
        "inputs": file.result["inputs"], "outputs": file.result["outputs"], **more,
    }  # fmt: skip
    session.last = session.folder / f"job-{len(list(session.folder.iterdir()))}"
    end: JobEnd = session.run(stage, job, session.last, seconds=120, memory=8 << 30)
    return end


def build(session: Any, file: Any, **more: Any) -> tuple[dict[str, Any], str]:
    end = ask(session, "build", file, **more)
    assert end.ok, (end.output, (session.last / "log.txt").read_text())
    assert end.stages == ("parse", "build")
    assert end.output is not None
    result = end.output["result"]
    return result, str(session.last / result["engine"])


def run(session: Any, file: Any, reference: Any, tolerance: dict[str, float], **more: Any) -> dict[str, Any]:
    _, engine = build(session, file, **more)
    cases = [{"file": str(reference.dir / case["file"]), "label": case["label"]} for case in reference.result["cases"]]
    end = ask(session, "run", file, engine=engine, cases=cases, tolerance=tolerance, metric=None, **more)
    assert end.ok, (end.output, (session.last / "log.txt").read_text())
    assert end.output is not None
    result: dict[str, Any] = end.output["result"]
    return result


STRICT = {"atol": 1e-4, "rtol": 1e-3}


@pytest.mark.real
def test_a_file_is_the_same_every_time_and_says_what_it_holds(files: Any) -> None:
    first, again = files["fp32"], files["fp32-again"]
    assert (first.dir / "model.tflite").read_bytes() == (again.dir / "model.tflite").read_bytes()
    assert [item["dtype"] for item in first.result["inputs"]] == ["float32"]
    assert first.result["inputs"][0]["shape"] == [1, 64, 64, 3]
    assert first.result["operators"]["CONV_2D"] > 3
    assert files["int8"].result["inputs"][0]["dtype"] == "int8"
    assert "full integer, 8 calibration samples" in files["int8"].result["notes"]
    assert files["fp32-dynamic"].result["inputs"][0]["shape"] == [None, 64, 64, 3]
    assert files["onnx"].result["opset"] == 17  # the same exporter still writes ONNX
    sizes = {name: (files[name].dir / "model.tflite").stat().st_size for name in ("fp32", "fp16", "int8")}
    assert sizes["int8"] < sizes["fp16"] < sizes["fp32"]


@pytest.mark.real
def test_full_integer_without_data_is_an_error(files: Any) -> None:
    assert not files["int8-none"].ok
    assert files["int8-none"].message == "full-integer int8 needs a representative data set; the recipe gives none"


@pytest.mark.real
def test_probe(session: Any) -> None:
    assert session.probe["modules"]["ai_edge_litert"]["version"] == session.release


@pytest.mark.real
@pytest.mark.parametrize("name", ["fp32", "fp32-frozen"])
def test_fp32_matches_inside_the_delegate(session: Any, files: Any, name: str) -> None:
    result = run(session, files[name], files["reference-keras"], STRICT)
    assert result["comparison"]["verdict"] == "match", result["comparison"]
    assert result["degraded"] == []
    found = result["found"]
    assert found["delegate"] == "xnnpack"
    assert found["delegated"] == found["nodes"] > 10
    assert set(found["precision"]["CONV_2D"]) == {"fp32"}
    wrong = run(session, files[name], files["reference-keras"], {"atol": 1e-12, "rtol": 0.0})
    assert wrong["comparison"]["verdict"] == "mismatch"


@pytest.mark.real
def test_dynamic_shapes(session: Any, files: Any) -> None:
    result = run(session, files["fp32-dynamic"], files["reference-dynamic"], STRICT)
    assert result["comparison"]["verdict"] == "match", result["comparison"]
    assert {tuple(output["shape"]) for output in result["comparison"]["outputs"]} == {(1, 10), (4, 10), (8, 10)}


@pytest.mark.real
def test_without_a_delegate_every_operator_is_left_to_the_library(session: Any, files: Any) -> None:
    result = run(session, files["fp32"], files["reference-keras"], STRICT, options={"delegate": "none"})
    assert result["comparison"]["verdict"] == "match"
    assert result["found"]["delegated"] == 0
    assert len(result["found"]["not_delegated"]) == min(30, result["found"]["nodes"])


@pytest.mark.real
def test_an_unknown_delegate_is_refused_by_name(session: Any, files: Any) -> None:
    end = ask(session, "build", files["fp32"], options={"delegate": "gpu"})
    assert end.output is not None
    assert "no delegate 'gpu'" in end.output["error"]["message"]


@pytest.mark.real
def test_fp16_keeps_weights_in_half_and_computes_in_fp32(session: Any, files: Any) -> None:
    """The silent one: a file asked for in fp16 is half as large, and computed in fp32."""
    result = run(session, files["fp16"], files["reference-keras"], {"atol": 2e-2, "rtol": 2e-2}, precision="fp16")
    assert result["comparison"]["verdict"] == "match", result["comparison"]
    assert [(entry["asked"], entry["got"]) for entry in result["degraded"]] == [("fp16", "fp32")]
    assert result["found"]["left"]


@pytest.mark.real
def test_full_integer(session: Any, files: Any) -> None:
    result = run(session, files["int8"], files["reference-keras"], {"cosine": 0.95}, precision="int8")
    assert result["comparison"]["verdict"] == "match", result["comparison"]
    assert result["degraded"] == []
    found = result["found"]
    assert set(found["precision"]["CONV_2D"]) == {"int8"}
    assert found["inputs"][0]["dtype"] == "int8"
    assert found["inputs"][0]["scale"] > 0
    assert found["left"] == []


@pytest.mark.real
def test_an_operator_without_an_integer_kernel_is_named(session: Any, files: Any, tmp_path: Path) -> None:
    """Asked for full integer, one operator stays in floating point and splits the delegate's share in two."""
    result = run(session, files["summed-int8"], files["reference-summed"], {"cosine": 0.9}, precision="int8")
    assert result["comparison"]["verdict"] == "match", result["comparison"]
    (entry,) = result["degraded"]
    assert entry["asked"] == "full-integer int8"
    assert "CUMSUM" in entry["how"]
    assert "CUMSUM" in [item["operator"] for item in result["found"]["not_delegated"]]
    assert result["found"]["delegated"] > 0
    cell, shown, page = told(tmp_path, factory.cell(precision="int8"), run=result)
    assert (cell["status"], cell["category"]) == ("degraded", "precision-fallback")
    line = "asked full-integer int8, got int8 and fp32: 1 of 4 compute operators stayed in floating point (CUMSUM)"
    assert line in shown
    assert "asked full-integer int8, got int8 and fp32." in page


@pytest.mark.real
def test_eight_bit_weights_alone_are_no_int8_unless_they_are_asked_for(session: Any, files: Any) -> None:
    file, reference, tolerance = files["wide-dynamic"], files["reference-wide"], {"cosine": 0.95}
    asked = run(session, file, reference, tolerance, precision="int8")
    assert [(entry["asked"], entry["got"]) for entry in asked["degraded"]] == [("int8", "fp32")]
    assert asked["found"]["precision"]["CONV_2D"] == {"hybrid": 1}
    dynamic = run(session, file, reference, tolerance, precision="int8", quantization={"mode": "dynamic"})
    assert dynamic["comparison"]["verdict"] == "match"
    assert dynamic["degraded"] == []


@pytest.mark.real
@pytest.mark.parametrize(("model", "share"), [("small", "0 of 2"), ("keras", "4 of 13")])
def test_weights_that_the_converter_left_alone_are_told(session: Any, files: Any, model: str, share: str) -> None:
    """Weights of fewer than 1,024 elements stay float32, without a word: asked 8 bits, little or nothing was quantised."""
    file = files["small-dynamic" if model == "small" else "int8-dynamic"]
    mode = {"mode": "dynamic"}
    result = run(session, file, files[f"reference-{model}"], {"cosine": 0.9}, precision="int8", quantization=mode)
    (entry,) = result["degraded"]
    assert (entry["asked"], entry["got"]) == ("int8", "fp32")
    assert entry["how"].startswith(f"{share} compute operators ran in int8")


@pytest.mark.real
def test_a_broken_file_is_the_librarys_own_end(session: Any, files: Any) -> None:
    """An error of 2.3.0; 1.0.1 reads beyond the end of the file and dies."""
    broken = session.folder / "broken.tflite"
    broken.write_bytes((files["fp32"].dir / "model.tflite").read_bytes()[:300])
    end = ask(session, "build", files["fp32"], model=str(broken))
    if session.release == "1.0.1":
        assert end.end == {"signal": 11, "name": "SIGSEGV"}
    else:
        assert end.output is not None
        assert end.output["error"]["stage"] == "parse"


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "stage", "operator", "said"),
    [
        ("newer", "parse", "CONV_2D", "Didn't find op for builtin opcode 'CONV_2D' version '99'"),
        ("custom", "build", "NoSuchOp", "Encountered unresolved custom op: NoSuchOp"),
        ("flex", "build", "FlexMatrixDeterminant", "Select TensorFlow op(s), included in the given model"),
    ],
)
def test_operators_that_it_does_not_have_are_named(
    session: Any, files: Any, name: str, stage: str, operator: str, said: str
) -> None:
    model = files["fp32"].dir.parent.parent / f"{name}.tflite"
    end = ask(session, "build", files["fp32"], model=str(model))
    assert end.output is not None
    error = end.output["error"]
    assert error["stage"] == stage
    assert [entry["operator"] for entry in error["unsupported"]] == [operator]
    assert error["unsupported"][0]["reason"].startswith(said)


@pytest.mark.real
def test_measure(session: Any, files: Any) -> None:
    _, engine = build(session, files["int8"], precision="int8")
    reference = files["reference-keras"]
    method = {"warmup_seconds": 0.05, "window_seconds": 0.05, "agree": 10.0}
    cases = [{"file": str(reference.dir / "case-0.npz"), "label": "static"}]
    end = ask(session, "measure", files["int8"], engine=engine, cases=cases, method=method, precision="int8")
    assert end.ok
    assert end.output is not None
    assert 0 < end.output["result"]["median"] < 0.5


#: Two releases of each package that carries the interpreter -> (environment, Python, packages, module).
INTERPRETERS = {
    **{f"ai-edge-litert {release}": (f"litert-{release}", minor, (f"ai-edge-litert=={release}", *more), "")
       for release, (minor, more) in RELEASES.items()},
    **{f"tensorflow {release}": (f"tensorflow-{release}", minor, tensorflow(release), "tensorflow.lite.python.interpreter")
       for release, (minor, _) in TENSORFLOW.items()},
}  # fmt: skip


@pytest.mark.real
@pytest.mark.parametrize("files", ["2.19.1"], indirect=True)
@pytest.mark.parametrize("name", INTERPRETERS)
def test_the_contract_of_adapters(name: str, files: Any, root: Path, tmp_path: Path) -> None:  # noqa: F811
    """All but the newest break one clause: a file that is cut off kills them."""
    environment, minor, packages, module = INTERPRETERS[name]
    python = make(root, environment, minor, packages)
    file, reference = files["fp32"], files["reference-keras"]
    model, right = file.dir / "model.tflite", reference.dir / reference.result["cases"][0]["file"]
    (tmp_path / "broken.tflite").write_bytes(model.read_bytes()[:300])
    with np.load(right) as case:
        np.savez(tmp_path / "wrong.npz", input_0=case["input_0"], output_0=case["output_0"] + 0.1)
    subject = Subject(
        name="litert", file=BUILDER / "worker" / "adapters" / "litert_.py", python=python,
        imports=(module or "ai_edge_litert",), settings={"module": module} if module else {}, tolerance=STRICT, model=model,
        broken=tmp_path / "broken.tflite", right=right, wrong=tmp_path / "wrong.npz", inputs=file.result["inputs"],
        outputs=file.result["outputs"],
    )  # fmt: skip
    if name != "ai-edge-litert 2.3.0":
        with pytest.raises(Broken, match="a broken model is not refused with an error: .*SIGSEGV") as caught:
            check(subject, tmp_path)
        assert len(caught.value.problems) == 1
    else:
        check(subject, tmp_path)


@pytest.mark.real
@pytest.mark.parametrize("release", TENSORFLOW)
def test_the_contract_of_tensorflow_itself(release: str, root: Path, tmp_path: Path) -> None:  # noqa: F811
    """The baseline of TensorFlow's models: the signature of the SavedModel, two releases."""
    python = make(root, f"tensorflow-{release}", TENSORFLOW[release][0], tensorflow(release))
    given = {
        **small("wide", tmp_path),
        "exporter": "tensorflow",
        "adapter": "tensorflow",
        "options": {"shapes": "static"},
    }
    session = WorkerSession(
        python=python, worker_dir=BUILDER, imports=("tensorflow",), log=tmp_path / "session.log",
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    with session:
        made = session.run("export", {**given, "takes": "module"}, tmp_path / "export", seconds=120, memory=None)
        reference = session.run("reference", given, tmp_path / "reference", seconds=120, memory=None)
    assert made.ok and reference.ok and made.output and reference.output, (made.output, reference.output)
    module, right = made.output["result"], tmp_path / "reference" / reference.output["result"]["cases"][0]["file"]
    model = tmp_path / "export" / module["model"]
    (tmp_path / "broken.tar").write_bytes(model.read_bytes()[:300])
    with np.load(right) as case:
        np.savez(tmp_path / "wrong.npz", input_0=case["input_0"], output_0=case["output_0"] + 0.1)
    subject = Subject(
        name="tensorflow", file=BUILDER / "worker" / "adapters" / "tensorflow_.py", python=python, imports=("tensorflow",),
        model=model, broken=tmp_path / "broken.tar", right=right, wrong=tmp_path / "wrong.npz",
        inputs=module["inputs"], outputs=module["outputs"],
    )  # fmt: skip
    check(subject, tmp_path)


def item(dtype: Any, scale: float, zero: int) -> dict[str, Any]:
    return {"name": "x", "dtype": dtype, "quantization": (scale, zero)}


def test_numbers_become_integers_and_come_back() -> None:
    array = np.array([-100.0, -1.0, 0.0, 0.26, 1.0, 100.0], dtype=np.float32)
    quantised = litert_.quantise(array, item(np.int8, 0.5, 3))
    assert quantised.dtype == np.int8
    assert quantised.tolist() == [-128, 1, 3, 4, 5, 127]  # held to the range, rounded to the nearest
    assert litert_.dequantise(quantised, item(np.int8, 0.5, 3)).tolist() == [-65.5, -1.0, 0.0, 0.5, 1.0, 62.0]
    same = np.array([1, 2], dtype=np.int64)
    assert litert_.quantise(same, item(np.int64, 0.0, 0)) is same


def test_types_that_do_not_meet_are_refused() -> None:
    with pytest.raises(litert_.Failure, match="input x is int64; the case has float32"):
        litert_.quantise(np.zeros(2, dtype=np.float32), item(np.int64, 0.0, 0))


def test_what_a_delegate_took_lies_between_its_borders() -> None:
    nodes = [
        {"inputs": [0, 10], "outputs": [1]}, {"inputs": [1], "outputs": [2]}, {"inputs": [2, -1], "outputs": [3]},
        {"inputs": [3], "outputs": [4]},
    ]  # fmt: skip
    delegates = [{"inputs": [0, 10], "outputs": [1]}, {"inputs": [2], "outputs": [4]}]
    assert litert_._taken(nodes, delegates) == {0, 2, 3}
    assert litert_._taken(nodes, []) == set()
