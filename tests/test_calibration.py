"""Where 8 bits come from, before anything runs: what a recipe offers, what the matrix asks, which steps that makes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import factory
import fake
import numpy as np
import pytest
from specs import FAMILIES, MATRIX, RECIPE, Project
from test_local import ENGINES, go
from worker_parts import part

from builder import calibration, outcome
from builder.errors import SpecErrors
from builder.plan import Plan
from builder.report import show
from builder.values import Stack

dataset: Any = part("exporters.dataset")

INT8 = MATRIX + "  precision: [fp32, int8]\n"
LINE = "calibration: {samples: 2, seed: 100}\n"
TOOLS = """
family: squeezer
summary: Quantises in its own way
provides: [tools]
exporter: nncf
axes: {squeezer: {required: true, default: "3.0"}}
python: [{use: "3.12"}]
packages: ["squeezer=={squeezer}"]
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def errors(project: Project, text: str) -> str:
    with pytest.raises(SpecErrors) as caught:
        project.matrix(text)
    return str(caught.value)


# What a recipe offers


def test_int8_without_data_is_an_error_at_planning_with_the_recipes_place(project: Project) -> None:
    project.recipe("alpha", RECIPE.replace(LINE, ""))
    text = errors(project, INT8)
    assert text.startswith(
        "recipes/alpha/recipe.yaml:1:1: int8 is asked of alpha (matrix.yaml), and there is no 'calibration'"
    )
    assert "exclude: {model: alpha, precision: int8}" in text
    assert text.count("alpha/recipe.yaml") == 1, "once, however many cells ask"


def test_cells_that_a_rule_takes_out_ask_for_no_data(project: Project) -> None:
    project.recipe("alpha", RECIPE.replace(LINE, ""))
    made = project.matrix(INT8 + "exclude: [{match: {precision: int8}, because: no data}]\n")
    assert {cell.options["precision"] for cell in made.cells} == {"fp32"}


def test_weights_of_8_bits_alone_need_no_data(project: Project) -> None:
    project.recipe("alpha", RECIPE.replace(LINE, ""))
    when = "  quantization: {values: [dynamic], when: {precision: int8}}\n"
    made = project.matrix(INT8 + when)
    assert {cell.options.get("quantization") for cell in made.cells} == {None, "dynamic"}
    assert "int8 is asked of alpha" in errors(project, INT8 + when.replace("[dynamic]", "[static, dynamic]"))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("{seed: 1}", "calibration has no 'samples'"),
        ("{samples: 0}", "samples"),
        ("{folder: nowhere}", "no folder 'nowhere' beside recipe.yaml"),
        ("{folder: ../beta}", "'../beta' leads out of the recipe's folder"),
        ("{folder: empty}", "'empty' holds no arrays (.npz, .npy) or images (.png, .jpg, ...)"),
        ("{folder: data, callable: make}", "'folder' and 'callable' are two sources of samples"),
        ("{samples: 2, callable: 1st}", "'1st' is no function's name"),
        ("{samples: 2, method: guess}", "'guess' is not a value of 'method'"),
        ("{samples: 2, mean: 0.5}", "'mean' is for images of a folder"),
        ("{folder: data, std: [1, 0, 1]}", "a 'std' of 0 divides by nothing"),
        ("{folder: data, mean: [0, 1]}", "'mean' is a number, or three of them"),
        ("{folder: data, layout: CHW}", "'CHW' is not a value of 'layout'"),
        ("{samples: 2, sample: 3}", "unknown key 'sample'"),
    ],
)
def test_what_is_wrong_with_it_is_told_with_its_place(project: Project, asked: str, said: str) -> None:
    project.write("recipes/alpha/data/one.npy", b"x")
    project.write("recipes/alpha/empty/README", "nothing")
    project.recipe("alpha", RECIPE.replace(LINE, f"calibration: {asked}\n"))
    text = errors(project, INT8)
    assert said in text
    assert "recipes/alpha/recipe.yaml:1" in text


@pytest.mark.parametrize(
    "asked", ["{folder: data}", "{folder: data, samples: 3, method: entropy}", "{samples: 2, callable: make}"]
)
def test_what_is_right(project: Project, asked: str) -> None:
    project.write("recipes/alpha/data/one.npy", b"x")
    project.recipe("alpha", RECIPE.replace(LINE, f"calibration: {asked}\n"))
    assert project.spec(INT8).recipes["alpha"].calibration


