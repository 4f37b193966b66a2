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

from builder.doctor_host import Check, Host, State, clean

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
COMPATIBILITY = "https://docs.nvidia.com/deploy/cuda-compatibility/"
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


# -- what it means


def judge(seen: Seen, *, driver: str, cuda: str) -> list[Check]:
    """`driver`: the kernel module's version, `cuda`: the newest CUDA it runs; '' for either that is not known."""
    checks = [_kind(seen, kind, cuda) for kind in ("CUDA", "cuDNN", "TensorRT", "TensorRT for RTX")]
    return [*checks, *_driver(seen, driver), *_search(seen)]


def _kind(seen: Seen, kind: str, cuda: str) -> Check:
    ours = [library for library in seen.libraries if library.kind == kind]
    name = f"{kind} libraries"
    matters = "each family brings its own; one that the loader finds first takes its place"
    toolkits = [f"toolkit {version or 'of unknown version'} in {folder}" for folder, version in seen.toolkits.items()]
    data = {
        "libraries": [
            {
                "name": each.name,
                "version": each.version or None,
                "path": each.path,
                "origin": each.origin,
                "broken": each.broken,
            }
            for each in ours
        ],
        **({"toolkits": dict(seen.toolkits)} if kind == "CUDA" else {}),
    }
    texts = [f"{each.name} {each.version or '(version not told)'} ({_place(each)})" for each in ours if not each.broken]
    texts = (toolkits if kind == "CUDA" else []) + texts
    if not texts and not any(each.broken for each in ours):
        return Check(
            name=name,
            state="absent",
            found="none on this machine",
            matters="none is needed: each family brings its own",
            data=data,
        )
    found = "; ".join(texts) or "none that can be loaded"
    state, wrong, mend = _disagreement(ours, kind, cuda)
    need: Literal["gpu", "all"] = "gpu" if state == "problem" else "all"
    if wrong:
        found = f"{wrong}. Found: {found}"
    return Check(name=name, state=state, need=need, found=found, matters=matters, mend=mend, data=data)


def _place(library: Library) -> str:
    if library.origin == "package":
        return "package"
    folder = str(Path(library.path).parent)
    return f"{folder}, by LD_LIBRARY_PATH" if library.origin == "LD_LIBRARY_PATH" else folder


def _disagreement(ours: Sequence[Library], kind: str, cuda: str) -> tuple[State, str, str]:
    """(state, what is wrong, how to mend it) of the libraries of one kind."""
    broken = next((each for each in ours if each.broken), None)
    if broken is not None:
        state: State = "problem" if broken.origin == "LD_LIBRARY_PATH" else "warning"
        return state, broken.broken, "remove the link, or install what it leads to"
    new = [each for each in ours if _newer(each, cuda)] if kind == "CUDA" else []
    if new:
        first = min(new, key=lambda each: each.origin != "LD_LIBRARY_PATH")
        return (
            "problem" if first.origin == "LD_LIBRARY_PATH" else "warning",
            f"{first.name} {first.version} ({first.path}) is newer than this driver runs (CUDA {cuda})",
            f"move the driver to one that runs CUDA {first.major}, install cuda-compat-{first.major}-* on a data center GPU "
            f"({COMPATIBILITY}), or take it off the loader's path",
        )
    for name in dict.fromkeys(each.name for each in ours if each.origin != "package"):
        same = [each for each in ours if each.name == name and each.version and each.origin != "package"]
        lying = next((each for each in same if each.soname and each.soname.split(".")[0] != each.major), None)
        if lying is not None:
            wrong = f"the name {name}.so.{lying.soname} leads to version {lying.version} ({lying.path})"
            return "warning", wrong, "remove the link: a program that asks for one major version gets another"
        on_path = [each for each in same if each.origin in ("LD_LIBRARY_PATH", "loader cache")]
        if len({each.version for each in on_path}) > 1:
            versions = ", ".join(f"{each.version} in {Path(each.path).parent}" for each in on_path)
            what = "majors" if len({each.major for each in on_path}) > 1 else "versions"
            mend = "leave one on the loader's path (LD_LIBRARY_PATH, /etc/ld.so.conf.d), and the others in folders of their own"
            return "warning", f"two {what} of {name} on the loader's path: {versions}", mend
    bases: dict[str, set[str]] = {}
    for each in ours:
        if each.origin == "package" and (found := re.search(r"-cu(\d+)", each.name)):
            bases.setdefault(re.sub(r"-cu\d+", "", each.name), set()).add(found[1])
    twice = next((base for base, majors in bases.items() if len(majors) > 1), "")
    if twice:
        wrong = f"{twice} is installed for CUDA {' and '.join(sorted(bases[twice]))} in this interpreter"
        return "warning", wrong, "uninstall both and install one: they overwrite each other's files"
    return "ok", "", ""


