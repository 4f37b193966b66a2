"""PyTorch as an engine: its cells, its adapter in a real environment, and what the adapters over it read of reports."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import factory
import pytest

from builder import matrix, spec
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
    return factory.family(
        "torch", takes="module", exporter="torch", precision={"fp32": "flag", "fp16": "flag"}, **values
    )


def planned(measure: bool = False, engine: str = "engine", **families: Any) -> Any:
    stack = factory.stack("exporter", "torch")
    known = {"torch": module_family(), **families}
    planner = factory.planner(stack, families=known)
    planner.reference_stacks = {"model": stack}
    cell = factory.cell(
        factory.stack("engine", engine), attributes=Attributes(measure=measure), precision="fp32", shapes="static"
    )
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


def test_a_baseline_is_on_the_same_device_or_there_is_none() -> None:
    chain = planned(measure=True, torch=module_family(device="cuda"))
    assert chain.speedup is None
    assert "on cuda, not on cpu" in chain.no_baseline


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
