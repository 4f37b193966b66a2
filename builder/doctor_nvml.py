"""What NVML says of the driver and its GPUs, as JSON on standard output.

Runs as a process of its own (doctor_gpu.py starts it): a library that hangs or crashes, as a half upgraded driver's may,
costs `doctor` one answer. Each figure is asked for itself, since cards and drivers differ in what they can tell.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

VOLATILE_UNCORRECTED = (1, 0)
"""nvml.h: NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC (since the driver was loaded)."""
COMPUTE_MODES = ("default", "exclusive-thread", "prohibited", "exclusive-process")
"""nvml.h, nvmlComputeMode_t."""


def main() -> None:
    print(json.dumps(read()))


def read() -> dict[str, Any]:
    """{driver, cuda, gpus: [...], error}; `error` is '' when all was told."""
    out: dict[str, Any] = {"driver": None, "cuda": None, "gpus": [], "error": ""}
    try:
        import pynvml
    except ImportError as error:
        return {**out, "error": f"the package nvidia-ml-py is not installed ({error})"}
    try:
        pynvml.nvmlInit()
    except Exception as error:
        return {**out, "error": str(error)}
    try:
        out["driver"] = _try(lambda: str(pynvml.nvmlSystemGetDriverVersion()))
        number = _try(pynvml.nvmlSystemGetCudaDriverVersion)
        out["cuda"] = f"{number // 1000}.{number % 1000 // 10}" if number else None
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                out["gpus"].append(_gpu(pynvml, index))
            except Exception as error:
                out["error"] = f"GPU {index}: {error}"
    except Exception as error:
        out["error"] = str(error)
    finally:
        with contextlib.suppress(Exception):
            pynvml.nvmlShutdown()
    return out


def _gpu(nvml: Any, index: int) -> dict[str, Any]:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    ecc = _try(lambda: nvml.nvmlDeviceGetEccMode(handle)[0])
    mode = _try(lambda: nvml.nvmlDeviceGetComputeMode(handle))
    mig = _try(lambda: nvml.nvmlDeviceGetMigMode(handle))
    return {
        "index": index,
        "name": _name(nvml, handle),
        "compute_capability": f"{major}.{minor}",
        "memory": _memory(nvml, handle),
        "uuid": str(nvml.nvmlDeviceGetUUID(handle)),
        "minor": _try(lambda: int(nvml.nvmlDeviceGetMinorNumber(handle))),
        "persistence": _flag(_try(lambda: nvml.nvmlDeviceGetPersistenceMode(handle))),
        "ecc": _flag(ecc),
        "ecc_errors": _try(lambda: int(nvml.nvmlDeviceGetTotalEccErrors(handle, *VOLATILE_UNCORRECTED)))
        if ecc
        else None,
        "compute_mode": COMPUTE_MODES[mode] if isinstance(mode, int) and 0 <= mode < len(COMPUTE_MODES) else None,
        "mig": None if mig is None else bool(mig[0]),
        "mig_pending": None if mig is None else bool(mig[1]),
        "mig_instances": _instances(nvml, handle) if mig and mig[0] else [],
    }


def _instances(nvml: Any, handle: Any) -> list[dict[str, Any]]:
    out = []
    for index in range(_try(lambda: int(nvml.nvmlDeviceGetMaxMigDeviceCount(handle))) or 0):
        try:
            found = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            uuid = str(nvml.nvmlDeviceGetUUID(found))
        except Exception:  # noqa: S112 - a place where no instance is
            continue
        out.append(
            {"uuid": uuid, "name": _try(partial(_name, nvml, found)), "memory": _try(partial(_memory, nvml, found))}
        )
    return out


def _name(nvml: Any, handle: Any) -> str:
    return str(nvml.nvmlDeviceGetName(handle))


def _memory(nvml: Any, handle: Any) -> int:
    return int(nvml.nvmlDeviceGetMemoryInfo(handle).total)


def _try(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception:  # not supported by this card, driver or library
        return None


def _flag(value: Any) -> bool | None:
    return None if value is None else bool(value)
