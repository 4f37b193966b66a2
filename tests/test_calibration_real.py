# ruff: noqa: F811  (fixtures of the contract test)
"""Quantisation for real: ONNX Runtime's tools and NNCF write the graphs, releases of ONNX Runtime and OpenVINO run them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_adapters import BUILDER, make, models, root  # noqa: F401

from builder.environment.session import WorkerSession

pytestmark = pytest.mark.real

TOOLS = ("onnxruntime==1.31.1", "onnx==1.23.2", "numpy", "sympy")
OLD_TOOLS = ("onnxruntime==1.20.1", "onnx==1.17.0", "numpy", "sympy")
NNCF = ("nncf==3.4.0", "onnx==1.23.2", "onnxruntime==1.31.1")
ENGINES = {
    "onnxruntime-1.16.3": ("3.11", ("onnxruntime==1.16.3", "numpy<2"), "onnxruntime"),
    "onnxruntime-1.31.1": ("3.12", ("onnxruntime==1.31.1",), "onnxruntime"),
    "openvino-2023.3.0": ("3.11", ("openvino==2023.3.0",), "openvino"),
    "openvino-2026.4.1": ("3.12", ("openvino==2026.4.1",), "openvino"),
}
PORTS: dict[str, Any] = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 3, 16, 16]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": [1, 5]}],
}


class Lab:
    """Environments with a running worker each, and jobs in them."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        self.sessions: dict[str, WorkerSession] = {}

    def session(self, name: str, minor: str, packages: tuple[str, ...], imports: tuple[str, ...]) -> WorkerSession:
        if name not in self.sessions:
            python = make(self.root, name, minor, packages)
            self.sessions[name] = WorkerSession(
                python=python, worker_dir=BUILDER, imports=imports, log=self.folder / f"{name}.log",
                env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder)},
            )  # fmt: skip
            self.sessions[name].__enter__()
        return self.sessions[name]

    def job(self, session: WorkerSession, stage: str, **job: Any) -> Any:
        place = self.folder / f"job-{len(list(self.folder.iterdir()))}"
        end = session.run(stage, job, place, seconds=300, memory=8 << 30)
        assert end.output is not None, (end, (place / "log.txt").read_text()[-3000:])
        return SimpleNamespace(
            ok=end.ok,
            dir=place,
            error=end.output.get("error"),
            result=end.output.get("result"),
            loaded=end.output["loaded"],
        )

    def tools(self, stage: str, *, old: bool = False, **job: Any) -> Any:
        name, packages = ("tools-old", OLD_TOOLS) if old else ("tools", TOOLS)
        return self.job(self.session(name, "3.12", packages, ("onnxruntime", "onnx")), stage, exporter="tools", **job)

    def engine(self, name: str, stage: str, **job: Any) -> Any:
        minor, packages, adapter = ENGINES[name]
        session = self.session(name, minor, packages, (adapter,))
        given = {"options": {}, "settings": {}, "profile": None, "threads": 1, "realised": "graph", **PORTS, **job}
        return self.job(session, stage, adapter=adapter, **given)

    def run(self, name: str, model: str, case: Path, tolerance: Any, **job: Any) -> Any:
        built = self.engine(name, "build", model=model, **job)
        assert built.ok, built.error
        engine = str(built.dir / built.result["engine"])
        cases = [{"file": str(case), "label": "static"}]
        ran = self.engine(name, "run", engine=engine, cases=cases, tolerance=tolerance, metric=None, **job)
        assert ran.ok, ran.error
        return ran.result


