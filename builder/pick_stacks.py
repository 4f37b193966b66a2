"""The stacks that `pick` chooses from: NVIDIA's images and sets of packages, as far as the catalog knows them.

An image is one stack. So is a release of a package for one CUDA version, and a release of Torch-TensorRT with the PyTorch and
TensorRT that it asks for. Nothing here says that a stack fits; builder/pick_judge.py does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from builder import versions
from builder.answers import Fact, fact, find, minor
from builder.facts import Table
from builder.facts_records import (
    Catalog,
    OnnxRuntime,
    PyTorch,
    TensorFlow,
    TensorRT,
    TensorRTRTX,
    TorchTensorRT,
)
from builder.knowledge import wheel
from builder.knowledge_software import IMAGES
from builder.pick_evidence import Key
from builder.pick_evidence import key as key_of

COMPONENTS = (
    "tensorrt", "tensorrt-rtx", "onnxruntime", "openvino", "torch", "tensorflow", "torch-tensorrt", "triton", "cuda", "cudnn",
    "ubuntu", "jetpack",
)  # fmt: skip
"""What a stack may be required to have. `python` has an option of its own."""
ALIASES = {
    "pytorch": "torch", "tf": "tensorflow", "trt": "tensorrt", "tensorrt-cu12": "tensorrt", "tensorrt-cu13": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx", "tensorrtrtx": "tensorrt-rtx", "ort": "onnxruntime", "onnxruntime-gpu": "onnxruntime",
    "tensorflow-cpu": "tensorflow", "torch_tensorrt": "torch-tensorrt", "tritonserver": "triton", "l4t": "jetpack",
}  # fmt: skip
_SHARED = ("cuda", "cudnn", "tensorrt", "python", "ubuntu")
Device = Literal["cpu", "cuda", "any"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A whole stack."""

    id: str
    """As people name it and `--explain` takes it: `pytorch:25.01-py3`, `tensorrt-10.9.0.34-cuda12`, `onnxruntime-1.17.3`."""
    group: str
    """Stacks of one group are releases of one thing."""
    order: int
    """Place in its group, oldest first."""
    device: Device
    components: Mapping[str, str]
    """Component -> version. A CUDA of one number ("12") is any of that major."""
    open: frozenset[str] = frozenset()
    """Components that it may hold, of which nothing is recorded."""
    pythons: tuple[str, ...] = ()
    """() : not recorded."""
    driver: str = ""
    """The least driver that the image's release notes name; '' for none."""
    inferred: frozenset[str] = frozenset()
    """Of components, `python` and `driver`: what was not read but follows from something else."""
    facts: tuple[Fact, ...] = ()
    """What the catalog says of its contents."""
    reference: str = ""
    """The image; '' for packages."""
    packages: tuple[str, ...] = ()
    """Requirement lines, for packages."""
    family: str = ""
    """The family of images/ that makes such a stack; '' for none."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """The family's fields that name it."""
    platforms: tuple[str, ...] = ()
    """Where it is known to be; () : not recorded."""
    also: tuple[tuple[str, Mapping[str, str]], ...] = ()
    """Stacks of families (name, fields) whose runs are runs of this one, besides `family` and `fields`."""

    @property
    def keys(self) -> tuple[Key, ...]:
        """What its runs are stored under."""
        own = ((self.family, self.fields),) if self.family else ()
        return tuple(key_of(family, fields) for family, fields in (*own, *self.also))

    @property
    def kind(self) -> Literal["image", "packages"]:
        return "image" if self.reference else "packages"


def candidates(catalog: Catalog) -> tuple[Candidate, ...]:
    """Every stack of the catalog. Raises SpecErrors."""
    return (*_images(catalog), *_packages(catalog))


def _images(catalog: Catalog) -> Iterator[Candidate]:
    for name, (table, ending) in IMAGES.items():
        yield from _table(catalog.images[table], catalog.images["ngc-tensorrt"], table, name, ending)
    for order, (key, row) in enumerate(catalog.images["l4t"].records.items()):
        repository, tag = row.facts["repository"], row.facts["tag"]
        facts = {name: value for name, value in row.facts.items() if name not in ("repository", "tag")}
        text = f"{repository}:{tag} (L4T {key}) holds {_listed(facts)}"
        yield Candidate(
            id=f"{repository}:{tag}", group="l4t", order=order, device="cuda", reference=f"nvcr.io/nvidia/{repository}:{tag}",
            components={name: value for name, value in facts.items() if name != "python"},
            pythons=(facts["python"],) if facts.get("python") else (), inferred=frozenset(row.inferred),
            facts=(_contents(text, row.sources, row.where, row.conflict, row.inferred),), family="l4t", fields={"l4t": key},
            platforms=row.platforms,
        )  # fmt: skip


