"""CUDA, cuDNN and TensorRT libraries that lie about on the machine: which, where, and whether they agree.

The families bring their own; what is found here matters where it gets in their way: a worker keeps LD_LIBRARY_PATH, and the
loader looks there before it looks anywhere else. Libraries are told by their files' names; none is loaded.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from builder.doctor_host import Host, clean

Origin = Literal["LD_LIBRARY_PATH", "loader cache", "toolkit", "package"]
#: Library -> what it belongs to.
KINDS: Mapping[str, str] = {
    "libcudart": "CUDA", "libcublas": "CUDA", "libnvrtc": "CUDA", "libcudnn": "cuDNN", "libnvinfer": "TensorRT",
    "libtensorrt_rtx": "TensorRT for RTX", "libcuda": "driver", "libnvidia-ml": "driver",
}  # fmt: skip
#: Package of the Python index (without -cu12 and the like) -> what it belongs to.
PACKAGES: Mapping[str, str] = {
    "nvidia-cuda-runtime": "CUDA", "nvidia-cublas": "CUDA", "nvidia-cuda-nvrtc": "CUDA", "nvidia-cudnn": "cuDNN",
    "tensorrt": "TensorRT", "tensorrt-libs": "TensorRT", "tensorrt-bindings": "TensorRT", "tensorrt-rtx": "TensorRT for RTX",
    "tensorrt-rtx-libs": "TensorRT for RTX", "tensorrt-rtx-bindings": "TensorRT for RTX",
}  # fmt: skip
SECONDS = 5.0
_FILE = re.compile(rf"({'|'.join(sorted(KINDS, key=len, reverse=True))})\.so(?:\.(\d[\d.]*))?")
_CACHED = re.compile(r"^\s+(\S+) \(([^)]*)\) => (/.+)$", re.M)


@dataclass(frozen=True, kw_only=True)
class Library:
    name: str
    """`libcudnn`; a package's name for one of the current interpreter."""
    kind: str
    version: str
    """As far as the file's name tells it, '' when it does not: `9.1.0`, `12.4.127`."""
    path: str
    origin: Origin
    soname: str = ""
    """Version in the name that it is asked for by: libcudnn.so.9 -> `9`."""
    broken: str = ""
    """Why the name leads nowhere."""

    @property
    def major(self) -> str:
        return self.version.split(".")[0]


@dataclass(frozen=True, kw_only=True)
class Seen:
    libraries: tuple[Library, ...]
    toolkits: Mapping[str, str]
    """/usr/local/cuda* (its real folder) -> version, '' when it tells none."""
    search: tuple[str, ...]
    """Folders of LD_LIBRARY_PATH."""
    missing: tuple[str, ...]
    """Those of them that are not there."""
    stubs: tuple[str, ...]
    """Those of them that hold the toolkit's stub of libcuda."""
    stub_loads: bool = False
    """Whether one of the stubs has the name that programs load, libcuda.so.1; the toolkit's own name is for linking."""
    trouble: str = ""
    """Why the loader's cache could not be read."""


def look(host: Host, path: Sequence[str] | None = None) -> Seen:
    """Read LD_LIBRARY_PATH, the loader's cache, /usr/local/cuda* and the packages of this interpreter (`path`: sys.path)."""
    search = tuple(dict.fromkeys(entry for entry in host.environ.get("LD_LIBRARY_PATH", "").split(":") if entry))
    toolkits = _toolkits(host)
    found: dict[str, Library] = {}

    def note(libraries: Iterable[Library]) -> None:
        for library in libraries:  # one file has several names, and may be found in several ways: the first says it
            found.setdefault(f"{library.path}:{library.broken and library.soname}", library)

    for folder in search:
        note(_in_folder(Path(folder), "LD_LIBRARY_PATH"))
    cached, trouble = _cached(host)
    note(cached)
    for toolkit in toolkits:
        for below in ("lib64", "lib", *(f"targets/{name}/lib" for name in _names(Path(toolkit, "targets")))):
            note(_in_folder(Path(toolkit, below), "toolkit"))
    stubs = {folder: _names(Path(folder)) for folder in search if "stubs" in Path(folder).parts}
    stubs = {folder: names for folder, names in stubs.items() if any(name.startswith("libcuda.so") for name in names)}
    return Seen(
        libraries=(*found.values(), *_packages(sys.path if path is None else path)),
        toolkits=toolkits, search=search, missing=tuple(folder for folder in search if not os.path.isdir(folder)),  # noqa: PTH112
        stubs=tuple(stubs), stub_loads=any("libcuda.so.1" in names for names in stubs.values()), trouble=trouble,
    )  # fmt: skip


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except (OSError, ValueError):
        return []