@pytest.fixture(scope="module")
def lab(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = Lab(root, tmp_path_factory.mktemp("calibration"))
    yield made
    for session in made.sessions.values():
        session.__exit__(None, None, None)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("samples")
    for number in range(8):
        data = np.random.RandomState(number).standard_normal((1, 3, 16, 16)).astype(np.float32)
        np.savez(folder / f"calibration-{number}.npz", input_0=data)
    return [str(folder / f"calibration-{number}.npz") for number in range(8)]


def recipe(**calibration: Any) -> dict[str, Any]:
    names = {"inputs": [{"name": "x", "dtype": "float32", "shape": [1, 3, 16, 16]}]}
    return {"recipe": "small", **names, "calibration": {"samples": 8, **calibration}}


def table_of(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((answer.dir / answer.result["table"]).read_text())
    return found


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_a_table_has_the_range_of_every_tensor(lab: Lab, models: Path, samples: list[str], method: str) -> None:
    answer = lab.tools(
        "calibrate", model=str(models / "fp32.onnx"), calibration=samples, recipe=recipe(method=method), **PORTS
    )
    assert answer.ok, answer.error
    table = table_of(answer)
    assert (table["method"], table["samples"]) == (method, 8)
    low, high = table["ranges"]["x"]
    arrays = [np.load(path)["input_0"] for path in samples]
    least, most = min(float(array.min()) for array in arrays), max(float(array.max()) for array in arrays)
    if method == "minmax":
        assert (low, high) == (pytest.approx(least), pytest.approx(most))
    else:
        assert least - 0.1 <= low < 0 < high <= most + 0.1


def test_the_same_samples_give_the_same_table(lab: Lab, models: Path, samples: list[str]) -> None:
    given = {"model": str(models / "fp32.onnx"), "recipe": recipe(), **PORTS}
    first, again = (lab.tools("calibrate", calibration=samples, **given) for _ in range(2))
    assert (first.dir / "table.json").read_bytes() == (again.dir / "table.json").read_bytes()
    other = lab.tools("calibrate", calibration=samples[:1], **given)
    assert table_of(other)["ranges"] != table_of(first)["ranges"]


def test_a_method_that_is_none_and_no_samples_are_errors(lab: Lab, models: Path, samples: list[str]) -> None:
    given = {"model": str(models / "fp32.onnx"), **PORTS}
    wrong = lab.tools("calibrate", calibration=samples, recipe=recipe(method="guess"), **given)
    assert wrong.error["message"] == "calibration method is 'guess'; it can be entropy, minmax, percentile"
    none = lab.tools("calibrate", calibration=[], recipe=recipe(), **given)
    assert none.error["message"] == "int8 needs calibration samples; the recipe gives none"


@pytest.fixture(scope="module")
def graphs(lab: Lab, models: Path, samples: list[str]) -> dict[str, str]:
    """How it was quantised -> the model."""
    given = {"model": str(models / "fp32.onnx"), "recipe": recipe(), "precision": "int8", **PORTS}
    table = lab.tools("calibrate", calibration=samples, **given)
    path = str(table.dir / "table.json")
    made = {
        # Not one sample is at hand: the ranges can only be the table's.
        "static": lab.tools("convert", table=path, calibration=[], quantization={"mode": "static"}, **given),
        "dynamic": lab.tools("convert", calibration=[], quantization={"mode": "dynamic"}, **given),
        "nncf": lab.job(
            lab.session("nncf", "3.12", NNCF, ("nncf", "onnx")), "convert", exporter="nncf", calibration=samples,
            quantization={"mode": "nncf"}, **given,
        ),
    }  # fmt: skip
    assert all(answer.ok for answer in made.values()), {name: answer.error for name, answer in made.items()}
    assert "minmax over 8 calibration samples" in made["static"].result["notes"][0]
    assert made["nncf"].result["exporter"].startswith("nncf 3.4.0")
    assert made["nncf"].result["operators"]["QuantizeLinear"] >= 2
    assert "nncf" in made["nncf"].loaded["modules"]
    assert not any(name.startswith("openvino_telemetry") for name in made["nncf"].loaded["modules"]), "it tells nobody"
    assert {"DynamicQuantizeLinear", "MatMulInteger"} <= set(made["dynamic"].result["operators"])
    return {name: str(answer.dir / answer.result["model"]) for name, answer in made.items()}


def test_ranges_are_those_of_the_table(lab: Lab, models: Path, samples: list[str]) -> None:
    """Another table, another graph: a table that is not read would show itself here."""
    given = {"model": str(models / "fp32.onnx"), "recipe": recipe(), "precision": "int8", **PORTS}
    table = table_of(lab.tools("calibrate", calibration=samples, **given))
    made = []
    for factor in (1, 2):
        ranges = {name: [low * factor, high * factor] for name, (low, high) in table["ranges"].items()}
        path = lab.folder / f"table-{factor}.json"
        path.write_text(json.dumps({**table, "ranges": ranges}))
        answer = lab.tools("convert", table=str(path), quantization={"mode": "static"}, **given)
        assert answer.ok, answer.error
        made.append((answer.dir / answer.result["model"]).read_bytes())
    assert made[0] != made[1]


def test_older_tools_find_the_same_ranges_again(lab: Lab, models: Path, samples: list[str]) -> None:
    given = {
        "model": str(models / "fp32.onnx"),
        "recipe": recipe(),
        "precision": "int8",
        "calibration": samples,
        **PORTS,
    }
    table = lab.tools("calibrate", old=True, **given)
    assert table.ok, table.error
    answer = lab.tools(
        "convert", old=True, table=str(table.dir / "table.json"), quantization={"mode": "static"}, **given
    )
    assert answer.ok, answer.error
    assert answer.result["operators"]["QuantizeLinear"] >= 2


@pytest.mark.parametrize("engine", sorted(ENGINES))
@pytest.mark.parametrize("how", ["static", "nncf"])
def test_a_quantised_graph_is_computed_in_8_bits(
    lab: Lab, models: Path, graphs: dict[str, str], engine: str, how: str
) -> None:
    """The silent one: with a bias in floating point, as NNCF leaves it, ONNX Runtime 1.16 computes the convolution in fp32."""
    result = lab.run(engine, graphs[how], models / "fp32.npz", {"cosine": 0.98}, precision="int8")
    assert result["comparison"]["verdict"] == "match", result["comparison"]
    if (how, engine) == ("nncf", "onnxruntime-1.16.3"):
        assert [(entry["asked"], entry["got"]) for entry in result["degraded"]] == [("int8", "fp32")]
        assert len(result["found"]["left"]) == 2
        return
    assert result["degraded"] == []
    assert any("int8" in counts for counts in result["found"]["precision"].values())


@pytest.mark.parametrize("engine", ["onnxruntime-1.16.3", "onnxruntime-1.31.1"])
def test_dynamic_in_onnx_runtime(lab: Lab, models: Path, graphs: dict[str, str], engine: str) -> None:
    result = lab.run(
        engine, graphs["dynamic"], models / "fp32.npz", {"cosine": 0.98}, precision="int8",
        quantization={"mode": "dynamic"},
    )  # fmt: skip
    assert result["comparison"]["verdict"] == "match", result["comparison"]
    assert result["degraded"] == []
    assert {"ConvInteger", "DynamicQuantizeMatMul"} & set(result["found"]["precision"])
    assert result["found"]["left"] == []


@pytest.mark.parametrize("engine", ["onnxruntime-1.16.3", "onnxruntime-1.31.1"])
def test_what_was_left_in_floating_point_is_named(lab: Lab, models: Path, engine: str) -> None:
    """The silent one: 8 bits were asked for, the graph has Q/DQ at its input alone, and nothing computes in them."""
    model = str(models / "int8-input-only.onnx")
    result = lab.run(engine, model, models / "int8-input-only.npz", {"cosine": 0.98}, precision="int8")
    assert [(entry["asked"], entry["got"]) for entry in result["degraded"]] == [("int8", "fp32")]
    assert {item["operator"] for item in result["found"]["left"]} & {"Conv", "FusedConv"}
    assert all(item["node"] and item["precision"] == "fp32" for item in result["found"]["left"])


@pytest.mark.real
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_samples_of_a_folder_of_images(root: Path, tmp_path: Path, layout: str) -> None:
    """Decoded by Pillow in an environment that has it: sizes, channels, mean and std, and the last batch filled up."""
    python = make(root, "pillow", "3.12", ("pillow", "numpy"))
    shape = [2, 3, 4, 6] if layout == "NCHW" else [2, 4, 6, 3]
    code = f"""
import json, os, sys
sys.path.insert(0, {str(BUILDER)!r})
from PIL import Image
from types import SimpleNamespace
from worker.exporters import dataset
os.mkdir("data")
for number, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
    Image.new("RGB", (12, 8), colour).save("data/%d.%s" % (number, ("png", "bmp", "ppm")[number]))
Image.new("L", (3, 3), 51).convert("P").save("data/3.png")
Image.new("RGBA", (6, 4), (255, 255, 255, 0)).save("data/4.png")
asked = {{"folder": "data", "mean": [0.5, 0.5, 0], "std": 0.5}}
recipe = {{"inputs": [{{"name": "x", "dtype": "float32"}}], "calibration": asked}}
job = SimpleNamespace(input={{"recipe": recipe, "recipe_dir": ".", "source": None}})
made, origin = dataset.samples(None, job, {{"x": {shape}}})
assert origin == "3 samples: images of data", origin
arrays = [sample[0] if {layout!r} == "NHWC" else sample[0].transpose(0, 2, 3, 1) for sample in made]
print(json.dumps([[array[place].mean(axis=(0, 1)).astype(float).round(3).tolist() for place in range(2)] for array in arrays]))
recipe["inputs"][0]["dtype"] = "uint8"
print(json.dumps(dataset.samples(None, job, {{"x": {shape}}})[0][0][0].reshape(-1)[:3].tolist()))
open("data/5.png", "wb").write(b"no image")
try:
    dataset.samples(None, job, {{"x": {shape}}})
except Exception as error:
    print(type(error).__name__, "5.png" in str(error))
"""
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    means, pixels, broken = done.stdout.splitlines()
    red, green, blue = [1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [-1.0, -1.0, 2.0]
    grey, white = [-0.6, -0.6, 0.4], [1.0, 1.0, 2.0]
    assert json.loads(means) == [[red, green], [blue, grey], [white, red]]
    assert json.loads(pixels) == ([255] * 3 if layout == "NCHW" else [255, 0, 0])
    assert broken == "UnidentifiedImageError True"
