"""Drivers, CUDA, GPUs: what runs what. Questions to the catalog; see builder/knowledge.py."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from builder import versions
from builder.answers import Answer, Fact, absent, fact, find, minor, number
from builder.facts_records import (
    CATALOG,
    Capability,
    Catalog,
    CompatPackage,
    CudaImage,
    Forward,
    Gpu,
    Minimum,
    MinorVersions,
    TensorRT,
    TensorRTRTX,
    Toolkit,
)


class Runs(str, Enum):
    """How a driver runs programs of a CUDA toolkit."""

    EXACT = "exact"
    """The driver is at least the toolkit's own."""
    MINOR = "minor"
    """By minor-version compatibility: no PTX of the newer toolkit, no new features of its driver."""
    FORWARD = "forward"
    """With the cuda-compat package of that toolkit in the image."""
    NO = "no"


@dataclass(frozen=True, kw_only=True)
class DriverCuda:
    """What a driver runs. `exact`: the newest toolkit whose own driver it is or follows; `minor`: the newest known toolkit
    by minor-version compatibility (the same as `exact` or newer). None if there is none."""

    exact: str | None
    minor: str | None


@dataclass(frozen=True, kw_only=True)
class Range:
    """From `first` to `last`, both included; None: no bound is known on that side."""

    first: str | None
    last: str | None


def driver_cuda(driver: str, *, catalog: Catalog = CATALOG) -> Answer[DriverCuda]:
    """The CUDA toolkits that a Linux driver runs, without the forward-compatibility package. Raises SpecErrors."""
    if versions.version(driver) is None:
        return Answer(value=None, unknown=f"{driver!r} is not a driver version")
    known = catalog.table(Toolkit)
    own = [entry for entry in known.values() if number(entry.driver) <= number(driver)]
    used = []
    exact = max(own, key=lambda entry: number(entry.key), default=None)
    if exact is not None:
        used.append(fact(exact, f"CUDA {exact.key} ships with driver {exact.driver}"))
    by_minor = exact.key if exact is not None else None
    for entry in catalog.table(MinorVersions).values():
        newest = [key for key in known if key.split(".")[0] == entry.key]
        runs = number(entry.driver) <= number(driver) and newest != []
        if runs and (by_minor is None or number(newest[-1]) >= number(by_minor)):
            by_minor = newest[-1]
            used.append(_rule(entry))
    if by_minor is None:
        return Answer(value=None, unknown=f"driver {driver} is older than every CUDA toolkit of the catalog")
    newest_driver = max(number(entry.driver) for entry in known.values())
    unknown = ""
    if number(driver).release[0] > newest_driver.release[0]:
        unknown = f"driver {driver} is newer than the catalog: it may run newer CUDA than is said here"
    return Answer(
        value=DriverCuda(exact=exact.key if exact else None, minor=by_minor), facts=tuple(used), unknown=unknown
    )


def driver_runs(driver: str, cuda: str, kind: str = "", *, catalog: Catalog = CATALOG) -> Answer[Runs]:
    """How a Linux driver runs programs of a CUDA version.

    `kind` is a GPU's kind (`datacenter`, `geforce` ...): the forward-compatibility package is for few kinds. Without it the
    answer `no` means: not without that package. Raises SpecErrors.
    """
    for text, what in ((driver, "driver version"), (cuda, "CUDA version")):
        if versions.version(text) is None:
            return Answer(value=None, unknown=f"{text!r} is not a {what}")
    minimum = catalog.table(Minimum).get(minor(cuda))
    if minimum is not None:
        needs = fact(minimum, f"CUDA {minimum.key} needs driver {minimum.driver} or newer")
        if number(driver) >= number(minimum.driver):
            return Answer(value=Runs.EXACT, facts=(needs,))
        return _forward(driver, cuda, kind, (needs,), catalog)
    known = catalog.table(Toolkit)
    toolkit = known.get(cuda) or next((entry for entry in known.values() if minor(entry.key) == minor(cuda)), None)
    rule = catalog.table(MinorVersions).get(cuda.split(".")[0])
    if toolkit is None and (rule is None or number(driver) >= number(rule.driver)):
        return Answer(value=None, facts=(_rule(rule),) if rule is not None else (), unknown=absent(known, cuda, "CUDA"))
    used: tuple[Fact, ...] = ()
    if toolkit is not None:
        used = (fact(toolkit, f"CUDA {toolkit.key} ships with driver {toolkit.driver}"),)
        if number(driver) >= number(toolkit.driver):
            return Answer(value=Runs.EXACT, facts=used)
    if rule is not None:
        used = (*used, _rule(rule))
        if number(driver) >= number(rule.driver):
            return Answer(value=Runs.MINOR, facts=used)
    return _forward(driver, cuda, kind, used, catalog)


