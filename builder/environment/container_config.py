"""What the engine is asked for when a worker's container is made (Engine API, "Create a container"), and the labels that say
whose it is. Starts nothing; reads /proc, and the folders of CDI where the engine names some."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from builder.values import Docker, digest

LABEL = "org.enginematrix."
#: Who jobs are when the host program is root and the image needs no root: nobody of Debian, and the kernel's overflow user.
UNPRIVILEGED = 65534
#: Bytes of what a container prints that the engine keeps: what jobs print goes to their own logs.
LOG_SIZE = "16m"
CDI_KIND = "nvidia.com/gpu"


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A folder of this machine, at its own path in the container."""

    path: Path
    writable: bool = False


@dataclass(frozen=True, kw_only=True)
class Request:
    """One container. `info` is the engine's own description (GET /info)."""

    image: str
    command: Sequence[str]
    user: tuple[int, int]
    mounts: Sequence[Mount]
    settings: Docker
    gpus: tuple[str, ...] | None
    """None: none; (): all; else their indices or UUIDs."""
    runtime: str
    memory: int
    cpus: int
    env: Mapping[str, str]
    labels: Mapping[str, str]
    info: Mapping[str, Any] = field(default_factory=dict)


def config(request: Request) -> dict[str, Any]:
    """The body of POST /containers/create."""
    host = {
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        # Libraries compile into /tmp and load from there, so `exec`. Its bytes count against the container's memory.
        "Tmpfs": {"/tmp": "rw,exec,nosuid,nodev,mode=1777"},  # noqa: S108
        "Mounts": [*_open_home(request), *(_mount(mount) for mount in request.mounts)],
        "CapDrop": ["ALL"],
        "CapAdd": _capabilities(request),
        "SecurityOpt": _security(request.info),
        "PidsLimit": request.settings.pids,
        "Memory": request.memory,
        "MemorySwap": request.memory,  # memory and swap together: no swap
        "NanoCpus": _cpus(request) * 10**9,
        "ShmSize": request.settings.shm,
        "IpcMode": "private",
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": LOG_SIZE, "max-file": "1"}},
        "Init": False,  # the worker's guard is PID 1 and behaves as such
        "RestartPolicy": {"Name": "no"},
        # An engine that maps users to others would make the mounted folders foreign ones.
        "UsernsMode": "host" if _has(request.info, "userns") else "",
    }  # fmt: skip
    env = {"HOME": "/tmp", "USER": "enginematrix", **_gpu(request, host), **request.env}  # noqa: S108
    return {
        "Image": request.image,
        "Entrypoint": list(request.command[:1]),  # not the image's own, which prints banners and asks for licences
        "Cmd": list(request.command[1:]),
        "Env": [f"{name}={value}" for name, value in env.items()],
        "User": f"{request.user[0]}:{request.user[1]}",
        "WorkingDir": "/",
        "Labels": dict(request.labels),
        "Healthcheck": {"Test": ["NONE"]},
        "NetworkDisabled": True,
        "HostConfig": host,
    }


def _mount(mount: Mount) -> dict[str, Any]:
    path = str(mount.path)
    return {"Type": "bind", "Source": path, "Target": path, "ReadOnly": not mount.writable}


def _open_home(request: Request) -> list[dict[str, Any]]:
    """Images keep /root to root. Nothing in there is for another user, so a checkout below it may be reached through an empty
    volume (a tmpfs would not do: runc 1.1.5 gives it the mode of the folder that it covers)."""
    below = any(mount.path.is_relative_to("/root") for mount in request.mounts)
    if not below or not request.user[0]:
        return []
    return [{"Type": "volume", "Target": "/root", "ReadOnly": False, "VolumeOptions": {"NoCopy": True}}]


def _capabilities(request: Request) -> list[str]:
    """Root in the container that is not the host program's user has to write in that one's folders, and to give it the
    files (worker/processes.py, `give`)."""
    foreign = request.user[0] == 0 and os.geteuid() != 0 and not _has(request.info, "rootless")
    return ["CHOWN", "DAC_OVERRIDE", "FOWNER"] if foreign else []


def _security(info: Mapping[str, Any]) -> list[str]:
    # Relabelling the store for SELinux would change files that are not ours alone.
    return ["no-new-privileges", *(["label=disable"] if _has(info, "selinux") else [])]


