"""The Docker engine: whether it answers, can build, and can give a container a GPU. `look` asks, `judge` decides."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.doctor_host import Check, Host, State, clean, size
from builder.environment import engine

#: Bytes: what the default matrix takes (README). A single image of NVIDIA's is of the same order.
ROOM = 15 << 30
LEAST = 1 << 30
TOOLKIT = "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html"
CDI = "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/cdi-support.html"
HOOK = "nvidia-container-runtime-hook"
"""What the engine looks for on its PATH to serve `--gpus` (moby, daemon/nvidia_linux.go)."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    endpoint: str = ""
    there: bool = False
    """Whether there is something to ask: a socket, or an engine that is named."""
    error: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    cli: str = ""
    buildx: bool = False
    cli_error: str = ""
    free: int | None = None
    """Bytes left where the engine keeps its images, None when that is elsewhere."""
    hook: str = ""
    """The program that serves `--gpus`."""
    specs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """CDI file that describes NVIDIA's GPUs -> versions of libcuda that it names."""

    @property
    def answers(self) -> bool:
        return bool(self.info)

    @property
    def rootless(self) -> bool:
        return any("rootless" in str(option) for option in self.info.get("SecurityOptions") or ())

    @property
    def runtimes(self) -> list[str]:
        return sorted(str(name) for name in self.info.get("Runtimes") or ())

    @property
    def cdi(self) -> list[str]:
        """How the engine, or a file in a folder that it reads, names NVIDIA's GPUs."""
        folders = [str(folder) for folder in self.info.get("CDISpecDirs") or ()]
        devices = [device for device in self.info.get("DiscoveredDevices") or () if isinstance(device, dict)]
        told = [str(device.get("ID")) for device in devices if str(device.get("ID")).startswith("nvidia.com/gpu")]
        return told or [path for path in self.specs if any(Path(path).parent == Path(folder) for folder in folders)]


def look(host: Host) -> Seen:
    """Ask the engine that the other commands use (the process' own variables). Raises nothing that the engine does."""
    try:
        where = engine.endpoint()
    except engine.DockerMissing as error:
        return Seen(there=True, error=clean(error, 400))
    text = f"{where.host} ({where.source})"
    if not engine.available():
        # What lies at the default place and is no socket is no engine; one that somebody names has to be there.
        named = where.source not in ("the usual socket", "the rootless engine's socket")
        return Seen(endpoint=text, there=named, error=f"{where.host} is not there ({where.source})" if named else "")
    cli, buildx, cli_error = _cli()
    try:
        info = engine.client(timeout=engine.PING).info()
    except engine.DockerMissing as error:
        return Seen(endpoint=text, there=True, error=clean(error, 400), cli=cli, buildx=buildx, cli_error=cli_error)
    except engine.errors() as error:
        return Seen(
            endpoint=text, there=True, error=f"{text} does not tell about itself: {clean(error)}", cli=cli, buildx=buildx,
            cli_error=cli_error,
        )  # fmt: skip
    if not isinstance(info, dict) or not info:
        return Seen(
            endpoint=text, there=True, error=f"{text} gives an answer that is none", cli=cli, cli_error=cli_error
        )
    return Seen(
        endpoint=text, there=True, info=info, cli=cli, buildx=buildx, cli_error=cli_error,
        free=_free(str(info.get("DockerRootDir") or "")) if where.socket is not None else None,
        hook=host.which(HOOK) or "",
        specs=_specs(host, [str(folder) for folder in info.get("CDISpecDirs") or ()]),
    )  # fmt: skip


def _cli() -> tuple[str, bool, str]:
    try:
        found = engine.builder_cli()
    except engine.DockerMissing as error:
        return "", False, clean(error, 600)
    return found.path, found.buildx, ""


def _free(folder: str) -> int | None:
    try:
        return shutil.disk_usage(folder).free if folder else None
    except OSError:  # the engine is in a virtual machine, or behind a socket that was mounted
        return None


def _specs(host: Host, folders: list[str]) -> dict[str, tuple[str, ...]]:
    """CDI files for nvidia.com/gpu, also where the engine does not look."""
    out = {}
    for folder in dict.fromkeys([*folders, "/etc/cdi", "/var/run/cdi"]):
        for name in host.names(folder):
            text = host.text(f"{folder}/{name}") if name.endswith((".yaml", ".yml", ".json")) else ""
            if re.search(r"\bkind[\"']?:\s*[\"']?nvidia\.com/gpu\b", text):
                out[f"{folder}/{name}"] = tuple(sorted(set(re.findall(r"libcuda\.so\.(\d+\.[\d.]*\d)", text))))
    return out


# -- what it means


def judge(seen: Seen, *, gpu: bool, driver: str) -> list[Check]:
    """`gpu`: whether a GPU is there; `driver`: its version, '' when not known."""
    checks = [_engine(seen)]
    if not seen.answers:
        return checks
    return [*checks, _buildkit(seen), *_disk(seen), _gpus(seen, gpu, driver)]