def _rule(entry: MinorVersions) -> Fact:
    return fact(entry, f"CUDA {entry.key}.x runs on driver {entry.driver} or newer")


def _forward(driver: str, cuda: str, kind: str, used: tuple[Fact, ...], catalog: Catalog) -> Answer[Runs]:
    """Whether the cuda-compat package helps a driver that is too old."""
    for package in catalog.table(CompatPackage).values():
        kinds = ", ".join(package.kinds)
        used = (*used, fact(package, f"forward compatibility (from CUDA {package.cuda}) is for {kinds} GPUs only"))
        if kind not in package.kinds:
            return Answer(value=Runs.NO, facts=used)
    rows = [entry for entry in catalog.table(Forward).values() if entry.cuda == minor(cuda)]
    images = [entry for entry in catalog.table(CudaImage).values() if minor(entry.key) == minor(cuda)]
    if kind != "datacenter" or not (rows or images):
        reason = f"what older drivers run CUDA {minor(cuda)} with cuda-compat is not recorded"
        return Answer(value=None, facts=used, unknown=reason)
    branch = driver.split(".")[0]
    taken, doubts = [], []
    for image in images[-1:]:
        text = (
            f"the image nvidia/cuda:{image.key} starts with data center drivers of branches {', '.join(image.branches)}"
        )
        used = (*used, fact(image, text))
        taken.append(branch in image.branches)
        doubts.append(image.doubt)
    for row in rows[-1:]:
        text = f"the containers of {row.key} (CUDA {row.cuda}) take data center drivers {', '.join(row.accepted)}"
        used = (*used, fact(row, text + (f" and refuse {', '.join(row.rejected)}" if row.rejected else "")))
        least = next((item for item in row.accepted if item.split(".")[0] == branch), None)
        if not images:
            taken.append(least is not None and number(driver) >= number(least))
            doubts.append(row.doubt or (row.conflict if taken[-1] and branch in row.rejected else ""))
        elif least is not None and not row.doubt:  # the images know branches alone, the notes the least driver of one
            taken.append(number(driver) >= number(least))
    if any(doubts):
        return Answer(value=None, facts=used, unknown="; ".join(filter(None, doubts)))
    return Answer(value=Runs.FORWARD if all(taken) else Runs.NO, facts=used)


def toolkits(capability: str, *, catalog: Catalog = CATALOG) -> Answer[Range]:
    """The CUDA toolkits that compile for a compute capability; `last` None: none has dropped it. Raises SpecErrors."""
    entry = catalog.table(Capability).get(capability)
    if entry is None:
        return Answer(value=None, unknown=absent(catalog.table(Capability), capability, "compute capability"))
    until = f" to {entry.cuda_until}" if entry.cuda_until else " on"
    used = fact(entry, f"CUDA {entry.cuda_from}{until} compiles for compute capability {capability}")
    return Answer(value=Range(first=entry.cuda_from, last=entry.cuda_until or None), facts=(used,))