def test_another_file_of_data_is_another_recipe(project: Project) -> None:
    project.write("recipes/alpha/data/one.npy", b"x")
    project.recipe("alpha", RECIPE.replace(LINE, "calibration: {folder: data}\n"))
    before = project.spec(INT8).recipes["alpha"].sha256
    project.write("recipes/alpha/data/one.npy", b"y")
    assert project.spec(INT8).recipes["alpha"].sha256 != before


# Who quantises


def test_a_quantization_may_be_a_family_of_tools(project: Project) -> None:
    project.write("images/squeezer/family.yaml", TOOLS)
    axis = "  quantization: {values: [static, squeezer], when: {precision: int8}}\n"
    spec = project.spec(INT8 + axis)
    assert {mode: stack.id for mode, stack in spec.quantizers.items()} == {"squeezer": "squeezer-3.0-py3.12"}
    assert spec.quantizers["squeezer"] in spec.stacks
    assert spec.tools.family == "onnx-tools"


def test_a_converter_of_its_own_takes_no_other_tools(project: Project) -> None:
    """TensorFlow's converter would make its own static kind of it, and nobody would know."""
    project.write("images/squeezer/family.yaml", TOOLS)
    lite = FAMILIES["engine"].replace("family: engine", "family: lite\ntakes: tflite")
    project.write("images/lite/family.yaml", lite)
    source = FAMILIES["source"].replace("exporter: source", "exporter: tensorflow")
    project.write("images/source/family.yaml", source)
    matrix = INT8.replace("{family: engine,", "{family: lite,")
    made = project.matrix(matrix + "  quantization: {values: [static, squeezer], when: {precision: int8}}\n")
    assert {cell.options.get("quantization") for cell in made.cells} == {None, "static"}
    assert {gone.because for gone in made.removed} >= {
        "family lite takes files that TensorFlow's converter quantised, not squeezer"
    }


def test_a_quantization_that_is_none_is_an_error(project: Project) -> None:
    axis = "  quantization: {values: [statik], when: {precision: int8}}\n"
    text = errors(project, INT8 + axis)
    assert "'statik' is no quantization" in text
    assert "static" in text.splitlines()[0].replace("'statik'", "")
    assert text.startswith("matrix.yaml:")
    axis = axis.replace("statik", "engine")
    assert "family 'engine' provides no tools" in errors(project, INT8 + axis)


def test_what_is_asked() -> None:
    bias = {"quantization": {"bias": "float"}}
    assert calibration.kind({}, {}, "fp16") is None
    assert calibration.kind({}, {}, "int8") == {"mode": "static"}
    assert calibration.kind(bias, {}, "int8") == {"mode": "static", "bias": "float"}
    assert calibration.kind(bias, {"quantization": "dynamic"}, "int8") == {"mode": "dynamic"}, (
        "it has no bias to speak of"
    )
    assert calibration.kind({"quantization": {"mode": "dynamic"}}, {}, "int8") == {"mode": "dynamic"}
    needs = [
        calibration.needs_data(asked) for asked in (None, {"mode": "dynamic"}, {"mode": "static"}, {"mode": "nncf"})
    ]
    assert needs == [False, False, True, True]


# Which steps that makes


def planned(*modes: str, settings: dict[str, Any] | None = None, **family: Any) -> Plan:
    engine: Stack = factory.stack()
    planner = factory.planner(engine)
    planner.families = {**planner.families, "engine": factory.family(settings=settings or {}, **family)}
    planner.quantizers = {"nncf": factory.stack("tools", "tools", version="9")}
    options: list[dict[str, Any]] = [{"quantization": mode} if mode else {} for mode in modes]
    return planner.plan([factory.cell(engine, precision="int8", **given) for given in options])


