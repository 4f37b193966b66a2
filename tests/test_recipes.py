"""Every recipe and exporter family as it stands: readable, complete, in what the oldest Python understands."""

import subprocess
import sys
from pathlib import Path

import pytest

from builder import family, recipe
from builder.errors import SpecError
from builder.values import Recipe

ROOT = Path(__file__).parent.parent
RECIPES = recipe.names(ROOT / "recipes")


def read(name: str) -> Recipe:
    errors: list[SpecError] = []
    loaded = recipe.load(ROOT / "recipes" / name / "recipe.yaml", name, errors)
    assert loaded, "\n".join(map(str, errors))
    return loaded.recipe


def read_family(name: str) -> family.FamilyFile:
    errors: list[SpecError] = []
    loaded = family.load(ROOT / "images" / name / "family.yaml", name, errors)
    assert loaded, "\n".join(map(str, errors))
    return loaded


def test_the_models_the_readme_names_are_there() -> None:
    assert set(RECIPES) >= {
        "resnet50", "squeezenet", "densenet121", "shufflenet", "residual_cnn", "encoder", "segmenter", "keras_cnn",
        "minilm",
    }  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_complete(name: str) -> None:
    found = read(name)
    assert found.shapes == ("static", "dynamic")
    assert found.calibration
    for precision in ("fp32", "fp16", "int8"):
        limits = found.tolerance[precision]
        assert len(limits["because"]) > 20, f"{precision} gives no reason"
        if precision != "int8":
            assert limits["atol"] > 0 and limits["rtol"] > 0
    assert found.tolerance["fp16"]["cosine"] >= 0.999
    assert found.tolerance["fp32"]["atol"] < found.tolerance["fp16"]["atol"]
    metric = found.data.get("metric")
    if metric:
        # Without a minimum for a precision the comparison would have no verdict there.
        assert set(metric["minimum"]) == set(found.tolerance)
        assert all(value > 0 for value in metric["minimum"].values())
    for exporter in found.exporters:
        assert "exporter" in read_family(exporter).family.provides
    assert {"opset", "shapes"} <= set(found.uses)
    assert ("torch-exporter" in found.uses) == ("torch" in found.exporters)
    assert ("saved-as" in found.uses) == ("tensorflow" in found.exporters)


@pytest.mark.parametrize("name", RECIPES)
def test_dynamic_points_differ(name: str) -> None:
    for size in read(name).data["dims"]["dynamic"].values():
        assert size["min"] < size["opt"] < size["max"]
        assert size["opt"] > 1, "torch.export makes a constant of a size of 1"


@pytest.mark.parametrize("name", RECIPES)
def test_script_has_its_functions_and_imports_no_framework(name: str) -> None:
    """-S: not even site-packages are there, so a framework import at the top would fail."""
    found = read(name)
    script = Path(found.directory) / found.data["script"]
    check = (
        "import sys, importlib.util as u; s = u.spec_from_file_location('r', sys.argv[1]);"
        "m = u.module_from_spec(s); s.loader.exec_module(m); assert callable(m.model);"
        "assert 'torch' not in sys.argv[2] or m.OUTPUTS"
    )
    subprocess.run([sys.executable, "-I", "-B", "-S", "-c", check, str(script), ",".join(found.exporters)], check=True)


@pytest.mark.parametrize("path", ["recipes", "builder/worker/exporters"])
def test_scripts_parse_on_python_3_6(path: str) -> None:
    files = sorted(map(str, (ROOT / path).rglob("*.py")))
    assert files
    ran = subprocess.run(
        [str(Path(sys.executable).with_name("vermin")), "--no-tips", "--violations", "-t=3.6-", *files],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout


def test_exporters_import_without_any_library() -> None:
    check = "import sys; sys.path.insert(0, sys.argv[1]); import worker.exporters as e; print(sorted(e.EXPORTERS))"
    ran = subprocess.run(
        [sys.executable, "-I", "-B", "-S", "-c", check, str(ROOT / "builder")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "['nncf', 'onnx', 'tensorflow', 'tools', 'torch']"


@pytest.mark.parametrize(
    ("name", "role"), [("torch", "exporter"), ("tensorflow", "exporter"), ("onnx", "exporter"), ("onnx-tools", "tools")]
)
def test_family_names_a_real_module(name: str, role: str) -> None:
    found = read_family(name).family
    assert role in found.provides
    assert found.exporter in {"torch", "tensorflow", "onnx", "tools"}