def _engine(seen: Seen) -> Check:
    name, matters = "Docker engine", "families that are images need one; the others use it where they are asked to"
    if not seen.there:
        return Check(
            name=name, state="absent", need="docker", found="none: no socket, and DOCKER_HOST is not set", matters=matters,
            mend=engine.INSTALL,
        )  # fmt: skip
    if not seen.answers:
        # Its own messages say what to do, behind a semicolon.
        found, _, mend = (seen.error or f"{seen.endpoint} does not answer").partition("; ")
        return Check(
            name=name,
            state="problem",
            need="docker",
            found=found,
            matters=matters,
            mend=mend or "`docker info` says more",
        )
    info = seen.info
    data = {
        "endpoint": seen.endpoint, "version": info.get("ServerVersion"), "storage": info.get("Driver"), "rootless": seen.rootless,
        "cgroup": info.get("CgroupVersion"), "os": info.get("OSType"), "architecture": info.get("Architecture"),
        "runtimes": seen.runtimes,
    }  # fmt: skip
    parts = [
        clean(info.get("ServerVersion") or "of unknown version", 40), seen.endpoint, f"storage {clean(info.get('Driver'), 30)}",
        "rootless" if seen.rootless else "rootful", f"cgroup v{clean(info.get('CgroupVersion') or '1', 5)}",
    ]  # fmt: skip
    found = ", ".join(parts)
    state: State = "ok"
    mend = ""
    unlimited = [
        text for key, text in (("MemoryLimit", "memory"), ("PidsLimit", "processes")) if info.get(key) is False
    ]
    machine = os.uname().machine
    if info.get("OSType") not in (None, "linux"):
        state, found, mend = (
            "problem",
            f"{found}: runs {clean(info['OSType'], 20)} containers",
            "switch it to Linux containers",
        )
    elif info.get("Architecture") not in (None, machine):
        state = "warning"
        found = f"{found}: it is {clean(info['Architecture'], 20)}, this machine {machine}"
        mend = "images are made for this machine: use an engine of its architecture"
    elif unlimited:
        state, found = "warning", f"{found}: cannot limit {' or '.join(unlimited)}"
        mend = "a cell that takes too much is not stopped by it: give the engine cgroups (rootless: delegate them with systemd)"
    return Check(name=name, state=state, need="docker", found=found, matters=matters, mend=mend, data=data)


def _buildkit(seen: Seen) -> Check:
    name, matters = "BuildKit", "images are built with its mounts and secrets"
    data = {"command": seen.cli or None, "buildx": seen.buildx}
    if not seen.cli:
        found = seen.cli_error.removesuffix(engine.INSTALL_BUILDX).removesuffix(f"; {engine.INSTALL}").strip()
        return Check(
            name=name,
            state="problem",
            need="docker",
            found=found,
            matters=matters,
            mend=engine.INSTALL_BUILDX,
            data=data,
        )
    found = f"{seen.cli}, {'with buildx' if seen.buildx else 'its own (no buildx: one image at a time)'}"
    return Check(name=name, state="ok", need="docker", found=found, matters=matters, data=data)


def _disk(seen: Seen) -> list[Check]:
    if seen.free is None:
        return []
    folder = clean(seen.info.get("DockerRootDir"), 100)
    state: State = "ok" if seen.free >= ROOM else "warning" if seen.free >= LEAST else "problem"
    return [
        Check(
            name="Docker's disk", state=state, need="docker", found=f"{size(seen.free)} free in {folder}",
            matters="each base image is kept there unpacked; `enginematrix plan` says how much its stacks take",
            mend="" if state == "ok" else "free some (`docker system df` shows what takes it), or move `data-root`",
            data={"free": seen.free, "folder": folder},
        )
    ]  # fmt: skip


def _gpus(seen: Seen, gpu: bool, driver: str) -> Check:
    name, matters = (
        "GPUs in Docker",
        "images with TensorRT build and run engines on the GPU that their container is given",
    )
    ways = [f"runtime {name}" for name in seen.runtimes if name == "nvidia"]
    ways += [f"CDI ({', '.join(clean(each, 60) for each in seen.cdi[:3])})"] if seen.cdi else []
    ways += [f"{Path(seen.hook).name} for --gpus"] if seen.hook and not ways else []
    data = {
        "runtimes": seen.runtimes,
        "cdi": seen.cdi,
        "cdi_files": {path: list(each) for path, each in seen.specs.items()},
    }
    if not ways:
        more = ""
        if seen.specs:
            more = f"; {next(iter(seen.specs))} describes GPUs, and the engine does not read CDI"
        found = f"no nvidia runtime, no CDI device{more}"
        if not gpu:
            return Check(
                name=name,
                state="absent",
                need="docker-gpu",
                found=f"{found}; no GPU either",
                matters=matters,
                data=data,
            )
        mend = (
            f"rootless: generate CDI ({CDI}) and turn it on in the engine"
            if seen.rootless
            else f"install the NVIDIA Container Toolkit ({TOOLKIT}), then `sudo nvidia-ctk runtime configure --runtime=docker` "
            "and `sudo systemctl restart docker`"
        )
        return Check(name=name, state="problem", need="docker-gpu", found=found, matters=matters, mend=mend, data=data)
    stale = {path: each for path, each in seen.specs.items() if driver and each and driver not in each}
    if stale and any(path.startswith(tuple(seen.info.get("CDISpecDirs") or ("\0",))) for path in stale):
        path, each = next(iter(stale.items()))
        return Check(
            name=name, state="problem", need="docker-gpu", data=data, matters="a container that is given a GPU does not start: "
            "files that the description names are gone", found=f"{path} was made for driver {', '.join(each)}, and {driver} runs",
            mend=f"`sudo nvidia-ctk cdi generate --output={path}`",
        )  # fmt: skip
    return Check(name=name, state="ok", need="docker-gpu", found="; ".join(ways), matters=matters, data=data)
