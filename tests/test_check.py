"""images/check.py: what is in an image, as it is found in small made-up trees."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import dockerparts
import pytest

from builder import image
from builder.environment import interpreters

CHECK = Path(__file__).parent.parent / "images" / "check.py"
GCC = shutil.which("gcc")


class Tree:
    """A folder that stands for the root of an image."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env: dict[str, str] = {}

    def write(self, path: str, text: str = "") -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def distribution(self, name: str, version: str, folder: str = "usr/local/lib/python3.10/dist-packages") -> None:
        file = name.replace("-", "_")
        self.write(
            f"{folder}/{file}-{version}.dist-info/METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nText",
        )

    def library(self, name: str, code: str, folder: str = "usr/lib/x86_64-linux-gnu") -> None:
        """A shared library that really answers."""
        source = self.write("code.c", code)
        target = self.root / folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        assert GCC is not None
        subprocess.run([GCC, "-shared", "-fPIC", "-o", target, source], check=True)

    def check(self, *arguments: str) -> tuple[int, list[str]]:
        done = subprocess.run(
            [sys.executable, str(CHECK), "--root", str(self.root), *arguments],
            capture_output=True,
            text=True,
            env=self.env,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, [*done.stdout.splitlines(), *done.stderr.splitlines()]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


HERE = "{}.{}.{}".format(*sys.version_info[:3])


def test_python(tree: Tree) -> None:
    assert tree.check("--python", HERE) == (0, [f"ok: python {HERE} ({sys.executable}), promised {HERE}"])
    assert tree.check("--python", HERE.rpartition(".")[0])[0] == 0
    assert tree.check("--python", "2.7") == (1, [f"wrong: python {HERE} ({sys.executable}), promised 2.7"])


def test_cuda_by_its_own_files(tree: Tree) -> None:
    tree.env["CUDA_VERSION"] = "11.8.0"  # not believed while there is something better
    tree.write("usr/local/cuda/version.txt", "CUDA Version 10.2.89\n")
    assert tree.check("--cuda", "10.2.89") == (0, ["ok: cuda 10.2.89 (/usr/local/cuda/version.txt), promised 10.2.89"])
    tree.write("usr/local/cuda/version.json", json.dumps({"cuda": {"name": "CUDA SDK", "version": "12.4.1"}}))
    assert tree.check("--cuda", "12.4.1.003")[0] == 0
    assert tree.check("--cuda", "11.8.0") == (1, ["wrong: cuda 12.4.1 (/usr/local/cuda/version.json), promised 11.8.0"])


def test_a_date_is_no_patch_of_cuda(tree: Tree) -> None:
    tree.write("usr/local/cuda-11.6/version.json", json.dumps({"cuda": {"version": "11.6.20220318"}}))
    assert tree.check("--cuda", "11.6.1") == (0, ["ok: cuda 11.6 (/usr/local/cuda-11.6/version.json), promised 11.6.1"])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cuda": 1}', '{"cuda": {"version": null}}'])
def test_damaged_files_are_not_believed(text: str, tree: Tree) -> None:
    tree.write("usr/local/cuda/version.json", text)
    assert tree.check("--cuda", "12.4.1") == (1, ["missing: no cuda found in the image, promised 12.4.1"])


def test_variables_for_want_of_anything_better(tree: Tree) -> None:
    tree.env = {"CUDA_VERSION": "12.4.1.003", "CUDNN_VERSION": "9.1.0.70", "TRT_VERSION": "10.0.1.6+cuda12.4"}
    code, lines = tree.check("--cuda", "12.4.1", "--cudnn", "9.1.0", "--tensorrt", "10.1.0")
    assert code == 1
    assert lines == [
        "ok: cuda 12.4.1.003 (variable CUDA_VERSION, for want of anything better), promised 12.4.1",
        "ok: cudnn 9.1.0.70 (variable CUDNN_VERSION, for want of anything better), promised 9.1.0",
        "wrong: tensorrt 10.0.1.6+cuda12.4 (variable TRT_VERSION, for want of anything better), promised 10.1.0",
    ]


def test_nothing_is_a_failure(tree: Tree) -> None:
    code, lines = tree.check("--cuda", "12.4", "--cudnn", "9", "--tensorrt", "10", "--distribution", "torch=2.4.0")
    assert code == 1
    assert lines == [f"missing: no {name} found in the image, promised {version}"
                     for name, version in (("cuda", "12.4"), ("cudnn", "9"), ("tensorrt", "10"), ("torch", "2.4.0"))]  # fmt: skip


@pytest.mark.skipif(GCC is None, reason="no gcc")
@pytest.mark.parametrize(
    ("number", "version"),
    [(7103, "7.1.3"), (8601, "8.6.1"), (100001, "10.0.1"), (101303, "10.13.3"), (110000, "11.0.0")],
)
def test_tensorrt_says_its_version_itself(number: int, version: str, tree: Tree) -> None:
    tree.env["TRT_VERSION"] = "1.2.3"
    tree.library("libnvinfer.so.10", f"int getInferLibVersion(void) {{ return {number}; }}")
    assert tree.check("--tensorrt", version + ".9") == (
        0,
        [f"ok: tensorrt {version} (libnvinfer.so.10), promised {version}.9"],
    )
    assert tree.check("--tensorrt", "9.9") == (1, [f"wrong: tensorrt {version} (libnvinfer.so.10), promised 9.9"])


@pytest.mark.skipif(GCC is None, reason="no gcc")
@pytest.mark.parametrize(("number", "version"), [(7605, "7.6.5"), (8907, "8.9.7"), (90100, "9.1.0"), (91002, "9.10.2")])
def test_cudnn_says_its_version_itself(number: int, version: str, tree: Tree) -> None:
    tree.library("libcudnn.so.9", f"unsigned long cudnnGetVersion(void) {{ return {number}; }}", "usr/local/cuda/lib64")
    assert tree.check("--cudnn", version) == (0, [f"ok: cudnn {version} (libcudnn.so.9), promised {version}"])


@pytest.mark.skipif(GCC is None, reason="no gcc")
def test_the_runtime_says_what_no_file_of_cuda_does(tree: Tree) -> None:
    tree.library(
        "libcudart.so.12", "int cudaRuntimeGetVersion(int *v) { *v = 12040; return 0; }", "usr/local/cuda/lib64"
    )
    assert tree.check("--cuda", "12.4.1") == (0, ["ok: cuda 12.4 (libcudart.so.12), promised 12.4.1"])


@pytest.mark.skipif(GCC is None, reason="no gcc")
@pytest.mark.parametrize("code", ["int x;", "#include <stdlib.h>\nint getInferLibVersion(void) { abort(); }"])
def test_a_library_that_does_not_answer_is_known_by_its_name(code: str, tree: Tree) -> None:
    tree.library("libnvinfer.so.10.0.1", code)
    (tree.root / "usr/lib/x86_64-linux-gnu/libnvinfer.so.10").symlink_to("libnvinfer.so.10.0.1")
    assert tree.check("--tensorrt", "10.0.1.6") == (
        0,
        ["ok: tensorrt 10.0.1 (file libnvinfer.so.10.0.1), promised 10.0.1.6"],
    )


def test_what_is_no_library_is_known_by_its_name(tree: Tree) -> None:
    tree.write("usr/lib/aarch64-linux-gnu/libnvinfer.so.8.5.2", "not a library")
    tree.write("usr/lib/aarch64-linux-gnu/libnvinfer_plugin.so.9.9.9", "another one")
    tree.write("usr/local/cuda/lib64/stubs/libnvinfer.so.1.1.1", "a stub")
    assert tree.check("--tensorrt", "8.5.2.2") == (
        0,
        ["ok: tensorrt 8.5.2 (file libnvinfer.so.8.5.2), promised 8.5.2.2"],
    )
    tree.env["LD_LIBRARY_PATH"] = "relative:/opt/other"
    tree.write("opt/other/libnvinfer.so.8.6.1", "the one that a loader would take")
    assert tree.check("--tensorrt", "8.5.2.2")[1] == [
        "wrong: tensorrt 8.6.1 (file libnvinfer.so.8.6.1), promised 8.5.2.2"
    ]


def test_distributions(tree: Tree) -> None:
    tree.distribution("torch", "2.4.0a0+07cecf4168.nv24.05")
    tree.distribution("torch-tensorrt", "2.4.0")
    tree.distribution("Some.Thing", "1.0")
    assert tree.check("--distribution", "torch=2.4.0a0+07cecf4168") == (
        0, ["ok: torch 2.4.0a0+07cecf4168.nv24.05 (torch-2.4.0a0+07cecf4168.nv24.05.dist-info), promised 2.4.0a0+07cecf4168"],
    )  # fmt: skip
    assert tree.check("--distribution", "torch=2.4.1")[0] == 1
    assert tree.check("--distribution", "some_thing=1.0", "--distribution", "torch-tensorrt=2.4")[0] == 0
    tree.write("usr/lib/python3/dist-packages/old-0.9-py3.6.egg-info/PKG-INFO", "Name: old\nVersion: 0.9\n")
    tree.write("usr/lib/python3/dist-packages/older-0.8.egg-info", "Name: older\nVersion: 0.8\n")
    assert tree.check("--distribution", "old=0.9", "--distribution", "older=0.8")[0] == 0


def test_the_distribution_stands_for_a_library_that_is_not_there(tree: Tree) -> None:
    tree.env["TRT_VERSION"] = "10.0.1.6"
    tree.distribution("tensorrt", "10.1.0.27")
    assert tree.check("--tensorrt", "10.0.1.6") == (
        1, ["wrong: tensorrt 10.1.0.27 (tensorrt-10.1.0.27.dist-info), promised 10.0.1.6"],
    )  # fmt: skip


def test_without_a_root_it_asks_the_python_that_runs_it() -> None:
    import pytest as installed

    def run(version: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, CHECK, "--distribution", f"pytest={version}"], capture_output=True, text=True
        )

    assert run(installed.__version__).stdout.startswith(f"ok: pytest {installed.__version__} (pytest-")
    assert run("1.0").returncode == 1