def _table(table: Table, base: Table, family: str, name: str, ending: str) -> Iterator[Candidate]:
    """The images of one NGC repository. NGC's images of a month share one base (catalog/images.yaml), so that what one's own
    record leaves open is inferred from the TensorRT image of that month."""
    own = "triton" if name == "tritonserver" else name.replace("pytorch", "torch")
    for order, (key, row) in enumerate(table.records.items()):
        facts, used = dict(row.facts), _contents(f"{name}:{key}{ending} holds {_listed(row.facts)}", row.sources, row.where,
                                                 row.conflict, row.inferred)  # fmt: skip
        month, also = base.records.get(key), {}
        if month is not None and name != "tensorrt":
            also = {
                item: value for item, value in month.facts.items() if item in _SHARED and value and not facts.get(item)
            }
            facts.update(also)
        held = {item: value for item, value in facts.items() if item not in ("python", "driver") and value}
        yield Candidate(
            id=f"{name}:{key}{ending}", group=family, order=order, device="cuda",
            reference=f"nvcr.io/nvidia/{name}:{key}{ending}", components=held,
            open=frozenset({*table.names, own} - {*held, "python", "driver"}),
            pythons=(facts["python"],) if facts.get("python") else (), driver=facts.get("driver", ""),
            inferred=frozenset({*row.inferred, *also}),
            facts=(used, _contents(f"tensorrt:{key}-py3, on the same base, holds {_listed(also)}", month.sources, month.where,
                                   month.conflict, tuple(also))) if month is not None and also else (used,),
            family="" if name == "tritonserver" else family, fields={"release": key}, platforms=row.platforms,
        )  # fmt: skip


def _listed(facts: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value)


def _contents(text: str, sources: tuple[str, ...], where: object, conflict: str, inferred: tuple[str, ...]) -> Fact:
    from builder.values import Where

    assert isinstance(where, Where)
    doubt = [conflict, f"inferred: {', '.join(inferred)}" if inferred else ""]
    return Fact(text=text, sources=sources, where=where, doubt="; ".join(filter(None, doubt)))


def _packages(catalog: Catalog) -> Iterator[Candidate]:
    for project in ("onnxruntime", "openvino"):
        for order, release in enumerate(catalog.projects[project].releases):
            yield _plain(catalog, project, release, order, device="cpu")
    for order, entry in enumerate(catalog.table(OnnxRuntime).values()):
        for cuda in (entry.cuda, entry.cuda_other):
            if cuda:
                parts = {"onnxruntime": entry.key, "cuda": cuda, "cudnn": entry.cudnn}
                released = catalog.projects["onnxruntime"].releases if cuda == entry.cuda else ()  # what PyPI has
                text = f"onnxruntime-gpu {entry.key} is built for {_listed({'cuda': cuda, 'cudnn': entry.cudnn})}"
                yield Candidate(
                    id=f"onnxruntime-gpu-{entry.key}-cuda{cuda}", group="onnxruntime-gpu", order=order, device="cuda",
                    components={name: value for name, value in parts.items() if value}, pythons=entry.python,
                    facts=(fact(entry, text),), packages=(f"onnxruntime-gpu=={entry.key}.*",), platforms=("linux/amd64",),
                    inferred=frozenset(entry.inferred),
                    also=tuple(
                        ("onnxruntime-gpu", {"onnxruntime-gpu": item}) for item in released if minor(item) == entry.key
                    ),
                )  # fmt: skip
    for order, release in enumerate(catalog.projects["tensorflow"].releases):
        tensorflow = find(catalog.table(TensorFlow), minor(release))
        also = {"cuda": tensorflow.cuda, "cudnn": tensorflow.cudnn} if tensorflow is not None else {}
        used = (fact(tensorflow, f"TensorFlow {tensorflow.key} is tested with {_listed(also)}"),) if tensorflow else ()
        yield _plain(catalog, "tensorflow", release, order, device="any", also=also, used=used)
    yield from _torch(catalog)
    yield from _tensorrt(catalog)


def _plain(
    catalog: Catalog, project: str, release: str, order: int, *, device: Device, also: Mapping[str, str] | None = None,
    used: tuple[Fact, ...] = (), name: str = "", packages: tuple[str, ...] = (), fields: Mapping[str, str] | None = None,
    inferred: frozenset[str] = frozenset(), family: str | None = None, ran: tuple[tuple[str, Mapping[str, str]], ...] = (),
) -> Candidate:  # fmt: skip
    """A release of a project on PyPI, with the Pythons that it has wheels for."""
    found = wheel(project, release, catalog=catalog)
    return Candidate(
        id=name or f"{project}-{release}", group=project, order=order, device=device, inferred=inferred,
        components={project: release, **{item: value for item, value in (also or {}).items() if value}},
        pythons=found.value.python if found.value else (), facts=(*found.facts, *used),
        packages=packages or (f"{project}=={release}",),
        family=project if family is None else family, fields=fields or {project: release}, platforms=("linux/amd64",), also=ran,
    )  # fmt: skip


