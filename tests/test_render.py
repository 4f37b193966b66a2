"""Dockerfiles: golden for every kind of stack (tests/golden/dockerfiles), and what must never reach one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dockerparts
import pytest
from stacks import CUTOFF, IMAGES, expand, image, pins, read, rendered, stack

from builder import lock, render, templates
from builder.environment.interpreters import uv_binary
from builder.templates import RenderError

STACKS = [
    *(("ngc-tensorrt", f'{{release: "{r}"}}') for r in (
        "20.01", "21.07", "21.10", "22.07", "23.02", "23.07", "24.01", "25.01", "25.11", "26.07")),
    *(("ngc-pytorch", f'{{release: "{r}"}}') for r in ("20.06", "21.10", "22.04", "24.05", "25.06", "26.07")),
    ("ngc-pytorch", '{release: "26.08", python: "3.12"}'),
    ("ngc-pytorch", '{release: "25.12", onnxscript: 0.5.6}'),
    ("ngc-tensorflow", '{release: "21.07"}'),
    ("ngc-tensorflow", '{release: "22.04"}'),
    *(("l4t", f'{{l4t: "{r}"}}') for r in ("35.1.0", "35.4.1", "36.3.0", "36.4.3")),
    ("litert", "{litert: 1.0.1}"),
    ("litert", "{litert: 2.3.0}"),
    ("nncf", "{nncf: 3.4.0}"),
    ("onnx", "{onnx: 1.23.2}"),
    ("onnx-tools", "{onnxruntime: 1.31.1}"),
    ("onnxruntime", "{onnxruntime: 1.16.3}"),
    ("onnxruntime", "{onnxruntime: 1.16.3, numpy: 2.2.6}"),
    ("onnxruntime", "{onnxruntime: 1.26.0}"),
    ("onnxruntime", "{onnxruntime: 1.31.1}"),
    ("onnxruntime-gpu", "{onnxruntime-gpu: 1.22.0}"),
    ("onnxruntime-gpu", "{onnxruntime-gpu: 1.31.1, tensorrt: 10.14.1.48}"),
    ("onnxruntime-gpu", "{onnxruntime-gpu: 1.31.1, libraries: system}"),
    ("openvino", "{openvino: 2023.0.2}"),
    ("openvino", "{openvino: 2026.4.1}"),
    ("tensorflow", "{tensorflow: 2.15.1}"),
    ("tensorflow", "{tensorflow: 2.19.1}"),
    ("tensorrt", "{tensorrt: 8.4.1.5, cuda: 11}"),
    ("tensorrt", "{tensorrt: 8.6.1, cuda: 12}"),
    ("tensorrt", "{tensorrt: 10.9.0.34, cuda: 12}"),
    ("tensorrt-rtx", "{tensorrt-rtx: 1.7.1.116, cuda: 12}"),
    ("tensorrt-rtx", "{tensorrt-rtx: 1.7.1.116, cuda: 13}"),
    ("tf-trt", "{tensorflow: 2.17.1}"),
    ("torch", "{torch: 2.13.0, python: '3.11'}"),
    ("torch-cuda", "{torch: 2.11.0}"),
    ("torch-cuda", "{torch: 2.8.0, compute-platform: cu126}"),
    ("torch-tensorrt", "{torch-tensorrt: 2.8.0}"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "entry"), STACKS)
def test_golden(name: str, entry: str, golden: Callable[[str, str], None]) -> None:
    made = rendered(name, entry)
    golden(f"dockerfiles/{made.stack.id}.Dockerfile", made.dockerfile)
    assert rendered(name, entry) == made and rendered(name, entry).key == made.key
    assert re.fullmatch(rf"enginematrix/{name}:[0-9a-f]{{16}}", made.tag)
    _sound(made)


def _sound(made: render.Rendered) -> None:
    """What a reader of Dockerfiles looks for."""
    text = made.dockerfile
    assert text.isascii() and text.endswith("\n") and not text.endswith("\n\n")
    assert "\\\n\n" not in text and "\n\n\n" not in text and not re.search(r"[ \t]+$", text, re.MULTILINE)
    instructions = re.findall(r"^([A-Z]+) ", text, re.MULTILINE)
    assert instructions[:4] == ["ARG", "FROM", "ARG", "USER"] and instructions[-1] == "LABEL"
    assert set(instructions[4:-1]) == {"RUN"}
    assert re.search(r"^FROM \$\{REGISTRY\}/[a-z0-9/._-]+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    for command in re.findall(r"^    (\[.*\])$", text, re.MULTILINE):
        assert json.loads(command)[:2] == ["/bin/sh", "/mnt/enginematrix/environment.sh"]
    for source in set(re.findall(r"type=bind,source=([^,]+)", text)):
        assert source in made.files or source in ("uv", "wheels/dependencies", "wheels/own")
    installed = "".join(made.files.get(name, "") for name in (render.DEPENDENCIES, render.OWN))
    assert sorted(re.findall(r"^(\S+==\S+)", installed, re.MULTILINE)) == sorted(made.pins.packages)


def test_every_default_stack_has_a_golden_family() -> None:
    assert {name for name, _ in STACKS} == {path.parent.name for path in IMAGES.glob("*/family.yaml")}


def test_neighbours_differ_only_from_their_own_packages_on() -> None:
    old, new = (rendered("onnxruntime", f"{{onnxruntime: {version}}}") for version in ("1.26.0", "1.31.1"))
    last = old.dockerfile.index("# The packages that this stack is named by.")
    above, below = old.dockerfile[:last], old.dockerfile[last:]
    assert new.dockerfile.startswith(above) and old.dockerfile != new.dockerfile
    assert new.dockerfile[last:].split("LABEL")[0] == below.split("LABEL")[0]
    different = {name for name in old.files if old.files[name] != new.files[name]}
    assert different == {render.OWN}
    assert old.key != new.key


def test_what_is_its_own() -> None:
    found = stack("onnxruntime", "{onnxruntime: 1.16.3, numpy: 2.2.6}")
    assert render.own_pins(found, pins(found)) == ["numpy==2.2.6", "onnxruntime==1.16.3"]
    found = stack("torch", "{torch: 2.13.0}")
    locked = replace(pins(found), packages=("numpy==2.4.6", "torch==2.13.0+cpu"))
    assert render.own_pins(found, locked) == ["torch==2.13.0+cpu"]
    found = stack("tensorrt-rtx", "{tensorrt-rtx: 1.7.1.116, cuda: 12}")
    own = ["tensorrt_rtx_cu12_bindings==1.7.1.116", "tensorrt_rtx_cu12_libs==1.7.1.116"]
    assert render.own_pins(found, pins(found)) == own
    found = stack("ngc-tensorrt", '{release: "24.01"}')
    assert render.own_pins(found, pins(found)) == []


def test_a_stack_without_packages_runs_on_the_python_of_its_image() -> None:
    found = replace(stack("l4t", "{l4t: 36.4.3}"), requirements=())
    made = render.render(found, read("l4t").family, pins(found), image(found), "linux/arm64", IMAGES, CUTOFF)
    assert made.python == "python3"
    assert sorted(made.files) == ["check.py", "environment.sh"]
    assert made.dockerfile.count("RUN") == 1 and "uv" not in made.dockerfile
    assert '"check", "python3", "", "--python", ' in made.dockerfile, "another Python would start no worker"
    assert rendered("l4t", "{l4t: 36.4.3}").python == "/opt/enginematrix/env/bin/python"


def test_what_the_catalog_does_not_know_is_not_asked() -> None:
    made = rendered("ngc-pytorch", '{release: "24.06"}')  # neither cuDNN nor TensorRT in the facts
    (asked,) = {
        tuple(json.loads(line)[5:])
        for line in re.findall(r"^    (\[.*\"check\", \"python3\".*\])$", made.dockerfile, re.M)
    }
    assert asked == ("--python", "3.10", "--cuda", "12.5.0", "--distribution", "torch=2.4.0a0+f70bd71a48")


def test_the_cut_off_is_the_clock() -> None:
    found = stack("onnx", "{onnx: 1.23.2}")

    def text(cutoff: str) -> str:
        return render.render(
            found, read("onnx").family, pins(found), image(found), "linux/amd64", IMAGES, cutoff
        ).dockerfile

    assert "ARG SOURCE_DATE_EPOCH=1795132800\n" in text("2026-11-20T00:00:00Z")
    assert text("2026-11-20T00:00:00Z") != text("2026-11-21T00:00:00Z")
    for bad in ("yesterday", "2026-11-20\n00:00:00Z", ""):
        with pytest.raises(RenderError, match=re.escape(f"{bad!r} is not an instant")):
            text(bad)


HOSTILE = [
    "1.0'",
    '1.0"',
    "1.0\nRUN evil",
    "1.0$(evil)",
    "1.0\\",
    "1.0`evil`",
    "1.0;evil",
    "1.0 evil",
    "-evil",
    "${REGISTRY}",
    "",
]


@pytest.mark.parametrize("bad", HOSTILE)
def test_no_hostile_value_reaches_a_dockerfile(bad: str) -> None:
    """The reader refuses them all; this is the second wall, for a lock or a catalog that somebody wrote."""
    good = stack("ngc-tensorrt", '{release: "24.01"}')
    family, base, locked = read("ngc-tensorrt").family, image(good), pins(good)
    pin = locked.packages[0]

    def attempt(found: Any = good, of: Any = base, by: Any = locked) -> None:
        with pytest.raises(RenderError) as caught:
            render.render(found, family, by, of, "linux/amd64", IMAGES, CUTOFF)
        assert "\n" not in str(caught.value)

    attempt(replace(good, fields={"release": bad}))
    attempt(replace(good, fields={"release": "24.01", "python": bad} if bad else {"release": ""}))
    attempt(replace(good, facts={**good.facts, "tensorrt": bad}))
    attempt(replace(good, base=f"nvcr.io/nvidia/tensorrt:{bad}"))
    attempt(of=replace(base, manifest=f"sha256:{bad}"))
    attempt(by=replace(locked, packages=(f"numpy=={bad}",), hashes={f"numpy=={bad}": locked.hashes[pin]}))
    attempt(by=replace(locked, hashes={**locked.hashes, pin: (bad,)}))


def test_an_image_of_docker_io_is_asked_for_where_it_was_locked() -> None:
    """Locking asks for docker.io/library/ubuntu; behind a mirror nothing adds the `library/` to a Dockerfile's `ubuntu`."""
    found = replace(stack("onnx", "{onnx: 1.23.2}"), base="docker.io/ubuntu:24.04")
    made = render.render(found, read("onnx").family, pins(found), image(found), "linux/amd64", IMAGES, CUTOFF)
    assert made.registry == "docker.io" and "FROM ${REGISTRY}/library/ubuntu@sha256:" in made.dockerfile
    hub = replace(found, base="nvidia/cuda:12.4.1-base-ubuntu22.04")  # ARG REGISTRY would stand for `nvidia`
    with pytest.raises(RenderError, match="is not an image with registry and tag"):
        render.render(hub, read("onnx").family, pins(found), image(found), "linux/amd64", IMAGES, CUTOFF)


