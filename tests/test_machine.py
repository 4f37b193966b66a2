"""What is read of the machine, and what of the host's variables reaches a worker."""

from __future__ import annotations

import dataclasses
import os
import sys
import types
from pathlib import Path
from typing import Any

import factory
import pytest

from builder import machine
from builder.environment import Place, venv
from builder.lock import Pins
from builder.store import Store


def nvml(**answers: Any) -> types.ModuleType:
    """A pynvml whose functions give these answers, or raise them."""
    module = types.ModuleType("pynvml")

    def function(answer: Any) -> Any:
        def call(*arguments: object) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    well = {
        "nvmlInit": None, "nvmlShutdown": None, "nvmlSystemGetDriverVersion": "580.1", "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": 0, "nvmlDeviceGetCudaComputeCapability": (8, 9), "nvmlDeviceGetName": "Test GPU",
        "nvmlDeviceGetMemoryInfo": types.SimpleNamespace(total=1 << 30), "nvmlDeviceGetUUID": "GPU-1",
        "nvmlSystemGetCudaDriverVersion": 12040, "nvmlDeviceGetBrand": 15,
    }  # fmt: skip
    for name, answer in {**well, **answers}.items():
        setattr(module, name, function(answer))
    return module


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend that a driver is loaded, and that NVML answers like this."""

    def pretend(**answers: Any) -> machine.Machine:
        node = tmp_path / "nvidiactl"
        node.touch()
        monkeypatch.setattr(machine, "_DRIVER", (str(node),))
        monkeypatch.setitem(sys.modules, "pynvml", nvml(**answers))
        return machine.read()

    return pretend


def test_a_gpu_that_answers_is_there(driver: Any) -> None:
    here = driver()
    assert [gpu.as_dict() for gpu in here.gpus] == [
        {"name": "Test GPU", "compute_capability": "8.9", "memory": 1 << 30, "uuid": "GPU-1", "brand": "geforcertx"}
    ]
    assert here.driver == "580.1"
    assert here.has("nvidia-gpu")
    assert "gpu_trouble" not in here.as_dict()


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"nvmlInit": RuntimeError("Driver/library version mismatch")}, "Driver/library version mismatch"),
        ({"nvmlDeviceGetHandleByIndex": RuntimeError("GPU is lost"), "nvmlShutdown": RuntimeError("x")}, "GPU is lost"),
        ({"nvmlDeviceGetCount": 0}, "no GPU"),
    ],
)
def test_a_driver_that_does_not_answer_is_no_machine_without_a_gpu(driver: Any, answers: Any, words: str) -> None:
    here = driver(**answers)
    assert here.gpus == ()
    assert words in here.gpu_trouble
    assert words in here.as_dict()["gpu_trouble"]
    family = factory.family("gpu", device="cuda", needs=("nvidia-gpu",))
    engine = factory.stack("engine", "gpu")
    plan = factory.planner(engine, machine=here, families={"gpu": family}).plan([factory.cell(engine)])
    assert words in plan.chains[0].engine.skipped
    assert "has none" not in plan.chains[0].engine.skipped


def test_without_a_driver_there_is_no_trouble(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_DRIVER", (str(tmp_path / "none"),))
    here = machine.read()
    assert (here.gpus, here.gpu_trouble) == ((), "")
    assert here.lacks("nvidia-gpu") == "needs an NVIDIA GPU, and this machine has none"


def test_a_reason_to_skip_is_part_of_the_cells_key() -> None:
    family = factory.family("gpu", device="cuda", needs=("nvidia-gpu",))
    engine = factory.stack("engine", "gpu")
    broken = dataclasses.replace(factory.MACHINE, gpu_trouble="broken")
    keys = {
        factory.planner(engine, machine=here, families={"gpu": family}).plan([factory.cell(engine)]).chains[0].key()
        for here in (factory.MACHINE, broken)
    }
    assert len(keys) == 2, "or the outcome that was kept would name the old reason"


LIBRARIES = (
    "ONEDNN_MAX_CPU_ISA", "OMP_NUM_THREADS", "ORT_DISABLE_ALL", "OV_CPU_X", "TF_ENABLE_ONEDNN_OPTS", "KMP_AFFINITY",
    "MKL_NUM_THREADS", "NVIDIA_TF32_OVERRIDE", "OPENBLAS_CORETYPE", "LD_PRELOAD", "PYTHONPATH", "UV_CACHE_DIR",
)  # fmt: skip


def test_only_what_is_listed_reaches_a_worker() -> None:
    kept = {
        "PATH": "/bin", "HOME": "/h", "LC_ALL": "C", "TMPDIR": "/t", "LD_LIBRARY_PATH": "/l",
        "CUDA_VISIBLE_DEVICES": "0",
    }  # fmt: skip
    assert venv.clean({**kept, **dict.fromkeys(LIBRARIES, "1")}) == kept


@pytest.mark.parametrize("name", machine.RESULTS)
def test_what_is_kept_and_can_change_results_is_in_the_keys(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert name in venv.KEPT
    monkeypatch.delenv(name, raising=False)
    before = machine.read()
    monkeypatch.setenv(name, "1")
    after = machine.read()
    assert before.cpu_key != after.cpu_key
    assert before.gpu_key != after.gpu_key


def test_a_worker_does_not_see_the_hosts_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that `start` really starts: its /proc/PID/environ."""
    for name in LIBRARIES:
        monkeypatch.setenv(name, "1")
    monkeypatch.delenv("LD_PRELOAD")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    environment = venv.Venv(Store(tmp_path), "here", Pins(python="3.11", requirements=(), packages=(), hashes={}))
    environment.python.parent.mkdir(parents=True)
    environment.python.symlink_to(os.path.realpath(sys.executable))
    session = environment.start((), tmp_path / "log.txt", 60, place=Place(writable=tmp_path))
    try:
        seen = Path(f"/proc/{session.pid}/environ").read_bytes().decode().split("\0")
    finally:
        session.close()
    names = {entry.partition("=")[0] for entry in seen if entry}
    assert {"PATH", "CUDA_VISIBLE_DEVICES"} <= names
    assert names <= {*venv.KEPT, *(name for name in os.environ if name.startswith("LC_"))}
    assert not names & set(LIBRARIES)
