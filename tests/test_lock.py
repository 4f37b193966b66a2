"""The lock is deterministic data, carries no address, and a changed requirement makes its entry stale."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dockerparts
import factory
import pytest
import specs

from builder import cli, lock, locking, machine
from builder.diagnose import diagnose
from builder.environment import engine, registry, transport, uv
from builder.environment.registry import NoSuchImage
from builder.errors import InfrastructureError
from builder.lock import Image, Layer, Lock, LockError, Pins, PlatformImage
from builder.project import Project
from builder.values import ImageRules, Requirement, Source, Stack

PINS = Pins(
    python="3.11", requirements=("engine==1.0",), packages=("engine==1.0", "numpy==1.26.4"),
    hashes={"engine==1.0": ("sha256:aa",), "numpy==1.26.4": ("sha256:bb", "sha256:cc")},
)  # fmt: skip


def full() -> Lock:
    return Lock(
        cutoff="2026-11-20T00:00:00Z",
        tools={"uv": "0.13.8"},
        stacks={"engine-1.0-py3.11": PINS},
        sources={"data==1": ("sha256:dd",)},
    )


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "matrix.lock"
    path.write_text(full().dumps())
    read = lock.read(path)
    assert read == full()
    assert read is not None
    assert read.dumps() == full().dumps()


def test_a_pin_stands_once_however_many_stacks_use_it() -> None:
    both = full()
    both.stacks["other"] = dataclasses.replace(PINS, packages=("numpy==1.26.4",))
    assert both.dumps().count("sha256:bb") == 1


def test_it_names_no_address() -> None:
    assert "://" not in full().dumps()


def test_changed_requirements_or_python_make_an_entry_stale() -> None:
    stack = factory.stack()
    assert full().entry(stack) == PINS
    changed = dataclasses.replace(stack, requirements=(Requirement(line="engine==1.0"), Requirement(line="numpy<2")))
    assert full().entry(changed) is None
    moved = dataclasses.replace(full().stacks["engine-1.0-py3.11"], python="3.12")
    assert Lock(cutoff="", stacks={"engine-1.0-py3.11": moved}).entry(stack) is None


def test_what_is_missing_is_named() -> None:
    stacks = [factory.stack(), factory.stack(version="2.0")]
    recipes = [factory.recipe(source=Source(kind="package", name="weights", version="1.0")), factory.recipe("plain")]
    missing, sources = full().missing(stacks, recipes)
    assert [stack.id for stack in missing] == ["engine-2.0-py3.11"]
    assert sources == ["weights==1.0"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a readable lock"), ("{", "not a readable lock"), ("{}", "damaged lock"), ("[]", "damaged lock"),
        ('{"schema": 9}', "lock format 9"),
        (json.dumps({**json.loads(full().dumps()), "packages": {}}), "damaged lock"),
    ],
)  # fmt: skip
def test_a_bad_lock_says_how_to_mend_it(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "matrix.lock"
    path.write_text(text)
    with pytest.raises(LockError, match=rf"{message}.*enginematrix lock"):
        lock.read(path)


def test_no_file_is_no_lock(tmp_path: Path) -> None:
    assert lock.read(tmp_path / "matrix.lock") is None


def test_the_key_is_what_is_installed_and_nothing_else() -> None:
    assert PINS.key == dataclasses.replace(PINS, requirements=("engine>=1.0",)).key
    assert PINS.key != dataclasses.replace(PINS, python="3.12").key
    assert PINS.key != dataclasses.replace(PINS, hashes={**PINS.hashes, "engine==1.0": ("sha256:ab",)}).key


def test_difference_names_pins() -> None:
    new = full()
    new.stacks["engine-1.0-py3.11"] = dataclasses.replace(
        PINS,
        packages=("engine==1.0", "numpy==1.26.5"),
        hashes={"engine==1.0": ("sha256:aa",), "numpy==1.26.5": ("sha256:ee",)},
    )
    new.stacks["new"] = Pins(python="3.12", requirements=(), packages=(), hashes={}, unresolved="needs another index")
    assert lock.difference(full(), new) == [
        "~ engine-1.0-py3.11: numpy==1.26.4 -> numpy==1.26.5", "+ new (unresolved: needs another index)",
    ]  # fmt: skip


def test_what_else_changed_is_named() -> None:
    new = full()
    new.cutoff = "2026-12-01T00:00:00Z"
    new.tools["uv"] = "0.14.0"
    new.sources = {"data==1": ("sha256:de",), "more==1": ("sha256:dd",)}
    hashes = {**PINS.hashes, "numpy==1.26.4": ("sha256:bb", "sha256:xx")}
    new.stacks["engine-1.0-py3.11"] = dataclasses.replace(PINS, hashes=hashes, cutoff="2026-10-01T00:00:00Z")
    assert lock.difference(full(), new) == [
        "~ cutoff: 2026-11-20T00:00:00Z -> 2026-12-01T00:00:00Z",
        "~ uv: 0.13.8 -> 0.14.0",
        "~ engine-1.0-py3.11: other hashes of numpy==1.26.4; cutoff 2026-11-20T00:00:00Z -> 2026-10-01T00:00:00Z",
        "~ data==1 (data): other hashes",
        "+ more==1 (data)",
    ]
    assert lock.difference(full(), full()) == []


def test_a_stacks_own_cutoff_and_hashes_come_back(tmp_path: Path) -> None:
    """One release may have more files later: both stacks keep the hashes, and so the keys, that they were locked with."""
    both = full()
    more = {**PINS.hashes, "numpy==1.26.4": ("sha256:bb", "sha256:cc", "sha256:new")}
    both.stacks["other"] = dataclasses.replace(PINS, hashes=more, cutoff="2026-12-01T00:00:00Z")
    path = tmp_path / "matrix.lock"
    path.write_text(both.dumps())
    read = lock.read(path)
    assert read == both
    assert both.dumps().count('"cutoff"') == 2, "the lock's, and the one that differs"
    both.move("2026-12-01T00:00:00Z")
    assert both.cutoff_of("engine-1.0-py3.11") == "2026-11-20T00:00:00Z"
    assert both.dumps().count('"cutoff"') == 2
    assert both.cutoffs() == ("2026-11-20T00:00:00Z", "2026-12-01T00:00:00Z")


MATRIX = """
schema: 1
name: small
exporters:
  onnx: {family: source, onnx: 1.20.1}
