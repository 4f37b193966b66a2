"""This machine, as far as it can change a result: processor, memory, GPUs and their driver. Starts no process."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from builder.values import digest

RESULTS = ("CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")
"""The host's variables that a worker keeps (see environment/venv.py) and that can change what it loads or runs on."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    name: str
    compute_capability: str
    memory: int
    """Bytes."""
    uuid: str
    brand: str = "unknown"
    """As images name it in NVIDIA_REQUIRE_CUDA: tesla, geforce, quadro, nvidiartx..."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name, "compute_capability": self.compute_capability, "memory": self.memory, "uuid": self.uuid,
            "brand": self.brand,
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
    cuda: str | None = None
    """The newest CUDA that the driver supports, as "13.0"."""
    gpu_trouble: str = ""
    """Why the driver does not answer, where one is loaded."""
    environment: str = ""
    """Digest of those of the host's variables that reach a worker and can change its results."""

    @cached_property
    def cpu_key(self) -> str:
        return digest([self.cpu, self.flags, self.environment])

    @cached_property
    def gpu_key(self) -> str:
        """What an engine built here depends on: GPU models, compute capabilities, driver. Not which card of a kind."""
        return digest(
            [sorted({(gpu.name, gpu.compute_capability) for gpu in self.gpus}), self.driver, self.environment]
        )

    def has(self, need: str) -> bool:
        return bool(self.gpus) if need == "nvidia-gpu" else True

    def lacks(self, need: str) -> str:
        """Why `has` says no, in words."""
        if need == "nvidia-gpu" and self.gpu_trouble:
            return f"needs an NVIDIA GPU; this machine's driver does not answer: {self.gpu_trouble}"
        return {"nvidia-gpu": "needs an NVIDIA GPU, and this machine has none"}[need]

    def as_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "cpu": self.cpu, "cores": self.cores, "memory": self.memory,
            "gpus": [gpu.as_dict() for gpu in self.gpus], "driver": self.driver, "cuda": self.cuda,
            "kernel": platform.release(), "platform": f"{platform.system()}-{platform.machine()}",
            "glibc": platform.libc_ver()[1],
        }  # fmt: skip
        if self.gpu_trouble:
            out["gpu_trouble"] = self.gpu_trouble
        return out


def read() -> Machine:
    """Look at the machine this program runs on."""
    cpuinfo = _text("/proc/cpuinfo")
    model = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", cpuinfo, re.M)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.M)
    total = re.search(r"^MemTotal:\s*(\d+) kB", _text("/proc/meminfo"), re.M)
    gpus, driver, cuda, trouble = _nvml()
    return Machine(
        cpu=model[1].strip() if model else platform.processor() or platform.machine(),
        flags=digest(sorted(flags[1].split()) if flags else [])[:16],
        cores=len(os.sched_getaffinity(0)),
        memory=int(total[1]) * 1024 if total else 0,
        gpus=gpus,
        driver=driver,
        cuda=cuda,
        gpu_trouble=trouble,
        environment=digest([[name, os.environ[name]] for name in RESULTS if os.environ.get(name)]),
    )


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


_BRANDS = (
    "unknown", "quadro", "tesla", "nvs", "grid", "geforce", "titan", "nvidiavapps", "nvidiavpc", "nvidiavcs", "nvidiavws",
    "nvidiacloudgaming", "quadrortx", "nvidiartx", "nvidia", "geforcertx", "titanrtx",
)  # fmt: skip
"""NVML's brands by number (nvml.h, nvmlBrandType_t), as the NVIDIA container toolkit spells them in requirements."""

_DRIVER = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/nvidia0", "/usr/lib/wsl/lib/libnvidia-ml.so.1")
"""Any of them is there where a driver is loaded; in WSL, which has no such device nodes, Windows lends its library."""


def _nvml() -> tuple[tuple[Gpu, ...], str | None, str | None, str]:
    """GPUs, driver, the CUDA it supports and trouble through NVML, asked only where a driver is loaded. All GPUs or none:
    engines that were built for half of them would look as if they had been built for this machine."""
    if not any(Path(path).exists() for path in _DRIVER):
        return (), None, None, ""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception as error:
        return (), None, None, _reason(error)
    gpus: list[Gpu] = []
    driver = cuda = None
    try:
        driver = str(pynvml.nvmlSystemGetDriverVersion())
        with contextlib.suppress(Exception):  # older libraries do not tell
            number = int(pynvml.nvmlSystemGetCudaDriverVersion())
            cuda = f"{number // 1000}.{number % 1000 // 10}"
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
            gpus.append(
                Gpu(
                    name=str(pynvml.nvmlDeviceGetName(handle)), compute_capability=f"{major}.{minor}",
                    memory=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
                    uuid=str(pynvml.nvmlDeviceGetUUID(handle)), brand=_brand(pynvml, handle),
                )
            )  # fmt: skip
    except Exception as error:  # a card that fell off the bus, a driver half upgraded
        return (), driver, cuda, _reason(error)
    finally:
        with contextlib.suppress(Exception):
            pynvml.nvmlShutdown()
    if not gpus:
        return (), driver, cuda, "it knows of no GPU (are the device nodes passed on?)"
    return tuple(gpus), driver, cuda, ""


def _brand(pynvml: Any, handle: Any) -> str:
    try:
        return _BRANDS[pynvml.nvmlDeviceGetBrand(handle)]
    except Exception:
        return "unknown"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