def test_a_table_is_made_once_for_graphs_of_every_kind() -> None:
    engines = [factory.stack(), factory.stack(name="other")]
    planner = factory.planner(*engines)
    planner.families = {
        **planner.families, "engine": factory.family(),
        "other": factory.family("other", settings={"quantization": {"bias": "float"}}),
    }  # fmt: skip
    plan = planner.plan([factory.cell(engine, precision="int8") for engine in engines])
    tables = [step for step in plan.steps if step.kind == "calibrate"]
    converts = [step for step in plan.steps if step.kind == "convert"]
    assert (len(tables), len(converts)) == (1, 2)
    assert all(tables[0] in step.needs for step in converts)
    assert [need.kind for need in tables[0].needs] == ["export", "reference"], "its model and its data"
    assert [chain.calibrate for chain in plan.chains] == tables * 2
    assert plan.chains[0].calibrate in tuple(plan.chains[0].steps())


def test_a_mode_has_its_own_needs_and_its_own_stack() -> None:
    plan = planned("", "dynamic", "nncf")
    by_mode = {step.data["quantization"]["mode"]: step for step in plan.steps if step.kind == "convert"}
    needs = {mode: [need.kind for need in step.needs] for mode, step in by_mode.items()}
    assert needs == {
        "static": ["export", "reference", "calibrate"], "dynamic": ["export"], "nncf": ["export", "reference"],
    }  # fmt: skip
    stacks = {mode: step.stack.fields["tools"] for mode, step in by_mode.items() if step.stack}
    assert stacks["nncf"] == "9" != stacks["static"] == stacks["dynamic"]
    assert len({chain.build.static for chain in plan.chains}) == 3


def test_a_key_follows_the_method_the_data_and_the_stack() -> None:
    def key(**changed: Any) -> str:
        planner = factory.planner(factory.stack())
        data = {**factory.recipe().data, "calibration": {"samples": 2, **changed.get("calibration", {})}}
        planner.recipes = {"model": factory.recipe(data=data)}
        plan = planner.plan([factory.cell(precision="int8")])
        table = next(step for step in plan.steps if step.kind == "calibrate")
        for need in table.needs:
            need.output = changed.get(need.kind, need.kind)
        assert table.resolve_key()
        return table.key

    assert key() == key()
    others = [key(calibration={"method": "entropy"}), key(export="another model"), key(reference="other data")]
    assert len({key(), *others}) == 4


def test_a_builder_that_quantises_itself_reads_the_samples() -> None:
    plan = planned("", precision={"int8": "flag"})
    assert [need.kind for need in plan.chains[0].build.needs] == ["export", "reference"]
    assert plan.chains[0].convert is None


def test_a_tflite_file_is_quantised_by_its_exporter() -> None:
    plan = planned("", "dynamic", takes="tflite")
    exports = {step.data["quantization"]["mode"]: step for step in plan.steps if step.kind == "export"}
    assert [need.kind for need in exports["static"].needs] == ["reference"]
    assert exports["dynamic"].needs == ()
    assert not [step for step in plan.steps if step.kind in ("convert", "calibrate")]


# The samples themselves


def asked(tmp_path: Path, calibration: dict[str, Any], *inputs: dict[str, Any]) -> Any:
    given = inputs or ({"name": "x", "dtype": "float32", "shape": ["N", 3]},)
    recipe = {"recipe": "small", "inputs": list(given), "calibration": calibration}
    return SimpleNamespace(input={"recipe": recipe, "recipe_dir": str(tmp_path), "source": None})


def test_samples_that_are_made(tmp_path: Path) -> None:
    job = asked(tmp_path, {"samples": 3, "seed": 5})
    made, origin = dataset.samples(SimpleNamespace(), job, {"x": [2, 3]})
    assert origin == "3 samples: random numbers in the inputs' ranges"
    assert [sample[0].shape for sample in made] == [(2, 3)] * 3
    again, _ = dataset.samples(SimpleNamespace(), job, {"x": [2, 3]})
    assert all((a[0] == b[0]).all() for a, b in zip(made, again, strict=True))
    assert not (made[0][0] == made[1][0]).all()