engines:
  ort: {family: engine, onnxruntime: [1.16.3, 1.20.1]}
  card: {family: card, card: 1.0.0}
tools: {family: onnx-tools, onnx: 1.20.1}
axes:
  model: [alpha]
  opset: [13, 17]
  precision: [fp32]
groups: {some: opset=13}
"""
CARD = """
family: card
summary: Needs a card that this machine has not
provides: [engine]
adapter: card
device: cuda
needs: [nvidia-gpu]
run-needs: [nvidia-gpu]
axes: {card: {required: true}}
python: [{use: "3.12"}]
packages: ["card=={card}"]
modules: {card: card}
precision: {fp32: graph}
"""
OLD, NEW = "2026-11-20T00:00:00Z", "2026-12-01T00:00:00Z"
ENGINES = ["engine-onnxruntime1.16.3-py3.11", "engine-onnxruntime1.20.1-py3.12"]


class Index:
    """A package index: what each stack resolves to, and what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.without: set[str] = {"card-1.0.0-py3.12"}

    def resolve(self, stack: Stack, cutoff: str) -> Pins:
        self.asked.append((stack.id, cutoff))
        if stack.id in self.without:
            raise uv.PackageError(f"{stack.id}: no such release up to {cutoff}", "")
        pin = f"{stack.entry}==1.0+{cutoff[:10]}"
        hashes = {pin: (f"sha256:{stack.id}",)}
        return Pins(python=stack.python, requirements=lock.lines(stack), packages=(pin,), hashes=hashes)


class Small:
    """A project whose packages come from an Index, and the command line on it."""

    def __init__(self, folder: Path, index: Index) -> None:
        self.project = specs.Project(folder)
        self.project.write("images/card/family.yaml", CARD)
        self.project.write("matrix.yaml", MATRIX)
        self.index = index
        self.path = folder / "matrix.lock"

    def run(self, *arguments: str) -> int:
        self.index.asked.clear()
        return cli.main(["-f", str(self.project.folder / "matrix.yaml"), "lock", *arguments])

    def lock(self, *arguments: str, code: int = 0) -> Lock:
        assert self.run(*arguments) == code
        found = lock.read(self.path)
        assert found is not None
        return found


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    index = Index()
    monkeypatch.setattr(uv, "resolve", index.resolve)
    monkeypatch.setattr(uv, "version", lambda: "0.13.8")
    monkeypatch.setattr(machine, "_DRIVER", ())
    project = Small(tmp_path, index)
    project.lock("--cutoff", OLD)
    return project


