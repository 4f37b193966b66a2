"""What pick hands over: that it is pinned where it can be, says so where not, and runs as it is."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from picking import QUESTION, ROOT, STACKS, project_in, run
from registries import Fake

from builder import cli, lock, pick_emit, pick_known, pick_matrix, spec
from builder.environment import uv
from builder.environment.interpreters import installed as installed_here
from builder.environment.interpreters import uv_binary
from builder.errors import InfrastructureError, UsageError
from builder.matrix import expand
from builder.pick_judge import Question
from builder.pick_known import Known
from builder.project import Project

LOCK = lock.read(ROOT / "matrix.lock")
LOCKED = Known(lock=LOCK)
NOTHING = Known(lock=None)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return project_in(tmp_path)


# matrix ---------------------------------------------------------------------------------------------------------------

MADE = sorted({stack.family: stack.id for stack in STACKS.values() if stack.family}.items())


@pytest.mark.parametrize(("family", "name"), MADE)
def test_an_emitted_matrix_can_be_planned(
    family: str, name: str, project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    python = "3.12" if family == "ngc-pytorch" else ""  # which the newest one has is not recorded
    question = Question(gpu=QUESTION.gpu, precision="fp16", opset=18, python=python)
    project.matrix.write_text(pick_emit.matrix(STACKS[name], question, project), encoding="utf-8")
    found = spec.load(project.matrix, project.images, project.recipes)
    fields = {**STACKS[name].fields}
    assert [stack for stack in found.stacks if stack.family == family and fields.items() <= stack.fields.items()]
    cells = expand(found).cells
    assert cells and {cell.options["opset"] for cell in cells} == {"18"}
    assert any(family in (cell.engine.family, cell.exporter.family) for cell in cells)
    monkeypatch.chdir(project.root)
    assert cli.main(["plan"]) == 0
    assert f"{len(cells)} cells over 1 engine stacks" in capsys.readouterr().out


def test_every_family_with_a_stack_is_there() -> None:
    assert {"ngc-pytorch", "ngc-tensorflow", "ngc-tensorrt", "l4t", "torch", "tensorrt-rtx"} <= dict(MADE).keys()


def test_a_matrix_of_a_model_takes_what_exports_it(project: Project) -> None:
    text = pick_emit.matrix(STACKS["openvino-2024.6.0"], Question(model="minilm", python="3.11"), project)
    assert "from: {family: torch" in text
    assert 'python: "3.11"' in text
    assert pick_matrix.load(text, project).engines[0].id == "openvino-2024.6.0-py3.11"
    with pytest.raises(UsageError, match="resnet50 is not exported by torch"):
        pick_emit.matrix(STACKS["torch-2.13.0"], Question(model="resnet50"), project)
    with pytest.raises(UsageError, match="no family of images/ makes tritonserver:24.01-py3"):
        pick_emit.matrix(STACKS["tritonserver:24.01-py3"], Question(), project)


def test_an_image_of_a_framework_exports_what_the_framework_does(project: Project) -> None:
    for name, model in (("pytorch:24.05-py3", "minilm"), ("tensorflow:22.04-tf2-py3", "keras_cnn")):
        loaded = pick_matrix.load(pick_emit.matrix(STACKS[name], Question(model=model), project), project)
        assert [stack.family for stack in loaded.exporters_of(model)] == [STACKS[name].family]
    with pytest.raises(UsageError, match="keras_cnn is not exported by ngc-pytorch"):
        pick_emit.matrix(STACKS["pytorch:24.05-py3"], Question(model="keras_cnn"), project)


def test_a_matrix_that_could_have_no_cell_is_refused(project: Project) -> None:
    with pytest.raises(UsageError, match="cannot stand in a matrix of what was asked: .*bf16"):
        pick_emit.matrix(STACKS["openvino-2024.6.0"], Question(precision="bf16"), project)


def test_a_matrix_for_a_file_says_what_stands_for_it(project: Project) -> None:
    text = pick_emit.matrix(STACKS["openvino-2024.6.0"], Question(file="mine.onnx", opset=13), project)
    assert "# mine.onnx is no recipe: resnet50 stands for it, at its opset." in text
    assert 'opset: ["13"]' in text


# docker ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    fake = Fake()
    monkeypatch.setenv("ENGINEMATRIX_MIRRORS", f"nvcr.io={fake.address} docker.io={fake.address}")
    yield fake
    fake.stop()


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a registry nor a package index answers."""

    def away(*_arguments: object, **_options: object) -> None:
        msg = "nobody answers"
        raise InfrastructureError(msg)

    monkeypatch.setattr(uv, "resolve", away)
    monkeypatch.setattr("builder.environment.registry.resolve", away)