def compiles(cuda: str, capability: str, *, catalog: Catalog = CATALOG) -> Answer[bool]:
    """Whether a CUDA toolkit compiles for a compute capability. Raises SpecErrors."""
    known = toolkits(capability, catalog=catalog)
    if known.value is None:
        return Answer(value=None, unknown=known.unknown)
    if versions.version(cuda) is None:
        return Answer(value=None, unknown=f"{cuda!r} is not a CUDA version")
    asked, least, most = number(minor(cuda)), known.value.first, known.value.last
    if (least is not None and asked < number(least)) or (most is not None and asked > number(most)):
        return Answer(value=False, facts=known.facts)
    if asked > number(minor(versions.ordered(catalog.table(Toolkit))[-1])):
        return Answer(value=None, facts=known.facts, unknown=absent(catalog.table(Toolkit), cuda, "CUDA"))
    return Answer(value=True, facts=known.facts)


def precision(capability: str, name: str, *, catalog: Catalog = CATALOG) -> Answer[bool]:
    """Whether a precision has a fast path on a compute capability; fp32 always has one. Raises SpecErrors."""
    entry = catalog.table(Capability).get(capability)
    if entry is None:
        return Answer(value=None, unknown=absent(catalog.table(Capability), capability, "compute capability"))
    text = f"compute capability {capability} is fast in {', '.join(('fp32', *entry.fast))}"
    used = (fact(entry, text + (f"; it has no {', '.join(entry.absent)}" if entry.absent else "")),)
    if name == "fp32" or name in entry.fast:
        return Answer(value=True, facts=used)
    if name in entry.absent:
        return Answer(value=False, facts=used)
    return Answer(value=None, facts=used, unknown=f"{name} on compute capability {capability} is not recorded")


def tensorrt_takes(tensorrt: str, capability: str, *, catalog: Catalog = CATALOG) -> Answer[bool]:
    """Whether a TensorRT release has kernels for a compute capability. Raises SpecErrors."""
    table = catalog.table(TensorRT)
    entry = find(table, minor(tensorrt))
    if entry is None:
        return Answer(value=None, unknown=absent(table, minor(tensorrt), "TensorRT"))
    if versions.version(capability) is None:
        return Answer(value=None, unknown=f"{capability!r} is not a compute capability")
    span = f"from {entry.capability_from} to {entry.capability_until or 'one that is not recorded'}"
    also = f" and {', '.join(entry.also)}" if entry.also else ""
    used = (fact(entry, f"TensorRT {entry.key} takes compute capabilities {span}{also}"),)
    asked = number(capability)
    if capability in entry.also:
        return Answer(value=True, facts=used)
    if asked < number(entry.capability_from):
        return Answer(value=False, facts=used)
    if entry.capability_until and asked <= number(entry.capability_until):
        return Answer(value=True, facts=used)
    least = catalog.table(Capability).get(capability)
    newest = versions.ordered([*entry.cuda, *entry.built])[-1:]
    if least is not None and newest and number(least.cuda_from) > number(newest[0]):
        text = f"compute capability {capability} starts with CUDA {least.cuda_from}; TensorRT {entry.key} ends at {newest[0]}"
        return Answer(value=False, facts=(*used, fact(least, text)))
    return Answer(value=None, facts=used, unknown=f"whether TensorRT {entry.key} takes {capability} is not recorded")


def tensorrt_releases(capability: str, *, catalog: Catalog = CATALOG) -> Answer[tuple[str, ...]]:
    """The TensorRT minor releases known to take a compute capability, oldest first; those of which it is not recorded are
    left out, and `unknown` names them. Raises SpecErrors."""
    if capability not in catalog.table(Capability):
        return Answer(value=None, unknown=absent(catalog.table(Capability), capability, "compute capability"))
    answers = {key: tensorrt_takes(key, capability, catalog=catalog) for key in catalog.table(TensorRT)}
    taken = tuple(key for key, answer in answers.items() if answer.value)
    open_ = [key for key, answer in answers.items() if answer.value is None]
    ends = [taken[0], taken[-1]] if taken else list(answers)[-1:]
    used = tuple(found for key in dict.fromkeys(ends) for found in answers[key].facts)
    return Answer(value=taken, facts=used, unknown=f"not recorded for TensorRT {', '.join(open_)}" if open_ else "")


