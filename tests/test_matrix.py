"""Rules over the product: inline YAML in, short names of cells out."""
# ruff: noqa: E501  (tables of cases, one line each)

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from specs import MATRIX, RECIPE, Project, slugs

from builder import spec
from builder.errors import SpecErrors, UsageError
from builder.matrix import expand
from builder.values import canonical

RICH = """
schema: 1
name: rich
exporters:
  onnx: {family: source, onnx: 1.20.1}
  torch: {family: other, torch: 2.13.0}
engines:
  ort: {family: engine, onnxruntime: [1.16.3, 1.20.1]}
  gpu: {family: gpu, gpu: [1.4.0.76, 1.7.1.116], cuda: 12}
axes:
  model: [alpha, beta]
  opset: [13, 17]
  precision: [fp32, fp16, int8]
  shapes: [static, dynamic]
  target: {values: [sm75, sm89], when: {engine.family: gpu}}
  kind: {values: [old, new], when: {exporter.family: other, opset: 17}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_product_is_in_the_files_order(project: Project) -> None:
    assert slugs(project.matrix().cells) == ["1.16.3.alpha.13", "1.16.3.alpha.17", "1.20.1.alpha.13", "1.20.1.alpha.17"]


def test_an_axis_that_is_off_adds_nothing(project: Project) -> None:
    made = project.matrix(RICH)
    for cell in made.cells:
        assert ("target" in cell.options) == (cell.engine.family == "gpu")
        assert ("kind" in cell.options) == (cell.exporter.family == "other" and cell.options["opset"] == "17")
    # engines: ort 2 stacks; gpu 2 stacks x 2 targets, without int8. Per model and exporter: opsets, and kinds at 17.
    ort, gpu = 2 * 3 * 2, 2 * 2 * 2 * 2
    assert len(made) == 2 * (ort + gpu) * (2 + 3)


def test_ids_are_the_digest_of_the_axis_values_alone(project: Project) -> None:
    cell = project.matrix().cells[0]
    stable = {"exporter": ["source", {"onnx": "1.20.1", "python": "3.12"}], "engine": ["engine", {"onnxruntime": "1.16.3", "python": "3.11"}],
              "model": "alpha", "options": {"opset": "13"}}  # fmt: skip
    assert cell.id == hashlib.sha256(canonical(stable)).hexdigest()[:12]
    renamed = project.matrix(MATRIX.replace("ort:", "renamed:") + "set: [{match: {opset: 13}, timeout: 1h}]").cells[0]
    assert renamed.id == cell.id


def test_the_count_of_every_step(project: Project) -> None:
    project.recipe(
        "beta", RECIPE.replace("[source, other]", "[other]").replace(", dynamic: {N: {min: 1, opt: 2, max: 4}}", "")
    )
    made = project.matrix(RICH + "exclude: [{match: {model: alpha, opset: 13}, because: x}]\n")
    counts = made.counts
    assert counts["product"] == counts["recipe"] + counts["family"] + counts["constraints"] + counts["exclude"] + len(
        made
    )
    assert counts["cells"] == len(made) == len(made.cells)
    removed = [gone.rule for gone in made.removed]
    assert {rule: removed.count(rule) for rule in ("recipe", "family", "constraints", "exclude")} == {
        rule: counts[rule] for rule in ("recipe", "family", "constraints", "exclude")
    }
    assert counts["recipe"] > 0 and counts["family"] > 0 and counts["exclude"] > 0


def test_what_a_recipe_cannot_do_is_removed_and_named(project: Project) -> None:
    still = RECIPE.replace(", dynamic: {N: {min: 1, opt: 2, max: 4}}", "")
    project.recipe("beta", still.replace("[source, other]", "[other]"))
    made = project.matrix(RICH)
    beta = [cell for cell in made.cells if cell.model == "beta"]
    assert {cell.exporter.family for cell in beta} == {"other"}
    assert {cell.options["shapes"] for cell in beta} == {"static"}
    assert {cell.options["shapes"] for cell in made.cells if cell.model == "alpha"} == {"static", "dynamic"}
    because = {gone.because for gone in made.removed if gone.cell.model == "beta"}
    assert "family source cannot export beta; other can" in because
    assert "beta has no dynamic dimensions" in because


def test_constraints_then_exclude_then_include(project: Project) -> None:
    rules = """
constraints:
  - {if: {opset: 17}, then: {onnxruntime: ">=1.17"}, because: too old}
exclude:
  - {match: {opset: 13}, because: not worth it}
include:
  - {onnxruntime: 1.16.3, model: alpha, opset: 13}
  - {onnxruntime: 1.20.1, model: alpha, opset: 21}