def locked(stack: str, project: Project) -> Known:
    made = pick_emit.realised(STACKS[stack], Question(), project)[0]
    sha = "sha256:" + "a" * 64
    image = lock.Image(index="sha256:" + "b" * 64, platforms={
        "linux/amd64": lock.PlatformImage(manifest="sha256:" + "c" * 64, config="sha256:" + "d" * 64, facts={}, layers=()),
    })  # fmt: skip
    pins = lock.Pins(
        python=made.python, requirements=lock.lines(made), packages=("numpy==1.26.4",), hashes={"numpy==1.26.4": (sha,)}
    )
    return Known(lock=lock.Lock(cutoff="2026-11-20T00:00:00Z", stacks={made.id: pins}, images={made.base: image}))


def test_images_are_pulled_by_digest_where_the_lock_has_it(project: Project) -> None:
    stack = STACKS["tensorrt:24.01-py3"]
    for known in (NOTHING, LOCKED):
        told, line = pick_emit.docker(stack, known, "").splitlines()
        assert line == "docker pull nvcr.io/nvidia/tensorrt:24.01-py3"
        assert told.startswith("# By tag, which may come to mean another image")
    known = locked("tensorrt:24.01-py3", project)
    text = pick_emit.docker(stack, known, "linux/amd64")
    assert text.splitlines()[1] == f"docker pull --platform linux/amd64 nvcr.io/nvidia/tensorrt@sha256:{'b' * 64}"
    with pytest.raises(UsageError, match="is for linux/amd64, not for linux/arm64"):
        pick_emit.docker(stack, known, "linux/arm64")
    with pytest.raises(UsageError, match="is a set of packages"):
        pick_emit.docker(STACKS["openvino-2024.6.0"], NOTHING, "")


def test_the_registry_is_asked_for_a_digest_that_the_lock_lacks(project: Project, registry: Fake) -> None:
    digest = registry.index("nvidia/tensorrt", "24.01-py3", {"linux/amd64": registry.image("nvidia/tensorrt")})
    known = pick_known.of(project, None, offline=False)
    told, line = pick_emit.docker(STACKS["tensorrt:24.01-py3"], known, "").splitlines()
    assert line == f"docker pull nvcr.io/nvidia/tensorrt@{digest}"
    assert told.startswith("# nvcr.io/nvidia/tensorrt:24.01-py3, by its registry")
    # Another tag it does not have: that is said, and nothing is made up.
    told, line = pick_emit.docker(STACKS["tensorrt:23.11-py3"], known, "").splitlines()
    assert line == "docker pull nvcr.io/nvidia/tensorrt:23.11-py3"
    assert "By tag" in told and "no such image" in told
    # Offline it is not asked.
    asked = len(registry.seen)
    assert "By tag" in pick_emit.docker(STACKS["tensorrt:24.01-py3"], pick_known.of(project, None, offline=True), "")
    assert len(registry.seen) == asked


# requirements ---------------------------------------------------------------------------------------------------------


def test_requirements_are_locked_where_the_lock_has_them(project: Project) -> None:
    text = pick_emit.requirements(STACKS["openvino-2024.6.0"], Question(), project, LOCKED)
    assert "openvino==2024.6.0 \\\n    --hash=sha256:" in text
    assert "by matrix.lock" in text.splitlines()[0]
    text = pick_emit.requirements(STACKS["openvino-2024.5.0"], Question(), project, LOCKED)
    assert "not locked" in text.splitlines()[0] and "\nopenvino==2024.5.0\n" in text
    text = pick_emit.requirements(STACKS["torch-2.3.1-cuda12.1"], Question(), project, LOCKED)
    assert "torch==2.3.1+cu121" in text and "--torch-backend cu121" in text
    # Another Python than the lock's is another stack.
    text = pick_emit.requirements(STACKS["openvino-2024.6.0"], Question(python="3.11"), project, LOCKED)
    assert "matrix.lock has no packages of openvino-2024.6.0-py3.11" in text
    with pytest.raises(UsageError, match="is an image"):
        pick_emit.requirements(STACKS["tensorrt:24.01-py3"], Question(), project, LOCKED)


