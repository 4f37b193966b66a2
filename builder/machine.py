"""This machine, as far as it can change a result: processor, memory, GPUs and their driver. Starts no process."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from builder.values import digest


@dataclass(frozen=True, kw_only=True)
class Gpu:
    name: str
    compute_capability: str
    memory: int
    """Bytes."""
    uuid: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name, "compute_capability": self.compute_capability, "memory": self.memory, "uuid": self.uuid,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Machine:
    cpu: str
    flags: str
    """Digest of the processor's feature flags: libraries choose their kernels by them."""
    cores: int
    memory: int
    """Bytes."""
    gpus: tuple[Gpu, ...]
    driver: str | None

    @cached_property
    def cpu_key(self) -> str:
        return digest([self.cpu, self.flags])

    @cached_property
    def gpu_key(self) -> str:
        """What an engine built here depends on: GPU models, compute capabilities, driver. Not which card of a kind."""
        return digest([sorted({(gpu.name, gpu.compute_capability) for gpu in self.gpus}), self.driver])

    def has(self, need: str) -> bool:
        return bool(self.gpus) if need == "nvidia-gpu" else True

    def as_dict(self) -> dict[str, Any]:
        return {
            "cpu": self.cpu, "cores": self.cores, "memory": self.memory,
            "gpus": [gpu.as_dict() for gpu in self.gpus], "driver": self.driver,
            "kernel": platform.release(), "platform": f"{platform.system()}-{platform.machine()}",
            "glibc": platform.libc_ver()[1],
        }  # fmt: skip


def read() -> Machine:
    """Look at the machine this program runs on."""
    cpuinfo = _text("/proc/cpuinfo")
    model = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", cpuinfo, re.M)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.M)
    total = re.search(r"^MemTotal:\s*(\d+) kB", _text("/proc/meminfo"), re.M)
    gpus, driver = _nvml()
    return Machine(
        cpu=model[1].strip() if model else platform.processor() or platform.machine(),
        flags=digest(sorted(flags[1].split()) if flags else [])[:16],
        cores=len(os.sched_getaffinity(0)),
        memory=int(total[1]) * 1024 if total else 0,
        gpus=gpus,
        driver=driver,
    )


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _nvml() -> tuple[tuple[Gpu, ...], str | None]:
    """GPUs and driver through NVML, asked only where a driver is loaded."""
    if not (Path("/proc/driver/nvidia").exists() or Path("/dev/nvidiactl").exists() or Path("/dev/nvidia0").exists()):
        return (), None
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:
        return (), None
    gpus = []
    try:
        driver = str(pynvml.nvmlSystemGetDriverVersion())
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
            gpus.append(
                Gpu(
                    name=str(pynvml.nvmlDeviceGetName(handle)), compute_capability=f"{major}.{minor}",
                    memory=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
                    uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
                )
            )  # fmt: skip
    finally:
        pynvml.nvmlShutdown()
    return tuple(gpus), driver
