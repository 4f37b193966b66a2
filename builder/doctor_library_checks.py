"""What was seen of libraries (doctor_libraries.py), judged: whether they agree with each other and with the driver. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from builder.doctor_host import Check, State, clean
from builder.doctor_libraries import Library, Seen

COMPATIBILITY = "https://docs.nvidia.com/deploy/cuda-compatibility/"


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
