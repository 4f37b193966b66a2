"""What was seen of GPUs and their driver (doctor_gpu.py), judged. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from builder.doctor_gpu import Seen
from builder.doctor_host import Check, clean, size

MODPROBE = "https://manpages.ubuntu.com/manpages/noble/man1/nvidia-modprobe.1.html"
_CUDA = re.compile(r"\d+\.\d+")
INSTALL = (
    "install NVIDIA's driver (Ubuntu: `sudo ubuntu-drivers install`; others: https://www.nvidia.com/drivers) and reboot"
)
USES = "TensorRT and TensorRT for RTX load engines on a GPU only; the other families use none"


def judge(seen: Seen) -> list[Check]:
    checks = [_driver(seen), *_device_nodes(seen), _gpus(seen), *_second(seen)]
    if seen.visible is not None:
        checks.append(_visible(seen))
    return checks


def _driver(seen: Seen) -> Check:
    name, matters = "NVIDIA driver", "it decides which CUDA, and so which engines and images, run here"
    data = {"version": seen.driver or None, "kernel_module": seen.kernel or None, "cuda": seen.cuda or None}
    if not seen.loaded:
        if seen.pci and not seen.jetson:
            return Check(name=name, state="problem", need="gpu", matters=matters, data=data, **_unloaded(seen))
        installed = f"; {seen.smi_path} is installed, which needs one" if seen.smi_path else ""
        return Check(
            name=name, state="absent", need="gpu", found=f"no NVIDIA driver is loaded{installed}", matters=matters,
            mend="on a machine with an NVIDIA GPU: " + INSTALL, data=data,
        )  # fmt: skip
    if "mismatch" in f"{seen.nvml_error} {seen.smi_error}".lower():
        return Check(
            name=name, state="problem", need="gpu", data=data,
            found=f"driver/library version mismatch: the kernel has {seen.kernel or 'another version'}, the libraries are newer "
            "or older", matters="nothing can use the GPU until both are of one version",
            mend="reboot (a package update replaced the libraries while the old module stayed loaded)"
            if not seen.container else "start the container again: the driver of its host has changed",
        )  # fmt: skip
    versions = {
        "the kernel's module": seen.kernel,
        "NVML": seen.nvml.get("driver"),
        "nvidia-smi": seen.smi and seen.smi.driver,
    }
    told = {who: str(version) for who, version in versions.items() if version}
    # In WSL the library's version is that of the Linux side, and Windows has its own.
    if len(set(told.values())) > 1 and not seen.wsl:
        return Check(
            name=name, state="problem", need="gpu", data=data, matters="one of them is not the driver that runs",
            found="two versions of the driver: " + ", ".join(f"{who} says {version}" for who, version in told.items()),
            mend="reboot, and remove the driver that is not wanted (two installations: a package's and a .run file's)",
        )  # fmt: skip
    if seen.nvml_error and not seen.gpus:
        hint = (
            "run `make setup`"
            if "nvidia-ml-py" in seen.nvml_error
            else "`dmesg | grep -i nvrm` tells what the kernel saw"
        )
        return Check(
            name=name, state="problem", need="gpu", data=data, found=f"{seen.driver or 'a driver'} is loaded, and NVML does not "
            f"answer: {seen.nvml_error}", matters="EngineMatrix asks NVML for GPUs, and then sees none", mend=hint,
        )  # fmt: skip
    cuda = f", runs CUDA up to {seen.cuda}" if seen.cuda else ", which CUDA it runs is not told"
    return Check(
        name=name,
        state="ok",
        need="gpu",
        found=f"{seen.driver or 'version not told'}{cuda}",
        matters=matters,
        data=data,
    )


def _unloaded(seen: Seen) -> dict[str, str]:
    address, driver = next(iter(seen.pci.items()))
    cards = f"an NVIDIA GPU is at PCI {address}" if len(seen.pci) == 1 else f"{len(seen.pci)} NVIDIA GPUs are on PCI"
    if driver.startswith("vfio"):
        return {
            "found": f"{cards}, kept for virtual machines ({driver})",
            "mend": "give it back to the host, or run in that machine",
        }
    if driver == "nvidia":
        return {
            "found": f"{cards}, and its driver is not to be seen in here",
            "mend": "pass it on: start the container with `--gpus all`",
        }
    if driver == "nouveau":
        return {"found": f"{cards}, driven by nouveau, which has no CUDA", "mend": INSTALL}
    mend = (
        "pass it on: start the container with `--gpus all`"
        if seen.container
        else f"`sudo modprobe nvidia`, or {INSTALL}"
    )
    return {"found": f"{cards}, and NVIDIA's driver is not loaded", "mend": mend}


def _device_nodes(seen: Seen) -> list[Check]:
    if not seen.loaded or seen.wsl or seen.jetson:
        return []
    # In a container only the cards that were passed on have to be there.
    cards = [] if seen.container else [f"/dev/nvidia{minor}" for minor in seen.minors]
    wanted = ["/dev/nvidiactl", "/dev/nvidia-uvm", *cards]
    lacking = [name for name in wanted if name not in seen.nodes]
    if not any(re.fullmatch(r"/dev/nvidia\d+", name) for name in seen.nodes) and not cards:
        lacking.append("/dev/nvidia0")
    closed = [name for name, usable in seen.nodes.items() if not usable and not name.endswith("modeset")]
    name, matters = (
        "device nodes",
        "CUDA reaches a GPU through them; without one of them it finds no device, or fails to start",
    )
    data = {
        "nodes": sorted(seen.nodes),
        "missing": lacking,
        "no_permission": closed,
        "made_when_asked": list(seen.made),
    }
    made = [node for node in lacking if node in seen.made]
    if lacking and len(made) == len(lacking):
        return [
            Check(
                name=name, state="warning", need="gpu", data=data, matters="they are made when they are first needed, by "
                "nvidia-modprobe; a container that starts before that does not have them",
                found=f"{', '.join(lacking)} came up when the driver was asked",
                mend="enable nvidia-persistenced, or run `sudo nvidia-modprobe -c 0 -u` at boot",
            )
        ]  # fmt: skip
    if lacking:
        minors = [node.removeprefix("/dev/nvidia") for node in lacking if node[-1].isdigit()] or ["0"]
        create = " ".join(f"-c {minor}" for minor in minors)
        mend = (
            "start the container with its GPUs: `docker run --gpus all` (a rebooted host: `nvidia-modprobe -c 0 -u` there first)"
            if seen.container
            else f"`sudo nvidia-modprobe {create} -u` ({MODPROBE})"
        )
        found = f"the driver is loaded, and {', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not there"
        return [Check(name=name, state="problem", need="gpu", data=data, matters=matters, found=found, mend=mend)]
    if closed:
        mend = "add yourself to the group that owns them (`ls -l /dev/nvidia*`; often `video`), then log in again"
        found = f"no permission to use {', '.join(closed)}"
        return [Check(name=name, state="problem", need="gpu", data=data, matters=matters, found=found, mend=mend)]
    return [Check(name=name, state="ok", need="gpu", data=data, matters=matters, found=", ".join(sorted(seen.nodes)))]


def _gpus(seen: Seen) -> Check:
    name = "GPUs"
    data = {"gpus": list(seen.gpus)}
    if not seen.gpus:
        if seen.jetson:
            return Check(
                name=name, state="warning", need="gpu", data=data, matters=USES,
                found=f"{seen.jetson}: the GPU of a Jetson board is not told by NVML, so EngineMatrix does not see it",
                mend="nothing mends it yet; engines for it are built on the board with the l4t images",
            )  # fmt: skip
        if seen.loaded:
            found = f"NVML tells of none: {seen.nvml_error}" if seen.nvml_error else "the driver has none"
            mend = (
                "mend the driver first, see above"
                if seen.nvml_error
                else "pass the GPU on to this container or machine"
            )
            return Check(name=name, state="problem", need="gpu", data=data, matters=USES, found=found, mend=mend)
        mend = "use a machine with an NVIDIA GPU; what can be built without one is built here and loaded there"
        return Check(name=name, state="absent", need="gpu", data=data, matters=USES, found="no NVIDIA GPU", mend=mend)
    found = "; ".join(_described(gpu) for gpu in seen.gpus)
    broken = seen.nvml_error and f"not all of them answer: {seen.nvml_error}"
    if broken:
        mend = "`dmesg | grep -i xid` tells why; a card that fell off the bus comes back with a reboot"
        matters = (
            "engines built for some of the cards would look as if built for this machine: EngineMatrix then uses none"
        )
        return Check(
            name=name, state="problem", need="gpu", data=data, found=f"{found}; {broken}", matters=matters, mend=mend
        )
    for gpu in seen.gpus:
        if gpu.get("mig") and not gpu.get("mig_instances"):
            i = gpu["index"]
            mend = (
                f"make instances (`sudo nvidia-smi mig -i {i} -cgi PROFILE -C`, -lgip lists profiles), or turn it off"
            )
            mend += f" (`sudo nvidia-smi -i {i} -mig 0`)"
            matters = "CUDA has no device on a card in MIG mode without instances"
            found = f"{found}; GPU {gpu['index']} is in MIG mode and has no instance"
            return Check(name=name, state="problem", need="gpu", data=data, found=found, matters=matters, mend=mend)
        if gpu.get("compute_mode") == "prohibited":
            mend = f"`sudo nvidia-smi -i {gpu['index']} -c 0`"
            found = f"{found}; GPU {gpu['index']} is in compute mode `prohibited`"
            return Check(
                name=name,
                state="problem",
                need="gpu",
                data=data,
                found=found,
                matters="CUDA is refused on it",
                mend=mend,
            )
    for gpu in seen.gpus:
        if gpu.get("ecc_errors"):
            found = f"{found}; GPU {gpu['index']} had {gpu['ecc_errors']} uncorrected memory errors since its driver was loaded"
            matters = "numbers computed on it cannot be trusted"
            mend = "reset the card or reboot; errors that return mean a card to replace"
            return Check(name=name, state="warning", need="gpu", data=data, found=found, matters=matters, mend=mend)
        if gpu.get("mig") is not None and gpu.get("mig") != gpu.get("mig_pending"):
            found = f"{found}; MIG mode of GPU {gpu['index']} changes at its next reset"
            return Check(
                name=name, state="warning", need="gpu", data=data, found=found, matters="until then it is what it was",
                mend="reset the card when nothing uses it, or reboot",
            )  # fmt: skip
    return Check(name=name, state="ok", need="gpu", data=data, found=found, matters=USES)


def _described(gpu: Mapping[str, Any]) -> str:
    text = f"{clean(gpu['name'], 60)}, {size(gpu['memory'])}, compute capability {gpu['compute_capability']}"
    text += f", {clean(gpu['uuid'], 60)}"
    if gpu.get("mig"):
        parts = ", ".join(f"{clean(each['name'] or 'instance', 40)} {each['uuid']}" for each in gpu["mig_instances"])
        text += f", MIG on: {parts or 'no instance'}"
    if gpu.get("ecc") is not None:
        text += f", ECC {'on' if gpu['ecc'] else 'off'}"
    if gpu.get("persistence") is not None:
        text += f", persistence {'on' if gpu['persistence'] else 'off'}"
    return text


def _second(seen: Seen) -> list[Check]:
    """nvidia-smi held against NVML."""
    if not seen.loaded:
        return []
    name, matters = (
        "nvidia-smi",
        "the second source for what NVML says; a difference means that one of them is not the driver's",
    )
    if not seen.smi_path:
        return [
            Check(name=name, state="absent", need="gpu", found="not on PATH: nothing to hold NVML against", matters=matters,
                  mend="install the driver's utilities (Ubuntu: nvidia-utils-<branch>), or pass them on to the container")
        ]  # fmt: skip
    if seen.smi is None:
        state: Any = "problem" if seen.nvml_error else "warning"
        mend = "reboot" if "mismatch" in seen.smi_error.lower() else "run it by hand: it says more"
        found = f"{seen.smi_path} does not tell: {seen.smi_error}"
        return [Check(name=name, state=state, need="gpu", found=found, matters=matters, mend=mend)]
    wrong = differences(seen)
    data = {
        "path": seen.smi_path,
        "driver": seen.smi.driver,
        "cuda": seen.smi.cuda,
        "gpus": list(seen.smi.gpus),
        "differences": wrong,
    }
    if wrong:
        mend = (
            f"find out whose they are (`ldconfig -p | grep libnvidia-ml`, `readlink -f {seen.smi_path}`), then reboot"
        )
        found = "differs from NVML: " + "; ".join(wrong)
        return [Check(name=name, state="problem", need="gpu", found=found, matters=matters, mend=mend, data=data)]
    return [Check(name=name, state="ok", need="gpu", found="says the same as NVML", matters=matters, data=data)]


def differences(seen: Seen) -> list[str]:
    """In what NVML and nvidia-smi differ: driver, CUDA, GPUs by UUID with name, memory (MiB) and MIG mode."""
    assert seen.smi is not None
    smi, out = seen.smi, []
    if seen.nvml.get("driver") and smi.driver and seen.nvml["driver"] != smi.driver:
        out.append(f"driver {clean(seen.nvml['driver'], 30)} here, {smi.driver} there")
    if seen.cuda and _CUDA.fullmatch(smi.cuda) and seen.cuda != smi.cuda:
        out.append(f"CUDA {seen.cuda} here, {smi.cuda} there")
    ours, theirs = {gpu["uuid"]: gpu for gpu in seen.gpus}, {gpu["uuid"]: gpu for gpu in smi.gpus}
    out += [f"{uuid} is not in nvidia-smi's list" for uuid in ours if uuid not in theirs]
    out += [f"{uuid or 'a GPU without UUID'} is in nvidia-smi's list only" for uuid in theirs if uuid not in ours]
    for uuid in ours:
        if uuid not in theirs:
            continue
        mine, other = ours[uuid], theirs[uuid]
        if mine["name"] != other["name"]:
            out.append(f"{uuid} is {clean(mine['name'], 60)} here, {other['name']} there")
        if other["memory"] is not None and abs(mine["memory"] / 2**20 - other["memory"]) > 1:
            out.append(f"{uuid} has {mine['memory'] >> 20} MiB here, {other['memory']} MiB there")
        if other["mig"] is not None and mine.get("mig") is not None and mine["mig"] != other["mig"]:
            out.append(
                f"MIG mode of {uuid} is {'on' if mine['mig'] else 'off'} here, {'on' if other['mig'] else 'off'} there"
            )
    return out


def _visible(seen: Seen) -> Check:
    """CUDA takes the entries up to the first that is none of its devices (CUDA programming guide, environment variables)."""
    text = clean(seen.visible, 100)
    entries = [entry.strip() for entry in (seen.visible or "").split(",")]
    known = [str(index) for index in range(len(seen.gpus))]
    uuids = [str(gpu["uuid"]) for gpu in seen.gpus] + [
        str(i["uuid"]) for gpu in seen.gpus for i in gpu.get("mig_instances", ())
    ]
    name, matters = "CUDA_VISIBLE_DEVICES", "workers keep it: CUDA shows them these GPUs alone"
    if entries[0] in known or (len(entries[0]) > 4 and any(uuid.startswith(entries[0]) for uuid in uuids)):
        bad = next(
            (e for e in entries if e not in known and not any(u.startswith(e) for u in uuids if len(e) > 4)), None
        )
        if bad is not None:
            found = f"{text}: {bad!r} is no GPU here, and CUDA stops reading there"
            return Check(
                name=name, state="warning", need="gpu", found=found, matters=matters, mend="name GPUs that are here"
            )
        return Check(name=name, state="ok", need="gpu", found=text, matters=matters)
    if not seen.gpus:
        return Check(name=name, state="ok", need="gpu", found=f"{text!r}, and no GPU is here", matters=matters)
    found = f"{text!r} hides every GPU"
    return Check(
        name=name, state="problem", need="gpu", found=found, matters=matters, mend="`unset CUDA_VISIBLE_DEVICES`"
    )
