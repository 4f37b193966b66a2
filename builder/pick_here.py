"""The GPUs and the driver of this machine for `pick --here`: what was taken, and from where it was read.

Asks as `doctor` does: the kernel's files, NVML in a process of its own, nvidia-smi as the second source. What two of them
disagree on, and what was left out, is said; a machine whose GPUs cannot be told is an error, never one without a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder import knowledge, pick
from builder.doctor_gpu import Seen
from builder.doctor_host import clean
from builder.errors import UsageError
from builder.facts_records import CATALOG, Catalog
from builder.pick_question import Hardware

_ASK = "ask with --gpu and --driver instead, or see `enginematrix doctor`"


@dataclass(frozen=True, kw_only=True)
class Here:
    gpu: Hardware
    driver: str
    """'' where there is none, or where it is a board's own."""
    lines: tuple[str, ...]
    """For people: each GPU, the driver, and whatever was left out or disagrees."""
    data: Mapping[str, Any]
    """The same for programs."""


def of(seen: Seen, catalog: Catalog = CATALOG) -> Here:
    """What is asked about on the machine that `doctor_gpu.look` saw. Raises UsageError where its GPUs cannot be told."""
    if seen.jetson and not seen.gpus:
        return _board(seen, catalog)
    if not seen.loaded:
        if seen.pci:
            raise UsageError(
                f"--here: {', '.join(seen.pci)} on PCI is NVIDIA's, and no NVIDIA driver is loaded; {_ASK}"
            )
        inside = " (of those that are passed on to this container)" if seen.container else ""
        return Here(
            gpu=Hardware(name="none"), driver="", lines=(f"no NVIDIA GPU{inside}: no driver is loaded",),
            data={"gpus": [], "driver": None, "cuda": None, "source": None, "notes": []},
        )  # fmt: skip
    gpus, source, notes = _gpus(seen, catalog)
    gpus = _visible(seen.visible, gpus, notes)
    gpus = _able(gpus, notes)
    driver, told = _driver(seen, notes)
    cuda, asked = (seen.cuda, "NVML") if seen.cuda else (seen.smi.cuda if seen.smi else "", "nvidia-smi")
    lines = [_line(gpu, source) for gpu in gpus] or ["no GPU that CUDA shows"]
    newest = f", runs CUDA up to {cuda} (by {asked})" if cuda else ", which CUDA it runs is not told"
    lines.append(f"driver {driver} (by {told}){newest}")
    hardware = pick.of_machine([(gpu["name"], gpu["compute_capability"]) for gpu in gpus], catalog)
    data = {
        "gpus": gpus, "driver": driver, "cuda": cuda or None, "source": source, "driver_source": told, "notes": notes,
    }  # fmt: skip
    return Here(gpu=hardware, driver=driver, lines=(*lines, *notes), data=data)


def _gpus(seen: Seen, catalog: Catalog) -> tuple[list[dict[str, Any]], str, list[str]]:
    """GPUs with name, compute_capability, memory (bytes), uuid, mig, mig_instances; who told; what is odd."""
    notes: list[str] = []
    if seen.gpus:
        if seen.nvml_error:
            notes.append(f"NVML did not tell all: {clean(seen.nvml_error)}; what it did not tell is left out")
        theirs = {gpu["uuid"] for gpu in seen.smi.gpus} if seen.smi else set()
        mine = {gpu["uuid"] for gpu in seen.gpus}
        if seen.smi and mine != theirs:
            notes.append(
                f"nvidia-smi lists {len(theirs)} GPUs, {len(mine & theirs)} of the {len(mine)} that NVML tells"
            )
        elif seen.smi_error:
            notes.append(f"nvidia-smi, asked as well, gave no answer: {clean(seen.smi_error)}")
        names = ("index", "name", "compute_capability", "memory", "uuid", "mig", "mig_instances")
        return [{name: gpu.get(name) for name in names} for gpu in seen.gpus], "NVML", notes
    reason = clean(seen.nvml_error) or "it knows of no GPU (are the device nodes passed on?)"
    if seen.smi is None or not seen.smi.gpus:
        also = (
            f"; nvidia-smi: {clean(seen.smi_error) or 'lists no GPU'}" if seen.smi_path else "; nvidia-smi is not there"
        )
        raise UsageError(f"--here: the driver of this machine does not answer: NVML: {reason}{also}; {_ASK}")
    out: list[dict[str, Any]] = []
    for index, gpu in enumerate(seen.smi.gpus):
        found = knowledge.capability(gpu["name"], catalog=catalog)
        if found.value is None:
            raise UsageError(f"--here: NVML does not answer ({reason}), and of nvidia-smi's {gpu['name']!r} no compute "
                             f"capability is known: {found.unknown}; {_ASK}")  # fmt: skip
        memory = gpu["memory"] << 20 if gpu["memory"] else None
        out.append({"index": index, "name": gpu["name"], "compute_capability": found.value, "memory": memory,
                    "uuid": gpu["uuid"], "mig": gpu["mig"], "mig_instances": None})  # fmt: skip
    notes.append(f"NVML does not answer: {reason}; the compute capability is the catalog's, by the name")
    return out, "nvidia-smi", notes


