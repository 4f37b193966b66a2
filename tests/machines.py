"""Made-up machines for the tests of doctor: a folder as root, commands as scripts, NVML's answer as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.doctor_host import Host

SMI = (Path(__file__).parent / "inputs" / "nvidia-smi-h200.xml").read_text(encoding="utf-8")
"""`nvidia-smi -q -x` of a machine with one NVIDIA H200 and driver 580.159.04; UUID, serial number and pdi replaced."""
UUID = "GPU-00000000-1111-2222-3333-444444444444"
H200: Mapping[str, Any] = {
    "index": 0, "name": "NVIDIA H200", "compute_capability": "9.0", "memory": 150754820096, "uuid": UUID, "minor": 0,
    "persistence": True, "ecc": True, "ecc_errors": 0, "compute_mode": "default", "mig": False, "mig_pending": False,
    "mig_instances": [],
}  # fmt: skip
"""What NVML said of the same machine."""
VERSION = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Tue Jan 1 00:00:00 UTC 2026\nGCC version: gcc 13\n"
)
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (a@b)\n"
#: Files of a machine with that GPU.
LOADED: Mapping[str, str] = {
    "/proc/driver/nvidia/version": VERSION,
    "/proc/driver/nvidia/gpus/0000:00:06.0/information": "Model: NVIDIA H200\nDevice Minor: \t 0\n",
    "/dev/nvidia0": "", "/dev/nvidiactl": "", "/dev/nvidia-uvm": "",
}  # fmt: skip


def nvml(*gpus: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {"driver": "580.159.04", "cuda": "13.0", "gpus": list(gpus), "error": "", **changes}


def host(folder: Path, files: Mapping[str, str] | None = None, **environ: str) -> Host:
    root = folder / "root"
    for name, text in (files or {}).items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    root.mkdir(parents=True, exist_ok=True)
    bin_ = folder / "bin"
    bin_.mkdir(exist_ok=True)
    return Host(root=root, environ={"PATH": str(bin_), "HOME": str(folder), **environ})


def command(folder: Path, name: str, body: str) -> Path:
    """A script in the fake machine's PATH."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def says(folder: Path, name: str, text: str, code: int = 0) -> Path:
    """A command that prints `text` and ends with `code`."""
    (folder / f"{name}.out").write_text(text, encoding="utf-8")
    return command(folder, name, f"/bin/cat '{folder}/{name}.out'; exit {code}")


def python(folder: Path, answer: object) -> str:
    """Stands for the interpreter that asks NVML."""
    return str(says(folder, "fake-python", answer if isinstance(answer, str) else json.dumps(answer)))
