"""The Docker engine, the machine, the families and the whole of doctor: every state of every check."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from machines import H200, command, host, nvml, says

from builder import (
    doctor,
    doctor_cli,
    doctor_engine,
    doctor_families,
    doctor_gpu,
    doctor_gpu_checks,
    doctor_libraries,
    doctor_library_checks,
    doctor_machine,
)
from builder.doctor_engine import Seen
from builder.doctor_families import Families, Verdict
from builder.doctor_host import Check, Host
from builder.doctor_machine import Disk
from builder.environment import engine, interpreters
from builder.errors import InfrastructureError
from builder.project import Project

ROOT = Path(__file__).parent.parent
INFO: Mapping[str, Any] = {
    "ServerVersion": "28.1.0", "Driver": "overlay2", "OSType": "linux", "Architecture": platform.machine(), "CgroupVersion": "2",
    "Runtimes": {"runc": {}}, "DockerRootDir": "/var/lib/docker", "MemoryLimit": True, "PidsLimit": True,
    "SecurityOptions": ["name=seccomp,profile=builtin"], "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
}  # fmt: skip
ENGINE = Seen(
    endpoint="unix:///var/run/docker.sock (the usual socket)", there=True, info=INFO, cli="/usr/bin/docker", buildx=True,
    free=90 << 30,
)  # fmt: skip


def engine_checks(seen: Seen, *, gpu: bool = True, driver: str = "580.1") -> dict[str, Check]:
    return {check.name: check for check in doctor_engine.judge(seen, gpu=gpu, driver=driver)}


def with_info(**changes: Any) -> Seen:
    return dataclasses.replace(ENGINE, info={**INFO, **changes})


# -- the Docker engine


@pytest.fixture
def _own_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No engine of the machine's, and no cached answer."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setattr(engine, "DEFAULT_SOCKET", str(tmp_path / "docker.sock"))
    monkeypatch.setattr(engine, "PING", 0.3)
    engine._connect.cache_clear()
    yield
    engine._connect.cache_clear()


@pytest.mark.usefixtures("_own_engine")
def test_no_engine_is_absent_and_one_that_is_named_has_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = engine_checks(doctor_engine.look(host(tmp_path)))["Docker engine"]
    assert (check.state, check.found) == ("absent", "none: no socket, and DOCKER_HOST is not set")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/other.sock")
    check = engine_checks(doctor_engine.look(host(tmp_path)))["Docker engine"]
    assert check.state == "problem" and check.found.endswith("other.sock is not there (DOCKER_HOST)")
    monkeypatch.setenv("DOCKER_CONTEXT", "gone")
    check = engine_checks(doctor_engine.look(host(tmp_path)))["Docker engine"]
    assert check.state == "problem" and "there is no Docker context 'gone'" in check.found


@pytest.mark.usefixtures("_own_engine")
@pytest.mark.parametrize("kind", ["closed", "silent", "odd"])
def test_an_engine_that_does_not_answer(tmp_path: Path, kind: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "docker.sock"))
        if kind != "closed":
            server.listen(8)
        if kind == "odd":
            threading.Thread(target=_odd, args=(server,), daemon=True).start()
        started = time.monotonic()
        checks = engine_checks(doctor_engine.look(host(tmp_path)))
        assert time.monotonic() - started < 10
    why = {"closed": "nothing listens", "silent": "does not answer within", "odd": ""}[kind]
    assert list(checks) == ["Docker engine"] and checks["Docker engine"].state == "problem"
    assert why in checks["Docker engine"].found and checks["Docker engine"].mend


def _odd(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Type: application/json\r\n\r\n[[[["
                )


def test_an_engine_as_it_should_be() -> None:
    checks = engine_checks(with_info(Runtimes={"runc": {}, "nvidia": {}}))
    assert {check.state for check in checks.values()} == {"ok"}
    assert list(checks) == ["Docker engine", "BuildKit", "Docker's disk", "GPUs in Docker"]
    assert checks["Docker engine"].found.startswith(
        "28.1.0, unix:///var/run/docker.sock (the usual socket), storage overlay2, rootful"
    )


@pytest.mark.parametrize(
    ("changes", "state", "found"),
    [
        ({"OSType": "windows"}, "problem", "runs windows containers"),
        ({"Architecture": "riscv64"}, "warning", "it is riscv64, this machine"),
        ({"MemoryLimit": False, "PidsLimit": False}, "warning", "cannot limit memory or processes"),
        ({"SecurityOptions": ["name=rootless"]}, "ok", ", rootless,"),
        ({"ServerVersion": "\x1b[2J[red]"}, "ok", "[red],"),
    ],
)
def test_states_of_an_engine(changes: dict[str, Any], state: str, found: str) -> None:
    check = engine_checks(with_info(**changes))["Docker engine"]
    assert check.state == state and found in check.found and "\x1b" not in check.found


def test_no_command_that_can_build() -> None:
    seen = dataclasses.replace(ENGINE, cli="", cli_error=f"/usr/bin/docker: no buildx plugin {engine.INSTALL_BUILDX}")
    check = engine_checks(seen)["BuildKit"]
    assert (check.state, check.found, check.mend) == (
        "problem",
        "/usr/bin/docker: no buildx plugin",
        engine.INSTALL_BUILDX,
    )
    assert (
        "no buildx: one image at a time" in engine_checks(dataclasses.replace(ENGINE, buildx=False))["BuildKit"].found
    )


@pytest.mark.parametrize(("free", "state"), [(100 << 30, "ok"), (5 << 30, "warning"), (5 << 20, "problem")])
def test_the_engines_disk(free: int, state: str) -> None:
    assert engine_checks(dataclasses.replace(ENGINE, free=free))["Docker's disk"].state == state
    assert "Docker's disk" not in engine_checks(dataclasses.replace(ENGINE, free=None))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"info": {**INFO, "Runtimes": {"nvidia": {}}}}, "runtime nvidia"),
        (
            {"info": {**INFO, "DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}, "odd"]}},
            "CDI (nvidia.com/gpu=0)",
        ),
        ({"specs": {"/etc/cdi/nvidia.yaml": ("580.1",)}}, "CDI (/etc/cdi/nvidia.yaml)"),
        ({"hook": "/usr/bin/nvidia-container-runtime-hook"}, "nvidia-container-runtime-hook for --gpus"),
    ],
)
def test_ways_of_giving_a_container_a_gpu(changes: dict[str, Any], found: str) -> None:
    check = engine_checks(dataclasses.replace(ENGINE, **changes))["GPUs in Docker"]
    assert (check.state, check.found) == ("ok", found)


def test_no_way_of_giving_a_container_a_gpu() -> None:
    check = engine_checks(ENGINE)["GPUs in Docker"]
    assert check.state == "problem" and "nvidia-ctk runtime configure" in check.mend
    assert engine_checks(ENGINE, gpu=False)["GPUs in Docker"].state == "absent"
    assert "generate CDI" in engine_checks(with_info(SecurityOptions=["name=rootless"]))["GPUs in Docker"].mend
    unread = dataclasses.replace(with_info(CDISpecDirs=[]), specs={"/etc/cdi/nvidia.yaml": ("580.1",)})
    assert "the engine does not read CDI" in engine_checks(unread)["GPUs in Docker"].found


def test_a_description_made_for_another_driver(tmp_path: Path) -> None:
    text = 'cdiVersion: 0.5.0\nkind: "nvidia.com/gpu"\nmounts: [/usr/lib/libcuda.so.570.86.10]\n'
    machine = host(
        tmp_path, {"/etc/cdi/nvidia.yaml": text, "/etc/cdi/intel.yaml": "kind: intel.com/gpu", "/etc/cdi/a.txt": text}
    )
    specs = doctor_engine._specs(machine, ["/etc/cdi"])
    assert specs == {"/etc/cdi/nvidia.yaml": ("570.86.10",)}
    check = engine_checks(dataclasses.replace(ENGINE, specs=specs))["GPUs in Docker"]
    assert (
        check.state == "problem" and check.found == "/etc/cdi/nvidia.yaml was made for driver 570.86.10, and 580.1 runs"
    )
    assert engine_checks(dataclasses.replace(ENGINE, specs=specs), driver="570.86.10")["GPUs in Docker"].state == "ok"


# -- the machine


def one(checks: list[Check]) -> Check:
    (check,) = checks
    return check


def test_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(doctor_machine.system(Host())).state == "ok"
    wsl = host(tmp_path, {"/proc/sys/kernel/osrelease": "4.4.0-19041-Microsoft\n", "/run/.containerenv": ""})
    check = one(doctor_machine.system(wsl))
    assert check.state == "warning" and "Podman" in check.found and "wsl --set-version" in check.mend
    two = host(
        tmp_path / "2",
        {"/proc/sys/kernel/osrelease": "5.15.90.1-microsoft-standard-WSL2", "/proc/1/environ": "container=lxc\0"},
    )
    check = one(doctor_machine.system(two))
    assert check.state == "ok" and "WSL" in check.found and check.data["container"] == "lxc"
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert one(doctor_machine.system(two)).state == "problem"
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert "glibc" in one(doctor_machine.system(two)).mend


MEMINFO = "MemTotal:       65536000 kB\nMemAvailable:   60000000 kB\n"


@pytest.mark.parametrize(
    ("files", "state", "found"),
    [
        ({"/proc/meminfo": MEMINFO}, "ok", "62.5 GiB, 57.2 GiB available"),
        ({"/proc/meminfo": "MemTotal: 2000000 kB\n"}, "warning", "1.9 GiB"),
        ({}, "warning", "not told by /proc/meminfo"),
        ({"/proc/meminfo": MEMINFO, "/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/memory.max": "max\n",
          "/sys/fs/cgroup/a/memory.max": "4294967296\n"}, "warning", "cgroup stops at 4.0 GiB"),
        ({"/proc/meminfo": MEMINFO, "/proc/self/cgroup": "4:memory:/docker/x\n",
          "/sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n"}, "warning", "cgroup stops at 1.0 GiB"),
        ({"/proc/meminfo": MEMINFO, "/proc/self/cgroup": "4:memory:/\n",
          "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, "ok", "62.5 GiB"),
        ({"/proc/meminfo": MEMINFO, "/proc/self/cgroup": "0::/../..\nodd\n", "/sys/fs/cgroup/memory.max": "odd"}, "ok", "62.5"),
    ],
)  # fmt: skip
def test_memory(tmp_path: Path, files: dict[str, str], state: str, found: str) -> None:
    check = one(doctor_machine.memory(host(tmp_path, files)))
    assert check.state == state and found in check.found


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"/proc/self/cgroup": "2:cpu,cpuacct:/x\n", "/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "25000",
          "/sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "50000"}, 0.5),
        ({"/proc/self/cgroup": "2:cpu:/\n", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1"}, None),
    ],
)  # fmt: skip
def test_cores(tmp_path: Path, files: dict[str, str], quota: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    check = one(doctor_machine.cores(host(tmp_path, files)))
    assert check.state == ("ok" if quota is None else "warning") and check.data["quota"] == quota
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert "1 of 8 (affinity)" in one(doctor_machine.cores(host(tmp_path, files))).found


def _statvfs(**fields: int) -> Any:
    values = {
        "f_frsize": 1,
        "f_blocks": 1 << 34,
        "f_bavail": 1 << 34,
        "f_files": 9,
        "f_favail": 9,
        "f_flag": 0,
        **fields,
    }
    return lambda path: argparse.Namespace(**values)


def test_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = one(doctor_machine.shared_memory(host(tmp_path)))
    assert check.state == "problem" and "not there (No such file" in check.found
    monkeypatch.setattr(os, "statvfs", _statvfs())
    assert one(doctor_machine.shared_memory(host(tmp_path))).state == "ok"
    monkeypatch.setattr(os, "statvfs", _statvfs(f_blocks=64 << 20, f_bavail=64 << 20))
    assert "--shm-size" in one(doctor_machine.shared_memory(host(tmp_path))).mend


DISK = Disk(folder=Path("/x/artifacts"), free=90 << 30, total=99 << 30, inodes=9, writable=True, executable=True)


@pytest.mark.parametrize(
    ("changes", "state", "found"),
    [
        ({}, "ok", "90.0 GiB free of 99.0 GiB for artifacts/"), ({"free": 3 << 30}, "warning", "3.0 GiB free"),
        ({"free": 3 << 20}, "problem", "3 MiB free"), ({"inodes": 0}, "problem", "no inode"), ({"inodes": None}, "ok", ""),
        ({"writable": False}, "problem", "cannot be written"), ({"executable": False}, "problem", "noexec"),
    ],
)  # fmt: skip
def test_disk(changes: dict[str, Any], state: str, found: str) -> None:
    check = one(doctor_machine.disk(dataclasses.replace(DISK, **changes)))
    assert check.state == state and found in check.found


def test_the_disk_of_a_folder_that_is_not_yet_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = doctor_machine.look_at_disk(tmp_path / "a" / "artifacts")
    assert seen.writable and seen.executable and seen.free
    monkeypatch.setattr(os, "statvfs", _statvfs(f_flag=os.ST_NOEXEC | os.ST_RDONLY, f_files=0))
    seen = doctor_machine.look_at_disk(tmp_path)
    assert not seen.writable and not seen.executable and seen.inodes is None


@pytest.mark.parametrize(
    ("body", "state", "found"),
    [
        ("echo uv 0.9.1", "ok", "0.9.1"), ("echo 'uv 0.7.22 (abc)'", "problem", "0.8 is the oldest"),
        ("echo ; exit 0", "problem", "does not tell its version"), ("exit 4", "problem", "ends with 4"),
        ("exec /bin/sleep 60", "problem", "does not answer within 0.3 s"),
    ],
)  # fmt: skip
def test_uv(tmp_path: Path, body: str, state: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "SECONDS", 0.3)
    monkeypatch.setattr(interpreters, "uv_binary", lambda: str(command(tmp_path, "uv", body)))
    check = one(doctor_machine.uv(host(tmp_path)))
    assert check.state == state and found in check.found


def test_no_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise InfrastructureError("uv is not installed")

    monkeypatch.setattr(interpreters, "uv_binary", missing)
    check = one(doctor_machine.uv(host(tmp_path)))
    assert (check.state, check.found) == ("problem", "not installed")


def test_interpreters(tmp_path: Path) -> None:
    uvs = tmp_path / ".local/share/uv/python/cpython-3.77.1-linux-x86_64-gnu/bin"
    uvs.mkdir(parents=True)
    (uvs / "python3").symlink_to(sys.executable)
    found = doctor_machine.installed(host(tmp_path))
    assert found["3.77"] == str(uvs / "python3")
    assert one(doctor_machine.pythons({"3.9": "/a", "3.11": "/b"}, ["3.9"], fetch=False)).state == "ok"
    check = one(doctor_machine.pythons({"3.9": "/a"}, ["3.12", "3.9", "3.10"], fetch=True))
    assert check.state == "warning" and "3.9; needed and not here: 3.10, 3.12, which uv fetches" in check.found
    check = one(doctor_machine.pythons({}, ["3.12"], fetch=False))
    assert check.state == "problem" and check.found.startswith(
        "none; needed and not here: 3.12, and UV_PYTHON_DOWNLOADS=never"
    )


# -- families


def project(folder: Path, *, matrix: bool = False) -> Project:
    shutil.copytree(ROOT / "images", folder / "images")
    if matrix:
        shutil.copytree(ROOT / "recipes", folder / "recipes", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "matrix.yaml", folder)
    return Project(matrix=folder / "matrix.yaml")


def good(name: str, **data: Any) -> Check:
    return Check(name=name, state="ok", found="fine", matters="", data=data)


WHOLE = (
    good("NVIDIA driver"), good("device nodes"), good("GPUs", gpus=[dict(H200)]), good("Docker engine"), good("BuildKit"),
    good("Docker's disk"), good("GPUs in Docker"), good("system"), good("disk"), good("uv"), good("interpreters", missing=[]),
)  # fmt: skip


def verdicts(families: Families, *changes: Check, **options: Any) -> dict[str, Verdict]:
    checks = {check.name: check for check in (*WHOLE, *changes)}
    options = {"docker": True, "platform": "linux/amd64", "driver": "999.1", "runtimes": ["nvidia"], **options}
    return {each.name: each for each in doctor_families.judge(families, list(checks.values()), **options)}


def bad(name: str, state: Any = "problem", **data: Any) -> Check:
    return Check(name=name, state=state, found=f"no {name}", matters="", mend=f"get {name}", data=data)


@pytest.fixture(scope="module")
def known() -> Families:
    return doctor_families.look(Project(matrix=ROOT / "no-such-matrix.yaml"))


@pytest.fixture(scope="module")
def of_matrix() -> Families:
    return doctor_families.look(Project(matrix=ROOT / "matrix.yaml"))


def test_a_whole_machine_can_do_all_but_what_is_made_for_another(known: Families) -> None:
    found = verdicts(known)
    assert not known.stacks and not known.broken and not any(each.in_matrix for each in found.values())
    assert {name for name, each in found.items() if each.can != "run"} == {"l4t"}
    assert found["l4t"].why == "its images are for linux/arm64, this machine is linux/amd64"
    assert verdicts(known, platform="linux/arm64")["l4t"].can == "run"
    assert "'nvidia'" in verdicts(known, platform="linux/arm64", runtimes=["runc"])["l4t"].why


def test_without_a_gpu_rtx_is_built_and_tensorrt_is_not(known: Families) -> None:
    found = verdicts(
        known,
        Check(name="GPUs", state="absent", found="no NVIDIA GPU", matters="", mend="elsewhere", data={"gpus": []}),
    )
    assert found["tensorrt"].can == found["ngc-tensorrt"].can == "no"
    assert found["tensorrt"].why == "needs an NVIDIA GPU. GPUs: no NVIDIA GPU" and found["tensorrt"].mend == "elsewhere"
    assert found["tensorrt-rtx"].can == "build" and "nothing here loads them" in found["tensorrt-rtx"].why
    assert found["onnxruntime"].can == found["ngc-pytorch"].can == "run"


@pytest.mark.parametrize("name", ["NVIDIA driver", "device nodes", "GPUs", "CUDA_VISIBLE_DEVICES"])
def test_whatever_breaks_the_gpu_breaks_what_needs_it(known: Families, name: str) -> None:
    found = verdicts(known, bad(name, gpus=[dict(H200)]))
    assert found["tensorrt"].can == "no" and found["tensorrt"].mend == f"get {name}" and found["openvino"].can == "run"


@pytest.mark.parametrize(
    ("name", "state", "cannot"),
    [
        ("Docker engine", "absent", {"ngc-tensorrt", "ngc-pytorch", "ngc-tensorflow", "l4t"}),
        ("BuildKit", "problem", {"ngc-tensorrt", "ngc-pytorch", "ngc-tensorflow", "l4t"}),
        ("GPUs in Docker", "problem", {"ngc-tensorrt", "l4t"}),
    ],
)
def test_what_breaks_images_leaves_environments(known: Families, name: str, state: str, cannot: set[str]) -> None:
    found = verdicts(known, bad(name, state))
    assert {each for each, verdict in found.items() if verdict.can == "no"} == cannot
    docker = next(way for way in found["tensorrt"].ways if way.isolation == "docker")
    assert (docker.can, docker.mend) == ("no", f"get {name}") and found["tensorrt"].isolation == "venv"


def test_without_uv_docker_can_and_says_so(known: Families) -> None:
    found = verdicts(known, bad("uv"))
    assert found["openvino"].can == "no" and found["openvino"].mend == "`--isolation docker` can; or get uv"
    assert found["ngc-pytorch"].can == "run"


def test_a_full_disk_stops_all(known: Families) -> None:
    assert {each.can for each in verdicts(known, bad("disk")).values()} == {"no"}


def test_interpreters_that_may_not_be_fetched(known: Families, of_matrix: Families) -> None:
    lacking = good("interpreters", missing=["3.10"], may_fetch=False)
    found = verdicts(known, lacking)
    assert found["tensorrt"].can == "run" and found["tensorrt"].why.startswith("but for its stacks with Python 3.10")
    assert found["tensorrt"].mend == "`uv python install 3.10`" and not found["openvino"].why
    found = verdicts(known, good("interpreters", missing=["3.10", "3.12"], may_fetch=False))
    assert found["tensorrt"].can == "no" and "needs Python 3.10, 3.12, which is not here" in found["tensorrt"].why
    assert found["tensorrt"].mend.startswith("`--isolation docker` can")
    assert verdicts(known, good("interpreters", missing=["3.10"], may_fetch=True))["tensorrt"].can == "run"
    assert known.pythons("torch") == ["3.10", "3.11"] and known.pythons("ngc-tensorrt") == []
    assert set(of_matrix.pythons("torch")) <= {"3.10", "3.11"}


def test_drivers_that_are_too_old_for_images(known: Families) -> None:
    found = verdicts(known, driver="470.57.02")["ngc-tensorrt"]
    assert found.can == "run" and "known releases ask for a newer driver than 470.57.02 (the first is" in found.why
    found = verdicts(known, driver="390.1")["ngc-tensorrt"]
    assert found.can == "no" and found.mend == "move the driver to a newer branch"
    assert verdicts(known, driver="390.1")["ngc-pytorch"].can == "run"  # exports on the CPU


def test_the_matrix_says_what_is_used(of_matrix: Families) -> None:
    found = verdicts(of_matrix)
    assert of_matrix.stacks and found["onnxruntime"].in_matrix
    assert {name for name, each in found.items() if each.in_matrix} == {stack.family for stack in of_matrix.stacks}


def test_a_broken_family_and_a_broken_matrix(tmp_path: Path) -> None:
    made = project(tmp_path)
    (tmp_path / "images/torch/family.yaml").write_text("family: [\n")
    (tmp_path / "images/onnx/family.yaml").write_text("kind: onnx\n")
    made.matrix.write_text("schema: 9\n")
    found = doctor_families.look(made)
    assert set(found.broken) == {"torch", "onnx"} and "images/onnx/family.yaml:1:1" in found.broken["onnx"]
    assert "matrix.yaml" in found.trouble and "openvino" in found.files
    report = doctor.examine(made, host(tmp_path / "m"))
    assert {"images/onnx/family.yaml", "images/torch/family.yaml"} <= set(report.problems)
    check = next(check for check in report.checks if check.name == "project")
    assert check.state == "warning" and "the matrix cannot be read" in check.found


# -- the whole


def text_of(report: doctor.Report) -> str:
    out = io.StringIO()
    doctor_cli.show(report, out)
    return out.getvalue()


@pytest.mark.usefixtures("_own_engine")
def test_the_real_machine_without_an_engine(capsys: pytest.CaptureFixture[str]) -> None:
    options = argparse.Namespace(file=str(ROOT / "matrix.yaml"), json=True)
    code = doctor_cli.call(options)
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1 and set(found) == {"schema", "problems", "seconds", "checks", "families", "broken"}
    assert code == (1 if found["problems"] else 0)
    assert not [check for check in found["checks"] if "crashed" in check["data"]]
    for check in found["checks"]:
        assert set(check) == {"name", "state", "found", "matters", "mend", "families", "data"}
        assert check["state"] in ("ok", "warning", "problem", "absent") and check["matters"]
        assert check["mend"] or check["state"] in ("ok", "absent")
    for family in found["families"]:
        assert family["can"] == "run" or family["why"]
    options.json = False
    assert doctor_cli.call(options) == code
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100 and "\x1b" not in out and "onnxruntime *" in out


@pytest.mark.usefixtures("_own_engine")
def test_a_machine_with_nothing_has_no_problem_but_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreters, "uv_binary", lambda: str(command(tmp_path, "uv", "echo uv 0.9.1")))
    (tmp_path / "root/dev/shm").mkdir(parents=True)
    report = doctor.examine(project(tmp_path / "p"), host(tmp_path))
    assert report.problems in ([], ["disk"])  # of this machine's disk
    assert {check.name for check in report.checks if check.state == "absent"} >= {
        "NVIDIA driver",
        "GPUs",
        "Docker engine",
    }


@pytest.mark.usefixtures("_own_engine")
def test_outside_of_a_project(tmp_path: Path) -> None:
    report = doctor.examine(Project(matrix=tmp_path / "nowhere" / "matrix.yaml"), host(tmp_path))
    assert report.problems == [] and report.families == ()  # /dev/shm is not there, and nobody needs it
    assert next(check for check in report.checks if check.name == "project").state == "absent"
    assert "no family of this project needs it" in text_of(report)


@pytest.mark.usefixtures("_own_engine")
@pytest.mark.parametrize(
    ("module", "function", "name"),
    [
        (doctor_gpu, "look", "GPUs"), (doctor_gpu_checks, "judge", "GPUs"), (doctor_libraries, "look", "libraries"),
        (doctor_library_checks, "judge", "libraries"), (doctor_engine, "look", "Docker engine"),
        (doctor_engine, "judge", "Docker engine"), (doctor_machine, "memory", "memory"), (doctor_machine, "uv", "uv"),
        (doctor_machine, "installed", "interpreters"), (doctor_machine, "look_at_disk", "disk"),
        (doctor_families, "look", "project"), (doctor_families, "judge", "families"),
    ],
)  # fmt: skip
def test_a_check_that_crashes_is_told_and_costs_no_other(
    tmp_path: Path, module: Any, function: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(module, function, crash)
    report = doctor.examine(Project(matrix=ROOT / "no-such-matrix.yaml"), host(tmp_path))
    check = next(check for check in report.checks if check.name == name)
    assert check.state == "problem" and name in report.problems
    assert "could not be looked at: ZeroDivisionError: odd (test_doctor.py:" in check.found and check.mend == doctor.BUG
    assert len(report.checks) > 8 and "ZeroDivisionError" in text_of(report)


@pytest.mark.usefixtures("_own_engine")
def test_a_check_that_hangs_is_told_and_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(doctor_engine, "look", lambda host: release.wait(60))
    started = time.monotonic()
    report = doctor.examine(Project(matrix=ROOT / "no-such-matrix.yaml"), host(tmp_path), patience=1)
    release.set()
    assert time.monotonic() - started < 10
    check = next(check for check in report.checks if check.name == "Docker engine")
    assert check.found == "could not be looked at: no answer within 1 s"
    assert next(each for each in report.families if each.name == "ngc-pytorch").can == "no"


def test_a_whole_machine_with_a_gpu_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from machines import LOADED, SMI

    says(tmp_path, "nvidia-smi", SMI)
    says(tmp_path, "ldconfig", "")
    machine = host(tmp_path, LOADED)
    (tmp_path / "root/dev/shm").mkdir()
    monkeypatch.setattr(doctor_gpu, "_nvml", lambda host, python: (nvml(H200), ""))
    monkeypatch.setattr(doctor_engine, "look", lambda host: with_info(Runtimes={"nvidia": {}}))
    monkeypatch.setattr(engine, "available", lambda: True)
    monkeypatch.setattr(doctor_machine, "look_at_disk", lambda path: DISK)
    monkeypatch.setattr(interpreters, "uv_binary", lambda: str(command(tmp_path, "uv", "echo uv 0.9.1")))
    report = doctor.examine(Project(matrix=ROOT / "no-such-matrix.yaml"), machine)
    assert report.problems == []
    assert {each.name for each in report.families if each.can != "run"} <= {"l4t"}
    assert "No problem with what the families need." in text_of(report)


def test_help_is_light() -> None:
    code = "import sys, builder.doctor_cli; print([m for m in ('rich', 'yaml', 'docker', 'builder.doctor') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_a_terminal_that_has_not_every_letter(tmp_path: Path) -> None:
    folder = tmp_path / "bücher"
    folder.mkdir()
    code = "import argparse, sys; from builder import doctor_cli as d; d.call(argparse.Namespace(file=sys.argv[1], json=False))"
    environ = {**os.environ, "PYTHONIOENCODING": "ascii", "LD_LIBRARY_PATH": str(folder), "DOCKER_HOST": ""}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "matrix.yaml")], capture_output=True, text=True, check=False, cwd=ROOT,
        env=environ,
    )  # fmt: skip
    told = "".join(done.stdout.split()).replace("|", "")  # the path may be wrapped anywhere
    assert (done.returncode, done.stderr) == (0, "")
    assert "b?cher" in told