def _visible(text: str | None, gpus: list[dict[str, Any]], notes: list[str]) -> list[dict[str, Any]]:
    """Those that CUDA_VISIBLE_DEVICES leaves: numbers or the beginnings of UUIDs, up to the first that is none
    (https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#env-vars)."""
    if text is None:
        return gpus
    out: list[dict[str, Any]] = []
    for entry in (part.strip() for part in text.split(",")):
        fits = [gpu for gpu in gpus if _names(entry, gpu)]
        if len(fits) != 1 or fits[0] in out:
            break
        out += fits
    told = f"CUDA_VISIBLE_DEVICES={clean(text, 60)!r}"
    if any(part.strip().isdigit() for part in text.split(",")) and len({gpu["name"] for gpu in gpus}) > 1:
        notes.append(f"{told} counts as CUDA orders different cards, which only CUDA knows: all of them are taken")
        return gpus
    left = [gpu["index"] for gpu in gpus if gpu not in out]
    if left:
        notes.append(f"{told} leaves out GPU {', '.join(map(str, left))}")
    return out


def _names(entry: str, gpu: Mapping[str, Any]) -> bool:
    if entry.isdigit():
        return bool(int(entry) == gpu["index"])
    ids = [gpu["uuid"], *(part["uuid"] for part in gpu.get("mig_instances") or ())]
    return len(entry) > 4 and entry.startswith(("GPU-", "MIG-")) and any(str(one).startswith(entry) for one in ids)


def _able(gpus: list[dict[str, Any]], notes: list[str]) -> list[dict[str, Any]]:
    """A card in MIG mode computes in its instances alone. Raises UsageError where nothing is left to compute on."""
    out = []
    for gpu in gpus:
        instances: Sequence[Mapping[str, Any]] | None = gpu.get("mig_instances")
        if gpu.get("mig") and instances is not None and not instances:
            notes.append(
                f"GPU {gpu['index']} is in MIG mode without an instance, and is left out: nothing can compute on it"
            )
            continue
        out.append(gpu)
        if gpu.get("mig"):
            named = (
                ", ".join(clean(part.get("name") or "instance", 40) for part in instances or ())
                or "not told by nvidia-smi"
            )
            notes.append(f"GPU {gpu['index']} is in MIG mode (instances: {named}): taken for the whole card's kind; an instance "
                         "has less memory, and latencies of whole cards say little of it")  # fmt: skip
    if gpus and not out:
        raise UsageError(f"--here: {'; '.join(notes)}; {_ASK}")
    return out


def _driver(seen: Seen, notes: list[str]) -> tuple[str, str]:
    """The driver's version and who told it. Raises UsageError where nobody does."""
    told = {
        "NVML": str(seen.nvml.get("driver") or ""), "the kernel's module": seen.kernel,
        "nvidia-smi": seen.smi.driver if seen.smi else "",
    }  # fmt: skip
    told = {who: version for who, version in told.items() if version}
    if not told:
        raise UsageError(f"--here: nothing tells the version of this machine's driver; {_ASK}")
    if len(set(told.values())) > 1:
        notes.append(
            "they disagree on the driver: " + ", ".join(f"{who} says {version}" for who, version in told.items())
        )
    who, version = next(iter(told.items()))
    same = [other for other, its in told.items() if its == version]
    return version, " and ".join((", ".join(same[:-1]), same[-1])) if len(same) > 1 else who


def _line(gpu: Mapping[str, Any], source: str) -> str:
    memory = f", {gpu['memory'] / 2**30:.1f} GiB" if gpu.get("memory") else ""
    by = "by NVML" if source == "NVML" else "name by nvidia-smi"
    return (
        f"GPU {gpu['index']}: {clean(gpu['name'], 80)}, compute capability {gpu['compute_capability']}{memory} ({by})"
    )


def _board(seen: Seen, catalog: Catalog) -> Here:
    """A Jetson whose NVML does not tell: the board's name, of which the catalog knows the GPU."""
    name = re.sub(r"\s*(Developer Kit|Engineering Reference).*$", "", seen.jetson).removeprefix("NVIDIA ").strip()
    found = pick.hardware(name, catalog)
    if isinstance(found, str):
        raise UsageError(f"--here: this is a {seen.jetson!r}, and {found}; {_ASK}")
    capability = " or ".join(found.capabilities)
    line = (
        f"{seen.jetson}: compute capability {capability} (the board's name by the device tree, the rest by the catalog)"
    )
    gpu = {"index": 0, "name": name, "compute_capability": capability, "memory": None, "uuid": None, "mig": None}
    data = {"gpus": [gpu], "driver": None, "cuda": None, "source": "device tree", "notes": []}
    return Here(gpu=found, driver="", lines=(line, "its driver is a part of L4T, and is not asked for"), data=data)
