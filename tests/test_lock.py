"""The lock is deterministic data, carries no address, and a changed requirement makes its entry stale."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import factory
import pytest
import specs

from builder import cli, lock, machine
from builder.environment import uv
from builder.lock import Lock, LockError, Pins
from builder.values import Requirement, Source, Stack

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
        return Pins(python=stack.fields["python"], requirements=lock.lines(stack), packages=(pin,), hashes=hashes)


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


def test_torch_never_comes_with_cuda(tmp_path: Path) -> None:
    assert uv._torch_backend(["torch==2.13.0+cpu"], {}) == ["--torch-backend", "cpu"]
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl").touch()
    assert uv._torch_backend(["torch==2.13.0+cpu"], {"UV_FIND_LINKS": str(tmp_path)}) == []
    assert uv._torch_backend(["onnx==1.0"], {}) == []