"""
    assert slugs(project.matrix(MATRIX + rules).cells) == ["1.20.1.alpha.17", "1.16.3.alpha.13", "1.20.1.alpha.21"]
    with pytest.raises(SpecErrors, match="this include is held to constraints: too old; see matrix.yaml:12:5"):
        project.matrix(
            MATRIX
            + rules.replace(
                "onnxruntime: 1.16.3, model: alpha, opset: 13", "onnxruntime: 1.16.3, model: alpha, opset: 17"
            )
        )


def test_then_speaks_only_of_cells_that_have_the_field(project: Project) -> None:
    made = project.matrix(RICH + "constraints: [{if: {precision: fp16}, then: {target: sm89}, because: x}]\n")
    fp16 = [cell for cell in made.cells if cell.options["precision"] == "fp16"]
    assert {cell.options.get("target") for cell in fp16} == {None, "sm89"}


def test_never_and_absent(project: Project) -> None:
    made = project.matrix(RICH + "constraints: [{never: {target: ~, opset: 13}, because: x}]\n")
    assert {cell.options["opset"] for cell in made.cells if "target" not in cell.options} == {"17"}
    assert {cell.options["opset"] for cell in made.cells if "target" in cell.options} == {"13", "17"}


@pytest.mark.parametrize(
    ("match", "kept"),
    [
        ("{onnxruntime: '<1.17'}", ["1.20.1.alpha.13", "1.20.1.alpha.17"]),
        ("{onnxruntime: '1.2*'}", ["1.16.3.alpha.13", "1.16.3.alpha.17"]),
        ("{engine.python: '3.11', opset: '>=14'}", ["1.16.3.alpha.13", "1.20.1.alpha.13", "1.20.1.alpha.17"]),
        ("{engine: ort, exporter: onnx, opset: [13]}", ["1.16.3.alpha.17", "1.20.1.alpha.17"]),
        ("{onnx: '1.20.1', opset: '!=13'}", ["1.16.3.alpha.13", "1.20.1.alpha.13"]),
    ],
)
def test_matchers(match: str, kept: list[str], project: Project) -> None:
    assert slugs(project.matrix(MATRIX + f"exclude: [{{match: {match}, because: x}}]\n").cells) == kept


def test_set_and_expect(project: Project) -> None:
    rules = """
set:
  - {match: {opset: 17}, timeout: 10m, memory: 512m}
  - {match: {opset: 17, onnxruntime: 1.20.1}, timeout: 90s, retry: 1, priority: 5, measure: true}
expect:
  - {match: {onnxruntime: "<1.17", opset: ">=17"}, fail: unsupported-opset, because: older than the opset, until: 2027-02-01}
"""
    first, second, third, fourth = project.matrix(MATRIX + rules).cells
    assert first.attributes.timeout == 120 and not first.attributes.measure and first.expect is None
    assert (second.attributes.timeout, second.attributes.memory) == (600, 512 << 20)
    assert second.expect is not None and (second.expect.fail, second.expect.until) == (
        "unsupported-opset",
        "2027-02-01",
    )
    assert str(second.expect.where) == "matrix.yaml:15:5"
    assert third.expect is None
    assert (fourth.attributes.timeout, fourth.attributes.memory) == (90, 512 << 20)
    assert (fourth.attributes.retry, fourth.attributes.priority, fourth.attributes.measure) == (1, 5, True)


#: name -> what is added to the small matrix; what is said stands in tests/golden/errors.
BAD = {
    "dead-exclude": "exclude: [{match: {opset: 13, onnxruntime: '>1.16.3', engine.python: '3.11'}, because: x}]\n",
    "dead-constraint": "constraints: [{if: {engine.python: '3.11', onnxruntime: 1.20.1}, then: {opset: 13}, because: x}]\n",
    "dead-set": "exclude: [{match: {opset: 13}, because: x}]\nset: [{match: {opset: 13}, timeout: 10m}]\n",
    "dead-expect": "exclude: [{match: {opset: 13}, because: x}]\nexpect: [{match: {opset: 13}, fail: crashed, because: x}]\n",
    "dead-axis": "  target: {values: [a], when: {opset: 13, engine.python: '3.11', onnxruntime: 1.20.1}}\n",
    "no-cell-left": "exclude: [{match: {opset: '*'}, because: x}]\n",
    "include-double": "include: [{onnxruntime: 1.16.3, model: alpha, opset: 13}]\n",
    "include-vague": "include: [{model: alpha, opset: 21}, {onnxruntime: 1.16.3, model: alpha}, {onnxruntime: 1.16.3}]\n",
    "include-unknown": "include: [{onnxruntim: 1.16.3, model: alpha, opset: 21}, {onnxruntime: 1.0.0, model: alfa, opset: 21}]\n",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_rules(name: str, project: Project, golden) -> None:
    with pytest.raises(SpecErrors) as caught:
        project.matrix(MATRIX + BAD[name])
    golden(f"errors/{name}.txt", str(caught.value) + "\n")


def test_optional_rules_may_match_nothing(project: Project) -> None:
    project.matrix(
        MATRIX + "exclude: [{match: {model: bert}, because: x, optional: true}]\n"
        "set: [{match: {opset: 99}, timeout: 1h, optional: true}]\n"
    )


def test_an_include_lives_where_its_axes_do(project: Project) -> None:
    gone = "include: [{engine: ort, onnxruntime: 1.16.3, exporter: onnx, model: alpha, opset: 21, precision: fp32, shapes: static, target: sm75}]\n"
    with pytest.raises(SpecErrors, match="axis 'target' does not exist for this cell"):
        project.matrix(RICH + gone)
    made = project.matrix(RICH + gone.replace(", target: sm75", ""))
    assert made.cells[-1].options == {"opset": "21", "precision": "fp32", "shapes": "static"}
    assert len(made.select("opset=21").cells) == 1


def test_what_is_exported_to_onnx_has_an_opset(project: Project) -> None:
    """Exporters of the worker read it; which one is meant is not guessed. Others (here `source`) may do without."""
    without = MATRIX.replace("  opset: [13, 17]\n", "")
    assert len(project.matrix(without)) == 2
    family = project.folder / "images" / "source" / "family.yaml"
    family.write_text(family.read_text().replace("exporter: source", "exporter: onnx"))
    recipe = project.folder / "recipes" / "alpha" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("exporters: [source, other]", "exporters: [onnx]"))
    assert len(project.matrix(MATRIX)) == 4
    sometimes = without + "  shapes: [static, dynamic]\n  opset: {values: [13], when: {shapes: dynamic}}\n"
    for text in (without, sometimes):
        with pytest.raises(SpecErrors, match="no axis gives an opset; opset: \\[17\\]"):
            project.matrix(text)


def test_find_by_id_prefix_slug_and_glob(project: Project) -> None:
    made = project.matrix()
    cell = made.cells[1]
    for handle in (cell.id, cell.id[:6], f"#{cell.id}", cell.slug, "*1.16.3*opset17*"):
        assert made.find(handle) is cell
    with pytest.raises(UsageError, match="fits 2 cells"):
        made.find("*opset17*")
    with pytest.raises(UsageError) as caught:
        made.find("engine-onnxruntime1.16.3-py3.11.alpha.opset19")
    assert "nearest are\n    engine-onnxruntime1.16.3-py3.11.alpha.opset13" in str(caught.value)


def test_why(project: Project) -> None:
    rules = """