def _newer(library: Library, cuda: str) -> bool:
    """Whether the runtime is of a newer major version than the driver runs: CUDA's minor versions run on each other's drivers
    from CUDA 11 on (NVIDIA, CUDA Compatibility, minor version compatibility). Only libcudart's number is CUDA's own."""
    if library.name not in ("libcudart",) or not library.major.isdigit() or not re.fullmatch(r"\d+\.\d+", cuda):
        return False
    return int(library.major) > int(cuda.split(".")[0])


def _driver(seen: Seen, driver: str) -> list[Check]:
    """The driver's user-space libraries held against the kernel's module."""
    if not driver:
        return []
    full = [
        each for each in seen.libraries if each.kind == "driver" and each.version.count(".") >= 1 and not each.broken
    ]
    compat = [each for each in full if "compat" in Path(each.path).parts]
    other = [each for each in full if each not in compat and each.version != driver]
    name, matters = "driver libraries", "libcuda and libnvidia-ml have to be of the version of the kernel's module"
    data = {"libraries": [{"name": each.name, "version": each.version, "path": each.path} for each in full]}
    if other:
        found = (
            "; ".join(f"{each.name} {each.version} ({each.path})" for each in other)
            + f", and the kernel's module is {driver}"
        )
        mend = "reboot after an update of the driver; remove what an older installation left"
        # One of the right version beside it, found before it, makes it harmless.
        state: State = "warning" if any(each.version == driver for each in full) else "problem"
        return [Check(name=name, state=state, need="gpu", found=found, matters=matters, mend=mend, data=data)]
    ahead = [each for each in compat if each.origin in ("LD_LIBRARY_PATH", "loader cache") and each.version != driver]
    if ahead:
        found = f"forward compatibility: {ahead[0].name} {ahead[0].version} ({ahead[0].path}) over driver {driver}"
        matters = "it runs newer CUDA on this driver, on data center GPUs only, and is part of what results mean"
        return [
            Check(
                name=name,
                state="warning",
                need="gpu",
                found=found,
                matters=matters,
                mend=f"see {COMPATIBILITY}",
                data=data,
            )
        ]
    if not full:
        return []
    found = ", ".join(dict.fromkeys(f"{each.name} {each.version}" for each in full))
    return [Check(name=name, state="ok", need="gpu", found=found, matters=matters, data=data)]


def _search(seen: Seen) -> list[Check]:
    name, matters = "LD_LIBRARY_PATH", "workers keep it, and it comes before every library that a family brings"
    out = []
    if seen.trouble:
        out.append(
            Check(name="loader cache", state="warning", found=f"not read: {seen.trouble}", mend="look at `ldconfig -p` by hand",
                  matters="libraries that only it knows are not told above")
        )  # fmt: skip
    if not seen.search:
        return out
    data = {"folders": list(seen.search), "missing": list(seen.missing), "stubs": list(seen.stubs)}
    text = clean(":".join(seen.search), 300)
    if seen.stubs:
        found = f"{seen.stubs[0]} holds the stub of libcuda, which is for linking only"
        state: State = "problem" if seen.stub_loads else "warning"
        mend = "take it off LD_LIBRARY_PATH"
        matters = "a program that finds the stub in place of the driver sees no GPU"
        return [*out, Check(name=name, state=state, need="gpu", found=found, matters=matters, mend=mend, data=data)]
    if seen.missing:
        found = f"{', '.join(clean(folder, 100) for folder in seen.missing)} is not there; all: {text}"
        return [
            *out,
            Check(name=name, state="warning", found=found, matters=matters, mend="take it off, or mount it", data=data),
        ]
    return [*out, Check(name=name, state="ok", found=text, matters=matters, data=data)]
