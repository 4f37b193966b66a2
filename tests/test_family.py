"""Families with images: which base a stack has, what the catalog knows of it, and what is refused, with its place."""
# ruff: noqa: E501  (tables of cases, one line each)

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from specs import MATRIX, Project
from stacks import expand, read, stack

from builder import family, matrix
from builder.errors import SpecError, SpecErrors

NGC = """
family: ngc
summary: An image
provides: [engine]
adapter: engine
isolation: [docker]
facts: ngc-tensorrt
axes: {release: {required: true}, numpy: {}}
image:
  base:
    - {if: {tensorrt: "<8"}, use: "nvcr.io/nvidia/old:{release}-py3"}
    - {use: "nvcr.io/nvidia/tensorrt:{release}-py3"}
  interpreter: python3
  site: system
  env: {TRT_VERSION: tensorrt}
  checks: {python: python, tensorrt: tensorrt}
  driver: driver
packages:
  - {if: {numpy: "*"}, add: "numpy=={numpy}"}
  - {if: {cuda: ">=12"}, add: "cuda-python=={cuda}"}
modules: {tensorrt: tensorrt}
precision: {fp32: graph, fp16: [{if: {tensorrt: "<11"}, use: flag}, {use: graph}]}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    found = Project(tmp_path)
    found.write("images/ngc/family.yaml", NGC)
    return found


def entry(text: str) -> str:
    return MATRIX.replace("ort: {family: engine, onnxruntime: [1.16.3, 1.20.1]}", f"ngc: {{family: ngc, {text}}}")


def refused(project: Project, text: str) -> str:
    with pytest.raises(SpecErrors) as caught:
        project.spec(text)
    return str(caught.value)


class TestStacks:
    def test_facts_and_base(self, project: Project) -> None:
        old, new = project.spec(entry('release: ["20.01", "26.07"]')).engines
        assert (old.id, new.id) == ("ngc-20.01", "ngc-26.07")  # no python in them: it is the image's
        assert (old.python, new.python) == ("3.6", "3.12") and "python" not in old.fields
        assert old.base == "nvcr.io/nvidia/old:20.01-py3"
        assert new.base == "nvcr.io/nvidia/tensorrt:26.07-py3"
        assert new.facts["tensorrt"] == "11.1.0.106" and new.value("cuda") == "13.3.1"
        assert (old.precision["fp16"], new.precision["fp16"]) == ("flag", "graph")
        assert [r.line for r in new.requirements] == ["cuda-python==13.3.1"] and old.requirements == ()

    def test_the_identity_is_without_facts(self, project: Project) -> None:
        (found,) = project.spec(entry('release: "24.01"')).engines
        assert found.identity == '["ngc",{"release":"24.01"}]'

    def test_the_known_releases_are_the_tables(self, project: Project) -> None:
        found = project.spec(entry('release: ">=26.01"')).engines
        assert [stack.fields["release"] for stack in found] == ["26.01", "26.02", "26.06", "26.07"]
        assert "no known release of 'release' fits '>=27'" in refused(project, entry('release: ">=27"'))

    def test_a_release_that_is_not_known_needs_its_python(self, project: Project) -> None:
        message = refused(project, entry('release: "24.2"'))
        assert "the catalog knows no python of ngc 24.2; perhaps '24.02'? or add python: \"3.12\"" in message
        (found,) = project.spec(entry('release: "24.06", python: "3.10"')).engines
        assert (found.id, found.facts, found.python) == ("ngc-24.06-py3.10", {}, "3.10")

    def test_a_known_release_without_a_known_python(self) -> None:
        with pytest.raises(
            SpecErrors, match=r'matrix.yaml:1:11: the catalog knows no python of ngc-pytorch 26.08; add python: "3.12"'
        ):
            expand(read("ngc-pytorch"), '{release: "26.08"}')
        assert stack("ngc-pytorch", '{release: "26.08", python: "3.12"}').id == "ngc-pytorch-26.08-py3.12"

    def test_family_and_rules(self, project: Project) -> None:
        found = project.spec(entry('release: "24.01"')).families
        assert found["ngc"].isolation == ("docker",) and found["source"].isolation == ("venv",)
        image = found["ngc"].image
        assert image is not None
        assert (image.interpreter, image.site, image.user, image.runtime, image.driver) == (
            "python3",
            "system",
            "any",
            "",
            "driver",
        )
        assert (image.env, image.checks) == ({"TRT_VERSION": "tensorrt"}, {"python": "python", "tensorrt": "tensorrt"})
        assert found["source"].image is None and "driver" in found["ngc"].facts

    def test_the_families_of_this_repository(self) -> None:
        assert stack("onnxruntime", "{onnxruntime: 1.16.3}").base == "docker.io/library/python:3.11-slim-bookworm"
        assert stack("ngc-tensorflow", '{release: "22.04"}').base == "nvcr.io/nvidia/tensorflow:22.04-tf2-py3"
        jetson = stack("l4t", "{l4t: 36.4.3}")
        assert (jetson.id, jetson.base) == ("l4t-36.4.3", "nvcr.io/nvidia/l4t-tensorrt:r10.3.0-devel")
        assert [r.line for r in stack("ngc-tensorrt", '{release: "22.12"}').requirements] == ["numpy<1.24", "numpy<2"]
        assert [r.line for r in stack("ngc-tensorrt", '{release: "25.01"}').requirements] == ["numpy"]
        lines = [r.line for r in stack("ngc-pytorch", '{release: "24.10"}').requirements]
        assert "onnxscript" in lines  # torch 2.5.0a0
        assert "onnxscript" not in [r.line for r in stack("ngc-pytorch", '{release: "24.07"}').requirements]
        precision = {release: stack("ngc-tensorrt", f'{{release: "{release}", python: "3.12"}}').precision["fp16"]
                     for release in ("25.12", "26.04", "26.06", "26.09")}  # fmt: skip
        assert precision == {"25.12": "flag", "26.04": "flag", "26.06": "graph", "26.09": "graph"}


class TestSelection:
    MORE = 'release: ["22.12", "25.01", "26.07"]'

    def picked(self, project: Project, selector: str, rules: str = "") -> list[str]:
        made = matrix.expand(project.spec(entry(self.MORE) + rules))
        return sorted({cell.engine.fields["release"] for cell in made.select(selector).cells})

    def test_facts_are_selected_like_fields(self, project: Project) -> None:
        assert self.picked(project, "tensorrt>=10") == ["25.01", "26.07"]
        assert self.picked(project, "engine.driver<560") == ["22.12"]
        assert self.picked(project, "engine.cuda>=12 and not engine.cuda>=13") == ["25.01"]
        assert self.picked(project, "engine.python=3.12") == ["25.01", "26.07"]

    def test_rules_match_them(self, project: Project) -> None:
        rules = '\nexclude: [{match: {tensorrt: ">=11"}, because: not yet}]\n'
        assert self.picked(project, "all", rules) == ["22.12", "25.01"]

    def test_a_rule_or_a_selector_with_a_value_that_none_has(self, project: Project) -> None:
        message = refused(project, entry(self.MORE) + '\nexclude: [{match: {tensorrt: "9.*"}, because: x}]\n')
        assert "no tensorrt '9.*' in this matrix" in message

    def test_an_axis_may_not_be_called_like_a_fact(self, project: Project) -> None:
        assert "'driver' is also a field of an engine stack" in refused(
            project, entry(self.MORE) + "  driver: [a, b]\n"
        )


@pytest.mark.parametrize(
    "bad", ["24.01'", '24.01"', "24.01\n", "24.01$x", "24.01\\", "24.01 ", "$(x)", "../24.01", "24.01+x"]
)
@pytest.mark.parametrize("key", ["release", "numpy", "python"])
def test_a_hostile_value_is_an_error_at_its_place(key: str, bad: str, project: Project) -> None:
    quoted = '"' + bad.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    values = {"release": '"24.01"', "numpy": "1.0", "python": '"3.12"'}
    text = entry(", ".join(f"{name}: {quoted if name == key else value}" for name, value in values.items()))
    if (key, bad) == ("numpy", "24.01+x"):
        project.spec(text)  # a local version: it goes into a requirement, not into an image's name
        return
    message = refused(project, text)
    line = next(line for line in text.splitlines() if "family: ngc" in line)
    where = f"matrix.yaml:6:{line.index(quoted) + 1}: "
    assert message.startswith(where), message
    assert message.count("matrix.yaml:") == 1
    assert "cannot be" in message


def test_what_the_documentation_shows_is_read(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "docker.md").read_text()
    blocks = [textwrap.dedent(found) for found in re.findall(r"(?:^    .*\n|^\n(?=    ))+", page, re.M)]
    ours = next(text.strip("\n") for text in blocks if "family: ours" in text)
    path = tmp_path / "ours" / "family.yaml"
    path.parent.mkdir()
    path.write_text(ours + "\n")
    errors: list[SpecError] = []
    assert family.load(path, "family.yaml", errors) is not None, errors
    entries = re.findall(r"^ +\w[\w-]*: (\{family: ([\w-]+), .*?\})(?: |$)", page, re.M)
    assert [name for _, name in entries] == ["ngc-tensorrt", "ngc-pytorch", "l4t", "ours"]
    for text, name in entries:
        file = family.load(path, "family.yaml", []) if name == "ours" else read(name)
        assert file is not None
        assert expand(file, text.replace(f"family: {name}, ", "")), text


WRONG = {
    "no-image": ('image:\n  base:\n    - {if: {tensorrt: "<8"}, use: "nvcr.io/nvidia/old:{release}-py3"}\n'
                 '    - {use: "nvcr.io/nvidia/tensorrt:{release}-py3"}\n  interpreter: python3\n  site: system\n'
                 "  env: {TRT_VERSION: tensorrt}\n  checks: {python: python, tensorrt: tensorrt}\n  driver: driver\n", "",
                 "5:12: docker needs 'image:', which says what its images are made of; or leave docker out"),
    "image-unused": ("isolation: [docker]", "isolation: [venv]", "5:12: 'image:' is for docker; add docker, or leave 'image:' out"),
    "facts": ("facts: ngc-tensorrt", "facts: ngc-tensort", "6:8: the catalog has no facts 'ngc-tensort'; perhaps 'ngc-tensorrt'?"),
    "facts-axis": ("release: {required: true}", "version: {required: true}", "6:8: the facts 'ngc-tensorrt' are given by 'release'"),
    "key": ("  site: system", "  sites: system", "13:3: unknown key 'sites' in image; perhaps 'site'?"),
    "site": ("site: system", "site: systemm", "13:9: 'systemm' is not a value of 'site'; perhaps 'system'?"),
    "user": ("driver: driver", "user: nobody", "16:9: 'nobody' is not a value of 'user'; there are any, root"),
    "runtime": ("driver: driver", 'runtime: "nvidia; x"', "16:12: 'nvidia; x' is not a name"),
    "driver": ("driver: driver", "driver: drive", "16:11: unknown field or fact 'drive'; perhaps 'driver'?"),
    "check": ("tensorrt: tensorrt}\n  driver", "tensorrt: tensort}\n  driver", "15:38: unknown field or fact 'tensort'; perhaps 'tensorrt'?"),
    "check-name": ("checks: {python: python, tensorrt", 'checks: {python: python, "a b"', "15:28: 'a b' cannot be a name in 'checks'"),
    "no-python-check": ("python: python, ", "", "15:11: every image is asked for its python; checks: {python: python, ...}"),
    "env-name": ("TRT_VERSION", '"TRT-VERSION"', "14:9: 'TRT-VERSION' cannot be a name in 'env'"),
    "env-value": ("{TRT_VERSION: tensorrt}", "{TRT_VERSION: [a]}", "14:22: unknown field or fact ''"),
    "interpreter": ("interpreter: python3", 'interpreter: "python3 -c"', "12:16: 'python3 -c' is not the name or path of a program"),
    "interpreter-field": ("interpreter: python3", 'interpreter: "python{pythn}"', "12:16: unknown field or fact {pythn}; perhaps 'python'?"),
    "no-tag": ('tensorrt:{release}-py3"', 'tensorrt"', "11:13: 'nvcr.io/nvidia/tensorrt' is not an image with registry and tag; registry/repository:tag"),
    "no-registry": ("nvcr.io/nvidia/tensorrt:", "tensorrt:", "11:13: 'tensorrt:{release}-py3' is not an image with registry and tag"),
    "digest": ("tensorrt:{release}-py3", "tensorrt@sha256:{release}", "is not an image with registry and tag"),
    "dollar": ("tensorrt:{release}-py3", "tensorrt:${release}", "is not an image with registry and tag"),
    "base-quote": ('"nvcr.io/nvidia/tensorrt:{release}-py3"', "'nvcr.io/nvidia/\"x\":{release}'", "is not an image with registry and tag"),
    "base-field": ("tensorrt:{release}", "tensorrt:{release2}", "11:13: unknown field or fact {release2}; perhaps 'release'?"),
    "base-condition": ('{if: {tensorrt: "<8"}', '{if: {tensort: "<8"}', "10:13: unknown axis 'tensort'; perhaps 'tensorrt'?"),
    "base-nothing": ('\n    - {if: {tensorrt: "<8"}, use: "nvcr.io/nvidia/old:{release}-py3"}\n    - {use: "nvcr.io/nvidia/tensorrt:{release}-py3"}', " []",
                     "'base' must be an image with its tag, or a list of rules"),
    "hub-short": ("nvcr.io/nvidia/tensorrt:", "nvidia/tensorrt:", "not an image with registry and tag; registry/repository:tag, such as docker.io/"),
    "port": ("nvcr.io/nvidia/tensorrt:", "nvcr.io:70000/nvidia/tensorrt:", "is not an image with registry and tag"),
    "dots": ("nvcr.io/nvidia/tensorrt:", "nvcr.io/nvidia...x/tensorrt:", "is not an image with registry and tag"),
    "interpreter-option": ("interpreter: python3", 'interpreter: "-c"', "12:16: '-c' is not the name or path of a program"),
    "package-fact": ("cuda-python=={cuda}", "cuda-python=={cuba}", "19:31: unknown axis {cuba}; perhaps 'cuda'?"),
    "no-python": ("facts: ngc-tensorrt\n", "", "has no 'python'; a list such as"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_in_a_family(case: str, tmp_path: Path) -> None:
    old, new, expected = WRONG[case]
    text = NGC.lstrip("\n")
    assert old in text
    path = tmp_path / "ngc" / "family.yaml"
    path.parent.mkdir()
    path.write_text(text.replace(old, new))
    errors: list[SpecError] = []
    assert family.load(path, "family.yaml", errors) is None
    assert any(expected in str(error) for error in errors), "\n".join(map(str, errors))


def test_mistakes_are_collected(tmp_path: Path) -> None:
    path = tmp_path / "ngc" / "family.yaml"
    path.parent.mkdir()
    text = (
        NGC.lstrip("\n")
        .replace("site: system", "site: x")
        .replace("driver: driver", "driver: x")
        .replace("-py3", "-{y}")
    )
    path.write_text(text)
    errors: list[SpecError] = []
    family.load(path, "family.yaml", errors)
    assert len(errors) == 4


def test_no_base_rule_takes_a_stack(project: Project) -> None:
    project.write("images/ngc/family.yaml", NGC.replace('    - {use: "nvcr.io/nvidia/tensorrt:{release}-py3"}\n', ""))
    message = refused(project, entry('release: "24.01"'))
    assert "no base rule of family 'ngc' takes {'release': '24.01'}; end with a rule without 'if'" in message


def test_a_capital_letter_in_a_repository(project: Project) -> None:
    project.write("images/ngc/family.yaml", NGC.replace("nvidia/tensorrt:{release}", "nvidia/{numpy}:{release}"))
    assert project.spec(entry('release: "24.01", numpy: 1.0rc1')).engines[0].base == "nvcr.io/nvidia/1.0rc1:24.01-py3"
    message = refused(project, entry('release: "24.01", numpy: 1.0RC1'))
    assert "'1.0RC1' cannot be part of an image's name" in message


def test_a_base_that_reads_what_a_stack_has_not(project: Project) -> None:
    project.write("images/ngc/family.yaml", NGC.replace("tensorrt:{release}-py3", "tensorrt:{numpy}-py3"))
    assert "images/ngc/family.yaml:11:13: entry 'ngc' gives no 'numpy', which this image reads" in refused(
        project, entry('release: "24.01"')
    )
