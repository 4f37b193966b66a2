"""The JSON Schema takes what the reader takes, and refuses what an editor can know to be wrong."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from specs import FAMILIES, MATRIX, RECIPE, Project
from test_matrix import RICH

from builder import schema
from builder.errors import SpecErrors

ROOT = Path(__file__).parent.parent
OWN = [("matrix", ROOT / "matrix.yaml")]
OWN += [("family", path) for path in sorted(ROOT.glob("images/*/family.yaml"))]
OWN += [("recipe", path) for path in sorted(ROOT.glob("recipes/*/recipe.yaml"))]


def _errors(kind: Any, data: object) -> list[str]:
    checker = jsonschema.Draft202012Validator(schema.schema(kind))
    return [f"{error.json_path}: {error.message}" for error in checker.iter_errors(data)]


@pytest.mark.parametrize("kind", schema.KINDS)
def test_it_is_a_schema(kind: schema.Kind) -> None:
    jsonschema.Draft202012Validator.check_schema(schema.schema(kind))


@pytest.mark.parametrize(
    ("kind", "path"), OWN, ids=lambda value: value.parent.name if isinstance(value, Path) else value
)
def test_it_takes_the_files_of_this_repository(kind: str, path: Path) -> None:
    assert _errors(kind, yaml.safe_load(path.read_text())) == []


def test_it_takes_what_the_tests_use() -> None:
    for text in (MATRIX, RICH):
        assert _errors("matrix", yaml.safe_load(text)) == []
    for text in FAMILIES.values():
        assert _errors("family", yaml.safe_load(text)) == []
    assert _errors("recipe", yaml.safe_load(RECIPE)) == []


#: What is added to the small matrix, wrong in a way that both must see.
WRONG: list[dict[str, Any]] = [
    {"excludes": []},
    {"exclude": [{"match": {"opset": 13}}]},
    {"exclude": [{"match": {}, "because": "x"}]},
    {"constraints": [{"if": {"opset": 13}, "because": "x"}]},
    {"set": [{"match": {"opset": 13}, "timeout": "soon"}]},
    {"set": [{"match": {"opset": 13}}]},
    {"expect": [{"match": {"opset": 13}, "fail": "verified", "because": "x"}]},
    {"groups": {"one": {"select": "all", "sample": {"strategy": "pairs"}}}},
    {"groups": {"one": {"select": "all", "order": ["newest"]}}},
    {"axes": {"opset": [13]}},
    {"axes": {"model": ["alpha"], "x": {"values": ["a"], "wen": {"opset": 13}}}},
    {"engines": {"one": {"onnxruntime": "1.16.3"}}},
    {"schema": 2},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_reader_and_schema_refuse_alike(wrong: dict[str, Any], tmp_path: Path) -> None:
    data = {**copy.deepcopy(yaml.safe_load(MATRIX)), **wrong}
    assert _errors("matrix", data)
    with pytest.raises(SpecErrors):
        Project(tmp_path).matrix(yaml.safe_dump(data, sort_keys=False))


def test_families_with_images() -> None:
    data = yaml.safe_load((ROOT / "images" / "ngc-tensorrt" / "family.yaml").read_text())
    assert _errors("family", data) == []
    image = data["image"]
    cases = [
        {key: value for key, value in data.items() if key != "facts"},
        {**data, "image": {"base": "x"}},
        {**data, "image": {**image, "site": "x"}},
        {**data, "image": {**image, "checks": {"cuda": "cuda"}}},
        {**data, "image": {**image, "x": "y"}},
    ]
    for wrong in cases:
        assert _errors("family", wrong), wrong