def test_samples_of_a_function(tmp_path: Path) -> None:
    module = SimpleNamespace(make=lambda recipe, source, shapes, number: [np.full(shapes["x"], number)])
    made, origin = dataset.samples(
        module, asked(tmp_path, {"samples": 2, "callable": "make", "seed": 7}), {"x": [1, 3]}
    )
    assert [float(sample[0][0, 0]) for sample in made] == [7.0, 8.0]
    assert made[0][0].dtype == np.float32
    assert origin == "2 samples by make of the recipe's script"
    module = SimpleNamespace(make=lambda recipe, source, shapes, number: [np.zeros((1, 4))])
    with pytest.raises(ValueError, match=r"sample 0 of make is \[1, 4\] for input x, which has \[1, 3\] here"):
        dataset.samples(module, asked(tmp_path, {"samples": 2, "callable": "make"}), {"x": [1, 3]})


def test_samples_of_a_folder_of_arrays(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(3):
        np.save(tmp_path / "data" / f"{number}.npy", np.full((1, 3), number, dtype=np.float64))
    made, origin = dataset.samples(None, asked(tmp_path, {"folder": "data"}), {"x": [1, 3]})
    assert [float(sample[0][0, 0]) for sample in made] == [0.0, 1.0, 2.0]
    assert origin == "3 samples: arrays of data"
    made, _ = dataset.samples(None, asked(tmp_path, {"folder": "data", "samples": 2}), {"x": [1, 3]})
    assert len(made) == 2
    (tmp_path / "data" / "one.png").touch()
    with pytest.raises(ValueError, match="data holds arrays and images at once"):
        dataset.samples(None, asked(tmp_path, {"folder": "data"}), {"x": [1, 3]})


def test_arrays_go_to_inputs_by_name_and_are_never_unpickled(tmp_path: Path) -> None:
    two = ({"name": "x", "dtype": "float32", "shape": [1]}, {"name": "y", "dtype": "int64", "shape": [2]})
    shape = {"x": [1], "y": [2]}
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "a.npz", y=np.array([1, 2]), x=np.array([0.5]))
    made, _ = dataset.samples(None, asked(tmp_path, {"folder": "data"}, *two), shape)
    assert (made[0][0].tolist(), made[0][1].tolist()) == ([0.5], [1, 2])
    np.savez(tmp_path / "data" / "b.npz", x=np.array([0.5]))
    with pytest.raises(ValueError, match=r"b.npz has arrays \['x'\]; the inputs are \['x', 'y'\]"):
        dataset.samples(None, asked(tmp_path, {"folder": "data"}, *two), shape)
    (tmp_path / "data" / "b.npz").unlink()
    np.savez(tmp_path / "data" / "a.npz", x=np.array([{}], dtype=object), y=np.array([1, 2]))
    with pytest.raises(ValueError, match="allow_pickle"):
        dataset.samples(None, asked(tmp_path, {"folder": "data"}, *two), shape)


def test_layouts() -> None:
    assert dataset.layout([2, 3, 8, 9], None) == (2, 8, 9, 3, True)
    assert dataset.layout([2, 8, 9, 1], None) == (2, 8, 9, 1, False)
    assert dataset.layout([1, 3, 9, 3], "NHWC") == (1, 3, 9, 3, False)
    for shape, layout in (([1, 3, 9, 3], None), ([1, 4, 9, 4], None), ([1, 8, 8, 3], "NCHW"), ([3, 8], None)):
        with pytest.raises(ValueError, match="shape"):
            dataset.layout(shape, layout)


# What people see of it


def test_what_was_left_is_shown_by_name() -> None:
    left = [{"operator": "Conv", "node": f"c{number}", "precision": "fp32"} for number in range(12)]
    shown = show._left({"left": left, "delegated": 3, "not_delegated": [{"operator": "CUMSUM", "node": "sum"}]})
    assert shown[0].split() == ["left", "Conv", "c0", "in", "fp32"]
    assert len(shown) == 11
    assert shown[-1].split() == ["left", "CUMSUM", "sum", "by", "the", "library", "itself"]
    assert show._left({"delegated": 0, "not_delegated": left}) == [], "without a delegate nothing was left by one"


def test_a_failed_calibration_is_the_cells_failure_with_its_stage(tmp_path: Path) -> None:
    chain = planned("").chains[0]
    stages = [entry["step"] for entry in outcome._stages(chain, {})]
    assert stages[stages.index("calibrate") + 1] == "convert"
    for step in chain.steps():
        step.state = "stored"
    assert chain.calibrate is not None
    chain.calibrate.state = "failed"
    assert chain.convert is not None
    chain.convert.state = chain.build.state = chain.run.state = "wait"
    assert outcome._stopped(chain, {}) is chain.calibrate