CASES = [
    ("12.4", "12.4.1", True), ("12.4.1.003", "12.4.1.3", True), ("12.4.1", "12.5", False), ("1.10", "1.1", False),
    ("2.4.0a0+07c", "2.4.0a0+07c.nv24.05", True), ("2.4.0a0+07c", "2.4.0a0+f70", True), ("2.4.0a0", "2.4.0", True),
    ("2.4.0a0", "2.4.0rc1", False), ("8.9.7.29-1+cuda12.2", "8.9.7.29", True), ("v8.6", "8.6.1-1", True), ("", "1.0", False),
    ("unknown", "1.0", False),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other", "same"), CASES)
def test_versions_agree_as_far_as_both_go(one: str, other: str, same: bool) -> None:
    spec = importlib.util.spec_from_file_location("image_check", CHECK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.agree(one, other) is same and module.agree(other, one) is same
    assert image.agree(one, other) is same  # the lock, of the image's configuration, judges alike


@pytest.mark.parametrize("bad", [["--distribution", "torch"], ["--distribution", "=1"], ["--cud", "1"]])
def test_wrong_arguments(bad: list[str], tree: Tree) -> None:
    assert tree.check(*bad)[0] == 2


@pytest.mark.parametrize("version", ["3.6", "3.7", "3.8", "3.13"])
def test_it_runs_on_old_and_new_pythons(version: str, tree: Tree) -> None:
    found = interpreters.installed(os.environ).get(version)
    if found is None:
        dockerparts.lacking(f"no Python {version} here")
        return
    tree.distribution("torch", "1.6.0a0+9907a3e")
    done = subprocess.run(
        [str(found), CHECK, "--root", tree.root, "--python", version, "--distribution", "torch=1.6"],
        capture_output=True, text=True, env={},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