def tensorrt_rtx_takes(release: str, capability: str, *, catalog: Catalog = CATALOG) -> Answer[bool]:
    """Whether a release of TensorRT for RTX takes a compute capability. Above its least one, a capability that its support
    matrix does not name is unknown. Raises SpecErrors."""
    table = catalog.table(TensorRTRTX)
    entry = find(table, minor(release))
    if entry is None:
        return Answer(value=None, unknown=absent(table, minor(release), "TensorRT for RTX"))
    if not entry.capabilities or versions.version(capability) is None:
        reason = f"whether TensorRT for RTX {entry.key} takes {capability} is not recorded"
        return Answer(value=None, unknown=reason)
    used = (fact(entry, f"TensorRT for RTX {entry.key} takes compute capabilities {', '.join(entry.capabilities)}"),)
    if capability in entry.capabilities:
        return Answer(value=True, facts=used)
    if number(capability) < min(map(number, entry.capabilities)):
        return Answer(value=False, facts=used)
    return Answer(value=None, facts=used, unknown=f"TensorRT for RTX {entry.key} does not name {capability}")


_NOISE = frozenset(
    ["nvidia", "geforce", "tesla", "gpu", "graphics", "card", "generation", "edition", "pcie", "nvl", "sxm", "sxm2", "sxm3",
     "sxm4", "sxm5", "sxm6", "hbm2", "hbm2e", "hbm3", "hbm3e"]
)  # fmt: skip
"""Words of a GPU's name that say the maker, the line or the board: the same chip with and without them."""


def gpu(name: str, *, catalog: Catalog = CATALOG) -> Answer[tuple[Gpu, ...]]:
    """The GPUs that a name may mean, as `nvidia-smi` prints it or as people say it; more than one when it is ambiguous.

    "RTX 4090", "NVIDIA GeForce RTX 4090" and "rtx4090" are one GPU; "A100" is each of its variants. A name that has a word
    more than any known one (`Laptop`, `MIG 1g.5gb`) is another device: unknown. Raises SpecErrors.
    """
    words, sizes = _words(name)
    exact, loose = [], []
    for entry in catalog.table(Gpu).values():
        ways = [_words(known) for known in (entry.name, *entry.alias)]
        fitting = [theirs for theirs, memory in ways if sizes <= (memory or {f"{size}gb" for size in entry.memory})]
        if words in fitting:
            exact.append(entry)
        elif words and any(words < theirs for theirs in fitting):
            loose.append(entry)
    found = tuple(exact or loose)
    if not found:
        hint = versions.nearest(name, [entry.name for entry in catalog.table(Gpu).values()])
        return Answer(value=None, unknown=f"the catalog does not have the GPU {name!r}" + (f"; {hint}" if hint else ""))
    used = []
    for entry in found:
        memory = f", {' or '.join(entry.memory)} GiB" if entry.memory else ""
        used.append(fact(entry, f"{entry.name}: {entry.kind}, compute capability {entry.capability}{memory}"))
    return Answer(value=found, facts=tuple(used))


@lru_cache(maxsize=4096)
def _words(name: str) -> tuple[frozenset[str], frozenset[str]]:
    """The words that tell a GPU, and the amounts of memory among them (`80gb`)."""
    text = re.sub(r"\b(rtx|gtx)(?=\d)", r"\1 ", name.lower())
    text = re.sub(r"(?<=\d{4})(ti|super)\b", r" \1", text)
    text = re.sub(r"(\d) ?gi?b\b", r"\1gb", text)
    words = frozenset(re.findall(r"[a-z0-9]+", text)) - _NOISE
    sizes = frozenset(word for word in words if re.fullmatch(r"\d+gb", word))
    return words - sizes, sizes


def capability(name: str, *, catalog: Catalog = CATALOG) -> Answer[str]:
    """The compute capability of a GPU by name; unknown when the name is ambiguous between several. Raises SpecErrors."""
    found = gpu(name, catalog=catalog)
    if found.value is None:
        return Answer(value=None, unknown=found.unknown)
    several = versions.ordered({entry.capability for entry in found.value})
    if len(several) > 1:
        return Answer(
            value=None, facts=found.facts, unknown=f"{name!r} may have compute capability {' or '.join(several)}"
        )
    return Answer(value=several[0], facts=found.facts)
