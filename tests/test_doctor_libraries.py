"""Libraries that lie about, as doctor sees them: where they are found, and whether they agree."""

from __future__ import annotations

from pathlib import Path

import pytest
from machines import command, host, says

from builder import doctor_libraries, doctor_library_checks
from builder.doctor_host import Check, Host
from builder.doctor_libraries import Library, Origin, Seen


def put(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("")
    return folder


def look(machine: Host, *path: Path) -> Seen:
    return doctor_libraries.look(machine, [str(each) for each in path])


def judged(seen: Seen, driver: str = "580.159.04", cuda: str = "13.0") -> dict[str, Check]:
    return {check.name: check for check in doctor_library_checks.judge(seen, driver=driver, cuda=cuda)}


def library(path: str, origin: Origin = "loader cache") -> Library:
    found = doctor_libraries._library(Path(path), origin)
    assert found is not None
    return Library(**{**found.__dict__, "broken": "", "path": path})


def of(*libraries: Library, **changes: tuple[str, ...]) -> Seen:
    rest: dict[str, tuple[str, ...]] = {"search": (), "missing": (), "stubs": (), **changes}
    return Seen(libraries=libraries, toolkits={}, search=rest["search"], missing=rest["missing"], stubs=rest["stubs"])


def test_nothing_is_absent_and_no_fault(tmp_path: Path) -> None:
    says(tmp_path, "ldconfig", "0 libs found in cache\n")
    checks = judged(look(host(tmp_path)))
    assert {check.state for check in checks.values()} == {"absent"} and len(checks) == 4


def test_every_place_is_looked_in(tmp_path: Path) -> None:
    usr = put(tmp_path / "usr", "libcudnn.so.9.1.0", "libnvinfer.so.10.3.0")
    (usr / "libcudnn.so.9").symlink_to("libcudnn.so.9.1.0")
    says(
        tmp_path, "ldconfig",
        f"2 libs found in cache\n\tlibcudnn.so.9 (libc6,x86-64) => {usr}/libcudnn.so.9\n"
        f"\tlibnvinfer.so.10.3.0 (libc6,x86-64) => {usr}/libnvinfer.so.10.3.0\n"
        f"\tlibcuda.so.1 (libc6) => /lib32/libcuda.so.570.1\n"
        f"\tlibcudnn.so.8 (libc6,x86-64) => \x1b[31m\n\tlibm.so.6 (libc6,x86-64) => /lib/libm.so.6\n",
    )  # fmt: skip
    mine = put(tmp_path / "mine", "libcudart.so.12.4.127")
    machine = host(
        tmp_path, {"/usr/local/cuda-12.6/version.json": '{"cuda": {"version": "12.6.1"}}'}, LD_LIBRARY_PATH=f"{mine}::"
    )
    put(machine.path("/usr/local/cuda-12.6/lib64"), "libcublas.so.12.6.3.3")
    machine.path("/usr/local/cuda").symlink_to("cuda-12.6")
    site = tmp_path / "site"
    for name in ("nvidia_cudnn_cu12-9.1.0.70", "tensorrt_cu12_libs-10.3.0", "numpy-2.0", "nvidia_nccl_cu12-2.1"):
        (site / f"{name}.dist-info").mkdir(parents=True)
    seen = look(machine, site)
    assert sorted((each.name, each.version, each.origin) for each in seen.libraries) == [
        ("libcublas", "12.6.3.3", "toolkit"), ("libcudart", "12.4.127", "LD_LIBRARY_PATH"),
        ("libcudnn", "9.1.0", "loader cache"), ("libnvinfer", "10.3.0", "loader cache"),
        ("nvidia-cudnn-cu12", "9.1.0.70", "package"), ("tensorrt-cu12-libs", "10.3.0", "package"),
    ]  # fmt: skip
    assert list(seen.toolkits.values()) == ["12.6.1"]  # /usr/local/cuda is the same folder
    checks = judged(seen)
    assert {check.state for name, check in checks.items() if "RTX" not in name} == {"ok"}
    assert "toolkit 12.6.1" in checks["CUDA libraries"].found and "by LD_LIBRARY_PATH" in checks["CUDA libraries"].found


@pytest.mark.parametrize(
    ("name", "files", "version"),
    [
        ("cuda-11.0", {"version.txt": "CUDA Version 11.0.3"}, "11.0.3"), ("cuda-11.8", {}, "11.8"), ("cuda", {}, ""),
        ("cuda-12.1", {"version.json": "["}, "12.1"), ("cuda-12.2", {"version.json": '{"cuda": 3}'}, "12.2"),
    ],
)  # fmt: skip
def test_versions_of_toolkits(tmp_path: Path, name: str, files: dict[str, str], version: str) -> None:
    machine = host(
        tmp_path, {f"/usr/local/{name}/bin/nvcc": "", **{f"/usr/local/{name}/{k}": v for k, v in files.items()}}
    )
    assert list(look(machine).toolkits.values()) == [version]


def test_a_runtime_that_is_newer_than_the_driver_runs() -> None:
    far = of(library("/opt/a/libcudart.so.13.0.96"))
    check = judged(far, cuda="12.4")["CUDA libraries"]
    assert check.state == "warning" and "libcudart 13.0.96 (/opt/a/libcudart.so.13.0.96) is newer" in check.found
    assert "move the driver to one that runs CUDA 13" in check.mend
    near = of(library("/opt/a/libcudart.so.13.0.96", "LD_LIBRARY_PATH"))
    check = judged(near, cuda="12.4")["CUDA libraries"]
    assert (check.state, check.need) == ("problem", "gpu")
    assert judged(near, cuda="13.0")["CUDA libraries"].state == "ok"
    assert judged(near, cuda="")["CUDA libraries"].state == "ok"  # no driver to hold it against
    minor = of(library("/opt/a/libcudart.so.12.9.1", "LD_LIBRARY_PATH"))
    assert judged(minor, cuda="12.4")["CUDA libraries"].state == "ok"  # minor version compatibility


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [("8.9.7", "9.1.0", "two majors of libcudnn"), ("9.0.0", "9.1.0", "two versions of libcudnn")],
)
def test_two_of_one_library_on_the_loaders_path(first: str, second: str, what: str) -> None:
    seen = of(library(f"/a/libcudnn.so.{first}", "LD_LIBRARY_PATH"), library(f"/b/libcudnn.so.{second}"))
    check = judged(seen)["cuDNN libraries"]
    assert check.state == "warning" and what in check.found and f"{first} in /a, {second} in /b" in check.found