def _torch(catalog: Catalog) -> Iterator[Candidate]:
    releases = tuple(catalog.projects["torch"].releases)
    for order, release in enumerate(releases):
        yield _plain(catalog, "torch", release, order, device="cpu", packages=(f"torch=={release}+cpu",))
        entry = find(catalog.table(PyTorch), minor(release))
        if entry is None:
            continue
        for cuda in entry.cuda:
            local = f"cu{cuda.replace('.', '')}"
            ran = [
                {"torch": release, "compute-platform": local},
                *([{"torch": release}] if cuda == entry.index_cuda else []),
            ]
            yield _plain(
                catalog, "torch", release, order, device="cuda", also={"cuda": cuda}, family="",
                name=f"torch-{release}-cuda{cuda}", packages=(f"torch=={release}+{local}",),
                ran=tuple(("torch-cuda", fields) for fields in ran),
            )  # fmt: skip
    for order, bundle in enumerate(catalog.table(TorchTensorRT).values()):
        parts = {"torch": (bundle.torch, releases), "tensorrt": (bundle.tensorrt, _tensorrt_releases(catalog))}
        held = {name: version for name, (asked, known) in parts.items() if (version := _newest(asked, known))}
        builds = {"torch": f"+cu{bundle.cuda.replace('.', '')}"} if "." in bundle.cuda else {}  # and not the CPU's
        text = f"torch-tensorrt {bundle.key} asks for torch {bundle.torch} and tensorrt {bundle.tensorrt}"
        yield Candidate(
            id=f"torch-tensorrt-{bundle.key}", group="torch-tensorrt", order=order, device="cuda",
            components={"torch-tensorrt": bundle.key, **held, **({"cuda": bundle.cuda} if bundle.cuda else {})},
            open=frozenset(parts) - frozenset(held), pythons=bundle.python,
            facts=(fact(bundle, text + (f", built with CUDA {bundle.cuda}" if bundle.cuda else "")),),
            packages=(f"torch-tensorrt=={bundle.key}", *(f"{name}=={held[name]}{builds.get(name, '')}" for name in held)),
            platforms=("linux/amd64",), inferred=frozenset(bundle.inferred),
        )  # fmt: skip


def _newest(asked: str, known: tuple[str, ...]) -> str:
    """The newest known release that a requirement takes; a requirement that is a version stands for itself."""
    if not versions.is_range(asked):
        return asked
    return next(reversed(versions.expand(asked, known)), "")


def _tensorrt_releases(catalog: Catalog) -> tuple[str, ...]:
    return tuple(catalog.projects["tensorrt"].releases)


def _tensorrt(catalog: Catalog) -> Iterator[Candidate]:
    for order, release in enumerate(_tensorrt_releases(catalog)):
        entry = find(catalog.table(TensorRT), minor(release))
        named = (entry.majors or entry.built or entry.cuda) if entry is not None else ()
        for major in versions.ordered({item.split(".")[0] for item in named}):
            assert entry is not None
            mine = [item for item in (*entry.cuda, *entry.built) if item.split(".")[0] == major]
            cuda = versions.ordered(mine)[-1] if mine else major
            prefix = f"tensorrt-cu{major}-" if int(release.split(".")[0]) >= 10 else "tensorrt_"
            guessed = not entry.majors
            text = f"TensorRT {entry.key} is built for CUDA {', '.join(entry.built or entry.majors or entry.cuda)}"
            told = fact(entry, text)
            yield _plain(
                catalog, "tensorrt", release, order, device="cuda", also={"cuda": cuda}, name=f"tensorrt-{release}-cuda{major}",
                used=(told,), packages=tuple(f"{prefix}{part}=={release}" for part in ("libs", "bindings")),
                fields={"tensorrt": release, "cuda": major}, inferred=frozenset({"cuda"} if guessed else ()),
            )  # fmt: skip
    for order, release in enumerate(catalog.projects["tensorrt-rtx"].releases):
        rtx = find(catalog.table(TensorRTRTX), minor(release))
        for major in ("12", "13"):
            mine = [item for item in (rtx.cuda if rtx else ()) if item.split(".")[0] == major]
            used = (
                (fact(rtx, f"TensorRT for RTX {rtx.key} is built for CUDA {', '.join(rtx.cuda)}"),)
                if rtx and rtx.cuda
                else ()
            )
            yield _plain(
                catalog, "tensorrt-rtx", release, order, device="cuda", also={"cuda": mine[-1] if mine else major}, used=used,
                name=f"tensorrt-rtx-{release}-cuda{major}", inferred=frozenset(() if mine else {"cuda"}),
                packages=tuple(f"tensorrt_rtx_cu{major}_{part}=={release}" for part in ("libs", "bindings")),
                fields={"tensorrt-rtx": release, "cuda": major},
            )  # fmt: skip


__all__ = ["ALIASES", "COMPONENTS", "Candidate", "candidates"]
