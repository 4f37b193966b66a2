"""Which releases take this machine's GPUs and driver, by the catalog. Pure, but for reading the catalog."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder import knowledge
from builder.answers import Answer
from builder.doctor_host import Check, clean
from builder.facts_records import CATALOG, Catalog, TensorRT, TensorRTRTX
from builder.knowledge import Runs

NAME = "releases"
LIBRARIES: Mapping[str, tuple[str, type[TensorRT] | type[TensorRTRTX]]] = {
    "tensorrt": ("TensorRT", TensorRT), "tensorrt-rtx": ("TensorRT for RTX", TensorRTRTX),
}  # fmt: skip
_TAKES: Mapping[str, Callable[..., Answer[bool]]] = {
    "tensorrt": knowledge.tensorrt_takes, "tensorrt-rtx": knowledge.tensorrt_rtx_takes, "cuda": knowledge.compiles,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Releases:
    """Minor releases of a library, oldest first."""

    fit: tuple[str, ...]
    refused: Mapping[str, str]
    """Release -> why."""
    unknown: Mapping[str, str]


def of(library: str, capability: str, driver: str, *, catalog: Catalog = CATALOG) -> Releases:
    """Those that take a GPU, and of whose packages the driver ('': not asked) runs one. Raises SpecErrors."""
    fit, refused, unknown = [], {}, {}
    for release in catalog.table(LIBRARIES[library][1]):
        gpu = _TAKES[library](release, capability, catalog=catalog)
        runs = _runs(library, release, driver, catalog) if driver else Answer(value=True)
        if gpu.value is False or runs.value is False:
            refused[release] = _why(gpu if gpu.value is False else runs)
        elif gpu.value is None or runs.value is None:
            unknown[release] = gpu.unknown if gpu.value is None else runs.unknown
        else:
            fit.append(release)
    return Releases(fit=tuple(fit), refused=refused, unknown=unknown)


def _runs(library: str, release: str, driver: str, catalog: Catalog) -> Answer[bool]:
    """Whether a driver runs the packages of a release, which are for one CUDA or several; one that runs is enough."""
    wheel = knowledge.wheel(library, release, catalog=catalog).value
    if wheel is None or not wheel.cuda:
        return Answer(value=None, unknown=f"the CUDA of {LIBRARIES[library][0]} {release} is not recorded")
    answers = [runs(driver, cuda, catalog=catalog) for cuda in wheel.cuda]
    return next((answer for value in (True, None) for answer in answers if answer.value is value), answers[0])


def runs(driver: str, cuda: str, *, catalog: Catalog = CATALOG) -> Answer[bool]:
    """Whether a driver alone, without a forward-compatibility package, runs programs of a CUDA version; of a lone major's
    first release, which minor-version compatibility stands for. Raises SpecErrors."""
    found = knowledge.driver_runs(driver, cuda if "." in cuda else f"{cuda}.0", catalog=catalog)
    value = None if found.value is None else found.value in (Runs.EXACT, Runs.MINOR)
    # The last fact of a refusal says whom the forward-compatibility package is for.
    facts = found.facts[:-1] or found.facts if value is False else found.facts
    return Answer(value=value, facts=facts, unknown=found.unknown)


def _why(answer: Answer[bool]) -> str:
    return answer.facts[-1].text if answer.facts else answer.unknown


def refusal(
    parts: Mapping[str, str], capabilities: Iterable[str], driver: str = "", *, catalog: Catalog = CATALOG
) -> str:
    """Why what holds these versions (tensorrt, tensorrt-rtx, cuda) runs on none of the GPUs, '' where that is not known.

    `driver`: '' where it is not asked, as of images with a forward-compatibility package in them. Raises SpecErrors.
    """
    capabilities = tuple(capabilities)
    for name, takes in _TAKES.items():
        version = parts.get(name, "")
        if not version or (name == "cuda" and "." not in version):
            continue
        answers = [takes(version, capability, catalog=catalog) for capability in capabilities]
        if answers and all(answer.value is False for answer in answers):
            return f"{_why(answers[0])}; here {'is' if len(answers) == 1 else 'are'} {', '.join(capabilities)}"
    if driver and parts.get("cuda"):
        found = runs(driver, parts["cuda"], catalog=catalog)
        if found.value is False:
            return f"{_why(found)}; here is {driver}"
    return ""


def capabilities(gpus: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(gpu["compute_capability"]) for gpu in gpus))


def judge(gpus: Sequence[Mapping[str, Any]], driver: str, *, catalog: Catalog = CATALOG) -> list[Check]:
    """One check over the kinds of GPU that are here; none without a GPU. Raises SpecErrors."""
    kinds = {str(gpu["compute_capability"]): clean(gpu["name"], 60) for gpu in reversed(gpus)}
    if not kinds:
        return []
    texts, data, bare = [], [], []
    for capability, name in reversed(kinds.items()):
        found = {library: of(library, capability, driver, catalog=catalog) for library in LIBRARIES}
        compiles = knowledge.toolkits(capability, catalog=catalog)
        texts.append(f"{name}, {capability}: {_text(found, compiles, catalog)}")
        if not any(each.fit or each.unknown for each in found.values()):
            bare.append(name)
        listed = {
            library: {"fit": list(each.fit), "refused": dict(each.refused), "unknown": dict(each.unknown)}
            for library, each in found.items()
        }
        toolkits = vars(compiles.value) if compiles.value is not None else None
        data.append({"name": name, "compute_capability": capability, "cuda": toolkits, **listed})
    known = knowledge.driver_cuda(driver, catalog=catalog).value if driver else None
    if known is not None:
        exact = f"{known.exact} and older" if known.exact else "no toolkit that it came with or before it"
        more = f", up to {known.minor} by minor-version compatibility" if known.minor != known.exact else ""
        texts.append(f"driver {driver} runs CUDA {exact}{more}")
    return [
        Check(
            name=NAME, state="warning" if bare else "ok", need="gpu", found="; ".join(texts),
            matters=f"no engine can be built for {', '.join(bare)}" if bare else "what engines can be built for this GPU",
            mend="use a newer GPU or, where the driver is what is too old, a newer driver" if bare else "",
            data={"driver": driver or None, "runs": vars(known) if known is not None else None, "gpus": data},
        )
    ]  # fmt: skip


def _text(found: Mapping[str, Releases], compiles: Answer[knowledge.Range], catalog: Catalog) -> str:
    if compiles.value is None:
        return compiles.unknown
    last = f" to {compiles.value.last}" if compiles.value.last else " and newer"
    parts = [f"CUDA {compiles.value.first}{last}"]
    for library, (title, cls) in LIBRARIES.items():
        order = list(catalog.table(cls))
        open_ = spans(tuple(found[library].unknown), order)
        parts.append(
            f"{title} {spans(found[library].fit, order) or 'none'}" + (f" (not recorded: {open_})" if open_ else "")
        )
    return ", ".join(parts)


def spans(keys: Sequence[str], order: Sequence[str]) -> str:
    """Runs of neighbours in a list, from the first to the last of each.

    >>> spans(["1.0", "1.1", "1.2", "1.4"], ["1.0", "1.1", "1.2", "1.3", "1.4"])
    '1.0 to 1.2, 1.4'
    """
    groups: list[list[str]] = []
    for key in (key for key in order if key in keys):
        if groups and order.index(key) == order.index(groups[-1][-1]) + 1:
            groups[-1].append(key)
        else:
            groups.append([key])
    return ", ".join(group[0] if len(group) == 1 else f"{group[0]} to {group[-1]}" for group in groups)