@pytest.mark.usefixtures("nobody")
def test_without_an_index_the_requirements_say_so(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    known = Known(lock=LOCK, offline=False)
    text = pick_emit.requirements(STACKS["openvino-2024.5.0"], Question(), project, known)
    assert "not locked, without hashes" in text and "nobody answers" in text
    assert "resolving openvino-2024.5.0-py3.12 with uv (--offline: do without)" in capsys.readouterr().err


def test_uv_is_asked_for_the_build_that_a_pin_names(tmp_path: Path) -> None:
    assert uv._torch_backend(["torch==2.3.1+cu121"], {}) == ["--torch-backend", "cu121"]
    (tmp_path / "torch-2.3.1+cpu-cp311.whl").touch()
    assert uv._torch_backend(["torch==2.3.1+cu121"], {"UV_FIND_LINKS": str(tmp_path)}) == ["--torch-backend", "cu121"]


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "python", "module"),
    [("onnxruntime-1.31.1", "3.12", "onnxruntime"), ("openvino-2024.5.0", "3.10", "openvino")],
)
def test_emitted_requirements_are_installed_as_they_are(
    name: str, python: str, module: str, project: Project, tmp_path: Path
) -> None:
    """One that matrix.lock has, and one that uv resolves."""
    known = pick_known.of(project, LOCK, offline=False)
    text = pick_emit.requirements(STACKS[name], Question(python=python), project, known)
    (tmp_path / "requirements.txt").write_text(text, encoding="utf-8")
    venv = tmp_path / "venv"
    command = next(line for line in text.splitlines() if line.startswith("# uv pip install")).removeprefix("# ")
    words = [uv_binary() if word == "uv" else word for word in shlex.split(command.replace("FILE", "requirements.txt"))]
    assert "--require-hashes" in words
    env = {**os.environ, "VIRTUAL_ENV": str(venv)}
    subprocess.run(
        [uv_binary(), "venv", "-q", "--no-project", "--python", str(installed_here(os.environ)[python]), str(venv)],
        check=True,
        env=env,
    )
    subprocess.run([*words, "-q"], check=True, cwd=tmp_path, env=env)
    found = subprocess.run(
        [venv / "bin" / "python", "-c", f"import {module}; print({module}.__version__)"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert found.stdout.startswith(STACKS[name].components[module])


# dockerfile -----------------------------------------------------------------------------------------------------------


def parsed(text: str) -> list[tuple[str, str]]:
    """(instruction, rest) of a Dockerfile; continuations joined, comments left out, as its documents say
    (https://docs.docker.com/reference/dockerfile/#format)."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n", " ", "\n".join(lines))
    out = []
    for line in whole.splitlines():
        name, _, rest = line.partition(" ")
        assert re.fullmatch(r"FROM|RUN", name), line
        out.append((name, rest))
    return out


def installed(instruction: str) -> dict[str, list[str]]:
    """The pins that a RUN writes, as the shell would read it."""
    words = shlex.split(instruction)
    assert words[:2] == ["printf", "%s\\n"]
    out = {}
    for word in words[2 : words.index(">>")]:
        name, *hashes = word.split(" --hash=")
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes)
        out[name] = hashes
    return out


@pytest.mark.parametrize("name", ["tensorrt:24.01-py3", "pytorch:24.01-py3", "openvino-2024.6.0"])
def test_a_dockerfile_is_on_the_locked_digest(name: str, project: Project) -> None:
    known = locked(name, project)
    text = pick_emit.dockerfile(STACKS[name], Question(), project, known)
    first, *rest = parsed(text)
    assert first[0] == "FROM" and first[1].endswith(f"@sha256:{'b' * 64}")
    assert text.isascii() and text.endswith("\n") and not re.search(r"[ \t]+$", text, re.MULTILINE)
    if STACKS[name].kind == "packages":
        assert installed(rest[0][1]) == {"numpy==1.26.4": ["sha256:" + "a" * 64]}
        assert "--require-hashes" in rest[0][1]
    else:
        assert rest == []
    with pytest.raises(UsageError, match="not for linux/arm64"):
        pick_emit.dockerfile(STACKS[name], Question(platform="linux/arm64"), project, known)


def test_a_dockerfile_holds_what_the_lock_has(project: Project) -> None:
    assert LOCK is not None
    text = pick_emit.dockerfile(STACKS["openvino-2024.6.0"], Question(), project, LOCKED)
    made = pick_emit.realised(STACKS["openvino-2024.6.0"], Question(), project)[0]
    pins = LOCK.entry(made)
    assert pins is not None
    assert installed(parsed(text)[1][1]) == {name: list(pins.hashes[name]) for name in pins.packages}
    assert "# By tag" in text, "the lock has no digest of its base"
    with pytest.raises(UsageError, match="its packages are not locked"):
        pick_emit.dockerfile(STACKS["openvino-2024.5.0"], Question(), project, LOCKED)


def test_packages_of_pytorchs_own_index_are_installed_by_uv(project: Project) -> None:
    text = pick_emit.dockerfile(STACKS["torch-2.13.0"], Question(), project, LOCKED)
    tool, packages = (rest for _, rest in parsed(text)[1:])
    assert [name for name in installed(tool) if name.startswith("uv==")] == list(installed(tool))
    assert any(name.startswith("torch==2.13.0") for name in installed(packages))
    assert "uv pip install --system --no-cache --no-deps --require-hashes --torch-backend cpu" in packages


def test_no_step_of_a_dockerfile_is_longer_than_linux_takes(project: Project) -> None:
    names = tuple(f"package-{number}==1" for number in range(40))
    pins = lock.Pins(
        python="3.12", requirements=(), packages=names,
        hashes={name: tuple(f"sha256:{number:064x}" for number in range(80)) for name in names},
    )  # fmt: skip
    steps = parsed("FROM x\n" + pick_emit._installed(pins, "a test"))[1:]
    assert len(steps) > 1
    assert all(len(rest.encode()) < 128 * 1024 for _, rest in steps)
    assert [name for _, rest in steps for name in installed(rest)] == list(names)
    assert [("pip install" in rest) for _, rest in steps] == [False] * (len(steps) - 1) + [True]


def test_the_shell_writes_what_the_lock_has(project: Project, tmp_path: Path) -> None:
    """The steps as a shell runs them, with the installer left out: a file that pip and uv read."""
    pins = lock.Pins(
        python="3.12", requirements=(), packages=("a==1", "b==2 ; python_version < '3.13' and extra == \"x$HOME\"", "c==%s\\n"),
        hashes={}, unresolved="",
    )  # fmt: skip
    pins = replace(pins, hashes={name: (f"sha256:{number:064x}",) for number, name in enumerate(pins.packages)})
    target = tmp_path / "requirements.txt"
    text = pick_emit._installed(pins, "a test").replace("/tmp/requirements.txt", str(target))
    step = parsed(f"FROM x\n{text}")[1][1]
    subprocess.run(["/bin/sh", "-c", step.partition(" && ")[0]], check=True)
    assert target.read_text(encoding="utf-8").splitlines() == [
        f"{name} --hash=sha256:{number:064x}" for number, name in enumerate(pins.packages)
    ]


@pytest.mark.parametrize("name", ["tritonserver:24.01-py3", "l4t-tensorrt:r10.3.0-devel"])
def test_a_dockerfile_of_an_image_that_no_lock_knows(name: str, project: Project) -> None:
    text = pick_emit.dockerfile(STACKS[name], Question(), project, NOTHING)
    option = "--platform=linux/arm64 " if name.startswith("l4t") else ""
    assert parsed(text) == [("FROM", f"{option}nvcr.io/nvidia/{name}")]
    assert "# By tag" in text


# The command ----------------------------------------------------------------------------------------------------------


def test_emit_takes_the_best_of_its_kind(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--gpu", "V100", "--need", "tensorrt>=10", "--offline")
    assert run(project, *asked, "--emit", "docker") == 0
    assert "docker pull nvcr.io/nvidia/pytorch:24.05-py3" in capsys.readouterr().out
    assert run(project, *asked, "--emit", "requirements") == 0
    found = capsys.readouterr()
    assert "tensorrt-cu11-libs==10.4.0" in found.out or "tensorrt-cu12-libs==10.4.0" in found.out
    assert "has no such form; this is" in found.err


def test_torch_tensorrt_is_not_given_the_build_for_the_cpu() -> None:
    assert "torch==2.5.1+cu124" in STACKS["torch-tensorrt-2.5.0"].packages


def test_packages_that_no_family_makes(project: Project) -> None:
    text = pick_emit.requirements(STACKS["onnxruntime-gpu-1.20-cuda12"], Question(python="3.11"), project, NOTHING)
    assert "onnxruntime-gpu-1.20-cuda12-py3.11: not locked" in text
    assert text.splitlines()[-1] == "onnxruntime-gpu==1.20.*"


def test_json_is_the_whole_answer(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(project, "--opset", "21", "--need", "onnxruntime>=1.18", "--emit", "json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["asked"]["opset"] == 21 and data["here"] is None and data["usable"]
    assert {choice["requirements"][1]["key"] for choice in data["choices"]} == {"opset"}