def test_an_option_of_pip_is_no_pin() -> None:
    found = stack("onnx", "{onnx: 1.23.2}")
    for pin in ("--index-url==http://evil", "onnx @ http://evil", "onnx==1.0 --hash=sha256:0", "-r /etc/passwd"):
        locked = replace(pins(found), packages=(pin,), hashes={pin: (image(found).manifest,)})
        with pytest.raises(RenderError, match="in the lock is not a pin"):
            render.render(found, read("onnx").family, locked, image(found), "linux/amd64", IMAGES, CUTOFF)


@pytest.mark.parametrize("name", ["ours", "Our.Runtime", "a..b_-c", "X-"])
def test_a_family_of_any_name_has_a_tag_that_docker_takes(name: str) -> None:
    """The grammar of github.com/distribution/reference: path-component and tag."""
    made = rendered("onnx", "{onnx: 1.23.2}")
    tag = replace(made, stack=replace(made.stack, family=name)).tag
    assert re.fullmatch(r"enginematrix/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*:[0-9a-f]{16}", tag), tag


def test_labels_are_quoted() -> None:
    assert templates._quoted('a "b" $c \\d') == '"a \\"b\\" \\$c \\\\d"'


def test_what_cannot_be_rendered_says_why() -> None:
    found = stack("onnx", "{onnx: 1.23.2}")
    arguments = (image(found), "linux/amd64", IMAGES, CUTOFF)
    with pytest.raises(RenderError, match="the lock has no packages for it: no solution"):
        render.render(found, read("onnx").family, replace(pins(found), unresolved="no solution"), *arguments)
    with pytest.raises(RenderError, match="family 'onnx' has no image"):
        render.render(found, replace(read("onnx").family, image=None), pins(found), *arguments)


