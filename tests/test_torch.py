"""PyTorch as an engine: its cells, its adapter in a real environment, and what the adapters over it read of reports."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import factory
import pytest
from silent import told

from builder import matrix, spec
from builder.plan import Code
from builder.values import Attributes

ROOT = Path(__file__).parent.parent
INPUTS = Path(__file__).parent / "inputs"

MATRIX = """
schema: 1
name: modules
exporters:
  old: {family: torch, torch: 2.12.0, python: "3.11"}
  torch: {family: torch, torch: 2.13.0, python: "3.11"}
  onnx: {family: onnx, onnx: 1.23.2}
engines:
  ort: {family: onnxruntime, onnxruntime: 1.31.1}
  eager: {family: torch, torch: 2.13.0, python: "3.11"}
axes:
  model: [resnet50, residual_cnn]
  opset: [13, 17]
  precision: [fp32, int8]
  torch-exporter: {values: [torchscript, dynamo], when: {exporter.family: torch}}
  mode: {values: [eager, aotinductor], when: {engine.family: torch}}
"""


def test_cells_of_modules_have_no_option_of_an_export_and_one_exporter(tmp_path: Path) -> None:
    (tmp_path / "matrix.yaml").write_text(MATRIX)
    made = matrix.expand(spec.load(tmp_path / "matrix.yaml", ROOT / "images", ROOT / "recipes"))
    modules = [cell for cell in made.cells if cell.engine.family == "torch"]
    assert [dict(cell.options) for cell in modules] == [
        {"precision": precision, "mode": mode} for precision in ("fp32", "int8") for mode in ("eager", "aotinductor")
    ]
    assert {cell.model for cell in modules} == {"residual_cnn"}, "an ONNX file is no module"
    assert {cell.exporter.id for cell in modules} == {"torch-2.13.0-py3.11"}, "that of the reference"
    others = [cell for cell in made.cells if cell.engine.family == "onnxruntime"]
    assert len(others) == 2 * 2 + 2 * 2 * 2 * 2, "those of ONNX files are as they were"
    why = made.why("*torch-2.13.0-py3.11.resnet50.fp32.eager*")
    assert "not of torch" in why.because


def adapter(name: str) -> ModuleType:
    """An adapter's module, as a worker has it; importing one imports no library."""
    sys.path.insert(0, str(ROOT / "builder"))
    try:
        spec = importlib.util.spec_from_file_location(name, ROOT / "builder" / "worker" / "adapters" / f"{name}_.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        kept = sys.modules.pop("select", None)
        spec.loader.exec_module(module)
        if kept is not None:
            sys.modules["select"] = kept
        return module
    finally:
        sys.path.remove(str(ROOT / "builder"))


# Planning -------------------------------------------------------------------------------------------------------------


def module_family(**values: Any) -> Any:
    default = {
        "takes": "module",
        "adapter": "torch",
        "exporter": "torch",
        "precision": {"fp32": "flag", "fp16": "flag"},
    }
    return factory.family(**{"name": "torch", **default, **values})


def planned(
    measure: bool = False, engine: str = "engine", options: dict[str, str] | None = None, **families: Any
) -> Any:
    stack = factory.stack("exporter", "torch")
    known = {"torch": module_family(), **families}
    planner = factory.planner(stack, families=known)
    planner.reference_stacks = {"model": stack}
    cell = factory.cell(
        factory.stack("engine", engine), attributes=Attributes(measure=measure), precision="fp32", shapes="static",
        **(options or {}),
    )  # fmt: skip
    return planner.plan([cell]).chains[0]


def test_an_engine_that_takes_modules_has_no_onnx_and_no_conversion() -> None:
    chain = planned(engine="torch")
    assert chain.export.data["takes"] == "module"
    assert chain.export.stack.family == "torch", "it is loaded in the engine's own stack"
    assert chain.convert is None
    assert chain.build.needs[0] is chain.export


def test_a_timed_engine_is_held_against_its_framework() -> None:
    chain = planned(measure=True)
    assert chain.speedup is not None
    baseline = chain.speedup.data["baseline"]
    assert baseline.stack.family == "torch"
    assert baseline.data["options"] == {"mode": "eager"}
    assert baseline.data["precision"] == "fp32"
    assert all(step.seconds >= 120 for step in (*chain.speedup.needs, *chain.speedup.needs[1].needs))


def test_a_baseline_has_its_familys_settings_whatever_the_engine_sets() -> None:
    """On an H200 eager FP32 with `tf32: off` was held against itself, since the baseline did not say `off`."""
    family = module_family(settings={"device": "cuda", "tf32": "off"})
    off = planned(measure=True, engine="torch", options={"mode": "eager", "tf32": "off"}, torch=family)
    assert (off.speedup, off.no_baseline) == (None, "it is the baseline itself")
    allowed = planned(measure=True, engine="torch", options={"mode": "eager", "tf32": "allowed"}, torch=family)
    assert allowed.speedup.data["baseline"].data["options"] == {"mode": "eager", "tf32": "off"}
    assert allowed.speedup.data["measure"].data["options"] == {"mode": "eager", "tf32": "allowed"}


def test_a_baseline_is_on_the_same_device_or_there_is_none() -> None:
    chain = planned(measure=True, torch=module_family(device="cuda"))
    assert chain.speedup is None
    assert "on cuda, not on cpu" in chain.no_baseline


def test_what_makes_engines_of_modules_is_not_the_framework() -> None:
    """Torch-TensorRT starts from PyTorch's modules too: its cells are held against PyTorch, never against itself."""
    chain = planned(measure=True, engine="over", over=module_family(name="over", adapter="torch_tensorrt"))
    assert chain.speedup.data["baseline"].stack.family == "torch"
    assert planned(measure=True, engine="torch", torch=module_family(adapter="torch_tensorrt")).speedup is None


def test_nothing_is_compared_that_is_not_timed() -> None:
    chain = planned()
    assert (chain.measure, chain.speedup, chain.no_baseline) == (None, None, "")


def test_the_key_of_a_module_holds_the_recipes_script() -> None:
    first = planned(engine="torch").build.static
    again = planned(engine="torch").build.static
    assert first == again
    stack = factory.stack("exporter", "torch")
    planner = factory.planner(
        stack, families={"torch": module_family()}, recipes={"model": factory.recipe(sha256="other")}
    )
    planner.reference_stacks = {"model": stack}
    other = planner.plan([factory.cell(factory.stack("engine", "torch"), precision="fp32", shapes="static")]).chains[0]
    assert other.build.static != first


def test_an_adapter_that_goes_on_from_another_has_its_code_in_its_keys() -> None:
    files = {"adapters/torch_.py": "a", "adapters/torch_tensorrt_.py": "b", "adapters/tensorrt_.py": "c"}
    before = Code.of(files)
    after = Code.of({**files, "adapters/torch_.py": "changed"})
    assert before.adapter("torch_tensorrt") != after.adapter("torch_tensorrt")
    assert before.adapter("tensorrt") == after.adapter("tensorrt")


def test_what_belongs_to_no_adapter_is_in_the_keys_of_all() -> None:
    files = {"adapters/onnxruntime_.py": "a", "adapters/onnxruntime_timer.py": "b", "adapters/torch_.py": "c"}
    shared = {"adapters/cuda.py": "d", "adapters/__init__.py": "e"}
    before = Code.of({**files, **shared})
    for name in shared:
        after = Code.of({**files, **shared, name: "changed"})
        assert all(before.adapter(adapter) != after.adapter(adapter) for adapter in ("onnxruntime", "torch"))
    after = Code.of({**files, **shared, "adapters/onnxruntime_timer.py": "changed"})
    assert before.adapter("onnxruntime") != after.adapter("onnxruntime")
    assert before.adapter("torch") == after.adapter("torch")


# Reports of the libraries that cannot be had here ------------------------------------------------------------------------


def recorded(name: str) -> list[str]:
    return (INPUTS / name).read_text().split("=====")


def test_torch_tensorrts_report() -> None:
    trt = adapter("torch_tensorrt")
    first, whole, third = (trt.parse_report(text) for text in recorded("torch-tensorrt-dryrun.txt"))
    assert (first["operators"], first["supported"]) == (89, 81)
    assert first["native"] == {"torch.ops.aten.add.Tensor": 8}
    assert whole == {
        "operators": 2,
        "supported": 2,
        "native": {},
        "engines": [{"name": "_run_on_acc_0", "operators": 2}],
    }
    assert third["native"] == {"torch.ops.aten.embedding.default": 1, "torch.ops.aten.index.Tensor": 3}
    assert third["engines"] == [{"name": "_run_on_acc_0", "operators": 135}]
    assert trt.parse_report("nothing of the kind") is None


def test_a_graph_partly_in_torch_is_degraded_and_a_whole_one_is_not() -> None:
    trt = adapter("torch_tensorrt")
    first, whole, third = (trt.parse_report(text) for text in recorded("torch-tensorrt-dryrun.txt"))
    one = trt.segments(["_run_on_acc_0"])
    mixed = trt.segments(["_run_on_acc_0", "_run_on_gpu_1", "_run_on_acc_2"])
    assert trt.shortfall(whole, one) == []
    (entry,) = trt.shortfall(first, mixed)
    assert entry["got"] == "torch in part"
    assert "81 of 89 operators are in 2 engines; left native: torch.ops.aten.add.Tensor x 8" in entry["how"]
    assert "135 of 142" in trt.shortfall(third, mixed)[0]["how"], "supported, and yet in no engine, counts as left"
    assert trt.shortfall(None, mixed)[0]["got"] == "torch in part"
    assert trt.shortfall(None, trt.segments([]))[0]["got"] == "torch"


def test_tf_trts_log() -> None:
    tftrt = adapter("tftrt")
    old, new = (tftrt.parse_log(text) for text in recorded("tf-trt.log"))
    assert (old["candidates"], old["native"], old["kept"]) == (17, 70, [])
    assert old["types"] == ["Identity", "Placeholder", "NoOp", "Pack", "Shape", "StridedSlice", "Reshape"]
    assert [one["nodes"] for one in old["replaced"]] == [41, 41]
    assert (new["candidates"], new["native"]) == (10, 451)
    assert [one["nodes"] for one in new["replaced"]] == [6, 1993]
    assert new["kept"] == [{"segment": 2, "nodes": 6, "reason": "Segment has no inputs (possible constfold failure)"}]
    assert tftrt.parse_log("")["candidates"] is None


def test_a_segment_that_fell_back_is_degraded() -> None:
    tftrt = adapter("tftrt")
    old, new = (tftrt.parse_log(text) for text in recorded("tf-trt.log"))
    assert tftrt.shortfall({"engines": 17, "native": {"Softmax": 1}}, old) == []
    (entry,) = tftrt.shortfall({"engines": 9, "native": {}}, new)
    assert "1 of 10 segments fell back (segment 2 of 6 nodes" in entry["how"]
    (entry,) = tftrt.shortfall({"engines": 1, "native": {"Conv2D": 3, "Relu": 2}}, old)
    assert "3 operators that carry the arithmetic are outside engines (Conv2D)" in entry["how"]
    assert tftrt.shortfall({"engines": 0, "native": {}}, old)[0]["got"] == "tensorflow"


def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    import tarfile

    tftrt = adapter("tftrt")
    (tmp_path / "good" / "variables").mkdir(parents=True)
    (tmp_path / "good" / "saved_model.pb").write_text("graph")
    tftrt.pack(str(tmp_path / "good"), str(tmp_path / "a.tar"))
    tftrt.pack(str(tmp_path / "good"), str(tmp_path / "b.tar"))
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    out = tftrt.unpack(str(tmp_path / "a.tar"), str(tmp_path / "out"))
    assert (Path(out) / "saved_model.pb").read_text() == "graph"
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        archive.add(tmp_path / "good" / "saved_model.pb", "../outside")
    with pytest.raises(Exception, match="no plain file of its own"):
        tftrt.unpack(str(tmp_path / "bad.tar"), str(tmp_path / "out"))


# The adapter itself, in a real environment ------------------------------------------------------------------------------

TINY_RECIPE = '''
"""A network with a convolution and a linear layer."""

OUTPUTS = ("y",)


def model(recipe, source):
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
'''


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Jobs of a worker in an environment with PyTorch's CPU build."""
    from test_adapters import make

    from builder.environment.session import WorkerSession

    root = request.config.cache.mkdir("real-environments")
    packages = ("torch==2.13.0+cpu", "numpy", "safetensors")
    python = make(root, "torch-2.13.0", "3.11", packages)
    folder = tmp_path_factory.mktemp("torch")
    (folder / "recipe").mkdir()
    (folder / "recipe" / "export.py").write_text(TINY_RECIPE)
    session = WorkerSession(
        python=python, worker_dir=ROOT / "builder", imports=("torch", "torch._dynamo"), log=folder / "session.log",
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
    )  # fmt: skip
    with session:
        yield Bench(session, folder)


class Bench:
    def __init__(self, session: Any, folder: Path) -> None:
        self.session, self.folder, self.count = session, folder, 0
        recipe = {
            "recipe": "tiny", "script": "export.py", "seeds": [0], "dims": {"static": {"N": 1}, "dynamic": {"N": LIMITS}},
            "inputs": [{"name": "x", "dtype": "float32", "shape": ["N", 3, 8, 8], "range": [-1, 1]}],
        }  # fmt: skip
        self.shared = {
            "recipe": recipe, "recipe_dir": str(folder / "recipe"), "source": None, "adapter": "torch", "exporter": "torch",
        }  # fmt: skip
        self.module = self.ok("export", takes="module", options={"shapes": "dynamic"})
        self.weights = self.last / self.module["model"]
        self.reference = self.ok("reference", options={"shapes": "dynamic"})
        self.cases = [
            {"file": str(self.last / case["file"]), "label": case["label"]} for case in self.reference["cases"]
        ]

    def job(self, stage: str, **more: Any) -> Any:
        self.count += 1
        self.last = self.folder / f"{self.count}-{stage}"
        return self.session.run(stage, {**self.shared, **more}, self.last, seconds=300, memory=None)

    def ok(self, stage: str, **more: Any) -> dict[str, Any]:
        end = self.job(stage, **more)
        assert end.ok, (end.end, end.output, (self.last / "log.txt").read_text()[-3000:])
        return dict(end.output["result"])

    def engine(self, mode: str, precision: str = "fp32", **more: Any) -> tuple[dict[str, Any], Any]:
        """(job with its engine, how the build ended)"""
        job = {
            "model": str(self.weights), "precision": precision, "realised": "flag", "options": {"mode": mode}, "threads": 1,
            "inputs": self.module["inputs"], "outputs": self.module["outputs"], "shapes": "dynamic", "metric": None,
            "profile": {"x": {point: [LIMITS[point], 3, 8, 8] for point in LIMITS}}, "settings": {"device": "cpu"},
            "cases": self.cases, "tolerance": {"atol": 1e-5, "rtol": 1e-4}, **more,
        }  # fmt: skip
        end = self.job("build", **job)
        if end.ok:
            job["engine"] = str(self.last / end.output["result"]["engine"])
        return job, end


LIMITS = {"min": 1, "opt": 2, "max": 4}


@pytest.mark.real
@pytest.mark.parametrize("mode", ["eager", "torchscript", "aotinductor"])
def test_every_mode_matches_and_a_wrong_reference_does_not(bench: Bench, mode: str) -> None:
    job, end = bench.engine(mode)
    assert end.ok, end
    assert end.stages == ("parse", "build")
    found = bench.ok("run", **job)
    assert found["comparison"]["verdict"] == "match"
    assert found["degraded"] == []
    heavy = {name: counts for name, counts in found["found"]["precision"].items() if "conv" in name or "linear" in name}
    assert len(heavy) == 2, found["found"]["precision"]
    assert all(counts == {"fp32": 1} for counts in heavy.values())
    import numpy as np

    with np.load(bench.cases[0]["file"]) as case:
        np.savez(bench.folder / "wrong.npz", input_0=case["input_0"], output_0=case["output_0"] + 0.01)
    wrong = [{"file": str(bench.folder / "wrong.npz"), "label": "wrong"}]
    assert bench.ok("run", **{**job, "cases": wrong})["comparison"]["verdict"] == "mismatch"


@pytest.mark.real
def test_what_is_computed_in_which_precision(bench: Bench) -> None:
    loose = {"tolerance": {"atol": 0.1, "rtol": 0.1}}
    for precision in ("fp16", "bf16"):
        job, end = bench.engine("eager", precision, **loose)
        assert set(end.output["result"]["found"]["parameters"]) == {precision}
        found = bench.ok("run", **job)
        assert (found["comparison"]["verdict"], found["degraded"]) == ("match", [])
        assert found["found"]["precision"]["aten.linear"] == {precision: 1}
    found = bench.ok("run", **bench.engine("torchscript", "int8", **loose)[0])
    assert found["found"]["precision"]["quantized.linear_dynamic"] == {"int8": 1}
    job, _ = bench.engine("eager", "int8", **loose)
    assert bench.ok("run", **job)["found"]["quantized_modules"] == 1


@pytest.mark.real
def test_int8_of_a_network_without_linear_layers_is_degraded(bench: Bench, tmp_path: Path) -> None:
    """PyTorch quantises linear layers dynamically, and leaves a network of convolutions as it is without a word."""
    (tmp_path / "export.py").write_text(
        TINY_RECIPE.replace("nn.Flatten(), nn.Linear(144, 5)", "nn.Conv2d(4, 5, 6), nn.Flatten()")
    )
    given = {"recipe_dir": str(tmp_path), "options": {"shapes": "dynamic"}}
    weights = bench.ok("export", takes="module", **given)["model"]
    model = str(bench.last / weights)
    cases = [
        {"file": str(bench.last / case["file"]), "label": case["label"]}
        for case in bench.ok("reference", **given)["cases"]
    ]
    more = {"recipe_dir": str(tmp_path), "model": model, "cases": cases, "tolerance": {"cosine": 0.9}}
    job, _ = bench.engine("eager", "int8", **more)
    found = bench.ok("run", **job)
    cell, shown, page = told(tmp_path, factory.cell(precision="int8"), run=found)
    assert (cell["status"], cell["category"]) == ("degraded", "precision-fallback")
    assert "asked int8, got fp32: 0 of 2 compute operators ran in int8 (2 in fp32)" in shown
    assert "asked int8, got fp32." in page


@pytest.mark.real
def test_refusals_say_why(bench: Bench) -> None:
    for mode, more, said in (
        ("aotinductor", {"precision": "int8"}, "torchao"),
        ("eager", {"settings": {"device": "cuda"}}, "built without CUDA"),
    ):
        _, end = bench.engine(mode, more.pop("precision", "fp32"), **more)  # type: ignore[arg-type]
        assert end.end == {"exit": 0}
        assert said in end.output["error"]["message"]
    end = bench.job("build", **{**bench.engine("eager")[0], "options": {"mode": "fast"}})
    assert "it can be aotinductor, eager, torchscript" in end.output["error"]["message"]


@pytest.mark.real
def test_aotinductor_without_a_compiler_says_so(bench: Bench, tmp_path: Path) -> None:
    from builder.environment.session import WorkerSession

    empty = WorkerSession(
        python=bench.session.python, worker_dir=ROOT / "builder", imports=("torch",), log=tmp_path / "log",
        env={"PATH": str(tmp_path)},
    )  # fmt: skip
    job, _ = bench.engine("eager")
    with empty:
        asked = {**bench.shared, **job, "options": {"mode": "aotinductor"}}
        end = empty.run("build", asked, tmp_path / "job", seconds=120, memory=None)
    assert end.output is not None
    assert end.output["error"]["type"] == "NoCompiler"
    assert "no compiler" in end.output["error"]["message"]


@pytest.mark.real
def test_torch_tensorrt_is_missing_and_says_so(bench: Bench) -> None:
    job, _ = bench.engine("eager")
    end = bench.job("build", **{**job, "adapter": "torch_tensorrt"})
    assert end.end == {"exit": 0}
    assert end.output["error"]["stage"] == "parse"
    assert end.output["error"]["type"] == "ModuleNotFoundError"
    assert "torch_tensorrt" in end.output["error"]["message"]
