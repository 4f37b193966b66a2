"""pick --here: what is taken of a machine, from where it was read, and what is said of what was not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import machines
import pytest
from picking import JUDGE, STACKS, picked, project_in, run, seen

from builder import doctor_gpu, pick_here
from builder.errors import UsageError
from builder.pick_here import Here
from builder.pick_judge import Question

T4 = {
    **machines.H200,
    "index": 1,
    "name": "Tesla T4",
    "compute_capability": "7.5",
    "uuid": "GPU-t4",
    "memory": 16 << 30,
}
SMI = machines.SMI


def here(
    folder: Path, answer: object, *, smi: str | None = SMI, files: Mapping[str, str] = machines.LOADED, **environ: str
) -> Here:
    """What is taken of a machine whose NVML answers so."""
    host = machines.host(folder, files, **environ)
    if smi is not None:
        machines.says(folder, "nvidia-smi", smi, 0 if smi.startswith("<?xml") else 9)
    return pick_here.of(doctor_gpu.look(host, machines.python(folder, answer)))


def test_a_machine_with_one_gpu(tmp_path: Path) -> None:
    found = here(tmp_path, machines.nvml(machines.H200))
    assert found.lines == (
        "GPU 0: NVIDIA H200, compute capability 9.0, 140.4 GiB (by NVML)",
        "driver 580.159.04 (by NVML, the kernel's module and nvidia-smi), runs CUDA up to 13.0 (by NVML)",
    )
    assert (found.gpu.name, found.gpu.capabilities, found.gpu.kind) == ("NVIDIA H200", ("9.0",), "datacenter")
    assert found.gpu.names == ()
    assert found.data["gpus"][0]["uuid"] == machines.UUID and found.data["source"] == "NVML"


def test_no_gpu(tmp_path: Path) -> None:
    found = here(tmp_path, "", smi=None, files={})
    assert found.gpu.name == "none" and found.gpu.capabilities == () and found.driver == ""
    assert found.lines == ("no NVIDIA GPU: no driver is loaded",)


def test_a_gpu_without_a_driver_is_not_no_gpu(tmp_path: Path) -> None:
    card = "/sys/bus/pci/devices/0000:01:00.0"
    files = {f"{card}/vendor": "0x10de\n", f"{card}/class": "0x030000\n"}
    with pytest.raises(
        UsageError, match=r"0000:01:00.0 on PCI is NVIDIA's, and no NVIDIA driver is loaded; ask with --gpu"
    ):
        here(tmp_path, "", smi=None, files=files)


def test_nvidia_smi_where_nvml_does_not_answer(tmp_path: Path) -> None:
    found = here(tmp_path, machines.nvml(error="Driver/library version mismatch", driver=None, cuda=None))
    assert found.gpu.capabilities == ("9.0",)
    assert found.lines[0] == "GPU 0: NVIDIA H200, compute capability 9.0, 140.4 GiB (name by nvidia-smi)"
    assert "runs CUDA up to 13.0 (by nvidia-smi)" in found.lines[1]
    assert (
        "NVML does not answer: Driver/library version mismatch; the compute capability is the catalog's"
        in found.lines[2]
    )


def test_a_driver_that_answers_nobody(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"does not answer: NVML: .*mismatch; nvidia-smi: Failed to initialize NVML.*--gpu and"
    ):
        here(tmp_path, machines.nvml(error="Driver/library version mismatch"), smi="Failed to initialize NVML")


def test_a_gpu_that_only_nvidia_smi_tells_and_nobody_knows(tmp_path: Path) -> None:
    smi = SMI.replace("NVIDIA H200", "NVIDIA Card of Tomorrow")
    with pytest.raises(UsageError, match="'NVIDIA Card of Tomorrow' no compute capability is known"):
        here(tmp_path, machines.nvml(error="gone"), smi=smi)


def test_a_gpu_that_the_catalog_does_not_know_is_taken_by_its_capability(tmp_path: Path) -> None:
    card = {**machines.H200, "name": "NVIDIA Card of Tomorrow", "compute_capability": "8.9"}
    found = here(tmp_path, machines.nvml(card))
    assert found.gpu.capabilities == ("8.9",) and found.gpu.kind == ""
    assert JUDGE.verdicts(STACKS["tensorrt-10.9.0.34-cuda12"], Question(gpu=found.gpu))[0].state == "supported"


def test_several_different_gpus_must_all_be_taken(tmp_path: Path) -> None:
    found = here(tmp_path, machines.nvml(machines.H200, T4), smi=None)
    assert found.gpu.names == ("NVIDIA H200", "Tesla T4") and found.gpu.capabilities == ("7.5", "9.0")
    assert [line[:5] for line in found.lines[:2]] == ["GPU 0", "GPU 1"]
    # TensorRT 8.5 takes a T4 and no H200; 10.9 takes both; a V100 beside them would end at 10.4.
    one = Question(gpu=found.gpu)
    assert JUDGE.verdicts(STACKS["tensorrt-10.9.0.34-cuda12"], one)[0].state == "supported"
    old = {**T4, "name": "Tesla V100-SXM2-16GB", "compute_capability": "7.0"}
    two = Question(gpu=here(tmp_path, machines.nvml(machines.H200, old), smi=None).gpu)
    verdict = JUDGE.verdicts(STACKS["tensorrt-10.9.0.34-cuda12"], two)[0]
    assert verdict.state == "unsupported" and "from 7.5" in verdict.because
    # A precision that one of them lacks.
    fp8 = Question(gpu=found.gpu, precision="fp8")
    assert JUDGE.verdicts(STACKS["tensorrt-10.9.0.34-cuda12"], fp8)[1].state == "unsupported"


def test_a_run_on_one_of_several_gpus_is_not_one_on_all(tmp_path: Path) -> None:
    question = Question(gpu=here(tmp_path, machines.nvml(machines.H200, T4), smi=None).gpu, needs={"tensorrt": ">=10"})
    half = picked(question, seen(gpus=(("Tesla T4", "7.5"),))).choices[0].evidence
    assert half.of == "verified elsewhere"
    both = picked(question, seen(gpus=(("Tesla T4", "7.5"), ("NVIDIA H200", "9.0")))).choices[0].evidence
    assert both.of == "verified"


INSTANCE = {"uuid": "MIG-1111", "name": "NVIDIA H200 MIG 1g.18gb", "memory": 18 << 30}


def test_mig(tmp_path: Path) -> None:
    found = here(tmp_path, machines.nvml({**machines.H200, "mig": True, "mig_instances": [INSTANCE]}))
    assert found.gpu.name == "NVIDIA H200"
    assert (
        "GPU 0 is in MIG mode (instances: NVIDIA H200 MIG 1g.18gb): taken for the whole card's kind" in found.lines[-1]
    )
    with pytest.raises(UsageError, match="GPU 0 is in MIG mode without an instance"):
        here(tmp_path, machines.nvml({**machines.H200, "mig": True, "mig_instances": []}))
    mixed = machines.nvml({**machines.H200, "mig": True, "mig_instances": []}, T4)
    assert here(tmp_path, mixed, smi=None).gpu.name == "Tesla T4"


@pytest.mark.parametrize(
    ("visible", "taken", "said"),
    [
        ("0", ["GPU-a"], "leaves out GPU 1"),
        ("GPU-b", ["GPU-b"], "leaves out GPU 0"),
        ("1,7,0", ["GPU-b"], "leaves out GPU 0"),
        ("0,1", ["GPU-a", "GPU-b"], ""),
        ("", [], "leaves out GPU 0, 1"),
        ("-1", [], "leaves out GPU 0, 1"),
    ],
)
def test_cuda_visible_devices(visible: str, taken: list[str], said: str, tmp_path: Path) -> None:
    two = machines.nvml({**machines.H200, "uuid": "GPU-a"}, {**machines.H200, "uuid": "GPU-b", "index": 1})
    found = here(tmp_path, two, smi=None, CUDA_VISIBLE_DEVICES=visible)
    assert [gpu["uuid"] for gpu in found.data["gpus"]] == taken
    assert (said in found.lines[-1]) if said else len(found.lines) == 3
    if not taken:
        assert found.gpu.name == "none" and found.lines[0] == "no GPU that CUDA shows"


def test_numbers_of_different_cards_are_cudas_own(tmp_path: Path) -> None:
    """CUDA counts the fastest first, NVML by the PCI address."""
    found = here(tmp_path, machines.nvml(machines.H200, T4), smi=None, CUDA_VISIBLE_DEVICES="0")
    assert len(found.gpu.names) == 2 and "all of them are taken" in found.lines[-1]


def test_who_disagrees_is_said(tmp_path: Path) -> None:
    found = here(tmp_path, machines.nvml(machines.H200, driver="550.1"))
    assert found.driver == "550.1"
    assert "they disagree on the driver: NVML says 550.1, the kernel's module says 580.159.04" in found.lines[-1]
    found = here(tmp_path, machines.nvml(machines.H200, {**machines.H200, "uuid": "GPU-b", "index": 1}))
    assert "nvidia-smi lists 1 GPUs, 1 of the 2 that NVML tells" in found.lines[-1]
    found = here(tmp_path, machines.nvml(machines.H200, error="GPU 1: GPU is lost"))
    assert "NVML did not tell all: GPU 1: GPU is lost" in found.lines[-1]


def test_a_jetson_board(tmp_path: Path) -> None:
    files = {"/proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0"}
    found = here(tmp_path, "", smi=None, files=files)
    assert found.gpu.capabilities == ("8.7",) and found.gpu.kind == "jetson" and found.driver == ""


def test_the_command_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def look(_host: Any) -> doctor_gpu.Seen:
        return doctor_gpu.Seen(loaded=True, nvml=machines.nvml(machines.H200))

    monkeypatch.setattr(doctor_gpu, "look", look)
    project = project_in(tmp_path)
    assert run(project, "--here", "--need", "tensorrt>=10", "--limit", "1") == 0
    text = capsys.readouterr().out
    assert text.startswith("Here: GPU 0: NVIDIA H200, compute capability 9.0, 140.4 GiB (by NVML)\n")
    assert "\nAsked: GPU NVIDIA H200 (compute capability 9.0), driver 580.159.04, tensorrt>=10\n" in text
    assert run(project, "--here", "--emit", "json", "--need", "tensorrt>=10") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["here"]["gpus"][0]["compute_capability"] == "9.0" and data["here"]["driver"] == "580.159.04"
    assert run(project, "--here", "--driver", "470.57.02", "--need", "tensorrt>=10", "--limit", "1") == 0
    assert "driver 470.57.02" in capsys.readouterr().out
    assert run(project, "--here", "--need", "tensorrt", "--emit", "docker", "--offline") == 0
    found = capsys.readouterr()
    assert "Here: GPU 0" in found.err and "Here" not in found.out