def _has(info: Mapping[str, Any], name: str) -> bool:
    """Whether the engine names a security option: "name=rootless", "name=seccomp,profile=default"."""
    return any(f"name={name}" in str(option).split(",") for option in info.get("SecurityOptions") or ())


def _cpus(request: Request) -> int:
    """0 for no limit: where the engine cannot (rootless without delegation), and where all are allowed."""
    there = int(request.info.get("NCPU") or 0)
    limited = request.info.get("CpuCfsQuota", True) and request.cpus > 0 and not 0 < there <= request.cpus
    return request.cpus if limited else 0


def _gpu(request: Request, host: dict[str, Any]) -> dict[str, str]:
    """Adds the GPUs to the HostConfig; returns the variables that belong to it.

    NVIDIA's images set NVIDIA_VISIBLE_DEVICES=all, which their runtime obeys where it is the engine's default: `void` is no
    GPU and nothing of the driver (NVIDIA Container Toolkit, "GPU Enumeration")."""
    none = {"NVIDIA_VISIBLE_DEVICES": "void"}
    if request.gpus is None:
        return none
    if request.runtime:
        host["Runtime"] = request.runtime
        return {"NVIDIA_VISIBLE_DEVICES": ",".join(request.gpus) or "all"}
    if uses_cdi(request.settings, request.info):
        devices = [f"{CDI_KIND}={name}" for name in request.gpus or ("all",)]
        host["DeviceRequests"] = [{"Driver": "cdi", "DeviceIDs": devices}]
        return none
    some = {"DeviceIDs": list(request.gpus)} if request.gpus else {"Count": -1}
    host["DeviceRequests"] = [{"Driver": "", "Capabilities": [["gpu"]], **some}]  # what `docker run --gpus` sends
    return {}


def uses_cdi(settings: Docker, info: Mapping[str, Any]) -> bool:
    """`auto`: where the engine says that it knows NVIDIA's devices (from Docker 28.2 on), or reads folders (from 25 on) of
    which one has a description of them."""
    if settings.gpus != "auto":
        return settings.gpus == "cdi"
    if any(str(device.get("ID", "")).startswith(CDI_KIND) for device in info.get("DiscoveredDevices") or ()):
        return True
    return any(_describes_gpus(Path(folder)) for folder in info.get("CDISpecDirs") or ())


def _describes_gpus(folder: Path) -> bool:
    for pattern in ("*.yaml", "*.yml", "*.json"):
        for path in folder.glob(pattern):
            try:
                if CDI_KIND in path.read_text(encoding="utf-8", errors="replace"):
                    return True
            except OSError:
                continue
    return False


def user_of(user: Literal["any", "root"], info: Mapping[str, Any]) -> tuple[int, int]:
    """(uid, gid) in the container: the caller's own; for root somebody without rights. Root where the image needs it, and in
    a rootless engine, whose root is the caller."""
    if user == "root" or _has(info, "rootless"):
        return 0, 0
    uid, gid = os.geteuid(), os.getegid()
    return (uid, gid) if uid else (UNPRIVILEGED, UNPRIVILEGED)


# Whose it is -------------------------------------------------------------------------------------------------------


def store_labels(store: Path, run: str) -> dict[str, str]:
    """The labels that a container's caller gives: which store and which run it is of."""
    return {f"{LABEL}store": digest(str(store.resolve())), f"{LABEL}run": run}


def host_labels() -> dict[str, str]:
    """Which process the host program is. A pid alone comes again, and means another process in another PID namespace (two
    CI jobs with one engine)."""
    return {
        f"{LABEL}pid": str(os.getpid()), f"{LABEL}started": started(os.getpid()), f"{LABEL}boot": boot(),
        f"{LABEL}pidns": namespace(),
    }  # fmt: skip


def abandoned(labels: Mapping[str, str]) -> bool:
    """Whether the host program of these labels is gone. False when it cannot be told: one of another PID namespace."""
    if labels.get(f"{LABEL}boot") != boot():
        return bool(labels.get(f"{LABEL}boot"))
    if labels.get(f"{LABEL}pidns") != namespace():
        return False
    pid = labels.get(f"{LABEL}pid", "")
    return pid.isdigit() and started(int(pid)) != labels.get(f"{LABEL}started")


def started(pid: int) -> str:
    """When a process began, in clock ticks since boot (proc(5), stat, field 22); '' when it is not there, or is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]


def boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()


def namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())