def _in_folder(folder: Path, origin: Origin) -> list[Library]:
    return [library for name in _names(folder) if (library := _library(folder / name, origin)) is not None]


def _library(path: Path, origin: Origin) -> Library | None:
    """What a file's name says, and the name of the file that it leads to: symbolic links are followed."""
    named = _FILE.fullmatch(path.name)
    if named is None:
        return None
    real, broken = os.path.realpath(path), ""
    try:
        path.stat()
    except OSError as error:  # a link to nothing, or one in a ring
        broken = f"{path} leads nowhere ({error.strerror})"
        real = str(path)
    behind = _FILE.fullmatch(Path(real).name)
    versions = [match[2] for match in (behind, named) if match is not None and match[2]]
    return Library(
        name=named[1], kind=KINDS[named[1]], version=versions[0] if versions else "", path=real, origin=origin,
        soname=named[2] or "", broken=broken,
    )  # fmt: skip


def _cached(host: Host) -> tuple[list[Library], str]:
    """`ldconfig -p`: what is found, and why it could not be asked."""
    command = host.which("ldconfig", "/sbin", "/usr/sbin")
    if command is None:
        return [], "no ldconfig"
    answer = host.ask([command, "-p"], SECONDS)
    if answer.code != 0:
        return [], clean(answer.error) or f"ldconfig -p ends with {answer.code}"
    # "libc6,x86-64", "libc6,AArch64"; those for 32 bits ("libc6") are in nothing's way.
    found = (_library(Path(path), "loader cache") for _, kind, path in _CACHED.findall(answer.out) if "64" in kind)
    return [library for library in found if library is not None], ""


def _toolkits(host: Host) -> dict[str, str]:
    out: dict[str, str] = {}
    for name in host.names("/usr/local"):
        if not re.fullmatch(r"cuda(-[\d.]+)?", name):
            continue
        real = os.path.realpath(host.path(f"/usr/local/{name}"))
        if real in out or not os.path.isdir(real):  # noqa: PTH112
            continue
        out[real] = _toolkit_version(Path(real))
    return out


def _toolkit_version(folder: Path) -> str:
    """From version.json (CUDA 11.1 and newer) or version.txt (older), else from the folder's name."""
    try:
        told = json.loads((folder / "version.json").read_text(encoding="utf-8"))["cuda"]["version"]
        return clean(told, 20)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:
        text = (folder / "version.txt").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    match = re.search(r"CUDA Version (\d[\d.]*)", text) or re.fullmatch(r"cuda-(\d[\d.]*)", folder.name)
    return match[1] if match else ""


def _packages(path: Sequence[str]) -> list[Library]:
    """NVIDIA's packages of this interpreter, by the names of their metadata folders (name-version.dist-info)."""
    out: dict[str, Library] = {}
    for entry in path:
        for name in _names(Path(entry)) if entry else ():
            match = re.fullmatch(r"((?:nvidia|tensorrt)[A-Za-z0-9_.]*)-([0-9][^-]*)\.dist-info", name)
            if match is None:
                continue
            package = re.sub(r"[-_.]+", "-", match[1]).lower()
            kind = PACKAGES.get(re.sub(r"-cu\d+", "", package))
            if kind is not None:
                place = str(Path(entry, name))
                library = Library(name=package, kind=kind, version=match[2], path=place, origin="package")
                out.setdefault(package, library)
    return list(out.values())
