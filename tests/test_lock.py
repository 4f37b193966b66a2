"""The lock is deterministic data, carries no address, and a changed requirement makes its entry stale."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import factory
import pytest

from builder import lock
from builder.environment import uv
from builder.lock import Lock, LockError, Pins
from builder.values import Requirement, Source

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
