"""GPUs and their driver, as doctor sees them: every state, on made-up machines; nvidia-smi's real answer, and hostile ones."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
from machines import H200, LOADED, OPEN, SMI, UUID, VERSION, command, host, nvml, python, says

from builder import doctor_gpu, doctor_gpu_checks, doctor_nvml
from builder import machine as machine_module
from builder.doctor_gpu import Seen, Smi
from builder.doctor_host import Check, Host, clean

SAME = Smi(
    driver="580.159.04", cuda="13.0", gpus=({"uuid": UUID, "name": "NVIDIA H200", "memory": 143771, "mig": False},)
)
GOOD = Seen(
    loaded=True, kernel="580.159.04", nodes=dict.fromkeys(("/dev/nvidia0", "/dev/nvidia-uvm", "/dev/nvidiactl"), True),
    minors=(0,), nvml=nvml(H200), smi=SAME, smi_path="/usr/bin/nvidia-smi",
)  # fmt: skip


def judged(seen: Seen) -> dict[str, Check]:
    return {check.name: check for check in doctor_gpu_checks.judge(seen)}


def but(**changes: Any) -> dict[str, Check]:
    return judged(dataclasses.replace(GOOD, **changes))


def look(folder: Path, machine: Host, answer: object) -> Seen:
    return doctor_gpu.look(machine, python=python(folder, answer))


# -- a machine as it should be, and one without a GPU


def test_a_whole_machine_is_read_and_judged(tmp_path: Path) -> None:
    machine = host(tmp_path, LOADED)
    says(tmp_path, "nvidia-smi", SMI)
    seen = look(tmp_path, machine, nvml(H200))
    assert seen.smi == SAME
    assert (seen.kernel, seen.driver, seen.cuda, seen.minors) == ("580.159.04", "580.159.04", "13.0", (0,))
    checks = judged(seen)
    assert {name: check.state for name, check in checks.items()} == dict.fromkeys(
        ("NVIDIA driver", "device nodes", "GPUs", "nvidia-smi"), "ok"
    )
    assert checks["NVIDIA driver"].found == "580.159.04, runs CUDA up to 13.0"
    assert checks["GPUs"].found == f"NVIDIA H200, 140.4 GiB, compute capability 9.0, {UUID}, ECC on, persistence on"


def test_without_a_driver_nothing_is_asked_and_nothing_is_wrong(tmp_path: Path) -> None:
    machine = host(tmp_path)
    command(tmp_path, "nvidia-smi", f"echo asked > '{tmp_path}/asked'")
    seen = look(tmp_path, machine, "not to be asked")
    assert not (tmp_path / "asked").exists()
    checks = judged(seen)
    assert {name: check.state for name, check in checks.items()} == {"NVIDIA driver": "absent", "GPUs": "absent"}
    assert "nvidia-smi is installed, which needs one" in checks["NVIDIA driver"].found


def test_the_open_kernel_module_tells_its_version_too(tmp_path: Path) -> None:
    assert (
        look(tmp_path, host(tmp_path, {**LOADED, "/proc/driver/nvidia/version": OPEN}), nvml(H200)).kernel
        == "580.159.04"
    )


def test_a_version_that_the_kernel_does_not_tell_is_not_made_up(tmp_path: Path) -> None:
    seen = look(tmp_path, host(tmp_path, {"/dev/nvidiactl": ""}), nvml(driver=None, cuda=None))
    assert (
        seen.kernel == "" and judged(seen)["NVIDIA driver"].found == "version not told, which CUDA it runs is not told"
    )


# -- driver


@pytest.mark.parametrize(
    ("driver", "found"),
    [
        ("", "an NVIDIA GPU is at PCI 0000:01:00.0, and NVIDIA's driver is not loaded"),
        ("nouveau", "driven by nouveau, which has no CUDA"),
        ("vfio-pci", "kept for virtual machines (vfio-pci)"),
        ("nvidia", "its driver is not to be seen in here"),
    ],
)
def test_a_card_without_its_driver_is_a_problem(tmp_path: Path, driver: str, found: str) -> None:
    folder = "/sys/bus/pci/devices/0000:01:00.0"
    machine = host(tmp_path, {f"{folder}/vendor": "0x10de\n", f"{folder}/class": "0x030000\n"})
    if driver:
        machine.path(f"{folder}/driver").symlink_to(f"../../drivers/{driver}")
    check = judged(look(tmp_path, machine, "not to be asked"))["NVIDIA driver"]
    assert check.state == "problem" and found in check.found and check.mend


def test_other_makers_cards_and_other_functions_do_not_count(tmp_path: Path) -> None:
    folder = "/sys/bus/pci/devices"
    files = {f"{folder}/a/vendor": "0x8086", f"{folder}/a/class": "0x030000", f"{folder}/b/vendor": "0x10de",
             f"{folder}/b/class": "0x040300"}  # fmt: skip
    assert look(tmp_path, host(tmp_path, files), "").pci == {}


def test_driver_library_version_mismatch(tmp_path: Path) -> None:
    says(
        tmp_path,
        "nvidia-smi",
        "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.159",
        18,
    )
    seen = look(tmp_path, host(tmp_path, LOADED), nvml(driver=None, error="Driver/library version mismatch"))
    checks = judged(seen)
    assert checks["NVIDIA driver"].state == checks["GPUs"].state == checks["nvidia-smi"].state == "problem"
    assert (
        "mismatch: the kernel has 580.159.04" in checks["NVIDIA driver"].found
        and "reboot" in checks["NVIDIA driver"].mend
    )
    assert "Driver/library version mismatch" in checks["nvidia-smi"].found
    assert "container" in judged(dataclasses.replace(seen, container=True))["NVIDIA driver"].mend


def test_two_versions_of_the_driver_are_told() -> None:
    check = but(kernel="570.1")["NVIDIA driver"]
    assert check.state == "problem"
    assert (
        check.found
        == "two versions of the driver: the kernel's module says 570.1, NVML says 580.159.04, nvidia-smi says 580.159.04"
    )


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("", "gave no answer that can be read: ''"),
        ("{", "gave no answer that can be read: '{'"),
        ("[]", "gave no answer that can be read: '[]'"),
        (
            nvml(driver=None, error="the package nvidia-ml-py is not installed"),
            "the package nvidia-ml-py is not installed",
        ),
    ],
)
def test_nvml_that_does_not_answer(tmp_path: Path, answer: object, why: str) -> None:
    seen = look(tmp_path, host(tmp_path, LOADED), answer)
    assert seen.nvml_error == why
    checks = judged(seen)
    assert checks["NVIDIA driver"].state == checks["GPUs"].state == "problem" and why in checks["NVIDIA driver"].found


def test_nvml_that_crashes_or_hangs_costs_one_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = host(tmp_path, LOADED)
    crashes = command(tmp_path, "crashes", "kill -SEGV $$")
    assert doctor_gpu.look(machine, python=str(crashes)).nvml_error == "asking it was killed by signal 11: no message"
    monkeypatch.setattr(doctor_gpu, "SECONDS", 0.3)
    hangs = command(tmp_path, "hangs", "/bin/sleep 60 & wait")
    started = time.monotonic()
    assert doctor_gpu.look(machine, python=str(hangs)).nvml_error == "does not answer within 0.3 s"
    assert time.monotonic() - started < 5


def test_nvml_is_asked_by_an_interpreter_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_gpu, "SECONDS", 60.0)  # a busy machine takes its time to start one
    seen = doctor_gpu.look(
        host(tmp_path, LOADED), python=sys.executable
    )  # this one's pynvml, and no library on most machines
    assert set(seen.nvml) == {"driver", "cuda", "gpus", "error"}


# -- device nodes


def test_absent_nodes_although_the_driver_is_loaded(tmp_path: Path) -> None:
    files = {name: text for name, text in LOADED.items() if not name.startswith("/dev")}
    check = judged(look(tmp_path, host(tmp_path, files), nvml(error="no device")))["device nodes"]
    assert check.state == "problem"
    assert check.found == "the driver is loaded, and /dev/nvidiactl, /dev/nvidia-uvm, /dev/nvidia0 are not there"
    assert "`sudo nvidia-modprobe -c 0 -u`" in check.mend
    inside = judged(look(tmp_path, host(tmp_path, {"/.dockerenv": ""}), nvml(error="no device")))["device nodes"]
    assert "--gpus all" in inside.mend


def test_one_card_of_two_without_its_node() -> None:
    check = but(minors=(0, 1))["device nodes"]
    assert check.found == "the driver is loaded, and /dev/nvidia1 is not there" and "-c 1" in check.mend
    assert but(minors=(0, 1), container=True)["device nodes"].state == "ok"  # only one was passed on


def test_nodes_that_came_up_when_the_driver_was_asked(tmp_path: Path) -> None:
    files = {name: text for name, text in LOADED.items() if name != "/dev/nvidia-uvm"}
    machine = host(tmp_path, files)
    says(tmp_path, "nvidia-smi", SMI)
    answer = python(tmp_path, nvml(H200))
    makes = command(tmp_path, "makes", f"echo > '{machine.root}/dev/nvidia-uvm'; exec '{answer}'")
    check = judged(doctor_gpu.look(machine, python=str(makes)))["device nodes"]
    assert check.state == "warning" and check.found == "/dev/nvidia-uvm came up when the driver was asked"


def test_nodes_without_permission() -> None:
    check = but(nodes={"/dev/nvidia0": False, "/dev/nvidia-uvm": True, "/dev/nvidiactl": False})["device nodes"]
    assert check.state == "problem" and check.found == "no permission to use /dev/nvidia0, /dev/nvidiactl"


@pytest.mark.parametrize("changes", [{"wsl": True}, {"jetson": "NVIDIA Jetson AGX Orin"}])
def test_where_nodes_have_other_names_they_are_not_asked_for(changes: dict[str, Any]) -> None:
    assert "device nodes" not in but(nodes={}, **changes)


# -- GPUs


@pytest.mark.parametrize(
    ("card", "state", "found", "mend"),
    [
        ({"mig": True, "mig_pending": True}, "problem", "GPU 0 is in MIG mode and has no instance", "mig -i 0 -cgi"),
        ({"compute_mode": "prohibited"}, "problem", "compute mode `prohibited`", "-c 0"),
        ({"ecc_errors": 3}, "warning", "3 uncorrected memory errors", "replace"),
        ({"mig_pending": True}, "warning", "MIG mode of GPU 0 changes at its next reset", "reset"),
        ({"mig": True, "mig_pending": True, "mig_instances": [{"uuid": "MIG-1", "name": "NVIDIA H200 MIG 1g.18gb", "memory": 1}]},
         "ok", "MIG on: NVIDIA H200 MIG 1g.18gb MIG-1", ""),
        ({"mig": None, "mig_pending": None, "ecc": None, "persistence": None, "compute_mode": None, "ecc_errors": None},
         "ok", UUID, ""),
    ],
)  # fmt: skip
def test_states_of_a_card(card: dict[str, Any], state: str, found: str, mend: str) -> None:
    check = but(nvml=nvml({**H200, **card}), smi=None, smi_path="")["GPUs"]
    assert check.state == state and found in check.found and mend in check.mend


def test_a_card_that_does_not_answer_beside_one_that_does() -> None:
    check = but(nvml_error="GPU 1: GPU is lost")["GPUs"]
    assert check.state == "problem" and "not all of them answer: GPU 1: GPU is lost" in check.found


def test_a_driver_without_cards_and_a_jetson() -> None:
    assert but(nvml=nvml())["GPUs"].found == "the driver has none" and but(nvml=nvml())["GPUs"].state == "problem"
    check = but(nvml=nvml(), jetson="NVIDIA Jetson AGX Orin")["GPUs"]
    assert check.state == "warning" and "EngineMatrix does not see it" in check.found


@pytest.mark.parametrize(
    ("visible", "state", "found"),
    [
        ("0", "ok", "0"), (UUID[:12], "ok", UUID[:12]), ("", "problem", "'' hides every GPU"), ("-1", "problem", "'-1' hides"),
        ("7", "problem", "hides every GPU"), ("0,7", "warning", "'7' is no GPU here"), ("\x1b[31m0", "problem", "'0' hides"),
    ],
)  # fmt: skip
def test_visible_devices(visible: str, state: str, found: str) -> None:
    check = but(visible=visible)["CUDA_VISIBLE_DEVICES"]
    assert check.state == state and found in check.found
    assert judged(Seen(loaded=False, visible=visible))["CUDA_VISIBLE_DEVICES"].state == "ok"  # no GPU to hide


# -- nvidia-smi


def test_every_difference_between_the_two_sources_is_told() -> None:
    other = Smi(
        driver="570.1", cuda="12.8", gpus=({"uuid": UUID, "name": "NVIDIA H100", "memory": 81559, "mig": True},
                                           {"uuid": "GPU-2", "name": "x", "memory": None, "mig": None}),
    )  # fmt: skip
    seen = dataclasses.replace(GOOD, smi=other)
    assert doctor_gpu_checks.differences(seen) == [
        "driver 580.159.04 here, 570.1 there",
        "CUDA 13.0 here, 12.8 there",
        "GPU-2 is in nvidia-smi's list only",
        f"{UUID} is NVIDIA H200 here, NVIDIA H100 there",
        f"{UUID} has 143771 MiB here, 81559 MiB there",
        f"MIG mode of {UUID} is off here, on there",
    ]
    assert judged(seen)["nvidia-smi"].state == "problem"
    lacking = but(smi=dataclasses.replace(SAME, gpus=()))["nvidia-smi"]
    assert lacking.found == f"differs from NVML: {UUID} is not in nvidia-smi's list"


def test_what_only_one_source_knows_is_no_difference() -> None:
    assert but(smi=dataclasses.replace(SAME, cuda="N/A"))["nvidia-smi"].state == "ok"


def test_without_nvidia_smi_there_is_one_source() -> None:
    assert but(smi=None, smi_path="")["nvidia-smi"].state == "absent"


def test_an_nvidia_smi_that_fails_alone_is_a_warning(tmp_path: Path) -> None:
    says(tmp_path, "nvidia-smi", "something\x1b]0;owned\x07 odd", 9)
    check = judged(look(tmp_path, host(tmp_path, LOADED), nvml(H200)))["nvidia-smi"]
    assert check.state == "warning" and check.found.endswith("something0;owned odd") and "\x1b" not in check.found


HOSTILE = {
    "nothing": ("", "no element found"),
    "no XML": ("\x00\x01garbage", "not well-formed"),
    "another document": ("<html/>", "it is a <html>"),
    "half of it": (SMI[:3000], "cannot be read: "),
    "entities": ('<!DOCTYPE x [<!ENTITY a "aaaa">]><nvidia_smi_log/>', "it defines entities"),
    "an outer entity": (
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><nvidia_smi_log>&a;</nvidia_smi_log>',
        "entities",
    ),
    "deep": ("<a>" * 200_000 + "</a>" * 200_000, "it is a <a>"),
    "too much": ("x" * (5 << 20), "prints more than 4 MiB"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_output_of_nvidia_smi(tmp_path: Path, name: str) -> None:
    text, why = HOSTILE[name]
    says(tmp_path, "nvidia-smi", text)
    seen = look(tmp_path, host(tmp_path, LOADED), nvml(H200))
    assert seen.smi is None and why in seen.smi_error and len(seen.smi_error) < 300
    assert judged(seen)["nvidia-smi"].state == "warning"


def test_hostile_values_are_text_and_short() -> None:
    text = (
        SMI.replace("NVIDIA H200", "[bold]\t" + "x" * 9999)
        .replace("143771 MiB", "9" * 40 + " MiB")
        .replace("580.159.04", "")
    )
    smi = doctor_gpu.parse(text)
    assert smi.driver == "" and len(smi.gpus[0]["name"]) <= 100 and smi.gpus[0]["memory"] is None


def test_nvidia_smi_that_hangs_or_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_gpu, "SECONDS", 0.3)
    machine = host(tmp_path, LOADED)
    command(tmp_path, "nvidia-smi", "echo '<nvidia_smi_log>'; /bin/sleep 60")
    assert doctor_gpu._smi(machine, str(tmp_path / "bin/nvidia-smi")) == (None, "does not answer within 0.3 s")
    (tmp_path / "bin/broken").write_text("#!/nonexistent\n")
    (tmp_path / "bin/broken").chmod(0o755)
    assert "cannot be run" in doctor_gpu._smi(machine, str(tmp_path / "bin/broken"))[1]


def test_a_command_leaves_nothing_running(tmp_path: Path) -> None:
    machine = host(tmp_path)
    command(tmp_path, "leaves", f"/bin/sleep 60 >/dev/null 2>&1 & echo $! > '{tmp_path}/pid'")
    assert machine.ask([str(tmp_path / "bin/leaves")], 5).code == 0
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            break
        if state == "Z":
            break
        time.sleep(0.02)
    else:
        pytest.fail("it still runs")


def test_clean_takes_away_what_steers_a_terminal() -> None:
    assert clean("a\x1b[31mb\x1b]0;t\x07\nc\u202ed") == "ab0;t c d"
    assert clean("x" * 300) == "x" * 197 + "..."


def test_wsl_has_its_driver_elsewhere(tmp_path: Path) -> None:
    machine = host(tmp_path, {"/usr/lib/wsl/lib/libnvidia-ml.so.1": ""})
    seen = look(tmp_path, machine, nvml(H200))
    assert seen.wsl and judged(seen)["GPUs"].state == "ok"
    assert f"{doctor_gpu.WSL}/libnvidia-ml.so.1" in machine_module._DRIVER  # a run looks there too


# -- NVML itself, made up


class Nvml(types.ModuleType):
    """pynvml with one card that knows MIG."""

    def __init__(self) -> None:
        super().__init__("pynvml")

    nvmlInit = nvmlShutdown = staticmethod(lambda: None)  # noqa: N815
    nvmlSystemGetDriverVersion = staticmethod(lambda: "580.1")  # noqa: N815
    nvmlSystemGetCudaDriverVersion = staticmethod(lambda: 13000)  # noqa: N815
    nvmlDeviceGetCount = staticmethod(lambda: 2)  # noqa: N815
    nvmlDeviceGetCudaComputeCapability = staticmethod(lambda handle: (9, 0))  # noqa: N815
    nvmlDeviceGetName = staticmethod(lambda handle: f"card {handle}")  # noqa: N815
    nvmlDeviceGetMemoryInfo = staticmethod(lambda handle: types.SimpleNamespace(total=5))  # noqa: N815
    nvmlDeviceGetUUID = staticmethod(lambda handle: f"GPU-{handle}")  # noqa: N815
    nvmlDeviceGetMigMode = staticmethod(lambda handle: [1, 1])  # noqa: N815
    nvmlDeviceGetMaxMigDeviceCount = staticmethod(lambda handle: 7)  # noqa: N815
    nvmlDeviceGetComputeMode = staticmethod(lambda handle: 2)  # noqa: N815

    @staticmethod
    def nvmlDeviceGetMigDeviceHandleByIndex(handle: int, index: int) -> str:  # noqa: N802
        if index:
            raise RuntimeError("Not Found")
        return f"{handle}.{index}"

    @staticmethod
    def nvmlDeviceGetHandleByIndex(index: int) -> int:  # noqa: N802
        if index:
            raise RuntimeError("GPU is lost")
        return index


def test_what_a_card_cannot_tell_is_none_and_the_rest_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    found = doctor_nvml.read()
    assert found["error"] == "GPU 1: GPU is lost" and found["cuda"] == "13.0"
    (card,) = found["gpus"]
    assert card["mig_instances"] == [{"uuid": "GPU-0.0", "name": "card 0.0", "memory": 5}]
    assert card["compute_mode"] == "prohibited" and card["ecc"] is None and card["persistence"] is None


def test_nvml_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Nvml()
    monkeypatch.setattr(module, "nvmlInit", lambda: 1 / 0, raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert doctor_nvml.read()["error"] == "division by zero"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "nvidia-ml-py is not installed" in doctor_nvml.read()["error"]


def test_the_fixture_is_of_a_real_machine() -> None:
    assert doctor_gpu.parse(SMI) == SAME and VERSION.count("580.159.04") == 1
