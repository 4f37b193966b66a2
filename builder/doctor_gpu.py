"""GPUs and their driver: the kernel's files, NVML, and `nvidia-smi` as the second source. doctor_gpu_checks.py judges it."""

from __future__ import annotations

import json
import os
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.doctor_host import Host, clean

#: Seconds: a driver without persistence mode wakes each card when it is asked, about a second a card.
SECONDS = 10.0
DRIVER = ("/proc/driver/nvidia", "/sys/module/nvidia", "/dev/nvidiactl", "/dev/nvidia0")
WSL = "/usr/lib/wsl/lib"
DISPLAY = ("0x0300", "0x0302")
"""PCI classes of a display controller: VGA, 3D."""
_KERNEL = re.compile(r"Kernel Module\s+(?:for \S+\s+)?(\d+(?:\.\d+)+)")


@dataclass(frozen=True, kw_only=True)
class Smi:
    """What nvidia-smi tells."""

    driver: str
    cuda: str
    gpus: tuple[Mapping[str, Any], ...]
    """Each: uuid, name, memory (MiB), mig (true, false, None)."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    loaded: bool
    kernel: str = ""
    """Version of the kernel's module, '' when the kernel does not tell."""
    nodes: Mapping[str, bool] = field(default_factory=dict)
    """Device node -> whether this user may read and write it; before anything was asked, which can make nodes."""
    made: tuple[str, ...] = ()
    """Nodes that came up while NVML was asked."""
    minors: tuple[int, ...] = ()
    """Minor numbers of the cards that the kernel's driver has."""
    nvml: Mapping[str, Any] = field(default_factory=dict)
    nvml_error: str = ""
    smi: Smi | None = None
    smi_path: str = ""
    smi_error: str = ""
    pci: Mapping[str, str] = field(default_factory=dict)
    """PCI address of an NVIDIA display controller -> the kernel driver that has it."""
    jetson: str = ""
    wsl: bool = False
    container: bool = False
    visible: str | None = None
    """CUDA_VISIBLE_DEVICES."""

    @property
    def gpus(self) -> Sequence[Mapping[str, Any]]:
        gpus: Sequence[Mapping[str, Any]] = self.nvml.get("gpus") or ()
        return gpus

    @property
    def driver(self) -> str:
        return str(self.nvml.get("driver") or self.kernel or "")

    @property
    def cuda(self) -> str:
        return str(self.nvml.get("cuda") or "")


def look(host: Host, python: str = sys.executable) -> Seen:
    """Ask files, NVML and nvidia-smi. Neither is asked where no driver is loaded: both would load it."""
    wsl = host.exists(f"{WSL}/libnvidia-ml.so.1")
    loaded = any(host.exists(path) for path in DRIVER)
    before = _nodes(host)
    version = _KERNEL.search(host.text("/proc/driver/nvidia/version"))
    smi_path = host.which("nvidia-smi", WSL) or ""
    nvml: Mapping[str, Any] = {}
    nvml_error = smi_error = ""
    smi = None
    if loaded or wsl:
        nvml, nvml_error = _nvml(host, python)
        if smi_path:
            smi, smi_error = _smi(host, smi_path)
    after = _nodes(host)
    return Seen(
        loaded=loaded or wsl,
        kernel=version[1] if version else clean(host.text("/sys/module/nvidia/version"), 30),
        nodes=before, made=tuple(name for name in after if name not in before), minors=_minors(host),
        nvml=nvml, nvml_error=nvml_error, smi=smi, smi_path=smi_path, smi_error=smi_error,
        pci=_pci(host), jetson=_jetson(host), wsl=wsl, container=in_container(host) != "",
        visible=host.environ.get("CUDA_VISIBLE_DEVICES"),
    )  # fmt: skip


def in_container(host: Host) -> str:
    """What kind of container this is, '' for none."""
    if host.exists("/.dockerenv"):
        return "Docker"
    if host.exists("/run/.containerenv"):
        return "Podman"
    named = re.search(r"(?:^|\0)container=([\w.-]+)", host.text("/proc/1/environ"))
    if named:
        return named[1]
    return "Kubernetes" if host.environ.get("KUBERNETES_SERVICE_HOST") else ""