exclude: [{match: {opset: 13, onnxruntime: 1.16.3}, because: not worth it}]
set: [{match: {onnxruntime: 1.20.1}, timeout: 10m}]
groups: {new: onnxruntime=1.20.1, some: {select: all, sample: {strategy: random, max: 1, seed: 3}}}
"""
    made = project.matrix(MATRIX + rules)
    gone = made.why("*1.16.3*opset13*", group="new")
    assert (gone.state, gone.rule, gone.because, str(gone.where)) == (
        "removed",
        "exclude",
        "not worth it",
        "matrix.yaml:11:11",
    )
    assert made.why("*1.16.3*opset17*", group="new").state == "not-selected"
    with pytest.raises(UsageError, match="fits [0-9]+ cells"):
        made.why("*opset17*", group="new")
    kept = made.why("*1.20.1*opset17*", group="new")
    assert kept.state == "selected" and [str(rule.where) for rule in kept.applied] == ["matrix.yaml:12:7"]
    assert "timeout=600.0" in str(kept)
    states = [made.why(cell.id, group="some").state for cell in made.cells]
    assert sorted(states) == ["sampled-out", "sampled-out", "selected"]
    lost = made.why("engine-onnxruntime1.20.1-py3.12.beta")
    assert lost.state == "unknown" and len(lost.nearest) == 3


def test_a_big_matrix_is_cut_by_bits_and_not_by_cells(project: Project) -> None:
    """Cells are made only for what is selected."""
    text = MATRIX.replace("[13, 17]", str(list(range(1, 1001))))
    made = project.matrix(text + "exclude: [{match: {opset: '>=901'}, because: x}]\n")
    assert len(made) == 1800
    assert len(made.select("opset<11 and onnxruntime=1.20.1").cells) == 10
    assert len(made._made) == 10


def test_every_example_of_the_documentation(tmp_path: Path) -> None:
    """The first block of docs/matrix.md is a whole file; each other one replaces or adds a key of it."""
    root = Path(__file__).parent.parent
    blocks = re.findall(r"```yaml\n(.*?)```", (root / "docs/matrix.md").read_text(), re.DOTALL)
    assert len(blocks) >= 7
    seen = set()
    for block in blocks:
        path = tmp_path / "matrix.yaml"
        path.write_text(block if block is blocks[0] else blocks[0] + block)
        made = expand(spec.load(path, root / "images", root / "recipes"))
        seen |= set(re.findall(r"^(\w+):", block, re.MULTILINE))
        for group in made.spec.groups:
            assert made.select(group, status={made.cells[0].id: "failed"}, changed=set()).cells, group
    assert seen >= set(spec.KEYS) - {"tools"}