def test_what_this_machine_could_never_make_is_no_failure(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    small.path.unlink()
    assert small.index.without == {"card-1.0.0-py3.12"}
    assert small.run("--cutoff", OLD) == 0
    assert "+ card-1.0.0-py3.12 (unresolved: card-1.0.0-py3.12: no such release" in capsys.readouterr().out


def test_a_new_stack_without_packages_is_a_failure(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    small.path.unlink()
    small.index.without.add(ENGINES[0])
    assert small.run() == 1
    assert f"+ {ENGINES[0]} (unresolved" in capsys.readouterr().out
    assert small.run() == 0, "known by now, and in the file"


@pytest.mark.parametrize(
    ("expression", "stacks"),
    [
        ("onnxruntime>=1.20", [ENGINES[1]]),
        ("engine=ort", ENGINES),
        ("exporter=onnx", ["source-onnx1.20.1-py3.12"]),
        ("onnx-tools-*", ["onnx-tools-onnx1.20.1-py3.12"]),
        ("engine.family=engine and not onnxruntime=1.16.3 or exporter.family=source",
         ["source-onnx1.20.1-py3.12", ENGINES[1]]),
    ],
)  # fmt: skip
def test_an_update_asks_for_the_named_stacks_alone(small: Small, expression: str, stacks: list[str]) -> None:
    before = lock.read(small.path)
    assert before is not None
    after = small.lock("--update", expression, "--cutoff", NEW)
    assert sorted(small.index.asked) == sorted((stack, NEW) for stack in stacks)
    assert after.cutoff == OLD, "of all that was not asked for"
    for name, pins in after.stacks.items():
        assert after.cutoff_of(name) == (NEW if name in stacks else OLD)
        assert (pins == before.stacks[name]) == (name not in stacks)


@pytest.mark.parametrize(
    ("expression", "words"),
    [("model=alpha", "no field of a stack"), ("opset=13", "no field of a stack"), ("some", "names cells"), ("#12", "names cells"),
     ("onnxruntime=9.9", "no stack of the matrix fits"), ("engine=ort and exporter=onnx", "no stack"),
     ("python=3.12", "engine.family")],
)  # fmt: skip
def test_an_update_of_cells_is_refused(
    small: Small, expression: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = small.path.read_text()
    small.lock("--update", expression, "--cutoff", NEW, code=2)
    assert words in capsys.readouterr().err
    assert small.index.asked == []
    assert small.path.read_text() == before


@pytest.mark.parametrize("arguments", [("--cutoff", NEW), ("--cutoff", NEW, "--update", "engine=ort")])
def test_good_pins_are_never_replaced_by_none(
    small: Small, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    before = lock.read(small.path)
    assert before is not None
    small.index.without.add(ENGINES[0])
    after = small.lock(*arguments, code=1)
    assert after.stacks[ENGINES[0]].packages == before.stacks[ENGINES[0]].packages
    assert after.cutoff_of(ENGINES[0]) == OLD
    assert after.cutoff_of(ENGINES[1]) == NEW
    assert f"{ENGINES[0]}: kept as it was; up to {NEW}" in capsys.readouterr().err


def test_check_says_how_new_packages_can_be(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    small.lock("--check")
    assert f"no package newer than {OLD}\n" in capsys.readouterr().out
    small.lock("--update", "engine=ort", "--cutoff", NEW)
    capsys.readouterr()
    small.lock("--check")
    assert f"no package newer than {NEW} (stacks were pinned up to {OLD}..{NEW})" in capsys.readouterr().out


def test_the_index_being_away_leaves_the_old_cutoff(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(stack: Stack, cutoff: str) -> Pins:
        if stack.id == ENGINES[0]:
            raise uv.InfrastructureError("no answer")
        return small.index.resolve(stack, cutoff)

    monkeypatch.setattr(uv, "resolve", resolve)
    after = small.lock("--cutoff", NEW, code=3)
    assert (after.cutoff, after.cutoff_of(ENGINES[0]), after.cutoff_of(ENGINES[1])) == (NEW, OLD, NEW)


def test_a_diff_leaves_the_file_as_it_is(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    before = small.path.read_text()
    capsys.readouterr()
    small.lock("--cutoff", NEW, "--diff")
    out = capsys.readouterr().out
    assert f"~ cutoff: {OLD} -> {NEW}" in out
    assert f"~ {ENGINES[0]}: ort==1.0+2026-11-20 -> ort==1.0+2026-12-01" in out
    assert small.path.read_text() == before
    small.lock("--diff")
    assert capsys.readouterr().out == "no change\n"


def test_uvs_hashed_requirements_are_read() -> None:
    text = (
        "numpy==1.26.4 \\\n    --hash=sha256:bb \\\n    --hash=sha256:aa\n# comment\n"
        "torch==2.13.0+cpu \\\n    --hash=sha256:cc\n"
    )
    assert uv.parse_requirements(text) == {
        "numpy==1.26.4": ("sha256:aa", "sha256:bb"),
        "torch==2.13.0+cpu": ("sha256:cc",),
    }


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("error: Request failed after 3 retries\n  cause: dns error", uv.InfrastructureError),
        ("error: Failed to install: x.whl\n  Caused by: No space left on device (os error 28)", uv.InfrastructureError),
        ("  × No solution found when resolving dependencies:\n  ╰─▶ Because engine==9 has no wheels with a matching Python "
         "version tag (e.g., `cp311`), we can conclude", uv.PackageError),
    ],
)  # fmt: skip
def test_uvs_refusals_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, kind: type[Exception]
) -> None:
    script = tmp_path / "uv"
    script.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{text}\nEND\nexit 2\n")
    script.chmod(0o755)
    monkeypatch.setattr(uv, "uv_binary", lambda: str(script))
    monkeypatch.setattr(uv.time, "sleep", lambda seconds: None)
    with pytest.raises(kind) as caught:
        uv.resolve(factory.stack(), "2026-11-20T00:00:00Z")
    assert "engine-1.0-py3.11" in str(caught.value)
    if kind is uv.PackageError:
        assert "Because engine==9 has no wheels" in str(caught.value)


@pytest.mark.parametrize("text", ["", "data==1 \\\n    --hash=sha256:aa\nmore==1 \\\n    --hash=sha256:bb\n"])
def test_data_is_one_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    script = tmp_path / "uv"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
    script.chmod(0o755)
    monkeypatch.setattr(uv, "uv_binary", lambda: str(script))
    with pytest.raises(uv.PackageError, match="data==1: uv answered with . packages, not one"):
        uv.resolve_data("data==1", "2026-11-20T00:00:00Z")


def test_pips_wheel_folder_serves_uv_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_FIND_LINKS", f"{tmp_path} /nowhere")
    assert uv.environ()["UV_FIND_LINKS"] == str(tmp_path)
    monkeypatch.setenv("UV_FIND_LINKS", "mine")
    assert uv.environ()["UV_FIND_LINKS"] == "mine"


def test_torch_comes_with_cuda_only_where_it_is_asked_for(tmp_path: Path) -> None:
    assert uv._torch_backend(["torch==2.11.0"], {}) == ["--torch-backend", "cpu"]
    assert uv._torch_backend(["torch==2.11.0", "triton"], {}) == []  # family torch-cuda: the index's own build
    assert uv._torch_backend(["torch==2.11.0+cu126", "triton==3.6.0"], {}) == ["--torch-backend", "cu126"]
    assert uv._torch_backend(["torch==2.13.0+cpu"], {}) == ["--torch-backend", "cpu"]
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl").touch()
    assert uv._torch_backend(["torch==2.13.0+cpu"], {"UV_FIND_LINKS": str(tmp_path)}) == []
    assert uv._torch_backend(["onnx==1.0"], {}) == []


# Images ------------------------------------------------------------------------------------------------------------

BASE = "nvcr.io/nvidia/tensorrt:24.05-py3"
FACTS = {"cuda": "12.4.1", "tensorrt": "10.0.1.6", "python": "3.10"}
RULES = ImageRules(
    interpreter="python3", site="system", env={"CUDA_VERSION": "cuda", "TRT_VERSION": "tensorrt"}, checks={}
)
NGC = factory.family("ngc", image=RULES, isolation=("docker",))


def sha(text: str) -> str:
    return "sha256:" + (text.encode().hex() * 64)[:64]


def platform_image(name: str = "a", **facts: str) -> PlatformImage:
    told = facts or {"CUDA_VERSION": "12.4.1.003", "TRT_VERSION": "10.0.1.6"}
    layers = tuple(Layer(digest=sha(f"{name}{n}"), size=n, diff_id=sha(f"{name}diff{n}")) for n in range(3))
    return PlatformImage(manifest=sha(name), config=sha(f"{name}config"), facts=told, layers=layers)


def image(name: str = "a", platforms: Sequence[str] = ("linux/amd64", "linux/arm64"), **facts: str) -> Image:
    return Image(
        index=sha(f"{name}index"), platforms={platform: platform_image(name, **facts) for platform in platforms}
    )


def ngc(release: str = "24.05", packages: tuple[str, ...] = (), **values: Any) -> Stack:
    whole: dict[str, Any] = {"facts": FACTS, "base": f"nvcr.io/nvidia/tensorrt:{release}-py3", **values}
    return Stack(
        role="engine", entry="ngc", family="ngc", fields={"release": release},
        requirements=tuple(Requirement(line=line) for line in packages), **whole,
    )  # fmt: skip


def test_images_come_back_as_they_were(tmp_path: Path) -> None:
    both = full()
    both.images = {BASE: image(), "docker.io/library/python:3.12": image("p", ["linux/arm64"], PYTHON_VERSION="3.12.4")}
    both.stacks["ngc-24.05"] = Pins(python="3.10", requirements=(), packages=(), hashes={}, refused=f"{BASE}: its ...")
    both.stacks["other"] = dataclasses.replace(PINS, refused="gone")
    path = tmp_path / "matrix.lock"
    path.write_text(both.dumps())
    found = lock.read(path)
    assert found == both
    assert found is not None
    assert found.dumps() == both.dumps()
    assert both.dumps().count(sha("a0")) == 2, "each layer is one line of each platform"


def test_a_lock_without_images_is_as_it_always_was() -> None:
    assert "images" not in json.loads(full().dumps())
    assert json.loads(full().dumps())["schema"] == 1


@pytest.mark.parametrize(
    "damage",
    [{"index": "latest"}, {"index": 7}, {"platforms": {"linux/amd64": {}}}, {"platforms": []},
     {"index": sha("x") + "\nRUN id"}],
)  # fmt: skip
def test_a_damaged_image_is_refused(tmp_path: Path, damage: dict[str, Any]) -> None:
    """What an edited lock says of an image reaches a Dockerfile: a digest is a digest."""
    whole = full()
    whole.images = {BASE: image()}
    data = json.loads(whole.dumps())
    data["images"][BASE].update(damage)
    path = tmp_path / "matrix.lock"
    path.write_text(json.dumps(data))
    with pytest.raises(LockError, match=r"damaged lock.*enginematrix lock"):
        lock.read(path)


@pytest.mark.parametrize(
    "line", ["", "a b c", f"{sha('x')} 1", f"{sha('x')} many {sha('y')}", f"{sha('x')} 1 {sha('y')} z"]
)
def test_a_damaged_layer_is_refused(tmp_path: Path, line: str) -> None:
    whole = full()
    whole.images = {BASE: image()}
    data = json.loads(whole.dumps())
    data["images"][BASE]["platforms"]["linux/amd64"]["layers"][1] = line
    path = tmp_path / "matrix.lock"
    path.write_text(json.dumps(data))
    with pytest.raises(LockError, match="damaged lock"):
        lock.read(path)


def test_difference_names_digests_and_versions() -> None:
    old, new = full(), full()
    old.images = {BASE: image(), "gone:1": image("g")}
    new.images = {BASE: image("b", CUDA_VERSION="12.5.0"), "new:1": image("n")}
    new.stacks["engine-1.0-py3.11"] = dataclasses.replace(PINS, refused="no such image")
    assert lock.difference(old, new) == [
        "~ engine-1.0-py3.11: base image refused: no such image",
        "- gone:1 (image)",
        f"+ new:1 (image {sha('nindex')})",
        f"~ {BASE} (image): digest moved: {sha('aindex')} -> {sha('bindex')}; CUDA_VERSION 12.4.1.003 -> 12.5.0; "
        "TRT_VERSION 10.0.1.6 -> -",
    ]  # fmt: skip
    assert lock.difference(new, old)[0] == "~ engine-1.0-py3.11: base image no longer refused"


def test_only_the_images_of_the_matrix_are_kept() -> None:
    whole = full()
    whole.images = {BASE: image(), "gone:1": image("g")}
    whole.stacks["ngc-24.05"] = Pins(python="3.10", requirements=(), packages=(), hashes={})
    whole.keep([ngc()])
    assert (list(whole.stacks), list(whole.images)) == (["ngc-24.05"], [BASE])


@pytest.mark.parametrize(
    ("catalog", "told"),
    [("12.4.1", "12.4.1.003"), ("12.4.1.003", "12.4.1"), ("12.4.1.3", "12.4.1.003"), ("v8.6", "8.6.1-1+cuda12.0"),
     ("12.4 (Update 1)", "12.4.1.003"), ("13.0 (cudart 13.0.48)", "13.0.0"), (" 8.9.7.29 ", "8.9.7.29-1"), ("36.3", "R36.3.0"),
     ("2.4.0a0+07cecf4", "2.4.0a0+07cecf4168.nv24.05"), ("2.4.0", "2.4.0a0+07cecf4"), ("12", "12.4"), ("jammy", "Jammy")],
)  # fmt: skip
def test_versions_agree_as_far_as_both_go(catalog: str, told: str) -> None:
    stack = ngc(facts={"cuda": catalog})
    assert lock.check_image(stack, NGC, platform_image(CUDA_VERSION=told)) == ""


@pytest.mark.parametrize(
    ("catalog", "told"),
    [("10.0.1.6", "10.1.0"), ("12.4.1", "12.5"), ("12.4", "2.4"), ("2.4.0a0", "2.4.0rc1"), ("2.4.0rc1", "2.4.0rc2"),
     ("12", "120.4"), ("jammy", "noble"), ("unknown", "12.4")],
)  # fmt: skip
def test_other_versions_are_named(catalog: str, told: str) -> None:
    stack = ngc(facts={"cuda": catalog})
    message = lock.check_image(stack, NGC, platform_image(CUDA_VERSION=told))
    assert message == f"{BASE}: its CUDA_VERSION is {told}, the catalog says cuda {catalog}"


def test_what_image_or_catalog_lack_says_nothing() -> None:
    assert lock.check_image(ngc(), NGC, platform_image(TRT_VERSION="10.0.1.6")) == ""
    assert lock.check_image(ngc(facts={"python": "3.10"}), NGC, platform_image()) == ""
    assert lock.check_image(ngc(), factory.family("plain"), platform_image()) == ""
    wrong = lock.check_image(ngc(), NGC, platform_image(CUDA_VERSION="11.8.0", TRT_VERSION="8.6.1"))
    assert wrong.count("the catalog says") == 2


def test_an_image_that_tells_none_of_its_familys_versions_is_another_image() -> None:
    message = lock.check_image(ngc(), NGC, platform_image(PYTHON_VERSION="3.10"))
    assert message == (
        f"{BASE}: its configuration says nothing of CUDA_VERSION, TRT_VERSION; the catalog says cuda 12.4.1, tensorrt 10.0.1.6"
    )


class Registries:
    """Registries made of a dictionary: what each reference points at, and what was asked of them."""

    def __init__(self) -> None:
        self.images: dict[str, Image] = {}
        self.away: set[str] = set()
        self.asked: list[str] = []

    def resolve(self, reference: str, mirrors: Mapping[str, str], platforms: Sequence[str]) -> Image:
        self.asked.append(reference)
        if reference in self.away:
            raise InfrastructureError(f"nvcr.io: down, asked for {reference}")
        if reference not in self.images:
            raise NoSuchImage(
                f"{reference}: no such image: MANIFEST_UNKNOWN: manifest unknown", "asked mirror.example.com"
            )
        return self.images[reference]


class Desk:
    """The lock of a few stacks that become images, as commands work on it."""

    def __init__(self, folder: Path, index: Index, registries: Registries, *stacks: Stack) -> None:
        self.index, self.registries, self.stacks = index, registries, list(stacks)
        self.project = Project(matrix=folder / "matrix.yaml")
        self.docker: Collection[str] = {stack.id for stack in stacks}
        self.mirrors: dict[str, str] = {}
        self.said: list[str] = []
        self.family = NGC

    @property
    def work(self) -> Any:
        families = {"ngc": self.family, "engine": factory.family()}
        cells = [SimpleNamespace(exporter=stack, engine=stack, model="model") for stack in self.stacks]
        spec = SimpleNamespace(families=families, reference_stack=lambda model: self.stacks[0], tools=None, recipes={})
        return SimpleNamespace(project=self.project, spec=spec, cells=cells, asked=None)

    @property
    def file(self) -> Lock:
        found = lock.read(self.project.lock)
        assert found is not None
        return found

    def missing(self) -> list[str]:
        stacks, _ = locking.missing(self.work, lock.read(self.project.lock), self.stacks, [], self.docker)
        return [stack.id for stack in stacks]

    def ensure(self, *, frozen: bool = False) -> Lock:
        self.index.asked.clear()
        self.registries.asked.clear()
        self.said.clear()
        return locking.ensure_locked(
            self.work, factory.MACHINE, frozen=frozen, say=self.said.append, docker=self.docker, mirrors=self.mirrors
        )  # fmt: skip

    def update(self, *stacks: Stack, cutoff: str | None = None) -> list[str]:
        """`lock --update`; the troubles."""
        self.index.asked.clear()
        self.registries.asked.clear()
        self.said.clear()
        return locking.update_lock(
            self.work, factory.MACHINE, lock.read(self.project.lock), stacks or self.stacks, [], cutoff=cutoff,
            say=self.said.append, docker=self.docker, mirrors=self.mirrors, update=True,
        )[1]  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Desk]:
    index, registries = Index(), Registries()
    monkeypatch.setattr(uv, "resolve", index.resolve)
    monkeypatch.setattr(uv, "version", lambda: "0.13.8")
    monkeypatch.setattr(registry, "resolve", registries.resolve)
    monkeypatch.setattr(engine, "platform", lambda: "linux/amd64")
    registries.images = {BASE: image(), BASE.replace("05", "06"): image("six")}

    def make(*stacks: Stack) -> Desk:
        return Desk(tmp_path, index, registries, *(stacks or (ngc(),)))

    return make


def test_a_base_is_locked_once_and_kept(desk: Callable[..., Desk]) -> None:
    """Two stacks on one base: it is asked for once; the one that adds a package asks the index too."""
    more = dataclasses.replace(ngc(packages=("onnx==1.17.0",)), fields={"release": "24.05", "onnx": "1.17.0"})
    work = desk(ngc(), more)
    locked = work.ensure()
    assert work.registries.asked == [BASE]
    assert [name for name, _ in work.index.asked] == [more.id], "a stack without package lines needs no index"
    assert locked == work.file
    assert locked.images == {BASE: image()}
    assert locked.stacks["ngc-24.05"].packages == ()
    assert locked.stacks["ngc-24.05"].python == "3.10"
    assert work.missing() == []
    work.ensure(frozen=True)
    assert (work.registries.asked, work.index.asked) == ([], [])


def test_a_stack_that_was_locked_for_a_venv_keeps_its_packages(desk: Callable[..., Desk]) -> None:
    work = desk(ngc(packages=("onnx==1.17.0",)))
    docker, work.docker = work.docker, ()
    work.ensure()
    assert (work.registries.asked, work.file.images) == ([], {})
    pins = work.file.stacks["ngc-24.05"]
    work.docker = docker
    assert work.missing() == ["ngc-24.05"]
    with pytest.raises(LockError, match=rf"no entry for {BASE}, the image of ngc-24\.05; run `enginematrix lock`"):
        work.ensure(frozen=True)
    work.ensure()
    assert (work.registries.asked, work.index.asked) == ([BASE], [])
    assert work.file.stacks["ngc-24.05"] == pins


def test_an_image_that_is_not_there_is_evidence(desk: Callable[..., Desk]) -> None:
    other = ngc("99.99")
    work = desk(ngc(), other)
    work.ensure()
    entry = work.file.entry(other, docker=True)
    assert entry is not None
    assert entry.unresolved == f"{other.base}: no such image: MANIFEST_UNKNOWN: manifest unknown"
    assert work.file.entry(other) == dataclasses.replace(entry, unresolved=""), "a virtual environment does without"
    assert f"{other.id}: no image: {entry.unresolved}" in work.said
    assert "mirror.example.com" not in work.project.lock.read_text()
    assert work.file.images == {BASE: image()}
    assert work.missing() == [], "known by now"
    work.registries.images[other.base] = image("late")
    assert work.update(other) == []
    found = work.file.entry(other, docker=True)
    assert found is not None
    assert found.unresolved == ""


def test_a_lying_image_is_refused_naming_both(desk: Callable[..., Desk]) -> None:
    work = desk()
    work.registries.images[BASE] = image("lie", CUDA_VERSION="12.5.0")
    work.ensure()
    pins = work.file.entry(ngc(), docker=True)
    assert pins is not None
    assert pins.unresolved == f"{BASE}: its CUDA_VERSION is 12.5.0, the catalog says cuda 12.4.1"
    assert work.missing() == []
    assert work.ensure(frozen=True)


def test_a_corrected_catalog_is_heard_without_asking(desk: Callable[..., Desk]) -> None:
    work = desk()
    work.registries.images[BASE] = image("b", CUDA_VERSION="12.5.0")
    work.ensure()
    work.stacks = [ngc(facts={**FACTS, "cuda": "12.5"})]
    assert work.missing() == ["ngc-24.05"]
    work.ensure()
    assert work.registries.asked == []
    assert work.file.stacks["ngc-24.05"].refused == ""
    work.stacks = [ngc()]
    work.ensure()
    assert "12.5.0" in work.file.stacks["ngc-24.05"].refused
    work.stacks = [ngc(base=BASE.replace("05", "06"))]
    work.ensure()
    assert work.file.stacks["ngc-24.05"].refused == ""


def test_an_update_says_that_a_digest_moved_and_for_whom(desk: Callable[..., Desk]) -> None:
    other = dataclasses.replace(ngc(), fields={"release": "24.05", "numpy": "1"})
    work = desk(ngc(), other)
    work.ensure()
    work.registries.images[BASE] = image("b")
    assert work.ensure().images[BASE] == image(), "it stays as it is locked"
    assert work.update(ngc()) == []
    assert f"{BASE}: digest moved: {sha('aindex')} -> {sha('bindex')}, for ngc-24.05, {other.id}" in work.said
    assert work.file.images[BASE] == image("b")


def test_a_cutoff_moves_no_image(desk: Callable[..., Desk]) -> None:
    work = desk(ngc(packages=("onnx==1.17.0",)))
    work.ensure()
    work.registries.images[BASE] = image("b")
    locking.update_lock(
        work.work, factory.MACHINE, work.file, work.stacks, [], cutoff=NEW, whole=True, say=work.said.append,
        docker=work.docker,
    )  # fmt: skip
    assert work.file.images[BASE] == image()
    assert work.file.cutoff == NEW
    assert work.index.asked[-1] == ("ngc-24.05", NEW)


@pytest.mark.parametrize("now", [None, image("lie", CUDA_VERSION="13.0.0")])
def test_a_good_image_is_never_replaced_by_none(desk: Callable[..., Desk], now: Image | None) -> None:
    work = desk()
    work.ensure()
    work.registries.images = {BASE: now} if now else {}
    troubles = work.update()
    assert len(troubles) == 1
    assert troubles[0].startswith(f"{BASE}: kept as it was, at {sha('aindex')}")
    assert ("its CUDA_VERSION is 13.0.0" if now else "no such image") in troubles[0]
    assert (work.file.images, work.file.stacks["ngc-24.05"].refused) == ({BASE: image()}, "")


def test_a_registry_that_is_away_costs_nothing_else(desk: Callable[..., Desk]) -> None:
    other = ngc("24.06", packages=("onnx==1.17.0",))
    work = desk(ngc(), other)
    work.registries.away = {other.base}
    with pytest.raises(InfrastructureError, match=r"nvcr\.io: down"):
        work.ensure()
    assert list(work.file.images) == [BASE]
    assert work.file.stacks[other.id].packages
    assert work.missing() == [other.id]
    work.registries.away = {BASE, other.base}
    before = work.project.lock.read_text()
    with pytest.raises(InfrastructureError, match=r"24\.05-py3\nnvcr\.io: down"):
        work.update()
    assert work.project.lock.read_text() == before


def test_an_architecture_that_an_image_lacks_is_known(
    desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image is asked for the platforms of PLATFORMS: that one is not there is no reason to ask again."""
    work = desk()
    work.registries.images[BASE] = image("a", ["linux/arm64"])
    work.ensure()
    assert work.missing() == []
    monkeypatch.setattr(engine, "platform", lambda: "linux/riscv64")
    assert work.missing() == ["ngc-24.05"], "that was not asked for"


def test_packages_that_do_not_go_together_and_images_are_two_things(desk: Callable[..., Desk]) -> None:
    work = desk(ngc(packages=("onnx==1.17.0",)), ngc("24.06"))
    work.index.without.add("ngc-24.05")
    work.ensure()
    assert "no such release" in work.file.stacks["ngc-24.05"].unresolved
    assert work.file.stacks["ngc-24.05"].refused == ""
    assert sorted(work.file.images) == [BASE, BASE.replace("05", "06")]


# With real parts ---------------------------------------------------------------------------------------------------


@pytest.fixture
def real(tmp_path: Path) -> Iterator[dockerparts.Registry]:
    with dockerparts.running_registry(tmp_path / "registry") as running:
        yield running


@pytest.mark.docker
def test_locking_over_a_mirror(real: dockerparts.Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag is locked, moves, lies, and its registry goes away: nothing that was right is lost."""
    monkeypatch.setattr(uv, "version", lambda: "0.13.8")
    monkeypatch.setattr(transport.time, "sleep", lambda seconds: None)
    path = "nvcr/nvidia/tensorrt:24.05-py3"

    def push(**env: str) -> str:
        return real.push(dockerparts.derived(dockerparts.base("bookworm"), env=env), path)

    work = Desk(tmp_path, Index(), Registries(), ngc(), ngc("99.99"))
    work.mirrors = {"nvcr.io": f"{real.address}/nvcr"}
    first = push(CUDA_VERSION="12.4.1.003", TRT_VERSION="10.0.1.6")
    work.ensure()
    assert work.file.images[BASE].index == first
    assert "MANIFEST_UNKNOWN: manifest unknown" in work.file.stacks["ngc-99.99"].refused
    assert real.address not in work.project.lock.read_text()

    second = push(CUDA_VERSION="12.4.1.004", TRT_VERSION="10.0.1.6")
    assert work.ensure().images[BASE].index == first
    assert work.update(ngc()) == []
    moved = f"{BASE}: digest moved: {first} -> {second}; CUDA_VERSION 12.4.1.003 -> 12.4.1.004, for ngc-24.05"
    assert moved in work.said
    good = work.project.lock.read_text()

    push(CUDA_VERSION="12.5.0", TRT_VERSION="10.0.1.6")
    assert "its CUDA_VERSION is 12.5.0, the catalog says cuda 12.4.1" in work.update(ngc())[0]
    assert work.project.lock.read_text() == good

    real.stop()
    with pytest.raises(InfrastructureError, match=rf"{real.address}: Connection refused \(tried 4 times in \d+ s\)"):
        work.update(ngc())
    assert work.project.lock.read_text() == good
    work.ensure(frozen=True)


@pytest.mark.parametrize(
    ("answer", "line", "signature"),
    [
        ("error: No solution found when resolving dependencies\n  cause: Because x==1 has no wheels with a matching Python ABI "
         "tag (e.g., `cp312`) and you require x==1, we can conclude that your requirements are unsatisfiable.\n",
         "Because x==1 has no wheels", "wheel-tag-mismatch"),
        ("  \u00d7 No solution found when resolving dependencies:\n  \u2570\u2500\u25b6 Because there is no version of x==1 and "
         "you require x==1, we can conclude that your requirements are unsatisfiable.\n",
         "Because there is no version of x==1", "version-not-found"),
        ("error: No solution found when resolving dependencies\n  cause: Because there is no version of x==1 and you require "
         "x==1, we can conclude that your requirements are unsatisfiable.\n\nhint: `x` was filtered by `exclude-newer` to only "
         "include packages uploaded before 2020-01-02T00:00:00Z.\nhint: an index (https://index.example/simple) was asked\n",
         "Because there is no version of x==1", "newer-than-cutoff"),
    ],
)  # fmt: skip
def test_why_a_stack_cannot_be_resolved_is_kept_so_that_it_is_recognised(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str, line: str, signature: str
) -> None:
    """The lock has only this of uv's answer: the first line alone says nothing, and all of it may hold an address."""
    (tmp_path / "answer").write_text(answer)
    program = tmp_path / "uv"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/answer >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(uv, "uv_binary", lambda: str(program))
    with pytest.raises(uv.PackageError) as caught:
        uv._call(["pip"], {"PATH": os.environ["PATH"]}, "x-1-py3.12")
    assert str(caught.value).startswith(f"x-1-py3.12: {line}") and "https" not in str(caught.value)
    error = {"stage": "resolve", "type": "PackageError", "message": str(caught.value)}
    assert diagnose("resolve", "failed", error, {"exit": 1}, "", {}).signature == signature