def _nodes(host: Host) -> dict[str, bool]:
    names = [name for name in host.names("/dev") if re.fullmatch(r"nvidia(\d+|ctl|-uvm|-modeset)", name)]
    return {f"/dev/{name}": os.access(host.path(f"/dev/{name}"), os.R_OK | os.W_OK) for name in names}


def _minors(host: Host) -> tuple[int, ...]:
    folder = "/proc/driver/nvidia/gpus"
    texts = (host.text(f"{folder}/{name}/information") for name in host.names(folder))
    return tuple(int(found[1]) for text in texts if (found := re.search(r"Device Minor:\s*(\d{1,4})\s", text)))


def _pci(host: Host) -> dict[str, str]:
    folder = "/sys/bus/pci/devices"
    out = {}
    for name in host.names(folder):
        if host.text(f"{folder}/{name}/vendor").strip() != "0x10de":
            continue
        if host.text(f"{folder}/{name}/class").strip()[:6] in DISPLAY:
            driver = host.path(f"{folder}/{name}/driver")
            out[name] = driver.readlink().name if driver.is_symlink() else ""
    return out


def _jetson(host: Host) -> str:
    model = clean(host.text("/proc/device-tree/model"), 60)
    return model if re.search(r"Jetson|Orin|Xavier|Thor", model) else ""


def _nvml(host: Host, python: str) -> tuple[Mapping[str, Any], str]:
    """NVML in a process of its own, with this one's import path and no other."""
    code = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from builder.doctor_nvml import main; main()"
    root = str(Path(__file__).resolve().parent.parent)
    path = json.dumps([entry for entry in sys.path if entry] + [root])
    answer = host.ask([python, "-I", "-c", code, path], SECONDS)
    if answer.code is None:
        return {}, answer.error
    if answer.code:
        last = answer.error.strip().splitlines()[-1:] or ["no message"]
        how = f"was killed by signal {-answer.code}" if answer.code < 0 else f"ended with {answer.code}"
        return {}, f"asking it {how}: {clean(last[0])}"
    try:
        found = json.loads(answer.out.strip().splitlines()[-1])
        return found, clean(found["error"])
    except (ValueError, KeyError, IndexError, TypeError):
        return {}, f"gave no answer that can be read: {clean(answer.out, 60)!r}"


def _smi(host: Host, path: str) -> tuple[Smi | None, str]:
    answer = host.ask([path, "-q", "-x"], SECONDS)
    if answer.code is None:
        return None, answer.error
    if answer.code:
        return None, clean(answer.out or answer.error) or f"ended with exit code {answer.code}"
    try:
        return parse(answer.out), ""
    except ValueError as error:
        return None, f"its answer cannot be read: {error}"


def parse(text: str) -> Smi:
    """The output of `nvidia-smi -q -x`. Raises ValueError."""
    if "<!ENTITY" in text:
        msg = "it defines entities"
        raise ValueError(msg)
    try:
        log = ET.fromstring(text)  # noqa: S314 - no entities, and no more than doctor_host.LIMIT bytes
    except (ET.ParseError, ValueError, RecursionError) as error:
        msg = clean(error, 80)
        raise ValueError(msg) from error
    if log.tag != "nvidia_smi_log":
        msg = f"it is a <{clean(log.tag, 30)}>, no <nvidia_smi_log>"
        raise ValueError(msg)
    gpus = []
    for gpu in log.iter("gpu"):
        memory = re.match(r"(\d{1,9}) MiB", _of(gpu, "fb_memory_usage/total"))
        mig = _of(gpu, "mig_mode/current_mig")
        gpus.append(
            {
                "uuid": _of(gpu, "uuid"),
                "name": _of(gpu, "product_name"),
                "memory": int(memory[1]) if memory else None,
                "mig": {"Enabled": True, "Disabled": False}.get(mig),
            }
        )
    return Smi(driver=_of(log, "driver_version"), cuda=_of(log, "cuda_version"), gpus=tuple(gpus))


def _of(node: ET.Element, path: str) -> str:
    return clean(node.findtext(path) or "", 100)