class TestTemplates:
    @pytest.fixture
    def images(self, tmp_path: Path) -> Path:
        for name in (*render.SCRIPTS, "base.Dockerfile.j2", "run.j2"):
            shutil.copy(IMAGES / name, tmp_path)
        (tmp_path / "ngc-tensorrt").mkdir()
        return tmp_path

    def fill(self, images: Path, template: str | None, entry: str = '{release: "24.01"}') -> str:
        if template is not None:
            (images / "ngc-tensorrt" / "Dockerfile.j2").write_text(template)
        found = stack("ngc-tensorrt", entry)
        family = read("ngc-tensorrt").family
        return render.render(found, family, pins(found), image(found), "linux/amd64", images, CUTOFF).dockerfile

    BLOCK = '{% extends "base.Dockerfile.j2" %}\n{% block system %}\n'

    def test_a_family_may_add_to_the_system(self, images: Path) -> None:
        text = self.fill(images, self.BLOCK + "ENV ENGINEMATRIX_TENSORRT={{ tensorrt }}\n{% endblock %}\n")
        assert "\n\nENV ENGINEMATRIX_TENSORRT=8.6.1.6\n\n# The environment" in text

    def test_a_name_that_the_family_does_not_declare(self, images: Path) -> None:
        with pytest.raises(RenderError) as caught:
            self.fill(images, self.BLOCK + "\nENV X={{ tensort }}\n{% endblock %}\n")
        place = f"{images}/ngc-tensorrt/Dockerfile.j2:4"
        assert str(caught.value) == (
            f"{place}: 'tensort' is no axis or fact that family 'ngc-tensorrt' declares; perhaps 'tensorrt'?"
        )

    def test_even_where_it_would_not_be_read(self, images: Path) -> None:
        with pytest.raises(RenderError, match=r"Dockerfile\.j2:3: 'opset' is no axis or fact"):
            self.fill(images, self.BLOCK + "{% if false %}{{ opset }}{% endif %}{% endblock %}\n")

    def test_in_the_template_that_it_extends(self, images: Path) -> None:
        (images / "base.Dockerfile.j2").write_text("FROM x\n{{ torch }}\n")
        with pytest.raises(RenderError, match=r"base\.Dockerfile\.j2:2: 'torch' is no axis or fact"):
            self.fill(images, '{% extends "base.Dockerfile.j2" %}\n')

    def test_a_declared_fact_that_this_stack_lacks(self, images: Path) -> None:
        template = self.BLOCK + "\nENV X={{ cudnn }}\n{% endblock %}\n"
        assert "ENV X=8.9.7.29\n" in self.fill(images, template)
        with pytest.raises(
            RenderError, match=r"Dockerfile\.j2:4: 'cudnn' is undefined: not known of ngc-tensorrt-20\.02"
        ):
            self.fill(images, template, '{release: "20.02"}')
        guarded = self.BLOCK + "{% if cudnn is defined %}ENV X={{ cudnn }}{% endif %}\n{% endblock %}\n"
        assert "ENV" not in self.fill(images, guarded, '{release: "20.02"}')

    def test_syntax(self, images: Path) -> None:
        with pytest.raises(RenderError, match=r"Dockerfile\.j2:2: .*unexpected"):
            self.fill(images, '{% extends "base.Dockerfile.j2" %}\n{{ x ')

    def test_no_template(self, images: Path) -> None:
        with pytest.raises(RenderError, match=r"ngc-tensorrt/Dockerfile\.j2: no such template"):
            self.fill(images, None)
        with pytest.raises(RenderError, match=r"absent\.j2: no such template"):
            self.fill(images, '{% extends "absent.j2" %}')

    def test_a_template_chosen_by_a_value(self, images: Path) -> None:
        with pytest.raises(RenderError, match="as it is written"):
            self.fill(images, "{% extends release %}")

    @pytest.mark.parametrize(
        ("template", "message"),
        [
            ("{% block systemx %}RUN x\n{% endblock %}", ":2: the template that it extends has no block 'systemx'; perhaps"),
            ("RUN apt-get install x\n", r":2: 'RUN apt-get install x' stands in no block.*; the blocks are check, "),
            ("\n{{ release }}\n", r":[23]: '\{\{ \.\.\. \}\}' stands in no block"),
        ],
    )  # fmt: skip
    def test_what_jinja_would_leave_out(self, images: Path, template: str, message: str) -> None:
        with pytest.raises(RenderError, match=r"ngc-tensorrt/Dockerfile\.j2" + message):
            self.fill(images, '{% extends "base.Dockerfile.j2" %}\n' + template)

    def test_a_comment_a_variable_and_a_block_in_a_block_are_no_mistake(self, images: Path) -> None:
        template = (
            '{% extends "base.Dockerfile.j2" %}\n{# why #}\n{% block system %}\n'
            '{% block inner %}{% set name = "X" %}ENV {{ name }}=1{% endblock %}\n{% endblock %}\n'
        )
        assert "\nENV X=1\n" in self.fill(images, template)

    @pytest.mark.parametrize("template", ["", "RUN x\n", "FROM scratch\n", "FROM docker.io/library/ubuntu:latest\n"])
    def test_a_template_that_is_on_no_locked_base(self, images: Path, template: str) -> None:
        with pytest.raises(RenderError, match=r"ngc-tensorrt/Dockerfile\.j2: makes no 'FROM .*@sha256:.*begin it with"):
            self.fill(images, template)

    def test_a_template_of_its_own_may_name_its_stage(self, images: Path) -> None:
        template = "ARG REGISTRY=nvcr.io\nFROM ${REGISTRY}/{{ base.path }}@{{ base.manifest }} AS first\n"
        assert self.fill(images, template).endswith(" AS first\n")

    @pytest.mark.parametrize(
        ("expression", "message"),
        [
            ("1 // 0", ":3: ZeroDivisionError"),
            ("release + 1", ":3: TypeError"),
            ("release | nosuch", ":3: No filter named 'nosuch'"),
        ],
    )
    def test_an_expression_that_fails(self, images: Path, expression: str, message: str) -> None:
        with pytest.raises(RenderError, match=r"ngc-tensorrt/Dockerfile\.j2" + message):
            self.fill(images, self.BLOCK + "{{ " + expression + " }}{% endblock %}\n")

    def test_a_circle(self, images: Path) -> None:
        with pytest.raises(RenderError, match=r"ngc-tensorrt/Dockerfile\.j2: extends itself"):
            self.fill(images, '{% extends "ngc-tensorrt/Dockerfile.j2" %}\n')

    def test_a_file_that_is_no_text_costs_its_own_family_only(self, images: Path) -> None:
        (images / "other").mkdir()
        (images / "other" / "Dockerfile.j2").write_bytes(b"\xff\xfe")
        (images / "folder.j2").mkdir()
        assert self.fill(images, '{% extends "base.Dockerfile.j2" %}\n')
        (images / "ngc-tensorrt" / "Dockerfile.j2").write_bytes(b"{# \xff #}")
        with pytest.raises(RenderError, match=r"ngc-tensorrt/Dockerfile\.j2: is not UTF-8"):
            self.fill(images, None)

    def test_no_script(self, images: Path) -> None:
        (images / "check.py").unlink()
        with pytest.raises(RenderError, match=r"check\.py: No such file or directory; every image needs it"):
            self.fill(images, '{% extends "base.Dockerfile.j2" %}\n')


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dockerparts.Registry]:
    with dockerparts.running_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found
    for name in dockerparts.docker("images", "-q", "enginematrix-test-render/*").split():
        dockerparts.docker("rmi", "-f", name)