# From one job to the next


class Calibrating:
    """A script of jobs whose reference has calibration inputs (of `data`), and whose calibration makes a table of them."""

    def __init__(self, data: str = "one", error: str = "") -> None:
        self.data, self.error = data, error
        self.asked: dict[str, list[dict[str, Any]]] = {}

    def __call__(self, stage: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        read = {key: [Path(path).read_text() for path in job.get(key) or ()] for key in ("calibration",)}
        table = Path(job["table"]).read_text() if job.get("table") else None
        self.asked.setdefault(stage, []).append({**read, "table": table, "quantization": job.get("quantization")})
        if stage == "calibrate":
            if self.error:
                return {"error": {"stage": "export", "type": "ValueError", "message": self.error}}
            (folder / "table.json").write_text("table of " + " ".join(read["calibration"]))
            return {"table": "table.json", "method": "minmax", "samples": 1, "tensors": 1}
        answer = fake.well(stage, job, folder)
        if stage == "reference":
            (folder / "calibration-0.npz").write_text(self.data)
            answer["calibration"] = ["calibration-0.npz"]
        return answer


def int8_cells(*modes: str) -> list[Any]:
    asked: list[dict[str, Any]] = [{"quantization": mode} if mode else {} for mode in modes]
    return [factory.cell(engine, precision="int8", **more) for engine in ENGINES[:2] for more in asked]


def test_a_table_goes_from_its_step_to_the_quantiser_and_stays(tmp_path: Path) -> None:
    script = Calibrating()
    go(tmp_path, int8_cells("", "dynamic"), fake.World(script))
    assert script.asked["calibrate"] == [{"calibration": ["one"], "table": None, "quantization": None}]
    static, dynamic = sorted(script.asked["convert"], key=lambda asked: str(asked["quantization"]), reverse=True)
    assert static == {"calibration": ["one"], "table": "table of one", "quantization": {"mode": "static"}}
    assert dynamic == {"calibration": [], "table": None, "quantization": {"mode": "dynamic"}}
    assert [asked["quantization"]["mode"] for asked in script.asked["build"]].count("dynamic") == 2
    again = fake.World(Calibrating())
    go(tmp_path, int8_cells("", "dynamic"), again)
    assert again.jobs == [], "reused"


def test_a_table_that_is_gone_is_made_again(tmp_path: Path) -> None:
    plan, local, _ = go(tmp_path, int8_cells(""), fake.World(Calibrating()))
    found = next(step for step in plan.steps if step.kind == "calibrate")
    record = local.store.step(found.key)
    assert record is not None
    (local.store.root / record.record["artifact"]["path"]).unlink()
    for step in plan.steps:
        if step.kind in ("convert", "build"):
            local.store.forget([step.key])
    script = Calibrating()
    _, local, _ = go(tmp_path, int8_cells(""), fake.World(script), run="noticed")
    (trouble,) = {text for text in local.infrastructure.values() if "calibrate" in text}
    assert "is missing or corrupt; removed: run again to make it anew" in trouble
    go(tmp_path, int8_cells(""), fake.World(script), run="again")
    assert [asked["table"] for asked in script.asked["convert"]] == ["table of one"]
    assert len(script.asked["calibrate"]) == 1


def test_a_calibration_that_fails_is_said_of_every_cell_behind_it(tmp_path: Path) -> None:
    script = Calibrating(error="the range of tensor x is inf")
    plan, local, _ = go(tmp_path, int8_cells("", "dynamic"), fake.World(script))
    records = {step.key: record for step in plan.steps if step.key and (record := local.store.step(step.key))}
    results = [outcome.outcome(chain, records, {}, "", lambda path: "") for chain in plan.chains]
    by_mode = {result["axes"].get("quantization", ""): result for result in results}
    assert by_mode[""]["status"] == "failed"
    assert by_mode[""]["reason"].startswith("calibration of the exported model failed: ")
    assert "the range of tensor x is inf" in by_mode[""]["line"]
    assert by_mode["dynamic"]["comparison"] == fake.MATCH, "it needs no table"