def test_one_on_the_path_and_one_of_a_toolkit_agree() -> None:
    seen = of(library("/a/libcudart.so.12.4.1"), library("/usr/local/cuda-13/lib64/libcudart.so.13.0.1", "toolkit"))
    assert judged(seen)["CUDA libraries"].state == "ok"


def test_links_to_nothing_in_a_ring_and_that_lie(tmp_path: Path) -> None:
    says(tmp_path, "ldconfig", "")
    folder = put(tmp_path / "farm", "libnvinfer.so.10.3.0")
    (folder / "libcudnn.so.9").symlink_to("gone")
    (folder / "libcudart.so").symlink_to("libcudart.so.12")
    (folder / "libcudart.so.12").symlink_to("libcudart.so")
    (folder / "libnvinfer.so.8").symlink_to("libnvinfer.so.10.3.0")
    checks = judged(look(host(tmp_path, LD_LIBRARY_PATH=str(folder))))
    assert checks["cuDNN libraries"].state == checks["CUDA libraries"].state == "problem"
    assert "libcudnn.so.9 leads nowhere (No such file" in checks["cuDNN libraries"].found
    assert "(Too many levels of symbolic links)" in checks["CUDA libraries"].found


def test_a_name_that_leads_to_another_major() -> None:
    liar = Library(name="libnvinfer", kind="TensorRT", version="10.3.0", path="/a/libnvinfer.so.10.3.0", origin="LD_LIBRARY_PATH",
                   soname="8")  # fmt: skip
    check = judged(of(liar))["TensorRT libraries"]
    assert check.state == "warning" and "the name libnvinfer.so.8 leads to version 10.3.0" in check.found


def test_one_package_for_two_cudas(tmp_path: Path) -> None:
    says(tmp_path, "ldconfig", "")
    for name in ("tensorrt_cu12_libs-10.3.0", "tensorrt_cu13_libs-10.13.0"):
        (tmp_path / "site" / f"{name}.dist-info").mkdir(parents=True)
    check = judged(look(host(tmp_path), tmp_path / "site"))["TensorRT libraries"]
    assert check.state == "warning" and "tensorrt-libs is installed for CUDA 12 and 13" in check.found


def test_the_drivers_libraries_are_of_the_kernels_version() -> None:
    mine, old = library("/lib/libcuda.so.580.159.04"), library("/old/libnvidia-ml.so.570.1.2")
    assert judged(of(mine))["driver libraries"].state == "ok"
    assert judged(of(mine, old))["driver libraries"].state == "warning"
    check = judged(of(old))["driver libraries"]
    assert check.state == "problem" and check.found == (
        "libnvidia-ml 570.1.2 (/old/libnvidia-ml.so.570.1.2), and the kernel's module is 580.159.04"
    )
    assert "driver libraries" not in judged(of(old), driver="")


def test_forward_compatibility_is_told() -> None:
    ahead = library("/usr/local/cuda-13.1/compat/libcuda.so.590.44.01", "LD_LIBRARY_PATH")
    check = judged(of(ahead))["driver libraries"]
    assert check.state == "warning" and "forward compatibility: libcuda 590.44.01" in check.found


def test_the_search_path(tmp_path: Path) -> None:
    says(tmp_path, "ldconfig", "")
    stubs = put(tmp_path / "lib64" / "stubs", "libcuda.so")
    good = put(tmp_path / "good")
    check = judged(look(host(tmp_path, LD_LIBRARY_PATH=f"{good}:{stubs}")))["LD_LIBRARY_PATH"]
    assert check.state == "warning" and "holds the stub of libcuda" in check.found  # programs load libcuda.so.1
    put(stubs, "libcuda.so.1")
    assert judged(look(host(tmp_path, LD_LIBRARY_PATH=str(stubs))))["LD_LIBRARY_PATH"].state == "problem"
    check = judged(look(host(tmp_path, LD_LIBRARY_PATH=f"{good}:/nowhere")))["LD_LIBRARY_PATH"]
    assert check.state == "warning" and "/nowhere is not there" in check.found
    assert judged(look(host(tmp_path, LD_LIBRARY_PATH=str(good))))["LD_LIBRARY_PATH"].state == "ok"


@pytest.mark.parametrize("body", ["exit 3", "exec /bin/sleep 60", ""])
def test_an_ldconfig_that_fails_hangs_or_says_nothing(
    tmp_path: Path, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_libraries, "SECONDS", 0.3)
    machine = host(tmp_path)
    command(tmp_path, "ldconfig", body)
    checks = judged(look(machine))
    assert ("loader cache" in checks) == bool(body)
    if body:
        assert checks["loader cache"].state == "warning"


def test_no_ldconfig_at_all(tmp_path: Path) -> None:
    assert judged(look(host(tmp_path)))["loader cache"].found == "not read: no ldconfig"