@pytest.mark.docker
class TestBuilds:
    """The Dockerfiles really build, or stop where they should."""

    def build(self, made: render.Rendered, registry: dockerparts.Registry, context: Path, *options: str) -> Any:
        shutil.rmtree(context, ignore_errors=True)
        for name, text in made.files.items():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            (context / name).write_text(text)
        (context / "Dockerfile").write_text(made.dockerfile)
        for group in ("dependencies", "own"):
            (context / "wheels" / group).mkdir(parents=True)
        shutil.copy(uv_binary(), context / "uv")
        arguments = ["build", "--progress=plain", "--network", "host", "--build-arg", f"REGISTRY={registry.address}"]
        if bundle := os.environ.get("SSL_CERT_FILE"):
            arguments += ["--secret", f"id=certificates,src={bundle}"]
        return subprocess.run(
            [str(dockerparts.cli()), *arguments, *options, "-t", f"enginematrix-test-render/{context.name}", str(context)],
            capture_output=True, text=True, env={**os.environ, "DOCKER_BUILDKIT": "1"},
        )  # fmt: skip

    def layers(self, context: Path) -> list[str]:
        name = f"enginematrix-test-render/{context.name}"
        return list(json.loads(dockerparts.docker("inspect", "-f", "{{json .RootFS.Layers}}", name)))

    def test_a_package_stack(self, registry: dockerparts.Registry, tmp_path: Path) -> None:
        # Without /etc/hosts in the base, BuildKit before 0.11 changes the time of /etc after each RUN.
        base = dockerparts.derived(dockerparts.python_base("3.12"), files={"/etc/hosts": ""})
        digest = registry.push(base, "library/python:3.12-slim-bookworm")
        locked = lock.read(IMAGES.parent / "matrix.lock")
        assert locked is not None
        made = []
        for version in ("1.26.0", "1.31.1"):
            found = stack("onnxruntime", f"{{onnxruntime: {version}}}")
            entry = locked.entry(found)
            assert entry is not None
            made.append(
                render.render(
                    found, read("onnxruntime").family, entry, image(found, digest), "linux/amd64", IMAGES, locked.cutoff
                )
            )
        layers = []
        for number, item in enumerate(made):
            done = self.build(item, registry, tmp_path / f"ort{number}")
            assert done.returncode == 0, done.stderr
            layers.append(self.layers(tmp_path / f"ort{number}"))
        assert (
            layers[0][:-1] == layers[1][:-1] and layers[0][-1] != layers[1][-1]
        )  # they share all but their own package
        again = self.build(made[1], registry, tmp_path / "again", "--no-cache")
        assert again.returncode == 0, again.stderr
        assert self.layers(tmp_path / "again") == layers[1]  # two builds, the same layers
        out = dockerparts.docker(
            "run", "--rm", "--network", "none", "enginematrix-test-render/again", made[1].python, "-c",
            "import onnxruntime, sys; print(onnxruntime.__version__, sys.version_info[:2])",
        )  # fmt: skip
        assert out == "1.31.1 (3, 12)"
        label = dockerparts.docker(
            "inspect", "-f", '{{index .Config.Labels "org.enginematrix.stack"}}', "enginematrix-test-render/again"
        )
        assert label == "onnxruntime-1.31.1-py3.12"

    def ngc(self, version: str, registry: dockerparts.Registry, **more: Any) -> render.Rendered:
        """NGC's 24.01, but Debian's Python 3.11, one pin, and the TensorRT that is given."""
        python = "/usr/lib/python3/dist-packages"
        files = {
            f"{python}/tensorrt/__init__.py": f"__version__ = '{version}'\n",
            f"{python}/tensorrt-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: tensorrt\nVersion: {version}\n",
            "/usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.3.2"}}',
            **more.pop("files", {}),
        }
        env = {"CUDA_VERSION": "12.3.2.001", "CUDNN_VERSION": "8.9.7.29+cuda12.2", "TRT_VERSION": "8.6.1.6+cuda12.0"}
        base = dockerparts.derived(dockerparts.base("bookworm"), env=env, files=files, **more)
        digest = registry.push(base, "nvidia/tensorrt:24.01-py3")
        found = stack("ngc-tensorrt", '{release: "24.01"}')
        found = replace(found, facts={**found.facts, "python": "3.11"})
        locked = lock.read(IMAGES.parent / "matrix.lock")
        assert locked is not None
        pin = "packaging==26.3"
        hashes = {pin: next(entry.hashes[pin] for entry in locked.stacks.values() if pin in entry.packages)}
        by = replace(pins(found), packages=(pin,), hashes=hashes)
        return render.render(
            found, read("ngc-tensorrt").family, by, image(found, digest), "linux/amd64", IMAGES, CUTOFF
        )

    def test_an_image_that_is_what_it_says(self, registry: dockerparts.Registry, tmp_path: Path) -> None:
        made = self.ngc("8.6.1.6", registry)
        done = self.build(made, registry, tmp_path / "good", "--no-cache")  # its words are what is looked at
        assert done.returncode == 0, done.stderr
        assert (
            done.stderr.count("ok: tensorrt 8.6.1.6 (tensorrt-8.6.1.6.dist-info), promised 8.6.1.6") == 2
        )  # and seen from within
        out = dockerparts.docker(
            "run", "--rm", "--network", "none", "enginematrix-test-render/good", made.python, "-c",
            "import packaging, tensorrt; print(packaging.__version__, tensorrt.__version__, packaging.__file__)",
        )  # fmt: skip
        assert out.startswith("26.3 8.6.1.6 /opt/enginematrix/env/")

    def test_an_image_that_lies(self, registry: dockerparts.Registry, tmp_path: Path) -> None:
        """Its variables promise 8.6.1.6."""
        done = self.build(self.ngc("8.5.3.1", registry), registry, tmp_path / "lying")
        assert done.returncode != 0
        assert "wrong: tensorrt 8.5.3.1 (tensorrt-8.5.3.1.dist-info), promised 8.6.1.6" in done.stderr
        assert "uv" not in re.sub(r"--mount=[^ ]*", "", done.stderr).split("wrong:")[1].split("\n")[0]

    def test_an_image_without_python(self, registry: dockerparts.Registry, tmp_path: Path) -> None:
        made = self.ngc("8.6.1.6", registry, run="rm -f /usr/bin/python*")
        done = self.build(made, registry, tmp_path / "bare")
        assert done.returncode != 0
        assert "no Python in the image: none of python3, python3.11, python3 on its PATH" in done.stderr

    def test_an_image_with_another_python(self, registry: dockerparts.Registry, tmp_path: Path) -> None:
        made = self.ngc("8.6.1.6", registry)
        other = replace(made.stack, facts={**made.stack.facts, "python": "3.10"})
        base = re.search(r"@(sha256:\w+)", made.dockerfile)
        assert base is not None
        made = render.render(
            other, read("ngc-tensorrt").family, made.pins, image(other, base[1]), "linux/amd64", IMAGES, CUTOFF
        )
        done = self.build(made, registry, tmp_path / "other")
        assert done.returncode != 0
        assert re.search(r"wrong: python 3\.11\.\d+ \(/usr/bin/python3\), promised 3\.10", done.stderr)


def test_the_script_is_plain_shell() -> None:
    assert subprocess.run(["sh", "-n", str(IMAGES / "environment.sh")], capture_output=True).returncode == 0
    done = subprocess.run(
        ["sh", str(IMAGES / "environment.sh"), "x"], capture_output=True, text=True, env={"PATH": os.environ["PATH"]}
    )
    assert done.returncode != 0


def test_the_families_names_are_theirs() -> None:
    assert [found.id for found in expand(read("ngc-tensorrt"), '{release: ["24.01", "25.*"]}')] == [
        f"ngc-tensorrt-{release}"
        for release in ("24.01", "25.01", "25.03", "25.04", "25.06", "25.09", "25.11", "25.12")
    ]
