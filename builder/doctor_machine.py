"""The machine itself: system, memory, cores, limits, shared memory, disk, uv, interpreters. Files, and `uv --version`."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.doctor_gpu import in_container
from builder.doctor_host import Check, Host, State, clean, size
from builder.environment import interpreters
from builder.errors import InfrastructureError
from builder.values import Attributes

#: Bytes: what the default matrix takes (README).
ROOM = 15 << 30
LEAST = 1 << 30
#: Bytes of /dev/shm: what a container has unless it is told otherwise (`docker run --help`, --shm-size), and what a
#: container of ours is given (values.Docker.shm).
SHM = 64 << 20
SECONDS = 5.0
SUPPORTED = tuple(f"3.{minor}" for minor in range(9, 15))
UNLIMITED = 1 << 60


def system(host: Host) -> list[Check]:
    release = clean(host.text("/proc/sys/kernel/osrelease") or platform.release(), 60)
    machine, libc = platform.machine(), "-".join(platform.libc_ver()) if platform.libc_ver()[0] else "no glibc"
    container = in_container(host)
    wsl = "microsoft" in release.lower()
    where = [f"in a container ({container})"] if container else []
    where += ["WSL"] if wsl else []
    found = ", ".join([f"{platform.system()} {release or 'of unknown release'}", machine, libc, *where])
    data = {"kernel": release, "machine": machine, "libc": libc, "container": container or None, "wsl": wsl}
    name, matters = (
        "system",
        "wheels and images of inference engines are for Linux with glibc, on x86_64 and some on aarch64",
    )
    state: State = "ok"
    mend = ""
    if platform.system() != "Linux" or libc == "no glibc":
        state, mend = (
            "problem",
            "use a Linux with glibc (Debian, Ubuntu, Fedora...); Alpine's musl takes none of these wheels",
        )
    elif machine not in ("x86_64", "aarch64"):
        state, mend = "problem", "use a machine with x86_64 or aarch64"
    elif wsl and "WSL2" not in release and "wsl2" not in release and release.endswith("Microsoft"):
        state, mend = "warning", "`wsl --set-version <distribution> 2`: WSL 1 has neither GPUs nor Docker"
    return [Check(name=name, state=state, found=found, matters=matters, mend=mend, data=data)]


def memory(host: Host) -> list[Check]:
    info = dict(re.findall(r"^(\w+):\s+(\d+) kB", host.text("/proc/meminfo"), re.M))
    total, free = int(info.get("MemTotal", 0)) << 10, int(info.get("MemAvailable", 0)) << 10
    limit = _memory_limit(host)
    least = Attributes().memory
    room = min(total, limit) if limit else total
    data = {"total": total, "available": free, "limit": limit}
    found = f"{size(total)}, {size(free)} available" if total else "not told by /proc/meminfo"
    name, matters = (
        "memory",
        f"a stage may take {size(least)} unless `set:` in the matrix says otherwise; a job beyond it is killed",
    )
    if limit is not None and limit < total:
        found += f"; this process' cgroup stops at {size(limit)}"
        mend = "raise the limit of the container, service or slice that this runs in, or lower `memory:` in the matrix"
        return [Check(name=name, state="warning", found=found, matters=matters, mend=mend, data=data)]
    if not total or room < least:
        mend = "set a lower `memory:` in the matrix and run with `--jobs 1`, or use a larger machine"
        return [Check(name=name, state="warning", found=found, matters=matters, mend=mend, data=data)]
    return [Check(name=name, state="ok", found=found, matters=matters, data=data)]


def cores(host: Host) -> list[Check]:
    usable = len(os.sched_getaffinity(0))
    there = os.cpu_count() or usable
    quota = _cpu_limit(host)
    data = {"cores": there, "usable": usable, "quota": quota}
    name, matters = (
        "cores",
        "jobs and threads are counted by the cores that this process may use; a quota slows them, unseen",
    )
    found = f"{usable}" if usable == there else f"{usable} of {there} (affinity)"
    if quota is not None and quota < usable:
        found += f"; its cgroup gives the time of {quota:g}"
        mend = "raise the limit (`docker run --cpus`, CPUQuota=), or run with as many `--jobs` as it gives"
        return [Check(name=name, state="warning", found=found, matters=matters, mend=mend, data=data)]
    return [Check(name=name, state="ok", found=found, matters=matters, data=data)]


def _groups(host: Host) -> dict[str, str]:
    """Controller ('' for cgroup v2) -> this process' group."""
    out = {}
    for line in host.text("/proc/self/cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            out.update(dict.fromkeys(parts[1].split(","), parts[2]))
    return out


def _files(host: Host, controller: str, file_v2: str, file_v1: str) -> list[str]:
    """The texts of a limit's file in this process' group and all above it: the lowest holds."""
    groups = _groups(host)
    texts = []
    for base, group, file in (
        ("/sys/fs/cgroup", groups.get("", "/"), file_v2),
        (f"/sys/fs/cgroup/{controller}", groups.get(controller, "/"), file_v1),
    ):
        # In a container the path may be the host's: then the container's own group is the folder itself.
        parts = [part for part in group.split("/") if part not in ("", "..")]
        for count in range(len(parts), -1, -1):
            folder = "/".join([base, *parts[:count]])
            texts.append(host.text(f"{folder}/{file}").strip())
    return [text for text in texts if text]


def _memory_limit(host: Host) -> int | None:
    texts = _files(host, "memory", "memory.max", "memory.limit_in_bytes")
    limits = [int(text) for text in texts if re.fullmatch(r"\d{1,19}", text) and int(text) < UNLIMITED]
    return min(limits, default=None)


def _cpu_limit(host: Host) -> float | None:
    limits = []
    for text in _files(host, "cpu", "cpu.max", "cpu.cfs_quota_us"):
        match = re.fullmatch(r"(\d{1,12})(?: (\d{1,12}))?", text)
        if match and int(match[1]):
            period = int(match[2] or 0) or next(
                (int(each) for each in _files(host, "cpu", "", "cpu.cfs_period_us") if each.isdigit() and int(each)),
                100_000,
            )
            limits.append(int(match[1]) / period)
    return min(limits, default=None)


def shared_memory(host: Host) -> list[Check]:
    name, matters = (
        "/dev/shm",  # noqa: S108
        "frameworks hand tensors between processes through it; a full one kills them with a bus error",
    )
    try:
        stat = os.statvfs(host.path("/dev/shm"))  # noqa: S108
    except OSError as error:
        found = f"not there ({error.strerror})"
        return [
            Check(name=name, state="problem", found=found, matters=matters, mend="`sudo mount -t tmpfs tmpfs /dev/shm`")
        ]
    total, free = stat.f_frsize * stat.f_blocks, stat.f_frsize * stat.f_bavail
    state: State = "ok" if free > SHM else "warning"
    mend = (
        ""
        if state == "ok"
        else "`docker run --shm-size 1g`, or `mount -o remount,size=1G /dev/shm`; remove what fills it"
    )
    found = f"{size(total)}, {size(free)} free"
    return [Check(name=name, state=state, found=found, matters=matters, mend=mend, data={"total": total, "free": free})]


@dataclass(frozen=True, kw_only=True)
class Disk:
    folder: Path
    free: int
    total: int
    inodes: int | None
    """Free ones, None where they are not counted."""
    writable: bool
    executable: bool


def look_at_disk(artifacts: Path) -> Disk:
    """The file system that `artifacts` is on, or will be. Raises OSError."""
    folder = artifacts
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    stat = os.statvfs(folder)
    return Disk(
        folder=artifacts, free=stat.f_frsize * stat.f_bavail, total=stat.f_frsize * stat.f_blocks,
        inodes=stat.f_favail if stat.f_files else None,
        writable=os.access(folder, os.W_OK | os.X_OK) and not stat.f_flag & os.ST_RDONLY,
        executable=not stat.f_flag & os.ST_NOEXEC,
    )  # fmt: skip


def disk(seen: Disk) -> list[Check]:
    name, matters = (
        "disk",
        "environments, models and engines are kept in artifacts/; the default matrix takes 14 GB (README)",
    )
    found = f"{size(seen.free)} free of {size(seen.total)} for {seen.folder.name}/"
    data = {
        "free": seen.free,
        "total": seen.total,
        "inodes": seen.inodes,
        "writable": seen.writable,
        "executable": seen.executable,
    }
    state: State = "ok"
    mend = ""
    if not seen.writable:
        state, found, mend = (
            "problem",
            f"{seen.folder.name}/ cannot be written here",
            "mend its rights, or check the project out elsewhere",
        )
    elif not seen.executable:
        state, found = "problem", f"{found}, on a file system mounted noexec"
        mend = "environments run programs from there: mount it with exec, or check the project out elsewhere"
    elif seen.free < LEAST or seen.inodes == 0:
        state, mend = "problem", "free some: `enginematrix gc` removes what neither the matrix nor the last runs need"
        found += "" if seen.inodes else ", and no inode" if seen.inodes == 0 else ""
    elif seen.free < ROOM:
        state, mend = (
            "warning",
            "`enginematrix plan` says what would be made; `enginematrix gc` frees what is not needed",
        )
    return [Check(name=name, state=state, found=found, matters=matters, mend=mend, data=data)]


def uv(host: Host) -> list[Check]:
    name, matters = "uv", "it makes every virtual environment and resolves the packages of every stack"
    mend = "run `make setup`, or `pip install uv`"
    try:
        path = interpreters.uv_binary()
    except InfrastructureError:
        return [Check(name=name, state="problem", found="not installed", matters=matters, mend=mend)]
    answer = host.ask([path, "--version"], SECONDS)
    told = re.match(r"uv (\d+\.\d+\S*)", answer.out)
    if answer.code != 0 or told is None:
        why = clean(answer.error or answer.out, 100) or f"ends with {answer.code}"
        return [
            Check(
                name=name, state="problem", found=f"{path} does not tell its version: {why}", matters=matters, mend=mend
            )
        ]
    version = told[1]
    data = {"path": path, "version": version}
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < (0, 8):
        found = f"{version} ({path}); 0.8 is the oldest that this program is made for"
        return [Check(name=name, state="problem", found=found, matters=matters, mend=mend, data=data)]
    return [Check(name=name, state="ok", found=f"{version} ({path})", matters=matters, data=data)]


def installed(host: Host) -> dict[str, str]:
    """Minor version -> interpreter: what a run finds, and uv's own, which it finds by asking uv. Starts nothing."""
    found = {version: str(path) for version, path in interpreters.installed(host.environ).items()}
    data = host.environ.get("XDG_DATA_HOME") or f"{host.environ.get('HOME', '')}/.local/share"
    folder = Path(host.environ.get("UV_PYTHON_INSTALL_DIR") or f"{data}/uv/python")
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        names = []
    for name in names:
        match = re.fullmatch(r"cpython-(3\.\d+)(?:\.\d+)?-\S+", name)
        python = folder / name / "bin" / "python3"
        if match and os.access(python, os.X_OK):
            found.setdefault(match[1], str(python))
    return found


def pythons(found: dict[str, str], needed: Sequence[str], *, fetch: bool) -> list[Check]:
    """`needed`: minor versions that the families ask for; `fetch`: whether uv may fetch one."""
    name, matters = "interpreters", "a stack of an old release needs an old Python, and gets just that one"
    ordered = sorted(found, key=_minor)
    lacking = [version for version in sorted(set(needed), key=_minor) if version not in found]
    text = ", ".join(ordered) or "none"
    others = [version for version in SUPPORTED if version not in found and version not in lacking]
    data = {"found": found, "needed": sorted(set(needed), key=_minor), "missing": lacking, "may_fetch": fetch}
    tail = f" (not here, and not needed: {', '.join(others)})" if others else ""
    if not lacking:
        return [Check(name=name, state="ok", need="venv", found=text + tail, matters=matters, data=data)]
    commands = f"`uv python install {' '.join(lacking)}`"
    if fetch:
        found_text = f"{text}; needed and not here: {', '.join(lacking)}, which uv fetches when a stack asks for it"
        return [
            Check(
                name=name,
                state="warning",
                need="venv",
                found=found_text,
                matters=matters,
                mend=f"{commands} now",
                data=data,
            )
        ]
    found_text = f"{text}; needed and not here: {', '.join(lacking)}, and UV_PYTHON_DOWNLOADS=never forbids to fetch"
    mend = f"{commands}, or `pyenv install`"
    return [Check(name=name, state="problem", need="venv", found=found_text, matters=matters, mend=mend, data=data)]


def _minor(version: str) -> int:
    return int(version.split(".")[1])
